//! `omnivox recording`: keys for sealed recordings, and what is in them.

use std::io::{BufReader, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use media::recorder::{FRAME_BYTES, wav_header};
use media::sealed::{self, KEY_BYTES, SealKey};

use crate::config::Config;

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
    /// Opens a sealed recording into a WAV file, by the key of the configuration or of --key-file.
    Open {
        /// The recording.
        file: PathBuf,
        /// Where it goes; by default beside it.
        #[arg(long, short, value_name = "FILE.wav")]
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
            println!("{}", STANDARD.encode(key));
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
            open(&key, &file, &out.unwrap_or_else(|| file.with_extension("wav")))
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

fn open(key: &SealKey, from: &Path, to: &Path) -> anyhow::Result<ExitCode> {
    let sealed = std::fs::File::open(from).with_context(|| format!("cannot read {}", from.display()))?;
    let cannot_write = || format!("cannot write {}", to.display());
    let mut wav = BufWriter::new(std::fs::File::create(to).with_context(cannot_write)?);
    wav.write_all(&wav_header(8_000, 0)).with_context(cannot_write)?;
    let opened = match sealed::open(key, BufReader::new(sealed), &mut wav) {
        Ok(opened) => opened,
        Err(fault) => {
            drop(wav);
            // Half a recording that was tampered with is none.
            let _ = std::fs::remove_file(to);
            anyhow::bail!("{}: {fault}", from.display());
        }
    };
    wav.seek(SeekFrom::Start(0)).with_context(cannot_write)?;
    let samples = opened.sound_bytes / FRAME_BYTES as u64;
    wav.write_all(&wav_header(opened.rate_hz, samples)).with_context(cannot_write)?;
    wav.flush().with_context(cannot_write)?;
    println!("{}: {:.2} s", to.display(), samples as f64 / f64::from(opened.rate_hz.max(1)));
    if !opened.is_whole {
        eprintln!("omnivox: {} has no end: it was cut off there, or its call still runs", from.display());
    }
    Ok(ExitCode::SUCCESS)
}
