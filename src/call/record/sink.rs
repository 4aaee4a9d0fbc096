//! Where the records of calls go: `calls.jsonl`, a line each when the call is over; until then what is known of it stands in
//! [`progress`](super::progress), from where a server that is killed has it when it starts again.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use agent::session::TurnRecord;
use agent::usage::Usage;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::progress::Progress;
use super::{CallRecord, SoFar};
use crate::config::PricesConfig;

/// Records held while the disk refuses them; at the limit the oldest is dropped and counted.
pub const PENDING_RECORDS_LIMIT: usize = 10_000;
/// The file of records in the data folder.
pub const JOURNAL: &str = "calls.jsonl";
/// Records of calls that end within this long are written together.
const GATHERED_WITHIN: Duration = Duration::from_millis(20);
/// A written record survives the process at once, and a power cut when nothing followed it for this long.
const SYNCED_WITHIN: Duration = Duration::from_millis(500);
/// While calls go on, the time of the file that tells of them is set at least this often: it is when they were last known to.
const TOUCHED_WITHIN: Duration = Duration::from_secs(2);
/// A refused write is tried again after this long.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Where calls hand over what is to be kept of them; cheap to clone.
#[derive(Debug, Clone)]
pub struct RecordSink {
    to: Keeper,
}

#[derive(Debug, Clone)]
enum Keeper {
    File(mpsc::Sender<Entry>),
    Program(mpsc::Sender<CallRecord>),
}

/// What is told of a call.
#[derive(Debug)]
pub(super) enum Entry {
    /// How far it has come.
    GoesOn(Box<SoFar>),
    /// Somebody has spoken in it.
    Turn(String, Box<TurnRecord>),
    /// What its conversation has used.
    Used(String, Usage),
    /// It is over.
    Ended(Box<CallRecord>),
}

/// Told whether records can be written: `None` they can, else why not.
pub(crate) type OnFault = Arc<dyn Fn(Option<&str>) + Send + Sync>;

impl RecordSink {
    /// Starts the writer of `dir/calls.jsonl`. The task ends, with everything written, when the last sink is dropped. Calls that were going
    /// on when a server before was killed get their records first, which are returned too, by these prices. `on_fault` is told when records cannot be written, and when they can again.
    ///
    /// # Errors
    /// The folder cannot be made or the file not be opened.
    pub(crate) fn start(
        dir: &Path,
        on_fault: OnFault,
        prices: &PricesConfig,
    ) -> anyhow::Result<(Self, tokio::task::JoinHandle<()>, Vec<CallRecord>)> {
        std::fs::create_dir_all(dir).map_err(|fault| {
            anyhow::anyhow!(
                "cannot make the data folder {}: {fault}. Set data.dir to one that can be written",
                dir.display()
            )
        })?;
        let path = dir.join(JOURNAL);
        let length = append(&path, b"").map_err(|fault| {
            anyhow::anyhow!("cannot write {}: {fault}. Set data.dir to a folder that can be written", path.display())
        })?;
        let mut writer = Writer {
            path,
            length,
            pending: VecDeque::new(),
            progress: None,
            lock: None,
            is_failing: false,
            is_dirty: false,
            on_fault,
        };
        let killed = writer.recover(dir, prices);
        let (sender, receiver) = mpsc::channel(PENDING_RECORDS_LIMIT);
        Ok((Self { to: Keeper::File(sender) }, tokio::spawn(writer.run(receiver)), killed))
    }

    /// A sink whose records are read by the program itself.
    #[must_use]
    pub fn collecting() -> (Self, mpsc::Receiver<CallRecord>) {
        let (sender, receiver) = mpsc::channel(PENDING_RECORDS_LIMIT);
        (Self { to: Keeper::Program(sender) }, receiver)
    }

