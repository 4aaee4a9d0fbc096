//! `omnivox say`: text to speech into a WAV file, with any of the agent's voices. Callers in tests and the demo speak
//! this way, with another voice than the agent's.

use std::path::PathBuf;
use std::process::ExitCode;

use agent::voice::{VoiceConfig, Voices};
use anyhow::Context;
use clap::Args;
use codecs::pcm::SampleRate;

use crate::output::print_line;
use crate::wav;

/// The rate of speech that is not for a certain line.
pub const RATE: SampleRate = SampleRate::HZ_16000;

/// Arguments of `omnivox say`.
#[derive(Debug, Clone, Args)]
pub struct SayArgs {
    /// What to say.
    pub text: String,
    /// Who says it: flite:rms, flite:slt, flite:awb, flite:kal16, espeak:VOICE or openai:VOICE.
    #[arg(long, value_name = "VOICE", default_value = "flite:slt")]
    pub voice: String,
    /// How fast, from 0.5 to 2.0 times the voice's own pace.
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    pub speed: f32,
    /// Samples a second: 8000, 16000, 24000, 44100 or 48000.
    #[arg(long, value_name = "HERTZ", default_value_t = RATE.hz())]
    pub rate: u32,
    /// Where it goes.
    #[arg(long, short, value_name = "FILE.wav", default_value = "say.wav")]
    pub out: PathBuf,
}

/// Says it.
///
/// # Errors
/// A voice or rate that there is not, a voice that fails, a file that cannot be written.
pub async fn run(args: SayArgs) -> anyhow::Result<ExitCode> {
    let config = VoiceConfig { speed: args.speed, fallback: String::new(), ..VoiceConfig::named(&args.voice) };
    let rate = SampleRate(args.rate);
    let pcm = spoken(&config, &args.text, rate).await?;
    wav::write_mono(&args.out, &pcm, rate)?;
    print_line!("{}: {:.2} s", args.out.display(), rate.duration_of(pcm.len()).as_secs_f64())?;
    Ok(ExitCode::SUCCESS)
}

/// The text as speech of a voice that is named as in `--voice`, at [`RATE`].
///
/// # Errors
/// A voice that there is not, or that fails.
pub async fn speak(voice: &str, text: &str) -> anyhow::Result<(Vec<i16>, SampleRate)> {
    let config = VoiceConfig { fallback: String::new(), ..VoiceConfig::named(voice) };
    Ok((spoken(&config, text, RATE).await?, RATE))
}

async fn spoken(config: &VoiceConfig, text: &str, rate: SampleRate) -> anyhow::Result<Vec<i16>> {
    anyhow::ensure!((8_000..=48_000).contains(&rate.hz()), "--rate {}: from 8000 to 48000", rate.hz());
    let voice = Voices::new(0).open(config, rate)?;
    let speech = voice.speak(text)?;
    speech.collect_pcm().await.with_context(|| format!("the voice {} failed", voice.name()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn args(voice: &str, rate: u32, out: PathBuf) -> SayArgs {
        SayArgs { text: "Good morning.".into(), voice: voice.into(), speed: 1.0, rate, out }
    }

    #[tokio::test]
    async fn writes_speech_into_a_wav_file() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("said.wav");
        run(args("flite:slt", 8_000, out.clone())).await.unwrap();
        let (pcm, rate) = wav::read_mono(&out).unwrap();
        assert_eq!(rate, SampleRate::HZ_8000);
        assert!((4_000..16_000).contains(&pcm.len()), "{} samples", pcm.len());
    }

    #[tokio::test]
    async fn says_what_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let fault = run(args("flite:bob", 8_000, folder.path().join("a.wav"))).await.unwrap_err().to_string();
        assert!(fault.contains("rms, slt"), "{fault}");
        let fault = run(args("flite:slt", 11, folder.path().join("a.wav"))).await.unwrap_err().to_string();
        assert!(fault.contains("--rate 11"), "{fault}");
        let fault =
            run(args("flite:slt", 8_000, folder.path().join("no/such/folder.wav"))).await.unwrap_err().to_string();
        assert!(fault.contains("cannot write"), "{fault}");
    }
}
