//! Calls somebody by a [`DialPlan`]: the branches of a group at once, the groups one after another. Pure.
//!
//! The first answer wins; the other branches are cancelled with a Reason. A branch that was answered while its CANCEL was
//! under way is hung up by whoever holds the legs: it is none of the fork's any more.

use std::sync::Arc;

use super::dial::{BRANCHES_LIMIT, BranchResult, COMPLETED_ELSEWHERE, DialPlan, GROUPS_LIMIT};
use super::{Action, LegInput, LegNo, SignallingEnd, Timer};

/// Redirections (3xx) that one fork follows at most.
pub const REDIRECTS_LIMIT: usize = 5;

/// A call of somebody under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fork {
    plan: Arc<DialPlan>,
    group: usize,
    /// The legs of the present group that may still answer, each with the device of ours that it calls.
    open: Vec<(LegNo, Option<String>)>,
    /// Those of them that gave a sign of life.
    rang: Vec<LegNo>,
    next_leg: LegNo,
    /// The best that a branch of the present group came to.
    best: Option<BranchResult>,
    redirects: usize,
}

/// What a step of a fork came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Nothing yet.
    Open,
    /// A branch told something on the way.
    Progress(LegNo, u16, bool),
    /// This leg is the one.
    Won(LegNo),
    /// Nobody is to be had; why.
    Lost(BranchResult),
}

impl Fork {
    /// Begins to call. Legs are numbered from `first`.
    #[must_use]
    pub fn begin(plan: Arc<DialPlan>, first: LegNo) -> (Self, Vec<Action>, Fate) {
        let mut fork =
            Self { plan, group: 0, open: Vec::new(), rang: Vec::new(), next_leg: first, best: None, redirects: 0 };
        let (actions, fate) = fork.call_group();
        (fork, actions, fate)
    }

    /// Whether this leg is one of the fork's, and may still answer.
    #[must_use]
    pub fn holds(&self, leg: LegNo) -> bool {
        self.open.iter().any(|(open, _)| *open == leg)
    }

    /// Whether this leg alone may still answer, in the present group.
    #[must_use]
    pub fn has_only(&self, leg: LegNo) -> bool {
        matches!(self.open[..], [(open, _)] if open == leg)
    }

    /// The number that the next leg of the call may have.
    #[must_use]
    pub fn next_leg(&self) -> LegNo {
        self.next_leg
    }

    /// Steps with what happened to one of its legs.
    pub fn step(&mut self, leg: LegNo, input: &LegInput) -> (Vec<Action>, Fate) {
        if !self.holds(leg) {
            return (vec![], Fate::Open);
        }
        match input {
            LegInput::Progress { code, early_media } => {
                if !self.rang.contains(&leg) {
                    self.rang.push(leg);
                }
                (vec![], Fate::Progress(leg, *code, *early_media))
            }
            LegInput::Answered => self.won(leg),
            LegInput::Ended(SignallingEnd::Redirected(plan)) => self.redirected(leg, plan),
            // Whoever rang and fell silent was reached.
            LegInput::Ended(SignallingEnd::TimedOut) if self.rang.contains(&leg) => {
                self.lost(leg, BranchResult::NoAnswer, vec![])
            }
            LegInput::Ended(end) => self.lost(leg, result_of(end), vec![]),
            LegInput::MediaFailed(_) => self.lost(leg, BranchResult::Refused(488), vec![Action::HangUp(leg, None)]),
            _ => (vec![], Fate::Open),
        }
    }

    /// The group has rung for as long as it may.
    pub fn rang_out(&mut self) -> (Vec<Action>, Fate) {
        let mut actions = Vec::new();
        for (leg, _) in std::mem::take(&mut self.open) {
            actions.push(Action::Report(leg, BranchResult::NoAnswer));
            actions.push(Action::HangUp(leg, None));
        }
        self.remember(BranchResult::NoAnswer);
        let (more, fate) = self.group_failed();
        actions.extend(more);
        (actions, fate)
    }

    /// Whoever wanted somebody called does not any more.
    pub fn cancel(&mut self, reason: Option<&'static str>) -> Vec<Action> {
        let mut actions = vec![Action::Disarm(Timer::NoAnswer)];
        actions.extend(self.drop_where(reason, |_| true));
        actions
    }

    /// Calls some no more.
    fn drop_where(&mut self, reason: Option<&'static str>, which: impl Fn(&Option<String>) -> bool) -> Vec<Action> {
        let (dropped, open) = std::mem::take(&mut self.open).into_iter().partition(|(_, device)| which(device));
        self.open = open;
        let dropped: Vec<(LegNo, Option<String>)> = dropped;
        let actions = |(leg, _)| [Action::Report(leg, BranchResult::Cancelled), Action::HangUp(leg, reason)];
        dropped.into_iter().flat_map(actions).collect()
    }

