//! Contacts, what came of calls with them, and who is not to be called. On both databases.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/server.rs"]
mod server;

use control::api::do_not_call::ENTRIES_LIMIT;
use control::identity::Role;
use control::time::Moment;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use server::{Asker, Server, body, on_both, wrong};

async fn names(asker: &Asker, query: &str) -> Vec<String> {
    let page = asker.read(&format!("/contacts{query}")).await;
    page["items"].as_array().unwrap().iter().map(|contact| contact["name"].as_str().unwrap().to_owned()).collect()
}

async fn added(asker: &Asker, contact: Value) -> Value {
    let answer = asker.post("/contacts", contact).await;
    assert_eq!(answer.status(), StatusCode::CREATED);
    body(answer).await
}

#[tokio::test]
async fn a_contact_is_added_found_changed_and_taken_away() {
    on_both(|server| async move {
        let ada = server.as_role(Role::Administrator).await;
        let me = ada.read("/session").await["user"]["id"].clone();
        let grace = json!({ "name": "Grace Hopper", "numbers": ["030 123456", "+4930123456", "+12125550123"], "email": "grace@navy.example",
                            "company": "Navy", "note": "Two\nlines", "attributes": { "tier": "gold" } });
        let made = ada.post("/contacts", grace).await;
        assert_eq!((made.status(), &made.headers()["etag"]), (StatusCode::CREATED, &"\"1\"".parse().unwrap()));
        let made = body(made).await;
        assert_eq!(made["numbers"], json!(["+4930123456", "+12125550123"]), "in E.164, each once");
        assert_eq!((&made["owner"], &made["attributes"]["tier"], &made["note"]), (&me, &json!("gold"), &json!("Two\nlines")));
        added(&ada, json!({ "name": "Émile 100%" })).await;
        added(&ada, json!({ "name": "ada lovelace", "numbers": ["+4930123456"] })).await;
        assert_eq!(names(&ada, "").await, ["ada lovelace", "Grace Hopper", "Émile 100%"]);
        assert_eq!(names(&ada, "?q=HOPP").await, ["Grace Hopper"]);
        assert_eq!(names(&ada, "?q=%C3%89MILE").await, ["Émile 100%"]);
        assert_eq!(names(&ada, "?q=0%25").await, ["Émile 100%"]);
        assert_eq!(names(&ada, "?q=a_a").await, [""; 0]);
        assert_eq!(names(&ada, "?number=030%20123456").await, ["ada lovelace", "Grace Hopper"]);
        assert_eq!(names(&ada, "?owner=nobody").await, [""; 0]);
        let first = ada.read("/contacts?limit=1").await;
        assert_eq!(names(&ada, &format!("?limit=1&after={}", first["next"].as_str().unwrap())).await, ["Grace Hopper"]);
        let path = format!("/contacts/{}", made["id"].as_str().unwrap());
        let changed = ada.patch(&path, json!({ "company": null, "numbers": ["+491511234567"], "owner": null })).await;
        assert_eq!(changed.headers()["etag"], "\"2\"");
        let changed = body(changed).await;
        assert_eq!((&changed["company"], &changed["owner"], &changed["email"]), (&Value::Null, &Value::Null, &json!("grace@navy.example")));
        assert_eq!(ada.read(&path).await, changed);
        let late = ada.request(Method::PATCH, &path).header("if-match", "\"1\"").json(&json!({ "name": "G" })).send().await.unwrap();
        assert_eq!(wrong(late).await.0, 412);
        assert_eq!(names(&ada, "?number=%2B12125550123").await, [""; 0], "numbers that were replaced are gone");
        assert_eq!(ada.delete(&path).await.status(), StatusCode::NO_CONTENT);
        assert_eq!(wrong(ada.get(&path).await).await.0, 404);
        let log = ada.read("/audit").await.to_string();
        assert!(log.contains("contact.remove") && !log.contains("Hopper") && !log.contains("4930123456"), "the log can not be erased");
    })
    .await;
}

