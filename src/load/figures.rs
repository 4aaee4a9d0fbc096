//! What came of a load.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use serde::Serialize;

use super::probe::Heard;
pub use super::watch::Usage;
use crate::call::end::EndClass;
use crate::call::record::CallRecord;

/// One moment of it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Sample {
    /// Since the beginning, in seconds.
    pub at_s: f64,
    /// Calls at that moment.
    pub running: usize,
    /// Calls that were over.
    pub ended: usize,
}

/// How values lie.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Spread {
    /// The middle one.
    pub p50: f64,
    /// 95 of 100 are no more.
    pub p95: f64,
    /// 99 of 100 are no more.
    pub p99: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// Of these values; all 0 where there are none.
    #[must_use]
    pub fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let rank = (share * values.len() as f64).ceil() as usize;
            values.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
        };
        Self { p50: at(0.5), p95: at(0.95), p99: at(0.99), max: at(1.0) }
    }
}

/// The figures of a load.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    /// How long it took, in seconds.
    pub took_s: f64,
    /// Calls placed.
    pub placed: usize,
    /// Calls answered.
    pub answered: usize,
    /// Calls that went as they should, and how many ended for which other reason.
    pub good: usize,
    /// The others, by reason.
    pub failed: BTreeMap<String, usize>,
    /// Most calls at once.
    pub at_once: usize,
    /// From INVITE to answer, in ms.
    pub setup_ms: Spread,
    /// Bursts of sound sent, and those that came back.
    pub bursts_sent: u64,
    /// Those that came back.
    pub bursts_returned: u64,
    /// Frames in which a call heard another's sound.
    pub foreign_frames: u64,
    /// From a burst's beginning until it was back, in ms: both ways, both playout buffers and all.
    pub round_trip_ms: Spread,
    /// Packets that came, and that were lost on the way to us.
    pub packets_in: u64,
    /// Lost on the way to us.
    pub packets_lost: u64,
    /// Interarrival jitter, in ms.
    pub jitter_ms: Spread,
    /// The lowest of the calls' mean opinion scores, and the middle one (E-model).
    pub mos_lowest: Option<f64>,
    /// The middle one.
    pub mos_p50: Option<f64>,
    /// Seconds of calls in all.
    pub call_s: f64,
    /// What this process used.
    pub own: Option<Usage>,
    /// What the watched one used.
    pub watched: Option<Usage>,
    /// Over time.
    pub samples: Vec<Sample>,
}

impl Figures {
    /// From what the calls left.
    #[must_use]
    pub fn of(
        took: Duration,
        placed: usize,
        records: &[CallRecord],
        probes: &[Heard],
        samples: Vec<Sample>,
        (own, watched): (Option<Usage>, Option<Usage>),
    ) -> Self {
        let answered: Vec<&CallRecord> = records.iter().filter(|record| record.answered_at.is_some()).collect();
        let mut failed: BTreeMap<String, usize> = BTreeMap::new();
        for record in records.iter().filter(|record| record.end.class != EndClass::Ok || record.answered_at.is_none()) {
            *failed.entry(record.end.reason.as_str().to_owned()).or_default() += 1;
        }
        let unheard = probes.iter().filter(|heard| !heard.is_good).count();
        if unheard > 0 {
            failed.insert("sound_did_not_come_back".to_owned(), unheard);
        }
        let lost_count = placed.saturating_sub(records.len());
        if lost_count > 0 {
            failed.insert("never_ended".to_owned(), lost_count);
        }
        let media = || answered.iter().filter_map(|record| record.media.as_ref());
        let mut scores: Vec<f64> = media().filter_map(|media| media.mos_in).collect();
        scores.sort_by(f64::total_cmp);
        Self {
            took_s: took.as_secs_f64(),
            placed,
            answered: answered.len(),
            good: placed.saturating_sub(failed.values().sum()),
            failed,
            at_once: samples.iter().map(|sample| sample.running).max().unwrap_or(0),
            setup_ms: Spread::of(answered.iter().filter_map(|record| setup_ms(record)).collect()),
            bursts_sent: probes.iter().map(|heard| u64::from(heard.sent)).sum(),
            bursts_returned: probes.iter().map(|heard| u64::from(heard.returned)).sum(),
            foreign_frames: probes.iter().map(|heard| u64::from(heard.foreign)).sum(),
            round_trip_ms: Spread::of(probes.iter().flat_map(|heard| heard.round_trips_ms.clone()).collect()),
            packets_in: media().map(|media| media.packets_in).sum(),
            packets_lost: media().map(|media| media.lost).sum(),
            jitter_ms: Spread::of(media().map(|media| media.jitter_ms).collect()),
            mos_lowest: scores.first().copied(),
            mos_p50: scores.get(scores.len() / 2).copied(),
            call_s: answered.iter().map(|record| record.duration_ms as f64 / 1_000.0).sum(),
            own,
            watched,
            samples,
        }
    }

    /// Whether all went as it should.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.failed.is_empty() && self.placed > 0
    }

    /// For people.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = String::new();
        let mut row = |name: &str, value: String| {
            let _ = writeln!(text, "{name:<22} {value}");
        };
        row(
            "calls",
            format!("{} placed, {} answered, {} good, {} at once", self.placed, self.answered, self.good, self.at_once),
        );
        for (reason, count) in &self.failed {
            row("  not good", format!("{count} {reason}"));
        }
        let spread = |s: &Spread| format!("p50 {:.1}  p95 {:.1}  p99 {:.1}  max {:.1} ms", s.p50, s.p95, s.p99, s.max);
        row("set-up", spread(&self.setup_ms));
        row(
            "sound",
            format!(
                "{} bursts sent, {} back, {} frames of others",
                self.bursts_sent, self.bursts_returned, self.foreign_frames
            ),
        );
        row("round trip of sound", spread(&self.round_trip_ms));
        let percent = 100.0 * self.packets_lost as f64 / (self.packets_in + self.packets_lost).max(1) as f64;
        row("packets", format!("{} came, {} lost ({percent:.3} %)", self.packets_in, self.packets_lost));
        row("jitter", spread(&self.jitter_ms));
        if let (Some(lowest), Some(p50)) = (self.mos_lowest, self.mos_p50) {
            row("MOS (E-model)", format!("p50 {p50:.2}  lowest {lowest:.2}"));
        }
        for (name, usage) in [("this process", self.own), ("watched process", self.watched)] {
            if let Some(usage) = usage {
                let per_call_s = usage.cpu_s * 1e6 / self.call_s.max(1e-9);
                let per_call_kib = (usage.after_mib - usage.before_mib) * 1_024.0 / self.at_once.max(1) as f64;
                row(
                    name,
                    format!(
                        "{per_call_s:.0} µs of processor a call-second, {:.1} MiB ({per_call_kib:+.1} KiB a call)",
                        usage.after_mib
                    ),
                );
            }
        }
        text
    }
}

fn setup_ms(record: &CallRecord) -> Option<f64> {
    let at = |text: &str| humantime::parse_rfc3339(text).ok();
    let took = at(record.answered_at.as_deref()?)?.duration_since(at(&record.started_at)?).ok()?;
    Some(took.as_secs_f64() * 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_by_rank() {
        let spread = Spread::of((1..=100).rev().map(f64::from).collect());
        assert_eq!(spread, Spread { p50: 50.0, p95: 95.0, p99: 99.0, max: 100.0 });
        assert_eq!(Spread::of(vec![]), Spread::default());
    }
}
