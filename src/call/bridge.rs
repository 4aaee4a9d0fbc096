//! Two legs connected with one another: whoever called, and whoever answered for them.

use super::end::{End, EndReason};
use super::place::Errand;
use super::{
    Action, Command, Input, LegInput, LegNo, Phase, SignallingEnd, Step, Timer, View, ending, referral, supervision,
};

/// Two legs, connected or about to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bridge {
    caller: LegNo,
    callee: LegNo,
    /// The caller has acknowledged our answer: sound flows.
    connected: bool,
    /// Which of them has put the other on hold.
    held_by_caller: bool,
    held_by_callee: bool,
    /// Somebody who is not in the call has the caller wait.
    is_kept_waiting: bool,
}

impl Bridge {
    /// The caller is being answered, since `callee` has.
    #[must_use]
    pub fn new(caller: LegNo, callee: LegNo) -> Self {
        Self { caller, callee, connected: false, held_by_caller: false, held_by_callee: false, is_kept_waiting: false }
    }

    /// Both are up already.
    #[must_use]
    pub fn connected(caller: LegNo, callee: LegNo) -> Self {
        Self { connected: true, ..Self::new(caller, callee) }
    }

    /// Both are up already, and may hold whoever they had before.
    #[must_use]
    pub(super) fn taken_up(caller: LegNo, callee: LegNo, view: &View<'_>) -> Self {
        let bridge = Self::connected(caller, callee);
        Self { held_by_caller: view.holds(caller), held_by_callee: view.holds(callee), ..bridge }
    }

    /// One side puts the call on hold, or takes it back: the other hears music meanwhile. Whoever holds before sound flows holds from then on.
    pub(super) fn hold(&mut self, leg: LegNo, held: bool) -> Vec<Action> {
        let before = *self;
        if self.other(leg).is_some() {
            self.note_hold(leg, held);
        }
        self.since(before)
    }

    /// Somebody else has the caller wait with music, or connected again.
    fn keep_waiting(&mut self, waits: bool) -> Vec<Action> {
        let before = *self;
        self.is_kept_waiting = waits;
        self.since(before)
    }

    /// What comes of who holds now and did not before, or the other way round.
    fn since(&self, before: Self) -> Vec<Action> {
        if !self.connected {
            return vec![];
        }
        let mut actions = vec![];
        if self.is_held() && !before.is_held() {
            actions.extend([Action::Part(self.caller), Action::Part(self.callee)]);
        }
        let legs = [self.caller, self.callee].into_iter();
        let heard = legs.map(|leg| (leg, before.is_held_by_other(leg), self.is_held_by_other(leg)));
        actions.extend(heard.filter(|(_, before, now)| before != now).map(|(leg, _, now)| Action::Music(leg, now)));
        if before.is_held() && !self.is_held() {
            actions.push(Action::Connect(self.caller, self.callee));
        }
        actions
    }

    /// One side holds, or does not any more, while the call goes on in another way.
    pub(super) fn note_hold(&mut self, leg: LegNo, held: bool) {
        let mine = if leg == self.caller { &mut self.held_by_caller } else { &mut self.held_by_callee };
        *mine = held;
    }

    fn is_held(&self) -> bool {
        self.held_by_caller || self.held_by_callee || self.is_kept_waiting
    }

    /// Whether this leg's peer is held, by whoever is at the other end or by somebody else.
    fn is_held_by_other(&self, leg: LegNo) -> bool {
        if leg == self.caller { self.held_by_callee || self.is_kept_waiting } else { self.held_by_caller }
    }

    /// Both have each other, or have again, who were parted while `waits` heard music: as they hold one another, or connected.
    pub(super) fn resume(&self, waits: LegNo) -> Vec<Action> {
        let mut actions = vec![];
        if !self.is_held_by_other(waits) {
            actions.push(Action::Music(waits, false));
        }
        if let Some(other) = self.other(waits) {
            actions.push(Action::Music(other, self.is_held_by_other(other)));
        }
        if !self.is_held() {
            actions.push(Action::Connect(self.caller, self.callee));
        }
        actions
    }

