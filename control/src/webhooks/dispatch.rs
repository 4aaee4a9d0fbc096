//! Takes what is due out of the outbox and sends it. Each endpoint is served on its own, by at most [`AT_ONCE`] messages side by side,
//! so that a slow one holds nobody else up; one that fails is asked by one message at a time.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::client::{Answer, Message};
use super::schedule::{self, Off};
use super::signature::Secret;
use crate::control::Control;
use crate::identity::secret;
use crate::ports::spans::Done;
use crate::store::StoreError;
use crate::store::outbox::{Due, Settled};
use crate::store::webhooks::Webhook;
use crate::time::Moment;

/// Messages on their way to one endpoint.
pub const AT_ONCE: i64 = 16;
/// The outbox is looked at this often.
const EVERY: Duration = Duration::from_millis(250);
/// After a fault it is looked at after twice as long each time, up to this.
const SLOWEST: Duration = Duration::from_secs(30);

/// The time and the dice, which are somebody else's in tests.
#[derive(Clone)]
pub struct World {
    /// This moment.
    pub now: Arc<dyn Fn() -> Moment + Send + Sync>,
    /// A number from 0 to 1.
    pub roll: Arc<dyn Fn() -> f64 + Send + Sync>,
}

impl World {
    /// The real ones.
    #[must_use]
    pub fn real() -> Self {
        let roll =
            || secret::random::<4>().map_or(0.5, |bytes| f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX));
        Self { now: Arc::new(Moment::now), roll: Arc::new(roll) }
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("World")
    }
}

/// Sends what is due.
#[derive(Debug, Clone)]
pub struct Dispatcher {
    control: Control,
    world: World,
}

impl Dispatcher {
    /// For a control plane.
    #[must_use]
    pub fn new(control: Control, world: World) -> Self {
        Self { control, world }
    }

