//! `outbox` and `deliveries`: what happened and is to be told to webhooks, and how far that has come. An event is written in the
//! transaction of what it tells of, with a row for each endpoint that wants it.

use serde::{Deserialize, Serialize};
use sqlx::any::{AnyArguments, AnyRow};
use sqlx::{AnyConnection, Arguments, FromRow, Row};
use utoipa::ToSchema;

use super::conditions::Conditions;
use super::rows::Rows;
use super::webhooks::Webhook;
use super::{Backend, Store, StoreError};
use crate::time::Moment;
use crate::webhooks::schedule::{Health, Next};
use crate::webhooks::wants;

/// Something to be told.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// What: one of [`crate::webhooks::KINDS`].
    pub kind: String,
    /// The call it happened in; empty where it was in none.
    pub call: String,
    /// When.
    pub at: Moment,
    /// What there is to tell.
    pub data: serde_json::Value,
}

/// The endpoints that are switched on, and what each wants to be told.
#[derive(Debug, Clone, Default)]
pub(crate) struct Targets(Vec<Target>);

#[derive(Debug, Clone)]
struct Target {
    id: String,
    events: Vec<String>,
}

impl Targets {
    /// Whether anybody wants events of this kind.
    pub(crate) fn want(&self, kind: &str) -> bool {
        self.of(kind).next().is_some()
    }

    fn of(&self, kind: &str) -> impl Iterator<Item = &Target> {
        self.0.iter().filter(move |target| wants(&target.events, kind))
    }
}

/// How far a delivery has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// It is to be sent, for the first time or again.
    Pending,
    /// It arrived.
    Delivered,
    /// It did not, and is not tried again unless it is replayed.
    Dead,
}

impl DeliveryState {
    fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Dead => "dead",
        }
    }
}

/// An event on its way to an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Delivery {
    /// UUID, version 7.
    pub id: String,
    /// `webhook-id` of the message: the same each time it is sent.
    pub message: String,
    /// What happened.
    #[schema(example = "call.ended")]
    pub event: String,
    /// The call it happened in; empty where it was in none.
    pub call: String,
    /// How far it has come.
    pub state: DeliveryState,
    /// Attempts so far.
    pub attempts: i64,
    /// When it is tried next.
    pub next_at: Option<Moment>,
    /// When it was tried last.
    pub last_at: Option<Moment>,
    /// What the endpoint answered then.
    pub last_status: Option<i64>,
    /// What went wrong then.
    pub last_error: Option<String>,
    /// When the event was noted.
    pub created_at: Moment,
}

/// A delivery that is due.
#[derive(Debug, Clone)]
pub struct Due {
    /// Its id.
    pub id: String,
    /// `webhook-id`.
    pub message: String,
    /// JSON.
    pub body: String,
    /// Attempts so far.
    pub attempts: i64,
    /// The call that it is of; empty where it is of none.
    pub call: String,
}

/// What came of an attempt.
#[derive(Debug, Clone)]
pub struct Settled {
    /// The delivery.
    pub id: String,
    /// What becomes of it.
    pub next: Next,
    /// What the endpoint answered.
    pub status: Option<u16>,
    /// What went wrong.
    pub error: Option<String>,
}

/// Which deliveries a list has.
#[derive(Debug, Clone, Default)]
pub struct DeliveryFilter {
    /// How far they have come.
    pub state: Option<DeliveryState>,
    /// What happened.
    pub event: Option<String>,
}

impl<'r> FromRow<'r, AnyRow> for Delivery {
    fn from_row(row: &'r AnyRow) -> Result<Self, sqlx::Error> {
        let state = match row.try_get::<String, _>("state")?.as_str() {
            "pending" => DeliveryState::Pending,
            "delivered" => DeliveryState::Delivered,
            _ => DeliveryState::Dead,
        };
        let next_at = Moment(row.try_get("next_at")?);
        Ok(Self {
            id: row.try_get("id")?,
            message: row.try_get("event_id")?,
            event: row.try_get("kind")?,
            call: row.try_get("call")?,
            state,
            attempts: row.try_get("attempts")?,
            next_at: (state == DeliveryState::Pending).then_some(next_at),
            last_at: row.try_get::<Option<i64>, _>("last_at")?.map(Moment),
            last_status: row.try_get("last_status")?,
            last_error: row.try_get("last_error")?,
            created_at: Moment(row.try_get("created_at")?),
        })
    }
}

