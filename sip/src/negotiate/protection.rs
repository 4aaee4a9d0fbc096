//! What protects a stream: keys in the description (SDES, RFC 4568), or a handshake that it announces (DTLS-SRTP, RFC 5763), with
//! the path found by ICE (RFC 8839) where both want that.
//!
//! An offer of plain RTP may say that it could be protected (opportunistic SRTP, RFC 8643); it is taken up unless we are not
//! to. Where protection is required, a description without it is refused on either side.

use super::{Capability, LocalMedia, NegotiateError};
use crate::sdp::{Attributes, Media, Session};

/// Whether sound is to be protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// It is not.
    #[default]
    Off,
    /// Where the peer can.
    Preferred,
    /// Or there is no call.
    Required,
}

/// How our offers are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OfferAs {
    /// RTP, and nothing else.
    #[default]
    Plain,
    /// RTP that could be protected by keys in the description (RFC 8643).
    Opportunistic,
    /// SRTP with keys in the description.
    Sdes,
    /// SRTP with a handshake.
    Dtls,
    /// The same as browsers want it: with ICE, and feedback (RFC 8829).
    Browser,
}

/// One of our keys, or of the peer's.
#[derive(Clone, PartialEq, Eq)]
pub struct SdesKey {
    /// The crypto suite's name.
    pub suite: String,
    /// Key and salt in base64, as behind `inline:`. A secret.
    pub inline: String,
}

impl std::fmt::Debug for SdesKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SdesKey").field("suite", &self.suite).finish_non_exhaustive()
    }
}

/// Our part of a handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalDtls {
    /// The value of `a=fingerprint`.
    pub fingerprint: String,
    /// The part that we have in the handshake, once that is settled: a later offer or answer does not change it (RFC 8842
    /// section 5.1).
    pub is_client: Option<bool>,
}

/// Our part of finding a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalIce {
    /// `a=ice-ufrag`.
    pub ufrag: String,
    /// `a=ice-pwd`.
    pub pwd: String,
    /// The values of `a=candidate`.
    pub candidates: Vec<String>,
    /// `a=ice-lite`.
    pub is_lite: bool,
}

/// What our end can protect with, and is to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Protecting {
    /// Whether it is to.
    pub policy: Policy,
    /// How our offers are made.
    pub offer_as: OfferAs,
    /// A key of ours for each crypto suite, the best suite first.
    pub sdes: Vec<SdesKey>,
    /// Our part of a handshake.
    pub dtls: Option<LocalDtls>,
    /// Our part of finding a path.
    pub ice: Option<LocalIce>,
}

/// What protects the stream, as both sides agreed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Protection {
    /// Nothing does.
    #[default]
    None,
    /// Keys in the descriptions.
    Sdes {
        /// Of the offer's line, and so of the answer's.
        tag: u32,
        /// What we protect with.
        send: SdesKey,
        /// What the peer protects with.
        receive: SdesKey,
    },
    /// A handshake.
    Dtls {
        /// What the peer's certificate has to be: the value of `a=fingerprint`.
        fingerprint: String,
        /// We begin it.
        is_client: bool,
        /// The peer's part of finding a path, where it is found by ICE.
        ice: Option<RemoteIce>,
    },
}

/// The peer's part of finding a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteIce {
    /// `a=ice-ufrag`.
    pub ufrag: String,
    /// `a=ice-pwd`.
    pub pwd: String,
    /// The values of `a=candidate`.
    pub candidates: Vec<String>,
    /// It answers checks and sends none.
    pub is_lite: bool,
    /// We choose the path: as the offerer, or where the peer is lite (RFC 8445 section 6.1.1).
    pub is_controlling: bool,
}

/// The transport that an `m=` line names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Profile {
    is_dtls: bool,
    is_secure: bool,
}

impl Profile {
    fn of(protocol: &str) -> Option<Profile> {
        let (is_dtls, is_secure) = match protocol.to_ascii_uppercase().as_str() {
            "RTP/AVP" | "RTP/AVPF" => (false, false),
            "RTP/SAVP" | "RTP/SAVPF" => (false, true),
            "UDP/TLS/RTP/SAVP" | "UDP/TLS/RTP/SAVPF" => (true, true),
            _ => return None,
        };
        Some(Profile { is_dtls, is_secure })
    }
}

/// The attribute of the section, or else of the session.
fn attribute<'a>(session: &'a Session, media: &'a Media, name: &str) -> Option<&'a str> {
    media.attributes.get(name).or_else(|| session.attributes.get(name))
}

/// What the peer's ICE is like, where it takes part.
///
/// `is_controlling` is for the side that has not said it: whether we are.
pub(super) fn remote_ice(session: &Session, media: &Media, we_offered: bool) -> Option<RemoteIce> {
    let is_lite = session.attributes.has("ice-lite");
    Some(RemoteIce {
        ufrag: attribute(session, media, "ice-ufrag").filter(|ufrag| !ufrag.is_empty())?.to_owned(),
        pwd: attribute(session, media, "ice-pwd").filter(|pwd| !pwd.is_empty())?.to_owned(),
        candidates: media.attributes.all("candidate").map(str::to_owned).collect(),
        is_lite,
        is_controlling: we_offered || is_lite,
    })
}

