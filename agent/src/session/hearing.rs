//! The session's ear: one utterance at a time through a recogniser, with audio from before its beginning, and with
//! another try where a provider fails.

use std::collections::VecDeque;
use std::future::{pending, poll_fn};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use codecs::pcm::SampleRate;

use super::event::{Fault, Part, Remedy};
use crate::ear::{EarError, Hypothesis, LEAD_IN, Recognizer, RecognizerStream, StreamConfig, Word};
use crate::grammar::Grammar;
use crate::usage::Meter;

/// How much audio from before the present moment is kept.
const PRE_ROLL: Duration = Duration::from_millis(1_200);
/// The most audio of one utterance that is kept for another try.
const MAX_KEPT: Duration = Duration::from_secs(30);
/// Audio that a recogniser wants behind the last sound, where the line has not sent it.
const LEAD_OUT: Duration = crate::ear::LEAD_OUT;

/// What became of an utterance.
#[derive(Debug)]
pub(super) enum Heard {
    Partial {
        text: String,
    },
    Final {
        text: String,
        words: Vec<Word>,
        confidence: f32,
        accepted: bool,
    },
    /// A provider failed; something is done about it, and the utterance goes on.
    Failed(Failure),
    /// No provider could recognise it.
    Lost(Failure),
}

/// A provider's failure, as it is reported.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub part: Part,
    pub provider: String,
    pub reason: String,
    pub fault: Fault,
    pub remedy: Remedy,
}

struct Kept {
    at: Duration,
    pcm: Vec<i16>,
}

pub(super) struct Hearing {
    recognizers: Vec<Arc<dyn Recognizer>>,
    /// Which of them is used; stays where it moved to.
    preferred: usize,
    language: String,
    rate: SampleRate,
    pre_roll: VecDeque<Kept>,
    utterance: Option<Utterance>,
    final_limit: Duration,
    meter: Meter,
}

struct Utterance {
    stream: Option<Box<dyn RecognizerStream>>,
    grammar: Option<Arc<Grammar>>,
    audio: Vec<i16>,
    /// Since when the last word is awaited.
    finishing: Option<Duration>,
    /// Streams opened for it so far.
    tries: usize,
    /// To be told at the next poll.
    waiting: VecDeque<Heard>,
    last_partial: String,
}

impl Hearing {
    pub(super) fn new(
        recognizers: Vec<Arc<dyn Recognizer>>,
        language: String,
        final_limit: Duration,
        meter: Meter,
    ) -> Self {
        Self {
            recognizers,
            preferred: 0,
            language,
            rate: SampleRate::HZ_8000,
            pre_roll: VecDeque::new(),
            utterance: None,
            final_limit,
            meter,
        }
    }

    /// True where nothing can be recognised at all.
    pub(super) fn deaf(&self) -> bool {
        self.recognizers.is_empty()
    }

    /// An utterance is being recognised.
    pub(super) fn busy(&self) -> bool {
        self.utterance.is_some()
    }

    /// The words so far.
    pub(super) fn partial(&self) -> &str {
        self.utterance.as_ref().map_or("", |utterance| utterance.last_partial.as_str())
    }

    /// Takes what the caller's side of the line carried; `at` is where the frame begins.
    pub(super) fn frame(&mut self, at: Duration, pcm: &[i16], rate: SampleRate) {
        if rate != self.rate {
            self.rate = rate;
            self.pre_roll.clear();
            if let Some(utterance) = self.utterance.as_mut() {
                // The codec changed in mid-utterance: what follows would be at the wrong rate.
                utterance.stream = None;
                utterance.audio.clear();
                self.open();
            }
        }
        self.push(pcm);
        self.pre_roll.push_back(Kept { at, pcm: pcm.to_vec() });
        while self.pre_roll.front().is_some_and(|kept| kept.at + PRE_ROLL < at) {
            self.pre_roll.pop_front();
        }
    }

