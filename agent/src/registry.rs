//! Names of providers, and how each is made: the one place to touch for a new recogniser, brain or voice.
//!
//! [`Registry::build`] turns an [`AgentDefinition`] into an [`Agent`]. Where the definition says `auto`, it takes what is
//! there and says in the agent's notes what it took and why.

mod check;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use codecs::pcm::SampleRate;

use crate::brain::BrainFactory;
use crate::brain::openai::OpenAiFactory;
use crate::brain::script::{Script, ScriptFactory};
use crate::definition::{AgentDefinition, EarTable};
use crate::ear::Recognizer;
use crate::ear::openai::{OpenAiEar, OpenAiEarConfig};
use crate::ear::silero::SileroModel;
use crate::ear::sphinx::{Sphinx, SphinxConfig};
use crate::ear::whisper::{Whisper, WhisperConfig};
use crate::models;
use crate::session::{Agent, VoiceSource};
use crate::voice::{VoiceConfig, Voices};

/// Reads an environment variable.
pub type Variables = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// What providers may need of the machine they run on.
#[derive(Clone)]
pub struct Environment {
    /// Where models lie that `omnivox models pull` fetched.
    pub models_dir: PathBuf,
    /// Reads an environment variable: API keys.
    pub variable: Variables,
    /// The voices' shared cache.
    pub voices: Voices,
}

impl Environment {
    /// This process's own environment.
    #[must_use]
    pub fn of_process(models_dir: impl Into<PathBuf>) -> Self {
        Self {
            models_dir: models_dir.into(),
            variable: Arc::new(|name| std::env::var(name).ok().filter(|value| !value.is_empty())),
            voices: Voices::default(),
        }
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment").field("models_dir", &self.models_dir).finish_non_exhaustive()
    }
}

/// Makes a recogniser, or says what is missing and how to get it.
pub type RecognizerMaker =
    Arc<dyn Fn(&AgentDefinition, &Environment) -> Result<Arc<dyn Recognizer>, String> + Send + Sync>;
/// Makes a brain's factory, or says what is wrong.
pub type BrainMaker =
    Arc<dyn Fn(&AgentDefinition, &Environment) -> Result<Arc<dyn BrainFactory>, String> + Send + Sync>;
/// Makes a source of voices, or says what is missing and how to get it.
pub type VoiceMaker = Arc<dyn Fn(&VoiceConfig, &Environment) -> Result<VoiceSource, String> + Send + Sync>;

/// Why an agent can't be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A provider's name is not known.
    #[error("{place} = {name:?} is not known: there are {known}")]
    Unknown {
        /// The setting.
        place: &'static str,
        /// What it says.
        name: String,
        /// What it may say.
        known: String,
    },
    /// A provider can't be set up.
    #[error("{place} = {name:?}: {reason}")]
    Unavailable {
        /// The setting.
        place: &'static str,
        /// What it says.
        name: String,
        /// Why, and how to mend it.
        reason: String,
    },
}

/// Providers by name.
#[derive(Clone)]
pub struct Registry {
    recognizers: BTreeMap<String, RecognizerMaker>,
    brains: BTreeMap<String, BrainMaker>,
    voices: BTreeMap<String, VoiceMaker>,
    /// What is looked at in those of this package before they are made, by the setting and the name.
    checks: BTreeMap<(&'static str, String), check::Check>,
}

impl Default for Registry {
    fn default() -> Self {
        Self::built_in()
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("recognizers", &self.recognizers.keys().collect::<Vec<_>>())
            .field("brains", &self.brains.keys().collect::<Vec<_>>())
            .field("voices", &self.voices.keys().collect::<Vec<_>>())
            .finish()
    }
}

impl Registry {
    /// Without any provider.
    #[must_use]
    pub fn empty() -> Self {
        Self { recognizers: BTreeMap::new(), brains: BTreeMap::new(), voices: BTreeMap::new(), checks: BTreeMap::new() }
    }

