//! How a leg sounded over time, as the call's record has it: what the media worker publishes anyway, looked at every [`EVERY`].

use std::time::Duration;

use media::LegStats;
use media::quality::{Impairments, mos, rating};
use serde::{Deserialize, Serialize};

/// The worker's figures are looked at this often.
pub const EVERY: Duration = Duration::from_secs(5);
/// Points kept of one leg; of a longer call two become one, as often as it takes.
pub const POINTS_LIMIT: usize = 720;
/// Packets of a span that say something of it: half a second of sound.
const ENOUGH: u64 = 25;

/// A leg's quality over time.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct QualityRecord {
    /// The leg's number within the call.
    pub leg: u16,
    /// When the first point's span began, in ms after the call did.
    pub from_ms: u64,
    /// How long the span of a point is, in ms; the last may be shorter.
    pub every_ms: u64,
    /// One after another.
    pub points: Vec<QualityPoint>,
}

/// How a leg sounded in one span. What is not known is left out.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct QualityPoint {
    /// Lost and too late of what the peer sent, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_in: Option<f64>,
    /// Interarrival jitter at the span's end, in ms (RFC 3550).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter_ms: Option<f64>,
    /// Mean opinion score of what was heard of the peer in this span, 1 to 4.5 (ITU-T G.107).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mos_in: Option<f64>,
    /// What the peer said it lost of ours, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_out: Option<f64>,
    /// Mean opinion score of what the peer heard up to then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mos_out: Option<f64>,
    /// Round trip, in ms, by RTCP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_ms: Option<f64>,
}

/// A leg's quality while the call runs.
#[derive(Debug, Default)]
pub struct QualityLog {
    record: QualityRecord,
    before: LegStats,
    /// Spans of [`EVERY`] that a point is made of, and how many of the next are over.
    spans: u32,
    over: u32,
}

impl QualityLog {
    /// Begins so many ms after the call did.
    #[must_use]
    pub fn new(leg: u16, from_ms: u64) -> Self {
        let every_ms = u64::try_from(EVERY.as_millis()).unwrap_or(u64::MAX);
        let record = QualityRecord { leg, from_ms, every_ms, points: Vec::new() };
        Self { record, before: LegStats::default(), spans: 1, over: 0 }
    }

    /// The leg's number.
    #[must_use]
    pub fn leg(&self) -> u16 {
        self.record.leg
    }

    /// A span of [`EVERY`] is over.
    pub fn measure(&mut self, stats: &LegStats) {
        self.over += 1;
        if self.over < self.spans {
            return;
        }
        self.over = 0;
        if self.record.points.len() >= POINTS_LIMIT {
            self.record.points = self.record.points.chunks(2).map(together).collect();
            self.record.every_ms *= 2;
            self.spans *= 2;
            // This span is half of the next point.
            self.over = self.spans / 2;
            return;
        }
        self.add(stats);
    }

    /// The call is over: what has come since the last point is one more, where it is enough to tell.
    #[must_use]
    pub fn close(mut self, stats: &LegStats) -> Option<QualityRecord> {
        let since = stats.packets_in.saturating_sub(self.before.packets_in);
        if since >= ENOUGH && self.record.points.len() < POINTS_LIMIT {
            self.add(stats);
        }
        (!self.record.points.is_empty()).then_some(self.record)
    }

    fn add(&mut self, stats: &LegStats) {
        self.record.points.push(point(&self.before, stats));
        self.before = *stats;
    }
}

