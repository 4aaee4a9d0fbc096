//! What is known of the calls that go on, in `calls.open.jsonl`: when a server is killed, its next start makes records of it.
//!
//! | line | says |
//! | --- | --- |
//! | `{"goes_on": RECORD, "after": BYTES, "by_trunks": LEGS}` | how far a call has come, and its legs by trunks; the last one counts. The journal was so long then: a record of the call stands after that |
//! | `{"turn": TURN, "call": ID}` | somebody has spoken in it; the last one of the same index counts |
//! | `{"used": USAGE, "call": ID, "conversation": N}` | what this conversation of its has used of recognisers, voices and models; the last one counts |
//! | `{"ended": ID}` | its record is in the journal |
//!
//! Lines of calls that have ended are thrown away once there is a moment's quiet, and where there is none once they are many; so nothing
//! personal stays. The file's own time tells when its calls were last known to go on.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

use agent::session::TurnRecord;
use agent::usage::Usage;
use serde::{Deserialize, Serialize};

use super::appended::Appended;
use super::{CallRecord, ConversationOutcome, SoFar, timestamp};
use crate::call::cost::{self, CostRecord, TrunkLeg};
use crate::call::end::{End, EndReason};
use crate::config::PricesConfig;

/// The file in the data folder.
const FILE: &str = "calls.open.jsonl";
/// A file of more bytes than this is tidied though there is no quiet, once it has doubled.
const TIDIED_FROM_BYTES: u64 = 1 << 20;
/// What is fresh of calls that are over is let go at once where so many are.
const ENDING_LIMIT: usize = 64;

/// One line, as it is written.
#[derive(Serialize)]
#[serde(untagged)]
enum Says<'a> {
    GoesOn { goes_on: &'a CallRecord, after: u64, by_trunks: &'a [TrunkLeg] },
    Turn { turn: &'a TurnRecord, call: &'a str },
    Used { used: &'a Usage, call: &'a str, conversation: u32 },
    Ended { ended: &'a str },
}

/// One line, as it is read.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    GoesOn {
        goes_on: Box<CallRecord>,
        after: u64,
        #[serde(default)]
        by_trunks: Vec<TrunkLeg>,
    },
    Turn {
        turn: Box<TurnRecord>,
        call: String,
    },
    Used {
        used: Usage,
        call: String,
        #[serde(default)]
        conversation: u32,
    },
    Ended {
        ended: String,
    },
}

/// What is to be told of a call.
#[derive(Debug)]
enum Fresh {
    GoesOn(Box<SoFar>, u64),
    Turn(Box<TurnRecord>),
    Used(u32, Usage),
    Ended,
}

/// The calls that go on.
#[derive(Debug)]
pub(super) struct Progress {
    file: Appended,
    /// Those that the file tells of.
    told: HashSet<String>,
    /// What is to be written, and of which call.
    fresh: Vec<(String, Fresh)>,
    /// Calls that are over: what is fresh of them need not be written.
    ending: HashSet<String>,
    /// The file has lines that nobody needs.
    has_ended: bool,
    bytes: u64,
    /// After it was tidied last.
    bytes_before: u64,
    is_failing: bool,
}

impl Progress {
    /// What a server before left in this folder, and the records of those calls that have none in `journal`; they cost what these prices say.
    pub(super) fn open(dir: &Path, journal: &Path, prices: &PricesConfig, now: SystemTime) -> (Self, Vec<CallRecord>) {
        let path = dir.join(FILE);
        let killed = unfinished(&path, journal, prices, now).unwrap_or_else(|fault| {
            if fault.kind() != std::io::ErrorKind::NotFound {
                tracing::error!("cannot read {}: {fault}. Calls that were going on leave no record", path.display());
            }
            Vec::new()
        });
        let told: HashSet<String> = killed.iter().map(|record| record.call.clone()).collect();
        let bytes = std::fs::metadata(&path).map_or(0, |meta| meta.len());
        let progress = Self {
            file: Appended::new(path),
            told,
            fresh: Vec::new(),
            ending: HashSet::new(),
            has_ended: bytes > 0,
            bytes,
            bytes_before: 0,
            is_failing: false,
        };
        (progress, killed)
    }

    /// Whether calls go on, or the file is to be tidied.
    pub(super) fn is_needed(&self) -> bool {
        !self.told.is_empty() || self.has_ended
    }

