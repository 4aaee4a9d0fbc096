//! Callers who wait in a queue, with phones that hear what is played: who gets whom, when, and where callers go whom nobody takes.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "common/office.rs"]
mod office;
#[path = "common/person.rs"]
mod person;
#[path = "common/phone.rs"]
mod phone;

use common::{PATIENCE, Server, wait_for};
use office::{ALICE, BOB, CAROL, DAVE, DEVICES, phones};
use person::{Person, add_user};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// Carol alone takes calls of the one queue, and hears of nobody else's of the other.
const QUEUES: &str = r#"
[[routes]]
name = "sales"
called = "800"
from = ["devices", "agents"]
to = "queue carol"
wait_s = 300
wait_limit = 2
priority = 1
then = "dave"
leave_key = "0"
greeting = "Please hold."
position = "You are number {place} in line."
position_s = 10

[[routes]]
name = "support"
called = "801"
from = ["devices", "agents"]
to = "queue carol dave"
ring = "longest_idle"
wait_s = 3
"#;

fn server() -> Server {
    let config = format!("{DEVICES}{QUEUES}");
    let server = Server::start_with(&config, tempfile::tempdir().unwrap(), &["rtp.codecs=[\"PCMU\"]"]);
    server.wait_until_ready();
    server
}

fn record<'a>(records: &'a [Value], from: &str) -> &'a Value {
    let of = format!("sip:{from}@");
    records.iter().find(|record| record["from"].as_str().unwrap().contains(&of)).unwrap()
}

#[test]
fn callers_wait_with_music_and_whoever_came_first_is_connected_first() {
    let server = server();
    let [mut alice, mut bob, mut carol, _dave] = phones(server.sip);
    let busy_carol = carol.call("echo");
    // Carol speaks with somebody: both wait.
    let of_alice = alice.call("800");
    alice.wait_for_sound(of_alice);
    alice.wait_to_hear(of_alice, &[], &[BOB, CAROL]);
    let of_bob = bob.call("800");
    bob.wait_for_sound(of_bob);
    carol.hang_up(busy_carol);
    let (at_carol, invite) = carol.rings_with();
    assert!(invite.from_().unwrap().uri_text.starts_with("sip:alice@"), "who came first is first");
    carol.answer(at_carol);
    alice.wait_to_hear(of_alice, &[CAROL], &[]);
    carol.wait_to_hear(at_carol, &[ALICE], &[BOB]);
    bob.wait_to_hear(of_bob, &[], &[ALICE, CAROL]);
    alice.hang_up(of_alice);
    carol.ended(at_carol);
    // She is free again, and declines: bob waits on, and she is called again after a while.
    let declined = carol.rings();
    carol.reject(declined, 486);
    bob.wait_for_sound(of_bob);
    let at_carol = carol.pick_up();
    bob.wait_to_hear(of_bob, &[CAROL], &[ALICE]);
    bob.hang_up(of_bob);
    carol.ended(at_carol);
    let records = server.wait_for_records(3);
    for from in ["alice", "bob"] {
        let record = record(&records, from);
        let wait = &record["queues"][0];
        assert_eq!(
            (&wait["queue"], &wait["outcome"], &record["target"]),
            (&json!("sales"), &json!("answered"), &json!("queue"))
        );
        assert_eq!(wait["answered_by"], "device carol/1", "{wait}");
        assert!(wait["waited_ms"].as_u64().unwrap() > 0, "{wait}");
    }
    let metrics = server.get("/metrics").1;
    assert!(metrics.contains("omnivox_queue_left_total{queue=\"sales\",outcome=\"answered\"} 2"), "{metrics}");
    wait_for(
        "the gauge",
        PATIENCE,
        || server.get("/metrics").1.contains("omnivox_queue_waiting{queue=\"sales\"} 0").then_some(()),
        || server.get("/metrics").1,
    );
    server.stop();
}

#[test]
fn a_caller_goes_elsewhere_by_a_key_from_a_full_line_or_where_nobody_is_there() {
    let server = server();
    let [mut alice, mut bob, mut carol, mut dave] = phones(server.sip);
    let busy = carol.call("echo");
    let of_alice = alice.call("800");
    alice.press(of_alice, '5');
    alice.wait_for_sound(of_alice);
    alice.press(of_alice, '0');
    let at_dave = dave.pick_up();
    alice.wait_to_hear(of_alice, &[DAVE], &[]);
    dave.hang_up(at_dave);
    alice.ended(of_alice);
    // Two wait: for a third there is no room.
    let waiting = [alice.call("800"), bob.call("800")];
    let third = dave.call("800");
    // Dave is sent to himself, who is in a call with nobody but us: another phone of his rings, or this one.
    let rings = dave.rings();
    dave.reject(rings, 486);
    dave.ended(third);
    alice.hang_up(waiting[0]);
    bob.hang_up(waiting[1]);
    carol.hang_up(busy);
    let records = server.wait_for_records(5);
    let outcomes: Vec<&Value> = records
        .iter()
        .flat_map(|record| record["queues"].as_array().into_iter().flatten())
        .map(|wait| &wait["outcome"])
        .collect();
    for outcome in ["left", "full", "abandoned"] {
        assert!(outcomes.contains(&&json!(outcome)), "{outcomes:?}");
    }
    server.stop();
}

