//! A leg that is on its way to a place: a caller who called one, or somebody whom we called for it.

use std::sync::Arc;

use super::end::{End, EndReason};
use super::place::{Entry, Place};
use super::{Action, Input, LegNo, Phase, Step, View, conference, ending, parking};

/// Sends a leg to a place.
#[must_use]
pub fn begin(leg: LegNo, place: Place) -> Step {
    (Phase::Entering, vec![Action::Enter(leg, place)])
}

/// Steps a call whose leg is on its way.
#[must_use]
pub fn step(input: Input, view: &View<'_>) -> Step {
    match input {
        Input::Entered(_, _, Entry::Given(call)) => given(&call),
        Input::Entered(leg, Place::Park(_), Entry::Opened) => parking::begin(leg, None, view),
        Input::Entered(leg, _, Entry::Opened) => conference::begin(leg, view),
        Input::Entered(leg, place, Entry::Nothing(code)) => {
            let end = End::new(EndReason::UnknownNumber).with_detail(format!("{}: answered {code}", place.name()));
            let (phase, mut actions) = ending::wait(end);
            actions.insert(0, view.turn_away(leg, code));
            (phase, actions)
        }
        Input::Leg(leg, super::LegInput::Ended(end)) => ending::wait(ending::end_of(&end, view.role(leg))),
        Input::Commanded(command) if ending::ends(&command) => ending::begin(ending::end_by(&command), view),
        _ => (Phase::Entering, vec![]),
    }
}

/// The leg is another call's: this one is over with it.
#[must_use]
pub fn given(call: &Arc<str>) -> Step {
    ending::wait(End::new(EndReason::Transferred).with_detail(format!("to call {call}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::LegView;
    use crate::call::route::Target;

    #[test]
    fn whoever_finds_nothing_there_is_told_so() {
        let legs = [LegView::caller(LegNo::FIRST)];
        let view = View::of(&Target::Echo, &legs);
        let place = Place::Fetch("7".into());
        assert_eq!(begin(LegNo::FIRST, place.clone()).1, vec![Action::Enter(LegNo::FIRST, place.clone())]);
        let (phase, actions) = step(Input::Entered(LegNo::FIRST, place, Entry::Nothing(404)), &view);
        assert!(matches!(phase, Phase::Ending(End { reason: EndReason::UnknownNumber, .. })), "{phase:?}");
        assert_eq!(actions.first(), Some(&Action::Reject(LegNo::FIRST, 404)));
    }
}
