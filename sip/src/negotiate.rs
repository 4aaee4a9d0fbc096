//! Offer and answer (RFC 3264) for one audio stream: the peer's first usable audio is taken, everything else in its offer is
//! refused in place with port 0.
//!
//! An answer names one codec only, so that nobody changes it in the middle of a call, and besides it telephone-event and
//! comfort noise. Every error here is a 488.

mod extensions;
mod formats;
mod make;
mod protection;

use std::net::{IpAddr, SocketAddr};

use thiserror::Error;

use crate::sdp::{Direction, Media, Session};
pub use extensions::AudioLevels;
pub use formats::Format;
use formats::{Found, find_codec, find_comfort_noise, find_telephone_event};
use make::Numbers;
pub use protection::{LocalDtls, LocalIce, OfferAs, Policy, Protecting, Protection, RemoteIce, SdesKey};

/// A codec that can be offered or accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodecOffer {
    /// As in `a=rtpmap`, any case: `PCMU`, `G722`, `opus`.
    pub name: String,
    /// The RTP clock: 8000 for G722.
    pub clock_hz: u32,
    /// As in `a=rtpmap`: 2 for Opus, whatever is encoded.
    pub channels: u8,
    /// The payload type that RFC 3551 gives it. Others are counted from 96.
    pub static_payload_type: Option<u8>,
    /// `a=fmtp` that describes us as a receiver.
    pub fmtp: Option<String>,
}

/// Whose order decides among the codecs that both have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Preference {
    /// The order of [`Capability::codecs`].
    #[default]
    Ours,
    /// The order of the peer's offer.
    Theirs,
}

/// What this side can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capability {
    /// Best first.
    pub codecs: Vec<CodecOffer>,
    /// DTMF by RFC 4733.
    pub telephone_event: bool,
    /// Comfort noise by RFC 3389, with codecs of an 8 kHz clock.
    pub comfort_noise: bool,
    /// What we ask for, and send where the peer asks for nothing.
    pub ptime_ms: u8,
    /// Whether RTCP may share the RTP port (RFC 5761).
    pub rtcp_mux: bool,
    /// Audio levels in header extensions (RFC 6464, RFC 6465), for those who offer them.
    pub audio_levels: bool,
    /// Whose order decides.
    pub preference: Preference,
}

/// Our end of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalMedia {
    /// Where we receive.
    pub addr: IpAddr,
    /// RTP port; RTCP is the next one.
    pub port: u16,
    /// Stays the same for the whole call.
    pub session_id: u64,
    /// Counts up with each description that differs from the last ([`settle_version`]).
    pub version: u64,
    /// What we want.
    pub direction: Direction,
    /// How it may be protected.
    pub protection: Protecting,
}

/// Why there is no common ground. All of them are answered with 488.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NegotiateError {
    /// No `m=audio` with a port.
    #[error("no audio offered")]
    NoAudio,
    /// Audio over something else than RTP, or over SRTP where that is switched off.
    #[error("audio transport {0} not supported")]
    UnsupportedTransport(String),
    /// No codec that both have.
    #[error("no codec in common")]
    NoCommonCodec,
    /// SRTP without a key of a crypto suite that both have, or a fingerprint.
    #[error("SRTP without a crypto suite in common, or a fingerprint and its setup")]
    NoCommonSuite,
    /// The peer would have sound in the clear, where it is to be protected.
    #[error("the sound would not be protected (SRTP), and that is required here")]
    NotProtected,
    /// No `c=`, a name instead of an address, or an address nobody may send to.
    #[error("no usable media address")]
    BadAddress,
    /// The answer has other media sections than the offer.
    #[error("answer does not match the offer's media sections")]
    Mismatch,
    /// The answer refuses the audio.
    #[error("audio refused")]
    Refused,
}

