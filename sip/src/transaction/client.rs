//! The client transaction for requests other than INVITE: RFC 3261 section 17.1.2, figure 6.

use super::{Action, Input, Span, State, Step, Timer, step};

/// The table.
pub fn table(state: State, input: Input, reliable: bool) -> Option<Step> {
    use Action::{Arm, Disarm, PassUp, Resend, Send, TimedOut, Unreachable};
    use State::{Completed, Proceeding, Terminated, Trying};
    match (state, input) {
        (Trying, Input::Start) if reliable => step(Trying, &[Send, Arm(Timer::F, Span::T1Times64)]),
        (Trying, Input::Start) => step(Trying, &[Send, Arm(Timer::E, Span::T1), Arm(Timer::F, Span::T1Times64)]),
        // 17.1.2.2: E doubles up to T2; in Proceeding it stays at T2.
        (Trying, Input::Fired(Timer::E)) => step(Trying, &[Resend, Arm(Timer::E, Span::DoubledToT2)]),
        (Proceeding, Input::Fired(Timer::E)) => step(Proceeding, &[Resend, Arm(Timer::E, Span::T2)]),
        (Trying | Proceeding, Input::Fired(Timer::F)) => step(Terminated, &[TimedOut]),
        (Trying | Proceeding, Input::Unreachable) => step(Terminated, &[Unreachable]),

        // 17.1.2.2: unlike INVITE, a provisional response stops neither retransmission nor the timeout.
        (Trying | Proceeding, Input::Provisional) => step(Proceeding, &[PassUp]),

        // 17.1.2.2: timer K is zero over reliable transports.
        (Trying | Proceeding, Input::Success | Input::Failure) if reliable => step(Terminated, &[PassUp]),
        (Trying | Proceeding, Input::Success | Input::Failure) => {
            step(Completed, &[Disarm(Timer::E), Disarm(Timer::F), Arm(Timer::K, Span::T4), PassUp])
        }
        (Completed, Input::Fired(Timer::K)) => step(Terminated, &[]),
        _ => None,
    }
}
