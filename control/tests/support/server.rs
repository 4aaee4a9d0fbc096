//! A control plane on a port of its own, on both databases in turn, and those who ask it.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use control::identity::Role;
use control::identity::limit::Rates;
use control::live::Live;
use control::ports::agents::{
    AgentFault, AgentReadiness, AgentSource, AgentState, Agents, Conversation, Conversing, WrittenTurn,
};
use control::ports::settings::{SettingFault, SettingKind, SettingValue, Settings};
use control::ports::spans::NoSpans;
use control::ports::{
    CallCommand, CallFault, CallState, Calls, IceServer, LiveCall, Ports, Queue, Recording, StartCall, Supervision,
    Trace, WebAnswer, WebAnswering, WebCall,
};
use control::store::Store;
use control::store::users::NewUser;
use control::time::Moment;
use control::{Control, Options};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use sqlx::Executor;
use tempfile::TempDir;

/// Good for every user of the tests.
pub const PASSWORD: &str = "walrus pedal quarry";

/// Rates that no test reaches.
const FAST: Rates = Rates { login: 100_000, creation: 100_000, report: 100_000, general: 100_000, address: 100_000 };

/// A database of its own, gone with the test.
pub struct Database {
    pub url: String,
    pub folder: TempDir,
    admin: Option<(String, String)>,
}

impl Database {
    pub fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { url: Store::in_folder(folder.path()), folder, admin: None }
    }

    /// In the server that `OMNIVOX_TEST_POSTGRES` names.
    pub async fn postgres() -> Self {
        sqlx::any::install_default_drivers();
        let admin = std::env::var("OMNIVOX_TEST_POSTGRES")
            .expect("set OMNIVOX_TEST_POSTGRES to a PostgreSQL server's address, as scripts/test does");
        let name = format!("test_{}", uuid::Uuid::now_v7().simple());
        let pool = sqlx::AnyPool::connect(&admin).await.unwrap();
        pool.execute(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.unwrap();
        let (server, rest) = admin.split_once("/postgres?").expect("the address ends in /postgres?host=FOLDER");
        let url = format!("{server}/{name}?{rest}");
        Self { url, folder: tempfile::tempdir().unwrap(), admin: Some((admin, name)) }
    }

    /// Takes the database away, where that is to be said.
    pub async fn drop(self) {
        if let Some((admin, name)) = self.admin {
            let pool = sqlx::AnyPool::connect(&admin).await.unwrap();
            pool.execute(sqlx::AssertSqlSafe(format!("DROP DATABASE {name} WITH (FORCE)"))).await.unwrap();
        }
    }
}

/// Runs a test on both databases.
pub async fn on_both<F, R>(test: F)
where
    F: Fn(Server) -> R,
    R: Future<Output = ()>,
{
    on_both_with(FAST, test).await;
}

/// The same with limits.
pub async fn on_both_with<F, R>(rates: Rates, test: F)
where
    F: Fn(Server) -> R,
    R: Future<Output = ()>,
{
    for database in [Database::sqlite(), Database::postgres().await] {
        eprintln!("on {}", database.url.split(':').next().unwrap());
        let server = Server::start(&database, rates).await;
        test(server).await;
        database.drop().await;
    }
}

/// Calls as the tests want them; what is asked of them is noted.
#[derive(Default)]
pub struct Board {
    pub calls: Mutex<Vec<LiveCall>>,
    pub asked: Mutex<Vec<(String, CallCommand)>>,
    pub started: Mutex<Vec<StartCall>>,
    pub supervised: Mutex<Vec<(String, String, Supervision)>>,
    pub waiting_for: Mutex<Vec<String>>,
    pub faults: Mutex<Vec<(String, String)>>,
    pub queues: Mutex<Vec<Queue>>,
    /// Devices whose users say that they take no calls.
    pub away: Mutex<Vec<String>>,
    pub barred: Mutex<Vec<(String, Option<Moment>)>>,
    pub settings: Mutex<Vec<(SettingKind, SettingValue)>>,
    pub pages: Mutex<Vec<WebCall>>,
    pub recordings: Mutex<HashMap<String, PathBuf>>,
    /// Agents by name, with their definitions.
    pub agents: Mutex<BTreeMap<String, String>>,
}

impl Board {
    pub fn add(&self, call: &str, devices: &[&str]) {
        self.calls.lock().unwrap().push(LiveCall {
            call: call.into(),
            direction: "inbound".into(),
            state: CallState::Up,
            from: "sip:+49301@carrier.example".into(),
            to: "sip:agent@here".into(),
            target: "desk".into(),
            agent: Some("desk".into()),
            started_at: Moment::now(),
            answered_at: Some(Moment::now()),
            devices: devices.iter().map(ToString::to_string).collect(),
            people: Vec::new(),
            connected: false,
            party: None,
            queue: None,
        });
    }
}