    pub(super) fn goes_on(&mut self, so_far: Box<SoFar>, after: u64) {
        self.fresh.push((so_far.record.call.clone(), Fresh::GoesOn(so_far, after)));
    }

    pub(super) fn used(&mut self, call: String, conversation: u32, used: Usage) {
        self.fresh.push((call, Fresh::Used(conversation, used)));
    }

    pub(super) fn turn(&mut self, call: String, turn: Box<TurnRecord>) {
        self.fresh.push((call, Fresh::Turn(turn)));
    }

    /// The call's record is about to be written: what the file does not tell of it yet it need not.
    pub(super) fn is_ending(&mut self, call: &str) {
        self.ending.insert(call.to_owned());
        if self.ending.len() >= ENDING_LIMIT {
            self.forget_ending();
        }
    }

    fn forget_ending(&mut self) {
        let Self { fresh, ending, .. } = self;
        if !ending.is_empty() {
            fresh.retain(|(call, fresh)| matches!(fresh, Fresh::Ended) || !ending.contains(call));
            ending.clear();
        }
    }

    /// The call's record is in the journal.
    pub(super) fn ended(&mut self, call: &str) {
        if self.told.remove(call) {
            self.has_ended = true;
            self.fresh.push((call.to_owned(), Fresh::Ended));
        }
    }

    /// Writes what is new. A disk that takes none of it holds nothing up: those lines are lost.
    pub(super) fn write(&mut self) {
        self.forget_ending();
        if self.fresh.is_empty() {
            return;
        }
        let fresh = std::mem::take(&mut self.fresh);
        let done = self.file.append(&lines(&fresh));
        if let Ok(bytes) = &done {
            self.bytes = *bytes;
            let told = fresh.into_iter().filter(|(_, fresh)| !matches!(fresh, Fresh::Ended));
            self.told.extend(told.map(|(call, _)| call));
        }
        self.note(done.map(|_| ()));
        if self.bytes > TIDIED_FROM_BYTES.max(2 * self.bytes_before) {
            self.throw_away();
        }
    }

    /// A moment's quiet: throws away what is over, and says that the others go on.
    pub(super) fn tidy(&mut self) {
        if self.has_ended {
            self.throw_away();
        } else if !self.told.is_empty() {
            // A file whose time cannot be set tells an earlier one: nothing else is wrong.
            let _ = self.file.touch(SystemTime::now());
        }
    }

    fn throw_away(&mut self) {
        let done = rewrite(self.file.path(), &self.told);
        if let Ok(bytes) = &done {
            (self.bytes, self.bytes_before, self.has_ended) = (*bytes, *bytes, false);
        }
        self.note(done.map(|_| ()));
    }

    fn note(&mut self, done: std::io::Result<()>) {
        match done {
            Ok(()) => self.is_failing = false,
            Err(fault) if !self.is_failing => {
                self.is_failing = true;
                let path = self.file.path().display();
                tracing::error!(
                    "cannot write {path}: {fault}. Calls that go on now leave no record where this server is killed"
                );
            }
            Err(_) => {}
        }
    }
}

/// The lines of what is fresh. Of how far a call has come the last counts: it stands in the place of the first.
fn lines(fresh: &[(String, Fresh)]) -> Vec<u8> {
    let mut latest: HashMap<&str, (&SoFar, u64)> = HashMap::new();
    for (call, fresh) in fresh {
        if let Fresh::GoesOn(so_far, after) = fresh {
            latest.entry(call).and_modify(|latest| latest.0 = so_far).or_insert((so_far, *after));
        }
    }
    let mut lines = Vec::new();
    for (call, fresh) in fresh {
        let says = match fresh {
            Fresh::GoesOn(..) => {
                let Some((SoFar { record, by_trunks }, after)) = latest.remove(call.as_str()) else { continue };
                Says::GoesOn { goes_on: record, after, by_trunks }
            }
            Fresh::Turn(turn) => Says::Turn { turn, call },
            Fresh::Used(conversation, used) => Says::Used { used, call, conversation: *conversation },
            Fresh::Ended => Says::Ended { ended: call },
        };
        let before = lines.len();
        match serde_json::to_writer(&mut lines, &says) {
            Ok(()) => lines.push(b'\n'),
            Err(_) => lines.truncate(before),
        }
    }
    lines
}

