//! Traces: what a call did is told to a collector (OTLP), through signalling, sound, model, database and webhook, as one trace.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::HashMap;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use common::{OMNIVOX, PATIENCE, Server, omnivox, told};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as AnyValue;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use serde_json::{Value, json};

const PASSWORD: &str = "walrus pedal quarry";
const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const ANSWER: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"Good day to you.\"}}]}\n\n\
data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"name\":\"open_030987654\",\"arguments\":\"{}\"}},\
{\"index\":1,\"function\":{\"name\":\"hang_up\",\"arguments\":\"{\\\"reason\\\":\\\"all is said\\\"}\"}}]}}]}\n\n\
data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n\
data: {\"choices\":[],\"usage\":{\"prompt_tokens\":50,\"completion_tokens\":5}}\n\ndata: [DONE]\n\n";

/// A collector, a language model and whoever is told by webhooks, in one.
#[derive(Default)]
struct Others {
    spans: Vec<Span>,
    /// `service.name` and what was sent along.
    services: Vec<(String, String)>,
    refused: bool,
    /// Bodies as they came.
    raw: Vec<u8>,
    /// `traceparent` by path.
    parents: Vec<(&'static str, String)>,
}

type Shared = Arc<Mutex<Others>>;

async fn start(others: &Shared) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new()
        .route("/v1/traces", post(collect))
        .route("/v1/chat/completions", post(|others, headers| note("model", others, headers)))
        .route("/hook", post(|others, headers| note("hook", others, headers)))
        .with_state(Arc::clone(others));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    format!("http://{address}")
}

