//! What a call costs: a whole one by a scripted agent, in by a trunk and out by it, on SQLite and on PostgreSQL; one that a killed server leaves
//! behind; one whose leg goes to another call.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "common/person.rs"]
mod person;
#[path = "common/phone.rs"]
mod phone;

use common::{PATIENCE, Server, omnivox, told, wait_for};
use person::{Person, add_user, call, only, postgres};
use phone::Phone;
use serde_json::{Value, json};
use sip::headers::ReferTo;

/// Says what is not kept from before, and passes the call on.
const CLERK: &str = r#"
[agent]
name = "clerk"
[voice]
kind = "flite"
[script]
start = "hello"
[script.variables]
number = "seven"
[script.states.hello]
say = "Hello."
next = "turn"
[script.states.turn]
say = "You are number {number}."
transfer = "+4930999"
"#;

/// A call by each trunk is charged a minute, whatever it lasts.
const PRICES: &str = r#"
[prices]
currency = "EUR"
[[prices.recognizers]]
name = "sphinx"
minute = "0"
[[prices.voices]]
name = "flite"
thousand_characters = "1"
[[prices.trunks]]
name = "carrier"
direction = "out"
minute = "0.12"
call = "0.01"
increment = "60/60"
[[prices.trunks]]
name = "carrier"
direction = "in"
minute = "9"
[[prices.trunks]]
name = "carrier"
direction = "in"
prefix = "+4930"
minute = "0.06"
increment = "60/60"
"#;

