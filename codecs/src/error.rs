//! What can go wrong in this package.

use crate::SampleRate;

/// Why audio could not be encoded, decoded or resampled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The input slice is empty.
    #[error("there is nothing to work on: the input is empty")]
    Empty,
    /// The output slice cannot hold the result; nothing was written.
    #[error("the output holds {capacity} items where {needed} are needed")]
    OutputTooSmall {
        /// Items (bytes or samples) that the result has.
        needed: usize,
        /// Items that the caller's slice holds.
        capacity: usize,
    },
    /// The codec has no packet for so many samples.
    #[error("{codec} has no frame of {samples} samples")]
    BadFrameLength {
        /// Name of the codec.
        codec: &'static str,
        /// Samples given.
        samples: usize,
    },
    /// The payload is not one of this codec's.
    #[error("{codec} cannot decode a payload of {size_bytes} bytes: {reason}")]
    BadPayload {
        /// Name of the codec.
        codec: &'static str,
        /// Length of the payload.
        size_bytes: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The codec does not work at this rate.
    #[error("{codec} does not take audio at {rate}")]
    UnsupportedRate {
        /// Name of the codec.
        codec: &'static str,
        /// The rate asked for.
        rate: SampleRate,
    },
    /// The resampler has no filter for this pair of rates.
    #[error("cannot resample from {from} to {to}")]
    UnsupportedRatio {
        /// Rate of the input.
        from: SampleRate,
        /// Rate of the output.
        to: SampleRate,
    },
    /// libopus refused.
    #[error("{function} failed: {reason}")]
    Opus {
        /// The function of libopus that failed.
        function: &'static str,
        /// What it says.
        reason: &'static str,
    },
}
