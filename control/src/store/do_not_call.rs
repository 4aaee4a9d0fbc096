//! `do_not_call`: numbers that are not to be called.

use serde::{Deserialize, Serialize};
use sqlx::{AnyConnection, FromRow, Row, any::AnyRow};
use utoipa::ToSchema;

use super::conditions::Conditions;
use super::{Store, StoreError};
use crate::time::Moment;

/// A number that is not to be called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DoNotCall {
    /// E.164.
    #[schema(example = "+4930123456")]
    pub number: String,
    /// Why.
    pub reason: Option<String>,
    /// Where from: `list` (it was put here), `interaction` (it came of a call).
    pub source: String,
    /// Who put it here.
    pub added_by: String,
    /// When.
    pub added_at: Moment,
    /// It holds until then; for ever where it does not say.
    pub expires_at: Option<Moment>,
}

impl<'r> FromRow<'r, AnyRow> for DoNotCall {
    fn from_row(row: &'r AnyRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            number: row.try_get("number")?,
            reason: row.try_get("reason")?,
            source: row.try_get("source")?,
            added_by: row.try_get("added_by")?,
            added_at: Moment(row.try_get("added_at")?),
            expires_at: row.try_get::<Option<i64>, _>("expires_at")?.map(Moment),
        })
    }
}

/// Which numbers a list has; what is not named is any.
#[derive(Debug, Clone, Default)]
pub struct DoNotCallFilter {
    /// This number.
    pub number: Option<String>,
    /// Where from.
    pub source: Option<String>,
    /// Who put it here.
    pub added_by: Option<String>,
}

const COLUMNS: &str = "number, reason, source, added_by, added_at, expires_at";

/// Puts a number on the list within whatever is under way. One that is there already holds as long as the longer of the two.
pub(super) async fn add(connection: &mut AnyConnection, entry: &DoNotCall) -> Result<(), StoreError> {
    let sql = "INSERT INTO do_not_call (number, reason, source, added_by, added_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6)
               ON CONFLICT (number) DO UPDATE SET reason = excluded.reason, source = excluded.source, added_by = excluded.added_by,
               added_at = excluded.added_at, expires_at = CASE
                   WHEN do_not_call.expires_at IS NULL OR excluded.expires_at IS NULL THEN NULL
                   WHEN do_not_call.expires_at > excluded.expires_at THEN do_not_call.expires_at
                   ELSE excluded.expires_at END";
    sqlx::query(sql)
        .bind(&entry.number)
        .bind(&entry.reason)
        .bind(&entry.source)
        .bind(&entry.added_by)
        .bind(entry.added_at.0)
        .bind(entry.expires_at.map(|at| at.0))
        .execute(&mut *connection)
        .await?;
    Ok(())
}

impl Store {
    /// Puts numbers on the list, all or none.
    ///
    /// # Errors
    /// The database's.
    pub async fn add_do_not_call(&self, entries: &[DoNotCall]) -> Result<(), StoreError> {
        let mut change = self.writer().begin().await?;
        for entry in entries {
            add(&mut change, entry).await?;
        }
        Ok(change.commit().await?)
    }

    /// Takes a number off the list; false where it is not on it.
    ///
    /// # Errors
    /// The database's.
    pub async fn remove_do_not_call(&self, number: &str) -> Result<bool, StoreError> {
        let sql = "DELETE FROM do_not_call WHERE number = $1";
        Ok(sqlx::query(sql).bind(number).execute(self.writer()).await?.rows_affected() > 0)
    }

    /// A number's entry, whether it still holds or not.
    ///
    /// # Errors
    /// The database's.
    pub async fn do_not_call(&self, number: &str) -> Result<Option<DoNotCall>, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!("SELECT {COLUMNS} FROM do_not_call WHERE number = $1"));
        Ok(sqlx::query_as(sql).bind(number).fetch_optional(self.reader()).await?)
    }

    /// What changes whenever the list does: how many numbers it has, and when the latest was put there.
    ///
    /// # Errors
    /// The database's.
    pub async fn do_not_call_mark(&self) -> Result<(i64, i64), StoreError> {
        let sql = "SELECT COUNT(*) AS entries, COALESCE(MAX(added_at), 0) AS latest FROM do_not_call";
        let row = sqlx::query(sql).fetch_one(self.reader()).await?;
        Ok((row.try_get("entries")?, row.try_get("latest")?))
    }

    /// Every number that is not to be called now, with the end of its time.
    ///
    /// # Errors
    /// The database's.
    pub async fn barred(&self, now: Moment) -> Result<Vec<(String, Option<Moment>)>, StoreError> {
        let sql = "SELECT number, expires_at FROM do_not_call WHERE expires_at IS NULL OR expires_at > $1";
        let rows = sqlx::query(sql).bind(now.0).fetch_all(self.reader()).await?;
        let entry = |row: &AnyRow| {
            let until = row.try_get::<Option<i64>, _>("expires_at")?;
            Ok((row.try_get("number")?, until.map(Moment)))
        };
        rows.iter().map(entry).collect()
    }

    /// Whether a number (E.164) may be called: no entry that holds now is against it.
    ///
    /// # Errors
    /// The database's: whoever asks then does not call.
    pub async fn may_call(&self, number: &str, now: Moment) -> Result<bool, StoreError> {
        let entry = self.do_not_call(number).await?;
        Ok(entry.is_none_or(|entry| entry.expires_at.is_some_and(|at| at <= now)))
    }

    /// Numbers in their order, those after this one where one is given.
    ///
    /// # Errors
    /// The database's.
    pub async fn do_not_calls(
        &self,
        filter: &DoNotCallFilter,
        after: Option<&str>,
        limit: i64,
    ) -> Result<Vec<DoNotCall>, StoreError> {
        let (sql, wanted) = list(filter, after, limit);
        Ok(sqlx::query_as_with(sqlx::AssertSqlSafe(sql), wanted.arguments()?).fetch_all(self.reader()).await?)
    }

    /// How the database would read the list if it had many rows, in its own words.
    #[doc(hidden)]
    pub async fn explain_do_not_call(&self, filter: &DoNotCallFilter) -> Result<String, StoreError> {
        let (sql, wanted) = list(filter, None, 50);
        self.explain(&sql, &wanted).await
    }
}

/// The statement of a list, and what it compares with.
fn list(filter: &DoNotCallFilter, after: Option<&str>, limit: i64) -> (String, Conditions) {
    let mut wanted = Conditions::default();
    wanted.equals("number", filter.number.as_ref());
    wanted.equals("source", filter.source.as_ref());
    wanted.equals("added_by", filter.added_by.as_ref());
    if let Some(after) = after {
        wanted.add("number > ?", after);
    }
    let (limit, wheres) = (wanted.value(limit), wanted.wheres());
    (format!("SELECT {COLUMNS} FROM do_not_call WHERE {wheres} ORDER BY number LIMIT {limit}"), wanted)
}
