//! What a recording alone tells: who spoke when, how long the answers took, how fast the agent fell silent.
//!
//! It reads the wire audio (stereo, caller left, agent right) and nothing else, so its figures hold whatever the
//! program believed of itself. By energy, in frames of [`FRAME_MS`], without chance:
//!
//! 1. A frame is *sound* when its RMS is over the side's threshold: 12 dB over the side's noise (its tenth percentile),
//!    within -50 to -35 dBFS.
//! 2. *Speech* begins where sound lasts [`ONSET_MS`] and ends at its last frame of sound; pauses of less than
//!    [`HANGOVER_MS`] do not end it; speech of less than [`SHORTEST_MS`] is a click.
//! 3. An *answer* is agent's speech that follows caller's speech, with the agent silent since the caller began to be
//!    last; its *gap* runs from the caller's last sound to the agent's first.
//! 4. An *interruption* is caller's speech that begins while the agent speaks and after which the agent falls silent
//!    within [`INTERRUPTION_MS`], and stays so while the caller speaks; it *took* from that onset to the agent's last sound.

use agent::history::Speaker;
use agent::session::{Means, TurnRecord};
use serde::{Deserialize, Serialize};

use super::sound::{FRAME_MS, Frame, Sound};

/// Sound of this length begins speech.
pub const ONSET_MS: f64 = 15.0;
/// Silence of less than this is a pause inside speech.
pub const HANGOVER_MS: f64 = 200.0;
/// Speech of less than this is a click.
pub const SHORTEST_MS: f64 = 40.0;
/// The agent has spoken for so long before it can be interrupted.
pub const UNDERWAY_MS: f64 = 200.0;
/// An agent who speaks on for so long was not interrupted.
pub const INTERRUPTION_MS: f64 = 1_000.0;

const LOWEST_THRESHOLD_DBFS: f32 = -50.0;
const HIGHEST_THRESHOLD_DBFS: f32 = -35.0;
const OVER_NOISE_DB: f32 = 12.0;

/// A stretch of speech, in ms from the recording's beginning.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Speech {
    /// Its first sound.
    pub start_ms: f64,
    /// Its last sound.
    pub end_ms: f64,
}

/// The agent's speech after the caller's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The caller's last sound.
    pub caller_end_ms: f64,
    /// The agent's first sound.
    pub agent_start_ms: f64,
    /// Between the two; negative where the agent spoke before the caller was done.
    pub gap_ms: f64,
}

/// The caller's speech that silenced the agent.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interruption {
    /// The caller's onset.
    pub onset_ms: f64,
    /// The agent's last sound.
    pub silent_ms: f64,
    /// Between the two.
    pub took_ms: f64,
}

/// All that a recording tells.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Measured {
    /// The recording's length.
    pub duration_ms: f64,
    /// The caller's speech.
    pub caller: Vec<Speech>,
    /// The agent's speech.
    pub agent: Vec<Speech>,
    /// Answers in order.
    pub answers: Vec<Answer>,
    /// Interruptions in order.
    pub interruptions: Vec<Interruption>,
}

impl Answer {
    fn begins(&self, at_ms: f64) -> bool {
        (self.agent_start_ms - at_ms).abs() < HANGOVER_MS
    }
}

/// Middle and edge of a set of times.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// How many.
    pub count: usize,
    /// Half are at most this.
    pub median_ms: f64,
    /// 95 of 100 are at most this.
    pub p95_ms: f64,
    /// None is more.
    pub max_ms: f64,
}

impl Measured {
    /// Measures a recording.
    #[must_use]
    pub fn of(sound: &Sound) -> Self {
        let (caller, agent) = (speech(&sound.caller), speech(&sound.agent));
        let answers = answers(&caller, &agent);
        let interruptions = interruptions(&caller, &agent);
        Self { duration_ms: sound.duration_ms(), caller, agent, answers, interruptions }
    }

    /// Leaves out what the record knows to be no answer to speech: what the agent said to a key, which is not to be
    /// heard, or unasked, after silence. Returns what to add to the record's times to be on the recording's.
    pub fn agree_with(&mut self, turns: &[TurnRecord]) -> f64 {
        let offset_ms = offset_ms(turns, &self.agent);
        self.answers.retain(|answer| {
            let begun = |turn: &&TurnRecord| turn.who == Speaker::Agent && answer.begins(turn.started_ms + offset_ms);
            turns.iter().find(begun).is_none_or(|turn| turn.by == Means::Speech)
        });
        offset_ms
    }

