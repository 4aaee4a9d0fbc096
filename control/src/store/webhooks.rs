//! `webhooks`: who is told by HTTP of what happens, and how each fares. Secrets stand here sealed with the server's key.

use serde::Serialize;
use sqlx::{FromRow, Row, any::AnyRow};
use utoipa::ToSchema;

use super::{Store, StoreError, taken};
use crate::time::Moment;
use crate::webhooks::schedule::Health;

/// A server keeps an endpoint to itself for so long after it last began to send, in seconds.
const LEASE_S: i64 = 120;

/// An endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Webhook {
    /// UUID, version 7.
    pub id: String,
    /// What it is for.
    #[schema(example = "crm")]
    pub name: String,
    /// Where it is.
    #[schema(example = "https://crm.example.com/hooks/omnivox")]
    pub url: String,
    /// What it is told of: names of events, or `*`.
    pub events: Vec<String>,
    /// It is told.
    pub enabled: bool,
    /// How it fares.
    pub state: WebhookState,
    /// Why the server switched it off.
    pub disabled_why: Option<String>,
    /// Since when it fails.
    pub failing_since: Option<Moment>,
    /// The secrets that sign: the newest first.
    pub secrets: Vec<SecretHint>,
    /// When it was added.
    pub created_at: Moment,
    /// When it was last changed.
    pub updated_at: Moment,
    /// Counts the changes: the ETag.
    #[serde(skip)]
    pub version: i64,
    /// Sealed: the secret, and the one before with the end of its time.
    #[serde(skip)]
    pub sealed: (String, Option<(String, Moment)>),
    /// How it fares, in full.
    #[serde(skip)]
    pub health: Health,
}

/// How an endpoint fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WebhookState {
    /// What was last sent arrived, or nothing was yet.
    Healthy,
    /// Several deliveries failed: it is asked by one at a time until one arrives.
    Failing,
    /// It is switched off.
    Disabled,
}

/// What is shown of a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct SecretHint {
    /// Its first characters.
    #[schema(example = "whsec_MfKQ…")]
    pub hint: String,
    /// It signs until then; always where it does not say.
    pub until: Option<Moment>,
}

/// An endpoint to be.
#[derive(Debug, Clone)]
pub struct NewWebhook<'a> {
    /// What it is for.
    pub name: &'a str,
    /// Where it is.
    pub url: &'a str,
    /// What it is told of.
    pub events: &'a [String],
    /// It is told.
    pub enabled: bool,
    /// The secret, sealed.
    pub sealed: &'a str,
    /// What is shown of it.
    pub hint: &'a str,
}

/// What of an endpoint changes; the rest stays.
#[derive(Debug, Clone, Default)]
pub struct WebhookChange {
    /// What it is for.
    pub name: Option<String>,
    /// Where it is.
    pub url: Option<String>,
    /// What it is told of.
    pub events: Option<Vec<String>>,
    /// It is told.
    pub enabled: Option<bool>,
}

const COLUMNS: &str = "id, name, url, events, enabled, disabled_why, secret, hint, old_secret, old_hint, old_until, failures, \
                       failing_since, not_before, created_at, updated_at, version";

