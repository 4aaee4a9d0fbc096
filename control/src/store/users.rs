//! `users`: who may log in, as what, and with which SIP account they take calls.

use serde::{Deserialize, Serialize};
use sqlx::{FromRow, Row, any::AnyRow};
use utoipa::ToSchema;

use super::{Store, StoreError, taken};
use crate::identity::Role;
use crate::time::Moment;

/// A user, as the interface shows one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct User {
    /// UUID, version 7.
    pub id: String,
    /// The name to log in with, lower case.
    #[schema(example = "ada")]
    pub name: String,
    /// The name that people see.
    #[schema(example = "Ada Lovelace")]
    pub display: String,
    /// What the user may do.
    pub role: Role,
    /// The team they belong to.
    pub team: Option<String>,
    /// The SIP account they take calls with, a name in `[[devices]]`.
    pub device: Option<String>,
    /// May not log in.
    pub disabled: bool,
    /// A second factor is asked for.
    pub second_factor: bool,
    /// When the account was made.
    pub created_at: Moment,
    /// When it was last changed.
    pub updated_at: Moment,
    /// Counts the changes: the ETag.
    #[serde(skip)]
    pub version: i64,
}

/// What logging in needs to know of a user.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// Whose.
    pub user: User,
    /// The password, as argon2 writes it.
    pub password_hash: String,
    /// The second factor's secret.
    pub totp_secret: Option<String>,
    /// The last time step that a code was taken of.
    pub totp_step: i64,
    /// Wrong passwords since the last right one.
    pub failed_logins: i64,
    /// No password is looked at before this moment.
    pub locked_until: Moment,
}

/// A user to be.
#[derive(Debug, Clone)]
pub struct NewUser {
    /// The name to log in with.
    pub name: String,
    /// The name that people see.
    pub display: String,
    /// What the user may do.
    pub role: Role,
    /// The team they belong to.
    pub team: Option<String>,
    /// Their SIP account.
    pub device: Option<String>,
    /// The password, as argon2 writes it.
    pub password_hash: String,
}

/// What of a user changes; the rest stays.
#[derive(Debug, Clone, Default)]
pub struct UserChange {
    /// The name that people see.
    pub display: Option<String>,
    /// What the user may do.
    pub role: Option<Role>,
    /// The team, or none.
    pub team: Option<Option<String>>,
    /// The SIP account, or none.
    pub device: Option<Option<String>>,
    /// May not log in.
    pub disabled: Option<bool>,
}

const COLUMNS: &str =
    "id, name, display, role, team_id, device, totp_secret, disabled, created_at, updated_at, version";

impl<'r> FromRow<'r, AnyRow> for User {
    fn from_row(row: &'r AnyRow) -> Result<Self, sqlx::Error> {
        let role: String = row.try_get("role")?;
        let fault = |what: String| sqlx::Error::ColumnDecode { index: "role".into(), source: what.into() };
        Ok(Self {
            id: row.try_get("id")?,
            name: row.try_get("name")?,
            display: row.try_get("display")?,
            role: Role::parse(&role).ok_or_else(|| fault(format!("no role is called {role}")))?,
            team: row.try_get("team_id")?,
            device: row.try_get("device")?,
            disabled: row.try_get::<i64, _>("disabled")? != 0,
            second_factor: row.try_get::<Option<String>, _>("totp_secret")?.is_some(),
            created_at: Moment(row.try_get("created_at")?),
            updated_at: Moment(row.try_get("updated_at")?),
            version: row.try_get("version")?,
        })
    }
}

impl<'r> FromRow<'r, AnyRow> for Credentials {
    fn from_row(row: &'r AnyRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            user: User::from_row(row)?,
            password_hash: row.try_get("password_hash")?,
            totp_secret: row.try_get("totp_secret")?,
            totp_step: row.try_get("totp_step")?,
            failed_logins: row.try_get("failed_logins")?,
            locked_until: Moment(row.try_get("locked_until")?),
        })
    }
}

