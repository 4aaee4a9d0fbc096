//! Agents that hand their caller over to another agent, in mid-call: by a script, by a model's tool, from outside, by a phone that consulted the
//! agent; and where that comes to nothing.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[allow(dead_code)]
#[path = "../agent/tests/session_support/chat_server.rs"]
mod chat_server;
mod common;
#[path = "common/office.rs"]
mod office;
#[path = "common/person.rs"]
mod person;
#[path = "common/phone.rs"]
mod phone;

use std::process::Command;
use std::time::Duration;

use chat_server::{ChatServer, Manner};
use common::{Running, Server};
use office::{BOB, DEVICES, connect, phones};
use omnivox::call::Handover;
use omnivox::call::app::ActiveCall;
use person::{Person, add_user, only};
use phone::Phone;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sip::headers::ReferTo;

/// Takes down a name, and passes callers on as they press.
const RECEPTION: &str = r#"
[agent]
name = "reception"
[ear]
recognizer = "none"
[voice]
kind = "flite"
[script]
start = "menu"
[script.variables]
name = "Smith"
secret = "xyzzy"
[script.states.menu]
say = "Welcome to reception. Press one for sales."
[[script.states.menu.on]]
keys = ["1"]
next = "sales"
[[script.states.menu.on]]
keys = ["2"]
next = "broken"
[[script.states.menu.on]]
keys = ["3"]
next = "nobody"
[[script.states.menu.on]]
keys = ["4"]
next = "ping"
[script.states.sales]
say = "I connect you."
transfer = "sales"
transfer_kind = "warm"
transfer_summary = "About a lamp."
transfer_variables = ["name"]
[script.states.broken]
transfer = "broken"
transfer_failed = "sorry"
[script.states.nobody]
transfer = "nobody"
transfer_failed = "sorry"
[script.states.ping]
transfer = "ping"
[script.states.sorry]
say = "Sorry about that."
next = "menu"
"#;

/// Knows what it is told, and only what it has a variable for.
const SALES: &str = r#"
[agent]
name = "sales"
[ear]
recognizer = "none"
[voice]
kind = "flite"
[script]
start = "hello"
[script.variables]
name = "nobody"
secret = "nothing"
handover_from = ""
handover_summary = ""
[script.states.hello]
say = "Sales for {name} from {handover_from}. {handover_summary} I know {secret}."
next = "bye"
[script.states.bye]
say = "Goodbye."
hang_up = "sold"
"#;

/// What it is to hear by is not there: it cannot be loaded.
const BROKEN: &str = "[agent]\nname = \"broken\"\n[ear]\nrecognizer = \"whisper\"\n[script]\nstart = \"a\"\n\
                      [script.states.a]\nsay = \"A.\"\nhang_up = \"a\"\n";

/// Two that send their caller to one another.
fn ping_pong(own: &str, other: &str) -> String {
    format!(
        "[agent]\nname = \"{own}\"\n[ear]\nrecognizer = \"none\"\n[voice]\nkind = \"flite\"\n[script]\nstart = \"a\"\n\
         [script.states.a]\ntransfer = \"{other}\"\ntransfer_failed = \"b\"\n\
         [script.states.b]\nsay = \"Enough.\"\nhang_up = \"enough\"\n"
    )
}

/// A server with these agents, three phones of its, and somebody at its dashboard.
struct House {
    server: Server,
    runtime: tokio::runtime::Runtime,
    ada: Person,
}

