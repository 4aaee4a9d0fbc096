//! Which telephone numbers a certificate is for: the TNAuthList (RFC 8226 section 9), also down a chain of delegation (RFC 9060). Pure.

use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use x509_parser::asn1_rs::{Any, FromDer, Ia5String, Sequence};
use x509_parser::oid_registry::Oid;
use x509_parser::prelude::X509Certificate;

use super::passport::Fault;

/// `id-pe-TNAuthList`, 1.3.6.1.5.5.7.1.26, as DER has it.
const TN_AUTH_LIST: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x01, 0x1a];
/// Entries of one list at most; a certificate with more is not believed.
const ENTRIES_LIMIT: usize = 10_000;
/// Digits of a number (RFC 8226 section 9).
const DIGITS_LIMIT: usize = 15;

/// By what a certificate may speak for a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Authority {
    /// It names the number, or a range with it.
    Number,
    /// It names its carrier (a service provider code), whose numbers no certificate lists.
    Provider,
    /// It does not say.
    Unstated,
}

/// What one certificate may speak for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TnAuthList {
    providers: Vec<String>,
    /// The first number of each range, how many there are, and how many digits they have.
    ranges: Vec<(u64, u64, usize)>,
}

impl TnAuthList {
    /// The list of a certificate; `None` where it has none.
    ///
    /// # Errors
    /// [`Fault::Certificate`]: the certificate or its list cannot be read.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Option<Self>, Fault> {
        let bad = |why: &str| Fault::Certificate(why.to_owned());
        let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| bad("it cannot be read"))?;
        let oid = Oid::new(TN_AUTH_LIST.into());
        let found = parsed.get_extension_unique(&oid).map_err(|_| bad("it has two TNAuthLists"))?;
        let Some(extension) = found else { return Ok(None) };
        Self::parse(extension.value).map(Some).ok_or_else(|| bad("its TNAuthList cannot be read"))
    }

    fn parse(der: &[u8]) -> Option<Self> {
        let (after, list) = Sequence::from_der(der).ok()?;
        let (mut rest, mut made) = (list.content.as_ref(), Self::default());
        while !rest.is_empty() {
            let (next, entry) = Any::from_der(rest).ok()?;
            rest = next;
            if made.providers.len() + made.ranges.len() >= ENTRIES_LIMIT || !entry.header.is_contextspecific() {
                return None;
            }
            match entry.header.tag().0 {
                0 => made.providers.push(text(entry.data)?.0),
                1 => {
                    let (_, range) = Sequence::from_der(entry.data).ok()?;
                    let (start, rest) = text(range.content.as_ref())?;
                    let (_, count) = u64::from_der(rest).ok()?;
                    made.ranges.push(range_of(&start, count)?);
                }
                2 => made.ranges.push(range_of(&text(entry.data)?.0, 1)?),
                _ => return None,
            }
        }
        (after.is_empty() && made != Self::default()).then_some(made)
    }

    /// By what it covers a number: its digits, without `+`. `None` where it does not.
    #[must_use]
    pub fn covers(&self, digits: &str) -> Option<Authority> {
        let number: Option<u64> = digits.parse().ok();
        let has = |&(first, count, length): &(u64, u64, usize)| {
            length == digits.len() && number.is_some_and(|number| number >= first && number - first < count)
        };
        if self.ranges.iter().any(has) {
            return Some(Authority::Number);
        }
        (!self.providers.is_empty()).then_some(Authority::Provider)
    }

    /// Whether it covers any number that begins with these digits.
    #[must_use]
    pub fn covers_some(&self, prefix: &str) -> bool {
        let touches = |&(first, count, length): &(u64, u64, usize)| {
            let Some(open) = length.checked_sub(prefix.len()).and_then(|open| u32::try_from(open).ok()) else {
                return false;
            };
            let (Ok(prefix), Some(scale)) = (format!("0{prefix}").parse::<u64>(), 10_u64.checked_pow(open)) else {
                return false;
            };
            let from = prefix.saturating_mul(scale);
            first < from.saturating_add(scale) && from < first.saturating_add(count)
        };
        !self.providers.is_empty() || self.ranges.iter().any(touches)
    }
}

/// By what a chain of certificates, the signer's first, may speak for a number: each that has a list has to cover it, and a carrier's code
/// that the signer claims has to be among those of whoever delegated to it (RFC 9060 section 5).
///
/// # Errors
/// [`Fault::Authority`]: it may not.
pub fn over(lists: &[Option<TnAuthList>], digits: &str) -> Result<Authority, Fault> {
    let mut found = Authority::Unstated;
    let own = lists.first().and_then(Option::as_ref);
    for (at, list) in lists.iter().enumerate() {
        let Some(list) = list else { continue };
        let covered = list.covers(digits).ok_or_else(|| Fault::Authority(digits.to_owned()))?;
        if at == 0 {
            found = covered;
            continue;
        }
        let passes_on = |own: &TnAuthList| own.providers.iter().any(|code| list.providers.contains(code));
        if found == Authority::Provider && !own.is_some_and(passes_on) {
            return Err(Fault::Authority(digits.to_owned()));
        }
    }
    Ok(found)
}

