//! The OWASP API Security Top 10 (2023): of each what it warns of is tried, and does not work. On both databases.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/receiver.rs"]
mod receiver;
#[path = "support/server.rs"]
mod server;

use axum::http::StatusCode as Status;
use axum::response::IntoResponse;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use control::identity::access::RULES;
use control::identity::limit::Rates;
use control::identity::{Role, secret};
use control::store::records::Visible;
use control::time::Moment;
use control::webhooks::signature::Secret;
use receiver::Receiver;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use server::{PASSWORD, Server, body, on_both, on_both_with, wrong};

#[tokio::test]
async fn api1_broken_object_level_authorization_an_id_of_somebody_elses_opens_nothing() {
    on_both(|server| async move {
        server.user("alice", Role::Operator, None, Some("alice")).await;
        server.user("bob", Role::Operator, None, Some("bob")).await;
        let (alice, bob) = (server.log_in("alice").await, server.log_in("bob").await);
        let legs = json!({ "legs": [{ "label": "device alice" }], "recording": "/tmp/x.wav" });
        server.journal(&[Server::line("hers", "2026-11-01T10:00:00Z", legs)]).await;
        server.board.add("hers-live", &["alice"]);
        let key = body(alice.post("/api-keys", json!({ "name": "k", "scopes": ["calls:read"] })).await).await;
        let key = format!("/api-keys/{}", key["key"]["id"].as_str().unwrap());
        assert_eq!(alice.get("/call-records/hers").await.status(), StatusCode::OK);
        for path in ["", "/transcript", "/recording"] {
            assert_eq!(wrong(bob.get(&format!("/call-records/hers{path}")).await).await.0, 404, "{path}");
        }
        assert_eq!(wrong(bob.post("/call-records/hers/recording-link", json!({})).await).await.0, 404);
        assert_eq!(wrong(bob.get("/calls/hers-live").await).await.0, 404);
        assert_eq!(wrong(bob.delete("/calls/hers-live").await).await.0, 404);
        assert_eq!(wrong(bob.put("/calls/hers-live/hold", json!({ "on": true })).await).await.0, 404);
        assert_eq!(wrong(bob.post("/calls/hers-live/transfer", json!({ "to": "bob" })).await).await.0, 404);
        assert_eq!(wrong(bob.delete(&key).await).await.0, 404);
        assert!(server.board.asked.lock().unwrap().is_empty());
        // What is somebody else's looks like what is not there.
        let (hers, none) = (bob.get("/call-records/hers").await, bob.get("/call-records/none").await);
        assert_eq!(hers.text().await.unwrap(), none.text().await.unwrap());
    })
    .await;
}

#[tokio::test]
async fn api2_broken_authentication_no_forged_guessed_or_ended_login_is_one() {
    on_both(|server| async move {
        let ada = server.user("ada", Role::Administrator, None, None).await;
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let claims = part(&json!({ "iss": "omnivox", "sub": ada, "iat": 0, "exp": 4_000_000_000_i64, "ver": 1 }));
        let none = format!("{}.{claims}.", part(&json!({ "alg": "none", "typ": "JWT" })));
        let header = part(&json!({ "alg": "HS256", "typ": "JWT" }));
        let by_another = format!("{header}.{claims}.{}", secret::sign(b"another key", &format!("{header}.{claims}")));
        let own = std::fs::read(server.folder.join("control.key")).unwrap();
        let old = part(&json!({ "iss": "omnivox", "sub": ada, "iat": 0, "exp": 1, "ver": 1 }));
        let expired = format!("{header}.{old}.{}", secret::sign(&own, &format!("{header}.{old}")));
        let good = format!("{header}.{claims}.{}", secret::sign(&own, &format!("{header}.{claims}")));
        assert_eq!(
            server.anybody().with_bearer(&good).get("/users").await.status(),
            StatusCode::OK,
            "the forger knows how"
        );
        for (what, token) in
            [("alg none", none), ("another key", by_another), ("expired", expired), ("empty", String::new())]
        {
            assert_eq!(wrong(server.anybody().with_bearer(&token).get("/users").await).await.0, 401, "{what}");
        }
        let logged_in = server.log_in("ada").await;
        assert_eq!(logged_in.delete("/session").await.status(), StatusCode::NO_CONTENT);
        assert_eq!(wrong(logged_in.get("/users").await).await.0, 401, "logged out is logged out");
        for _ in 0..5 {
            let login = json!({ "name": "ada", "password": "guess after guess" });
            assert_eq!(wrong(server.anybody().post("/session", login).await).await.0, 401);
        }
        let login = json!({ "name": "ada", "password": PASSWORD });
        assert_eq!(wrong(server.anybody().post("/session", login).await).await.0, 401, "nobody guesses on and on");
    })
    .await;
}

