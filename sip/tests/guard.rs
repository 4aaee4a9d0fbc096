//! The guard in virtual time: rates, scanners, silence, and the bound of its table.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::IpAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sip::Message;
use sip::guard::{Admit, Failure, Guard, GuardLimits, Rate, Why};
use sip::parse::Limits;

const SOURCE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 7));

fn request(method: &str, to_tag: &str, agent: &str) -> Message {
    let text = format!(
        "{method} sip:100@h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nMax-Forwards: 70\r\nFrom: <sip:a@h>;tag=1\r\n\
         To: <sip:100@h>{to_tag}\r\nCall-ID: c\r\nCSeq: 1 {method}\r\nUser-Agent: {agent}\r\nContent-Length: 0\r\n\r\n"
    );
    Message::parse_datagram(Bytes::from(text), &Limits::default()).unwrap()
}

fn tight() -> GuardLimits {
    GuardLimits {
        requests: Rate { per_second: 10.0, burst: 5.0 },
        invites: Rate { per_second: 1.0, burst: 2.0 },
        failures: 3,
        ..GuardLimits::default()
    }
}

#[test]
fn a_source_beyond_its_rate_is_not_answered_and_gets_its_turn_again() {
    let now = Instant::now();
    let mut guard = Guard::new(tight(), now);
    let options = request("OPTIONS", "", "phone");
    for _ in 0..5 {
        assert_eq!(guard.admit(now, SOURCE, false, &options), Admit::Take);
    }
    assert_eq!(guard.admit(now, SOURCE, false, &options), Admit::Drop(Why::SourceRate));
    let other: IpAddr = "203.0.113.8".parse().unwrap();
    assert_eq!(guard.admit(now, other, false, &options), Admit::Take, "each source has its own");
    assert_eq!(guard.admit(now + Duration::from_millis(150), SOURCE, false, &options), Admit::Take);
    assert_eq!(guard.stats().dropped_rate, 1);
}

#[test]
fn invites_beyond_the_rate_get_503_and_calls_in_progress_go_on() {
    let now = Instant::now();
    let mut guard = Guard::new(tight(), now);
    let invite = request("INVITE", "", "phone");
    assert_eq!(guard.admit(now, SOURCE, false, &invite), Admit::Take);
    assert_eq!(guard.admit(now, SOURCE, false, &invite), Admit::Take);
    assert_eq!(guard.admit(now, SOURCE, false, &invite), Admit::Busy { retry_after_s: 5 });
    for method in ["BYE", "INVITE", "INFO", "UPDATE"] {
        for _ in 0..50 {
            assert_eq!(guard.admit(now, SOURCE, false, &request(method, ";tag=x", "phone")), Admit::Take);
        }
    }
    for method in ["ACK", "CANCEL"] {
        assert_eq!(guard.admit(now, SOURCE, false, &request(method, "", "phone")), Admit::Take);
    }
}

#[test]
fn a_trusted_trunk_is_never_taken_for_an_attack() {
    let now = Instant::now();
    let mut guard = Guard::new(GuardLimits { all_invites: Rate { per_second: 0.0, burst: 1.0 }, ..tight() }, now);
    let invite = request("INVITE", "", "friendly-scanner");
    for _ in 0..1_000 {
        assert_eq!(guard.admit(now, SOURCE, true, &invite), Admit::Take);
    }
    assert_eq!(guard.stats().sources, 0);
}

#[test]
fn scanners_that_say_so_are_dropped() {
    let now = Instant::now();
    let mut guard = Guard::new(GuardLimits::default(), now);
    for agent in ["friendly-scanner", "SIPVicious 0.3", "sipcli/v1.8", "VaxSIPUserAgent/3.1"] {
        let drop = guard.admit(now, SOURCE, false, &request("OPTIONS", "", agent));
        assert_eq!(drop, Admit::Drop(Why::Scanner), "{agent}");
    }
    assert_eq!(guard.admit(now, SOURCE, false, &request("OPTIONS", "", "Linphone/5.1")), Admit::Take);
    let mut lenient = Guard::new(GuardLimits { drop_scanners: false, ..GuardLimits::default() }, now);
    assert_eq!(lenient.admit(now, SOURCE, false, &request("OPTIONS", "", "sipsak 0.9")), Admit::Take);
}

