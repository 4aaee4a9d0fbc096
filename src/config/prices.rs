//! `[prices]`: what providers and trunks charge, so that a call's record says what it cost.
//!
//! Money is counted in whole millionths of the currency's unit; a price is written as text with up to six decimals, and never becomes a
//! floating-point number.

use std::collections::HashSet;

use serde::{Deserialize, Deserializer, Serialize};

use super::checks::ENTRIES_LIMIT;
use super::{Checks, ConfigError};

/// Whole units of a currency that a price may have at most.
const UNITS_LIMIT: u64 = 1_000_000;
/// Digits behind the point of a price.
const DECIMALS: usize = 6;
const PRICE_FIX: &str =
    "write a price as text, with up to six decimals and at most 1000000: \"0.0125\"; \"0\" is for nothing";

/// `[prices]`
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PricesConfig {
    /// What prices are in: the three letters of ISO 4217, such as EUR.
    pub currency: String,
    /// Recognisers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub recognizers: Vec<RecognizerPrice>,
    /// Voices.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub voices: Vec<VoicePrice>,
    /// Language models.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<ModelPrice>,
    /// Carriers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub trunks: Vec<TrunkPrice>,
}

/// One of `[[prices.recognizers]]`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RecognizerPrice {
    /// The recogniser, as records name it: `sphinx`, `whisper`, `openai`.
    pub name: String,
    /// For a minute of sound, by the millisecond.
    pub minute: Price,
}

/// One of `[[prices.voices]]`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VoicePrice {
    /// The voice, as records name it: `flite:rms`, `openai:alloy`; or the part before the colon, for each that has no entry of its own.
    pub name: String,
    /// For a thousand characters, by the character.
    pub thousand_characters: Price,
}

/// One of `[[prices.models]]`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelPrice {
    /// The model, as the agent's `[brain.openai]` has it.
    pub name: String,
    /// For a million tokens that it reads, by the token.
    pub million_in: Price,
    /// For those of them that the provider had at hand from before; empty: as `million_in`.
    pub million_cached: Price,
    /// For a million tokens that it writes.
    pub million_out: Price,
}

/// One of `[[prices.trunks]]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrunkPrice {
    /// The trunk.
    pub name: String,
    /// Which calls: `in`, `out` or `both`.
    pub direction: TrunkDirection,
    /// Numbers that begin so, `+` and `00` left out; empty: all. The longest that fits counts. Of calls that come it is the number of ours.
    pub prefix: String,
    /// For a minute.
    pub minute: Price,
    /// For each call that is answered; empty: nothing.
    pub call: Price,
    /// `FIRST/THEN`, in seconds: so much is charged at least, and then by so much. A second that has begun is a second.
    pub increment: Increment,
}

impl Default for TrunkPrice {
    fn default() -> Self {
        Self {
            name: String::new(),
            direction: TrunkDirection::Both,
            prefix: String::new(),
            minute: Price::default(),
            call: Price::default(),
            increment: Increment("1/1".to_owned()),
        }
    }
}

/// Which calls of a trunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TrunkDirection {
    /// Those that come.
    In,
    /// Those that go out.
    Out,
    /// All.
    Both,
}

/// A price as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(transparent)]
pub struct Price(String);

impl<'de> Deserialize<'de> for Price {
    /// A number without quotes is read, so that what is said of it names its key.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(match toml::Value::deserialize(deserializer)? {
            toml::Value::String(text) => text,
            toml::Value::Integer(whole) => whole.to_string(),
            other => format!("{other} (no text)"),
        }))
    }
}

impl Price {
    /// In millionths of the currency's unit; `None` where there is none, or what is written is none.
    #[must_use]
    pub fn micros(&self) -> Option<i64> {
        let (units, decimals) = self.0.split_once('.').unwrap_or((&self.0, "0"));
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number(units) || !is_number(decimals) || decimals.len() > DECIMALS {
            return None;
        }
        let units: u64 = units.parse().ok().filter(|units| *units <= UNITS_LIMIT)?;
        let decimals: u64 = format!("{decimals:0<DECIMALS$}").parse().ok()?;
        i64::try_from(units * 1_000_000 + decimals).ok()
    }
}

/// How a carrier rounds time, as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Increment(String);

impl Increment {
    /// The first span and the later ones, in seconds; `None` where what is written is none.
    #[must_use]
    pub fn seconds(&self) -> Option<(u64, u64)> {
        let (first, then) = self.0.split_once('/')?;
        let seconds = |text: &str| text.parse::<u64>().ok().filter(|seconds| (1..=3_600).contains(seconds));
        Some((seconds(first)?, seconds(then)?))
    }
}

