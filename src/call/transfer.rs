//! A call that an agent or a program has is passed on, as they or somebody else want it: the person is called while the caller hears music,
//! and both are connected; or it is another agent, who has the caller at once; or whoever had the caller gets them back, and is told why.

use std::sync::Arc;

use agent::brain::{Handover, TransferKind};

use super::bridge::Bridge;
use super::dial::{BranchResult, DialPlan};
use super::end::{End, EndReason};
use super::fork::{Fate, Fork};
use super::route::Target;
use super::{
    Action, ConversationEnd, Found, Input, LegInput, LegNo, NotFound, Phase, SignallingEnd, Step, Timer, View,
};
use super::{ending, entering, supervision, talking};

/// So often somebody in a call is handed over to an agent or a program: two that send a caller to one another come to an end.
pub const HANDOVERS_LIMIT: usize = 16;

/// A call that is being passed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    caller: LegNo,
    handover: Handover,
    /// Somebody else than the agent wants it: the agent lets go of the line once there is a way to the person.
    is_commanded: bool,
    /// `None` while the way to the person is looked for.
    fork: Option<Fork>,
    /// Whoever sent the call has been asked to call the person itself.
    is_passed_back: bool,
    /// The person has answered, and hears who is put through to them.
    announcing: Option<LegNo>,
}

/// The agent on this leg wants its caller connected.
#[must_use]
pub fn begin(caller: LegNo, handover: Handover) -> Step {
    look_for(caller, handover, false, None)
}

/// Somebody else than the agent wants the caller on this leg connected, on behalf of this device where one is named.
#[must_use]
pub fn commanded(caller: LegNo, handover: Handover, by: Option<String>) -> Step {
    look_for(caller, handover, true, by)
}

fn look_for(caller: LegNo, handover: Handover, is_commanded: bool, by: Option<String>) -> Step {
    let uri = handover.uri.clone();
    // Whom we do not call ourselves we cannot tell anything; and whom a device may call says nothing of what a carrier is asked to.
    let is_ours = is_announced(&handover) || by.is_some();
    let find = if is_ours { Action::Find(uri, by) } else { Action::FindOrPassBack(uri) };
    let transfer = Transfer { caller, handover, is_commanded, fork: None, is_passed_back: false, announcing: None };
    (Phase::Transferring(Box::new(transfer)), vec![find])
}

/// Steps a call that is being passed on.
#[must_use]
pub fn step(mut transfer: Transfer, input: Input, view: &View<'_>) -> Step {
    match input {
        Input::Leg(leg, input) if leg == transfer.caller => on_caller(transfer, input, view),
        Input::Leg(leg, input) if transfer.announcing == Some(leg) => on_person(transfer, leg, &input, view),
        Input::Leg(leg, input) => match &mut transfer.fork {
            Some(fork) => {
                let (actions, fate) = fork.step(leg, &input);
                settle(transfer, actions, fate, view)
            }
            None => stay(transfer),
        },
        Input::Found(Ok(Found::Plan(plan))) => called(transfer, plan, view),
        Input::Found(Ok(Found::Place(place))) => {
            let mut actions = transfer.released();
            actions.push(Action::Enter(transfer.caller, place));
            (Phase::Transferring(Box::new(transfer)), actions)
        }
        Input::Found(Ok(Found::Converse(target))) => hand_over(&transfer, target, view),
        // An agent that has its caller still goes on with them.
        Input::Finding if transfer.is_commanded => stay(transfer),
        Input::Finding => {
            let music = Action::Music(transfer.caller, true);
            (Phase::Transferring(Box::new(transfer)), vec![music])
        }
        Input::Found(Ok(Found::Refer(to))) => {
            let mut actions = transfer.released();
            actions.extend([Action::Music(transfer.caller, true), Action::Refer(transfer.caller, to)]);
            (Phase::Transferring(Box::new(Transfer { is_passed_back: true, ..transfer })), actions)
        }
        Input::Entered(leg, place, entry) => entering::arrived(leg, &place, entry, None, view)
            .unwrap_or_else(|_| back(&transfer, vec![], "there is no room for the caller".to_owned(), view)),
        // The conversation was not even interrupted.
        Input::Found(Err(_)) if transfer.is_commanded => (Phase::Talking, vec![]),
        Input::Found(Err(NotFound { why, .. })) => back(&transfer, vec![], why, view),
        Input::Fired(Timer::NoAnswer) => match &mut transfer.fork {
            Some(fork) => {
                let (actions, fate) = fork.rang_out();
                settle(transfer, actions, fate, view)
            }
            None => stay(transfer),
        },
        Input::Fired(Timer::MaxDuration) => {
            let end = End::new(EndReason::MaxDuration);
            ended(transfer, |view| ending::begin(end, view), view)
        }
        Input::Fired(_) => stay(transfer),
        Input::Commanded(command) if ending::ends(&command) => {
            ended(transfer, |view| ending::begin(ending::end_by(&command), view), view)
        }
        Input::Adopted(leg, _) => {
            let away = view.turn_away(leg, 480);
            (Phase::Transferring(Box::new(transfer)), vec![away])
        }
        Input::Offered(_) | Input::Deserted | Input::Commanded(_) => stay(transfer),
    }
}

