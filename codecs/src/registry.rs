//! Every codec by name, payload type and parameters: the one place that knows them all.
//!
//! To add a codec: its module, a [`CodecId`], a line or more in [`SPECS`], and an arm each in
//! [`encoder`] and [`decoder`].

use crate::g711::{G711Decoder, G711Encoder, Law};
use crate::g722::{G722Decoder, G722Encoder};
use crate::l16::{L16Decoder, L16Encoder};
use crate::opus::{OpusDecoder, OpusEncoder, OpusFmtp};
use crate::{CodecError, Decoder, Encoder, SampleRate};

/// Encoding name of telephone events (DTMF, RFC 4733); media handles the format.
pub const TELEPHONE_EVENT: &str = "telephone-event";
/// Events offered in the `fmtp` of telephone events: the digits, `*`, `#`, A to D.
pub const TELEPHONE_EVENT_FMTP: &str = "0-15";
/// Payload type customary for telephone events at 8 kHz (dynamic, so only a habit).
pub const TELEPHONE_EVENT_PAYLOAD_TYPE: u8 = 101;
/// Encoding name of comfort noise (RFC 3389); see [`crate::comfort_noise`].
pub const COMFORT_NOISE: &str = "CN";
/// Static payload type of comfort noise at 8 kHz (RFC 3551, table 4).
pub const COMFORT_NOISE_PAYLOAD_TYPE: u8 = 13;
/// RTP clock of both at payload types 13 and 101.
pub const EVENT_CLOCK_HZ: u32 = 8_000;

/// Which codec.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CodecId {
    /// G.711 µ-law.
    Pcmu,
    /// G.711 A-law.
    Pcma,
    /// G.722 at 64 kbit/s.
    G722,
    /// Opus.
    Opus,
    /// Linear 16-bit PCM.
    L16,
}

/// A codec as SDP names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodecSpec {
    /// Which codec.
    pub id: CodecId,
    /// Encoding name in `a=rtpmap` (compared without regard to case).
    pub name: &'static str,
    /// RTP clock, in hertz. Not the audio rate: G.722 has 8000 (RFC 3551), Opus 48000 (RFC 7587).
    pub clock_hz: u32,
    /// Channels in `a=rtpmap`. Opus is always 2 there, whatever is sent; we send one.
    pub channels: u8,
    /// Payload type of RFC 3551, where there is one.
    pub static_payload_type: Option<u8>,
    /// Rate of the PCM that its encoder takes and its decoder gives unless asked otherwise.
    pub audio_rate: SampleRate,
    /// What we put into `a=fmtp`; empty for no line.
    pub fmtp: &'static str,
}

impl CodecSpec {
    /// Parameters for this codec with 20 ms packets and our own settings, with nothing known of
    /// the peer's.
    #[must_use]
    pub fn params(&self) -> CodecParams {
        CodecParams { id: self.id, ptime_ms: 20, audio_rate: self.audio_rate, fmtp: OpusParams::default() }
    }

    /// Parameters for this codec as negotiated: the packet time, and what the peer's `a=fmtp` line
    /// says (empty where it has none).
    #[must_use]
    pub fn negotiated(&self, ptime_ms: u8, remote_fmtp: &str) -> CodecParams {
        let mut params = self.params();
        params.ptime_ms = ptime_ms;
        if self.id == CodecId::Opus {
            params.fmtp = OpusFmtp::parse(remote_fmtp).encoder_params(&params.fmtp);
        }
        params
    }

    /// RTP clock ticks that `samples` samples at `rate` last.
    #[must_use]
    pub fn ticks(&self, samples: usize, rate: SampleRate) -> u32 {
        let ticks = (samples as u64 * u64::from(self.clock_hz)).checked_div(u64::from(rate.hz())).unwrap_or(0);
        u32::try_from(ticks).unwrap_or(u32::MAX)
    }
}

/// What it takes to build an encoder and a decoder of one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodecParams {
    /// Which codec.
    pub id: CodecId,
    /// Audio in one packet that we send, in milliseconds.
    pub ptime_ms: u8,
    /// Rate of the PCM on our side: 8 kHz for G.711, 16 kHz for G.722, 8 to 48 kHz for Opus, the
    /// RTP clock for L16.
    pub audio_rate: SampleRate,
    /// Settings of Opus; the others have none.
    pub fmtp: OpusParams,
}

