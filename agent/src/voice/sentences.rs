//! Where a text is cut for speaking: at the ends of sentences, and once early.
//!
//! A language model writes token by token. [`Splitter`] hands out each sentence as soon as it is whole, and the first
//! clause even before, so that the voice starts while the rest is still being thought up. Ends are told from full
//! stops that end nothing: `Dr. Jones`, `9 a.m.`, `3.5`, `J. Smith`, `1. First`, `Well ... yes`.

use std::time::Duration;

/// The longest piece handed to an engine, in bytes: longer ones are cut at a clause or a word.
pub const MAX_PIECE_BYTES: usize = 240;

/// The first piece of a reply may be cut at a clause's end once it is this long, in bytes.
pub const MIN_FIRST_CLAUSE_BYTES: usize = 18;

/// [`split_early`] leaves a first sentence up to this length whole, in bytes: about 4 s of speech.
pub const MAX_FIRST_BYTES: usize = 64;

/// Words whose full stop doesn't end a sentence, in lower case.
const ABBREVIATIONS: [&str; 44] = [
    "dr", "mr", "mrs", "ms", "prof", "st", "sr", "jr", "rev", "hon", "gen", "col", "sgt", "capt", "lt", "vs", "e.g",
    "i.e", "approx", "dept", "ext", "tel", "no", "nr", "ave", "blvd", "rd", "apt", "fig", "jan", "feb", "mar", "apr",
    "jun", "jul", "aug", "sep", "sept", "oct", "nov", "dec", "ca", "cf", "al",
];

/// Words that may stand after `a.m.` or `p.m.` with a capital and still go on with the sentence.
const GOES_ON: [&str; 20] = [
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
    "i",
];

/// Cuts a text that comes in pieces into what is spoken at once.
#[derive(Clone, Debug, Default)]
pub struct Splitter {
    text: String,
    first_given: bool,
}

impl Splitter {
    /// At the start of a reply.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes what was written next, and hands out what is whole now.
    pub fn push(&mut self, text: &str) -> Vec<String> {
        self.text.push_str(text);
        let mut pieces = Vec::new();
        while let Some(end) = self.next_cut() {
            self.take(end, &mut pieces);
        }
        pieces
    }

    /// The rest, at the end of the reply, in pieces of a length that engines take; the splitter starts anew.
    pub fn finish(&mut self) -> Vec<String> {
        let mut pieces = Vec::new();
        while let Some(end) = self.next_cut() {
            self.take(end, &mut pieces);
        }
        let end = self.text.len();
        self.take(end, &mut pieces);
        self.first_given = false;
        pieces
    }

    /// What is written and not handed out yet.
    #[must_use]
    pub fn pending(&self) -> &str {
        &self.text
    }

    fn next_cut(&self) -> Option<usize> {
        let sentence = sentence_end(&self.text);
        let early = if self.first_given { None } else { clause_end(&self.text, MIN_FIRST_CLAUSE_BYTES) };
        let cut = match (sentence, early) {
            (Some(sentence), Some(early)) => Some(sentence.min(early)),
            (sentence, early) => sentence.or(early),
        };
        match cut {
            Some(end) if end <= MAX_PIECE_BYTES => Some(end),
            None if self.text.len() <= MAX_PIECE_BYTES => None,
            _ => Some(forced_cut(&self.text)),
        }
    }

    fn take(&mut self, end: usize, pieces: &mut Vec<String>) {
        let rest = self.text.split_off(end.min(self.text.len()));
        let piece = std::mem::replace(&mut self.text, rest);
        let piece = piece.trim();
        if piece.chars().any(char::is_alphanumeric) {
            pieces.push(piece.to_owned());
            self.first_given = true;
        }
    }
}

/// A whole text, sentence by sentence; none is longer than [`MAX_PIECE_BYTES`].
#[must_use]
pub fn split(text: &str) -> Vec<String> {
    let mut splitter = Splitter { text: text.to_owned(), first_given: true };
    splitter.finish()
}

