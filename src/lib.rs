//! Omnivox answers and places phone calls and talks with people.
//!
//! This package joins the five parts (see ARCHITECTURE.md): configuration, start and stop, and the call. [`Server`] is
//! the way in for programs that embed it, [`softphone`] for those that place calls.

mod accounts;
pub mod agents;
pub mod backup;
mod beside;
pub mod call;
pub mod check;
pub mod config;
mod dispatch;
mod guard;
pub mod http;
pub mod hub;
mod ice;
mod live;
pub mod load;
mod messages;
pub mod models;
pub mod output;
mod plane;
pub mod private;
mod public;
mod queues;
mod random;
pub mod readiness;
pub mod recording;
pub mod report;
pub mod routing;
pub mod say;
pub mod serve;
pub mod server;
pub mod softphone;
pub mod stir;
pub mod talk;
pub mod telemetry;
pub mod trace;
mod trunks;
pub mod user;
mod watchers;
pub mod wav;
pub mod web;

pub use codecs::SampleRate;
pub use config::Config;
pub use server::{Server, ServerBuilder};
