//! What is stored, on both databases: the journal, lists and searches.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/server.rs"]
mod server;

use std::io::Write;

use control::identity::Role;
use control::store::contacts::{ContactFilter, Whose};
use control::store::costs::By;
use control::store::do_not_call::DoNotCallFilter;
use control::store::figures::Span;
use control::store::interactions::InteractionFilter;
use control::store::outbox::{DeliveryFilter, DeliveryState};
use control::store::records::{After, RecordFilter, Visible};
use control::store::{Backend, Store};
use control::time::Moment;
use serde_json::json;
use server::{Server, on_both};

#[tokio::test]
async fn lists_of_contacts_and_interactions_are_walked_by_an_index() {
    on_both(|server| async move {
        let store = &server.control.store;
        let some = |value: &str| Some(value.to_owned());
        let walks = |plan: &str| match store.backend() {
            Backend::Sqlite => {
                !plan.contains("TEMP B-TREE FOR ORDER BY") && (!plan.contains("SCAN") || plan.contains("_by_"))
            }
            Backend::Postgres => !plan.contains("Seq Scan") && !plan.contains("Sort"),
        };
        let user = Whose::User("u".into());
        for (whose, filter) in [
            (&Whose::All, ContactFilter::default()),
            (&Whose::All, ContactFilter { name: some("gra"), ..Default::default() }),
            (&Whose::All, ContactFilter { owner: some("u"), ..Default::default() }),
            (&user, ContactFilter::default()),
        ] {
            let plan = store.explain_contacts(whose, &filter).await.unwrap();
            assert!(walks(&plan), "{filter:?}:\n{plan}");
        }
        for (whose, filter) in [
            (&Whose::All, InteractionFilter::default()),
            (&Whose::All, InteractionFilter { from: Some(Moment(1)), ..Default::default() }),
            (&Whose::All, InteractionFilter { contact: some("c"), ..Default::default() }),
            (&Whose::All, InteractionFilter { disposition: some("d"), ..Default::default() }),
            (&user, InteractionFilter::default()),
        ] {
            let plan = store.explain_interactions(whose, &filter).await.unwrap();
            assert!(walks(&plan), "{filter:?}:\n{plan}");
        }
        for filter in [
            DeliveryFilter::default(),
            DeliveryFilter { state: Some(DeliveryState::Dead), ..Default::default() },
            DeliveryFilter { event: some("call.ended"), ..Default::default() },
            DeliveryFilter { state: Some(DeliveryState::Dead), event: some("call.ended") },
        ] {
            let plan = store.explain_deliveries("w", &filter).await.unwrap();
            assert!(walks(&plan), "{filter:?}:\n{plan}");
        }
        let by_key = |plan: String| {
            let sorts = plan.contains("Sort") || plan.contains("TEMP B-TREE") || plan.contains("Seq Scan");
            assert!(!sorts, "{plan}");
        };
        by_key(store.explain_audit().await.unwrap());
        by_key(store.explain_do_not_call(&DoNotCallFilter::default()).await.unwrap());
        by_key(
            store.explain_do_not_call(&DoNotCallFilter { source: some("list"), ..Default::default() }).await.unwrap(),
        );
    })
    .await;
}

#[tokio::test]
async fn a_database_that_is_none_is_told_by_its_address_without_the_password() {
    let fault = Store::open("mysql://me:secret@host/db").await.unwrap_err().to_string();
    assert!(fault.contains("mysql://me@host/db") && fault.contains("control.database"), "{fault}");
    assert!(!fault.contains("secret"), "{fault}");
}

#[tokio::test]
async fn a_journal_is_read_once_whatever_it_looks_like_when_it_is_read() {
    on_both(|server| async move {
        let path = server.folder.join("calls.jsonl");
        assert_eq!(server.read_journal(&path).await.calls, 0, "it is not there yet");
        let line = |n: usize| Server::line(&format!("call-{n:03}"), "2026-11-01T10:00:00.000Z", json!({}));
        let mut file = std::fs::File::create(&path).unwrap();
        // A line that is being written is none yet.
        let first = line(0);
        file.write_all(&first.as_bytes()[..60]).unwrap();
        assert_eq!(server.read_journal(&path).await.calls, 0);
        file.write_all(&first.as_bytes()[60..]).unwrap();
        assert_eq!(server.read_journal(&path).await.calls, 0);
        file.write_all(b"\n").unwrap();
        assert_eq!(server.read_journal(&path).await.calls, 1);
        assert_eq!(server.read_journal(&path).await.calls, 0);
        // What is no record is passed over, and does not hold the others up.
        writeln!(file, "{}\nno record\n{}", line(1), line(2)).unwrap();
        let taken = server.read_journal(&path).await;
        assert_eq!((taken.calls, taken.unreadable), (2, 1));
        // More than is read at once, over a line's end.
        (3..3_000).for_each(|n| writeln!(file, "{}", line(n)).unwrap());
        assert_eq!(server.read_journal(&path).await.calls, 2_997);
        assert_eq!(server.control.store.count_records().await.unwrap(), 3_000);
        // Another file of that name is another journal; calls that are known stay one.
        std::fs::write(&path, format!("{}\n{}\n", line(5_000), line(7))).unwrap();
        assert_eq!(server.read_journal(&path).await.calls, 2);
        assert_eq!(server.control.store.count_records().await.unwrap(), 3_001);
    })
    .await;
}

