//! One call's life as a table: the INVITE session that a dialog carries, seen from either side (RFC 3261 sections 9,
//! 13 and 15).
//!
//! The table is a pure function; the endpoint runs its actions. Re-INVITE has a table of its own (see
//! [`reoffer`](super::reoffer)), for it happens while the session stands.

/// Where a call stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// INVITE received; no final response yet.
    Incoming,
    /// 2xx sent, ACK awaited.
    Answered,
    /// 2xx sent, ACK awaited, and the user has hung up already: BYE goes out with the ACK.
    AnsweredLeaving,
    /// INVITE sent, no response yet.
    Calling,
    /// INVITE sent, no response yet, and the user has given up: CANCEL goes out with the first provisional response.
    CallingLeaving,
    /// Provisional response received.
    Ringing,
    /// CANCEL sent.
    Cancelling,
    /// The call stands.
    Established,
    /// BYE sent.
    Leaving,
    /// Over.
    Ended,
}

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// The user answers (2xx).
    Answer,
    /// The user refuses (3xx to 6xx).
    Refuse,
    /// The user hangs up, or gives up.
    HangUp,
    /// The user's time to answer, or the peer's, is up.
    RingLimit,
    /// Our reliable provisional response was never acknowledged.
    NoPrack,
    /// ACK to our 2xx.
    Ack,
    /// The 2xx is due again.
    RepeatDue,
    /// 64 T1 after the 2xx without ACK.
    AckLimit,
    /// CANCEL received.
    PeerCancel,
    /// BYE received.
    PeerBye,
    /// 1xx received.
    Provisional,
    /// 2xx received.
    Success,
    /// 3xx to 6xx received (and no credentials to try).
    Failure,
    /// The INVITE's transaction timed out.
    Timeout,
    /// The INVITE could not be sent.
    Unreachable,
    /// 64 T1 after our CANCEL without a final response.
    CancelLimit,
    /// BYE was answered, timed out or could not be sent.
    ByeDone,
    /// A request of ours inside the call got 481 or 408, or no answer.
    Gone,
}

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Send the 2xx and repeat it until ACK.
    SendAnswer,
    /// Send the 2xx again.
    RepeatAnswer,
    /// Stop repeating.
    StopRepeating,
    /// Send the user's refusal.
    SendRefusal,
    /// Refuse with 480: it rang for too long, or the user hung up instead of answering.
    SendUnavailable,
    /// Refuse with 504: a reliable provisional response was not acknowledged (RFC 3262 section 3).
    SendServerTimeout,
    /// Refuse with 487: the caller gave up.
    SendTerminated,
    /// Acknowledge the 2xx (again).
    SendAck,
    /// Send CANCEL.
    SendCancel,
    /// Send BYE.
    SendBye,
    /// Drop the client transaction without waiting for more.
    DropInvite,
    /// Tell the user: cancelled.
    TellCancelled,
    /// Tell the user: acknowledged.
    TellAcked,
    /// Tell the user: progress.
    TellProgress,
    /// Tell the user: answered.
    TellAnswered,
    /// Tell the user: rejected.
    TellRejected,
    /// Note why the call ends, unless that is noted already.
    Note(Why),
}

/// Why a call ends, as the table knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// We hung up.
    LocalBye,
    /// The peer hung up.
    RemoteBye,
    /// Given up before an answer.
    Cancelled,
    /// We refused.
    Refused,
    /// The peer refused.
    Rejected,
    /// Too long without an answer.
    Timeout,
    /// No ACK.
    NoAck,
    /// The peer does not know the call.
    Gone,
    /// Could not send.
    Unreachable,
}

/// One entry: the next phase and what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// The next phase; `Ended` means that the user is told so.
    pub next: Phase,
    /// In order.
    pub actions: &'static [Action],
}

fn step(next: Phase, actions: &'static [Action]) -> Option<Step> {
    Some(Step { next, actions })
}

/// The table: `None` means that the input does not fit the phase (a command fails, a message is answered 481 or
/// ignored).
pub fn table(phase: Phase, input: Input) -> Option<Step> {
    match phase {
        Phase::Incoming | Phase::Answered | Phase::AnsweredLeaving => answering(phase, input),
        Phase::Calling | Phase::CallingLeaving | Phase::Ringing | Phase::Cancelling => calling(phase, input),
        Phase::Established | Phase::Leaving => standing(phase, input),
        Phase::Ended => None,
    }
}