impl<'r> FromRow<'r, AnyRow> for Webhook {
    fn from_row(row: &'r AnyRow) -> Result<Self, sqlx::Error> {
        let events: String = row.try_get("events")?;
        let enabled = row.try_get::<i64, _>("enabled")? != 0;
        let old: Option<(String, String, i64)> = match row.try_get::<Option<String>, _>("old_secret")? {
            Some(secret) => Some((secret, row.try_get("old_hint")?, row.try_get("old_until")?)),
            None => None,
        };
        let failing_since = row.try_get::<Option<i64>, _>("failing_since")?.map(Moment);
        let health = Health {
            failures: row.try_get("failures")?,
            failing_since,
            not_before: Moment(row.try_get("not_before")?),
        };
        let mut secrets = vec![SecretHint { hint: row.try_get("hint")?, until: None }];
        secrets.extend(
            old.as_ref().map(|(_, hint, until)| SecretHint { hint: hint.clone(), until: Some(Moment(*until)) }),
        );
        Ok(Self {
            id: row.try_get("id")?,
            name: row.try_get("name")?,
            url: row.try_get("url")?,
            events: events.split(' ').map(str::to_owned).collect(),
            enabled,
            state: match (enabled, health.is_probed()) {
                (false, _) => WebhookState::Disabled,
                (true, true) => WebhookState::Failing,
                (true, false) => WebhookState::Healthy,
            },
            disabled_why: row.try_get("disabled_why")?,
            failing_since,
            secrets,
            created_at: Moment(row.try_get("created_at")?),
            updated_at: Moment(row.try_get("updated_at")?),
            version: row.try_get("version")?,
            sealed: (row.try_get("secret")?, old.map(|(secret, _, until)| (secret, Moment(until)))),
            health,
        })
    }
}

impl Store {
    /// Adds an endpoint, where there are fewer than `limit`.
    ///
    /// # Errors
    /// The name is taken; there are too many.
    pub async fn add_webhook(&self, new: NewWebhook<'_>, limit: i64, now: Moment) -> Result<Webhook, StoreError> {
        let id = super::new_id();
        let done = sqlx::query(
            "INSERT INTO webhooks (id, name, url, events, enabled, secret, hint, created_at, updated_at)
             SELECT $1, $2, $3, $4, CAST($5 AS BIGINT), $6, $7, CAST($8 AS BIGINT), CAST($8 AS BIGINT)
             WHERE (SELECT COUNT(*) FROM webhooks) < $9",
        )
        .bind(&id)
        .bind(new.name)
        .bind(new.url)
        .bind(new.events.join(" "))
        .bind(i64::from(new.enabled))
        .bind(new.sealed)
        .bind(new.hint)
        .bind(now.0)
        .bind(limit)
        .execute(self.writer())
        .await
        .map_err(|fault| taken(fault, "name", new.name))?;
        if done.rows_affected() == 0 {
            return Err(StoreError::InUse { what: "another webhook", by: "there are as many as may be" });
        }
        self.webhook(&id).await?.ok_or(StoreError::Changed)
    }

    /// Changes an endpoint that nobody else has changed since `version`, where one is given. One that is switched on begins healthy.
    ///
    /// # Errors
    /// Somebody has; the name is taken.
    pub async fn change_webhook(
        &self,
        webhook: &Webhook,
        change: WebhookChange,
        version: Option<i64>,
        now: Moment,
    ) -> Result<Webhook, StoreError> {
        let name = change.name.unwrap_or_else(|| webhook.name.clone());
        let enabled = change.enabled.unwrap_or(webhook.enabled);
        // Another address is another endpoint: what the one before did is not held against it.
        let begins_anew = (enabled && !webhook.enabled) || change.url.as_ref().is_some_and(|url| *url != webhook.url);
        let health = if begins_anew { Health::default() } else { webhook.health };
        let done = sqlx::query(
            "UPDATE webhooks SET name = $1, url = $2, events = $3, enabled = $4, disabled_why = $5, failures = $6, failing_since = $7,
                                 not_before = $8, updated_at = $9, version = version + 1
             WHERE id = $10 AND version = $11",
        )
        .bind(&name)
        .bind(change.url.unwrap_or_else(|| webhook.url.clone()))
        .bind(change.events.unwrap_or_else(|| webhook.events.clone()).join(" "))
        .bind(i64::from(enabled))
        .bind(if enabled { None } else { webhook.disabled_why.clone() })
        .bind(health.failures)
        .bind(health.failing_since.map(|at| at.0))
        .bind(health.not_before.0)
        .bind(now.0)
        .bind(&webhook.id)
        .bind(version.unwrap_or(webhook.version))
        .execute(self.writer())
        .await
        .map_err(|fault| taken(fault, "name", &name))?;
        if done.rows_affected() == 0 {
            return Err(StoreError::Changed);
        }
        self.webhook(&webhook.id).await?.ok_or(StoreError::Changed)
    }

