//! What is heard when audio is lost: close to what was, fading, without clicks.
#![allow(clippy::unwrap_used)]

#[path = "support/signal.rs"]
mod signal;

use codecs::SampleRate;
use codecs::concealment::Concealer;
use codecs::registry::{self, CodecId};

/// Plays `pcm` through a concealer in frames of 10 ms, with the frames in `lost` lost.
fn play(rate: SampleRate, pcm: &[i16], lost: std::ops::Range<usize>) -> Vec<i16> {
    let mut concealer = Concealer::new(rate);
    let mut heard = Vec::new();
    for (index, frame) in pcm.chunks_exact(rate.samples_in_ms(10)).enumerate() {
        let mut frame = frame.to_vec();
        if lost.contains(&index) {
            frame.fill(0);
            concealer.conceal(&mut frame);
        } else {
            concealer.good(&mut frame);
        }
        heard.extend(frame);
    }
    heard
}

const RATES: [SampleRate; 4] = [SampleRate::HZ_8000, SampleRate::HZ_16000, SampleRate::HZ_44100, SampleRate::HZ_48000];

#[test]
fn a_lost_sine_is_continued_closely() {
    for rate in RATES {
        for hz in [80.0, 150.0, 237.0, 440.0, 1000.0] {
            let pcm = signal::sine(hz, rate.hz(), 10_000.0, rate.samples_in_ms(200));
            let heard = play(rate, &pcm, 10..11);
            let gap = rate.samples_in_ms(100)..rate.samples_in_ms(110);
            let snr = signal::snr_db(&pcm[gap.clone()], &heard[gap], 0);
            assert!(snr > 12.0, "{hz} Hz at {rate}: {snr:.1} dB");
        }
    }
}

#[test]
fn a_lost_voice_is_continued_closely() {
    for rate in RATES {
        let pcm = signal::voice(rate.hz(), rate.samples_in_ms(300));
        let heard = play(rate, &pcm, 12..14);
        let gap = rate.samples_in_ms(120)..rate.samples_in_ms(130);
        let snr = signal::snr_db(&pcm[gap.clone()], &heard[gap], 0);
        eprintln!("voice at {rate}: {snr:.1} dB over the first 10 ms");
        assert!(snr > 6.0, "{rate}: {snr:.1} dB");
    }
}

#[test]
fn a_long_loss_fades_to_silence_at_60_ms() {
    for rate in RATES {
        let pcm = signal::voice(rate.hz(), rate.samples_in_ms(400));
        let heard = play(rate, &pcm, 20..35);
        let level = |from_ms, to_ms| signal::rms(&heard[rate.samples_in_ms(from_ms)..rate.samples_in_ms(to_ms)]);
        let before = level(180, 200);
        assert!(level(200, 210) > before * 0.6);
        assert!(level(220, 230) < level(200, 210));
        assert!(level(245, 255) < before * 0.4);
        assert_eq!(level(260, 350), 0.0);
        assert!(level(370, 390) > before * 0.5, "the voice is back");
    }
}

#[test]
fn there_are_no_clicks_at_the_joins() {
    for rate in RATES {
        for lost in [11..12, 11..13, 11..16, 11..30] {
            let pcm = signal::voice(rate.hz(), rate.samples_in_ms(400));
            let heard = play(rate, &pcm, lost.clone());
            let (natural, found) = (signal::largest_step(&pcm), signal::largest_step(&heard));
            assert!(
                found <= natural + natural / 4,
                "{lost:?} at {rate}: a step of {found}, where the voice has {natural}"
            );
        }
    }
}

#[test]
fn good_audio_is_left_alone_once_the_join_is_over() {
    let rate = SampleRate::HZ_8000;
    let pcm = signal::voice(rate.hz(), rate.samples_in_ms(400));
    let heard = play(rate, &pcm, 20..22);
    assert_eq!(heard[..1600], pcm[..1600]);
    assert_eq!(heard[1760 + 80..], pcm[1760 + 80..]);
    assert_eq!(play(rate, &pcm, 0..0), pcm);
}

#[test]
fn nothing_comes_from_nothing() {
    for rate in [SampleRate(0), SampleRate(100), SampleRate::HZ_8000, SampleRate(192_000)] {
        let mut concealer = Concealer::new(rate);
        let mut pcm = [7; 5000];
        concealer.conceal(&mut pcm);
        assert!(pcm.iter().all(|&s| s == 0), "{rate}");
        concealer.good(&mut [1; 3]);
        concealer.conceal(&mut pcm);
        concealer.conceal(&mut []);
        concealer.good(&mut []);
        concealer.reset();
        concealer.conceal(&mut pcm);
        assert!(pcm.iter().all(|&s| s == 0), "{rate}");
    }
}

