//! Calls counted together.

use super::entry::Entry;
use super::{Figures, MOS_GOOD, Spread};

/// So many values are worth counting before they are looked at.
const NARROWED_FROM: usize = 4_096;
/// Steps that they are counted in.
const STEPS: usize = 4_096;

/// How calls of a kind are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counted {
    /// What answered, as a place in a list of these.
    pub target: usize,
    /// Whose doing it was.
    pub class: Class,
    /// The caller gave up, where nobody answered.
    pub cancelled: bool,
    /// It was passed on.
    pub transferred: bool,
}

/// Whose doing the end of a call was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    CallerFault,
    UpstreamFault,
    OurFault,
    Unknown,
    Other,
}

impl Class {
    pub(super) fn of(name: &str) -> Self {
        match name {
            "caller_fault" => Self::CallerFault,
            "upstream_fault" => Self::UpstreamFault,
            "our_fault" => Self::OurFault,
            "unknown" => Self::Unknown,
            _ => Self::Other,
        }
    }
}

/// What is known of some calls so far. It has the values of each measure, eight bytes a call and measure, since the percentiles are exact.
#[derive(Debug, Default)]
pub(super) struct Tally {
    figures: Figures,
    durations: Values,
    answers: Values,
    gaps: Values,
    scores: i64,
    score_sum: f64,
    bad_scores: i64,
}

impl Tally {
    pub(super) fn calls(&self) -> i64 {
        self.figures.calls
    }

    pub(super) fn add(&mut self, entry: &Entry, counted: Counted) {
        let figures = &mut self.figures;
        figures.calls += 1;
        figures.talk_ms = figures.talk_ms.saturating_add(entry.duration_ms);
        figures.transfers += i64::from(counted.transferred);
        match counted.class {
            Class::CallerFault => figures.failed.caller_fault += 1,
            Class::UpstreamFault => figures.failed.upstream_fault += 1,
            Class::OurFault => figures.failed.our_fault += 1,
            Class::Unknown => figures.failed.unknown += 1,
            Class::Other => {}
        }
        if let Some(answer_ms) = entry.answer_ms {
            figures.answered += 1;
            self.durations.add_whole(entry.duration_ms);
            self.answers.add_whole(answer_ms);
        } else {
            figures.abandoned += i64::from(counted.cancelled);
        }
        if let Some(gap_ms) = entry.gap_ms {
            self.gaps.add(gap_ms);
        }
        if let Some(mos) = entry.mos {
            self.scores += 1;
            self.score_sum += mos;
            self.bad_scores += i64::from(mos < MOS_GOOD);
        }
    }

    /// Adds what another has counted.
    pub(super) fn merge(&mut self, other: Self) {
        let (sum, more) = (&mut self.figures, other.figures);
        sum.calls += more.calls;
        sum.answered += more.answered;
        sum.abandoned += more.abandoned;
        sum.transfers += more.transfers;
        sum.talk_ms = sum.talk_ms.saturating_add(more.talk_ms);
        sum.failed.caller_fault += more.failed.caller_fault;
        sum.failed.upstream_fault += more.failed.upstream_fault;
        sum.failed.our_fault += more.failed.our_fault;
        sum.failed.unknown += more.failed.unknown;
        self.durations.merge(other.durations);
        self.answers.merge(other.answers);
        self.gaps.merge(other.gaps);
        self.scores += other.scores;
        self.score_sum += other.score_sum;
        self.bad_scores += other.bad_scores;
    }

    /// What they came to.
    pub(super) fn figures(&mut self) -> Figures {
        Figures {
            duration_ms: self.durations.spread(),
            answer_ms: self.answers.spread(),
            gap_ms: self.gaps.spread(),
            mos: share(self.score_sum, self.scores),
            mos_below_3_6: share(float(self.bad_scores), self.scores),
            ..self.figures
        }
    }
}

/// Values of a measure.
#[derive(Debug, Default)]
struct Values {
    all: Vec<f64>,
    sum: f64,
    /// Whole numbers, whose sum is exact however many they are.
    whole_sum: i128,
}

