//! The server transaction for requests other than INVITE: RFC 3261 section 17.2.2, figure 8.

use super::{Action, Input, Span, State, Step, Timer, step};

/// The table.
pub fn table(state: State, input: Input, reliable: bool) -> Option<Step> {
    use Action::{Arm, Resend, Send, Unreachable};
    use State::{Completed, Proceeding, Terminated, Trying};
    match (state, input) {
        (Trying, Input::Repeat) => step(Trying, &[]),
        (Trying | Proceeding, Input::Provisional) => step(Proceeding, &[Send]),
        (Proceeding | Completed, Input::Repeat) => step(state, &[Resend]),

        // 17.2.2: timer J is zero over reliable transports.
        (Trying | Proceeding, Input::Success | Input::Failure) if reliable => step(Terminated, &[Send]),
        (Trying | Proceeding, Input::Success | Input::Failure) => {
            step(Completed, &[Send, Arm(Timer::J, Span::T1Times64)])
        }
        (Completed, Input::Fired(Timer::J)) => step(Terminated, &[]),
        (Proceeding | Completed, Input::Unreachable) => step(Terminated, &[Unreachable]),
        _ => None,
    }
}
