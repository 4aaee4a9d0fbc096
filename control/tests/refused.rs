//! Records that a database does not like among others that it does: what peers write can be stored whatever it is, and what is refused all the
//! same holds nobody up and is not lost. On both databases.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/server.rs"]
mod server;

use std::sync::Arc;

use control::identity::Role;
use control::journal::{Journal, Taken};
use control::live::Live;
use control::retention::{Retention, sweep};
use control::store::costs::By;
use control::store::figures::{FigureFilter, Span};
use control::store::journal::Place;
use control::store::outbox::DeliveryFilter;
use control::store::records::{Ended, NAME_CHARS, RecordFilter, Visible};
use control::store::refused::Refused;
use control::store::webhooks::NewWebhook;
use control::store::{Backend, Store, StoreError};
use control::time::Moment;
use control::{Control, Options};
use serde_json::{Value, json};
use server::{Server, body, on_both};

const BEGIN: &str = "2026-11-01T10:00:00.000Z";

fn line(call: &str, more: Value) -> String {
    Server::line(call, BEGIN, more)
}

/// So many characters of four bytes, of which no two follow one another as others do: no compression makes them fit.
fn noise(chars: u32, seed: u32) -> String {
    let mut state = seed;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from_u32(0x2_0000 + (state >> 8) % 0xa000).unwrap()
    };
    (0..chars).map(next).collect()
}

async fn every_call(store: &Store) -> Vec<String> {
    let found = store.records(&Visible::All, &RecordFilter::default(), None, 5_000).await.unwrap();
    found.into_iter().map(|call| call.call).rev().collect()
}

async fn refused(store: &Store) -> Vec<Refused> {
    store.refused_before("omnivox", Moment(i64::MAX), 1_000).await.unwrap()
}

async fn told(store: &Store, webhook: &str) -> Vec<String> {
    let all = store.deliveries(webhook, &DeliveryFilter::default(), None, 1_000).await.unwrap();
    all.into_iter().rev().map(|delivery| delivery.call).collect()
}

async fn webhook(store: &Store) -> String {
    let events = ["*".to_owned()];
    let new = NewWebhook { name: "crm", url: "https://x/", events: &events, enabled: true, sealed: "s", hint: "h" };
    store.add_webhook(new, 50, Moment(5)).await.unwrap().id
}

