//! What is taken away: by its age, and because somebody wants to be forgotten. Not a byte of them stays. On both databases.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/server.rs"]
mod server;

use std::path::Path;
use std::sync::Arc;

use control::identity::Role;
use control::retention::{Retention, sweep};
use control::store::Backend;
use control::store::records::{RecordFilter, Visible};
use control::time::Moment;
use control::{Control, Options};
use reqwest::StatusCode;
use serde_json::{Value, json};
use server::{Server, body, on_both, wrong};

/// Makes a recording that a record names.
fn recording(server: &Server, name: &str) -> std::path::PathBuf {
    let path = server.folder.join(name);
    std::fs::write(&path, "sound").unwrap();
    server.board.recordings.lock().unwrap().insert(name.into(), path.clone());
    path
}

fn said(words: &str) -> Value {
    json!({ "turns": [{ "index": 0, "who": "caller", "text": words, "started_ms": 0.0, "ended_ms": 9.0, "gap_ms": null }] })
}

/// Files in a folder that have one of these texts anywhere in their bytes.
fn files_with(folder: &Path, texts: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        for text in texts {
            if bytes.windows(text.len()).any(|window| window == text.as_bytes()) {
                found.push(format!("{} has {text}", path.display()));
            }
        }
    }
    found
}

/// Rows of any table that have one of these texts.
async fn rows_with(control: &Control, texts: &[&str]) -> i64 {
    let tables = [
        "call_records",
        "turns",
        "contacts",
        "contact_numbers",
        "interactions",
        "do_not_call",
        "idempotency",
        "audit",
        "call_owners",
    ];
    let mut rows = 0;
    for (table, text) in tables.iter().flat_map(|table| texts.iter().map(move |text| (table, text))) {
        let sql = match control.store.backend() {
            Backend::Postgres => format!("SELECT COUNT(*) FROM {table} t WHERE CAST(t AS TEXT) LIKE '%{text}%'"),
            // The file itself is looked into.
            Backend::Sqlite => return 0,
        };
        let found: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(control.store.pool()).await.unwrap();
        rows += found;
    }
    rows
}

