//! Opus (RFC 6716; RTP: RFC 7587) by libopus, one channel, tuned for speech.
//!
//! Audio goes in and out at 8, 12, 16, 24 or 48 kHz whatever the RTP clock (always 48 kHz) and
//! whatever the peer sends: libopus decodes every packet at the decoder's own rate and mixes a
//! stereo packet down.
//!
//! libopus has frames of 2.5, 5, 10, 20, 40 and 60 ms and, by itself, packets of 80, 100 and
//! 120 ms. Other multiples of 10 ms (RFC 7587, section 7 lets a peer ask for 30) are sent as
//! several 10 ms frames in one packet.
//!
//! State is libopus's own, on the C heap: about 36 KiB for an encoder and 18 KiB for a decoder (resident, measured with 500 of each).

use crate::registry::OpusParams;
use crate::{CodecError, Decoder, Encoder, SampleRate};
use ::opus as libopus;

mod fmtp;

pub use fmtp::OpusFmtp;

/// RTP clock of Opus, in hertz, at any audio rate (RFC 7587, section 4.1).
pub const CLOCK_HZ: u32 = 48_000;

/// Longest packet (RFC 6716, section 3.2.5).
const MAX_PACKET_MS: usize = 120;
/// Most bytes that libopus writes for one frame (RFC 6716, section 3.2.1).
const MAX_FRAME_BYTES: usize = 1275;
/// Frames of 10 ms in the longest packet.
const MAX_SHORT_FRAMES: usize = MAX_PACKET_MS / 10;
/// Bytes put by for the 10 ms frames of one packet: 120 ms at 128 kbit/s, with a margin.
const SCRATCH_BYTES: usize = 2400;
/// A packet of at most this size is the encoder's way to say that nothing need be sent.
const DTX_BYTES: usize = 2;
/// Bit rates that libopus takes.
const LEAST_BPS: u32 = 6_000;
const MOST_BPS: u32 = 510_000;
/// Spent on redundancy.
const REDUNDANCY_BPS: u32 = 6_000;
/// libopus goes on with noise as long as it is asked to. That is right in a pause of a peer with
/// discontinuous transmission; for a peer that vanished in mid-word it is faded between these.
const FADE_MS: (u32, u32) = (100, 300);
/// Fade-in after such a loss.
const RETURN_MS: u32 = 5;

/// PCM to Opus packets.
pub struct OpusEncoder {
    encoder: libopus::Encoder,
    joiner: libopus::Repacketizer,
    scratch: Box<[u8; SCRATCH_BYTES]>,
    rate: SampleRate,
    expected_loss_percent: u8,
    /// Bits a second for the sound, and at most.
    bitrate_bps: u32,
    max_bitrate_bps: u32,
    dtx: bool,
}

impl OpusEncoder {
    /// An encoder for audio at `rate` (8, 12, 16, 24 or 48 kHz).
    ///
    /// # Errors
    /// Another rate, or a refusal by libopus.
    pub fn new(rate: SampleRate, params: &OpusParams) -> Result<Self, CodecError> {
        check_rate(rate)?;
        let mut encoder =
            libopus::Encoder::new(rate.hz(), libopus::Channels::Mono, libopus::Application::Voip).map_err(refused)?;
        let loss = params.expected_loss_percent.min(100);
        let max_bitrate_bps = params.max_bitrate_bps.unwrap_or(MOST_BPS).min(MOST_BPS);
        let set = |encoder: &mut libopus::Encoder| -> libopus::Result<()> {
            encoder.set_complexity(i32::from(params.complexity.min(10)))?;
            encoder.set_bitrate(bits(bitrate_bps(rate, params), max_bitrate_bps, loss))?;
            encoder.set_vbr(!params.cbr)?;
            encoder.set_signal(libopus::Signal::Voice)?;
            encoder.set_inband_fec(params.fec)?;
            encoder.set_packet_loss_perc(i32::from(loss))?;
            encoder.set_dtx(params.dtx)?;
            encoder.set_max_bandwidth(bandwidth(params.max_playback_hz))
        };
        set(&mut encoder).map_err(refused)?;
        Ok(Self {
            encoder,
            joiner: libopus::Repacketizer::new().map_err(refused)?,
            scratch: Box::new([0; SCRATCH_BYTES]),
            rate,
            expected_loss_percent: loss,
            bitrate_bps: bitrate_bps(rate, params),
            max_bitrate_bps,
            dtx: params.dtx,
        })
    }

