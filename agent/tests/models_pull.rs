//! Fetching models from a server that behaves well and badly.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use agent::models::{CATALOGUE, Model, ModelError, Progress, State, Store, Trust, find};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use axum::routing::get;
use futures::StreamExt as _;

const SIZE: usize = 300_000;

fn content() -> Vec<u8> {
    (0..SIZE).map(|n| (n * 31 % 251) as u8).collect()
}

fn model() -> Model {
    Model { sha256: None, ..*find("silero-vad").unwrap() }
}

#[derive(Clone, Copy, PartialEq)]
enum Server {
    Whole,
    /// Cuts the first answer short, then serves ranges.
    CutsOnce,
    /// Knows no ranges.
    CutsOnceWithoutRanges,
    Missing,
    Stalls,
    WrongRange,
}

struct Running {
    base_url: String,
    asked: Arc<AtomicUsize>,
}

async fn start(kind: Server) -> Running {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let serve = move |headers: HeaderMap| {
        let number = counter.fetch_add(1, Ordering::SeqCst);
        async move { answer(kind, number, &headers) }
    };
    let app = Router::new().route("/models/{file}", get(serve));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}/models", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    Running { base_url, asked }
}

fn answer(kind: Server, number: usize, headers: &HeaderMap) -> Response {
    let content = content();
    let range = headers.get(header::RANGE).map(|range| range.to_str().unwrap().to_owned());
    let from = range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    let whole = Response::builder().status(StatusCode::OK).header(header::CONTENT_LENGTH, SIZE);
    match (kind, from) {
        (Server::Missing, _) => Response::builder().status(StatusCode::NOT_FOUND).body(Body::empty()).unwrap(),
        (Server::Stalls, _) => {
            let never = futures::stream::pending::<Result<Bytes, std::io::Error>>();
            Response::new(Body::from_stream(never.boxed()))
        }
        (Server::CutsOnce | Server::CutsOnceWithoutRanges, _) if number == 0 => {
            let start = Bytes::from(content[..SIZE / 2].to_vec());
            let first = futures::stream::iter([Ok(start)]);
            // In a later turn of the server's task, so that what came first is on its way.
            let cut = futures::stream::once(async {
                tokio::task::yield_now().await;
                Err(std::io::Error::other("cut"))
            });
            whole.body(Body::from_stream(first.chain(cut))).unwrap()
        }
        (Server::CutsOnceWithoutRanges, _) | (_, None) => whole.body(Body::from(content)).unwrap(),
        (_, Some(from)) if from >= SIZE => Response::builder()
            .status(StatusCode::RANGE_NOT_SATISFIABLE)
            .header(header::CONTENT_RANGE, format!("bytes */{SIZE}"))
            .body(Body::empty())
            .unwrap(),
        (_, Some(from)) => {
            let from = if kind == Server::WrongRange { from + 1 } else { from };
            Response::builder()
                .status(StatusCode::PARTIAL_CONTENT)
                .header(header::CONTENT_RANGE, format!("bytes {from}-{}/{SIZE}", SIZE - 1))
                .body(Body::from(content[from..].to_vec()))
                .unwrap()
        }
    }
}

struct Place {
    _folder: tempfile::TempDir,
    store: Store,
}

fn place(server: &Running) -> Place {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(folder.path().join("models")).with_base_url(Some(server.base_url.clone()));
    Place { _folder: folder, store }
}

