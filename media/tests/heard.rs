//! How speech sounds to people behind bad networks, by PESQ (ITU-T P.862), in virtual time.
//!
//! The floors are what was seen less 0.2: neither network nor voice is left to chance. Made voices score lower than people's: G.711 alone, without
//! a network, takes them to 3.2 to 3.4. PESQ takes a delay that changes in
//! mid-sentence for a fault, which people do not hear; under jitter it says less than it seems.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "common/heard.rs"]
mod heard;

use std::path::PathBuf;

use codecs::registry::{self, CodecId};
use common::{Path, ms};
use heard::{hear, pesq, speech, with_gaps, write_wav};

const FEC: &str = "useinbandfec=1";
/// Sentences of Harvard's lists, by a woman and by a man, eight seconds each.
const SAID: [(&str, &str); 2] = [
    (
        "slt",
        "The birch canoe slid on the smooth planks. Glue the sheet to the dark blue background. \
         It is easy to tell the depth of a well.",
    ),
    (
        "rms",
        "These days a chicken leg is a rare dish. Rice is often served in round bowls. \
         The juice of lemons makes fine punch.",
    ),
];

/// Recordings to be judged, each by what it is.
struct Judged {
    folder: tempfile::TempDir,
    names: Vec<String>,
    pairs: Vec<(PathBuf, PathBuf)>,
}

impl Judged {
    fn new() -> Self {
        Judged { folder: tempfile::tempdir().unwrap(), names: Vec::new(), pairs: Vec::new() }
    }

    /// Adds what `listen` hears of all that is said, at the codec's rate and by a seed.
    fn add(&mut self, name: &str, id: CodecId, listen: impl Fn(&[i16], u64) -> Vec<i16>) {
        let rate = registry::spec(id).unwrap().audio_rate;
        for (n, (voice, text)) in SAID.iter().enumerate() {
            let pcm = speech(self.folder.path(), voice, text, rate);
            let file = |what: &str| self.folder.path().join(format!("{}-{what}.wav", self.pairs.len()));
            let (said, heard) = (file("said"), file("heard"));
            write_wav(&said, rate, &pcm);
            write_wav(&heard, rate, &listen(&pcm, 10 + n as u64));
            self.pairs.push((said, heard));
            self.names.push(name.to_owned());
        }
    }

    fn add_network(&mut self, name: &str, id: CodecId, path: Path) {
        self.add(name, id, |pcm, seed| hear(id, FEC, path, seed, pcm, 0).played);
    }

    /// The mean score of each name, in the order of their first mention.
    fn scores(self) -> Vec<(String, f64)> {
        let scores = pesq(&self.pairs);
        let mut order: Vec<String> = self.names.clone();
        order.dedup();
        let mean = |name: &String| {
            let own: Vec<f64> =
                self.names.iter().zip(&scores).filter(|(other, _)| *other == name).map(|(_, score)| *score).collect();
            own.iter().sum::<f64>() / own.len() as f64
        };
        order.iter().map(|name| (name.clone(), mean(name))).collect()
    }
}

#[test]
fn speech_stays_clear_on_networks_that_lose_delay_and_reorder() {
    let clean = Path::clean();
    let networks = [
        ("clean", clean, [3.2, 4.1]),
        ("1 % lost", Path { loss: 0.01, ..clean }, [2.8, 3.9]),
        ("5 % lost", Path { loss: 0.05, ..clean }, [2.3, 3.6]),
        ("10 % lost", Path { loss: 0.10, ..clean }, [2.2, 3.5]),
        ("20 % lost", Path { loss: 0.20, ..clean }, [2.0, 3.4]),
        ("5 % lost in bursts", Path { loss: 0.05, burst: 3.0, ..clean }, [2.7, 3.3]),
        ("20 ms jitter", Path { jitter: ms(20), ..clean }, [3.0, 3.4]),
        ("60 ms jitter", Path { jitter: ms(60), ..clean }, [2.9, 3.0]),
        ("5 % reordered", Path { reorder: 0.05, ..clean }, [3.0, 3.0]),
    ];
    let mut judged = Judged::new();
    let mut floors = Vec::new();
    for (name, path, floor) in networks {
        for (codec, floor) in [CodecId::Pcmu, CodecId::Opus].into_iter().zip(floor) {
            judged.add_network(&format!("{name}, {codec:?}"), codec, path);
            floors.push(floor);
        }
    }
    let scores = judged.scores();
    scores.iter().zip(&floors).for_each(|((name, score), floor)| println!("{name:28} {score:.2} (floor {floor})"));
    for ((name, score), floor) in scores.iter().zip(floors) {
        assert!(*score >= floor, "{name}: {score:.2}, which was {floor} at least");
    }
}

#[test]
fn what_is_done_about_losses_is_heard() {
    let [few, many] = [0.05, 0.20].map(|loss| Path { loss, ..Path::clean() });
    let mut judged = Judged::new();
    for (name, path) in [("5 %", few), ("20 %", many)] {
        judged.add(&format!("{name} left as gaps"), CodecId::Pcmu, |pcm, seed| with_gaps(path, seed, pcm));
        judged.add_network(&format!("{name} concealed"), CodecId::Pcmu, path);
        let deaf = |pcm: &[i16], seed| hear(CodecId::Opus, "useinbandfec=0", path, seed, pcm, 0).played;
        judged.add(&format!("{name} concealed by Opus"), CodecId::Opus, deaf);
        judged.add_network(&format!("{name} recovered by Opus"), CodecId::Opus, path);
    }
    let scores = judged.scores();
    scores.iter().for_each(|(name, score)| println!("{name:28} {score:.2}"));
    for four in scores.chunks_exact(4) {
        let [gaps, concealed, without, with] = [0, 1, 2, 3].map(|n| four[n].1);
        assert!(concealed > gaps + 0.2, "{}: {concealed:.2} concealed, {gaps:.2} not", four[0].0);
        assert!(with > without + 0.3, "{}: {with:.2} recovered, {without:.2} concealed", four[0].0);
    }
}

#[test]
fn a_clock_that_runs_far_off_is_hardly_heard() {
    // 5 in 1,000: as much drift in eight seconds as of an ordinary clock in five minutes
    let mut judged = Judged::new();
    for ppm in [-5_000, 0, 5_000] {
        let listen = |pcm: &[i16], seed| hear(CodecId::Pcmu, "", Path::clean(), seed, pcm, ppm).played;
        judged.add(&format!("{ppm} ppm"), CodecId::Pcmu, listen);
    }
    let scores = judged.scores();
    scores.iter().for_each(|(name, score)| println!("{name:28} {score:.2}"));
    for (name, score) in &scores {
        assert!(*score > scores[1].1 - 0.9, "{name}: {score:.2}");
    }
}
