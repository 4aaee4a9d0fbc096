//! How words are pronounced: the model's dictionary, and rules for the words it lacks.

use std::path::Path;

use super::spelling;
use crate::ear::EarError;

/// The most pronunciations of one word.
const MOST: usize = 8;

/// The pronouncing dictionary (CMU's), kept as text and searched by halving.
pub(super) struct Dictionary {
    text: String,
    /// Where each line starts, in the order of their words.
    lines: Vec<u32>,
}

impl Dictionary {
    /// Reads the dictionary; about 3 MB.
    pub(super) fn read(path: &Path) -> Result<Self, EarError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| EarError::ModelBad { path: path.display().to_string(), reason: error.to_string() })?;
        Ok(Self::of(text))
    }

    fn of(text: String) -> Self {
        let mut lines = Vec::with_capacity(text.len() / 24);
        let mut start = 0u32;
        for line in text.split_inclusive('\n') {
            lines.push(start);
            start += line.len() as u32;
        }
        let mut dictionary = Self { text, lines };
        let mut lines = std::mem::take(&mut dictionary.lines);
        lines.sort_by_key(|&start| dictionary.line(start).0);
        dictionary.lines = lines;
        dictionary
    }

    fn line(&self, start: u32) -> (&str, &str) {
        let line = self.text.get(start as usize..).and_then(|rest| rest.lines().next()).unwrap_or("");
        line.split_once(' ').unwrap_or((line, ""))
    }

    fn find(&self, word: &str) -> Option<&str> {
        let at = self.lines.binary_search_by(|&start| self.line(start).0.cmp(word)).ok()?;
        self.lines.get(at).map(|&start| self.line(start).1.trim()).filter(|phones| !phones.is_empty())
    }

    /// Every pronunciation that the dictionary has for a word.
    fn known(&self, word: &str) -> Vec<String> {
        let others = (2..10).map_while(|n| self.find(&format!("{word}({n})")));
        self.find(word).into_iter().chain(others).map(str::to_owned).collect()
    }

    /// How a word is pronounced, each way as phones; looked up, else put together from what is known, else by rules of
    /// spelling. Empty for what has no letter to pronounce.
    pub(super) fn pronunciations(&self, word: &str) -> Vec<String> {
        let mut said = self.as_written(word);
        let plain: Vec<String> = said.iter().filter_map(|phones| without_r(phones)).collect();
        said.extend(plain);
        let stopped: Vec<String> = said.iter().filter_map(|phones| with_stop(phones)).collect();
        said.extend(stopped);
        said.truncate(MOST);
        said
    }

    fn as_written(&self, word: &str) -> Vec<String> {
        let known = self.known(word);
        if !known.is_empty() {
            return known;
        }
        if let Some(made) = self.with_ending(word).or_else(|| self.compound(word)) {
            return made;
        }
        let spelled = spelling::phones(word);
        if spelled.is_empty() { Vec::new() } else { vec![spelled] }
    }

    fn with_ending(&self, word: &str) -> Option<Vec<String>> {
        let (stem, ends_in_s) = match word.strip_suffix("'s").or_else(|| word.strip_suffix('s')) {
            Some(stem) => (stem, true),
            None => (word.strip_suffix("ing")?, false),
        };
        let stems = self.known(stem);
        if stems.is_empty() || stem.len() < 2 {
            return None;
        }
        let ended = stems.iter().map(|phones| {
            let last = phones.rsplit(' ').next().unwrap_or("");
            let ending = match last {
                _ if !ends_in_s => "IH NG",
                "S" | "Z" | "SH" | "ZH" | "CH" | "JH" => "IH Z",
                "P" | "T" | "K" | "F" | "TH" => "S",
                _ => "Z",
            };
            format!("{phones} {ending}")
        });
        Some(ended.collect())
    }

    fn compound(&self, word: &str) -> Option<Vec<String>> {
        let splits = word.char_indices().map(|(at, _)| at).filter(|at| *at >= 3 && at + 3 <= word.len());
        let halves = splits.filter_map(|at| {
            let (first, second) = (self.find(word.get(..at)?)?, self.find(word.get(at..)?)?);
            Some(format!("{first} {second}"))
        });
        let made: Vec<String> = halves.take(2).collect();
        if made.is_empty() { None } else { Some(made) }
    }
}

/// The way of those who speak no `r` after a vowel unless another follows: most of England, Australia, the southern
/// hemisphere; the dictionary is American. `None` where that is no difference.
fn without_r(phones: &str) -> Option<String> {
    let phones: Vec<&str> = phones.split(' ').collect();
    let is_vowel = |phone: &&str| phone.starts_with(['A', 'E', 'I', 'O', 'U']);
    let mut said: Vec<&str> = Vec::new();
    let mut changed = false;
    for (at, phone) in phones.iter().enumerate() {
        let vowel_follows = phones.get(at + 1).is_some_and(is_vowel);
        match *phone {
            "ER" if !vowel_follows => {
                said.push("AH");
                changed = true;
            }
            "R" if !vowel_follows && said.last().is_some_and(is_vowel) => changed = true,
            phone => said.push(phone),
        }
    }
    changed.then(|| said.join(" "))
}

/// The way of those who begin `Thursday` as `turn`: Ireland, India, and telephones that lose the hiss.
fn with_stop(phones: &str) -> Option<String> {
    phones.strip_prefix("TH ").map(|rest| format!("T {rest}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn dictionary() -> Dictionary {
        Dictionary::of("desk D EH S K\nfront F R AH N T\na AH\na(2) EY\none's W AH N Z\nbus B AH S\n".into())
    }

    #[test]
    fn finds_all_pronunciations_of_a_word() {
        assert_eq!(dictionary().pronunciations("a"), ["AH", "EY"]);
        assert_eq!(dictionary().pronunciations("desk"), ["D EH S K"]);
    }

    #[test]
    fn english_speakers_need_not_say_their_r() {
        assert_eq!(without_r("TH ER Z D EY").unwrap(), "TH AH Z D EY");
        assert_eq!(without_r("M AO R N IH NG").unwrap(), "M AO N IH NG");
        assert_eq!(without_r("S EH R IY"), None);
        assert_eq!(without_r("F R AY D EY"), None);
    }

    #[test]
    fn thursday_may_begin_like_turn() {
        assert_eq!(with_stop("TH ER Z D EY").unwrap(), "T ER Z D EY");
        assert_eq!(with_stop("M AH N TH"), None);
    }

    #[test]
    fn puts_unknown_words_together_from_known_ones() {
        assert_eq!(dictionary().pronunciations("frontdesk"), ["F R AH N T D EH S K"]);
        assert_eq!(dictionary().pronunciations("desks"), ["D EH S K S"]);
        assert_eq!(dictionary().pronunciations("bus's"), ["B AH S IH Z"]);
    }

    #[test]
    fn spells_out_what_it_has_never_heard_of() {
        assert_eq!(dictionary().pronunciations("omnivox").len(), 1);
        assert!(dictionary().pronunciations("'").is_empty());
    }
}
