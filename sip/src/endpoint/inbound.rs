//! Requests that come in: matching, checking, and what each method does (RFC 3261 sections 8.2, 9.2, 11, 12.2.2, 13.3,
//! 14.2 and 15.1.2).

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::Endpoint;
use super::arena::Key;
use super::call::{Asked, Call, CallTimer, Context, id};
use super::connected::takes_from_change;
use super::event::{Destination, Event, SendId, Source, Target};
use super::refresh::Wish;
use super::reliable::Reliable;
use super::secret::{Fingerprint, Name as Tag};
use super::transactions::Purpose;
use super::validate::{self, ACCEPT_SDP, Refusal};
use super::write::{Echo, Host, Response, reply_destination, tag_of, uri_of};
use crate::dialog::session::{Input, Phase};
use crate::dialog::{Dialog, reoffer};
use crate::headers::{Name, Via};
use crate::message::Message;
use crate::method::Method;
use crate::parse::ParseError;
use crate::transaction::{self, Kind, State};

/// A request, where it came from, and its top Via.
#[derive(Clone, Copy)]
pub(super) struct Arrival<'a> {
    pub(super) source: &'a Source,
    pub(super) request: &'a Arc<Message>,
    pub(super) via: &'a Via<'a>,
}

impl Arrival<'_> {
    pub(super) fn echo(&self) -> Echo {
        Echo::new(self.request, Some(self.via), self.source)
    }
}

impl Endpoint {
    pub(super) fn receive_request(&mut self, now: Instant, source: &Source, request: Message) {
        let request = Arc::new(request);
        let (Some(method), Ok(via)) = (request.method(), request.top_via()) else { return };
        let matched_as = if *method == Method::Ack { "INVITE" } else { method.as_str() };
        let fingerprint = self.server_fingerprint(&request, &via, matched_as);
        let known = self.servers.get(&fingerprint).copied();
        let arrival = Arrival { source, request: &request, via: &via };
        match method {
            Method::Ack => self.receive_ack(now, known, &request),
            Method::Cancel => self.receive_cancel(now, arrival),
            _ => {
                if let Some(key) = known {
                    self.stats.repeats_received += 1;
                    let effects = self.step(now, key, transaction::Input::Repeat, None);
                    self.settle(now, key, effects);
                    return;
                }
                self.receive_new(now, arrival, fingerprint);
            }
        }
    }

    fn receive_new(&mut self, now: Instant, arrival: Arrival<'_>, fingerprint: Fingerprint) {
        let request = arrival.request;
        let Some(method) = request.method() else { return };
        if let Err(refusal) =
            validate::method(method, &self.config, &self.allow).and_then(|()| validate::scheme(request))
        {
            return self.refuse(arrival, &refusal);
        }
        let inside = request.header(Name::To).and_then(tag_of).is_some();
        match (method, inside) {
            (Method::Invite, false) => self.receive_invite(now, arrival, fingerprint),
            (_, true) => self.receive_inside(now, arrival, fingerprint),
            (Method::Subscribe, false) if self.takes_subscriptions() => {
                self.receive_subscribe(now, arrival, fingerprint);
            }
            (method, false) if self.is_users(method) => self.receive_outside(now, arrival, fingerprint),
            (Method::Options, false) => match validate::required(request) {
                Ok(()) => self.answer_options(arrival),
                Err(refusal) => self.refuse(arrival, &refusal),
            },
            // What is taken in calls only.
            (Method::Refer | Method::Subscribe, false) => {
                let allow = self.allow.to_string();
                self.refuse(arrival, &Refusal { code: 405, header: Some(("Allow", allow)) });
            }
            // BYE, INFO and NOTIFY without a To tag belong to no dialog.
            _ => self.refuse(arrival, &Refusal::new(481)),
        }
    }

