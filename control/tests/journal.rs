//! Chunks of the journal on their way into the database: what they add, what they leave alone, and in which order it is told. On both
//! databases.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/server.rs"]
mod server;

use std::io::Write;
use std::time::Duration;

use control::identity::Role;
use control::journal::Journal;
use control::store::Store;
use control::store::figures::{FigureFilter, Figures, Span};
use control::store::journal::Place;
use control::store::outbox::DeliveryFilter;
use control::store::records::{Ended, Visible};
use control::store::webhooks::NewWebhook;
use control::time::Moment;
use serde_json::{Value, json};
use server::{Server, on_both};
use tokio_util::sync::CancellationToken;

const BEGIN: &str = "2026-11-01T10:00:00.000Z";

fn ended(call: &str, more: Value) -> Ended {
    Ended::parse(Server::line(call, BEGIN, more)).unwrap()
}

/// What somebody of each kind said, in turns of these numbers.
fn turns(numbers: impl Iterator<Item = usize>) -> Value {
    let turn = |n: usize| {
        let (who, gap) = if n.is_multiple_of(2) { ("caller", None) } else { ("agent", Some(250.5)) };
        json!({ "index": n, "who": who, "text": format!("words {n}"), "started_ms": 0.0, "ended_ms": 1.5, "gap_ms": gap })
    };
    json!({ "turns": numbers.map(turn).collect::<Vec<_>>() })
}

async fn webhook(store: &Store, name: &str, events: &[&str]) -> String {
    let events: Vec<String> = events.iter().map(|event| (*event).to_owned()).collect();
    let new = NewWebhook { name, url: "https://x/", events: &events, enabled: true, sealed: "s", hint: "h" };
    store.add_webhook(new, 50, Moment(5)).await.unwrap().id
}

/// What an endpoint is to be told, oldest first.
async fn told(store: &Store, webhook: &str) -> Vec<(String, String)> {
    let all = store.deliveries(webhook, &DeliveryFilter::default(), None, 10_000).await.unwrap();
    all.into_iter().rev().map(|delivery| (delivery.call, delivery.event)).collect()
}

async fn counted(store: &Store, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(store.pool()).await.unwrap()
}

async fn figures(store: &Store) -> (Figures, Vec<(String, Figures)>) {
    let (filter, span) = (FigureFilter::default(), Span { from: Moment(0), until: Moment(i64::MAX) });
    let mut targets = store.figures_by_target(&Visible::All, &filter, span).await.unwrap();
    assert_eq!(targets.len(), 1, "they are all for one desk");
    (targets.remove(0).1, store.figures_by_device(&Visible::All, &filter, span).await.unwrap())
}

#[tokio::test]
async fn of_new_known_and_doubled_calls_in_a_chunk_each_is_there_and_told_and_counted_once() {
    on_both(|server| async move {
        let store = &server.control.store;
        let hook = webhook(store, "crm", &["call.ended"]).await;
        let team = store.add_team("Reception", Moment(5)).await.unwrap();
        server.user("ann", Role::Operator, Some(&team.id), Some("ann")).await;
        let place = |position| Place { position, head: "h".into() };
        let by_ann = json!([{ "label": "device ann" }, { "label": "device ann/2" }, { "label": "device bob" }]);
        let first = ended("known", json!({ "duration_ms": 1, "legs": by_ann, "agent": turns(0..2) }));
        store.take_journal("node", &[], &[first], &place(1)).await.unwrap();
        let chunk = [
            ended("new", json!({ "duration_ms": 10, "legs": by_ann, "agent": turns([1, 0, 0].into_iter()) })),
            ended("known", json!({ "duration_ms": 1_000, "agent": turns(0..9) })),
            ended("doubled", json!({ "duration_ms": 100, "media": { "mos_in": 4.25 } })),
            ended("doubled", json!({ "duration_ms": 10_000, "legs": by_ann, "agent": turns(0..9) })),
        ];
        store.take_journal("node", &[], &chunk, &place(2)).await.unwrap();
        // Once more, as another server would that has a copy of it.
        store.take_journal("other", &[], &chunk, &place(2)).await.unwrap();
        assert_eq!((store.journal("node").await.unwrap(), store.journal("other").await.unwrap()), (place(2), place(2)));
        assert_eq!(store.count_records().await.unwrap(), 3);
        for (call, duration_ms, mos, answers) in
            [("known", 1, None, 1), ("new", 10, None, 1), ("doubled", 100, Some(4.25), 0)]
        {
            let (record, line) = store.record(&Visible::All, call).await.unwrap().unwrap();
            assert_eq!((record.duration_ms, record.mos_in), (duration_ms, mos), "{call}");
            assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["duration_ms"], duration_ms);
            let sql = "SELECT answers FROM call_records WHERE call = $1";
            let stored: i64 = sqlx::query_scalar(sql).bind(call).fetch_one(store.pool()).await.unwrap();
            assert_eq!(stored, answers, "{call}");
        }
        let want = ["known", "new", "doubled"].map(|call| (call.to_owned(), "call.ended".to_owned()));
        assert_eq!(told(store, &hook).await, want);
        let (all, devices) = figures(store).await;
        assert_eq!((all.calls, all.talk_ms), (3, 111));
        let devices: Vec<_> =
            devices.iter().map(|(name, figures)| (name.as_str(), figures.calls, figures.talk_ms)).collect();
        assert_eq!(devices, [("ann", 2, 11), ("bob", 2, 11)]);
        assert_eq!(counted(store, "SELECT COUNT(*) FROM call_owners").await, 6, "of two calls two devices and a team");
        let of_team = store.records(&Visible::Team(team.id.clone()), &Default::default(), None, 9).await.unwrap();
        assert_eq!(of_team.len(), 2);
        assert_eq!(counted(store, "SELECT COUNT(*) FROM turns").await, 4);
    })
    .await;
}