impl House {
    fn open(agents: &[(&str, &str)], config: &str) -> (Self, [Phone; 3]) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("agents")).unwrap();
        for (name, definition) in agents {
            std::fs::write(folder.path().join(format!("agents/{name}.toml")), definition).unwrap();
        }
        let config = format!("{DEVICES}{config}");
        let server =
            Server::start_with(&config, folder, &["agents.dir=agents", "rtp.codecs=[\"PCMU\"]", "calls.record=true"]);
        server.wait_until_ready();
        let (done, says) = add_user(&server, &[], &["add", "ada"]);
        assert!(done, "{says}");
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let ada = runtime.block_on(Person::log_in(&server, "ada"));
        let [_, bob, carol, _] = phones(server.sip);
        // She says nothing: agents wait for whoever speaks.
        let alice = Phone::register(server.sip, "alice", "a", 0.0);
        (Self { server, runtime, ada }, [alice, bob, carol])
    }

    /// Waits until this agent has the call that is up; its id.
    fn wait_for_agent(&self, agent: &str) -> String {
        let has = |calls: &Value| only(calls).filter(|call| call["agent"] == agent);
        let call = self.runtime.block_on(self.ada.wait("/calls", has));
        call["call"].as_str().unwrap().to_owned()
    }

    /// Calls an agent, and does this, each once the agent has fallen silent.
    fn call(&self, agent: &str, does: &str) -> Running {
        let script = self.server.folder.path().join("caller.txt");
        std::fs::write(&script, does).unwrap();
        let ports = format!("rtp.ports={}", common::rtp_ports());
        let mut command = Command::new(common::program());
        command.current_dir(self.server.folder.path());
        Running::start(command.args(["call", &self.server.uri(agent), "--script", "caller.txt", "--set", &ports]))
    }

    fn hang_up(&self, call: &str) {
        let done = self.runtime.block_on(self.ada.ask(Method::DELETE, &format!("/calls/{call}"), Value::Null));
        assert!(done.0.is_success(), "{done:?}");
    }

    fn transfer(&self, call: &str, wanted: Value) -> (StatusCode, Value) {
        self.runtime.block_on(self.ada.ask(Method::POST, &format!("/calls/{call}/transfer"), wanted))
    }
}

fn said(record: &Value) -> Vec<(u64, &str)> {
    let turns = record["agent"]["turns"].as_array().unwrap().iter();
    turns.map(|turn| (turn["conversation"].as_u64().unwrap_or(0), turn["text"].as_str().unwrap())).collect()
}

fn conversations(record: &Value) -> Vec<(&str, &str)> {
    let all = record["conversations"].as_array().unwrap().iter();
    all.map(|one| (one["agent"].as_str().unwrap(), one["outcome"].as_str().unwrap())).collect()
}

const PRICES: &str = "[prices]\ncurrency = \"EUR\"\n[[prices.voices]]\nname = \"flite\"\nthousand_characters = \"1\"\n";

#[test]
fn a_caller_goes_from_one_agent_to_the_next_which_knows_what_it_is_told() {
    let (house, _) = House::open(&[("reception", RECEPTION), ("sales", SALES)], PRICES);
    let _caller = house.call("reception", "press 1\nwait 60000\n");
    let call = house.wait_for_agent("reception");
    assert_eq!(house.wait_for_agent("sales"), call, "it is the same call");
    let record = house.server.wait_for_records(1).remove(0);
    assert_eq!(
        (&record["target"], &record["end"]["reason"]),
        (&json!("reception"), &json!("agent_hung_up")),
        "{record}"
    );
    assert_eq!(conversations(&record), [("reception", "transferred"), ("sales", "hung_up")], "{record}");
    let said = said(&record);
    assert!(said.contains(&(0, "I connect you.")), "{said:?}");
    let sales = "Sales for Smith from reception. About a lamp. I know nothing. Goodbye.";
    assert!(said.contains(&(1, sales)), "{said:?}");
    let turns = record["agent"]["turns"].as_array().unwrap();
    let indexes: Vec<u64> = turns.iter().map(|turn| turn["index"].as_u64().unwrap()).collect();
    assert_eq!(indexes, (0..turns.len() as u64).collect::<Vec<_>>(), "counted over both");
    let starts: Vec<f64> = turns.iter().map(|turn| turn["started_ms"].as_f64().unwrap()).collect();
    // A conversation begins when the one before ends: their clocks may differ by a frame.
    let is_later = |pair: &[f64]| pair[1] > pair[0] - 20.0;
    assert!(starts.windows(2).all(is_later) && starts.last().unwrap() > &2_000.0, "on one clock: {starts:?}");
    let transfer = turns.iter().flat_map(|turn| turn["tools"].as_array().into_iter().flatten()).next().unwrap();
    assert_eq!((&transfer["name"], &transfer["outcome"]), (&json!("transfer_call"), &json!("done")), "{record}");
    // Both are paid for.
    let used = |at: usize| record["conversations"][at]["usage"]["voices"][0]["characters"].as_i64().unwrap_or(0);
    assert!(used(1) >= 55, "{record}");
    assert_eq!(record["cost"]["micros"], json!((used(0) + used(1)) * 1_000), "{record}");
    let recording = record["recording"].as_str().unwrap();
    assert!(std::fs::metadata(recording).unwrap().len() > 30_000, "the recording goes on: {record}");
    let ada = &house.ada;
    let shown = house.runtime.block_on(async {
        ada.wait("/call-records", only).await;
        ada.read(&format!("/call-records/{call}/transcript")).await
    });
    let last = shown["turns"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["conversation"], &shown["conversations"][1]["agent"]), (&json!(1), &json!("sales")), "{shown}");
    let metrics = house.server.get("/metrics").1;
    for agent in ["reception", "sales"] {
        assert!(metrics.contains(&format!("omnivox_conversations_total{{agent=\"{agent}\"}} 1")), "{metrics}");
    }
    assert!(metrics.contains("omnivox_handovers_total 1"), "{metrics}");
    house.server.stop();
}

