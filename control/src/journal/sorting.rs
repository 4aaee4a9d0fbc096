//! What of a journal's lines the database takes, and what becomes of the others.

use std::io::BufRead;
use std::ops::Range;

use serde_json::Value;

use super::{Chunk, ERASED, Journal};
use crate::store::journal::Place;
use crate::store::outbox::Told;
use crate::store::records::Ended;
use crate::store::refused::Refused;
use crate::store::{Backend, Blame, StoreError};
use crate::time::Moment;

/// Characters of a fault, or of a call's name, that are kept of what is set aside.
const KEPT_CHARS: usize = 300;

/// What stands in some lines.
pub(super) struct Lines {
    /// Calls.
    pub(super) calls: Vec<Ended>,
    /// Where each of them stands.
    pub(super) positions: Vec<u64>,
    /// What is none.
    pub(super) unreadable: Vec<Refused>,
    /// What their journal begins with.
    head: String,
}

/// Reads the lines of a journal.
pub(super) fn lines(read: &Chunk) -> Lines {
    let head = read.place.head.clone();
    let mut found = Lines { calls: Vec::new(), positions: Vec::new(), unreadable: Vec::new(), head };
    let begin = read.place.position - read.text.len() as u64;
    let (mut rest, mut line) = (read.text.as_slice(), Vec::new());
    loop {
        let at = begin + (read.text.len() - rest.len()) as u64;
        // There is nothing that could fail: it is in memory.
        let size = rest.read_until(b'\n', &mut line).unwrap_or_default();
        if size == 0 {
            return found;
        }
        line.pop_if(|last| *last == b'\n');
        if line.is_empty() || line.starts_with(ERASED.as_bytes()) {
            line.clear();
            continue;
        }
        // Without the value, which may be somebody's number.
        let none = |fault: serde_json::Error| format!("{:?}, at byte {}", fault.classify(), fault.column());
        let parsed = String::from_utf8(std::mem::take(&mut line)).map_err(|_| "it is not UTF-8".to_owned());
        match parsed.and_then(|line| Ended::parse(line).map_err(none)) {
            Ok(call) => {
                found.calls.push(call);
                found.positions.push(at);
            }
            Err(fault) => {
                let from = (at - begin) as usize;
                found.unreadable.push(unreadable(&found.head, at, &read.text[from..from + size], &fault));
            }
        }
    }
}

/// What can be read of a line that is no record.
fn unreadable(head: &str, position: u64, line: &[u8], fault: &str) -> Refused {
    let line: Value = serde_json::from_slice(line).unwrap_or_default();
    let text = |name: &str| line.get(name).and_then(Value::as_str);
    Refused {
        head: head.to_owned(),
        position,
        call: short(text("call").unwrap_or_default()),
        started_at: text("started_at").and_then(Moment::parse).unwrap_or_else(Moment::now),
        recording: text("recording").map(|path| path.replace('\0', "\u{fffd}")),
        fault: format!("no call record: {fault}"),
    }
}

fn short(text: &str) -> String {
    text.chars().take(KEPT_CHARS).map(|c| if c == '\0' { '\u{fffd}' } else { c }).collect()
}

impl Journal {
    /// Stores calls that the database refuses together, each of them that it takes; the others are set aside. Then what was read of the
    /// journal is done with. Returns where those stand that are set aside.
    pub(super) async fn store_one_by_one(
        &self,
        found: &Lines,
        from: &Place,
        to: &Place,
        told: &mut Vec<Told>,
    ) -> Result<Vec<u64>, StoreError> {
        self.tell_all(told).await?;
        let (store, calls) = (&self.store, &found.calls);
        let mut sorting = Sorting::new(store.backend, calls.len());
        while let Some(some) = sorting.next() {
            let taken = store.take_journal(&self.node, &[], &calls[some.clone()], from).await;
            sorting.tried(some, taken)?;
        }
        let refused = sorting.refused()?.into_iter().map(|(at, fault)| Refused {
            head: found.head.clone(),
            position: found.positions[at],
            call: short(&calls[at].call.call),
            started_at: calls[at].call.started_at,
            recording: calls[at].recording.clone(),
            fault: short(&fault.to_string()),
        });
        let refused: Vec<Refused> = refused.collect();
        self.set_aside("database", &refused).await?;
        store.take_journal(&self.node, &[], &[], to).await?;
        Ok(refused.iter().map(|refused| refused.position).collect())
    }

    pub(super) async fn set_aside(&self, why: &'static str, refused: &[Refused]) -> Result<(), StoreError> {
        if refused.is_empty() {
            return Ok(());
        }
        self.store.set_aside(&self.node, refused).await?;
        for Refused { position, call, fault, .. } in refused {
            let path = self.path.display();
            tracing::error!(%call, "the record of call {call} is set aside, at byte {position} of {path}: {fault}");
        }
        metrics::counter!("omnivox_control_records_refused_total", "why" => why).increment(refused.len() as u64);
        Ok(())
    }

