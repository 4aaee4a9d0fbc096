//! A phone passes its call on (REFER, RFC 3515): whoever it spoke with hears music while the third is called, and is connected with
//! them; or is given back to the phone, if that still waits. Where somebody else wants it, the third may hear first who is put through.

use std::sync::Arc;

use agent::brain::Handover;

use super::bridge::Bridge;
use super::dial::DialPlan;
use super::end::{End, EndReason};
use super::fork::{self, Fate, Fork};
use super::place::{Entry, Place};
use super::route::Target;
use super::transfer::{self, Decision};
use super::{Action, Found, Input, LegInput, LegNo, NotFound, Phase, Referred, Step, Timer, View};
use super::{ending, entering, supervision};

/// A call that a phone is passing on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Referral {
    /// The phone.
    referrer: LegNo,
    /// Whom it spoke with.
    stays: LegNo,
    /// How both are connected, and who holds whom: so it goes on where it comes to nothing.
    before: Bridge,
    /// `None` while the way to the third is looked for.
    fork: Option<Fork>,
    /// The phone has hung up.
    has_left: bool,
    /// What the third hears first.
    handover: Handover,
    /// The third has answered, and hears it.
    announcing: Option<LegNo>,
}

impl Referral {
    fn new(referrer: LegNo, stays: LegNo, before: Bridge) -> Self {
        let handover = Handover::default();
        Self { referrer, stays, before, fork: None, has_left: false, handover, announcing: None }
    }
}

/// The phone on `referrer` wants the one on `stays` connected with somebody else.
#[must_use]
pub fn begin(referrer: LegNo, stays: LegNo, before: Bridge, to: Referred) -> Step {
    let referral = Referral::new(referrer, stays, before);
    let find = match to {
        Referred::To { uri, replaces } => Action::FindFor(referrer, uri, replaces),
        Referred::Replace(call) => Action::Exchange(stays, call, referrer),
    };
    (Phase::Referring(Box::new(referral)), vec![find])
}

/// The same where nobody of the call asked for it: `leaves` is to be hung up once the other is connected.
#[must_use]
pub fn commanded(leaves: LegNo, stays: LegNo, before: Bridge, handover: Handover, by: Option<String>) -> Step {
    let find = Action::Find(handover.uri.clone(), by);
    let referral = Referral { handover, ..Referral::new(leaves, stays, before) };
    (Phase::Referring(Box::new(referral)), vec![find])
}

/// Somebody has waited in vain: the device of the leg that put them there is called.
#[must_use]
pub fn call_back(stays: LegNo, by: LegNo) -> Step {
    let referral = Referral { has_left: true, ..Referral::new(by, stays, Bridge::connected(by, stays)) };
    (Phase::Referring(Box::new(referral)), vec![Action::CallBack(by)])
}

/// Whoever waited for somebody to answer has passed its call on: `stays` waits in its place. It may have been told already that it rings there.
#[must_use]
pub fn inherit(referrer: LegNo, stays: LegNo, fork: Fork, rings: bool, view: &View<'_>) -> Step {
    let before = Bridge::connected(referrer, stays);
    let referral = Referral { fork: Some(fork), has_left: true, ..Referral::new(referrer, stays, before) };
    // Whoever waited was not answered, and no time ran for them.
    let limit = Action::Arm(Timer::MaxDuration, view.max_duration);
    let mut actions = vec![limit, Action::Part(stays), Action::Music(stays, true)];
    actions.extend(rings.then_some(Action::NotifyRefer(referrer, 180)));
    (Phase::Referring(Box::new(referral)), actions)
}

