//! Registrations: what each REGISTER leads to.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use sip::endpoint::FlowId;
use sip::parse::Limits;
use sip::registrar::{Binding, Refused, Registrar, RegistrarLimits, contacts};
use sip::{Message, Source, Transport};

const LIMITS: RegistrarLimits = RegistrarLimits { shortest_s: 60, longest_s: 3_600, usual_s: 600, bindings: 10 };

fn source(transport: Transport, flow: u64) -> Source {
    let (remote, local) = ("192.0.2.7:4000".parse().unwrap(), "192.0.2.1:5060".parse().unwrap());
    Source { transport, remote, local, flow: FlowId(flow) }
}

fn request(call_id: &str, sequence: u32, headers: &str) -> Message {
    let text = format!(
        "REGISTER sip:example.test SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.7:4000;branch=z9hG4bK{sequence}\r\nMax-Forwards: 70\r\n\
         From: <sip:alice@example.test>;tag=1\r\nTo: <sip:alice@example.test>\r\nCall-ID: {call_id}\r\n\
         CSeq: {sequence} REGISTER\r\n{headers}Content-Length: 0\r\n\r\n"
    );
    Message::parse_datagram(text.into(), &Limits::default()).unwrap()
}

struct Alice {
    registrar: Registrar,
    sequence: u32,
}

impl Alice {
    fn new() -> Self {
        Self { registrar: Registrar::new(LIMITS), sequence: 0 }
    }

    fn sends(&mut self, headers: &str) -> Result<Vec<Binding>, Refused> {
        self.sequence += 1;
        let request = request("c", self.sequence, headers);
        self.registrar.register(1_000, "alice", 3, &request, &source(Transport::Udp, 1))
    }

    fn uris(&self, now_s: u64) -> Vec<&str> {
        self.registrar.bindings(now_s, "alice").iter().map(|binding| binding.uri.as_str()).collect()
    }
}

/// Conforms: RFC 3261 §10.3 — contacts are bound, listed, refreshed and ended.
#[test]
fn contacts_are_bound_listed_refreshed_and_ended() {
    let mut alice = Alice::new();
    assert!(alice.sends("").unwrap().is_empty());
    let bound = alice.sends("Contact: <sip:a@192.0.2.7:4000>;expires=120, <sip:b@192.0.2.8>\r\n").unwrap();
    assert_eq!(contacts(1_000, &bound)[0].1, "<sip:a@192.0.2.7:4000>;expires=120");
    assert_eq!(contacts(1_000, &bound)[1].1, "<sip:b@192.0.2.8>;expires=600");
    assert_eq!(alice.uris(1_000).len(), 2);
    assert_eq!(alice.uris(1_121), ["sip:b@192.0.2.8"]);
    // The same contact in another form is the same.
    let bound = alice.sends("Contact: <sip:a@192.0.2.7:4000;transport=UDP>\r\nExpires: 7200\r\n").unwrap();
    assert!(bound.iter().any(|binding| binding.expires_s == 1_000 + 3_600), "shortened to the most: {bound:?}");
    alice.sends("Contact: <sip:b@192.0.2.8>;expires=0\r\n").unwrap();
    assert!(!alice.uris(1_000).contains(&"sip:b@192.0.2.8"));
    // Without a contact all are listed and none changes.
    assert_eq!(alice.sends("").unwrap().len(), alice.uris(1_000).len());
}

/// Conforms: RFC 3261 §10.3 step 6 — the wildcard ends everything, and stands alone with Expires: 0.
#[test]
fn the_wildcard_ends_everything_and_stands_alone() {
    let mut alice = Alice::new();
    alice.sends("Contact: <sip:a@192.0.2.7>, <sip:b@192.0.2.8>\r\n").unwrap();
    for bad in [
        "Contact: *\r\n",
        "Contact: *\r\nExpires: 60\r\n",
        "Contact: *\r\nContact: <sip:a@192.0.2.7>\r\nExpires: 0\r\n",
    ] {
        assert_eq!(alice.sends(bad).unwrap_err().code(), 400, "{bad}");
    }
    assert_eq!(alice.uris(1_000).len(), 2);
    assert!(alice.sends("Contact: *\r\nExpires: 0\r\n").unwrap().is_empty());
    assert!(alice.registrar.is_empty());
}

