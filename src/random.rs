//! Names that nobody guesses.

/// Letters that may stand in a URL and in ICE's attributes alike: five bits each.
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// So many random letters, from the system's entropy; `None` where it gives none.
pub(crate) fn letters(count: usize) -> Option<String> {
    let mut bytes = vec![0; count];
    aws_lc_rs::rand::fill(&mut bytes).ok()?;
    bytes.iter().map(|byte| ALPHABET.get(usize::from(byte % 32)).map(|letter| char::from(*letter))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_as_many_as_asked_and_never_the_same() {
        let (a, b) = (letters(32), letters(32));
        assert!(a != b && a.is_some_and(|a| a.len() == 32 && a.bytes().all(|letter| ALPHABET.contains(&letter))));
    }
}
