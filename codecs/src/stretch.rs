//! Sound made shorter or longer by a pitch period, without a change of its pitch (WSOLA, after Verhelst and Roelands,
//! "An overlap-add technique based on waveform similarity", ICASSP 1993).
//!
//! Sound waits in a buffer behind what was played of it last. [`shorten`] finds the distance at which what comes next
//! resembles most what comes now, and cross-fades over to there; [`lengthen`] the same backwards, so that a piece is
//! heard twice. Where nothing is alike (consonants, noise, music) it is left as it is, unless there is [`Haste`]; in
//! quiet any distance will do. At most 15 ms come or go at once.
//!
//! Nothing is allocated or remembered.

use crate::SampleRate;
use crate::pcm::saturate;

/// Played sound that there has to be before what waits, in milliseconds: the longest distance, and what is compared at it.
pub const PAST_MS: u32 = 20;
/// Distances looked at, in tenths of a millisecond: 400 Hz down to 66 Hz. Higher voices are found at a multiple of their period.
const SHORTEST_TENTHS_MS: u32 = 25;
const LONGEST_TENTHS_MS: u32 = 150;
/// What is compared: so much before the splice, and so much behind.
const COMPARED_MS: (u32, u32) = (5, 5);
/// The cross-fade: at least what is compared behind the splice, at most this.
const FADE_MS: u32 = 10;
/// A mean square below this is quiet: -50 dBov.
const QUIET_MEAN_SQUARE: f64 = 10_000.0;
/// The rate, roughly, at which is searched before it is looked closely.
const COARSE_HZ: u32 = 4_000;

/// How alike two pieces have to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Haste {
    /// Only quiet is stretched.
    OnlyInQuiet,
    /// Very: nobody should hear it.
    None,
    /// Somewhat: it may be heard a little.
    Some,
    /// Not at all: the alternative is a gap.
    Great,
}

impl Haste {
    const fn least_correlation(self) -> f32 {
        match self {
            Self::OnlyInQuiet => f32::MAX,
            Self::None => 0.75,
            Self::Some => 0.4,
            Self::Great => f32::MIN,
        }
    }
}

/// Makes what waits in `buffer` from `at` on shorter, by at most `most` samples; before `at` is what was played last. Returns by how many samples: the
/// sound ends so much before the end of `buffer` now. 0 where it is too short (7.5 ms) or nothing is alike.
pub fn shorten(rate: SampleRate, buffer: &mut [i16], at: usize, most: usize, haste: Haste) -> usize {
    let ahead = rate.samples_in_ms(COMPARED_MS.1);
    let end = buffer.len();
    let room = end.saturating_sub(at).saturating_sub(ahead);
    let longest = tenths(rate, LONGEST_TENTHS_MS).min(most).min(room);
    let Some(from) = at.checked_sub(rate.samples_in_ms(COMPARED_MS.0)) else { return 0 };
    let Some(lag) = best_lag(rate, buffer, from..at + ahead, longest, haste, |place, lag| place.checked_add(lag))
    else {
        return 0;
    };
    let fade = rate.samples_in_ms(FADE_MS).min(end - at - lag);
    for step in 0..fade {
        let (Some(&old), Some(&new)) = (buffer.get(at + step), buffer.get(at + step + lag)) else { break };
        if let Some(place) = buffer.get_mut(at + step) {
            *place = mixed(old, new, step, fade);
        }
    }
    buffer.copy_within(at + fade + lag..end, at + fade);
    lag
}