/// As [`split`], with a long first sentence cut once more at its first clause: small engines analyse a piece whole before
/// its first sample.
#[must_use]
pub fn split_early(text: &str) -> Vec<String> {
    let mut pieces = split(text);
    let Some(first) = pieces.first_mut().filter(|first| first.len() > MAX_FIRST_BYTES) else { return pieces };
    if let Some(end) = clause_end(first, MIN_FIRST_CLAUSE_BYTES) {
        let rest = first.split_off(end);
        pieces.insert(1, rest.trim().to_owned());
    }
    pieces
}

/// The silence after a piece: more after a sentence than after a clause.
#[must_use]
pub fn pause_after(piece: &str) -> Duration {
    match piece.trim_end_matches(['"', '\'', ')', ']', '”', '’']).chars().next_back() {
        Some('.' | '!' | '?' | '…') => Duration::from_millis(180),
        Some(',' | ';' | ':' | '-' | '–' | '—') => Duration::from_millis(90),
        _ => Duration::from_millis(120),
    }
}

/// The byte after the first sentence, if its end can be told.
fn sentence_end(text: &str) -> Option<usize> {
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if c == '\n' && text.get(..at).is_some_and(|before| !before.trim().is_empty()) {
            return Some(at);
        }
        if !matches!(c, '.' | '!' | '?' | '…') {
            continue;
        }
        let mut end = at + c.len_utf8();
        while let Some((next_at, next)) =
            chars.next_if(|(_, next)| matches!(next, '.' | '!' | '?' | '…' | '"' | '\'' | ')' | ']' | '”' | '’'))
        {
            end = next_at + next.len_utf8();
        }
        if ends_sentence(text, at, end) {
            return Some(end);
        }
    }
    None
}

/// Whether the mark at `mark..end` (with what closes behind it) ends a sentence. Needs the white space after it.
fn ends_sentence(text: &str, mark: usize, end: usize) -> bool {
    let (Some(before), Some(marks), Some(after)) = (text.get(..mark), text.get(mark..end), text.get(end..)) else {
        return false;
    };
    if !after.starts_with(char::is_whitespace) {
        return false;
    }
    let ellipsis = marks.starts_with("..") || marks.starts_with('…');
    if !marks.starts_with('.') && !ellipsis {
        return true;
    }
    let word = before.rsplit(|c: char| c.is_whitespace() || matches!(c, '(' | '"' | '“')).next().unwrap_or_default();
    let lower = word.to_lowercase();
    let next = after.trim_start();
    if matches!(lower.as_str(), "a.m" | "p.m" | "u.s" | "u.k") {
        return starts_anew(next);
    }
    if ellipsis {
        return next.starts_with(|c: char| c.is_uppercase() || c.is_numeric());
    }
    if ABBREVIATIONS.contains(&lower.as_str()) {
        // "No." alone, and "no." after other words, is the answer; "No. 5" is a number.
        return lower == "no" && !next.is_empty() && !next.starts_with(|c: char| c.is_numeric());
    }
    let initial = word.chars().count() == 1 && word.chars().all(char::is_uppercase) && word != "I";
    let item = !word.is_empty() && word.chars().all(char::is_numeric) && before.trim() == word;
    !initial && !item
}

/// Whether what follows `a.m.` begins a sentence. Waits for the whole word.
fn starts_anew(next: &str) -> bool {
    let word: String = next.chars().take_while(|c| c.is_alphanumeric()).collect();
    let whole = word.len() < next.len();
    whole && word.starts_with(char::is_uppercase) && !GOES_ON.contains(&word.to_lowercase().as_str())
}

/// The byte after the first clause that is at least `min_bytes` long and has some word after it.
fn clause_end(text: &str, min_bytes: usize) -> Option<usize> {
    text.char_indices()
        .filter(|(at, c)| *at >= min_bytes && matches!(c, ',' | ';' | ':' | '–' | '—'))
        .map(|(at, c)| at + c.len_utf8())
        .find(|end| text.get(*end..).is_some_and(|after| after.starts_with(' ') && !after.trim().is_empty()))
}

