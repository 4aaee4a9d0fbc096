//! Concealment of lost audio by repeating the last pitch periods (after the manner of ITU-T G.711,
//! appendix I, but without its delay of 3.75 ms).
//!
//! At a loss the period of the last audio is found by correlation, and the newest period is
//! repeated; after 10 ms two periods are repeated, after the next round three, so that a held sound
//! does not buzz. Each repetition is lifted to begin where the sample before it left off, so there
//! is no click. From 10 ms on the sound fades, to silence at 60 ms. When audio comes back it is
//! cross-faded with the repetition over 4 to 10 ms.
//!
//! Memory: 94 ms of audio on the heap (1.5 KiB at 8 kHz), allocated by [`Concealer::new`] only.

use crate::SampleRate;
use crate::pcm::saturate;

/// Shortest and longest period looked for: 200 Hz down to 66 Hz. Higher voices are found at a
/// multiple of their period, which repeats as well.
const SHORTEST_MS: u32 = 5;
const LONGEST_MS: u32 = 15;
/// Newest audio that the period is looked for in.
const TEMPLATE_MS: u32 = 20;
/// Audio remembered: three of the longest periods, and one sample before them.
const HISTORY_MS: u32 = 46;
/// Concealed audio keeps its level for so long, then fades.
const HOLD_MS: u32 = 10;
/// Concealed audio is silent from here on.
const SILENT_MS: u32 = 60;
/// Cross-fade on return: the first after a loss up to 10 ms; the second at most.
const RETURN_MS: (u32, u32) = (4, 10);
/// The repetition's lift to the sample before it dies down over this part of a period.
const LIFT_PART: usize = 4;
/// Under this correlation there is no pitch, and the longest period is repeated: noise that
/// repeats at once sounds like a buzz.
const WEAK_CORRELATION: f32 = 0.4;
/// Rate, roughly, at which the period is first looked for.
const COARSE_HZ: u32 = 4_000;
/// Room for [`HISTORY_MS`] at the coarse rate, which is under 6 kHz for any rate from 8 kHz on.
const COARSE_ROOM: usize = 288;

/// Remembers good audio, and makes up more of the same.
#[derive(Clone, Debug)]
pub struct Concealer {
    rate: SampleRate,
    /// The newest audio put out, good or made up; newest last.
    history: Box<[i16]>,
    /// The history as it was when the loss began.
    source: Box<[i16]>,
    /// Samples made up since the last good one.
    lost: usize,
    /// Pitch period of this loss, in samples.
    period: usize,
    /// Samples repeated in this round, of how many, and the lift at its beginning.
    at: usize,
    span: usize,
    lift: i32,
}

impl Concealer {
    /// A concealer for audio at `rate` (8 kHz or more; a lower rate is concealed with silence).
    #[must_use]
    pub fn new(rate: SampleRate) -> Self {
        let length = rate.samples_in_ms(HISTORY_MS) + 1;
        Self {
            rate,
            history: vec![0; length].into_boxed_slice(),
            source: vec![0; length].into_boxed_slice(),
            lost: 0,
            period: 0,
            at: 0,
            span: 0,
            lift: 0,
        }
    }

    /// Takes good audio, just decoded, in order. After a loss its first milliseconds are mixed
    /// with the concealment, in place, so that the join is not heard.
    pub fn good(&mut self, pcm: &mut [i16]) {
        if self.lost > 0 && !pcm.is_empty() {
            let fade = self.return_samples().min(pcm.len());
            for (step, sample) in pcm.iter_mut().take(fade).enumerate() {
                let old = i32::from(self.repeat());
                let new = i32::from(*sample);
                let (step, whole) = (step as i32 + 1, fade as i32 + 1);
                *sample = saturate(old + (new - old) * step / whole);
            }
            self.lost = 0;
        }
        remember(&mut self.history, pcm);
    }

    /// Fills `out` with made-up audio that follows what came before.
    pub fn conceal(&mut self, out: &mut [i16]) {
        if out.is_empty() {
            return;
        }
        if self.lost == 0 {
            self.begin();
        }
        let silent = self.rate.samples_in_ms(SILENT_MS);
        let audible = silent.saturating_sub(self.lost).min(out.len());
        let (loud, quiet) = out.split_at_mut(audible);
        for sample in loud {
            *sample = self.repeat();
        }
        self.lost = self.lost.saturating_add(quiet.len());
        quiet.fill(0);
        remember(&mut self.history, out);
    }

    /// Samples made up since the last good one.
    #[must_use]
    pub const fn concealed_samples(&self) -> usize {
        self.lost
    }

    /// Forgets everything: the next audio has nothing to do with the last.
    pub fn reset(&mut self) {
        self.history.fill(0);
        self.lost = 0;
    }

    fn begin(&mut self) {
        self.source.copy_from_slice(&self.history);
        self.period = self.find_period();
        self.begin_round();
    }

    /// One more round over the newest one, two or three periods.
    fn begin_round(&mut self) {
        let hold = self.rate.samples_in_ms(HOLD_MS);
        let rounds = match self.lost {
            lost if lost < hold => 1,
            lost if lost < 2 * hold => 2,
            _ => 3,
        };
        self.at = 0;
        self.span = (self.period * rounds).min(self.source.len().saturating_sub(1));
        let before = self.newest_at(self.span + 1);
        self.lift = self.newest_at(1) - before;
    }

