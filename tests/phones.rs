//! Phones of one house among themselves, as their users see it: by which names they know one another, to whom they pass calls on, who
//! hears whom, and what is told of it afterwards.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "common/office.rs"]
mod office;
#[path = "common/phone.rs"]
mod phone;

use common::Server;
use office::{ALICE, BOB, CAROL, DEVICES, connect, phones};
use phone::Phone;
use sip::headers::ReferTo;

/// A name that phones have for us and that we have not for ourselves.
const DOMAIN: &str = "pbx.example.com";

fn server() -> Server {
    Server::start_with(DEVICES, tempfile::tempdir().unwrap(), &["rtp.codecs=[\"PCMU\"]"])
}

/// Conforms: RFC 3261 §10.3 — the domain of a phone's own address is the one that it is called by, calls others by, and is shown.
#[test]
fn phones_are_known_and_know_others_by_the_domain_that_they_registered_with() {
    let server = server();
    server.wait_until_ready();
    let at_home = |user, password, tone| Phone::register_at_home(server.sip, (user, password), tone, DOMAIN);
    let (mut alice, mut bob) = (at_home("alice", "a", ALICE), at_home("bob", "b", BOB));
    let mut carol = Phone::register(server.sip, "carol", "c", CAROL);
    let first = alice.dial("bob", &[]);
    let (at_bob, invite) = bob.rings_with();
    let (from, to) = (invite.from_().unwrap().uri_text, invite.to().unwrap().uri_text);
    assert_eq!((from, to), (&*format!("sip:alice@{DOMAIN}"), &*format!("sip:bob@{DOMAIN}")));
    bob.answer(at_bob);
    alice.wait_answered(first);
    let lamp = bob.subscribe("dialog", &format!("alice@{DOMAIN}")).1;
    assert!(lamp.contains(&format!("entity=\"sip:alice@{DOMAIN}\"")), "{lamp}");
    // By that name they pass calls on, to phones and places; by a stranger's they do not.
    assert_eq!(bob.refer(at_bob, "sip:carol@elsewhere.example"), (403, None));
    bob.ask_refer(at_bob, &format!("sip:carol@{DOMAIN}"));
    let (at_carol, invite) = carol.rings_with();
    // Whoever registered with an address of ours has that for our name.
    assert_eq!(invite.from_().unwrap().uri_text, format!("sip:alice@{}", server.sip));
    carol.answer(at_carol);
    assert_eq!(bob.told_of_refer(at_bob), (202, Some(200)));
    bob.ended(at_bob);
    alice.wait_to_hear(first, &[CAROL], &[BOB]);
    assert_eq!(alice.refer(first, &format!("sip:park-1@{DOMAIN}")), (202, Some(200)));
    alice.ended(first);
    carol.hang_up(at_carol);
    server.stop();
}

#[test]
fn a_phone_hands_its_caller_to_the_agent() {
    let server = server();
    server.wait_until_ready();
    let [mut alice, mut bob, ..] = phones(server.sip);
    let (at_alice, at_bob) = connect(&mut alice, &mut bob, "bob");
    alice.wait_to_hear(at_alice, &[BOB], &[]);
    assert_eq!(bob.refer(at_bob, &server.uri("agent")), (202, Some(200)));
    bob.ended(at_bob);
    alice.wait_to_hear(at_alice, &[], &[BOB]);
    alice.wait_for_sound(at_alice);
    alice.hang_up(at_alice);
    let record = server.wait_for_records(1).remove(0);
    let turns = record["agent"]["turns"].as_array().unwrap();
    assert!(turns.iter().any(|turn| turn["who"] == "agent"), "the agent greeted her: {record}");
    assert_eq!((&record["target"], &record["end"]["reason"]), (&"desk".into(), &"caller_hung_up".into()), "{record}");
    let recording = record["recording"].as_str().unwrap_or_else(|| panic!("she is recorded from there on: {record}"));
    assert!(std::fs::metadata(recording).unwrap().len() > 10_000, "{record}");
    server.stop();
}

