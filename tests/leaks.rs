//! A caller that vanishes at any step of a call leaves nothing behind: no dialog, transaction, connection, leg or room.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use common::{PATIENCE, Server, wait_for};

const SDP: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";

fn request(server: &Server, call: &str, method: &str, to_tag: &str, body: &str) -> String {
    let sequence = if method == "BYE" { 2 } else { 1 };
    let content = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
    format!(
        "{method} sip:echo@{at} SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1:9;branch=z9hG4bK{call}{method}{to_tag}\r\nMax-Forwards: 70\r\n\
         From: <sip:t@127.0.0.1>;tag=1\r\nTo: <sip:echo@{at}>{to_tag}\r\nCall-ID: {call}\r\nCSeq: {sequence} {method}\r\n\
         Contact: <sip:t@127.0.0.1:9;transport=tcp>\r\n{content}Content-Length: {}\r\n\r\n{body}",
        body.len(),
        at = server.sip,
    )
}

/// Reads until the text holds `end`; the tag of the answer's To.
fn read_until(stream: &mut TcpStream, end: &str) -> String {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut text = String::new();
    while !text.contains(end) {
        let mut bytes = [0; 4_096];
        let size = stream.read(&mut bytes).unwrap();
        assert!(size > 0, "closed after {text}");
        text.push_str(&String::from_utf8_lossy(&bytes[..size]));
    }
    let to = text.lines().rev().find(|line| line.starts_with("To:")).unwrap();
    format!(";tag={}", to.split(";tag=").nth(1).unwrap())
}

#[test]
fn a_caller_that_vanishes_at_any_step_leaves_nothing_behind() {
    let server = Server::start(&["rtp.workers=1", "rtp.timeout_s=2"]);
    let connect = || TcpStream::connect(server.sip).unwrap();
    // Nothing sent; half a message; an INVITE; an answer taken; an ACK sent; a BYE that nobody hears the answer of.
    drop(connect());
    let mut half = connect();
    half.write_all(&request(&server, "half", "INVITE", "", SDP).as_bytes()[..100]).unwrap();
    drop(half);
    let mut asked = connect();
    asked.write_all(request(&server, "asked", "INVITE", "", SDP).as_bytes()).unwrap();
    drop(asked);
    let mut answered = connect();
    answered.write_all(request(&server, "answered", "INVITE", "", SDP).as_bytes()).unwrap();
    read_until(&mut answered, "SIP/2.0 200");
    drop(answered);
    for (call, says_goodbye) in [("acked", false), ("ended", true)] {
        let mut stream = connect();
        stream.write_all(request(&server, call, "INVITE", "", SDP).as_bytes()).unwrap();
        let tag = read_until(&mut stream, "SIP/2.0 200");
        stream.write_all(request(&server, call, "ACK", &tag, "").as_bytes()).unwrap();
        if says_goodbye {
            stream.write_all(request(&server, call, "BYE", &tag, "").as_bytes()).unwrap();
        }
        drop(stream);
    }
    // Four calls came to be, and each ends with a class and a reason.
    let records = server.wait_for_records(4);
    for record in &records {
        assert!(record["end"]["reason"].is_string(), "{record}");
    }
    let figures = || {
        let text = server.get("/metrics").1;
        let of = |name: &str| text.lines().find(|line| line.starts_with(&format!("{name} "))).map(str::to_owned);
        let names = [
            "omnivox_calls",
            "omnivox_sip_dialogs",
            "omnivox_sip_transactions",
            "omnivox_sip_connections",
            "omnivox_media_legs",
            "omnivox_media_rooms",
        ];
        names.map(|name| of(name).unwrap_or_else(|| format!("{name} is not told")))
    };
    // A transaction lingers for 32 s at the most (RFC 3261 section 17).
    wait_for(
        "everything back to nothing",
        PATIENCE + Duration::from_secs(60),
        || figures().iter().all(|line| line.ends_with(" 0")).then_some(()),
        || figures().join("\n"),
    );
    server.stop();
}

/// Resident memory of a process, in kB.
fn memory_kb(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn ten_thousand_invites_that_are_never_acknowledged_are_bounded_and_gone_within_32_seconds() {
    let server = Server::start(&["rtp.workers=1"]);
    // What agents listen and speak with is loaded behind the start, and is no part of the flood.
    server.wait_until_ready();
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let own = socket.local_addr().unwrap();
    let before = memory_kb(server.process.id());
    for n in 0..10_000 {
        let invite = request(&server, &format!("flood{n}"), "INVITE", "", SDP)
            .replace("sip:echo@", "sip:nobody@")
            .replace("SIP/2.0/TCP 127.0.0.1:9", &format!("SIP/2.0/UDP {own};rport"));
        socket.send_to(invite.as_bytes(), server.sip).unwrap();
    }
    let figure = |name: &str| {
        let text = server.get("/metrics").1;
        let line = text.lines().find(|line| line.starts_with(&format!("{name} "))).map(str::to_owned);
        line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).unwrap_or(-1.0)
    };
    wait_for(
        "the flood to be seen",
        PATIENCE,
        || (figure("omnivox_sip_transactions") > 1_000.0).then_some(()),
        || server.get("/metrics").1,
    );
    let during = memory_kb(server.process.id());
    // What is kept of a refused INVITE is its refusal, and what matches its ACK.
    assert!(during - before < 100_000, "{before} kB before, {during} kB during");
    // A call goes on through it.
    let call = common::omnivox(server.folder.path(), &["call", &server.uri("bye"), "--json"]);
    assert!(call.status.success(), "{}", common::told(&call));
    wait_for(
        "the flood to be gone",
        PATIENCE,
        || (figure("omnivox_sip_transactions") == 0.0).then_some(()),
        || server.get("/metrics").1,
    );
    server.stop();
}
