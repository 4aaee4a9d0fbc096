//! Figures over ended calls of a span of time, computed where the calls are. Percentiles are by nearest rank: the least value that this
//! share of the values does not exceed.

use std::collections::HashMap;

use serde::Serialize;
use sqlx::{Row, any::AnyRow};
use utoipa::ToSchema;

use super::conditions::Conditions;
use super::records::Visible;
use super::{Store, StoreError};
use crate::time::Moment;

/// Groups of one answer at most.
pub const GROUPS_LIMIT: usize = 1_000;
/// Below this mean opinion score people begin to complain (ITU-T G.109: "some users dissatisfied" ends at R 70, which is 3.6).
pub const MOS_GOOD: &str = "3.6";

/// A span of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// From then on.
    pub from: Moment,
    /// Before then.
    pub until: Moment,
}

/// Which calls are counted; what is not named is any.
#[derive(Debug, Clone, Default)]
pub struct FigureFilter {
    /// `inbound` or `outbound`.
    pub direction: Option<String>,
    /// What answered.
    pub target: Option<String>,
}

/// What calls are put together by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By<'a> {
    /// These spans, which do not overlap; the key is a span's place.
    Spans(&'a [Span]),
    /// What answered.
    Target(Span),
    /// The devices that took part.
    Device(Span),
}

/// How values are spread.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, ToSchema)]
pub struct Spread {
    /// Their mean.
    pub mean: Option<f64>,
    /// Half of them are at most this.
    pub p50: Option<f64>,
    /// 95 in a hundred are at most this.
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

/// A measure whose spread is wanted.
struct Measure {
    sql: &'static str,
    set: fn(&mut Figures) -> &mut Spread,
}

const MEASURES: [Measure; 3] = [
    Measure {
        sql: "CASE WHEN r.answered_at IS NULL THEN NULL ELSE r.duration_ms END",
        set: |figures| &mut figures.duration_ms,
    },
    Measure { sql: "r.answered_at - r.started_at", set: |figures| &mut figures.answer_ms },
    Measure { sql: "r.gap_ms", set: |figures| &mut figures.gap_ms },
];

/// Where calls are read from, and what they are put together by.
struct Source {
    with: String,
    key: &'static str,
    from: String,
    wanted: Conditions,
}

impl Source {
    fn new(visible: &Visible, filter: &FigureFilter, by: By<'_>) -> Self {
        let mut wanted = Conditions::default();
        let mut with = String::new();
        let owner = visible.owner();
        let (key, from) = match by {
            By::Spans(spans) => {
                // Numbers of ours: they stand in the statement.
                let values = spans.iter().enumerate().map(|(n, span)| {
                    format!("(CAST({n} AS BIGINT), CAST({} AS BIGINT), CAST({} AS BIGINT))", span.from.0, span.until.0)
                });
                with = format!("WITH spans (n, lo, hi) AS (VALUES {})", values.collect::<Vec<_>>().join(", "));
                (
                    "CAST(b.n AS TEXT)",
                    match &owner {
                        Some(_) => {
                            "spans b JOIN call_owners o ON o.started_at >= b.lo AND o.started_at < b.hi JOIN call_records r ON r.call = o.call"
                        }
                        None => "spans b JOIN call_records r ON r.started_at >= b.lo AND r.started_at < b.hi",
                    },
                )
            }
            By::Target(span) => {
                let (table, from) = match &owner {
                    Some(_) => ("o", "call_owners o JOIN call_records r ON r.call = o.call"),
                    None => ("r", "call_records r"),
                };
                within(&mut wanted, table, span);
                ("r.target", from)
            }
            By::Device(span) => {
                within(&mut wanted, "r", span);
                wanted.say("substr(d.owner, 1, 7) = 'device/'".to_owned());
                if let Some(owner) = &owner {
                    let seen = "EXISTS (SELECT 1 FROM call_owners o WHERE o.call = r.call AND o.owner = ?)";
                    wanted.add(seen, owner.as_str());
                }
                if let Visible::Device(device) = visible {
                    wanted.add("d.owner = ?", format!("device/{device}"));
                }
                ("substr(d.owner, 8)", "call_records r JOIN call_owners d ON d.call = r.call")
            }
        };
        if let (Some(owner), By::Spans(_) | By::Target(_)) = (&owner, by) {
            wanted.add("o.owner = ?", owner.as_str());
        }
        wanted.equals("r.direction", filter.direction.as_ref());
        wanted.equals("r.target", filter.target.as_ref());
        Self { with, key, from: from.to_owned(), wanted }
    }

