//! Each resource: what it takes, what it says of a wrong field, what stays of it. On both databases.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/server.rs"]
mod server;

use control::identity::Role;
use control::ports::{CallCommand, Calls, Transfer, TransferKind};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use server::{PASSWORD, Server, body, on_both, wrong};

#[tokio::test]
async fn users_are_added_changed_and_taken_away() {
    on_both(|server| async move {
        let ada = server.as_role(Role::Administrator).await;
        let team = body(ada.post("/teams", json!({ "name": "Reception" })).await).await["id"].clone();
        let bob = json!({ "name": "Bob", "display": "Bob Ross", "role": "operator", "team": team, "device": "bob", "password": PASSWORD });
        let made = ada.post("/users", bob.clone()).await;
        assert_eq!(made.status(), StatusCode::CREATED);
        assert_eq!(made.headers()["etag"], "\"1\"");
        let made = body(made).await;
        assert!(made.get("password_hash").is_none() && made.get("version").is_none());
        let mut same = bob.clone();
        same["device"] = "another".into();
        assert_eq!(wrong(ada.post("/users", same).await).await, (409, vec!["name".into()]));
        let mut other = bob.clone();
        other["name"] = "rob".into();
        assert_eq!(wrong(ada.post("/users", other).await).await, (409, vec!["device".into()]));
        let path = format!("/users/{}", made["id"].as_str().unwrap());
        let changed = ada.patch(&path, json!({ "display": "Robert", "device": null })).await;
        assert_eq!(changed.headers()["etag"], "\"2\"");
        let changed = body(changed).await;
        assert_eq!((changed["display"].as_str(), &changed["device"], &changed["team"]), (Some("Robert"), &Value::Null, &team));
        // Whoever has read it before does not undo what came between.
        let late = ada.request(Method::PATCH, &path).header("if-match", "\"1\"").json(&json!({ "display": "Bob" })).send().await.unwrap();
        assert_eq!(wrong(late).await.0, 412);
        let timely = ada.request(Method::PATCH, &path).header("if-match", "\"2\"").json(&json!({ "display": "Bob" })).send().await.unwrap();
        assert_eq!(timely.status(), StatusCode::OK);
        assert_eq!(wrong(ada.delete(&format!("/teams/{}", team.as_str().unwrap())).await).await.0, 409);
        assert_eq!(ada.delete(&path).await.status(), StatusCode::NO_CONTENT);
        assert_eq!(wrong(ada.get(&path).await).await.0, 404);
        assert_eq!(ada.delete(&format!("/teams/{}", team.as_str().unwrap())).await.status(), StatusCode::NO_CONTENT);
    })
    .await;
}

#[tokio::test]
async fn the_last_administrator_stays() {
    on_both(|server| async move {
        let ada = server.as_role(Role::Administrator).await;
        let me = ada.read("/session").await["user"]["id"].as_str().unwrap().to_owned();
        assert_eq!(wrong(ada.delete(&format!("/users/{me}")).await).await.0, 409);
        assert_eq!(wrong(ada.patch(&format!("/users/{me}"), json!({ "role": "operator" })).await).await.0, 409);
        assert_eq!(wrong(ada.patch(&format!("/users/{me}"), json!({ "disabled": true })).await).await.0, 409);
        server.user("eve", Role::Administrator, None, None).await;
        assert_eq!(ada.patch(&format!("/users/{me}"), json!({ "role": "operator" })).await.status(), StatusCode::OK);
    })
    .await;
}

