//! What a user agent server checks before it looks at what a request means (RFC 3261 section 8.2), in that section's
//! order. Each check answers with a refusal or with nothing.

use bytes::Bytes;

use super::config::EndpointConfig;
use crate::headers::{Name, SessionExpires};
use crate::message::Message;
use crate::method::Method;
use crate::multipart;
use crate::uri::{Scheme, Uri};

/// The body types an INVITE may carry, as its Accept header says.
pub(super) const ACCEPT_SDP: &str = "application/sdp";

/// A refusal by rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: u16,
    /// The header that such a refusal must carry.
    pub(super) header: Option<(&'static str, String)>,
}

impl Refusal {
    pub(super) fn new(code: u16) -> Self {
        Self { code, header: None }
    }

    fn with(code: u16, name: &'static str, value: impl Into<String>) -> Self {
        Self { code, header: Some((name, value.into())) }
    }
}

/// Section 8.2.1: 405 for a method that exists, 501 for one that we do not know (21.5.2).
pub(super) fn method(method: &Method, config: &EndpointConfig, allow: &str) -> Result<(), Refusal> {
    match method {
        Method::Invite | Method::Ack | Method::Bye | Method::Cancel | Method::Options | Method::Info => Ok(()),
        Method::Notify | Method::Prack | Method::Update => Ok(()),
        Method::Refer if config.referrals => Ok(()),
        // In a call it prolongs or ends the reports on a referral.
        Method::Subscribe if config.referrals || !config.event_packages.is_empty() => Ok(()),
        method if config.user_methods.contains(method) => Ok(()),
        Method::Other(_) => Err(Refusal::with(501, "Allow", allow)),
        _ => Err(Refusal::with(405, "Allow", allow)),
    }
}

/// Section 8.2.2.1: schemes that we can route.
pub(super) fn scheme(request: &Message) -> Result<(), Refusal> {
    match Uri::parse(request.request_uri()).map(|uri| uri.scheme()) {
        Ok(Scheme::Sip | Scheme::Sips | Scheme::Tel) => Ok(()),
        Ok(Scheme::Other) => Err(Refusal::new(416)),
        Err(_) => Err(Refusal::new(400)),
    }
}

/// Section 16.3 step 3, for a server that calls on (RFC 7332): an INVITE that may go no further is refused.
pub(super) fn hops(request: &Message) -> Result<(), Refusal> {
    match request.max_forwards() {
        Some(0) => Err(Refusal::new(483)),
        _ => Ok(()),
    }
}

/// Section 8.2.2.3: extensions that the caller requires and that we lack.
pub(super) fn required(request: &Message) -> Result<(), Refusal> {
    let ours = |tag: &str| super::SUPPORTED.split(", ").any(|ours| tag.eq_ignore_ascii_case(ours));
    let tags: Vec<&str> = request.header_values(Name::Require).filter(|tag| !tag.is_empty() && !ours(tag)).collect();
    if tags.is_empty() {
        return Ok(());
    }
    Err(Refusal::with(420, "Unsupported", tags.join(", ")))
}

/// Section 8.2.4 and 21.4.16: extensions that we require.
pub(super) fn supported(config: &EndpointConfig, request: &Message) -> Result<(), Refusal> {
    let missing: Vec<&str> = config
        .required_extensions
        .iter()
        .map(String::as_str)
        .filter(|wanted| !request.header_values(Name::Supported).any(|tag| tag.eq_ignore_ascii_case(wanted)))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Refusal::with(421, "Require", missing.join(", ")))
}

/// Section 8.2.3: a body that we can read, or one that we may ignore. Answers the body, if there is one to be read.
pub(super) fn content(request: &Message, accepted: &[&str]) -> Result<Option<Bytes>, Refusal> {
    if request.body().is_empty() {
        return Ok(None);
    }
    let optional = request
        .header(Name::ContentDisposition)
        .is_some_and(|value| value.to_ascii_lowercase().replace(' ', "").contains("handling=optional"));
    let encoded = request
        .header_values(Name::ContentEncoding)
        .any(|encoding| !encoding.is_empty() && !encoding.eq_ignore_ascii_case("identity"));
    if encoded {
        return if optional { Ok(None) } else { Err(Refusal::with(415, "Accept-Encoding", "identity")) };
    }
    if accepted.iter().any(|kind| request.has_content_type(kind)) {
        return Ok(Some(request.body_bytes()));
    }
    let whole = request.header(Name::ContentType).unwrap_or("");
    if let Some(part) = multipart::part(whole, &request.body_bytes(), accepted) {
        return Ok(Some(part));
    }
    if optional {
        return Ok(None);
    }
    Err(Refusal::with(415, "Accept", accepted.join(", ")))
}

/// RFC 4028 section 9: the session's length must be one that we can bear, and that the caller could change.
pub(super) fn interval(request: &Message, config: &EndpointConfig) -> Result<(), Refusal> {
    let Some(value) = request.header(Name::SessionExpires) else { return Ok(()) };
    let expires = SessionExpires::parse(value).map_err(|_| Refusal::new(400))?;
    let shortest = config.shortest_session.as_secs();
    let is_supported = request.header_values(Name::Supported).any(|tag| tag.eq_ignore_ascii_case("timer"));
    if u64::from(expires.seconds) < shortest && is_supported {
        return Err(Refusal::with(422, "Min-SE", shortest.to_string()));
    }
    Ok(())
}

/// The session description of a response, alone or among other parts.
pub(super) fn description(response: &Message) -> Option<Bytes> {
    content(response, &[ACCEPT_SDP]).ok().flatten()
}

/// Section 21.4.7: the caller must be ready to read the SDP that we answer with.
pub(super) fn acceptable(request: &Message) -> Result<(), Refusal> {
    let mut listed = request.header_values(Name::Accept).filter(|range| !range.is_empty()).peekable();
    if listed.peek().is_none() {
        return Ok(());
    }
    let reads_sdp = listed.any(|range| {
        let kind = range.split(';').next().unwrap_or("").trim();
        ["application/sdp", "application/*", "*/*"].iter().any(|ours| kind.eq_ignore_ascii_case(ours))
    });
    if reads_sdp { Ok(()) } else { Err(Refusal::new(406)) }
}
