//! Digest authentication against the RFCs' own examples, and against itself.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use sip::auth::{
    Algorithm, AuthError, Authorization, Challenge, Credentials, Qop, Signed, answers, make_nonce, nonce_issued_at,
};
use sip::{Builder, Message, Name};

fn credentials(username: &str, password: &str) -> Credentials {
    Credentials { username: username.into(), password: password.into() }
}

fn challenge(line: &str) -> Challenge {
    Challenge::parse_all(Name::WwwAuthenticate, line).remove(0)
}

fn response_of(answer: &str) -> &str {
    answer.split("response=\"").nth(1).unwrap().split('"').next().unwrap()
}

fn unauthorized(lines: &[(Name, &str)]) -> Message {
    lines.iter().fold(Builder::response(401, ""), |b, (name, line)| b.header(*name, line)).finish()
}

/// RFC 2617 section 3.5.
#[test]
fn answers_rfc_2617s_example() {
    let challenge = challenge(
        r#"Digest realm="testrealm@host.com", qop="auth,auth-int", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", opaque="5ccc069c403ebaf9f0171e9517f40e41""#,
    );
    let request = Signed { method: "GET", uri: "/dir/index.html", body: b"" };
    let answer = challenge.answer(&credentials("Mufasa", "Circle Of Life"), &request, "0a4f113b", 1);
    assert_eq!(response_of(&answer), "6629fae49393a05397450978507c4ef1");
    assert!(
        answer.contains(r#"opaque="5ccc069c403ebaf9f0171e9517f40e41""#) && answer.contains("qop=auth, nc=00000001")
    );
}

/// RFC 7616 section 3.9.1.
/// Conforms: RFC 7616 §3.9.1 — the examples in MD5 and SHA-256.
#[test]
fn answers_rfc_7616s_examples_in_md5_and_sha_256() {
    let request = Signed { method: "GET", uri: "/dir/index.html", body: b"" };
    for (algorithm, expected) in [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ] {
        let challenge = challenge(&format!(
            r#"Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm={algorithm}, nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS""#
        ));
        let cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
        let answer = challenge.answer(&credentials("Mufasa", "Circle of Life"), &request, cnonce, 1);
        assert_eq!(response_of(&answer), expected, "{algorithm}");
    }
}

/// RFC 2069's kind, as some SIP servers still send it: without qop. The value is H(H(A1):nonce:H(A2)).
#[test]
fn answers_a_challenge_without_qop_without_count_and_client_nonce() {
    let challenge = challenge(r#"Digest realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093""#);
    assert_eq!((challenge.qop, challenge.algorithm), (None, Algorithm::Md5));
    let request = Signed { method: "GET", uri: "/dir/index.html", body: b"" };
    let answer = challenge.answer(&credentials("Mufasa", "Circle Of Life"), &request, "unused", 1);
    // Computed with Python's hashlib.
    assert_eq!(response_of(&answer), "670fd8c2df070c60b045671b8b24ff02");
    assert!(!answer.contains("nc=") && !answer.contains("cnonce=") && !answer.contains("qop="));
}

#[test]
fn what_is_answered_is_verified_with_every_algorithm_and_qop() {
    let user = credentials("bob \"b\" \\", "zanzibar");
    for algorithm in ["MD5", "MD5-sess", "SHA-256", "SHA-256-sess", "SHA-512-256", "SHA-512-256-sess"] {
        for qop in ["", ", qop=\"auth\"", ", qop=\"auth-int\""] {
            let challenge = challenge(&format!("Digest realm=\"r, x\", nonce=\"n\", algorithm={algorithm}{qop}"));
            let request = Signed { method: "INVITE", uri: "sip:a@b", body: b"v=0" };
            let sent = challenge.answer(&user, &request, "c0ffee", 7);
            let read = Authorization::parse(&sent).unwrap();
            assert_eq!((read.username.as_str(), read.realm.as_str()), (user.username.as_str(), "r, x"));
            assert_eq!(read.qop, challenge.qop);
            assert!(read.qop.is_none() || read.nonce_count() == Some(7));
            assert!(read.is_signed_with("zanzibar", "INVITE", b"v=0"), "{sent}");
            assert!(!read.is_signed_with("Zanzibar", "INVITE", b"v=0"));
            assert!(!read.is_signed_with("zanzibar", "BYE", b"v=0"));
            assert_eq!(read.is_signed_with("zanzibar", "INVITE", b"v=1"), read.qop != Some(Qop::AuthInt));
            let ha1 = read.algorithm.ha1(&user.username, "r, x", "zanzibar");
            assert!(read.matches(&ha1, "INVITE", b"v=0"));
        }
    }
}

/// Conforms: RFC 8760 §2.4 — of several challenges the best is answered.
#[test]
fn several_challenges_in_one_line_are_told_apart() {
    let all = Challenge::parse_all(
        Name::ProxyAuthenticate,
        r#"Basic realm="x, Digest", Digest realm="a, b" , nonce="1,2" ,algorithm=SHA-256, qop="auth", NTLM, Digest realm="c",nonce=bare,stale=TRUE, Digest nonce="no realm", Digest realm="d", nonce="4", algorithm=AKAv1-MD5"#,
    );
    let seen: Vec<_> = all.iter().map(|c| (c.realm.as_str(), c.nonce.as_str(), c.stale)).collect();
    assert_eq!(seen, [("a, b", "1,2", false), ("c", "bare", true)]);
    assert_eq!(all[0].answer_header(), Name::ProxyAuthorization);
}

#[test]
fn each_realm_is_answered_once_with_its_strongest_algorithm() {
    let response = unauthorized(&[
        (Name::WwwAuthenticate, r#"Digest realm="a", nonce="1", algorithm=MD5"#),
        (
            Name::WwwAuthenticate,
            r#"Digest realm="a", nonce="2", algorithm=SHA-256, Digest realm="a", nonce="3", algorithm=SHA-256"#,
        ),
        (Name::ProxyAuthenticate, r#"Digest realm="p", nonce="4""#),
    ]);
    let request = Signed { method: "INVITE", uri: "sip:a@b", body: b"" };
    let sent = answers(&response, &credentials("u", "p"), &request, "c", 1);
    let seen: Vec<_> = sent.iter().map(|(name, value)| (*name, Authorization::parse(value).unwrap().nonce)).collect();
    assert_eq!(seen, [(Name::Authorization, "2".to_owned()), (Name::ProxyAuthorization, "4".to_owned())]);
    assert!(answers(&unauthorized(&[]), &credentials("u", "p"), &request, "c", 1).is_empty());
}

#[test]
fn a_servers_challenge_is_read_by_a_client() {
    let ours = Challenge {
        header: Name::WwwAuthenticate,
        realm: "omni \"vox\"".into(),
        nonce: "n".into(),
        opaque: Some("o".into()),
        algorithm: Algorithm::Sha256,
        qop: Some(Qop::Auth),
        stale: true,
    };
    assert_eq!(challenge(&ours.to_value()), ours);
}

#[test]
fn credentials_that_cannot_be_used_say_why() {
    let error = |value: &str| Authorization::parse(value).unwrap_err();
    let full = r#"Digest username="u", realm="r", nonce="n", uri="sip:x", response="00""#;
    assert_eq!(error("Basic dTpw"), AuthError::NotDigest);
    assert_eq!(error(""), AuthError::NotDigest);
    assert_eq!(error("Digest username"), AuthError::Malformed);
    assert_eq!(error("Digest username=\"u"), AuthError::Malformed);
    assert_eq!(error("Digest realm=\"r\""), AuthError::MissingField("username"));
    assert_eq!(error(&format!("{full}, algorithm=SHA-3")), AuthError::Unsupported);
    assert_eq!(error(&format!("{full}, qop=other")), AuthError::Unsupported);
    assert_eq!(error(&format!("{full}, qop=auth, nc=1")), AuthError::MissingField("cnonce"));
    assert!(Authorization::parse(full).is_ok_and(|a| !a.is_signed_with("p", "INVITE", b"")));
    let fields = |count: usize| format!("{full}{}", ", x=y".repeat(count - 5));
    assert!(Authorization::parse(&fields(32)).is_ok());
    assert_eq!(error(&fields(33)), AuthError::Malformed);
}

#[test]
fn nonces_tell_their_age_and_cannot_be_forged() {
    let nonce = make_nonce(b"key", 1_700_000_000);
    assert_eq!(nonce_issued_at(b"key", &nonce), Some(1_700_000_000));
    assert_eq!(nonce_issued_at(b"other", &nonce), None);
    let older = nonce.replacen('f', "e", 1).replacen('6', "5", 1);
    for forged in [older.as_str(), "", "00", "é000000000000000000000"] {
        assert_eq!(nonce_issued_at(b"key", forged), None);
    }
}

#[test]
fn passwords_are_not_shown() {
    assert_eq!(format!("{:?}", credentials("bob", "zanzibar")), "Credentials(..)");
}