    /// The leg answers no more; the device that it called.
    fn take_out(&mut self, leg: LegNo) -> Option<String> {
        let at = self.open.iter().position(|(open, _)| *open == leg)?;
        self.open.remove(at).1
    }

    fn won(&mut self, leg: LegNo) -> (Vec<Action>, Fate) {
        self.take_out(leg);
        let mut actions = vec![Action::Report(leg, BranchResult::Answered)];
        actions.extend(self.cancel(Some(COMPLETED_ELSEWHERE)));
        (actions, Fate::Won(leg))
    }

    fn lost(&mut self, leg: LegNo, result: BranchResult, mut actions: Vec<Action>) -> (Vec<Action>, Fate) {
        let device = self.take_out(leg);
        actions.insert(0, Action::Report(leg, result));
        self.remember(result);
        // 6xx speaks for every branch (RFC 3261 section 16.7 step 5): all of one person's, where several people are called.
        match result {
            BranchResult::Refused(600..) if self.plan.goes_on_after(result) => {
                actions.extend(self.drop_where(None, |other| *other == device));
            }
            BranchResult::Refused(600..) => actions.extend(self.cancel(None)),
            _ => {}
        }
        if !self.open.is_empty() {
            return (actions, Fate::Open);
        }
        let (more, fate) = self.group_failed();
        actions.extend(more);
        (actions, fate)
    }

    /// The branch is replaced by the branches of the first group of the plan it was sent to.
    fn redirected(&mut self, leg: LegNo, plan: &Arc<DialPlan>) -> (Vec<Action>, Fate) {
        let branches = plan.groups.first().map_or(0, |group| group.branches.len());
        if self.redirects >= REDIRECTS_LIMIT || branches == 0 || self.open.len() + branches > BRANCHES_LIMIT {
            return self.lost(leg, BranchResult::Refused(302), vec![]);
        }
        self.redirects += 1;
        let device = self.take_out(leg);
        let mut actions = vec![Action::Report(leg, BranchResult::Refused(302))];
        for branch in 0..branches {
            actions.push(self.dial(Arc::clone(plan), 0, branch, device.clone()));
        }
        (actions, Fate::Open)
    }

    fn group_failed(&mut self) -> (Vec<Action>, Fate) {
        let result = self.best.unwrap_or(BranchResult::Unreachable);
        if !self.plan.goes_on_after(result) {
            return (vec![Action::Disarm(Timer::NoAnswer)], Fate::Lost(result));
        }
        self.group += 1;
        self.call_group()
    }

    fn call_group(&mut self) -> (Vec<Action>, Fate) {
        let plan = Arc::clone(&self.plan);
        loop {
            let Some(group) = plan.groups.get(self.group).filter(|_| self.group < GROUPS_LIMIT) else {
                let result = self.best.unwrap_or(BranchResult::Unreachable);
                return (vec![Action::Disarm(Timer::NoAnswer)], Fate::Lost(result));
            };
            if group.branches.is_empty() {
                self.group += 1;
                continue;
            }
            self.best = None;
            let branches = group.branches.iter().take(BRANCHES_LIMIT).enumerate();
            let mut actions: Vec<Action> = branches
                .map(|(at, branch)| self.dial(Arc::clone(&plan), self.group, at, branch.device.clone()))
                .collect();
            actions.push(Action::Arm(Timer::NoAnswer, group.ring_for));
            return (actions, Fate::Open);
        }
    }

    fn dial(&mut self, plan: Arc<DialPlan>, group: usize, branch: usize, device: Option<String>) -> Action {
        let leg = self.next_leg;
        self.next_leg = leg.next();
        self.open.push((leg, device));
        Action::Dial { leg, plan, group, branch }
    }

    fn remember(&mut self, result: BranchResult) {
        if self.best.is_none_or(|best| rank(result) < rank(best)) {
            self.best = Some(result);
        }
    }
}

/// The status that tells a caller of this result.
#[must_use]
pub fn code_of(result: BranchResult) -> u16 {
    match result {
        // Between us and whom we called: whoever called us has proved who they are, and may not be asked for it again.
        BranchResult::Refused(401 | 407) => 502,
        BranchResult::Refused(405 | 420..=422 | 491 | 494) => 500,
        BranchResult::Refused(code @ 400..=699) => code,
        BranchResult::Refused(_) => 480,
        BranchResult::NoAnswer => 480,
        BranchResult::Unreachable => 503,
        BranchResult::Answered | BranchResult::Cancelled => 487,
    }
}

