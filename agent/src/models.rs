//! Models that are too large to ship: what there is, where it comes from, and fetching it safely.
//!
//! A [`Store`] is a folder. [`Store::pull`] writes `FILE.part`, goes on where an earlier pull was cut off, and renames it
//! to `FILE` only when it is whole and its digest is right; so a file under its own name is always a complete one.
//!
//! Where the catalogue knows no digest, the first pull's is kept beside the file (`FILE.sha256`) and compared ever after:
//! this guards against damage and later exchange, not against a wrong first download, and [`Pulled::trust`] says so.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

mod catalogue;
mod fetch;

pub use catalogue::{CATALOGUE, Kind, Model, find};

/// No model may be larger; a server that sends more is cut off.
pub const MAX_MODEL_BYTES: u64 = 4 * 1024 * 1024 * 1024;

/// The environment variable that names another server to fetch from.
pub const URL_VARIABLE: &str = "OMNIVOX_MODELS_URL";

/// A folder of models.
#[derive(Clone, Debug)]
pub struct Store {
    dir: PathBuf,
    base_url: Option<String>,
    stall: Duration,
}

impl Store {
    /// The folder `dir`, created when something is pulled.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), base_url: None, stall: Duration::from_secs(60) }
    }

    /// Fetches `BASE/FILE` in place of each model's own address.
    #[must_use]
    pub fn with_base_url(mut self, base_url: Option<String>) -> Self {
        self.base_url = base_url.filter(|url| !url.is_empty());
        self
    }

    /// How long a server may send nothing before the pull is given up (60 s unless told).
    #[must_use]
    pub fn with_stall_limit(mut self, stall: Duration) -> Self {
        self.stall = stall;
        self
    }

    /// Where a model's file lies, whether it is there or not.
    pub fn path_of(&self, model: &Model) -> PathBuf {
        self.dir.join(model.file)
    }

    /// Where a model would be fetched from.
    pub fn url_of(&self, model: &Model) -> String {
        match &self.base_url {
            Some(base) => format!("{}/{}", base.trim_end_matches('/'), model.file),
            None => model.url.to_owned(),
        }
    }

    /// What is there of a model. Reads sizes only.
    pub fn state_of(&self, model: &Model) -> State {
        let size_of = |path: &Path| path.metadata().ok().filter(std::fs::Metadata::is_file).map(|meta| meta.len());
        match (size_of(&self.path_of(model)), size_of(&self.part_of(model))) {
            (Some(size_bytes), _) => State::Here { size_bytes },
            (None, Some(done_bytes)) => State::Partial { done_bytes },
            (None, None) => State::Absent,
        }
    }

    /// The whole catalogue with what is there of it.
    pub fn list(&self) -> Vec<(&'static Model, State)> {
        CATALOGUE.iter().map(|model| (model, self.state_of(model))).collect()
    }

    /// Reads a model's file through and compares its digest. Blocks for as long as reading takes.
    ///
    /// # Errors
    /// [`ModelError::NotHere`], [`ModelError::Disk`], [`ModelError::Digest`].
    pub fn verify(&self, model: &Model) -> Result<Verified, ModelError> {
        let path = self.path_of(model);
        if !path.is_file() {
            return Err(ModelError::NotHere { name: model.name, path: path.display().to_string() });
        }
        let digest = digest_of(&path).map_err(|error| disk(&path, &error))?;
        let noted = std::fs::read_to_string(self.note_of(model)).ok();
        let noted = noted.as_deref().and_then(|note| note.split_whitespace().next());
        match model.sha256.or(noted) {
            Some(wanted) if wanted != digest => {
                Err(ModelError::Digest { file: path.display().to_string(), wanted: wanted.to_owned(), got: digest })
            }
            Some(_) if model.sha256.is_some() => Ok(Verified { digest, trust: Trust::Catalogue }),
            Some(_) => Ok(Verified { digest, trust: Trust::FirstPull }),
            None => Ok(Verified { digest, trust: Trust::Nothing }),
        }
    }

    /// Fetches a model unless it is there already. `progress` is told after each piece.
    ///
    /// # Errors
    /// [`ModelError`]; what was fetched so far is kept, and the next pull goes on from there, except after a wrong
    /// digest.
    pub async fn pull(&self, model: &Model, mut progress: impl FnMut(Progress)) -> Result<Pulled, ModelError> {
        let path = self.path_of(model);
        if path.is_file() {
            let verified = self.verify_aside(model).await?;
            return Ok(Pulled { path, already_here: true, digest: verified.digest, trust: verified.trust });
        }
        tokio::fs::create_dir_all(&self.dir).await.map_err(|error| disk(&self.dir, &error))?;
        let part = self.part_of(model);
        fetch::fetch(&self.url_of(model), &part, self.stall, &mut progress).await?;
        let digest = digest_aside(&part).await?;
        let noted = tokio::fs::read_to_string(self.note_of(model)).await.ok();
        let noted = noted.as_deref().and_then(|note| note.split_whitespace().next());
        if let Some(wanted) = model.sha256.or(noted)
            && wanted != digest
        {
            // What is wrong can't be gone on with.
            tokio::fs::remove_file(&part).await.map_err(|error| disk(&part, &error))?;
            return Err(ModelError::Digest { file: model.file.to_owned(), wanted: wanted.to_owned(), got: digest });
        }
        let trust = if model.sha256.is_some() { Trust::Catalogue } else { Trust::FirstPull };
        let note = self.note_of(model);
        let line = format!("{digest}  {}\n", model.file);
        tokio::fs::write(&note, line).await.map_err(|error| disk(&note, &error))?;
        tokio::fs::rename(&part, &path).await.map_err(|error| disk(&path, &error))?;
        Ok(Pulled { path, already_here: false, digest, trust })
    }

    async fn verify_aside(&self, model: &Model) -> Result<Verified, ModelError> {
        let (store, model) = (self.clone(), *model);
        let path = store.path_of(&model);
        let verified = tokio::task::spawn_blocking(move || store.verify(&model)).await;
        verified.unwrap_or_else(|error| Err(disk(&path, &io::Error::other(error))))
    }

    fn part_of(&self, model: &Model) -> PathBuf {
        self.dir.join(format!("{}.part", model.file))
    }

    fn note_of(&self, model: &Model) -> PathBuf {
        self.dir.join(format!("{}.sha256", model.file))
    }
}