impl Calls for Board {
    fn list(&self) -> Vec<LiveCall> {
        self.calls.lock().unwrap().clone()
    }

    fn find(&self, id: &str) -> Option<LiveCall> {
        Calls::list(self).into_iter().find(|call| call.call == id)
    }

    fn command(&self, id: &str, command: CallCommand) -> Result<(), CallFault> {
        self.find(id).ok_or(CallFault::Gone)?;
        self.asked.lock().unwrap().push((id.into(), command));
        Ok(())
    }

    fn start(&self, order: StartCall) -> Result<String, CallFault> {
        if order.to == "nobody" {
            return Err(CallFault::Unreachable("no device and no trunk is called nobody".into()));
        }
        let mut started = self.started.lock().unwrap();
        started.push(order);
        Ok(format!("started-{}", started.len()))
    }

    fn supervise(&self, device: &str, call: &str, how: Supervision) -> Result<String, CallFault> {
        let mut supervised = self.supervised.lock().unwrap();
        supervised.push((device.into(), call.into(), how));
        Ok(format!("supervision-{}", supervised.len()))
    }

    /// Every device is there but one.
    fn has_device(&self, name: &str) -> bool {
        name != "nosuch"
    }

    fn devices(&self) -> Vec<String> {
        vec!["alice".to_owned(), "bob".to_owned()]
    }

    fn is_inside(&self, name: &str) -> bool {
        ["alice", "desk", "+4999999"].contains(&name)
    }

    fn faults(&self) -> Vec<String> {
        self.faults.lock().unwrap().iter().map(|(part, why)| format!("{part}: {why}")).collect()
    }

    fn note_fault(&self, part: &str, fault: Option<&str>) {
        let mut faults = self.faults.lock().unwrap();
        faults.retain(|(of, _)| of != part);
        faults.extend(fault.map(|fault| (part.to_owned(), fault.to_owned())));
    }

    fn bar(&self, numbers: Vec<(String, Option<Moment>)>) {
        *self.barred.lock().unwrap() = numbers;
    }

    fn set_away(&self, devices: Vec<String>) {
        *self.away.lock().unwrap() = devices;
    }

    fn queues(&self) -> Vec<Queue> {
        self.queues.lock().unwrap().clone()
    }

    fn waiting_for(&self) -> Vec<String> {
        self.waiting_for.lock().unwrap().clone()
    }

    fn trace(&self, id: &str) -> Option<Trace> {
        Some(Trace { ladder: format!("INVITE of {id}"), capture: vec![1, 2, 3] })
    }

    fn web_call(&self, order: WebCall) -> WebAnswering {
        let answer = WebAnswer { name: "page-1".into(), answer: format!("answer to {}", order.offer) };
        self.pages.lock().unwrap().push(order);
        Box::pin(async move { Ok(answer) })
    }

    fn end_web_call(&self, name: &str) -> bool {
        name == "page-1" && self.pages.lock().unwrap().pop().is_some()
    }

    fn ice_servers(&self) -> Vec<IceServer> {
        vec![IceServer { urls: "stun:here".into(), username: None, credential: None }]
    }

    fn recording(&self, path: &str) -> std::io::Result<Recording> {
        let path = self.recordings.lock().unwrap().get(path).cloned();
        let path = path.ok_or(std::io::Error::from(std::io::ErrorKind::NotFound))?;
        Ok(Recording { media_type: "audio/wav", file: std::fs::File::open(path)? })
    }

    fn remove_recording(&self, path: &str) -> std::io::Result<()> {
        let path = self.recordings.lock().unwrap().remove(path);
        std::fs::remove_file(path.ok_or(std::io::Error::from(std::io::ErrorKind::NotFound))?)
    }
}

/// Definitions are any text but one that has `wrong` in it.
impl Agents for Board {
    fn list(&self) -> Vec<AgentState> {
        let state =
            |name: &str, source| AgentState { name: name.into(), source, state: AgentReadiness::Ready, fault: None };
        let stored = self.agents.lock().unwrap();
        let stored = stored.keys().map(|name| state(name, AgentSource::Stored));
        [state("desk", AgentSource::BuiltIn)].into_iter().chain(stored).collect()
    }

    fn definition(&self, name: &str) -> Option<String> {
        (name == "desk").then(|| "built in".into())
    }

    fn check(&self, definition: &str) -> Vec<AgentFault> {
        let fault = AgentFault { field: "voice.kind".into(), detail: "is wrong".into(), line: Some(3) };
        definition.contains("wrong").then_some(fault).into_iter().collect()
    }

