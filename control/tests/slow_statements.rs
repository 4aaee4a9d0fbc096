//! A statement that takes long is told of in the log, and what it was asked about is not: no number, no name, no word that was said. On both
//! databases.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/server.rs"]
mod server;

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use control::store::Store;
use control::store::contacts::{Contact, ContactFilter, Whose};
use control::store::figures::{FigureFilter, Span};
use control::store::journal::Place;
use control::store::records::{Ended, RecordFilter, Visible};
use control::time::Moment;
use serde_json::json;
use server::{Database, Server};
use tracing_subscriber::fmt::MakeWriter;

/// What was logged by any thread: SQLite has one for each connection.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

const NUMBER: &str = "+4930123456";
const DEVICE: &str = "zebedees-phone";
const WORD: &str = "xylophone";

#[tokio::test]
async fn a_slow_statement_is_logged_without_what_it_was_asked_about() {
    let log = Log::default();
    let told = tracing_subscriber::fmt().with_max_level(tracing::Level::WARN).with_ansi(false).with_writer(log.clone());
    tracing::subscriber::set_global_default(told.finish()).unwrap();
    for database in [Database::sqlite(), Database::postgres().await] {
        log.0.lock().unwrap().clear();
        // Every one is slow.
        let store = Store::open_with(&database.url, Duration::ZERO).await.unwrap();
        store.migrate().await.unwrap();
        let turns = json!({ "turns": [{ "index": 0, "who": "caller", "text": format!("my {WORD}"), "started_ms": 0.0, "ended_ms": 9.0, "gap_ms": null }] });
        let more = json!({ "from": format!("sip:{NUMBER}@host"), "legs": [{ "label": format!("device {DEVICE}") }], "agent": turns });
        let ended = Ended::parse(Server::line("c1", "2026-11-01T10:00:00Z", more)).unwrap();
        let place = Place { position: 1, head: "h".into() };
        store.take_journal("node", &[], &[ended], &place).await.unwrap();
        let contact = Contact {
            id: String::new(),
            name: "Zebedee".into(),
            numbers: vec![NUMBER.into()],
            email: None,
            company: None,
            note: None,
            owner: None,
            team: None,
            attributes: [].into(),
            created_at: Moment(0),
            updated_at: Moment(0),
            version: 0,
        };
        store.add_contact(contact, Moment(6)).await.unwrap();
        let by_number = ContactFilter { number: Some(NUMBER.into()), ..ContactFilter::default() };
        assert_eq!(store.contacts(&Whose::All, &by_number, None, 9).await.unwrap().len(), 1);
        let filter = |words: bool| RecordFilter {
            caller: Some(NUMBER.into()),
            words: words.then(|| WORD.into()),
            ..RecordFilter::default()
        };
        // Looked for by what the kind of call has: whose it is stands in the index's words for that.
        let by_kind = RecordFilter {
            words: Some(WORD.into()),
            target: Some("desk".into()),
            direction: Some("inbound".into()),
            ..RecordFilter::default()
        };
        for visible in [Visible::All, Visible::Device(DEVICE.into())] {
            for filter in [filter(false), filter(true), by_kind.clone()] {
                assert_eq!(store.records(&visible, &filter, None, 9).await.unwrap().len(), 1, "{visible:?}");
            }
            let span = Span { from: Moment(0), until: Moment(i64::MAX) };
            let found = store.key_figures(&visible, &FigureFilter::default(), span, &[]).await.unwrap();
            assert_eq!(found.total.calls, 1);
        }
        store.close().await;
        let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        for told in
            ["slow statement", "INSERT INTO call_records", "SELECT DISTINCT t.call", "call_figures", "contact_numbers"]
        {
            assert!(text.contains(told), "{told} is not in the log of {}:\n{text}", database.url);
        }
        let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
        for secret in [NUMBER, "4930123456", DEVICE, WORD, "Zebedee"] {
            assert!(!text.contains(secret), "{secret} is in the log");
            assert!(!text.contains(&hex(secret)), "{secret} is in the log as {}", hex(secret));
        }
        database.drop().await;
    }
}
