//! Access tokens for programs: good for minutes, and a refresh token that gives the next pair and is good once.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::extract::Body;
use super::gate::Address;
use super::problem::Problem;
use super::session::{Login, authenticate};
use crate::control::Control;
use crate::identity::secret;
use crate::identity::token::GOOD_FOR_S;
use crate::store::tokens::Refreshed;
use crate::store::users::User;
use crate::time::Moment;

/// A refresh token is good for this long, in seconds.
const REFRESH_S: i64 = 30 * 86_400;

/// What a token is given for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(tag = "grant", rename_all = "snake_case", deny_unknown_fields)]
pub enum Grant {
    /// For name and password.
    Password {
        /// The name.
        name: String,
        /// The password.
        #[schema(format = Password)]
        password: String,
        /// The authenticator's code, where the account has a second factor.
        code: Option<String>,
    },
    /// For a refresh token.
    Refresh {
        /// It.
        refresh_token: String,
    },
}

/// A pair of tokens.
#[derive(Debug, Serialize, ToSchema)]
pub struct Pair {
    /// To be sent as a Bearer.
    pub access_token: String,
    /// `Bearer`.
    pub token_type: &'static str,
    /// It is good for so many seconds.
    pub expires_in: i64,
    /// Gives the next pair, once.
    pub refresh_token: String,
}

/// A token to be given back.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Revoke {
    /// The refresh token.
    pub refresh_token: String,
}

/// Get an access token
#[utoipa::path(post, path = "/api/v1/token", operation_id = "getToken", tag = "identity", request_body = Grant,
    responses((status = 200, description = "The pair", body = Pair)))]
pub(crate) async fn issue(
    State(control): State<Arc<Control>>,
    from: Address,
    Body(grant): Body<Grant>,
) -> Result<Json<Pair>, Problem> {
    let now = Moment::now();
    match grant {
        Grant::Password { name, password, code } => {
            let user = authenticate(&control, from, Login { name, password, code }).await?;
            control.audit_as(&user.name, "token.issue", &user.name, json!({ "from": from.0.to_string() })).await;
            let family = secret::new_secret().map_err(|fault| Problem::internal("a token", fault))?;
            pair(&control, &user, &family, now).await
        }
        Grant::Refresh { refresh_token } => {
            let refused = || Problem::unauthorized("the refresh token is not good, or no more: log in");
            match control.store.use_refresh_token(&secret::hash(&refresh_token), now).await? {
                Refreshed::Good { user, family } => {
                    let user = control.store.user(&user).await?.filter(|user| !user.disabled);
                    pair(&control, &user.ok_or_else(refused)?, &family, now).await
                }
                Refreshed::Reused(user) => {
                    let name = control.store.user(&user).await?.map_or(user, |user| user.name);
                    let detail = json!({ "from": from.0.to_string(), "why": "used twice: all of its family end" });
                    control.audit_as("nobody", "token.reuse", &name, detail).await;
                    Err(refused())
                }
                Refreshed::Unknown => Err(refused()),
            }
        }
    }
}

/// Give a refresh token back
#[utoipa::path(post, path = "/api/v1/token/revoke", operation_id = "revokeToken", tag = "identity", request_body = Revoke,
    responses((status = 204, description = "It is good no more, nor is what came of the same login")))]
pub(crate) async fn revoke(
    State(control): State<Arc<Control>>,
    Body(revoke): Body<Revoke>,
) -> Result<StatusCode, Problem> {
    control.store.end_family(&secret::hash(&revoke.refresh_token)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn pair(control: &Control, user: &User, family: &str, now: Moment) -> Result<Json<Pair>, Problem> {
    let refresh_token = secret::new_secret().map_err(|fault| Problem::internal("a token", fault))?;
    let hash = secret::hash(&refresh_token);
    control.store.add_refresh_token(&hash, family, &user.id, now, now.after_s(REFRESH_S)).await?;
    let access_token =
        control.tokens.issue(&user.id, user.version, now).map_err(|fault| Problem::internal("a token", fault))?;
    Ok(Json(Pair { access_token, token_type: "Bearer", expires_in: GOOD_FOR_S, refresh_token }))
}
