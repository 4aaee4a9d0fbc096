//! What a leg sends: sound, silence or comfort noise, keys, reports.

use std::net::SocketAddr;
use std::time::Instant;

use codecs::comfort_noise;

use super::joined::Named;
use super::outbound::SendFormat;
use super::{Channel, Leg, Outbox, Scratch};
use crate::config::LegConfig;
use crate::dtmf::DtmfSender;
use crate::rtp::HEADER_BYTES;
use crate::rtp::levels::{Levels, level_of};
use crate::srtp::payload_at;

/// Speech that goes on after fewer frames of silence than this had run out, not ended: the agent's own pauses are samples too.
const UNDERRUN_FRAMES: u32 = 10;
/// Silence of this many frames before comfort noise takes its place, where that is agreed.
pub(super) const SILENT_FRAMES_BEFORE_NOISE: u32 = 10;
/// Frames from one packet of comfort noise to the next.
const NOISE_EVERY_FRAMES: u32 = 10;
/// What we describe our silence as, in dBov.
const NOISE_LEVEL_DBOV: f64 = -75.0;

/// Events on their way out, and the clock they count on.
pub(super) struct DtmfOut {
    pub(super) sender: DtmfSender,
    pub(super) payload_type: u8,
    pub(super) clock_hz: u32,
}

/// What to send in the place of a frame.
enum Noise {
    /// The frame itself.
    No,
    /// Comfort noise, of this payload type.
    Send(u8),
    /// Nothing: comfort noise was sent a moment ago.
    Pause,
}

impl Leg {
    /// Sends what belongs at the time of the frame that is due: a key's tone, sound, silence, or nothing.
    pub(super) fn send_frame(&mut self, now: Instant, scratch: &mut Scratch, out: &mut impl Outbox) {
        let Some(to) = self.latch.send_to().filter(|_| self.guard.is_open()) else {
            // Nobody to send to yet, or no keys. What the agent says waits; an echo has nothing to say yet.
            self.outbound.leave_out();
            return;
        };
        if let Some(size) = self.key_packet(scratch) {
            if let Some(voice) = &mut self.voice {
                voice.drop_old(&self.shared);
            }
            self.send_rtp(size, to, scratch, out);
            return;
        }
        let samples = self.outbound.format.seam_samples();
        let Some(frame) = scratch.frame.get_mut(..samples) else { return };
        let by_voice = self.joined.is_none() && self.voice.is_some();
        let speech = match (&mut self.joined, &mut self.voice) {
            (Some(joined), _) => Self::take_from_room(joined, frame),
            (None, Some(voice)) => voice.take(&self.shared, frame) > 0,
            (None, None) => {
                self.inbound.play(now, frame, &mut scratch.work);
                true
            }
        };
        let music = self.music.as_mut().filter(|_| by_voice && !speech);
        let plays = music.is_some();
        if let Some(music) = music {
            music.fill(frame);
        }
        if by_voice && speech && self.spoken && (1..UNDERRUN_FRAMES).contains(&self.silent_frames) {
            self.stats.voice_ring_underruns += 1;
        }
        self.spoken |= speech && by_voice;
        let at_samples = self.samples_at(self.outbound.next_send());
        // In a room the tone that tells of the recording is there already.
        let has_tone = match &mut self.record {
            Some(record) if self.joined.is_none() && !self.recording_paused => record.add_tone(at_samples, frame),
            _ => false,
        };
        let speech = speech || plays || has_tone;
        self.silent_frames = if speech { 0 } else { self.silent_frames.saturating_add(1) };
        if speech && self.joined.is_none() {
            self.record_played(at_samples, frame);
        }
        if let Some(ear) = &mut self.ear {
            ear.sent(at_samples, frame);
        }
        let named = self.joined.as_ref().map_or(Named::default(), |joined| joined.sources);
        let size = match self.noise_due() {
            Noise::No => {
                let own = self.levels.send.map(|id| (id, level_of(frame)));
                let levels = Levels::new(own, self.levels.send_mixed.map(|id| (id, named.levels())));
                let front = HEADER_BYTES + 4 * named.sources().len() + levels.bytes().len();
                let payload = scratch.packet.get_mut(front..).unwrap_or_default();
                match self.outbound.format.encode(frame, &mut scratch.work.convert, payload) {
                    0 => None,
                    bytes => Some(self.outbound.sound(&mut scratch.packet, named.sources(), &levels, bytes)),
                }
            }
            Noise::Send(payload_type) => {
                // Whoever is named spoke a while ago.
                if let Some(level) = scratch.packet.get_mut(HEADER_BYTES) {
                    *level = comfort_noise::level_byte(NOISE_LEVEL_DBOV);
                }
                Some(self.outbound.comfort_noise(&mut scratch.packet, payload_type, 1))
            }
            Noise::Pause => None,
        };
        match size {
            Some(size) => self.send_rtp(size, to, scratch, out),
            None => self.outbound.leave_out(),
        }
        if let Some(voice) = &self.voice {
            voice.publish(&self.shared);
        }
    }