#[tokio::test]
async fn a_chunk_of_more_than_a_statement_takes_is_there_whole() {
    const CALLS: usize = 2_011;
    on_both(|server| async move {
        let store = &server.control.store;
        let team = store.add_team("Reception", Moment(5)).await.unwrap();
        for device in 0..70 {
            server.user(&format!("user{device}"), Role::Operator, Some(&team.id), Some(&format!("d{device}"))).await;
        }
        let call = |n: usize| {
            // One has as many words as all the others.
            let turns = turns(0..if n == 7 { 4_000 } else { n % 3 });
            ended(
                &format!("call-{n:05}"),
                json!({ "duration_ms": n, "device": format!("d{}", n % 140), "agent": turns }),
            )
        };
        let chunk: Vec<Ended> = (0..CALLS).map(call).collect();
        let place = Place { position: 1, head: "h".into() };
        // They all began in one millisecond; those of two chunks too.
        let (some, others) = chunk.split_at(CALLS - 11);
        store.take_journal("node", &[], some, &place).await.unwrap();
        store.take_journal("node", &[], others, &place).await.unwrap();
        assert_eq!(store.count_records().await.unwrap(), CALLS as i64);
        let of_teams = (0..CALLS).filter(|n| n % 140 < 70).count();
        assert_eq!(counted(store, "SELECT COUNT(*) FROM call_owners").await, (CALLS + of_teams) as i64);
        let (all, devices) = figures(store).await;
        assert_eq!((all.calls, all.talk_ms), (CALLS as i64, (0..CALLS as i64).sum()));
        assert_eq!((devices.len(), devices.iter().map(|(_, figures)| figures.calls).sum::<i64>()), (140, CALLS as i64));
        let turns: Vec<(i64, String, i64)> =
            sqlx::query_as("SELECT id, call, number FROM turns ORDER BY id").fetch_all(store.pool()).await.unwrap();
        assert_eq!(turns.len(), chunk.iter().map(|call| call.turns.len()).sum::<usize>());
        assert!(turns.is_sorted_by_key(|(_, call, number)| (call.clone(), *number)), "they come in their order");
        assert!(turns.windows(2).all(|two| two[0].0 + 1 == two[1].0), "without a gap");
    })
    .await;
}

#[tokio::test]
async fn what_was_told_of_a_call_stands_before_its_end_whoever_wants_it() {
    const CALLS: usize = 150;
    on_both(|server| async move {
        let store = &server.control.store;
        let (all, ends) = (webhook(store, "all", &["*"]).await, webhook(store, "ends", &["call.ended"]).await);
        let names: Vec<String> = (0..CALLS).map(|n| format!("call-{n:03}")).collect();
        let mut want = Vec::new();
        for kind in ["call.started", "call.answered"] {
            for call in &names {
                server.control.live.tell(Moment::now(), kind, call, &[], json!({ "state": "up" }));
                want.push((call.clone(), kind.to_owned()));
            }
        }
        // Nobody's to be told by HTTP.
        server.control.live.tell(Moment::now(), "presence", "", &[], json!({}));
        let lines: Vec<String> = names.iter().map(|call| Server::line(call, BEGIN, json!({}))).collect();
        server.journal(&lines).await;
        let ended: Vec<_> = names.iter().map(|call| (call.clone(), "call.ended".to_owned())).collect();
        assert_eq!(told(store, &ends).await, ended);
        want.extend(ended);
        assert_eq!(told(store, &all).await, want);
        assert_eq!(
            counted(store, "SELECT COUNT(*) FROM outbox").await,
            (3 * CALLS) as i64,
            "once, however many want it"
        );
        let due = store.due(&all, Moment::now(), 1_000).await.unwrap();
        assert_eq!(due.len(), CALLS, "of each call what came first");
        let body: Value = serde_json::from_str(&due[0].body).unwrap();
        assert_eq!((&body["type"], &body["data"]["state"]), (&json!("call.started"), &json!("up")));
        assert!(Moment::parse(body["timestamp"].as_str().unwrap()).is_some());
    })
    .await;
}

