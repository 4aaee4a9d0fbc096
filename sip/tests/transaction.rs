//! The four transaction machines by themselves, in virtual time: each timer of RFC 3261 table 4, and L and M of RFC 6026.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, Instant};

use sip::timer::Timings;
use sip::transaction::{Effects, Input, Kind, State, Transaction};

/// A machine on a bench: when it sent, and what it told.
struct Bench {
    machine: Transaction<&'static str>,
    start: Instant,
    now: Instant,
    /// Milliseconds of each sending, first or repeated.
    sent_ms: Vec<u64>,
    acks: usize,
    passed_up: usize,
    timed_out_ms: Option<u64>,
    unreachable: bool,
    over_ms: Option<u64>,
}

impl Bench {
    fn new(kind: Kind, reliable: bool) -> Self {
        let start = Instant::now();
        Self {
            machine: Transaction::new(kind, reliable),
            start,
            now: start,
            sent_ms: Vec::new(),
            acks: 0,
            passed_up: 0,
            timed_out_ms: None,
            unreachable: false,
            over_ms: None,
        }
    }

    fn client(kind: Kind, reliable: bool) -> Self {
        let mut bench = Self::new(kind, reliable);
        bench.input(Input::Start);
        bench
    }

    fn ms(&self) -> u64 {
        (self.now - self.start).as_millis() as u64
    }

    fn input(&mut self, input: Input) -> Effects {
        let effects = self.machine.step(self.now, &Timings::default(), input, Some("message"));
        if effects.send || effects.resend {
            self.sent_ms.push(self.ms());
        }
        self.acks += usize::from(effects.ack);
        self.passed_up += usize::from(effects.pass_up);
        self.unreachable |= effects.unreachable;
        if effects.timed_out {
            self.timed_out_ms = Some(self.ms());
        }
        if effects.terminated {
            self.over_ms = Some(self.ms());
        }
        effects
    }

    fn run_until_ms(&mut self, ms: u64) {
        let until = self.start + Duration::from_millis(ms);
        while let Some(at) = self.machine.timers.earliest().filter(|at| *at <= until) {
            self.now = at;
            let timer = self.machine.take_due(at).unwrap();
            self.input(Input::Fired(timer));
        }
        self.now = until;
    }

    fn state(&self) -> State {
        self.machine.state()
    }
}

/// Conforms: RFC 3261 §17.1.1.2 — timers A and B.
#[test]
fn retransmits_invite_by_timer_a_until_timer_b() {
    let mut bench = Bench::client(Kind::ClientInvite, false);
    bench.run_until_ms(100_000);
    assert_eq!(bench.sent_ms, [0, 500, 1_500, 3_500, 7_500, 15_500, 31_500]);
    assert_eq!(bench.timed_out_ms, Some(32_000));
    assert_eq!(bench.state(), State::Terminated);
}

#[test]
fn sends_invite_once_over_tcp_until_timer_b() {
    let mut bench = Bench::client(Kind::ClientInvite, true);
    bench.run_until_ms(100_000);
    assert_eq!(bench.sent_ms, [0]);
    assert_eq!(bench.timed_out_ms, Some(32_000));
}

#[test]
fn a_provisional_response_stops_timers_a_and_b() {
    let mut bench = Bench::client(Kind::ClientInvite, false);
    bench.run_until_ms(600);
    bench.input(Input::Provisional);
    bench.run_until_ms(200_000);
    assert_eq!(bench.sent_ms, [0, 500]);
    assert_eq!((bench.timed_out_ms, bench.state()), (None, State::Proceeding));
}

/// Conforms: RFC 3261 §17.1.1.2 — timer D.
#[test]
fn acknowledges_each_repeat_of_a_failure_until_timer_d() {
    let mut bench = Bench::client(Kind::ClientInvite, false);
    bench.input(Input::Failure);
    for at in [500, 1_500, 3_500] {
        bench.run_until_ms(at);
        bench.input(Input::Failure);
    }
    assert_eq!((bench.acks, bench.passed_up), (4, 1));
    bench.run_until_ms(31_999);
    assert_eq!(bench.state(), State::Completed);
    bench.run_until_ms(32_000);
    assert_eq!(bench.over_ms, Some(32_000));
}

