//! A call that is up: keys, timers, the conversation's end, the caller's BYE.

use super::end::{End, EndReason};
use super::{Action, ConversationEnd, Input, Phase, Step, Timer, ending};

/// Steps a call that is up.
#[must_use]
pub fn step(input: Input) -> Step {
    match input {
        Input::InfoDigit(digit) => (Phase::Talking, vec![Action::DeliverDigit(digit)]),
        Input::SignallingEnded(end) => ending::over(ending::end_of(&end)),
        Input::MediaTimedOut => ending::begin(End::new(EndReason::MediaTimeout)),
        Input::MediaGone => ending::begin(End::new(EndReason::Internal).with_detail("the media engine is gone")),
        Input::MediaFailed(why) => ending::begin(End::new(EndReason::NotAcceptable).with_detail(why)),
        Input::Fired(Timer::Bye) => ending::begin(End::new(EndReason::AgentHungUp)),
        Input::Fired(Timer::MaxDuration) => ending::begin(End::new(EndReason::MaxDuration)),
        Input::Commanded(command) => ending::begin(ending::end_by(command)),
        Input::ConversationEnded(end) => match end {
            ConversationEnd::Done(why) => ending::begin(End::new(EndReason::AgentHungUp).with_detail(why)),
            ConversationEnd::Transfer(uri) => {
                let detail = format!("no way to reach {uri} is configured");
                ending::begin(End::new(EndReason::TransferFailed).with_detail(detail))
            }
            ConversationEnd::Failed { what, upstream: true } => {
                ending::begin(End::new(EndReason::ProviderFailed).with_detail(what))
            }
            ConversationEnd::Failed { what, upstream: false } => {
                ending::begin(End::new(EndReason::AgentUnavailable).with_detail(what))
            }
            // The line closes when the call ends; whoever closed it says how.
            ConversationEnd::LineClosed => (Phase::Talking, vec![]),
        },
        Input::Answered | Input::Progress | Input::Acked | Input::Fired(Timer::NoAnswer | Timer::EndUnconfirmed) => {
            (Phase::Talking, vec![])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::end::EndClass;
    use crate::call::{Command, SignallingEnd};

    fn end_after(input: Input) -> (End, Vec<Action>) {
        match step(input) {
            (Phase::Ending(end) | Phase::Over(end), actions) => (end, actions),
            other => unreachable!("the call went on: {other:?}"),
        }
    }

    #[test]
    fn every_way_a_call_ends_has_its_class() {
        let failed = |upstream| Input::ConversationEnded(ConversationEnd::Failed { what: "model".into(), upstream });
        for (input, class, reason) in [
            (Input::SignallingEnded(SignallingEnd::Remote), EndClass::Ok, EndReason::CallerHungUp),
            (
                Input::SignallingEnded(SignallingEnd::TransportFailed("reset".into())),
                EndClass::CallerFault,
                EndReason::PeerLost,
            ),
            (Input::MediaTimedOut, EndClass::CallerFault, EndReason::MediaTimeout),
            (Input::Fired(Timer::MaxDuration), EndClass::OurFault, EndReason::MaxDuration),
            (Input::ConversationEnded(ConversationEnd::Done("goodbye".into())), EndClass::Ok, EndReason::AgentHungUp),
            (failed(true), EndClass::UpstreamFault, EndReason::ProviderFailed),
            (failed(false), EndClass::OurFault, EndReason::AgentUnavailable),
            (Input::Commanded(Command::ShutDown), EndClass::OurFault, EndReason::ShuttingDown),
        ] {
            let (end, actions) = end_after(input.clone());
            assert_eq!((end.class, end.reason), (class, reason), "{input:?}");
            assert!(actions.contains(&Action::CloseMedia), "{input:?}: the leg must be given back");
        }
    }

    #[test]
    fn a_key_sent_by_info_reaches_the_conversation() {
        assert_eq!(step(Input::InfoDigit('5')), (Phase::Talking, vec![Action::DeliverDigit('5')]));
    }

    #[test]
    fn our_own_end_says_bye_and_the_callers_does_not() {
        assert!(end_after(Input::MediaTimedOut).1.contains(&Action::HangUp));
        assert!(!end_after(Input::SignallingEnded(SignallingEnd::Remote)).1.contains(&Action::HangUp));
    }
}
