//! A server with OpenAI's chat completions that behaves, or misbehaves in one way.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures::StreamExt;
use serde_json::{Value, json};

#[derive(Debug, Clone, Copy)]
pub enum Manner {
    /// Streams these pieces.
    Says(&'static [&'static str]),
    /// Streams these pieces and then calls a tool.
    Calls(&'static [&'static str], &'static str, &'static str),
    /// Streams these pieces and closes the connection.
    CutsAfter(&'static [&'static str]),
    /// Streams these pieces and then sends nothing more.
    HangsAfter(&'static [&'static str]),
    /// Streams these pieces and then something that is no JSON.
    WrongJsonAfter(&'static [&'static str]),
    /// Streams these pieces and then an error in the stream.
    ErrorAfter(&'static [&'static str]),
    /// Refuses.
    Refuses(u16, &'static str),
    /// Accepts and never answers.
    NeverAnswers,
    /// Sends what is no event stream.
    Html,
}

#[derive(Clone)]
struct Shared {
    manner: Manner,
    requests: Arc<Mutex<Vec<(HeaderMap, Value)>>>,
}

pub struct ChatServer {
    address: SocketAddr,
    shared: Shared,
    task: tokio::task::JoinHandle<()>,
}

impl ChatServer {
    pub async fn start(manner: Manner) -> Self {
        let shared = Shared { manner, requests: Arc::default() };
        let app = Router::new().route("/v1/chat/completions", post(complete)).with_state(shared.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { address, shared, task }
    }

    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// What was asked: headers and body.
    pub fn requests(&self) -> Vec<(HeaderMap, Value)> {
        self.shared.requests.lock().unwrap().clone()
    }
}

impl Drop for ChatServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn complete(State(shared): State<Shared>, headers: HeaderMap, body: Bytes) -> Response {
    shared.requests.lock().unwrap().push((headers, serde_json::from_slice(&body).unwrap_or(Value::Null)));
    let done = || {
        vec![
            Some(event(&json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": "stop" }] }))),
            Some("data: [DONE]\n\n".into()),
        ]
    };
    match shared.manner {
        Manner::Says(pieces) => {
            let usage = event(&json!({ "choices": [], "usage": {
                "prompt_tokens": 120, "completion_tokens": 7, "prompt_tokens_details": { "cached_tokens": 64 } } }));
            stream(pieces, [vec![Some(": keep-alive\n\n".into()), Some(usage)], done()].concat())
        }
        Manner::Calls(pieces, name, arguments) => stream(pieces, [tool(name, arguments), done()].concat()),
        Manner::CutsAfter(pieces) => stream(pieces, vec![]),
        Manner::HangsAfter(pieces) => stream(pieces, vec![None]),
        Manner::WrongJsonAfter(pieces) => stream(pieces, vec![Some("data: {\"choices\": [{\"del\n\n".into())]),
        Manner::ErrorAfter(pieces) => {
            stream(pieces, vec![Some(event(&json!({ "error": { "message": "out of memory" } })))])
        }
        Manner::Refuses(status, message) => {
            let body = json!({ "error": { "message": message } }).to_string();
            (StatusCode::from_u16(status).unwrap(), body).into_response()
        }
        Manner::NeverAnswers => futures::future::pending().await,
        Manner::Html => "<html>It works!</html>".into_response(),
    }
}

/// A tool's call in two pieces, as servers send it.
fn tool(name: &str, arguments: &str) -> Vec<Option<String>> {
    let (first, second) = arguments.split_at(arguments.len() / 2);
    let call = |function: Value| {
        event(&json!({ "choices": [{ "delta": { "tool_calls": [{ "index": 0, "function": function }] } }] }))
    };
    vec![Some(call(json!({ "name": name, "arguments": first }))), Some(call(json!({ "arguments": second })))]
}

fn event(value: &Value) -> String {
    format!("data: {value}\n\n")
}

/// Pieces of text, then these; `None` is silence for ever.
fn stream(pieces: &'static [&'static str], then: Vec<Option<String>>) -> Response {
    let text =
        pieces.iter().map(|piece| Some(event(&json!({ "choices": [{ "index": 0, "delta": { "content": piece } }] }))));
    let all: Vec<Option<String>> = text.chain(then).collect();
    let chunks = futures::stream::iter(all).then(|chunk| async move {
        match chunk {
            Some(chunk) => Ok::<_, Infallible>(Bytes::from(chunk)),
            None => {
                tokio::time::sleep(Duration::from_secs(3_600)).await;
                Ok(Bytes::new())
            }
        }
    });
    ([("content-type", "text/event-stream")], Body::from_stream(chunks)).into_response()
}
