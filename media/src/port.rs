//! The async side's end of a leg, and what the worker's end shares with it.
//!
//! A [`LegPort`] is owned by one task. It meets the worker that owns the leg through two bounded rings
//! of sound (ear: what the caller says; voice: what is said to the caller), one ring of notices, and atomics. No lock
//! is shared with the worker.
//!
//! An *epoch* is a position in the stream of voice samples: [`LegPort::interrupt`] publishes how many samples had been
//! queued so far, and the worker skips what lies before that at its next frame. Positions only grow, so neither side can
//! mistake an old frame for a new one, and what was played of the present epoch is exact.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use codecs::pcm::SampleRate;
use ringbuf::traits::{Consumer, Observer, Producer, Split};
use ringbuf::{HeapCons, HeapProd, HeapRb};

use crate::config::{LegConfig, LegMode, Recorded, Security};
use crate::error::MediaError;
use crate::io::connector::{Connector, Wiring};
use crate::io::{Disconnected, LegHandle, Membership, WorkerId};
use crate::leg::{Joined, Music};
use crate::stats::{LegStats, SharedStats};

/// Frames in the ear's ring: 1.28 s of 20 ms frames.
pub const EAR_RING_FRAMES: usize = 64;
/// Sound in the voice's ring at most, in milliseconds.
pub const VOICE_RING_MS: usize = 1_000;
/// Notices (digits, time-outs, ...) that wait for the async side at most.
pub const NOTICE_RING: usize = 16;
/// Samples in an [`EarFrame`] at most: 20 ms at 16 kHz.
pub const EAR_FRAME_SAMPLES: usize = 320;

/// One piece of the caller's sound, 20 ms or less, as it left the decoder.
#[derive(Debug, Clone)]
pub struct EarFrame {
    /// The samples; those from `len` on mean nothing.
    pub pcm: [i16; EAR_FRAME_SAMPLES],
    /// What was sent to the peer at the time that this arrived, a little behind it: the reference of echo control. As
    /// many samples as of `pcm`; silence where nothing was sent.
    pub sent: [i16; EAR_FRAME_SAMPLES],
    /// How many samples of `pcm` are sound.
    pub len: usize,
    /// Rate of the samples.
    pub rate: SampleRate,
    /// Position of the first sample on the leg's timeline: 0 is when the leg was opened. It goes on through lost packets
    /// and silence that was not sent.
    pub at_samples: u64,
    /// Likelihood of speech, 0 to 1, of the latest 16 ms window that ended in this frame or before.
    pub speech: f32,
    /// The packet was lost, and this was made up for it.
    pub concealed: bool,
    /// When the packet arrived (or was given up for lost).
    pub arrived: Instant,
}

impl EarFrame {
    /// The samples that are sound.
    #[must_use]
    pub fn samples(&self) -> &[i16] {
        self.pcm.get(..self.len).unwrap_or(&self.pcm)
    }

    /// What was sent to the peer meanwhile: as many samples.
    #[must_use]
    pub fn sent(&self) -> &[i16] {
        self.sent.get(..self.len).unwrap_or(&self.sent)
    }
}

/// What a leg tells its task.
#[derive(Debug, Clone)]
#[non_exhaustive]
#[allow(clippy::large_enum_variant)] // nearly all events are the large one, and a box would be an allocation for each
pub enum LegEvent {
    /// The caller's sound.
    Ear(EarFrame),
    /// A key was pressed (RFC 4733), told once per press at its end.
    Digit {
        /// `0`-`9`, `*`, `#`, `A`-`D`.
        digit: char,
        /// How long it was held.
        duration_ms: u16,
        /// Position of its start on the leg's timeline, at the leg's audio rate.
        at_samples: u64,
        /// The peer of the other leg in the room has it already, as it came.
        passed_on: bool,
    },
    /// Nothing came from the peer for the configured time. Told again only after the peer was heard again.
    TimedOut,
    /// The peer was heard from this address, and sound goes there from now on.
    Latched {
        /// Where the peer's RTP comes from.
        addr: SocketAddr,
    },
    /// The peer, in a room that tells it ([`Room::tell_speakers`](crate::Room::tell_speakers)), speaks from here on, or does not.
    Speaks(bool),
    /// The peer said BYE in RTCP (RFC 3550 section 6.6).
    RtcpBye,
    /// The recording broke off; the call goes on.
    RecordingFailed {
        /// What happened, for a log.
        reason: String,
    },
    /// There is no way to the peer, or it is not who signalling said it is (ICE, DTLS).
    ConnectFailed {
        /// What happened, for a log.
        reason: String,
    },
    /// The peer, once connected, can be reached no more (its ICE checks stopped).
    PathLost,
    /// The engine was shut down; nothing follows.
    Closed,
}

