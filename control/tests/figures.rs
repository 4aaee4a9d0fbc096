//! Key figures and reports: what is counted, for whom, and how it is written. On both databases.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/server.rs"]
mod server;

use control::identity::Role;
use control::time::Moment;
use serde_json::{Value, json};
use server::{Server, on_both, wrong};

/// A call that begins so many minutes after noon of the first of November, is answered after so many ms and lasts so long.
fn call(n: u32, answer_ms: Option<i64>, duration_ms: i64, more: Value) -> String {
    let started = Moment::parse("2026-11-01T12:00:00Z").unwrap().after_s(i64::from(n) * 60);
    let answered = answer_ms.map(|after| Moment(started.0 + after).to_string());
    let mut line = json!({ "answered_at": answered, "duration_ms": duration_ms });
    for (key, value) in more.as_object().unwrap() {
        line[key] = value.clone();
    }
    Server::line(&format!("c{n:04}"), &started.to_string(), line)
}

async fn filled(server: &Server) {
    let mut lines: Vec<String> = (0..100)
        .map(|n| {
            let turns = json!({ "turns": [{ "index": 0, "who": "agent", "text": "hello", "started_ms": 0.0, "ended_ms": 9.0, "gap_ms": 200 + n }] });
            let legs = if n % 4 == 0 { json!([{ "label": "device alice" }]) } else { json!([]) };
            let mos = if n < 25 { 3.0 } else { 4.0 };
            let more = json!({ "agent": turns, "media": { "mos_in": mos }, "legs": legs, "target": if n < 60 { "desk" } else { "echo" } });
            call(n, Some(i64::from(n) * 10), i64::from(n + 1) * 1_000, more)
        })
        .collect();
    lines.push(call(100, None, 0, json!({ "end": { "class": "ok", "reason": "caller_cancelled" } })));
    lines.push(call(
        101,
        None,
        0,
        json!({ "end": { "class": "our_fault", "reason": "internal" }, "direction": "outbound" }),
    ));
    lines.push(call(
        102,
        Some(50),
        101_000,
        json!({ "end": { "class": "ok", "reason": "transferred" }, "from": "sip:=cmd()@host", "target": "a,\"b\"" }),
    ));
    server.journal(&lines).await;
}

const DAY: &str = "from=2026-11-01T00:00:00Z&to=2026-11-02T00:00:00Z";

