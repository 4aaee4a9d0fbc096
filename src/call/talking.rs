//! A call that is up: keys, timers, the conversation's end, the caller's BYE.

use super::end::{End, EndReason};
use super::place::Errand;
use super::{
    Action, Command, ConversationEnd, Input, LegInput, LegNo, Phase, Step, Timer, View, ending, supervision, transfer,
};

/// Steps a call that is up.
#[must_use]
pub fn step(input: Input, view: &View<'_>) -> Step {
    match input {
        Input::Leg(leg, input) if view.staying().any(|staying| staying == leg) || is_ended(&input) => {
            on_leg(leg, input, view)
        }
        Input::Fired(Timer::Bye) => ending::begin(End::new(EndReason::AgentHungUp), view),
        Input::Fired(Timer::MaxDuration) => ending::begin(End::new(EndReason::MaxDuration), view),
        Input::Adopted(leg, Errand::Watch(_)) if view.target.converses() => {
            (Phase::Talking, supervision::begin(leg, &parties(view), view))
        }
        Input::Adopted(leg, _) => (Phase::Talking, vec![view.turn_away(leg, 480)]),
        Input::Commanded(Command::Transfer(handover, by)) if view.target.converses() => match view.parties().next() {
            Some(caller) => transfer::commanded(caller, handover, by),
            None => (Phase::Talking, vec![]),
        },
        Input::Commanded(command) if ending::ends(&command) => ending::begin(ending::end_by(&command), view),
        Input::Leg(..) | Input::Found(_) | Input::Entered(..) | Input::Commanded(_) | Input::Fired(_) => {
            (Phase::Talking, vec![])
        }
    }
}

/// Once somebody supervises the conversation, its line is in a room with them.
fn parties(view: &View<'_>) -> Vec<LegNo> {
    view.parties().collect()
}

fn is_ended(input: &LegInput) -> bool {
    matches!(input, LegInput::Ended(_))
}

fn on_leg(leg: LegNo, input: LegInput, view: &View<'_>) -> Step {
    if view.supervises(leg) {
        return (Phase::Talking, supervision::on_leg(leg, &input, &parties(view), view));
    }
    match input {
        LegInput::Digit(digit) => (Phase::Talking, vec![Action::DeliverDigit(leg, digit)]),
        // A branch that lost and is only now gone ends nothing.
        LegInput::Ended(_) if view.parties().next().is_some() => (Phase::Talking, vec![]),
        LegInput::Ended(end) => ending::begin(ending::end_of(&end, view.side(leg)), view),
        LegInput::MediaTimedOut => ending::begin(End::new(EndReason::MediaTimeout), view),
        LegInput::MediaGone => {
            ending::begin(End::new(EndReason::Internal).with_detail("the media engine is gone"), view)
        }
        LegInput::MediaFailed(why) => ending::begin(End::new(EndReason::NotAcceptable).with_detail(why), view),
        LegInput::Conversed(ConversationEnd::Transfer(handover)) => transfer::begin(leg, handover),
        LegInput::Conversed(end) => conversed(end, view),
        // An agent's call is passed on by the agent.
        LegInput::Referred(_) => (Phase::Talking, vec![Action::RejectRefer(leg, 403)]),
        LegInput::Progress { .. }
        | LegInput::Answered
        | LegInput::Acked
        | LegInput::Held(_)
        | LegInput::Wrote(..)
        | LegInput::Passed(..) => (Phase::Talking, vec![]),
    }
}

fn conversed(end: ConversationEnd, view: &View<'_>) -> Step {
    let end = match end {
        ConversationEnd::Done(why) => End::new(EndReason::AgentHungUp).with_detail(why),
        ConversationEnd::Failed { what, upstream: true } => End::new(EndReason::ProviderFailed).with_detail(what),
        ConversationEnd::Failed { what, upstream: false } => End::new(EndReason::AgentUnavailable).with_detail(what),
        // The line closes when the call ends, and whoever closed it says how; a transfer was begun before this.
        ConversationEnd::LineClosed | ConversationEnd::Transfer(_) | ConversationEnd::Announced { .. } => {
            return (Phase::Talking, vec![]);
        }
    };
    ending::begin(end, view)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::end::EndClass;
    use crate::call::route::Target;
    use crate::call::{LegView, SignallingEnd};

    const UP: LegView = LegView { is_up: true, ..LegView::caller(LegNo::FIRST) };

    fn view(legs: &[LegView]) -> View<'_> {
        View::of(&Target::Echo, legs)
    }

    fn leg(input: LegInput) -> Input {
        Input::Leg(LegNo::FIRST, input)
    }

    fn end_after(input: Input) -> (End, Vec<Action>) {
        let legs: &[LegView] = if matches!(&input, Input::Leg(_, LegInput::Ended(_))) { &[] } else { &[UP] };
        match step(input, &view(legs)) {
            (Phase::Ending(end) | Phase::Over(end), actions) => (end, actions),
            other => unreachable!("the call went on: {other:?}"),
        }
    }

    #[test]
    fn every_way_a_call_ends_has_its_class() {
        let failed = |upstream| leg(LegInput::Conversed(ConversationEnd::Failed { what: "model".into(), upstream }));
        for (input, class, reason) in [
            (leg(LegInput::Ended(SignallingEnd::Remote)), EndClass::Ok, EndReason::CallerHungUp),
            (
                leg(LegInput::Ended(SignallingEnd::TransportFailed("reset".into()))),
                EndClass::CallerFault,
                EndReason::PeerLost,
            ),
            (leg(LegInput::MediaTimedOut), EndClass::CallerFault, EndReason::MediaTimeout),
            (Input::Fired(Timer::MaxDuration), EndClass::OurFault, EndReason::MaxDuration),
            (leg(LegInput::Conversed(ConversationEnd::Done("goodbye".into()))), EndClass::Ok, EndReason::AgentHungUp),
            (failed(true), EndClass::UpstreamFault, EndReason::ProviderFailed),
            (failed(false), EndClass::OurFault, EndReason::AgentUnavailable),
            (Input::Commanded(Command::ShutDown), EndClass::OurFault, EndReason::ShuttingDown),
        ] {
            let (end, actions) = end_after(input.clone());
            assert_eq!((end.class, end.reason), (class, reason), "{input:?}");
            let says_bye = actions.contains(&Action::HangUp(LegNo::FIRST, None));
            assert_eq!(says_bye, !matches!(input, Input::Leg(_, LegInput::Ended(_))), "{input:?}");
        }
    }

    #[test]
    fn a_key_sent_by_info_reaches_the_conversation() {
        let pressed = leg(LegInput::Digit('5'));
        let deliver = vec![Action::DeliverDigit(LegNo::FIRST, '5')];
        assert_eq!(step(pressed, &view(&[UP])), (Phase::Talking, deliver));
    }

    #[test]
    fn a_leg_that_is_only_now_gone_ends_nothing() {
        let late = Input::Leg(LegNo(7), LegInput::Ended(SignallingEnd::Local));
        assert_eq!(step(late, &view(&[UP])), (Phase::Talking, vec![]));
    }
}