/// The async side of one leg. Dropping it closes the leg.
pub struct LegPort {
    shared: Arc<Shared>,
    handle: LegHandle,
    ear: Option<HeapCons<EarFrame>>,
    voice: Option<HeapProd<i16>>,
    notices: HeapCons<Notice>,
    rate: SampleRate,
    /// When its timeline began.
    began: Instant,
    config: LegConfig,
    written: u64,
    epoch_start: u64,
    membership: Option<Membership>,
    wiring: Wiring,
    connector: Option<Connector>,
}

/// A leg's figures from outside; cheap to clone. The worker does nothing for it that it does not do anyway.
#[derive(Clone)]
pub struct Gauge {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Gauge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gauge").finish_non_exhaustive()
    }
}

impl Gauge {
    /// As they were 100 ms ago or less.
    #[must_use]
    pub fn stats(&self) -> LegStats {
        self.shared.stats.snapshot()
    }
}

impl LegPort {
    pub(crate) fn new(
        ends: PortEnds,
        handle: LegHandle,
        config: LegConfig,
        (rate, began): (SampleRate, Instant),
        wiring: Wiring,
    ) -> Result<Self, MediaError> {
        let mut port = LegPort {
            shared: ends.shared,
            handle,
            ear: ends.ear,
            voice: ends.voice,
            notices: ends.notices,
            rate,
            began,
            config,
            written: 0,
            epoch_start: 0,
            membership: None,
            wiring,
            connector: None,
        };
        port.connect()?;
        Ok(port)
    }

    /// Begins to connect, goes on with it, or ends it, as the configuration says.
    fn connect(&mut self) -> Result<(), MediaError> {
        match (&self.config.security, &self.connector) {
            (Security::Dtls(config), Some(connector)) => connector.update(&self.config, config),
            (Security::Dtls(config), None) => {
                let handle = self.handle.clone();
                self.connector = Some(Connector::start(&mut self.wiring, handle, &self.config, config)?);
            }
            _ => {
                self.connector = None;
                self.wiring.held = None;
            }
        }
        Ok(())
    }

    /// The next thing that happened. Safe to cancel: an event is taken only when it is returned.
    pub async fn next(&mut self) -> LegEvent {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// [`next`](Self::next) as a poll.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<LegEvent> {
        if let Some(event) = self.take() {
            return Poll::Ready(event);
        }
        self.handle.register(cx.waker());
        // From here on the worker's next push makes a wake-up; what was pushed before is looked for once more.
        // The swap reads the worker's, so that a push whose wake-up came before this is seen.
        self.shared.ready.swap(false, Ordering::AcqRel);
        match self.take() {
            Some(event) => Poll::Ready(event),
            None => Poll::Pending,
        }
    }

    /// What happened already, without waiting.
    pub fn try_next(&mut self) -> Option<LegEvent> {
        self.take()
    }

    /// Queues sound to be said, at [`audio_rate`](Self::audio_rate), and returns how many samples were taken:
    /// fewer than given when the ring (1 s) is full. A leg that is no [`LegMode::Talk`] takes none.
    pub fn say(&mut self, pcm: &[i16]) -> usize {
        let Some(voice) = &mut self.voice else { return 0 };
        let taken = voice.push_slice(pcm);
        self.written += taken as u64;
        taken
    }

    /// Samples of the present epoch that are queued and not yet sent.
    #[must_use]
    pub fn queued_samples(&self) -> usize {
        let reached = self.shared.position.load(Ordering::Acquire).max(self.epoch_start);
        usize::try_from(self.written.saturating_sub(reached)).unwrap_or(0)
    }

    /// Samples that may be queued now before the ring is full.
    #[must_use]
    pub fn vacant_samples(&self) -> usize {
        self.voice.as_ref().map_or(0, Observer::vacant_len)
    }

    /// Samples of the present epoch that were really sent. While the direction or a key press keeps sound from being
    /// sent, what is queued waits.
    #[must_use]
    pub fn played_samples(&self) -> u64 {
        self.shared.position.load(Ordering::Acquire).saturating_sub(self.epoch_start)
    }

    /// Begins a new epoch: what was queued and not yet sent is dropped by the worker at its next frame.
    pub fn interrupt(&mut self) {
        self.epoch_start = self.written;
        self.shared.discard_before.store(self.written, Ordering::Release);
    }

    /// Sets the gain of what is said: 1.0 is full, 0.0 is silence. The worker gets there over 20 ms.
    pub fn duck(&mut self, gain: f32) {
        let gain = if gain.is_finite() { gain.clamp(0.0, 4.0) } else { 1.0 };
        self.shared.gain_bits.store(gain.to_bits(), Ordering::Relaxed);
    }

