//! What a call can be connected with besides a voice agent: nothing (echo runs in the media worker), or code of the
//! program that embeds us, which gets an [`ActiveCall`].

mod away;

use std::collections::VecDeque;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use agent::briefing::Briefing;
use agent::line::{HeardFrame, Line, LineEvent};
use codecs::CodecError;
use codecs::pcm::SampleRate;
use codecs::resample::Resampler;
use futures::FutureExt as _;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use self::away::Parting;
use super::line::CallLine;
use super::log::Providers;
use super::{ConversationEnd, Handover};

/// Keys pressed ahead of being asked for; at the limit the oldest is forgotten.
pub const KEYS_LIMIT: usize = 32;
/// Playing waits this long for the line to take more sound.
const PLAY_TICK: Duration = Duration::from_millis(20);
/// What is still to be heard before a call is passed on or hung up may take so long.
const DRAINS_WITHIN: Duration = Duration::from_secs(2);

/// What came of a conversation.
#[derive(Debug)]
pub struct Outcome {
    /// How it ended.
    pub end: ConversationEnd,
    /// The line, given back: open, where it was released.
    pub line: CallLine,
    /// Who recognised, thought and spoke, where an agent did.
    pub providers: Option<Providers>,
    /// Goes on with the conversation where it was left, for one that passed its call on.
    pub resume: Option<Resume>,
}

/// A conversation that was left: told why it has its line back, it goes on.
pub struct Resume(pub Box<dyn FnOnce(String, CallLine) -> Conversation + Send>);

impl std::fmt::Debug for Resume {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Resume")
    }
}

/// A conversation under way; it owns the call's line.
pub type Conversation = Pin<Box<dyn Future<Output = Outcome> + Send>>;

type Handler = dyn Fn(ActiveCall) -> Pin<Box<dyn Future<Output = ActiveCall> + Send>> + Send + Sync;

/// Code of an embedding program that answers calls.
#[derive(Clone)]
pub struct App(Arc<Handler>);

/// Two are equal where they are the same one.
impl PartialEq for App {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for App {}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("App")
    }
}

impl App {
    /// Answers calls with `handler`; when it returns the call is hung up. While somebody else has the caller, who may come back, it goes on
    /// in a task of its own.
    pub fn new<F, R>(handler: F) -> Self
    where
        F: Fn(ActiveCall) -> R + Send + Sync + 'static,
        R: Future<Output = ActiveCall> + Send + 'static,
    {
        Self(Arc::new(move |call| Box::pin(handler(call))))
    }

    /// Runs the handler on a line.
    #[must_use]
    pub fn converse(&self, line: CallLine) -> Conversation {
        let (partings, parted) = mpsc::channel(1);
        let call = ActiveCall { partings: Some(partings), ..ActiveCall::new(line) };
        let handler = Arc::clone(&self.0);
        // What it leaves in pieces is its own; the call that it had is gone with it.
        let handled = AssertUnwindSafe(async move { handler(call).await }).catch_unwind();
        let program = async move { handled.await.inspect_err(|_| note_panic()).ok() };
        away::converse(Box::pin(program), parted)
    }
}

fn note_panic() {
    metrics::counter!("omnivox_panics_total", "part" => "program").increment(1);
    tracing::error!("a program panicked: its call ends");
}

/// Keeps a line until it is closed or released; what is heard is answered, if at all, by the media worker.
#[must_use]
pub fn idle(mut line: CallLine) -> Conversation {
    Box::pin(async move {
        line.idle().await;
        Outcome { end: ConversationEnd::LineClosed, line, providers: None, resume: None }
    })
}

/// A call that is up, for code that handles calls itself. While its caller is with somebody else, who may not keep them, whatever is asked of
/// the call waits: until they are back, or it is known that they will not be.
#[derive(Debug)]
pub struct ActiveCall {
    line: CallLine,
    keys: VecDeque<char>,
    is_closed: bool,
    farewell: String,
    /// The way that the line goes when the caller is passed on; `None` where nobody does that.
    partings: Option<mpsc::Sender<Parting>>,
    /// Where the line comes back, while somebody else has it.
    away: Option<oneshot::Receiver<Comeback>>,
    /// Why it is back.
    returned: Option<String>,
    briefing: Briefing,
}

