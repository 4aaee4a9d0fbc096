//! What carriers do with calls besides taking them: they send them on, and call the Contact that we registered.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "common/office.rs"]
mod office;
#[path = "common/phone.rs"]
mod phone;

use std::net::UdpSocket;
use std::time::Duration;

use common::{PATIENCE, Server, wait_for};
use office::{ALICE, BOB, CAROL};
use phone::Phone;
use sip::Message;

/// The number that alice calls.
const CALLED: &str = "+493099901";

/// Two carriers, a phone whose calls the first of them takes, and our server, whose first trunk has these keys besides.
struct Between {
    near: Phone,
    far: Phone,
    alice: Phone,
    server: Server,
}

impl Between {
    fn start(more: &str) -> Self {
        Self::start_by("trunk near", more)
    }

    fn start_by(route: &str, more: &str) -> Self {
        let (near, far) = (Phone::start("near", "", BOB), Phone::start("far", "", CAROL));
        let config = format!(
            r#"
[[devices]]
user = "alice"
password = "a"
country = "DE"
numbers = ["+4930123101"]

[[devices]]
user = "bob"
password = "b"
numbers = ["+4930123102"]

[[trunks]]
name = "near"
hosts = ["{}"]
domain = "near.test"
ping_s = 0
{more}

[[trunks]]
name = "far"
hosts = ["{}"]
ping_s = 0

[[routes]]
from = ["devices"]
called = "+4930*"
to = "{route}"

[[routes]]
from = ["devices"]
called = "+4940*"
to = "trunk far"
"#,
            near.address(),
            far.address()
        );
        let server = Server::start_with(&config, tempfile::tempdir().unwrap(), &["rtp.codecs=[\"PCMU\"]"]);
        let alice = Phone::register(server.sip, "alice", "a", ALICE);
        Self { near, far, alice, server }
    }

    /// Alice calls, and the first carrier sends her on: to these Contacts, with this status.
    fn is_sent_on(&mut self, code: u16, contact: &str) -> sip::CallId {
        let call = self.alice.dial(CALLED, &[]);
        let at_near = self.near.rings();
        self.near.reject_with(at_near, code, &[("Contact", contact)]);
        call
    }
}

fn called(invite: &Message) -> String {
    sip::uri::user_of(invite.request_uri())
}

/// Conforms: RFC 3261 §8.1.3.4 — a carrier's redirection is followed where its trunk says so, and nowhere else.
#[test]
fn a_carrier_sends_nobody_on_unless_its_trunk_says_so() {
    let mut calls = Between::start("");
    let here = calls.near.address();
    let call = calls.is_sent_on(302, &format!("<sip:+49900123456@{here}>"));
    assert_eq!(calls.alice.refused(call), 480);
    let record = calls.server.wait_for_records(1).remove(0);
    assert_eq!(record["legs"].as_array().unwrap().len(), 1, "nobody else was called: {record}");
    assert_eq!(record["legs"][0]["result"], "refused 302", "{record}");
    calls.server.stop();
}

#[test]
fn what_a_carrier_may_not_send_on_goes_by_the_next_trunk_where_that_is_wanted() {
    let mut calls = Between::start_by("trunk near | far", "failover_codes = [302]");
    let call = calls.is_sent_on(302, "<sip:+49900123456@elsewhere.test>");
    let (at_far, invite) = calls.far.rings_with();
    assert_eq!(called(&invite), CALLED);
    calls.far.answer(at_far);
    calls.alice.wait_answered(call);
    calls.alice.hang_up(call);
    calls.far.ended(at_far);
    calls.server.stop();
}

