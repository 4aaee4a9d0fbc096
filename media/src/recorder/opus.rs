//! Recordings as Ogg Opus (RFC 7845): each side a stream of its own within one file, so that neither is heard on the other's
//! channel, whatever the encoder saves.
//!
//! Opus couples the channels of a stereo stream, and a caller who speaks alone would be heard faintly on the right. So the file has
//! mapping family 1 with two streams of one channel (RFC 7845 section 5.1.1.2), each of them tuned for speech: every player knows it. A
//! packet is 20 ms of both: the left one delimits itself (RFC 6716 appendix B), the right one follows.
//!
//! Invariants: a page's granule position counts the samples (at 48 kHz) that can be played up to its end, with those to be skipped at the
//! beginning, so that sample n of the timeline is sample n of what is played; a file that was cut off anywhere is good up to its last page.

use std::io::{self, Read, Seek};

use codecs::opus::{CLOCK_HZ, OpusDecoder, OpusEncoder};
use codecs::pcm::SampleRate;
use codecs::registry::OpusParams;
use codecs::{CodecError, Decoder, Encoder};
use ogg::{OggReadError, PacketReader, PacketWriteEndInfo, PacketWriter};
use thiserror::Error;

use super::StereoSample;

/// Sound in one packet.
const PACKET_MS: u32 = 20;
/// The same in ticks of the granule position.
const PACKET_TICKS: u64 = CLOCK_HZ as u64 / 1_000 * PACKET_MS as u64;
/// A page ends after so many packets: a second (RFC 7845 section 6 wants no more).
const PAGE_PACKETS: u64 = 1_000 / PACKET_MS as u64;
/// Bytes of one side's packet at most (RFC 6716 section 3.2.1), and its TOC.
const MAX_SIDE_BYTES: usize = 1_276;
/// Lengths from here on take two bytes (RFC 6716 section 3.2.1).
const LONG: usize = 252;
/// The identification header (RFC 7845 section 5.1) of two channels in two streams.
const HEAD_BYTES: usize = 23;
/// Its last bytes: family 1, two streams, none of them coupled, left is the first and right the second.
const MAPPING: [u8; 5] = [1, 2, 0, 0, 1];
const HEAD_MAGIC: &[u8; 8] = b"OpusHead";
const TAGS_MAGIC: &[u8; 8] = b"OpusTags";
/// So many packets of silence are encoded; those after them are the last one again: hours of it cost nothing.
const SILENT_PACKETS: u32 = 5;
/// Who wrote the file, in its comments.
const VENDOR: &[u8] = b"omnivox";

/// Makes the bytes of an Ogg Opus file out of both sides' samples.
pub struct OggOpusWriter {
    sides: [EncodedSide; 2],
    /// Samples that are not a whole packet yet.
    pending: Vec<StereoSample>,
    packet_samples: usize,
    ticks_per_sample: u64,
    pages: PacketWriter<'static, Vec<u8>>,
    /// The last packet and the granule position behind it: whether it ends its page is known later.
    held: Option<(Vec<u8>, u64)>,
    serial: u32,
    packets: u64,
    samples: u64,
    pre_skip: u64,
}

impl OggOpusWriter {
    /// A file for sound at `rate`, with its headers. `serial` is the stream's number: files that are to be chained want different ones.
    ///
    /// # Errors
    /// A rate that Opus has not (see [`nearest_rate`]), or a refusal by libopus.
    pub fn new(rate: SampleRate, serial: u32) -> Result<Self, CodecError> {
        let params = OpusParams { fec: false, dtx: false, ..OpusParams::default() };
        let side = || OpusEncoder::new(rate, &params).map(|encoder| EncodedSide { encoder, last: vec![], silent: 0 });
        let mut sides = [side()?, side()?];
        let ticks_per_sample = u64::from(CLOCK_HZ / rate.hz().max(1));
        let pre_skip = sides[0].encoder.lookahead_samples()? as u64 * ticks_per_sample;
        let mut writer = Self {
            sides,
            pending: Vec::with_capacity(rate.samples_in_ms(PACKET_MS)),
            packet_samples: rate.samples_in_ms(PACKET_MS),
            ticks_per_sample,
            pages: PacketWriter::new(Vec::new()),
            held: None,
            serial,
            packets: 0,
            samples: 0,
            pre_skip,
        };
        writer.page(head(rate, pre_skip), 0);
        writer.page(tags(), 0);
        Ok(writer)
    }

