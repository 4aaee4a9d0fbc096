//! One trace for each call, through signalling, sound, conversation, providers, database and webhooks (OpenTelemetry).
//!
//! The ids follow from the call's own id, so that whoever does something for a call names the same trace without having been told: the
//! spans of a call are made when it has ended, of what its record has (also of one that a killed server left behind); providers and webhooks are asked with its `traceparent` before.
//! No media thread and no conversation does anything for it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use agent::history::Speaker;
use agent::session::TurnRecord;
use agent::tool::{HANG_UP, TRANSFER, ToolOutcome, ToolRecord};
use aws_lc_rs::digest;
use control::ports::spans::{Begun, Done, Spans};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span, Status};

use super::otlp::{SpanQueue, attribute, count, number};
use crate::call::end::EndClass;
use crate::call::record::{CallDirection, CallRecord, LegRecord};
use crate::config::Config;

/// Traces of others that calls go on with; the oldest is forgotten first.
const REMOTE_LIMIT: usize = 10_000;

/// Makes the spans of calls.
#[derive(Debug)]
pub struct Traces {
    queue: SpanQueue,
    node: String,
    /// A call is traced where its number, 0 to 1, is below this.
    sample: f64,
    personal: bool,
    remote: Mutex<Remote>,
}

/// Traces that began elsewhere, by call.
#[derive(Debug, Default)]
struct Remote {
    by_call: HashMap<String, Parent>,
    oldest: VecDeque<String>,
}

/// A span of somebody else's that a call is within.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Parent {
    trace: [u8; 16],
    span: [u8; 8],
    is_sampled: bool,
}

/// Where a call's spans belong.
#[derive(Debug, Clone, Copy)]
struct Place {
    trace: [u8; 16],
    /// The call's own span.
    root: [u8; 8],
    parent: Option<[u8; 8]>,
}

impl Traces {
    /// Spans of this server go into a queue.
    #[must_use]
    pub fn new(config: &Config, queue: SpanQueue) -> Self {
        Self {
            queue,
            node: config.control.node.clone(),
            sample: config.telemetry.otlp.sample,
            personal: config.log.personal,
            remote: Mutex::default(),
        }
    }

    /// For requests that are made for a call: the header `traceparent`; `None` where the call is not traced.
    #[must_use]
    pub fn traceparent(&self, call: &str) -> Option<String> {
        self.place(call).map(|place| traceparent(place.trace, place.root))
    }

    /// A call goes on with a trace that began elsewhere (`traceparent`); what cannot be read is passed over.
    pub fn continues(&self, call: &str, traceparent: &str) {
        let Some(parent) = Parent::read(traceparent) else { return };
        let mut remote = self.remote.lock().unwrap_or_else(PoisonError::into_inner);
        if remote.oldest.len() >= REMOTE_LIMIT
            && let Some(oldest) = remote.oldest.pop_front()
        {
            remote.by_call.remove(&oldest);
        }
        if remote.by_call.insert(call.to_owned(), parent).is_none() {
            remote.oldest.push_back(call.to_owned());
        }
    }

    /// Tells a call that has ended.
    pub fn call(&self, record: &CallRecord) {
        let Some(place) = self.place(&record.call) else { return };
        let telling = Telling { place, record, personal: self.personal };
        for span in telling.spans() {
            self.queue.push(span);
        }
    }

    fn place(&self, call: &str) -> Option<Place> {
        let hash = digest::digest(&digest::SHA256, format!("{}\0{call}", self.node).as_bytes());
        let hash = hash.as_ref();
        let (trace, root) = (hash.first_chunk::<16>()?, hash.get(16..)?.first_chunk::<8>()?);
        let remote = self.remote.lock().unwrap_or_else(PoisonError::into_inner).by_call.get(call).copied();
        if let Some(parent) = remote {
            let place = Place { trace: parent.trace, root: *root, parent: Some(parent.span) };
            return parent.is_sampled.then_some(place);
        }
        let number = u32::from_be_bytes(*hash.last_chunk::<4>()?);
        let is_sampled = f64::from(number) / f64::from(u32::MAX) < self.sample || self.sample >= 1.0;
        is_sampled.then_some(Place { trace: *trace, root: *root, parent: None })
    }
}

