//! The end of a call: who said BYE, and whether it was confirmed.

use super::end::{End, EndReason};
use super::{Action, Command, END_CONFIRMED_WITHIN, Input, Phase, Role, SignallingEnd, Step, Timer, View};

/// We end the call: every leg that is left is hung up, and the end is settled whatever the peers answer.
#[must_use]
pub fn begin(end: End, view: &View<'_>) -> Step {
    let mut actions: Vec<Action> = view.staying().map(|leg| Action::HangUp(leg, None)).collect();
    actions.push(Action::Arm(Timer::EndUnconfirmed, END_CONFIRMED_WITHIN));
    (Phase::Ending(end), actions)
}

/// All legs were told to end, or have.
#[must_use]
pub fn wait(end: End) -> Step {
    (Phase::Ending(end), vec![Action::Arm(Timer::EndUnconfirmed, END_CONFIRMED_WITHIN)])
}

/// Steps a call whose BYE is on its way.
#[must_use]
pub fn step(end: End, input: &Input) -> Step {
    match input {
        // Told again that the server stops: there is no more time for the peer to confirm.
        Input::Fired(Timer::EndUnconfirmed) | Input::Commanded(Command::ShutDown) => (Phase::Over(end), vec![]),
        _ => (Phase::Ending(end), vec![]),
    }
}

/// A call that ends is over once no leg is left.
#[must_use]
pub fn settle(phase: Phase, legs_left: usize) -> Phase {
    match phase {
        Phase::Ending(end) if legs_left == 0 => Phase::Over(end),
        other => other,
    }
}

/// The end that signalling brought, on a leg where `role` says who called whom.
#[must_use]
pub fn end_of(end: &SignallingEnd, role: Role) -> End {
    let settled = match end {
        SignallingEnd::Local => End::new(EndReason::Commanded),
        SignallingEnd::Remote if role == Role::Callee => End::new(EndReason::FarSideHungUp),
        SignallingEnd::Remote => End::new(EndReason::CallerHungUp),
        SignallingEnd::Cancelled => End::new(EndReason::CallerCancelled),
        SignallingEnd::TimedOut => End::new(EndReason::PeerLost).with_detail("no answer to a request"),
        SignallingEnd::NoAck => End::new(EndReason::NoAck),
        SignallingEnd::Rejected { code: code @ (486 | 600), reason } => {
            End::new(EndReason::Busy).with_detail(format!("{code} {reason}"))
        }
        SignallingEnd::Rejected { code, reason } => {
            End::new(EndReason::Refused).with_detail(format!("{code} {reason}"))
        }
        SignallingEnd::Redirected(_) => End::new(EndReason::Refused).with_detail("sent elsewhere"),
        SignallingEnd::NotPlaced(why) => End::new(EndReason::Unreachable).with_detail(why.clone()),
        SignallingEnd::TransportFailed(why) => End::new(EndReason::PeerLost).with_detail(why.clone()),
    };
    if role == Role::Callee { settled.on_far_side() } else { settled }
}

/// The end of a call in which nothing is heard of a leg's peer any more, where `role` says on whose side it is.
#[must_use]
pub fn unheard(role: Role) -> End {
    let end = End::new(EndReason::MediaTimeout);
    if role == Role::Callee { end.on_far_side() } else { end }
}

/// Whether a command ends the call.
#[must_use]
pub fn ends(command: &Command) -> bool {
    matches!(command, Command::HangUp | Command::ShutDown)
}

/// The end that a command brings.
#[must_use]
pub fn end_by(command: &Command) -> End {
    match command {
        Command::ShutDown => End::new(EndReason::ShuttingDown),
        _ => End::new(EndReason::Commanded),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::{LegInput, LegNo};

    #[test]
    fn a_settled_end_stays_as_it_is_whatever_the_peer_answers() {
        let end = End::new(EndReason::MaxDuration);
        let unmoved = Input::Leg(LegNo::FIRST, LegInput::MediaTimedOut);
        assert_eq!(step(end.clone(), &unmoved), (Phase::Ending(end.clone()), vec![]));
        let confirmed = Input::Leg(LegNo::FIRST, LegInput::Ended(SignallingEnd::TimedOut));
        assert_eq!(settle(step(end.clone(), &confirmed).0, 0), Phase::Over(end.clone()));
        assert_eq!(settle(step(end.clone(), &confirmed).0, 1), Phase::Ending(end.clone()), "one leg is left");
        assert_eq!(step(end.clone(), &Input::Fired(Timer::EndUnconfirmed)), (Phase::Over(end.clone()), vec![]));
        assert_eq!(step(end.clone(), &Input::Commanded(Command::ShutDown)), (Phase::Over(end), vec![]));
    }
}