    /// Takes samples of both sides.
    ///
    /// # Errors
    /// A refusal by libopus; the file is then good up to what was taken before.
    pub fn push(&mut self, sound: &[StereoSample]) -> Result<(), CodecError> {
        self.samples += sound.len() as u64;
        self.encode(sound)
    }

    /// Ends the page and puts what was made so far behind `out`: 20 ms or less stay behind.
    pub fn take_pages(&mut self, out: &mut Vec<u8>) {
        self.release(PacketWriteEndInfo::EndPage);
        out.append(self.pages.inner_mut());
    }

    /// Completes the file: its end is that of the last sample, to the sample.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), CodecError> {
        let end = self.pre_skip + self.samples * self.ticks_per_sample;
        while self.packets * PACKET_TICKS < end || self.held.is_none() {
            let missing = self.packet_samples - self.pending.len();
            self.encode(&vec![[0; 2]; missing])?;
        }
        if let Some((_, granule)) = &mut self.held {
            *granule = end;
        }
        self.release(PacketWriteEndInfo::EndStream);
        out.append(self.pages.inner_mut());
        Ok(())
    }

    fn encode(&mut self, mut sound: &[StereoSample]) -> Result<(), CodecError> {
        while !sound.is_empty() {
            let (now, later) = sound.split_at(sound.len().min(self.packet_samples - self.pending.len()));
            self.pending.extend_from_slice(now);
            sound = later;
            if self.pending.len() == self.packet_samples {
                let packet = self.packet();
                self.pending.clear();
                self.hold(packet?);
            }
        }
        Ok(())
    }

    /// One packet of what is pending.
    fn packet(&mut self) -> Result<Vec<u8>, CodecError> {
        let mut packet = Vec::with_capacity(128);
        let [left, right] = &mut self.sides;
        delimit(left.encode(self.pending.iter().map(|pair| pair[0]).collect())?, &mut packet)?;
        packet.extend_from_slice(right.encode(self.pending.iter().map(|pair| pair[1]).collect())?);
        Ok(packet)
    }

    fn hold(&mut self, packet: Vec<u8>) {
        let is_full = self.packets.is_multiple_of(PAGE_PACKETS);
        self.release(if is_full { PacketWriteEndInfo::EndPage } else { PacketWriteEndInfo::NormalPacket });
        self.packets += 1;
        self.held = Some((packet, self.packets * PACKET_TICKS));
    }

    fn release(&mut self, how: PacketWriteEndInfo) {
        if let Some((packet, granule)) = self.held.take() {
            // a vector takes everything
            let _ = self.pages.write_packet(packet, self.serial, how, granule);
        }
    }

    fn page(&mut self, packet: Vec<u8>, granule: u64) {
        let _ = self.pages.write_packet(packet, self.serial, PacketWriteEndInfo::EndPage, granule);
    }
}

/// One side's encoder.
struct EncodedSide {
    encoder: OpusEncoder,
    last: Vec<u8>,
    /// Packets of silence that came last.
    silent: u32,
}

impl EncodedSide {
    fn encode(&mut self, pcm: Vec<i16>) -> Result<&[u8], CodecError> {
        self.silent = if pcm.iter().all(|sample| *sample == 0) { self.silent.saturating_add(1) } else { 0 };
        if self.silent <= SILENT_PACKETS {
            self.last.resize(MAX_SIDE_BYTES, 0);
            let size = self.encoder.encode(&pcm, &mut self.last)?;
            self.last.truncate(size);
        }
        Ok(&self.last)
    }
}

impl std::fmt::Debug for OggOpusWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OggOpusWriter").field("samples", &self.samples).finish_non_exhaustive()
    }
}

