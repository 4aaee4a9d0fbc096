//! The voice agents of a server: definitions read at the start, so that a mistake in one is told before the first call;
//! models and voices loaded behind it, so that the first call need not wait for them to be answered.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use agent::definition::AgentDefinition;
use agent::registry::{Environment, Registry};
use agent::session::Agent;
use tokio::sync::watch;

use crate::config::Config;
use crate::readiness::Readiness;

/// The agent that is built in.
pub const BUILT_IN: &str = "desk";

/// Agents by name, in lower case. Cheap to clone.
#[derive(Clone)]
pub struct Agents {
    slots: Arc<HashMap<String, Slot>>,
    registry: Registry,
    environment: Environment,
}

struct Slot {
    definition: Option<AgentDefinition>,
    state: watch::Sender<Option<Result<Agent, String>>>,
}

impl std::fmt::Debug for Agents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.slots.keys()).finish()
    }
}

impl Agents {
    /// Reads every `NAME.toml` in `agents.dir`, and adds the built-in front desk and the agents of an embedding program.
    ///
    /// # Errors
    /// A definition that is wrong (which file, which key, what to write), or a default agent that does not exist.
    pub fn load(config: &Config, registry: Registry, embedded: HashMap<String, Agent>) -> anyhow::Result<Self> {
        let mut slots = HashMap::new();
        slots.insert(BUILT_IN.to_owned(), Slot::of(AgentDefinition::front_desk()?));
        for path in definition_files(&config.agents.dir)? {
            let definition = AgentDefinition::read(&path)?;
            let name = path.file_stem().map(|stem| stem.to_string_lossy().to_lowercase()).unwrap_or_default();
            slots.insert(name, Slot::of(definition));
        }
        for (name, agent) in embedded {
            slots.insert(name, Slot { definition: None, state: watch::Sender::new(Some(Ok(agent))) });
        }
        anyhow::ensure!(
            slots.contains_key(&config.agents.default.to_lowercase()),
            "agents.default = \"{}\": there is no such agent. Known are {}; others are read from {}",
            config.agents.default,
            known(&slots),
            config.agents.dir.join("NAME.toml").display()
        );
        Ok(Self { slots: Arc::new(slots), registry, environment: Environment::of_process(config.models_dir()) })
    }

    /// No agents at all: for a phone.
    #[must_use]
    pub fn none() -> Self {
        let environment = Environment::of_process(PathBuf::new());
        Self { slots: Arc::default(), registry: Registry::default(), environment }
    }

    /// Whether an agent is called that.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.slots.contains_key(&name.to_lowercase())
    }

    /// All names, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.slots.keys().cloned().collect();
        names.sort();
        names
    }

    /// Loads every agent's models and voices on threads of their own.
    pub fn warm_up(&self, readiness: &Arc<Readiness>) {
        for (name, slot) in self.slots.iter() {
            let Some(definition) = slot.definition.clone() else { continue };
            let what = format!("agent {name} is loading");
            readiness.add(what.clone());
            let (agents, name, readiness) = (self.clone(), name.clone(), Arc::clone(readiness));
            tokio::task::spawn_blocking(move || {
                let built = agents.registry.build(&definition, &agents.environment).map_err(|fault| fault.to_string());
                match &built {
                    Ok(agent) => agent.notes.iter().for_each(|note| tracing::info!("agent {name}: {note}")),
                    Err(fault) => tracing::error!("agent {name} cannot take calls: {fault}"),
                }
                if let Some(slot) = agents.slots.get(&name) {
                    slot.state.send_replace(Some(built));
                }
                readiness.remove(&what);
            });
        }
    }

    /// Builds one agent now, for commands that need no server.
    ///
    /// # Errors
    /// There is no such agent, or a part of it cannot be made.
    pub fn build(&self, name: &str) -> anyhow::Result<Agent> {
        let slot = self.slots.get(&name.to_lowercase());
        let slot =
            slot.ok_or_else(|| anyhow::anyhow!("there is no agent called {name}. Known are {}", known(&self.slots)))?;
        if let Some(Ok(agent)) = slot.state.borrow().as_ref() {
            return Ok(agent.clone());
        }
        let definition = slot.definition.as_ref().ok_or_else(|| anyhow::anyhow!("agent {name} has no definition"))?;
        Ok(self.registry.build(definition, &self.environment)?)
    }

    /// The agent, as soon as it is loaded.
    ///
    /// # Errors
    /// It cannot be made: why.
    pub async fn ready(&self, name: &str) -> Result<Agent, String> {
        let slot = self.slots.get(&name.to_lowercase()).ok_or_else(|| format!("there is no agent called {name}"))?;
        let mut state = slot.state.subscribe();
        let state = state.wait_for(Option::is_some).await.map_err(|_| "the server is stopping".to_owned())?;
        state.clone().unwrap_or_else(|| Err("not loaded".to_owned()))
    }

    /// The voice an agent is defined with, for its records.
    #[must_use]
    pub fn voice_name(&self, name: &str) -> String {
        let slot = self.slots.get(&name.to_lowercase());
        slot.and_then(|slot| slot.definition.as_ref())
            .map(|definition| definition.voice.kind.clone())
            .unwrap_or_default()
    }
}

impl Slot {
    fn of(definition: AgentDefinition) -> Self {
        Self { definition: Some(definition), state: watch::Sender::new(None) }
    }
}

fn known(slots: &HashMap<String, Slot>) -> String {
    let mut names: Vec<&str> = slots.keys().map(String::as_str).collect();
    names.sort_unstable();
    names.join(", ")
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
