//! Ended calls come into the database from the journal that the server writes (`calls.jsonl`, a line each): what the journal has is
//! safe, and how far it was read stands in the database beside what was read. A database that is down for an hour loses and
//! doubles nothing; neither does a process that is killed anywhere. A record that the database refuses for what it contains is set aside
//! ([`crate::store::refused`]) and holds nobody up.

mod sorting;

use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest;
use tokio_util::sync::CancellationToken;

use crate::control::Control;
use crate::identity::secret::hex;
use crate::live::{Entry, Live};
use crate::ports::Calls;
use crate::ports::spans::{Done, NoSpans, Spans};
use crate::store::journal::Place;
use crate::store::outbox::Told;
use crate::store::{Blame, Store, StoreError};

/// The journal is looked at this often.
const EVERY: Duration = Duration::from_millis(200);
/// Where a look brought more calls than this, what ends next is gathered: what a transaction costs the database depends little on how many
/// calls are in it.
const MANY: usize = 50;
/// So many looks later the journal is read then. What is told live goes to the outbox with each of them.
const GATHERED_LOOKS: u32 = 5;
/// After a fault it is tried again after so long, then twice as long, up to [`SLOWEST`].
const AFTER_FAULT: Duration = Duration::from_secs(1);
const SLOWEST: Duration = Duration::from_secs(30);
/// Bytes read at once; a line that is longer is read whole.
const CHUNK_BYTES: u64 = 1 << 20;
/// A line of more bytes is no record of ours.
const LINE_LIMIT: u64 = 64 << 20;
/// So many bytes at its beginning tell one journal from another.
const HEAD_BYTES: usize = 128;
/// Live events written to the outbox at once.
const TOLD_AT_ONCE: usize = 1_000;

/// Reads one journal.
pub struct Journal {
    path: PathBuf,
    node: String,
    store: Store,
    live: Live,
    calls: Option<Arc<dyn Calls>>,
    spans: Arc<dyn Spans>,
    /// As it was when it was read to its end.
    read: Mutex<Option<Look>>,
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal").field("path", &self.path).field("node", &self.node).finish_non_exhaustive()
    }
}

/// What one reading brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Taken {
    /// Calls.
    pub calls: usize,
    /// Lines that were none, and are set aside.
    pub unreadable: usize,
    /// Calls that the database refuses, and that are set aside.
    pub refused: usize,
    /// There is more to be read.
    pub has_more: bool,
}

