//! Requests outside of calls, both ways (RFC 3261 sections 8.1 and 8.2): those of peers that the user answers (REGISTER,
//! MESSAGE, OPTIONS), and those that the user sends.
//!
//! Each is a transaction and an entry here until it has its final answer. A peer's that the user leaves unanswered gets
//! 500 while the peer still waits; ours that has no answer is told as 408, one that could not be sent as 503.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::arena::Key;
use super::challenge::{Challenge, Sent};
use super::commands::{CommandError, checked_code};
use super::event::{Destination, Event, RequestId};
use super::inbound::Arrival;
use super::secret::{Fingerprint, Name as Tag};
use super::transactions::{Failure, Purpose};
use super::validate::{self, Refusal};
use super::write::{Echo, Response, clean, reply_destination};
use super::{Endpoint, REQUEST_MARK, own};
use crate::auth::Credentials;
use crate::build::Builder;
use crate::headers::params::is_token;
use crate::headers::{Name, NameAddr};
use crate::message::Message;
use crate::method::Method;
use crate::timer::TimerTable;
use crate::transaction::Kind;
use crate::uri::Uri;

/// A request outside of calls, to be sent.
#[derive(Debug, Clone)]
pub struct OutgoingRequest {
    /// Any method but INVITE, ACK and CANCEL.
    pub method: Method,
    /// The Request-URI.
    pub uri: String,
    /// Who sends it: a From value without tag, `"Name" <sip:user@host>` or a bare URI.
    pub from: String,
    /// The To value, where it is not the Request-URI.
    pub to: Option<String>,
    /// The Call-ID; `None` makes a new one. Registrations keep theirs (RFC 3261 section 10.2).
    pub call_id: Option<String>,
    /// The CSeq number, below 2^31; 1 where none is given. Each answer to a challenge counts it up by one: the response's
    /// CSeq says where it stands.
    pub sequence: Option<u32>,
    /// Where to send it.
    pub destination: Destination,
    /// Our address as that peer can reach it.
    pub local: SocketAddr,
    /// The Contact header's value, where there is to be one.
    pub contact: Option<String>,
    /// Further headers. Those that the endpoint writes itself are left out; Max-Forwards, Allow, Supported and User-Agent
    /// take the place of the endpoint's.
    pub headers: Vec<(String, String)>,
    /// Content-Type and body.
    pub body: Option<(String, Bytes)>,
    /// For 401 and 407.
    pub credentials: Option<Credentials>,
    /// Without any response for so long it fails; `None`: 64 times T1.
    pub patience: Option<Duration>,
}

impl OutgoingRequest {
    /// A request with nothing but its addresses.
    #[must_use]
    pub fn new(method: Method, uri: &str, from: &str, destination: Destination, local: SocketAddr) -> Self {
        Self {
            method,
            uri: uri.to_owned(),
            from: from.to_owned(),
            to: None,
            call_id: None,
            sequence: None,
            destination,
            local,
            contact: None,
            headers: Vec::new(),
            body: None,
            credentials: None,
            patience: None,
        }
    }
}

/// A request that waits for its answer.
#[derive(Debug)]
pub(super) enum Pending {
    /// A peer's, for the user.
    Asked { txn: Key, echo: Box<Echo>, tag: Tag, timers: TimerTable<1> },
    /// Ours, for the peer.
    Asking { method: Method, sequence: u32, challenge: Option<Box<Challenge>> },
}

impl Endpoint {
    /// Answers a request outside of calls with 200 to 699. An empty `reason` takes the usual phrase. Server is added, and
    /// Allow to 405.
    ///
    /// # Errors
    /// Where it is answered already: by the user, or by 500 because that took too long.
    pub fn respond_request(
        &mut self,
        now: Instant,
        request: RequestId,
        code: u16,
        reason: &str,
        headers: &[(String, String)],
        body: Option<(&str, Bytes)>,
    ) -> Result<(), CommandError> {
        let code = checked_code(code, 200, 699)?;
        let key = Key::from_u64(request.0);
        if !matches!(self.requests.get(key), Some(Pending::Asked { .. })) {
            return Err(CommandError::NoSuchRequest(request));
        }
        let body = body.as_ref().map(|(kind, body)| (*kind, body.as_ref()));
        self.answer_asked(now, key, (code, reason), headers, body);
        Ok(())
    }

    /// Sends a request outside of calls. Challenges are answered with its credentials; [`Event::Response`] tells how it
    /// ended.
    ///
    /// # Errors
    /// Where an address cannot be read, the method belongs to calls, or a limit is reached.
    pub fn request(&mut self, now: Instant, outgoing: OutgoingRequest) -> Result<RequestId, CommandError> {
        let limit = self.config.limits.requests;
        if self.requests.len() - self.requests_asked >= limit {
            return Err(CommandError::Limit { what: "requests outside of calls", limit });
        }
        if !self.has_room(false) {
            let limit = self.config.limits.transactions;
            return Err(CommandError::Limit { what: "transactions", limit });
        }
        let branch = self.branch();
        let bytes = self.compose(&outgoing, &branch)?;
        let OutgoingRequest { method, destination, local, sequence, credentials, patience, .. } = outgoing;
        let challenge = credentials.map(|credentials| Box::new(Challenge::new(credentials)));
        let name = method.clone();
        let pending = Pending::Asking { method, sequence: sequence.unwrap_or(1), challenge };
        let key = self.requests.insert(pending);
        let purpose = Some((key, Purpose::Request));
        let txn = self.add_client(now, purpose, (&branch, name.as_str()), (destination, local), bytes);
        self.limit(now, txn, patience);
        Ok(id(key))
    }

