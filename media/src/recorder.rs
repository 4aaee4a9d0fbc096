//! Recordings, without the file: what several sources say and hear put on one timeline, and the formats of files.
//!
//! Each source (a leg) gives blocks that say which side they are of and at which sample of the source's own timeline they begin
//! ([`RecordBlock`]). A [`Track`] brings them to the recording's rate and timeline, the [`Aligner`] puts both sides beside one another,
//! adds what falls together on one side, with silence where nothing came, and lets go of what has become old enough. The thread
//! that writes is in [`io::record`](crate::io::record); a file is WAV ([`wav_header`]) or Ogg Opus ([`opus`]).
//!
//! Invariants: what comes out has no gap and no overlap: its n-th sample is the timeline's n-th. What comes too late is
//! counted, not written elsewhere. The window's memory is fixed.

use std::time::{Duration, Instant};

use codecs::CodecError;
use codecs::pcm::SampleRate;
use codecs::resample::Resampler;

pub mod opus;
pub mod tone;

/// Samples in one block at most: 20 ms at 16 kHz.
pub const BLOCK_SAMPLES: usize = 320;
/// The header that [`wav_header`] makes, in bytes.
pub const WAV_HEADER_BYTES: usize = 44;
/// Both sides of one sample, in bytes.
pub const FRAME_BYTES: usize = 4;
/// The most samples of sound a WAV file can hold: its sizes are 32 bits.
pub const MAX_WAV_SAMPLES: u64 = (u32::MAX as u64 - WAV_HEADER_BYTES as u64) / FRAME_BYTES as u64;

/// What a recording is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RecordFormat {
    /// WAV: 16-bit PCM.
    #[default]
    Wav,
    /// Ogg Opus (RFC 7845), a stream for each side.
    Opus,
}

/// Which channel of the recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Whoever called.
    Left,
    /// The other side: an agent, whoever was called, what the server plays to the caller.
    Right,
}

impl Side {
    /// The other one.
    #[must_use]
    pub fn other(self) -> Side {
        match self {
            Side::Left => Side::Right,
            Side::Right => Side::Left,
        }
    }
}

/// Sound of one side, up to 20 ms.
#[derive(Debug, Clone, Copy)]
pub struct RecordBlock {
    /// Whose.
    pub side: Side,
    /// Where it begins on the source's timeline.
    pub at_samples: u64,
    /// How many of the samples count.
    pub len: u16,
    /// The samples.
    pub pcm: [i16; BLOCK_SAMPLES],
}

impl RecordBlock {
    /// A block of the first samples of `pcm`, [`BLOCK_SAMPLES`] at most.
    pub fn new(side: Side, at_samples: u64, pcm: &[i16]) -> RecordBlock {
        let len = pcm.len().min(BLOCK_SAMPLES);
        let mut block = RecordBlock { side, at_samples, len: len as u16, pcm: [0; BLOCK_SAMPLES] };
        for (place, sample) in block.pcm.iter_mut().zip(pcm) {
            *place = *sample;
        }
        block
    }

    /// The samples that count.
    pub fn samples(&self) -> &[i16] {
        self.pcm.get(..usize::from(self.len)).unwrap_or(&self.pcm)
    }
}

/// One sample of both sides: left, right.
pub type StereoSample = [i16; 2];

/// Brings what one source gives to the recording's rate and timeline.
#[derive(Debug)]
pub struct Track {
    lanes: [Lane; 2],
    refused_samples: u64,
}

/// One side of one source.
#[derive(Debug)]
struct Lane {
    from: SampleRate,
    to: SampleRate,
    /// Where the source's timeline begins on the recording's, in the recording's samples.
    begins: i64,
    resampler: Option<Resampler>,
    /// Behind the last sample taken, on the source's timeline: what comes twice is taken once.
    taken_to: u64,
    /// Where the resampler's next sample belongs.
    next_out: i64,
    out: Vec<i16>,
}

