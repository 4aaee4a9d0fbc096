//! Requests that go out: composed, addressed, and repeated with credentials (RFC 3261 sections 8.1, 12.2.1 and 22).

use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;

use super::arena::Key;
use super::call::{Acknowledgement, CallTimer, Context};
use super::challenge::Sent;
use super::event::{Destination, SendId, Target, Transport};
use super::transactions::Purpose;
use super::write::{Host, clean};
use super::{Endpoint, own};
use crate::address::is_inside;
use crate::build::Builder;
use crate::dialog::Dialog;
use crate::headers::Name;
use crate::message::Message;
use crate::method::Method;
use crate::uri::{Scheme, Uri};

impl Endpoint {
    /// A new branch.
    pub(super) fn branch(&mut self) -> String {
        format!("z9hG4bK{}", self.secret.name().as_str())
    }

    /// Our Via value.
    pub(super) fn via(&self, transport: Transport, local: SocketAddr, branch: &str) -> String {
        let name = transport.via_name();
        format!("SIP/2.0/{name} {}:{};branch={branch};rport", Host(local.ip()), local.port())
    }

    /// The head of a request inside a call: everything but what the method adds.
    pub(super) fn request_in(
        &self,
        dialog: &Dialog,
        (transport, local): (Transport, SocketAddr),
        (method, sequence): (&Method, u32),
        branch: &str,
    ) -> Builder {
        let addressing = dialog.addressing();
        let mut builder = Builder::request(method, addressing.request_uri)
            .header(Name::Via, self.via(transport, local, branch))
            .header(Name::MaxForwards, 70);
        for route in &addressing.routes {
            builder = if route.starts_with('<') || route.contains('<') {
                builder.header(Name::Route, route)
            } else {
                builder.header(Name::Route, format_args!("<{route}>"))
            };
        }
        builder = builder
            .header(Name::From, &dialog.local)
            .header(Name::To, &dialog.remote)
            .header(Name::CallId, &dialog.call_id)
            .header(Name::CSeq, format_args!("{sequence} {method}"));
        if self.config.user_agent.is_empty() {
            return builder;
        }
        builder.header(Name::UserAgent, &self.config.user_agent)
    }

    /// Sends a request inside a call, in a transaction.
    pub(super) fn send_inside(
        &mut self,
        now: Instant,
        key: Key,
        (method, purpose): (&Method, Purpose),
        extra: &[(Name, &str)],
        body: Option<(&str, &Bytes)>,
    ) -> Option<Key> {
        let branch = self.branch();
        let call = self.calls.get_mut(key)?;
        call.dialog.local_seq += 1;
        let signed = body.map(|(_, body)| body.as_ref()).unwrap_or_default();
        let credentials = call.challenge.as_mut().map(|challenge| challenge.ahead(&call.dialog, method, signed));
        let call = self.calls.get(key)?;
        let to = next_hop(&call.dialog, &call.way);
        let local = call.local;
        let mut builder =
            self.request_in(&call.dialog, (to.transport, local), (method, call.dialog.local_seq), &branch);
        if *method == Method::Invite {
            builder = builder
                .header(Name::Contact, &call.contact)
                .header(Name::Allow, &self.allow)
                .header(Name::Supported, super::SUPPORTED);
        }
        if *method == Method::Update {
            builder = builder.header(Name::Contact, &call.contact).header(Name::Supported, super::SUPPORTED);
        }
        if matches!(method, Method::Invite | Method::Update) {
            for (name, value) in self.session_headers(key).into_iter().chain(call.identity.iter().cloned()) {
                builder = builder.header(name, value);
            }
        }
        for (name, value) in extra {
            builder = builder.header(*name, value);
        }
        for (name, value) in credentials.unwrap_or_default() {
            builder = builder.header(name, value);
        }
        if let Some((kind, body)) = body {
            builder = builder.body(kind, body.clone());
        }
        let bytes = builder.finish().bytes();
        Some(self.add_client(now, Some((key, purpose)), (&branch, method.as_str()), (to, local), bytes))
    }

    pub(super) fn send_bye(&mut self, now: Instant, key: Key) {
        let reason = self.calls.get_mut(key).and_then(|call| call.our_reason.take());
        let extra: Vec<(Name, &str)> = reason.iter().map(|reason| (Name::Reason, reason.as_str())).collect();
        self.send_inside(now, key, (&Method::Bye, Purpose::Bye), &extra, None);
    }

    /// 9.1: CANCEL goes the INVITE's way, with its branch.
    pub(super) fn send_cancel(&mut self, now: Instant, key: Key) {
        let limit = self.config.timings.t1_times_64();
        let Some(call) = self.calls.get_mut(key) else { return };
        call.disarm(CallTimer::Ring);
        call.arm(CallTimer::CancelLimit, now + limit);
        // Kept for the BYE of a call that is answered nevertheless.
        let reason = call.our_reason.clone();
        let Some(txn) = call.asking.and_then(|key| self.transactions.get(key)) else { return };
        let Some(invite) = txn.machine.kept.clone() else { return };
        let way = (txn.to.clone(), txn.local);
        let (Some(cancel), Some(branch)) =
            (own::cancel(&invite, reason.as_deref().map(clean).as_deref()), own::branch(&invite))
        else {
            return;
        };
        self.add_client(now, Some((key, Purpose::Cancel)), (branch, "CANCEL"), way, cancel.into());
    }

