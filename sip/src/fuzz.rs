//! What must hold for any bytes: the bodies of the fuzz targets in `fuzz/`, kept here so that they are compiled and run with
//! every test. Each takes raw input, panics where an invariant breaks, and is for tests only.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bytes::Bytes;

use crate::headers::Name;
use crate::message::Message;
use crate::negotiate::{
    Capability, CodecOffer, LocalDtls, LocalIce, LocalMedia, OfferAs, Policy, Preference, Protecting, Protection,
    SdesKey, accept_answer, answer, offer, reoffer,
};
use crate::parse::{Limits, ParseErrorKind};
use crate::sdp::{Direction, Session};
use crate::stream::StreamFramer;

/// One datagram: what is accepted can be answered, altered and read again; what is refused can be answered where it says so.
pub fn message(data: &[u8]) {
    match Message::parse_datagram(Bytes::copy_from_slice(data), &Limits::default()) {
        Ok(message) => accepted(message),
        Err(error) => {
            if let Some((request, code)) = error.answer() {
                let answer = request.response(code, "", Some("t")).finish();
                assert_eq!(answer.code(), Some(code));
            }
            assert!((400..600).contains(&error.code()));
        }
    }
}

fn accepted(mut message: Message) {
    // What is built from a message may be longer than the message by what is added.
    let wide = Limits { max_message_bytes: 1 << 20, max_header_bytes: 1 << 17, ..Limits::default() };
    for (name, value) in message.all_headers() {
        assert!(!name.is_empty() && !value.contains(['\r', '\n']));
    }
    let uri = message.uri();
    assert_eq!(uri.is_ok(), message.is_request());
    if let Ok(uri) = uri {
        assert!(uri.is_equivalent(&uri), "{uri}");
        let _ = (uri.with_param("x", Some("y")), uri.for_request_uri(), uri.user_decoded(), uri.host_ip());
    }
    let cseq = message.cseq();
    assert!(cseq.is_ok() && message.top_via().is_ok() && message.from_().is_ok() && message.to().is_ok());
    let _ = (message.contact(), message.routes(Name::Route), message.content_type(), message.expires_seconds());
    let _ = crate::auth::Challenge::all_in(&message);
    let diverted = crate::diversion::read(&message);
    let history = crate::diversion::as_history(&diverted, "sip:x@y", true);
    assert!(diverted.len() <= crate::diversion::DIVERSIONS_LIMIT && !history.contains(['\r', '\n']));
    let _ = message.headers(Name::Authorization).map(crate::auth::Authorization::parse).count();

    message.set_source(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 5062));
    let answer = message.response(200, "", Some("t")).finish();
    let again = Message::parse_datagram(answer.bytes(), &wide);
    assert!(again.is_ok(), "answer not readable: {:?}", again.err());
    if let Ok(again) = again {
        assert_eq!(again.cseq(), cseq);
        assert_eq!(again.call_id(), message.call_id());
        assert_eq!(again.via_count(), message.via_count());
        assert_eq!(again.from_().map(|f| f.tag()), message.from_().map(|f| f.tag()));
        assert!(again.to().is_ok_and(|to| to.tag().is_some()));
    }
    let copy = message.edit().finish();
    let again = Message::parse_datagram(copy.bytes(), &wide);
    assert!(again.is_ok(), "copy not readable: {:?}", again.err());
    if let Ok(again) = again {
        let but_length = |m: &Message| -> Vec<(String, String)> {
            let named = |(n, v): (&str, &str)| (n.to_owned(), v.to_owned());
            m.all_headers().filter(|(n, _)| Name::parse(n.as_bytes()) != Name::ContentLength).map(named).collect()
        };
        assert_eq!(but_length(&again), but_length(&message));
        assert_eq!(again.body(), message.body());
        assert_eq!(again.request_uri(), message.request_uri());
    }
}

/// One connection: the messages that come out do not depend on how the bytes were cut.
pub fn stream(data: &[u8]) {
    let Some((&step, data)) = data.split_first() else {
        return;
    };
    let cut = framed(data, usize::from(step).max(1));
    let whole = framed(data, data.len().max(1));
    assert_eq!(cut, whole);
}

