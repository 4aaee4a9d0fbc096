//! HTTP: `/healthz` (the process lives), `/readyz` (it takes calls, or why not), `/metrics`; and, for askers on
//! this machine alone, `/calls/ID/trace` (a call's signalling as text; `latest` stands for the call that began last) and
//! `/calls/ID/trace.pcap` (as a capture). [`listen`] has the sockets, with TLS and without, [`edge`] what every request passes first.

pub(crate) mod edge;
pub(crate) mod listen;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use control::api::health::parts;
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Serialize;
use sip::trace::CallMessages;
use sip::trace::ladder::draw;
use sip::trace::pcap;

use crate::hub::Hub;
use crate::plane::Interface;
use crate::readiness::Readiness;
use crate::trace::Tracer;
use crate::web::whip;

use self::edge::Edge;

/// What the routes need to know.
#[derive(Clone)]
pub struct HttpState {
    /// What is ready and what is not.
    pub readiness: Arc<Readiness>,
    /// Renders the metrics; none where another recorder collects them.
    pub metrics: Option<PrometheusHandle>,
    /// Keeps the signalling of calls.
    pub tracer: Arc<Tracer>,
    /// Takes calls of web pages.
    pub(crate) web: Option<Arc<Hub>>,
    /// Users, records, calls in progress.
    pub(crate) interface: Interface,
}

/// All routes, behind what every request passes first.
pub(crate) fn router(state: HttpState, edge: Arc<Edge>) -> Router {
    let web = state.web.clone().map(whip::router).unwrap_or_default();
    let interface = state.interface.clone();
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(render_metrics))
        .route("/calls/{id}/trace", get(ladder))
        .route("/calls/{id}/trace.pcap", get(capture))
        .with_state(state)
        .merge(web)
        .fallback(move |request: Request| interface.clone().answer(request))
        .layer(middleware::from_fn_with_state(edge, edge::pass))
}

async fn healthz() -> &'static str {
    "ok\n"
}

#[derive(Serialize)]
struct ReadyAnswer {
    ready: bool,
    waiting_for: Vec<String>,
    /// What fails though calls go on: `PART: WHY` on the server's own machine, the part alone elsewhere.
    faults: Vec<String>,
}

async fn readyz(
    State(state): State<HttpState>,
    ConnectInfo(asker): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Response {
    let waiting_for = state.readiness.waiting_for();
    let code = if waiting_for.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let faults = state.readiness.faults();
    let faults = if edge::is_own_machine(asker, &headers) { faults } else { parts(faults) };
    (code, Json(ReadyAnswer { ready: waiting_for.is_empty(), waiting_for, faults })).into_response()
}

async fn render_metrics(State(state): State<HttpState>) -> Response {
    let Some(metrics) = state.metrics else { return StatusCode::NOT_FOUND.into_response() };
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics.render()).into_response()
}

async fn ladder(
    State(state): State<HttpState>,
    ConnectInfo(asker): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Response {
    show(&state, (asker, &headers), &id, |messages| draw(messages).into_response())
}

async fn capture(
    State(state): State<HttpState>,
    ConnectInfo(asker): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Response {
    let kind = [(header::CONTENT_TYPE, "application/vnd.tcpdump.pcap")];
    show(&state, (asker, &headers), &id, |messages| (kind, pcap::file(messages)).into_response())
}

/// Signalling names people and who calls whom: it is shown on this machine alone.
fn show(
    state: &HttpState,
    (asker, headers): (SocketAddr, &HeaderMap),
    id: &str,
    as_what: impl FnOnce(&CallMessages) -> Response,
) -> Response {
    if !edge::is_own_machine(asker, headers) {
        let why = "the signalling of calls is shown on the server's own machine alone: ask there\n";
        return (StatusCode::FORBIDDEN, why).into_response();
    }
    let latest = if id == "latest" { state.tracer.latest() } else { None };
    match state.tracer.messages(latest.as_deref().unwrap_or(id)) {
        Some(messages) => as_what(&messages),
        None => {
            let why = format!("nothing is kept of a call {id}: see trace.calls and trace.mb\n");
            (StatusCode::NOT_FOUND, why).into_response()
        }
    }
}
