//! A leg for the benches: run by hand, without a socket. No part of the interface.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};

use ringbuf::traits::{Consumer, Producer};

use crate::config::LegConfig;
use crate::error::MediaError;
use crate::leg::{Channel, Leg, Outbox, Scratch};
use crate::port::PortEnds;

const STEP: Duration = Duration::from_millis(1);
const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 4_000);

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