    fn sums(&self) -> String {
        let Self { with, key, from, wanted } = self;
        let wheres = wanted.wheres();
        let class =
            |class: &str| format!("CAST(SUM(CASE WHEN r.class = '{class}' THEN 1 ELSE 0 END) AS BIGINT) AS {class}");
        let classes = ["caller_fault", "upstream_fault", "our_fault", "unknown"].map(class).join(", ");
        format!(
            "{with} SELECT {key} AS key, COUNT(*) AS calls, COUNT(r.answered_at) AS answered, {classes},
             CAST(SUM(CASE WHEN r.answered_at IS NULL AND r.reason = 'caller_cancelled' THEN 1 ELSE 0 END) AS BIGINT) AS abandoned,
             CAST(SUM(CASE WHEN r.reason = 'transferred' THEN 1 ELSE 0 END) AS BIGINT) AS transfers,
             CAST(SUM(r.duration_ms) AS BIGINT) AS talk_ms,
             CAST(AVG(CASE WHEN r.answered_at IS NULL THEN NULL ELSE r.duration_ms END) AS DOUBLE PRECISION) AS duration_mean,
             CAST(AVG(r.answered_at - r.started_at) AS DOUBLE PRECISION) AS answer_mean,
             AVG(r.gap_ms) AS gap_mean, AVG(r.mos_in) AS mos,
             AVG(CASE WHEN r.mos_in IS NULL THEN NULL WHEN r.mos_in < {MOS_GOOD} THEN CAST(1 AS DOUBLE PRECISION)
                 ELSE CAST(0 AS DOUBLE PRECISION) END) AS mos_below
             FROM {from} WHERE {wheres} GROUP BY {key} ORDER BY COUNT(*) DESC, {key} LIMIT {GROUPS_LIMIT}"
        )
    }

    fn spread(&self, measure: &str) -> String {
        let Self { with, key, from, wanted } = self;
        let (with, wheres) = (if with.is_empty() { "WITH".to_owned() } else { format!("{with},") }, wanted.wheres());
        format!(
            "{with} measured AS (SELECT {key} AS key, {measure} AS value FROM {from} WHERE {wheres} AND ({measure}) IS NOT NULL),
             ranked AS (SELECT key, value, ROW_NUMBER() OVER (PARTITION BY key ORDER BY value) AS place,
                        COUNT(*) OVER (PARTITION BY key) AS of_all FROM measured)
             SELECT key, CAST(MIN(CASE WHEN place * 2 >= of_all THEN value END) AS DOUBLE PRECISION) AS p50,
             CAST(MIN(CASE WHEN place * 100 >= of_all * 95 THEN value END) AS DOUBLE PRECISION) AS p95
             FROM ranked GROUP BY key"
        )
    }
}

fn within(wanted: &mut Conditions, table: &str, span: Span) {
    wanted.add(&format!("{table}.started_at >= ?"), span.from.0);
    wanted.add(&format!("{table}.started_at < ?"), span.until.0);
}

fn figures(row: &AnyRow) -> Result<Figures, sqlx::Error> {
    let mean = |column: &str| Ok::<_, sqlx::Error>(Spread { mean: row.try_get(column)?, p50: None, p95: None });
    Ok(Figures {
        calls: row.try_get("calls")?,
        answered: row.try_get("answered")?,
        abandoned: row.try_get("abandoned")?,
        transfers: row.try_get("transfers")?,
        failed: Failed {
            caller_fault: row.try_get("caller_fault")?,
            upstream_fault: row.try_get("upstream_fault")?,
            our_fault: row.try_get("our_fault")?,
            unknown: row.try_get("unknown")?,
        },
        talk_ms: row.try_get("talk_ms")?,
        duration_ms: mean("duration_mean")?,
        answer_ms: mean("answer_mean")?,
        gap_ms: mean("gap_mean")?,
        mos: row.try_get("mos")?,
        mos_below_3_6: row.try_get("mos_below")?,
    })
}

impl Store {
    /// What calls that somebody may see came to, by what they are put together by: those with most calls first.
    ///
    /// # Errors
    /// The database's.
    pub async fn figures(
        &self,
        visible: &Visible,
        filter: &FigureFilter,
        by: By<'_>,
    ) -> Result<Vec<(String, Figures)>, StoreError> {
        let source = Source::new(visible, filter, by);
        let sql = sqlx::AssertSqlSafe(source.sums());
        let rows = sqlx::query_with(sql, source.wanted.arguments()?).fetch_all(self.reader()).await?;
        let mut found: Vec<(String, Figures)> = Vec::with_capacity(rows.len());
        for row in &rows {
            found.push((row.try_get("key")?, figures(row)?));
        }
        let places: HashMap<String, usize> =
            found.iter().enumerate().map(|(place, (key, _))| (key.clone(), place)).collect();
        for measure in MEASURES {
            let sql = sqlx::AssertSqlSafe(source.spread(measure.sql));
            for row in sqlx::query_with(sql, source.wanted.arguments()?).fetch_all(self.reader()).await? {
                let Some((_, figures)) =
                    places.get(&row.try_get::<String, _>("key")?).and_then(|place| found.get_mut(*place))
                else {
                    continue;
                };
                let spread = (measure.set)(figures);
                (spread.p50, spread.p95) = (row.try_get("p50")?, row.try_get("p95")?);
            }
        }
        Ok(found)
    }
}
