//! What providers tell us: what is signed is taken once, and nothing else. On both databases.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/server.rs"]
mod server;

use control::identity::Role;
use control::time::Moment;
use control::webhooks::signature::Secret;
use reqwest::{Method, Response, StatusCode};
use serde_json::json;
use server::{Asker, on_both, wrong};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

async fn send(asker: &Asker, name: &str, id: &str, seconds: i64, signature: &str, body: &str) -> Response {
    let request = asker.request(Method::POST, &format!("/incoming/{name}")).header("content-type", "application/json");
    let request = request.header("webhook-id", id).header("webhook-timestamp", seconds.to_string());
    request.header("webhook-signature", signature).body(body.to_owned()).send().await.unwrap()
}

#[tokio::test]
async fn a_callback_is_taken_once_where_it_is_signed_whole_and_recent() {
    on_both(|server| async move {
        let ada = server.as_role(Role::Administrator).await;
        let source = json!({ "name": "Pay", "secret": SECRET });
        assert_eq!(ada.post("/incoming-sources", source.clone()).await.status(), StatusCode::CREATED);
        assert_eq!(wrong(ada.post("/incoming-sources", source).await).await, (409, vec!["name".into()]));
        let hook = json!({ "name": "crm", "url": "https://x.example/", "events": ["incoming"] });
        assert_eq!(ada.post("/webhooks", hook).await.status(), StatusCode::CREATED);
        let mut watching = server.control.live.read(None);
        let (provider, secret) = (server.anybody(), Secret::parse(SECRET).unwrap());
        let (now, body) = (Moment::now().0 / 1_000, r#"{"type":"payment.done","n":1}"#);
        let good = secret.sign("m1", now, body.as_bytes());
        let other = Secret::random().unwrap().sign("m1", now, body.as_bytes());
        for (what, name, id, seconds, signature, body) in [
            ("another's secret", "pay", "m1", now, &other, body),
            ("another body", "pay", "m1", now, &good, r#"{"type":"payment.done","n":2}"#),
            ("another id", "pay", "m2", now, &good, body),
            ("another time", "pay", "m1", now - 1, &good, body),
            ("too old", "pay", "m1", now - 400, &secret.sign("m1", now - 400, body.as_bytes()), body),
            ("not yet", "pay", "m1", now + 400, &secret.sign("m1", now + 400, body.as_bytes()), body),
            ("no such source", "paid", "m1", now, &good, body),
        ] {
            assert_eq!(wrong(send(&provider, name, id, seconds, signature, body).await).await.0, 401, "{what}");
        }
        assert_eq!(send(&provider, "pay", "m1", now, &good, body).await.status(), StatusCode::NO_CONTENT);
        assert_eq!(wrong(send(&provider, "pay", "m1", now, &good, body).await).await.0, 409, "it came before");
        let again = secret.sign("m1", now + 1, body.as_bytes());
        assert_eq!(wrong(send(&provider, "pay", "m1", now + 1, &again, body).await).await.0, 409, "also signed anew");
        let told = watching.take(9).events;
        assert_eq!(told.len(), 1, "what was refused is told nobody");
        let told = &told[0];
        let data: serde_json::Value = serde_json::from_str(told.data.get()).unwrap();
        assert_eq!((told.kind, &data["source"], &data["body"]["n"]), ("incoming", &json!("pay"), &json!(1)));
        let hooks = ada.read("/webhooks").await;
        let path = format!("/webhooks/{}/deliveries", hooks["items"][0]["id"].as_str().unwrap());
        server.read_journal(&server.folder.join("calls.jsonl")).await;
        assert_eq!(ada.read(&path).await["items"].as_array().unwrap().len(), 1, "written once");
        // What is signed and no JSON is the provider's fault, not ours.
        let text = secret.sign("m3", now, b"{");
        assert_eq!(wrong(send(&provider, "pay", "m3", now, &text, "{").await).await.0, 400);
        let bare = provider.request(Method::POST, "/incoming/pay").body("{}").send().await.unwrap();
        assert_eq!(wrong(bare).await, (422, vec!["webhook-id".into()]));
    })
    .await;
}

#[tokio::test]
async fn a_source_is_changed_and_taken_away_and_its_secret_is_never_shown() {
    on_both(|server| async move {
        let ada = server.as_role(Role::Administrator).await;
        let made = server::body(ada.post("/incoming-sources", json!({ "name": "pay", "secret": SECRET })).await).await;
        assert_eq!(made["hint"], "whsec_MfKQ…");
        let path = format!("/incoming-sources/{}", made["id"].as_str().unwrap());
        for (field, value) in
            [("secret", json!("whsec_short")), ("secret", json!("")), ("name", json!("a/b")), ("key", json!(1))]
        {
            let mut wanted = json!({ "name": "x", "secret": SECRET });
            wanted[field] = value;
            assert_eq!(wrong(ada.post("/incoming-sources", wanted).await).await, (422, vec![field.to_owned()]));
        }
        let new = Secret::random().unwrap();
        let changed = ada.patch(&path, json!({ "secret": new.reveal() })).await;
        assert_eq!(changed.headers()["etag"], "\"2\"");
        let late = ada.request(Method::PATCH, &path).header("if-match", "\"1\"").json(&json!({ "name": "x" })).send();
        assert_eq!(wrong(late.await.unwrap()).await.0, 412);
        let now = Moment::now().0 / 1_000;
        let provider = server.anybody();
        let old = Secret::parse(SECRET).unwrap().sign("m", now, b"{}");
        assert_eq!(wrong(send(&provider, "pay", "m", now, &old, "{}").await).await.0, 401);
        assert_eq!(
            send(&provider, "pay", "m", now, &new.sign("m", now, b"{}"), "{}").await.status(),
            StatusCode::NO_CONTENT
        );
        assert!(!ada.read("/incoming-sources").await.to_string().contains(&new.reveal()[10..]));
        assert_eq!(ada.delete(&path).await.status(), StatusCode::NO_CONTENT);
        assert_eq!(wrong(ada.get(&path).await).await.0, 404);
    })
    .await;
}
