//! `omnivox backup` and `omnivox restore`: everything that the server keeps, as one file, and back.

use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use control::backup::{self, Manifest, Parts};
use control::store::Store;

use crate::call::record::JOURNAL;
use crate::config::Config;
use crate::output::print_line;
use crate::plane;

/// `omnivox backup`
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// The file to be made; it may not be there yet.
    file: PathBuf,
    /// Recordings too.
    #[arg(long)]
    recordings: bool,
}

/// `omnivox restore`
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// The backup.
    file: PathBuf,
    /// Replaces what is there already.
    #[arg(long)]
    force: bool,
}

/// Runs `omnivox backup`, also while the server runs.
///
/// # Errors
/// The database does not answer, something cannot be read, the file not be written.
pub async fn back_up(args: BackupArgs, config: Config, configuration: Option<PathBuf>) -> anyhow::Result<ExitCode> {
    let store = Store::open(&plane::options(&config).database).await?;
    let recordings = args.recordings.then(|| config.recordings_dir());
    let parts = Parts { folder: config.data.dir.clone(), recordings, configuration };
    let manifest = backup::back_up(&store, &parts, &args.file).await?;
    store.close().await;
    print_line!("{} has {}", args.file.display(), contents(&manifest))?;
    Ok(ExitCode::SUCCESS)
}

/// Runs `omnivox restore`; the server does not run meanwhile.
///
/// # Errors
/// The backup is damaged, something is there already, the database or the data folder cannot be written.
pub async fn restore(args: RestoreArgs, config: Config) -> anyhow::Result<ExitCode> {
    // Before anything is made, a database's file among it.
    backup::verify(&args.file)?;
    let folder = &config.data.dir;
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make the data folder {}", folder.display()))?;
    // Held until it is done.
    let _journal = alone(&folder.join(JOURNAL))?;
    let store = Store::open(&plane::options(&config).database).await?;
    let manifest = backup::restore(&store, folder, &config.recordings_dir(), &args.file, args.force).await?;
    store.close().await;
    print_line!("restored {}", contents(&manifest))?;
    Ok(ExitCode::SUCCESS)
}

/// The journal, which is no server's at the moment: one that writes there has it locked.
fn alone(journal: &Path) -> anyhow::Result<Option<File>> {
    let file = match File::open(journal) {
        Ok(file) => file,
        Err(fault) if fault.kind() == ErrorKind::NotFound => return Ok(None),
        Err(fault) => return Err(fault).with_context(|| format!("cannot read {}", journal.display())),
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => {
            anyhow::bail!("a server writes to {}: stop it first, then restore. Nothing was changed", journal.display())
        }
        Err(TryLockError::Error(fault)) => Err(fault).with_context(|| format!("cannot lock {}", journal.display())),
    }
}

fn contents(manifest: &Manifest) -> String {
    let rows: u64 = manifest.rows.values().sum();
    let recordings = manifest.parts.keys().filter(|name| name.starts_with("recordings/")).count();
    format!("{rows} rows of {} tables and {recordings} recordings, as of {}", manifest.rows.len(), manifest.made_at)
}
