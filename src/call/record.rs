//! The call record: one line of JSON per ended call in `data.dir/calls.jsonl`.

use std::path::PathBuf;
use std::time::SystemTime;

use agent::usage::Usage;
use serde::{Deserialize, Serialize};

use super::cost::{CostRecord, TrunkLeg};
use super::end::End;
use super::quality::QualityRecord;
use crate::routing::history::Diverted;
use crate::stir::Verdict;

mod appended;
mod progress;
mod sink;

pub use sink::{JOURNAL, PENDING_RECORDS_LIMIT, RecordSink};

/// Which way the call went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallDirection {
    /// Somebody called us.
    Inbound,
    /// We called somebody.
    Outbound,
}

impl CallDirection {
    /// The direction as it stands in records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

/// Everything worth keeping of one ended call. Times are RFC 3339 in UTC, durations in ms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CallRecord {
    /// The call's id, the same in every log line.
    pub call: String,
    /// The SIP Call-ID.
    pub sip_call_id: String,
    /// Which way it went.
    pub direction: CallDirection,
    /// When the INVITE came or went.
    pub started_at: String,
    /// When it was answered.
    pub answered_at: Option<String>,
    /// When it was over.
    pub ended_at: String,
    /// From answer to end; 0 for a call never answered.
    pub duration_ms: u64,
    /// The From URI.
    pub from: String,
    /// The request URI.
    pub to: String,
    /// The signalling peer.
    pub peer: String,
    /// `udp`, `tcp`, `tls`, `ws`, `wss` or `whip`.
    pub transport: String,
    /// What answered: an agent's name, `echo`, `ring`, `bye`.
    pub target: String,
    /// The device that called us.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The trunk that the call came by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trunk: Option<String>,
    /// Who sent the call on before it came here, the first of them first (History-Info, Diversion).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diverted: Vec<Diverted>,
    /// What is known of the caller by signature (STIR/SHAKEN), where it was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Verdict>,
    /// The codec of the sound, empty where there was none.
    pub codec: String,
    /// What protected the sound: `none`, `sdes` or `dtls`; empty where there was none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub srtp: String,
    /// How it ended.
    pub end: End,
    /// The parts of the conversation, where an agent answered; of several the turns of all, and the parts of the last.
    pub agent: Option<AgentRecord>,
    /// The conversations with agents, in order: several where one handed the caller over to another.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conversations: Vec<ConversationRecord>,
    /// Packet figures, where there was media.
    pub media: Option<MediaRecord>,
    /// Stereo: caller left, agent right, or whoever was called; in a conference by [`LegRecord::recorded`], where whoever came first is left.
    pub recording: Option<PathBuf>,
    /// Everybody who was called for this call, in order; the fields above speak of the caller.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub legs: Vec<LegRecord>,
    /// How each leg sounded over time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quality: Vec<QualityRecord>,
    /// What was said by tones: `ringing`, `busy`, `congestion`, `special_information`, `fax_calling`, `fax_answering`, `beep`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tones: Vec<ToneRecord>,
    /// What it used of providers and trunks, and what that cost by the prices in force when it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<CostRecord>,
    /// The queues that the caller waited in, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub queues: Vec<QueueRecord>,
    /// Who spoke for how long, in a conference.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spoke: Vec<SpokeRecord>,
    /// Why the caller, or whoever answered a call that we placed, ended or refused it, in their own words (Reason, RFC 3326); mostly empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reasons: String,
}

/// What is known of a call that goes on.
#[derive(Debug, Clone, PartialEq)]
pub struct SoFar {
    /// Its record, as far as it has come, its turns apart.
    pub record: CallRecord,
    /// Its legs by trunks.
    pub by_trunks: Vec<TrunkLeg>,
}

/// A caller's wait in a queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueRecord {
    /// The queue.
    pub queue: String,
    /// When the wait began.
    pub joined_at: String,
    /// For how long, in ms.
    pub waited_ms: u64,
    /// How it ended.
    pub outcome: QueueOutcome,
    /// Whoever took the call, as [`LegRecord::label`] has them; empty where nobody did.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub answered_by: String,
}

/// How a wait in a queue ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QueueOutcome {
    /// It goes on.
    Waiting,
    /// Somebody took the call.
    Answered,
    /// The caller hung up.
    Abandoned,
    /// It was as long as it may be.
    TimedOut,
    /// As many waited already as may.
    Full,
    /// None of the queue's people was there.
    Deserted,
    /// The caller pressed the key for it.
    Left,
    /// Somebody else passed the caller on.
    PassedOn,
    /// The call was ended: by a command, the longest time that calls may last, or a fault.
    Ended,
}

impl QueueOutcome {
    /// As it stands in records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Answered => "answered",
            Self::Abandoned => "abandoned",
            Self::TimedOut => "timed_out",
            Self::Full => "full",
            Self::Deserted => "deserted",
            Self::Left => "left",
            Self::PassedOn => "passed_on",
            Self::Ended => "ended",
        }
    }
}

/// How much somebody spoke in a conference.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SpokeRecord {
    /// The leg's number within the call.
    pub leg: u16,
    /// For how long, pauses of half a second left out.
    pub spoke_ms: u64,
    /// How often they began to.
    pub times: u32,
}

/// A tone that a leg's peer sent.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ToneRecord {
    /// The leg's number within the call.
    pub leg: u16,
    /// When it was certain.
    pub at: String,
    /// Which.
    pub tone: String,
}

