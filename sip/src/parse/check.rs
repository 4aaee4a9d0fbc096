//! What every message must hold before anybody looks at it (RFC 3261 sections 8.1.1, 8.2.1 and 16.3).

use super::{Limits, ParseErrorKind};
use crate::headers::{CSeq, HeaderError, Name, NameAddr, Via, split_values};
use crate::message::{Entry, Message, StartLine};
use crate::uri::{self, UriError, decimal};

type Fault = (ParseErrorKind, usize);

/// Checks start line and headers; answers the first fault and its place.
pub(super) fn check(message: &Message, limits: &Limits) -> Result<(), Fault> {
    if let StartLine::Request { uri, .. } = message.start_line() {
        let bad = |error| (ParseErrorKind::BadUri(error), 0);
        let parts = uri::scan(uri).map_err(bad)?;
        // Section 19.1.1: no headers in a Request-URI.
        if parts.headers.is_some() {
            return Err(bad(UriError::BadCharacter));
        }
    }
    let mut seen = Seen::default();
    for entry in &message.index {
        check_entry(message, entry, limits, &mut seen)?;
    }
    let missing = [
        (seen.vias > 0, Name::Via),
        (seen.from, Name::From),
        (seen.to, Name::To),
        (seen.call_id, Name::CallId),
        (seen.cseq, Name::CSeq),
    ];
    match missing.iter().find(|(there, _)| !there) {
        Some((_, name)) => Err((ParseErrorKind::MissingHeader(*name), message.body.0)),
        None => Ok(()),
    }
}

/// Which headers have been met.
#[derive(Default)]
struct Seen {
    vias: usize,
    values: [usize; 3],
    from: bool,
    to: bool,
    call_id: bool,
    cseq: bool,
}

fn check_entry(message: &Message, entry: &Entry, limits: &Limits, seen: &mut Seen) -> Result<(), Fault> {
    let value = || message.value(entry);
    let at = entry.value_from as usize;
    let bad = |error: HeaderError| (ParseErrorKind::BadHeader { name: entry.name, error }, at);
    match entry.name {
        Name::Via => {
            for value in split_values(value()) {
                Via::parse(value).map_err(bad)?;
                seen.vias += 1;
            }
            within(entry, seen.vias, limits.max_vias)?;
        }
        Name::From => {
            NameAddr::parse(value()).map_err(bad)?;
            seen.from = true;
        }
        Name::To => {
            NameAddr::parse(value()).map_err(bad)?;
            seen.to = true;
        }
        Name::CallId => {
            if value().is_empty() || value().bytes().any(|b| matches!(b, b' ' | b'\t')) {
                return Err(bad(HeaderError::Empty));
            }
            seen.call_id = true;
        }
        Name::CSeq => {
            let cseq = CSeq::parse(value()).map_err(bad)?;
            if message.method().is_some_and(|m| *m != cseq.method) {
                return Err((ParseErrorKind::MethodMismatch, at));
            }
            seen.cseq = true;
        }
        Name::MaxForwards => {
            decimal(value().as_bytes()).ok_or_else(|| bad(HeaderError::BadNumber))?;
        }
        Name::Contact if value() != "*" => {
            for value in split_values(value()) {
                NameAddr::parse(value).map_err(bad)?;
                seen.values[0] += 1;
            }
            within(entry, seen.values[0], limits.max_values)?;
        }
        Name::Route | Name::RecordRoute => {
            let count = &mut seen.values[if entry.name == Name::Route { 1 } else { 2 }];
            *count += split_values(value()).count();
            within(entry, *count, limits.max_values)?;
        }
        _ => {}
    }
    Ok(())
}

fn within(entry: &Entry, count: usize, limit: usize) -> Result<(), Fault> {
    if count > limit {
        return Err((ParseErrorKind::TooManyValues { name: entry.name, limit }, entry.value_from as usize));
    }
    Ok(())
}
