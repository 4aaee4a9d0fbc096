//! `POST /api/v1/whip`: a web page calls by one request (RFC 9725). Its offer is answered with 201 and the answer; the resource named in
//! `Location` takes candidates (PATCH, RFC 8840) and, with `If-Match: *`, the begin of another ICE session, ends the call (DELETE), and
//! tells what happens in it (`GET .../events`, as server-sent events). OPTIONS, and the answer, name the STUN and TURN servers that the page
//! may use (`Link`).
//!
//! Whom a page may call is settled by `web.numbers`; networks and limits are those of calls by SIP. A page that was not served by an
//! address of this machine is refused unless `sip.origins` names it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use futures::stream::{self, Stream, StreamExt};
use serde::{Deserialize, Serialize};
use sip::endpoint::{CallId, EndCause, Event, FlowId, Source, Transport};
use sip::guard::Admit;
use sip::io::Gate;
use tokio::sync::broadcast::error::RecvError;

use super::legs::Answer;
use crate::call::driver::{Driver, Incoming, record_refusal};
use crate::call::inbound::{self, Facts, Refusal};
use crate::call::route::{RouteQuery, Target};
use crate::hub::Hub;
use crate::ice;
use crate::routing::history::History;

/// Bytes of a description at most.
const BODY_LIMIT: usize = sip::sdp::MAX_BYTES;
/// The type of trickled candidates (RFC 8840 section 9).
pub const TRICKLE: &str = "application/trickle-ice-sdpfrag";
/// The page that calls the default agent.
const PAGE: &str = include_str!("../../examples/browser/index.html");

/// The routes.
pub(crate) fn router(hub: Arc<Hub>) -> Router {
    Router::new()
        .route("/call", get(page))
        .route("/api/v1/whip", post(call).options(servers))
        .route("/api/v1/whip/{name}", axum::routing::patch(trickle).delete(hang_up))
        .route("/api/v1/whip/{name}/events", get(events))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(hub)
}

/// Why a request is refused, as RFC 9457 has it.
#[derive(Debug, Serialize)]
pub(crate) struct Problem {
    #[serde(skip)]
    code: StatusCode,
    status: u16,
    title: &'static str,
    detail: String,
}

impl Problem {
    fn new(code: StatusCode, title: &'static str, detail: impl Into<String>) -> Self {
        Self { code, status: code.as_u16(), title, detail: detail.into() }
    }

    /// What is to be done about it.
    pub(crate) fn detail(&self) -> String {
        self.detail.clone()
    }

