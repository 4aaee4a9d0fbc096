//! `call_figures`: what figures are made of, kept in the transaction that adds a call or takes it away. A call stands in several rows: for
//! everybody and for each team that owns it, and there for all devices and for each that took part. A row is a part of a day, long
//! enough to be read quickly and short enough to be written anew with each call.

use std::collections::BTreeMap;

use sqlx::any::AnyArguments;
use sqlx::{AnyConnection, Arguments, Row};

use super::entry::Entry;
use crate::store::rows::Rows;
use crate::store::{Backend, Store, StoreError};

/// A part that has so many bytes gets no more.
const PART_BYTES: usize = 4_000;
/// Calls read at once where the figures are made from the records.
const AT_ONCE: i64 = 20_000;

/// What a transaction changes, in the order of the rows' keys, in which every transaction locks them.
#[derive(Debug, Default)]
pub(in crate::store) struct FigureChanges(BTreeMap<Key, Change>);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    scope: String,
    device: String,
    day: i64,
}

#[derive(Debug, Default)]
struct Change {
    /// Whole parts, the last of which may have room.
    added: Vec<Vec<u8>>,
    removed: Vec<Vec<u8>>,
}

impl FigureChanges {
    /// A call of these owners (`team/…`, `device/…`) is there.
    pub(in crate::store) fn add(&mut self, entry: &Entry, owners: &[String]) {
        self.each(entry, owners, |change| {
            if change.added.last().is_none_or(|part| part.len() >= PART_BYTES) {
                change.added.push(Vec::new());
            }
            if let Some(part) = change.added.last_mut() {
                entry.write(part);
            }
        });
    }

    /// A call of these owners is there no more.
    pub(in crate::store) fn remove(&mut self, entry: &Entry, owners: &[String]) {
        let mut bytes = Vec::new();
        entry.write(&mut bytes);
        self.each(entry, owners, |change| change.removed.push(bytes.clone()));
    }

    fn each(&mut self, entry: &Entry, owners: &[String], mut change: impl FnMut(&mut Change)) {
        let named = |prefix: &'static str| owners.iter().filter_map(move |owner| owner.strip_prefix(prefix));
        let teams: Vec<&str> = named("team/").collect();
        let devices: Vec<&str> = named("device/").collect();
        for scope in [""].into_iter().chain(teams) {
            for device in [""].into_iter().chain(devices.iter().copied()) {
                let key = Key { scope: scope.to_owned(), device: device.to_owned(), day: entry.day() };
                change(self.0.entry(key).or_default());
            }
        }
    }

    /// Writes the changes, last in a transaction: others wait for these rows until it ends.
    pub(in crate::store) async fn apply(
        self,
        connection: &mut AnyConnection,
        backend: Backend,
    ) -> Result<(), StoreError> {
        let mut added = Vec::new();
        for (key, change) in self.0 {
            if !change.removed.is_empty() {
                append(connection, backend, std::mem::take(&mut added)).await?;
                take_away(connection, backend, &key, change.removed).await?;
            }
            added.push((key, change.added.into_iter()));
        }
        append(connection, backend, added).await
    }
}

