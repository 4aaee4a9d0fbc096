//! Extended reports: the VoIP metrics block (RFC 3611 section 4.7), written and read.

use super::be32;

/// Extended report.
pub const XR: u8 = 207;
/// The type of the VoIP metrics block.
const VOIP_METRICS: u8 = 7;
/// Its length behind its header, in words.
const WORDS: u16 = 8;
/// Its length, header included.
const BLOCK_BYTES: usize = 36;
/// A figure that is not known.
const UNKNOWN: u8 = 127;

/// What one side says of the other's sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VoipMetrics {
    /// Whose sound.
    pub ssrc: u32,
    /// Lost, in 256ths.
    pub loss_rate: u8,
    /// Too late to be played, in 256ths.
    pub discard_rate: u8,
    /// Lost of what was sent in bursts, in 256ths.
    pub burst_density: u8,
    /// Lost of what was sent in gaps, in 256ths.
    pub gap_density: u8,
    /// Mean length of bursts, in ms.
    pub burst_duration_ms: u16,
    /// Mean length of gaps, in ms.
    pub gap_duration_ms: u16,
    /// Round trip, in ms; 0 where it is not known.
    pub round_trip_ms: u16,
    /// Delay inside the receiver, in ms.
    pub end_system_delay_ms: u16,
    /// The transmission rating, 0 to 100.
    pub r_factor: Option<u8>,
    /// Mean opinion score for listening, in tenths.
    pub mos_lq: Option<u8>,
    /// Mean opinion score for conversation, in tenths.
    pub mos_cq: Option<u8>,
    /// The playout buffer's delay now, in ms.
    pub jitter_buffer_ms: u16,
    /// And at most.
    pub jitter_buffer_max_ms: u16,
}

impl VoipMetrics {
    /// The block as it goes behind an extended report's header.
    pub fn to_bytes(&self) -> [u8; BLOCK_BYTES] {
        let mut block = [0; BLOCK_BYTES];
        let halves = |half: u16| half.to_be_bytes();
        let [w0, w1] = halves(WORDS);
        let ssrc = self.ssrc.to_be_bytes();
        let known = |value: Option<u8>| value.unwrap_or(UNKNOWN);
        let pieces: [&[u8]; 13] = [
            &[VOIP_METRICS, 0, w0, w1],
            &ssrc,
            &[self.loss_rate, self.discard_rate, self.burst_density, self.gap_density],
            &halves(self.burst_duration_ms),
            &halves(self.gap_duration_ms),
            &halves(self.round_trip_ms),
            &halves(self.end_system_delay_ms),
            // signal, noise and echo return loss are not known; then Gmin, R, that of an outside network, and the scores
            &[UNKNOWN, UNKNOWN, UNKNOWN, crate::quality::GMIN],
            &[known(self.r_factor), UNKNOWN, known(self.mos_lq), known(self.mos_cq)],
            // enhanced concealment, an adaptive buffer (section 4.7.6)
            &[0b1011_0000, 0],
            &halves(self.jitter_buffer_ms),
            &halves(self.jitter_buffer_max_ms),
            &halves(self.jitter_buffer_max_ms),
        ];
        let bytes = pieces.into_iter().flatten();
        block.iter_mut().zip(bytes).for_each(|(place, byte)| *place = *byte);
        block
    }

    /// The first such block in the body of an extended report.
    pub fn find(body: &[u8]) -> Option<VoipMetrics> {
        let mut rest = body.get(4..)?;
        while let Some((&[kind, _, w0, w1], behind)) = rest.split_first_chunk::<4>() {
            let length = usize::from(u16::from_be_bytes([w0, w1])) * 4;
            let (block, next) = behind.split_at_checked(length)?;
            if kind == VOIP_METRICS && length == usize::from(WORDS) * 4 {
                return VoipMetrics::read(block);
            }
            rest = next;
        }
        None
    }

    fn read(block: &[u8]) -> Option<VoipMetrics> {
        let byte = |at: usize| block.get(at).copied();
        let half = |at: usize| Some(u16::from_be_bytes([byte(at)?, byte(at + 1)?]));
        let known = |at: usize| byte(at).filter(|value| *value != UNKNOWN);
        Some(VoipMetrics {
            ssrc: be32(block, 0),
            loss_rate: byte(4)?,
            discard_rate: byte(5)?,
            burst_density: byte(6)?,
            gap_density: byte(7)?,
            burst_duration_ms: half(8)?,
            gap_duration_ms: half(10)?,
            round_trip_ms: half(12)?,
            end_system_delay_ms: half(14)?,
            r_factor: known(20).filter(|r| *r <= 100),
            mos_lq: known(22).filter(|mos| (10..=50).contains(mos)),
            mos_cq: known(23).filter(|mos| (10..=50).contains(mos)),
            jitter_buffer_ms: half(26)?,
            jitter_buffer_max_ms: half(28)?,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_block_reads_as_it_was_written_behind_others_and_cut_ones_are_none() {
        let metrics = VoipMetrics {
            ssrc: 0xdead_beef,
            loss_rate: 12,
            discard_rate: 3,
            burst_density: 99,
            gap_density: 1,
            burst_duration_ms: 240,
            gap_duration_ms: 9_000,
            round_trip_ms: 88,
            end_system_delay_ms: 60,
            r_factor: Some(91),
            mos_lq: Some(43),
            mos_cq: None,
            jitter_buffer_ms: 40,
            jitter_buffer_max_ms: 200,
        };
        let other = [4, 0, 0, 2, 1, 2, 3, 4, 5, 6, 7, 8];
        let body = [&[0, 0, 0, 9][..], &other, &metrics.to_bytes()].concat();
        assert_eq!(VoipMetrics::find(&body), Some(metrics));
        for end in 0..body.len() {
            assert_eq!(VoipMetrics::find(&body[..end]), None, "{end}");
        }
    }
}
