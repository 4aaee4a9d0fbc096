//! A local server with `POST /v1/audio/speech` that speaks with Flite, or fails in a chosen way.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use agent::voice::Voices;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use codecs::pcm::SampleRate;
use futures::{StreamExt, stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// What the server does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Behaviour {
    /// Speaks, as it was asked to (24 kHz PCM, or WAV); `wav`: answers with WAV whatever was asked for.
    Speak { wav: bool },
    /// Answers with a status and words.
    Status(u16, &'static str),
    /// Takes the request and never answers.
    NeverAnswers,
    /// Sends the head and never a byte more.
    NoAudio,
    /// Sends a part, then nothing more.
    Stalls,
    /// Sends a part, then breaks the connection.
    Breaks,
    /// Sends a WAV file that is shorter than it says.
    ShortWav,
    /// Answers 200 with something of this type.
    Other(&'static str, &'static [u8]),
}

/// One request, as it came in.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) body: serde_json::Value,
    pub(crate) authorization: Option<String>,
}

/// The requests so far.
pub(crate) type Log = Arc<Mutex<Vec<Seen>>>;

/// Starts it; the answer is its base URL.
pub(crate) async fn start(behaviour: Behaviour) -> String {
    start_logged(behaviour).await.0
}

/// Starts it; with what it is asked.
pub(crate) async fn start_logged(behaviour: Behaviour) -> (String, Log) {
    let log = Log::default();
    let app = Router::new().route("/v1/audio/speech", post(speak)).with_state((behaviour.clone(), Arc::clone(&log)));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    if matches!(behaviour, Behaviour::Breaks) {
        tokio::spawn(break_off(listener));
    } else {
        tokio::spawn(async move { axum::serve(listener, app).await });
    }
    (url, log)
}

/// Reads the request, promises more than it sends, and closes.
async fn break_off(listener: tokio::net::TcpListener) {
    while let Ok((mut peer, _)) = listener.accept().await {
        let mut request = Vec::new();
        while !request.ends_with(b"}") && peer.read_buf(&mut request).await.is_ok_and(|count| count > 0) {}
        let head = "HTTP/1.1 200 OK\r\ncontent-type: audio/pcm\r\ncontent-length: 100000\r\n\r\n";
        peer.write_all(head.as_bytes()).await.unwrap();
        peer.write_all(&pcm_bytes(&tone())).await.unwrap();
    }
}

async fn speak(State((behaviour, log)): State<(Behaviour, Log)>, headers: HeaderMap, body: Bytes) -> Response {
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let text = body["input"].as_str().unwrap_or_default().to_owned();
    let wav = body["response_format"] == "wav";
    let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
    log.lock().unwrap().push(Seen { body, authorization });
    let some = stream::iter([Ok::<_, Infallible>(pcm_bytes(&tone()))]);
    match behaviour {
        Behaviour::Speak { wav: always } => spoken(&text, wav || always),
        Behaviour::Status(code, words) => (StatusCode::from_u16(code).unwrap(), words).into_response(),
        Behaviour::NeverAnswers => std::future::pending().await,
        Behaviour::NoAudio => audio("audio/pcm", stream::pending::<Result<Bytes, Infallible>>()),
        Behaviour::Stalls => audio("audio/pcm", some.chain(stream::pending())),
        Behaviour::Breaks => unreachable!("served by `break_off`"),
        Behaviour::ShortWav => {
            let mut bytes = wav_head(100_000);
            bytes.extend(pcm_bytes(&tone()));
            ([(header::CONTENT_TYPE, "audio/wav")], bytes).into_response()
        }
        Behaviour::Other(kind, bytes) => ([(header::CONTENT_TYPE, kind)], bytes).into_response(),
    }
}

fn spoken(text: &str, wav: bool) -> Response {
    let voice = Voices::new(0).from_name("flite:slt", SampleRate::HZ_24000).unwrap();
    let Ok(speech) = voice.speak(text) else {
        return (StatusCode::BAD_REQUEST, "nothing to say").into_response();
    };
    let head = if wav { Bytes::from(wav_head(u32::MAX)) } else { Bytes::new() };
    // Cut at odd places, as networks do.
    let pieces = speech.flat_map(|pcm| {
        let bytes = pcm_bytes(&pcm.unwrap());
        let odd = (bytes.len() / 2) | 1;
        let (left, right) = (bytes.slice(..odd), bytes.slice(odd..));
        stream::iter([Ok::<_, Infallible>(left), Ok(right)])
    });
    audio(if wav { "audio/wav" } else { "audio/pcm" }, stream::iter([Ok(head)]).chain(pieces))
}

fn audio<E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static>(
    kind: &'static str,
    pieces: impl futures::Stream<Item = Result<Bytes, E>> + Send + 'static,
) -> Response {
    ([(header::CONTENT_TYPE, kind)], Body::from_stream(pieces)).into_response()
}

/// 200 ms of a tone at 24 kHz.
fn tone() -> Vec<i16> {
    (0..4_800).map(|n| (f64::from(n) * 0.1).sin() * 8_000.0).map(|sample| sample as i16).collect()
}

fn pcm_bytes(pcm: &[i16]) -> Bytes {
    pcm.iter().flat_map(|sample| sample.to_le_bytes()).collect::<Vec<u8>>().into()
}

/// A WAV file's head: 24 kHz mono.
fn wav_head(data_bytes: u32) -> Vec<u8> {
    let mut head = b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0\x01\0\x01\0".to_vec();
    head.extend(24_000_u32.to_le_bytes());
    head.extend(48_000_u32.to_le_bytes());
    head.extend(b"\x02\0\x10\0data");
    head.extend(data_bytes.to_le_bytes());
    head
}
