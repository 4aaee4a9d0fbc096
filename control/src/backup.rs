//! Everything a server keeps, as one file: the database in a consistent state as lines of JSON by table, so that it may be restored into
//! the other kind of database too; the journal; recordings where they are wanted; the server's key, the audit log's anchor, the
//! configuration. A tar with a manifest that has the SHA-256 of each part. Nothing is written from one that is damaged.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::identity::secret::hex;
use crate::store::migrate::LATEST;
use crate::store::{Store, StoreError};
use crate::time::Moment;

/// The last two entries: what is in the file, and its own hash.
const MANIFEST: &str = "manifest.json";
const SEAL: &str = "manifest.sha256";
/// The format of the file.
const FORMAT: u32 = 1;
/// A manifest of more bytes is none of ours.
const MANIFEST_LIMIT: u64 = 256 << 20;
/// Where the configuration goes, in the data folder: it is for people to put in place.
const CONFIGURATION: &str = "omnivox.toml.restored";
/// Files beside the database, in the data folder.
const BESIDE: [&str; 2] = ["control.key", "audit.anchor"];
const JOURNAL: &str = "calls.jsonl";

/// What is backed up beside the database.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The data folder.
    pub folder: PathBuf,
    /// The folder of recordings, where they are wanted.
    pub recordings: Option<PathBuf>,
    /// The configuration, where there is a file.
    pub configuration: Option<PathBuf>,
}

/// What is in a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Of the file.
    pub format: u32,
    /// When it was made.
    pub made_at: Moment,
    /// The schema's version.
    pub schema: i64,
    /// Rows of each table.
    pub rows: BTreeMap<String, u64>,
    /// SHA-256 of each part, in hexadecimal.
    pub parts: BTreeMap<String, String>,
}

/// Why there is no backup, or it is not restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file.
    #[error("{path}: {fault}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        fault: std::io::Error,
    },
    /// It is not whole, or not what was written.
    #[error("the backup is damaged and nothing was restored: {0}")]
    Damaged(String),
    /// Something is there already.
    #[error("{0} is there already: restore into an empty place, or say --force to replace it")]
    Occupied(String),
    /// A backup is made into a file of its own.
    #[error("{} is there already: name a file that is not, or take that one away", .0.display())]
    Exists(PathBuf),
    /// It is of a newer program.
    #[error("the backup has version {0} of the schema, and this program knows {LATEST}: take a newer one")]
    Newer(i64),
}

fn at(path: &Path) -> impl FnOnce(std::io::Error) -> BackupError + '_ {
    move |fault| BackupError::File { path: path.to_owned(), fault }
}

/// Backs everything up into a file that is not there yet, for this user alone to read, while the server runs.
///
/// # Errors
/// The database does not answer, something cannot be read, the file not be written: there is none then.
pub async fn back_up(store: &Store, parts: &Parts, file: &Path) -> Result<Manifest, BackupError> {
    let partial = file.with_extension("partial");
    if file.exists() {
        return Err(BackupError::Exists(file.to_path_buf()));
    }
    let made = write(store, parts, &partial).await;
    if made.is_err() {
        let _ = std::fs::remove_file(&partial);
    }
    let manifest = made?;
    std::fs::rename(&partial, file).map_err(at(file))?;
    Ok(manifest)
}

