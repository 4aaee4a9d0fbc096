//! Figures over ended calls of a span of time. They are counted from a few bytes for each call, which stand by day and by whose calls they
//! were ([`kept`]); percentiles are exact, by nearest rank: the least value that this share of the values does not exceed.

mod entry;
pub(in crate::store) mod kept;
mod tally;

use std::collections::{BTreeMap, HashMap};

use futures::TryStreamExt;
use serde::Serialize;
use sqlx::{AnyConnection, Connection, Row};
use utoipa::ToSchema;

use self::entry::DAY_MS;
pub(in crate::store) use self::entry::Entry;
use self::tally::{Class, Counted, Tally};
use super::conditions::Conditions;
use super::records::{Visible, tenths};
use super::{Backend, Store, StoreError};
use crate::time::Moment;

/// Groups of one answer at most.
pub const GROUPS_LIMIT: usize = 1_000;
/// Below this mean opinion score people begin to complain (ITU-T G.109: "some users dissatisfied" ends at R 70, which is 3.6).
pub const MOS_GOOD: f64 = 3.6;

/// What calls are for that have to do with another: it is fetched where it waits, picked up where it rings, supervised, taken over. Its figures
/// have what was said there.
const ABOUT_OTHERS: [&str; 4] = ["park", "pickup", "watch", "replaces"];

/// A span of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// From then on.
    pub from: Moment,
    /// Before then.
    pub until: Moment,
}

impl Span {
    fn has(&self, at: i64) -> bool {
        (self.from.0..self.until.0).contains(&at)
    }
}

/// Which calls are counted; what is not named is any.
#[derive(Debug, Clone, Default)]
pub struct FigureFilter {
    /// `inbound` or `outbound`.
    pub direction: Option<String>,
    /// What answered.
    pub target: Option<String>,
}

/// How values are spread.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, ToSchema)]
pub struct Spread {
    /// Their mean.
    #[serde(serialize_with = "tenths")]
    pub mean: Option<f64>,
    /// Half of them are at most this.
    #[serde(serialize_with = "tenths")]
    pub p50: Option<f64>,
    /// 95 in a hundred are at most this.
    #[serde(serialize_with = "tenths")]
    pub p95: Option<f64>,
}

/// Calls by whose doing it was that they failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, ToSchema)]
pub struct Failed {
    /// The caller did something that cannot be served, or vanished.
    pub caller_fault: i64,
    /// A provider or peer behind us failed, or nobody answered.
    pub upstream_fault: i64,
    /// We failed.
    pub our_fault: i64,
    /// It cannot be told.
    pub unknown: i64,
}

/// What calls came to.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, ToSchema)]
pub struct Figures {
    /// How many.
    pub calls: i64,
    /// Of them answered.
    pub answered: i64,
    /// The caller gave up before an answer.
    pub abandoned: i64,
    /// Passed on to somebody else.
    pub transfers: i64,
    /// Ended by a fault.
    pub failed: Failed,
    /// From answer to end, all calls together, in ms.
    pub talk_ms: i64,
    /// From answer to end of answered calls, in ms.
    pub duration_ms: Spread,
    /// From the call to its answer, in ms.
    pub answer_ms: Spread,
    /// How long callers waited for the agent's answers: of each call the median, in ms.
    pub gap_ms: Spread,
    /// Mean of the mean opinion scores of what was heard of callers (ITU-T G.107).
    pub mos: Option<f64>,
    /// Share of calls with a score that had one below 3.6.
    pub mos_below_3_6: Option<f64>,
}

/// Key figures of a span.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct KeyFigures {
    /// Of all of it.
    pub total: Figures,
    /// Of each step that was asked for.
    pub steps: Vec<Figures>,
    /// By what answered, most calls first.
    pub targets: Vec<(String, Figures)>,
}

impl Store {
    /// What calls that somebody may see came to: together, in each of these steps of the span, which follow one another, and by what answered.
    ///
    /// # Errors
    /// The database's.
    pub async fn key_figures(
        &self,
        visible: &Visible,
        filter: &FigureFilter,
        span: Span,
        steps: &[Span],
    ) -> Result<KeyFigures, StoreError> {
        let mut series = Series::new(steps);
        let targets = self.targets_of(visible, filter, span, |day, entry, counted| series.add(day, entry, counted));
        let targets = targets.await?;
        let steps = series.finish();
        // Some milliseconds of work where there are many calls.
        let work = tokio::task::spawn_blocking(move || {
            let (mut total, mut groups) = (Tally::default(), Vec::with_capacity(targets.len()));
            for (name, mut tally) in targets {
                groups.push((name, tally.figures()));
                total.merge(tally);
            }
            KeyFigures { total: total.figures(), steps, targets: most(groups) }
        });
        Ok(work.await.map_err(worked)?)
    }

