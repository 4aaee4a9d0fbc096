//! Finding the parts of a URI's text, without allocating.

use super::{Scheme, UriError};

/// Where the parts of a `sip:` URI stand in its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Parts {
    pub(crate) scheme: Scheme,
    pub(super) scheme_end: u16,
    pub(super) user: Option<(u16, u16)>,
    pub(super) password: Option<(u16, u16)>,
    pub(super) host: (u16, u16),
    pub(super) port: Option<u16>,
    pub(super) params: (u16, u16),
    pub(crate) headers: Option<(u16, u16)>,
}

/// Finds the parts without allocating.
pub(crate) fn scan(text: &str) -> Result<Parts, UriError> {
    if text.len() > usize::from(u16::MAX) {
        return Err(UriError::TooLong);
    }
    let bytes = text.as_bytes();
    // Without an early end, so that many bytes are looked at at once.
    if bytes.iter().fold(false, |found, &b| found | is_forbidden(b)) {
        return Err(UriError::BadCharacter);
    }
    let colon = memchr::memchr(b':', bytes).ok_or(UriError::NoScheme)?;
    let scheme_text = bytes.get(..colon).unwrap_or_default();
    let scheme = match scheme_text {
        s if s.eq_ignore_ascii_case(b"sip") => Scheme::Sip,
        s if s.eq_ignore_ascii_case(b"sips") => Scheme::Sips,
        s if s.eq_ignore_ascii_case(b"tel") => Scheme::Tel,
        [first, rest @ ..]
            if first.is_ascii_alphabetic()
                && rest.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.')) =>
        {
            Scheme::Other
        }
        _ => return Err(UriError::NoScheme),
    };
    let end = bytes.len();
    let mut parts = Parts {
        scheme,
        scheme_end: short(colon),
        user: None,
        password: None,
        host: (short(end), short(end)),
        port: None,
        params: (short(end), short(end)),
        headers: None,
    };
    match scheme {
        Scheme::Sip | Scheme::Sips => scan_sip(bytes, colon + 1, &mut parts)?,
        Scheme::Tel => scan_tel(bytes, colon + 1, &mut parts)?,
        Scheme::Other if end == colon + 1 => return Err(UriError::NoHost),
        Scheme::Other => {}
    }
    Ok(parts)
}

fn scan_sip(bytes: &[u8], start: usize, parts: &mut Parts) -> Result<(), UriError> {
    let end = bytes.len();
    let rest = bytes.get(start..).unwrap_or_default();
    let mut host_at = start;
    if let Some(at) = memchr::memchr(b'@', rest) {
        let user_end = start + at;
        host_at = user_end + 1;
        let user = rest.get(..at).unwrap_or_default();
        match memchr::memchr(b':', user) {
            Some(colon) => {
                parts.user = Some((short(start), short(start + colon)));
                parts.password = Some((short(start + colon + 1), short(user_end)));
            }
            None => parts.user = Some((short(start), short(user_end))),
        }
        if user.is_empty() {
            return Err(UriError::NoHost);
        }
    }
    let (host_end, port, after) = scan_hostport(bytes, host_at)?;
    parts.host = (short(host_at), short(host_end));
    parts.port = port;
    match bytes.get(after) {
        None => {}
        Some(b';') => {
            let rest = bytes.get(after..).unwrap_or_default();
            let params_end = memchr::memchr(b'?', rest).map_or(end, |at| after + at);
            parts.params = (short(after), short(params_end));
            if params_end < end {
                parts.headers = Some((short(params_end + 1), short(end)));
            }
        }
        Some(b'?') => {
            parts.params = (short(after), short(after));
            parts.headers = Some((short(after + 1), short(end)));
        }
        Some(_) => return Err(UriError::BadHost),
    }
    Ok(())
}

fn scan_tel(bytes: &[u8], start: usize, parts: &mut Parts) -> Result<(), UriError> {
    let rest = bytes.get(start..).unwrap_or_default();
    let number_end = memchr::memchr(b';', rest).map_or(bytes.len(), |at| start + at);
    if number_end == start {
        return Err(UriError::NoHost);
    }
    parts.user = Some((short(start), short(number_end)));
    parts.params = (short(number_end), short(bytes.len()));
    Ok(())
}

/// Reads `host[:port]` at `start`: answers the host's end, the port, and where the text goes on.
pub(crate) fn scan_hostport(bytes: &[u8], start: usize) -> Result<(usize, Option<u16>, usize), UriError> {
    let rest = bytes.get(start..).unwrap_or_default();
    let host_len = if rest.first() == Some(&b'[') {
        let close = memchr::memchr(b']', rest).ok_or(UriError::BadHost)?;
        let inside = rest.get(1..close).and_then(|h| std::str::from_utf8(h).ok()).ok_or(UriError::BadHost)?;
        inside.parse::<std::net::Ipv6Addr>().map_err(|_| UriError::BadHost)?;
        close + 1
    } else {
        rest.iter().position(|&b| !HOST_BYTES[usize::from(b)]).unwrap_or(rest.len())
    };
    if host_len == 0 {
        return Err(UriError::NoHost);
    }
    let host_end = start + host_len;
    if bytes.get(host_end) != Some(&b':') {
        return Ok((host_end, None, host_end));
    }
    let digits = bytes.get(host_end + 1..).unwrap_or_default();
    let count = digits.iter().take_while(|b| b.is_ascii_digit()).count();
    let port = decimal(digits.get(..count).unwrap_or_default()).ok_or(UriError::BadPort)?;
    let port = u16::try_from(port).map_err(|_| UriError::BadPort)?;
    Ok((host_end, Some(port), host_end + 1 + count))
}

/// The bytes of a host name or IPv4 address.
const HOST_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut b = 0;
    while b < 256 {
        let byte = b as u8;
        table[b] = byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        b += 1;
    }
    table
};

/// Reads a decimal number of one to ten digits that fits 32 bits (leading zeroes beyond that are allowed).
pub(crate) fn decimal(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u32, |n, &b| {
        b.is_ascii_digit().then(|| n.checked_mul(10)?.checked_add(u32::from(b - b'0'))).flatten()
    })
}

/// What may stand in no URI, however lenient: white space, controls, and what delimits a URI in a header.
fn is_forbidden(b: u8) -> bool {
    b <= b' ' || matches!(b, b'<' | b'>' | b'"' | 0x7f)
}

/// Offsets are within 65,535: `scan` checks the length first.
fn short(at: usize) -> u16 {
    u16::try_from(at).unwrap_or(u16::MAX)
}