    /// An utterance began at `onset`.
    pub(super) fn begin(&mut self, onset: Duration, grammar: Option<Arc<Grammar>>) {
        self.cancel();
        if self.deaf() {
            return;
        }
        let from = onset.saturating_sub(LEAD_IN);
        let audio =
            self.pre_roll.iter().filter(|kept| kept.at >= from).flat_map(|kept| kept.pcm.iter().copied()).collect();
        self.utterance = Some(Utterance {
            stream: None,
            grammar,
            audio,
            finishing: None,
            tries: 0,
            waiting: VecDeque::new(),
            last_partial: String::new(),
        });
        self.open();
    }

    /// The utterance is over, its last sound was at `last_sound`: a `Final` or `Lost` follows.
    pub(super) fn finish(&mut self, now: Duration, last_sound: Duration) {
        // A line may send nothing in silence; its own noise from before the utterance stands in.
        let received = self.pre_roll.back().map_or(now, |kept| kept.at);
        let missing = LEAD_OUT.saturating_sub(received.saturating_sub(last_sound));
        if missing > Duration::from_millis(80) {
            let quiet: Vec<i16> = self.pre_roll.iter().take(4).flat_map(|kept| kept.pcm.iter().copied()).collect();
            if !quiet.is_empty() {
                let noise: Vec<i16> = quiet.iter().copied().cycle().take(self.rate.samples_in(missing)).collect();
                self.push(&noise);
            }
        }
        if let Some(utterance) = self.utterance.as_mut() {
            if utterance.finishing.is_none() && utterance.stream.is_some() {
                // A server is sent an utterance when it is over.
                count(&self.meter, self.recognizers.get(self.preferred), true, utterance.audio.len(), self.rate);
            }
            utterance.finishing.get_or_insert(now);
            if let Some(stream) = utterance.stream.as_mut() {
                stream.finish();
            }
        }
    }

    /// The utterance is given up.
    pub(super) fn cancel(&mut self) {
        if let Some(mut utterance) = self.utterance.take()
            && let Some(stream) = utterance.stream.as_mut()
        {
            stream.cancel();
        }
    }

    /// Lets time pass: a last word that does not come in time is a failure.
    pub(super) fn tick(&mut self, now: Duration) {
        let limit = self.final_limit;
        let Some(utterance) = self.utterance.as_mut() else { return };
        if utterance.finishing.is_some_and(|since| now.saturating_sub(since) >= limit) && utterance.stream.is_some() {
            utterance.finishing = Some(now);
            utterance.stream = None;
            let reason = format!("no last word within {} ms", limit.as_millis());
            let is_remote = self.recognizers.get(self.preferred).is_some_and(|recognizer| recognizer.is_remote());
            self.failed(&reason, if is_remote { Fault::Upstream } else { Fault::Ours }, false);
        }
    }

    /// What comes of the utterance next; pending for ever without one. Cancel-safe.
    pub(super) async fn next(&mut self) -> Heard {
        let Some(utterance) = self.utterance.as_mut() else { return pending().await };
        if let Some(heard) = utterance.waiting.pop_front() {
            if matches!(heard, Heard::Lost(_)) {
                self.utterance = None;
            }
            return heard;
        }
        let Some(stream) = utterance.stream.as_mut() else { return pending().await };
        let hypothesis = poll_fn(|cx| match stream.poll_hypothesis(cx) {
            Poll::Ready(next) => Poll::Ready(next),
            Poll::Pending => Poll::Pending,
        })
        .await;
        self.took(hypothesis)
    }

    fn took(&mut self, hypothesis: Option<Hypothesis>) -> Heard {
        match hypothesis {
            Some(Hypothesis::Partial { text, .. }) => {
                if let Some(utterance) = self.utterance.as_mut() {
                    utterance.last_partial.clone_from(&text);
                }
                Heard::Partial { text }
            }
            Some(Hypothesis::Final { text, words, confidence, accepted }) => {
                self.utterance = None;
                Heard::Final { text, words, confidence, accepted }
            }
            Some(Hypothesis::Failed(error)) => self.try_again(&error),
            None => self.try_again(&EarError::Closed),
        }
    }

