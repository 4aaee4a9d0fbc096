//! What one stream takes: an echo call over G.711 has 16 KiB for everything.
#![allow(clippy::unwrap_used)]
#![allow(unsafe_code)] // the measuring allocator

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use codecs::SampleRate;
use codecs::registry::{self, CodecId};
use codecs::resample::Resampler;
use codecs::speech::SpeechGate;

struct Measuring;

thread_local! {
    static HELD_BYTES: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: passes everything on to the system's allocator, and adds up beside it.
unsafe impl GlobalAlloc for Measuring {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD_BYTES.with(|held| held.set(held.get().wrapping_add(layout.size())));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD_BYTES.with(|held| held.set(held.get().wrapping_sub(layout.size())));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Measuring = Measuring;

/// Bytes on the heap (without libopus's own, which come from C) and in the value itself.
fn size_of_built<T>(build: impl FnOnce() -> T) -> usize {
    let before = HELD_BYTES.with(Cell::get);
    let built = build();
    let held = HELD_BYTES.with(Cell::get).wrapping_sub(before);
    let size = held + size_of::<T>();
    drop(built);
    size
}

#[test]
fn a_stream_stays_small() {
    for (id, most_to_encode, most_to_decode) in [
        (CodecId::Pcmu, 32, 2048),
        (CodecId::Pcma, 32, 2048),
        (CodecId::G722, 512, 4096),
        (CodecId::L16, 32, 3500),
        (CodecId::Opus, 4096, 64),
    ] {
        let params = registry::spec(id).unwrap().params();
        let to_encode = size_of_built(|| registry::encoder(&params).unwrap());
        let to_decode = size_of_built(|| registry::decoder(&params).unwrap());
        eprintln!("{id:?}: {to_encode} bytes to encode, {to_decode} to decode");
        assert!(to_encode <= most_to_encode, "{id:?} encodes in {to_encode}");
        assert!(to_decode <= most_to_decode, "{id:?} decodes in {to_decode}");
    }
    let gate = size_of_built(|| SpeechGate::new(SampleRate::HZ_8000));
    // the filter itself is shared: the second one counts
    let first = Resampler::new(SampleRate::HZ_8000, SampleRate::HZ_16000).unwrap();
    let second = size_of_built(|| Resampler::new(SampleRate::HZ_8000, SampleRate::HZ_16000));
    drop(first);
    eprintln!("speech gate: {gate} bytes; resampler 8 to 16 kHz: {second} bytes");
    assert!(gate <= 10_240 && second <= 1024);
}
