//! Audio levels in header extensions: of a packet's own sound (RFC 6464) and of the sources mixed in it (RFC 6465), as elements with one-byte
//! headers (RFC 8285 section 4.2).
//!
//! A level is what it is on the wire: 0 to 127 dB below the overload point, 127 for silence.

use codecs::pcm::level_dbov;

use super::{Extension, MAX_CSRC};

/// The "defined by profile" field of elements with one-byte headers (RFC 8285 section 4.2).
pub const ONE_BYTE: u16 = 0xbede;
/// The level of silence.
pub const SILENCE: u8 = 127;
/// The largest id of an element; 15 ends the list.
pub const MAX_ID: u8 = 14;
/// An extension with both elements at most: its header, two bytes of the first, and 1 + 15 of the second, in whole words.
pub const MAX_BYTES: usize = 4 + 2 + 1 + MAX_CSRC + 2;
/// A level, without the bit that says whether it is a voice.
const LEVEL: u8 = 0x7f;

/// The level of samples.
#[must_use]
pub fn level_of(pcm: &[i16]) -> u8 {
    (-level_dbov(pcm)).round().clamp(0.0, f64::from(SILENCE)) as u8
}

impl<'a> Extension<'a> {
    /// The element of this id, where elements have one-byte headers.
    #[must_use]
    pub fn element(&self, id: u8) -> Option<&'a [u8]> {
        let mut rest = if self.profile == ONE_BYTE { self.data } else { &[] };
        while let Some((head, behind)) = rest.split_first() {
            match head >> 4 {
                // Padding: a byte of its own (section 4.1.2).
                0 if *head == 0 => rest = behind,
                15 => return None,
                found => {
                    let (data, behind) = behind.split_at_checked(usize::from(head & 0x0f) + 1)?;
                    if found == id && id != 0 {
                        return Some(data);
                    }
                    rest = behind;
                }
            }
        }
        None
    }

    /// The level that the packet's sender says its sound has (RFC 6464 section 3).
    #[must_use]
    pub fn level(&self, id: u8) -> Option<u8> {
        self.element(id)?.first().map(|byte| byte & LEVEL)
    }
}

/// The extension of a packet to send, as it stands there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Levels {
    bytes: [u8; MAX_BYTES],
    len: usize,
}

impl Levels {
    /// The packet's own `level` under its id, and those of the sources that it names, in their order, under theirs.
    #[must_use]
    pub fn new(own: Option<(u8, u8)>, mixed: Option<(u8, &[u8])>) -> Levels {
        let mut levels = Levels { bytes: [0; MAX_BYTES], len: 4 };
        if let Some((id, level)) = own {
            levels.element(id, &[level]);
        }
        if let Some((id, sources)) = mixed {
            levels.element(id, sources.get(..MAX_CSRC).unwrap_or(sources));
        }
        if levels.len == 4 {
            levels.len = 0;
            return levels;
        }
        levels.len = levels.len.next_multiple_of(4);
        let [a, b] = ONE_BYTE.to_be_bytes();
        let words = (levels.len / 4 - 1) as u8;
        if let Some(head) = levels.bytes.first_chunk_mut::<4>() {
            *head = [a, b, 0, words];
        }
        levels
    }

    /// The bytes: none, where there is no level to tell.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    fn element(&mut self, id: u8, levels: &[u8]) {
        let is_id = (1..=MAX_ID).contains(&id);
        let Some((last, place)) = levels.len().checked_sub(1).filter(|_| is_id).zip(self.bytes.get_mut(self.len..))
        else {
            return;
        };
        if let Some((head, place)) = place.split_first_mut() {
            *head = id << 4 | last as u8;
            for (place, level) in place.iter_mut().zip(levels) {
                *place = level & LEVEL;
            }
            self.len += 1 + levels.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(levels: &Levels) -> Option<Extension<'_>> {
        Extension::split(levels.bytes()).ok().and_then(|(extension, rest)| extension.filter(|_| rest.is_empty()))
    }

    /// Conforms: RFC 8285 §4.2 — elements with one-byte headers are written in whole words and found by their id, over padding and unknown ones.
    #[test]
    fn elements_are_found_by_their_id() {
        let data = [0x10, 0x85, 0, 0, 0x32, 1, 2, 3, 0x50, 0x2a, 0, 0xf0, 0x20, 9];
        let extension = Extension { profile: ONE_BYTE, data: &data };
        assert_eq!((extension.level(1), extension.level(5)), (Some(5), Some(42)));
        assert_eq!(extension.element(3), Some(&[1, 2, 3][..]));
        assert_eq!((extension.element(2), extension.element(0)), (None, None), "behind the end, and padding");
        assert_eq!(Extension { profile: 0x1000, data: &data }.element(1), None, "two-byte headers are not agreed on");
        for cut in 0..data.len() {
            let _ = Extension { profile: ONE_BYTE, data: data.get(..cut).unwrap_or_default() }.element(7);
        }
    }

    /// Conforms: RFC 6464 §3 — the level of a packet's sound in one byte, 127 for silence.
    /// Conforms: RFC 6465 §3 — the levels of the sources that a packet names are a byte each, in their order.
    #[test]
    fn levels_are_written_as_they_are_read() {
        let mut sources = [0_u8; 20];
        for (n, level) in sources.iter_mut().enumerate() {
            *level = 10 + n as u8;
        }
        for count in 0..=20 {
            let given = sources.get(..count).unwrap_or_default();
            let levels = Levels::new(Some((1, 30)), Some((14, given)));
            let Some(extension) = read(&levels) else { unreachable!("{levels:?}") };
            assert_eq!(extension.level(1), Some(30));
            let expected = given.get(..count.min(MAX_CSRC)).filter(|levels| !levels.is_empty());
            assert_eq!(extension.element(14), expected, "{count} sources");
        }
        assert!(Levels::new(None, None).bytes().is_empty());
        assert!(Levels::new(None, Some((3, &[]))).bytes().is_empty(), "no sources, no extension");
        assert!(
            Levels::new(Some((15, 9)), None).bytes().is_empty() && Levels::new(Some((0, 9)), None).bytes().is_empty()
        );
    }

    #[test]
    fn a_level_is_decibels_below_overload() {
        assert_eq!(level_of(&[0; 160]), SILENCE);
        assert_eq!(level_of(&[i16::MIN; 160]), 0);
        assert_eq!(level_of(&[1_036; 160]), 30);
        assert_eq!(level_of(&[]), SILENCE);
    }
}
