//! How a call ended: a class that says whose doing it was, and a reason. Decided once, where the fault
//! arose; the record, the metric and the log line all carry the same pair.

use serde::{Deserialize, Serialize};

/// Whose doing the end was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndClass {
    /// The conversation came to its end.
    Ok,
    /// The caller did something that cannot be served, or vanished.
    CallerFault,
    /// A provider or peer behind us failed.
    UpstreamFault,
    /// We failed.
    OurFault,
    /// It cannot be told.
    Unknown,
}

impl EndClass {
    /// The class as it stands in records, metrics and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::CallerFault => "caller_fault",
            Self::UpstreamFault => "upstream_fault",
            Self::OurFault => "our_fault",
            Self::Unknown => "unknown",
        }
    }
}

/// Why a call ended: one word of a closed list, so that it can be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// The caller hung up.
    CallerHungUp,
    /// The far side of a call that we placed hung up.
    FarSideHungUp,
    /// The agent, the script or the built-in number hung up.
    AgentHungUp,
    /// The caller gave up before an answer.
    CallerCancelled,
    /// The caller was sent on to somebody else.
    Transferred,
    /// The agent asked for a transfer that could not be made.
    TransferFailed,
    /// Nobody answered.
    NoAnswer,
    /// Nobody could be reached: no address, no connection, no response.
    Unreachable,
    /// The number is not one of ours.
    UnknownNumber,
    /// The caller's address is not allowed.
    NotAllowed,
    /// No codec in common, or a session description we cannot use.
    NotAcceptable,
    /// As many calls as are allowed run already.
    TooManyCalls,
    /// No media port was free.
    NoMediaPort,
    /// The answer was never acknowledged.
    NoAck,
    /// No media came for `rtp.timeout_s`, or the peer, once connected, could be reached no more (ICE).
    MediaTimeout,
    /// The peer stopped answering, or the connection broke.
    PeerLost,
    /// `calls.max_duration_s` was reached.
    MaxDuration,
    /// The server is stopping.
    ShuttingDown,
    /// The server was killed, or its machine lost power, while the call went on.
    ServerKilled,
    /// The agent is not defined or cannot start.
    AgentUnavailable,
    /// A recogniser, language model or voice failed and the conversation could not go on.
    ProviderFailed,
    /// The far side refused the call.
    Refused,
    /// The far side is busy.
    Busy,
    /// Ended by command.
    Commanded,
    /// A fault inside.
    Internal,
}

impl EndReason {
    /// Every reason.
    pub const ALL: [Self; 25] = [
        Self::CallerHungUp,
        Self::FarSideHungUp,
        Self::AgentHungUp,
        Self::CallerCancelled,
        Self::Transferred,
        Self::TransferFailed,
        Self::NoAnswer,
        Self::Unreachable,
        Self::UnknownNumber,
        Self::NotAllowed,
        Self::NotAcceptable,
        Self::TooManyCalls,
        Self::NoMediaPort,
        Self::NoAck,
        Self::MediaTimeout,
        Self::PeerLost,
        Self::MaxDuration,
        Self::ShuttingDown,
        Self::ServerKilled,
        Self::AgentUnavailable,
        Self::ProviderFailed,
        Self::Refused,
        Self::Busy,
        Self::Commanded,
        Self::Internal,
    ];

    /// The reason as it stands in records, metrics and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CallerHungUp => "caller_hung_up",
            Self::FarSideHungUp => "far_side_hung_up",
            Self::AgentHungUp => "agent_hung_up",
            Self::CallerCancelled => "caller_cancelled",
            Self::Transferred => "transferred",
            Self::TransferFailed => "transfer_failed",
            Self::NoAnswer => "no_answer",
            Self::Unreachable => "unreachable",
            Self::UnknownNumber => "unknown_number",
            Self::NotAllowed => "not_allowed",
            Self::NotAcceptable => "not_acceptable",
            Self::TooManyCalls => "too_many_calls",
            Self::NoMediaPort => "no_media_port",
            Self::NoAck => "no_ack",
            Self::MediaTimeout => "media_timeout",
            Self::PeerLost => "peer_lost",
            Self::MaxDuration => "max_duration",
            Self::ShuttingDown => "shutting_down",
            Self::ServerKilled => "server_killed",
            Self::AgentUnavailable => "agent_unavailable",
            Self::ProviderFailed => "provider_failed",
            Self::Refused => "refused",
            Self::Busy => "busy",
            Self::Commanded => "commanded",
            Self::Internal => "internal",
        }
    }

    /// Whose doing this reason is.
    #[must_use]
    pub fn class(self) -> EndClass {
        match self {
            Self::CallerHungUp
            | Self::FarSideHungUp
            | Self::AgentHungUp
            | Self::CallerCancelled
            | Self::Transferred
            | Self::Commanded => EndClass::Ok,
            Self::UnknownNumber
            | Self::NotAllowed
            | Self::NotAcceptable
            | Self::NoAck
            | Self::MediaTimeout
            | Self::PeerLost => EndClass::CallerFault,
            Self::ProviderFailed
            | Self::TransferFailed
            | Self::NoAnswer
            | Self::Unreachable
            | Self::Refused
            | Self::Busy => EndClass::UpstreamFault,
            Self::TooManyCalls
            | Self::NoMediaPort
            | Self::MaxDuration
            | Self::ShuttingDown
            | Self::ServerKilled
            | Self::AgentUnavailable
            | Self::Internal => EndClass::OurFault,
        }
    }
}

/// The end of one call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Whose doing it was.
    pub class: EndClass,
    /// Why.
    pub reason: EndReason,
    /// What else is known: a status code, a provider's words. Empty where nothing is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

impl End {
    /// An end for this reason, of the reason's own class.
    #[must_use]
    pub fn new(reason: EndReason) -> Self {
        Self { class: reason.class(), reason, detail: String::new() }
    }

    /// The same with more about it.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    /// The same on the side of whoever was called: what is a caller's fault is not one of theirs.
    #[must_use]
    pub fn on_far_side(mut self) -> Self {
        if self.class == EndClass::CallerFault {
            self.class = EndClass::UpstreamFault;
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interface_knows_every_reason() {
        assert_eq!(EndReason::ALL.map(EndReason::as_str), control::api::records::REASONS);
    }
}
