//! `docs/conformance.md` says which parts of which standards are kept, and by which test that is shown. It is made from the tests: a
//! test that shows one says so in its documentation, `Conforms: RFC N §X — what`. `OMNIVOX_BLESS=1` writes the file anew.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

const MARK: &str = "/// Conforms: RFC ";
const WHERE: [&str; 9] =
    ["tests", "src", "sip/src", "sip/tests", "media/src", "media/tests", "codecs/src", "codecs/tests", "agent/tests"];

/// One row.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    rfc: u32,
    /// For sorting `10.2` behind `9.1`.
    order: Vec<u32>,
    section: String,
    what: String,
    test: String,
}

fn files(folder: &Path, into: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            files(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// The rows of a file. A mark goes on over further lines of the same comment, up to the function that it is about.
fn rows(path: &str, text: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    for (at, line) in lines.iter().enumerate() {
        let Some(first) = line.strip_prefix(MARK) else { continue };
        let more = lines[at + 1..].iter().take_while(|line| !line.starts_with(MARK));
        let more = more.map_while(|line| line.strip_prefix("/// "));
        let text = std::iter::once(first).chain(more).collect::<Vec<_>>().join(" ");
        let (number, what) = text.split_once(" — ").unwrap_or_else(|| panic!("{path}: `{text}` has no ` — `"));
        let (rfc, section) = number.split_once(" §").unwrap_or((number, ""));
        let (is_test, name) = lines[at..]
            .iter()
            .scan(false, |is_test, line| {
                *is_test |= line.starts_with("#[test") || line.starts_with("#[tokio::test");
                Some((*is_test, *line))
            })
            .find_map(|(is_test, line)| {
                let rest = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ")?;
                Some((is_test, rest.split('(').next().unwrap_or_default()))
            })
            .unwrap();
        assert!(is_test, "{path}: {name} is no test");
        rows.push(Row {
            rfc: rfc.parse().unwrap_or_else(|_| panic!("{path}: `{rfc}` is no RFC's number")),
            order: section.split('.').filter_map(|part| part.split(' ').next()?.parse().ok()).collect(),
            section: section.to_owned(),
            what: what.trim_end_matches('.').to_owned(),
            test: format!("`{name}` ([{path}](../{path}))"),
        });
    }
    rows
}

fn table() -> String {
    let mut found = Vec::new();
    WHERE.iter().for_each(|folder| files(Path::new(folder), &mut found));
    let mut all: Vec<Row> = found
        .iter()
        .filter(|path| !path.ends_with("tests/conformance.rs"))
        .flat_map(|path| rows(&path.display().to_string(), &std::fs::read_to_string(path).unwrap()))
        .collect();
    all.sort();
    let mut text = String::from(
        "# Conformance\n\nWhat of which standard is kept, and the test that shows it. Made from the tests by `OMNIVOX_BLESS=1 cargo test --test conformance`:\n\
         there is no row without a test, and what stands nowhere here is not claimed.\n\n| RFC | section | what | test |\n| ---: | --- | --- | --- |\n",
    );
    for row in &all {
        writeln!(text, "| {} | {} | {} | {} |", row.rfc, row.section, row.what, row.test).unwrap();
    }
    text
}

#[test]
fn the_matrix_says_what_the_tests_show() {
    let (path, made) = (Path::new("docs/conformance.md"), table());
    if std::env::var_os("OMNIVOX_BLESS").is_some() {
        std::fs::write(path, &made).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        written == made,
        "docs/conformance.md is not what the tests say: run OMNIVOX_BLESS=1 cargo test --test conformance"
    );
    assert!(made.lines().count() > 80);
}
