//! `audit`: what people changed, as a chain of hashes. Each entry's hash covers what it says and the hash before it, so that an entry
//! that was edited, taken out, or put elsewhere no longer fits. What was cut off at the end is found by the anchor: the number and hash of
//! the latest entry, which is kept outside of the database.

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};
use sqlx::{FromRow, Row, any::AnyRow};
use utoipa::ToSchema;

use super::conditions::Conditions;
use super::{Store, StoreError};
use crate::identity::secret::hex;
use crate::time::Moment;

/// What somebody did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    /// Its number, from 1 without gaps.
    pub seq: i64,
    /// When.
    pub at: Moment,
    /// Who: a user's name, `key NAME of USER`, `command line`.
    pub actor: String,
    /// What: `user.create`, `call.hang_up`.
    pub action: String,
    /// To what.
    pub subject: String,
    /// What changed, as JSON; no secrets.
    #[schema(value_type = Object)]
    pub detail: serde_json::Value,
    /// SHA-256 over the entry and the hash before it, in hexadecimal.
    pub hash: String,
}

/// The end of the chain, to be kept outside of the database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Anchor {
    /// The number of the latest entry; 0: there is none.
    pub seq: i64,
    /// Its hash.
    pub hash: String,
}

/// Where the chain is broken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Broken {
    /// The first number that does not fit.
    pub seq: i64,
    /// What does not.
    pub why: String,
}

impl<'r> FromRow<'r, AnyRow> for AuditEntry {
    fn from_row(row: &'r AnyRow) -> Result<Self, sqlx::Error> {
        let detail: String = row.try_get("detail")?;
        Ok(Self {
            seq: row.try_get("seq")?,
            at: Moment(row.try_get("at")?),
            actor: row.try_get("actor")?,
            action: row.try_get("action")?,
            subject: row.try_get("subject")?,
            // The hash covers the text as it stands: what is no JSON any more has been edited, and is shown as it is.
            detail: serde_json::from_str(&detail).unwrap_or(serde_json::Value::String(detail)),
            hash: row.try_get("hash")?,
        })
    }
}

/// Hash of an entry that follows `before`: each part with its length before it, so that no two entries look the same.
fn link(before: &str, seq: i64, at: Moment, parts: [&str; 4]) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(before.as_bytes());
    context.update(&seq.to_be_bytes());
    context.update(&at.0.to_be_bytes());
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    }
    hex(context.finish().as_ref())
}

const COLUMNS: &str = "seq, at, actor, action, subject, detail, hash";
/// Somebody else may add an entry at the same moment (another server on the same database): tried again so often.
const TRIES: usize = 20;
/// Entries looked at at once while the chain is followed.
const BATCH: i64 = 1_000;

/// The statement of the log's list, and what it compares with.
fn audit_list(before: Option<i64>, limit: i64) -> (String, Conditions) {
    let mut wanted = Conditions::default();
    wanted.add("seq < ?", before.unwrap_or(i64::MAX));
    let limit = wanted.value(limit);
    (format!("SELECT {COLUMNS} FROM audit WHERE {} ORDER BY seq DESC LIMIT {limit}", wanted.wheres()), wanted)
}

impl Store {
    /// Adds an entry to the chain; returns the chain's new end.
    ///
    /// # Errors
    /// The database's.
    pub async fn add_audit(
        &self,
        actor: &str,
        action: &str,
        subject: &str,
        detail: &serde_json::Value,
        now: Moment,
    ) -> Result<Anchor, StoreError> {
        let _turn = self.auditing.lock().await;
        let detail = detail.to_string();
        let mut tries = 0;
        loop {
            let last = self.audit_end().await?;
            let seq = last.seq + 1;
            let hash = link(&last.hash, seq, now, [actor, action, subject, &detail]);
            let sql =
                "INSERT INTO audit (seq, at, actor, action, subject, detail, hash) VALUES ($1, $2, $3, $4, $5, $6, $7)";
            let row = sqlx::query(sql).bind(seq).bind(now.0).bind(actor).bind(action).bind(subject);
            match row.bind(&detail).bind(&hash).execute(self.writer()).await {
                Ok(_) => return Ok(Anchor { seq, hash }),
                Err(sqlx::Error::Database(fault)) if fault.is_unique_violation() && tries < TRIES => tries += 1,
                Err(fault) => return Err(fault.into()),
            }
        }
    }

    /// The end of the chain.
    ///
    /// # Errors
    /// The database's.
    pub async fn audit_end(&self) -> Result<Anchor, StoreError> {
        let sql = "SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1";
        let row = sqlx::query(sql).fetch_optional(self.writer()).await?;
        Ok(match row {
            Some(row) => Anchor { seq: row.try_get("seq")?, hash: row.try_get("hash")? },
            None => Anchor { seq: 0, hash: String::new() },
        })
    }

    /// Entries, latest first, those before `before` where one is given.
    ///
    /// # Errors
    /// The database's.
    pub async fn audit(&self, before: Option<i64>, limit: i64) -> Result<Vec<AuditEntry>, StoreError> {
        let (sql, wanted) = audit_list(before, limit);
        Ok(sqlx::query_as_with(sqlx::AssertSqlSafe(sql), wanted.arguments()?).fetch_all(self.reader()).await?)
    }

    /// How the database would read the log's list if it had many rows, in its own words.
    #[doc(hidden)]
    pub async fn explain_audit(&self) -> Result<String, StoreError> {
        let (sql, wanted) = audit_list(Some(1_000), 50);
        self.explain(&sql, &wanted).await
    }

    /// Follows the chain from its beginning to where it has to end; `None` where it holds.
    ///
    /// # Errors
    /// The database's.
    pub async fn verify_audit(&self, anchor: Option<&Anchor>) -> Result<Option<Broken>, StoreError> {
        let broken = |seq, why: &str| Ok(Some(Broken { seq, why: why.to_owned() }));
        let (mut last, mut before) = (0, String::new());
        loop {
            let sql = sqlx::AssertSqlSafe(format!("SELECT {COLUMNS} FROM audit WHERE seq > $1 ORDER BY seq LIMIT $2"));
            let rows = sqlx::query(sql).bind(last).bind(BATCH).fetch_all(self.reader()).await?;
            if rows.is_empty() {
                break;
            }
            for row in rows {
                let (seq, at): (i64, i64) = (row.try_get("seq")?, row.try_get("at")?);
                if seq != last + 1 {
                    return broken(last + 1, "the entry is not there");
                }
                let text = |column: &str| row.try_get::<String, _>(column);
                let parts = [text("actor")?, text("action")?, text("subject")?, text("detail")?];
                let hash = link(&before, seq, Moment(at), [&parts[0], &parts[1], &parts[2], &parts[3]]);
                if hash != text("hash")? {
                    return broken(seq, "the entry is not what was written, or not where");
                }
                if anchor.is_some_and(|anchor| anchor.seq == seq && anchor.hash != hash) {
                    return broken(seq, "the chain was written anew");
                }
                (last, before) = (seq, hash);
            }
        }
        match anchor {
            Some(anchor) if anchor.seq > last => broken(last + 1, "the end of the chain is not there"),
            _ => Ok(None),
        }
    }
}
