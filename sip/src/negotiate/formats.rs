//! Payload types: what each number in an `m=` line stands for.

use super::{Capability, CodecOffer, Preference};
use crate::sdp::Media;

/// What a payload type stands for, from `a=rtpmap` or RFC 3551's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format<'a> {
    /// The encoding's name, as it was sent.
    pub name: &'a str,
    /// The RTP clock.
    pub clock_hz: u32,
    /// 1 where none is named.
    pub channels: u8,
}

impl<'a> Format<'a> {
    /// What a format of this section stands for.
    #[must_use]
    pub fn of(media: &'a Media, format: &str) -> Option<Format<'a>> {
        match media.attributes.of_format("rtpmap", format) {
            Some(map) => Format::parse(map),
            None => Format::of_static(format.parse().ok()?),
        }
    }

    /// Reads `name/clock[/channels]`.
    fn parse(map: &'a str) -> Option<Format<'a>> {
        let mut parts = map.trim().split('/');
        let name = parts.next().filter(|n| !n.is_empty())?;
        let clock_hz = parts.next()?.trim().parse().ok()?;
        let channels = match parts.next() {
            Some(channels) => channels.trim().parse().ok()?,
            None => 1,
        };
        Some(Format { name, clock_hz, channels })
    }

    /// RFC 3551 table 4.
    fn of_static(payload_type: u8) -> Option<Format<'static>> {
        let (name, clock_hz, channels) = match payload_type {
            0 => ("PCMU", 8_000, 1),
            3 => ("GSM", 8_000, 1),
            4 => ("G723", 8_000, 1),
            5 => ("DVI4", 8_000, 1),
            6 => ("DVI4", 16_000, 1),
            7 => ("LPC", 8_000, 1),
            8 => ("PCMA", 8_000, 1),
            9 => ("G722", 8_000, 1),
            10 => ("L16", 44_100, 2),
            11 => ("L16", 44_100, 1),
            12 => ("QCELP", 8_000, 1),
            13 => ("CN", 8_000, 1),
            14 => ("MPA", 90_000, 1),
            15 => ("G728", 8_000, 1),
            16 => ("DVI4", 11_025, 1),
            17 => ("DVI4", 22_050, 1),
            18 => ("G729", 8_000, 1),
            _ => return None,
        };
        Some(Format { name, clock_hz, channels })
    }

    pub(super) fn is(&self, codec: &CodecOffer) -> bool {
        self.name.eq_ignore_ascii_case(&codec.name)
            && self.clock_hz == codec.clock_hz
            && self.channels == codec.channels.max(1)
    }

    /// For what is no codec: telephone events and comfort noise.
    pub(super) fn is_named(&self, name: &str, clock_hz: u32) -> bool {
        self.name.eq_ignore_ascii_case(name) && self.clock_hz == clock_hz
    }
}

/// A codec of ours in a media section of theirs.
#[derive(Debug)]
pub(super) struct Found<'a> {
    pub(super) codec: &'a CodecOffer,
    pub(super) payload_type: u8,
    pub(super) fmtp: Option<&'a str>,
}

/// Telephone events in a media section.
pub(super) struct FoundEvent {
    pub(super) payload_type: u8,
    pub(super) clock_hz: u32,
}

/// The payload types of a section, with what they stand for, in order.
pub(super) fn formats(media: &Media) -> impl Iterator<Item = (u8, &str, Format<'_>)> {
    media.formats.iter().filter_map(|format| {
        let payload_type = format.parse::<u8>().ok().filter(|p| *p < 128)?;
        Some((payload_type, format.as_str(), Format::of(media, format)?))
    })
}

pub(super) fn find_codec<'a>(media: &'a Media, caps: &'a Capability, preference: Preference) -> Option<Found<'a>> {
    let found = |payload_type, format: &str, codec| {
        let fmtp = media.attributes.of_format("fmtp", format);
        Found { codec, payload_type, fmtp }
    };
    match preference {
        Preference::Ours => caps.codecs.iter().find_map(|codec| {
            let (payload_type, format, _) = formats(media).find(|(_, _, f)| f.is(codec))?;
            Some(found(payload_type, format, codec))
        }),
        Preference::Theirs => formats(media).find_map(|(payload_type, format, f)| {
            let codec = caps.codecs.iter().find(|codec| f.is(codec))?;
            Some(found(payload_type, format, codec))
        }),
    }
}

/// The payload type under which a section offers a codec.
pub(super) fn payload_type_of(media: &Media, codec: &CodecOffer) -> Option<u8> {
    formats(media).find(|(_, _, f)| f.is(codec)).map(|(payload_type, ..)| payload_type)
}

/// Telephone events at the codec's own clock (RFC 4733 section 2.1), else at 8 kHz, which many peers send with everything.
pub(super) fn find_telephone_event(media: &Media, clock_hz: u32) -> Option<FoundEvent> {
    let at = |clock_hz: u32| Some(FoundEvent { payload_type: telephone_event_of(media, clock_hz)?, clock_hz });
    at(clock_hz).or_else(|| at(8_000))
}

/// The payload type of telephone events at this clock.
pub(super) fn telephone_event_of(media: &Media, clock_hz: u32) -> Option<u8> {
    formats(media).find(|(_, _, f)| f.is_named("telephone-event", clock_hz)).map(|(payload_type, ..)| payload_type)
}

pub(super) fn find_comfort_noise(media: &Media) -> Option<u8> {
    formats(media).find(|(_, _, f)| f.is_named("CN", 8_000)).map(|(payload_type, ..)| payload_type)
}
