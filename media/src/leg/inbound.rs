//! The stream we receive: jitter buffer, and what its two readers hand over, decoded.
//!
//! The ear's reader always runs. Its packets are decoded where somebody listens: the port of a talking leg, a
//! recorder. The playout reader runs where the leg plays: echo, and rooms.

use std::time::{Duration, Instant};

use codecs::Decoder;
use codecs::pcm::SampleRate;
use codecs::registry::{self, CodecId, CodecParams};
use codecs::resample::Resampler;

use super::playing::Playing;
use super::{MAX_FRAME_SAMPLES, Work, outbound};
use crate::config::{DtmfFormat, LegConfig, LegMode};
use crate::error::MediaError;
use crate::jitter::{Heard, JitterBuffer, JitterConfig, Loss};
use crate::rtp::RtpPacket;

/// What a packet is, by its payload type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Sound,
    Event,
    ComfortNoise,
    Unknown,
}

/// A decoder, and the way from its rate to the seam's.
pub(super) struct Decoding {
    decoder: Box<dyn Decoder>,
    resampler: Option<Resampler>,
    clock_hz: u32,
}

/// What depends on the codec, and is exchanged as a whole when that changes.
pub(super) struct Inbound {
    codec: CodecParams,
    payload_type: u8,
    dtmf: Option<DtmfFormat>,
    comfort_noise: Option<u8>,
    clock_hz: u32,
    seam: SampleRate,
    jitter: JitterBuffer,
    ear: Option<Decoding>,
    playout: Option<Playing>,
    /// Samples in a packet, where the codec's packets tell by their length alone.
    measure: Measure,
    /// Where the jitter buffer's timeline begins on the leg's, in samples of the seam's rate.
    origin_samples: u64,
}

/// How to tell how much sound a payload has without a decoder at hand.
#[derive(Clone, Copy)]
enum Measure {
    /// So many bytes a tick.
    Bytes(u32),
    /// The decoder knows.
    Decoder,
}

/// A piece of sound for the ear, in the worker's buffer.
pub(super) struct Piece<'a> {
    pub(super) samples: &'a [i16],
    pub(super) at_samples: u64,
    pub(super) concealed: bool,
    pub(super) arrived: Instant,
}

impl Inbound {
    pub(super) fn new(
        now: Instant,
        config: &LegConfig,
        listened: bool,
        plays: bool,
        seam: SampleRate,
    ) -> Result<Self, MediaError> {
        let clock_hz = outbound::clock_hz(config);
        let ptime_ms = config.codec.ptime_ms;
        let mut jitter = JitterConfig::new(clock_hz, ptime_ms, payload_bytes(config));
        // A leg that talks may join a room later: its buffer has the room.
        jitter.playout = config.mode != LegMode::Sink;
        jitter.recovers = config.codec.id == CodecId::Opus;
        jitter.playout_max = Duration::from_millis(u64::from(config.max_playout_delay_ms)).max(jitter.playout_min);
        let ear = if listened { Some(Decoding::new(config, clock_hz, seam)?) } else { None };
        let playout = if plays { Some(Playing::of(config, seam)?) } else { None };
        let measure = match config.codec.id {
            CodecId::Pcmu | CodecId::Pcma | CodecId::G722 => Measure::Bytes(1),
            CodecId::L16 => Measure::Bytes(2),
            _ => Measure::Decoder,
        };
        let mut jitter = JitterBuffer::new(now, &jitter);
        if !plays {
            jitter.stop_playout();
        }
        Ok(Inbound {
            codec: config.codec.clone(),
            payload_type: config.payload_type_recv,
            dtmf: config.dtmf,
            comfort_noise: config.comfort_noise_payload_type,
            clock_hz,
            seam,
            jitter,
            ear,
            playout,
            measure,
            origin_samples: 0,
        })
    }

    pub(super) fn clock_hz(&self) -> u32 {
        self.clock_hz
    }

    /// Lets the playout reader run from here on.
    pub(super) fn start_playing(&mut self, playing: Playing) {
        if self.playout.is_none() {
            self.playout = Some(playing);
            self.jitter.start_playout();
        }
    }

