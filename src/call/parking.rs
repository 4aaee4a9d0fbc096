//! Somebody waits in a slot, with music, until they are fetched; after a while whoever put them there is called back.

use super::bridge::Bridge;
use super::end::{End, EndReason};
use super::place::Errand;
use super::{Action, Input, LegInput, LegNo, Phase, Step, Timer, View, ending, referral};

/// Somebody who waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parked {
    leg: LegNo,
    /// The leg that put them there.
    by: Option<LegNo>,
}

/// Somebody has got a slot.
#[must_use]
pub fn begin(leg: LegNo, by: Option<LegNo>, view: &View<'_>) -> Step {
    let actions = vec![Action::Part(leg), Action::Music(leg, true), Action::Arm(Timer::Parked, view.park_for)];
    (Phase::Parked(Parked { leg, by }), actions)
}

/// Steps a call of somebody who waits.
#[must_use]
pub fn step(parked: Parked, input: Input, view: &View<'_>) -> Step {
    match input {
        Input::Adopted(leg, Errand::Fetch) => {
            let mut actions = vec![Action::Disarm(Timer::Parked)];
            if view.is_up(leg) {
                let bridge = Bridge::taken_up(leg, parked.leg, view);
                actions.extend(bridge.resume(parked.leg));
                return (Phase::Bridged(bridge), actions);
            }
            actions.extend([Action::Music(parked.leg, false), Action::Answer(leg)]);
            (Phase::Bridged(Bridge::new(leg, parked.leg)), actions)
        }
        Input::Adopted(leg, _) => {
            let away = view.turn_away(leg, 480);
            (Phase::Parked(parked), vec![away])
        }
        Input::Fired(Timer::Parked) => match parked.by {
            Some(by) => referral::call_back(parked.leg, by),
            None => ending::begin(End::new(EndReason::NoAnswer).with_detail("nobody fetched the caller"), view),
        },
        Input::Leg(leg, LegInput::Ended(end)) if leg == parked.leg => {
            ending::wait(ending::end_of(&end, view.side(leg)))
        }
        Input::Leg(leg, LegInput::MediaTimedOut) if leg == parked.leg => {
            ending::begin(End::new(EndReason::MediaTimeout), view)
        }
        Input::Leg(leg, LegInput::MediaGone | LegInput::MediaFailed(_)) if leg == parked.leg => {
            ending::begin(End::new(EndReason::Internal).with_detail("the caller's sound is gone"), view)
        }
        Input::Leg(leg, LegInput::Referred(_)) => (Phase::Parked(parked), vec![Action::RejectRefer(leg, 403)]),
        Input::Fired(Timer::MaxDuration) => ending::begin(End::new(EndReason::MaxDuration), view),
        Input::Commanded(command) if ending::ends(&command) => ending::begin(ending::end_by(&command), view),
        _ => (Phase::Parked(parked), vec![]),
    }
}

#[cfg(test)]
#[allow(clippy::panic)]
mod tests {
    use super::*;
    use crate::call::route::Target;
    use crate::call::{LegView, SignallingEnd};

    const WAITS: LegNo = LegNo(0);
    const FETCHES: LegNo = LegNo(9);

    fn stepped(phase: Phase, input: Input) -> Step {
        stepped_with(phase, input, LegView::caller(FETCHES))
    }

    fn stepped_with(phase: Phase, input: Input, fetches: LegView) -> Step {
        let Phase::Parked(parked) = phase else { panic!("{phase:?}") };
        let legs = [LegView { is_up: true, ..LegView::caller(WAITS) }, fetches];
        step(parked, input, &View::of(&Target::Echo, &legs))
    }

    fn parked(by: Option<LegNo>) -> Phase {
        let legs = [LegView { is_up: true, ..LegView::caller(WAITS) }];
        let (phase, actions) = begin(WAITS, by, &View::of(&Target::Echo, &legs));
        assert!(actions.contains(&Action::Music(WAITS, true)));
        phase
    }

    #[test]
    fn whoever_fetches_is_answered_and_connected() {
        let (phase, actions) = stepped(parked(None), Input::Adopted(FETCHES, Errand::Fetch));
        assert_eq!(phase, Phase::Bridged(Bridge::new(FETCHES, WAITS)));
        assert!(actions.ends_with(&[Action::Music(WAITS, false), Action::Answer(FETCHES)]), "{actions:?}");
    }

    #[test]
    fn whoever_comes_from_another_call_is_connected_at_once_unless_they_hold() {
        let up = LegView { is_up: true, ..LegView::caller(FETCHES) };
        for (holds, last) in [(false, Action::Connect(FETCHES, WAITS)), (true, Action::Music(FETCHES, false))] {
            let adopted = Input::Adopted(FETCHES, Errand::Fetch);
            let (phase, actions) = stepped_with(parked(None), adopted, LegView { holds, ..up });
            assert!(matches!(phase, Phase::Bridged(_)), "{phase:?}");
            assert_eq!(actions.last(), Some(&last), "{actions:?}");
            assert_eq!(actions.contains(&Action::Music(WAITS, false)), !holds, "{actions:?}");
        }
    }

    #[test]
    fn after_a_while_the_device_is_called_back_and_without_one_the_call_ends() {
        let (phase, actions) = stepped(parked(Some(LegNo(1))), Input::Fired(Timer::Parked));
        assert!(matches!(phase, Phase::Referring(_)));
        assert_eq!(actions, vec![Action::CallBack(LegNo(1))]);
        let (phase, actions) = stepped(parked(None), Input::Fired(Timer::Parked));
        assert!(matches!(phase, Phase::Ending(_)) && actions.contains(&Action::HangUp(WAITS, None)));
    }

    #[test]
    fn who_hangs_up_waits_no_more() {
        let (phase, _) = stepped(parked(None), Input::Leg(WAITS, LegInput::Ended(SignallingEnd::Remote)));
        assert_eq!(phase, Phase::Ending(End::new(EndReason::CallerHungUp)));
    }
}