    /// Whether there are calls of a team.
    ///
    /// # Errors
    /// The database's.
    pub async fn has_figures(&self, team: &str) -> Result<bool, StoreError> {
        let sql = "SELECT day FROM call_figures WHERE scope = $1 LIMIT 1";
        Ok(sqlx::query(sql).bind(team).fetch_optional(self.reader()).await?.is_some())
    }

    /// The same by what answered alone: those with most calls first.
    ///
    /// # Errors
    /// The database's.
    pub async fn figures_by_target(
        &self,
        visible: &Visible,
        filter: &FigureFilter,
        span: Span,
    ) -> Result<Vec<(String, Figures)>, StoreError> {
        counted(self.targets_of(visible, filter, span, |_, _, _| ()).await?).await
    }

    /// The same by device, each call counted for every one that took part.
    ///
    /// # Errors
    /// The database's.
    pub async fn figures_by_device(
        &self,
        visible: &Visible,
        filter: &FigureFilter,
        span: Span,
    ) -> Result<Vec<(String, Figures)>, StoreError> {
        let Some(mut place) = Place::of(visible) else { return Ok(Vec::new()) };
        if place.device == Some("") {
            place.device = None;
        }
        let mut tallies: HashMap<String, Tally> = HashMap::new();
        self.each_call(place, filter, span, |device, _, entry, counted| {
            if !tallies.contains_key(device) {
                tallies.insert(device.to_owned(), Tally::default());
            }
            if let Some(tally) = tallies.get_mut(device) {
                tally.add(entry, counted);
            }
        })
        .await?;
        counted(tallies.into_iter().collect()).await
    }

    /// Calls counted by what answered; each is shown to `also`.
    async fn targets_of(
        &self,
        visible: &Visible,
        filter: &FigureFilter,
        span: Span,
        mut also: impl FnMut(i64, &Entry, Counted),
    ) -> Result<Vec<(String, Tally)>, StoreError> {
        let Some(place) = Place::of(visible) else { return Ok(Vec::new()) };
        let mut tallies: Vec<Tally> = Vec::new();
        let names = self.each_call(place, filter, span, |_, day, entry, counted| {
            if tallies.len() <= counted.target {
                tallies.resize_with(counted.target + 1, Tally::default);
            }
            tallies[counted.target].add(entry, counted);
            also(day, entry, counted);
        });
        let names = names.await?;
        Ok(names.into_iter().zip(tallies).filter(|(_, tally)| tally.calls() > 0).collect())
    }

    /// Shows each call: the device it stands under, its day, itself. Returns the names of targets.
    async fn each_call(
        &self,
        place: Place<'_>,
        filter: &FigureFilter,
        span: Span,
        mut show: impl FnMut(&str, i64, &Entry, Counted),
    ) -> Result<Vec<String>, StoreError> {
        let mut connection = self.reader().acquire().await?;
        // Kinds and calls are those of one moment.
        let begin = match self.backend() {
            Backend::Sqlite => "BEGIN",
            Backend::Postgres => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        };
        let mut reading = connection.begin_with(begin).await?;
        let Kinds { counted, names } = Kinds::read(&mut reading, filter).await?;
        let mut wanted = Conditions::default();
        wanted.add("scope = ?", place.scope);
        match place.device {
            Some(device) => wanted.add("device = ?", device),
            None => wanted.say("device <> ''".to_owned()),
        }
        wanted.add("day >= ?", span.from.0.div_euclid(DAY_MS));
        wanted.add("day <= ?", span.until.0.saturating_sub(1).div_euclid(DAY_MS));
        let sql = format!(
            "SELECT device, day, entries FROM call_figures WHERE {} ORDER BY device, day, part",
            wanted.wheres()
        );
        let mut rows = sqlx::query_with(sqlx::AssertSqlSafe(sql), wanted.arguments()?).fetch(&mut *reading);
        while let Some(row) = rows.try_next().await? {
            let (device, day, entries): (&str, i64, &[u8]) =
                (row.try_get("device")?, row.try_get("day")?, row.try_get("entries")?);
            let mut rest = entries;
            while !rest.is_empty() {
                let entry;
                (entry, rest) = Entry::read(day, rest)?;
                let kind = usize::try_from(entry.kind).ok().and_then(|kind| *counted.get(kind)?);
                if let Some(counted) = kind.filter(|_| span.has(entry.started_at)) {
                    show(device, day, &entry, counted);
                }
            }
        }
        drop(rows);
        reading.rollback().await?;
        Ok(names)
    }
}