/// Where a text longer than [`MAX_PIECE_BYTES`] is cut: at its last clause within the limit, or its last word.
fn forced_cut(text: &str) -> usize {
    let limit = text.floor_char_boundary(MAX_PIECE_BYTES);
    let head = text.get(..limit).unwrap_or(text);
    let clause = head.rfind([',', ';', ':']).map(|at| at + 1).filter(|at| *at >= MAX_PIECE_BYTES / 3);
    clause.or_else(|| head.rfind(char::is_whitespace).filter(|at| *at > 0)).unwrap_or(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn streamed(text: &str) -> Vec<String> {
        let mut splitter = Splitter::new();
        let mut pieces: Vec<String> = text.chars().flat_map(|c| splitter.push(&c.to_string())).collect();
        pieces.extend(splitter.finish());
        pieces
    }

    #[test]
    fn cuts_at_the_ends_of_sentences_only() {
        let cases: [(&str, &[&str]); 12] = [
            ("Hello. How are you? Fine!", &["Hello.", "How are you?", "Fine!"]),
            ("Dr. Jones is in. Mrs. Hill is not.", &["Dr. Jones is in.", "Mrs. Hill is not."]),
            ("It costs 3.5 euros. Good.", &["It costs 3.5 euros.", "Good."]),
            ("We open at 9 a.m. on Monday. Bye.", &["We open at 9 a.m. on Monday.", "Bye."]),
            ("We open at 9 a.m. Monday to Friday.", &["We open at 9 a.m. Monday to Friday."]),
            ("We open at 9 a.m. Please come.", &["We open at 9 a.m.", "Please come."]),
            ("Well... yes. Hm... No way.", &["Well... yes.", "Hm...", "No way."]),
            ("Ask J. Smith, please. He knows.", &["Ask J. Smith, please.", "He knows."]),
            ("1. Open it.\n2. Close it.", &["1. Open it.", "2. Close it."]),
            ("He said \"Stop!\" Then he left.", &["He said \"Stop!\"", "Then he left."]),
            ("No. Not today. Room No. 5 is free.", &["No.", "Not today.", "Room No. 5 is free."]),
            ("   \n\n . ... !", &[]),
        ];
        for (text, expected) in cases {
            assert_eq!(split(text), expected, "{text}");
        }
    }

    #[test]
    fn hands_out_a_sentence_as_soon_as_the_next_token_begins() {
        let mut splitter = Splitter::new();
        assert!(splitter.push("Hello").is_empty());
        assert!(splitter.push(".").is_empty());
        assert_eq!(splitter.push(" How"), ["Hello."]);
        assert_eq!(splitter.pending(), " How");
        assert_eq!(splitter.finish(), ["How"]);
    }

    #[test]
    fn hands_out_the_first_clause_early_and_later_ones_not() {
        let pieces = streamed("Thank you for calling us today, how can I help you? I can book a table, or a room.");
        assert_eq!(
            pieces,
            ["Thank you for calling us today,", "how can I help you?", "I can book a table, or a room."]
        );
    }

    #[test]
    fn streamed_by_single_characters_no_word_is_lost() {
        for text in ["One, two, three.", "It is 9:30 a.m. now... Right? Dr. No. 7, (yes!) and so on", "Ä ö ü… Äh. ß"]
        {
            let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
            assert_eq!(words(&streamed(text).join(" ")), words(text));
        }
    }

    #[test]
    fn cuts_what_never_ends_at_a_word_within_the_limit() {
        let endless = "word ".repeat(200);
        let pieces = streamed(&endless);
        assert!(pieces.len() > 3);
        assert!(pieces.iter().all(|piece| piece.len() <= MAX_PIECE_BYTES));
        assert_eq!(pieces.join(" "), endless.trim());
        let solid = "é".repeat(1000);
        assert_eq!(split(&solid).concat(), solid);
    }

    #[test]
    fn a_long_first_sentence_is_cut_at_its_first_clause_for_an_early_start() {
        let short = "Good morning, how can I help you? It is a nice day, isn't it, and it goes on and on, doesn't it, for long?";
        assert_eq!(split_early(short), split(short));
        let long =
            "You have asked for an appointment, and I have one more question about it, which is for the reminder. Yes?";
        let rest = "and I have one more question about it, which is for the reminder.";
        assert_eq!(split_early(long), ["You have asked for an appointment,", rest, "Yes?"]);
    }

    #[test]
    fn the_next_reply_may_begin_with_a_clause_again() {
        let mut splitter = Splitter::new();
        splitter.push("Yes, it is right here. ");
        splitter.finish();
        assert_eq!(splitter.push("In that case I would say, come"), ["In that case I would say,"]);
    }
}