/// One line of `a=crypto` (RFC 4568 section 9.1) that we could use.
struct CryptoLine<'a> {
    tag: u32,
    suite: &'a str,
    inline: &'a str,
}

fn crypto_lines(media: &Media) -> impl Iterator<Item = CryptoLine<'_>> {
    media.attributes.all("crypto").filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let (tag, suite, keys) = (words.next()?.parse().ok()?, words.next()?, words.next()?);
        // Parameters change what is protected, and how; a line with one that we do not know is not for us (section 6.3).
        if words.any(|word| !word.to_ascii_uppercase().starts_with("WSH=")) {
            return None;
        }
        let key = keys.split(';').next()?;
        let mut parts = key.get(..7).filter(|p| p.eq_ignore_ascii_case("inline:")).and(key.get(7..))?.split('|');
        let inline = parts.next()?;
        // A lifetime is more packets than a call has; a master key identifier would be in each packet.
        if parts.any(|part| part.contains(':')) {
            return None;
        }
        Some(CryptoLine { tag, suite, inline })
    })
}

/// The first of our suites that the peer has a key for, in our order.
fn sdes(local: &Protecting, media: &Media) -> Option<Protection> {
    local.sdes.iter().find_map(|ours| {
        let theirs = crypto_lines(media).find(|line| is_key_for(line, ours))?;
        Some(agree(ours, &theirs))
    })
}

fn is_key_for(line: &CryptoLine<'_>, ours: &SdesKey) -> bool {
    let length = |text: &str| text.trim_end_matches('=').len();
    line.suite.eq_ignore_ascii_case(&ours.suite) && length(line.inline) == length(&ours.inline)
}

fn agree(ours: &SdesKey, theirs: &CryptoLine<'_>) -> Protection {
    let receive = SdesKey { suite: ours.suite.clone(), inline: theirs.inline.to_owned() };
    Protection::Sdes { tag: theirs.tag, send: ours.clone(), receive }
}

/// The handshake that a section announces, seen from the other side.
fn dtls(local: &LocalMedia, session: &Session, media: &Media, we_offered: bool) -> Option<Protection> {
    let ours = local.protection.dtls.as_ref()?;
    let fingerprint = attribute(session, media, "fingerprint")?.to_owned();
    let is_muxed = media.attributes.has("rtcp-mux");
    let ice = remote_ice(session, media, we_offered).filter(|_| local.protection.ice.is_some() && is_muxed);
    let is_client = match attribute(session, media, "setup")?.to_ascii_lowercase().as_str() {
        "active" => false,
        "passive" => true,
        // Whoever answers an `actpass` chooses. Beginning saves a round trip (RFC 5763 section 5); without ICE, we could not reach
        // a peer behind NAT, and it can reach us.
        "actpass" if !we_offered => ours.is_client.unwrap_or(ice.is_some()),
        _ => return None,
    };
    Some(Protection::Dtls { fingerprint, is_client, ice })
}

/// What protects an audio section of the peer's offer: whether it can be answered, and how.
pub(super) fn of_offer(local: &LocalMedia, session: &Session, media: &Media) -> Result<Protection, NegotiateError> {
    let profile =
        Profile::of(&media.protocol).ok_or_else(|| NegotiateError::UnsupportedTransport(media.protocol.clone()))?;
    let policy = local.protection.policy;
    if policy != Policy::Off {
        let by_handshake = || dtls(local, session, media, false);
        let by_key = || if profile.is_dtls { None } else { sdes(&local.protection, media) };
        if let Some(protection) = by_handshake().or_else(by_key) {
            return Ok(protection);
        }
    }
    match (profile.is_secure, policy) {
        (true, Policy::Off) => Err(NegotiateError::UnsupportedTransport(media.protocol.clone())),
        (true, _) => Err(NegotiateError::NoCommonSuite),
        (false, Policy::Required) => Err(NegotiateError::NotProtected),
        (false, _) => Ok(Protection::None),
    }
}

/// What protects the stream after the peer's answer to an offer of ours.
pub(super) fn of_answer(
    local: &LocalMedia,
    session: &Session,
    ours: &Media,
    theirs: &Media,
) -> Result<Protection, NegotiateError> {
    let unsupported = || NegotiateError::UnsupportedTransport(theirs.protocol.clone());
    let (offered, profile) = (Profile::of(&ours.protocol), Profile::of(&theirs.protocol).ok_or_else(unsupported)?);
    let is_secure = offered.is_some_and(|offered| offered.is_secure);
    if profile.is_secure && !is_secure {
        return Err(unsupported());
    }
    if ours.attributes.has("fingerprint")
        && let Some(protection) = dtls(local, session, theirs, true)
    {
        return Ok(protection);
    }
    if ours.attributes.has("crypto") {
        let answered = crypto_lines(theirs).find_map(|line| {
            let tag = crypto_lines(ours).find(|ours| ours.tag == line.tag)?;
            let key = local.protection.sdes.iter().find(|key| key.inline == tag.inline)?;
            is_key_for(&line, key).then(|| agree(key, &line))
        });
        if let Some(protection) = answered {
            return Ok(protection);
        }
    }
    match (is_secure, local.protection.policy) {
        (true, _) | (false, Policy::Required) => Err(NegotiateError::NotProtected),
        (false, _) => Ok(Protection::None),
    }
}

