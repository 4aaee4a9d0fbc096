//! What a caller at somebody else's telephone says: a WAV as long as the call, with sentences at their times and the
//! faint noise of a line between them.

use std::path::{Path, PathBuf};

/// Level of the speech: what a telephone's microphone gives.
const SPEECH_DBFS: f64 = -20.0;
/// The noise of the line, in steps of the converter.
const NOISE_STEPS: u64 = 7;

/// Writes `NAME.wav`, mono at 8 or 16 kHz, in which each text is said (by flite's slt, a voice the agent does not have) at its
/// second, `seconds` long in all.
pub fn wav(folder: &Path, name: &str, rate_hz: u32, says: &[(f64, &str)], seconds: f64) -> PathBuf {
    let mut noise = Noise(1);
    let mut pcm: Vec<i16> = (0..(seconds * f64::from(rate_hz)) as usize).map(|_| noise.sample()).collect();
    for (at_seconds, text) in says {
        let at = (at_seconds * f64::from(rate_hz)) as usize;
        for (sample, spoken) in pcm[at..].iter_mut().zip(speech(folder, rate_hz, text)) {
            *sample = sample.saturating_add(spoken);
        }
    }
    let path = folder.join(format!("{name}.wav"));
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: rate_hz,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(&path, spec).unwrap();
    for sample in pcm {
        writer.write_sample(sample).unwrap();
    }
    writer.finalize().unwrap();
    path
}

/// The text spoken at the usual level.
fn speech(folder: &Path, rate_hz: u32, text: &str) -> Vec<i16> {
    let path = folder.join("spoken.wav");
    let path_text = path.to_str().unwrap();
    let output = super::common::omnivox(
        folder,
        &["say", text, "--voice", "flite:slt", "--rate", &rate_hz.to_string(), "--out", path_text],
    );
    assert!(output.status.success(), "{}", super::common::told(&output));
    let mut reader = hound::WavReader::open(&path).unwrap();
    assert_eq!((reader.spec().sample_rate, reader.spec().channels), (rate_hz, 1));
    let pcm: Vec<f64> = reader.samples::<i16>().map(|sample| f64::from(sample.unwrap())).collect();
    let rms = (pcm.iter().map(|sample| sample * sample).sum::<f64>() / pcm.len() as f64).sqrt();
    let gain = 10_f64.powf(SPEECH_DBFS / 20.0) * 32_768.0 / rms;
    pcm.iter().map(|sample| (sample * gain).clamp(-32_768.0, 32_767.0) as i16).collect()
}

struct Noise(u64);

impl Noise {
    fn sample(&mut self) -> i16 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % NOISE_STEPS) as i16 - (NOISE_STEPS / 2) as i16
    }
}
