//! What a narrowband line takes away: the acoustic model listens up to 6.8 kHz, G.711 ends below 4 kHz.
//!
//! The energies of the upper mel filters are made up from the lower ones by a small net, so that the model meets the
//! kind of spectrum it was trained on. Measured on the front desk's phrases over G.711 (benches and figures in
//! `docs/performance.md`), this and one fixed mean take recognition from 78 % to 94 %.

mod weights;

use super::features::{FILTERS, Mels};

/// Filters that a narrowband line still fills; the rest lie above 3.6 kHz.
pub(super) const HEARD: usize = 19;

/// Log energy below its loudest that a wideband voice's upper filters still reach in some frame.
const EMPTY_BELOW: f32 = 12.5;

/// Whether these frames of speech come from a line that carries nothing above 4 kHz.
pub(super) fn is_narrow(frames: &[Mels]) -> bool {
    let loudest = |from: usize| {
        let energies = frames.iter().flat_map(|frame| frame.iter().skip(from));
        energies.copied().fold(f32::MIN, f32::max)
    };
    !frames.is_empty() && loudest(HEARD + 2) < loudest(0) - EMPTY_BELOW
}

/// Makes up the upper filters' energies from the lower ones'. What comes out moves with the loudness of what goes in.
pub(super) fn fill(frame: &mut Mels) {
    let (heard, lost) = frame.split_at_mut(HEARD.min(FILTERS));
    let mean = heard.iter().sum::<f32>() / HEARD as f32;
    let mut hidden = [0.0f32; weights::HIDDEN.len()];
    for (unit, row) in hidden.iter_mut().zip(&weights::HIDDEN) {
        let offset = row.last().copied().unwrap_or(0.0);
        let sum: f32 = heard.iter().zip(row).map(|(energy, weight)| (energy - mean) * weight).sum();
        *unit = (sum + offset).tanh();
    }
    for (energy, row) in lost.iter_mut().zip(&weights::OUTPUT) {
        let offset = row.last().copied().unwrap_or(0.0);
        *energy = mean + offset + hidden.iter().zip(row).map(|(unit, weight)| unit * weight).sum::<f32>();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn louder_in_is_louder_out_by_as_much() {
        let mut quiet: Mels = std::array::from_fn(|n| 8.0 + (n as f32 * 0.7).sin());
        let mut loud = quiet.map(|energy| energy + 3.0);
        fill(&mut quiet);
        fill(&mut loud);
        for (quiet, loud) in quiet.iter().zip(&loud) {
            assert!((loud - quiet - 3.0).abs() < 1e-3);
        }
    }

    #[test]
    fn tells_a_narrow_line_from_a_wide_one() {
        let wide: Mels = std::array::from_fn(|n| if n < 10 { 14.0 } else { 8.0 });
        let narrow: Mels = std::array::from_fn(|n| if n < 19 { 14.0 } else { 1.0 });
        assert!(!is_narrow(&[wide, narrow]));
        assert!(is_narrow(&[narrow, narrow]));
        assert!(!is_narrow(&[]));
    }
}
