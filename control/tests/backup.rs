//! A backup is made while the server runs, restored into either database, and serves there; a damaged one is refused before anything is written.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/server.rs"]
mod server;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use control::backup::{BackupError, Parts, back_up, restore, verify};
use control::identity::Role;
use control::identity::limit::Rates;
use control::store::Store;
use control::store::records::{RecordFilter, Visible};
use reqwest::StatusCode;
use serde_json::json;
use server::{Database, PASSWORD, Server, on_both};

async fn filled(server: &Server) {
    let team = server.control.store.add_team("Reception", control::time::Moment(5)).await.unwrap().id;
    server.user("alice", Role::Supervisor, Some(&team), Some("alice")).await;
    let ada = server.as_role(Role::Administrator).await;
    ada.post("/contacts", json!({ "name": "Émile \"E\"", "numbers": ["+4930123456"], "note": "two\nlines" })).await;
    ada.post("/interactions", json!({ "number": "+4930123456", "disposition": "do_not_call" })).await;
    ada.put("/dispositions/sold", json!({ "label": "Sold" })).await;
    ada.delete("/dispositions/busy").await;
    let turns = json!({ "turns": [{ "index": 0, "who": "caller", "text": "a table for two", "started_ms": 3.0, "ended_ms": 9.5, "gap_ms": null }] });
    let more = json!({ "agent": turns, "media": { "mos_in": 4.0 }, "recording": "c1.wav", "legs": [{ "label": "device alice" }] });
    server
        .journal(&[
            Server::line("c1", "2026-11-01T10:00:00Z", more),
            Server::line("c2", "2026-11-01T11:00:00Z", json!({})),
        ])
        .await;
    let recordings = server.folder.join("recordings");
    std::fs::create_dir_all(&recordings).unwrap();
    std::fs::write(recordings.join("c1.wav"), "sound").unwrap();
}

fn parts(folder: &Path) -> Parts {
    Parts { folder: folder.into(), recordings: Some(folder.join("recordings")), configuration: None }
}

/// Every row of every table, whatever the order they lie in.
async fn rows(store: &Store) -> Vec<(String, Vec<String>)> {
    let folder = tempfile::tempdir().unwrap();
    let tables = store.dump(folder.path()).await.unwrap();
    let mut all = Vec::new();
    for (table, count) in tables {
        let text = std::fs::read_to_string(folder.path().join(&table)).unwrap();
        let mut lines: Vec<String> = text.lines().map(Into::into).collect();
        assert_eq!(lines.len() as u64, count);
        lines.sort();
        all.push((table, lines));
    }
    all
}

#[tokio::test]
async fn a_backup_of_an_older_schema_is_restored_as_if_it_had_been_brought_up_to_date() {
    on_both(|server| async move {
        filled(&server).await;
        let store = &server.control.store;
        let (file, before) = (server.folder.join("backup.tar"), rows(store).await);
        // The step after it brings what searches go by.
        store.migrate_down(35).await.unwrap();
        assert_eq!(back_up(store, &parts(&server.folder), &file).await.unwrap().schema, 35);
        for database in [Database::sqlite(), Database::postgres().await] {
            let folder = database.folder.path().to_owned();
            let store = Store::open(&database.url).await.unwrap();
            restore(&store, &folder, &folder.join("recordings"), &file, false).await.unwrap();
            assert_eq!(rows(&store).await, before);
            let (words, target) = (Some("table".to_owned()), Some("desk".to_owned()));
            let filter = RecordFilter { words, target, ..RecordFilter::default() };
            let found = store.records(&Visible::Device("alice".into()), &filter, None, 9).await.unwrap();
            assert_eq!(found.iter().map(|call| call.call.as_str()).collect::<Vec<_>>(), ["c1"]);
            store.close().await;
            database.drop().await;
        }
    })
    .await;
}

