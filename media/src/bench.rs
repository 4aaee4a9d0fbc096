//! Legs for benches and for judging sound: run by hand, without a socket. No part of the interface.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};

use ringbuf::traits::{Consumer, Producer};

use crate::config::LegConfig;
use crate::error::MediaError;
use crate::jitter::JitterStats;
use crate::leg::{Channel, Joined, Leg, Outbox, Scratch};
use crate::port::PortEnds;
use crate::room::FRAME_MS;

const STEP: Duration = Duration::from_millis(1);
/// Where the packets of a leg for benches come from.
pub const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 4_000);

/// A leg in virtual time, with what a worker and a port would do around it.
pub struct LegBench {
    leg: Leg,
    ends: PortEnds,
    scratch: Box<Scratch>,
    now: Instant,
    sent: Counted,
}

/// Where packets end.
#[derive(Default)]
struct Counted(usize);

impl Outbox for Counted {
    fn send(&mut self, _channel: Channel, _to: SocketAddr, packet: &[u8]) -> bool {
        self.0 += usize::from(!std::hint::black_box(packet).is_empty());
        true
    }
}

impl LegBench {
    /// A leg as configured, that begins at `now`.
    ///
    /// # Errors
    ///
    /// The codec cannot be had.
    pub fn new(config: &LegConfig, now: Instant) -> Result<Self, MediaError> {
        let (leg, ends, _) = Leg::new(config, now, SystemTime::UNIX_EPOCH, None)?;
        Ok(LegBench { leg, ends, scratch: Box::default(), now, sent: Counted::default() })
    }

    /// 20 ms: a packet comes, `say` goes to the voice, what is due is done, what was heard is taken. How many packets
    /// the leg has sent so far.
    pub fn frame(&mut self, packet: &[u8], say: &[i16]) -> usize {
        self.leg.receive(self.now, packet, PEER, &mut self.scratch);
        if let Some(voice) = &mut self.ends.voice {
            voice.push_slice(say);
        }
        for _ in 0..20 {
            self.now += STEP;
            if self.leg.next_wake(self.now) <= self.now {
                self.leg.tick(self.now, &mut self.scratch, &mut self.sent);
            }
        }
        if let Some(ear) = &mut self.ends.ear {
            while ear.try_pop().is_some() {}
        }
        while self.ends.notices.try_pop().is_some() {}
        self.sent.0
    }
}

/// A leg in a room, in virtual time: what people and what the machine hear of what comes.
pub struct HeardBench {
    leg: Leg,
    ends: PortEnds,
    scratch: Box<Scratch>,
    sent: Counted,
    said: Box<[i16]>,
    ear: Vec<i16>,
}

impl HeardBench {
    /// A talking leg as configured, that begins at `now`.
    ///
    /// # Errors
    ///
    /// The codec cannot be had.
    pub fn new(config: &LegConfig, now: Instant) -> Result<Self, MediaError> {
        let (mut leg, ends, seam) = Leg::new(config, now, SystemTime::UNIX_EPOCH, None)?;
        leg.join(Box::new(Joined::new(now, (0, 0), false, config, seam, seam)?), now);
        let said = vec![0; seam.samples_in_ms(FRAME_MS)].into_boxed_slice();
        Ok(HeardBench { leg, ends, scratch: Box::default(), sent: Counted::default(), said, ear: Vec::new() })
    }

    /// A datagram comes.
    pub fn receive(&mut self, now: Instant, datagram: &[u8]) {
        self.leg.receive(now, datagram, PEER, &mut self.scratch);
        self.listen();
    }

    /// When the leg wants to be ticked.
    pub fn next_wake(&mut self, now: Instant) -> Instant {
        self.leg.next_wake(now)
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Instant) {
        self.leg.tick(now, &mut self.scratch, &mut self.sent);
        self.listen();
    }

    /// Fills `frame`, 20 ms, with what people hear next.
    pub fn play(&mut self, now: Instant, frame: &mut [i16]) {
        self.leg.read_for_room(now, frame, &mut self.said, &mut self.scratch);
    }

    /// What the machine has heard so far, on the leg's timeline, silence where there was none.
    pub fn ear(&self) -> &[i16] {
        &self.ear
    }

    /// What the jitter buffer counted.
    pub fn jitter(&self) -> JitterStats {
        self.leg.jitter()
    }

    fn listen(&mut self) {
        while let Some(frame) = self.ends.ear.as_mut().and_then(Consumer::try_pop) {
            let (at, sound) = (frame.at_samples as usize, frame.pcm.get(..frame.len).unwrap_or_default());
            self.ear.resize(self.ear.len().max(at + sound.len()), 0);
            if let Some(place) = self.ear.get_mut(at..at + sound.len()) {
                place.copy_from_slice(sound);
            }
        }
        while self.ends.notices.try_pop().is_some() {}
    }
}