    /// The gaps' spread.
    #[must_use]
    pub fn gaps(&self) -> Option<Spread> {
        Spread::of(self.answers.iter().map(|answer| answer.gap_ms))
    }

    /// The spread of how long the agent took to fall silent.
    #[must_use]
    pub fn silencing(&self) -> Option<Spread> {
        Spread::of(self.interruptions.iter().map(|interruption| interruption.took_ms))
    }
}

impl Spread {
    /// Of these times, by nearest rank; `None` of nothing.
    #[must_use]
    pub fn of(times_ms: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut times: Vec<f64> = times_ms.into_iter().collect();
        times.sort_by(f64::total_cmp);
        let rank = |share: f64| times.get(((times.len() as f64 * share).ceil() as usize).saturating_sub(1)).copied();
        Some(Self { count: times.len(), median_ms: rank(0.5)?, p95_ms: rank(0.95)?, max_ms: *times.last()? })
    }
}

/// The middle of what the agent's turns are off by from the agent's sound.
fn offset_ms(turns: &[TurnRecord], agent: &[Speech]) -> f64 {
    const FAR_MS: f64 = 1_000.0;
    let off = turns.iter().filter(|turn| turn.who == Speaker::Agent).filter_map(|turn| {
        let nearest = agent.iter().map(|speech| speech.start_ms - turn.started_ms);
        nearest.min_by(|a, b| a.abs().total_cmp(&b.abs())).filter(|off| off.abs() < FAR_MS)
    });
    Spread::of(off).map_or(0.0, |off| off.median_ms)
}

fn speech(frames: &[Frame]) -> Vec<Speech> {
    let threshold = threshold(frames);
    let mut found: Vec<Speech> = Vec::new();
    let mut run_start: Option<usize> = None;
    for index in 0..=frames.len() {
        if frames.get(index).is_some_and(|frame| frame.mean_square >= threshold) {
            run_start.get_or_insert(index);
            continue;
        }
        let Some(start) = run_start.take() else { continue };
        let run = Speech { start_ms: start as f64 * FRAME_MS, end_ms: index as f64 * FRAME_MS };
        match found.last_mut() {
            // Inside speech any sound counts: words end softly and in bits.
            Some(last) if run.start_ms - last.end_ms < HANGOVER_MS => last.end_ms = run.end_ms,
            _ if run.end_ms - run.start_ms >= ONSET_MS => found.push(run),
            _ => {}
        }
    }
    found.retain(|speech| speech.end_ms - speech.start_ms >= SHORTEST_MS);
    found
}

/// The mean square over which a frame is sound.
fn threshold(frames: &[Frame]) -> f32 {
    let mut levels: Vec<f32> = frames.iter().map(|frame| frame.mean_square).collect();
    levels.sort_by(f32::total_cmp);
    let noise = levels.get(levels.len() / 10).copied().unwrap_or(0.0);
    let power = |decibels: f32| 10f32.powf(decibels / 10.0);
    (noise * power(OVER_NOISE_DB)).clamp(power(LOWEST_THRESHOLD_DBFS), power(HIGHEST_THRESHOLD_DBFS))
}

fn answers(caller: &[Speech], agent: &[Speech]) -> Vec<Answer> {
    let mut answers = Vec::new();
    let mut silent_since = 0.0;
    for said in agent {
        // The caller's last words before this: begun before it, and not over while the agent still spoke before.
        let heard = caller.iter().rev().find(|heard| heard.start_ms < said.start_ms);
        if let Some(heard) = heard.filter(|heard| heard.end_ms > silent_since) {
            answers.push(Answer {
                caller_end_ms: heard.end_ms,
                agent_start_ms: said.start_ms,
                // Samples are finer than any figure of them.
                gap_ms: ((said.start_ms - heard.end_ms) * 10.0).round() / 10.0,
            });
        }
        silent_since = said.end_ms;
    }
    // The caller's words may go on under two of the agent's: the later is the answer.
    answers.dedup_by(|later, earlier| {
        let same = later.caller_end_ms == earlier.caller_end_ms;
        if same {
            *earlier = *later;
        }
        same
    });
    answers
}

