//! Faults of ours at an error tracker: errors that are logged and panics of tasks come with their call and without anything personal.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::routing::post;
use common::{PATIENCE, Server};
use metrics_exporter_prometheus::PrometheusBuilder;
use omnivox::config::LogConfig;
use omnivox::telemetry::{self, reports};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tracing::Instrument;

/// A tracker: what is sent to it, the event alone, with who sent it.
async fn tracker() -> (String, mpsc::UnboundedReceiver<(String, Value)>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let take = |State(sender): State<mpsc::UnboundedSender<(String, Value)>>,
                Path(project): Path<String>,
                headers: HeaderMap,
                body: Bytes| async move {
        assert_eq!(project, "7");
        let auth = headers["x-sentry-auth"].to_str().unwrap().to_owned();
        let text = String::from_utf8(body.to_vec()).unwrap();
        // Headers of the envelope, headers of its item, the item.
        let mut lines = text.lines();
        let head: Value = serde_json::from_str(lines.next().unwrap()).unwrap();
        let item: Value = serde_json::from_str(lines.next().unwrap()).unwrap();
        let event: Value = serde_json::from_str(lines.next().unwrap()).unwrap();
        assert_eq!(item["type"], "event");
        let (of_envelope, own) = (head["event_id"].as_str().unwrap(), event["event_id"].as_str().unwrap());
        assert_eq!(of_envelope.replace('-', ""), own);
        sender.send((auth, event)).unwrap();
        "{}"
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dsn = format!("http://a-key@{}/7", listener.local_addr().unwrap());
    let router = Router::new().route("/api/{project}/envelope/", post(take)).with_state(sender);
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (dsn, receiver)
}

async fn next(events: &mut mpsc::UnboundedReceiver<(String, Value)>) -> (String, Value) {
    tokio::time::timeout(PATIENCE, events.recv()).await.expect("a report").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_and_panics_come_with_their_call_without_numbers_and_no_more_than_so_many() {
    let (dsn, mut events) = tracker().await;
    let reports = reports::Reports::start(&dsn, "node-1").unwrap();
    telemetry::init_logs(&LogConfig::default(), Some(reports)).unwrap();
    let span = || tracing::info_span!("call", call = %"0mihq3k2a-0001");

    async { tracing::error!(peer = "sip:alice@198.51.100.7", "no answer of {}", "+49 30 1234567") }
        .instrument(span())
        .await;
    let (auth, event) = next(&mut events).await;
    assert!(auth.contains("sentry_key=a-key"), "{auth}");
    // A level that is not said is an error.
    assert_eq!((event.get("level"), &event["tags"]["call"]), (None, &json!("0mihq3k2a-0001")));
    assert_eq!(event["message"], "no answer of <masked>");
    assert_eq!((&event["server_name"], &event["logger"]), (&json!("node-1"), &json!("reports")));

    let panicking = async {
        tokio::task::yield_now().await;
        let said = String::from("+49301234567, password=hunter2");
        assert!(said.is_empty(), "{said} of sip:alice@example.net");
    };
    assert!(tokio::spawn(panicking.instrument(span())).await.is_err());
    let (_, panic) = next(&mut events).await;
    assert_eq!((&panic["level"], &panic["tags"]["call"]), (&json!("fatal"), &json!("0mihq3k2a-0001")));
    assert!(panic["culprit"].as_str().unwrap().starts_with("tests/reports.rs:"), "{panic}");
    assert!(panic["extra"]["backtrace"].as_str().unwrap().contains("reports::"), "{panic}");
    for personal in ["301234567", "hunter2", "alice", "1234567"] {
        assert!(!format!("{event}{panic}").contains(personal), "{personal}: {event} {panic}");
    }

    let recorder = PrometheusBuilder::new().build_recorder();
    let counts = recorder.handle();
    // What is no error is nobody's business, and after so many a minute there is silence.
    tracing::warn!("a warning");
    metrics::with_local_recorder(&recorder, || {
        for _ in 0..2 * reports::A_MINUTE {
            tracing::error!("again");
        }
    });
    for _ in 2..reports::A_MINUTE {
        let (_, event) = next(&mut events).await;
        assert_eq!((&event["message"], event["tags"].get("call")), (&json!("again"), None));
    }
    assert!(counts.render().contains("omnivox_error_reports_dropped_total{reason=\"rate\"} 32"), "{}", counts.render());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_servers_errors_come_by_its_configuration() {
    let (dsn, mut events) = tracker().await;
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("own.pem");
    std::fs::write(&own, format!("{}{}", made.cert.pem(), made.signing_key.serialize_pem())).unwrap();
    let config = format!(
        "[telemetry]\nsentry_dsn = \"{dsn}\"\n[control]\nnode = \"node-2\"\n[http]\ntls_listen = \"127.0.0.1:0\"\ncertificate = \"{}\"\n",
        own.display()
    );
    let server = Server::start_with(&config, tempfile::tempdir().unwrap(), &[]);
    std::fs::write(&own, "nothing").unwrap();
    let (_, event) = next(&mut events).await;
    assert_eq!(event["server_name"], "node-2");
    assert!(event["message"].as_str().unwrap().contains("the old one stays"), "{event}");
    server.stop();
}
