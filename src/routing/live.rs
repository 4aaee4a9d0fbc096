//! What calls are routed by, as it is now: the configuration files' devices, trunks and routes, and those that people add and change while
//! calls run. A call that is being routed keeps what it began with.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use control::ports::settings::{SettingFault, SettingKind, SettingValue, Settings};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use super::{Router, described};
use crate::accounts::Accounts;
use crate::call::dial::{Dialer, Direct};
use crate::config::{CallerKind, Config, ConfigError, DeviceConfig, RouteConfig, RouteTo, TrunkConfig};
use crate::hub::Hub;
use crate::stir::passport::Signer;
use crate::trunks::Trunks;

/// A route without a position stands behind those with a lower one, and before those with a higher one.
const POSITION: i64 = 100;

/// What calls are routed by.
#[derive(Clone)]
pub(crate) struct Routing {
    /// The configuration with everything that was added.
    pub(crate) config: Arc<Config>,
    /// Carriers.
    pub(crate) trunks: Arc<Trunks>,
    /// Routes; `None` where there are none to look up, as for a phone.
    pub(crate) router: Option<Arc<Router>>,
    /// Asked how somebody is reached.
    pub(crate) dialer: Arc<dyn Dialer>,
}

impl Routing {
    /// Without devices, trunks and routes.
    pub(crate) fn none(config: Arc<Config>) -> Self {
        Self { config, trunks: Arc::default(), router: None, dialer: Arc::new(Direct) }
    }
}

/// A number of ours and who answers it: a route for the calls of trunks in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NumberConfig {
    /// As routes see it: in E.164 where the trunk writes numbers so.
    #[schema(example = "+49301234")]
    number: String,
    /// Who gets the call, as in a route: `agent NAME`, `user NAME`, `queue NAME NAME`, `room NAME`.
    #[schema(example = "agent desk")]
    to: String,
    /// The trunk that it belongs to; empty: any.
    #[schema(example = "carrier")]
    #[serde(default)]
    trunk: String,
    /// What it is for.
    #[serde(default)]
    note: String,
}

/// What a route has besides its keys in the configuration file, where its place is its position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize, ToSchema)]
#[serde(default)]
struct Place {
    /// Routes of a lower position are tried first; those of the configuration file come after all of them.
    position: i64,
}

impl Default for Place {
    fn default() -> Self {
        Self { position: POSITION }
    }
}

impl Place {
    /// Takes it out of a route's keys.
    fn taken_from(keys: &mut SettingValue) -> Result<Self, SettingFault> {
        let position = keys.remove_entry("position");
        position.map_or(Ok(Self::default()), |entry| read(&[entry].into_iter().collect()))
    }
}

impl NumberConfig {
    fn route(&self) -> Result<RouteConfig, SettingFault> {
        if !self.number.chars().all(|c| c.is_ascii_digit() || "+*#".contains(c)) || self.number.is_empty() {
            return Err(fault("number", "write digits, with + in front for an international number".to_owned()));
        }
        let from = if self.trunk.is_empty() { CallerKind::Trunks } else { CallerKind::Trunk(self.trunk.clone()) };
        Ok(RouteConfig {
            name: format!("number {}", self.number),
            from: vec![from],
            // A `*` at the end would stand for more.
            called: format!("/{}/", regex::escape(&self.number)).parse().map_err(|detail| fault("number", detail))?,
            to: self.to.parse().map_err(|detail| fault("to", detail))?,
            ..RouteConfig::default()
        })
    }
}

/// Puts the settings of the database beside those of the files, and what calls are routed by in the place of what was.
pub(crate) struct LiveSettings {
    files: Arc<Config>,
    /// Gone once the server has stopped.
    hub: Weak<Hub>,
    accounts: Arc<Accounts>,
    signer: Option<Arc<Signer>>,
    stop: CancellationToken,
    /// One change at a time.
    changing: Mutex<()>,
}

impl LiveSettings {
    pub(crate) fn new(
        files: Arc<Config>,
        hub: Weak<Hub>,
        accounts: Arc<Accounts>,
        signer: Option<Arc<Signer>>,
        stop: CancellationToken,
    ) -> Self {
        Self { files, hub, accounts, signer, stop, changing: Mutex::new(()) }
    }

