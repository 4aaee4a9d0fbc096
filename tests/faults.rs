//! What goes wrong around a call: the caller vanishes, the disk is full, the language model fails in each of its ways, the
//! network loses and reorders. The caller hears something sensible, the record says how the call ended, the process goes on.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "common/misbehaving_model.rs"]
mod misbehaving_model;
#[path = "common/relay.rs"]
mod relay;

use std::path::Path;
use std::process::Command;
use std::sync::atomic::Ordering;

use common::{OMNIVOX, PATIENCE, Running, Server, free_port, omnivox, told, wait_for};
use misbehaving_model::{Manner, MisbehavingModel};
use relay::{Relay, Weather};
use serde_json::Value;

const FALLBACK: &str = "I lost my thread. Please say that again.";
const FAILURE: &str = "I can not help you now. Goodbye.";

/// Calls `uri` and performs steps; the caller's record. The softphone itself must not fail.
fn perform(folder: &Path, uri: &str, steps: &[&str], arguments: &[&str]) -> Value {
    let script = folder.join("steps.txt");
    std::fs::write(&script, steps.join("\n")).unwrap();
    let mut all = vec!["call", uri, "--json", "--script", script.to_str().unwrap()];
    all.extend(arguments);
    let output = omnivox(folder, &all);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|fault| panic!("{fault}: {}", told(&output)))
}

/// The next call, whatever happened before it, goes well.
fn the_process_goes_on(server: &Server) {
    let folder = tempfile::tempdir().unwrap();
    let record = perform(folder.path(), &server.uri("echo"), &["wait 300"], &[]);
    assert_eq!(record["end"]["class"], "ok", "{record}\n{}", server.process.stderr());
}

fn turns<'a>(record: &'a Value, who: &str) -> Vec<&'a Value> {
    record["agent"]["turns"].as_array().unwrap().iter().filter(|turn| turn["who"] == who).collect()
}

fn failures(record: &Value) -> String {
    record["agent"]["failures"].to_string()
}

#[test]
fn a_caller_who_vanishes_is_noticed_and_the_call_ended() {
    let server = Server::start(&["rtp.timeout_s=2"]);
    server.wait_until_ready();
    let softphone = Running::start(Command::new(OMNIVOX).args(["call", &server.uri("agent"), "--duration", "60"]));
    wait_for(
        "the greeting",
        PATIENCE,
        || server.get("/metrics").1.contains("omnivox_turns_total{who=\"agent\"} 1").then_some(()),
        || softphone.stderr(),
    );
    softphone.signal("KILL");
    let record = server.wait_for_records(1).remove(0);
    assert_eq!(record["end"]["reason"], "media_timeout", "{record}");
    assert_eq!(record["end"]["class"], "caller_fault", "{record}");
    wait_for(
        "the call to be gone",
        PATIENCE,
        || server.get("/metrics").1.contains("omnivox_calls 0").then_some(()),
        || server.get("/metrics").1,
    );
    the_process_goes_on(&server);
    server.stop();
}

#[test]
fn a_recording_that_finds_no_room_breaks_off_and_the_call_goes_on() {
    // The recording meets the limit after three seconds; the records of the calls stay below it.
    let server = Server::start(&[]);
    server.wait_until_ready();
    let limited = Command::new("prlimit").args(["--fsize=200000", "--pid", &server.process.id().to_string()]).status();
    assert!(limited.expect("prlimit is missing").success());
    let folder = tempfile::tempdir().unwrap();
    let steps = ["say What are your opening hours?", "say No thank you. Goodbye.", "wait 20000"];
    let heard = perform(folder.path(), &server.uri("agent"), &steps, &[]);
    assert_eq!(heard["end"]["reason"], "far_side_hung_up", "{heard}\n{}", server.process.stderr());
    let record = server.wait_for_records(1).remove(0);
    assert_eq!(record["end"]["class"], "ok", "{record}");
    assert_eq!(record["end"]["reason"], "agent_hung_up", "{record}");
    assert!(failures(&record).contains("recording"), "the record tells the failure: {record}");
    assert_eq!(turns(&record, "caller")[0]["matched"], "menu/0", "{record}");
    assert!(server.process.stderr().contains("the recording broke off"), "{}", server.process.stderr());
    let path = record["recording"].as_str().unwrap();
    let kept = hound::WavReader::open(path).unwrap();
    let kept_seconds = f64::from(kept.duration()) / f64::from(kept.spec().sample_rate);
    assert!((1.0..20.0).contains(&kept_seconds), "what was recorded before can be read: {kept_seconds} s");
    the_process_goes_on(&server);
    server.stop();
}

