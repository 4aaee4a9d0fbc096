//! What the endpoint's user can have done.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use thiserror::Error;

use super::Endpoint;
use super::arena::Key;
use super::call::{Call, CallTimer, Context, Reply, id};
use super::challenge::Challenge;
use super::event::{CallId, Destination, RequestId, SubscriptionId};
use super::transactions::Purpose;
use crate::auth::Credentials;
use crate::build::Builder;
use crate::dialog::session::{Input, Phase};
use crate::dialog::{Dialog, reoffer};
use crate::headers::{Name, NameAddr};
use crate::method::Method;
use crate::uri::Uri;

/// A call to be placed.
#[derive(Debug, Clone)]
pub struct OutgoingCall {
    /// Whom to call: the Request-URI.
    pub uri: String,
    /// Who calls: a From value without tag, `"Name" <sip:user@host>` or a bare URI.
    pub from: String,
    /// The To value, where it is not the Request-URI.
    pub to: Option<String>,
    /// Where to send the INVITE.
    pub destination: Destination,
    /// Our address as that peer can reach it.
    pub local: SocketAddr,
    /// Further headers of the INVITE. Those that the endpoint writes itself are left out; Max-Forwards takes the place of 70.
    pub headers: Vec<(String, String)>,
    /// For 401 and 407.
    pub credentials: Option<Credentials>,
    /// SDP.
    pub offer: Bytes,
    /// Without any response for so long, not even 100, the call fails: for those who have another way to try (RFC 3263 section
    /// 4.3). `None`: 64 times T1.
    pub patience: Option<Duration>,
}

/// Why a command was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CommandError {
    /// The call has ended, or never was.
    #[error("there is no call {0}")]
    NoSuchCall(CallId),
    /// The request has been answered, or never was.
    #[error("there is no request {0}")]
    NoSuchRequest(RequestId),
    /// The subscription is over, or never was.
    #[error("there is no subscription {0}")]
    NoSuchSubscription(SubscriptionId),
    /// The subscription is in no state where this makes sense: it waits for an answer, or has one already.
    #[error("subscription {0} is in no state for this")]
    SubscriptionState(SubscriptionId),
    /// The call is not in a state where this makes sense.
    #[error("call {0} is in no state for this")]
    WrongState(CallId),
    /// An argument cannot be used.
    #[error("cannot use {what} `{value}`")]
    BadArgument {
        /// Which.
        what: &'static str,
        /// Its value.
        value: String,
    },
    /// At a limit of [`EndpointLimits`](super::EndpointLimits).
    #[error("the limit of {limit} {what} is reached")]
    Limit {
        /// Of what.
        what: &'static str,
        /// How many.
        limit: usize,
    },
}

impl Endpoint {
    /// Sends a provisional response, 101 to 199, with SDP for early media if wanted.
    ///
    /// # Errors
    /// Where the call does not ring.
    pub fn ring(&mut self, now: Instant, call: CallId, code: u16, sdp: Option<Bytes>) -> Result<(), CommandError> {
        let key = self.known(call)?;
        let code = checked_code(code, 101, 199)?;
        let rings = self.calls.get(key).is_some_and(|call| call.phase == Phase::Incoming);
        if rings && self.ring_asked(now, key, code, sdp.as_ref()) {
            return Ok(());
        }
        Err(CommandError::WrongState(call))
    }

    /// Answers a call with 200. `sdp` is the answer to its offer; or the offer, where it had none.
    ///
    /// # Errors
    /// Where the call does not ring.
    pub fn answer(&mut self, now: Instant, call: CallId, sdp: Bytes) -> Result<(), CommandError> {
        if self.answer_waits(self.known(call)?, &sdp) {
            return Ok(());
        }
        let reply = Reply { code: 200, reason: "", headers: &[], sdp: Some(&sdp) };
        self.run(now, call, Input::Answer, Some(&reply))
    }

    /// Refuses a call with 300 to 699. An empty `reason` takes the usual phrase; `headers` go with it, such as Reason (RFC 6432)
    /// and Retry-After.
    ///
    /// # Errors
    /// Where the call does not ring.
    pub fn reject(
        &mut self,
        now: Instant,
        call: CallId,
        code: u16,
        reason: &str,
        headers: &[(String, String)],
    ) -> Result<(), CommandError> {
        let reply = Reply { code: checked_code(code, 300, 699)?, reason, headers, sdp: None };
        self.run(now, call, Input::Refuse, Some(&reply))
    }

    /// Ends a call in whatever way its state asks for: CANCEL, 480, BYE at once or after the ACK. `reason` goes with each: a
    /// Reason header's value (RFC 3326), or several with commas between them. `Ended` follows.
    ///
    /// # Errors
    /// Where there is no such call.
    pub fn bye(&mut self, now: Instant, call: CallId, reason: Option<&str>) -> Result<(), CommandError> {
        let key = self.known(call)?;
        if let (Some(call), Some(reason)) = (self.calls.get_mut(key), reason) {
            call.our_reason = Some(reason.to_owned());
        }
        self.run(now, call, Input::HangUp, None)
    }

