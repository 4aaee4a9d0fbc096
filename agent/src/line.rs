//! A line: where the conversation takes place.
//!
//! The session sees a caller only through this trait. Its clock is the line's own: every frame says where it stands
//! since the line opened, and all timings that a session reports are on that clock.

use std::future::Future;

use codecs::pcm::SampleRate;

/// At most this much audio stands in one [`HeardFrame`].
pub const FRAME_MS: u32 = 20;

/// Audio from the caller: at most 20 ms, mono.
#[derive(Debug, Clone, PartialEq)]
pub struct HeardFrame {
    /// Samples, mono, signed 16 bit.
    pub pcm: Vec<i16>,
    /// What the line sent to the caller at the time that this came: as many samples, or none where the line does not
    /// know. What comes back of it is an echo, and no speech of the caller.
    pub sent: Vec<i16>,
    /// The rate of `pcm`.
    pub rate: SampleRate,
    /// How probable speech is in this frame, 0 to 1, as the fast gate judged it.
    pub speech: f32,
    /// True where the audio was lost on the way and this is a guess.
    pub concealed: bool,
    /// Where the first sample stands on the line's clock, in milliseconds since the line opened.
    pub at_ms: f64,
}

impl HeardFrame {
    /// How long the frame is, in milliseconds.
    #[must_use]
    pub fn length_ms(&self) -> f64 {
        let hz = f64::from(self.rate.hz()).max(1.0);
        self.pcm.len() as f64 * 1000.0 / hz
    }

    /// Where the frame ends on the line's clock, in milliseconds.
    #[must_use]
    pub fn end_ms(&self) -> f64 {
        self.at_ms + self.length_ms()
    }
}

/// What happens on a line.
#[derive(Debug, Clone, PartialEq)]
pub enum LineEvent {
    /// Audio from the caller.
    Audio(HeardFrame),
    /// A key that the caller pressed: `0` to `9`, `*`, `#`, `A` to `D`.
    Digit(char),
    /// The caller puts the call on hold, or is here again: [`Line::is_held`] says which. While it is held nobody hears what is said, and what
    /// comes in (music, mostly) is not meant for the agent.
    Held,
    /// Somebody of the house asks something of the agent.
    Asked(Request),
    /// The line is gone. Nothing follows.
    Closed,
}

/// What somebody of the house (a supervisor, a program) asks of the agent while it talks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Say this to the caller now, whatever was to be said.
    Say(String),
    /// Know this from the next answer on; the caller does not hear it.
    Know(String),
}

/// One line with one caller.
///
/// What is said goes into a bounded queue of the line, in *epochs*: [`Line::interrupt`] begins a new one and drops what
/// was queued in the old.
pub trait Line: Send {
    /// The rate of the audio that [`Line::say`] takes.
    fn rate(&self) -> SampleRate;

    /// The next thing that happens. Must be cancel-safe: a future dropped before it is ready loses nothing.
    fn next(&mut self) -> impl Future<Output = LineEvent> + Send;

    /// Queues agent audio at [`Line::rate`]; returns how many samples were taken (fewer when the queue is full).
    fn say(&mut self, pcm: &[i16]) -> usize;

    /// Samples taken but not yet sent.
    fn queued_samples(&self) -> usize;

    /// Samples of the present epoch that were really sent.
    fn played_samples(&self) -> u64;

    /// Begins a new epoch: what is queued is dropped, and `played_samples` counts from 0 again.
    fn interrupt(&mut self);

    /// Scales what is sent from here on: 1 is as it is, 0 silence. The line ramps.
    fn duck(&mut self, gain: f32);

    /// Whether the caller has put the call on hold.
    fn is_held(&self) -> bool {
        false
    }

    /// What is said from here on is nobody else's, or no longer: whoever records the line leaves it out.
    fn set_private(&mut self, is_private: bool) {
        let _ = is_private;
    }
}
