//! What every voice keeps to, whichever engine speaks.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use agent::voice::{MAX_TEXT_BYTES, Voice, VoiceConfig, VoiceError, Voices};
use codecs::pcm::SampleRate;
use futures::StreamExt;

#[path = "support/voice_server.rs"]
mod voice_server;

const TEXT: &str = "Thank you. Your appointment is on Friday.";

/// Every engine, with the uncached and cached voices that a name can give.
async fn voices(rate: SampleRate) -> Vec<Arc<dyn Voice>> {
    let server = voice_server::start(voice_server::Behaviour::Speak { wav: false }).await;
    let remote = VoiceConfig { base_url: server.clone(), ..VoiceConfig::named("openai:test") };
    let mut configs: Vec<VoiceConfig> =
        ["flite", "flite:slt", "flite:awb", "flite:kal16", "espeak"].into_iter().map(VoiceConfig::named).collect();
    configs.push(VoiceConfig { fallback: String::new(), ..remote.clone() });
    configs.push(VoiceConfig { format: "wav".into(), ..remote });
    let voices = Voices::default();
    configs.iter().map(|config| voices.open(config, rate).expect(&config.kind)).collect()
}

#[tokio::test]
async fn every_voice_speaks_at_the_rate_asked_for() {
    for rate in [SampleRate::HZ_8000, SampleRate::HZ_16000, SampleRate::HZ_48000] {
        for voice in voices(rate).await {
            assert_eq!(voice.rate(), rate);
            let pcm = voice.speak(TEXT).unwrap().collect_pcm().await.unwrap();
            let seconds = pcm.len() as f64 / f64::from(rate.hz());
            assert!((1.5..5.0).contains(&seconds), "{} at {rate}: {seconds} s", voice.name());
        }
    }
}

#[tokio::test]
async fn every_voice_begins_and_ends_with_sound() {
    for rate in [SampleRate::HZ_8000, SampleRate::HZ_16000] {
        for voice in voices(rate).await {
            let pcm = voice.speak(TEXT).unwrap().collect_pcm().await.unwrap();
            // 4 ms of which an eighth is over -47 dBFS: more than the crackle that engines make.
            let sounds = |window: &[i16]| window.iter().filter(|s| s.unsigned_abs() >= 150).count() * 8 >= window.len();
            let width = rate.samples_in_ms(4);
            let lead = rate.duration_of(pcm.windows(width).position(sounds).unwrap());
            let tail = rate.duration_of(pcm.windows(width).rev().position(sounds).unwrap());
            assert!(lead <= Duration::from_millis(10), "{}: {lead:?} of silence first", voice.name());
            assert!(tail <= Duration::from_millis(60), "{}: {tail:?} of silence last", voice.name());
        }
    }
}

#[tokio::test]
async fn every_voice_speaks_at_a_like_level_and_never_clips() {
    for voice in voices(SampleRate::HZ_16000).await {
        // The second text: a voice whose level is learnt has heard one.
        voice.speak(TEXT).unwrap().collect_pcm().await.unwrap();
        let pcm = voice.speak("We are open from nine to five.").unwrap().collect_pcm().await.unwrap();
        let level = speech_level_dbfs(&pcm);
        assert!((-23.0..=-17.0).contains(&level), "{}: {level:.1} dBFS", voice.name());
        let peak = pcm.iter().map(|sample| sample.unsigned_abs()).max().unwrap();
        assert!(peak <= 23_500, "{}: a peak of {peak}", voice.name());
    }
}

#[tokio::test]
async fn every_voice_refuses_a_text_that_it_cannot_speak() {
    for voice in voices(SampleRate::HZ_8000).await {
        for text in ["", "   ", "...", "\n"] {
            let refused = voice.speak(text).map(drop);
            assert!(matches!(refused, Err(VoiceError::Empty { .. })), "{}: {text:?}", voice.name());
        }
        assert!(voice.speak(&"a".repeat(MAX_TEXT_BYTES)).is_ok(), "{}", voice.name());
        let refused = voice.speak(&"a".repeat(MAX_TEXT_BYTES + 1)).map(drop);
        assert!(matches!(refused, Err(VoiceError::TooLong { .. })), "{}", voice.name());
    }
}

#[tokio::test]
async fn every_voice_survives_odd_text() {
    for voice in voices(SampleRate::HZ_8000).await {
        for text in
            ["--help", "Zo\u{eb} \u{1f600} \u{0} 5", "<speak>hi</speak>", "a\u{7}b", "-", "日本", "%s%n 1e400 $&"]
        {
            let Ok(speech) = voice.speak(text) else { continue };
            // Sound or an error, in the end.
            let _ = tokio::time::timeout(Duration::from_secs(10), speech.collect_pcm())
                .await
                .unwrap_or_else(|_| panic!("{} neither spoke nor failed", voice.name()));
        }
    }
}

#[tokio::test]
async fn every_voice_may_be_dropped_midway_and_speak_again() {
    for voice in voices(SampleRate::HZ_16000).await {
        let long = "This is a long text that nobody will hear to its end. ".repeat(20);
        for _ in 0..3 {
            let mut speech = voice.speak(&long).unwrap();
            assert!(speech.next().await.unwrap().is_ok(), "{}", voice.name());
        }
        let started = Instant::now();
        voice.speak("Yes, of course.").unwrap().collect_pcm().await.unwrap();
        assert!(started.elapsed() < Duration::from_secs(2), "{} is still busy", voice.name());
    }
}

#[tokio::test]
async fn every_voice_speaks_to_many_at_once() {
    for voice in voices(SampleRate::HZ_8000).await {
        let calls = (0..12).map(|call| {
            let speech = voice.speak(&format!("You are caller number {call}."));
            async move { speech.unwrap().collect_pcm().await }
        });
        for pcm in futures::future::join_all(calls).await {
            assert!(pcm.unwrap().len() > 4_000, "{}", voice.name());
        }
    }
}

#[test]
fn what_is_wrong_with_a_voice_is_said() {
    let voices = Voices::default();
    let fault = |config: VoiceConfig| voices.open(&config, SampleRate::HZ_8000).map(drop).unwrap_err().to_string();
    assert!(fault(VoiceConfig::named("festival")).contains("auto, flite, espeak and openai"));
    assert!(fault(VoiceConfig::named("flite:bob")).contains("rms, slt, awb, kal16"));
    assert!(fault(VoiceConfig { speed: 9.0, ..VoiceConfig::default() }).contains("0.5 and 2.0"));
    assert!(fault(VoiceConfig { base_url: "localhost:80".into(), ..VoiceConfig::named("openai") }).contains("http://"));
    assert!(fault(VoiceConfig { format: "mp3".into(), ..VoiceConfig::named("openai") }).contains("pcm and wav"));
    assert!(VoiceConfig::default().check().is_ok());
}

/// RMS over the 10 ms blocks that hold speech.
fn speech_level_dbfs(pcm: &[i16]) -> f64 {
    let squares: Vec<f64> = pcm
        .chunks(160)
        .map(|block| block.iter().map(|s| (f64::from(*s) / 32768.0).powi(2)).sum::<f64>() / block.len() as f64)
        .filter(|square| *square > 3.2e-5)
        .collect();
    10.0 * (squares.iter().sum::<f64>() / squares.len() as f64).log10()
}