#[tokio::test]
async fn key_figures_are_those_of_the_calls() {
    on_both(|server| async move {
        filled(&server).await;
        // Who listens to a call, fetches or picks up one is in that call's figures.
        let end = json!({ "class": "ok", "reason": "transferred" });
        let parts = ["watch", "park", "pickup", "replaces"].into_iter().zip(103..);
        let parts = parts.map(|(target, n)| call(n, None, 0, json!({ "end": end, "target": target })));
        server.journal(&parts.collect::<Vec<_>>()).await;
        let ada = server.as_role(Role::Administrator).await;
        let kpis = ada.read(&format!("/kpis?{DAY}&by=hour")).await;
        let total = &kpis["total"];
        for (key, expected) in
            [("calls", 103), ("answered", 101), ("abandoned", 1), ("transfers", 1), ("talk_ms", 5_151_000)]
        {
            assert_eq!(total[key], expected, "{key}");
        }
        assert_eq!(total["failed"], json!({ "caller_fault": 0, "upstream_fault": 0, "our_fault": 1, "unknown": 0 }));
        // 101 answered calls of 1 to 101 s: the 51st and the 96th by length.
        assert_eq!(total["duration_ms"], json!({ "mean": 51_000.0, "p50": 51_000.0, "p95": 96_000.0 }));
        assert_eq!((&total["answer_ms"]["p50"], &total["answer_ms"]["p95"]), (&json!(490.0), &json!(940.0)));
        assert_eq!((&total["gap_ms"]["p50"], &total["gap_ms"]["p95"]), (&json!(249.0), &json!(294.0)));
        assert_eq!((&total["mos"], &total["mos_below_3_6"]), (&json!(3.75), &json!(0.25)));
        let series = kpis["series"].as_array().unwrap();
        assert_eq!(series.len(), 24);
        assert_eq!(
            (&series[12]["calls"], &series[13]["calls"], &series[14]["calls"]),
            (&json!(60), &json!(43), &json!(0))
        );
        assert_eq!(series[12]["duration_ms"]["p95"], 57_000.0);
        assert_eq!(series[14]["duration_ms"], json!({ "mean": null, "p50": null, "p95": null }));
        let targets: Vec<_> = kpis["targets"]
            .as_array()
            .unwrap()
            .iter()
            .map(|group| (group["name"].as_str().unwrap(), group["calls"].as_i64().unwrap()))
            .collect();
        assert_eq!(targets, [("desk", 62), ("echo", 40), ("a,\"b\"", 1)]);
        let days = ada.read(&format!("/kpis?{DAY}&by=day&zone=Pacific/Auckland&direction=inbound&target=echo")).await;
        let calls: Vec<_> = days["series"].as_array().unwrap().iter().map(|step| step["calls"].clone()).collect();
        assert_eq!(calls, [json!(0), json!(40)], "in Auckland it was the second by then");
        let steps = ada.read("/kpis?from=2026-10-01T00:00:00Z&to=2026-11-02T00:00:00Z&by=hour").await;
        let sum: i64 = steps["series"].as_array().unwrap().iter().map(|step| step["calls"].as_i64().unwrap()).sum();
        assert_eq!((steps["series"].as_array().unwrap().len(), sum), (768, 103), "more steps than one statement has");
        assert_eq!(ada.read("/kpis?from=2020-01-01T00:00:00Z&to=2020-01-02T00:00:00Z").await["total"]["calls"], 0);
        for (query, field) in [
            ("from=2026-11-01T00:00:00Z", "to"),
            ("from=2026-11-01T00:00:00Z&to=2026-10-01T00:00:00Z", "to"),
            ("from=2020-11-01T00:00:00Z&to=2026-10-01T00:00:00Z", "to"),
            ("from=2025-11-01T00:00:00Z&to=2026-10-01T00:00:00Z&by=hour", "by"),
            (&format!("{DAY}&by=year"), "by"),
            (&format!("{DAY}&by=day&zone=Here"), "zone"),
            (&format!("{DAY}&direction=up"), "direction"),
            (&format!("{DAY}&target="), "target"),
        ] {
            assert_eq!(wrong(ada.get(&format!("/kpis?{query}")).await).await, (422, vec![field.to_owned()]), "{query}");
        }
    })
    .await;
}

