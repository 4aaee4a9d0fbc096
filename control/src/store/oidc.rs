//! `oidc_identities`: which user a person at a provider is.

use super::users::{NewUser, User, insert};
use super::{Store, StoreError};
use crate::time::Moment;

impl Store {
    /// The user that a person at a provider is.
    ///
    /// # Errors
    /// The database's.
    pub async fn user_by_identity(&self, issuer: &str, subject: &str) -> Result<Option<User>, StoreError> {
        let sql = "SELECT user_id FROM oidc_identities WHERE issuer = $1 AND subject = $2";
        let id: Option<String> =
            sqlx::query_scalar(sql).bind(issuer).bind(subject).fetch_optional(self.reader()).await?;
        match id {
            Some(id) => self.user(&id).await,
            None => Ok(None),
        }
    }

    /// Settles that a person at a provider is this user; false where the user is somebody else there already.
    ///
    /// # Errors
    /// The database's.
    pub async fn bind_identity(
        &self,
        issuer: &str,
        subject: &str,
        user: &str,
        now: Moment,
    ) -> Result<bool, StoreError> {
        let sql = "INSERT INTO oidc_identities (issuer, subject, user_id, created_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";
        let done = sqlx::query(sql).bind(issuer).bind(subject).bind(user).bind(now.0).execute(self.writer()).await?;
        Ok(done.rows_affected() == 1)
    }

    /// Adds a user who is this person at a provider.
    ///
    /// # Errors
    /// The name is taken; the person is somebody already.
    pub async fn add_identified(
        &self,
        new: &NewUser,
        (issuer, subject): (&str, &str),
        now: Moment,
    ) -> Result<User, StoreError> {
        let mut change = self.writer().begin().await?;
        let id = insert(&mut change, new, now).await?;
        let sql = "INSERT INTO oidc_identities (issuer, subject, user_id, created_at) VALUES ($1, $2, $3, $4)";
        sqlx::query(sql).bind(issuer).bind(subject).bind(&id).bind(now.0).execute(&mut *change).await?;
        change.commit().await?;
        self.user(&id).await?.ok_or(StoreError::Changed)
    }

    /// The team of a name.
    ///
    /// # Errors
    /// The database's.
    pub async fn team_by_name(&self, name: &str) -> Result<Option<String>, StoreError> {
        Ok(sqlx::query_scalar("SELECT id FROM teams WHERE name = $1").bind(name).fetch_optional(self.reader()).await?)
    }
}