    fn publish(&self, name: &str, _version: i64, definition: &str) -> Result<(), Vec<AgentFault>> {
        self.agents.lock().unwrap().insert(name.into(), definition.into());
        Ok(())
    }

    fn withdraw(&self, name: &str) {
        self.agents.lock().unwrap().remove(name);
    }

    fn converse(&self, definition: &str, said: Vec<String>) -> Conversing {
        let faults = Agents::check(self, definition);
        let turn = |text| WrittenTurn { speaker: "caller".into(), text };
        let held = Conversation { turns: said.into_iter().map(turn).collect(), ended: None };
        Box::pin(async move { if faults.is_empty() { Ok(held) } else { Err(faults) } })
    }
}

/// One trunk stands in a file. A route has to go to a device that there is; a device's `password` is a secret.
impl Settings for Board {
    fn schema(&self, kind: SettingKind) -> Value {
        let name = json!({ "type": "string", "description": format!("Its {}.", kind.key()) });
        json!({ "type": "object", "properties": { kind.key(): name }, "required": [kind.key()] })
    }

    fn fixed(&self, kind: SettingKind) -> Vec<SettingValue> {
        let trunk = json!({ "name": "carrier", "hosts": ["carrier.example"] });
        (kind == SettingKind::Trunk).then(|| trunk.as_object().unwrap().clone()).into_iter().collect()
    }

    fn shown(&self, _: SettingKind, value: &SettingValue) -> SettingValue {
        let mut shown = value.clone();
        shown.remove("password");
        shown
    }

    fn agent_of(&self, _: SettingKind, value: &SettingValue) -> Option<String> {
        value.get("to")?.as_str()?.strip_prefix("agent ").map(str::to_owned)
    }

    fn check(&self, settings: &[(SettingKind, SettingValue)]) -> Result<(), SettingFault> {
        let has = |name: &Value| {
            settings.iter().any(|(kind, value)| *kind == SettingKind::Device && value.get("user") == Some(name))
        };
        for (kind, value) in settings {
            if *kind == SettingKind::Route && !value.get("to").is_some_and(has) {
                return Err(SettingFault { field: "to".into(), detail: "no device is called so".into() });
            }
        }
        Ok(())
    }

    fn apply(&self, settings: &[(SettingKind, SettingValue)]) -> Result<(), SettingFault> {
        *self.settings.lock().unwrap() = settings.to_vec();
        Ok(())
    }
}

/// A control plane that answers.
pub struct Server {
    pub control: Control,
    pub board: Arc<Board>,
    pub base: String,
    pub folder: PathBuf,
    _running: Arc<tokio::task::JoinHandle<()>>,
}

impl Server {
    pub async fn start(database: &Database, rates: Rates) -> Self {
        Self::start_with(database, |options, _| options.rates = rates).await
    }

    /// With options that the test changes, who knows where the server will be.
    pub async fn start_with(database: &Database, change: impl FnOnce(&mut Options, &str)) -> Self {
        let folder = database.folder.path().to_owned();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let webhooks_allow = vec!["127.0.0.0/8".parse().unwrap()];
        let rates = FAST;
        let mut options = Options {
            database: database.url.clone(),
            rates,
            country: control::numbers::country("DE"),
            webhooks_allow,
            ..Options::in_folder(&folder)
        };
        change(&mut options, &base);
        let board = Arc::new(Board::default());
        let ports = Ports {
            calls: Arc::clone(&board) as _,
            agents: Arc::clone(&board) as _,
            settings: Arc::clone(&board) as _,
            spans: Arc::new(NoSpans),
        };
        let control = Control::open(options, ports, Live::new(Moment::now())).await.unwrap();
        let router = control::api::router(Arc::new(control.clone()));
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        let running = Arc::new(tokio::spawn(async move { axum::serve(listener, service).await.unwrap() }));
        Self { control, board, base, folder, _running: running }
    }

    /// Adds a user who can log in.
    pub async fn user(&self, name: &str, role: Role, team: Option<&str>, device: Option<&str>) -> String {
        static HASH: tokio::sync::OnceCell<String> = tokio::sync::OnceCell::const_new();
        let hash =
            HASH.get_or_init(|| async { control::identity::password::hash(PASSWORD.into()).await.unwrap() }).await;
        let new = NewUser {
            name: name.into(),
            display: name.to_uppercase(),
            role,
            team: team.map(Into::into),
            device: device.map(Into::into),
            password_hash: hash.clone(),
        };
        self.control.store.add_user(new, Moment::now()).await.unwrap().id
    }

    /// Somebody who is not logged in.
    pub fn anybody(&self) -> Asker {
        let http = reqwest::Client::builder().build().unwrap();
        Asker { http, base: self.base.clone(), cookie: None, csrf: None, bearer: None }
    }

