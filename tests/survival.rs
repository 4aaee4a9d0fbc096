//! What happens to the server, and nothing is lost: it is killed, its database goes away, its disk is full.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "common/person.rs"]
mod person;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use common::{PATIENCE, Running, Server, omnivox, told, wait_for};
use person::{Person, add_user, call, postgres};
use serde_json::{Value, json};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

/// An agent that says something long and takes keys.
const GREETER: &str = "[agent]\nname = \"greeter\"\n[ear]\nrecognizer = \"none\"\n[script]\nstart = \"hello\"\n[script.states.hello]\n\
    say = \"Welcome. This is a sentence that goes on for quite a while, so that something is heard of it whenever it ends.\"\n\
    on = [{ keys = [\"1\"], next = \"hello\" }]\n";

/// Calls a number that hangs up at once, and waits for the end.
fn short_call(server: &Server) {
    let ports = format!("rtp.ports={}", common::rtp_ports());
    let said = omnivox(server.folder.path(), &["call", &server.uri("bye"), "--duration", "10", "--set", &ports]);
    assert!(said.status.success(), "{}", told(&said));
}

fn ids<'a>(list: impl IntoIterator<Item = &'a Value>) -> Vec<String> {
    let mut ids: Vec<String> = list.into_iter().map(|one| one["call"].as_str().unwrap().to_owned()).collect();
    ids.sort_unstable();
    ids
}

/// Whatever the server left behind, without its process.
fn folder_of(server: Server) -> tempfile::TempDir {
    let Server { mut process, folder, .. } = server;
    process.wait(PATIENCE);
    folder
}

/// A seed for this run, which `OMNIVOX_SEED` repeats.
fn seed() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let seed = std::env::var("OMNIVOX_SEED").map_or(now.as_nanos() as u64, |seed| seed.parse().unwrap());
    println!("OMNIVOX_SEED={seed}");
    seed
}

/// What was recorded of a call, from its answer on, has all but the last moment before the kill.
fn assert_recorded_to_the_end(record: &Value, killed_at: SystemTime) {
    let path = record["recording"].as_str().unwrap_or_else(|| panic!("no recording: {record}"));
    let kept = hound::WavReader::open(path).unwrap_or_else(|fault| panic!("{path}: {fault}"));
    let kept_s = f64::from(kept.duration()) / f64::from(kept.spec().sample_rate);
    let answered = humantime::parse_rfc3339(record["answered_at"].as_str().unwrap()).unwrap();
    let talked_s = killed_at.duration_since(answered).unwrap_or_default().as_secs_f64();
    assert!(kept_s > talked_s - 1.0, "{kept_s} s of {talked_s} s are in {path}");
}

/// `OMNIVOX_KILLS` says how often it is killed.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_at_any_moment_keeps_each_record_once_each_recording_and_no_ghosts() {
    let kills: u32 = std::env::var("OMNIVOX_KILLS").map_or(5, |kills| kills.parse().unwrap());
    let mut chance = seed();
    let mut folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("agents")).unwrap();
    std::fs::write(folder.path().join("agents/greeter.toml"), GREETER).unwrap();
    let settings = ["agents.dir=agents"];
    let (mut seen, mut ready_ms) = (BTreeSet::new(), Vec::new());
    let mut going: (Vec<String>, SystemTime) = (Vec::new(), SystemTime::now());
    for round in 0..=kills {
        let begun = Instant::now();
        let server = Server::start_in(folder, &settings);
        ready_ms.push(begun.elapsed().as_millis());
        server.wait_until_ready();
        if round == 0 {
            let (done, says) = add_user(&server, &settings, &["add", "ada"]);
            assert!(done, "{says}");
        }
        let ada = Person::log_in(&server, "ada").await;
        assert!(ada.read("/calls").await["items"].as_array().unwrap().is_empty(), "no ghost");
        // Each call that there was has a record, one, in the journal and in the database.
        let journal = server.records();
        let in_journal = ids(&journal);
        let deadline = Instant::now() + PATIENCE;
        while ids(&ada.records().await) != in_journal {
            assert!(Instant::now() < deadline, "round {round}: {in_journal:?}\n{:?}", ada.records().await);
            // The journal is read five times a second.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(in_journal.iter().collect::<BTreeSet<_>>().len(), in_journal.len(), "{in_journal:?}");
        let missing: Vec<&String> = seen.iter().filter(|call| !in_journal.contains(call)).collect();
        assert!(missing.is_empty(), "round {round}: {missing:?} of {in_journal:?}");
        let (calls, killed_at) = &going;
        for record in journal.iter().filter(|record| calls.iter().any(|call| record["call"] == call.as_str())) {
            assert_eq!(record["end"]["reason"], "server_killed", "{record}");
            assert!(record["duration_ms"].as_u64() > Some(0), "{record}");
            assert_recorded_to_the_end(record, *killed_at);
        }
        if round == kills {
            server.process.signal("TERM");
            server.stop_signalled();
            break;
        }
        let _phones: Vec<Running> = (0..3).map(|_| call(&server, "greeter")).collect();
        short_call(&server);
        let up = |list: &Value| {
            let up: Vec<Value> = list["items"].as_array()?.iter().filter(|one| one["state"] == "up").cloned().collect();
            (up.len() == 3).then_some(up)
        };
        let calls = ids(&ada.wait("/calls", up).await);
        seen.extend(calls.iter().cloned());
        // Any moment.
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        tokio::time::sleep(Duration::from_millis((chance >> 33) % 1_500)).await;
        going = (calls, SystemTime::now());
        server.process.signal("KILL");
        folder = folder_of(server);
    }
    ready_ms.sort_unstable();
    println!("from exec to the ready line, ms: {ready_ms:?}");
}

