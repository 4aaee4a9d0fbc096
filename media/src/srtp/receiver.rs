//! The direction that the peer protects: which packet it is, whether it came before, and what it holds.

use super::keys::SessionKeys;
use super::{MasterKey, SrtpError, payload_at, seq_of, ssrc_of};

/// Sources of one peer that are told apart; more of them take the place of whoever was silent longest.
const SOURCES: usize = 4;
/// Packets back from the newest that can still be taken (RFC 3711 section 3.3.2 asks for 64).
const WINDOW: u64 = 128;

/// Opens what the peer sends.
pub struct Receiver {
    keys: SessionKeys,
    sources: [Option<Source>; SOURCES],
    /// Counts packets that were taken.
    taken: u64,
    rtcp: Window,
}

/// What is known of one SSRC.
#[derive(Debug, Clone, Copy)]
struct Source {
    ssrc: u32,
    window: Window,
    last_taken: u64,
    /// Its counter is that of the former keys: some peers begin anew with new keys.
    inherited: bool,
}

/// Which indexes were taken.
#[derive(Debug, Clone, Copy, Default)]
struct Window {
    newest: Option<u64>,
    seen: u128,
}

impl Window {
    /// Whether a packet of this index can be taken.
    fn admits(&self, index: u64) -> bool {
        match self.newest {
            None => true,
            Some(newest) if index > newest => true,
            Some(newest) => newest - index < WINDOW && self.seen >> (newest - index) & 1 == 0,
        }
    }

    fn note(&mut self, index: u64) {
        match self.newest {
            Some(newest) if index <= newest => self.seen |= 1 << (newest - index).min(127),
            Some(newest) => {
                let ahead = index - newest;
                self.seen = if ahead >= WINDOW { 0 } else { self.seen << ahead } | 1;
                self.newest = Some(index);
            }
            None => *self = Window { newest: Some(index), seen: 1 },
        }
    }

    /// The rollover counter that makes this sequence number come next to the newest (RFC 3711 section 3.3.1).
    fn roc_of(&self, seq: u16) -> u32 {
        let Some(newest) = self.newest else { return 0 };
        let (roc, last) = ((newest >> 16) as u32, newest as u16);
        if last < 0x8000 {
            if seq.wrapping_sub(last) > 0x8000 && seq > last { roc.wrapping_sub(1) } else { roc }
        } else if last - 0x8000 > seq {
            roc.wrapping_add(1)
        } else {
            roc
        }
    }
}

impl Receiver {
    /// A receiver that has heard nobody yet.
    #[must_use]
    pub fn new(master: &MasterKey) -> Receiver {
        Receiver { keys: SessionKeys::new(master), sources: [None; SOURCES], taken: 0, rtcp: Window::default() }
    }

    /// Goes on where `former` was, with other keys.
    pub fn succeed(&mut self, former: &Receiver) {
        self.taken = former.taken;
        self.sources = former.sources.map(|source| source.map(|source| Source { inherited: true, ..source }));
    }

    /// Opens an RTP packet into `out`, which is at least as long; returns the size of what is in it.
    ///
    /// # Errors
    /// [`SrtpError`]; nothing is remembered of the packet then, and what is in `out` means nothing.
    pub fn unprotect(&mut self, packet: &[u8], out: &mut [u8]) -> Result<usize, SrtpError> {
        let clear = payload_at(packet).ok_or(SrtpError::Malformed)?;
        let (seq, ssrc) = (seq_of(packet), ssrc_of(packet, 8));
        let known = self.sources.iter().flatten().find(|source| source.ssrc == ssrc);
        let (window, inherited) = known.map_or((Window::default(), false), |source| (source.window, source.inherited));
        let roc = window.roc_of(seq);
        let index = u64::from(roc) << 16 | u64::from(seq);
        if !window.admits(index) && !inherited {
            return Err(SrtpError::Replay);
        }
        match self.keys.open_rtp(packet, out, clear, ssrc, roc, seq) {
            Ok(len) => {
                self.note(ssrc, window, index);
                Ok(len)
            }
            // Begun anew with the new keys.
            Err(SrtpError::Tag) if inherited && roc != 0 => {
                let len = self.keys.open_rtp(packet, out, clear, ssrc, 0, seq)?;
                self.note(ssrc, Window::default(), u64::from(seq));
                Ok(len)
            }
            Err(error) => Err(error),
        }
    }

    /// Opens a compound RTCP packet into `out`, in the same way.
    ///
    /// # Errors
    /// As [`Receiver::unprotect`].
    pub fn unprotect_rtcp(&mut self, packet: &[u8], out: &mut [u8]) -> Result<usize, SrtpError> {
        let ssrc = ssrc_of(packet, 4);
        let index = self.keys.rtcp_index(packet)?;
        if !self.rtcp.admits(u64::from(index)) {
            return Err(SrtpError::Replay);
        }
        let len = self.keys.open_rtcp(packet, out, ssrc, index)?;
        self.rtcp.note(u64::from(index));
        Ok(len)
    }

    fn note(&mut self, ssrc: u32, mut window: Window, index: u64) {
        self.taken += 1;
        window.note(index);
        let source = Some(Source { ssrc, window, last_taken: self.taken, inherited: false });
        let age = |place: &Option<Source>| match place {
            Some(known) if known.ssrc == ssrc => 0,
            Some(other) => other.last_taken + 2,
            None => 1,
        };
        if let Some(place) = self.sources.iter_mut().min_by_key(|place| age(place)) {
            *place = source;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rollover_counter_follows_the_sequence_number_both_ways() {
        let at = |roc: u64, seq: u64| Window { newest: Some(roc << 16 | seq), seen: 1 };
        assert_eq!(Window::default().roc_of(65_535), 0);
        assert_eq!(at(0, 65_530).roc_of(3), 1, "wrapped");
        assert_eq!(at(1, 3).roc_of(65_530), 0, "late, from before the wrap");
        assert_eq!(at(7, 100).roc_of(30_000), 7);
        assert_eq!(at(7, 60_000).roc_of(40_000), 7);
    }

    #[test]
    fn each_index_is_taken_once_and_none_older_than_the_window() {
        let mut window = Window::default();
        for index in [1_000, 1_002, 1_001] {
            assert!(window.admits(index));
            window.note(index);
            assert!(!window.admits(index));
        }
        assert!(window.admits(1_002 - 127) && !window.admits(1_002 - 128));
        window.note(2_000);
        assert!(!window.admits(1_002) && window.admits(1_999));
    }
}
