//! What is taken away by its age or because somebody wants to be forgotten.

use sqlx::{AnyConnection, FromRow, Row, any::AnyRow};

use super::conditions::Conditions;
use super::figures::Entry;
use super::figures::kept::{FigureChanges, entry_of};
use super::records::insert::{Kinds, first_turn};
use super::records::line::name as name_of;
use super::{Backend, Store, StoreError};
use crate::time::Moment;

/// A call that is old enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aged {
    /// The call.
    pub call: String,
    /// When it began.
    pub started_at: i64,
    /// Where its recording is.
    pub recording: Option<String>,
    /// Its record, as the journal had it.
    pub record: String,
}

impl<'r> FromRow<'r, AnyRow> for Aged {
    fn from_row(row: &'r AnyRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            call: row.try_get("call")?,
            started_at: row.try_get("started_at")?,
            recording: row.try_get("recording")?,
            record: row.try_get("record")?,
        })
    }
}

const COLUMNS: &str = "call, started_at, recording, record";
/// So many turns are looked at for one call.
const TURNS_OF_A_CALL: i64 = 4;

impl Store {
    /// Calls with a recording that began before a moment, the oldest first, after this one where one is given.
    pub(crate) async fn recorded_before(
        &self,
        before: Moment,
        after: Option<&(i64, String)>,
        limit: i64,
    ) -> Result<Vec<Aged>, StoreError> {
        let mut wanted = Conditions::default();
        wanted.say("recording IS NOT NULL".to_owned());
        wanted.add("started_at < ?", before.0);
        if let Some((at, call)) = after {
            let (at, call) = (wanted.value(*at), wanted.value(call.as_str()));
            wanted.say(format!("(started_at, call) > ({at}, {call})"));
        }
        self.aged(wanted, "started_at, call", limit).await
    }

    /// Calls whose words are still there that began before a moment.
    pub(crate) async fn transcribed_before(&self, before: Moment, limit: i64) -> Result<Vec<Aged>, StoreError> {
        // A turn's number says when its call began.
        let turns = limit.saturating_mul(TURNS_OF_A_CALL);
        let mut wanted = Conditions::default();
        let (first, turns) = (wanted.value(first_turn(before)), wanted.value(turns));
        wanted.say(format!("call IN (SELECT call FROM turns WHERE id < {first} ORDER BY id LIMIT {turns})"));
        self.aged(wanted, "started_at, call", limit).await
    }

    /// Calls that began before a moment.
    pub(crate) async fn records_before(&self, before: Moment, limit: i64) -> Result<Vec<Aged>, StoreError> {
        let mut wanted = Conditions::default();
        wanted.add("started_at < ?", before.0);
        self.aged(wanted, "started_at, call", limit).await
    }

    /// Calls whose record has one of these texts somewhere, by id, after this one where one is given.
    pub(crate) async fn records_with(
        &self,
        texts: &[String],
        after: Option<&str>,
        limit: i64,
    ) -> Result<Vec<Aged>, StoreError> {
        let mut wanted = Conditions::default();
        has_one(&mut wanted, "record", texts);
        if let Some(after) = after {
            wanted.add("call > ?", after);
        }
        self.aged(wanted, "call", limit).await
    }

    async fn aged(&self, mut wanted: Conditions, order: &str, limit: i64) -> Result<Vec<Aged>, StoreError> {
        let (limit, wheres) = (wanted.value(limit), wanted.wheres());
        let sql = format!("SELECT {COLUMNS} FROM call_records WHERE {wheres} ORDER BY {order} LIMIT {limit}");
        Ok(sqlx::query_as_with(sqlx::AssertSqlSafe(sql), wanted.arguments()?).fetch_all(self.reader()).await?)
    }

    /// Notes that recordings are there no more.
    pub(crate) async fn recordings_removed(&self, calls: &[String], now: Moment) -> Result<(), StoreError> {
        let mut change = self.writer().begin().await?;
        for call in calls {
            let sql = "UPDATE call_records SET recording = NULL, recording_removed_at = $1 WHERE call = $2";
            sqlx::query(sql).bind(now.0).bind(call).execute(&mut *change).await?;
        }
        Ok(change.commit().await?)
    }

