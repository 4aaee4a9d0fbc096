//! Sound that is played over and over to whoever waits: music on hold, a tone of ringing.

use std::sync::Arc;

use super::Leg;

/// A piece of sound at the leg's audio rate. The worker gives it back to be dropped.
pub(crate) struct Music {
    pcm: Arc<[i16]>,
    at: usize,
}

impl Music {
    /// `pcm` from its beginning; `None` where there is nothing to play.
    pub(crate) fn new(pcm: Arc<[i16]>) -> Option<Box<Self>> {
        (!pcm.is_empty()).then(|| Box::new(Music { pcm, at: 0 }))
    }

    pub(super) fn fill(&mut self, frame: &mut [i16]) {
        for place in frame {
            *place = self.pcm.get(self.at).copied().unwrap_or(0);
            self.at = (self.at + 1) % self.pcm.len().max(1);
        }
    }

    /// The same on top of what is in `frame`.
    pub(super) fn add(&mut self, frame: &mut [i16]) {
        for place in frame {
            *place = place.saturating_add(self.pcm.get(self.at).copied().unwrap_or(0));
            self.at = (self.at + 1) % self.pcm.len().max(1);
        }
    }
}

impl Leg {
    /// Plays this where nothing else is said, or nothing any more; gives back what was played so far.
    pub(crate) fn exchange_music(&mut self, music: Option<Box<Music>>) -> Option<Box<Music>> {
        std::mem::replace(&mut self.music, music)
    }
}
