//! Trunks, numbers, routes and devices that people add: beside those of the files, in effect at once, with their secrets sealed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/server.rs"]
mod server;

use control::identity::Role;
use control::ports::settings::SettingKind;
use reqwest::{Method, StatusCode};
use serde_json::json;
use server::{body, on_both, wrong};

#[tokio::test]
async fn a_device_takes_effect_at_once_and_its_password_is_never_seen_again() {
    on_both(|server| async move {
        let ada = server.as_role(Role::Administrator).await;
        let made = ada.post("/devices", json!({ "user": "alice", "password": "walrus-pedal" })).await;
        assert_eq!(made.status(), StatusCode::CREATED);
        let tag = made.headers()["etag"].to_str().unwrap().to_owned();
        let made = body(made).await;
        assert_eq!(
            (&made["user"], &made["source"], &made["password"]),
            (&json!("alice"), &json!("stored"), &json!(null))
        );
        let in_effect = || server.board.settings.lock().unwrap().clone();
        assert_eq!(in_effect()[0].1["password"], "walrus-pedal");
        // A change without the password keeps it.
        let change = ada.request(Method::PUT, "/devices/alice").header("if-match", &tag);
        let changed = change.json(&json!({ "user": "alice", "display_name": "Alice" })).send().await.unwrap();
        assert_eq!(changed.status(), StatusCode::OK);
        assert_eq!(
            (&in_effect()[0].1["password"], &in_effect()[0].1["display_name"]),
            (&json!("walrus-pedal"), &json!("Alice"))
        );
        let stale = ada.request(Method::PUT, "/devices/alice").header("if-match", &tag);
        assert_eq!(
            stale.json(&json!({ "user": "alice" })).send().await.unwrap().status(),
            StatusCode::PRECONDITION_FAILED
        );
        let stored = server.control.store.setting(SettingKind::Device, "alice").await.unwrap().unwrap();
        assert!(!stored.value.contains("walrus") && !ada.read("/audit").await.to_string().contains("walrus"));
        assert!(!ada.read("/devices").await.to_string().contains("walrus"));
        // A route needs the device, and the device cannot go before it.
        let route = ada.post("/routes", json!({ "name": "office", "to": "alice" })).await;
        assert_eq!(route.status(), StatusCode::CREATED);
        assert_eq!(ada.delete("/devices/alice").await.status(), StatusCode::CONFLICT);
        assert_eq!(ada.delete("/routes/office").await.status(), StatusCode::NO_CONTENT);
        assert_eq!(ada.delete("/devices/alice").await.status(), StatusCode::NO_CONTENT);
        assert!(in_effect().is_empty());
    })
    .await;
}

#[tokio::test]
async fn the_servers_document_has_the_keys_of_each_kind() {
    on_both(|server| async move {
        let document = server.anybody().read("/openapi.json").await;
        for (kind, name) in
            [("devices", "DeviceKeys"), ("trunks", "TrunkKeys"), ("routes", "RouteKeys"), ("numbers", "NumberKeys")]
        {
            let key = SettingKind::parse(kind).unwrap().key();
            let schema = &document["components"]["schemas"][name];
            assert_eq!((&schema["properties"][key]["type"], &schema["required"]), (&json!("string"), &json!([key])));
            for (path, method) in [(format!("/api/v1/{kind}"), "post"), (format!("/api/v1/{kind}/{{name}}"), "put")] {
                let sent = &document["paths"][path][method]["requestBody"]["content"]["application/json"]["schema"];
                assert_eq!(sent["$ref"], format!("#/components/schemas/{name}"));
            }
        }
        let pressed = &document["components"]["schemas"]["PressedKeys"];
        assert_eq!(pressed["properties"]["digits"]["type"], "string");
    })
    .await;
}