#[tokio::test]
async fn everybody_counts_the_calls_that_they_see() {
    on_both(|server| async move {
        let store = &server.control.store;
        let ours = store.add_team("ours", Moment::now()).await.unwrap().id;
        let members = [
            server.user("alice", Role::Operator, Some(&ours), Some("alice")).await,
            server.user("sue", Role::Supervisor, Some(&ours), None).await,
        ];
        server.user("bob", Role::Operator, None, Some("bob")).await;
        filled(&server).await;
        let ada = server.as_role(Role::Administrator).await;
        let (alice, bob, sue) = (server.log_in("alice").await, server.log_in("bob").await, server.log_in("sue").await);
        for (asker, expected) in [(&ada, 103), (&alice, 25), (&sue, 25), (&bob, 0)] {
            let kpis = asker.read(&format!("/kpis?{DAY}&by=day")).await;
            assert_eq!((&kpis["total"]["calls"], &kpis["series"][0]["calls"]), (&json!(expected), &json!(expected)));
            let sum: i64 =
                kpis["targets"].as_array().unwrap().iter().map(|group| group["calls"].as_i64().unwrap()).sum();
            assert_eq!(sum, expected);
        }
        assert_eq!(ada.read(&format!("/kpis?{DAY}&team={ours}")).await["total"]["calls"], 25);
        assert_eq!(sue.read(&format!("/kpis?{DAY}&team={ours}")).await["total"]["calls"], 25);
        assert_eq!(wrong(alice.get(&format!("/kpis?{DAY}&team={ours}")).await).await, (422, vec!["team".into()]));
        assert_eq!(wrong(sue.get(&format!("/kpis?{DAY}&team=other")).await).await, (422, vec!["team".into()]));
        for (path, field) in [
            (format!("/kpis?{DAY}&team=nosuch"), "team"),
            (format!("/reports/agents?{DAY}&team=nosuch"), "team"),
            (format!("/kpis?{DAY}&zone=Mars"), "zone"),
            ("/reports/calls?reason=nosuch".to_owned(), "reason"),
        ] {
            assert_eq!(wrong(ada.get(&path).await).await, (422, vec![field.into()]), "{path}");
        }
        for asker in [&ada, &sue, &alice] {
            let users = asker.read(&format!("/reports/users?{DAY}")).await;
            assert_eq!(
                (users["items"].as_array().unwrap().len(), &users["items"][0]["name"], &users["items"][0]["calls"]),
                (1, &json!("alice"), &json!(25))
            );
        }
        assert_eq!(bob.read(&format!("/reports/users?{DAY}")).await["items"], json!([]));
        // Of a team that is taken away the figures stay.
        for id in members {
            assert_eq!(ada.delete(&format!("/users/{id}")).await.status(), 204);
        }
        assert_eq!(ada.delete(&format!("/teams/{ours}")).await.status(), 204);
        assert_eq!(ada.read(&format!("/kpis?{DAY}&team={ours}")).await["total"]["calls"], 25);
    })
    .await;
}

#[tokio::test]
async fn reports_are_whole_and_no_spreadsheet_runs_them() {
    on_both(|server| async move {
        filled(&server).await;
        let more: Vec<String> = (200..1_400).map(|n| call(n, Some(1), 1, json!({}))).collect();
        server.journal(&more).await;
        let ada = server.as_role(Role::Administrator).await;
        let answer = ada.get("/reports/calls?format=csv").await;
        assert_eq!(answer.headers()["content-type"], "text/csv; charset=utf-8");
        let text = answer.text().await.unwrap();
        let rows: Vec<csv::StringRecord> =
            csv::Reader::from_reader(text.as_bytes()).records().map(Result::unwrap).collect();
        assert_eq!(rows.len(), 1_303, "more than are read at once");
        assert!(text.ends_with("\r\n"));
        let strange = rows.iter().find(|row| &row[0] == "c0102").unwrap();
        assert_eq!((&strange[6], &strange[8], &strange[10]), ("'=cmd()", "a,\"b\"", "transferred"));
        assert!(rows.iter().filter(|row| &row[0] != "c0102").all(|row| &row[6] == "'+49301"));
        let unanswered = rows.iter().find(|row| &row[0] == "c0100").unwrap();
        assert_eq!((&unanswered[2], &unanswered[13]), ("", ""));
        let listed = ada.read("/reports/calls?format=json&target=desk").await;
        assert_eq!(listed.as_array().unwrap().len(), 62 + 1_200);
        assert_eq!(ada.read("/reports/calls?reason=internal&class=our_fault").await.as_array().unwrap().len(), 1);
        assert_eq!(ada.read("/reports/calls?caller=nobody").await, json!([]));
        // As many as are read at once, and no more: the end is seen by one that is empty.
        assert_eq!(ada.read("/reports/calls?from=2026-11-02T03:00:00Z").await.as_array().unwrap().len(), 500);
        let agents = ada.get(&format!("/reports/agents?{DAY}&format=csv")).await.text().await.unwrap();
        let agents: Vec<csv::StringRecord> =
            csv::Reader::from_reader(agents.as_bytes()).records().map(Result::unwrap).collect();
        assert_eq!((&agents[0][0], &agents[0][1], agents.len()), ("desk", "582", 3));
        assert_eq!(ada.read(&format!("/reports/agents?{DAY}&target=echo")).await["items"][0]["calls"], 40);
        assert_eq!(wrong(ada.get("/reports/calls?format=xml").await).await, (422, vec!["format".into()]));
        assert_eq!(wrong(ada.get("/reports/calls?limit=5").await).await, (422, vec!["limit".into()]));
    })
    .await;
}

