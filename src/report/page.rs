//! The page itself.

use std::fmt::Write;

use agent::history::Speaker;
use agent::session::{Means, TurnRecord, Waits};

use super::gaps::{Measured, Spread};
use super::{Heard, Source, style, timeline};
use crate::call::end::EndClass;
use crate::call::record::{AgentRecord, CallDirection, CallRecord, MediaRecord};

/// The style's class, the name, and the share of a gap.
type Stage = (&'static str, &'static str, fn(&Waits) -> f64);

/// What an answer waits for, in order.
const STAGES: [Stage; 5] = [
    ("w1", "certainty that the caller is done", |waits| waits.certainty),
    ("w2", "recogniser", |waits| waits.recogniser),
    ("w3", "brain", |waits| waits.brain),
    ("w4", "voice", |waits| waits.voice),
    ("w5", "line", |waits| waits.line),
];

/// The whole page.
pub(super) fn render(record: &CallRecord, heard: Option<&Heard>) -> String {
    let turns = record.agent.as_ref().map_or(&[][..], |agent| &agent.turns);
    let measured = heard.map(|heard| &heard.measured);
    let offset_ms = heard.map_or(0.0, |heard| heard.offset_ms);
    let mut html = String::with_capacity(64 << 10);
    let title = format!("Call with {}", escape(&record.to));
    let _ = write!(
        html,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width,initial-scale=1\"><title>{title}</title><style>{}</style></head><body><main>",
        style::CSS
    );
    head(&mut html, record, &title);
    cards(&mut html, record, turns, measured);
    if let Some(heard) = heard {
        let _ = write!(html, "<h2>Recording</h2>");
        match &heard.source {
            Source::Embedded(data, kind) => {
                let _ = write!(html, "<audio controls preload=\"auto\" src=\"data:{kind};base64,{data}\"></audio>");
            }
            Source::Linked(name) => {
                let _ = write!(html, "<audio controls preload=\"metadata\" src=\"{}\"></audio>", escape(name));
            }
        }
        let _ = write!(
            html,
            "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Waveforms\">{}</div><p class=\"lanes\">\
             <span><i style=\"background:var(--caller)\"></i>caller, above</span><span><i style=\"background:var(--agent)\"></i>\
             agent, below</span><span>brackets: from the caller's last sound to the agent's first</span></p>",
            timeline::draw(heard, turns, offset_ms)
        );
    }
    talk(&mut html, turns, offset_ms, heard.is_some());
    delays(&mut html, turns, measured);
    if let Some(media) = &record.media {
        packets(&mut html, media);
    }
    details(&mut html, record);
    html.push_str("</main>");
    if let Some(measured) = measured {
        let _ =
            write!(html, "<script>const SCALE={};{}</script>", timeline::scale(measured.duration_ms), style::SCRIPT);
    }
    html.push_str("</body></html>\n");
    html
}

fn head(html: &mut String, record: &CallRecord, title: &str) {
    let class = if record.end.class == EndClass::Ok { "ok" } else { "bad" };
    let direction = match record.direction {
        CallDirection::Inbound => "from",
        CallDirection::Outbound => "placed by",
    };
    let _ = write!(
        html,
        "<h1>{title} <span class=\"chip {class}\">{}</span></h1><p class=\"sub\">{direction} {} · {} · {} · {}</p>",
        escape(&record.end.reason.as_str().replace('_', " ")),
        escape(&record.from),
        escape(&record.started_at),
        clock(record.duration_ms as f64),
        escape(if record.codec.is_empty() { "no sound" } else { &record.codec }),
    );
}

fn cards(html: &mut String, record: &CallRecord, turns: &[TurnRecord], measured: Option<&Measured>) {
    html.push_str("<div class=\"cards\">");
    for (value, name) in figures(record, turns, measured) {
        let _ = write!(html, "<div class=\"card\"><b>{value}</b><span>{name}</span></div>");
    }
    html.push_str("</div>");
}

