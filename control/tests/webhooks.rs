//! Webhooks: what they take, what is sent and how it is signed, what is tried again, what is dead and comes back; and that nobody is led
//! inside by one. On both databases, against a real HTTP server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/receiver.rs"]
mod receiver;
#[path = "support/server.rs"]
mod server;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use axum::http::StatusCode as Status;
use axum::response::IntoResponse;
use control::identity::Role;
use control::time::Moment;
use control::webhooks::dispatch::{AT_ONCE, Dispatcher, World};
use control::webhooks::schedule::{DISABLED_AFTER_S, RETRIES_S};
use receiver::Receiver;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use server::{Asker, Server, body, on_both, wrong};

/// A clock that goes where the test says; dice that always show the middle.
#[derive(Clone)]
struct Clock(Arc<AtomicI64>);

impl Clock {
    fn new() -> Self {
        Self(Arc::new(AtomicI64::new(Moment::now().0)))
    }

    fn go(&self, seconds: i64) {
        self.0.fetch_add(seconds * 1_000, Ordering::SeqCst);
    }

    fn now(&self) -> Moment {
        Moment(self.0.load(Ordering::SeqCst))
    }

    fn world(&self, roll: impl Fn() -> f64 + Send + Sync + 'static) -> World {
        let clock = self.clone();
        World { now: Arc::new(move || clock.now()), roll: Arc::new(roll) }
    }
}

async fn add(ada: &Asker, name: &str, url: &str, events: Value) -> (String, String) {
    let made = ada.post("/webhooks", json!({ "name": name, "url": url, "events": events })).await;
    assert_eq!(made.status(), StatusCode::CREATED);
    let made = body(made).await;
    (made["webhook"]["id"].as_str().unwrap().to_owned(), made["secret"].as_str().unwrap().to_owned())
}

fn tell(server: &Server, kind: &'static str, call: &str) {
    server.control.live.tell(Moment::now(), kind, call, &[], json!({ "state": "up" }));
}

/// A call that ends, as the journal tells of it.
async fn end(server: &Server, call: &str) {
    server.journal(&[Server::line(call, "2026-11-01T10:00:00.000Z", json!({}))]).await;
}

async fn states(ada: &Asker, id: &str) -> Vec<(String, String)> {
    let page = ada.read(&format!("/webhooks/{id}/deliveries?limit=200")).await;
    let text = |item: &Value, field: &str| item[field].as_str().unwrap().to_owned();
    page["items"].as_array().unwrap().iter().map(|item| (text(item, "event"), text(item, "state"))).collect()
}