const COLUMNS: &str =
    "id, event_id, kind, call, state, attempts, next_at, last_at, last_status, last_error, created_at";

/// An event in the outbox.
struct Message<'a> {
    id: String,
    told: &'a Told,
    call: String,
    body: String,
}

/// What is sent of an event.
#[derive(Serialize)]
struct Body<'a> {
    data: &'a serde_json::Value,
    timestamp: Moment,
    #[serde(rename = "type")]
    kind: &'a str,
}

/// Writes events in their order and who is to have each, within whatever is under way. Those that nobody wants are not written.
pub(super) async fn put(
    connection: &mut AnyConnection,
    backend: Backend,
    told: &[Told],
    targets: &Targets,
) -> Result<(), StoreError> {
    const MESSAGES: Rows<'_> =
        Rows { before: "INSERT INTO outbox (id, kind, call, at, body) VALUES ", row: "(?, ?, ?, ?, ?)", after: "" };
    const DELIVERIES: Rows<'_> = Rows {
        before: "INSERT INTO deliveries (id, webhook_id, event_id, kind, call, state, next_at, created_at) VALUES ",
        row: "(?, ?, ?, ?, ?, 'pending', 0, ?)",
        after: "",
    };
    let mut messages = Vec::new();
    for told in told.iter().filter(|told| targets.want(&told.kind)) {
        let id = format!("msg_{}", uuid::Uuid::now_v7().simple());
        let body = Body { data: &told.data, timestamp: told.at, kind: &told.kind };
        let body = serde_json::to_string(&body).map_err(|fault| sqlx::Error::Encode(fault.into()))?;
        messages.push(Message { id, told, call: told.call.replace('\0', "\u{fffd}"), body });
    }
    let bind = |arguments: &mut AnyArguments, message: &Message<'_>| {
        arguments.add(message.id.as_str())?;
        arguments.add(message.told.kind.as_str())?;
        arguments.add(message.call.as_str())?;
        arguments.add(message.told.at.0)?;
        arguments.add(message.body.as_str())
    };
    MESSAGES.write(connection, backend, &messages, bind).await?;
    let mut deliveries: Vec<(&Target, &Message<'_>)> = Vec::new();
    for message in &messages {
        deliveries.extend(targets.of(&message.told.kind).map(|target| (target, message)));
    }
    let now = Moment::now();
    let bind = |arguments: &mut AnyArguments, (target, message): &(&Target, &Message<'_>)| {
        arguments.add(super::new_id())?;
        arguments.add(target.id.as_str())?;
        arguments.add(message.id.as_str())?;
        arguments.add(message.told.kind.as_str())?;
        arguments.add(message.call.as_str())?;
        arguments.add(now.0)
    };
    DELIVERIES.write(connection, backend, &deliveries, bind).await?;
    Ok(())
}

/// The statement of a list of deliveries, and what it compares with.
fn deliveries_list(webhook: &str, filter: &DeliveryFilter, before: Option<&str>, limit: i64) -> (String, Conditions) {
    let mut wanted = Conditions::default();
    wanted.add("webhook_id = ?", webhook);
    wanted.equals("state", filter.state.map(DeliveryState::as_str).as_ref());
    wanted.equals("kind", filter.event.as_ref());
    if let Some(before) = before {
        wanted.add("id < ?", before);
    }
    let (limit, wheres) = (wanted.value(limit), wanted.wheres());
    (format!("SELECT {COLUMNS} FROM deliveries WHERE {wheres} ORDER BY id DESC LIMIT {limit}"), wanted)
}

impl Store {
    /// The endpoints that are switched on, and what each wants.
    pub(crate) async fn targets(&self) -> Result<Targets, StoreError> {
        let rows = sqlx::query("SELECT id, events FROM webhooks WHERE enabled = 1").fetch_all(self.reader()).await?;
        let target = |row: &AnyRow| -> Result<Target, sqlx::Error> {
            let events: String = row.try_get("events")?;
            Ok(Target { id: row.try_get("id")?, events: events.split(' ').map(str::to_owned).collect() })
        };
        Ok(Targets(rows.iter().map(target).collect::<Result<_, _>>()?))
    }