#[test]
fn every_codec_conceals_and_comes_back() {
    for spec in registry::SPECS {
        let rate = spec.audio_rate;
        let mut encoder = registry::encoder(&spec.params()).unwrap();
        let mut decoder = registry::decoder(&spec.params()).unwrap();
        let pcm = signal::voice(rate.hz(), rate.samples_in_ms(2000));
        let (mut packet, mut heard) = (vec![0; 4000], Vec::new());
        for (index, chunk) in pcm.chunks_exact(rate.samples_in_ms(20)).enumerate() {
            let size = encoder.encode(chunk, &mut packet).unwrap();
            let mut audio = vec![0; chunk.len()];
            if index % 10 == 7 {
                assert_eq!(decoder.conceal(&mut audio), chunk.len());
                assert!(signal::rms(&audio) > 100.0, "{} is silent", spec.name);
            } else {
                decoder.decode(&packet[..size], &mut audio).unwrap();
            }
            heard.extend(audio);
        }
        let change_db = 20.0 * (signal::rms(&heard) / signal::rms(&pcm)).log10();
        let most_change_db = if spec.id == CodecId::Opus { 3.0 } else { 1.5 };
        assert!(change_db.abs() < most_change_db, "{}: {change_db:.2} dB", spec.name);
        // a long loss ends in silence
        let mut audio = vec![0; rate.samples_in_ms(10_000)];
        decoder.conceal(&mut audio);
        assert_eq!(signal::rms(&audio[audio.len() / 20..]), 0.0, "{} goes on", spec.name);
    }
}

#[test]
fn opus_recovers_a_lost_frame_from_the_next_packet() {
    let mut params = registry::spec(CodecId::Opus).unwrap().params();
    params.fmtp.expected_loss_percent = 20;
    let mut encoder = registry::encoder(&params).unwrap();
    let pcm = signal::voice(16_000, 32_000);
    let packets: Vec<Vec<u8>> = pcm
        .chunks_exact(320)
        .map(|chunk| {
            let mut packet = vec![0; 1500];
            let size = encoder.encode(chunk, &mut packet).unwrap();
            packet.truncate(size);
            packet
        })
        .collect();
    let with_fec = packets.iter().filter(|packet| codecs::opus::has_fec(packet)).count();
    assert!(with_fec > 50, "{with_fec} of {} packets", packets.len());

    let listen = |recover: bool| {
        let mut decoder = registry::decoder(&params).unwrap();
        let mut heard = Vec::new();
        for (index, packet) in packets.iter().enumerate() {
            let mut audio = [0; 320];
            if index % 5 == 3 {
                let next = packets.get(index + 1).unwrap();
                if !recover || decoder.recover(next, &mut audio).unwrap() == 0 {
                    decoder.conceal(&mut audio);
                }
            } else {
                decoder.decode(packet, &mut audio).unwrap();
            }
            heard.extend(audio);
        }
        heard
    };
    let mut decoder = registry::decoder(&params).unwrap();
    let mut clean = Vec::new();
    for packet in &packets {
        let mut audio = [0; 320];
        decoder.decode(packet, &mut audio).unwrap();
        clean.extend(audio);
    }
    let concealed = signal::snr_db(&clean, &listen(false), 0);
    let recovered = signal::snr_db(&clean, &listen(true), 0);
    eprintln!("20 % loss: {concealed:.1} dB concealed, {recovered:.1} dB recovered");
    assert!(recovered > concealed + 3.0, "{recovered:.1} dB after {concealed:.1} dB");
}

#[test]
fn opus_without_fec_has_nothing_to_recover_from() {
    let params = registry::spec(CodecId::Opus).unwrap().negotiated(20, "useinbandfec=0");
    let mut encoder = registry::encoder(&params).unwrap();
    let mut decoder = registry::decoder(&params).unwrap();
    let mut packet = [0; 1500];
    for chunk in signal::voice(16_000, 16_000).chunks_exact(320) {
        let size = encoder.encode(chunk, &mut packet).unwrap();
        assert_eq!(decoder.recover(&packet[..size], &mut [0; 320]), Ok(0));
    }
}

#[test]
fn opus_carries_redundancy_at_any_loss_that_is_reported_and_at_any_rate() {
    for rate in [SampleRate::HZ_8000, SampleRate::HZ_16000, SampleRate::HZ_48000] {
        let pcm = signal::voice(rate.hz(), rate.samples_in_ms(4_000));
        for percent in [0, 1, 2, 3, 5, 6, 10, 20] {
            let spec = registry::spec(CodecId::Opus).unwrap();
            let mut params = spec.negotiated(20, "useinbandfec=1");
            params.audio_rate = rate;
            let mut encoder = registry::encoder(&params).unwrap();
            encoder.set_expected_loss_percent(percent);
            let mut packet = [0; 1_500];
            let mut with_fec = 0;
            for frame in pcm.chunks_exact(rate.samples_in_ms(20)) {
                let size = encoder.encode(frame, &mut packet).unwrap();
                with_fec += usize::from(codecs::opus::has_fec(&packet[..size]));
            }
            let expected = if percent == 0 { 0..=0 } else { 80..=200 };
            assert!(expected.contains(&with_fec), "{percent} % at {rate}: {with_fec} of 200");
        }
    }
}