/// What is there of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The whole file.
    Here {
        /// Its size.
        size_bytes: u64,
    },
    /// The beginning of it; the next pull goes on from there.
    Partial {
        /// What there is.
        done_bytes: u64,
    },
    /// Nothing.
    Absent,
}

/// How far a pull is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes on disk.
    pub done_bytes: u64,
    /// Bytes in all, where the server says.
    pub total_bytes: Option<u64>,
}

/// What a digest was compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The catalogue's.
    Catalogue,
    /// That of the first pull from the same place: it finds damage, not a wrong first download.
    FirstPull,
    /// Nothing: the file was put there by hand.
    Nothing,
}

/// A file that passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// SHA-256, hexadecimal.
    pub digest: String,
    /// What it was compared with.
    pub trust: Trust,
}

/// A model that is there now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// Its file.
    pub path: PathBuf,
    /// Whether it was there before.
    pub already_here: bool,
    /// SHA-256, hexadecimal.
    pub digest: String,
    /// What that was compared with.
    pub trust: Trust,
}

/// Why a model can't be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The file is not there.
    #[error("model {name} is not there ({path}): fetch it with `omnivox models pull {name}`")]
    NotHere {
        /// The model.
        name: &'static str,
        /// Where it would be.
        path: String,
    },
    /// The server could not be reached, or cut off.
    #[error("{url}: {reason} ({done_bytes} bytes are kept; pull again to go on)")]
    Network {
        /// The address.
        url: String,
        /// What the connection said.
        reason: String,
        /// What is on disk.
        done_bytes: u64,
    },
    /// The server does not have it.
    #[error("{url} answered HTTP {status}")]
    Status {
        /// The address.
        url: String,
        /// The status.
        status: u16,
    },
    /// The file is larger than any model may be.
    #[error("{url} would send more than {limit_bytes} bytes")]
    TooLarge {
        /// The address.
        url: String,
        /// [`MAX_MODEL_BYTES`].
        limit_bytes: u64,
    },
    /// The file is not the right one.
    #[error("{file} has digest {got}, not {wanted}: it is damaged or another file; delete it and pull again")]
    Digest {
        /// The file.
        file: String,
        /// The digest it should have.
        wanted: String,
        /// The digest it has.
        got: String,
    },
    /// The disk refused.
    #[error("{path}: {reason}")]
    Disk {
        /// The file or folder.
        path: String,
        /// What the system said.
        reason: String,
    },
}

fn disk(path: &Path, error: &io::Error) -> ModelError {
    ModelError::Disk { path: path.display().to_string(), reason: error.to_string() }
}

async fn digest_aside(path: &Path) -> Result<String, ModelError> {
    let owned = path.to_owned();
    let digest = tokio::task::spawn_blocking(move || digest_of(&owned)).await;
    digest.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(|error| disk(path, &error))
}

fn digest_of(path: &Path) -> io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let mut hasher = Sha256::new();
    let mut block = vec![0; 256 * 1024];
    loop {
        let len = file.read(&mut block)?;
        if len == 0 {
            break;
        }
        hasher.update(block.get(..len).unwrap_or_default());
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
