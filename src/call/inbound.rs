//! A call that came in, from its INVITE to its ACK.

use std::sync::Arc;

use sip::endpoint::CallId;

use super::end::{End, EndReason};
use super::place::Place;
use super::route::{self, Directory, RouteQuery, Target};
use super::{
    Action, BYE_AFTER, Command, Input, LegInput, LegNo, Phase, SignallingEnd, Step, Timer, View, dialing, ending,
    entering,
};
use crate::config::Config;

/// What is known when an INVITE arrives.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Who calls whom, from where.
    pub query: RouteQuery<'a>,
    /// Calls in progress.
    pub running: usize,
    /// The server is stopping.
    pub stopping: bool,
    /// The leg of ours whose place the caller wants (Replaces, RFC 3891).
    pub replaces: Option<CallId>,
}

/// A call that is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// SIP status.
    pub code: u16,
    /// The end of the call; its detail is empty where the status and the reason say all there is.
    pub end: End,
}

impl Refusal {
    /// A refusal with this status for this reason.
    #[must_use]
    pub fn new(code: u16, reason: EndReason) -> Self {
        Self { code, end: End::new(reason) }
    }

    /// The same with more about it.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.end.detail = detail.into();
        self
    }

    /// The end of a call that was refused so, for its record: where nothing else is known it says what was answered.
    #[must_use]
    pub fn answered(&self) -> End {
        let end = self.end.clone();
        if end.detail.is_empty() { end.with_detail(format!("answered {}", self.code)) } else { end }
    }
}

/// Decides whether a call is taken, and by what.
///
/// # Errors
/// The refusal to send.
pub fn admit(config: &Config, facts: Facts<'_>, directory: &impl Directory) -> Result<Target, Refusal> {
    // Trunks and devices are known by more than their network.
    let peer = facts.query.source.remote.ip();
    let is_known = facts.query.trunk.is_some() || facts.query.device.is_some();
    if !is_known && !route::is_allowed(&config.sip.allow, peer) {
        return Err(Refusal::new(403, EndReason::NotAllowed));
    }
    if facts.stopping {
        return Err(Refusal::new(503, EndReason::ShuttingDown));
    }
    let target = match facts.replaces {
        // Whoever proves to be one of our devices and names a call that nobody can guess may take its place.
        Some(call) if facts.query.device.is_some() => Target::Place(Place::Replace(call)),
        Some(_) => return Err(Refusal::new(403, EndReason::NotAllowed)),
        None => directory.route(&facts.query)?,
    };
    if facts.running >= config.calls.max {
        return Err(Refusal::new(486, EndReason::TooManyCalls));
    }
    Ok(target)
}

/// The first step of an admitted call.
#[must_use]
pub fn begin(target: &Target) -> Step {
    match target {
        Target::Ring => (Phase::Ringing, vec![Action::Ring(LegNo::FIRST, 180)]),
        Target::Dial(plan) => dialing::for_caller(Arc::clone(plan)),
        Target::Place(place) => entering::begin(LegNo::FIRST, place.clone()),
        Target::Agent(_) | Target::App(_) | Target::Program(..) | Target::Echo | Target::Bye => {
            (Phase::Answering, vec![Action::Answer(LegNo::FIRST)])
        }
    }
}

/// Steps a call that rings or waits for its ACK.
#[must_use]
pub fn step(phase: Phase, input: Input, view: &View<'_>) -> Step {
    match (phase, input) {
        (phase, Input::Leg(_, input)) => on_leg(phase, input, view),
        (Phase::Ringing, Input::Commanded(command)) if ending::ends(&command) => {
            let (code, reason) = match command {
                Command::ShutDown => (503, EndReason::ShuttingDown),
                _ => (480, EndReason::Commanded),
            };
            (Phase::Over(End::new(reason)), vec![Action::Reject(LegNo::FIRST, code)])
        }
        (_, Input::Commanded(command)) if ending::ends(&command) => ending::begin(ending::end_by(&command), view),
        (phase, _) => (phase, vec![]),
    }
}

