//! Transactions (RFC 3261 section 17, with RFC 6026's Accepted state): four tables and the machine that runs them.
//!
//! A table is a pure function of state and input to the next state and a list of actions; there is one in each of
//! [`client_invite`], [`client`], [`server_invite`] and [`server`]. [`Transaction`] holds what a machine remembers (its
//! state, timers and the message it may have to repeat), walks the table, and tells its owner what to do through
//! [`Effects`]. It knows no message format: what goes over the wire is bytes.
//!
//! Invariants: no input is an error (what a table does not list is ignored); every path arms a timer that leads to
//! `Terminated`, save `Proceeding` of the INVITE machines, whose length is the user's decision (the endpoint bounds it).

pub mod client;
pub mod client_invite;
pub mod server;
pub mod server_invite;

use std::time::{Duration, Instant};

use crate::timer::{TimerTable, Timings};

/// Which of the four machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Client INVITE, section 17.1.1.
    ClientInvite,
    /// Client, other than INVITE, section 17.1.2.
    Client,
    /// Server INVITE, section 17.2.1.
    ServerInvite,
    /// Server, other than INVITE, section 17.2.2.
    Server,
}

/// The states of all four machines; each table uses some of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// INVITE sent, nothing heard.
    Calling,
    /// Request sent or received, no response yet.
    Trying,
    /// A provisional response was sent or received.
    Proceeding,
    /// A final response was sent or received: repeats are absorbed.
    Completed,
    /// The failure we sent was acknowledged: further ACKs are absorbed.
    Confirmed,
    /// A 2xx to INVITE was sent or received (RFC 6026).
    Accepted,
    /// Over: to be dropped.
    Terminated,
}

/// The timers of RFC 3261 table 4 that belong to a UA, and L and M of RFC 6026.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timer {
    /// INVITE request retransmission.
    A,
    /// INVITE transaction timeout.
    B,
    /// Wait for repeats of a failure.
    D,
    /// Request retransmission.
    E,
    /// Request transaction timeout.
    F,
    /// Failure retransmission.
    G,
    /// Wait for the ACK.
    H,
    /// Wait for repeats of the ACK.
    I,
    /// Wait for repeats of the request.
    J,
    /// Wait for repeats of the response.
    K,
    /// Wait for repeats of an accepted INVITE.
    L,
    /// Wait for repeats of a 2xx, and for 2xx of other forks.
    M,
}

impl Timer {
    /// At most one timer of each role runs at a time, so a machine keeps three deadlines, not twelve.
    fn role(self) -> Role {
        match self {
            Timer::A | Timer::E | Timer::G => Role::Retransmit,
            Timer::B | Timer::F | Timer::H => Role::Timeout,
            Timer::D | Timer::I | Timer::J | Timer::K | Timer::L | Timer::M => Role::Linger,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Retransmit = 0,
    Timeout = 1,
    Linger = 2,
}

/// What happens to a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// The request is to be sent (client).
    Start,
    /// The request came again (server).
    Repeat,
    /// ACK came (server).
    Ack,
    /// A response, received by a client or given by the user of a server, by class.
    Provisional,
    /// 2xx.
    Success,
    /// 300 to 699.
    Failure,
    /// A timer fired.
    Fired(Timer),
    /// The transport failed to send.
    Unreachable,
}

impl Input {
    /// The input that a response's status code means.
    pub fn response(code: u16) -> Self {
        match code {
            0..=199 => Input::Provisional,
            200..=299 => Input::Success,
            _ => Input::Failure,
        }
    }
}

/// What a machine does about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Send the message that came with the input, and keep it for repeats.
    Send,
    /// Send the kept message again.
    Resend,
    /// Acknowledge the failure, or acknowledge it again (section 17.1.1.3).
    SendAck,
    /// Give the message that came with the input to the user.
    PassUp,
    /// Tell the user that nobody answered.
    TimedOut,
    /// Tell the user that the message could not be sent.
    Unreachable,
    /// Arm a timer.
    Arm(Timer, Span),
    /// Disarm a timer.
    Disarm(Timer),
    /// Drop the kept message: it is not needed any more.
    Forget,
}

/// How long a timer runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// T1.
    T1,
    /// T2.
    T2,
    /// T4.
    T4,
    /// 64 times T1.
    T1Times64,
    /// Timer D's own span.
    D,
    /// Twice this retransmission timer's last span.
    Doubled,
    /// Twice this retransmission timer's last span, but no more than T2.
    DoubledToT2,
}

/// One entry of a table: where to go and what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// The next state.
    pub next: State,
    /// What to do, in order.
    pub actions: &'static [Action],
}