    /// Gives an endpoint another secret, sealed, with what is shown of it; the one before signs too until then.
    ///
    /// # Errors
    /// It is gone, or was changed meanwhile.
    pub async fn rotate_webhook(
        &self,
        webhook: &Webhook,
        (sealed, hint): (&str, &str),
        until: Moment,
        now: Moment,
    ) -> Result<Webhook, StoreError> {
        let done = sqlx::query(
            "UPDATE webhooks SET old_secret = secret, old_hint = hint, old_until = $1, secret = $2, hint = $3, updated_at = $4,
                                 version = version + 1
             WHERE id = $5 AND version = $6",
        )
        .bind(until.0)
        .bind(sealed)
        .bind(hint)
        .bind(now.0)
        .bind(&webhook.id)
        .bind(webhook.version)
        .execute(self.writer())
        .await?;
        if done.rows_affected() == 0 {
            return Err(StoreError::Changed);
        }
        self.webhook(&webhook.id).await?.ok_or(StoreError::Changed)
    }

    /// Switches an endpoint off; what waits for it is dead. False where it was off already.
    ///
    /// # Errors
    /// The database's.
    pub async fn disable_webhook(&self, id: &str, why: Option<&str>, now: Moment) -> Result<bool, StoreError> {
        let mut change = self.writer().begin().await?;
        let sql = "UPDATE webhooks SET enabled = 0, disabled_why = $1, updated_at = $2, version = version + 1 WHERE id = $3 AND enabled = 1";
        let done = sqlx::query(sql).bind(why).bind(now.0).bind(id).execute(&mut *change).await?.rows_affected() == 1;
        let sql = "UPDATE deliveries SET state = 'dead', last_error = 'the endpoint was switched off' WHERE webhook_id = $1 AND state = 'pending'";
        sqlx::query(sql).bind(id).execute(&mut *change).await?;
        change.commit().await?;
        Ok(done)
    }

    /// Takes an endpoint away with what waits for it; false where there is none.
    ///
    /// # Errors
    /// The database's.
    pub async fn remove_webhook(&self, id: &str) -> Result<bool, StoreError> {
        let done = sqlx::query("DELETE FROM webhooks WHERE id = $1").bind(id).execute(self.writer()).await?;
        Ok(done.rows_affected() > 0)
    }

    /// One endpoint.
    ///
    /// # Errors
    /// The database's.
    pub async fn webhook(&self, id: &str) -> Result<Option<Webhook>, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!("SELECT {COLUMNS} FROM webhooks WHERE id = $1"));
        Ok(sqlx::query_as(sql).bind(id).fetch_optional(self.reader()).await?)
    }

    /// Endpoints by name, those after `after` where one is given.
    ///
    /// # Errors
    /// The database's.
    pub async fn webhooks(&self, after: Option<&str>, limit: i64) -> Result<Vec<Webhook>, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!("SELECT {COLUMNS} FROM webhooks WHERE name > $1 ORDER BY name LIMIT $2"));
        Ok(sqlx::query_as(sql).bind(after.unwrap_or_default()).bind(limit).fetch_all(self.reader()).await?)
    }

    /// An endpoint, kept from other servers for a while; `None` where another has it, or it is gone or switched off.
    ///
    /// # Errors
    /// The database's.
    pub async fn lease_webhook(&self, id: &str, node: &str, now: Moment) -> Result<Option<Webhook>, StoreError> {
        let sql = "UPDATE webhooks SET lease_node = $1, lease_until = $2 WHERE id = $3 AND enabled = 1 AND (lease_node = $1 OR lease_until <= $4)";
        let row = sqlx::query(sql).bind(node).bind(now.after_s(LEASE_S).0).bind(id).bind(now.0);
        if row.execute(self.writer()).await?.rows_affected() == 0 {
            return Ok(None);
        }
        self.webhook(id).await
    }
}
