//! espeak-ng as a process: what becomes of one that is missing, slow or in trouble, and of one that nobody hears.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use agent::voice::espeak::EspeakVoice;
use agent::voice::{Timeouts, Voice, VoiceError};
use codecs::pcm::SampleRate;
use futures::StreamExt;

const LIMIT: Duration = Duration::from_millis(400);

fn voice(program: &str, voice: &str) -> EspeakVoice {
    let timeouts = Timeouts { connect: LIMIT, first: LIMIT, next: LIMIT };
    EspeakVoice::with_program(PathBuf::from(program), Some(voice), 1.0, SampleRate::HZ_8000, timeouts).unwrap()
}

fn in_trouble(name: &str) -> EspeakVoice {
    voice(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/espeak-in-trouble"), name)
}

async fn fault(voice: EspeakVoice) -> VoiceError {
    voice.speak("Good morning.").unwrap().collect_pcm().await.unwrap_err()
}

#[tokio::test]
async fn a_missing_program_is_told_with_the_package_that_has_it() {
    let error = fault(voice("/nowhere/espeak-ng", "en-us")).await;
    assert!(error.to_string().contains("apt-get install espeak-ng"), "{error}");
}

#[tokio::test]
async fn a_silent_or_stalling_program_costs_the_time_limit_only() {
    for (name, step) in [("silent", "first audio"), ("stalls", "next audio")] {
        let started = Instant::now();
        let error = fault(in_trouble(name)).await;
        assert_eq!(error, VoiceError::Timeout { engine: "espeak", step, limit_ms: 400 }, "{name}");
        assert!(started.elapsed() < LIMIT * 8, "{name}");
    }
}

#[tokio::test]
async fn a_program_that_fails_is_told_with_its_own_words() {
    let error = fault(in_trouble("fails")).await.to_string();
    assert!(error.contains("no such voice") && error.contains('3'), "{error}");
    let error = fault(in_trouble("talks")).await.to_string();
    assert!(error.contains("not as a WAV file"), "{error}");
}

#[tokio::test]
async fn a_process_that_nobody_hears_any_more_is_killed() {
    let name = format!("stalls-{}", std::process::id());
    let mut speech = in_trouble(&name).speak("Good morning.").unwrap();
    speech.next().await.unwrap().unwrap();
    // While the script becomes `sleep` it has no name for a moment.
    let started = Instant::now();
    while !is_running(&name) {
        assert!(started.elapsed() < Duration::from_secs(5), "it does not run");
        tokio::task::yield_now().await;
    }
    drop(speech);
    let started = Instant::now();
    while is_running(&name) {
        assert!(started.elapsed() < Duration::from_secs(5), "it still runs");
        tokio::task::yield_now().await;
    }
}

/// Whether a child of this test, by the voice it was started with, or what it became, still runs.
fn is_running(voice: &str) -> bool {
    let ours = |id: &str| {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        let mut fields = after_name.split_whitespace();
        let (state, parent) = (fields.next(), fields.next());
        parent == Some(&std::process::id().to_string()) && state != Some("Z")
    };
    let speaks = |id: &str| {
        // The script ends as `sleep 60`, which keeps its id; its environment's `_` or arguments do not tell the voice.
        let line = std::fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap_or_default();
        line.contains(voice) || line.starts_with("sleep\u{0}60")
    };
    let ids = std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    ids.filter(|id| id.bytes().all(|byte| byte.is_ascii_digit())).any(|id| ours(&id) && speaks(&id))
}