/// Stands between a server and its database, and can be cut.
struct Relay {
    folder: tempfile::TempDir,
    upstream: PathBuf,
    running: Option<tokio::task::JoinHandle<()>>,
}

impl Relay {
    /// To the tests' PostgreSQL; the settings of a server that reaches its database by it.
    fn start() -> (Self, String) {
        let direct = postgres();
        let (before, upstream) = direct.split_once("?host=").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let setting = format!("{before}?host={}", folder.path().display());
        let mut relay = Self { folder, upstream: PathBuf::from(upstream).join(".s.PGSQL.5432"), running: None };
        relay.mend();
        (relay, setting)
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join(".s.PGSQL.5432")
    }

    fn mend(&mut self) {
        let (listener, upstream) = (UnixListener::bind(self.socket()).unwrap(), self.upstream.clone());
        self.running = Some(tokio::spawn(async move {
            // Connections end with the task.
            let mut connections = JoinSet::new();
            while let Ok((mut near, _)) = listener.accept().await {
                let mut far = UnixStream::connect(&upstream).await.unwrap();
                connections.spawn(async move { tokio::io::copy_bidirectional(&mut near, &mut far).await });
            }
        }));
    }

    async fn cut(&mut self) {
        let running = self.running.take().unwrap();
        running.abort();
        let _ = running.await;
        std::fs::remove_file(self.socket()).unwrap();
    }
}