impl Spans for Traces {
    fn begin(&self, call: &str) -> Option<Begun> {
        let place = self.place(call)?;
        let at = SystemTime::now();
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let id = derived(&place, &format!("{since} {:?}", std::thread::current().id()));
        Some(Begun { call: call.to_owned(), id, traceparent: traceparent(place.trace, id), at })
    }

    fn end(&self, begun: Begun, done: Done) {
        let Some(place) = self.place(&begun.call) else { return };
        let mut span = Span {
            span_id: begun.id.to_vec(),
            kind: SpanKind::Client.into(),
            attributes: done.attributes.iter().map(|(key, value)| attribute(key, value)).collect(),
            ..spanning(&place, done.name, begun.at, SystemTime::now())
        };
        span.status = done.fault.map(failed);
        self.queue.push(span);
    }
}

impl Parent {
    /// W3C Trace Context, section 3.2.2: `00-TRACE-SPAN-FLAGS`, and what later versions add.
    fn read(text: &str) -> Option<Self> {
        let mut parts = text.trim().split('-');
        let version: [u8; 1] = hex(parts.next()?)?;
        let parent = Self {
            trace: hex(parts.next()?)?,
            span: hex(parts.next()?)?,
            is_sampled: hex::<1>(parts.next()?)?[0] & 1 == 1,
        };
        let is_good = version != [0xff] && (version != [0] || parts.next().is_none());
        (is_good && parent.trace != [0; 16] && parent.span != [0; 8]).then_some(parent)
    }
}

fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N || !text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)) {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, at) in bytes.iter_mut().zip((0..text.len()).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

fn traceparent(trace: [u8; 16], span: [u8; 8]) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("00-{}-{}-01", hex(&trace), hex(&span))
}

fn derived(place: &Place, name: &str) -> [u8; 8] {
    let text = [&place.trace[..], &place.root, name.as_bytes()].concat();
    let mut id = [0; 8];
    id.iter_mut().zip(digest::digest(&digest::SHA256, &text).as_ref()).for_each(|(to, from)| *to = *from);
    id
}

/// A span directly within the call.
fn spanning(place: &Place, name: String, from: SystemTime, until: SystemTime) -> Span {
    let nanos = |at: SystemTime| {
        u64::try_from(at.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
    };
    let (from, until) = (nanos(from), nanos(until));
    Span {
        trace_id: place.trace.to_vec(),
        span_id: derived(place, &format!("{name} {from}")).to_vec(),
        parent_span_id: place.root.to_vec(),
        // Sampled (W3C Trace Context).
        flags: 1,
        name,
        kind: SpanKind::Internal.into(),
        start_time_unix_nano: from,
        end_time_unix_nano: until.max(from),
        ..Span::default()
    }
}

fn failed(why: String) -> Status {
    Status { message: why, code: StatusCode::Error.into() }
}

/// A call that has ended, as spans.
struct Telling<'a> {
    place: Place,
    record: &'a CallRecord,
    personal: bool,
}