#[tokio::test]
async fn each_wrong_field_is_named_and_nothing_is_written() {
    on_both(|server| async move {
        let ada = server.as_role(Role::Administrator).await;
        let good = json!({ "name": "bob", "display": "Bob", "role": "operator", "password": PASSWORD });
        let cases = [
            ("name", json!("a b")),
            ("name", json!("")),
            ("name", json!(1)),
            ("display", json!("")),
            ("display", json!("x".repeat(101))),
            ("display", json!("a\u{7}b")),
            ("role", json!("king")),
            ("password", json!("short")),
            ("password", json!("password1234")),
            ("team", json!("no-such")),
            ("device", json!("")),
            ("device", json!("nosuch")),
            ("nickname", json!("x")),
        ];
        for (field, value) in cases {
            let mut user = good.clone();
            user[field] = value.clone();
            assert_eq!(wrong(ada.post("/users", user).await).await, (422, vec![field.to_owned()]), "{field} {value}");
        }
        for field in ["name", "display", "role", "password"] {
            let mut user = good.clone();
            user.as_object_mut().unwrap().remove(field);
            assert_eq!(wrong(ada.post("/users", user).await).await, (422, vec![field.to_owned()]));
        }
        assert_eq!(ada.read("/users").await["items"].as_array().unwrap().len(), 1, "nothing was written");
        let me = server.user("eve", Role::Operator, None, Some("nosuch")).await;
        let stays = ada.patch(&format!("/users/{me}"), json!({ "display": "Eve", "device": "nosuch" })).await;
        assert_eq!(stays.status(), StatusCode::OK, "one that has gone since may stay");
        assert_eq!(ada.patch(&format!("/users/{me}"), json!({ "device": "bob" })).await.status(), StatusCode::OK);
        let gone = ada.patch(&format!("/users/{me}"), json!({ "device": "nosuch" })).await;
        assert_eq!(wrong(gone).await, (422, vec!["device".into()]));
        let text = ada
            .request(Method::POST, "/users")
            .body("{")
            .header("content-type", "application/json")
            .send()
            .await
            .unwrap();
        assert_eq!(wrong(text).await.0, 400);
        let form = ada.request(Method::POST, "/users").body("name=x").send().await.unwrap();
        assert_eq!(wrong(form).await.0, 415);
        let long = json!({ "name": "x".repeat(300_000) });
        assert_eq!(wrong(ada.post("/teams", long).await).await.0, 413);
        for (query, field) in [
            ("limit=0", "limit"),
            ("limit=201", "limit"),
            ("limit=x", "limit"),
            ("after=%21", "after"),
            ("from=yesterday", "from"),
            ("direction=up", "direction"),
            ("class=bad", "class"),
            ("reason=bad", "reason"),
            ("words=", "words"),
            ("colour=red", "colour"),
            ("words=a%00b", "words"),
        ] {
            let answer = wrong(ada.get(&format!("/call-records?{query}")).await).await;
            assert_eq!(answer, (422, vec![field.to_owned()]), "{query}");
        }
        for path in ["/users/a%00b", "/teams/a%00b", "/call-records/a%00b", "/calls/a%00b"] {
            assert_eq!(wrong(ada.get(path).await).await.0, 404, "{path}");
        }
    })
    .await;
}

#[tokio::test]
async fn lists_come_in_pages_that_join() {
    on_both(|server| async move {
        let ada = server.as_role(Role::Administrator).await;
        for n in 0..7 {
            ada.post("/teams", json!({ "name": format!("team {n}") })).await;
        }
        let (mut names, mut after) = (Vec::new(), String::new());
        loop {
            let page = ada.read(&format!("/teams?limit=3{after}")).await;
            names
                .extend(page["items"].as_array().unwrap().iter().map(|team| team["name"].as_str().unwrap().to_owned()));
            let Some(next) = page["next"].as_str() else { break };
            after = format!("&after={next}");
        }
        assert_eq!(names, (0..7).map(|n| format!("team {n}")).collect::<Vec<_>>());
    })
    .await;
}