/// `OMNIVOX_OUTAGE_S` says for how long.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_goes_away_ends_no_call_and_loses_and_doubles_no_record() {
    let outage_s: u64 = std::env::var("OMNIVOX_OUTAGE_S").map_or(2, |seconds| seconds.parse().unwrap());
    let (mut relay, there) = Relay::start();
    let server = Server::start(&[&there]);
    server.wait_until_ready();
    let (done, says) = add_user(&server, &[&there], &["add", "ada"]);
    assert!(done, "{says}");
    let ada = Person::log_in(&server, "ada").await;
    short_call(&server);
    let mut phone = call(&server, "echo");
    let going = ids(&ada.wait("/calls", |list| list["items"].as_array().filter(|all| all.len() == 1).cloned()).await);
    relay.cut().await;
    let cut_at = Instant::now();
    let mut made = 1;
    while made < 5 || cut_at.elapsed() < Duration::from_secs(outage_s) {
        short_call(&server);
        made += 1;
    }
    server.wait_for_records(made);
    let faults = || serde_json::from_str::<Value>(&server.get("/readyz").1).unwrap()["faults"].to_string();
    wait_for("the fault to be told", PATIENCE, || faults().contains("database: ").then_some(()), faults);
    let (status, ready) = server.get("/readyz");
    assert_eq!(status, 200, "calls go on: {ready}");
    assert_eq!(server.get("/api/v1/health").0, 503);
    relay.mend();
    wait_for("the database to be back", PATIENCE, || (server.get("/api/v1/health").0 == 200).then_some(()), faults);
    wait_for("no fault", PATIENCE, || (faults() == "[]").then_some(()), faults);
    let all =
        ada.wait("/call-records?limit=100", |list| list["items"].as_array().filter(|all| all.len() >= made).cloned());
    let all = ids(&all.await);
    assert_eq!(all, ids(&server.records()));
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), made);
    // The call that went on all the while still does.
    assert!(phone.is_running());
    assert_eq!(ids(ada.read("/calls").await["items"].as_array().unwrap()), going);
    let (status, _) = ada.ask(reqwest::Method::DELETE, &format!("/calls/{}", going[0]), json!({})).await;
    assert_eq!(status, 202);
    phone.wait(PATIENCE);
    println!("{made} calls in {:?} without a database", cut_at.elapsed());
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_not_there_holds_no_call_up_and_loses_no_record() {
    let nowhere = "control.database=postgres://nobody@localhost/none?host=/no/such/folder";
    let server = Server::start(&[nowhere]);
    for _ in 0..3 {
        short_call(&server);
    }
    server.wait_for_records(3);
    let (status, problem) = server.get("/api/v1/call-records");
    assert_eq!(status, 503, "{problem}");
    assert!(server.get("/readyz").1.contains("database"));
    assert!(server.process.stderr().contains("waits for its database"));
    server.process.signal("TERM");
    let mut folder = folder_of(server);
    // The same server with a database, then once more: each record once.
    let there = postgres();
    for _ in 0..2 {
        let server = Server::start_in(folder, &[&there]);
        server.wait_until_ready();
        add_user(&server, &[&there], &["add", "ada"]);
        let ada = Person::log_in(&server, "ada").await;
        let all =
            ada.wait("/call-records", |list| list["items"].as_array().filter(|all| all.len() >= 3).cloned()).await;
        assert_eq!(all.len(), 3);
        server.process.signal("TERM");
        folder = folder_of(server);
    }
}

/// A server whose data folder is a file system of its own, of these many KiB, that nobody else sees; and that folder as it is from here.
fn server_on_a_small_disk(kib: u32) -> (Server, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir_all(&data).unwrap();
    let mut command = Command::new("unshare");
    let mount = format!("mount -t tmpfs -o size={kib}k,mode=755 tmpfs '{}' && exec \"$@\"", data.display());
    command.args(["--map-root-user", "--mount", "sh", "-c", &mount, "sh"]).arg(common::program());
    let server = Server::start_by(command, folder, &[]);
    let seen = format!("/proc/{}/root{}", server.process.id(), data.display());
    (server, PathBuf::from(seen))
}

fn lines(path: &Path) -> usize {
    std::fs::read_to_string(path).unwrap_or_default().lines().count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_ends_no_call_is_told_of_and_the_records_come_once_there_is_room() {
    let (server, data) = server_on_a_small_disk(8_192);
    server.wait_until_ready();
    let journal = data.join("calls.jsonl");
    short_call(&server);
    wait_for("the first record", PATIENCE, || (lines(&journal) == 1).then_some(()), || server.process.stderr());
    let filler = data.join("filler");
    let full = std::fs::write(&filler, vec![1; 16 << 20]).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    let mut phone = call(&server, "echo");
    let ready = || server.get("/readyz").1;
    // A record or two may fit into what the last block has left.
    let mut made = 1;
    while !ready().contains("records: cannot write") {
        short_call(&server);
        made += 1;
        assert!(made < 20, "{}", ready());
    }
    let written = lines(&journal);
    assert_eq!(server.get("/readyz").0, 200, "calls go on: {}", ready());
    assert!(ready().contains("os error 28"), "{}", ready());
    assert!(server.get("/metrics").1.contains("omnivox_faults{part=\"records\"} 1"));
    assert!(server.process.stderr().contains("cannot write call records"), "{}", server.process.stderr());
    assert!(phone.is_running(), "{}", phone.stderr());
    assert!(written < made);
    std::fs::remove_file(&filler).unwrap();
    wait_for("the records", PATIENCE, || (lines(&journal) == made).then_some(()), || server.process.stderr());
    wait_for("no fault", PATIENCE, || ready().contains("\"faults\":[]").then_some(()), ready);
    server.process.signal("TERM");
    phone.wait(PATIENCE);
    server.stop_signalled();
}
