//! `call_records`, `call_owners` and `turns`: ended calls, whose they were, and what was said in them.

use serde::{Deserialize, Serialize};
use sqlx::{AnyConnection, FromRow, Row, any::AnyRow};
use utoipa::ToSchema;

use super::conditions::Conditions;
use super::{Backend, Store, StoreError};
use crate::time::Moment;

/// Characters of a search at most.
pub const SEARCH_LIMIT: usize = 200;
/// Words of it that count.
const WORDS_LIMIT: usize = 16;

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

/// An ended call, as lists show it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CallRecord {
    /// The call's id, the same in every log line.
    pub call: String,
    /// When it began.
    pub started_at: Moment,
    /// When it was answered, if it was.
    pub answered_at: Option<Moment>,
    /// When it was over.
    pub ended_at: Moment,
    /// From answer to end; 0 for a call never answered.
    pub duration_ms: i64,
    /// `inbound` or `outbound`.
    pub direction: String,
    /// The user part of the caller's address.
    pub caller: String,
    /// The user part of the address that was called.
    pub callee: String,
    /// What answered: an agent's name, `echo`, `dial`.
    pub target: String,
    /// Whose doing the end was: `ok`, `caller_fault`, `upstream_fault`, `our_fault`, `unknown`.
    pub class: String,
    /// Why it ended.
    pub reason: String,
    /// The codec of the caller's sound.
    pub codec: String,
    /// There is a recording.
    pub recorded: bool,
    /// When the recording was removed, where there was one.
    #[serde(default)]
    pub recording_removed_at: Option<Moment>,
    /// When the transcript was removed.
    #[serde(default)]
    pub transcript_removed_at: Option<Moment>,
    /// When somebody in it was forgotten: what is left is that it was, when, and how it ended.
    #[serde(default)]
    pub erased_at: Option<Moment>,
    /// Mean opinion score of what was heard of the caller, 1 to 4.5 (ITU-T G.107).
    pub mos_in: Option<f64>,
    /// Median of the gaps between the caller's last sound and the agent's first, in ms.
    pub gap_ms: Option<f64>,
}

/// What one side said in one go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Turn {
    /// Its number within the call.
    pub number: i64,
    /// `caller` or `agent`.
    pub speaker: String,
    /// The words; of the agent those that were heard.
    pub text: String,
    /// When it began, in ms after the answer.
    pub started_ms: f64,
    /// When it ended.
    pub ended_ms: f64,
    /// How long the caller waited for it, of the agent's turns.
    pub gap_ms: Option<f64>,
}

/// Whose calls somebody may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Visible {
    /// Everybody's.
    All,
    /// Those that members of this team took part in while they belonged to it.
    Team(String),
    /// Those that this device took part in.
    Device(String),
    /// Nobody's.
    None,
}

impl Visible {
    /// The owner that a call must have.
    pub(super) fn owner(&self) -> Option<String> {
        match self {
            Self::All => None,
            Self::Team(team) => Some(format!("team/{team}")),
            Self::Device(device) => Some(format!("device/{device}")),
            Self::None => Some(String::new()),
        }
    }
}

/// Which calls a list has; what is not named is any.
#[derive(Debug, Clone, Default)]
pub struct RecordFilter {
    /// Began then or later.
    pub from: Option<Moment>,
    /// Began before then.
    pub until: Option<Moment>,
    /// `inbound` or `outbound`.
    pub direction: Option<String>,
    /// The user part of the caller's address.
    pub caller: Option<String>,
    /// The user part of the address that was called.
    pub callee: Option<String>,
    /// What answered.
    pub target: Option<String>,
    /// Whose doing the end was.
    pub class: Option<String>,
    /// Why it ended.
    pub reason: Option<String>,
    /// Words that were said, all of them in one turn.
    pub words: Option<String>,
}

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
    pub fn parse(line: &str) -> Result<Self, serde_json::Error> {
        let read: Line = serde_json::from_str(line)?;
        let recorded = read.recording.is_some();
        let mut devices: Vec<String> = read.legs.iter().filter_map(|leg| device_of(&leg.label)).collect();
        devices.extend(read.device.as_deref().map(clean));
        devices.sort_unstable();
        devices.dedup();
        let turns = read.agent.map(|agent| agent.turns).unwrap_or_default();
        let gap_ms = median(turns.iter().filter_map(|turn| turn.gap_ms).collect());
        let turns = turns.into_iter().map(|turn| Turn {
            number: turn.index,
            speaker: clean(&turn.who),
            text: clean(&turn.text),
            started_ms: turn.started_ms,
            ended_ms: turn.ended_ms,
            gap_ms: turn.gap_ms,
        });
        Ok(Self {
            devices,
            turns: turns.collect(),
            recording: read.recording.as_deref().map(clean),
            line: line.to_owned(),
            call: CallRecord {
                call: clean(&read.call),
                started_at: read.started_at,
                answered_at: read.answered_at,
                ended_at: read.ended_at,
                duration_ms: read.duration_ms,
                direction: read.direction,
                caller: clean(user_part(&read.from)),
                callee: clean(user_part(&read.to)),
                target: clean(&read.target),
                class: read.end.class,
                reason: read.end.reason,
                codec: read.codec,
                recorded,
                recording_removed_at: None,
                transcript_removed_at: None,
                erased_at: None,
                mos_in: read.media.and_then(|media| media.mos_in),
                gap_ms,
            },
        })
    }
}

