//! Somebody is being called: for a caller who waits, or, where the call is one that we place, for nobody yet.

use std::sync::Arc;

use super::dial::{BranchResult, DialPlan};
use super::end::{End, EndReason};
use super::fork::{Fate, Fork};
use super::{Action, Input, LegInput, LegNo, Phase, SignallingEnd, Step, Timer, View, ending};

/// Somebody is being called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dialing {
    fork: Fork,
}

/// The first step of a call that we place.
#[must_use]
pub fn place(plan: Arc<DialPlan>) -> Step {
    let (fork, actions, fate) = Fork::begin(plan, LegNo::FIRST);
    settle(Dialing { fork }, actions, fate, None)
}

/// Steps a call in which somebody is being called.
#[must_use]
pub fn step(mut dialing: Dialing, input: Input, view: &View<'_>) -> Step {
    match input {
        Input::Leg(leg, input) => {
            let (actions, fate) = dialing.fork.step(leg, &input);
            settle(dialing, actions, fate, Some((&input, view)))
        }
        Input::Fired(Timer::NoAnswer) => {
            let (actions, fate) = dialing.fork.rang_out();
            settle(dialing, actions, fate, None)
        }
        Input::Commanded(command) => {
            let mut actions = dialing.fork.cancel(None);
            let (phase, more) = ending::begin(ending::end_by(command), view);
            actions.extend(more);
            (phase, actions)
        }
        Input::Fired(_) => (Phase::Dialing(Box::new(dialing)), vec![]),
    }
}

fn settle(dialing: Dialing, mut actions: Vec<Action>, fate: Fate, why: Option<(&LegInput, &View<'_>)>) -> Step {
    match fate {
        Fate::Open | Fate::Progress(..) => (Phase::Dialing(Box::new(dialing)), actions),
        Fate::Won(leg) => {
            let max_duration = why.map(|(_, view)| view.max_duration).unwrap_or_default();
            actions.push(Action::Arm(Timer::MaxDuration, max_duration));
            actions.push(Action::StartConversation(leg));
            (Phase::Talking, actions)
        }
        Fate::Lost(result) => {
            let end = end_of(result, why.map(|(input, _)| input));
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
