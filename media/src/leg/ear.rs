//! Where the ear's sound goes: to the leg's port, judged for speech and beside what was sent meanwhile.

use codecs::pcm::SampleRate;
use codecs::speech::SpeechGate;
use ringbuf::HeapProd;
use ringbuf::traits::Producer;

use super::inbound::Piece;
use super::sent::Sent;
use crate::port::{EAR_FRAME_SAMPLES, EarFrame};
use crate::stats::LegStats;

/// The worker's end of the ear ring, with the speech gate in front of it.
pub(super) struct Ear {
    ring: HeapProd<EarFrame>,
    gate: SpeechGate,
    sent: Sent,
    speech: f32,
    rate: SampleRate,
    frame_samples: usize,
}

impl Ear {
    pub(super) fn new(ring: HeapProd<EarFrame>, rate: SampleRate) -> Self {
        let frame_samples = rate.samples_in_ms(20).clamp(1, EAR_FRAME_SAMPLES);
        Ear { ring, gate: SpeechGate::new(rate), sent: Sent::new(rate), speech: 0.0, rate, frame_samples }
    }

    /// Takes what is sent to the peer at `at_samples`.
    pub(super) fn sent(&mut self, at_samples: u64, frame: &[i16]) {
        self.sent.push(at_samples, frame);
    }

    /// Hands `piece` over in frames of 20 ms or less.
    pub(super) fn push(&mut self, piece: &Piece<'_>, stats: &mut LegStats) {
        let mut at_samples = piece.at_samples;
        for samples in piece.samples.chunks(self.frame_samples) {
            self.speech = self.gate.push(samples).unwrap_or(self.speech);
            let mut frame = EarFrame {
                pcm: [0; EAR_FRAME_SAMPLES],
                sent: [0; EAR_FRAME_SAMPLES],
                len: samples.len(),
                rate: self.rate,
                at_samples,
                speech: self.speech,
                concealed: piece.concealed,
                arrived: piece.arrived,
            };
            for (place, sample) in frame.pcm.iter_mut().zip(samples) {
                *place = *sample;
            }
            if let Some(beside) = frame.sent.get_mut(..samples.len()) {
                self.sent.beside(at_samples, beside);
            }
            at_samples += samples.len() as u64;
            if self.ring.try_push(frame).is_err() {
                stats.ear_ring_drops += 1;
            }
        }
    }
}
