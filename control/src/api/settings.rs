//! Trunks, numbers, routes and devices. Those of the configuration files are shown; others are added, changed and taken away here, and take
//! effect on calls that come from then on. Their keys are those of the configuration file (see omnivox.sample.toml); secrets are
//! written and never shown, and one that is left out of a change stays.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::extract::{Body, Page, Paging, Params, if_match, tagged, text};
use super::problem::{FieldError, Problem};
use crate::control::Control;
use crate::identity::Caller;
use crate::ports::settings::{SettingFault, SettingKind, SettingValue};
use crate::settings::ChangeError;
use crate::store::StoreError;
use crate::store::settings::StoredSetting;
use crate::time::Moment;

/// Where a setting comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SettingSource {
    /// The configuration files.
    File,
    /// The database.
    Stored,
}

/// A setting: every key of the configuration file's entry, without its secrets.
#[derive(Debug, Serialize, ToSchema)]
pub struct Setting {
    /// Where it comes from; only those that are `stored` can be changed here.
    pub source: SettingSource,
    /// When it last changed.
    pub updated_at: Option<Moment>,
    /// The keys of the entry.
    #[serde(flatten)]
    #[schema(value_type = std::collections::HashMap<String, Value>)]
    pub keys: SettingValue,
}

/// What the keys of a kind are called in the document. [`Settings::schema`](crate::ports::settings::Settings::schema) says what they are.
pub(super) fn schema_name(kind: SettingKind) -> &'static str {
    match kind {
        SettingKind::Device => "DeviceKeys",
        SettingKind::Trunk => "TrunkKeys",
        SettingKind::Route => "RouteKeys",
        SettingKind::Number => "NumberKeys",
    }
}

async fn list(control: &Control, kind: SettingKind, paging: &Paging) -> Result<Json<Page<Setting>>, Problem> {
    let (limit, place) = (paging.limit()?, paging.place()?);
    let fixed = control.settings.port().fixed(kind).into_iter();
    let fixed = fixed.map(|keys| Setting { source: SettingSource::File, updated_at: None, keys });
    let stored = control.store.settings().await?;
    let stored = stored.iter().filter(|setting| setting.kind == kind.as_str());
    let stored = stored.filter_map(|setting| view(control, kind, setting));
    let mut all: Vec<Setting> = fixed.chain(stored).collect();
    all.sort_by(|a, b| name_of(kind, &a.keys).cmp(name_of(kind, &b.keys)));
    all.retain(|setting| place.as_deref().is_none_or(|place| name_of(kind, &setting.keys) > place));
    all.truncate(usize::try_from(limit + 1).unwrap_or(usize::MAX));
    Ok(Json(Page::of(all, limit, |setting| name_of(kind, &setting.keys).to_owned())))
}

async fn add(control: &Control, caller: &Caller, kind: SettingKind, keys: SettingValue) -> Result<Response, Problem> {
    let name = text(kind.key(), name_of(kind, &keys), 128)?;
    if fixed(control, kind, &name).is_some() {
        return Err(StoreError::Taken { field: kind.key(), value: name }.into());
    }
    leads_to_an_agent(control, kind, &keys).await?;
    control.settings.put(kind, &name, &keys, None).await?;
    control.audit(caller, &format!("{}.create", kind.as_str()), &name, json!({})).await;
    answer(control, kind, &name, StatusCode::CREATED).await
}

async fn show(control: &Control, kind: SettingKind, name: &str) -> Result<Response, Problem> {
    if let Some(keys) = fixed(control, kind, name) {
        return Ok(tagged(StatusCode::OK, 0, Setting { source: SettingSource::File, updated_at: None, keys }));
    }
    answer(control, kind, name, StatusCode::OK).await
}

async fn change(
    control: &Control,
    caller: &Caller,
    (kind, name): (SettingKind, &str),
    headers: &HeaderMap,
    mut keys: SettingValue,
) -> Result<Response, Problem> {
    let mut before = find(control, kind, name).await?;
    if name_of(kind, &keys) != name {
        return Err(Problem::field(kind.key(), format!("it is called {name}: a setting keeps its name")));
    }
    before.version = if_match(headers)?.unwrap_or(before.version);
    let old = control.settings.open(&before).unwrap_or_default();
    for secret in kind.secrets() {
        if let (false, Some(old)) = (keys.contains_key(*secret), old.get(*secret)) {
            keys.insert((*secret).to_owned(), old.clone());
        }
    }
    // One that leads where it led is changed also where nobody takes its calls any more.
    if agent_of(control, kind, &keys) != agent_of(control, kind, &old) {
        leads_to_an_agent(control, kind, &keys).await?;
    }
    control.settings.put(kind, name, &keys, Some(&before)).await?;
    control.audit(caller, &format!("{}.change", kind.as_str()), name, json!({})).await;
    answer(control, kind, name, StatusCode::OK).await
}

