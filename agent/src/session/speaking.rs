//! The session's mouth: texts become audio ahead of time, audio goes to the line as it has room, and what was really
//! heard is known to the word.
//!
//! A *turn* of the agent is a row of clips, one for each sentence. Positions count samples over the whole turn. The
//! line counts in epochs; a ducked or cut turn goes on in a new epoch, from where it was last heard.

use std::collections::VecDeque;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use codecs::pcm::SampleRate;
use codecs::resample::Resampler;
use futures::StreamExt;

use super::event::{Fault, Part, Remedy};
use super::hearing::Failure;
use crate::history::words_heard;
use crate::line::Line;
use crate::usage::Meter;
use crate::voice::{SpeechStream, Voice, VoiceError, sentences};

/// No more than this is given to the line ahead of time.
const AHEAD_IN_LINE: Duration = Duration::from_millis(240);
/// No more than this is synthesised ahead of time.
const AHEAD: Duration = Duration::from_secs(20);
/// At most so many clips in one turn; more are not taken.
const MAX_CLIPS: usize = 200;
/// How far a resumed turn goes back, so that the word it was cut in is heard again.
const REWIND: Duration = Duration::from_millis(140);
/// How fast people and voices speak, to guess the length of what is not synthesised yet.
const LETTERS_PER_S: f64 = 14.0;

/// What comes of synthesis.
#[derive(Debug)]
pub(super) enum Spoken {
    /// The first audio of the turn is there.
    FirstAudio,
    /// More audio is there.
    More,
    /// A voice failed; another goes on.
    Failed(Failure),
    /// No voice is left.
    Lost(Failure),
}

struct Clip {
    text: String,
    /// Silence before the first sample, where it is not the turn's first clip.
    lead: usize,
    samples: Vec<i16>,
    done: bool,
    announced: bool,
}

impl Clip {
    fn len(&self) -> u64 {
        (self.lead + self.samples.len()) as u64
    }
}

struct Synthesis {
    stream: SpeechStream,
    resampler: Option<Resampler>,
    /// Since when audio is awaited.
    since: Duration,
}

pub(super) struct Speaking {
    voices: Vec<Arc<dyn Voice>>,
    preferred: usize,
    rate: SampleRate,
    first_limit: Duration,
    meter: Meter,
    clips: Vec<Clip>,
    /// The clip whose audio is being made.
    making: usize,
    synthesis: Option<Synthesis>,
    had_audio: bool,
    failed_clips: usize,
    /// Nothing goes to the line: the turn is not decided yet.
    held: bool,
    /// Position of the turn at which the line's present epoch began.
    epoch_base: u64,
    /// Position up to which audio was given to the line.
    fed: u64,
    /// Where the turn was ducked or cut: nothing is fed from there on.
    stopped_at: Option<u64>,
    waiting: VecDeque<Spoken>,
}

impl Speaking {
    pub(super) fn new(voices: Vec<Arc<dyn Voice>>, rate: SampleRate, first_limit: Duration, meter: Meter) -> Self {
        Self {
            voices,
            preferred: 0,
            rate,
            first_limit,
            meter,
            clips: Vec::new(),
            making: 0,
            synthesis: None,
            had_audio: false,
            failed_clips: 0,
            held: false,
            epoch_base: 0,
            fed: 0,
            stopped_at: None,
            waiting: VecDeque::new(),
        }
    }

    /// Another mouth with the same voices, to prepare a turn while this one may still be speaking.
    pub(super) fn another(&self) -> Self {
        let mut other = Self::new(self.voices.clone(), self.rate, self.first_limit, self.meter.clone());
        other.preferred = self.preferred;
        other.held = true;
        other
    }

    /// Prefers the voice that the other has come to.
    pub(super) fn prefer_as(&mut self, other: &Self) {
        self.preferred = other.preferred;
    }

    /// Begins to give audio to the line, in a new epoch.
    pub(super) fn release(&mut self, line: &mut impl Line) {
        if self.held {
            self.held = false;
            if line.queued_samples() > 0 || line.played_samples() > 0 {
                line.interrupt();
            }
            self.epoch_base = 0;
            self.fed = 0;
        }
        line.duck(1.0);
    }