impl Store {
    /// Adds a user.
    ///
    /// # Errors
    /// The name or the device is taken, the team does not exist.
    pub async fn add_user(&self, new: NewUser, now: Moment) -> Result<User, StoreError> {
        self.team_exists(new.team.as_deref()).await?;
        let id = insert(&mut *self.writer().acquire().await?, &new, now).await?;
        self.user(&id).await?.ok_or(StoreError::Changed)
    }

    /// Changes a user whom nobody else has changed since `version`, where one is given.
    ///
    /// # Errors
    /// Somebody has; the device is taken; the team does not exist.
    pub async fn change_user(
        &self,
        user: &User,
        change: UserChange,
        version: Option<i64>,
        now: Moment,
    ) -> Result<User, StoreError> {
        self.team_exists(change.team.as_ref().and_then(Option::as_deref)).await?;
        let device = change.device.unwrap_or_else(|| user.device.clone());
        let done = sqlx::query(
            "UPDATE users SET display = $1, role = $2, team_id = $3, device = $4, disabled = $5, updated_at = $6, version = version + 1
             WHERE id = $7 AND version = $8",
        )
        .bind(change.display.unwrap_or_else(|| user.display.clone()))
        .bind(change.role.unwrap_or(user.role).as_str())
        .bind(change.team.unwrap_or_else(|| user.team.clone()))
        .bind(&device)
        .bind(i64::from(change.disabled.unwrap_or(user.disabled)))
        .bind(now.0)
        .bind(&user.id)
        .bind(version.unwrap_or(user.version))
        .execute(self.writer())
        .await
        .map_err(|fault| which_is_taken(fault, "", device.as_deref()))?;
        if done.rows_affected() == 0 {
            return Err(StoreError::Changed);
        }
        self.user(&user.id).await?.ok_or(StoreError::Changed)
    }

    /// Takes a user away, with their sessions and keys; false where there is none.
    ///
    /// # Errors
    /// The database's.
    pub async fn remove_user(&self, id: &str) -> Result<bool, StoreError> {
        let done = sqlx::query("DELETE FROM users WHERE id = $1").bind(id).execute(self.writer()).await?;
        Ok(done.rows_affected() > 0)
    }