    fn compose(&mut self, outgoing: &OutgoingRequest, branch: &str) -> Result<Bytes, CommandError> {
        let bad = |what, value: &str| CommandError::BadArgument { what, value: value.to_owned() };
        if matches!(outgoing.method, Method::Invite | Method::Ack | Method::Cancel) {
            return Err(bad("method", outgoing.method.as_str()));
        }
        let uri = Uri::parse(&outgoing.uri).map_err(|_| bad("address", &outgoing.uri))?.for_request_uri();
        let from = NameAddr::parse(&outgoing.from).map_err(|_| bad("From", &outgoing.from))?;
        let to = outgoing.to.clone().unwrap_or_else(|| format!("<{}>", uri.as_str()));
        NameAddr::parse(&to).map_err(|_| bad("To", &to))?;
        let sequence = outgoing.sequence.unwrap_or(1);
        if sequence == 0 || sequence >= 1 << 31 {
            return Err(bad("CSeq number", &sequence.to_string()));
        }
        let call_id = match &outgoing.call_id {
            Some(known) if known.is_empty() || known.contains(char::is_whitespace) => {
                return Err(bad("Call-ID", known));
            }
            Some(known) => known.clone(),
            None => self.secret.long_name(),
        };
        let tag = self.secret.name();
        let display = if from.display.is_empty() { String::new() } else { format!("{} ", from.display) };
        let theirs = |name| outgoing.headers.iter().any(|(given, _)| Name::parse(given.as_bytes()) == name);
        let mut builder = Builder::request(&outgoing.method, uri.as_str())
            .header(Name::Via, self.via(outgoing.destination.transport, outgoing.local, branch));
        if !theirs(Name::MaxForwards) {
            builder = builder.header(Name::MaxForwards, 70);
        }
        builder = builder
            .header(Name::From, format_args!("{display}<{}>;tag={}", from.uri_text, tag.as_str()))
            .header(Name::To, &to)
            .header(Name::CallId, &call_id)
            .header(Name::CSeq, format_args!("{sequence} {}", outgoing.method));
        if let Some(contact) = &outgoing.contact {
            builder = builder.header(Name::Contact, contact);
        }
        if !self.config.user_agent.is_empty() && !theirs(Name::UserAgent) {
            builder = builder.header(Name::UserAgent, &self.config.user_agent);
        }
        for (name, value) in &outgoing.headers {
            if !is_ours(Name::parse(name.as_bytes())) {
                builder = builder.header_named(name, value);
            }
        }
        if let Some((kind, body)) = &outgoing.body {
            builder = builder.body(kind, body.clone());
        }
        Ok(builder.finish().bytes())
    }

    /// Whether requests of this method, outside of calls, are the user's to answer.
    pub(super) fn is_users(&self, method: &Method) -> bool {
        self.config.user_methods.contains(method)
    }

    /// A request for the user: checked, given a transaction, told.
    pub(super) fn receive_outside(&mut self, now: Instant, arrival: Arrival<'_>, fingerprint: Fingerprint) {
        let Arrival { source, request, via } = arrival;
        let merge = self.merge_fingerprint(request);
        if self.merges.contains_key(&merge) {
            // 8.2.2.2: the same request by another way.
            return self.refuse(arrival, &Refusal::new(482));
        }
        if let Err(refusal) = validate::required(request) {
            return self.refuse(arrival, &refusal);
        }
        let is_full = self.requests_asked >= self.config.limits.requests;
        if self.refusing || is_full || !self.has_room(false) {
            return self.refuse_busy(arrival);
        }
        let to = reply_destination(via, source);
        let txn = self.add_server(Kind::Server, fingerprint, Some(merge), to, source.local);
        let tag = self.stateless_tag(request);
        let mut timers = TimerTable::default();
        timers.set(0, now + self.config.timings.t1 * ANSWER_WITHIN_T1);
        let pending = Pending::Asked { txn, echo: Box::new(arrival.echo()), tag, timers };
        let key = self.requests.insert(pending);
        self.requests_asked += 1;
        self.arm_request(now, key);
        self.tell(Event::Request { request: id(key), message: Arc::clone(request), source: *source });
    }

    fn arm_request(&mut self, now: Instant, key: Key) {
        if let Some(Pending::Asked { timers, .. }) = self.requests.get_mut(key) {
            timers.enqueue(&mut self.wheel, now, key.to_u64() | REQUEST_MARK);
        }
    }

