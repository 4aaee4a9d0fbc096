//! Somebody is being called: for a caller who waits, or, where the call is one that we place, for nobody yet. One that is placed for a user of
//! ours (`Target::Dial`) is both, one after the other: their phone is called, and once it answers it waits for whom they want.

use std::sync::Arc;
use std::time::Duration;

use super::bridge::Bridge;
use super::dial::{BranchResult, COMPLETED_ELSEWHERE, DialPlan};
use super::end::{End, EndReason};
use super::fork::{self, Fate, Fork};
use super::place::Errand;
use super::progress_tone::ProgressTone;
use super::route::Target;
use super::{
    Action, Command, Input, LegInput, LegNo, Phase, SignallingEnd, Step, Timer, View, ending, entering, referral,
};

/// Somebody is being called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dialing {
    fork: Fork,
    /// Who waits for somebody to answer.
    caller: Option<Waiting>,
    /// Nobody is to be had, and whoever waits hears that: how the call ends, and the status that tells why.
    lost: Option<(End, u16)>,
}

/// Whoever is up and waited in vain hears that nobody is to be had for so long, and is hung up.
pub const TOLD_FOR: Duration = Duration::from_secs(3);

/// Somebody who waits for another to answer.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Waiting {
    leg: LegNo,
    /// What they were told last.
    told: u16,
    /// Their sound is open already, for early media.
    is_open: bool,
    /// Whose early media they hear.
    hears: Option<LegNo>,
    /// They are a user of ours whose phone was called first: it is up, and what goes on it is told by tones.
    is_up: bool,
}

impl Waiting {
    fn new(leg: LegNo) -> Self {
        Self { leg, told: 100, is_open: false, hears: None, is_up: false }
    }

    fn up(leg: LegNo) -> Self {
        Self { is_open: true, is_up: true, ..Self::new(leg) }
    }

    /// Whoever is called alone is heard before they answer: a carrier's announcement, or its own ringing.
    fn hear(&mut self, leg: LegNo) -> Vec<Action> {
        if self.hears.replace(leg) == Some(leg) {
            return vec![];
        }
        self.told = 183;
        let opens = !std::mem::replace(&mut self.is_open, true);
        let open = opens.then_some(Action::AnswerEarly(self.leg));
        let quiet = self.is_up.then_some(Action::Signal(self.leg, None));
        open.into_iter().chain(quiet).chain([Action::Connect(self.leg, leg)]).collect()
    }

    /// They are told that it rings, not more: 181 to 183 of one branch say nothing of the others. Whom they heard before may be another, who
    /// is called no more.
    fn rings(&mut self, leg: LegNo, code: u16) -> Vec<Action> {
        let is_news = self.told < 180 || self.hears.is_some_and(|heard| heard != leg);
        if code != 180 || !is_news {
            return vec![];
        }
        (self.told, self.hears) = (code, None);
        if self.is_up {
            return vec![Action::Part(self.leg), Action::Signal(self.leg, Some(ProgressTone::Ringing))];
        }
        vec![Action::Ring(self.leg, code)]
    }

    /// `callee` has answered.
    fn connect(&self, callee: LegNo, view: &View<'_>) -> Step {
        if !self.is_up {
            return (Phase::Bridged(Bridge::new(self.leg, callee)), vec![Action::Answer(self.leg)]);
        }
        let (bridge, more) = Bridge::new(self.leg, callee).connected_now(view);
        let mut actions = vec![Action::Signal(self.leg, None), Action::Arm(Timer::MaxDuration, view.max_duration)];
        actions.extend(more);
        (Phase::Bridged(bridge), actions)
    }

    /// They are let go, with this status where they were not answered.
    fn let_go(&self, code: u16) -> Action {
        if self.is_up { Action::HangUp(self.leg, Some(fork::cause_of(code))) } else { Action::Reject(self.leg, code) }
    }
}

/// The first step of a call that we place.
#[must_use]
pub fn place(plan: Arc<DialPlan>) -> Step {
    let (fork, actions, fate) = Fork::begin(plan, LegNo::FIRST);
    settle(Dialing { fork, caller: None, lost: None }, actions, fate, None)
}

/// The first step of a call whose caller wants somebody else.
#[must_use]
pub fn for_caller(plan: Arc<DialPlan>) -> Step {
    let (fork, actions, fate) = Fork::begin(plan, LegNo::FIRST.next());
    settle(Dialing { fork, caller: Some(Waiting::new(LegNo::FIRST)), lost: None }, actions, fate, None)
}

