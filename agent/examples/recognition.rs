//! How well the front desk understands: its phrases in synthetic voices through telephone codecs.
//!
//! ```text
//! cargo run --release -p agent --example recognition -- [--tune | --accents] [--all-speeds] [--codec pcmu]... [--every 5]
//!     [--misses | --each] [--real-time] [--noise white|babble|hum] [--snr-db 20] [--level-dbfs -6] [--noise-control] [--has-spoken]
//! ```
//!
//! Each phrase of each listening state is spoken by Flite and espeak-ng (their programs must be installed) at three
//! speeds, sent through a codec with a noisy line around it, and recognised against that state's grammar. Sentences that
//! are no phrase of the desk go the same way. Voices used for choosing thresholds (`--tune`) are never among those scored.
//! `--real-time` sends 50 frames a second and adds how long the final hypothesis was waited for.

use std::collections::BTreeMap;
use std::time::Duration;

use agent::ear::Recognizer as _;
use agent::ear::sphinx::{Sphinx, SphinxConfig};
use anyhow::Result;
use futures::StreamExt as _;

#[path = "../tests/recognition/measure.rs"]
mod measure;

use measure::{
    ACCENTS, Conditions, Heard, SCORE, Surroundings, TUNE, Tally, Utterance, front_desk, recognise, utterances,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let has = |name: &str| args.iter().any(|arg| arg == name);
    let chosen = args.windows(2).filter(|pair| pair[0] == "--codec").map(|pair| pair[1].as_str());
    let mut codecs: Vec<&str> = chosen.collect();
    if codecs.is_empty() {
        codecs = vec!["PCMU", "G722", "opus"];
    }
    let script = front_desk()?;
    let voices = match (has("--tune"), has("--accents")) {
        (true, _) => &TUNE[..],
        (_, true) => &ACCENTS[..],
        _ => &SCORE[..],
    };
    let mut utterances = utterances(&script, voices, has("--all-speeds"))?;
    let every = args.windows(2).find(|pair| pair[0] == "--every").and_then(|pair| pair[1].parse().ok()).unwrap_or(1);
    utterances = utterances.into_iter().step_by(every).collect();
    let number = |name: &str| args.windows(2).find(|pair| pair[0] == name).and_then(|pair| pair[1].parse::<f32>().ok());
    let noise = args.windows(2).find(|pair| pair[0] == "--noise").map(|pair| pair[1].as_str());
    let surroundings = match noise {
        None => Surroundings::Quiet,
        Some("white") => Surroundings::White,
        Some("babble") => Surroundings::Babble,
        Some("hum") => Surroundings::Hum,
        Some(other) => anyhow::bail!("`{other}` is no noise: write white, babble or hum"),
    };
    let conditions = Conditions {
        surroundings,
        snr_db: number("--snr-db").unwrap_or(20.0),
        level_dbfs: number("--level-dbfs").unwrap_or(-6.0),
        noise_control: has("--noise-control"),
        has_spoken: has("--has-spoken"),
    };
    let ear = Sphinx::new(SphinxConfig::default())?;
    let pace = if has("--real-time") { Duration::from_millis(20) } else { Duration::ZERO };
    println!("{} utterances by {} voices, recogniser {}", utterances.len(), voices.len(), ear.name());
    println!("codec  phrases  right%  asked again%  wrong%   outside  taken for a phrase%");
    for codec in codecs {
        let (mut inside, mut outside) = (Tally::default(), Tally::default());
        let mut by_voice: BTreeMap<String, Tally> = BTreeMap::new();
        let mut waits = Vec::new();
        let work = futures::stream::iter(utterances.iter().enumerate());
        let mut results =
            work.map(|(number, one)| recognise(&ear, &script, codec, number, one, conditions, pace)).buffered(4);
        let mut all = utterances.iter();
        while let (Some(result), Some(utterance)) = (results.next().await, all.next()) {
            let Heard { text, understood, confidence, wait } = result?;
            waits.push(wait);
            let Utterance { voice, speed, state, said, meaning } = utterance;
            let tally = if meaning.is_some() { &mut inside } else { &mut outside };
            tally.count(understood.as_ref(), meaning.as_ref());
            if meaning.is_some() {
                by_voice.entry(voice.clone()).or_default().count(understood.as_ref(), meaning.as_ref());
            }
            let ok = understood == *meaning;
            if has("--each") || (has("--misses") && !ok) {
                let verdict = if ok { "as it should be" } else { "WRONG" };
                println!("  {voice} speed {speed} in {state}: `{said}` heard as `{text}` ({confidence:.1e}) {verdict}");
            }
        }
        println!(
            "{codec:6} {:7}  {:6.2}  {:12.2}  {:6.2}   {:7}  {:19.2}",
            inside.all(),
            inside.share(inside.right),
            inside.share(inside.asked_again),
            inside.share(inside.wrong),
            outside.all(),
            outside.share(outside.wrong),
        );
        for (voice, tally) in by_voice {
            println!(
                "         {voice:24} {:6.2} right, {:.2} wrong",
                tally.share(tally.right),
                tally.share(tally.wrong)
            );
        }
        if has("--real-time") {
            waits.sort();
            let at = |share: usize| waits.get(waits.len() * share / 100).map_or(0, Duration::as_millis);
            println!("         waited for the final hypothesis: median {} ms, p95 {} ms", at(50), at(95));
        }
    }
    Ok(())
}
