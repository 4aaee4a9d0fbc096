//! A phone call as a line of the agent: the leg's sound and keys go to the session; everything else the leg
//! tells, and everything the call wants of the leg, passes by on two channels.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use agent::briefing::Briefing;
use agent::line::{HeardFrame, Line, LineEvent, Request};
use codecs::pcm::SampleRate;
use media::tones::{HeardTone, ToneListener};
use media::{LegConfig, LegEvent, LegPort, LegStats, MediaError, Recorded, Room};
use tokio::sync::mpsc;

/// Orders and notes that may wait between a call and its line.
pub const LINE_QUEUE: usize = 32;
/// A key stroke sent on a caller's behalf lasts this long.
pub const DIGIT_MS: u16 = 160;

/// While something is said to its end, the line is looked at so often.
const SAYING_TICK: Duration = Duration::from_millis(20);
/// What cannot be said is given up so long after it would have been over.
const SAYING_STALLS: Duration = Duration::from_secs(5);

/// What the call asks of its line.
#[derive(Debug)]
pub enum LineOrder {
    /// Take over what a re-INVITE settled.
    Update(Box<LegConfig>),
    /// A key pressed outside the sound (SIP INFO).
    Digit(char),
    /// Send a key press to the peer.
    SendDigit(char),
    /// Put the leg into a room, out of the one it is in.
    Join {
        /// The room.
        room: Room,
        /// Its number there.
        member: u8,
        /// The others hear what the holder of the line says.
        shares_voice: bool,
        /// The holder of the line hears the peer.
        tapped: bool,
    },
    /// Take the leg out of its room: the holder of the line hears the peer again.
    Leave,
    /// Record the leg in this recording, or in none.
    Record(Option<Recorded>),
    /// Whether there is silence in the recording in the place of what is said.
    PauseRecording(bool),
    /// Play this to the peer where nothing is said, or nothing any more.
    Music(Option<Arc<[i16]>>),
    /// Ask something of whoever holds the line.
    Ask(Request),
    /// Whoever holds the line hears silence in the place of what the peer says, or hears it again.
    Mute(bool),
    /// The peer has put the call on hold, or takes that back.
    Hold(bool),
    /// Let go of the line: whoever holds it is told that it closed, and it goes back to the call, open.
    Release,
    /// The call is over.
    Close,
}

/// What the line tells its call.
#[derive(Debug, Clone, PartialEq)]
pub enum LineNote {
    /// Nothing came from the peer for the configured time.
    TimedOut,
    /// The recording broke off.
    RecordingFailed(String),
    /// There is no way to the peer (ICE), or it is not who it should be (DTLS).
    ConnectFailed(String),
    /// What a re-INVITE settled could not be set up; the leg goes on as before.
    UpdateFailed(String),
    /// The leg could not be put into a room.
    JoinFailed(String),
    /// The engine was shut down.
    EngineGone,
    /// A key was pressed while nobody but the call attended the line.
    Digit(char),
    /// The line said something by a tone: it rings, is busy, is a fax machine's.
    Tone(HeardTone),
    /// The peer, in a conference, speaks from here on, or does not.
    Speaks(bool),
}

/// The line of one call; it owns the leg.
#[derive(Debug)]
pub struct CallLine {
    port: Option<LegPort>,
    orders: mpsc::Receiver<LineOrder>,
    own_orders: mpsc::WeakSender<LineOrder>,
    notes: mpsc::Sender<LineNote>,
    last_stats: LegStats,
    last_played_samples: u64,
    is_attended: bool,
    /// The call's recording pauses.
    is_paused: bool,
    /// What is said is nobody else's.
    is_private: bool,
    /// Whoever holds the line does not hear the peer.
    is_muted: bool,
    /// The peer has put the call on hold.
    is_on_hold: bool,
    /// Whoever holds the line is to let go of it.
    is_released: bool,
    /// Listens to sound of this rate for what is said by tones.
    tones: Option<(SampleRate, Box<ToneListener>)>,
    /// What whoever holds it next is to know of a caller who was handed over, and since when the caller has been there.
    briefing: Option<Box<(Briefing, Duration)>>,
}

