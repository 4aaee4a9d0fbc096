//! From letters to phones, for names that no dictionary has. Rough: a recogniser needs the sound, not the stress.

/// Letters and the phones they stand for; the longest that fits is taken. `^` is the word's start, `$` its end.
const RULES: [(&str, &str); 96] = [
    ("tion", "SH AH N"),
    ("sion", "ZH AH N"),
    ("eigh", "EY"),
    ("augh", "AO"),
    ("ough", "AO"),
    ("tch", "CH"),
    ("sch", "SH"),
    ("igh", "AY"),
    ("eau", "OW"),
    ("dge", "JH"),
    ("^kn", "N"),
    ("^wr", "R"),
    ("^ps", "S"),
    ("^wh", "W"),
    ("^x", "Z"),
    ("^y", "Y"),
    ("ck", "K"),
    ("ch", "CH"),
    ("sh", "SH"),
    ("th", "TH"),
    ("ph", "F"),
    ("gh", "G"),
    ("qu", "K W"),
    ("ng$", "NG"),
    ("nk", "NG K"),
    ("ee", "IY"),
    ("ea", "IY"),
    ("oo", "UW"),
    ("ou", "AW"),
    ("ow", "OW"),
    ("oi", "OY"),
    ("oy", "OY"),
    ("ai", "EY"),
    ("ay", "EY"),
    ("au", "AO"),
    ("aw", "AO"),
    ("ei", "AY"),
    ("ey", "IY"),
    ("ie", "IY"),
    ("ew", "UW"),
    ("ue$", "UW"),
    ("oa", "OW"),
    ("ar", "AA R"),
    ("er", "ER"),
    ("ir", "ER"),
    ("or", "AO R"),
    ("ur", "ER"),
    ("ce", "S EH"),
    ("ci", "S IH"),
    ("cy", "S IY"),
    ("ce$", "S"),
    ("ge$", "JH"),
    ("le$", "AH L"),
    ("se$", "Z"),
    ("es$", "IH Z"),
    ("ed$", "D"),
    ("e$", ""),
    ("y$", "IY"),
    ("a$", "AH"),
    ("o$", "OW"),
    ("i$", "IY"),
    ("bb", "B"),
    ("cc", "K"),
    ("dd", "D"),
    ("ff", "F"),
    ("gg", "G"),
    ("ll", "L"),
    ("mm", "M"),
    ("nn", "N"),
    ("pp", "P"),
    ("rr", "R"),
    ("ss", "S"),
    ("tt", "T"),
    ("zz", "Z"),
    ("a", "AE"),
    ("b", "B"),
    ("c", "K"),
    ("d", "D"),
    ("e", "EH"),
    ("f", "F"),
    ("g", "G"),
    ("h", "HH"),
    ("i", "IH"),
    ("j", "JH"),
    ("k", "K"),
    ("l", "L"),
    ("m", "M"),
    ("n", "N"),
    ("o", "AA"),
    ("p", "P"),
    ("r", "R"),
    ("s", "S"),
    ("t", "T"),
    ("u", "AH"),
    ("v", "V"),
    ("w", "W"),
];

/// The letters that the table has no room for alone.
const LAST: [(&str, &str); 3] = [("x", "K S"), ("y", "IH"), ("z", "Z")];

/// A word's phones, separated by spaces; empty where it has no letters from a to z.
pub(super) fn phones(word: &str) -> String {
    let letters: String = word.chars().filter(char::is_ascii_lowercase).collect();
    let marked = format!("^{letters}$");
    let mut rest = marked.as_str();
    let mut said: Vec<&str> = Vec::new();
    while !rest.is_empty() {
        let rules = RULES.iter().chain(&LAST);
        let best = rules.filter(|(spelled, _)| rest.starts_with(spelled)).max_by_key(|(spelled, _)| spelled.len());
        // A final silent `e` must leave a vowel to be heard.
        let silent_all = best.is_some_and(|(spelled, _)| *spelled == "e$") && said.is_empty();
        match best {
            Some(_) if silent_all => {
                said.push("IY");
                break;
            }
            Some((spelled, sounds)) => {
                said.extend(sounds.split(' ').filter(|phone| !phone.is_empty()));
                rest = rest.get(spelled.trim_end_matches('$').len()..).unwrap_or("");
                if spelled.ends_with('$') {
                    break;
                }
            }
            // The marks themselves.
            None => rest = rest.get(1..).unwrap_or(""),
        }
    }
    said.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spells_names_roughly_as_they_sound() {
        assert_eq!(phones("smith"), "S M IH TH");
        assert_eq!(phones("phox"), "F AA K S");
        assert_eq!(phones("knee"), "N IY");
        assert_eq!(phones("vik"), "V IH K");
        assert_eq!(phones("'9"), "");
        assert_eq!(phones("e"), "IY");
    }

    #[test]
    fn every_phone_is_one_of_the_models() {
        const MODEL: [&str; 39] = [
            "AA", "AE", "AH", "AO", "AW", "AY", "B", "CH", "D", "DH", "EH", "ER", "EY", "F", "G", "HH", "IH", "IY",
            "JH", "K", "L", "M", "N", "NG", "OW", "OY", "P", "R", "S", "SH", "T", "TH", "UH", "UW", "V", "W", "Y", "Z",
            "ZH",
        ];
        for (spelled, sounds) in RULES.iter().chain(&LAST) {
            for phone in sounds.split(' ').filter(|phone| !phone.is_empty()) {
                assert!(MODEL.contains(&phone), "{spelled}: {phone}");
            }
        }
    }
}
