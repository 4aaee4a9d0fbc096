//! What is kept of calls and people is for the user alone as whom the program runs: files have the mode 0600, folders 0700.

use std::fs::Permissions;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use control::store::Store;
use rustix::fs::Mode;

use crate::config::Config;
use crate::plane;

/// What others than the file's own user may do.
const OTHERS: u32 = 0o077;
/// Files in the data folder that tell of calls and people begin with one of these.
const KEPT: [&str; 4] = ["omnivox.db", "audit.anchor", "registrations.json", "omnivox.toml.restored"];
/// What SQLite keeps beside a database ends in one of these.
const BESIDE: [&str; 4] = ["", "-wal", "-shm", "-journal"];

/// Whatever this process makes from now on is for its own user alone. For programs, not for libraries: it holds for every thread.
pub fn keep() {
    rustix::process::umask(Mode::from_raw_mode(OTHERS));
}

/// What an earlier version left for others to read is for this user alone too.
pub(crate) fn tighten(config: &Config) {
    let recordings = config.recordings_dir();
    if closed(&recordings) {
        tracing::info!("{} is for this user alone now", recordings.display());
    }
    let files = files(config).into_iter().chain(within(&recordings)).filter(|path| closed(path)).count();
    if files > 0 {
        tracing::info!("{files} files that tell of calls and people are for this user alone now");
    }
}

/// Takes from others what they may; whether they might. Where that fails, it is told.
fn closed(path: &Path) -> bool {
    match close(path) {
        Ok(was_open) => was_open,
        Err(fault) if fault.kind() == ErrorKind::NotFound => false,
        Err(fault) => {
            tracing::warn!("others may read {}: {fault}", path.display());
            false
        }
    }
}

/// Files of the data folder, and the database where it lies elsewhere.
fn files(config: &Config) -> Vec<PathBuf> {
    let is_kept = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // The journal, what was put away of it, and the calls that go on.
        let is_journal = name.starts_with("calls.") && name.contains(".jsonl");
        is_journal || KEPT.iter().any(|kept| name.starts_with(kept))
    };
    let mut files: Vec<PathBuf> = entries(&config.data.dir).filter(is_kept).collect();
    if let Some(path) = Store::file_of(&plane::options(config).database) {
        files.extend(BESIDE.iter().map(|ending| PathBuf::from(format!("{}{ending}", path.display()))));
    }
    files
}

/// What is in a folder that others still get into: where it is a link, say. There may be very many files in one that is closed.
fn within(folder: &Path) -> Vec<PathBuf> {
    match std::fs::metadata(folder) {
        Ok(meta) if meta.permissions().mode() & OTHERS != 0 => entries(folder).collect(),
        _ => Vec::new(),
    }
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    std::fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()))
}

/// Takes from others what they may; whether they might. What a link leads to is somebody else's.
fn close(path: &Path) -> std::io::Result<bool> {
    let meta = std::fs::symlink_metadata(path)?;
    let mode = meta.permissions().mode();
    if mode & OTHERS == 0 || meta.is_symlink() {
        return Ok(false);
    }
    std::fs::set_permissions(path, Permissions::from_mode(mode & !OTHERS))?;
    Ok(true)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_version_left_open_is_closed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.data.dir = folder.path().to_path_buf();
        let of = |name: &str| folder.path().join(name);
        let mode = |name: &str| std::fs::metadata(of(name)).unwrap().permissions().mode() & 0o777;
        std::fs::create_dir_all(of("recordings")).unwrap();
        std::fs::create_dir_all(of("models")).unwrap();
        let kept = ["omnivox.db", "omnivox.db-wal", "calls.jsonl", "calls.open.jsonl", "calls.1.jsonl"];
        // Nobody else gets to what is in a folder that is closed.
        let others = ["models/voice", "omnivox.toml", "recordings/a.wav"];
        for name in kept.iter().chain(&others) {
            std::fs::write(of(name), "x").unwrap();
            std::fs::set_permissions(of(name), Permissions::from_mode(0o644)).unwrap();
        }
        for name in ["recordings", "models"] {
            std::fs::set_permissions(of(name), Permissions::from_mode(0o755)).unwrap();
        }
        tighten(&config);
        kept.iter().for_each(|name| assert_eq!(mode(name), 0o600, "{name}"));
        others.iter().for_each(|name| assert_eq!(mode(name), 0o644, "{name}"));
        assert_eq!((mode("recordings"), mode("models")), (0o700, 0o755));
        // A folder that a link leads to is not ours to close: its files are.
        std::fs::rename(of("recordings"), of("elsewhere")).unwrap();
        std::fs::set_permissions(of("elsewhere"), Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::symlink(of("elsewhere"), of("recordings")).unwrap();
        tighten(&config);
        assert_eq!((mode("elsewhere"), mode("elsewhere/a.wav")), (0o755, 0o600));
        // What is not there yet is no fault.
        std::fs::remove_file(of("recordings")).unwrap();
        tighten(&config);
    }

    #[test]
    fn a_database_elsewhere_is_closed_too() {
        let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = elsewhere.path().join("calls.sqlite");
        std::fs::write(&path, "x").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let mut config = Config::default();
        config.data.dir = folder.path().to_path_buf();
        config.control.database = crate::config::Secret::new(format!("sqlite://{}?mode=rwc", path.display()));
        tighten(&config);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
