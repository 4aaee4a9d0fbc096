//! Changes of the session as a table: re-INVITE (RFC 3261 section 14), and offers in UPDATE and PRACK (RFC 3311, 3262). At most one is
//! under way in a dialog, in one direction.

/// Where the renegotiation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// None under way.
    Quiet,
    /// The peer's re-INVITE waits for our user.
    Asked,
    /// The peer's offer in an UPDATE or PRACK waits for our user.
    AskedPlainly,
    /// Our 2xx to the peer's re-INVITE waits for ACK.
    Replied,
    /// Our re-INVITE waits for the peer.
    Asking,
}

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// The peer sends a re-INVITE.
    PeerInvite,
    /// The peer offers by UPDATE or PRACK.
    PeerOffer,
    /// The user has not answered that in time.
    Overdue,
    /// The user answers it.
    Answer,
    /// The user refuses it.
    Refuse,
    /// The peer cancels it.
    PeerCancel,
    /// ACK to our 2xx.
    Ack,
    /// The 2xx is due again.
    RepeatDue,
    /// No ACK for 64 T1.
    AckLimit,
    /// The user wants a re-INVITE sent.
    Offer,
    /// 2xx to ours.
    Success,
    /// A failure that leaves the call as it was.
    Failure,
    /// 491.
    Glare,
    /// 481, 408 or no answer.
    Gone,
    /// The call ends.
    CallEnds,
}

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Ask the user.
    TellReoffer,
    /// Answer the new re-INVITE with 500 and Retry-After.
    Refuse500,
    /// Answer the new re-INVITE with 491.
    Refuse491,
    /// Answer it with 2xx, and repeat that until ACK.
    SendAnswer,
    /// Answer the UPDATE or PRACK with 2xx.
    SendPlainAnswer,
    /// Refuse it as the user says; with 500 where the user says nothing.
    SendPlainRefusal,
    /// Send the 2xx again.
    RepeatAnswer,
    /// Stop repeating.
    StopRepeating,
    /// Refuse as the user says.
    SendRefusal,
    /// Refuse with 487.
    SendTerminated,
    /// Send our re-INVITE.
    SendInvite,
    /// Acknowledge the 2xx.
    SendAck,
    /// Tell the user that our answer was acknowledged.
    TellAcked,
    /// Tell the user what became of ours.
    TellResult,
    /// Try again after a while.
    ScheduleRetry,
    /// The call is gone: hang up.
    EndGone,
    /// The answer was never acknowledged: hang up.
    EndNoAck,
}

/// One entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// The next state.
    pub next: State,
    /// In order.
    pub actions: &'static [Action],
}

fn step(next: State, actions: &'static [Action]) -> Option<Step> {
    Some(Step { next, actions })
}

/// The table: `None` means that the input does not fit the state.
pub fn table(state: State, input: Input) -> Option<Step> {
    use Action::{
        EndGone, EndNoAck, Refuse491, Refuse500, RepeatAnswer, ScheduleRetry, SendAck, SendAnswer, SendInvite,
        SendPlainAnswer, SendPlainRefusal, SendRefusal, SendTerminated, StopRepeating, TellAcked, TellReoffer,
        TellResult,
    };
    use State::{Asked, AskedPlainly, Asking, Quiet, Replied};
    match (state, input) {
        (Quiet, Input::PeerInvite) => step(Asked, &[TellReoffer]),
        // 14.2: a second one before the first is answered.
        (Asked | AskedPlainly, Input::PeerInvite | Input::PeerOffer) => step(state, &[Refuse500]),
        // 14.2: one of ours is under way. Likewise while our answer is not acknowledged (RFC 5407 section 3.1.4).
        (Asking | Replied, Input::PeerInvite | Input::PeerOffer) => step(state, &[Refuse491]),

        // RFC 3311 section 5.2: no ACK follows.
        (Quiet, Input::PeerOffer) => step(AskedPlainly, &[TellReoffer]),
        (AskedPlainly, Input::Answer) => step(Quiet, &[SendPlainAnswer]),
        (AskedPlainly, Input::Refuse | Input::Overdue | Input::CallEnds) => step(Quiet, &[SendPlainRefusal]),

        (Asked, Input::Answer) => step(Replied, &[SendAnswer]),
        (Asked, Input::Refuse) => step(Quiet, &[SendRefusal]),
        (Asked, Input::PeerCancel | Input::CallEnds) => step(Quiet, &[SendTerminated]),
        (Replied, Input::Ack) => step(Quiet, &[StopRepeating, TellAcked]),
        (Replied, Input::RepeatDue) => step(Replied, &[RepeatAnswer]),
        (Replied, Input::AckLimit) => step(Quiet, &[StopRepeating, EndNoAck]),
        (Replied, Input::CallEnds) => step(Quiet, &[StopRepeating]),

        (Quiet, Input::Offer) => step(Asking, &[SendInvite]),
        (Asking, Input::Success) => step(Quiet, &[SendAck, TellResult]),
        // The 2xx came again: its ACK was lost.
        (Quiet, Input::Success) => step(Quiet, &[SendAck]),
        (Asking, Input::Failure) => step(Quiet, &[TellResult]),
        // 14.1: wait a random time and try again.
        (Asking, Input::Glare) => step(Quiet, &[ScheduleRetry]),
        // 14.1: 481, 408 or no answer ends the dialog.
        (Asking, Input::Gone) => step(Quiet, &[TellResult, EndGone]),
        (Asking, Input::CallEnds) => step(Quiet, &[]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn glare_is_answered_491_and_overlap_500() {
        let refusal = |state| table(state, Input::PeerInvite).map(|step| (step.next, step.actions));
        assert_eq!(refusal(State::Asking), Some((State::Asking, &[Action::Refuse491][..])));
        assert_eq!(refusal(State::Asked), Some((State::Asked, &[Action::Refuse500][..])));
        assert_eq!(refusal(State::AskedPlainly), Some((State::AskedPlainly, &[Action::Refuse500][..])));
        assert_eq!(refusal(State::Replied), Some((State::Replied, &[Action::Refuse491][..])));
    }

    #[test]
    fn the_end_of_the_call_quiets_every_state() {
        for state in [State::Asked, State::AskedPlainly, State::Replied, State::Asking] {
            assert_eq!(table(state, Input::CallEnds).map(|step| step.next), Some(State::Quiet));
        }
    }
}
