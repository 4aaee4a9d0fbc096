//! A conference: everybody hears everybody else. It lasts for as long as somebody is in it.
//!
//! A leg that has come into it stays until it ends: nobody in it is passed on, parked or fetched, whoever is replaced is hung up, and with one
//! left it is still a conference, which others may join. So what our Contact says from then on (`isfocus`, RFC 4579 section 4.2, told by `driver/attendance.rs`)
//! holds for as long as the leg does, and is never taken back.

use media::MAX_MEMBERS;

use super::end::{End, EndReason};
use super::place::Errand;
use super::{Action, Input, LegInput, LegNo, Phase, Step, Timer, View, ending};

/// The first of a conference has come.
#[must_use]
pub fn begin(first: LegNo, view: &View<'_>) -> Step {
    let mut actions = vec![Action::Arm(Timer::MaxDuration, view.max_duration), Action::OpenRoom(MAX_MEMBERS as u8)];
    actions.extend(enter(first, view));
    (Phase::Conference, actions)
}

/// Whoever has come is answered, or takes part; where they hold, once they do not any more: all others would hear their music.
fn enter(leg: LegNo, view: &View<'_>) -> Option<Action> {
    match (view.is_up(leg), view.holds(leg)) {
        (false, _) => Some(Action::Answer(leg)),
        (true, false) => Some(Action::Admit(leg)),
        (true, true) => None,
    }
}

/// Steps a conference.
#[must_use]
pub fn step(input: Input, view: &View<'_>) -> Step {
    match input {
        Input::Leg(leg, input) => on_leg(leg, input, view),
        Input::Adopted(leg, Errand::Join) if view.staying().count() <= MAX_MEMBERS => {
            let actions = [Action::Music(leg, false)].into_iter().chain(enter(leg, view)).collect();
            (Phase::Conference, actions)
        }
        // Whoever called here first and wants another in their place: a phone's attended transfer.
        Input::Adopted(leg, Errand::Replace(replaced))
            if replaced != leg && view.staying().any(|other| other == replaced) =>
        {
            let let_go =
                [Action::NotifyRefer(replaced, 200), Action::HangUp(replaced, None), Action::Music(leg, false)];
            (Phase::Conference, let_go.into_iter().chain(enter(leg, view)).collect())
        }
        Input::Adopted(leg, _) => (Phase::Conference, vec![view.turn_away(leg, 486)]),
        Input::Fired(Timer::MaxDuration) => ending::begin(End::new(EndReason::MaxDuration), view),
        Input::Commanded(command) if ending::ends(&command) => ending::begin(ending::end_by(&command), view),
        Input::Fired(_)
        | Input::Finding
        | Input::Offered(_)
        | Input::Deserted
        | Input::Found(_)
        | Input::Entered(..)
        | Input::Commanded(_) => (Phase::Conference, vec![]),
    }
}