/// The phone of a user of ours has answered: whom they want is called.
fn for_user(user: LegNo, plan: Arc<DialPlan>, view: &View<'_>) -> Step {
    let others_from = view.next_leg();
    let (fork, more, fate) = Fork::begin(plan, others_from);
    let mut actions = vec![Action::CallsFrom(user, others_from)];
    actions.extend(more);
    settle(Dialing { fork, caller: Some(Waiting::up(user)), lost: None }, actions, fate, Some((None, view)))
}

/// Steps a call in which somebody is being called.
#[must_use]
pub fn step(mut dialing: Dialing, input: Input, view: &View<'_>) -> Step {
    if dialing.lost.is_some() {
        return told(dialing, &input, view);
    }
    match input {
        Input::Leg(leg, LegInput::Ended(end)) if dialing.is_caller(leg) => {
            let mut actions = dialing.fork.cancel(None);
            let end = match end {
                // Of one whose phone was called first, which says BYE.
                SignallingEnd::Remote => End::new(EndReason::CallerCancelled),
                end => ending::end_of(&end, view.side(leg)),
            };
            let (phase, more) = ending::wait(end);
            actions.extend(more);
            (phase, actions)
        }
        Input::Leg(leg, input) if dialing.is_caller(leg) => on_caller(dialing, &input, view),
        Input::Leg(leg, input) => {
            let (actions, fate) = dialing.fork.step(leg, &input);
            settle(dialing, actions, fate, Some((Some(&input), view)))
        }
        Input::Fired(Timer::NoAnswer) => {
            let (actions, fate) = dialing.fork.rang_out();
            settle(dialing, actions, fate, Some((None, view)))
        }
        Input::Adopted(leg, errand) => adopted(dialing, leg, errand, view),
        Input::Commanded(command) if ending::ends(&command) => {
            let mut actions = dialing.fork.cancel(None);
            let code = if command == Command::ShutDown { 503 } else { 480 };
            actions.extend(dialing.caller.iter().map(|waiting| waiting.let_go(code)));
            let (phase, more) = ending::begin(ending::end_by(&command), view);
            actions.extend(more);
            (phase, actions)
        }
        Input::Fired(_)
        | Input::Finding
        | Input::Offered(_)
        | Input::Deserted
        | Input::Found(_)
        | Input::Entered(..)
        | Input::Commanded(_) => (Phase::Dialing(Box::new(dialing)), vec![]),
    }
}

/// What a caller who waits brings, besides their end: of one who is up, that there is nobody to be heard any more.
fn on_caller(mut dialing: Dialing, input: &LegInput, view: &View<'_>) -> Step {
    let end = match input {
        LegInput::MediaTimedOut => End::new(EndReason::MediaTimeout),
        LegInput::MediaGone => End::new(EndReason::Internal).with_detail("the media engine is gone"),
        LegInput::MediaFailed(why) => End::new(EndReason::NotAcceptable).with_detail(why.clone()),
        _ => return (Phase::Dialing(Box::new(dialing)), vec![]),
    };
    let mut actions = dialing.fork.cancel(None);
    let (phase, more) = ending::begin(end, view);
    actions.extend(more);
    (phase, actions)
}

/// Steps while whoever waited hears that nobody is to be had.
fn told(dialing: Dialing, input: &Input, view: &View<'_>) -> Step {
    let has_heard = match input {
        Input::Fired(Timer::Bye) => true,
        Input::Commanded(command) => ending::ends(command),
        Input::Leg(leg, LegInput::Ended(_) | LegInput::MediaTimedOut | LegInput::MediaGone) => dialing.is_caller(*leg),
        Input::Adopted(leg, _) => return (Phase::Dialing(Box::new(dialing)), vec![view.turn_away(*leg, 480)]),
        _ => false,
    };
    match &dialing {
        Dialing { lost: Some((end, code)), caller: Some(waiting), .. } if has_heard => {
            let mut actions = vec![waiting.let_go(*code)];
            let (phase, more) = ending::begin(end.clone(), view);
            actions.extend(more);
            (phase, actions)
        }
        _ => (Phase::Dialing(Box::new(dialing)), vec![]),
    }
}