#[tokio::test]
async fn what_calls_cost_is_summed_up_by_what_they_have_in_common() {
    on_both(|server| async move {
        let answers = |n: u32| {
            let turn = |index| json!({ "index": index, "who": "agent", "text": "x", "started_ms": 0.0, "ended_ms": 9.0, "gap_ms": null });
            json!({ "turns": (0..n).map(turn).collect::<Vec<_>>() })
        };
        let cost = |micros: Value, is_partial: bool| json!({ "currency": "EUR", "micros": micros, "is_partial": is_partial, "lines": [] });
        let with = |target: &str, cost: Value| json!({ "target": target, "agent": answers(2), "legs": [{ "label": "device alice" }], "cost": cost });
        server
            .journal(&[
                call(0, Some(0), 30_000, with("desk", cost(json!(1_000), false))),
                call(1, Some(0), 60_000, with("desk", cost(json!(2_001), true))),
                call(2, Some(0), 90_000, with("shop", cost(json!(0), false))),
                call(3, Some(0), 90_000, with("shop", cost(Value::Null, true))),
                call(4, Some(0), 90_000, with("echo", Value::Null)),
            ])
            .await;
        let ada = server.as_role(Role::Administrator).await;
        let listed = ada.read("/call-records").await;
        let told: Vec<_> = listed["items"].as_array().unwrap().iter().rev().map(|call| (call["cost_micros"].clone(), call["currency"].clone(), call["cost_is_partial"] == true)).collect();
        let (eur, none) = (json!("EUR"), Value::Null);
        let wanted = [
            (json!(1_000), eur.clone(), false),
            (json!(2_001), eur.clone(), true),
            (json!(0), eur.clone(), false),
            (none.clone(), none.clone(), true),
            (none.clone(), none.clone(), false),
        ];
        assert_eq!(told, wanted);

        let kpis = ada.read(&format!("/kpis?{DAY}&by=hour")).await;
        let sums = |calls: i64, partial: i64, micros: [i64; 4]| {
            let [total, call, minute, answer] = micros;
            json!({ "calls": calls, "partial": partial, "currency": "EUR", "total_micros": total,
                    "per_call_micros": call, "per_minute_micros": minute, "per_answer_micros": answer })
        };
        // 3,001 of three calls, three minutes and six answers.
        assert_eq!(kpis["cost"], sums(3, 1, [3_001, 1_000, 1_000, 500]));
        assert_eq!((&kpis["series"][12]["cost"], &kpis["series"][13]["cost"]), (&kpis["cost"], &none));
        let by_name = |items: &Value, name: &str| items.as_array().unwrap().iter().find(|item| item["name"] == name).unwrap()["cost"].clone();
        assert_eq!(by_name(&kpis["targets"], "desk"), sums(2, 1, [3_001, 1_501, 2_001, 750]));
        assert_eq!(by_name(&kpis["targets"], "shop"), sums(1, 0, [0, 0, 0, 0]));
        assert_eq!(by_name(&kpis["targets"], "echo"), none);
        let users = ada.read(&format!("/reports/users?{DAY}")).await;
        assert_eq!(by_name(&users["items"], "alice"), kpis["cost"]);

        // In two currencies there is no sum; and a call is worth no more than sums can be of.
        let dollars = json!({ "currency": "USD", "micros": i64::MAX, "is_partial": false, "lines": [] });
        server.journal(&[call(5, Some(0), 90_000, with("desk", dollars))]).await;
        let mixed = ada.read(&format!("/kpis?{DAY}")).await["cost"].clone();
        assert_eq!((&mixed["calls"], &mixed["currency"], &mixed["total_micros"]), (&json!(4), &none, &none), "{mixed}");
        let first = ada.read("/call-records?limit=1").await["items"][0]["cost_micros"].clone();
        assert_eq!(first, json!(1_000_000_000_000_i64));
    })
    .await;
}
