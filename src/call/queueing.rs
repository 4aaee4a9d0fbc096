//! A caller waits in a queue, with music, until one of its people is free and answers; or goes where the queue sends those who wait no more.
//!
//! Who is free is not this call's affair: all who wait stand in one line ([`crate::queues`]), which says whom to call.

use std::sync::Arc;

use super::bridge::Bridge;
use super::dial::{COMPLETED_ELSEWHERE, DialPlan};
use super::end::{End, EndReason};
use super::fork::{Fate, Fork};
use super::place::{Entry, Errand, Place};
use super::queue::Queue;
use super::record::QueueOutcome;
use super::route::Target;
use super::{
    Action, Command, Found, Handover, InLine, Input, LegInput, LegNo, Phase, Step, Timer, View, ending, entering,
    transfer,
};

/// A caller who waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queueing {
    leg: LegNo,
    queue: Arc<Queue>,
    stand: Stand,
    /// Those who are called.
    fork: Option<Fork>,
    /// The wait has been as long as it may be: it is over once nobody rings.
    is_due: bool,
    /// They are being told something.
    is_told: bool,
    /// What whoever fetches them wants an agent to know.
    handover: Option<Box<Handover>>,
}

/// Where the caller stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stand {
    /// Our answer is not acknowledged yet.
    Coming,
    /// The same, and there is no room in the line.
    Overflowing,
    /// In the line.
    InLine,
    /// On the way elsewhere.
    Leaving,
    /// The same, since somebody else wants it: back to the line, where that comes to nothing.
    Fetched,
}

/// A leg has come to the queue.
#[must_use]
pub fn begin(leg: LegNo, queue: &Arc<Queue>, view: &View<'_>) -> Step {
    arrive(leg, queue, Stand::Coming, view)
}

/// A leg has come to a queue in which no more may wait.
#[must_use]
pub fn overflow(leg: LegNo, queue: &Arc<Queue>, view: &View<'_>) -> Step {
    arrive(leg, queue, Stand::Overflowing, view)
}

fn arrive(leg: LegNo, queue: &Arc<Queue>, stand: Stand, view: &View<'_>) -> Step {
    let queueing =
        Queueing { leg, queue: Arc::clone(queue), stand, fork: None, is_due: false, is_told: false, handover: None };
    if view.is_up(leg) {
        return queueing.arrived(vec![]);
    }
    queueing.stays(vec![Action::Answer(leg)])
}

/// Steps a call of somebody who waits.
#[must_use]
pub fn step(mut queueing: Queueing, input: Input, view: &View<'_>) -> Step {
    match input {
        Input::Leg(leg, input) if leg == queueing.leg => queueing.on_caller(input, view),
        Input::Leg(leg, input) => match &mut queueing.fork {
            Some(fork) => {
                let (actions, fate) = fork.step(leg, &input);
                queueing.settle(actions, fate, view)
            }
            None => queueing.stays(vec![]),
        },
        Input::Fired(Timer::NoAnswer) => match &mut queueing.fork {
            Some(fork) => {
                let (actions, fate) = fork.rang_out();
                queueing.settle(actions, fate, view)
            }
            None => queueing.stays(vec![]),
        },
        Input::Offered(plan) if queueing.stand == Stand::InLine && queueing.fork.is_none() => queueing.call(plan, view),
        Input::Deserted if queueing.stand == Stand::InLine && !queueing.queue.then.is_empty() => {
            queueing.leave(QueueOutcome::Deserted, view)
        }
        Input::Fired(Timer::Waited) if queueing.stand == Stand::InLine && queueing.fork.is_none() => {
            queueing.leave(QueueOutcome::TimedOut, view)
        }
        Input::Fired(Timer::Waited) => Queueing { is_due: true, ..queueing }.stays(vec![]),
        Input::Fired(Timer::Place) => {
            let mut actions = queueing.tells_place_later();
            // One thing after another.
            if queueing.stand == Stand::InLine && !queueing.is_told {
                queueing.is_told = true;
                actions.insert(0, Action::Line(InLine::TellPlace(queueing.leg)));
            }
            queueing.stays(actions)
        }
        Input::Fired(Timer::MaxDuration) => queueing.over(End::new(EndReason::MaxDuration), view),
        Input::Found(found) if matches!(queueing.stand, Stand::Leaving | Stand::Fetched) => queueing.found(found, view),
        Input::Entered(leg, place, entry) => queueing.entered(leg, &place, entry, view),
        Input::Adopted(leg, errand) => queueing.adopted(leg, errand, view),
        Input::Commanded(command) if ending::ends(&command) => queueing.over(ending::end_by(&command), view),
        Input::Commanded(Command::Transfer(handover, by)) if queueing.stand == Stand::InLine => {
            let to = handover.uri.clone();
            Queueing { handover: Some(Box::new(handover)), ..queueing }.go(
                to,
                by,
                Stand::Fetched,
                QueueOutcome::PassedOn,
            )
        }
        Input::Finding
        | Input::Found(_)
        | Input::Offered(_)
        | Input::Deserted
        | Input::Fired(_)
        | Input::Commanded(_) => queueing.stays(vec![]),
    }
}