/// Makes a table's entry.
pub(crate) const fn step(next: State, actions: &'static [Action]) -> Option<Step> {
    Some(Step { next, actions })
}

/// The table of a machine: `None` means that the input is ignored.
pub fn table(kind: Kind, state: State, input: Input, reliable: bool) -> Option<Step> {
    match kind {
        Kind::ClientInvite => client_invite::table(state, input, reliable),
        Kind::Client => client::table(state, input, reliable),
        Kind::ServerInvite => server_invite::table(state, input, reliable),
        Kind::Server => server::table(state, input, reliable),
    }
}

/// What the owner of a machine is to do after a step, besides what the machine did itself.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Effects {
    /// Send the message that came with the input.
    pub send: bool,
    /// Send the kept message again.
    pub resend: bool,
    /// Send an ACK to the failure.
    pub ack: bool,
    /// Give the message to the user.
    pub pass_up: bool,
    /// Tell the user of a timeout.
    pub timed_out: bool,
    /// Tell the user of a transport failure.
    pub unreachable: bool,
    /// The machine is over.
    pub terminated: bool,
}

/// A machine: one transaction's state, timers and kept message.
#[derive(Debug)]
pub struct Transaction<M> {
    kind: Kind,
    state: State,
    reliable: bool,
    interval: Duration,
    armed: [Option<Timer>; 3],
    /// The deadlines, by role. The owner puts them on its wheel.
    pub timers: TimerTable<3>,
    /// The request (client) or last response (server), for repeats.
    pub kept: Option<M>,
}

impl<M> Transaction<M> {
    /// A machine in its first state. Client machines start with [`Input::Start`].
    pub fn new(kind: Kind, reliable: bool) -> Self {
        let state = match kind {
            Kind::ClientInvite => State::Calling,
            Kind::Client | Kind::Server => State::Trying,
            Kind::ServerInvite => State::Proceeding,
        };
        Self {
            kind,
            state,
            reliable,
            interval: Duration::ZERO,
            armed: [None; 3],
            timers: TimerTable::default(),
            kept: None,
        }
    }

    /// Which machine this is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its state.
    pub fn state(&self) -> State {
        self.state
    }

    /// Walks one step. `message` is what [`Action::Send`] sends: it is kept, and the owner sends it if told so.
    pub fn step(&mut self, now: Instant, timings: &Timings, input: Input, message: Option<M>) -> Effects {
        let mut effects = Effects::default();
        let Some(step) = table(self.kind, self.state, input, self.reliable) else {
            return effects;
        };
        let mut message = message;
        for action in step.actions {
            match *action {
                Action::Send => {
                    self.kept = message.take();
                    effects.send = true;
                }
                Action::Resend => effects.resend = true,
                Action::SendAck => effects.ack = true,
                Action::PassUp => effects.pass_up = true,
                Action::TimedOut => effects.timed_out = true,
                Action::Unreachable => effects.unreachable = true,
                Action::Arm(timer, span) => self.arm(now, timings, timer, span),
                Action::Disarm(timer) => self.disarm(timer),
                Action::Forget => self.kept = None,
            }
        }
        self.state = step.next;
        if self.state == State::Terminated {
            self.timers.clear_all();
            effects.terminated = true;
        }
        effects
    }

    /// Ends a client transaction that has had no response within this long, instead of 64 times T1.
    pub fn limit(&mut self, now: Instant, within: Duration) {
        let role = Role::Timeout as usize;
        if matches!(self.armed.get(role), Some(Some(Timer::B | Timer::F))) {
            self.timers.set(role, now + within);
        }
    }

    /// The timer that is due at `now`, disarmed: its firing is the next input. Asked until `None`.
    pub fn take_due(&mut self, now: Instant) -> Option<Timer> {
        let role = self.timers.take_due(now)?;
        self.armed.get_mut(role).and_then(Option::take)
    }

    fn arm(&mut self, now: Instant, timings: &Timings, timer: Timer, span: Span) {
        let span = match span {
            Span::T1 => timings.t1,
            Span::T2 => timings.t2,
            Span::T4 => timings.t4,
            Span::T1Times64 => timings.t1_times_64(),
            Span::D => timings.d,
            Span::Doubled => self.interval * 2,
            Span::DoubledToT2 => (self.interval * 2).min(timings.t2),
        };
        let role = timer.role();
        if role == Role::Retransmit {
            self.interval = span;
        }
        if let Some(armed) = self.armed.get_mut(role as usize) {
            *armed = Some(timer);
        }
        self.timers.set(role as usize, now + span);
    }

    fn disarm(&mut self, timer: Timer) {
        let role = timer.role() as usize;
        if self.armed.get(role).copied().flatten() == Some(timer) {
            self.timers.clear(role);
        }
    }
}
