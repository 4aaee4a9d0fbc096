//! Challenges, and our credentials for them (RFC 3261 section 22, RFC 7616).
//!
//! Each request is answered for by itself: once for each realm, and again where only the nonce was too old. What a realm
//! asked for last is kept, so that later requests of the same dialog carry credentials before they are asked.

use bytes::Bytes;

use super::own;
use crate::auth::{self, Credentials, Signed};
use crate::dialog::Dialog;
use crate::headers::Name;
use crate::message::Message;
use crate::method::Method;

/// Tries with credentials for one request, of all realms together.
const MAX_TRIES: usize = 6;
/// Realms whose last challenge is kept; beyond that the oldest is forgotten.
const MAX_REALMS: usize = 6;

/// The credentials of a dialog, and what was asked for last in each realm.
#[derive(Debug)]
pub(super) struct Challenge {
    credentials: Credentials,
    known: Vec<Known>,
}

/// A challenge, and how often its nonce was used.
#[derive(Debug)]
struct Known {
    challenge: auth::Challenge,
    cnonce: String,
    uses: u32,
}

/// Where credentials were tried for one request, its repeats included: header, realm and nonce of each try.
#[derive(Debug, Default, Clone)]
pub(super) struct Tried(Vec<(Name, String, String)>);

/// A request of ours that is answered.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) bytes: Bytes,
    pub(super) tried: Tried,
}

impl Challenge {
    pub(super) fn new(credentials: Credentials) -> Self {
        Self { credentials, known: Vec::new() }
    }

    /// Signs a request for those challenges of a response that are worth it: header names and values, and what was tried by
    /// then. `None` where none is.
    pub(super) fn answers(
        &mut self,
        response: &Message,
        (method, sent): (&Method, &Sent),
        cnonce: &str,
    ) -> Option<(Vec<(&'static str, String)>, Tried)> {
        let (uri, body) = own::signed_parts(&sent.bytes)?;
        let signed = Signed { method: method.as_str(), uri, body };
        let offered = auth::Challenge::all_in(response);
        let (mut answers, mut tried) = (Vec::new(), sent.tried.clone());
        for offered in auth::Challenge::best(&offered) {
            if tried.worth(offered) {
                let known = learn(&mut self.known, offered, cnonce);
                answers.push((offered.answer_header().as_str(), known.sign(&self.credentials, &signed)));
            }
        }
        (!answers.is_empty()).then_some((answers, tried))
    }

    /// Credentials for a new request of the dialog (RFC 3261 section 22.3), of realms that let a nonce be used again: with
    /// `qop` uses are counted (RFC 7616 section 3.4).
    pub(super) fn ahead(&mut self, dialog: &Dialog, method: &Method, body: &[u8]) -> Vec<(Name, String)> {
        let signed = Signed { method: method.as_str(), uri: dialog.addressing().request_uri, body };
        let counted = self.known.iter_mut().filter(|known| known.challenge.qop.is_some());
        counted.map(|known| (known.challenge.answer_header(), known.sign(&self.credentials, &signed))).collect()
    }
}

impl Known {
    fn sign(&mut self, credentials: &Credentials, signed: &Signed<'_>) -> String {
        self.uses += 1;
        self.challenge.answer(credentials, signed, &self.cnonce, self.uses)
    }
}

impl Tried {
    /// Whether a challenge is worth an answer; if so, it counts as tried.
    fn worth(&mut self, challenge: &auth::Challenge) -> bool {
        let of_realm =
            |(header, realm, _): &&(Name, String, String)| *header == challenge.header && *realm == challenge.realm;
        let last = self.0.iter().rev().find(of_realm);
        let fresh = last.is_none_or(|(_, _, nonce)| challenge.stale && *nonce != challenge.nonce);
        if !fresh || self.0.len() >= MAX_TRIES {
            return false;
        }
        self.0.push((challenge.header, challenge.realm.clone(), challenge.nonce.clone()));
        true
    }
}

/// Keeps a challenge in the place of its realm's last one. The same nonce goes on being counted, under the same client nonce.
fn learn<'a>(known: &'a mut Vec<Known>, offered: &auth::Challenge, cnonce: &str) -> &'a mut Known {
    let of_realm = |it: &Known| it.challenge.header == offered.header && it.challenge.realm == offered.realm;
    let (mut cnonce, mut uses) = (cnonce.to_owned(), 0);
    if let Some(place) = known.iter().position(of_realm) {
        let last = known.remove(place);
        if last.challenge.nonce == offered.nonce {
            (cnonce, uses) = (last.cnonce, last.uses);
        }
    } else if known.len() >= MAX_REALMS {
        known.remove(0);
    }
    known.push_mut(Known { challenge: offered.clone(), cnonce, uses })
}
