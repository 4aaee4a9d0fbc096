//! Comfort noise (RFC 3389): a level, and if wanted a spectral shape, sent once in a while in place
//! of silence; and the noise made from it.

use crate::CodecError;
use crate::pcm;

/// Most reflection coefficients used from a payload; the rest is ignored (RFC 3389, section 3.3).
pub const MAX_ORDER: usize = 12;

/// Writes a comfort noise payload that describes `pcm` (20 ms or more of what is taken for
/// silence): its level and, with `order` above 0, so many reflection coefficients of its
/// spectrum, at most [`MAX_ORDER`]. Returns the bytes written, `1 + order`.
///
/// # Errors
/// [`CodecError::Empty`] without samples, [`CodecError::OutputTooSmall`].
pub fn encode(pcm: &[i16], order: usize, out: &mut [u8]) -> Result<usize, CodecError> {
    let order = order.min(MAX_ORDER);
    let out = crate::room(pcm.len(), 1 + order, out)?;
    let Some((level, coefficients)) = out.split_first_mut() else {
        return Err(CodecError::Empty);
    };
    *level = level_byte(pcm::level_dbov(pcm));
    let reflection = if order > 0 { analyse(pcm) } else { [0.0; MAX_ORDER] };
    for (byte, k) in coefficients.iter_mut().zip(reflection) {
        // RFC 3389, section 3.2: 127 is zero, one step is 258 / 32768
        *byte = (127.0 + k * 32768.0 / 258.0).round().clamp(0.0, 254.0) as u8;
    }
    Ok(out.len())
}

/// The level byte of a payload, for a level in dBov (0 and below).
#[must_use]
pub fn level_byte(level_dbov: f64) -> u8 {
    (-level_dbov).round().clamp(0.0, 127.0) as u8
}

/// Makes noise from comfort noise payloads. Small (about 140 bytes) and without allocation.
#[derive(Clone, Debug)]
pub struct ComfortNoise {
    random: u32,
    /// Root mean square of the noise: now, and where it is going.
    level: f32,
    target: f32,
    reflection: [f32; MAX_ORDER],
    order: usize,
    /// Backward errors of the lattice filter.
    state: [f32; MAX_ORDER],
    /// Makes up for the filter's gain.
    excitation: f32,
}

impl ComfortNoise {
    /// Silent until the first [`update`](Self::update). The seed decides the noise.
    #[must_use]
    pub const fn new(seed: u32) -> Self {
        Self {
            random: seed | 1,
            level: 0.0,
            target: 0.0,
            reflection: [0.0; MAX_ORDER],
            order: 0,
            state: [0.0; MAX_ORDER],
            excitation: 1.0,
        }
    }

    /// Takes a payload.
    ///
    /// # Errors
    /// [`CodecError::Empty`]: there is no level in it. The noise goes on as it was.
    pub fn update(&mut self, payload: &[u8]) -> Result<(), CodecError> {
        let Some((&level, coefficients)) = payload.split_first() else {
            return Err(CodecError::Empty);
        };
        // the highest bit is reserved; a receiver ignores it
        let level_db = -f32::from(level & 0x7f);
        self.target = 32768.0 * 10_f32.powf(level_db / 20.0);
        self.order = coefficients.len().min(MAX_ORDER);
        let mut power = 1.0_f32;
        for (k, &byte) in self.reflection.iter_mut().zip(coefficients) {
            // under 1, or the filter would ring for ever
            *k = ((f32::from(byte) - 127.0) * 258.0 / 32768.0).clamp(-0.98, 0.98);
            power *= 1.0 - *k * *k;
        }
        self.excitation = power.sqrt();
        Ok(())
    }

    /// Describes the noise by its level alone, in dBov.
    pub fn set_level_dbov(&mut self, level_dbov: f64) {
        self.target = 32768.0 * 10_f32.powf((level_dbov.min(0.0) / 20.0) as f32);
        self.order = 0;
        self.excitation = 1.0;
    }

    /// Fills `out` with noise. A change of level is spread over some 15 ms at 8 kHz.
    pub fn generate(&mut self, out: &mut [i16]) {
        for sample in out {
            self.level += (self.target - self.level) * (1.0 / 64.0);
            let white = self.white() * self.excitation;
            *sample = pcm::from_f32(self.shape(white) * self.level);
        }
    }

