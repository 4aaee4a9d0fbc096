//! Agents that people make: versions, publishing, going back, and what is wrong with a definition.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/server.rs"]
mod server;

use control::identity::Role;
use reqwest::{Method, StatusCode};
use serde_json::json;
use server::{body, on_both, wrong};

#[tokio::test]
async fn a_version_takes_calls_once_it_is_published_and_an_older_one_can_be_gone_back_to() {
    on_both(|server| async move {
        let ada = server.as_role(Role::Administrator).await;
        let made = ada.post("/agents", json!({ "name": "Sales", "definition": "one", "note": "begun" })).await;
        assert_eq!(made.status(), StatusCode::CREATED);
        let made = body(made).await;
        assert_eq!((&made["name"], &made["published"], &made["state"]), (&json!("sales"), &json!(null), &json!(null)));
        assert!(server.board.agents.lock().unwrap().is_empty(), "it takes no calls yet");
        let second = body(ada.post("/agents/sales/versions", json!({ "definition": "two" })).await).await;
        assert_eq!(second["version"], 2);
        for (version, definition) in [(2, "two"), (1, "one")] {
            let published = ada.put("/agents/sales/published", json!({ "version": version })).await;
            assert_eq!(published.status(), StatusCode::OK);
            let published = body(published).await;
            assert_eq!((&published["published"], &published["state"]), (&json!(version), &json!("ready")));
            assert_eq!(server.board.agents.lock().unwrap()["sales"], definition);
            assert_eq!(ada.read("/agents/sales").await["definition"], definition);
        }
        let versions = ada.read("/agents/sales/versions?limit=1").await;
        assert_eq!((&versions["items"][0]["version"], &versions["items"][0]["published"]), (&json!(2), &json!(false)));
        let after = versions["next"].as_str().unwrap();
        let older = ada.read(&format!("/agents/sales/versions?after={after}")).await;
        assert_eq!((&older["items"][0]["version"], &older["items"][0]["published"]), (&json!(1), &json!(true)));
        assert_eq!(older["items"][0]["created_by"], "administrator");
        assert_eq!(ada.read("/agents/sales/versions/2").await["definition"], "two");
        assert_eq!(ada.get("/agents/sales/versions/3").await.status(), StatusCode::NOT_FOUND);
        let withdrawn = ada.request(Method::DELETE, "/agents/sales/published").send().await.unwrap();
        assert_eq!(body(withdrawn).await["published"], json!(null));
        assert!(server.board.agents.lock().unwrap().is_empty());
        assert_eq!(ada.delete("/agents/sales").await.status(), StatusCode::NO_CONTENT);
        assert_eq!(ada.get("/agents/sales").await.status(), StatusCode::NOT_FOUND);
        assert_eq!(ada.read("/audit/verification").await["holds"], true);
    })
    .await;
}