#[tokio::test]
async fn while_many_calls_end_the_journal_is_read_less_often_and_at_the_end_to_its_end() {
    on_both(|server| async move {
        let store = &server.control.store;
        let hook = webhook(store, "all", &["*"]).await;
        let path = server.folder.join("calls.jsonl");
        let mut file = std::fs::File::create(&path).unwrap();
        let mut write = |from: usize, until: usize| {
            let lines: String =
                (from..until).map(|n| Server::line(&format!("call-{n:03}"), BEGIN, json!({})) + "\n").collect();
            file.write_all(lines.as_bytes()).unwrap();
        };
        let (stop, live) = (CancellationToken::new(), server.control.live.clone());
        let journal = Journal::new(path.clone(), "omnivox".into(), store.clone(), live.clone());
        write(0, 200);
        let reading = tokio::spawn(journal.run(stop.clone()));
        let until = async |calls: i64| {
            for _ in 0..6_000 {
                if store.count_records().await.unwrap() == calls {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            panic!("{calls} calls do not come");
        };
        until(200).await;
        // What is told while the journal is left alone is there before what ends then.
        live.tell(Moment::now(), "call.started", "call-200", &[], json!({}));
        write(200, 300);
        until(300).await;
        write(300, 301);
        stop.cancel();
        reading.await.unwrap();
        assert_eq!(store.count_records().await.unwrap(), 301);
        let of_one: Vec<_> = told(store, &hook).await.into_iter().filter(|(call, _)| call == "call-200").collect();
        assert_eq!(of_one, ["call.started", "call.ended"].map(|kind| ("call-200".to_owned(), kind.to_owned())));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_whose_calls_begin_in_the_same_millisecond_store_them_at_the_same_time() {
    on_both(|server| async move {
        let store = &server.control.store;
        let place = |position| Place { position, head: "h".into() };
        let write = |node: &'static str| {
            let store = store.clone();
            tokio::spawn(async move {
                for round in 0..20_u64 {
                    let call = |n: usize| ended(&format!("{node}-{round}-{n}"), json!({ "agent": turns(0..3) }));
                    let chunk: Vec<Ended> = (0..20).map(call).collect();
                    store.take_journal(node, &[], &chunk, &place(round + 1)).await.unwrap();
                }
            })
        };
        for task in ["one", "two", "three"].map(write) {
            task.await.unwrap();
        }
        assert_eq!(store.count_records().await.unwrap(), 1_200);
        assert_eq!(counted(store, "SELECT COUNT(*) FROM turns").await, 3_600);
    })
    .await;
}

#[tokio::test]
async fn of_a_journal_to_which_nothing_came_the_database_is_not_asked() {
    on_both(|server| async move {
        let (store, path) = (&server.control.store, server.folder.join("calls.jsonl"));
        let journal = Journal::new(path.clone(), "omnivox".into(), store.clone(), server.control.live.clone());
        assert_eq!(journal.catch_up().await.unwrap().calls, 0, "it is not there yet");
        let line = |call: &str| Server::line(call, BEGIN, json!({})) + "\n";
        std::fs::write(&path, line("one")).unwrap();
        assert_eq!(journal.catch_up().await.unwrap().calls, 1);
        let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(line("two").as_bytes()).unwrap();
        assert_eq!(journal.catch_up().await.unwrap().calls, 1);
        // Another file of the same length in its place is seen.
        std::fs::write(path.with_extension("new"), line("six") + &line("ten")).unwrap();
        std::fs::rename(path.with_extension("new"), &path).unwrap();
        assert_eq!(journal.catch_up().await.unwrap().calls, 2);
        assert_eq!(store.count_records().await.unwrap(), 4);
        store.close().await;
        for _ in 0..3 {
            assert_eq!(journal.catch_up().await.unwrap().calls, 0);
        }
        let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(line("last").as_bytes()).unwrap();
        journal.catch_up().await.unwrap_err();
        journal.catch_up().await.unwrap_err();
    })
    .await;
}