    /// Adds a text to the turn.
    pub(super) fn add(&mut self, text: &str) {
        for text in sentences::split(text) {
            if self.clips.len() >= MAX_CLIPS {
                return;
            }
            let pause = self.clips.last().map_or(Duration::ZERO, |clip| sentences::pause_after(&clip.text));
            let lead = self.rate.samples_in(pause);
            self.clips.push(Clip { text, lead, samples: Vec::new(), done: false, announced: false });
        }
    }

    /// Nothing was ever added.
    pub(super) fn is_empty(&self) -> bool {
        self.clips.is_empty()
    }

    /// Any audio has been made.
    pub(super) fn has_audio(&self) -> bool {
        self.had_audio
    }

    /// All texts are synthesised (or given up).
    pub(super) fn made(&self) -> bool {
        self.making >= self.clips.len() && self.waiting.is_empty()
    }

    /// Every sample has been given to the line.
    pub(super) fn all_fed(&self) -> bool {
        self.made() && self.fed >= self.total()
    }

    /// Every sample has been heard.
    pub(super) fn all_heard(&self, line: &impl Line) -> bool {
        self.all_fed() && self.stopped_at.is_none() && self.position(line) >= self.total()
    }

    /// How far the turn was heard.
    pub(super) fn position(&self, line: &impl Line) -> u64 {
        match self.stopped_at {
            Some(at) => at,
            None if self.held => 0,
            None => (self.epoch_base + line.played_samples()).min(self.fed),
        }
    }

    /// The text heard so far, and whether that is all of it.
    pub(super) fn heard(&self, line: &impl Line) -> (String, bool) {
        let position = self.position(line);
        let mut from = 0;
        let mut texts = Vec::new();
        let mut all = true;
        for clip in &self.clips {
            let length = if clip.done { clip.len() } else { clip.len().max(self.guess(&clip.text)) };
            let to = from + length;
            if position >= to {
                texts.push(clip.text.clone());
            } else {
                all = false;
                let spoken = position.saturating_sub(from + clip.lead as u64);
                let part = words_heard(&clip.text, spoken, length - clip.lead as u64);
                if !part.is_empty() {
                    texts.push(part);
                }
                break;
            }
            from = to;
        }
        (texts.join(" "), all)
    }

    /// The sentences whose first sample has been heard since the last call.
    pub(super) fn begun(&mut self, line: &impl Line) -> Vec<String> {
        let position = self.position(line);
        let mut from = 0;
        let mut begun = Vec::new();
        for clip in &mut self.clips {
            if position <= from + clip.lead as u64 || clip.samples.is_empty() {
                break;
            }
            if !clip.announced {
                clip.announced = true;
                begun.push(clip.text.clone());
            }
            from += clip.len();
        }
        begun
    }

    /// The voice is lowered: from here on nothing counts as heard.
    pub(super) fn duck(&mut self, line: &mut impl Line, gain: f32) {
        if self.stopped_at.is_none() {
            self.stopped_at = Some(self.position(line));
        }
        line.duck(gain);
    }

    /// Cuts the turn off. It can still be resumed.
    pub(super) fn cut(&mut self, line: &mut impl Line) {
        if self.stopped_at.is_none() {
            self.stopped_at = Some(self.position(line));
        }
        line.interrupt();
        line.duck(1.0);
    }

    /// Goes on where the turn was ducked or cut.
    pub(super) fn resume(&mut self, line: &mut impl Line) {
        if let Some(at) = self.stopped_at {
            self.resume_at(at.saturating_sub(self.rate.samples_in(REWIND) as u64), line);
        }
    }

    /// Goes on with the sentence in which the turn was ducked or cut, from its beginning.
    pub(super) fn resume_sentence(&mut self, line: &mut impl Line) {
        let Some(at) = self.stopped_at else { return };
        let mut from = 0;
        for clip in &self.clips {
            let to = from + clip.len();
            if at < to {
                return self.resume_at(from, line);
            }
            from = to;
        }
        self.resume_at(at, line);
    }

