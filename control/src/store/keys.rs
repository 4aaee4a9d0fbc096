//! `api_keys`: how programs come in, each with scopes of its own and never with more than its user may.

use serde::Serialize;
use sqlx::{FromRow, Row, any::AnyRow};
use utoipa::ToSchema;

use super::users::User;
use super::{Store, StoreError, taken};
use crate::identity::Scope;
use crate::time::Moment;

/// A key, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ApiKey {
    /// UUID, version 7.
    pub id: String,
    /// Whose it is.
    pub user: String,
    /// Their name.
    #[schema(example = "ada")]
    pub owner: String,
    /// What it is for.
    pub name: String,
    /// The first characters of the key.
    pub prefix: String,
    /// What it may be used for.
    pub scopes: Vec<Scope>,
    /// When it was made.
    pub created_at: Moment,
    /// It is good until then.
    pub expires_at: Option<Moment>,
    /// When it was last used, to the minute.
    pub used_at: Option<Moment>,
}

impl<'r> FromRow<'r, AnyRow> for ApiKey {
    fn from_row(row: &'r AnyRow) -> Result<Self, sqlx::Error> {
        let scopes: String = row.try_get("scopes")?;
        Ok(Self {
            id: row.try_get("key_id")?,
            user: row.try_get("user_id")?,
            owner: row.try_get("owner")?,
            name: row.try_get("key_name")?,
            prefix: row.try_get("prefix")?,
            scopes: scopes.split_whitespace().filter_map(Scope::parse).collect(),
            created_at: Moment(row.try_get("key_created_at")?),
            expires_at: row.try_get::<Option<i64>, _>("expires_at")?.map(Moment),
            used_at: row.try_get::<Option<i64>, _>("used_at")?.map(Moment),
        })
    }
}

/// A key to be.
#[derive(Debug, Clone)]
pub struct NewKey<'a> {
    /// Whose.
    pub user: &'a str,
    /// Their name.
    pub owner: &'a str,
    /// What it is for.
    pub name: &'a str,
    /// Hash of the secret.
    pub hash: &'a str,
    /// The first characters of the key.
    pub prefix: &'a str,
    /// What it may be used for.
    pub scopes: &'a [Scope],
    /// It is good until then.
    pub expires_at: Option<Moment>,
}

const COLUMNS: &str = "k.id AS key_id, k.user_id, u.name AS owner, k.name AS key_name, k.prefix, k.scopes, k.created_at AS key_created_at, k.expires_at, k.used_at";

impl Store {
    /// Adds a key.
    ///
    /// # Errors
    /// The user has one of that name.
    pub async fn add_key(&self, new: NewKey<'_>, now: Moment) -> Result<ApiKey, StoreError> {
        let id = super::new_id();
        let scopes = new.scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(" ");
        sqlx::query(
            "INSERT INTO api_keys (id, user_id, name, hash, prefix, scopes, created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(&id)
        .bind(new.user)
        .bind(new.name)
        .bind(new.hash)
        .bind(new.prefix)
        .bind(&scopes)
        .bind(now.0)
        .bind(new.expires_at.map(|at| at.0))
        .execute(self.writer())
        .await
        .map_err(|fault| taken(fault, "name", new.name))?;
        Ok(ApiKey {
            id,
            user: new.user.to_owned(),
            owner: new.owner.to_owned(),
            name: new.name.to_owned(),
            prefix: new.prefix.to_owned(),
            scopes: new.scopes.to_vec(),
            created_at: now,
            expires_at: new.expires_at,
            used_at: None,
        })
    }

    /// The keys of a user, or of everybody, those after `after` where one is given.
    ///
    /// # Errors
    /// The database's.
    pub async fn keys(&self, user: Option<&str>, after: Option<&str>, limit: i64) -> Result<Vec<ApiKey>, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT {COLUMNS} FROM api_keys k JOIN users u ON u.id = k.user_id
             WHERE k.id > $1 AND ($2 IS NULL OR k.user_id = $2) ORDER BY k.id LIMIT $3"
        ));
        let rows = sqlx::query_as(sql).bind(after.unwrap_or_default()).bind(user).bind(limit);
        Ok(rows.fetch_all(self.reader()).await?)
    }

    /// The key of this hash that is good, and whose it is.
    ///
    /// # Errors
    /// The database's.
    pub async fn key_by_hash(&self, hash: &str, now: Moment) -> Result<Option<(ApiKey, User)>, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT {COLUMNS}, u.id, u.name, u.display, u.role, u.team_id, u.device, u.totp_secret, u.disabled, u.created_at, u.updated_at, u.version
             FROM api_keys k JOIN users u ON u.id = k.user_id
             WHERE k.hash = $1 AND (k.expires_at IS NULL OR k.expires_at > $2) AND u.disabled = 0"
        ));
        let row = sqlx::query(sql).bind(hash).bind(now.0).fetch_optional(self.reader()).await?;
        Ok(row.map(|row| Ok::<_, sqlx::Error>((ApiKey::from_row(&row)?, User::from_row(&row)?))).transpose()?)
    }

    /// Notes that a key is used.
    ///
    /// # Errors
    /// The database's.
    pub async fn key_used(&self, id: &str, now: Moment) -> Result<(), StoreError> {
        sqlx::query("UPDATE api_keys SET used_at = $1 WHERE id = $2")
            .bind(now.0)
            .bind(id)
            .execute(self.writer())
            .await?;
        Ok(())
    }

    /// Takes a key away, of this user where one is given; false where there is none.
    ///
    /// # Errors
    /// The database's.
    pub async fn remove_key(&self, id: &str, user: Option<&str>) -> Result<bool, StoreError> {
        let sql = "DELETE FROM api_keys WHERE id = $1 AND ($2 IS NULL OR user_id = $2)";
        let done = sqlx::query(sql).bind(id).bind(user).execute(self.writer()).await?;
        Ok(done.rows_affected() > 0)
    }
}