    /// A new call: checked, given a transaction and a dialog, answered 100, told to the user.
    fn receive_invite(&mut self, now: Instant, arrival: Arrival<'_>, fingerprint: Fingerprint) {
        let Arrival { source, request, via } = arrival;
        let merge = self.merge_fingerprint(request);
        if self.merges.contains_key(&merge) {
            // 8.2.2.2: the same request by another way.
            return self.refuse(arrival, &Refusal::new(482));
        }
        let checked = validate::hops(request)
            .and_then(|()| validate::required(request))
            .and_then(|()| validate::content(request, &[ACCEPT_SDP]))
            .and_then(|offer| validate::acceptable(request).map(|()| offer))
            .and_then(|offer| validate::supported(&self.config, request).map(|()| offer))
            .and_then(|offer| validate::interval(request, &self.config).map(|()| offer))
            .and_then(|offer| self.replaced(request).map(|replaces| (offer, replaces)));
        let (offer, replaces) = match checked {
            Ok(checked) => checked,
            Err(refusal) => return self.refuse(arrival, &refusal),
        };
        if self.refusing || self.calls.len() >= self.config.limits.calls || !self.has_room(false) {
            return self.refuse_busy(arrival);
        }
        let tag = self.secret.name();
        let dialog = match Dialog::from_request(request, tag.as_str(), self.config.limits.routes) {
            Ok(dialog) => dialog,
            Err(_) => return self.refuse(arrival, &Refusal::new(400)),
        };
        let way = reply_destination(via, source);
        let txn = self.add_server(Kind::ServerInvite, fingerprint, Some(merge), way.clone(), source.local);
        let echo = arrival.echo();
        let trying = Response::new(100).to_bytes(&echo);

        let user = request.uri().ok().and_then(|uri| uri.user().map(str::to_owned));
        let contact = self.contact(source.transport, source.local, user.as_deref());
        let mut way = way;
        way.target = Target::Address(source.remote);
        let sequence = dialog.remote_seq.unwrap_or(0);
        let print = self.dialog_fingerprint(&dialog.call_id, &dialog.local_tag, &dialog.remote_tag);
        let mut call = Call::new(Phase::Incoming, dialog, way, source.local, contact);
        call.fingerprint = Some(print);
        call.asked = Some(Asked { txn, echo, sequence, provisional: None, trying: None, wish: Wish::of(request) });
        call.reliable = Reliable::of(request, offer.is_some());
        call.takes_update = takes_update(request);
        call.takes_from_change = takes_from_change(request);
        let expires = request.expires_seconds().map(|s| std::time::Duration::from_secs(u64::from(s.max(1))));
        let ring_limit = expires.map_or(self.config.ring_limit, |expires| expires.min(self.config.ring_limit));
        call.arm(CallTimer::Ring, now + ring_limit);
        let key = self.calls.insert(call);
        self.dialogs.insert(print, key);
        self.own(txn, key, Purpose::Invite);
        self.tell(Event::Incoming {
            call: id(key),
            from_uri: request.header(Name::From).map(uri_of).unwrap_or_default().to_owned(),
            to_uri: request.header(Name::To).map(uri_of).unwrap_or_default().to_owned(),
            request_uri: request.request_uri().to_owned(),
            source: *source,
            offer,
            replaces,
            request: Arc::clone(request),
        });
        self.send_trying(now, key, txn, trying);
        self.arm_call(now, key);
    }

    fn receive_ack(&mut self, now: Instant, known: Option<Key>, ack: &Message) {
        if let Some(key) = known {
            let accepted = self.state(key) == Some(State::Accepted);
            let effects = self.step(now, key, transaction::Input::Ack, None);
            self.settle(now, key, effects);
            if !accepted {
                return;
            }
        }
        // 13.3.1.4: the ACK to a 2xx belongs to the dialog.
        let Some(key) = self.find_dialog(ack) else {
            self.stats.strays += 1;
            return;
        };
        let sequence = ack.cseq().map_or(0, |cseq| cseq.number);
        let expected = self.calls.get(key).and_then(|call| call.unacknowledged.as_ref()).map(|answer| answer.sequence);
        if expected != Some(sequence) {
            return;
        }
        let sdp = validate::content(ack, &[ACCEPT_SDP]).ok().flatten();
        let context = Context { sdp: sdp.as_ref(), ..Context::default() };
        if !self.drive_reoffer(now, key, reoffer::Input::Ack, context) {
            self.drive(now, key, Input::Ack, context);
        }
    }