/// Text as both databases take it: PostgreSQL has no character 0, and a peer may send one.
fn clean(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// The device that a leg's label names: `device alice/2` is Alice's second phone.
fn device_of(label: &str) -> Option<String> {
    let name = label.strip_prefix("device ")?;
    Some(clean(name.rsplit_once('/').map_or(name, |(name, _)| name)))
}

/// The user part of a SIP or tel URI; what is none stays as it is.
pub(crate) fn user_part(uri: &str) -> &str {
    let rest = uri.split_once(':').map_or(uri, |(_, rest)| rest);
    let user = rest.split(['@', ';', '?']).next().unwrap_or(rest);
    user.split_once(':').map_or(user, |(user, _)| user)
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let (low, high) = (values.get(values.len().checked_sub(1)? / 2)?, values.get(values.len() / 2)?);
    Some((low + high) / 2.0)
}

impl<'r> FromRow<'r, AnyRow> for CallRecord {
    fn from_row(row: &'r AnyRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            call: row.try_get("call")?,
            started_at: Moment(row.try_get("started_at")?),
            answered_at: row.try_get::<Option<i64>, _>("answered_at")?.map(Moment),
            ended_at: Moment(row.try_get("ended_at")?),
            duration_ms: row.try_get("duration_ms")?,
            direction: row.try_get("direction")?,
            caller: row.try_get("caller")?,
            callee: row.try_get("callee")?,
            target: row.try_get("target")?,
            class: row.try_get("class")?,
            reason: row.try_get("reason")?,
            codec: row.try_get("codec")?,
            recorded: row.try_get::<Option<String>, _>("recording")?.is_some(),
            recording_removed_at: row.try_get::<Option<i64>, _>("recording_removed_at")?.map(Moment),
            transcript_removed_at: row.try_get::<Option<i64>, _>("transcript_removed_at")?.map(Moment),
            erased_at: row.try_get::<Option<i64>, _>("erased_at")?.map(Moment),
            mos_in: row.try_get("mos_in")?,
            gap_ms: row.try_get("gap_ms")?,
        })
    }
}

impl<'r> FromRow<'r, AnyRow> for Turn {
    fn from_row(row: &'r AnyRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            number: row.try_get("number")?,
            speaker: row.try_get("speaker")?,
            text: row.try_get("text")?,
            started_ms: row.try_get("started_ms")?,
            ended_ms: row.try_get("ended_ms")?,
            gap_ms: row.try_get("gap_ms")?,
        })
    }
}

const COLUMNS: &str = "r.call, r.started_at, r.answered_at, r.ended_at, r.duration_ms, r.direction, r.caller, r.callee, r.target, r.class, \
                       r.reason, r.codec, r.recording, r.recording_removed_at, r.transcript_removed_at, r.erased_at, r.mos_in, r.gap_ms";