/// What our answer says of it.
pub(super) fn describe_answer(media: &mut Media, local: &LocalMedia, offered: &Media, protection: &Protection) {
    match protection {
        Protection::None => {}
        Protection::Sdes { tag, send, .. } => put_crypto(&mut media.attributes, *tag, send),
        Protection::Dtls { is_client, ice, .. } => {
            put_fingerprint(media, local, if *is_client { "active" } else { "passive" });
            if ice.is_some() {
                put_ice(media, local);
                put_stream(media);
            }
        }
    }
    if let Some(mid) = offered.attributes.get("mid") {
        media.attributes.push("mid", mid);
    }
}

/// What the session says of it: which sections share a path, and whether we are lite.
pub(super) fn describe_session(answer: &mut Session, local: &LocalMedia, offer: &Session, media_index: usize) {
    if answer.media.get(media_index).is_some_and(|media| media.attributes.has("ice-ufrag")) {
        put_lite(&mut answer.attributes, local);
    }
    let mid = offer.media.get(media_index).and_then(|media| media.attributes.get("mid"));
    let bundle = offer.attributes.all("group").find(|group| group.split(' ').next() == Some("BUNDLE"));
    if let (Some(mid), Some(bundle)) = (mid, bundle)
        && bundle.split(' ').any(|member| member == mid)
    {
        answer.attributes.push("group", format!("BUNDLE {mid}"));
    }
}

/// What our offer says: its protocol, and behind it the attributes.
pub(super) fn protocol_of_offer(local: &LocalMedia) -> &'static str {
    match local.protection.offer_as {
        OfferAs::Plain | OfferAs::Opportunistic => "RTP/AVP",
        OfferAs::Sdes => "RTP/SAVP",
        OfferAs::Dtls => "UDP/TLS/RTP/SAVP",
        OfferAs::Browser => "UDP/TLS/RTP/SAVPF",
    }
}

/// The name of the one section that our offers to browsers have.
const MID: &str = "0";

pub(super) fn describe_offer(media: &mut Media, local: &LocalMedia, caps: &Capability) {
    let protecting = &local.protection;
    match protecting.offer_as {
        OfferAs::Plain => {}
        OfferAs::Opportunistic | OfferAs::Sdes => {
            for (tag, key) in (1..).zip(&protecting.sdes) {
                put_crypto(&mut media.attributes, tag, key);
            }
        }
        OfferAs::Dtls | OfferAs::Browser => {
            let settled = protecting.dtls.as_ref().and_then(|dtls| dtls.is_client);
            let setup = match settled {
                Some(true) => "active",
                Some(false) => "passive",
                None => "actpass",
            };
            put_fingerprint(media, local, setup);
        }
    }
    if protecting.offer_as == OfferAs::Browser {
        if !caps.rtcp_mux {
            media.attributes.flag("rtcp-mux");
        }
        put_ice(media, local);
        put_stream(media);
        media.attributes.push("mid", MID);
    }
}

pub(super) fn describe_offer_session(session: &mut Session, local: &LocalMedia) {
    if local.protection.offer_as == OfferAs::Browser {
        session.attributes.push("group", format!("BUNDLE {MID}"));
        put_lite(&mut session.attributes, local);
    }
}

fn put_crypto(attributes: &mut Attributes, tag: u32, key: &SdesKey) {
    attributes.push("crypto", format!("{tag} {} inline:{}", key.suite, key.inline));
}

fn put_fingerprint(media: &mut Media, local: &LocalMedia, setup: &str) {
    if let Some(dtls) = &local.protection.dtls {
        media.attributes.push("fingerprint", dtls.fingerprint.as_str());
        media.attributes.push("setup", setup);
    }
}

fn put_ice(media: &mut Media, local: &LocalMedia) {
    if let Some(ice) = &local.protection.ice {
        media.attributes.push("ice-ufrag", ice.ufrag.as_str());
        media.attributes.push("ice-pwd", ice.pwd.as_str());
        for candidate in &ice.candidates {
            media.attributes.push("candidate", candidate.as_str());
        }
        media.attributes.flag("end-of-candidates");
    }
}

/// Browsers put what comes into a stream of this name (RFC 8830).
fn put_stream(media: &mut Media) {
    media.attributes.push("msid", "omnivox audio");
}

fn put_lite(attributes: &mut Attributes, local: &LocalMedia) {
    if local.protection.ice.as_ref().is_some_and(|ice| ice.is_lite) {
        attributes.flag("ice-lite");
    }
}
