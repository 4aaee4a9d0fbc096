//! `refresh_tokens`: each is used once and gives the next; one that is used again was stolen, and ends its family.

use sqlx::Row;

use super::{Store, StoreError};
use crate::time::Moment;

/// What came of a refresh token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refreshed {
    /// It was good: whose, and the family that the next belongs to.
    Good {
        /// Whose.
        user: String,
        /// The family.
        family: String,
    },
    /// It was used before: the family is gone. Whose it was.
    Reused(String),
    /// Nobody knows it, or it is too old.
    Unknown,
}

impl Store {
    /// Adds a token to a family.
    ///
    /// # Errors
    /// The database's.
    pub async fn add_refresh_token(
        &self,
        hash: &str,
        family: &str,
        user: &str,
        now: Moment,
        until: Moment,
    ) -> Result<(), StoreError> {
        let sql =
            "INSERT INTO refresh_tokens (hash, family, user_id, created_at, expires_at) VALUES ($1, $2, $3, $4, $5)";
        let row = sqlx::query(sql).bind(hash).bind(family).bind(user).bind(now.0).bind(until.0);
        row.execute(self.writer()).await?;
        Ok(())
    }

    /// Uses a token.
    ///
    /// # Errors
    /// The database's.
    pub async fn use_refresh_token(&self, hash: &str, now: Moment) -> Result<Refreshed, StoreError> {
        let mut change = self.writer().begin().await?;
        // Whoever sets the mark has used it; of two at once the second finds it set.
        let used = sqlx::query(
            "UPDATE refresh_tokens SET used_at = $1 WHERE hash = $2 AND used_at IS NULL AND expires_at > $1",
        )
        .bind(now.0)
        .bind(hash)
        .execute(&mut *change)
        .await?
        .rows_affected();
        let row = sqlx::query("SELECT user_id, family, used_at, expires_at FROM refresh_tokens WHERE hash = $1")
            .bind(hash)
            .fetch_optional(&mut *change)
            .await?;
        let Some(row) = row else { return Ok(Refreshed::Unknown) };
        let (user, family): (String, String) = (row.try_get("user_id")?, row.try_get("family")?);
        let answer = if used == 1 {
            Refreshed::Good { user, family }
        } else if row.try_get::<Option<i64>, _>("used_at")?.is_some() {
            sqlx::query("DELETE FROM refresh_tokens WHERE family = $1").bind(&family).execute(&mut *change).await?;
            Refreshed::Reused(user)
        } else {
            Refreshed::Unknown
        };
        change.commit().await?;
        Ok(answer)
    }

    /// Ends the family that a token belongs to.
    ///
    /// # Errors
    /// The database's.
    pub async fn end_family(&self, hash: &str) -> Result<(), StoreError> {
        let sql = "DELETE FROM refresh_tokens WHERE family IN (SELECT family FROM refresh_tokens WHERE hash = $1)";
        sqlx::query(sql).bind(hash).execute(self.writer()).await?;
        Ok(())
    }
}