/// What both sides agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaChoice {
    /// As our [`CodecOffer`] names it.
    pub codec_name: String,
    /// The RTP clock.
    pub clock_hz: u32,
    /// As in `a=rtpmap`.
    pub channels: u8,
    /// Goes into the packets we send.
    pub payload_type_send: u8,
    /// Is in the packets we receive.
    pub payload_type_recv: u8,
    /// What the peer's `a=fmtp` says of the codec.
    pub fmtp_remote: Option<String>,
    /// DTMF.
    pub telephone_event: Option<TelephoneEvent>,
    /// Comfort noise: the payload type, the same both ways.
    pub comfort_noise: Option<u8>,
    /// How much audio a packet of ours holds.
    pub ptime_ms: u8,
    /// Where RTP goes. Unspecified address: nowhere (old-style hold).
    pub remote: SocketAddr,
    /// Where RTCP goes.
    pub remote_rtcp: SocketAddr,
    /// RTCP shares the RTP port.
    pub rtcp_mux: bool,
    /// The peer wants VoIP metrics in RTCP (RFC 3611 section 5).
    pub rtcp_xr: bool,
    /// What packets tell of the sound's level.
    pub audio_levels: AudioLevels,
    /// What we do.
    pub direction: Direction,
    /// Which `m=` section it is, from 0.
    pub media_index: usize,
    /// What protects it.
    pub protection: Protection,
}

/// DTMF as agreed (RFC 4733).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TelephoneEvent {
    /// Goes into the packets we send.
    pub payload_type_send: u8,
    /// Is in the packets we receive.
    pub payload_type_recv: u8,
    /// What durations are counted in.
    pub clock_hz: u32,
}

/// An answer and what it means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Negotiated {
    /// To send.
    pub answer: Session,
    /// To act on.
    pub media: MediaChoice,
}

/// Answers an offer.
///
/// # Errors
/// [`NegotiateError`], each a 488.
pub fn answer(local: &LocalMedia, caps: &Capability, offer: &Session) -> Result<Negotiated, NegotiateError> {
    let (media_index, media, found, protection) = first_usable(local, offer, caps)?;
    let remote = remote_ends(offer, media)?;
    let rtcp_mux = caps.rtcp_mux && media.attributes.has("rtcp-mux");
    let telephone_event = caps.telephone_event.then(|| find_telephone_event(media, found.codec.clock_hz)).flatten();
    let comfort_noise =
        (caps.comfort_noise && found.codec.clock_hz == 8_000).then(|| find_comfort_noise(media)).flatten();
    let choice = MediaChoice {
        codec_name: found.codec.name.clone(),
        clock_hz: found.codec.clock_hz,
        channels: found.codec.channels,
        payload_type_send: found.payload_type,
        payload_type_recv: found.payload_type,
        fmtp_remote: found.fmtp.map(str::to_owned),
        telephone_event: telephone_event.as_ref().map(|e| TelephoneEvent {
            payload_type_send: e.payload_type,
            payload_type_recv: e.payload_type,
            clock_hz: e.clock_hz,
        }),
        comfort_noise,
        ptime_ms: send_ptime(media, caps),
        remote: remote.rtp,
        remote_rtcp: if rtcp_mux { remote.rtp } else { remote.rtcp },
        rtcp_mux,
        rtcp_xr: wants_metrics(offer, media),
        audio_levels: if caps.audio_levels { extensions::of_offer(offer, media) } else { AudioLevels::default() },
        direction: local.direction.and(remote_direction(offer, media, &protection).mirrored()),
        media_index,
        protection,
    };
    let mut answer = make::envelope(local);
    answer.time.clone_from(&offer.time);
    for (index, offered) in offer.media.iter().enumerate() {
        answer.media.push(if index == media_index {
            make::answered(local, caps, offered, &found, &choice)
        } else {
            make::refused(offered)
        });
    }
    protection::describe_session(&mut answer, local, offer, media_index);
    Ok(Negotiated { answer, media: choice })
}

/// Makes a first offer: all codecs, best first.
#[must_use]
pub fn offer(local: &LocalMedia, caps: &Capability) -> Session {
    let mut session = make::envelope(local);
    session.media.push(make::offered(local, caps, Numbers::of(&[])));
    protection::describe_offer_session(&mut session, local);
    session
}

/// The last descriptions of both sides, for an offer within the call.
#[derive(Debug, Clone, Copy)]
pub struct Descriptions<'a> {
    /// Ours.
    pub ours: &'a Session,
    /// The peer's, where it is kept.
    pub theirs: Option<&'a Session>,
}