    /// `leg` is there instead of `replaced`, whose hold is over, and may hold itself; the other side's hold stays.
    fn with(self, replaced: LegNo, leg: LegNo, view: &View<'_>) -> Self {
        let holds = view.holds(leg);
        if replaced == self.caller {
            Self { caller: leg, held_by_caller: holds, connected: true, ..self }
        } else {
            Self { callee: leg, held_by_callee: holds, ..self }
        }
    }

    /// Whoever calls is up already when the other answers.
    #[must_use]
    pub(super) fn connected_now(mut self, view: &View<'_>) -> (Self, Vec<Action>) {
        let actions = self.connect(view);
        (self, actions)
    }

    /// The caller has acknowledged our answer: both are connected, or hear music where the other holds already, also
    /// since before it was known with whom.
    fn connect(&mut self, view: &View<'_>) -> Vec<Action> {
        self.connected = true;
        self.held_by_caller |= view.holds(self.caller);
        self.held_by_callee |= view.holds(self.callee);
        let legs = [self.caller, self.callee].into_iter();
        let music: Vec<_> =
            legs.filter(|leg| self.is_held_by_other(*leg)).map(|leg| Action::Music(leg, true)).collect();
        if !self.is_held() {
            return vec![Action::Connect(self.caller, self.callee)];
        }
        // They may have heard each other before the answer.
        [Action::Part(self.caller), Action::Part(self.callee)].into_iter().chain(music).collect()
    }

    /// Both, once sound flows.
    pub(super) fn pair(&self) -> Option<(LegNo, LegNo)> {
        self.connected.then_some((self.caller, self.callee))
    }

    /// The leg at the other end.
    fn other(&self, leg: LegNo) -> Option<LegNo> {
        match leg {
            leg if leg == self.caller => Some(self.callee),
            leg if leg == self.callee => Some(self.caller),
            _ => None,
        }
    }
}

/// Steps a call whose legs are connected.
#[must_use]
pub fn step(mut bridge: Bridge, input: Input, view: &View<'_>) -> Step {
    match input {
        Input::Leg(leg, input) => match bridge.other(leg) {
            Some(other) => on_leg(&mut bridge, leg, other, input, view),
            None => on_guest(bridge, leg, &input, view),
        },
        Input::Fired(Timer::MaxDuration) => ending::begin(End::new(EndReason::MaxDuration), view),
        Input::Adopted(leg, errand) => adopted(bridge, leg, errand, view),
        Input::Commanded(command) if ending::ends(&command) => ending::begin(ending::end_by(&command), view),
        Input::Commanded(Command::Transfer(handover, by)) if bridge.connected => {
            referral::commanded(bridge.callee, bridge.caller, bridge, handover, by)
        }
        Input::Commanded(Command::Hold(held)) => {
            let actions = bridge.keep_waiting(held);
            (Phase::Bridged(bridge), actions)
        }
        Input::Fired(_)
        | Input::Finding
        | Input::Offered(_)
        | Input::Deserted
        | Input::Found(_)
        | Input::Entered(..)
        | Input::Commanded(_) => (Phase::Bridged(bridge), vec![]),
    }
}

/// Somebody has come from another call: to supervise, or to take the place of one of both.
fn adopted(bridge: Bridge, leg: LegNo, errand: Errand, view: &View<'_>) -> Step {
    let actions = match errand {
        Errand::Watch(_) if bridge.connected => supervision::begin(leg, &[], view),
        Errand::Replace(replaced) if bridge.other(replaced).is_some() && view.is_up(leg) => {
            return replace(bridge, replaced, leg, view);
        }
        Errand::Replace(replaced) if bridge.other(replaced).is_some() => vec![Action::Answer(leg)],
        _ => vec![view.turn_away(leg, 480)],
    };
    (Phase::Bridged(bridge), actions)
}

