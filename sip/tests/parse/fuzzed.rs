//! The fuzz targets' invariants over the torture cases, the seeds, and mutations of them from a fixed seed.

use std::path::{Path, PathBuf};

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target);
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().path()).collect();
    files.sort();
    files.iter().map(|f| std::fs::read(f).unwrap()).collect()
}

/// Xorshift: the same mutations on every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit.max(1) as u64).unwrap()
    }
}

fn mutated(seed: &[u8], dice: &mut Dice) -> Vec<u8> {
    const SHARP: &[u8] = b"\r\n \t\"<>;:,=@?%/[]\\\0\x7f\xff09aZ";
    let mut data = seed.to_vec();
    for _ in 0..=dice.below(4) {
        let at = dice.below(data.len());
        match dice.below(4) {
            0 if !data.is_empty() => data[at] = SHARP[dice.below(SHARP.len())],
            1 => data.insert(at, SHARP[dice.below(SHARP.len())]),
            2 if !data.is_empty() => drop(data.remove(at)),
            _ => {
                let end = (at + dice.below(40)).min(data.len());
                let piece = data[at..end].to_vec();
                let to = dice.below(data.len());
                data.splice(to..to, piece);
            }
        }
    }
    data
}

fn holds_for(target: &str, check: fn(&[u8])) {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for seed in seeds(target) {
        check(&seed);
        for _ in 0..300 {
            check(&mutated(&seed, &mut dice));
        }
    }
}

#[test]
fn accepted_messages_can_be_answered_altered_and_read_again() {
    holds_for("sip_message", sip::fuzz::message);
}

#[test]
fn what_comes_out_of_a_stream_does_not_depend_on_how_it_was_cut() {
    holds_for("sip_stream", sip::fuzz::stream);
}

#[test]
fn descriptions_print_to_what_reads_the_same() {
    holds_for("sdp", sip::fuzz::sdp);
}

#[test]
fn both_sides_of_a_negotiation_agree() {
    holds_for("negotiate", sip::fuzz::negotiate);
}