/// The call's end of its line.
#[derive(Debug)]
pub struct LineControl {
    orders: mpsc::Sender<LineOrder>,
    notes: mpsc::Receiver<LineNote>,
}

impl CallLine {
    /// Takes a leg into a line.
    #[must_use]
    pub fn new(port: LegPort) -> (Self, LineControl) {
        Self::on(Some(port))
    }

    pub(super) fn on(port: Option<LegPort>) -> (Self, LineControl) {
        let (orders, orders_in) = mpsc::channel(LINE_QUEUE);
        let (notes_out, notes) = mpsc::channel(LINE_QUEUE);
        let line = Self {
            port,
            orders: orders_in,
            own_orders: orders.downgrade(),
            notes: notes_out,
            last_stats: LegStats::default(),
            last_played_samples: 0,
            is_attended: false,
            is_paused: false,
            is_private: false,
            is_muted: false,
            is_on_hold: false,
            is_released: false,
            tones: None,
            briefing: None,
        };
        (line, LineControl { orders, notes })
    }

    /// A line that is closed from the start, in the place of one that somebody else has.
    #[must_use]
    pub fn closed() -> Self {
        Self::on(None).0
    }

    /// Whether the leg is there: the line was not closed.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.port.is_some()
    }

    /// Whether whoever holds the line is to let go of it.
    #[must_use]
    pub fn is_released(&self) -> bool {
        self.is_released
    }

    /// The caller is handed over to whoever holds it next, who is to know this of them.
    pub fn brief(&mut self, briefing: Briefing, since: Duration) {
        self.briefing = Some(Box::new((briefing, since)));
    }

    /// What is to be known of the caller, of one who was handed over, and how long they have been there; told once.
    pub fn take_briefing(&mut self) -> Option<(Briefing, Duration)> {
        self.briefing.take().map(|briefing| *briefing)
    }

    /// Somebody else holds the line from here on.
    pub fn take_up(&mut self) {
        self.is_released = false;
    }

    /// The leg's figures, also after it was closed.
    #[must_use]
    pub fn stats(&self) -> LegStats {
        self.port.as_ref().map_or(self.last_stats, LegPort::stats)
    }

    /// Runs a line without an agent, as for echo or while it is bridged, until it is closed or released. Keys are told to
    /// the call.
    pub async fn idle(&mut self) {
        self.is_attended = true;
        while Line::next(self).await != LineEvent::Closed {}
        self.is_attended = false;
    }

    /// Keys are for the call while somebody speaks who asks nothing, or are not.
    pub fn attend(&mut self, is_attended: bool) {
        self.is_attended = is_attended;
    }

    /// The same, once this was said to the peer, at [`Line::rate`].
    pub async fn idle_after(&mut self, pcm: &[i16]) {
        self.is_attended = true;
        if self.say_all(pcm).await {
            self.idle().await;
        }
        self.is_attended = false;
    }

    /// Says this to its end, whatever the peer says meanwhile; false where the line was closed or released before. A line that takes no
    /// sound, because the peer wants none, is not waited for much longer than it takes.
    pub async fn say_all(&mut self, pcm: &[i16]) -> bool {
        let limit = Line::rate(self).duration_of(pcm.len()) + SAYING_STALLS;
        let said = async {
            let mut rest = pcm;
            loop {
                let taken = Line::say(self, rest);
                rest = rest.get(taken..).unwrap_or_default();
                if rest.is_empty() && Line::queued_samples(self) == 0 {
                    return true;
                }
                if let Ok(LineEvent::Closed) = tokio::time::timeout(SAYING_TICK, Line::next(self)).await {
                    return false;
                }
            }
        };
        tokio::time::timeout(limit, said).await.unwrap_or(true)
    }

    fn settle_pause(&mut self) {
        let paused = self.is_paused || self.is_private;
        if let Some(port) = self.port.as_mut() {
            port.pause_recording(paused);
        }
    }

    /// Sends keys to the peer, for whoever holds the line.
    pub fn presser(&self) -> impl Fn(char) + Send + use<> {
        let orders = self.own_orders.clone();
        move |key| {
            if orders.upgrade().is_none_or(|orders| orders.try_send(LineOrder::SendDigit(key)).is_err()) {
                tracing::warn!("a key was not sent: the line is gone or has {LINE_QUEUE} orders waiting");
            }
        }
    }

    /// Waits until everything queued has been played, at most `limit`.
    pub async fn drain(&mut self, limit: Duration) {
        let drained = async {
            while self.queued_samples() > 0 {
                if Line::next(self).await == LineEvent::Closed {
                    break;
                }
            }
        };
        let _ = tokio::time::timeout(limit, drained).await;
    }

    /// Closes the leg and gives its last figures.
    pub fn close(&mut self) -> LegStats {
        if let Some(port) = self.port.take() {
            self.last_played_samples = port.played_samples();
            self.last_stats = port.close();
        }
        self.last_stats
    }

    fn listener(&mut self, rate: SampleRate) -> Option<&mut ToneListener> {
        if self.tones.as_ref().is_none_or(|(of, _)| *of != rate) {
            self.tones = ToneListener::new(rate).map(|listener| (rate, Box::new(listener)));
        }
        self.tones.as_mut().map(|(_, listener)| &mut **listener)
    }

    fn note(&self, note: LineNote) {
        // The call reads its notes until the line is gone; a full queue means that it has more urgent ones already.
        let _ = self.notes.try_send(note);
    }

    fn heard(&mut self, event: LegEvent) -> Option<LineEvent> {
        match event {
            LegEvent::Ear(frame) => {
                let rate = frame.rate;
                if let Some(tone) = self.listener(rate).and_then(|listener| listener.push(frame.samples())) {
                    self.note(LineNote::Tone(tone));
                }
                let at_ms = frame.at_samples as f64 * 1_000.0 / f64::from(rate.hz().max(1));
                let (pcm, speech) = match self.is_muted {
                    true => (vec![0; frame.samples().len()], 0.0),
                    false => (frame.samples().to_vec(), frame.speech),
                };
                Some(LineEvent::Audio(HeardFrame {
                    pcm,
                    sent: frame.sent().to_vec(),
                    rate,
                    speech,
                    concealed: frame.concealed,
                    at_ms,
                }))
            }
            LegEvent::Digit { passed_on: true, .. } if self.is_attended => None,
            LegEvent::Digit { digit, .. } if self.is_attended => {
                self.note(LineNote::Digit(digit));
                None
            }
            LegEvent::Digit { digit, .. } => Some(LineEvent::Digit(digit)),
            // A peer without a path is as silent as one that sends nothing.
            LegEvent::TimedOut | LegEvent::PathLost => {
                self.note(LineNote::TimedOut);
                None
            }
            LegEvent::Speaks(speaks) => {
                self.note(LineNote::Speaks(speaks));
                None
            }
            LegEvent::RecordingFailed { reason } => {
                self.note(LineNote::RecordingFailed(reason));
                None
            }
            LegEvent::ConnectFailed { reason } => {
                self.note(LineNote::ConnectFailed(reason));
                None
            }
            LegEvent::Closed => {
                self.note(LineNote::EngineGone);
                Some(LineEvent::Closed)
            }
            // The peer's RTCP BYE is followed by the BYE of its signalling, which counts; latching is the worker's affair.
            _ => None,
        }
    }

    fn obey(&mut self, order: Option<LineOrder>) -> Option<LineEvent> {
        match order {
            Some(LineOrder::Update(config)) => {
                if let Some(Err(fault)) = self.port.as_mut().map(|port| port.update(*config)) {
                    self.note(LineNote::UpdateFailed(fault.to_string()));
                }
                None
            }
            Some(LineOrder::Join { room, member, shares_voice, tapped }) => {
                if let Some(port) = self.port.as_mut() {
                    port.set_tapped(tapped);
                    if let Err(fault) = room.join_as(port, member, shares_voice) {
                        self.note(LineNote::JoinFailed(fault.to_string()));
                    }
                }
                None
            }
            Some(LineOrder::Leave) => {
                if let Some(port) = self.port.as_mut() {
                    port.leave();
                    port.set_tapped(true);
                }
                None
            }
            Some(LineOrder::Record(into)) => {
                if let Some(Err(fault)) = self.port.as_mut().map(|port| port.record(into)) {
                    self.note(LineNote::RecordingFailed(fault.to_string()));
                }
                None
            }
            Some(LineOrder::PauseRecording(paused)) => {
                self.is_paused = paused;
                self.settle_pause();
                None
            }
            Some(LineOrder::Music(music)) => {
                if let Some(port) = self.port.as_mut() {
                    match music {
                        Some(pcm) => port.play_music(pcm),
                        None => port.stop_music(),
                    }
                }
                None
            }
            Some(LineOrder::Digit(digit)) => Some(LineEvent::Digit(digit)),
            Some(LineOrder::SendDigit(digit)) => {
                let sent: Option<Result<(), MediaError>> =
                    self.port.as_mut().map(|port| port.send_digit(digit, DIGIT_MS));
                if let Some(Err(fault)) = sent {
                    tracing::warn!("a key was not sent: {fault}");
                }
                None
            }
            Some(LineOrder::Ask(request)) => Some(LineEvent::Asked(request)),
            Some(LineOrder::Mute(muted)) => {
                self.is_muted = muted;
                None
            }
            Some(LineOrder::Hold(on)) => {
                self.is_on_hold = on;
                Some(LineEvent::Held)
            }
            Some(LineOrder::Release) => {
                self.is_released = true;
                Some(LineEvent::Closed)
            }
            Some(LineOrder::Close) | None => {
                self.close();
                Some(LineEvent::Closed)
            }
        }
    }
}