    /// Writes what is to be told; nothing where nobody wants it.
    ///
    /// # Errors
    /// The database's; nothing was written then.
    pub async fn tell(&self, told: &[Told]) -> Result<(), StoreError> {
        if told.is_empty() {
            return Ok(());
        }
        let targets = self.targets().await?;
        if !told.iter().any(|told| targets.want(&told.kind)) {
            return Ok(());
        }
        let mut change = self.writer().begin().await?;
        put(&mut change, self.backend(), told, &targets).await?;
        Ok(change.commit().await?)
    }

    /// The endpoints that something is due for, and that are not another server's to serve.
    ///
    /// # Errors
    /// The database's.
    pub async fn due_webhooks(&self, node: &str, now: Moment) -> Result<Vec<String>, StoreError> {
        let sql = "SELECT w.id FROM webhooks w
                   WHERE w.enabled = 1 AND w.not_before <= $1 AND (w.lease_node = $2 OR w.lease_until <= $1)
                     AND EXISTS (SELECT 1 FROM deliveries d WHERE d.webhook_id = w.id AND d.state = 'pending' AND d.next_at <= $1)";
        Ok(sqlx::query_scalar(sql).bind(now.0).bind(node).fetch_all(self.reader()).await?)
    }

    /// Deliveries to an endpoint that are due, at most so many: of each call the first that is neither delivered nor dead.
    ///
    /// # Errors
    /// The database's.
    pub async fn due(&self, webhook: &str, now: Moment, limit: i64) -> Result<Vec<Due>, StoreError> {
        let sql =
            "SELECT d.id, d.event_id, d.attempts, d.call, o.body FROM deliveries d JOIN outbox o ON o.id = d.event_id
                   WHERE d.webhook_id = $1 AND d.state = 'pending' AND d.next_at <= $2
                     AND (d.call = '' OR NOT EXISTS (
                        SELECT 1 FROM deliveries b
                        WHERE b.webhook_id = d.webhook_id AND b.call = d.call AND b.state = 'pending' AND b.id < d.id))
                   ORDER BY d.next_at, d.id LIMIT $3";
        let rows = sqlx::query(sql).bind(webhook).bind(now.0).bind(limit).fetch_all(self.reader()).await?;
        let due = |row: &AnyRow| -> Result<Due, sqlx::Error> {
            Ok(Due {
                id: row.try_get("id")?,
                message: row.try_get("event_id")?,
                body: row.try_get("body")?,
                attempts: row.try_get("attempts")?,
                call: row.try_get("call")?,
            })
        };
        Ok(rows.iter().map(due).collect::<Result<_, _>>()?)
    }

    /// Notes what came of attempts, and how the endpoint fares. One that recovered has what waits for it sent now.
    ///
    /// # Errors
    /// The database's; nothing was noted then, and the deliveries are sent again.
    pub async fn settle(
        &self,
        webhook: &Webhook,
        settled: &[Settled],
        health: &Health,
        now: Moment,
    ) -> Result<(), StoreError> {
        let mut change = self.writer().begin().await?;
        for each in settled {
            let (state, next_at) = match each.next {
                Next::Delivered => ("delivered", now),
                Next::Again(at) => ("pending", at),
                Next::Dead => ("dead", now),
            };
            sqlx::query(
                "UPDATE deliveries SET state = $1, next_at = $2, attempts = attempts + 1, last_at = $3, last_status = $4, last_error = $5
                 WHERE id = $6 AND state = 'pending'",
            )
            .bind(state)
            .bind(next_at.0)
            .bind(now.0)
            .bind(each.status.map(i64::from))
            .bind(&each.error)
            .bind(&each.id)
            .execute(&mut *change)
            .await?;
        }
        sqlx::query("UPDATE webhooks SET failures = $1, failing_since = $2, not_before = $3 WHERE id = $4")
            .bind(health.failures)
            .bind(health.failing_since.map(|at| at.0))
            .bind(health.not_before.0)
            .bind(&webhook.id)
            .execute(&mut *change)
            .await?;
        if webhook.health.is_probed() && health.failures == 0 {
            let sql = "UPDATE deliveries SET next_at = $1 WHERE webhook_id = $2 AND state = 'pending' AND next_at > $1";
            sqlx::query(sql).bind(now.0).bind(&webhook.id).execute(&mut *change).await?;
        }
        Ok(change.commit().await?)
    }

