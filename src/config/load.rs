//! Where the configuration comes from: the sources are merged as TOML tables, checked against the known
//! keys, then read into the typed tree.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::{
    Config, DeviceConfig, IceServerConfig, ModelPrice, PricesConfig, RecognizerPrice, RouteConfig, TrunkConfig,
    TrunkPrice, VoicePrice, kinds,
};

/// Read where no file is named and there is one of this name in the working folder.
const USUAL_FILE: &str = "omnivox.toml";
/// The environment variables read begin with this; `__` separates sections and key.
const ENV_PREFIX: &str = "OMNIVOX_";
/// A key is suggested when it is at least this much like the one written, 0 to 1.
const SUGGESTION_LIKENESS: f64 = 0.6;

/// What the configuration is read from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The file named by `--config`, or [found](Sources::find_file). It must exist; `None` reads no file.
    pub file: Option<PathBuf>,
    /// Environment variables; others than `OMNIVOX_SECTION__KEY` are passed over.
    pub env: Vec<(String, String)>,
    /// `--set section.key=value`, in order.
    pub sets: Vec<String>,
}

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {reason}. Check the path given to --config", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: std::io::Error,
    },
    /// The file is no TOML.
    #[error("{path} is not valid TOML: {message}", path = path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The parser's words, with line and column.
        message: String,
    },
    /// Nobody knows this key.
    #[error("{origin}: unknown key `{key}`{suggestion}")]
    UnknownKey {
        /// File, environment variable or `--set`.
        origin: String,
        /// The key written.
        key: String,
        /// What was meant, perhaps.
        suggestion: String,
    },
    /// A `--set` that is not `section.key=value`.
    #[error("--set {0}: write section.key=value, such as --set log.format=json")]
    Set(String),
    /// A value of the wrong type or form.
    #[error("{0}")]
    Type(String),
    /// A value out of its range.
    #[error("{key} = {value}: {fix}")]
    Value {
        /// The key.
        key: &'static str,
        /// The value found.
        value: String,
        /// What to write instead.
        fix: &'static str,
    },
    /// A value that cannot stand in its entry of a list.
    #[error("{key} = {value}: {fix}")]
    Entry {
        /// The entry and the key: `trunks.carrier.hosts`.
        key: String,
        /// The value found; never a secret.
        value: String,
        /// What to write instead.
        fix: String,
    },
}

impl ConfigError {
    pub(super) fn entry(key: impl Into<String>, value: impl std::fmt::Display, fix: impl Into<String>) -> Self {
        Self::Entry { key: key.into(), value: value.to_string(), fix: fix.into() }
    }
}

impl Sources {
    /// The sources of a command line: its file, this process's environment, its `--set`s.
    #[must_use]
    pub fn from_command_line(file: Option<&Path>, sets: &[String]) -> Self {
        Self { file: file.map(Path::to_path_buf), env: std::env::vars().collect(), sets: sets.to_vec() }
    }

    /// Takes `omnivox.toml` in this folder where no file is named and there is one.
    #[must_use]
    pub fn find_file(mut self, folder: &Path) -> Self {
        if self.file.is_none() {
            self.file = Some(folder.join(USUAL_FILE)).filter(|path| path.is_file());
        }
        self
    }

    /// What is read, in words: `configuration: FILE`.
    #[must_use]
    pub fn described(&self) -> String {
        match &self.file {
            Some(path) => format!("configuration: {}", path.display()),
            None => "no configuration file: defaults".to_owned(),
        }
    }

    /// This process's environment alone.
    #[must_use]
    pub fn from_environment() -> Self {
        Self::from_command_line(None, &[])
    }

    pub(super) fn read(&self) -> Result<Config, ConfigError> {
        let known = Table::try_from(every_key()).map_err(|fault| ConfigError::Type(fault.to_string()))?;
        let mut merged = Table::new();
        if let Some(path) = &self.file {
            let text =
                std::fs::read_to_string(path).map_err(|reason| ConfigError::Read { path: path.clone(), reason })?;
            let table: Table = toml::from_str(&text)
                .map_err(|fault| ConfigError::Syntax { path: path.clone(), message: fault.to_string() })?;
            check_keys(&known, &table, &path.display().to_string(), "")?;
            merge(&mut merged, table);
        }
        for (name, text) in &self.env {
            let Some((section, key)) = name.strip_prefix(ENV_PREFIX).and_then(|rest| rest.split_once("__")) else {
                continue;
            };
            let (section, key) = (section.to_ascii_lowercase(), key.to_ascii_lowercase().replace("__", "."));
            set(&mut merged, &known, &section, &key, text, name)?;
        }
        for text in &self.sets {
            let fault = || ConfigError::Set(text.clone());
            let (path, value) = text.split_once('=').ok_or_else(fault)?;
            let (section, key) = path.trim().split_once('.').ok_or_else(fault)?;
            set(&mut merged, &known, section, key, value.trim(), "--set")?;
        }
        kinds::read(merged)
    }
}

