//! Figures are kept with the calls: whatever came, was forgotten or went by its age, they are what counting the calls anew gives. On both
//! databases.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/server.rs"]
mod server;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use control::Options;
use control::identity::Role;
use control::retention::{Retention, sweep};
use control::store::figures::{FigureFilter, Figures, Span, Spread};
use control::store::records::{CallRecord, RecordFilter, Visible};
use control::time::Moment;
use reqwest::StatusCode;
use serde_json::{Value, json};
use server::{Asker, Server, on_both};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
const BEGIN_MS: i64 = 20_400 * DAY_MS;
const DAYS: i64 = 6;
/// Whoever is forgotten; the first is an agent's name too.
const PEOPLE: [&str; 3] = ["sip:alice@host", "+4930123456", "+4930123457"];

/// Numbers by a seed.
struct Picks(u64);

impl Picks {
    fn pick(&mut self, of: u64) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % of
    }

    fn of<'a>(&mut self, some: &[&'a str]) -> &'a str {
        some[usize::try_from(self.pick(some.len() as u64)).unwrap()]
    }

    fn up_to(&mut self, limit: i64) -> i64 {
        i64::try_from(self.pick(limit.unsigned_abs())).unwrap()
    }

    /// A call; many are alike in all that is counted.
    fn call(&mut self, n: usize) -> Value {
        let at = match self.pick(4) {
            // The first and the last millisecond of a day.
            0 => BEGIN_MS + self.up_to(DAYS) * DAY_MS - self.up_to(2),
            1 => BEGIN_MS + self.up_to(DAYS) * DAY_MS + 7 * HOUR_MS,
            _ => BEGIN_MS + self.up_to(DAYS * DAY_MS),
        };
        let answered = (self.pick(3) > 0).then(|| Moment(at + self.up_to(4) * 5_000).to_string());
        let (class, reason) = [
            ("ok", "caller_hung_up"),
            ("ok", "caller_cancelled"),
            ("ok", "transferred"),
            ("our_fault", "internal"),
            ("caller_fault", "unknown_number"),
            ("upstream_fault", "busy"),
            ("unknown", "peer_lost"),
        ][usize::try_from(self.pick(7)).unwrap()];
        let legs: Vec<_> = (0..self.pick(3)).map(|_| json!({ "label": format!("device d{}", self.pick(4)) })).collect();
        let gap = [json!(null), json!(250.0), json!(333.25), json!(0.1 + 0.2)][usize::try_from(self.pick(4)).unwrap()]
            .clone();
        let turns =
            json!([{ "index": 0, "who": "agent", "text": "hello", "started_ms": 0.0, "ended_ms": 1.0, "gap_ms": gap }]);
        let mos =
            [json!(null), json!({ "mos_in": 3.6 }), json!({ "mos_in": 3.599 }), json!({ "mos_in": 4.123_456_789 })]
                [usize::try_from(self.pick(4)).unwrap()]
            .clone();
        let from = if self.pick(8) == 0 { self.of(&PEOPLE) } else { "+49409" };
        let from = if from.starts_with("sip:") { from.to_owned() } else { format!("sip:{from}@host") };
        json!({
            "call": format!("k{n:05}"), "started_at": Moment(at).to_string(), "answered_at": answered, "ended_at": Moment(at + 60_000).to_string(),
            "duration_ms": if answered.is_some() { self.up_to(6) * 30_000 } else { 0 }, "direction": self.of(&["inbound", "outbound"]),
            "from": from, "to": "sip:agent@host", "target": self.of(&["desk", "alice", "echo"]), "end": { "class": class, "reason": reason },
            "legs": legs, "agent": { "turns": turns }, "media": mos, "recording": null
        })
    }
}

