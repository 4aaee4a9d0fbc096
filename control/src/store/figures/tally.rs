//! Calls counted together.

use super::entry::Entry;
use super::{Failed, Figures, MOS_GOOD, Spread};

/// So many values are worth counting before they are looked at.
const NARROWED_FROM: usize = 1_024;
/// Steps that they are counted in: one for what is negative, one for what is less than 1, 128 for each doubling from there to 2^31, and all
/// that is more in the last.
const STEPS: usize = 4_096;
/// What is left of a number's bits says its step: of its fraction the first seven.
const DROPPED_BITS: u32 = 45;
/// Where 1 is among these, less the two steps that come before.
const BEFORE_ONE: u64 = (1_f64.to_bits() >> DROPPED_BITS) - 2;

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

/// What is known of some calls. It has the values of each measure, eight bytes a call and measure, since the percentiles are exact.
#[derive(Debug, Default)]
pub(super) struct Tally {
    calls: i64,
    answered: i64,
    abandoned: i64,
    transfers: i64,
    /// By the class's number.
    classes: [i64; 5],
    talk_ms: i64,
    durations: Vec<f64>,
    answers: Vec<f64>,
    gaps: Vec<f64>,
    /// Whole numbers, whose sums are exact however many they are.
    duration_sum: i128,
    answer_sum: i128,
    gap_sum: f64,
    scores: i64,
    score_sum: f64,
    bad_scores: i64,
}

impl Tally {
    /// One with room for as many calls as another has.
    pub(super) fn like(other: &Self) -> Self {
        let room = |values: &Vec<f64>| Vec::with_capacity(values.len() + values.len() / 8);
        let (durations, answers, gaps) = (room(&other.durations), room(&other.answers), room(&other.gaps));
        Self { durations, answers, gaps, ..Self::default() }
    }

    pub(super) fn calls(&self) -> i64 {
        self.calls
    }

    #[inline]
    pub(super) fn add(&mut self, entry: &Entry, counted: Counted) {
        self.calls += 1;
        self.talk_ms = self.talk_ms.saturating_add(entry.duration_ms);
        self.transfers += i64::from(counted.transferred);
        self.classes[counted.class as usize] += 1;
        if let Some(answer_ms) = entry.answer_ms {
            self.answered += 1;
            self.durations.push(float(entry.duration_ms));
            self.duration_sum += i128::from(entry.duration_ms);
            self.answers.push(float(answer_ms));
            self.answer_sum += i128::from(answer_ms);
        } else {
            self.abandoned += i64::from(counted.cancelled);
        }
        if let Some(gap_ms) = entry.gap_ms {
            self.gaps.push(gap_ms);
            self.gap_sum += gap_ms;
        }
        if let Some(mos) = entry.mos {
            self.scores += 1;
            self.score_sum += mos;
            self.bad_scores += i64::from(mos < MOS_GOOD);
        }
    }
}

/// What all the calls of these came to.
pub(super) fn figures(tallies: &[&Tally]) -> Figures {
    let sum = |what: fn(&Tally) -> i64| tallies.iter().map(|tally| what(tally)).fold(0, i64::saturating_add);
    let whole = |what: fn(&Tally) -> i128| tallies.iter().map(|tally| what(tally)).sum::<i128>();
    let float_sum = |what: fn(&Tally) -> f64| tallies.iter().map(|tally| what(tally)).sum::<f64>();
    let values = |what: fn(&Tally) -> &Vec<f64>| tallies.iter().map(|tally| what(tally).as_slice()).collect::<Vec<_>>();
    #[expect(clippy::cast_precision_loss, reason = "a mean of so many has no more digits")]
    let whole = |what| whole(what) as f64;
    let scores = sum(|tally| tally.scores);
    Figures {
        calls: sum(|tally| tally.calls),
        answered: sum(|tally| tally.answered),
        abandoned: sum(|tally| tally.abandoned),
        transfers: sum(|tally| tally.transfers),
        failed: Failed {
            caller_fault: sum(|tally| tally.classes[Class::CallerFault as usize]),
            upstream_fault: sum(|tally| tally.classes[Class::UpstreamFault as usize]),
            our_fault: sum(|tally| tally.classes[Class::OurFault as usize]),
            unknown: sum(|tally| tally.classes[Class::Unknown as usize]),
        },
        talk_ms: sum(|tally| tally.talk_ms),
        duration_ms: spread(&values(|tally| &tally.durations), whole(|tally| tally.duration_sum)),
        answer_ms: spread(&values(|tally| &tally.answers), whole(|tally| tally.answer_sum)),
        gap_ms: spread(&values(|tally| &tally.gaps), float_sum(|tally| tally.gap_sum)),
        mos: share(float_sum(|tally| tally.score_sum), scores),
        mos_below_3_6: share(float(sum(|tally| tally.bad_scores)), scores),
    }
}

/// Percentiles by nearest rank: the least value that this share of the values does not exceed.
fn spread(values: &[&[f64]], sum: f64) -> Spread {
    let many: usize = values.iter().map(|some| some.len()).sum();
    if many == 0 {
        return Spread::default();
    }
    let ranks = [many.div_ceil(2) - 1, (many * 95).div_ceil(100) - 1];
    let [p50, p95] = if many < NARROWED_FROM { found(values.concat(), ranks) } else { narrowed(values, ranks) };
    #[expect(clippy::cast_precision_loss, reason = "a mean of so many has no more digits")]
    let mean = sum / many as f64;
    Spread { mean: Some(mean), p50: Some(p50), p95: Some(p95) }
}

