//! Who may use which route: every route for every role, and whoever is not logged in; and what a person may see of others.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/server.rs"]
mod server;

use control::identity::access::{Need, RULES};
use control::identity::{Role, Scope};
use control::ports::Supervision;
use reqwest::{Method, StatusCode};
use serde_json::json;
use server::{body, on_both, wrong};

/// Whether a role may use a route: written down apart from the table that the gate reads.
fn may(role: Option<Role>, method: &str, path: &str) -> bool {
    let rest = path.strip_prefix("/api/v1/").unwrap();
    let open = ["health", "openapi.json", "setup", "token", "token/revoke", "session/oidc", "session/oidc/callback"];
    if open.contains(&rest)
        || (method, rest) == ("POST", "session")
        || rest.starts_with("recordings/")
        || rest.starts_with("incoming/")
    {
        return true;
    }
    let Some(role) = role else { return false };
    match rest.split('/').next().unwrap() {
        "session" | "me" | "api-keys" | "call-records" | "events" => true,
        "presence" | "queues" => true,
        "web-calls" => role >= Role::Supervisor,
        "calls" if ["say", "note", "trace", "trace.pcap"].iter().any(|end| rest.ends_with(&format!("/{end}"))) => {
            role >= Role::Supervisor
        }
        "calls" if rest.ends_with("supervision") => role >= Role::Supervisor,
        "calls" => true,
        "devices" | "trunks" | "routes" | "numbers" if method == "GET" => role >= Role::Supervisor,
        "devices" | "trunks" | "routes" | "numbers" => role == Role::Administrator,
        "agents" if method == "GET" => role >= Role::Supervisor,
        "agents" => role == Role::Administrator,
        "kpis" | "reports" => true,
        "contacts" | "interactions" => true,
        "dispositions" => method == "GET" || role == Role::Administrator,
        "do-not-call" => method != "DELETE" || role >= Role::Supervisor,
        "users" | "teams" if method == "GET" => role >= Role::Supervisor,
        "webhooks" | "incoming-sources" => role == Role::Administrator,
        "users" | "teams" | "audit" | "people" | "refused-calls" => role == Role::Administrator,
        other => panic!("{method} {other}: say here who may"),
    }
}

