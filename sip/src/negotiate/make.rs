//! Writing our side of a description.

use super::formats::{Format, Found, formats};
use super::{Capability, CodecOffer, LocalMedia, MediaChoice, extensions, protection};
use crate::sdp::{Attributes, Connection, Media, Origin, Session};

/// The first dynamic payload type.
const FIRST_DYNAMIC: u8 = 96;
/// What nearly everybody uses for telephone events at 8 kHz.
const TELEPHONE_EVENT: u8 = 101;
/// RFC 3389.
const COMFORT_NOISE: u8 = 13;

/// Which number stands for what in an offer (RFC 3264 section 8.3.2: as before, for as long as the session lasts).
pub(super) struct Numbers<'a> {
    known: Vec<(u8, Format<'a>)>,
    taken: Vec<u8>,
}

impl<'a> Numbers<'a> {
    /// Those that these sections have mapped, the first of them before the others.
    pub(super) fn of(sections: &[&'a Media]) -> Self {
        let mut known: Vec<(u8, Format<'a>)> = Vec::new();
        for (number, _, format) in sections.iter().flat_map(|media| formats(media)) {
            if known.iter().all(|(mapped, _)| *mapped != number) {
                known.push((number, format));
            }
        }
        let taken = known.iter().map(|(number, _)| *number).collect();
        Self { known, taken }
    }

    /// The number that stood for it before, otherwise its usual one, otherwise one that has stood for nothing.
    fn find(&mut self, is: impl Fn(&Format<'a>) -> bool, usual: Option<u8>) -> Option<u8> {
        if let Some((number, _)) = self.known.iter().find(|(_, format)| is(format)) {
            return Some(*number);
        }
        let is_mapped = |number: &u8| self.known.iter().any(|(mapped, _)| mapped == number);
        let number = usual
            .filter(|usual| !is_mapped(usual))
            .or_else(|| (FIRST_DYNAMIC..128).find(|free| !self.taken.contains(free)))?;
        self.taken.push(number);
        Some(number)
    }
}

/// A description without media.
pub(super) fn envelope(local: &LocalMedia) -> Session {
    let connection = Connection::from(local.addr);
    Session {
        origin: Origin {
            username: "-".into(),
            session_id: local.session_id.to_string(),
            version: local.version,
            connection: connection.clone(),
        },
        name: "-".into(),
        connection: Some(connection),
        time: "0 0".into(),
        ..Session::default()
    }
}

/// The same section with port 0.
pub(super) fn refused(offered: &Media) -> Media {
    let mut attributes = Attributes::default();
    if let Some(mid) = offered.attributes.get("mid") {
        attributes.push("mid", mid);
    }
    Media {
        kind: offered.kind.clone(),
        port: 0,
        protocol: offered.protocol.clone(),
        formats: offered.formats.first().cloned().or_else(|| Some("0".into())).into_iter().collect(),
        connection: None,
        attributes,
    }
}

/// The section with what was agreed on.
pub(super) fn answered(
    local: &LocalMedia,
    caps: &Capability,
    offered: &Media,
    found: &Found<'_>,
    choice: &MediaChoice,
) -> Media {
    let mut media = empty(local, &offered.protocol);
    add_codec(&mut media, found.codec, found.payload_type);
    if let Some(event) = choice.telephone_event {
        // RFC 4733 section 2.5.1.1: we take digits, and flash where the peer says it has it.
        let theirs = offered.attributes.of_format("fmtp", &event.payload_type_recv.to_string());
        let range = if theirs.is_some_and(|t| t.contains("16")) { "0-16" } else { "0-15" };
        add_telephone_event(&mut media, event.payload_type_recv, event.clock_hz, range);
    }
    if let Some(payload_type) = choice.comfort_noise {
        add_comfort_noise(&mut media, payload_type);
    }
    media.attributes.push("ptime", caps.ptime_ms.to_string());
    media.attributes.flag(choice.direction.as_str());
    if choice.rtcp_mux {
        media.attributes.flag("rtcp-mux");
    }
    if choice.rtcp_xr {
        media.attributes.push("rtcp-xr", "voip-metrics");
    }
    extensions::describe(&mut media.attributes, &choice.audio_levels);
    protection::describe_answer(&mut media, local, offered, &choice.protection);
    media
}

/// The section with all that we can do.
pub(super) fn offered(local: &LocalMedia, caps: &Capability, mut numbers: Numbers<'_>) -> Media {
    let mut media = empty(local, protection::protocol_of_offer(local));
    numbers.taken.extend([TELEPHONE_EVENT, COMFORT_NOISE]);
    numbers.taken.extend(caps.codecs.iter().filter_map(|c| c.static_payload_type));
    for codec in &caps.codecs {
        if let Some(payload_type) = numbers.find(|format| format.is(codec), codec.static_payload_type) {
            add_codec(&mut media, codec, payload_type);
        }
    }
    if caps.comfort_noise
        && caps.codecs.iter().any(|c| c.clock_hz == 8_000)
        && let Some(payload_type) = numbers.find(|format| format.is_named("CN", 8_000), Some(COMFORT_NOISE))
    {
        add_comfort_noise(&mut media, payload_type);
    }
    if caps.telephone_event {
        add_events(&mut media, caps, &mut numbers);
    }
    media.attributes.push("ptime", caps.ptime_ms.to_string());
    media.attributes.flag(local.direction.as_str());
    if caps.rtcp_mux {
        media.attributes.flag("rtcp-mux");
    }
    media.attributes.push("rtcp-xr", "voip-metrics");
    protection::describe_offer(&mut media, local, caps);
    media
}

/// Telephone events at each clock that a codec of ours has (RFC 4733 section 2.1).
fn add_events(media: &mut Media, caps: &Capability, numbers: &mut Numbers<'_>) {
    let mut clocks: Vec<u32> = Vec::new();
    for codec in &caps.codecs {
        if !clocks.contains(&codec.clock_hz) {
            clocks.push(codec.clock_hz);
        }
    }
    for clock_hz in clocks {
        let usual = (clock_hz == 8_000).then_some(TELEPHONE_EVENT);
        if let Some(payload_type) = numbers.find(|format| format.is_named("telephone-event", clock_hz), usual) {
            add_telephone_event(media, payload_type, clock_hz, "0-15");
        }
    }
}

fn empty(local: &LocalMedia, protocol: &str) -> Media {
    Media { kind: "audio".into(), port: local.port, protocol: protocol.to_owned(), ..Media::default() }
}

fn add_codec(media: &mut Media, codec: &CodecOffer, payload_type: u8) {
    media.formats.push(payload_type.to_string());
    let channels = if codec.channels > 1 { format!("/{}", codec.channels) } else { String::new() };
    media.attributes.push("rtpmap", format!("{payload_type} {}/{}{channels}", codec.name, codec.clock_hz));
    if let Some(fmtp) = codec.fmtp.as_deref().filter(|f| !f.is_empty()) {
        media.attributes.push("fmtp", format!("{payload_type} {fmtp}"));
    }
}

fn add_telephone_event(media: &mut Media, payload_type: u8, clock_hz: u32, range: &str) {
    media.formats.push(payload_type.to_string());
    media.attributes.push("rtpmap", format!("{payload_type} telephone-event/{clock_hz}"));
    media.attributes.push("fmtp", format!("{payload_type} {range}"));
}

fn add_comfort_noise(media: &mut Media, payload_type: u8) {
    media.formats.push(payload_type.to_string());
    media.attributes.push("rtpmap", format!("{payload_type} CN/8000"));
}