    /// One user.
    ///
    /// # Errors
    /// The database's.
    pub async fn user(&self, id: &str) -> Result<Option<User>, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!("SELECT {COLUMNS} FROM users WHERE id = $1"));
        Ok(sqlx::query_as(sql).bind(id).fetch_optional(self.reader()).await?)
    }

    /// Users by name, those after `after` where one is given; of one team, or all.
    ///
    /// # Errors
    /// The database's.
    pub async fn users(&self, team: Option<&str>, after: Option<&str>, limit: i64) -> Result<Vec<User>, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT {COLUMNS} FROM users WHERE name > $1 AND ($2 IS NULL OR team_id = $2) ORDER BY name LIMIT $3"
        ));
        let rows = sqlx::query_as(sql).bind(after.unwrap_or_default()).bind(team).bind(limit);
        Ok(rows.fetch_all(self.reader()).await?)
    }

    /// The devices of a team's members.
    ///
    /// # Errors
    /// The database's.
    pub async fn devices_of_team(&self, team: &str) -> Result<Vec<String>, StoreError> {
        let sql = "SELECT device FROM users WHERE team_id = $1 AND device IS NOT NULL ORDER BY device";
        Ok(sqlx::query_scalar(sql).bind(team).fetch_all(self.reader()).await?)
    }

    /// How many administrators may log in.
    ///
    /// # Errors
    /// The database's.
    pub async fn administrators(&self) -> Result<i64, StoreError> {
        let sql = "SELECT COUNT(*) FROM users WHERE role = 'administrator' AND disabled = 0";
        Ok(sqlx::query_scalar(sql).fetch_one(self.reader()).await?)
    }

    /// What logging in by a name needs to know.
    ///
    /// # Errors
    /// The database's.
    pub async fn credentials(&self, name: &str) -> Result<Option<Credentials>, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT {COLUMNS}, password_hash, totp_step, failed_logins, locked_until FROM users WHERE name = $1"
        ));
        Ok(sqlx::query_as(sql).bind(name).fetch_optional(self.reader()).await?)
    }

    /// Sets the password; whoever is logged in is so no more.
    ///
    /// # Errors
    /// The database's.
    pub async fn set_password(&self, id: &str, hash: &str, now: Moment) -> Result<(), StoreError> {
        let mut change = self.writer().begin().await?;
        sqlx::query(
            "UPDATE users SET password_hash = $1, failed_logins = 0, locked_until = 0, updated_at = $2, version = version + 1 WHERE id = $3",
        )
        .bind(hash)
        .bind(now.0)
        .bind(id)
        .execute(&mut *change)
        .await?;
        for sql in ["DELETE FROM sessions WHERE user_id = $1", "DELETE FROM refresh_tokens WHERE user_id = $1"] {
            sqlx::query(sql).bind(id).execute(&mut *change).await?;
        }
        Ok(change.commit().await?)
    }

    /// Sets the second factor's secret, or takes it away.
    ///
    /// # Errors
    /// The database's.
    pub async fn set_second_factor(&self, id: &str, secret: Option<&str>, now: Moment) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE users SET totp_secret = $1, totp_step = 0, updated_at = $2, version = version + 1 WHERE id = $3",
        )
        .bind(secret)
        .bind(now.0)
        .bind(id)
        .execute(self.writer())
        .await?;
        Ok(())
    }

    /// Notes that a code of this time step was used; false where one of it, or of a later one, was before.
    ///
    /// # Errors
    /// The database's.
    pub async fn use_code(&self, id: &str, step: i64) -> Result<bool, StoreError> {
        let done = sqlx::query("UPDATE users SET totp_step = $1 WHERE id = $2 AND totp_step < $1")
            .bind(step)
            .bind(id)
            .execute(self.writer())
            .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Notes a wrong password, and until when no other is looked at.
    ///
    /// # Errors
    /// The database's.
    pub async fn login_failed(&self, id: &str, locked_until: Moment) -> Result<(), StoreError> {
        sqlx::query("UPDATE users SET failed_logins = failed_logins + 1, locked_until = $1 WHERE id = $2")
            .bind(locked_until.0)
            .bind(id)
            .execute(self.writer())
            .await?;
        Ok(())
    }

    /// Forgets wrong passwords.
    ///
    /// # Errors
    /// The database's.
    pub async fn login_succeeded(&self, id: &str) -> Result<(), StoreError> {
        sqlx::query("UPDATE users SET failed_logins = 0, locked_until = 0 WHERE id = $1 AND failed_logins > 0")
            .bind(id)
            .execute(self.writer())
            .await?;
        Ok(())
    }

    async fn team_exists(&self, team: Option<&str>) -> Result<(), StoreError> {
        let Some(team) = team else { return Ok(()) };
        match self.team(team).await? {
            Some(_) => Ok(()),
            None => Err(StoreError::Missing { field: "team", value: team.to_owned() }),
        }
    }
}

/// Adds the row, within whatever is under way; returns the id.
pub(super) async fn insert(
    connection: &mut sqlx::AnyConnection,
    new: &NewUser,
    now: Moment,
) -> Result<String, StoreError> {
    let id = super::new_id();
    sqlx::query(
        "INSERT INTO users (id, name, display, role, team_id, device, password_hash, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8)",
    )
    .bind(&id)
    .bind(&new.name)
    .bind(&new.display)
    .bind(new.role.as_str())
    .bind(&new.team)
    .bind(&new.device)
    .bind(&new.password_hash)
    .bind(now.0)
    .execute(connection)
    .await
    .map_err(|fault| which_is_taken(fault, &new.name, new.device.as_deref()))?;
    Ok(id)
}

/// Which of the two that have to be unique is taken: SQLite and PostgreSQL both name the column.
fn which_is_taken(fault: sqlx::Error, name: &str, device: Option<&str>) -> StoreError {
    let is_device = matches!(&fault, sqlx::Error::Database(database) if database.message().contains("device"));
    match device {
        Some(device) if is_device => taken(fault, "device", device),
        _ => taken(fault, "name", name),
    }
}