/// Leaves the lines of these calls alone; the file's length then.
fn rewrite(path: &Path, told: &HashSet<String>) -> std::io::Result<u64> {
    if told.is_empty() {
        File::options().write(true).create(true).truncate(true).open(path)?;
        return Ok(0);
    }
    let mut kept = Vec::new();
    for line in BufReader::new(File::open(path)?).split(b'\n') {
        let line = line?;
        let is_needed = match serde_json::from_slice(&line) {
            Ok(Line::GoesOn { goes_on, .. }) => told.contains(&goes_on.call),
            Ok(Line::Turn { call, .. } | Line::Used { call, .. }) => told.contains(&call),
            Ok(Line::Ended { .. }) | Err(_) => false,
        };
        if is_needed {
            kept.extend_from_slice(&line);
            kept.push(b'\n');
        }
    }
    let beside = path.with_extension("new");
    let mut file = File::create(&beside)?;
    file.write_all(&kept)?;
    file.sync_data()?;
    std::fs::rename(beside, path)?;
    Ok(kept.len() as u64)
}

/// What the file tells of one call.
struct Known {
    record: CallRecord,
    after: u64,
    by_trunks: Vec<TrunkLeg>,
    turns: Vec<TurnRecord>,
    /// By conversation.
    used: BTreeMap<u32, Usage>,
}

/// The records of those calls that had not ended when the file was written last.
fn unfinished(path: &Path, journal: &Path, prices: &PricesConfig, now: SystemTime) -> std::io::Result<Vec<CallRecord>> {
    let file = File::open(path)?;
    let last_known = file.metadata()?.modified()?.min(now);
    let mut calls: HashMap<String, Known> = HashMap::new();
    for line in BufReader::new(file).split(b'\n') {
        // A line that a power cut left unfinished is none.
        match serde_json::from_slice(&line?) {
            Ok(Line::GoesOn { goes_on, after, by_trunks }) => {
                let record = *goes_on;
                let known = match calls.remove(&record.call) {
                    Some(known) => Known { record, by_trunks, ..known },
                    None => Known { record, after, by_trunks, turns: Vec::new(), used: BTreeMap::new() },
                };
                calls.insert(known.record.call.clone(), known);
            }
            Ok(Line::Used { used, call, conversation }) => {
                if let Some(known) = calls.get_mut(&call) {
                    known.used.insert(conversation, used);
                }
            }
            Ok(Line::Turn { turn, call }) => {
                if let Some(known) = calls.get_mut(&call) {
                    // One that was told before: what came of its tools is known now.
                    known.turns.retain(|before| before.index != turn.index);
                    known.turns.push(*turn);
                }
            }
            Ok(Line::Ended { ended }) => drop(calls.remove(&ended)),
            Err(_) => {}
        }
    }
    forget_recorded(&mut calls, journal)?;
    let mut records: Vec<CallRecord> = calls.into_values().map(|known| known.close(last_known, prices, now)).collect();
    records.sort_by(|one, other| one.call.cmp(&other.call));
    Ok(records)
}

#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow)]
    call: Cow<'a, str>,
}

/// Leaves those alone that the journal has no record of: a process may be killed between the two files.
fn forget_recorded(calls: &mut HashMap<String, Known>, journal: &Path) -> std::io::Result<()> {
    let Some(from) = calls.values().map(|known| known.after).min() else { return Ok(()) };
    let mut file = File::open(journal)?;
    // A journal that was put away begins anew.
    let from = if from <= file.metadata()?.len() { from } else { 0 };
    file.seek(SeekFrom::Start(from))?;
    for line in BufReader::new(file).split(b'\n') {
        if let Ok(named) = serde_json::from_slice::<Named<'_>>(&line?) {
            calls.remove(&*named.call);
        }
    }
    Ok(())
}