async fn remove(control: &Control, caller: &Caller, kind: SettingKind, name: &str) -> Result<StatusCode, Problem> {
    find(control, kind, name).await?;
    control.settings.remove(kind, name).await.map_err(|fault| match fault {
        // Whatever is wrong without it names it.
        ChangeError::Fault(fault) => Problem::new(StatusCode::CONFLICT, format!("others need it: {fault}")),
        other => other.into(),
    })?;
    control.audit(caller, &format!("{}.remove", kind.as_str()), name, json!({})).await;
    Ok(StatusCode::NO_CONTENT)
}

/// What leads to an agent leads to one that takes calls: one of the server's, or one that a version is published of.
async fn leads_to_an_agent(control: &Control, kind: SettingKind, keys: &SettingValue) -> Result<(), Problem> {
    let Some(agent) = agent_of(control, kind, keys) else { return Ok(()) };
    let there: Vec<String> = control.agents.list().into_iter().map(|state| state.name).collect();
    if there.contains(&agent) {
        return Ok(());
    }
    let stored = if agent.contains('\0') { None } else { control.store.agent(&agent).await? };
    let why = match stored {
        // Another server of the database has it, and this one will within seconds.
        Some(stored) if stored.published.is_some() => return Ok(()),
        Some(_) => format!("the agent {agent} takes no calls yet: publish a version of it first"),
        None => format!("no agent is called {agent}: there are {}", there.join(", ")),
    };
    Err(Problem::field("to", why))
}

fn agent_of(control: &Control, kind: SettingKind, keys: &SettingValue) -> Option<String> {
    control.settings.port().agent_of(kind, keys)
}

async fn find(control: &Control, kind: SettingKind, name: &str) -> Result<StoredSetting, Problem> {
    let found = if name.contains('\0') { None } else { control.store.setting(kind, name).await? };
    found.ok_or_else(|| match fixed(control, kind, name) {
        Some(_) => {
            Problem::new(StatusCode::CONFLICT, format!("{name} stands in the configuration file: change it there"))
        }
        None => Problem::not_found("setting"),
    })
}

async fn answer(control: &Control, kind: SettingKind, name: &str, status: StatusCode) -> Result<Response, Problem> {
    let stored = find(control, kind, name).await?;
    let shown =
        view(control, kind, &stored).ok_or_else(|| Problem::internal("a setting", "it was sealed by another key"))?;
    Ok(tagged(status, stored.version, shown))
}

fn fixed(control: &Control, kind: SettingKind, name: &str) -> Option<SettingValue> {
    control.settings.port().fixed(kind).into_iter().find(|keys| name_of(kind, keys) == name)
}

fn view(control: &Control, kind: SettingKind, stored: &StoredSetting) -> Option<Setting> {
    let keys = control.settings.port().shown(kind, &control.settings.open(stored)?);
    Some(Setting { source: SettingSource::Stored, updated_at: Some(stored.updated_at), keys })
}

fn name_of(kind: SettingKind, keys: &SettingValue) -> &str {
    keys.get(kind.key()).and_then(Value::as_str).unwrap_or_default()
}

impl From<ChangeError> for Problem {
    fn from(fault: ChangeError) -> Self {
        match fault {
            ChangeError::Fault(SettingFault { field, detail }) => {
                Self::fields(vec![FieldError { field, message: detail }])
            }
            ChangeError::Store(fault) => fault.into(),
            ChangeError::Random => Self::internal("a setting", fault),
        }
    }
}