    /// Ends that.
    pub(super) fn stop_playing(&mut self) -> Option<Playing> {
        self.jitter.stop_playout();
        self.playout.take()
    }

    /// Continues a timeline that has come to `samples`.
    pub(super) fn begin_at(&mut self, samples: u64) {
        self.origin_samples = samples;
    }

    pub(super) fn kind(&self, payload_type: u8) -> Kind {
        if payload_type == self.payload_type {
            Kind::Sound
        } else if self.dtmf.is_some_and(|dtmf| dtmf.payload_type_recv == payload_type) {
            Kind::Event
        } else if self.comfort_noise == Some(payload_type) {
            Kind::ComfortNoise
        } else {
            Kind::Unknown
        }
    }

    /// Takes a packet; returns how much sound is in it, in ticks.
    pub(super) fn push(&mut self, now: Instant, packet: &RtpPacket<'_>, kind: Kind) -> u32 {
        let ticks = if kind == Kind::Sound { self.ticks(packet.payload) } else { 0 };
        self.jitter.push(now, packet, ticks);
        ticks
    }

    pub(super) fn codec(&self) -> &CodecParams {
        &self.codec
    }

    pub(super) fn dtmf(&self) -> Option<DtmfFormat> {
        self.dtmf
    }

    /// Whether playout is between two packets, or plays nothing.
    pub(super) fn is_even(&self) -> bool {
        let even = self.playout.as_ref().is_some_and(Playing::is_even);
        even && (!self.jitter.is_playing() || self.jitter.due().is_some())
    }

    pub(super) fn jitter_mut(&mut self) -> &mut JitterBuffer {
        &mut self.jitter
    }

    /// Decodes the kept packet of that number, of sound, which was played elsewhere; returns the samples, in `work.pcm`.
    pub(super) fn follow(&mut self, now: Instant, number: u32, work: &mut Work) -> usize {
        let Some(playing) = &mut self.playout else { return 0 };
        let sound = self.jitter.kept(now, number).filter(|frame| frame.ticks > 0);
        sound.map_or(0, |frame| playing.follow(frame.payload, work))
    }

    pub(super) fn jitter(&self) -> &JitterBuffer {
        &self.jitter
    }

    /// Hands what is next in order to `listen`, until there is nothing more to hand over now. Where nobody `listens`,
    /// nothing is decoded.
    pub(super) fn hear(&mut self, now: Instant, work: &mut Work, listens: bool, mut listen: impl FnMut(Piece<'_>)) {
        while let Some(heard) = self.jitter.ear(now) {
            let Some(ear) = self.ear.as_mut().filter(|_| listens) else { continue };
            let (made, position, concealed, arrived) = match heard {
                Heard::Packet(frame) if frame.ticks == 0 => continue,
                Heard::Packet(frame) => (ear.decode(frame.payload, work), frame.position, false, frame.arrived),
                Heard::Lost(loss) => (ear.make_up(&loss, work), loss.position, true, now),
            };
            let Some(samples) = work.pcm.get(..made).filter(|samples| !samples.is_empty()) else { continue };
            let at_samples = self.origin_samples + position * u64::from(self.seam.hz()) / u64::from(self.clock_hz);
            listen(Piece { samples, at_samples, concealed, arrived });
        }
    }

    /// When the ear gives up what it waits for.
    pub(super) fn ear_wake(&self, now: Instant) -> Option<Instant> {
        self.jitter.ear_wake(now)
    }

    /// Fills `frame` with what is to be played next.
    pub(super) fn play(&mut self, now: Instant, frame: &mut [i16], work: &mut Work) {
        let comfort_noise = self.comfort_noise;
        match &mut self.playout {
            Some(playing) => playing.play(now, &mut self.jitter, comfort_noise, frame, work),
            None => frame.fill(0),
        }
    }

    fn ticks(&self, payload: &[u8]) -> u32 {
        if let Measure::Bytes(bytes) = self.measure {
            return payload.len() as u32 / bytes;
        }
        let decoding = self.ear.as_ref().or(self.playout.as_ref().map(Playing::decoding));
        match decoding {
            Some(decoding) => decoding.ticks(payload),
            // Nobody listens: the length agreed on is as good as any.
            None => self.clock_hz / 50,
        }
    }
}

impl Decoding {
    pub(super) fn new(config: &LegConfig, clock_hz: u32, seam: SampleRate) -> Result<Self, MediaError> {
        let decoder = registry::decoder(&config.codec)?;
        let rate = decoder.audio_rate();
        let resampler = if rate == seam { None } else { Some(Resampler::new(rate, seam)?) };
        Ok(Decoding { decoder, resampler, clock_hz })
    }

