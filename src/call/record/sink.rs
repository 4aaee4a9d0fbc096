//! Where the records of calls go: `calls.jsonl`, a line each when the call is over; until then what is known of it stands in
//! [`progress`](super::progress), from where a server that is killed has it when it starts again.

use std::collections::VecDeque;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use agent::session::TurnRecord;
use agent::usage::Usage;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::appended::Appended;
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
/// Room for lines that is kept from one writing to the next.
const KEPT_BYTES: usize = 1 << 20;
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
    /// What a conversation of its has used.
    Used(String, u32, Usage),
    /// It is over.
    Ended(Box<CallRecord>),
}

/// Told whether records can be written: `None` they can, else why not.
pub(crate) type OnFault = Arc<dyn Fn(Option<&str>) + Send + Sync>;

impl RecordSink {
    /// Starts the writer of `dir/calls.jsonl`, a thread. It ends, and says so, with everything written, when the last sink is dropped. Calls that were going
    /// on when a server before was killed get their records first, which are returned too, by these prices. `on_fault` is told when records cannot be written, and when they can again.
    ///
    /// # Errors
    /// The folder cannot be made, the file not be opened, or no thread be started.
    pub(crate) fn start(
        dir: &Path,
        on_fault: OnFault,
        prices: &PricesConfig,
    ) -> anyhow::Result<(Self, oneshot::Receiver<()>, Vec<CallRecord>)> {
        std::fs::create_dir_all(dir).map_err(|fault| {
            anyhow::anyhow!(
                "cannot make the data folder {}: {fault}. Set data.dir to one that can be written",
                dir.display()
            )
        })?;
        let path = dir.join(JOURNAL);
        let mut journal = Appended::new(path.clone());
        let length = journal.append(b"").map_err(|fault| {
            anyhow::anyhow!("cannot write {}: {fault}. Set data.dir to a folder that can be written", path.display())
        })?;
        let disk = Disk { journal, length, pending: Pending::default(), progress: None };
        let mut writer = Writer { disk, lock: None, is_failing: false, is_dirty: false, on_fault };
        let killed = writer.recover(dir, &path, prices);
        let (sender, receiver) = mpsc::channel(PENDING_RECORDS_LIMIT);
        let ended = writer
            .start(receiver)
            .map_err(|fault| anyhow::anyhow!("cannot start the writer of call records: {fault}"))?;
        Ok((Self { to: Keeper::File(sender) }, ended, killed))
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

    /// What a conversation of a call that goes on has used so far. Never waits.
    pub fn used(&self, call: &str, conversation: u32, usage: &Usage) {
        if let Keeper::File(sender) = &self.to
            && let Ok(place) = sender.try_reserve()
        {
            place.send(Entry::Used(call.to_owned(), conversation, usage.clone()));
        }
    }
}

/// Records that wait for the disk: their lines one after another.
#[derive(Default)]
struct Pending {
    lines: Vec<u8>,
    /// Bytes at their beginning that are to be written no more.
    dropped: usize,
    /// Each one's call, and how long its line is.
    calls: VecDeque<(String, usize)>,
}

impl Pending {
    fn push(&mut self, record: &CallRecord) {
        let before = self.lines.len();
        match serde_json::to_writer(&mut self.lines, record) {
            Ok(()) => {
                self.lines.push(b'\n');
                self.calls.push_back((record.call.clone(), self.lines.len() - before));
            }
            Err(fault) => {
                self.lines.truncate(before);
                tracing::error!("a call record has no JSON form: {fault}");
            }
        }
    }

    fn drop_oldest(&mut self) {
        self.dropped += self.calls.pop_front().map_or(0, |(_, length)| length);
        if self.dropped > self.lines.len() / 2 {
            self.lines.drain(..self.dropped);
            self.dropped = 0;
        }
    }

    /// Whoever pushed did not come to the end of it: what there is of that line is gone.
    fn mend(&mut self) {
        let whole: usize = self.calls.iter().map(|(_, length)| length).sum();
        self.lines.truncate(self.dropped + whole);
    }

    fn lines(&self) -> &[u8] {
        self.lines.get(self.dropped..).unwrap_or_default()
    }

