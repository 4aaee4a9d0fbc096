//! The house rules that a compiler does not check: which part may depend on which, how long a file may grow,
//! where `unsafe` may stand.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const MAX_FILE_LINES: usize = 900;
const PARTS: [&str; 5] = ["codecs", "sip", "media", "agent", "control"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files_below(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if !["target", ".git", "node_modules", "data", "corpus", "artifacts"].contains(&name.as_str()) {
                    folders.push(path);
                }
            } else if name.ends_with(ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn sources() -> Vec<PathBuf> {
    let found = files_below(root(), ".rs");
    assert!(found.len() > 50, "the sources were not found");
    found
}

#[test]
fn no_file_has_grown_past_what_one_sitting_can_read() {
    let long: Vec<String> = sources()
        .iter()
        .map(|path| (path, std::fs::read_to_string(path).unwrap().lines().count()))
        .filter(|(_, lines)| *lines > MAX_FILE_LINES)
        .map(|(path, lines)| format!("{}: {lines} lines", path.display()))
        .collect();
    assert!(long.is_empty(), "split these by concern (at most {MAX_FILE_LINES} lines):\n{}", long.join("\n"));
}

#[test]
fn no_module_is_called_mod_rs() {
    let found: Vec<_> = sources()
        .into_iter()
        .filter(|path| path.ends_with("mod.rs") && !path.ends_with("tests/common/mod.rs"))
        .collect();
    assert!(found.is_empty(), "write foo.rs beside foo/: {found:?}");
}

#[test]
fn parts_depend_only_on_what_the_map_allows() {
    let allowed = BTreeMap::from([
        ("codecs", vec![]),
        ("sip", vec![]),
        ("media", vec!["codecs"]),
        ("agent", vec!["codecs"]),
        ("control", vec![]),
    ]);
    for part in PARTS {
        let manifest = std::fs::read_to_string(root().join(part).join("Cargo.toml")).unwrap();
        let manifest: toml::Table = toml::from_str(&manifest).unwrap();
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let Some(table) = manifest.get(section).and_then(toml::Value::as_table) else { continue };
            for name in table.keys().filter(|name| PARTS.contains(&name.as_str()) || *name == "omnivox") {
                let may = allowed[part].contains(&name.as_str());
                assert!(
                    may,
                    "{part}/Cargo.toml: [{section}] {name}: an arrow the map in ARCHITECTURE.md does not have"
                );
            }
        }
    }
}

#[test]
fn versions_stand_only_in_the_root_manifest() {
    for part in PARTS {
        let manifest = std::fs::read_to_string(root().join(part).join("Cargo.toml")).unwrap();
        let own = manifest.lines().find(|line| line.contains("version = \""));
        assert_eq!(own, None, "{part}/Cargo.toml: give the version in the root's [workspace.dependencies]");
    }
}

/// Folders and files that may meet the async runtime and the operating system; every other file of sip and media is a core.
#[test]
fn the_cores_know_no_runtime_no_clock_and_no_socket() {
    for (part, io) in [("sip", "sip/src/io"), ("media", "media/src/io"), ("codecs", "-")] {
        for path in files_below(&root().join(part).join("src"), ".rs") {
            let relative = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
            // Tests and the bodies of fuzz targets stand beside the code they call, and begin at some moment.
            if relative.starts_with(io) || relative.ends_with("src/fuzz.rs") || relative.ends_with("/tests.rs") {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            for word in ["tokio::", "Instant::now(", "SystemTime::now(", "std::net::UdpSocket", "std::thread::"] {
                let found = code.lines().find(|line| line.contains(word) && !line.trim_start().starts_with("//"));
                assert!(found.is_none(), "{relative}: a core must not use {word}: {}", found.unwrap_or_default());
            }
        }
    }
}

#[test]
fn unsafe_stands_only_in_modules_made_for_it_and_says_why() {
    const ALLOWED: [&str; 5] =
        ["/sys.rs", "/sys/", "tests/", "agent/src/voice/flite/engine.rs", "agent/src/ear/whisper/abort.rs"];
    for path in sources() {
        let relative = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if !(code.contains("unsafe {") || code.contains("unsafe impl")) || relative.ends_with("tidy.rs") {
                continue;
            }
            assert!(
                ALLOWED.iter().any(|place| relative.contains(place)) || relative.starts_with("media/examples/"),
                "{relative}:{}: unsafe belongs into a module named sys, or the module into this list",
                number + 1
            );
            let explained = lines[number.saturating_sub(8)..=number].iter().any(|line| line.contains("SAFETY:"));
            assert!(explained, "{relative}:{}: say why this is sound: // SAFETY: …", number + 1);
        }
    }
}

#[test]
fn no_test_is_switched_off() {
    let word = ["#[", "ignore"].concat();
    for path in sources() {
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains(&word), "{}: a test that never runs tells nothing", path.display());
    }
}