impl Queueing {
    /// The queue.
    #[must_use]
    pub fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    /// Whether the caller stands in line, and may be passed on from there.
    #[must_use]
    pub fn is_in_line(&self) -> bool {
        self.stand == Stand::InLine
    }

    fn stays(self, actions: Vec<Action>) -> Step {
        (Phase::Queued(Box::new(self)), actions)
    }

    /// The caller is up: they stand in line from here on, or there was no room.
    fn arrived(mut self, mut actions: Vec<Action>) -> Step {
        let (leg, queue) = (self.leg, &self.queue);
        actions.extend([Action::Release(leg), Action::Part(leg), Action::Music(leg, true)]);
        if self.stand == Stand::Overflowing {
            let (phase, more) = self.go_then(QueueOutcome::Full);
            actions.extend(more);
            return (phase, actions);
        }
        actions.push(Action::Line(InLine::Join(Arc::clone(queue))));
        actions.push(Action::Arm(Timer::Waited, queue.wait_for));
        if !queue.greeting.is_empty() {
            actions.push(told(leg, &queue.greeting));
            self.is_told = true;
        }
        actions.extend(self.tells_place_later());
        self.stand = Stand::InLine;
        self.stays(actions)
    }

    fn tells_place_later(&self) -> Vec<Action> {
        let tells = !self.queue.position.is_empty();
        tells.then(|| Action::Arm(Timer::Place, self.queue.position_every)).into_iter().collect()
    }

    fn on_caller(self, input: LegInput, view: &View<'_>) -> Step {
        let leg = self.leg;
        match input {
            LegInput::Acked if matches!(self.stand, Stand::Coming | Stand::Overflowing) => {
                self.arrived(vec![Action::Arm(Timer::MaxDuration, view.max_duration)])
            }
            LegInput::Ended(end) => {
                let mut actions = self.lets_go(QueueOutcome::Abandoned);
                let (phase, more) = ending::wait(ending::end_of(&end, view.side(leg)));
                actions.extend(more);
                (phase, actions)
            }
            LegInput::MediaTimedOut => self.over(ending::unheard(view.side(leg)), view),
            LegInput::MediaGone | LegInput::MediaFailed(_) => {
                self.over(End::new(EndReason::Internal).with_detail("the caller's sound is gone"), view)
            }
            LegInput::Digit(key) if self.stand == Stand::InLine && self.queue.leave_key == Some(key) => {
                self.leave(QueueOutcome::Left, view)
            }
            // What they were told has been said.
            LegInput::Conversed(_) => Self { is_told: false, ..self }.stays(vec![Action::Release(leg)]),
            LegInput::Referred(_) => self.stays(vec![Action::RejectRefer(leg, 403)]),
            _ => self.stays(vec![]),
        }
    }

    fn call(mut self, plan: Arc<DialPlan>, view: &View<'_>) -> Step {
        let (fork, actions, fate) = Fork::begin(plan, view.next_leg());
        self.fork = Some(fork);
        self.settle(actions, fate, view)
    }