async fn collect(State(others): State<Shared>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let mut others = others.lock().unwrap();
    // What is refused for now has to come again.
    if !std::mem::replace(&mut others.refused, true) {
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    assert_eq!(headers["content-type"], "application/x-protobuf");
    others.raw.extend(&body);
    let key = headers.get("x-key").map(|key| key.to_str().unwrap().to_owned()).unwrap_or_default();
    for of in ExportTraceServiceRequest::decode(body).unwrap().resource_spans {
        let service = text(&of.resource.unwrap().attributes, "service.name");
        others.services.push((service, key.clone()));
        others.spans.extend(of.scope_spans.into_iter().flat_map(|scope| scope.spans));
    }
    StatusCode::OK
}

async fn note(who: &'static str, State(others): State<Shared>, headers: HeaderMap) -> Response {
    let parent = headers.get("traceparent").map(|parent| parent.to_str().unwrap().to_owned()).unwrap_or_default();
    others.lock().unwrap().parents.push((who, parent));
    ([("content-type", "text/event-stream")], ANSWER).into_response()
}

fn text(attributes: &[opentelemetry_proto::tonic::common::v1::KeyValue], key: &str) -> String {
    let found = attributes.iter().find(|attribute| attribute.key == key).and_then(|found| found.value.clone()?.value);
    match found {
        Some(AnyValue::StringValue(text)) => text,
        other => other.map(|value| format!("{value:?}")).unwrap_or_default(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The spans of the trace that the call is in, once these are among them.
async fn trace(others: &Shared, call: &str, wanted: &[&str]) -> Vec<Span> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let spans = others.lock().unwrap().spans.clone();
        let root = spans.iter().find(|span| span.name == "call" && text(&span.attributes, "omnivox.call.id") == call);
        let own: Vec<Span> = root
            .map_or(Vec::new(), |root| spans.iter().filter(|span| span.trace_id == root.trace_id).cloned().collect());
        if wanted.iter().all(|name| own.iter().any(|span| span.name.starts_with(name))) {
            return own;
        }
        let names: Vec<&str> = own.iter().map(|span| span.name.as_str()).collect();
        assert!(tokio::time::Instant::now() < deadline, "{call}: {names:?} of {} spans", spans.len());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Somebody who administers the server: a client with their session, and what proves it.
async fn administrator(server: &Server) -> (reqwest::Client, String, String) {
    let data = format!("data.dir={}", server.folder.path().join("data").display());
    let mut adding = Command::new(OMNIVOX);
    adding.current_dir(server.folder.path()).args(["user", "add", "ada", "--set", &data]);
    let mut adding = adding.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    writeln!(adding.stdin.take().unwrap(), "{PASSWORD}").unwrap();
    let output = adding.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", told(&output));
    let client = reqwest::Client::new();
    let login = json!({ "name": "ada", "password": PASSWORD });
    let answer = client.post(format!("http://{}/api/v1/session", server.http)).json(&login).send().await.unwrap();
    let cookie = answer.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let csrf = answer.json::<Value>().await.unwrap()["csrf"].as_str().unwrap().to_owned();
    (client, cookie, csrf)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_one_trace_through_signalling_sound_model_database_and_webhook() {
    let others = Shared::default();
    let url = start(&others).await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("agents")).unwrap();
    let agent = format!(
        "[agent]\nname = \"helper\"\n[ear]\nrecognizer = \"openai\"\nbase_url = \"{url}/v1\"\n[brain]\nkind = \"openai\"\n[brain.openai]\nbase_url = \"{url}/v1\"\nmodel = \"m\"\n"
    );
    std::fs::write(folder.path().join("agents/helper.toml"), agent).unwrap();
    let config = format!(
        "[telemetry.otlp]\nendpoint = \"{url}\"\nheaders = \"x-key=s3cret\"\nservice = \"desk\"\n\
         [control]\nwebhooks_allow = [\"loopback\"]\n\
         [[trunks]]\nname = \"carrier\"\nhosts = [\"127.0.0.1:9\"]\n\
         [[routes]]\nfrom = [\"agents\"]\ncalled = \"+*\"\nto = \"trunk carrier\"\n"
    );
    let server = Server::start_with(&config, folder, &[]);
    server.wait_until_ready();
    let (client, cookie, csrf) = administrator(&server).await;
    let api = |path: &str, body: Value| {
        let request = client.post(format!("http://{}/api/v1/{path}", server.http)).json(&body);
        request.header("cookie", &cookie).header("x-csrf-token", &csrf)
    };
    let hook = json!({ "name": "hook", "url": format!("{url}/hook"), "events": ["call.ended"] });
    let made = api("webhooks", hook).send().await.unwrap();
    assert!(made.status().is_success(), "{}", made.text().await.unwrap());

    // The caller presses a key once they were greeted, and hears the model's answer.
    let calling = omnivox(server.folder.path(), &["call", &server.uri("helper"), "--from", "030987654", "--dtmf", "5"]);
    assert!(calling.status.success(), "{}", told(&calling));
    let record = server.wait_for_records(1).remove(0);
    let call = record["call"].as_str().unwrap();
    let tools = record["agent"]["turns"].as_array().unwrap().iter().find_map(|turn| turn["tools"].as_array()).unwrap();
    let came: Vec<_> =
        tools.iter().map(|tool| (tool["name"].as_str().unwrap(), tool["outcome"].as_str().unwrap())).collect();
    assert_eq!(came, [("open_030987654", "refused"), ("hang_up", "done")], "{record}");
    let models: Vec<_> =
        record["cost"]["lines"].as_array().unwrap().iter().filter(|line| line["kind"] == "model").collect();
    let used = json!({ "kind": "model", "name": "m", "answers": 1, "answers_unknown": 0, "tokens_in": 50, "tokens_cached": 0, "tokens_out": 5, "micros": null });
    assert_eq!(models, [&used], "{record}");
    assert_eq!(
        (&record["cost"]["micros"], &record["cost"]["is_partial"]),
        (&Value::Null, &json!(true)),
        "nothing is priced"
    );
    assert_eq!((&tools[1]["by"], &tools[1]["arguments"]), (&json!("model"), &json!("{\"reason\":\"all is said\"}")));
    let mut wanted = vec!["call", "INVITE", "media", "invoke_agent helper", "agent answers", "chat openai", "speak "];
    wanted.extend(["execute_tool hang_up", "execute_tool other", "INSERT", "POST"]);
    let spans = trace(&others, call, &wanted).await;
    let by_id: HashMap<&[u8], &Span> = spans.iter().map(|span| (&span.span_id[..], span)).collect();
    assert_eq!(by_id.len(), spans.len(), "each span has an id of its own");
    for span in &spans {
        assert!(span.start_time_unix_nano > 0 && span.start_time_unix_nano <= span.end_time_unix_nano, "{span:?}");
        if span.name == "call" {
            assert!(span.parent_span_id.is_empty(), "{span:?}");
            continue;
        }
        let parent = by_id.get(&span.parent_span_id[..]).unwrap_or_else(|| panic!("no parent of {span:?}"));
        let is_within = parent.start_time_unix_nano <= span.start_time_unix_nano
            && span.end_time_unix_nano <= parent.end_time_unix_nano;
        // What is done with a record comes after its call.
        let is_after = span.name.starts_with("INSERT") || span.name.starts_with("POST");
        assert!(is_within || is_after, "{span:?} of {parent:?}");
    }
    let parent_of = |name: &str| {
        let span = spans.iter().find(|span| span.name.starts_with(name)).unwrap();
        by_id[&span.parent_span_id[..]].name.as_str()
    };
    for (name, parent) in [
        ("INVITE", "call"),
        ("media", "call"),
        ("invoke_agent", "call"),
        ("agent answers", "invoke_agent helper"),
        ("chat openai", "agent answers"),
        ("execute_tool hang_up", "agent answers"),
        ("execute_tool other", "agent answers"),
        ("INSERT", "call"),
        ("POST", "call"),
    ] {
        assert_eq!(parent_of(name), parent, "{name}");
    }
    for (name, outcome, error) in [("hang_up", "done", ""), ("other", "refused", "refused")] {
        let span = spans.iter().find(|span| span.name == format!("execute_tool {name}")).unwrap();
        let told = |key: &str| text(&span.attributes, key);
        assert_eq!((told("gen_ai.operation.name"), told("gen_ai.tool.name")), ("execute_tool".into(), name.into()));
        assert_eq!((told("omnivox.tool.outcome"), told("error.type")), (outcome.into(), error.into()));
        assert_eq!(span.status.is_some(), !error.is_empty(), "{span:?}");
    }
    let posted = spans.iter().find(|span| span.name == "POST").unwrap();
    assert_eq!(text(&posted.attributes, "http.response.status_code"), "200");
    {
        let others = others.lock().unwrap();
        let in_trace = |who: &str| {
            let own = others.parents.iter().filter(|(to, _)| *to == who).map(|(_, parent)| parent.as_str());
            own.collect::<Vec<_>>()
        };
        let trace = hex(&posted.trace_id);
        assert_eq!(in_trace("hook"), [format!("00-{trace}-{}-01", hex(&posted.span_id))]);
        assert!(!in_trace("model").is_empty());
        assert!(in_trace("model").iter().all(|parent| parent.starts_with(&format!("00-{trace}-"))), "{trace}");
        assert!(others.services.iter().all(|(service, key)| service == "desk" && key == "s3cret"));
        let raw = String::from_utf8_lossy(&others.raw).into_owned();
        for personal in ["030987654", "sip:", "Good day", "all is said"] {
            assert!(!raw.contains(personal), "{personal} is personal");
        }
    }

    // A call that somebody else's trace asked for goes on with it, and comes to nothing.
    let order =
        api("calls", json!({ "to": "+4930123456", "connect_with": "helper" })).header("traceparent", TRACEPARENT);
    let answer = order.send().await.unwrap();
    assert_eq!(answer.status(), 202);
    let call = answer.json::<Value>().await.unwrap()["call"].as_str().unwrap().to_owned();
    let spans = trace(&others, &call, &["call", "INVITE"]).await;
    assert!(spans.iter().all(|span| hex(&span.trace_id) == "0af7651916cd43dd8448eb211c80319c"));
    let root = spans.iter().find(|span| span.name == "call").unwrap();
    assert_eq!(hex(&root.parent_span_id), "b7ad6b7169203331");
    assert!(server.get("/metrics").1.contains("omnivox_traces_exported_total"));
    server.stop();
}