#[tokio::test]
async fn what_is_asked_of_calls_reaches_them_once_for_each_key() {
    on_both(|server| async move {
        let ada = server.as_role(Role::Administrator).await;
        server.board.add("c1", &["alice"]);
        assert_eq!(ada.read("/calls/c1").await["state"], "up");
        assert_eq!(ada.put("/calls/c1/hold", json!({ "on": true })).await.status(), StatusCode::ACCEPTED);
        assert_eq!(ada.put("/calls/c1/recording", json!({ "on": false })).await.status(), StatusCode::ACCEPTED);
        let transfer = async |key: &str, to: &str| {
            let request = ada.request(Method::POST, "/calls/c1/transfer").header("idempotency-key", key);
            request.json(&json!({ "to": to })).send().await.unwrap()
        };
        let first = transfer("k1", "bob").await;
        assert_eq!(first.status(), StatusCode::ACCEPTED);
        let again = transfer("k1", "bob").await;
        assert_eq!(
            (again.status(), again.headers().contains_key("idempotency-replayed")),
            (StatusCode::ACCEPTED, true)
        );
        assert_eq!(body(first).await, body(again).await);
        assert_eq!(wrong(transfer("k1", "carol").await).await, (422, vec!["Idempotency-Key".into()]));
        assert_eq!(transfer("k2", "bob").await.status(), StatusCode::ACCEPTED);
        let warm = json!({ "to": "bob", "kind": "warm", "summary": " Mrs Smith. ", "accept": true });
        assert_eq!(ada.post("/calls/c1/transfer", warm.clone()).await.status(), StatusCode::ACCEPTED);
        let handed = CallCommand::Transfer(Transfer {
            to: "bob".into(),
            kind: TransferKind::Warm,
            summary: "Mrs Smith.".into(),
            accept: true,
            on_behalf: None,
        });
        assert_eq!(server.board.asked.lock().unwrap().pop().unwrap().1, handed);
        for (field, value, named) in [
            ("kind", json!("blind"), "summary"),
            ("kind", json!("tepid"), "kind"),
            ("summary", json!("x".repeat(1_001)), "summary"),
            ("summary", json!("a\u{0}b"), "summary"),
            ("summary", json!(7), "summary"),
            ("accept", json!("yes"), "accept"),
            ("to", json!(""), "to"),
        ] {
            let mut wanted = warm.clone();
            wanted[field] = value.clone();
            let answer = wrong(ada.post("/calls/c1/transfer", wanted).await).await;
            assert_eq!(answer, (422, vec![named.to_owned()]), "{field} {value}");
        }
        for (wanted, named) in [
            (json!({ "to": "bob", "kind": "warm" }), "summary"),
            (json!({ "to": "bob", "accept": true }), "accept"),
            (json!({ "to": "bob", "whisper": "x" }), "whisper"),
        ] {
            assert_eq!(wrong(ada.post("/calls/c1/transfer", wanted).await).await, (422, vec![named.to_owned()]));
        }
        assert_eq!(ada.delete("/calls/c1").await.status(), StatusCode::ACCEPTED);
        let asked: Vec<_> = server.board.asked.lock().unwrap().iter().map(|(_, command)| command.clone()).collect();
        let bob = CallCommand::Transfer(Transfer { to: "bob".into(), ..Transfer::default() });
        assert_eq!(asked, [CallCommand::Hold(true), CallCommand::Record(false), bob.clone(), bob, CallCommand::HangUp]);
        assert_eq!(wrong(ada.delete("/calls/gone").await).await.0, 404);
        let nobody = ada.post("/calls", json!({ "to": "nobody", "connect_with": "desk" })).await;
        assert_eq!(wrong(nobody).await, (422, vec!["to".into()]));
        let started = ada.post("/calls", json!({ "to": "alice", "connect_with": "desk" })).await;
        assert_eq!(started.status(), StatusCode::ACCEPTED);
        // An operator's phone is not a way to call the world.
        server.user("bob", Role::Operator, None, Some("bob")).await;
        let bob = server.log_in("bob").await;
        assert_eq!(wrong(bob.post("/calls", json!({ "to": "+4930", "connect_with": "desk" })).await).await.0, 403);
        assert_eq!(
            bob.post("/calls", json!({ "to": "bob", "connect_with": "desk" })).await.status(),
            StatusCode::ACCEPTED
        );
        // From their own phone they call whom that may; supervisors from those of their team, whoever administers from any.
        let from = |device: &str| json!({ "to": "+4930", "from": device });
        assert_eq!(wrong(bob.post("/calls", from("carol")).await).await.0, 403);
        let team = server.control.store.add_team("sales", control::time::Moment(5)).await.unwrap().id;
        server.user("carol", Role::Operator, Some(&team), Some("carol")).await;
        server.user("sam", Role::Supervisor, Some(&team), None).await;
        let sam = server.log_in("sam").await;
        let own = sam.post("/calls", json!({ "to": "+4930" })).await;
        assert_eq!(wrong(own).await, (422, vec!["from".into()]), "there is no phone to ring");
        assert_eq!(wrong(sam.post("/calls", from("bob")).await).await.0, 403);
        let both = json!({ "to": "+4930", "from": "bob", "connect_with": "desk" });
        assert_eq!(wrong(ada.post("/calls", both).await).await, (422, vec!["from".into()]));
        for (who, order) in [
            (&bob, json!({ "to": "+4930" })),
            (&bob, json!({ "to": "+4930", "from": "bob" })),
            (&sam, json!({ "to": "+4930", "from": "carol" })),
            (&ada, json!({ "to": "+4930", "from": "bob" })),
        ] {
            assert_eq!(who.post("/calls", order.clone()).await.status(), StatusCode::ACCEPTED, "{order}");
        }
        let from: Vec<_> = server.board.started.lock().unwrap().iter().filter_map(|order| order.from.clone()).collect();
        assert_eq!(from, ["bob", "bob", "carol", "bob"]);
    })
    .await;
}

