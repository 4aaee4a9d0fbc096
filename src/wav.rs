//! WAV files in and out, 16 bit.

use std::path::Path;

use codecs::pcm::SampleRate;

/// Reads a WAV file of 16 bit samples; of several channels the first.
///
/// # Errors
/// The file is missing, is no WAV, or has another sample format; the message says how to convert it.
pub fn read_mono(path: &Path) -> anyhow::Result<(Vec<i16>, SampleRate)> {
    let fix = "convert it: sox IN.wav -r 16000 -b 16 -e signed-integer OUT.wav";
    let mut reader = hound::WavReader::open(path)
        .map_err(|fault| anyhow::anyhow!("cannot read {} as WAV: {fault}", path.display()))?;
    let spec = reader.spec();
    anyhow::ensure!(
        spec.sample_format == hound::SampleFormat::Int && spec.bits_per_sample == 16,
        "{} holds {} bit {:?} samples and 16 bit integers are needed; {fix}",
        path.display(),
        spec.bits_per_sample,
        spec.sample_format
    );
    anyhow::ensure!(spec.sample_rate > 0, "{} says that its sample rate is 0; {fix}", path.display());
    let rate = SampleRate(spec.sample_rate);
    codecs::resample::Resampler::new(rate, SampleRate::HZ_16000)
        .map_err(|fault| anyhow::anyhow!("{}: {fault}; {fix}", path.display()))?;
    let channels = usize::from(spec.channels.max(1));
    let pcm = reader.samples::<i16>().step_by(channels).collect::<Result<_, _>>();
    let pcm = pcm.map_err(|fault| anyhow::anyhow!("{} breaks off: {fault}", path.display()))?;
    Ok((pcm, rate))
}

/// Writes a WAV file of one channel, 16 bit.
///
/// # Errors
/// The file cannot be written.
pub fn write_mono(path: &Path, pcm: &[i16], rate: SampleRate) -> anyhow::Result<()> {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: rate.hz(),
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let fault = |fault| anyhow::anyhow!("cannot write {}: {fault}", path.display());
    let mut writer = hound::WavWriter::create(path, spec).map_err(fault)?;
    for &sample in pcm {
        writer.write_sample(sample).map_err(fault)?;
    }
    writer.finalize().map_err(fault)
}