    /// 13.2.2.4: acknowledges a 2xx, with the credentials of its INVITE. The same ACK goes out when it comes again.
    pub(super) fn acknowledge(&mut self, key: Key, context: Context<'_>) {
        let Some(cseq) = context.response.and_then(|response| response.cseq().ok()) else { return };
        let branch = self.branch();
        let Some(call) = self.calls.get(key) else { return };
        if let Some(known) = call.acknowledgement.as_ref().filter(|ack| ack.sequence == cseq.number) {
            let (to, bytes) = (known.to.clone(), known.bytes.clone());
            self.stats.repeats_sent += 1;
            return self.send(SendId::NONE, to, bytes);
        }
        let to = next_hop(&call.dialog, &call.way);
        let mut builder =
            self.request_in(&call.dialog, (to.transport, call.local), (&Method::Ack, cseq.number), &branch);
        for (name, value) in context.request.map(|invite| own::credentials(invite)).unwrap_or_default() {
            builder = builder.header_named(name, value);
        }
        let bytes = builder.finish().bytes();
        if let Some(call) = self.calls.get_mut(key) {
            call.acknowledgement =
                Some(Acknowledgement { sequence: cseq.number, bytes: bytes.clone(), to: to.clone() });
        }
        self.send(SendId::NONE, to, bytes);
    }

    /// Acknowledges and hangs up an answer that nobody wants: another fork's, or one that came after the call's end.
    pub(super) fn hang_up_fork(&mut self, now: Instant, response: &Message, way: (Destination, SocketAddr)) {
        let Some((mut dialog, to)) = self.acknowledge_fork(response, way.clone()) else { return };
        dialog.local_seq += 1;
        let branch = self.branch();
        let bytes =
            self.request_in(&dialog, (to.transport, way.1), (&Method::Bye, dialog.local_seq), &branch).finish().bytes();
        self.add_client(now, None, (&branch, "BYE"), (to, way.1), bytes);
    }

    /// Acknowledges such an answer, and says what its dialog is.
    pub(super) fn acknowledge_fork(
        &mut self,
        response: &Message,
        (way, local): (Destination, SocketAddr),
    ) -> Option<(Dialog, Destination)> {
        let dialog = Dialog::from_response(response, self.config.limits.routes).ok()?;
        let to = next_hop(&dialog, &way);
        let branch = self.branch();
        let bytes =
            self.request_in(&dialog, (to.transport, local), (&Method::Ack, dialog.local_seq), &branch).finish().bytes();
        self.send(SendId::NONE, to.clone(), bytes);
        Some((dialog, to))
    }

    /// Repeats a request with credentials, where those who ask for them have not been given them yet.
    pub(super) fn repeat_with_credentials(
        &mut self,
        now: Instant,
        (key, purpose): (Key, Purpose),
        response: &Message,
        (sent, to): (&Sent, Destination),
    ) -> bool {
        let (Some(method), cnonce) = (purpose.method(), self.secret.name()) else { return false };
        let Some(call) = self.calls.get_mut(key) else { return false };
        let Some(challenge) = call.challenge.as_mut() else { return false };
        let Some((headers, tried)) = challenge.answers(response, (&method, sent), cnonce.as_str()) else {
            return false;
        };
        let Some(txn) = self.repeat(now, (key, purpose), (&sent.bytes, to), &headers) else { return false };
        self.note_tried(txn, tried);
        true
    }

    /// Repeats a request of a call in a new transaction, with these headers in the place of its own.
    pub(super) fn repeat(
        &mut self,
        now: Instant,
        (key, purpose): (Key, Purpose),
        (request, to): (&Bytes, Destination),
        headers: &[(&str, String)],
    ) -> Option<Key> {
        let method = purpose.method()?;
        let branch = self.branch();
        let call = self.calls.get_mut(key)?;
        call.dialog.local_seq += 1;
        let (sequence, local) = (call.dialog.local_seq, call.local);
        let via = self.via(to.transport, local, &branch);
        let bytes = own::again(request, method.as_str(), &via, sequence, headers)?;
        let txn = self.add_client(now, Some((key, purpose)), (&branch, method.as_str()), (to, local), bytes.into());
        if let Some(call) = self.calls.get_mut(key).filter(|_| method == Method::Invite) {
            call.asking = Some(txn);
        }
        Some(txn)
    }
}

/// Where a request inside a dialog goes: to the first route or the peer's Contact (section 12.2.1.1), by the connection
/// that the peer used, where it leads there.
///
/// A peer behind a NAT writes a Contact that nobody outside can reach: where that is the next hop, and a private address
/// other than the one its messages come from, the request goes to where they come from.
pub(super) fn next_hop(dialog: &Dialog, way: &Destination) -> Destination {
    let addressing = dialog.addressing();
    let Ok(uri) = Uri::parse(addressing.next_hop) else { return way.clone() };
    let transport = match uri.scheme() {
        Scheme::Sips => Transport::Tls,
        _ => uri.transport().and_then(Transport::parse).unwrap_or(way.transport),
    };
    if !uri.is_sip() {
        return way.clone();
    }
    let port = uri.port().unwrap_or(transport.default_port());
    let same = transport == way.transport;
    let seen = way.target.address().map(|seen| seen.ip());
    let Some(ip) = uri.host_ip() else {
        // A connection that the peer opened leads to it whatever its name; ".invalid" names lead nowhere (RFC 7118).
        if same && (transport.is_reliable() || uri.host().to_ascii_lowercase().ends_with(".invalid")) {
            return way.clone();
        }
        return Destination {
            transport,
            flow: way.flow.filter(|_| same),
            target: Target::Host { name: uri.host().into(), port: uri.port() },
        };
    };
    let behind_nat = addressing.routes.is_empty() && is_inside(ip) && seen.is_some_and(|seen| seen != ip);
    if behind_nat && same {
        return way.clone();
    }
    let by_flow = same && (transport == Transport::Udp || seen == Some(ip));
    Destination { transport, flow: way.flow.filter(|_| by_flow), target: Target::Address(SocketAddr::new(ip, port)) }
}