    /// Samples by which the decoded audio trails the audio given, at the encoder's rate.
    ///
    /// # Errors
    /// A refusal by libopus.
    pub fn lookahead_samples(&mut self) -> Result<usize, CodecError> {
        let samples = self.encoder.get_lookahead().map_err(refused)?;
        Ok(usize::try_from(samples).unwrap_or(0))
    }

    /// Several 10 ms frames in one packet. Where the encoder changes its mode between them (the
    /// frames of a packet share one mode), only the frames before the change are sent.
    fn encode_joined(&mut self, pcm: &[i16], out: &mut [u8]) -> Result<usize, CodecError> {
        let frame_samples = self.rate.samples_in_ms(10);
        let count = pcm.len() / frame_samples;
        let mut ends = [0_usize; MAX_SHORT_FRAMES];
        let mut used = 0;
        for (frame, end) in pcm.chunks_exact(frame_samples).zip(&mut ends) {
            let free = self.scratch.get_mut(used..).unwrap_or_default();
            let limit = free.len().min(MAX_FRAME_BYTES);
            let room = free.get_mut(..limit).unwrap_or_default();
            used += self.encoder.encode(frame, room).map_err(refused)?;
            *end = used;
        }
        let mut packet = self.joiner.begin();
        let mut start = 0;
        for &end in ends.get(..count).unwrap_or_default() {
            let frame = self.scratch.get(start..end).unwrap_or_default();
            if packet.cat(frame).is_err() && start > 0 {
                break;
            }
            start = end;
        }
        packet.out(out).map_err(refused)
    }
}

impl Encoder for OpusEncoder {
    fn audio_rate(&self) -> SampleRate {
        self.rate
    }

    fn encode(&mut self, pcm: &[i16], out: &mut [u8]) -> Result<usize, CodecError> {
        if pcm.is_empty() {
            return Err(CodecError::Empty);
        }
        if out.len() < 3 {
            return Err(CodecError::OutputTooSmall { needed: 3, capacity: out.len() });
        }
        let size = match packing(self.rate, pcm.len()) {
            Some(Packing::Native) => self.encoder.encode(pcm, out).map_err(refused)?,
            Some(Packing::Joined) => self.encode_joined(pcm, out)?,
            None => {
                return Err(CodecError::BadFrameLength { codec: "opus", samples: pcm.len() });
            }
        };
        Ok(if self.dtx && size <= DTX_BYTES { 0 } else { size })
    }

    fn set_expected_loss_percent(&mut self, percent: u8) {
        let percent = percent.min(100);
        if percent == self.expected_loss_percent {
            return;
        }
        let bits = bits(self.bitrate_bps, self.max_bitrate_bps, percent);
        if self.encoder.set_bitrate(bits).and(self.encoder.set_packet_loss_perc(i32::from(percent))).is_ok() {
            self.expected_loss_percent = percent;
        }
    }
}

/// Opus packets to PCM, with libopus's own concealment and in-band FEC.
pub struct OpusDecoder {
    decoder: libopus::Decoder,
    rate: SampleRate,
    /// Samples made up since the last packet.
    lost: usize,
    /// The last packet announced a pause.
    pausing: bool,
}

impl OpusDecoder {
    /// A decoder that writes audio at `rate` (8, 12, 16, 24 or 48 kHz).
    ///
    /// # Errors
    /// Another rate, or a refusal by libopus.
    pub fn new(rate: SampleRate) -> Result<Self, CodecError> {
        check_rate(rate)?;
        let decoder = libopus::Decoder::new(rate.hz(), libopus::Channels::Mono).map_err(refused)?;
        Ok(Self { decoder, rate, lost: 0, pausing: false })
    }

    /// Gain after so many lost samples, 32768 for one.
    fn gain(&self, lost: usize) -> i32 {
        let (from, to) = FADE_MS;
        let (from, to) = (self.rate.samples_in_ms(from), self.rate.samples_in_ms(to));
        let left = to.saturating_sub(lost).min(to - from);
        ((left << 15) / (to - from).max(1)) as i32
    }