    /// Uniform white noise with a mean square of 1.
    fn white(&mut self) -> f32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        let unit = (self.random >> 8) as f32 * (2.0 / 16_777_216.0) - 1.0;
        unit * 1.732_050_8
    }

    /// The all-pole lattice filter of the reflection coefficients.
    fn shape(&mut self, input: f32) -> f32 {
        let mut forward = input;
        let mut carried = 0.0;
        for index in (0..self.order).rev() {
            let (k, backward) = (self.reflection[index], self.state[index]);
            forward -= k * backward;
            let passed = backward + k * forward;
            if index + 1 < self.order {
                self.state[index + 1] = passed;
            }
            carried = forward;
        }
        if self.order > 0 {
            self.state[0] = carried;
        }
        forward
    }
}

/// Reflection coefficients of the audio by the Levinson-Durbin recursion.
fn analyse(pcm: &[i16]) -> [f64; MAX_ORDER] {
    let mut reflection = [0.0; MAX_ORDER];
    let mut correlation = [0.0_f64; MAX_ORDER + 1];
    for (lag, sum) in correlation.iter_mut().enumerate() {
        let later = pcm.get(lag..).unwrap_or_default();
        *sum = pcm.iter().zip(later).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
    }
    let mut error = correlation[0] * 1.0001;
    let mut predictor = [0.0_f64; MAX_ORDER + 1];
    for order in 1..=MAX_ORDER {
        if error <= 0.0 {
            break;
        }
        let mut sum = correlation[order];
        for tap in 1..order {
            sum += predictor[tap] * correlation[order - tap];
        }
        let k = -sum / error;
        let before = predictor;
        for tap in 1..order {
            predictor[tap] = before[tap] + k * before[order - tap];
        }
        predictor[order] = k;
        reflection[order - 1] = k;
        error *= 1.0 - k * k;
    }
    reflection
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn level_survives_the_round_trip() {
        for level in [20_u8, 40, 60, 78] {
            let mut noise = ComfortNoise::new(7);
            noise.update(&[level]).unwrap();
            let mut pcm = [0; 8000];
            noise.generate(&mut pcm);
            let mut payload = [0; 1];
            encode(&pcm[1000..], 0, &mut payload).unwrap();
            assert!(payload[0].abs_diff(level) <= 1, "{level} came back as {}", payload[0]);
        }
    }

    #[test]
    fn spectrum_survives_the_round_trip() {
        // noise through a one-pole low-pass filter
        let mut random = ComfortNoise::new(99);
        let mut last = 0.0;
        let pcm: Vec<i16> = (0..16_000)
            .map(|_| {
                last = 0.8 * last + random.white() * 300.0;
                pcm::from_f32(last)
            })
            .collect();
        let mut payload = [0; 5];
        assert_eq!(encode(&pcm, 4, &mut payload).unwrap(), 5);
        let mut noise = ComfortNoise::new(1);
        noise.update(&payload).unwrap();
        let mut made = vec![0; 16_000];
        noise.generate(&mut made);
        let (wanted, found) = (analyse(&pcm), analyse(&made[2000..]));
        assert!((wanted[0] + 0.8).abs() < 0.05, "{wanted:?}");
        assert!((wanted[0] - found[0]).abs() < 0.05, "{wanted:?} {found:?}");
        assert!((pcm::level_dbov(&pcm) - pcm::level_dbov(&made[2000..])).abs() < 1.0);
    }

    #[test]
    fn bad_payloads_are_harmless() {
        let mut noise = ComfortNoise::new(0);
        assert_eq!(noise.update(&[]), Err(CodecError::Empty));
        noise.update(&[0; 200]).unwrap();
        let mut pcm = [0; 4000];
        noise.generate(&mut pcm);
        noise.update(&[255; 200]).unwrap();
        noise.generate(&mut pcm);
        // reserved bit set, level 127: silence
        noise.update(&[255]).unwrap();
        noise.generate(&mut pcm);
        assert!(pcm[3000..].iter().all(|&s| s == 0));
        assert_eq!(encode(&[], 0, &mut [0; 4]), Err(CodecError::Empty));
        assert!(encode(&[1; 160], 4, &mut [0; 4]).is_err());
    }
}