impl PricesConfig {
    /// What a minute of a recogniser costs, in millionths.
    #[must_use]
    pub fn recognizer(&self, name: &str) -> Option<i64> {
        self.recognizers.iter().find(|price| price.name == name)?.minute.micros()
    }

    /// What a thousand characters of a voice cost, in millionths.
    #[must_use]
    pub fn voice(&self, name: &str) -> Option<i64> {
        let family = name.split(':').next().unwrap_or(name);
        let own = self.voices.iter().find(|price| price.name == name);
        own.or_else(|| self.voices.iter().find(|price| price.name == family))?.thousand_characters.micros()
    }

    /// What a model's tokens cost.
    #[must_use]
    pub fn model(&self, name: &str) -> Option<&ModelPrice> {
        self.models.iter().find(|price| price.name == name)
    }

    /// What calls by a trunk to this number cost: the longest beginning counts, and of two the one that names the direction.
    #[must_use]
    pub fn trunk(&self, name: &str, direction: TrunkDirection, number: &str) -> Option<&TrunkPrice> {
        let number = bare(number);
        let fits = |price: &&TrunkPrice| {
            price.name == name
                && (price.direction == direction || price.direction == TrunkDirection::Both)
                && number.starts_with(bare(&price.prefix))
        };
        let rank = |price: &&TrunkPrice| (bare(&price.prefix).len(), price.direction == direction);
        self.trunks.iter().filter(fits).max_by_key(rank)
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let counts = [self.recognizers.len(), self.voices.len(), self.models.len(), self.trunks.len()];
        if counts.iter().any(|count| *count > ENTRIES_LIMIT) {
            let fix = format!("at most {ENTRIES_LIMIT} of each kind stand in a configuration");
            return Err(ConfigError::entry("prices", counts.iter().sum::<usize>(), fix));
        }
        let is_currency = self.currency.len() == 3 && self.currency.bytes().all(|byte| byte.is_ascii_uppercase());
        if !is_currency && (!self.currency.is_empty() || counts.iter().any(|count| *count > 0)) {
            let fix = "write the three letters of the currency that prices are in, such as EUR";
            return Err(ConfigError::entry("prices.currency", &self.currency, fix));
        }
        let mut known = HashSet::new();
        for price in &self.recognizers {
            let at = entry("recognizers", &price.name, &mut known, "")?;
            needed(&at, "minute", &price.minute)?;
        }
        for price in &self.voices {
            let at = entry("voices", &price.name, &mut known, "")?;
            needed(&at, "thousand_characters", &price.thousand_characters)?;
        }
        for price in &self.models {
            let at = entry("models", &price.name, &mut known, "")?;
            needed(&at, "million_in", &price.million_in)?;
            optional(&at, "million_cached", &price.million_cached)?;
            needed(&at, "million_out", &price.million_out)?;
        }
        for price in &self.trunks {
            let prefix = bare(&price.prefix);
            let at = entry("trunks", &price.name, &mut known, &format!("{:?} {prefix}", price.direction))?;
            let checks = Checks { at: &at };
            if prefix.len() > 15 || !prefix.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(checks.bad(
                    "prefix",
                    &price.prefix,
                    "write the first digits of numbers, such as +49, or nothing",
                ));
            }
            needed(&at, "minute", &price.minute)?;
            optional(&at, "call", &price.call)?;
            if price.increment.seconds().is_none() {
                let fix = "write FIRST/THEN in seconds, each from 1 to 3600, such as 60/6";
                return Err(checks.bad("increment", &price.increment.0, fix));
            }
        }
        Ok(())
    }
}

/// A number without what says that it is an international one.
fn bare(number: &str) -> &str {
    number.strip_prefix('+').or_else(|| number.strip_prefix("00")).unwrap_or(number)
}

/// Where an entry stands, which is there once.
fn entry(kind: &str, name: &str, known: &mut HashSet<String>, more: &str) -> Result<String, ConfigError> {
    if name.is_empty() {
        return Err(ConfigError::entry(format!("prices.{kind}.name"), name, "write whose price it is"));
    }
    let at = format!("prices.{kind}.{name}");
    if !known.insert(format!("{at} {more}")) {
        return Err(ConfigError::entry(format!("{at}.name"), name, "it has two prices for the same: leave one"));
    }
    Ok(at)
}

fn needed(at: &str, key: &str, price: &Price) -> Result<(), ConfigError> {
    match price.micros() {
        Some(_) => Ok(()),
        None => Err(Checks { at }.bad(key, &price.0, PRICE_FIX)),
    }
}

