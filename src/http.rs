//! The HTTP listener: `/healthz` (the process lives), `/readyz` (it takes calls, or why not), `/metrics`.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::readiness::Readiness;

/// What the routes need to know.
#[derive(Clone)]
pub struct HttpState {
    /// What is ready and what is not.
    pub readiness: Arc<Readiness>,
    /// Renders the metrics; none where another recorder collects them.
    pub metrics: Option<PrometheusHandle>,
}

/// Binds the listener.
///
/// # Errors
/// The address is in use or not ours; the message names `http.listen`.
pub async fn bind(addr: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(addr).await.map_err(|fault| {
        anyhow::anyhow!(
            "cannot listen for HTTP on {addr}: {fault}. Stop what uses the port, or set http.listen to another address"
        )
    })
}

/// Serves until `stop`.
///
/// # Errors
/// The listener broke.
pub async fn serve(listener: TcpListener, state: HttpState, stop: CancellationToken) -> anyhow::Result<()> {
    let router = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(render_metrics))
        .with_state(state);
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await?;
    Ok(())
}

async fn healthz() -> &'static str {
    "ok\n"
}

#[derive(Serialize)]
struct ReadyAnswer {
    ready: bool,
    waiting_for: Vec<String>,
}

async fn readyz(State(state): State<HttpState>) -> Response {
    let waiting_for = state.readiness.waiting_for();
    let code = if waiting_for.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(ReadyAnswer { ready: waiting_for.is_empty(), waiting_for })).into_response()
}

async fn render_metrics(State(state): State<HttpState>) -> Response {
    let Some(metrics) = state.metrics else { return StatusCode::NOT_FOUND.into_response() };
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics.render()).into_response()
}
