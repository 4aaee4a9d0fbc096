//! Calls of pages through TURN servers (coturn), in Chromium: its own, ours, and both.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "common/page.rs"]
mod page;
#[path = "../media/tests/common/turn_server.rs"]
mod turn_server;

use std::net::SocketAddr;

use common::{PATIENCE, Server, free_port, omnivox, told, wait_for};
use page::{ask, drive};
use serde_json::{Value, json};
use turn_server::{PASSWORD, TurnServer, USER};

/// What kind of candidates the browser's path has, its own and ours.
const PATH: &str = "(async () => { const all = [...(await call.connection.getStats()).values()]; \
    const pair = all.find((one) => one.id === all.find((one) => one.type === 'transport').selectedCandidatePairId); \
    return [pair.localCandidateId, pair.remoteCandidateId].map((id) => all.find((one) => one.id === id).candidateType) })()";

/// A server whose pages call the echo, and this TURN server's entry.
fn server(turn: SocketAddr, login: &str, settings: &[&str]) -> Server {
    let entry = format!("[[ice_servers]]\nurls = [\"stun:{turn}\", \"turn:{turn}\"]\n{login}\n");
    let settings = [&["web.numbers=[\"echo\"]"], settings].concat();
    let server = Server::start_with(&entry, tempfile::tempdir().unwrap(), &settings);
    server.wait_until_ready();
    server
}

fn login(password: &str) -> String {
    format!("username = \"{USER}\"\ncredential = \"{password}\"")
}

/// Calls by the page: what its path is, and how loud what came back was.
fn call(server: &Server, page: &str) -> (Value, f64) {
    let steps = json!([
        ["click", "#call"],
        ["wait", "#state", "in a call"],
        ["max", "#theirs"],
        ["sleep", 4000],
        ["max", "#theirs"],
        ["eval", PATH],
        ["click", "#call"],
        ["wait", "#state", "you hung up"],
    ]);
    let (found, told) = drive(server, page, None, &steps);
    assert_eq!(found.len(), 3, "{found:?}\n{told}");
    (found[2].clone(), found[1].as_f64().unwrap())
}

/// Conforms: RFC 9725 §4.6 — a page that may go through TURN servers alone is told of one, and its call goes through it.
#[test]
fn a_page_that_goes_by_its_turn_server_alone_is_heard_and_hears() {
    let folder = tempfile::tempdir().unwrap();
    let turn = TurnServer::start(folder.path(), None, &[]);
    let server = server(turn.addr, &login(PASSWORD), &[]);
    let (path, heard) = call(&server, "/call?ice=relay");
    assert_eq!(path[0], "relay", "{path}");
    let record = server.wait_for_records(1).remove(0);
    assert!(heard > 20.0, "its own sound comes back: {heard}, {record}");
    assert_eq!((&record["srtp"], &record["end"]["reason"]), (&json!("dtls"), &json!("caller_hung_up")), "{record}");
    server.stop();
}

/// Conforms: RFC 8445 §5.1.1.2 — we have a relayed candidate of our own: where nothing else leads to us, browsers call by it, directly and through a TURN server of their own.
#[test]
fn we_are_called_by_our_turn_server_alone_and_a_server_that_dies_ends_the_call_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let mut turn = TurnServer::start(folder.path(), None, &[]);
    let server = server(turn.addr, &login(PASSWORD), &["rtp.ice=relay", "rtp.timeout_s=3"]);
    for page in ["/call", "/call?ice=relay"] {
        let (path, heard) = call(&server, page);
        assert_eq!(path[1], "relay", "{page}: {path}");
        assert!(heard > 20.0, "{page}: {heard}\n{}", server.process.stderr());
    }
    server.wait_for_records(2);
    // Its allocations are given back with their calls.
    turn.wait_for("lifetime=0", 2);
    let connected = folder.path().join("connected.png");
    let steps = json!([
        ["click", "#call"],
        ["wait", "#state", "in a call"],
        ["sleep", 2000],
        ["eval", PATH],
        ["shot", connected],
        ["wait", "#state", "the call is over"],
    ]);
    std::thread::scope(|threads| {
        let page = threads.spawn(|| drive(&server, "/call", None, &steps));
        wait_for("the third call", PATIENCE, || connected.exists().then_some(()), || server.process.stderr());
        turn.kill();
        page.join().unwrap();
    });
    let record = server.wait_for_records(3).remove(2);
    assert_eq!(record["end"]["reason"], "media_timeout", "{record}");
    server.stop();
}

#[test]
fn a_login_that_is_wrong_is_named_by_check_and_by_the_log_and_calls_go_on_without_it() {
    let folder = tempfile::tempdir().unwrap();
    let turn = TurnServer::start(folder.path(), None, &[]);
    let server = server(turn.addr, &login("wrong"), &[]);
    let (path, heard) = call(&server, "/call");
    assert!(heard > 20.0 && path[1] != "relay", "{path}: {heard}");
    let said = wait_for(
        "a word about the login",
        PATIENCE,
        || server.process.stderr().lines().find(|line| line.contains("it answers 401")).map(str::to_owned),
        || server.process.stderr(),
    );
    assert!(said.contains(&format!("turn:{}?transport=udp", turn.addr)), "{said}");
    server.stop();
    let check = |password: &str| {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("omnivox.toml");
        let entry = format!("[[ice_servers]]\nurls = [\"turn:{0}\", \"stun:{0}\"]\n{1}\n", turn.addr, login(password));
        std::fs::write(&config, entry).unwrap();
        let http = format!("http.listen=127.0.0.1:{}", free_port());
        let sip = format!("sip.listen=[\"udp:127.0.0.1:{}\"]", free_port());
        let config = config.to_string_lossy().into_owned();
        let arguments = ["--config", &config, "check", "--set", &http, "--set", &sip, "--set", "rtp.bind=127.0.0.1"];
        told(&omnivox(folder.path(), &arguments))
    };
    let wrong = check("wrong");
    assert!(wrong.contains("FAULT") && wrong.contains("it answers 401"), "{wrong}");
    let right = check(PASSWORD);
    assert!(!right.contains("FAULT") && right.matches(" answers\n").count() == 2, "{right}");
    assert!(right.contains("media has a server's address 127.0.0.1"), "{right}");
}

#[test]
fn a_secret_that_the_server_shares_makes_logins_that_it_takes() {
    let folder = tempfile::tempdir().unwrap();
    let turn = TurnServer::start(folder.path(), None, &["--use-auth-secret", "--static-auth-secret=north"]);
    let server = server(turn.addr, "secret = \"north\"", &["web.token=open-sesame", "rtp.ice=relay"]);
    let asked = ask(&server, "OPTIONS", "/api/v1/whip", &[], "");
    assert_eq!((asked.code, asked.head.contains("link:")), (401, false), "{}", asked.head);
    let asked = ask(&server, "OPTIONS", "/api/v1/whip", &[("Authorization", "Bearer open-sesame")], "");
    assert_eq!(asked.code, 204);
    assert_eq!(asked.head.matches("rel=\"ice-server\"").count(), 2, "{}", asked.head);
    assert!(asked.head.contains(":omnivox\"; credential=\"") && !asked.head.contains("north"), "{}", asked.head);
    let (path, heard) = call(&server, "/call?ice=relay#token=open-sesame");
    assert_eq!(path, json!(["relay", "relay"]));
    assert!(heard > 20.0, "{heard}");
    server.stop();
}