#[tokio::test]
async fn api3_broken_object_property_level_authorization_nobody_writes_or_reads_what_is_not_theirs() {
    on_both(|server| async move {
        let bob_id = server.user("bob", Role::Operator, None, None).await;
        let (ada, bob) = (server.as_role(Role::Administrator).await, server.log_in("bob").await);
        let path = format!("/users/{bob_id}");
        assert_eq!(wrong(bob.patch(&path, json!({ "role": "administrator" })).await).await.0, 403);
        let new = json!({ "name": "eve", "display": "Eve", "role": "operator", "password": PASSWORD });
        for field in ["id", "password_hash", "totp_secret", "version", "failed_logins", "created_at"] {
            let mut wanted = new.clone();
            wanted[field] = "x".into();
            assert_eq!(wrong(ada.post("/users", wanted).await).await, (422, vec![field.to_owned()]));
            assert_eq!(wrong(ada.patch(&path, json!({ field: "x" })).await).await, (422, vec![field.to_owned()]));
        }
        let hook = json!({ "name": "crm", "url": "https://x.example/", "events": ["*"], "secret": "whsec_mine" });
        assert_eq!(wrong(ada.post("/webhooks", hook).await).await, (422, vec!["secret".into()]));
        let shown = format!("{}{}", ada.read("/users").await, ada.read(&path).await);
        for hidden in ["password", "argon2", "totp_secret", "failed_logins", "locked_until", "version"] {
            assert!(!shown.contains(hidden), "{hidden}: {shown}");
        }
        assert_eq!(server.control.store.user(&bob_id).await.unwrap().unwrap().role, Role::Operator);
    })
    .await;
}

#[tokio::test]
async fn api4_unrestricted_resource_consumption_what_is_asked_for_has_limits() {
    let rates = Rates { creation: 5, report: 5, ..Rates::default() };
    on_both_with(rates, |server| async move {
        let ada = server.as_role(Role::Administrator).await;
        assert_eq!(wrong(ada.get("/call-records?limit=100000").await).await, (422, vec!["limit".into()]));
        assert_eq!(wrong(ada.get(&format!("/call-records?words={}", "x".repeat(201))).await).await.0, 422);
        assert_eq!(wrong(ada.post("/teams", json!({ "name": "x".repeat(300_000) })).await).await.0, 413);
        for path in ["/audit", "/call-records"] {
            let mut last = None;
            for _ in 0..6 {
                last = Some(ada.get(path).await);
            }
            let last = last.unwrap();
            assert_eq!(last.status(), StatusCode::TOO_MANY_REQUESTS, "{path}");
            assert!(last.headers().contains_key("retry-after"));
        }
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let deep = ada.request(Method::POST, "/teams").header("content-type", "application/json").body(deep).send();
        assert!([400, 422].contains(&wrong(deep.await.unwrap()).await.0), "nesting has an end");
    })
    .await;
}

