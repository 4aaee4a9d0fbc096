//! Early dialogs of our INVITE: one for each phone that a proxy forked it to, from its first provisional response on (RFC 3261
//! section 12.1.2), with the acknowledgement of reliable ones (RFC 3262 section 4).

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::Endpoint;
use super::arena::Key;
use super::outbound::next_hop;
use super::secret::Fingerprint;
use super::transactions::Purpose;
use crate::dialog::Dialog;
use crate::headers::{Name, RAck};
use crate::message::Message;
use crate::method::Method;
use crate::uri::decimal;

/// An early dialog.
#[derive(Debug)]
pub(super) struct Early {
    pub(super) dialog: Dialog,
    print: Fingerprint,
    /// The RSeq of the last reliable response.
    last: Option<u32>,
    /// The first session description: the answer to our offer, unless the 2xx has one.
    answer: Option<Bytes>,
}

/// What an early dialog leaves to the dialog that it becomes.
#[derive(Debug, Default)]
pub(super) struct Inheritance {
    pub(super) answer: Option<Bytes>,
    pub(super) remote_seq: Option<u32>,
}

impl Endpoint {
    /// A provisional response to our INVITE: notes its dialog, and acknowledges it where it is reliable. Whether it counts: repeats
    /// of reliable ones do not, nor what comes out of order, nor forks beyond the limit.
    pub(super) fn early_progress(
        &mut self,
        now: Instant,
        key: Key,
        response: &Arc<Message>,
        sdp: Option<&Bytes>,
    ) -> bool {
        let tag = response.to().ok().and_then(|to| to.tag()).unwrap_or("").to_owned();
        if response.code() == Some(100) || tag.is_empty() {
            return true;
        }
        let Some(call) = self.calls.get(key) else { return false };
        let known = call.early.iter().position(|early| early.dialog.remote_tag == tag);
        let place = match known {
            Some(place) => place,
            None if call.early.len() >= self.config.limits.forks => return false,
            None => {
                let mut dialog = call.dialog.clone();
                if dialog.complete(response, self.config.limits.routes).is_err() {
                    return true;
                }
                let print = self.dialog_fingerprint(&dialog.call_id, &dialog.local_tag, &tag);
                self.dialogs.insert(print, key);
                let Some(call) = self.calls.get_mut(key) else { return false };
                call.early.push(Early { dialog, print, last: None, answer: None });
                call.early.len() - 1
            }
        };
        let reliable = response
            .header_values(Name::Require)
            .any(|tag| tag.eq_ignore_ascii_case("100rel"))
            .then(|| response.header(Name::RSeq).and_then(|value| decimal(value.as_bytes())))
            .flatten();
        let Some(early) = self.calls.get_mut(key).and_then(|call| call.early.get_mut(place)) else { return false };
        if let Some(number) = reliable {
            if early.last.is_some_and(|last| last.checked_add(1) != Some(number)) {
                return false;
            }
            early.last = Some(number);
        }
        if let (None, Some(sdp)) = (&early.answer, sdp) {
            early.answer = Some(sdp.clone());
        }
        if let (Some(number), Ok(cseq)) = (reliable, response.cseq()) {
            self.send_prack(now, key, place, RAck { response: number, sequence: cseq.number, method: cseq.method });
        }
        true
    }

    fn send_prack(&mut self, now: Instant, key: Key, place: usize, rack: RAck) {
        let branch = self.branch();
        let Some(call) = self.calls.get_mut(key) else { return };
        // One count for all forks: numbers rise in each, which is all that section 12.2.1.1 asks for.
        call.dialog.local_seq += 1;
        let Some(early) = call.early.get(place) else { return };
        let credentials = call.challenge.as_mut().map(|it| it.ahead(&early.dialog, &Method::Prack, b""));
        let Some(call) = self.calls.get(key) else { return };
        let Some(early) = call.early.get(place) else { return };
        let (to, local) = (next_hop(&early.dialog, &call.way), call.local);
        let mut head =
            self.request_in(&early.dialog, (to.transport, local), (&Method::Prack, call.dialog.local_seq), &branch);
        for (name, value) in credentials.unwrap_or_default() {
            head = head.header(name, value);
        }
        let bytes = head.header(Name::RAck, rack).finish().bytes();
        self.add_client(now, Some((key, Purpose::Prack)), (&branch, "PRACK"), (to, local), bytes);
    }

    /// Forgets the early dialogs of a call but that of this tag, which becomes the call's own.
    pub(super) fn settle_early(&mut self, key: Key, tag: Option<&str>) -> Inheritance {
        let Some(call) = self.calls.get_mut(key) else { return Inheritance::default() };
        let mut inherited = Inheritance::default();
        for early in std::mem::take(&mut call.early) {
            if tag == Some(early.dialog.remote_tag.as_str()) {
                inherited = Inheritance { answer: early.answer, remote_seq: early.dialog.remote_seq };
            } else {
                self.dialogs.remove(&early.print);
            }
        }
        inherited
    }
}
