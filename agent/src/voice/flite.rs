//! Flite in this process: the voice that is always there. First sound in milliseconds, no download.
//!
//! Quirks met here: Flite speaks ASCII only; its first 120 to 290 ms are silence; a long sentence is analysed whole
//! before its first sample (10 ms for 3 s of speech, 50 ms for 12 s), so a text is fed sentence by sentence; `slt`
//! sounds a little different at each run.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use codecs::pcm::SampleRate;
use futures::Stream;
use tokio::sync::mpsc;

use super::condition::{Conditioner, Level, TAIL};
use super::{SpeechStream, Voice, VoiceError, check_text, normalise, sentences};
use engine::Piece;
use sys::Speaker;

mod engine;
mod sys;

/// The rate of the four voices.
const ENGINE_RATE: SampleRate = SampleRate::HZ_16000;

/// One of Flite's voices at one speed and rate. Cheap to make: the engine behind it is shared.
#[derive(Clone, Debug)]
pub struct FliteVoice {
    name: &'static str,
    speaker: Speaker,
    level: Level,
    speed: f32,
    rate: SampleRate,
}

impl FliteVoice {
    /// The names of the voices, the default first.
    pub const VOICES: [&'static str; 4] = ["rms", "slt", "awb", "kal16"];

    /// `voice` is one of [`FliteVoice::VOICES`] (`None`: `rms`), `speed` 1.0 its own pace.
    ///
    /// # Errors
    /// [`VoiceError::Config`] for another name.
    pub fn new(voice: Option<&str>, speed: f32, rate: SampleRate) -> Result<Self, VoiceError> {
        // The gains bring each voice's speech to -20 dBFS; measured over five sentences of a front desk.
        let (name, speaker, gain_db) = match voice.unwrap_or("rms") {
            "rms" => ("flite:rms", Speaker::Rms, 0.9),
            "slt" => ("flite:slt", Speaker::Slt, -5.2),
            "awb" => ("flite:awb", Speaker::Awb, -0.3),
            "kal16" => ("flite:kal16", Speaker::Kal16, 5.7),
            other => {
                let what = format!("flite has no voice {other:?}; it has {}", Self::VOICES.join(", "));
                return Err(VoiceError::Config { what });
            }
        };
        Ok(Self { name, speaker, level: Level::Fixed { gain_db }, speed, rate })
    }
}

impl Voice for FliteVoice {
    fn name(&self) -> &str {
        self.name
    }

    fn rate(&self) -> SampleRate {
        self.rate
    }

    fn speak(&self, text: &str) -> Result<SpeechStream, VoiceError> {
        check_text(text)?;
        let spoken = normalise::ascii(&normalise::for_engine(text));
        let mut waiting: VecDeque<String> = sentences::split_early(&spoken).into();
        let first = waiting.pop_front().ok_or_else(|| VoiceError::Empty { text: text.chars().take(40).collect() })?;
        // The first sentence is queued now, not at the first poll: synthesis runs while the caller of this gets there.
        let current = Sentence::queue(self, &first, waiting.is_empty())?;
        Ok(SpeechStream::new(Speech { voice: self.clone(), current: Some(current), waiting }))
    }

    fn identity(&self) -> String {
        format!("{}@{}x{}", self.name, self.rate.hz(), self.speed)
    }
}

/// One sentence on its way through the engine.
struct Sentence {
    pieces: mpsc::Receiver<Piece>,
    conditioner: Conditioner,
}

impl Sentence {
    /// Only the pauses between sentences are made here.
    fn queue(voice: &FliteVoice, text: &str, is_last: bool) -> Result<Self, VoiceError> {
        let pause = if is_last { TAIL } else { sentences::pause_after(text) };
        Ok(Self {
            pieces: engine::speak(voice.speaker, text, 1.0 / voice.speed)?,
            conditioner: Conditioner::new(ENGINE_RATE, voice.rate, voice.level.clone(), pause)?,
        })
    }
}

/// A text on its way: the next sentence is queued when the one before it is made.
struct Speech {
    voice: FliteVoice,
    current: Option<Sentence>,
    waiting: VecDeque<String>,
}

impl Stream for Speech {
    type Item = Result<Vec<i16>, VoiceError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(sentence) = self.current.as_mut() else { return Poll::Ready(None) };
        loop {
            match sentence.pieces.poll_recv(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(Some(Err(engine::failed("it made nothing of the text")))),
                Poll::Ready(Some(Piece::Pcm(pcm, rate_hz))) if rate_hz == ENGINE_RATE.hz() => {
                    let chunk = sentence.conditioner.push(&pcm);
                    if !chunk.is_empty() {
                        return Poll::Ready(Some(Ok(chunk)));
                    }
                }
                Poll::Ready(Some(Piece::Pcm(_, rate_hz))) => {
                    let what = format!("it speaks at {rate_hz} Hz, not at {}", ENGINE_RATE.hz());
                    return Poll::Ready(Some(Err(engine::failed(&what))));
                }
                Poll::Ready(Some(Piece::Done)) => break,
            }
        }
        let tail = sentence.conditioner.finish();
        let next = self.waiting.pop_front();
        self.current = match next.map(|text| Sentence::queue(&self.voice, &text, self.waiting.is_empty())).transpose() {
            Ok(next) => next,
            Err(error) => return Poll::Ready(Some(Err(error))),
        };
        Poll::Ready(Some(Ok(tail)))
    }
}
