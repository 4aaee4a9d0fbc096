//! Recordings that nobody reads who has no key: sound in pieces, each encrypted and authenticated (AES-256-GCM) under a key of the file's
//! own, which the file carries wrapped by a key from the configuration.
//!
//! A file is [`MAGIC`], where the sixth byte says what is inside ([`Contents`]), the rate (u32), the first eight bytes of the wrapping key's SHA-256 (so that a wrong key is told from a damaged
//! file), a nonce and the file's key wrapped with it; then pieces, each a length (u32) and so many bytes of what is inside with a tag
//! behind. All numbers are little-endian. The n-th piece's nonce is n, and it is bound to the head and to n: pieces cannot be changed,
//! exchanged, repeated or left out without its being seen. The last piece is empty: a file without it was cut off, and what is before
//! it is whole.

use std::io::{self, Read, Write};
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{digest, rand};
use thiserror::Error;

/// What such a file begins with; the byte that says what is inside is that of PCM here.
pub const MAGIC: &[u8; 8] = b"OVREC\x01\r\n";
/// The byte of [`MAGIC`] that says what is inside.
const CONTENTS_AT: usize = 5;
/// Bytes of a key.
pub const KEY_BYTES: usize = 32;
const ID_BYTES: usize = 8;
const TAG_BYTES: usize = 16;
const HEAD_BYTES: usize = MAGIC.len() + 4 + ID_BYTES + NONCE_LEN + KEY_BYTES + TAG_BYTES;
/// Sound in one piece at most.
pub const PIECE_BYTES: usize = 1 << 20;

/// What is inside of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contents {
    /// 16-bit stereo sound, left first, without a header.
    Pcm,
    /// An Ogg Opus file.
    OggOpus,
}

impl Contents {
    fn byte(self) -> u8 {
        match self {
            Contents::Pcm => 1,
            Contents::OggOpus => 2,
        }
    }

    fn of(head: &[u8; HEAD_BYTES]) -> Option<Self> {
        let contents = [Contents::Pcm, Contents::OggOpus];
        contents.into_iter().find(|contents| head.starts_with(&magic(*contents)))
    }
}

/// The key from the configuration, which wraps those of files.
#[derive(Clone)]
pub struct SealKey {
    key: Arc<LessSafeKey>,
    id: [u8; ID_BYTES],
}

impl SealKey {
    /// From its bytes.
    ///
    /// # Errors
    /// The library would not have it.
    pub fn new(bytes: &[u8; KEY_BYTES]) -> Result<SealKey, SealError> {
        let mut id = [0; ID_BYTES];
        let hash = digest::digest(&digest::SHA256, bytes);
        id.iter_mut().zip(hash.as_ref()).for_each(|(place, byte)| *place = *byte);
        Ok(SealKey { key: Arc::new(cipher(bytes)?), id })
    }

    /// Which key it is, for people.
    #[must_use]
    pub fn name(&self) -> String {
        name_of(&self.id)
    }
}

impl std::fmt::Debug for SealKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SealKey({})", self.name())
    }
}

impl PartialEq for SealKey {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for SealKey {}

/// Why a recording cannot be sealed or opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SealError {
    /// The library, or the system's entropy, failed.
    #[error("encryption failed: {0}")]
    Library(&'static str),
    /// It is no such file.
    #[error("it is no sealed recording")]
    NotSealed,
    /// It was sealed under another key.
    #[error("it is sealed under key {theirs}, and this is key {ours}")]
    OtherKey {
        /// The file's.
        theirs: String,
        /// The one given.
        ours: String,
    },
    /// It was changed, or the disk lost something.
    #[error("piece {piece} does not fit its tag: the file was changed or is damaged")]
    Damaged {
        /// Which piece, from 0.
        piece: u64,
    },
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Seals one file.
pub struct Sealer {
    key: LessSafeKey,
    head: [u8; HEAD_BYTES],
    pieces: u64,
}

impl Sealer {
    /// A file that begins now.
    ///
    /// # Errors
    /// [`SealError::Library`].
    pub fn new(wrapping: &SealKey, contents: Contents, rate_hz: u32) -> Result<Sealer, SealError> {
        let no_entropy = |_| SealError::Library("no entropy");
        let (mut key, mut nonce) = ([0; KEY_BYTES], [0; NONCE_LEN]);
        rand::fill(&mut key).map_err(no_entropy)?;
        rand::fill(&mut nonce).map_err(no_entropy)?;
        let mut wrapped = key;
        let begin = [&magic(contents)[..], &rate_hz.to_le_bytes(), &wrapping.id, &nonce].concat();
        let tag = wrapping
            .key
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(&begin), &mut wrapped)
            .map_err(|_| SealError::Library("a key cannot be wrapped"))?;
        let bytes = [&begin[..], &wrapped, tag.as_ref()].concat();
        let head = bytes.try_into().map_err(|_| SealError::Library("a head of the wrong length"))?;
        Ok(Sealer { key: cipher(&key)?, head, pieces: 0 })
    }

    /// What the file begins with.
    #[must_use]
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// Seals what comes next, and puts it behind `out`; an empty piece is the last.
    ///
    /// # Errors
    /// [`SealError::Library`].
    pub fn seal(&mut self, sound: &[u8], out: &mut Vec<u8>) -> Result<(), SealError> {
        let mut pieces = sound.chunks(PIECE_BYTES);
        let mut next = pieces.next().or(Some(&[]));
        while let Some(piece) = next {
            let from = out.len() + 4;
            out.extend((piece.len() as u32).to_le_bytes());
            out.extend(piece);
            let aad = aad(&self.head, self.pieces);
            let place = out.get_mut(from..).unwrap_or_default();
            let tag = self
                .key
                .seal_in_place_separate_tag(nonce(self.pieces), Aad::from(aad), place)
                .map_err(|_| SealError::Library("a piece cannot be sealed"))?;
            out.extend(tag.as_ref());
            self.pieces += 1;
            next = pieces.next();
        }
        Ok(())
    }
}

/// A file that is opened.
pub struct Opening<R> {
    file: R,
    head: [u8; HEAD_BYTES],
    key: LessSafeKey,
    contents: Contents,
    rate_hz: u32,
}

/// What was in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// Bytes of what is inside.
    pub sound_bytes: u64,
    /// It has its end; where not, it was cut off behind what there is.
    pub is_whole: bool,
}

