//! Dialogs (RFC 3261 section 12): what two sides agree on for as long as a call stands.
//!
//! A [`Dialog`] holds identifiers, sequence numbers, the route set and the remote target, and says how a request inside
//! it is addressed. What happens *in* it is in two tables: [`session`] for the call from INVITE to BYE, and [`reoffer`]
//! for the re-INVITE.

pub mod reoffer;
pub mod session;

use crate::endpoint::tag_of;
use crate::headers::{Name, NameAddr};
use crate::message::Message;
use crate::uri::Uri;

/// One side's view of a dialog.
#[derive(Debug, Clone)]
pub struct Dialog {
    /// Call-ID.
    pub call_id: String,
    /// Our From (as caller) or To (as callee) value, tag included.
    pub local: String,
    /// Our tag.
    pub local_tag: String,
    /// The peer's value, tag included where it has one.
    pub remote: String,
    /// The peer's tag; empty where it has none (RFC 2543).
    pub remote_tag: String,
    /// The CSeq number of our last request.
    pub local_seq: u32,
    /// The CSeq number of the peer's last request.
    pub remote_seq: Option<u32>,
    /// The proxies that stay in the path, nearest first: Route values.
    pub route_set: Vec<String>,
    /// The peer's Contact.
    pub remote_target: Uri,
}

/// Why no dialog can be made of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DialogError {
    /// No Contact, or one that is no SIP URI (section 12.1.1).
    #[error("no usable Contact")]
    Contact,
    /// From or To cannot be read, or the tag is missing.
    #[error("no usable From or To")]
    Party,
    /// A Record-Route value cannot be read, or there are too many.
    #[error("no usable Record-Route")]
    Routes,
    /// CSeq cannot be read.
    #[error("no usable CSeq")]
    Sequence,
}

/// How a request inside a dialog is addressed (section 12.2.1.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addressing<'a> {
    /// The Request-URI.
    pub request_uri: &'a str,
    /// Route values in order.
    pub routes: Vec<&'a str>,
    /// The URI whose host and port the request goes to.
    pub next_hop: &'a str,
}

impl Dialog {
    /// The callee's dialog, from the INVITE that it answers (section 12.1.1).
    ///
    /// # Errors
    /// [`DialogError`] where the INVITE cannot make a dialog, or has more than `max_routes` Record-Route values.
    pub fn from_request(invite: &Message, local_tag: &str, max_routes: usize) -> Result<Self, DialogError> {
        let from = invite.header(Name::From).ok_or(DialogError::Party)?;
        let to = invite.header(Name::To).ok_or(DialogError::Party)?;
        let cseq = invite.cseq().map_err(|_| DialogError::Sequence)?;
        Ok(Self {
            call_id: invite.call_id().to_owned(),
            local: [to, ";tag=", local_tag].concat(),
            local_tag: local_tag.to_owned(),
            remote: from.to_owned(),
            remote_tag: tag_of(from).unwrap_or("").to_owned(),
            local_seq: 0,
            remote_seq: Some(cseq.number),
            route_set: routes(invite, max_routes)?,
            remote_target: target(invite)?,
        })
    }

    /// The dialog that a 2xx to an INVITE of ours makes, from the response alone.
    ///
    /// # Errors
    /// [`DialogError`] where the response cannot make a dialog.
    pub fn from_response(response: &Message, max_routes: usize) -> Result<Self, DialogError> {
        let from = response.from_().map_err(|_| DialogError::Party)?;
        let cseq = response.cseq().map_err(|_| DialogError::Sequence)?;
        let mut dialog = Self {
            call_id: response.call_id().to_owned(),
            local: response.header(Name::From).unwrap_or("").to_owned(),
            local_tag: from.tag().unwrap_or("").to_owned(),
            remote: String::new(),
            remote_tag: String::new(),
            local_seq: cseq.number,
            remote_seq: None,
            route_set: Vec::new(),
            remote_target: target(response)?,
        };
        dialog.complete(response, max_routes)?;
        Ok(dialog)
    }

    /// Takes over what a response to our INVITE says: the peer's tag, target and route set (section 12.1.2). Without a
    /// usable Contact the target stays what it was: some peers send none.
    ///
    /// # Errors
    /// [`DialogError`] where the response cannot make a dialog.
    pub fn complete(&mut self, response: &Message, max_routes: usize) -> Result<(), DialogError> {
        let to = response.to().map_err(|_| DialogError::Party)?;
        let tag = to.tag().unwrap_or("");
        let mut route_set = routes(response, max_routes)?;
        route_set.reverse();
        self.remote = response.header(Name::To).ok_or(DialogError::Party)?.to_owned();
        self.remote_tag = tag.to_owned();
        self.route_set = route_set;
        self.refresh_target(response);
        Ok(())
    }

    /// Takes over the Contact of a target refresh (re-INVITE or its 2xx; section 12.2.1.2). One that cannot be read
    /// changes nothing.
    pub fn refresh_target(&mut self, message: &Message) {
        if let Ok(target) = target(message) {
            self.remote_target = target;
        }
    }

    /// Whether a request of the peer comes in order (section 12.2.2); if so it counts.
    pub fn accept_sequence(&mut self, number: u32) -> bool {
        if self.remote_seq.is_some_and(|last| number <= last) {
            return false;
        }
        self.remote_seq = Some(number);
        true
    }

    /// How a request of ours inside the dialog is addressed: loose or strict routing (section 12.2.1.1).
    pub fn addressing(&self) -> Addressing<'_> {
        let target = self.remote_target.as_str();
        let Some(first) = self.route_set.first() else {
            return Addressing { request_uri: target, routes: Vec::new(), next_hop: target };
        };
        let Ok(parsed) = NameAddr::parse(first) else {
            return Addressing { request_uri: target, routes: Vec::new(), next_hop: target };
        };
        if parsed.uri().is_ok_and(|uri| uri.is_loose_router()) {
            return Addressing {
                request_uri: target,
                routes: self.route_set.iter().map(String::as_str).collect(),
                next_hop: parsed.uri_text,
            };
        }
        // A strict router wants to stand in the Request-URI, and the target at the end of the route.
        Addressing {
            request_uri: parsed.uri_text,
            routes: self.route_set.iter().skip(1).map(String::as_str).chain([target]).collect(),
            next_hop: parsed.uri_text,
        }
    }
}

fn target(message: &Message) -> Result<Uri, DialogError> {
    let contact = message.contact().map_err(|_| DialogError::Contact)?;
    let uri = contact.uri().map_err(|_| DialogError::Contact)?;
    if !uri.is_sip() {
        return Err(DialogError::Contact);
    }
    Ok(uri)
}

fn routes(message: &Message, max_routes: usize) -> Result<Vec<String>, DialogError> {
    let mut routes = Vec::new();
    for value in message.header_values(Name::RecordRoute) {
        if routes.len() >= max_routes || NameAddr::parse(value).is_err() {
            return Err(DialogError::Routes);
        }
        routes.push(value.to_owned());
    }
    Ok(routes)
}
