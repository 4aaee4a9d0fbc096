//! Reads the tables of all sources into the typed tree, and says in plain words what is wrong with the type or form of a value: serde names
//! the types of Rust.

use serde_path_to_error::{Path, Segment};
use toml::{Table, Value};

use super::{Config, ConfigError};

/// Characters shown of a value.
const SHOWN: usize = 80;

/// Ends of the keys whose values are not shown.
const SECRETS: [&str; 9] = ["password", "ha1", "secret", "credential", "token", "_key", "dsn", "headers", "database"];

/// Reads them.
pub(super) fn read(merged: Table) -> Result<Config, ConfigError> {
    let written = Value::Table(merged.clone());
    serde_path_to_error::deserialize(Value::Table(merged)).map_err(|error| {
        let (key, value) = find(&written, error.path());
        let is_entry = matches!(error.path().iter().next_back(), Some(Segment::Seq { .. }));
        said(key, value, is_entry, error.inner().message())
    })
}

/// What is wrong with a value, by its key, or by that of the list that it is an entry of.
fn said(key: String, value: Option<&Value>, is_entry: bool, message: &str) -> ConfigError {
    // What has keys of its own may have secrets among them.
    let text = value.map(|value| match value {
        Value::String(text) => text.clone(),
        Value::Table(_) => "(a section)".to_owned(),
        Value::Array(_) => "(a list)".to_owned(),
        other => other.to_string(),
    });
    let is_secret = key.split('.').any(|part| SECRETS.iter().any(|secret| part.ends_with(secret)));
    let shown = match &text {
        Some(_) if is_secret => "(hidden)".to_owned(),
        Some(text) => text.replace('\n', " ").chars().take(SHOWN).collect(),
        None => String::new(),
    };
    let is_section = matches!(value, Some(Value::Table(_)));
    let (_, expected) = message.trim().rsplit_once(", expected ").unwrap_or_default();
    // A list of sections, and what stands there is a section alone, or an entry that is none.
    let wants_sections =
        if is_section { expected == "a sequence" } else { is_entry && expected.starts_with("struct ") };
    match (fix(&key, message), text) {
        (Some(_), Some(_)) if wants_sections => {
            let fix = format!("write [[{key}]], once for each");
            ConfigError::Entry { key, value: shown, fix }
        }
        (Some(fix), Some(_)) => ConfigError::Entry { key, value: shown, fix },
        (Some(fix), None) => ConfigError::Type(format!("{key}: {fix}")),
        // The value stands in it.
        (None, Some(text)) if is_secret || message.contains(&format!("`{text}`")) => {
            ConfigError::Type(format!("{key}: {message}"))
        }
        (None, Some(_)) => ConfigError::Entry { key, value: shown, fix: message.to_owned() },
        (None, None) => ConfigError::Type(format!("{key}: {message}")),
    }
}