    /// With the providers of this package: a new one is one line here.
    #[must_use]
    pub fn built_in() -> Self {
        let (sphinx, whispers) = (Shared::default(), Mutex::default());
        let mut registry = Self::empty()
            .with_recognizer("sphinx", Arc::new(move |definition, _| sphinx_for(definition, &sphinx)))
            .with_recognizer("whisper", Arc::new(move |definition, at| whisper_for(definition, at, &whispers)))
            .with_recognizer("openai", Arc::new(openai_ear))
            .with_brain("script", Arc::new(|definition, _| script(definition)))
            .with_brain("openai", Arc::new(openai_brain))
            .with_voice("flite", Arc::new(voice))
            .with_voice("espeak", Arc::new(voice))
            .with_voice("openai", Arc::new(voice));
        registry.checks =
            check::BUILT_IN.iter().map(|(place, name, check)| ((*place, (*name).to_owned()), *check)).collect();
        registry
    }

    /// Adds or replaces a recogniser.
    #[must_use]
    pub fn with_recognizer(mut self, name: &str, maker: RecognizerMaker) -> Self {
        self.checks.remove(&(check::EAR, name.to_owned()));
        self.recognizers.insert(name.to_owned(), maker);
        self
    }

    /// Adds or replaces a brain.
    #[must_use]
    pub fn with_brain(mut self, name: &str, maker: BrainMaker) -> Self {
        self.checks.remove(&(check::BRAIN, name.to_owned()));
        self.brains.insert(name.to_owned(), maker);
        self
    }

    /// Adds or replaces a voice.
    #[must_use]
    pub fn with_voice(mut self, name: &str, maker: VoiceMaker) -> Self {
        self.checks.remove(&(check::VOICE, name.to_owned()));
        self.voices.insert(name.to_owned(), maker);
        self
    }

    /// Builds an agent. May load models: not for an async task.
    ///
    /// # Errors
    /// [`BuildError`] with the setting and how to mend it.
    pub fn build(&self, definition: &AgentDefinition, environment: &Environment) -> Result<Agent, BuildError> {
        let mut notes = Vec::new();
        let brain = self.build_brain(definition, environment)?;
        notes.push(format!("brain: {}", brain.name()));
        let mut agent = Agent::new(definition.agent.name.clone(), brain);
        agent.language.clone_from(&definition.agent.language);
        agent.turn = definition.turn.clone();
        agent.session = definition.session.clone();
        agent.recognizers = self.ears(definition, environment, &mut notes)?;
        agent.echo_control = definition.ear.echo_control;
        agent.noise_control = definition.ear.noise_control;
        agent.detector = detector(environment, &mut notes);
        agent.voices = self.mouths(&definition.voice, environment, &mut notes)?;
        agent.notes = notes;
        Ok(agent)
    }

    /// Builds an agent's brain alone, for conversations in writing.
    ///
    /// # Errors
    /// As for [`Registry::build`].
    pub fn build_brain(
        &self,
        definition: &AgentDefinition,
        environment: &Environment,
    ) -> Result<Arc<dyn BrainFactory>, BuildError> {
        let kind = &definition.brain.kind;
        let maker = known("brain.kind", kind, &self.brains, &[])?;
        maker(definition, environment).map_err(|reason| unavailable("brain.kind", kind, reason))
    }

    fn ears(
        &self,
        definition: &AgentDefinition,
        environment: &Environment,
        notes: &mut Vec<String>,
    ) -> Result<Vec<Arc<dyn Recognizer>>, BuildError> {
        let ear = &definition.ear;
        let mut chosen = Vec::new();
        match ear.recognizer.as_str() {
            "none" => notes.push("recogniser: none, as configured (keys only)".to_owned()),
            "auto" => chosen.extend(self.automatic_ear(definition, environment, notes)),
            name => {
                let maker = known("ear.recognizer", name, &self.recognizers, &["auto", "none"])?;
                chosen.push(
                    maker(definition, environment).map_err(|reason| unavailable("ear.recognizer", name, reason))?,
                );
                notes.push(format!("recogniser: {name} (as configured)"));
            }
        }
        for name in &ear.fallback {
            let maker = known("ear.fallback", name, &self.recognizers, &[])?;
            match maker(definition, environment) {
                Ok(recognizer) => {
                    notes.push(format!("recogniser to step in: {name}"));
                    chosen.push(recognizer);
                }
                Err(reason) => notes.push(format!("recogniser to step in: {name} is not there ({reason})")),
            }
        }
        Ok(chosen)
    }