/// Reads what [`OggOpusWriter`] wrote.
pub struct OggOpusReader<R: Read + Seek> {
    packets: PacketReader<R>,
    sides: [OpusDecoder; 2],
    rate: SampleRate,
    /// Samples still to be left out at the beginning.
    skip: usize,
    /// Samples given out.
    given: u64,
    pre_skip: u64,
    is_over: bool,
    is_whole: bool,
}

/// Why a file cannot be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OggOpusError {
    /// It is another kind of file.
    #[error("it is no Ogg Opus file with a stream for each side, as recordings are")]
    OtherKind,
    /// A page or a packet is damaged.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// The file cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// libopus cannot.
    #[error(transparent)]
    Codec(#[from] CodecError),
}

impl<R: Read + Seek> OggOpusReader<R> {
    /// Reads the headers.
    ///
    /// # Errors
    /// [`OggOpusError::OtherKind`] where it is no such file.
    pub fn new(file: R) -> Result<Self, OggOpusError> {
        let mut packets = PacketReader::new(file);
        let mut header = || match packets.read_packet() {
            Ok(Some(packet)) => Ok(packet.data),
            Ok(None) | Err(OggReadError::NoCapturePatternFound) => Err(OggOpusError::OtherKind),
            Err(fault) => Err(read_fault(fault)),
        };
        let (rate, pre_skip) = read_head(&header()?).ok_or(OggOpusError::OtherKind)?;
        if !header()?.starts_with(TAGS_MAGIC) {
            return Err(OggOpusError::OtherKind);
        }
        let ticks_per_sample = u64::from(CLOCK_HZ / rate.hz());
        Ok(Self {
            packets,
            sides: [OpusDecoder::new(rate)?, OpusDecoder::new(rate)?],
            rate,
            skip: (u64::from(pre_skip) / ticks_per_sample) as usize,
            given: 0,
            pre_skip: pre_skip.into(),
            is_over: false,
            is_whole: false,
        })
    }

    /// Rate of the samples.
    #[must_use]
    pub fn rate(&self) -> SampleRate {
        self.rate
    }

    /// Whether the file has its end; known once all was read. One that has not was cut off behind what there is.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Puts the next samples into `out`; false at the end.
    ///
    /// # Errors
    /// [`OggOpusError`]; what came before is good.
    pub fn read(&mut self, out: &mut Vec<StereoSample>) -> Result<bool, OggOpusError> {
        out.clear();
        if self.is_over {
            return Ok(false);
        }
        let packet = match self.packets.read_packet() {
            Ok(Some(packet)) => packet,
            Ok(None) => return Ok(self.end()),
            // The last page was not written to its end.
            Err(OggReadError::ReadError(fault)) if fault.kind() == io::ErrorKind::UnexpectedEof => {
                return Ok(self.end());
            }
            Err(fault) => return Err(read_fault(fault)),
        };
        let damaged = || OggOpusError::Damaged("a packet is none of both sides".into());
        let (left, right) = split(&packet.data).ok_or_else(damaged)?;
        let samples = self.rate.samples_in_ms(PACKET_MS);
        out.resize(samples, [0; 2]);
        for ((n, decoder), packet) in self.sides.iter_mut().enumerate().zip([&left[..], right]) {
            let mut pcm = [0; (PACKET_TICKS) as usize];
            let pcm = pcm.get_mut(..samples).unwrap_or_default();
            if decoder.samples_in(packet) != samples {
                return Err(damaged());
            }
            decoder.decode(packet, pcm)?;
            for (place, sample) in out.iter_mut().filter_map(|pair| pair.get_mut(n)).zip(pcm) {
                *place = *sample;
            }
        }
        let skipped = self.skip.min(out.len());
        out.drain(..skipped);
        self.skip -= skipped;
        if packet.last_in_stream() {
            (self.is_over, self.is_whole) = (true, true);
            let ticks = packet.absgp_page().saturating_sub(self.pre_skip);
            let end = ticks / u64::from(CLOCK_HZ / self.rate.hz());
            out.truncate(usize::try_from(end.saturating_sub(self.given)).unwrap_or(usize::MAX));
        }
        self.given += out.len() as u64;
        Ok(true)
    }

    fn end(&mut self) -> bool {
        self.is_over = true;
        false
    }
}

