//! The stream we send: numbers, encoder, pace. It is one stream from the leg's start to its end, whatever codec and
//! epoch: one SSRC, sequence numbers without gap, timestamps that go with the time.

use std::time::{Duration, Instant};

use codecs::Encoder;
use codecs::pcm::SampleRate;
use codecs::registry::{self, CodecParams};
use codecs::resample::Resampler;

use crate::config::LegConfig;
use crate::error::MediaError;
use crate::rtcp::SenderCounts;
use crate::rtp::levels::Levels;
use crate::rtp::{HEADER_BYTES, MAX_CSRC, RtpHeader, RtpTime, Seq};

/// Frames sent at once at most, when the worker comes late; what is later than that is left out.
const CATCH_UP_FRAMES: u32 = 3;
/// Sound in a packet is this much at least and at most.
const PTIME_MS: std::ops::RangeInclusive<u8> = 10..=60;

/// What depends on the codec, and is exchanged as a whole when that changes.
pub(super) struct SendFormat {
    codec: CodecParams,
    encoder: Box<dyn Encoder>,
    /// From the seam's rate to the encoder's, where they differ.
    resampler: Option<Resampler>,
    payload_type: u8,
    comfort_noise: Option<u8>,
    clock_hz: u32,
    ptime: Duration,
    /// Ticks of the RTP clock in one packet.
    ticks: u32,
    /// Samples in one packet at the seam's rate.
    seam_samples: usize,
    /// Samples in one packet at the encoder's rate.
    samples: usize,
}

impl SendFormat {
    pub(super) fn new(config: &LegConfig, seam: SampleRate) -> Result<Self, MediaError> {
        let params = &config.codec;
        if !PTIME_MS.contains(&params.ptime_ms) {
            return Err(MediaError::Config("ptime must be 10 to 60 ms"));
        }
        let encoder = registry::encoder(params)?;
        let rate = encoder.audio_rate();
        let resampler = if rate == seam { None } else { Some(Resampler::new(seam, rate)?) };
        let ptime_ms = u32::from(params.ptime_ms);
        let clock_hz = clock_hz(config);
        Ok(SendFormat {
            codec: params.clone(),
            encoder,
            resampler,
            payload_type: config.payload_type_send,
            comfort_noise: config.comfort_noise_payload_type,
            clock_hz,
            ptime: Duration::from_millis(u64::from(ptime_ms)),
            ticks: clock_hz / 1_000 * ptime_ms + clock_hz % 1_000 * ptime_ms / 1_000,
            seam_samples: seam.samples_in_ms(ptime_ms),
            samples: rate.samples_in_ms(ptime_ms),
        })
    }

    /// Sound in one packet.
    pub(super) fn ptime_ms(&self) -> f64 {
        self.ptime.as_secs_f64() * 1_000.0
    }

    /// Samples in one packet, at the seam's rate.
    pub(super) fn seam_samples(&self) -> usize {
        self.seam_samples
    }

    pub(super) fn codec(&self) -> &CodecParams {
        &self.codec
    }

    pub(super) fn payload_type(&self) -> u8 {
        self.payload_type
    }

    pub(super) fn comfort_noise(&self) -> Option<u8> {
        self.comfort_noise
    }

    pub(super) fn clock_hz(&self) -> u32 {
        self.clock_hz
    }

    pub(super) fn ticks(&self) -> u32 {
        self.ticks
    }

    pub(super) fn set_expected_loss_percent(&mut self, percent: u8) {
        self.encoder.set_expected_loss_percent(percent);
    }

    /// Encodes one packet's worth into `out`; 0 where the codec has nothing to send.
    pub(super) fn encode(&mut self, pcm: &[i16], convert: &mut [i16], out: &mut [u8]) -> usize {
        let Some(resampler) = &mut self.resampler else {
            return self.encoder.encode(pcm, out).unwrap_or(0);
        };
        let made = resampler.process(pcm, convert);
        // A filter may be a sample short or over at times; the packet's length is fixed.
        let Some(frame) = convert.get_mut(..self.samples) else { return 0 };
        if let Some((last, rest)) = frame.get_mut(made.saturating_sub(1)..).and_then(<[i16]>::split_first_mut) {
            rest.fill(*last);
        }
        self.encoder.encode(frame, out).unwrap_or(0)
    }
}

/// The RTP clock of the configured codec.
pub(super) fn clock_hz(config: &LegConfig) -> u32 {
    match config.codec.id {
        registry::CodecId::L16 => config.codec.audio_rate.hz(),
        id => registry::spec(id).map_or(8_000, |spec| spec.clock_hz),
    }
}