    /// A scripted agent is understood best against its own phrases; an agent that expects anything needs an open
    /// vocabulary.
    fn automatic_ear(
        &self,
        definition: &AgentDefinition,
        environment: &Environment,
        notes: &mut Vec<String>,
    ) -> Option<Arc<dyn Recognizer>> {
        let scripted = definition.script.is_some();
        let order: &[&str] = if scripted { &["sphinx", "whisper"] } else { &["whisper", "openai"] };
        let mut missed = Vec::new();
        for name in order {
            let Some(maker) = self.recognizers.get(*name) else { continue };
            match maker(definition, environment) {
                Ok(recognizer) => {
                    let why = match (*name, missed.is_empty()) {
                        ("sphinx", true) => "auto: the agent's own phrases are its grammar".to_owned(),
                        (_, true) => "auto: its model is there".to_owned(),
                        _ => format!("auto: {}", missed.join("; ")),
                    };
                    notes.push(format!("recogniser: {name} ({why})"));
                    return Some(recognizer);
                }
                Err(reason) => missed.push(format!("{name}: {reason}")),
            }
        }
        notes.push(format!("recogniser: none, callers can use keys only ({})", missed.join("; ")));
        None
    }

    fn mouths(
        &self,
        config: &VoiceConfig,
        environment: &Environment,
        notes: &mut Vec<String>,
    ) -> Result<Vec<VoiceSource>, BuildError> {
        let mut sources = Vec::new();
        let automatic = config.kind == "auto";
        let first = if automatic { "flite" } else { config.kind.as_str() };
        let maker = known("voice.kind", first, &self.voices, &["auto"])?;
        let named = VoiceConfig { kind: first.to_owned(), ..config.clone() };
        let why = if automatic { "auto: always there, first sound in milliseconds" } else { "as configured" };
        match maker(&named, environment) {
            Ok(source) => {
                notes.push(format!(
                    "voice: {first}{} ({why})",
                    config.voice.as_ref().map_or_else(String::new, |voice| format!(":{voice}"))
                ));
                sources.push(source);
            }
            Err(reason) if automatic => notes.push(format!("voice: {first} is not there ({reason})")),
            Err(reason) => return Err(unavailable("voice.kind", first, reason)),
        }
        // Another engine on this machine, so that no caller meets silence.
        for name in ["flite", "espeak"].into_iter().filter(|name| *name != first) {
            let other = VoiceConfig { kind: name.to_owned(), speed: config.speed, ..VoiceConfig::default() };
            if let Some(Ok(source)) = self.voices.get(name).map(|maker| maker(&other, environment)) {
                notes.push(format!("voice to step in: {name}"));
                sources.push(source);
                break;
            }
        }
        if sources.is_empty() {
            return Err(unavailable("voice.kind", &config.kind, "no voice can be opened on this machine".to_owned()));
        }
        Ok(sources)
    }
}

/// Silero's speech detector, where its file is there.
fn detector(environment: &Environment, notes: &mut Vec<String>) -> Option<Arc<SileroModel>> {
    let file = crate::models::find("silero-vad")?.file;
    match SileroModel::load(&environment.models_dir.join(file)) {
        Ok(model) => {
            notes.push("speech detection: silero decides, earshot reacts".to_owned());
            Some(model)
        }
        Err(error) => {
            notes.push(format!("speech detection: earshot alone, which noise and music mislead more often ({error})"));
            None
        }
    }
}

fn known<'a, T>(
    place: &'static str,
    name: &str,
    all: &'a BTreeMap<String, T>,
    also: &[&str],
) -> Result<&'a T, BuildError> {
    let unknown = || BuildError::Unknown { place, name: name.to_owned(), known: known_names(all, also) };
    all.get(name).ok_or_else(unknown)
}

fn known_names<T>(all: &BTreeMap<String, T>, also: &[&str]) -> String {
    also.iter().copied().chain(all.keys().map(String::as_str)).collect::<Vec<_>>().join(", ")
}

fn unavailable(place: &'static str, name: &str, reason: String) -> BuildError {
    BuildError::Unavailable { place, name: name.to_owned(), reason }
}

/// One engine for all agents of a process, made when it is first asked for.
type Shared<T> = Mutex<Option<Arc<T>>>;

fn shared<T>(slot: &Shared<T>, make: impl FnOnce() -> Result<T, String>) -> Result<Arc<T>, String> {
    let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
    match slot.as_ref() {
        Some(made) => Ok(Arc::clone(made)),
        None => Ok(Arc::clone(slot.insert(Arc::new(make()?)))),
    }
}

