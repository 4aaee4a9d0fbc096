//! Nothing is allocated once built: everything here runs on a media thread. One test alone in this
//! file, because the allocator counts for the whole process.
#![allow(clippy::unwrap_used)]
#![allow(unsafe_code)] // the counting allocator

#[path = "support/signal.rs"]
mod signal;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use codecs::SampleRate;
use codecs::comfort_noise::{self, ComfortNoise};
use codecs::concealment::Concealer;
use codecs::opus::OpusFmtp;
use codecs::registry::{self, SPECS};
use codecs::resample::{LinearUpsampler, Resampler};
use codecs::speech::SpeechGate;
use codecs::stretch::{self, Haste};

struct Counting;

thread_local! {
    /// Allocations of this thread; the test harness has others.
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: passes everything on to the system's allocator, and counts beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.with(Cell::get);
    work();
    ALLOCATIONS.with(Cell::get) - before
}

#[test]
fn nothing_is_allocated_after_setting_up() {
    // the counter works
    assert_eq!(allocations(|| drop(std::hint::black_box(vec![1_u8]))), 1);
    codecs_allocate_nothing();
    resamplers_allocate_nothing();
    the_rest_allocates_nothing();
}

fn codecs_allocate_nothing() {
    for spec in SPECS {
        for ptime_ms in [10, 20, 30, 40, 60] {
            let mut encoder = registry::encoder(&spec.params()).unwrap();
            let mut decoder = registry::decoder(&spec.params()).unwrap();
            let frame = spec.audio_rate.samples_in_ms(ptime_ms);
            let pcm = signal::voice(spec.audio_rate.hz(), frame * 50);
            let mut packet = vec![0; 8000];
            let mut audio = vec![0; frame];
            let count = allocations(|| {
                for (index, chunk) in pcm.chunks_exact(frame).enumerate() {
                    encoder.set_expected_loss_percent((index % 20) as u8);
                    let size = encoder.encode(chunk, &mut packet).unwrap();
                    if index % 5 == 3 {
                        decoder.conceal(&mut audio);
                    } else if index % 5 == 4 {
                        decoder.recover(&packet[..size], &mut audio).unwrap();
                    }
                    decoder.decode(&packet[..size], &mut audio).unwrap();
                    assert!(decoder.decode(&packet[..size], &mut []).is_err());
                }
            });
            assert_eq!(count, 0, "{} at {ptime_ms} ms", spec.name);
        }
    }
}

fn resamplers_allocate_nothing() {
    let rates = [8_000, 16_000, 22_050, 24_000, 44_100, 48_000].map(SampleRate);
    for from in rates {
        for to in rates {
            let mut resampler = Resampler::new(from, to).unwrap();
            let pcm = signal::voice(from.hz(), from.samples_in_ms(20));
            let mut out = vec![0; resampler.max_output(pcm.len())];
            let count = allocations(|| {
                for _ in 0..50 {
                    resampler.process(&pcm, &mut out);
                }
            });
            assert_eq!(count, 0, "{from} to {to}");
        }
    }
}

fn the_rest_allocates_nothing() {
    let pcm = signal::voice(8_000, 8_000);
    let mut gate = SpeechGate::new(SampleRate::HZ_8000);
    let mut concealer = Concealer::new(SampleRate::HZ_8000);
    let mut upsampler = LinearUpsampler::new();
    let mut noise = ComfortNoise::new(3);
    let (mut wide, mut audio, mut payload) = ([0; 320], [0; 160], [0; 11]);
    let mut waiting = [0; 640];
    let count = allocations(|| {
        for chunk in pcm.chunks_exact(160) {
            gate.push(chunk);
            upsampler.process(chunk, &mut wide);
            comfort_noise::encode(chunk, 10, &mut payload).unwrap();
            noise.update(&payload).unwrap();
            noise.generate(&mut audio);
            concealer.good(&mut audio);
            concealer.conceal(&mut audio);
            waiting[..160].copy_from_slice(chunk);
            waiting[160..320].copy_from_slice(chunk);
            stretch::shorten(SampleRate::HZ_8000, &mut waiting[..320], 160, 160, Haste::Great);
            stretch::lengthen(SampleRate::HZ_8000, &mut waiting, 160, 320, Haste::Great);
        }
        assert!(OpusFmtp::parse("useinbandfec=1; x=y;cbr=1").fec);
    });
    assert_eq!(count, 0);
}
