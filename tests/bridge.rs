//! Calls that are passed on: a caller, a server between, and whoever is called on their behalf.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use common::{Server, omnivox, speech, told};
use omnivox::call::dial::{DialBranch, DialGroup, DialPlan};
use omnivox::call::end::EndReason;
use omnivox::call::inbound::Refusal;
use omnivox::call::route::{Directory, RouteQuery, Target};
use omnivox::config::{Config, SipListen};
use sip::endpoint::Transport;

/// Numbers of a server between: each a list of groups of URIs.
struct Numbers(Vec<(&'static str, Vec<Vec<String>>)>);

impl Directory for Numbers {
    fn route(&self, query: &RouteQuery<'_>) -> Result<Target, Refusal> {
        let (_, groups) = self
            .0
            .iter()
            .find(|(name, _)| *name == query.user)
            .ok_or_else(|| Refusal::new(404, EndReason::UnknownNumber))?;
        let branch = |uri: &String| DialBranch::new("far side", uri, query.from_uri);
        let group = |uris: &Vec<String>| DialGroup {
            branches: uris.iter().map(branch).collect(),
            ring_for: Duration::from_secs(3),
        };
        Ok(Target::Dial(Arc::new(DialPlan { groups: groups.iter().map(group).collect(), ..DialPlan::default() })))
    }
}

/// A server between, in this process.
struct Between {
    server: omnivox::Server,
    sip: SocketAddr,
    folder: tempfile::TempDir,
}

impl Between {
    async fn start(numbers: Vec<(&'static str, Vec<Vec<String>>)>, codecs: &[&str]) -> Self {
        Self::start_with(numbers, codecs, |_| ()).await
    }

    async fn start_with(
        numbers: Vec<(&'static str, Vec<Vec<String>>)>,
        codecs: &[&str],
        configure: impl FnOnce(&mut Config),
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.sip.listen = vec![SipListen::new(Transport::Udp, "127.0.0.1:0".parse().unwrap())];
        config.data.dir = folder.path().to_owned();
        config.rtp.bind = [127, 0, 0, 1].into();
        config.rtp.ports = common::rtp_ports().parse().unwrap();
        config.rtp.codecs = codecs.iter().map(|&name| name.to_owned()).collect();
        configure(&mut config);
        let server = omnivox::Server::builder(config).directory(Numbers(numbers)).start().await.unwrap();
        let sip = server.sip_addrs().first().unwrap().1;
        Self { server, sip, folder }
    }

    async fn call(&self, user: &str, arguments: &[&str]) -> (bool, serde_json::Value) {
        let uri = format!("sip:{user}@{}", self.sip);
        let arguments: Vec<String> =
            ["call", &uri, "--json"].iter().chain(arguments).map(|&argument| argument.to_owned()).collect();
        let folder = self.folder.path().to_owned();
        let output = tokio::task::spawn_blocking(move || {
            omnivox(&folder, &arguments.iter().map(String::as_str).collect::<Vec<_>>())
        })
        .await
        .unwrap();
        let said = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", told(&output)));
        (output.status.success(), said)
    }

    /// Stops the server and gives the records it wrote.
    async fn stop(self) -> Vec<serde_json::Value> {
        self.stop_keeping().await.0
    }

    /// The same with its folder, for recordings.
    async fn stop_keeping(self) -> (Vec<serde_json::Value>, tempfile::TempDir) {
        self.server.shut_down().await.unwrap();
        let text = std::fs::read_to_string(self.folder.path().join("calls.jsonl")).unwrap();
        (text.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), self.folder)
    }
}

/// Energy of both channels of a recording.
fn energies(path: &std::path::Path) -> [f64; 2] {
    let mut reader = hound::WavReader::open(path).unwrap();
    let samples: Vec<i16> = reader.samples::<i16>().map(Result::unwrap).collect();
    [0, 1].map(|channel| samples.iter().skip(channel).step_by(2).map(|&s| f64::from(s).powi(2)).sum())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_is_connected_with_whom_they_want_and_hears_them_also_in_another_codec() {
    let far = Server::start(&["rtp.codecs=[\"PCMA\"]"]);
    let between = Between::start(vec![("friend", vec![vec![far.uri("echo")]])], &["PCMU", "PCMA"]).await;
    let question = speech(between.folder.path(), "slt", "The quick brown fox jumps over the lazy dog.");
    let heard = between.folder.path().join("heard.wav");
    let (ok, said) =
        between.call("friend", &["--play", question.to_str().unwrap(), "--record", heard.to_str().unwrap()]).await;
    assert!(ok, "{said}");
    assert_eq!(said["end"]["class"], "ok");
    let [spoken, came_back] = energies(&heard);
    let ratio_db = 10.0 * (spoken / came_back).log10();
    assert!(ratio_db.abs() < 2.0, "the far echo is as loud as what was said, not {ratio_db:.1} dB off");
    let record = &between.stop().await[0];
    assert_eq!((&record["target"], &record["end"]["reason"]), (&"dial".into(), &"caller_hung_up".into()), "{record}");
    let legs: Vec<_> = record["legs"].as_array().unwrap().iter().map(|leg| leg["codec"].as_str().unwrap()).collect();
    assert!(legs.contains(&"PCMA"), "{record}");
    assert_eq!(far.wait_for_records(1)[0]["end"]["reason"], "caller_hung_up");
    far.stop();
}

/// Keys reach the far side once although packets are passed on, and the recording has both.
#[tokio::test(flavor = "multi_thread")]
async fn packets_of_two_phones_of_one_codec_are_passed_on_also_while_they_are_recorded() {
    let far = Server::start(&["rtp.codecs=[\"PCMU\"]"]);
    far.wait_until_ready();
    let numbers = vec![("friend", vec![vec![far.uri("echo")]]), ("desk", vec![vec![far.uri("agent")]])];
    let between = Between::start_with(numbers, &["PCMU", "PCMA"], |config| config.calls.record_bridged = true).await;
    let question = speech(between.folder.path(), "slt", "The quick brown fox jumps over the lazy dog.");
    let (ok, said) = between.call("friend", &["--play", question.to_str().unwrap()]).await;
    assert!(ok, "{said}");
    let (ok, said) = between.call("desk", &["--dtmf", "1", "--duration", "6"]).await;
    assert!(ok, "{said}");
    let turns = far.wait_for_records(2)[1]["agent"]["turns"].clone();
    let keys = turns.as_array().unwrap().iter().filter(|turn| turn["who"] == "caller").count();
    assert_eq!(keys, 1, "{turns}");
    let (records, folder) = between.stop_keeping().await;
    // Who says nothing is not passed on: the far side gets silence, or comfort noise, of ours.
    for leg in records[0]["legs"].as_array().unwrap() {
        let (relayed, sent) =
            (leg["media"]["relayed"].as_u64().unwrap(), leg["media"]["packets_out"].as_u64().unwrap());
        assert!(relayed > 50 && relayed * 10 > sent * 7, "{relayed} of {sent}: {leg}");
    }
    let recording = folder.path().join(records[0]["recording"].as_str().unwrap());
    let [left, right] = energies(&recording);
    let ratio_db = 10.0 * (left / right).log10();
    assert!(left > 0.0 && ratio_db.abs() < 2.0, "who spoke and the echo are in the recording, {ratio_db:.1} dB apart");
    far.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_far_sides_end_and_the_far_sides_refusal_reach_the_caller() {
    let far = Server::start(&[]);
    let dead = format!("sip:nobody@127.0.0.1:{}", common::free_port());
    let numbers = vec![
        ("leaves", vec![vec![far.uri("bye")]]),
        ("unknown", vec![vec![far.uri("no-such-number")]]),
        ("silent", vec![vec![far.uri("ring")]]),
        ("second", vec![vec![far.uri("ring")], vec![far.uri("bye")]]),
        ("forked", vec![vec![far.uri("ring"), far.uri("bye"), dead.clone()]]),
    ];
    let between = Between::start(numbers, &["PCMU"]).await;
    let reason = |said: &serde_json::Value| said["end"]["reason"].as_str().unwrap().to_owned();
    let detail = |said: &serde_json::Value| said["end"]["detail"].as_str().unwrap_or_default().to_owned();
    let (ok, said) = between.call("leaves", &[]).await;
    assert!(ok && reason(&said) == "far_side_hung_up", "{said}");
    let (ok, said) = between.call("unknown", &[]).await;
    assert!(!ok && detail(&said).starts_with("404"), "{said}");
    let (ok, said) = between.call("silent", &[]).await;
    assert!(!ok && detail(&said).starts_with("480"), "{said}");
    let (ok, said) = between.call("second", &[]).await;
    assert!(ok && reason(&said) == "far_side_hung_up", "{said}");
    let (ok, said) = between.call("forked", &[]).await;
    assert!(ok && reason(&said) == "far_side_hung_up", "{said}");
    let records = between.stop().await;
    let reasons: Vec<_> = records.iter().map(|record| record["end"]["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons, ["far_side_hung_up", "refused", "no_answer", "far_side_hung_up", "far_side_hung_up"]);
    // The branch that rang while another answered was cancelled, not left ringing.
    let far_ends: Vec<String> =
        far.wait_for_records(7).iter().map(|record| record["end"]["reason"].as_str().unwrap().to_owned()).collect();
    assert_eq!(far_ends.iter().filter(|reason| *reason == "caller_cancelled").count(), 3, "{far_ends:?}");
    far.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_gives_up_stops_the_ringing_and_keys_pass_through() {
    let far = Server::start(&[]);
    far.wait_until_ready();
    let numbers = vec![("silent", vec![vec![far.uri("ring")]]), ("desk", vec![vec![far.uri("agent")]])];
    let between = Between::start(numbers, &["PCMU"]).await;
    let (ok, said) = between.call("silent", &["--answer-within", "1"]).await;
    assert!(!ok && said["end"]["reason"] == "no_answer", "{said}");
    assert_eq!(far.wait_for_records(1)[0]["end"]["reason"], "caller_cancelled");
    let (ok, said) = between.call("desk", &["--dtmf", "1", "--duration", "6"]).await;
    assert!(ok, "{said}");
    let record = far.wait_for_records(2).remove(1);
    let turns = record["agent"]["turns"].as_array().unwrap();
    assert!(turns.iter().any(|turn| turn["by"] == "keys" && turn["text"] == "1"), "{record}");
    let last = turns.last().unwrap();
    assert!(
        last["who"] == "agent" && !last["text"].as_str().unwrap().is_empty(),
        "what was said when it ended: {record}"
    );
    between.stop().await;
    far.stop();
}

/// A server whose front desk knows a person, and the front desk's number.
fn desk_with(person: &str) -> Server {
    let folder = tempfile::tempdir().unwrap();
    let desk = include_str!("../agent/agents/desk.toml")
        .replace("name = \"desk\"", "name = \"front\"")
        .replace("operator = \"\"\nday", &format!("operator = \"{person}\"\nday"));
    std::fs::create_dir(folder.path().join("agents")).unwrap();
    std::fs::write(folder.path().join("agents/front.toml"), desk).unwrap();
    let server = Server::start_in(folder, &["agents.dir=agents"]);
    server.wait_until_ready();
    server
}

#[test]
fn the_agent_connects_a_caller_with_a_person() {
    let far = Server::start(&[]);
    let server = desk_with(&far.uri("echo"));
    let folder = tempfile::tempdir().unwrap();
    let words = speech(folder.path(), "slt", "The quick brown fox jumps over the lazy dog.");
    let script = folder.path().join("script.txt");
    let lines = format!("wait 500\npress 0\nwait 5000\nplay {}\nwait 1500\nhangup\n", words.display());
    std::fs::write(&script, lines).unwrap();
    let heard = folder.path().join("heard.wav");
    let output = omnivox(
        folder.path(),
        &[
            "call",
            &server.uri("front"),
            "--json",
            "--record",
            heard.to_str().unwrap(),
            "--script",
            script.to_str().unwrap(),
        ],
    );
    assert!(output.status.success(), "{}", told(&output));
    let record = server.wait_for_records(1).remove(0);
    assert_eq!(record["end"]["reason"], "caller_hung_up", "{record}");
    let person = far.wait_for_records(1).remove(0);
    assert_eq!(person["target"], "echo");
    assert_eq!(person["end"]["reason"], "caller_hung_up", "{person}");
    // What was said after the transfer came back from the far echo.
    let mut reader = hound::WavReader::open(&heard).unwrap();
    let rate = reader.spec().sample_rate as usize;
    let samples: Vec<i16> = reader.samples::<i16>().map(Result::unwrap).collect();
    let after = |channel: usize| {
        samples.iter().skip(channel + 2 * 5 * rate).step_by(2).map(|&s| f64::from(s).powi(2)).sum::<f64>()
    };
    let ratio_db = 10.0 * (after(0) / after(1)).log10();
    assert!(ratio_db.abs() < 3.0, "the person's line returns what was said, {ratio_db:.1} dB off");
    server.stop();
    far.stop();
}

/// A person's phone in this process: notes what it hears, presses a key once it is silent, then talks to whoever is put through.
async fn person(
    key: &'static str,
) -> (omnivox::Server, SocketAddr, Arc<std::sync::atomic::AtomicU64>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config::default();
    config.sip.listen = vec![SipListen::new(Transport::Udp, "127.0.0.1:0".parse().unwrap())];
    config.data.dir = folder.path().to_owned();
    config.rtp.bind = [127, 0, 0, 1].into();
    config.rtp.ports = common::rtp_ports().parse().unwrap();
    let told_ms = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let noted = Arc::clone(&told_ms);
    let server = omnivox::Server::builder(config)
        .number("person", move |mut call| {
            let noted = Arc::clone(&noted);
            async move {
                let (mut silent_ms, mut heard_ms) = (0.0, 0.0);
                while silent_ms < 1_500.0 {
                    let Some(frame) = call.hear().await else { return call };
                    if frame.pcm.iter().any(|sample| sample.unsigned_abs() > 400) {
                        heard_ms += frame.length_ms();
                        silent_ms = 0.0;
                    } else if heard_ms > 500.0 {
                        silent_ms += frame.length_ms();
                    }
                }
                noted.store(heard_ms as u64, std::sync::atomic::Ordering::Relaxed);
                call.line().presser()(key.chars().next().unwrap());
                // Whoever is put through hears a tone.
                let tone: Vec<i16> = (0..24_000)
                    .map(|n| ((f64::from(n) * 1_000.0 / 8_000.0 * std::f64::consts::TAU).sin() * 9_000.0) as i16)
                    .collect();
                call.play(&tone, omnivox::SampleRate::HZ_8000, false).await;
                while call.hear().await.is_some() {}
                call
            }
        })
        .start()
        .await
        .unwrap();
    let sip = server.sip_addrs().first().unwrap().1;
    (server, sip, told_ms, folder)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_hears_a_summary_and_takes_the_call_or_does_not() {
    for (key, taken) in [("1", true), ("2", false)] {
        let (phone, sip, told_ms, _folder) = person(key).await;
        let folder = tempfile::tempdir().unwrap();
        let desk = include_str!("../agent/agents/desk.toml")
            .replace("name = \"desk\"", "name = \"front\"")
            .replace("operator = \"\"\nday", &format!("operator = \"sip:person@{sip}\"\nday"))
            .replace(
                "transfer_failed = \"nobody\"",
                "transfer_failed = \"nobody\"\ntransfer_kind = \"warm\"\ntransfer_accept = true\n\
                 transfer_summary = \"A caller wants to talk to you.\"",
            );
        std::fs::create_dir(folder.path().join("agents")).unwrap();
        std::fs::write(folder.path().join("agents/front.toml"), desk).unwrap();
        let server = Server::start_in(folder, &["agents.dir=agents"]);
        server.wait_until_ready();
        let own = tempfile::tempdir().unwrap();
        let script = own.path().join("script.txt");
        std::fs::write(&script, "wait 500\npress 0\nwait 17000\nhangup\n").unwrap();
        let heard = own.path().join("heard.wav");
        let (uri, path) = (server.uri("front"), own.path().to_owned());
        let (script, recording) = (script.display().to_string(), heard.display().to_string());
        let output = tokio::task::spawn_blocking(move || {
            omnivox(&path, &["call", &uri, "--json", "--script", &script, "--record", &recording])
        })
        .await
        .unwrap();
        assert!(output.status.success(), "{}", told(&output));
        let record = server.wait_for_records(1).remove(0);
        assert!(told_ms.load(std::sync::atomic::Ordering::Relaxed) > 2_000, "the person was told: {record}");
        let said = record["agent"]["turns"].to_string();
        assert_eq!(said.contains("nobody is free"), !taken, "{said}");
        let turns = record["agent"]["turns"].as_array().unwrap();
        let tool = turns.iter().find_map(|turn| turn["tools"].get(0)).unwrap_or_else(|| panic!("{record}"));
        let (outcome, why) = if taken { ("done", None) } else { ("failed", Some("the person does not take the call")) };
        assert_eq!((tool["name"].as_str(), tool["by"].as_str()), (Some("transfer_call"), Some("script")), "{tool}");
        assert_eq!((tool["outcome"].as_str(), tool["why"].as_str()), (Some(outcome), why), "{tool}");
        assert!(tool["arguments"].as_str().unwrap().contains("sip:person@"), "{tool}");
        // The person was called, and heard the summary first.
        assert!(tool["took_ms"].as_f64().unwrap() > 2_000.0, "{tool}");
        let mut reader = hound::WavReader::open(&heard).unwrap();
        let hz = f64::from(reader.spec().sample_rate);
        let samples: Vec<i16> = reader.samples::<i16>().map(Result::unwrap).collect();
        let step = 1_000.0 * std::f64::consts::TAU / hz;
        let loudest = samples
            .chunks(hz as usize)
            .map(|second| {
                let (mut re, mut im) = (0.0, 0.0);
                for (n, sample) in second.iter().step_by(2).enumerate() {
                    re += f64::from(*sample) * (step * n as f64).cos();
                    im += f64::from(*sample) * (step * n as f64).sin();
                }
                (re * re + im * im).sqrt() * 4.0 / hz
            })
            .fold(0.0, f64::max);
        assert_eq!(loudest > 4_000.0, taken, "the person's tone reaches the caller if the call is taken: {loudest}");
        server.stop();
        phone.shut_down().await.unwrap();
    }
}

#[test]
fn the_agent_gets_a_caller_back_whom_nobody_wants() {
    let far = Server::start(&[]);
    let server = desk_with(&far.uri("no-such-person"));
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("script.txt");
    std::fs::write(&script, "wait 500\npress 0\nwait 9000\nhangup\n").unwrap();
    let output =
        omnivox(folder.path(), &["call", &server.uri("front"), "--json", "--script", script.to_str().unwrap()]);
    assert!(output.status.success(), "{}", told(&output));
    let record = server.wait_for_records(1).remove(0);
    assert_eq!(record["end"]["class"], "ok", "{record}");
    let said: Vec<&str> = record["agent"]["turns"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|turn| turn["who"] == "agent")
        .map(|turn| turn["text"].as_str().unwrap())
        .collect();
    assert!(said.iter().any(|text| text.contains("connect you")), "{said:?}");
    assert!(said.iter().any(|text| text.contains("nobody is free")), "the desk goes on: {said:?}");
    assert_eq!(far.wait_for_records(1)[0]["end"]["reason"], "unknown_number");
    server.stop();
    far.stop();
}