/// Figures counted from calls, by sorting.
fn anew(calls: &[&CallRecord]) -> Figures {
    let spread = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        let rank =
            |percent: usize| (0..values.len()).find(|at| (at + 1) * 100 >= values.len() * percent).map(|at| values[at]);
        Spread { mean: mean(&values), p50: rank(50), p95: rank(95) }
    };
    let count =
        |wanted: &dyn Fn(&CallRecord) -> bool| i64::try_from(calls.iter().filter(|call| wanted(call)).count()).unwrap();
    let scores: Vec<f64> = calls.iter().filter_map(|call| call.mos_in).collect();
    let mut figures = Figures {
        calls: count(&|_| true),
        answered: count(&|call| call.answered_at.is_some()),
        abandoned: count(&|call| call.answered_at.is_none() && call.reason == "caller_cancelled"),
        transfers: count(&|call| call.reason == "transferred"),
        talk_ms: calls.iter().map(|call| call.duration_ms).sum(),
        duration_ms: spread(
            calls.iter().filter(|call| call.answered_at.is_some()).map(|call| call.duration_ms as f64).collect(),
        ),
        answer_ms: spread(
            calls.iter().filter_map(|call| Some((call.answered_at?.0 - call.started_at.0) as f64)).collect(),
        ),
        gap_ms: spread(calls.iter().filter_map(|call| call.gap_ms).collect()),
        mos: mean(&scores),
        mos_below_3_6: mean(&scores.iter().map(|mos| f64::from(u8::from(*mos < 3.6))).collect::<Vec<_>>()),
        ..Figures::default()
    };
    figures.failed.caller_fault = count(&|call| call.class == "caller_fault");
    figures.failed.upstream_fault = count(&|call| call.class == "upstream_fault");
    figures.failed.our_fault = count(&|call| call.class == "our_fault");
    figures.failed.unknown = count(&|call| call.class == "unknown");
    figures
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The same but for the last digits of means, which depend on the order in which values were added up.
fn assert_same(mut found: Figures, mut expected: Figures, what: &str) {
    let means = |figures: &mut Figures| {
        let Figures { duration_ms, answer_ms, gap_ms, mos, mos_below_3_6, .. } = figures;
        [&mut duration_ms.mean, &mut answer_ms.mean, &mut gap_ms.mean, mos, mos_below_3_6].map(Option::take)
    };
    for (one, other) in means(&mut found).into_iter().zip(means(&mut expected)) {
        let (some, difference) = (one.is_some() == other.is_some(), one.unwrap_or(0.0) - other.unwrap_or(0.0));
        assert!(some && difference.abs() < 1e-6, "{what}: {one:?}, {other:?}");
    }
    assert_eq!(found, expected, "{what}");
}

fn grouped(calls: &[&CallRecord], keys: impl Fn(&CallRecord) -> Vec<String>) -> Vec<(String, Figures)> {
    let mut groups: BTreeMap<String, Vec<&CallRecord>> = BTreeMap::new();
    for call in calls {
        keys(call).into_iter().for_each(|key| groups.entry(key).or_default().push(call));
    }
    let mut groups: Vec<_> = groups.into_iter().map(|(name, calls)| (name, anew(&calls))).collect();
    groups.sort_by_key(|(_, figures)| -figures.calls);
    groups
}

fn assert_groups(found: &[(String, Figures)], expected: &[(String, Figures)], what: &str) {
    let names = |groups: &[(String, Figures)]| groups.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(found), names(expected), "{what}");
    found
        .iter()
        .zip(expected)
        .for_each(|((name, one), (_, other))| assert_same(*one, *other, &format!("{what}, {name}")));
}

/// Compares what is kept with the calls that are there; `devices` has whose each is.
async fn compare(server: &Server, team: &str, devices: &HashMap<String, Vec<String>>, picks: &mut Picks) {
    let store = &server.control.store;
    let all = store.records(&Visible::All, &RecordFilter::default(), None, 100_000).await.unwrap();
    let in_team = |call: &CallRecord| devices[&call.call].iter().any(|device| device == "d0" || device == "d1");
    for turn in 0..8 {
        let from = Moment(BEGIN_MS - 3 + picks.up_to(2 * DAY_MS));
        let until = if turn == 0 {
            Moment(BEGIN_MS + 2 * DAYS * DAY_MS)
        } else {
            Moment(from.0 + 1 + picks.up_to(DAYS * DAY_MS))
        };
        let span = Span { from, until };
        let every = [HOUR_MS, DAY_MS, DAY_MS / 48 + 1][usize::try_from(picks.pick(3)).unwrap()];
        let steps: Vec<Span> = (0..)
            .map(|n| Span { from: Moment(from.0 + n * every), until: Moment(until.0.min(from.0 + (n + 1) * every)) })
            .take_while(|step| step.from < until)
            .collect();
        let filter = FigureFilter {
            direction: (picks.pick(3) == 0).then(|| "inbound".to_owned()),
            target: (picks.pick(3) == 0).then(|| picks.of(&["desk", "alice", "erased", "nobody"]).to_owned()),
        };
        let (visible, sees): (Visible, &dyn Fn(&CallRecord) -> bool) = match turn % 4 {
            0 => (Visible::All, &|_| true),
            1 => (Visible::Team(team.to_owned()), &in_team),
            2 => (Visible::Device("d2".into()), &|call| devices[&call.call].iter().any(|device| device == "d2")),
            _ => (Visible::None, &|_| false),
        };
        let calls: Vec<&CallRecord> = all
            .iter()
            .filter(|call| sees(call) && call.started_at >= from && call.started_at < until)
            .filter(|call| filter.direction.as_ref().is_none_or(|wanted| *wanted == call.direction))
            .filter(|call| filter.target.as_ref().is_none_or(|wanted| *wanted == call.target))
            .collect();
        let what = format!("{visible:?} {filter:?} {span:?} by {every}");
        let found = store.key_figures(&visible, &filter, span, &steps).await.unwrap();
        assert_same(found.total, anew(&calls), &what);
        for (step, figures) in steps.iter().zip(&found.steps) {
            let calls: Vec<_> = calls
                .iter()
                .copied()
                .filter(|call| call.started_at >= step.from && call.started_at < step.until)
                .collect();
            assert_same(*figures, anew(&calls), &format!("{what}, {step:?}"));
        }
        assert_eq!(found.steps.len(), steps.len());
        let by_target = grouped(&calls, |call| vec![call.target.clone()]);
        assert_groups(&found.targets, &by_target, &what);
        assert_groups(&store.figures_by_target(&visible, &filter, span).await.unwrap(), &by_target, &what);
        let theirs = |call: &CallRecord| {
            let own = |device: &&String| !matches!(&visible, Visible::Device(wanted) if *wanted != **device);
            devices[&call.call].iter().filter(own).cloned().collect()
        };
        assert_groups(
            &store.figures_by_device(&visible, &filter, span).await.unwrap(),
            &grouped(&calls, theirs),
            &what,
        );
    }
}

