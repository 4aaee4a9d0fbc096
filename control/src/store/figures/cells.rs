//! Calls counted in cells: each is of one step of a series and of one group, what answered or a device. What is known of steps, groups and
//! all of it comes from the same cells, so that each call is read and counted once, whatever was asked for.

use std::collections::BTreeMap;

use super::entry::Entry;
use super::tally::{Counted, Tally, figures};
use super::{Figures, Span};
use crate::store::StoreError;

/// Which calls are counted, and where to.
#[derive(Debug)]
pub(super) struct Plan {
    pub span: Span,
    /// They follow one another.
    pub steps: Vec<Span>,
    /// By the number of each kind of call; none where it is not wanted.
    pub kinds: Vec<Option<Counted>>,
    pub by: By,
}

/// What groups are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    Target,
    /// The device that calls stand under.
    Device,
}

/// Calls of a day.
#[derive(Debug)]
pub(super) struct Part {
    /// The device that they stand under, by its place in a list.
    pub device: usize,
    pub day: i64,
    pub entries: Vec<u8>,
}

/// What some parts came to. A cell may be there several times, with other calls each time.
#[derive(Debug, Default)]
pub(super) struct Cells(Vec<Cell>);

#[derive(Debug)]
struct Cell {
    /// None: of no step.
    step: Option<usize>,
    group: usize,
    tally: Tally,
}

impl Cells {
    /// Counts calls. They are best in the order of their days.
    pub(super) fn count(plan: &Plan, parts: &[Part]) -> Result<Self, StoreError> {
        let mut counting = Counting { plan, present: (None, Vec::new()), span: plan.span, others: BTreeMap::new() };
        // Of a series without steps, all calls are of none.
        if !plan.steps.is_empty() {
            counting.span = Span { until: plan.span.from, ..plan.span };
        }
        for part in parts {
            let mut rest = part.entries.as_slice();
            while !rest.is_empty() {
                let entry;
                (entry, rest) = Entry::read(part.day, rest)?;
                let kind = usize::try_from(entry.kind).ok().and_then(|kind| *plan.kinds.get(kind)?);
                if let Some(counted) = kind.filter(|_| plan.span.has(entry.started_at)) {
                    counting.add(part.device, &entry, counted);
                }
            }
        }
        Ok(counting.finish())
    }

    /// Adds what other parts came to.
    pub(super) fn merge(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }

    /// All of them.
    pub(super) fn total(&self) -> Figures {
        figures(&self.0.iter().map(|cell| &cell.tally).collect::<Vec<_>>())
    }

    /// Each of so many steps.
    pub(super) fn steps(&self, many: usize) -> Vec<Figures> {
        let mut tallies = vec![Vec::new(); many];
        for cell in &self.0 {
            if let Some(step) = cell.step.and_then(|step| tallies.get_mut(step)) {
                step.push(&cell.tally);
            }
        }
        tallies.iter().map(|step| figures(step)).collect()
    }

    /// Each group that has calls.
    pub(super) fn groups(&self) -> Vec<(usize, Figures)> {
        let mut tallies: BTreeMap<usize, Vec<&Tally>> = BTreeMap::new();
        for cell in &self.0 {
            tallies.entry(cell.group).or_default().push(&cell.tally);
        }
        tallies.into_iter().map(|(group, tallies)| (group, figures(&tallies))).collect()
    }
}

struct Counting<'a> {
    plan: &'a Plan,
    /// The step of the latest call, mostly the next one's too: its groups.
    present: (Option<usize>, Vec<Tally>),
    /// What that step has.
    span: Span,
    /// Those of other steps.
    others: BTreeMap<Option<usize>, Vec<Tally>>,
}