/// Steps a call that a phone is passing on.
#[must_use]
pub fn step(mut referral: Referral, input: Input, view: &View<'_>) -> Step {
    match input {
        Input::Leg(leg, input) if leg == referral.referrer => on_referrer(referral, &input),
        Input::Leg(leg, input) if leg == referral.stays => match input {
            LegInput::Ended(end) => {
                let end = ending::end_of(&end, view.side(leg));
                over(referral, end, view)
            }
            LegInput::MediaTimedOut => over(referral, End::new(EndReason::MediaTimeout), view),
            LegInput::MediaGone | LegInput::MediaFailed(_) => over(referral, End::new(EndReason::Internal), view),
            LegInput::Held(held) => hold(referral, leg, held),
            _ => stay(referral),
        },
        Input::Leg(leg, input) if referral.announcing == Some(leg) => on_third(referral, leg, &input, view),
        Input::Leg(leg, input) => match &mut referral.fork {
            Some(fork) => {
                let (actions, fate) = fork.step(leg, &input);
                settle(referral, actions, fate, view)
            }
            None => stay(referral),
        },
        Input::Found(Ok(Found::Plan(plan))) => called(referral, plan, view),
        Input::Found(Ok(Found::Place(place))) => {
            let enter = Action::Enter(referral.stays, place);
            (Phase::Referring(Box::new(referral)), vec![enter])
        }
        Input::Found(Ok(Found::Converse(_))) if transfer::may_hand_over(view).is_err() => {
            // Loop Detected (RFC 3261 section 21.4.20).
            give_back(&referral, vec![Action::RejectRefer(referral.referrer, 482)], view)
        }
        Input::Found(Ok(Found::Converse(target))) => converse(&referral, target, view),
        // Both go on with one another.
        Input::Finding => stay(referral),
        // Only agents' calls are passed back.
        Input::Found(Ok(Found::Refer(_))) => {
            give_back(&referral, vec![Action::RejectRefer(referral.referrer, 404)], view)
        }
        Input::Entered(leg, place, entry) => entered(&referral, leg, &place, entry, view),
        Input::Adopted(leg, _) => {
            let away = view.turn_away(leg, 480);
            (Phase::Referring(Box::new(referral)), vec![away])
        }
        Input::Found(Err(NotFound { code, .. })) => {
            // Nobody was told anything yet: the call goes on as it was.
            let refuse = Action::RejectRefer(referral.referrer, code);
            give_back(&referral, vec![refuse], view)
        }
        Input::Fired(Timer::NoAnswer) => match &mut referral.fork {
            Some(fork) => {
                let (actions, fate) = fork.rang_out();
                settle(referral, actions, fate, view)
            }
            None => stay(referral),
        },
        Input::Fired(Timer::MaxDuration) => over(referral, End::new(EndReason::MaxDuration), view),
        Input::Fired(_) => stay(referral),
        Input::Commanded(command) if ending::ends(&command) => over(referral, ending::end_by(&command), view),
        Input::Offered(_) | Input::Deserted | Input::Commanded(_) => stay(referral),
    }
}

fn stay(referral: Referral) -> Step {
    (Phase::Referring(Box::new(referral)), vec![])
}

fn called(mut referral: Referral, plan: Arc<DialPlan>, view: &View<'_>) -> Step {
    let (fork, more, fate) = Fork::begin(plan, view.next_leg());
    referral.fork = Some(fork);
    let mut actions = vec![
        Action::AcceptRefer(referral.referrer),
        Action::Part(referral.referrer),
        Action::Part(referral.stays),
        Action::Music(referral.stays, true),
    ];
    actions.extend(more);
    settle(referral, actions, fate, view)
}

/// Whoever stays talks with an agent instead of the phone.
fn converse(referral: &Referral, target: Target, view: &View<'_>) -> Step {
    let Referral { referrer, stays, .. } = *referral;
    let mut actions = vec![
        Action::AcceptRefer(referrer),
        Action::NotifyRefer(referrer, 200),
        Action::Part(referrer),
        Action::Part(stays),
        Action::Music(stays, false),
    ];
    if !referral.has_left {
        actions.push(Action::HangUp(referrer, None));
    }
    actions.push(Action::Converse(stays, target, referral.handover.clone()));
    actions.extend(supervision::resume(&[stays], view));
    (Phase::Talking, actions)
}