    fn settle(mut self, mut actions: Vec<Action>, fate: Fate, view: &View<'_>) -> Step {
        match fate {
            Fate::Open | Fate::Progress(..) => self.stays(actions),
            Fate::Won(leg) => self.connect(leg, actions, view),
            Fate::Lost(_) => {
                self.fork = None;
                let (phase, more) = match self.stand {
                    Stand::InLine if self.is_due => self.leave(QueueOutcome::TimedOut, view),
                    Stand::InLine => self.stays(vec![Action::Line(InLine::Declined)]),
                    _ => self.in_vain(view),
                };
                actions.extend(more);
                (phase, actions)
            }
        }
    }

    /// Somebody has answered: both are connected. A caller who holds is not heard, and they hear music until that is taken back.
    fn connect(self, leg: LegNo, mut actions: Vec<Action>, view: &View<'_>) -> Step {
        actions.extend(self.taken_by(leg));
        let bridge = Bridge::taken_up(self.leg, leg, view);
        actions.extend(bridge.resume(self.leg));
        (Phase::Bridged(bridge), actions)
    }

    /// The wait is over: whoever is on this leg has the caller, who may be told something just now.
    fn taken_by(&self, leg: LegNo) -> Vec<Action> {
        let mut actions = waits_no_more();
        if self.stand == Stand::InLine {
            actions.push(Action::Line(InLine::Taken(leg)));
        }
        actions.push(Action::Release(self.leg));
        actions
    }

    /// The caller waits no more, and goes where the queue says; where it says nothing the call ends.
    fn leave(self, outcome: QueueOutcome, view: &View<'_>) -> Step {
        if self.queue.then.is_empty() {
            let mut actions = self.lets_go(outcome);
            let (phase, more) = ending::begin(self.nobody(), view);
            actions.extend(more);
            return (phase, actions);
        }
        self.go_then(outcome)
    }

    fn go_then(self, outcome: QueueOutcome) -> Step {
        let to = self.queue.then.clone();
        self.go(to, None, Stand::Leaving, outcome)
    }

    fn go(mut self, to: String, by: Option<String>, stand: Stand, outcome: QueueOutcome) -> Step {
        let mut actions = self.lets_go(outcome);
        self.fork = None;
        self.stand = stand;
        actions.push(Action::Find(to, by));
        self.stays(actions)
    }

    /// Nobody is called any more for the caller, who stands in no line.
    fn lets_go(&self, outcome: QueueOutcome) -> Vec<Action> {
        let mut actions = self.fork.clone().map(|mut fork| fork.cancel(None)).unwrap_or_default();
        // Whoever is fetched may come back, and goes on waiting then.
        if outcome != QueueOutcome::PassedOn {
            actions.extend(waits_no_more());
        }
        if self.stand != Stand::Leaving {
            actions.push(Action::Line(InLine::Leave(Arc::clone(&self.queue), outcome)));
        }
        actions
    }

    fn found(self, found: Result<Found, super::NotFound>, view: &View<'_>) -> Step {
        match found {
            Ok(Found::Plan(plan)) => self.call(plan, view),
            Ok(Found::Place(place)) => {
                let enter = Action::Enter(self.leg, place);
                self.stays(vec![enter])
            }
            Ok(Found::Converse(_)) if transfer::may_hand_over(view).is_err() => self.in_vain(view),
            Ok(Found::Converse(target)) => self.converse(target),
            // Only agents' calls are passed back.
            Ok(Found::Refer(_)) | Err(_) => self.in_vain(view),
        }
    }

    /// The caller talks with an agent from here on, who is to know where they come from.
    fn converse(self, target: Target) -> Step {
        let name = &self.queue.name;
        let waited = || format!("The caller has waited in the queue {name}, and nobody there took the call.");
        let known = || Handover { summary: waited(), ..Handover::default() };
        let known = self.handover.map_or_else(known, |handover| *handover);
        let mut actions = waits_no_more();
        actions.extend([Action::Part(self.leg), Action::Music(self.leg, false)]);
        actions.push(Action::Converse(self.leg, target, known));
        (Phase::Talking, actions)
    }

