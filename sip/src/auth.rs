//! Digest authentication (RFC 3261 section 22, RFC 7616, RFC 8760): reading challenges, answering them, and checking
//! answers. MD5, SHA-256 and SHA-512-256, each with `-sess`; `qop` none, `auth` and `auth-int`.
//!
//! No clock and no entropy: the client nonce, the server's nonce and its age are arguments.

mod digest;
mod fields;
pub mod server;

use std::fmt;

use thiserror::Error;

use crate::headers::Name;
use crate::headers::params::quote;
use crate::message::Message;
pub use digest::Algorithm;
use digest::constant_time_eq;
use fields::Fields;

/// At most so many challenges in one response are read.
pub const MAX_CHALLENGES: usize = 16;

/// A user's name and password. Neither is shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The name to authenticate as.
    pub username: String,
    /// The shared secret.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(..)")
    }
}

/// What protects the request itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Qop {
    /// Method and URI.
    Auth,
    /// Method, URI and body.
    AuthInt,
}

impl Qop {
    fn as_str(self) -> &'static str {
        match self {
            Qop::Auth => "auth",
            Qop::AuthInt => "auth-int",
        }
    }
}

/// Why credentials or a challenge cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AuthError {
    /// Another scheme than `Digest`.
    #[error("not the Digest scheme")]
    NotDigest,
    /// The list of `name=value` breaks the grammar, or is too long.
    #[error("malformed digest fields")]
    Malformed,
    /// A field that must be there is not.
    #[error("no {0} in the digest")]
    MissingField(&'static str),
    /// An algorithm or `qop` that is not supported.
    #[error("unsupported digest algorithm or qop")]
    Unsupported,
}

/// One `Digest` challenge that can be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// [`Name::WwwAuthenticate`] or [`Name::ProxyAuthenticate`].
    pub header: Name,
    /// The realm, unquoted.
    pub realm: String,
    /// The nonce, unquoted.
    pub nonce: String,
    /// Sent back as it is.
    pub opaque: Option<String>,
    /// MD5 where none is named.
    pub algorithm: Algorithm,
    /// `auth` where offered, otherwise `auth-int`; `None` for challenges of RFC 2069's kind.
    pub qop: Option<Qop>,
    /// The nonce was too old, the credentials were right: worth another try.
    pub stale: bool,
}

impl Challenge {
    /// Reads the challenges of one header line, which may hold several. Those of other schemes, with unknown algorithms
    /// or malformed are left out.
    #[must_use]
    pub fn parse_all(header: Name, line: &str) -> Vec<Challenge> {
        fields::split_challenges(line)
            .take(MAX_CHALLENGES)
            .filter_map(|(scheme, fields)| Challenge::from_fields(header, scheme, fields).ok())
            .collect()
    }

    /// Every challenge in a 401 or 407 that can be answered, in order.
    #[must_use]
    pub fn all_in(response: &Message) -> Vec<Challenge> {
        [Name::WwwAuthenticate, Name::ProxyAuthenticate]
            .into_iter()
            .flat_map(|name| response.headers(name).flat_map(move |line| Challenge::parse_all(name, line)))
            .take(MAX_CHALLENGES)
            .collect()
    }

    /// Of several challenges the one to answer for each header and realm: the strongest algorithm, then the first.
    #[must_use]
    pub fn best(challenges: &[Challenge]) -> Vec<&Challenge> {
        let mut best: Vec<&Challenge> = Vec::new();
        for challenge in challenges {
            match best.iter_mut().find(|b| b.header == challenge.header && b.realm == challenge.realm) {
                Some(known) if challenge.algorithm.strength() > known.algorithm.strength() => *known = challenge,
                Some(_) => {}
                None => best.push(challenge),
            }
        }
        best
    }

    /// The header that answers this challenge goes under this name.
    #[must_use]
    pub fn answer_header(&self) -> Name {
        match self.header {
            Name::ProxyAuthenticate => Name::ProxyAuthorization,
            _ => Name::Authorization,
        }
    }