    /// They are written: their calls.
    fn take(&mut self) -> VecDeque<(String, usize)> {
        self.dropped = 0;
        self.lines.clear();
        self.lines.shrink_to(KEPT_BYTES);
        std::mem::take(&mut self.calls)
    }
}

/// What is written, and where.
struct Disk {
    journal: Appended,
    /// Of the journal, in bytes.
    length: u64,
    pending: Pending,
    /// `None` where another process keeps the calls of this folder.
    progress: Option<Progress>,
}

impl Disk {
    fn take(&mut self, entry: Entry) {
        match (entry, &mut self.progress) {
            (Entry::Ended(record), _) => self.enqueue(&record),
            (Entry::GoesOn(so_far), Some(progress)) => progress.goes_on(so_far, self.length),
            (Entry::Turn(call, turn), Some(progress)) => progress.turn(call, turn),
            (Entry::Used(call, conversation, usage), Some(progress)) => progress.used(call, conversation, usage),
            (_, None) => {}
        }
    }

    fn enqueue(&mut self, record: &CallRecord) {
        if self.pending.calls.len() >= PENDING_RECORDS_LIMIT {
            self.pending.drop_oldest();
            metrics::counter!("omnivox_records_failed_total").increment(1);
        }
        self.pending.push(record);
        if let Some(progress) = &mut self.progress {
            progress.is_ending(&record.call);
        }
    }

    /// Writes what waits, records first; whether there were any.
    fn write(&mut self) -> std::io::Result<bool> {
        let has_records = !self.pending.calls.is_empty();
        if has_records {
            self.length = self.journal.append(self.pending.lines())?;
            for (call, _) in self.pending.take() {
                if let Some(progress) = &mut self.progress {
                    progress.ended(&call);
                }
            }
        }
        if let Some(progress) = &mut self.progress {
            progress.write();
        }
        Ok(has_records)
    }

    /// Has what was written on the disk for certain, where it is not, and throws away what nobody needs any more.
    fn pause(&mut self, is_dirty: bool) -> std::io::Result<()> {
        let synced = if is_dirty { self.journal.sync() } else { Ok(()) };
        if let Some(progress) = &mut self.progress {
            progress.tidy();
        }
        synced
    }
}

/// Whoever writes: it waits for the disk, so it has a thread of its own.
struct Writer {
    disk: Disk,
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
    fn recover(&mut self, dir: &Path, journal: &Path, prices: &PricesConfig) -> Vec<CallRecord> {
        let lock = File::open(journal).and_then(|file| file.try_lock().map(|()| file).map_err(std::io::Error::other));
        let Ok(lock) = lock else {
            tracing::warn!(
                "another program writes call records into {}: calls of this one leave no record where it is killed",
                dir.display()
            );
            return Vec::new();
        };
        self.lock = Some(lock);
        let (progress, killed) = Progress::open(dir, journal, prices, SystemTime::now());
        self.disk.progress = Some(progress);
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
            self.disk.enqueue(record);
        }
        killed
    }

