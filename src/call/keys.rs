//! Key presses that come and go outside the sound, by SIP INFO.

/// The content type that ours have; most phones and carriers know it.
pub const DTMF_RELAY: &str = "application/dtmf-relay";

/// What says that a key was pressed for so long, as [`DTMF_RELAY`].
#[must_use]
pub fn relayed(digit: char, duration_ms: u16) -> String {
    format!("Signal={digit}\r\nDuration={duration_ms}\r\n")
}

/// The key in a SIP INFO body: `Signal=5` (application/dtmf-relay) or the bare key (application/dtmf).
#[must_use]
pub fn info_digit(content_type: &str, body: &[u8]) -> Option<char> {
    let text = std::str::from_utf8(body).ok()?;
    let value = match content_type {
        DTMF_RELAY => text.lines().find_map(|line| {
            let (name, value) = line.split_once('=')?;
            name.trim().eq_ignore_ascii_case("signal").then_some(value)
        })?,
        "application/dtmf" => text,
        _ => return None,
    };
    let key = match value.trim() {
        "10" => '*',
        "11" => '#',
        "12" => 'A',
        "13" => 'B',
        "14" => 'C',
        "15" => 'D',
        single if single.chars().count() == 1 => single.chars().next()?.to_ascii_uppercase(),
        _ => return None,
    };
    matches!(key, '0'..='9' | '*' | '#' | 'A'..='D').then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_by_info_in_both_usual_forms() {
        assert_eq!(info_digit("application/dtmf-relay", b"Signal=5\r\nDuration=160\r\n"), Some('5'));
        assert_eq!(info_digit("application/dtmf-relay", b"Duration=160\r\nsignal = #\r\n"), Some('#'));
        assert_eq!(info_digit("application/dtmf", b"11"), Some('#'));
        assert_eq!(info_digit("application/dtmf", b" a\r\n"), Some('A'));
        for (content_type, body) in [
            ("application/dtmf-relay", &b"Duration=160"[..]),
            ("application/dtmf", b"55"),
            ("application/dtmf", b""),
            ("application/dtmf", b"\xff"),
            ("text/plain", b"5"),
        ] {
            assert_eq!(info_digit(content_type, body), None);
        }
    }

    #[test]
    fn what_we_say_of_a_key_is_read_as_that_key() {
        for key in "0123456789*#ABCD".chars() {
            assert_eq!(info_digit(DTMF_RELAY, relayed(key, 160).as_bytes()), Some(key));
        }
    }
}
