//! A leg: one peer's sound both ways, as a state machine without I/O.
//!
//! [`Leg::receive`] and [`Leg::receive_rtcp`] take datagrams, [`Leg::tick`] sends what is due through an [`Outbox`],
//! [`Leg::next_wake`] says when to call it. Whatever a leg needs is made with it: neither of these allocates, locks, logs
//! or reads a clock, and nothing that a peer sends panics. Frames are sent at the codec's pace from the leg's start to
//! its end (silence too, so that NAT bindings and impatient peers stay), unless the direction says otherwise.
//!
//! One timeline counts samples since the leg was opened, at the rate of its port: the ear's frames, digits and both sides
//! of a recording are placed on it.

mod ear;
mod guard;
mod inbound;
mod joined;
mod music;
mod outbound;
pub(crate) mod passing;
mod playing;
mod quality;
mod retune;
mod sending;
mod sent;
#[cfg(test)]
mod tests;
mod voice;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use codecs::pcm::SampleRate;
use ringbuf::HeapProd;
use ringbuf::traits::Producer;

use self::ear::Ear;
use self::guard::{Clear, Guard};
pub(crate) use self::guard::{Datagram, GuardChange, HANDSHAKE_RING, Keys};
use self::inbound::{Inbound, Kind};
pub(crate) use self::joined::Joined;
pub(crate) use self::music::Music;
use self::outbound::{Outbound, SendFormat};
pub(crate) use self::passing::Passing;
pub(crate) use self::retune::Retune;
use self::sending::DtmfOut;
use self::voice::Voice;
use crate::config::{Direction, LegConfig, LegMode, LevelFormat, Security};
use crate::dtmf::{DtmfEvent, DtmfReceiver, InbandReceiver};
use crate::error::MediaError;
use crate::io::record::RecordSink;
use crate::jitter::JitterStats;
use crate::latch::{Latch, LatchConfig, LatchPolicy, LatchVerdict, PayloadTypes, Refusal};
use crate::port::{self, Notice, PortEnds, Shared};
use crate::quality::Bursts;
use crate::rtcp::{NtpTime, RtcpConfig, RtcpSession};
use crate::rtp::{self, HEADER_BYTES, RtpPacket, RtpTime, Source};
use crate::stats::LegStats;

/// Samples of the longest packet: 120 ms at 48 kHz.
pub const MAX_FRAME_SAMPLES: usize = 5_760;
/// The largest packet we send: 60 ms of L16 at 48 kHz.
const MAX_PACKET_BYTES: usize = 6_144;
/// Keys that can be let go in what is heard at once: the ear's patience is shorter than a key and its pause.
const KEYS_AT_ONCE: usize = 4;
/// Figures are published this often.
const PUBLISH_EVERY: Duration = Duration::from_millis(100);
/// Buffers that a worker lends to whichever leg it runs.
pub struct Scratch {
    work: Work,
    frame: [i16; MAX_FRAME_SAMPLES],
    packet: [u8; MAX_PACKET_BYTES],
    clear: Clear,
}

/// Where sound is decoded to (`pcm`), by way of `convert` where its rate has to be changed.
struct Work {
    pcm: [i16; MAX_FRAME_SAMPLES],
    convert: [i16; MAX_FRAME_SAMPLES],
}

impl Default for Scratch {
    fn default() -> Self {
        let work = Work { pcm: [0; MAX_FRAME_SAMPLES], convert: [0; MAX_FRAME_SAMPLES] };
        Scratch { work, frame: [0; MAX_FRAME_SAMPLES], packet: [0; MAX_PACKET_BYTES], clear: Clear::default() }
    }
}

/// Which of a leg's two sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// The even port.
    Rtp,
    /// The odd port.
    Rtcp,
}

/// Where a leg's packets go.
pub trait Outbox {
    /// Sends one packet; whether it was taken.
    fn send(&mut self, channel: Channel, to: SocketAddr, packet: &[u8]) -> bool;
}