    /// Hands a record over. Never waits; a record that finds the queue full is counted as failed.
    pub fn push(&self, record: CallRecord) {
        let is_taken = match &self.to {
            Keeper::File(sender) => sender.try_send(Entry::Ended(Box::new(record))).is_ok(),
            Keeper::Program(sender) => sender.try_send(record).is_ok(),
        };
        if !is_taken {
            metrics::counter!("omnivox_records_failed_total").increment(1);
            tracing::error!("call records are not being written fast enough: one was dropped");
        }
    }

    /// What is known of a call that goes on, its turns apart: where this process is killed, its record will say so. Never waits.
    pub fn goes_on(&self, so_far: impl FnOnce() -> SoFar) {
        if let Keeper::File(sender) = &self.to
            && let Ok(place) = sender.try_reserve()
        {
            place.send(Entry::GoesOn(Box::new(so_far())));
        }
    }

    /// Somebody has spoken in a call that goes on. Never waits.
    pub fn turn(&self, call: &str, turn: &TurnRecord) {
        if let Keeper::File(sender) = &self.to
            && let Ok(place) = sender.try_reserve()
        {
            place.send(Entry::Turn(call.to_owned(), Box::new(turn.clone())));
        }
    }

    /// What the conversation of a call that goes on has used so far. Never waits.
    pub fn used(&self, call: &str, usage: &Usage) {
        if let Keeper::File(sender) = &self.to
            && let Ok(place) = sender.try_reserve()
        {
            place.send(Entry::Used(call.to_owned(), usage.clone()));
        }
    }
}

/// A record that waits for the disk.
struct Pending {
    call: String,
    line: Vec<u8>,
}

struct Writer {
    path: PathBuf,
    /// Of the journal, in bytes.
    length: u64,
    pending: VecDeque<Pending>,
    /// `None` where another process keeps the calls of this folder.
    progress: Option<Progress>,
    /// Held for as long as calls are written here.
    lock: Option<File>,
    is_failing: bool,
    is_dirty: bool,
    on_fault: OnFault,
}

enum Next {
    Entry(Entry),
    /// Nothing came for a while.
    Pause,
    Closed,
}

impl Writer {
    /// Takes the folder's calls over from a process that was killed: they wait for the disk like any that end.
    fn recover(&mut self, dir: &Path, prices: &PricesConfig) -> Vec<CallRecord> {
        let lock =
            File::open(&self.path).and_then(|file| file.try_lock().map(|()| file).map_err(std::io::Error::other));
        let Ok(lock) = lock else {
            tracing::warn!(
                "another program writes call records into {}: calls of this one leave no record where it is killed",
                dir.display()
            );
            return Vec::new();
        };
        self.lock = Some(lock);
        let (progress, killed) = Progress::open(dir, &self.path, prices, SystemTime::now());
        self.progress = Some(progress);
        if !killed.is_empty() {
            tracing::warn!("{} calls were going on when this server was killed: their records say so", killed.len());
        }
        for record in &killed {
            let end = &record.end;
            metrics::counter!("omnivox_calls_total", "class" => end.class.as_str(), "reason" => end.reason.as_str())
                .increment(1);
            if let Some(cost) = &record.cost {
                cost.count();
            }
            self.enqueue(record);
        }
        killed
    }

    async fn run(mut self, mut receiver: mpsc::Receiver<Entry>) {
        let mut is_open = true;
        while is_open || !self.pending.is_empty() {
            if self.pending.is_empty() {
                match self.next(&mut receiver).await {
                    Next::Entry(entry) => self.take(entry),
                    Next::Pause => {
                        self.pause().await;
                        continue;
                    }
                    Next::Closed => break,
                }
                // Calls end in bursts: what ends within one span goes to the disk in one piece.
                tokio::time::sleep(GATHERED_WITHIN).await;
            }
            while let Ok(entry) = receiver.try_recv() {
                self.take(entry);
            }
            is_open = !(receiver.is_closed() && receiver.is_empty());
            if !self.write().await {
                if !is_open {
                    metrics::counter!("omnivox_records_failed_total").increment(self.pending.len() as u64);
                    break;
                }
                tokio::time::sleep(RETRY_AFTER).await;
            }
        }
        self.is_dirty = true;
        self.pause().await;
    }

