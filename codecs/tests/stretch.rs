//! What is heard of sound that is made shorter or longer: the same pitch, no clicks, exactly as much as was said.
#![allow(clippy::unwrap_used)]

#[path = "support/signal.rs"]
mod signal;

use codecs::SampleRate;
use codecs::stretch::{self, Haste};

const RATES: [SampleRate; 4] = [SampleRate::HZ_8000, SampleRate::HZ_16000, SampleRate::HZ_44100, SampleRate::HZ_48000];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Shorter,
    Longer,
}

/// Plays `pcm` in frames of 20 ms, every `nth` of which is stretched; what was played, and by how much it grew.
fn play(rate: SampleRate, pcm: &[i16], way: Way, nth: usize, haste: Haste) -> (Vec<i16>, isize) {
    let past = rate.samples_in_ms(stretch::PAST_MS);
    let frame = rate.samples_in_ms(20);
    let mut buffer = vec![0; past];
    let (mut heard, mut grown) = (Vec::new(), 0_isize);
    for (n, packet) in pcm.chunks_exact(frame).enumerate() {
        buffer.extend(packet);
        let end = buffer.len();
        if n % nth == nth - 1 {
            match way {
                Way::Shorter => {
                    let less = stretch::shorten(rate, &mut buffer, past, usize::MAX, haste);
                    buffer.truncate(end - less);
                    grown -= less as isize;
                }
                Way::Longer => {
                    buffer.resize(end + frame, 0);
                    let more = stretch::lengthen(rate, &mut buffer, past, end, haste);
                    buffer.truncate(end + more);
                    grown += more as isize;
                }
            }
        }
        heard.extend(&buffer[past..]);
        buffer.drain(..buffer.len() - past);
    }
    (heard, grown)
}

#[test]
fn a_stretched_tone_keeps_its_pitch_and_its_level() {
    for rate in RATES {
        for hz in [90.0, 150.0, 237.0, 440.0, 1000.0] {
            for way in [Way::Shorter, Way::Longer] {
                let pcm = signal::sine(hz, rate.hz(), 10_000.0, rate.samples_in_ms(2_000));
                let (heard, grown) = play(rate, &pcm, way, 3, Haste::None);
                let moved_ms = grown.unsigned_abs() as f64 * 1e3 / f64::from(rate.hz());
                assert!(moved_ms > 33.0 * 2.5, "{way:?} {hz} Hz at {rate}: {moved_ms:.1} ms in 33 packets");
                // the tone is where it was, and nothing is beside it; whole samples shift its phase a little each time
                for piece in heard.chunks_exact(rate.samples_in_ms(200)) {
                    let amplitude = signal::amplitude_at(piece, hz, rate.hz());
                    assert!((9_000.0..10_500.0).contains(&amplitude), "{way:?} {hz} Hz at {rate}: {amplitude:.0}");
                }
                let all = signal::rms(&heard);
                assert!((all / 7_071.0 - 1.0).abs() < 0.03, "{way:?} {hz} Hz at {rate}: {all:.0} of 7,071");
            }
        }
    }
}

/// Frequency of the strongest of a voice's harmonics, in a search around it.
fn strongest_hz(pcm: &[i16], rate: SampleRate, around: f64) -> f64 {
    let candidates = (-60..=60).map(|n| around * (1.0 + f64::from(n) / 400.0));
    let found = candidates.map(|hz| (hz, signal::amplitude_at(pcm, hz, rate.hz())));
    found.fold((0.0, 0.0), |best, this| if this.1 > best.1 { this } else { best }).0
}