/// Why a journal cannot be read into the database.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The file.
    #[error("cannot read {path}: {fault}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        fault: std::io::Error,
    },
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Journal {
    /// The journal of a server (`node`) at this path; it need not be there yet. What is told live goes to the outbox by the same way, so
    /// that it stands there before the end of its call.
    #[must_use]
    pub fn new(path: PathBuf, node: String, store: Store, live: Live) -> Self {
        Self { path, node, store, live, calls: None, spans: Arc::new(NoSpans), read: Mutex::default() }
    }

    /// The journal of this server.
    #[must_use]
    pub fn of(control: &Control) -> Self {
        let (path, node) = (control.options.journal.clone(), control.options.node.clone());
        let journal = Self::new(path, node, control.store.clone(), control.live.clone());
        Self { calls: Some(Arc::clone(&control.calls)), spans: Arc::clone(&control.spans), ..journal }
    }

    /// Reads on until `stop`, then once more to the end.
    pub async fn run(self, stop: CancellationToken) {
        let (mut wait, mut left) = (EVERY, 0);
        loop {
            let stopping = tokio::select! {
                () = tokio::time::sleep(wait) => false,
                () = stop.cancelled() => true,
            };
            let done = if left > 0 && !stopping {
                left -= 1;
                self.tell().await
            } else {
                self.catch_up().await.map(|taken| left = if taken.calls > MANY { GATHERED_LOOKS - 1 } else { 0 })
            };
            match done {
                Ok(()) => {
                    if wait > EVERY {
                        self.note_fault(None);
                    }
                    wait = EVERY;
                }
                Err(fault) => {
                    left = 0;
                    self.note_fault(Some(&fault));
                    if wait < AFTER_FAULT {
                        tracing::error!("call records wait in {} and are tried again: {fault}", self.path.display());
                        wait = AFTER_FAULT;
                    } else {
                        wait = (wait * 2).min(SLOWEST);
                    }
                    metrics::counter!("omnivox_control_journal_faults_total").increment(1);
                }
            }
            if stopping {
                return;
            }
        }
    }

    fn note_fault(&self, fault: Option<&JournalError>) {
        if let Some(calls) = &self.calls {
            let says = fault.map(|fault| format!("call records wait for the database: {fault}"));
            calls.note_fault("database", says.as_deref());
        }
    }

    /// Reads to the end of what is there.
    ///
    /// # Errors
    /// The file cannot be read, or the database does not take it: what was read so far is stored.
    pub async fn catch_up(&self) -> Result<Taken, JournalError> {
        let mut all = Taken::default();
        loop {
            let taken = self.take().await?;
            all.calls += taken.calls;
            all.unreadable += taken.unreadable;
            all.refused += taken.refused;
            if !taken.has_more {
                return Ok(all);
            }
        }
    }

    async fn take(&self) -> Result<Taken, JournalError> {
        let _turn = self.store.journaling.lock().await;
        // Before it is read: whatever comes meanwhile makes it look otherwise.
        let look = Look::at(&self.path);
        let is_read = *self.last_look() == Some(look);
        let read = if is_read { None } else { self.read_on().await? };
        // After the journal was read: whatever was told of a call that it has the end of is among this.
        let (events, mut told) = self.take_told().await?;
        let more_told = events.len() == TOLD_AT_ONCE;
        // What ended waits until all that was told before is there.
        let done = match &read {
            Some((from, read)) if !more_told => self.store_read(read, from, &mut told).await,
            _ => self.tell_all(&mut told).await.map(|()| Taken { has_more: more_told, ..Taken::default() }),
        };
        if done.is_err() && !told.is_empty() {
            self.live.give_back(events);
        }
        let taken = done?;
        if !taken.has_more {
            *self.last_look() = Some(look);
        }
        Ok(taken)
    }

    /// What stands in the journal after what was read of it, and where that ended; none where there is nothing.
    async fn read_on(&self) -> Result<Option<(Place, Chunk)>, JournalError> {
        let place = self.store.journal(&self.node).await?;
        let (path, from) = (self.path.clone(), place.clone());
        let read = tokio::task::spawn_blocking(move || read(&path, &from)).await;
        let read = read.unwrap_or_else(|fault| Err(std::io::Error::other(fault)));
        let read = read.map_err(|fault| JournalError::File { path: self.path.clone(), fault })?;
        Ok((read.place != place).then_some((place, read)))
    }

    fn last_look(&self) -> MutexGuard<'_, Option<Look>> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what was told live to the outbox, and leaves the journal for later.
    async fn tell(&self) -> Result<(), JournalError> {
        let _turn = self.store.journaling.lock().await;
        loop {
            let (events, mut told) = self.take_told().await?;
            let has_more = events.len() == TOLD_AT_ONCE;
            if let Err(fault) = self.tell_all(&mut told).await {
                self.live.give_back(events);
                return Err(fault.into());
            }
            if !has_more {
                return Ok(());
            }
        }
    }

    /// What was told live, and of that what somebody wants to have.
    async fn take_told(&self) -> Result<(Vec<Arc<Entry>>, Vec<Told>), StoreError> {
        let events = self.live.take_told(TOLD_AT_ONCE);
        if events.is_empty() {
            return Ok(Default::default());
        }
        match self.store.targets().await {
            Ok(targets) => {
                let wanted = events.iter().filter(|event| targets.want(event.kind));
                let told = wanted.map(|event| Told::from(&***event)).collect();
                Ok((events, told))
            }
            Err(fault) => {
                self.live.give_back(events);
                Err(fault)
            }
        }
    }

    async fn store_read(&self, read: &Chunk, from: &Place, told: &mut Vec<Told>) -> Result<Taken, StoreError> {
        let found = sorting::lines(read);
        let (calls, unreadable) = (found.calls.len(), found.unreadable.len());
        self.set_aside("unreadable", &found.unreadable).await?;
        let begin = |at: usize| Some((at, self.spans.begin(&found.calls[at].call.call)?));
        let begun: Vec<_> = (0..calls).filter_map(begin).collect();
        let stored = match self.store.take_journal(&self.node, told, &found.calls, &read.place).await {
            Ok(()) => Ok(Vec::new()),
            Err(fault) if fault.blame(self.store.backend) == Blame::Database => Err(fault),
            Err(_) => self.store_one_by_one(&found, from, &read.place, told).await,
        };
        for (at, begun) in begun {
            let attributes = vec![
                ("db.system.name", self.store.backend.system_name().to_owned()),
                ("db.operation.name", "INSERT".to_owned()),
                ("db.collection.name", "call_records".to_owned()),
                ("db.operation.batch.size", calls.to_string()),
            ];
            let is_stored = stored.as_ref().is_ok_and(|refused| !refused.contains(&found.positions[at]));
            let fault = (!is_stored).then(|| "the database does not take it".to_owned());
            self.spans.end(begun, Done { name: "INSERT call_records".to_owned(), attributes, fault });
        }
        let refused = stored?.len();
        metrics::counter!("omnivox_control_records_total").increment((calls - refused) as u64);
        Ok(Taken { calls: calls - refused, unreadable, refused, has_more: read.has_more })
    }
}

/// What is left of a line that was erased.
pub const ERASED: &str = r#"{"erased":true}"#;

/// A line of a journal.
#[derive(Debug, Clone, Copy)]
pub struct Line<'a> {
    /// What it says.
    pub text: &'a str,
    /// The id of its call; empty where it has none.
    pub call: &'a str,
    /// Bytes from the journal's beginning.
    pub position: u64,
}

