//! Figures over ended calls: key figures by time, and reports by call, by what answered, by device; as JSON and as CSV (RFC 4180).

mod csv;
mod steps;

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use self::csv::{write_calls, write_groups};
use self::steps::{steps, zone};
use super::extract::{Params, text};
use super::problem::Problem;
use super::records::check;
use crate::control::Control;
use crate::identity::{Caller, Role};
use crate::store::Store;
use crate::store::costs::{By, CostFigures};
use crate::store::figures::{FigureFilter, Figures, Span};
use crate::store::records::{After, CallRecord, RecordFilter, Visible};
use crate::time::Moment;

/// A span of time is at most this long, in days.
pub const SPAN_DAYS: i64 = 1_100;
/// Steps of a series at most.
pub const STEPS_LIMIT: usize = 800;
/// Calls of one report at most.
pub const ROWS_LIMIT: usize = 1_000_000;
/// Calls read at once for a report.
const ROWS_AT_ONCE: i64 = 500;

/// The steps of a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Step {
    /// Hours.
    Hour,
    /// Days.
    Day,
    /// Weeks, from Monday on.
    Week,
}

/// How a report is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Format {
    /// JSON.
    #[default]
    Json,
    /// CSV.
    Csv,
}

/// Which calls are counted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct KpiQuery {
    /// Began then or later.
    from: Moment,
    /// Began before then; at most 1,100 days after `from`.
    to: Moment,
    /// The steps of the series, at most 800; without it there is none.
    #[param(inline)]
    by: Option<Step>,
    /// Where days begin, a name of the IANA's time zone database; UTC where it does not say.
    #[param(example = "Europe/Berlin")]
    zone: Option<String>,
    /// `inbound` or `outbound`.
    direction: Option<String>,
    /// What answered.
    target: Option<String>,
    /// Calls of this team; supervisors have their own.
    team: Option<String>,
}

/// Which calls a report counts.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ReportQuery {
    /// Began then or later.
    from: Moment,
    /// Began before then; at most 1,100 days after `from`.
    to: Moment,
    /// `json` or `csv`.
    #[serde(default)]
    #[param(inline)]
    format: Format,
    /// `inbound` or `outbound`.
    direction: Option<String>,
    /// What answered.
    target: Option<String>,
    /// Calls of this team; supervisors have their own.
    team: Option<String>,
}

/// Which calls a report lists.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct CallsQuery {
    /// `json` or `csv`.
    #[param(inline)]
    format: Format,
    /// Began then or later.
    from: Option<Moment>,
    /// Began before then.
    until: Option<Moment>,
    /// `inbound` or `outbound`.
    direction: Option<String>,
    /// The caller's number or name, whole.
    caller: Option<String>,
    /// The number or name that was called, whole.
    callee: Option<String>,
    /// What answered.
    target: Option<String>,
    /// Whose doing the end was.
    class: Option<String>,
    /// Why it ended.
    reason: Option<String>,
    /// Words that were said, all of them in one turn.
    words: Option<String>,
}

/// Key figures.
#[derive(Debug, Serialize, ToSchema)]
pub struct Kpis {
    /// Of the whole span.
    pub total: Figures,
    /// What they cost, where something of it is priced.
    pub cost: Option<CostFigures>,
    /// Step by step, also where nothing happened.
    pub series: Vec<KpiStep>,
    /// By what answered, most calls first.
    pub targets: Vec<Group>,
}

/// One step of a series.
#[derive(Debug, Serialize, ToSchema)]
pub struct KpiStep {
    /// It begins.
    pub from: Moment,
    /// It ends.
    pub to: Moment,
    /// What calls came to.
    #[serde(flatten)]
    pub figures: Figures,
    /// What they cost, where something of it is priced.
    pub cost: Option<CostFigures>,
}

/// Calls that have something in common.
#[derive(Debug, Serialize, ToSchema)]
pub struct Group {
    /// What: an agent's name, a device's.
    pub name: String,
    /// What calls came to.
    #[serde(flatten)]
    pub figures: Figures,
    /// What they cost, where something of it is priced.
    pub cost: Option<CostFigures>,
}

/// A report.
#[derive(Debug, Serialize, ToSchema)]
pub struct Report {
    /// Most calls first.
    pub items: Vec<Group>,
}

