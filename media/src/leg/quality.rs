//! How the leg sounds, both ways.

use super::Leg;
use crate::quality::{Impairments, mos, rating};
use crate::rtcp::VoipMetrics;

/// Packets before a judgement: a second of sound.
const ENOUGH: u64 = 50;
/// What the peer's playout buffer is taken to add, besides twice the jitter, in ms.
const PEER_BUFFER_MS: f64 = 20.0;

impl Leg {
    /// Judges both directions.
    pub(super) fn rate(&mut self) {
        let stats = &self.stats;
        let sent = stats.packets_in + stats.lost;
        if stats.packets_in >= ENOUGH {
            self.stats.mos_in = hundredths(self.judge_inbound(sent));
        }
        let stats = &self.stats;
        if self.told_mos > 0 {
            self.stats.mos_out = self.told_mos;
        } else if stats.packets_out >= ENOUGH && stats.round_trip_us > 0 {
            let loss = stats.remote_lost as f64 / stats.packets_out as f64;
            let delay_ms = stats.round_trip_us as f64 / 2_000.0 + self.packet_ms() + PEER_BUFFER_MS;
            self.stats.mos_out = hundredths(rating(Impairments { loss, burst_ratio: 1.0, delay_ms }));
        }
    }

    /// The rating of what we hear.
    fn judge_inbound(&self, sent: u64) -> f64 {
        let stats = &self.stats;
        let loss = (stats.lost + stats.late) as f64 / sent.max(1) as f64;
        let delay_ms = stats.round_trip_us as f64 / 2_000.0 + self.packet_ms() + stats.playout_delay_ms as f64;
        rating(Impairments { loss, burst_ratio: self.bursts.ratio(), delay_ms })
    }

    /// What an extended report says of the peer's sound.
    pub(super) fn metrics(&self) -> Option<VoipMetrics> {
        let ssrc = self.latch.ssrc()?;
        let stats = &self.stats;
        let sent = stats.packets_in + stats.lost;
        let share = |part: u64| (part * 256).checked_div(sent).unwrap_or(0).min(255) as u8;
        let bursts = self.bursts.figures(self.packet_ms() as u32);
        let judged = (stats.packets_in >= ENOUGH).then(|| self.judge_inbound(sent));
        let tenths = |rating: f64| (mos(rating) * 10.0).round() as u8;
        let ms = |value: u64| u16::try_from(value).unwrap_or(u16::MAX);
        Some(VoipMetrics {
            ssrc,
            loss_rate: share(stats.lost),
            discard_rate: share(stats.late),
            burst_density: bursts.burst_density,
            gap_density: bursts.gap_density,
            burst_duration_ms: bursts.burst_duration_ms,
            gap_duration_ms: bursts.gap_duration_ms,
            round_trip_ms: ms(stats.round_trip_us / 1_000),
            end_system_delay_ms: ms(stats.playout_delay_ms + self.packet_ms() as u64),
            r_factor: judged.map(|rating| rating.round() as u8),
            mos_lq: judged.map(tenths),
            mos_cq: judged.map(tenths),
            jitter_buffer_ms: ms(stats.playout_delay_ms),
            jitter_buffer_max_ms: self.inbound.jitter().playout_max_ms(),
        })
    }

    fn packet_ms(&self) -> f64 {
        self.outbound.format.ptime_ms()
    }
}

fn hundredths(rating: f64) -> u64 {
    (mos(rating) * 100.0).round() as u64
}