    /// Takes a call's words away; `record` is what is left of its record.
    pub(crate) async fn transcript_removed(&self, call: &str, record: &str, now: Moment) -> Result<(), StoreError> {
        let mut change = self.writer().begin().await?;
        sqlx::query("DELETE FROM turns WHERE call = $1").bind(call).execute(&mut *change).await?;
        let sql = "UPDATE call_records SET record = $1, transcript_removed_at = $2 WHERE call = $3";
        sqlx::query(sql).bind(record).bind(now.0).bind(call).execute(&mut *change).await?;
        Ok(change.commit().await?)
    }

    /// Takes records away, with what belongs to them.
    pub(crate) async fn remove_records(&self, calls: &[String]) -> Result<(), StoreError> {
        let mut change = self.writer().begin().await?;
        let mut figures = FigureChanges::default();
        for call in calls {
            let owners = owners(&mut change, call).await?;
            let sql = sqlx::AssertSqlSafe(format!("DELETE FROM call_records WHERE call = $1 RETURNING {COUNTED}"));
            // Another server may have taken it away meanwhile.
            if let Some(row) = sqlx::query(sql).bind(call).fetch_optional(&mut *change).await? {
                figures.remove(&entry_of(&row)?, &owners);
            }
        }
        figures.apply(&mut change, self.backend()).await?;
        Ok(change.commit().await?)
    }

    /// Takes away what came of calls before a moment; returns how much.
    pub(crate) async fn remove_interactions_before(&self, before: Moment, limit: i64) -> Result<u64, StoreError> {
        let sql =
            "DELETE FROM interactions WHERE id IN (SELECT id FROM interactions WHERE at < $1 ORDER BY at LIMIT $2)";
        Ok(sqlx::query(sql).bind(before.0).bind(limit).execute(self.writer()).await?.rows_affected())
    }

