//! What those hear who wait: a file of the operator's, or a quiet chord of our own.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use codecs::pcm::SampleRate;

use super::app::resampled;

/// Music is cut here, in seconds: it is held in memory at each rate in use.
pub const LONGEST_S: usize = 600;
/// Peak of one of the chord's tones: about -26 dBov each.
const TONE_PEAK: f64 = 1_600.0;
/// The tones of our own music in Hz, two seconds each, fading in and out: whole periods in that time, so that it repeats smoothly.
const TONES_HZ: [[f64; 2]; 4] = [[262.0, 330.0], [294.0, 349.0], [247.0, 330.0], [220.0, 262.0]];

/// Music at whatever rate it is asked for.
#[derive(Debug, Default)]
pub struct HoldMusic {
    file: Option<(Vec<i16>, SampleRate)>,
    made: Mutex<HashMap<u32, Arc<[i16]>>>,
}

impl HoldMusic {
    /// The music of this WAV file (16 bit, any rate; of several channels the first), or our own where the path is empty.
    ///
    /// # Errors
    /// The file cannot be read as such, or holds nothing.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        if path.as_os_str().is_empty() {
            return Ok(Self::default());
        }
        let wrong = |why: String| {
            anyhow::anyhow!("calls.music: {}: {why}. Name a WAV file of 16 bit samples, or nothing", path.display())
        };
        let (mut pcm, rate) = crate::wav::read_mono(path).map_err(|fault| wrong(fault.to_string()))?;
        if pcm.is_empty() {
            return Err(wrong("it holds no sound".to_owned()));
        }
        pcm.truncate(rate.hz() as usize * LONGEST_S);
        Ok(Self { file: Some((pcm, rate)), made: Mutex::default() })
    }

    /// It, at this rate.
    #[must_use]
    pub fn at(&self, rate: SampleRate) -> Arc<[i16]> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || match &self.file {
            Some((pcm, from)) => resampled(pcm, *from, rate).unwrap_or_else(|_| chord(rate)).into(),
            None => chord(rate).into(),
        };
        Arc::clone(made.entry(rate.hz()).or_insert_with(make))
    }
}

/// Our own music: four chords, quiet enough not to disturb whoever hears it by mistake.
fn chord(rate: SampleRate) -> Vec<i16> {
    let hz = f64::from(rate.hz());
    let length = rate.hz() as usize * 2;
    let mut pcm = Vec::with_capacity(length * TONES_HZ.len());
    for tones in TONES_HZ {
        for n in 0..length {
            let at = n as f64 / hz;
            let swell = (std::f64::consts::PI * n as f64 / length as f64).sin();
            let sum: f64 = tones.iter().map(|tone| (std::f64::consts::TAU * tone * at).sin()).sum();
            pcm.push((sum * swell * TONE_PEAK) as i16);
        }
    }
    pcm
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn our_own_music_is_quiet_repeats_without_a_click_and_is_made_once() {
        let music = HoldMusic::default();
        let pcm = music.at(SampleRate::HZ_8000);
        assert_eq!(pcm.len(), 64_000);
        assert!(pcm.iter().all(|sample| sample.abs() <= 3_200));
        assert!((pcm[0] - pcm[pcm.len() - 1]).abs() < 50);
        assert!(Arc::ptr_eq(&pcm, &music.at(SampleRate::HZ_8000)));
        assert_eq!(music.at(SampleRate::HZ_16000).len(), 128_000);
    }

    #[test]
    fn a_file_that_is_no_music_is_named_with_what_to_do() {
        let fault = HoldMusic::open(Path::new("/nowhere/music.wav")).unwrap_err().to_string();
        assert!(fault.starts_with("calls.music: /nowhere/music.wav: ") && fault.contains("WAV"), "{fault}");
    }
}