#[test]
fn a_stretched_voice_keeps_its_pitch_without_clicks_and_is_as_long_as_told() {
    for rate in RATES {
        for way in [Way::Shorter, Way::Longer] {
            for nth in [1, 2, 5] {
                let pcm = signal::voice(rate.hz(), rate.samples_in_ms(3_000));
                let (heard, grown) = play(rate, &pcm, way, nth, Haste::None);
                assert_eq!(heard.len() as isize, pcm.len() as isize + grown, "{way:?}");
                let moved = grown as f64 / pcm.len() as f64;
                let least = 0.2 / nth as f64;
                assert!(moved.abs() > least, "{way:?} every {nth} at {rate}: only {:.1} %", moved * 100.0);
                for harmonic in [120.0, 600.0].into_iter().filter(|_| nth == 2) {
                    let hz = strongest_hz(&heard[..rate.samples_in_ms(1_000)], rate, harmonic);
                    assert!((hz / harmonic - 1.0).abs() < 0.01, "{way:?} every {nth} at {rate}: {hz:.1} Hz");
                }
                let (natural, found) = (signal::largest_step(&pcm), signal::largest_step(&heard));
                assert!(
                    found <= natural + natural / 8,
                    "{way:?} at {rate}: a step of {found}, the voice has {natural}"
                );
                let level = signal::rms(&heard) / signal::rms(&pcm);
                assert!((0.94..1.06).contains(&level), "{way:?} every {nth} at {rate}: {level:.3} of its level");
            }
        }
    }
}

#[test]
fn noise_is_left_as_it_is_unless_there_is_haste_and_quiet_yields_as_much_as_it_can() {
    for rate in RATES {
        let mut random = 0x2545_f491_u32;
        let mut noise = |level: f64| -> Vec<i16> {
            let mut next = || {
                random ^= random << 13;
                random ^= random >> 17;
                random ^= random << 5;
                (level * (f64::from(random >> 8) / f64::from(1 << 23) - 1.0)) as i16
            };
            (0..rate.samples_in_ms(1_000)).map(|_| next()).collect()
        };
        let (loud, quiet) = (noise(8_000.0), noise(100.0));
        for way in [Way::Shorter, Way::Longer] {
            let (heard, grown) = play(rate, &loud, way, 2, Haste::None);
            assert_eq!((grown, heard.len()), (0, loud.len()), "{way:?} at {rate}");
            assert_eq!(heard, loud);
            let tone = signal::sine(150.0, rate.hz(), 10_000.0, rate.samples_in_ms(1_000));
            assert_eq!(play(rate, &tone, way, 2, Haste::OnlyInQuiet), (tone, 0));
            let (_, grown) = play(rate, &loud, way, 2, Haste::Great);
            assert!(grown.unsigned_abs() >= rate.samples_in_ms(25 * 5 / 2), "{way:?} at {rate}: {grown}");
            let (_, grown) = play(rate, &quiet, way, 2, Haste::OnlyInQuiet);
            let all = 25 * (u64::from(rate.hz()) * 15 / 1_000) as usize;
            assert!(grown.unsigned_abs() > all * 9 / 10, "{way:?} at {rate}: {grown} of {all}");
        }
    }
}

#[test]
fn what_is_too_short_or_has_no_room_is_left_alone() {
    let rate = SampleRate::HZ_8000;
    let tone = signal::sine(200.0, 8_000, 9_000.0, 800);
    for len in 0..220 {
        for at in [0, 39, 40, 159, 160, 161, 400] {
            let mut buffer = tone[..len].to_vec();
            let less = stretch::shorten(rate, &mut buffer, at, usize::MAX, Haste::Great);
            assert!(less == 0 || at >= 40 && less + 40 <= len - at, "{less} of {len} from {at}");
            for most in [0, 19, 50] {
                let mut buffer = tone[..len].to_vec();
                assert!(stretch::shorten(rate, &mut buffer, at, most, Haste::Great) <= most);
            }
            for end in [0, len / 2, len] {
                let mut buffer = tone[..len].to_vec();
                let more = stretch::lengthen(rate, &mut buffer, at, end, Haste::Great);
                assert!(more == 0 || end + more <= len && at + 40 <= end, "{more} from {at} to {end} of {len}");
            }
        }
    }
    let mut buffer = tone.clone();
    assert_eq!(stretch::shorten(rate, &mut buffer, 160, 19, Haste::Great), 0, "under 2.5 ms is too little");
    assert_eq!(buffer, tone);
}
