//! Somebody is being called: for a caller who waits, or, where the call is one that we place, for nobody yet.

use std::sync::Arc;

use super::bridge::Bridge;
use super::dial::{BranchResult, COMPLETED_ELSEWHERE, DialPlan};
use super::end::{End, EndReason};
use super::fork::{self, Fate, Fork};
use super::place::Errand;
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
}

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
}

impl Waiting {
    fn new(leg: LegNo) -> Self {
        Self { leg, told: 100, is_open: false, hears: None }
    }

    /// Whoever is called alone is heard before they answer: a carrier's announcement, or its own ringing.
    fn hear(&mut self, leg: LegNo) -> Vec<Action> {
        if self.hears.replace(leg) == Some(leg) {
            return vec![];
        }
        self.told = 183;
        let opens = !std::mem::replace(&mut self.is_open, true);
        let open = opens.then_some(Action::AnswerEarly(self.leg));
        open.into_iter().chain([Action::Connect(self.leg, leg)]).collect()
    }

    /// They are told that it rings, not more: 181 to 183 of one branch say nothing of the others. Whom they heard before may be another, who
    /// is called no more.
    fn rings(&mut self, leg: LegNo, code: u16) -> Vec<Action> {
        let is_news = self.told < 180 || self.hears.is_some_and(|heard| heard != leg);
        if code != 180 || !is_news {
            return vec![];
        }
        (self.told, self.hears) = (code, None);
        vec![Action::Ring(self.leg, code)]
    }
}

/// The first step of a call that we place.
#[must_use]
pub fn place(plan: Arc<DialPlan>) -> Step {
    let (fork, actions, fate) = Fork::begin(plan, LegNo::FIRST);
    settle(Dialing { fork, caller: None }, actions, fate, None)
}

/// The first step of a call whose caller wants somebody else.
#[must_use]
pub fn for_caller(plan: Arc<DialPlan>) -> Step {
    let (fork, actions, fate) = Fork::begin(plan, LegNo::FIRST.next());
    settle(Dialing { fork, caller: Some(Waiting::new(LegNo::FIRST)) }, actions, fate, None)
}

/// Steps a call in which somebody is being called.
#[must_use]
pub fn step(mut dialing: Dialing, input: Input, view: &View<'_>) -> Step {
    match input {
        Input::Leg(leg, LegInput::Ended(end)) if dialing.is_caller(leg) => {
            let mut actions = dialing.fork.cancel(None);
            let (phase, more) = ending::wait(ending::end_of(&end, view.side(leg)));
            actions.extend(more);
            (phase, actions)
        }
        Input::Leg(leg, input) => {
            let (actions, fate) = dialing.fork.step(leg, &input);
            settle(dialing, actions, fate, Some((&input, view)))
        }
        Input::Fired(Timer::NoAnswer) => {
            let (actions, fate) = dialing.fork.rang_out();
            settle(dialing, actions, fate, None)
        }
        Input::Adopted(leg, errand) => adopted(dialing, leg, errand, view),
        Input::Commanded(command) if ending::ends(&command) => {
            let mut actions = dialing.fork.cancel(None);
            if let Some(Waiting { leg: caller, .. }) = dialing.caller {
                let code = if command == Command::ShutDown { 503 } else { 480 };
                actions.push(Action::Reject(caller, code));
            }
            let (phase, more) = ending::begin(ending::end_by(&command), view);
            actions.extend(more);
            (phase, actions)
        }
        Input::Fired(_) | Input::Finding | Input::Found(_) | Input::Entered(..) | Input::Commanded(_) => {
            (Phase::Dialing(Box::new(dialing)), vec![])
        }
    }
}

/// Somebody answers in the place of those who ring; or whoever waited has passed its call on meanwhile.
fn adopted(mut dialing: Dialing, leg: LegNo, errand: Errand, view: &View<'_>) -> Step {
    let picks_up = match errand {
        Errand::Pickup => true,
        Errand::Replace(replaced) => dialing.fork.holds(replaced),
        _ => false,
    };
    match dialing.caller.as_ref().map(|waiting| waiting.leg) {
        Some(caller) if picks_up => {
            let mut actions = dialing.fork.cancel(Some(COMPLETED_ELSEWHERE));
            if !view.is_up(leg) {
                actions.push(Action::Answer(leg));
            }
            actions.push(Action::Answer(caller));
            (Phase::Bridged(Bridge::new(caller, leg)), actions)
        }
        Some(caller) if errand == Errand::Replace(caller) && view.is_up(leg) => {
            let mut step = referral::inherit(caller, leg, dialing.fork, view);
            step.1.push(Action::Reject(caller, 487));
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

fn settle(mut dialing: Dialing, mut actions: Vec<Action>, fate: Fate, why: Option<(&LegInput, &View<'_>)>) -> Step {
    match fate {
        Fate::Open => (Phase::Dialing(Box::new(dialing)), actions),
        Fate::Progress(leg, code, is_heard) => {
            let is_alone = dialing.fork.has_only(leg);
            if let Some(waiting) = &mut dialing.caller {
                actions.extend(if is_heard && is_alone { waiting.hear(leg) } else { waiting.rings(leg, code) });
            }
            (Phase::Dialing(Box::new(dialing)), actions)
        }
        Fate::Won(leg) if let Some(waiting) = &dialing.caller => {
            actions.push(Action::Answer(waiting.leg));
            (Phase::Bridged(Bridge::new(waiting.leg, leg)), actions)
        }
        Fate::Won(leg) if let Some((_, View { target: Target::Place(place), .. })) = why => {
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
            let end = end_of(result, why.map(|(input, _)| input));
            if let Some(waiting) = &dialing.caller {
                actions.push(Action::Reject(waiting.leg, fork::code_of(result)));
            }
            let (phase, more) = ending::wait(end);
            actions.extend(more);
            (phase, actions)
        }
    }
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