    /// Somebody who is, in a browser.
    pub async fn log_in(&self, name: &str) -> Asker {
        let mut asker = self.anybody();
        let answer = asker.post("/session", json!({ "name": name, "password": PASSWORD })).await;
        assert_eq!(answer.status(), StatusCode::CREATED, "{name} logs in");
        let set = answer.headers()["set-cookie"].to_str().unwrap().to_owned();
        assert!(set.contains("HttpOnly") && set.contains("SameSite=Strict"), "{set}");
        asker.cookie = Some(set.split(';').next().unwrap().to_owned());
        asker.csrf = Some(body(answer).await["csrf"].as_str().unwrap().to_owned());
        asker
    }

    /// Adds a user of a role and logs them in.
    pub async fn as_role(&self, role: Role) -> Asker {
        self.user(role.as_str(), role, None, None).await;
        self.log_in(role.as_str()).await
    }

    /// A line of the journal, as the server writes one.
    pub fn line(call: &str, started: &str, more: Value) -> String {
        let mut line = json!({
            "call": call, "sip_call_id": format!("{call}@host"), "direction": "inbound", "started_at": started,
            "answered_at": started, "ended_at": started, "duration_ms": 1500, "from": "sip:+49301@carrier.example",
            "to": "sip:agent@here", "peer": "192.0.2.1:5060", "transport": "udp", "target": "desk", "codec": "PCMU",
            "end": { "class": "ok", "reason": "caller_hung_up", "detail": "" },
            "agent": null, "media": null, "recording": null
        });
        for (key, value) in more.as_object().unwrap() {
            line[key] = value.clone();
        }
        line.to_string()
    }

    /// Takes lines up as the journal would.
    pub async fn journal(&self, lines: &[String]) {
        let path = self.folder.join("calls.jsonl");
        let before = std::fs::read_to_string(&path).unwrap_or_default();
        std::fs::write(&path, format!("{before}{}\n", lines.join("\n"))).unwrap();
        self.read_journal(&path).await;
    }

    pub async fn read_journal(&self, path: &Path) -> control::journal::Taken {
        let journal = control::journal::Journal::new(
            path.into(),
            "omnivox".into(),
            self.control.store.clone(),
            self.control.live.clone(),
        );
        journal.catch_up().await.unwrap()
    }
}

/// Somebody who asks.
#[derive(Clone)]
pub struct Asker {
    pub http: reqwest::Client,
    pub base: String,
    pub cookie: Option<String>,
    pub csrf: Option<String>,
    pub bearer: Option<String>,
}

impl Asker {
    pub fn with_bearer(&self, bearer: &str) -> Self {
        Self { bearer: Some(bearer.into()), cookie: None, csrf: None, ..self.clone() }
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let mut request = self.http.request(method, format!("{}/api/v1{path}", self.base));
        if let Some(cookie) = &self.cookie {
            request = request.header("cookie", cookie);
        }
        if let Some(csrf) = &self.csrf {
            request = request.header("x-csrf-token", csrf);
        }
        if let Some(bearer) = &self.bearer {
            request = request.bearer_auth(bearer);
        }
        request
    }

    pub async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path).send().await.unwrap()
    }

    pub async fn post(&self, path: &str, json: Value) -> Response {
        self.request(Method::POST, path).json(&json).send().await.unwrap()
    }

    pub async fn put(&self, path: &str, json: Value) -> Response {
        self.request(Method::PUT, path).json(&json).send().await.unwrap()
    }

    pub async fn patch(&self, path: &str, json: Value) -> Response {
        self.request(Method::PATCH, path).json(&json).send().await.unwrap()
    }

    pub async fn delete(&self, path: &str) -> Response {
        self.request(Method::DELETE, path).send().await.unwrap()
    }

    /// What a path has, where it has to be there.
    pub async fn read(&self, path: &str) -> Value {
        let answer = self.get(path).await;
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        body(answer).await
    }
}

pub async fn body(answer: Response) -> Value {
    answer.json().await.unwrap()
}

/// The fields that a problem names, and its status.
pub async fn wrong(answer: Response) -> (u16, Vec<String>) {
    let status = answer.status().as_u16();
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let problem = body(answer).await;
    assert_eq!(problem["status"], status);
    assert!(!problem["detail"].as_str().unwrap().is_empty());
    let errors = problem["errors"].as_array().cloned().unwrap_or_default();
    (status, errors.iter().map(|error| error["field"].as_str().unwrap().to_owned()).collect())
}

/// Sends what is due to a webhook until nothing is; returns how many.
pub async fn drain(dispatcher: &control::webhooks::dispatch::Dispatcher, webhook: &str) -> usize {
    let mut all = 0;
    loop {
        match dispatcher.deliver(webhook).await.unwrap() {
            0 => return all,
            sent => all += sent,
        }
    }
}