impl Counting<'_> {
    fn add(&mut self, device: usize, entry: &Entry, counted: Counted) {
        if !self.span.has(entry.started_at) {
            self.turn_to(entry.started_at);
        }
        let group = match self.plan.by {
            By::Target => counted.target,
            By::Device => device,
        };
        let groups = &mut self.present.1;
        if groups.len() <= group {
            groups.resize_with(group + 1, Tally::default);
        }
        if let Some(tally) = groups.get_mut(group) {
            tally.add(entry, counted);
        }
    }

    /// Goes on with the step of a call that began then.
    fn turn_to(&mut self, at: i64) {
        let steps = &self.plan.steps;
        let place = steps.partition_point(|step| step.until.0 <= at);
        let step = steps.get(place).filter(|step| step.has(at));
        // What is between two steps is of none: the next call is looked at again.
        self.span = step.copied().unwrap_or(Span { until: self.plan.span.from, ..self.plan.span });
        let step = step.map(|_| place);
        if step == self.present.0 {
            return;
        }
        let groups = match self.others.remove(&step) {
            Some(groups) => groups,
            // There will be about as many as in the one before.
            None => self.present.1.iter().map(Tally::like).collect(),
        };
        let (before, groups) = std::mem::replace(&mut self.present, (step, groups));
        self.others.insert(before, groups);
    }

    fn finish(mut self) -> Cells {
        let (step, groups) = self.present;
        self.others.insert(step, groups);
        let cells = self.others.into_iter().flat_map(|(step, groups)| {
            groups.into_iter().enumerate().map(move |(group, tally)| Cell { step, group, tally })
        });
        Cells(cells.filter(|cell| cell.tally.calls() > 0).collect())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::tally::Class;
    use super::*;
    use crate::time::Moment;

    const DAY_MS: i64 = super::super::entry::DAY_MS;
    const HOUR_MS: i64 = DAY_MS / 24;

    /// A step and a group.
    type Key = (Option<usize>, usize);

    fn span(from: i64, until: i64) -> Span {
        Span { from: Moment(from), until: Moment(until) }
    }

    /// Calls of ten days, of two devices, each day's in no order.
    fn parts() -> Vec<Part> {
        let of_day = |device: usize, day: i64, part: i64| {
            let mut entries = Vec::new();
            for n in 0..211 {
                let entry = Entry {
                    started_at: day * DAY_MS + (n * 7_919 + part) * 409_001 % DAY_MS,
                    kind: n % 4,
                    duration_ms: n * 37 % 1_000,
                    answer_ms: (n % 3 > 0).then_some(n * 13 % 70),
                    mos: (n % 5 > 0).then_some(4.25),
                    gap_ms: (n % 2 > 0).then_some(0.5),
                };
                entry.write(&mut entries);
            }
            Part { device, day, entries }
        };
        (0..2)
            .flat_map(|device| (0..10).flat_map(move |day| [of_day(device, day, 0), of_day(device, day, 1)]))
            .collect()
    }

    fn plan(span: Span, steps: Vec<Span>, by: By) -> Plan {
        let kind = |target, class| Some(Counted { target, class, cancelled: true, transferred: target == 1 });
        let kinds = vec![None, kind(0, Class::Other), kind(1, Class::OurFault), kind(0, Class::Unknown)];
        Plan { span, steps, kinds, by }
    }

    #[test]
    fn calls_are_in_their_step_and_group_however_they_are_divided_among_works() {
        let whole = span(DAY_MS + 7, 9 * DAY_MS - 5 * HOUR_MS);
        // The first step begins late and there is a hole behind the third.
        let steps: Vec<Span> = (0..40)
            .filter(|n| *n != 3)
            .map(|n| span(2 * DAY_MS + n * 3 * HOUR_MS + 1, 2 * DAY_MS + (n + 1) * 3 * HOUR_MS + 1))
            .collect();
        let parts = parts();
        for (steps, by) in [(steps.clone(), By::Target), (steps, By::Device), (Vec::new(), By::Target)] {
            let plan = plan(whole, steps, by);
            let mut expected: BTreeMap<Key, Tally> = BTreeMap::new();
            for part in &parts {
                let mut rest = part.entries.as_slice();
                while !rest.is_empty() {
                    let entry;
                    (entry, rest) = Entry::read(part.day, rest).unwrap();
                    let Some(counted) = plan.kinds[usize::try_from(entry.kind).unwrap()] else { continue };
                    if !plan.span.has(entry.started_at) {
                        continue;
                    }
                    let step = plan.steps.iter().position(|step| step.has(entry.started_at));
                    let group = if by == By::Target { counted.target } else { part.device };
                    expected.entry((step, group)).or_default().add(&entry, counted);
                }
            }
            let of = |wanted: &dyn Fn(&Key) -> bool| {
                figures(&expected.iter().filter(|(key, _)| wanted(key)).map(|(_, tally)| tally).collect::<Vec<_>>())
            };
            for size in [1, 3, parts.len()] {
                let mut cells = Cells::default();
                parts.chunks(size).for_each(|some| cells.merge(Cells::count(&plan, some).unwrap()));
                assert_eq!(cells.total(), of(&|_| true));
                assert!(cells.total().calls > 1_000);
                let found = cells.steps(plan.steps.len());
                assert_eq!(found.len(), plan.steps.len());
                for (n, step) in found.into_iter().enumerate() {
                    assert_eq!(step, of(&|key| key.0 == Some(n)), "{n}, {size}");
                }
                let groups: Vec<_> = [0, 1].map(|group| (group, of(&|key| key.1 == group))).into();
                assert_eq!(cells.groups(), groups, "{size}");
            }
        }
    }

    #[test]
    fn damaged_bytes_are_an_error() {
        let plan = plan(span(0, DAY_MS), Vec::new(), By::Target);
        assert!(Cells::count(&plan, &[Part { device: 0, day: 0, entries: vec![0, 0x80] }]).is_err());
        assert_eq!(Cells::count(&plan, &[]).unwrap().total(), Figures::default());
    }
}