/// What a leg brings that is neither of both: a supervisor's, one that is about to take somebody's place, or a branch that lost and is
/// only now gone.
fn on_guest(bridge: Bridge, leg: LegNo, input: &LegInput, view: &View<'_>) -> Step {
    let actions = match (view.errand(leg), input) {
        (Some(Errand::Watch(_)), input) => supervision::on_leg(leg, input, &[], view),
        (Some(Errand::Replace(replaced)), LegInput::Acked) if bridge.other(replaced).is_some() => {
            return replace(bridge, replaced, leg, view);
        }
        (Some(_), LegInput::MediaTimedOut | LegInput::MediaFailed(_) | LegInput::MediaGone) => {
            vec![Action::HangUp(leg, None)]
        }
        (Some(_), LegInput::Referred(_)) => vec![Action::RejectRefer(leg, 403)],
        _ => vec![],
    };
    (Phase::Bridged(bridge), actions)
}

/// `leg` takes the place of `replaced`, which is hung up. Whoever is at the other end goes on holding, where they do.
fn replace(bridge: Bridge, replaced: LegNo, leg: LegNo, view: &View<'_>) -> Step {
    let Some(other) = bridge.other(replaced) else { return (Phase::Bridged(bridge), vec![]) };
    let was_connected = bridge.connected;
    let bridge = bridge.with(replaced, leg, view);
    // Where the caller has not acknowledged our answer yet, what they hear of one another is settled once they have.
    let hears_music = |leg| Action::Music(leg, bridge.connected && bridge.is_held_by_other(leg));
    let reported = Action::NotifyRefer(replaced, 200);
    let mut actions = vec![reported, Action::HangUp(replaced, None), hears_music(other), hears_music(leg)];
    if bridge.connected && !was_connected {
        actions.push(Action::Arm(Timer::MaxDuration, view.max_duration));
    }
    if bridge.connected && !bridge.is_held() {
        actions.push(Action::Connect(bridge.caller, bridge.callee));
    }
    (Phase::Bridged(bridge), actions)
}

fn on_leg(bridge: &mut Bridge, leg: LegNo, other: LegNo, input: LegInput, view: &View<'_>) -> Step {
    let failed = |reason, why: &str| ending::begin(End::new(reason).with_detail(why), view);
    match input {
        LegInput::Acked if leg == bridge.caller && !bridge.connected => {
            let mut actions = vec![Action::Arm(Timer::MaxDuration, view.max_duration)];
            actions.extend(bridge.connect(view));
            (Phase::Bridged(*bridge), actions)
        }
        LegInput::Held(held) => {
            let actions = bridge.hold(leg, held);
            (Phase::Bridged(*bridge), actions)
        }
        LegInput::Referred(to) if bridge.connected => referral::begin(leg, other, *bridge, to),
        LegInput::Referred(_) => (Phase::Bridged(*bridge), vec![Action::RejectRefer(leg, 491)]),
        LegInput::Digit(digit) => (Phase::Bridged(*bridge), vec![Action::Press(other, digit)]),
        LegInput::Wrote(kind, text) => (Phase::Bridged(*bridge), vec![Action::Write(other, kind, text)]),
        LegInput::Ended(SignallingEnd::TimedOut) if !bridge.connected => failed(EndReason::NoAck, ""),
        LegInput::Ended(end) => ending::begin(ending::end_of(&end, view.side(leg)), view),
        LegInput::MediaTimedOut => ending::begin(ending::unheard(view.side(leg)), view),
        LegInput::MediaGone => failed(EndReason::Internal, "the media engine is gone"),
        LegInput::MediaFailed(why) => failed(EndReason::NotAcceptable, &why),
        LegInput::Progress { .. }
        | LegInput::Answered
        | LegInput::Acked
        | LegInput::Passed(..)
        | LegInput::Conversed(_) => (Phase::Bridged(*bridge), vec![]),
    }
}