async fn forget(ada: &Asker, person: &str) {
    assert_eq!(ada.post("/people/erasure", json!({ "number": person })).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn figures_are_those_of_the_calls_whatever_came_and_went() {
    on_both(|server| async move {
        let seed = 20_261_130;
        eprintln!("seed {seed}");
        let mut picks = Picks(seed);
        let store = &server.control.store;
        let ada = server.as_role(Role::Administrator).await;
        let team = store.add_team("Reception", Moment::now()).await.unwrap().id;
        for device in ["d0", "d1"] {
            server.user(device, Role::Operator, Some(&team), Some(device)).await;
        }
        let (mut lines, mut devices) = (Vec::<String>::new(), HashMap::new());
        for round in 0..12_i64 {
            match picks.pick(4) {
                0 if round > 2 => forget(&ada, picks.of(&PEOPLE)).await,
                1 if round > 2 => {
                    let mut control = server.control.clone();
                    let retention = Retention { records_days: 1, ..Retention::default() };
                    control.options = Arc::new(Options { retention, ..(*control.options).clone() });
                    sweep(&control, Moment(BEGIN_MS + DAY_MS + round * DAY_MS / 4)).await.unwrap();
                }
                _ => {
                    // More than a part of a day holds, some of them come again.
                    let mut some: Vec<String> = lines.iter().rev().take(5).cloned().collect();
                    for _ in 0..picks.pick(900) {
                        let call = picks.call(devices.len());
                        let mut theirs: Vec<String> = call["legs"]
                            .as_array()
                            .unwrap()
                            .iter()
                            .map(|leg| leg["label"].as_str().unwrap()[7..].to_owned())
                            .collect();
                        theirs.sort();
                        theirs.dedup();
                        devices.insert(call["call"].as_str().unwrap().to_owned(), theirs);
                        some.push(call.to_string());
                    }
                    server.journal(&some).await;
                    lines.extend(some);
                }
            }
            compare(&server, &team, &devices, &mut picks).await;
        }
        assert!(store.count_records().await.unwrap() > 500);
        let kept = async || {
            sqlx::query_scalar::<_, i64>("SELECT COUNT(*) FROM call_figures").fetch_one(store.pool()).await.unwrap()
        };
        assert!(kept().await > 20);
        // The step of the schema that has them makes them of what is there.
        store.migrate_down(31).await.unwrap();
        store.migrate().await.unwrap();
        compare(&server, &team, &devices, &mut picks).await;
        // Nothing stays of calls that are gone.
        let mut control = server.control.clone();
        let retention = Retention { records_days: 1, ..Retention::default() };
        control.options = Arc::new(Options { retention, ..(*control.options).clone() });
        sweep(&control, Moment(BEGIN_MS + 99 * DAY_MS)).await.unwrap();
        assert_eq!((store.count_records().await.unwrap(), kept().await), (0, 0));
    })
    .await;
}