#[tokio::test]
async fn a_webhook_is_added_changed_and_taken_away_and_its_secret_is_shown_once() {
    on_both(|server| async move {
        let ada = server.as_role(Role::Administrator).await;
        let good = json!({ "name": "crm", "url": "https://crm.example.com/hook", "events": ["call.started", "call.ended", "call.ended"] });
        let made = ada.post("/webhooks", good.clone()).await;
        assert_eq!((made.status(), made.headers()["etag"].to_str().unwrap()), (StatusCode::CREATED, "\"1\""));
        let made = body(made).await;
        let secret = made["secret"].as_str().unwrap();
        assert!(secret.starts_with("whsec_"));
        let webhook = &made["webhook"];
        assert_eq!(webhook["events"], json!(["call.ended", "call.started"]));
        assert_eq!((&webhook["state"], &webhook["enabled"]), (&json!("healthy"), &json!(true)));
        let path = format!("/webhooks/{}", webhook["id"].as_str().unwrap());
        let read = ada.read(&path).await;
        assert!(!read.to_string().contains(&secret[10..]) && read["secrets"][0]["hint"].as_str().unwrap().len() < 16, "{read}");
        assert!(!server.control.store.webhook(webhook["id"].as_str().unwrap()).await.unwrap().unwrap().sealed.0.contains(&secret[6..]));
        assert_eq!(wrong(ada.post("/webhooks", good.clone()).await).await, (409, vec!["name".into()]));
        for (field, value, named) in [
            ("name", json!(""), "name"), ("events", json!([]), "events"), ("events", json!(["call.ended", "call.died"]), "events[1]"),
            ("url", json!("http://8.8.8.8/"), "url"), ("url", json!("https://10.0.0.1/"), "url"), ("url", json!("https://[::1]/"), "url"),
            ("url", json!("https://0x0a000001/"), "url"), ("url", json!("ftp://crm.example.com/"), "url"), ("url", json!("https://a:b@crm.example.com/"), "url"),
            ("url", json!("http://169.254.169.254/latest/meta-data"), "url"), ("enabled", json!(1), "enabled"), ("colour", json!("red"), "colour"),
        ] {
            let mut wanted = good.clone();
            wanted["name"] = "other".into();
            wanted[field] = value.clone();
            assert_eq!(wrong(ada.post("/webhooks", wanted).await).await, (422, vec![named.to_owned()]), "{field} {value}");
        }
        assert_eq!(wrong(ada.patch(&path, json!({ "url": "https://127.0.0.1.nip.example/", "name": "\u{7}" })).await).await.0, 422);
        let late = ada.request(Method::PATCH, &path).header("if-match", "\"7\"").json(&json!({ "name": "x" })).send().await.unwrap();
        assert_eq!(wrong(late).await.0, 412);
        let changed = ada.patch(&path, json!({ "name": "crm2", "events": ["turn", "*"], "enabled": false })).await;
        assert_eq!(changed.headers()["etag"], "\"2\"");
        let changed = body(changed).await;
        assert_eq!((&changed["events"], &changed["state"]), (&json!(["*"]), &json!("disabled")));
        assert_eq!(ada.read("/webhooks").await["items"].as_array().unwrap().len(), 1);
        assert_eq!(ada.delete(&path).await.status(), StatusCode::NO_CONTENT);
        assert_eq!(wrong(ada.get(&path).await).await.0, 404);
        // Asked for twice with one key it is two webhooks: an answer with a secret in it is not kept.
        let keyed = |name: &str| ada.request(Method::POST, "/webhooks").header("idempotency-key", "k")
            .json(&json!({ "name": name, "url": "https://x.example/", "events": ["*"] })).send();
        assert_eq!(keyed("a").await.unwrap().status(), StatusCode::CREATED);
        assert_eq!(keyed("b").await.unwrap().status(), StatusCode::CREATED);
        let log = ada.read("/audit").await.to_string();
        assert!(log.contains("webhook.create") && log.contains("webhook.remove") && !log.contains("whsec_"));
    })
    .await;
}

#[tokio::test]
async fn there_are_no_more_webhooks_than_may_be() {
    on_both(|server| async move {
        let ada = server.as_role(Role::Administrator).await;
        for n in 0..control::webhooks::WEBHOOKS_LIMIT {
            add(&ada, &format!("w{n}"), "https://x.example/", json!(["*"])).await;
        }
        let one_more = json!({ "name": "one-more", "url": "https://x.example/", "events": ["*"] });
        assert_eq!(wrong(ada.post("/webhooks", one_more).await).await.0, 409);
    })
    .await;
}

