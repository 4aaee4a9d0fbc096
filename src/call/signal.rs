//! What a call says to its legs, whatever they signal by: SIP, or HTTP (WHIP).
//!
//! HTTP has an answer and an end; what else a call says (that it rings, a key, a text) a page without SIP does not hear of.

use bytes::Bytes;
use sip::endpoint::{CallId, EndCause};
use sip::io::{HandleError, SipHandle};

use super::switchboard::Switchboard;
use crate::web::WebLegs;

/// A hub's way to its legs' peers.
#[derive(Debug, Clone, Copy)]
pub struct Signal<'a> {
    /// Those of SIP.
    pub sip: &'a SipHandle,
    /// Those of web pages.
    pub web: &'a WebLegs,
    /// Where events go.
    pub board: &'a Switchboard,
}

/// Whether the command was taken.
type Taken = Result<(), HandleError>;

impl Signal<'_> {
    /// That it rings, or is in progress with sound.
    pub(super) fn ring(&self, leg: CallId, code: u16, sdp: Option<Bytes>) -> Taken {
        if WebLegs::is_web(leg) { Ok(()) } else { self.sip.ring(leg, code, sdp) }
    }

    /// The answer.
    pub(super) fn answer(&self, leg: CallId, sdp: Bytes) -> Taken {
        if WebLegs::is_web(leg) {
            self.web.answer(self.board, leg, sdp);
            return Ok(());
        }
        self.sip.answer(leg, sdp)
    }

    /// A refusal, for these reasons (RFC 3326) where they are known.
    pub(super) fn reject(&self, leg: CallId, code: u16, reasons: Option<String>) -> Taken {
        if WebLegs::is_web(leg) {
            self.web.reject(self.board, leg, code);
            return Ok(());
        }
        let headers = reasons.map(|reasons| ("Reason".to_owned(), reasons)).into_iter().collect();
        self.sip.reject(leg, code, "", headers)
    }

    /// The end.
    pub(super) fn bye(&self, leg: CallId, reason: Option<String>) -> Taken {
        if WebLegs::is_web(leg) {
            self.web.end(self.board, leg, EndCause::LocalBye);
            return Ok(());
        }
        self.sip.bye(leg, reason)
    }

    /// The answer to a change that the peer asked for.
    pub(super) fn answer_reoffer(&self, leg: CallId, sdp: Bytes) -> Taken {
        if WebLegs::is_web(leg) {
            self.web.changed(leg, Ok(sdp));
            return Ok(());
        }
        self.sip.answer_reoffer(leg, sdp)
    }

    /// The refusal of one.
    pub(super) fn reject_reoffer(&self, leg: CallId, code: u16) -> Taken {
        if WebLegs::is_web(leg) {
            self.web.changed(leg, Err(code));
            return Ok(());
        }
        self.sip.reject_reoffer(leg, code)
    }

    /// A text.
    pub(super) fn send_message(&self, leg: CallId, kind: &str, text: Bytes) -> Taken {
        if WebLegs::is_web(leg) { Ok(()) } else { self.sip.send_message(leg, kind, text) }
    }

    /// A key, or something else inside the call.
    pub(super) fn send_info(&self, leg: CallId, kind: &str, body: Bytes) -> Taken {
        if WebLegs::is_web(leg) { Ok(()) } else { self.sip.send_info(leg, kind, body) }
    }
}