/// Somebody answers in the place of those who ring; or whoever waited has passed its call on meanwhile.
fn adopted(mut dialing: Dialing, leg: LegNo, errand: Errand, view: &View<'_>) -> Step {
    let picks_up = match errand {
        Errand::Pickup => true,
        Errand::Replace(replaced) => dialing.fork.holds(replaced),
        _ => false,
    };
    match dialing.caller {
        Some(waiting) if picks_up => {
            let mut actions = dialing.fork.cancel(Some(COMPLETED_ELSEWHERE));
            if !view.is_up(leg) {
                actions.push(Action::Answer(leg));
            }
            let (phase, more) = waiting.connect(leg, view);
            actions.extend(more);
            if let Errand::Replace(replaced) = errand {
                actions.push(Action::NotifyRefer(replaced, 200));
            }
            (phase, actions)
        }
        Some(waiting) if errand == Errand::Replace(waiting.leg) && view.is_up(leg) => {
            let rings = waiting.told >= 180;
            let mut step = referral::inherit(waiting.leg, leg, dialing.fork, rings, view);
            step.1.push(waiting.let_go(487));
            step
        }
        _ => (Phase::Dialing(Box::new(dialing)), vec![view.turn_away(leg, 480)]),
    }
}

impl Dialing {
    fn is_caller(&self, leg: LegNo) -> bool {
        self.caller.as_ref().is_some_and(|waiting| waiting.leg == leg)
    }
}