#[test]
fn who_fails_too_often_is_not_answered_for_a_while() {
    let now = Instant::now();
    let mut guard = Guard::new(tight(), now);
    let register = request("REGISTER", "", "phone");
    for _ in 0..3 {
        assert!(!guard.failed(now, SOURCE, Failure::Credentials));
    }
    assert!(guard.failed(now, SOURCE, Failure::Number));
    assert_eq!(guard.admit(now, SOURCE, false, &register), Admit::Drop(Why::Silenced));
    assert!(!guard.listens_to(now, SOURCE, false) && guard.listens_to(now, SOURCE, true));
    assert_eq!(guard.stats().silenced, 1);
    let later = now + GuardLimits::default().silence;
    assert_eq!(guard.admit(later, SOURCE, false, &register), Admit::Take);
    assert!(!guard.failed(later, SOURCE, Failure::Credentials), "it begins anew");
}

#[test]
fn a_typing_error_now_and_then_is_forgiven() {
    let now = Instant::now();
    let mut guard = Guard::new(tight(), now);
    for minute in 0..100 {
        assert!(!guard.failed(now + Duration::from_secs(minute * 30), SOURCE, Failure::Credentials));
    }
    for _ in 0..2 {
        guard.failed(now + Duration::from_secs(3_000), SOURCE, Failure::Credentials);
    }
    guard.succeeded(now + Duration::from_secs(3_000), SOURCE);
    for _ in 0..3 {
        assert!(!guard.failed(now + Duration::from_secs(3_000), SOURCE, Failure::Credentials));
    }
}

#[test]
fn all_sources_together_are_bounded_too() {
    let now = Instant::now();
    let mut guard = Guard::new(GuardLimits { all_requests: Rate { per_second: 1.0, burst: 10.0 }, ..tight() }, now);
    let source = |number: u8| IpAddr::from([198, 51, 100, number]);
    for number in 0..10 {
        assert_eq!(guard.admit(now, source(number), false, &request("OPTIONS", "", "p")), Admit::Take);
    }
    assert_eq!(guard.admit(now, source(10), false, &request("OPTIONS", "", "p")), Admit::Drop(Why::TotalRate));
}

#[test]
fn the_table_of_sources_is_bounded_and_keeps_the_silenced_longest() {
    let now = Instant::now();
    let mut guard = Guard::new(GuardLimits { sources: 100, ..tight() }, now);
    for _ in 0..4 {
        guard.failed(now, SOURCE, Failure::Number);
    }
    for number in 0..1_000_u32 {
        guard.admit(now, IpAddr::from((0x0a00_0000 + number).to_be_bytes()), false, &request("OPTIONS", "", "p"));
    }
    assert_eq!(guard.stats().sources, 100);
    assert_eq!(guard.admit(now, SOURCE, false, &request("OPTIONS", "", "p")), Admit::Drop(Why::Silenced));
}

#[test]
fn one_ipv6_network_is_one_source() {
    let now = Instant::now();
    let mut guard = Guard::new(tight(), now);
    for host in 1..6_u16 {
        let source = IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, host]);
        assert_eq!(guard.admit(now, source, false, &request("OPTIONS", "", "p")), Admit::Take);
    }
    let source = IpAddr::from([0x2001, 0xdb8, 0, 1, 0xffff, 1, 2, 3]);
    assert_eq!(guard.admit(now, source, false, &request("OPTIONS", "", "p")), Admit::Drop(Why::SourceRate));
    assert_eq!(guard.stats().sources, 1);
}