#[tokio::test]
async fn settings_of_files_are_shown_and_changed_there_alone() {
    on_both(|server| async move {
        let ada = server.as_role(Role::Administrator).await;
        for name in ["backup", "zone"] {
            assert_eq!(ada.post("/trunks", json!({ "name": name })).await.status(), StatusCode::CREATED);
        }
        let first = ada.read("/trunks?limit=2").await;
        let names: Vec<_> = first["items"].as_array().unwrap().iter().map(|trunk| trunk["name"].clone()).collect();
        assert_eq!(names, ["backup", "carrier"]);
        assert_eq!(first["items"][1]["source"], "file");
        let rest = ada.read(&format!("/trunks?after={}", first["next"].as_str().unwrap())).await;
        assert_eq!(rest["items"][0]["name"], "zone");
        assert_eq!(ada.read("/trunks/carrier").await["hosts"][0], "carrier.example");
        assert_eq!(ada.put("/trunks/carrier", json!({ "name": "carrier" })).await.status(), StatusCode::CONFLICT);
        assert_eq!(ada.delete("/trunks/carrier").await.status(), StatusCode::CONFLICT);
        for (sent, status, field) in [
            (json!({ "name": "carrier" }), 409, "name"),
            (json!({ "name": "backup" }), 409, "name"),
            (json!({}), 422, "name"),
            (json!({ "name": 5 }), 422, "name"),
        ] {
            assert_eq!(wrong(ada.post("/trunks", sent).await).await, (status, vec![field.to_owned()]));
        }
        assert_eq!(
            wrong(ada.post("/routes", json!({ "name": "r", "to": "bob" })).await).await,
            (422, vec!["to".into()])
        );
        let renamed = ada.put("/trunks/zone", json!({ "name": "other" })).await;
        assert_eq!(wrong(renamed).await, (422, vec!["name".into()]));
        assert_eq!(server.board.settings.lock().unwrap().len(), 2, "what is wrong is not in effect");
        assert_eq!(ada.get("/numbers/none").await.status(), StatusCode::NOT_FOUND);
    })
    .await;
}

#[tokio::test]
async fn a_number_leads_to_an_agent_that_takes_calls_or_is_refused() {
    on_both(|server| async move {
        let ada = server.as_role(Role::Administrator).await;
        let number = |agent: &str| json!({ "number": "+4930123", "to": format!("agent {agent}") });
        let refused = ada.post("/numbers", number("sales")).await;
        assert_eq!(refused.status(), StatusCode::UNPROCESSABLE_ENTITY);
        let refused = body(refused).await;
        let (field, why) = (&refused["errors"][0]["field"], refused["errors"][0]["message"].as_str().unwrap());
        assert!(*field == "to" && why.contains("no agent is called sales: there are desk"), "{refused}");
        ada.post("/agents", json!({ "name": "sales", "definition": "one" })).await;
        let refused = body(ada.post("/numbers", number("sales")).await).await;
        assert!(refused["errors"][0]["message"].as_str().unwrap().contains("takes no calls yet"), "{refused}");
        ada.put("/agents/sales/published", json!({ "version": 1 })).await;
        assert_eq!(ada.post("/numbers", number("sales")).await.status(), StatusCode::CREATED);
        assert_eq!(wrong(ada.put("/numbers/+4930123", number("nosuch")).await).await, (422, vec!["to".into()]));
        // What leads where it led can be changed, whoever takes calls there.
        assert_eq!(ada.delete("/agents/sales/published").await.status(), StatusCode::OK);
        assert_eq!(ada.put("/numbers/+4930123", number("sales")).await.status(), StatusCode::OK);
        assert_eq!(ada.put("/numbers/+4930123", number("desk")).await.status(), StatusCode::OK);
    })
    .await;
}

#[tokio::test]
async fn what_another_server_stores_takes_effect_here_too() {
    on_both(|server| async move {
        let ada = server.as_role(Role::Administrator).await;
        ada.post("/numbers", json!({ "number": "+4930123", "to": "agent desk" })).await;
        server.board.settings.lock().unwrap().clear();
        server.control.settings.follow().await.unwrap();
        assert!(server.board.settings.lock().unwrap().is_empty(), "nothing has changed");
        server.control.store.remove_setting(SettingKind::Number, "+4930123").await.unwrap();
        ada.post("/devices", json!({ "user": "bob" })).await;
        assert_eq!(server.board.settings.lock().unwrap().len(), 1);
    })
    .await;
}
