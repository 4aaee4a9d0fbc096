//! What is asked of calls in progress: of their sound, of their agent, by pages; and their signalling.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/server.rs"]
mod server;

use control::identity::Role;
use control::ports::{CallCommand, Supervision, WebTarget};
use reqwest::{Method, StatusCode};
use serde_json::json;
use server::{Asker, body, on_both, wrong};

async fn offer(asker: &Asker, query: &str, kind: &str, sdp: &str) -> reqwest::Response {
    let request = asker.request(Method::POST, &format!("/web-calls{query}")).header("content-type", kind);
    request.body(sdp.to_owned()).send().await.unwrap()
}

#[tokio::test]
async fn what_is_asked_reaches_the_call_and_what_is_wrong_is_named() {
    on_both(|server| async move {
        server.board.add("one", &["alice"]);
        let ada = server.as_role(Role::Administrator).await;
        for (asked, expected) in [
            (ada.put("/calls/one/mute", json!({ "on": true })).await, CallCommand::Mute(0, true)),
            (ada.put("/calls/one/mute", json!({ "on": false, "leg": 2 })).await, CallCommand::Mute(2, false)),
            (ada.post("/calls/one/dtmf", json!({ "digits": "1a#" })).await, CallCommand::Press(0, "1A#".into())),
            (
                ada.post("/calls/one/say", json!({ "text": " One moment. " })).await,
                CallCommand::Say("One moment.".into()),
            ),
            (ada.post("/calls/one/note", json!({ "text": "VIP" })).await, CallCommand::Note("VIP".into())),
        ] {
            assert_eq!(asked.status(), StatusCode::ACCEPTED);
            assert_eq!(server.board.asked.lock().unwrap().remove(0), ("one".to_owned(), expected));
        }
        for (asked, field) in [
            (ada.put("/calls/one/mute", json!({ "on": 1 })).await, "on"),
            (ada.put("/calls/one/mute", json!({ "on": true, "leg": -1 })).await, "leg"),
            (ada.post("/calls/one/dtmf", json!({ "digits": "" })).await, "digits"),
            (ada.post("/calls/one/dtmf", json!({ "digits": "12x" })).await, "digits"),
            (ada.post("/calls/one/dtmf", json!({ "digits": "1".repeat(25) })).await, "digits"),
            (ada.post("/calls/one/say", json!({ "text": "" })).await, "text"),
            (ada.post("/calls/one/say", json!({ "text": "x".repeat(1_001) })).await, "text"),
            (ada.post("/calls/one/note", json!({})).await, "text"),
        ] {
            assert_eq!(wrong(asked).await, (422, vec![field.to_owned()]));
        }
        assert_eq!(ada.post("/calls/two/say", json!({ "text": "x" })).await.status(), StatusCode::NOT_FOUND);
        assert!(server.board.asked.lock().unwrap().is_empty(), "nothing of it was asked");
        let audit = ada.read("/audit").await.to_string();
        assert!(audit.contains("call.dtmf") && !audit.contains("1A#"), "which keys they were is nobody's business");
    })
    .await;
}

#[tokio::test]
async fn a_page_calls_by_its_offer_and_takes_part_in_calls_that_its_user_sees() {
    on_both(|server| async move {
        server.board.add("one", &["alice"]);
        let ada = server.as_role(Role::Administrator).await;
        let answer = offer(&ada, "?connect_with=desk", "application/sdp", "v=0").await;
        assert_eq!(
            (answer.status(), &answer.headers()["content-type"]),
            (StatusCode::CREATED, &"application/sdp".parse().unwrap())
        );
        let location = answer.headers()["location"].to_str().unwrap().to_owned();
        assert_eq!(answer.text().await.unwrap(), "answer to v=0");
        let page = server.board.pages.lock().unwrap()[0].clone();
        assert_eq!((page.user.as_str(), &page.to), ("administrator", &WebTarget::Name("desk".into())));
        let path = location.strip_prefix("/api/v1").unwrap();
        assert_eq!(ada.delete(path).await.status(), StatusCode::NO_CONTENT);
        assert_eq!(ada.delete(path).await.status(), StatusCode::NOT_FOUND);
        for (how, to) in [
            ("listen", WebTarget::Supervise("one".into(), Supervision::Listen)),
            ("whisper", WebTarget::Supervise("one".into(), Supervision::Whisper)),
            ("join", WebTarget::Supervise("one".into(), Supervision::Join)),
            ("take_over", WebTarget::TakeOver("one".into())),
        ] {
            let answer = offer(&ada, &format!("?call=one&as={how}"), "application/sdp", "v=0").await;
            assert_eq!(answer.status(), StatusCode::CREATED);
            assert_eq!(server.board.pages.lock().unwrap().pop().unwrap().to, to);
        }
        for (query, kind, sdp, status, fields) in [
            ("?connect_with=desk", "text/plain", "v=0", 415, vec![]),
            ("?connect_with=desk", "application/sdp", "", 422, vec!["body"]),
            ("", "application/sdp", "v=0", 422, vec!["connect_with"]),
            ("?connect_with=desk&call=one", "application/sdp", "v=0", 422, vec!["connect_with"]),
            ("?call=one", "application/sdp", "v=0", 422, vec!["as"]),
            ("?call=one&as=steal", "application/sdp", "v=0", 422, vec!["as"]),
            ("?call=two&as=join", "application/sdp", "v=0", 404, vec![]),
        ] {
            let fields: Vec<String> = fields.into_iter().map(str::to_owned).collect();
            assert_eq!(wrong(offer(&ada, query, kind, sdp).await).await, (status, fields), "{query}");
        }
        assert!(server.board.pages.lock().unwrap().is_empty());
        assert_eq!(ada.read("/web-calls/servers").await["ice_servers"][0], json!({ "urls": "stun:here" }));
        // A supervisor of another team does not see the call.
        let team = server.control.store.add_team("Elsewhere", control::time::Moment::now()).await.unwrap();
        server.user("sue", Role::Supervisor, Some(&team.id), None).await;
        let sue = server.log_in("sue").await;
        let refused = offer(&sue, "?call=one&as=listen", "application/sdp", "v=0").await;
        assert_eq!(refused.status(), StatusCode::NOT_FOUND);
        assert_eq!(sue.get("/calls/one/trace").await.status(), StatusCode::NOT_FOUND);
    })
    .await;
}

#[tokio::test]
async fn signalling_is_shown_of_calls_in_progress_and_of_those_with_a_record() {
    on_both(|server| async move {
        server.board.add("now", &["alice"]);
        server.journal(&[server::Server::line("then", "2026-11-01T10:00:00.000Z", json!({}))]).await;
        let ada = server.as_role(Role::Administrator).await;
        for call in ["now", "then"] {
            let ladder = ada.get(&format!("/calls/{call}/trace")).await;
            assert_eq!(ladder.headers()["content-type"], "text/plain; charset=utf-8");
            assert_eq!(ladder.text().await.unwrap(), format!("INVITE of {call}"));
            let capture = ada.get(&format!("/calls/{call}/trace.pcap")).await;
            assert_eq!(capture.headers()["content-type"], "application/vnd.tcpdump.pcap");
            assert_eq!(body_bytes(capture).await, [1, 2, 3]);
        }
        assert_eq!(ada.get("/calls/never/trace").await.status(), StatusCode::NOT_FOUND);
        let nobody = body(ada.get("/calls/never/trace.pcap").await).await;
        assert_eq!(nobody["status"], 404);
    })
    .await;
}

async fn body_bytes(answer: reqwest::Response) -> Vec<u8> {
    answer.bytes().await.unwrap().to_vec()
}
