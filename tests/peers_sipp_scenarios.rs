//! sipp scenarios, one for each extension that a caller may use: sipp fails where an answer is not the one that the RFC has.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "common/phone.rs"]
mod phone;

use std::fmt::Write as _;
use std::process::{Command, Stdio};

use common::{Server, free_port};
use phone::Phone;

const SDP: &str = "v=0\no=- 1 1 IN IP4 127.0.0.1\ns=-\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio [media_port] RTP/AVP 0\n";

/// A scenario in the making: what sipp sends and what it must get.
struct Scenario {
    user: &'static str,
    xml: String,
    sequence: u32,
    /// The latest INVITE's.
    invited: u32,
}

impl Scenario {
    fn new(user: &'static str) -> Self {
        Self { user, xml: String::new(), sequence: 0, invited: 0 }
    }

    /// A request of the next CSeq; ACK and CANCEL have their INVITE's. Within the dialog once its To tag is known.
    fn send(mut self, method: &str, headers: &str, content_type: &str, body: &str) -> Self {
        let own = !matches!(method, "ACK" | "CANCEL");
        self.sequence += u32::from(own);
        if method == "INVITE" {
            self.invited = self.sequence;
        }
        let sequence = if own { self.sequence } else { self.invited };
        let tag = if method == "CANCEL" { "" } else { "[peer_tag_param]" };
        let branch = if method == "CANCEL" { "z9hG4bK-[pid]-[call_number]-0" } else { "[branch]" };
        let contact = if matches!(method, "ACK" | "BYE" | "CANCEL" | "PRACK") {
            ""
        } else {
            "Contact: <sip:sipp@[local_ip]:[local_port]>\n"
        };
        let kind = if body.is_empty() { String::new() } else { format!("Content-Type: {content_type}\n") };
        let _ = write!(
            self.xml,
            "<send retrans=\"500\"><![CDATA[\n{method} sip:{user}@[remote_ip]:[remote_port] SIP/2.0\n\
             Via: SIP/2.0/[transport] [local_ip]:[local_port];branch={branch};rport\nMax-Forwards: 70\n\
             From: <sip:sipp@[local_ip]:[local_port]>;tag=[pid]t[call_number]\nTo: <sip:{user}@[remote_ip]>{tag}\n\
             Call-ID: [call_id]\nCSeq: {sequence} {method}\n{contact}{headers}{kind}Content-Length: [len]\n\n{body}]]></send>\n",
            user = self.user,
        );
        if method == "ACK" {
            self.xml = self.xml.replacen("<send retrans=\"500\"><![CDATA[\nACK", "<send><![CDATA[\nACK", 1);
        }
        self
    }

    fn invite(self, headers: &str) -> Self {
        self.send("INVITE", headers, "application/sdp", SDP).optional(100)
    }

    /// An INVITE with this offer, the first or within the call, that is taken.
    fn offer(self, sdp: &str) -> Self {
        self.send("INVITE", "", "application/sdp", sdp).optional(100).expect(200, &[]).ack()
    }

    /// What may come before what must.
    fn optional(mut self, code: u16) -> Self {
        let _ = writeln!(self.xml, "<recv response=\"{code}\" optional=\"true\"/>");
        self
    }

    /// A response that must come, with headers that match these expressions.
    fn expect(mut self, code: u16, headers: &[(&str, &str)]) -> Self {
        let _ = write!(self.xml, "<recv response=\"{code}\" rtd=\"true\">");
        if !headers.is_empty() {
            self.xml.push_str("<action>");
            for (at, (header, expression)) in headers.iter().enumerate() {
                let _ = write!(
                    self.xml,
                    "<ereg regexp=\"{expression}\" search_in=\"hdr\" header=\"{header}:\" check_it=\"true\" assign_to=\"{code}{at}\"/>"
                );
            }
            self.xml.push_str("</action>");
        }
        self.xml.push_str("</recv>\n");
        for at in 0..headers.len() {
            let _ = writeln!(self.xml, "<Reference variables=\"{code}{at}\"/>");
        }
        self
    }

    fn ack(self) -> Self {
        self.send("ACK", "", "", "")
    }

    fn bye(self) -> Self {
        self.send("BYE", "", "", "").expect(200, &[])
    }

    /// A request that must come; it is answered.
    fn answer(mut self, method: &str) -> Self {
        let _ = write!(
            self.xml,
            "<recv request=\"{method}\"/>\n<send><![CDATA[\nSIP/2.0 200 OK\n[last_Via:]\n[last_From:]\n[last_To:]\n[last_Call-ID:]\n[last_CSeq:]\n\
             Content-Length: 0\n\n]]></send>\n"
        );
        self
    }

