//! Who waits for whom, and who is not to be called: real calls through a queue, and to a trunk, as the control plane shows and refuses them.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "common/phone.rs"]
mod phone;

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::process::{Command, Stdio};

use common::{OMNIVOX, PATIENCE, Server, wait_for};
use phone::Phone;
use serde_json::{Value, json};

const PASSWORD: &str = "walrus pedal quarry";

/// An agent that passes its callers on to a number, and says goodbye where that fails.
const PASSER: &str = "[agent]\nname = \"passer\"\n[ear]\nrecognizer = \"none\"\n[script]\nstart = \"pass\"\n[script.states.pass]\n\
    say = \"One moment.\"\ntransfer = \"+4930123456\"\ntransfer_failed = \"over\"\n[script.states.over]\nsay = \"Sorry.\"\nhang_up = \"goodbye\"\n";

/// Somebody who is logged in.
struct Person<'a> {
    server: &'a Server,
    cookie: String,
    csrf: String,
}

impl<'a> Person<'a> {
    fn log_in(server: &'a Server, name: &str) -> Self {
        let login = json!({ "name": name, "password": PASSWORD }).to_string();
        let (code, head, body) = ask(server, "POST", "/api/v1/session", &[], &login);
        assert_eq!(code, 201, "{body}");
        let cookie = head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
        let cookie = cookie.split(';').next().unwrap().to_owned();
        let body: Value = serde_json::from_str(&body).unwrap();
        Self { server, cookie, csrf: body["csrf"].as_str().unwrap().to_owned() }
    }

    fn send(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let headers = [("Cookie", self.cookie.as_str()), ("X-CSRF-Token", &self.csrf)];
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (code, _, body) = ask(self.server, method, &format!("/api/v1{path}"), &headers, &body);
        (code, serde_json::from_str(&body).unwrap_or_default())
    }

    fn read(&self, path: &str) -> Value {
        let (code, value) = self.send("GET", path, &Value::Null);
        assert_eq!(code, 200, "{path}: {value}");
        value
    }

    /// Reads a path until it is as wanted.
    fn wait(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let read = || Some(self.read(path)).filter(|value| wanted(value));
        wait_for(path, PATIENCE, read, || self.read(path).to_string())
    }
}

/// Sends a request; the answer's status, head and body.
fn ask(server: &Server, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(server.http).unwrap();
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", server.http);
    headers.iter().for_each(|(name, value)| text.push_str(&format!("{name}: {value}\r\n")));
    write!(stream, "{text}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), head.to_owned(), body.to_owned())
}

fn add_user(server: &Server, arguments: &[&str]) {
    let data = format!("data.dir={}", server.folder.path().join("data").display());
    let mut command = Command::new(OMNIVOX);
    command.current_dir(server.folder.path()).arg("user").arg("add").args(arguments).args(["--set", &data]);
    let mut adding = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    writeln!(adding.stdin.take().unwrap(), "{PASSWORD}").unwrap();
    assert!(adding.wait().unwrap().success());
}

fn server(trunk: &UdpSocket) -> Server {
    let config = format!(
        "[[devices]]\nuser = \"alice\"\npassword = \"a\"\n[[devices]]\nuser = \"bob\"\npassword = \"b\"\n[[devices]]\nuser = \"carol\"\npassword = \"c\"\n\
         [[trunks]]\nname = \"carrier\"\nhosts = [\"{}\"]\nping_s = 0\n\
         [[routes]]\nname = \"reception\"\ncalled = \"desk\"\nto = \"queue bob carol\"\nring = \"at_once\"\nfrom = [\"devices\"]\n\
         [[routes]]\ncalled = \"+*\"\nto = \"trunk carrier\"\nfrom = [\"devices\", \"agents\"]\n",
        trunk.local_addr().unwrap()
    );
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("agents")).unwrap();
    std::fs::write(folder.path().join("agents/passer.toml"), PASSER).unwrap();
    let server = Server::start_with(&config, folder, &["rtp.codecs=[\"PCMU\"]", "agents.dir=agents"]);
    server.wait_until_ready();
    add_user(&server, &["ada"]);
    add_user(&server, &["bob", "--role", "operator", "--device", "bob"]);
    server
}