/// Puts bytes at the end of each day's last part, or into a new one where it is full. A statement changes a row once: it has one part of
/// each day, and the next one the next.
async fn append(
    connection: &mut AnyConnection,
    backend: Backend,
    mut added: Vec<(Key, std::vec::IntoIter<Vec<u8>>)>,
) -> Result<(), StoreError> {
    let (bytes, joined) = match backend {
        Backend::Sqlite => ("BLOB", "CAST(call_figures.entries || excluded.entries AS BLOB)"),
        Backend::Postgres => ("BYTEA", "call_figures.entries || excluded.entries"),
    };
    let statement = Rows {
        before: &format!(
            "INSERT INTO call_figures (scope, device, day, part, entries)
             SELECT column1, column2, column3, COALESCE(
                 (SELECT CASE WHEN length(entries) < {PART_BYTES} THEN part ELSE part + 1 END FROM call_figures
                  WHERE scope = column1 AND device = column2 AND day = column3 ORDER BY part DESC LIMIT 1), 0), column4
             FROM (VALUES "
        ),
        row: &format!("(CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS BIGINT), CAST(? AS {bytes}))"),
        after: &format!(
            ") AS added WHERE 1 = 1 ON CONFLICT (scope, device, day, part) DO UPDATE SET entries = {joined}"
        ),
    };
    loop {
        let rows: Vec<_> = added.iter_mut().filter_map(|(key, parts)| Some((&*key, parts.next()?))).collect();
        if rows.is_empty() {
            return Ok(());
        }
        let bind = |arguments: &mut AnyArguments, (key, part): &(&Key, Vec<u8>)| {
            arguments.add(key.scope.as_str())?;
            arguments.add(key.device.as_str())?;
            arguments.add(key.day)?;
            arguments.add(part.as_slice())
        };
        statement.write(connection, backend, &rows, bind).await?;
    }
}

/// Takes calls that have these bytes out of a day.
async fn take_away(
    connection: &mut AnyConnection,
    backend: Backend,
    key: &Key,
    mut removed: Vec<Vec<u8>>,
) -> Result<(), StoreError> {
    let lock = match backend {
        Backend::Sqlite => "",
        Backend::Postgres => " FOR UPDATE",
    };
    let sql = sqlx::AssertSqlSafe(format!(
        "SELECT part, entries FROM call_figures WHERE scope = $1 AND device = $2 AND day = $3 ORDER BY part{lock}"
    ));
    let query = sqlx::query(sql).bind(&key.scope).bind(&key.device).bind(key.day);
    for row in query.fetch_all(&mut *connection).await? {
        if removed.is_empty() {
            break;
        }
        let (part, entries): (i64, Vec<u8>) = (row.try_get("part")?, row.try_get("entries")?);
        let left = without(key.day, &entries, &mut removed)?;
        if left.len() == entries.len() {
            continue;
        }
        let place = "scope = $1 AND device = $2 AND day = $3 AND part = $4";
        let sql = if left.is_empty() {
            format!("DELETE FROM call_figures WHERE {place}")
        } else {
            format!("UPDATE call_figures SET entries = $5 WHERE {place}")
        };
        let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(&key.scope).bind(&key.device).bind(key.day).bind(part);
        let query = if left.is_empty() { query } else { query.bind(left) };
        query.execute(&mut *connection).await?;
    }
    if !removed.is_empty() {
        let (scope, day, missing) = (&key.scope, key.day, removed.len());
        tracing::error!("figures of day {day} ({scope}) lack {missing} calls that there were: count them anew");
    }
    Ok(())
}

/// What is left of some bytes; what was found goes from `removed`.
fn without(day: i64, entries: &[u8], removed: &mut Vec<Vec<u8>>) -> Result<Vec<u8>, StoreError> {
    let (mut left, mut rest) = (Vec::with_capacity(entries.len()), entries);
    while !rest.is_empty() {
        let (_, after) = Entry::read(day, rest)?;
        let one = &rest[..rest.len() - after.len()];
        match removed.iter().position(|wanted| wanted == one) {
            Some(at) => drop(removed.swap_remove(at)),
            None => left.extend_from_slice(one),
        }
        rest = after;
    }
    Ok(left)
}

impl Store {
    /// Makes what figures are made of from the records, once: after the step of the schema that has it, or where somebody took its
    /// mark away.
    pub(in crate::store) async fn fill_figures(&self) -> Result<(), StoreError> {
        let mut change = self.writer().begin().await?;
        fill(&mut change, self.backend()).await?;
        Ok(change.commit().await?)
    }
}

/// The same within a transaction. Another server that does so at the same time waits here, and finds it done.
pub(in crate::store) async fn fill(connection: &mut AnyConnection, backend: Backend) -> Result<(), StoreError> {
    let mark = "INSERT INTO call_figures_filled (one) VALUES (1) ON CONFLICT DO NOTHING";
    if sqlx::query(mark).execute(&mut *connection).await?.rows_affected() == 0 {
        return Ok(());
    }
    sqlx::query("DELETE FROM call_figures").execute(&mut *connection).await?;
    let sql = format!(
        "SELECT r.call, r.started_at, r.answered_at, r.duration_ms, r.mos_in, r.gap_ms, r.kind, o.owner
         FROM (SELECT call, started_at, answered_at, duration_ms, mos_in, gap_ms, kind FROM call_records WHERE (started_at, call) > ($1, $2) ORDER BY started_at, call LIMIT {AT_ONCE}) AS r
         LEFT JOIN call_owners o ON o.call = r.call ORDER BY r.started_at, r.call, o.owner"
    );
    let (mut at, mut call) = (i64::MIN, String::new());
    let mut changes = FigureChanges::default();
    loop {
        let query = sqlx::query(sqlx::AssertSqlSafe(sql.as_str())).bind(at).bind(&call);
        let rows = query.fetch_all(&mut *connection).await?;
        let Some(last) = rows.last() else { break };
        (at, call) = (last.try_get("started_at")?, last.try_get("call")?);
        let mut owners = Vec::new();
        let mut rows = rows.iter().peekable();
        while let Some(row) = rows.next() {
            owners.extend(row.try_get::<Option<String>, _>("owner")?);
            let this: &str = row.try_get("call")?;
            let goes_on =
                rows.peek().is_some_and(|next| next.try_get::<&str, _>("call").is_ok_and(|next| next == this));
            if !goes_on {
                let entry = entry_of(row)?;
                // They come by time: the days before are whole.
                if changes.0.first_key_value().is_some_and(|(key, _)| key.day != entry.day()) {
                    std::mem::take(&mut changes).apply(&mut *connection, backend).await?;
                }
                changes.add(&entry, &owners);
                owners.clear();
            }
        }
    }
    changes.apply(connection, backend).await
}

/// A call as a row of `call_records` has it.
pub(in crate::store) fn entry_of(row: &sqlx::any::AnyRow) -> Result<Entry, sqlx::Error> {
    let started_at: i64 = row.try_get("started_at")?;
    let answered_at: Option<i64> = row.try_get("answered_at")?;
    Ok(Entry {
        started_at,
        kind: row.try_get("kind")?,
        duration_ms: row.try_get("duration_ms")?,
        answer_ms: answered_at.map(|at| at.saturating_sub(started_at)),
        mos: row.try_get("mos_in")?,
        gap_ms: row.try_get("gap_ms")?,
    })
}
