//! Logging in by a provider: by one of others' making, and by one that does whatever a provider may do wrong. On both databases.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/provider.rs"]
mod provider;
#[path = "support/server.rs"]
mod server;

use std::collections::BTreeMap;
use std::io::BufRead;
use std::process::{Command, Stdio};

use control::Options;
use control::identity::Role;
use control::identity::oidc::OidcOptions;
use provider::{Provider, Wrong};
use reqwest::{Client, StatusCode, redirect};
use serde_json::{Value, json};
use server::{Asker, Database, Server, wrong};

const REFUSED: [StatusCode; 2] = [StatusCode::FORBIDDEN, StatusCode::BAD_GATEWAY];

/// Servers on both databases that log people in by a provider.
async fn servers(issuer: &str, change: impl Fn(&mut OidcOptions)) -> Vec<(Database, Server)> {
    let mut servers = Vec::new();
    for database in [Database::sqlite(), Database::postgres().await] {
        let configure = |options: &mut Options, base: &str| {
            let mut oidc = OidcOptions {
                issuer: issuer.into(),
                client_id: "omnivox".into(),
                client_secret: "client secret".into(),
                url: base.into(),
                name_claim: "preferred_username".into(),
                ..OidcOptions::default()
            };
            change(&mut oidc);
            options.oidc = Some(oidc);
        };
        let server = Server::start_with(&database, configure).await;
        servers.push((database, server));
    }
    servers
}

/// A browser: it goes where it is told to, one step at a time.
struct Browser {
    http: Client,
    base: String,
    cookie: String,
}

impl Browser {
    /// Begins a login; returns where the provider is to be asked.
    async fn begin(server: &Server) -> (Self, String) {
        let http = Client::builder().redirect(redirect::Policy::none()).build().unwrap();
        let answer = http.get(format!("{}/api/v1/session/oidc", server.base)).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::SEE_OTHER);
        let set = answer.headers()["set-cookie"].to_str().unwrap();
        assert!(
            set.contains("HttpOnly") && set.contains("SameSite=Lax") && set.contains("Path=/api/v1/session/oidc"),
            "{set}"
        );
        let cookie = set.split(';').next().unwrap().to_owned();
        let to = answer.headers()["location"].to_str().unwrap().to_owned();
        (Self { http, base: server.base.clone(), cookie }, to)
    }

    /// Where an answer of the provider's leads.
    fn led(answer: &reqwest::Response) -> String {
        answer.headers()["location"].to_str().unwrap().to_owned()
    }

    /// Fills in the provider's form.
    async fn answer(&self, url: &str, form: &'static str) -> reqwest::Response {
        let request = self.http.post(url).header("content-type", "application/x-www-form-urlencoded");
        request.body(form).send().await.unwrap()
    }

    async fn come_back(&self, url: &str) -> reqwest::Response {
        self.http.get(url).header("cookie", &self.cookie).send().await.unwrap()
    }

    /// The whole way with the provider of ours.
    async fn log_in(server: &Server) -> (Self, reqwest::Response) {
        let (browser, to) = Self::begin(server).await;
        let back = Self::led(&browser.http.get(to).send().await.unwrap());
        let answer = browser.come_back(&back).await;
        (browser, answer)
    }

    /// Who is logged in by an answer.
    async fn who(&self, answer: &reqwest::Response) -> Value {
        assert_eq!((answer.status(), Self::led(answer).as_str()), (StatusCode::SEE_OTHER, "/"));
        let sets: Vec<_> = answer.headers().get_all("set-cookie").iter().map(|set| set.to_str().unwrap()).collect();
        let session = sets.iter().find(|set| set.starts_with("omnivox_session=")).unwrap();
        assert!(session.contains("HttpOnly") && session.contains("SameSite=Strict"), "{session}");
        assert!(sets.iter().any(|set| set.starts_with("omnivox_oidc=;") && set.contains("Max-Age=0")), "{sets:?}");
        let cookie = Some(session.split(';').next().unwrap().to_owned());
        let asker = Asker { http: self.http.clone(), base: self.base.clone(), cookie, csrf: None, bearer: None };
        asker.read("/session").await["user"].clone()
    }
}