    /// The next made-up sample, faded.
    fn repeat(&mut self) -> i16 {
        if self.span == 0 {
            self.lost = self.lost.saturating_add(1);
            return 0;
        }
        if self.at == self.span {
            self.begin_round();
        }
        let lift_samples = (self.period / LIFT_PART).max(1);
        let left = lift_samples.saturating_sub(self.at) as i32;
        let sample = self.newest_at(self.span - self.at) + self.lift * left / lift_samples as i32;
        let gain = self.gain();
        self.at += 1;
        self.lost = self.lost.saturating_add(1);
        saturate((sample * gain) >> 14)
    }

    /// Gain of the next made-up sample, 16384 for one.
    fn gain(&self) -> i32 {
        let hold = self.rate.samples_in_ms(HOLD_MS);
        let silent = self.rate.samples_in_ms(SILENT_MS);
        let left = silent.saturating_sub(self.lost).min(silent - hold);
        ((left << 14) / (silent - hold).max(1)) as i32
    }

    /// The sample `back` samples before the end of the source; 1 is the newest.
    fn newest_at(&self, back: usize) -> i32 {
        let at = self.source.len().checked_sub(back);
        at.and_then(|at| self.source.get(at)).copied().map_or(0, i32::from)
    }

    fn return_samples(&self) -> usize {
        let (least, most) = RETURN_MS;
        let lost_ms = self.rate.duration_of(self.lost).as_millis();
        let extra = u32::try_from(lost_ms).unwrap_or(u32::MAX).saturating_sub(10) / 3;
        self.rate.samples_in_ms(least.saturating_add(extra).min(most))
    }

    /// The pitch period of the newest audio: first roughly, on audio thinned out to about 4 kHz,
    /// then exactly around it.
    fn find_period(&self) -> usize {
        let thinning = (self.rate.hz() / COARSE_HZ) as usize;
        let shortest = self.rate.samples_in_ms(SHORTEST_MS);
        let longest = self.rate.samples_in_ms(LONGEST_MS);
        let template = self.rate.samples_in_ms(TEMPLATE_MS);
        if thinning < 2 {
            return 0;
        }
        let mut room = [0.0_f32; COARSE_ROOM];
        let chunks = self.source.rchunks_exact(thinning).take(COARSE_ROOM);
        let mut used = 0;
        for (coarse, chunk) in room.iter_mut().rev().zip(chunks) {
            *coarse = chunk.iter().map(|&s| f32::from(s)).sum();
            used += 1;
        }
        let coarse = room.get(COARSE_ROOM - used..).unwrap_or_default();
        let lags = shortest / thinning..=longest / thinning;
        let (lag, correlation) = best_lag(coarse, template / thinning, lags);
        if correlation < WEAK_CORRELATION {
            return longest;
        }
        let near = lag * thinning;
        let lags = (near - thinning).max(shortest)..=(near + thinning).min(longest);
        best_fine_lag(&self.source, template, lags)
    }
}

/// Moves `pcm` into the end of `history`.
fn remember(history: &mut [i16], pcm: &[i16]) {
    let keep = history.len().saturating_sub(pcm.len());
    let dropped = history.len() - keep;
    history.copy_within(dropped.., 0);
    let newest = &pcm[pcm.len() - dropped..];
    history[keep..].copy_from_slice(newest);
}

/// The lag at which the last `template` samples best resemble what was before, and how well: the
/// normalised correlation, 0 where there is no signal.
fn best_lag(signal: &[f32], template: usize, lags: std::ops::RangeInclusive<usize>) -> (usize, f32) {
    let mut best = (*lags.end(), 0.0_f32);
    let start = signal.len().saturating_sub(template);
    let newest = &signal[start..];
    let own: f32 = newest.iter().map(|s| s * s).sum();
    for lag in lags {
        let Some(from) = start.checked_sub(lag) else {
            break;
        };
        let earlier = &signal[from..from + newest.len()];
        let mut product = 0.0_f32;
        let mut energy = 0.0_f32;
        for (a, b) in newest.iter().zip(earlier) {
            product += a * b;
            energy += b * b;
        }
        let scale = (own * energy).sqrt();
        let correlation = if scale > 0.0 { product / scale } else { 0.0 };
        if correlation > best.1 {
            best = (lag, correlation);
        }
    }
    best
}

/// As [`best_lag`], on whole samples.
fn best_fine_lag(signal: &[i16], template: usize, lags: std::ops::RangeInclusive<usize>) -> usize {
    let mut best = (*lags.end(), f64::MIN);
    let start = signal.len().saturating_sub(template);
    let newest = &signal[start..];
    for lag in lags {
        let Some(from) = start.checked_sub(lag) else {
            break;
        };
        let earlier = &signal[from..from + newest.len()];
        let mut product = 0_i64;
        let mut energy = 1_i64;
        for (&a, &b) in newest.iter().zip(earlier) {
            product += i64::from(i32::from(a) * i32::from(b));
            energy += i64::from(i32::from(b) * i32::from(b));
        }
        let score = product as f64 / (energy as f64).sqrt();
        if score > best.1 {
            best = (lag, score);
        }
    }
    best.0
}
