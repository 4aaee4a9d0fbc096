//! Logging in by a provider (OpenID Connect), where `[control.oidc]` names one: the browser goes there and comes back with a session.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{AppendHeaders, IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;
use utoipa::IntoParams;

use super::extract::{Params, name};
use super::gate::{Address, ByTls};
use super::problem::Problem;
use super::session;
use crate::control::Control;
use crate::identity::limit::network;
use crate::identity::oidc::{CALLBACK, Oidc, OidcFault, PENDING_S, Pending, Person};
use crate::identity::{Role, password, secret};
use crate::store::users::{NewUser, User, UserChange};
use crate::time::Moment;

/// The cookie of a login under way.
const COOKIE: &str = "omnivox_oidc";

/// What the provider sends back.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(crate) struct Back {
    /// To be exchanged for an ID token.
    code: Option<String>,
    /// What was sent along.
    state: Option<String>,
    /// Why the provider lets nobody in.
    error: Option<String>,
}

/// Log in by the provider
///
/// For browsers: leads to the provider, which leads back to `/api/v1/session/oidc/callback`.
#[utoipa::path(get, path = "/api/v1/session/oidc", operation_id = "beginOidc", tag = "identity",
    responses((status = 303, description = "To the provider"),
              (status = 404, description = "No provider is named in the configuration", body = Problem, content_type = "application/problem+json"),
              (status = 502, description = "The provider does not answer", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn begin(State(control): State<Arc<Control>>, by_tls: ByTls) -> Result<Response, Problem> {
    let oidc = provider(&control)?;
    let (url, pending) = oidc.begin(Moment::now()).await.map_err(failed)?;
    let sealed = pending.seal(&control.key).map_err(|fault| Problem::internal("a login", fault))?;
    let set = cookie(&control, by_tls, &sealed, PENDING_S);
    Ok((StatusCode::SEE_OTHER, [(header::SET_COOKIE, set), (header::LOCATION, url)]).into_response())
}

/// Come back from the provider
#[utoipa::path(get, path = "/api/v1/session/oidc/callback", operation_id = "finishOidc", tag = "identity", params(Back),
    responses((status = 303, description = "Logged in: the cookie is set, and the browser goes to the dashboard"),
              (status = 403, description = "The provider says who it is, and they may not log in", body = Problem, content_type = "application/problem+json"),
              (status = 404, description = "No provider is named in the configuration", body = Problem, content_type = "application/problem+json"),
              (status = 502, description = "The provider does not answer", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn finish(
    State(control): State<Arc<Control>>,
    from: Address,
    by_tls: ByTls,
    headers: HeaderMap,
    Params(back): Params<Back>,
) -> Result<Response, Problem> {
    let (oidc, now) = (provider(&control)?, Moment::now());
    if let Some(error) = back.error {
        refused(&control, from, "", &format!("the provider says {}", error.chars().take(100).collect::<String>()))
            .await;
        return Err(Problem::forbidden("the provider lets nobody in: log in there and try again"));
    }
    let state = back.state.ok_or_else(|| Problem::field("state", "come here from the provider"))?;
    let code = back.code.ok_or_else(|| Problem::field("code", "come here from the provider"))?;
    let kept = session::cookie_of(&headers, COOKIE);
    let Some(pending) = kept.and_then(|kept| Pending::open(&control.key, kept, &state, now)) else {
        return Err(Problem::forbidden("this login did not begin in this browser, or too long ago: begin anew"));
    };
    let person = match oidc.finish(code, &pending).await {
        Ok(person) => person,
        Err(fault) => {
            refused(&control, from, "", &fault.to_string()).await;
            return Err(failed(fault));
        }
    };
    let user = match who(&control, oidc, &person, now).await? {
        Ok(user) => user,
        Err(why) => {
            refused(&control, from, &person.subject, why).await;
            return Err(Problem::forbidden(
                "the provider knows you, and you may not log in here: ask an administrator",
            ));
        }
    };
    let (_, set) = session::open(&control, &user, (from, by_tls), json!({ "by": person.issuer })).await?;
    let gone = cookie(&control, by_tls, "", 0);
    let set = AppendHeaders([(header::SET_COOKIE, set), (header::SET_COOKIE, gone)]);
    Ok((StatusCode::SEE_OTHER, set, [(header::LOCATION, "/")]).into_response())
}

/// The user that a person is, with what the provider says of them now; or why they may not log in.
async fn who(
    control: &Control,
    oidc: &Oidc,
    person: &Person,
    now: Moment,
) -> Result<Result<User, &'static str>, Problem> {
    let (store, options) = (&control.store, &oidc.options);
    let (issuer, subject) = (person.issuer.as_str(), person.subject.as_str());
    if subject.contains('\0') {
        return Ok(Err("what they are at the provider cannot be one here"));
    }
    let wanted = match options.name_of(&person.claims) {
        Ok(wanted) => wanted,
        Err(why) => return Ok(Err(why)),
    };
    let Ok(wanted) = name("name", &wanted) else { return Ok(Err("their name cannot be one here")) };
    let role = options.role_of(&person.claims);
    let team = match options.team_of(&person.claims) {
        Some(team) if !team.contains('\0') => store.team_by_name(team).await?,
        _ => None,
    };
    let user = match store.user_by_identity(issuer, subject).await? {
        Some(user) => user,
        None => match store.credentials(&wanted).await? {
            Some(known) if store.bind_identity(issuer, subject, &known.user.id, now).await? => known.user,
            Some(_) => return Ok(Err("somebody else at the provider is this user already")),
            None if options.create => {
                let random = secret::new_secret().map_err(|fault| Problem::internal("a user", fault))?;
                let password_hash = password::hash(random).await.map_err(|fault| Problem::internal("a user", fault))?;
                let role = role.unwrap_or(Role::Operator);
                let new = NewUser {
                    display: wanted.clone(),
                    name: wanted,
                    role,
                    team: team.clone(),
                    device: None,
                    password_hash,
                };
                let user = store.add_identified(&new, (issuer, subject), now).await?;
                control.audit_as(issuer, "user.create", &user.name, json!({ "role": role, "by": "oidc" })).await;
                user
            }
            None => return Ok(Err("no user has that name")),
        },
    };
    if user.disabled {
        return Ok(Err("the user may not log in"));
    }
    let change = UserChange {
        role: role.filter(|role| *role != user.role),
        team: team.filter(|team| user.team.as_ref() != Some(team)).map(Some),
        ..UserChange::default()
    };
    if change.role.is_none() && change.team.is_none() {
        return Ok(Ok(user));
    }
    // Whoever administers last does so until somebody else does, whatever the provider says.
    if change.role.is_some() && user.role == Role::Administrator && store.administrators().await? <= 1 {
        return Ok(Ok(user));
    }
    let detail = json!({ "role": change.role, "team": change.team, "by": "oidc" });
    let user = store.change_user(&user, change, None, now).await?;
    control.audit_as(issuer, "user.change", &user.name, detail).await;
    Ok(Ok(user))
}

fn provider(control: &Control) -> Result<&Oidc, Problem> {
    let none = || Problem::new(StatusCode::NOT_FOUND, "no provider is named in the configuration: see [control.oidc]");
    control.oidc.as_ref().ok_or_else(none)
}

/// What went wrong at the provider is for the log.
fn failed(fault: OidcFault) -> Problem {
    match fault {
        OidcFault::Provider { .. } => {
            tracing::warn!("nobody was logged in: {fault}");
            Problem::new(
                StatusCode::BAD_GATEWAY,
                "the provider does not answer as it should; the server's log says how",
            )
        }
        OidcFault::Token(_) => {
            tracing::warn!("nobody was logged in: {fault}");
            Problem::forbidden("what the provider says is not to be believed; the server's log says why")
        }
        fault => Problem::internal("a login", fault),
    }
}

async fn refused(control: &Control, from: Address, subject: &str, why: &str) {
    metrics::counter!("omnivox_control_logins_failed_total").increment(1);
    let detail = json!({ "from": network(from.0), "by": "oidc", "why": why });
    control.audit_as("nobody", "session.refuse", subject, detail).await;
}

/// The provider's page leads back here, so that the cookie has to come along from there: `Lax`.
fn cookie(control: &Control, by_tls: ByTls, value: &str, seconds: i64) -> String {
    let secure = by_tls.secure(control);
    format!("{COOKIE}={value}; Path={CALLBACK}; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}")
}