#[tokio::test]
async fn a_user_whom_the_provider_knows_is_logged_in_and_nobody_else() {
    let provider = Provider::start().await;
    for (database, server) in servers(&provider.issuer, |_| {}).await {
        server.user("ada", Role::Supervisor, None, None).await;
        provider.person("p1", json!({ "preferred_username": "Ada" }));
        let (browser, answer) = Browser::log_in(&server).await;
        let user = browser.who(&answer).await;
        assert_eq!((&user["name"], &user["role"]), (&json!("ada"), &json!("supervisor")));
        // Who they are there counts from then on, not what they are called.
        provider.person("p1", json!({ "preferred_username": "countess" }));
        let (browser, answer) = Browser::log_in(&server).await;
        assert_eq!(browser.who(&answer).await["name"], "ada");
        provider.person("p2", json!({ "preferred_username": "ada" }));
        assert_eq!(wrong(Browser::log_in(&server).await.1).await.0, 403, "somebody else of that name");
        provider.person("p3", json!({ "preferred_username": "mallory" }));
        assert_eq!(wrong(Browser::log_in(&server).await.1).await.0, 403, "nobody of that name");
        for claims in [
            json!({}),
            json!({ "preferred_username": 7 }),
            json!({ "preferred_username": "a b/c" }),
            json!({ "preferred_username": "ada@elsewhere.example" }),
        ] {
            provider.person("p4", claims.clone());
            assert!(REFUSED.contains(&Browser::log_in(&server).await.1.status()), "{claims}");
        }
        let ada = server.control.store.credentials("ada").await.unwrap().unwrap().user;
        let off = control::store::users::UserChange { disabled: Some(true), ..Default::default() };
        server.control.store.change_user(&ada, off, None, control::time::Moment::now()).await.unwrap();
        provider.person("p1", json!({ "preferred_username": "ada" }));
        assert_eq!(wrong(Browser::log_in(&server).await.1).await.0, 403, "who may not log in");
        let log = server.control.store.audit(None, 100).await.unwrap();
        let count = |action: &str| log.iter().filter(|entry| entry.action == action).count();
        assert_eq!((count("session.open"), count("session.refuse")), (2, 7));
        database.drop().await;
    }
}

#[tokio::test]
async fn an_id_token_that_is_not_for_this_login_is_not_believed() {
    let provider = Provider::start().await;
    for (database, server) in servers(&provider.issuer, |_| {}).await {
        server.user("ada", Role::Administrator, None, None).await;
        provider.person("p1", json!({ "preferred_username": "ada" }));
        for fault in Wrong::ALL {
            provider.does(Some(fault));
            let (_, answer) = Browser::log_in(&server).await;
            assert!(REFUSED.contains(&answer.status()), "{fault:?}: {}", answer.status());
            assert!(!answer.headers().contains_key("set-cookie"), "{fault:?}");
        }
        provider.does(None);
        assert_eq!(Browser::log_in(&server).await.1.status(), StatusCode::SEE_OTHER, "all else was as it should be");
        database.drop().await;
    }
}

#[tokio::test]
async fn a_login_is_of_the_browser_that_began_it_and_is_used_once() {
    let provider = Provider::start().await;
    for (database, server) in servers(&provider.issuer, |_| {}).await {
        server.user("ada", Role::Administrator, None, None).await;
        provider.person("p1", json!({ "preferred_username": "ada" }));
        let (browser, to) = Browser::begin(&server).await;
        assert!(to.contains("code_challenge_method=S256") && to.contains("nonce=") && to.contains("state="), "{to}");
        let back = Browser::led(&browser.http.get(to).send().await.unwrap());
        // Somebody else's browser, led here by whoever began: login forgery.
        let (other, _) = Browser::begin(&server).await;
        assert_eq!(wrong(other.come_back(&back).await).await.0, 403);
        let bare = browser.http.get(&back).send().await.unwrap();
        assert_eq!(wrong(bare).await.0, 403);
        let forged = back.replace("state=", "state=x");
        assert_eq!(wrong(browser.come_back(&forged).await).await.0, 403);
        let denied = format!("{}/api/v1/session/oidc/callback?error=access_denied&state=x", server.base);
        assert_eq!(wrong(browser.come_back(&denied).await).await.0, 403);
        for query in ["", "?state=x", "?code=x"] {
            let bare = format!("{}/api/v1/session/oidc/callback{query}", server.base);
            assert_eq!(wrong(browser.come_back(&bare).await).await.0, 422, "{query}");
        }
        assert_eq!(browser.come_back(&back).await.status(), StatusCode::SEE_OTHER);
        assert_eq!(wrong(browser.come_back(&back).await).await.0, 502, "the provider takes a code once");
        database.drop().await;
    }
}