/// Why a line is back, and the line.
type Comeback = (String, CallLine);

impl ActiveCall {
    pub(crate) fn new(mut line: CallLine) -> Self {
        line.take_up();
        let farewell = "the program hung up".to_owned();
        let briefing = line.take_briefing().map(|(briefing, _)| briefing).unwrap_or_default();
        Self {
            line,
            keys: VecDeque::new(),
            is_closed: false,
            farewell,
            partings: None,
            away: None,
            returned: None,
            briefing,
        }
    }

    /// What is known of a caller who was handed over in mid-call: by which agent, its summary, what it knows by name, and what was said before;
    /// empty of one who called this number.
    #[must_use]
    pub fn briefing(&self) -> &Briefing {
        &self.briefing
    }

    /// The rate of the sound, both ways.
    #[must_use]
    pub fn rate(&self) -> SampleRate {
        self.line.rate()
    }

    /// Whether the caller has gone, or is somebody else's for good.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Why the program hangs up, for the record, once it gives the call back.
    pub fn hang_up_because(&mut self, reason: impl Into<String>) {
        self.farewell = reason.into();
    }

    pub(crate) fn into_line(self) -> CallLine {
        self.line
    }

    pub(crate) fn closed(&mut self) {
        self.is_closed = true;
    }

    /// The line below, for code that runs an agent's session on it.
    pub fn line(&mut self) -> &mut CallLine {
        &mut self.line
    }

    /// Has the caller connected with somebody (a device, a number, an address), put into a place (`room-NAME`, `park-SLOT`) or handed over to
    /// an agent, which knows the handover's summary and variables, as an agent does. What is being said is said to its end before; then the caller hears music until somebody is there for them. `Ok`: they are
    /// with somebody else, or have hung up, and the call is closed.
    ///
    /// # Errors
    /// Nobody took the caller, who is here again: why, as a clause ("the person is busy").
    pub async fn transfer(&mut self, handover: Handover) -> Result<(), String> {
        self.come_back().await;
        self.drain().await;
        self.is_closed |= !self.line.is_open();
        self.returned = None;
        if !self.is_closed {
            self.leave(ConversationEnd::Transfer(handover));
            self.come_back().await;
        }
        self.returned.take().map_or(Ok(()), Err)
    }

    /// Why the caller is here again, where somebody else than the program (the HTTP interface, [`Command::Transfer`]) wanted them connected
    /// and nobody took them: a clause, told once. What was said or waited for when they were taken away was cut short.
    ///
    /// [`Command::Transfer`]: super::Command::Transfer
    pub fn returned(&mut self) -> Option<String> {
        self.returned.take()
    }

