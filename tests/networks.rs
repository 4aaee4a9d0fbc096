//! Many calls at once over bad networks, signalling and sound alike: each is set up and torn down, and nothing is left of it.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "common/relay.rs"]
mod relay;

use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::Duration;

use common::{OMNIVOX, PATIENCE, Running, Server, wait_for};
use relay::{Relay, Weather};
use serde_json::Value;

/// Calls of each network, all at once.
const CALLS: u64 = 12;
/// A transaction may take 32 s to get through (RFC 3261, timers B and F), and a call has two.
const CALL_TAKES: Duration = Duration::from_secs(100);

/// A call through a network of its own.
struct Call {
    relay: Relay,
    softphone: Running,
    folder: tempfile::TempDir,
}

fn call(server: &Server, weather: Weather) -> Call {
    let relay = Relay::start(server.sip, weather);
    let folder = tempfile::tempdir().unwrap();
    let uri = format!("sip:echo@{}", relay.address);
    let mut command = Command::new(OMNIVOX);
    command.current_dir(folder.path()).args(["call", &uri, "--json", "--duration", "2", "--answer-within", "40"]);
    Call { relay, softphone: Running::start(&mut command), folder }
}

/// The figure of that name.
fn metric(server: &Server, name: &str) -> Option<f64> {
    let (_, text) = server.get("/metrics");
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

#[test]
fn every_call_is_set_up_and_torn_down_over_any_network_and_nothing_is_left_of_it() {
    let lossy = Weather { loss_percent: 20, sip_loss_percent: 20, ..Weather::default() };
    let bursty = Weather { burst: 4, ..lossy };
    let jittery = Weather { loss_percent: 5, sip_loss_percent: 5, jitter_ms: 120, ..Weather::default() };
    let server = Server::start(&[]);
    server.wait_until_ready();
    let mut calls = Vec::new();
    for (n, weather) in [lossy, bursty, jittery].into_iter().enumerate() {
        for seed in 0..CALLS {
            calls.push(call(&server, Weather { seed: 1_000 * n as u64 + seed, ..weather }));
        }
    }
    let mut lost = [0, 0];
    for Call { relay, softphone, folder } in &mut calls {
        let seen = softphone.wait(CALL_TAKES);
        let said: Value = serde_json::from_str(&softphone.stdout()).unwrap_or_default();
        assert!(seen.success(), "{}: {said}\n{}", folder.path().display(), softphone.stderr());
        assert_eq!(said["end"]["class"], "ok", "{said}");
        lost[0] += relay.counts().sip_lost.load(Ordering::Relaxed);
        lost[1] += relay.counts().lost.load(Ordering::Relaxed);
    }
    println!("lost: {} messages and {} packets of {} calls", lost[0], lost[1], calls.len());
    assert!(
        lost[0] as usize > calls.len() / 2 && lost[1] as usize > 10 * calls.len(),
        "the weather was good: {lost:?}"
    );
    let records = server.wait_for_records(calls.len());
    assert_eq!(records.len(), calls.len(), "as many calls as were placed");
    for record in records {
        assert_eq!(record["end"]["reason"], "caller_hung_up", "{record}");
    }
    for gauge in [
        "omnivox_calls",
        "omnivox_media_legs",
        "omnivox_media_rooms",
        "omnivox_sip_dialogs",
        "omnivox_sip_transactions",
    ] {
        wait_for(gauge, PATIENCE, || (metric(&server, gauge)? == 0.0).then_some(()), || server.get("/metrics").1);
    }
    server.stop();
}
