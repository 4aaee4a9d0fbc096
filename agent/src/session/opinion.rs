//! The deciding opinion on speech, where Silero's model is there: its probability for the newest audio of the line.

use std::sync::Arc;

use codecs::pcm::SampleRate;
use codecs::resample::Resampler;

use crate::ear::silero::{SileroModel, SileroVad};

/// What the model takes.
const RATE: SampleRate = SampleRate::HZ_16000;

/// One line's second opinion. Without a model, or once the model failed, there is none and the fast gate decides alone.
pub(super) struct Opinion {
    vad: Option<SileroVad>,
    resampler: Option<Resampler>,
    rate: SampleRate,
    wide: Vec<i16>,
    latest: Option<f32>,
}

impl Opinion {
    pub(super) fn new(model: Option<Arc<SileroModel>>) -> Self {
        Self { vad: model.map(SileroVad::new), resampler: None, rate: RATE, wide: Vec::new(), latest: None }
    }

    /// Takes a frame; the probability of speech in the newest 32 ms judged so far.
    pub(super) fn hear(&mut self, pcm: &[i16], rate: SampleRate) -> Option<f32> {
        let vad = self.vad.as_mut()?;
        if rate != self.rate {
            self.rate = rate;
            self.resampler = if rate == RATE { None } else { Resampler::new(rate, RATE).ok() };
            vad.reset();
        }
        let judged = match self.resampler.as_mut() {
            None if self.rate == RATE => vad.push(pcm),
            None => return None,
            Some(resampler) => {
                self.wide.resize(resampler.max_output(pcm.len()), 0);
                let made = resampler.process(pcm, &mut self.wide);
                vad.push(self.wide.get(..made).unwrap_or_default())
            }
        };
        match judged {
            Ok(probability) => self.latest = probability.or(self.latest),
            Err(error) => {
                tracing::warn!("the speech detector failed, the fast gate decides alone from here on: {error}");
                self.vad = None;
                self.latest = None;
            }
        }
        self.latest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_model_there_is_no_second_opinion() {
        assert_eq!(Opinion::new(None).hear(&[0; 160], SampleRate::HZ_8000), None);
    }
}
