//! Calls that a user has placed from their own phone (click to call): it rings first and shows whom it will call, hears how that goes, and has the
//! other side once they answer. Over HTTP, with phones that hear.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "common/office.rs"]
mod office;
#[path = "common/person.rs"]
mod person;
#[path = "common/phone.rs"]
mod phone;

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use common::{PATIENCE, Server};
use office::{ALICE, BOB, DEVICES, phones};
use person::{Person, add_user, only};
use phone::Phone;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// What the server lets hear whose phone waits.
const TONE: f64 = 425.0;

/// Waits until a phone hears the server's tone, which is silent most of the time.
fn hears_tone(phone: &mut Phone, call: sip::CallId) {
    let deadline = Instant::now() + PATIENCE;
    while phone.hears(call, TONE) < 0.2 {
        assert!(Instant::now() < deadline, "no tone is heard");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A server with phones and a carrier, and two at its dashboard: Ada administers, Bob has a phone.
struct Office {
    server: Server,
    runtime: tokio::runtime::Runtime,
    ada: Person,
    bob: Person,
    carrier: UdpSocket,
}

impl Office {
    fn open(settings: &[&str]) -> (Self, [Phone; 2]) {
        let carrier = UdpSocket::bind("127.0.0.9:0").unwrap();
        carrier.set_read_timeout(Some(PATIENCE)).unwrap();
        let config = format!(
            "{DEVICES}\n[[trunks]]\nname = \"carrier\"\nhosts = [\"{}\"]\nping_s = 0\n\
             [[routes]]\ncalled = \"+*\"\nto = \"trunk carrier\"\nfrom = [\"devices\"]\n",
            carrier.local_addr().unwrap()
        );
        let settings: Vec<&str> = ["rtp.codecs=[\"PCMU\"]"].iter().chain(settings).copied().collect();
        let server = Server::start_with(&config, tempfile::tempdir().unwrap(), &settings);
        server.wait_until_ready();
        for user in [&["add", "ada", "--device", "alice"][..], &["add", "bob", "--role", "operator", "--device", "bob"]]
        {
            let (done, says) = add_user(&server, &[], user);
            assert!(done, "{says}");
        }
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let [ada, bob] = ["ada", "bob"].map(|name| runtime.block_on(Person::log_in(&server, name)));
        let [at_alice, at_bob, ..] = phones(server.sip);
        (Self { server, runtime, ada, bob, carrier }, [at_alice, at_bob])
    }

    fn call(&self, who: &Person, order: Value) -> (StatusCode, Value) {
        self.runtime.block_on(who.ask(Method::POST, "/calls", order))
    }

    /// Ada's phone calls somebody.
    fn begin(&self, to: &str) {
        let (status, says) = self.call(&self.ada, json!({ "to": to }));
        assert_eq!(status, StatusCode::ACCEPTED, "{says}");
    }

    fn record(&self, count: usize) -> Value {
        self.server.wait_for_records(count).remove(count - 1)
    }

    fn live(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        self.runtime.block_on(self.ada.wait("/calls", |calls| only(calls).filter(|call| wanted(call))))
    }
}

#[test]
fn the_users_phone_rings_first_shows_whom_it_calls_and_has_them_once_they_answer() {
    let (office, [mut alice, mut bob]) = Office::open(&["calls.record_bridged=true"]);
    office.begin("bob");
    let (at_alice, invite) = alice.rings_with();
    assert!(invite.from_().unwrap().uri_text.starts_with("sip:bob@"), "she sees whom she is to speak with");
    assert_eq!(office.live(|call| call["devices"] == json!(["alice"]))["state"], "ringing");
    alice.answer(at_alice);
    let (at_bob, invite) = bob.rings_with();
    assert!(invite.from_().unwrap().uri_text.starts_with("sip:alice@"), "he sees who calls");
    hears_tone(&mut alice, at_alice);
    // Her phone is up, the call is not: so it is with one that she dials herself.
    assert_eq!(office.live(|call| call["devices"] == json!(["alice", "bob"]))["state"], "ringing");
    bob.answer(at_bob);
    alice.wait_to_hear(at_alice, &[BOB], &[]);
    bob.wait_to_hear(at_bob, &[ALICE], &[]);
    let up = office.live(|call| call["state"] == "up");
    assert_eq!((&up["connected"], &up["direction"]), (&json!(true), &json!("outbound")), "{up}");
    // Hold and take back, as in any call.
    alice.hold(at_alice, true);
    bob.wait_to_hear(at_bob, &[], &[ALICE]);
    alice.hold(at_alice, false);
    bob.wait_to_hear(at_bob, &[ALICE], &[]);
    alice.hang_up(at_alice);
    bob.ended(at_bob);
    let record = office.record(1);
    assert_eq!((&record["end"]["reason"], &record["target"]), (&json!("caller_hung_up"), &json!("dial")), "{record}");
    assert_eq!((&record["device"], &record["to"]), (&json!("alice"), &json!("bob")), "{record}");
    assert!(record["from"].as_str().unwrap().starts_with("sip:alice@"), "{record}");
    assert!(record["answered_at"].is_string() && record["duration_ms"].as_u64() > Some(0), "{record}");
    let legs: Vec<_> = record["legs"].as_array().unwrap().iter().map(|leg| (&leg["label"], &leg["recorded"])).collect();
    assert_eq!(
        legs,
        [(&json!("device alice/1"), &json!("left")), (&json!("device bob/1"), &json!("right"))],
        "{record}"
    );
    assert!(record["recording"].is_string(), "{record}");
    office.server.stop();
}

#[test]
fn whoever_is_called_is_heard_before_they_answer_and_may_hang_up() {
    let (office, [mut alice, mut bob]) = Office::open(&[]);
    office.begin("bob");
    let at_alice = alice.pick_up();
    let at_bob = bob.rings();
    hears_tone(&mut alice, at_alice);
    bob.speak_early(at_bob);
    alice.wait_to_hear(at_alice, &[BOB], &[TONE]);
    bob.answer(at_bob);
    bob.wait_to_hear(at_bob, &[ALICE], &[]);
    bob.hang_up(at_bob);
    alice.ended(at_alice);
    assert_eq!(office.record(1)["end"]["reason"], "far_side_hung_up");
    office.server.stop();
}

#[test]
fn where_nobody_is_to_be_had_the_users_phone_hears_it_and_the_record_says_why() {
    let (office, [mut alice, mut bob]) = Office::open(&["registrar.ring_s=2"]);
    for (at, (code, reason, cause)) in
        [(Some(486), "busy", "486"), (Some(603), "refused", "603"), (None, "no_answer", "480")].into_iter().enumerate()
    {
        office.begin("bob");
        let at_alice = alice.pick_up();
        let at_bob = bob.rings();
        match code {
            Some(code) => bob.reject(at_bob, code),
            None => {
                bob.ended(at_bob);
            }
        }
        hears_tone(&mut alice, at_alice);
        let why = alice.ended_because(at_alice).unwrap_or_default();
        assert!(why.contains(&format!("cause={cause}")), "{why}");
        let record = office.record(at + 1);
        assert_eq!((&record["end"]["reason"], &record["answered_at"]), (&json!(reason), &Value::Null), "{record}");
        assert_eq!(record["duration_ms"], 0, "{record}");
    }
    // Whoever does not wait for the end of the tone: the record says the same.
    office.begin("bob");
    let at_alice = alice.pick_up();
    let at_bob = bob.rings();
    bob.reject(at_bob, 486);
    hears_tone(&mut alice, at_alice);
    alice.hang_up(at_alice);
    assert_eq!(office.record(4)["end"]["reason"], "busy");
    office.server.stop();
}

#[test]
fn whoever_gives_up_or_does_not_answer_their_own_phone_has_nobody_called() {
    let (office, [mut alice, mut bob]) = Office::open(&["registrar.ring_s=2"]);
    office.begin("bob");
    let at_alice = alice.pick_up();
    let at_bob = bob.rings();
    alice.hang_up(at_alice);
    bob.ended(at_bob);
    let record = office.record(1);
    assert_eq!(
        (&record["end"]["reason"], &record["answered_at"]),
        (&json!("caller_cancelled"), &Value::Null),
        "{record}"
    );
    // She declines, and then lets it ring out.
    office.begin("bob");
    let at_alice = alice.rings();
    alice.reject(at_alice, 486);
    let record = office.record(2);
    assert_eq!(record["end"]["reason"], "caller_cancelled", "{record}");
    assert!(record["end"]["detail"].as_str().unwrap().starts_with("their own phone: 486"), "{record}");
    office.begin("bob");
    let at_alice = alice.rings();
    alice.ended(at_alice);
    assert_eq!(office.record(3)["end"]["reason"], "caller_cancelled");
    // Somebody ends it for her.
    office.begin("bob");
    let at_alice = alice.pick_up();
    let at_bob = bob.rings();
    let call = office.live(|call| call["devices"] == json!(["alice", "bob"]))["call"].as_str().unwrap().to_owned();
    let (status, _) = office.runtime.block_on(office.ada.ask(Method::DELETE, &format!("/calls/{call}"), json!({})));
    assert_eq!(status, StatusCode::ACCEPTED);
    alice.ended(at_alice);
    bob.ended(at_bob);
    assert_eq!(office.record(4)["end"]["reason"], "commanded");
    office.server.stop();
}

#[test]
fn of_a_users_phones_the_one_that_answers_calls_also_an_agent_or_a_carrier() {
    let (office, [mut alice, _bob]) = Office::open(&[]);
    let mut other = Phone::register(office.server.sip, "alice", "a", 2_000.0);
    office.begin("echo");
    let (at_alice, at_other) = (alice.rings(), other.rings());
    other.answer(at_other);
    alice.ended(at_alice);
    other.wait_to_hear(at_other, &[2_000.0], &[]);
    other.hang_up(at_other);
    assert_eq!(office.record(1)["target"], "echo");
    office.begin("+49 30 123456");
    let (at_alice, at_other) = (alice.rings(), other.rings());
    other.answer(at_other);
    alice.ended(at_alice);
    let mut datagram = [0; 4_096];
    let (size, _) = office.carrier.recv_from(&mut datagram).unwrap();
    let invite = String::from_utf8_lossy(&datagram[..size]).into_owned();
    assert!(invite.starts_with("INVITE sip:+4930123456@"), "{invite}");
    other.hang_up(at_other);
    let record = office.record(2);
    assert_eq!(
        (&record["end"]["reason"], &record["answered_at"]),
        (&json!("caller_cancelled"), &Value::Null),
        "{record}"
    );
    office.server.stop();
}

#[test]
fn who_may_have_whom_called_from_which_phone_is_settled_before_any_rings() {
    let (office, [mut alice, mut bob]) = Office::open(&[]);
    let entries = json!({ "entries": [{ "number": "+4930123456" }] });
    assert_eq!(office.runtime.block_on(office.ada.ask(Method::POST, "/do-not-call", entries)).0, StatusCode::CREATED);
    for (order, field) in [
        (json!({ "to": "nobody-there" }), "to"),
        (json!({ "to": "+4930123456" }), "to"),
        (json!({ "to": "0049 30 123456" }), "to"),
        (json!({ "to": "alice" }), "to"),
        (json!({ "to": "carol@elsewhere.example" }), "to"),
        (json!({ "to": "sip:carol@elsewhere.example" }), "to"),
        (json!({ "to": "listen-bob" }), "to"),
        (json!({ "to": "ring" }), "to"),
        (json!({ "to": "" }), "to"),
        (json!({ "to": "bob", "from": "nosuch" }), "from"),
        (json!({ "to": "bob", "from": "alice", "connect_with": "agent" }), "from"),
        (json!({ "to": "bob", "form": "alice" }), "form"),
    ] {
        let (status, problem) = office.call(&office.ada, order.clone());
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{order}: {problem}");
        assert_eq!(problem["errors"][0]["field"], field, "{order}: {problem}");
    }
    let (status, problem) = office.call(&office.bob, json!({ "to": "alice", "from": "alice" }));
    assert_eq!(status, StatusCode::FORBIDDEN, "{problem}");
    // An operator's own phone calls whom it may; whoever administers has anybody's called from.
    assert_eq!(office.call(&office.bob, json!({ "to": "alice" })).0, StatusCode::ACCEPTED);
    let at_bob = bob.pick_up();
    let at_alice = alice.pick_up();
    alice.wait_to_hear(at_alice, &[BOB], &[]);
    bob.hang_up(at_bob);
    alice.ended(at_alice);
    assert_eq!(office.call(&office.ada, json!({ "to": "alice", "from": "bob" })).0, StatusCode::ACCEPTED);
    let at_bob = bob.rings();
    bob.reject(at_bob, 603);
    assert_eq!(office.record(2)["device"], "bob");
    office.server.stop();
}
