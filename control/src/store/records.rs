//! `call_records`, `call_owners` and `turns`: ended calls, whose they were, and what was said in them.

mod facets;
pub(in crate::store) mod insert;
pub(in crate::store) mod line;
pub mod list;
mod search;

use serde::{Deserialize, Serialize, Serializer};
use sqlx::{FromRow, Row, any::AnyRow};
use utoipa::ToSchema;

pub use self::line::{Ended, NAME_CHARS};
use self::list::COLUMNS;
use super::{Store, StoreError};
use crate::time::Moment;

/// Characters of a search at most.
pub const SEARCH_LIMIT: usize = 200;

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
    /// The user part of the caller's address; of a longer one its first 200 characters.
    pub caller: String,
    /// The user part of the address that was called; of a longer one its first 200 characters.
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
    #[serde(serialize_with = "tenths")]
    pub gap_ms: Option<f64>,
    /// What it cost of what is priced, in millionths of the currency's unit.
    #[serde(default)]
    pub cost_micros: Option<i64>,
    /// What that is in (ISO 4217).
    #[serde(default)]
    pub currency: Option<String>,
    /// It used more than that: something that has no price, or it is not known how much.
    #[serde(default)]
    pub cost_is_partial: bool,
}

/// What one side said in one go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Turn {
    /// Its number within the call.
    pub number: i64,
    /// Which of the call's conversations with agents it belongs to, from 0.
    #[serde(default)]
    pub conversation: i64,
    /// `caller` or `agent`.
    pub speaker: String,
    /// The words; of the agent those that were heard.
    pub text: String,
    /// When it began, in ms after the answer.
    pub started_ms: f64,
    /// When it ended.
    pub ended_ms: f64,
    /// How long the caller waited for it, of the agent's turns.
    #[serde(serialize_with = "tenths")]
    pub gap_ms: Option<f64>,
}

/// Times are told to a tenth of a millisecond: what is behind it comes from adding them up. Of numbers that are no times nothing is taken.
pub(crate) fn tenth(ms: f64) -> f64 {
    let rounded = (ms * 10.0).round() / 10.0;
    if rounded.is_finite() { rounded } else { ms }
}

/// The same for a field.
pub(crate) fn tenths<S: Serializer>(ms: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    ms.map(tenth).serialize(serializer)
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
            cost_micros: row.try_get("cost")?,
            currency: row.try_get("currency")?,
            cost_is_partial: row.try_get::<i64, _>("cost_partial")? != 0,
        })
    }
}

impl<'r> FromRow<'r, AnyRow> for Turn {
    fn from_row(row: &'r AnyRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            number: row.try_get("number")?,
            conversation: row.try_get("conversation")?,
            speaker: row.try_get("speaker")?,
            text: row.try_get("text")?,
            started_ms: row.try_get("started_ms")?,
            ended_ms: row.try_get("ended_ms")?,
            gap_ms: row.try_get("gap_ms")?,
        })
    }
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
    /// How many ended calls there are.
    ///
    /// # Errors
    /// The database's.
    pub async fn count_records(&self) -> Result<i64, StoreError> {
        Ok(sqlx::query_scalar("SELECT COUNT(*) FROM call_records").fetch_one(self.reader()).await?)
    }

    /// One ended call that somebody may see: what lists show of it, and the whole record as JSON.
    ///
    /// # Errors
    /// The database's.
    pub async fn record(&self, visible: &Visible, call: &str) -> Result<Option<(CallRecord, String)>, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT {COLUMNS}, r.record FROM call_records r WHERE r.call = $1
             AND ($2 IS NULL OR EXISTS (SELECT 1 FROM call_owners o WHERE o.owner = $2 AND o.started_at = r.started_at AND o.call = r.call))"
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
        let sql = "SELECT number, conversation, speaker, text, started_ms, ended_ms, gap_ms FROM turns WHERE call = $1 ORDER BY number";
        Ok(sqlx::query_as(sql).bind(call).fetch_all(self.reader()).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_to_a_tenth_of_a_millisecond() {
        for (ms, told) in [(400.000_129_999_999_44, "400.0"), (249.96, "250.0"), (-0.04, "-0.0"), (1.7e308, "1.7e+308")]
        {
            assert_eq!(serde_json::to_string(&tenth(ms)).unwrap(), told);
        }
        let turn = Turn {
            number: 1,
            conversation: 0,
            speaker: "agent".into(),
            text: String::new(),
            started_ms: 0.0,
            ended_ms: 1.0,
            gap_ms: Some(400.000_129_999_999_44),
        };
        assert_eq!(serde_json::to_value(turn).unwrap()["gap_ms"], 400.0);
    }
}
