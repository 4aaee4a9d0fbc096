//! Instructions of the hot path, by gungraun under valgrind's Callgrind: `scripts/bench` runs this, and compares the
//! counts with `baseline.json`.
//!
//! Counts are those of one process that does the same on the same bytes, so they hardly depend on the machine's load;
//! they do depend on the compiler, and for Opus on the processor (libopus chooses its vector code when it runs).

#![allow(clippy::panic)] // a case that is not there
#![allow(missing_docs)] // gungraun makes items of its own

#[path = "workloads/case.rs"]
mod case;
#[path = "workloads/codecs.rs"]
mod codecs;
#[path = "workloads/jitter.rs"]
mod jitter;
#[path = "workloads/leg.rs"]
mod leg;
#[path = "workloads/ring.rs"]
mod ring;
#[path = "workloads/rtp.rs"]
mod rtp;
#[path = "workloads/sip.rs"]
mod sip;
#[path = "workloads/speech.rs"]
mod speech;

use gungraun::{Callgrind, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main};

use case::{Case, Step};

/// Steps before the count begins: tables are made and caches grown in the first ones.
const WARM_UP_STEPS: usize = 60;
/// Steps that are counted together. `scripts/bench` divides by it.
const COUNTED_STEPS: usize = 20;

fn cases() -> Vec<Case> {
    [codecs::cases(), speech::cases(), rtp::cases(), jitter::cases(), ring::cases(), leg::cases(), sip::cases()]
        .into_iter()
        .flatten()
        .collect()
}

/// What is measured. gungraun numbers the cases in this order and does not print their names: where
/// `OMNIVOX_BENCH_NAMES` names a file, they are written there, a line each, for `scripts/bench`.
fn names() -> Vec<String> {
    let names: Vec<String> = cases().into_iter().map(|case| case.name).collect();
    if let Some(path) = std::env::var_os("OMNIVOX_BENCH_NAMES")
        && let Err(error) = std::fs::write(&path, names.join("\n"))
    {
        eprintln!("cannot write {}: {error}", path.display());
    }
    names
}

fn prepare(name: String) -> Step {
    let case = cases().into_iter().find(|case| case.name == name);
    let mut step = case.map_or_else(|| panic!("there is no case {name}"), |case| (case.prepare)());
    for _ in 0..WARM_UP_STEPS {
        step();
    }
    step
}

#[library_benchmark]
#[benches::hot(iter = names(), setup = prepare)]
fn path(mut step: Step) -> Step {
    for _ in 0..COUNTED_STEPS {
        step();
    }
    step
}

library_benchmark_group!(name = instructions, benchmarks = path);
main!(
    config = LibraryBenchmarkConfig::default().tool(Callgrind::with_args(["--cache-sim=no"])),
    library_benchmark_groups = instructions
);
