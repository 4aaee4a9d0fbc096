//! Web pages call without SIP: the page at `/call` in Chromium is understood and plays the answer; WHIP's requests, right and wrong.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/caller.rs"]
mod caller;
mod common;
#[path = "common/page.rs"]
mod page;

use common::{PATIENCE, Server, wait_for};
use page::{Answer, ask, drive};
use serde_json::{Value, json};

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

fn header<'a>(answer: &'a Answer, name: &str) -> &'a str {
    answer.head.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim()
}

fn location(answer: &Answer) -> String {
    answer.head.lines().find_map(|line| line.strip_prefix("location: ")).unwrap().to_owned()
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

/// Conforms: RFC 9725 §4.3.3 — ICE begins anew by PATCH with If-Match: *: the answer has our new name and password, and another entity tag, and candidates of the session before are refused.
#[test]
fn a_page_begins_ice_anew_and_what_belongs_to_the_session_before_is_refused() {
    let server = Server::start(&["web.numbers=[\"echo\"]"]);
    let taken = ask(&server, "POST", "/api/v1/whip", &[SDP], &offer());
    let (resource, first) = (location(&taken), header(&taken, "etag:").to_owned());
    assert!(first.len() > 10 && first.starts_with('"'), "{}", taken.head);
    let trickle = ("Content-Type", "application/trickle-ice-sdpfrag");
    let fresh = "a=ice-ufrag:Nw9z\r\na=ice-pwd:anotherPasswordOfEnoughLetters\r\n";
    for (body, code) in [("a=ice-ufrag:Nw9z\r\n", 422), ("", 422), ("a=ice-ufrag:a b\r\na=ice-pwd:short\r\n", 422)] {
        let answer = ask(&server, "PATCH", &resource, &[trickle, ("If-Match", "*")], body);
        assert_eq!(answer.code, code, "{body}: {}", answer.body);
    }
    let restarted = ask(&server, "PATCH", &resource, &[trickle, ("If-Match", "*")], fresh);
    assert_eq!(restarted.code, 200, "{}", restarted.body);
    let second = header(&restarted, "etag:").to_owned();
    assert!(second.starts_with('"') && second != first, "{}", restarted.head);
    assert_eq!(header(&restarted, "content-type:"), "application/trickle-ice-sdpfrag");
    let name = |text: &str| text.lines().find_map(|line| line.strip_prefix("a=ice-ufrag:")).unwrap().to_owned();
    assert_ne!(name(&restarted.body), name(&taken.body));
    assert!(restarted.body.contains("a=candidate:") && restarted.body.contains("a=mid:0"), "{}", restarted.body);
    let candidate = "a=candidate:1 1 udp 2130706431 127.0.0.1 9 typ host\r\n";
    let stale = ask(&server, "PATCH", &resource, &[trickle, ("If-Match", &first)], candidate);
    assert_eq!(stale.code, 412, "{}", stale.body);
    // The same name and password again begin nothing.
    assert_eq!(ask(&server, "PATCH", &resource, &[trickle, ("If-Match", "*")], fresh).code, 422);
    assert_eq!(ask(&server, "PATCH", &resource, &[trickle], candidate).code, 204);
    assert_eq!(ask(&server, "DELETE", &resource, &[], "").code, 200);
    assert_eq!(ask(&server, "PATCH", &resource, &[trickle, ("If-Match", "*")], fresh).code, 404);
    server.stop();
}

/// Conforms: RFC 8445 §2.4 — a browser (Chromium, restartIce) begins ICE anew within its call: the path is found again and the sound goes on.
#[test]
fn a_browser_begins_ice_anew_and_goes_on_hearing() {
    let server = Server::start(&["web.numbers=[\"echo\"]"]);
    server.wait_until_ready();
    // Whose session the path is of, and which the present one is.
    let session = "(async () => { const all = [...(await call.connection.getStats()).values()]; \
                   const pair = all.find((one) => one.id === all.find((one) => one.type === 'transport').selectedCandidatePairId); \
                   return [all.find((one) => one.id === pair.localCandidateId).usernameFragment, \
                   call.connection.localDescription.sdp.match(/ice-ufrag:(.*)/)[1].trim()] })()";
    let steps = json!([
        ["click", "#call"],
        ["wait", "#state", "in a call"],
        ["sleep", 1500],
        ["eval", session],
        [
            "eval",
            "(async () => { const before = call.session; await restart(call); return before !== call.session })()"
        ],
        ["sleep", 2500],
        ["max", "#theirs"],
        ["sleep", 2500],
        ["max", "#theirs"],
        ["eval", session],
        ["click", "#call"],
        ["wait", "#state", "you hung up"],
    ]);
    let (found, told) = drive(&server, "/call", None, &steps);
    let record = server.wait_for_records(1).remove(0);
    assert_eq!(found[1], json!(true), "{found:?}\n{told}");
    assert!(found[3].as_f64().unwrap() > 20.0, "its sound comes back afterwards: {found:?}\n{told}\n{record}");
    let (before, after) = (&found[0], &found[4]);
    assert!(before[0] == before[1] && after[0] == after[1] && before[0] != after[0], "{before} {after}");
    assert_eq!(record["end"]["reason"], "caller_hung_up", "{record}");
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