#[test]
fn a_recording_that_meets_a_full_disk_breaks_off_and_the_call_goes_on() {
    // A file system of its own for the recordings, of three seconds, that nobody else sees.
    let folder = tempfile::tempdir().unwrap();
    let recordings = folder.path().join("data/recordings");
    std::fs::create_dir_all(&recordings).unwrap();
    let mut command = Command::new("unshare");
    let mount = format!("mount -t tmpfs -o size=100k,mode=755 tmpfs '{}' && exec \"$@\"", recordings.display());
    command.args(["--map-root-user", "--mount", "sh", "-c", &mount, "sh", OMNIVOX]);
    let server = Server::start_by(command, folder, &[]);
    server.wait_until_ready();
    let folder = tempfile::tempdir().unwrap();
    let steps = ["say What are your opening hours?", "say No thank you. Goodbye.", "wait 20000"];
    let heard = perform(folder.path(), &server.uri("agent"), &steps, &[]);
    assert_eq!(heard["end"]["reason"], "far_side_hung_up", "{heard}\n{}", server.process.stderr());
    let record = server.wait_for_records(1).remove(0);
    assert_eq!(
        (&record["end"]["class"], &record["end"]["reason"]),
        (&"ok".into(), &"agent_hung_up".into()),
        "{record}"
    );
    assert!(failures(&record).contains("recording") && failures(&record).contains("os error 28"), "{record}");
    assert_eq!(turns(&record, "caller")[0]["matched"], "menu/0", "{record}");
    let path = format!("/proc/{}/root{}", server.process.id(), record["recording"].as_str().unwrap());
    let kept = hound::WavReader::open(path).unwrap();
    assert!(kept.duration() > 0, "what was recorded before can be read");
    the_process_goes_on(&server);
    server.stop();
}

/// A server with a front desk that has what callers say recognised at `url`.
fn server_hearing_at(url: &str) -> Server {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("agents")).unwrap();
    let ear = format!("recognizer = \"openai\"\nbase_url = \"{url}\"\n");
    let desk = include_str!("../agent/agents/desk.toml")
        .replace("name = \"desk\"", "name = \"helper\"")
        .replace("recognizer = \"auto\"\n", &ear);
    std::fs::write(folder.path().join("agents/helper.toml"), desk).unwrap();
    let server = Server::start_in(folder, &[]);
    server.wait_until_ready();
    server
}

#[test]
fn a_recogniser_that_fails_is_told_the_caller_and_keys_still_work() {
    let dead = format!("http://127.0.0.1:{}/v1", free_port());
    let liar = MisbehavingModel::start(Manner::Html);
    for url in [dead, liar.url()] {
        let server = server_hearing_at(&url);
        let folder = tempfile::tempdir().unwrap();
        let steps = ["say What are your opening hours?", "press 1", "hangup"];
        let heard = perform(folder.path(), &server.uri("helper"), &steps, &[]);
        assert_eq!(heard["end"]["class"], "ok", "{heard}\n{}", server.process.stderr());
        let record = server.wait_for_records(1).remove(0);
        assert!(failures(&record).contains("recogni"), "{record}");
        let said: Vec<&str> = turns(&record, "agent").iter().map(|turn| turn["text"].as_str().unwrap()).collect();
        assert!(said.iter().any(|text| text.contains("trouble hearing you")), "{said:?}");
        assert!(turns(&record, "caller").iter().any(|turn| turn["by"] == "keys"), "{record}");
        the_process_goes_on(&server);
        server.stop();
    }
}

#[test]
fn a_recogniser_that_stays_silent_ends_the_call_by_its_own_fault() {
    let silent = MisbehavingModel::start(Manner::NeverAnswers);
    let server = server_hearing_at(&silent.url());
    let folder = tempfile::tempdir().unwrap();
    let again = "say What are your opening hours?";
    let heard = perform(folder.path(), &server.uri("helper"), &[again, again, again, "wait 60000"], &[]);
    assert_eq!(heard["end"]["reason"], "far_side_hung_up", "{heard}");
    let record = server.wait_for_records(1).remove(0);
    assert_eq!(record["end"]["class"], "upstream_fault", "{record}");
    assert_eq!(record["end"]["reason"], "provider_failed", "{record}");
    let last = turns(&record, "agent").last().unwrap()["text"].as_str().unwrap();
    assert!(last.contains("call again later"), "the caller is told before the call ends, not {last:?}: {record}");
    assert!(silent.requests() >= 3);
    the_process_goes_on(&server);
    server.stop();
}