fn framed(data: &[u8], step: usize) -> (Vec<Result<Bytes, ParseErrorKind>>, bool) {
    let limits = Limits { max_message_bytes: 2_000, ..Limits::default() };
    let mut framer = StreamFramer::new(limits);
    let mut out = Vec::new();
    for piece in data.chunks(step) {
        framer.push(piece);
        while let Some(result) = framer.next() {
            out.push(match result {
                Ok(message) => Ok(message.bytes()),
                // How much was there when a message proved too large depends on the cut.
                Err(error) => Err(match error.kind {
                    ParseErrorKind::MessageTooLarge { limit, .. } => {
                        ParseErrorKind::MessageTooLarge { bytes: 0, limit }
                    }
                    kind => kind,
                }),
            });
        }
        assert!(framer.pending_bytes() <= limits.max_message_bytes + step);
    }
    (out, framer.is_broken())
}

/// One description: what is read prints to what reads the same.
pub fn sdp(data: &[u8]) {
    if let Ok(session) = Session::parse(data) {
        let again = Session::parse(&session.to_bytes());
        // Replacing what is not UTF-8 makes text longer, beyond the limit at times.
        if let Ok(again) = again {
            assert_eq!(again.to_string(), session.to_string());
        }
    }
}

/// One description as an offer and as an answer: both sides of what is agreed agree.
pub fn negotiate(data: &[u8]) {
    let Ok(theirs) = Session::parse(data) else {
        return;
    };
    let caps = capability();
    let local = LocalMedia {
        addr: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)),
        port: 10_000,
        session_id: 1,
        version: 1,
        direction: Direction::SendRecv,
        protection: Protecting::default(),
    };
    protected(&local, &caps, &theirs);
    if let Ok(agreed) = answer(&local, &caps, &theirs) {
        assert_eq!(agreed.answer.media.len(), theirs.media.len());
        assert_eq!(agreed.answer.media.iter().filter(|m| m.port != 0).count(), 1);
        assert_eq!(Session::parse(&agreed.answer.to_bytes()).as_ref(), Ok(&agreed.answer));
        assert!(agreed.media.payload_type_send < 128 && (10..=60).contains(&agreed.media.ptime_ms));
        let seen = accept_answer(&local, &theirs, &agreed.answer, &caps);
        if agreed.media.media_index == theirs.media.iter().position(|m| m.kind == "audio" && m.port != 0).unwrap_or(0) {
            assert!(seen.is_ok_and(|s| s.codec_name == agreed.media.codec_name));
        }
        let _ = reoffer(&local, &caps, &agreed.answer, agreed.media.media_index);
    }
    let _ = accept_answer(&local, &offer(&local, &caps), &theirs, &caps);
}

/// The same with all that protects: what is agreed on is in the answer.
fn protected(local: &LocalMedia, caps: &Capability, theirs: &Session) {
    let key = SdesKey { suite: "AES_CM_128_HMAC_SHA1_80".to_owned(), inline: "A".repeat(40) };
    let protection = Protecting {
        policy: Policy::Required,
        offer_as: OfferAs::Browser,
        sdes: vec![key],
        dtls: Some(LocalDtls { fingerprint: "sha-256 00".to_owned(), is_client: None }),
        ice: Some(LocalIce { ufrag: "u".to_owned(), pwd: "p".to_owned(), candidates: vec![], is_lite: false }),
    };
    let local = LocalMedia { protection, ..local.clone() };
    if let Ok(agreed) = answer(&local, caps, theirs) {
        let media = agreed.answer.media.get(agreed.media.media_index);
        let has = |name| media.is_some_and(|media| media.attributes.has(name));
        match &agreed.media.protection {
            Protection::None => assert!(!has("crypto") && !has("fingerprint")),
            Protection::Sdes { .. } => assert!(has("crypto")),
            Protection::Dtls { ice, .. } => {
                assert!(has("fingerprint") && has("setup") && has("ice-ufrag") == ice.is_some())
            }
        }
        assert!(agreed.media.protection != Protection::None, "required");
        assert_eq!(Session::parse(&agreed.answer.to_bytes()).as_ref(), Ok(&agreed.answer));
    }
    let _ = accept_answer(&local, &offer(&local, caps), theirs, caps);
}

fn capability() -> Capability {
    let codec = |name: &str, clock_hz, channels, static_payload_type, fmtp: Option<&str>| CodecOffer {
        name: name.to_owned(),
        clock_hz,
        channels,
        static_payload_type,
        fmtp: fmtp.map(str::to_owned),
    };
    Capability {
        codecs: vec![
            codec("opus", 48_000, 2, None, Some("useinbandfec=1")),
            codec("G722", 8_000, 1, Some(9), None),
            codec("PCMU", 8_000, 1, Some(0), None),
            codec("PCMA", 8_000, 1, Some(8), None),
        ],
        telephone_event: true,
        comfort_noise: true,
        ptime_ms: 20,
        rtcp_mux: true,
        audio_levels: true,
        preference: Preference::Ours,
    }
}
