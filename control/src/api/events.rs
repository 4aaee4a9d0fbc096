//! What happens, as it does: server-sent events, or a WebSocket where the client asks for one. Each event has an id to go on after.
//! Whoever sees only some calls is told of those alone, and whoever is no longer logged in is told nothing more.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{FromRequestParts, Request, State};
use axum::http::header;
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::broadcast;
use tokio::time::Instant;
use utoipa::IntoParams;

use super::calls::{devices, sees};
use super::extract::Params;
use super::problem::Problem;
use crate::control::Control;
use crate::identity::{Caller, Means, Role};
use crate::live::Reader;
use crate::ports::{Event, Person};
use crate::presence::Connection;

/// Who may see what is looked up anew this often.
const LOOKED_UP_EVERY: Duration = Duration::from_secs(15);
/// A quiet stream says that it lives.
const ALIVE_EVERY: Duration = Duration::from_secs(15);
/// Close codes of RFC 6455 section 7.4.1: the server goes, whoever reads may not any more.
const GOING_AWAY: u16 = 1001;
const POLICY: u16 = 1008;

/// Where to begin.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct After {
    /// The id of the event one had last; `Last-Event-ID` does as well. From now on where neither says.
    after: Option<u64>,
}

/// Watch what happens
///
/// `call.started`, `call.changed`, `call.answered`, `call.ended`, `turn`, `agent.says`, `interrupted`, `provider.failed`, `tone`, `conference.speaker`, `operator.presence`, `queue.changed`; and `gap` where events were lost
/// to a reader that was away for too long or reads too slowly: what it shows has to be read anew. By WebSocket each message is an event
/// as JSON; by server-sent events its `data` is.
#[utoipa::path(get, path = "/api/v1/events", operation_id = "watchEvents", tag = "events",
    params(After, ("Last-Event-ID" = Option<u64>, Header, description = "The id of the event one had last")),
    responses((status = 200, description = "Events as they happen", body = String, content_type = "text/event-stream"),
              (status = 101, description = "The same by WebSocket")))]
pub(crate) async fn events(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Params(after): Params<After>,
    request: Request,
) -> Result<Response, Problem> {
    let header = request.headers().get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let feed = Feed::open(&control, caller, after.after.or(header)).await?;
    if request.headers().contains_key(header::UPGRADE) {
        own_page(&control, &request)?;
        let (mut parts, _) = request.into_parts();
        let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &()).await;
        let upgrade = upgrade.map_err(|fault| Problem::new(fault.status(), fault.body_text()))?;
        return Ok(upgrade.on_upgrade(move |socket| by_socket(socket, feed)));
    }
    let events = stream::unfold(feed, |mut feed| async move {
        let event = feed.next().await?;
        let sent = sse::Event::default().id(event.id.to_string()).event(event.kind);
        let sent = sent.json_data(&*event).unwrap_or_default();
        Some((Ok::<_, Infallible>(sent), feed))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(ALIVE_EVERY)).into_response())
}

/// A browser's WebSocket comes from a page of ours: of foreign pages the browser would send the cookie too, were it not for SameSite,
/// and one guard is not enough.
fn own_page(control: &Control, request: &Request) -> Result<(), Problem> {
    let text = |name| request.headers().get(name).and_then(|value: &header::HeaderValue| value.to_str().ok());
    let Some(origin) = text(header::ORIGIN) else { return Ok(()) };
    let host = origin.split_once("://").map_or(origin, |(_, host)| host);
    let is_own = text(header::HOST) == Some(host) || control.options.url.trim_end_matches('/') == origin;
    if is_own { Ok(()) } else { Err(Problem::forbidden("this page may not watch: it is not of this server")) }
}