#[test]
fn a_model_hands_its_caller_over_to_whom_it_chooses_and_the_next_model_knows_what_was_said() {
    let models = tokio::runtime::Runtime::new().unwrap();
    let arguments = r#"{"to": "lamps", "summary": "Wants the green lamp."}"#;
    let chooses =
        models.block_on(ChatServer::start(Manner::Calls(&["One moment please."], "transfer_call", arguments)));
    let answers =
        models.block_on(ChatServer::start(Manner::Calls(&["Lamps here, the green one it is."], "hang_up", "{}")));
    let agent = |name: &str, url: &str, greeting: &str, more: &str| {
        format!(
            "[agent]\nname = \"{name}\"\n[ear]\nrecognizer = \"none\"\n[voice]\nkind = \"flite\"\n[brain]\nkind = \"openai\"\n\
             [brain.openai]\nbase_url = \"{url}\"\nmodel = \"m\"\ngreeting = \"{greeting}\"\n{more}"
        )
    };
    let transfers = "[[brain.openai.transfers]]\nname = \"lamps\"\nto = \"lamps\"\nwhen = \"they want a lamp\"\nkind = \"warm\"\n\
                     [[brain.openai.transfers]]\nname = \"person\"\nto = \"bob\"\nwhen = \"they want a person\"\n";
    let one = agent("front", &chooses.url(), "Hello, what can I do for you?", transfers);
    let two = agent("lamps", &answers.url(), "", "");
    let (house, _) = House::open(&[("front", &one), ("lamps", &two)], "");
    let _caller = house.call("front", "press 5\nwait 60000\n");
    house.wait_for_agent("lamps");
    let record = house.server.wait_for_records(1).remove(0);
    assert_eq!(conversations(&record), [("front", "transferred"), ("lamps", "hung_up")], "{record}");
    assert!(said(&record).contains(&(1, "Lamps here, the green one it is.")), "{record}");
    let offered = &chooses.requests()[0].1["tools"];
    assert!(offered.to_string().contains(r#""enum":["lamps","person"]"#), "{offered}");
    let asked = answers.requests()[0].1["messages"].clone();
    let texts: Vec<&str> = asked.as_array().unwrap().iter().map(|one| one["content"].as_str().unwrap()).collect();
    assert!(texts[1].contains("\"front\"") && texts[1].contains("Wants the green lamp."), "{texts:?}");
    assert_eq!(texts[2..5], ["Hello, what can I do for you?", "(pressed 5)", "One moment please."], "{texts:?}");
    assert!(texts[5].contains("handed over"), "{texts:?}");
    assert_eq!(record["cost"]["lines"].as_array().unwrap().iter().filter(|line| line["kind"] == "model").count(), 1);
    house.server.stop();
}

#[test]
fn an_agent_goes_on_with_a_caller_whom_no_other_takes_and_knows_why() {
    let agents = [("reception", RECEPTION), ("sales", SALES), ("broken", BROKEN)];
    let (house, _) = House::open(&agents, "");
    let _caller = house.call("reception", "press 2\npress 3\npress 1\nwait 60000\n");
    let call = house.wait_for_agent("reception");
    let transfer = |to: &str| house.transfer(&call, json!({ "to": to }));
    // From outside as well: it is not even interrupted.
    assert_eq!(transfer("broken").0, StatusCode::ACCEPTED);
    assert_eq!(transfer("nobody").0, StatusCode::UNPROCESSABLE_ENTITY);
    house.wait_for_agent("sales");
    // In mid-sentence, and back again.
    std::thread::sleep(Duration::from_millis(1_500));
    assert_eq!(transfer("reception").0, StatusCode::ACCEPTED);
    house.wait_for_agent("reception");
    std::thread::sleep(Duration::from_millis(1_500));
    house.hang_up(&call);
    let record = house.server.wait_for_records(1).remove(0);
    let outcomes = [("reception", "transferred"), ("sales", "transferred"), ("reception", "call_ended")];
    assert_eq!(conversations(&record), outcomes, "{record}");
    let turns = record["agent"]["turns"].as_array().unwrap();
    let tools: Vec<&Value> = turns.iter().flat_map(|turn| turn["tools"].as_array().into_iter().flatten()).collect();
    let transfers = tools.iter().filter(|tool| tool["name"] == "transfer_call");
    let came: Vec<_> = transfers.map(|tool| (tool["outcome"].as_str().unwrap(), tool["why"].as_str())).collect();
    let why = ["they cannot be reached now", "nobody is to be reached there"].map(|why| ("failed", Some(why)));
    assert_eq!(came, [why[0], why[1], ("done", None)], "{record}");
    let sorry = said(&record).iter().filter(|(_, text)| text.starts_with("Sorry about that.")).count();
    assert_eq!(sorry, 2, "{record}");
    house.server.stop();
}

#[test]
fn two_agents_that_send_a_caller_to_one_another_come_to_an_end() {
    let (ping, pong) = (ping_pong("ping", "pong"), ping_pong("pong", "ping"));
    let (house, [mut alice, ..]) = House::open(&[("ping", &ping), ("pong", &pong)], "");
    let at_alice = alice.call("ping");
    alice.ended(at_alice);
    let record = house.server.wait_for_records(1).remove(0);
    assert_eq!(record["end"]["detail"], "enough", "{record}");
    let all = conversations(&record);
    assert_eq!(all.len(), omnivox::call::transfer::HANDOVERS_LIMIT + 1, "{record}");
    assert_eq!(all.last(), Some(&("ping", "hung_up")));
    let why = record["agent"]["turns"].as_array().unwrap().iter().flat_map(|turn| turn["tools"].as_array()).flatten();
    let why: Vec<&str> = why.filter_map(|tool| tool["why"].as_str()).collect();
    assert_eq!(why, ["the call has been handed over too often"], "{record}");
    house.server.stop();
}

#[test]
fn a_caller_may_hang_up_at_any_moment_of_a_handover() {
    let (house, [mut alice, ..]) = House::open(&[("reception", RECEPTION), ("sales", SALES)], "");
    for (n, wait_ms) in [0, 20, 100, 700, 1_100].into_iter().enumerate() {
        let at_alice = alice.call("reception");
        let call = house.wait_for_agent("reception");
        if n.is_multiple_of(2) {
            assert_eq!(house.transfer(&call, json!({ "to": "sales" })).0, StatusCode::ACCEPTED);
        } else {
            alice.press(at_alice, '1');
        }
        std::thread::sleep(Duration::from_millis(wait_ms));
        alice.hang_up(at_alice);
        let record = house.server.wait_for_records(n + 1).remove(n);
        assert_eq!(record["end"]["reason"], "caller_hung_up", "{record}");
        let all = record["conversations"].as_array().unwrap();
        assert!(all.len() <= 2 && all.iter().all(|one| one["ended_at"].is_string()), "{record}");
    }
    house.server.stop();
}

#[test]
fn a_phone_passes_a_caller_on_to_an_agent_that_goes_on_to_another() {
    let (house, [mut alice, mut bob, _]) = House::open(&[("reception", RECEPTION), ("sales", SALES)], "");
    let (at_alice, at_bob) = connect(&mut alice, &mut bob, "bob");
    alice.wait_to_hear(at_alice, &[BOB], &[]);
    assert_eq!(bob.refer(at_bob, &house.server.uri("reception")), (202, Some(200)));
    bob.ended(at_bob);
    house.wait_for_agent("reception");
    alice.press(at_alice, '1');
    house.wait_for_agent("sales");
    alice.wait_for_sound(at_alice);
    alice.hang_up(at_alice);
    let record = house.server.wait_for_records(1).remove(0);
    assert_eq!(record["target"], "reception", "it was the first agent: {record}");
    assert_eq!(conversations(&record), [("reception", "transferred"), ("sales", "call_ended")], "{record}");
    house.server.stop();
}

/// Conforms: RFC 5589 §7 — an attended transfer to an agent: the caller talks with it in the place of the phone that consulted it.
#[test]
fn a_phone_that_consulted_an_agent_brings_its_caller_to_it() {
    let (house, [mut alice, mut bob, _]) = House::open(&[("reception", RECEPTION), ("sales", SALES)], "");
    let (at_alice, at_bob) = connect(&mut alice, &mut bob, "bob");
    alice.wait_to_hear(at_alice, &[BOB], &[]);
    bob.hold(at_bob, true);
    let consulted = bob.call("reception");
    bob.wait_for_sound(consulted);
    let refer_to = ReferTo::value(&house.server.uri("reception"), Some(&bob.identity(consulted).replaces()));
    assert_eq!(bob.refer(at_bob, &refer_to), (202, Some(200)));
    bob.ended(at_bob);
    bob.ended(consulted);
    // The agent begins with her, and hears what she presses.
    alice.wait_for_sound(at_alice);
    alice.wait_to_hear(at_alice, &[], &[BOB]);
    house.wait_for_agent("reception");
    alice.press(at_alice, '1');
    house.wait_for_agent("sales");
    alice.wait_for_sound(at_alice);
    alice.hang_up(at_alice);
    let mut records = house.server.wait_for_records(2);
    records.sort_by_key(|record| record["conversations"].as_array().map_or(0, Vec::len));
    let [before, after] = &records[..] else { panic!("{records:?}") };
    assert_eq!(before["end"]["reason"], "transferred", "{before}");
    // She has come for the one who called.
    assert_eq!(after["end"]["reason"], "far_side_hung_up", "{after}");
    let all = [("reception", "transferred"), ("reception", "transferred"), ("sales", "call_ended")];
    assert_eq!(conversations(after), all, "{after}");
    house.server.stop();
}

/// Passes its caller on to a program, with what it was told of them.
const CLERK: &str = r#"
[agent]
name = "clerk"
[ear]
recognizer = "none"
[voice]
kind = "flite"
[script]
start = "hello"
[script.variables]
name = ""
[script.states.hello]
say = "Hello {name}."
transfer = "back"
transfer_variables = ["name"]
"#;

#[test]
fn a_program_hands_its_caller_over_to_an_agent_and_gets_one_from_it_with_what_is_known() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("agents")).unwrap();
    std::fs::write(folder.path().join("agents/clerk.toml"), CLERK).unwrap();
    let mut config: omnivox::Config = toml::from_str(DEVICES).unwrap();
    config.sip.listen = vec![omnivox::config::SipListen::new(sip::Transport::Udp, "127.0.0.1:0".parse().unwrap())];
    config.data.dir = folder.path().to_owned();
    config.agents.dir = folder.path().join("agents");
    config.rtp.bind = [127, 0, 0, 1].into();
    config.rtp.ports = common::rtp_ports().parse().unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    let tell_of_briefing = tell.clone();
    let desk = move |mut call: ActiveCall| {
        let tell = tell.clone();
        async move {
            let variables = [("name".to_owned(), "Smith".to_owned())].into();
            let handover = Handover { variables, ..Handover::blind("clerk") };
            let passed = call.transfer(handover).await;
            tell.send(format!("{passed:?}, closed: {}", call.is_closed())).unwrap();
            call
        }
    };
    let back = move |call: ActiveCall| {
        let tell = tell_of_briefing.clone();
        async move {
            let briefing = call.briefing();
            let said: Vec<&str> = briefing.said.iter().map(|entry| entry.text.as_str()).collect();
            tell.send(format!("{} {:?} {said:?}", briefing.from, briefing.variables)).unwrap();
            call
        }
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = omnivox::Server::builder(config).number("desk", desk).number("back", back);
    let server = runtime.block_on(server.start()).unwrap();
    let mut alice = Phone::register(server.sip_addrs().first().unwrap().1, "alice", "a", 0.0);
    let at_alice = alice.call("desk");
    let mut all = [0, 1].map(|_| told.recv_timeout(common::PATIENCE).unwrap());
    all.sort();
    assert_eq!(all, ["Ok(()), closed: true", r#"clerk {"name": "Smith"} ["Hello Smith."]"#]);
    alice.ended(at_alice);
    runtime.block_on(server.shut_down()).unwrap();
}