impl<'a> From<&'a Session> for Descriptions<'a> {
    fn from(ours: &'a Session) -> Self {
        Self { ours, theirs: None }
    }
}

/// Makes an offer within a call: as many media sections as the last description of ours had, audio where it was, the
/// others refused (RFC 3264 section 8), payload types as they were (section 8.3.2).
#[must_use]
pub fn reoffer<'a>(
    local: &LocalMedia,
    caps: &Capability,
    last: impl Into<Descriptions<'a>>,
    media_index: usize,
) -> Session {
    let last = last.into();
    let described = [Some(last.ours), last.theirs].into_iter().flatten();
    let sections: Vec<&Media> = described.filter_map(|session| session.media.get(media_index)).collect();
    let mut session = make::envelope(local);
    for (index, media) in last.ours.media.iter().enumerate() {
        session.media.push(if index == media_index {
            let mut next = make::offered(local, caps, Numbers::of(&sections));
            // What was agreed on stays, under its ids.
            extensions::describe(&mut next.attributes, &extensions::of_ours(last.ours, media));
            next
        } else {
            make::refused(media)
        });
    }
    if session.media.is_empty() {
        session.media.push(make::offered(local, caps, Numbers::of(&sections)));
    }
    protection::describe_offer_session(&mut session, local);
    session
}

/// Takes the answer to an offer of ours.
///
/// # Errors
/// [`NegotiateError`] where it does not match the offer or cannot be served.
pub fn accept_answer(
    local: &LocalMedia,
    offer: &Session,
    answer: &Session,
    caps: &Capability,
) -> Result<MediaChoice, NegotiateError> {
    if offer.media.len() != answer.media.len() {
        return Err(NegotiateError::Mismatch);
    }
    let (media_index, ours, theirs) = offer
        .media
        .iter()
        .zip(&answer.media)
        .enumerate()
        .find(|(_, (ours, _))| ours.kind == "audio" && ours.port != 0)
        .map(|(index, (ours, theirs))| (index, ours, theirs))
        .ok_or(NegotiateError::NoAudio)?;
    if theirs.kind != ours.kind {
        return Err(NegotiateError::Mismatch);
    }
    if theirs.port == 0 {
        return Err(NegotiateError::Refused);
    }
    let protection = protection::of_answer(local, answer, ours, theirs)?;
    // Whatever order they answer in is their preference among what we offered (section 6.1).
    let found = find_codec(theirs, caps, Preference::Theirs).ok_or(NegotiateError::NoCommonCodec)?;
    let payload_type_recv = formats::payload_type_of(ours, found.codec).ok_or(NegotiateError::NoCommonCodec)?;
    let remote = remote_ends(answer, theirs)?;
    let rtcp_mux = ours.attributes.has("rtcp-mux") && theirs.attributes.has("rtcp-mux");
    let telephone_event = find_telephone_event(theirs, found.codec.clock_hz).and_then(|e| {
        let payload_type_recv = formats::telephone_event_of(ours, e.clock_hz)?;
        Some(TelephoneEvent { payload_type_send: e.payload_type, payload_type_recv, clock_hz: e.clock_hz })
    });
    let comfort_noise = (found.codec.clock_hz == 8_000)
        .then(|| find_comfort_noise(theirs).filter(|_| find_comfort_noise(ours).is_some()))
        .flatten();
    Ok(MediaChoice {
        codec_name: found.codec.name.clone(),
        clock_hz: found.codec.clock_hz,
        channels: found.codec.channels,
        payload_type_send: found.payload_type,
        payload_type_recv,
        fmtp_remote: found.fmtp.map(str::to_owned),
        telephone_event,
        comfort_noise,
        ptime_ms: send_ptime(theirs, caps),
        remote: remote.rtp,
        remote_rtcp: if rtcp_mux { remote.rtp } else { remote.rtcp },
        rtcp_mux,
        rtcp_xr: wants_metrics(answer, theirs),
        audio_levels: extensions::of_answer(offer, ours, answer, theirs),
        direction: offer.direction_of(ours).and(remote_direction(answer, theirs, &protection).mirrored()),
        media_index,
        protection,
    })
}