#[test]
fn timer_d_is_zero_over_tcp() {
    let mut bench = Bench::client(Kind::ClientInvite, true);
    bench.input(Input::Failure);
    assert_eq!((bench.acks, bench.passed_up, bench.over_ms), (1, 1, Some(0)));
}

/// Conforms: RFC 6026 §7.2 — the state Accepted and timer M.
#[test]
fn passes_every_success_to_the_user_until_timer_m() {
    let mut bench = Bench::client(Kind::ClientInvite, false);
    bench.input(Input::Success);
    bench.run_until_ms(10_000);
    bench.input(Input::Success);
    assert_eq!((bench.passed_up, bench.acks, bench.state()), (2, 0, State::Accepted));
    bench.run_until_ms(40_000);
    assert_eq!(bench.over_ms, Some(32_000));
}

#[test]
fn ignores_a_failure_after_a_success() {
    let mut bench = Bench::client(Kind::ClientInvite, false);
    bench.input(Input::Success);
    bench.input(Input::Failure);
    assert_eq!((bench.passed_up, bench.acks, bench.state()), (1, 0, State::Accepted));
}

#[test]
fn an_invite_that_cannot_be_sent_fails_at_once() {
    let mut bench = Bench::client(Kind::ClientInvite, false);
    bench.input(Input::Unreachable);
    assert!(bench.unreachable);
    assert_eq!(bench.over_ms, Some(0));
}

/// Conforms: RFC 3261 §17.1.2.2 — timers E and F.
#[test]
fn retransmits_requests_by_timer_e_until_timer_f() {
    let mut bench = Bench::client(Kind::Client, false);
    bench.run_until_ms(100_000);
    assert_eq!(bench.sent_ms, [0, 500, 1_500, 3_500, 7_500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500]);
    assert_eq!(bench.timed_out_ms, Some(32_000));
}

#[test]
fn timer_e_stays_at_t2_after_a_provisional_response() {
    let mut bench = Bench::client(Kind::Client, false);
    bench.run_until_ms(100);
    bench.input(Input::Provisional);
    bench.run_until_ms(13_000);
    assert_eq!(bench.sent_ms, [0, 500, 4_500, 8_500, 12_500]);
    bench.run_until_ms(40_000);
    assert_eq!(bench.timed_out_ms, Some(32_000));
}

/// Conforms: RFC 3261 §17.1.2.2 — timer K.
#[test]
fn absorbs_repeated_responses_until_timer_k() {
    let mut bench = Bench::client(Kind::Client, false);
    bench.input(Input::Success);
    bench.input(Input::Success);
    assert_eq!((bench.passed_up, bench.state()), (1, State::Completed));
    bench.run_until_ms(10_000);
    assert_eq!((bench.over_ms, bench.sent_ms.as_slice()), (Some(5_000), &[0][..]));
}

#[test]
fn timer_k_is_zero_over_tcp() {
    let mut bench = Bench::client(Kind::Client, true);
    bench.run_until_ms(5_000);
    bench.input(Input::Failure);
    assert_eq!((bench.over_ms, bench.sent_ms.as_slice()), (Some(5_000), &[0][..]));
}

/// Conforms: RFC 3261 §17.2.1 — timers G and H.
#[test]
fn retransmits_a_failure_by_timer_g_until_timer_h() {
    let mut bench = Bench::new(Kind::ServerInvite, false);
    bench.input(Input::Failure);
    bench.run_until_ms(100_000);
    assert_eq!(bench.sent_ms, [0, 500, 1_500, 3_500, 7_500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500]);
    assert_eq!(bench.timed_out_ms, Some(32_000));
}

#[test]
fn sends_a_failure_once_over_tcp_until_timer_h() {
    let mut bench = Bench::new(Kind::ServerInvite, true);
    bench.input(Input::Failure);
    bench.run_until_ms(100_000);
    assert_eq!((bench.sent_ms.as_slice(), bench.timed_out_ms), (&[0][..], Some(32_000)));
}

