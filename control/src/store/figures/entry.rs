//! A call as figures see it, in a few bytes. Calls that are alike in everything that is counted have the same bytes, so that any of them may
//! be taken away for the other.

use crate::store::StoreError;

/// Milliseconds of a day.
pub(super) const DAY_MS: i64 = 86_400_000;

/// Values with at most three digits after the point are kept as a whole number.
const THOUSANDTHS: f64 = 1_000.0;

const ANSWERED: u8 = 1;
const MOS_AT: u8 = 1;
const GAP_AT: u8 = 3;
const NONE: u8 = 0;
const ROUND: u8 = 1;
const WHOLE: u8 = 2;
const HOW: u8 = 3;

/// What is counted of a call.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::store) struct Entry {
    /// When it began.
    pub started_at: i64,
    /// Which way, what answered, how it ended: its kind's number.
    pub kind: i64,
    /// From answer to end, in ms.
    pub duration_ms: i64,
    /// From its beginning to the answer, where there was one, in ms.
    pub answer_ms: Option<i64>,
    /// Mean opinion score.
    pub mos: Option<f64>,
    /// Median of the agent's gaps, in ms.
    pub gap_ms: Option<f64>,
}

impl Entry {
    /// The day that it is kept under.
    pub(super) fn day(&self) -> i64 {
        self.started_at.div_euclid(DAY_MS)
    }

    /// Adds the bytes of this call, which do not tell of the day.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let (mos, gap) = (form(self.mos), form(self.gap_ms));
        out.push((u8::from(self.answer_ms.is_some()) * ANSWERED) | (mos << MOS_AT) | (gap << GAP_AT));
        write_number(out, self.started_at.rem_euclid(DAY_MS).unsigned_abs());
        write_number(out, folded(self.kind));
        write_number(out, folded(self.duration_ms));
        if let Some(answer_ms) = self.answer_ms {
            write_number(out, folded(answer_ms));
        }
        write_value(out, mos, self.mos);
        write_value(out, gap, self.gap_ms);
    }

    /// The first call of some bytes of a day, and what follows it.
    ///
    /// # Errors
    /// They are none.
    #[inline]
    pub(super) fn read(day: i64, bytes: &[u8]) -> Result<(Self, &[u8]), StoreError> {
        Self::parse(day, bytes).ok_or_else(|| sqlx::Error::Decode("call_figures: entries are damaged".into()).into())
    }

    #[inline]
    fn parse(day: i64, bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (&forms, rest) = bytes.split_first()?;
        let (at, rest) = read_number(rest)?;
        let (kind, rest) = read_number(rest)?;
        let (duration, mut rest) = read_number(rest)?;
        let mut answer_ms = None;
        if forms & ANSWERED != 0 {
            let answer;
            (answer, rest) = read_number(rest)?;
            answer_ms = Some(unfolded(answer));
        }
        let (mos, rest) = read_value((forms >> MOS_AT) & HOW, rest)?;
        let (gap_ms, rest) = read_value((forms >> GAP_AT) & HOW, rest)?;
        let started_at = day.checked_mul(DAY_MS)?.checked_add(i64::try_from(at).ok()?)?;
        let entry = Self { started_at, kind: unfolded(kind), duration_ms: unfolded(duration), answer_ms, mos, gap_ms };
        Some((entry, rest))
    }
}

/// How a value is written.
fn form(value: Option<f64>) -> u8 {
    let Some(value) = value else { return NONE };
    match thousandths(value) {
        Some(_) => ROUND,
        None => WHOLE,
    }
}

/// A value in thousandths, where it is exactly that many.
fn thousandths(value: f64) -> Option<u64> {
    let many = (value * THOUSANDTHS).round();
    let is_exact = (0.0..9e15).contains(&many) && (many / THOUSANDTHS).to_bits() == value.to_bits();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within range, and whole")]
    is_exact.then_some(many as u64)
}

