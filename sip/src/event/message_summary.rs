//! `application/simple-message-summary` (RFC 3842): whether messages wait, and how many.

use std::fmt::Write as _;

/// The event package.
pub const PACKAGE: &str = "message-summary";
/// The Content-Type that goes with it.
pub const CONTENT_TYPE: &str = "application/simple-message-summary";

/// At most so many lines of one document are read; what follows them is left out.
const MAX_LINES: usize = 64;

/// Messages of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Not heard yet.
    pub new: u32,
    /// Heard.
    pub old: u32,
    /// Of the new ones, urgent.
    pub new_urgent: u32,
    /// Of the old ones, urgent.
    pub old_urgent: u32,
}

/// What waits for one account.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MessageSummary {
    /// Whether anything waits: what lights the lamp.
    pub waiting: bool,
    /// The account: whom to call to hear the messages.
    pub account: Option<String>,
    /// Voice messages, where the notifier counts them.
    pub voice: Option<Counts>,
}

impl MessageSummary {
    /// The summary of a voice mailbox.
    #[must_use]
    pub fn voice(account: &str, counts: Counts) -> Self {
        Self { waiting: counts.new > 0, account: Some(account.to_owned()), voice: Some(counts) }
    }

    /// The document. Line ends inside of the account become spaces.
    #[must_use]
    pub fn build(&self) -> String {
        let mut out = format!("Messages-Waiting: {}\r\n", if self.waiting { "yes" } else { "no" });
        if let Some(account) = &self.account {
            let account: String = account.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            let _ = write!(out, "Message-Account: {account}\r\n");
        }
        if let Some(Counts { new, old, new_urgent, old_urgent }) = self.voice {
            let _ = write!(out, "Voice-Message: {new}/{old} ({new_urgent}/{old_urgent})\r\n");
        }
        out
    }

    /// Reads a document; `None` where it does not say whether messages wait.
    #[must_use]
    pub fn read(body: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(body).ok()?;
        let mut summary = Self::default();
        let mut said = false;
        for line in text.lines().take(MAX_LINES) {
            let Some((name, value)) = line.split_once(':') else { continue };
            let value = value.trim();
            match name.trim().to_ascii_lowercase().as_str() {
                "messages-waiting" => {
                    summary.waiting = value.eq_ignore_ascii_case("yes");
                    said = summary.waiting || value.eq_ignore_ascii_case("no");
                }
                "message-account" => summary.account = Some(value.to_owned()),
                "voice-message" => summary.voice = counts(value),
                _ => {}
            }
        }
        said.then_some(summary)
    }
}

/// Reads `new/old [(urgent/urgent)]`.
fn counts(value: &str) -> Option<Counts> {
    let pair = |text: &str| -> Option<(u32, u32)> {
        let (new, old) = text.trim().split_once('/')?;
        Some((new.trim().parse().ok()?, old.trim().parse().ok()?))
    };
    let (all, urgent) = value.split_once('(').unwrap_or((value, ""));
    let (new, old) = pair(all)?;
    let (new_urgent, old_urgent) = pair(urgent.trim_end().trim_end_matches(')')).unwrap_or_default();
    Some(Counts { new, old, new_urgent, old_urgent })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Conforms: RFC 3842 §5.2 — the summary with its counts is read, and written as it is read
    #[test]
    fn the_rfcs_example_is_read_and_written() {
        let body =
            b"Messages-Waiting: yes\r\nMessage-Account: sip:alice@vmail.example.com\r\nVoice-Message: 2/8 (0/2)\r\n";
        let summary = MessageSummary::read(body).unwrap();
        assert_eq!(summary.account.as_deref(), Some("sip:alice@vmail.example.com"));
        assert_eq!(summary.voice, Some(Counts { new: 2, old: 8, new_urgent: 0, old_urgent: 2 }));
        assert_eq!(summary.build().as_bytes(), body);
    }

    #[test]
    fn what_mailboxes_send_besides_is_read_too() {
        let none = MessageSummary::read(b"messages-waiting: NO\n").unwrap();
        assert_eq!(none, MessageSummary::default());
        let without_urgent =
            MessageSummary::read(b"Messages-Waiting: yes\r\nVoice-Message: 1/0\r\n\r\nTo: x\r\n").unwrap();
        assert_eq!(without_urgent.voice, Some(Counts { new: 1, ..Counts::default() }));
        assert_eq!(MessageSummary::read(b"Voice-Message: 1/0\r\n"), None);
        assert_eq!(MessageSummary::read(b"Messages-Waiting: perhaps\r\n"), None);
        assert_eq!(MessageSummary::read(b"\xff"), None);
    }

    #[test]
    fn an_account_cannot_begin_a_line_of_its_own() {
        let summary = MessageSummary::voice("sip:a@b\r\nVoice-Message: 9/9", Counts::default());
        assert_eq!(summary.build().lines().count(), 3);
        assert_eq!(MessageSummary::read(summary.build().as_bytes()).unwrap().voice, Some(Counts::default()));
    }
}