    fn try_again(&mut self, error: &EarError) -> Heard {
        if let Some(utterance) = self.utterance.as_mut() {
            utterance.stream = None;
        }
        // An utterance beyond all limits is not tried again.
        let hopeless = matches!(error, EarError::TooLong { .. });
        self.failed(&error.to_string(), fault_of(error), hopeless);
        let Some(utterance) = self.utterance.as_mut() else { return Heard::Partial { text: String::new() } };
        match utterance.waiting.pop_front() {
            Some(lost @ Heard::Lost(_)) => {
                self.utterance = None;
                lost
            }
            Some(other) => other,
            None => Heard::Partial { text: String::new() },
        }
    }

    fn push(&mut self, pcm: &[i16]) {
        let limit = self.rate.samples_in(MAX_KEPT);
        let Some(utterance) = self.utterance.as_mut() else { return };
        if utterance.finishing.is_some() || utterance.audio.len() + pcm.len() > limit {
            return;
        }
        utterance.audio.extend_from_slice(pcm);
        if let Some(stream) = utterance.stream.as_mut() {
            // A failed push surfaces as a failed hypothesis.
            let _ = stream.push(pcm);
            count(&self.meter, self.recognizers.get(self.preferred), false, pcm.len(), self.rate);
        }
    }

    /// Opens a stream for the utterance and gives it all audio so far.
    fn open(&mut self) {
        let config = |grammar: &Option<Arc<Grammar>>| StreamConfig {
            rate: self.rate,
            grammar: grammar.clone(),
            language: self.language.clone(),
        };
        let Some(utterance) = self.utterance.as_mut() else { return };
        let Some(recognizer) = self.recognizers.get(self.preferred) else { return };
        utterance.tries += 1;
        match recognizer.open(config(&utterance.grammar)) {
            Ok(mut stream) => {
                let mut pushed = Ok(());
                let samples = utterance.audio.len();
                if samples > 0 {
                    pushed = stream.push(&utterance.audio);
                    count(&self.meter, Some(recognizer), false, samples, self.rate);
                }
                if utterance.finishing.is_some() {
                    stream.finish();
                    count(&self.meter, Some(recognizer), true, samples, self.rate);
                }
                // A failed push surfaces as a failed hypothesis, unless the stream was closed from the start.
                drop(pushed);
                utterance.stream = Some(stream);
            }
            Err(error) => self.failed(&error.to_string(), fault_of(&error), false),
        }
    }

    /// Another provider, or the same once more, or the utterance is lost.
    fn failed(&mut self, reason: &str, fault: Fault, hopeless: bool) {
        let count = self.recognizers.len();
        let provider = self.recognizers.get(self.preferred).map_or_else(String::new, |r| r.name().to_owned());
        let Some(utterance) = self.utterance.as_mut() else { return };
        let failure = |remedy| Failure {
            part: Part::Recognizer,
            provider: provider.clone(),
            reason: reason.to_owned(),
            fault,
            remedy,
        };
        // Each provider once, and the last of them twice.
        if hopeless || utterance.tries > count {
            utterance.waiting.push_back(Heard::Lost(failure(Remedy::Keypad)));
            return;
        }
        let remedy = if self.preferred + 1 < count {
            self.preferred += 1;
            Remedy::OtherProvider
        } else {
            Remedy::Retried
        };
        utterance.waiting.push_back(Heard::Failed(failure(remedy)));
        self.open();
    }
}

/// Counts sound that a recogniser works on: an engine of ours as it comes, a server's once it is sent.
fn count(meter: &Meter, recognizer: Option<&Arc<dyn Recognizer>>, is_over: bool, samples: usize, rate: SampleRate) {
    if let Some(recognizer) = recognizer.filter(|recognizer| recognizer.is_remote() == is_over) {
        meter.heard(recognizer.name(), rate.duration_of(samples));
    }
}

/// Whose fault a recogniser's failure is.
fn fault_of(error: &EarError) -> Fault {
    match error {
        EarError::Unauthorised { .. }
        | EarError::TimedOut { .. }
        | EarError::Unreachable { .. }
        | EarError::Status { .. }
        | EarError::BadAnswer { .. } => Fault::Upstream,
        _ => Fault::Ours,
    }
}