/// The string that DER begins with, and what follows it.
fn text(der: &[u8]) -> Option<(String, &[u8])> {
    let (rest, text) = Ia5String::from_der(der).ok()?;
    Some((text.string(), rest))
}

fn range_of(start: &str, count: u64) -> Option<(u64, u64, usize)> {
    let is_number = (1..=DIGITS_LIMIT).contains(&start.len())
        && start.bytes().all(|byte| byte.is_ascii_digit() || b"#*".contains(&byte));
    // Numbers with # and * are nobody's in E.164, and cover nothing here.
    is_number.then(|| start.parse().map_or((0, 0, 0), |first| (first, count, start.len())))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rcgen::{CertificateParams, CustomExtension, KeyPair};

    use super::*;

    fn string(text: &str) -> Vec<u8> {
        [&[0x16, text.len() as u8], text.as_bytes()].concat()
    }

    fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
        [&[tag, content.len() as u8], content].concat()
    }

    fn list(entries: &[Vec<u8>]) -> Vec<u8> {
        tagged(0x30, &entries.concat())
    }

    fn provider(code: &str) -> Vec<u8> {
        tagged(0xa0, &string(code))
    }

    fn one(number: &str) -> Vec<u8> {
        tagged(0xa2, &string(number))
    }

    fn range(start: &str, count: u16) -> Vec<u8> {
        let [high, low] = count.to_be_bytes();
        let count = [2, 2, high, low];
        tagged(0xa1, &tagged(0x30, &[string(start), count.to_vec()].concat()))
    }

    /// Conforms: RFC 8226 §9 — a list holds codes of carriers, ranges and single numbers
    #[test]
    fn a_certificates_list_says_which_numbers_it_is_for() {
        let der = list(&[range("12155551000", 1_000), one("4930123")]);
        let mut params = CertificateParams::new(vec!["carrier".to_owned()]).unwrap();
        let oid = [1, 3, 6, 1, 5, 5, 7, 1, 26];
        params.custom_extensions = vec![CustomExtension::from_oid_content(&oid, der)];
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let read = TnAuthList::of(certificate.der()).unwrap().unwrap();
        for (digits, expected) in [
            ("12155551000", Some(Authority::Number)),
            ("12155551999", Some(Authority::Number)),
            ("12155552000", None),
            ("12155550999", None),
            ("4930123", Some(Authority::Number)),
            ("49301234", None),
            ("04930123", None),
            ("", None),
            ("alice", None),
        ] {
            assert_eq!(read.covers(digits), expected, "{digits}");
        }
        for (prefix, expected) in
            [("1215555", true), ("12155551", true), ("12155552", false), ("", true), ("493", true), ("4930124", false)]
        {
            assert_eq!(read.covers_some(prefix), expected, "{prefix}");
        }
        let plain =
            CertificateParams::new(vec!["x".to_owned()]).unwrap().self_signed(&KeyPair::generate().unwrap()).unwrap();
        assert_eq!(TnAuthList::of(plain.der()), Ok(None));
        let code = TnAuthList::parse(&[0x30, 8, 0xa0, 6, 0x16, 4, b'1', b'2', b'3', b'4']).unwrap();
        assert_eq!(code.covers("4930123"), Some(Authority::Provider));
        for bad in [
            &[][..],
            &[0x30, 0],
            &[0x30, 2, 0xa3, 0],
            &[0x30, 3, 0xa0, 1, 0],
            b"nonsense",
            &list(&[one("12a")]),
            &list(&[one("1234567890123456")]),
        ] {
            assert_eq!(TnAuthList::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_list_has_a_greatest_length() {
        let of = |count: usize| {
            let content = one("1").repeat(count);
            let size = u32::try_from(content.len()).unwrap().to_be_bytes();
            [&[0x30, 0x84][..], &size, &content].concat()
        };
        assert!(TnAuthList::parse(&of(ENTRIES_LIMIT)).is_some());
        assert!(TnAuthList::parse(&of(ENTRIES_LIMIT + 1)).is_none());
    }

    /// Conforms: RFC 9060 §5 — a delegate certificate speaks for no number that those above it do not speak for
    #[test]
    fn nobody_passes_on_more_than_they_have() {
        let read = |entries: &[Vec<u8>]| TnAuthList::parse(&list(entries));
        let (mine, wide) = (read(&[one("12155551001")]), read(&[range("12155551000", 1_000)]));
        let (carrier, other) = (read(&[provider("1234")]), read(&[provider("5678")]));
        let over = |lists: &[&Option<TnAuthList>]| {
            over(&lists.iter().map(|list| (*list).clone()).collect::<Vec<_>>(), "12155551001").ok()
        };
        assert_eq!(over(&[&mine, &wide]), Some(Authority::Number));
        assert_eq!(over(&[&mine, &wide, &carrier]), Some(Authority::Number));
        assert_eq!(over(&[&mine, &read(&[one("12155551002")])]), None);
        assert_eq!(over(&[&carrier, &carrier]), Some(Authority::Provider));
        assert_eq!(over(&[&carrier, &other]), None);
        assert_eq!(over(&[&carrier, &wide]), None, "numbers alone give no carrier's authority");
        assert_eq!(over(&[&None, &None]), Some(Authority::Unstated));
        assert_eq!(over(&[&read(&[one("1")])]), None);
    }
}
