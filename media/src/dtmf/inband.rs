//! Keys as tones in the sound itself (ITU-T Q.23), for peers that did not agree to events: each a pair of tones, told from speech by its
//! purity and its length (ITU-T Q.24).
//!
//! Sound is looked at in blocks of 12.75 ms. A key is there with two blocks in a row (a tone of 40 ms has them), and over with two that
//! do not have it. No allocation, no clock.

use std::f32::consts::TAU;
use std::time::Duration;

use codecs::pcm::SampleRate;

/// Samples in a block at 8 kHz: the tones' frequencies lie apart by more than its resolution.
const BLOCK: usize = 102;
const RATE_HZ: f32 = 8_000.0;
/// Low and high tones, and the keys at their crossings.
const LOW_HZ: [f32; 4] = [697.0, 770.0, 852.0, 941.0];
const HIGH_HZ: [f32; 4] = [1_209.0, 1_336.0, 1_477.0, 1_633.0];
const KEYS: [[char; 4]; 4] = [['1', '2', '3', 'A'], ['4', '5', '6', 'B'], ['7', '8', '9', 'C'], ['*', '0', '#', 'D']];
/// A tone has at least this amplitude, of 32768: -45 dB.
const LEAST_AMPLITUDE: f32 = 180.0;
/// One tone may be stronger than the other by 8 dB.
const TWIST: f32 = 6.3;
/// And stronger than every other of its group by as much.
const ABOVE_OTHERS: f32 = 6.3;
/// The pair is this share of all that is heard.
const PURITY: f32 = 0.8;
/// Blocks without the key that end it.
const BLOCKS_TO_END: u8 = 2;

/// A key that was pressed, and let go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InbandKey {
    /// `0`-`9`, `*`, `#`, `A`-`D`.
    pub digit: char,
    /// How long it sounded.
    pub duration: Duration,
    /// How many samples ago, at the receiver's rate, it began; counted from the end of what was given last.
    pub began_samples_ago: usize,
}

/// Listens for keys in sound.
#[derive(Debug, Clone)]
pub struct InbandReceiver {
    /// Samples at the rate given for one at 8 kHz; sound of other rates is not listened to.
    step: usize,
    held: i32,
    held_count: usize,
    turns: [f32; 8],
    block: [f32; BLOCK],
    count: usize,
    /// What the block before had.
    last: Option<char>,
    /// The key that sounds, and since how many blocks.
    sounding: Option<(char, usize)>,
    missing: u8,
}

/// What the filters (Goertzel) of the eight tones multiply by.
fn turns() -> [f32; 8] {
    let mut turns = [0.0; 8];
    for (place, hz) in turns.iter_mut().zip(LOW_HZ.into_iter().chain(HIGH_HZ)) {
        *place = 2.0 * (TAU * hz / RATE_HZ).cos();
    }
    turns
}

/// The amplitude of each tone in a block, squared: the filters run side by side, so that one instruction serves several.
fn powers(block: &[f32; BLOCK], turns: &[f32; 8]) -> [f32; 8] {
    let (mut a, mut b) = ([0.0_f32; 8], [0.0_f32; 8]);
    for sample in block {
        let next = std::array::from_fn(|n| sample + turns[n] * a[n] - b[n]);
        (a, b) = (next, a);
    }
    std::array::from_fn(|n| (a[n] * a[n] + b[n] * b[n] - turns[n] * a[n] * b[n]) * 4.0 / (BLOCK * BLOCK) as f32)
}

impl InbandReceiver {
    /// A receiver of sound at this rate: a whole multiple of 8 kHz.
    #[must_use]
    pub fn new(rate: SampleRate) -> Self {
        InbandReceiver {
            step: (rate.hz() / 8_000).max(1) as usize,
            held: 0,
            held_count: 0,
            turns: turns(),
            block: [0.0; BLOCK],
            count: 0,
            last: None,
            sounding: None,
            missing: 0,
        }
    }

