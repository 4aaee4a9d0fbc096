//! WAV files in and out, 16 bit.

use std::path::Path;

use codecs::pcm::SampleRate;

/// Reads a WAV file of 16 bit samples; of several channels the first.
///
/// # Errors
/// The file is missing, is no WAV, or has another sample format; the message says how to convert it.
pub fn read_mono(path: &Path) -> anyhow::Result<(Vec<i16>, SampleRate)> {
    let fix = "convert it: sox IN.wav -b 16 -e signed-integer OUT.wav";
    let mut reader = hound::WavReader::open(path).map_err(|fault| anyhow::anyhow!("cannot read {} as WAV: {fault}", path.display()))?;
    let spec = reader.spec();
    anyhow::ensure!(
        spec.sample_format == hound::SampleFormat::Int && spec.bits_per_sample == 16,
        "{} holds {} bit {:?} samples and 16 bit integers are needed; {fix}",
        path.display(),
        spec.bits_per_sample,
        spec.sample_format
    );
    anyhow::ensure!(spec.sample_rate > 0, "{} says that its sample rate is 0; {fix}", path.display());
    let channels = usize::from(spec.channels.max(1));
    let pcm = reader.samples::<i16>().step_by(channels).collect::<Result<_, _>>();
    let pcm = pcm.map_err(|fault| anyhow::anyhow!("{} breaks off: {fault}", path.display()))?;
    Ok((pcm, SampleRate(spec.sample_rate)))
}