impl Telling<'_> {
    fn spans(&self) -> Vec<Span> {
        let at = |text: &str| humantime::parse_rfc3339(text).ok();
        let record = self.record;
        let (Some(began), Some(ended)) = (at(&record.started_at), at(&record.ended_at)) else { return Vec::new() };
        let answered = record.answered_at.as_deref().and_then(at);
        let mut spans = vec![self.root(began, ended), self.set_up(began, answered.unwrap_or(ended))];
        spans.extend(record.legs.iter().filter_map(|leg| self.leg(leg, began, ended)));
        if let Some(answered) = answered {
            spans.extend(self.media(answered, ended));
            self.conversation(answered, ended, &mut spans);
        }
        spans
    }

    fn root(&self, began: SystemTime, ended: SystemTime) -> Span {
        let record = self.record;
        let mut attributes = vec![
            attribute("omnivox.call.id", &record.call),
            attribute("omnivox.call.direction", record.direction.as_str()),
            attribute("omnivox.call.end.class", record.end.class.as_str()),
            attribute("omnivox.call.end.reason", record.end.reason.as_str()),
            attribute("network.protocol.name", "sip"),
            attribute("network.transport", &record.transport),
        ];
        attributes.extend(record.trunk.as_deref().map(|trunk| attribute("omnivox.trunk", trunk)));
        if self.personal {
            attributes.extend([
                attribute("omnivox.call.from", &record.from),
                attribute("omnivox.call.to", &record.to),
                attribute("sip.call_id", &record.sip_call_id),
            ]);
        }
        let status = matches!(record.end.class, EndClass::UpstreamFault | EndClass::OurFault)
            .then(|| failed(record.end.reason.as_str().to_owned()));
        Span {
            span_id: self.place.root.to_vec(),
            parent_span_id: self.place.parent.map(|parent| parent.to_vec()).unwrap_or_default(),
            kind: self.kind().into(),
            attributes,
            status,
            ..spanning(&self.place, "call".to_owned(), began, ended)
        }
    }

    /// From the INVITE to its answer.
    fn set_up(&self, began: SystemTime, until: SystemTime) -> Span {
        let mut span = spanning(&self.place, "INVITE".to_owned(), began, until);
        span.kind = self.kind().into();
        span.attributes = vec![attribute("network.transport", &self.record.transport)];
        if self.record.answered_at.is_none() {
            span.status = Some(failed("not answered".to_owned()));
        }
        span
    }

    /// From the INVITE of somebody who was called to its answer, or to its end without one.
    fn leg(&self, leg: &LegRecord, began: SystemTime, ended: SystemTime) -> Option<Span> {
        let at = |text: Option<&str>| text.and_then(|text| humantime::parse_rfc3339(text).ok());
        let answered = at(leg.answered_at.as_deref());
        // A clock that was set back ends nothing before it began.
        let ended = ended.max(began);
        let until = answered.or_else(|| at(leg.ended_at.as_deref())).unwrap_or(ended).clamp(began, ended);
        let from = at(leg.started_at.as_deref())?.clamp(began, until);
        let (kind, name) = leg.label.split_once(' ').unwrap_or((&leg.label, ""));
        let mut span = spanning(&self.place, format!("INVITE {kind}"), from, until);
        span.span_id = derived(&self.place, &format!("leg {}", leg.leg)).to_vec();
        span.kind = SpanKind::Client.into();
        span.attributes = vec![count("omnivox.leg", leg.leg.into()), attribute("network.transport", &leg.transport)];
        if kind == "trunk" {
            span.attributes.push(attribute("omnivox.trunk", name));
        }
        if self.personal {
            span.attributes.push(attribute("omnivox.leg.to", &leg.uri));
            span.attributes.push(attribute("sip.call_id", &leg.sip_call_id));
        }
        if answered.is_none() {
            span.status = Some(failed("not answered".to_owned()));
        }
        Some(span)
    }

    fn kind(&self) -> SpanKind {
        match self.record.direction {
            CallDirection::Inbound => SpanKind::Server,
            CallDirection::Outbound => SpanKind::Client,
        }
    }

    fn media(&self, answered: SystemTime, ended: SystemTime) -> Option<Span> {
        let media = self.record.media.as_ref()?;
        let mut span = spanning(&self.place, "media".to_owned(), answered, ended);
        span.attributes = vec![
            attribute("omnivox.media.codec", &self.record.codec),
            attribute("omnivox.media.srtp", &self.record.srtp),
            count("omnivox.media.packets_in", media.packets_in),
            count("omnivox.media.packets_out", media.packets_out),
            count("omnivox.media.lost", media.lost),
            number("omnivox.media.jitter_ms", media.jitter_ms),
        ];
        let figures = [("rtt_ms", media.rtt_ms), ("mos_in", media.mos_in), ("mos_out", media.mos_out)];
        let known = figures.iter().filter_map(|(name, figure)| Some((name, (*figure)?)));
        span.attributes.extend(known.map(|(name, figure)| number(&format!("omnivox.media.{name}"), figure)));
        Some(span)
    }

    /// What was said, each answer with what it waited for.
    fn conversation(&self, answered: SystemTime, ended: SystemTime, spans: &mut Vec<Span>) {
        let Some(agent) = &self.record.agent else { return };
        let [_, _, ..] = &self.record.conversations[..] else {
            let providers = [&*agent.recognizer, &agent.brain, &agent.voice];
            let held = Held { name: &self.record.target, providers, from: answered, until: ended };
            return self.held(&held, answered, &agent.turns.iter().collect::<Vec<_>>(), spans);
        };
        // Each agent's own, where one handed the caller over to another.
        let at = |text: &str| humantime::parse_rfc3339(text).ok();
        for one in &self.record.conversations {
            let from = at(&one.began_at).unwrap_or(answered);
            let until = one.ended_at.as_deref().and_then(at).unwrap_or(ended).max(from);
            let providers = [&*one.recognizer, &one.brain, &one.voice];
            let turns: Vec<_> = agent.turns.iter().filter(|turn| turn.conversation == one.conversation).collect();
            self.held(&Held { name: &one.agent, providers, from, until }, answered, &turns, spans);
        }
    }

    fn held(&self, held: &Held<'_>, answered: SystemTime, turns: &[&TurnRecord], spans: &mut Vec<Span>) {
        let mut whole = spanning(&self.place, format!("invoke_agent {}", held.name), held.from, held.until);
        let failures = self.record.agent.as_ref().map_or(0, |agent| agent.failures.len());
        whole.attributes = vec![
            attribute("gen_ai.operation.name", "invoke_agent"),
            attribute("gen_ai.agent.name", held.name),
            attribute("gen_ai.provider.name", held.providers[1]),
            count("omnivox.failures", failures as u64),
        ];
        let within = |parent: &Span, mut span: Span| {
            span.parent_span_id.clone_from(&parent.span_id);
            // The line's clock and the call's need not agree to the millisecond.
            span.end_time_unix_nano = span.end_time_unix_nano.min(parent.end_time_unix_nano);
            span.start_time_unix_nano = span
                .start_time_unix_nano
                .clamp(parent.start_time_unix_nano, span.end_time_unix_nano.max(parent.start_time_unix_nano));
            span.end_time_unix_nano = span.end_time_unix_nano.max(span.start_time_unix_nano);
            span
        };
        let on_line = |ms: f64| {
            let since = Duration::try_from_secs_f64(ms / 1_000.0).unwrap_or_default();
            answered.checked_add(since).unwrap_or(answered)
        };
        for turn in turns {
            let from = turn.stages.speech_end_ms.unwrap_or(turn.started_ms).min(turn.started_ms);
            let span = spanning(&self.place, turn_name(turn).to_owned(), on_line(from), on_line(turn.ended_ms));
            let mut span = within(&whole, span);
            span.attributes = self.about(turn);
            for (name, from, until, attributes) in stages(turn, held.providers) {
                let stage = spanning(&self.place, name, on_line(from), on_line(until));
                let mut stage = within(&span, stage);
                stage.attributes = attributes;
                spans.push(stage);
            }
            for (place, tool) in turn.tools.iter().enumerate() {
                let from = tool.started_ms.unwrap_or(tool.asked_ms);
                let until = from + tool.took_ms.unwrap_or_default();
                let name = format!("execute_tool {}", known(&tool.name));
                let done = spanning(&self.place, name, on_line(from), on_line(until));
                // A transfer goes on when the turn is over: it is the turn's, and no longer than the conversation.
                let mut done = within(&whole, done);
                done.span_id = derived(&self.place, &format!("tool {} {place}", turn.index)).to_vec();
                done.parent_span_id.clone_from(&span.span_id);
                done.attributes = self.about_tool(tool);
                done.status = matches!(tool.outcome, ToolOutcome::Failed | ToolOutcome::Refused)
                    .then(|| failed(tool.why.clone().unwrap_or_default()));
                spans.push(done);
            }
            spans.push(span);
        }
        spans.push(whole);
    }

    fn about(&self, turn: &TurnRecord) -> Vec<KeyValue> {
        let mut attributes = vec![count("omnivox.turn", u64::from(turn.index))];
        attributes.extend(turn.gap_ms.map(|gap| number("omnivox.turn.gap_ms", gap)));
        if turn.interrupted {
            attributes.push(attribute("omnivox.turn.interrupted", "true"));
        }
        if self.personal {
            attributes.push(attribute("omnivox.turn.text", &turn.text));
        }
        attributes
    }

    fn about_tool(&self, tool: &ToolRecord) -> Vec<KeyValue> {
        let mut attributes = vec![
            attribute("gen_ai.operation.name", "execute_tool"),
            attribute("gen_ai.tool.name", if self.personal { &tool.name } else { known(&tool.name) }),
            attribute("gen_ai.tool.type", "function"),
            attribute("omnivox.tool.outcome", tool.outcome.as_str()),
            number("omnivox.tool.waited_ms", tool.started_ms.map_or(0.0, |started| started - tool.asked_ms)),
        ];
        if matches!(tool.outcome, ToolOutcome::Failed | ToolOutcome::Refused) {
            attributes.push(attribute("error.type", tool.outcome.as_str()));
        }
        if self.personal {
            attributes.push(attribute("gen_ai.tool.call.arguments", &tool.arguments));
        }
        attributes
    }
}