#[tokio::test]
async fn a_call_is_told_to_those_who_want_it_signed_and_in_order_and_once_written_by_its_record() {
    on_both(|server| async move {
        let ada = server.as_role(Role::Administrator).await;
        let receiver = Receiver::start().await;
        let (all, secret) = add(&ada, "all", &receiver.url, json!(["*"])).await;
        let (ends, _) = add(&ada, "ends", &format!("{}/ends", receiver.url), json!(["call.ended"])).await;
        tell(&server, "call.started", "c1");
        tell(&server, "transcript.partial", "c1");
        tell(&server, "call.answered", "c1");
        // It comes with the record; what is told live of it goes to those who watch alone.
        tell(&server, "call.ended", "c1");
        end(&server, "c1").await;
        // Read anew it is known already.
        std::fs::write(server.folder.join("calls.jsonl"), "").unwrap();
        end(&server, "c1").await;
        let dispatcher = Dispatcher::new(server.control.clone(), World::real());
        for _ in 0..3 {
            dispatcher.deliver(&all).await.unwrap();
        }
        dispatcher.deliver(&ends).await.unwrap();
        assert_eq!(dispatcher.deliver(&all).await.unwrap() + dispatcher.deliver(&ends).await.unwrap(), 0);
        let came = receiver.came();
        let kinds: Vec<_> = came.iter().map(|message| message.json()["type"].as_str().unwrap().to_owned()).collect();
        assert_eq!(kinds, ["call.started", "call.answered", "call.ended", "call.ended"]);
        assert!(came[..3].iter().all(|message| message.is_signed(&secret) && message.path == "/hook"));
        assert!(!came[3].is_signed(&secret), "each has a secret of its own");
        assert_eq!(came[2].id, came[3].id, "one event, whoever is told");
        let ended = came[2].json();
        let mut record = ada.read("/call-records/c1").await;
        record.as_object_mut().unwrap().remove("record");
        assert_eq!((&ended["data"], &ended["timestamp"]), (&record, &json!("2026-11-01T10:00:00.000Z")));
        assert_eq!(came[0].json()["data"], json!({ "state": "up", "call": "c1" }));
        let path = format!("/webhooks/{all}/deliveries");
        let page = ada.read(&format!("{path}?event=call.ended&state=delivered")).await;
        let only = &page["items"][0];
        assert_eq!(
            (&only["message"], &only["attempts"], &only["last_status"]),
            (&json!(came[2].id), &json!(1), &json!(204))
        );
        assert_eq!((&only["next_at"], page["items"].as_array().unwrap().len()), (&Value::Null, 1));
        for query in ["state=lost", "event=call.died", "limit=0", "colour=red"] {
            let field = query.split('=').next().unwrap().to_owned();
            assert_eq!(wrong(ada.get(&format!("{path}?{query}")).await).await, (422, vec![field]), "{query}");
        }
        let first = ada.read(&format!("{path}?limit=2")).await;
        let next = ada.read(&format!("{path}?limit=2&after={}", first["next"].as_str().unwrap())).await;
        assert_eq!((next["items"].as_array().unwrap().len(), &next["next"]), (1, &Value::Null));
    })
    .await;
}

#[tokio::test]
async fn what_is_not_taken_is_tried_again_with_the_same_id_until_it_is_dead_and_can_be_replayed() {
    on_both(|server| async move {
        let ada = server.as_role(Role::Administrator).await;
        let (receiver, clock) = (Receiver::start().await, Clock::new());
        let (id, secret) = add(&ada, "crm", &receiver.url, json!(["*"])).await;
        let dispatcher = Dispatcher::new(server.control.clone(), clock.world(|| 0.5));
        tell(&server, "call.started", "c1");
        end(&server, "c1").await;
        receiver.answer(|message| {
            if message.body.contains("call.started") { Status::BAD_GATEWAY } else { Status::OK }.into_response()
        });
        for (attempt, wait) in RETRIES_S.into_iter().enumerate() {
            assert_eq!(dispatcher.deliver(&id).await.unwrap(), 1, "attempt {attempt}");
            assert_eq!(dispatcher.deliver(&id).await.unwrap(), 0, "what follows in the call waits");
            clock.go(wait - 1);
            assert_eq!(dispatcher.deliver(&id).await.unwrap(), 0, "not before its time");
            clock.go(1);
        }
        assert_eq!(dispatcher.deliver(&id).await.unwrap(), 1);
        assert_eq!(ada.read(&format!("/webhooks/{id}")).await["state"], "failing");
        clock.go(600);
        assert_eq!(dispatcher.deliver(&id).await.unwrap(), 1, "the first is dead: the next may go");
        assert_eq!(ada.read(&format!("/webhooks/{id}")).await["state"], "healthy");
        let came = receiver.came();
        assert_eq!(came.len(), RETRIES_S.len() + 2);
        let (last, started) = came.split_last().unwrap();
        assert_eq!((last.json()["type"].as_str(), last.is_signed(&secret)), (Some("call.ended"), true));
        assert_eq!(started.iter().map(|message| &message.id).collect::<HashSet<_>>().len(), 1);
        assert_eq!(started.iter().map(|message| &message.body).collect::<HashSet<_>>().len(), 1);
        assert!(started.iter().all(|message| message.is_signed(&secret)), "each time with its own time");
        assert!(started.is_sorted_by(|a, b| a.seconds < b.seconds));
        let want = [("call.ended", "delivered"), ("call.started", "dead")]
            .map(|(kind, state)| (kind.to_owned(), state.to_owned()));
        assert_eq!(states(&ada, &id).await, want);
        let dead = ada.read(&format!("/webhooks/{id}/deliveries?state=dead")).await["items"][0].clone();
        assert_eq!(
            (&dead["attempts"], &dead["last_status"], &dead["last_error"]),
            (&json!(10), &json!(502), &json!("it answers 502"))
        );
        // Sent again, one by one or all.
        receiver.answer_with(200);
        clock.go(60);
        let replay = format!("/webhooks/{id}/deliveries/{}/replay", dead["id"].as_str().unwrap());
        let again = ada.post(&replay, json!({})).await;
        assert_eq!(again.status(), StatusCode::ACCEPTED);
        assert_eq!(body(again).await["state"], "pending");
        assert_eq!(wrong(ada.post(&replay, json!({})).await).await.0, 409, "it is on its way");
        assert_eq!(wrong(ada.post(&format!("/webhooks/{id}/deliveries/none/replay"), json!({})).await).await.0, 404);
        assert_eq!(dispatcher.deliver(&id).await.unwrap(), 1);
        assert_eq!(receiver.came().last().unwrap().id, started[0].id);
        assert!(states(&ada, &id).await.iter().all(|(_, state)| state == "delivered"));
    })
    .await;
}

