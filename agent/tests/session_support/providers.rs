//! Providers for tests of the session's own logic: they do exactly what a test says, without delay.
//!
//! A text is "spoken" as a tone; its frequency is its number in a list.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use agent::brain::{Brain, BrainError, BrainFactory, BrainInput, BrainOutput, BrainStream};
use agent::ear::{EarError, Hypothesis, Recognizer, RecognizerStream, StreamConfig};
use agent::grammar::Grammar;
use agent::history::History;
use agent::session::VoiceSource;
use agent::voice::{SpeechStream, Voice, VoiceError};
use codecs::pcm::SampleRate;
use futures::StreamExt;

const RATE: SampleRate = SampleRate::HZ_8000;
const BASE_HZ: f64 = 300.0;
const STEP_HZ: f64 = 100.0;
/// The number of the tone that is no text at all.
pub const MUMBLE: usize = 25;

/// The n-th text, `ms` long.
pub fn tone(number: usize, ms: u32) -> Vec<i16> {
    let hz = BASE_HZ + STEP_HZ * number as f64;
    let step = std::f64::consts::TAU * hz / f64::from(RATE.hz());
    (0..RATE.samples_in_ms(ms)).map(|n| ((n as f64 * step).sin() * 8000.0) as i16).collect()
}

pub fn silence(ms: u32) -> Vec<i16> {
    vec![0; RATE.samples_in_ms(ms)]
}

/// Hears tones.
pub struct ToneRecognizer {
    texts: Vec<&'static str>,
    /// So many streams fail before one works.
    failures: AtomicUsize,
    never_ends: bool,
    name: &'static str,
    pub opened: AtomicUsize,
}

impl ToneRecognizer {
    pub fn new(texts: &[&'static str]) -> Self {
        Self {
            texts: texts.to_vec(),
            failures: AtomicUsize::new(0),
            never_ends: false,
            name: "tones",
            opened: AtomicUsize::new(0),
        }
    }

    pub fn failing(mut self, times: usize) -> Self {
        self.failures = AtomicUsize::new(times);
        self
    }

    pub fn never_ending(mut self) -> Self {
        self.never_ends = true;
        self
    }
}

impl Recognizer for ToneRecognizer {
    fn name(&self) -> &str {
        self.name
    }

    fn open(&self, _config: StreamConfig) -> Result<Box<dyn RecognizerStream>, EarError> {
        self.opened.fetch_add(1, Ordering::Relaxed);
        let fails = self.failures.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok();
        Ok(Box::new(ToneStream {
            texts: self.texts.clone(),
            fails,
            never_ends: self.never_ends,
            audio: Vec::new(),
            out: VecDeque::new(),
            last: String::new(),
            finished: false,
            done: false,
        }))
    }
}

struct ToneStream {
    texts: Vec<&'static str>,
    fails: bool,
    never_ends: bool,
    audio: Vec<i16>,
    out: VecDeque<Hypothesis>,
    last: String,
    finished: bool,
    done: bool,
}

impl ToneStream {
    /// The texts of the tones so far; `None` in it for what is no text.
    fn heard(&self) -> (String, bool) {
        let mut words: Vec<&str> = Vec::new();
        let mut known = true;
        for (from, to) in super::line::loud_spans(&self.audio, RATE, -40.0, 30.0) {
            if to - from < 60.0 {
                continue;
            }
            let at = |ms: f64| (ms * 8.0) as usize;
            let part = &self.audio[at(from + 10.0)..at(to - 10.0).min(self.audio.len())];
            let crossings = part.windows(2).filter(|w| (w[0] < 0) != (w[1] < 0)).count() as f64;
            let hz = crossings / 2.0 / (part.len() as f64 / 8000.0);
            let number = ((hz - BASE_HZ) / STEP_HZ).round() as usize;
            match self.texts.get(number) {
                Some(text) => words.push(text),
                None => {
                    known = false;
                    words.push("mumble");
                }
            }
        }
        (words.join(" "), known)
    }
}

impl RecognizerStream for ToneStream {
    fn push(&mut self, pcm: &[i16]) -> Result<(), EarError> {
        self.audio.extend_from_slice(pcm);
        let (text, _) = self.heard();
        if text != self.last && !self.fails {
            self.last.clone_from(&text);
            self.out.push_back(Hypothesis::Partial { text, words: Vec::new() });
        }
        Ok(())
    }

    fn finish(&mut self) {
        if self.finished || self.never_ends {
            return;
        }
        self.finished = true;
        let (text, accepted) = self.heard();
        self.out.push_back(match self.fails {
            true => Hypothesis::Failed(EarError::Engine { provider: "tones", reason: "told to fail".into() }),
            false => Hypothesis::Final { text, words: Vec::new(), confidence: 0.9, accepted },
        });
    }