    /// Gives up a call that we placed; the same as [`bye`](Self::bye).
    ///
    /// # Errors
    /// Where there is no such call.
    pub fn cancel(&mut self, now: Instant, call: CallId) -> Result<(), CommandError> {
        self.bye(now, call, None)
    }

    /// Places a call.
    ///
    /// # Errors
    /// Where an address cannot be read, or a limit is reached.
    pub fn invite(&mut self, now: Instant, outgoing: OutgoingCall) -> Result<CallId, CommandError> {
        let limit = self.config.limits.calls;
        if self.calls.len() >= limit {
            return Err(CommandError::Limit { what: "calls", limit });
        }
        if !self.has_room(true) {
            let limit = self.config.limits.transactions;
            return Err(CommandError::Limit { what: "transactions", limit });
        }
        let bad = |what, value: &str| CommandError::BadArgument { what, value: value.to_owned() };
        let uri = Uri::parse(&outgoing.uri).map_err(|_| bad("address", &outgoing.uri))?.for_request_uri();
        let from = NameAddr::parse(&outgoing.from).map_err(|_| bad("From", &outgoing.from))?;
        let to = outgoing.to.clone().unwrap_or_else(|| format!("<{}>", uri.as_str()));
        NameAddr::parse(&to).map_err(|_| bad("To", &to))?;
        let tag = self.secret.name();
        let display = if from.display.is_empty() { String::new() } else { format!("{} ", from.display) };
        let user = from.uri().ok().and_then(|uri| uri.user().map(str::to_owned));
        let contact = self.contact(outgoing.destination.transport, outgoing.local, user.as_deref());
        let dialog = Dialog {
            call_id: self.secret.long_name(),
            local: format!("{display}<{}>;tag={}", from.uri_text, tag.as_str()),
            local_tag: tag.as_str().to_owned(),
            remote: to,
            remote_tag: String::new(),
            local_seq: 1,
            remote_seq: None,
            route_set: Vec::new(),
            remote_target: uri,
        };
        let way = outgoing.destination.clone();
        let mut call = Call::new(Phase::Calling, dialog, way, outgoing.local, contact);
        call.placed_here = true;
        call.challenge = outgoing.credentials.clone().map(|credentials| Box::new(Challenge::new(credentials)));
        call.arm(CallTimer::Ring, now + self.config.ring_limit);
        let key = self.calls.insert(call);
        self.send_invite(now, key, &outgoing);
        self.arm_call(now, key);
        Ok(id(key))
    }

    /// Changes the session by re-INVITE with this SDP. `ReofferResult` follows.
    ///
    /// After glare the endpoint tries again by itself with the same SDP (RFC 3261 section 14.1). Where we describe something else
    /// meanwhile, by answering the peer's offer, that SDP is outdated (RFC 3264 section 8): the result is 491 then, and it is the
    /// user's to offer anew. Another `reoffer` takes the place of one that waits for its next try.
    ///
    /// # Errors
    /// Where the call does not stand, or another re-INVITE is under way.
    pub fn reoffer(&mut self, now: Instant, call: CallId, sdp: Bytes) -> Result<(), CommandError> {
        let key = self.known(call)?;
        let Some(state) = self.calls.get_mut(key) else { return Err(CommandError::NoSuchCall(call)) };
        if state.phase != Phase::Established || state.reoffer != reoffer::State::Quiet {
            return Err(CommandError::WrongState(call));
        }
        state.our_offer = Some(sdp);
        state.disarm(CallTimer::Retry);
        let waited = state.retry.take();
        if std::mem::take(&mut state.is_refresh) && waited.is_some() {
            // Should this one fail, the session is to be refreshed nevertheless.
            self.refresh_failed(now, key);
        }
        self.drive_reoffer(now, key, reoffer::Input::Offer, Context::default());
        Ok(())
    }

    /// Answers the peer's re-INVITE with 200 and this SDP.
    ///
    /// # Errors
    /// Where none waits.
    pub fn answer_reoffer(&mut self, now: Instant, call: CallId, sdp: Bytes) -> Result<(), CommandError> {
        let reply = Reply { code: 200, reason: "", headers: &[], sdp: Some(&sdp) };
        self.run_reoffer(now, call, reoffer::Input::Answer, &reply)
    }

    /// Refuses the peer's re-INVITE (488, as a rule); the call goes on as it was.
    ///
    /// # Errors
    /// Where none waits.
    pub fn reject_reoffer(&mut self, now: Instant, call: CallId, code: u16) -> Result<(), CommandError> {
        let reply = Reply { code: checked_code(code, 300, 699)?, reason: "", headers: &[], sdp: None };
        self.run_reoffer(now, call, reoffer::Input::Refuse, &reply)
    }

