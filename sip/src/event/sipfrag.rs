//! `message/sipfrag` (RFC 3420), as NOTIFY carries it in answer to REFER (RFC 3515 section 2.4.5): a status line.

use crate::build::reason_phrase;

/// The Content-Type that goes with it.
pub const CONTENT_TYPE: &str = "message/sipfrag;version=2.0";

/// The body that tells of a status. An empty `reason` takes the usual phrase; control characters become spaces.
#[must_use]
pub fn build(code: u16, reason: &str) -> String {
    let code = code.clamp(100, 699);
    let reason = if reason.is_empty() { reason_phrase(code) } else { reason };
    let reason: String = reason.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("SIP/2.0 {code} {reason}\r\n")
}

/// The status that a body tells of, and its reason phrase. `None` where it does not begin with a status line.
#[must_use]
pub fn status(body: &[u8]) -> Option<(u16, &str)> {
    let end = body.iter().position(|byte| matches!(byte, b'\r' | b'\n')).unwrap_or(body.len());
    let line = std::str::from_utf8(body.get(..end)?).ok()?;
    let rest = line.strip_prefix("SIP/2.0 ")?.trim_start();
    let (code, reason) = rest.split_once(' ').unwrap_or((rest, ""));
    if code.len() != 3 {
        return None;
    }
    let code = code.parse().ok().filter(|code| (100..700).contains(code))?;
    Some((code, reason.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Conforms: RFC 3515 §2.4.5 — the status line of a sipfrag is written and read
    #[test]
    fn a_status_is_written_and_read() {
        assert_eq!(build(100, ""), "SIP/2.0 100 Trying\r\n");
        assert_eq!(status(build(503, "").as_bytes()), Some((503, "Service Unavailable")));
        assert_eq!(status(build(486, "Busy\r\nEvil: 1").as_bytes()), Some((486, "Busy  Evil: 1")));
        assert_eq!(status(b"SIP/2.0 200 OK\r\nContact: <sip:a@b>\r\n"), Some((200, "OK")));
        assert_eq!(status(b"SIP/2.0 180"), Some((180, "")));
        for none in [&b""[..], b"INVITE sip:a@b SIP/2.0", b"SIP/2.0 99 x", b"SIP/2.0 +20 x", b"SIP/2.0 700 x", b"\xff"]
        {
            assert_eq!(status(none), None);
        }
    }
}
