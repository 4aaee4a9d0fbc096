//! What protects a stream, negotiated with descriptions as phones and browsers send them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use sip::negotiate::{
    Capability, CodecOffer, LocalDtls, LocalIce, LocalMedia, NegotiateError, OfferAs, Policy, Preference, Protecting,
    Protection, SdesKey, accept_answer, answer, offer, reoffer,
};
use sip::sdp::{Direction, Session};

const KEY_A: &str = "WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz";
const KEY_B: &str = "NzB4d1BINUAvLEw6UzF3WSJ+PSdFcGdUJShpX1Zj";
const GCM: &str = "WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubA==";
const PRINT: &str =
    "sha-256 4A:AD:B9:B1:3F:82:18:3B:54:02:12:DF:3E:5D:49:6B:19:E5:7C:AB:4A:AD:B9:B1:3F:82:18:3B:54:02:12:DF";
const SUITE: &str = "AES_CM_128_HMAC_SHA1_80";

fn caps() -> Capability {
    let codec = |name: &str, clock_hz, channels, static_payload_type| CodecOffer {
        name: name.into(),
        clock_hz,
        channels,
        static_payload_type,
        fmtp: None,
    };
    Capability {
        codecs: vec![codec("opus", 48_000, 2, None), codec("PCMU", 8_000, 1, Some(0))],
        telephone_event: true,
        comfort_noise: false,
        ptime_ms: 20,
        rtcp_mux: true,
        audio_levels: true,
        preference: Preference::Ours,
    }
}

fn local(policy: Policy, offer_as: OfferAs) -> LocalMedia {
    let key = |suite: &str, inline: &str| SdesKey { suite: suite.into(), inline: inline.into() };
    LocalMedia {
        addr: "192.0.2.7".parse().unwrap(),
        port: 10_000,
        session_id: 77,
        version: 1,
        direction: Direction::SendRecv,
        protection: Protecting {
            policy,
            offer_as,
            sdes: vec![key("AEAD_AES_128_GCM", GCM), key(SUITE, KEY_A)],
            dtls: Some(LocalDtls { fingerprint: PRINT.into(), is_client: None }),
            ice: Some(LocalIce {
                ufrag: "ours".into(),
                pwd: "our-password".into(),
                candidates: vec!["1 1 udp 2130706431 192.0.2.7 10000 typ host".into()],
                is_lite: false,
            }),
        },
    }
}

fn sdp(media: &str) -> Session {
    let text = format!("v=0\no=- 5 6 IN IP4 198.51.100.2\ns=-\nc=IN IP4 198.51.100.2\nt=0 0\n{media}\n");
    Session::parse(text.replace('\n', "\r\n").as_bytes()).unwrap()
}

fn answered(policy: Policy, media: &str) -> Result<(Protection, String), NegotiateError> {
    let negotiated = answer(&local(policy, OfferAs::Plain), &caps(), &sdp(media))?;
    Ok((negotiated.media.protection, negotiated.answer.to_string()))
}

fn key(suite: &str, inline: &str) -> SdesKey {
    SdesKey { suite: suite.into(), inline: inline.into() }
}

/// Conforms: RFC 4568 §5.1.2 — an offered key is answered with one of ours under its tag, of the best suite that both have.
#[test]
fn an_offer_of_srtp_is_answered_with_a_key_of_ours_under_its_tag() {
    let offered = format!(
        "m=audio 4000 RTP/SAVP 0\na=crypto:1 F8_128_HMAC_SHA1_80 inline:{KEY_B}\na=crypto:2 {SUITE} inline:{KEY_B}|2^20\n\
         a=crypto:3 AEAD_AES_256_GCM inline:{GCM}"
    );
    let (protection, sdp) = answered(Policy::Preferred, &offered).unwrap();
    let (send, receive) = (key(SUITE, KEY_A), key(SUITE, KEY_B));
    assert_eq!(protection, Protection::Sdes { tag: 2, send, receive });
    assert!(sdp.contains("m=audio 10000 RTP/SAVP 0\r\n"), "{sdp}");
    assert!(sdp.contains(&format!("a=crypto:2 {SUITE} inline:{KEY_A}\r\n")), "{sdp}");
    assert_eq!(sdp.matches("a=crypto").count(), 1);
    let (protection, _) = answered(
        Policy::Required,
        &format!(
            "m=audio 4000 RTP/SAVPF 0\na=crypto:1 {SUITE} inline:{KEY_B}\na=crypto:9 AEAD_AES_128_GCM inline:{GCM}"
        ),
    )
    .unwrap();
    assert!(matches!(protection, Protection::Sdes { tag: 9, .. }), "ours first: {protection:?}");
}

