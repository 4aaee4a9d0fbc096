//! Every codec there and back, in packets of every length that is negotiated.
#![allow(clippy::unwrap_used)]

#[path = "support/signal.rs"]
mod signal;

use codecs::registry::{self, CodecId, CodecParams, SPECS};
use codecs::{CodecError, SampleRate};

const PTIMES_MS: [u8; 5] = [10, 20, 30, 40, 60];

/// Encodes and decodes two seconds.
fn there_and_back(params: &CodecParams, pcm: &[i16]) -> Vec<i16> {
    let mut encoder = registry::encoder(params).unwrap();
    let mut decoder = registry::decoder(params).unwrap();
    let frame = params.audio_rate.samples_in_ms(u32::from(params.ptime_ms));
    let mut packet = vec![0; 8000];
    let mut back = Vec::new();
    for chunk in pcm.chunks_exact(frame) {
        let size = encoder.encode(chunk, &mut packet).unwrap();
        let samples = decoder.samples_in(&packet[..size]);
        assert_eq!(samples, frame, "{params:?}");
        let mut audio = vec![0; samples];
        assert_eq!(decoder.decode(&packet[..size], &mut audio), Ok(frame));
        back.extend(audio);
    }
    back
}

#[test]
fn every_codec_keeps_its_quality_at_every_packet_time() {
    for spec in SPECS {
        let pcm = signal::voice(spec.audio_rate.hz(), spec.audio_rate.samples_in_ms(2040));
        for ptime_ms in PTIMES_MS {
            let mut params = spec.params();
            params.ptime_ms = ptime_ms;
            let back = there_and_back(&params, &pcm);
            let (snr, delay) = signal::best_snr_db(&pcm[..back.len()], &back, 400);
            let (floor_db, most_delay) = match spec.id {
                CodecId::Pcmu | CodecId::Pcma => (36.0, 0),
                CodecId::G722 => (25.0, 22),
                CodecId::Opus => (9.0, 400), // not a waveform coder at 24 kbit/s
                _ => (90.0, 0),
            };
            eprintln!("{} {ptime_ms} ms: {snr:.1} dB, {delay} samples late", spec.name);
            assert!(snr > floor_db, "{} {ptime_ms} ms: {snr:.1} dB", spec.name);
            assert!(delay <= most_delay, "{}: {delay} samples late", spec.name);
            let change_db = 20.0 * (signal::rms(&back) / signal::rms(&pcm)).log10();
            let most_change_db = if spec.id == CodecId::Opus { 2.0 } else { 0.1 };
            assert!(change_db.abs() < most_change_db, "{}: level changed by {change_db:.2} dB", spec.name);
        }
    }
}

#[test]
fn opus_works_at_each_of_its_rates_and_for_a_peer_at_another() {
    let rates = [8_000, 12_000, 16_000, 24_000, 48_000].map(SampleRate);
    for ours in rates {
        for theirs in rates {
            let spec = registry::spec(CodecId::Opus).unwrap();
            let params = |audio_rate| CodecParams { audio_rate, ..spec.params() };
            let mut encoder = registry::encoder(&params(ours)).unwrap();
            let mut decoder = registry::decoder(&params(theirs)).unwrap();
            let pcm = signal::sine(440.0, ours.hz(), 8000.0, ours.samples_in_ms(1000));
            let (mut packet, mut back) = ([0; 1500], Vec::new());
            for chunk in pcm.chunks_exact(ours.samples_in_ms(20)) {
                let size = encoder.encode(chunk, &mut packet).unwrap();
                let mut audio = vec![0; theirs.samples_in_ms(20)];
                let samples = decoder.decode(&packet[..size], &mut audio).unwrap();
                assert_eq!(samples, audio.len());
                back.extend(audio);
            }
            let steady = &back[back.len() / 2..];
            let amplitude = signal::amplitude_at(steady, 440.0, theirs.hz());
            assert!((6500.0..9500.0).contains(&amplitude), "{ours} to {theirs}: {amplitude}");
        }
    }
}

#[test]
fn opus_joins_short_frames_where_it_has_none_of_the_length() {
    let params = registry::spec(CodecId::Opus).unwrap().params();
    let mut encoder = registry::encoder(&params).unwrap();
    let decoder = registry::decoder(&params).unwrap();
    let mut packet = [0; 3000];
    for ms in (10..=120).step_by(10) {
        let pcm = signal::voice(16_000, params.audio_rate.samples_in_ms(ms));
        let size = encoder.encode(&pcm, &mut packet).unwrap();
        assert_eq!(decoder.samples_in(&packet[..size]), pcm.len(), "{ms} ms");
    }
    let too_long = vec![0; params.audio_rate.samples_in_ms(130)];
    assert!(matches!(encoder.encode(&too_long, &mut packet), Err(CodecError::BadFrameLength { .. })));
}

#[test]
fn opus_sends_nothing_in_silence_when_asked_to() {
    let mut params = registry::spec(CodecId::Opus).unwrap().params();
    params.fmtp.dtx = true;
    let mut encoder = registry::encoder(&params).unwrap();
    let mut packet = [0; 1500];
    let voice = signal::voice(16_000, 16_000);
    let spoken = voice.chunks_exact(320).filter(|frame| encoder.encode(frame, &mut packet).unwrap() > 0).count();
    assert_eq!(spoken, 50);
    let silent = (0..100).filter(|_| encoder.encode(&[0; 320], &mut packet).unwrap() > 0).count();
    assert!(silent < 30, "{silent} of 100 packets of silence sent");
}

#[test]
fn opus_keeps_to_the_bit_rate_that_the_peer_allows() {
    let spec = registry::spec(CodecId::Opus).unwrap();
    let params = spec.negotiated(20, "maxaveragebitrate=12000;cbr=1");
    let mut encoder = registry::encoder(&params).unwrap();
    let (mut packet, mut bytes) = ([0; 1500], 0);
    for chunk in signal::voice(16_000, 32_000).chunks_exact(320) {
        bytes += encoder.encode(chunk, &mut packet).unwrap();
    }
    let bps = bytes * 8 / 2;
    assert!((11_000..=12_500).contains(&bps), "{bps} bit/s");
}