/// A configuration in which every key stands, those of listed entries too.
fn every_key() -> Config {
    Config {
        ice_servers: vec![IceServerConfig::default()],
        devices: vec![DeviceConfig::default()],
        trunks: vec![TrunkConfig::default()],
        routes: vec![RouteConfig::default()],
        prices: PricesConfig {
            recognizers: vec![RecognizerPrice::default()],
            voices: vec![VoicePrice::default()],
            models: vec![ModelPrice::default()],
            trunks: vec![TrunkPrice::default()],
            ..PricesConfig::default()
        },
        ..Config::default()
    }
}

fn set(
    merged: &mut Table,
    known: &Table,
    section: &str,
    key: &str,
    text: &str,
    origin: &str,
) -> Result<(), ConfigError> {
    // A section may have sections of its own: `control.oidc.issuer`.
    let path = || std::iter::once(section).chain(key.split('.'));
    let mut below = path();
    let example = below.next().and_then(|section| known.get(section));
    let example = below.fold(example, |table, key| table.and_then(|table| table.get(key)));
    let value = value_like(example, text);
    let value = path().skip(1).collect::<Vec<_>>().into_iter().rev().fold(value, |value, key| {
        let mut table = Table::new();
        table.insert(key.to_owned(), value);
        Value::Table(table)
    });
    let mut table = Table::new();
    table.insert(section.to_owned(), value);
    check_keys(known, &table, origin, "")?;
    merge(merged, table);
    Ok(())
}

/// Reads `text` as the kind of value that `example` is, so that nobody has to quote strings in a shell.
fn value_like(example: Option<&Value>, text: &str) -> Value {
    let parsed = toml::from_str::<Table>(&format!("v = {text}")).ok().and_then(|mut table| table.remove("v"));
    match (example, parsed) {
        (Some(Value::String(_)), Some(value @ Value::String(_))) => value,
        (Some(Value::String(_)), _) => Value::String(text.to_owned()),
        (Some(Value::Array(_)), Some(value @ Value::Array(_))) => value,
        (Some(Value::Array(_)), _) => {
            Value::Array(text.split(',').map(|item| Value::String(item.trim().trim_matches('"').to_owned())).collect())
        }
        (_, Some(value)) => value,
        (_, None) => Value::String(text.to_owned()),
    }
}

fn merge(into: &mut Table, from: Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(old)), Value::Table(new)) => merge(old, new),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