#[tokio::test]
async fn users_are_made_with_what_the_claims_give_where_that_is_wanted() {
    let provider = Provider::start().await;
    let change = |oidc: &mut OidcOptions| {
        oidc.create = true;
        oidc.domains = vec!["corp.example".into()];
        oidc.role_claim = "groups".into();
        oidc.roles =
            BTreeMap::from([("leads".to_owned(), Role::Supervisor), ("admins".to_owned(), Role::Administrator)]);
        oidc.team_claim = "team".into();
    };
    for (database, server) in servers(&provider.issuer, change).await {
        let team = server.control.store.add_team("Reception", control::time::Moment::now()).await.unwrap().id;
        let person = |groups: Value, email: &str| json!({ "preferred_username": "eve", "email": email, "email_verified": true, "groups": groups, "team": "Reception" });
        provider.person("p1", person(json!([]), "eve@elsewhere.example"));
        assert_eq!(wrong(Browser::log_in(&server).await.1).await.0, 403, "of no domain of ours");
        provider.person("p1", person(json!(["staff", "leads"]), "eve@corp.example"));
        let (browser, answer) = Browser::log_in(&server).await;
        let eve = browser.who(&answer).await;
        assert_eq!((&eve["name"], &eve["role"], &eve["team"]), (&json!("eve"), &json!("supervisor"), &json!(team)));
        provider.person("p1", person(json!(["admins"]), "eve@corp.example"));
        let (browser, answer) = Browser::log_in(&server).await;
        assert_eq!(browser.who(&answer).await["role"], "administrator", "the provider says so now");
        provider.person("p1", person(json!(["leads"]), "eve@corp.example"));
        let (browser, answer) = Browser::log_in(&server).await;
        assert_eq!(browser.who(&answer).await["role"], "administrator", "the last one stays");
        database.drop().await;
    }
}

#[tokio::test]
async fn a_provider_that_is_away_is_told_of_and_none_is_none() {
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for (database, server) in servers(&format!("http://{closed}"), |_| {}).await {
        assert_eq!(server.anybody().read("/health").await["oidc"], true);
        let answer = server.anybody().get("/session/oidc").await;
        assert_eq!(wrong(answer).await.0, 502);
        database.drop().await;
    }
    let database = Database::sqlite();
    let server = Server::start_with(&database, |_, _| {}).await;
    assert_eq!(wrong(server.anybody().get("/session/oidc").await).await.0, 404);
}

/// A provider of others' making: oidc-provider-mock, on Authlib.
#[tokio::test]
async fn a_provider_of_others_making_logs_people_in() {
    let python = std::env::var("OMNIVOX_TEST_PYTHON").expect("scripts/test sets OMNIVOX_TEST_PYTHON");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let claims =
        json!({ "sub": "p1", "preferred_username": "ada", "email": "ada@corp.example", "email_verified": true });
    let mut running = Command::new(python)
        .args(["-u", "-m", "oidc_provider_mock", "--port", &port.to_string(), "--user-claims", &claims.to_string()])
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut told = std::io::BufReader::new(running.stderr.take().unwrap()).lines();
    let ready =
        told.by_ref().map_while(Result::ok).any(|line| line.contains("running on") || line.contains("Running on"));
    assert!(ready, "it started");
    std::thread::spawn(move || told.for_each(drop));
    for (database, server) in servers(&format!("http://127.0.0.1:{port}"), |_| {}).await {
        server.user("ada", Role::Operator, None, None).await;
        let (browser, to) = Browser::begin(&server).await;
        let back = Browser::led(&browser.answer(&to, "sub=p1").await);
        let answer = browser.come_back(&back).await;
        assert_eq!(browser.who(&answer).await["name"], "ada");
        let (browser, to) = Browser::begin(&server).await;
        let back = Browser::led(&browser.answer(&to, "sub=stranger").await);
        assert_eq!(wrong(browser.come_back(&back).await).await.0, 403);
        let (browser, to) = Browser::begin(&server).await;
        let back = Browser::led(&browser.answer(&to, "action=deny").await);
        assert_eq!(wrong(browser.come_back(&back).await).await.0, 403);
        database.drop().await;
    }
    running.kill().unwrap();
    running.wait().unwrap();
}