/// Conforms: RFC 4568 §6.3, §6.1 — lines with parameters, keys or identifiers that we do not have are passed over.
#[test]
fn lines_that_ask_for_what_we_do_not_have_are_passed_over() {
    let good = format!("a=crypto:7 {SUITE} inline:{KEY_B} WSH=128");
    for bad in [
        format!("{SUITE} inline:{KEY_B} UNENCRYPTED_SRTP"),
        format!("{SUITE} inline:{KEY_B} KDR=3"),
        format!("{SUITE} inline:{KEY_B}|2^20|1:4"),
        format!("{SUITE} inline:{}", &KEY_B[..20]),
        format!("{SUITE} uri:{KEY_B}"),
        SUITE.to_owned(),
    ] {
        let offered = format!("m=audio 4000 RTP/SAVP 0\na=crypto:1 {bad}");
        assert_eq!(answered(Policy::Preferred, &offered), Err(NegotiateError::NoCommonSuite), "{bad}");
        let (protection, _) = answered(Policy::Preferred, &format!("{offered}\n{good}")).unwrap();
        assert!(matches!(protection, Protection::Sdes { tag: 7, .. }), "{bad}");
    }
}

/// Conforms: RFC 8643 §3 — plain RTP that says it could be protected is protected.
#[test]
fn plain_rtp_that_could_be_protected_is_protected_unless_that_is_off() {
    let offered = format!("m=audio 4000 RTP/AVP 0\na=crypto:1 {SUITE} inline:{KEY_B}");
    let (protection, sdp) = answered(Policy::Preferred, &offered).unwrap();
    assert!(matches!(protection, Protection::Sdes { tag: 1, .. }) && sdp.contains("RTP/AVP 0\r\n"), "{sdp}");
    let (protection, sdp) = answered(Policy::Off, &offered).unwrap();
    assert!(protection == Protection::None && !sdp.contains("crypto"), "{sdp}");
}

#[test]
fn what_is_required_is_not_talked_down_and_what_is_off_is_refused() {
    let plain = "m=audio 4000 RTP/AVP 0";
    let secure = format!("m=audio 4000 RTP/SAVP 0\na=crypto:1 {SUITE} inline:{KEY_B}");
    assert_eq!(answered(Policy::Required, plain), Err(NegotiateError::NotProtected));
    assert_eq!(answered(Policy::Preferred, plain).unwrap().0, Protection::None);
    assert_eq!(answered(Policy::Off, &secure), Err(NegotiateError::UnsupportedTransport("RTP/SAVP".into())));
    // The protected section is taken where there are both, whichever is first.
    for (offered, index) in [(format!("{plain}\n{secure}"), 1), (format!("{secure}\n{plain}"), 0)] {
        let choice = answer(&local(Policy::Preferred, OfferAs::Plain), &caps(), &sdp(&offered)).unwrap();
        assert_eq!(choice.media.media_index, index);
        let choice = answer(&local(Policy::Off, OfferAs::Plain), &caps(), &sdp(&offered)).unwrap();
        assert_eq!(choice.media.media_index, 1 - index);
    }
}

/// Conforms: RFC 5763 §5 — who begins the handshake follows from `a=setup`; without ICE, the peer does where it may choose.
#[test]
fn an_announced_handshake_is_answered_with_ours() {
    for (setup, is_client, ours) in
        [("actpass", false, "passive"), ("active", false, "passive"), ("passive", true, "active")]
    {
        let offered = format!("m=audio 4000 UDP/TLS/RTP/SAVP 0\na=fingerprint:{PRINT}\na=setup:{setup}");
        let (protection, sdp) = answered(Policy::Preferred, &offered).unwrap();
        assert_eq!(protection, Protection::Dtls { fingerprint: PRINT.into(), is_client, ice: None });
        assert!(
            sdp.contains(&format!("a=setup:{ours}\r\n")) && sdp.contains(&format!("a=fingerprint:{PRINT}\r\n")),
            "{sdp}"
        );
        assert!(!sdp.contains("ice-"), "{sdp}");
    }
    let held = format!("m=audio 4000 UDP/TLS/RTP/SAVP 0\na=fingerprint:{PRINT}\na=setup:holdconn");
    assert_eq!(answered(Policy::Preferred, &held), Err(NegotiateError::NoCommonSuite));
}

/// As Chromium offers a call with sound and data, cut to what matters.
const BROWSER: &str = "a=group:BUNDLE 0 1\na=extmap-allow-mixed\na=msid-semantic: WMS x\n\
    m=audio 9 UDP/TLS/RTP/SAVPF 111 63 0 110 126\nc=IN IP4 0.0.0.0\na=rtcp:9 IN IP4 0.0.0.0\n\
    a=candidate:1 1 udp 2113937151 0a1b.local 50123 typ host generation 0\na=ice-ufrag:Q7yF\na=ice-pwd:theirs-and-long-enough\n\
    a=ice-options:trickle\na=fingerprint:sha-256 00:11\na=setup:actpass\na=mid:0\na=sendrecv\na=msid:x y\na=rtcp-mux\n\
    a=rtpmap:111 opus/48000/2\na=fmtp:111 minptime=10;useinbandfec=1\na=rtpmap:63 red/48000/2\na=rtpmap:0 PCMU/8000\n\
    a=rtpmap:110 telephone-event/48000\na=rtpmap:126 telephone-event/8000\n\
    m=application 9 UDP/DTLS/SCTP webrtc-datachannel\na=mid:1\na=sctp-port:5000";