/// Adds an ended call, within whatever is under way; one that is there already stays as it is. Whether it is new.
pub(super) async fn insert(connection: &mut AnyConnection, ended: &Ended) -> Result<bool, StoreError> {
    let call = &ended.call;
    let done = sqlx::query(
        "INSERT INTO call_records (call, started_at, answered_at, ended_at, duration_ms, direction, caller, callee, target, class, reason,
                                   codec, recording, mos_in, gap_ms, record)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, CAST($14 AS DOUBLE PRECISION),
                 CAST($15 AS DOUBLE PRECISION), $16) ON CONFLICT DO NOTHING",
    )
    .bind(&call.call)
    .bind(call.started_at.0)
    .bind(call.answered_at.map(|at| at.0))
    .bind(call.ended_at.0)
    .bind(call.duration_ms)
    .bind(&call.direction)
    .bind(&call.caller)
    .bind(&call.callee)
    .bind(&call.target)
    .bind(&call.class)
    .bind(&call.reason)
    .bind(&call.codec)
    .bind(&ended.recording)
    .bind(number(call.mos_in))
    .bind(number(call.gap_ms))
    .bind(&ended.line)
    .execute(&mut *connection)
    .await?;
    if done.rows_affected() == 0 {
        return Ok(false);
    }
    let mut owners: Vec<String> = Vec::new();
    for device in &ended.devices {
        let sql = "SELECT team_id FROM users WHERE device = $1 AND team_id IS NOT NULL";
        let team: Option<String> = sqlx::query_scalar(sql).bind(device).fetch_optional(&mut *connection).await?;
        owners.push(format!("device/{device}"));
        owners.extend(team.map(|team| format!("team/{team}")));
    }
    for owner in owners {
        let sql = "INSERT INTO call_owners (owner, started_at, call) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
        sqlx::query(sql).bind(owner).bind(call.started_at.0).bind(&call.call).execute(&mut *connection).await?;
    }
    for turn in &ended.turns {
        sqlx::query(
            "INSERT INTO turns (call, number, speaker, text, started_ms, ended_ms, gap_ms) VALUES ($1, $2, $3, $4, $5, $6, CAST($7 AS DOUBLE PRECISION))
             ON CONFLICT DO NOTHING",
        )
        .bind(&call.call)
        .bind(turn.number)
        .bind(&turn.speaker)
        .bind(&turn.text)
        .bind(turn.started_ms)
        .bind(turn.ended_ms)
        .bind(number(turn.gap_ms))
        .execute(&mut *connection)
        .await?;
    }
    Ok(true)
}

/// A number that may be none, as text that the statement casts: sqlx's common driver says of a missing one that it has 32 bits, and
/// PostgreSQL then takes no other.
fn number(value: Option<f64>) -> Option<String> {
    value.map(|value| value.to_string())
}

/// Where a list goes on: after this call, in the order of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct After {
    /// When it began.
    pub started_at: i64,
    /// Its id.
    pub call: String,
}

impl Store {
    /// Ended calls that somebody may see, latest first.
    ///
    /// # Errors
    /// The database's.
    pub async fn records(
        &self,
        visible: &Visible,
        filter: &RecordFilter,
        after: Option<&After>,
        limit: i64,
    ) -> Result<Vec<CallRecord>, StoreError> {
        let (sql, wanted) = self.list(visible, filter, after, limit);
        let query = sqlx::query_as_with(sqlx::AssertSqlSafe(sql), wanted.arguments()?);
        Ok(query.fetch_all(self.reader()).await?)
    }

    /// How the database would read a list if it had many rows, in its own words.
    #[doc(hidden)]
    pub async fn explain_records(&self, visible: &Visible, filter: &RecordFilter) -> Result<String, StoreError> {
        let (sql, wanted) = self.list(visible, filter, None, 50);
        self.explain(&sql, &wanted).await
    }

    /// How many ended calls there are.
    ///
    /// # Errors
    /// The database's.
    pub async fn count_records(&self) -> Result<i64, StoreError> {
        Ok(sqlx::query_scalar("SELECT COUNT(*) FROM call_records").fetch_one(self.reader()).await?)
    }