/// The key at the end of a path, entries of lists by their names or places, and its value.
fn find<'a>(written: &'a Value, path: &Path) -> (String, Option<&'a Value>) {
    let (mut key, mut at) = (String::new(), Some(written));
    for segment in path.iter() {
        match segment {
            Segment::Map { key: name } => {
                at = at.and_then(|value| value.get(name.as_str()));
                if !key.is_empty() {
                    key.push('.');
                }
                key.push_str(name);
            }
            Segment::Seq { index } => {
                at = at.and_then(|value| value.get(*index));
                if let Some(Value::Table(entry)) = at {
                    key.push('.');
                    key.push_str(&label(entry).map_or_else(|| format!("#{}", index + 1), str::to_owned));
                }
            }
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    (key, at)
}

fn label(entry: &Table) -> Option<&str> {
    let named = |key: &str| entry.get(key).and_then(Value::as_str).filter(|name| !name.is_empty());
    named("user").or_else(|| named("name"))
}

/// What to write instead; `None` where the message says it already.
fn fix(key: &str, message: &str) -> Option<String> {
    let message = message.trim();
    match message {
        "invalid socket address syntax" => return Some(wanted("socket address")),
        "invalid IP address syntax" => return Some(wanted("IP address")),
        _ => {}
    }
    let (found, expected) = message.rsplit_once(", expected ")?;
    if found.starts_with("unknown variant") {
        // Names stand between backticks. What is one level above all others has nothing to be as.
        let names = expected.split('`').skip(1).step_by(2).filter(|name| key != "rtp.srtp" || *name != "default");
        return Some(format!("write {}", listed(&names.collect::<Vec<_>>())));
    }
    found.starts_with("invalid ").then(|| wanted(expected))
}

fn listed(names: &[&str]) -> String {
    match names {
        [many @ .., last] if !many.is_empty() => format!("{} or {last}", many.join(", ")),
        names => names.join(""),
    }
}

/// A type of serde's in words.
fn wanted(expected: &str) -> String {
    let words = match expected {
        "a string" | "string" | "string only" => "text in quotes",
        "path string" => "a path in quotes",
        "a boolean" => "true or false",
        "a sequence" => "a list, such as [\"...\"]",
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" | "u64" | "usize" => "a whole number from 0",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "socket address" => "ADDRESS:PORT, such as 127.0.0.1:8080",
        "IP address" => "an address, such as 127.0.0.1 or ::1",
        other if other.starts_with("struct ") || other == "a map" => "a section with keys of its own, [SECTION]",
        other => other,
    };
    format!("write {words}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_value_of_another_kind_is_named_with_its_key_and_what_to_write() {
        for (text, says) in [
            ("[http]\nlisten = \"foo\"", "http.listen = foo: write ADDRESS:PORT, such as 127.0.0.1:8080"),
            ("[http]\nlisten = 8080", "http.listen = 8080: write ADDRESS:PORT, such as 127.0.0.1:8080"),
            ("[rtp]\nbind = \"here\"", "rtp.bind = here: write an address, such as 127.0.0.1 or ::1"),
            ("[rtp]\nsrtp = \"yes\"", "rtp.srtp = yes: write off, preferred, required, sdes or dtls"),
            ("[rtp]\nptime_ms = 300", "rtp.ptime_ms = 300: write a whole number from 0 to 255"),
            ("[calls]\nmax = \"many\"", "calls.max = many: write a whole number from 0"),
            ("[calls]\nmax = -1", "calls.max = -1: write a whole number from 0"),
            ("[calls]\nrecord = \"no\"", "calls.record = no: write true or false"),
            ("[calls]\nmusic = 5", "calls.music = 5: write a path in quotes"),
            ("[log]\nlevel = 5", "log.level = 5: write text in quotes"),
            ("[log]\nformat = 5", "log.format = 5: write text in quotes"),
            ("[log]\nformat = \"xml\"", "log.format = xml: write text or json"),
            ("[rtp]\ncodecs = \"opus\"", "rtp.codecs = opus: write a list, such as [\"...\"]"),
            ("[devices]\npassword = \"hunter2\"", "devices = (a section): write [[devices]], once for each"),
            ("[[devices]]\npassword = [\"hunter2\"]", "devices.#1.password = (hidden): write text in quotes"),
            ("devices = [\"x\"]", "devices = x: write [[devices]], once for each"),
            ("[prices]\nvoices = [5]", "prices.voices = 5: write [[prices.voices]], once for each"),
            ("log = 5", "log = 5: write a section with keys of its own, [SECTION]"),
            ("[[routes]]\nhours = [\"8-17\"]", "routes.#1.hours: `8-17` is no span of hours: write HH:MM-HH:MM"),
            ("[[devices]]\nuser = \"al\"\nsrtp = \"x\"", "devices.al.srtp = x: write default, off, preferred"),
            ("[[devices]]\nuser = \"al\"\npassword = 77", "devices.al.password = (hidden): write text in quotes"),
            ("[[devices]]\nuser = \"al\"\nha1 = [\"hunter2\"]", "devices.al.ha1: an ha1 is written ALGORITHM:HEX"),
            ("[telemetry.otlp]\nsample = \"all\"", "telemetry.otlp.sample = all: write a number"),
        ] {
            let told = read(toml::from_str(text).unwrap()).unwrap_err().to_string();
            assert!(told.starts_with(says), "{text}: {told}");
        }
    }
}