    fn entered(self, leg: LegNo, place: &Place, entry: Entry, view: &View<'_>) -> Step {
        match entering::arrived(leg, place, entry, None, view) {
            Ok((phase, mut actions)) => {
                // A queue has times of its own.
                if !matches!(phase, Phase::Queued(_)) {
                    actions.extend(waits_no_more());
                }
                (phase, actions)
            }
            Err(_) => self.in_vain(view),
        }
    }

    /// Where the caller was to go nobody is to be had.
    fn in_vain(mut self, view: &View<'_>) -> Step {
        if self.stand == Stand::Fetched {
            (self.stand, self.handover) = (Stand::InLine, None);
            let join = Action::Line(InLine::Join(Arc::clone(&self.queue)));
            if self.is_due {
                let (phase, mut actions) = self.leave(QueueOutcome::TimedOut, view);
                actions.insert(0, join);
                return (phase, actions);
            }
            return self.stays(vec![join]);
        }
        let mut actions = self.lets_go(QueueOutcome::TimedOut);
        let (phase, more) = ending::begin(self.nobody(), view);
        actions.extend(more);
        (phase, actions)
    }

    fn nobody(&self) -> End {
        End::new(EndReason::NoAnswer).with_detail(format!("nobody of the queue {} took the call", self.queue.name))
    }

    /// Somebody answers in the place of those who ring, or has the caller's place in line from here on.
    fn adopted(mut self, leg: LegNo, errand: Errand, view: &View<'_>) -> Step {
        match errand {
            Errand::Pickup if let Some(mut fork) = self.fork.take() => {
                let mut actions = fork.cancel(Some(COMPLETED_ELSEWHERE));
                if view.is_up(leg) {
                    return self.connect(leg, actions, view);
                }
                actions.extend(self.taken_by(leg));
                actions.extend([Action::Music(self.leg, false), Action::Answer(leg)]);
                (Phase::Bridged(Bridge::new(leg, self.leg)), actions)
            }
            Errand::Replace(replaced) if replaced == self.leg && view.is_up(leg) && self.stand == Stand::InLine => {
                // Whatever the one before was told is over with them.
                (self.leg, self.is_told) = (leg, false);
                let comes = [Action::Release(leg), Action::Part(leg), Action::Music(leg, true)];
                let goes = [Action::NotifyRefer(replaced, 200), Action::HangUp(replaced, None)];
                self.stays(goes.into_iter().chain(comes).collect())
            }
            _ => self.stays(vec![view.turn_away(leg, 480)]),
        }
    }

    fn over(self, end: End, view: &View<'_>) -> Step {
        let mut actions = self.lets_go(QueueOutcome::Ended);
        let (phase, more) = ending::begin(end, view);
        actions.extend(more);
        (phase, actions)
    }
}

fn waits_no_more() -> Vec<Action> {
    [Timer::Waited, Timer::Place].map(Action::Disarm).to_vec()
}

fn told(leg: LegNo, text: &str) -> Action {
    Action::Announce { leg, summary: text.to_owned(), must_accept: false }
}

