//! What a call used of providers and trunks, and what that costs by the prices in force when it ended.
//!
//! Money is whole millionths of the currency's unit. Each line is computed exactly and rounded once, half up, to a millionth; the total is
//! the sum of the lines. What has no price is there without one, and the total says that it is not all.

use std::time::SystemTime;

use agent::usage::{HeardUsage, ModelUsage, SpokenUsage, Usage};
use serde::{Deserialize, Serialize};

use crate::config::{PricesConfig, TrunkDirection, TrunkPrice};

/// What a call used and cost.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CostRecord {
    /// What the money is in (ISO 4217); empty where no prices are configured.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub currency: String,
    /// All that is priced, in millionths; `None` where nothing is.
    pub micros: Option<i64>,
    /// Something that was used has no price, or it is not known how much it was.
    pub is_partial: bool,
    /// What was used, one by one.
    pub lines: Vec<CostLine>,
}

/// One thing that was used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CostLine {
    /// Which recogniser, voice, model or trunk.
    pub name: String,
    /// How much of it.
    #[serde(flatten)]
    pub used: Used,
    /// What that costs, in millionths; `None`: it has no price.
    pub micros: Option<i64>,
}

/// How much of something was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Used {
    /// Of a recogniser.
    Recognizer {
        /// Sound that it was given, in ms.
        audio_ms: u64,
    },
    /// Of a voice.
    Voice {
        /// Characters that it was given. Phrases that were kept from before are not among them.
        characters: u64,
    },
    /// Of a language model.
    Model {
        /// Answers that it was asked for.
        answers: u64,
        /// Of them those of which the provider did not say what they took: they were broken off, or it never does.
        answers_unknown: u64,
        /// Tokens read.
        tokens_in: u64,
        /// Of them those that the provider had at hand from before.
        tokens_cached: u64,
        /// Tokens written.
        tokens_out: u64,
    },
    /// Of a trunk.
    Trunk {
        /// The leg's number within the call.
        leg: u16,
        /// From its answer to its end, in ms; where it came from another call or went to one, as long as it was here.
        up_ms: u64,
        /// From its answer until it came from another call, in ms, which is in that call's record.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        before_ms: Option<u64>,
        /// What of the time here is charged, in s, where there is a price.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        billed_s: Option<u64>,
    },
}

impl Used {
    /// What is used, as it stands in metrics.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Recognizer { .. } => "recognizer",
            Self::Voice { .. } => "voice",
            Self::Model { .. } => "model",
            Self::Trunk { .. } => "trunk",
        }
    }
}

impl CostRecord {
    /// Counts what it was in the metrics.
    pub fn count(&self) {
        for line in &self.lines {
            if let Some(micros) = line.micros.and_then(|micros| u64::try_from(micros).ok()) {
                metrics::counter!("omnivox_cost_micros_total", "kind" => line.used.kind()).increment(micros);
            }
        }
    }
}

/// A leg by a trunk. Its carrier charges for it from its answer to its end, whichever calls of ours it is in meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrunkLeg {
    /// Its number within the call.
    pub leg: u16,
    /// The trunk.
    pub trunk: String,
    /// Which way it went.
    pub direction: TrunkDirection,
    /// The number that was called.
    pub number: String,
    /// When it was answered.
    pub answered: Option<SystemTime>,
    /// When it came from another call, where it was answered there: what was before is in that call's record.
    pub came: Option<SystemTime>,
    /// When it was over, or went to another call.
    pub left: Option<SystemTime>,
}

impl TrunkLeg {
    /// The same for the call that it goes to now.
    #[must_use]
    pub fn handed_over(&self, now: SystemTime) -> Self {
        Self { came: self.answered.map(|_| now), left: None, ..self.clone() }
    }
}