fn on_leg(leg: LegNo, input: LegInput, view: &View<'_>) -> Step {
    let actions = match input {
        LegInput::Acked => enter(leg, view).into_iter().collect(),
        LegInput::Held(true) => vec![Action::Part(leg)],
        LegInput::Held(false) => vec![Action::Admit(leg)],
        LegInput::Ended(end) if view.staying().next().is_none() => {
            return ending::wait(ending::end_of(&end, view.side(leg)));
        }
        LegInput::MediaTimedOut | LegInput::MediaFailed(_) if view.staying().any(|other| other != leg) => {
            vec![Action::HangUp(leg, None)]
        }
        LegInput::MediaTimedOut => return ending::begin(End::new(EndReason::MediaTimeout), view),
        LegInput::MediaFailed(why) => {
            return ending::begin(End::new(EndReason::NotAcceptable).with_detail(why), view);
        }
        LegInput::MediaGone => {
            return ending::begin(End::new(EndReason::Internal).with_detail("the media engine is gone"), view);
        }
        LegInput::Referred(_) => vec![Action::RejectRefer(leg, 403)],
        LegInput::Ended(_)
        | LegInput::Progress { .. }
        | LegInput::Answered
        | LegInput::Digit(_)
        | LegInput::Passed(..)
        | LegInput::Wrote(..)
        | LegInput::Conversed(_) => vec![],
    };
    (Phase::Conference, actions)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::place::Watching;
    use crate::call::route::Target;
    use crate::call::{Command, Handover, LegView, Referred, SignallingEnd, Stage};

    fn with<T>(legs: &[(u16, bool, Stage)], then: impl FnOnce(&View<'_>) -> T) -> T {
        let legs: Vec<LegView> = legs
            .iter()
            .map(|(no, is_up, stage)| LegView { is_up: *is_up, stage: *stage, ..LegView::caller(LegNo(*no)) })
            .collect();
        then(&View::of(&Target::Echo, &legs))
    }

    #[test]
    fn the_first_opens_it_and_others_enter_once_they_are_up() {
        let (phase, actions) = with(&[(0, false, Stage::Here)], |view| begin(LegNo(0), view));
        assert_eq!(phase, Phase::Conference);
        assert!(actions.ends_with(&[Action::OpenRoom(32), Action::Answer(LegNo(0))]), "{actions:?}");
        let legs = [(0, true, Stage::Here), (9, false, Stage::Here)];
        let (_, actions) = with(&legs, |view| step(Input::Adopted(LegNo(9), Errand::Join), view));
        assert!(actions.contains(&Action::Answer(LegNo(9))));
        let legs = legs.map(|(no, _, stage)| (no, true, stage));
        let (_, actions) = with(&legs, |view| step(Input::Leg(LegNo(9), LegInput::Acked), view));
        assert_eq!(actions, vec![Action::Admit(LegNo(9))]);
    }

    #[test]
    fn it_ends_with_the_last_and_not_with_the_first() {
        let ended = |no| Input::Leg(LegNo(no), LegInput::Ended(SignallingEnd::Remote));
        let (phase, _) = with(&[(0, true, Stage::Over), (9, true, Stage::Here)], |view| step(ended(0), view));
        assert_eq!(phase, Phase::Conference);
        let (phase, _) = with(&[(0, true, Stage::Over), (9, true, Stage::Over)], |view| step(ended(9), view));
        assert_eq!(phase, Phase::Ending(End::new(EndReason::CallerHungUp)));
    }

    /// What is told of a conference's end of a call (`isfocus`) is not taken back: nothing takes a leg out of it that goes on.
    #[test]
    fn whoever_is_in_it_leaves_by_their_end_alone() {
        let refer = Referred::To { uri: "sip:bob@b".into(), replaces: None };
        let inputs = [
            Input::Commanded(Command::Transfer(Handover::blind("bob"), None)),
            Input::Commanded(Command::Hold(true)),
            Input::Leg(LegNo(9), LegInput::Referred(refer)),
            Input::Leg(LegNo(9), LegInput::Ended(SignallingEnd::Remote)),
            Input::Adopted(LegNo(9), Errand::Pickup),
            Input::Adopted(LegNo(9), Errand::Fetch),
            Input::Adopted(LegNo(9), Errand::Watch(Watching::Join)),
        ];
        for input in inputs {
            let legs = [(0, true, Stage::Here), (9, true, Stage::Here)];
            let (phase, actions) = with(&legs, |view| step(input.clone(), view));
            assert_eq!(phase, Phase::Conference, "{input:?}");
            let keeps = [Action::HangUp(LegNo(9), None), Action::RejectRefer(LegNo(9), 403)];
            assert!(actions.iter().all(|action| keeps.contains(action)), "{input:?}: {actions:?}");
        }
    }

    #[test]
    fn whoever_called_here_for_another_gives_them_their_place() {
        let legs = [(0, true, Stage::Here), (1, true, Stage::Here), (9, true, Stage::Here)];
        let replaced = |no| Input::Adopted(LegNo(9), Errand::Replace(LegNo(no)));
        let (phase, actions) = with(&legs, |view| step(replaced(1), view));
        assert_eq!(phase, Phase::Conference);
        assert_eq!(actions.get(..2), Some(&[Action::NotifyRefer(LegNo(1), 200), Action::HangUp(LegNo(1), None)][..]));
        assert_eq!(actions.last(), Some(&Action::Admit(LegNo(9))));
        let (_, actions) = with(&legs, |view| step(replaced(5), view));
        assert_eq!(actions, vec![Action::HangUp(LegNo(9), None)], "nobody of that name is here");
    }

    #[test]
    fn there_is_room_for_thirty_two() {
        let legs: Vec<_> = (0..33).map(|no| (no, true, Stage::Here)).collect();
        let (_, actions) = with(&legs, |view| step(Input::Adopted(LegNo(32), Errand::Join), view));
        assert_eq!(actions, vec![Action::HangUp(LegNo(32), None)]);
        let (_, actions) = with(&legs[..32], |view| step(Input::Adopted(LegNo(31), Errand::Join), view));
        assert!(actions.contains(&Action::Admit(LegNo(31))), "{actions:?}");
    }

    #[test]
    fn who_holds_as_they_come_takes_part_once_they_do_not() {
        let holding = LegView { is_up: true, holds: true, ..LegView::caller(LegNo(9)) };
        let legs = [LegView { is_up: true, ..LegView::caller(LegNo(0)) }, holding];
        let view = View::of(&Target::Echo, &legs);
        for input in [Input::Adopted(LegNo(9), Errand::Join), Input::Leg(LegNo(9), LegInput::Acked)] {
            let (_, actions) = step(input.clone(), &view);
            assert!(!actions.contains(&Action::Admit(LegNo(9))), "{input:?}: {actions:?}");
        }
        assert!(!begin(LegNo(9), &view).1.contains(&Action::Admit(LegNo(9))));
    }

    #[test]
    fn who_holds_is_out_until_they_come_back() {
        let legs = [(0, true, Stage::Here), (9, true, Stage::Here)];
        for (held, action) in [(true, Action::Part(LegNo(9))), (false, Action::Admit(LegNo(9)))] {
            let (_, actions) = with(&legs, |view| step(Input::Leg(LegNo(9), LegInput::Held(held)), view));
            assert_eq!(actions, vec![action]);
        }
    }
}