    /// Sends a key press (RFC 4733); presses queue up. Sound pauses meanwhile.
    ///
    /// # Errors
    /// [`MediaError::Digit`] where telephone-event was not agreed or `digit` is no key.
    pub fn send_digit(&mut self, digit: char, duration_ms: u16) -> Result<(), MediaError> {
        if self.config.dtmf.is_none() {
            return Err(MediaError::Digit { digit, why: "the peer did not agree to telephone-event" });
        }
        if !matches!(digit, '0'..='9' | '*' | '#' | 'A'..='D' | 'a'..='d') {
            return Err(MediaError::Digit { digit, why: "it is no key of a telephone" });
        }
        self.handle.send_digit(digit.to_ascii_uppercase(), duration_ms)
    }

    /// Rate of [`EarFrame`]s and of what [`say`](Self::say) takes. It stays the same over [`update`](Self::update):
    /// where the new codec has another, the worker converts.
    #[must_use]
    pub fn audio_rate(&self) -> SampleRate {
        self.rate
    }

    /// What was agreed last.
    #[must_use]
    pub fn config(&self) -> &LegConfig {
        &self.config
    }

    /// Takes over what a re-INVITE settled: remote, direction, codec, payload types. SSRC, sequence numbers
    /// and timestamps go on. Mode, recording, seed and name stay as they were.
    ///
    /// # Errors
    /// [`MediaError::Codec`] where the codec cannot be set up; the leg then goes on as before.
    pub fn update(&mut self, config: LegConfig) -> Result<(), MediaError> {
        self.handle.update(&self.config, &config, self.rate, self.membership.is_some())?;
        let (mode, seed, record) = (self.config.mode, self.config.seed, self.config.record.take());
        self.config = LegConfig { mode, seed, record, ..config };
        self.connect()
    }

    /// The worker that has the leg.
    #[must_use]
    pub fn worker(&self) -> WorkerId {
        self.handle.worker()
    }

    /// Its number in the room that it is in.
    #[must_use]
    pub fn member(&self) -> Option<u8> {
        self.membership.as_ref().map(|membership| membership.member)
    }

    /// Takes the leg out of its [`Room`](crate::io::Room): what the port says goes to the peer alone.
    pub fn leave(&mut self) {
        if self.membership.is_some() {
            self.handle.leave();
            self.membership = None;
        }
    }

    /// Plays this to the peer, over and over, wherever the port says nothing, and in the place of what its room says.
    /// Samples are at [`audio_rate`](Self::audio_rate). Where there are none, nothing is played.
    pub fn play_music(&mut self, pcm: Arc<[i16]>) {
        self.handle.play(Music::new(pcm));
    }

    /// Ends the music.
    pub fn stop_music(&mut self) {
        self.handle.play(None);
    }

    /// Whether what the peer says comes as [`LegEvent::Ear`]; it does in the beginning. Where it does not, and nobody
    /// records the leg, it is not decoded for the port either. Keys are told nevertheless.
    pub fn set_tapped(&mut self, tapped: bool) {
        self.handle.tap(tapped);
    }

    /// Puts the leg into a recording, out of the one that it is in: what its peer says goes to the peer's side, what is played to the peer
    /// to the other. What the members of its room say does not: they are recorded themselves, where they are.
    ///
    /// # Errors
    /// [`MediaError::Record`] where the recording cannot begin or takes no more; the leg is then in none.
    pub fn record(&mut self, into: Option<Recorded>) -> Result<(), MediaError> {
        self.config.record = None;
        let Some(to) = into else {
            self.handle.record(None);
            return Ok(());
        };
        match to.recording.sink(self.rate, self.began, to.peer) {
            Ok(sink) => {
                self.handle.record(Some((&to.recording, Box::new(sink))));
                self.config.record = Some(to);
                Ok(())
            }
            Err(fault) => {
                self.handle.record(None);
                Err(fault.into())
            }
        }
    }

    /// While the recording pauses, there is silence in it from this leg, both ways, so that the rest stays where it belongs.
    pub fn pause_recording(&mut self, paused: bool) {
        self.handle.pause_recording(paused);
    }

    /// Changes what TURN servers do for the leg, which whoever connects it does otherwise: for tests and benches.
    #[doc(hidden)]
    pub fn tunnel(&self, tunnel: crate::connect::Tunnel) {
        self.handle.tunnel(tunnel);
    }

    pub(crate) fn handle(&self) -> &LegHandle {
        &self.handle
    }

    pub(crate) fn enter(&mut self, joined: Box<Joined>, membership: Membership) {
        self.handle.join(joined);
        self.membership = Some(membership);
    }

    /// Figures as they were 100 ms ago or less.
    #[must_use]
    pub fn stats(&self) -> LegStats {
        self.shared.stats.snapshot()
    }

    /// The same for somebody who does not hold the leg, also after its end.
    #[must_use]
    pub fn gauge(&self) -> Gauge {
        Gauge { shared: Arc::clone(&self.shared) }
    }