fn figures(record: &CallRecord, turns: &[TurnRecord], measured: Option<&Measured>) -> Vec<(String, &'static str)> {
    let mut figures = vec![(turns.len().to_string(), "turns")];
    let gaps = measured.map_or_else(|| Spread::of(turns.iter().filter_map(|turn| turn.gap_ms)), Measured::gaps);
    if let Some(gaps) = gaps {
        figures.push((format!("{:.0} ms", gaps.median_ms), "median gap before an answer"));
        figures.push((format!("{:.0} ms", gaps.p95_ms), "95 % of gaps are at most"));
    }
    if let Some(silencing) = measured.and_then(Measured::silencing) {
        figures.push((format!("{:.0} ms", silencing.median_ms), "to fall silent when interrupted"));
    }
    let keys = turns.iter().filter(|turn| turn.who == Speaker::Caller && turn.by == Means::Keys).count();
    if keys > 0 {
        figures.push((keys.to_string(), "answers by key"));
    }
    if let Some(media) = &record.media {
        let lost = media.lost as f64 * 100.0 / (media.packets_in + media.lost).max(1) as f64;
        figures.push((format!("{lost:.1} %"), "of the caller's packets lost"));
    }
    figures
}

fn talk(html: &mut String, turns: &[TurnRecord], offset_ms: f64, playable: bool) {
    if turns.is_empty() {
        return;
    }
    let longest = turns.iter().filter_map(|turn| turn.gap_ms).fold(1.0, f64::max);
    let _ = write!(html, "<h2>Conversation</h2><ol class=\"talk\">");
    for turn in turns {
        let who = if turn.who == Speaker::Caller { "caller" } else { "agent" };
        let at_ms = (turn.started_ms + offset_ms).max(0.0);
        let _ = write!(html, "<li class=\"{who}\"><div class=\"meta\">");
        let time = clock(at_ms);
        let _ = if playable {
            write!(html, "<button data-at=\"{:.2}\" aria-label=\"Play from {time}\">▶ {time}</button>", at_ms / 1_000.0)
        } else {
            write!(html, "<span>{time}</span>")
        };
        let _ = write!(html, "<strong>{who}</strong>");
        for note in notes(turn) {
            let _ = write!(html, "<span>{note}</span>");
        }
        let said = if turn.text.is_empty() { "(nothing understood)".into() } else { escape(&turn.text) };
        let _ = write!(html, "</div><p class=\"said\">{said}</p>");
        if turn.gap_ms.is_some() {
            bar(html, &turn.stages.waits_ms(), longest);
        }
        html.push_str("</li>");
    }
    html.push_str("</ol><p class=\"lanes\">Bars show what an answer waited for: ");
    for (class, name, _) in STAGES {
        let _ = write!(html, "<span><i class=\"{class}\"></i>{name}</span>");
    }
    html.push_str("</p>");
}

fn notes(turn: &TurnRecord) -> Vec<String> {
    let mut notes = Vec::new();
    if turn.by == Means::Keys {
        notes.push(if turn.who == Speaker::Caller { "by key" } else { "to a key" }.into());
    }
    if let Some(matched) = &turn.matched {
        notes.push(format!("understood as {}", escape(matched)));
    }
    if let Some(confidence) = turn.confidence {
        notes.push(format!("{:.0} % sure", confidence * 100.0));
    }
    if let Some(gap) = turn.gap_ms {
        notes.push(format!("answered after {gap:.0} ms{}", if turn.ahead { ", prepared ahead" } else { "" }));
    }
    if turn.interrupted {
        notes.push("<span class=\"bad\">interrupted</span>".into());
    }
    notes
}

/// An answer's waits as a bar, to the scale of the longest gap.
fn bar(html: &mut String, waits: &Waits, longest_ms: f64) {
    let words: Vec<String> = STAGES.iter().map(|(_, name, of)| format!("{name} {:.0} ms", of(waits))).collect();
    let words = words.join(", ");
    let _ = write!(html, "<div class=\"bar\" role=\"img\" aria-label=\"Waited for {words}\" title=\"{words}\">");
    for (class, _, of) in STAGES {
        let _ = write!(
            html,
            "<i class=\"{class}\" style=\"width:{:.2}%\"></i>",
            (of(waits) / longest_ms * 100.0).clamp(0.0, 100.0)
        );
    }
    html.push_str("</div>");
}