    /// What is left of a call once somebody is forgotten: that it was, when, how long, and how it ended. `names` are theirs.
    pub(crate) async fn erase_call(
        &self,
        call: &str,
        names: &[String],
        left: &str,
        now: Moment,
    ) -> Result<(), StoreError> {
        let mut change = self.writer().begin().await?;
        sqlx::query("DELETE FROM turns WHERE call = $1").bind(call).execute(&mut *change).await?;
        for name in names {
            let name = name_of(name.clone());
            for sql in [
                "UPDATE call_records SET caller = 'erased' WHERE call = $1 AND caller = $2",
                "UPDATE call_records SET callee = 'erased' WHERE call = $1 AND callee = $2",
                "UPDATE call_records SET target = 'erased' WHERE call = $1 AND target = $2",
            ] {
                sqlx::query(sql).bind(call).bind(&name).execute(&mut *change).await?;
            }
        }
        let mut figures = FigureChanges::default();
        // What answered may have been theirs: then it is a call of another kind.
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT direction, target, class, reason, {COUNTED} FROM call_records WHERE call = $1"
        ));
        if let Some(row) = sqlx::query(sql).bind(call).fetch_optional(&mut *change).await? {
            let part = |column: &str| row.try_get::<String, _>(column);
            let parts = [part("direction")?, part("target")?, part("class")?, part("reason")?];
            let kind = Kinds::default().number(&mut change, parts.each_ref().map(String::as_str)).await?;
            for sql in [
                "UPDATE call_records SET kind = $1 WHERE call = $2",
                "UPDATE call_owners SET kind = $1 WHERE call = $2",
            ] {
                sqlx::query(sql).bind(kind).bind(call).execute(&mut *change).await?;
            }
            let (before, owners) = (entry_of(&row)?, owners(&mut change, call).await?);
            if before.kind != kind {
                figures.remove(&before, &owners);
                figures.add(&Entry { kind, ..before }, &owners);
            }
        }
        let sql = "UPDATE call_records SET record = $1, recording_removed_at = CASE WHEN recording IS NULL THEN recording_removed_at ELSE $2 END,
                   recording = NULL, transcript_removed_at = $2, erased_at = $2 WHERE call = $3";
        sqlx::query(sql).bind(left).bind(now.0).bind(call).execute(&mut *change).await?;
        figures.apply(&mut change, self.backend()).await?;
        Ok(change.commit().await?)
    }

    /// Takes away the contacts that have this number, what came of calls with them or of these calls, and answers that are kept of either;
    /// returns how many contacts and interactions.
    pub(crate) async fn erase_person(
        &self,
        number: &str,
        texts: &[String],
        calls: &[String],
        erase_entry: bool,
    ) -> Result<(u64, u64), StoreError> {
        let mut change = self.writer().begin().await?;
        let sql = "SELECT DISTINCT contact FROM contact_numbers WHERE number = $1";
        let contacts: Vec<String> = sqlx::query_scalar(sql).bind(number).fetch_all(&mut *change).await?;
        let sql = "DELETE FROM interactions WHERE number = $1";
        let mut interactions = sqlx::query(sql).bind(number).execute(&mut *change).await?.rows_affected();
        for call in calls {
            let sql = "DELETE FROM interactions WHERE call = $1";
            interactions += sqlx::query(sql).bind(call).execute(&mut *change).await?.rows_affected();
        }
        for contact in &contacts {
            let sql = "DELETE FROM interactions WHERE contact = $1";
            interactions += sqlx::query(sql).bind(contact).execute(&mut *change).await?.rows_affected();
            sqlx::query("DELETE FROM contacts WHERE id = $1").bind(contact).execute(&mut *change).await?;
        }
        let sql = if erase_entry {
            "DELETE FROM do_not_call WHERE number = $1"
        } else {
            "UPDATE do_not_call SET reason = NULL WHERE number = $1"
        };
        sqlx::query(sql).bind(number).execute(&mut *change).await?;
        let mut wanted = Conditions::default();
        let named: Vec<String> = texts.iter().chain(&contacts).cloned().collect();
        has_one(&mut wanted, "answer", &named);
        let sql = sqlx::AssertSqlSafe(format!("DELETE FROM idempotency WHERE {}", wanted.wheres()));
        sqlx::query_with(sql, wanted.arguments()?).execute(&mut *change).await?;
        change.commit().await?;
        Ok((contacts.len() as u64, interactions))
    }

    /// Entries of the audit log that have one of these texts: they cannot be changed.
    pub(crate) async fn audit_with(&self, texts: &[String]) -> Result<i64, StoreError> {
        let mut wanted = Conditions::default();
        has_one(&mut wanted, "detail", texts);
        let sql = sqlx::AssertSqlSafe(format!("SELECT COUNT(*) FROM audit WHERE {}", wanted.wheres()));
        Ok(sqlx::query_scalar_with(sql, wanted.arguments()?).fetch_one(self.reader()).await?)
    }

    /// The other servers on this database: their journals are on their disks.
    pub(crate) async fn other_nodes(&self, node: &str) -> Result<Vec<String>, StoreError> {
        let sql = "SELECT node FROM journals WHERE node <> $1 ORDER BY node";
        Ok(sqlx::query_scalar(sql).bind(node).fetch_all(self.reader()).await?)
    }

    /// Makes what was taken away unreadable in the database's files, where that is in our hands: SQLite's file is written anew and its log
    /// emptied. Returns what is not.
    pub(crate) async fn scrub(&self) -> Result<Option<&'static str>, StoreError> {
        match self.backend() {
            Backend::Sqlite => {
                sqlx::query("VACUUM").execute(self.writer()).await?;
                // The first number says whether somebody still read what was before.
                let row = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(self.writer()).await?;
                let is_busy = row.try_get::<i64, _>(0).unwrap_or(1) != 0;
                Ok(is_busy
                    .then_some("the database's log (omnivox.db-wal) was in use: it is emptied at the next checkpoint"))
            }
            Backend::Postgres => Ok(Some(
                "PostgreSQL keeps rows that were deleted in its files until VACUUM FULL, and in its write-ahead log and backups as it is set up",
            )),
        }
    }
}

/// What figures are made of ([`entry_of`]).
const COUNTED: &str = "started_at, answered_at, duration_ms, mos_in, gap_ms, kind";

async fn owners(connection: &mut AnyConnection, call: &str) -> Result<Vec<String>, StoreError> {
    let sql = "SELECT owner FROM call_owners WHERE call = $1 ORDER BY owner";
    Ok(sqlx::query_scalar(sql).bind(call).fetch_all(connection).await?)
}

fn has_one(wanted: &mut Conditions, column: &str, texts: &[String]) {
    let each: Vec<String> = texts
        .iter()
        .map(|text| {
            let text = text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
            format!("{column} LIKE {} ESCAPE '\\'", wanted.value(format!("%{text}%")))
        })
        .collect();
    wanted.say(if each.is_empty() { "1 = 0".to_owned() } else { format!("({})", each.join(" OR ")) });
}
