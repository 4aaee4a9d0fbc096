//! A leg that is on its way to a place: a caller who called one, or somebody whom we called for it.

use super::end::{End, EndReason};
use super::place::{Entry, Place};
use super::{Action, Input, LegNo, Phase, Step, View, conference, ending, parking, queueing, supervision};

/// Sends a leg to a place.
#[must_use]
pub fn begin(leg: LegNo, place: Place) -> Step {
    (Phase::Entering, vec![Action::Enter(leg, place)])
}

/// Steps a call whose leg is on its way.
#[must_use]
pub fn step(input: Input, view: &View<'_>) -> Step {
    match input {
        Input::Entered(leg, place, entry) => arrived(leg, &place, entry, None, view).unwrap_or_else(|code| {
            let reason = if code == 486 { EndReason::Busy } else { EndReason::UnknownNumber };
            let end = End::new(reason).with_detail(format!("{}: answered {code}", place.name()));
            let (phase, mut actions) = ending::wait(end);
            actions.insert(0, view.turn_away(leg, code));
            (phase, actions)
        }),
        Input::Leg(leg, super::LegInput::Ended(end)) => ending::wait(ending::end_of(&end, view.side(leg))),
        Input::Commanded(command) if ending::ends(&command) => ending::begin(ending::end_by(&command), view),
        _ => (Phase::Entering, vec![]),
    }
}

/// A leg has got to a place, where the one on `by` put it, or nobody: it is another call's, and this one is over; or this call is the place.
/// Whoever supervised what it was before is let go.
///
/// # Errors
/// There is no such place: the status to answer with.
pub fn arrived(leg: LegNo, place: &Place, entry: Entry, by: Option<LegNo>, view: &View<'_>) -> Result<Step, u16> {
    let (phase, more) = match entry {
        Entry::Given(call) => {
            let end = End::new(EndReason::Transferred).with_detail(format!("to call {call}"));
            return Ok(ending::begin(end, view));
        }
        Entry::Opened if matches!(place, Place::Park(_)) => parking::begin(leg, by, view),
        Entry::Opened if let Place::Queue(queue) = place => queueing::begin(leg, queue, view),
        Entry::Full if let Place::Queue(queue) = place => queueing::overflow(leg, queue, view),
        Entry::Full => return Err(486),
        Entry::Opened => conference::begin(leg, view),
        Entry::Nothing(code) => return Err(code),
    };
    Ok((phase, supervision::let_go(view).chain(more).collect()))
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