fn answering(phase: Phase, input: Input) -> Option<Step> {
    use Action::{Note, RepeatAnswer, SendAnswer, SendBye, SendRefusal, SendServerTimeout};
    use Action::{SendTerminated, SendUnavailable, StopRepeating, TellAcked, TellCancelled};
    use Phase::{Answered, AnsweredLeaving, Ended, Established, Incoming, Leaving};
    match (phase, input) {
        (Incoming, Input::Answer) => step(Answered, &[SendAnswer]),
        (Incoming, Input::Refuse) => step(Ended, &[SendRefusal, Note(Why::Refused)]),
        (Incoming, Input::HangUp) => step(Ended, &[SendUnavailable, Note(Why::LocalBye)]),
        (Incoming, Input::NoPrack) => step(Ended, &[SendServerTimeout, Note(Why::NoAck)]),
        (Incoming, Input::RingLimit) => step(Ended, &[SendUnavailable, Note(Why::Timeout)]),
        // 9.2: CANCEL is for an INVITE without a final response; later it has no effect.
        (Incoming, Input::PeerCancel) => step(Ended, &[SendTerminated, TellCancelled, Note(Why::Cancelled)]),
        (Answered | AnsweredLeaving, Input::PeerCancel) => step(phase, &[]),
        // 15.1.2: BYE on an early dialog ends the INVITE with 487 as well.
        (Incoming, Input::PeerBye) => step(Ended, &[SendTerminated, Note(Why::RemoteBye)]),
        (Incoming, Input::Unreachable) => None,

        // 13.3.1.4: the 2xx is repeated until ACK, for 64 T1; then the call is hung up.
        (Answered | AnsweredLeaving, Input::RepeatDue) => step(phase, &[RepeatAnswer]),
        (Answered | AnsweredLeaving, Input::AckLimit) => step(Leaving, &[StopRepeating, Note(Why::NoAck), SendBye]),
        (Answered, Input::Ack) => step(Established, &[StopRepeating, TellAcked]),
        // 15: the callee does not hang up before the ACK.
        (Answered, Input::HangUp) => step(AnsweredLeaving, &[Note(Why::LocalBye)]),
        (AnsweredLeaving, Input::Ack) => step(Leaving, &[StopRepeating, SendBye]),
        (AnsweredLeaving, Input::HangUp) => step(AnsweredLeaving, &[]),
        // The caller may hang up before its ACK arrives (RFC 5407 section 3.1.2 tells of the race).
        (Answered | AnsweredLeaving, Input::PeerBye) => step(Ended, &[StopRepeating, Note(Why::RemoteBye)]),
        _ => None,
    }
}

fn calling(phase: Phase, input: Input) -> Option<Step> {
    use Action::{DropInvite, Note, SendAck, SendBye, SendCancel, TellAnswered, TellProgress, TellRejected};
    use Phase::{Calling, CallingLeaving, Cancelling, Ended, Established, Leaving, Ringing};
    match (phase, input) {
        (Calling | Ringing, Input::Provisional) => step(Ringing, &[TellProgress]),
        (Calling | Ringing, Input::Success) => step(Established, &[SendAck, TellAnswered]),
        (Calling | Ringing, Input::Failure) => step(Ended, &[TellRejected, Note(Why::Rejected)]),
        (Calling | Ringing, Input::Timeout) => step(Ended, &[Note(Why::Timeout)]),
        (_, Input::Unreachable) => step(Ended, &[Note(Why::Unreachable)]),

        // 9.1: no CANCEL before a provisional response.
        (Calling, Input::HangUp) => step(CallingLeaving, &[Note(Why::Cancelled)]),
        (Calling, Input::RingLimit) => step(CallingLeaving, &[Note(Why::Timeout)]),
        (Ringing, Input::HangUp) => step(Cancelling, &[Note(Why::Cancelled), SendCancel]),
        (Ringing, Input::RingLimit) => step(Cancelling, &[Note(Why::Timeout), SendCancel]),
        (CallingLeaving, Input::Provisional) => step(Cancelling, &[SendCancel]),
        (Cancelling, Input::Provisional) => step(Cancelling, &[]),
        (CallingLeaving | Cancelling, Input::HangUp | Input::RingLimit) => step(phase, &[]),
        (CallingLeaving | Cancelling, Input::Failure | Input::Timeout) => step(Ended, &[]),
        // 9.1: 64 T1 after the CANCEL the INVITE counts as cancelled, whether or not the peer says so.
        (CallingLeaving | Cancelling, Input::CancelLimit) => step(Ended, &[DropInvite]),
        // 15: CANCEL and 2xx crossed: the call stands, so it is acknowledged and hung up.
        (CallingLeaving | Cancelling, Input::Success) => step(Leaving, &[SendAck, SendBye]),
        // 15.1.2, early dialog: the callee ends it, though by rights it should refuse the INVITE.
        (Ringing | Cancelling, Input::PeerBye) => step(Ended, &[DropInvite, Note(Why::RemoteBye)]),
        _ => None,
    }
}