/// What a step of the fork came to; `why`: by which input of a leg's, where it was one. Before the first input nobody has answered.
fn settle(
    mut dialing: Dialing,
    mut actions: Vec<Action>,
    fate: Fate,
    why: Option<(Option<&LegInput>, &View<'_>)>,
) -> Step {
    match fate {
        Fate::Open => (Phase::Dialing(Box::new(dialing)), actions),
        Fate::Progress(leg, code, is_heard) => {
            let is_alone = dialing.fork.has_only(leg);
            if let Some(waiting) = &mut dialing.caller {
                actions.extend(if is_heard && is_alone { waiting.hear(leg) } else { waiting.rings(leg, code) });
            }
            (Phase::Dialing(Box::new(dialing)), actions)
        }
        Fate::Won(leg) if let (Some(waiting), Some((_, view))) = (&dialing.caller, why) => {
            let (phase, more) = waiting.connect(leg, view);
            actions.extend(more);
            (phase, actions)
        }
        Fate::Won(leg) if let Some((_, view @ View { target: Target::Dial(plan), .. })) = why => {
            let (phase, more) = for_user(leg, Arc::clone(plan), view);
            actions.extend(more);
            (phase, actions)
        }
        Fate::Won(leg) if let Some((_, View { target: Target::Place(place), max_duration, .. })) = why => {
            actions.push(Action::Arm(Timer::MaxDuration, *max_duration));
            let (phase, more) = entering::begin(leg, place.clone());
            actions.extend(more);
            (phase, actions)
        }
        Fate::Won(leg) => {
            let max_duration = why.map(|(_, view)| view.max_duration).unwrap_or_default();
            actions.push(Action::Arm(Timer::MaxDuration, max_duration));
            actions.push(Action::StartConversation(leg));
            (Phase::Talking, actions)
        }
        Fate::Lost(result) => {
            let end = end_of(result, why.and_then(|(input, _)| input));
            let is_users =
                dialing.caller.is_none() && why.is_some_and(|(_, view)| matches!(view.target, Target::Dial(_)));
            let end = if is_users { given_up(result, end) } else { end };
            if let Some(waiting) = dialing.caller.as_ref().filter(|waiting| waiting.is_up) {
                // The tone goes on until they are hung up; the status is told with that.
                actions.extend([Action::Part(waiting.leg), Action::Signal(waiting.leg, Some(ProgressTone::Busy))]);
                actions.push(Action::Arm(Timer::Bye, TOLD_FOR));
                dialing.lost = Some((end, fork::code_of(result)));
                return (Phase::Dialing(Box::new(dialing)), actions);
            }
            actions.extend(dialing.caller.iter().map(|waiting| waiting.let_go(fork::code_of(result))));
            let (phase, more) = ending::wait(end);
            actions.extend(more);
            (phase, actions)
        }
    }
}

/// The end of a call that a user has placed from their own phone and did not take there: nobody else was called yet.
fn given_up(result: BranchResult, end: End) -> End {
    let why = match (result, end.detail.as_str()) {
        (BranchResult::NoAnswer, "") => "not answered",
        (_, "") => end.reason.as_str(),
        (_, detail) => detail,
    };
    let reason = if result == BranchResult::Unreachable { end.reason } else { EndReason::CallerCancelled };
    End::new(reason).with_detail(format!("their own phone: {why}"))
}

/// The end of a call for which nobody was to be had.
fn end_of(result: BranchResult, why: Option<&LegInput>) -> End {
    let detail = match why {
        Some(LegInput::Ended(SignallingEnd::Rejected { code, reason })) => format!("{code} {reason}"),
        Some(LegInput::Ended(SignallingEnd::NotPlaced(why) | SignallingEnd::TransportFailed(why))) => why.clone(),
        Some(LegInput::MediaFailed(why)) => why.clone(),
        Some(LegInput::Ended(SignallingEnd::TimedOut)) => "no response".to_owned(),
        _ => String::new(),
    };
    let reason = match result {
        BranchResult::Refused(486 | 600) => EndReason::Busy,
        BranchResult::Refused(480 | 408) | BranchResult::NoAnswer => EndReason::NoAnswer,
        BranchResult::Refused(488) if matches!(why, Some(LegInput::MediaFailed(_))) => EndReason::NotAcceptable,
        BranchResult::Refused(_) => EndReason::Refused,
        BranchResult::Unreachable => EndReason::Unreachable,
        BranchResult::Answered | BranchResult::Cancelled => EndReason::CallerCancelled,
    };
    End::new(reason).with_detail(detail.trim_end())
}

#[cfg(test)]
#[allow(clippy::panic)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::call::LegView;
    use crate::call::dial::{DialBranch, DialGroup};

    const CALLER: LegNo = LegNo(0);
    const FIRST: LegNo = LegNo(1);
    const SECOND: LegNo = LegNo(2);

    fn stepped(phase: Phase, input: Input) -> Step {
        let Phase::Dialing(dialing) = phase else { panic!("{phase:?}") };
        let legs = [LegView::caller(CALLER)];
        step(*dialing, input, &View::of(&Target::Echo, &legs))
    }

    fn in_turn() -> Arc<DialPlan> {
        let group = |name: &str| DialGroup {
            branches: vec![DialBranch::new(name, "sip:a@b", "sip:c@d")],
            ring_for: Duration::from_secs(20),
        };
        Arc::new(DialPlan { groups: ["one", "other"].map(group).to_vec(), ..DialPlan::default() })
    }

    fn early(leg: LegNo, code: u16, early_media: bool) -> Input {
        Input::Leg(leg, LegInput::Progress { code, early_media })
    }

    fn fails(leg: LegNo) -> Input {
        Input::Leg(leg, LegInput::Ended(SignallingEnd::Rejected { code: 503, reason: String::new() }))
    }

    /// A user's phone is up, and calls by this plan: the step that its answer makes.
    fn answered_by_user() -> Step {
        let own = DialGroup {
            branches: vec![DialBranch::new("device a/1", "sip:a@b", "sip:c@d")],
            ring_for: Duration::from_secs(20),
        };
        let (phase, _) = place(Arc::new(DialPlan { groups: vec![own], ..DialPlan::default() }));
        let Phase::Dialing(dialing) = phase else { panic!("{phase:?}") };
        let target = Target::Dial(in_turn());
        let legs = [LegView { is_up: true, ..LegView::caller(CALLER) }];
        step(*dialing, Input::Leg(CALLER, LegInput::Answered), &View::of(&target, &legs))
    }

    fn stepped_up(phase: Phase, input: Input) -> Step {
        let Phase::Dialing(dialing) = phase else { panic!("{phase:?}") };
        let legs =
            [LegView { is_up: true, ..LegView::caller(CALLER) }, LegView { is_up: true, ..LegView::caller(FIRST) }];
        let target = Target::Dial(in_turn());
        step(*dialing, input, &View::of(&target, &legs))
    }

    fn has_dialled(actions: &[Action], wanted: LegNo) -> bool {
        actions.iter().any(|action| matches!(action, Action::Dial { leg, .. } if *leg == wanted))
    }

    #[test]
    fn a_user_whose_phone_answers_hears_ringing_and_then_whom_they_want() {
        let (phase, actions) = answered_by_user();
        assert!(actions.contains(&Action::CallsFrom(CALLER, FIRST)) && has_dialled(&actions, FIRST), "{actions:?}");
        let (phase, actions) = stepped_up(phase, early(FIRST, 180, false));
        assert_eq!(actions, vec![Action::Part(CALLER), Action::Signal(CALLER, Some(ProgressTone::Ringing))]);
        assert_eq!(stepped_up(phase.clone(), early(FIRST, 180, false)).1, vec![], "it rings already");
        let (phase, actions) = stepped_up(phase, early(FIRST, 183, true));
        assert_eq!(actions, vec![Action::Signal(CALLER, None), Action::Connect(CALLER, FIRST)], "no answer: it is up");
        let (phase, actions) = stepped_up(phase, Input::Leg(FIRST, LegInput::Answered));
        assert!(matches!(phase, Phase::Bridged(_)), "{phase:?}");
        assert!(actions.contains(&Action::Connect(CALLER, FIRST)), "{actions:?}");
        assert!(!actions.iter().any(|action| matches!(action, Action::Answer(_))), "{actions:?}");
    }

    #[test]
    fn a_user_who_has_nobody_hears_that_and_is_hung_up_with_why() {
        let (phase, _) = answered_by_user();
        let (phase, actions) = stepped_up(phase, fails(FIRST));
        assert!(has_dialled(&actions, SECOND), "the next carrier first: {actions:?}");
        let busy = LegInput::Ended(SignallingEnd::Rejected { code: 486, reason: "Busy Here".into() });
        let (phase, actions) = stepped_up(phase, Input::Leg(SECOND, busy));
        assert!(actions.contains(&Action::Signal(CALLER, Some(ProgressTone::Busy))), "{actions:?}");
        assert!(actions.contains(&Action::Arm(Timer::Bye, TOLD_FOR)), "{actions:?}");
        let over = |input| {
            let (phase, actions) = stepped_up(phase.clone(), input);
            let Phase::Ending(end) = phase else { panic!("{phase:?}") };
            (end.reason, actions)
        };
        let (reason, actions) = over(Input::Fired(Timer::Bye));
        assert_eq!(
            (reason, actions.first()),
            (EndReason::Busy, Some(&Action::HangUp(CALLER, Some(fork::cause_of(486)))))
        );
        assert_eq!(over(Input::Leg(CALLER, LegInput::Ended(SignallingEnd::Remote))).0, EndReason::Busy);
        assert_eq!(over(Input::Commanded(Command::ShutDown)).0, EndReason::Busy);
        let stays = stepped_up(phase.clone(), early(SECOND, 180, false));
        assert!(matches!(stays.0, Phase::Dialing(_)) && stays.1.is_empty(), "{stays:?}");
    }

    #[test]
    fn a_user_who_hangs_up_meanwhile_has_whom_they_want_called_no_more() {
        let (phase, _) = answered_by_user();
        let (ended, actions) = stepped_up(phase.clone(), Input::Leg(CALLER, LegInput::Ended(SignallingEnd::Remote)));
        assert!(matches!(&ended, Phase::Ending(end) if end.reason == EndReason::CallerCancelled), "{ended:?}");
        assert!(actions.contains(&Action::HangUp(FIRST, None)), "{actions:?}");
        for gone in [LegInput::MediaTimedOut, LegInput::MediaGone, LegInput::MediaFailed("no port".into())] {
            let (ended, actions) = stepped_up(phase.clone(), Input::Leg(CALLER, gone));
            assert!(matches!(ended, Phase::Ending(_)) && actions.contains(&Action::HangUp(FIRST, None)), "{actions:?}");
        }
        let (_, actions) = stepped_up(phase, Input::Commanded(Command::HangUp));
        assert!(!actions.iter().any(|action| matches!(action, Action::Reject(..))), "it is up: {actions:?}");
    }

    /// Conforms: RFC 3960 §3.1 — early media of the carrier that is called now is heard, whichever was heard before it.
    #[test]
    fn whoever_is_called_next_is_heard_before_they_answer_like_the_first() {
        let (phase, actions) = stepped(for_caller(in_turn()).0, early(FIRST, 183, true));
        assert_eq!(actions, vec![Action::AnswerEarly(CALLER), Action::Connect(CALLER, FIRST)]);
        let (phase, actions) = stepped(phase, early(FIRST, 180, false));
        assert_eq!(actions, vec![], "it is heard: no other ringing beside it");
        let (phase, _) = stepped(phase, fails(FIRST));
        let (phase, actions) = stepped(phase, early(SECOND, 183, true));
        assert_eq!(actions, vec![Action::Connect(CALLER, SECOND)]);
        assert_eq!(stepped(phase, early(SECOND, 183, true)).1, vec![], "a second time changes nothing");
    }

    #[test]
    fn a_caller_who_heard_one_that_failed_is_told_that_the_next_rings() {
        let (phase, _) = stepped(for_caller(in_turn()).0, early(FIRST, 183, true));
        let (phase, _) = stepped(phase, fails(FIRST));
        let (phase, actions) = stepped(phase, early(SECOND, 180, false));
        assert_eq!(actions, vec![Action::Ring(CALLER, 180)]);
        let (phase, actions) = stepped(phase, early(SECOND, 180, false));
        assert_eq!(actions, vec![]);
        assert_eq!(stepped(phase, early(SECOND, 183, true)).1, vec![Action::Connect(CALLER, SECOND)]);
    }
}