    /// Takes sound; the key that was let go in it. (Two cannot be: a key takes 40 ms, and so does the pause behind it.)
    pub fn push(&mut self, pcm: &[i16]) -> Option<InbandKey> {
        let mut told = None;
        let scale = 1.0 / self.step as f32;
        for (index, sample) in pcm.iter().enumerate() {
            self.held += i32::from(*sample);
            self.held_count += 1;
            if self.held_count < self.step {
                continue;
            }
            if let Some(place) = self.block.get_mut(self.count) {
                *place = self.held as f32 * scale;
            }
            (self.held, self.held_count) = (0, 0);
            self.count += 1;
            if self.count == BLOCK {
                self.count = 0;
                told = self.judge_block(pcm.len() - 1 - index).or(told);
            }
        }
        told
    }

    /// Judges a block that ended `behind` samples before the end of what was given.
    fn judge_block(&mut self, behind: usize) -> Option<InbandKey> {
        let hit = self.judge();
        let mut over = None;
        match self.sounding {
            Some((key, blocks)) if hit == Some(key) => {
                self.sounding = Some((key, blocks + 1 + usize::from(self.missing)));
                self.missing = 0;
            }
            Some((key, blocks)) => {
                self.missing += 1;
                if self.missing >= BLOCKS_TO_END || (hit.is_some() && hit == self.last) {
                    let ago = (blocks + usize::from(self.missing)) * BLOCK * self.step + behind;
                    let duration = Duration::from_micros(blocks as u64 * BLOCK as u64 * 125);
                    over = Some(InbandKey { digit: key, duration, began_samples_ago: ago });
                    self.sounding = None;
                }
            }
            None => {}
        }
        if self.sounding.is_none() && hit.is_some() && hit == self.last {
            self.sounding = hit.map(|key| (key, 2));
            self.missing = 0;
        }
        self.last = hit;
        over
    }

    /// The key that this block has.
    fn judge(&self) -> Option<char> {
        let energy: f32 = self.block.iter().map(|sample| sample * sample).sum();
        // Most blocks are silence.
        if energy < LEAST_AMPLITUDE * LEAST_AMPLITUDE * BLOCK as f32 {
            return None;
        }
        let power = powers(&self.block, &self.turns);
        let (low, high) = power.split_at(4);
        let (row, strongest_low) = strongest(low)?;
        let (column, strongest_high) = strongest(high)?;
        let least = LEAST_AMPLITUDE * LEAST_AMPLITUDE;
        let is_loud = strongest_low >= least && strongest_high >= least;
        let is_even = strongest_low <= strongest_high * TWIST && strongest_high <= strongest_low * TWIST;
        // A sine's mean power is half its amplitude squared.
        let is_pure = (strongest_low + strongest_high) / 2.0 * BLOCK as f32 >= PURITY * energy;
        if !(is_loud && is_even && is_pure) {
            return None;
        }
        KEYS.get(row)?.get(column).copied()
    }
}