async fn by_socket(mut socket: WebSocket, mut feed: Feed) {
    let mut alive = tokio::time::interval(ALIVE_EVERY);
    alive.reset();
    let (code, why) = loop {
        let sent = tokio::select! {
            event = feed.next() => match event {
                Some(event) => {
                    let Ok(text) = serde_json::to_string(&*event) else { continue };
                    socket.send(Message::Text(text.into())).await
                }
                None => break (if feed.may { GOING_AWAY } else { POLICY }, if feed.may { "the server stops" } else { "log in" }),
            },
            message = socket.recv() => match message {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                // Nothing that a reader says means anything here.
                Some(Ok(_)) => continue,
            },
            _ = alive.tick() => socket.send(Message::Ping(axum::body::Bytes::new())).await,
        };
        if sent.is_err() {
            return;
        }
    };
    let _ = socket.send(Message::Close(Some(CloseFrame { code, reason: why.into() }))).await;
}

/// The events that one reader may see.
struct Feed {
    control: Control,
    caller: Caller,
    reader: Reader,
    devices: Option<Vec<String>>,
    looked_up: Instant,
    /// As long as somebody reads they are there; a program is nobody.
    _there: Option<Connection>,
    /// They may still read.
    may: bool,
}

impl Feed {
    async fn open(control: &Control, caller: Caller, after: Option<u64>) -> Result<Self, Problem> {
        let devices = devices(control, &caller).await?;
        let mut reader = control.live.read(after);
        // In the order in which they are taken from the end.
        reader.past.reverse();
        let is_person = !matches!(caller.by, Means::Key { .. });
        let there = is_person.then(|| control.presence.connect(&caller.user.id));
        let looked_up = Instant::now();
        Ok(Self { control: control.clone(), caller, reader, devices, looked_up, _there: there, may: true })
    }

    async fn next(&mut self) -> Option<Arc<Event>> {
        if std::mem::take(&mut self.reader.has_gap) {
            return Some(Arc::new(gap(0)));
        }
        loop {
            if self.looked_up.elapsed() >= LOOKED_UP_EVERY && !self.look_up().await {
                self.may = false;
                return None;
            }
            let event = match self.reader.past.pop() {
                Some(event) => event,
                None => {
                    let due = self.looked_up + LOOKED_UP_EVERY;
                    match tokio::time::timeout_at(due, self.reader.next.recv()).await {
                        Err(_) => continue,
                        Ok(Ok(event)) => event,
                        Ok(Err(broadcast::error::RecvError::Lagged(lost))) => return Some(Arc::new(gap(lost))),
                        Ok(Err(broadcast::error::RecvError::Closed)) => return None,
                    }
                }
            };
            let may = match &event.person {
                Some(person) => may_be_told(&self.caller, person),
                None => sees(self.devices.as_deref(), &event.devices),
            };
            if may {
                return Some(event);
            }
        }
    }

    /// Looks up who they are by now; false where they may read no more. A database that does not answer changes nothing.
    async fn look_up(&mut self) -> bool {
        self.looked_up = Instant::now();
        let control = &self.control;
        let now = crate::time::Moment::now();
        let user = match &self.caller.by {
            Means::Session { hash, .. } => {
                let idle_since = now.after_s(-control.options.session_idle_s);
                control.store.session(hash, now, idle_since).await.map(|session| session.map(|session| session.user))
            }
            Means::Token | Means::Key { .. } => control.store.user(&self.caller.user.id).await,
        };
        match user {
            Ok(Some(user)) if !user.disabled => self.caller.user = user,
            Ok(_) => return false,
            Err(_) => return true,
        }
        if let Ok(devices) = devices(control, &self.caller).await {
            self.devices = devices;
        }
        true
    }
}

/// Whether somebody may be told of somebody.
fn may_be_told(caller: &Caller, of: &Person) -> bool {
    let user = &caller.user;
    match user.role {
        Role::Administrator => true,
        Role::Supervisor if user.team.is_some() && user.team == of.team => true,
        Role::Supervisor | Role::Operator => user.id == of.user,
    }
}

/// Events were lost to this reader.
fn gap(lost: u64) -> Event {
    let data = json!({ "lost": lost, "detail": "read anew what is shown: events were lost to this reader" });
    Event {
        id: 0,
        at: crate::time::Moment::now(),
        kind: "gap",
        call: String::new(),
        data,
        devices: Vec::new(),
        person: None,
    }
}