/// What a call used up to a moment and cost; `None` where it used nothing.
#[must_use]
pub fn settle(prices: &PricesConfig, usage: &Usage, legs: &[TrunkLeg], until: SystemTime) -> Option<CostRecord> {
    let mut lines: Vec<CostLine> = legs.iter().filter_map(|leg| trunk(prices, leg, until)).collect();
    lines.extend(usage.recognizers.iter().map(|used| recognizer(prices, used)));
    lines.extend(usage.models.iter().map(|used| model(prices, used)));
    lines.extend(usage.voices.iter().map(|used| voice(prices, used)));
    if lines.is_empty() {
        return None;
    }
    let is_unknown = |line: &CostLine| matches!(line.used, Used::Model { answers_unknown: 1.., .. });
    let is_partial = lines.iter().any(|line| line.micros.is_none() || is_unknown(line));
    let priced = lines.iter().filter_map(|line| line.micros);
    let micros = priced.reduce(i64::saturating_add);
    Some(CostRecord { currency: prices.currency.clone(), micros, is_partial, lines })
}

fn recognizer(prices: &PricesConfig, used: &HeardUsage) -> CostLine {
    let micros = prices.recognizer(&used.provider).map(|minute| share(product(minute, used.audio_ms), 60_000));
    CostLine { name: used.provider.clone(), used: Used::Recognizer { audio_ms: used.audio_ms }, micros }
}

fn voice(prices: &PricesConfig, used: &SpokenUsage) -> CostLine {
    let micros = prices.voice(&used.provider).map(|thousand| share(product(thousand, used.characters), 1_000));
    CostLine { name: used.provider.clone(), used: Used::Voice { characters: used.characters }, micros }
}

fn model(prices: &PricesConfig, used: &ModelUsage) -> CostLine {
    let ModelUsage { answers, answers_unknown, tokens_in, tokens_cached, tokens_out, .. } = *used;
    let micros = prices.model(&used.model).and_then(|price| {
        let read = price.million_in.micros()?;
        let cached = price.million_cached.micros().unwrap_or(read);
        let written = price.million_out.micros()?;
        let fresh = tokens_in.saturating_sub(tokens_cached);
        let all = [product(read, fresh), product(cached, tokens_cached.min(tokens_in)), product(written, tokens_out)];
        Some(share(all.iter().fold(0, |sum: i128, part| sum.saturating_add(*part)), 1_000_000))
    });
    let used_up = Used::Model { answers, answers_unknown, tokens_in, tokens_cached, tokens_out };
    CostLine { name: used.model.clone(), used: used_up, micros }
}

/// A leg that was answered. What of its time was another call's is charged there, with the least time and the price for the call: here is
/// what its time up to now comes to more than that.
fn trunk(prices: &PricesConfig, leg: &TrunkLeg, until: SystemTime) -> Option<CostLine> {
    let answered = leg.answered?;
    let ms =
        |at: SystemTime| u64::try_from(at.duration_since(answered).unwrap_or_default().as_millis()).unwrap_or(u64::MAX);
    let before_ms = leg.came.map(ms);
    let end_ms = ms(leg.left.unwrap_or(until)).max(before_ms.unwrap_or(0));
    let priced = prices.trunk(&leg.trunk, leg.direction, &leg.number).and_then(|price| {
        let (end, before) =
            (charge(price, end_ms)?, before_ms.map_or(Some((0, 0)), |before_ms| charge(price, before_ms))?);
        Some((end.0.saturating_sub(before.0), end.1.saturating_sub(before.1)))
    });
    let up_ms = end_ms.saturating_sub(before_ms.unwrap_or(0));
    let used = Used::Trunk { leg: leg.leg, up_ms, before_ms, billed_s: priced.map(|(billed_s, _)| billed_s) };
    Some(CostLine { name: leg.trunk.clone(), used, micros: priced.map(|(_, micros)| micros) })
}

/// The seconds that are charged for so much time, and what they cost.
fn charge(price: &TrunkPrice, up_ms: u64) -> Option<(u64, i64)> {
    let billed_s = billed_s(up_ms, price.increment.seconds()?);
    let minutes = share(product(price.minute.micros()?, billed_s), 60);
    Some((billed_s, minutes.saturating_add(price.call.micros().unwrap_or(0))))
}