    /// 9.2: CANCEL is answered for itself, and ends the INVITE it names if that has no final response yet.
    fn receive_cancel(&mut self, now: Instant, arrival: Arrival<'_>) {
        let cancel = arrival.request;
        let fingerprint = self.server_fingerprint(cancel, arrival.via, "INVITE");
        let Some(txn) = self.servers.get(&fingerprint).copied() else {
            return self.refuse(arrival, &Refusal::new(481));
        };
        let owner = self.transactions.get(txn).and_then(|txn| txn.owner).map(|(key, _)| key);
        let tag = owner.and_then(|key| self.calls.get(key)).map(|call| call.dialog.local_tag.clone());
        let echo = arrival.echo();
        let fallback = self.stateless_tag(cancel);
        let bytes =
            Response { tag: Some(tag.as_deref().unwrap_or(fallback.as_str())), ..Response::new(200) }.to_bytes(&echo);
        self.reply_stateless(arrival, bytes);
        let Some(key) = owner else { return };
        let pending = self.calls.get(key).and_then(|call| call.asked.as_ref()).is_some_and(|asked| asked.txn == txn);
        if !pending {
            return;
        }
        // That of a re-INVITE says nothing of the call.
        if let Some(call) = self.calls.get_mut(key).filter(|call| call.phase == Phase::Incoming) {
            call.reason = cancel.reasons();
        }
        if !self.drive_reoffer(now, key, reoffer::Input::PeerCancel, Context::default()) {
            self.drive(now, key, Input::PeerCancel, Context::default());
        }
    }

    /// A request with a To tag.
    fn receive_inside(&mut self, now: Instant, arrival: Arrival<'_>, fingerprint: Fingerprint) {
        let Some(key) = self.find_dialog(arrival.request) else {
            return match self.find_usage(arrival.request) {
                Some(key) => self.receive_in_subscription(now, key, arrival, fingerprint),
                None => self.refuse(arrival, &Refusal::new(481)),
            };
        };
        let Arrival { source, request, via } = arrival;
        let (Some(method), Ok(cseq)) = (request.method(), request.cseq()) else { return };
        if !self.has_room(true) {
            return self.refuse_busy(arrival);
        }
        let kind = if *method == Method::Invite { Kind::ServerInvite } else { Kind::Server };
        let to = reply_destination(via, source);
        let Some(call) = self.calls.get_mut(key) else { return };
        let tag = request.header(Name::From).and_then(tag_of).unwrap_or("");
        let in_order = match call.early.iter_mut().find(|early| early.dialog.remote_tag == tag) {
            Some(early) => early.dialog.accept_sequence(cseq.number),
            None => call.dialog.accept_sequence(cseq.number),
        };
        let txn = self.add_server(kind, fingerprint, None, to, source.local);
        // 12.2.2. BYE counts nevertheless: a NOTIFY on a referral that went out after it may have overtaken it, and a call
        // that its peer has left must not stay.
        if !in_order && *method != Method::Bye {
            return self.reply(now, txn, arrival, 500, &[]);
        }
        if let Err(refusal) = validate::required(request) {
            let header = refusal.header.as_ref().map(|(name, value)| (*name, value.as_str()));
            return self.reply(now, txn, arrival, refusal.code, header.as_slice());
        }
        match method {
            Method::Invite => self.receive_reinvite(now, key, txn, arrival),
            Method::Bye => self.receive_bye(now, key, txn, arrival),
            Method::Prack => self.receive_prack(now, key, txn, arrival),
            Method::Update => self.receive_update(now, key, txn, arrival),
            Method::Info => self.receive_info(now, key, txn, arrival),
            Method::Message if self.is_users(&Method::Message) => self.receive_message(now, key, txn, arrival),
            Method::Refer if self.config.referrals => self.receive_refer(now, key, txn, arrival),
            Method::Subscribe => self.receive_subscribe_in_call(now, key, txn, arrival),
            Method::Notify => self.receive_notify_in_call(now, key, txn, arrival),
            // 11.2: as outside of a dialog.
            Method::Options => {
                let allow = Arc::clone(&self.allow);
                self.reply(
                    now,
                    txn,
                    arrival,
                    200,
                    &[("Allow", &*allow), ("Accept", ACCEPT_SDP), ("Supported", super::SUPPORTED)],
                );
            }
            _ => {
                let allow = Arc::clone(&self.allow);
                self.reply(now, txn, arrival, 405, &[("Allow", &*allow)]);
            }
        }
    }

