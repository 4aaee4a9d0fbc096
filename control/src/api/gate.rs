//! What stands before every route: how often whoever asks may, who they are, whether they may do this, and whether a browser asks on
//! its own. Whoever gets through is a [`Caller`] among the request's extensions.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, FromRequestParts, MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::problem::Problem;
use super::session;
use crate::control::Control;
use crate::identity::access::{Need, RULES, rule};
use crate::identity::limit::Tier;
use crate::identity::secret;
use crate::identity::{Caller, Means, Role};
use crate::time::Moment;

/// The header against forged requests.
pub const CSRF: &str = "x-csrf-token";
/// Sessions and keys are noted as used once in this long, in ms.
const NOTED_EVERY_MS: i64 = 60_000;

/// The gate.
pub async fn gate(
    State(control): State<Arc<Control>>,
    path: MatchedPath,
    mut request: Request,
    next: Next,
) -> Response {
    let path = path.as_str().to_owned();
    let mut response = match admit(&control, &path, &mut request).await {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    };
    let headers = response.headers_mut();
    // Answers are about people: nothing on the way keeps them, no page frames them, no browser guesses what they are.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers
        .entry(header::CONTENT_SECURITY_POLICY)
        .or_insert(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"));
    response
}

async fn admit(control: &Control, path: &str, request: &mut Request) -> Result<(), Problem> {
    let address = address(request);
    control.limits.take_address(address).map_err(Problem::too_many)?;
    let Some(rule) = rule(request.method(), path) else { return Err(no_rule(path)) };
    let caller = who(control, request.headers()).await?;
    match (rule.need, &caller) {
        (Need::Nobody, _) => {}
        (_, None) => return Err(Problem::unauthorized("log in, or send an API key or an access token as a Bearer")),
        (Need::Person, Some(caller)) => {
            if let Means::Key { .. } = caller.by {
                return Err(Problem::forbidden("an API key may not: log in"));
            }
        }
        (Need::Somebody(role, scope), Some(caller)) => {
            if !caller.may(role, scope) {
                let needs =
                    format!("this needs the role {} and, of a key, the scope {}", role.as_str(), scope.as_str());
                return Err(Problem::forbidden(needs));
            }
        }
    }
    let who = match &caller {
        Some(caller) => caller.user.id.clone(),
        None => crate::identity::limit::network(address),
    };
    control.limits.take(Tier::General, &who).map_err(Problem::too_many)?;
    if rule.tier != Tier::General {
        control.limits.take(rule.tier, &who).map_err(Problem::too_many)?;
    }
    // Whoever has no session yet has nothing that a foreign page could use.
    if let (Some(Caller { by: Means::Session { csrf, .. }, .. }), true) = (&caller, changes(request.method())) {
        let sent = request.headers().get(CSRF).and_then(|sent| sent.to_str().ok()).unwrap_or_default();
        if rule.need != Need::Nobody && !secret::same(sent, csrf) {
            return Err(Problem::forbidden("send X-CSRF-Token, as GET /api/v1/session tells it"));
        }
    }
    request.extensions_mut().insert(Address(address));
    if let Some(caller) = caller {
        request.extensions_mut().insert(caller);
    }
    Ok(())
}

/// A path that is known takes other methods; one that nobody wrote a rule for is refused.
fn no_rule(path: &str) -> Problem {
    let methods: Vec<&str> = RULES.iter().filter(|rule| rule.path == path).map(|rule| rule.method).collect();
    match methods.is_empty() {
        true => Problem::forbidden("nobody may use this route"),
        false => Problem::new(StatusCode::METHOD_NOT_ALLOWED, format!("this takes {}", methods.join(", "))),
    }
}

fn changes(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// Where a request comes from.
#[derive(Debug, Clone, Copy)]
pub struct Address(pub IpAddr);

/// Among a request's extensions: whether it came by TLS, to us or to a proxy that is believed. Whoever serves the routes says so; where nobody
/// does, it did not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ByTls(pub bool);

impl ByTls {
    /// What a cookie that is set by the answer ends in.
    pub(super) fn secure(self, control: &Control) -> &'static str {
        if self.0 || control.options.url.starts_with("https:") { "; Secure" } else { "" }
    }
}

fn address(request: &Request) -> IpAddr {
    let remote = request.extensions().get::<ConnectInfo<SocketAddr>>();
    remote.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |ConnectInfo(remote)| remote.ip())
}

/// Who asks. A key or token that is sent and not good is a fault; a session that is over is none: its browser logs in anew.
async fn who(control: &Control, headers: &HeaderMap) -> Result<Option<Caller>, Problem> {
    let now = Moment::now();
    if let Some(bearer) = bearer(headers) {
        let caller = if bearer.starts_with(secret::KEY_PREFIX) {
            by_key(control, bearer, now).await?
        } else {
            by_token(control, bearer, now).await?
        };
        let caller = caller.ok_or_else(|| Problem::unauthorized("the key or token is not good, or no more"))?;
        return Ok(Some(caller));
    }
    match session::cookie(headers) {
        Some(cookie) => by_session(control, cookie, now).await,
        None => Ok(None),
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, value) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| value.trim())
}

async fn by_key(control: &Control, key: &str, now: Moment) -> Result<Option<Caller>, Problem> {
    let Some((key, user)) = control.store.key_by_hash(&secret::hash(key), now).await? else { return Ok(None) };
    if key.used_at.is_none_or(|used| now.0 - used.0 > NOTED_EVERY_MS) {
        control.store.key_used(&key.id, now).await?;
    }
    Ok(Some(Caller { user, by: Means::Key { name: key.name, scopes: key.scopes } }))
}

async fn by_token(control: &Control, token: &str, now: Moment) -> Result<Option<Caller>, Problem> {
    let Some((user, version)) = control.tokens.read(token, now) else { return Ok(None) };
    let user = control.store.user(&user).await?.filter(|user| !user.disabled && user.version == version);
    Ok(user.map(|user| Caller { user, by: Means::Token }))
}

async fn by_session(control: &Control, cookie: &str, now: Moment) -> Result<Option<Caller>, Problem> {
    let hash = secret::hash(cookie);
    let idle_since = now.after_s(-control.options.session_idle_s);
    let Some(session) = control.store.session(&hash, now, idle_since).await? else { return Ok(None) };
    if now.0 - session.seen_at.0 > NOTED_EVERY_MS {
        control.store.session_seen(&hash, now).await?;
    }
    Ok(Some(Caller { user: session.user, by: Means::Session { hash, csrf: secret::csrf(cookie) } }))
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| Problem::unauthorized("log in"))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Address {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Ok(parts.extensions.get::<Self>().copied().unwrap_or(Self(IpAddr::V4(Ipv4Addr::UNSPECIFIED))))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for ByTls {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get::<Self>().copied().unwrap_or_default())
    }
}

/// Whoever is no administrator sees what concerns their own team.
#[must_use]
pub fn team_of(caller: &Caller) -> Option<&str> {
    if caller.user.role == Role::Administrator { None } else { Some(caller.user.team.as_deref().unwrap_or("none")) }
}