/// Makes what waits in `buffer` from `at` to `end` longer; before `at` is what was played last, at least [`PAST_MS`] of
/// it, and behind `end` there is room. Returns by how many samples. 0 where there is no room, less than 5 ms wait,
/// or nothing is alike.
pub fn lengthen(rate: SampleRate, buffer: &mut [i16], at: usize, end: usize, haste: Haste) -> usize {
    let (behind, ahead) = (rate.samples_in_ms(COMPARED_MS.0), rate.samples_in_ms(COMPARED_MS.1));
    let room = buffer.len().saturating_sub(end).min(at.saturating_sub(behind));
    let longest = tenths(rate, LONGEST_TENTHS_MS).min(room);
    let (Some(from), true) = (at.checked_sub(behind), at + ahead <= end) else { return 0 };
    let Some(lag) = best_lag(rate, buffer, from..at + ahead, longest, haste, |place, lag| place.checked_sub(lag))
    else {
        return 0;
    };
    let fade = rate.samples_in_ms(FADE_MS).min(end - at);
    buffer.copy_within(at + fade - lag.min(at + fade)..end, at + fade);
    // from the last on: those before are still to be read
    for step in (0..fade).rev() {
        let (Some(&old), Some(&new)) = (buffer.get(at + step), buffer.get((at + step).wrapping_sub(lag))) else {
            break;
        };
        if let Some(place) = buffer.get_mut(at + step) {
            *place = mixed(old, new, step, fade);
        }
    }
    lag
}

/// The distance of at most `longest` at which the sound is most like that in `here`: first in steps of about 4 kHz, then
/// exactly. `None` where it is not alike enough.
fn best_lag(
    rate: SampleRate,
    buffer: &[i16],
    here: std::ops::Range<usize>,
    longest: usize,
    haste: Haste,
    there: impl Fn(usize, usize) -> Option<usize>,
) -> Option<usize> {
    let shortest = tenths(rate, SHORTEST_TENTHS_MS).max(1);
    if longest < shortest {
        return None;
    }
    let size = here.len();
    let reference = buffer.get(here.clone())?;
    if crate::pcm::mean_square(reference) < QUIET_MEAN_SQUARE {
        let other = there(here.start, longest).and_then(|from| buffer.get(from..from + size))?;
        if crate::pcm::mean_square(other) < QUIET_MEAN_SQUARE {
            return Some(longest);
        }
    }
    if haste == Haste::OnlyInQuiet {
        return None;
    }
    let thinning = (rate.hz() / COARSE_HZ).max(1) as usize;
    let alike = |lag: usize, step: usize| {
        let other = there(here.start, lag).and_then(|from| buffer.get(from..from + size));
        other.map_or(f32::MIN, |other| correlation(reference, other, step))
    };
    let best_of = |lags: &mut dyn Iterator<Item = usize>, step: usize| {
        let mut best = (shortest, f32::MIN);
        for lag in lags {
            let found = alike(lag, step);
            if found > best.1 {
                best = (lag, found);
            }
        }
        best
    };
    let (near, _) = best_of(&mut (shortest..=longest).step_by(thinning), thinning);
    let (lag, found) = best_of(&mut (near.saturating_sub(thinning).max(shortest)..=(near + thinning).min(longest)), 1);
    (found >= haste.least_correlation()).then_some(lag)
}

/// Normalised correlation of two pieces of one length, thinned out by sums of `step` samples.
fn correlation(a: &[i16], b: &[i16], step: usize) -> f32 {
    let sum = |chunk: &[i16]| chunk.iter().map(|&sample| i32::from(sample)).sum::<i32>() as f32;
    let (mut product, mut own, mut other) = (0.0_f32, 1.0_f32, 1.0_f32);
    for (a, b) in a.chunks_exact(step).zip(b.chunks_exact(step)) {
        let (a, b) = (sum(a), sum(b));
        product += a * b;
        own += a * a;
        other += b * b;
    }
    product / (own * other).sqrt()
}

fn mixed(old: i16, new: i16, step: usize, fade: usize) -> i16 {
    let (old, new) = (i32::from(old), i32::from(new));
    saturate(old + (new - old) * (step as i32 + 1) / (fade as i32 + 1))
}

fn tenths(rate: SampleRate, tenths_ms: u32) -> usize {
    (u64::from(rate.hz()) * u64::from(tenths_ms) / 10_000) as usize
}
