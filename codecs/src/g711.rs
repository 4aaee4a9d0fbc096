//! G.711: µ-law and A-law, one byte a sample (ITU-T G.711; RTP: RFC 3551, section 4.5.14).
//!
//! The four tables are computed when the program is compiled, 21 KiB in all and shared by every
//! call. Quantising follows the ITU's software tools: 16-bit samples are reduced to the 14 bits
//! (µ-law) or 13 bits (A-law) of the Recommendation by truncation in one's complement, so that
//! positive and negative values come out symmetrical.
//!
//! An encoder is one byte of state; a decoder is its concealment: 1.6 KiB, most of it on the heap
//! (`tests/memory.rs` measures it).

use crate::concealment::Concealer;
use crate::{CodecError, Decoder, Encoder, SampleRate};

/// Which of the two characteristics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Law {
    /// µ-law: North America and Japan; `PCMU`, payload type 0.
    Mu,
    /// A-law: elsewhere; `PCMA`, payload type 8.
    A,
}

impl Law {
    /// One sample to one byte.
    #[must_use]
    pub fn compress(self, sample: i16) -> u8 {
        match self {
            Self::Mu => compress_mu(sample),
            Self::A => compress_a(sample),
        }
    }

    /// One byte to one sample.
    #[must_use]
    pub fn expand(self, byte: u8) -> i16 {
        match self {
            Self::Mu => MU_EXPAND[usize::from(byte)],
            Self::A => A_EXPAND[usize::from(byte)],
        }
    }

    /// The byte of silence.
    #[must_use]
    pub const fn silence(self) -> u8 {
        match self {
            Self::Mu => 0xff,
            Self::A => 0xd5,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Mu => "PCMU",
            Self::A => "PCMA",
        }
    }
}

/// PCM at 8 kHz to G.711, a byte a sample; frames of any length.
#[derive(Clone, Debug)]
pub struct G711Encoder {
    law: Law,
}

impl G711Encoder {
    /// An encoder of this law.
    #[must_use]
    pub const fn new(law: Law) -> Self {
        Self { law }
    }
}

/// G.711 to PCM at 8 kHz, with concealment of losses.
#[derive(Clone, Debug)]
pub struct G711Decoder {
    law: Law,
    concealer: Concealer,
}

impl G711Decoder {
    /// A decoder of this law.
    #[must_use]
    pub fn new(law: Law) -> Self {
        Self { law, concealer: Concealer::new(SampleRate::HZ_8000) }
    }

    /// The law it expands.
    #[must_use]
    pub const fn law(&self) -> Law {
        self.law
    }
}

impl Encoder for G711Encoder {
    fn audio_rate(&self) -> SampleRate {
        SampleRate::HZ_8000
    }

    fn encode(&mut self, pcm: &[i16], out: &mut [u8]) -> Result<usize, CodecError> {
        let out = crate::room(pcm.len(), pcm.len(), out)?;
        match self.law {
            Law::Mu => convert(pcm, out, compress_mu),
            Law::A => convert(pcm, out, compress_a),
        }
        Ok(out.len())
    }
}

impl Decoder for G711Decoder {
    fn audio_rate(&self) -> SampleRate {
        SampleRate::HZ_8000
    }

    fn decode(&mut self, payload: &[u8], out: &mut [i16]) -> Result<usize, CodecError> {
        let out = crate::room(payload.len(), payload.len(), out)?;
        let table = match self.law {
            Law::Mu => &MU_EXPAND,
            Law::A => &A_EXPAND,
        };
        convert(payload, out, |byte| table[usize::from(byte)]);
        self.concealer.good(out);
        Ok(out.len())
    }

    fn conceal(&mut self, out: &mut [i16]) -> usize {
        self.concealer.conceal(out);
        out.len()
    }

    fn samples_in(&self, payload: &[u8]) -> usize {
        payload.len()
    }
}

