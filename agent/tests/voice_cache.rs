//! The cache of phrases in front of a voice.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use agent::voice::cache::{CachedVoice, PhraseCache};
use agent::voice::{self, SpeechStream, Voice, VoiceError, Voices};
use codecs::pcm::SampleRate;
use futures::channel::mpsc::{UnboundedSender, unbounded};
use futures::{FutureExt, StreamExt};

type Pieces = UnboundedSender<Result<Vec<i16>, VoiceError>>;

/// A voice whose audio the test sends itself.
#[derive(Default)]
struct ByHand {
    asked: AtomicUsize,
    sends: Mutex<Vec<Pieces>>,
}

impl ByHand {
    fn send(&self, synthesis: usize, piece: Result<Vec<i16>, VoiceError>) -> bool {
        self.sends.lock().unwrap()[synthesis].unbounded_send(piece).is_ok()
    }

    fn end(&self, synthesis: usize) {
        self.sends.lock().unwrap()[synthesis].close_channel();
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Voice for ByHand {
    fn name(&self) -> &str {
        "by hand"
    }
    fn rate(&self) -> SampleRate {
        SampleRate::HZ_8000
    }
    fn speak(&self, _text: &str) -> Result<SpeechStream, VoiceError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let (send, receive) = unbounded();
        self.sends.lock().unwrap().push(send);
        Ok(SpeechStream::new(receive))
    }
}

fn cached(limit_bytes: usize) -> (Arc<ByHand>, CachedVoice, Arc<PhraseCache>) {
    let (voice, cache) = (Arc::new(ByHand::default()), Arc::new(PhraseCache::new(limit_bytes)));
    (Arc::clone(&voice), CachedVoice::new(voice, Arc::clone(&cache)), cache)
}

async fn say(voice: &ByHand, cached: &CachedVoice, text: &str, pcm: Vec<i16>) {
    let (before, speech) = (voice.asked(), cached.speak(text).unwrap());
    if voice.asked() > before {
        voice.send(before, Ok(pcm.clone()));
        voice.end(before);
    }
    assert_eq!(speech.collect_pcm().await.unwrap(), pcm);
}

#[tokio::test]
async fn a_phrase_said_twice_is_made_once() {
    let (voice, cached, cache) = cached(1 << 20);
    say(&voice, &cached, "Hello there.", vec![1, 2, 3]).await;
    say(&voice, &cached, "  Hello\nthere. ", vec![1, 2, 3]).await;
    assert_eq!((voice.asked(), cache.stats().hits, cache.stats().misses), (1, 1, 1));
}

#[tokio::test]
async fn those_who_ask_while_it_is_made_share_one_synthesis_and_hear_it_as_it_comes() {
    let (voice, cached, cache) = cached(1 << 20);
    let (mut first, mut second) = (cached.speak("Hello.").unwrap(), cached.speak("Hello.").unwrap());
    assert!(first.next().now_or_never().is_none());
    assert!(second.next().now_or_never().is_none());
    voice.send(0, Ok(vec![1]));
    assert_eq!(first.next().await, Some(Ok(vec![1])));
    assert_eq!(second.next().await, Some(Ok(vec![1])));
    // A third one that comes late hears it from the beginning, and the first one may leave.
    let third = cached.speak("Hello.").unwrap();
    drop(first);
    voice.send(0, Ok(vec![2]));
    voice.end(0);
    assert_eq!(third.collect_pcm().await, Ok(vec![1, 2]));
    assert_eq!(second.collect_pcm().await, Ok(vec![2]));
    assert_eq!((voice.asked(), cache.stats().shared), (1, 2));
}

#[tokio::test]
async fn a_reader_wakes_although_another_polled_last_and_left() {
    let (voice, cached, _cache) = cached(1 << 20);
    let waits = tokio::spawn(cached.speak("Hello.").unwrap().collect_pcm());
    tokio::task::yield_now().await;
    let mut other = cached.speak("Hello.").unwrap();
    assert!(other.next().now_or_never().is_none());
    drop(other);
    voice.send(0, Ok(vec![5]));
    voice.end(0);
    assert_eq!(waits.await.unwrap(), Ok(vec![5]));
}

#[tokio::test]
async fn synthesis_is_cancelled_when_its_last_reader_is_gone() {
    let (voice, cached, cache) = cached(1 << 20);
    let (mut first, second) = (cached.speak("Hello.").unwrap(), cached.speak("Hello.").unwrap());
    voice.send(0, Ok(vec![1]));
    first.next().await.unwrap().unwrap();
    drop(first);
    assert!(voice.send(0, Ok(vec![2])));
    drop(second);
    assert!(!voice.send(0, Ok(vec![3])), "nobody listens");
    say(&voice, &cached, "Hello.", vec![9]).await;
    assert_eq!((voice.asked(), cache.stats().phrases), (2, 1));
}

#[tokio::test]
async fn a_failure_reaches_all_readers_and_is_not_kept() {
    let (voice, cached, cache) = cached(1 << 20);
    let (first, second) = (cached.speak("Hello.").unwrap(), cached.speak("Hello.").unwrap());
    let fault = VoiceError::Upstream { status: 500, what: "down".into() };
    voice.send(0, Ok(vec![1]));
    voice.send(0, Err(fault.clone()));
    assert_eq!(first.collect_pcm().await, Err(fault.clone()));
    assert_eq!(second.collect_pcm().await, Err(fault));
    assert_eq!(cache.stats().phrases, 0);
    say(&voice, &cached, "Hello.", vec![9]).await;
}

#[tokio::test]
async fn the_longest_unused_phrase_goes_first_and_the_limit_holds() {
    let (voice, cached, cache) = cached(10_000);
    for text in ["one", "two", "three", "four"] {
        say(&voice, &cached, text, vec![7; 1_100]).await;
    }
    assert_eq!(cache.stats().phrases, 4);
    say(&voice, &cached, "one", vec![7; 1_100]).await;
    say(&voice, &cached, "five", vec![7; 1_100]).await;
    assert_eq!((cache.stats().phrases, cache.stats().evicted), (4, 1));
    assert!(cache.stats().size_bytes <= 10_000);
    let asked = voice.asked();
    say(&voice, &cached, "one", vec![7; 1_100]).await;
    assert_eq!(voice.asked(), asked, "one was used last but for five, and stayed");
    say(&voice, &cached, "two", vec![7; 1_100]).await;
    assert_eq!(voice.asked(), asked + 1, "two was the longest unused, and went");
}

#[tokio::test]
async fn a_phrase_of_more_than_a_quarter_of_the_cache_is_not_kept() {
    let (voice, cached, cache) = cached(10_000);
    say(&voice, &cached, "long", vec![7; 1_300]).await;
    assert_eq!((cache.stats().phrases, cache.stats().size_bytes), (0, 0));
}

#[tokio::test]
async fn voices_rates_and_speeds_are_told_apart() {
    let voices = Voices::default();
    let mut lengths = Vec::new();
    for (speed, rate) in [(1.0, SampleRate::HZ_8000), (1.0, SampleRate::HZ_16000), (1.5, SampleRate::HZ_8000)] {
        let config = voice::VoiceConfig { speed, ..voice::VoiceConfig::named("flite:kal16") };
        let voice = voices.open(&config, rate).unwrap();
        lengths.push(voice.speak("Good morning to you.").unwrap().collect_pcm().await.unwrap().len());
    }
    assert_eq!((voices.cache().stats().phrases, voices.cache().stats().hits), (3, 0));
    assert!(lengths[1] > lengths[0] * 19 / 10 && lengths[2] < lengths[0] * 8 / 10, "{lengths:?}");
}

#[tokio::test]
async fn phrases_can_be_made_before_they_are_needed() {
    let voices = Voices::default();
    let voice = voices.from_name("flite", SampleRate::HZ_8000).unwrap();
    assert_eq!(voice::prewarm(&*voice, ["Hello.", "", "Good bye."]).await, 2);
    let first = voice.speak("Good bye.").unwrap().next().now_or_never();
    assert!(matches!(first, Some(Some(Ok(_)))), "it is there at once");
    assert_eq!(voices.cache().stats().hits, 1);
}
