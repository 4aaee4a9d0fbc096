//! Lists of somebody's calls with a number, where both have many: whichever lies further apart is walked. On both databases.
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