fn standing(phase: Phase, input: Input) -> Option<Step> {
    use Action::{Note, SendAck, SendBye};
    use Phase::{Ended, Established, Leaving};
    match (phase, input) {
        (Established, Input::HangUp) => step(Leaving, &[Note(Why::LocalBye), SendBye]),
        (Established, Input::PeerBye) => step(Ended, &[Note(Why::RemoteBye)]),
        // 12.2.1.2: 481 or 408 inside a dialog, or no answer, ends it.
        (Established, Input::Gone) => step(Leaving, &[Note(Why::Gone), SendBye]),
        // The ACK was lost, so the 2xx comes again (13.2.2.4).
        (Established | Leaving, Input::Success) => step(phase, &[SendAck]),
        (Established, Input::PeerCancel | Input::Ack | Input::RepeatDue | Input::AckLimit) => step(phase, &[]),
        (Leaving, Input::ByeDone) => step(Ended, &[]),
        // Both sides hang up at once (RFC 5407 section 3.1.6): each answers the other's BYE.
        (Leaving, Input::PeerBye) => step(Ended, &[]),
        (Leaving, Input::HangUp | Input::Ack | Input::Gone | Input::CancelLimit) => step(phase, &[]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PHASES: [Phase; 10] = [
        Phase::Incoming,
        Phase::Answered,
        Phase::AnsweredLeaving,
        Phase::Calling,
        Phase::CallingLeaving,
        Phase::Ringing,
        Phase::Cancelling,
        Phase::Established,
        Phase::Leaving,
        Phase::Ended,
    ];
    const INPUTS: [Input; 18] = [
        Input::Answer,
        Input::Refuse,
        Input::HangUp,
        Input::RingLimit,
        Input::NoPrack,
        Input::Ack,
        Input::RepeatDue,
        Input::AckLimit,
        Input::PeerCancel,
        Input::PeerBye,
        Input::Provisional,
        Input::Success,
        Input::Failure,
        Input::Timeout,
        Input::Unreachable,
        Input::CancelLimit,
        Input::ByeDone,
        Input::Gone,
    ];

    #[test]
    fn an_ended_call_takes_no_input() {
        assert!(INPUTS.iter().all(|input| table(Phase::Ended, *input).is_none()));
    }

    #[test]
    fn the_user_can_hang_up_in_every_phase_but_the_last() {
        for phase in PHASES.into_iter().filter(|phase| *phase != Phase::Ended) {
            let step = table(phase, Input::HangUp);
            assert!(step.is_some_and(|step| step.next != Phase::Established), "{phase:?}");
        }
    }

    #[test]
    fn every_phase_leads_to_the_end() {
        for start in PHASES {
            let mut reached = vec![start];
            let mut index = 0;
            while let Some(phase) = reached.get(index).copied() {
                for step in INPUTS.iter().filter_map(|input| table(phase, *input)) {
                    if !reached.contains(&step.next) {
                        reached.push(step.next);
                    }
                }
                index += 1;
            }
            assert!(reached.contains(&Phase::Ended), "{start:?}");
        }
    }

    #[test]
    fn bye_is_sent_once_at_most() {
        for phase in PHASES {
            for step in INPUTS.iter().filter_map(|input| table(phase, *input)) {
                if step.actions.contains(&Action::SendBye) {
                    assert_ne!(phase, Phase::Leaving);
                    assert_eq!(step.next, Phase::Leaving);
                }
            }
        }
    }

    #[test]
    fn cancel_waits_for_a_provisional_response() {
        assert_eq!(table(Phase::Calling, Input::HangUp).map(|step| step.next), Some(Phase::CallingLeaving));
        let step = table(Phase::CallingLeaving, Input::Provisional);
        assert!(step.is_some_and(|step| step.actions == [Action::SendCancel]));
    }
}