/// The rate that sound of `rate` is recorded at: the lowest that Opus has and that loses nothing.
#[must_use]
pub fn nearest_rate(rate: SampleRate) -> SampleRate {
    let rates = [SampleRate::HZ_8000, SampleRate(12_000), SampleRate::HZ_16000, SampleRate::HZ_24000];
    rates.into_iter().find(|opus| *opus >= rate).unwrap_or(SampleRate::HZ_48000)
}

fn head(rate: SampleRate, pre_skip: u64) -> Vec<u8> {
    let mut head = Vec::with_capacity(HEAD_BYTES);
    head.extend_from_slice(HEAD_MAGIC);
    head.extend([1, 2]);
    head.extend((pre_skip as u16).to_le_bytes());
    head.extend(rate.hz().to_le_bytes());
    head.extend([0, 0]);
    head.extend(MAPPING);
    head
}

fn read_head(head: &[u8]) -> Option<(SampleRate, u16)> {
    let (magic, rest) = head.split_first_chunk::<8>()?;
    let (version_and_channels, rest) = rest.split_first_chunk::<2>()?;
    let (pre_skip, rest) = rest.split_first_chunk::<2>()?;
    let (rate_hz, rest) = rest.split_first_chunk::<4>()?;
    let (gain, mapping) = rest.split_first_chunk::<2>()?;
    let rate = SampleRate(u32::from_le_bytes(*rate_hz));
    let is_ours = magic == HEAD_MAGIC && *version_and_channels == [1, 2] && *gain == [0, 0] && *mapping == MAPPING;
    let is_known = nearest_rate(rate) == rate;
    (is_ours && is_known).then(|| (rate, u16::from_le_bytes(*pre_skip)))
}

fn tags() -> Vec<u8> {
    let mut tags = TAGS_MAGIC.to_vec();
    tags.extend((VENDOR.len() as u32).to_le_bytes());
    tags.extend_from_slice(VENDOR);
    tags.extend(0_u32.to_le_bytes());
    tags
}

/// Puts a packet of one frame behind `out` so that its end can be told (RFC 6716 appendix B).
fn delimit(packet: &[u8], out: &mut Vec<u8>) -> Result<(), CodecError> {
    let of_one_frame = packet.split_first().filter(|(toc, _)| *toc & 3 == 0);
    let (toc, frame) = of_one_frame.ok_or(CodecError::BadPayload {
        codec: "opus",
        size_bytes: packet.len(),
        reason: "a packet of 20 ms is one frame",
    })?;
    out.push(*toc);
    if frame.len() < LONG {
        out.push(frame.len() as u8);
    } else {
        let low = LONG + (frame.len() & 3);
        out.extend([low as u8, ((frame.len() - low) / 4) as u8]);
    }
    out.extend_from_slice(frame);
    Ok(())
}

/// Both sides' packets.
fn split(packet: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let (toc, rest) = packet.split_first().filter(|(toc, _)| *toc & 3 == 0)?;
    let (first, mut rest) = rest.split_first()?;
    let mut length = usize::from(*first);
    if length >= LONG {
        let (second, behind) = rest.split_first()?;
        length += usize::from(*second) * 4;
        rest = behind;
    }
    let (frame, right) = rest.split_at_checked(length)?;
    Some(([&[*toc], frame].concat(), right))
}