/// The stream's numbers and its pace.
pub(super) struct Outbound {
    pub(super) format: SendFormat,
    ssrc: u32,
    seq: Seq,
    /// Of the frame that is due at `next_send`.
    timestamp: RtpTime,
    next_send: Instant,
    started: Instant,
    /// No packet lies right before the next one: it begins a talkspurt.
    gap: bool,
    packets: u32,
    bytes: u32,
}

impl Outbound {
    pub(super) fn new(now: Instant, format: SendFormat, seed: u64) -> Self {
        let mut random = seed;
        let mut draw = || splitmix(&mut random);
        Outbound {
            format,
            ssrc: draw() as u32,
            seq: Seq((draw() & 0x7fff) as u16),
            timestamp: RtpTime(draw() as u32),
            next_send: now,
            started: now,
            gap: true,
            packets: 0,
            bytes: 0,
        }
    }

    pub(super) fn ssrc(&self) -> u32 {
        self.ssrc
    }

    pub(super) fn next_send(&self) -> Instant {
        self.next_send
    }

    /// Whether a frame is due; leaves out those for which it is too late.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let late = now.saturating_duration_since(self.next_send);
        if late >= self.format.ptime * CATCH_UP_FRAMES {
            let periods = (late.as_micros() / self.format.ptime.as_micros().max(1)) as u32;
            self.next_send += self.format.ptime * periods;
            self.timestamp = self.timestamp.plus(self.format.ticks.wrapping_mul(periods));
            self.gap = true;
        }
        now >= self.next_send
    }

    /// What the frame that is due would have for a timestamp, were the stream's clock one of `clock_hz`.
    pub(super) fn timestamp_on(&self, clock_hz: u32) -> RtpTime {
        if clock_hz == self.format.clock_hz {
            return self.timestamp;
        }
        let elapsed_us = self.next_send.saturating_duration_since(self.started).as_micros();
        RtpTime((elapsed_us * u128::from(clock_hz) / 1_000_000) as u32)
    }

    /// Prints the header of a packet of sound, with the sources that are in it and the levels, in front of a payload of `payload_bytes`,
    /// counts it, and returns its size.
    pub(super) fn sound(&mut self, packet: &mut [u8], sources: &[u32], levels: &Levels, payload_bytes: usize) -> usize {
        let (payload_type, marker) = (self.format.payload_type, std::mem::take(&mut self.gap));
        let size = self.header(packet, payload_type, marker, self.timestamp, payload_bytes);
        let sources = sources.get(..MAX_CSRC).unwrap_or(sources);
        if let Some(flags) = packet.first_mut() {
            *flags |= sources.len() as u8;
        }
        let places = packet.get_mut(HEADER_BYTES..).unwrap_or_default().chunks_exact_mut(4);
        for (place, ssrc) in places.zip(sources) {
            place.copy_from_slice(&ssrc.to_be_bytes());
        }
        size + 4 * sources.len() + print_levels(packet, HEADER_BYTES + 4 * sources.len(), levels)
    }

    /// The same for comfort noise: the next packet of sound begins a talkspurt.
    pub(super) fn comfort_noise(&mut self, packet: &mut [u8], payload_type: u8, payload_bytes: usize) -> usize {
        self.gap = true;
        self.header(packet, payload_type, false, self.timestamp, payload_bytes)
    }

    /// The same for a telephone event, whose timestamp is that of its start.
    pub(super) fn event(
        &mut self,
        packet: &mut [u8],
        payload_type: u8,
        marker: bool,
        start: RtpTime,
        payload_bytes: usize,
    ) -> usize {
        self.gap = true;
        self.header(packet, payload_type, marker, start, payload_bytes)
    }

    /// The number of the next packet, and its timestamp were it to begin at `now`: where the stream is, or further on by the time
    /// that has passed since.
    pub(super) fn reached(&self, now: Instant) -> (Seq, RtpTime) {
        (self.seq, self.timestamp.plus(self.ticks_in(now.saturating_duration_since(self.next_send))))
    }

    /// The same where the stream goes on from what it had last.
    pub(super) fn at(&self) -> (Seq, RtpTime) {
        (self.seq, self.timestamp)
    }

    /// Prints the header of a packet that another leg's peer made, under these numbers of ours and with these levels, and counts it; returns
    /// its size.
    /// One that is the newest with sound, of `ticks`, moves the stream on to its end.
    pub(super) fn passed(
        &mut self,
        now: Instant,
        packet: &mut [u8],
        passed: &RtpHeader,
        levels: &Levels,
        bytes: usize,
        ticks: u32,
    ) -> usize {
        let (next, newest) = (self.seq, passed.seq.since(self.seq) >= 0);
        let marker = passed.marker | (newest & std::mem::take(&mut self.gap));
        self.seq = passed.seq;
        let size = self.header(packet, passed.payload_type, marker, passed.timestamp, bytes);
        let front = HEADER_BYTES + levels.bytes().len();
        if front > HEADER_BYTES && front + bytes <= packet.len() {
            packet.copy_within(HEADER_BYTES..HEADER_BYTES + bytes, front);
        }
        let size = size + print_levels(packet, HEADER_BYTES, levels);
        if !newest {
            self.seq = next;
        } else if ticks > 0 {
            self.timestamp = passed.timestamp.plus(ticks);
            let nanos = u64::from(ticks) * 1_000_000_000 / u64::from(self.format.clock_hz.max(1));
            self.next_send = now + Duration::from_nanos(nanos);
        }
        size
    }

    /// The next frame is due at the next time from `now` on that lies whole steps of `every` from `at`. Where it `skips`, its timestamp
    /// moves on with the time; else it goes on where the stream was.
    pub(super) fn resume(&mut self, now: Instant, at: Instant, every: Duration, skips: bool) {
        let (was, reached) = (self.next_send, self.timestamp);
        self.next_send = now;
        self.align(at, every);
        if skips {
            self.timestamp = reached.plus(self.ticks_in(self.next_send.saturating_duration_since(was)));
            self.gap = true;
        }
    }

    /// Nothing is sent in this frame's place.
    pub(super) fn leave_out(&mut self) {
        self.gap = true;
    }

    /// The frame that was due is dealt with.
    pub(super) fn advance(&mut self) {
        self.next_send += self.format.ptime;
        self.timestamp = self.timestamp.plus(self.format.ticks);
    }

    /// Moves the next frame, by less than `every`, to a time that lies whole steps of `every` from `at`.
    pub(super) fn align(&mut self, at: Instant, every: Duration) {
        let every_us = every.as_micros().max(1);
        let ahead_us = if at >= self.next_send {
            at.saturating_duration_since(self.next_send).as_micros() % every_us
        } else {
            let behind_us = self.next_send.saturating_duration_since(at).as_micros() % every_us;
            (every_us - behind_us) % every_us
        };
        self.next_send += Duration::from_micros(ahead_us as u64);
    }

    /// Takes another codec: the time of the next frame stays, and timestamps go on from there.
    pub(super) fn exchange(&mut self, format: &mut SendFormat) {
        std::mem::swap(&mut self.format, format);
        self.gap = true;
    }

    /// For a sender report.
    pub(super) fn counts(&self, now: Instant) -> SenderCounts {
        let ahead = self.ticks_in(self.next_send.saturating_duration_since(now));
        let behind = self.ticks_in(now.saturating_duration_since(self.next_send));
        let timestamp = self.timestamp.plus(behind).plus(ahead.wrapping_neg());
        SenderCounts { packets: self.packets, bytes: self.bytes, timestamp }
    }

    fn ticks_in(&self, time: Duration) -> u32 {
        (time.as_micros() * u128::from(self.format.clock_hz) / 1_000_000) as u32
    }

    fn header(
        &mut self,
        packet: &mut [u8],
        payload_type: u8,
        marker: bool,
        timestamp: RtpTime,
        payload_bytes: usize,
    ) -> usize {
        let header = RtpHeader { marker, payload_type, seq: self.seq, timestamp, ssrc: self.ssrc };
        if let Some(place) = packet.first_chunk_mut::<HEADER_BYTES>() {
            *place = header.to_bytes();
        }
        self.seq = self.seq.next();
        self.packets = self.packets.wrapping_add(1);
        self.bytes = self.bytes.wrapping_add(payload_bytes as u32);
        HEADER_BYTES + payload_bytes
    }
}

/// Prints the header extension at its place in a packet, and says so in its header; returns its size.
fn print_levels(packet: &mut [u8], at: usize, levels: &Levels) -> usize {
    let bytes = levels.bytes();
    if let Some(place) = packet.get_mut(at..at + bytes.len()).filter(|place| !place.is_empty()) {
        place.copy_from_slice(bytes);
        if let Some(flags) = packet.first_mut() {
            *flags |= 0x10;
        }
    }
    bytes.len()
}

/// The next of a sequence of well-mixed numbers (splitmix64).
pub(super) fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