    fn pause(mut self, ms: u32) -> Self {
        let _ = writeln!(self.xml, "<pause milliseconds=\"{ms}\"/>");
        self
    }

    fn run(self, server: &Server, name: &str) {
        self.run_over(server, name, "u1");
    }

    fn run_over(self, server: &Server, name: &str, transport: &str) {
        self.run_from(server, name, transport, "127.0.0.1");
    }

    fn run_from(self, server: &Server, name: &str, transport: &str, address: &str) {
        let path = server.folder.path().join(format!("{name}.xml"));
        // sipp wants every variable's reference behind the steps.
        let (references, steps): (Vec<&str>, Vec<&str>) =
            self.xml.lines().partition(|line| line.starts_with("<Reference"));
        let text = format!(
            "<?xml version=\"1.0\" encoding=\"ISO-8859-1\" ?>\n<scenario name=\"{name}\">\n{}\n{}\n</scenario>\n",
            steps.join("\n"),
            references.join("\n")
        );
        std::fs::write(&path, text).unwrap();
        let output = Command::new("sipp")
            .arg("-sf")
            .arg(&path)
            .args(["-nostdin", "-t", transport, "-i", address, "-m", "1", "-timeout", "20s", "-timeout_error"])
            .args(["-p", &free_port().to_string(), "-mp", &free_port().to_string()])
            .args(["-trace_err", "-error_file", &format!("{name}.err")])
            .arg(server.sip.to_string())
            .current_dir(server.folder.path())
            .stdin(Stdio::null())
            .output()
            .expect("sipp is missing: scripts/test installs it");
        let errors = std::fs::read_to_string(server.folder.path().join(format!("{name}.err"))).unwrap_or_default();
        assert!(
            output.status.success(),
            "{name}: sipp ended with {}\n{errors}\n{}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr),
            server.process.stderr()
        );
    }
}

/// Conforms: RFC 3262 §3 — sipp requires reliable provisional responses, acknowledges one by PRACK, and gives up.
/// Conforms: RFC 3326 §2 — with a Reason.
#[test]
fn reliable_provisional_responses() {
    let server = Server::start(&[]);
    let prack = "RAck: [$rseq] 1 INVITE\n";
    let mut scenario = Scenario::new("ring").invite("Require: 100rel\n");
    scenario.xml.push_str(
        "<recv response=\"180\"><action><ereg regexp=\"[0-9]+\" search_in=\"hdr\" header=\"RSeq:\" check_it=\"true\" assign_to=\"rseq\"/>\
         <ereg regexp=\"100rel\" search_in=\"hdr\" header=\"Require:\" check_it=\"true\" assign_to=\"require\"/></action></recv>\n\
         <Reference variables=\"require\"/>\n",
    );
    scenario
        .send("PRACK", prack, "", "")
        .expect(200, &[])
        .send("CANCEL", "Reason: SIP;cause=600;text=\"Enough\"\n", "", "")
        .expect(200, &[])
        .expect(487, &[])
        .ack()
        .run(&server, "prack");
    assert_eq!(server.wait_for_records(1)[0]["end"]["reason"], "caller_cancelled");
    server.stop();
}

/// Conforms: RFC 4028 §9 — sipp asks for a session timer and refreshes by UPDATE; too short a one is refused.
/// Conforms: RFC 3311 §5.2 — an offer in UPDATE is answered.
#[test]
fn session_timers_and_update() {
    let server = Server::start(&["rtp.codecs=[\"PCMU\"]"]);
    Scenario::new("echo")
        .invite("Supported: timer\nSession-Expires: 60\n")
        .expect(422, &[("Min-SE", "90")])
        .ack()
        .run(&server, "short");
    let refresh = "Supported: timer\nSession-Expires: 120;refresher=uac\n";
    Scenario::new("echo")
        .invite(refresh)
        .expect(200, &[("Session-Expires", "120;refresher=uac"), ("Require", "timer"), ("Allow", "UPDATE")])
        .ack()
        .send("UPDATE", refresh, "", "")
        .expect(200, &[("Session-Expires", "120;refresher=uac")])
        .send("UPDATE", "", "application/sdp", SDP)
        .expect(200, &[("Content-Type", "application/sdp")])
        .bye()
        .run(&server, "timer");
    server.stop();
}

