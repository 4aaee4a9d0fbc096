//! The end of a call: who said BYE, and whether it was confirmed.

use super::end::{End, EndReason};
use super::{Action, Command, END_CONFIRMED_WITHIN, Input, Phase, SignallingEnd, Step, Timer};

/// We end the call: BYE goes out, the leg is given back, and the end is settled whatever the peer answers.
#[must_use]
pub fn begin(end: End) -> Step {
    let actions = vec![Action::HangUp, Action::CloseMedia, Action::Arm(Timer::EndUnconfirmed, END_CONFIRMED_WITHIN)];
    (Phase::Ending(end), actions)
}

/// The dialog is over already.
#[must_use]
pub fn over(end: End) -> Step {
    (Phase::Over(end), vec![Action::CloseMedia])
}

/// Steps a call whose BYE is on its way.
#[must_use]
pub fn step(end: End, input: Input) -> Step {
    match input {
        Input::SignallingEnded(_) | Input::Fired(Timer::EndUnconfirmed) => (Phase::Over(end), vec![]),
        // Told again that the server stops: there is no more time for the peer to confirm.
        Input::Commanded(Command::ShutDown) => (Phase::Over(end), vec![]),
        _ => (Phase::Ending(end), vec![]),
    }
}

/// The end that signalling brought.
#[must_use]
pub fn end_of(end: &SignallingEnd) -> End {
    match end {
        SignallingEnd::Local => End::new(EndReason::Commanded),
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
        SignallingEnd::TransportFailed(why) => End::new(EndReason::PeerLost).with_detail(why.clone()),
    }
}

/// The end that a command brings.
#[must_use]
pub fn end_by(command: Command) -> End {
    match command {
        Command::HangUp => End::new(EndReason::Commanded),
        Command::ShutDown => End::new(EndReason::ShuttingDown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_settled_end_stays_as_it_is_whatever_the_peer_answers() {
        let end = End::new(EndReason::MaxDuration);
        assert_eq!(step(end.clone(), Input::MediaTimedOut), (Phase::Ending(end.clone()), vec![]));
        let confirmed = Input::SignallingEnded(SignallingEnd::TimedOut);
        assert_eq!(step(end.clone(), confirmed), (Phase::Over(end.clone()), vec![]));
        assert_eq!(step(end.clone(), Input::Fired(Timer::EndUnconfirmed)), (Phase::Over(end.clone()), vec![]));
        assert_eq!(step(end.clone(), Input::Commanded(Command::ShutDown)), (Phase::Over(end), vec![]));
    }
}
