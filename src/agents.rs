//! The voice agents of a server: those of files, read at the start, so that a mistake in one is told before the first call, and those that
//! people publish while it runs. Models and voices load behind them, so that the first call need not wait for them to be answered.

pub(crate) mod desk;

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use agent::brain::script::Fault;
use agent::definition::AgentDefinition;
use agent::registry::{Environment, Registry};
use agent::session::Agent;
use control::ports::agents::AgentSource;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::{Config, ConfigError, RouteConfig, RouteTo};
use crate::readiness::Readiness;

/// The agent that is built in.
pub const BUILT_IN: &str = "desk";

/// Agents by name, in lower case. Cheap to clone.
#[derive(Clone)]
pub struct Agents {
    slots: Arc<RwLock<HashMap<String, Arc<Slot>>>>,
    registry: Registry,
    environment: Environment,
    /// The threads of calls, if there are any: what agents load has their priority, whoever publishes them.
    threads: Option<Handle>,
}

/// One agent; a conversation that began with it keeps it.
struct Slot {
    source: AgentSource,
    definition: Option<AgentDefinition>,
    /// The definition as it was written.
    text: String,
    /// How many were published in this place before it.
    version: u64,
    /// What the database calls the version.
    number: Option<i64>,
    /// Shared with those.
    state: Arc<watch::Sender<State>>,
}

/// How far an agent has come, all versions that were published in one place together.
#[derive(Default)]
struct State {
    /// What takes calls: the latest version that could be loaded.
    ready: Option<Ready>,
    /// The latest version.
    latest: u64,
    /// Whether that could be loaded; `None` while it loads.
    loaded: Option<Result<(), String>>,
    /// Versions that are not loaded yet.
    loading: usize,
}

/// An agent that takes calls.
#[derive(Debug, Clone)]
pub struct Ready {
    version: u64,
    /// The agent.
    pub agent: Agent,
    /// The voice that it is defined with.
    pub voice: String,
    /// The version that was published, of one that is kept in the database.
    pub number: Option<i64>,
}

impl std::fmt::Debug for Agents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

impl Agents {
    /// Reads every `NAME.toml` in `agents.dir`, and adds the built-in front desk and the agents of an embedding program.
    ///
    /// # Errors
    /// A definition that is wrong (which file, which key, what to write), or a default agent that does not exist.
    pub fn load(config: &Config, registry: Registry, embedded: HashMap<String, Agent>) -> anyhow::Result<Self> {
        let mut slots = HashMap::new();
        let front_desk = Slot::of(AgentSource::BuiltIn, AgentDefinition::front_desk()?, agent::definition::FRONT_DESK);
        slots.insert(BUILT_IN.to_owned(), Arc::new(front_desk));
        for path in definition_files(&config.agents.dir)? {
            let definition = AgentDefinition::read(&path)?;
            let text = std::fs::read_to_string(&path)?;
            let name = path.file_stem().map(|stem| stem.to_string_lossy().to_lowercase()).unwrap_or_default();
            slots.insert(name, Arc::new(Slot::of(AgentSource::File, definition, &text)));
        }
        for (name, agent) in embedded {
            let ready = Some(Ready { version: 0, agent, voice: String::new(), number: None });
            let state = State { ready, loaded: Some(Ok(())), ..State::default() };
            let state = Arc::new(watch::Sender::new(state));
            let (source, text) = (AgentSource::Program, String::new());
            let slot = Slot { source, definition: None, text, version: 0, number: None, state };
            slots.insert(name, Arc::new(slot));
        }
        anyhow::ensure!(
            slots.contains_key(&config.agents.default.to_lowercase()),
            "agents.default = \"{}\": there is no such agent. Known are {}; others are read from {}",
            config.agents.default,
            sorted(&slots).join(", "),
            config.agents.dir.join("NAME.toml").display()
        );
        let environment = Environment::of_process(config.models_dir());
        Ok(Self { slots: Arc::new(RwLock::new(slots)), registry, environment, threads: Handle::try_current().ok() })
    }

