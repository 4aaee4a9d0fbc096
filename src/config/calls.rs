//! `[calls]`: limits and habits of each call, and how it is recorded.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Config, ConfigError, Secret};

/// A tone that comes less often than this, in seconds, tells nobody.
pub const RECORD_TONE_S_LIMIT: u64 = 60;

/// What recordings are written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RecordingFormat {
    /// WAV, 16-bit PCM: 115 MB an hour at 8 kHz.
    Wav,
    /// Ogg Opus, a stream for each side.
    Opus,
}

impl From<RecordingFormat> for media::RecordFormat {
    fn from(format: RecordingFormat) -> Self {
        match format {
            RecordingFormat::Wav => Self::Wav,
            RecordingFormat::Opus => Self::Opus,
        }
    }
}

/// `[calls]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CallsConfig {
    /// Calls at once; the next one gets 486.
    pub max: usize,
    /// A call is ended after this long, in seconds.
    pub max_duration_s: u64,
    /// Record calls with an agent under `data.dir/recordings`, in stereo: the caller left.
    pub record: bool,
    /// Record calls between people too: whoever called left, whoever was called right.
    pub record_bridged: bool,
    /// Record conferences too: everybody in one file.
    pub record_conferences: bool,
    /// What recordings are written as.
    pub record_format: RecordingFormat,
    /// Said to each party when recording of them begins, in the recording too: a text, or the path of a WAV file (it ends in `.wav`). Empty: nothing is.
    pub record_announcement: String,
    /// Who says it, as in `omnivox say --voice`; the same voice reads to people who is put through to them, where no agent has the call.
    pub record_announcement_voice: String,
    /// Everybody who is recorded hears a quiet beep so often, in seconds; 0: never.
    pub record_tone_s: u64,
    /// Recordings are sealed with this key (32 bytes in base64, from `omnivox recording key`). Empty: they are not.
    pub record_key: Secret,
    /// A file that holds it alone.
    pub record_key_file: PathBuf,
    /// An environment variable that holds it.
    pub record_key_env: String,
    /// A WAV file (16 bit) that those hear who wait; empty takes music of our own.
    pub music: PathBuf,
    /// Whoever is parked waits this long, in seconds; then the device that put them there is called back.
    pub park_s: u64,
    /// How long a stop waits for running calls, in seconds.
    pub drain_s: u64,
}

impl Default for CallsConfig {
    fn default() -> Self {
        Self {
            max: 1_000,
            max_duration_s: 3_600,
            record: true,
            record_bridged: false,
            record_conferences: false,
            record_format: RecordingFormat::Wav,
            record_announcement: String::new(),
            record_announcement_voice: "flite:slt".to_owned(),
            record_tone_s: 0,
            record_key: Secret::default(),
            record_key_file: PathBuf::new(),
            record_key_env: String::new(),
            music: PathBuf::new(),
            park_s: 300,
            drain_s: 10,
        }
    }
}

impl CallsConfig {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let bad = |key: &'static str, value: String, fix: &'static str| Err(ConfigError::Value { key, value, fix });
        if self.max == 0 {
            return bad("calls.max", "0".into(), "write a number from 1");
        }
        if !self.record_key.is_empty() && crate::recording::read_key(self.record_key.reveal()).is_err() {
            return bad(
                "calls.record_key",
                "(hidden)".into(),
                "write 32 bytes in base64: `omnivox recording key` makes them",
            );
        }
        if self.record_tone_s > RECORD_TONE_S_LIMIT {
            let mend = "write seconds up to 60, or 0 for no tone; 15 is usual";
            return bad("calls.record_tone_s", self.record_tone_s.to_string(), mend);
        }
        if self.max_duration_s == 0 {
            return bad("calls.max_duration_s", "0".into(), "write a number of seconds from 1");
        }
        Ok(())
    }
}

impl Config {
    /// The folder recordings go to.
    #[must_use]
    pub fn recordings_dir(&self) -> PathBuf {
        self.data.dir.join("recordings")
    }

    /// Whether any calls are recorded.
    #[must_use]
    pub fn records_calls(&self) -> bool {
        self.calls.record || self.calls.record_bridged || self.calls.record_conferences
    }

    /// The recording of the call of this id.
    #[must_use]
    pub fn recorder_config(&self, call: &str) -> media::RecorderConfig {
        // Checked when the configuration was read.
        let seal = crate::recording::seal_key(self).ok().flatten();
        let format: media::RecordFormat = self.calls.record_format.into();
        let kind = match (&seal, format) {
            (Some(_), _) => "ovrec",
            (None, media::RecordFormat::Wav) => "wav",
            (None, media::RecordFormat::Opus) => "opus",
        };
        let path = self.recordings_dir().join(format!("{call}.{kind}"));
        let tone_every = Some(self.calls.record_tone_s).filter(|every| *every > 0).map(Duration::from_secs);
        media::RecorderConfig { path, format, seal, tone_every, rate: None }
    }

    /// A recording in this file: Ogg Opus where it is named so, otherwise WAV.
    #[must_use]
    pub fn recorder_config_at(&self, path: PathBuf) -> media::RecorderConfig {
        let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase()).unwrap_or_default();
        let is_opus = matches!(ending.as_str(), "opus" | "ogg" | "oga");
        let format = if is_opus { media::RecordFormat::Opus } else { media::RecordFormat::Wav };
        media::RecorderConfig { path, format, ..self.recorder_config("") }
    }
}
