//! Each example runs and does its job.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/caller.rs"]
mod caller;
mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::{OMNIVOX, PATIENCE, Running, Server, free_port, omnivox, rtp_ports, told, wait_for};
use serde_json::Value;

/// An example as a process with its own folder and ports.
struct Example {
    process: Running,
    folder: tempfile::TempDir,
    uri: String,
}

impl Example {
    /// Starts it and waits until it says whom to call.
    fn start(name: &str, arguments: &[&Path], environment: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = command(name, folder.path());
        command.args(arguments).envs(environment.iter().copied());
        let process = Running::start(&mut command);
        let uri = wait_for(
            "the example to be ready",
            PATIENCE,
            || process.stdout().lines().find_map(|line| line.strip_prefix("call ").map(str::to_owned)),
            || process.stdout() + &process.stderr(),
        );
        Self { process, folder, uri }
    }

    /// Calls it; the record of the call as the caller's side has it. The call must go well.
    fn call(&self, arguments: &[&str]) -> Value {
        let mut all = vec!["call", &self.uri, "--json"];
        all.extend(arguments);
        let output = omnivox(self.folder.path(), &all);
        assert!(output.status.success(), "{}\n{}", told(&output), self.process.stderr());
        record_of(&output)
    }

    /// Calls it and performs these steps.
    fn perform(&self, steps: &[&str]) -> Value {
        let script = self.folder.path().join("steps.txt");
        std::fs::write(&script, steps.join("\n")).unwrap();
        self.call(&["--script", script.to_str().unwrap()])
    }

    /// The record of its only call as it has it.
    fn own_record(&self) -> Value {
        let path = self.folder.path().join("data/calls.jsonl");
        wait_for(
            "the example's call record",
            PATIENCE,
            || {
                let text = std::fs::read_to_string(&path).ok()?;
                text.lines().next().map(|line| serde_json::from_str(line).unwrap())
            },
            || self.process.stderr(),
        )
    }

    /// Interrupts it, as Ctrl-C does; it must end well.
    fn stop(mut self) {
        self.process.signal("INT");
        let status = self.process.wait(PATIENCE);
        assert!(status.success(), "{status}\n{}", self.process.stderr());
    }
}

/// The command of an example, configured by its environment. Examples are built beside the binary under test.
fn command(name: &str, folder: &Path) -> Command {
    let program = Path::new(OMNIVOX).with_file_name("examples").join(name);
    assert!(
        program.exists(),
        "{} is not built: cargo test builds examples unless --test leaves them out",
        program.display()
    );
    let mut command = Command::new(program);
    command
        .current_dir(folder)
        .env("OMNIVOX_SIP__LISTEN", "udp:127.0.0.1:0")
        .env("OMNIVOX_DATA__DIR", folder.join("data"))
        .env("OMNIVOX_RTP__BIND", "127.0.0.1")
        .env("OMNIVOX_RTP__PORTS", rtp_ports());
    command
}

fn record_of(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A sentence as WAV of 16 kHz at -20 dBFS.
fn sentence(folder: &Path) -> PathBuf {
    caller::wav(folder, "sentence", 16_000, &[(0.0, "Is there anybody who can hear me?")], 2.5)
}

/// One channel of a recorded call (0: far side, 1: what was sent), as level in dBFS.
fn level_dbfs(path: &Path, channel: usize) -> f64 {
    let mut reader = hound::WavReader::open(path).unwrap();
    let channels = usize::from(reader.spec().channels);
    let samples: Vec<f64> =
        reader.samples::<i16>().skip(channel).step_by(channels).map(|sample| f64::from(sample.unwrap())).collect();
    let energy = samples.iter().map(|sample| sample * sample).sum::<f64>() / samples.len().max(1) as f64;
    10.0 * (energy / (32_768.0 * 32_768.0)).max(1e-12).log10()
}

/// The texts of one side's turns.
fn texts<'a>(record: &'a Value, who: &str) -> Vec<&'a str> {
    let turns = record["agent"]["turns"].as_array().unwrap();
    turns.iter().filter(|turn| turn["who"] == who).map(|turn| turn["text"].as_str().unwrap()).collect()
}