impl Known {
    /// The call's record: it ended when it was last known to go on, by this file or by its recording. What it used after that nobody knows.
    fn close(self, last_known: SystemTime, prices: &PricesConfig, now: SystemTime) -> CallRecord {
        let Self { mut record, by_trunks, mut turns, used, .. } = self;
        let recorded = record.recording.as_ref().and_then(|path| std::fs::metadata(path).ok()?.modified().ok());
        let ended = recorded.map_or(last_known, |recorded| recorded.max(last_known)).min(now);
        for tool in turns.iter_mut().flat_map(|turn| &mut turn.tools).filter(|tool| tool.is_open()) {
            tool.settle(Some("the server was killed"));
        }
        if !turns.is_empty() {
            record.agent.get_or_insert_default().turns = turns;
        }
        let mut all = Usage::default();
        used.values().for_each(|used| all.add(used));
        for one in &mut record.conversations {
            let turns = record.agent.iter().flat_map(|agent| &agent.turns);
            let turns = turns.filter(|turn| turn.conversation == one.conversation).count();
            one.turns = u32::try_from(turns).unwrap_or(u32::MAX);
            one.usage = used.get(&one.conversation).cloned().unwrap_or_default();
            if one.ended_at.is_none() {
                (one.ended_at, one.outcome) = (Some(timestamp(ended)), Some(ConversationOutcome::CallEnded));
            }
        }
        let cost = cost::settle(prices, &all, &by_trunks, ended);
        record.cost = cost.map(|cost| CostRecord { is_partial: true, ..cost });
        record.end = End::new(EndReason::ServerKilled).with_detail("it ended at this time or soon after");
        record.ended_at = timestamp(ended);
        let answered = record.answered_at.as_deref().and_then(|text| humantime::parse_rfc3339(text).ok());
        let talked = answered.and_then(|answered| ended.duration_since(answered).ok()).unwrap_or(Duration::ZERO);
        record.duration_ms = u64::try_from(talked.as_millis()).unwrap_or(u64::MAX);
        record
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use agent::history::Speaker;
    use agent::session::{Means, Stages};
    use agent::tool::{AskedBy, TRANSFER, ToolAsk, ToolOutcome, ToolRecord};
    use agent::usage::SpokenUsage;

    use super::*;
    use crate::call::record::JOURNAL;
    use crate::config::TrunkDirection;

    fn open(folder: &Path, journal: &Path) -> (Progress, Vec<CallRecord>) {
        let prices = "currency = \"EUR\"\n[[voices]]\nname = \"flite\"\nthousand_characters = \"2\"\n\
                      [[trunks]]\nname = \"carrier\"\nminute = \"0.6\"\nincrement = \"60/60\"\n";
        Progress::open(folder, journal, &toml::from_str(prices).unwrap(), SystemTime::now())
    }

    fn record(call: &str) -> Box<SoFar> {
        Box::new(SoFar { record: CallRecord::example(call), by_trunks: Vec::new() })
    }

    fn spoke(characters: u64) -> Usage {
        Usage { voices: vec![SpokenUsage { provider: "flite:rms".to_owned(), characters }], ..Usage::default() }
    }

    fn turn(index: u32, text: &str) -> Box<TurnRecord> {
        serde_json::from_value(serde_json::json!({
            "index": index, "who": Speaker::Caller, "text": text, "started_ms": 0.0, "ended_ms": 1.0, "gap_ms": null, "by": Means::Speech,
            "stages": Stages::default(), "interrupted": false, "matched": null, "confidence": null, "ahead": false
        }))
        .unwrap()
    }

    fn write(path: &Path, bytes: &[u8]) -> std::io::Result<u64> {
        Appended::new(path.to_owned()).append(bytes)
    }

    fn lines(path: &Path) -> usize {
        std::fs::read_to_string(path).unwrap().lines().count()
    }

    #[test]
    fn calls_that_had_not_ended_have_a_record_with_what_was_said_and_those_that_had_have_no_second_one() {
        let folder = tempfile::tempdir().unwrap();
        let journal = folder.path().join(JOURNAL);
        let after = write(&journal, b"{\"call\":\"before\"}\n").unwrap();
        let (mut progress, killed) = open(folder.path(), &journal);
        assert!(killed.is_empty() && !progress.is_needed());
        for call in ["killed", "ended", "between"] {
            progress.goes_on(record(call), after);
            progress.turn(call.to_owned(), turn(0, "hello"));
        }
        progress.write();
        progress.ended("ended");
        let mut passed_on = turn(1, "are you");
        progress.turn("killed".to_owned(), passed_on.clone());
        passed_on.text = "are you there".to_owned();
        let ask = ToolAsk::new(TRANSFER, "{}", AskedBy::Model);
        passed_on.tools = vec![ToolRecord::new(ask, 1.0)];
        progress.turn("killed".to_owned(), passed_on.clone());
        progress.write();
        // The record of this one came to the journal, and then the process was killed.
        write(&journal, b"{\"call\":\"between\"}\n").unwrap();
        // A power cut may leave half a line.
        write(&folder.path().join(FILE), b"{\"goes_on\":").unwrap();
        drop(progress);
        let (progress, killed) = open(folder.path(), &journal);
        let [killed] = killed.try_into().unwrap();
        assert_eq!((killed.call.as_str(), killed.end.reason), ("killed", EndReason::ServerKilled));
        let said: Vec<_> = killed.agent.as_ref().unwrap().turns.iter().map(|turn| turn.text.as_str()).collect();
        assert_eq!(said, ["hello", "are you there"]);
        let tool = &killed.agent.as_ref().unwrap().turns[1].tools[0];
        assert_eq!((tool.outcome, tool.why.as_deref()), (ToolOutcome::Failed, Some("the server was killed")));
        assert!(killed.ended_at > killed.started_at && killed.duration_ms > 0);
        // Until its record is in the journal it is kept.
        drop(progress);
        let (mut progress, again) = open(folder.path(), &journal);
        assert_eq!(again, [killed]);
        progress.ended("killed");
        progress.write();
        progress.tidy();
        assert!(!progress.is_needed());
        assert_eq!(std::fs::metadata(folder.path().join(FILE)).unwrap().len(), 0);
    }

    #[test]
    fn a_killed_call_costs_what_it_had_used_when_that_was_written_last() {
        let folder = tempfile::tempdir().unwrap();
        let journal = folder.path().join(JOURNAL);
        write(&journal, b"").unwrap();
        let (mut progress, _) = open(folder.path(), &journal);
        let answered = SystemTime::now();
        let trunk = |leg: u16, answered: Option<SystemTime>| TrunkLeg {
            leg,
            trunk: "carrier".to_owned(),
            direction: TrunkDirection::Out,
            number: "1".to_owned(),
            answered,
            came: None,
            left: None,
        };
        for call in ["costly", "free"] {
            progress.goes_on(record(call), 0);
        }
        progress.used("costly".to_owned(), 0, spoke(10));
        // What its conversation has used stands in lines of its own: how far it has come says nothing of it.
        let by_trunks = vec![trunk(1, Some(answered)), trunk(2, None)];
        progress.goes_on(Box::new(SoFar { by_trunks, ..*record("costly") }), 0);
        progress.write();
        progress.used("costly".to_owned(), 0, spoke(12));
        progress.used("costly".to_owned(), 1, spoke(3));
        progress.goes_on(record("over"), 0);
        progress.used("over".to_owned(), 0, spoke(99));
        progress.write();
        progress.ended("over");
        // It is thrown away what is over, and nothing else.
        progress.write();
        progress.tidy();
        drop(progress);
        let (_, killed) = open(folder.path(), &journal);
        let [costly, free] = killed.try_into().unwrap();
        assert_eq!(free.cost, None);
        let cost = costly.cost.unwrap();
        // A minute, and 15 characters, by two agents.
        let micros: Vec<_> = cost.lines.iter().map(|line| line.micros).collect();
        assert_eq!((micros, cost.micros, cost.is_partial), (vec![Some(600_000), Some(30_000)], Some(630_000), true));
    }

    #[test]
    fn what_is_over_is_thrown_away_and_what_goes_on_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (file, journal) = (folder.path().join(FILE), folder.path().join(JOURNAL));
        write(&journal, b"").unwrap();
        let (mut progress, _) = open(folder.path(), &journal);
        for call in ["one", "two"] {
            progress.goes_on(record(call), 0);
            progress.turn(call.to_owned(), turn(0, "hello"));
        }
        // This one is over before anything of it was written.
        progress.goes_on(record("short"), 0);
        progress.is_ending("short");
        progress.ended("short");
        progress.write();
        assert_eq!(lines(&file), 4);
        progress.ended("two");
        progress.write();
        progress.tidy();
        assert_eq!(lines(&file), 2);
        assert!(progress.is_needed());
        // Without a quiet moment it does not grow without end either.
        let long = "x".repeat(4_000);
        for n in 0..2_000 {
            let call = format!("call {n}");
            progress.goes_on(record(&call), 0);
            progress.turn(call.clone(), turn(0, &long));
            progress.write();
            progress.ended(&call);
        }
        progress.write();
        assert!(progress.bytes < 2 * TIDIED_FROM_BYTES, "{}", progress.bytes);
        assert!(std::fs::read_to_string(&file).unwrap().contains("\"one\""));
    }
}
