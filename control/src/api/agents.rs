//! Voice agents: those that take calls, and the definitions that people make. Every version is kept; one at most takes calls, and another
//! one does as soon as it is published.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::extract::{Body, Page, Paging, Params, bad_place, if_match, name, tagged, text};
use super::problem::{FieldError, Problem};
use crate::control::Control;
use crate::identity::Caller;
use crate::ports::agents::{AgentFault, AgentReadiness, AgentSource, AgentState, Conversation};
use crate::store::agents::{AgentVersion, NewVersion, StoredAgent};
use crate::time::Moment;

/// Names that are routes.
const RESERVED: [&str; 2] = ["check", "conversation"];
/// Bytes of a definition at most.
pub const DEFINITION_BYTES: usize = 200_000;
/// Sentences of a conversation in writing at most, and characters of each.
pub const SAID_LIMIT: usize = 100;
const SAID_CHARS: usize = 1_000;

/// An agent.
#[derive(Debug, Serialize, ToSchema)]
pub struct Agent {
    /// Its name: callers reach it by `sip:NAME@`.
    #[schema(example = "desk")]
    pub name: String,
    /// Where it comes from; only those that are `stored` can be changed here.
    pub source: AgentSource,
    /// Whether it can take calls; none where no version of it is published.
    pub state: Option<AgentReadiness>,
    /// Why it cannot.
    pub fault: Option<String>,
    /// The version that takes calls.
    pub published: Option<i64>,
    /// The newest version.
    pub latest: Option<i64>,
    /// When it last changed.
    pub updated_at: Option<Moment>,
}

/// An agent with what it is.
#[derive(Debug, Serialize, ToSchema)]
pub struct AgentDetail {
    /// The agent.
    #[serde(flatten)]
    pub agent: Agent,
    /// Its definition, as TOML: of the version that takes calls, else of the newest. None of an agent that is a program's.
    pub definition: Option<String>,
}

/// A version with what it says.
#[derive(Debug, Serialize, ToSchema)]
pub struct VersionDetail {
    /// The version.
    #[serde(flatten)]
    pub version: AgentVersion,
    /// Its definition, as TOML.
    pub definition: String,
}

/// A new agent.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateAgent {
    /// Its name.
    #[schema(example = "reception")]
    pub name: String,
    /// Its definition, as TOML.
    pub definition: String,
    /// What is new in it.
    #[serde(default)]
    pub note: String,
}

/// A new version of an agent.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateVersion {
    /// Its definition, as TOML.
    pub definition: String,
    /// What is new in it.
    #[serde(default)]
    pub note: String,
}

/// Which version takes calls.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Publish {
    /// Its number.
    #[schema(example = 2)]
    pub version: i64,
}

/// A definition to be looked at.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// TOML.
    pub definition: String,
}

/// What was found.
#[derive(Debug, Serialize, ToSchema)]
pub struct Checked {
    /// What is wrong; nothing where the definition can be used.
    pub faults: Vec<AgentFault>,
}

/// A conversation to be held in writing.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Converse {
    /// With an agent of this definition, as TOML.
    #[serde(default)]
    pub definition: Option<String>,
    /// Or with this one.
    #[serde(default)]
    #[schema(example = "desk")]
    pub agent: Option<String>,
    /// What the caller says, one after another; nothing but keys (`0` to `9`, `*`, `#`) is keyed.
    #[schema(example = json!(["I want to make an appointment", "1"]))]
    pub said: Vec<String>,
}

/// List agents
#[utoipa::path(get, path = "/api/v1/agents", operation_id = "listAgents", tag = "agents", params(Paging),
    responses((status = 200, description = "Agents by name", body = Page<Agent>)))]
pub(crate) async fn list(
    State(control): State<Arc<Control>>,
    Params(paging): Params<Paging>,
) -> Result<Json<Page<Agent>>, Problem> {
    let (limit, place) = (paging.limit()?, paging.place()?);
    let running = control.agents.list();
    let stored = control.store.agents(place.as_deref(), limit + 1).await?;
    let is_stored = |state: &AgentState| stored.iter().any(|agent| agent.name == state.name);
    let others = running.iter().filter(|state| state.source != AgentSource::Stored && !is_stored(state));
    let others = others.filter(|state| place.as_ref().is_none_or(|place| state.name > *place)).map(unstored);
    let find = |name: &str| running.iter().find(|state| state.name == name && state.source == AgentSource::Stored);
    let mut agents: Vec<Agent> = stored
        .iter()
        .map(|agent| view(agent, find(&agent.name)))
        .collect::<Vec<_>>()
        .into_iter()
        .chain(others)
        .collect();
    agents.sort_by(|a, b| a.name.cmp(&b.name));
    agents.truncate(usize::try_from(limit + 1).unwrap_or(usize::MAX));
    Ok(Json(Page::of(agents, limit, |agent| agent.name.clone())))
}

