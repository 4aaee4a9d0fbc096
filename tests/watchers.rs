//! What phones are told of one another, and write to one another: SUBSCRIBE, NOTIFY and MESSAGE through the server.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "common/office.rs"]
mod office;
#[path = "common/phone.rs"]
mod phone;

use common::Server;
use office::DEVICES;
use phone::Phone;

fn phones(server: &Server) -> [Phone; 3] {
    let [alice, bob, carol, _] = office::phones(server.sip);
    [alice, bob, carol]
}

fn server() -> Server {
    Server::start_with(DEVICES, tempfile::tempdir().unwrap(), &["rtp.codecs=[\"PCMU\"]"])
}

/// Conforms: RFC 4235 §4 — whoever watches a phone is told that it rings, speaks, and is free again; and takes the call by what the
/// document says (RFC 3891).
#[test]
fn a_lamp_is_lit_while_a_phone_rings_and_speaks() {
    let server = server();
    let [mut alice, mut bob, mut carol] = phones(&server);
    let (watch, first) = carol.subscribe("dialog", "bob");
    let own = format!("entity=\"sip:bob@{}\"", server.sip);
    assert!(first.contains(&own) && !first.contains("<dialog "), "{first}");
    let at_alice = alice.dial("bob", &[]);
    let at_bob = bob.rings();
    let rings = carol.wait_notified(watch, "<state>early</state>");
    assert!(rings.contains("direction=\"recipient\""), "{rings}");
    bob.answer(at_bob);
    alice.wait_answered(at_alice);
    carol.wait_notified(watch, "<state>confirmed</state>");
    alice.hang_up(at_alice);
    bob.ended(at_bob);
    let free = carol.notified(watch).unwrap();
    assert!(!free.contains("<dialog "), "{free}");
    // Once more, and carol takes the call that rings, by its dialog.
    let at_alice = alice.dial("bob", &[]);
    let at_bob = bob.rings();
    let rings = carol.wait_notified(watch, "<state>early</state>");
    let attribute = |name: &str| {
        let (_, rest) = rings.split_once(&format!(" {name}=\"")).unwrap();
        rest.split('"').next().unwrap().to_owned()
    };
    let replaces =
        format!("{};to-tag={};from-tag={}", attribute("call-id"), attribute("local-tag"), attribute("remote-tag"));
    let at_carol = carol.dial("bob", &[("Replaces", replaces)]);
    carol.wait_answered(at_carol);
    bob.ended(at_bob);
    alice.wait_answered(at_alice);
    alice.wait_to_hear(at_alice, &[1_500.0], &[]);
    carol.hang_up(at_carol);
    alice.ended(at_alice);
    server.stop();
}

/// Conforms: RFC 4575 §4 — whoever watches a conference is told who is in it, and then who comes, holds and leaves; RFC 4579 §4.2 — and
/// those in it that a conference is there.
#[test]
fn a_conference_tells_who_comes_holds_and_leaves() {
    let server = server();
    let [mut alice, mut bob, mut carol] = phones(&server);
    let (watch, first) = carol.subscribe("conference", "room-weekly");
    assert!(first.contains("state=\"full\" version=\"0\"") && first.contains("<user-count>0</user-count>"), "{first}");
    let at_alice = alice.dial("room-weekly", &[]);
    alice.wait_answered(at_alice);
    let came = carol.wait_notified(watch, "<status>connected</status>");
    assert!(came.contains("<user entity=\"sip:alice@omnivox\" state=\"full\">"), "{came}");
    let at_bob = bob.call("room-weekly");
    let joined = carol.wait_notified(watch, "<status>connected</status>");
    // Bob alone, or, where the news that he rings was still on its way to carol, all of it (RFC 4575 §4.6).
    let is_partial = joined.contains("<users state=\"partial\">");
    assert!(is_partial || joined.contains("state=\"full\" version="), "{joined}");
    assert!(joined.contains("sip:bob@omnivox") && joined.contains("<user-count>2</user-count>"), "{joined}");
    assert_ne!(joined.contains("sip:alice@omnivox"), is_partial, "{joined}");
    // Whoever subscribes now is told of both.
    let (_, whole) = carol.subscribe("conference", "room-weekly");
    assert!(whole.contains("sip:bob@omnivox") && whole.contains("sip:alice@omnivox"), "{whole}");
    bob.hold(at_bob, true);
    let held = carol.wait_notified(watch, "<status>on-hold</status>");
    assert!(held.contains("sip:bob@omnivox") && !held.contains("sip:alice@omnivox"), "{held}");
    bob.hang_up(at_bob);
    let left = carol.wait_notified(watch, "state=\"deleted\"");
    assert!(left.contains("<user entity=\"sip:bob@omnivox\" state=\"deleted\"/>"), "{left}");
    alice.hang_up(at_alice);
    carol.wait_notified(watch, "<user-count>0</user-count>");
    assert_eq!(carol.subscription_refused("conference", "weekly"), 404);
    assert_eq!(carol.subscription_refused("conference", &format!("room-{}", "x".repeat(65))), 404);
    server.stop();
}

/// Conforms: RFC 3680 §4 — a phone is told of its account's registrations; RFC 3842 §3 — and of its messages; others are not.
#[test]
fn a_phone_is_told_of_its_own_messages_and_registrations() {
    let server = server();
    let [mut alice, mut bob, _] = phones(&server);
    let (_, messages) = alice.subscribe("message-summary", "alice");
    assert!(messages.starts_with("Messages-Waiting: no\r\n"), "{messages}");
    let (watch, registered) = alice.subscribe("reg", "alice");
    assert_eq!(registered.matches("<contact ").count(), 1, "{registered}");
    let _second = Phone::register(server.sip, "alice", "a", 437.5);
    let registered = alice.notified(watch).unwrap();
    assert_eq!(registered.matches("<contact ").count(), 2, "{registered}");
    assert!(registered.contains("version=\"1\""), "{registered}");
    for (package, of, code) in [
        ("reg", "alice", 403),
        ("message-summary", "alice", 403),
        ("dialog", "nobody", 404),
        ("presence", "alice", 489),
    ] {
        assert_eq!(bob.subscription_refused(package, of), code, "{package} of {of}");
    }
    server.stop();
}

/// Conforms: RFC 3428 §5 — text goes from one device to the phones of another, outside of calls and within them.
#[test]
fn phones_write_to_one_another() {
    let server = server();
    let [mut alice, mut bob, _] = phones(&server);
    let writer = std::thread::spawn(move || {
        let code = alice.write("bob", "Lunch?");
        (alice, code)
    });
    assert_eq!(bob.reads(), "Lunch?");
    let (mut alice, code) = writer.join().unwrap();
    assert_eq!(code, 200);
    assert_eq!(alice.write("nobody", "?"), 404);
    let at_alice = alice.dial("bob", &[]);
    let at_bob = bob.pick_up();
    alice.wait_answered(at_alice);
    alice.write_in(at_alice, "I am on the other line.");
    assert_eq!(bob.reads_in(at_bob), "I am on the other line.");
    bob.hang_up(at_bob);
    alice.ended(at_alice);
    let mut stranger = Phone::start("alice", "wrong", 300.0);
    stranger.server = server.sip;
    assert_eq!(stranger.write("bob", "Buy this."), 401);
    server.stop();
}