    fn cancel(&mut self) {
        self.done = true;
    }

    fn poll_hypothesis(&mut self, _cx: &mut Context<'_>) -> Poll<Option<Hypothesis>> {
        match self.out.pop_front() {
            _ if self.done => Poll::Ready(None),
            Some(last @ (Hypothesis::Final { .. } | Hypothesis::Failed(_))) => {
                self.done = true;
                Poll::Ready(Some(last))
            }
            Some(partial) => Poll::Ready(Some(partial)),
            None => Poll::Pending,
        }
    }
}

/// Speaks a tone for each text, 60 ms a letter. May fail after so many milliseconds, or never begin.
pub struct ToneVoice {
    pub fails_after_ms: Option<u32>,
    pub never_begins: bool,
}

pub fn tone_voice() -> VoiceSource {
    Arc::new(|_| Ok(Arc::new(ToneVoice { fails_after_ms: None, never_begins: false }) as Arc<dyn Voice>))
}

pub fn failing_voice(fails_after_ms: u32) -> VoiceSource {
    Arc::new(move |_| {
        Ok(Arc::new(ToneVoice { fails_after_ms: Some(fails_after_ms), never_begins: false }) as Arc<dyn Voice>)
    })
}

pub fn mute_voice() -> VoiceSource {
    Arc::new(|_| Ok(Arc::new(ToneVoice { fails_after_ms: None, never_begins: true }) as Arc<dyn Voice>))
}

impl Voice for ToneVoice {
    fn name(&self) -> &str {
        "tone"
    }

    fn rate(&self) -> SampleRate {
        RATE
    }

    fn speak(&self, text: &str) -> Result<SpeechStream, VoiceError> {
        if self.never_begins {
            return Ok(SpeechStream::new(futures::stream::pending()));
        }
        let ms = text.chars().count() as u32 * 60;
        match self.fails_after_ms {
            None => Ok(SpeechStream::ready(tone(12, ms))),
            Some(after) => {
                let spoken = Ok(tone(12, after.min(ms)));
                let failure = Err(VoiceError::Engine { engine: "tone", what: "told to fail".into() });
                Ok(SpeechStream::new(futures::stream::iter([spoken, failure])))
            }
        }
    }
}

/// What a [`ToldBrain`] does.
#[derive(Debug, Clone)]
pub enum Told {
    Out(BrainOutput),
    Fail,
    Hang,
}

/// What a brain was asked, in order, with the history at that time.
pub type Asked = Arc<std::sync::Mutex<Vec<(BrainInput, Vec<String>)>>>;

/// Answers as told, turn by turn; the last one again and again.
pub struct ToldFactory {
    pub turns: Vec<Vec<Told>>,
    /// What it was asked, in order, with the history at that time.
    pub asked: Asked,
}

impl ToldFactory {
    pub fn new(turns: Vec<Vec<Told>>) -> Arc<Self> {
        Arc::new(Self { turns, asked: Arc::default() })
    }
}

pub fn say(text: &str) -> Told {
    Told::Out(BrainOutput::Say(text.into()))
}

impl BrainFactory for ToldFactory {
    fn name(&self) -> &str {
        "told"
    }

    fn open(&self) -> Box<dyn Brain> {
        Box::new(ToldBrain { turns: self.turns.clone(), at: 0, asked: Arc::clone(&self.asked) })
    }
}

struct ToldBrain {
    turns: Vec<Vec<Told>>,
    at: usize,
    asked: Asked,
}

impl Brain for ToldBrain {
    fn name(&self) -> &str {
        "told"
    }

    fn expects(&self) -> Option<Arc<Grammar>> {
        None
    }

    fn respond(&mut self, input: BrainInput, history: &History) -> BrainStream {
        let heard = history.entries().map(|entry| entry.text.clone()).collect();
        self.asked.lock().unwrap().push((input, heard));
        let turn = self.turns.get(self.at).or(self.turns.last()).cloned().unwrap_or_default();
        let hangs = turn.iter().any(|told| matches!(told, Told::Hang));
        let outputs = turn.into_iter().filter_map(|told| match told {
            Told::Out(output) => Some(Ok(output)),
            Told::Fail => Some(Err(BrainError::CutShort { provider: "told".into(), reason: "told to fail".into() })),
            Told::Hang => None,
        });
        let outputs: Vec<_> = outputs.collect();
        let stream = futures::stream::iter(outputs);
        match hangs {
            true => Box::pin(stream.chain(futures::stream::pending())),
            false => Box::pin(stream),
        }
    }

    fn commit(&mut self) {
        self.at += 1;
    }

    fn discard(&mut self) {}

    fn fallback(&self) -> &str {
        "Something went wrong."
    }
}
