//! The direction that we protect.

use super::keys::SessionKeys;
use super::{MasterKey, payload_at, seq_of, ssrc_of};

/// Protects what we send: one stream, in order but for packets that are passed on out of order. No sequence number may come twice.
pub struct Sender {
    keys: SessionKeys,
    /// How often the sequence number wrapped (the rollover counter, RFC 3711 section 3.3.1).
    roc: u32,
    last_seq: Option<u16>,
    rtcp_index: u32,
}

impl Sender {
    /// A sender whose stream begins now.
    #[must_use]
    pub fn new(master: &MasterKey) -> Sender {
        Sender { keys: SessionKeys::new(master), roc: 0, last_seq: None, rtcp_index: 0 }
    }

    /// Goes on where `former` was: other keys for the same stream do not set the rollover counter back.
    pub fn succeed(&mut self, former: &Sender) {
        self.roc = former.roc;
        self.last_seq = former.last_seq;
    }

    /// Protects the RTP packet of `len` bytes at the front of `buffer`; returns its size now. `None` where there is no room, or it
    /// is no packet.
    pub fn protect(&mut self, buffer: &mut [u8], len: usize) -> Option<usize> {
        let packet = buffer.get(..len)?;
        let (clear, seq, ssrc) = (payload_at(packet)?, seq_of(packet), ssrc_of(packet, 8));
        let roc = self.roll(seq)?;
        self.keys.seal_rtp(buffer, len, clear, ssrc, roc, seq)
    }

    /// The rollover counter that belongs to `seq`, which may lie behind the newest; `None` where it lies before the stream's beginning.
    fn roll(&mut self, seq: u16) -> Option<u32> {
        let Some(last) = self.last_seq else {
            self.last_seq = Some(seq);
            return Some(self.roc);
        };
        if seq.wrapping_sub(last) as i16 >= 0 {
            self.roc = if seq < last { self.roc.wrapping_add(1) } else { self.roc };
            self.last_seq = Some(seq);
            return Some(self.roc);
        }
        if seq > last { self.roc.checked_sub(1) } else { Some(self.roc) }
    }

    /// Protects the compound RTCP packet of `len` bytes at the front of `buffer`; returns its size now.
    pub fn protect_rtcp(&mut self, buffer: &mut [u8], len: usize) -> Option<usize> {
        let ssrc = ssrc_of(buffer.get(..len).filter(|packet| packet.len() >= 8)?, 4);
        self.rtcp_index = (self.rtcp_index + 1) & 0x7fff_ffff;
        self.keys.seal_rtcp(buffer, len, ssrc, self.rtcp_index)
    }
}