    /// The user did not answer in time.
    pub(super) fn request_due(&mut self, now: Instant, key: Key) {
        let Some(Pending::Asked { timers, .. }) = self.requests.get_mut(key) else { return };
        if !timers.dequeue(now) {
            return;
        }
        match timers.take_due(now) {
            Some(_) => self.answer_asked(now, key, (500, ""), &[], None),
            None => self.arm_request(now, key),
        }
    }

    fn answer_asked(
        &mut self,
        now: Instant,
        key: Key,
        (code, reason): (u16, &str),
        headers: &[(String, String)],
        body: Option<(&str, &[u8])>,
    ) {
        let Some(Pending::Asked { txn, echo, tag, .. }) = self.requests.remove(key) else { return };
        self.requests_asked -= 1;
        let allow = Arc::clone(&self.allow);
        let given: Vec<(&str, std::borrow::Cow<'_, str>)> = headers
            .iter()
            .filter(|(name, _)| is_token(name) && !is_echoed(Name::parse(name.as_bytes())))
            .map(|(name, value)| (name.as_str(), clean(value)))
            .collect();
        let mut headers: Vec<(&str, &str)> = given.iter().map(|(name, value)| (*name, value.as_ref())).collect();
        let has =
            |headers: &[(&str, &str)], wanted: &str| headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(wanted));
        if !self.config.user_agent.is_empty() && !has(&headers, "Server") {
            headers.push(("Server", &self.config.user_agent));
        }
        // 8.2.1.
        if code == 405 && !has(&headers, "Allow") {
            headers.push(("Allow", &allow));
        }
        let body = body.filter(|(kind, _)| kind.bytes().all(|byte| byte >= b' '));
        let bytes = Response { tag: Some(tag.as_str()), reason, headers: &headers, body, ..Response::new(code) }
            .to_bytes(&echo);
        self.respond(now, txn, code, bytes);
    }

    /// A response to a request of ours: the end of it, unless it asks for credentials that we have.
    pub(super) fn outgoing_answered(
        &mut self,
        now: Instant,
        key: Key,
        way: (Destination, SocketAddr),
        response: &Arc<Message>,
        request: Option<&Sent>,
    ) {
        let code = response.code().unwrap_or(0);
        if code < 200 || (matches!(code, 401 | 407) && self.outgoing_again(now, key, way, response, request)) {
            return;
        }
        self.outgoing_done(key, code, Some(Arc::clone(response)));
    }

    /// A request of ours had no response.
    pub(super) fn outgoing_failed(&mut self, key: Key, failure: Failure) {
        let code = match failure {
            Failure::TimedOut => 408,
            Failure::Unreachable => 503,
        };
        self.outgoing_done(key, code, None);
    }

    fn outgoing_done(&mut self, key: Key, code: u16, response: Option<Arc<Message>>) {
        if self.requests.remove(key).is_some() {
            self.tell(Event::Response { request: id(key), code, response });
        }
    }

    /// Sends a request again with credentials (section 22.2); `false` where there are none worth trying.
    fn outgoing_again(
        &mut self,
        now: Instant,
        key: Key,
        (to, local): (Destination, SocketAddr),
        response: &Message,
        request: Option<&Sent>,
    ) -> bool {
        let (branch, cnonce) = (self.branch(), self.secret.name());
        let via = self.via(to.transport, local, &branch);
        let Some(Pending::Asking { method, sequence, challenge: Some(challenge) }) = self.requests.get_mut(key) else {
            return false;
        };
        let Some(request) = request else { return false };
        let Some((headers, tried)) = challenge.answers(response, (method, request), cnonce.as_str()) else {
            return false;
        };
        *sequence += 1;
        let (method, sequence) = (method.clone(), *sequence);
        let Some(bytes) = own::again(&request.bytes, method.as_str(), &via, sequence, &headers) else {
            return false;
        };
        let purpose = Some((key, Purpose::Request));
        let txn = self.add_client(now, purpose, (&branch, method.as_str()), (to, local), bytes.into());
        self.note_tried(txn, tried);
        true
    }
}

/// The user has so many T1 to answer a request: a little less than the 64 that the peer waits.
pub(super) const ANSWER_WITHIN_T1: u32 = 60;

fn id(key: Key) -> RequestId {
    RequestId(key.to_u64())
}

/// Headers of a request that the endpoint writes itself.
fn is_ours(name: Name) -> bool {
    matches!(
        name,
        Name::Via
            | Name::From
            | Name::To
            | Name::CallId
            | Name::CSeq
            | Name::Contact
            | Name::ContentType
            | Name::ContentLength
            | Name::RecordRoute
    )
}

/// Headers of a response that repeat the request's, and those of the body.
fn is_echoed(name: Name) -> bool {
    matches!(
        name,
        Name::Via
            | Name::From
            | Name::To
            | Name::CallId
            | Name::CSeq
            | Name::Timestamp
            | Name::ContentType
            | Name::ContentLength
    )
}
