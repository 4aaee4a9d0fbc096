//! `omnivox recording`: keys for sealed recordings, and what is in them.

mod read;

use std::fs::File;
use std::io::{BufReader, BufWriter, Cursor, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use media::recorder::{FRAME_BYTES, wav_header};
use media::sealed::{Contents, KEY_BYTES, Opened, Opening, SealError, SealKey};

pub use read::Recorded;

use crate::config::Config;
use crate::output::{self, print_line};

/// What recordings are to whoever plays them.
const WAV: &str = "audio/wav";
const OPUS: &str = "audio/ogg";

/// `omnivox recording`
#[derive(Debug, Args)]
pub struct RecordingArgs {
    #[command(subcommand)]
    command: RecordingCommand,
}

#[derive(Debug, Subcommand)]
enum RecordingCommand {
    /// Makes a key for calls.record_key_file, and prints it.
    Key,
    /// Opens a sealed recording, by the key of the configuration or of --key-file.
    Open {
        /// The recording.
        file: PathBuf,
        /// Where it goes; by default beside it. What is inside is WAV or Ogg Opus; a name that ends in .wav makes WAV of either.
        #[arg(long, short, value_name = "FILE")]
        out: Option<PathBuf>,
        /// A file that holds the key, where it is another than the configuration's.
        #[arg(long, value_name = "FILE")]
        key_file: Option<PathBuf>,
    },
}

/// Does it.
///
/// # Errors
/// No key, another key, a file that was changed or cannot be read or written.
pub fn run(args: RecordingArgs, config: &Config) -> anyhow::Result<ExitCode> {
    match args.command {
        RecordingCommand::Key => {
            let mut key = [0; KEY_BYTES];
            aws_lc_rs::rand::fill(&mut key).map_err(|_| anyhow::anyhow!("the system gives no entropy"))?;
            print_line!("{}", STANDARD.encode(key))?;
            Ok(ExitCode::SUCCESS)
        }
        RecordingCommand::Open { file, out, key_file } => {
            let key = match key_file {
                Some(path) => {
                    let text =
                        std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
                    read_key(text.trim()).map_err(|why| anyhow::anyhow!("{}: {why}", path.display()))?
                }
                None => seal_key(config)?.context("there is no key: set calls.record_key_file, or give --key-file")?,
            };
            open(&key, &file, out)
        }
    }
}

/// The key that recordings are sealed with; `None` where they are not.
///
/// # Errors
/// It is no key.
pub fn seal_key(config: &Config) -> anyhow::Result<Option<SealKey>> {
    let text = config.calls.record_key.reveal();
    if text.is_empty() {
        return Ok(None);
    }
    read_key(text).map(Some).map_err(|why| anyhow::anyhow!("calls.record_key: {why}"))
}

/// Reads a key as it stands in files.
pub(crate) fn read_key(text: &str) -> Result<SealKey, String> {
    let bytes = STANDARD.decode(text.trim()).ok().and_then(|bytes| <[u8; KEY_BYTES]>::try_from(bytes).ok());
    let bytes = bytes.ok_or("it is not 32 bytes in base64: `omnivox recording key` makes one")?;
    SealKey::new(&bytes).map_err(|fault| fault.to_string())
}

fn open(key: &SealKey, from: &Path, to: Option<PathBuf>) -> anyhow::Result<ExitCode> {
    let sealed = File::open(from).with_context(|| format!("cannot read {}", from.display()))?;
    let fault = |fault: SealError| anyhow::anyhow!("{}: {fault}", from.display());
    let opening = Opening::begin(key, BufReader::new(sealed)).map_err(fault)?;
    let contents = opening.contents();
    let kind = if contents == Contents::Pcm { "wav" } else { "opus" };
    let to = to.unwrap_or_else(|| from.with_extension(kind));
    let is_wav = to.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("wav"));
    if contents == Contents::Pcm && !is_wav {
        anyhow::bail!("{} holds PCM: give --out a name that ends in .wav", from.display());
    }
    let poured = match (contents, is_wav) {
        (Contents::Pcm, _) => pour_pcm(opening, &to),
        (Contents::OggOpus, false) => pour_as_it_is(opening, &to),
        (Contents::OggOpus, true) => decode(opening, from, &to),
    };
    let (seconds, opened) = poured.inspect_err(|_| {
        // Half a recording that was tampered with is none.
        let _ = std::fs::remove_file(&to);
    })?;
    print_line!("{}: {seconds:.2} s", to.display())?;
    if !opened.is_whole {
        output::tell(format_args!(
            "omnivox: {} has no end: it was cut off there, or its call still runs",
            from.display()
        ));
    }
    Ok(ExitCode::SUCCESS)
}