impl Track {
    /// A source whose samples are of the rate `from` and whose timeline begins at `began`, in a recording at `to` that began at `start`.
    ///
    /// # Errors
    /// Two rates that cannot be converted.
    pub fn new(from: SampleRate, to: SampleRate, start: Instant, began: Instant) -> Result<Track, CodecError> {
        let samples = |time: Duration| i64::try_from(to.samples_in(time)).unwrap_or(i64::MAX);
        let begins = match began.checked_duration_since(start) {
            Some(after) => samples(after),
            None => -samples(start.saturating_duration_since(began)),
        };
        let lane = || -> Result<Lane, CodecError> {
            let resampler = if from == to { None } else { Some(Resampler::new(from, to)?) };
            Ok(Lane { from, to, begins, resampler, taken_to: 0, next_out: 0, out: Vec::new() })
        };
        Ok(Track { lanes: [lane()?, lane()?], refused_samples: 0 })
    }

    /// Takes a block to the recording. What has to leave the window for it is given to `out`.
    pub fn push(&mut self, block: &RecordBlock, aligner: &mut Aligner, mut out: impl FnMut(&[StereoSample])) {
        let [left, right] = &mut self.lanes;
        let lane = if block.side == Side::Left { left } else { right };
        if !aligner.is_near(lane.position(block.at_samples)) {
            self.refused_samples += u64::from(block.len);
            return;
        }
        lane.take(block, |at, pcm| aligner.push(block.side, at, pcm, &mut out));
    }

    /// Samples that leapt too far ahead.
    #[must_use]
    pub fn refused_samples(&self) -> u64 {
        self.refused_samples
    }
}

impl Lane {
    /// Where a sample of the source's timeline is on the recording's.
    fn position(&self, at_samples: u64) -> i64 {
        let at = u128::from(at_samples) * u128::from(self.to.hz()) / u128::from(self.from.hz().max(1));
        i64::try_from(at).unwrap_or(i64::MAX).saturating_add(self.begins)
    }

    fn take(&mut self, block: &RecordBlock, mut out: impl FnMut(u64, &[i16])) {
        let again = self.taken_to.saturating_sub(block.at_samples).min(block.len.into());
        let pcm = block.samples().get(again as usize..).unwrap_or_default();
        if pcm.is_empty() {
            return;
        }
        let at = block.at_samples + again;
        let is_next = at == self.taken_to && at != 0;
        self.taken_to = at.saturating_add(pcm.len() as u64);
        let position = self.position(at);
        let Some(resampler) = &mut self.resampler else { return place(position, pcm, &mut out) };
        if !is_next {
            // What the filter holds of the sound before the gap comes out, and the next begins where it belongs.
            let held = resampler.delay_samples();
            let silence = vec![0; (held * self.from.hz() as usize).div_ceil(self.to.hz().max(1) as usize)];
            self.out.resize(resampler.max_output(silence.len()), 0);
            let made = resampler.process(&silence, &mut self.out).min(held);
            place(self.next_out, self.out.get(..made).unwrap_or_default(), &mut out);
            resampler.reset();
            self.next_out = position.saturating_sub(i64::try_from(held).unwrap_or(0));
        }
        self.out.resize(resampler.max_output(pcm.len()), 0);
        let made = resampler.process(pcm, &mut self.out);
        place(self.next_out, self.out.get(..made).unwrap_or_default(), &mut out);
        self.next_out = self.next_out.saturating_add(made as i64);
    }
}

/// Gives `out` what does not lie before the beginning.
fn place(at: i64, pcm: &[i16], out: &mut impl FnMut(u64, &[i16])) {
    let before = usize::try_from(at.min(0).unsigned_abs()).unwrap_or(usize::MAX);
    if let Some(pcm) = pcm.get(before..).filter(|pcm| !pcm.is_empty()) {
        out(at.max(0).unsigned_abs(), pcm);
    }
}

/// Puts both sides on one timeline.
#[derive(Debug)]
pub struct Aligner {
    /// A ring: sample n of the timeline is at n modulo its size.
    window: Box<[StereoSample]>,
    /// The first sample that has not come out.
    next: u64,
    /// Behind the last sample that has come in.
    end: u64,
    max_gap: u64,
    late_samples: u64,
}

