//! What agents and trunks use that `[prices]` says nothing of: calls that use it cost more than their records say.

use std::collections::BTreeSet;

use agent::session::Agent;
use codecs::pcm::SampleRate;

use super::Verdict;
use crate::config::{Config, PricesConfig, TrunkDirection};

/// Engines and models that agents use, as records name them.
#[derive(Debug, Default)]
pub(super) struct InUse {
    recognizers: BTreeSet<String>,
    models: BTreeSet<String>,
    voices: BTreeSet<String>,
}

impl InUse {
    /// An agent's, those that step in for others too.
    pub(super) fn add(&mut self, agent: &Agent) {
        self.recognizers.extend(agent.recognizers.iter().map(|recognizer| recognizer.name().to_owned()));
        self.models.extend(agent.brain.model().map(str::to_owned));
        // A voice that cannot be opened is no voice that costs something; calls have one of the others.
        let voices = agent.voices.iter().filter_map(|source| source(SampleRate::HZ_8000).ok());
        self.voices.extend(voices.map(|voice| voice.name().to_owned()));
    }
}

/// Says what has no price, where there are prices.
pub(super) fn check(config: &Config, in_use: &InUse, tell: &mut impl FnMut(&str, Verdict, String)) {
    let prices = &config.prices;
    if prices.currency.is_empty() {
        return;
    }
    let mut missing = Vec::new();
    let mut without = |kind: &str, names: &BTreeSet<String>, has: &dyn Fn(&str) -> bool, entry: &str| {
        for name in names.iter().filter(|name| !has(name)) {
            let says = format!("{name} has no price, and an agent uses it: add [[prices.{kind}]] with {entry}");
            missing.push((format!("prices.{kind}"), says));
        }
    };
    without("recognizers", &in_use.recognizers, &|name| prices.recognizer(name).is_some(), "minute");
    without("models", &in_use.models, &|name| prices.model(name).is_some(), "million_in and million_out");
    without("voices", &in_use.voices, &|name| prices.voice(name).is_some(), "thousand_characters");
    for trunk in &config.trunks {
        for (direction, which) in [(TrunkDirection::In, "come by it"), (TrunkDirection::Out, "go out by it")] {
            let says = match covered(prices, &trunk.name, direction) {
                Covered::All => continue,
                Covered::Some => format!(
                    "calls that {which} to numbers of no prefix that stands there have no price: add an entry without prefix"
                ),
                Covered::None => format!("calls that {which} have no price: add [[prices.trunks]] with minute"),
            };
            missing.push((format!("prices.trunks.{}", trunk.name), says));
        }
    }
    if missing.is_empty() {
        tell("prices", Verdict::Ok, format!("{}: what is in use has one", prices.currency));
    }
    for (what, says) in missing {
        tell(
            &what,
            Verdict::Note,
            format!("{says} (\"0\" where it costs nothing), else costs of calls are marked as partial"),
        );
    }
}

/// How many numbers a trunk's prices are for.
enum Covered {
    All,
    Some,
    None,
}

fn covered(prices: &PricesConfig, trunk: &str, direction: TrunkDirection) -> Covered {
    // A number that begins like no other has the price of the entry without prefix.
    let is_there = prices.trunk(trunk, direction, "").is_some();
    let fits = |has: TrunkDirection| has == direction || has == TrunkDirection::Both;
    match is_there {
        true => Covered::All,
        false if prices.trunks.iter().any(|price| price.name == trunk && fits(price.direction)) => Covered::Some,
        false => Covered::None,
    }
}
