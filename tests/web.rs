//! Web pages call without SIP: the page at `/call` in Chromium is understood and plays the answer; WHIP's requests, right and wrong.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/caller.rs"]
mod caller;
mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use common::{PATIENCE, Running, Server, wait_for};
use serde_json::{Value, json};

/// An answer of the server's: status, headers in lower case, body.
struct Answer {
    code: u16,
    head: String,
    body: String,
}

/// Sends one request.
fn ask(server: &Server, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut stream = TcpStream::connect(server.http).unwrap();
    let mut text = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    if headers.iter().all(|(name, _)| *name != "Host") {
        text.push_str(&format!("Host: {}\r\n", server.http));
    }
    headers.iter().for_each(|(name, value)| text.push_str(&format!("{name}: {value}\r\n")));
    write!(stream, "{text}Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let code = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { code, head: head.to_lowercase(), body: body.to_owned() }
}

const SDP: (&str, &str) = ("Content-Type", "application/sdp");

/// An offer like a browser's, of somebody whom nothing will be heard of.
fn offer() -> String {
    let print = vec!["AB"; 32].join(":");
    format!(
        "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\n\
         a=rtpmap:111 opus/48000/2\r\na=ice-ufrag:Q7yF\r\na=ice-pwd:a-password-of-enough-letters\r\na=fingerprint:sha-256 {print}\r\n\
         a=setup:actpass\r\na=mid:0\r\na=rtcp-mux\r\na=sendrecv\r\n"
    )
}

fn location(answer: &Answer) -> String {
    answer.head.lines().find_map(|line| line.strip_prefix("location: ")).unwrap().to_owned()
}

/// Chromium does these steps on a page; what the steps found.
fn drive(server: &Server, page: &str, microphone: Option<&Path>, steps: &Value) -> (Vec<Value>, String) {
    let folder = server.folder.path();
    let browser = std::env::var("OMNIVOX_TEST_BROWSER").expect("scripts/test says where Puppeteer is");
    let job = json!({
        "url": format!("http://{}{page}", server.http),
        "profile": folder.join("profile"),
        "microphone": microphone,
        "steps": steps,
    });
    let path = folder.join("job.json");
    std::fs::write(&path, job.to_string()).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/drive.mjs");
    let mut node = Running::start(Command::new("node").arg(script).arg(path).env("OMNIVOX_TEST_BROWSER", browser));
    let status = node.wait(PATIENCE * 2);
    assert!(status.success(), "{}\n{}\n{}", node.stdout(), node.stderr(), server.process.stderr());
    let found = node.stdout().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (found, node.stderr())
}

/// Conforms: RFC 9725 §4.2 — a page calls the agent by one request (Chromium with a real microphone's sound): it is understood, hears the answer, and its end ends the call.
#[test]
fn the_page_calls_the_agent_is_understood_and_plays_the_answer() {
    let server = Server::start(&[]);
    server.wait_until_ready();
    let wav = caller::wav(server.folder.path(), "question", 16_000, &[(7.0, "What are your opening hours?")], 60.0);
    let shot = server.folder.path().join("page.png");
    let steps = json!([
        ["click", "#call"],
        ["wait", "#state", "in a call"],
        ["max", "#theirs"],
        ["wait", "li.agent", "Welcome to the front desk"],
        ["wait", "li.caller", "what are your opening hours"],
        ["wait", "li.agent", "We are open"],
        ["sleep", 2500],
        ["max", "#theirs"],
        ["wait", "#times td", ""],
        ["text", "#times tr"],
        ["shot", shot],
        ["click", "#call"],
        ["wait", "#state", "you hung up"],
    ]);
    let (found, told) = drive(&server, "/call", Some(&wav), &steps);
    let record = server.wait_for_records(1).remove(0);
    assert!(found[1].as_f64().unwrap() > 40.0, "the answer is played: {found:?}\n{told}");
    assert_eq!(record["end"]["reason"], "caller_hung_up", "{record}");
    assert_eq!(
        (&record["transport"], &record["srtp"], &record["codec"]),
        (&json!("whip"), &json!("dtls"), &json!("opus"))
    );
    assert_eq!(record["agent"]["turns"][1]["text"], "what are your opening hours", "{record}");
    assert!(found[2].as_array().is_some_and(|rows| !rows.is_empty()), "{found:?}");
    assert!(std::fs::metadata(shot).unwrap().len() > 10_000);
    server.stop();
}

/// A crash says nothing: the call ends when the browser's checks have been missing for long enough (RFC 7675 section 5.1).
#[test]
fn the_call_of_a_browser_that_crashes_ends_as_one_whose_sound_stopped() {
    let server = Server::start(&["web.numbers=[\"echo\"]", "rtp.timeout_s=300"]);
    server.wait_until_ready();
    let steps = json!([["click", "#call"], ["wait", "#state", "in a call"], ["sleep", 1000], ["kill"]]);
    drive(&server, "/call", None, &steps);
    let record = server.wait_for_records(1).remove(0);
    assert_eq!(record["end"]["reason"], "media_timeout", "{record}");
    server.stop();
}

#[test]
fn each_wrong_request_is_refused_with_what_is_wrong_and_nothing_is_left() {
    let server = Server::start(&["web.numbers=[\"echo\",\"bye\"]"]);
    let plain = offer().replace("UDP/TLS/RTP/SAVPF", "RTP/AVP").replace("111", "77").replace("a=fingerprint", "a=x");
    for (method, path, headers, body, code, what) in [
        ("POST", "/api/v1/whip", vec![], offer(), 415, "application/sdp"),
        ("POST", "/api/v1/whip", vec![("Content-Type", "application/json")], offer(), 415, "application/sdp"),
        ("POST", "/api/v1/whip?to=agent", vec![SDP], offer(), 404, "web.numbers"),
        ("POST", "/api/v1/whip?to=%0d%0a", vec![SDP], offer(), 404, "web.numbers"),
        ("POST", "/api/v1/whip", vec![SDP], "nonsense".to_owned(), 422, "cannot be answered"),
        ("POST", "/api/v1/whip", vec![SDP], plain, 422, "cannot be answered"),
        ("POST", "/api/v1/whip", vec![SDP], "v=0\r\n".to_owned() + &"a=x\r\n".repeat(9_000), 413, ""),
        ("POST", "/api/v1/whip", vec![SDP, ("Origin", "https://elsewhere.example")], offer(), 403, "sip.origins"),
        (
            "POST",
            "/api/v1/whip",
            vec![SDP, ("Host", "rebound.example"), ("Origin", "http://rebound.example")],
            offer(),
            403,
            "sip.origins",
        ),
        ("PATCH", "/api/v1/whip/nobody", vec![], String::new(), 404, "no such call"),
        ("DELETE", "/api/v1/whip/nobody", vec![], String::new(), 404, "no such call"),
        ("GET", "/api/v1/whip/nobody/events", vec![], String::new(), 404, "no such call"),
        ("GET", "/api/v1/whip", vec![], String::new(), 405, ""),
    ] {
        let answer = ask(&server, method, path, &headers, &body);
        assert_eq!(answer.code, code, "{method} {path} {headers:?}: {}", answer.body);
        assert!(answer.body.contains(what), "{method} {path}: {}", answer.body);
        if !what.is_empty() {
            assert!(answer.head.contains("application/problem+json"), "{}", answer.head);
        }
    }
    // Taken, found, trickled to, and ended.
    let taken = ask(&server, "POST", "/api/v1/whip?to=echo", &[SDP], &offer());
    assert_eq!(taken.code, 201, "{}", taken.body);
    assert!(taken.body.contains("a=setup:active") && taken.body.contains("a=candidate:"), "{}", taken.body);
    let resource = location(&taken);
    assert!(resource.starts_with("/api/v1/whip/"));
    let fragment = "a=ice-ufrag:Q7yF\r\na=ice-pwd:a-password-of-enough-letters\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\n\
                    a=candidate:1 1 udp 2130706431 127.0.0.1 9 typ host\r\n";
    let trickle = ("Content-Type", "application/trickle-ice-sdpfrag");
    for (method, headers, body, code) in [
        ("PATCH", vec![SDP], fragment, 415),
        ("PATCH", vec![trickle], fragment, 204),
        ("DELETE", vec![], "", 200),
        ("DELETE", vec![], "", 404),
    ] {
        let answer = ask(&server, method, &resource, &headers, body);
        assert_eq!(answer.code, code, "{method} {headers:?}: {}", answer.body);
    }
    wait_for(
        "the call that was ended",
        PATIENCE,
        || {
            let ended = |record: &Value| record["target"] == "echo" && record["end"]["reason"] == "caller_hung_up";
            server.records().into_iter().find(ended)
        },
        || server.process.stderr(),
    );
    // One whose page goes away before anything comes of it ends by itself.
    let bye = ask(&server, "POST", "/api/v1/whip?to=bye", &[SDP], &offer());
    assert_eq!(bye.code, 201, "{}", bye.body);
    wait_for(
        "the call that the server ends",
        PATIENCE,
        || server.records().into_iter().find(|record| record["target"] == "bye"),
        || server.process.stderr(),
    );
    server.stop();
}

#[test]
fn a_token_is_asked_for_where_there_is_one() {
    let server = Server::start(&["web.numbers=[\"bye\"]", "web.token=open-sesame"]);
    for given in [None, Some("Bearer open"), Some("open-sesame"), Some("Basic open-sesame")] {
        let headers: Vec<(&str, &str)> =
            [Some(SDP), given.map(|given| ("Authorization", given))].into_iter().flatten().collect();
        let answer = ask(&server, "POST", "/api/v1/whip", &headers, &offer());
        assert_eq!(answer.code, 401, "{given:?}");
        assert!(answer.head.contains("www-authenticate: bearer"), "{}", answer.head);
    }
    let answer = ask(&server, "POST", "/api/v1/whip", &[SDP, ("Authorization", "Bearer open-sesame")], &offer());
    assert_eq!(answer.code, 201, "{}", answer.body);
    server.stop();
    // Where anybody may reach it without one, `omnivox check` says so.
    let folder = tempfile::tempdir().unwrap();
    let listens = |http: &str| {
        let listen = format!("http.listen={http}:{}", common::free_port());
        let sip = format!("sip.listen=[\"udp:127.0.0.1:{}\"]", common::free_port());
        let checked = common::omnivox(folder.path(), &["check", "--set", &listen, "--set", &sip]);
        common::told(&checked)
    };
    assert!(listens("0.0.0.0").contains("from a web page: set web.token_file"));
    assert!(listens("127.0.0.1").contains("/call"));
    let server = Server::start(&["web.calls=false"]);
    assert_eq!(ask(&server, "POST", "/api/v1/whip", &[SDP], &offer()).code, 404);
    assert_eq!(server.get("/call").0, 404);
    server.stop();
}