impl Aligner {
    /// A timeline. `window_samples` is how far sources may lie apart; a block that leaps ahead by more than `max_gap_samples` is
    /// not near ([`is_near`](Self::is_near)), so that a wrong position cannot fill the disk.
    pub fn new(window_samples: usize, max_gap_samples: u64) -> Aligner {
        Aligner {
            window: vec![[0; 2]; window_samples.max(BLOCK_SAMPLES)].into_boxed_slice(),
            next: 0,
            end: 0,
            max_gap: max_gap_samples,
            late_samples: 0,
        }
    }

    /// Whether sound at this position can be what comes next.
    #[must_use]
    pub fn is_near(&self, at_samples: i64) -> bool {
        u64::try_from(at_samples).is_ok_and(|at| at <= self.end.saturating_add(self.max_gap)) || at_samples < 0
    }

    /// Takes sound, and adds it to what is there. What has to leave the window for it is given to `out`.
    pub fn push(&mut self, side: Side, at_samples: u64, pcm: &[i16], mut out: impl FnMut(&[StereoSample])) {
        let window = self.window.len() as u64;
        let starts = (at_samples..).step_by(BLOCK_SAMPLES);
        for (at, pcm) in starts.zip(pcm.chunks(BLOCK_SAMPLES)) {
            let count = pcm.len() as u64;
            let end = at.saturating_add(count);
            if end > self.next + window {
                self.take_until(end - window, &mut out);
            }
            let late = self.next.saturating_sub(at).min(count);
            self.late_samples += late;
            let (before, from) = self.window.split_at_mut(((at + late) % window) as usize);
            // behind the window's last place comes its first
            for ([left, right], sample) in from.iter_mut().chain(before).zip(pcm.iter().skip(late as usize)) {
                let place = if side == Side::Left { left } else { right };
                *place = place.saturating_add(*sample);
            }
            self.end = self.end.max(end);
        }
    }

    /// Gives `out` all that is older than the newest by more than `hold_samples`: what still comes for it is too late.
    pub fn take_older(&mut self, hold_samples: u64, out: impl FnMut(&[StereoSample])) {
        self.take_until(self.end.saturating_sub(hold_samples), out);
    }

    /// Gives `out` all that is there.
    pub fn take_all(&mut self, out: impl FnMut(&[StereoSample])) {
        self.take_until(self.end, out);
    }

    /// Samples that have not come out yet.
    pub fn pending_samples(&self) -> u64 {
        self.end.saturating_sub(self.next)
    }

    /// Samples that came after their place had gone out.
    pub fn late_samples(&self) -> u64 {
        self.late_samples
    }

    /// Gives `out` everything before `until`, piece by piece, and leaves silence in its place.
    fn take_until(&mut self, until: u64, mut out: impl FnMut(&[StereoSample])) {
        let window = self.window.len() as u64;
        while self.next < until {
            let at = (self.next % window) as usize;
            let piece = (until - self.next).min(window - at as u64) as usize;
            if let Some(samples) = self.window.get_mut(at..at + piece) {
                out(samples);
                samples.fill([0; 2]);
            }
            self.next += piece as u64;
        }
        self.end = self.end.max(self.next);
    }
}

/// The header of a WAV file (RIFF, 16-bit PCM, two channels) that holds `samples` of both sides.
pub fn wav_header(rate_hz: u32, samples: u64) -> [u8; WAV_HEADER_BYTES] {
    let data_bytes = (samples.min(MAX_WAV_SAMPLES) * FRAME_BYTES as u64) as u32;
    let riff_bytes = data_bytes + (WAV_HEADER_BYTES as u32 - 8);
    let byte_rate = rate_hz.saturating_mul(FRAME_BYTES as u32);
    let mut header = [0; WAV_HEADER_BYTES];
    let fields: [&[u8]; 13] = [
        b"RIFF",
        &riff_bytes.to_le_bytes(),
        b"WAVE",
        b"fmt ",
        &16u32.to_le_bytes(),
        &1u16.to_le_bytes(),
        &2u16.to_le_bytes(),
        &rate_hz.to_le_bytes(),
        &byte_rate.to_le_bytes(),
        &(FRAME_BYTES as u16).to_le_bytes(),
        &16u16.to_le_bytes(),
        b"data",
        &data_bytes.to_le_bytes(),
    ];
    for (place, byte) in header.iter_mut().zip(fields.into_iter().flatten()) {
        *place = *byte;
    }
    header
}
