//! An ended call as a line of the journal tells of it.

use serde::Deserialize;

use super::{CallRecord, SEARCH_LIMIT, Turn};
use crate::address::user_part;
use crate::time::Moment;

/// An ended call as its journal's line tells of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    /// What lists show.
    pub call: CallRecord,
    /// The devices that took part.
    pub devices: Vec<String>,
    /// What was said.
    pub turns: Vec<Turn>,
    /// Where the recording is.
    pub recording: Option<String>,
    /// The line.
    pub line: String,
}

/// Characters of a name or a number that are kept for lists: whatever a peer says it is called, the indexes of both databases take two of them
/// in one entry, and lists can be asked for it. The record has the whole.
pub const NAME_CHARS: usize = SEARCH_LIMIT;
/// Characters of what is said by a word.
const WORD_CHARS: usize = 64;
/// A call costs at most so many millionths and lasts so many milliseconds (31 years): sums of a million calls stay numbers of the database's.
const SUM_LIMIT: i64 = 1_000_000_000_000;

/// A journal's line, as far as it is looked at.
#[derive(Deserialize)]
struct Line {
    call: String,
    direction: String,
    started_at: Moment,
    answered_at: Option<Moment>,
    ended_at: Moment,
    duration_ms: i64,
    from: String,
    to: String,
    target: String,
    #[serde(default)]
    codec: String,
    end: LineEnd,
    agent: Option<LineAgent>,
    media: Option<LineMedia>,
    recording: Option<String>,
    #[serde(default)]
    device: Option<String>,
    #[serde(default)]
    legs: Vec<LineLeg>,
    cost: Option<LineCost>,
}

#[derive(Deserialize)]
struct LineCost {
    #[serde(default)]
    currency: String,
    micros: Option<i64>,
    is_partial: bool,
}

#[derive(Deserialize)]
struct LineEnd {
    class: String,
    reason: String,
}

#[derive(Deserialize)]
struct LineAgent {
    #[serde(default)]
    turns: Vec<LineTurn>,
}

#[derive(Deserialize)]
struct LineTurn {
    index: i64,
    #[serde(default)]
    conversation: i64,
    who: String,
    text: String,
    started_ms: f64,
    ended_ms: f64,
    gap_ms: Option<f64>,
}

#[derive(Deserialize)]
struct LineMedia {
    mos_in: Option<f64>,
}

#[derive(Deserialize)]
struct LineLeg {
    #[serde(default)]
    label: String,
}

impl Ended {
    /// Reads a line.
    ///
    /// # Errors
    /// It is no record of a call.
    pub fn parse(line: impl Into<String>) -> Result<Self, serde_json::Error> {
        let line = line.into();
        let read: Line = serde_json::from_str(&line)?;
        let recorded = read.recording.is_some();
        let mut devices: Vec<String> = read.legs.iter().filter_map(|leg| device_of(&leg.label)).collect();
        devices.extend(read.device.map(name));
        devices.sort_unstable();
        devices.dedup();
        let turns = read.agent.map(|agent| agent.turns).unwrap_or_default();
        let gap_ms = median(turns.iter().filter_map(|turn| turn.gap_ms).collect());
        let turns = turns.into_iter().map(|turn| Turn {
            number: turn.index,
            conversation: turn.conversation,
            speaker: clean(turn.who),
            text: clean(turn.text),
            started_ms: turn.started_ms,
            ended_ms: turn.ended_ms,
            gap_ms: turn.gap_ms,
        });
        Ok(Self {
            devices,
            turns: turns.collect(),
            recording: read.recording.map(clean),
            line,
            call: CallRecord {
                call: clean(read.call),
                started_at: read.started_at,
                answered_at: read.answered_at,
                ended_at: read.ended_at,
                duration_ms: read.duration_ms.clamp(0, SUM_LIMIT),
                direction: word(read.direction),
                caller: name(user_part(&read.from).into_owned()),
                callee: name(user_part(&read.to).into_owned()),
                target: name(read.target),
                class: word(read.end.class),
                reason: word(read.end.reason),
                codec: word(read.codec),
                recorded,
                recording_removed_at: None,
                transcript_removed_at: None,
                erased_at: None,
                mos_in: read.media.and_then(|media| media.mos_in),
                gap_ms,
                cost_is_partial: read.cost.as_ref().is_some_and(|cost| cost.is_partial),
                cost_micros: read.cost.as_ref().and_then(|cost| cost.micros).map(|cost| cost.clamp(0, SUM_LIMIT)),
                currency: read.cost.filter(|cost| cost.micros.is_some()).map(|cost| word(cost.currency)),
            },
        })
    }
}

/// A name, as lists have it.
pub(in crate::store) fn name(text: String) -> String {
    clean(cut(text, NAME_CHARS))
}

fn word(text: String) -> String {
    clean(cut(text, WORD_CHARS))
}

fn cut(mut text: String, chars: usize) -> String {
    if text.len() > chars
        && let Some((end, _)) = text.char_indices().nth(chars)
    {
        text.truncate(end);
    }
    text
}

/// Text as both databases take it: PostgreSQL has no character 0, and a peer may send one.
fn clean(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text }
}

/// The device that a leg's label names: `device alice/2` is Alice's second phone.
fn device_of(label: &str) -> Option<String> {
    let name = label.strip_prefix("device ")?;
    Some(self::name(name.rsplit_once('/').map_or(name, |(name, _)| name).to_owned()))
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let (low, high) = (values.get(values.len().checked_sub(1)? / 2)?, values.get(values.len() / 2)?);
    Some(low / 2.0 + high / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_known_by_its_leg() {
        assert_eq!(device_of("device alice/2").as_deref(), Some("alice"));
        assert_eq!(device_of("device alice").as_deref(), Some("alice"));
        assert_eq!(device_of("trunk carrier"), None);
    }

    #[test]
    fn a_name_is_its_first_characters() {
        let long = "é".repeat(NAME_CHARS + 1);
        assert_eq!(name(long.clone()), "é".repeat(NAME_CHARS));
        assert_eq!(word(long), "é".repeat(WORD_CHARS));
        assert_eq!(name("a\0b".to_owned()), "a\u{fffd}b");
        assert_eq!(name("é".repeat(NAME_CHARS)), "é".repeat(NAME_CHARS));
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_its_middle_two() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0]), Some(3.0));
        assert_eq!(median(vec![4.0, 1.0, 3.0, 2.0]), Some(2.5));
    }
}