/// Which is strongest, where none of the others comes near it.
fn strongest(group: &[f32]) -> Option<(usize, f32)> {
    let (at, most) = group.iter().copied().enumerate().max_by(|a, b| a.1.total_cmp(&b.1))?;
    let is_alone = group.iter().enumerate().all(|(index, power)| index == at || power * ABOVE_OTHERS <= most);
    is_alone.then_some((at, most))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(key: char, ms: usize, rate: SampleRate, low: f32, high: f32, off: f32) -> Vec<i16> {
        let at = |groups: &[[char; 4]; 4]| {
            groups.iter().enumerate().find_map(|(row, keys)| Some((row, keys.iter().position(|k| *k == key)?)))
        };
        let (row, column) = at(&KEYS).unwrap_or((0, 0));
        let hz = rate.hz() as f32;
        (0..rate.samples_in_ms(ms as u32))
            .map(|n| {
                let wave = |f: f32| (TAU * f * (1.0 + off) * n as f32 / hz).sin();
                (low * wave(LOW_HZ[row]) + high * wave(HIGH_HZ[column])) as i16
            })
            .collect()
    }

    fn heard(pcm: &[i16], rate: SampleRate) -> Vec<InbandKey> {
        let mut receiver = InbandReceiver::new(rate);
        pcm.chunks(rate.samples_in_ms(20)).filter_map(|frame| receiver.push(frame)).collect()
    }

    fn noise(samples: usize, amplitude: i16) -> Vec<i16> {
        let mut state = 9_u64;
        let mut next = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            ((state >> 40) as i32 % (2 * i32::from(amplitude) + 1) - i32::from(amplitude)) as i16
        };
        (0..samples).map(|_| next()).collect()
    }

    /// ITU-T Q.24: 40 ms are enough, with 40 ms between; 1.5 % off the frequency, 20 dB above noise.
    #[test]
    fn each_key_is_heard_once_at_both_rates_and_within_the_tolerances() {
        for rate in [SampleRate::HZ_8000, SampleRate::HZ_16000] {
            for (ms, low, high, off) in [
                (40, 6_000.0, 6_000.0, 0.0),
                (60, 800.0, 1_500.0, 0.012),
                (300, 8_000.0, 4_000.0, -0.012),
                (80, 300.0, 300.0, 0.0),
            ] {
                let mut pcm = vec![0; rate.samples_in_ms(73)];
                for key in KEYS.into_iter().flatten() {
                    pcm.extend(tone(key, ms, rate, low, high, off));
                    pcm.extend(vec![0; rate.samples_in_ms(45)]);
                }
                pcm.extend(vec![0; rate.samples_in_ms(60)]);
                let hiss = noise(pcm.len(), (low.min(high) / 20.0) as i16);
                pcm.iter_mut().zip(hiss).for_each(|(sample, hiss)| *sample = sample.saturating_add(hiss));
                let keys: String = heard(&pcm, rate).iter().map(|key| key.digit).collect();
                assert_eq!(keys, "123A456B789C*0#D", "{rate:?}, {ms} ms, {low}/{high}, {off}");
            }
        }
    }

    #[test]
    fn a_key_says_when_it_began_and_how_long_it_was() {
        let rate = SampleRate::HZ_8000;
        let pcm = [vec![0; 1_000], tone('5', 200, rate, 5_000.0, 5_000.0, 0.0), vec![0; 1_000]].concat();
        let (mut receiver, mut at) = (InbandReceiver::new(rate), 0);
        for frame in pcm.chunks(160) {
            at += frame.len();
            if let Some(key) = receiver.push(frame) {
                let began = at - key.began_samples_ago;
                assert!((900..1_150).contains(&began), "{began}");
                assert!((170..=215).contains(&key.duration.as_millis()), "{key:?}");
                return;
            }
        }
        unreachable!("it was not heard");
    }

    #[test]
    fn one_tone_a_short_one_a_wrong_one_and_noise_are_no_keys() {
        let rate = SampleRate::HZ_8000;
        let single = |hz: f32| -> Vec<i16> {
            (0..4_000).map(|n| (6_000.0 * (TAU * hz * n as f32 / 8_000.0).sin()) as i16).collect()
        };
        let silence = vec![0; 800];
        for (what, pcm) in [
            ("one tone", single(770.0)),
            ("a dial tone", single(425.0)),
            ("10 ms", tone('5', 10, rate, 6_000.0, 6_000.0, 0.0)),
            ("4 % off", tone('5', 200, rate, 6_000.0, 6_000.0, 0.045)),
            ("12 dB of twist", tone('5', 200, rate, 8_000.0, 2_000.0, 0.0)),
            ("noise", noise(80_000, 12_000)),
        ] {
            let keys = heard(&[&silence[..], &pcm, &silence].concat(), rate);
            assert!(keys.is_empty(), "{what}: {keys:?}");
        }
    }
}