    /// No agents at all: for a phone.
    #[must_use]
    pub fn none() -> Self {
        let environment = Environment::of_process(PathBuf::new());
        Self { slots: Arc::default(), registry: Registry::default(), environment, threads: None }
    }

    /// Whether an agent is called that.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.slot(name).is_some()
    }

    /// All names, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        sorted(&self.slots.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The routes of the configuration that lead to agents which are not there, and are none of `others` either: what is wrong with each.
    #[must_use]
    pub fn missed_by(&self, config: &Config, others: &[String]) -> Vec<ConfigError> {
        let mut there = self.names();
        there.extend_from_slice(others);
        there.sort_unstable();
        there.dedup();
        let missed = |(index, route): (usize, &RouteConfig)| match &route.to {
            RouteTo::Agent(name) if !there.contains(name) => Some(ConfigError::Entry {
                key: format!("routes.{}.to", route.label(index)),
                value: format!("agent {name}"),
                fix: format!(
                    "no agent is called so: there are {}; more are read from {}, or published by the API",
                    there.join(", "),
                    config.agents.dir.join("NAME.toml").display()
                ),
            }),
            _ => None,
        };
        config.routes.iter().enumerate().filter_map(missed).collect()
    }

    /// Loads every agent's models and voices on threads of their own.
    pub fn warm_up(&self, readiness: &Arc<Readiness>) {
        for name in self.names() {
            let Some(slot) = self.slot(&name).filter(|slot| slot.definition.is_some()) else { continue };
            let what = format!("agent {name} is loading");
            readiness.add(what.clone());
            let (agents, readiness) = (self.clone(), Arc::clone(readiness));
            self.apart(move || {
                agents.build_into(&name, &slot);
                readiness.remove(&what);
            });
        }
    }

    /// Runs what takes long, apart from everything else.
    fn apart<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        match &self.threads {
            Some(threads) => threads.spawn_blocking(work),
            None => tokio::task::spawn_blocking(work),
        }
    }

    /// Loads what an agent needs, and lets those know who wait for it.
    fn build_into(&self, name: &str, slot: &Slot) {
        let Some(definition) = &slot.definition else { return };
        let built = self.load_safely(definition);
        slot.state.send_modify(|state| {
            state.loading = state.loading.saturating_sub(1);
            let result = built.as_ref().map(|_| ()).map_err(Clone::clone);
            match built {
                Ok(agent) if state.ready.as_ref().is_none_or(|ready| ready.version <= slot.version) => {
                    agent.notes.iter().for_each(|note| tracing::info!("agent {name}: {note}"));
                    let voice = definition.voice.kind.clone();
                    state.ready = Some(Ready { version: slot.version, agent, voice, number: slot.number });
                }
                // A later version takes the calls already.
                Ok(_) => {}
                Err(fault) if state.ready.is_some() || state.loading > 0 => {
                    tracing::error!("agent {name} takes calls as another version defines it: {fault}");
                }
                Err(fault) => tracing::error!("agent {name} cannot take calls: {fault}"),
            }
            if state.latest == slot.version {
                state.loaded = Some(result);
            }
        });
    }

    /// Loads what a definition needs. A panic there is a load that failed: whoever waits for the agent is told, and the next is loaded all the same.
    fn load_safely(&self, definition: &AgentDefinition) -> Result<Agent, String> {
        let load = || self.registry.build(definition, &self.environment).map_err(|fault| fault.to_string());
        // What a maker leaves in pieces is its own, and locks are taken whoever panicked with them.
        std::panic::catch_unwind(AssertUnwindSafe(load)).unwrap_or_else(|_| {
            metrics::counter!("omnivox_panics_total", "part" => "agent").increment(1);
            Err("a fault of this program while it was loaded (a panic): the log has it".to_owned())
        })
    }

    /// What is certain to be wrong with an agent's definition, without loading anything.
    #[must_use]
    pub fn faults(&self, name: &str) -> Vec<Fault> {
        let slot = self.slot(name);
        let definition = slot.as_ref().and_then(|slot| slot.definition.as_ref());
        definition.map(|definition| self.registry.check(definition, &self.environment)).unwrap_or_default()
    }

    /// Builds one agent now, for commands that need no server.
    ///
    /// # Errors
    /// There is no such agent, or a part of it cannot be made.
    pub fn build(&self, name: &str) -> anyhow::Result<Agent> {
        let slot = self
            .slot(name)
            .ok_or_else(|| anyhow::anyhow!("there is no agent called {name}. Known are {}", self.names().join(", ")))?;
        if let Some(ready) = &slot.state.borrow().ready {
            return Ok(ready.agent.clone());
        }
        let definition = slot.definition.as_ref().ok_or_else(|| anyhow::anyhow!("agent {name} has no definition"))?;
        Ok(self.registry.build(definition, &self.environment)?)
    }

    /// The agent, as soon as it is loaded. One that was published anew is as it was
    /// before until then.
    ///
    /// # Errors
    /// It cannot be made: why.
    pub async fn ready(&self, name: &str) -> Result<Ready, String> {
        let slot = self.slot(name).ok_or_else(|| format!("there is no agent called {name}"))?;
        let mut state = slot.state.subscribe();
        let is_known = |state: &State| state.ready.is_some() || state.loading == 0;
        let state = state.wait_for(is_known).await.map_err(|_| "the server is stopping".to_owned())?;
        match (&state.ready, &state.loaded) {
            (Some(ready), _) => Ok(ready.clone()),
            (None, Some(Err(fault))) => Err(fault.clone()),
            (None, _) => Err("not loaded".to_owned()),
        }
    }

    fn slot(&self, name: &str) -> Option<Arc<Slot>> {
        self.slots.read().unwrap_or_else(PoisonError::into_inner).get(&name.to_lowercase()).cloned()
    }
}