    fn receive_bye(&mut self, now: Instant, key: Key, txn: Key, arrival: Arrival<'_>) {
        self.reply(now, txn, arrival, 200, &[]);
        if let (Some(call), Some(reasons)) = (self.calls.get_mut(key), arrival.request.reasons()) {
            call.reason = Some(reasons);
        }
        self.drive(now, key, Input::PeerBye, Context::default());
    }

    fn receive_info(&mut self, now: Instant, key: Key, txn: Key, arrival: Arrival<'_>) {
        let accepted: Vec<&str> = self.config.info_types.iter().map(String::as_str).collect();
        match validate::content(arrival.request, &accepted) {
            Ok(body) => {
                self.reply(now, txn, arrival, 200, &[]);
                let content_type = arrival.request.content_type().unwrap_or("").to_ascii_lowercase();
                self.tell(Event::Info { call: id(key), content_type, body: body.unwrap_or_default() });
            }
            Err(refusal) => {
                let header = refusal.header.as_ref().map(|(name, value)| (*name, value.as_str()));
                self.reply(now, txn, arrival, refusal.code, header.as_slice());
            }
        }
    }

    fn receive_message(&mut self, now: Instant, key: Key, txn: Key, arrival: Arrival<'_>) {
        self.reply(now, txn, arrival, 200, &[]);
        let content_type = arrival.request.content_type().unwrap_or("").to_ascii_lowercase();
        self.tell(Event::Message { call: id(key), content_type, body: arrival.request.body_bytes() });
    }

    fn receive_reinvite(&mut self, now: Instant, key: Key, txn: Key, arrival: Arrival<'_>) {
        let phase = self.calls.get(key).map(|call| call.phase);
        let checked = validate::interval(arrival.request, &self.config)
            .and_then(|()| validate::content(arrival.request, &[ACCEPT_SDP]));
        let offer = match checked {
            Ok(offer) => offer,
            Err(refusal) => {
                let header = refusal.header.as_ref().map(|(name, value)| (*name, value.as_str()));
                return self.reply(now, txn, arrival, refusal.code, header.as_slice());
            }
        };
        match phase {
            Some(Phase::Established) => {}
            // 14.2: before the first INVITE is answered.
            Some(Phase::Incoming) => return self.refuse_overlap(now, txn, arrival),
            // 14.2 where ours is pending; RFC 5407 section 3.1.4 where our answer is not acknowledged.
            Some(Phase::Calling | Phase::Ringing | Phase::Answered) => {
                return self.reply(now, txn, arrival, 491, &[]);
            }
            // The call is about to end.
            _ => return self.reply(now, txn, arrival, 481, &[]),
        }
        let state = self.calls.get(key).map(|call| call.reoffer);
        if state != Some(reoffer::State::Quiet) {
            let step = state.and_then(|state| reoffer::table(state, reoffer::Input::PeerInvite));
            return match step.map(|step| step.actions) {
                Some([reoffer::Action::Refuse500]) => self.refuse_overlap(now, txn, arrival),
                _ => self.reply(now, txn, arrival, 491, &[]),
            };
        }
        let echo = arrival.echo();
        let trying = Response::new(100).to_bytes(&echo);
        let Some(call) = self.calls.get_mut(key) else { return };
        call.dialog.refresh_target(arrival.request);
        call.way.flow = Some(arrival.source.flow);
        call.way.transport = arrival.source.transport;
        call.way.target = Target::Address(arrival.source.remote);
        let sequence = call.dialog.remote_seq.unwrap_or(0);
        call.asked =
            Some(Asked { txn, echo, sequence, provisional: None, trying: None, wish: Wish::of(arrival.request) });
        self.own(txn, key, Purpose::Reinvite);
        self.note_identity(key, arrival.request);
        let context = Context { sdp: offer.as_ref(), ..Context::default() };
        self.drive_reoffer(now, key, reoffer::Input::PeerInvite, context);
        self.send_trying(now, key, txn, trying);
        self.arm_call(now, key);
    }