#[tokio::test]
async fn every_route_is_open_to_those_who_may_and_to_nobody_else() {
    on_both(|server| async move {
        let mut askers = vec![(None, server.anybody())];
        for role in Role::ALL {
            askers.push((Some(role), server.as_role(role).await));
        }
        for rule in RULES {
            for (role, asker) in &askers {
                // Logging out would end what the next routes need.
                if (rule.method, rule.path) == ("DELETE", "/api/v1/session") && role.is_some() {
                    continue;
                }
                let path = rule
                    .path
                    .strip_prefix("/api/v1")
                    .unwrap()
                    .replace("{id}", "no-such")
                    .replace("{name}", "no-such")
                    .replace("{version}", "1");
                let mut request = asker.request(rule.method.parse().unwrap(), &path);
                if rule.method != "GET" {
                    request = request.json(&json!({}));
                }
                let status = request.send().await.unwrap().status();
                let refused = match role {
                    None => status == StatusCode::UNAUTHORIZED,
                    // A link without a signature is refused for that.
                    Some(_) => status == StatusCode::FORBIDDEN,
                };
                let cell = format!("{} {} for {role:?}: {status}", rule.method, rule.path);
                assert_eq!(refused, !may(*role, rule.method, rule.path), "{cell}");
                assert!(!status.is_server_error(), "{cell}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_key_opens_every_route_of_its_scope_and_no_other() {
    on_both(|server| async move {
        let ada = server.as_role(Role::Administrator).await;
        for scope in Scope::ALL {
            let made = body(ada.post("/api-keys", json!({ "name": scope.as_str(), "scopes": [scope] })).await).await;
            let program = server.anybody().with_bearer(made["secret"].as_str().unwrap());
            for rule in RULES.iter().filter(|rule| rule.need != Need::Nobody) {
                let path = rule
                    .path
                    .strip_prefix("/api/v1")
                    .unwrap()
                    .replace("{id}", "no-such")
                    .replace("{name}", "no-such")
                    .replace("{version}", "1");
                let request = program.request(rule.method.parse().unwrap(), &path);
                let request = if rule.method == "GET" { request } else { request.json(&json!({})) };
                let status = request.send().await.unwrap().status();
                let opens = matches!(rule.need, Need::Somebody(_, needed) if needed == scope);
                assert_eq!(
                    status != StatusCode::FORBIDDEN,
                    opens,
                    "{} {} with {}: {status}",
                    rule.method,
                    rule.path,
                    scope.as_str()
                );
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_path_or_method_that_is_none_is_refused_in_the_same_form() {
    on_both(|server| async move {
        let ada = server.as_role(Role::Administrator).await;
        assert_eq!(ada.get("/no-such").await.status(), StatusCode::NOT_FOUND);
        assert_eq!(
            ada.request(Method::PATCH, "/calls").json(&json!({})).send().await.unwrap().status(),
            StatusCode::METHOD_NOT_ALLOWED
        );
        let answer = ada.get("/users").await;
        for (name, value) in
            [("cache-control", "no-store"), ("x-content-type-options", "nosniff"), ("referrer-policy", "no-referrer")]
        {
            assert_eq!(answer.headers()[name], value);
        }
        assert!(answer.headers()["content-security-policy"].to_str().unwrap().contains("default-src 'none'"));
    })
    .await;
}

#[tokio::test]
async fn supervisors_see_the_people_and_calls_of_their_team_alone() {
    on_both(|server| async move {
        let store = &server.control.store;
        let now = control::time::Moment::now();
        let ours = store.add_team("ours", now).await.unwrap().id;
        let theirs = store.add_team("theirs", now).await.unwrap().id;
        server.user("sue", Role::Supervisor, Some(&ours), Some("sue")).await;
        let alice = server.user("alice", Role::Operator, Some(&ours), Some("alice")).await;
        let bob = server.user("bob", Role::Operator, Some(&theirs), Some("bob")).await;
        server.board.add("with-alice", &["alice"]);
        server.board.add("with-bob", &["bob"]);
        server.board.add("with-nobody", &[]);
        let sue = server.log_in("sue").await;
        let names: Vec<_> =
            sue.read("/users").await["items"].as_array().unwrap().iter().map(|user| user["name"].clone()).collect();
        assert_eq!(names, ["alice", "sue"]);
        assert_eq!(sue.get(&format!("/users/{alice}")).await.status(), StatusCode::OK);
        assert_eq!(wrong(sue.get(&format!("/users/{bob}")).await).await.0, 404);
        assert_eq!(sue.read("/teams").await["items"].as_array().unwrap().len(), 1);
        assert_eq!(wrong(sue.get(&format!("/teams/{theirs}")).await).await.0, 404);
        let calls: Vec<_> =
            sue.read("/calls").await["items"].as_array().unwrap().iter().map(|call| call["call"].clone()).collect();
        assert_eq!(calls, ["with-alice"]);
        for call in ["with-bob", "with-nobody", "none"] {
            assert_eq!(wrong(sue.delete(&format!("/calls/{call}")).await).await.0, 404, "{call}");
        }
        assert!(server.board.asked.lock().unwrap().is_empty());
        let alice = server.log_in("alice").await;
        assert_eq!(alice.delete("/calls/with-alice").await.status(), StatusCode::ACCEPTED);
        assert_eq!(wrong(alice.post("/calls/with-alice/supervision", json!({ "mode": "listen" })).await).await.0, 403);
        assert_eq!(
            sue.post("/calls/with-alice/supervision", json!({ "mode": "whisper" })).await.status(),
            StatusCode::ACCEPTED
        );
        let supervised = server.board.supervised.lock().unwrap().clone();
        assert_eq!(supervised, [("sue".to_owned(), "with-alice".to_owned(), Supervision::Whisper)]);
        server.board.add("with-both", &["alice", "sue"]);
        let own = sue.post("/calls/with-both/supervision", json!({ "mode": "listen" })).await;
        assert_eq!(wrong(own).await.0, 409);
    })
    .await;
}