/// Settings of an Opus encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpusParams {
    /// In-band forward error correction. Bits go to it once losses are expected.
    pub fec: bool,
    /// Discontinuous transmission: nothing is sent while nothing is said.
    pub dtx: bool,
    /// Constant bit rate.
    pub cbr: bool,
    /// Effort, 0 (least) to 10.
    pub complexity: u8,
    /// Bit rate to aim for; chosen by the audio rate where it is `None`.
    pub bitrate_bps: Option<u32>,
    /// Bit rate that the peer allows.
    pub max_bitrate_bps: Option<u32>,
    /// Highest audio rate that is of use to the peer, in hertz.
    pub max_playback_hz: u32,
    /// Share of packets expected to be lost, before any report has come.
    pub expected_loss_percent: u8,
}

impl Default for OpusParams {
    fn default() -> Self {
        Self {
            fec: true,
            dtx: false,
            cbr: false,
            complexity: 5,
            bitrate_bps: None,
            max_bitrate_bps: None,
            max_playback_hz: 48_000,
            expected_loss_percent: 0,
        }
    }
}

/// All that can be negotiated, best for speech first.
pub const SPECS: &[CodecSpec] = &[
    CodecSpec {
        id: CodecId::Opus,
        name: "opus",
        clock_hz: crate::opus::CLOCK_HZ,
        channels: 2,
        static_payload_type: None,
        audio_rate: SampleRate::HZ_16000,
        fmtp: "maxplaybackrate=16000;sprop-maxcapturerate=16000;useinbandfec=1",
    },
    CodecSpec {
        id: CodecId::G722,
        name: "G722",
        clock_hz: 8_000,
        channels: 1,
        static_payload_type: Some(9),
        audio_rate: SampleRate::HZ_16000,
        fmtp: "",
    },
    CodecSpec {
        id: CodecId::Pcmu,
        name: "PCMU",
        clock_hz: 8_000,
        channels: 1,
        static_payload_type: Some(0),
        audio_rate: SampleRate::HZ_8000,
        fmtp: "",
    },
    CodecSpec {
        id: CodecId::Pcma,
        name: "PCMA",
        clock_hz: 8_000,
        channels: 1,
        static_payload_type: Some(8),
        audio_rate: SampleRate::HZ_8000,
        fmtp: "",
    },
    l16(SampleRate::HZ_16000, None),
    l16(SampleRate::HZ_8000, None),
    l16(SampleRate::HZ_48000, None),
    l16(SampleRate::HZ_44100, Some(11)),
];

/// The codec of this name, clock and channel count (`channels` as `a=rtpmap` has it: 1 where it
/// says nothing). The name is compared without regard to case.
#[must_use]
pub fn find(name: &str, clock_hz: u32, channels: u8) -> Option<&'static CodecSpec> {
    SPECS
        .iter()
        .find(|spec| spec.name.eq_ignore_ascii_case(name) && spec.clock_hz == clock_hz && spec.channels == channels)
}

/// The codec of a static payload type (RFC 3551, table 4), for SDP without `a=rtpmap`.
#[must_use]
pub fn by_static_payload_type(payload_type: u8) -> Option<&'static CodecSpec> {
    SPECS.iter().find(|spec| spec.static_payload_type == Some(payload_type))
}

/// The first entry of [`SPECS`] for a codec (for L16 the one at 16 kHz).
#[must_use]
pub fn spec(id: CodecId) -> Option<&'static CodecSpec> {
    SPECS.iter().find(|spec| spec.id == id)
}

/// Builds the encoder.
///
/// # Errors
/// An audio rate that the codec does not take, or a refusal by libopus.
pub fn encoder(params: &CodecParams) -> Result<Box<dyn Encoder>, CodecError> {
    check_rate(params)?;
    Ok(match params.id {
        CodecId::Pcmu => Box::new(G711Encoder::new(Law::Mu)),
        CodecId::Pcma => Box::new(G711Encoder::new(Law::A)),
        CodecId::G722 => Box::new(G722Encoder::new()),
        CodecId::Opus => Box::new(OpusEncoder::new(params.audio_rate, &params.fmtp)?),
        CodecId::L16 => Box::new(L16Encoder::new(params.audio_rate)),
    })
}