async fn a_call_costs_what_its_prices_say(settings: &[&str]) {
    let far = Server::start(&["rtp.workers=1"]);
    far.wait_until_ready();
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("agents")).unwrap();
    std::fs::write(folder.path().join("agents/clerk.toml"), CLERK).unwrap();
    let host = far.uri("x").replace("sip:x@", "");
    let config = format!(
        "{PRICES}[[trunks]]\nname = \"carrier\"\nhosts = [\"{host}\"]\naddresses = [\"127.0.0.1\"]\nping_s = 0\n\
         called_out = [\"+4930999 => echo\"]\n\
         [[routes]]\nfrom = [\"trunk carrier\"]\ncalled = \"+4930123*\"\nto = \"agent clerk\"\n\
         [[routes]]\nfrom = [\"agents\"]\ncalled = \"+*\"\nto = \"trunk carrier\"\n"
    );
    let server = Server::start_with(&config, folder, settings);
    server.wait_until_ready();
    let (done, says) = add_user(&server, settings, &["add", "ada"]);
    assert!(done, "{says}");
    let ada = Person::log_in(&server, "ada").await;
    let own = tempfile::tempdir().unwrap();
    let said = omnivox(own.path(), &["call", &server.uri("+4930123456"), "--duration", "12"]);
    assert!(said.status.success(), "{}", told(&said));

    let record = ada.wait("/call-records", only).await;
    let whole = ada.read(&format!("/call-records/{}", record["call"].as_str().unwrap())).await;
    let cost = &whole["record"]["cost"];
    let lines: Vec<Value> = cost["lines"].as_array().unwrap().clone();
    let of = |kind: &str| lines.iter().filter(|line| line["kind"] == kind).cloned().collect::<Vec<_>>();
    let [inbound, outbound] = &of("trunk")[..] else { panic!("{whole}") };
    assert_eq!((&inbound["leg"], &inbound["micros"], &inbound["billed_s"]), (&json!(0), &json!(60_000), &json!(60)));
    assert_eq!((&outbound["name"], &outbound["micros"]), (&json!("carrier"), &json!(130_000)));
    let up_ms = |line: &Value| line["up_ms"].as_u64().unwrap();
    assert!(up_ms(outbound) > 0 && up_ms(outbound) < up_ms(inbound), "{cost}");
    let [voice] = &of("voice")[..] else { panic!("{whole}") };
    // "Hello." is made when the server starts, and kept; unless it has not come to it yet.
    let characters = voice["characters"].as_i64().unwrap();
    let said = ["You are number seven.".len(), "Hello.You are number seven.".len()];
    assert!(said.contains(&usize::try_from(characters).unwrap()), "{cost}");
    assert_eq!(voice["micros"], json!(characters * 1_000));
    let total = json!(190_000 + characters * 1_000);
    assert_eq!(
        (&cost["micros"], &cost["is_partial"], &cost["currency"]),
        (&total, &json!(false), &json!("EUR")),
        "{cost}"
    );
    assert_eq!((&record["cost_micros"], &record["currency"]), (&total, &json!("EUR")));
    assert_eq!(record["cost_is_partial"], false);
    let tool = &whole["record"]["agent"]["turns"][0]["tools"][0];
    assert_eq!((&tool["name"], &tool["outcome"]), (&json!("transfer_call"), &json!("done")), "{whole}");

    let kpis = ada.read("/kpis?from=2026-01-01T00:00:00Z&to=2028-01-01T00:00:00Z").await;
    let sums = &kpis["cost"];
    assert_eq!((&sums["calls"], &sums["partial"], &sums["currency"]), (&json!(1), &json!(0), &json!("EUR")), "{kpis}");
    assert_eq!((&sums["total_micros"], &sums["per_call_micros"]), (&total, &total));
    assert!(server.get("/metrics").1.contains("omnivox_cost_micros_total{kind=\"trunk\"} 190000"));
    server.stop();
    far.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_costs_what_its_prices_say_with_nothing_set_up() {
    a_call_costs_what_its_prices_say(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_costs_what_its_prices_say_in_postgresql() {
    a_call_costs_what_its_prices_say(&[&postgres()]).await;
}

#[test]
fn a_wrong_price_is_named_by_its_key_before_anything_starts() {
    let folder = tempfile::tempdir().unwrap();
    let config = PRICES.replace("\"0.06\"", "\"6 cents\"");
    std::fs::write(folder.path().join("omnivox.toml"), config).unwrap();
    let checked = omnivox(folder.path(), &["check", "--config", "omnivox.toml"]);
    assert!(!checked.status.success());
    let says = told(&checked);
    assert!(says.contains("prices.trunks.carrier.minute") && says.contains("6 cents"), "{says}");
}

/// Says what is not kept from before, and waits.
const WAITER: &str = r#"
[agent]
name = "waiter"
[ear]
recognizer = "none"
[voice]
kind = "flite"
[script]
start = "hello"
[script.variables]
number = "seven"
[script.states.hello]
say = "You are number {number}."
on = [{ keys = ["1"], next = "hello" }]
"#;

#[test]
fn a_call_that_a_killed_server_leaves_behind_costs_what_was_known_of_it() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("agents")).unwrap();
    std::fs::write(folder.path().join("agents/waiter.toml"), WAITER).unwrap();
    let config = format!(
        "{PRICES}[[trunks]]\nname = \"carrier\"\nhosts = [\"127.0.0.1:9\"]\naddresses = [\"127.0.0.1\"]\nping_s = 0\n\
         [[routes]]\nfrom = [\"trunk carrier\"]\ncalled = \"+4930123*\"\nto = \"agent waiter\"\n"
    );
    let server = Server::start_with(&config, folder, &["control.on=false"]);
    server.wait_until_ready();
    let _caller = call(&server, "+4930123456");
    let open = server.folder.path().join("data/calls.open.jsonl");
    let written = || std::fs::read_to_string(&open).unwrap_or_default();
    wait_for("what the agent said", PATIENCE, || written().contains("{\"used\":").then_some(()), written);
    server.process.signal("KILL");
    let Server { mut process, folder, .. } = server;
    process.wait(PATIENCE);
    let server = Server::start_with(&config, folder, &["control.on=false"]);
    let [record] = &server.wait_for_records(1)[..] else { panic!("one call") };
    assert_eq!(record["end"]["reason"], "server_killed");
    let cost = &record["cost"];
    let [trunk, voice] = &cost["lines"].as_array().unwrap()[..] else { panic!("{record}") };
    assert_eq!(
        (&trunk["leg"], &trunk["billed_s"], &trunk["micros"]),
        (&json!(0), &json!(60), &json!(60_000)),
        "{cost}"
    );
    assert_eq!(voice["characters"], "You are number seven.".len(), "{cost}");
    assert_eq!((&cost["micros"], &cost["is_partial"]), (&json!(60_000 + 21_000), &json!(true)), "{cost}");
    assert!(server.get("/metrics").1.contains("omnivox_cost_micros_total{kind=\"trunk\"} 60000"));
    server.stop();
}