fn check_keys(known: &Table, table: &Table, origin: &str, prefix: &str) -> Result<(), ConfigError> {
    for (key, value) in table {
        match (known.get(key), value) {
            (None, _) => return Err(unknown(known, origin, prefix, key)),
            (Some(Value::Table(known)), Value::Table(table)) => {
                check_keys(known, table, origin, &format!("{prefix}{key}."))?
            }
            // Serde would read a list as the section's values in order.
            (Some(Value::Table(_)), Value::Array(_)) => {
                let what = format!("{origin}: {prefix}{key} is one section and no list: write [{prefix}{key}]");
                return Err(ConfigError::Type(what));
            }
            (Some(Value::Array(known)), Value::Array(entries)) => {
                let Some(Value::Table(known)) = known.first() else { continue };
                for entry in entries.iter().filter_map(Value::as_table) {
                    check_keys(known, entry, origin, &format!("{prefix}{key}."))?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn unknown(known: &Table, origin: &str, prefix: &str, key: &str) -> ConfigError {
    let likeness =
        |known: &str| strsim::jaro_winkler(known, key).max(strsim::normalized_damerau_levenshtein(known, key));
    let nearest = known.keys().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    let suggestion = match nearest {
        Some(near) if likeness(near) >= SUGGESTION_LIKENESS => format!(": did you mean `{prefix}{near}`?"),
        _ => format!(": known here are {}", known.keys().cloned().collect::<Vec<_>>().join(", ")),
    };
    ConfigError::UnknownKey { origin: origin.to_owned(), key: format!("{prefix}{key}"), suggestion }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::LogFormat;

    fn write(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn later_sources_win() {
        let file = write("[log]\nlevel = \"warn\"\nformat = \"json\"\n[calls]\nmax = 3\n");
        let sources = Sources {
            file: Some(file.path().to_owned()),
            env: vec![("OMNIVOX_LOG__LEVEL".into(), "debug".into()), ("PATH".into(), "/bin".into())],
            sets: vec!["calls.max=5".into(), "sip.listen=udp:127.0.0.1:0,tcp:127.0.0.1:0".into()],
        };
        let config = Config::load(&sources).unwrap();
        assert_eq!(config.log.level, "debug");
        assert_eq!(config.log.format, LogFormat::Json);
        assert_eq!(config.calls.max, 5);
        assert_eq!(config.sip.listen.len(), 2);
    }

    #[test]
    fn the_file_of_the_usual_name_is_read_where_no_other_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let found = || Sources::default().find_file(folder.path());
        assert_eq!((found().file, found().described()), (None, "no configuration file: defaults".to_owned()));
        std::fs::create_dir(folder.path().join(USUAL_FILE)).unwrap();
        assert_eq!(found().file, None, "a folder is none");
        std::fs::remove_dir(folder.path().join(USUAL_FILE)).unwrap();
        std::fs::write(folder.path().join(USUAL_FILE), "[calls]\nmax = 3\n").unwrap();
        assert_eq!(Config::load(&found()).unwrap().calls.max, 3);
        assert!(found().described().ends_with(USUAL_FILE), "{}", found().described());
        let other = write("[calls]\nmax = 4\n");
        let named = Sources::from_command_line(Some(other.path()), &[]).find_file(folder.path());
        assert_eq!(named.file.as_deref(), Some(other.path()));
    }

    #[test]
    fn an_unknown_key_is_an_error_with_a_suggestion() {
        let file = write("[sip]\nlisten_on = []\n");
        let message = Config::load(&Sources { file: Some(file.path().to_owned()), ..Sources::default() })
            .unwrap_err()
            .to_string();
        assert!(message.contains("sip.listen_on") && message.contains("did you mean `sip.listen`"), "{message}");
        let nested = Sources {
            env: vec![("OMNIVOX_CONTROL__RETENTION__RECORDS_DAYS".into(), "7".into())],
            sets: vec!["control.retention.transcripts_days=3".into()],
            ..Sources::default()
        };
        let retention = nested.read().unwrap().control.retention;
        assert_eq!((retention.records_days, retention.transcripts_days), (7, 3));
        let env = vec![("OMNIVOX_LGO__LEVEL".into(), "debug".into())];
        let message = Config::load(&Sources { env, ..Sources::default() }).unwrap_err().to_string();
        assert!(message.contains("OMNIVOX_LGO__LEVEL") && message.contains("`log`"), "{message}");
    }

    #[test]
    fn a_missing_file_a_broken_one_and_a_wrong_type_say_what_to_mend() {
        let load = |path: &Path| Config::load(&Sources { file: Some(path.to_owned()), ..Sources::default() });
        let missing = load(Path::new("/nowhere/omnivox.toml")).unwrap_err();
        assert!(missing.to_string().contains("/nowhere/omnivox.toml"), "{missing}");
        assert!(std::error::Error::source(&missing).is_none(), "the reason is told once");
        let message = load(write("[sip\n").path()).unwrap_err().to_string();
        assert!(message.contains("line 1"), "{message}");
        let message = load(write("[calls]\nmax = \"many\"\n").path()).unwrap_err().to_string();
        assert_eq!(message, "calls.max = many: write a whole number from 0");
        let message = load(write("[[log]]\nlevel = \"info\"\n").path()).unwrap_err().to_string();
        assert!(message.ends_with(": log is one section and no list: write [log]"), "{message}");
        assert!(matches!(
            Config::load(&Sources { sets: vec!["nonsense".into()], ..Sources::default() }),
            Err(ConfigError::Set(_))
        ));
    }
}