    /// Ends the leg: RTCP BYE is sent and the port rests. Returns the last figures.
    #[must_use]
    pub fn close(self) -> LegStats {
        self.stats()
    }

    fn take(&mut self) -> Option<LegEvent> {
        if let Some(notice) = self.notices.try_pop() {
            return Some(self.event(notice));
        }
        if let Some(frame) = self.ear.as_mut().and_then(Consumer::try_pop) {
            return Some(LegEvent::Ear(frame));
        }
        if let Some(reason) = self.handle.recording_failure() {
            return Some(LegEvent::RecordingFailed { reason });
        }
        match self.handle.disconnection() {
            Some(Disconnected::Failed(reason)) => return Some(LegEvent::ConnectFailed { reason }),
            Some(Disconnected::Lost) => return Some(LegEvent::PathLost),
            None => {}
        }
        self.shared.closed.load(Ordering::Acquire).then_some(LegEvent::Closed)
    }

    fn event(&self, notice: Notice) -> LegEvent {
        match notice {
            Notice::Digit { digit, duration_ms, at_samples, passed_on } => {
                LegEvent::Digit { digit, duration_ms, at_samples, passed_on }
            }
            Notice::TimedOut => LegEvent::TimedOut,
            Notice::Latched { addr } => LegEvent::Latched { addr },
            Notice::RtcpBye => LegEvent::RtcpBye,
            Notice::Speaks(speaks) => LegEvent::Speaks(speaks),
        }
    }
}

impl std::fmt::Debug for LegPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LegPort").field("leg", &self.handle).field("rate", &self.rate).finish_non_exhaustive()
    }
}

impl Drop for LegPort {
    fn drop(&mut self) {
        self.handle.close();
    }
}

/// What a worker tells a leg's task besides sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notice {
    Digit { digit: char, duration_ms: u16, at_samples: u64, passed_on: bool },
    TimedOut,
    Latched { addr: SocketAddr },
    RtcpBye,
    Speaks(bool),
}

/// The atomics between a leg and its port. One side writes each of them, except `ready`.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Port: voice samples before this position are not to be sent.
    pub(crate) discard_before: AtomicU64,
    /// Port: gain of the voice, as bits of an `f32`.
    pub(crate) gain_bits: AtomicU32,
    /// Worker: position in the voice stream up to which samples were sent or skipped.
    pub(crate) position: AtomicU64,
    /// A wake-up is under way: set by the worker, cleared by the port before it waits.
    pub(crate) ready: AtomicBool,
    /// The same for whoever connects the leg.
    pub(crate) handshake_ready: AtomicBool,
    /// Worker or engine: no event follows.
    pub(crate) closed: AtomicBool,
    /// Worker: figures, published every so often.
    pub(crate) stats: SharedStats,
}

impl Shared {
    fn new() -> Self {
        Shared {
            discard_before: AtomicU64::new(0),
            gain_bits: AtomicU32::new(1.0_f32.to_bits()),
            position: AtomicU64::new(0),
            ready: AtomicBool::new(false),
            handshake_ready: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            stats: SharedStats::default(),
        }
    }
}

/// The port's ends of a leg's rings.
pub(crate) struct PortEnds {
    pub(crate) shared: Arc<Shared>,
    pub(crate) ear: Option<HeapCons<EarFrame>>,
    pub(crate) voice: Option<HeapProd<i16>>,
    pub(crate) notices: HeapCons<Notice>,
}

/// The leg's ends of its rings. They are dropped on the async side.
pub(crate) struct LegEnds {
    pub(crate) shared: Arc<Shared>,
    pub(crate) ear: Option<HeapProd<EarFrame>>,
    pub(crate) voice: Option<HeapCons<i16>>,
    pub(crate) notices: HeapProd<Notice>,
}

/// Both ends of a leg's rings, as large as its mode needs them.
pub(crate) fn ends(mode: LegMode, rate: SampleRate) -> (PortEnds, LegEnds) {
    let shared = Arc::new(Shared::new());
    let (notices_out, notices_in) = HeapRb::new(NOTICE_RING).split();
    let (mut ear_out, mut ear_in, mut voice_out, mut voice_in) = (None, None, None, None);
    if mode == LegMode::Talk {
        let (producer, consumer) = HeapRb::new(EAR_RING_FRAMES).split();
        (ear_out, ear_in) = (Some(producer), Some(consumer));
        let samples = rate.hz() as usize * VOICE_RING_MS / 1_000;
        let (producer, consumer) = HeapRb::new(samples).split();
        (voice_out, voice_in) = (Some(producer), Some(consumer));
    }
    (
        PortEnds { shared: Arc::clone(&shared), ear: ear_in, voice: voice_out, notices: notices_in },
        LegEnds { shared, ear: ear_out, voice: voice_in, notices: notices_out },
    )
}