/// Conforms: RFC 5806 §6 — whoever is called after a carrier's redirection is told who sent the call on.
#[test]
fn a_carrier_sends_calls_on_to_its_own_hosts_where_it_may() {
    let mut calls = Between::start("redirects = \"trunk\"");
    let here = calls.near.address();
    // What is dearest to it leads elsewhere, and is passed over.
    let contacts =
        format!("<sip:+4930555@{here}>;q=0.5, <sip:+49900123456@198.51.100.9>, <tel:+49-40-777;ext=5>;q=0.1");
    let call = calls.is_sent_on(302, &contacts);
    let (at_near, invite) = calls.near.rings_with();
    assert_eq!(called(&invite), "+4930555");
    let diversion = invite.header_named("Diversion").unwrap();
    assert!(diversion.contains(CALLED) && diversion.contains("reason=unconditional"), "{diversion}");
    assert!(invite.header_named("History-Info").unwrap().contains(CALLED));
    // Another host of its own has whoever was called: nobody has sent them on.
    calls.near.reject_with(at_near, 305, &[("Contact", &format!("<sip:{here}>"))]);
    assert_eq!(calls.alice.refused(call), 480, "that is where it was");
    // One that sends calls round and round is followed so often and no more.
    let call = calls.alice.dial(CALLED, &[]);
    for turn in 0..=5 {
        let (at_near, _) = calls.near.rings_with();
        calls.near.reject_with(at_near, 302, &[("Contact", &format!("<sip:+493055{turn}@{here}>"))]);
    }
    assert_eq!(calls.alice.refused(call), 480);
    // One whom nobody waits for any more.
    let call = calls.is_sent_on(301, &format!("<sip:+4930555@{here}>"));
    let at_near = calls.near.rings();
    calls.alice.cancel(call);
    calls.near.ended(at_near);
    // None of these is a person.
    for contact in ["<sip:+49900123456@198.51.100.9>", "<mailto:a@b.test>", "<sip:+4930555@here.near.test>;q=nan"] {
        let call = calls.is_sent_on(302, contact);
        assert_eq!(calls.alice.refused(call), 480, "{contact}");
    }
    calls.server.stop();
}

#[test]
fn a_carrier_sends_calls_on_by_our_routes_to_whom_the_caller_may_call() {
    let mut calls = Between::start("redirects = \"routes\"");
    let call = calls.is_sent_on(302, "<tel:+49-40-777>");
    let (at_far, invite) = calls.far.rings_with();
    assert_eq!(called(&invite), "+4940777");
    assert!(invite.header_named("Diversion").unwrap().contains(CALLED));
    assert!(invite.header(sip::Name::From).unwrap().contains("+4930123101"));
    calls.far.answer(at_far);
    calls.alice.wait_answered(call);
    calls.alice.wait_to_hear(call, &[CAROL], &[]);
    calls.alice.hang_up(call);
    calls.far.ended(at_far);
    // No route of hers leads there, or it is nobody's to call.
    for contact in ["<tel:+49900123456>", "<sip:+4940777@elsewhere.test>", &format!("<sip:{CALLED}@near.test>")] {
        let call = calls.is_sent_on(302, contact);
        assert_eq!(calls.alice.refused(call), 480, "{contact}");
    }
    // Who is called by it may be one of ours.
    let call = calls.is_sent_on(302, "<sip:+4930123101@near.test>");
    assert_eq!(called(&calls.near.rings_with().1), "+4930123101");
    calls.alice.cancel(call);
    calls.server.stop();
}

/// Conforms: RFC 3428 §4 — text to a number outside goes by the trunk that a call there would go by, and a carrier's to the phones of whoever
/// has the number.
#[test]
fn text_goes_out_by_trunks_and_comes_in_by_them() {
    let mut calls = Between::start_by("trunk near | far", "addresses = [\"127.0.0.1\"]\nidentity = \"trusted\"");
    let Between { near, far, alice, server } = &mut calls;
    near.server = server.sip;
    // Out, as numbers are dialled in her country.
    let written = alice.begin_to_write("03099901", "Are you open?");
    let text = near.reads_all(202);
    assert_eq!((called(&text).as_str(), text.body()), (CALLED, &b"Are you open?"[..]));
    assert!(text.header(sip::Name::From).unwrap().contains("+4930123101@near.test"));
    assert!(text.header(sip::Name::PAssertedIdentity).unwrap().contains("+4930123101"));
    assert_eq!(alice.written(written), 202);
    // The first carrier cannot, the next one does; a refusal counts.
    let written = alice.begin_to_write(CALLED, "And now?");
    near.reads_all(503);
    far.reads_all(200);
    assert_eq!(alice.written(written), 200);
    let written = alice.begin_to_write(CALLED, "?");
    near.reads_all(405);
    assert_eq!(alice.written(written), 500);
    assert_eq!(alice.write("+49900123456", "No route leads there."), 404);
    // In.
    let written = near.begin_to_write("+4930123101", "Until six.");
    let text = alice.reads_all(200);
    assert_eq!(text.body(), b"Until six.");
    assert!(text.header(sip::Name::From).unwrap().contains("near@"));
    assert_eq!(near.written(written), 200);
    assert_eq!(near.write("+4930123102", "Her phone is off."), 480);
    assert_eq!(near.write("+4930123103", "Nobody has that number."), 404);
    calls.server.stop();
}