/// One peer's sound, both ways.
pub struct Leg {
    shared: Arc<Shared>,
    notices: HeapProd<Notice>,
    mode: LegMode,
    direction: Direction,
    rtcp_mux: bool,
    rtcp_xr: bool,
    levels: LevelFormat,
    guard: Guard,
    seam: SampleRate,
    started: Instant,
    latch: Latch,
    inbound: Box<Inbound>,
    /// The peer's stream as receiver reports count it.
    source: Option<Source>,
    /// How its losses lie.
    bursts: Bursts,
    /// Lost before the present source began.
    lost_before: u64,
    /// What jitter buffers before the present one counted.
    jitter_before: JitterStats,
    /// Whether a packet was put into `inbound` yet.
    inbound_begun: bool,
    ear: Option<Box<Ear>>,
    ear_end_samples: u64,
    dtmf_in: DtmfReceiver,
    /// Where the peer did not agree to events: keys are tones in its sound.
    inband: Option<Box<InbandReceiver>>,
    pressed_at_samples: u64,
    outbound: Outbound,
    voice: Option<Voice>,
    dtmf_out: Option<DtmfOut>,
    joined: Option<Box<Joined>>,
    /// When something of the peer's came that can be heard, or a key of its that is passed on.
    sounded: Option<Instant>,
    /// The key that the peer presses, or pressed last, is passed on; its latest timestamp.
    key_passes: bool,
    key_timestamp: RtpTime,
    music: Option<Box<Music>>,
    /// What the peer says goes to the port.
    tapped: bool,
    /// The recording, where there is one, gets silence.
    recording_paused: bool,
    silent_frames: u32,
    /// Something was said already.
    spoken: bool,
    rtcp: RtcpSession,
    record: Option<Box<RecordSink>>,
    /// What the peer says of our sound, in hundredths; 0 where it does not.
    told_mos: u64,
    media_timeout: Option<Duration>,
    heard: Instant,
    timed_out: bool,
    publish_at: Instant,
    /// Tests have it fail.
    #[cfg(test)]
    pub(crate) fails: bool,
    /// The same where it is told something: a key to send, a room, that it ends.
    #[cfg(test)]
    pub(crate) fails_told: bool,
    stats: LegStats,
    /// There is something for the port.
    ready: bool,
    /// There is something for whoever connects the leg.
    handshake_ready: bool,
    /// What `next_wake` said last.
    wake: Instant,
}

impl Leg {
    /// A leg that begins at `now`, which is `wall` on the wall clock, with its port's ends and the rate they count in.
    pub(crate) fn new(
        config: &LegConfig,
        now: Instant,
        wall: SystemTime,
        record: Option<Box<RecordSink>>,
    ) -> Result<(Leg, PortEnds, SampleRate), MediaError> {
        let seam = config.codec.audio_rate;
        let (port_ends, ends) = port::ends(config.mode, seam);
        let listened = config.mode == LegMode::Talk || record.is_some();
        let inbound = Box::new(Inbound::new(now, config, listened, config.mode == LegMode::Echo, seam)?);
        let outbound = Outbound::new(now, SendFormat::new(config, seam)?, config.seed);
        let since_1970 = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let rtcp = RtcpSession::new(
            now,
            RtcpConfig {
                ssrc: outbound.ssrc(),
                cname: config.cname.clone(),
                seed: !config.seed,
                bandwidth_bps: 64_000,
                minimum_interval: Duration::from_secs(5),
                ntp_at_start: NtpTime::from_unix(since_1970),
            },
        );
        let leg = Leg {
            shared: ends.shared,
            notices: ends.notices,
            mode: config.mode,
            direction: config.direction,
            rtcp_mux: config.rtcp_mux,
            rtcp_xr: config.rtcp_xr,
            levels: config.levels,
            guard: guard_of(config),
            seam,
            started: now,
            latch: Latch::new(now, latch_config(config)),
            inbound,
            source: None,
            bursts: Bursts::default(),
            lost_before: 0,
            jitter_before: JitterStats::default(),
            inbound_begun: false,
            ear: ends.ear.map(|ring| Box::new(Ear::new(ring, seam))),
            ear_end_samples: 0,
            dtmf_in: DtmfReceiver::new(dtmf_clock_hz(config)),
            inband: inband_of(config, seam),
            pressed_at_samples: 0,
            dtmf_out: DtmfOut::new(config, &outbound.format),
            outbound,
            voice: ends.voice.map(Voice::new),
            joined: None,
            sounded: None,
            key_passes: false,
            key_timestamp: RtpTime(0),
            music: None,
            tapped: true,
            recording_paused: false,
            silent_frames: 0,
            spoken: false,
            rtcp,
            record,
            told_mos: 0,
            media_timeout: config.media_timeout,
            heard: now,
            timed_out: false,
            publish_at: now + PUBLISH_EVERY,
            #[cfg(test)]
            fails: false,
            #[cfg(test)]
            fails_told: false,
            stats: LegStats::default(),
            ready: false,
            handshake_ready: false,
            wake: now,
        };
        Ok((leg, port_ends, seam))
    }

