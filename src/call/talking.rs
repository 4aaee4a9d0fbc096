//! A call that is up: keys, timers, the conversation's end, the caller's BYE.

use super::end::{End, EndReason};
use super::place::Errand;
use super::{
    Action, Command, ConversationEnd, Handover, Input, LegInput, LegNo, Phase, Step, Timer, View, ending, supervision,
    transfer,
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
        Input::Adopted(leg, Errand::Replace(replaced)) if takes_over(leg, replaced, view) => match view.is_up(leg) {
            true => replace(leg, replaced, view),
            false => (Phase::Talking, vec![Action::Answer(leg)]),
        },
        Input::Adopted(leg, _) => (Phase::Talking, vec![view.turn_away(leg, 480)]),
        Input::Commanded(Command::Transfer(handover, by)) if view.target.converses() => match view.parties().next() {
            Some(caller) => transfer::commanded(caller, handover, by),
            None => (Phase::Talking, vec![]),
        },
        Input::Commanded(command) if ending::ends(&command) => ending::begin(ending::end_by(&command), view),
        Input::Leg(..)
        | Input::Found(_)
        | Input::Finding
        | Input::Offered(_)
        | Input::Deserted
        | Input::Entered(..)
        | Input::Commanded(_)
        | Input::Fired(_) => (Phase::Talking, vec![]),
    }
}

/// Once somebody supervises the conversation, its line is in a room with them.
fn parties(view: &View<'_>) -> Vec<LegNo> {
    view.parties().collect()
}

/// Whether the one on `leg` is to talk with the agent in the place of the one on `replaced`, who is here still.
fn takes_over(leg: LegNo, replaced: LegNo, view: &View<'_>) -> bool {
    let is_here = leg != replaced && view.parties().any(|party| party == replaced);
    is_here && view.target.converses() && transfer::may_hand_over(view).is_ok()
}

/// Somebody consulted the agent, and now passes whom they spoke with on to it (RFC 5589 section 7): the agent begins anew with them, and knows
/// what it was told.
fn replace(leg: LegNo, replaced: LegNo, view: &View<'_>) -> Step {
    let mut actions = vec![
        Action::NotifyRefer(replaced, 200),
        Action::HangUp(replaced, None),
        Action::Part(leg),
        Action::Music(leg, false),
        Action::Converse(leg, view.target.clone(), Handover::default()),
    ];
    actions.extend(supervision::resume(&[leg], view));
    (Phase::Talking, actions)
}

/// What the leg brings of somebody who is about to take the caller's place.
fn on_guest(leg: LegNo, replaced: LegNo, input: &LegInput, view: &View<'_>) -> Step {
    match input {
        LegInput::Acked => replace(leg, replaced, view),
        LegInput::MediaTimedOut | LegInput::MediaFailed(_) | LegInput::MediaGone => {
            (Phase::Talking, vec![Action::HangUp(leg, None)])
        }
        LegInput::Referred(_) => (Phase::Talking, vec![Action::RejectRefer(leg, 403)]),
        _ => (Phase::Talking, vec![]),
    }
}

fn is_ended(input: &LegInput) -> bool {
    matches!(input, LegInput::Ended(_))
}

fn on_leg(leg: LegNo, input: LegInput, view: &View<'_>) -> Step {
    if view.supervises(leg) {
        return (Phase::Talking, supervision::on_leg(leg, &input, &parties(view), view));
    }
    if let Some(Errand::Replace(replaced)) = view.errand(leg)
        && takes_over(leg, replaced, view)
    {
        return on_guest(leg, replaced, &input, view);
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

/// The conversation is over, and with it the call.
pub(super) fn conversed(end: ConversationEnd, view: &View<'_>) -> Step {
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

    /// Conforms: RFC 5589 §7 — whoever consulted an agent passes whom they spoke with on to it.
    #[test]
    fn whoever_is_brought_to_the_agent_talks_with_it_in_the_place_of_the_one_who_consulted_it() {
        const GUEST: LegNo = LegNo::ADOPTED;
        let agent = Target::Agent("desk".into());
        let errand = Errand::Replace(LegNo::FIRST);
        let guest = |is_up| LegView { is_up, errand: Some(errand), ..LegView::caller(GUEST) };
        let taken = |input: Input, is_up: bool| {
            let legs = [UP, guest(is_up)];
            step(input, &View::of(&agent, &legs))
        };
        let talks = vec![
            Action::NotifyRefer(LegNo::FIRST, 200),
            Action::HangUp(LegNo::FIRST, None),
            Action::Part(GUEST),
            Action::Music(GUEST, false),
            Action::Converse(GUEST, agent.clone(), Handover::default()),
        ];
        assert_eq!(taken(Input::Adopted(GUEST, errand), true), (Phase::Talking, talks.clone()));
        // By an INVITE with Replaces they are answered first.
        assert_eq!(taken(Input::Adopted(GUEST, errand), false).1, vec![Action::Answer(GUEST)]);
        assert_eq!(taken(Input::Leg(GUEST, LegInput::Acked), true), (Phase::Talking, talks));
        let failed = Input::Leg(GUEST, LegInput::MediaFailed("no codec".into()));
        assert_eq!(taken(failed, false), (Phase::Talking, vec![Action::HangUp(GUEST, None)]), "the other talks on");
        // Whoever was to be replaced has gone meanwhile; an echo talks with nobody.
        let legs = [LegView { stage: crate::call::Stage::Going, ..UP }, guest(true)];
        let away = vec![Action::HangUp(GUEST, None)];
        assert_eq!(step(Input::Adopted(GUEST, errand), &View::of(&agent, &legs)).1, away);
        let late = Input::Adopted(GUEST, Errand::Replace(GUEST));
        assert_eq!(step(late, &View::of(&agent, &[UP, guest(true)])).1, away);
        assert_eq!(step(Input::Adopted(GUEST, errand), &view(&[UP, guest(true)])).1, away);
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
