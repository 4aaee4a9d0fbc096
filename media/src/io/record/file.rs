//! One recording's file: its format, sealed or not, whole up to what was written last.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use aws_lc_rs::rand;
use codecs::CodecError;
use codecs::pcm::SampleRate;

use super::RecordError;
use crate::config::RecorderConfig;
use crate::recorder::opus::OggOpusWriter;
use crate::recorder::{FRAME_BYTES, MAX_WAV_SAMPLES, RecordFormat, StereoSample, wav_header};
use crate::sealed::{Contents, Sealer};

/// A file that is being written.
pub(super) struct RecordFile {
    file: File,
    sealer: Option<Sealer>,
    encoding: Encoding,
    /// To be appended.
    bytes: Vec<u8>,
    rate_hz: u32,
    /// Taken so far.
    samples: u64,
    samples_in_header: u64,
}

enum Encoding {
    Pcm,
    Opus {
        writer: Box<OggOpusWriter>,
        /// What it could not encode.
        fault: Option<CodecError>,
    },
}

impl RecordFile {
    /// Makes the file, for sound at `rate`.
    pub(super) fn create(config: &RecorderConfig, rate: SampleRate) -> Result<Self, RecordError> {
        let path = &config.path;
        let contents = match config.format {
            RecordFormat::Wav => Contents::Pcm,
            RecordFormat::Opus => Contents::OggOpus,
        };
        let sealer = config.seal.as_ref().map(|key| Sealer::new(key, contents, rate.hz())).transpose();
        let sealer = sealer.map_err(|source| RecordError::Seal { path: path.clone(), source })?;
        let encoding = match config.format {
            RecordFormat::Wav => Encoding::Pcm,
            RecordFormat::Opus => {
                let codec = |source| RecordError::Codec { path: path.clone(), source };
                Encoding::Opus { writer: Box::new(OggOpusWriter::new(rate, serial()).map_err(codec)?), fault: None }
            }
        };
        let fault = |source: io::Error| {
            let mend = mend(path, &source);
            RecordError::Create { path: path.clone(), source, mend }
        };
        let mut file = File::create(path).map_err(fault)?;
        match (&sealer, &encoding) {
            (Some(sealer), _) => file.write_all(sealer.head()).map_err(fault)?,
            (None, Encoding::Pcm) => file.write_all(&wav_header(rate.hz(), 0)).map_err(fault)?,
            (None, Encoding::Opus { .. }) => {}
        }
        let (bytes, rate_hz) = (Vec::with_capacity(rate.hz() as usize * FRAME_BYTES), rate.hz());
        let mut this = Self { file, sealer, encoding, bytes, rate_hz, samples: 0, samples_in_header: 0 };
        if matches!(this.encoding, Encoding::Opus { .. }) {
            // The headers are two pages of their own.
            this.append().map_err(fault)?;
        }
        Ok(this)
    }

    /// Takes sound, to be appended.
    pub(super) fn take(&mut self, sound: &[StereoSample]) {
        self.samples += sound.len() as u64;
        match &mut self.encoding {
            Encoding::Pcm => self.bytes.extend(sound.iter().flatten().flat_map(|sample| sample.to_le_bytes())),
            Encoding::Opus { writer, fault } if fault.is_none() => *fault = writer.push(sound).err(),
            Encoding::Opus { .. } => {}
        }
    }

    /// Samples taken so far.
    pub(super) fn samples(&self) -> u64 {
        self.samples
    }

    /// Writes what was taken where that is more than a second: a long silence is written in pieces.
    pub(super) fn relieve(&mut self) -> io::Result<()> {
        if self.bytes.len() > self.rate_hz as usize * FRAME_BYTES { self.append() } else { Ok(()) }
    }

    /// Writes what was taken, so that the file is whole up to there.
    pub(super) fn write(&mut self) -> io::Result<()> {
        self.append()?;
        self.settle_header()
    }

    /// Completes the file.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        if let Encoding::Opus { writer, .. } = &mut self.encoding {
            writer.finish(&mut self.bytes).map_err(io::Error::other)?;
            self.flush()?;
        }
        self.write()?;
        let Some(mut sealer) = self.sealer.take() else { return Ok(()) };
        // The piece that says that it is whole.
        let mut sealed = Vec::new();
        sealer.seal(&[], &mut sealed).map_err(io::Error::other)?;
        self.file.write_all(&sealed)
    }

    /// Leaves the file readable as far as it was written.
    pub(super) fn leave(&mut self) {
        // The header lies in space that the file has; should even this fail, the one before stands.
        let _ = self.settle_header();
    }

    fn append(&mut self) -> io::Result<()> {
        match &mut self.encoding {
            Encoding::Pcm if self.samples > MAX_WAV_SAMPLES => {
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, "a WAV file holds no more than 4 GiB"));
            }
            Encoding::Pcm => {}
            Encoding::Opus { writer, fault } => {
                writer.take_pages(&mut self.bytes);
                if let Some(fault) = fault.take() {
                    return Err(io::Error::other(fault));
                }
            }
        }
        self.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        match &mut self.sealer {
            Some(sealer) => {
                let mut sealed = Vec::with_capacity(self.bytes.len() + 64);
                sealer.seal(&self.bytes, &mut sealed).map_err(io::Error::other)?;
                self.file.write_all(&sealed)?;
            }
            None => self.file.write_all(&self.bytes)?,
        }
        self.bytes.clear();
        Ok(())
    }

    /// Brings the header of a WAV file up to date with what was written.
    fn settle_header(&mut self) -> io::Result<()> {
        let written = self.samples - (self.bytes.len() / FRAME_BYTES) as u64;
        if self.sealer.is_none() && matches!(self.encoding, Encoding::Pcm) && self.samples_in_header != written {
            self.file.write_all_at(&wav_header(self.rate_hz, written), 0)?;
            self.samples_in_header = written;
        }
        Ok(())
    }
}

/// A number for an Ogg stream. Where there is no entropy, any will do.
fn serial() -> u32 {
    let mut serial = [0; 4];
    let _ = rand::fill(&mut serial);
    u32::from_le_bytes(serial)
}

fn mend(path: &Path, error: &io::Error) -> String {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = folder.display();
    match error.kind() {
        io::ErrorKind::NotFound => format!("make the folder (mkdir -p {folder}) or name another"),
        io::ErrorKind::PermissionDenied => format!("let this user write in {folder} or name another folder"),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => format!("make room on the disk of {folder}"),
        io::ErrorKind::IsADirectory => String::from("this is a folder: name a file in it"),
        io::ErrorKind::NotADirectory => format!("{folder} is a file: name a folder"),
        io::ErrorKind::ReadOnlyFilesystem => format!("{folder} cannot be written to: name another folder"),
        _ => format!("see that a file can be made in {folder}"),
    }
}
