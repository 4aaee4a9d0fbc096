//! Who takes calls and who waits for them: as people say, are connected and are in calls. On both databases.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/server.rs"]
mod server;

use control::identity::Role;
use control::ports::{CallState, Queue, Queued};
use control::presence::{GRACE_S, look};
use control::time::Moment;
use serde_json::{Value, json};
use server::{Asker, Server, body, on_both, wrong};

/// Everybody's state, as somebody sees it.
async fn states(asker: &Asker) -> Vec<(String, String)> {
    let items = asker.read("/presence").await["items"].as_array().unwrap().clone();
    items.iter().map(|is| (is["name"].as_str().unwrap().to_owned(), is["state"].as_str().unwrap().to_owned())).collect()
}

fn pair(name: &str, state: &str) -> (String, String) {
    (name.to_owned(), state.to_owned())
}

/// The events of a kind since then.
fn told(server: &Server, after: u64, kind: &str) -> Vec<Value> {
    let past = server.control.live.read(Some(after)).take(usize::MAX).events;
    past.iter()
        .filter(|event| event.kind == kind)
        .map(|event| serde_json::from_str(event.data.get()).unwrap())
        .collect()
}

async fn reception(server: &Server) -> (Asker, Asker, Asker) {
    let team = server.control.store.add_team("Reception", Moment::now()).await.unwrap().id;
    server.user("bob", Role::Operator, Some(&team), Some("b")).await;
    server.user("grace", Role::Supervisor, Some(&team), None).await;
    server.user("zoe", Role::Operator, None, Some("z")).await;
    let ada = server.as_role(Role::Administrator).await;
    (ada, server.log_in("grace").await, server.log_in("bob").await)
}

#[tokio::test]
async fn whoever_watches_is_there_until_a_while_after_and_says_whether_they_take_calls() {
    on_both(|server| async move {
        let (ada, grace, bob) = reception(&server).await;
        let after = server.control.live.latest();
        assert_eq!(states(&bob).await, [pair("bob", "offline")]);
        let watching = bob.get("/events").await;
        assert_eq!(states(&bob).await, [pair("bob", "available")]);
        assert_eq!(states(&grace).await, [pair("bob", "available"), pair("grace", "offline")]);
        assert_eq!(states(&ada).await.len(), 4);
        let now = Moment::now();
        look(&server.control, now).await.unwrap();
        assert_eq!(told(&server, after, "operator.presence").last().unwrap()["state"], "available");
        assert_eq!(
            wrong(bob.put("/me/presence", json!({ "state": "asleep" })).await).await,
            (422, vec!["state".into()])
        );
        let away = body(bob.put("/me/presence", json!({ "state": "away" })).await).await;
        assert_eq!((away["state"].as_str(), away["away"].as_bool()), (Some("away"), Some(true)));
        server.board.add("c1", &["b"]);
        let busy = grace.read("/presence").await["items"][0].clone();
        assert_eq!((busy["state"].as_str(), busy["away"].as_bool()), (Some("busy"), Some(true)));
        assert_eq!(busy["calls"], json!(["c1"]));
        look(&server.control, now).await.unwrap();
        assert_eq!(told(&server, after, "operator.presence").last().unwrap()["calls"], json!(["c1"]));
        server.board.calls.lock().unwrap().clear();
        assert_eq!(states(&bob).await, [pair("bob", "away")]);
        drop(watching);
        // The server notices that the stream's reader has gone when it next writes.
        while !server.control.presence.known().is_empty() {
            server.control.live.tell(Moment::now(), "turn", "c", &["b".into()], json!({}));
            tokio::task::yield_now().await;
            look(&server.control, Moment::now().after_s(GRACE_S + 1)).await.unwrap();
        }
        assert_eq!(told(&server, after, "operator.presence").last().unwrap()["state"], "offline");
        // What somebody says of themselves stays.
        assert!(grace.read("/presence").await["items"][0]["away"].as_bool().unwrap());
        let audit = ada.read("/audit").await;
        assert!(audit["items"].as_array().unwrap().iter().any(|entry| entry["action"] == "user.presence"));
    })
    .await;
}

#[tokio::test]
async fn somebody_is_told_of_to_their_team_alone() {
    on_both(|server| async move {
        let (ada, grace, bob) = reception(&server).await;
        let zoe = server.log_in("zoe").await;
        let after = server.control.live.latest();
        let users = ada.read("/users?limit=50").await;
        let id = |name: &str| {
            users["items"].as_array().unwrap().iter().find(|user| user["name"] == name).unwrap()["id"]
                .as_str()
                .unwrap()
                .to_owned()
        };
        let _bob = server.control.presence.connect(&id("bob"));
        look(&server.control, Moment::now()).await.unwrap();
        server.control.live.tell(Moment::now(), "turn", "end", &["b".into(), "z".into()], json!({}));
        // Everybody reads to the turn, which all of them may see.
        for (asker, sees) in [(&ada, true), (&grace, true), (&bob, true), (&zoe, false)] {
            let mut answer = asker.get(&format!("/events?after={after}")).await;
            let mut text = String::new();
            while !text.contains("event: turn") {
                text.push_str(std::str::from_utf8(&answer.chunk().await.unwrap().unwrap()).unwrap());
            }
            assert_eq!(text.contains("\"name\":\"bob\""), sees, "{text}");
        }
    })
    .await;
}

#[tokio::test]
async fn queues_say_who_waits_in_them_to_those_whom_they_call() {
    on_both(|server| async move {
        let (ada, grace, bob) = reception(&server).await;
        let zoe = server.log_in("zoe").await;
        let queue = |name: &str, members: &[&str]| Queue {
            name: name.into(),
            members: members.iter().map(ToString::to_string).collect(),
        };
        *server.board.queues.lock().unwrap() = vec![queue("desk", &["b", "z"]), queue("other", &["z"])];
        let after = server.control.live.latest();
        server.board.add("c1", &["b"]);
        let since = Moment::now().after_s(-30);
        {
            let mut calls = server.board.calls.lock().unwrap();
            calls[0].state = CallState::Ringing;
            calls[0].queue = Some(Box::new(Queued { name: "desk".into(), since, ringing: vec!["b".into()] }));
        }
        let seen = bob.read("/queues").await;
        assert_eq!(seen["items"].as_array().unwrap().len(), 1);
        let desk = &seen["items"][0];
        assert_eq!(
            (desk["name"].as_str(), desk["waiting"].as_u64(), desk["ringing"].as_u64()),
            (Some("desk"), Some(1), Some(1))
        );
        assert!(desk["longest_wait_s"].as_i64().unwrap() >= 30);
        for (asker, queues) in [(&ada, 2), (&grace, 1), (&zoe, 2)] {
            assert_eq!(asker.read("/queues").await["items"].as_array().unwrap().len(), queues);
        }
        look(&server.control, since.after_s(31)).await.unwrap();
        let change = told(&server, after, "queue.changed");
        assert_eq!(change, [json!({ "name": "desk", "waiting": 1, "longest_wait_s": 31, "ringing": 1 })]);
        server.board.calls.lock().unwrap().clear();
        look(&server.control, since.after_s(32)).await.unwrap();
        assert_eq!(told(&server, after, "queue.changed").last().unwrap()["waiting"], 0);
        assert_eq!(ada.read("/queues").await["items"][0]["waiting"], 0);
    })
    .await;
}
