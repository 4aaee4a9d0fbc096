//! A call's messages as a ladder of text: one column a party, one arrow a message.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use super::{CallMessages, Direction, Traced};

/// Characters between two columns.
const SPAN: usize = 34;
/// Characters before the first column.
const MARGIN: usize = 12;

/// Draws the ladder. Times are seconds since the first message; we stand where our own address is named `here`.
#[must_use]
pub fn draw(call: &CallMessages) -> String {
    let Some(first) = call.messages.first() else { return String::from("no messages\n") };
    let columns = columns(&call.messages);
    let mut text = heading(&columns);
    for traced in &call.messages {
        let _ = writeln!(text, "{}", line(traced, first.at, &columns));
    }
    if call.left_out > 0 {
        let _ = writeln!(text, "({} messages in the middle were not kept)", call.left_out);
    }
    text
}

/// Us second, behind whom we heard from or spoke to first; then the others in the order in which they appear.
fn columns(messages: &[Traced]) -> Vec<Option<SocketAddr>> {
    let mut columns: Vec<Option<SocketAddr>> = Vec::new();
    for traced in messages {
        if !columns.contains(&Some(traced.remote)) {
            columns.push(Some(traced.remote));
            if columns.len() == 1 {
                columns.push(None);
            }
        }
    }
    columns
}

fn heading(columns: &[Option<SocketAddr>]) -> String {
    let mut names = " ".repeat(MARGIN.saturating_sub(10));
    let mut bars = " ".repeat(MARGIN);
    for (index, column) in columns.iter().enumerate() {
        let name = column.map_or_else(|| String::from("here"), |address| address.to_string());
        let place = MARGIN + index * SPAN;
        let begin = place.saturating_sub(name.chars().count() / 2).max(names.chars().count() + usize::from(index > 0));
        while names.chars().count() < begin {
            names.push(' ');
        }
        names.push_str(&name);
        while bars.chars().count() < place {
            bars.push(' ');
        }
        bars.push('│');
    }
    format!("{names}\n{bars}\n")
}

fn line(traced: &Traced, begin: SystemTime, columns: &[Option<SocketAddr>]) -> String {
    let place = |wanted: Option<SocketAddr>| columns.iter().position(|column| *column == wanted).unwrap_or(0);
    let (here, there) = (place(None), place(Some(traced.remote)));
    let (left, right) = (here.min(there), here.max(there));
    let goes_right = (traced.direction == Direction::Out) == (there > here);
    let after = traced.at.duration_since(begin).unwrap_or(Duration::ZERO);
    let mut text = format!("{:<MARGIN$}", format!("{:>9.3}", after.as_secs_f64()));
    let mut index = 0;
    loop {
        text.push('│');
        if index + 1 >= columns.len() {
            return text;
        }
        if index == left && left < right {
            text.push_str(&arrow(&summary(&traced.bytes), (right - left) * SPAN - 1, goes_right));
            index = right;
        } else {
            text.push_str(&" ".repeat(SPAN - 1));
            index += 1;
        }
    }
}

fn arrow(label: &str, width: usize, goes_right: bool) -> String {
    let room = width.saturating_sub(6);
    let label: String = label.chars().take(room).collect();
    let dashes = width.saturating_sub(label.chars().count() + 3);
    let (before, after) = (dashes / 2, dashes - dashes / 2);
    if goes_right {
        format!("{} {label} {}►", "─".repeat(before), "─".repeat(after))
    } else {
        format!("◄{} {label} {}", "─".repeat(before), "─".repeat(after))
    }
}

/// A message in a few words: method and user, or code and phrase; and whether it carries a session description.
fn summary(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let first = text.lines().next().unwrap_or_default();
    let has_sdp = text.split_once("\r\n\r\n").is_some_and(|(_, body)| body.starts_with("v=0"));
    let sdp = if has_sdp { " (SDP)" } else { "" };
    match first.strip_prefix("SIP/2.0 ") {
        Some(status) => {
            let method =
                text.lines().find_map(|line| line.strip_prefix("CSeq:")).and_then(|cseq| cseq.split(' ').next_back());
            let of =
                method.filter(|method| *method != "INVITE").map(|method| format!(" [{method}]")).unwrap_or_default();
            format!("{}{of}{sdp}", clean(status))
        }
        None => format!("{}{sdp}", clean(first.split(' ').next().unwrap_or_default())),
    }
}

/// Control characters would let a peer draw on the reader's terminal.
fn clean(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { '?' } else { character }).collect()
}