    /// Brings the level back over the first samples after a loss that was faded.
    fn fade_in(&mut self, pcm: &mut [i16]) {
        let gain = self.gain(self.lost);
        self.lost = 0;
        if gain == ONE {
            return;
        }
        let samples = self.rate.samples_in_ms(RETURN_MS);
        for (step, sample) in pcm.iter_mut().take(samples).enumerate() {
            let gain = gain + (ONE - gain) * step as i32 / samples as i32;
            *sample = scaled(*sample, gain);
        }
    }
}

/// A gain of one.
const ONE: i32 = 1 << 15;

fn scaled(sample: i16, gain: i32) -> i16 {
    ((i32::from(sample) * gain) >> 15) as i16
}

impl Decoder for OpusDecoder {
    fn audio_rate(&self) -> SampleRate {
        self.rate
    }

    fn decode(&mut self, payload: &[u8], out: &mut [i16]) -> Result<usize, CodecError> {
        if payload.is_empty() {
            return Err(CodecError::Empty);
        }
        let needed = self.samples_in(payload);
        if needed == 0 {
            return Err(CodecError::BadPayload {
                codec: "opus",
                size_bytes: payload.len(),
                reason: "its frame count or length is impossible",
            });
        }
        let out = crate::room(payload.len(), needed, out)?;
        let samples = self.decoder.decode(payload, out, false).map_err(|error| unreadable(payload, error))?;
        self.pausing = payload.len() <= DTX_BYTES;
        self.fade_in(out);
        Ok(samples)
    }

    fn conceal(&mut self, out: &mut [i16]) -> usize {
        let step = (self.rate.hz() / 400) as usize;
        let longest = self.rate.samples_in_ms(MAX_PACKET_MS as u32);
        for chunk in out.chunks_mut(longest) {
            let whole = chunk.len() - chunk.len() % step;
            let (head, tail) = chunk.split_at_mut(whole);
            let done = if head.is_empty() { 0 } else { self.decoder.decode(&[], head, false).unwrap_or(0) };
            head.get_mut(done..).unwrap_or_default().fill(0);
            tail.fill(0);
        }
        if self.pausing {
            return out.len();
        }
        for sample in out.iter_mut() {
            let gain = self.gain(self.lost);
            self.lost = self.lost.saturating_add(1);
            if gain < ONE {
                *sample = scaled(*sample, gain);
            }
        }
        out.len()
    }

    fn recover(&mut self, next_payload: &[u8], out: &mut [i16]) -> Result<usize, CodecError> {
        if next_payload.is_empty() {
            return Err(CodecError::Empty);
        }
        let step = (self.rate.hz() / 400) as usize;
        let longest = self.samples_in(next_payload);
        if longest == 0 || !has_fec(next_payload) {
            return Ok(0);
        }
        // The redundancy covers as much audio as the packet itself, just before it.
        let length = out.len().min(longest);
        let whole = length - length % step;
        let Some(out) = out.get_mut(..whole).filter(|out| !out.is_empty()) else {
            return Ok(0);
        };
        let samples = self.decoder.decode(next_payload, out, true).map_err(|error| unreadable(next_payload, error))?;
        self.fade_in(out);
        Ok(samples)
    }

    fn samples_in(&self, payload: &[u8]) -> usize {
        if payload.is_empty() {
            return 0;
        }
        libopus::packet::get_nb_samples(payload, self.rate.hz())
            .ok()
            .filter(|&samples| samples <= self.rate.samples_in_ms(MAX_PACKET_MS as u32))
            .unwrap_or(0)
    }
}

/// Does this packet carry redundancy for the one before it (in-band FEC, RFC 6716, section 4.2.3)?
#[must_use]
pub fn has_fec(packet: &[u8]) -> bool {
    let Some((&toc, rest)) = packet.split_first() else {
        return false;
    };
    let config = toc >> 3;
    if config >= 16 {
        return false; // CELT only: no redundancy
    }
    // 20 ms SILK frames inside one Opus frame: one flag of voice activity each comes first.
    let silk_frames = match (config < 12, config & 3) {
        (true, 2) => 2,
        (true, 3) => 3,
        _ => 1,
    };
    let stereo = toc & 4 != 0;
    let Some(&first) = first_frame(toc, rest).and_then(<[u8]>::first) else {
        return false;
    };
    let mid = first >> (7 - silk_frames) & 1 != 0;
    let side = stereo && first >> (6 - 2 * silk_frames) & 1 != 0;
    mid || side
}

