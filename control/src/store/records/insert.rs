//! An ended call into its tables.

use std::collections::HashMap;

use sqlx::{AnyConnection, Arguments, any::AnyArguments};

use super::facets;
use super::{CallRecord, Ended, Turn};
use crate::store::StoreError;
use crate::store::figures::Entry;
use crate::store::figures::kept::FigureChanges;

/// Turns of one statement: each takes ten parameters, of which SQLite has 32,766.
const TURNS_AT_ONCE: usize = 500;
/// A kind that is new is looked for again so often while others add theirs.
const TRIES: usize = 5;
/// Turns of calls that began in the same millisecond, as bits.
pub(super) const WITHIN_BITS: u32 = 20;

/// The numbers of kinds of call, as far as they were looked up in a transaction.
#[derive(Debug, Default)]
pub(in crate::store) struct Kinds(HashMap<[String; 4], i64>);

impl Kinds {
    /// The number of this kind of call; a new one where there is none yet.
    pub(in crate::store) async fn number(
        &mut self,
        connection: &mut AnyConnection,
        kind: [&str; 4],
    ) -> Result<i64, StoreError> {
        let key = kind.map(str::to_owned);
        if let Some(number) = self.0.get(&key) {
            return Ok(*number);
        }
        let [direction, target, class, reason] = kind;
        for _ in 0..TRIES {
            let sql = "SELECT id FROM call_kinds WHERE direction = $1 AND target = $2 AND class = $3 AND reason = $4";
            let found = sqlx::query_scalar(sql).bind(direction).bind(target).bind(class).bind(reason);
            if let Some(number) = found.fetch_optional(&mut *connection).await? {
                self.0.insert(key, number);
                return Ok(number);
            }
            // Another server may take the same number at the same time: then this adds nothing, and it is looked again.
            let sql = "INSERT INTO call_kinds (id, direction, target, class, reason)
                       SELECT COALESCE(MAX(id), 0) + 1, CAST($1 AS TEXT), CAST($2 AS TEXT), CAST($3 AS TEXT), CAST($4 AS TEXT)
                       FROM call_kinds WHERE 1 = 1 ON CONFLICT DO NOTHING";
            let added = sqlx::query(sql).bind(direction).bind(target).bind(class).bind(reason);
            added.execute(&mut *connection).await?;
        }
        Err(StoreError::Changed)
    }
}

/// What a kind of call is made of.
fn kind(call: &CallRecord) -> [&str; 4] {
    [&call.direction, &call.target, &call.class, &call.reason]
}

fn entry(call: &CallRecord, kind: i64) -> Entry {
    Entry {
        started_at: call.started_at.0,
        kind,
        duration_ms: call.duration_ms,
        answer_ms: call.answered_at.map(|at| at.0.saturating_sub(call.started_at.0)),
        mos: call.mos_in,
        gap_ms: call.gap_ms,
    }
}

/// Adds an ended call, within whatever is under way; one that is there already stays as it is. Whether it is new. What it changes of the
/// figures is to be applied before the transaction ends.
pub(in crate::store) async fn insert(
    connection: &mut AnyConnection,
    kinds: &mut Kinds,
    figures: &mut FigureChanges,
    ended: &Ended,
) -> Result<bool, StoreError> {
    let kind = kinds.number(connection, kind(&ended.call)).await?;
    if !insert_record(connection, ended, kind).await? {
        return Ok(false);
    }
    let mut owners: Vec<String> = Vec::new();
    for device in &ended.devices {
        let sql = "SELECT team_id FROM users WHERE device = $1 AND team_id IS NOT NULL";
        let team: Option<String> = sqlx::query_scalar(sql).bind(device).fetch_optional(&mut *connection).await?;
        owners.push(format!("device/{device}"));
        owners.extend(team.map(|team| format!("team/{team}")));
    }
    owners.sort_unstable();
    owners.dedup();
    for owner in &owners {
        let sql =
            "INSERT INTO call_owners (owner, started_at, call, kind) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";
        let call = &ended.call;
        sqlx::query(sql)
            .bind(owner)
            .bind(call.started_at.0)
            .bind(&call.call)
            .bind(kind)
            .execute(&mut *connection)
            .await?;
    }
    figures.add(&entry(&ended.call, kind), &owners);
    let words = (facets::of_call(&ended.call, &owners), facets::kinds_of_call(kind, &owners));
    insert_turns(connection, ended, (&words.0, &words.1)).await?;
    Ok(true)
}

