//! The INVITE server transaction: RFC 3261 section 17.2.1, figure 7, as corrected by RFC 6026 section 7.1.

use super::{Action, Input, Span, State, Step, Timer, step};

/// The table.
pub fn table(state: State, input: Input, reliable: bool) -> Option<Step> {
    use Action::{Arm, Disarm, Forget, PassUp, Resend, Send, TimedOut, Unreachable};
    use State::{Accepted, Completed, Confirmed, Proceeding, Terminated};
    match (state, input) {
        (Proceeding, Input::Repeat) => step(Proceeding, &[Resend]),
        (Proceeding, Input::Provisional) => step(Proceeding, &[Send]),
        // RFC 6026 7.1: the transport's failure is told, but does not end the transaction: the peer asks again.
        (Proceeding | Accepted, Input::Unreachable) => step(state, &[Unreachable]),

        // RFC 6026 7.1: after a 2xx the transaction absorbs repeats of the INVITE; the user repeats the 2xx.
        (Proceeding, Input::Success) => step(Accepted, &[Send, Forget, Arm(Timer::L, Span::T1Times64)]),
        (Accepted, Input::Success) => step(Accepted, &[Send, Forget]),
        (Accepted, Input::Repeat) => step(Accepted, &[]),
        (Accepted, Input::Ack) => step(Accepted, &[PassUp]),
        (Accepted, Input::Fired(Timer::L)) => step(Terminated, &[]),

        // 17.2.1: a failure is repeated by timer G over unreliable transports, until ACK or timer H.
        (Proceeding, Input::Failure) if reliable => step(Completed, &[Send, Arm(Timer::H, Span::T1Times64)]),
        (Proceeding, Input::Failure) => {
            step(Completed, &[Send, Arm(Timer::G, Span::T1), Arm(Timer::H, Span::T1Times64)])
        }
        (Completed, Input::Repeat) => step(Completed, &[Resend]),
        (Completed, Input::Fired(Timer::G)) => step(Completed, &[Resend, Arm(Timer::G, Span::DoubledToT2)]),
        (Completed, Input::Fired(Timer::H)) => step(Terminated, &[TimedOut]),

        // 17.2.1: timer I is zero over reliable transports.
        (Completed, Input::Ack) if reliable => step(Terminated, &[]),
        (Completed, Input::Ack) => {
            step(Confirmed, &[Disarm(Timer::G), Disarm(Timer::H), Forget, Arm(Timer::I, Span::T4)])
        }
        (Confirmed, Input::Fired(Timer::I)) => step(Terminated, &[]),
        _ => None,
    }
}