/// Conforms: RFC 3261 §14.2 — sipp puts the call on hold and takes it back; a late offer, INFO, OPTIONS in and outside of calls.
#[test]
fn what_happens_within_a_call() {
    let server = Server::start(&["rtp.codecs=[\"PCMU\"]"]);
    let held = SDP.replace("t=0 0\n", "t=0 0\na=sendonly\n").replace("o=- 1 1", "o=- 1 2");
    Scenario::new("echo")
        .invite("")
        .expect(200, &[])
        .ack()
        .offer(&held)
        .send("INFO", "", "application/dtmf-relay", "Signal=5\nDuration=160\n")
        .expect(200, &[])
        .send("OPTIONS", "", "", "")
        .expect(200, &[("Accept", "application/sdp")])
        .bye()
        .run(&server, "hold");
    Scenario::new("echo")
        .send("OPTIONS", "", "", "")
        .expect(200, &[("Allow", "PRACK, UPDATE")])
        .run(&server, "options");
    // A late offer: ours is in the 200, the answer in the ACK.
    Scenario::new("echo")
        .send("INVITE", "", "", "")
        .optional(100)
        .expect(200, &[("Content-Type", "application/sdp")])
        .send("ACK", "", "application/sdp", SDP)
        .bye()
        .run(&server, "late-offer");
    server.stop();
}

/// Conforms: RFC 6337 §5.3 — a hold, and its end that comes as a re-INVITE without an offer (as some PBXs do it): whom it holds hears music in between.
#[test]
fn a_hold_is_taken_back_by_a_late_offer() {
    const CARRIER: &str = r#"
[[devices]]
user = "bob"
password = "b"

[[trunks]]
name = "carrier"
hosts = ["127.0.0.9"]
addresses = ["127.0.0.9"]
ping_s = 0

[[routes]]
from = ["trunk carrier"]
to = "user bob"
"#;
    let server = Server::start_with(CARRIER, tempfile::tempdir().unwrap(), &["rtp.codecs=[\"PCMU\"]"]);
    let sdp = SDP.replace("127.0.0.1", "127.0.0.9");
    let held = sdp.replace("t=0 0\n", "t=0 0\na=sendonly\n").replace("o=- 1 1", "o=- 1 2");
    let resumed = sdp.replace("o=- 1 1", "o=- 1 3");
    // Bob writes once he has heard what he should, and hangs up once he does not hear it any more.
    let scenario = Scenario::new("+4930123")
        .send("INVITE", "", "application/sdp", &sdp)
        .optional(100)
        .optional(180)
        .expect(200, &[])
        .ack()
        .offer(&held)
        .answer("MESSAGE")
        .send("INVITE", "", "", "")
        .optional(100)
        .expect(200, &[("Content-Type", "application/sdp")])
        .send("ACK", "", "application/sdp", &resumed)
        .answer("BYE");
    let mut bob = Phone::register(server.sip, "bob", "b", 1_000.0);
    std::thread::scope(|scope| {
        let sipp = scope.spawn(|| scenario.run_from(&server, "late-resume", "u1", "127.0.0.9"));
        let call = bob.pick_up();
        bob.wait_for_sound(call);
        bob.write_in(call, "music");
        bob.wait_for_silence(call);
        bob.hang_up(call);
        sipp.join().unwrap();
    });
    server.stop();
}

/// Conforms: RFC 3264 §8.4 — an agent that is put on hold waits, however long and whatever comes, and says its sentence anew afterwards.
#[test]
fn an_agent_on_hold_waits() {
    // sipp sends no sound: on hold that is nobody's end, before and after it is.
    let server = Server::start(&["rtp.codecs=[\"PCMU\"]", "rtp.timeout_s=5"]);
    let held = SDP.replace("t=0 0\n", "t=0 0\na=sendonly\n").replace("o=- 1 1", "o=- 1 2");
    Scenario::new("agent")
        .invite("")
        .expect(200, &[])
        .ack()
        .pause(1_000)
        .offer(&held)
        .pause(9_000)
        .offer(&SDP.replace("o=- 1 1", "o=- 1 3"))
        .answer("BYE")
        .run(&server, "agent-hold");
    let record = &server.wait_for_records(1)[0];
    assert_eq!(record["end"]["reason"], "media_timeout");
    let turns = record["agent"]["turns"].as_array().unwrap();
    let [greeting] = turns.as_slice() else { unreachable!("one turn: {turns:?}") };
    let (begun, over) = (greeting["started_ms"].as_f64().unwrap(), greeting["ended_ms"].as_f64().unwrap());
    assert!(begun < 2_000.0 && over > 10_000.0, "{greeting}");
    assert_eq!(greeting["interrupted"], false, "{greeting}");
    server.stop();
}