    /// Sends INFO in a call (RFC 6086). `InfoResult` follows.
    ///
    /// # Errors
    /// Where the call does not stand, or too many are under way.
    pub fn send_info(
        &mut self,
        now: Instant,
        call: CallId,
        content_type: &str,
        body: Bytes,
    ) -> Result<(), CommandError> {
        let key = self.known(call)?;
        let limit = self.config.limits.infos_per_call;
        let Some(state) = self.calls.get_mut(key) else { return Err(CommandError::NoSuchCall(call)) };
        if state.phase != Phase::Established {
            return Err(CommandError::WrongState(call));
        }
        if state.infos >= limit {
            return Err(CommandError::Limit { what: "INFO requests in a call", limit });
        }
        state.infos += 1;
        self.send_inside(now, key, (&Method::Info, Purpose::Info), &[], Some((content_type, &body)));
        Ok(())
    }

    /// Sends MESSAGE in a call (RFC 3428). `MessageResult` follows.
    ///
    /// # Errors
    /// Where the call does not stand, or too many are under way.
    pub fn send_message(
        &mut self,
        now: Instant,
        call: CallId,
        content_type: &str,
        body: Bytes,
    ) -> Result<(), CommandError> {
        let key = self.known(call)?;
        let limit = self.config.limits.infos_per_call;
        let Some(state) = self.calls.get_mut(key) else { return Err(CommandError::NoSuchCall(call)) };
        if state.phase != Phase::Established {
            return Err(CommandError::WrongState(call));
        }
        if state.infos >= limit {
            return Err(CommandError::Limit { what: "MESSAGE requests in a call", limit });
        }
        state.infos += 1;
        self.send_inside(now, key, (&Method::Message, Purpose::Message), &[], Some((content_type, &body)));
        Ok(())
    }

    fn send_invite(&mut self, now: Instant, key: Key, outgoing: &OutgoingCall) {
        let branch = self.branch();
        let Some(call) = self.calls.get(key) else { return };
        let dialog = &call.dialog;
        let via = self.via(outgoing.destination.transport, outgoing.local, &branch);
        let mut builder = Builder::request(&Method::Invite, dialog.remote_target.as_str())
            .header(Name::Via, via)
            .header(Name::MaxForwards, max_forwards(&outgoing.headers))
            .header(Name::From, &dialog.local)
            .header(Name::To, &dialog.remote)
            .header(Name::CallId, &dialog.call_id)
            .header(Name::CSeq, "1 INVITE")
            .header(Name::Contact, &call.contact)
            .header(Name::Allow, &self.allow)
            .header(Name::Supported, super::SUPPORTED);
        if !self.config.user_agent.is_empty() {
            builder = builder.header(Name::UserAgent, &self.config.user_agent);
        }
        for (name, value) in self.session_headers(key) {
            builder = builder.header(name, value);
        }
        for (name, value) in &outgoing.headers {
            if !is_ours(Name::parse(name.as_bytes())) {
                builder = builder.header_named(name, value);
            }
        }
        let bytes = builder.body("application/sdp", outgoing.offer.clone()).finish().bytes();
        let way = (outgoing.destination.clone(), outgoing.local);
        let txn = self.add_client(now, Some((key, Purpose::Invite)), (&branch, "INVITE"), way, bytes);
        self.limit(now, txn, outgoing.patience);
        if let Some(call) = self.calls.get_mut(key) {
            call.asking = Some(txn);
            call.our_description = Some(outgoing.offer.clone());
        }
    }

    pub(super) fn known(&self, call: CallId) -> Result<Key, CommandError> {
        let key = Key::from_u64(call.0);
        self.calls.get(key).map(|_| key).ok_or(CommandError::NoSuchCall(call))
    }

    fn run(&mut self, now: Instant, call: CallId, input: Input, reply: Option<&Reply<'_>>) -> Result<(), CommandError> {
        let key = self.known(call)?;
        let context = Context { reply, ..Context::default() };
        if self.drive(now, key, input, context) {
            return Ok(());
        }
        Err(CommandError::WrongState(call))
    }

    fn run_reoffer(
        &mut self,
        now: Instant,
        call: CallId,
        input: reoffer::Input,
        reply: &Reply<'_>,
    ) -> Result<(), CommandError> {
        let key = self.known(call)?;
        let context = Context { reply: Some(reply), ..Context::default() };
        if self.drive_reoffer(now, key, input, context) {
            return Ok(());
        }
        Err(CommandError::WrongState(call))
    }
}

/// Headers that the endpoint writes itself.
fn is_ours(name: Name) -> bool {
    matches!(
        name,
        Name::Via
            | Name::From
            | Name::To
            | Name::CallId
            | Name::CSeq
            | Name::Contact
            | Name::MaxForwards
            | Name::ContentType
            | Name::ContentLength
            | Name::Allow
            | Name::Supported
            | Name::UserAgent
            | Name::RecordRoute
            | Name::SessionExpires
            | Name::MinSe
    )
}

/// A call that is passed on has fewer hops left than a new one: 70, or what the user's own header says.
fn max_forwards(headers: &[(String, String)]) -> u8 {
    let given = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("Max-Forwards"));
    given.and_then(|(_, value)| value.trim().parse().ok()).unwrap_or(70)
}

pub(super) fn checked_code(code: u16, from: u16, to: u16) -> Result<u16, CommandError> {
    if (from..=to).contains(&code) {
        return Ok(code);
    }
    Err(CommandError::BadArgument { what: "status code", value: code.to_string() })
}