impl<R: Read> Opening<R> {
    /// Reads what the file begins with.
    ///
    /// # Errors
    /// It is no such file, or sealed under another key.
    pub fn begin(wrapping: &SealKey, mut file: R) -> Result<Self, SealError> {
        let mut head = [0; HEAD_BYTES];
        let is_whole = read_up_to(&mut file, &mut head)? == HEAD_BYTES;
        let contents = Contents::of(&head).filter(|_| is_whole).ok_or(SealError::NotSealed)?;
        let (rate_hz, key) = unwrap(wrapping, &head)?;
        Ok(Self { file, head, key, contents, rate_hz })
    }

    /// What is inside.
    #[must_use]
    pub fn contents(&self) -> Contents {
        self.contents
    }

    /// Samples a second.
    #[must_use]
    pub fn rate_hz(&self) -> u32 {
        self.rate_hz
    }

    /// Gives `out` what is inside, piece by piece, each only when its tag fits.
    ///
    /// # Errors
    /// [`SealError`]; what went to `out` before is good.
    pub fn pour(mut self, mut out: impl Write) -> Result<Opened, SealError> {
        let (mut pieces, mut sound_bytes) = (0, 0);
        let mut buffer = Vec::new();
        loop {
            let opened = |is_whole| Ok(Opened { sound_bytes, is_whole });
            let mut length = [0; 4];
            if read_up_to(&mut self.file, &mut length)? != length.len() {
                return opened(false);
            }
            let length = u32::from_le_bytes(length) as usize;
            if length > PIECE_BYTES {
                return Err(SealError::Damaged { piece: pieces });
            }
            buffer.resize(length + TAG_BYTES, 0);
            if read_up_to(&mut self.file, &mut buffer)? != buffer.len() {
                return opened(false);
            }
            let sound = self
                .key
                .open_in_place(nonce(pieces), Aad::from(aad(&self.head, pieces)), &mut buffer)
                .map_err(|_| SealError::Damaged { piece: pieces })?;
            if sound.is_empty() {
                return opened(true);
            }
            out.write_all(sound)?;
            sound_bytes += sound.len() as u64;
            pieces += 1;
        }
    }
}

/// The rate and the file's own key.
fn unwrap(wrapping: &SealKey, head: &[u8; HEAD_BYTES]) -> Result<(u32, LessSafeKey), SealError> {
    let (begin, wrapped) = head.split_at(HEAD_BYTES - KEY_BYTES - TAG_BYTES);
    let piece = |at: usize, len: usize| begin.get(at..at + len).unwrap_or_default();
    let rate_hz = piece(MAGIC.len(), 4).try_into().map(u32::from_le_bytes).unwrap_or(0);
    let id = piece(MAGIC.len() + 4, ID_BYTES);
    if id != wrapping.id {
        return Err(SealError::OtherKey { theirs: name_of(id), ours: wrapping.name() });
    }
    let nonce = piece(MAGIC.len() + 4 + ID_BYTES, NONCE_LEN).try_into().map_err(|_| SealError::NotSealed)?;
    let mut wrapped = wrapped.to_vec();
    let key = wrapping
        .key
        .open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(begin), &mut wrapped)
        .map_err(|_| SealError::Damaged { piece: 0 })?;
    Ok((rate_hz, cipher(key)?))
}