/// Add an agent
///
/// It takes calls once a version of it is published.
#[utoipa::path(post, path = "/api/v1/agents", operation_id = "addAgent", tag = "agents", request_body = CreateAgent,
    responses((status = 201, description = "The agent, with its first version", body = AgentDetail),
              (status = 409, description = "The name is taken", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn create(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Body(wanted): Body<CreateAgent>,
) -> Result<Response, Problem> {
    let agent = name("name", &wanted.name)?;
    if RESERVED.contains(&agent.as_str()) {
        return Err(Problem::field("name", format!("`{agent}` means something else here: choose another")));
    }
    if control.agents.list().iter().any(|state| state.name == agent && state.source != AgentSource::Stored) {
        let taken = format!("{agent} comes with the server: choose another name");
        return Err(Problem {
            errors: vec![FieldError { field: "name".into(), message: taken.clone() }],
            ..Problem::new(StatusCode::CONFLICT, taken)
        });
    }
    let (definition, note) = checked(&control, &wanted.definition, &wanted.note)?;
    let by = caller.actor();
    let new = NewVersion { agent: &agent, definition: &definition, note: &note, by: &by };
    control.store.add_agent(new, Moment::now()).await?;
    control.audit(&caller, "agent.create", &agent, json!({ "note": note })).await;
    let stored = find(&control, &agent).await?;
    let body = AgentDetail { agent: view(&stored, None), definition: Some(definition) };
    Ok(tagged(StatusCode::CREATED, stored.version, body))
}

/// Show an agent
#[utoipa::path(get, path = "/api/v1/agents/{name}", operation_id = "showAgent", tag = "agents", params(("name" = String, Path, description = "The agent's name")),
    responses((status = 200, description = "The agent", body = AgentDetail), (status = 404, description = "No such agent", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn show(State(control): State<Arc<Control>>, Path(agent): Path<String>) -> Result<Response, Problem> {
    let running = control.agents.list().into_iter().find(|state| state.name == agent);
    if let Some(state) = running.as_ref().filter(|state| state.source != AgentSource::Stored) {
        let definition = control.agents.definition(&agent);
        return Ok(tagged(StatusCode::OK, 0, AgentDetail { agent: unstored(state), definition }));
    }
    let stored = find(&control, &agent).await?;
    let number = stored.published.unwrap_or(stored.latest);
    let definition = control.store.agent_definition(&agent, number).await?;
    Ok(tagged(StatusCode::OK, stored.version, AgentDetail { agent: view(&stored, running.as_ref()), definition }))
}

/// Take an agent away
///
/// With all its versions. Conversations that run go on.
#[utoipa::path(delete, path = "/api/v1/agents/{name}", operation_id = "removeAgent", tag = "agents", params(("name" = String, Path, description = "The agent's name")),
    responses((status = 204, description = "Gone"), (status = 404, description = "No such agent", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn remove(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Path(agent): Path<String>,
) -> Result<StatusCode, Problem> {
    find(&control, &agent).await?;
    control.store.remove_agent(&agent).await?;
    control.apply_agents().await?;
    control.audit(&caller, "agent.remove", &agent, json!({})).await;
    Ok(StatusCode::NO_CONTENT)
}

/// List an agent's versions
#[utoipa::path(get, path = "/api/v1/agents/{name}/versions", operation_id = "listAgentVersions", tag = "agents",
    params(("name" = String, Path, description = "The agent's name"), Paging),
    responses((status = 200, description = "Versions, newest first", body = Page<AgentVersion>), (status = 404, description = "No such agent", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn versions(
    State(control): State<Arc<Control>>,
    Path(agent): Path<String>,
    Params(paging): Params<Paging>,
) -> Result<Json<Page<AgentVersion>>, Problem> {
    let (limit, place) = (paging.limit()?, paging.place()?);
    let before = place.map(|place| place.parse().map_err(|_| bad_place())).transpose()?;
    find(&control, &agent).await?;
    let versions = control.store.agent_versions(&agent, before, limit + 1).await?;
    Ok(Json(Page::of(versions, limit, |version| version.version.to_string())))
}

/// Add a version to an agent
///
/// It takes calls once it is published.
#[utoipa::path(post, path = "/api/v1/agents/{name}/versions", operation_id = "addAgentVersion", tag = "agents", request_body = CreateVersion,
    params(("name" = String, Path, description = "The agent's name")),
    responses((status = 201, description = "The version", body = VersionDetail), (status = 404, description = "No such agent", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn add_version(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Path(agent): Path<String>,
    Body(wanted): Body<CreateVersion>,
) -> Result<(StatusCode, Json<VersionDetail>), Problem> {
    find(&control, &agent).await?;
    let (definition, note) = checked(&control, &wanted.definition, &wanted.note)?;
    let (by, now) = (caller.actor(), Moment::now());
    let new = NewVersion { agent: &agent, definition: &definition, note: &note, by: &by };
    let number = control.store.add_agent_version(new, now).await?.ok_or_else(|| Problem::not_found("agent"))?;
    control.audit(&caller, "agent.change", &agent, json!({ "version": number, "note": note })).await;
    let version = AgentVersion { version: number, note, created_by: by, created_at: now, published: false };
    Ok((StatusCode::CREATED, Json(VersionDetail { version, definition })))
}

/// Show a version of an agent
#[utoipa::path(get, path = "/api/v1/agents/{name}/versions/{version}", operation_id = "showAgentVersion", tag = "agents",
    params(("name" = String, Path, description = "The agent's name"), ("version" = i64, Path, description = "The version's number")),
    responses((status = 200, description = "The version", body = VersionDetail), (status = 404, description = "No such version", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn version(
    State(control): State<Arc<Control>>,
    Path((agent, number)): Path<(String, String)>,
) -> Result<Json<VersionDetail>, Problem> {
    let number: i64 = number.parse().map_err(|_| Problem::not_found("version"))?;
    find(&control, &agent).await?;
    let before = number.checked_add(1);
    let version = control.store.agent_versions(&agent, before, 1).await?.pop().filter(|found| found.version == number);
    let definition = control.store.agent_definition(&agent, number).await?;
    match (version, definition) {
        (Some(version), Some(definition)) => Ok(Json(VersionDetail { version, definition })),
        _ => Err(Problem::not_found("version")),
    }
}

/// Publish a version of an agent
///
/// It takes the calls that come from here on, as soon as it is loaded. An older version is gone back to in the same way. One that cannot be used is refused.
#[utoipa::path(put, path = "/api/v1/agents/{name}/published", operation_id = "publishAgent", tag = "agents", request_body = Publish,
    params(("name" = String, Path, description = "The agent's name"), ("If-Match" = Option<String>, Header, description = "The ETag that was read")),
    responses((status = 200, description = "The agent", body = Agent),
              (status = 404, description = "No such agent", body = Problem, content_type = "application/problem+json"),
              (status = 412, description = "It was changed meanwhile", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn publish(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Path(agent): Path<String>,
    headers: HeaderMap,
    Body(wanted): Body<Publish>,
) -> Result<Response, Problem> {
    let stored = find(&control, &agent).await?;
    let missing = || Problem::field("version", format!("{agent} has no version {}", wanted.version));
    let definition = control.store.agent_definition(&agent, wanted.version).await?.ok_or_else(missing)?;
    // What could be used when it was written may name what is gone since. The version that takes calls goes on then.
    let faults = control.agents.check(&definition);
    if !faults.is_empty() {
        return Err(wrong(&faults));
    }
    settle(&control, &caller, &stored, Some(wanted.version), if_match(&headers)?).await
}

/// Withdraw an agent
///
/// It takes no more calls; conversations that run go on.
#[utoipa::path(delete, path = "/api/v1/agents/{name}/published", operation_id = "withdrawAgent", tag = "agents",
    params(("name" = String, Path, description = "The agent's name"), ("If-Match" = Option<String>, Header, description = "The ETag that was read")),
    responses((status = 200, description = "The agent", body = Agent),
              (status = 404, description = "No such agent", body = Problem, content_type = "application/problem+json"),
              (status = 412, description = "It was changed meanwhile", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn withdraw(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Path(agent): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let stored = find(&control, &agent).await?;
    settle(&control, &caller, &stored, None, if_match(&headers)?).await
}

/// Check a definition
#[utoipa::path(post, path = "/api/v1/agents/check", operation_id = "checkAgent", tag = "agents", request_body = Definition,
    responses((status = 200, description = "What is wrong with it", body = Checked)))]
pub(crate) async fn check(
    State(control): State<Arc<Control>>,
    Body(wanted): Body<Definition>,
) -> Result<Json<Checked>, Problem> {
    Ok(Json(Checked { faults: control.agents.check(bounded(&wanted.definition)?) }))
}

/// Talk with an agent in writing
///
/// The conversation begins anew with each request: send what was said before too.
#[utoipa::path(post, path = "/api/v1/agents/conversation", operation_id = "converseWithAgent", tag = "agents", request_body = Converse,
    responses((status = 200, description = "What was said by both", body = Conversation)))]
pub(crate) async fn converse(
    State(control): State<Arc<Control>>,
    Body(wanted): Body<Converse>,
) -> Result<Json<Conversation>, Problem> {
    let definition = match (&wanted.definition, &wanted.agent) {
        (Some(definition), None) => bounded(definition)?.to_owned(),
        (None, Some(agent)) => definition_of(&control, agent).await?,
        _ => return Err(Problem::field("definition", "send either a definition or an agent's name")),
    };
    if wanted.said.len() > SAID_LIMIT {
        return Err(Problem::field("said", format!("write at most {SAID_LIMIT} sentences")));
    }
    let said = wanted.said.iter().enumerate().map(|(at, said)| text(&format!("said[{at}]"), said, SAID_CHARS));
    let said = said.collect::<Result<Vec<_>, _>>()?;
    control.agents.converse(&definition, said).await.map(Json).map_err(|faults| wrong(&faults))
}

/// The definition that an agent's calls are held by.
async fn definition_of(control: &Control, agent: &str) -> Result<String, Problem> {
    let missing = || Problem::field("agent", format!("there is no agent called {agent}"));
    if let Some(definition) = control.agents.definition(agent) {
        return Ok(definition);
    }
    let stored = find(control, agent).await.map_err(|_| missing())?;
    let number = stored.published.unwrap_or(stored.latest);
    control.store.agent_definition(agent, number).await?.ok_or_else(missing)
}

async fn settle(
    control: &Control,
    caller: &Caller,
    agent: &StoredAgent,
    number: Option<i64>,
    version: Option<i64>,
) -> Result<Response, Problem> {
    let agent = control.store.publish_agent(agent, number, version, Moment::now()).await?;
    control.apply_agents().await?;
    let action = if number.is_some() { "agent.publish" } else { "agent.withdraw" };
    control.audit(caller, action, &agent.name, json!({ "version": number })).await;
    let running = control.agents.list().into_iter().find(|state| state.name == agent.name);
    Ok(tagged(StatusCode::OK, agent.version, view(&agent, running.as_ref())))
}

/// A definition that can be used, and its note.
fn checked(control: &Control, definition: &str, note: &str) -> Result<(String, String), Problem> {
    let definition = bounded(definition)?;
    let note = if note.trim().is_empty() { String::new() } else { text("note", note, 200)? };
    let faults = control.agents.check(definition);
    if faults.is_empty() { Ok((definition.to_owned(), note)) } else { Err(wrong(&faults)) }
}

fn bounded(definition: &str) -> Result<&str, Problem> {
    if definition.len() > DEFINITION_BYTES {
        return Err(Problem::field("definition", format!("write at most {DEFINITION_BYTES} bytes")));
    }
    if definition.contains('\0') {
        return Err(Problem::field("definition", "write no NUL characters"));
    }
    Ok(definition)
}

fn wrong(faults: &[AgentFault]) -> Problem {
    let error = |fault: &AgentFault| {
        let place =
            if fault.field.is_empty() { "definition".to_owned() } else { format!("definition.{}", fault.field) };
        let line = fault.line.map(|line| format!("line {line}: ")).unwrap_or_default();
        FieldError { field: place, message: format!("{line}{}", fault.detail) }
    };
    Problem::fields(faults.iter().map(error).collect())
}

async fn find(control: &Control, agent: &str) -> Result<StoredAgent, Problem> {
    let found = if agent.contains('\0') { None } else { control.store.agent(agent).await? };
    found.ok_or_else(|| Problem::not_found("agent"))
}

fn view(agent: &StoredAgent, state: Option<&AgentState>) -> Agent {
    Agent {
        name: agent.name.clone(),
        source: AgentSource::Stored,
        state: state.map(|state| state.state),
        fault: state.and_then(|state| state.fault.clone()),
        published: agent.published,
        latest: Some(agent.latest),
        updated_at: Some(agent.updated_at),
    }
}

fn unstored(state: &AgentState) -> Agent {
    Agent {
        name: state.name.clone(),
        source: state.source,
        state: Some(state.state),
        fault: state.fault.clone(),
        published: None,
        latest: None,
        updated_at: None,
    }
}
