//! Provisional responses to the peer's INVITE, reliable ones among them (RFC 3262 section 3).
//!
//! One reliable response is under way at a time: another waits for its PRACK, and so does the 2xx where the response held a
//! session description.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::Endpoint;
use super::arena::Key;
use super::call::{CallTimer, Context, REFRESH, Reply};
use super::inbound::Arrival;
use super::write::Response;
use crate::dialog::session::{Input, Phase};
use crate::headers::{Name, RAck};
use crate::message::Message;
use crate::method::Method;

/// The option tag.
const TAG: &str = "100rel";

/// Whether the caller takes reliable responses.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// It does not know them.
    #[default]
    No,
    /// It knows them.
    Can,
    /// It wants no others.
    Must,
}

/// Where the reliable responses of a call stand.
#[derive(Debug, Default)]
pub(super) struct Reliable {
    wish: Wish,
    /// The INVITE held an offer.
    is_offered: bool,
    /// The INVITE's CSeq number.
    sequence: u32,
    /// The RSeq of the first and of the last response.
    sent: Option<(u32, u32)>,
    unacknowledged: Option<Unacknowledged>,
    /// What is to be sent once that is acknowledged.
    next: Option<(u16, Option<Bytes>)>,
    answer: Option<Bytes>,
    /// The answer to the offer was given, and acknowledged.
    pub(super) is_answered: bool,
}

#[derive(Debug)]
struct Unacknowledged {
    response: u32,
    code: u16,
    bytes: Bytes,
    interval: Duration,
    has_answer: bool,
}

impl Reliable {
    /// What an INVITE says of reliable responses.
    pub(super) fn of(invite: &Message, is_offered: bool) -> Self {
        let names = |header| invite.header_values(header).any(|tag: &str| tag.eq_ignore_ascii_case(TAG));
        let wish = match (names(Name::Require), names(Name::Supported)) {
            (true, _) => Wish::Must,
            (_, true) => Wish::Can,
            _ => Wish::No,
        };
        Self { wish, is_offered, sequence: invite.cseq().map_or(0, |cseq| cseq.number), ..Self::default() }
    }
}

impl Endpoint {
    /// Sends a provisional response to the peer's pending INVITE.
    pub(super) fn ring_asked(&mut self, now: Instant, key: Key, code: u16, sdp: Option<&Bytes>) -> bool {
        let Some(call) = self.calls.get_mut(key).filter(|call| call.asked.is_some()) else { return false };
        let reliable = &mut call.reliable;
        let sdp = sdp.filter(|_| !reliable.is_answered);
        let is_reliable = match reliable.wish {
            Wish::No => false,
            Wish::Can => sdp.is_some() && reliable.is_offered,
            // The first one would have to hold our offer (section 5), which there is none of: the caller waits for the answer.
            Wish::Must if !reliable.is_offered => return true,
            Wish::Must => true,
        };
        if !is_reliable {
            return self.send_provisional(now, key, code, sdp, None);
        }
        if reliable.unacknowledged.is_some() {
            let sdp = sdp.cloned().or_else(|| reliable.next.take().and_then(|(_, sdp)| sdp));
            reliable.next = Some((code, sdp));
            return true;
        }
        let random = 1 + self.secret.below(1 << 30) as u32;
        let Some(call) = self.calls.get_mut(key) else { return false };
        let response = call.reliable.sent.map_or(random, |(_, last)| last + 1);
        call.reliable.sent = Some((call.reliable.sent.map_or(response, |(first, _)| first), response));
        self.send_provisional(now, key, code, sdp, Some(response))
    }

    fn send_provisional(
        &mut self,
        now: Instant,
        key: Key,
        code: u16,
        sdp: Option<&Bytes>,
        reliable: Option<u32>,
    ) -> bool {
        let (t1, limit) = (self.config.timings.t1, self.config.timings.t1_times_64());
        let Some(call) = self.calls.get_mut(key) else { return false };
        let Some(asked) = call.asked.as_mut() else { return false };
        let mut headers = vec![("Contact", call.contact.as_str()), ("Allow", &*self.allow)];
        if !self.config.user_agent.is_empty() {
            headers.push(("Server", self.config.user_agent.as_str()));
        }
        let number = reliable.map(|number| number.to_string());
        if let Some(number) = &number {
            headers.extend([("Require", TAG), ("RSeq", number.as_str())]);
        }
        let bytes = Response {
            tag: Some(&call.dialog.local_tag),
            routes: true,
            headers: &headers,
            body: sdp.map(|sdp| ("application/sdp", sdp.as_ref())),
            ..Response::new(code)
        }
        .to_bytes(&asked.echo);
        asked.provisional = Some((code, bytes.clone()));
        asked.trying = None;
        let txn = asked.txn;
        if let Some(sdp) = sdp {
            call.our_description = Some(sdp.clone());
        }
        call.arm(CallTimer::Refresh, now + REFRESH);
        if let Some(response) = reliable {
            let has_answer = sdp.is_some();
            let bytes = bytes.clone();
            call.reliable.unacknowledged = Some(Unacknowledged { response, code, bytes, interval: t1, has_answer });
            call.arm(CallTimer::Reliable, now + t1);
            call.arm(CallTimer::ReliableLimit, now + limit);
        }
        self.respond(now, txn, code, bytes);
        self.arm_call(now, key);
        true
    }