/// Whoever stays has gone to a place, and the phone is told so, by the call that took them in where it is one whose leg they replace; or there
/// was none.
fn entered(referral: &Referral, leg: LegNo, place: &Place, entry: Entry, view: &View<'_>) -> Step {
    let referrer = referral.referrer;
    let mut actions = match place {
        Place::Replace(_) => vec![],
        _ => vec![Action::AcceptRefer(referrer), Action::NotifyRefer(referrer, 200)],
    };
    if !referral.has_left {
        actions.push(Action::HangUp(referrer, None));
    }
    match entering::arrived(leg, place, entry, Some(referrer), view) {
        Ok((phase, more)) => {
            actions.extend(more);
            (phase, actions)
        }
        Err(code) => give_back(referral, vec![Action::RejectRefer(referrer, code)], view),
    }
}

fn on_referrer(mut referral: Referral, input: &LegInput) -> Step {
    if let LegInput::Ended(_) = input {
        referral.has_left = true;
        if referral.fork.is_none() {
            // It did not wait for our answer: nothing was promised.
            let hang_up = vec![Action::HangUp(referral.stays, None)];
            return (Phase::Ending(End::new(EndReason::FarSideHungUp)), hang_up);
        }
    }
    match *input {
        LegInput::Held(held) => {
            let leg = referral.referrer;
            hold(referral, leg, held)
        }
        _ => stay(referral),
    }
}

/// One of both holds, or does not any more. Once a third is called they are parted already, and it counts if they get each other back.
fn hold(mut referral: Referral, leg: LegNo, held: bool) -> Step {
    let actions = if referral.fork.is_none() {
        referral.before.hold(leg, held)
    } else {
        referral.before.note_hold(leg, held);
        vec![]
    };
    (Phase::Referring(Box::new(referral)), actions)
}

/// Steps while the third hears who is put through to them.
fn on_third(referral: Referral, leg: LegNo, input: &LegInput, view: &View<'_>) -> Step {
    match transfer::decision(leg, input) {
        Decision::Takes => connect(&referral, leg, vec![], view),
        Decision::Leaves(mut actions, _) => {
            actions.push(Action::NotifyRefer(referral.referrer, 603));
            give_back(&referral, actions, view)
        }
        Decision::Open(actions) => (Phase::Referring(Box::new(referral)), actions),
    }
}

/// Whoever stays may hold: then the third hears music until they take it back.
fn connect(referral: &Referral, leg: LegNo, mut actions: Vec<Action>, view: &View<'_>) -> Step {
    actions.push(Action::NotifyRefer(referral.referrer, 200));
    if !referral.has_left {
        actions.push(Action::HangUp(referral.referrer, None));
    }
    let bridge = Bridge::taken_up(referral.stays, leg, view);
    actions.extend(bridge.resume(referral.stays));
    (Phase::Bridged(bridge), actions)
}

fn settle(mut referral: Referral, mut actions: Vec<Action>, fate: Fate, view: &View<'_>) -> Step {
    match fate {
        Fate::Open => (Phase::Referring(Box::new(referral)), actions),
        Fate::Progress(_, code, _) => {
            actions.push(Action::NotifyRefer(referral.referrer, code));
            (Phase::Referring(Box::new(referral)), actions)
        }
        Fate::Won(leg) if transfer::is_announced(&referral.handover) => {
            actions.push(transfer::announce(leg, &referral.handover));
            referral.announcing = Some(leg);
            (Phase::Referring(Box::new(referral)), actions)
        }
        Fate::Won(leg) => connect(&referral, leg, actions, view),
        Fate::Lost(result) => {
            actions.push(Action::NotifyRefer(referral.referrer, fork::code_of(result)));
            give_back(&referral, actions, view)
        }
    }
}

