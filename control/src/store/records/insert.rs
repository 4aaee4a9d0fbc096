//! Ended calls into their tables.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use sqlx::any::AnyArguments;
use sqlx::error::BoxDynError;
use sqlx::{AnyConnection, Arguments, Row};

use super::facets;
use super::{CallRecord, Ended, Turn};
use crate::store::figures::Entry;
use crate::store::figures::kept::FigureChanges;
use crate::store::rows::Rows;
use crate::store::{Backend, StoreError};
use crate::time::Moment;

/// A kind that is new is looked for again so often while others add theirs.
const TRIES: usize = 5;
/// The lock that servers of one PostgreSQL take turns by while they number turns: "turns" in ASCII. It is held until the transaction ends.
const NUMBERING: i64 = 0x74_75_72_6e_73;
/// Turns of calls that began in the same millisecond, as bits.
pub(super) const WITHIN_BITS: u32 = 20;

/// The numbers of kinds of call, as far as they were looked up in a transaction.
#[derive(Debug, Default)]
pub(in crate::store) struct Kinds<'a>(HashMap<[&'a str; 4], i64>);

impl<'a> Kinds<'a> {
    /// The number of this kind of call; a new one where there is none yet.
    pub(in crate::store) async fn number(
        &mut self,
        connection: &mut AnyConnection,
        kind: [&'a str; 4],
    ) -> Result<i64, StoreError> {
        if let Some(number) = self.0.get(&kind) {
            return Ok(*number);
        }
        let [direction, target, class, reason] = kind;
        for _ in 0..TRIES {
            let sql = "SELECT id FROM call_kinds WHERE direction = $1 AND target = $2 AND class = $3 AND reason = $4";
            let found = sqlx::query_scalar(sql).bind(direction).bind(target).bind(class).bind(reason);
            if let Some(number) = found.fetch_optional(&mut *connection).await? {
                self.0.insert(kind, number);
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

/// A call that was not there before.
struct New<'a> {
    ended: &'a Ended,
    kind: i64,
    owners: Vec<String>,
}

/// Adds ended calls, within whatever is under way; those that are there already stay as they are, and of those that stand here several times
/// the first counts. Returns the new ones in their order. What they change of the figures is to be applied before the transaction ends.
pub(in crate::store) async fn insert<'a>(
    connection: &mut AnyConnection,
    backend: Backend,
    figures: &mut FigureChanges,
    ended: &'a [Ended],
) -> Result<Vec<&'a Ended>, StoreError> {
    let (mut kinds, mut seen, mut calls) = (Kinds::default(), HashSet::new(), Vec::new());
    for ended in ended.iter().filter(|ended| seen.insert(ended.call.call.as_str())) {
        let kind = kinds.number(connection, kind(&ended.call)).await?;
        calls.push(New { ended, kind, owners: Vec::new() });
    }
    let known = KNOWN.read(connection, backend, &calls, |arguments, new| arguments.add(new.ended.call.call.as_str()));
    let known: HashSet<String> = known.await?.iter().map(|row| row.try_get("call")).collect::<Result<_, _>>()?;
    calls.retain(|new| !known.contains(&new.ended.call.call));
    // Another server may add the same one in this moment; tried again, it is known.
    if RECORDS.write(connection, backend, &calls, bind_record).await? < calls.len() as u64 {
        return Err(StoreError::Changed);
    }
    let teams = teams(connection, backend, &calls).await?;
    for New { ended, kind, owners } in &mut calls {
        owners.extend(ended.devices.iter().map(|device| format!("device/{device}")));
        owners.extend(ended.devices.iter().filter_map(|device| Some(format!("team/{}", teams.get(device)?))));
        owners.sort_unstable();
        owners.dedup();
        figures.add(&entry(&ended.call, *kind), owners);
    }
    insert_owners(connection, backend, &calls).await?;
    insert_turns(connection, backend, &calls).await?;
    Ok(calls.iter().map(|new| new.ended).collect())
}

const RECORDS: Rows<'_> = Rows {
    before: "INSERT INTO call_records (call, started_at, answered_at, ended_at, duration_ms, direction, caller, callee, target, class, reason,
                                       codec, recording, mos_in, gap_ms, record, kind, cost, currency, cost_partial, answers) VALUES ",
    row: "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, CAST(? AS DOUBLE PRECISION), CAST(? AS DOUBLE PRECISION), ?, ?, CAST(? AS BIGINT), ?, ?, ?)",
    after: " ON CONFLICT DO NOTHING",
};