    /// The datagram to come came to this address of ours.
    pub(crate) fn reached_at(&mut self, local: IpAddr) {
        self.guard.reached_at(local);
    }

    /// Takes a datagram of the RTP socket. Where what comes is passed on to another leg, that is to send what this returns, which
    /// stands in `scratch` until then.
    pub(crate) fn receive(
        &mut self,
        now: Instant,
        datagram: &[u8],
        from: SocketAddr,
        scratch: &mut Scratch,
    ) -> Option<Passing> {
        if self.hand_over(Channel::Rtp, datagram, from) {
            return None;
        }
        let Scratch { work, clear, packet: place, .. } = scratch;
        if self.rtcp_mux && rtp::is_rtcp(datagram) {
            if self.latch.believes(from) {
                self.take_rtcp(now, Channel::Rtp, datagram, clear);
            } else {
                self.stats.not_the_peer += 1;
            }
            return None;
        }
        let Ok(datagram) = self.guard.open(datagram, clear) else {
            self.stats.bad_tags += 1;
            return None;
        };
        let Ok(packet) = RtpPacket::parse(datagram) else {
            self.stats.malformed += 1;
            return None;
        };
        match self.latch.receive(now, from, &packet) {
            LatchVerdict::Accept => {}
            LatchVerdict::Latched(addr) => self.tell(Notice::Latched { addr }),
            LatchVerdict::Refuse(Refusal::PayloadType) => {
                self.stats.malformed += 1;
                return None;
            }
            LatchVerdict::Refuse(_) => {
                self.stats.not_the_peer += 1;
                return None;
            }
        }
        self.heard = now;
        self.timed_out = false;
        self.stats.packets_in += 1;
        self.stats.bytes_in += packet.payload.len() as u64;
        self.account(now, &packet);
        if let Some(level) = self.told_level(&packet) {
            self.stats.levels_in += 1;
            self.stats.level_in = u64::from(level);
        }
        if !self.direction.receives() {
            return None;
        }
        self.take_packet(now, &packet, work, place.get_mut(HEADER_BYTES..).unwrap_or_default())
    }

    /// Takes a datagram of the RTCP socket.
    pub fn receive_rtcp(&mut self, now: Instant, datagram: &[u8], from: SocketAddr, scratch: &mut Scratch) {
        if self.hand_over(Channel::Rtcp, datagram, from) {
            return;
        }
        if self.latch.receive_rtcp(from) {
            self.take_rtcp(now, Channel::Rtcp, datagram, &mut scratch.clear);
        } else {
            self.stats.not_the_peer += 1;
        }
    }

    /// Does what is due: frames, reports, a missing packet given up, a silent peer noticed.
    pub fn tick(&mut self, now: Instant, scratch: &mut Scratch, out: &mut impl Outbox) {
        #[cfg(test)]
        assert!(!self.fails, "on purpose");
        if self.sends_frames() {
            while self.outbound.is_due(now) {
                self.send_frame(now, scratch, out);
                self.outbound.advance();
            }
        } else if let Some(voice) = &mut self.voice {
            voice.drop_old(&self.shared);
        }
        if self.inbound.ear_wake(now).is_some_and(|due| due <= now) {
            self.hear(now, &mut scratch.work);
        }
        if let Some(event) = self.dtmf_in.tick(now) {
            self.take_key(event);
        }
        self.report(now, scratch, out);
        self.watch_for_silence(now);
        if now >= self.publish_at {
            self.publish();
            self.publish_at = now + PUBLISH_EVERY;
        }
    }

    /// When `tick` has something to do.
    pub fn next_wake(&mut self, now: Instant) -> Instant {
        let mut wake = self.rtcp.next_wake().min(self.publish_at);
        if self.sends_frames() {
            wake = wake.min(self.outbound.next_send());
        }
        if let Some(due) = self.ear_due(now) {
            wake = wake.min(due);
        }
        self.wake = wake;
        wake
    }

    /// Whether what came since the last `next_wake` makes the next tick due earlier than that said.
    pub(crate) fn wants_earlier_wake(&self, now: Instant) -> bool {
        self.ear_due(now).is_some_and(|due| due < self.wake)
    }