impl Line for CallLine {
    fn rate(&self) -> SampleRate {
        self.port.as_ref().map_or(SampleRate::HZ_8000, LegPort::audio_rate)
    }

    async fn next(&mut self) -> LineEvent {
        loop {
            let Some(port) = self.port.as_mut() else { return LineEvent::Closed };
            let event = tokio::select! {
                biased;
                order = self.orders.recv() => self.obey(order),
                event = port.next() => self.heard(event),
            };
            if let Some(event) = event {
                return event;
            }
        }
    }

    fn say(&mut self, pcm: &[i16]) -> usize {
        self.port.as_mut().map_or(0, |port| port.say(pcm))
    }

    fn queued_samples(&self) -> usize {
        self.port.as_ref().map_or(0, LegPort::queued_samples)
    }

    fn played_samples(&self) -> u64 {
        self.port.as_ref().map_or(self.last_played_samples, LegPort::played_samples)
    }

    fn interrupt(&mut self) {
        if let Some(port) = self.port.as_mut() {
            port.interrupt();
        }
    }

    fn duck(&mut self, gain: f32) {
        if let Some(port) = self.port.as_mut() {
            port.duck(gain);
        }
    }

    fn is_held(&self) -> bool {
        self.is_on_hold
    }

    fn set_private(&mut self, is_private: bool) {
        self.is_private = is_private;
        self.settle_pause();
    }
}

impl LineControl {
    /// Orders something of the line; false when the line is gone or has [`LINE_QUEUE`] orders waiting.
    pub fn order(&self, order: LineOrder) -> bool {
        self.orders.try_send(order).is_ok()
    }

    /// The next note; `None` when the line is gone.
    pub fn poll_note(&mut self, cx: &mut Context<'_>) -> Poll<Option<LineNote>> {
        self.notes.poll_recv(cx)
    }
}