/// Rewrites lines of a server's journal where they stand, while others append to it: what is left of a line is never longer than it was, and
/// spaces fill it up, so that every position stays right. `edit` says what is left of a line. Returns how many lines were rewritten; they are
/// on the disk then.
///
/// # Errors
/// The file cannot be read or written, or the database not be told what it begins with: asked again, it goes on.
pub async fn rewrite(
    control: &Control,
    edit: impl Fn(Line<'_>) -> Option<String> + Send + 'static,
) -> Result<u64, JournalError> {
    let path = control.options.journal.clone();
    let _turn = control.store.journaling.lock().await;
    let file = path.clone();
    let rewritten = tokio::task::spawn_blocking(move || rewrite_file(&file, edit)).await;
    let rewritten = rewritten.unwrap_or_else(|fault| Err(std::io::Error::other(fault)));
    let (lines, before, after) = rewritten.map_err(|fault| JournalError::File { path, fault })?;
    if before != after {
        control.store.journal_begins(&control.options.node, &before, &after).await?;
    }
    Ok(lines)
}

#[derive(serde::Deserialize)]
struct Named<'a> {
    #[serde(borrow)]
    call: std::borrow::Cow<'a, str>,
}

fn rewrite_file(path: &Path, edit: impl Fn(Line<'_>) -> Option<String>) -> std::io::Result<(u64, String, String)> {
    let file = match std::fs::OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => file,
        Err(fault) if fault.kind() == std::io::ErrorKind::NotFound => return Ok((0, String::new(), String::new())),
        Err(fault) => return Err(fault),
    };
    let len = file.metadata()?.len();
    let before = head(&mut &file, len)?;
    (&file).seek(SeekFrom::Start(0))?;
    let mut reader = BufReader::new(&file);
    let (mut line, mut at, mut rewritten) = (Vec::new(), 0_u64, 0);
    loop {
        line.clear();
        let size = reader.read_until(b'\n', &mut line)?;
        // A line that is being written is none yet.
        if size == 0 || line.pop() != Some(b'\n') {
            break;
        }
        let text = String::from_utf8_lossy(&line);
        if !text.starts_with(ERASED) {
            let call =
                serde_json::from_str::<Named<'_>>(&text).map(|named| named.call.into_owned()).unwrap_or_default();
            if let Some(left) = edit(Line { text: &text, call: &call, position: at }) {
                // What would be longer than the line cannot stand there, and is left out.
                let mut left = if left.len() <= line.len() { left.into_bytes() } else { ERASED.into() };
                left.resize(line.len(), b' ');
                file.write_all_at(&left, at)?;
                rewritten += 1;
            }
        }
        at += size as u64;
    }
    file.sync_data()?;
    let after = head(&mut &file, len)?;
    Ok((rewritten, before, after))
}

/// By what a file is known to be as it was: nothing where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Look(Option<[i128; 4]>);

impl Look {
    fn at(path: &Path) -> Self {
        let file = std::fs::metadata(path).ok();
        let changed =
            |file: &std::fs::Metadata| i128::from(file.mtime()) * 1_000_000_000 + i128::from(file.mtime_nsec());
        Self(file.map(|file| [file.dev().into(), file.ino().into(), file.len().into(), changed(&file)]))
    }
}

struct Chunk {
    text: Vec<u8>,
    place: Place,
    has_more: bool,
}

/// Whole lines after a place.
fn read(path: &Path, from: &Place) -> std::io::Result<Chunk> {
    let mut file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(fault) if fault.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Chunk { text: Vec::new(), place: from.clone(), has_more: false });
        }
        Err(fault) => return Err(fault),
    };
    let len = file.metadata()?.len();
    let head = head(&mut file, len)?;
    // A journal that was put away begins anew.
    let position = if from.head == head && from.position <= len { from.position } else { 0 };
    let nothing = |position| Chunk { text: Vec::new(), place: Place { position, head: head.clone() }, has_more: false };
    if head.is_empty() {
        return Ok(Chunk { place: from.clone(), ..nothing(0) });
    }
    let mut size = CHUNK_BYTES;
    loop {
        let mut text = Vec::new();
        file.seek(SeekFrom::Start(position))?;
        file.by_ref().take(size).read_to_end(&mut text)?;
        let is_all = (text.len() as u64) < size;
        match text.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => {
                text.truncate(end + 1);
                let place = Place { position: position + text.len() as u64, head };
                return Ok(Chunk { text, place, has_more: !is_all });
            }
            // A line is being written.
            None if is_all => return Ok(nothing(position)),
            None if size < LINE_LIMIT => size *= 4,
            None => return Ok(nothing(position + text.len() as u64)),
        }
    }
}

/// What a journal begins with; empty while it has no whole line.
fn head(file: &mut (impl Read + Seek), len: u64) -> std::io::Result<String> {
    file.seek(SeekFrom::Start(0))?;
    let mut start = vec![0; HEAD_BYTES.min(usize::try_from(len).unwrap_or(HEAD_BYTES))];
    file.read_exact(&mut start)?;
    // The first record's line is longer than this and never changes, once it is there.
    let is_whole = start.len() == HEAD_BYTES || start.contains(&b'\n');
    let end = start.iter().position(|byte| *byte == b'\n').unwrap_or(start.len());
    Ok(if is_whole { hex(digest::digest(&digest::SHA256, &start[..end]).as_ref()) } else { String::new() })
}
