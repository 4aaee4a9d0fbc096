//! `presence`: who says that they take no calls now. Whether they are there at all is not stored.

use sqlx::{FromRow, Row, any::AnyRow};

use super::conditions::Conditions;
use super::{Store, StoreError};
use crate::time::Moment;

/// Users of one answer at most.
pub const SEATED_LIMIT: i64 = 2_000;

/// A user, as far as it matters for whether they take calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seated {
    /// The user's id.
    pub id: String,
    /// The name they log in with.
    pub name: String,
    /// The name that people see.
    pub display: String,
    /// Their team.
    pub team: Option<String>,
    /// Their device.
    pub device: Option<String>,
    /// They say that they take no calls.
    pub away: bool,
}

impl<'r> FromRow<'r, AnyRow> for Seated {
    fn from_row(row: &'r AnyRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: row.try_get("id")?,
            name: row.try_get("name")?,
            display: row.try_get("display")?,
            team: row.try_get("team_id")?,
            device: row.try_get("device")?,
            away: row.try_get::<i64, _>("away")? != 0,
        })
    }
}

const SELECT: &str = "SELECT u.id, u.name, u.display, u.team_id, u.device, COALESCE(p.away, 0) AS away FROM users u
                      LEFT JOIN presence p ON p.user_id = u.id";

impl Store {
    /// The devices of users who say that they take no calls, [`SEATED_LIMIT`] at most.
    ///
    /// # Errors
    /// The database's.
    pub async fn away_devices(&self) -> Result<Vec<String>, StoreError> {
        let sql = "SELECT DISTINCT u.device FROM presence p JOIN users u ON u.id = p.user_id
                   WHERE p.away <> 0 AND u.disabled = 0 AND u.device IS NOT NULL LIMIT $1";
        Ok(sqlx::query_scalar(sql).bind(SEATED_LIMIT).fetch_all(self.reader()).await?)
    }

    /// These users, without those who may not log in.
    ///
    /// # Errors
    /// The database's.
    pub async fn seated(&self, ids: &[String]) -> Result<Vec<Seated>, StoreError> {
        let mut all = Vec::new();
        for some in ids.chunks(200) {
            let mut wanted = Conditions::default();
            let places: Vec<String> = some.iter().map(|id| wanted.value(id.as_str())).collect();
            wanted.say(format!("u.disabled = 0 AND u.id IN ({})", places.join(", ")));
            let sql = sqlx::AssertSqlSafe(format!("{SELECT} WHERE {} ORDER BY u.name", wanted.wheres()));
            all.extend(sqlx::query_as_with(sql, wanted.arguments()?).fetch_all(self.reader()).await?);
        }
        Ok(all)
    }

    /// The users of a team, or one of them, or all; by name.
    ///
    /// # Errors
    /// The database's.
    pub async fn seated_in(&self, team: Option<&str>, user: Option<&str>) -> Result<Vec<Seated>, StoreError> {
        let mut wanted = Conditions::default();
        wanted.say("u.disabled = 0".to_owned());
        wanted.equals("u.team_id", team.map(str::to_owned).as_ref());
        wanted.equals("u.id", user.map(str::to_owned).as_ref());
        let sql =
            sqlx::AssertSqlSafe(format!("{SELECT} WHERE {} ORDER BY u.name LIMIT {SEATED_LIMIT}", wanted.wheres()));
        Ok(sqlx::query_as_with(sql, wanted.arguments()?).fetch_all(self.reader()).await?)
    }

    /// Notes whether somebody takes calls.
    ///
    /// # Errors
    /// The database's.
    pub async fn set_away(&self, user: &str, away: bool, now: Moment) -> Result<(), StoreError> {
        let sql = "INSERT INTO presence (user_id, away, since) VALUES ($1, $2, $3)
                   ON CONFLICT (user_id) DO UPDATE SET away = excluded.away, since = excluded.since";
        sqlx::query(sql).bind(user).bind(i64::from(away)).bind(now.0).execute(self.writer()).await?;
        Ok(())
    }
}