    fn merged(&self, settings: &[(SettingKind, SettingValue)]) -> Result<Config, SettingFault> {
        merged(&self.files, settings)
    }
}

/// The configuration of the files with these settings.
///
/// # Errors
/// The first thing that is wrong.
pub(crate) fn merged(files: &Config, settings: &[(SettingKind, SettingValue)]) -> Result<Config, SettingFault> {
    let (mut devices, mut trunks, mut numbers) = (Vec::new(), Vec::new(), Vec::new());
    let mut routes: Vec<(i64, RouteConfig)> = Vec::new();
    for (kind, value) in settings {
        match kind {
            SettingKind::Device => devices.push(read::<DeviceConfig>(value)?),
            SettingKind::Trunk => trunks.push(read::<TrunkConfig>(value)?),
            SettingKind::Number => numbers.push(read::<NumberConfig>(value)?.route()?),
            SettingKind::Route => {
                let mut value = value.clone();
                let Place { position } = Place::taken_from(&mut value)?;
                routes.push((position, read(&value)?));
            }
        }
    }
    routes.sort_by(|(at, a), (other_at, b)| at.cmp(other_at).then_with(|| a.name.cmp(&b.name)));
    let named: Vec<String> = numbers.iter().map(|number: &RouteConfig| number.name.clone()).collect();
    let routes = routes.into_iter().map(|(_, route)| route).chain(numbers).collect();
    files.with_settings(devices, trunks, routes).map_err(|error| in_short(&error, &named))
}

impl Settings for LiveSettings {
    fn schema(&self, kind: SettingKind) -> Value {
        let keys = match kind {
            SettingKind::Device => described::keys::<DeviceConfig>(kind),
            SettingKind::Trunk => described::keys::<TrunkConfig>(kind),
            SettingKind::Route => {
                described::joined(described::keys::<RouteConfig>(kind), described::keys::<Place>(kind))
            }
            SettingKind::Number => described::keys::<NumberConfig>(kind),
        };
        keys.into()
    }

    fn fixed(&self, kind: SettingKind) -> Vec<SettingValue> {
        let files = &self.files;
        match kind {
            SettingKind::Device => files.devices.iter().filter_map(written).collect(),
            SettingKind::Trunk => files.trunks.iter().filter_map(written).collect(),
            SettingKind::Route => files.routes.iter().filter_map(written).collect(),
            SettingKind::Number => Vec::new(),
        }
        .into_iter()
        .map(|value| without_secrets(kind, value))
        .collect()
    }

    fn shown(&self, kind: SettingKind, value: &SettingValue) -> SettingValue {
        let position = value.get("position").cloned();
        let mut bare = value.clone();
        bare.remove("position");
        let whole = match kind {
            SettingKind::Device => read::<DeviceConfig>(&bare).ok().as_ref().and_then(written),
            SettingKind::Trunk => read::<TrunkConfig>(&bare).ok().as_ref().and_then(written),
            SettingKind::Route => read::<RouteConfig>(&bare).ok().as_ref().and_then(written),
            SettingKind::Number => read::<NumberConfig>(&bare).ok().as_ref().and_then(written),
        };
        let mut shown = without_secrets(kind, whole.unwrap_or(bare));
        if kind == SettingKind::Route {
            shown.insert("position".to_owned(), position.unwrap_or(Value::from(POSITION)));
        }
        shown
    }

    fn agent_of(&self, kind: SettingKind, value: &SettingValue) -> Option<String> {
        let leads_somewhere = matches!(kind, SettingKind::Route | SettingKind::Number);
        match value.get("to").filter(|_| leads_somewhere)?.as_str()?.parse() {
            Ok(RouteTo::Agent(name)) => Some(name),
            _ => None,
        }
    }

    fn check(&self, settings: &[(SettingKind, SettingValue)]) -> Result<(), SettingFault> {
        self.merged(settings).map(|_| ())
    }

