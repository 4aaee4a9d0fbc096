//! What callers and peers get wrong is an error, never a panic, and the codec goes on.
#![allow(clippy::unwrap_used)]

#[path = "support/signal.rs"]
mod signal;

use codecs::registry::{self, CodecId, SPECS};
use codecs::{CodecError, SampleRate};

#[test]
fn empty_input_is_refused() {
    for spec in SPECS {
        let mut encoder = registry::encoder(&spec.params()).unwrap();
        let mut decoder = registry::decoder(&spec.params()).unwrap();
        assert_eq!(encoder.encode(&[], &mut [0; 100]), Err(CodecError::Empty));
        assert_eq!(decoder.decode(&[], &mut [0; 100]), Err(CodecError::Empty));
        assert_eq!(decoder.samples_in(&[]), 0);
        assert_eq!(decoder.conceal(&mut []), 0);
        assert!(matches!(decoder.recover(&[], &mut []), Ok(0) | Err(CodecError::Empty)));
    }
}

#[test]
fn too_small_an_output_is_refused_and_the_next_call_works() {
    for spec in SPECS {
        let mut encoder = registry::encoder(&spec.params()).unwrap();
        let mut decoder = registry::decoder(&spec.params()).unwrap();
        let frame = signal::voice(spec.audio_rate.hz(), spec.audio_rate.samples_in_ms(20));
        let mut packet = [0; 4000];
        for room in [0, 1, 2] {
            assert!(encoder.encode(&frame, &mut packet[..room]).is_err(), "{}", spec.name);
        }
        let size = encoder.encode(&frame, &mut packet).unwrap();
        let mut audio = vec![0; frame.len()];
        assert_eq!(
            decoder.decode(&packet[..size], &mut audio[1..]),
            Err(CodecError::OutputTooSmall { needed: frame.len(), capacity: frame.len() - 1 }),
            "{}",
            spec.name
        );
        assert_eq!(decoder.decode(&packet[..size], &mut audio), Ok(frame.len()));
    }
}

#[test]
fn odd_lengths_are_refused_where_they_mean_nothing() {
    let mut out = [0; 4000];
    for (id, samples) in [(CodecId::G722, 321), (CodecId::Opus, 321), (CodecId::Opus, 7)] {
        let mut encoder = registry::encoder(&registry::spec(id).unwrap().params()).unwrap();
        let result = encoder.encode(&vec![0; samples], &mut out);
        assert!(matches!(result, Err(CodecError::BadFrameLength { .. })), "{id:?}: {result:?}");
    }
    let mut l16 = registry::decoder(&registry::spec(CodecId::L16).unwrap().params()).unwrap();
    let result = l16.decode(&[1, 2, 3], &mut [0; 10]);
    assert!(matches!(result, Err(CodecError::BadPayload { .. })));
}

#[test]
fn oversize_frames_are_taken_or_refused_but_never_written_beyond_the_output() {
    for spec in SPECS {
        let mut encoder = registry::encoder(&spec.params()).unwrap();
        let mut decoder = registry::decoder(&spec.params()).unwrap();
        let long = vec![1000; 200_000];
        assert!(encoder.encode(&long, &mut [0; 1500]).is_err(), "{}", spec.name);
        let payload = vec![0x5a; 65_507];
        assert!(decoder.decode(&payload, &mut [0; 960]).is_err(), "{}", spec.name);
    }
}

#[test]
fn random_payloads_never_panic() {
    let mut random = 1_u32;
    let mut next = move || {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        random >> 8
    };
    for spec in SPECS {
        let mut decoder = registry::decoder(&spec.params()).unwrap();
        let mut audio = vec![0; 48_000];
        for round in 0..3000 {
            let length = next() as usize % 200;
            let payload: Vec<u8> = (0..length).map(|_| next() as u8).collect();
            let expected = decoder.samples_in(&payload);
            if let Ok(samples) = decoder.decode(&payload, &mut audio) {
                assert_eq!(samples, expected, "{} round {round}", spec.name);
            }
            let room = next() as usize % 2000;
            match decoder.recover(&payload, &mut audio[..room]) {
                Ok(samples) => assert!(samples <= room),
                Err(error) => assert!(!error.to_string().is_empty()),
            }
            let room = next() as usize % 9000;
            assert_eq!(decoder.conceal(&mut audio[..room]), room);
        }
    }
}

#[test]
fn errors_say_what_is_wrong() {
    let error = registry::decoder(&registry::CodecParams {
        audio_rate: SampleRate(44_100),
        ..registry::spec(CodecId::G722).unwrap().params()
    })
    .err()
    .unwrap();
    assert_eq!(error.to_string(), "G722 does not take audio at 44100 Hz");
}
