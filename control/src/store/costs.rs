//! What ended calls of a span of time cost, summed up where the calls are. Money is in whole millionths of the currency's unit.

use std::collections::HashMap;

use serde::Serialize;
use sqlx::{Row, any::AnyRow};
use utoipa::ToSchema;

use super::conditions::Conditions;
use super::figures::{FigureFilter, Span};
use super::records::Visible;
use super::{Backend, Store, StoreError};

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

/// What calls cost. Means are rounded half up.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, ToSchema)]
pub struct CostFigures {
    /// Calls of which something is priced; the others are not in the figures.
    pub calls: i64,
    /// Of them those that cost more than is said: something that they used has no price, or it is not known how much it was.
    pub partial: i64,
    /// What the money is in (ISO 4217). None where calls were priced in several: then there is no sum.
    pub currency: Option<String>,
    /// All together, in millionths.
    pub total_micros: Option<i64>,
    /// Mean of a call.
    pub per_call_micros: Option<i64>,
    /// Mean of a minute from answer to end.
    pub per_minute_micros: Option<i64>,
    /// Mean of an answer of the agent's.
    pub per_answer_micros: Option<i64>,
}

impl Store {
    /// What calls that somebody may see cost, by what they are put together by; those of which nothing is priced are left out.
    ///
    /// # Errors
    /// The database's.
    pub async fn costs(
        &self,
        visible: &Visible,
        filter: &FigureFilter,
        by: By<'_>,
    ) -> Result<HashMap<String, CostFigures>, StoreError> {
        let (sql, wanted) = statement(self.backend(), visible, filter, by);
        let rows = sqlx::query_with(sqlx::AssertSqlSafe(sql), wanted.arguments()?).fetch_all(self.reader()).await?;
        rows.iter().map(|row| Ok((row.try_get("key")?, figures(row)?))).collect()
    }

    /// How the database would read the sums if it had many rows, in its own words.
    #[doc(hidden)]
    pub async fn explain_costs(&self, visible: &Visible, by: By<'_>) -> Result<String, StoreError> {
        let (sql, wanted) = statement(self.backend(), visible, &FigureFilter::default(), by);
        self.explain(&sql, &wanted).await
    }
}

fn statement(backend: Backend, visible: &Visible, filter: &FigureFilter, by: By<'_>) -> (String, Conditions) {
    // Without being told, SQLite reads the calls themselves, priced or not.
    let calls = match backend {
        Backend::Sqlite => "call_records r INDEXED BY call_records_costs",
        Backend::Postgres => "call_records r",
    };
    let mut wanted = Conditions::default();
    wanted.say("r.cost IS NOT NULL".to_owned());
    let mut with = String::new();
    let within = |wanted: &mut Conditions, span: Span| {
        wanted.add("r.started_at >= ?", span.from.0);
        wanted.add("r.started_at < ?", span.until.0);
    };
    let (key, from) = match by {
        By::Spans(spans) => {
            // Numbers of ours: they stand in the statement.
            let value = |(n, span): (usize, &Span)| {
                format!("(CAST({n} AS BIGINT), CAST({} AS BIGINT), CAST({} AS BIGINT))", span.from.0, span.until.0)
            };
            let values: Vec<String> = spans.iter().enumerate().map(value).collect();
            with = format!("WITH spans (n, lo, hi) AS (VALUES {})", values.join(", "));
            ("CAST(b.n AS TEXT)", format!("spans b JOIN {calls} ON r.started_at >= b.lo AND r.started_at < b.hi"))
        }
        By::Target(span) => {
            within(&mut wanted, span);
            ("r.target", calls.to_owned())
        }
        By::Device(span) => {
            within(&mut wanted, span);
            wanted.add("d.started_at >= ?", span.from.0);
            wanted.add("d.started_at < ?", span.until.0);
            wanted.say("substr(d.owner, 1, 7) = 'device/'".to_owned());
            if let Visible::Device(device) = visible {
                wanted.add("d.owner = ?", format!("device/{device}"));
            }
            let owners = "call_owners d ON d.started_at = r.started_at AND d.call = r.call";
            ("substr(d.owner, 8)", format!("{calls} JOIN {owners}"))
        }
    };
    if let Some(owner) = visible.owner() {
        wanted.add("EXISTS (SELECT 1 FROM call_owners o WHERE o.owner = ? AND o.started_at = r.started_at AND o.call = r.call)", owner);
    }
    wanted.equals("r.direction", filter.direction.as_ref());
    wanted.equals("r.target", filter.target.as_ref());
    let sum = |what: &str, name: &str| format!("CAST(SUM({what}) AS BIGINT) AS {name}");
    let sums = [
        sum("r.cost", "total"),
        sum("r.cost_partial", "partial"),
        sum("r.duration_ms", "talk_ms"),
        sum("r.answers", "answers"),
    ];
    let sql = format!(
        "{with} SELECT {key} AS key, COUNT(*) AS calls, {}, MIN(r.currency) AS lowest, MAX(r.currency) AS highest
         FROM {from} WHERE {} GROUP BY {key}",
        sums.join(", "),
        wanted.wheres()
    );
    (sql, wanted)
}

fn figures(row: &AnyRow) -> Result<CostFigures, sqlx::Error> {
    let (calls, total): (i64, i64) = (row.try_get("calls")?, row.try_get("total")?);
    let (talk_ms, answers): (i64, i64) = (row.try_get("talk_ms")?, row.try_get("answers")?);
    let (lowest, highest): (Option<String>, Option<String>) = (row.try_get("lowest")?, row.try_get("highest")?);
    let figures = CostFigures { calls, partial: row.try_get("partial")?, ..CostFigures::default() };
    if lowest != highest {
        return Ok(figures);
    }
    Ok(CostFigures {
        currency: lowest,
        total_micros: Some(total),
        per_call_micros: mean(total, 1, calls),
        per_minute_micros: mean(total, 60_000, talk_ms),
        per_answer_micros: mean(total, 1, answers),
        ..figures
    })
}

/// `total * times / parts`, rounded half up.
fn mean(total: i64, times: i64, parts: i64) -> Option<i64> {
    let (all, parts) = (i128::from(total) * i128::from(times), i128::from(parts));
    (parts > 0).then(|| i64::try_from((all * 2 + parts).div_euclid(parts * 2)).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_are_rounded_half_up_and_of_nothing_there_is_none() {
        assert_eq!([mean(5, 1, 2), mean(4, 1, 3), mean(7, 1, 0)], [Some(3), Some(1), None]);
        assert_eq!(mean(i64::MAX, 60_000, 1), Some(i64::MAX));
    }
}