fn interruptions(caller: &[Speech], agent: &[Speech]) -> Vec<Interruption> {
    let mut found = Vec::new();
    for heard in caller {
        let onset_ms = heard.start_ms;
        let under = agent.iter().find(|said| said.start_ms + UNDERWAY_MS < onset_ms && onset_ms < said.end_ms);
        let Some(under) = under.filter(|said| said.end_ms - onset_ms <= INTERRUPTION_MS) else { continue };
        let resumed = agent.iter().any(|said| said.start_ms > under.end_ms && said.start_ms < heard.end_ms);
        if !resumed {
            found.push(Interruption { onset_ms, silent_ms: under.end_ms, took_ms: under.end_ms - onset_ms });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use codecs::pcm::SampleRate;

    const RATE: usize = 8;

    /// A recording from stretches of tone, in ms, over a noise.
    fn recording(duration_ms: usize, noise: f64, caller: &[(usize, usize)], agent: &[(usize, usize)]) -> Sound {
        let mut seed = 1_u32;
        let mut side = |spans: &[(usize, usize)]| -> Vec<i16> {
            let sample = |n: usize| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let hiss = (f64::from(seed >> 16) / 32_768.0 - 1.0) * noise;
                let inside = spans.iter().any(|(start, end)| (start * RATE..end * RATE).contains(&n));
                let tone = if inside { (n as f64 * 0.7).sin() * 6_000.0 } else { 0.0 };
                (hiss + tone) as i16
            };
            (0..duration_ms * RATE).map(sample).collect()
        };
        let (caller, agent) = (side(caller), side(agent));
        Sound::of(SampleRate::HZ_8000, caller.into_iter().zip(agent))
    }

    fn close(times: &[f64], expected: &[f64]) -> bool {
        times.len() == expected.len() && times.iter().zip(expected).all(|(a, b)| (a - b).abs() <= FRAME_MS)
    }

    #[test]
    fn gaps_run_from_the_callers_last_sound_to_the_agents_first() {
        for noise in [0.0, 5.0, 60.0, 200.0] {
            let caller = [(2_000, 2_600), (2_750, 3_200), (7_000, 7_900)];
            let agent = [(200, 1_500), (3_533, 5_000), (5_400, 6_000), (8_301, 9_000)];
            let measured = Measured::of(&recording(10_000, noise, &caller, &agent));
            assert_eq!((measured.caller.len(), measured.agent.len()), (2, 4), "noise {noise}");
            let gaps: Vec<f64> = measured.answers.iter().map(|answer| answer.gap_ms).collect();
            assert!(close(&gaps, &[333.0, 401.0]), "noise {noise}: {gaps:?}");
            assert!(measured.interruptions.is_empty());
        }
    }

    #[test]
    fn an_interruption_took_from_the_callers_onset_to_the_agents_last_sound() {
        let measured = Measured::of(&recording(6_000, 5.0, &[(2_000, 3_000)], &[(500, 2_117), (3_400, 4_500)]));
        let took: Vec<f64> = measured.interruptions.iter().map(|it| it.took_ms).collect();
        assert!(close(&took, &[117.0]), "{took:?}");
        let gaps: Vec<f64> = measured.answers.iter().map(|answer| answer.gap_ms).collect();
        assert!(close(&gaps, &[400.0]), "{gaps:?}");
    }

    #[test]
    fn a_backchannel_is_neither_an_interruption_nor_answered() {
        let measured = Measured::of(&recording(8_000, 5.0, &[(2_000, 2_300)], &[(500, 4_000), (4_300, 6_000)]));
        assert_eq!(measured.caller.len(), 1);
        assert!(measured.interruptions.is_empty() && measured.answers.is_empty());
    }

    #[test]
    fn an_agent_that_pauses_and_goes_on_under_the_caller_was_not_interrupted() {
        let measured = Measured::of(&recording(8_000, 0.0, &[(2_000, 4_000)], &[(500, 2_300), (2_600, 5_000)]));
        assert!(measured.interruptions.is_empty());
        let gaps: Vec<f64> = measured.answers.iter().map(|answer| answer.gap_ms).collect();
        assert!(close(&gaps, &[-1_400.0]), "an agent that talks over the caller: {gaps:?}");
    }

    #[test]
    fn clicks_and_steady_noise_are_no_speech() {
        let clicks: Vec<(usize, usize)> = (0..10).map(|n| (n * 500, n * 500 + 10)).collect();
        let measured = Measured::of(&recording(6_000, 100.0, &clicks, &[]));
        assert!(measured.caller.is_empty() && measured.agent.is_empty());
        assert_eq!(Measured::of(&recording(0, 0.0, &[], &[])), Measured::default());
    }

    #[test]
    fn spreads_are_by_nearest_rank() {
        assert_eq!(Spread::of([]), None);
        let spread = Spread::of((1..=100).rev().map(f64::from)).unwrap();
        assert_eq!(spread, Spread { count: 100, median_ms: 50.0, p95_ms: 95.0, max_ms: 100.0 });
        assert_eq!(Spread::of([7.0]).unwrap().p95_ms, 7.0);
    }
}
