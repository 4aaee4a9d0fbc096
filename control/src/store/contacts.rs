//! `contacts` and `contact_numbers`: people who are called or call.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sqlx::{AnyConnection, FromRow, Row, any::AnyRow};
use utoipa::ToSchema;

use super::conditions::Conditions;
use super::{Store, StoreError};
use crate::time::Moment;

/// Somebody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Contact {
    /// UUID, version 7.
    pub id: String,
    /// Their name.
    #[schema(example = "Grace Hopper")]
    pub name: String,
    /// Their numbers in E.164, the first to be called first.
    #[schema(example = json!(["+4930123456"]))]
    pub numbers: Vec<String>,
    /// Their address.
    pub email: Option<String>,
    /// Where they work.
    pub company: Option<String>,
    /// What is to be known of them.
    pub note: Option<String>,
    /// The user whose contact it is.
    pub owner: Option<String>,
    /// The team that sees it.
    pub team: Option<String>,
    /// Whatever else there is to keep, by names of one's own.
    pub attributes: BTreeMap<String, String>,
    /// When it was made.
    pub created_at: Moment,
    /// When it was last changed.
    pub updated_at: Moment,
    /// Counts the changes: the ETag.
    #[serde(skip)]
    pub version: i64,
}

/// What of contacts and interactions somebody may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whose {
    /// Everybody's.
    All,
    /// Those of a team, and a user's own.
    Team {
        /// The team.
        team: String,
        /// The user.
        user: String,
    },
    /// A user's own.
    User(String),
}

impl Whose {
    /// The condition for a table whose columns are these.
    pub(super) fn limit(&self, wanted: &mut Conditions, user_column: &str, team_column: &str) {
        match self {
            Self::All => {}
            Self::User(user) => wanted.add(&format!("{user_column} = ?"), user.as_str()),
            Self::Team { team, user } => {
                let (team, user) = (wanted.value(team.as_str()), wanted.value(user.as_str()));
                wanted.say(format!("({team_column} = {team} OR {user_column} = {user})"));
            }
        }
    }
}

/// Which contacts a list has; what is not named is any.
#[derive(Debug, Clone, Default)]
pub struct ContactFilter {
    /// Has this number, in E.164.
    pub number: Option<String>,
    /// A part of the name, whatever its case.
    pub name: Option<String>,
    /// Whose it is.
    pub owner: Option<String>,
}

impl<'r> FromRow<'r, AnyRow> for Contact {
    fn from_row(row: &'r AnyRow) -> Result<Self, sqlx::Error> {
        let numbers: Option<String> = row.try_get("numbers")?;
        let attributes: String = row.try_get("attributes")?;
        Ok(Self {
            id: row.try_get("id")?,
            name: row.try_get("name")?,
            numbers: numbers.unwrap_or_default().split_whitespace().map(Into::into).collect(),
            email: row.try_get("email")?,
            company: row.try_get("company")?,
            note: row.try_get("note")?,
            owner: row.try_get("owner")?,
            team: row.try_get("team_id")?,
            attributes: serde_json::from_str(&attributes).map_err(|fault| sqlx::Error::Decode(fault.into()))?,
            created_at: Moment(row.try_get("created_at")?),
            updated_at: Moment(row.try_get("updated_at")?),
            version: row.try_get("version")?,
        })
    }
}

const COLUMNS: &str = "c.id, c.name, c.email, c.company, c.note, c.owner, c.team_id, c.attributes, c.created_at, c.updated_at, c.version, \
                       (SELECT string_agg(n.number, ' ' ORDER BY n.position) FROM contact_numbers n WHERE n.contact = c.id) AS numbers";

/// A name as lists sort it and searches look into it.
#[must_use]
pub fn folded(name: &str) -> String {
    name.to_lowercase()
}