#[cfg(test)]
#[allow(clippy::panic)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::call::dial::{DialBranch, DialGroup};
    use crate::call::{LegView, NotFound, SignallingEnd};

    const CALLER: LegNo = LegNo(0);
    const PHONE: LegNo = LegNo(1);

    fn queue(then: &str) -> Arc<Queue> {
        let leave_key = (!then.is_empty()).then_some('0');
        Arc::new(Queue { then: then.to_owned(), leave_key, ..Queue::example("sales", &["alice"]) })
    }

    fn legs(is_up: bool) -> [LegView; 1] {
        [LegView { is_up, ..LegView::caller(CALLER) }]
    }

    fn stepped(phase: Phase, input: Input) -> Step {
        let Phase::Queued(queueing) = phase else { panic!("{phase:?}") };
        step(*queueing, input, &View::of(&Target::Echo, &legs(true)))
    }

    fn waits(then: &str) -> Phase {
        let (phase, actions) = begin(CALLER, &queue(then), &View::of(&Target::Echo, &legs(false)));
        assert_eq!(actions, vec![Action::Answer(CALLER)]);
        let (phase, actions) = stepped(phase, caller(LegInput::Acked));
        let wanted = [Action::Music(CALLER, true), Action::Line(InLine::Join(queue(then)))];
        assert!(wanted.iter().all(|action| actions.contains(action)), "{actions:?}");
        phase
    }

    fn caller(input: LegInput) -> Input {
        Input::Leg(CALLER, input)
    }

    fn offered() -> Input {
        let branches = vec![DialBranch::new("device alice/1", "sip:alice@b", "sip:c@d")];
        let groups = vec![DialGroup { branches, ring_for: Duration::from_secs(20) }];
        Input::Offered(Arc::new(DialPlan { groups, ..DialPlan::default() }))
    }

    fn rings(then: &str) -> Phase {
        let (phase, actions) = stepped(waits(then), offered());
        assert!(actions.iter().any(|action| matches!(action, Action::Dial { leg: PHONE, .. })), "{actions:?}");
        phase
    }

    fn left(actions: &[Action]) -> Option<QueueOutcome> {
        actions.iter().find_map(|action| match action {
            Action::Line(InLine::Leave(_, outcome)) => Some(*outcome),
            _ => None,
        })
    }

    #[test]
    fn whoever_answers_is_connected_and_the_wait_is_over() {
        let (phase, actions) = stepped(rings(""), Input::Leg(PHONE, LegInput::Answered));
        assert_eq!(phase, Phase::Bridged(Bridge::connected(CALLER, PHONE)));
        assert!(actions.contains(&Action::Line(InLine::Taken(PHONE))), "{actions:?}");
        assert!(actions.ends_with(&[Action::Connect(CALLER, PHONE)]), "{actions:?}");
    }

    #[test]
    fn a_caller_whom_nobody_takes_waits_on_until_it_was_long_enough() {
        let refused = Input::Leg(PHONE, LegInput::Ended(SignallingEnd::Rejected { code: 486, reason: String::new() }));
        let (phase, actions) = stepped(rings("desk"), refused.clone());
        assert!(actions.contains(&Action::Line(InLine::Declined)), "{actions:?}");
        let (phase, actions) = stepped(phase, Input::Fired(Timer::Waited));
        assert_eq!(
            (left(&actions), actions.last()),
            (Some(QueueOutcome::TimedOut), Some(&Action::Find("desk".into(), None)))
        );
        let (phase, actions) = stepped(phase, Input::Found(Ok(Found::Converse(Target::Agent("desk".into())))));
        assert_eq!(phase, Phase::Talking);
        assert!(actions.contains(&Action::Music(CALLER, false)), "{actions:?}");
        // Whoever rings just then may still answer.
        let (phase, actions) = stepped(rings(""), Input::Fired(Timer::Waited));
        assert_eq!(actions, vec![]);
        let (phase, actions) = stepped(phase, refused);
        assert!(matches!(phase, Phase::Ending(End { reason: EndReason::NoAnswer, .. })), "{phase:?}");
        assert_eq!(left(&actions), Some(QueueOutcome::TimedOut));
    }

    #[test]
    fn a_caller_who_hangs_up_rings_nowhere_any_more() {
        let (phase, actions) = stepped(rings("desk"), caller(LegInput::Ended(SignallingEnd::Remote)));
        assert!(matches!(phase, Phase::Ending(End { reason: EndReason::CallerHungUp, .. })), "{phase:?}");
        assert!(actions.contains(&Action::HangUp(PHONE, None)), "{actions:?}");
        assert_eq!(left(&actions), Some(QueueOutcome::Abandoned));
    }

    #[test]
    fn the_key_and_an_empty_house_lead_elsewhere_where_there_is_somewhere_to_go() {
        for (input, outcome) in
            [(caller(LegInput::Digit('0')), QueueOutcome::Left), (Input::Deserted, QueueOutcome::Deserted)]
        {
            assert_eq!(left(&stepped(waits("desk"), input.clone()).1), Some(outcome));
            assert_eq!(stepped(waits(""), input).1, vec![]);
        }
        assert_eq!(stepped(waits("desk"), caller(LegInput::Digit('1'))).1, vec![]);
    }

    #[test]
    fn a_caller_who_finds_the_line_full_goes_on_once_they_are_answered() {
        let (phase, _) = overflow(CALLER, &queue("desk"), &View::of(&Target::Echo, &legs(false)));
        let (phase, actions) = stepped(phase, caller(LegInput::Acked));
        assert_eq!(
            (left(&actions), actions.last()),
            (Some(QueueOutcome::Full), Some(&Action::Find("desk".into(), None)))
        );
        let nobody = NotFound { code: 404, why: String::new() };
        let (phase, actions) = stepped(phase, Input::Found(Err(nobody)));
        assert!(matches!(phase, Phase::Ending(End { reason: EndReason::NoAnswer, .. })), "{phase:?}");
        assert!(actions.contains(&Action::HangUp(CALLER, None)), "{actions:?}");
    }

    #[test]
    fn a_caller_who_is_fetched_in_vain_waits_on() {
        let handover = Handover { uri: "bob".into(), ..Handover::default() };
        let fetch = Input::Commanded(Command::Transfer(handover, Some("carol".into())));
        let (phase, actions) = stepped(rings("desk"), fetch);
        assert_eq!(left(&actions), Some(QueueOutcome::PassedOn));
        assert_eq!(actions.last(), Some(&Action::Find("bob".into(), Some("carol".into()))));
        assert!(!actions.contains(&Action::Disarm(Timer::Waited)), "the time goes on: {actions:?}");
        let (phase, actions) = stepped(phase, Input::Found(Err(NotFound { code: 404, why: String::new() })));
        assert_eq!(actions, vec![Action::Line(InLine::Join(queue("desk")))]);
        assert!(matches!(stepped(phase, offered()).0, Phase::Queued(_)));
    }

    #[test]
    fn whoever_has_anothers_place_in_line_is_told_it_though_that_one_was_told_something_just_then() {
        let other = LegNo(0x8000);
        let legs = [legs(true)[0], LegView { is_up: true, ..LegView::caller(other) }];
        let tells = Queue { position: "You are {place}.".into(), ..Queue::example("sales", &["alice"]) };
        let (phase, _) = begin(CALLER, &Arc::new(tells), &View::of(&Target::Echo, &legs));
        let (phase, actions) = stepped(phase, Input::Fired(Timer::Place));
        assert!(actions.contains(&Action::Line(InLine::TellPlace(CALLER))), "{actions:?}");
        let (phase, actions) = stepped(phase, Input::Fired(Timer::Place));
        assert!(!actions.contains(&Action::Line(InLine::TellPlace(CALLER))), "one thing after another: {actions:?}");
        let Phase::Queued(queueing) = phase else { panic!() };
        let (phase, _) =
            step(*queueing, Input::Adopted(other, Errand::Replace(CALLER)), &View::of(&Target::Echo, &legs));
        let (_, actions) = stepped(phase, Input::Fired(Timer::Place));
        assert!(actions.contains(&Action::Line(InLine::TellPlace(other))), "{actions:?}");
    }

    #[test]
    fn whoever_picks_up_or_passes_another_into_the_line_takes_a_place() {
        let other = LegNo(0x8000);
        let (phase, actions) = stepped(rings(""), Input::Adopted(other, Errand::Pickup));
        assert!(matches!(phase, Phase::Bridged(_)), "{phase:?}");
        assert!(actions.contains(&Action::HangUp(PHONE, Some(COMPLETED_ELSEWHERE))), "{actions:?}");
        let legs = [legs(true)[0], LegView { is_up: true, ..LegView::caller(other) }];
        let Phase::Queued(queueing) = rings("") else { panic!() };
        let (phase, actions) =
            step(*queueing, Input::Adopted(other, Errand::Replace(CALLER)), &View::of(&Target::Echo, &legs));
        assert!(actions.starts_with(&[Action::NotifyRefer(CALLER, 200), Action::HangUp(CALLER, None)]), "{actions:?}");
        let (phase, _) = stepped(phase, Input::Leg(PHONE, LegInput::Answered));
        assert_eq!(phase, Phase::Bridged(Bridge::connected(other, PHONE)));
    }
}
