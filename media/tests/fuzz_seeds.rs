//! The fuzz targets' bodies on their seeds, on what fuzzing found, and on seeds with bytes changed at random.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::Path;

use common::{Random, seeds};

type Target = (&'static str, fn(&[u8]));

#[test]
fn the_fuzz_targets_hold_on_their_seeds_and_near_them() {
    let targets: [Target; 6] = [
        ("rtp", media::fuzz::rtp),
        ("rtcp", media::fuzz::rtcp),
        ("dtmf", media::fuzz::dtmf),
        ("jitter", media::fuzz::jitter),
        ("handshake", media::fuzz::handshake),
        ("srtp", media::fuzz::srtp),
    ];
    for (name, target) in targets {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(name);
        let mut found = 0;
        for entry in std::fs::read_dir(&folder).unwrap() {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            found += 1;
            target(&bytes);
            for seed in seeds(100) {
                let mut random = Random(seed);
                let mut changed = bytes.clone();
                for _ in 0..=random.below(8) {
                    let at = random.below(changed.len() as u64) as usize;
                    changed[at] = random.next() as u8;
                }
                println!("{name}, seed {seed}");
                target(&changed);
            }
        }
        assert!(found >= 3, "{name}: {found} seeds in {}", folder.display());
    }
}