impl Store {
    /// Adds a contact; id, times and version are made here.
    ///
    /// # Errors
    /// Owner or team is not there.
    pub async fn add_contact(&self, new: Contact, now: Moment) -> Result<Contact, StoreError> {
        let contact = Contact { id: super::new_id(), created_at: now, updated_at: now, version: 1, ..new };
        self.belongs(&contact).await?;
        let mut change = self.writer().begin().await?;
        let sql = "INSERT INTO contacts (id, name, folded, email, company, note, owner, team_id, attributes, created_at, updated_at)
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10)";
        sqlx::query(sql)
            .bind(&contact.id)
            .bind(&contact.name)
            .bind(folded(&contact.name))
            .bind(&contact.email)
            .bind(&contact.company)
            .bind(&contact.note)
            .bind(&contact.owner)
            .bind(&contact.team)
            .bind(attributes(&contact))
            .bind(now.0)
            .execute(&mut *change)
            .await?;
        set_numbers(&mut change, &contact).await?;
        change.commit().await?;
        Ok(contact)
    }

    /// Changes a contact into what is given, where nobody else changed it since it was read.
    ///
    /// # Errors
    /// Owner or team is not there; somebody else changed it.
    pub async fn change_contact(
        &self,
        contact: &Contact,
        version: Option<i64>,
        now: Moment,
    ) -> Result<Contact, StoreError> {
        self.belongs(contact).await?;
        let mut change = self.writer().begin().await?;
        let sql = "UPDATE contacts SET name = $1, folded = $2, email = $3, company = $4, note = $5, owner = $6, team_id = $7, attributes = $8,
                   updated_at = $9, version = version + 1 WHERE id = $10 AND version = $11";
        let done = sqlx::query(sql)
            .bind(&contact.name)
            .bind(folded(&contact.name))
            .bind(&contact.email)
            .bind(&contact.company)
            .bind(&contact.note)
            .bind(&contact.owner)
            .bind(&contact.team)
            .bind(attributes(contact))
            .bind(now.0)
            .bind(&contact.id)
            .bind(version.unwrap_or(contact.version))
            .execute(&mut *change)
            .await?;
        if done.rows_affected() == 0 {
            return Err(StoreError::Changed);
        }
        sqlx::query("DELETE FROM contact_numbers WHERE contact = $1").bind(&contact.id).execute(&mut *change).await?;
        set_numbers(&mut change, contact).await?;
        change.commit().await?;
        Ok(Contact { updated_at: now, version: version.unwrap_or(contact.version) + 1, ..contact.clone() })
    }

    /// Takes a contact away; what came of calls with them stays, without them. False where there is none.
    ///
    /// # Errors
    /// The database's.
    pub async fn remove_contact(&self, id: &str) -> Result<bool, StoreError> {
        let done = sqlx::query("DELETE FROM contacts WHERE id = $1").bind(id).execute(self.writer()).await?;
        Ok(done.rows_affected() > 0)
    }

    /// One contact that somebody may see.
    ///
    /// # Errors
    /// The database's.
    pub async fn contact(&self, whose: &Whose, id: &str) -> Result<Option<Contact>, StoreError> {
        let mut wanted = Conditions::default();
        wanted.add("c.id = ?", id);
        whose.limit(&mut wanted, "c.owner", "c.team_id");
        let sql = sqlx::AssertSqlSafe(format!("SELECT {COLUMNS} FROM contacts c WHERE {}", wanted.wheres()));
        Ok(sqlx::query_as_with(sql, wanted.arguments()?).fetch_optional(self.reader()).await?)
    }

    /// Contacts by name that somebody may see, those after this name (as [`folded`]) and id where one is given.
    ///
    /// # Errors
    /// The database's.
    pub async fn contacts(
        &self,
        whose: &Whose,
        filter: &ContactFilter,
        after: Option<(&str, &str)>,
        limit: i64,
    ) -> Result<Vec<Contact>, StoreError> {
        let (sql, wanted) = contacts_list(whose, filter, after, limit);
        let sql = sqlx::AssertSqlSafe(sql);
        Ok(sqlx::query_as_with(sql, wanted.arguments()?).fetch_all(self.reader()).await?)
    }

    /// How the database would read such a list if it had many rows, in its own words.
    #[doc(hidden)]
    pub async fn explain_contacts(&self, whose: &Whose, filter: &ContactFilter) -> Result<String, StoreError> {
        let (sql, wanted) = contacts_list(whose, filter, None, 50);
        self.explain(&sql, &wanted).await
    }

    async fn belongs(&self, contact: &Contact) -> Result<(), StoreError> {
        for (field, sql, id) in [
            ("owner", "SELECT COUNT(*) FROM users WHERE id = $1", &contact.owner),
            ("team", "SELECT COUNT(*) FROM teams WHERE id = $1", &contact.team),
        ] {
            let Some(id) = id else { continue };
            let known: i64 = sqlx::query_scalar(sql).bind(id).fetch_one(self.reader()).await?;
            if known == 0 {
                return Err(StoreError::Missing { field, value: id.clone() });
            }
        }
        Ok(())
    }
}

fn contacts_list(
    whose: &Whose,
    filter: &ContactFilter,
    after: Option<(&str, &str)>,
    limit: i64,
) -> (String, Conditions) {
    let mut wanted = Conditions::default();
    whose.limit(&mut wanted, "c.owner", "c.team_id");
    wanted.equals("c.owner", filter.owner.as_ref());
    if let Some(number) = &filter.number {
        wanted.add("c.id IN (SELECT n.contact FROM contact_numbers n WHERE n.number = ?)", number.as_str());
    }
    if let Some(name) = &filter.name {
        // What stands for any character in LIKE is one of the name's here.
        let part = folded(name).replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
        wanted.add("c.folded LIKE ? ESCAPE '\\'", format!("%{part}%"));
    }
    if let Some((name, id)) = after {
        let (name, id) = (wanted.value(name), wanted.value(id));
        wanted.say(format!("(c.folded, c.id) > ({name}, {id})"));
    }
    let (limit, wheres) = (wanted.value(limit), wanted.wheres());
    (format!("SELECT {COLUMNS} FROM contacts c WHERE {wheres} ORDER BY c.folded, c.id LIMIT {limit}"), wanted)
}

fn attributes(contact: &Contact) -> String {
    serde_json::to_string(&contact.attributes).unwrap_or_else(|_| "{}".to_owned())
}

async fn set_numbers(connection: &mut AnyConnection, contact: &Contact) -> Result<(), StoreError> {
    for (position, number) in (0_i64..).zip(&contact.numbers) {
        let sql = "INSERT INTO contact_numbers (contact, position, number) VALUES ($1, $2, $3)";
        sqlx::query(sql).bind(&contact.id).bind(position).bind(number).execute(&mut *connection).await?;
    }
    Ok(())
}
