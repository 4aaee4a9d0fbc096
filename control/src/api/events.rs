//! What happens, as it does: server-sent events, or a WebSocket where the client asks for one. Each event has an id to go on after.
//! Whoever sees only some calls is told of those alone, and whoever is no longer logged in is told nothing more.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{FromRequestParts, Request, State};
use axum::http::header;
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream::{self, SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::json;
use tokio::time::{Instant, Interval};
use utoipa::IntoParams;

use super::calls::{devices, sees};
use super::extract::Params;
use super::problem::Problem;
use crate::control::Control;
use crate::identity::{Caller, Means, Role};
use crate::live::{Entry, Reader};
use crate::ports::{Data, Event, Person};
use crate::presence::Connection;

/// Who may see what is looked up anew this often.
const LOOKED_UP_EVERY: Duration = Duration::from_secs(15);
/// A quiet stream says that it lives.
const ALIVE_EVERY: Duration = Duration::from_secs(15);
/// What happens within this time is sent at once: many who read while much happens would otherwise cost a wake-up and a write for each event
/// and reader. What happens after a quiet while is sent when it happens.
const GATHERED_WITHIN: Duration = Duration::from_millis(40);
/// Events taken at once.
const TAKEN: usize = 256;
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
/// `call.started`, `call.changed`, `call.answered`, `call.ended`, `conversation.started`, `turn`, `tool`, `agent.says`, `interrupted`, `held`, `provider.failed`, `tone`, `conference.speaker`, `operator.presence`, `queue.changed`; and `gap` where events were lost
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
        Some((Ok::<_, Infallible>(sent.data(event.text().as_str())), feed))
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

type Sink = SplitSink<WebSocket, Message>;

async fn by_socket(socket: WebSocket, mut feed: Feed) {
    let (mut sink, mut stream) = socket.split();
    let mut alive = tokio::time::interval(ALIVE_EVERY);
    alive.reset();
    let (code, reason) = loop {
        match next(&mut feed, &mut sink, &mut stream, &mut alive).await {
            Next::Event(event) => {
                let mut sent = sink.feed(Message::Text(event.text())).await;
                // What was taken with it goes with it.
                while let (Ok(()), Some(event)) = (&sent, feed.waiting.pop_front()) {
                    sent = sink.feed(Message::Text(event.text())).await;
                }
                if sent.is_err() || sink.flush().await.is_err() {
                    return;
                }
            }
            Next::Over if feed.may => break (GOING_AWAY, "the server stops"),
            Next::Over => break (POLICY, "log in"),
            Next::Gone => return,
        }
    };
    let _ = sink.send(Message::Close(Some(CloseFrame { code, reason: reason.into() }))).await;
}

enum Next {
    Event(Arc<Entry>),
    /// There are no more.
    Over,
    /// Nobody reads any more.
    Gone,
}

/// Waits for the next event, and says meanwhile that the stream lives.
async fn next(feed: &mut Feed, sink: &mut Sink, stream: &mut SplitStream<WebSocket>, alive: &mut Interval) -> Next {
    // Begun once: what somebody sends does not hold up the look at whether they may read.
    let mut event = pin!(feed.next());
    loop {
        tokio::select! {
            event = &mut event => return event.map_or(Next::Over, Next::Event),
            message = stream.next() => match message {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Next::Gone,
                // Nothing that a reader says means anything here.
                Some(Ok(_)) => {}
            },
            _ = alive.tick() => if sink.send(Message::Ping(axum::body::Bytes::new())).await.is_err() { return Next::Gone },
        }
    }
}

/// The events that one reader may see.
struct Feed {
    control: Control,
    caller: Caller,
    reader: Reader,
    /// What was taken, and is not sent yet.
    waiting: VecDeque<Arc<Entry>>,
    taken: Instant,
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
        let reader = control.live.read(after);
        let is_person = !matches!(caller.by, Means::Key { .. });
        let there = is_person.then(|| control.presence.connect(&caller.user.id));
        let looked_up = Instant::now();
        let (control, waiting, taken) =
            (control.clone(), VecDeque::new(), looked_up.checked_sub(GATHERED_WITHIN).unwrap_or(looked_up));
        Ok(Self { control, caller, reader, waiting, taken, devices, looked_up, _there: there, may: true })
    }

    async fn next(&mut self) -> Option<Arc<Entry>> {
        loop {
            if self.looked_up.elapsed() >= LOOKED_UP_EVERY && !self.look_up().await {
                self.may = false;
                return None;
            }
            if let Some(event) = self.waiting.pop_front() {
                return Some(event);
            }
            tokio::time::sleep_until(self.taken + GATHERED_WITHIN).await;
            let due = self.looked_up + LOOKED_UP_EVERY;
            let Ok(batch) = tokio::time::timeout_at(due, self.reader.next(TAKEN)).await else { continue };
            let batch = batch?;
            self.taken = Instant::now();
            self.waiting.extend(batch.lost.map(gap));
            let (caller, devices) = (&self.caller, self.devices.as_deref());
            self.waiting.extend(batch.events.into_iter().filter(|event| match &event.person {
                Some(person) => may_be_told(caller, person),
                None => sees(devices, &event.devices),
            }));
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
fn gap(lost: u64) -> Arc<Entry> {
    let data = json!({ "lost": lost, "detail": "read anew what is shown: events were lost to this reader" });
    let (at, call, devices) = (crate::time::Moment::now(), String::new(), Vec::new());
    Arc::new(Event { id: 0, at, kind: "gap", call, data: Data::written(&data), devices, person: None }.into())
}