#[tokio::test]
async fn every_row_comes_back_in_either_database_and_serves() {
    on_both(|server| async move {
        filled(&server).await;
        let file = server.folder.join("backup.tar");
        // Half a line is being written: it is none yet, and stays out.
        let journal = server.folder.join("calls.jsonl");
        let whole = std::fs::read_to_string(&journal).unwrap();
        std::fs::write(&journal, format!("{whole}{{\"call\": \"half")).unwrap();
        let manifest = back_up(&server.control.store, &parts(&server.folder), &file).await.unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(verify(&file).unwrap(), manifest);
        let again = back_up(&server.control.store, &parts(&server.folder), &file).await.unwrap_err();
        assert!(matches!(again, BackupError::Exists(_)), "{again}");
        let before = rows(&server.control.store).await;
        assert!(before.iter().any(|(table, lines)| table == "turns" && lines.len() == 1));
        for database in [Database::sqlite(), Database::postgres().await] {
            let folder = database.folder.path().to_owned();
            let store = Store::open(&database.url).await.unwrap();
            restore(&store, &folder, &folder.join("recordings"), &file, false).await.unwrap();
            assert_eq!(rows(&store).await, before);
            let occupied = restore(&store, &folder, &folder.join("recordings"), &file, false).await.unwrap_err();
            assert!(matches!(occupied, BackupError::Occupied(_)), "{occupied}");
            restore(&store, &folder, &folder.join("recordings"), &file, true).await.unwrap();
            assert_eq!(rows(&store).await, before);
            store.close().await;
            assert_eq!(std::fs::read_to_string(folder.join("calls.jsonl")).unwrap(), whole);
            assert_eq!(std::fs::read(folder.join("recordings/c1.wav")).unwrap(), b"sound");
            assert_eq!(
                std::fs::read(folder.join("control.key")).unwrap(),
                std::fs::read(server.folder.join("control.key")).unwrap()
            );
            // It serves: people log in, words are found, the audit log holds, the journal is read on and not anew.
            let rates = Rates { login: 10_000, creation: 10_000, report: 10_000, general: 100_000, address: 100_000 };
            let restored = Server::start(&database, rates).await;
            assert_eq!(restored.read_journal(&folder.join("calls.jsonl")).await.calls, 0);
            let alice = restored.anybody().post("/session", json!({ "name": "alice", "password": PASSWORD })).await;
            assert_eq!(alice.status(), StatusCode::CREATED);
            let ada = restored.log_in("administrator").await;
            assert_eq!(ada.read("/call-records?words=table").await["items"].as_array().unwrap().len(), 1);
            assert_eq!(ada.read("/audit/verification").await["holds"], true);
            assert_eq!(ada.read("/contacts?q=%C3%A9mile").await["items"][0]["note"], "two\nlines");
            assert!(!restored.control.store.may_call("+4930123456", control::time::Moment::now()).await.unwrap());
            restored.journal(&[Server::line("c3", "2026-11-01T12:00:00Z", json!({}))]).await;
            assert_eq!(restored.control.store.count_records().await.unwrap(), 3);
            drop(restored);
            database.drop().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_backup_that_is_damaged_anywhere_is_refused_before_anything_is_written() {
    on_both(|server| async move {
        filled(&server).await;
        let file = server.folder.join("backup.tar");
        back_up(&server.control.store, &parts(&server.folder), &file).await.unwrap();
        let good = std::fs::read(&file).unwrap();
        let target = tempfile::tempdir().unwrap();
        let url = Store::in_folder(target.path());
        let damaged = target.path().join("damaged.tar");
        let mut refused = 0;
        // Cut off anywhere but in the zeros at its end, and a byte changed anywhere that means something.
        let last = good.iter().rposition(|byte| *byte != 0).unwrap();
        let cuts = (0..40).map(|n| good[..last * n / 40].to_vec());
        let changes = (0..200).filter_map(|n| {
            let at = last * n / 200;
            (good[at] != 0).then(|| {
                let mut bytes = good.clone();
                bytes[at] ^= 0x01;
                bytes
            })
        });
        let mut tries = 0;
        for bytes in cuts.chain(changes) {
            tries += 1;
            std::fs::write(&damaged, bytes).unwrap();
            let store = Store::open(&url).await.unwrap();
            let fault = restore(&store, target.path(), &target.path().join("recordings"), &damaged, false).await;
            refused += usize::from(fault.is_err());
            assert!(store.migrations().await.unwrap().iter().all(|step| !step.applied), "nothing was written");
            assert!(!target.path().join("calls.jsonl").exists() && !target.path().join("recordings").exists());
            store.close().await;
        }
        assert!(tries > 100);
        assert_eq!(refused, tries);
    })
    .await;
}

#[test]
fn a_name_that_leads_out_of_the_folder_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("evil.tar");
    for name in ["recordings/a/b", "other.txt", "database/a.b.jsonl", "recordings/.hidden"] {
        let mut tar = tar::Builder::new(std::fs::File::create(&file).unwrap());
        let mut header = tar::Header::new_gnu();
        header.set_size(1);
        tar.append_data(&mut header, name, &b"x"[..]).unwrap();
        tar.into_inner().unwrap();
        let fault = verify(&file).unwrap_err().to_string();
        assert!(fault.contains("no part of a backup"), "{name}: {fault}");
    }
}