impl std::fmt::Display for Law {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

fn convert<A: Copy, B>(input: &[A], out: &mut [B], step: impl Fn(A) -> B) {
    for (to, &from) in out.iter_mut().zip(input) {
        *to = step(from);
    }
}

#[inline]
fn compress_mu(sample: i16) -> u8 {
    MU_COMPRESS[usize::from(sample as u16 >> 2)]
}

#[inline]
fn compress_a(sample: i16) -> u8 {
    A_COMPRESS[usize::from(sample as u16 >> 4)]
}

/// By the upper 14 bits of the sample. Speech keeps to the few hundred entries at either end.
static MU_COMPRESS: [u8; 16_384] = mu_compress_table();
/// By the upper 12 bits of the sample.
static A_COMPRESS: [u8; 4096] = a_compress_table();
static MU_EXPAND: [i16; 256] = mu_expand_table();
static A_EXPAND: [i16; 256] = a_expand_table();

/// G.711, table 2: the magnitude plus a bias of 33 has its leading one in bit 5 + segment; the
/// four bits under it are the interval. All bits are sent inverted, so that the sign is 1 from zero on.
const fn mu_compress_table() -> [u8; 16_384] {
    let mut table = [0; 16_384];
    let mut magnitude = 0;
    while magnitude < 8192 {
        let biased = if magnitude + 33 > 8191 { 8191 } else { magnitude as u32 + 33 };
        let segment = biased.ilog2() - 5;
        let interval = (biased >> (segment + 1)) & 0x0f;
        let code = !((segment << 4 | interval) as u8) & 0x7f;
        table[magnitude] = code | 0x80;
        table[16_383 - magnitude] = code;
        magnitude += 1;
    }
    table
}

/// G.711, table 1: segment 0 is linear, the others have their leading one in bit 4 + segment. Even
/// bits are sent inverted (xor 0x55), and the sign is 1 from zero on.
const fn a_compress_table() -> [u8; 4096] {
    let mut table = [0; 4096];
    let mut magnitude = 0;
    while magnitude < 2048 {
        let value = magnitude as u32;
        let segment = if value < 32 { value >> 4 } else { value.ilog2() - 3 };
        let interval = (value >> segment.saturating_sub(1)) & 0x0f;
        let code = (segment << 4 | interval) as u8 ^ 0x55;
        table[magnitude] = code | 0x80;
        table[4095 - magnitude] = code & 0x7f;
        magnitude += 1;
    }
    table
}

const fn mu_expand_table() -> [i16; 256] {
    let mut table = [0; 256];
    let mut code = 0;
    while code < 256 {
        let bits = !(code as u8);
        let interval = (bits & 0x0f) as i32;
        let segment = ((bits >> 4) & 7) as i32;
        let magnitude = (((interval << 1) + 33) << segment) - 33;
        let sample = (magnitude << 2) as i16;
        table[code] = if bits & 0x80 != 0 { -sample } else { sample };
        code += 1;
    }
    table
}

const fn a_expand_table() -> [i16; 256] {
    let mut table = [0; 256];
    let mut code = 0;
    while code < 256 {
        let bits = code as u8 ^ 0x55;
        let interval = (bits & 0x0f) as i32;
        let segment = ((bits >> 4) & 7) as i32;
        let magnitude = match segment {
            0 => (interval << 1) + 1,
            _ => ((interval << 1) + 33) << (segment - 1),
        };
        let sample = (magnitude << 3) as i16;
        table[code] = if bits & 0x80 != 0 { sample } else { -sample };
        code += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    /// G.711, table 2a/2b: the decision values at segment ends, and the output value below each.
    /// Values are on the Recommendation's 14-bit scale.
    #[test]
    fn mu_law_matches_the_tables_of_the_recommendation() {
        // (smallest 14-bit input of the segment's last interval, code, quantised value)
        let ends = [
            (7903, 0x80, 8031),
            (3935, 0x90, 3999),
            (1951, 0xa0, 1983),
            (959, 0xb0, 975),
            (463, 0xc0, 471),
            (215, 0xd0, 219),
            (91, 0xe0, 93),
            (29, 0xf0, 30),
        ];
        for (input, code, output) in ends {
            assert_eq!(Law::Mu.compress(input << 2), code, "input {input}");
            assert_eq!(Law::Mu.compress(!(input << 2)), code & 0x7f, "input -{input}");
            assert_eq!(Law::Mu.expand(code), output << 2);
            assert_eq!(Law::Mu.expand(code & 0x7f), -(output << 2));
        }
        assert_eq!(Law::Mu.compress(0), 0xff);
        assert_eq!(Law::Mu.compress(-1), 0x7f);
        assert_eq!(Law::Mu.compress(i16::MAX), 0x80);
        assert_eq!(Law::Mu.compress(i16::MIN), 0x00);
        assert_eq!(Law::Mu.expand(Law::Mu.silence()), 0);
    }

    /// G.711, tables 1a/1b, on the 13-bit scale (sample / 8, and half a step up).
    #[test]
    fn a_law_matches_the_tables_of_the_recommendation() {
        // (smallest 13-bit input of the segment's last interval, code, quantised value)
        let ends = [
            (3968, 0xaa, 4032),
            (1984, 0xba, 2016),
            (992, 0x8a, 1008),
            (496, 0x9a, 504),
            (248, 0xea, 252),
            (124, 0xfa, 126),
            (62, 0xca, 63),
        ];
        for (input, code, output) in ends {
            assert_eq!(Law::A.compress(input << 3), code, "input {input}");
            assert_eq!(Law::A.compress(!(input << 3)), code & 0x7f, "input -{input}");
            assert_eq!(Law::A.expand(code), output << 3);
            assert_eq!(Law::A.expand(code & 0x7f), -(output << 3));
        }
        assert_eq!(Law::A.compress(0), 0xd5);
        assert_eq!(Law::A.compress(-1), 0x55);
        assert_eq!(Law::A.expand(0xd5), 8);
        assert_eq!(Law::A.expand(0x55), -8);
        assert_eq!(Law::A.compress(i16::MAX), 0xaa);
        assert_eq!(Law::A.compress(i16::MIN), 0x2a);
    }

    #[test]
    fn every_code_survives_a_round_trip() {
        for code in 0..=255_u8 {
            assert_eq!(Law::A.compress(Law::A.expand(code)), code);
            // µ-law has two zeros; the negative one expands to the same sample as the other.
            let expected = if code == 0x7f { 0xff } else { code };
            assert_eq!(Law::Mu.compress(Law::Mu.expand(code)), expected);
        }
    }

    #[test]
    fn quantising_is_monotonic_and_within_half_a_step() {
        for law in [Law::Mu, Law::A] {
            let mut last = i16::MIN;
            for sample in i16::MIN..=i16::MAX {
                let back = law.expand(law.compress(sample));
                assert!(back >= last, "{law} falls at {sample}");
                last = back;
                let error = (i32::from(back) - i32::from(sample)).abs();
                let bound = (i32::from(sample).abs() + 132) / 32 + 4;
                let clipped = i32::from(sample).abs() > 32_124;
                assert!(error <= bound || clipped, "{law}: {sample} came back as {back}");
            }
        }
    }
}