    /// A provisional response is repeated: one that is not reliable for the proxies' sake, a reliable one until its PRACK.
    pub(super) fn provisional_due(&mut self, now: Instant, key: Key, timer: CallTimer) {
        let Some(call) = self.calls.get_mut(key) else { return };
        let Some((txn, provisional)) = call.asked.as_ref().map(|asked| (asked.txn, asked.provisional.clone())) else {
            return;
        };
        match timer {
            CallTimer::ReliableLimit => _ = self.drive(now, key, Input::NoPrack, Context::default()),
            CallTimer::Reliable => {
                let Some(waiting) = call.reliable.unacknowledged.as_mut() else { return };
                waiting.interval *= 2;
                let (interval, code, bytes) = (waiting.interval, waiting.code, waiting.bytes.clone());
                call.arm(CallTimer::Reliable, now + interval);
                self.stats.repeats_sent += 1;
                self.respond(now, txn, code, bytes);
            }
            _ if call.reliable.wish == Wish::Must => {
                // Section 3: each is a reliable response of its own.
                let code = provisional.map_or(180, |(code, _)| code);
                self.ring_asked(now, key, code, None);
            }
            _ => {
                call.arm(CallTimer::Refresh, now + REFRESH);
                if let Some((code, bytes)) = provisional {
                    self.respond(now, txn, code, bytes);
                }
            }
        }
    }

    /// Keeps the user's answer until the session description that was sent before it is acknowledged; whether it waits.
    pub(super) fn answer_waits(&mut self, key: Key, sdp: &Bytes) -> bool {
        let Some(call) = self.calls.get_mut(key).filter(|call| call.phase == Phase::Incoming) else { return false };
        let waits = call.reliable.unacknowledged.as_ref().is_some_and(|waiting| waiting.has_answer);
        if waits {
            call.reliable.answer = Some(sdp.clone());
        }
        waits
    }

    /// Section 3: PRACK.
    pub(super) fn receive_prack(&mut self, now: Instant, key: Key, txn: Key, arrival: Arrival<'_>) {
        let rack = arrival.request.header(Name::RAck).map(RAck::parse);
        let Some(Ok(rack)) = rack else { return self.reply(now, txn, arrival, 400, &[]) };
        let Some(call) = self.calls.get_mut(key) else { return };
        let reliable = &mut call.reliable;
        let is_of_invite = rack.method == Method::Invite && rack.sequence == reliable.sequence;
        let is_next = reliable.unacknowledged.as_ref().is_some_and(|waiting| waiting.response == rack.response);
        if !is_of_invite || !is_next {
            // One that comes after the 2xx is late, and no reason to take the call for gone.
            let was_sent = reliable.sent.is_some_and(|(first, last)| (first..=last).contains(&rack.response));
            let code = if is_of_invite && was_sent && call.phase != Phase::Incoming { 200 } else { 481 };
            return self.reply(now, txn, arrival, code, &[]);
        }
        let has_answer = reliable.unacknowledged.take().is_some_and(|waiting| waiting.has_answer);
        reliable.is_answered |= has_answer;
        let (next, answer) = (reliable.next.take(), reliable.answer.take());
        call.disarm(CallTimer::Reliable);
        call.disarm(CallTimer::ReliableLimit);
        self.receive_plain_offer(now, key, txn, arrival);
        if let Some(sdp) = answer {
            let reply = Reply { code: 200, reason: "", headers: &[], sdp: Some(&sdp) };
            self.drive(now, key, Input::Answer, Context { reply: Some(&reply), ..Context::default() });
        } else if let Some((code, sdp)) = next {
            self.ring_asked(now, key, code, sdp.as_ref());
        }
    }
}
