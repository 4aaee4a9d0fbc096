//! Somebody who is told by webhooks: a real HTTP server, which answers as the test says and notes what came.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use control::time::Moment;
use control::webhooks::signature::Secret;
use serde_json::Value;
use tokio::sync::watch;

/// What came.
#[derive(Debug, Clone)]
pub struct Message {
    pub id: String,
    pub seconds: i64,
    pub signatures: String,
    pub body: String,
    pub path: String,
    /// What was answered.
    pub status: u16,
}

impl Message {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// Whether it is signed with this secret.
    pub fn is_signed(&self, secret: &str) -> bool {
        let (time, now) = (self.seconds.to_string(), Moment(self.seconds * 1_000));
        Secret::parse(secret).unwrap().verify(&self.id, &time, &self.signatures, self.body.as_bytes(), now).is_ok()
    }
}

type Answers = Arc<dyn Fn(&Message) -> Response + Send + Sync>;

#[derive(Clone)]
pub struct Receiver {
    pub url: String,
    came: Arc<Mutex<Vec<Message>>>,
    count: Arc<watch::Sender<usize>>,
    answers: Arc<Mutex<Answers>>,
}

impl Receiver {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let answers: Answers = Arc::new(|_| StatusCode::NO_CONTENT.into_response());
        let receiver = Self {
            url,
            came: Arc::default(),
            count: Arc::new(watch::channel(0).0),
            answers: Arc::new(Mutex::new(answers)),
        };
        let router = Router::new().fallback(take).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        receiver
    }

    pub fn answer(&self, how: impl Fn(&Message) -> Response + Send + Sync + 'static) {
        *self.answers.lock().unwrap() = Arc::new(how);
    }

    pub fn answer_with(&self, status: u16) {
        self.answer(move |_| StatusCode::from_u16(status).unwrap().into_response());
    }

    pub fn came(&self) -> Vec<Message> {
        self.came.lock().unwrap().clone()
    }

    /// Waits until so many messages came.
    pub async fn wait(&self, wanted: usize) -> Vec<Message> {
        self.count.subscribe().wait_for(|count| *count >= wanted).await.unwrap();
        self.came()
    }
}

async fn take(State(receiver): State<Receiver>, headers: HeaderMap, uri: axum::http::Uri, body: String) -> Response {
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    assert_eq!(header("content-type"), "application/json");
    let mut message = Message {
        id: header("webhook-id"),
        seconds: header("webhook-timestamp").parse().unwrap(),
        signatures: header("webhook-signature"),
        body,
        path: uri.path().to_owned(),
        status: 0,
    };
    let answers = Arc::clone(&*receiver.answers.lock().unwrap());
    let response = answers(&message);
    message.status = response.status().as_u16();
    let mut came = receiver.came.lock().unwrap();
    came.push(message);
    receiver.count.send_replace(came.len());
    drop(came);
    response
}
