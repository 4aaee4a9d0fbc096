//! `invitations`: one-time links, by which the first administrator comes in.

use sqlx::Row;

use super::users::{self, NewUser, User};
use super::{Store, StoreError};
use crate::identity::Role;
use crate::time::Moment;

impl Store {
    /// Adds an invitation; those there were are good no more.
    ///
    /// # Errors
    /// The database's.
    pub async fn invite(&self, hash: &str, role: Role, now: Moment, until: Moment) -> Result<(), StoreError> {
        let mut change = self.writer().begin().await?;
        sqlx::query("DELETE FROM invitations").execute(&mut *change).await?;
        let sql = "INSERT INTO invitations (hash, role, created_at, expires_at) VALUES ($1, $2, $3, $4)";
        sqlx::query(sql).bind(hash).bind(role.as_str()).bind(now.0).bind(until.0).execute(&mut *change).await?;
        Ok(change.commit().await?)
    }

    /// The role that an invitation gives, where it is good.
    ///
    /// # Errors
    /// The database's.
    pub async fn invitation(&self, hash: &str, now: Moment) -> Result<Option<Role>, StoreError> {
        let sql = "SELECT role FROM invitations WHERE hash = $1 AND expires_at > $2";
        let row = sqlx::query(sql).bind(hash).bind(now.0).fetch_optional(self.reader()).await?;
        let role: Option<String> = row.map(|row| row.try_get("role")).transpose()?;
        Ok(role.as_deref().and_then(Role::parse))
    }

    /// Whether there is one that is good.
    ///
    /// # Errors
    /// The database's.
    pub async fn has_invitation(&self, now: Moment) -> Result<bool, StoreError> {
        let sql = "SELECT COUNT(*) FROM invitations WHERE expires_at > $1";
        let count: i64 = sqlx::query_scalar(sql).bind(now.0).fetch_one(self.reader()).await?;
        Ok(count > 0)
    }

    /// Takes an invitation up: the user is added and it is good no more. `None` where it was not good.
    ///
    /// # Errors
    /// The name is taken.
    pub async fn accept(&self, hash: &str, new: NewUser, now: Moment) -> Result<Option<User>, StoreError> {
        let mut change = self.writer().begin().await?;
        let sql = "DELETE FROM invitations WHERE hash = $1 AND expires_at > $2";
        if sqlx::query(sql).bind(hash).bind(now.0).execute(&mut *change).await?.rows_affected() == 0 {
            return Ok(None);
        }
        let id = users::insert(&mut change, &new, now).await?;
        change.commit().await?;
        self.user(&id).await
    }
}