#[tokio::test]
async fn all_that_is_dead_since_a_time_comes_back_at_once() {
    on_both(|server| async move {
        let ada = server.as_role(Role::Administrator).await;
        let (receiver, clock) = (Receiver::start().await, Clock::new());
        let (id, _) = add(&ada, "crm", &receiver.url, json!(["call.ended"])).await;
        let dispatcher = Dispatcher::new(server.control.clone(), clock.world(|| 0.5));
        for call in ["c1", "c2", "c3"] {
            end(&server, call).await;
        }
        receiver.answer_with(410);
        assert_eq!(dispatcher.deliver(&id).await.unwrap(), 3);
        let gone = ada.read(&format!("/webhooks/{id}")).await;
        assert_eq!((&gone["state"], &gone["enabled"]), (&json!("disabled"), &json!(false)));
        assert!(gone["disabled_why"].as_str().unwrap().contains("410"));
        assert!(ada.read("/audit").await.to_string().contains("webhook.disable"));
        let told = server.control.live.take_told(10);
        assert_eq!((told.len(), told[0].kind), (1, "webhook.disabled"));
        end(&server, "c4").await;
        assert_eq!(dispatcher.deliver(&id).await.unwrap(), 0, "one that is switched off is told nothing");
        assert_eq!(states(&ada, &id).await.len(), 3);
        let since = |at: Moment| json!({ "since": at });
        let replay = format!("/webhooks/{id}/replay");
        assert_eq!(wrong(ada.post(&replay, since(Moment(0))).await).await.0, 409);
        assert_eq!(ada.patch(&format!("/webhooks/{id}"), json!({ "enabled": true })).await.status(), StatusCode::OK);
        assert_eq!(wrong(ada.post(&replay, json!({ "since": "yesterday" })).await).await, (422, vec!["since".into()]));
        assert_eq!(body(ada.post(&replay, since(Moment::now().after_s(60))).await).await["replayed"], 0);
        assert_eq!(body(ada.post(&replay, since(Moment(0))).await).await["replayed"], 3);
        receiver.answer_with(200);
        clock.go(60);
        assert_eq!(dispatcher.deliver(&id).await.unwrap(), 3);
    })
    .await;
}