/// Conforms: RFC 3261 §10.3 step 7 — a time that is too brief gets 423 with Min-Expires.
#[test]
fn a_time_that_is_too_brief_is_refused_with_the_least() {
    let refused = Alice::new().sends("Contact: <sip:a@192.0.2.7>;expires=59\r\n").unwrap_err();
    assert_eq!((refused.code(), refused.header()), (423, Some(("Min-Expires".into(), "60".into()))));
}

/// Conforms: RFC 3261 §10.3 step 7 — an older request of the same registration changes nothing.
#[test]
fn an_older_request_changes_nothing() {
    let mut alice = Alice::new();
    alice.sends("Contact: <sip:a@192.0.2.7>\r\n").unwrap();
    let again = request("c", 1, "Contact: <sip:a@192.0.2.7>;expires=0\r\n");
    let answer = alice.registrar.register(1_000, "alice", 3, &again, &source(Transport::Udp, 1));
    assert_eq!(answer.unwrap_err(), Refused::OutOfOrder);
    assert_eq!(alice.uris(1_000).len(), 1);
    // Another registration (the phone was restarted) counts anew.
    let restarted = request("d", 1, "Contact: <sip:a@192.0.2.7>;expires=0\r\n");
    assert!(alice.registrar.register(1_000, "alice", 3, &restarted, &source(Transport::Udp, 1)).unwrap().is_empty());
}

/// Conforms: RFC 5626 §6 — a flow of the same instance and reg-id takes the place of the one before; the latest flow is used.
#[test]
fn flows_of_one_phone_replace_each_other() {
    let contact = |port: u16, reg_id: u32| {
        format!("Contact: <sip:a@192.0.2.7:{port}>;+sip.instance=\"<urn:uuid:1>\";reg-id={reg_id}\r\n")
    };
    let mut alice = Alice::new();
    alice.sends(&contact(1, 1)).unwrap();
    alice.sends(&contact(2, 1)).unwrap();
    assert_eq!(alice.registrar.len(), 1);
    let bound = alice.sends(&contact(3, 2)).unwrap();
    assert_eq!(bound.len(), 2);
    assert!(contacts(1_000, &bound)[1].1.ends_with(";+sip.instance=\"<urn:uuid:1>\";reg-id=2"));
    assert_eq!(alice.uris(1_000), ["sip:a@192.0.2.7:3"]);
}

/// Conforms: RFC 3327 §5.3 — the Path of a registration is kept with it.
#[test]
fn the_path_is_kept() {
    let mut alice = Alice::new();
    let bound = alice.sends("Path: <sip:p1.test;lr>, <sip:p2.test;lr>\r\nContact: <sip:a@192.0.2.7>\r\n").unwrap();
    assert_eq!(bound[0].path, ["<sip:p1.test;lr>", "<sip:p2.test;lr>"]);
}

#[test]
fn better_contacts_come_first() {
    let mut alice = Alice::new();
    alice.sends("Contact: <sip:low@192.0.2.7>;q=0.1, <sip:high@192.0.2.7>;q=0.9\r\n").unwrap();
    assert_eq!(alice.uris(1_000), ["sip:high@192.0.2.7", "sip:low@192.0.2.7"]);
}

