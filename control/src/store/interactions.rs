//! `interactions` and `dispositions`: what came of calls with people, and what may come of them.

use serde::{Deserialize, Serialize};
use sqlx::{FromRow, Row, any::AnyRow};
use utoipa::ToSchema;

use super::conditions::Conditions;
use super::contacts::Whose;
use super::do_not_call::{self, DoNotCall};
use super::{Store, StoreError};
use crate::time::Moment;

/// What may come of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Disposition {
    /// Its name.
    #[schema(example = "call_back")]
    pub name: String,
    /// What people see.
    #[schema(example = "Wants to be called back")]
    pub label: String,
    /// Nothing more is to be done.
    #[serde(rename = "final")]
    pub is_final: bool,
    /// They are to be called again.
    pub call_back: bool,
    /// They are not to be called any more: their number goes on the list.
    pub do_not_call: bool,
}

/// What came of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Interaction {
    /// UUID, version 7.
    pub id: String,
    /// The call.
    pub call: Option<String>,
    /// Whom it was with.
    pub contact: Option<String>,
    /// Their number in E.164, where it is known.
    pub number: Option<String>,
    /// Who noted it.
    pub user: Option<String>,
    /// What came of it: the name of a disposition.
    pub disposition: String,
    /// What is to be known of it.
    pub note: Option<String>,
    /// When.
    pub at: Moment,
    /// When they are to be called again.
    pub follow_up_at: Option<Moment>,
    /// The team of whoever noted it, then.
    #[serde(skip)]
    pub team: Option<String>,
    /// Counts the changes: the ETag.
    #[serde(skip)]
    pub version: i64,
}

/// Which interactions a list has; what is not named is any.
#[derive(Debug, Clone, Default)]
pub struct InteractionFilter {
    /// With this contact.
    pub contact: Option<String>,
    /// With this number, in E.164.
    pub number: Option<String>,
    /// Of this call.
    pub call: Option<String>,
    /// Noted by this user.
    pub user: Option<String>,
    /// This came of it.
    pub disposition: Option<String>,
    /// Then or later.
    pub from: Option<Moment>,
    /// Before then.
    pub until: Option<Moment>,
    /// To be followed up before then.
    pub follow_up_until: Option<Moment>,
}

impl<'r> FromRow<'r, AnyRow> for Disposition {
    fn from_row(row: &'r AnyRow) -> Result<Self, sqlx::Error> {
        let flag = |column: &str| row.try_get::<i64, _>(column).map(|flag| flag != 0);
        Ok(Self {
            name: row.try_get("name")?,
            label: row.try_get("label")?,
            is_final: flag("final")?,
            call_back: flag("call_back")?,
            do_not_call: flag("do_not_call")?,
        })
    }
}

impl<'r> FromRow<'r, AnyRow> for Interaction {
    fn from_row(row: &'r AnyRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: row.try_get("id")?,
            call: row.try_get("call")?,
            contact: row.try_get("contact")?,
            number: row.try_get("number")?,
            user: row.try_get("user_id")?,
            team: row.try_get("team_id")?,
            disposition: row.try_get("disposition")?,
            note: row.try_get("note")?,
            at: Moment(row.try_get("at")?),
            follow_up_at: row.try_get::<Option<i64>, _>("follow_up_at")?.map(Moment),
            version: row.try_get("version")?,
        })
    }
}

const COLUMNS: &str =
    "i.id, i.call, i.contact, i.number, i.user_id, i.team_id, i.disposition, i.note, i.at, i.follow_up_at, i.version";

impl Store {
    /// What may come of calls, by label.
    ///
    /// # Errors
    /// The database's.
    pub async fn dispositions(&self) -> Result<Vec<Disposition>, StoreError> {
        let sql = "SELECT name, label, final, call_back, do_not_call FROM dispositions ORDER BY label, name";
        Ok(sqlx::query_as(sql).fetch_all(self.reader()).await?)
    }

    /// One of them.
    ///
    /// # Errors
    /// The database's.
    pub async fn disposition(&self, name: &str) -> Result<Option<Disposition>, StoreError> {
        let sql = "SELECT name, label, final, call_back, do_not_call FROM dispositions WHERE name = $1";
        Ok(sqlx::query_as(sql).bind(name).fetch_optional(self.reader()).await?)
    }

    /// Sets what a disposition is; makes it where there is none of that name.
    ///
    /// # Errors
    /// The database's.
    pub async fn set_disposition(&self, disposition: &Disposition) -> Result<(), StoreError> {
        let sql = "INSERT INTO dispositions (name, label, final, call_back, do_not_call) VALUES ($1, $2, $3, $4, $5)
                   ON CONFLICT (name) DO UPDATE SET label = excluded.label, final = excluded.final, call_back = excluded.call_back,
                   do_not_call = excluded.do_not_call";
        sqlx::query(sql)
            .bind(&disposition.name)
            .bind(&disposition.label)
            .bind(i64::from(disposition.is_final))
            .bind(i64::from(disposition.call_back))
            .bind(i64::from(disposition.do_not_call))
            .execute(self.writer())
            .await?;
        Ok(())
    }

    /// Takes a disposition off the list; what it came of keeps its name. False where there is none.
    ///
    /// # Errors
    /// The database's.
    pub async fn remove_disposition(&self, name: &str) -> Result<bool, StoreError> {
        let done = sqlx::query("DELETE FROM dispositions WHERE name = $1").bind(name).execute(self.writer()).await?;
        Ok(done.rows_affected() > 0)
    }