/// The values of two ranks, from 0 on, the second no less than the first.
fn found(mut values: Vec<f64>, [first, second]: [usize; 2]) -> [f64; 2] {
    let (before, upper, _) = values.select_nth_unstable_by(second, f64::total_cmp);
    let upper = *upper;
    let lower = if first < second { *before.select_nth_unstable_by(first, f64::total_cmp).1 } else { upper };
    [lower, upper]
}

/// The same of many values: they are counted in steps, and those of the ranks' steps are looked at.
fn narrowed(values: &[&[f64]], ranks: [usize; 2]) -> [f64; 2] {
    let mut counts = vec![0_u32; STEPS];
    // Two of the same step, one after the other, do not wait for one another.
    let mut others = vec![0_u32; STEPS];
    for some in values {
        let (pairs, last) = some.as_chunks::<2>();
        for [one, other] in pairs {
            counts[step(*one)] += 1;
            others[step(*other)] += 1;
        }
        last.iter().for_each(|value| counts[step(*value)] += 1);
    }
    let places = ranks.map(|rank| {
        let (mut place, mut before) = (0, 0);
        loop {
            let here = counts[place] as usize + others[place] as usize;
            if before + here > rank {
                return (place, rank - before);
            }
            before += here;
            place += 1;
        }
    });
    let [(first, first_many), (second, second_many)] = places.map(|(place, _)| bits_of(place));
    let (mut lower, mut upper) = (Vec::new(), Vec::new());
    for value in values.iter().copied().flatten() {
        let bits = value.to_bits();
        if bits.wrapping_sub(first) < first_many {
            lower.push(*value);
        }
        if bits.wrapping_sub(second) < second_many {
            upper.push(*value);
        }
    }
    let [(_, lower_rank), (_, upper_rank)] = places;
    let value = |some: &mut [f64], rank| *some.select_nth_unstable_by(rank, f64::total_cmp).1;
    [value(&mut lower, lower_rank), value(&mut upper, upper_rank)]
}

/// The bits of the values of a step: the first, and how many there are.
fn bits_of(step: usize) -> (u64, u64) {
    let from = |step: usize| (step as u64 + BEFORE_ONE) << DROPPED_BITS;
    match step {
        0 => (1 << 63, 1 << 63),
        1 => (0, from(2)),
        step if step == STEPS - 1 => (from(step), (1 << 63) - from(step)),
        step => (from(step), 1 << DROPPED_BITS),
    }
}

/// The step of a value: none is lower than that of a value that sorts before it.
#[inline]
fn step(value: f64) -> usize {
    let bits = value.to_bits();
    if bits >> 63 == 1 {
        return 0;
    }
    usize::try_from((bits >> DROPPED_BITS).saturating_sub(BEFORE_ONE).max(1))
        .map_or(STEPS - 1, |step| step.min(STEPS - 1))
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
        let spread_out = |n: usize| f64::from(u32::try_from(n).unwrap_or_default()) - 100.5;
        let skewed = |n: usize| f64::from(u32::try_from(n).unwrap_or_default()).powi(40);
        let odd = |n: usize| [-0.0, 0.0, 0.999, 1.0, -7.5, 2_147_483_647.0, 2_147_483_648.0, 1e300, 5e-324][n % 9];
        let forms: [&dyn Fn(usize) -> f64; 4] = [&alike, &spread_out, &skewed, &odd];
        let sizes = (1..=200_usize).chain([NARROWED_FROM - 1, NARROWED_FROM, NARROWED_FROM + 1, 20_011]);
        for (many, form) in sizes.flat_map(|many| forms.map(|form| (many, form))) {
            // Each once, in no order: 7,919 is prime.
            let values: Vec<f64> = (0..many).map(|n| form(n * 7_919 % many)).collect();
            let mut sorted = values.clone();
            sorted.sort_by(f64::total_cmp);
            let rank = |percent: usize| sorted.iter().enumerate().find(|(at, _)| (at + 1) * 100 >= many * percent);
            // In one piece, and in several.
            for size in [many, many.div_ceil(3), 1_000] {
                let parts: Vec<&[f64]> = values.chunks(size).collect();
                let spread = spread(&parts, 0.0);
                let bits = |value: Option<f64>| value.map(f64::to_bits);
                let expected = [50, 95].map(|percent| rank(percent).map(|(_, value)| value.to_bits()));
                assert_eq!([bits(spread.p50), bits(spread.p95)], expected, "{many} in parts of {size}");
            }
        }
        assert_eq!(spread(&[], 0.0), Spread::default());
    }

    #[test]
    fn steps_are_in_the_order_of_values() {
        let mut values: Vec<f64> =
            (0..64_u32).flat_map(|n| [1.0, 1.003, 1.4, 1.999].map(|x| x * f64::from(n).exp2())).collect();
        values.extend([-1e9, -0.0, 0.0, 1e-9, 0.999, f64::INFINITY]);
        values.sort_by(f64::total_cmp);
        let steps: Vec<usize> = values.iter().map(|value| step(*value)).collect();
        assert!(steps.is_sorted(), "{steps:?}");
        assert_eq!([step(-1.0), step(0.0), step(1.0), step(2.0)], [0, 1, 2, 130]);
        for value in values {
            let has = |step| bits_of(step).0 <= value.to_bits() && value.to_bits() - bits_of(step).0 < bits_of(step).1;
            assert_eq!((0..STEPS).filter(|step| has(*step)).collect::<Vec<_>>(), [step(value)], "{value}");
        }
    }
}