#[tokio::test]
async fn requests_with_one_key_at_once_act_once() {
    on_both(|server| async move {
        let ada = server.as_role(Role::Administrator).await;
        let each = (0..20).map(|_| {
            let request = ada.request(Method::POST, "/calls").header("idempotency-key", "same");
            request.json(&json!({ "to": "alice", "connect_with": "desk" })).send()
        });
        let statuses: Vec<_> =
            futures::future::join_all(each).await.into_iter().map(|answer| answer.unwrap().status()).collect();
        assert!(
            statuses.iter().all(|status| [StatusCode::ACCEPTED, StatusCode::CONFLICT].contains(status)),
            "{statuses:?}"
        );
        assert!(statuses.contains(&StatusCode::ACCEPTED));
        assert_eq!(server.board.started.lock().unwrap().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_record_its_words_and_its_recording_are_there_for_whoever_may() {
    on_both(|server| async move {
        let ada = server.as_role(Role::Administrator).await;
        server.user("bob", Role::Operator, None, Some("bob")).await;
        let sound = server.folder.join("c1.wav");
        std::fs::write(&sound, (0..200_000_u32).map(|n| n as u8).collect::<Vec<_>>()).unwrap();
        server.board.recordings.lock().unwrap().insert("rec/c1.wav".into(), sound);
        let turns = json!({ "turns": [{ "index": 0, "who": "caller", "text": "Hello", "started_ms": 10.0, "ended_ms": 500.0, "gap_ms": null }] });
        server.journal(&[Server::line("c1", "2026-11-01T10:00:00Z", json!({ "recording": "rec/c1.wav", "agent": turns, "srtp": "dtls" }))]).await;
        let record = ada.read("/call-records/c1").await;
        assert_eq!((&record["recorded"], &record["record"]["srtp"], &record["caller"]), (&json!(true), &json!("dtls"), &json!("+49301")));
        assert_eq!(ada.read("/call-records/c1/transcript").await["turns"][0]["text"], "Hello");
        assert_eq!(ada.read("/call-records?words=hello").await["items"].as_array().unwrap().len(), 1);
        let whole = ada.get("/call-records/c1/recording").await;
        assert_eq!((whole.status(), whole.headers()["content-length"].to_str().unwrap()), (StatusCode::OK, "200000"));
        assert_eq!(whole.bytes().await.unwrap().len(), 200_000);
        let part = ada.request(Method::GET, "/call-records/c1/recording").header("range", "bytes=1000-1009").send().await.unwrap();
        assert_eq!((part.status(), part.headers()["content-range"].to_str().unwrap()), (StatusCode::PARTIAL_CONTENT, "bytes 1000-1009/200000"));
        assert_eq!(part.bytes().await.unwrap().to_vec(), (1000..1010_u32).map(|n| n as u8).collect::<Vec<_>>());
        let beyond = ada.request(Method::GET, "/call-records/c1/recording").header("range", "bytes=200000-").send().await.unwrap();
        assert_eq!(wrong(beyond).await.0, 416);
        let link = body(ada.post("/call-records/c1/recording-link", json!({})).await).await;
        let path = link["path"].as_str().unwrap().strip_prefix("/api/v1").unwrap().to_owned();
        let anybody = server.anybody();
        assert_eq!(anybody.get(&path).await.bytes().await.unwrap().len(), 200_000);
        let tampered = path.replacen("expires=", "expires=9", 1);
        assert_eq!(wrong(anybody.get(&tampered).await).await.0, 403);
        assert_eq!(wrong(anybody.get(&path.replace("recordings/c1", "recordings/c2")).await).await.0, 403);
        let bob = server.log_in("bob").await;
        for path in ["/call-records/c1", "/call-records/c1/transcript", "/call-records/c1/recording"] {
            assert_eq!(wrong(bob.get(path).await).await.0, 404, "{path}");
        }
    })
    .await;
}

#[tokio::test]
async fn health_says_what_is_not_well() {
    on_both(|server| async move {
        let anybody = server.anybody();
        assert_eq!(anybody.read("/health").await["ready"], true);
        server.board.waiting_for.lock().unwrap().push("the model loads".into());
        let answer = anybody.get("/health").await;
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(body(answer).await["waiting_for"], json!(["the model loads"]));
        // Why is nothing to strangers.
        server.board.note_fault("records", Some("cannot write /srv/calls.jsonl: full"));
        assert_eq!(body(anybody.get("/health").await).await["faults"], json!(["records"]));
        let ada = server.as_role(Role::Administrator).await;
        let told = body(ada.get("/health").await).await;
        assert_eq!(told["faults"], json!(["records: cannot write /srv/calls.jsonl: full"]));
    })
    .await;
}
