//! How long things are kept, and taking away what is older: from the database, the journal, and the folder of recordings.

use std::collections::HashSet;

use serde_json::Value;

use crate::control::Control;
use crate::journal::{self, JournalError};
use crate::store::StoreError;
use crate::time::Moment;

/// Taken away at once, between which others have their turn.
pub const BATCH: i64 = 500;
/// Batches of one sweep of each kind; what is left goes in the next.
pub const BATCHES: usize = 20;

/// Days that things are kept; 0: for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retention {
    /// Records of calls, with everything that belongs to them.
    pub records_days: i64,
    /// What was said.
    pub transcripts_days: i64,
    /// Recordings.
    pub recordings_days: i64,
    /// What came of calls with people.
    pub interactions_days: i64,
}

/// What a sweep took away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// Records.
    pub records: u64,
    /// Transcripts.
    pub transcripts: u64,
    /// Recordings.
    pub recordings: u64,
    /// Interactions.
    pub interactions: u64,
}

/// Why a sweep ended before its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SweepError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// Takes away what is older than it is kept.
///
/// # Errors
/// The database's or the journal's: what is left is taken away by the next sweep.
pub async fn sweep(control: &Control, now: Moment) -> Result<Swept, SweepError> {
    let kept = control.options.retention;
    let before = |days: i64| (days > 0).then(|| now.after_s(-days.saturating_mul(86_400)));
    let mut swept = Swept::default();
    if let Some(before) = before(kept.recordings_days) {
        swept.recordings = recordings(control, before, now).await?;
    }
    if let Some(before) = before(kept.transcripts_days) {
        swept.transcripts = transcripts(control, before, now).await?;
    }
    if let Some(before) = before(kept.records_days) {
        swept.records = records(control, before).await?;
    }
    let days = [kept.records_days, kept.transcripts_days, kept.recordings_days];
    if let Some(before) = days.into_iter().filter_map(before).max() {
        refused(control, before).await?;
    }
    if let Some(before) = before(kept.interactions_days) {
        for _ in 0..BATCHES {
            let gone = control.store.remove_interactions_before(before, BATCH).await?;
            swept.interactions += gone;
            if gone == 0 {
                break;
            }
        }
    }
    Ok(swept)
}

async fn recordings(control: &Control, before: Moment, now: Moment) -> Result<u64, SweepError> {
    let (mut gone, mut after) = (0, None);
    for _ in 0..BATCHES {
        let batch = control.store.recorded_before(before, after.as_ref(), BATCH).await?;
        let Some(last) = batch.last() else { break };
        after = Some((last.started_at, last.call.clone()));
        let removed: Vec<String> = batch
            .iter()
            .filter(|aged| remove_recording(control, &aged.call, aged.recording.as_deref()))
            .map(|aged| aged.call.clone())
            .collect();
        control.store.recordings_removed(&removed, now).await?;
        gone += removed.len() as u64;
    }
    Ok(gone)
}

/// Whether the recording is there no more.
pub(crate) fn remove_recording(control: &Control, call: &str, recording: Option<&str>) -> bool {
    let Some(path) = recording else { return true };
    match control.calls.remove_recording(path) {
        Ok(()) => true,
        Err(fault) if fault.kind() == std::io::ErrorKind::NotFound => true,
        Err(fault) => {
            tracing::error!("the recording of {call} cannot be removed: {fault}");
            false
        }
    }
}

async fn transcripts(control: &Control, before: Moment, now: Moment) -> Result<u64, SweepError> {
    let mut gone = 0;
    for _ in 0..BATCHES {
        let batch = control.store.transcribed_before(before, BATCH).await?;
        if batch.is_empty() {
            break;
        }
        let calls: HashSet<String> = batch.iter().map(|aged| aged.call.clone()).collect();
        journal::rewrite(control, move |line| calls.contains(line.call).then(|| without_words(line.text))).await?;
        for aged in &batch {
            control.store.transcript_removed(&aged.call, &without_words(&aged.record), now).await?;
        }
        gone += batch.len() as u64;
    }
    Ok(gone)
}

async fn records(control: &Control, before: Moment) -> Result<u64, SweepError> {
    let mut gone = 0;
    for _ in 0..BATCHES {
        let batch = control.store.records_before(before, BATCH).await?;
        // A recording that cannot be removed keeps its record: nobody would know of it otherwise.
        let calls: Vec<String> = batch
            .iter()
            .filter(|aged| remove_recording(control, &aged.call, aged.recording.as_deref()))
            .map(|aged| aged.call.clone())
            .collect();
        if calls.is_empty() {
            break;
        }
        let known: HashSet<String> = calls.iter().cloned().collect();
        journal::rewrite(control, move |line| known.contains(line.call).then(|| journal::ERASED.to_owned())).await?;
        control.store.remove_records(&calls).await?;
        gone += calls.len() as u64;
    }
    Ok(gone)
}

/// Lines that were set aside: what is in them is not looked at, and they are kept no longer than any part of a record is.
async fn refused(control: &Control, before: Moment) -> Result<(), SweepError> {
    let node = &control.options.node;
    for _ in 0..BATCHES {
        let mut batch = control.store.refused_before(node, before, BATCH).await?;
        batch.retain(|line| remove_recording(control, &line.call, line.recording.as_deref()));
        if batch.is_empty() {
            break;
        }
        // Those of a journal that was put away are not to be reached.
        let head = control.store.journal(node).await?.head;
        let here: HashSet<u64> = batch.iter().filter(|line| line.head == head).map(|line| line.position).collect();
        journal::rewrite(control, move |line| here.contains(&line.position).then(|| journal::ERASED.to_owned()))
            .await?;
        control.store.remove_refused(node, &batch).await?;
    }
    Ok(())
}

/// A record without what was said.
fn without_words(record: &str) -> String {
    let Ok(mut value) = serde_json::from_str::<Value>(record) else { return journal::ERASED.to_owned() };
    if let Some(turns) = value.pointer_mut("/agent/turns") {
        *turns = Value::Array(Vec::new());
    }
    value.to_string()
}
