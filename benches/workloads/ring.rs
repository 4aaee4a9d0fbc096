//! Crossing the seam between a media worker and the async side: the rings that `media::port` is built on, with what goes
//! through them, both ends in one thread.
#![allow(clippy::unwrap_used)]

use std::hint::black_box;
use std::time::Instant;

use codecs::SampleRate;
use media::port::{EAR_RING_FRAMES, EarFrame, VOICE_RING_MS};
use ringbuf::HeapRb;
use ringbuf::traits::{Consumer, Producer, Split};

use crate::case::{Case, Step, Work};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("ring/ear_frame/20ms", Work::Items(1), ear),
        Case::new("ring/voice_8k/20ms", Work::Samples(160), || voice(8_000)),
        Case::new("ring/voice_16k/20ms", Work::Samples(320), || voice(16_000)),
    ]
}

fn ear() -> Step {
    let (mut worker, mut port) = HeapRb::new(EAR_RING_FRAMES).split();
    let frame = EarFrame {
        pcm: [1; 320],
        sent: [1; 320],
        len: 160,
        rate: SampleRate::HZ_8000,
        at_samples: 0,
        speech: 0.5,
        concealed: false,
        arrived: Instant::now(),
    };
    Box::new(move || {
        assert!(worker.try_push(black_box(frame.clone())).is_ok());
        black_box(port.try_pop().unwrap());
    })
}

fn voice(hz: usize) -> Step {
    let (mut port, mut worker) = HeapRb::<i16>::new(hz * VOICE_RING_MS / 1000).split();
    let said = vec![1; hz / 50];
    let mut frame = vec![0; hz / 50];
    Box::new(move || {
        assert_eq!(port.push_slice(black_box(&said)), said.len());
        assert_eq!(worker.pop_slice(black_box(&mut frame)), said.len());
    })
}
