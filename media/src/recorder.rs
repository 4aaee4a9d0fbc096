//! Recordings, without the file: both sides of a call put on one timeline, and the header of a WAV file.
//!
//! The worker gives blocks that say which side they are of and at which sample of the leg's timeline they begin
//! ([`RecordBlock`]). The [`Aligner`] puts them side by side, caller left and agent right, with silence where
//! nothing came, and lets go of what has become old enough. The thread that writes is in [`io::record`](crate::io::record).
//!
//! Invariants: what comes out has no gap and no overlap: its n-th sample is the timeline's n-th. What comes too late is
//! counted, not written elsewhere. The window's memory is fixed.

/// Samples in one block at most: 20 ms at 16 kHz.
pub const BLOCK_SAMPLES: usize = 320;
/// The header that [`wav_header`] makes, in bytes.
pub const WAV_HEADER_BYTES: usize = 44;
/// Both sides of one sample, in bytes.
pub const FRAME_BYTES: usize = 4;
/// The most samples of sound a WAV file can hold: its sizes are 32 bits.
pub const MAX_WAV_SAMPLES: u64 = (u32::MAX as u64 - WAV_HEADER_BYTES as u64) / FRAME_BYTES as u64;

/// Which side of the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// The peer: left.
    Caller,
    /// We: right.
    Agent,
}

/// Sound of one side, up to 20 ms.
#[derive(Debug, Clone, Copy)]
pub struct RecordBlock {
    /// Whose.
    pub channel: Channel,
    /// Where it begins on the leg's timeline.
    pub at_samples: u64,
    /// How many of the samples count.
    pub len: u16,
    /// The samples.
    pub pcm: [i16; BLOCK_SAMPLES],
}

impl RecordBlock {
    /// A block of the first samples of `pcm`, [`BLOCK_SAMPLES`] at most.
    pub fn new(channel: Channel, at_samples: u64, pcm: &[i16]) -> RecordBlock {
        let len = pcm.len().min(BLOCK_SAMPLES);
        let mut block = RecordBlock { channel, at_samples, len: len as u16, pcm: [0; BLOCK_SAMPLES] };
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

/// One sample of both sides: caller, agent.
pub type StereoSample = [i16; 2];

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
    refused_samples: u64,
}

impl Aligner {
    /// A timeline that begins at `start_samples`. `window_samples` is how far both sides may lie apart; a block that leaps
    /// ahead by more than `max_gap_samples` is refused, so that a wrong position cannot fill the disk.
    pub fn new(start_samples: u64, window_samples: usize, max_gap_samples: u64) -> Aligner {
        Aligner {
            window: vec![[0; 2]; window_samples.max(BLOCK_SAMPLES)].into_boxed_slice(),
            next: start_samples,
            end: start_samples,
            max_gap: max_gap_samples,
            late_samples: 0,
            refused_samples: 0,
        }
    }

    /// Takes a block. What has to leave the window for it is given to `out`.
    pub fn push(&mut self, block: &RecordBlock, mut out: impl FnMut(&[StereoSample])) {
        let pcm = block.samples();
        let count = pcm.len() as u64;
        if block.at_samples > self.end.saturating_add(self.max_gap) {
            self.refused_samples += count;
            return;
        }
        let end = block.at_samples + count;
        let window = self.window.len() as u64;
        if end > self.next + window {
            self.take_until(end - window, &mut out);
        }
        let late = self.next.saturating_sub(block.at_samples).min(count);
        self.late_samples += late;
        let (before, from) = self.window.split_at_mut(((block.at_samples + late) % window) as usize);
        // behind the window's last place comes its first
        for ([caller, agent], sample) in from.iter_mut().chain(before).zip(pcm.iter().skip(late as usize)) {
            match block.channel {
                Channel::Caller => *caller = *sample,
                Channel::Agent => *agent = *sample,
            }
        }
        self.end = self.end.max(end);
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

    /// Samples that leapt too far ahead.
    pub fn refused_samples(&self) -> u64 {
        self.refused_samples
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