#[tokio::test]
async fn somebody_who_is_forgotten_leaves_not_a_byte_and_everybody_else_all_of_theirs() {
    on_both(|server| async move {
        let ada = server.as_role(Role::Administrator).await;
        let sound = recording(&server, "c1.wav");
        let others_sound = recording(&server, "c3.wav");
        let at = "2026-11-01T10:00:00Z";
        let theirs = json!({ "from": "sip:+4930123456@carrier.example", "agent": said("hello, Zebedee speaking"), "recording": "c1.wav" });
        let dialled = json!({ "from": "sip:alice@here", "to": "sip:030123456@here", "agent": said("is that you, Zebedee") });
        let passed_on = json!({ "from": "sip:+4940999@carrier.example", "legs": [{ "label": "trunk carrier", "uri": "sip:004930123456@carrier.example" }], "agent": said("I pass you on") });
        let escaped = json!({ "from": "sip:%2B4930123456@carrier.example" });
        let others = json!({ "from": "sip:+4940777@carrier.example", "agent": said("a table for two"), "recording": "c3.wav" });
        let lines = [Server::line("c1", at, theirs), Server::line("c2", at, dialled), Server::line("c3", at, others), Server::line("c4", at, passed_on), Server::line("c41", at, escaped)];
        server.journal(&lines).await;
        let journal = server.folder.join("calls.jsonl");
        let before = std::fs::read_to_string(&journal).unwrap();
        let contact = json!({ "name": "Zebedee Dougal", "numbers": ["+4930123456", "+12125550123"], "note": "likes Zebedee" });
        let made = ada.request(reqwest::Method::POST, "/contacts").header("idempotency-key", "k").json(&contact).send().await.unwrap();
        assert_eq!(made.status(), StatusCode::CREATED);
        ada.post("/contacts", json!({ "name": "Florence", "numbers": ["+4940777"] })).await;
        ada.post("/interactions", json!({ "call": "c1", "disposition": "do_not_call", "note": "Zebedee was angry" })).await;
        ada.post("/interactions", json!({ "call": "c3", "disposition": "reached" })).await;
        ada.post("/calls", json!({ "to": "+4940777", "connect_with": "desk" })).await;
        server.control.live.tell(Moment::now(), "turn", "c1", &[], json!({ "text": "Zebedee" }));
        server.control.live.tell(Moment::now(), "turn", "c3", &[], json!({ "text": "a table" }));
        // What is known of them, first.
        let data = ada.read("/people/+4930123456/data").await;
        assert_eq!((data["contacts"].as_array().unwrap().len(), data["interactions"].as_array().unwrap().len()), (1, 1));
        let calls: Vec<_> = data["calls"].as_array().unwrap().iter().map(|call| call["call"].as_str().unwrap()).collect();
        assert_eq!(calls, ["c1", "c2", "c4", "c41"]);
        assert_eq!(ada.read("/call-records/c41").await["caller"], "+4930123456");
        assert_eq!((&data["calls"][0]["transcript"][0]["text"], &data["do_not_call"]["number"]), (&json!("hello, Zebedee speaking"), &json!("+4930123456")));
        assert_eq!(ada.read("/people/alice/data").await["calls"].as_array().unwrap().len(), 1);
        let secrets = ["4930123456", "30123456", "Zebedee", "zebedee"];
        assert!(!files_with(&server.folder, &secrets).is_empty(), "the test looks where they are");

        assert_eq!(wrong(ada.post("/people/erasure", json!({ "number": "alice" })).await).await, (422, vec!["number".into()]));
        let answer = ada.post("/people/erasure", json!({ "number": "030 123456", "do_not_call": true })).await;
        assert_eq!(answer.status(), StatusCode::OK);
        let done = body(answer).await;
        for (key, count) in [("calls", 4), ("recordings", 1), ("contacts", 1), ("interactions", 1), ("journal_lines", 4), ("events", 1)] {
            assert_eq!(done[key], count, "{key}: {done}");
        }
        assert_eq!(files_with(&server.folder, &secrets), [""; 0]);
        assert_eq!(rows_with(&server.control, &secrets).await, 0);
        assert!(!sound.exists() && others_sound.exists());
        let log = ada.read("/audit").await.to_string();
        assert!(log.contains("person.erase") && secrets.iter().all(|secret| !log.contains(secret)));
        assert_eq!(ada.read("/audit/verification").await["holds"], true);

        // What is left: that calls were, and everything of others.
        let left = ada.read("/call-records/c1").await;
        assert_eq!((&left["caller"], &left["record"], &left["reason"], &left["recorded"]), (&json!("erased"), &json!({ "erased": true }), &json!("caller_hung_up"), &json!(false)));
        assert!(left["erased_at"].is_string() && left["recording_removed_at"].is_string());
        assert_eq!(ada.read("/call-records/c2").await["callee"], "erased");
        assert_eq!(ada.read("/call-records?words=zebedee").await["items"], json!([]));
        assert_eq!(ada.read("/call-records?words=table").await["items"].as_array().unwrap().len(), 1);
        assert_eq!(ada.read("/contacts").await["items"].as_array().unwrap().len(), 1);
        assert_eq!(ada.read("/interactions").await["items"].as_array().unwrap().len(), 1);
        // The journal is where it was, byte for byte but for theirs: it is read on, and read anew brings nobody back.
        let after = std::fs::read_to_string(&journal).unwrap();
        assert_eq!(after.len(), before.len());
        assert_eq!(after.lines().nth(2), before.lines().nth(2));
        let taken = server.read_journal(&journal).await;
        assert_eq!((taken.calls, taken.unreadable), (0, 0), "its beginning changed, and that is known");
        server.journal(&[Server::line("c5", at, json!({}))]).await;
        assert_eq!(server.control.store.count_records().await.unwrap(), 6);
        sqlx::query("DELETE FROM journals").execute(server.control.store.pool()).await.unwrap();
        let taken = server.read_journal(&journal).await;
        assert_eq!((taken.calls, taken.unreadable), (2, 0));
        assert_eq!(ada.read("/call-records/c1").await["caller"], "erased");
        // Who has no number is known by the whole address, and by nothing less.
        server.journal(&[Server::line("c6", at, json!({ "from": "sip:desk-phone@office.example" }))]).await;
        for less in ["desk-phone", "desk-phone@office.example", "sip:desk-phone@"] {
            assert_eq!(wrong(ada.post("/people/erasure", json!({ "number": less })).await).await, (422, vec!["number".into()]));
        }
        let gone = ada.post("/people/erasure", json!({ "number": "sip:desk-phone@office.example" })).await;
        assert_eq!(body(gone).await["calls"], 1);
        assert_eq!(ada.read("/call-records/c6").await["caller"], "erased");
        // Asked again there is nothing more.
        assert_eq!(body(ada.post("/people/erasure", json!({ "number": "+4930123456" })).await).await["calls"], 0);
    })
    .await;
}

#[tokio::test]
async fn who_is_forgotten_stays_on_the_do_not_call_list_unless_they_want_otherwise() {
    on_both(|server| async move {
        let ada = server.as_role(Role::Administrator).await;
        ada.post("/do-not-call", json!({ "entries": [{ "number": "+4930123456", "reason": "Zebedee asked" }] })).await;
        ada.post("/people/erasure", json!({ "number": "+4930123456" })).await;
        let entry = ada.read("/do-not-call/+4930123456").await;
        assert_eq!(entry["reason"], Value::Null);
        ada.post("/people/erasure", json!({ "number": "+4930123456", "do_not_call": true })).await;
        assert_eq!(wrong(ada.get("/do-not-call/+4930123456").await).await.0, 404);
    })
    .await;
}