fn on_leg(phase: Phase, input: LegInput, view: &View<'_>) -> Step {
    match (phase, input) {
        (Phase::Answering, LegInput::Acked) => {
            let mut actions = vec![Action::Arm(Timer::MaxDuration, view.max_duration)];
            match view.target {
                Target::Agent(_) | Target::App(_) | Target::Program(..) => {
                    actions.push(Action::StartConversation(LegNo::FIRST))
                }
                Target::Bye => actions.push(Action::Arm(Timer::Bye, BYE_AFTER)),
                Target::Echo | Target::Ring | Target::Dial(_) | Target::Place(_) => {}
            }
            (Phase::Talking, actions)
        }
        (_, LegInput::Ended(SignallingEnd::NoAck | SignallingEnd::TimedOut)) => {
            ending::wait(End::new(EndReason::NoAck))
        }
        (_, LegInput::Ended(end)) => ending::wait(ending::end_of(&end, view.side(LegNo::FIRST))),
        (Phase::Answering, LegInput::MediaGone) => {
            ending::begin(End::new(EndReason::Internal).with_detail("the media engine is gone"), view)
        }
        (Phase::Answering, LegInput::MediaFailed(why)) => {
            ending::begin(End::new(EndReason::NotAcceptable).with_detail(why), view)
        }
        (phase, _) => (phase, vec![]),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::{Duration, SystemTime};

    use sip::endpoint::{FlowId, Source, Transport};

    use super::*;
    use crate::call::LegView;
    use crate::call::end::EndClass;

    /// Knows one number.
    struct EchoOnly;

    impl Directory for EchoOnly {
        fn route(&self, query: &RouteQuery<'_>) -> Result<Target, Refusal> {
            if query.user == "echo" {
                return Ok(Target::Echo);
            }
            Err(Refusal::new(404, EndReason::UnknownNumber))
        }
    }

    fn facts(user: &str) -> Facts<'_> {
        from([127, 0, 0, 1], user)
    }

    fn from(peer: [u8; 4], user: &str) -> Facts<'_> {
        let source = Source {
            transport: Transport::Udp,
            remote: (peer, 5_060).into(),
            local: ([127, 0, 0, 1], 5_060).into(),
            flow: FlowId(0),
        };
        let query = RouteQuery {
            user,
            request_uri: "",
            from_uri: "",
            source,
            trunk: None,
            device: None,
            request: None,
            diverted: &[],
            verdict: None,
            at: SystemTime::UNIX_EPOCH,
        };
        Facts { query, running: 0, stopping: false, replaces: None }
    }

    #[test]
    fn who_may_not_call_learns_nothing_about_numbers() {
        let stranger = from([203, 0, 113, 1], "nobody");
        assert_eq!(admit(&Config::default(), stranger, &EchoOnly).unwrap_err().code, 403);
        let mut stranger = from([203, 0, 113, 1], "echo");
        assert_eq!(admit(&Config::default(), stranger, &EchoOnly).unwrap_err().code, 403);
        stranger.query.trunk = Some("carrier");
        assert!(admit(&Config::default(), stranger, &EchoOnly).is_ok(), "a trunk is known by more than its network");
    }

    #[test]
    fn refusals_carry_the_right_code() {
        let config = Config::default();
        assert_eq!(admit(&config, facts("nobody"), &EchoOnly).unwrap_err().code, 404);
        assert_eq!(admit(&config, Facts { stopping: true, ..facts("echo") }, &EchoOnly).unwrap_err().code, 503);
        let full = Facts { running: config.calls.max, ..facts("echo") };
        let refusal = admit(&config, full, &EchoOnly).unwrap_err();
        assert_eq!((refusal.code, refusal.end.class), (486, EndClass::OurFault));
        // Nothing is known but the status: the record says that, and where more is known, that instead.
        assert_eq!((refusal.end.detail.as_str(), refusal.answered().detail.as_str()), ("", "answered 486"));
        assert_eq!(refusal.with_detail("all lines are taken").answered().detail, "all lines are taken");
        assert!(admit(&config, Facts { running: config.calls.max - 1, ..facts("echo") }, &EchoOnly).is_ok());
    }

    const UP: LegView = LegView::caller(LegNo::FIRST);

    fn view<'a>(target: &'a Target, legs: &'a [LegView]) -> View<'a> {
        View { max_duration: Duration::from_secs(3_600), ..View::of(target, legs) }
    }

    fn ended(end: SignallingEnd) -> Input {
        Input::Leg(LegNo::FIRST, LegInput::Ended(end))
    }

    #[test]
    fn an_agent_speaks_only_once_the_answer_is_acknowledged() {
        let target = Target::Agent("desk".into());
        let (phase, actions) = begin(&target);
        assert_eq!((phase.clone(), actions), (Phase::Answering, vec![Action::Answer(LegNo::FIRST)]));
        let acked = Input::Leg(LegNo::FIRST, LegInput::Acked);
        let (phase, actions) = step(phase, acked, &view(&target, &[UP]));
        assert_eq!(phase, Phase::Talking);
        assert!(actions.contains(&Action::StartConversation(LegNo::FIRST)));
    }

    #[test]
    fn an_answer_never_acknowledged_is_the_callers_fault() {
        let (phase, _) = step(Phase::Answering, ended(SignallingEnd::NoAck), &view(&Target::Echo, &[]));
        assert_eq!(ending::settle(phase, 0), Phase::Over(End::new(EndReason::NoAck)));
    }

    #[test]
    fn a_ringing_call_can_be_cancelled_and_is_refused_when_the_server_stops() {
        let (phase, actions) = begin(&Target::Ring);
        assert_eq!((phase.clone(), actions), (Phase::Ringing, vec![Action::Ring(LegNo::FIRST, 180)]));
        let (over, _) = step(phase.clone(), ended(SignallingEnd::Cancelled), &view(&Target::Ring, &[]));
        assert_eq!(ending::settle(over, 0), Phase::Over(End::new(EndReason::CallerCancelled)));
        let (over, actions) = step(phase, Input::Commanded(Command::ShutDown), &view(&Target::Ring, &[UP]));
        assert!(matches!(over, Phase::Over(_)));
        assert_eq!(actions, vec![Action::Reject(LegNo::FIRST, 503)]);
    }
}
