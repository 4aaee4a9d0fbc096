//! The INVITE client transaction: RFC 3261 section 17.1.1, figure 5, as corrected by RFC 6026 section 7.2.

use super::{Action, Input, Span, State, Step, Timer, step};

/// The table.
pub fn table(state: State, input: Input, reliable: bool) -> Option<Step> {
    use Action::{Arm, Disarm, Forget, PassUp, Resend, Send, SendAck, TimedOut, Unreachable};
    use State::{Accepted, Calling, Completed, Proceeding, Terminated};
    match (state, input) {
        // 17.1.1.2: timer A runs over unreliable transports only.
        (Calling, Input::Start) if reliable => step(Calling, &[Send, Arm(Timer::B, Span::T1Times64)]),
        (Calling, Input::Start) => step(Calling, &[Send, Arm(Timer::A, Span::T1), Arm(Timer::B, Span::T1Times64)]),
        // 17.1.1.2: A doubles without a cap; B ends it.
        (Calling, Input::Fired(Timer::A)) => step(Calling, &[Resend, Arm(Timer::A, Span::Doubled)]),
        (Calling, Input::Fired(Timer::B)) => step(Terminated, &[TimedOut]),
        (Calling, Input::Unreachable) => step(Terminated, &[Unreachable]),

        // 17.1.1.2: a provisional response stops retransmission, and there is no timeout from here on.
        (Calling, Input::Provisional) => step(Proceeding, &[Disarm(Timer::A), Disarm(Timer::B), PassUp]),
        (Proceeding, Input::Provisional) => step(Proceeding, &[PassUp]),

        // RFC 6026 7.2: a 2xx leads to Accepted, where repeats and other forks' 2xx go to the user, who acknowledges.
        (Calling | Proceeding, Input::Success) => {
            step(Accepted, &[Disarm(Timer::A), Disarm(Timer::B), Forget, Arm(Timer::M, Span::T1Times64), PassUp])
        }
        (Accepted, Input::Success) => step(Accepted, &[PassUp]),
        (Accepted, Input::Fired(Timer::M)) => step(Terminated, &[]),

        // 17.1.1.2: a failure is acknowledged here; timer D is zero over reliable transports.
        (Calling | Proceeding, Input::Failure) if reliable => step(Terminated, &[SendAck, PassUp]),
        (Calling | Proceeding, Input::Failure) => {
            step(Completed, &[Disarm(Timer::A), Disarm(Timer::B), SendAck, Arm(Timer::D, Span::D), PassUp])
        }
        (Completed, Input::Failure) => step(Completed, &[SendAck]),
        (Completed, Input::Fired(Timer::D)) => step(Terminated, &[]),
        // 17.1.1.2: the ACK could not be sent.
        (Completed, Input::Unreachable) => step(Terminated, &[Unreachable]),
        _ => None,
    }
}
