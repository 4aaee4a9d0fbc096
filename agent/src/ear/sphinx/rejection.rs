//! Was it of the grammar at all? The grammar's path against the best sequence of phones, for the same sound.

use super::sys::{Decoded, Segment};

/// Confidence from which an utterance is believed.
pub(super) const ACCEPT: f32 = 0.5;

/// Mean difference of both paths' scores per frame of speech at which accepting and asking again are even.
const EVEN: f32 = -1.5;
/// How fast confidence changes with that difference.
const SLOPE: f32 = 1.5;

/// 0 to 1, one half where it is even.
pub(super) fn confidence(said: &Decoded, sounded: &Decoded) -> f32 {
    if said.text.is_empty() || said.segments.is_empty() {
        return 0.0;
    }
    let frames: i32 = sounded.segments.iter().map(Segment::frames).sum();
    let margin = (said.score - sounded.score) as f32 / frames.max(1) as f32;
    1.0 / (1.0 + (SLOPE * (EVEN - margin)).exp())
}