#[test]
fn echo_says_back_what_it_hears() {
    let example = Example::start("echo", &[], &[]);
    let wav = sentence(example.folder.path());
    let echoed = example.folder.path().join("echoed.wav");
    let record = example.call(&["--play", wav.to_str().unwrap(), "--record", echoed.to_str().unwrap()]);
    assert_eq!(record["end"]["class"], "ok", "{record}");
    let difference_db = level_dbfs(&echoed, 0) - level_dbfs(&echoed, 1);
    assert!(difference_db.abs() < 1.5, "the echo is as loud as what was said, not {difference_db:.1} dB off");
    example.stop();
}

#[test]
fn the_bad_network_loses_what_it_is_told_to_and_the_call_goes_through_it() {
    let server = Server::start(&[]);
    server.wait_until_ready();
    let arguments =
        [server.sip.to_string(), "--loss".into(), "20".into(), "--one-way".into(), "--seed".into(), "7".into()];
    let arguments: Vec<&Path> = arguments.iter().map(Path::new).collect();
    let mut example = Example::start("bad_network", &arguments, &[]);
    example.call(&["--duration", "3"]);
    let record = server.wait_for_records(1).remove(0);
    let (lost, taken) = (record["media"]["lost"].as_u64().unwrap(), record["media"]["packets_in"].as_u64().unwrap());
    assert!((10..=30).contains(&(100 * lost / (lost + taken))), "{lost} of {} were lost: {record}", lost + taken);
    example.process.type_line("");
    assert!(example.process.wait(PATIENCE).success());
    assert!(example.process.stdout().contains("lost: "), "{}", example.process.stdout());
    server.stop();
}

#[test]
fn answer_and_play_plays_its_file_and_hangs_up() {
    let folder = tempfile::tempdir().unwrap();
    let wav = sentence(folder.path());
    let example = Example::start("answer_and_play", &[&wav], &[]);
    let heard = folder.path().join("heard.wav");
    let record = example.call(&["--record", heard.to_str().unwrap()]);
    assert_eq!(record["end"]["reason"], "far_side_hung_up", "{record}");
    let duration_ms = record["duration_ms"].as_u64().unwrap();
    assert!((2_400..6_000).contains(&duration_ms), "the file has 2.5 s, the call had {duration_ms} ms");
    let played_dbfs = level_dbfs(&heard, 0);
    assert!((-26.0..-15.0).contains(&played_dbfs), "{played_dbfs:.1} dBFS was heard");
    example.stop();
}

#[test]
fn record_keeps_what_the_caller_says_until_a_key() {
    let folder = tempfile::tempdir().unwrap();
    let wav = sentence(folder.path());
    let out = folder.path().join("out.wav");
    let example = Example::start("record", &[&out], &[]);
    let play = format!("play {}", wav.display());
    let record = example.perform(&[&play, "press-now 1", "wait 8000"]);
    assert_eq!(record["end"]["reason"], "far_side_hung_up", "{record}");
    let written = wait_for(
        "the recording",
        PATIENCE,
        || hound::WavReader::open(&out).ok().map(|reader| reader.duration()),
        || example.process.stdout() + &example.process.stderr(),
    );
    assert!(written > 0);
    let dbfs = level_dbfs(&out, 0);
    assert!((-32.0..-15.0).contains(&dbfs), "the caller was recorded at {dbfs:.1} dBFS");
    assert!(example.process.stdout().contains("recorded "), "{}", example.process.stdout());
    example.stop();
}

#[test]
fn dial_calls_and_prints_how_it_went() {
    let server = Server::start(&[]);
    let folder = tempfile::tempdir().unwrap();
    let output =
        command("dial", folder.path()).args([&server.uri("echo"), "Hello, is anybody there?"]).output().unwrap();
    assert!(output.status.success(), "{}", told(&output));
    let record = record_of(&output);
    assert_eq!(record["end"]["class"], "ok", "{record}");
    assert_eq!(record["direction"], "outbound");
    assert!(record["media"]["packets_out"].as_u64().unwrap() > 50, "{record}");
    assert_eq!(server.wait_for_records(1)[0]["end"]["reason"], "caller_hung_up");
    server.stop();
}