    /// Says goodbye to the peer. Nothing follows.
    pub fn close(&mut self, now: Instant, scratch: &mut Scratch, out: &mut impl Outbox) {
        #[cfg(test)]
        assert!(!self.fails_told, "on purpose");
        let counts = self.outbound.counts(now);
        if let Ok(size) = self.rtcp.goodbye(now, &counts, self.source.as_mut(), "", &mut scratch.packet) {
            self.send_rtcp(size, scratch, out);
        }
        self.publish();
    }

    /// Queues a key press; one too many is left out.
    pub(crate) fn send_digit(&mut self, digit: char, duration_ms: u16) {
        #[cfg(test)]
        assert!(!self.fails_told, "on purpose");
        if let Some(dtmf) = &mut self.dtmf_out {
            let _ = dtmf.sender.queue(digit, Duration::from_millis(u64::from(duration_ms)));
        }
    }

    /// Whether what the peer says goes to the port. Where it does not, and nobody records, nothing is decoded for it.
    pub(crate) fn set_tapped(&mut self, tapped: bool) {
        self.tapped = tapped;
    }

    /// Goes into a recording, or into none; gives back the way to the one it was in.
    pub(crate) fn exchange_record(&mut self, sink: Option<Box<RecordSink>>) -> Option<Box<RecordSink>> {
        std::mem::replace(&mut self.record, sink)
    }

    /// Whether it is in a recording.
    pub(crate) fn is_recorded(&self) -> bool {
        self.record.is_some()
    }

    /// Whether the recording gets silence in the place of what is said.
    pub(crate) fn pause_recording(&mut self, paused: bool) {
        self.recording_paused = paused;
    }

    /// Hands what is played to the peer to the recording, where there is one.
    fn record_played(&mut self, at_samples: u64, pcm: &[i16]) {
        if let Some(record) = self.record.as_mut().filter(|_| !self.recording_paused) {
            self.stats.record_ring_drops += record.push_played(at_samples, pcm);
        }
    }

    /// Whether the port has to be woken: there is something for it, and no wake-up is under way.
    pub(crate) fn take_ready(&mut self) -> bool {
        std::mem::take(&mut self.ready) && !self.shared.ready.swap(true, Ordering::AcqRel)
    }

    /// The figures so far.
    #[must_use]
    pub fn stats(&self) -> LegStats {
        self.stats
    }

    /// What the jitter buffer has counted.
    pub(crate) fn jitter(&self) -> JitterStats {
        self.inbound.jitter().stats()
    }

    /// Whether frames of our own are sent, each at its time.
    fn sends_frames(&self) -> bool {
        self.mode != LegMode::Sink && self.direction.sends() && !self.rests()
    }