/// A conversation with an agent.
struct Held<'a> {
    name: &'a str,
    /// Who recognised, thought and spoke.
    providers: [&'a str; 3],
    from: SystemTime,
    until: SystemTime,
}

/// A tool's name, where it is none that the model made up: that may say anything.
fn known(name: &str) -> &str {
    if [HANG_UP, TRANSFER].contains(&name) { name } else { "other" }
}

fn turn_name(turn: &TurnRecord) -> &'static str {
    match turn.who {
        Speaker::Caller => "caller speaks",
        Speaker::Agent => "agent answers",
    }
}

/// What an answer waited for: name, from, until (ms on the line's clock), attributes.
fn stages(turn: &TurnRecord, [ear, brain, voice]: [&str; 3]) -> Vec<(String, f64, f64, Vec<KeyValue>)> {
    let at = &turn.stages;
    let mut reached = at.speech_end_ms;
    let provider = |name: &str| vec![attribute("gen_ai.provider.name", name)];
    let chat = || [provider(brain), vec![attribute("gen_ai.operation.name", "chat")]].concat();
    let steps = [
        ("end of turn".to_owned(), at.endpoint_ms, Vec::new()),
        (format!("recognise {ear}"), at.recogniser_ms, provider(ear)),
        (format!("chat {brain}"), at.brain_ms, chat()),
        (format!("speak {voice}"), at.voice_ms, provider(voice)),
        ("line".to_owned(), at.sent_ms, Vec::new()),
    ];
    let mut spans = Vec::new();
    for (name, until, attributes) in steps {
        if let (Some(from), Some(until)) = (reached, until) {
            // What ran ahead waited for nothing: it is there, without length.
            spans.push((name, from, until.max(from), attributes));
            reached = Some(until.max(from));
        }
    }
    spans
}

#[cfg(test)]
mod tests;
