//! A second voice for where the first one fails: the caller hears the sentence, if in another's voice.
//!
//! The second speaks a text of which the first made no sound. After a failure the first is left alone for a while, so
//! that a dead server doesn't cost its time limit at every sentence.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use codecs::pcm::SampleRate;
use futures::Stream;
use tokio::time::Instant;

use super::{SpeechStream, Voice, VoiceError};

/// How long a voice that failed is left alone.
pub const REST: Duration = Duration::from_secs(20);

/// Two voices at one rate.
pub struct FallbackVoice {
    first: Arc<dyn Voice>,
    second: Arc<dyn Voice>,
    resting_until: Arc<Mutex<Option<Instant>>>,
}

impl FallbackVoice {
    /// `second` speaks where `first` fails. Both speak at the same rate.
    #[must_use]
    pub fn new(first: Arc<dyn Voice>, second: Arc<dyn Voice>) -> Self {
        debug_assert_eq!(first.rate(), second.rate(), "voices of one line");
        Self { first, second, resting_until: Arc::default() }
    }
}

impl Voice for FallbackVoice {
    fn name(&self) -> &str {
        self.first.name()
    }

    fn rate(&self) -> SampleRate {
        self.first.rate()
    }

    fn speak(&self, text: &str) -> Result<SpeechStream, VoiceError> {
        let resting_until = *self.resting_until.lock().unwrap_or_else(PoisonError::into_inner);
        if resting_until.is_some_and(|until| Instant::now() < until) {
            return Ok(self.second.speak(text)?.by(self.second.name()));
        }
        match self.first.speak(text) {
            // Made before, it does not fail.
            Ok(stream) if stream.worker("").is_none() => Ok(stream),
            Ok(stream) => Ok(SpeechStream::new(Attempt {
                stream,
                instead: Some((Arc::clone(&self.second), text.to_owned())),
                failed: self.first.name().to_owned(),
                resting_until: Arc::clone(&self.resting_until),
            })),
            Err(error @ (VoiceError::Empty { .. } | VoiceError::TooLong { .. })) => Err(error),
            Err(error) => {
                rest(&self.resting_until, self.first.name(), self.second.name(), &error);
                Ok(self.second.speak(text)?.by(self.second.name()))
            }
        }
    }

    fn identity(&self) -> String {
        self.first.identity()
    }
}

struct Attempt {
    stream: SpeechStream,
    /// Until the first sound: who else could speak, and what.
    instead: Option<(Arc<dyn Voice>, String)>,
    failed: String,
    resting_until: Arc<Mutex<Option<Instant>>>,
}

impl Stream for Attempt {
    type Item = Result<Vec<i16>, VoiceError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match Pin::new(&mut self.stream).poll_next(cx) {
                Poll::Ready(Some(Err(error))) => {
                    let Some((second, text)) = self.instead.take() else {
                        return Poll::Ready(Some(Err(error)));
                    };
                    rest(&self.resting_until, &self.failed, second.name(), &error);
                    match second.speak(&text) {
                        Ok(stream) => self.stream = stream,
                        Err(error) => return Poll::Ready(Some(Err(error))),
                    }
                }
                Poll::Ready(Some(Ok(chunk))) => {
                    self.instead = None;
                    return Poll::Ready(Some(Ok(chunk)));
                }
                other => return other,
            }
        }
    }
}

fn rest(resting_until: &Mutex<Option<Instant>>, failed: &str, second: &str, error: &VoiceError) {
    tracing::warn!(voice = failed, %error, "the voice {failed} failed, {second} speaks for the next {} s", REST.as_secs());
    *resting_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + REST);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Says what it was given, sample by sample, then fails or ends.
    struct Scripted {
        says: Vec<i16>,
        fails: bool,
        asked: AtomicUsize,
    }

    impl Scripted {
        fn new(says: &[i16], fails: bool) -> Arc<Self> {
            Arc::new(Self { says: says.to_vec(), fails, asked: AtomicUsize::new(0) })
        }
    }

    impl Voice for Scripted {
        fn name(&self) -> &str {
            "scripted"
        }
        fn rate(&self) -> SampleRate {
            SampleRate::HZ_8000
        }
        fn speak(&self, _text: &str) -> Result<SpeechStream, VoiceError> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            let cut = VoiceError::Cut { received_bytes: 0, what: "as scripted".into() };
            let end = if self.fails { Some(Err(cut)) } else { None };
            let says: Vec<_> = self.says.iter().map(|sample| Ok(vec![*sample])).chain(end).collect();
            Ok(SpeechStream::new(futures::stream::iter(says)))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_second_speaks_where_the_first_fails_and_the_first_rests() {
        let (first, second) = (Scripted::new(&[], true), Scripted::new(&[7, 8], false));
        let voice = FallbackVoice::new(first.clone(), second.clone());
        for _ in 0..3 {
            assert_eq!(voice.speak("Hi").unwrap().collect_pcm().await, Ok(vec![7, 8]));
        }
        assert_eq!(first.asked.load(Ordering::Relaxed), 1);
        tokio::time::advance(REST).await;
        voice.speak("Hi").unwrap().collect_pcm().await.unwrap();
        assert_eq!(first.asked.load(Ordering::Relaxed), 2);
        assert_eq!(second.asked.load(Ordering::Relaxed), 4);
    }

    #[tokio::test]
    async fn what_was_cut_off_midway_is_not_said_again() {
        let second = Scripted::new(&[7], false);
        let voice = FallbackVoice::new(Scripted::new(&[1], true), second.clone());
        assert!(matches!(voice.speak("Hi").unwrap().collect_pcm().await, Err(VoiceError::Cut { .. })));
        assert_eq!(second.asked.load(Ordering::Relaxed), 0);
    }
}
