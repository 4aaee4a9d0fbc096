//! Offer and answer by RFC 3264, on descriptions as peers send them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use sip::negotiate::{
    AudioLevels, Capability, CodecOffer, Descriptions, LocalMedia, MediaChoice, NegotiateError, Negotiated, Preference,
    Protecting, Protection, TelephoneEvent, accept_answer, answer, offer, reoffer, settle_version,
};
use sip::sdp::{Direction, Session};

fn codec(name: &str, clock_hz: u32, channels: u8, static_payload_type: Option<u8>, fmtp: Option<&str>) -> CodecOffer {
    CodecOffer { name: name.into(), clock_hz, channels, static_payload_type, fmtp: fmtp.map(Into::into) }
}

fn caps() -> Capability {
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

fn local() -> LocalMedia {
    LocalMedia {
        addr: "192.0.2.7".parse().unwrap(),
        port: 10_000,
        session_id: 77,
        version: 1,
        direction: Direction::SendRecv,
        protection: Protecting::default(),
    }
}

/// A description with this behind `v=`, `o=`, `s=`; `c=` and `t=` unless it brings its own.
fn sdp(media: &str) -> Session {
    let head = if media.contains("c=IN") { "" } else { "c=IN IP4 198.51.100.2\n" };
    let text = format!("v=0\no=- 5 6 IN IP4 198.51.100.2\ns=-\n{head}t=0 0\n{media}\n");
    Session::parse(text.replace('\n', "\r\n").as_bytes()).unwrap()
}

fn agreed(media: &str) -> Negotiated {
    answer(&local(), &caps(), &sdp(media)).unwrap()
}

fn refused(media: &str) -> NegotiateError {
    answer(&local(), &caps(), &sdp(media)).unwrap_err()
}

fn line(session: &Session, index: usize) -> String {
    let text = session.to_string();
    text.lines().filter(|l| l.starts_with("m=")).nth(index).unwrap().to_owned()
}

#[test]
fn the_first_codec_of_ours_that_they_offer_is_taken_with_its_companions() {
    let Negotiated { answer, media } =
        agreed("m=audio 4000 RTP/AVP 0 8 9 101 13\na=rtpmap:101 telephone-event/8000\na=fmtp:101 0-16\na=ptime:30");
    assert_eq!(
        answer.to_string(),
        "v=0\r\no=- 77 1 IN IP4 192.0.2.7\r\ns=-\r\nc=IN IP4 192.0.2.7\r\nt=0 0\r\nm=audio 10000 RTP/AVP 9 101 13\r\n\
         a=rtpmap:9 G722/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=rtpmap:13 CN/8000\r\na=ptime:20\r\n\
         a=sendrecv\r\n"
    );
    let expected = MediaChoice {
        codec_name: "G722".into(),
        clock_hz: 8_000,
        channels: 1,
        payload_type_send: 9,
        payload_type_recv: 9,
        fmtp_remote: None,
        telephone_event: Some(TelephoneEvent { payload_type_send: 101, payload_type_recv: 101, clock_hz: 8_000 }),
        comfort_noise: Some(13),
        ptime_ms: 30,
        remote: "198.51.100.2:4000".parse().unwrap(),
        remote_rtcp: "198.51.100.2:4001".parse().unwrap(),
        rtcp_mux: false,
        rtcp_xr: false,
        audio_levels: AudioLevels::default(),
        direction: Direction::SendRecv,
        media_index: 0,
        protection: Protection::None,
    };
    assert_eq!(media, expected);
}

const OWN: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";
const MIXED: &str = "urn:ietf:params:rtp-hdrext:csrc-audio-level";

/// Conforms: RFC 8285 §6 — of header extensions the known ones are answered, under the offer's ids and in directions that fit it.
/// Conforms: RFC 6464 §4 — the level of whoever speaks is told and heard where it is offered; whether it is a voice is not said (vad=off).
/// Conforms: RFC 6465 §4 — a mixer sends the levels of those who are mixed, and takes none.
#[test]
fn audio_levels_are_agreed_on_as_they_are_offered() {
    let asked = |extmap: &str| {
        let Negotiated { answer, media } = agreed(&format!("m=audio 4000 RTP/AVP 0\n{extmap}"));
        let said: Vec<String> =
            answer.to_string().lines().filter_map(|line| Some(line.strip_prefix("a=extmap:")?.to_owned())).collect();
        (media.audio_levels, said)
    };
    // As browsers offer it, with others that are nothing to us.
    let (levels, said) = asked(&format!(
        "a=extmap:14 urn:ietf:params:rtp-hdrext:toffset\na=extmap:1 {OWN}\na=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid"
    ));
    assert_eq!(levels, AudioLevels { send: Some(1), receive: Some(1), send_mixed: None });
    assert_eq!(said, [format!("1 {OWN} vad=off")]);
    for (extmap, levels, said) in [
        (format!("a=extmap:2/sendonly {OWN} vad=on"), (None, Some(2), None), format!("2/recvonly {OWN} vad=off")),
        (format!("a=extmap:2/recvonly {OWN}"), (Some(2), None, None), format!("2/sendonly {OWN} vad=off")),
        (format!("a=extmap:2/inactive {OWN}"), (None, None, None), String::new()),
        (format!("a=extmap:9 {MIXED}"), (None, None, Some(9)), format!("9/sendonly {MIXED}")),
        (format!("a=extmap:9/recvonly {MIXED}"), (None, None, Some(9)), format!("9/sendonly {MIXED}")),
        (format!("a=extmap:9/sendonly {MIXED}"), (None, None, None), String::new()),
        // What cannot be written with one byte, or is nobody's.
        (format!("a=extmap:15 {OWN}"), (None, None, None), String::new()),
        (format!("a=extmap:0 {OWN}"), (None, None, None), String::new()),
        (format!("a=extmap:4096 {OWN}"), (None, None, None), String::new()),
        (format!("a=extmap:3 {OWN}\na=extmap:3 {MIXED}"), (None, None, None), String::new()),
        (format!("a=extmap:3/upwards {OWN}"), (None, None, None), String::new()),
        (format!("a=extmap:3 urn:ietf:params:rtp-hdrext:encrypt {OWN}"), (None, None, None), String::new()),
    ] {
        let (send, receive, send_mixed) = levels;
        let expected = (AudioLevels { send, receive, send_mixed }, said);
        let (levels, lines) = asked(&extmap);
        assert_eq!((levels, lines.concat()), expected, "{extmap}");
    }
    let silent = Capability { audio_levels: false, ..caps() };
    let none = answer(&local(), &silent, &sdp(&format!("m=audio 4000 RTP/AVP 0\na=extmap:1 {OWN}"))).unwrap();
    assert_eq!(none.media.audio_levels, AudioLevels::default());
    assert!(!none.answer.to_string().contains("extmap"));
}

#[test]
fn audio_levels_stay_as_they_are_when_we_offer_within_the_call() {
    let Negotiated { answer: last, .. } =
        agreed(&format!("m=audio 4000 RTP/AVP 0\na=extmap:1 {OWN}\na=extmap:2/recvonly {MIXED}"));
    let next = reoffer(&local(), &caps(), &last, 0);
    let text = next.to_string();
    assert!(text.contains(&format!("a=extmap:1 {OWN} vad=off\r\na=extmap:2/sendonly {MIXED}\r\n")), "{text}");
    let answered = |extmap: &str| {
        let theirs = sdp(&format!("m=audio 4000 RTP/AVP 0\n{extmap}"));
        accept_answer(&local(), &next, &theirs, &caps()).unwrap().audio_levels
    };
    let both = format!("a=extmap:1 {OWN}\na=extmap:2/recvonly {MIXED}");
    assert_eq!(answered(&both), AudioLevels { send: Some(1), receive: Some(1), send_mixed: Some(2) });
    assert_eq!(answered(&format!("a=extmap:3 {OWN}")), AudioLevels::default(), "another id is none that we offered");
    assert_eq!(answered("a=ptime:20"), AudioLevels::default());
    // Who is called is offered none.
    assert!(!offer(&local(), &caps()).to_string().contains("extmap"));
}

#[test]
fn their_order_decides_where_the_configuration_says_so() {
    let caps = Capability { preference: Preference::Theirs, ..caps() };
    let media = answer(&local(), &caps, &sdp("m=audio 4000 RTP/AVP 18 8 0 9")).unwrap().media;
    assert_eq!(media.codec_name, "PCMA");
}

/// Conforms: RFC 3264 §6.1 — formats are matched by their rtpmap.
#[test]
fn dynamic_payload_types_are_matched_by_name_clock_and_channels() {
    let Negotiated { answer, media } = agreed(
        "m=audio 4000 RTP/AVP 0 96 97 98\na=rtpmap:96 OPUS/48000\na=rtpmap:97 opus/48000/2\na=fmtp:97 minptime=10;useinbandfec=1\n\
         a=rtpmap:98 telephone-event/48000",
    );
    assert_eq!((media.codec_name.as_str(), media.payload_type_send), ("opus", 97), "96 says one channel");
    assert_eq!(media.fmtp_remote.as_deref(), Some("minptime=10;useinbandfec=1"));
    assert_eq!(media.telephone_event.unwrap().clock_hz, 48_000);
    assert_eq!(media.comfort_noise, None);
    assert_eq!(line(&answer, 0), "m=audio 10000 RTP/AVP 97 98");
    assert!(answer.to_string().contains("a=fmtp:97 useinbandfec=1\r\n"));
    // A static number may be given another meaning.
    assert_eq!(refused("m=audio 4000 RTP/AVP 0\na=rtpmap:0 GSM/8000"), NegotiateError::NoCommonCodec);
}

/// Conforms: RFC 4733 §2.5.1.1 — telephone-event is agreed on at the codec's clock.
#[test]
fn events_at_the_codecs_clock_win_and_8_khz_serves_all_others() {
    let both = "m=audio 4000 RTP/AVP 111 101 102\na=rtpmap:111 opus/48000/2\na=rtpmap:101 telephone-event/8000\n\
                a=rtpmap:102 telephone-event/48000";
    assert_eq!(agreed(both).media.telephone_event.unwrap().payload_type_send, 102);
    let narrow = "m=audio 4000 RTP/AVP 111 101\na=rtpmap:111 opus/48000/2\na=rtpmap:101 telephone-event/8000";
    assert_eq!(agreed(narrow).media.telephone_event.unwrap().clock_hz, 8_000);
    assert_eq!(agreed("m=audio 4000 RTP/AVP 0").media.telephone_event, None);
}

/// Conforms: RFC 3264 §6 — every section is answered in its place, refused ones with port 0.
#[test]
fn one_audio_is_taken_and_every_other_section_refused_in_place() {
    let Negotiated { answer, media } = agreed(
        "m=video 5000 RTP/AVP 31\nm=audio 5002 RTP/SAVP 0\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:x\nm=audio 0 RTP/AVP 0\n\
         m=audio 5004 RTP/AVP 0\nm=audio 5006 RTP/AVP 0\nm=application 5008 TCP/MRCPv2 1",
    );
    assert_eq!((media.media_index, media.remote.port()), (3, 5004));
    let lines: Vec<_> = (0..6).map(|i| line(&answer, i)).collect();
    assert_eq!(
        lines,
        [
            "m=video 0 RTP/AVP 31",
            "m=audio 0 RTP/SAVP 0",
            "m=audio 0 RTP/AVP 0",
            "m=audio 10000 RTP/AVP 0",
            "m=audio 0 RTP/AVP 0",
            "m=application 0 TCP/MRCPv2 1"
        ]
    );
}

#[test]
fn each_reason_for_488_is_told_apart() {
    assert_eq!(refused("m=video 5000 RTP/AVP 31"), NegotiateError::NoAudio);
    assert_eq!(refused("m=audio 0 RTP/AVP 0"), NegotiateError::NoAudio);
    assert_eq!(refused("a=x"), NegotiateError::NoAudio);
    assert_eq!(refused("m=audio 4000 RTP/AVP 18 4"), NegotiateError::NoCommonCodec);
    assert_eq!(refused("m=audio 4000 RTP/SAVP 0"), NegotiateError::UnsupportedTransport("RTP/SAVP".into()));
    assert_eq!(
        refused("m=audio 9 UDP/TLS/RTP/SAVPF 111"),
        NegotiateError::UnsupportedTransport("UDP/TLS/RTP/SAVPF".into())
    );
    for address in ["pbx.example.com", "224.2.1.1/127", "255.255.255.255"] {
        assert_eq!(refused(&format!("m=audio 4000 RTP/AVP 0\nc=IN IP4 {address}")), NegotiateError::BadAddress);
    }
    let bare = Session::parse(b"v=0\r\nm=audio 4000 RTP/AVP 0\r\n").unwrap();
    assert_eq!(answer(&local(), &caps(), &bare).unwrap_err(), NegotiateError::BadAddress);
}

#[test]
fn plain_avpf_is_answered_as_avpf() {
    assert_eq!(line(&agreed("m=audio 4000 RTP/AVPF 0").answer, 0), "m=audio 10000 RTP/AVPF 0");
}

/// Conforms: RFC 3264 §6.1 — directions are mirrored.
#[test]
fn directions_are_mirrored_from_either_level_and_met_with_ours() {
    for (media, expected) in [
        ("m=audio 4000 RTP/AVP 0", Direction::SendRecv),
        ("m=audio 4000 RTP/AVP 0\na=sendonly", Direction::RecvOnly),
        ("a=sendonly\nm=audio 4000 RTP/AVP 0", Direction::RecvOnly),
        ("a=inactive\nm=audio 4000 RTP/AVP 0\na=recvonly", Direction::SendOnly),
        ("m=audio 4000 RTP/AVP 0\na=inactive", Direction::Inactive),
        ("c=IN IP4 0.0.0.0\nm=audio 4000 RTP/AVP 0", Direction::RecvOnly),
        ("c=IN IP4 0.0.0.0\nm=audio 4000 RTP/AVP 0\na=recvonly", Direction::Inactive),
    ] {
        let Negotiated { answer, media: choice } = agreed(media);
        assert_eq!(choice.direction, expected, "{media}");
        assert!(answer.to_string().contains(&format!("a={}\r\n", expected.as_str())));
    }
    let listening = LocalMedia { direction: Direction::RecvOnly, ..local() };
    assert_eq!(
        answer(&listening, &caps(), &sdp("m=audio 4000 RTP/AVP 0")).unwrap().media.direction,
        Direction::RecvOnly
    );
}

#[test]
fn addresses_come_from_either_level_and_family_and_rtcp_from_its_attributes() {
    let media = agreed("c=IN IP4 198.51.100.9\nm=audio 4000 RTP/AVP 0\nc=IN IP6 2001:db8::4\na=rtcp:4009").media;
    assert_eq!(media.remote, "[2001:db8::4]:4000".parse().unwrap());
    assert_eq!(media.remote_rtcp, "[2001:db8::4]:4009".parse().unwrap());
    let media = agreed("m=audio 4000 RTP/AVP 0\na=rtcp:53020 IN IP4 126.16.64.4").media;
    assert_eq!(media.remote_rtcp, "126.16.64.4:53020".parse().unwrap());
    let Negotiated { answer: muxed, media } = agreed("m=audio 4000 RTP/AVP 0\na=rtcp:4001\na=rtcp-mux");
    assert!(media.rtcp_mux && media.remote_rtcp == media.remote && muxed.to_string().contains("a=rtcp-mux\r\n"));
    let apart = Capability { rtcp_mux: false, ..caps() };
    let plain = answer(&local(), &apart, &sdp("m=audio 4000 RTP/AVP 0\na=rtcp-mux")).unwrap();
    assert!(!plain.media.rtcp_mux && !plain.answer.to_string().contains("rtcp-mux"));
    assert_eq!(agreed("m=audio 65535 RTP/AVP 0").media.remote_rtcp.port(), 65535);
}

#[test]
fn packets_hold_what_the_peer_asks_for_within_reason() {
    for (attributes, expected) in [
        ("", 20),
        ("\na=ptime:40", 40),
        ("\na=ptime:30\na=maxptime:20", 20),
        ("\na=maxptime:10", 10),
        ("\na=ptime:25", 20),
        ("\na=ptime:0", 20),
        ("\na=ptime:200", 20),
        ("\na=ptime:x\na=maxptime:5", 20),
    ] {
        assert_eq!(agreed(&format!("m=audio 4000 RTP/AVP 0{attributes}")).media.ptime_ms, expected, "{attributes}");
    }
}

#[test]
fn an_offer_names_all_we_have_best_first() {
    let text = offer(&local(), &caps()).to_string();
    assert!(text.contains("m=audio 10000 RTP/AVP 96 9 0 8 13 97 101\r\n"), "{text}");
    for attribute in [
        "rtpmap:96 opus/48000/2",
        "fmtp:96 useinbandfec=1",
        "rtpmap:9 G722/8000",
        "rtpmap:97 telephone-event/48000",
        "fmtp:97 0-15",
        "rtpmap:101 telephone-event/8000",
        "ptime:20",
        "sendrecv",
        "rtcp-mux",
        "rtcp-xr:voip-metrics",
    ] {
        assert!(text.contains(&format!("a={attribute}\r\n")), "{attribute}");
    }
}

#[test]
fn our_own_answer_to_our_own_offer_is_accepted_and_both_agree() {
    let offered = offer(&local(), &caps());
    let answered = answer(&LocalMedia { port: 20_000, ..local() }, &caps(), &offered).unwrap();
    let choice = accept_answer(&local(), &offered, &answered.answer, &caps()).unwrap();
    assert_eq!((choice.codec_name.as_str(), choice.remote.port(), choice.rtcp_mux), ("opus", 20_000, true));
    assert_eq!(choice.payload_type_send, answered.media.payload_type_recv);
    assert_eq!(choice.telephone_event, answered.media.telephone_event);
}

#[test]
fn an_answer_may_give_a_codec_another_number_than_we_did() {
    let offered = offer(&local(), &caps());
    let answered =
        sdp("m=audio 4000 RTP/AVP 111 110\na=rtpmap:111 opus/48000/2\na=rtpmap:110 telephone-event/48000\na=recvonly");
    let choice = accept_answer(&local(), &offered, &answered, &caps()).unwrap();
    assert_eq!((choice.payload_type_send, choice.payload_type_recv), (111, 96));
    let event = choice.telephone_event.unwrap();
    assert_eq!((event.payload_type_send, event.payload_type_recv), (110, 97));
    assert_eq!(choice.direction, Direction::SendOnly);
}

#[test]
fn answers_that_do_not_match_are_refused() {
    let offered = offer(&local(), &caps());
    let error = |media: &str| accept_answer(&local(), &offered, &sdp(media), &caps()).unwrap_err();
    assert_eq!(error("a=x"), NegotiateError::Mismatch);
    assert_eq!(error("m=audio 4000 RTP/AVP 0\nm=video 1 RTP/AVP 31"), NegotiateError::Mismatch);
    assert_eq!(error("m=video 4000 RTP/AVP 31"), NegotiateError::Mismatch);
    assert_eq!(error("m=audio 0 RTP/AVP 0"), NegotiateError::Refused);
    assert_eq!(error("m=audio 4000 RTP/AVP 18"), NegotiateError::NoCommonCodec);
    assert_eq!(error("m=audio 4000 RTP/SAVP 0"), NegotiateError::UnsupportedTransport("RTP/SAVP".into()));
    let small = Capability { codecs: caps().codecs.split_off(2), ..caps() };
    let narrow = offer(&local(), &small);
    assert_eq!(
        accept_answer(&local(), &narrow, &sdp("m=audio 4000 RTP/AVP 9"), &caps()).unwrap_err(),
        NegotiateError::NoCommonCodec
    );
}

/// Conforms: RFC 3264 §8 — a later offer keeps its sections and counts its version up.
#[test]
fn an_offer_within_a_call_keeps_the_sections_and_counts_its_version_up_when_it_changes() {
    let first = agreed("m=video 5000 RTP/AVP 31\nm=audio 4000 RTP/AVP 0");
    let held = LocalMedia { direction: Direction::SendOnly, ..local() };
    let mut next = reoffer(&held, &caps(), &first.answer, first.media.media_index);
    assert_eq!(next.media.len(), 2);
    assert_eq!(line(&next, 0), "m=video 0 RTP/AVP 31");
    assert!(line(&next, 1).starts_with("m=audio 10000 RTP/AVP 96"));
    settle_version(&first.answer, &mut next);
    assert_eq!(next.origin.version, 2);
    let mut same = next.clone();
    same.origin.version = 0;
    settle_version(&next, &mut same);
    assert_eq!(same.origin.version, 2);
}

/// Conforms: RFC 3264 §8.3.2 — a payload type stands for the same all through the session.
#[test]
fn an_offer_within_a_call_remaps_no_payload_type() {
    let maps = |session: &Session| -> Vec<String> {
        session.to_string().lines().filter_map(|line| line.strip_prefix("a=rtpmap:")).map(str::to_owned).collect()
    };
    let theirs = sdp("m=audio 4000 RTP/AVP 9 96 97 101\na=rtpmap:96 telephone-event/8000\na=rtpmap:97 speex/8000\n\
                      a=rtpmap:101 iLBC/8000");
    let first = answer(&local(), &caps(), &theirs).unwrap();
    assert_eq!(maps(&first.answer), ["9 G722/8000", "96 telephone-event/8000"]);
    let expected = |opus, events| {
        let codecs = [format!("{opus} opus/48000/2"), "9 G722/8000".into(), "0 PCMU/8000".into(), "8 PCMA/8000".into()];
        let events = [format!("{events} telephone-event/48000"), "96 telephone-event/8000".into()];
        [&codecs[..], &["13 CN/8000".into()], &events].concat()
    };
    assert_eq!(maps(&reoffer(&local(), &caps(), &first.answer, 0)), expected(97, 98));
    // With what the peer offered besides.
    let both = Descriptions { ours: &first.answer, theirs: Some(&theirs) };
    assert_eq!(maps(&reoffer(&local(), &caps(), both, 0)), expected(98, 99));

    // Its numbers are ours for what it has and we have not named yet; 101 is taken.
    let theirs = sdp("m=audio 4000 RTP/AVP 0 101\na=rtpmap:101 opus/48000/2");
    let last = offer(&local(), &Capability { codecs: caps().codecs.split_off(2), telephone_event: false, ..caps() });
    let both = Descriptions { ours: &last, theirs: Some(&theirs) };
    let next = maps(&reoffer(&local(), &caps(), both, 0));
    assert_eq!(next[0], "101 opus/48000/2");
    assert_eq!(next[5..], ["96 telephone-event/48000", "97 telephone-event/8000"]);
}

/// Conforms: RFC 3611 §5.1 — who asks for VoIP metrics gets them, and we ask for them.
#[test]
fn metrics_are_agreed_on_where_both_want_them() {
    let negotiated = agreed("m=audio 4000 RTP/AVP 0\na=rtcp-xr:rcvr-rtt=all:10000 voip-metrics");
    assert!(negotiated.media.rtcp_xr && negotiated.answer.to_string().contains("a=rtcp-xr:voip-metrics\r\n"));
    let negotiated = agreed("m=audio 4000 RTP/AVP 0\na=rtcp-xr:pkt-loss-rle");
    assert!(!negotiated.media.rtcp_xr && !negotiated.answer.to_string().contains("rtcp-xr"));
}
