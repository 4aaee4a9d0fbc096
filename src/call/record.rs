//! The call record: one line of JSON per ended call in `data.dir/calls.jsonl`.

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::end::End;
use crate::routing::history::Diverted;
use crate::stir::Verdict;

/// Records held while the disk refuses them; at the limit the oldest is dropped and counted.
pub const PENDING_RECORDS_LIMIT: usize = 10_000;
/// The file of records in the data folder.
pub const JOURNAL: &str = "calls.jsonl";
/// Records of calls that end within this long are written together.
const GATHERED_WITHIN: Duration = Duration::from_millis(20);
/// A written record survives the process at once, and a power cut when nothing followed it for this long.
const SYNCED_WITHIN: Duration = Duration::from_millis(500);
/// A refused write is tried again after this long.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Which way the call went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallDirection {
    /// Somebody called us.
    Inbound,
    /// We called somebody.
    Outbound,
}

impl CallDirection {
    /// The direction as it stands in records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

/// Everything worth keeping of one ended call. Times are RFC 3339 in UTC, durations in ms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CallRecord {
    /// The call's id, the same in every log line.
    pub call: String,
    /// The SIP Call-ID.
    pub sip_call_id: String,
    /// Which way it went.
    pub direction: CallDirection,
    /// When the INVITE came or went.
    pub started_at: String,
    /// When it was answered.
    pub answered_at: Option<String>,
    /// When it was over.
    pub ended_at: String,
    /// From answer to end; 0 for a call never answered.
    pub duration_ms: u64,
    /// The From URI.
    pub from: String,
    /// The request URI.
    pub to: String,
    /// The signalling peer.
    pub peer: String,
    /// `udp`, `tcp`, `tls`, `ws`, `wss` or `whip`.
    pub transport: String,
    /// What answered: an agent's name, `echo`, `ring`, `bye`.
    pub target: String,
    /// The device that called us.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The trunk that the call came by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trunk: Option<String>,
    /// Who sent the call on before it came here, the first of them first (History-Info, Diversion).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diverted: Vec<Diverted>,
    /// What is known of the caller by signature (STIR/SHAKEN), where it was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Verdict>,
    /// The codec of the sound, empty where there was none.
    pub codec: String,
    /// What protected the sound: `none`, `sdes` or `dtls`; empty where there was none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub srtp: String,
    /// How it ended.
    pub end: End,
    /// The parts of the conversation, where an agent answered.
    pub agent: Option<AgentRecord>,
    /// Packet figures, where there was media.
    pub media: Option<MediaRecord>,
    /// Stereo: caller left, agent right, or whoever was called; in a conference by [`LegRecord::recorded`], where whoever came first is left.
    pub recording: Option<PathBuf>,
    /// Everybody who was called for this call, in order; the fields above speak of the caller.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub legs: Vec<LegRecord>,
    /// What was said by tones: `ringing`, `busy`, `congestion`, `special_information`, `fax_calling`, `fax_answering`, `beep`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tones: Vec<ToneRecord>,
    /// Who spoke for how long, in a conference.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spoke: Vec<SpokeRecord>,
}

/// How much somebody spoke in a conference.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SpokeRecord {
    /// The leg's number within the call.
    pub leg: u16,
    /// For how long, pauses of half a second left out.
    pub spoke_ms: u64,
    /// How often they began to.
    pub times: u32,
}

/// A tone that a leg's peer sent.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ToneRecord {
    /// The leg's number within the call.
    pub leg: u16,
    /// When it was certain.
    pub at: String,
    /// Which.
    pub tone: String,
}