#[test]
fn the_changelog_and_the_manifest_agree_on_the_version() {
    let changelog = std::fs::read_to_string(root().join("CHANGELOG.md")).unwrap();
    assert!(changelog.contains(env!("CARGO_PKG_VERSION")) || changelog.contains("## Unreleased"));
}

/// Scripts that no test runs to their end are at least scripts, and what they say of their use is the first that one reads.
#[test]
fn scripts_are_understood_and_say_how_they_are_used() {
    let shebang =
        |path: &PathBuf| std::fs::read_to_string(path).is_ok_and(|text| text.starts_with("#!/usr/bin/env bash"));
    let commands: Vec<PathBuf> = files_below(&root().join("scripts"), "").into_iter().filter(shebang).collect();
    assert!(commands.len() > 5, "the scripts were not found: {commands:?}");
    for path in commands.iter().chain(&files_below(&root().join("scripts"), ".sh")) {
        let read = std::process::Command::new("bash").arg("-n").arg(path).output().unwrap();
        assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    }
    for path in &commands {
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.lines().any(|line| line.starts_with("# usage: scripts/")), "{}: no usage", path.display());
    }
}

/// Figures that alerts and Grafana's dashboard ask for are told, and each alert has its runbook.
#[test]
fn monitoring_asks_for_what_there_is() {
    let folder = root().join("docs/monitoring");
    let alerts = std::fs::read_to_string(folder.join("alerts.yml")).unwrap();
    let grafana = std::fs::read_to_string(folder.join("grafana.json")).unwrap();
    let told: String = ["src", "control/src"]
        .iter()
        .flat_map(|part| files_below(&root().join(part), ".rs"))
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    let mut asked = std::collections::BTreeSet::new();
    for text in [&alerts, &grafana] {
        let is_part = |c: char| c.is_ascii_lowercase() || c == '_';
        for (at, _) in text.match_indices("omnivox_") {
            asked.insert(text[at..].split(|c| !is_part(c)).next().unwrap().trim_end_matches("_bucket"));
        }
    }
    assert!(asked.len() > 20, "{asked:?}");
    let unknown: Vec<_> = asked.iter().filter(|name| !told.contains(&format!("\"{name}\""))).collect();
    assert!(unknown.is_empty(), "nobody tells these: {unknown:?}");
    let runbooks = std::fs::read_to_string(root().join("docs/runbooks.md")).unwrap();
    let headings: Vec<String> = runbooks
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .map(|heading| heading.to_lowercase().replace(' ', "-"))
        .collect();
    let wanted: Vec<&str> =
        alerts.lines().filter_map(|line| line.trim().strip_prefix("runbook: runbooks.md#")).collect();
    assert!(wanted.len() > 10);
    for anchor in wanted {
        assert!(headings.iter().any(|heading| heading == anchor), "runbooks.md has no {anchor}: {headings:?}");
    }
}
