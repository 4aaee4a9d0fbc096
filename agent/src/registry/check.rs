//! What is certain to be wrong with a definition before anything is loaded: names that nobody knows, files that are not there, providers
//! that cannot be used as they are configured. What only loading shows, a model that is broken, say, is not found here.

use std::collections::BTreeMap;

use crate::brain::openai::OpenAiBrainConfig;
use crate::brain::script::Fault;
use crate::definition::AgentDefinition;
use crate::ear::sphinx::{Sphinx, SphinxConfig};
use crate::voice::{VoiceConfig, VoiceError};

use super::{Environment, Registry, ear_key, known_names, whisper_model};

/// Finds what is wrong with a provider of this package, without loading it.
pub(super) type Check = fn(&AgentDefinition, &Environment) -> Vec<Fault>;

/// The settings that name a provider.
pub(super) const BRAIN: &str = "brain.kind";
pub(super) const EAR: &str = "ear.recognizer";
pub(super) const VOICE: &str = "voice.kind";

/// The checks of the providers of this package, by the setting and the name.
pub(super) const BUILT_IN: [(&str, &str, Check); 7] = [
    (BRAIN, "openai", openai_brain),
    (EAR, "sphinx", sphinx),
    (EAR, "whisper", whisper),
    (EAR, "openai", openai_ear),
    (VOICE, "flite", voice),
    (VOICE, "espeak", voice),
    (VOICE, "openai", voice),
];

impl Registry {
    /// Everything that is certain to be wrong with a definition's providers; nothing is loaded. What else may be wrong with it
    /// [`AgentDefinition::check`] finds.
    #[must_use]
    pub fn check(&self, definition: &AgentDefinition, environment: &Environment) -> Vec<Fault> {
        let AgentDefinition { ear, voice, brain, .. } = definition;
        let mut faults = Vec::new();
        let mut provider = |place: &'static str, name: &str, unknown: Option<Fault>| {
            let check = self.checks.get(&(place, name.to_owned()));
            match (unknown, check) {
                (Some(fault), _) => faults.push(fault),
                (None, Some(check)) => faults.extend(check(definition, environment)),
                (None, None) => {}
            }
        };
        provider(BRAIN, &brain.kind, unknown(BRAIN, &brain.kind, &self.brains, &[]));
        if !matches!(ear.recognizer.as_str(), "auto" | "none") {
            provider(EAR, &ear.recognizer, unknown(EAR, &ear.recognizer, &self.recognizers, &["auto", "none"]));
        }
        let kind = if voice.kind == "auto" { "flite" } else { voice.kind.as_str() };
        provider(VOICE, kind, unknown(VOICE, kind, &self.voices, &["auto"]));
        // One that is known and not there only does not step in.
        let unknown_ones = ear.fallback.iter().filter_map(|name| unknown("ear.fallback", name, &self.recognizers, &[]));
        faults.extend(unknown_ones);
        faults
    }
}

fn unknown<T>(place: &str, name: &str, all: &BTreeMap<String, T>, also: &[&str]) -> Option<Fault> {
    let what = || format!("{name:?} is not known: there are {}", known_names(all, also));
    (!all.contains_key(name)).then(|| fault(place, what()))
}

fn fault(place: &str, what: String) -> Fault {
    Fault { place: place.to_owned(), what }
}

/// A server of one's own may want no key; the provider's does.
fn openai_brain(definition: &AgentDefinition, environment: &Environment) -> Vec<Fault> {
    let config = &definition.brain.openai;
    let is_theirs = config.base_url.trim_end_matches('/') == OpenAiBrainConfig::default().base_url;
    if !is_theirs || (environment.variable)(&config.api_key_env).is_some() {
        return Vec::new();
    }
    vec![fault("brain.openai.api_key_env", format!("no key: set the environment variable {}", config.api_key_env))]
}

fn sphinx(_: &AgentDefinition, _: &Environment) -> Vec<Fault> {
    Sphinx::check(&SphinxConfig::default()).err().map(|error| fault(EAR, error.to_string())).into_iter().collect()
}

fn whisper(definition: &AgentDefinition, environment: &Environment) -> Vec<Fault> {
    let wanted = definition.ear.model.as_deref();
    let place = if wanted.is_some() { "ear.model" } else { EAR };
    whisper_model(wanted, &environment.models_dir).err().map(|what| fault(place, what)).into_iter().collect()
}

fn openai_ear(definition: &AgentDefinition, environment: &Environment) -> Vec<Fault> {
    ear_key(definition, environment).err().map(|what| fault("ear.api_key_env", what)).into_iter().collect()
}

