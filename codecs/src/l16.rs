//! L16: linear PCM in network byte order, one channel, at any rate (RFC 3551, section 4.5.11).

use crate::concealment::Concealer;
use crate::{CodecError, Decoder, Encoder, SampleRate};

/// PCM to big-endian bytes; frames of any length.
#[derive(Clone, Debug)]
pub struct L16Encoder {
    rate: SampleRate,
}

impl L16Encoder {
    /// An encoder for audio at this rate, which is also its RTP clock.
    #[must_use]
    pub const fn new(rate: SampleRate) -> Self {
        Self { rate }
    }
}

/// Big-endian bytes to PCM, with concealment of losses.
#[derive(Clone, Debug)]
pub struct L16Decoder {
    rate: SampleRate,
    concealer: Concealer,
}

impl L16Decoder {
    /// A decoder for audio at this rate.
    #[must_use]
    pub fn new(rate: SampleRate) -> Self {
        Self { rate, concealer: Concealer::new(rate) }
    }
}

impl Encoder for L16Encoder {
    fn audio_rate(&self) -> SampleRate {
        self.rate
    }

    fn encode(&mut self, pcm: &[i16], out: &mut [u8]) -> Result<usize, CodecError> {
        let out = crate::room(pcm.len(), pcm.len() * 2, out)?;
        for (bytes, sample) in out.chunks_exact_mut(2).zip(pcm) {
            bytes.copy_from_slice(&sample.to_be_bytes());
        }
        Ok(out.len())
    }
}

impl Decoder for L16Decoder {
    fn audio_rate(&self) -> SampleRate {
        self.rate
    }

    fn decode(&mut self, payload: &[u8], out: &mut [i16]) -> Result<usize, CodecError> {
        if !payload.len().is_multiple_of(2) {
            return Err(CodecError::BadPayload {
                codec: "L16",
                size_bytes: payload.len(),
                reason: "half a sample at its end",
            });
        }
        let out = crate::room(payload.len(), payload.len() / 2, out)?;
        let (pairs, _) = payload.as_chunks::<2>();
        for (sample, &bytes) in out.iter_mut().zip(pairs) {
            *sample = i16::from_be_bytes(bytes);
        }
        self.concealer.good(out);
        Ok(out.len())
    }

    fn conceal(&mut self, out: &mut [i16]) -> usize {
        self.concealer.conceal(out);
        out.len()
    }

    fn samples_in(&self, payload: &[u8]) -> usize {
        payload.len() / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_in_network_order_and_nothing_is_lost() -> Result<(), CodecError> {
        let pcm = [0, 1, -1, 258, i16::MIN, i16::MAX];
        let mut bytes = [0; 12];
        let size = L16Encoder::new(SampleRate::HZ_16000).encode(&pcm, &mut bytes)?;
        assert_eq!(size, 12);
        assert_eq!(bytes[6..8], [1, 2]);
        let mut back = [0; 6];
        L16Decoder::new(SampleRate::HZ_16000).decode(&bytes, &mut back)?;
        assert_eq!(back, pcm);
        Ok(())
    }
}