    fn ear_due(&self, now: Instant) -> Option<Instant> {
        let key_up = self.dtmf_in.next_wake();
        match (self.inbound.ear_wake(now), key_up) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// The level that the peer says a packet's sound has.
    fn told_level(&self, packet: &RtpPacket<'_>) -> Option<u8> {
        packet.extension?.level(self.levels.receive?)
    }

    /// Counts a packet for reports and figures.
    fn account(&mut self, now: Instant, packet: &RtpPacket<'_>) {
        self.bursts.receive(packet.seq);
        match &mut self.source {
            Some(source) if source.ssrc() == packet.ssrc => {
                source.receive(now, packet);
            }
            source => {
                self.lost_before += source.as_ref().map_or(0, |source| source.report().lost);
                let source = source.insert(Source::new(now, self.inbound.clock_hz(), packet));
                source.receive(now, packet);
            }
        }
    }

    /// Takes a packet of the peer's. Where it is passed on, its payload is put into `place`.
    fn take_packet(
        &mut self,
        now: Instant,
        packet: &RtpPacket<'_>,
        work: &mut Work,
        place: &mut [u8],
    ) -> Option<Passing> {
        let kind = self.inbound.kind(packet.payload_type);
        if !self.inbound_begun {
            self.inbound_begun = true;
            let here = self.samples_at(now).max(self.ear_end_samples);
            self.inbound.begin_at(here);
        }
        let ticks = self.inbound.push(now, packet, kind);
        let mut is_passed_key = false;
        match kind {
            Kind::Event => is_passed_key = self.take_event(now, packet),
            Kind::Sound => {
                self.sounded = Some(now);
                if let Some(event) = self.dtmf_in.sound(packet.timestamp) {
                    self.take_key(event);
                }
            }
            Kind::ComfortNoise | Kind::Unknown => {}
        }
        self.hear(now, work);
        self.passing(packet, kind, is_passed_key, ticks, place)
    }

    /// Takes a packet of a key; whether the key is passed on.
    fn take_event(&mut self, now: Instant, packet: &RtpPacket<'_>) -> bool {
        for event in self.dtmf_in.receive(now, packet.timestamp, packet.marker, packet.payload) {
            if let DtmfEvent::Pressed { .. } = event {
                self.key_passes = self.gives_keys();
            }
            self.take_key(event);
        }
        if self.dtmf_in.is_pressed() {
            self.key_timestamp = packet.timestamp;
        }
        let passes = self.key_passes && self.gives_keys() && packet.timestamp == self.key_timestamp;
        if passes {
            self.sounded = Some(now);
        }
        passes
    }

    fn hear(&mut self, now: Instant, work: &mut Work) {
        let (ear, record, stats, end) = (&mut self.ear, &mut self.record, &mut self.stats, &mut self.ear_end_samples);
        let (ready, seam) = (&mut self.ready, self.seam);
        let (tapped, paused) = (self.tapped, self.recording_paused);
        let (inband, mut keys) = (&mut self.inband, [None; KEYS_AT_ONCE]);
        self.inbound.hear(now, work, tapped || record.is_some(), |piece| {
            *end = piece.at_samples + piece.samples.len() as u64;
            if let Some(key) = inband.as_mut().and_then(|inband| inband.push(piece.samples)) {
                let began = end.saturating_sub(key.began_samples_ago as u64);
                if let Some(place) = keys.iter_mut().find(|place| place.is_none()) {
                    *place = Some((key, began));
                }
            }
            if piece.concealed {
                stats.concealed_ms += piece.samples.len() as u64 * 1_000 / u64::from(seam.hz().max(1));
            }
            if let Some(record) = record.as_mut().filter(|_| !paused) {
                stats.record_ring_drops += record.push_peer(piece.at_samples, piece.samples);
            }
            if let Some(ear) = ear.as_mut().filter(|_| tapped) {
                ear.push(&piece, stats);
                *ready = true;
            }
        });
        for (key, at_samples) in keys.into_iter().flatten() {
            self.stats.digits_in += 1;
            let duration_ms = u16::try_from(key.duration.as_millis()).unwrap_or(u16::MAX);
            self.tell(Notice::Digit { digit: key.digit, duration_ms, at_samples, passed_on: false });
        }
    }

    fn take_key(&mut self, event: DtmfEvent) {
        match event {
            DtmfEvent::Pressed { .. } => self.pressed_at_samples = self.ear_end_samples,
            DtmfEvent::Released { digit, duration, .. } => {
                self.stats.digits_in += 1;
                let duration_ms = u16::try_from(duration.as_millis()).unwrap_or(u16::MAX);
                let (at_samples, passed_on) = (self.pressed_at_samples, self.key_passes);
                self.tell(Notice::Digit { digit, duration_ms, at_samples, passed_on });
            }
        }
    }

    /// Whether a datagram is one of a handshake: then the async side has it.
    fn hand_over(&mut self, channel: Channel, datagram: &[u8], from: SocketAddr) -> bool {
        let Some(taken) = self.guard.hand_over(channel, datagram, from) else { return false };
        self.handshake_ready = true;
        self.stats.handshake_drops += u64::from(!taken);
        true
    }

    /// Changes how packets are protected, or where they go; leaves behind what was there before.
    pub(crate) fn secure(&mut self, change: &mut GuardChange) {
        if let GuardChange::Aim(channel, to) = change {
            self.latch.aim(*channel == Channel::Rtcp, *to);
        }
        self.guard.change(change);
    }

    /// Whether whoever connects the leg has to be woken.
    pub(crate) fn take_handshake_ready(&mut self) -> bool {
        std::mem::take(&mut self.handshake_ready) && !self.shared.handshake_ready.swap(true, Ordering::AcqRel)
    }

    fn take_rtcp(&mut self, now: Instant, channel: Channel, datagram: &[u8], clear: &mut Clear) {
        let Ok(datagram) = self.guard.open_rtcp(channel, datagram, clear) else {
            self.stats.bad_tags += 1;
            return;
        };
        let Ok(received) = self.rtcp.receive(now, datagram, self.latch.ssrc()) else {
            self.stats.malformed += 1;
            return;
        };
        self.heard = now;
        self.timed_out = false;
        if let Some(round_trip) = received.round_trip {
            self.stats.round_trip_us = round_trip.as_micros() as u64;
        }
        if let Some(report) = received.report {
            self.stats.remote_fraction_lost = u64::from(report.fraction_lost);
            self.stats.remote_lost = u64::try_from(report.cumulative_lost).unwrap_or(0);
            let percent = (u32::from(report.fraction_lost) * 100 / 256) as u8;
            self.outbound.format.set_expected_loss_percent(percent);
        }
        if let Some(mos) = received.metrics.and_then(|metrics| metrics.mos_cq.or(metrics.mos_lq)) {
            self.told_mos = u64::from(mos) * 10;
        }
        if received.bye {
            self.tell(Notice::RtcpBye);
        }
    }

    fn watch_for_silence(&mut self, now: Instant) {
        let Some(timeout) = self.media_timeout.filter(|_| self.direction.receives()) else { return };
        if !self.timed_out && now.saturating_duration_since(self.heard) >= timeout {
            self.timed_out = true;
            self.tell(Notice::TimedOut);
        }
    }

    fn tell(&mut self, notice: Notice) {
        // Sixteen notices that nobody takes: the port's task is stuck, and one more will not free it.
        if self.notices.try_push(notice).is_err() {
            self.stats.ear_ring_drops += 1;
        }
        self.ready = true;
    }

    /// Position on the leg's timeline.
    fn samples_at(&self, at: Instant) -> u64 {
        let nanos = at.saturating_duration_since(self.started).as_nanos();
        u64::try_from(nanos * u128::from(self.seam.hz()) / 1_000_000_000).unwrap_or(0)
    }

    /// Shows the figures to whoever asks the port.
    fn publish(&mut self) {
        let jitter = self.inbound.jitter().stats();
        let stats = &mut self.stats;
        if let Some(source) = &self.source {
            let report = source.report();
            stats.lost = self.lost_before + report.lost;
            stats.jitter_us = u64::from(report.jitter_us);
            stats.jitter_max_us = stats.jitter_max_us.max(stats.jitter_us);
        }
        let former = &self.jitter_before;
        stats.late = former.late + jitter.late;
        stats.duplicates = former.duplicates + jitter.duplicates;
        stats.reordered = former.reordered + jitter.reordered;
        stats.overflowed = former.overflowed + jitter.overflowed;
        stats.resyncs = former.resyncs + jitter.resyncs;
        stats.playout_delay_ms = self.inbound.jitter().playout_target().as_millis() as u64;
        self.rate();
        let stats = &self.stats;
        self.shared.stats.publish(stats);
    }
}

fn latch_config(config: &LegConfig) -> LatchConfig {
    let mut types = PayloadTypes::new().with(config.payload_type_recv);
    if let Some(dtmf) = config.dtmf {
        types = types.with(dtmf.payload_type_recv);
    }
    if let Some(payload_type) = config.comfort_noise_payload_type {
        types = types.with(payload_type);
    }
    // Whoever has the keys is the peer; a handshake, or ICE, finds out where that is.
    let policy = if matches!(config.security, Security::Dtls(_)) { LatchPolicy::Aimed } else { config.latch };
    LatchConfig {
        remote_rtcp: config.remote_rtcp,
        signalling: config.signalling,
        policy,
        ..LatchConfig::new(config.remote, types, outbound::clock_hz(config), config.seed)
    }
}

fn guard_of(config: &LegConfig) -> Guard {
    let mut guard = Guard::new(&config.security);
    if matches!(config.security, Security::Dtls(_)) && !config.rtcp_mux {
        guard.expect_rtcp_keys();
    }
    guard
}

/// Whoever has agreed to events does not send tones besides; where both came, each key would be told twice.
fn inband_of(config: &LegConfig, seam: SampleRate) -> Option<Box<InbandReceiver>> {
    let listens = config.dtmf.is_none() && config.mode == LegMode::Talk;
    listens.then(|| Box::new(InbandReceiver::new(seam)))
}

fn dtmf_clock_hz(config: &LegConfig) -> u32 {
    config.dtmf.map_or(8_000, |dtmf| dtmf.clock_hz)
}