    fn apply(&self, settings: &[(SettingKind, SettingValue)]) -> Result<(), SettingFault> {
        let config = Arc::new(self.merged(settings)?);
        let Some(hub) = self.hub.upgrade() else { return Ok(()) };
        let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = hub.routing();
        let trunks = Arc::new(before.trunks.renewed(&config, Instant::now()));
        self.accounts.renew(Arc::clone(&config));
        let router = Router::new(
            Arc::clone(&config),
            Arc::clone(&self.accounts),
            Arc::clone(&trunks),
            self.signer.clone(),
            Arc::clone(&hub.barred),
        );
        let router = Arc::new(router);
        let is_ours = before.router.is_some() && hub.directory.is_none();
        let dialer = if is_ours { Arc::clone(&router) as Arc<dyn Dialer> } else { Arc::clone(&before.dialer) };
        if let Some(door) = &hub.door {
            door.trust(&config, &trunks);
        }
        hub.set_routing(Routing { config, trunks: Arc::clone(&trunks), router: Some(router), dialer });
        before.trunks.stop_those_not_in(&trunks);
        hub.add_farewells(trunks.run(&hub.asker, &self.stop));
        Ok(())
    }
}

/// An entry from its keys.
fn read<T: DeserializeOwned>(value: &SettingValue) -> Result<T, SettingFault> {
    serde_path_to_error::deserialize(Value::Object(value.clone())).map_err(|error| {
        let message = error.inner().to_string();
        let named = message.split('`').nth(1).unwrap_or("body").to_owned();
        let path = error.path().to_string();
        fault(if path == "." { &named } else { &path }, message)
    })
}

fn written<T: Serialize>(entry: &T) -> Option<SettingValue> {
    match serde_json::to_value(entry) {
        Ok(Value::Object(keys)) => Some(keys),
        _ => None,
    }
}

fn without_secrets(kind: SettingKind, mut value: SettingValue) -> SettingValue {
    for secret in kind.secrets() {
        value.remove(*secret);
    }
    value
}

fn fault(field: &str, detail: String) -> SettingFault {
    SettingFault { field: field.to_owned(), detail }
}