/// Show key figures
///
/// Of the calls that one may see: how many, how long, how soon they were answered, how they sounded.
#[utoipa::path(get, path = "/api/v1/kpis", operation_id = "showKpis", tag = "records", params(KpiQuery),
    responses((status = 200, description = "The figures", body = Kpis)))]
pub(crate) async fn kpis(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Params(query): Params<KpiQuery>,
) -> Result<Json<Kpis>, Problem> {
    let span = span(query.from, query.to)?;
    let zone = zone(query.zone.as_deref())?;
    let steps = match query.by {
        Some(step) => steps(span, step, zone)?,
        None => Vec::new(),
    };
    let store = &control.store;
    let visible = visible(store, &caller, query.team).await?;
    let filter = filter(query.direction, query.target)?;
    let found = store.key_figures(&visible, &filter, span, &steps).await?;
    let step = |(span, figures): (&Span, Figures)| KpiStep { from: span.from, to: span.until, figures, cost: None };
    let mut series: Vec<KpiStep> = steps.iter().zip(found.steps).map(step).collect();
    // A statement may be as long as the database takes it; the spans of one are few.
    for (at, some) in steps.chunks(STEPS_AT_ONCE).enumerate() {
        for (place, cost) in store.costs(&visible, &filter, By::Spans(some)).await? {
            let place = place.parse::<usize>().ok().map(|place| at * STEPS_AT_ONCE + place);
            if let Some(step) = place.and_then(|place| series.get_mut(place)) {
                step.cost = Some(cost);
            }
        }
    }
    let cost = store.costs(&visible, &filter, By::Spans(&[span])).await?.into_values().next();
    let targets = groups(found.targets, store.costs(&visible, &filter, By::Target(span)).await?);
    Ok(Json(Kpis { total: found.total, cost, series, targets }))
}

/// Steps of one statement.
const STEPS_AT_ONCE: usize = 200;

/// Report by what answered
#[utoipa::path(get, path = "/api/v1/reports/agents", operation_id = "reportAgents", tag = "records", params(ReportQuery),
    responses((status = 200, description = "The figures of each agent and whatever else answered", content((Report = "application/json"), (String = "text/csv")))))]
pub(crate) async fn agents(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Params(query): Params<ReportQuery>,
) -> Result<Response, Problem> {
    let (span, filter, visible) = query.counts(&control.store, &caller).await?;
    let found = control.store.figures_by_target(&visible, &filter, span).await?;
    let costs = control.store.costs(&visible, &filter, By::Target(span)).await?;
    grouped(query.format, "agent", groups(found, costs))
}

/// Report by device
///
/// Each call counts for every device that took part. A device is a user's.
#[utoipa::path(get, path = "/api/v1/reports/users", operation_id = "reportUsers", tag = "records", params(ReportQuery),
    responses((status = 200, description = "The figures of each device", content((Report = "application/json"), (String = "text/csv")))))]
pub(crate) async fn users(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Params(query): Params<ReportQuery>,
) -> Result<Response, Problem> {
    let (span, filter, visible) = query.counts(&control.store, &caller).await?;
    let found = control.store.figures_by_device(&visible, &filter, span).await?;
    let costs = control.store.costs(&visible, &filter, By::Device(span)).await?;
    grouped(query.format, "device", groups(found, costs))
}

/// Report call by call
///
/// The same filters as those of the list; as many as a million, latest first, sent as they are read. In CSV, cells that spreadsheets would take for a
/// formula have `'` before them.
#[utoipa::path(get, path = "/api/v1/reports/calls", operation_id = "reportCalls", tag = "records", params(CallsQuery),
    responses((status = 200, description = "The calls", content((Vec<CallRecord> = "application/json"), (String = "text/csv")))))]
pub(crate) async fn calls(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Params(query): Params<CallsQuery>,
) -> Result<Response, Problem> {
    let CallsQuery { format, from, until, direction, caller: from_whom, callee, target, class, reason, words } = query;
    let filter = RecordFilter { from, until, direction, caller: from_whom, callee, target, class, reason, words };
    check(&filter)?;
    let listing = Listing { control, visible: caller.sees(), filter, format, after: None, rows: 0, is_done: false };
    let body = Body::from_stream(stream::try_unfold(listing, Listing::next));
    Ok(sent(format, "calls", body))
}

/// A report of calls under way.
struct Listing {
    control: Arc<Control>,
    visible: Visible,
    filter: RecordFilter,
    format: Format,
    after: Option<After>,
    rows: usize,
    is_done: bool,
}

