//! Logging in and what it costs to be wrong: sessions, tokens, keys, second factors, limits. On both databases.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/server.rs"]
mod server;

use control::identity::limit::Rates;
use control::identity::{Role, second_factor, secret};
use control::time::Moment;
use reqwest::StatusCode;
use serde_json::json;
use server::{PASSWORD, body, on_both, on_both_with, wrong};

#[tokio::test]
async fn the_first_administrator_comes_in_by_a_code_that_is_good_once() {
    on_both(|server| async move {
        let code = server.control.first_code().await.unwrap().expect("nobody is there yet");
        let asker = server.anybody();
        let setup = |code: &str, password: &str| json!({ "code": code, "name": "Ada", "display": "Ada Lovelace", "password": password });
        let health = asker.read("/health").await;
        assert_eq!((&health["set_up"], &health["oidc"]), (&json!(false), &json!(false)));
        let why = async |code: &str| {
            let answer = asker.post("/setup", setup(code, PASSWORD)).await;
            assert_eq!(answer.status(), StatusCode::FORBIDDEN);
            body(answer).await["detail"].as_str().unwrap().to_owned()
        };
        assert!(why("guessed").await.contains("not right"));
        assert_eq!(wrong(asker.post("/setup", setup(&code, "short")).await).await, (422, vec!["password".into()]));
        let made = asker.post("/setup", setup(&code, PASSWORD)).await;
        assert_eq!(made.status(), StatusCode::CREATED);
        let made = body(made).await;
        assert_eq!((made["name"].as_str(), made["role"].as_str()), (Some("ada"), Some("administrator")));
        assert!(why(&code).await.contains("an administrator already"));
        assert_eq!(asker.read("/health").await["set_up"], true);
        assert_eq!(server.control.first_code().await.unwrap(), None);
        let ada = server.log_in("ada").await;
        assert_eq!(ada.read("/session").await["user"]["display"], "Ada Lovelace");
    })
    .await;
}

#[tokio::test]
async fn a_session_needs_its_cookie_and_what_changes_something_its_token() {
    on_both(|server| async move {
        server.user("ada", Role::Administrator, None, None).await;
        let ada = server.log_in("ADA").await;
        assert_eq!(ada.get("/users").await.status(), StatusCode::OK);
        let mut forged = ada.clone();
        forged.csrf = None;
        assert_eq!(wrong(forged.post("/teams", json!({ "name": "x" })).await).await.0, 403);
        forged.csrf = Some("0".repeat(64));
        assert_eq!(wrong(forged.post("/teams", json!({ "name": "x" })).await).await.0, 403);
        assert_eq!(ada.post("/teams", json!({ "name": "x" })).await.status(), StatusCode::CREATED);
        assert_eq!(wrong(server.anybody().get("/users").await).await.0, 401);
        assert_eq!(ada.delete("/session").await.status(), StatusCode::NO_CONTENT);
        assert_eq!(wrong(ada.get("/users").await).await.0, 401);
        // The table has no secret that would open a session.
        let again = server.log_in("ada").await;
        let cookie = again.cookie.clone().unwrap();
        let secret = cookie.split_once('=').unwrap().1;
        assert!(server.control.store.session(secret, Moment::now(), Moment(0)).await.unwrap().is_none());
        assert!(server.control.store.session(&secret::hash(secret), Moment::now(), Moment(0)).await.unwrap().is_some());
    })
    .await;
}

#[tokio::test]
async fn wrong_passwords_lock_an_account_and_sound_like_names_that_do_not_exist() {
    on_both(|server| async move {
        server.user("ada", Role::Operator, None, None).await;
        let asker = server.anybody();
        let login = |name: &str, password: &str| json!({ "name": name, "password": password });
        let nobody = asker.post("/session", login("nobody", PASSWORD)).await.text().await.unwrap();
        for _ in 0..5 {
            let wrong = asker.post("/session", login("ada", "not the password")).await;
            assert_eq!(wrong.status(), StatusCode::UNAUTHORIZED);
            assert_eq!(wrong.text().await.unwrap(), nobody);
        }
        // The right one is not looked at while the account is locked.
        let locked = asker.post("/session", login("ada", PASSWORD)).await;
        assert_eq!(locked.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(locked.text().await.unwrap(), nobody);
        let known = server.control.store.credentials("ada").await.unwrap().unwrap();
        assert_eq!(known.failed_logins, 5);
        server.control.store.login_failed(&known.user.id, Moment(0)).await.unwrap();
        server.log_in("ada").await;
        assert_eq!(server.control.store.credentials("ada").await.unwrap().unwrap().failed_logins, 0);
    })
    .await;
}

#[tokio::test]
async fn whoever_asks_too_often_waits_as_long_as_they_are_told() {
    on_both_with(Rates { login: 3, ..Rates::default() }, |server| async move {
        let asker = server.anybody();
        for _ in 0..3 {
            let answer = asker.post("/session", json!({ "name": "x", "password": "y" })).await;
            assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
        }
        let answer = asker.post("/session", json!({ "name": "x", "password": "y" })).await;
        assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
        let wait: u64 = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1..=20).contains(&wait), "{wait}");
        assert_eq!(asker.get("/health").await.status(), StatusCode::OK, "other tiers count for themselves");
    })
    .await;
}