impl Values {
    fn add(&mut self, value: f64) {
        self.all.push(value);
        self.sum += value;
    }

    fn add_whole(&mut self, value: i64) {
        self.all.push(float(value));
        self.whole_sum += i128::from(value);
    }

    fn merge(&mut self, mut other: Self) {
        if self.all.is_empty() {
            std::mem::swap(&mut self.all, &mut other.all);
        } else {
            self.all.append(&mut other.all);
        }
        self.sum += other.sum;
        self.whole_sum += other.whole_sum;
    }

    /// Percentiles by nearest rank: the least value that this share of the values does not exceed.
    fn spread(&mut self) -> Spread {
        let many = self.all.len();
        if many == 0 {
            return Spread::default();
        }
        let ranks = [many.div_ceil(2) - 1, (many * 95).div_ceil(100) - 1];
        let [p50, p95] =
            if many < NARROWED_FROM { ranks.map(|rank| nth(&mut self.all, rank)) } else { narrowed(&self.all, ranks) };
        #[expect(clippy::cast_precision_loss, reason = "a mean of so many has no more digits")]
        let mean = (self.sum + self.whole_sum as f64) / many as f64;
        Spread { mean: Some(mean), p50: Some(p50), p95: Some(p95) }
    }
}

/// The value of a rank, from 0 on.
fn nth(values: &mut [f64], rank: usize) -> f64 {
    *values.select_nth_unstable_by(rank, f64::total_cmp).1
}

/// The same of many values: they are counted in steps of their range, and those of the rank's step are looked at.
fn narrowed(values: &[f64], ranks: [usize; 2]) -> [f64; 2] {
    let (least, greatest) = values
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(least, greatest), value| (least.min(*value), greatest.max(*value)));
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    let scale = (STEPS - 1) as f64 / (greatest - least).max(f64::MIN_POSITIVE);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "from 0 to the last step; what is no number is 0"
    )]
    let step = |value: f64| (((value - least) * scale) as usize).min(STEPS - 1);
    let mut counts = vec![0_usize; STEPS];
    values.iter().for_each(|value| counts[step(*value)] += 1);
    ranks.map(|rank| {
        let (mut place, mut before) = (0, 0);
        while before + counts[place] <= rank {
            before += counts[place];
            place += 1;
        }
        let mut some: Vec<f64> = values.iter().copied().filter(|value| step(*value) == place).collect();
        nth(&mut some, rank - before)
    })
}

fn share(sum: f64, of_all: i64) -> Option<f64> {
    (of_all > 0).then(|| sum / float(of_all))
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds and numbers of calls stay far below 2^53")]
fn float(number: i64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_by_nearest_rank() {
        let alike = |_: usize| 5.0;
        let spread = |n: usize| f64::from(u32::try_from(n).unwrap_or_default()) - 100.5;
        let skewed = |n: usize| f64::from(u32::try_from(n).unwrap_or_default()).powi(40);
        let forms: [&dyn Fn(usize) -> f64; 3] = [&alike, &spread, &skewed];
        let sizes = (1..=200_usize).chain([NARROWED_FROM - 1, NARROWED_FROM, NARROWED_FROM + 1, 20_011]);
        for (many, form) in sizes.flat_map(|many| forms.map(|form| (many, form))) {
            let mut values = Values::default();
            // Each once, in no order: 7,919 is prime.
            (0..many).for_each(|n| values.add(form(n * 7_919 % many)));
            let sorted: Vec<f64> = {
                let mut all = values.all.clone();
                all.sort_by(f64::total_cmp);
                all
            };
            let rank = |percent: usize| sorted.iter().enumerate().find(|(at, _)| (at + 1) * 100 >= many * percent);
            let spread = values.spread();
            assert_eq!((spread.p50, spread.p95), (rank(50).map(|(_, v)| *v), rank(95).map(|(_, v)| *v)), "{many}");
        }
        assert_eq!(Values::default().spread(), Spread::default());
    }
}
