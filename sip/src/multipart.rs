//! Bodies of several parts (RFC 2046 section 5.1, RFC 5621): the one part that is wanted out of them.

use bytes::Bytes;

use crate::headers::Params;
use crate::headers::params::trim;

/// Parts of one body that are looked at; what follows is passed over.
const PARTS_LIMIT: usize = 32;

/// The first part of one of the `wanted` types in a `multipart/*` body of this Content-Type; `None` where there is none, or the body
/// is of one part.
#[must_use]
pub fn part(content_type: &str, body: &Bytes, wanted: &[&str]) -> Option<Bytes> {
    let (kind, params) = content_type.split_at_checked(content_type.find(';')?)?;
    if !trim(kind).get(..10)?.eq_ignore_ascii_case("multipart/") {
        return None;
    }
    let boundary = Params::new(params).get("boundary")?;
    if boundary.is_empty() || boundary.len() > 70 {
        return None;
    }
    let delimiter = [b"--", boundary.as_bytes()].concat();
    let begins_line = |at: &usize| *at == 0 || body.get(at.saturating_sub(2)..*at) == Some(b"\r\n");
    let mut starts = memchr::memmem::find_iter(body, &delimiter).filter(begins_line).take(PARTS_LIMIT + 1).peekable();
    while let Some(start) = starts.next() {
        let from = start + delimiter.len();
        // A closing delimiter ends the last part and begins none.
        if body.get(from..from + 2) == Some(b"--") {
            return None;
        }
        let until = starts.peek().copied()?;
        let part = body.slice(from..until.max(from));
        if let Some(content) = content_of(&part, wanted) {
            return Some(content);
        }
    }
    None
}

/// The content of one part (what lies between two delimiters), where it is of a wanted type.
fn content_of(part: &Bytes, wanted: &[&str]) -> Option<Bytes> {
    let head_begins = memchr::memmem::find(part, b"\r\n")? + 2;
    let after = part.get(head_begins..)?;
    let (head, content_begins) = match memchr::memmem::find(after, b"\r\n\r\n") {
        Some(end) => (std::str::from_utf8(after.get(..end)?).ok()?, head_begins + end + 4),
        None => return None,
    };
    let header = |name: &str| {
        let lines = head.split("\r\n").filter_map(|line| line.split_once(':'));
        lines.into_iter().find(|(found, _)| trim(found).eq_ignore_ascii_case(name)).map(|(_, value)| trim(value))
    };
    let kind = trim(header("Content-Type")?.split(';').next()?);
    let is_plain = header("Content-Transfer-Encoding")
        .is_none_or(|coding| ["7bit", "8bit", "binary"].iter().any(|plain| coding.eq_ignore_ascii_case(plain)));
    if !is_plain || !wanted.iter().any(|wanted| kind.eq_ignore_ascii_case(wanted)) {
        return None;
    }
    // The line break before a delimiter belongs to the delimiter.
    let end = part.len().checked_sub(2).filter(|end| part.get(*end..) == Some(b"\r\n")).unwrap_or(part.len());
    (content_begins <= end).then(|| part.slice(content_begins..end))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = b"a preamble\r\n--b 1\r\nContent-Type: application/isup; version=x\r\n\
        Content-Disposition: signal;handling=optional\r\n\r\n\x01\x02--b\r\n--b 1\r\ncontent-type: application/sdp\r\n\r\n\
        v=0\r\no=x\r\n\r\n--b 1--\r\nan epilogue";

    /// Conforms: RFC 5621 §3.1 — a session description among other parts is found.
    #[test]
    fn the_wanted_part_is_found_among_others() {
        let body = Bytes::from_static(BODY);
        let found = part("multipart/mixed;boundary=\"b 1\"", &body, &["application/sdp"]);
        assert_eq!(found.as_deref(), Some(&b"v=0\r\no=x\r\n"[..]));
        assert_eq!(part("Multipart/Mixed; boundary=\"b 1\"", &body, &["text/plain"]), None);
        assert_eq!(part("application/sdp", &body, &["application/sdp"]), None);
    }

    #[test]
    fn what_is_cut_short_or_coded_is_not_taken() {
        for end in 0..BODY.len() {
            let body = Bytes::from_static(BODY.get(..end).unwrap_or_default());
            // Whatever it answers, it answers.
            let _ = part("multipart/mixed;boundary=\"b 1\"", &body, &["application/sdp"]);
        }
        let coded = Bytes::from_static(
            b"--x\r\nContent-Type: application/sdp\r\nContent-Transfer-Encoding: base64\r\n\r\ndj0w\r\n--x--\r\n",
        );
        assert_eq!(part("multipart/mixed;boundary=x", &coded, &["application/sdp"]), None);
        for bad in ["multipart/mixed", "multipart/mixed;boundary=\"\"", "multipart/mixed;boundary", "m;boundary=x"] {
            assert_eq!(part(bad, &coded, &["application/sdp"]), None, "{bad}");
        }
    }
}