    fn resume_at(&mut self, from: u64, line: &mut impl Line) {
        self.stopped_at = None;
        line.interrupt();
        line.duck(1.0);
        self.epoch_base = from;
        self.fed = from;
    }

    /// Gives the line as much as it should have.
    pub(super) fn feed(&mut self, line: &mut impl Line) {
        if self.held || self.stopped_at.is_some() {
            return;
        }
        let enough = self.rate.samples_in(AHEAD_IN_LINE);
        let mut room = enough.saturating_sub(line.queued_samples());
        let mut from = 0;
        for clip in &self.clips {
            let to = from + clip.len();
            let begun = clip.done || !clip.samples.is_empty();
            while begun && room > 0 && (from..to).contains(&self.fed) {
                let at = (self.fed - from) as usize;
                let taken = if at < clip.lead {
                    let silence = [0; 160];
                    line.say(silence.get(..(clip.lead - at).min(room).min(silence.len())).unwrap_or(&silence))
                } else {
                    let rest = clip.samples.get(at - clip.lead..).unwrap_or_default();
                    line.say(rest.get(..rest.len().min(room)).unwrap_or(rest))
                };
                if taken == 0 {
                    return;
                }
                self.fed += taken as u64;
                room = room.saturating_sub(taken);
            }
            // A clip still in the making is followed by nothing.
            if !clip.done {
                return;
            }
            from = to;
        }
    }

    /// What synthesis brings next; pending for ever when there is nothing to make. Cancel-safe.
    pub(super) async fn next(&mut self, now: Duration) -> Spoken {
        if let Some(spoken) = self.waiting.pop_front() {
            return spoken;
        }
        loop {
            if self.synthesis.is_none() && !self.begin(now) {
                if let Some(spoken) = self.waiting.pop_front() {
                    return spoken;
                }
                return pending().await;
            }
            if self.unheard() > AHEAD {
                return pending().await;
            }
            let Some(synthesis) = self.synthesis.as_mut() else { continue };
            let chunk = synthesis.stream.next().await;
            if let Some(spoken) = self.took(now, chunk) {
                return spoken;
            }
        }
    }

    /// Lets time pass: a voice that does not begin in time has failed.
    pub(super) fn tick(&mut self, now: Duration) {
        let far_ahead = self.unheard() > AHEAD;
        let Some(synthesis) = self.synthesis.as_mut() else { return };
        if far_ahead {
            synthesis.since = now;
        }
        let late = now.saturating_sub(synthesis.since) >= self.first_limit;
        if late {
            self.synthesis = None;
            self.failed(&format!("no audio within {} ms", self.first_limit.as_millis()), Fault::Ours);
        }
    }

    fn total(&self) -> u64 {
        self.clips.iter().map(Clip::len).sum()
    }

    fn unheard(&self) -> Duration {
        self.rate.duration_of(usize::try_from(self.total().saturating_sub(self.fed)).unwrap_or(usize::MAX))
    }

    fn guess(&self, text: &str) -> u64 {
        (text.chars().count() as f64 / LETTERS_PER_S * f64::from(self.rate.hz())) as u64
    }

    /// Begins to make the next clip; false when there is none.
    fn begin(&mut self, now: Duration) -> bool {
        while let Some(clip) = self.clips.get(self.making) {
            let Some(voice) = self.voices.get(self.preferred) else { return false };
            match voice.speak(&clip.text) {
                Ok(stream) => {
                    if let Some(worker) = stream.worker(voice.name()) {
                        self.meter.spoke(worker, &clip.text);
                    }
                    let resampler =
                        (voice.rate() != self.rate).then(|| Resampler::new(voice.rate(), self.rate)).transpose();
                    match resampler {
                        Ok(resampler) => self.synthesis = Some(Synthesis { stream, resampler, since: now }),
                        Err(error) => self.failed(&error.to_string(), Fault::Ours),
                    }
                    return self.synthesis.is_some();
                }
                // Nothing to pronounce in it is no failure.
                Err(VoiceError::Empty { .. }) => self.end_clip(),
                Err(error) => {
                    self.failed(&error.to_string(), fault_of(&error));
                    return false;
                }
            }
        }
        false
    }

