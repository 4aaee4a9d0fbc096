//! The server's side of digest authentication: challenges, and who answers one rightly (RFC 7616, RFC 8760).
//!
//! A nonce tells its own age and cannot be forged, so that a challenge costs no memory. What is remembered is, of each nonce
//! that was answered rightly, how often: an answer that was overheard is of no use. A name that nobody has is checked like any
//! other, against a secret that nobody knows.

use std::collections::{HashMap, VecDeque};

use super::{Algorithm, Authorization, Challenge, Qop, digest};
use crate::headers::Name;
use crate::message::Message;
use crate::uri::Uri;

/// Nonces whose count is remembered; beyond it the oldest is forgotten, and whoever goes on with it is challenged anew.
pub const NONCES_LIMIT: usize = 65_536;
/// How long a nonce may be used, in seconds.
const NONCE_LIVES_S: u64 = 300;
/// Bits of a nonce's time that count challenges, so that no two are alike.
const COUNTER_BITS: u32 = 20;

/// Who a request proves to come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// This user.
    Known(String),
    /// Nobody yet: it is to be challenged. `stale`: the secret was right, the nonce too old or used before.
    Unproven {
        /// See there.
        stale: bool,
    },
    /// Nobody: the secret was wrong, or the name.
    Wrong,
}

/// Challenges, and checks answers.
#[derive(Debug)]
pub struct Authenticator {
    realm: String,
    key: [u8; 16],
    issued: u64,
    counts: HashMap<String, u32>,
    order: VecDeque<String>,
}

impl Authenticator {
    /// For one realm. The key must be known to nobody else.
    #[must_use]
    pub fn new(realm: impl Into<String>, key: [u8; 16]) -> Self {
        Self { realm: realm.into(), key, issued: 0, counts: HashMap::new(), order: VecDeque::new() }
    }

    /// The realm.
    #[must_use]
    pub fn realm(&self) -> &str {
        &self.realm
    }

    /// Challenges for 401 ([`Name::WwwAuthenticate`]) or 407 ([`Name::ProxyAuthenticate`]): header names and values, best
    /// algorithm first (RFC 8760 section 2.4), all with one nonce.
    pub fn challenges(
        &mut self,
        now_s: u64,
        header: Name,
        algorithms: &[Algorithm],
        stale: bool,
    ) -> Vec<(String, String)> {
        self.issued = self.issued.wrapping_add(1);
        let stamp = (now_s << COUNTER_BITS) | (self.issued & ((1 << COUNTER_BITS) - 1));
        let nonce = super::make_nonce(&self.key, stamp);
        let challenge = |algorithm: &Algorithm| {
            let challenge = Challenge {
                header,
                realm: self.realm.clone(),
                nonce: nonce.clone(),
                opaque: None,
                algorithm: *algorithm,
                qop: Some(Qop::Auth),
                stale,
            };
            (header.as_str().to_owned(), challenge.to_value())
        };
        algorithms.iter().map(challenge).collect()
    }

    /// Who sent the request. `header` is [`Name::Authorization`] or [`Name::ProxyAuthorization`]; `ha1` answers a user's hash for an
    /// algorithm, `None` where there is no such user, or no such hash.
    pub fn check(
        &mut self,
        now_s: u64,
        request: &Message,
        header: Name,
        ha1: impl Fn(&str, Algorithm) -> Option<String>,
    ) -> Verdict {
        let method = request.method().map(|method| method.as_str()).unwrap_or_default();
        let mut verdict = Verdict::Unproven { stale: false };
        for value in request.headers(header) {
            let Ok(answer) = Authorization::parse(value) else { continue };
            let issued = super::nonce_issued_at(&self.key, &answer.nonce);
            let (Some(issued), true, Some(_)) = (issued, answer.realm == self.realm, answer.qop) else { continue };
            let known = ha1(&answer.username, answer.algorithm);
            // Somebody unknown takes as long as somebody known.
            let secret = known.clone().unwrap_or_else(|| digest::keyed(&self.key, answer.username.as_bytes()));
            let is_right = answer.matches(&secret, method, request.body()) && known.is_some();
            if !is_right || !is_about(&answer.uri, request) {
                verdict = Verdict::Wrong;
                continue;
            }
            let is_fresh = now_s.saturating_sub(issued >> COUNTER_BITS) <= NONCE_LIVES_S;
            if is_fresh && answer.nonce_count().is_some_and(|count| self.counts_up(&answer.nonce, count)) {
                return Verdict::Known(answer.username);
            }
            verdict = Verdict::Unproven { stale: true };
        }
        verdict
    }

    /// Notes a use of a nonce; false where it was used that often before.
    fn counts_up(&mut self, nonce: &str, count: u32) -> bool {
        if let Some(last) = self.counts.get_mut(nonce) {
            return std::mem::replace(last, count.max(*last)) < count;
        }
        if count == 0 {
            return false;
        }
        if self.order.len() >= NONCES_LIMIT
            && let Some(oldest) = self.order.pop_front()
        {
            self.counts.remove(&oldest);
        }
        self.order.push_back(nonce.to_owned());
        self.counts.insert(nonce.to_owned(), count);
        true
    }
}

