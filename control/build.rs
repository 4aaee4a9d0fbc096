//! Makes a table of the dashboard's files (`dashboard/dist`, written by `scripts/dashboard`) for `src/api/dashboard.rs` to embed. Where they
//! are not there the table is empty, and the program says how to get them. The files are copied beside the table, so that a folder of
//! compiled things serves any checkout, also after the one that filled it is gone.
#![allow(clippy::expect_used)]

use std::collections::hash_map::DefaultHasher;
use std::fmt::Write;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};

fn main() {
    let root = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo says where it is"));
    let dist = root.join("dashboard/dist");
    // A folder that is always there (it holds a .gitignore): one that is missing would have this run at every build.
    println!("cargo:rerun-if-changed=dashboard/dist");
    println!("cargo:rerun-if-changed=build.rs");
    let mut files = Vec::new();
    collect(&dist, &dist, &mut files);
    files.sort();
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo says where to write"));
    let copies = out.join("dist");
    if copies.exists() {
        std::fs::remove_dir_all(&copies).expect("what was copied before can be removed");
    }
    for name in &files {
        let to = copies.join(name);
        std::fs::create_dir_all(to.parent().expect("it lies in a folder")).expect("folders can be made");
        std::fs::copy(dist.join(name), to).expect("a file that was listed can be copied");
    }
    let mut table = String::from("&[\n");
    for name in files.iter().filter(|name| !name.ends_with(".gz")) {
        let packed = match files.contains(&format!("{name}.gz")) {
            true => format!("Some(include_bytes!(\"dist/{name}.gz\"))"),
            false => "None".to_owned(),
        };
        let tag = tag(&dist.join(name));
        writeln!(
            table,
            "    File {{ name: {name:?}, tag: \"\\\"{tag:016x}\\\"\", bytes: include_bytes!(\"dist/{name}\"), packed: {packed} }},"
        )
        .expect("text can be written to");
    }
    table.push(']');
    std::fs::write(out.join("dashboard.rs"), table).expect("the table can be written");
}

fn collect(dist: &Path, folder: &Path, files: &mut Vec<String>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        match (is_hidden, path.is_dir(), path.strip_prefix(dist)) {
            (true, ..) => {}
            (false, true, _) => collect(dist, &path, files),
            (false, false, Ok(name)) => files.extend(name.to_str().map(str::to_owned)),
            (false, false, Err(_)) => {}
        }
    }
}

/// The file's ETag: another content has another.
fn tag(path: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    std::fs::read(path).expect("a file that was listed can be read").hash(&mut hasher);
    hasher.finish()
}