/// Builds the decoder.
///
/// # Errors
/// An audio rate that the codec does not give, or a refusal by libopus.
pub fn decoder(params: &CodecParams) -> Result<Box<dyn Decoder>, CodecError> {
    check_rate(params)?;
    Ok(match params.id {
        CodecId::Pcmu => Box::new(G711Decoder::new(Law::Mu)),
        CodecId::Pcma => Box::new(G711Decoder::new(Law::A)),
        CodecId::G722 => Box::new(G722Decoder::new()),
        CodecId::Opus => Box::new(OpusDecoder::new(params.audio_rate)?),
        CodecId::L16 => Box::new(L16Decoder::new(params.audio_rate)),
    })
}

const fn l16(rate: SampleRate, static_payload_type: Option<u8>) -> CodecSpec {
    CodecSpec {
        id: CodecId::L16,
        name: "L16",
        clock_hz: rate.hz(),
        channels: 1,
        static_payload_type,
        audio_rate: rate,
        fmtp: "",
    }
}

fn check_rate(params: &CodecParams) -> Result<(), CodecError> {
    let rate = params.audio_rate;
    let (codec, fits) = match params.id {
        CodecId::Pcmu => ("PCMU", rate == SampleRate::HZ_8000),
        CodecId::Pcma => ("PCMA", rate == SampleRate::HZ_8000),
        CodecId::G722 => ("G722", rate == SampleRate::HZ_16000),
        CodecId::Opus => return Ok(()), // asks libopus
        CodecId::L16 => ("L16", (8_000..=48_000).contains(&rate.hz())),
    };
    if fits { Ok(()) } else { Err(CodecError::UnsupportedRate { codec, rate }) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn finds_by_name_without_regard_to_case() {
        assert_eq!(find("pcmu", 8_000, 1).unwrap().static_payload_type, Some(0));
        assert_eq!(find("OPUS", 48_000, 2).unwrap().id, CodecId::Opus);
        assert_eq!(find("G722", 8_000, 1).unwrap().audio_rate, SampleRate::HZ_16000);
        assert_eq!(find("l16", 16_000, 1).unwrap().clock_hz, 16_000);
        assert!(find("opus", 48_000, 1).is_none());
        assert!(find("G729", 8_000, 1).is_none());
    }

    #[test]
    fn finds_by_static_payload_type() {
        for (payload_type, id) in [(0, CodecId::Pcmu), (8, CodecId::Pcma), (9, CodecId::G722)] {
            assert_eq!(by_static_payload_type(payload_type).unwrap().id, id);
        }
        assert!(by_static_payload_type(96).is_none());
        assert!(by_static_payload_type(COMFORT_NOISE_PAYLOAD_TYPE).is_none());
    }

    #[test]
    fn every_spec_can_be_built() {
        for spec in SPECS {
            let params = spec.params();
            assert_eq!(encoder(&params).unwrap().audio_rate(), spec.audio_rate);
            assert_eq!(decoder(&params).unwrap().audio_rate(), spec.audio_rate);
        }
    }

    #[test]
    fn wrong_rates_are_refused() {
        for (id, hz) in [
            (CodecId::Pcmu, 16_000),
            (CodecId::Pcma, 0),
            (CodecId::G722, 8_000),
            (CodecId::Opus, 44_100),
            (CodecId::L16, 1),
        ] {
            let params = CodecParams { audio_rate: SampleRate(hz), ..spec(id).unwrap().params() };
            assert!(encoder(&params).is_err(), "{id:?} at {hz}");
            assert!(decoder(&params).is_err(), "{id:?} at {hz}");
        }
    }

    #[test]
    fn negotiation_takes_the_peers_wishes_to_the_encoder() {
        let opus = spec(CodecId::Opus).unwrap();
        assert!(!opus.negotiated(20, "").fmtp.fec);
        assert!(opus.negotiated(20, "useinbandfec=1").fmtp.fec);
        assert_eq!(opus.negotiated(40, "").ptime_ms, 40);
        assert_eq!(opus.ticks(320, SampleRate::HZ_16000), 960);
        assert_eq!(spec(CodecId::G722).unwrap().ticks(320, SampleRate::HZ_16000), 160);
    }
}