type Sealed = Opening<BufReader<File>>;

/// Opens a sealed recording for whoever plays it: what it is then, as a media type.
///
/// # Errors
/// The key is another, or the recording was changed.
pub(crate) fn unseal(key: &SealKey, sealed: File, to: &mut File) -> anyhow::Result<&'static str> {
    let opening = Opening::begin(key, BufReader::new(sealed))?;
    match opening.contents() {
        Contents::Pcm => {
            write_pcm(opening, &mut BufWriter::new(to))?;
            Ok(WAV)
        }
        Contents::OggOpus => {
            opening.pour(to)?;
            Ok(OPUS)
        }
    }
}

/// What a recording that is not sealed is, by its name.
pub(crate) fn media_type(path: &Path) -> &'static str {
    if path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("opus")) { OPUS } else { WAV }
}

fn pour_pcm(opening: Sealed, to: &Path) -> anyhow::Result<(f64, Opened)> {
    let cannot_write = || format!("cannot write {}", to.display());
    let rate_hz = opening.rate_hz();
    let mut wav = BufWriter::new(File::create(to).with_context(cannot_write)?);
    let opened = write_pcm(opening, &mut wav).with_context(cannot_write)?;
    let samples = opened.sound_bytes / FRAME_BYTES as u64;
    Ok((samples as f64 / f64::from(rate_hz.max(1)), opened))
}

/// Sound and a header before it.
fn write_pcm(opening: Sealed, wav: &mut (impl Write + Seek)) -> anyhow::Result<Opened> {
    wav.write_all(&wav_header(8_000, 0))?;
    let rate_hz = opening.rate_hz();
    let opened = opening.pour(&mut *wav)?;
    wav.seek(SeekFrom::Start(0))?;
    wav.write_all(&wav_header(rate_hz, opened.sound_bytes / FRAME_BYTES as u64))?;
    wav.flush()?;
    Ok(opened)
}

fn pour_as_it_is(opening: Sealed, to: &Path) -> anyhow::Result<(f64, Opened)> {
    let cannot_write = || format!("cannot write {}", to.display());
    let mut file = BufWriter::new(File::create(to).with_context(cannot_write)?);
    let opened = opening.pour(&mut file)?;
    file.flush().with_context(cannot_write)?;
    let sound = Recorded::open(to)?;
    let rate_hz = sound.rate().hz();
    Ok((sound.count() as f64 / f64::from(rate_hz), opened))
}

fn decode(opening: Sealed, from: &Path, to: &Path) -> anyhow::Result<(f64, Opened)> {
    let cannot_write = || format!("cannot write {}", to.display());
    let mut file = Vec::new();
    let opened = opening.pour(&mut file)?;
    let sound = Recorded::opus(from, Cursor::new(file))?;
    let rate_hz = sound.rate().hz();
    let mut wav = BufWriter::new(File::create(to).with_context(cannot_write)?);
    wav.write_all(&wav_header(rate_hz, 0)).with_context(cannot_write)?;
    let mut samples = 0;
    for [left, right] in sound {
        let bytes = [left.to_le_bytes(), right.to_le_bytes()].concat();
        wav.write_all(&bytes).with_context(cannot_write)?;
        samples += 1;
    }
    wav.seek(SeekFrom::Start(0)).with_context(cannot_write)?;
    wav.write_all(&wav_header(rate_hz, samples)).with_context(cannot_write)?;
    wav.flush().with_context(cannot_write)?;
    Ok((samples as f64 / f64::from(rate_hz), opened))
}