fn cipher(key: &[u8]) -> Result<LessSafeKey, SealError> {
    let key = UnboundKey::new(&AES_256_GCM, key).map_err(|_| SealError::Library("a key of the wrong length"))?;
    Ok(LessSafeKey::new(key))
}

fn nonce(piece: u64) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    bytes.iter_mut().zip(piece.to_le_bytes()).for_each(|(place, byte)| *place = byte);
    Nonce::assume_unique_for_key(bytes)
}

fn aad(head: &[u8; HEAD_BYTES], piece: u64) -> Vec<u8> {
    [&head[..], &piece.to_le_bytes()].concat()
}

fn magic(contents: Contents) -> [u8; 8] {
    let mut magic = *MAGIC;
    magic[CONTENTS_AT] = contents.byte();
    magic
}

fn name_of(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads until the buffer is full or there is no more.
fn read_up_to(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn key(from: u8) -> SealKey {
        SealKey::new(&[from; KEY_BYTES]).unwrap()
    }

    fn sealed(pieces: &[&[u8]]) -> Vec<u8> {
        let mut sealer = Sealer::new(&key(1), Contents::OggOpus, 8_000).unwrap();
        let mut file = sealer.head().to_vec();
        pieces.iter().for_each(|piece| sealer.seal(piece, &mut file).unwrap());
        file
    }

    fn opened(file: &[u8], key: &SealKey) -> (Vec<u8>, Result<Opened, SealError>) {
        let mut out = Vec::new();
        let result = Opening::begin(key, file).and_then(|opening| {
            assert_eq!((opening.contents(), opening.rate_hz()), (Contents::OggOpus, 8_000));
            opening.pour(&mut out)
        });
        (out, result)
    }

    #[test]
    fn what_was_sealed_opens_and_shows_nothing_of_itself() {
        let file = sealed(&[&[7; 4_000], &[8; PIECE_BYTES + 4], &[]]);
        assert!(!file.windows(8).any(|bytes| bytes == [7; 8] || bytes == [8; 8]));
        let (out, result) = opened(&file, &key(1));
        assert_eq!(out.len(), 4_000 + PIECE_BYTES + 4);
        assert_eq!(result.unwrap(), Opened { sound_bytes: out.len() as u64, is_whole: true });
        assert_ne!(sealed(&[&[7; 4]]), sealed(&[&[7; 4]]), "each file has a key of its own");
    }

    #[test]
    fn a_file_that_was_cut_off_anywhere_is_good_up_to_there() {
        let file = sealed(&[&[7; 400], &[8; 400], &[]]);
        for end in HEAD_BYTES..file.len() {
            let (out, result) = opened(&file[..end], &key(1));
            let opened = result.unwrap();
            assert!(!opened.is_whole && out.len() % 400 == 0, "{end}");
            assert_eq!(out.len() as u64, opened.sound_bytes);
        }
        for end in 0..HEAD_BYTES {
            assert!(matches!(opened(&file[..end], &key(1)).1, Err(SealError::NotSealed)), "{end}");
        }
    }

    #[test]
    fn whatever_is_changed_left_out_or_exchanged_is_seen() {
        let file = sealed(&[&[7; 40], &[8; 40], &[9; 40], &[]]);
        for at in std::iter::once(CONTENTS_AT).chain(MAGIC.len()..file.len()) {
            let mut changed = file.clone();
            changed[at] ^= 1;
            let (out, result) = opened(&changed, &key(1));
            let is_length = (at - MAGIC.len().min(at)) >= HEAD_BYTES - MAGIC.len() && (at - HEAD_BYTES) % 60 < 4;
            assert!(result.is_err() || (is_length && !result.unwrap().is_whole), "byte {at}");
            assert!(out.len() <= 120, "byte {at}");
        }
        let piece = |n: usize| &file[HEAD_BYTES + n * 60..HEAD_BYTES + (n + 1) * 60];
        let head = &file[..HEAD_BYTES];
        for order in [[1, 0, 2], [0, 0, 1], [0, 2, 2], [2, 1, 0]] {
            let mixed: Vec<u8> = order.iter().fold(head.to_vec(), |file, n| [&file[..], piece(*n)].concat());
            assert!(matches!(opened(&mixed, &key(1)).1, Err(SealError::Damaged { .. })), "{order:?}");
        }
        let error = opened(&file, &key(2)).1.unwrap_err().to_string();
        assert!(error.contains(&key(1).name()) && error.contains(&key(2).name()), "{error}");
    }
}