/// Sets the version of a new description of ours: the last one's where nothing else changed, otherwise one more (RFC 3264
/// section 8).
pub fn settle_version(last: &Session, next: &mut Session) {
    next.origin.version = last.origin.version;
    if next != last {
        next.origin.version = last.origin.version.wrapping_add(1);
    }
}

/// The first audio that can be served, protected before plain. Otherwise the error that says most: what was wrong with the audio that came
/// closest.
fn first_usable<'a>(
    local: &LocalMedia,
    offer: &'a Session,
    caps: &'a Capability,
) -> Result<(usize, &'a Media, Found<'a>, Protection), NegotiateError> {
    let (mut error, mut plain) = (NegotiateError::NoAudio, None);
    for (index, media) in offer.media.iter().enumerate().filter(|(_, m)| m.kind == "audio" && m.port != 0) {
        let protection = match protection::of_offer(local, offer, media) {
            Ok(protection) => protection,
            Err(why) => {
                if error == NegotiateError::NoAudio {
                    error = why;
                }
                continue;
            }
        };
        match find_codec(media, caps, caps.preference) {
            Some(found) if protection == Protection::None => {
                plain = plain.or(Some((index, media, found, protection)));
            }
            Some(found) => return Ok((index, media, found, protection)),
            None => error = NegotiateError::NoCommonCodec,
        }
    }
    plain.ok_or(error)
}

/// Whether the peer asks for VoIP metrics (`a=rtcp-xr`, RFC 3611 section 5.1).
fn wants_metrics(session: &Session, media: &Media) -> bool {
    let formats = media.attributes.get("rtcp-xr").or_else(|| session.attributes.get("rtcp-xr"));
    formats.is_some_and(|formats| formats.split(' ').any(|format| format.eq_ignore_ascii_case("voip-metrics")))
}

/// Where a media section wants its packets.
struct RemoteEnds {
    rtp: SocketAddr,
    rtcp: SocketAddr,
}

fn remote_ends(session: &Session, media: &Media) -> Result<RemoteEnds, NegotiateError> {
    let ip = session.connection_of(media).and_then(|c| c.ip()).ok_or(NegotiateError::BadAddress)?;
    let may_send_to = |ip: &IpAddr| !ip.is_multicast() && !matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    if !may_send_to(&ip) {
        return Err(NegotiateError::BadAddress);
    }
    // RFC 3605: `a=rtcp:port [IN IP4 address]`, otherwise the next port.
    let named = media.attributes.get("rtcp").and_then(|value| {
        let mut words = value.split_ascii_whitespace();
        let port: u16 = words.next()?.parse().ok().filter(|p| *p != 0)?;
        let named_ip = words.nth(2).and_then(|a| a.parse().ok()).filter(may_send_to);
        Some(SocketAddr::new(named_ip.unwrap_or(ip), port))
    });
    let next = SocketAddr::new(ip, media.port.checked_add(1).unwrap_or(media.port));
    Ok(RemoteEnds { rtp: SocketAddr::new(ip, media.port), rtcp: named.unwrap_or(next) })
}

/// The peer's direction. `c=0.0.0.0` is hold from before RFC 3264: it receives nothing (section 8.4). With ICE it says that the address
/// is yet to be found (RFC 8838 section 8.1).
fn remote_direction(session: &Session, media: &Media, protection: &Protection) -> Direction {
    let said = session.direction_of(media);
    if matches!(protection, Protection::Dtls { ice: Some(_), .. }) {
        return said;
    }
    match session.connection_of(media).and_then(|c| c.ip()) {
        Some(ip) if ip.is_unspecified() => said.and(Direction::SendOnly),
        _ => said,
    }
}

/// What our packets hold: what the peer asks for where that is a whole number of 10 ms up to 60, never more than its
/// `maxptime`, otherwise our own.
fn send_ptime(media: &Media, caps: &Capability) -> u8 {
    let number = |name| media.attributes.get(name).and_then(|v| v.trim().parse::<u8>().ok());
    let max = number("maxptime").filter(|m| *m >= 10).unwrap_or(u8::MAX);
    let wanted = number("ptime").filter(|p| (10..=60).contains(p) && p % 10 == 0).unwrap_or(caps.ptime_ms);
    if wanted <= max { wanted } else { (max / 10 * 10).min(60) }
}
