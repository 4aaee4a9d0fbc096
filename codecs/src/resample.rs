//! Change of sample rate by any small ratio: a polyphase filter (windowed sinc), streaming, without
//! allocation once built.
//!
//! With `f` the lower of the two rates: flat within 0.1 dB up to 0.42 `f` (3.4 kHz for 8 kHz),
//! images and aliases from 0.515 `f` on at least 65 dB down (`tests/resampling.rs` measures both).
//! The delay is 24 to 26 samples at the lower rate: 3 ms at 8 kHz, 1.5 ms at 16 kHz.
//!
//! Coefficients are 16-bit, shared by all resamplers of one ratio (0.1 to 42 KiB for the usual ratios); a
//! resampler's own state is its delay line, 0.5 to 1 KiB.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::pcm::saturate;
use crate::{CodecError, SampleRate};

mod filter;

use filter::Filter;

/// Samples taken in at once.
const CHUNK: usize = 160;

/// Converts one stream from one rate to another.
#[derive(Clone, Debug)]
pub struct Resampler {
    from: SampleRate,
    to: SampleRate,
    /// `None` where both rates are the same.
    filter: Option<Arc<Filter>>,
    /// The last `taps - 1` samples, then room for a chunk.
    line: Box<[i16]>,
    /// Input samples to go by before the next output is due, and its phase.
    skip: usize,
    phase: usize,
}

impl Resampler {
    /// A resampler between any two rates from 8 to 48 kHz whose ratio is made of small numbers (all
    /// pairs of 8, 11.025, 12, 16, 22.05, 24, 32, 44.1 and 48 kHz are). The first one of a ratio
    /// computes its filter, which takes up to a few milliseconds; the filter is kept.
    ///
    /// # Errors
    /// [`CodecError::UnsupportedRatio`] for other pairs.
    pub fn new(from: SampleRate, to: SampleRate) -> Result<Self, CodecError> {
        let filter = if from == to { None } else { Some(shared_filter(from, to)?) };
        let taps = filter.as_ref().map_or(1, |filter| filter.taps());
        let room = if filter.is_some() { taps - 1 + CHUNK } else { 0 };
        Ok(Self { from, to, filter, line: vec![0; room].into_boxed_slice(), skip: 0, phase: 0 })
    }

    /// Rate of the input.
    #[must_use]
    pub const fn from_rate(&self) -> SampleRate {
        self.from
    }

    /// Rate of the output.
    #[must_use]
    pub const fn to_rate(&self) -> SampleRate {
        self.to
    }

    /// Most samples that [`process`](Self::process) writes for `input` samples.
    #[must_use]
    pub fn max_output(&self, input: usize) -> usize {
        match &self.filter {
            None => input,
            Some(filter) => input * filter.up() / filter.down() + 1,
        }
    }

    /// Samples of the output by which it trails the input.
    #[must_use]
    pub fn delay_samples(&self) -> usize {
        self.filter.as_ref().map_or(0, |filter| (filter.taps() * filter.up() / 2) / filter.down())
    }

    /// Converts `input`, of any length, and returns the samples written to `out`. Give `out`
    /// [`max_output`](Self::max_output) samples of room; what does not fit is dropped.
    pub fn process(&mut self, input: &[i16], out: &mut [i16]) -> usize {
        let Some(filter) = &self.filter else {
            let count = input.len().min(out.len());
            for (to, from) in out.iter_mut().zip(input) {
                *to = *from;
            }
            return count;
        };
        let kept = filter.taps() - 1;
        let mut written = 0;
        for chunk in input.chunks(CHUNK) {
            self.line[kept..kept + chunk.len()].copy_from_slice(chunk);
            // `skip` counts from the first sample of the chunk to the newest of a window
            while self.skip < chunk.len() {
                let window = &self.line[self.skip..self.skip + kept + 1];
                if let Some(slot) = out.get_mut(written) {
                    *slot = filter.apply(self.phase, window);
                    written += 1;
                }
                let (skip, phase) = filter.advance(self.phase);
                self.skip += skip;
                self.phase = phase;
            }
            self.skip -= chunk.len();
            self.line.copy_within(chunk.len()..chunk.len() + kept, 0);
        }
        written
    }

    /// Forgets what went through.
    pub fn reset(&mut self) {
        self.line.fill(0);
        self.skip = 0;
        self.phase = 0;
    }
}

/// 8 to 16 kHz by linear interpolation: cheap, and leaves images in the upper half on purpose
/// (see [`crate::speech`]). The delay is one sample of the input.
#[derive(Clone, Copy, Debug, Default)]
pub struct LinearUpsampler {
    last: i16,
}

impl LinearUpsampler {
    /// Begins from silence.
    #[must_use]
    pub const fn new() -> Self {
        Self { last: 0 }
    }

    /// Writes two samples for each of `input` that has room in `out`, and returns the samples
    /// written.
    pub fn process(&mut self, input: &[i16], out: &mut [i16]) -> usize {
        let (pairs, _) = out.as_chunks_mut::<2>();
        let mut written = 0;
        for (pair, &sample) in pairs.iter_mut().zip(input) {
            let middle = (i32::from(self.last) + i32::from(sample)) / 2;
            *pair = [saturate(middle), sample];
            self.last = sample;
            written += 2;
        }
        written
    }
}

/// Filters by rates, each computed once.
static FILTERS: Mutex<BTreeMap<(u32, u32), Arc<Filter>>> = Mutex::new(BTreeMap::new());

fn shared_filter(from: SampleRate, to: SampleRate) -> Result<Arc<Filter>, CodecError> {
    let key = (from.hz(), to.hz());
    let cached = {
        let filters = FILTERS.lock().unwrap_or_else(PoisonError::into_inner);
        filters.get(&key).cloned()
    };
    if let Some(filter) = cached {
        return Ok(filter);
    }
    // computed outside of the lock: two threads may both do it, and one result is kept
    let filter = Filter::design(from, to).ok_or(CodecError::UnsupportedRatio { from, to })?;
    let mut filters = FILTERS.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(filters.entry(key).or_insert_with(|| Arc::new(filter)).clone())
}