    /// What a status of SIP is in HTTP.
    fn of_sip(code: u16, detail: &str) -> Self {
        let (code, title) = match code {
            403 => (StatusCode::FORBIDDEN, "calls are not taken from here"),
            404 => (StatusCode::NOT_FOUND, "nobody is called that here"),
            400 | 488 => (StatusCode::UNPROCESSABLE_ENTITY, "the offer cannot be answered"),
            _ => (StatusCode::SERVICE_UNAVAILABLE, "the call cannot be taken now"),
        };
        Self::new(code, title, detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::to_string(&self).unwrap_or_default();
        let mut response = (self.code, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response();
        let more = match self.code {
            StatusCode::UNAUTHORIZED => Some((header::WWW_AUTHENTICATE, "Bearer")),
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => Some((header::RETRY_AFTER, "10")),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => {
                Some((header::HeaderName::from_static("accept-post"), "application/sdp"))
            }
            _ => None,
        };
        if let Some((name, value)) = more {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

async fn page() -> Response {
    // The page holds its own script and style, and speaks to this server alone.
    let policy = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; media-src 'self' blob: mediastream:; \
                  base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    let headers = [(header::CONTENT_SECURITY_POLICY, policy), (header::REFERRER_POLICY, "no-referrer")];
    (headers, Html(PAGE)).into_response()
}

#[derive(Debug, Deserialize)]
struct Called {
    /// Whom the page calls; the first of `web.numbers` where it does not say.
    to: Option<String>,
}

async fn call(
    State(hub): State<Arc<Hub>>,
    ConnectInfo(remote): ConnectInfo<SocketAddr>,
    Query(called): Query<Called>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    admit_page(&hub, &headers)?;
    if !has_type(&headers, sip::sdp::CONTENT_TYPE) {
        let detail = "send the offer as application/sdp";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "no session description", detail));
    }
    let numbers = &hub.config.web.numbers;
    let to = called.to.or_else(|| numbers.first().cloned()).unwrap_or_default().to_lowercase();
    if !numbers.iter().any(|number| number == "*" || number.eq_ignore_ascii_case(&to)) || !is_number(&to) {
        let detail = format!("`{to}` is not among web.numbers, whom pages may call");
        return Err(Problem::new(StatusCode::NOT_FOUND, "nobody is called that here", detail));
    }
    let page = Page { remote, from: format!("sip:{ANYBODY}@{PAGES_HOST}") };
    let begun = begin(&hub, &page, &to, &headers, body, |facts| inbound::admit(&hub.config, facts, &*hub))?;
    let name = begun.name.clone();
    match begun.answered(&hub).await {
        Ok(sdp) => {
            let location = format!("/api/v1/whip/{name}");
            let tag = hub.web.named(&name).map(|found| quoted(&found.tag)).unwrap_or_default();
            let headers = [
                (header::ETAG, tag),
                (header::CONTENT_TYPE, sip::sdp::CONTENT_TYPE.to_owned()),
                (header::LOCATION, location),
                (header::CACHE_CONTROL, "no-store".to_owned()),
            ];
            let mut response = (StatusCode::CREATED, headers, sdp).into_response();
            tell_servers(&hub, response.headers_mut());
            Ok(response)
        }
        Err(code) => Err(Problem::of_sip(code, "see the call's record for the reason")),
    }
}

/// The STUN and TURN servers for the page's own end, before it calls: a browser gathers its candidates before it has an answer.
async fn servers(State(hub): State<Arc<Hub>>, headers: HeaderMap) -> Result<Response, Problem> {
    admit_page(&hub, &headers)?;
    let mut response = (StatusCode::NO_CONTENT, [(header::CACHE_CONTROL, "no-store")]).into_response();
    response.headers_mut().insert("accept-post", HeaderValue::from_static(sip::sdp::CONTENT_TYPE));
    tell_servers(&hub, response.headers_mut());
    Ok(response)
}

/// RFC 9725 section 4.6.
fn tell_servers(hub: &Hub, headers: &mut HeaderMap) {
    for link in ice::links(&hub.config, SystemTime::now()) {
        if let Ok(link) = HeaderValue::from_str(&link) {
            headers.append(header::LINK, link);
        }
    }
}

/// Whoever waits for the answer has gone where this is dropped.
struct Waiting<'a> {
    hub: &'a Hub,
    leg: CallId,
    is_over: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        self.hub.web.end(&self.hub.switchboard, self.leg, EndCause::Cancelled);
    }
}

/// A call that has begun.
pub(crate) struct Begun {
    leg: CallId,
    /// Its resource's name.
    pub(crate) name: String,
    answer: tokio::sync::oneshot::Receiver<Answer>,
}

impl Begun {
    /// The call's answer, or its status. Whoever drops this has given up: so has the call then.
    pub(crate) async fn answered(self, hub: &Hub) -> Answer {
        let mut waiting = Waiting { hub, leg: self.leg, is_over: false };
        let answered = self.answer.await.unwrap_or(Err(500));
        waiting.is_over = true;
        answered
    }
}

/// Where pages are, as addresses have it.
pub(crate) const PAGES_HOST: &str = "web.invalid";
/// Whoever is behind a page that nobody is logged in at.
pub(crate) const ANYBODY: &str = "web";
/// How pages come in: by no connection of SIP's.
pub(crate) const FLOW: FlowId = FlowId(u64::MAX);

/// A page that calls.
pub(crate) struct Page {
    /// Where it is.
    pub(crate) remote: SocketAddr,
    /// Who is behind it, as an address.
    pub(crate) from: String,
}

/// Begins a call of a page, once `admit` has said what it is connected with.
pub(crate) fn begin(
    hub: &Arc<Hub>,
    page: &Page,
    to: &str,
    headers: &HeaderMap,
    offer: Bytes,
    admit: impl FnOnce(Facts<'_>) -> Result<Target, Refusal>,
) -> Result<Begun, Problem> {
    let remote = page.remote;
    let is_private = hub.config.tls.certificates.is_empty();
    let transport = if is_private { Transport::Ws } else { Transport::Wss };
    let source = Source { transport, remote, local: hub.config.http.listen, flow: FLOW };
    let (from_uri, request_uri) = (page.from.clone(), format!("sip:{to}@web.invalid"));
    let seat = hub.enter();
    let (leg, name, answer) = hub.web.open(seat.id()).ok_or_else(|| Problem::of_sip(503, "no entropy"))?;
    let refuse = |problem: Problem| {
        hub.web.end(&hub.switchboard, leg, EndCause::Refused(403));
        problem
    };
    let request = as_invite(seat.id(), &from_uri, &request_uri, headers)
        .ok_or_else(|| refuse(Problem::of_sip(400, "a header of the request cannot be kept")))?;
    if let Some(door) = &hub.door
        && door.admit(Instant::now(), &source, &request) != Admit::Take
    {
        let detail = "see [guard] of the configuration";
        return Err(refuse(Problem::new(StatusCode::TOO_MANY_REQUESTS, "too many calls from there", detail)));
    }
    let incoming = Incoming {
        call: leg,
        request: Arc::new(request),
        from_uri,
        request_uri,
        source,
        offer: Some(offer),
        history: History::default(),
        verdict: None,
        replaces: None,
        device: None,
        trunk: None,
        lease: None,
    };
    let query = RouteQuery {
        user: to,
        request_uri: &incoming.request_uri,
        from_uri: &incoming.from_uri,
        source,
        trunk: None,
        device: None,
        request: Some(&incoming.request),
        diverted: &[],
        verdict: None,
        at: SystemTime::now(),
    };
    let stopping = hub.stopping.load(std::sync::atomic::Ordering::Relaxed);
    let facts = Facts { query, running: hub.running().saturating_sub(1), stopping, replaces: None };
    let target = match admit(facts) {
        Ok(target) => target,
        Err(refusal) => {
            record_refusal(hub, &incoming, &refusal);
            return Err(refuse(Problem::of_sip(refusal.code, &refusal.answered().detail)));
        }
    };
    seat.connect(leg);
    hub.spawn(Driver::answer(Arc::clone(hub), seat, incoming, target));
    Ok(Begun { leg, name, answer })
}

/// The request in SIP's words, for routes and records that read headers.
fn as_invite(call: &str, from_uri: &str, request_uri: &str, headers: &HeaderMap) -> Option<sip::Message> {
    let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or("WHIP");
    let agent: String = agent.chars().filter(|c| !c.is_control()).take(256).collect();
    let text = format!(
        "INVITE {request_uri} SIP/2.0\r\nVia: SIP/2.0/WSS web.invalid;branch=z9hG4bK{call}\r\nMax-Forwards: 70\r\n\
         From: <{from_uri}>;tag={call}\r\nTo: <{request_uri}>\r\nCall-ID: {call}@web.invalid\r\nCSeq: 1 INVITE\r\n\
         User-Agent: {agent}\r\nContent-Length: 0\r\n\r\n"
    );
    sip::Message::parse_datagram(bytes::Bytes::from(text), &sip::parse::Limits::default()).ok()
}

async fn trickle(
    State(hub): State<Arc<Hub>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    admit_page(&hub, &headers)?;
    let found = hub.web.named(&name).ok_or_else(gone)?;
    if !has_type(&headers, TRICKLE) {
        let detail = format!("send candidates as {TRICKLE}");
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "no candidates", detail));
    }
    let wanted = headers.get(header::IF_MATCH).and_then(|wanted| wanted.to_str().ok()).map(str::trim);
    match wanted {
        Some("*" | "\"*\"") => return restart(&hub, &name, found.leg, body).await,
        Some(tag) if tag != quoted(&found.tag) => {
            let detail = "the session that these candidates are of is over: ICE was begun anew";
            return Err(Problem::new(StatusCode::PRECONDITION_FAILED, "candidates of another session", detail));
        }
        _ => {}
    }
    let info = Event::Info { call: found.leg, content_type: TRICKLE.to_owned(), body };
    hub.switchboard.deliver(found.leg, info);
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Begins ICE anew (RFC 9725 section 4.3.3): a page whose network has changed keeps its call.
async fn restart(hub: &Hub, name: &str, leg: CallId, fragment: Bytes) -> Result<Response, Problem> {
    let Some(answer) = hub.web.restart(&hub.switchboard, leg, fragment) else {
        let detail = "it has not been answered, or a restart is under way";
        return Err(Problem::new(StatusCode::CONFLICT, "the call cannot change now", detail));
    };
    match answer.await {
        Ok(Ok(fragment)) => {
            let tag = hub.web.named(name).map(|found| quoted(&found.tag)).unwrap_or_default();
            let headers = [
                (header::CONTENT_TYPE, TRICKLE.to_owned()),
                (header::ETAG, tag),
                (header::CACHE_CONTROL, "no-store".to_owned()),
            ];
            Ok((StatusCode::OK, headers, fragment).into_response())
        }
        Ok(Err(_)) => {
            let detail = "send ice-ufrag and ice-pwd, other than before, and the candidates";
            Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "ICE cannot be begun anew so", detail))
        }
        Err(_) => Err(gone()),
    }
}

