//! Each codec each way, concealment, resampling, time-stretch and comfort noise, 20 ms a step.
#![allow(clippy::unwrap_used)]

use std::hint::black_box;

use codecs::SampleRate;
use codecs::comfort_noise::{self, ComfortNoise};
use codecs::registry::{self, CodecId, CodecParams};
use codecs::resample::{LinearUpsampler, Resampler};
use codecs::stretch::{self, Haste};

use crate::case::{Case, Frames, Step, Work};

const CODECS: [(&str, CodecId); 5] = [
    ("pcmu", CodecId::Pcmu),
    ("pcma", CodecId::Pcma),
    ("g722", CodecId::G722),
    ("opus", CodecId::Opus),
    ("l16", CodecId::L16),
];

const RATIOS: [(&str, u32, u32); 6] = [
    ("8k_to_16k", 8_000, 16_000),
    ("16k_to_8k", 16_000, 8_000),
    ("16k_to_48k", 16_000, 48_000),
    ("48k_to_16k", 48_000, 16_000),
    ("24k_to_8k", 24_000, 8_000),
    ("22k05_to_8k", 22_050, 8_000),
];

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, id) in CODECS {
        let params = registry::spec(id).unwrap().params();
        let work = Work::Samples(params.audio_rate.samples_in_ms(20) as u64);
        let (p1, p2, p3) = (params.clone(), params.clone(), params);
        cases.push(Case::new(format!("codec/{name}_encode/20ms"), work, move || encode(&p1)));
        cases.push(Case::new(format!("codec/{name}_decode/20ms"), work, move || decode(&p2)));
        cases.push(Case::new(format!("codec/{name}_conceal/20ms"), work, move || conceal(&p3)));
    }
    for (name, from, to) in RATIOS {
        let work = Work::Samples(u64::from(from) / 50);
        cases.push(Case::new(format!("resample/{name}/20ms"), work, move || resample(from, to)));
    }
    cases.push(Case::new("resample/linear_8k_to_16k/20ms", Work::Samples(160), linear));
    for (name, hz) in [("8k", 8_000), ("16k", 16_000), ("48k", 48_000)] {
        let work = Work::Samples(u64::from(hz) / 50);
        cases.push(Case::new(format!("stretch/shorten_{name}/20ms"), work, move || shorten(hz)));
        cases.push(Case::new(format!("stretch/lengthen_{name}/20ms"), work, move || lengthen(hz)));
    }
    cases.push(Case::new("comfort_noise/encode_order_0/20ms", Work::Samples(160), noise_encode));
    cases.push(Case::new("comfort_noise/generate/20ms", Work::Samples(160), noise_generate));
    cases
}

fn encode(params: &CodecParams) -> Step {
    let mut encoder = registry::encoder(params).unwrap();
    let mut frames = Frames::new(params.audio_rate.hz(), params.audio_rate.samples_in_ms(20));
    let mut packet = vec![0; 2048];
    Box::new(move || {
        black_box(encoder.encode(black_box(frames.next()), &mut packet).unwrap());
    })
}

/// A second of packets.
fn packets(params: &CodecParams) -> Vec<Vec<u8>> {
    let mut encoder = registry::encoder(params).unwrap();
    let mut frames = Frames::new(params.audio_rate.hz(), params.audio_rate.samples_in_ms(20));
    (0..50)
        .map(|_| {
            let mut packet = vec![0; 2048];
            let size = encoder.encode(frames.next(), &mut packet).unwrap();
            packet.truncate(size);
            packet
        })
        .collect()
}

fn decode(params: &CodecParams) -> Step {
    let packets = packets(params);
    let mut decoder = registry::decoder(params).unwrap();
    let mut pcm = vec![0; params.audio_rate.samples_in_ms(20)];
    let mut at = 0;
    Box::new(move || {
        black_box(decoder.decode(black_box(&packets[at]), &mut pcm).unwrap());
        at = (at + 1) % packets.len();
    })
}

/// A loss of one packet and the packet after it: the search for the pitch, and the way back.
fn conceal(params: &CodecParams) -> Step {
    let packets = packets(params);
    let mut decoder = registry::decoder(params).unwrap();
    let mut pcm = vec![0; params.audio_rate.samples_in_ms(20)];
    let mut at = 0;
    Box::new(move || {
        black_box(decoder.conceal(&mut pcm));
        black_box(decoder.decode(black_box(&packets[at]), &mut pcm).unwrap());
        at = (at + 1) % packets.len();
    })
}

fn resample(from: u32, to: u32) -> Step {
    let mut resampler = Resampler::new(SampleRate(from), SampleRate(to)).unwrap();
    let mut frames = Frames::new(from, from as usize / 50);
    let mut out = vec![0; resampler.max_output(from as usize / 50)];
    Box::new(move || {
        black_box(resampler.process(black_box(frames.next()), &mut out));
    })
}

/// 20 ms behind as much that was played: the search and the cross-fade.
fn shorten(hz: u32) -> Step {
    let rate = SampleRate(hz);
    let past = rate.samples_in_ms(stretch::PAST_MS);
    let mut frames = Frames::new(hz, 2 * past);
    let mut buffer = vec![0; 2 * past];
    Box::new(move || {
        buffer.copy_from_slice(frames.next());
        black_box(stretch::shorten(rate, black_box(&mut buffer), past, usize::MAX, Haste::Great));
    })
}

fn lengthen(hz: u32) -> Step {
    let rate = SampleRate(hz);
    let past = rate.samples_in_ms(stretch::PAST_MS);
    let mut frames = Frames::new(hz, 2 * past);
    let mut buffer = vec![0; 3 * past];
    Box::new(move || {
        buffer[..2 * past].copy_from_slice(frames.next());
        black_box(stretch::lengthen(rate, black_box(&mut buffer), past, 2 * past, Haste::Great));
    })
}

fn linear() -> Step {
    let mut upsampler = LinearUpsampler::new();
    let mut frames = Frames::new(8_000, 160);
    let mut out = [0; 320];
    Box::new(move || {
        black_box(upsampler.process(black_box(frames.next()), &mut out));
    })
}

fn noise_encode() -> Step {
    let mut frames = Frames::new(8_000, 160);
    let mut payload = [0; 1];
    Box::new(move || {
        black_box(comfort_noise::encode(black_box(frames.next()), 0, &mut payload).unwrap());
    })
}

fn noise_generate() -> Step {
    let mut noise = ComfortNoise::new(1);
    noise.update(&[50]).unwrap();
    let mut pcm = [0; 160];
    Box::new(move || {
        noise.generate(black_box(&mut pcm));
    })
}