/// Conforms: RFC 3891 §3 — a member of a conference gives their place to whom they bring.
#[test]
fn a_phone_that_called_a_conference_first_brings_its_caller_into_it() {
    let server = server();
    let [mut alice, mut bob, mut carol, _] = phones(server.sip);
    let at_carol = carol.call("room-1");
    let (at_alice, at_bob) = connect(&mut alice, &mut bob, "bob");
    bob.hold(at_bob, true);
    let consulted = bob.call("room-1");
    bob.wait_to_hear(consulted, &[CAROL], &[]);
    let replaces = bob.identity(consulted).replaces();
    let refer_to = ReferTo::value(&server.uri("room-1"), Some(&replaces));
    assert_eq!(bob.refer(at_bob, &refer_to), (202, Some(200)));
    bob.ended(at_bob);
    bob.ended(consulted);
    alice.wait_to_hear(at_alice, &[CAROL], &[BOB]);
    carol.wait_to_hear(at_carol, &[ALICE], &[BOB]);
    alice.hang_up(at_alice);
    carol.hang_up(at_carol);
    server.stop();
}

#[test]
fn who_holds_in_a_conference_is_heard_by_nobody_until_they_come_back() {
    let server = server();
    let [mut alice, mut bob, mut carol, _] = phones(server.sip);
    let calls = [alice.call("room-1"), bob.call("room-1"), carol.call("room-1")];
    alice.wait_to_hear(calls[0], &[BOB, CAROL], &[]);
    bob.hold(calls[1], true);
    alice.wait_to_hear(calls[0], &[CAROL], &[BOB]);
    // The ACK of that is long here: it lets nobody in again.
    for _ in 0..3 {
        alice.listen_anew(calls[0]);
        assert!(alice.hears(calls[0], BOB) < phone::SILENT);
    }
    bob.hold(calls[1], false);
    alice.wait_to_hear(calls[0], &[BOB, CAROL], &[]);
    for (phone, call) in [&mut alice, &mut bob, &mut carol].into_iter().zip(calls) {
        phone.hang_up(call);
    }
    server.stop();
}

#[test]
fn a_call_passed_on_before_the_answer_is_one_of_those_who_speak_in_the_end() {
    let server = server();
    let [mut alice, mut bob, mut carol, _] = phones(server.sip);
    let (first, at_bob) = connect(&mut alice, &mut bob, "bob");
    let second = alice.dial("carol", &[]);
    let at_carol = carol.rings();
    alice.wait_ringing(second);
    let replaces = alice.identity(second).replaces();
    alice.ask_refer(first, &ReferTo::value(&server.uri("carol"), Some(&replaces)));
    alice.ended(second);
    carol.answer(at_carol);
    bob.wait_to_hear(at_bob, &[CAROL], &[ALICE]);
    carol.hang_up(at_carol);
    bob.ended(at_bob);
    let records = server.wait_for_records(2);
    let kept = records.iter().find(|record| record["end"]["reason"] == "far_side_hung_up");
    let kept = kept.unwrap_or_else(|| panic!("carol hung up: {records:?}"));
    assert!(kept["answered_at"].is_string() && kept["duration_ms"].as_u64() > Some(0), "{kept}");
    server.stop();
}

#[test]
fn a_record_says_what_became_of_everybody_who_was_called() {
    let server = server();
    let [mut alice, mut bob, ..] = phones(server.sip);
    let at_alice = alice.dial("bob", &[]);
    let at_bob = bob.rings();
    bob.reject(at_bob, 486);
    assert_eq!(alice.refused(at_alice), 486);
    let record = server.wait_for_records(1).remove(0);
    assert_eq!(record["legs"][0]["result"], "refused 486", "{record}");
    server.stop();
}

/// Conforms: RFC 3326 §2 — why one side refused or ended a call the other is told, and the record
#[test]
fn why_one_side_ends_a_call_the_other_is_told() {
    let server = server();
    let [mut alice, mut bob, ..] = phones(server.sip);
    let unassigned = "Q.850;cause=1;text=\"Unallocated number\"";
    let at_alice = alice.dial("bob", &[]);
    let at_bob = bob.rings();
    bob.reject_because(at_bob, 404, Some(unassigned));
    assert_eq!(alice.ended_because(at_alice).as_deref(), Some(unassigned));
    let (at_alice, at_bob) = connect(&mut alice, &mut bob, "bob");
    bob.hang_up_because(at_bob, "Q.850;cause=31");
    assert_eq!(alice.ended_because(at_alice).as_deref(), Some("Q.850;cause=31"));
    let records = server.wait_for_records(2);
    let told: Vec<_> = records.iter().map(|record| record["legs"][0]["reasons"].as_str().unwrap()).collect();
    assert_eq!(told, [unassigned, "Q.850;cause=31"], "{records:?}");
    server.stop();
}