    /// What comes next; where something is not on the disk for certain yet, or calls go on, a pause for that.
    async fn next(&self, receiver: &mut mpsc::Receiver<Entry>) -> Next {
        let goes_on = self.progress.as_ref().is_some_and(|progress| progress.is_needed());
        let within = match (self.is_dirty, goes_on) {
            (true, _) => SYNCED_WITHIN,
            (false, true) => TOUCHED_WITHIN,
            (false, false) => return receiver.recv().await.map_or(Next::Closed, Next::Entry),
        };
        match tokio::time::timeout_at(Instant::now() + within, receiver.recv()).await {
            Ok(next) => next.map_or(Next::Closed, Next::Entry),
            Err(_) => Next::Pause,
        }
    }

    fn take(&mut self, entry: Entry) {
        match (entry, &mut self.progress) {
            (Entry::Ended(record), _) => self.enqueue(&record),
            (Entry::GoesOn(so_far), Some(progress)) => progress.goes_on(&so_far, self.length),
            (Entry::Turn(call, turn), Some(progress)) => progress.turn(&call, &turn),
            (Entry::Used(call, usage), Some(progress)) => progress.used(&call, &usage),
            (_, None) => {}
        }
    }

    fn enqueue(&mut self, record: &CallRecord) {
        if self.pending.len() >= PENDING_RECORDS_LIMIT {
            self.pending.pop_front();
            metrics::counter!("omnivox_records_failed_total").increment(1);
        }
        match serde_json::to_vec(record) {
            Ok(mut line) => {
                line.push(b'\n');
                self.pending.push_back(Pending { call: record.call.clone(), line });
            }
            Err(fault) => tracing::error!("a call record has no JSON form: {fault}"),
        }
        if let Some(progress) = &mut self.progress {
            progress.is_ending(&record.call);
        }
    }

    /// Writes what waits; whether it is all written.
    async fn write(&mut self) -> bool {
        if !self.pending.is_empty() {
            let lines: Vec<u8> = self.pending.iter().flat_map(|pending| pending.line.iter().copied()).collect();
            let path = self.path.clone();
            match blocking(move || append(&path, &lines)).await {
                Ok(length) => self.length = length,
                Err(fault) => {
                    self.fails(&fault);
                    return false;
                }
            }
            for pending in self.pending.drain(..) {
                if let Some(progress) = &mut self.progress {
                    progress.ended(&pending.call);
                }
            }
            self.is_dirty = true;
            if std::mem::take(&mut self.is_failing) {
                tracing::info!("call records are written to {} again", self.path.display());
                (self.on_fault)(None);
            }
        }
        if let Some(progress) = self.progress.take() {
            self.progress = Some(progress.write().await);
        }
        true
    }

    fn fails(&mut self, fault: &std::io::Error) {
        if !std::mem::replace(&mut self.is_failing, true) {
            let path = self.path.display();
            let says =
                format!("cannot write call records to {path}: {fault}. They are kept and tried again each second");
            tracing::error!("{says}");
            (self.on_fault)(Some(&says));
        }
    }

    /// Nothing happens: what was written goes to the disk for certain, what nobody needs any more is thrown away.
    async fn pause(&mut self) {
        if self.is_dirty {
            let path = self.path.clone();
            self.is_dirty = blocking(move || File::open(path)?.sync_data()).await.is_err();
        }
        if let Some(progress) = self.progress.take() {
            self.progress = Some(progress.tidy().await);
        }
    }
}

/// Runs what waits for the disk where it holds nobody up.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|fault| Err(std::io::Error::other(fault)))
}

/// Appends whole lines; a write cut short by a full disk is taken back, so that no half line stays. The file's length then.
pub(super) fn append(path: &Path, lines: &[u8]) -> std::io::Result<u64> {
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    let before = file.metadata()?.len();
    if let Err(fault) = file.write_all(lines) {
        let _ = file.set_len(before);
        return Err(fault);
    }
    Ok(before + lines.len() as u64)
}
