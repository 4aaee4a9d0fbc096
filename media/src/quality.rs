//! How good a stream sounds: losses in bursts and gaps (RFC 3611 appendix A.2), and what the E-model (ITU-T G.107) makes of loss and
//! delay. Plain arithmetic; nothing allocates.

use crate::rtp::Seq;

/// A burst ends with this many packets in a row that came (RFC 3611 section 4.7.2).
pub const GMIN: u8 = 16;
/// A leap of the sequence by more than this is a new beginning and no loss.
const MAX_DROPOUT: i16 = 3_000;
/// The rating of a perfect connection by telephone (G.107 table 2, defaults).
const R_DEFAULT: f64 = 93.2;

/// What came and what did not, as RFC 3611 counts it: by transitions between packets that came in gaps (1), lost in bursts (3), and so on.
/// A packet that comes behind a later one counts as lost here, as it does for whoever plays at a steady pace.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bursts {
    last: Option<Seq>,
    /// Packets that came since the last loss.
    since_loss: u32,
    /// Losses in what may be a burst.
    run: u32,
    c11: u32,
    c13: u32,
    c14: u32,
    c22: u32,
    c23: u32,
    c33: u32,
    received: u32,
    lost: u32,
    /// Losses next to one another count as one.
    events: u32,
}

/// Figures of bursts and gaps.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct BurstFigures {
    /// Lost of what was sent in bursts, in 256ths.
    pub burst_density: u8,
    /// Lost of what was sent in gaps, in 256ths.
    pub gap_density: u8,
    /// Mean length of bursts, in ms.
    pub burst_duration_ms: u16,
    /// Mean length of gaps, in ms.
    pub gap_duration_ms: u16,
}

impl Bursts {
    /// Takes account of a packet.
    pub fn receive(&mut self, seq: Seq) {
        let ahead = self.last.map_or(1, |last| seq.since(last));
        if ahead <= 0 && ahead > -MAX_DROPOUT {
            return;
        }
        self.last = Some(seq);
        if (2..MAX_DROPOUT).contains(&ahead) {
            self.events = self.events.saturating_add(1);
            (1..ahead).for_each(|_| self.lose());
        }
        self.received = self.received.saturating_add(1);
        self.since_loss = self.since_loss.saturating_add(1);
    }

    fn lose(&mut self) {
        self.lost = self.lost.saturating_add(1);
        if self.since_loss >= u32::from(GMIN) {
            let lone = if self.run == 1 { &mut self.c14 } else { &mut self.c13 };
            *lone = lone.saturating_add(1);
            self.run = 1;
            self.c11 = self.c11.saturating_add(self.since_loss);
        } else {
            self.run = self.run.saturating_add(1);
            if self.since_loss == 0 {
                self.c33 = self.c33.saturating_add(1);
            } else {
                self.c23 = self.c23.saturating_add(1);
                self.c22 = self.c22.saturating_add(self.since_loss - 1);
            }
        }
        self.since_loss = 0;
    }

    /// How much longer losses are than they would be at random (G.107's BurstR): 1 for random loss.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        if self.events == 0 {
            return 1.0;
        }
        let mean_run = f64::from(self.lost) / f64::from(self.events);
        let p = f64::from(self.lost) / f64::from(self.lost.saturating_add(self.received).max(1));
        (mean_run * (1.0 - p)).max(1.0)
    }

    /// The figures so far, for packets of `packet_ms`.
    #[must_use]
    pub fn figures(&self, packet_ms: u32) -> BurstFigures {
        let c = |count: u32| f64::from(count);
        let (c11, c13, c14) = (c(self.c11) + c(self.since_loss), c(self.c13), c(self.c14));
        let (c22, c23, c33) = (c(self.c22), c(self.c23), c(self.c33));
        let (c31, c32) = (c13, c23);
        let p32 = if c31 + c32 + c33 > 0.0 { c32 / (c31 + c32 + c33) } else { 0.0 };
        let p23 = if c22 + c23 < 1.0 { 1.0 } else { 1.0 - c22 / (c22 + c23) };
        let share = |part: f64, whole: f64| if whole > 0.0 { (256.0 * part / whole).min(255.0) as u8 } else { 0 };
        let packet_ms = f64::from(packet_ms);
        let ms = |value: f64| value.clamp(0.0, 65_535.0) as u16;
        let total = c11 + c14 + c13 + c22 + c23 + c31 + c32 + c33;
        let bursts = c13.max(1.0);
        let gap_ms = (c11 + c14 + c13) * packet_ms / bursts;
        BurstFigures {
            burst_density: if c13 > 0.0 { share(p23, p23 + p32) } else { 0 },
            gap_density: share(c14, c11 + c14),
            burst_duration_ms: if c13 > 0.0 { ms(total * packet_ms / bursts - gap_ms) } else { 0 },
            gap_duration_ms: ms(gap_ms),
        }
    }
}