/// Conforms: RFC 3725 §4.1 — a controller calls an agent on behalf of somebody who is not there yet, with sound that goes nowhere: the agent waits.
#[test]
fn an_agent_waits_for_whom_it_is_called_for() {
    let server = Server::start(&["rtp.codecs=[\"PCMU\"]", "rtp.timeout_s=3"]);
    let nobody =
        [SDP.replace("t=0 0\n", "t=0 0\na=inactive\n"), SDP.replace("IN IP4 127.0.0.1\nt=", "IN IP4 0.0.0.0\nt=")];
    for (at, nobody) in nobody.iter().enumerate() {
        Scenario::new("agent")
            .offer(nobody)
            .pause(6_000)
            .offer(&SDP.replace("o=- 1 1", "o=- 1 2"))
            .answer("BYE")
            .run(&server, &format!("controller-{at}"));
        let record = &server.wait_for_records(at + 1)[at];
        assert_eq!(record["end"]["reason"], "media_timeout", "{record}");
        let greeting = &record["agent"]["turns"][0];
        let begun = greeting["started_ms"].as_f64().unwrap();
        assert!(begun > 5_500.0, "{greeting}");
    }
    server.stop();
}

/// Conforms: RFC 5621 §3.1 — sipp offers among other parts of a body; opaque headers of 8 KiB pass; what is not known is refused.
#[test]
fn unusual_messages() {
    let server = Server::start(&["rtp.codecs=[\"PCMU\"]"]);
    let parts = format!(
        "--part\nContent-Type: application/isup;version=itu-t92+\nContent-Disposition: signal;handling=optional\n\n0100\n--part\n\
         Content-Type: application/sdp\n\n{SDP}\n--part--\n"
    );
    Scenario::new("echo")
        .send("INVITE", "", "multipart/mixed;boundary=part", &parts)
        .optional(100)
        .expect(200, &[])
        .ack()
        .bye()
        .run(&server, "parts");
    let opaque = format!("User-to-User: {};encoding=hex\nX-Opaque: {}\n", "ab".repeat(64), "x".repeat(8_192));
    for transport in ["u1", "t1"] {
        let scenario = Scenario::new("echo").invite(&opaque).expect(200, &[]).ack().bye();
        scenario.run_over(&server, &format!("opaque-{transport}"), transport);
    }
    Scenario::new("echo")
        .invite("Require: telepathy\n")
        .expect(420, &[("Unsupported", "telepathy")])
        .ack()
        .run(&server, "require");
    Scenario::new("echo")
        .invite("Replaces: nobody;to-tag=1;from-tag=2\n")
        .expect(481, &[])
        .ack()
        .run(&server, "replaces");
    Scenario::new("echo").send("REFER", "Refer-To: <sip:a@127.0.0.1>\n", "", "").expect(405, &[]).run(&server, "refer");
    Scenario::new("echo")
        .send("PUBLISH", "Event: x\n", "", "")
        .expect(405, &[("Allow", "INVITE")])
        .run(&server, "publish");
    Scenario::new("echo").send("PRACK", "RAck: 1 1 INVITE\n", "", "").expect(481, &[]).run(&server, "stray-prack");
    server.stop();
}

/// Conforms: RFC 6665 §4.2.1 — sipp subscribes and writes without credentials: it is challenged, and learns of nobody.
#[test]
fn strangers_are_asked_who_they_are() {
    let devices = "[[devices]]\nuser = \"alice\"\npassword = \"a\"\n";
    let server = Server::start_with(devices, tempfile::tempdir().unwrap(), &[]);
    for user in ["alice", "nobody"] {
        let challenge = [("WWW-Authenticate", "Digest realm=")];
        Scenario::new(user)
            .send("SUBSCRIBE", "Event: dialog\nExpires: 60\n", "", "")
            .expect(401, &challenge)
            .run(&server, &format!("subscribe-{user}"));
        Scenario::new(user)
            .send("MESSAGE", "", "text/plain", "Hello")
            .expect(401, &challenge)
            .run(&server, &format!("message-{user}"));
    }
    Scenario::new("alice")
        .send("SUBSCRIBE", "Event: presence\n", "", "")
        .expect(489, &[("Allow-Events", "dialog")])
        .run(&server, "event");
    server.stop();
}