fn write_value(out: &mut Vec<u8>, form: u8, value: Option<f64>) {
    let Some(value) = value else { return };
    match thousandths(value).filter(|_| form == ROUND) {
        Some(many) => write_number(out, many),
        None => out.extend_from_slice(&value.to_le_bytes()),
    }
}

#[inline]
fn read_value(form: u8, bytes: &[u8]) -> Option<(Option<f64>, &[u8])> {
    match form {
        NONE => Some((None, bytes)),
        ROUND => {
            let (many, rest) = read_number(bytes)?;
            #[expect(clippy::cast_precision_loss, reason = "it was written from a number that holds it")]
            Some((Some(many as f64 / THOUSANDTHS), rest))
        }
        _ => {
            let (value, rest) = bytes.split_first_chunk()?;
            Some((Some(f64::from_le_bytes(*value)), rest))
        }
    }
}

/// Small numbers of either sign as small ones.
fn folded(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)).cast_unsigned()
}

fn unfolded(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

/// Seven bits a byte, the least first; the highest bit says that more follow.
fn write_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

#[inline]
fn read_number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    // All of it at once, where it ends within eight bytes: no branch for each of them, which would be guessed wrong.
    if let Some(word) = bytes.first_chunk().map(|eight| u64::from_le_bytes(*eight)) {
        let ends = !word & 0x8080_8080_8080_8080;
        if ends != 0 {
            let bits = ends.trailing_zeros() + 1;
            let sevens = word & (u64::MAX >> (64 - bits)) & 0x7f7f_7f7f_7f7f_7f7f;
            let pairs = (sevens & 0x007f_007f_007f_007f) | ((sevens & 0x7f00_7f00_7f00_7f00) >> 1);
            let fours = (pairs & 0x0000_3fff_0000_3fff) | ((pairs & 0x3fff_0000_3fff_0000) >> 2);
            let number = (fours & 0x0fff_ffff) | ((fours & 0x0fff_ffff_0000_0000) >> 4);
            return Some((number, bytes.get((bits / 8) as usize..)?));
        }
    }
    let (mut number, mut shift) = (0_u64, 0);
    for (at, byte) in bytes.iter().enumerate() {
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((number, &bytes[at + 1..]));
        }
        shift += 7;
        if shift > 63 {
            return None;
        }
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else_is() {
        let values =
            [None, Some(3.812), Some(0.1 + 0.2), Some(-1.0), Some(f64::MAX), Some(0.0), Some(-0.0), Some(249.5)];
        let numbers = [0, 1, -1, 63, 64, 8_191, 400_000, i64::MAX, i64::MIN];
        let mut bytes = Vec::new();
        let mut written = Vec::new();
        for (n, number) in numbers.into_iter().cycle().take(200).enumerate() {
            let entry = Entry {
                started_at: -DAY_MS + (n as i64 * 431_987) % DAY_MS,
                kind: number,
                duration_ms: numbers[n * 7 % 9],
                answer_ms: (n % 3 > 0).then(|| numbers[n * 5 % 9]),
                mos: values[n % 8],
                gap_ms: values[n * 3 % 8],
            };
            assert_eq!(entry.day(), -1);
            entry.write(&mut bytes);
            written.push(entry);
        }
        let mut rest = bytes.as_slice();
        for entry in &written {
            let read;
            (read, rest) = Entry::read(-1, rest).unwrap();
            assert_eq!(&read, entry);
        }
        assert!(rest.is_empty());
        for broken in [
            &[0_u8][..],
            &[0, 0x80],
            &[0, 1, 2],
            &[31, 1, 1, 1, 1, 1],
            &[0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        ] {
            assert!(Entry::read(0, broken).is_err(), "{broken:?}");
        }
    }

    #[test]
    fn a_usual_call_takes_under_twenty_bytes() {
        let entry = Entry {
            started_at: 1_790_000_000_000,
            kind: 117,
            duration_ms: 184_220,
            answer_ms: Some(9_311),
            mos: Some(4.213),
            gap_ms: Some(412.35),
        };
        let mut bytes = Vec::new();
        entry.write(&mut bytes);
        assert_eq!(bytes.len(), 18);
    }
}