/// Whether the digest is about this request: its URI, though proxies may write that in another form (RFC 3261 section 22.4).
fn is_about(signed: &str, request: &Message) -> bool {
    if signed == request.request_uri() {
        return true;
    }
    match (Uri::parse(signed), request.uri()) {
        (Ok(signed), Ok(asked)) => signed.user() == asked.user() && signed.host().eq_ignore_ascii_case(asked.host()),
        _ => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::{Credentials, Signed};
    use super::*;
    use crate::parse::Limits;

    const ALL: [Algorithm; 3] = [Algorithm::Sha256, Algorithm::Sha512_256, Algorithm::Md5];

    fn register(authorization: Option<&str>) -> Message {
        let credentials = authorization.map(|value| format!("Authorization: {value}\r\n")).unwrap_or_default();
        let text = format!(
            "REGISTER sip:example.test SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\nMax-Forwards: 70\r\n\
             From: <sip:alice@example.test>;tag=1\r\nTo: <sip:alice@example.test>\r\nCall-ID: 1\r\nCSeq: 1 REGISTER\r\n\
             {credentials}Content-Length: 0\r\n\r\n"
        );
        Message::parse_datagram(text.into(), &Limits::default()).unwrap()
    }

    fn alice(user: &str, algorithm: Algorithm) -> Option<String> {
        (user == "alice").then(|| algorithm.ha1("alice", "example.test", "secret"))
    }

    fn answer(challenge: &str, user: &str, password: &str, nc: u32) -> String {
        let challenge = Challenge::parse_all(Name::WwwAuthenticate, challenge).remove(0);
        let credentials = Credentials { username: user.into(), password: password.into() };
        let signed = Signed { method: "REGISTER", uri: "sip:example.test", body: b"" };
        challenge.answer(&credentials, &signed, "c", nc)
    }

    /// Conforms: RFC 8760 §2 — MD5, SHA-256 and SHA-512-256 are offered, and each is taken.
    #[test]
    fn each_algorithm_is_offered_and_taken() {
        let mut server = Authenticator::new("example.test", [7; 16]);
        for (at, algorithm) in ALL.iter().enumerate() {
            let challenges = server.challenges(1_000, Name::WwwAuthenticate, &ALL, false);
            let (name, value) = challenges.get(at).unwrap();
            assert_eq!(name, "WWW-Authenticate");
            assert!(value.contains(algorithm.as_str()), "{value}");
            let request = register(Some(&answer(value, "alice", "secret", 1)));
            assert_eq!(server.check(1_010, &request, Name::Authorization, alice), Verdict::Known("alice".into()));
        }
    }

    /// Conforms: RFC 7616 §5.5 — a nonce count that was used before is refused, a nonce that is too old is stale.
    #[test]
    fn what_was_overheard_is_of_no_use() {
        let mut server = Authenticator::new("example.test", [7; 16]);
        let (_, challenge) = server.challenges(1_000, Name::WwwAuthenticate, &ALL, false).remove(0);
        let mut check = |now_s, nc| {
            let request = register(Some(&answer(&challenge, "alice", "secret", nc)));
            server.check(now_s, &request, Name::Authorization, alice)
        };
        assert_eq!(check(1_000, 1), Verdict::Known("alice".into()));
        assert_eq!(check(1_000, 1), Verdict::Unproven { stale: true });
        assert_eq!(check(1_000, 2), Verdict::Known("alice".into()));
        assert_eq!(check(1_000 + NONCE_LIVES_S + 1, 3), Verdict::Unproven { stale: true });
    }

    #[test]
    fn a_wrong_password_and_an_unknown_user_look_alike_and_a_forged_nonce_proves_nothing() {
        let mut server = Authenticator::new("example.test", [7; 16]);
        let (_, challenge) = server.challenges(1_000, Name::WwwAuthenticate, &ALL, false).remove(0);
        let mut check = |value: Option<&str>| server.check(1_000, &register(value), Name::Authorization, alice);
        assert_eq!(check(None), Verdict::Unproven { stale: false });
        assert_eq!(check(Some(&answer(&challenge, "alice", "guess", 1))), Verdict::Wrong);
        assert_eq!(check(Some(&answer(&challenge, "mallory", "secret", 1))), Verdict::Wrong);
        assert_eq!(check(Some("Basic YTpi")), Verdict::Unproven { stale: false });
        let mut other = Authenticator::new("example.test", [8; 16]);
        let (_, foreign) = other.challenges(1_000, Name::WwwAuthenticate, &ALL, false).remove(0);
        assert_eq!(check(Some(&answer(&foreign, "alice", "secret", 1))), Verdict::Unproven { stale: false });
    }

    #[test]
    fn a_digest_of_another_request_proves_nothing() {
        let mut server = Authenticator::new("example.test", [7; 16]);
        let (_, challenge) = server.challenges(1_000, Name::WwwAuthenticate, &ALL, false).remove(0);
        let challenge = Challenge::parse_all(Name::WwwAuthenticate, &challenge).remove(0);
        let credentials = Credentials { username: "alice".into(), password: "secret".into() };
        let signed = Signed { method: "REGISTER", uri: "sip:elsewhere.test", body: b"" };
        let request = register(Some(&challenge.answer(&credentials, &signed, "c", 1)));
        assert_eq!(server.check(1_000, &request, Name::Authorization, alice), Verdict::Wrong);
    }

    #[test]
    fn nonces_are_remembered_within_a_limit() {
        let mut server = Authenticator::new("example.test", [7; 16]);
        for nonce in 0..NONCES_LIMIT + 1 {
            assert!(server.counts_up(&nonce.to_string(), 1));
        }
        assert_eq!((server.counts.len(), server.order.len()), (NONCES_LIMIT, NONCES_LIMIT));
    }
}
