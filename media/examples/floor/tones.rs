//! Streams of tones: each has one of its own, and what comes back to it is looked at for whose are in it.
#![allow(dead_code)] // not every example sends tones

use std::f64::consts::TAU;

use codecs::CodecError;
use codecs::registry::{self, CodecParams, CodecSpec};

use crate::load::Clock;

/// Packets of 20 ms that a stream sends over and over: a second, in which each tone has whole periods.
const PACKETS: usize = 50;
/// What a tone's packets are told apart by: as many streams one after another have tones of their own.
const PITCHES: usize = 16;
/// The peak of what is sent.
const AMPLITUDE: f64 = 2_000.0;
/// Packets kept of what comes; the first few of them bring a decoder into step.
const KEPT: usize = 30;
const IN_STEP: usize = 10;
const PAYLOAD_BYTES: usize = 400;

/// One codec that streams speak.
struct Speech {
    params: CodecParams,
    /// Payload type, and ticks of its clock in a packet.
    format: (u8, u32),
    /// For each pitch its packets.
    packets: Vec<Vec<Vec<u8>>>,
}

/// What all streams send.
pub(crate) struct Tones {
    /// Taken in turn by the streams.
    speech: Vec<Speech>,
    /// So many streams one after another hear one another, and not themselves; one hears itself.
    group: usize,
}

/// What came to a stream last.
#[derive(Default)]
pub(crate) struct Kept {
    payloads: Vec<Vec<u8>>,
    next: usize,
}

impl Kept {
    pub(crate) fn add(&mut self, payload: &[u8]) {
        if self.payloads.len() < KEPT {
            self.payloads.push(Vec::with_capacity(PAYLOAD_BYTES));
        }
        if let Some(place) = self.payloads.get_mut(self.next) {
            place.clear();
            place.extend_from_slice(payload);
        }
        self.next = (self.next + 1) % KEPT;
    }
}

fn hz(pitch: usize) -> f64 {
    // Odd multiples, so that none is another's harmonic.
    300.0 + 100.0 * pitch as f64 + if pitch.is_multiple_of(2) { 0.0 } else { 50.0 }
}

impl Tones {
    /// Tones in these codecs with their payload types, for streams of which each so many hear one another.
    pub(crate) fn new(codecs: &[(CodecSpec, u8)], group: usize) -> Result<Self, CodecError> {
        let speech =
            codecs.iter().map(|(spec, payload_type)| Speech::new(*spec, *payload_type)).collect::<Result<_, _>>()?;
        Ok(Self { speech, group })
    }

    /// The codec that a stream speaks, and its payload type.
    pub(crate) fn codec(&self, stream: usize) -> (CodecParams, u8) {
        let speech = self.speech(stream);
        (speech.params.clone(), speech.format.0)
    }

    fn speech(&self, stream: usize) -> &Speech {
        &self.speech[stream % self.speech.len()]
    }

    /// Packet `k` of a stream: payload type, ticks and payload.
    pub(crate) fn payload(&self, stream: usize, k: u32) -> ((u8, u32), &[u8]) {
        let speech = self.speech(stream);
        (speech.format, &speech.packets[stream % PITCHES][k as usize % PACKETS])
    }

    /// Whether what came to a stream is what should have: of its group the others, or itself where it is alone.
    pub(crate) fn is_right(&self, stream: usize, kept: &Kept) -> bool {
        if kept.payloads.len() < KEPT {
            return false;
        }
        let params = &self.speech(stream).params;
        let mut decoder = registry::decoder(params).expect("a decoder");
        let mut sound = Vec::new();
        let mut pcm = vec![0_i16; params.audio_rate.samples_in_ms(60)];
        for at in 0..KEPT {
            let Ok(samples) = decoder.decode(&kept.payloads[(kept.next + at) % KEPT], &mut pcm) else { return false };
            if at >= IN_STEP {
                sound.extend_from_slice(&pcm[..samples]);
            }
        }
        let first = stream - stream % self.group;
        (first..first + self.group.max(2)).all(|other| {
            let is_wanted = (other == stream) == (self.group == 1);
            let peak = peak(&sound, hz(other % PITCHES), f64::from(params.audio_rate.hz()));
            if is_wanted { peak > AMPLITUDE / 3.0 } else { peak < AMPLITUDE / 10.0 }
        })
    }

    /// What the library's own calls take to decode one packet and to encode one, of each codec: the mean, in microseconds.
    pub(crate) fn bare_us(&self) -> f64 {
        const ROUNDS: usize = 40;
        let mut took = 0.0;
        for speech in &self.speech {
            let mut encoder = registry::encoder(&speech.params).expect("an encoder");
            let mut decoder = registry::decoder(&speech.params).expect("a decoder");
            let mut pcm = vec![0_i16; speech.params.audio_rate.samples_in_ms(20)];
            let mut out = [0_u8; PAYLOAD_BYTES];
            let started = Clock::Thread(0).read();
            for _ in 0..ROUNDS {
                for packet in &speech.packets[0] {
                    decoder.decode(packet, &mut pcm).expect("decodes");
                    std::hint::black_box(encoder.encode(&pcm, &mut out).expect("encodes"));
                }
            }
            took += (Clock::Thread(0).read() - started).as_secs_f64() * 1e6 / (ROUNDS * PACKETS) as f64;
        }
        took / self.speech.len() as f64
    }
}

impl Speech {
    fn new(spec: CodecSpec, payload_type: u8) -> Result<Self, CodecError> {
        let params = spec.params();
        let rate = params.audio_rate;
        let samples = rate.samples_in_ms(20);
        let packets = (0..PITCHES).map(|pitch| {
            let mut encoder = registry::encoder(&params)?;
            let packet = |n: usize| -> Result<Vec<u8>, CodecError> {
                let at = |sample: usize| (n * samples + sample) as f64 / f64::from(rate.hz());
                let pcm: Vec<i16> =
                    (0..samples).map(|i| (AMPLITUDE * (TAU * hz(pitch) * at(i)).sin()) as i16).collect();
                let mut out = vec![0; PAYLOAD_BYTES];
                let size = encoder.encode(&pcm, &mut out)?;
                out.truncate(size);
                Ok(out)
            };
            (0..PACKETS).map(packet).collect()
        });
        let packets = packets.collect::<Result<_, _>>()?;
        Ok(Self { packets, format: (payload_type, spec.clock_hz / 50), params })
    }
}

/// The peak of the part of this frequency (Goertzel).
fn peak(sound: &[i16], hz: f64, rate: f64) -> f64 {
    let turn = 2.0 * (TAU * hz / rate).cos();
    let (mut one, mut two) = (0.0, 0.0);
    for sample in sound {
        (one, two) = (f64::from(*sample) + turn * one - two, one);
    }
    2.0 * (one * one + two * two - turn * one * two).max(0.0).sqrt() / sound.len() as f64
}
