//! A server with `/v1/audio/transcriptions` that looks at what it is sent, and answers well or badly.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use axum::routing::post;
use futures::StreamExt as _;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Answer {
    Words,
    Unauthorised,
    Broken,
    NoJson,
    Cut,
    Huge,
    Never,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) authorization: Option<String>,
    pub(crate) fields: BTreeMap<String, String>,
    pub(crate) file: Vec<u8>,
}

pub(crate) struct Server {
    pub(crate) base_url: String,
    seen: Arc<Mutex<Seen>>,
}

impl Server {
    pub(crate) fn seen(&self) -> Seen {
        self.seen.lock().unwrap().clone()
    }
}

pub(crate) async fn start(answer: Answer) -> Server {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let route = post(transcribe).with_state((answer, Arc::clone(&seen)));
    let app = Router::new()
        .route("/v1/audio/transcriptions", route)
        .layer(axum::extract::DefaultBodyLimit::max(16 * 1024 * 1024));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}/v1/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    Server { base_url, seen }
}

async fn transcribe(
    State((answer, seen)): State<(Answer, Arc<Mutex<Seen>>)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    *seen.lock().unwrap() = read(&headers, &body);
    let words = r#"{"task":"transcribe","language":"english","duration":1.5,"text":" When are you open?",
        "segments":[{"id":0,"avg_logprob":-0.1,"no_speech_prob":0.01,"text":" When are you open?"}],
        "words":[{"word":"When","start":0.4,"end":0.6},{"word":"are","start":0.6,"end":0.7},
                 {"word":"you","start":0.7,"end":0.9},{"word":"open","start":0.9,"end":1.3}]}"#;
    let (status, body) = match answer {
        Answer::Words => (StatusCode::OK, Body::from(words)),
        Answer::Unauthorised => (StatusCode::UNAUTHORIZED, Body::from("{}")),
        Answer::Broken => (StatusCode::SERVICE_UNAVAILABLE, Body::from("out of order")),
        Answer::NoJson => (StatusCode::OK, Body::from("<html>welcome</html>")),
        Answer::Huge => (StatusCode::OK, Body::from(vec![b' '; 2 * 1024 * 1024])),
        Answer::Cut => {
            let pieces = [Ok(Bytes::from_static(b"{\"text\":")), Err(std::io::Error::other("cut"))];
            (StatusCode::OK, Body::from_stream(futures::stream::iter(pieces)))
        }
        Answer::Never => {
            let never = futures::stream::pending::<Result<Bytes, std::io::Error>>();
            (StatusCode::OK, Body::from_stream(never.boxed()))
        }
    };
    Response::builder().status(status).header(header::CONTENT_TYPE, "application/json").body(body).unwrap()
}

/// Takes `multipart/form-data` apart (RFC 7578).
fn read(headers: &HeaderMap, body: &[u8]) -> Seen {
    let text = |name| headers.get(name).map(|value: &axum::http::HeaderValue| value.to_str().unwrap().to_owned());
    let content_type = text(header::CONTENT_TYPE).expect("a content type");
    let boundary = content_type.strip_prefix("multipart/form-data; boundary=").expect("a boundary");
    let mark = format!("--{boundary}").into_bytes();
    let mut seen = Seen { authorization: text(header::AUTHORIZATION), ..Seen::default() };
    let marks: Vec<usize> = (0..body.len()).filter(|at| body[*at..].starts_with(&mark)).collect();
    assert!(body[marks[marks.len() - 1] + mark.len()..].starts_with(b"--"), "the last boundary closes the body");
    for pair in marks.windows(2) {
        let part = &body[pair[0] + mark.len() + 2..pair[1] - 2];
        let split = part.windows(4).position(|four| four == b"\r\n\r\n").expect("a part has a head");
        let (head, data) = (String::from_utf8(part[..split].to_vec()).unwrap(), &part[split + 4..]);
        let name = head.split("name=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a part has a name");
        if name == "file" {
            assert!(
                head.contains("filename=\"speech.wav\"") && head.to_lowercase().contains("content-type: audio/wav")
            );
            seen.file = data.to_vec();
        } else {
            seen.fields.insert(name.to_owned(), String::from_utf8(data.to_vec()).unwrap());
        }
    }
    seen
}