#[test]
fn whoever_waits_in_vain_where_nothing_follows_is_let_go_and_a_transferred_caller_waits_too() {
    let server = server();
    let [mut alice, mut bob, mut carol, mut dave] = phones(server.sip);
    let (busy_carol, busy_dave) = (carol.call("echo"), dave.call("echo"));
    let (of_alice, at_bob) = office::connect(&mut alice, &mut bob, "bob");
    let (taken, report) = bob.refer(at_bob, "sip:801@127.0.0.1");
    assert_eq!(report.unwrap_or(taken), 200);
    bob.ended(at_bob);
    alice.wait_for_sound(of_alice);
    alice.ended(of_alice);
    let records = server.wait_for_records(1);
    assert_eq!(records[0]["end"]["reason"], "no_answer");
    assert_eq!(records[0]["end"]["detail"], "nobody of the queue support took the call");
    let wait = &records[0]["queues"][0];
    assert_eq!((&wait["queue"], &wait["outcome"]), (&json!("support"), &json!("timed_out")));
    assert!(wait["waited_ms"].as_u64().unwrap() >= 3_000, "{wait}");
    // Dave has spoken with nobody for longest.
    dave.hang_up(busy_dave);
    server.wait_for_records(2);
    carol.hang_up(busy_carol);
    server.wait_for_records(3);
    let of_alice = alice.call("801");
    let at_dave = dave.pick_up();
    alice.wait_to_hear(of_alice, &[DAVE], &[]);
    alice.hang_up(of_alice);
    dave.ended(at_dave);
    server.stop();
}

#[test]
fn who_says_that_they_take_no_calls_is_passed_over_and_a_caller_who_waits_is_fetched() {
    let server = server();
    for user in [&["add", "ada"][..], &["add", "carol", "--role", "operator", "--device", "carol"]] {
        let (done, says) = add_user(&server, &[], user);
        assert!(done, "{says}");
    }
    let [mut alice, mut bob, mut carol, mut dave] = phones(server.sip);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (ada, at_page) =
        runtime.block_on(async { (Person::log_in(&server, "ada").await, Person::log_in(&server, "carol").await) });
    let says = |state: &str| runtime.block_on(at_page.ask(Method::PUT, "/me/presence", json!({ "state": state })));
    let (code, answer) = says("away");
    assert_eq!(code, StatusCode::OK, "{answer}");
    // Of the two who take these calls one is away.
    let of_bob = bob.call("801");
    let at_dave = dave.pick_up();
    bob.wait_to_hear(of_bob, &[DAVE], &[]);
    // Nobody is there in the other queue: dave gets its callers, who is in a call already, and declines.
    let of_alice = alice.call("800");
    let second_at_dave = dave.rings();
    dave.reject(second_at_dave, 486);
    alice.ended(of_alice);
    bob.hang_up(of_bob);
    dave.ended(at_dave);
    assert_eq!(says("available").0, StatusCode::OK);
    let busy = carol.call("echo");
    let of_alice = alice.call("800");
    let waits = |calls: &Value| {
        let waits = |call: &&Value| call["queue"]["name"] == "sales";
        calls["items"].as_array()?.iter().find(waits).map(|call| call["call"].as_str().unwrap().to_owned())
    };
    let call = runtime.block_on(ada.wait("/calls", waits));
    let fetch = |to: Value| runtime.block_on(ada.ask(Method::POST, &format!("/calls/{call}/transfer"), to));
    let warm = fetch(json!({ "to": "bob", "kind": "warm", "summary": "A caller.", "accept": true }));
    assert_eq!(
        (warm.0, &warm.1["errors"][0]["field"]),
        (StatusCode::UNPROCESSABLE_ENTITY, &json!("kind")),
        "{}",
        warm.1
    );
    let (code, answer) = fetch(json!({ "to": "bob" }));
    assert_eq!(code, StatusCode::ACCEPTED, "{answer}");
    let at_bob = bob.rings();
    bob.reject(at_bob, 486);
    // In vain: alice waits on, and is fetched once more.
    runtime.block_on(ada.wait("/queues", |queues| (queues["items"][0]["waiting"] == 1).then_some(())));
    alice.wait_for_sound(of_alice);
    wait_for(
        "the second fetch",
        PATIENCE,
        || (fetch(json!({ "to": "bob" })).0 == StatusCode::ACCEPTED).then_some(()),
        || "it is refused".to_owned(),
    );
    let at_bob = bob.pick_up();
    alice.wait_to_hear(of_alice, &[BOB], &[CAROL]);
    alice.hang_up(of_alice);
    bob.ended(at_bob);
    carol.hang_up(busy);
    let records = server.wait_for_records(4);
    let fetched = records.iter().filter(|record| record["queues"][0]["outcome"] == "passed_on");
    assert_eq!(fetched.count(), 1, "{records:?}");
    assert!(records.iter().any(|record| record["queues"][0]["outcome"] == "deserted"), "{records:?}");
    server.stop();
}