    /// Deliveries to an endpoint, latest first, those before `before` where one is given.
    ///
    /// # Errors
    /// The database's.
    pub async fn deliveries(
        &self,
        webhook: &str,
        filter: &DeliveryFilter,
        before: Option<&str>,
        limit: i64,
    ) -> Result<Vec<Delivery>, StoreError> {
        let (sql, wanted) = deliveries_list(webhook, filter, before, limit);
        Ok(sqlx::query_as_with(sqlx::AssertSqlSafe(sql), wanted.arguments()?).fetch_all(self.reader()).await?)
    }

    /// How the database would read a list of deliveries if it had many rows, in its own words.
    #[doc(hidden)]
    pub async fn explain_deliveries(&self, webhook: &str, filter: &DeliveryFilter) -> Result<String, StoreError> {
        let (sql, wanted) = deliveries_list(webhook, filter, Some("x"), 50);
        self.explain(&sql, &wanted).await
    }

    /// One delivery to an endpoint.
    ///
    /// # Errors
    /// The database's.
    pub async fn delivery(&self, webhook: &str, id: &str) -> Result<Option<Delivery>, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!("SELECT {COLUMNS} FROM deliveries WHERE webhook_id = $1 AND id = $2"));
        Ok(sqlx::query_as(sql).bind(webhook).bind(id).fetch_optional(self.reader()).await?)
    }

    /// Has a delivery that arrived or is dead sent again; false where it is neither.
    ///
    /// # Errors
    /// The database's.
    pub async fn replay(&self, webhook: &str, id: &str, now: Moment) -> Result<bool, StoreError> {
        let sql = "UPDATE deliveries SET state = 'pending', attempts = 0, next_at = $1
                   WHERE webhook_id = $2 AND id = $3 AND state <> 'pending'";
        let done = sqlx::query(sql).bind(now.0).bind(webhook).bind(id).execute(self.writer()).await?;
        Ok(done.rows_affected() == 1)
    }

    /// Has all dead deliveries to an endpoint sent again whose events were noted since then; returns how many.
    ///
    /// # Errors
    /// The database's.
    pub async fn replay_dead(&self, webhook: &str, since: Moment, now: Moment) -> Result<u64, StoreError> {
        let sql = "UPDATE deliveries SET state = 'pending', attempts = 0, next_at = $1
                   WHERE webhook_id = $2 AND state = 'dead' AND created_at >= $3";
        let done = sqlx::query(sql).bind(now.0).bind(webhook).bind(since.0).execute(self.writer()).await?;
        Ok(done.rows_affected())
    }

    /// Takes away what was delivered before one moment and what is dead since before another; where more wait for an endpoint than
    /// `pending_limit`, the oldest are dead.
    ///
    /// # Errors
    /// The database's.
    pub async fn sweep_outbox(
        &self,
        delivered_before: Moment,
        dead_before: Moment,
        pending_limit: i64,
    ) -> Result<(), StoreError> {
        for (state, before) in [("delivered", delivered_before), ("dead", dead_before)] {
            let sql = "DELETE FROM deliveries WHERE created_at <= $1 AND state = $2";
            sqlx::query(sql).bind(before.0).bind(state).execute(self.writer()).await?;
        }
        let sql = "DELETE FROM outbox WHERE at <= $1 AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.event_id = outbox.id)";
        sqlx::query(sql).bind(delivered_before.0).execute(self.writer()).await?;
        let crowded =
            "SELECT webhook_id, COUNT(*) AS waiting FROM deliveries WHERE state = 'pending' GROUP BY webhook_id
                       HAVING COUNT(*) > $1";
        for row in sqlx::query(crowded).bind(pending_limit).fetch_all(self.reader()).await? {
            let (webhook, waiting): (String, i64) = (row.try_get("webhook_id")?, row.try_get("waiting")?);
            let sql = "UPDATE deliveries SET state = 'dead', last_error = 'too many waited behind it' WHERE id IN
                       (SELECT id FROM deliveries WHERE webhook_id = $1 AND state = 'pending' ORDER BY id LIMIT $2)";
            sqlx::query(sql).bind(&webhook).bind(waiting - pending_limit).execute(self.writer()).await?;
            tracing::warn!(
                "{} events that waited for webhook {webhook} are dead: too many waited",
                waiting - pending_limit
            );
        }
        Ok(())
    }
}
