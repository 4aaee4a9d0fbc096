//! New requests out of requests that we wrote ourselves: the ACK to a failure, CANCEL, and the repeat with credentials.
//!
//! All three are line-wise: our own messages have one header to a line, full names, no folds.

use std::io::Write as _;

use super::write::line;

/// One of our own requests, by lines.
struct Own<'a> {
    uri: &'a str,
    head: &'a str,
    body: &'a [u8],
}

impl<'a> Own<'a> {
    fn read(request: &'a [u8]) -> Option<Self> {
        let end = memchr::memmem::find(request, b"\r\n\r\n")?;
        let head = std::str::from_utf8(request.get(..end)?).ok()?;
        let (first, head) = head.split_once("\r\n")?;
        let uri = first.split(' ').nth(1)?;
        Some(Self { uri, head, body: request.get(end + 4..)? })
    }

    fn lines(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.head.split("\r\n").filter_map(|line| line.split_once(": "))
    }

    fn copy(&self, out: &mut Vec<u8>, wanted: &[&str]) {
        for (name, value) in self.lines().filter(|(name, _)| wanted.contains(name)) {
            line(out, name, value);
        }
    }

    fn sequence(&self) -> u32 {
        let value = self.lines().find(|(name, _)| *name == "CSeq").map(|(_, value)| value);
        value.and_then(|value| value.split(' ').next()?.parse().ok()).unwrap_or(1)
    }
}

/// The ACK to a failure (RFC 3261 section 17.1.1.3): `to` is the response's To.
pub(crate) fn ack(invite: &[u8], to: &str) -> Option<Vec<u8>> {
    let own = Own::read(invite)?;
    let mut out = Vec::with_capacity(invite.len());
    let _ = write!(out, "ACK {} SIP/2.0\r\n", own.uri);
    own.copy(&mut out, &["Via", "Max-Forwards", "Route", "From", "Call-ID"]);
    line(&mut out, "To", to);
    let _ = write!(out, "CSeq: {} ACK\r\nContent-Length: 0\r\n\r\n", own.sequence());
    Some(out)
}

/// The CANCEL of an INVITE (section 9.1).
pub(crate) fn cancel(invite: &[u8], reason: Option<&str>) -> Option<Vec<u8>> {
    let own = Own::read(invite)?;
    let mut out = Vec::with_capacity(invite.len());
    let _ = write!(out, "CANCEL {} SIP/2.0\r\n", own.uri);
    own.copy(&mut out, &["Via", "Max-Forwards", "Route", "From", "To", "Call-ID"]);
    if let Some(reason) = reason {
        line(&mut out, "Reason", reason);
    }
    let _ = write!(out, "CSeq: {} CANCEL\r\nContent-Length: 0\r\n\r\n", own.sequence());
    Some(out)
}

/// The same request once more in a new transaction, with these headers in the place of its own: credentials (section 22.2), above
/// all.
pub(crate) fn again(
    request: &[u8],
    method: &str,
    via: &str,
    sequence: u32,
    headers: &[(&str, String)],
) -> Option<Vec<u8>> {
    let own = Own::read(request)?;
    let mut out = Vec::with_capacity(request.len() + 320);
    let _ = write!(out, "{method} {} SIP/2.0\r\n", own.uri);
    line(&mut out, "Via", via);
    for (name, value) in own.lines() {
        match name {
            "Via" => {}
            "CSeq" => {
                let _ = write!(out, "CSeq: {sequence} {method}\r\n");
            }
            // The credentials of another realm stay; those of this one are renewed.
            _ if headers.iter().any(|(wanted, new)| *wanted == name && realm(new) == realm(value)) => {}
            "Content-Length" => {
                for (name, value) in headers {
                    line(&mut out, name, value);
                }
                line(&mut out, "Content-Length", value);
            }
            _ => line(&mut out, name, value),
        }
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(own.body);
    Some(out)
}

/// The credentials lines of a request, for the ACK of its 2xx (section 13.2.2.4).
pub(crate) fn credentials(request: &[u8]) -> Vec<(&'static str, String)> {
    let Some(own) = Own::read(request) else { return Vec::new() };
    own.lines()
        .filter_map(|(name, value)| match name {
            "Authorization" => Some(("Authorization", value.to_owned())),
            "Proxy-Authorization" => Some(("Proxy-Authorization", value.to_owned())),
            _ => None,
        })
        .collect()
}

/// The Request-URI and body of a request.
pub(crate) fn signed_parts(request: &[u8]) -> Option<(&str, &[u8])> {
    Own::read(request).map(|own| (own.uri, own.body))
}

/// The branch of a request.
pub(crate) fn branch(request: &[u8]) -> Option<&str> {
    let own = Own::read(request)?;
    let (_, via) = own.lines().find(|(name, _)| *name == "Via")?;
    via.split_once("branch=")?.1.split(';').next()
}

fn realm(credentials: &str) -> Option<&str> {
    credentials.split_once("realm=\"")?.1.split('"').next()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const INVITE: &[u8] = b"INVITE sip:b@h SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1;rport\r\nMax-Forwards: 70\r\n\
        Route: <sip:p;lr>\r\nFrom: <sip:a@h>;tag=1\r\nTo: <sip:b@h>\r\nCall-ID: c\r\nCSeq: 7 INVITE\r\n\
        Authorization: Digest realm=\"r\", x=1\r\nContent-Type: application/sdp\r\nContent-Length: 3\r\n\r\nv=0";

    #[test]
    fn an_ack_has_the_invites_branch_and_the_responses_to() {
        let ack = String::from_utf8(ack(INVITE, "<sip:b@h>;tag=2").unwrap()).unwrap();
        assert!(ack.starts_with("ACK sip:b@h SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1;rport\r\n"));
        assert!(ack.contains("Route: <sip:p;lr>\r\n") && ack.contains("To: <sip:b@h>;tag=2\r\n"));
        assert!(ack.ends_with("CSeq: 7 ACK\r\nContent-Length: 0\r\n\r\n"));
    }

    #[test]
    fn a_cancel_has_the_invites_branch_and_number() {
        let cancel = String::from_utf8(cancel(INVITE, None).unwrap()).unwrap();
        assert!(cancel.starts_with("CANCEL sip:b@h SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1;rport\r\n"));
        assert!(cancel.contains("CSeq: 7 CANCEL\r\n") && !cancel.contains("Content-Type"));
    }

    #[test]
    fn a_repeat_renews_the_credentials_of_its_realm_only() {
        let new = [("Authorization", "Digest realm=\"r\", x=2".to_owned())];
        let text = String::from_utf8(again(INVITE, "INVITE", "V", 8, &new).unwrap()).unwrap();
        assert!(text.contains("x=2") && !text.contains("x=1") && text.contains("CSeq: 8 INVITE"));
        assert!(text.ends_with("\r\n\r\nv=0"));
        let other = [("Authorization", "Digest realm=\"q\", x=2".to_owned())];
        let text = String::from_utf8(again(INVITE, "INVITE", "V", 8, &other).unwrap()).unwrap();
        assert!(text.contains("x=2") && text.contains("x=1"));
    }
}
