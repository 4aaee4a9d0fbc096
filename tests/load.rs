//! `omnivox load`: calls whose sound comes back, calls that fail, and arguments that make no sense.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Server, omnivox, told};
use serde_json::Value;

fn load(server: &Server, uri: &str, more: &[&str]) -> (bool, Value) {
    let arguments = ["load", uri, "--set", "rtp.bind=127.0.0.1", "--json"];
    let output = omnivox(server.folder.path(), &[&arguments, more].concat());
    let figures = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", told(&output)));
    (output.status.success(), figures)
}

#[test]
fn each_call_hears_its_own_sound_and_no_other() {
    let server = Server::start(&["calls.record=false"]);
    let plot = server.folder.path().join("load.svg");
    let pid = server.process.id().to_string();
    let shape = ["--calls", "12", "--rate", "20", "--hold", "4", "--total", "16", "--watch", &pid];
    let (is_good, figures) =
        load(&server, &server.uri("echo"), &[&shape[..], &["--plot", plot.to_str().unwrap()]].concat());
    assert!(is_good, "{figures}");
    assert_eq!((&figures["placed"], &figures["good"]), (&16.into(), &16.into()), "{figures}");
    assert!(figures["bursts_sent"].as_u64().unwrap() >= 32, "{figures}");
    assert_eq!(
        (&figures["bursts_sent"], &figures["foreign_frames"]),
        (&figures["bursts_returned"], &0.into()),
        "{figures}"
    );
    assert!(figures["round_trip_ms"]["p50"].as_f64().unwrap() > 1.0, "{figures}");
    assert!(
        figures["mos_p50"].as_f64().unwrap() > 4.0 && figures["watched"]["cpu_s"].as_f64().unwrap() > 0.0,
        "{figures}"
    );
    let plot = std::fs::read_to_string(plot).unwrap();
    assert!(plot.starts_with("<svg") && plot.contains("polyline"), "{plot}");
    server.stop();
}

#[test]
fn calls_that_are_refused_or_hear_nothing_are_counted_by_their_reason() {
    let server = Server::start(&["calls.record=false"]);
    let (is_good, figures) = load(&server, &server.uri("nobody"), &["--calls", "3", "--rate", "50", "--hold", "1"]);
    assert!(!is_good && figures["failed"]["refused"] == 3, "{figures}");
    // The line hangs up after two seconds, and says nothing before.
    let (is_good, figures) = load(&server, &server.uri("bye"), &["--calls", "2", "--rate", "50", "--hold", "2"]);
    assert!(!is_good && figures["failed"]["sound_did_not_come_back"] == 2, "{figures}");
    let output = omnivox(server.folder.path(), &["load", &server.uri("echo"), "--calls", "0"]);
    assert!(!output.status.success() && told(&output).contains("--calls 0"), "{}", told(&output));
    server.stop();
}