    /// Sends until `stop`. What is on its way then is sent again at the next start.
    pub async fn run(self, stop: CancellationToken) {
        let (mut serving, mut served, mut wait) = (JoinSet::new(), HashSet::new(), EVERY);
        loop {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stop.cancelled() => return,
            }
            while let Some(done) = serving.try_join_next() {
                if let Ok(id) = done {
                    served.remove(&id);
                }
            }
            if serving.is_empty() {
                // Also where one of them failed.
                served.clear();
            }
            let due = match self.control.store.due_webhooks(&self.control.options.node, (self.world.now)()).await {
                Ok(due) => due,
                Err(fault) => {
                    if wait == EVERY {
                        tracing::error!("webhooks wait for the database: {fault}");
                    }
                    wait = (wait * 2).min(SLOWEST);
                    continue;
                }
            };
            wait = EVERY;
            for id in due {
                if served.insert(id.clone()) {
                    let dispatcher = self.clone();
                    serving.spawn(async move {
                        dispatcher.serve(&id).await;
                        id
                    });
                }
            }
        }
    }

    /// Sends what is due to an endpoint until nothing is.
    async fn serve(&self, id: &str) {
        loop {
            match self.deliver(id).await {
                Ok(0) => return,
                Ok(_) => {}
                // The next round tells of it, where it lasts.
                Err(fault) => return tracing::debug!("webhook {id} waits: {fault}"),
            }
        }
    }

    /// Sends what is due to an endpoint now, side by side and up to a limit; returns how many.
    ///
    /// # Errors
    /// The database's: what was sent is sent again.
    pub async fn deliver(&self, id: &str) -> Result<usize, StoreError> {
        let (store, now) = (&self.control.store, (self.world.now)());
        let Some(webhook) = store.lease_webhook(id, &self.control.options.node, now).await? else { return Ok(0) };
        if webhook.health.not_before > now {
            return Ok(0);
        }
        let secrets = secrets(&self.control, &webhook, now);
        if secrets.is_empty() {
            tracing::error!(
                "the secret of webhook {} cannot be read: it was sealed with another control.key. Rotate it",
                webhook.name
            );
            return Ok(0);
        }
        let limit = if webhook.health.is_probed() { 1 } else { AT_ONCE };
        let due = store.due(id, now, limit).await?;
        let sent = due.iter().map(|due| self.send(&webhook, message(&webhook, &secrets, due, now), &due.call));
        let answers = join_all(sent).await;
        let now = (self.world.now)();
        let settled: Vec<Settled> = due
            .iter()
            .zip(&answers)
            .map(|(due, answer)| Settled {
                id: due.id.clone(),
                next: schedule::next(due.attempts + 1, answer, now, (self.world.roll)()),
                status: answer.status(),
                error: answer.error(),
            })
            .collect();
        for answer in &answers {
            let result = if answer.is_delivered() { "delivered" } else { "failed" };
            metrics::counter!("omnivox_control_webhook_attempts_total", "result" => result).increment(1);
        }
        let (health, off) = webhook.health.after(&answers, now, (self.world.roll)());
        store.settle(&webhook, &settled, &health, now).await?;
        if health.is_probed() && !webhook.health.is_probed() {
            let last = answers.iter().find_map(|answer| answer.error()).unwrap_or_default();
            tracing::warn!("webhook {} fails and is asked by one message at a time: {last}", webhook.name);
        }
        if let Some(off) = off {
            self.switch_off(&webhook, off, now).await?;
        }
        Ok(due.len())
    }

    /// One message, told as a span of its call's.
    async fn send(&self, webhook: &Webhook, mut message: Message, call: &str) -> Answer {
        let begun = if call.is_empty() { None } else { self.control.spans.begin(call) };
        message.traceparent = begun.as_ref().map(|begun| begun.traceparent.clone());
        let answer = self.control.webhooks.send(message).await;
        if let Some(begun) = begun {
            let mut attributes =
                vec![("http.request.method", "POST".to_owned()), ("omnivox.webhook", webhook.name.clone())];
            attributes.extend(answer.status().map(|status| ("http.response.status_code", status.to_string())));
            // What an endpoint's fault names may be its address.
            let fault = (!answer.is_delivered()).then(|| "not delivered".to_owned());
            self.control.spans.end(begun, Done { name: "POST".to_owned(), attributes, fault });
        }
        answer
    }

    async fn switch_off(&self, webhook: &Webhook, off: Off, now: Moment) -> Result<(), StoreError> {
        let why = off.why();
        if self.control.store.disable_webhook(&webhook.id, Some(why), now).await? {
            tracing::warn!("webhook {} is switched off: {why}", webhook.name);
            self.control.audit_as("server", "webhook.disable", &webhook.name, json!({ "why": why })).await;
            let data = json!({ "webhook": webhook.id, "name": webhook.name, "why": why });
            self.control.live.tell(now, "webhook.disabled", "", &[], data);
        }
        Ok(())
    }
}

/// What is sent: signed anew each time, since its time is signed too.
pub(crate) fn message(webhook: &Webhook, secrets: &[Secret], due: &Due, now: Moment) -> Message {
    let seconds = now.0.div_euclid(1_000);
    let signatures: Vec<_> =
        secrets.iter().map(|secret| secret.sign(&due.message, seconds, due.body.as_bytes())).collect();
    Message {
        url: webhook.url.clone(),
        id: due.message.clone(),
        seconds,
        signatures: signatures.join(" "),
        body: due.body.clone(),
        traceparent: None,
    }
}

/// The secrets that sign at this moment, the newest first; none where the newest cannot be opened.
pub(crate) fn secrets(control: &Control, webhook: &Webhook, now: Moment) -> Vec<Secret> {
    let open = |sealed: &str| secret::open(&control.key, sealed).and_then(|text| Secret::parse(&text));
    let (newest, old) = &webhook.sealed;
    let Some(newest) = open(newest) else { return Vec::new() };
    let old = old.as_ref().filter(|(_, until)| *until > now).and_then(|(sealed, _)| open(sealed));
    std::iter::once(newest).chain(old).collect()
}
