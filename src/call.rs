//! One call, as data. Each phase of a call is a pure reducer: state and input in, next state and actions out
//! ([`inbound`], [`talking`], [`ending`]; [`outbound`] for calls we place). [`driver`] runs their actions.
//!
//! ```text
//! INVITE ─► admit ─► Ringing ─► Answering ─► Talking ─► Ending ─► Over(End)
//! ```

pub mod app;
pub mod dial;
pub mod driver;
pub mod end;
pub mod ending;
pub mod inbound;
pub mod line;
pub mod log;
pub mod outbound;
pub mod record;
pub mod route;
pub mod sound;
pub mod talking;

use std::time::Duration;

use end::End;

/// Where a call stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// The far side hears ringing.
    Ringing,
    /// The answer is sent and not yet acknowledged.
    Answering,
    /// The call is up.
    Talking,
    /// BYE, CANCEL or a refusal is on its way; what the end will be is settled.
    Ending(End),
    /// Nothing follows.
    Over(End),
}

/// What happens to a call.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// The far side answers (calls we placed).
    Answered,
    /// The far side rings (calls we placed).
    Progress,
    /// Our answer was acknowledged.
    Acked,
    /// The dialog is over.
    SignallingEnded(SignallingEnd),
    /// A key came by SIP INFO.
    InfoDigit(char),
    /// Nothing came from the peer for the configured time.
    MediaTimedOut,
    /// The media engine is gone.
    MediaGone,
    /// The media of the call cannot be set up.
    MediaFailed(String),
    /// The conversation is over.
    ConversationEnded(ConversationEnd),
    /// A timer fired.
    Fired(Timer),
    /// Somebody with the right to it ends the call.
    Commanded(Command),
}

/// How a dialog came to its end, as far as a call cares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignallingEnd {
    /// We said BYE and it was taken.
    Local,
    /// The peer said BYE.
    Remote,
    /// The caller gave up before the answer.
    Cancelled,
    /// Nobody answers, or no ACK came.
    TimedOut,
    /// The answer was never acknowledged.
    NoAck,
    /// The far side refused (calls we placed).
    Rejected {
        /// SIP status.
        code: u16,
        /// Its words.
        reason: String,
    },
    /// The connection broke.
    TransportFailed(String),
}

/// How a conversation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConversationEnd {
    /// The agent is done.
    Done(String),
    /// The agent wants the caller connected with this address.
    Transfer(String),
    /// The line closed under it.
    LineClosed,
    /// A provider failed and nothing could stand in.
    Failed {
        /// What failed.
        what: String,
        /// Whether a server we ask is at fault, or we are.
        upstream: bool,
    },
}

/// What somebody may ask of a running call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// End it.
    HangUp,
    /// The server stops: end it.
    ShutDown,
}

/// The timers of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Timer {
    /// `sip:bye@` hangs up.
    Bye,
    /// The call has run as long as a call may.
    MaxDuration,
    /// The far side of a call we placed has not answered.
    NoAnswer,
    /// Signalling has not confirmed the end.
    EndUnconfirmed,
}

/// What a reducer wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send 180.
    Ring,
    /// Send the answer and open the leg.
    Answer,
    /// Refuse with this status.
    Reject {
        /// SIP status.
        code: u16,
    },
    /// The conversation may begin.
    StartConversation,
    /// Set a timer.
    Arm(Timer, Duration),
    /// Hand a key to the line.
    DeliverDigit(char),
    /// Send BYE (or CANCEL, where the call is not up).
    HangUp,
    /// Close the leg.
    CloseMedia,
}

/// Notes a command that signalling did not take: it is stopping, or its queue is full.
pub(crate) fn note_refused(result: Result<(), sip::io::HandleError>) {
    if let Err(fault) = result {
        tracing::error!("signalling took no command: {fault}");
    }
}

/// What a reducer answers.
pub type Step = (Phase, Vec<Action>);

/// `sip:bye@` hangs up after this long.
pub const BYE_AFTER: Duration = Duration::from_secs(2);
/// Signalling that does not confirm a BYE for this long is given up: RFC 3261's timer F plus some.
pub const END_CONFIRMED_WITHIN: Duration = Duration::from_secs(35);