const KNOWN: Rows<'_> = Rows { before: "SELECT call FROM call_records WHERE call IN (", row: "?", after: ")" };

fn bind_record(arguments: &mut AnyArguments, new: &New<'_>) -> Result<(), BoxDynError> {
    let (ended, call) = (new.ended, &new.ended.call);
    let answers = ended.turns.iter().filter(|turn| turn.speaker == "agent").count();
    arguments.add(call.call.as_str())?;
    arguments.add(call.started_at.0)?;
    arguments.add(call.answered_at.map(|at| at.0))?;
    arguments.add(call.ended_at.0)?;
    arguments.add(call.duration_ms)?;
    arguments.add(call.direction.as_str())?;
    arguments.add(call.caller.as_str())?;
    arguments.add(call.callee.as_str())?;
    arguments.add(call.target.as_str())?;
    arguments.add(call.class.as_str())?;
    arguments.add(call.reason.as_str())?;
    arguments.add(call.codec.as_str())?;
    arguments.add(ended.recording.as_deref())?;
    arguments.add(number(call.mos_in))?;
    arguments.add(number(call.gap_ms))?;
    arguments.add(ended.line.as_str())?;
    arguments.add(new.kind)?;
    // As text: see `number`.
    arguments.add(call.cost_micros.map(|cost| cost.to_string()))?;
    arguments.add(call.currency.as_deref())?;
    arguments.add(i64::from(call.cost_is_partial))?;
    arguments.add(i64::try_from(answers).unwrap_or(i64::MAX))
}

/// The teams of the users whose devices took part, by device.
async fn teams(
    connection: &mut AnyConnection,
    backend: Backend,
    calls: &[New<'_>],
) -> Result<HashMap<String, String>, StoreError> {
    const TEAMS: Rows<'_> = Rows {
        before: "SELECT device, team_id FROM users WHERE team_id IS NOT NULL AND device IN (",
        row: "?",
        after: ")",
    };
    let devices: BTreeSet<&str> = calls.iter().flat_map(|new| &new.ended.devices).map(String::as_str).collect();
    let devices: Vec<&str> = devices.into_iter().collect();
    let found = TEAMS.read(connection, backend, &devices, |arguments, device| arguments.add(*device)).await?;
    Ok(found
        .iter()
        .map(|row| Ok((row.try_get("device")?, row.try_get("team_id")?)))
        .collect::<Result<_, sqlx::Error>>()?)
}

async fn insert_owners(connection: &mut AnyConnection, backend: Backend, calls: &[New<'_>]) -> Result<(), StoreError> {
    const OWNERS: Rows<'_> = Rows {
        before: "INSERT INTO call_owners (owner, started_at, call, kind) VALUES ",
        row: "(?, ?, ?, ?)",
        after: " ON CONFLICT DO NOTHING",
    };
    let rows: Vec<_> = calls.iter().flat_map(|new| new.owners.iter().map(move |owner| (owner, new))).collect();
    let bind = |arguments: &mut AnyArguments, (owner, new): &(&String, &New<'_>)| {
        arguments.add(owner.as_str())?;
        arguments.add(new.ended.call.started_at.0)?;
        arguments.add(new.ended.call.call.as_str())?;
        arguments.add(new.kind)
    };
    OWNERS.write(connection, backend, &rows, bind).await?;
    Ok(())
}

/// A turn as it is put into the database.
struct NewTurn<'a> {
    id: i64,
    call: &'a str,
    turn: &'a Turn,
    facets: Arc<str>,
    kinds: Arc<str>,
}

