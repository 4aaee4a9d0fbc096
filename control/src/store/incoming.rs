//! `incoming_sources` and `incoming_seen`: who tells us of what happens elsewhere, and what they told already.

use serde::Serialize;
use sqlx::{FromRow, Row, any::AnyRow};
use utoipa::ToSchema;

use super::outbox::{Told, put};
use super::{Store, StoreError, taken};
use crate::time::Moment;

/// Somebody who tells us.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct IncomingSource {
    /// UUID, version 7.
    pub id: String,
    /// Its name, which stands in the address: `/api/v1/incoming/NAME`.
    #[schema(example = "payments")]
    pub name: String,
    /// The first characters of the secret.
    #[schema(example = "whsec_MfKQ…")]
    pub hint: String,
    /// When it was added.
    pub created_at: Moment,
    /// When it was last changed.
    pub updated_at: Moment,
    /// Counts the changes: the ETag.
    #[serde(skip)]
    pub version: i64,
    /// The secret, sealed.
    #[serde(skip)]
    pub sealed: String,
}

impl<'r> FromRow<'r, AnyRow> for IncomingSource {
    fn from_row(row: &'r AnyRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: row.try_get("id")?,
            name: row.try_get("name")?,
            hint: row.try_get("hint")?,
            created_at: Moment(row.try_get("created_at")?),
            updated_at: Moment(row.try_get("updated_at")?),
            version: row.try_get("version")?,
            sealed: row.try_get("secret")?,
        })
    }
}

impl Store {
    /// Adds a source with its secret, sealed, and what is shown of it, where there are fewer than `limit`.
    ///
    /// # Errors
    /// The name is taken; there are too many.
    pub async fn add_incoming(
        &self,
        name: &str,
        (sealed, hint): (&str, &str),
        limit: i64,
        now: Moment,
    ) -> Result<IncomingSource, StoreError> {
        let id = super::new_id();
        let done = sqlx::query(
            "INSERT INTO incoming_sources (id, name, secret, hint, created_at, updated_at)
             SELECT $1, $2, $3, $4, CAST($5 AS BIGINT), CAST($5 AS BIGINT) WHERE (SELECT COUNT(*) FROM incoming_sources) < $6",
        )
        .bind(&id)
        .bind(name)
        .bind(sealed)
        .bind(hint)
        .bind(now.0)
        .bind(limit)
        .execute(self.writer())
        .await
        .map_err(|fault| taken(fault, "name", name))?;
        if done.rows_affected() == 0 {
            return Err(StoreError::InUse { what: "another source", by: "there are as many as may be" });
        }
        self.incoming(&id).await?.ok_or(StoreError::Changed)
    }

    /// Gives a source another name, or another secret.
    ///
    /// # Errors
    /// The name is taken; somebody else changed it since `version`.
    pub async fn change_incoming(
        &self,
        source: &IncomingSource,
        name: Option<&str>,
        secret: Option<(&str, &str)>,
        version: Option<i64>,
        now: Moment,
    ) -> Result<IncomingSource, StoreError> {
        let name = name.unwrap_or(&source.name);
        let (sealed, hint) = secret.unwrap_or((&source.sealed, &source.hint));
        let done = sqlx::query(
            "UPDATE incoming_sources SET name = $1, secret = $2, hint = $3, updated_at = $4, version = version + 1
             WHERE id = $5 AND version = $6",
        )
        .bind(name)
        .bind(sealed)
        .bind(hint)
        .bind(now.0)
        .bind(&source.id)
        .bind(version.unwrap_or(source.version))
        .execute(self.writer())
        .await
        .map_err(|fault| taken(fault, "name", name))?;
        if done.rows_affected() == 0 {
            return Err(StoreError::Changed);
        }
        self.incoming(&source.id).await?.ok_or(StoreError::Changed)
    }

    /// Takes a source away; false where there is none.
    ///
    /// # Errors
    /// The database's.
    pub async fn remove_incoming(&self, id: &str) -> Result<bool, StoreError> {
        let done = sqlx::query("DELETE FROM incoming_sources WHERE id = $1").bind(id).execute(self.writer()).await?;
        Ok(done.rows_affected() > 0)
    }

    /// One source.
    ///
    /// # Errors
    /// The database's.
    pub async fn incoming(&self, id: &str) -> Result<Option<IncomingSource>, StoreError> {
        let sql = "SELECT * FROM incoming_sources WHERE id = $1";
        Ok(sqlx::query_as(sql).bind(id).fetch_optional(self.reader()).await?)
    }

    /// The source of a name.
    ///
    /// # Errors
    /// The database's.
    pub async fn incoming_by_name(&self, name: &str) -> Result<Option<IncomingSource>, StoreError> {
        let sql = "SELECT * FROM incoming_sources WHERE name = $1";
        Ok(sqlx::query_as(sql).bind(name).fetch_optional(self.reader()).await?)
    }

    /// Sources by name, those after `after` where one is given.
    ///
    /// # Errors
    /// The database's.
    pub async fn incomings(&self, after: Option<&str>, limit: i64) -> Result<Vec<IncomingSource>, StoreError> {
        let sql = "SELECT * FROM incoming_sources WHERE name > $1 ORDER BY name LIMIT $2";
        Ok(sqlx::query_as(sql).bind(after.unwrap_or_default()).bind(limit).fetch_all(self.reader()).await?)
    }

    /// Notes that a message came, and writes to the outbox that it did; false where it came before, and nothing is written then.
    ///
    /// # Errors
    /// The database's; nothing was written.
    pub async fn take_incoming(
        &self,
        source: &str,
        message: &str,
        told: &Told,
        now: Moment,
    ) -> Result<bool, StoreError> {
        let targets = self.targets().await?;
        let mut change = self.writer().begin().await?;
        let sql = "INSERT INTO incoming_seen (source_id, message, at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
        let done = sqlx::query(sql).bind(source).bind(message).bind(now.0).execute(&mut *change).await?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        put(&mut change, self.backend(), std::slice::from_ref(told), &targets).await?;
        change.commit().await?;
        Ok(true)
    }

    /// Forgets messages that came before: they are too old to come again.
    ///
    /// # Errors
    /// The database's.
    pub async fn sweep_incoming(&self, before: Moment) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM incoming_seen WHERE at <= $1").bind(before.0).execute(self.writer()).await?;
        Ok(())
    }
}