    /// Whether comfort noise takes this frame's place.
    fn noise_due(&self) -> Noise {
        let Some(payload_type) = self.outbound.format.comfort_noise() else { return Noise::No };
        match self.silent_frames.checked_sub(SILENT_FRAMES_BEFORE_NOISE) {
            None => Noise::No,
            Some(frames) if frames % NOISE_EVERY_FRAMES == 0 => Noise::Send(payload_type),
            Some(_) => Noise::Pause,
        }
    }

    /// The packet of a key that is being pressed, where there is one.
    fn key_packet(&mut self, scratch: &mut Scratch) -> Option<usize> {
        let dtmf = self.dtmf_out.as_mut()?;
        let timestamp = self.outbound.timestamp_on(dtmf.clock_hz);
        let event = dtmf.sender.next(timestamp)?;
        if let Some(place) = scratch.packet.get_mut(HEADER_BYTES..HEADER_BYTES + event.payload.len()) {
            place.copy_from_slice(&event.payload);
        }
        self.stats.digits_out += u64::from(event.marker);
        let (packet, payload_bytes) = (&mut scratch.packet[..], event.payload.len());
        Some(self.outbound.event(packet, dtmf.payload_type, event.marker, event.timestamp, payload_bytes))
    }

    pub(super) fn send_rtp(&mut self, size: usize, to: SocketAddr, scratch: &mut Scratch, out: &mut impl Outbox) {
        let payload_at = scratch.packet.get(..size).and_then(payload_at).unwrap_or(HEADER_BYTES);
        let sealed = self.guard.seal(&mut scratch.packet, size);
        let Some(packet) = sealed.and_then(|sealed| scratch.packet.get(..sealed)) else { return };
        if out.send(Channel::Rtp, to, packet) {
            self.stats.packets_out += 1;
            self.stats.bytes_out += size.saturating_sub(payload_at) as u64;
        } else {
            self.stats.send_errors += 1;
        }
    }

    /// Sends an RTCP report if one is due.
    pub(super) fn report(&mut self, now: Instant, scratch: &mut Scratch, out: &mut impl Outbox) {
        if now < self.rtcp.next_wake() {
            return;
        }
        let counts = self.outbound.counts(now);
        if let Some(size) = self.rtcp.tick(now, &counts, self.source.as_mut(), &mut scratch.packet) {
            let metrics = self.metrics().filter(|_| self.rtcp_xr);
            let size = metrics.map_or(size, |metrics| self.rtcp.extend(&metrics, size, &mut scratch.packet));
            self.send_rtcp(size, scratch, out);
        }
    }

    pub(super) fn send_rtcp(&mut self, size: usize, scratch: &mut Scratch, out: &mut impl Outbox) {
        let to = if self.rtcp_mux { self.latch.send_to() } else { self.latch.send_rtcp_to() };
        let channel = if self.rtcp_mux { Channel::Rtp } else { Channel::Rtcp };
        let Some(size) = self.guard.seal_rtcp(channel, &mut scratch.packet, size) else { return };
        if let (Some(to), Some(packet)) = (to, scratch.packet.get(..size))
            && !out.send(channel, to, packet)
        {
            self.stats.send_errors += 1;
        }
    }
}

impl DtmfOut {
    pub(super) fn new(config: &LegConfig, format: &SendFormat) -> Option<Self> {
        let dtmf = config.dtmf?;
        let clock_hz = dtmf.clock_hz.max(1);
        let packet_ticks = u64::from(format.ticks()) * u64::from(clock_hz) / u64::from(format.clock_hz().max(1));
        let sender = DtmfSender::new(clock_hz, packet_ticks as u32);
        Some(DtmfOut { sender, payload_type: dtmf.payload_type_send, clock_hz })
    }
}