#[tokio::test]
async fn every_wrong_field_of_a_contact_is_named_and_nothing_is_written() {
    on_both(|server| async move {
        let ada = server.as_role(Role::Administrator).await;
        let wrong_ones = json!({ "name": " ", "numbers": ["+4930123456", "alice", "101"], "email": "grace", "company": "x".repeat(201), "note": "a\u{0}" });
        let named = wrong(ada.post("/contacts", wrong_ones).await).await;
        let all = ["name", "numbers[1]", "numbers[2]", "email", "company", "note"].map(String::from).to_vec();
        assert_eq!(named, (422, all));
        let many: Vec<String> = (0..11).map(|n| format!("+4930{n:06}")).collect();
        let keys: serde_json::Map<_, _> = (0..33).map(|n| (format!("k{n}"), json!("v"))).collect();
        for (contact, field) in [
            (json!({ "name": "G", "numbers": many }), "numbers"),
            (json!({ "name": "G", "attributes": keys }), "attributes"),
            (json!({ "name": "G", "attributes": { "a\u{7}": "v" } }), "attributes"),
            (json!({ "name": "G", "attributes": { "a": "v".repeat(513) } }), "attributes.a"),
            (json!({ "name": "G", "owner": "no-such" }), "owner"),
            (json!({ "name": "G", "team": "no-such" }), "team"),
            (json!({ "name": "G", "owner": "a\u{0}" }), "owner"),
            (json!({ "name": "G", "colour": "red" }), "colour"),
        ] {
            assert_eq!(wrong(ada.post("/contacts", contact.clone()).await).await, (422, vec![field.to_owned()]), "{contact}");
        }
        assert_eq!(names(&ada, "").await, [""; 0]);
        assert_eq!(wrong(ada.get("/contacts/a%00b").await).await.0, 404);
        assert_eq!(wrong(ada.get("/contacts?number=alice").await).await, (422, vec!["number".into()]));
    })
    .await;
}

#[tokio::test]
async fn operators_have_contacts_of_their_own_and_supervisors_those_of_their_team() {
    on_both(|server| async move {
        let store = &server.control.store;
        let ours = store.add_team("ours", Moment::now()).await.unwrap().id;
        let theirs = store.add_team("theirs", Moment::now()).await.unwrap().id;
        let alice_id = server.user("alice", Role::Operator, Some(&ours), Some("alice")).await;
        let bob_id = server.user("bob", Role::Operator, Some(&ours), Some("bob")).await;
        let eve_id = server.user("eve", Role::Operator, Some(&theirs), None).await;
        server.user("sue", Role::Supervisor, Some(&ours), None).await;
        let (alice, bob, sue, eve) = (
            server.log_in("alice").await,
            server.log_in("bob").await,
            server.log_in("sue").await,
            server.log_in("eve").await,
        );
        let hers = added(&alice, json!({ "name": "of alice" })).await;
        assert_eq!((&hers["owner"], &hers["team"]), (&json!(alice_id), &json!(ours)));
        added(&bob, json!({ "name": "of bob" })).await;
        added(&eve, json!({ "name": "of eve" })).await;
        assert_eq!(names(&alice, "").await, ["of alice"]);
        assert_eq!(names(&sue, "").await, ["of alice", "of bob"]);
        assert_eq!(names(&sue, &format!("?owner={bob_id}")).await, ["of bob"]);
        assert_eq!(names(&alice, &format!("?owner={bob_id}")).await, [""; 0]);
        let path = format!("/contacts/{}", hers["id"].as_str().unwrap());
        for asker in [&bob, &eve] {
            assert_eq!(wrong(asker.get(&path).await).await.0, 404);
            assert_eq!(wrong(asker.patch(&path, json!({ "name": "x" })).await).await.0, 404);
            assert_eq!(wrong(asker.delete(&path).await).await.0, 404);
        }
        assert_eq!(wrong(alice.patch(&path, json!({ "owner": bob_id })).await).await, (422, vec!["owner".into()]));
        assert_eq!(wrong(alice.patch(&path, json!({ "owner": null })).await).await, (422, vec!["owner".into()]));
        assert_eq!(wrong(alice.patch(&path, json!({ "team": theirs })).await).await, (422, vec!["team".into()]));
        assert_eq!(wrong(sue.patch(&path, json!({ "owner": eve_id })).await).await, (422, vec!["owner".into()]));
        assert_eq!(sue.patch(&path, json!({ "owner": bob_id })).await.status(), StatusCode::OK);
        assert_eq!(names(&bob, "").await, ["of alice", "of bob"]);
        // Who leaves leaves their contacts to their team.
        store.remove_user(&bob_id).await.unwrap();
        assert_eq!(names(&sue, "").await, ["of alice", "of bob"]);
    })
    .await;
}