/// Both have each other again, on hold where they are; without the phone, there is nobody to speak with.
fn give_back(referral: &Referral, mut actions: Vec<Action>, view: &View<'_>) -> Step {
    if referral.has_left {
        let (phase, more) = ending::begin(End::new(EndReason::TransferFailed), view);
        actions.extend(more);
        return (phase, actions);
    }
    // Until a third was called, nothing was changed.
    if referral.fork.is_some() {
        actions.extend(referral.before.resume(referral.stays));
    }
    (Phase::Bridged(referral.before), actions)
}

/// The call ends: whoever is being called is let go.
fn over(mut referral: Referral, end: End, view: &View<'_>) -> Step {
    let mut actions = referral.fork.as_mut().map(|fork| fork.cancel(None)).unwrap_or_default();
    actions.push(Action::NotifyRefer(referral.referrer, 487));
    let (phase, more) = ending::begin(end, view);
    actions.extend(more);
    (phase, actions)
}

#[cfg(test)]
#[allow(clippy::panic)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::call::dial::{DialBranch, DialGroup};
    use crate::call::route::Target;
    use crate::call::{ConversationEnd, LegView, Role, SignallingEnd, Stage, TransferKind};

    const PHONE: LegNo = LegNo(0);
    const STAYS: LegNo = LegNo(1);
    const THIRD: LegNo = LegNo(2);

    fn stepped(phase: Phase, input: Input, gone: &[LegNo]) -> Step {
        stepped_holding(phase, input, gone, None)
    }

    fn stepped_holding(phase: Phase, input: Input, gone: &[LegNo], holds: Option<LegNo>) -> Step {
        let Phase::Referring(referral) = phase else { panic!("{phase:?}") };
        let legs = [(PHONE, Role::Caller), (STAYS, Role::Callee)].map(|(no, role)| LegView {
            role,
            stage: if gone.contains(&no) { Stage::Over } else { Stage::Here },
            is_up: true,
            holds: holds == Some(no),
            ..LegView::caller(no)
        });
        let target = Target::Echo;
        step(*referral, input, &View::of(&target, &legs))
    }

    fn to(uri: &str) -> Referred {
        Referred::To { uri: uri.to_owned(), replaces: None }
    }

    /// Conforms: RFC 3891 §3 — in an attended transfer the one who stays takes the phone's place in its other call.
    #[test]
    fn whoever_stays_takes_the_phones_place_in_its_other_call() {
        let other = sip::endpoint::CallId(77);
        let begun = || begin(PHONE, STAYS, Bridge::connected(PHONE, STAYS), Referred::Replace(other));
        let (phase, actions) = begun();
        assert_eq!(actions, vec![Action::Exchange(STAYS, other, PHONE)]);
        let given = Input::Entered(STAYS, Place::Replace(other), Entry::Given("b".into()));
        let (phase, actions) = stepped(phase, given, &[]);
        assert!(matches!(phase, Phase::Ending(End { reason: EndReason::Transferred, .. })), "{phase:?}");
        assert!(actions.contains(&Action::HangUp(PHONE, None)), "{actions:?}");
        assert!(!actions.contains(&Action::NotifyRefer(PHONE, 200)), "that says whoever took them in: {actions:?}");
        let nothing = Input::Entered(STAYS, Place::Replace(other), Entry::Nothing(481));
        let (phase, actions) = stepped(begun().0, nothing, &[]);
        assert_eq!(phase, Phase::Bridged(Bridge::connected(PHONE, STAYS)), "nothing has changed");
        assert_eq!(actions, vec![Action::RejectRefer(PHONE, 481)]);
    }

    fn plan() -> Arc<DialPlan> {
        let branches = vec![DialBranch::new("third", "sip:third@b", "sip:a@a")];
        let group = DialGroup { branches, ring_for: Duration::from_secs(20) };
        Arc::new(DialPlan { groups: vec![group], ..DialPlan::default() })
    }

    fn ringing() -> Phase {
        let (phase, actions) = begin(PHONE, STAYS, Bridge::connected(PHONE, STAYS), to("sip:third@b"));
        assert_eq!(actions, vec![Action::FindFor(PHONE, "sip:third@b".into(), None)]);
        let (phase, actions) = stepped(phase, Input::Found(Ok(Found::Plan(plan()))), &[]);
        assert!(actions.starts_with(&[Action::AcceptRefer(PHONE), Action::Part(PHONE), Action::Part(STAYS)]));
        assert!(actions.iter().any(|action| matches!(action, Action::Dial { leg: THIRD, .. })));
        phase
    }

    /// Conforms: RFC 3515 §2.4 — a REFER is taken up, its progress and its success are reported.
    #[test]
    fn whoever_stays_is_connected_with_the_third_and_the_phone_is_told() {
        let (phase, actions) =
            stepped(ringing(), Input::Leg(THIRD, LegInput::Progress { code: 180, early_media: false }), &[]);
        assert_eq!(actions, vec![Action::NotifyRefer(PHONE, 180)]);
        let (phase, actions) = stepped(phase, Input::Leg(THIRD, LegInput::Answered), &[]);
        assert_eq!(phase, Phase::Bridged(Bridge::connected(STAYS, THIRD)));
        for action in [Action::NotifyRefer(PHONE, 200), Action::HangUp(PHONE, None), Action::Connect(STAYS, THIRD)] {
            assert!(actions.contains(&action), "{action:?} of {actions:?}");
        }
    }

    #[test]
    fn a_third_hears_first_who_is_put_through_where_somebody_wants_that() {
        let handover = Handover {
            uri: "sip:third@b".into(),
            kind: TransferKind::Warm,
            summary: "A caller.".into(),
            must_accept: true,
            ..Handover::default()
        };
        let announced = || {
            let (phase, _) = commanded(PHONE, STAYS, Bridge::connected(PHONE, STAYS), handover.clone(), None);
            let (phase, _) = stepped(phase, Input::Found(Ok(Found::Plan(plan()))), &[]);
            let (phase, actions) = stepped(phase, Input::Leg(THIRD, LegInput::Answered), &[]);
            assert_eq!(actions.last(), Some(&transfer::announce(THIRD, &handover)));
            assert!(!actions.contains(&Action::Music(STAYS, false)), "{actions:?}");
            phase
        };
        let decided = |accepted| Input::Leg(THIRD, LegInput::Conversed(ConversationEnd::Announced { accepted }));
        let (phase, actions) = stepped(announced(), decided(true), &[]);
        assert_eq!(phase, Phase::Bridged(Bridge::connected(STAYS, THIRD)));
        assert!(actions.contains(&Action::HangUp(PHONE, None)) && actions.contains(&Action::Connect(STAYS, THIRD)));
        let (phase, actions) = stepped(announced(), decided(false), &[]);
        assert_eq!(phase, Phase::Bridged(Bridge::connected(PHONE, STAYS)));
        assert!(actions.contains(&Action::HangUp(THIRD, None)) && actions.contains(&Action::Connect(PHONE, STAYS)));
    }

    #[test]
    fn a_phone_that_leaves_at_once_is_not_waited_for() {
        let left = Input::Leg(PHONE, LegInput::Ended(SignallingEnd::Remote));
        let (phase, _) = stepped(ringing(), left.clone(), &[PHONE]);
        let (phase, actions) = stepped(phase, Input::Leg(THIRD, LegInput::Answered), &[PHONE]);
        assert_eq!(phase, Phase::Bridged(Bridge::connected(STAYS, THIRD)));
        assert!(!actions.contains(&Action::HangUp(PHONE, None)));
        let (phase, _) = stepped(ringing(), left, &[PHONE]);
        let busy = LegInput::Ended(SignallingEnd::Rejected { code: 486, reason: String::new() });
        let (phase, actions) = stepped(phase, Input::Leg(THIRD, busy), &[PHONE]);
        assert_eq!(phase, Phase::Ending(End::new(EndReason::TransferFailed)));
        assert!(actions.contains(&Action::HangUp(STAYS, None)), "{actions:?}");
    }

    #[test]
    fn a_third_who_is_not_to_be_had_gives_both_back_to_one_another() {
        let busy = LegInput::Ended(SignallingEnd::Rejected { code: 486, reason: String::new() });
        let (phase, actions) = stepped(ringing(), Input::Leg(THIRD, busy), &[]);
        assert_eq!(phase, Phase::Bridged(Bridge::connected(PHONE, STAYS)));
        assert!(actions.contains(&Action::NotifyRefer(PHONE, 486)) && actions.contains(&Action::Connect(PHONE, STAYS)));
        // Where nobody was called yet the call goes on just as it was: caller and callee, and who held whom.
        let before = Bridge::connected(PHONE, STAYS);
        let (phase, _) = begin(PHONE, STAYS, before, to("nobody"));
        let why = NotFound { code: 403, why: "not there".into() };
        let (phase, actions) = stepped(phase, Input::Found(Err(why)), &[]);
        assert_eq!(phase, Phase::Bridged(before));
        assert_eq!(actions, vec![Action::RejectRefer(PHONE, 403)]);
    }

    #[test]
    fn whoever_is_held_as_the_third_is_not_to_be_had_hears_music_until_that_is_taken_back() {
        let busy = LegInput::Ended(SignallingEnd::Rejected { code: 486, reason: String::new() });
        let held = |held| Input::Leg(PHONE, LegInput::Held(held));
        // Phones hold before they pass a call on, while the way is looked for, or while it rings.
        let (looking, actions) = {
            let (phase, _) = begin(PHONE, STAYS, Bridge::connected(PHONE, STAYS), to("sip:third@b"));
            stepped(phase, held(true), &[])
        };
        assert_eq!(actions.last(), Some(&Action::Music(STAYS, true)));
        let (rings, _) = stepped(looking, Input::Found(Ok(Found::Plan(plan()))), &[]);
        for (phase, is_held) in [
            (rings.clone(), true),
            (stepped(rings, held(false), &[]).0, false),
            (stepped(ringing(), held(true), &[]).0, true),
        ] {
            let (phase, actions) = stepped(phase, Input::Leg(THIRD, busy.clone()), &[]);
            assert_eq!(!actions.contains(&Action::Connect(PHONE, STAYS)), is_held, "{actions:?}");
            assert_eq!(!actions.contains(&Action::Music(STAYS, false)), is_held, "{actions:?}");
            let Phase::Bridged(mut bridge) = phase else { panic!("{phase:?}") };
            let back = bridge.hold(PHONE, false);
            assert_eq!(back.contains(&Action::Connect(PHONE, STAYS)), is_held, "{back:?}");
        }
    }

    #[test]
    fn a_third_whom_whoever_stays_holds_hears_music_until_that_is_taken_back() {
        let answered = Input::Leg(THIRD, LegInput::Answered);
        let (phase, actions) = stepped_holding(ringing(), answered.clone(), &[], Some(STAYS));
        assert!(actions.contains(&Action::Music(THIRD, true)), "{actions:?}");
        assert!(!actions.contains(&Action::Connect(STAYS, THIRD)), "{actions:?}");
        let Phase::Bridged(mut bridge) = phase else { panic!("{phase:?}") };
        assert_eq!(bridge.hold(STAYS, false), vec![Action::Music(THIRD, false), Action::Connect(STAYS, THIRD)]);
        // The phone's own hold goes with it.
        let (_, actions) = stepped_holding(ringing(), answered, &[], Some(PHONE));
        assert!(actions.contains(&Action::Connect(STAYS, THIRD)), "{actions:?}");
    }

    #[test]
    fn whoever_stays_and_hangs_up_lets_go_of_the_third() {
        let gone = Input::Leg(STAYS, LegInput::Ended(SignallingEnd::Remote));
        let (phase, actions) = stepped(ringing(), gone, &[STAYS]);
        assert!(matches!(phase, Phase::Ending(_)));
        assert!(actions.contains(&Action::HangUp(THIRD, None)) && actions.contains(&Action::NotifyRefer(PHONE, 487)));
    }
}
