//! UPDATE (RFC 3311), and offers outside of INVITE: in UPDATE and in PRACK.

use std::time::Instant;

use bytes::Bytes;

use super::Endpoint;
use super::arena::Key;
use super::call::{CallTimer, Context, Reply, plain};
use super::inbound::Arrival;
use super::refresh;
use super::request::ANSWER_WITHIN_T1;
use super::validate::{self, ACCEPT_SDP};
use super::write::{Echo, Response};
use crate::dialog::reoffer;
use crate::dialog::session::Phase;
use crate::method::Method;

/// An offer of the peer outside of INVITE, which waits for our user.
#[derive(Debug)]
pub(super) struct Offered {
    txn: Key,
    echo: Echo,
    is_update: bool,
    wish: refresh::Wish,
}

impl Endpoint {
    pub(super) fn receive_update(&mut self, now: Instant, key: Key, txn: Key, arrival: Arrival<'_>) {
        if let Err(refusal) = validate::interval(arrival.request, &self.config) {
            let header = refusal.header.as_ref().map(|(name, value)| (*name, value.as_str()));
            return self.reply(now, txn, arrival, refusal.code, header.as_slice());
        }
        self.note_identity(key, arrival.request);
        self.receive_plain_offer(now, key, txn, arrival);
    }

    /// Answers an UPDATE or PRACK: at once where it offers nothing.
    pub(super) fn receive_plain_offer(&mut self, now: Instant, key: Key, txn: Key, arrival: Arrival<'_>) {
        let offer = match validate::content(arrival.request, &[ACCEPT_SDP]) {
            Ok(offer) => offer,
            Err(refusal) => {
                let header = refusal.header.as_ref().map(|(name, value)| (*name, value.as_str()));
                return self.reply(now, txn, arrival, refusal.code, header.as_slice());
            }
        };
        let is_update = arrival.request.method() == Some(&Method::Update);
        let limit = now + self.config.timings.t1 * ANSWER_WITHIN_T1;
        let Some(call) = self.calls.get_mut(key) else { return };
        let phase = call.phase;
        if is_update && matches!(phase, Phase::Incoming | Phase::Answered | Phase::Established) {
            call.dialog.refresh_target(arrival.request);
        }
        let wish = refresh::Wish::of(arrival.request);
        let offered = Offered { txn, echo: arrival.echo(), is_update, wish };
        let Some(offer) = offer else { return self.answer_plainly(now, key, offered, None) };
        match phase {
            Phase::Established => {}
            // Section 5.2: there is an offer that we have not answered.
            Phase::Incoming if !call.reliable.is_answered => return self.refuse_overlap(now, txn, arrival),
            Phase::Incoming => {}
            // Nothing is set up on our side before the 2xx.
            Phase::Calling | Phase::Ringing => return self.reply(now, txn, arrival, 488, &[]),
            Phase::Answered => return self.reply(now, txn, arrival, 491, &[]),
            _ => return self.reply(now, txn, arrival, 481, &[]),
        }
        if call.reoffer != reoffer::State::Quiet {
            let step = reoffer::table(call.reoffer, reoffer::Input::PeerOffer);
            return match step.map(|step| step.actions) {
                Some([reoffer::Action::Refuse500]) => self.refuse_overlap(now, txn, arrival),
                _ => self.reply(now, txn, arrival, 491, &[]),
            };
        }
        call.offered = Some(Box::new(offered));
        call.arm(CallTimer::Offer, limit);
        let context = Context { sdp: Some(&offer), ..Context::default() };
        self.drive_reoffer(now, key, reoffer::Input::PeerOffer, context);
    }

    /// The user's answer to such an offer, or its refusal.
    pub(super) fn answer_offered(&mut self, now: Instant, key: Key, reply: Option<&Reply<'_>>) {
        let Some(call) = self.calls.get_mut(key) else { return };
        let Some(offered) = call.offered.take() else { return };
        call.disarm(CallTimer::Offer);
        let silence = plain(500);
        let reply = reply.unwrap_or(&silence);
        if reply.code < 300 {
            return self.answer_plainly(now, key, *offered, reply.sdp);
        }
        let bytes = Response::new(reply.code).to_bytes(&offered.echo);
        self.respond(now, offered.txn, reply.code, bytes);
    }

    fn answer_plainly(&mut self, now: Instant, key: Key, offered: Offered, sdp: Option<&Bytes>) {
        let session = if offered.is_update { self.settle_session(now, key, offered.wish) } else { None };
        let Some(call) = self.calls.get_mut(key) else { return };
        if let Some(sdp) = sdp {
            call.our_description = Some(sdp.clone());
        }
        let mut headers: Vec<(&str, &str)> = Vec::new();
        if offered.is_update {
            headers.extend([("Contact", call.contact.as_str()), ("Allow", &*self.allow)]);
        }
        headers.extend(session.iter().flat_map(refresh::Settled::headers));
        let body = sdp.map(|sdp| ("application/sdp", sdp.as_ref()));
        let bytes = Response { headers: &headers, body, ..Response::new(200) }.to_bytes(&offered.echo);
        self.respond(now, offered.txn, 200, bytes);
        self.arm_call(now, key);
    }
}