async fn insert_record(connection: &mut AnyConnection, ended: &Ended, kind: i64) -> Result<bool, StoreError> {
    let call = &ended.call;
    let answers = ended.turns.iter().filter(|turn| turn.speaker == "agent").count();
    let answers = i64::try_from(answers).unwrap_or(i64::MAX);
    let done = sqlx::query(
        "INSERT INTO call_records (call, started_at, answered_at, ended_at, duration_ms, direction, caller, callee, target, class, reason,
                                   codec, recording, mos_in, gap_ms, record, kind, cost, currency, cost_partial, answers)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, CAST($14 AS DOUBLE PRECISION),
                 CAST($15 AS DOUBLE PRECISION), $16, $17, CAST($18 AS BIGINT), $19, $20, $21) ON CONFLICT DO NOTHING",
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
    .bind(kind)
    // As text: see `number`.
    .bind(call.cost_micros.map(|cost| cost.to_string()))
    .bind(&call.currency)
    .bind(i64::from(call.cost_is_partial))
    .bind(answers)
    .execute(&mut *connection)
    .await?;
    Ok(done.rows_affected() > 0)
}

async fn insert_turns(
    connection: &mut AnyConnection,
    ended: &Ended,
    (facets, kinds): (&str, &str),
) -> Result<(), StoreError> {
    let call = &ended.call;
    let mut turns: Vec<&Turn> = ended.turns.iter().collect();
    turns.sort_by_key(|turn| turn.number);
    turns.dedup_by_key(|turn| turn.number);
    if turns.is_empty() {
        return Ok(());
    }
    let first = call.started_at.0.clamp(0, i64::MAX >> WITHIN_BITS) << WITHIN_BITS;
    let last = first | ((1 << WITHIN_BITS) - 1);
    let sql = "SELECT MAX(id) FROM turns WHERE id BETWEEN $1 AND $2";
    let before: Option<i64> = sqlx::query_scalar(sql).bind(first).bind(last).fetch_one(&mut *connection).await?;
    let mut id = before.unwrap_or(first);
    for some in turns.chunks(TURNS_AT_ONCE) {
        let mut arguments = AnyArguments::default();
        let mut rows = Vec::with_capacity(some.len());
        for turn in some {
            id += 1;
            rows.push(row(rows.len() * 10));
            let bound = (|| {
                arguments.add(id)?;
                arguments.add(call.call.as_str())?;
                arguments.add(turn.number)?;
                arguments.add(turn.speaker.as_str())?;
                arguments.add(turn.text.as_str())?;
                arguments.add(facets)?;
                arguments.add(kinds)?;
                arguments.add(turn.started_ms)?;
                arguments.add(turn.ended_ms)?;
                arguments.add(number(turn.gap_ms))
            })();
            bound.map_err(sqlx::Error::Encode)?;
        }
        let sql = format!(
            "INSERT INTO turns (id, call, number, speaker, text, facets, kinds, started_ms, ended_ms, gap_ms) VALUES {}",
            rows.join(", ")
        );
        sqlx::query_with(sqlx::AssertSqlSafe(sql), arguments).execute(&mut *connection).await?;
    }
    Ok(())
}

/// A row's parameters from this one on.
fn row(at: usize) -> String {
    let places: Vec<String> = (1..=9).map(|n| format!("${}", at + n)).collect();
    format!("({}, CAST(${} AS DOUBLE PRECISION))", places.join(", "), at + 10)
}

/// A number that may be none, as text that the statement casts: sqlx's common driver says of a missing one that it has 32 bits, and
/// PostgreSQL then takes no other.
fn number(value: Option<f64>) -> Option<String> {
    value.map(|value| value.to_string())
}