#[cfg(test)]
#[allow(clippy::panic)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::call::dial::DialPlan;
    use crate::call::place::Watching;
    use crate::call::route::Target;
    use crate::call::{LegView, Role, Stage};

    const CALLER: LegNo = LegNo(0);
    const CALLEE: LegNo = LegNo(1);

    fn stepped(bridge: Bridge, leg: LegNo, input: LegInput) -> Step {
        let legs = [(CALLER, Role::Caller), (CALLEE, Role::Callee)].map(|(no, role)| LegView {
            role,
            is_up: true,
            ..LegView::caller(no)
        });
        stepped_with(&legs, bridge, Input::Leg(leg, input))
    }

    fn stepped_with(legs: &[LegView], bridge: Bridge, input: Input) -> Step {
        let target = Target::Dial(Arc::new(DialPlan::default()));
        let gone = |no| matches!(&input, Input::Leg(leg, LegInput::Ended(_)) if *leg == no);
        let legs: Vec<LegView> = legs
            .iter()
            .map(|leg| LegView { stage: if gone(leg.no) { Stage::Over } else { Stage::Here }, ..*leg })
            .collect();
        step(bridge, input, &View::of(&target, &legs))
    }

    const GUEST: LegNo = LegNo(9);

    fn with_guest(is_up: bool, errand: Errand) -> [LegView; 3] {
        let up = |no| LegView { is_up: true, ..LegView::caller(no) };
        [up(CALLER), up(CALLEE), LegView { is_up, errand: Some(errand), ..LegView::caller(GUEST) }]
    }

    #[test]
    fn a_supervisor_is_admitted_changes_how_and_leaves_without_ending_anything() {
        let bridge = Bridge::connected(CALLER, CALLEE);
        let errand = Errand::Watch(Watching::Listen);
        let legs = with_guest(false, errand);
        assert_eq!(stepped_with(&legs, bridge, Input::Adopted(GUEST, errand)).1, vec![Action::Answer(GUEST)]);
        let input = |input| Input::Leg(GUEST, input);
        assert_eq!(stepped_with(&legs, bridge, input(LegInput::Acked)).1, vec![Action::Admit(GUEST)]);
        let whisper = vec![Action::Watch(GUEST, Watching::Whisper)];
        assert_eq!(stepped_with(&legs, bridge, input(LegInput::Digit('5'))).1, whisper);
        let (phase, actions) = stepped_with(&legs, bridge, input(LegInput::Ended(SignallingEnd::Remote)));
        assert_eq!((phase, actions), (Phase::Bridged(bridge), vec![]));
        let (phase, actions) = stepped_with(&legs, bridge, Input::Leg(CALLER, LegInput::Ended(SignallingEnd::Remote)));
        assert!(matches!(phase, Phase::Ending(_)) && actions.contains(&Action::HangUp(GUEST, None)), "{actions:?}");
    }

    #[test]
    fn whoever_replaces_one_is_connected_with_the_other_once_they_are_up() {
        let bridge = Bridge::connected(CALLER, CALLEE);
        let errand = Errand::Replace(CALLEE);
        let adopted = Input::Adopted(GUEST, errand);
        let (phase, actions) = stepped_with(&with_guest(false, errand), bridge, adopted.clone());
        assert_eq!((phase, actions), (Phase::Bridged(bridge), vec![Action::Answer(GUEST)]));
        for (is_up, input) in [(false, Input::Leg(GUEST, LegInput::Acked)), (true, adopted)] {
            let (phase, actions) = stepped_with(&with_guest(is_up, errand), bridge, input);
            assert_eq!(phase, Phase::Bridged(Bridge::connected(CALLER, GUEST)));
            assert!(actions.contains(&Action::HangUp(CALLEE, None)), "{actions:?}");
            assert_eq!(actions.last(), Some(&Action::Connect(CALLER, GUEST)));
        }
    }

    #[test]
    fn whoever_replaces_one_that_was_held_hears_music_until_the_other_takes_that_back() {
        let (phase, _) = stepped(Bridge::connected(CALLER, CALLEE), CALLER, LegInput::Held(true));
        let Phase::Bridged(bridge) = phase else { panic!("{phase:?}") };
        let replaced = |replaced| {
            let errand = Errand::Replace(replaced);
            let step = stepped_with(&with_guest(true, errand), bridge, Input::Adopted(GUEST, errand));
            let (Phase::Bridged(bridge), actions) = step else { panic!("{step:?}") };
            (bridge, actions)
        };
        let (held, actions) = replaced(CALLEE);
        assert_eq!(actions.last(), Some(&Action::Music(GUEST, true)));
        let (_, actions) = stepped(held, CALLER, LegInput::Held(false));
        assert_eq!(actions, vec![Action::Music(GUEST, false), Action::Connect(CALLER, GUEST)]);
        // Whoever held is gone, and so is their hold.
        let (bridge, actions) = replaced(CALLER);
        assert_eq!(bridge, Bridge::connected(GUEST, CALLEE));
        assert_eq!(actions.last(), Some(&Action::Connect(GUEST, CALLEE)));
        assert!(actions.contains(&Action::Music(CALLEE, false)), "{actions:?}");
    }

    #[test]
    fn sound_flows_once_the_caller_has_acknowledged_and_keys_go_to_the_other_side() {
        let (phase, actions) = stepped(Bridge::new(CALLER, CALLEE), CALLER, LegInput::Acked);
        assert!(actions.contains(&Action::Connect(CALLER, CALLEE)));
        let Phase::Bridged(bridge) = phase else { panic!("{phase:?}") };
        assert_eq!(stepped(bridge, CALLER, LegInput::Acked).1, vec![], "a repeated ACK connects nothing anew");
        assert_eq!(stepped(bridge, CALLER, LegInput::Digit('5')).1, vec![Action::Press(CALLEE, '5')]);
        assert_eq!(stepped(bridge, CALLEE, LegInput::Digit('#')).1, vec![Action::Press(CALLER, '#')]);
        assert_eq!(stepped(bridge, LegNo(7), LegInput::Digit('#')).1, vec![], "a branch that lost presses nothing");
    }

    #[test]
    fn who_is_on_hold_hears_music_and_is_connected_again_when_nobody_holds() {
        let held = |bridge: Bridge, leg, held| match stepped(bridge, leg, LegInput::Held(held)) {
            (Phase::Bridged(bridge), actions) => (bridge, actions),
            (phase, _) => panic!("{phase:?}"),
        };
        let (bridge, actions) = held(Bridge::connected(CALLER, CALLEE), CALLER, true);
        assert_eq!(actions, vec![Action::Part(CALLER), Action::Part(CALLEE), Action::Music(CALLEE, true)]);
        assert_eq!(held(bridge, CALLER, true).1, vec![], "a second time changes nothing");
        let (both, actions) = held(bridge, CALLEE, true);
        assert_eq!(actions, vec![Action::Music(CALLER, true)]);
        let (one, actions) = held(both, CALLER, false);
        assert_eq!(actions, vec![Action::Music(CALLEE, false)]);
        let (_, actions) = held(one, CALLEE, false);
        assert_eq!(actions, vec![Action::Music(CALLER, false), Action::Connect(CALLER, CALLEE)]);
    }

    #[test]
    fn a_phone_that_holds_and_whoever_has_the_caller_wait_do_not_end_one_anothers_hold() {
        let asked = |bridge, held| match stepped_with(
            &[CALLER, CALLEE].map(|no| LegView { is_up: true, ..LegView::caller(no) }),
            bridge,
            Input::Commanded(Command::Hold(held)),
        ) {
            (Phase::Bridged(bridge), actions) => (bridge, actions),
            (phase, _) => panic!("{phase:?}"),
        };
        let (waits, actions) = asked(Bridge::connected(CALLER, CALLEE), true);
        assert_eq!(actions.last(), Some(&Action::Music(CALLER, true)));
        let mut held = waits;
        assert_eq!(held.hold(CALLEE, true), vec![], "they hear music already");
        assert_eq!(held.hold(CALLEE, false), vec![], "they are still to wait");
        held.hold(CALLEE, true);
        let (mut held, actions) = asked(held, false);
        assert_eq!(actions, vec![], "the phone holds them still");
        assert_eq!(held.hold(CALLEE, false), vec![Action::Music(CALLER, false), Action::Connect(CALLER, CALLEE)]);
    }

    #[test]
    fn whoever_holds_before_the_caller_has_acknowledged_holds_from_then_on() {
        let (phase, actions) = stepped(Bridge::new(CALLER, CALLEE), CALLEE, LegInput::Held(true));
        assert_eq!(actions, vec![]);
        let Phase::Bridged(bridge) = phase else { panic!("{phase:?}") };
        let (phase, actions) = stepped(bridge, CALLER, LegInput::Acked);
        assert_eq!(actions.last(), Some(&Action::Music(CALLER, true)), "{actions:?}");
        let Phase::Bridged(bridge) = phase else { panic!("{phase:?}") };
        let (_, actions) = stepped(bridge, CALLEE, LegInput::Held(false));
        assert_eq!(actions, vec![Action::Music(CALLER, false), Action::Connect(CALLER, CALLEE)]);
    }

    /// By an UPDATE while it was looked for somebody, say.
    #[test]
    fn whoever_held_before_there_was_anybody_holds_whoever_comes() {
        let legs = [LegView { is_up: true, holds: true, ..LegView::caller(CALLER) }, LegView::caller(CALLEE)];
        let acked = Input::Leg(CALLER, LegInput::Acked);
        let (phase, actions) = stepped_with(&legs, Bridge::new(CALLER, CALLEE), acked);
        assert_eq!(actions.last(), Some(&Action::Music(CALLEE, true)), "{actions:?}");
        let Phase::Bridged(bridge) = phase else { panic!("{phase:?}") };
        let (_, actions) = stepped(bridge, CALLER, LegInput::Held(false));
        assert_eq!(actions, vec![Action::Music(CALLEE, false), Action::Connect(CALLER, CALLEE)]);
    }

    #[test]
    fn whoever_takes_a_place_and_holds_is_not_connected_yet() {
        let mut legs = with_guest(true, Errand::Replace(CALLEE));
        legs[2].holds = true;
        let adopted = Input::Adopted(GUEST, Errand::Replace(CALLEE));
        let (phase, actions) = stepped_with(&legs, Bridge::connected(CALLER, CALLEE), adopted);
        assert!(actions.contains(&Action::Music(CALLER, true)), "{actions:?}");
        assert!(!actions.contains(&Action::Connect(CALLER, GUEST)), "{actions:?}");
        let Phase::Bridged(mut bridge) = phase else { panic!("{phase:?}") };
        assert_eq!(bridge.hold(GUEST, false).last(), Some(&Action::Connect(CALLER, GUEST)));
    }

    #[test]
    fn whoever_hangs_up_ends_the_call_of_both_and_is_named() {
        let bridge = Bridge::new(CALLER, CALLEE);
        for (leg, other, reason) in
            [(CALLER, CALLEE, EndReason::CallerHungUp), (CALLEE, CALLER, EndReason::FarSideHungUp)]
        {
            let (phase, actions) = stepped(bridge, leg, LegInput::Ended(SignallingEnd::Remote));
            assert_eq!(phase, Phase::Ending(End::new(reason)));
            assert!(actions.contains(&Action::HangUp(other, None)), "{actions:?}");
        }
        let (phase, _) = stepped(bridge, CALLEE, LegInput::Ended(SignallingEnd::Remote));
        assert!(matches!(phase, Phase::Ending(_)));
    }

    #[test]
    fn a_caller_whose_sound_cannot_be_settled_ends_the_leg_that_answered() {
        let (phase, actions) = stepped(Bridge::new(CALLER, CALLEE), CALLER, LegInput::MediaFailed("no codec".into()));
        assert_eq!(phase, Phase::Ending(End::new(EndReason::NotAcceptable).with_detail("no codec")));
        assert!(actions.contains(&Action::HangUp(CALLEE, None)));
    }
}
