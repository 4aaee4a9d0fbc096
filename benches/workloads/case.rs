//! A workload that is measured both ways: in time by Criterion, in instructions by gungraun.
#![allow(dead_code)] // each bench uses its own part

/// One operation, ready to be run again and again. Preparing it is not measured.
pub(crate) type Step = Box<dyn FnMut()>;

/// What one step gets through.
#[derive(Clone, Copy)]
pub(crate) enum Work {
    /// Audio samples.
    Samples(u64),
    /// Bytes of a message or packet.
    Bytes(u64),
    /// Packets, calls, events: whatever the operation counts in.
    Items(u64),
}

/// A workload.
pub(crate) struct Case {
    /// `area/op/size`.
    pub(crate) name: String,
    pub(crate) work: Work,
    pub(crate) prepare: Box<dyn Fn() -> Step>,
}

impl Case {
    pub(crate) fn new(name: impl Into<String>, work: Work, prepare: impl Fn() -> Step + 'static) -> Case {
        Case { name: name.into(), work, prepare: Box::new(prepare) }
    }
}

/// The stem of a voice: harmonics of 120 Hz under a slow swell, for as long as `samples`.
pub(crate) fn voice(rate_hz: u32, samples: usize) -> Vec<i16> {
    (0..samples)
        .map(|n| {
            let t = n as f64 / f64::from(rate_hz);
            let tone: f64 = (1..=12)
                .map(|h| (std::f64::consts::TAU * 120.0 * f64::from(h) * t + f64::from(h * h)).sin() / f64::from(h))
                .sum();
            let swell = 0.6 + 0.4 * (std::f64::consts::TAU * 3.0 * t).sin();
            (4000.0 * swell * tone) as i16
        })
        .collect()
}

/// Goes round and round over the frames of `samples` samples in a second of voice.
pub(crate) struct Frames {
    pcm: Vec<i16>,
    samples: usize,
    at: usize,
}

impl Frames {
    pub(crate) fn new(rate_hz: u32, samples: usize) -> Frames {
        let whole = rate_hz as usize / samples * samples;
        Frames { pcm: voice(rate_hz, whole), samples, at: 0 }
    }

    pub(crate) fn next(&mut self) -> &[i16] {
        if self.at + self.samples > self.pcm.len() {
            self.at = 0;
        }
        let frame = &self.pcm[self.at..self.at + self.samples];
        self.at += self.samples;
        frame
    }
}

/// Measures the cases' times.
pub(crate) fn criterion(cases: Vec<Case>) {
    let mut criterion = criterion::Criterion::default().configure_from_args();
    for case in cases {
        // Criterion's group is the area, so that its reports compare what belongs together.
        let (area, rest) = case.name.split_once('/').unwrap_or(("all", &case.name));
        let mut group = criterion.benchmark_group(area);
        group.throughput(match case.work {
            Work::Samples(count) | Work::Items(count) => criterion::Throughput::Elements(count),
            Work::Bytes(count) => criterion::Throughput::Bytes(count),
        });
        group.bench_function(rest, |bencher| {
            let mut step = (case.prepare)();
            bencher.iter(&mut step);
        });
        group.finish();
    }
    criterion.final_summary();
}