async fn run(store: &Store, statements: &[&'static str]) {
    for sql in statements {
        sqlx::query(*sql).execute(store.pool()).await.unwrap();
    }
}

/// Has the database refuse calls to `odd`, as a rule of its schema or for a reason that says nothing.
async fn refuse_odd(store: &Store, is_clear: bool) {
    let statements: &[&str] = match (store.backend(), is_clear) {
        (Backend::Sqlite, true) => &[
            "CREATE TRIGGER refusing BEFORE INSERT ON call_records WHEN new.target = 'odd' BEGIN SELECT RAISE(ABORT, 'no such calls'); END",
        ],
        (Backend::Sqlite, false) => &[
            "CREATE TRIGGER refusing BEFORE INSERT ON call_records WHEN new.target = 'odd' BEGIN SELECT json('{none'); END",
        ],
        (Backend::Postgres, true) => {
            &["ALTER TABLE call_records ADD CONSTRAINT refusing CHECK (target <> 'odd')"]
        }
        (Backend::Postgres, false) => &[
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
             $$BEGIN IF new.target = 'odd' THEN RAISE EXCEPTION 'who knows' USING ERRCODE = 'XX000'; END IF; RETURN new; END$$",
            "CREATE TRIGGER refusing BEFORE INSERT ON call_records FOR EACH ROW EXECUTE FUNCTION refuse()",
        ],
    };
    run(store, statements).await;
}

#[tokio::test]
async fn what_peers_write_is_stored_however_long_and_strange_it_is() {
    on_both(|server| async move {
        let store = &server.control.store;
        let (long, other) = (noise(5_000, 1), noise(5_000, 2));
        let strange = "a\u{0}\u{1}\u{7f}\u{feff}'\"\\%_\u{1f600}";
        let words = noise(20_000, 3).chars().map(|c| format!("{c} ")).collect::<String>();
        let said = |text: &str, number: i64| {
            json!({ "turns": [{ "index": number, "who": strange, "text": text, "started_ms": 1e308, "ended_ms": -1e308, "gap_ms": 1.7e308 },
                              { "index": 1, "who": "agent", "text": "", "started_ms": 0.0, "ended_ms": 0.0, "gap_ms": 1.6e308 }] })
        };
        let lines = [
            line("good-1", json!({})),
            line("caller", json!({ "from": format!("sip:{long}@host") })),
            line("callee", json!({ "to": format!("sip:{long}@host") })),
            line("both", json!({ "from": format!("sip:{long}@host"), "to": format!("sip:{other}@host") })),
            line("ascii", json!({ "from": format!("sip:{}@host", "ab1".repeat(1_700)) })),
            line("good-2", json!({})),
            line("target", json!({ "target": long, "direction": other, "end": { "class": long, "reason": other, "detail": "" }, "codec": long })),
            line("device", json!({ "device": long, "legs": [{ "label": format!("device {other}/2") }], "agent": said(&long, 0) })),
            line("nul", json!({ "from": format!("sip:{strange}@host"), "to": strange, "target": strange, "direction": strange, "codec": strange,
                                "end": { "class": strange, "reason": strange, "detail": strange }, "device": strange, "recording": strange,
                                "cost": { "currency": strange, "micros": 5, "is_partial": false }, "agent": said(strange, 0) })),
            line("numbers", json!({ "duration_ms": i64::MAX, "media": { "mos_in": 1.7e308 }, "agent": said("words", i64::MAX),
                                    "cost": { "currency": "EUR", "micros": i64::MAX, "is_partial": true } })),
            line("numbers-2", json!({ "duration_ms": i64::MIN, "agent": said("words", i64::MIN), "cost": { "currency": "EUR", "micros": i64::MAX, "is_partial": true } })),
            line("words", json!({ "agent": said(&words, 0) })),
            Server::line("first", "-000100-01-02T00:00:00Z", json!({ "agent": said("words", 0) })),
            Server::line("last", "9999-12-30T00:00:00Z", json!({ "agent": said("words", 0) })),
            line("good-3", json!({})),
        ];
        let hook = webhook(store).await;
        let path = server.folder.join("calls.jsonl");
        std::fs::write(&path, lines.join("\n") + "\n").unwrap();
        let taken = server.read_journal(&path).await;
        assert_eq!(refused(store).await, []);
        assert_eq!(taken, Taken { calls: lines.len(), ..Taken::default() });
        assert_eq!(every_call(store).await.len(), lines.len());
        assert_eq!(told(store, &hook).await.len(), lines.len());
        // What is shown is what lists are asked for.
        let shown: String = long.chars().take(NAME_CHARS).collect();
        let of = async |filter: RecordFilter| {
            let found = store.records(&Visible::All, &filter, None, 50).await.unwrap();
            found.into_iter().map(|call| call.call).collect::<Vec<_>>()
        };
        let (caller, callee) = (Some(shown.clone()), Some(other.chars().take(NAME_CHARS).collect::<String>()));
        assert_eq!(of(RecordFilter { caller: caller.clone(), ..Default::default() }).await, ["caller", "both"]);
        assert_eq!(of(RecordFilter { callee: caller.clone(), ..Default::default() }).await, ["callee"]);
        assert_eq!(of(RecordFilter { caller: caller.clone(), callee, ..Default::default() }).await, ["both"]);
        let words = RecordFilter { caller, words: Some("words".into()), ..Default::default() };
        assert_eq!(of(words).await, [""; 0]);
        let (call, record) = store.record(&Visible::All, "caller").await.unwrap().unwrap();
        assert_eq!(call.caller, shown);
        assert!(record.contains(&long), "the record has the whole");
        let ada = server.as_role(Role::Administrator).await;
        let encoded = percent_encoding::utf8_percent_encode(&shown, percent_encoding::NON_ALPHANUMERIC);
        let asked = ada.read(&format!("/call-records?caller={encoded}")).await;
        assert_eq!(asked["items"].as_array().unwrap().len(), 2);
        let (call, _) = store.record(&Visible::All, "nul").await.unwrap().unwrap();
        assert_eq!(call.caller, strange.replace('\0', "\u{fffd}"));
        // Sums of them are numbers.
        let span = Span { from: Moment(i64::MIN), until: Moment(i64::MAX) };
        let costs = store.costs(&Visible::All, &FigureFilter::default(), By::Target(span)).await.unwrap();
        assert_eq!(costs["desk"].total_micros, Some(2_000_000_000_000));
        let figures = store.key_figures(&Visible::All, &FigureFilter::default(), span, &[]).await.unwrap();
        assert_eq!(figures.total.calls, lines.len() as i64);
    })
    .await;
}

#[tokio::test]
async fn a_record_that_is_refused_is_set_aside_and_those_around_it_are_stored_and_told() {
    on_both(|server| async move {
        let store = &server.control.store;
        let hook = webhook(store).await;
        refuse_odd(store, true).await;
        let odd = |n: usize| n % 41 == 7;
        let lines: Vec<String> = (0..200)
            .map(|n| {
                line(
                    &format!("call-{n:03}"),
                    if odd(n) { json!({ "target": "odd", "recording": "odd.wav" }) } else { json!({}) },
                )
            })
            .collect();
        let path = server.folder.join("calls.jsonl");
        let text = lines.join("\n") + "\nno record\n" + &line("huge", json!({ "duration_ms": u64::MAX })) + "\n";
        std::fs::write(&path, &text).unwrap();
        server.control.live.tell(Moment::now(), "call.started", "call-007", &[], json!({}));
        let taken = server.read_journal(&path).await;
        assert_eq!(taken, Taken { calls: 195, refused: 5, unreadable: 2, has_more: false });
        let good: Vec<String> = (0..200).filter(|n| !odd(*n)).map(|n| format!("call-{n:03}")).collect();
        assert_eq!(every_call(store).await, good);
        assert_eq!(told(store, &hook).await, [vec!["call-007".to_owned()], good].concat(), "in their order, each once");
        // What was set aside stands in the journal, and the database says where, whose, and why.
        let aside = refused(store).await;
        assert_eq!(aside.len(), 7);
        let begin = Moment::parse(BEGIN).unwrap();
        for n in (0..200).filter(|n| odd(*n)) {
            let one = aside.iter().find(|one| one.call == format!("call-{n:03}")).unwrap();
            assert!(text[one.position as usize..].starts_with(&lines[n]));
            assert_eq!((one.started_at, one.recording.as_deref()), (begin, Some("odd.wav")));
            let why = if store.backend() == Backend::Sqlite { "no such calls" } else { "refusing" };
            assert!(one.fault.contains(why), "{}", one.fault);
        }
        let huge = aside.iter().find(|one| one.call == "huge").unwrap();
        assert!(
            huge.started_at == begin
                && huge.fault.contains("no call record")
                && !huge.fault.contains("18446744073709551615")
        );
        let none = aside.iter().find(|one| one.call.is_empty()).unwrap();
        assert!(text[none.position as usize..].starts_with("no record\n"));
        // The interface shows them to whoever administers, in pages, the latest first: of one moment each once.
        let ada = server.as_role(Role::Administrator).await;
        let (mut shown, mut after) = (Vec::new(), String::new());
        loop {
            let page = ada.read(&format!("/refused-calls?limit=3{after}")).await;
            shown.extend(page["items"].as_array().unwrap().clone());
            let Some(next) = page["next"].as_str() else { break };
            after = format!("&after={next}");
        }
        assert_eq!(shown.len(), 7, "{shown:?}");
        let mut places: Vec<u64> = shown.iter().map(|one| one["position"].as_u64().unwrap()).collect();
        places.sort_unstable();
        places.dedup();
        assert_eq!(places.len(), 7, "each once: {shown:?}");
        assert!(shown[0]["call"].is_null(), "what is none of a call was looked at just now: {shown:?}");
        let odd_one = shown.iter().find(|one| one["call"] == "call-007").unwrap();
        assert_eq!((&odd_one["server"], &odd_one["recorded"]), (&json!("omnivox"), &json!(true)), "{odd_one}");
        assert!(odd_one["why"].as_str().is_some_and(|why| !why.is_empty()), "{odd_one}");
        assert_eq!(ada.get("/refused-calls?after=MQ").await.status(), 422);
        for role in [Role::Operator, Role::Supervisor] {
            let other = server.as_role(role).await;
            assert_eq!(other.get("/refused-calls").await.status(), 403, "whose they are cannot be told");
        }
        // It is read on from there, alone as well.
        server.journal(&[line("odd", json!({ "target": "odd" }))]).await;
        server.journal(&[line("after", json!({}))]).await;
        assert_eq!((store.count_records().await.unwrap(), refused(store).await.len()), (196, 8));
        // Read anew, everything is where it was.
        run(store, &["DELETE FROM journals"]).await;
        let taken = server.read_journal(&path).await;
        assert_eq!((taken.refused, store.count_records().await.unwrap(), refused(store).await.len()), (6, 196, 8));
        // Once whatever refused them is gone, they are not.
        let allow: &[&str] = match store.backend() {
            Backend::Sqlite => &["DROP TRIGGER refusing", "DELETE FROM journals"],
            Backend::Postgres => &["ALTER TABLE call_records DROP CONSTRAINT refusing", "DELETE FROM journals"],
        };
        run(store, allow).await;
        assert_eq!(server.read_journal(&path).await.refused, 0);
        assert_eq!(store.count_records().await.unwrap(), 202);
    })
    .await;
}

#[tokio::test]
async fn where_it_is_not_clear_what_is_to_blame_it_is_the_record_if_another_is_taken() {
    on_both(|server| async move {
        let store = &server.control.store;
        refuse_odd(store, false).await;
        let path = server.folder.join("calls.jsonl");
        let write = |calls: &[(&str, &str)]| {
            let line = |(call, target): &(&str, &str)| line(call, json!({ "target": target })) + "\n";
            std::fs::write(&path, calls.iter().map(line).collect::<String>()).unwrap();
        };
        let journal = || Journal::new(path.clone(), "omnivox".into(), store.clone(), Live::new(Moment::now()));
        write(&[("one", "odd"), ("two", "odd")]);
        assert!(journal().catch_up().await.is_err());
        assert_eq!((refused(store).await.len(), store.count_records().await.unwrap()), (0, 0));
        write(&[("one", "odd"), ("two", "odd"), ("three", "desk")]);
        let taken = journal().catch_up().await.unwrap();
        assert_eq!((taken.calls, taken.refused), (1, 2));
        assert_eq!(every_call(store).await, ["three"]);
        let aside: Vec<String> = refused(store).await.into_iter().map(|one| one.call).collect();
        assert_eq!(aside, ["one", "two"]);
    })
    .await;
}

#[tokio::test]
async fn a_database_that_takes_nothing_has_everything_waited_for() {
    on_both(|server| async move {
        let store = &server.control.store;
        let path = server.folder.join("calls.jsonl");
        let lines: String = (0..20).map(|n| line(&format!("call-{n:02}"), json!({})) + "\n").collect();
        std::fs::write(&path, lines).unwrap();
        run(store, &["ALTER TABLE call_records RENAME TO away"]).await;
        let journal = Journal::new(path.clone(), "omnivox".into(), store.clone(), Live::new(Moment::now()));
        for _ in 0..3 {
            journal.catch_up().await.unwrap_err();
        }
        assert_eq!(refused(store).await, []);
        run(store, &["ALTER TABLE away RENAME TO call_records"]).await;
        assert_eq!(journal.catch_up().await.unwrap().calls, 20);
        assert_eq!(refused(store).await, []);
    })
    .await;
}

#[tokio::test]
async fn what_was_set_aside_goes_by_its_age_and_with_whoever_is_forgotten() {
    on_both(|server| async move {
        let (store, ada) = (&server.control.store, server.as_role(Role::Administrator).await);
        refuse_odd(store, true).await;
        let sound = |name: &str| {
            let path = server.folder.join(name);
            std::fs::write(&path, "sound").unwrap();
            server.board.recordings.lock().unwrap().insert(name.into(), path.clone());
            path
        };
        let (old, theirs, new) = (sound("old.wav"), sound("theirs.wav"), sound("new.wav"));
        let odd = |name: &str, from: &str| json!({ "target": "odd", "from": from, "recording": name });
        server
            .journal(&[
                Server::line("old", "2026-10-01T10:00:00Z", odd("old.wav", "sip:+4940777@host")),
                Server::line("theirs", "2026-11-10T10:00:00Z", odd("theirs.wav", "sip:+4930123456@host")),
                Server::line("new", "2026-11-10T10:00:00Z", odd("new.wav", "sip:+4940888@host")),
                Server::line("good", "2026-11-10T10:00:00Z", json!({})),
            ])
            .await;
        assert_eq!(refused(store).await.len(), 3);
        let mut control: Control = server.control.clone();
        let retention = Retention { records_days: 1_000, transcripts_days: 5, ..Retention::default() };
        control.options = Arc::new(Options { retention, ..(*control.options).clone() });
        sweep(&control, Moment::parse("2026-11-11T10:00:00Z").unwrap()).await.unwrap();
        let journal = || std::fs::read_to_string(server.folder.join("calls.jsonl")).unwrap();
        assert!(!old.exists() && theirs.exists() && new.exists());
        assert!(!journal().contains("+4940777") && journal().contains("+4940888"));
        let aside = async || refused(store).await.into_iter().map(|one| one.call).collect::<Vec<_>>();
        assert_eq!(aside().await, ["theirs", "new"]);
        let done = body(ada.post("/people/erasure", json!({ "number": "+4930123456" })).await).await;
        assert_eq!((&done["journal_lines"], &done["recordings"]), (&json!(1), &json!(1)), "{done}");
        assert!(!theirs.exists() && new.exists());
        assert!(!journal().contains("4930123456") && journal().contains("+4940888"));
        assert_eq!(aside().await, ["new"]);
        // The first line is another now, which is known: it is read on.
        assert_eq!(server.read_journal(&server.folder.join("calls.jsonl")).await, Taken::default());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_have_the_same_calls_store_each_once_whoever_comes_first() {
    on_both(|server| async move {
        let store = &server.control.store;
        let hook = webhook(store).await;
        let (start, calls) = (Arc::new(tokio::sync::Barrier::new(3)), 40);
        let write = |node: &'static str| {
            let (store, start) = (store.clone(), Arc::clone(&start));
            tokio::spawn(async move {
                let mut again = 0;
                for round in 0..20_u64 {
                    let call = |n: usize| Ended::parse(line(&format!("call-{round}-{n}"), json!({}))).unwrap();
                    let chunk: Vec<Ended> = (0..calls).map(call).collect();
                    let place = Place { position: round + 1, head: "h".into() };
                    start.wait().await;
                    loop {
                        match store.take_journal(node, &[], &chunk, &place).await {
                            Ok(()) => break,
                            Err(StoreError::Changed) => again += 1,
                            Err(fault) => panic!("{fault}"),
                        }
                    }
                }
                again
            })
        };
        let mut again = 0;
        for task in ["one", "two", "three"].map(write) {
            again += task.await.unwrap();
        }
        eprintln!("{again} chunks were tried again");
        assert_eq!(store.count_records().await.unwrap(), 800);
        assert_eq!(
            store.deliveries(&hook, &DeliveryFilter::default(), None, 5_000).await.unwrap().len(),
            800,
            "each is told once"
        );
        let span = Span { from: Moment(0), until: Moment(i64::MAX) };
        let figures = store.key_figures(&Visible::All, &FigureFilter::default(), span, &[]).await.unwrap();
        assert_eq!(figures.total.calls, 800, "and counted once");
    })
    .await;
}