fn stay(transfer: Transfer) -> Step {
    (Phase::Transferring(Box::new(transfer)), vec![])
}

fn called(mut transfer: Transfer, plan: Arc<DialPlan>, view: &View<'_>) -> Step {
    let (fork, more, fate) = Fork::begin(plan, view.next_leg());
    transfer.fork = Some(fork);
    let mut actions = transfer.released();
    actions.push(Action::Music(transfer.caller, true));
    actions.extend(more);
    settle(transfer, actions, fate, view)
}

/// The caller goes to another agent, on the line that the former one had. With a caller who has been passed about enough it goes on itself.
fn hand_over(transfer: &Transfer, target: Target, view: &View<'_>) -> Step {
    let caller = transfer.caller;
    match may_hand_over(view) {
        Ok(()) => {
            let converse = Action::Converse(caller, target, transfer.handover.clone());
            let mut actions = vec![Action::Music(caller, false), converse];
            actions.extend(supervision::resume(&[caller], view));
            (Phase::Talking, actions)
        }
        Err(_) if transfer.is_commanded => (Phase::Talking, vec![]),
        Err(why) => back(transfer, vec![], why.to_owned(), view),
    }
}

/// Whether somebody in the call may be handed over once more.
///
/// # Errors
/// Why not, as a clause.
pub(super) fn may_hand_over(view: &View<'_>) -> Result<(), &'static str> {
    if view.handovers < HANDOVERS_LIMIT { Ok(()) } else { Err("the call has been handed over too often") }
}

fn on_caller(transfer: Transfer, input: LegInput, view: &View<'_>) -> Step {
    match input {
        // The agent has the caller still, while it is found out how somebody is reached.
        LegInput::Digit(key) if transfer.is_beside() => {
            let deliver = Action::DeliverDigit(transfer.caller, key);
            (Phase::Transferring(Box::new(transfer)), vec![deliver])
        }
        LegInput::Conversed(ConversationEnd::Transfer(handover)) if transfer.is_beside() => {
            begin(transfer.caller, handover)
        }
        LegInput::Conversed(end) if transfer.is_beside() => match talking::conversed(end, view) {
            (Phase::Talking, actions) => (Phase::Transferring(Box::new(transfer)), actions),
            over => over,
        },
        // It may hang up by itself once it has.
        LegInput::Ended(SignallingEnd::Remote) if transfer.is_passed_back => ended(
            transfer,
            |_| ending::wait(End::new(EndReason::Transferred).with_detail("by whoever sent the call")),
            view,
        ),
        LegInput::Passed(code @ 300.., _) | LegInput::Passed(code @ ..200, true) => {
            back(&transfer, vec![], why_not(BranchResult::Refused(code)).to_owned(), view)
        }
        LegInput::Passed(200..300, true) => {
            let end = End::new(EndReason::Transferred).with_detail("by whoever sent the call");
            ended(transfer, |view| ending::begin(end, view), view)
        }
        LegInput::Ended(end) => {
            let role = view.side(transfer.caller);
            ended(transfer, |view| ending::begin(ending::end_of(&end, role), view), view)
        }
        LegInput::MediaTimedOut => {
            let end = End::new(EndReason::MediaTimeout);
            ended(transfer, |view| ending::begin(end, view), view)
        }
        LegInput::MediaGone | LegInput::MediaFailed(_) => {
            let end = End::new(EndReason::Internal).with_detail("the caller's sound is gone");
            ended(transfer, |view| ending::begin(end, view), view)
        }
        // Keys pressed while music plays are for nobody.
        _ => stay(transfer),
    }
}

/// The call ends: whoever is being called is let go.
fn ended(mut transfer: Transfer, how: impl FnOnce(&View<'_>) -> Step, view: &View<'_>) -> Step {
    let mut actions = transfer.fork.as_mut().map(|fork| fork.cancel(None)).unwrap_or_default();
    let (phase, more) = how(view);
    actions.extend(more);
    (phase, actions)
}

fn settle(mut transfer: Transfer, mut actions: Vec<Action>, fate: Fate, view: &View<'_>) -> Step {
    match fate {
        Fate::Open | Fate::Progress(..) => (Phase::Transferring(Box::new(transfer)), actions),
        Fate::Won(leg) if is_announced(&transfer.handover) => {
            actions.push(announce(leg, &transfer.handover));
            transfer.announcing = Some(leg);
            (Phase::Transferring(Box::new(transfer)), actions)
        }
        Fate::Won(leg) => connect(&transfer, leg, actions, view),
        Fate::Lost(result) => back(&transfer, actions, why_not(result).to_owned(), view),
    }
}

impl Transfer {
    /// Whether the agent goes on meanwhile: somebody else wants it, and there is no way yet.
    fn is_beside(&self) -> bool {
        self.is_commanded && self.fork.is_none() && !self.is_passed_back
    }

    /// Takes the line from the agent, where it has not given it up itself.
    fn released(&self) -> Vec<Action> {
        if self.is_commanded { vec![Action::Release(self.caller)] } else { vec![] }
    }
}

/// Whether the person is told first who is put through.
pub(super) fn is_announced(handover: &Handover) -> bool {
    handover.kind == TransferKind::Warm && (handover.must_accept || !handover.summary.is_empty())
}

/// Tells the person on this leg who is put through.
pub(super) fn announce(leg: LegNo, handover: &Handover) -> Action {
    Action::Announce { leg, summary: handover.summary.clone(), must_accept: handover.must_accept }
}

/// What a person does who hears who is put through to them.
pub(super) enum Decision {
    /// They hear it still, or think.
    Open(Vec<Action>),
    /// They take the call.
    Takes,
    /// They do not, or are gone: what is to be done with their leg, and why as a clause.
    Leaves(Vec<Action>, &'static str),
}

/// What input of the leg of somebody who hears who is put through to them comes to.
pub(super) fn decision(leg: LegNo, input: &LegInput) -> Decision {
    let let_go = || vec![Action::HangUp(leg, None)];
    match input {
        LegInput::Conversed(ConversationEnd::Announced { accepted: true }) => Decision::Takes,
        LegInput::Conversed(ConversationEnd::Announced { accepted: false }) => {
            Decision::Leaves(let_go(), "the person does not take the call")
        }
        LegInput::Ended(_) => Decision::Leaves(vec![], "the person hung up"),
        LegInput::MediaTimedOut | LegInput::MediaGone | LegInput::MediaFailed(_) => {
            Decision::Leaves(let_go(), "the person cannot be heard")
        }
        // A key that came by INFO.
        LegInput::Digit(key) => Decision::Open(vec![Action::DeliverDigit(leg, *key)]),
        _ => Decision::Open(vec![]),
    }
}

/// Steps while the person hears who is put through to them.
fn on_person(transfer: Transfer, leg: LegNo, input: &LegInput, view: &View<'_>) -> Step {
    match decision(leg, input) {
        Decision::Takes => connect(&transfer, leg, vec![], view),
        Decision::Leaves(actions, why) => back(&transfer, actions, why.to_owned(), view),
        Decision::Open(actions) => (Phase::Transferring(Box::new(transfer)), actions),
    }
}

/// A caller who holds is not heard by the person, who hears music until they take it back.
fn connect(transfer: &Transfer, leg: LegNo, mut actions: Vec<Action>, view: &View<'_>) -> Step {
    let bridge = Bridge::taken_up(transfer.caller, leg, view);
    actions.extend(bridge.resume(transfer.caller));
    (Phase::Bridged(bridge), actions)
}

/// The agent gets the caller back, and whoever supervises both of them.
fn back(transfer: &Transfer, mut actions: Vec<Action>, why: String, view: &View<'_>) -> Step {
    actions.push(Action::Music(transfer.caller, false));
    actions.push(Action::ReturnToAgent(transfer.caller, why));
    actions.extend(supervision::resume(&[transfer.caller], view));
    (Phase::Talking, actions)
}

/// Why somebody is not to be had, as a clause.
fn why_not(result: BranchResult) -> &'static str {
    match result {
        BranchResult::Refused(486 | 600) => "the person is busy",
        BranchResult::Refused(603) => "the person declined",
        BranchResult::Refused(404 | 604 | 410) => "nobody is there of that name",
        BranchResult::Refused(480 | 408) | BranchResult::NoAnswer => "the person does not answer",
        BranchResult::Refused(_) | BranchResult::Unreachable => "the person cannot be reached",
        BranchResult::Answered | BranchResult::Cancelled => "the call was taken back",
    }
}

#[cfg(test)]
#[allow(clippy::panic)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::call::dial::{DialBranch, DialGroup};
    use crate::call::end::{End, EndReason};
    use crate::call::route::Target;
    use crate::call::{LegView, SignallingEnd, Stage};

    const CALLER: LegNo = LegNo(0);
    const PERSON: LegNo = LegNo(1);
    const UP: LegView = LegView { is_up: true, ..LegView::caller(CALLER) };

    fn plan() -> Arc<DialPlan> {
        let branches = vec![DialBranch::new("person", "sip:person@b", "sip:desk@a")];
        let group = DialGroup { branches, ring_for: Duration::from_secs(20) };
        Arc::new(DialPlan { groups: vec![group], ..DialPlan::default() })
    }

    fn stepped(phase: Phase, input: Input, legs: &[LegView]) -> Step {
        let Phase::Transferring(transfer) = phase else { panic!("{phase:?}") };
        let target = Target::Agent("desk".into());
        step(*transfer, input, &View::of(&target, legs))
    }

    fn ringing() -> Phase {
        let (phase, actions) = begin(CALLER, Handover { uri: "sip:person@b".into(), ..Handover::default() });
        assert_eq!(actions, vec![Action::FindOrPassBack("sip:person@b".into())]);
        let (phase, actions) = stepped(phase, Input::Found(Ok(Found::Plan(plan()))), &[UP]);
        assert_eq!(actions.first(), Some(&Action::Music(CALLER, true)), "the caller hears music");
        assert!(actions.iter().any(|action| matches!(action, Action::Dial { leg: PERSON, .. })));
        phase
    }

    #[test]
    fn whoever_answers_is_connected_and_the_music_ends() {
        let (phase, actions) = stepped(ringing(), Input::Leg(PERSON, LegInput::Answered), &[UP]);
        assert_eq!(phase, Phase::Bridged(Bridge::connected(CALLER, PERSON)));
        assert!(actions.contains(&Action::Music(CALLER, false)), "{actions:?}");
        assert_eq!(actions.last(), Some(&Action::Connect(CALLER, PERSON)));
    }

    #[test]
    fn a_person_whom_the_caller_holds_hears_music_until_they_take_that_back() {
        let holds = LegView { holds: true, ..UP };
        let (phase, actions) = stepped(ringing(), Input::Leg(PERSON, LegInput::Answered), &[holds]);
        assert_eq!(actions.last(), Some(&Action::Music(PERSON, true)), "{actions:?}");
        let Phase::Bridged(mut bridge) = phase else { panic!("{phase:?}") };
        let back = bridge.hold(CALLER, false);
        assert_eq!(back, vec![Action::Music(PERSON, false), Action::Connect(CALLER, PERSON)]);
    }

    #[test]
    fn a_person_who_must_accept_decides_and_the_caller_hears_music_until_then() {
        let handover = Handover {
            uri: "sip:person@b".into(),
            kind: TransferKind::Warm,
            summary: "A caller for you.".into(),
            must_accept: true,
            ..Handover::default()
        };
        let answered = || {
            let (phase, _) = begin(CALLER, handover.clone());
            let (phase, _) = stepped(phase, Input::Found(Ok(Found::Plan(plan()))), &[UP]);
            let (phase, actions) = stepped(phase, Input::Leg(PERSON, LegInput::Answered), &[UP]);
            assert!(
                actions.iter().any(|action| matches!(action, Action::Announce { leg: PERSON, must_accept: true, .. }))
            );
            assert!(!actions.contains(&Action::Music(CALLER, false)), "{actions:?}");
            phase
        };
        let decided = |accepted| Input::Leg(PERSON, LegInput::Conversed(ConversationEnd::Announced { accepted }));
        let (phase, actions) = stepped(answered(), decided(true), &[UP]);
        assert_eq!(phase, Phase::Bridged(Bridge::connected(CALLER, PERSON)));
        assert_eq!(
            (actions.first(), actions.last()),
            (Some(&Action::Music(CALLER, false)), Some(&Action::Connect(CALLER, PERSON)))
        );
        let (phase, actions) = stepped(answered(), decided(false), &[UP]);
        assert_eq!((phase, actions.first()), (Phase::Talking, Some(&Action::HangUp(PERSON, None))));
        let (phase, actions) = stepped(answered(), Input::Leg(PERSON, LegInput::Ended(SignallingEnd::Remote)), &[UP]);
        assert_eq!(phase, Phase::Talking);
        assert!(matches!(actions.last(), Some(Action::ReturnToAgent(CALLER, _))), "{actions:?}");
    }

    #[test]
    fn whoever_else_wants_it_takes_the_line_from_the_agent_only_once_there_is_a_way() {
        let (phase, actions) = commanded(CALLER, Handover::blind("nobody"), None);
        assert_eq!(actions, vec![Action::FindOrPassBack("nobody".into())]);
        let nobody = NotFound { code: 404, why: "nobody is called that".into() };
        assert_eq!(stepped(phase.clone(), Input::Found(Err(nobody)), &[UP]), (Phase::Talking, vec![]));
        let (_, actions) = stepped(phase, Input::Found(Ok(Found::Plan(plan()))), &[UP]);
        assert!(actions.starts_with(&[Action::Release(CALLER), Action::Music(CALLER, true)]), "{actions:?}");
    }

    fn next_agent() -> Target {
        Target::Agent("sales".into())
    }

    fn found() -> Input {
        Input::Found(Ok(Found::Converse(next_agent())))
    }

    #[test]
    fn another_agent_has_the_caller_at_once_and_knows_what_the_handover_says() {
        let handover = Handover { summary: "A lamp.".into(), ..Handover::blind("sales") };
        let (phase, _) = begin(CALLER, handover.clone());
        let (phase, actions) = stepped(phase, Input::Finding, &[UP]);
        assert_eq!(actions, vec![Action::Music(CALLER, true)], "it is loaded meanwhile");
        let (phase, actions) = stepped(phase, found(), &[UP]);
        assert_eq!(phase, Phase::Talking);
        assert_eq!(
            actions,
            vec![Action::Music(CALLER, false), Action::Converse(CALLER, next_agent(), handover)],
            "nobody is called, and nobody takes the line from it"
        );
    }

    #[test]
    fn an_agent_that_cannot_take_the_caller_leaves_them_where_they_are() {
        let why = NotFound { code: 480, why: "they cannot be reached now".into() };
        let (phase, actions) =
            stepped(begin(CALLER, Handover::blind("sales")).0, Input::Found(Err(why.clone())), &[UP]);
        assert_eq!(phase, Phase::Talking);
        assert_eq!(actions.last(), Some(&Action::ReturnToAgent(CALLER, why.why.clone())));
        let (phase, _) = commanded(CALLER, Handover::blind("sales"), None);
        let (phase, actions) = stepped(phase, Input::Finding, &[UP]);
        assert!(actions.is_empty(), "the agent goes on: {actions:?}");
        assert_eq!(stepped(phase, Input::Found(Err(why)), &[UP]), (Phase::Talking, vec![]));
    }

    #[test]
    fn a_caller_is_passed_about_among_agents_only_so_often() {
        let target = Target::Agent("desk".into());
        let stepped = |phase: Phase, handovers| {
            let Phase::Transferring(transfer) = phase else { panic!("{phase:?}") };
            step(*transfer, found(), &View { handovers, ..View::of(&target, &[UP]) })
        };
        let (own, _) = begin(CALLER, Handover::blind("sales"));
        let (_, actions) = stepped(own.clone(), HANDOVERS_LIMIT - 1);
        assert!(actions.iter().any(|action| matches!(action, Action::Converse(..))), "{actions:?}");
        let (phase, actions) = stepped(own, HANDOVERS_LIMIT);
        assert_eq!(phase, Phase::Talking);
        let why = "the call has been handed over too often".to_owned();
        assert_eq!(actions.last(), Some(&Action::ReturnToAgent(CALLER, why)));
        let (asked, _) = commanded(CALLER, Handover::blind("sales"), None);
        assert_eq!(stepped(asked, HANDOVERS_LIMIT), (Phase::Talking, vec![]), "the agent is not even interrupted");
    }

    #[test]
    fn an_agent_that_has_its_caller_still_while_the_next_is_loaded_hears_keys_and_may_end_the_call() {
        let looking = || stepped(commanded(CALLER, Handover::blind("sales"), None).0, Input::Finding, &[UP]).0;
        let (_, actions) = stepped(looking(), Input::Leg(CALLER, LegInput::Digit('5')), &[UP]);
        assert_eq!(actions, vec![Action::DeliverDigit(CALLER, '5')]);
        let conversed = |end| Input::Leg(CALLER, LegInput::Conversed(end));
        let (phase, _) = stepped(looking(), conversed(ConversationEnd::Done("goodbye".into())), &[UP]);
        assert!(matches!(phase, Phase::Ending(End { reason: EndReason::AgentHungUp, .. })), "{phase:?}");
        let own = conversed(ConversationEnd::Transfer(Handover::blind("other")));
        assert_eq!(stepped(looking(), own, &[UP]), begin(CALLER, Handover::blind("other")));
        let gone = LegView { stage: Stage::Over, ..UP };
        let left = Input::Leg(CALLER, LegInput::Ended(SignallingEnd::Remote));
        assert!(matches!(stepped(looking(), left, &[gone]).0, Phase::Ending(_)));
    }

    #[test]
    fn a_key_by_info_reaches_whoever_asks_the_person() {
        let key = LegInput::Digit('1');
        let Decision::Open(actions) = decision(PERSON, &key) else { panic!("nothing is decided by that") };
        assert_eq!(actions, vec![Action::DeliverDigit(PERSON, '1')]);
    }

    /// Conforms: RFC 3515 §2.4 — a REFER of ours is followed by its reports: success ends the call, failure gives the caller back.
    #[test]
    fn whoever_sent_the_call_may_be_asked_to_pass_it_on() {
        let passed = || {
            let (phase, _) = begin(CALLER, Handover { uri: "+4930123".into(), ..Handover::default() });
            let (phase, actions) = stepped(phase, Input::Found(Ok(Found::Refer("sip:+4930123@carrier".into()))), &[UP]);
            assert_eq!(actions.last(), Some(&Action::Refer(CALLER, "sip:+4930123@carrier".into())));
            let (phase, actions) = stepped(phase, Input::Leg(CALLER, LegInput::Passed(202, false)), &[UP]);
            assert!(actions.is_empty());
            stepped(phase, Input::Leg(CALLER, LegInput::Passed(180, false)), &[UP]).0
        };
        let transferred = |phase| matches!(phase, Phase::Ending(End { reason: EndReason::Transferred, .. }));
        let (phase, actions) = stepped(passed(), Input::Leg(CALLER, LegInput::Passed(200, true)), &[UP]);
        assert!(transferred(phase) && actions.contains(&Action::HangUp(CALLER, None)), "{actions:?}");
        let gone = LegView { stage: Stage::Over, ..UP };
        let left = Input::Leg(CALLER, LegInput::Ended(SignallingEnd::Remote));
        assert!(transferred(stepped(passed(), left, &[gone]).0));
        for (code, is_final) in [(486, true), (603, true), (405, true), (180, true)] {
            let (phase, actions) = stepped(passed(), Input::Leg(CALLER, LegInput::Passed(code, is_final)), &[UP]);
            assert_eq!(phase, Phase::Talking);
            assert!(matches!(actions.last(), Some(Action::ReturnToAgent(CALLER, _))), "{actions:?}");
        }
    }

    #[test]
    fn the_agent_gets_the_caller_back_and_is_told_why() {
        let busy = LegInput::Ended(SignallingEnd::Rejected { code: 486, reason: "Busy Here".into() });
        let (phase, actions) = stepped(ringing(), Input::Leg(PERSON, busy), &[UP]);
        assert_eq!(phase, Phase::Talking);
        assert_eq!(actions.last(), Some(&Action::ReturnToAgent(CALLER, "the person is busy".into())));
        let (phase, _) = begin(CALLER, Handover::default());
        let (phase, actions) =
            stepped(phase, Input::Found(Err(NotFound { code: 404, why: "nobody is called that".into() })), &[UP]);
        assert_eq!(phase, Phase::Talking);
        assert_eq!(actions.last(), Some(&Action::ReturnToAgent(CALLER, "nobody is called that".into())));
        let (phase, actions) = stepped(ringing(), Input::Fired(Timer::NoAnswer), &[UP]);
        assert_eq!(phase, Phase::Talking);
        assert!(actions.contains(&Action::HangUp(PERSON, None)), "{actions:?}");
    }

    #[test]
    fn a_caller_who_hangs_up_lets_go_of_whoever_was_called() {
        let gone = LegView { stage: Stage::Over, ..UP };
        let (phase, actions) = stepped(ringing(), Input::Leg(CALLER, LegInput::Ended(SignallingEnd::Remote)), &[gone]);
        assert_eq!(phase, Phase::Ending(End::new(EndReason::CallerHungUp)));
        assert!(actions.contains(&Action::HangUp(PERSON, None)), "{actions:?}");
    }
}
