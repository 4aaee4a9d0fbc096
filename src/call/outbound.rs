//! A call that we place, from its INVITE to the answer.

use std::time::Duration;

use super::end::{End, EndReason};
use super::{Action, Input, Phase, SignallingEnd, Step, Timer, ending};

/// The first step of a call we place.
#[must_use]
pub fn begin(answer_within: Duration) -> Step {
    (Phase::Ringing, vec![Action::Arm(Timer::NoAnswer, answer_within)])
}

/// Steps a call that is not answered yet.
#[must_use]
pub fn step(input: Input, max_duration: Duration) -> Step {
    match input {
        Input::Answered => {
            (Phase::Talking, vec![Action::Arm(Timer::MaxDuration, max_duration), Action::StartConversation])
        }
        Input::Fired(Timer::NoAnswer) => ending::begin(End::new(EndReason::NoAnswer)),
        Input::SignallingEnded(SignallingEnd::TimedOut) => {
            ending::over(End::new(EndReason::NoAnswer).with_detail("no response"))
        }
        Input::SignallingEnded(SignallingEnd::Rejected { code: 480 | 408, reason }) => {
            ending::over(End::new(EndReason::NoAnswer).with_detail(reason))
        }
        Input::SignallingEnded(end) => ending::over(ending::end_of(&end)),
        Input::MediaFailed(why) => ending::begin(End::new(EndReason::NotAcceptable).with_detail(why)),
        Input::MediaGone => ending::begin(End::new(EndReason::Internal).with_detail("the media engine is gone")),
        Input::Commanded(command) => ending::begin(ending::end_by(command)),
        _ => (Phase::Ringing, vec![]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::end::EndClass;

    #[test]
    fn nobody_answering_is_told_from_being_refused() {
        let rejected = |code| Input::SignallingEnded(SignallingEnd::Rejected { code, reason: "no".into() });
        for (input, reason) in [
            (rejected(486), EndReason::Busy),
            (rejected(404), EndReason::Refused),
            (rejected(480), EndReason::NoAnswer),
            (Input::SignallingEnded(SignallingEnd::TimedOut), EndReason::NoAnswer),
        ] {
            let (phase, _) = step(input.clone(), Duration::from_secs(60));
            let Phase::Over(end) = phase else { unreachable!("{input:?}: {phase:?}") };
            assert_eq!((end.reason, end.class), (reason, EndClass::UpstreamFault), "{input:?}");
        }
        let (phase, actions) = step(Input::Fired(Timer::NoAnswer), Duration::from_secs(60));
        assert_eq!(phase, Phase::Ending(End::new(EndReason::NoAnswer)));
        assert!(actions.contains(&Action::HangUp), "an unanswered call is cancelled");
    }
}