#[test]
fn a_leg_that_goes_to_another_call_is_charged_once_to_its_end() {
    let mut carrier = Phone::start("+4930999", "", 1_000.0);
    let config = format!(
        "[prices]\ncurrency = \"EUR\"\n[[prices.trunks]]\nname = \"carrier\"\nminute = \"0.06\"\ncall = \"0.01\"\nincrement = \"1/1\"\n\
         [[devices]]\nuser = \"alice\"\npassword = \"a\"\n[[devices]]\nuser = \"bob\"\npassword = \"b\"\n\
         [[trunks]]\nname = \"carrier\"\nhosts = [\"{}\"]\nping_s = 0\n\
         [[routes]]\ncalled = \"+*\"\nto = \"trunk carrier\"\nfrom = [\"devices\"]\n",
        carrier.address()
    );
    let server =
        Server::start_with(&config, tempfile::tempdir().unwrap(), &["rtp.codecs=[\"PCMU\"]", "control.on=false"]);
    let [mut alice, mut bob] = [("alice", "a", 437.5), ("bob", "b", 1_500.0)]
        .map(|(user, password, tone)| Phone::register(server.sip, user, password, tone));
    let connect = |alice: &mut Phone, to: &str, other: &mut Phone| {
        let call = alice.dial(to, &[]);
        let there = other.pick_up();
        alice.wait_answered(call);
        (call, there)
    };
    let (first, at_carrier) = connect(&mut alice, "+4930999", &mut carrier);
    alice.wait_to_hear(first, &[1_000.0], &[]);
    alice.hold(first, true);
    let (second, at_bob) = connect(&mut alice, "bob", &mut bob);
    // Bob and the carrier's leg are connected, in the call that was bob's.
    let replaces = alice.identity(second).replaces();
    assert_eq!(alice.refer(first, &ReferTo::value(&server.uri("bob"), Some(&replaces))), (202, Some(200)));
    bob.wait_to_hear(at_bob, &[1_000.0], &[437.5]);
    alice.ended(first);
    alice.ended(second);
    bob.hang_up(at_bob);
    carrier.ended(at_carrier);
    let records = server.wait_for_records(2);
    let of = |to: &str| {
        let is_it = |record: &&Value| record["to"].as_str().unwrap().starts_with(&format!("sip:{to}@"));
        let record = records.iter().find(is_it).unwrap_or_else(|| panic!("{to}: {records:?}"));
        let [line] = &record["cost"]["lines"].as_array().unwrap_or_else(|| panic!("{record}"))[..] else {
            panic!("{record}")
        };
        assert_eq!((&line["kind"], &line["name"]), (&json!("trunk"), &json!("carrier")), "{record}");
        assert_eq!(record["cost"]["is_partial"], false);
        let number = |key: &str| line[key].as_u64().unwrap_or_else(|| panic!("{key}: {line}"));
        (number("leg"), number("up_ms"), line["before_ms"].as_u64(), number("billed_s"), number("micros"))
    };
    let (before, after) = (of("+4930999"), of("bob"));
    assert_eq!((before.0, before.2), (1, None), "{records:?}");
    assert_eq!((after.0, after.2), (0x8000, Some(before.1)), "it goes on where it was: {records:?}");
    assert!(before.1 > 0 && after.1 > 0, "{records:?}");
    let seconds = (before.1 + after.1).div_ceil(1_000);
    assert_eq!(
        (before.3 + after.3, before.4 + after.4),
        (seconds, 10_000 + 1_000 * seconds),
        "no second twice: {records:?}"
    );
    server.stop();
}

#[test]
fn what_is_in_use_without_a_price_is_named_before_anything_starts() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("agents")).unwrap();
    let thinker = "[agent]\nname = \"thinker\"\n[brain]\nkind = \"openai\"\n[brain.openai]\nmodel = \"mind-1\"\nsystem_prompt = \"Be kind.\"\n";
    std::fs::write(folder.path().join("agents/thinker.toml"), thinker).unwrap();
    let trunk = "[[trunks]]\nname = \"other\"\nhosts = [\"127.0.0.1:9\"]\n[[trunks]]\nname = \"carrier\"\nhosts = [\"127.0.0.1:9\"]\n";
    let check = |config: String| {
        std::fs::write(folder.path().join("omnivox.toml"), config).unwrap();
        let checked = omnivox(
            folder.path(),
            &["check", "--json", "--config", "omnivox.toml", "--set", "sip.listen=[\"udp:127.0.0.1:0\"]"],
        );
        let found: Vec<Value> =
            serde_json::from_slice(&checked.stdout).unwrap_or_else(|_| panic!("{}", told(&checked)));
        let about = found.into_iter().filter(|one| one["what"].as_str().unwrap().starts_with("prices"));
        about
            .map(|one| {
                (
                    one["what"].as_str().unwrap().to_owned(),
                    one["verdict"].clone(),
                    one["says"].as_str().unwrap().to_owned(),
                )
            })
            .collect::<Vec<_>>()
    };
    assert!(check(trunk.to_owned()).is_empty(), "where there are no prices, none is missed");
    let found = check(format!("{PRICES}{trunk}"));
    assert!(found.iter().all(|(_, verdict, _)| verdict == "note"), "{found:?}");
    let says = |what: &str, says: &str| found.iter().any(|(of, _, text)| of == what && text.contains(says));
    assert!(says("prices.models", "mind-1 has no price"), "{found:?}");
    assert!(says("prices.trunks.other", "come by it") && says("prices.trunks.other", "go out by it"), "{found:?}");
    let has_one =
        |what: &str, text: &str| what == "prices.trunks.carrier" || text.contains("flite") || text.contains("sphinx");
    assert!(!found.iter().any(|(what, _, text)| has_one(what, text)), "{found:?}");
}