/// Conforms: RFC 3261 §17.2.1 — timer I.
#[test]
fn absorbs_repeated_acks_until_timer_i() {
    let mut bench = Bench::new(Kind::ServerInvite, false);
    bench.input(Input::Failure);
    bench.run_until_ms(100);
    bench.input(Input::Ack);
    bench.input(Input::Ack);
    assert_eq!((bench.state(), bench.passed_up), (State::Confirmed, 0));
    bench.run_until_ms(20_000);
    assert_eq!((bench.over_ms, bench.sent_ms.as_slice()), (Some(5_100), &[0][..]));
}

#[test]
fn timer_i_is_zero_over_tcp() {
    let mut bench = Bench::new(Kind::ServerInvite, true);
    bench.input(Input::Failure);
    bench.input(Input::Ack);
    assert_eq!(bench.over_ms, Some(0));
}

#[test]
fn answers_a_repeated_invite_with_the_last_provisional_response() {
    let mut bench = Bench::new(Kind::ServerInvite, false);
    bench.input(Input::Provisional);
    bench.run_until_ms(500);
    bench.input(Input::Repeat);
    assert_eq!(bench.sent_ms, [0, 500]);
}

/// Conforms: RFC 6026 §7.1 — the state Accepted and timer L.
#[test]
fn absorbs_a_repeated_invite_after_a_success_until_timer_l() {
    let mut bench = Bench::new(Kind::ServerInvite, false);
    bench.input(Input::Success);
    bench.run_until_ms(500);
    bench.input(Input::Repeat);
    assert_eq!((bench.sent_ms.as_slice(), bench.state()), (&[0][..], State::Accepted));
    bench.input(Input::Ack);
    assert_eq!(bench.passed_up, 1);
    bench.run_until_ms(40_000);
    assert_eq!(bench.over_ms, Some(32_000));
}

#[test]
fn a_response_that_cannot_be_sent_does_not_end_the_invite() {
    let mut bench = Bench::new(Kind::ServerInvite, false);
    bench.input(Input::Provisional);
    bench.input(Input::Unreachable);
    assert!(bench.unreachable);
    assert_eq!(bench.state(), State::Proceeding);
}

/// Conforms: RFC 3261 §17.2.2 — timer J.
#[test]
fn answers_repeated_requests_with_the_last_response_until_timer_j() {
    let mut bench = Bench::new(Kind::Server, false);
    bench.input(Input::Repeat);
    assert!(bench.sent_ms.is_empty());
    bench.input(Input::Success);
    bench.run_until_ms(4_000);
    bench.input(Input::Repeat);
    bench.input(Input::Failure);
    assert_eq!(bench.sent_ms, [0, 4_000]);
    bench.run_until_ms(40_000);
    assert_eq!(bench.over_ms, Some(32_000));
}

#[test]
fn timer_j_is_zero_over_tcp() {
    let mut bench = Bench::new(Kind::Server, true);
    bench.input(Input::Success);
    assert_eq!((bench.over_ms, bench.sent_ms.as_slice()), (Some(0), &[0][..]));
}

#[test]
fn no_input_in_any_state_leaves_a_machine_without_a_way_out() {
    let inputs = [
        Input::Start,
        Input::Repeat,
        Input::Ack,
        Input::Provisional,
        Input::Success,
        Input::Failure,
        Input::Unreachable,
    ];
    for kind in [Kind::ClientInvite, Kind::Client, Kind::ServerInvite, Kind::Server] {
        for reliable in [false, true] {
            for first in inputs {
                for second in inputs {
                    for third in inputs {
                        let mut bench = Bench::new(kind, reliable);
                        for input in [first, second, third] {
                            bench.input(input);
                        }
                        bench.run_until_ms(200_000);
                        let waits_for_user = matches!(bench.state(), State::Proceeding)
                            || (kind == Kind::Server && bench.state() == State::Trying)
                            || (bench.sent_ms.is_empty() && matches!(bench.state(), State::Calling | State::Trying));
                        assert!(
                            bench.state() == State::Terminated || waits_for_user,
                            "{kind:?} {reliable} {first:?} {second:?} {third:?}: {:?}",
                            bench.state()
                        );
                    }
                }
            }
        }
    }
}
