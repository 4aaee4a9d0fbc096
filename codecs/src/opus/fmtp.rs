//! Opus format parameters in SDP (RFC 7587, section 6.1): read, written, and turned into what the
//! encoder has to keep to.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use crate::registry::OpusParams;

/// The parameters of an `a=fmtp` line for Opus. Every one of them tells what the *sender of the
/// SDP* wants to receive, save for the two `sprop` ones, which tell what it is likely to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpusFmtp {
    /// `maxplaybackrate`: highest audio rate worth sending, in hertz; 8000 to 48000.
    pub max_playback_hz: u32,
    /// `sprop-maxcapturerate`: highest audio rate it is likely to send, in hertz.
    pub sprop_max_capture_hz: u32,
    /// `maxaveragebitrate`, in bits per second; 6000 to 510000.
    pub max_average_bitrate_bps: Option<u32>,
    /// `stereo`: would rather receive stereo.
    pub stereo: bool,
    /// `sprop-stereo`: is likely to send stereo.
    pub sprop_stereo: bool,
    /// `cbr`: constant bit rate is wanted.
    pub cbr: bool,
    /// `useinbandfec`: can make use of in-band FEC.
    pub fec: bool,
    /// `usedtx`: discontinuous transmission is wanted.
    pub dtx: bool,
}

impl Default for OpusFmtp {
    /// What a missing line means.
    fn default() -> Self {
        Self {
            max_playback_hz: 48_000,
            sprop_max_capture_hz: 48_000,
            max_average_bitrate_bps: None,
            stereo: false,
            sprop_stereo: false,
            cbr: false,
            fec: false,
            dtx: false,
        }
    }
}

impl OpusFmtp {
    /// Reads the part of an `a=fmtp` line after the payload type. Unknown parameters are ignored,
    /// as the RFC asks, and so are values outside of its ranges: a call is not lost over them.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut fmtp = Self::default();
        for item in text.split(';') {
            let (name, value) = item.split_once('=').unwrap_or((item, ""));
            fmtp.set(name.trim(), value.trim());
        }
        fmtp
    }

    /// What our encoder is to do for a peer that sent these, beginning from our own settings: FEC
    /// and DTX only where both sides want them, never above the peer's rates.
    #[must_use]
    pub fn encoder_params(&self, ours: &OpusParams) -> OpusParams {
        let max_bitrate_bps = match (ours.max_bitrate_bps, self.max_average_bitrate_bps) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        OpusParams {
            fec: ours.fec && self.fec,
            dtx: ours.dtx && self.dtx,
            cbr: ours.cbr || self.cbr,
            max_playback_hz: ours.max_playback_hz.min(self.max_playback_hz),
            max_bitrate_bps,
            ..*ours
        }
    }

    fn set(&mut self, name: &str, value: &str) {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        if is("maxplaybackrate") {
            set_hz(&mut self.max_playback_hz, value);
        } else if is("sprop-maxcapturerate") {
            set_hz(&mut self.sprop_max_capture_hz, value);
        } else if is("maxaveragebitrate") {
            let bps = value.parse().ok();
            self.max_average_bitrate_bps =
                bps.filter(|bps| (6_000..=510_000).contains(bps)).or(self.max_average_bitrate_bps);
        } else if is("stereo") {
            set_flag(&mut self.stereo, value);
        } else if is("sprop-stereo") {
            set_flag(&mut self.sprop_stereo, value);
        } else if is("cbr") {
            set_flag(&mut self.cbr, value);
        } else if is("useinbandfec") {
            set_flag(&mut self.fec, value);
        } else if is("usedtx") {
            set_flag(&mut self.dtx, value);
        }
    }
}

impl FromStr for OpusFmtp {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self::parse(text))
    }
}

/// Only what differs from the defaults, so a default prints as nothing.
impl fmt::Display for OpusFmtp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = |hz: u32| (hz != 48_000).then_some(hz);
        let flag = |set: bool| set.then_some(1);
        let items = [
            ("maxplaybackrate", rate(self.max_playback_hz)),
            ("sprop-maxcapturerate", rate(self.sprop_max_capture_hz)),
            ("maxaveragebitrate", self.max_average_bitrate_bps),
            ("stereo", flag(self.stereo)),
            ("sprop-stereo", flag(self.sprop_stereo)),
            ("cbr", flag(self.cbr)),
            ("useinbandfec", flag(self.fec)),
            ("usedtx", flag(self.dtx)),
        ];
        let mut separator = "";
        for (name, value) in items {
            if let Some(value) = value {
                write!(f, "{separator}{name}={value}")?;
                separator = ";";
            }
        }
        Ok(())
    }
}

fn set_hz(field: &mut u32, value: &str) {
    if let Some(hz) = value.parse().ok().filter(|hz| (8_000..=48_000).contains(hz)) {
        *field = hz;
    }
}

fn set_flag(field: &mut bool, value: &str) {
    match value {
        "1" => *field = true,
        "0" => *field = false,
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_peers_send() {
        let fmtp = OpusFmtp::parse(
            " minptime=10; UseInbandFec=1;maxplaybackrate=16000 ; maxaveragebitrate=20000;stereo=0;usedtx=1",
        );
        assert!(fmtp.fec && fmtp.dtx && !fmtp.stereo && !fmtp.cbr);
        assert_eq!(fmtp.max_playback_hz, 16_000);
        assert_eq!(fmtp.max_average_bitrate_bps, Some(20_000));
        assert_eq!(OpusFmtp::parse(""), OpusFmtp::default());
    }

    #[test]
    fn ignores_nonsense() {
        for text in [
            "maxplaybackrate=7;maxaveragebitrate=5;stereo=2;usedtx",
            ";;==;=1;useinbandfec=",
            "maxplaybackrate=99999999999999999999;cbr=yes",
            "\u{0}useinbandfec=1x;é=1",
        ] {
            assert_eq!(OpusFmtp::parse(text), OpusFmtp::default(), "{text}");
        }
    }

    #[test]
    fn prints_what_it_reads() {
        let text = "maxplaybackrate=16000;sprop-maxcapturerate=8000;maxaveragebitrate=20000;\
                    stereo=1;sprop-stereo=1;cbr=1;useinbandfec=1;usedtx=1";
        assert_eq!(OpusFmtp::parse(text).to_string(), text);
        assert_eq!(OpusFmtp::default().to_string(), "");
    }

    #[test]
    fn encoder_keeps_to_the_stricter_side() {
        let ours = OpusParams {
            fec: true,
            dtx: true,
            max_playback_hz: 16_000,
            max_bitrate_bps: Some(32_000),
            ..OpusParams::default()
        };
        let theirs = OpusFmtp::parse("maxplaybackrate=8000;maxaveragebitrate=12000;useinbandfec=1");
        let params = theirs.encoder_params(&ours);
        assert!(params.fec && !params.dtx);
        assert_eq!(params.max_playback_hz, 8_000);
        assert_eq!(params.max_bitrate_bps, Some(12_000));
        assert_eq!(params.complexity, ours.complexity);
    }
}
