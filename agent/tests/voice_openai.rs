//! The remote voice against a local server: what it asks for, and what each fault becomes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, Instant};

use agent::voice::{Voice, VoiceConfig, VoiceError, Voices};
use codecs::pcm::SampleRate;
use futures::StreamExt;
use std::sync::Arc;
use voice_server::Behaviour;

#[path = "support/voice_server.rs"]
mod voice_server;

/// One that fails by itself, with time limits that a test can wait for.
fn alone(base_url: String) -> VoiceConfig {
    VoiceConfig {
        base_url,
        fallback: String::new(),
        connect_timeout_ms: 300,
        first_audio_timeout_ms: 300,
        next_audio_timeout_ms: 300,
        ..VoiceConfig::named("openai:nova")
    }
}

fn open(config: &VoiceConfig) -> Arc<dyn Voice> {
    Voices::default().open(config, SampleRate::HZ_16000).unwrap()
}

async fn fault(behaviour: Behaviour) -> VoiceError {
    let voice = open(&alone(voice_server::start(behaviour).await));
    voice.speak("Good morning.").unwrap().collect_pcm().await.unwrap_err()
}

#[tokio::test]
async fn asks_for_the_configured_model_voice_and_speed_with_the_key_of_the_environment() {
    let (url, log) = voice_server::start_logged(Behaviour::Speak { wav: false }).await;
    // PATH is a variable that is there; its value stands in for a key.
    let config = VoiceConfig { api_key_env: "PATH".into(), model: "small".into(), speed: 1.25, ..alone(url.clone()) };
    open(&config).speak("Good morning.").unwrap().collect_pcm().await.unwrap();
    let config = VoiceConfig { api_key_env: "OMNIVOX_NO_SUCH_VARIABLE".into(), ..alone(url) };
    open(&config).speak("Good morning.").unwrap().collect_pcm().await.unwrap();
    let seen = log.lock().unwrap().clone();
    let expected = serde_json::json!({
        "model": "small", "input": "Good morning.", "voice": "nova", "response_format": "pcm", "speed": 1.25,
    });
    assert_eq!(seen[0].body, expected);
    assert_eq!(seen[0].authorization, Some(format!("Bearer {}", std::env::var("PATH").unwrap())));
    assert_eq!(seen[1].authorization, None);
}

#[tokio::test]
async fn audio_is_handed_on_while_the_server_is_still_sending() {
    // The server stalls after a part: what it sent is heard, then the time limit strikes.
    let voice = open(&alone(voice_server::start(Behaviour::Stalls).await));
    let mut speech = voice.speak("Good morning.").unwrap();
    assert!(!speech.next().await.unwrap().unwrap().is_empty());
    let mut last = None;
    while let Some(chunk) = speech.next().await {
        last = Some(chunk);
    }
    let limit = VoiceError::Timeout { engine: "openai", step: "next audio", limit_ms: 300 };
    assert_eq!(last, Some(Err(limit)));
}

#[tokio::test]
async fn a_server_that_never_answers_or_never_sends_costs_the_time_limit_only() {
    for behaviour in [Behaviour::NeverAnswers, Behaviour::NoAudio] {
        let started = Instant::now();
        let error = fault(behaviour).await;
        assert_eq!(error, VoiceError::Timeout { engine: "openai", step: "first audio", limit_ms: 300 });
        assert!(started.elapsed() < Duration::from_secs(2));
    }
}

#[tokio::test]
async fn each_fault_of_a_server_has_its_class() {
    let what = |what: &str| what.to_owned();
    let upstream = |status| VoiceError::Upstream { status, what: what("too much to do") };
    assert_eq!(fault(Behaviour::Status(500, "too  much\nto do")).await, upstream(500));
    assert_eq!(fault(Behaviour::Status(429, "too much to do")).await, upstream(429));
    let refused = VoiceError::Refused { status: 401, what: what("no key") };
    assert_eq!(fault(Behaviour::Status(401, "no key")).await, refused);
    assert!(matches!(fault(Behaviour::Status(302, "")).await, VoiceError::Refused { status: 302, .. }));
    assert!(matches!(fault(Behaviour::Breaks).await, VoiceError::Cut { .. }));
    assert!(matches!(fault(Behaviour::ShortWav).await, VoiceError::Cut { .. }));
    let nobody = open(&alone("http://127.0.0.1:1/v1".into()));
    let error = nobody.speak("Good morning.").unwrap().collect_pcm().await.unwrap_err();
    assert!(matches!(error, VoiceError::Unreachable { .. }) && error.is_upstream(), "{error}");
}

#[tokio::test]
async fn what_is_no_audio_is_not_played() {
    let others: [(&str, &[u8]); 6] = [
        ("application/json", br#"{"error": "no such voice"}"#),
        ("text/html", b"<html>Welcome</html>"),
        ("audio/mpeg", b"ID3...."),
        ("audio/wav", b"{\"error\": 1}"),
        ("application/octet-stream", b"ID3 and so on"),
        ("audio/pcm", b""),
    ];
    for (kind, bytes) in others {
        let error = fault(Behaviour::Other(kind, bytes)).await;
        assert!(matches!(error, VoiceError::NotAudio { .. }), "{kind}: {error}");
    }
    let error = fault(Behaviour::Other("application/json", br#"{"error": "no such voice"}"#)).await;
    assert!(error.to_string().contains("no such voice"), "{error}");
}

#[tokio::test]
async fn a_wav_file_where_pcm_was_asked_for_is_understood() {
    let voice = open(&alone(voice_server::start(Behaviour::Speak { wav: true }).await));
    let pcm = voice.speak("Good morning.").unwrap().collect_pcm().await.unwrap();
    assert!((8_000..32_000).contains(&pcm.len()), "{} samples", pcm.len());
}

#[tokio::test]
async fn while_the_server_fails_flite_speaks() {
    for behaviour in [Behaviour::Status(503, "down"), Behaviour::NeverAnswers, Behaviour::Other("text/html", b"<p>")] {
        let (url, log) = voice_server::start_logged(behaviour).await;
        let voice = open(&VoiceConfig { fallback: "flite:slt".into(), ..alone(url) });
        for text in ["Good morning.", "Good evening."] {
            let pcm = voice.speak(text).unwrap().collect_pcm().await.unwrap();
            assert!((8_000..32_000).contains(&pcm.len()), "{} samples", pcm.len());
        }
        assert_eq!(log.lock().unwrap().len(), 1, "the second sentence doesn't wait for the server");
    }
}