    /// 14.2: 500 with a Retry-After of up to ten seconds.
    pub(super) fn refuse_overlap(&mut self, now: Instant, txn: Key, arrival: Arrival<'_>) {
        let seconds = self.secret.below(11).to_string();
        self.reply(now, txn, arrival, 500, &[("Retry-After", &seconds)]);
    }

    /// 11.2.
    fn answer_options(&mut self, arrival: Arrival<'_>) {
        let code = if self.refusing { 503 } else { 200 };
        let accept = std::iter::once(ACCEPT_SDP)
            .chain(self.config.info_types.iter().map(String::as_str))
            .collect::<Vec<_>>()
            .join(", ");
        let contact = self.contact(arrival.source.transport, arrival.source.local, None);
        let tag = self.stateless_tag(arrival.request);
        let bytes = Response {
            tag: Some(tag.as_str()),
            headers: &[
                ("Contact", contact.as_str()),
                ("Allow", &*self.allow),
                ("Accept", accept.as_str()),
                ("Accept-Encoding", "identity"),
                ("Supported", super::SUPPORTED),
            ],
            ..Response::new(code)
        }
        .to_bytes(&arrival.echo());
        self.reply_stateless(arrival, bytes);
    }

    /// Answers a request that has a transaction.
    pub(super) fn reply(&mut self, now: Instant, txn: Key, arrival: Arrival<'_>, code: u16, headers: &[(&str, &str)]) {
        let echo = arrival.echo();
        let tag = (!echo.has_tag()).then(|| self.stateless_tag(arrival.request));
        let tag = tag.as_ref().map(Tag::as_str);
        let bytes = Response { tag, headers, ..Response::new(code) }.to_bytes(&echo);
        self.respond(now, txn, code, bytes);
    }

    pub(super) fn refuse(&mut self, arrival: Arrival<'_>, refusal: &Refusal) {
        self.stats.refused_invalid += 1;
        let tag = self.stateless_tag(arrival.request);
        let header = refusal.header.as_ref().map(|(name, value)| (*name, value.as_str()));
        let bytes = Response { tag: Some(tag.as_str()), headers: header.as_slice(), ..Response::new(refusal.code) }
            .to_bytes(&arrival.echo());
        self.reply_stateless(arrival, bytes);
    }

    /// Refuses a request with 503 before anything of it is looked at, and forgets it: for whoever admits requests. Nothing but a
    /// request outside of calls may be refused so.
    pub fn turn_away(&mut self, source: &Source, request: Message) {
        let request = Arc::new(request);
        if let Ok(via) = request.top_via() {
            self.refuse_busy(Arrival { source, request: &request, via: &via });
        }
    }

