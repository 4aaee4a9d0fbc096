//! The user part of addresses, as records, numbers and people are named by it.
//!
//! Routing has its own (`user_of` in `src/call/sound.rs`), which has nothing for what is no address and nothing for an address without a user,
//! and makes one case of all; signalling reads the whole grammar (`sip/src/uri.rs`). This package knows neither, and what it reads is whatever
//! stands in a journal or was written by people: a name alone is a name, an address without a user is shown by its host, and all as it was
//! written. What the three have in common is that an escaped character is that character: a number is the same with `%2B` as with `+`,
//! for those who look for it and those who are not to be called.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// The user part of a SIP or tel URI, unescaped; what is none stays as it is.
pub(crate) fn user_part(uri: &str) -> Cow<'_, str> {
    let rest = uri.split_once(':').map_or(uri, |(_, rest)| rest);
    let user = rest.split(['@', ';', '?']).next().unwrap_or(rest);
    let user = user.split_once(':').map_or(user, |(user, _)| user);
    percent_decode_str(user).decode_utf8_lossy()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn somebody_is_known_by_the_user_part_of_their_address() {
        for (uri, user) in [
            ("sip:+4930123@host:5060;transport=tcp", "+4930123"),
            ("sip:%2B4930123@host", "+4930123"),
            ("tel:+4930123;phone-context=x", "+4930123"),
            ("sip:Alice:secret@host", "Alice"),
            ("sip:caf%C3%A9%zz@host", "café%zz"),
            ("sip:host", "host"),
            ("alice", "alice"),
            ("", ""),
        ] {
            assert_eq!(user_part(uri), user, "{uri}");
        }
    }
}
