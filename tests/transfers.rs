//! Calls that somebody at the dashboard, or a program, passes on: whoever answers hears first who is put through, over HTTP and with phones
//! that hear what is said.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "common/office.rs"]
mod office;
#[path = "common/person.rs"]
mod person;
#[path = "common/phone.rs"]
mod phone;

use common::Server;
use office::{ALICE, BOB, CAROL, DEVICES, phones};
use person::{Person, add_user, only};
use phone::Phone;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// A server, three phones of its, and somebody at its dashboard.
struct Office {
    server: Server,
    runtime: tokio::runtime::Runtime,
    ada: Person,
}

impl Office {
    fn open() -> (Self, [Phone; 3]) {
        let server = Server::start_with(DEVICES, tempfile::tempdir().unwrap(), &["rtp.codecs=[\"PCMU\"]"]);
        server.wait_until_ready();
        let (done, says) = add_user(&server, &[], &["add", "ada"]);
        assert!(done, "{says}");
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let ada = runtime.block_on(Person::log_in(&server, "ada"));
        let [alice, bob, carol, _] = phones(server.sip);
        (Self { server, runtime, ada }, [alice, bob, carol])
    }

    /// Passes on the call that is up.
    fn transfer(&self, wanted: Value) -> (StatusCode, Value) {
        self.runtime.block_on(async {
            let up = |calls: &Value| only(calls).filter(|call| call["state"] == "up");
            let call = self.ada.wait("/calls", up).await["call"].as_str().unwrap().to_owned();
            self.ada.ask(Method::POST, &format!("/calls/{call}/transfer"), wanted).await
        })
    }
}

fn warmly(to: &str, accept: bool) -> Value {
    let summary = "A caller from Hamburg, about the invoice of March.";
    json!({ "to": to, "kind": "warm", "summary": summary, "accept": accept })
}

#[test]
fn a_person_hears_a_summary_before_the_caller_and_takes_the_call_or_does_not() {
    let (office, [mut alice, mut bob, mut carol]) = Office::open();
    let at_alice = alice.dial("bob", &[]);
    let at_bob = bob.pick_up();
    alice.wait_answered(at_alice);
    alice.wait_to_hear(at_alice, &[BOB], &[]);
    for wanted in [warmly("nobody", true), json!({ "to": "nobody" })] {
        let (code, says) = office.transfer(wanted);
        let why = json!([{ "field": "to", "message": "nobody is called nobody here" }]);
        assert_eq!((code, &says["errors"]), (StatusCode::UNPROCESSABLE_ENTITY, &why), "{says}");
    }
    for takes in [false, true] {
        assert_eq!(office.transfer(warmly("carol", true)).0, StatusCode::ACCEPTED);
        let at_carol = carol.pick_up();
        // The server reads the summary to her; the caller hears music.
        carol.wait_for_sound(at_carol);
        carol.wait_to_hear(at_carol, &[], &[ALICE, BOB]);
        alice.wait_to_hear(at_alice, &[], &[BOB, CAROL]);
        alice.wait_for_sound(at_alice);
        bob.wait_to_hear(at_bob, &[], &[ALICE, CAROL]);
        carol.press(at_carol, if takes { '1' } else { '2' });
        if takes {
            bob.ended(at_bob);
            carol.wait_to_hear(at_carol, &[ALICE], &[]);
            alice.wait_to_hear(at_alice, &[CAROL], &[BOB]);
        } else {
            carol.ended(at_carol);
            alice.wait_to_hear(at_alice, &[BOB], &[CAROL]);
            bob.wait_to_hear(at_bob, &[ALICE], &[]);
        }
    }
    alice.hang_up(at_alice);
    assert_eq!(office.server.wait_for_records(1)[0]["end"]["reason"], "caller_hung_up");
    office.server.stop();
}

#[test]
fn an_agents_caller_is_put_through_or_goes_on_with_the_agent() {
    let (office, [mut alice, mut bob, mut carol]) = Office::open();
    let at_alice = alice.call("agent");
    alice.wait_for_sound(at_alice);
    let (status, problem) = office.transfer(warmly("room-1", false));
    assert_eq!((status, &problem["errors"][0]["field"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("to")), "{problem}");
    // Nobody is called that: the agent is not even interrupted.
    assert_eq!(office.transfer(warmly("nobody-there", false)).0, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(office.transfer(warmly("carol", true)).0, StatusCode::ACCEPTED);
    let (at_carol, invite) = carol.rings_with();
    assert!(invite.from_().unwrap().uri_text.starts_with("sip:alice@"), "she sees who is put through");
    carol.answer(at_carol);
    carol.wait_for_sound(at_carol);
    carol.wait_to_hear(at_carol, &[], &[ALICE]);
    carol.hang_up(at_carol);
    // Bob is not asked: he hears the summary in the agent's voice, then the caller.
    assert_eq!(office.transfer(warmly("bob", false)).0, StatusCode::ACCEPTED);
    let at_bob = bob.pick_up();
    bob.wait_for_sound(at_bob);
    bob.wait_to_hear(at_bob, &[], &[ALICE]);
    alice.wait_to_hear(at_alice, &[], &[BOB]);
    bob.wait_to_hear(at_bob, &[ALICE], &[]);
    alice.wait_to_hear(at_alice, &[BOB], &[]);
    bob.hang_up(at_bob);
    alice.ended(at_alice);
    let record = office.server.wait_for_records(1).remove(0);
    assert_eq!(record["end"]["reason"], "far_side_hung_up", "{record}");
    let agent = &record["agent"];
    let said: Vec<_> = agent["turns"].as_array().unwrap().iter().filter(|turn| turn["who"] == "agent").collect();
    assert!(said.len() >= 2, "the agent went on with the caller in between: {record}");
    assert!(!agent["brain"].as_str().unwrap().is_empty(), "who it was is known: {record}");
    office.server.stop();
}
