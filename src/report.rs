//! `omnivox report`: a recorded call as one HTML file that needs nothing else, and the figures of its wire audio.
//!
//! The page shows what the call's record says (turns, gaps, what each answer waited for, packets) beside what the
//! recording says ([`gaps`]): the first is the program's own clock, the second what the caller heard.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use agent::session::TurnRecord;
use anyhow::Context;
use clap::Args;

use crate::call::record::CallRecord;
use crate::output::print_line;
use gaps::Measured;
use sound::Sound;

pub mod gaps;
mod page;
pub mod sound;
mod style;
mod timeline;

/// A recording up to this size goes into the page; a larger one is linked to.
pub const MAX_EMBEDDED_BYTES: u64 = 4 << 20;

/// Arguments of `omnivox report`.
#[derive(Debug, Clone, Args)]
pub struct ReportArgs {
    /// Call records, one a line, as `serve` writes them.
    #[arg(value_name = "CALLS.jsonl", default_value = "data/calls.jsonl")]
    pub records: PathBuf,
    /// The recording, WAV or Ogg Opus: stereo, caller left, agent right. Without it the one that the record names.
    #[arg(value_name = "RECORDING")]
    pub wav: Option<PathBuf>,
    /// The call's id; without it the last one with a conversation.
    #[arg(long, value_name = "ID")]
    pub call: Option<String>,
    /// Where the page goes.
    #[arg(long, short, value_name = "FILE.html", default_value = "report.html")]
    pub out: PathBuf,
    /// Writes no page: measures the recordings given here (several are taken together) and prints JSON. Where CALLS.jsonl
    /// has a recording's call, answers to keys and what the agent said unasked are left out.
    #[arg(long, value_name = "RECORDING", num_args = 1.., conflicts_with_all = ["call", "out"])]
    pub measure: Vec<PathBuf>,
}

/// Makes the page, or measures recordings.
///
/// # Errors
/// No such record, a recording that cannot be read, a page that cannot be written.
pub fn run(args: &ReportArgs) -> anyhow::Result<ExitCode> {
    if !args.measure.is_empty() {
        print_line!("{}", serde_json::to_string(&measure(&args.measure, &args.records)?)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let record = find(&args.records, args.call.as_deref())?;
    let wav = args.wav.clone().or_else(|| record.recording.clone());
    write(&record, wav.as_deref(), &args.out)?;
    print_line!("{}", args.out.display())?;
    Ok(ExitCode::SUCCESS)
}

/// Writes the page of a call. Without a recording it has no waveforms, and the record's own figures alone.
///
/// # Errors
/// The recording cannot be read, or the page not be written.
pub fn write(record: &CallRecord, wav: Option<&Path>, out: &Path) -> anyhow::Result<()> {
    let turns = record.agent.as_ref().map_or(&[][..], |agent| &agent.turns);
    let heard = wav.map(|wav| Heard::read(wav, turns)).transpose()?;
    let html = page::render(record, heard.as_ref());
    let mut file = std::fs::File::create(out).with_context(|| format!("cannot write {}", out.display()))?;
    file.write_all(html.as_bytes()).with_context(|| format!("cannot write {}", out.display()))
}

/// The figures of a call's recording.
///
/// # Errors
/// The recording cannot be read.
pub fn measure_call(record: &CallRecord, wav: &Path) -> anyhow::Result<Measured> {
    let mut measured = Measured::of(&Sound::read(wav)?);
    measured.agree_with(record.agent.as_ref().map_or(&[][..], |agent| &agent.turns));
    Ok(measured)
}

/// The spreads over several recordings.
fn measure(files: &[PathBuf], records: &Path) -> anyhow::Result<serde_json::Value> {
    let known = if records.exists() { read_records(records)? } else { Vec::new() };
    let mut all = Vec::new();
    for file in files {
        let name = file.file_name();
        let record = known.iter().find(|record| record.recording.as_deref().and_then(Path::file_name) == name);
        all.push(match record {
            Some(record) => measure_call(record, file)?,
            None => Measured::of(&Sound::read(file)?),
        });
    }
    let gaps = gaps::Spread::of(all.iter().flat_map(|one| one.answers.iter().map(|answer| answer.gap_ms)));
    let silencing = gaps::Spread::of(all.iter().flat_map(|one| one.interruptions.iter().map(|cut| cut.took_ms)));
    let recordings: Vec<_> =
        files.iter().zip(&all).map(|(file, one)| serde_json::json!({"file": file, "measured": one})).collect();
    Ok(serde_json::json!({"gaps": gaps, "silencing": silencing, "recordings": recordings}))
}

/// The record of this id, or the last one with a conversation, or else the last one.
fn find(path: &Path, id: Option<&str>) -> anyhow::Result<CallRecord> {
    let mut records = read_records(path)?;
    let found = match id {
        Some(id) => records.iter().rposition(|record| record.call == id),
        None => records.iter().rposition(|record| record.agent.is_some()).or(records.len().checked_sub(1)),
    };
    found.map(|index| records.swap_remove(index)).with_context(|| match id {
        Some(id) => format!("{} has no call {id}", path.display()),
        None => format!("{} has no calls", path.display()),
    })
}

fn read_records(path: &Path) -> anyhow::Result<Vec<CallRecord>> {
    let file = std::fs::File::open(path).with_context(|| {
        format!("cannot read the call records {}; name the file that `serve` writes", path.display())
    })?;
    let mut records = Vec::new();
    for (number, line) in BufReader::new(file).lines().enumerate() {
        let line = line.with_context(|| format!("cannot read {}", path.display()))?;
        if !line.trim().is_empty() {
            let fault = || format!("line {} of {} is no call record", number + 1, path.display());
            records.push(serde_json::from_str(&line).with_context(fault)?);
        }
    }
    Ok(records)
}

/// A recording, read and measured.
struct Heard {
    sound: Sound,
    measured: Measured,
    /// What to add to the record's times to be on the recording's.
    offset_ms: f64,
    source: Source,
}

/// How the page plays the recording.
enum Source {
    /// The file itself, in base64, and its media type.
    Embedded(String, &'static str),
    /// Too large: its name, to be looked for beside the page.
    Linked(String),
}

impl Heard {
    fn read(path: &Path, turns: &[TurnRecord]) -> anyhow::Result<Self> {
        let sound = Sound::read(path)?;
        let size_bytes = std::fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?.len();
        let source = if size_bytes <= MAX_EMBEDDED_BYTES {
            let file = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            Source::Embedded(base64(&file), if file.starts_with(b"OggS") { "audio/ogg" } else { "audio/wav" })
        } else {
            Source::Linked(path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default())
        };
        let mut measured = Measured::of(&sound);
        let offset_ms = measured.agree_with(turns);
        Ok(Self { measured, offset_ms, sound, source })
    }
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4_usize {
            let value = bits >> (18 - 6 * digit) & 63;
            let known = digit <= group.len();
            out.push(if known { char::from(DIGITS[value as usize]) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests;
