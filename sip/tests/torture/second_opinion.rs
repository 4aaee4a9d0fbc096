//! rsip's reading of a message beside ours.

use bytes::Bytes;
use rsip::headers::ToTypedHeader;
use rsip::prelude::{HeadersExt, UntypedHeader};
use sip::{Limits, Message};

/// What the two make of a message.
#[derive(Debug, PartialEq)]
pub(crate) enum Opinion {
    /// One of them refuses it.
    NotBoth,
    /// Both read the same.
    Agreed,
    /// Which field they read otherwise, and how.
    Otherwise(String),
}

/// Compares what both read. Fields that rsip cannot type are left out.
pub(crate) fn compare(data: &Bytes) -> Opinion {
    let Ok(ours) = Message::parse_datagram(data.clone(), &Limits::default()) else {
        return Opinion::NotBoth;
    };
    let Some(theirs) = ours.to_rsip() else {
        return Opinion::NotBoth;
    };
    let mut pairs: Vec<(&str, String, String)> = Vec::new();
    let mut pair = |field, ours: String, theirs: String| pairs.push((field, ours, theirs));
    match &theirs {
        rsip::SipMessage::Request(request) => {
            pair("method", ours.method().unwrap().to_string(), request.method.to_string());
            let uri = ours.uri().unwrap();
            if let Ok(other) = sip::Uri::parse(&request.uri.to_string()) {
                pair("host", uri.host().to_lowercase(), other.host().to_lowercase());
                pair("user", format!("{:?}", uri.user()), format!("{:?}", other.user()));
                pair("port", format!("{:?}", uri.port()), format!("{:?}", other.port()));
            }
        }
        rsip::SipMessage::Response(response) => {
            pair("code", ours.code().unwrap().to_string(), response.status_code.code().to_string());
        }
    }
    if let Ok(call_id) = theirs.call_id_header() {
        pair("Call-ID", ours.call_id().to_owned(), call_id.value().trim().to_owned());
    }
    if let Ok(cseq) = theirs.cseq_header().and_then(|h| h.typed()) {
        let own = ours.cseq().unwrap();
        pair("CSeq", format!("{} {}", own.number, own.method), format!("{} {}", cseq.seq, cseq.method));
    }
    if let Ok(via) = theirs.via_header().and_then(|h| h.typed()) {
        let top = ours.top_via().unwrap();
        pair("transport", top.transport.to_owned(), via.transport.to_string());
        pair("branch", top.branch().unwrap_or("").to_owned(), via.branch().map_or("", |b| b.value()).to_owned());
    }
    if let Ok(from) = theirs.from_header().and_then(|h| h.typed()) {
        let tag = from.tag().map_or("", |t| t.value()).to_owned();
        pair("From tag", ours.from_().unwrap().tag().unwrap_or("").to_owned(), tag);
    }
    if let Ok(to) = theirs.to_header().and_then(|h| h.typed()) {
        let tag = to.tag().map_or("", |t| t.value()).to_owned();
        pair("To tag", ours.to().unwrap().tag().unwrap_or("").to_owned(), tag);
    }
    match pairs.into_iter().find(|(_, ours, theirs)| ours != theirs) {
        None => Opinion::Agreed,
        Some((field, ours, theirs)) => Opinion::Otherwise(format!("{field}: {ours:?}, rsip {theirs:?}")),
    }
}