/// The key alone where an entry of its own is wrong, as whoever sent it wrote it; with the entry where it is wrong beside others. What is
/// wrong with the route of a number is told of the number.
fn in_short(error: &ConfigError, numbers: &[String]) -> SettingFault {
    let ConfigError::Entry { key, value, fix } = error else { return fault("body", error.to_string()) };
    let (entry, field) = key.rsplit_once('.').unwrap_or(("", key));
    let route = entry.strip_prefix("routes.").filter(|route| numbers.iter().any(|number| number == route));
    match (route.and_then(|route| route.strip_prefix("number ")), field) {
        (Some(number), "from") => fault("trunk", format!("numbers.{number}.trunk = {value}: {fix}")),
        (Some(number), field) => fault(field, format!("numbers.{number}.{field} = {value}: {fix}")),
        (None, field) => fault(field, format!("{key} = {value}: {fix}")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn keys(value: Value) -> SettingValue {
        value.as_object().unwrap().clone()
    }

    fn live(files: Config) -> LiveSettings {
        let files = Arc::new(files);
        let accounts = Arc::new(Accounts::open(&files, [1; 16], &[]));
        LiveSettings::new(files, Weak::new(), accounts, None, CancellationToken::new())
    }

    fn files() -> Config {
        let trunk = TrunkConfig {
            name: "carrier".into(),
            hosts: vec!["carrier.example".parse().unwrap()],
            ..TrunkConfig::default()
        };
        let route = RouteConfig { name: "last".into(), to: "reject 404".parse().unwrap(), ..RouteConfig::default() };
        Config { trunks: vec![trunk], routes: vec![route], ..Config::default() }
    }

    #[test]
    fn what_is_added_stands_before_the_files_and_in_order() {
        let live = live(files());
        let device = (SettingKind::Device, keys(json!({ "user": "alice", "password": "secret" })));
        let number = (SettingKind::Number, keys(json!({ "number": "+4930123", "to": "user alice" })));
        let route = |name: &str, position: i64| {
            (SettingKind::Route, keys(json!({ "name": name, "to": "user alice", "position": position })))
        };
        let config = live.merged(&[device, number, route("b", 2), route("a", 2), route("c", 1)]).unwrap();
        let names: Vec<&str> = config.routes.iter().map(|route| route.name.as_str()).collect();
        assert_eq!(names, ["c", "a", "b", "number +4930123", "last"]);
        assert!(config.routes[3].called.matches("+4930123") && !config.routes[3].called.matches("+49301234"));
    }

    #[test]
    fn what_is_wrong_is_named_by_its_key() {
        let live = live(files());
        for (kind, value, field) in [
            (SettingKind::Device, json!({ "user": "a b", "password": "x" }), "user"),
            (SettingKind::Device, json!({ "user": "a" }), "password"),
            (SettingKind::Device, json!({ "user": "a", "password": "x", "max_contacts": 0 }), "max_contacts"),
            (SettingKind::Device, json!({ "user": "a", "password": "x", "colour": "red" }), "colour"),
            (SettingKind::Device, json!({ "user": "a", "password": 5 }), "password"),
            (SettingKind::Trunk, json!({ "name": "carrier", "hosts": ["b"] }), "name"),
            (SettingKind::Trunk, json!({ "name": "b" }), "hosts"),
            (SettingKind::Route, json!({ "name": "r", "to": "user nobody" }), "to"),
            (SettingKind::Route, json!({ "name": "r", "position": "first" }), "position"),
            (SettingKind::Number, json!({ "number": "12a", "to": "echo" }), "number"),
            (SettingKind::Number, json!({ "number": "12", "to": "somewhere" }), "to"),
            (SettingKind::Number, json!({ "number": "12", "to": "echo", "trunk": "nosuch" }), "trunk"),
            (SettingKind::Number, json!({ "number": "12", "to": "user nobody" }), "to"),
        ] {
            let fault = live.check(&[(kind, keys(value.clone()))]).unwrap_err();
            assert_eq!(fault.field, field, "{value}: {fault}");
        }
        let number = live.check(&[(SettingKind::Number, keys(json!({ "number": "12", "to": "echo", "trunk": "b" })))]);
        let said = number.unwrap_err().detail;
        assert!(said.starts_with("numbers.12.trunk = b: no trunk is called so"), "{said}");
        let device = |user: &str, number: &str| {
            (SettingKind::Device, keys(json!({ "user": user, "password": "x", "numbers": [number] })))
        };
        let fault = live.check(&[device("alice", "101"), device("bob", "101")]).unwrap_err();
        assert!(fault.field == "numbers" && fault.detail.starts_with("devices.bob.numbers = 101: "), "{fault}");
        assert_eq!(live.check(&[device("101", "102"), device("bob", "101")]).unwrap_err().field, "numbers");
        assert_eq!(live.check(&[device("alice", "bob"), device("bob", "103")]).unwrap_err().field, "user");
    }

    #[test]
    fn what_is_shown_of_a_setting_stands_in_the_schema_of_its_kind() {
        let live = live(files());
        for (kind, value) in [
            (SettingKind::Device, json!({ "user": "alice", "password": "secret" })),
            (SettingKind::Trunk, json!({ "name": "b", "hosts": ["b.example"] })),
            (SettingKind::Route, json!({ "name": "r", "to": "echo" })),
            (SettingKind::Number, json!({ "number": "12", "to": "echo" })),
        ] {
            let (shown, schema) = (live.shown(kind, &keys(value)), live.schema(kind));
            let known = schema["properties"].as_object().unwrap();
            let open: Vec<_> = known.keys().filter(|name| !kind.secrets().contains(&name.as_str())).collect();
            assert_eq!(shown.keys().collect::<Vec<_>>(), open);
        }
        assert_eq!(live.schema(SettingKind::Route)["properties"]["position"]["default"], POSITION);
        assert_eq!(live.schema(SettingKind::Number)["required"], json!(["number", "to"]));
    }

    #[test]
    fn the_agent_that_a_route_or_a_number_leads_to_is_found() {
        let live = live(files());
        for (kind, to, agent) in [
            (SettingKind::Route, "agent Sales", Some("sales")),
            (SettingKind::Number, "agent sales", Some("sales")),
            (SettingKind::Route, "user sales", None),
            (SettingKind::Number, "agent", None),
            (SettingKind::Device, "agent sales", None),
        ] {
            assert_eq!(live.agent_of(kind, &keys(json!({ "to": to }))).as_deref(), agent, "{kind:?} {to}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let live = live(files());
        let value = keys(json!({ "user": "alice", "password": "secret" }));
        let shown = live.shown(SettingKind::Device, &value);
        assert!(!shown.contains_key("password") && shown["max_contacts"] == 5, "{shown:?}");
        assert!(!live.fixed(SettingKind::Trunk)[0].contains_key("password"));
        assert_eq!(live.shown(SettingKind::Route, &keys(json!({ "name": "r", "to": "echo" })))["position"], 100);
    }
}
