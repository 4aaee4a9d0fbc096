//! The bodies of event packages: what a NOTIFY says. Each module builds the document and reads it again.

pub mod conference_info;
pub mod dialog_info;
pub mod message_summary;
pub mod reginfo;
pub mod sipfrag;

/// Text as it may stand in XML, between quotes too.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}