#[tokio::test]
async fn agents_of_every_kind_stand_in_one_list_and_those_of_the_server_are_read_only() {
    on_both(|server| async move {
        let ada = server.as_role(Role::Administrator).await;
        for name in ["aaa", "zzz"] {
            ada.post("/agents", json!({ "name": name, "definition": "x" })).await;
        }
        let first = ada.read("/agents?limit=2").await;
        let names = |page: &serde_json::Value| -> Vec<String> {
            page["items"].as_array().unwrap().iter().map(|agent| agent["name"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(names(&first), ["aaa", "desk"]);
        let rest = ada.read(&format!("/agents?after={}", first["next"].as_str().unwrap())).await;
        assert_eq!((names(&rest), &rest["next"]), (vec!["zzz".to_owned()], &json!(null)));
        let desk = ada.read("/agents/desk").await;
        assert_eq!((&desk["source"], &desk["definition"]), (&json!("built_in"), &json!("built in")));
        assert_eq!(ada.delete("/agents/desk").await.status(), StatusCode::NOT_FOUND);
        assert_eq!(
            wrong(ada.post("/agents", json!({ "name": "desk", "definition": "x" })).await).await,
            (409, vec!["name".into()])
        );
    })
    .await;
}

#[tokio::test]
async fn what_is_wrong_with_a_definition_is_named_and_nothing_is_written() {
    on_both(|server| async move {
        let ada = server.as_role(Role::Administrator).await;
        let faulty = [
            (json!({ "name": "a b", "definition": "x" }), "name"),
            (json!({ "name": "check", "definition": "x" }), "name"),
            (json!({ "name": "new", "definition": "wrong" }), "definition.voice.kind"),
            (json!({ "name": "new", "definition": "x".repeat(200_001) }), "definition"),
            (json!({ "name": "new", "definition": "x\0" }), "definition"),
            (json!({ "name": "new", "definition": "x", "note": "n".repeat(201) }), "note"),
            (json!({ "name": "new" }), "definition"),
            (json!({ "name": "new", "definition": "x", "publish": true }), "publish"),
        ];
        for (sent, field) in faulty {
            assert_eq!(wrong(ada.post("/agents", sent).await).await, (422, vec![field.to_owned()]));
        }
        assert_eq!(ada.read("/agents").await["items"].as_array().unwrap().len(), 1);
        ada.post("/agents", json!({ "name": "new", "definition": "x" })).await;
        let missing = ada.put("/agents/new/published", json!({ "version": 7 })).await;
        assert_eq!(wrong(missing).await, (422, vec!["version".into()]));
        let stale = ada.request(Method::PUT, "/agents/new/published").header("if-match", "\"9\"");
        assert_eq!(
            stale.json(&json!({ "version": 1 })).send().await.unwrap().status(),
            StatusCode::PRECONDITION_FAILED
        );
        let checked = body(ada.post("/agents/check", json!({ "definition": "wrong" })).await).await;
        assert_eq!(checked["faults"][0]["line"], 3);
        for (sent, field) in [
            (json!({ "said": [] }), "definition"),
            (json!({ "agent": "nobody", "said": [] }), "agent"),
            (json!({ "agent": "desk", "definition": "x", "said": [] }), "definition"),
            (json!({ "agent": "desk", "said": [""] }), "said[0]"),
            (json!({ "agent": "desk", "said": vec!["x"; 101] }), "said"),
            (json!({ "definition": "wrong", "said": [] }), "definition.voice.kind"),
        ] {
            assert_eq!(wrong(ada.post("/agents/conversation", sent).await).await, (422, vec![field.to_owned()]));
        }
        let held = body(ada.post("/agents/conversation", json!({ "agent": "desk", "said": ["hello"] })).await).await;
        assert_eq!(held["turns"][0]["text"], "hello");
    })
    .await;
}

#[tokio::test]
async fn a_version_that_cannot_be_used_any_more_is_refused_and_the_one_before_takes_calls() {
    on_both(|server| async move {
        let ada = server.as_role(Role::Administrator).await;
        ada.post("/agents", json!({ "name": "sales", "definition": "one" })).await;
        assert_eq!(ada.put("/agents/sales/published", json!({ "version": 1 })).await.status(), StatusCode::OK);
        let by = control::store::agents::NewVersion { agent: "sales", definition: "wrong", note: "", by: "ada" };
        server.control.store.add_agent_version(by, control::time::Moment::now()).await.unwrap();
        let refused = ada.put("/agents/sales/published", json!({ "version": 2 })).await;
        assert_eq!(wrong(refused).await, (422, vec!["definition.voice.kind".into()]));
        assert_eq!(ada.read("/agents/sales").await["published"], 1);
        assert_eq!(server.board.agents.lock().unwrap()["sales"], "one");
    })
    .await;
}

#[tokio::test]
async fn what_another_server_publishes_takes_calls_here_too() {
    on_both(|server| async move {
        let ada = server.as_role(Role::Administrator).await;
        ada.post("/agents", json!({ "name": "sales", "definition": "one" })).await;
        let stored = server.control.store.agent("sales").await.unwrap().unwrap();
        let now = control::time::Moment::now();
        server.control.store.publish_agent(&stored, Some(1), None, now).await.unwrap();
        server.control.apply_agents().await.unwrap();
        assert_eq!(server.board.agents.lock().unwrap()["sales"], "one");
        server.control.store.remove_agent("sales").await.unwrap();
        server.control.apply_agents().await.unwrap();
        assert!(server.board.agents.lock().unwrap().is_empty());
    })
    .await;
}
