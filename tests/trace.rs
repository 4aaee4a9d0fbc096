//! The signalling of a call, looked at while the server runs.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Server, omnivox, told};

#[test]
fn a_calls_signalling_is_shown_as_a_ladder_and_as_a_capture() {
    let server = Server::start(&["rtp.workers=1"]);
    let folder = server.folder.path().to_owned();
    let call = omnivox(&folder, &["call", &server.uri("bye"), "--json"]);
    assert!(call.status.success(), "{}", told(&call));
    let record = server.wait_for_records(1).remove(0);
    let url = format!("http://{}", server.http);

    let latest = omnivox(&folder, &["trace", "--url", &url]);
    assert!(latest.status.success(), "{}", told(&latest));
    let ladder = String::from_utf8(latest.stdout.clone()).unwrap();
    for message in ["INVITE (SDP)", "200 OK (SDP)", "ACK", "BYE", "200 OK [BYE]"] {
        assert!(ladder.contains(message), "{message} is missing:\n{ladder}");
    }

    for id in [record["call"].as_str().unwrap(), record["sip_call_id"].as_str().unwrap()] {
        let by_id = omnivox(&folder, &["trace", id, "--url", &url]);
        assert_eq!(by_id.stdout, latest.stdout, "{id}: {}", told(&by_id));
    }

    let capture = omnivox(&folder, &["trace", "--url", &url, "--pcap", "call.pcap"]);
    assert!(capture.status.success(), "{}", told(&capture));
    let bytes = std::fs::read(folder.join("call.pcap")).unwrap();
    assert_eq!(bytes[..4], 0xa1b2_3c4d_u32.to_le_bytes());
    assert!(String::from_utf8_lossy(&bytes).contains("INVITE sip:bye@"));

    let unknown = omnivox(&folder, &["trace", "nothing", "--url", &url]);
    assert!(!unknown.status.success());
    assert!(told(&unknown).contains("nothing is kept of a call nothing"), "{}", told(&unknown));
    server.stop();
}

#[test]
fn a_calls_signalling_is_not_kept_where_that_is_switched_off() {
    let server = Server::start(&["rtp.workers=1", "trace.calls=0"]);
    omnivox(server.folder.path(), &["call", &server.uri("bye"), "--json"]);
    server.wait_for_records(1);
    assert_eq!(server.get("/calls/latest/trace").0, 404);
    server.stop();
}
