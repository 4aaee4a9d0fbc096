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
    /// Who waits for somebody to answer, and what they were told last.
    caller: Option<(LegNo, u16)>,
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
    settle(Dialing { fork, caller: Some((LegNo::FIRST, 100)) }, actions, fate, None)
}

/// Steps a call in which somebody is being called.
#[must_use]
pub fn step(mut dialing: Dialing, input: Input, view: &View<'_>) -> Step {
    match input {
        Input::Leg(leg, LegInput::Ended(end)) if dialing.is_caller(leg) => {
            let mut actions = dialing.fork.cancel(None);
            let (phase, more) = ending::wait(ending::end_of(&end, view.role(leg)));
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
            if let Some((caller, _)) = dialing.caller {
                let code = if command == Command::ShutDown { 503 } else { 480 };
                actions.push(Action::Reject(caller, code));
            }
            let (phase, more) = ending::begin(ending::end_by(&command), view);
            actions.extend(more);
            (phase, actions)
        }
        Input::Fired(_) | Input::Found(_) | Input::Entered(..) | Input::Commanded(_) => {
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
    match dialing.caller {
        Some((caller, _)) if picks_up => {
            let mut actions = dialing.fork.cancel(Some(COMPLETED_ELSEWHERE));
            if !view.is_up(leg) {
                actions.push(Action::Answer(leg));
            }
            actions.push(Action::Answer(caller));
            (Phase::Bridged(Bridge::new(caller, leg)), actions)
        }
        Some((caller, _)) if errand == Errand::Replace(caller) && view.is_up(leg) => {
            let mut step = referral::inherit(caller, leg, dialing.fork);
            step.1.push(Action::Reject(caller, 487));
            step
        }
        _ => (Phase::Dialing(Box::new(dialing)), vec![view.turn_away(leg, 480)]),
    }
}

impl Dialing {
    fn is_caller(&self, leg: LegNo) -> bool {
        self.caller.is_some_and(|(caller, _)| caller == leg)
    }
}

fn settle(mut dialing: Dialing, mut actions: Vec<Action>, fate: Fate, why: Option<(&LegInput, &View<'_>)>) -> Step {
    match fate {
        Fate::Open => (Phase::Dialing(Box::new(dialing)), actions),
        Fate::Progress(leg, _, true) if dialing.fork.has_only(leg) && dialing.caller.is_some() => {
            // Whoever is called alone is heard before they answer: a carrier's announcement, or its own ringing.
            if let Some((caller, told)) = &mut dialing.caller
                && *told < 183
            {
                *told = 183;
                actions.extend([Action::AnswerEarly(*caller), Action::Connect(*caller, leg)]);
            }
            (Phase::Dialing(Box::new(dialing)), actions)
        }
        Fate::Progress(_, code, _) => {
            // The caller is told that it rings, not more: 181 to 183 of one branch say nothing of the others.
            if let Some((caller, told)) = &mut dialing.caller
                && *told < 180
                && code == 180
            {
                *told = code;
                actions.push(Action::Ring(*caller, code));
            }
            (Phase::Dialing(Box::new(dialing)), actions)
        }
        Fate::Won(leg) if let Some((caller, _)) = dialing.caller => {
            actions.push(Action::Answer(caller));
            (Phase::Bridged(Bridge::new(caller, leg)), actions)
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
            if let Some((caller, _)) = dialing.caller {
                actions.push(Action::Reject(caller, fork::code_of(result)));
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
