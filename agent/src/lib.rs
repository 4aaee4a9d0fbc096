//! The voice agent: PCM in, PCM out.
//!
//! Nothing here knows SIP, RTP or a sound card. A conversation runs on a [`line::Line`], which hands over what the
//! caller says in frames of at most 20 ms and takes what the agent says; a phone call, a WAV file and a microphone are
//! all lines.
//!
//! ```text
//! line ──frames──► turn machine (who has the floor) ──► ear (recogniser) ──► brain ──► voice ──► line
//! ```
//!
//! * [`session`] is one conversation: it owns a line's ear, turn machine, brain and voice and runs them ahead of time.
//! * [`turn`] decides, without I/O and in virtual time, who has the floor.
//! * [`ear`], [`brain`] and [`voice`] each hold one trait and its providers; [`registry`] knows their names.
//! * [`echo`] takes the agent's own voice, come back, out of what is heard.
//! * [`definition`] is an agent as TOML; [`definition::AgentDefinition::front_desk`] is built in.

pub mod brain;
pub mod briefing;
pub mod definition;
pub mod ear;
pub mod echo;
pub mod grammar;
pub mod history;
pub mod line;
pub mod models;
pub mod noise;
pub mod registry;
pub mod session;
pub mod tool;
pub mod traced;
pub mod turn;
pub mod usage;
pub mod voice;