    /// Whether the caller has put the call on hold: what is played and what is waited for waits until they are back.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.line.is_held()
    }

    /// What the caller says next, in frames of at most 20 ms; `None` when the call is over. Keys pressed meanwhile are kept for [`ActiveCall::key`].
    /// What comes in while they hold (music, mostly) is left out.
    pub async fn hear(&mut self) -> Option<HeardFrame> {
        loop {
            match self.next().await? {
                LineEvent::Audio(_) if self.is_held() => {}
                LineEvent::Audio(frame) => return Some(frame),
                LineEvent::Digit(digit) => self.keep(digit),
                LineEvent::Held | LineEvent::Asked(_) => {}
                LineEvent::Closed => return None,
            }
        }
    }

    /// The next key that was pressed already.
    pub fn pressed(&mut self) -> Option<char> {
        self.keys.pop_front()
    }

    /// The next key, pressed already or within `wait`, in which the time on hold does not count; `None` where none came, or the caller was
    /// taken away meanwhile and is back.
    pub async fn key(&mut self, wait: Duration) -> Option<char> {
        self.come_back().await;
        let mut left = wait;
        loop {
            if let Some(key) = self.keys.pop_front() {
                return Some(key);
            }
            let (begun, is_held) = (Instant::now(), self.is_held());
            let event = match is_held {
                true => self.next_here().await,
                false => tokio::time::timeout(left, self.next_here()).await.ok()?,
            };
            if !is_held {
                left = left.saturating_sub(begun.elapsed());
            }
            match event {
                Some(LineEvent::Digit(digit)) => self.keep(digit),
                Some(LineEvent::Audio(_) | LineEvent::Held | LineEvent::Asked(_)) => {}
                Some(LineEvent::Closed) | None => {
                    self.come_back().await;
                    return None;
                }
            }
        }
    }

    /// Plays samples of the given rate to their end, or until a key is pressed where `until_key` says so. Returns false when it was cut short.
    pub async fn play(&mut self, pcm: &[i16], rate: SampleRate, until_key: bool) -> bool {
        self.come_back().await;
        let pcm = match resampled(pcm, rate, self.rate()) {
            Ok(pcm) => pcm,
            Err(fault) => {
                tracing::error!("what is to be played cannot be: {fault}");
                return false;
            }
        };
        let mut rest = pcm.as_slice();
        while !(self.is_gone() || rest.is_empty() && self.line.queued_samples() == 0) {
            let taken = self.line.say(rest);
            rest = rest.get(taken..).unwrap_or_default();
            if let Ok(Some(LineEvent::Digit(digit))) = tokio::time::timeout(PLAY_TICK, self.next_here()).await {
                self.keep(digit);
                if until_key {
                    self.line.interrupt();
                    return false;
                }
            }
        }
        !self.is_gone()
    }

    /// Plays a WAV file, 16 bit, any rate; of several channels the first.
    ///
    /// # Errors
    /// The file cannot be read as such.
    pub async fn play_wav(&mut self, path: &Path, until_key: bool) -> anyhow::Result<bool> {
        let (pcm, rate) = crate::wav::read_mono(path)?;
        Ok(self.play(&pcm, rate, until_key).await)
    }

    async fn drain(&mut self) {
        self.line.drain(DRAINS_WITHIN).await;
    }

    /// What the line brings next, wherever it is meanwhile; `None` when the call is over.
    async fn next(&mut self) -> Option<LineEvent> {
        loop {
            self.come_back().await;
            let event = self.next_here().await;
            if event.is_some() || self.is_closed {
                return event;
            }
        }
    }

    /// What the line brings next while it is here; `None` where it is not, or is taken away now.
    async fn next_here(&mut self) -> Option<LineEvent> {
        if self.is_gone() {
            return None;
        }
        if !self.line.is_released() {
            let event = Line::next(&mut self.line).await;
            if !self.line.is_released() {
                self.is_closed = event == LineEvent::Closed;
                return Some(event);
            }
        }
        self.line.interrupt();
        self.leave(ConversationEnd::LineClosed);
        None
    }

    fn is_gone(&self) -> bool {
        self.is_closed || self.away.is_some()
    }

    /// The line goes to whoever is to have it next.
    fn leave(&mut self, end: ConversationEnd) {
        let Some(partings) = &self.partings else {
            self.is_closed = true;
            return;
        };
        let (back, comes_back) = oneshot::channel();
        let line = std::mem::replace(&mut self.line, CallLine::closed());
        match partings.try_send(Parting { end, line, back }) {
            Ok(()) => self.away = Some(comes_back),
            // The call is not there any more.
            Err(_) => self.is_closed = true,
        }
    }

    /// Waits for a line that is away to come back, with why; where it does not, the call is over.
    async fn come_back(&mut self) {
        let Some(away) = &mut self.away else { return };
        match away.await {
            Ok((why, mut line)) => {
                line.take_up();
                self.line = line;
                self.returned = Some(why);
            }
            Err(_) => self.is_closed = true,
        }
        self.away = None;
    }

    fn keep(&mut self, digit: char) {
        if self.keys.len() >= KEYS_LIMIT {
            self.keys.pop_front();
        }
        self.keys.push_back(digit);
    }
}

/// `pcm` at another rate.
///
/// # Errors
/// No whole-number ratio of the two rates is small enough to be resampled by.
pub fn resampled(pcm: &[i16], from: SampleRate, to: SampleRate) -> Result<Vec<i16>, CodecError> {
    if from == to {
        return Ok(pcm.to_vec());
    }
    let mut resampler = Resampler::new(from, to)?;
    let mut out = vec![0; resampler.max_output(pcm.len())];
    let len = resampler.process(pcm, &mut out);
    out.truncate(len);
    Ok(out)
}