impl Listing {
    /// The next piece; a database that fails breaks the answer off, so that nobody takes a part for the whole.
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, std::io::Error> {
        if self.is_done {
            return Ok(None);
        }
        let wanted = ROWS_AT_ONCE.min(i64::try_from(ROWS_LIMIT - self.rows).unwrap_or(ROWS_AT_ONCE));
        let page = self.control.store.records(&self.visible, &self.filter, self.after.as_ref(), wanted).await;
        let page = page.map_err(|fault| {
            tracing::error!("a report was broken off: {fault}");
            std::io::Error::other(fault)
        })?;
        let is_first = self.after.is_none();
        let mut piece = Vec::new();
        match self.format {
            Format::Csv => write_calls(&mut piece, is_first, &page)?,
            Format::Json => {
                for (at, call) in page.iter().enumerate() {
                    piece.extend_from_slice(if is_first && at == 0 { b"[" } else { b"," });
                    serde_json::to_writer(&mut piece, call)?;
                }
            }
        }
        self.rows += page.len();
        self.is_done = page.len() < usize::try_from(ROWS_AT_ONCE).unwrap_or_default() || self.rows >= ROWS_LIMIT;
        if self.format == Format::Json && self.is_done {
            piece.extend_from_slice(if self.rows == 0 { b"[]" } else { b"]" });
        }
        self.after =
            page.last().map(|last| After { started_at: last.started_at.0, call: last.call.clone() }).or(self.after);
        Ok(Some((piece.into(), self)))
    }
}

impl ReportQuery {
    /// When, which, and whose calls are counted.
    async fn counts(&self, store: &Store, caller: &Caller) -> Result<(Span, FigureFilter, Visible), Problem> {
        let span = span(self.from, self.to)?;
        let filter = filter(self.direction.clone(), self.target.clone())?;
        Ok((span, filter, visible(store, caller, self.team.clone()).await?))
    }
}

fn grouped(format: Format, what: &str, items: Vec<Group>) -> Result<Response, Problem> {
    if format == Format::Json {
        return Ok(Json(Report { items }).into_response());
    }
    let mut text = Vec::new();
    write_groups(&mut text, what, &items).map_err(|fault| Problem::internal("a report", fault))?;
    Ok(sent(Format::Csv, what, Body::from(text)))
}

fn sent(format: Format, name: &str, body: Body) -> Response {
    let mut response = body.into_response();
    let kind = match format {
        Format::Json => "application/json",
        Format::Csv => "text/csv; charset=utf-8",
    };
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    if let (Format::Csv, Ok(to)) = (format, HeaderValue::from_str(&format!("attachment; filename=\"{name}.csv\""))) {
        response.headers_mut().insert(header::CONTENT_DISPOSITION, to);
    }
    response
}

/// What calls came to and cost, by what they have in common.
fn groups(found: Vec<(String, Figures)>, mut costs: HashMap<String, CostFigures>) -> Vec<Group> {
    let group = |(name, figures)| Group { cost: costs.remove(&name), figures, name };
    found.into_iter().map(group).collect()
}

fn span(from: Moment, until: Moment) -> Result<Span, Problem> {
    if until <= from || until.0.saturating_sub(from.0) > SPAN_DAYS * 86_400_000 {
        return Err(Problem::field("to", format!("write a time after `from`, by at most {SPAN_DAYS} days")));
    }
    Ok(Span { from, until })
}

fn filter(direction: Option<String>, target: Option<String>) -> Result<FigureFilter, Problem> {
    check(&RecordFilter { direction: direction.clone(), target: target.clone(), ..RecordFilter::default() })?;
    Ok(FigureFilter { direction, target })
}

/// Whose calls are counted: those that one sees, and of them a team's.
async fn visible(store: &Store, caller: &Caller, team: Option<String>) -> Result<Visible, Problem> {
    let Some(team) = team else { return Ok(caller.sees()) };
    let team = text("team", &team, 64)?;
    let may = match caller.user.role {
        Role::Administrator => true,
        Role::Supervisor => caller.user.team.as_ref() == Some(&team),
        Role::Operator => false,
    };
    if !may {
        return Err(Problem::field("team", "name your own as its supervisor, or leave it out"));
    }
    // Of a team that was taken away the figures stay.
    if store.team(&team).await?.is_none() && !store.has_figures(&team).await? {
        return Err(Problem::field("team", "there is no such team: write the id of one, or leave it out"));
    }
    Ok(Visible::Team(team))
}