#[tokio::test]
async fn an_endpoint_that_fails_for_days_is_switched_off_and_one_that_asks_for_time_has_it() {
    on_both(|server| async move {
        let ada = server.as_role(Role::Administrator).await;
        let (receiver, clock) = (Receiver::start().await, Clock::new());
        let (id, _) = add(&ada, "crm", &receiver.url, json!(["call.ended"])).await;
        let dispatcher = Dispatcher::new(server.control.clone(), clock.world(|| 0.5));
        end(&server, "c1").await;
        receiver.answer(|_| (Status::TOO_MANY_REQUESTS, [("retry-after", "3600")]).into_response());
        assert_eq!(dispatcher.deliver(&id).await.unwrap(), 1);
        end(&server, "c2").await;
        clock.go(3_599);
        assert_eq!(dispatcher.deliver(&id).await.unwrap(), 0, "nor is it told of anything else meanwhile");
        receiver.answer_with(500);
        clock.go(1);
        assert_eq!(dispatcher.deliver(&id).await.unwrap(), 2);
        clock.go(DISABLED_AFTER_S);
        end(&server, "c3").await;
        assert!(dispatcher.deliver(&id).await.unwrap() > 0);
        let off = ada.read(&format!("/webhooks/{id}")).await;
        assert_eq!(
            (&off["state"], &off["disabled_why"]),
            (&json!("disabled"), &json!("every delivery failed for five days"))
        );
        assert!(states(&ada, &id).await.iter().all(|(_, state)| state == "dead"));
    })
    .await;
}

#[tokio::test]
async fn a_secret_is_changed_with_a_day_in_which_both_sign() {
    on_both(|server| async move {
        let ada = server.as_role(Role::Administrator).await;
        let (receiver, clock) = (Receiver::start().await, Clock::new());
        let (id, old) = add(&ada, "crm", &receiver.url, json!(["call.ended"])).await;
        let dispatcher = Dispatcher::new(server.control.clone(), clock.world(|| 0.5));
        let rotated = body(ada.post(&format!("/webhooks/{id}/secret"), json!({})).await).await;
        let new = rotated["secret"].as_str().unwrap();
        let secrets = rotated["webhook"]["secrets"].as_array().unwrap();
        assert_eq!((secrets.len(), &secrets[0]["until"]), (2, &Value::Null));
        assert!(Moment::parse(secrets[1]["until"].as_str().unwrap()).unwrap() > Moment::now().after_s(86_000));
        end(&server, "c1").await;
        dispatcher.deliver(&id).await.unwrap();
        clock.go(86_400 + 60);
        end(&server, "c2").await;
        dispatcher.deliver(&id).await.unwrap();
        let came = receiver.came();
        assert_eq!(came.iter().map(|message| message.signatures.split(' ').count()).collect::<Vec<_>>(), [2, 1]);
        assert!(came.iter().all(|message| message.is_signed(new)));
        assert_eq!(came.iter().map(|message| message.is_signed(&old)).collect::<Vec<_>>(), [true, false]);
    })
    .await;
}

#[tokio::test]
async fn a_test_says_what_came_back_and_nothing_of_what_was_said() {
    on_both(|server| async move {
        let ada = server.as_role(Role::Administrator).await;
        let receiver = Receiver::start().await;
        let (id, secret) = add(&ada, "crm", &receiver.url, json!(["call.ended"])).await;
        let tested = body(ada.post(&format!("/webhooks/{id}/test"), json!({})).await).await;
        assert_eq!(
            (&tested["delivered"], &tested["status"], &tested["error"]),
            (&json!(true), &json!(204), &Value::Null)
        );
        let came = receiver.came();
        assert_eq!((came[0].json()["type"].as_str(), came[0].is_signed(&secret)), (Some("test"), true));
        receiver.answer(|_| {
            (Status::FOUND, [("location", "http://127.0.0.1:1/")], "the secret of an inside host").into_response()
        });
        let tested = ada.post(&format!("/webhooks/{id}/test"), json!({})).await.text().await.unwrap();
        assert!(
            tested.contains("302") && tested.contains("redirects are not followed") && !tested.contains("inside host"),
            "{tested}"
        );
        // Where nobody listens, and where a name leads to this very machine.
        let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        for (url, why) in [(format!("http://{closed}/"), "refused"), ("https://localhost/".to_owned(), "")] {
            ada.patch(&format!("/webhooks/{id}"), json!({ "url": url })).await;
            let tested = body(ada.post(&format!("/webhooks/{id}/test"), json!({})).await).await;
            assert_eq!((&tested["delivered"], &tested["status"]), (&json!(false), &Value::Null), "{url}");
            assert!(tested["error"].as_str().unwrap().contains(why), "{tested}");
        }
    })
    .await;
}