async fn write(store: &Store, parts: &Parts, path: &Path) -> Result<Manifest, BackupError> {
    let file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    let mut tar = Tar { builder: tar::Builder::new(BufWriter::new(file.map_err(at(path))?)), parts: BTreeMap::new() };
    // The database first: the journal then has what the database has, and maybe more, which is read on from.
    let spool =
        tempfile::tempdir_in(path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")));
    let spool = spool.map_err(at(path))?;
    let rows = store.dump(spool.path()).await?;
    for table in rows.keys() {
        tar.add(&format!("database/{table}.jsonl"), &spool.path().join(table))?;
    }
    for name in BESIDE.iter().chain([&JOURNAL]) {
        tar.add_if_there(name, &parts.folder.join(name))?;
    }
    if let Some(configuration) = &parts.configuration {
        tar.add_if_there(CONFIGURATION, configuration)?;
    }
    if let Some(folder) = parts.recordings.as_ref().filter(|folder| folder.is_dir()) {
        for entry in std::fs::read_dir(folder).map_err(at(folder))? {
            let entry = entry.map_err(at(folder))?;
            if let (Some(name), true) = (entry.file_name().to_str(), entry.path().is_file()) {
                tar.add_if_there(&format!("recordings/{name}"), &entry.path())?;
            }
        }
    }
    let schema = store.migrations().await?.iter().filter(|step| step.applied).map(|step| step.version).max();
    let manifest = Manifest {
        format: FORMAT,
        made_at: Moment::now(),
        schema: schema.unwrap_or_default(),
        rows,
        parts: std::mem::take(&mut tar.parts),
    };
    let text = serde_json::to_vec_pretty(&manifest).map_err(|fault| at(path)(fault.into()))?;
    tar.put(MANIFEST, &text).map_err(at(path))?;
    tar.put(SEAL, hex(digest::digest(&digest::SHA256, &text).as_ref()).as_bytes()).map_err(at(path))?;
    let file = tar.builder.into_inner().and_then(|file| file.into_inner().map_err(std::io::IntoInnerError::into_error));
    file.and_then(|file| file.sync_all()).map_err(at(path))?;
    Ok(manifest)
}

struct Tar {
    builder: tar::Builder<BufWriter<File>>,
    parts: BTreeMap<String, String>,
}

impl Tar {
    fn put(&mut self, name: &str, bytes: &[u8]) -> std::io::Result<()> {
        self.builder.append_data(&mut header(bytes.len() as u64), name, bytes)
    }

    fn add_if_there(&mut self, name: &str, path: &Path) -> Result<(), BackupError> {
        if path.is_file() { self.add(name, path) } else { Ok(()) }
    }

    /// Adds as much of a file as it has now; of a journal that is being written whole lines.
    fn add(&mut self, name: &str, path: &Path) -> Result<(), BackupError> {
        let mut file = File::open(path).map_err(at(path))?;
        let mut len = file.metadata().map_err(at(path))?.len();
        if name == JOURNAL {
            len = whole_lines(&mut file, len).map_err(at(path))?;
        }
        let mut reader = Hashed { inner: BufReader::new(file).take(len), hash: digest::Context::new(&digest::SHA256) };
        self.builder.append_data(&mut header(len), name, &mut reader).map_err(at(path))?;
        self.parts.insert(name.to_owned(), hex(reader.hash.finish().as_ref()));
        Ok(())
    }
}

fn header(len: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(len);
    header.set_mode(0o600);
    header.set_mtime(u64::try_from(Moment::now().0 / 1_000).unwrap_or_default());
    header
}

/// Up to the end of the last line.
fn whole_lines(file: &mut File, len: u64) -> std::io::Result<u64> {
    const STEP: u64 = 64 * 1_024;
    let mut end = len;
    while end > 0 {
        let begin = end.saturating_sub(STEP);
        file.seek(SeekFrom::Start(begin))?;
        let mut chunk = Vec::new();
        Read::by_ref(file).take(end - begin).read_to_end(&mut chunk)?;
        if let Some(last) = chunk.iter().rposition(|byte| *byte == b'\n') {
            end = begin + last as u64 + 1;
            break;
        }
        end = begin;
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(end)
}

struct Hashed<R> {
    inner: R,
    hash: digest::Context,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let size = self.inner.read(buffer)?;
        self.hash.update(&buffer[..size]);
        Ok(size)
    }
}

/// Looks a backup through to its end: every part is what was written, nothing is missing, nothing else is there.
///
/// # Errors
/// What is wrong with it.
pub fn verify(file: &Path) -> Result<Manifest, BackupError> {
    let damaged = |what: String| BackupError::Damaged(what);
    let mut archive = tar::Archive::new(BufReader::new(File::open(file).map_err(at(file))?));
    let (mut seen, mut manifest, mut seal) = (BTreeMap::new(), None, None);
    for entry in archive.entries().map_err(at(file))? {
        let entry = entry.map_err(|fault| damaged(fault.to_string()))?;
        let name = entry.path().map_err(|fault| damaged(fault.to_string()))?.to_string_lossy().into_owned();
        let mut reader = Hashed { inner: entry, hash: digest::Context::new(&digest::SHA256) };
        let kept = name == MANIFEST || name == SEAL;
        let mut bytes = Vec::new();
        let read = match kept {
            true => reader.by_ref().take(MANIFEST_LIMIT).read_to_end(&mut bytes).map(|size| size as u64),
            false => std::io::copy(&mut reader, &mut std::io::sink()),
        };
        read.map_err(|fault| damaged(format!("{name}: {fault}")))?;
        let hash = hex(reader.hash.finish().as_ref());
        match name.as_str() {
            MANIFEST => manifest = Some((bytes, hash)),
            SEAL => seal = Some(bytes),
            _ if !is_part(&name) => return Err(damaged(format!("{name} is no part of a backup"))),
            _ => {
                seen.insert(name, hash);
            }
        }
    }
    let (Some((bytes, hash)), Some(seal)) = (manifest, seal) else {
        return Err(damaged("its end is missing".to_owned()));
    };
    if seal != hash.as_bytes() {
        return Err(damaged(format!("{MANIFEST} is not what was written")));
    }
    let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|fault| damaged(format!("{MANIFEST}: {fault}")))?;
    for (name, wanted) in &manifest.parts {
        match seen.get(name) {
            None => return Err(damaged(format!("{name} is missing"))),
            Some(hash) if hash != wanted => return Err(damaged(format!("{name} is not what was written"))),
            Some(_) => {}
        }
    }
    if let Some(other) = seen.keys().find(|name| !manifest.parts.contains_key(*name)) {
        return Err(damaged(format!("{other} was put into it")));
    }
    if manifest.schema > LATEST || manifest.format > FORMAT {
        return Err(BackupError::Newer(manifest.schema));
    }
    Ok(manifest)
}