#[test]
fn a_caller_waits_in_a_queue_until_somebody_answers_who_is_busy_then() {
    let trunk = UdpSocket::bind("127.0.0.9:0").unwrap();
    let server = server(&trunk);
    let [mut alice, mut bob, mut carol] = [("alice", "a", 437.5), ("bob", "b", 1_000.0), ("carol", "c", 1_500.0)]
        .map(|(user, password, tone)| Phone::register(server.sip, user, password, tone));
    let ada = Person::log_in(&server, "ada");
    let queue = |queues: &Value| queues["items"][0].clone();
    let before = queue(&ada.read("/queues"));
    assert_eq!((&before["name"], &before["members"]), (&json!("reception"), &json!(["bob", "carol"])));
    assert_eq!((&before["waiting"], &before["longest_wait_s"]), (&json!(0), &json!(0)));

    let call = alice.dial("desk", &[]);
    let (at_bob, _at_carol) = (bob.rings(), carol.rings());
    let waits = queue(&ada.wait("/queues", |queues| queues["items"][0]["ringing"] == 2));
    assert_eq!(waits["waiting"], 1);
    let bob_there = |state: &'static str| {
        move |people: &Value| {
            people["items"].as_array().unwrap().iter().any(|person| person["name"] == "bob" && person["state"] == state)
        }
    };
    assert!(bob_there("offline")(&ada.read("/presence")), "who is rung is in no call yet");
    bob.answer(at_bob);
    alice.wait_answered(call);
    assert_eq!(queue(&ada.wait("/queues", |queues| queues["items"][0]["waiting"] == 0))["ringing"], 0);
    ada.wait("/presence", bob_there("busy"));
    alice.hang_up(call);
    bob.ended(at_bob);
    ada.wait("/presence", bob_there("offline"));
    let record = server.wait_for_records(1).remove(0);
    assert_eq!(record["target"], "dial");
    server.stop();
}

#[test]
fn nobody_of_ours_calls_a_number_that_is_not_to_be_called() {
    let trunk = UdpSocket::bind("127.0.0.9:0").unwrap();
    trunk.set_read_timeout(Some(PATIENCE)).unwrap();
    let server = server(&trunk);
    let mut alice = Phone::register(server.sip, "alice", "a", 437.5);
    let ada = Person::log_in(&server, "ada");
    let entries = json!({ "entries": [{ "number": "+4930123456" }] });
    assert_eq!(ada.send("POST", "/do-not-call", &entries).0, 201);
    let refused = alice.dial("+4930123456", &[]);
    assert_eq!(alice.refused(refused), 403);
    let record = server.wait_for_records(1).remove(0);
    assert_eq!(record["end"]["reason"], "not_allowed");
    assert_eq!(record["end"]["detail"], "the number is on the do-not-call list");

    // The first that the carrier hears of is one that may be called.
    let _other = alice.dial("+4930123457", &[]);
    let mut datagram = [0; 4_096];
    let (size, _) = trunk.recv_from(&mut datagram).unwrap();
    let invite = String::from_utf8_lossy(&datagram[..size]).into_owned();
    assert!(invite.starts_with("INVITE sip:+4930123457@"), "{invite}");
    assert_eq!(ada.send("DELETE", "/do-not-call/+4930123456", &Value::Null).0, 204);
    let _dialled = alice.dial("+4930123456", &[]);
    loop {
        let (size, _) = trunk.recv_from(&mut datagram).unwrap();
        if datagram[..size].starts_with(b"INVITE sip:+4930123456@") {
            break;
        }
    }
    server.stop();
}

#[test]
fn whoever_passes_a_call_on_to_a_number_that_is_not_to_be_called_is_told_so() {
    let trunk = UdpSocket::bind("127.0.0.9:0").unwrap();
    trunk.set_nonblocking(true).unwrap();
    let server = server(&trunk);
    // Alice is silent: a hum in which packets are missing, where the machine has no time for them, sounds like speech, and an agent lets a
    // caller finish.
    let [mut alice, mut bob] = [("alice", "a", 0.0), ("bob", "b", 1_000.0)]
        .map(|(user, word, tone)| Phone::register(server.sip, user, word, tone));
    let ada = Person::log_in(&server, "ada");
    let entries = json!({ "entries": [{ "number": "+4930123456" }] });
    assert_eq!(ada.send("POST", "/do-not-call", &entries).0, 201);

    // A phone, in a call that goes on.
    let call = alice.dial("bob", &[]);
    let at_bob = bob.pick_up();
    alice.wait_answered(call);
    let (taken, report) = alice.refer(call, "sip:+4930123456@127.0.0.1");
    assert_eq!(report.unwrap_or(taken), 403);
    alice.wait_to_hear(call, &[1_000.0], &[]);
    alice.hang_up(call);
    bob.ended(at_bob);
    // A program.
    let order = json!({ "to": "+4930123456", "connect_with": "echo" });
    let (code, problem) = ada.send("POST", "/calls", &order);
    assert_eq!((code, problem["errors"][0]["field"].as_str()), (422, Some("to")), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("do-not-call list"), "{problem}");
    // An agent, which goes on with what it has for that.
    let call = alice.call("passer");
    alice.ended(call);
    let records = server.wait_for_records(2);
    let turns =
        records.iter().find(|record| record["target"] == "agent:passer" || record["agent"].is_object()).unwrap();
    let said = turns["agent"]["turns"].to_string();
    assert!(said.contains("Sorry."), "{turns}");
    assert!(trunk.recv(&mut [0; 64]).is_err(), "the carrier hears of none");
    server.stop();
}