fn kept(server: &Server, retention: Retention) -> Control {
    let mut control = server.control.clone();
    control.options = Arc::new(Options { retention, ..(*control.options).clone() });
    control
}

#[tokio::test]
async fn what_is_old_enough_goes_and_records_say_so() {
    on_both(|server| async move {
        let ada = server.as_role(Role::Administrator).await;
        let (old_sound, new_sound) = (recording(&server, "old.wav"), recording(&server, "new.wav"));
        let more = |file: &str| json!({ "recording": file, "agent": said("secret words"), "srtp": "dtls" });
        let lines = [
            Server::line("older", "2026-10-01T10:00:00Z", json!({ "agent": said("secret words") })),
            Server::line("silent", "2026-10-02T10:00:00Z", json!({})),
            Server::line("old", "2026-11-01T10:00:00Z", more("old.wav")),
            Server::line("new", "2026-11-10T10:00:00Z", more("new.wav")),
        ];
        server.journal(&lines).await;
        let journal = server.folder.join("calls.jsonl");
        for at in ["2026-10-01T10:00:00Z", "2026-11-10T10:00:00Z"] {
            ada.post("/interactions", json!({ "number": "+4930123456", "disposition": "reached", "at": at })).await;
        }
        let now = Moment::parse("2026-11-11T10:00:00Z").unwrap();
        assert_eq!(
            sweep(&server.control, now).await.unwrap(),
            Default::default(),
            "for ever, where nobody says how long"
        );
        let control = kept(&server, Retention { recordings_days: 5, ..Default::default() });
        assert_eq!(sweep(&control, now).await.unwrap().recordings, 1);
        assert!(!old_sound.exists() && new_sound.exists());
        let record = ada.read("/call-records/old").await;
        assert_eq!(
            (&record["recorded"], &record["recording_removed_at"]),
            (&json!(false), &json!("2026-11-11T10:00:00.000Z"))
        );
        assert_eq!(wrong(ada.get("/call-records/old/recording").await).await.0, 404);
        assert_eq!(ada.get("/call-records/new/recording").await.status(), StatusCode::OK);
        let control = kept(&server, Retention { transcripts_days: 5, ..Default::default() });
        assert_eq!(sweep(&control, now).await.unwrap().transcripts, 2);
        assert_eq!(sweep(&control, now).await.unwrap().transcripts, 0);
        let record = ada.read("/call-records/old").await;
        assert_eq!((&record["record"]["srtp"], &record["record"]["agent"]["turns"]), (&json!("dtls"), &json!([])));
        assert!(record["transcript_removed_at"].is_string());
        assert!(ada.read("/call-records/silent").await["transcript_removed_at"].is_null(), "there was none");
        assert_eq!(ada.read("/call-records?words=secret").await["items"].as_array().unwrap().len(), 1);
        let text = std::fs::read_to_string(&journal).unwrap();
        assert_eq!(text.matches("secret words").count(), 1, "nor does the journal have them");
        let control = kept(&server, Retention { records_days: 20, interactions_days: 20, ..Default::default() });
        let swept = sweep(&control, now).await.unwrap();
        assert_eq!((swept.records, swept.interactions), (2, 1));
        let left = server.control.store.records(&Visible::All, &RecordFilter::default(), None, 10).await.unwrap();
        assert_eq!(left.iter().map(|call| call.call.as_str()).collect::<Vec<_>>(), ["new", "old"]);
        assert_eq!(ada.read("/interactions").await["items"].as_array().unwrap().len(), 1);
        let text = std::fs::read_to_string(&journal).unwrap();
        assert!(!text.contains("older") && text.lines().count() == 4);
        assert_eq!(server.read_journal(&journal).await.calls, 0, "and it is not read anew");
    })
    .await;
}

#[tokio::test]
async fn a_recording_that_cannot_be_removed_keeps_its_record() {
    on_both(|server| async move {
        let folder = server.folder.join("c1.wav");
        std::fs::create_dir(&folder).unwrap();
        server.board.recordings.lock().unwrap().insert("c1.wav".into(), folder);
        server.journal(&[Server::line("c1", "2026-10-01T10:00:00Z", json!({ "recording": "c1.wav" }))]).await;
        let control = kept(&server, Retention { records_days: 1, ..Default::default() });
        let now = Moment::parse("2026-11-11T10:00:00Z").unwrap();
        assert_eq!(sweep(&control, now).await.unwrap().records, 0);
        assert_eq!(server.control.store.count_records().await.unwrap(), 1);
    })
    .await;
}
