//! The speech gate on 20 ms of audio (earshot judges every 16 ms, so five times in four steps).

use std::hint::black_box;

use codecs::SampleRate;
use codecs::speech::SpeechGate;

use crate::case::{Case, Frames, Step, Work};

pub(crate) fn cases() -> Vec<Case> {
    [("8k", 8_000), ("16k", 16_000), ("48k", 48_000)]
        .into_iter()
        .map(|(name, hz)| {
            Case::new(format!("vad/earshot_{name}/20ms"), Work::Samples(u64::from(hz) / 50), move || listen(hz))
        })
        .collect()
}

fn listen(hz: u32) -> Step {
    let mut gate = SpeechGate::new(SampleRate(hz));
    let mut frames = Frames::new(hz, hz as usize / 50);
    Box::new(move || {
        black_box(gate.push(black_box(frames.next())));
    })
}
