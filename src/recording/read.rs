//! Recordings as pairs of samples, whatever they were written as.

use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;

use anyhow::{Context, bail, ensure};
use codecs::pcm::SampleRate;
use media::recorder::StereoSample;
use media::recorder::opus::OggOpusReader;
use media::sealed;

/// A recording, being read: both sides of each sample, left first. It ends where the file does or breaks off.
pub struct Recorded {
    rate: SampleRate,
    pairs: Box<dyn Iterator<Item = StereoSample>>,
}

impl Recorded {
    /// Opens a recording: WAV of 16 bits and two channels, or Ogg Opus, as the recorder writes them; by what is in it, not by its name.
    ///
    /// # Errors
    /// The file cannot be read, is sealed, or is of another kind.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let cannot_read = || format!("cannot read {}", path.display());
        let mut file = File::open(path).with_context(cannot_read)?;
        let mut begin = [0; 4];
        let begin = match file.read_exact(&mut begin) {
            Ok(()) => begin,
            Err(_) => bail!("{} is too short to be a recording", path.display()),
        };
        file.rewind().with_context(cannot_read)?;
        let file = BufReader::new(file);
        if sealed::MAGIC.starts_with(&begin) {
            bail!("{} is sealed: `omnivox recording open` opens it", path.display());
        }
        if begin == *b"OggS" { Self::opus(path, file) } else { Self::wav(path, file) }
    }

    /// Rate of the samples.
    #[must_use]
    pub fn rate(&self) -> SampleRate {
        self.rate
    }

    /// Reads Ogg Opus.
    pub(super) fn opus(path: &Path, file: impl Read + Seek + 'static) -> anyhow::Result<Self> {
        let mut reader = OggOpusReader::new(file).with_context(|| format!("cannot read {}", path.display()))?;
        let rate = reader.rate();
        let mut some = Vec::new();
        let more = std::iter::from_fn(move || reader.read(&mut some).is_ok_and(|more| more).then(|| some.clone()));
        Ok(Self { rate, pairs: Box::new(more.flatten()) })
    }

    fn wav(path: &Path, file: BufReader<File>) -> anyhow::Result<Self> {
        let reader = hound::WavReader::new(file)
            .with_context(|| format!("cannot read {} as WAV or Ogg Opus", path.display()))?;
        let spec = reader.spec();
        ensure!(
            spec.channels == 2 && spec.bits_per_sample == 16 && spec.sample_format == hound::SampleFormat::Int,
            "{} has {} channels of {} bits; a recording of a call has 2 of 16",
            path.display(),
            spec.channels,
            spec.bits_per_sample
        );
        ensure!((4_000..=192_000).contains(&spec.sample_rate), "{}: a rate of {} Hz", path.display(), spec.sample_rate);
        let mut samples = reader.into_samples::<i16>().map_while(Result::ok);
        let pairs = std::iter::from_fn(move || Some([samples.next()?, samples.next()?]));
        Ok(Self { rate: SampleRate(spec.sample_rate), pairs: Box::new(pairs) })
    }
}

impl Iterator for Recorded {
    type Item = StereoSample;

    fn next(&mut self) -> Option<StereoSample> {
        self.pairs.next()
    }
}