#[tokio::test]
async fn api5_broken_function_level_authorization_no_detour_leads_to_what_is_for_administrators() {
    on_both(|server| async move {
        let bob = server.as_role(Role::Operator).await;
        for path in ["/users", "/audit", "/webhooks", "/incoming-sources", "/teams"] {
            assert_eq!(wrong(bob.get(path).await).await.0, 403, "{path}");
        }
        for path in
            ["/Users", "/users/", "//users", "/users/.", "/users%2f", "/calls/../users", "/users;x=1", "/%75sers/"]
        {
            let status = bob.get(path).await.status();
            assert!(matches!(status.as_u16(), 403 | 404), "{path}: {status}");
        }
        for header in ["x-http-method-override", "x-method-override", "x-original-url", "x-rewrite-url"] {
            let request = bob.request(Method::GET, "/calls").header(header, "/api/v1/users");
            let seen = request.send().await.unwrap().text().await.unwrap();
            assert_eq!(seen, r#"{"items":[]}"#, "{header}");
        }
        let request = bob.request(Method::POST, "/calls").header("x-http-method-override", "DELETE").json(&json!({}));
        assert_eq!(wrong(request.send().await.unwrap()).await.0, 422);
    })
    .await;
}

#[tokio::test]
async fn api6_unrestricted_access_to_sensitive_business_flows_nobody_has_the_world_called() {
    let rates = Rates { creation: 10, ..Rates::default() };
    on_both_with(rates, |server| async move {
        server.user("bob", Role::Operator, None, Some("bob")).await;
        let bob = server.log_in("bob").await;
        let call = |to: &str| json!({ "to": to, "connect_with": "agent" });
        for to in ["+19005551234", "alice", "sip:premium@carrier.example", "bob@elsewhere", "BOB"] {
            assert_eq!(wrong(bob.post("/calls", call(to)).await).await.0, 403, "{to}");
        }
        let mut refused = 0;
        for _ in 0..12 {
            refused += usize::from(bob.post("/calls", call("bob")).await.status() == StatusCode::TOO_MANY_REQUESTS);
        }
        assert!(refused >= 6, "calls are not begun without end");
        let started = server.board.started.lock().unwrap();
        assert!(started.len() <= 6 && started.iter().all(|order| order.to == "bob"));
    })
    .await;
}

#[tokio::test]
async fn api7_server_side_request_forgery_no_address_from_outside_leads_inside() {
    on_both(|server| async move {
        let ada = server.as_role(Role::Administrator).await;
        let inside = tokio::net::TcpListener::bind("[::1]:0").await.unwrap();
        let port = inside.local_addr().unwrap().port();
        for url in [
            "http://169.254.169.254/latest/meta-data/".to_owned(),
            "https://169.254.169.254/".into(),
            "https://[fd00:ec2::254]/".into(),
            format!("http://[::1]:{port}/"),
            format!("https://[::1]:{port}/"),
            "https://10.0.0.1/".into(),
            "https://0xa000001/".into(),
            "https://167772161/".into(),
            "https://192.168.1.1:5432/".into(),
            "https://[::ffff:10.0.0.1]/".into(),
            "https://100.64.0.1/".into(),
            "file:///etc/passwd".into(),
            "gopher://example.com/".into(),
            "http://metadata.google.internal@10.0.0.1/".into(),
        ] {
            let hook = json!({ "name": "x", "url": url, "events": ["*"] });
            assert_eq!(wrong(ada.post("/webhooks", hook).await).await, (422, vec!["url".into()]), "{url}");
        }
        // Nor does whoever may be asked lead on to who may not.
        let receiver = Receiver::start().await;
        let target = format!("http://[::1]:{port}/");
        receiver.answer(move |_| (Status::TEMPORARY_REDIRECT, [("location", target.clone())]).into_response());
        let hook = json!({ "name": "x", "url": receiver.url, "events": ["*"] });
        let made = body(ada.post("/webhooks", hook).await).await;
        let test = format!("/webhooks/{}/test", made["webhook"]["id"].as_str().unwrap());
        let tested = body(ada.post(&test, json!({})).await).await;
        assert_eq!((&tested["status"], &tested["delivered"]), (&json!(307), &json!(false)));
        let asked = tokio::select! {
            biased;
            asked = inside.accept() => asked.is_ok(),
            () = std::future::ready(()) => false,
        };
        assert!(!asked, "nobody inside was asked");
    })
    .await;
}

#[tokio::test]
async fn api8_security_misconfiguration_answers_guard_themselves_and_tell_nothing_of_the_server() {
    on_both(|server| async move {
        let ada = server.as_role(Role::Administrator).await;
        let foreign = ada.request(Method::GET, "/users").header("origin", "https://evil.example").send().await.unwrap();
        for (name, value) in
            [("cache-control", "no-store"), ("x-content-type-options", "nosniff"), ("referrer-policy", "no-referrer")]
        {
            assert_eq!(foreign.headers()[name], value);
        }
        for name in ["access-control-allow-origin", "access-control-allow-credentials", "server", "x-powered-by"] {
            assert!(!foreign.headers().contains_key(name), "{name}");
        }
        for method in ["OPTIONS", "TRACE", "CONNECT", "PROPFIND"] {
            let answer = ada.request(method.parse().unwrap(), "/users").send().await;
            assert!(answer.is_err() || answer.unwrap().status().is_client_error(), "{method}");
        }
        let mut forged = ada.clone();
        forged.csrf = None;
        assert_eq!(wrong(forged.post("/teams", json!({ "name": "x" })).await).await.0, 403);
        server.control.store.close().await;
        let down = server.anybody().post("/session", json!({ "name": "x", "password": "y" })).await;
        assert_eq!(down.status(), StatusCode::SERVICE_UNAVAILABLE);
        let told = down.text().await.unwrap().to_lowercase();
        for word in ["sqlx", "pool", "postgres", "sqlite", "select", "panicked", ".rs"] {
            assert!(!told.contains(word), "{word}: {told}");
        }
    })
    .await;
}

#[tokio::test]
async fn api9_improper_inventory_management_every_route_is_described_and_there_is_no_other() {
    on_both(|server| async move {
        let ada = server.as_role(Role::Administrator).await;
        let described = ada.read("/openapi.json").await;
        for rule in RULES.iter().filter(|rule| !rule.path.ends_with("openapi.json")) {
            let operation = &described["paths"][rule.path][rule.method.to_lowercase()];
            assert!(operation.is_object(), "{} {} is not described", rule.method, rule.path);
            assert!(operation["responses"]["429"].is_object() && operation["responses"]["401"].is_object());
        }
        for path in [
            "/api/v0/users",
            "/api/v2/users",
            "/api/users",
            "/api/internal/users",
            "/debug",
            "/metrics",
            "/actuator/health",
            "/.git/config",
            "/swagger-ui",
        ] {
            let answer = ada
                .http
                .get(format!("{}{path}", server.base))
                .header("cookie", ada.cookie.clone().unwrap())
                .send()
                .await
                .unwrap();
            assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{path}");
        }
    })
    .await;
}

#[tokio::test]
async fn api10_unsafe_consumption_of_apis_what_others_tell_us_is_doubted() {
    on_both(|server| async move {
        let ada = server.as_role(Role::Administrator).await;
        let secret = Secret::random().unwrap();
        let source = json!({ "name": "pay", "secret": secret.reveal() });
        assert_eq!(ada.post("/incoming-sources", source).await.status(), StatusCode::CREATED);
        let now = Moment::now().0 / 1_000;
        let send = |id: &'static str, signature: String, body: String| {
            let request = server.anybody().request(Method::POST, "/incoming/pay").header("webhook-id", id);
            let request = request.header("webhook-timestamp", now.to_string()).header("webhook-signature", signature);
            request.body(body).send()
        };
        let bill = r#"{"type":"bill","amount":1}"#.to_owned();
        let forged = Secret::random().unwrap().sign("m1", now, bill.as_bytes());
        assert_eq!(wrong(send("m1", forged, bill.clone()).await.unwrap()).await.0, 401);
        // Signed, and still not to be trusted: it is stored as it stands and leads to nothing.
        let strange = json!({ "type": "x\u{0}'; DROP TABLE users; --", "url": "http://169.254.169.254/", "__proto__": { "role": "administrator" } }).to_string();
        let signed = secret.sign("m2", now, strange.as_bytes());
        assert_eq!(send("m2", signed, strange).await.unwrap().status(), StatusCode::NO_CONTENT);
        let long = "x".repeat(control::api::BODY_LIMIT + 1);
        let signed = secret.sign("m3", now, long.as_bytes());
        assert_eq!(wrong(send("m3", signed, long).await.unwrap()).await.0, 413);
        assert_eq!(ada.read("/users").await["items"].as_array().unwrap().len(), 1);
        // What a peer writes into a call's names reaches records as text.
        let more = json!({ "from": "sip:<script>'\u{0}@host", "target": "' OR 1=1 --" });
        server.journal(&[Server::line("c1", "2026-11-01T10:00:00Z", more)]).await;
        assert_eq!(server.control.store.record(&Visible::All, "c1").await.unwrap().unwrap().0.target, "' OR 1=1 --");
    })
    .await;
}
