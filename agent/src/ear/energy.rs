//! Whether there is any sound to recognise: engines of open vocabulary make words up from silence.

use codecs::SampleRate;

/// Root mean square, of 32768, from which a frame counts as sound: -54 dBFS.
const SOUND_RMS: f64 = 65.0;
/// Sound over the quietest tenth of the frames, as a ratio: 8 dB.
const OVER_FLOOR: f64 = 2.5;
/// Frames of 20 ms in a row that make a sound.
const FRAMES: usize = 4;

/// Whether at least 80 ms stand out of the line's noise.
pub(super) fn has_sound(pcm: &[i16], rate: SampleRate) -> bool {
    let frame = (rate.hz() as usize / 50).max(1);
    let rms = |frame: &[i16]| {
        let sum: f64 = frame.iter().map(|sample| f64::from(*sample) * f64::from(*sample)).sum();
        (sum / frame.len().max(1) as f64).sqrt()
    };
    let levels: Vec<f64> = pcm.chunks(frame).map(rms).collect();
    let mut sorted = levels.clone();
    sorted.sort_by(f64::total_cmp);
    let floor = sorted.get(sorted.len() / 10).copied().unwrap_or(0.0);
    // Where there is no pause at all, the floor is speech itself: it can't be asked to stand out of that.
    let threshold = (floor * OVER_FLOOR).clamp(SOUND_RMS, 10.0 * SOUND_RMS);
    let mut run = 0;
    levels.iter().any(|level| {
        run = if *level >= threshold { run + 1 } else { 0 };
        run >= FRAMES
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(amplitude: f32, samples: usize) -> Vec<i16> {
        (0..samples).map(|n| ((n as f32 * 0.3).sin() * amplitude) as i16).collect()
    }

    #[test]
    fn silence_and_line_noise_are_no_sound() {
        assert!(!has_sound(&[], SampleRate::HZ_8000));
        assert!(!has_sound(&[0; 16_000], SampleRate::HZ_16000));
        assert!(!has_sound(&tone(40.0, 16_000), SampleRate::HZ_16000));
    }

    #[test]
    fn a_word_between_pauses_is_sound_and_a_click_is_none() {
        let pause = vec![3; 4_000];
        let word = [pause.clone(), tone(3_000.0, 2_400), pause.clone()].concat();
        let click = [pause.clone(), tone(20_000.0, 200), pause].concat();
        assert!(has_sound(&word, SampleRate::HZ_8000));
        assert!(!has_sound(&click, SampleRate::HZ_8000));
    }

    #[test]
    fn speech_without_a_pause_is_sound() {
        assert!(has_sound(&tone(8_000.0, 16_000), SampleRate::HZ_8000));
    }
}