/// The Reason (RFC 3326) that tells one who is up already of such a status.
#[must_use]
pub fn cause_of(code: u16) -> &'static str {
    match code {
        403 => "SIP;cause=403;text=\"Forbidden\"",
        404 => "SIP;cause=404;text=\"Not Found\"",
        408 => "SIP;cause=408;text=\"Request Timeout\"",
        486 => "SIP;cause=486;text=\"Busy Here\"",
        487 => "SIP;cause=487;text=\"Request Terminated\"",
        488 => "SIP;cause=488;text=\"Not Acceptable Here\"",
        500 => "SIP;cause=500;text=\"Server Internal Error\"",
        502 => "SIP;cause=502;text=\"Bad Gateway\"",
        503 => "SIP;cause=503;text=\"Service Unavailable\"",
        600 => "SIP;cause=600;text=\"Busy Everywhere\"",
        603 => "SIP;cause=603;text=\"Decline\"",
        _ => "SIP;cause=480;text=\"Temporarily Unavailable\"",
    }
}

/// What became of a branch whose dialog ended before an answer.
fn result_of(end: &SignallingEnd) -> BranchResult {
    match end {
        SignallingEnd::Rejected { code, .. } => BranchResult::Refused(*code),
        SignallingEnd::Local | SignallingEnd::Cancelled => BranchResult::Cancelled,
        SignallingEnd::Redirected(_) => BranchResult::Refused(302),
        SignallingEnd::Remote | SignallingEnd::NoAck => BranchResult::NoAnswer,
        SignallingEnd::TimedOut | SignallingEnd::NotPlaced(_) | SignallingEnd::TransportFailed(_) => {
            BranchResult::Unreachable
        }
    }
}