fn optional(at: &str, key: &str, price: &Price) -> Result<(), ConfigError> {
    if price.0.is_empty() { Ok(()) } else { needed(at, key, price) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn prices(text: &str) -> PricesConfig {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn a_price_is_whole_millionths_and_nothing_else_is_a_price() {
        let micros = |text: &str| Price(text.to_owned()).micros();
        for (text, wanted) in
            [("0", 0), ("0.006", 6_000), ("1", 1_000_000), ("12.345678", 12_345_678), ("1000000", 1_000_000_000_000)]
        {
            assert_eq!(micros(text), Some(wanted), "{text}");
        }
        for bad in ["", ".5", "1.", "-1", "+1", "1,5", "0.0000001", "1000001", "1e3", "NaN", " 1", "٣"] {
            assert_eq!(micros(bad), None, "{bad}");
        }
    }

    #[test]
    fn of_a_trunks_prices_the_longest_beginning_counts_and_then_the_direction() {
        let prices = prices(
            "currency = \"EUR\"\n\
             [[trunks]]\nname = \"a\"\nminute = \"1\"\n\
             [[trunks]]\nname = \"a\"\ndirection = \"in\"\nminute = \"2\"\n\
             [[trunks]]\nname = \"a\"\ndirection = \"out\"\nprefix = \"+49\"\nminute = \"3\"\n\
             [[trunks]]\nname = \"a\"\nprefix = \"00491\"\nminute = \"4\"\n",
        );
        prices.validate().unwrap();
        let minute = |direction, number| prices.trunk("a", direction, number).unwrap().minute.0.clone();
        use TrunkDirection::{In, Out};
        for (direction, number, wanted) in [
            (Out, "+43123", "1"),
            (In, "+43123", "2"),
            (In, "", "2"),
            (Out, "+4930", "3"),
            (Out, "004930", "3"),
            (Out, "4930", "3"),
            (In, "+4930", "2"),
            (Out, "+49151", "4"),
            (In, "49151", "4"),
        ] {
            assert_eq!(minute(direction, number), wanted, "{direction:?} {number}");
        }
        assert_eq!(prices.trunk("b", Out, "+49"), None);
    }

    #[test]
    fn a_wrong_price_is_named_by_its_key() {
        let eur = "currency = \"EUR\"\n";
        for (text, key) in [
            ("currency = \"euro\"".to_owned(), "prices.currency"),
            ("[[voices]]\nname = \"v\"\nthousand_characters = \"1\"".to_owned(), "prices.currency"),
            (format!("{eur}[[recognizers]]\nminute = \"1\""), "prices.recognizers.name"),
            (format!("{eur}[[recognizers]]\nname = \"openai\""), "prices.recognizers.openai.minute"),
            (
                format!("{eur}[[recognizers]]\nname = \"a\"\nminute = 0.006"),
                "prices.recognizers.a.minute = 0.006 (no text)",
            ),
            (
                format!("{eur}[[voices]]\nname = \"v\"\nthousand_characters = \"-1\""),
                "prices.voices.v.thousand_characters",
            ),
            (format!("{eur}[[models]]\nname = \"m\"\nmillion_in = \"1\""), "prices.models.m.million_out"),
            (
                format!(
                    "{eur}[[models]]\nname = \"m\"\nmillion_in = \"1\"\nmillion_out = \"1\"\nmillion_cached = \"x\""
                ),
                "prices.models.m.million_cached",
            ),
            (format!("{eur}[[trunks]]\nname = \"t\"\nminute = \"1\"\nincrement = \"60\""), "prices.trunks.t.increment"),
            (
                format!("{eur}[[trunks]]\nname = \"t\"\nminute = \"1\"\nincrement = \"0/1\""),
                "prices.trunks.t.increment",
            ),
            (format!("{eur}[[trunks]]\nname = \"t\"\nminute = \"1\"\nprefix = \"abc\""), "prices.trunks.t.prefix"),
            (
                format!(
                    "{eur}[[trunks]]\nname = \"t\"\nminute = \"1\"\nprefix = \"+1\"\n[[trunks]]\nname = \"t\"\nminute = \"2\"\nprefix = \"001\""
                ),
                "prices.trunks.t.name",
            ),
        ] {
            let fault = prices(&text).validate().unwrap_err().to_string();
            assert!(fault.contains(key), "{text}: {fault}");
        }
        prices(&format!("{eur}[[voices]]\nname = \"v\"\nthousand_characters = \"0\"")).validate().unwrap();
    }

    #[test]
    fn a_voice_without_a_price_of_its_own_has_its_familys() {
        let of =
            |name: &str, price: &str| format!("[[voices]]\nname = \"{name}\"\nthousand_characters = \"{price}\"\n");
        let prices = prices(&format!("currency = \"EUR\"\n{}{}", of("openai", "1"), of("openai:nova", "2")));
        assert_eq!(prices.voice("openai:alloy"), Some(1_000_000));
        assert_eq!(prices.voice("openai:nova"), Some(2_000_000));
        assert_eq!(prices.voice("flite:rms"), None);
    }
}
