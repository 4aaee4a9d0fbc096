//! Figures over ended calls of a span of time. They are counted from a few bytes for each call, which stand by day and by whose calls they
//! were ([`kept`]); percentiles are exact, by nearest rank: the least value that this share of the values does not exceed.

mod cells;
mod entry;
pub(in crate::store) mod kept;
mod tally;

use std::collections::HashMap;
use std::sync::Arc;

use futures::TryStreamExt;
use serde::Serialize;
use sqlx::{AnyConnection, Connection, Row};
use tokio::task::{JoinSet, spawn_blocking};
use utoipa::ToSchema;

use self::cells::{By, Cells, Part, Plan};
use self::entry::DAY_MS;
pub(in crate::store) use self::entry::Entry;
use self::tally::{Class, Counted};
use super::conditions::Conditions;
use super::records::{Visible, tenths};
use super::{Backend, Store, StoreError};
use crate::time::Moment;

/// Groups of one answer at most.
pub const GROUPS_LIMIT: usize = 1_000;
/// So many bytes of calls, some 60,000, are counted in one go,
const COUNTED_AT_ONCE_BYTES: usize = 1 << 20;
/// by so many threads at most for one answer, so that one who asks does not take a large machine's processors.
const WORKS_AT_ONCE: usize = 4;
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
        let Some(place) = Place::of(visible) else {
            return Ok(KeyFigures { steps: vec![Figures::default(); steps.len()], ..KeyFigures::default() });
        };
        let (cells, names) = self.cells(place, filter, span, steps.to_vec(), By::Target).await?;
        let cells = Arc::new(cells);
        let (all, stepped, many) = (Arc::clone(&cells), Arc::clone(&cells), steps.len());
        // Each is some milliseconds of work where there are many calls.
        let total = spawn_blocking(move || all.total());
        let steps = spawn_blocking(move || stepped.steps(many));
        let targets = spawn_blocking(move || cells.groups());
        let (total, steps, targets) = (total.await, steps.await, targets.await);
        let targets = most(targets.map_err(worked)?, &names);
        Ok(KeyFigures { total: total.map_err(worked)?, steps: steps.map_err(worked)?, targets })
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
        let Some(place) = Place::of(visible) else { return Ok(Vec::new()) };
        self.groups(place, filter, span, By::Target).await
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
        self.groups(place, filter, span, By::Device).await
    }

    async fn groups(
        &self,
        place: Place<'_>,
        filter: &FigureFilter,
        span: Span,
        by: By,
    ) -> Result<Vec<(String, Figures)>, StoreError> {
        let (cells, names) = self.cells(place, filter, span, Vec::new(), by).await?;
        Ok(most(spawn_blocking(move || cells.groups()).await.map_err(worked)?, &names))
    }

    /// Counts the calls of a place, and says what its groups are called. They are counted beside the database's reading, some parts at once.
    async fn cells(
        &self,
        place: Place<'_>,
        filter: &FigureFilter,
        span: Span,
        steps: Vec<Span>,
        by: By,
    ) -> Result<(Cells, Vec<String>), StoreError> {
        let mut connection = self.reader().acquire().await?;
        // Kinds and calls are those of one moment.
        let begin = match self.backend() {
            Backend::Sqlite => "BEGIN",
            Backend::Postgres => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        };
        let mut reading = connection.begin_with(begin).await?;
        let Kinds { counted: kinds, names: targets } = Kinds::read(&mut reading, filter).await?;
        let plan = Arc::new(Plan { span, steps, kinds, by });
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
        let (mut devices, mut parts, mut bytes) = (Vec::<String>::new(), Vec::new(), 0);
        let (mut cells, mut works) = (Cells::default(), JoinSet::new());
        while let Some(row) = rows.try_next().await? {
            let device: &str = row.try_get("device")?;
            if devices.last().is_none_or(|last| last != device) {
                devices.push(device.to_owned());
            }
            let part = Part { device: devices.len() - 1, day: row.try_get("day")?, entries: row.try_get("entries")? };
            bytes += part.entries.len();
            parts.push(part);
            if bytes >= COUNTED_AT_ONCE_BYTES {
                if works.len() >= WORKS_AT_ONCE
                    && let Some(work) = works.join_next().await
                {
                    cells.merge(work.map_err(worked)??);
                }
                let (plan, parts) = (Arc::clone(&plan), std::mem::take(&mut parts));
                works.spawn_blocking(move || Cells::count(&plan, &parts));
                bytes = 0;
            }
        }
        drop(rows);
        reading.rollback().await?;
        works.spawn_blocking(move || Cells::count(&plan, &parts));
        while let Some(work) = works.join_next().await {
            cells.merge(work.map_err(worked)??);
        }
        Ok((cells, if by == By::Device { devices } else { targets }))
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

/// Groups with their names, those with most calls first.
fn most(found: Vec<(usize, Figures)>, names: &[String]) -> Vec<(String, Figures)> {
    let named = |(group, figures): (usize, Figures)| Some((names.get(group)?.clone(), figures));
    let mut groups: Vec<(String, Figures)> = found.into_iter().filter_map(named).collect();
    groups.sort_by(|(a, one), (b, other)| other.calls.cmp(&one.calls).then_with(|| a.cmp(b)));
    groups.truncate(GROUPS_LIMIT);
    groups
}

fn worked(fault: tokio::task::JoinError) -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::other(fault))
}
