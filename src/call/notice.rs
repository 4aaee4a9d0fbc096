//! What everybody hears of whom a recording begins: a text in a voice, or a file of the operator's.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, ensure};
use codecs::pcm::SampleRate;

use super::ConversationEnd;
use super::app::{Outcome, Resume, resampled};
use super::held_line::Occupation;
use crate::config::CallsConfig;

/// No announcement is longer, in seconds.
pub const LONGEST_S: usize = 60;

/// The announcement at whatever rate it is asked for; none where there is none.
#[derive(Debug, Default)]
pub struct RecordNotice {
    sound: Option<(Vec<i16>, SampleRate)>,
    made: Mutex<HashMap<u32, Arc<[i16]>>>,
}

impl RecordNotice {
    /// The announcement of the configuration, read or spoken now.
    ///
    /// # Errors
    /// The file cannot be read, the voice fails, or there is nothing in it.
    pub async fn open(config: &CallsConfig) -> anyhow::Result<Self> {
        let text = config.record_announcement.trim();
        if text.is_empty() {
            return Ok(Self::default());
        }
        let key = || format!("calls.record_announcement = {text:?}");
        let (pcm, rate) = if text.to_lowercase().ends_with(".wav") {
            crate::wav::read_mono(Path::new(text)).with_context(key)?
        } else {
            crate::say::speak(&config.record_announcement_voice, text)
                .await
                .with_context(|| format!("calls.record_announcement_voice = {:?}", config.record_announcement_voice))?
        };
        let longest = rate.hz() as usize * LONGEST_S;
        ensure!(!pcm.is_empty(), "{} holds no sound: write a text, or nothing", key());
        ensure!(pcm.len() <= longest, "{} takes more than {LONGEST_S} s: shorten it", key());
        Ok(Self { sound: Some((pcm, rate)), made: Mutex::default() })
    }

    /// It, at this rate.
    #[must_use]
    pub fn at(&self, rate: SampleRate) -> Option<Arc<[i16]>> {
        let (pcm, from) = self.sound.as_ref()?;
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || resampled(pcm, *from, rate).unwrap_or_default().into();
        Some(Arc::clone(made.entry(rate.hz()).or_insert_with(make)))
    }
}

/// Says this first, and gives the line to whoever is to have it then: where the caller is passed on meanwhile and comes back, they begin as well.
#[must_use]
pub fn before(pcm: Arc<[i16]>, then: Occupation) -> Occupation {
    Box::new(move |mut line| {
        Box::pin(async move {
            if line.say_all(&pcm).await {
                return then(line).await;
            }
            let resume = line.is_open().then(|| Resume(Box::new(move |_, line| then(line))));
            Outcome { end: ConversationEnd::LineClosed, line, providers: None, resume }
        })
    })
}

/// Says this, and holds the line as nobody in particular ([`app::idle`](super::app::idle)).
#[must_use]
pub fn and_idle(pcm: Arc<[i16]>) -> Occupation {
    Box::new(move |mut line| {
        Box::pin(async move {
            line.idle_after(&pcm).await;
            Outcome { end: ConversationEnd::LineClosed, line, providers: None, resume: None }
        })
    })
}
