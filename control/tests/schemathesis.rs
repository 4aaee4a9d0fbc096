//! Schemathesis (a fuzzer that reads the OpenAPI document) over the whole interface, as each role and as nobody, stateful: no answer is a
//! server's error, and none is outside of what the document says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/server.rs"]
mod server;

use std::process::Command;

use control::identity::{Role, Scope, access};
use serde_json::json;
use server::{Asker, Database, Server, body};

const SEED: &str = "20261129";
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance";

/// Something of everything, so that what is asked for is there.
async fn filled(server: &Server, ada: &Asker) {
    let team = body(ada.post("/teams", json!({ "name": "Reception" })).await).await["id"].as_str().unwrap().to_owned();
    server.user("alice", Role::Operator, Some(&team), Some("alice")).await;
    server.board.add("live-1", &["alice"]);
    let hook = json!({ "name": "crm", "url": "http://127.0.0.1:9/", "events": ["*"] });
    ada.post("/webhooks", hook).await;
    let source = json!({ "name": "pay", "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" });
    ada.post("/incoming-sources", source).await;
    let lines: Vec<_> = (0..20)
        .map(|n| {
            Server::line(&format!("call-{n}"), "2026-11-01T10:00:00Z", json!({ "legs": [{ "label": "device alice" }] }))
        })
        .collect();
    server.journal(&lines).await;
}

/// Runs it with these headers and arguments; it has to find nothing.
async fn finds_nothing(server: &Server, who: &str, arguments: Vec<String>) {
    let python = std::env::var("OMNIVOX_TEST_PYTHON").expect("scripts/test sets OMNIVOX_TEST_PYTHON");
    let program = std::path::Path::new(&python).with_file_name("schemathesis");
    let mut command = Command::new(program);
    command
        .current_dir(&server.folder)
        .env("NO_COLOR", "1")
        .args(["run", &format!("{}/api/v1/openapi.json", server.base)]);
    command.args(["--checks", CHECKS, "--phases", "examples,coverage,fuzzing,stateful", "--max-examples", "8"]);
    command.args(["--seed", SEED, "--no-shrink", "--continue-on-failure", "--suppress-health-check", "all"]);
    command.args(["--warnings", "off", "--request-timeout", "30"]);
    // An endless stream, which the tests of events read.
    command.args(["--exclude-operation-id", "watchEvents", "--exclude-operation-id", "startWebCall"]).args(arguments);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{who}:\n{told}");
    assert!(told.contains("Stateful"), "{who}: every phase ran:\n{told}");
}

async fn as_role(database: Database, role: Role) {
    let server = Server::start_with(&database, |_, _| {}).await;
    let ada = server.as_role(Role::Administrator).await;
    filled(&server, &ada).await;
    let asker = if role == Role::Administrator { ada } else { server.as_role(role).await };
    let scopes: Vec<Scope> = Scope::ALL.into_iter().filter(|scope| access::is_of_use(role, *scope)).collect();
    let made = body(asker.post("/api-keys", json!({ "name": "all", "scopes": scopes })).await).await;
    let key = made["secret"].as_str().unwrap();
    finds_nothing(&server, role.as_str(), vec!["-H".into(), format!("authorization: Bearer {key}")]).await;
    // What is for people: with a session. What ends it, or changes its password, would leave nothing to try afterwards.
    let people = ["listKeys", "addKey", "removeKey", "whoAmI"]
        .iter()
        .flat_map(|id| ["--include-operation-id".to_owned(), (*id).to_owned()]);
    let cookie = format!("cookie: {}", asker.cookie.as_ref().unwrap());
    let csrf = format!("x-csrf-token: {}", asker.csrf.as_ref().unwrap());
    let headers = ["-H".to_owned(), cookie, "-H".to_owned(), csrf];
    finds_nothing(&server, &format!("{} with a session", role.as_str()), headers.into_iter().chain(people).collect())
        .await;
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_an_answer_that_is_not_described() {
    let database = Database::sqlite();
    let server = Server::start_with(&database, |_, _| {}).await;
    finds_nothing(&server, "nobody", Vec::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_operator_does() {
    as_role(Database::sqlite(), Role::Operator).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_supervisor_does() {
    as_role(Database::postgres().await, Role::Supervisor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_administrator_does() {
    as_role(Database::sqlite(), Role::Administrator).await;
    as_role(Database::postgres().await, Role::Administrator).await;
}
