//! The schema up and down, on both databases.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/server.rs"]
mod server;

use control::store::Store;
use control::store::contacts::{Contact, Whose};
use control::store::costs::By;
use control::store::figures::{FigureFilter, Span};
use control::store::interactions::Interaction;
use control::store::journal::Place;
use control::store::outbox::Told;
use control::store::records::{Ended, RecordFilter, Visible};
use control::store::webhooks::NewWebhook;
use control::time::Moment;
use serde_json::json;
use server::{Database, Server};

#[tokio::test]
async fn every_step_of_the_schema_goes_up_and_down_and_up_and_keeps_the_rows_of_others() {
    for database in [Database::sqlite(), Database::postgres().await] {
        let store = Store::open(&database.url).await.unwrap();
        assert!(store.migrations().await.unwrap().iter().all(|step| !step.applied));
        store.migrate().await.unwrap();
        let team = store.add_team("Reception", Moment(5)).await.unwrap();
        store.add_audit("ada", "team.create", "Reception", &json!({}), Moment(5)).await.unwrap();
        let events = ["*".to_owned()];
        let hook =
            NewWebhook { name: "crm", url: "https://x/", events: &events, enabled: true, sealed: "s", hint: "h" };
        store.add_webhook(hook, 1, Moment(5)).await.unwrap();
        let told = Told { kind: "turn".into(), call: "c".into(), at: Moment(5), data: json!({}) };
        store.tell(std::slice::from_ref(&told)).await.unwrap();
        let source = store.add_incoming("pay", ("s", "h"), 1, Moment(5)).await.unwrap();
        assert!(store.take_incoming(&source.id, "m", &told, Moment(5)).await.unwrap());
        let versions: Vec<i64> = store.migrations().await.unwrap().iter().map(|step| step.version).collect();
        for (kept, version) in versions.iter().copied().enumerate().rev().skip(1) {
            store.migrate_down(version).await.unwrap();
            let applied = store.migrations().await.unwrap().iter().filter(|step| step.applied).count();
            assert_eq!(applied, kept + 1);
            assert_eq!(store.team(&team.id).await.unwrap().unwrap(), team, "people stand in the first step");
            store.migrate().await.unwrap();
            assert!(store.migrations().await.unwrap().iter().all(|step| step.applied));
            assert_eq!(store.team(&team.id).await.unwrap().unwrap(), team);
        }
        store.migrate_down(0).await.unwrap();
        store.migrate().await.unwrap();
        assert_eq!(store.team(&team.id).await.unwrap(), None);
        store.migrate().await.unwrap();
        store.close().await;
        database.drop().await;
    }
}

fn contact(name: &str, numbers: &[&str]) -> Contact {
    Contact {
        id: String::new(),
        name: name.into(),
        numbers: numbers.iter().map(ToString::to_string).collect(),
        email: None,
        company: None,
        note: None,
        owner: None,
        team: None,
        attributes: [("tier".to_owned(), "gold".to_owned())].into(),
        created_at: Moment(0),
        updated_at: Moment(0),
        version: 0,
    }
}

#[tokio::test]
async fn contacts_and_what_came_of_calls_stay_over_the_steps_after_them() {
    for database in [Database::sqlite(), Database::postgres().await] {
        let store = Store::open(&database.url).await.unwrap();
        store.migrate().await.unwrap();
        let grace = store.add_contact(contact("Grace", &["+4930123456", "+4930123457"]), Moment(6)).await.unwrap();
        let interaction = Interaction {
            id: String::new(),
            call: None,
            contact: Some(grace.id.clone()),
            number: None,
            user: None,
            team: None,
            disposition: "reached".into(),
            note: Some("told".into()),
            at: Moment(7),
            follow_up_at: None,
            version: 1,
        };
        let interaction = store.add_interaction(interaction, &[]).await.unwrap();
        for version in
            store.migrations().await.unwrap().iter().rev().map(|step| step.version).filter(|step| *step >= 20)
        {
            store.migrate_down(version).await.unwrap();
            assert_eq!(store.contact(&Whose::All, &grace.id).await.unwrap().as_ref(), Some(&grace), "{version}");
            assert_eq!(store.interaction(&Whose::All, &interaction.id).await.unwrap().as_ref(), Some(&interaction));
            store.migrate().await.unwrap();
        }
        store.close().await;
        database.drop().await;
    }
}

/// A call at a desk with these words, and what it cost.
fn priced(call: &str, device: &str, words: &str, micros: i64) -> Ended {
    let turns = json!({ "turns": [
        { "index": 0, "who": "caller", "text": words, "started_ms": 0.0, "ended_ms": 900.0, "gap_ms": null },
        { "index": 1, "who": "agent", "text": "yes", "started_ms": 1200.0, "ended_ms": 1900.0, "gap_ms": 300.0 }] });
    let cost = json!({ "currency": "EUR", "micros": micros, "is_partial": micros == 7, "lines": [] });
    let more = json!({ "agent": turns, "cost": cost, "legs": [{ "label": format!("device {device}") }] });
    Ended::parse(Server::line(call, "2026-11-01T10:00:00Z", more)).unwrap()
}

#[tokio::test]
async fn calls_what_was_said_in_them_and_what_they_cost_stay_over_the_steps_after_them() {
    for database in [Database::sqlite(), Database::postgres().await] {
        let store = Store::open(&database.url).await.unwrap();
        store.migrate().await.unwrap();
        let ended = [priced("c1", "d1", "a table", 5), priced("c2", "d2", "a table", 7), priced("c3", "d1", "no", 11)];
        store.take_journal("node", &[], &ended, &Place { position: 1, head: "h".into() }).await.unwrap();
        let (own, span) = (Visible::Device("d1".into()), Span { from: Moment(0), until: Moment(i64::MAX) });
        // Several things that few calls have together: they are looked for by the kind.
        let filter = RecordFilter {
            words: Some("table".into()),
            target: Some("desk".into()),
            direction: Some("inbound".into()),
            ..RecordFilter::default()
        };
        let read = async || {
            let all = store.records(&Visible::All, &RecordFilter::default(), None, 9).await.unwrap();
            let found = store.records(&own, &filter, None, 9).await.unwrap();
            let costs = store.costs(&Visible::All, &FigureFilter::default(), By::Target(span)).await.unwrap();
            (all, found, costs)
        };
        let before = read().await;
        assert_eq!(before.0.iter().map(|call| call.cost_micros).collect::<Vec<_>>(), [Some(11), Some(7), Some(5)]);
        assert_eq!(before.1.iter().map(|call| call.call.as_str()).collect::<Vec<_>>(), ["c1"]);
        let sums = &before.2["desk"];
        assert_eq!((sums.total_micros, sums.partial, sums.per_answer_micros), (Some(23), 1, Some(8)));
        let versions: Vec<i64> = store.migrations().await.unwrap().iter().map(|step| step.version).collect();
        for version in versions.iter().copied().filter(|version| *version >= 35).rev() {
            store.migrate_down(version).await.unwrap();
            store.migrate().await.unwrap();
            assert_eq!(read().await, before, "{version}");
        }
        // Costs are gone with the step that brought them; calls and words are not, whatever their index looked like in between.
        for version in versions.iter().copied().filter(|version| (3..35).contains(version)).rev() {
            store.migrate_down(version).await.unwrap();
            store.migrate().await.unwrap();
            let (all, found, costs) = read().await;
            assert!(costs.is_empty() && all.iter().all(|call| call.cost_micros.is_none() && !call.cost_is_partial));
            assert_eq!((all.len(), found.len()), (3, 1), "{version}");
        }
        store.close().await;
        database.drop().await;
    }
}
