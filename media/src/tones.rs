//! What a line says by tones instead of words: fax machines, ringing, busy, congestion, special information tones, and an answering
//! machine's beep.
//!
//! [`ToneListener`] takes sound and tells a [`Tone`] once it is sure. Sound is looked at in blocks of 50 ms: a block is silence, one
//! tone of some frequency, one of the pairs that signalling uses, or something else; what a row of blocks means is
//! decided by frequency, length and what follows (ITU-T E.180 and its supplement 2, Q.35, T.30, V.8, V.25). No allocation,
//! no clock.

use std::f32::consts::TAU;
use std::time::Duration;

use codecs::pcm::SampleRate;

/// Samples in a block at 8 kHz: the tones of the pairs that lie 40 Hz apart do not disturb one another.
const BLOCK: usize = 400;
const BLOCK_MS: u32 = 50;
const RATE_HZ: f32 = 8_000.0;
/// Blocks of less than this mean square, of 32768 squared, are silence: -48 dB.
const SILENT: f32 = 17_000.0;
/// What has so much less than the last tone, 15 dB, is a rest.
const REST_SHARE: f32 = 0.03;
/// A tone is at least this share of all that is heard.
const PURITY: f32 = 0.85;
/// And a pair; each of the two at least so much of the other.
const PAIR_PURITY: f32 = 0.75;
const PAIR_TWIST: f32 = 0.15;
/// A tone stays within this many hertz from block to block.
const STEADY_HZ: f32 = 12.0;
/// A tone may be hurt for so many blocks.
const DOUBTS: u32 = 2;
/// Pairs: ringing and busy of North America, its dial tone, and ringing of the United Kingdom and others.
const PAIRS: [(f32, f32, Pair); 4] = [
    (440.0, 480.0, Pair::Ringing),
    (480.0, 620.0, Pair::Busy),
    (350.0, 440.0, Pair::Dial),
    (400.0, 450.0, Pair::Ringing),
];
/// Filters for the pairs' tones.
const FILTERS_HZ: [f32; 6] = [350.0, 400.0, 440.0, 450.0, 480.0, 620.0];
/// Europe's one tone for ringing, busy and congestion (E.180: 400 to 450 Hz).
const EUROPE_HZ: (f32, f32) = (395.0, 460.0);
/// Fax, calling: 1,100 Hz for half a second every three (T.30 section 4.1).
const CNG_HZ: (f32, f32) = (1_060.0, 1_140.0);
const CNG_MS: (u32, u32) = (350, 650);
/// Fax or modem, answering: 2,100 Hz, also with phase reversals (V.25, V.8).
const CED_HZ: (f32, f32) = (2_075.0, 2_125.0);
const CED_MS: u32 = 450;
/// Special information: three rising tones of a third of a second (Q.35 section 5).
const SPECIAL_HZ: [(f32, f32); 3] = [(900.0, 1_000.0), (1_350.0, 1_450.0), (1_750.0, 1_850.0)];
const SPECIAL_MS: (u32, u32) = (150, 500);
/// An answering machine's beep.
const BEEP_HZ: (f32, f32) = (600.0, 2_300.0);
const BEEP_MS: (u32, u32) = (150, 2_000);
/// Ringing sounds for so long, and then rests.
const RINGING_MS: (u32, u32) = (600, 2_600);
const RINGING_REST_MS: u32 = 1_200;
/// Busy and congestion: sound and rest of much the same length.
const BUSY_MS: (u32, u32) = (330, 800);
const CONGESTION_MS: (u32, u32) = (100, 329);
/// Sounds in a row that are alike before a cadence is believed.
const CADENCE_SOUNDS: u8 = 3;
/// A rest that long ends any cadence.
const CADENCE_REST_MS: u32 = 7_000;

/// What was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tone {
    /// A fax machine that called.
    FaxCalling,
    /// A fax machine or modem that answered.
    FaxAnswering,
    /// The far side's phone rings.
    Ringing,
    /// It is busy.
    Busy,
    /// The network has no way to it at present.
    Congestion,
    /// The number is not in service, or the like: an announcement follows.
    SpecialInformation,
    /// A single tone that stopped: an answering machine's beep, after which it records.
    Beep,
}