    /// The value of `Authorization` or `Proxy-Authorization` for a request.
    ///
    /// `nc` counts the requests sent with this nonce, from 1; `cnonce` is the client's own random text.
    #[must_use]
    pub fn answer(&self, credentials: &Credentials, request: &Signed<'_>, cnonce: &str, nc: u32) -> String {
        let nc = format!("{nc:08x}");
        let ha1 = self.algorithm.ha1(&credentials.username, &self.realm, &credentials.password);
        let parts = digest::Parts { nonce: &self.nonce, nc: &nc, cnonce, qop: self.qop, request };
        let response = self.algorithm.response(&ha1, &parts);
        let mut out = format!(
            "Digest username={}, realm={}, nonce={}, uri={}, response=\"{response}\", algorithm={}",
            quote(&credentials.username),
            quote(&self.realm),
            quote(&self.nonce),
            quote(request.uri),
            self.algorithm.as_str(),
        );
        if let Some(qop) = self.qop {
            out.push_str(&format!(", qop={}, nc={nc}", qop.as_str()));
        }
        if self.qop.is_some() || self.algorithm.is_session() {
            out.push_str(&format!(", cnonce={}", quote(cnonce)));
        }
        if let Some(opaque) = &self.opaque {
            out.push_str(&format!(", opaque={}", quote(opaque)));
        }
        out
    }

    /// The challenge as a header's value, for a server. Both `auth` and the algorithm are named.
    #[must_use]
    pub fn to_value(&self) -> String {
        let mut out = format!(
            "Digest realm={}, nonce={}, algorithm={}",
            quote(&self.realm),
            quote(&self.nonce),
            self.algorithm.as_str()
        );
        if let Some(qop) = self.qop {
            out.push_str(&format!(", qop=\"{}\"", qop.as_str()));
        }
        if let Some(opaque) = &self.opaque {
            out.push_str(&format!(", opaque={}", quote(opaque)));
        }
        if self.stale {
            out.push_str(", stale=true");
        }
        out
    }

    fn from_fields(header: Name, scheme: &str, fields: &str) -> Result<Challenge, AuthError> {
        let fields = Fields::parse(scheme, fields)?;
        let qop = match fields.value("qop") {
            None => None,
            Some(list) => {
                let offers = |wanted: &str| list.split(',').any(|q| q.trim().eq_ignore_ascii_case(wanted));
                if offers("auth") {
                    Some(Qop::Auth)
                } else if offers("auth-int") {
                    Some(Qop::AuthInt)
                } else {
                    return Err(AuthError::Unsupported);
                }
            }
        };
        Ok(Challenge {
            header,
            realm: fields.required("realm")?,
            nonce: fields.required("nonce")?,
            opaque: fields.value("opaque"),
            algorithm: Algorithm::parse(fields.value("algorithm").as_deref()).ok_or(AuthError::Unsupported)?,
            qop,
            stale: fields.value("stale").is_some_and(|s| s.eq_ignore_ascii_case("true")),
        })
    }
}

/// What a digest signs of a request.
#[derive(Debug, Clone, Copy)]
pub struct Signed<'a> {
    /// The method as it stands in the request.
    pub method: &'a str,
    /// The Request-URI as it stands in the request.
    pub uri: &'a str,
    /// The body; counts with `auth-int` only.
    pub body: &'a [u8],
}

/// Answers every realm of a 401 or 407: header names and values to add to the request. Empty where nothing in it can be
/// answered.
#[must_use]
pub fn answers(
    response: &Message,
    credentials: &Credentials,
    request: &Signed<'_>,
    cnonce: &str,
    nc: u32,
) -> Vec<(Name, String)> {
    let challenges = Challenge::all_in(response);
    Challenge::best(&challenges)
        .into_iter()
        .map(|c| (c.answer_header(), c.answer(credentials, request, cnonce, nc)))
        .collect()
}