/// The voice, and whoever is to speak in its place.
fn voice(definition: &AgentDefinition, _: &Environment) -> Vec<Fault> {
    let config = &definition.voice;
    // As at the build: where flite cannot, the other engine of this machine speaks, and a note tells.
    let other = VoiceConfig { kind: "espeak".to_owned(), speed: config.speed, ..VoiceConfig::default() };
    if config.kind == "auto" && other.check().is_ok() {
        return Vec::new();
    }
    let alone = VoiceConfig { fallback: String::new(), ..config.clone() };
    let mut faults: Vec<Fault> =
        alone.check().err().map(|error| fault(voice_key(&error), told(&error))).into_iter().collect();
    if !config.fallback.is_empty() && !matches!(config.kind.as_str(), "auto" | "flite") {
        let instead = VoiceConfig { fallback: String::new(), ..VoiceConfig::named(&config.fallback) };
        faults.extend(instead.check().err().map(|error| {
            fault(
                "voice.fallback",
                format!("{:?}: {}. Write flite:slt, say, or nothing", config.fallback, told(&error)),
            )
        }));
    }
    faults
}

/// The setting that a fault of a voice is about.
fn voice_key(error: &VoiceError) -> &'static str {
    match error {
        VoiceError::Config { what } => match what.split(" = ").next() {
            Some("kind") => VOICE,
            Some("speed") => "voice.speed",
            Some("format") => "voice.format",
            Some("base_url") => "voice.base_url",
            _ => "voice.voice",
        },
        _ => VOICE,
    }
}

fn told(error: &VoiceError) -> String {
    match error {
        VoiceError::Config { what } => what.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;

    fn found(more: &str) -> Vec<Fault> {
        let text = format!(
            "{}\n{more}",
            "[script]\nstart = \"menu\"\n[script.states.menu]\nsay = \"Hello.\"\nhang_up = \"goodbye\""
        );
        let definition: AgentDefinition = toml::from_str(&text).unwrap();
        let environment = Environment { variable: Arc::new(|_| None), ..Environment::of_process("/nowhere") };
        Registry::built_in().check(&definition, &environment)
    }

    #[test]
    fn each_provider_that_cannot_be_used_is_named_by_its_key_with_what_may_stand_there() {
        for (more, place, says) in [
            ("[brain]\nkind = \"foo\"", "brain.kind", "there are openai, script"),
            ("[ear]\nrecognizer = \"foo\"", "ear.recognizer", "auto, none, openai, sphinx, whisper"),
            ("[ear]\nfallback = [\"foo\"]", "ear.fallback", "openai, sphinx, whisper"),
            ("[ear]\nrecognizer = \"whisper\"", "ear.recognizer", "omnivox models pull"),
            ("[ear]\nrecognizer = \"whisper\"\nmodel = \"/nowhere/x.bin\"", "ear.model", "nor a file"),
            ("[ear]\nrecognizer = \"openai\"", "ear.api_key_env", "OPENAI_API_KEY"),
            ("[brain]\nkind = \"openai\"", "brain.openai.api_key_env", "OPENAI_API_KEY"),
            ("[voice]\nkind = \"foo\"", "voice.kind", "auto, espeak, flite, openai"),
            ("[voice]\nkind = \"flite\"\nvoice = \"bob\"", "voice.voice", "rms, slt"),
            ("[voice]\nspeed = 9.0", "voice.speed", "between 0.5 and 2.0"),
            ("[voice]\nkind = \"openai\"\nfallback = \"flite:bob\"", "voice.fallback", "rms, slt"),
        ] {
            let faults = found(more);
            assert_eq!(faults.len(), 1, "{more}: {faults:?}");
            assert!(faults[0].place == place && faults[0].what.contains(says), "{more}: {faults:?}");
        }
        // With any voice something is said where another engine is installed.
        let faults = found("[voice]\nvoice = \"en-gb\"");
        let steps_in = VoiceConfig::named("espeak").check().is_ok();
        assert!(faults.is_empty() == steps_in && faults.iter().all(|fault| fault.place == "voice.voice"), "{faults:?}");
        let all = found("[brain]\nkind = \"a\"\n[ear]\nrecognizer = \"b\"\n[voice]\nkind = \"c\"");
        let places: Vec<&str> = all.iter().map(|fault| fault.place.as_str()).collect();
        assert_eq!(places, ["brain.kind", "ear.recognizer", "voice.kind"]);
    }

    #[test]
    fn what_can_be_used_has_no_faults_and_a_provider_of_ones_own_is_asked_nothing() {
        for more in [
            "",
            "[ear]\nrecognizer = \"none\"\nfallback = [\"whisper\"]",
            "[brain]\nkind = \"openai\"\n[brain.openai]\nbase_url = \"http://127.0.0.1:9/v1\"",
            "[ear]\nrecognizer = \"openai\"\nbase_url = \"http://127.0.0.1:9/v1\"",
            "[voice]\nkind = \"openai\"",
        ] {
            assert_eq!(found(more), Vec::new(), "{more}");
        }
        let desk = AgentDefinition::parse(crate::definition::FRONT_DESK, Path::new("desk.toml")).unwrap();
        let desk =
            AgentDefinition { ear: crate::definition::EarTable { recognizer: "whisper".into(), ..desk.ear }, ..desk };
        let own = Registry::built_in().with_recognizer("whisper", Arc::new(|_, _| Err("never asked".into())));
        assert_eq!(own.check(&desk, &Environment::of_process("/nowhere")), Vec::new());
    }
}