impl Tone {
    /// Its name, as records have it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Tone::FaxCalling => "fax_calling",
            Tone::FaxAnswering => "fax_answering",
            Tone::Ringing => "ringing",
            Tone::Busy => "busy",
            Tone::Congestion => "congestion",
            Tone::SpecialInformation => "special_information",
            Tone::Beep => "beep",
        }
    }
}

/// A tone that was recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeardTone {
    /// Which.
    pub tone: Tone,
    /// How long the sound was that settled it.
    pub length: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pair {
    Ringing,
    Busy,
    Dial,
}

/// What a block is.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Block {
    Silence,
    Single(f32),
    Pair(Pair),
    Other,
}

impl Block {
    fn goes_on_as(self, next: Block) -> bool {
        match (self, next) {
            (Block::Single(a), Block::Single(b)) => (a - b).abs() <= STEADY_HZ,
            (a, b) => a == b,
        }
    }

    fn within(self, (low, high): (f32, f32)) -> bool {
        matches!(self, Block::Single(hz) if (low..=high).contains(&hz))
    }

    fn is_tone(self) -> bool {
        matches!(self, Block::Single(_) | Block::Pair(_))
    }

    /// A tone that a cadence may be made of.
    fn cadenced(self) -> Option<Cadenced> {
        match self {
            Block::Pair(Pair::Ringing) => Some(Cadenced::Ringing),
            Block::Pair(Pair::Busy) => Some(Cadenced::Busy),
            block if block.within(EUROPE_HZ) => Some(Cadenced::Either),
            _ => None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cadenced {
    Ringing,
    Busy,
    Either,
}

/// Listens to one stream. Under 3 KiB; no allocation.
#[derive(Debug, Clone)]
pub struct ToneListener {
    step: usize,
    held: i32,
    held_count: usize,
    turns: [f32; FILTERS_HZ.len()],
    /// Hann's, and its own correlation at lags 1 and 2 of that at lag 0.
    window: [f32; BLOCK],
    window_lags: [f32; 2],
    block: [f32; BLOCK],
    count: usize,
    /// What sounds, for how many blocks, and whether it was told already.
    now: Block,
    blocks: u32,
    told: bool,
    /// What is not as the tone before it, and for how many blocks: the tone ends, or was hurt by lost packets.
    doubt: Option<(Block, u32)>,
    /// The energy of the last tone's last block.
    loudness: f32,
    /// How many of the special information's tones have come.
    special: usize,
    /// The cadence that may be under way.
    cadence: Option<Cadence>,
    /// A tone may be a beep, if nothing comes of it that is something else.
    beep_ms: Option<u32>,
}

#[derive(Debug, Clone, Copy)]
struct Cadence {
    of: Cadenced,
    sound_ms: u32,
    rest_ms: u32,
    sounds: u8,
    /// Ringing was told of it.
    told: bool,
}

impl ToneListener {
    /// A listener to sound at this rate; `None` where that is no whole multiple of 8 kHz.
    #[must_use]
    pub fn new(rate: SampleRate) -> Option<Self> {
        let step = (rate.hz() / 8_000) as usize;
        if step == 0 || !rate.hz().is_multiple_of(8_000) {
            return None;
        }
        let turns = FILTERS_HZ.map(|hz| 2.0 * (TAU * hz / RATE_HZ).cos());
        let window: [f32; BLOCK] = std::array::from_fn(|n| 0.5 - 0.5 * (TAU * (n as f32 + 0.5) / BLOCK as f32).cos());
        let lag = |n: usize| -> f32 { window.iter().zip(window.iter().skip(n)).map(|(a, b)| a * b).sum() };
        Some(ToneListener {
            step,
            held: 0,
            held_count: 0,
            turns,
            window,
            window_lags: [lag(1) / lag(0), lag(2) / lag(0)],
            block: [0.0; BLOCK],
            count: 0,
            now: Block::Silence,
            blocks: 0,
            told: false,
            doubt: None,
            loudness: 0.0,
            special: 0,
            cadence: None,
            beep_ms: None,
        })
    }

    /// Takes sound of at most 50 ms (of more, the last tone counts); what became certain in it.
    pub fn push(&mut self, pcm: &[i16]) -> Option<HeardTone> {
        let mut told = None;
        let scale = 1.0 / self.step as f32;
        for sample in pcm {
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
                let block = self.judge();
                told = self.take(block).or(told);
            }
        }
        told
    }

    fn take(&mut self, block: Block) -> Option<HeardTone> {
        if let Some((doubt, count)) = self.doubt.take() {
            if self.now.goes_on_as(block) {
                self.blocks += count + 1;
                return self.goes_on();
            }
            if (doubt, block) == (Block::Other, Block::Other) && count < DOUBTS {
                self.doubt = Some((doubt, count + 1));
                return None;
            }
            let told = self.change(doubt);
            // What followed the tone goes on, or was no more than its edge.
            if doubt.goes_on_as(block) {
                self.blocks = count + 1;
            } else {
                (self.now, self.blocks) = (block, 1);
            }
            return told;
        }
        if self.now.goes_on_as(block) {
            self.blocks += 1;
            return self.goes_on();
        }
        if self.now.is_tone() && block != Block::Silence {
            self.doubt = Some((block, 1));
            return None;
        }
        self.change(block)
    }

    /// Something else begins; what is certain of what was.
    fn change(&mut self, block: Block) -> Option<HeardTone> {
        let (was, ms) = (self.now, self.blocks * BLOCK_MS);
        (self.now, self.blocks) = (block, 1);
        let told = std::mem::take(&mut self.told);
        if told || (was == Block::Other && ms <= BLOCK_MS) {
            return None;
        }
        self.ended(was, ms)
    }

    /// What sounds goes on: what is certain by its length.
    fn goes_on(&mut self) -> Option<HeardTone> {
        let ms = self.blocks * BLOCK_MS;
        if self.told {
            return None;
        }
        if self.now.within(CED_HZ) && ms >= CED_MS {
            return self.tell(Tone::FaxAnswering, ms);
        }
        if self.special == 2 && self.now.within(SPECIAL_HZ[2]) && ms >= SPECIAL_MS.0 {
            self.special = 0;
            return self.tell(Tone::SpecialInformation, ms);
        }
        if self.now != Block::Silence {
            return None;
        }
        if let Some(beep_ms) = self.beep_ms.take_if(|_| ms >= 2 * BLOCK_MS) {
            return Some(HeardTone { tone: Tone::Beep, length: millis(beep_ms) });
        }
        let cadence = self.cadence.as_mut()?;
        let rings = cadence.of != Cadenced::Busy && (RINGING_MS.0..=RINGING_MS.1).contains(&cadence.sound_ms);
        if rings && !cadence.told && ms >= RINGING_REST_MS {
            cadence.told = true;
            return Some(HeardTone { tone: Tone::Ringing, length: millis(cadence.sound_ms) });
        }
        if ms >= CADENCE_REST_MS {
            self.cadence = None;
        }
        None
    }

    fn tell(&mut self, tone: Tone, ms: u32) -> Option<HeardTone> {
        self.told = true;
        (self.cadence, self.beep_ms) = (None, None);
        Some(HeardTone { tone, length: millis(ms) })
    }

    /// `was` has ended after `ms`.
    fn ended(&mut self, was: Block, ms: u32) -> Option<HeardTone> {
        match was {
            Block::Silence => {
                if let Some(cadence) = self.cadence.as_mut() {
                    cadence.rest_ms = ms;
                }
                None
            }
            Block::Single(_) | Block::Pair(_) => self.tone_ended(was, ms),
            Block::Other => {
                (self.special, self.beep_ms, self.cadence) = (0, None, None);
                None
            }
        }
    }

    fn tone_ended(&mut self, was: Block, ms: u32) -> Option<HeardTone> {
        self.beep_ms = None;
        let special_ms = (SPECIAL_MS.0..=SPECIAL_MS.1).contains(&ms);
        let next = SPECIAL_HZ.get(self.special).copied().unwrap_or_default();
        self.special = match was.within(next) && special_ms {
            true => self.special + 1,
            false => usize::from(was.within(SPECIAL_HZ[0]) && special_ms),
        };
        if was.within(CNG_HZ) && (CNG_MS.0..=CNG_MS.1).contains(&ms) {
            return Some(HeardTone { tone: Tone::FaxCalling, length: millis(ms) });
        }
        let Some(of) = was.cadenced() else {
            self.cadence = None;
            let beeps = was.within(BEEP_HZ) && (BEEP_MS.0..=BEEP_MS.1).contains(&ms);
            self.beep_ms = beeps.then_some(ms);
            return None;
        };
        self.cadence(of, ms)
    }

    fn cadence(&mut self, of: Cadenced, sound_ms: u32) -> Option<HeardTone> {
        let alike = |a: u32, b: u32| a.abs_diff(b) <= 2 * BLOCK_MS;
        let fresh = Cadence { of, sound_ms, rest_ms: 0, sounds: 1, told: false };
        let Some(cadence) =
            self.cadence.as_mut().filter(|cadence| cadence.of == of && alike(cadence.sound_ms, sound_ms))
        else {
            self.cadence = Some(fresh);
            return None;
        };
        cadence.sounds = cadence.sounds.saturating_add(1);
        let is_busy = alike(cadence.rest_ms, sound_ms) && of != Cadenced::Ringing;
        let within = |(least, most): (u32, u32)| (least..=most).contains(&sound_ms);
        let tone = match (within(BUSY_MS), within(CONGESTION_MS)) {
            (true, _) => Tone::Busy,
            (_, true) => Tone::Congestion,
            _ => return None,
        };
        if !is_busy || cadence.sounds < CADENCE_SOUNDS || cadence.told {
            return None;
        }
        cadence.told = true;
        Some(HeardTone { tone, length: millis(sound_ms) })
    }

    /// What the block is.
    fn judge(&mut self) -> Block {
        let energy: f32 = self.block.iter().map(|sample| sample * sample).sum();
        if energy < SILENT * BLOCK as f32 {
            return Block::Silence;
        }
        let tone = self.single().map(Block::Single).or_else(|| self.pair(energy).map(Block::Pair));
        if let Some(tone) = tone {
            self.loudness = energy;
            return tone;
        }
        // Between tones, the line's noise is a rest.
        if energy < self.loudness * REST_SHARE { Block::Silence } else { Block::Other }
    }

    /// The frequency of the one tone in the block, from its autocorrelation at lags 1 and 2, which noise does not bend
    /// (Pisarenko's method).
    fn single(&self) -> Option<f32> {
        let mut shaped = self.block;
        shaped.iter_mut().zip(&self.window).for_each(|(sample, weight)| *sample *= weight);
        let lag =
            |n: usize| -> f32 { shaped.iter().zip(shaped.get(n..).unwrap_or_default()).map(|(a, b)| a * b).sum() };
        let (none, one, two) = (lag(0), lag(1) / self.window_lags[0], lag(2) / self.window_lags[1]);
        if one.abs() < none * 0.001 {
            return None;
        }
        let cosine = (two + (two * two + 8.0 * one * one).sqrt()) / (4.0 * one);
        if !(-0.999..=0.999).contains(&cosine) {
            return None;
        }
        let hz = cosine.acos() * RATE_HZ / TAU;
        // What of the energy a filter at just that frequency passes; the window takes a third of what a tone would have.
        let power = tone_energy(&shaped, 2.0 * cosine) * 1.5;
        let energy = none;
        (power >= PURITY * energy).then_some(hz)
    }

    fn pair(&self, energy: f32) -> Option<Pair> {
        let power = self.turns.map(|turn| tone_energy(&self.block, turn));
        let at = |hz: f32| FILTERS_HZ.iter().zip(power).find(|(of, _)| **of == hz).map_or(0.0, |(_, power)| power);
        PAIRS.into_iter().find_map(|(low, high, pair)| {
            let (low, high) = (at(low), at(high));
            let is_even = low >= PAIR_TWIST * high && high >= PAIR_TWIST * low;
            (is_even && low + high >= PAIR_PURITY * energy).then_some(pair)
        })
    }
}

/// How much of a block's energy one tone has: Goertzel's filter.
fn tone_energy(block: &[f32; BLOCK], turn: f32) -> f32 {
    let (mut a, mut b) = (0.0_f32, 0.0_f32);
    for sample in block {
        (a, b) = (sample + turn * a - b, a);
    }
    (a * a + b * b - turn * a * b) * 2.0 / BLOCK as f32
}

fn millis(ms: u32) -> Duration {
    Duration::from_millis(u64::from(ms))
}