/// Where the calls that somebody sees stand.
#[derive(Debug, Clone, Copy)]
struct Place<'a> {
    scope: &'a str,
    /// None: each device that took part.
    device: Option<&'a str>,
}

impl<'a> Place<'a> {
    fn of(visible: &'a Visible) -> Option<Self> {
        match visible {
            Visible::All => Some(Self { scope: "", device: Some("") }),
            Visible::Team(team) => Some(Self { scope: team, device: Some("") }),
            Visible::Device(device) => Some(Self { scope: "", device: Some(device) }),
            Visible::None => None,
        }
    }
}

/// Kinds of call, by their number; none where they are not wanted.
struct Kinds {
    counted: Vec<Option<Counted>>,
    names: Vec<String>,
}

impl Kinds {
    async fn read(connection: &mut AnyConnection, filter: &FigureFilter) -> Result<Self, StoreError> {
        let mut wanted = Conditions::default();
        wanted.equals("direction", filter.direction.as_ref());
        wanted.equals("target", filter.target.as_ref());
        let sql = format!("SELECT id, target, class, reason FROM call_kinds WHERE {} ORDER BY id", wanted.wheres());
        let query = sqlx::query_with(sqlx::AssertSqlSafe(sql), wanted.arguments()?);
        let mut kinds = Self { counted: Vec::new(), names: Vec::new() };
        let mut places: HashMap<String, usize> = HashMap::new();
        for row in query.fetch_all(connection).await? {
            // Numbers follow one another from 1 on.
            let Ok(id) = usize::try_from(row.try_get::<i64, _>("id")?) else { continue };
            let name: String = row.try_get("target")?;
            let (class, reason): (&str, &str) = (row.try_get("class")?, row.try_get("reason")?);
            if ABOUT_OTHERS.contains(&name.as_str()) {
                continue;
            }
            let target = *places.entry(name).or_insert_with_key(|name| {
                kinds.names.push(name.clone());
                kinds.names.len() - 1
            });
            kinds.counted.resize(id + 1, None);
            kinds.counted[id] = Some(Counted {
                target,
                class: Class::of(class),
                cancelled: reason == "caller_cancelled",
                transferred: reason == "transferred",
            });
        }
        Ok(kinds)
    }
}

/// Steps that follow one another; those that are over are counted and let go of.
struct Series<'a> {
    steps: &'a [Span],
    /// The step of the latest call: mostly the next one's too.
    current: (usize, Tally),
    open: BTreeMap<usize, Tally>,
    done: Vec<Figures>,
}

impl<'a> Series<'a> {
    fn new(steps: &'a [Span]) -> Self {
        let done = vec![Figures::default(); steps.len()];
        Self { steps, current: (0, Tally::default()), open: BTreeMap::new(), done }
    }

    /// Days come one after another, their calls in any order.
    fn add(&mut self, day: i64, entry: &Entry, counted: Counted) {
        let has = |place: usize| self.steps.get(place).is_some_and(|step: &Span| step.has(entry.started_at));
        if !has(self.current.0) {
            let place = self.steps.partition_point(|step| step.until.0 <= entry.started_at);
            if !has(place) {
                return;
            }
            let (before, tally) = std::mem::take(&mut self.current);
            self.open.insert(before, tally);
            self.close(day.saturating_mul(DAY_MS));
            self.current = (place, self.open.remove(&place).unwrap_or_default());
        }
        self.current.1.add(entry, counted);
    }

    fn close(&mut self, before: i64) {
        while let Some(step) = self.open.first_entry().filter(|step| self.steps[*step.key()].until.0 <= before) {
            let (place, mut tally) = step.remove_entry();
            self.done[place] = tally.figures();
        }
    }

    fn finish(mut self) -> Vec<Figures> {
        if !self.steps.is_empty() {
            let (place, tally) = std::mem::take(&mut self.current);
            self.open.insert(place, tally);
        }
        self.close(i64::MAX);
        self.done
    }
}

/// What groups came to, away from those who wait for little.
async fn counted(groups: Vec<(String, Tally)>) -> Result<Vec<(String, Figures)>, StoreError> {
    let work = tokio::task::spawn_blocking(move || {
        most(groups.into_iter().map(|(name, mut tally)| (name, tally.figures())).collect())
    });
    Ok(work.await.map_err(worked)?)
}

/// Those with most calls first.
fn most(mut groups: Vec<(String, Figures)>) -> Vec<(String, Figures)> {
    groups.sort_by(|(a, one), (b, other)| other.calls.cmp(&one.calls).then_with(|| a.cmp(b)));
    groups.truncate(GROUPS_LIMIT);
    groups
}

fn worked(fault: tokio::task::JoinError) -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::other(fault))
}
