//! `idempotency`: answers to requests that brought a key, so that a request that is sent again acts once.

use sqlx::Row;

use super::{Store, StoreError};
use crate::time::Moment;

/// What is known of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// It is new: the request is to be done, and [`Store::keep_answer`] told what came of it.
    New,
    /// The first request is still being done.
    Running,
    /// It was another request.
    Other,
    /// It was answered: status and body.
    Answered(u16, String),
}

impl Store {
    /// Takes a key for a request.
    ///
    /// # Errors
    /// The database's.
    pub async fn take_key(&self, owner: &str, key: &str, request: &str, now: Moment) -> Result<Known, StoreError> {
        let sql =
            "INSERT INTO idempotency (owner, key, request, created_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";
        let row = sqlx::query(sql).bind(owner).bind(key).bind(request).bind(now.0);
        if row.execute(self.writer()).await?.rows_affected() == 1 {
            return Ok(Known::New);
        }
        let sql = "SELECT request, status, answer FROM idempotency WHERE owner = $1 AND key = $2";
        let row = sqlx::query(sql).bind(owner).bind(key).fetch_optional(self.writer()).await?;
        let Some(row) = row else { return Ok(Known::Running) };
        if row.try_get::<String, _>("request")? != request {
            return Ok(Known::Other);
        }
        let (status, answer): (Option<i64>, Option<String>) = (row.try_get("status")?, row.try_get("answer")?);
        Ok(match status.and_then(|status| u16::try_from(status).ok()) {
            Some(status) => Known::Answered(status, answer.unwrap_or_default()),
            None => Known::Running,
        })
    }

    /// Keeps what came of a request.
    ///
    /// # Errors
    /// The database's.
    pub async fn keep_answer(&self, owner: &str, key: &str, status: u16, answer: &str) -> Result<(), StoreError> {
        let sql = "UPDATE idempotency SET status = $1, answer = $2 WHERE owner = $3 AND key = $4";
        let row = sqlx::query(sql).bind(i64::from(status)).bind(answer).bind(owner).bind(key);
        row.execute(self.writer()).await?;
        Ok(())
    }

    /// Lets go of a key whose request came to nothing, so that it may be tried again.
    ///
    /// # Errors
    /// The database's.
    pub async fn release_key(&self, owner: &str, key: &str) -> Result<(), StoreError> {
        let sql = "DELETE FROM idempotency WHERE owner = $1 AND key = $2 AND status IS NULL";
        sqlx::query(sql).bind(owner).bind(key).execute(self.writer()).await?;
        Ok(())
    }
}