/// What lies between two looks.
fn point(before: &LegStats, now: &LegStats) -> QualityPoint {
    let came = now.packets_in.saturating_sub(before.packets_in);
    // A packet that came late after all is no longer lost: the count may go back.
    let lost = now.lost.saturating_sub(before.lost);
    let missed = lost + now.late.saturating_sub(before.late);
    let has_sound = came + lost >= ENOUGH;
    let loss = missed as f64 / (came + lost).max(1) as f64;
    let delay_ms = now.round_trip_us as f64 / 2_000.0 + now.playout_delay_ms as f64;
    let reported = now.remote_fraction_lost > 0 || now.round_trip_us > 0;
    QualityPoint {
        loss_in: has_sound.then(|| rounded(loss.min(1.0) * 100.0)),
        jitter_ms: has_sound.then(|| rounded(now.jitter_us as f64 / 1_000.0)),
        mos_in: has_sound.then(|| rounded(mos(rating(Impairments { loss, burst_ratio: 1.0, delay_ms })))),
        loss_out: reported.then(|| rounded(now.remote_fraction_lost as f64 * 100.0 / 256.0)),
        mos_out: (now.mos_out > 0).then_some(now.mos_out as f64 / 100.0),
        rtt_ms: (now.round_trip_us > 0).then(|| rounded(now.round_trip_us as f64 / 1_000.0)),
    }
}

/// Several points as one: the mean of what is known.
fn together(points: &[QualityPoint]) -> QualityPoint {
    let mean = |of: fn(&QualityPoint) -> Option<f64>| {
        let known: Vec<f64> = points.iter().filter_map(of).collect();
        (!known.is_empty()).then(|| rounded(known.iter().sum::<f64>() / known.len() as f64))
    };
    QualityPoint {
        loss_in: mean(|point| point.loss_in),
        jitter_ms: mean(|point| point.jitter_ms),
        mos_in: mean(|point| point.mos_in),
        loss_out: mean(|point| point.loss_out),
        mos_out: mean(|point| point.mos_out),
        rtt_ms: mean(|point| point.rtt_ms),
    }
}

/// Two digits after the point are more than is known.
fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    fn stats(packets_in: u64, lost: u64) -> LegStats {
        LegStats {
            packets_in,
            lost,
            jitter_us: 3_000,
            round_trip_us: 40_000,
            remote_fraction_lost: 64,
            mos_out: 390,
            ..LegStats::default()
        }
    }

    #[test]
    fn each_span_is_judged_by_what_came_in_it() {
        let mut log = QualityLog::new(2, 1_500);
        log.measure(&stats(250, 0));
        log.measure(&stats(475, 25));
        log.measure(&stats(475, 25));
        let record = log.close(&stats(480, 25)).unwrap();
        assert_eq!((record.leg, record.from_ms, record.every_ms, record.points.len()), (2, 1_500, 5_000, 3));
        let [clean, lossy, silent] = record.points.as_slice() else { panic!("three") };
        assert_eq!((clean.loss_in, clean.jitter_ms, clean.rtt_ms), (Some(0.0), Some(3.0), Some(40.0)));
        assert_eq!((lossy.loss_in, lossy.loss_out, lossy.mos_out), (Some(10.0), Some(25.0), Some(3.9)));
        assert!(clean.mos_in.unwrap() > 4.3 && lossy.mos_in.unwrap() < 3.5, "{clean:?} {lossy:?}");
        assert_eq!((silent.loss_in, silent.mos_in), (None, None), "nothing came: nothing is known");
    }

    #[test]
    fn a_call_of_a_day_has_as_many_points_as_one_of_an_hour_and_the_same_loss() {
        let mut log = QualityLog::new(0, 0);
        for n in 1..=17_280 {
            log.measure(&stats(n * 225, n * 25));
        }
        let record = log.close(&stats(17_280 * 225, 17_280 * 25)).unwrap();
        assert!(
            record.points.len() > POINTS_LIMIT / 2 && record.points.len() <= POINTS_LIMIT,
            "{}",
            record.points.len()
        );
        assert!(record.points.iter().all(|point| (point.loss_in.unwrap() - 10.0).abs() < 0.01));
        let told_ms = record.every_ms * record.points.len() as u64;
        assert!(told_ms.abs_diff(86_400_000) <= record.every_ms, "{told_ms} ms of a day");
    }

    #[test]
    fn a_call_without_sound_has_no_quality() {
        assert_eq!(QualityLog::new(0, 0).close(&LegStats::default()), None);
    }
}