/// What of a call is charged: a second that has begun is a second, the first span whole, and then by spans of the second length.
fn billed_s(up_ms: u64, (first, then): (u64, u64)) -> u64 {
    let seconds = up_ms.div_ceil(1_000);
    let more = seconds.saturating_sub(first);
    first.saturating_add(more.div_ceil(then.max(1)).saturating_mul(then))
}

fn product(price: i64, amount: u64) -> i128 {
    i128::from(price).saturating_mul(i128::from(amount))
}

/// A part of a price, rounded half up.
fn share(all: i128, parts: i128) -> i64 {
    let rounded = all.saturating_mul(2).saturating_add(parts).div_euclid(parts.saturating_mul(2).max(1));
    i64::try_from(rounded).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn prices(text: &str) -> PricesConfig {
        toml::from_str(&format!("currency = \"EUR\"\n{text}")).unwrap()
    }

    fn at(ms: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(ms)
    }

    /// A leg that was answered at 0 and is over.
    fn leg(number: &str, up_ms: u64) -> TrunkLeg {
        let (number, trunk) = (number.to_owned(), "carrier".to_owned());
        let (answered, left) = (Some(at(0)), Some(at(up_ms)));
        TrunkLeg { leg: 1, trunk, direction: TrunkDirection::Out, number, answered, came: None, left }
    }

    fn settled(prices: &PricesConfig, usage: &Usage, legs: &[TrunkLeg]) -> Option<CostRecord> {
        settle(prices, usage, legs, at(0))
    }

    #[test]
    fn a_leg_that_goes_from_call_to_call_costs_in_all_what_it_costs_in_one() {
        let seen = |cost: &CostRecord| match cost.lines[0].used {
            Used::Trunk { up_ms, before_ms, billed_s, .. } => (up_ms, before_ms, billed_s.unwrap()),
            _ => unreachable!(),
        };
        let minute =
            prices("[[trunks]]\nname = \"carrier\"\nminute = \"0.6\"\ncall = \"0.05\"\nincrement = \"60/30\"\n");
        let moved = leg("1", 10_000).handed_over(at(10_000));
        let first = settled(&minute, &Usage::default(), &[leg("1", 10_000)]).unwrap();
        assert_eq!((seen(&first), first.micros), ((10_000, None, 60), Some(650_000)));
        for (end_ms, billed_s, micros) in [(59_000, 0, 0), (60_001, 30, 300_000), (100_000, 60, 600_000)] {
            let later = settle(&minute, &Usage::default(), std::slice::from_ref(&moved), at(end_ms)).unwrap();
            assert_eq!((seen(&later), later.micros), ((end_ms - 10_000, Some(10_000), billed_s), Some(micros)));
        }
        // What rang as it moved is charged where it was answered.
        let ringing = TrunkLeg { answered: None, left: None, ..leg("1", 0) }.handed_over(at(5_000));
        assert_eq!(settle(&minute, &Usage::default(), std::slice::from_ref(&ringing), at(9_000)), None);
        let answered = TrunkLeg { answered: Some(at(6_000)), ..ringing };
        assert_eq!(settle(&minute, &Usage::default(), &[answered], at(9_000)).unwrap().micros, Some(650_000));
        for_each_case(|numbers| {
            let (first, then) = (1 + numbers.up_to(120), 1 + numbers.up_to(120));
            let price = numbers.up_to(999_999);
            let prices = prices(&format!(
                "[[trunks]]\nname = \"carrier\"\nminute = \"0.{price:06}\"\ncall = \"0.01\"\nincrement = \"{first}/{then}\"\n"
            ));
            let mut moves: Vec<u64> = (0..=numbers.up_to(4)).map(|_| numbers.up_to(600_000)).collect();
            moves.sort_unstable();
            let whole = settled(&prices, &Usage::default(), &[leg("1", *moves.last().unwrap())]).unwrap();
            let (mut here, mut parts) = (TrunkLeg { left: None, ..leg("1", 0) }, Vec::new());
            for end in &moves {
                let next = here.handed_over(at(*end));
                here.left = Some(at(*end));
                parts.push(settled(&prices, &Usage::default(), &[here]).unwrap());
                here = next;
            }
            let sum = |of: &dyn Fn(&CostRecord) -> u64| parts.iter().map(of).sum::<u64>();
            assert_eq!(parts.iter().map(|part| part.micros.unwrap()).sum::<i64>(), whole.micros.unwrap(), "{moves:?}");
            assert_eq!(
                (sum(&|part| seen(part).0), sum(&|part| seen(part).2)),
                (seen(&whole).0, seen(&whole).2),
                "{moves:?}"
            );
        });
    }

    #[test]
    fn time_is_charged_by_the_increment() {
        for (increment, up_ms, wanted) in [
            ((1, 1), 0, 1),
            ((1, 1), 1_000, 1),
            ((1, 1), 1_001, 2),
            ((60, 6), 1, 60),
            ((60, 6), 60_000, 60),
            ((60, 6), 60_001, 66),
            ((60, 6), 66_000, 66),
            ((60, 60), 60_001, 120),
            ((60, 60), 120_000, 120),
            ((6, 6), 6_500, 12),
        ] {
            assert_eq!(billed_s(up_ms, increment), wanted, "{increment:?} {up_ms}");
        }
    }

    #[test]
    fn what_is_used_costs_what_its_price_says_and_what_has_none_is_said_to_have_none() {
        let prices = prices(
            "[[recognizers]]\nname = \"openai\"\nminute = \"0.006\"\n\
             [[voices]]\nname = \"openai\"\nthousand_characters = \"0.015\"\n\
             [[models]]\nname = \"m\"\nmillion_in = \"0.15\"\nmillion_cached = \"0.075\"\nmillion_out = \"0.6\"\n\
             [[trunks]]\nname = \"carrier\"\nminute = \"0.01\"\ncall = \"0.005\"\nincrement = \"60/6\"\n\
             [[trunks]]\nname = \"carrier\"\nprefix = \"+881\"\nminute = \"5\"\n",
        );
        let heard = |provider: &str| HeardUsage { provider: provider.to_owned(), audio_ms: 90_000 };
        let spoken = SpokenUsage { provider: "openai:alloy".to_owned(), characters: 333 };
        let thought = ModelUsage {
            provider: "openai".to_owned(),
            model: "m".to_owned(),
            answers: 2,
            answers_unknown: 0,
            tokens_in: 1_000,
            tokens_cached: 400,
            tokens_out: 100,
        };
        let usage = Usage { recognizers: vec![heard("openai")], voices: vec![spoken], models: vec![thought] };
        let cost = settled(&prices, &usage, &[leg("+4930", 61_000), leg("0088112", 1_500)]).unwrap();
        let micros: Vec<_> = cost.lines.iter().map(|line| line.micros.unwrap()).collect();
        // 66 s at 10,000 a minute and 5,000; 2 s at 5,000,000 a minute, 166,666.67; 1.5 min at 6,000; 600 x 0.15 + 400 x 0.075 + 100 x 0.6;
        // 333 x 15 is 4,995.
        assert_eq!(micros, [16_000, 166_667, 9_000, 180, 4_995]);
        assert_eq!((cost.micros, cost.is_partial), (Some(16_000 + 166_667 + 9_000 + 180 + 4_995), false));

        let other = Usage { recognizers: vec![heard("sphinx"), heard("openai")], ..Usage::default() };
        let cost = settled(&prices, &other, &[]).unwrap();
        assert_eq!((cost.lines[0].micros, cost.micros, cost.is_partial), (None, Some(9_000), true));
        let none = settled(&PricesConfig::default(), &other, &[]).unwrap();
        assert_eq!((none.micros, none.is_partial, none.currency.as_str()), (None, true, ""));
        assert_eq!(settled(&prices, &Usage::default(), &[]), None);

        let mut unknown = usage.clone();
        unknown.models[0].answers_unknown = 1;
        assert!(settled(&prices, &unknown, &[]).unwrap().is_partial, "an answer of which nothing is known");
    }

    #[test]
    fn zero_is_a_price() {
        let prices = prices("[[recognizers]]\nname = \"sphinx\"\nminute = \"0\"\n");
        let heard = HeardUsage { provider: "sphinx".to_owned(), audio_ms: 1 };
        let cost = settled(&prices, &Usage { recognizers: vec![heard], ..Usage::default() }, &[]).unwrap();
        assert_eq!((cost.micros, cost.is_partial), (Some(0), false));
    }

    /// Numbers that a seed gives (splitmix64).
    struct Numbers(u64);

    impl Numbers {
        fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        }

        fn up_to(&mut self, limit: u64) -> u64 {
            self.next() % (limit + 1)
        }
    }

    fn for_each_case(check: impl Fn(&mut Numbers)) {
        let seed = u64::from(std::process::id());
        println!("seed {seed}");
        let mut numbers = Numbers(seed);
        (0..5_000).for_each(|_| check(&mut numbers));
    }

    #[test]
    fn no_increment_charges_less_than_the_time_or_a_whole_span_more() {
        for_each_case(|numbers| {
            let (up_ms, first, then) = (numbers.up_to(100_000_000), 1 + numbers.up_to(3_599), 1 + numbers.up_to(3_599));
            let billed_ms = billed_s(up_ms, (first, then)) * 1_000;
            assert!(billed_ms >= up_ms && billed_ms >= first * 1_000, "{up_ms} by {first}/{then}: {billed_ms}");
            assert!(
                billed_ms < (up_ms + 1_000 + then * 1_000).max(first * 1_000 + 1),
                "{up_ms} by {first}/{then}: {billed_ms}"
            );
            assert_eq!((billed_ms / 1_000 - first) % then, 0, "{up_ms} by {first}/{then}: {billed_ms}");
        });
    }

    #[test]
    fn a_share_is_off_by_half_a_millionth_at_most() {
        for_each_case(|numbers| {
            let price = i64::try_from(numbers.up_to(1_000_000_000_000)).unwrap();
            let all = product(price, numbers.up_to(1_000_000));
            for parts in [60, 1_000, 60_000, 1_000_000] {
                let off = i128::from(share(all, parts)) * parts - all;
                assert!(off.abs() * 2 <= parts && off * 2 != -parts, "{all} / {parts}: {off}");
            }
        });
    }

    #[test]
    fn whatever_is_used_the_total_is_the_sum_and_nothing_overflows() {
        let prices = prices(
            "[[recognizers]]\nname = \"a\"\nminute = \"1000000\"\n[[voices]]\nname = \"a\"\nthousand_characters = \"1000000\"\n\
             [[models]]\nname = \"a\"\nmillion_in = \"1000000\"\nmillion_out = \"1000000\"\n\
             [[trunks]]\nname = \"carrier\"\nminute = \"1000000\"\n",
        );
        for_each_case(|numbers| {
            let mut any = || {
                let by = numbers.up_to(63);
                numbers.next() >> by
            };
            let (audio_ms, characters, up_ms) = (any(), any(), any());
            let (tokens_in, tokens_cached, tokens_out) = (any(), any(), any());
            let (provider, model) = ("a".to_owned(), "a".to_owned());
            let heard = HeardUsage { provider: provider.clone(), audio_ms };
            let spoken = SpokenUsage { provider: provider.clone(), characters };
            let (answers, answers_unknown) = (1, 0);
            let thought =
                ModelUsage { provider, model, answers, answers_unknown, tokens_in, tokens_cached, tokens_out };
            let usage = Usage { recognizers: vec![heard], voices: vec![spoken], models: vec![thought] };
            let cost = settled(&prices, &usage, &[leg("1", up_ms)]).unwrap();
            let sum = cost.lines.iter().map(|line| line.micros.unwrap()).fold(0_i64, i64::saturating_add);
            assert_eq!(cost.micros, Some(sum), "{usage:?} {up_ms}");
            assert!(cost.lines.iter().all(|line| line.micros.unwrap() >= 0), "{cost:?}");
        });
    }
}