/// Conforms: RFC 8829 §5.3.1 — a browser's offer is answered with ICE, a handshake that we begin, and its bundle cut
/// down to what is taken.
#[test]
fn a_browsers_offer_is_answered_as_it_wants_it() {
    let negotiated = answer(&local(Policy::Preferred, OfferAs::Plain), &caps(), &sdp(BROWSER)).unwrap();
    let sdp = negotiated.answer.to_string();
    for part in [
        "a=group:BUNDLE 0\r\n",
        "m=audio 10000 UDP/TLS/RTP/SAVPF 111 110\r\n",
        "a=ice-ufrag:ours\r\n",
        "a=ice-pwd:our-password\r\n",
        "a=candidate:1 1 udp 2130706431 192.0.2.7 10000 typ host\r\n",
        "a=end-of-candidates\r\n",
        "a=setup:active\r\n",
        "a=mid:0\r\n",
        "a=rtcp-mux\r\n",
        "a=msid:omnivox audio\r\n",
        "m=application 0 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:1\r\n",
    ] {
        assert!(sdp.contains(part), "{part} in {sdp}");
    }
    assert_eq!(negotiated.media.direction, Direction::SendRecv, "0.0.0.0 is no hold here");
    let Protection::Dtls { is_client: true, ice: Some(ice), .. } = negotiated.media.protection else { panic!("{sdp}") };
    assert_eq!((ice.ufrag.as_str(), ice.is_controlling, ice.candidates.len()), ("Q7yF", false, 1));
    // Within the call the parts stay.
    let mut again = local(Policy::Preferred, OfferAs::Plain);
    again.protection.dtls.as_mut().unwrap().is_client = Some(false);
    assert!(answer(&again, &caps(), &self::sdp(BROWSER)).unwrap().answer.to_string().contains("a=setup:passive\r\n"));
    // A lite peer has us choose the path.
    let lite = answer(&again, &caps(), &self::sdp(&format!("a=ice-lite\n{BROWSER}"))).unwrap();
    assert!(matches!(lite.media.protection, Protection::Dtls { ice: Some(ice), .. } if ice.is_controlling));
}

/// Both ends of ours, each with its own keys.
#[test]
fn our_own_answers_to_our_own_offers_agree_on_the_same_protection() {
    for (offer_as, policy) in [
        (OfferAs::Plain, Policy::Preferred),
        (OfferAs::Opportunistic, Policy::Preferred),
        (OfferAs::Sdes, Policy::Required),
        (OfferAs::Dtls, Policy::Required),
        (OfferAs::Browser, Policy::Required),
    ] {
        let offerer = local(policy, offer_as);
        let mut answerer = local(Policy::Preferred, OfferAs::Plain);
        answerer.protection.sdes = vec![key(SUITE, KEY_B)];
        let offered = offer(&offerer, &caps());
        let theirs = answer(&answerer, &caps(), &offered).unwrap();
        let ours = accept_answer(&offerer, &offered, &theirs.answer, &caps()).unwrap();
        match (ours.protection, theirs.media.protection) {
            (Protection::None, Protection::None) => assert_eq!(offer_as, OfferAs::Plain),
            (Protection::Sdes { send, receive, tag }, Protection::Sdes { send: b, receive: a, tag: same }) => {
                assert!(send == a && receive == b && tag == same && tag == 2);
            }
            (Protection::Dtls { is_client, ice, .. }, Protection::Dtls { is_client: theirs, ice: other, .. }) => {
                assert!(is_client != theirs);
                assert_eq!(
                    (ice.is_some(), other.is_some()),
                    (offer_as == OfferAs::Browser, offer_as == OfferAs::Browser)
                );
                assert!(ice.is_none_or(|ice| ice.is_controlling) && other.is_none_or(|ice| !ice.is_controlling));
            }
            (a, b) => panic!("{a:?} {b:?}"),
        }
        let later = reoffer(&offerer, &caps(), &offered, 0);
        assert_eq!(later, offered, "{offer_as:?}");
    }
}

#[test]
fn an_answer_without_the_protection_that_was_offered_is_refused() {
    let plain = sdp("m=audio 4000 RTP/AVP 0");
    for (offer_as, policy, refused) in [
        (OfferAs::Opportunistic, Policy::Preferred, false),
        (OfferAs::Opportunistic, Policy::Required, true),
        (OfferAs::Sdes, Policy::Preferred, true),
        (OfferAs::Dtls, Policy::Preferred, true),
        (OfferAs::Browser, Policy::Preferred, true),
    ] {
        let offerer = local(policy, offer_as);
        let result = accept_answer(&offerer, &offer(&offerer, &caps()), &plain, &caps());
        assert_eq!(result.map(|choice| choice.protection).is_err(), refused, "{offer_as:?}");
    }
    // A key under a tag that we did not offer is none.
    let offerer = local(Policy::Required, OfferAs::Sdes);
    let other = sdp(&format!("m=audio 4000 RTP/SAVP 0\na=crypto:8 {SUITE} inline:{KEY_B}"));
    let result = accept_answer(&offerer, &offer(&offerer, &caps()), &other, &caps());
    assert_eq!(result, Err(NegotiateError::NotProtected));
}