/// Somebody who was called.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct LegRecord {
    /// The leg's number within the call.
    pub leg: u16,
    /// Which trunk or device: `trunk carrier-a`, `device alice/2`.
    pub label: String,
    /// The SIP Call-ID; empty where no INVITE was sent.
    #[serde(default)]
    pub sip_call_id: String,
    /// The request URI.
    pub uri: String,
    /// The signalling peer; empty where none was found.
    pub peer: String,
    /// `udp`, `tcp`, `tls`, `ws` or `wss`.
    pub transport: String,
    /// When it was answered; never, where somebody else was or nobody.
    pub answered_at: Option<String>,
    /// The codec of the sound, empty where there was none.
    pub codec: String,
    /// What protected the sound: `none`, `sdes` or `dtls`; empty where there was none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub srtp: String,
    /// Its side in the recording, where it was in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorded: Option<RecordedSide>,
    /// Packet figures, where there was media.
    pub media: Option<MediaRecord>,
}

/// A side of a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordedSide {
    /// The left channel.
    Left,
    /// The right one.
    Right,
}

impl From<media::Side> for RecordedSide {
    fn from(side: media::Side) -> Self {
        match side {
            media::Side::Left => Self::Left,
            media::Side::Right => Self::Right,
        }
    }
}

/// What the agent did.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct AgentRecord {
    /// The recogniser used.
    pub recognizer: String,
    /// The brain used.
    pub brain: String,
    /// The voice used.
    pub voice: String,
    /// Each turn in order.
    pub turns: Vec<agent::session::TurnRecord>,
    /// Providers that failed, and how.
    pub failures: Vec<String>,
}

/// Packets and quality of one leg.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct MediaRecord {
    /// RTP packets taken.
    pub packets_in: u64,
    /// RTP packets sent.
    pub packets_out: u64,
    /// Payload bytes taken.
    pub bytes_in: u64,
    /// Payload bytes sent.
    pub bytes_out: u64,
    /// Of those sent, packets of the other leg's peer passed on as they came.
    #[serde(default)]
    pub relayed: u64,
    /// Packets that never came.
    pub lost: u64,
    /// Packets that came too late to be used.
    pub late: u64,
    /// Packets that came twice.
    pub duplicates: u64,
    /// Packets that came out of order.
    pub reordered: u64,
    /// Packets from somebody else than the peer.
    pub foreign: u64,
    /// Packets that were not under the keys that were agreed on, or came before (SRTP).
    #[serde(default)]
    pub bad_tags: u64,
    /// Interarrival jitter (RFC 3550 A.8).
    pub jitter_ms: f64,
    /// Round trip by RTCP, where known.
    pub rtt_ms: Option<f64>,
    /// Mean opinion score of what was heard of the peer, 1 to 4.5, by the E-model (ITU-T G.107), where enough came to tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mos_in: Option<f64>,
    /// The same of what the peer heard: by its own reports (RFC 3611) or else by its losses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mos_out: Option<f64>,
    /// Frames dropped at full rings.
    pub ring_drops: u64,
}

/// The time as records carry it.
#[must_use]
pub fn timestamp(at: SystemTime) -> String {
    humantime::format_rfc3339_millis(at).to_string()
}

/// Where ended calls are handed to be written; cheap to clone.
#[derive(Debug, Clone)]
pub struct RecordSink {
    sender: mpsc::Sender<CallRecord>,
}

impl RecordSink {
    /// Starts the writer of `dir/calls.jsonl`. The task ends, with everything written, when the last sink is dropped.
    ///
    /// # Errors
    /// The folder cannot be made or the file not be opened.
    pub fn start(dir: &Path) -> anyhow::Result<(Self, tokio::task::JoinHandle<()>)> {
        std::fs::create_dir_all(dir).map_err(|fault| {
            anyhow::anyhow!(
                "cannot make the data folder {}: {fault}. Set data.dir to one that can be written",
                dir.display()
            )
        })?;
        let path = dir.join(JOURNAL);
        append(&path, b"").map_err(|fault| {
            anyhow::anyhow!("cannot write {}: {fault}. Set data.dir to a folder that can be written", path.display())
        })?;
        let (sender, receiver) = mpsc::channel(PENDING_RECORDS_LIMIT);
        Ok((Self { sender }, tokio::spawn(write_all(path, receiver))))
    }