    /// Decodes to `work.pcm`; returns the samples there.
    pub(super) fn decode(&mut self, payload: &[u8], work: &mut Work) -> usize {
        let out = if self.resampler.is_some() { &mut work.convert } else { &mut work.pcm };
        match self.decoder.decode(payload, &mut out[..]) {
            Ok(made) => self.at_seam_rate(made, work),
            Err(_) => self.conceal(self.ticks(payload), work),
        }
    }

    /// Recovers a lost packet from the one behind it, or conceals it.
    pub(super) fn make_up(&mut self, loss: &Loss<'_>, work: &mut Work) -> usize {
        let samples = self.samples(loss.ticks);
        let out = if self.resampler.is_some() { &mut work.convert } else { &mut work.pcm };
        let Some(out) = out.get_mut(..samples) else { return 0 };
        let recovered = loss.next.map_or(0, |next| self.decoder.recover(next.payload, out).unwrap_or(0));
        match recovered {
            0 => self.conceal(loss.ticks, work),
            made => self.at_seam_rate(made, work),
        }
    }

    pub(super) fn conceal(&mut self, ticks: u32, work: &mut Work) -> usize {
        let samples = self.samples(ticks);
        let out = if self.resampler.is_some() { &mut work.convert } else { &mut work.pcm };
        let Some(out) = out.get_mut(..samples).filter(|out| !out.is_empty()) else { return 0 };
        let made = self.decoder.conceal(out);
        self.at_seam_rate(made, work)
    }

    fn at_seam_rate(&mut self, made: usize, work: &mut Work) -> usize {
        match &mut self.resampler {
            None => made,
            Some(resampler) => {
                let made = made.min(MAX_FRAME_SAMPLES);
                // What would not fit is more than any packet has.
                if resampler.max_output(made) > work.pcm.len() {
                    return 0;
                }
                resampler.process(work.convert.get(..made).unwrap_or_default(), &mut work.pcm[..])
            }
        }
    }

    /// Samples of the decoder in `ticks`, no more than a buffer holds.
    fn samples(&self, ticks: u32) -> usize {
        let samples = u64::from(ticks) * u64::from(self.decoder.audio_rate().hz()) / u64::from(self.clock_hz.max(1));
        usize::try_from(samples).unwrap_or(MAX_FRAME_SAMPLES).min(MAX_FRAME_SAMPLES)
    }

    pub(super) fn seam_samples(&self, ticks: u32) -> usize {
        let samples = self.samples(ticks);
        self.resampler.as_ref().map_or(samples, |resampler| resampler.max_output(samples)).min(MAX_FRAME_SAMPLES)
    }

    fn ticks(&self, payload: &[u8]) -> u32 {
        let rate = u64::from(self.decoder.audio_rate().hz().max(1));
        let ticks = self.decoder.samples_in(payload) as u64 * u64::from(self.clock_hz) / rate;
        u32::try_from(ticks).unwrap_or(0)
    }
}

/// Bytes of a packet as agreed, for the jitter buffer's memory.
fn payload_bytes(config: &LegConfig) -> usize {
    let ptime_ms = usize::from(config.codec.ptime_ms);
    match config.codec.id {
        CodecId::Pcmu | CodecId::Pcma | CodecId::G722 => ptime_ms * 8,
        CodecId::L16 => config.codec.audio_rate.samples_in_ms(ptime_ms as u32) * 2,
        _ => ptime_ms * 8,
    }
}
