//! Audio codecs, resampling, loss concealment, time-stretch and speech detection over plain sample buffers.
//!
//! Invariants of this package:
//!
//! - No I/O, no clock, no async, no thread: every function works on the slices it is given.
//! - Whatever is built here allocates when it is built and never again: encoding, decoding,
//!   concealing, resampling and speech detection run on a media thread (`tests/no_allocation.rs`).
//! - What a peer sent never panics. A payload that cannot be decoded is a [`CodecError`].
//! - Audio is 16-bit linear PCM, one channel, at the rate the codec says ([`Encoder::audio_rate`]);
//!   the RTP clock is a separate number ([`registry::CodecSpec::clock_hz`]): G.722 carries 16 kHz
//!   audio under an 8 kHz clock (RFC 3551, section 4.5.2), Opus any rate under 48 kHz (RFC 7587).

pub mod comfort_noise;
pub mod concealment;
mod error;
pub mod g711;
pub mod g722;
pub mod l16;
pub mod opus;
pub mod pcm;
pub mod registry;
pub mod resample;
pub mod speech;
pub mod stretch;

pub use error::CodecError;
pub use pcm::SampleRate;

/// Turns PCM into payloads of one codec. One instance per direction of one stream.
pub trait Encoder: Send {
    /// Rate of the PCM that [`encode`](Self::encode) takes.
    fn audio_rate(&self) -> SampleRate;

    /// Encodes `pcm` (one packet's worth, at [`audio_rate`](Self::audio_rate)) into `out` and
    /// returns the bytes written. `Ok(0)` means that the codec has nothing to send for this audio
    /// (Opus in discontinuous transmission).
    ///
    /// # Errors
    /// An empty frame, a frame length that the codec has no packet for, or too small an `out`.
    /// The encoder stays usable.
    fn encode(&mut self, pcm: &[i16], out: &mut [u8]) -> Result<usize, CodecError>;

    /// Tells the encoder which share of its packets the peer reports lost (RTCP), so that a codec
    /// with forward error correction can spend bits on it. Does nothing where there is none.
    fn set_expected_loss_percent(&mut self, _percent: u8) {}
}

/// Turns payloads of one codec into PCM, and makes up audio where a payload is lost. One instance
/// per received stream: it remembers what it decoded last.
pub trait Decoder: Send {
    /// Rate of the PCM that this decoder writes.
    fn audio_rate(&self) -> SampleRate;

    /// Decodes one payload into `out` and returns the samples written.
    ///
    /// # Errors
    /// An empty or malformed payload, or an `out` too small for [`samples_in`](Self::samples_in)
    /// samples. The decoder stays usable.
    fn decode(&mut self, payload: &[u8], out: &mut [i16]) -> Result<usize, CodecError>;

    /// Fills `out` with audio in place of a lost packet and returns the samples written, which is
    /// `out.len()` for every codec here. Audio fades to silence when the loss goes on.
    fn conceal(&mut self, out: &mut [i16]) -> usize;

    /// Recovers the lost frame before `next_payload` from the redundancy inside it (Opus in-band
    /// FEC). `out` is as long as the lost audio. `Ok(0)` where there is nothing to recover from:
    /// conceal instead. The payload itself has still to be decoded afterwards.
    ///
    /// # Errors
    /// A malformed payload.
    fn recover(&mut self, _next_payload: &[u8], _out: &mut [i16]) -> Result<usize, CodecError> {
        Ok(0)
    }

    /// Audio samples (at [`audio_rate`](Self::audio_rate)) that `payload` decodes to; 0 where it
    /// cannot be decoded.
    fn samples_in(&self, payload: &[u8]) -> usize;
}

/// The first `needed` items of `out`, after the two checks that every codec begins with.
fn room<T>(input_len: usize, needed: usize, out: &mut [T]) -> Result<&mut [T], CodecError> {
    if input_len == 0 {
        return Err(CodecError::Empty);
    }
    let capacity = out.len();
    out.get_mut(..needed).ok_or(CodecError::OutputTooSmall { needed, capacity })
}
