//! 16-bit PCM out of bytes that arrive in any pieces: raw, or as a WAV file whose length nobody knew when it began.

use std::borrow::Cow;

use codecs::pcm::SampleRate;

/// A header of more than this is no WAV file of speech.
const MAX_HEADER_BYTES: usize = 64 << 10;

/// Sizes from here on mean "not known": programs that stream write one of several such values.
const UNKNOWN_SIZE: u32 = 0x7fff_0000;

/// Bytes to samples.
#[derive(Debug)]
pub(super) struct PcmReader {
    container: Container,
    /// What doesn't make a whole header or sample yet.
    rest: Vec<u8>,
}

#[derive(Debug)]
enum Container {
    Header,
    Data { rate: SampleRate, channels: usize, left_bytes: Option<usize> },
}

/// What is in the way.
pub(super) type Fault = String;

impl PcmReader {
    /// For a WAV file: mono or stereo, 16 bits.
    pub(super) fn wav() -> Self {
        Self { container: Container::Header, rest: Vec::new() }
    }

    /// For raw mono samples, little-endian.
    pub(super) fn raw(rate: SampleRate) -> Self {
        Self { container: Container::Data { rate, channels: 1, left_bytes: None }, rest: Vec::new() }
    }

    /// The rate, once it is known.
    pub(super) fn rate(&self) -> Option<SampleRate> {
        match self.container {
            Container::Header => None,
            Container::Data { rate, .. } => Some(rate),
        }
    }

    /// The bytes that the header promised and that did not come; 0 where it promised nothing.
    pub(super) fn missing_bytes(&self) -> usize {
        match self.container {
            Container::Data { left_bytes: Some(left), .. } => left.saturating_sub(self.rest.len()),
            _ => 0,
        }
    }

    /// The samples in these bytes, mixed to mono.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<Vec<i16>, Fault> {
        self.rest.extend_from_slice(bytes);
        if matches!(self.container, Container::Header) {
            let Some((container, header_bytes)) = read_header(&self.rest)? else {
                if self.rest.len() > MAX_HEADER_BYTES {
                    return Err(format!("no sound in the first {MAX_HEADER_BYTES} bytes of the WAV file"));
                }
                return Ok(Vec::new());
            };
            self.rest.drain(..header_bytes.min(self.rest.len()));
            self.container = container;
        }
        let Container::Data { channels, left_bytes, .. } = &mut self.container else { return Ok(Vec::new()) };
        let frame_bytes = *channels * 2;
        let whole = self.rest.len().min(left_bytes.unwrap_or(usize::MAX)) / frame_bytes * frame_bytes;
        if let Some(left) = left_bytes {
            *left -= whole;
        }
        let pcm = self.rest.get(..whole).unwrap_or_default().chunks_exact(frame_bytes).map(mix).collect();
        self.rest.drain(..whole);
        if matches!(left_bytes, Some(left) if *left < frame_bytes) {
            // What follows the data is no sound.
            self.rest.clear();
        }
        Ok(pcm)
    }
}

fn mix(frame: &[u8]) -> i16 {
    let channels = frame.len() / 2;
    let sum: i32 = frame.as_chunks::<2>().0.iter().map(|sample| i32::from(i16::from_le_bytes(*sample))).sum();
    (sum / channels.max(1) as i32) as i16
}

/// The `data` chunk's beginning and what is in it; `None`: more bytes are needed.
fn read_header(bytes: &[u8]) -> Result<Option<(Container, usize)>, Fault> {
    let Some(head) = bytes.get(..12) else { return Ok(None) };
    if !head.starts_with(b"RIFF") || !head.ends_with(b"WAVE") {
        return Err(format!("it begins with {:?}, not as a WAV file", printable(head)));
    }
    let mut at = 12_usize;
    let mut format = None;
    loop {
        let Some((name, size)) = chunk_head(bytes, at) else { return Ok(None) };
        let body = at + 8;
        if name == *b"data" {
            let (rate, channels) = format.ok_or("the WAV file has no format before its data")?;
            let left_bytes = if size == 0 || size >= UNKNOWN_SIZE { None } else { Some(size as usize) };
            return Ok(Some((Container::Data { rate, channels, left_bytes }, body)));
        }
        let end = body.saturating_add(size as usize).saturating_add(size as usize % 2);
        let Some(chunk) = bytes.get(body..end) else { return Ok(None) };
        if name == *b"fmt " {
            format = Some(read_format(chunk)?);
        }
        at = end;
    }
}

