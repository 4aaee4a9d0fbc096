//! `teams`: whose calls a supervisor sees.

use serde::{Deserialize, Serialize};
use sqlx::{FromRow, Row, any::AnyRow};
use utoipa::ToSchema;

use super::{Store, StoreError, taken};
use crate::time::Moment;

/// A team.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Team {
    /// UUID, version 7.
    pub id: String,
    /// Its name.
    #[schema(example = "Reception")]
    pub name: String,
    /// When it was made.
    pub created_at: Moment,
    /// Counts the changes: the ETag.
    #[serde(skip)]
    pub version: i64,
}

impl<'r> FromRow<'r, AnyRow> for Team {
    fn from_row(row: &'r AnyRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: row.try_get("id")?,
            name: row.try_get("name")?,
            created_at: Moment(row.try_get("created_at")?),
            version: row.try_get("version")?,
        })
    }
}

impl Store {
    /// Adds a team.
    ///
    /// # Errors
    /// The name is taken.
    pub async fn add_team(&self, name: &str, now: Moment) -> Result<Team, StoreError> {
        let team = Team { id: super::new_id(), name: name.to_owned(), created_at: now, version: 1 };
        sqlx::query("INSERT INTO teams (id, name, created_at) VALUES ($1, $2, $3)")
            .bind(&team.id)
            .bind(name)
            .bind(now.0)
            .execute(self.writer())
            .await
            .map_err(|fault| taken(fault, "name", name))?;
        Ok(team)
    }

    /// One team.
    ///
    /// # Errors
    /// The database's.
    pub async fn team(&self, id: &str) -> Result<Option<Team>, StoreError> {
        let sql = "SELECT id, name, created_at, version FROM teams WHERE id = $1";
        Ok(sqlx::query_as(sql).bind(id).fetch_optional(self.reader()).await?)
    }

    /// Teams by name, those after `after` where one is given.
    ///
    /// # Errors
    /// The database's.
    pub async fn teams(&self, after: Option<&str>, limit: i64) -> Result<Vec<Team>, StoreError> {
        let sql = "SELECT id, name, created_at, version FROM teams WHERE name > $1 ORDER BY name LIMIT $2";
        Ok(sqlx::query_as(sql).bind(after.unwrap_or_default()).bind(limit).fetch_all(self.reader()).await?)
    }

    /// Gives a team another name.
    ///
    /// # Errors
    /// The name is taken; somebody else changed it.
    pub async fn rename_team(&self, team: &Team, name: &str, version: Option<i64>) -> Result<Team, StoreError> {
        let done = sqlx::query("UPDATE teams SET name = $1, version = version + 1 WHERE id = $2 AND version = $3")
            .bind(name)
            .bind(&team.id)
            .bind(version.unwrap_or(team.version))
            .execute(self.writer())
            .await
            .map_err(|fault| taken(fault, "name", name))?;
        if done.rows_affected() == 0 {
            return Err(StoreError::Changed);
        }
        self.team(&team.id).await?.ok_or(StoreError::Changed)
    }

    /// Takes a team away that nobody belongs to; false where there is none of that id.
    ///
    /// # Errors
    /// Somebody belongs to it.
    pub async fn remove_team(&self, id: &str) -> Result<bool, StoreError> {
        let done = sqlx::query("DELETE FROM teams WHERE id = $1").bind(id).execute(self.writer()).await;
        match done {
            Ok(done) => Ok(done.rows_affected() > 0),
            Err(sqlx::Error::Database(fault)) if fault.is_foreign_key_violation() => {
                Err(StoreError::InUse { what: "the team", by: "users belong to it" })
            }
            Err(fault) => Err(fault.into()),
        }
    }
}