#[test]
fn the_menu_obeys_keys() {
    let example = Example::start("dtmf_menu", &[], &[]);
    let record = example.perform(&["press 1", "press 7", "press 2", "wait 8000"]);
    assert_eq!(record["end"]["reason"], "far_side_hung_up", "{record}");
    let printed = example.process.stdout();
    assert!(printed.contains(" hours and "), "the time was told: {printed}");
    assert!(printed.contains("There is nothing behind 7."), "{printed}");
    assert_eq!(example.own_record()["end"]["reason"], "agent_hung_up");
    example.stop();
}

#[test]
fn the_recogniser_of_ones_own_decides_what_the_agent_does() {
    let example = Example::start("custom_recogniser", &[], &[]);
    let wav = sentence(example.folder.path());
    let play = format!("play {}", wav.display());
    let record = example.perform(&[&play, "wait 15000"]);
    assert_eq!(record["end"]["reason"], "far_side_hung_up", "{record}");
    let own = example.own_record();
    assert_eq!(own["agent"]["recognizer"], "loudness", "{own}");
    assert_eq!(texts(&own, "caller"), ["that was loud"], "{own}");
    assert_eq!(texts(&own, "agent").last(), Some(&"That was loud. Goodbye."), "{own}");
    example.stop();
}

#[test]
fn the_voice_agent_talks_with_llama_cpps_own_server() {
    let python = std::env::var("OMNIVOX_TEST_PYTHON")
        .expect("OMNIVOX_TEST_PYTHON names no Python with xllamacpp: scripts/test installs it");
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let server = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/llm_server.py");
    let model = Running::start(
        Command::new(python)
            .arg(server)
            .arg(port.to_string())
            .arg(folder.path().join("model.gguf"))
            .current_dir(folder.path()),
    );
    let printed = || model.stdout() + &model.stderr();
    wait_for("the model's server", PATIENCE, || model.stdout().contains("ready").then_some(()), printed);
    let url = format!("http://127.0.0.1:{port}/v1");
    let example = Example::start("voice_agent", &[], &[("OPENAI_BASE_URL", &url), ("NO_PROXY", "127.0.0.1")]);
    let heard = example.folder.path().join("heard.wav");
    let script = example.folder.path().join("steps.txt");
    std::fs::write(&script, "press 1\nhangup\n").unwrap();
    let record = example.call(&["--script", script.to_str().unwrap(), "--record", heard.to_str().unwrap()]);
    assert_eq!(record["end"]["class"], "ok", "{record}");
    let own = example.own_record();
    assert_eq!(own["end"]["reason"], "caller_hung_up", "{own}");
    assert_eq!(own["agent"]["failures"].as_array().unwrap().len(), 0, "{own}");
    assert_eq!(texts(&own, "caller"), ["1"], "{own}");
    let answers = texts(&own, "agent");
    assert_eq!(answers[0], "Hello, I am your helper. What can I do for you?", "{own}");
    assert!(answers.get(1).is_some_and(|answer| !answer.is_empty()), "the model's words were spoken: {own}");
    assert!(printed().contains("POST /v1/chat/completions") || printed().contains("prompt eval time"), "{}", printed());
    assert!(level_dbfs(&heard, 0) > -40.0, "the caller heard the agent");
    example.stop();
}

#[test]
fn the_microphone_is_used_or_its_absence_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut process = Running::start(&mut command("microphone", folder.path()));
    let status = wait_for(
        "the microphone or the message",
        PATIENCE,
        || {
            if !process.is_running() {
                Some(Some(process.wait(PATIENCE)))
            } else {
                (!process.stdout().is_empty()).then_some(None)
            }
        },
        String::new,
    );
    let Some(status) = status else {
        process.signal("INT");
        process.wait(PATIENCE);
        return;
    };
    assert!(!status.success());
    let said = wait_for(
        "the message",
        PATIENCE,
        || Some(process.stderr()).filter(|text| !text.is_empty()),
        || process.stdout(),
    );
    assert!(said.contains("no microphone") && said.contains("arecord --list-devices"), "{said}");
}
