//! A supervisor's leg in somebody else's call: it hears, whispers or joins, and ends nothing.

use super::place::Watching;
use super::{Action, LegInput, LegNo, View};

/// A supervisor has come: they are answered, or take part. `beside`: whoever has to be in the room with them and is not there otherwise.
#[must_use]
pub fn begin(leg: LegNo, beside: &[LegNo], view: &View<'_>) -> Vec<Action> {
    if view.is_up(leg) { admit(leg, beside, view) } else { vec![Action::Answer(leg)] }
}

/// What a supervisor's leg brings.
#[must_use]
pub fn on_leg(leg: LegNo, input: &LegInput, beside: &[LegNo], view: &View<'_>) -> Vec<Action> {
    match input {
        LegInput::Acked | LegInput::Held(false) => admit(leg, beside, view),
        LegInput::Held(true) => vec![Action::Part(leg)],
        LegInput::Digit(key) => Watching::by_key(*key).map(|how| Action::Watch(leg, how)).into_iter().collect(),
        LegInput::MediaTimedOut | LegInput::MediaFailed(_) | LegInput::MediaGone => vec![Action::HangUp(leg, None)],
        LegInput::Referred(_) => vec![Action::RejectRefer(leg, 403)],
        _ => vec![],
    }
}

/// Supervisors who are up take part again with these, who were parted from them.
#[must_use]
pub fn resume(parties: &[LegNo], view: &View<'_>) -> Vec<Action> {
    let up: Vec<LegNo> = view.supervisors().filter(|leg| view.is_up(*leg)).collect();
    up.into_iter().flat_map(|leg| admit(leg, parties, view)).collect()
}

/// Whom supervisors watched is not in this call any more: they are let go.
pub fn let_go<'a>(view: &'a View<'_>) -> impl Iterator<Item = Action> + 'a {
    view.supervisors().map(|leg| Action::HangUp(leg, None))
}

/// Whoever holds would have the others hear their music.
fn admit(leg: LegNo, beside: &[LegNo], view: &View<'_>) -> Vec<Action> {
    if view.holds(leg) {
        return vec![];
    }
    beside.iter().copied().chain([leg]).map(Action::Admit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::LegView;
    use crate::call::place::Errand;
    use crate::call::route::Target;

    const CALLER: LegNo = LegNo(0);
    const SUPERVISOR: LegNo = LegNo(9);

    fn with<T>(supervisor: LegView, then: impl FnOnce(&View<'_>) -> T) -> T {
        let legs = [LegView { is_up: true, ..LegView::caller(CALLER) }, supervisor];
        then(&View::of(&Target::Echo, &legs))
    }

    const UP: LegView =
        LegView { is_up: true, errand: Some(Errand::Watch(Watching::Join)), ..LegView::caller(SUPERVISOR) };

    #[test]
    fn a_supervisor_who_holds_is_out_until_they_come_back() {
        with(UP, |view| {
            assert_eq!(on_leg(SUPERVISOR, &LegInput::Held(true), &[], view), vec![Action::Part(SUPERVISOR)]);
            assert_eq!(on_leg(SUPERVISOR, &LegInput::Held(false), &[], view), vec![Action::Admit(SUPERVISOR)]);
        });
        let holding = LegView { holds: true, ..UP };
        with(holding, |view| {
            assert_eq!(begin(SUPERVISOR, &[CALLER], view), vec![]);
            assert_eq!(on_leg(SUPERVISOR, &LegInput::Acked, &[CALLER], view), vec![]);
            assert_eq!(resume(&[CALLER], view), vec![]);
        });
    }

    #[test]
    fn those_who_are_up_take_part_again_with_whom_they_supervise() {
        let both = vec![Action::Admit(CALLER), Action::Admit(SUPERVISOR)];
        with(UP, |view| assert_eq!(resume(&[CALLER], view), both));
        with(LegView { is_up: false, ..UP }, |view| assert_eq!(resume(&[CALLER], view), vec![]));
        with(LegView { errand: None, ..UP }, |view| assert_eq!(resume(&[CALLER], view), vec![]));
    }
}
