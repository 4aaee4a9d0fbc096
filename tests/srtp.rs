//! Protected sound end to end: the softphone and the server by every form that both have, and what is refused.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Server, free_port, omnivox, told};

/// Calls `user` with a tone to play, by the server's UDP listener unless `uri` says otherwise; the softphone's record.
fn call(server: &Server, uri: &str, srtp: &str) -> serde_json::Value {
    let call = ["call", uri, "--srtp", srtp, "--listen", "127.0.0.1:0", "--duration", "1.5", "--json"];
    let call = omnivox(server.folder.path(), &call);
    serde_json::from_slice(&call.stdout).unwrap_or_else(|_| panic!("{}", told(&call)))
}

#[test]
fn sound_comes_back_under_keys_from_signalling_and_from_a_handshake() {
    let server = Server::start(&["rtp.codecs=[\"PCMU\"]"]);
    for (number, srtp, expected) in
        [(1, "sdes", "sdes"), (2, "dtls", "dtls"), (3, "preferred", "none"), (4, "off", "none")]
    {
        let ours = call(&server, &server.uri("echo"), srtp);
        assert_eq!(ours["end"]["class"], "ok", "{srtp}: {ours}");
        let record = server.wait_for_records(number).pop().unwrap();
        assert_eq!((&ours["srtp"], &record["srtp"]), (&expected.into(), &expected.into()), "{srtp}: {record}");
        for record in [&ours, &record] {
            // Comfort noise takes the place of silence.
            assert!(record["media"]["packets_in"].as_u64().unwrap() > 5, "{srtp}: {record}");
            assert_eq!((&record["media"]["lost"], &record["media"]["bad_tags"]), (&0.into(), &0.into()), "{record}");
        }
    }
    server.stop();
}

#[test]
fn what_a_listener_requires_is_not_talked_down_and_what_is_off_is_refused() {
    let (open, closed) = (free_port(), free_port());
    let listen = format!("sip.listen=[\"udp:127.0.0.1:{open}\",\"udp:127.0.0.1:{closed};srtp=required\"]");
    let server = Server::start(&[&listen]);
    let uri = format!("sip:echo@127.0.0.1:{closed}");
    let refused = call(&server, &uri, "off");
    assert_eq!(refused["end"]["reason"], "refused", "{refused}");
    let record = server.wait_for_records(1).remove(0);
    assert_eq!(record["end"]["reason"], "not_acceptable", "{record}");
    assert!(record["end"]["detail"].as_str().unwrap().contains("would not be protected"), "{record}");
    assert_eq!(call(&server, &uri, "dtls")["end"]["class"], "ok");
    assert_eq!(call(&server, &format!("sip:echo@127.0.0.1:{open}"), "off")["end"]["class"], "ok");
    server.stop();
    let server = Server::start(&["rtp.srtp=off"]);
    let refused = call(&server, &server.uri("echo"), "sdes");
    assert_eq!(refused["end"]["reason"], "refused", "{refused}");
    server.stop();
}

#[test]
fn an_agent_greets_whoever_comes_by_handshake_once_there_are_keys() {
    let server = Server::start(&[]);
    server.wait_until_ready();
    let heard = server.folder.path().join("heard.wav");
    let uri = server.uri("agent");
    let arguments =
        ["call", &uri, "--srtp", "dtls", "--listen", "127.0.0.1:0", "--duration", "4", "--json", "--record"];
    let call = omnivox(server.folder.path(), &[&arguments[..], &[heard.to_str().unwrap()]].concat());
    assert!(call.status.success(), "{}", told(&call));
    let mut wav = hound::WavReader::open(&heard).unwrap();
    let left: Vec<i32> = wav.samples::<i16>().step_by(2).map(|sample| sample.unwrap().into()).collect();
    let loud = left.iter().filter(|sample| sample.abs() > 1_000).count();
    assert!(loud * 10 > left.len(), "the greeting is heard: {loud} of {}", left.len());
    server.stop();
}
