//! `sessions`: browsers that are logged in.

use sqlx::{FromRow, Row, any::AnyRow};

use super::users::User;
use super::{Store, StoreError};
use crate::time::Moment;

/// A session, and whose it is.
#[derive(Debug, Clone)]
pub struct Session {
    /// Hash of its secret.
    pub hash: String,
    /// When it was last used.
    pub seen_at: Moment,
    /// Whose.
    pub user: User,
}

impl<'r> FromRow<'r, AnyRow> for Session {
    fn from_row(row: &'r AnyRow) -> Result<Self, sqlx::Error> {
        Ok(Self { hash: row.try_get("hash")?, seen_at: Moment(row.try_get("seen_at")?), user: User::from_row(row)? })
    }
}

impl Store {
    /// Opens a session.
    ///
    /// # Errors
    /// The database's.
    pub async fn open_session(&self, hash: &str, user: &str, now: Moment, until: Moment) -> Result<(), StoreError> {
        let sql = "INSERT INTO sessions (hash, user_id, created_at, seen_at, expires_at) VALUES ($1, $2, $3, $3, $4)";
        sqlx::query(sql).bind(hash).bind(user).bind(now.0).bind(until.0).execute(self.writer()).await?;
        Ok(())
    }

    /// The session of this hash that is neither over nor unused since `idle_since`, of somebody who may log in.
    ///
    /// # Errors
    /// The database's.
    pub async fn session(&self, hash: &str, now: Moment, idle_since: Moment) -> Result<Option<Session>, StoreError> {
        let sql =
            "SELECT s.hash, s.seen_at, u.id, u.name, u.display, u.role, u.team_id, u.device, u.totp_secret, u.disabled,
                          u.created_at, u.updated_at, u.version
                   FROM sessions s JOIN users u ON u.id = s.user_id
                   WHERE s.hash = $1 AND s.expires_at > $2 AND s.seen_at > $3 AND u.disabled = 0";
        let row = sqlx::query_as(sql).bind(hash).bind(now.0).bind(idle_since.0);
        Ok(row.fetch_optional(self.reader()).await?)
    }

    /// Notes that a session is used.
    ///
    /// # Errors
    /// The database's.
    pub async fn session_seen(&self, hash: &str, now: Moment) -> Result<(), StoreError> {
        let sql = "UPDATE sessions SET seen_at = $1 WHERE hash = $2";
        sqlx::query(sql).bind(now.0).bind(hash).execute(self.writer()).await?;
        Ok(())
    }

    /// Ends a session.
    ///
    /// # Errors
    /// The database's.
    pub async fn close_session(&self, hash: &str) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM sessions WHERE hash = $1").bind(hash).execute(self.writer()).await?;
        Ok(())
    }

    /// Ends every session of a user, and every family of tokens.
    ///
    /// # Errors
    /// The database's.
    pub async fn log_out(&self, user: &str) -> Result<(), StoreError> {
        for sql in ["DELETE FROM sessions WHERE user_id = $1", "DELETE FROM refresh_tokens WHERE user_id = $1"] {
            sqlx::query(sql).bind(user).execute(self.writer()).await?;
        }
        Ok(())
    }

    /// Takes away what is over: sessions, tokens, invitations, kept answers.
    ///
    /// # Errors
    /// The database's.
    pub async fn sweep(&self, now: Moment, answers_before: Moment) -> Result<u64, StoreError> {
        let mut gone = 0;
        for sql in [
            "DELETE FROM sessions WHERE expires_at <= $1",
            "DELETE FROM refresh_tokens WHERE expires_at <= $1",
            "DELETE FROM invitations WHERE expires_at <= $1",
        ] {
            gone += sqlx::query(sql).bind(now.0).execute(self.writer()).await?.rows_affected();
        }
        let sql = "DELETE FROM idempotency WHERE created_at <= $1";
        gone += sqlx::query(sql).bind(answers_before.0).execute(self.writer()).await?.rows_affected();
        Ok(gone)
    }
}