#[test]
fn limits_are_kept_and_nothing_is_half_done() {
    let mut alice = Alice::new();
    let many = "Contact: <sip:1@192.0.2.7>, <sip:2@192.0.2.7>, <sip:3@192.0.2.7>, <sip:4@192.0.2.7>\r\n";
    assert_eq!(alice.sends(many).unwrap_err(), Refused::TooMany);
    assert!(alice.registrar.is_empty());
    for user in 0..10 {
        let request = request("c", 1, "Contact: <sip:a@192.0.2.7>\r\n");
        let user = format!("user{user}");
        alice.registrar.register(1_000, &user, 3, &request, &source(Transport::Udp, 1)).unwrap();
    }
    assert_eq!(alice.sends("Contact: <sip:a@192.0.2.7>\r\n").unwrap_err(), Refused::Full);
    // A refresh is no growth.
    let refresh = request("c", 2, "Contact: <sip:a@192.0.2.7>\r\n");
    assert!(alice.registrar.register(1_000, "user1", 3, &refresh, &source(Transport::Udp, 1)).is_ok());
    assert_eq!(alice.sends("Contact: <mailto:a@b>\r\n").unwrap_err().code(), 400);
}

#[test]
fn beyond_the_most_those_refreshed_least_recently_give_way() {
    let mut alice = Alice::new();
    for port in 1..=3 {
        alice.sends(&format!("Contact: <sip:a@192.0.2.7:{port}>\r\n")).unwrap();
    }
    alice.sends("Contact: <sip:a@192.0.2.7:1>\r\n").unwrap();
    // The phone was restarted, and comes from another port.
    let bound = alice.sends("Contact: <sip:a@192.0.2.7:4>\r\n").unwrap();
    assert_eq!(bound.len(), 3);
    assert_eq!(alice.uris(1_000), ["sip:a@192.0.2.7:3", "sip:a@192.0.2.7:1", "sip:a@192.0.2.7:4"]);
    // Neither a question nor the end of one costs others their place.
    let mut asks = |headers: &str| {
        alice.sequence += 1;
        let request = request("c", alice.sequence, headers);
        alice.registrar.register(1_000, "alice", 1, &request, &source(Transport::Udp, 1)).unwrap().len()
    };
    assert_eq!((asks(""), asks("Contact: <sip:a@192.0.2.7:3>;expires=0\r\n")), (3, 2));
}

/// Conforms: RFC 5626 §6 — a flow that is registered anew gives its own place, and nobody else's, to the new one.
#[test]
fn a_flow_that_is_registered_anew_costs_no_other_its_place() {
    let mut alice = Alice::new();
    let flow = |port: u16, reg_id: u32| {
        format!("Contact: <sip:a@192.0.2.7:{port}>;+sip.instance=\"<urn:uuid:1>\";reg-id={reg_id}\r\n")
    };
    alice.sends("Contact: <sip:a@192.0.2.8>\r\n").unwrap();
    alice.sends(&flow(1, 1)).unwrap();
    alice.sends(&flow(2, 2)).unwrap();
    let uris = |bound: Vec<Binding>| bound.into_iter().map(|binding| binding.uri).collect::<Vec<_>>();
    let bound = alice.sends(&flow(3, 1)).unwrap();
    assert_eq!(uris(bound), ["sip:a@192.0.2.8", "sip:a@192.0.2.7:2", "sip:a@192.0.2.7:3"]);
    let bound = alice.sends("Contact: <sip:a@192.0.2.9>\r\n").unwrap();
    assert_eq!(uris(bound), ["sip:a@192.0.2.7:2", "sip:a@192.0.2.7:3", "sip:a@192.0.2.9"]);
}

#[test]
fn a_binding_goes_with_its_connection_and_with_its_time() {
    let mut alice = Alice::new();
    let by = |alice: &mut Alice, user: &str, transport, flow| {
        let request = request("c", 1, "Contact: <sip:a@192.0.2.7>\r\n");
        alice.registrar.register(1_000, user, 3, &request, &source(transport, flow)).unwrap();
    };
    by(&mut alice, "bob", Transport::Wss, 7);
    by(&mut alice, "carol", Transport::Udp, 7);
    assert_eq!(alice.registrar.flow_closed(FlowId(7)), ["bob"]);
    assert_eq!(alice.registrar.expire(1_599), Vec::<String>::new());
    assert_eq!(alice.registrar.expire(1_600), ["carol"]);
    assert!(alice.registrar.is_empty());
}