    /// How many dispositions there are.
    ///
    /// # Errors
    /// The database's.
    pub async fn count_dispositions(&self) -> Result<i64, StoreError> {
        Ok(sqlx::query_scalar("SELECT COUNT(*) FROM dispositions").fetch_one(self.reader()).await?)
    }

    /// Notes what came of a call, and puts numbers on the do-not-call list with it.
    ///
    /// # Errors
    /// The database's; nothing was written then.
    pub async fn add_interaction(
        &self,
        new: Interaction,
        not_to_call: &[DoNotCall],
    ) -> Result<Interaction, StoreError> {
        let interaction = Interaction { id: super::new_id(), version: 1, ..new };
        let mut change = self.writer().begin().await?;
        let sql = "INSERT INTO interactions (id, call, contact, number, user_id, team_id, disposition, note, at, follow_up_at)
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
        sqlx::query(sql)
            .bind(&interaction.id)
            .bind(&interaction.call)
            .bind(&interaction.contact)
            .bind(&interaction.number)
            .bind(&interaction.user)
            .bind(&interaction.team)
            .bind(&interaction.disposition)
            .bind(&interaction.note)
            .bind(interaction.at.0)
            .bind(interaction.follow_up_at.map(|at| at.0))
            .execute(&mut *change)
            .await?;
        for entry in not_to_call {
            do_not_call::add(&mut change, entry).await?;
        }
        change.commit().await?;
        Ok(interaction)
    }

    /// Changes what came of a call into what is given, and puts numbers on the do-not-call list with it.
    ///
    /// # Errors
    /// Somebody else changed it.
    pub async fn change_interaction(
        &self,
        interaction: &Interaction,
        version: Option<i64>,
        not_to_call: &[DoNotCall],
    ) -> Result<Interaction, StoreError> {
        let version = version.unwrap_or(interaction.version);
        let mut change = self.writer().begin().await?;
        let sql = "UPDATE interactions SET disposition = $1, note = $2, follow_up_at = $3, version = version + 1 WHERE id = $4 AND version = $5";
        let done = sqlx::query(sql)
            .bind(&interaction.disposition)
            .bind(&interaction.note)
            .bind(interaction.follow_up_at.map(|at| at.0))
            .bind(&interaction.id)
            .bind(version)
            .execute(&mut *change)
            .await?;
        if done.rows_affected() == 0 {
            return Err(StoreError::Changed);
        }
        for entry in not_to_call {
            do_not_call::add(&mut change, entry).await?;
        }
        change.commit().await?;
        Ok(Interaction { version: version + 1, ..interaction.clone() })
    }

    /// One interaction that somebody may see.
    ///
    /// # Errors
    /// The database's.
    pub async fn interaction(&self, whose: &Whose, id: &str) -> Result<Option<Interaction>, StoreError> {
        let mut wanted = Conditions::default();
        wanted.add("i.id = ?", id);
        whose.limit(&mut wanted, "i.user_id", "i.team_id");
        let sql = sqlx::AssertSqlSafe(format!("SELECT {COLUMNS} FROM interactions i WHERE {}", wanted.wheres()));
        Ok(sqlx::query_as_with(sql, wanted.arguments()?).fetch_optional(self.reader()).await?)
    }

    /// What came of calls, latest first, as far as somebody may see it; after this time and id where one is given.
    ///
    /// # Errors
    /// The database's.
    pub async fn interactions(
        &self,
        whose: &Whose,
        filter: &InteractionFilter,
        after: Option<(i64, &str)>,
        limit: i64,
    ) -> Result<Vec<Interaction>, StoreError> {
        let (sql, wanted) = interactions_list(whose, filter, after, limit);
        let sql = sqlx::AssertSqlSafe(sql);
        Ok(sqlx::query_as_with(sql, wanted.arguments()?).fetch_all(self.reader()).await?)
    }

    /// How the database would read such a list if it had many rows, in its own words.
    #[doc(hidden)]
    pub async fn explain_interactions(&self, whose: &Whose, filter: &InteractionFilter) -> Result<String, StoreError> {
        let (sql, wanted) = interactions_list(whose, filter, None, 50);
        self.explain(&sql, &wanted).await
    }
}

fn interactions_list(
    whose: &Whose,
    filter: &InteractionFilter,
    after: Option<(i64, &str)>,
    limit: i64,
) -> (String, Conditions) {
    let mut wanted = Conditions::default();
    whose.limit(&mut wanted, "i.user_id", "i.team_id");
    wanted.equals("i.contact", filter.contact.as_ref());
    wanted.equals("i.number", filter.number.as_ref());
    wanted.equals("i.call", filter.call.as_ref());
    wanted.equals("i.user_id", filter.user.as_ref());
    wanted.equals("i.disposition", filter.disposition.as_ref());
    for (condition, at) in
        [("i.at >= ?", filter.from), ("i.at < ?", filter.until), ("i.follow_up_at < ?", filter.follow_up_until)]
    {
        if let Some(at) = at {
            wanted.add(condition, at.0);
        }
    }
    if let Some((at, id)) = after {
        let (at, id) = (wanted.value(at), wanted.value(id));
        wanted.say(format!("(i.at, i.id) < ({at}, {id})"));
    }
    let (limit, wheres) = (wanted.value(limit), wanted.wheres());
    (format!("SELECT {COLUMNS} FROM interactions i WHERE {wheres} ORDER BY i.at DESC, i.id DESC LIMIT {limit}"), wanted)
}