    pub(super) fn refuse_busy(&mut self, arrival: Arrival<'_>) {
        self.stats.refused_busy += 1;
        let seconds = self.config.limits.retry_after_s.to_string();
        let tag = self.stateless_tag(arrival.request);
        let bytes = Response { tag: Some(tag.as_str()), headers: &[("Retry-After", &seconds)], ..Response::new(503) }
            .to_bytes(&arrival.echo());
        self.reply_stateless(arrival, bytes);
    }

    /// What the parser would not take.
    pub(super) fn refuse_unreadable(&mut self, source: &Source, partial: &Message, code: u16, error: &ParseError) {
        self.stats.refused_invalid += 1;
        let tag = self.stateless_tag(partial);
        let reason = if code == 400 {
            format!("Bad Request: {}", super::write::clean(&error.to_string()))
        } else {
            String::new()
        };
        let bytes = Response { tag: Some(tag.as_str()), reason: &reason, ..Response::new(code) }.to_bytes(&Echo::new(
            partial,
            partial.top_via().ok().as_ref(),
            source,
        ));
        let to = match partial.top_via() {
            Ok(via) => reply_destination(&via, source),
            // A Via that cannot be read: back to where the request came from.
            Err(_) => Destination {
                transport: source.transport,
                flow: Some(source.flow),
                target: Target::Address(source.remote),
            },
        };
        self.send(SendId::NONE, to, bytes);
    }

    /// Sends a response that nothing is remembered of.
    fn reply_stateless(&mut self, arrival: Arrival<'_>, bytes: Bytes) {
        self.send(SendId::NONE, reply_destination(arrival.via, arrival.source), bytes);
    }

    /// A To tag that is the same for every repeat of a request (section 8.2.7).
    pub(super) fn stateless_tag(&self, request: &Message) -> Tag {
        let cseq = request.header(Name::CSeq).unwrap_or("");
        let from = request.header(Name::From).unwrap_or("");
        self.secret.name_of(&[b"tag", request.call_id().as_bytes(), from.as_bytes(), cseq.as_bytes()])
    }

    pub(super) fn own(&mut self, txn: Key, call: Key, purpose: Purpose) {
        if let Some(txn) = self.transactions.get_mut(txn) {
            txn.owner = Some((call, purpose));
        }
    }

    /// The call whose dialog a request names (section 12.2.2).
    fn find_dialog(&self, request: &Message) -> Option<Key> {
        let local_tag = request.header(Name::To).and_then(tag_of).unwrap_or("");
        let remote_tag = request.header(Name::From).and_then(tag_of).unwrap_or("");
        let fingerprint = self.dialog_fingerprint(request.call_id(), local_tag, remote_tag);
        self.dialogs.get(&fingerprint).copied()
    }

    pub(super) fn dialog_fingerprint(&self, call_id: &str, local_tag: &str, remote_tag: &str) -> Fingerprint {
        self.secret.fingerprint(&[b"dialog", call_id.as_bytes(), local_tag.as_bytes(), remote_tag.as_bytes()])
    }

    /// A Contact value of ours.
    pub(super) fn contact(
        &self,
        transport: super::Transport,
        local: std::net::SocketAddr,
        user: Option<&str>,
    ) -> String {
        use std::fmt::Write as _;
        let mut contact = String::with_capacity(64);
        contact.push_str("<sip:");
        if let Some(user) = user.filter(|user| !user.is_empty()) {
            contact.push_str(user);
            contact.push('@');
        }
        let _ = write!(contact, "{}:{}", Host(local.ip()), local.port());
        if transport != super::Transport::Udp {
            let _ = write!(contact, ";transport={}", transport.uri_name());
        }
        contact.push('>');
        contact
    }
}

/// Whether a message's Allow names UPDATE.
pub(super) fn takes_update(message: &Message) -> bool {
    message.header_values(Name::Allow).any(|method| method == "UPDATE")
}