#[tokio::test]
async fn numbers_on_the_list_are_not_called_until_they_are_off_it() {
    on_both(|server| async move {
        let ada = server.as_role(Role::Administrator).await;
        let later = Moment::now().after_s(3_600);
        let entries = json!({ "entries": [{ "number": "030 123456", "reason": "asked" }, { "number": "+12125550123", "expires_at": later }, { "number": "+4999999" }] });
        let made = body(ada.post("/do-not-call", entries.clone()).await).await;
        assert_eq!((&made["items"][0]["number"], &made["items"][0]["source"], &made["items"][0]["added_by"]), (&json!("+4930123456"), &json!("list"), &json!("administrator")));
        let call = async |to: &str| ada.post("/calls", json!({ "to": to, "connect_with": "desk" })).await;
        for to in ["+4930123456", "+49 30 123456", "030123456", "004930123456", "4930123456", "sip:+4930123456@carrier.example", "tel:+49-30-123456", "+12125550123"] {
            let (status, fields) = wrong(call(to).await).await;
            assert_eq!((status, fields), (422, vec!["to".to_owned()]), "{to}");
        }
        assert!(server.board.started.lock().unwrap().is_empty());
        // A device of ours that is called like a number is none, whatever the list says.
        for to in ["alice", "+4999999", "+4930123457", "101"] {
            assert_eq!(call(to).await.status(), StatusCode::ACCEPTED, "{to}");
        }
        // The list is asked anew each time, and what is over holds no more.
        let store = &server.control.store;
        assert!(!store.may_call("+12125550123", Moment::now()).await.unwrap());
        assert!(store.may_call("+12125550123", later).await.unwrap());
        assert!(!store.may_call("+4930123456", later.after_s(1_000_000)).await.unwrap(), "for ever");
        // Added again it holds as long as the longer of the two.
        ada.post("/do-not-call", json!({ "entries": [{ "number": "+4930123456", "expires_at": later }] })).await;
        assert_eq!(ada.read("/do-not-call/+4930123456").await["expires_at"], Value::Null);
        assert_eq!(ada.read("/do-not-call?number=030123456").await["items"].as_array().unwrap().len(), 1);
        assert_eq!(ada.delete("/do-not-call/+4930123456").await.status(), StatusCode::NO_CONTENT);
        assert_eq!(wrong(ada.delete("/do-not-call/+4930123456").await).await.0, 404);
        assert_eq!(wrong(ada.get("/do-not-call/+4930123456").await).await.0, 404);
        assert_eq!(call("+4930123456").await.status(), StatusCode::ACCEPTED);
    })
    .await;
}

#[tokio::test]
async fn a_list_is_taken_whole_or_not_at_all_and_each_wrong_number_is_named_by_its_place() {
    on_both(|server| async move {
        let ada = server.as_role(Role::Administrator).await;
        let entry = |n: usize| json!({ "number": format!("+4930{n:06}") });
        let mut entries: Vec<Value> = (0..ENTRIES_LIMIT).map(entry).collect();
        entries[7]["number"] = "alice".into();
        entries[999]["expires_at"] = "2020-01-01T00:00:00Z".into();
        entries[500]["reason"] = "x".repeat(201).into();
        let named = wrong(ada.post("/do-not-call", json!({ "entries": entries })).await).await;
        let places = ["entries[7].number", "entries[500].reason", "entries[999].expires_at"].map(String::from).to_vec();
        assert_eq!(named, (422, places));
        assert_eq!(ada.read("/do-not-call").await["items"].as_array().unwrap().len(), 0);
        let entries: Vec<Value> = (0..ENTRIES_LIMIT).map(entry).collect();
        let mut more = entries.clone();
        more.push(entry(ENTRIES_LIMIT));
        for bad in [json!([]), json!(more)] {
            assert_eq!(
                wrong(ada.post("/do-not-call", json!({ "entries": bad })).await).await,
                (422, vec!["entries".into()])
            );
        }
        assert_eq!(ada.post("/do-not-call", json!({ "entries": entries })).await.status(), StatusCode::CREATED);
        let (mut seen, mut after) = (0, String::new());
        loop {
            let page = ada.read(&format!("/do-not-call?limit=200{after}")).await;
            seen += page["items"].as_array().unwrap().len();
            let Some(next) = page["next"].as_str() else { break };
            after = format!("&after={next}");
        }
        assert_eq!(seen, ENTRIES_LIMIT);
    })
    .await;
}

