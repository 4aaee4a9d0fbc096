//! Tones of the network, of fax machines and answering machines: told once, in noise and off their frequency, over G.711
//! with losses; and never in speech.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::f32::consts::TAU;

use codecs::concealment::Concealer;
use codecs::g711::Law;
use codecs::pcm::SampleRate;
use common::{Random, seeds};
use media::tones::{Tone, ToneListener};

const RATE: SampleRate = SampleRate::HZ_8000;

/// Tones (each of so many hertz) for so long; none is a rest.
type Part<'a> = (&'a [f32], u32);

fn sound(parts: &[Part<'_>], rate: SampleRate, amplitude: f32, off: f32) -> Vec<i16> {
    let mut pcm = Vec::new();
    for (tones, ms) in parts {
        let level = amplitude / tones.len().max(1) as f32;
        pcm.extend((0..rate.samples_in_ms(*ms)).map(|n| {
            let at = n as f32 * TAU / rate.hz() as f32;
            tones.iter().map(|hz| (at * hz * (1.0 + off)).sin() * level).sum::<f32>() as i16
        }));
    }
    pcm
}

fn noisy(mut pcm: Vec<i16>, amplitude: i32, random: &mut Random) -> Vec<i16> {
    for sample in &mut pcm {
        let noise = (random.below(2 * amplitude as u64 + 1) as i32) - amplitude;
        *sample = sample.saturating_add(noise as i16);
    }
    pcm
}

fn heard(pcm: &[i16], rate: SampleRate) -> Vec<Tone> {
    let mut listener = ToneListener::new(rate).unwrap();
    pcm.chunks(rate.samples_in_ms(20)).filter_map(|frame| listener.push(frame)).map(|heard| heard.tone).collect()
}

/// Through G.711 with one frame in `lose` made up.
fn through(pcm: &[i16], lose: u64, random: &mut Random) -> Vec<i16> {
    let mut concealer = Concealer::new(RATE);
    let mut out = Vec::new();
    for frame in pcm.chunks(160) {
        let mut coded: Vec<i16> = frame.iter().map(|sample| Law::Mu.expand(Law::Mu.compress(*sample))).collect();
        if lose > 0 && random.below(lose) == 0 {
            concealer.conceal(&mut coded);
        } else {
            concealer.good(&mut coded);
        }
        out.extend(coded);
    }
    out
}

const REST: Part<'static> = (&[], 3_000);

fn plans() -> Vec<(&'static str, Vec<Part<'static>>, Vec<Tone>)> {
    let cycle = |sound: Part<'static>, rest: u32, times: usize| -> Vec<Part<'static>> {
        let mut parts = vec![(&[][..], 333)];
        for _ in 0..times {
            parts.extend([sound, (&[], rest)]);
        }
        parts.push(REST);
        parts
    };
    vec![
        ("fax calling", cycle((&[1_100.0], 500), 3_000, 1), vec![Tone::FaxCalling]),
        ("fax answering", cycle((&[2_100.0], 3_000), 100, 1), vec![Tone::FaxAnswering]),
        ("ringing, North America", cycle((&[440.0, 480.0], 2_000), 4_000, 1), vec![Tone::Ringing]),
        ("ringing, Europe", cycle((&[425.0], 1_000), 4_000, 1), vec![Tone::Ringing]),
        ("busy, North America", cycle((&[480.0, 620.0], 500), 500, 4), vec![Tone::Busy]),
        ("busy, Europe", cycle((&[425.0], 500), 500, 4), vec![Tone::Busy]),
        ("congestion, North America", cycle((&[480.0, 620.0], 250), 250, 5), vec![Tone::Congestion]),
        ("congestion, Europe", cycle((&[425.0], 240), 240, 5), vec![Tone::Congestion]),
        (
            "special information",
            vec![REST, (&[950.0], 330), (&[1_400.0], 330), (&[1_800.0], 330), REST],
            vec![Tone::SpecialInformation],
        ),
        (
            "special information, North America",
            vec![REST, (&[913.8], 276), (&[1_370.6], 276), (&[1_776.7], 380), REST],
            vec![Tone::SpecialInformation],
        ),
        ("a beep", cycle((&[1_000.0], 400), 2_000, 1), vec![Tone::Beep]),
        ("a short, high beep", cycle((&[1_750.0], 240), 2_000, 1), vec![Tone::Beep]),
        ("a dial tone", cycle((&[350.0, 440.0], 4_000), 100, 1), vec![]),
        ("Europe's dial tone", cycle((&[425.0], 6_000), 100, 1), vec![]),
        ("a key", cycle((&[770.0, 1_336.0], 300), 1_000, 3), vec![]),
        ("a long tone", cycle((&[1_000.0], 5_000), 1_000, 1), vec![]),
    ]
}

#[test]
fn each_tone_is_told_once_in_noise_and_off_its_frequency_at_both_rates() {
    for seed in seeds(6) {
        let mut random = Random(seed);
        for (what, parts, expected) in plans() {
            for rate in [RATE, SampleRate::HZ_16000] {
                for (amplitude, noise, off) in [(8_000.0, 0, 0.0), (8_000.0, 500, 0.006), (1_500.0, 100, -0.006)] {
                    let pcm = noisy(sound(&parts, rate, amplitude, off), noise, &mut random);
                    let told = heard(&pcm, rate);
                    assert_eq!(told, expected, "{what}, {rate:?}, {amplitude} over {noise}, {off}, seed {seed}");
                }
            }
        }
    }
}

#[test]
fn each_tone_is_told_over_g711_with_losses() {
    for seed in seeds(6) {
        let mut random = Random(seed);
        for (what, parts, expected) in plans() {
            let pcm = noisy(sound(&parts, RATE, 6_000.0, 0.0), 60, &mut random);
            let told = heard(&through(&pcm, 50, &mut random), RATE);
            assert_eq!(told, expected, "{what}, seed {seed}");
        }
    }
}

#[test]
fn noise_of_any_level_is_no_tone() {
    for seed in seeds(6) {
        let mut random = Random(seed);
        for amplitude in [50, 500, 5_000, 20_000] {
            let pcm = noisy(vec![0; 30 * 8_000], amplitude, &mut random);
            assert_eq!(heard(&pcm, RATE), [], "{amplitude}, seed {seed}");
        }
    }
}

/// Flite and espeak-ng (their programs must be installed) say some sentences each.
#[test]
fn speech_is_no_tone() {
    let folder = tempfile::tempdir().unwrap();
    let texts = [
        "Good morning. You have reached the office of doctor Miller; please leave your message after the tone.",
        "Ooh, who knew? You should move to a new school in June, too. Soon. Mmm. Aah. Eee.",
        "One two three four five six seven eight nine zero. All of our operators are busy at the moment.",
    ];
    let speakers =
        [("flite", "rms"), ("flite", "slt"), ("flite", "awb"), ("espeak-ng", "en-us"), ("espeak-ng", "en-us+f4")];
    for (program, voice) in speakers {
        for text in texts {
            let file = folder.path().join("said.wav");
            let mut command = std::process::Command::new(program);
            match program {
                "flite" => command.args(["-voice", voice, "-t", text, "-o"]).arg(&file),
                _ => command.args(["-v", voice, "-w"]).arg(&file).arg(text),
            };
            assert!(command.status().expect("flite and espeak-ng are installed").success());
            let mut wav = hound::WavReader::open(&file).unwrap();
            let from = SampleRate(wav.spec().sample_rate);
            let pcm: Vec<i16> = wav.samples::<i16>().map(Result::unwrap).collect();
            let mut resampler = codecs::resample::Resampler::new(from, RATE).unwrap();
            let mut narrow = vec![0; resampler.max_output(pcm.len())];
            let made = resampler.process(&pcm, &mut narrow);
            assert!(made > 8_000);
            assert_eq!(heard(narrow.get(..made).unwrap(), RATE), [], "{program} {voice}: {text}");
        }
    }
}