#[tokio::test]
async fn a_refresh_token_is_good_once_and_a_stolen_one_ends_its_family() {
    on_both(|server| async move {
        server.user("ada", Role::Administrator, None, None).await;
        let asker = server.anybody();
        let grant = json!({ "grant": "password", "name": "ada", "password": PASSWORD });
        let first = body(asker.post("/token", grant.clone()).await).await;
        let refresh = |pair: &serde_json::Value| json!({ "grant": "refresh", "refresh_token": pair["refresh_token"] });
        let ada = asker.with_bearer(first["access_token"].as_str().unwrap());
        assert_eq!(ada.read("/session").await["user"]["name"], "ada");
        assert_eq!(
            ada.post("/teams", json!({ "name": "by token" })).await.status(),
            StatusCode::CREATED,
            "no cookie, no forgery"
        );
        let second = body(asker.post("/token", refresh(&first)).await).await;
        assert_ne!(first["refresh_token"], second["refresh_token"]);
        assert_eq!(wrong(asker.post("/token", refresh(&first)).await).await.0, 401);
        assert_eq!(wrong(asker.post("/token", refresh(&second)).await).await.0, 401, "its family ended");
        // A new password ends what was given before.
        let third = body(asker.post("/token", grant).await).await;
        let ada = asker.with_bearer(third["access_token"].as_str().unwrap());
        let id = ada.read("/session").await["user"]["id"].as_str().unwrap().to_owned();
        let set = ada.put("/me/password", json!({ "current": PASSWORD, "new": "gravel sonnet orbit" })).await;
        assert_eq!(set.status(), StatusCode::NO_CONTENT);
        assert_eq!(wrong(ada.get("/session").await).await.0, 401);
        assert_eq!(wrong(asker.post("/token", refresh(&third)).await).await.0, 401);
        assert!(server.control.store.user(&id).await.unwrap().is_some());
        for bad in ["", "x", "a.b.c", "ovx_guessed"] {
            assert_eq!(wrong(asker.with_bearer(bad).get("/users").await).await.0, 401, "{bad}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_key_opens_what_its_scopes_name_and_no_more_than_its_user_may() {
    on_both(|server| async move {
        let ada = server.as_role(Role::Administrator).await;
        let made =
            ada.post("/api-keys", json!({ "name": "reports", "scopes": ["records:read", "records:read"] })).await;
        assert_eq!(made.status(), StatusCode::CREATED);
        let made = body(made).await;
        let secret = made["secret"].as_str().unwrap();
        assert!(secret.starts_with("ovx_") && secret.starts_with(made["key"]["prefix"].as_str().unwrap()));
        assert_eq!(made["key"]["scopes"], json!(["records:read"]));
        let program = server.anybody().with_bearer(secret);
        assert_eq!(program.get("/call-records").await.status(), StatusCode::OK);
        assert_eq!(wrong(program.get("/calls").await).await.0, 403);
        assert_eq!(wrong(program.get("/api-keys").await).await.0, 403, "a key makes no keys");
        assert_eq!(ada.read("/api-keys").await["items"][0]["owner"], "administrator");
        let listed = ada.get("/api-keys").await.text().await.unwrap();
        assert!(!listed.contains(secret), "shown once");
        // An operator's key has no scope that an operator has no use for.
        let bob = server.as_role(Role::Operator).await;
        let mine = bob.read("/session").await["scopes"].to_string();
        assert!(mine.contains("calls:write") && !mine.contains("admin") && !mine.contains("webhooks"), "{mine}");
        assert_eq!(ada.read("/session").await["scopes"].as_array().map(Vec::len), Some(11));
        for scope in ["admin:write", "admin:read", "webhooks:read"] {
            let refused = bob.post("/api-keys", json!({ "name": "all", "scopes": ["calls:read", scope] })).await;
            assert_eq!(refused.status(), StatusCode::UNPROCESSABLE_ENTITY, "{scope}");
            let problem = body(refused).await;
            assert!(problem["errors"][0]["message"].as_str().unwrap().contains(scope), "{problem}");
        }
        let made = body(bob.post("/api-keys", json!({ "name": "all", "scopes": ["calls:write"] })).await).await;
        let program = server.anybody().with_bearer(made["secret"].as_str().unwrap());
        assert_eq!(
            wrong(program.post("/calls/x/say", json!({ "text": "hello" })).await).await.0,
            403,
            "nor more by it"
        );
        // Of others' keys nobody but an administrator knows.
        let id = body(ada.get("/api-keys").await).await["items"][0]["id"].as_str().unwrap().to_owned();
        assert_eq!(bob.read("/api-keys").await["items"].as_array().unwrap().len(), 1);
        assert_eq!(wrong(bob.delete(&format!("/api-keys/{id}")).await).await.0, 404);
        assert_eq!(ada.delete(&format!("/api-keys/{id}")).await.status(), StatusCode::NO_CONTENT);
        assert_eq!(wrong(server.anybody().with_bearer(secret).get("/call-records").await).await.0, 401);
        let bad = ada.post("/api-keys", json!({ "name": "x", "scopes": ["everything"] })).await;
        assert_eq!(wrong(bad).await, (422, vec!["scopes[0]".into()]));
        let bad = ada
            .post("/api-keys", json!({ "name": "x", "scopes": ["calls:read"], "expires_at": "2020-01-01T00:00:00Z" }))
            .await;
        assert_eq!(wrong(bad).await, (422, vec!["expires_at".into()]));
    })
    .await;
}

#[tokio::test]
async fn a_second_factor_is_asked_for_and_its_codes_are_good_once() {
    on_both(|server| async move {
        server.user("ada", Role::Operator, None, None).await;
        let ada = server.log_in("ada").await;
        let proposed = body(ada.post("/me/second-factor", json!({})).await).await;
        let factor = proposed["secret"].as_str().unwrap().to_owned();
        assert!(proposed["uri"].as_str().unwrap().starts_with("otpauth://totp/Omnivox:ada?secret="));
        let code = code_at(&factor, 0);
        let confirm = |code: &str, secret: &str| json!({ "secret": secret, "proof": proposed["proof"], "code": code, "password": PASSWORD });
        let other = second_factor::new_secret().unwrap();
        assert_eq!(wrong(ada.put("/me/second-factor", confirm(&code, &other)).await).await, (422, vec!["proof".into()]));
        assert_eq!(wrong(ada.put("/me/second-factor", confirm("0", &factor)).await).await, (422, vec!["code".into()]));
        assert_eq!(ada.put("/me/second-factor", confirm(&code, &factor)).await.status(), StatusCode::NO_CONTENT);
        let login = |code: Option<&str>| json!({ "name": "ada", "password": PASSWORD, "code": code });
        let asker = server.anybody();
        assert_eq!(wrong(asker.post("/session", login(None)).await).await.0, 401);
        assert_eq!(wrong(asker.post("/session", login(Some(&code))).await).await.0, 401, "it was used to confirm");
        let next = code_at(&factor, 30);
        assert_eq!(asker.post("/session", login(Some(&next))).await.status(), StatusCode::CREATED);
        assert_eq!(wrong(asker.post("/session", login(Some(&next))).await).await.0, 401, "once");
        let drop = ada.request(reqwest::Method::DELETE, "/me/second-factor").json(&json!({ "password": PASSWORD })).send();
        assert_eq!(drop.await.unwrap().status(), StatusCode::NO_CONTENT);
        assert_eq!(asker.post("/session", login(None)).await.status(), StatusCode::CREATED);
    })
    .await;
}

/// What an authenticator shows so many seconds from now.
fn code_at(secret: &str, in_s: i64) -> String {
    let at = Moment::now().after_s(in_s);
    let wanted = at.0 / 30_000;
    // Every code there is, until one is of that step: the crate under test makes none.
    let all = (0..1_000_000).map(|n| format!("{n:06}"));
    all.into_iter().find(|code| second_factor::step_of(secret, code, at) == Some(wanted)).unwrap()
}

#[tokio::test]
async fn whoever_is_disabled_is_out_at_once() {
    on_both(|server| async move {
        let ada = server.as_role(Role::Administrator).await;
        let id = server.user("bob", Role::Operator, None, None).await;
        let bob = server.log_in("bob").await;
        let key = body(bob.post("/api-keys", json!({ "name": "k", "scopes": ["records:read"] })).await).await;
        assert_eq!(ada.patch(&format!("/users/{id}"), json!({ "disabled": true })).await.status(), StatusCode::OK);
        assert_eq!(wrong(bob.get("/session").await).await.0, 401);
        let program = server.anybody().with_bearer(key["secret"].as_str().unwrap());
        assert_eq!(wrong(program.get("/call-records").await).await.0, 401);
        let login = server.anybody().post("/session", json!({ "name": "bob", "password": PASSWORD })).await;
        assert_eq!(login.status(), StatusCode::UNAUTHORIZED);
    })
    .await;
}
