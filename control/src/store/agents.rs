//! `agents` and `agent_versions`: voice agents that people make. Every version stays; one at most takes calls.

use serde::{Deserialize, Serialize};
use sqlx::{FromRow, Row, any::AnyRow};
use utoipa::ToSchema;

use super::{Store, StoreError, taken};
use crate::time::Moment;

/// An agent that is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredAgent {
    /// Its name.
    pub name: String,
    /// The version that takes calls.
    pub published: Option<i64>,
    /// The newest version.
    pub latest: i64,
    /// When it last changed.
    pub updated_at: Moment,
    /// Counts the changes: the ETag.
    pub version: i64,
}

/// A version of an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AgentVersion {
    /// Counts from 1.
    pub version: i64,
    /// What is new in it.
    pub note: String,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created_at: Moment,
    /// Whether it is the one that takes calls.
    pub published: bool,
}

/// A version to be added.
#[derive(Debug, Clone, Copy)]
pub struct NewVersion<'a> {
    /// Whose.
    pub agent: &'a str,
    /// TOML.
    pub definition: &'a str,
    /// What is new in it.
    pub note: &'a str,
    /// Who made it.
    pub by: &'a str,
}

impl<'r> FromRow<'r, AnyRow> for StoredAgent {
    fn from_row(row: &'r AnyRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            name: row.try_get("name")?,
            published: row.try_get("published")?,
            latest: row.try_get("latest")?,
            updated_at: Moment(row.try_get("updated_at")?),
            version: row.try_get("version")?,
        })
    }
}

impl<'r> FromRow<'r, AnyRow> for AgentVersion {
    fn from_row(row: &'r AnyRow) -> Result<Self, sqlx::Error> {
        let published: i64 = row.try_get("is_published")?;
        Ok(Self {
            version: row.try_get("number")?,
            note: row.try_get("note")?,
            created_by: row.try_get("created_by")?,
            created_at: Moment(row.try_get("created_at")?),
            published: published != 0,
        })
    }
}

impl Store {
    /// Adds an agent with its first version, which takes no calls yet.
    ///
    /// # Errors
    /// The name is taken.
    pub async fn add_agent(&self, new: NewVersion<'_>, now: Moment) -> Result<(), StoreError> {
        let mut change = self.writer().begin().await?;
        sqlx::query("INSERT INTO agents (name, latest, created_at, updated_at) VALUES ($1, 1, $2, $2)")
            .bind(new.agent)
            .bind(now.0)
            .execute(&mut *change)
            .await
            .map_err(|fault| taken(fault, "name", new.agent))?;
        insert_version(&mut change, new, 1, now).await?;
        Ok(change.commit().await?)
    }

    /// Adds a version; returns its number. `None` where there is no such agent.
    ///
    /// # Errors
    /// The database's.
    pub async fn add_agent_version(&self, new: NewVersion<'_>, now: Moment) -> Result<Option<i64>, StoreError> {
        let mut change = self.writer().begin().await?;
        let sql = "UPDATE agents SET latest = latest + 1, updated_at = $1, version = version + 1 WHERE name = $2 RETURNING latest";
        let latest = sqlx::query(sql).bind(now.0).bind(new.agent).fetch_optional(&mut *change).await?;
        let Some(latest) = latest else { return Ok(None) };
        let number: i64 = latest.try_get("latest")?;
        insert_version(&mut change, new, number, now).await?;
        change.commit().await?;
        Ok(Some(number))
    }

    /// Agents by name, those after `after` where one is given.
    ///
    /// # Errors
    /// The database's.
    pub async fn agents(&self, after: Option<&str>, limit: i64) -> Result<Vec<StoredAgent>, StoreError> {
        let sql =
            "SELECT name, published, latest, updated_at, version FROM agents WHERE name > $1 ORDER BY name LIMIT $2";
        Ok(sqlx::query_as(sql).bind(after.unwrap_or_default()).bind(limit).fetch_all(self.reader()).await?)
    }