    /// A sink whose records are read by the program itself.
    #[must_use]
    pub fn collecting() -> (Self, mpsc::Receiver<CallRecord>) {
        let (sender, receiver) = mpsc::channel(PENDING_RECORDS_LIMIT);
        (Self { sender }, receiver)
    }

    /// Hands a record over. Never waits; a record that finds the queue full is counted as failed.
    pub fn push(&self, record: CallRecord) {
        if self.sender.try_send(record).is_err() {
            metrics::counter!("omnivox_records_failed_total").increment(1);
            tracing::error!("call records are not being written fast enough: one was dropped");
        }
    }
}

/// What the writer does with the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Append,
    Sync,
}

async fn write_all(path: PathBuf, mut receiver: mpsc::Receiver<CallRecord>) {
    let mut pending: VecDeque<Vec<u8>> = VecDeque::new();
    let (mut is_failing, mut is_open, mut is_dirty) = (false, true, false);
    while is_open || !pending.is_empty() {
        if pending.is_empty() {
            match next_record(&mut receiver, is_dirty).await {
                Next::Record(record) => enqueue(&mut pending, &record),
                Next::Pause => {
                    is_dirty = on_disk(&path, Step::Sync, Vec::new()).await.is_err();
                    continue;
                }
                Next::Closed => break,
            }
            // Calls end in bursts: what ends within one span goes to the disk in one piece.
            tokio::time::sleep(GATHERED_WITHIN).await;
        }
        while let Ok(record) = receiver.try_recv() {
            enqueue(&mut pending, &record);
        }
        is_open = !(receiver.is_closed() && receiver.is_empty());
        match on_disk(&path, Step::Append, pending.iter().flatten().copied().collect()).await {
            Ok(()) => {
                pending.clear();
                (is_failing, is_dirty) = (false, true);
            }
            Err(fault) => {
                if !is_failing {
                    tracing::error!(
                        "cannot write call records to {}: {fault}. They are kept and tried again each second",
                        path.display()
                    );
                }
                is_failing = true;
                if !is_open {
                    metrics::counter!("omnivox_records_failed_total").increment(pending.len() as u64);
                    break;
                }
                tokio::time::sleep(RETRY_AFTER).await;
            }
        }
    }
    let _ = on_disk(&path, Step::Sync, Vec::new()).await;
}

enum Next {
    Record(Box<CallRecord>),
    Pause,
    Closed,
}

/// The next record; where something is not on the disk for certain yet, a pause for that.
async fn next_record(receiver: &mut mpsc::Receiver<CallRecord>, is_dirty: bool) -> Next {
    let next = if is_dirty {
        match tokio::time::timeout(SYNCED_WITHIN, receiver.recv()).await {
            Ok(next) => next,
            Err(_) => return Next::Pause,
        }
    } else {
        receiver.recv().await
    };
    next.map_or(Next::Closed, |record| Next::Record(Box::new(record)))
}

async fn on_disk(path: &Path, step: Step, lines: Vec<u8>) -> std::io::Result<()> {
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || match step {
        Step::Append => append(&path, &lines),
        Step::Sync => std::fs::File::open(&path)?.sync_data(),
    })
    .await
    .unwrap_or_else(|fault| Err(std::io::Error::other(fault)))
}

fn enqueue(pending: &mut VecDeque<Vec<u8>>, record: &CallRecord) {
    if pending.len() >= PENDING_RECORDS_LIMIT {
        pending.pop_front();
        metrics::counter!("omnivox_records_failed_total").increment(1);
    }
    match serde_json::to_vec(record) {
        Ok(mut line) => {
            line.push(b'\n');
            pending.push_back(line);
        }
        Err(fault) => tracing::error!("a call record has no JSON form: {fault}"),
    }
}

/// Appends whole lines; a write cut short by a full disk is taken back, so that no half line stays.
fn append(path: &Path, lines: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    let before = file.metadata()?.len();
    if let Err(fault) = file.write_all(lines) {
        let _ = file.set_len(before);
        return Err(fault);
    }
    Ok(())
}
