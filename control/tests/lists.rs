//! Lists and searches of calls that have something in common, each of which many have: whichever lies further apart is walked. On both
//! databases.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/server.rs"]
mod server;

use control::store::records::{After, RecordFilter, Visible};
use control::time::Moment;
use serde_json::json;
use server::{Server, on_both};

/// More of somebody's than are looked at one by one.
const CALLS: u32 = 6_000;

#[derive(Debug, Clone)]
struct Made {
    at: i64,
    call: String,
    caller: &'static str,
    callee: &'static str,
    direction: &'static str,
}

/// Every other call is d0's.
fn made() -> Vec<Made> {
    let call = |n: u32| Made {
        // Some begin in the same millisecond.
        at: 1_790_000_000_000 + i64::from(n / 3) * 1_000,
        call: format!("c{:05}", n.wrapping_mul(7_919) % CALLS),
        caller: if n % 20 == 2 { "seldom" } else { "often" },
        callee: if n.is_multiple_of(3) { "sales" } else { "desk" },
        direction: if n.is_multiple_of(5) { "outbound" } else { "inbound" },
    };
    (0..CALLS).map(call).collect()
}

#[tokio::test]
async fn whoever_has_many_calls_finds_those_with_a_number_of_many() {
    on_both(|server| async move {
        let made = made();
        let lines: Vec<String> = made
            .iter()
            .enumerate()
            .map(|(n, call)| {
                let legs = if n % 2 == 0 { json!([{ "label": "device d0" }]) } else { json!([]) };
                let (from, to) = (format!("sip:{}@host", call.caller), format!("sip:{}@host", call.callee));
                let more = json!({ "legs": legs, "from": from, "to": to, "direction": call.direction });
                Server::line(&call.call, &Moment(call.at).to_string(), more)
            })
            .collect();
        server.journal(&lines).await;
        let store = &server.control.store;
        let visible = Visible::Device("d0".into());
        let some = |text: &str| Some(text.to_owned());
        let until = Some(Moment(made[5_500].at));
        for filter in [
            RecordFilter { caller: some("often"), ..Default::default() },
            RecordFilter { caller: some("seldom"), ..Default::default() },
            RecordFilter { caller: some("nobody"), ..Default::default() },
            RecordFilter { callee: some("desk"), direction: some("inbound"), ..Default::default() },
            RecordFilter { callee: some("sales"), direction: some("outbound"), ..Default::default() },
            RecordFilter { caller: some("often"), callee: some("sales"), ..Default::default() },
            RecordFilter { caller: some("seldom"), direction: some("inbound"), until, ..Default::default() },
        ] {
            let is = |wanted: &Option<String>, value: &str| wanted.as_ref().is_none_or(|wanted| wanted == value);
            let fits = |call: &Made| {
                is(&filter.caller, call.caller)
                    && is(&filter.callee, call.callee)
                    && is(&filter.direction, call.direction)
            };
            let mut wanted: Vec<(i64, String)> = made
                .iter()
                .step_by(2)
                .filter(|call| fits(call) && filter.until.is_none_or(|until| call.at < until.0))
                .map(|call| (call.at, call.call.clone()))
                .collect();
            wanted.sort_by(|a, b| b.cmp(a));
            let (mut seen, mut after) = (Vec::new(), None);
            loop {
                let page = store.records(&visible, &filter, after.as_ref(), 200).await.unwrap();
                after = page.last().map(|last| After { started_at: last.started_at.0, call: last.call.clone() });
                let is_last = page.len() < 200;
                seen.extend(page.into_iter().map(|call| (call.started_at.0, call.call)));
                if is_last {
                    break;
                }
            }
            assert_eq!(seen, wanted, "{filter:?}");
            assert_eq!(seen.is_empty(), filter.caller.as_deref() == Some("nobody"));
        }
    })
    .await;
}

#[tokio::test]
async fn words_are_found_among_calls_of_more_kinds_than_are_looked_for_one_by_one() {
    on_both(|server| async move {
        let targets: Vec<String> = (0..100).map(|n| format!("desk{n}")).collect();
        let words = ["yes table", "no table", "yes"];
        let is_d0 = |n: usize| n % 3 != 1;
        let direction = |n: usize| if n.is_multiple_of(2) { "outbound" } else { "inbound" };
        let lines: Vec<String> = (0..1_200)
            .map(|n| {
                let legs = if is_d0(n) { json!([{ "label": "device d0" }]) } else { json!([]) };
                let turn = json!({ "index": 0, "who": "caller", "text": words[n / 7 % 3], "started_ms": 0.0, "ended_ms": 1.0, "gap_ms": null });
                let more = json!({ "legs": legs, "target": targets[n % 100], "direction": direction(n), "agent": { "turns": [turn] } });
                Server::line(&format!("c{n:04}"), &Moment(1_790_000_000_000 + n as i64).to_string(), more)
            })
            .collect();
        server.journal(&lines).await;
        let store = &server.control.store;
        let some = |text: &str| Some(text.to_owned());
        let words_of = |words: &str| RecordFilter { words: some(words), ..Default::default() };
        for (filter, of_target) in [
            // A hundred kinds, fifty, one, and none.
            (RecordFilter { class: some("ok"), ..words_of("yes") }, None),
            (RecordFilter { class: some("ok"), direction: some("outbound"), ..words_of("table") }, None),
            (RecordFilter { target: some("desk8"), ..words_of("yes") }, Some(8)),
            (RecordFilter { target: some("desk8"), class: some("ok"), direction: some("outbound"), ..words_of("yes table") }, Some(8)),
            (RecordFilter { target: some("desk8"), direction: some("inbound"), ..words_of("yes") }, Some(8)),
            (RecordFilter { target: some("desk8"), class: some("none"), ..words_of("yes") }, Some(8)),
        ] {
            let fits = |n: usize| {
                is_d0(n)
                    && of_target.is_none_or(|target| n % 100 == target)
                    && filter.direction.as_deref().is_none_or(|wanted| wanted == direction(n))
                    && filter.class.as_deref() != Some("none")
                    && filter.words.iter().flat_map(|wanted| wanted.split(' ')).all(|word| words[n / 7 % 3].contains(word))
            };
            let wanted: Vec<String> = (0..1_200).rev().filter(|n| fits(*n)).map(|n| format!("c{n:04}")).collect();
            let found = store.records(&Visible::Device("d0".into()), &filter, None, 2_000).await.unwrap();
            assert_eq!(found.into_iter().map(|call| call.call).collect::<Vec<_>>(), wanted, "{filter:?}");
            let page = store.records(&Visible::Device("d0".into()), &filter, None, 2).await.unwrap();
            assert_eq!(page.into_iter().map(|call| call.call).collect::<Vec<_>>(), wanted[..wanted.len().min(2)], "{filter:?}");
        }
    })
    .await;
}