/// The bytes from the first frame on (RFC 6716, section 3.2).
fn first_frame(toc: u8, rest: &[u8]) -> Option<&[u8]> {
    let length_field = |bytes: &[u8]| if *bytes.first()? >= 252 { Some(2) } else { Some(1) };
    match toc & 3 {
        0 | 1 => Some(rest),
        2 => rest.get(length_field(rest)?..),
        _ => {
            let (&count, mut rest) = rest.split_first()?;
            if count & 0x40 != 0 {
                // padding: bytes of 255 go on, the first other one ends it
                let end = rest.iter().position(|&byte| byte != 255)?;
                rest = rest.get(end + 1..)?;
            }
            if count & 0x80 != 0 {
                for _ in 1..count & 0x3f {
                    rest = rest.get(length_field(rest)?..)?;
                }
            }
            Some(rest)
        }
    }
}

enum Packing {
    Native,
    Joined,
}

/// How `samples` become one packet; `None` where they cannot.
fn packing(rate: SampleRate, samples: usize) -> Option<Packing> {
    let quarter = (rate.hz() / 400) as usize;
    if quarter == 0 || !samples.is_multiple_of(quarter) {
        return None;
    }
    match samples / quarter {
        1 | 2 | 4 | 8 | 16 | 24 | 32 | 40 | 48 => Some(Packing::Native),
        quarters if quarters.is_multiple_of(4) && quarters <= 48 => Some(Packing::Joined),
        _ => None,
    }
}

fn check_rate(rate: SampleRate) -> Result<(), CodecError> {
    match rate.hz() {
        8_000 | 12_000 | 16_000 | 24_000 | 48_000 => Ok(()),
        _ => Err(CodecError::UnsupportedRate { codec: "opus", rate }),
    }
}

/// Speech is transparent enough at these rates (RFC 7587, section 3.1.1 gives the sweet spots).
fn bitrate_bps(rate: SampleRate, params: &OpusParams) -> u32 {
    let audible_hz = rate.hz().min(params.max_playback_hz);
    let wanted = match audible_hz {
        0..=8_000 => 14_000,
        8_001..=12_000 => 18_000,
        12_001..=16_000 => 24_000,
        16_001..=24_000 => 28_000,
        _ => 36_000,
    };
    params.bitrate_bps.unwrap_or(wanted)
}

/// What to aim for where so many packets are expected to be lost. Redundancy takes more: without it libopus leaves it out at the
/// usual rates, unless more than 5 % are lost.
fn bits(bitrate_bps: u32, max_bitrate_bps: u32, loss_percent: u8) -> libopus::Bitrate {
    let bps = if loss_percent > 0 { bitrate_bps.saturating_add(REDUNDANCY_BPS) } else { bitrate_bps };
    let bps = bps.min(max_bitrate_bps).clamp(LEAST_BPS, MOST_BPS);
    libopus::Bitrate::Bits(i32::try_from(bps).unwrap_or(24_000))
}

fn bandwidth(max_playback_hz: u32) -> libopus::Bandwidth {
    match max_playback_hz {
        0..=8_000 => libopus::Bandwidth::Narrowband,
        8_001..=12_000 => libopus::Bandwidth::Mediumband,
        12_001..=16_000 => libopus::Bandwidth::Wideband,
        16_001..=24_000 => libopus::Bandwidth::Superwideband,
        _ => libopus::Bandwidth::Fullband,
    }
}

fn unreadable(payload: &[u8], error: libopus::Error) -> CodecError {
    CodecError::BadPayload { codec: "opus", size_bytes: payload.len(), reason: error.description() }
}

fn refused(error: libopus::Error) -> CodecError {
    CodecError::Opus { function: error.function(), reason: error.description() }
}