/// Which result of several is told: 6xx before all, then what says most of the person called, then faults of the way (RFC
/// 3261 section 16.7 step 6).
fn rank(result: BranchResult) -> u8 {
    match result {
        BranchResult::Answered => 0,
        BranchResult::Refused(600..) => 1,
        BranchResult::Refused(486 | 480) => 2,
        BranchResult::NoAnswer => 3,
        BranchResult::Refused(400..=407 | 409..=499) => 4,
        BranchResult::Refused(408) => 5,
        BranchResult::Refused(300..=399) => 6,
        BranchResult::Refused(_) => 7,
        BranchResult::Unreachable => 8,
        BranchResult::Cancelled => 9,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::call::dial::{DialBranch, DialGroup};

    fn plan(groups: &[usize]) -> Arc<DialPlan> {
        let group = |branches: &usize| DialGroup {
            branches: (0..*branches).map(|no| DialBranch::new(format!("device {no}"), "sip:a@b", "sip:c@d")).collect(),
            ring_for: Duration::from_secs(20),
        };
        Arc::new(DialPlan { groups: groups.iter().map(group).collect(), ..DialPlan::default() })
    }

    fn dialled(actions: &[Action]) -> Vec<u16> {
        actions
            .iter()
            .filter_map(|action| if let Action::Dial { leg, .. } = action { Some(leg.0) } else { None })
            .collect()
    }

    fn refused(code: u16) -> LegInput {
        LegInput::Ended(SignallingEnd::Rejected { code, reason: String::new() })
    }

    #[test]
    fn all_branches_of_a_group_ring_at_once_and_the_first_answer_wins() {
        let (mut fork, actions, _) = Fork::begin(plan(&[3]), LegNo(1));
        assert_eq!(dialled(&actions), [1, 2, 3]);
        let (actions, fate) = fork.step(LegNo(2), &LegInput::Answered);
        assert_eq!(fate, Fate::Won(LegNo(2)));
        for loser in [LegNo(1), LegNo(3)] {
            assert!(actions.contains(&Action::HangUp(loser, Some(COMPLETED_ELSEWHERE))), "{loser}");
            assert!(actions.contains(&Action::Report(loser, BranchResult::Cancelled)), "{loser}");
        }
        assert!(actions.contains(&Action::Report(LegNo(2), BranchResult::Answered)));
        assert_eq!(fork.step(LegNo(1), &LegInput::Answered).1, Fate::Open, "a loser that answers late has lost");
    }

    #[test]
    fn the_next_group_is_called_when_the_way_fails_and_not_when_a_person_declines() {
        for (input, goes_on) in [
            (refused(503), true),
            (refused(408), true),
            (LegInput::Ended(SignallingEnd::TimedOut), true),
            (LegInput::Ended(SignallingEnd::NotPlaced("no such host".into())), true),
            (refused(486), false),
            (refused(603), false),
            (refused(404), false),
        ] {
            let (mut fork, _, _) = Fork::begin(plan(&[1, 1]), LegNo(1));
            let (actions, fate) = fork.step(LegNo(1), &input);
            assert_eq!(dialled(&actions) == [2], goes_on, "{input:?}");
            assert_eq!(matches!(fate, Fate::Lost(_)), !goes_on, "{input:?}");
        }
    }

    #[test]
    fn a_group_that_rang_out_is_cancelled_and_the_next_one_called() {
        let (mut fork, _, _) = Fork::begin(plan(&[2, 0, 1]), LegNo(1));
        let (actions, fate) = fork.rang_out();
        assert!(actions.contains(&Action::HangUp(LegNo(1), None)) && actions.contains(&Action::HangUp(LegNo(2), None)));
        assert_eq!((dialled(&actions), fate), (vec![3], Fate::Open), "an empty group is passed over");
        assert_eq!(fork.rang_out().1, Fate::Lost(BranchResult::NoAnswer));
    }

    #[test]
    fn the_caller_is_told_the_answer_that_says_most() {
        let (mut fork, _, _) = Fork::begin(plan(&[3]), LegNo(1));
        assert_eq!(fork.step(LegNo(1), &refused(404)).1, Fate::Open);
        assert_eq!(fork.step(LegNo(2), &refused(486)).1, Fate::Open);
        let (_, fate) = fork.step(LegNo(3), &refused(500));
        assert_eq!(fate, Fate::Lost(BranchResult::Refused(486)));
    }

    #[test]
    fn a_decline_everywhere_ends_all_branches() {
        let (mut fork, _, _) = Fork::begin(plan(&[2, 1]), LegNo(1));
        let (actions, fate) = fork.step(LegNo(2), &refused(600));
        assert!(actions.contains(&Action::HangUp(LegNo(1), None)));
        assert_eq!(fate, Fate::Lost(BranchResult::Refused(600)));
    }

    #[test]
    fn one_who_declines_stops_their_own_phones_and_nobody_elses_where_several_people_are_called() {
        let branch = |device: &str| DialBranch {
            device: Some(device.to_owned()),
            ..DialBranch::new(device, "sip:a@b", "sip:c@d")
        };
        let branches = ["bob", "bob", "carol"].map(branch).to_vec();
        let group = DialGroup { branches, ring_for: Duration::from_secs(20) };
        let queue = DialPlan { groups: vec![group], also_after: vec![603], ..DialPlan::default() };
        let (mut fork, _, _) = Fork::begin(Arc::new(queue), LegNo(1));
        let (actions, fate) = fork.step(LegNo(1), &refused(603));
        assert_eq!(fate, Fate::Open);
        assert!(actions.contains(&Action::HangUp(LegNo(2), None)), "{actions:?}");
        assert!(!actions.contains(&Action::HangUp(LegNo(3), None)), "{actions:?}");
        assert_eq!(fork.step(LegNo(3), &LegInput::Answered).1, Fate::Won(LegNo(3)));
    }

    #[test]
    fn redirections_are_followed_up_to_the_limit() {
        let (mut fork, _, _) = Fork::begin(plan(&[1]), LegNo(1));
        let elsewhere = LegInput::Ended(SignallingEnd::Redirected(plan(&[1])));
        for no in 0..REDIRECTS_LIMIT as u16 {
            let (actions, fate) = fork.step(LegNo(1 + no), &elsewhere);
            assert_eq!((dialled(&actions), fate), (vec![2 + no], Fate::Open));
        }
        let (actions, fate) = fork.step(LegNo(1 + REDIRECTS_LIMIT as u16), &elsewhere);
        assert_eq!((dialled(&actions), fate), (vec![], Fate::Lost(BranchResult::Refused(302))));
    }

    #[test]
    fn a_group_with_too_many_branches_is_cut() {
        let (_, actions, _) = Fork::begin(plan(&[BRANCHES_LIMIT + 1]), LegNo(1));
        assert_eq!(dialled(&actions).len(), BRANCHES_LIMIT);
    }

    #[test]
    fn a_plan_with_nobody_in_it_is_lost_at_once() {
        let (_, _, fate) = Fork::begin(plan(&[]), LegNo(1));
        assert_eq!(fate, Fate::Lost(BranchResult::Unreachable));
        assert_eq!(code_of(BranchResult::Unreachable), 503);
    }
}
