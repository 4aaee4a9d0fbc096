//! Teams: whose calls a supervisor sees.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

use super::extract::{Body, Page, Paging, Params, if_match, tagged, text};
use super::gate::team_of;
use super::problem::Problem;
use crate::control::Control;
use crate::identity::Caller;
use crate::store::teams::Team;
use crate::time::Moment;

/// A team's name.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TeamName {
    /// It.
    #[schema(example = "Reception")]
    pub name: String,
}

/// List teams
#[utoipa::path(get, path = "/api/v1/teams", operation_id = "listTeams", tag = "people", params(Paging),
    responses((status = 200, description = "Teams by name; supervisors see their own", body = Page<Team>)))]
pub(crate) async fn list(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Params(paging): Params<Paging>,
) -> Result<Json<Page<Team>>, Problem> {
    let (limit, place) = (paging.limit()?, paging.place()?);
    let teams = match team_of(&caller) {
        Some(own) => control.store.team(own).await?.into_iter().collect(),
        None => control.store.teams(place.as_deref(), limit + 1).await?,
    };
    Ok(Json(Page::of(teams, limit, |team| team.name.clone())))
}

/// Add a team
#[utoipa::path(post, path = "/api/v1/teams", operation_id = "addTeam", tag = "people", request_body = TeamName,
    responses((status = 201, description = "The team", body = Team),
              (status = 409, description = "The name is taken", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn create(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Body(wanted): Body<TeamName>,
) -> Result<Response, Problem> {
    let team = control.store.add_team(&text("name", &wanted.name, 100)?, Moment::now()).await?;
    control.audit(&caller, "team.create", &team.name, json!({})).await;
    Ok(tagged(StatusCode::CREATED, team.version, team))
}

/// Show a team
#[utoipa::path(get, path = "/api/v1/teams/{id}", operation_id = "showTeam", tag = "people", params(("id" = String, Path, description = "The team's id")),
    responses((status = 200, description = "The team", body = Team), (status = 404, description = "No such team", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn show(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let team = find(&control, &caller, &id).await?;
    Ok(tagged(StatusCode::OK, team.version, team))
}

/// Give a team another name
#[utoipa::path(patch, path = "/api/v1/teams/{id}", operation_id = "renameTeam", tag = "people", request_body = TeamName,
    params(("id" = String, Path, description = "The team's id"), ("If-Match" = Option<String>, Header, description = "The ETag that was read")),
    responses((status = 200, description = "The team", body = Team),
              (status = 404, description = "No such team", body = Problem, content_type = "application/problem+json"),
              (status = 409, description = "The name is taken", body = Problem, content_type = "application/problem+json"),
              (status = 412, description = "It was changed meanwhile", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn rename(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
    Body(wanted): Body<TeamName>,
) -> Result<Response, Problem> {
    let team = find(&control, &caller, &id).await?;
    let changed = control.store.rename_team(&team, &text("name", &wanted.name, 100)?, if_match(&headers)?).await?;
    control.audit(&caller, "team.change", &team.name, json!({ "name": changed.name })).await;
    Ok(tagged(StatusCode::OK, changed.version, changed))
}

/// Take a team away
#[utoipa::path(delete, path = "/api/v1/teams/{id}", operation_id = "removeTeam", tag = "people", params(("id" = String, Path, description = "The team's id")),
    responses((status = 204, description = "Gone"),
              (status = 404, description = "No such team", body = Problem, content_type = "application/problem+json"),
              (status = 409, description = "Users belong to it", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn remove(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let team = find(&control, &caller, &id).await?;
    control.store.remove_team(&id).await?;
    control.audit(&caller, "team.remove", &team.name, json!({})).await;
    Ok(StatusCode::NO_CONTENT)
}

async fn find(control: &Control, caller: &Caller, id: &str) -> Result<Team, Problem> {
    let may = team_of(caller).is_none_or(|own| own == id);
    let team = if may && !id.contains('\0') { control.store.team(id).await? } else { None };
    team.ok_or_else(|| Problem::not_found("team"))
}