/// The routes of a kind. Each has the same five.
macro_rules! resource {
    ($module:ident, $kind:ident, $keys:ident, $path:literal, $one:literal,
     $list:literal, $add:literal, $show:literal, $change:literal, $remove:literal, $what:literal) => {
        #[doc = concat!("`/api/v1/", $path, "`.")]
        pub mod $module {
            use super::*;

            /// The keys of an entry, as the configuration file has them.
            #[derive(Debug, serde::Deserialize, ToSchema)]
            #[serde(transparent)]
            #[schema(value_type = Object)]
            pub struct $keys(SettingValue);

            #[utoipa::path(get, summary = concat!("List ", $path), path = concat!("/api/v1/", $path), operation_id = $list, tag = "telephony", params(Paging),
                responses((status = 200, description = concat!("Those of the configuration files and those that were added, by ", $what), body = Page<Setting>)))]
            pub(crate) async fn list(
                State(control): State<Arc<Control>>,
                Params(paging): Params<Paging>,
            ) -> Result<Json<Page<Setting>>, Problem> {
                super::list(&control, SettingKind::$kind, &paging).await
            }

            #[utoipa::path(post, summary = concat!("Add a ", $one),
                description = concat!("The body has the keys of `[[", $path, "]]` in the configuration file. It takes effect at once."), path = concat!("/api/v1/", $path), operation_id = $add, tag = "telephony", request_body = $keys,
                responses((status = 201, description = "It, with every key", body = Setting),
                          (status = 409, description = "There is one of that name", body = Problem, content_type = "application/problem+json")))]
            pub(crate) async fn add(
                State(control): State<Arc<Control>>,
                caller: Caller,
                Body(keys): Body<$keys>,
            ) -> Result<Response, Problem> {
                super::add(&control, &caller, SettingKind::$kind, keys.0).await
            }

            #[utoipa::path(get, summary = concat!("Show a ", $one), path = concat!("/api/v1/", $path, "/{name}"), operation_id = $show, tag = "telephony", params(("name" = String, Path, description = $what)),
                responses((status = 200, description = "It, with every key", body = Setting), (status = 404, description = "There is none", body = Problem, content_type = "application/problem+json")))]
            pub(crate) async fn show(
                State(control): State<Arc<Control>>,
                Path(name): Path<String>,
            ) -> Result<Response, Problem> {
                super::show(&control, SettingKind::$kind, &name).await
            }

            #[utoipa::path(put, summary = concat!("Change a ", $one),
                description = "The body is all of it; secrets that it leaves out stay as they are.", path = concat!("/api/v1/", $path, "/{name}"), operation_id = $change, tag = "telephony", request_body = $keys,
                params(("name" = String, Path, description = $what), ("If-Match" = Option<String>, Header, description = "The ETag that was read")),
                responses((status = 200, description = "It, with every key", body = Setting),
                          (status = 404, description = "There is none", body = Problem, content_type = "application/problem+json"),
                          (status = 409, description = "It stands in the configuration file", body = Problem, content_type = "application/problem+json"),
                          (status = 412, description = "It was changed meanwhile", body = Problem, content_type = "application/problem+json")))]
            pub(crate) async fn change(
                State(control): State<Arc<Control>>,
                caller: Caller,
                Path(name): Path<String>,
                headers: HeaderMap,
                Body(keys): Body<$keys>,
            ) -> Result<Response, Problem> {
                super::change(&control, &caller, (SettingKind::$kind, &name), &headers, keys.0).await
            }

            #[utoipa::path(delete, summary = concat!("Take a ", $one, " away"), path = concat!("/api/v1/", $path, "/{name}"), operation_id = $remove, tag = "telephony", params(("name" = String, Path, description = $what)),
                responses((status = 204, description = "Gone"), (status = 404, description = "There is none", body = Problem, content_type = "application/problem+json"),
                          (status = 409, description = "It stands in the configuration file, or others need it", body = Problem, content_type = "application/problem+json")))]
            pub(crate) async fn remove(
                State(control): State<Arc<Control>>,
                caller: Caller,
                Path(name): Path<String>,
            ) -> Result<StatusCode, Problem> {
                super::remove(&control, &caller, SettingKind::$kind, &name).await
            }
        }
    };
}

resource!(
    devices,
    Device,
    DeviceKeys,
    "devices",
    "device",
    "listDevices",
    "addDevice",
    "showDevice",
    "changeDevice",
    "removeDevice",
    "the name that it registers as (`user`)"
);
resource!(
    trunks,
    Trunk,
    TrunkKeys,
    "trunks",
    "trunk",
    "listTrunks",
    "addTrunk",
    "showTrunk",
    "changeTrunk",
    "removeTrunk",
    "its name"
);
resource!(
    rules,
    Route,
    RouteKeys,
    "routes",
    "route",
    "listRoutes",
    "addRoute",
    "showRoute",
    "changeRoute",
    "removeRoute",
    "its name"
);
resource!(
    numbers,
    Number,
    NumberKeys,
    "numbers",
    "number",
    "listNumbers",
    "addNumber",
    "showNumber",
    "changeNumber",
    "removeNumber",
    "the number"
);