/// Credentials as a client sent them in `Authorization` or `Proxy-Authorization`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorization {
    /// Who it claims to be.
    pub username: String,
    /// The realm it answers.
    pub realm: String,
    /// The nonce it answers.
    pub nonce: String,
    /// The URI it signed. Section 22.4 lets it differ in form from the Request-URI; the caller compares.
    pub uri: String,
    /// What it signed with.
    pub algorithm: Algorithm,
    /// `None` for RFC 2069's kind.
    pub qop: Option<Qop>,
    /// The request count as 8 hex digits; empty without `qop`.
    pub nc: String,
    /// Empty without `qop`.
    pub cnonce: String,
    /// Sent back as it was.
    pub opaque: Option<String>,
    response: String,
}

impl Authorization {
    /// Reads the header's value.
    ///
    /// # Errors
    /// [`AuthError`] for other schemes, unknown algorithms and missing fields.
    pub fn parse(value: &str) -> Result<Authorization, AuthError> {
        let (scheme, fields) = fields::split_scheme(value).ok_or(AuthError::NotDigest)?;
        let fields = Fields::parse(scheme, fields)?;
        let qop = match fields.value("qop").as_deref() {
            None => None,
            Some(q) if q.eq_ignore_ascii_case("auth") => Some(Qop::Auth),
            Some(q) if q.eq_ignore_ascii_case("auth-int") => Some(Qop::AuthInt),
            Some(_) => return Err(AuthError::Unsupported),
        };
        let algorithm = Algorithm::parse(fields.value("algorithm").as_deref()).ok_or(AuthError::Unsupported)?;
        let with_qop = |name| match qop {
            Some(_) => fields.required(name),
            None => Ok(fields.value(name).unwrap_or_default()),
        };
        Ok(Authorization {
            username: fields.required("username")?,
            realm: fields.required("realm")?,
            nonce: fields.required("nonce")?,
            uri: fields.required("uri")?,
            response: fields.required("response")?,
            nc: with_qop("nc")?,
            cnonce: with_qop("cnonce")?,
            opaque: fields.value("opaque"),
            algorithm,
            qop,
        })
    }

    /// The request count as a number.
    #[must_use]
    pub fn nonce_count(&self) -> Option<u32> {
        (self.nc.len() == 8).then(|| u32::from_str_radix(&self.nc, 16).ok()).flatten()
    }

    /// Whether the answer was made with this password, compared in constant time. That the nonce is ours and fresh, the
    /// realm ours and the URI the request's is for the caller to see to.
    #[must_use]
    pub fn is_signed_with(&self, password: &str, method: &str, body: &[u8]) -> bool {
        self.matches(&self.algorithm.ha1(&self.username, &self.realm, password), method, body)
    }

    /// The same with `H(username:realm:password)` in lower-case hex, as servers store it.
    #[must_use]
    pub fn matches(&self, ha1: &str, method: &str, body: &[u8]) -> bool {
        let request = Signed { method, uri: &self.uri, body };
        let parts =
            digest::Parts { nonce: &self.nonce, nc: &self.nc, cnonce: &self.cnonce, qop: self.qop, request: &request };
        let expected = self.algorithm.response(ha1, &parts);
        constant_time_eq(expected.as_bytes(), self.response.to_ascii_lowercase().as_bytes())
    }
}

/// A nonce that tells its own age and cannot be forged: issue time and a keyed hash over it.
#[must_use]
pub fn make_nonce(key: &[u8], issued_at_seconds: u64) -> String {
    let time = format!("{issued_at_seconds:016x}");
    let mac = digest::keyed(key, time.as_bytes());
    format!("{time}{mac}")
}

/// When a nonce was issued; `None` where [`make_nonce`] did not make it with this key.
#[must_use]
pub fn nonce_issued_at(key: &[u8], nonce: &str) -> Option<u64> {
    let (time, mac) = nonce.split_at_checked(16)?;
    let expected = digest::keyed(key, time.as_bytes());
    let seconds = u64::from_str_radix(time, 16).ok()?;
    constant_time_eq(expected.as_bytes(), mac.as_bytes()).then_some(seconds)
}