/// A carrier by hand: its registrar takes whatever comes.
struct Registrar(UdpSocket);

impl Registrar {
    /// The next request, and who sent it.
    fn receive(&self) -> (Message, std::net::SocketAddr) {
        let mut bytes = [0; 4_096];
        let (size, from) = self.0.recv_from(&mut bytes).expect("something from the server");
        let bytes = bytes::Bytes::copy_from_slice(&bytes[..size]);
        (Message::parse_datagram(bytes, &sip::parse::Limits::default()).unwrap(), from)
    }

    /// Takes registrations until these accounts are bound: the Contact of each.
    fn bind(&self, accounts: &[&str]) -> Vec<String> {
        let mut bound: Vec<Option<String>> = vec![None; accounts.len()];
        while bound.iter().any(Option::is_none) {
            let (request, from) = self.receive();
            if request.method() != Some(&sip::Method::Register) {
                continue;
            }
            let account = sip::uri::user_of(request.to().unwrap().uri_text);
            let contact = request.header(sip::Name::Contact).unwrap().to_owned();
            let lines: String = ["Via", "From", "To", "Call-ID", "CSeq"]
                .map(|name| format!("{name}: {}\r\n", request.header_named(name).unwrap()))
                .concat();
            let answer =
                format!("SIP/2.0 200 OK\r\n{lines}Contact: {contact};expires=600\r\nContent-Length: 0\r\n\r\n");
            self.0.send_to(answer.as_bytes(), from).unwrap();
            let uri = sip::NameAddr::parse(&contact).unwrap().uri_text.to_owned();
            let at = accounts.iter().position(|name| *name == account).unwrap();
            bound[at] = Some(uri);
        }
        bound.into_iter().flatten().collect()
    }

    /// The status that a call of this URI gets.
    fn call(&self, server: std::net::SocketAddr, uri: &str) -> u16 {
        let own = self.0.local_addr().unwrap();
        let id = sip::uri::user_of(uri) + &uri.len().to_string();
        let invite = format!(
            "INVITE {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bK{id}\r\nMax-Forwards: 70\r\nFrom: <sip:+4940777@{own}>;tag=1\r\n\
             To: <sip:+4930123456@{own}>\r\nCall-ID: {id}\r\nCSeq: 1 INVITE\r\nContact: <sip:{own}>\r\nContent-Length: 0\r\n\r\n"
        );
        self.0.send_to(invite.as_bytes(), server).unwrap();
        loop {
            let code = self.receive().0.code().unwrap_or(0);
            if code >= 300 {
                return code;
            }
        }
    }
}

/// Conforms: RFC 3261 §10.3 — a carrier with which we have several accounts calls the Contact of one of them: the call comes by that one.
#[test]
fn of_several_accounts_with_a_carrier_the_one_whose_contact_is_called_is_called() {
    let carrier = Registrar(UdpSocket::bind("127.0.0.1:0").unwrap());
    carrier.0.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let at = carrier.0.local_addr().unwrap();
    let account = |name: &str, code: u16| {
        format!(
            r#"
[[trunks]]
name = "{name}"
kind = "register"
hosts = ["{at}"]
username = "customer-{name}"
password = "secret"
ping_s = 0

[[routes]]
from = ["trunk {name}"]
to = "reject {code}"
"#
        )
    };
    let config = [account("sales", 410), account("support", 484)].concat();
    let server = Server::start_with(&config, tempfile::tempdir().unwrap(), &[]);
    let contacts = carrier.bind(&["customer-sales", "customer-support"]);
    wait_for(
        "registrations",
        PATIENCE,
        || (server.get("/metrics").1.matches("omnivox_trunk_registered{trunk=\"s").count() == 2).then_some(()),
        || server.process.stderr(),
    );
    let dialled = |contact: &str| {
        contact.replacen("customer-sales", "+4930123456", 1).replacen("customer-support", "+4930123456", 1)
    };
    let [sales, support] = [&contacts[0], &contacts[1]];
    assert_eq!(carrier.call(server.sip, support), 484, "as it was registered");
    assert_eq!(carrier.call(server.sip, &dialled(support)), 484, "with the number in the place of the account");
    assert_eq!(carrier.call(server.sip, &dialled(sales)), 410);
    assert_eq!(carrier.call(server.sip, &format!("sip:+4930123456@{}", server.sip)), 410, "neither: the first");
    drop(server);
}