#[tokio::test]
async fn what_came_of_a_call_is_noted_with_whom_it_was_and_puts_them_on_the_list() {
    on_both(|server| async move {
        let ada = server.as_role(Role::Administrator).await;
        server.user("alice", Role::Operator, None, Some("alice")).await;
        server.user("bob", Role::Operator, None, Some("bob")).await;
        let (alice, bob) = (server.log_in("alice").await, server.log_in("bob").await);
        let more = json!({ "from": "sip:+4930123456@carrier.example", "device": "alice" });
        server.journal(&[Server::line("c1", "2026-11-01T10:00:00Z", more)]).await;
        server.board.add("live", &["alice"]);
        let grace = added(&alice, json!({ "name": "Grace", "numbers": ["+4930123456"] })).await;
        let follow_up = Moment::parse("2027-01-01T09:00:00Z").unwrap();
        let noted = alice
            .post(
                "/interactions",
                json!({ "call": "c1", "disposition": "call_back", "note": "after nine", "follow_up_at": follow_up }),
            )
            .await;
        assert_eq!(noted.status(), StatusCode::CREATED);
        let noted = body(noted).await;
        assert_eq!(
            (&noted["contact"], &noted["number"], &noted["call"]),
            (&grace["id"], &json!("+4930123456"), &json!("c1"))
        );
        assert_eq!(alice.read("/interactions?call=c1").await["items"][0], noted);
        assert!(server.control.store.may_call("+4930123456", Moment::now()).await.unwrap());
        let live = body(alice.post("/interactions", json!({ "call": "live", "disposition": "reached" })).await).await;
        assert_eq!(live["number"], "+49301", "of a call in progress too");
        // Bob was in neither call.
        for call in ["c1", "live", "none"] {
            assert_eq!(
                wrong(bob.post("/interactions", json!({ "call": call, "disposition": "reached" })).await).await,
                (422, vec!["call".into()])
            );
        }
        let path = format!("/interactions/{}", noted["id"].as_str().unwrap());
        assert_eq!(wrong(bob.get(&path).await).await.0, 404);
        let changed = alice.patch(&path, json!({ "disposition": "do_not_call", "follow_up_at": null })).await;
        assert_eq!((changed.status(), &changed.headers()["etag"]), (StatusCode::OK, &"\"2\"".parse().unwrap()));
        assert_eq!(body(changed).await["follow_up_at"], Value::Null);
        assert!(!server.control.store.may_call("+4930123456", Moment::now()).await.unwrap());
        let entry = ada.read("/do-not-call/+4930123456").await;
        assert_eq!((&entry["source"], &entry["added_by"]), (&json!("interaction"), &json!("alice")));
        // Every number of a contact, where nobody says which.
        let two = added(&alice, json!({ "name": "Two", "numbers": ["+4930555555", "+4930666666"] })).await;
        assert_eq!(
            alice.post("/interactions", json!({ "contact": two["id"], "disposition": "do_not_call" })).await.status(),
            StatusCode::CREATED
        );
        assert_eq!(ada.read("/do-not-call?source=interaction").await["items"].as_array().unwrap().len(), 3);
        for (interaction, fields) in [
            (json!({ "disposition": "reached" }), vec!["call"]),
            (json!({ "contact": "none", "disposition": "unknown" }), vec!["disposition", "contact"]),
            (json!({ "number": "alice", "disposition": "reached", "note": "" }), vec!["note", "number"]),
        ] {
            let named = wrong(alice.post("/interactions", interaction).await).await;
            assert_eq!(named, (422, fields.into_iter().map(String::from).collect()));
        }
        let count =
            async |query: &str| ada.read(&format!("/interactions?{query}")).await["items"].as_array().unwrap().len();
        assert_eq!(
            (count("").await, count("disposition=do_not_call").await, count("from=2100-01-01T00:00:00Z").await),
            (3, 2, 0)
        );
        // Without the contact it still says what came of it.
        alice.delete(&format!("/contacts/{}", grace["id"].as_str().unwrap())).await;
        assert_eq!(alice.read(&path).await["contact"], Value::Null);
    })
    .await;
}

#[tokio::test]
async fn administrators_say_what_may_come_of_calls() {
    on_both(|server| async move {
        let ada = server.as_role(Role::Administrator).await;
        let operator = server.as_role(Role::Operator).await;
        let before = operator.read("/dispositions").await["items"].as_array().unwrap().len();
        let set = ada.put("/dispositions/sold", json!({ "label": "Sold", "final": true })).await;
        assert_eq!(
            body(set).await,
            json!({ "name": "sold", "label": "Sold", "final": true, "call_back": false, "do_not_call": false })
        );
        ada.put("/dispositions/sold", json!({ "label": "Sold it" })).await;
        let after = operator.read("/dispositions").await["items"].as_array().unwrap().clone();
        assert_eq!(after.len(), before + 1);
        assert!(after.iter().any(|disposition| disposition["label"] == "Sold it" && disposition["final"] == false));
        operator.post("/interactions", json!({ "number": "+4930123456", "disposition": "sold" })).await;
        assert_eq!(ada.delete("/dispositions/sold").await.status(), StatusCode::NO_CONTENT);
        assert_eq!(wrong(ada.delete("/dispositions/sold").await).await.0, 404);
        assert_eq!(operator.read("/interactions").await["items"][0]["disposition"], "sold");
        assert_eq!(
            wrong(ada.put("/dispositions/a%20b", json!({ "label": "x" })).await).await,
            (422, vec!["id".into()])
        );
    })
    .await;
}
