//! Header extensions of RTP (`a=extmap`, RFC 8285): audio levels, from whoever speaks (RFC 6464) and from the mixer (RFC 6465).
//!
//! Only what is offered is answered, under the offer's ids. Ids beyond 14 are for headers of two bytes, which nobody of ours writes.

use crate::sdp::{Attributes, Direction, Media, Session};

/// The level of a packet's own sound.
const OWN: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";
/// Those of the sources that are mixed in it.
const MIXED: &str = "urn:ietf:params:rtp-hdrext:csrc-audio-level";
/// Ids of elements with one-byte headers (RFC 8285 section 4.2).
const IDS: std::ops::RangeInclusive<u8> = 1..=14;
/// What is mapped beyond so many lines is passed over.
const MAX_EXTENSIONS: usize = 64;

/// Audio levels as agreed: ids of header extensions, the same both ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AudioLevels {
    /// Our packets tell the level of their sound.
    pub send: Option<u8>,
    /// The peer's may.
    pub receive: Option<u8>,
    /// Our packets tell the levels of the sources that are mixed in them.
    pub send_mixed: Option<u8>,
}

/// One `a=extmap`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Extension<'a> {
    id: u8,
    /// Whoever describes it sends, or takes it.
    direction: Direction,
    uri: &'a str,
}

impl<'a> Extension<'a> {
    /// Reads the value: `<id>[/<direction>] <URI> [<attributes>]` (section 5).
    fn parse(value: &'a str) -> Option<Extension<'a>> {
        let mut words = value.split_ascii_whitespace();
        let mapped = words.next()?;
        let (id, direction) = match mapped.split_once('/') {
            Some((id, direction)) => (id, Direction::parse(direction)?),
            None => (mapped, Direction::SendRecv),
        };
        let id = id.parse().ok().filter(|id| IDS.contains(id))?;
        Some(Extension { id, direction, uri: words.next()? })
    }
}

/// What a description maps for a section of it: in the section, or for the whole session. An id that is there twice is nobody's.
fn mapped<'a>(session: &'a Session, media: &'a Media) -> impl Iterator<Item = Extension<'a>> {
    let lines = || media.attributes.all("extmap").chain(session.attributes.all("extmap")).take(MAX_EXTENSIONS);
    let all = move || lines().filter_map(Extension::parse);
    all().filter(move |one| all().filter(|other| other.id == one.id).count() == 1)
}

/// What we do of what is offered.
pub(super) fn of_offer(offer: &Session, media: &Media) -> AudioLevels {
    let mut levels = AudioLevels::default();
    for Extension { id, direction, uri } in mapped(offer, media) {
        let ours = direction.mirrored();
        match uri {
            OWN if levels.send.or(levels.receive).is_none() => {
                levels.send = ours.sends().then_some(id);
                levels.receive = ours.receives().then_some(id);
            }
            // A mixer is what we are: of others' we make nothing.
            MIXED if levels.send_mixed.is_none() => levels.send_mixed = ours.sends().then_some(id),
            _ => {}
        }
    }
    levels
}

/// What stays of what we said, once the peer has answered: what it names under the same id.
pub(super) fn of_answer(offer: &Session, ours: &Media, answer: &Session, theirs: &Media) -> AudioLevels {
    let said = of_ours(offer, ours);
    let heard = of_offer(answer, theirs);
    let both = |one: Option<u8>, other: Option<u8>| one.filter(|id| other == Some(*id));
    AudioLevels {
        send: both(said.send, heard.send),
        receive: both(said.receive, heard.receive),
        send_mixed: both(said.send_mixed, heard.send_mixed),
    }
}

/// What a description of ours says.
pub(super) fn of_ours(session: &Session, media: &Media) -> AudioLevels {
    let mut levels = AudioLevels::default();
    for Extension { id, direction, uri } in mapped(session, media) {
        match uri {
            OWN => {
                (levels.send, levels.receive) = (direction.sends().then_some(id), direction.receives().then_some(id))
            }
            MIXED => levels.send_mixed = direction.sends().then_some(id),
            _ => {}
        }
    }
    levels
}

/// Writes what was agreed on.
pub(super) fn describe(attributes: &mut Attributes, levels: &AudioLevels) {
    let direction = match (levels.send, levels.receive) {
        (Some(_), Some(_)) => "",
        (Some(_), None) => "/sendonly",
        (None, _) => "/recvonly",
    };
    if let Some(id) = levels.send.or(levels.receive) {
        // Whether it is a voice we do not say (RFC 6464 section 4).
        attributes.push("extmap", format!("{id}{direction} {OWN} vad=off"));
    }
    if let Some(id) = levels.send_mixed {
        attributes.push("extmap", format!("{id}/sendonly {MIXED}"));
    }
}