fn delays(html: &mut String, turns: &[TurnRecord], measured: Option<&Measured>) {
    let answers: Vec<Waits> =
        turns.iter().filter(|turn| turn.gap_ms.is_some()).map(|turn| turn.stages.waits_ms()).collect();
    let mut rows: Vec<(String, Option<Spread>)> = Vec::new();
    if let Some(measured) = measured {
        rows.push(("Gap, in the recording".into(), measured.gaps()));
    }
    rows.push(("Gap, by the agent&#39;s clock".into(), Spread::of(turns.iter().filter_map(|turn| turn.gap_ms))));
    for (_, name, of) in STAGES {
        rows.push((format!("… of it {name}"), Spread::of(answers.iter().map(of))));
    }
    if let Some(measured) = measured {
        rows.push(("Silent after an interruption".into(), measured.silencing()));
    }
    rows.retain(|(_, spread)| spread.is_some());
    if rows.is_empty() {
        return;
    }
    let _ = write!(
        html,
        "<h2>Delays</h2><div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Delays\"><table><caption>From the \
         caller's last sound to the agent's first, in milliseconds</caption><thead><tr><th scope=\"col\"></th><th \
         scope=\"col\">median</th><th scope=\"col\">95 %</th><th scope=\"col\">longest</th><th scope=\"col\">of</th></tr></thead><tbody>"
    );
    for (name, spread) in rows {
        let Some(spread) = spread else { continue };
        let _ = write!(
            html,
            "<tr><th scope=\"row\">{name}</th><td>{:.0}</td><td>{:.0}</td><td>{:.0}</td><td>{}</td></tr>",
            spread.median_ms, spread.p95_ms, spread.max_ms, spread.count
        );
    }
    html.push_str("</tbody></table></div>");
}

fn packets(html: &mut String, media: &MediaRecord) {
    let rtt = media.rtt_ms.map_or_else(|| "not known".into(), |rtt| format!("{rtt:.1} ms"));
    let rows: [(&str, String); 8] = [
        ("Received", format!("{} packets, {} bytes", media.packets_in, media.bytes_in)),
        ("Sent", format!("{} packets, {} bytes", media.packets_out, media.bytes_out)),
        ("Lost, late", format!("{}, {}", media.lost, media.late)),
        ("Twice, out of order", format!("{}, {}", media.duplicates, media.reordered)),
        ("From strangers", media.foreign.to_string()),
        ("Jitter", format!("{:.1} ms", media.jitter_ms)),
        ("Round trip", rtt),
        ("Dropped inside", format!("{} frames", media.ring_drops)),
    ];
    list(html, "Packets", &rows);
}

fn details(html: &mut String, record: &CallRecord) {
    let none = AgentRecord::default();
    let agent = record.agent.as_ref().unwrap_or(&none);
    let rows: Vec<(&str, String)> = [
        ("Call", record.call.clone()),
        ("SIP Call-ID", record.sip_call_id.clone()),
        ("Peer", format!("{} over {}", record.peer, record.transport)),
        ("Answered by", record.target.clone()),
        ("Handed over to", record.conversations.iter().skip(1).map(|one| &*one.agent).collect::<Vec<_>>().join(", ")),
        ("Recogniser", agent.recognizer.clone()),
        ("Brain", agent.brain.clone()),
        ("Voice", agent.voice.clone()),
        ("End", format!("{} ({})", record.end.reason.as_str(), record.end.class.as_str())),
        ("Ended", record.ended_at.clone()),
        ("Failures", agent.failures.join("; ")),
    ]
    .into_iter()
    .filter(|(_, value)| !value.is_empty())
    .map(|(name, value)| (name, escape(&value)))
    .collect();
    list(html, "Details", &rows);
}

fn list(html: &mut String, title: &str, rows: &[(&str, String)]) {
    let _ = write!(html, "<h2>{title}</h2><div class=\"card\"><dl>");
    for (name, value) in rows {
        let _ = write!(html, "<dt>{name}</dt><dd>{value}</dd>");
    }
    html.push_str("</dl></div>");
}

/// Minutes and seconds.
pub(super) fn clock(ms: f64) -> String {
    let seconds = (ms / 1_000.0).max(0.0);
    format!("{}:{:04.1}", (seconds / 60.0) as u64, seconds % 60.0)
}

/// Text as it may stand in HTML.
pub(super) fn escape(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() && c != '\n' => out.push('\u{fffd}'),
            c => out.push(c),
        }
        out
    })
}
