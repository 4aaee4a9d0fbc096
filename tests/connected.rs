//! Whom phones and carriers are shown as speaking with while a call stands (RFC 4916).
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "common/office.rs"]
mod office;
#[path = "common/person.rs"]
mod person;
#[path = "common/phone.rs"]
mod phone;

use common::Server;
use office::{ALICE, BOB, CAROL, connect};
use person::{Person, add_user, only};
use phone::Phone;
use sip::headers::ReferTo;

const DEVICES: &str = r#"
[[devices]]
user = "alice"
password = "a"
display_name = "Alice Able"
numbers = ["+4930123101"]

[[devices]]
user = "bob"
password = "b"
display_name = "Bob Baker"
numbers = ["+4930123102"]

[[devices]]
user = "carol"
password = "c"
numbers = ["+4930123103"]

[[routes]]
from = ["devices"]
called = "500"
to = "queue bob carol"
"#;

fn start(more: &str) -> (Server, [Phone; 3]) {
    let config = [DEVICES, more].concat();
    let server = Server::start_with(&config, tempfile::tempdir().unwrap(), &["rtp.codecs=[\"PCMU\"]"]);
    let phones = [("alice", "a", ALICE), ("bob", "b", BOB), ("carol", "c", CAROL)];
    let phones = phones.map(|(user, password, tone)| Phone::register(server.sip, user, password, tone));
    (server, phones)
}

fn both(shown: &str) -> [String; 2] {
    [shown.to_owned(), shown.to_owned()]
}

/// Conforms: RFC 4916 §4.4 — whoever stays while the other side of their call changes is told by UPDATE whom they speak with now.
#[test]
fn whoever_stays_sees_whom_they_speak_with_now() {
    let (server, [mut alice, mut bob, mut carol]) = start("");
    // An attended transfer. Whom one has called, or has seen calling, is told to nobody.
    let (first, at_bob) = connect(&mut alice, &mut bob, "bob");
    let (second, at_carol) = connect(&mut alice, &mut carol, "carol");
    let replaces = alice.identity(second).replaces();
    let refer_to = ReferTo::value(&server.uri("carol"), Some(&replaces));
    assert!(!alice.has_changed_display(first) && !bob.has_changed_display(at_bob));
    assert_eq!(alice.refer(first, &refer_to), (202, Some(200)));
    assert_eq!(bob.shows(at_bob), both("carol"));
    assert_eq!(carol.shows(at_carol), both("Bob Baker bob"));
    // What is done to the call after that goes on as ever.
    bob.hold(at_bob, true);
    bob.hold(at_bob, false);
    carol.wait_to_hear(at_carol, &[BOB], &[]);
    // A transfer of the same call by one who was put through.
    let referred = carol.refer_ringing(at_carol, &server.uri("alice"));
    let at_alice = alice.pick_up();
    assert_eq!(carol.told_of_refer(referred), (202, Some(200)));
    assert_eq!(bob.shows(at_bob), both("Alice Able alice"));
    assert_eq!(alice.shows(at_alice), both("Bob Baker bob"));
    alice.hang_up(at_alice);
    bob.ended(at_bob);
    server.stop();
}

#[test]
fn whoever_is_picked_up_fetched_or_answered_by_a_queue_sees_by_whom() {
    let (server, [mut alice, mut bob, mut carol]) = start("");
    let call = alice.dial("bob", &[]);
    let at_bob = bob.rings();
    let picks = carol.dial("pickup-bob", &[]);
    carol.wait_answered(picks);
    alice.wait_answered(call);
    assert_eq!((alice.shows(call), carol.shows(picks)), (both("carol"), both("Alice Able alice")));
    bob.ended(at_bob);
    // Carol puts her in a slot, and bob fetches her.
    assert_eq!(carol.refer(picks, &server.uri("park-1")), (202, Some(200)));
    carol.ended(picks);
    let fetches = bob.call("park-1");
    assert_eq!((alice.shows(call), bob.shows(fetches)), (both("Bob Baker bob"), both("Alice Able alice")));
    bob.hang_up(fetches);
    alice.ended(call);
    // A queue, whose first phone does not answer.
    let call = alice.dial("500", &[]);
    let at_bob = bob.rings();
    bob.reject(at_bob, 486);
    let at_carol = carol.pick_up();
    alice.wait_answered(call);
    assert_eq!(alice.shows(call), both("carol"));
    assert!(!carol.has_changed_display(at_carol));
    alice.hang_up(call);
    carol.ended(at_carol);
    server.stop();
}

/// Conforms: RFC 4916 §4.5 — what a carrier says of who is at its end is shown, and passed on to whoever speaks with them; RFC 3325 §5 — who is
/// at ours is told to carriers that we trust alone, and of nobody who does not want that.
#[test]
fn carriers_say_who_is_there_and_those_we_trust_are_told() {
    for identity in ["trusted", "untrusted"] {
        let mut carrier = Phone::start("carrier", "", 2_000.0);
        let trunk = format!(
            r#"
[[trunks]]
name = "carrier"
hosts = ["{}"]
domain = "carrier.test"
country = "DE"
identity = "{identity}"
ping_s = 0

[[routes]]
from = ["devices"]
called = "+*"
to = "trunk carrier"
"#,
            carrier.address()
        );
        let (server, [mut alice, mut bob, _]) = start(&trunk);
        server.wait_until_ready();
        let (done, says) = add_user(&server, &[], &["add", "ada"]);
        assert!(done, "{says}");
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let ada = runtime.block_on(Person::log_in(&server, "ada"));
        let call = alice.dial("+493099901", &[]);
        let at_carrier = carrier.pick_up();
        alice.wait_answered(call);
        let live = runtime.block_on(ada.wait("/calls", |calls| only(calls).filter(|call| call["state"] == "up")));
        assert!(live["party"].is_null(), "{live}");
        // The carrier's subscriber passes the call on to somebody else.
        carrier.say_who(at_carrier, "\"Dora\" <sip:030777777@carrier.test>");
        assert_eq!(alice.shows(call), both("Dora +4930777777"));
        let live = runtime.block_on(ada.wait("/calls", |calls| only(calls).filter(|call| call["party"].is_string())));
        assert_eq!(live["party"], "+4930777777", "{live}");
        carrier.say_who(at_carrier, "\"Anonymous\" <sip:anonymous@anonymous.invalid>");
        assert_eq!(alice.shows(call), ["Anonymous anonymous".to_owned(), String::new()]);
        // Our side changes.
        assert!(!carrier.has_changed_display(at_carrier));
        let referred = alice.refer_ringing(call, &server.uri("bob"));
        let at_bob = bob.pick_up();
        assert_eq!(alice.told_of_refer(referred), (202, Some(200)));
        if identity == "trusted" {
            let [from, asserted] = carrier.shows(at_carrier);
            assert_eq!((from.as_str(), asserted.as_str()), ("Bob Baker +4930123102", "+4930123102"));
        } else {
            bob.wait_to_hear(at_bob, &[2_000.0], &[]);
            assert!(!carrier.has_changed_display(at_carrier));
        }
        carrier.hang_up(at_carrier);
        bob.ended(at_bob);
        server.stop();
    }
}