    fn took(&mut self, now: Duration, chunk: Option<Result<Vec<i16>, VoiceError>>) -> Option<Spoken> {
        match chunk {
            Some(Ok(pcm)) => {
                let synthesis = self.synthesis.as_mut()?;
                // From now on the limit is for the next piece.
                synthesis.since = now;
                let pcm = resampled(synthesis, pcm);
                let clip = self.clips.get_mut(self.making)?;
                clip.samples.extend_from_slice(&pcm);
                let first = !self.had_audio && !pcm.is_empty();
                self.had_audio |= first;
                Some(if first { Spoken::FirstAudio } else { Spoken::More })
            }
            Some(Err(error)) => {
                self.synthesis = None;
                self.failed(&error.to_string(), fault_of(&error));
                self.waiting.pop_front()
            }
            None => {
                self.synthesis = None;
                self.end_clip();
                Some(Spoken::More)
            }
        }
    }

    fn end_clip(&mut self) {
        if let Some(clip) = self.clips.get_mut(self.making) {
            clip.done = true;
        }
        self.making += 1;
    }

    /// The next voice goes on with what this one did not speak; with no voice left the rest is lost.
    fn failed(&mut self, reason: &str, fault: Fault) {
        let provider = self.voices.get(self.preferred).map_or_else(String::new, |voice| voice.name().to_owned());
        let failure = |remedy| Failure {
            part: Part::Voice,
            provider: provider.clone(),
            reason: reason.to_owned(),
            fault,
            remedy,
        };
        self.failed_clips += 1;
        let more = self.preferred + 1 < self.voices.len();
        if !more && self.failed_clips > self.voices.len() {
            // What made no sound is no part of the turn.
            let sounded = self.clips.get(self.making).is_some_and(|clip| !clip.samples.is_empty());
            self.clips.truncate(self.making + usize::from(sounded));
            self.clips.iter_mut().for_each(|clip| clip.done = true);
            self.making = self.clips.len();
            self.waiting.push_back(Spoken::Lost(failure(Remedy::GaveUp)));
            return;
        }
        self.preferred += usize::from(more);
        self.split_at_failure();
        let remedy = if more { Remedy::OtherProvider } else { Remedy::Retried };
        self.waiting.push_back(Spoken::Failed(failure(remedy)));
    }

    /// What was spoken of the failing clip stays; the rest of its words becomes a clip of its own.
    fn split_at_failure(&mut self) {
        let letters = self.rate.hz() as f64 / LETTERS_PER_S;
        let Some(clip) = self.clips.get_mut(self.making) else { return };
        if clip.samples.is_empty() {
            return;
        }
        let total = (clip.text.chars().count() as f64 * letters) as u64;
        let spoken = words_heard(&clip.text, clip.samples.len() as u64, total);
        let count = spoken.split_whitespace().count();
        let rest: Vec<&str> = clip.text.split_whitespace().skip(count).collect();
        let rest = rest.join(" ");
        clip.text = spoken;
        self.end_clip();
        if !rest.is_empty() {
            let clip = Clip { text: rest, lead: 0, samples: Vec::new(), done: false, announced: false };
            self.clips.insert(self.making.min(self.clips.len()), clip);
        }
    }
}

fn resampled(synthesis: &mut Synthesis, pcm: Vec<i16>) -> Vec<i16> {
    let Some(resampler) = synthesis.resampler.as_mut() else { return pcm };
    let mut out = vec![0; resampler.max_output(pcm.len())];
    let made = resampler.process(&pcm, &mut out);
    out.truncate(made);
    out
}

fn fault_of(error: &VoiceError) -> Fault {
    if error.is_upstream() { Fault::Upstream } else { Fault::Ours }
}