/// A server with one agent that thinks at `url`, and by keys only.
fn server_thinking_at(url: &str) -> Server {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("agents")).unwrap();
    let agent = format!(
        "[agent]\nname = \"helper\"\n[ear]\nrecognizer = \"none\"\n[voice]\nkind = \"flite\"\n\
         [session]\nbrain_failures = 2\nfiller = \"\"\nfailure_text = \"{FAILURE}\"\n\
         [brain]\nkind = \"openai\"\n[brain.openai]\nbase_url = \"{url}\"\nmodel = \"m\"\ngreeting = \"Hello.\"\nfallback = \"{FALLBACK}\"\n\
         connect_timeout_ms = 500\nfirst_token_timeout_ms = 700\nnext_token_timeout_ms = 700\n"
    );
    std::fs::write(folder.path().join("agents/helper.toml"), agent).unwrap();
    let server = Server::start_in(folder, &[]);
    server.wait_until_ready();
    server
}

/// One call in which a key makes a turn and the caller hangs up after the answer: the server's record.
fn one_turn(server: &Server) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let before = server.records().len();
    let heard = perform(folder.path(), &server.uri("helper"), &["press 1", "hangup"], &[]);
    assert_eq!(heard["end"]["class"], "ok", "{heard}\n{}", server.process.stderr());
    server.wait_for_records(before + 1).remove(before)
}

/// The caller hears the fallback, hangs up as anybody may, and the record tells what failed.
fn assert_fell_back(record: &Value) {
    assert_eq!(record["end"]["class"], "ok", "{record}");
    assert_eq!(record["end"]["reason"], "caller_hung_up", "{record}");
    assert_eq!(turns(record, "caller")[0]["text"], "1", "{record}");
    let answer = turns(record, "agent")[1]["text"].as_str().unwrap();
    assert!(answer.ends_with(FALLBACK), "the caller heard {answer:?}: {record}");
    assert!(failures(record).contains("brain"), "{record}");
}

#[test]
fn a_language_model_that_is_down_is_apologised_for_and_ends_the_call_when_it_stays_down() {
    let server = server_thinking_at(&format!("http://127.0.0.1:{}/v1", free_port()));
    assert_fell_back(&one_turn(&server));
    let folder = tempfile::tempdir().unwrap();
    let heard = perform(folder.path(), &server.uri("helper"), &["press 1", "press 2", "wait 20000"], &[]);
    assert_eq!(heard["end"]["reason"], "far_side_hung_up", "{heard}");
    let record = server.wait_for_records(2).remove(1);
    assert_eq!(record["end"]["class"], "upstream_fault", "{record}");
    assert_eq!(record["end"]["reason"], "provider_failed", "{record}");
    let last = turns(&record, "agent").last().unwrap()["text"].as_str().unwrap();
    assert!(last.ends_with(FAILURE), "the caller is told before the call ends, not {last:?}: {record}");
    the_process_goes_on(&server);
    server.stop();
}

#[test]
fn a_slow_language_model_is_not_waited_for() {
    let model = MisbehavingModel::start(Manner::NeverAnswers);
    let server = server_thinking_at(&model.url());
    let record = one_turn(&server);
    assert_fell_back(&record);
    let gap_ms = turns(&record, "agent")[1]["gap_ms"].as_f64().unwrap();
    assert!(gap_ms < 10_000.0, "the caller waited {gap_ms:.0} ms");
    assert!(model.requests() > 0);
    the_process_goes_on(&server);
    server.stop();
}

#[test]
fn a_language_model_cut_in_mid_sentence_is_heard_so_far_and_apologised_for() {
    let model = MisbehavingModel::start(Manner::CutsAfter(&["We are open today. ", "And on Mon"]));
    let server = server_thinking_at(&model.url());
    let record = one_turn(&server);
    assert_fell_back(&record);
    let answer = turns(&record, "agent")[1]["text"].as_str().unwrap();
    assert!(answer.starts_with("We are open today."), "what was whole is said: {answer:?}");
    the_process_goes_on(&server);
    server.stop();
}