/// Somebody who was called.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct LegRecord {
    /// The leg's number within the call.
    pub leg: u16,
    /// Which trunk or device: `trunk carrier-a`, `device alice/2`.
    pub label: String,
    /// The SIP Call-ID; empty where no INVITE was sent.
    #[serde(default)]
    pub sip_call_id: String,
    /// The request URI.
    pub uri: String,
    /// The signalling peer; empty where none was found.
    pub peer: String,
    /// `udp`, `tcp`, `tls`, `ws` or `wss`.
    pub transport: String,
    /// When it was called; not of a leg that came from another call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// When it was answered; never, where somebody else was or nobody.
    pub answered_at: Option<String>,
    /// Why it was not, of somebody who was called: `refused 486`, `no_answer`, `unreachable`, `cancelled`; empty where it was.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub result: String,
    /// Why it ended or refused, in its own words (Reason, RFC 3326): a carrier's `Q.850;cause=1`; mostly empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reasons: String,
    /// When it was over, or went to another call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
    /// The codec of the sound, empty where there was none.
    pub codec: String,
    /// What protected the sound: `none`, `sdes` or `dtls`; empty where there was none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub srtp: String,
    /// Its side in the recording, where it was in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorded: Option<RecordedSide>,
    /// Packet figures, where there was media.
    pub media: Option<MediaRecord>,
}

/// A side of a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordedSide {
    /// The left channel.
    Left,
    /// The right one.
    Right,
}

impl From<media::Side> for RecordedSide {
    fn from(side: media::Side) -> Self {
        match side {
            media::Side::Left => Self::Left,
            media::Side::Right => Self::Right,
        }
    }
}

/// A conversation with an agent, from where it got the caller to where they were somebody else's or gone.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ConversationRecord {
    /// From 0; its turns name it so.
    pub conversation: u32,
    /// The agent.
    pub agent: String,
    /// The version of it that was published, of one that is kept in the database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<i64>,
    /// The recogniser used.
    pub recognizer: String,
    /// The brain used.
    pub brain: String,
    /// The voice used.
    pub voice: String,
    /// When it began.
    pub began_at: String,
    /// When it was over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<ConversationOutcome>,
    /// How many turns it has, both sides' together.
    pub turns: u32,
    /// What it used of those who are paid by use.
    #[serde(default, skip_serializing_if = "Usage::is_empty")]
    pub usage: Usage,
}

/// How a conversation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConversationOutcome {
    /// The caller went to somebody else: a person, a place, another agent.
    Transferred,
    /// The agent hung up.
    HungUp,
    /// A provider failed.
    Failed,
    /// The call was over: the caller hung up, for one.
    CallEnded,
}

/// What the agent did.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct AgentRecord {
    /// The recogniser used.
    pub recognizer: String,
    /// The brain used.
    pub brain: String,
    /// The voice used.
    pub voice: String,
    /// Each turn in order.
    pub turns: Vec<agent::session::TurnRecord>,
    /// Providers that failed, and how.
    pub failures: Vec<String>,
}

/// Packets and quality of one leg.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct MediaRecord {
    /// RTP packets taken.
    pub packets_in: u64,
    /// RTP packets sent.
    pub packets_out: u64,
    /// Payload bytes taken.
    pub bytes_in: u64,
    /// Payload bytes sent.
    pub bytes_out: u64,
    /// Of those sent, packets of the other leg's peer passed on as they came.
    #[serde(default)]
    pub relayed: u64,
    /// Packets that never came.
    pub lost: u64,
    /// Packets that came too late to be used.
    pub late: u64,
    /// Packets that came twice.
    pub duplicates: u64,
    /// Packets that came out of order.
    pub reordered: u64,
    /// Packets from somebody else than the peer.
    pub foreign: u64,
    /// Packets that were not under the keys that were agreed on, or came before (SRTP).
    #[serde(default)]
    pub bad_tags: u64,
    /// Interarrival jitter (RFC 3550 A.8).
    pub jitter_ms: f64,
    /// Round trip by RTCP, where known.
    pub rtt_ms: Option<f64>,
    /// Mean opinion score of what was heard of the peer, 1 to 4.5, by the E-model (ITU-T G.107), where enough came to tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mos_in: Option<f64>,
    /// The same of what the peer heard: by its own reports (RFC 3611) or else by its losses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mos_out: Option<f64>,
    /// Frames dropped at full rings.
    pub ring_drops: u64,
}

/// The time as records carry it.
#[must_use]
pub fn timestamp(at: SystemTime) -> String {
    humantime::format_rfc3339_millis(at).to_string()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
impl CallRecord {
    /// The record of a call that nothing happened in.
    pub(crate) fn example(call: &str) -> Self {
        serde_json::from_value(serde_json::json!({
            "call": call, "sip_call_id": "", "direction": CallDirection::Inbound, "started_at": "2026-01-01T00:00:00.000Z",
            "answered_at": "2026-01-01T00:00:01.000Z", "ended_at": "", "duration_ms": 0, "from": "sip:a@b", "to": "sip:c@d",
            "peer": "", "transport": "udp", "target": "agent", "codec": "", "end": End::new(super::end::EndReason::Internal),
            "agent": null, "media": null, "recording": null
        }))
        .unwrap()
    }
}