fn chunk_head(bytes: &[u8], at: usize) -> Option<([u8; 4], u32)> {
    let name = bytes.get(at..at + 4)?.try_into().ok()?;
    let size = bytes.get(at + 4..at + 8)?.try_into().ok()?;
    Some((name, u32::from_le_bytes(size)))
}

fn read_format(chunk: &[u8]) -> Result<(SampleRate, usize), Fault> {
    let word = |at: usize| Some(u16::from_le_bytes(chunk.get(at..at + 2)?.try_into().ok()?));
    let rate = chunk.get(4..8).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
    let (Some(kind), Some(channels), Some(rate), Some(bits)) = (word(0), word(2), rate, word(14)) else {
        return Err("the WAV file's format is cut short".into());
    };
    // 0xfffe: "extensible", which says the same further on.
    if !matches!(kind, 1 | 0xfffe) || bits != 16 || !matches!(channels, 1 | 2) || !(4_000..=192_000).contains(&rate) {
        return Err(format!(
            "a WAV file of format {kind} with {channels} channels of {bits} bits at {rate} Hz; 16-bit PCM is read"
        ));
    }
    Ok((SampleRate(rate), usize::from(channels)))
}

/// The start of something, for an error message.
pub(super) fn printable(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn file(channels: u16, bits: u16, data_size: u32, samples: &[i16]) -> Vec<u8> {
        let mut bytes = b"RIFF\xff\xff\xff\xffWAVELIST\x03\0\0\0abc\0fmt \x10\0\0\0\x01\0".to_vec();
        bytes.extend(channels.to_le_bytes());
        bytes.extend(22_050_u32.to_le_bytes());
        bytes.extend([0; 6]);
        bytes.extend(bits.to_le_bytes());
        bytes.extend(b"data");
        bytes.extend(data_size.to_le_bytes());
        bytes.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
        bytes
    }

    #[test]
    fn reads_a_wav_file_in_pieces_of_any_length() {
        let bytes = file(1, 16, UNKNOWN_SIZE, &[1, -2, 3]);
        for size in 1..bytes.len() {
            let mut reader = PcmReader::wav();
            let pcm: Vec<i16> = bytes.chunks(size).flat_map(|piece| reader.push(piece).unwrap()).collect();
            assert_eq!(pcm, [1, -2, 3]);
            assert_eq!(reader.rate(), Some(SampleRate::HZ_22050));
            assert_eq!(reader.missing_bytes(), 0);
        }
    }

    #[test]
    fn mixes_stereo_and_stops_where_the_data_ends() {
        let mut reader = PcmReader::wav();
        assert_eq!(reader.push(&file(2, 16, 8, &[100, 200, -4, -6, 999, 999])).unwrap(), [150, -5]);
        assert_eq!(reader.push(b"more").unwrap(), [0_i16; 0]);
    }

    #[test]
    fn knows_how_much_is_missing() {
        let mut reader = PcmReader::wav();
        assert_eq!(reader.push(&file(1, 16, 100, &[7, 7])).unwrap(), [7, 7]);
        assert_eq!(reader.missing_bytes(), 96);
    }

    #[test]
    fn refuses_what_is_no_16_bit_wav_file() {
        assert!(PcmReader::wav().push(b"{\"error\": 1}").unwrap_err().contains("error"));
        assert!(PcmReader::wav().push(&file(1, 8, 4, &[])).unwrap_err().contains("8 bits"));
        assert!(PcmReader::wav().push(&file(6, 16, 4, &[])).unwrap_err().contains("6 channels"));
        let mut endless = b"RIFF\0\0\0\0WAVEjunk\xff\xff\xff\x00".to_vec();
        endless.resize(MAX_HEADER_BYTES + 1, 0);
        assert!(PcmReader::wav().push(&endless).is_err());
    }

    #[test]
    fn raw_samples_may_be_cut_in_two() {
        let mut reader = PcmReader::raw(SampleRate::HZ_24000);
        assert_eq!(reader.push(&[1]).unwrap(), [0_i16; 0]);
        assert_eq!(reader.push(&[0, 2]).unwrap(), [1]);
        assert_eq!(reader.push(&[0]).unwrap(), [2]);
    }
}