/// Which of a thousand times a number shows, from a seed that is printed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        f64::from(u32::try_from(self.0 >> 32).unwrap()) / f64::from(u32::MAX)
    }
}

const CALLS: usize = 2_500;
const ROUNDS: usize = 50;
const OUTAGE_S: i64 = 3_600;

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_events_through_an_outage_of_an_hour_arrive_in_order_of_each_call() {
    on_both(|server| async move {
        let seed = 20_261_129;
        eprintln!("seed {seed}");
        let ada = server.as_role(Role::Administrator).await;
        let (receiver, clock) = (Receiver::start().await, Clock::new());
        let (id, secret) = add(&ada, "crm", &receiver.url, json!(["*"])).await;
        let dice = std::sync::Mutex::new(Dice(seed));
        let dispatcher = Dispatcher::new(server.control.clone(), clock.world(move || dice.lock().unwrap().roll()));
        let (from, until) = (clock.now().after_s(600), clock.now().after_s(600 + OUTAGE_S));
        let hour = clock.clone();
        receiver.answer(move |_| {
            let is_out = (from..until).contains(&hour.now());
            if is_out { Status::SERVICE_UNAVAILABLE } else { Status::NO_CONTENT }.into_response()
        });
        // Two hours, in which calls come all the time; the outage is among them.
        let (mut round, mut idle) = (0, 0);
        while idle < 300 {
            if round < ROUNDS {
                let calls: Vec<String> = (0..CALLS / ROUNDS).map(|n| format!("call-{round:02}-{n:02}")).collect();
                for kind in ["call.started", "call.answered", "turn"] {
                    calls.iter().for_each(|call| tell(&server, kind, call));
                }
                let lines: Vec<_> =
                    calls.iter().map(|call| Server::line(call, "2026-11-01T10:00:00Z", json!({}))).collect();
                server.journal(&lines).await;
                round += 1;
            }
            let sent = server::drain(&dispatcher, &id).await;
            idle = if sent == 0 && round == ROUNDS && clock.now() > until { idle + 1 } else { 0 };
            clock.go(if round < ROUNDS { 100 } else { 7 });
        }
        let came = receiver.came();
        let (taken, refused): (Vec<_>, Vec<_>) = came.iter().partition(|message| message.status == 204);
        assert_eq!(taken.len(), CALLS * 4, "each once: nothing was sent again that had been taken");
        assert_eq!(taken.iter().map(|message| &message.id).collect::<HashSet<_>>().len(), CALLS * 4);
        assert!(taken.iter().all(|message| message.is_signed(&secret)));
        let mut places = std::collections::HashMap::<String, Vec<String>>::new();
        for message in &taken {
            let (json, text) = (message.json(), |value: &Value| value.as_str().unwrap().to_owned());
            places.entry(text(&json["data"]["call"])).or_default().push(text(&json["type"]));
        }
        assert_eq!(places.len(), CALLS);
        for (call, kinds) in places {
            assert_eq!(kinds, ["call.started", "call.answered", "turn", "call.ended"], "{call}");
        }
        // Sixteen at once find out, and one after another from then on.
        let limit = usize::try_from(AT_ONCE + OUTAGE_S / 100).unwrap() + 10;
        assert!(!refused.is_empty() && refused.len() <= limit, "{} of at most {limit} were refused", refused.len());
        assert!(states(&ada, &id).await.iter().all(|(_, state)| state == "delivered"));
    })
    .await;
}