/// What the E-model asks of a stream.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Impairments {
    /// Lost and too late, of what was sent: 0 to 1.
    pub loss: f64,
    /// See [`Bursts::ratio`].
    pub burst_ratio: f64,
    /// From mouth to ear, one way, in ms.
    pub delay_ms: f64,
}

/// The transmission rating R, 0 to 93.2: the E-model with its defaults, for G.711 with concealment (ITU-T G.113 appendix I: Ie 0, Bpl 25.1).
/// There are no values of the ITU for Opus; wideband codecs have a scale of their own (G.107.1). They are rated as if they were G.711,
/// which says how much the network took away, and nothing of what the wider band gives.
#[must_use]
pub fn rating(stream: Impairments) -> f64 {
    const IE: f64 = 0.0;
    const BPL: f64 = 25.1;
    let loss_percent = stream.loss.clamp(0.0, 1.0) * 100.0;
    let ie_eff = IE + (95.0 - IE) * loss_percent / (loss_percent / stream.burst_ratio.max(1.0) + BPL);
    (R_DEFAULT - delay_impairment(stream.delay_ms) - ie_eff).clamp(0.0, 100.0)
}

/// G.107 equation (3-27): Idd.
fn delay_impairment(delay_ms: f64) -> f64 {
    if delay_ms <= 100.0 {
        return 0.0;
    }
    let x = (delay_ms / 100.0).log2();
    let part = |x: f64| (1.0 + x.powi(6)).powf(1.0 / 6.0);
    25.0 * (part(x) - 3.0 * part(x / 3.0) + 2.0)
}

/// The mean opinion score of a rating, 1 to 4.5 (G.107 annex B).
#[must_use]
pub fn mos(rating: f64) -> f64 {
    match rating {
        r if r <= 0.0 => 1.0,
        r if r >= 100.0 => 4.5,
        r => (1.0 + 0.035 * r + r * (r - 60.0) * (100.0 - r) * 7e-6).clamp(1.0, 4.5),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rated(loss: f64, burst_ratio: f64, delay_ms: f64) -> f64 {
        rating(Impairments { loss, burst_ratio, delay_ms })
    }

    /// G.107 annex B, and G.113 appendix I's curve for G.711 with concealment.
    #[test]
    fn the_model_gives_the_known_points() {
        assert!((rated(0.0, 1.0, 0.0) - 93.2).abs() < 1e-9);
        assert!((mos(93.2) - 4.41).abs() < 0.01, "{}", mos(93.2));
        assert!((mos(80.0) - 4.02).abs() < 0.02 && (mos(70.0) - 3.60).abs() < 0.02 && (mos(50.0) - 2.58).abs() < 0.02);
        assert_eq!((mos(-3.0), mos(120.0)), (1.0, 4.5));
        // G.107's delay curve: about 3.5 at 200 ms, 15 at 300 ms, 24 at 400 ms.
        for (delay, expected) in [(100.0, 0.0), (200.0, 3.1), (300.0, 14.7), (400.0, 24.2)] {
            let impairment = delay_impairment(delay);
            assert!((impairment - expected).abs() < 0.8, "{delay}: {impairment}");
        }
        assert!(rated(0.05, 1.0, 0.0) < rated(0.01, 1.0, 0.0));
        assert!(rated(0.05, 3.0, 0.0) < rated(0.05, 1.0, 0.0), "bursts are worse");
    }

    #[test]
    fn lone_losses_are_gaps_and_runs_are_bursts() {
        let mut lone = Bursts::default();
        (0..2_000_u16).filter(|n| n % 50 != 7).for_each(|n| lone.receive(Seq(n)));
        let figures = lone.figures(20);
        assert_eq!((figures.burst_density, figures.burst_duration_ms), (0, 0), "{figures:?}");
        assert!((4..=6).contains(&figures.gap_density), "2 % are 5 of 256: {figures:?}");
        assert!((lone.ratio() - 1.0).abs() < 0.05);
        let mut burst = Bursts::default();
        (0..2_000_u16).filter(|n| n % 200 < 190).for_each(|n| burst.receive(Seq(n)));
        let figures = burst.figures(20);
        assert!(figures.burst_density > 200 && (150..=260).contains(&figures.burst_duration_ms), "{figures:?}");
        assert!(figures.gap_density == 0 && burst.ratio() > 8.0, "{figures:?} {}", burst.ratio());
    }

    #[test]
    fn copies_late_packets_and_a_new_beginning_are_no_losses() {
        let mut bursts = Bursts::default();
        for seq in [5, 6, 7, 7, 6, 8, 60_000, 60_001] {
            bursts.receive(Seq(seq));
        }
        assert_eq!((bursts.lost, bursts.received), (0, 6));
    }
}