    /// Writes what was told live to the outbox, each that it takes; what was told is told no more then.
    pub(super) async fn tell_all(&self, told: &mut Vec<Told>) -> Result<(), StoreError> {
        let store = &self.store;
        match store.tell(told).await {
            Err(fault) if fault.blame(store.backend) != Blame::Database => {}
            done => return done.map(|()| told.clear()),
        }
        let mut sorting = Sorting::new(store.backend, told.len());
        while let Some(some) = sorting.next() {
            let done = store.tell(&told[some.clone()]).await;
            sorting.tried(some, done)?;
        }
        for (at, fault) in sorting.refused()? {
            let Told { kind, call, .. } = &told[at];
            tracing::error!(%call, "a {kind} of call {call} is told to no webhook: {fault}");
            metrics::counter!("omnivox_control_outbox_lost_total").increment(1);
        }
        told.clear();
        Ok(())
    }
}

/// Things that are refused together, and are to be taken one after another: those before and after one that is to blame still together. Where
/// it is not clear what is to blame, that is the thing if others are taken, and the database if none is.
struct Sorting {
    backend: Backend,
    waiting: Vec<Range<usize>>,
    refused: Vec<(usize, StoreError)>,
    unclear: Vec<(usize, StoreError)>,
    is_any_taken: bool,
}

impl Sorting {
    fn new(backend: Backend, many: usize) -> Self {
        let all = 0..many;
        Self { backend, waiting: vec![all], refused: Vec::new(), unclear: Vec::new(), is_any_taken: false }
    }

    /// What is to be tried next.
    fn next(&mut self) -> Option<Range<usize>> {
        self.waiting.pop().filter(|some| !some.is_empty())
    }

    /// What came of it.
    ///
    /// # Errors
    /// The database is to blame: nothing more is to be tried now.
    fn tried(&mut self, some: Range<usize>, done: Result<(), StoreError>) -> Result<(), StoreError> {
        let Err(fault) = done else {
            self.is_any_taken = true;
            return Ok(());
        };
        match (fault.blame(self.backend), some.len()) {
            (Blame::Database, _) => return Err(fault),
            (Blame::Given, 1) => self.refused.push((some.start, fault)),
            (Blame::Unclear, 1) => self.unclear.push((some.start, fault)),
            (_, len) => {
                let middle = some.start + len / 2;
                self.waiting.extend([middle..some.end, some.start..middle]);
            }
        }
        Ok(())
    }

    /// What is refused alone, and why.
    ///
    /// # Errors
    /// The database is to blame.
    fn refused(mut self) -> Result<Vec<(usize, StoreError)>, StoreError> {
        if !self.is_any_taken
            && let Some((_, fault)) = self.unclear.pop()
        {
            return Err(fault);
        }
        self.refused.extend(self.unclear);
        Ok(self.refused)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn given() -> StoreError {
        StoreError::Database(sqlx::Error::Encode("it does not fit".into()))
    }

    fn unclear() -> StoreError {
        StoreError::Database(sqlx::Error::Protocol("strange".into()))
    }

    /// What is taken of so many, together, and what is refused.
    fn tried(
        many: usize,
        fault: impl Fn(usize) -> Option<StoreError>,
    ) -> (Vec<Range<usize>>, Result<Vec<usize>, StoreError>) {
        let (mut taken, mut sorting) = (Vec::new(), Sorting::new(Backend::Sqlite, many));
        while let Some(some) = sorting.next() {
            let done = some.clone().find_map(&fault).map_or(Ok(()), Err);
            if done.is_ok() {
                taken.push(some.clone());
            }
            if let Err(fault) = sorting.tried(some, done) {
                return (taken, Err(fault));
            }
        }
        (taken, sorting.refused().map(|refused| refused.into_iter().map(|(at, _)| at).collect()))
    }

    #[test]
    fn what_is_refused_is_found_and_the_others_go_on_in_their_order() {
        let (taken, refused) = tried(1_000, |n| (n == 7 || n == 700).then(given));
        assert_eq!(refused.unwrap(), [7, 700]);
        let all: Vec<usize> = taken.iter().cloned().flatten().collect();
        assert_eq!(all, (0..1_000).filter(|n| *n != 7 && *n != 700).collect::<Vec<_>>());
        assert!(taken.len() <= 20, "{} together", taken.len());
        assert_eq!(tried(0, |_| Some(given())).1.unwrap(), [0; 0]);
        assert_eq!(tried(3, |_| Some(given())).1.unwrap(), [0, 1, 2], "that they are at fault is certain");
    }

    #[test]
    fn where_nothing_is_taken_and_nobody_knows_why_the_database_is_to_blame() {
        assert!(tried(5, |_| Some(unclear())).1.is_err());
        assert_eq!(tried(5, |n| (n == 2).then(unclear)).1.unwrap(), [2]);
        assert!(tried(5, |n| Some(if n == 2 { given() } else { unclear() })).1.is_err());
        let (taken, refused) = tried(5, |n| (n == 3).then_some(StoreError::Changed));
        assert!(refused.is_err() && taken.is_empty(), "what comes by itself is waited for: {taken:?}");
    }
}