    /// Starts its thread, which has a clock of its own and nothing else to wait for: no thread that others need is woken for a record.
    /// A fault of ours (a panic) costs what it was about to take, and is told like one of the disk's; everything else is written.
    fn start(mut self, mut receiver: mpsc::Receiver<Entry>) -> std::io::Result<oneshot::Receiver<()>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let (ended, is_ended) = oneshot::channel();
        std::thread::Builder::new().name("records".into()).spawn(move || {
            let mut has_panicked = false;
            let mut run = || {
                if has_panicked {
                    self.disk.pending.mend();
                    self.fails("a fault of this program interrupted it (the log has where)");
                }
                has_panicked = true;
                runtime.block_on(self.run(&mut receiver));
            };
            while catch_unwind(AssertUnwindSafe(&mut run)).is_err() {
                std::thread::sleep(RETRY_AFTER);
            }
            let _ = ended.send(());
        })?;
        Ok(is_ended)
    }

    fn pending(&self) -> usize {
        self.disk.pending.calls.len()
    }

    async fn run(&mut self, receiver: &mut mpsc::Receiver<Entry>) {
        let mut is_open = true;
        while is_open || self.pending() > 0 {
            if self.pending() == 0 {
                match self.next(receiver).await {
                    Next::Entry(entry) => self.disk.take(entry),
                    Next::Pause => {
                        self.pause();
                        continue;
                    }
                    Next::Closed => break,
                }
                // Calls end in bursts: what ends within one span goes to the disk in one piece.
                tokio::time::sleep(GATHERED_WITHIN).await;
            }
            self.take_all(receiver);
            is_open = !(receiver.is_closed() && receiver.is_empty());
            if !self.write() {
                if !is_open {
                    metrics::counter!("omnivox_records_failed_total").increment(self.pending() as u64);
                    break;
                }
                tokio::time::sleep(RETRY_AFTER).await;
            }
        }
        self.is_dirty = true;
        self.pause();
    }

    /// What comes next; where something is not on the disk for certain yet, or calls go on, a pause for that.
    async fn next(&self, receiver: &mut mpsc::Receiver<Entry>) -> Next {
        let goes_on = self.disk.progress.as_ref().is_some_and(Progress::is_needed);
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

    fn take_all(&mut self, receiver: &mut mpsc::Receiver<Entry>) {
        while let Ok(entry) = receiver.try_recv() {
            self.disk.take(entry);
        }
    }

    /// Writes what waits; whether it is all written.
    fn write(&mut self) -> bool {
        match self.disk.write() {
            Ok(false) => {}
            Ok(true) => {
                self.is_dirty = true;
                if std::mem::take(&mut self.is_failing) {
                    tracing::info!("call records are written to {} again", self.disk.journal.path().display());
                    (self.on_fault)(None);
                }
            }
            Err(fault) => {
                self.fails(&fault.to_string());
                return false;
            }
        }
        true
    }

    fn fails(&mut self, fault: &str) {
        if !std::mem::replace(&mut self.is_failing, true) {
            let says = format!(
                "cannot write call records to {}: {fault}. They are kept and tried again each second",
                self.disk.journal.path().display()
            );
            tracing::error!("{says}");
            (self.on_fault)(Some(&says));
        }
    }

    /// Nothing happens: what was written goes to the disk for certain, what nobody needs any more is thrown away.
    fn pause(&mut self) {
        self.is_dirty = self.disk.pause(self.is_dirty).is_err();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn start(folder: &Path) -> (RecordSink, oneshot::Receiver<()>, Vec<CallRecord>) {
        RecordSink::start(folder, Arc::new(|_| {}), &PricesConfig::default()).unwrap()
    }

    fn calls(path: &Path) -> Vec<String> {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let call = |line: &str| serde_json::from_str::<CallRecord>(line).unwrap().call;
        text.lines().map(call).collect()
    }

    async fn until(what: impl Fn() -> bool) {
        let there = async {
            while !what() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), there).await.unwrap();
    }

    fn so_far(call: &str) -> SoFar {
        SoFar { record: CallRecord::example(call), by_trunks: Vec::new() }
    }

    #[tokio::test]
    async fn records_go_to_the_journal_of_that_name_whatever_became_of_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let journal = folder.path().join(JOURNAL);
        let (sink, task, _) = start(folder.path());
        sink.push(CallRecord::example("first"));
        until(|| calls(&journal) == ["first"]).await;
        // Put away, while a call goes on.
        sink.goes_on(|| so_far("second"));
        let away = folder.path().join("calls.1.jsonl");
        std::fs::rename(&journal, &away).unwrap();
        sink.push(CallRecord::example("second"));
        until(|| calls(&journal) == ["second"]).await;
        // Taken away.
        std::fs::remove_file(&journal).unwrap();
        sink.push(CallRecord::example("third"));
        until(|| calls(&journal) == ["third"]).await;
        // Another one in its place.
        let other = folder.path().join("other");
        std::fs::copy(&away, &other).unwrap();
        std::fs::rename(&other, &journal).unwrap();
        sink.push(CallRecord::example("fourth"));
        until(|| calls(&journal) == ["first", "fourth"]).await;
        // What is pushed last is there when the task has ended.
        sink.push(CallRecord::example("fifth"));
        drop(sink);
        task.await.unwrap();
        assert_eq!(calls(&journal), ["first", "fourth", "fifth"]);
        assert_eq!(calls(&away), ["first"]);
        let (_, _, killed) = start(folder.path());
        assert!(killed.is_empty(), "each has its record");
    }

    #[tokio::test]
    async fn records_wait_for_a_folder_that_is_away_and_are_written_once() {
        let folder = tempfile::tempdir().unwrap();
        let (data, away) = (folder.path().join("data"), folder.path().join("away"));
        let faults = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&faults);
        let on_fault: OnFault = Arc::new(move |fault| told.lock().unwrap().push(fault.is_some()));
        let (sink, task, _) = RecordSink::start(&data, on_fault, &PricesConfig::default()).unwrap();
        std::fs::rename(&data, &away).unwrap();
        sink.goes_on(|| so_far("one"));
        sink.push(CallRecord::example("one"));
        until(|| *faults.lock().unwrap() == [true]).await;
        sink.push(CallRecord::example("two"));
        std::fs::rename(&away, &data).unwrap();
        until(|| calls(&data.join(JOURNAL)) == ["one", "two"]).await;
        drop(sink);
        task.await.unwrap();
        assert_eq!(*faults.lock().unwrap(), [true, false]);
        assert_eq!(calls(&data.join(JOURNAL)), ["one", "two"]);
    }

    #[tokio::test]
    async fn a_fault_of_ours_interrupts_the_writing_and_does_not_end_it() {
        let folder = tempfile::tempdir().unwrap();
        let (data, away) = (folder.path().join("data"), folder.path().join("away"));
        let faults = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&faults);
        let on_fault: OnFault = Arc::new(move |fault| {
            let mut told = told.lock().unwrap();
            told.push(fault.map(|fault| fault.contains("a fault of this program")));
            // In the midst of its work, without the lock.
            let is_first = told.len() == 1;
            drop(told);
            assert!(!is_first, "on purpose");
        });
        let (sink, ended, _) = RecordSink::start(&data, on_fault, &PricesConfig::default()).unwrap();
        std::fs::rename(&data, &away).unwrap();
        sink.push(CallRecord::example("one"));
        until(|| !faults.lock().unwrap().is_empty()).await;
        sink.push(CallRecord::example("two"));
        std::fs::rename(&away, &data).unwrap();
        until(|| calls(&data.join(JOURNAL)) == ["one", "two"]).await;
        sink.push(CallRecord::example("three"));
        drop(sink);
        ended.await.unwrap();
        assert_eq!(calls(&data.join(JOURNAL)), ["one", "two", "three"]);
        let faults = faults.lock().unwrap();
        assert_eq!((faults.first(), faults.last()), (Some(&Some(false)), Some(&None)), "{faults:?}");
    }

    #[test]
    fn half_a_line_is_not_written() {
        let mut pending = Pending::default();
        pending.push(&CallRecord::example("whole"));
        pending.push(&CallRecord::example("another"));
        pending.drop_oldest();
        let whole = pending.lines().to_vec();
        pending.lines.extend_from_slice(b"{\"call\": \"ha");
        pending.mend();
        assert_eq!(pending.lines(), whole);
    }

    #[test]
    fn of_too_many_records_that_wait_the_oldest_are_dropped() {
        let mut pending = Pending::default();
        let lines = |pending: &Pending| -> Vec<String> {
            let text = std::str::from_utf8(pending.lines()).unwrap();
            text.lines().map(|line| serde_json::from_str::<CallRecord>(line).unwrap().call).collect()
        };
        for n in 0..9 {
            pending.push(&CallRecord::example(&n.to_string()));
        }
        for dropped in 1..=9_usize {
            pending.drop_oldest();
            let left: Vec<String> = (dropped..9).map(|n| n.to_string()).collect();
            assert_eq!(lines(&pending), left);
        }
        pending.drop_oldest();
        pending.push(&CallRecord::example("last"));
        assert_eq!(lines(&pending), ["last"]);
        let taken: Vec<String> = pending.take().into_iter().map(|(call, _)| call).collect();
        assert_eq!((taken, pending.lines().len()), (vec!["last".to_owned()], 0));
    }
}