    /// The statement of a list, and what it compares with.
    fn list(
        &self,
        visible: &Visible,
        filter: &RecordFilter,
        after: Option<&After>,
        limit: i64,
    ) -> (String, Conditions) {
        let mut wanted = Conditions::default();
        // Whoever sees only some calls walks those alone: the order is in that table's key too.
        let (from, order) = match visible.owner() {
            Some(owner) => {
                wanted.add("o.owner = ?", owner);
                ("call_owners o JOIN call_records r ON r.call = o.call", "o")
            }
            None => ("call_records r", "r"),
        };
        if let Some(from) = filter.from {
            wanted.add(&format!("{order}.started_at >= ?"), from.0);
        }
        if let Some(until) = filter.until {
            wanted.add(&format!("{order}.started_at < ?"), until.0);
        }
        if let Some(after) = after {
            let (at, call) = (wanted.value(after.started_at), wanted.value(after.call.as_str()));
            wanted.say(format!("({order}.started_at, {order}.call) < ({at}, {call})"));
        }
        let columns = [
            ("r.direction", &filter.direction),
            ("r.caller", &filter.caller),
            ("r.callee", &filter.callee),
            ("r.target", &filter.target),
            ("r.class", &filter.class),
            ("r.reason", &filter.reason),
        ];
        columns.iter().for_each(|(column, value)| wanted.equals(column, value.as_ref()));
        if let Some(words) = &filter.words {
            wanted.add(self.has_words(), self.words(words));
        }
        let (limit, wheres) = (wanted.value(limit), wanted.wheres());
        let sql = format!(
            "SELECT {COLUMNS} FROM {from} WHERE {wheres} ORDER BY {order}.started_at DESC, {order}.call DESC LIMIT {limit}"
        );
        (sql, wanted)
    }

    /// One ended call that somebody may see: what lists show of it, and the whole record as JSON.
    ///
    /// # Errors
    /// The database's.
    pub async fn record(&self, visible: &Visible, call: &str) -> Result<Option<(CallRecord, String)>, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT {COLUMNS}, r.record FROM call_records r WHERE r.call = $1
             AND ($2 IS NULL OR EXISTS (SELECT 1 FROM call_owners o WHERE o.call = r.call AND o.owner = $2))"
        ));
        let row = sqlx::query(sql).bind(call).bind(visible.owner()).fetch_optional(self.reader()).await?;
        Ok(row.map(|row| Ok::<_, sqlx::Error>((CallRecord::from_row(&row)?, row.try_get("record")?))).transpose()?)
    }

    /// Where the recording of a call is, as its record has it.
    ///
    /// # Errors
    /// The database's.
    pub async fn recording(&self, call: &str) -> Result<Option<String>, StoreError> {
        let sql = "SELECT recording FROM call_records WHERE call = $1";
        let row: Option<Option<String>> = sqlx::query_scalar(sql).bind(call).fetch_optional(self.reader()).await?;
        Ok(row.flatten())
    }

    /// What was said in a call.
    ///
    /// # Errors
    /// The database's.
    pub async fn turns(&self, call: &str) -> Result<Vec<Turn>, StoreError> {
        let sql =
            "SELECT number, speaker, text, started_ms, ended_ms, gap_ms FROM turns WHERE call = $1 ORDER BY number";
        Ok(sqlx::query_as(sql).bind(call).fetch_all(self.reader()).await?)
    }

    /// The condition that a call has these words.
    fn has_words(&self) -> &'static str {
        match self.backend() {
            Backend::Sqlite => {
                "r.call IN (SELECT t.call FROM turn_words w JOIN turns t ON t.id = w.rowid WHERE w.turn_words MATCH ?)"
            }
            Backend::Postgres => {
                "r.call IN (SELECT t.call FROM turns t WHERE to_tsvector('simple', t.text) @@ plainto_tsquery('simple', ?))"
            }
        }
    }

    /// The words as the search takes them: SQLite's has a language of its own, which whoever asks shall not speak.
    fn words(&self, words: &str) -> String {
        match self.backend() {
            Backend::Postgres => words.to_owned(),
            Backend::Sqlite => {
                let quoted =
                    words.split_whitespace().take(WORDS_LIMIT).map(|word| format!("\"{}\"", word.replace('"', "\"\"")));
                quoted.collect::<Vec<_>>().join(" ")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_known_by_its_leg_and_a_number_by_its_address() {
        assert_eq!(device_of("device alice/2").as_deref(), Some("alice"));
        assert_eq!(device_of("device alice").as_deref(), Some("alice"));
        assert_eq!(device_of("trunk carrier"), None);
        assert_eq!(user_part("sip:+4930123@host:5060;transport=tcp"), "+4930123");
        assert_eq!(user_part("tel:+4930123;phone-context=x"), "+4930123");
        assert_eq!(user_part("sip:alice:secret@host"), "alice");
        assert_eq!(user_part("sip:host"), "host");
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_its_middle_two() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0]), Some(3.0));
        assert_eq!(median(vec![4.0, 1.0, 3.0, 2.0]), Some(2.5));
    }
}