#[tokio::test]
async fn pulls_a_model_tells_progress_and_keeps_its_digest() {
    let server = start(Server::Whole).await;
    let Place { _folder, store } = place(&server);
    assert_eq!(store.state_of(&model()), State::Absent);
    let mut told: Vec<Progress> = Vec::new();
    let pulled = store.pull(&model(), |progress| told.push(progress)).await.unwrap();
    assert_eq!(std::fs::read(&pulled.path).unwrap(), content());
    assert_eq!((pulled.trust, pulled.already_here), (Trust::FirstPull, false));
    assert!(told.windows(2).all(|two| two[0].done_bytes <= two[1].done_bytes));
    assert_eq!(told.last(), Some(&Progress { done_bytes: SIZE as u64, total_bytes: Some(SIZE as u64) }));
    assert_eq!(store.state_of(&model()), State::Here { size_bytes: SIZE as u64 });
    assert_eq!(store.verify(&model()).unwrap().digest, pulled.digest);
    let again = store.pull(&model(), |_| ()).await.unwrap();
    assert!(again.already_here);
    assert_eq!(server.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn goes_on_where_the_connection_was_cut() {
    for kind in [Server::CutsOnce, Server::CutsOnceWithoutRanges] {
        let server = start(kind).await;
        let Place { _folder, store } = place(&server);
        let cut = store.pull(&model(), |_| ()).await.unwrap_err();
        assert!(matches!(cut, ModelError::Network { .. }), "{cut}");
        assert!(matches!(store.state_of(&model()), State::Partial { .. }), "{:?}", store.state_of(&model()));
        assert!(!store.path_of(&model()).exists());
        let pulled = store.pull(&model(), |_| ()).await.unwrap();
        assert_eq!(std::fs::read(&pulled.path).unwrap(), content());
        assert!(!store.path_of(&model()).with_extension("onnx.part").exists());
    }
}

#[tokio::test]
async fn a_part_that_is_the_whole_file_is_taken() {
    let server = start(Server::Whole).await;
    let Place { _folder, store } = place(&server);
    std::fs::create_dir_all(store.path_of(&model()).parent().unwrap()).unwrap();
    std::fs::write(store.path_of(&model()).with_extension("onnx.part"), content()).unwrap();
    let pulled = store.pull(&model(), |_| ()).await.unwrap();
    assert_eq!(std::fs::read(&pulled.path).unwrap(), content());
}

#[tokio::test]
async fn a_part_of_another_file_is_thrown_away() {
    let server = start(Server::Whole).await;
    let Place { _folder, store } = place(&server);
    let part = store.path_of(&model()).with_extension("onnx.part");
    std::fs::create_dir_all(part.parent().unwrap()).unwrap();
    std::fs::write(&part, vec![1; SIZE + 9]).unwrap();
    assert!(matches!(store.pull(&model(), |_| ()).await.unwrap_err(), ModelError::Network { done_bytes: 0, .. }));
    assert!(!part.exists());
    assert!(store.pull(&model(), |_| ()).await.is_ok());
}

#[tokio::test]
async fn another_range_than_asked_for_is_refused() {
    let server = start(Server::WrongRange).await;
    let Place { _folder, store } = place(&server);
    let part = store.path_of(&model()).with_extension("onnx.part");
    std::fs::create_dir_all(part.parent().unwrap()).unwrap();
    std::fs::write(&part, &content()[..1_000]).unwrap();
    assert!(matches!(store.pull(&model(), |_| ()).await.unwrap_err(), ModelError::Network { .. }));
}

#[tokio::test]
async fn a_wrong_digest_leaves_no_file() {
    let server = start(Server::Whole).await;
    let Place { _folder, store } = place(&server);
    let wrong = Model { sha256: Some("00"), ..model() };
    assert!(matches!(store.pull(&wrong, |_| ()).await.unwrap_err(), ModelError::Digest { .. }));
    assert_eq!(store.state_of(&wrong), State::Absent);
}

#[tokio::test]
async fn damage_is_found_by_verify_and_by_the_next_pull() {
    let server = start(Server::Whole).await;
    let Place { _folder, store } = place(&server);
    let path = store.pull(&model(), |_| ()).await.unwrap().path;
    let mut bytes = content();
    bytes[7] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    assert!(matches!(store.verify(&model()).unwrap_err(), ModelError::Digest { .. }));
    assert!(matches!(store.pull(&model(), |_| ()).await.unwrap_err(), ModelError::Digest { .. }));
}

#[tokio::test]
async fn an_absent_model_and_a_dead_or_mute_server_are_told_apart() {
    let server = start(Server::Missing).await;
    let Place { _folder, store } = place(&server);
    assert!(matches!(store.pull(&model(), |_| ()).await.unwrap_err(), ModelError::Status { status: 404, .. }));
    let mute = start(Server::Stalls).await;
    let store = store.with_base_url(Some(mute.base_url.clone())).with_stall_limit(Duration::from_millis(200));
    assert!(matches!(store.pull(&model(), |_| ()).await.unwrap_err(), ModelError::Network { .. }));
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = closed.local_addr().unwrap();
    drop(closed);
    let store = store.with_base_url(Some(format!("http://{address}")));
    assert!(matches!(store.pull(&model(), |_| ()).await.unwrap_err(), ModelError::Network { .. }));
    let not_here = store.verify(&model()).unwrap_err();
    assert!(not_here.to_string().contains("omnivox models pull silero-vad"), "{not_here}");
}

#[tokio::test]
async fn a_disk_that_refuses_is_an_error_that_names_the_place() {
    let server = start(Server::Whole).await;
    let folder = tempfile::tempdir().unwrap();
    let in_the_way = folder.path().join("models");
    std::fs::write(&in_the_way, b"a file").unwrap();
    let store = Store::new(&in_the_way).with_base_url(Some(server.base_url.clone()));
    let error = store.pull(&model(), |_| ()).await.unwrap_err();
    assert!(matches!(&error, ModelError::Disk { path, .. } if path.ends_with("models")), "{error}");
}

#[test]
fn the_catalogue_has_no_name_or_file_twice_and_secure_addresses() {
    for (number, model) in CATALOGUE.iter().enumerate() {
        let others = CATALOGUE.iter().skip(number + 1);
        assert!(others.clone().all(|other| other.name != model.name && other.file != model.file), "{}", model.name);
        assert!(model.url.starts_with("https://"), "{}", model.url);
        assert_eq!(find(model.name), Some(model));
    }
    assert_eq!(find("nonsense"), None);
}