/// Names that may stand in a backup: none leads out of the folder that it is restored into.
fn is_part(name: &str) -> bool {
    let is_plain = |name: &str| !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', '\0']);
    match name.split_once('/') {
        Some(("recordings", name)) => is_plain(name),
        Some(("database", name)) => name
            .strip_suffix(".jsonl")
            .is_some_and(|table| !table.is_empty() && table.chars().all(|c| c.is_ascii_lowercase() || c == '_')),
        Some(_) => false,
        None => BESIDE.contains(&name) || [JOURNAL, CONFIGURATION].contains(&name),
    }
}

/// Restores a backup into a database and a data folder that have nothing yet, or whose contents may be replaced. Nothing is written where
/// the backup is damaged.
///
/// # Errors
/// The backup is damaged, something is there already, the database or the folder cannot be written.
pub async fn restore(
    store: &Store,
    folder: &Path,
    recordings: &Path,
    file: &Path,
    may_replace: bool,
) -> Result<Manifest, BackupError> {
    let manifest = verify(file)?;
    if !may_replace {
        if store.migrations().await?.iter().any(|step| step.applied) {
            return Err(BackupError::Occupied("a database".to_owned()));
        }
        let files = BESIDE.iter().chain([&JOURNAL]).map(|name| folder.join(name));
        if let Some(there) = files.into_iter().find(|path| path.exists()) {
            return Err(BackupError::Occupied(there.display().to_string()));
        }
    }
    std::fs::create_dir_all(folder).map_err(at(folder))?;
    let spool = tempfile::tempdir_in(folder).map_err(at(folder))?;
    let mut archive = tar::Archive::new(BufReader::new(File::open(file).map_err(at(file))?));
    for entry in archive.entries().map_err(at(file))? {
        let mut entry = entry.map_err(at(file))?;
        let name = entry.path().map_err(at(file))?.to_string_lossy().into_owned();
        let to = match name.split_once('/') {
            Some(("database", table)) => spool.path().join(table.trim_end_matches(".jsonl")),
            Some((_, recording)) => {
                std::fs::create_dir_all(recordings).map_err(at(recordings))?;
                recordings.join(recording)
            }
            None if manifest.parts.contains_key(&name) => folder.join(&name),
            None => continue,
        };
        let new = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&to);
        let mut new = new.map_err(at(&to))?;
        std::io::copy(&mut entry, &mut new).and_then(|_| new.sync_all()).map_err(at(&to))?;
    }
    store.migrate_down(0).await?;
    // As it was when the backup was made: what came since is filled for its rows by the steps that brought it.
    store.migrate_to(manifest.schema).await?;
    store.load(spool.path(), &manifest.rows).await?;
    store.migrate().await?;
    Ok(manifest)
}

/// Reads a table's lines.
pub(crate) fn lines(path: &Path) -> std::io::Result<impl Iterator<Item = std::io::Result<Map<String, Value>>>> {
    let lines = BufReader::new(File::open(path)?).lines();
    Ok(lines.map(|line| serde_json::from_str(&line?).map_err(std::io::Error::from)))
}

/// Tables in an order in which each comes after those that it refers to.
pub(crate) fn in_order(tables: &[String], refers: &[(String, String)]) -> Vec<String> {
    let (mut done, mut order) = (HashSet::new(), Vec::new());
    while order.len() < tables.len() {
        let before = order.len();
        for table in tables {
            let waits = refers.iter().any(|(from, to)| from == table && to != table && !done.contains(to));
            if !done.contains(table) && !waits {
                done.insert(table.clone());
                order.push(table.clone());
            }
        }
        if order.len() == before {
            // A ring: there is none in our schema; whoever makes one sees the database refuse it.
            order.extend(tables.iter().filter(|table| !done.contains(*table)).cloned());
        }
    }
    order
}