async fn insert_turns(connection: &mut AnyConnection, backend: Backend, calls: &[New<'_>]) -> Result<(), StoreError> {
    const TURNS: Rows<'_> = Rows {
        before: "INSERT INTO turns (id, call, number, conversation, speaker, text, facets, kinds, started_ms, ended_ms, gap_ms) VALUES ",
        row: "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, CAST(? AS DOUBLE PRECISION))",
        after: "",
    };
    let mut last = last_turns(connection, backend, calls).await?;
    let mut rows = Vec::new();
    for New { ended, kind, owners } in calls.iter().filter(|new| !new.ended.turns.is_empty()) {
        let mut turns: Vec<&Turn> = ended.turns.iter().collect();
        turns.sort_by_key(|turn| turn.number);
        turns.dedup_by_key(|turn| turn.number);
        let facets: Arc<str> = facets::of_call(&ended.call, owners).into();
        let kinds: Arc<str> = facets::kinds_of_call(*kind, owners).into();
        let first = first_turn(ended.call.started_at);
        let id = last.entry(first).or_insert(first);
        for turn in turns {
            *id += 1;
            let (facets, kinds) = (Arc::clone(&facets), Arc::clone(&kinds));
            rows.push(NewTurn { id: *id, call: &ended.call.call, turn, facets, kinds });
        }
    }
    let bind = |arguments: &mut AnyArguments, new: &NewTurn<'_>| {
        arguments.add(new.id)?;
        arguments.add(new.call)?;
        arguments.add(new.turn.number)?;
        arguments.add(new.turn.conversation)?;
        arguments.add(new.turn.speaker.as_str())?;
        arguments.add(new.turn.text.as_str())?;
        arguments.add(&*new.facets)?;
        arguments.add(&*new.kinds)?;
        arguments.add(new.turn.started_ms)?;
        arguments.add(new.turn.ended_ms)?;
        arguments.add(number(new.turn.gap_ms))
    };
    TURNS.write(connection, backend, &rows, bind).await?;
    Ok(())
}

/// Turns of calls that began then have numbers from here on.
pub(in crate::store) fn first_turn(started_at: Moment) -> i64 {
    started_at.0.clamp(0, i64::MAX >> WITHIN_BITS) << WITHIN_BITS
}

/// The last turn there is of calls that began when these did, by [`first_turn`].
async fn last_turns(
    connection: &mut AnyConnection,
    backend: Backend,
    calls: &[New<'_>],
) -> Result<HashMap<i64, i64>, StoreError> {
    const LAST: Rows<'_> = Rows {
        before: "SELECT column1 AS first, (SELECT MAX(id) FROM turns WHERE id BETWEEN column1 AND column2) AS last FROM (VALUES ",
        row: "(CAST(? AS BIGINT), CAST(? AS BIGINT))",
        after: ") AS begun",
    };
    let with_turns = calls.iter().filter(|new| !new.ended.turns.is_empty());
    let begun: BTreeSet<i64> = with_turns.map(|new| first_turn(new.ended.call.started_at)).collect();
    let begun: Vec<i64> = begun.into_iter().collect();
    if backend == Backend::Postgres && !begun.is_empty() {
        // Calls of two servers that began in the same millisecond would get the same numbers: whoever comes second sees the other's.
        sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(NUMBERING).execute(&mut *connection).await?;
    }
    let bind = |arguments: &mut AnyArguments, first: &i64| {
        arguments.add(*first)?;
        arguments.add(*first | ((1 << WITHIN_BITS) - 1))
    };
    let mut last = HashMap::new();
    for row in LAST.read(connection, backend, &begun, bind).await? {
        if let Some(id) = row.try_get::<Option<i64>, _>("last")? {
            last.insert(row.try_get("first")?, id);
        }
    }
    Ok(last)
}

/// A number that may be none, as text that the statement casts: sqlx's common driver says of a missing one that it has 32 bits, and
/// PostgreSQL then takes no other.
fn number(value: Option<f64>) -> Option<String> {
    value.map(|value| value.to_string())
}