#[test]
fn a_language_model_that_sends_no_json_is_apologised_for() {
    for manner in [Manner::WrongJson, Manner::Html, Manner::Refuses] {
        let model = MisbehavingModel::start(manner);
        let server = server_thinking_at(&model.url());
        assert_fell_back(&one_turn(&server));
        the_process_goes_on(&server);
        server.stop();
    }
}

/// A call through bad weather: the server's record and the relay.
fn call_through(weather: Weather, codec: &str, steps: &[&str]) -> (Value, Relay, Server) {
    let server = Server::start(&[]);
    server.wait_until_ready();
    let folder = tempfile::tempdir().unwrap();
    let relay = Relay::start(server.sip, weather);
    let heard = perform(folder.path(), &format!("sip:agent@{}", relay.address), steps, &["--codec", codec]);
    assert_eq!(heard["end"]["class"], "ok", "{heard}\n{}", server.process.stderr());
    let record = server.wait_for_records(1).remove(0);
    assert_eq!(record["end"]["class"], "ok", "{record}");
    assert_eq!(record["codec"], codec, "{record}");
    (record, relay, server)
}

/// Of `lost` and `reordered` in the record, that the relay had its hand in them.
fn assert_weathered(record: &Value, relay: &Relay, loss_percent: u64) {
    let media = &record["media"];
    let (lost, taken) = (media["lost"].as_u64().unwrap(), media["packets_in"].as_u64().unwrap());
    let percent = 100.0 * lost as f64 / (lost + taken) as f64;
    let expected = loss_percent as f64;
    assert!(
        (percent - expected).abs() < 0.5 * expected + 1.0,
        "{percent:.1} % were lost, not {loss_percent}: {record}"
    );
    assert!(media["reordered"].as_u64().unwrap() > 0, "{record}");
    assert!(relay.counts().relayed.load(Ordering::Relaxed) > 300, "both ways went through the relay");
    assert_eq!(media["foreign"], 0, "the relay is the peer: {record}");
}

const BOOKING: [&str; 2] = ["say What are your opening hours?", "say No thank you. Goodbye."];

#[test]
fn with_one_percent_lost_and_some_reordered_the_front_desk_understands() {
    let weather = Weather { loss_percent: 1, reorder_percent: 3, seed: 1, ..Weather::default() };
    let (record, relay, server) = call_through(weather, "PCMU", &BOOKING);
    assert_weathered(&record, &relay, 1);
    let said: Vec<_> = turns(&record, "caller").iter().map(|turn| turn["matched"].clone()).collect();
    assert_eq!(said, ["menu/0", "menu/2"], "{record}");
    server.stop();
}

#[test]
fn with_five_percent_lost_and_some_reordered_the_front_desk_understands() {
    let weather = Weather { loss_percent: 5, reorder_percent: 5, seed: 5, ..Weather::default() };
    let (record, relay, server) = call_through(weather, "opus", &BOOKING);
    assert_weathered(&record, &relay, 5);
    let said: Vec<_> = turns(&record, "caller").iter().map(|turn| turn["matched"].clone()).collect();
    assert_eq!(said, ["menu/0", "menu/2"], "{record}");
    server.stop();
}

#[test]
fn with_twenty_percent_lost_everywhere_the_call_still_ends_as_it_should() {
    let weather =
        Weather { loss_percent: 20, reorder_percent: 10, sip_loss_percent: 20, seed: 20, ..Weather::default() };
    let (record, relay, server) = call_through(weather, "PCMU", &["say What are your opening hours?", "hangup"]);
    assert_weathered(&record, &relay, 20);
    assert_eq!(record["end"]["reason"], "caller_hung_up", "{record}");
    assert!(turns(&record, "agent").len() > 1, "the agent answered, be it by asking again: {record}");
    the_process_goes_on(&server);
    server.stop();
}

#[test]
fn a_call_is_set_up_and_torn_down_though_each_message_is_lost_once() {
    let weather = Weather { loses_first_copies: true, ..Weather::default() };
    let (record, relay, server) = call_through(weather, "PCMU", &["press 1", "hangup"]);
    assert_eq!(record["end"]["reason"], "caller_hung_up", "{record}");
    assert_eq!(turns(&record, "caller")[0]["text"], "1", "{record}");
    assert_eq!(record["media"]["lost"], 0, "{record}");
    // INVITE, 100, 200, ACK, BYE and its 200.
    let lost = relay.counts().sip_lost.load(Ordering::Relaxed);
    assert!(lost >= 5, "{lost} messages were lost");
    the_process_goes_on(&server);
    server.stop();
}