    /// One agent.
    ///
    /// # Errors
    /// The database's.
    pub async fn agent(&self, name: &str) -> Result<Option<StoredAgent>, StoreError> {
        let sql = "SELECT name, published, latest, updated_at, version FROM agents WHERE name = $1";
        Ok(sqlx::query_as(sql).bind(name).fetch_optional(self.reader()).await?)
    }

    /// An agent's versions, newest first, those before `before` where one is given.
    ///
    /// # Errors
    /// The database's.
    pub async fn agent_versions(
        &self,
        agent: &str,
        before: Option<i64>,
        limit: i64,
    ) -> Result<Vec<AgentVersion>, StoreError> {
        let sql = "SELECT v.number, v.note, v.created_by, v.created_at, \
                   CASE WHEN v.number = a.published THEN 1 ELSE 0 END AS is_published \
                   FROM agent_versions v JOIN agents a ON a.name = v.agent \
                   WHERE v.agent = $1 AND v.number < $2 ORDER BY v.number DESC LIMIT $3";
        let query = sqlx::query_as(sql).bind(agent).bind(before.unwrap_or(i64::MAX)).bind(limit);
        Ok(query.fetch_all(self.reader()).await?)
    }

    /// What a version says.
    ///
    /// # Errors
    /// The database's.
    pub async fn agent_definition(&self, agent: &str, number: i64) -> Result<Option<String>, StoreError> {
        let sql = "SELECT definition FROM agent_versions WHERE agent = $1 AND number = $2";
        let row = sqlx::query(sql).bind(agent).bind(number).fetch_optional(self.reader()).await?;
        Ok(row.map(|row| row.try_get("definition")).transpose()?)
    }

    /// Another version takes calls, or none does.
    ///
    /// # Errors
    /// Somebody else changed it.
    pub async fn publish_agent(
        &self,
        agent: &StoredAgent,
        number: Option<i64>,
        version: Option<i64>,
        now: Moment,
    ) -> Result<StoredAgent, StoreError> {
        let sql =
            "UPDATE agents SET published = $1, updated_at = $2, version = version + 1 WHERE name = $3 AND version = $4";
        let done = sqlx::query(sql)
            .bind(number)
            .bind(now.0)
            .bind(&agent.name)
            .bind(version.unwrap_or(agent.version))
            .execute(self.writer())
            .await?;
        if done.rows_affected() == 0 {
            return Err(StoreError::Changed);
        }
        self.agent(&agent.name).await?.ok_or(StoreError::Changed)
    }

    /// Takes an agent away with all its versions; false where there is none of that name.
    ///
    /// # Errors
    /// The database's.
    pub async fn remove_agent(&self, name: &str) -> Result<bool, StoreError> {
        let done = sqlx::query("DELETE FROM agents WHERE name = $1").bind(name).execute(self.writer()).await?;
        Ok(done.rows_affected() > 0)
    }

    /// The versions that take calls, as agent and number.
    ///
    /// # Errors
    /// The database's.
    pub async fn published_agents(&self) -> Result<Vec<(String, i64)>, StoreError> {
        let sql = "SELECT name, published FROM agents WHERE published IS NOT NULL ORDER BY name";
        let rows = sqlx::query(sql).fetch_all(self.reader()).await?;
        rows.iter().map(|row| Ok((row.try_get("name")?, row.try_get("published")?))).collect()
    }
}

async fn insert_version(
    change: &mut sqlx::Transaction<'_, sqlx::Any>,
    new: NewVersion<'_>,
    number: i64,
    now: Moment,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO agent_versions (agent, number, definition, note, created_by, created_at) VALUES ($1, $2, $3, $4, $5, $6)";
    sqlx::query(sql)
        .bind(new.agent)
        .bind(number)
        .bind(new.definition)
        .bind(new.note)
        .bind(new.by)
        .bind(now.0)
        .execute(&mut **change)
        .await?;
    Ok(())
}
