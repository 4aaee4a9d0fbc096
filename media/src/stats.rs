//! A leg's figures: plain counters that its worker owns ([`LegStats`]), and the block of atomics through which it
//! publishes them ([`SharedStats`]) to whoever asks.
//!
//! Invariant: publishing takes no lock and waits for nobody. Each figure is read whole, but a snapshot taken while
//! the worker publishes may mix two rounds: the figures are for people and metrics, not for arithmetic between them.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! leg_stats {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The figures of one leg since it was opened.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct LegStats {
            $($(#[$doc])* pub $name: u64,)*
        }

        /// The same figures as atomics, on cache lines of their own: written by the worker, read by anyone.
        #[derive(Debug, Default)]
        #[repr(align(64))]
        pub struct SharedStats {
            $($name: AtomicU64,)*
        }

        impl LegStats {
            /// Each figure with its name, in the order of the fields: for metrics and call records.
            pub fn figures(&self) -> [(&'static str, u64); LegStats::COUNT] {
                [$((stringify!($name), self.$name),)*]
            }

            /// How many figures there are.
            pub const COUNT: usize = [$(stringify!($name),)*].len();
        }

        impl SharedStats {
            /// Makes `stats` visible to readers.
            pub fn publish(&self, stats: &LegStats) {
                $(self.$name.store(stats.$name, Relaxed);)*
            }

            /// What was published last.
            pub fn snapshot(&self) -> LegStats {
                LegStats { $($name: self.$name.load(Relaxed),)* }
            }
        }
    };
}

leg_stats! {
    /// RTP packets taken from the peer.
    packets_in,
    /// Their payload, in bytes.
    bytes_in,
    /// RTP packets sent.
    packets_out,
    /// Their payload, in bytes.
    bytes_out,
    /// Of those sent, packets of the other leg in the room passed on as they came.
    relayed,
    /// Packets that the peer sent and that did not come (RFC 3550 appendix A.3).
    lost,
    /// Packets that came after the ear or playout had gone on without them.
    late,
    /// Packets that came twice.
    duplicates,
    /// Packets that came behind a later one.
    reordered,
    /// Packets dropped because a buffer of ours was full.
    overflowed,
    /// Datagrams dropped because they were not from the peer of the call.
    not_the_peer,
    /// Datagrams dropped because they were no RTP, no RTCP, or of a payload type that was not agreed.
    malformed,
    /// Datagrams dropped because they were not under the keys that were agreed on, or came before (SRTP).
    bad_tags,
    /// STUN and DTLS datagrams dropped because nobody took them in time.
    handshake_drops,
    /// Times that the peer's stream began anew: another SSRC or a leap in its sequence.
    resyncs,
    /// Interarrival jitter, in microseconds (RFC 3550 appendix A.8).
    jitter_us,
    /// Largest interarrival jitter seen, in microseconds.
    jitter_max_us,
    /// Round trip by RTCP, in microseconds; 0 until known (RFC 3550 section 6.4.1).
    round_trip_us,
    /// What the peer says it lost of ours, in 256ths, in its last report.
    remote_fraction_lost,
    /// What the peer says it lost of ours in all.
    remote_lost,
    /// Mean opinion score of what we hear, in hundredths, by the E-model (ITU-T G.107); 0 until there is enough to tell.
    mos_in,
    /// The same of what the peer hears of us: by its own report (RFC 3611) where it sends one, else by its losses.
    mos_out,
    /// Sound made up for packets that did not come, in milliseconds.
    concealed_ms,
    /// The playout buffer's delay now, in milliseconds.
    playout_delay_ms,
    /// Packets of the peer's that told the level of their sound (RFC 6464).
    levels_in,
    /// What the latest of them told, in dB below overload: 0 to 127. It is the peer's word for it.
    level_in,
    /// Frames dropped because the listener did not take them in time.
    ear_ring_drops,
    /// Times that the agent's sound ran out in the middle of speech.
    voice_ring_underruns,
    /// Blocks of sound that the recorder did not take in time.
    record_ring_drops,
    /// Datagrams that the system would not send.
    send_errors,
    /// Digits received.
    digits_in,
    /// Digits sent.
    digits_out,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_holds_what_was_published() {
        let shared = SharedStats::default();
        let stats = LegStats { packets_in: 3, jitter_us: 17, digits_out: 1, ..LegStats::default() };
        shared.publish(&stats);
        assert_eq!(shared.snapshot(), stats);
        assert_eq!(std::mem::align_of::<SharedStats>(), 64);
    }

    #[test]
    fn every_figure_is_named_once() {
        let mut names: Vec<_> = LegStats::default().figures().iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), LegStats::COUNT);
    }
}
