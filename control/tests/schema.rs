//! The schema up and down, on both databases.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/server.rs"]
mod server;

use control::store::Store;
use control::store::contacts::{Contact, Whose};
use control::store::interactions::Interaction;
use control::store::outbox::Told;
use control::store::webhooks::NewWebhook;
use control::time::Moment;
use serde_json::json;
use server::Database;

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
