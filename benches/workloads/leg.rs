//! 20 ms of a leg's life, without sockets: a packet in, the latch, the jitter buffer with both readers, what goes over
//! the rings, a packet out, RTCP's share.
#![allow(clippy::unwrap_used)]

use std::hint::black_box;
use std::time::Instant;

use codecs::registry::{self, CodecId};
use media::bench::LegBench;
use media::config::{LegConfig, LegMode};
use media::rtp::{RtpHeader, RtpTime, Seq};

use crate::case::{Case, Frames, Step, Work};

/// What the session description may number a codec that has no number of its own.
const PAYLOAD_TYPE: u8 = 96;

pub(crate) fn cases() -> Vec<Case> {
    let case = |name: &str, codec, mode| Case::new(name, Work::Items(1), move || leg(codec, mode));
    vec![
        case("leg/echo_pcmu/20ms", CodecId::Pcmu, LegMode::Echo),
        case("leg/talk_pcmu/20ms", CodecId::Pcmu, LegMode::Talk),
        case("leg/talk_g722/20ms", CodecId::G722, LegMode::Talk),
        case("leg/talk_opus/20ms", CodecId::Opus, LegMode::Talk),
    ]
}

/// A leg that hears a voice and, where it talks, says another.
fn leg(codec: CodecId, mode: LegMode) -> Step {
    let spec = registry::spec(codec).unwrap();
    let params = spec.params();
    let (rate, samples) = (params.audio_rate, params.audio_rate.samples_in_ms(20));
    let mut encoder = registry::encoder(&params).unwrap();
    let mut heard = Frames::new(rate.hz(), samples);
    let mut said = Frames::new(rate.hz(), samples);
    let ticks = spec.ticks(samples, rate);
    let mut packet = vec![0; 2048];
    let payloads: Vec<Vec<u8>> = (0..50)
        .map(|_| {
            let size = encoder.encode(heard.next(), &mut packet).unwrap();
            packet[..size].to_vec()
        })
        .collect();
    let mut leg = LegBench::new(&LegConfig::new(params, PAYLOAD_TYPE, mode), Instant::now()).unwrap();
    let mut n = 0u32;
    Box::new(move || {
        let header = RtpHeader {
            marker: n == 0,
            payload_type: PAYLOAD_TYPE,
            seq: Seq(n as u16),
            timestamp: RtpTime(n.wrapping_mul(ticks)),
            ssrc: 0x1234_5678,
        };
        let size = header.write(&payloads[n as usize % payloads.len()], &mut packet).unwrap();
        n += 1;
        black_box(leg.frame(black_box(&packet[..size]), said.next()));
    })
}
