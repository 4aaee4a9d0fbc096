//! `Refer-To` (RFC 3515): whom a peer wants us to call, with the headers that the new request is to carry.

use super::params::trim;
use super::{HeaderError, NameAddr, Replaces};
use crate::method::Method;
use crate::uri::{self, Uri, unescape};

/// At most so many headers in one Refer-To URI are read.
const MAX_HEADERS: usize = 32;

/// The value of a Refer-To header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferTo {
    /// The URI to call, without its header part and `method`; `tel:` and other schemes as they came.
    pub uri: String,
    /// The `method` parameter; INVITE where there is none.
    pub method: Method,
    /// The headers for the new request, unescaped, without Replaces. They are a peer's wish: whoever calls decides which
    /// of them to honour (RFC 3261 section 19.1.5).
    pub headers: Vec<(String, String)>,
    /// The dialog that the new call is to replace.
    pub replaces: Option<Replaces>,
}

impl ReferTo {
    /// Reads the value. A URI with a header part belongs into brackets, but is read without as well.
    ///
    /// # Errors
    /// [`HeaderError`] for what is no address, or for a Replaces inside that names no dialog.
    pub fn parse(value: &str) -> Result<Self, HeaderError> {
        let value = trim(value);
        let text = match NameAddr::parse(value) {
            Ok(address) => address.uri_text,
            Err(_) if !value.contains('<') && value.contains('?') => value,
            Err(error) => return Err(error),
        };
        let uri = Uri::parse(text).map_err(HeaderError::BadUri)?;
        let method = match uri.params().get("method").filter(|_| uri.is_sip()) {
            Some(method) => Method::parse(method).ok_or(HeaderError::BadMethod)?,
            None => Method::Invite,
        };
        let mut refer_to =
            Self { uri: uri.for_request_uri().as_str().to_owned(), method, headers: Vec::new(), replaces: None };
        for header in uri.headers().unwrap_or("").split('&').filter(|header| !header.is_empty()).take(MAX_HEADERS) {
            let (name, value) = header.split_once('=').unwrap_or((header, ""));
            let (name, value) = (unescape(name), unescape(value));
            if name.eq_ignore_ascii_case("Replaces") {
                if refer_to.replaces.is_some() {
                    return Err(HeaderError::SeveralValues);
                }
                refer_to.replaces = Some(Replaces::parse(&value)?);
            } else {
                refer_to.headers.push((name, value));
            }
        }
        Ok(refer_to)
    }

    /// The Refer-To value that asks for a call to `uri` in place of the dialog (RFC 5589 section 7.3). `tel:` URIs have no
    /// place for headers: they are given as they are.
    #[must_use]
    pub fn value(uri: &str, replaces: Option<&Replaces>) -> String {
        match replaces.filter(|_| Uri::parse(uri).is_ok_and(|uri| uri.is_sip())) {
            Some(replaces) => {
                let mark = if uri.contains('?') { '&' } else { '?' };
                format!("<{uri}{mark}Replaces={}>", replaces.escaped())
            }
            None => format!("<{uri}>"),
        }
    }
}

/// Whether text can stand as the URI of a Refer-To of ours.
pub(crate) fn is_usable(uri: &str) -> bool {
    uri::scan(uri).is_ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Conforms: RFC 3515 §2.1 — the examples of Refer-To are read, with method and header part
    #[test]
    fn reads_the_rfcs_examples() {
        let plain = ReferTo::parse("sip:alice@atlanta.example.com").unwrap();
        assert_eq!((plain.uri.as_str(), plain.method), ("sip:alice@atlanta.example.com", Method::Invite));
        let replacing = ReferTo::parse(
            "<sip:bob@biloxi.example.net?Accept-Contact=sip:bobsdesk.biloxi.example.net&Call-ID%3D55432%40alicepc.atlanta.example.com>",
        )
        .unwrap();
        assert_eq!(replacing.uri, "sip:bob@biloxi.example.net");
        assert_eq!(replacing.headers[0], ("Accept-Contact".into(), "sip:bobsdesk.biloxi.example.net".into()));
        let replaces = ReferTo::parse(
            "<sip:dave@denver.example.org?Replaces=12345%40192.168.118.3%3Bto-tag%3D12345%3Bfrom-tag%3D5FFE-3994>",
        )
        .unwrap();
        assert_eq!(replaces.uri, "sip:dave@denver.example.org");
        let dialog = replaces.replaces.unwrap();
        assert_eq!((dialog.call_id.as_str(), dialog.from_tag.as_str()), ("12345@192.168.118.3", "5FFE-3994"));
        let subscribe = ReferTo::parse("<sip:carol@cleveland.example.org;method=SUBSCRIBE>").unwrap();
        assert_eq!((subscribe.uri.as_str(), subscribe.method), ("sip:carol@cleveland.example.org", Method::Subscribe));
        assert_eq!(ReferTo::parse("http://www.ietf.org").unwrap().uri, "http://www.ietf.org");
    }

    /// Conforms: RFC 3966 §3 — a tel: URI in Refer-To is kept as it came
    #[test]
    fn a_number_is_kept_as_it_came() {
        for uri in ["tel:+4930123456;ext=12", "tel:110;phone-context=+49"] {
            assert_eq!(ReferTo::parse(&format!("<{uri}>")).unwrap().uri, uri);
        }
        assert_eq!(ReferTo::parse("\"Police\" <tel:110;phone-context=+49>").unwrap().uri, "tel:110;phone-context=+49");
    }

    #[test]
    fn a_header_part_without_brackets_is_read_as_some_phones_send_it() {
        let refer_to = ReferTo::parse("sip:a@b?Replaces=c%3Bto-tag%3D1%3Bfrom-tag%3D2").unwrap();
        assert_eq!((refer_to.uri.as_str(), refer_to.replaces.unwrap().to_tag.as_str()), ("sip:a@b", "1"));
    }

    #[test]
    fn what_is_written_reads_the_same() {
        let replaces = Replaces::parse("a%b@c\"d;to-tag=1;from-tag=2;early-only").unwrap();
        for uri in ["sip:a@b;transport=tcp", "sip:a@b?Subject=x"] {
            let read = ReferTo::parse(&ReferTo::value(uri, Some(&replaces))).unwrap();
            assert_eq!(read.replaces.as_ref(), Some(&replaces), "{uri}");
        }
        assert_eq!(ReferTo::value("tel:+49", Some(&replaces)), "<tel:+49>");
    }

    #[test]
    fn refuses_what_is_no_address_or_replaces_nothing() {
        for bad in ["", "<>", "alice", "<sip:a@b?Replaces=c>", "<sip:a@b", "<sip:a@b;method=A:B>"] {
            assert!(ReferTo::parse(bad).is_err(), "{bad}");
        }
        let twice = "<sip:a@b?Replaces=c%3Bto-tag%3D1%3Bfrom-tag%3D2&replaces=c%3Bto-tag%3D1%3Bfrom-tag%3D2>";
        assert_eq!(ReferTo::parse(twice), Err(HeaderError::SeveralValues));
    }
}