/// An entity tag (RFC 9110 section 8.8.3).
fn quoted(tag: &str) -> String {
    format!("\"{tag}\"")
}

async fn hang_up(
    State(hub): State<Arc<Hub>>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    admit_page(&hub, &headers)?;
    let found = hub.web.named(&name).ok_or_else(gone)?;
    hub.web.end(&hub.switchboard, found.leg, EndCause::RemoteBye);
    Ok(StatusCode::OK)
}

async fn events(
    State(hub): State<Arc<Hub>>,
    Path(name): Path<String>,
) -> Result<Sse<impl Stream<Item = Result<sse::Event, Infallible>>>, Problem> {
    let found = hub.web.named(&name).ok_or_else(gone)?;
    let (past, follows) = found.feed.read();
    let follows = stream::unfold(follows, |follows| async move {
        let mut follows = follows?;
        loop {
            match follows.recv().await {
                Ok(event) => return Some((event, Some(follows))),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    });
    let all = stream::iter(past).chain(follows).map(|event| Ok(sse::Event::default().data(&*event)));
    Ok(Sse::new(all).keep_alive(KeepAlive::default()))
}

fn gone() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "no such call", "it is over, or never was")
}

/// Whether a page may call at all: it has the token, where there is one, and is ours or named.
fn admit_page(hub: &Hub, headers: &HeaderMap) -> Result<(), Problem> {
    let value = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(origin) = value(header::ORIGIN) {
        let host = value(header::HOST).unwrap_or_default();
        // A name may be made to lead here by whoever owns it (DNS rebinding): names count where they are named.
        let is_ours =
            origin.split_once("://").is_some_and(|(_, of)| of.eq_ignore_ascii_case(host)) && is_own_host(host);
        if !is_ours && !hub.config.sip.origins.iter().any(|named| named.eq_ignore_ascii_case(origin)) {
            let detail = format!("pages of {origin} may not call: add it to sip.origins");
            return Err(Problem::new(StatusCode::FORBIDDEN, "a page of somebody else", detail));
        }
    }
    let token = hub.config.web.token.reveal();
    if token.is_empty() {
        return Ok(());
    }
    let given = value(header::AUTHORIZATION).and_then(|given| given.strip_prefix("Bearer ")).unwrap_or_default();
    if aws_lc_rs::constant_time::verify_slices_are_equal(given.trim().as_bytes(), token.as_bytes()).is_ok() {
        return Ok(());
    }
    Err(Problem::new(StatusCode::UNAUTHORIZED, "no token", "send `Authorization: Bearer` with the token of web.token"))
}

/// Whether a host is one that nobody else can point at us: an address, or this machine's own name for itself.
fn is_own_host(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, port)| if port.ends_with(']') { host } else { name });
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::IpAddr>().is_ok()
}

fn has_type(headers: &HeaderMap, wanted: &str) -> bool {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    given.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(wanted)
}

/// What may stand in a SIP URI as it is.
fn is_number(to: &str) -> bool {
    !to.is_empty() && to.len() <= 64 && to.chars().all(|c| c.is_ascii_alphanumeric() || "-_.+*#".contains(c))
}

#[cfg(test)]
mod tests {
    use super::is_own_host;

    #[test]
    fn addresses_are_ours_and_names_are_not() {
        for (host, is_own) in [
            ("127.0.0.1:8080", true),
            ("192.0.2.1", true),
            ("[::1]:8080", true),
            ("[2001:db8::1]", true),
            ("localhost:8080", true),
            ("phone.example.net", false),
            ("rebound.example:8080", false),
            ("", false),
        ] {
            assert_eq!(is_own_host(host), is_own, "{host}");
        }
    }
}