fn sphinx_for(definition: &AgentDefinition, slot: &Shared<Sphinx>) -> Result<Arc<dyn Recognizer>, String> {
    let sphinx = shared(slot, || Sphinx::new(SphinxConfig::default()).map_err(|error| error.to_string()))?;
    // The words of a script are looked up before the first call, not in it.
    if let Some(script) = definition.script.clone().and_then(|script| Script::new(script).ok()) {
        script.grammars().for_each(|grammar| sphinx.prepare(Arc::clone(grammar)));
    }
    Ok(sphinx)
}

/// One engine for each model file.
type Whispers = Mutex<BTreeMap<PathBuf, Arc<Whisper>>>;

fn whisper_for(
    definition: &AgentDefinition,
    environment: &Environment,
    loaded: &Whispers,
) -> Result<Arc<dyn Recognizer>, String> {
    let path = whisper_model(definition.ear.model.as_deref(), &environment.models_dir)?;
    let mut loaded = loaded.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(whisper) = loaded.get(&path) {
        return Ok(Arc::clone(whisper) as Arc<dyn Recognizer>);
    }
    let whisper = Arc::new(Whisper::new(WhisperConfig::new(&path)).map_err(|error| error.to_string())?);
    loaded.insert(path, Arc::clone(&whisper));
    Ok(whisper)
}

/// The model that is asked for, or the first of the catalogue that is there.
fn whisper_model(wanted: Option<&str>, dir: &Path) -> Result<PathBuf, String> {
    let store = models::Store::new(dir);
    let here = |model: &&models::Model| matches!(store.state_of(model), models::State::Here { .. });
    match wanted {
        None => models::CATALOGUE
            .iter()
            .filter(|model| model.kind == models::Kind::Whisper)
            .find(here)
            .map(|model| store.path_of(model))
            .ok_or_else(|| "no whisper model is there (omnivox models pull whisper-base.en-q5_1)".to_owned()),
        Some(name) => match models::find(name) {
            Some(model) if here(&model) => Ok(store.path_of(model)),
            Some(_) => Err(format!("the model {name} is not there: omnivox models pull {name}")),
            None if Path::new(name).is_file() => Ok(PathBuf::from(name)),
            None => Err(format!("ear.model = {name:?} is neither in the catalogue (omnivox models list) nor a file")),
        },
    }
}

/// The server's own time limit ends before the session's does, so that a failure is laid at its door.
fn openai_ear(definition: &AgentDefinition, environment: &Environment) -> Result<Arc<dyn Recognizer>, String> {
    let ear = &definition.ear;
    let limit_ms = u64::from(definition.session.recognizer_final_ms);
    let config = OpenAiEarConfig {
        base_url: ear.base_url.clone(),
        api_key: ear_key(definition, environment)?,
        model: ear.remote_model.clone(),
        timeout: Duration::from_millis(limit_ms.saturating_sub(200).max(200)),
        ..OpenAiEarConfig::default()
    };
    Ok(Arc::new(OpenAiEar::new(config).map_err(|error| error.to_string())?))
}

/// The key to a server that recognises, which one of one's own need not have.
fn ear_key(definition: &AgentDefinition, environment: &Environment) -> Result<Option<String>, String> {
    let ear = &definition.ear;
    let key = (environment.variable)(&ear.api_key_env);
    if key.is_none() && ear.base_url == EarTable::default().base_url {
        return Err(format!("no key: set the environment variable {}", ear.api_key_env));
    }
    Ok(key)
}

fn script(definition: &AgentDefinition) -> Result<Arc<dyn BrainFactory>, String> {
    let script = definition.script.clone().ok_or("a [script] with states is missing")?;
    let script = Script::new(script).map_err(|error| error.to_string())?;
    Ok(Arc::new(ScriptFactory::new(script)))
}

fn openai_brain(definition: &AgentDefinition, environment: &Environment) -> Result<Arc<dyn BrainFactory>, String> {
    let config = definition.brain.openai.clone();
    let key = (environment.variable)(&config.api_key_env);
    Ok(Arc::new(OpenAiFactory::new(config, key)?))
}

fn voice(config: &VoiceConfig, environment: &Environment) -> Result<VoiceSource, String> {
    config.check().map_err(|error| error.to_string())?;
    let (voices, config) = (environment.voices.clone(), config.clone());
    Ok(Arc::new(move |rate: SampleRate| voices.open(&config, rate)))
}