#[tokio::test]
async fn what_peers_write_into_names_can_be_stored() {
    on_both(|server| async move {
        let more = json!({ "from": "sip:a\u{0}b@host", "target": "x\u{0}", "agent": { "turns": [
            { "index": 0, "who": "caller", "text": "nul\u{0}l", "started_ms": 0.0, "ended_ms": 1.0, "gap_ms": null } ] } });
        server.journal(&[Server::line("strange", "2026-11-01T10:00:00Z", more)]).await;
        let (call, record) = server.control.store.record(&Visible::All, "strange").await.unwrap().unwrap();
        assert_eq!(call.caller, "a\u{fffd}b");
        assert!(record.contains("\\u0000"));
        assert_eq!(server.control.store.turns("strange").await.unwrap()[0].text, "nul\u{fffd}l");
    })
    .await;
}

/// Calls of which each third is Alice's and each fifth Bob's, one a minute.
async fn filled(server: &Server, calls: u32) {
    let lines = (0..calls).map(|n| {
        let legs = match (n % 3, n % 5) {
            (0, _) => json!([{ "label": "device alice/2" }]),
            (_, 0) => json!([{ "label": "device bob" }, { "label": "trunk carrier" }]),
            _ => json!([]),
        };
        let words = if n % 7 == 0 { "I want to book a table" } else { "No, thank you" };
        let turns = json!({ "turns": [{ "index": 0, "who": "caller", "text": words, "started_ms": 0.0, "ended_ms": 900.0, "gap_ms": null },
                                      { "index": 1, "who": "agent", "text": "Très bien", "started_ms": 1200.0, "ended_ms": 1900.0, "gap_ms": 300.0 + f64::from(n) }] });
        let more = json!({
            "legs": legs, "agent": turns, "from": format!("sip:{}@host", n % 4), "direction": if n % 2 == 0 { "inbound" } else { "outbound" },
            "end": { "class": if n % 10 == 0 { "our_fault" } else { "ok" }, "reason": "caller_hung_up" },
            "media": { "mos_in": 4.2 }
        });
        Server::line(&format!("c{n:04}"), &format!("2026-11-01T{:02}:{:02}:00Z", n / 60, n % 60), more)
    });
    server.journal(&lines.collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn lists_have_what_is_asked_for_in_pages_that_join() {
    on_both(|server| async move {
        filled(&server, 200).await;
        let store = &server.control.store;
        let count =
            async |filter: RecordFilter| store.records(&Visible::All, &filter, None, 1_000).await.unwrap().len();
        assert_eq!(count(RecordFilter::default()).await, 200);
        assert_eq!(count(RecordFilter { direction: Some("inbound".into()), ..Default::default() }).await, 100);
        assert_eq!(count(RecordFilter { class: Some("our_fault".into()), ..Default::default() }).await, 20);
        assert_eq!(count(RecordFilter { caller: Some("3".into()), ..Default::default() }).await, 50);
        let hour = RecordFilter {
            from: Moment::parse("2026-11-01T01:00:00Z"),
            until: Moment::parse("2026-11-01T02:00:00Z"),
            ..Default::default()
        };
        assert_eq!(count(hour).await, 60);
        let both = RecordFilter { caller: Some("0".into()), words: Some("table".into()), ..Default::default() };
        assert_eq!(count(both).await, 8, "every 28th of 200");
        let mut seen = Vec::new();
        let mut after = None;
        loop {
            let page = store.records(&Visible::All, &RecordFilter::default(), after.as_ref(), 30).await.unwrap();
            let Some(last) = page.last() else { break };
            after = Some(After { started_at: last.started_at.0, call: last.call.clone() });
            seen.extend(page.into_iter().map(|call| call.call));
        }
        let mut sorted = seen.clone();
        sorted.sort_by(|a, b| b.cmp(a));
        sorted.dedup();
        assert_eq!(seen, sorted, "latest first, each once");
        assert_eq!(seen.len(), 200);
        let first = store.records(&Visible::All, &RecordFilter::default(), None, 1).await.unwrap().remove(0);
        assert_eq!((first.mos_in, first.gap_ms), (Some(4.2), Some(499.0)));
    })
    .await;
}

#[tokio::test]
async fn words_are_found_whatever_their_case_and_are_no_language() {
    on_both(|server| async move {
        filled(&server, 70).await;
        let store = &server.control.store;
        let found = async |words: &str| {
            let filter = RecordFilter { words: Some(words.into()), ..Default::default() };
            store.records(&Visible::All, &filter, None, 1_000).await.unwrap().len()
        };
        assert_eq!(found("BOOK table").await, 10);
        assert_eq!(found("table book").await, 10);
        assert_eq!(found("book thank").await, 0, "not in one turn");
        assert_eq!(found("très").await, 70);
        // Operators of either search are words here.
        for strange in
            ["\"", "book OR thank", "NEAR(", "text:book", "boo*", "-book", "'; DROP TABLE turns; --", "&|!:*", "\\"]
        {
            assert!(found(strange).await <= 70, "{strange}");
        }
        assert_eq!(found("book OR thank").await, 0);
    })
    .await;
}

#[tokio::test]
async fn operators_see_their_own_calls_and_supervisors_those_of_their_team() {
    on_both(|server| async move {
        let store = &server.control.store;
        let team = store.add_team("Reception", Moment::now()).await.unwrap().id;
        server.user("alice", Role::Operator, Some(&team), Some("alice")).await;
        server.user("bob", Role::Operator, None, Some("bob")).await;
        filled(&server, 150).await;
        let seen = async |visible: Visible| {
            store.records(&visible, &RecordFilter::default(), None, 1_000).await.unwrap().len()
        };
        assert_eq!(seen(Visible::All).await, 150);
        assert_eq!(seen(Visible::Device("alice".into())).await, 50);
        assert_eq!(seen(Visible::Device("bob".into())).await, 20);
        assert_eq!(seen(Visible::Team(team.clone())).await, 50);
        assert_eq!(seen(Visible::Team("other".into())).await, 0);
        assert_eq!(seen(Visible::None).await, 0);
        assert!(store.record(&Visible::Device("alice".into()), "c0000").await.unwrap().is_some());
        assert!(store.record(&Visible::Device("bob".into()), "c0000").await.unwrap().is_none());
        assert!(store.record(&Visible::None, "c0001").await.unwrap().is_none());
    })
    .await;
}

#[tokio::test]
async fn lists_that_grow_are_walked_by_an_index() {
    on_both(|server| async move {
        filled(&server, 600).await;
        let store = &server.control.store;
        let some = |value: &str| Some(value.to_owned());
        let filters = [
            RecordFilter::default(),
            RecordFilter { caller: some("3"), ..Default::default() },
            RecordFilter { callee: some("agent"), ..Default::default() },
            RecordFilter { target: some("desk"), ..Default::default() },
            RecordFilter { class: some("ok"), ..Default::default() },
            RecordFilter { reason: some("caller_hung_up"), ..Default::default() },
            RecordFilter { direction: some("inbound"), ..Default::default() },
            RecordFilter { from: Some(Moment(0)), until: Some(Moment(1)), ..Default::default() },
            RecordFilter { caller: some("3"), callee: some("agent"), ..Default::default() },
            RecordFilter { caller: some("3"), class: some("ok"), ..Default::default() },
            RecordFilter { callee: some("agent"), class: some("our_fault"), ..Default::default() },
        ];
        for visible in [Visible::All, Visible::Device("alice".into())] {
            for filter in &filters {
                let plan = store.explain_records(&visible, filter).await.unwrap();
                assert!(!plan.is_empty(), "{filter:?}");
                // What was found by an index may be put in order: it is a page of each kind at most.
                let finds = plan.split("found").next().unwrap();
                let walks = match store.backend() {
                    Backend::Sqlite => !plan.lines().any(|line| {
                        line.starts_with("SCAN ")
                            && !["SCAN p", "SCAN x", "SCAN found", "SCAN (sub"]
                                .iter()
                                .any(|made| line.starts_with(made))
                            || line.starts_with("SCAN x")
                                && !line.contains("USING")
                                && !plan.contains("MATERIALIZE found")
                    }),
                    Backend::Postgres => {
                        !plan.contains("Seq Scan") && (plan.contains("CTE found") || !finds.contains("Sort"))
                    }
                };
                assert!(walks, "{visible:?} {filter:?}:\n{plan}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn what_calls_cost_is_summed_from_an_index_of_its_own() {
    on_both(|server| async move {
        filled(&server, 600).await;
        let store = &server.control.store;
        let span = Span { from: Moment(0), until: Moment(i64::MAX) };
        for visible in [Visible::All, Visible::Device("alice".into())] {
            for by in [By::Spans(&[span]), By::Target(span), By::Device(span)] {
                let plan = store.explain_costs(&visible, by).await.unwrap();
                let reads_calls = plan.lines().any(|line| line.contains("call_records r") && line.contains("Seq Scan"));
                assert!(plan.contains("call_records_costs") && !reads_calls, "{visible:?} {by:?}:\n{plan}");
            }
        }
    })
    .await;
}

/// Calls that differ in whatever lists filter by, some of which begin in the same millisecond, by a seed.
fn mixed(seed: u64, calls: usize) -> Vec<serde_json::Value> {
    let mut state = seed;
    let mut pick = |of: u64| {
        // SplitMix64.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % of
    };
    let ends = [
        ("ok", "caller_hung_up"),
        ("ok", "agent_hung_up"),
        ("our_fault", "internal"),
        ("caller_fault", "unknown_number"),
    ];
    let mut at = 1_790_000_000_000_i64;
    let made = (0..calls).map(|n| {
        // Bursts, and gaps of an hour, a week, most of a year.
        at += [0, 0, 1, 700, 3_600_000, 600_000_000, 20_000_000_000][usize::try_from(pick(7)).unwrap()] / if n % 10 == 0 { 1 } else { 100 };
        let (class, reason) = ends[usize::try_from(pick(4) * pick(2)).unwrap()];
        let labels: Vec<_> = (0..pick(3)).map(|_| json!({ "label": format!("device d{}", pick(3)) })).collect();
        let turns: Vec<_> = (0..pick(4)).map(|index| {
            let text = (0..=pick(4)).map(|_| ["yes", "no", "table", "Zürich", "x0"][usize::try_from(pick(5)).unwrap()]).collect::<Vec<_>>();
            json!({ "index": index, "who": "caller", "text": text.join(" "), "started_ms": 0.0, "ended_ms": 1.0, "gap_ms": null })
        }).collect();
        let direction = ["inbound", "outbound"][usize::try_from(pick(2)).unwrap()];
        let target = ["desk", "dial", "echo"][usize::try_from(pick(3)).unwrap()];
        json!({
            "call": format!("m{:04}", pick(9_000) * 1_000 + n as u64), "started_at": Moment(at).to_string(), "answered_at": null,
            "ended_at": Moment(at).to_string(), "duration_ms": 1, "direction": direction,
            "from": format!("sip:c{}@host", pick(4)), "to": format!("sip:{}{}@host", "t".repeat(70), pick(3)),
            "target": target, "end": { "class": class, "reason": reason },
            "legs": labels, "agent": { "turns": turns }, "media": null, "recording": null
        })
    });
    made.collect()
}

/// Whether a call of [`mixed`] is to be in a list.
fn fits(call: &serde_json::Value, visible: &Visible, filter: &RecordFilter) -> bool {
    let user = |field: &str| call[field].as_str().unwrap()[4..].split('@').next().unwrap().to_owned();
    let is = |wanted: &Option<String>, value: &str| wanted.as_ref().is_none_or(|wanted| wanted == value);
    let at = Moment::parse(call["started_at"].as_str().unwrap()).unwrap();
    let said = |words: &String| {
        call["agent"]["turns"].as_array().unwrap().iter().any(|turn| {
            let text: Vec<&str> = turn["text"].as_str().unwrap().split(' ').collect();
            words.split(' ').all(|word| text.contains(&word))
        })
    };
    let seen = match visible {
        Visible::All => true,
        Visible::Device(device) => {
            call["legs"].as_array().unwrap().iter().any(|leg| leg["label"] == format!("device {device}"))
        }
        Visible::Team(_) => call["legs"].as_array().unwrap().iter().any(|leg| leg["label"] != "device d2"),
        Visible::None => false,
    };
    seen && filter.from.is_none_or(|from| at >= from)
        && filter.until.is_none_or(|until| at < until)
        && is(&filter.direction, call["direction"].as_str().unwrap())
        && is(&filter.caller, &user("from"))
        && is(&filter.callee, &user("to"))
        && is(&filter.target, call["target"].as_str().unwrap())
        && is(&filter.class, call["end"]["class"].as_str().unwrap())
        && is(&filter.reason, call["end"]["reason"].as_str().unwrap())
        && filter.words.as_ref().is_none_or(said)
}

#[tokio::test]
async fn any_filter_has_what_it_names_in_pages_that_join() {
    on_both(|server| async move {
        let seed = 20_261_129;
        eprintln!("seed {seed}");
        let store = &server.control.store;
        let team = store.add_team("Reception", Moment::now()).await.unwrap().id;
        for device in ["d0", "d1"] {
            server.user(device, Role::Operator, Some(&team), Some(device)).await;
        }
        let calls = mixed(seed, 400);
        server.journal(&calls.iter().map(|call| call.to_string()).collect::<Vec<_>>()).await;
        let some = |wanted: bool, value: &str| wanted.then(|| value.to_owned());
        let at = |n: usize| Moment::parse(calls[n]["started_at"].as_str().unwrap());
        let mut found_any = 0;
        // Each combination of filters, for each who may ask.
        for bits in 0..1_024_u32 {
            let has = |bit: u32| bits & (1 << bit) != 0;
            let filter = RecordFilter {
                from: at(120).filter(|_| has(0)),
                until: at(300).filter(|_| has(1)),
                direction: some(has(2), "inbound"),
                caller: some(has(3), "c1"),
                callee: some(has(4), &format!("{}1", "t".repeat(70))),
                target: some(has(5), "desk"),
                class: some(has(6), "ok"),
                reason: some(has(7), "caller_hung_up"),
                words: if has(8) { some(true, if has(9) { "yes Zürich" } else { "table" }) } else { None },
            };
            let visible = match bits % 4 {
                0 => Visible::All,
                1 => Visible::Device("d1".into()),
                2 => Visible::Team(team.clone()),
                _ if has(9) => Visible::None,
                _ => Visible::All,
            };
            let mut wanted: Vec<(String, String)> = calls
                .iter()
                .filter(|call| fits(call, &visible, &filter))
                .map(|call| {
                    (call["started_at"].as_str().unwrap().to_owned(), call["call"].as_str().unwrap().to_owned())
                })
                .collect();
            wanted.sort_by(|a, b| b.cmp(a));
            let (mut seen, mut after) = (Vec::new(), None);
            loop {
                let page = store.records(&visible, &filter, after.as_ref(), 7).await.unwrap();
                after = page.last().map(|last| After { started_at: last.started_at.0, call: last.call.clone() });
                let is_last = page.len() < 7;
                seen.extend(page.into_iter().map(|call| (call.started_at.to_string(), call.call)));
                if is_last {
                    break;
                }
            }
            assert_eq!(seen, wanted, "{visible:?} {filter:?}");
            found_any += usize::from(!seen.is_empty());
        }
        assert!(found_any > 300, "{found_any} lists had something");
    })
    .await;
}

#[tokio::test]
async fn a_database_of_a_newer_program_is_told_with_what_to_do() {
    on_both(|server| async move {
        let store = &server.control.store;
        let later = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
                     SELECT 9999, 'later', success, checksum, execution_time FROM _sqlx_migrations WHERE version = 1";
        sqlx::query(later).execute(store.pool()).await.unwrap();
        for fault in [
            store.migrate().await.unwrap_err(),
            store.migrate_down(1).await.unwrap_err(),
            store.migrations().await.unwrap_err(),
        ] {
            let text = fault.to_string();
            assert!(text.contains("newer version") && text.contains("9999") && text.contains("migrate down"), "{text}");
        }
        // As it was.
        sqlx::query("DELETE FROM _sqlx_migrations WHERE version = 9999").execute(store.pool()).await.unwrap();
        store.migrate().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_file_that_is_no_database_is_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let url = Store::in_folder(folder.path());
    let path = Store::file_of(&url).unwrap();
    assert_eq!(path, folder.path().join("omnivox.db"));
    std::fs::write(&path, "this is no database, and long enough to be looked at as one. ".repeat(100)).unwrap();
    let begun = std::time::Instant::now();
    let text = Store::open(&url).await.unwrap_err().to_string();
    assert!(text.contains("not a database") && text.contains("omnivox restore"), "{text}");
    assert!(!text.contains("timed out") && begun.elapsed().as_secs() < 4, "{text}");
}

#[test]
fn the_file_of_a_database_is_known_by_its_address() {
    let odd = std::path::Path::new("/data/100%/a?b#c");
    assert_eq!(Store::file_of(&Store::in_folder(odd)).unwrap(), odd.join("omnivox.db"));
    assert_eq!(Store::file_of("sqlite:///data/x.db?mode=rwc").unwrap(), std::path::Path::new("/data/x.db"));
    for none in ["postgres://me@host/db", "sqlite::memory:", "sqlite:"] {
        assert_eq!(Store::file_of(none), None, "{none}");
    }
}