impl Slot {
    fn of(source: AgentSource, definition: AgentDefinition, text: &str) -> Self {
        let state = Arc::new(watch::Sender::new(State { loading: 1, ..State::default() }));
        Self { source, definition: Some(definition), text: text.to_owned(), version: 0, number: None, state }
    }

    /// The same, in the place of another: until this one is loaded, and where it cannot be, the latest before it takes the calls.
    fn after(self, before: &Slot) -> Self {
        let version = before.version + 1;
        before.state.send_modify(|state| {
            state.latest = version;
            state.loaded = None;
            state.loading += 1;
        });
        Self { version, state: Arc::clone(&before.state), ..self }
    }
}

fn sorted(slots: &HashMap<String, Arc<Slot>>) -> Vec<String> {
    let mut names: Vec<String> = slots.keys().cloned().collect();
    names.sort_unstable();
    names
}

fn definition_files(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if !dir.exists() {
        return Ok(Vec::new());
    }
    let entries =
        std::fs::read_dir(dir).map_err(|fault| anyhow::anyhow!("cannot read agents.dir {}: {fault}", dir.display()))?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|ending| ending == "toml"))
        .collect();
    files.sort();
    Ok(files)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_route_to_an_agent_that_is_not_there_is_named_with_those_that_are() {
        let to = |to: &str| RouteConfig { to: to.parse().unwrap(), ..RouteConfig::default() };
        let agents_dir =
            crate::config::AgentsConfig { dir: "/nowhere".into(), ..crate::config::AgentsConfig::default() };
        let routes = vec![to("agent desk"), to("agent nosuch"), to("agent sales"), to("echo")];
        let config = Config { routes, agents: agents_dir, ..Config::default() };
        let agents = Agents::load(&config, Registry::built_in(), HashMap::new()).unwrap();
        let told: Vec<String> =
            agents.missed_by(&config, &["sales".to_owned()]).iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].contains("routes.#2.to = agent nosuch") && told[0].contains("there are desk, sales"),
            "{told:?}"
        );
    }
}