fn read_fault(fault: OggReadError) -> OggOpusError {
    match fault {
        OggReadError::ReadError(fault) => OggOpusError::Io(fault),
        other => OggOpusError::Damaged(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Cursor;

    use super::*;

    /// A tone on each side: 400 Hz left, 1 kHz right.
    fn sound(rate: SampleRate, samples: usize) -> Vec<StereoSample> {
        let tone =
            |n: usize, hz: f64| (8_000.0 * (n as f64 * hz * std::f64::consts::TAU / f64::from(rate.hz())).sin()) as i16;
        (0..samples).map(|n| [tone(n, 400.0), tone(n, 1_000.0)]).collect()
    }

    fn written(rate: SampleRate, sound: &[StereoSample], pages_every: usize) -> Vec<u8> {
        let mut writer = OggOpusWriter::new(rate, 7).unwrap();
        let mut file = Vec::new();
        for piece in sound.chunks(pages_every) {
            writer.push(piece).unwrap();
            writer.take_pages(&mut file);
        }
        writer.finish(&mut file).unwrap();
        file
    }

    fn read(file: &[u8]) -> (Vec<StereoSample>, Result<bool, OggOpusError>) {
        let mut reader = OggOpusReader::new(Cursor::new(file)).unwrap();
        let (mut all, mut some) = (Vec::new(), Vec::new());
        loop {
            match reader.read(&mut some) {
                Ok(true) => all.extend_from_slice(&some),
                Ok(false) => return (all, Ok(reader.is_whole())),
                Err(fault) => return (all, Err(fault)),
            }
        }
    }

    #[test]
    fn every_length_comes_back_to_the_sample_at_every_rate() {
        for hz in [8_000, 12_000, 16_000, 24_000, 48_000] {
            for samples in [0, 1, 159, 160, 321, 5_000, 48_001] {
                let (back, whole) = read(&written(SampleRate(hz), &sound(SampleRate(hz), samples), 1_600));
                assert_eq!((back.len(), whole.unwrap()), (samples, true), "{hz} Hz");
            }
        }
    }

    #[test]
    fn a_file_that_was_cut_off_anywhere_is_good_up_to_there() {
        let sound = sound(SampleRate::HZ_16000, 32_000);
        let file = written(SampleRate::HZ_16000, &sound, 3_200);
        let whole = read(&file).0;
        let mut longest = 0;
        for end in (200..file.len()).step_by(97) {
            let (back, is_whole) = read(&file[..end]);
            assert!(!is_whole.unwrap(), "{end} of {}", file.len());
            assert!(back.len() >= longest && back[..] == whole[..back.len()], "{end}");
            longest = back.len();
        }
        assert!(longest > 28_000, "{longest}");
    }

    #[test]
    fn damage_and_other_files_are_told_and_nothing_panics() {
        let file = written(SampleRate::HZ_8000, &sound(SampleRate::HZ_8000, 8_000), 1_600);
        assert!(matches!(OggOpusReader::new(Cursor::new(b"RIFF".repeat(40))).err(), Some(OggOpusError::OtherKind)));
        assert!(matches!(OggOpusReader::new(Cursor::new(&b""[..])).err(), Some(OggOpusError::OtherKind)));
        let mut seen = 0;
        for at in (0..file.len()).step_by(13) {
            let mut damaged = file.clone();
            damaged[at] ^= 0x55;
            let Ok(mut reader) = OggOpusReader::new(Cursor::new(damaged)) else { continue };
            let mut some = Vec::new();
            let result = loop {
                match reader.read(&mut some) {
                    Ok(true) => {}
                    other => break other,
                }
            };
            seen += usize::from(result.is_err());
        }
        assert!(seen > 10, "{seen} of {}", file.len() / 13);
    }

    #[test]
    fn neither_side_is_heard_on_the_other() {
        let mut sound = sound(SampleRate::HZ_16000, 32_000);
        sound.iter_mut().for_each(|pair| pair[1] = 0);
        let (back, _) = read(&written(SampleRate::HZ_16000, &sound, 3_200));
        assert!(back.iter().any(|pair| pair[0].unsigned_abs() > 6_000));
        let loudest = back.iter().map(|pair| pair[1].unsigned_abs()).max().unwrap();
        assert!(loudest <= 4, "{loudest}");
    }

    #[test]
    fn a_long_frame_has_a_length_of_two_bytes() {
        for size in [0, 1, 251, 252, 253, 254, 255, 256, 600, 1_275] {
            let packet = [&[0x78_u8][..], &vec![9; size]].concat();
            let mut out = Vec::new();
            delimit(&packet, &mut out).unwrap();
            out.extend([1, 2, 3]);
            assert_eq!(split(&out).unwrap(), (packet, &[1, 2, 3][..]), "{size}");
        }
        assert!(delimit(&[0x79, 0, 0], &mut Vec::new()).is_err(), "two frames");
    }
}
