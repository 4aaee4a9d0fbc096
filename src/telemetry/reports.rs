//! Faults of ours told to an error tracker that speaks Sentry's protocol: what is logged as an error, and panics, each with its call. What is
//! personal is not: logs have it masked already, and what looks like a number, an address or a secret is masked once more, for a panic's
//! words are nobody's choice.

use std::cell::RefCell;
use std::fmt;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use regex::Regex;
use sentry_types::Dsn;
use sentry_types::protocol::v7::{Envelope, Event, Exception, Level, Map};
use tokio::sync::mpsc;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Level as LogLevel, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// Reports sent within a minute. Beyond: counted alone.
pub const A_MINUTE: u32 = 30;
/// Reports that wait to be sent.
const WAITING_LIMIT: usize = 64;
/// The tracker answers within this.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);
/// Bytes of a text that are told.
const TEXT_BYTES: usize = 4_096;
const BACKTRACE_BYTES: usize = 16_384;

thread_local! {
    /// The calls whose spans this thread is in.
    static CALLS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Takes errors and panics; a layer of the log.
#[derive(Debug)]
pub struct Reports {
    sender: mpsc::Sender<Vec<u8>>,
    node: String,
    /// When this minute began, and how many were sent in it.
    minute: Mutex<(Instant, u32)>,
}

impl Reports {
    /// Starts the thread that sends. `node` is what this server is called.
    ///
    /// # Errors
    /// The DSN is none, or TLS cannot be set up.
    pub fn start(dsn: &str, node: &str) -> anyhow::Result<&'static Self> {
        // The parser's words may repeat the DSN, which has a key.
        let dsn: Dsn = dsn.parse().map_err(|_| anyhow::anyhow!("telemetry.sentry_dsn is no DSN"))?;
        let client =
            reqwest::Client::builder().timeout(ANSWERS_WITHIN).redirect(reqwest::redirect::Policy::none()).build()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (sender, waiting) = mpsc::channel(WAITING_LIMIT);
        std::thread::Builder::new()
            .name("reports".into())
            .spawn(move || runtime.block_on(send_all(&dsn, &client, waiting)))?;
        let minute = Mutex::new((Instant::now(), 0));
        // It is there as long as the process: the log and the panic hook hold it.
        Ok(Box::leak(Box::new(Self { sender, node: node.to_owned(), minute })))
    }

    /// Tells panics too, and then whoever was told before.
    pub fn hook_panics(&'static self) {
        let next = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let payload = panic.payload();
            let words = payload.downcast_ref::<&str>().copied();
            let words = words.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no words");
            let exception = Exception { ty: "panic".to_owned(), value: Some(scrubbed(words)), ..Exception::default() };
            let mut event = self.event(Level::Fatal, current_call());
            event.culprit = panic.location().map(ToString::to_string);
            event.exception = vec![exception].into();
            let trace = std::backtrace::Backtrace::force_capture().to_string();
            event.extra.insert("backtrace".to_owned(), cut(&trace, BACKTRACE_BYTES).into());
            self.tell(event);
            next(panic);
        }));
    }

    fn event(&self, level: Level, call: Option<String>) -> Event<'static> {
        let mut tags = Map::new();
        tags.extend(call.map(|call| ("call".to_owned(), call)));
        Event {
            level,
            tags,
            server_name: Some(self.node.clone().into()),
            release: Some(concat!("omnivox@", env!("CARGO_PKG_VERSION")).into()),
            ..Event::default()
        }
    }

    /// Never waits.
    fn tell(&self, event: Event<'static>) {
        let dropped = |reason: &'static str| {
            metrics::counter!("omnivox_error_reports_dropped_total", "reason" => reason).increment(1);
        };
        {
            let mut minute = self.minute.lock().unwrap_or_else(PoisonError::into_inner);
            if minute.0.elapsed() >= Duration::from_secs(60) {
                *minute = (Instant::now(), 0);
            }
            if minute.1 >= A_MINUTE {
                return dropped("rate");
            }
            minute.1 += 1;
        }
        let mut envelope = Vec::new();
        if Envelope::from(event).to_writer(&mut envelope).is_err() || self.sender.try_send(envelope).is_err() {
            dropped("queue");
        }
    }
}

async fn send_all(dsn: &Dsn, client: &reqwest::Client, mut waiting: mpsc::Receiver<Vec<u8>>) {
    let agent = concat!("omnivox/", env!("CARGO_PKG_VERSION"));
    while let Some(envelope) = waiting.recv().await {
        let request = client.post(dsn.envelope_api_url().as_str()).body(envelope);
        let request = request.header("x-sentry-auth", dsn.to_auth(Some(agent)).to_string());
        let sent = request.header("content-type", "application/x-sentry-envelope").send().await;
        // Not an error: it would be reported.
        match sent.map(|answer| answer.status()) {
            Ok(status) if status.is_success() => {
                metrics::counter!("omnivox_error_reports_sent_total").increment(1);
            }
            Ok(status) => tracing::warn!("the error tracker answers {status}"),
            Err(fault) => tracing::warn!("the error tracker does not answer: {}", fault.without_url()),
        }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for &'static Reports {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let (Some(call), Some(span)) = (fields.call, context.span(id)) {
            span.extensions_mut().insert(Call(call));
        }
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(Call(call)) = span.extensions().get::<Call>() {
            let _ = CALLS.try_with(|calls| calls.borrow_mut().push(call.clone()));
        }
    }

    fn on_exit(&self, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if span.extensions().get::<Call>().is_some() {
            let _ = CALLS.try_with(|calls| calls.borrow_mut().pop());
        }
    }

    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if *event.metadata().level() != LogLevel::ERROR {
            return;
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        let mut report = self.event(Level::Error, fields.call.or_else(current_call));
        report.logger = Some(event.metadata().target().to_owned());
        report.message = Some(scrubbed(&fields.message));
        let others = fields.others.into_iter().map(|(name, value)| (name.to_owned(), scrubbed(&value).into()));
        report.extra.extend(others);
        self.tell(report);
    }
}

/// The call that a span is of.
struct Call(String);

fn current_call() -> Option<String> {
    CALLS.try_with(|calls| calls.try_borrow().ok()?.last().cloned()).ok()?
}

/// What a log line or a span has.
#[derive(Default)]
struct Fields {
    message: String,
    call: Option<String>,
    others: Vec<(&'static str, String)>,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        match field.name() {
            "message" => self.message = text,
            "call" => self.call = Some(text.trim_matches('"').to_owned()),
            name => self.others.push((name, text)),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}

/// A text without what looks like a number, an address of somebody, or a secret.
fn scrubbed(text: &str) -> String {
    static PATTERNS: OnceLock<Vec<Regex>> = OnceLock::new();
    let patterns = PATTERNS.get_or_init(|| {
        let written = [
            // Addresses of people.
            r"(?i)\b(?:sips?|tel|mailto|xmpp):[^\s>;,\x22]+",
            // What stands before the host of a URL, and what follows its path.
            r"(?i)//[^/\s@]+:[^/\s@]+@",
            r"\?[^\s\x22]*=[^\s\x22]*",
            r"[\w.+-]+@[\w.-]+",
            // Keys, and what is as long.
            r"(?i)\b(?:bearer|basic)\s+\S+",
            r"(?i)\b(?:token|password|secret|key)\b[\x22']?\s*[=:]\s*\S+",
            r"\b[A-Za-z0-9_+-]{32,}={0,2}",
            // Numbers as people write them.
            r"\+?\b\d(?:[\s().\x2f-]*\d){4,}\b",
        ];
        written.iter().filter_map(|pattern| Regex::new(pattern).ok()).collect()
    });
    let mut text = cut(text, TEXT_BYTES).to_owned();
    for pattern in patterns {
        if let std::borrow::Cow::Owned(masked) = pattern.replace_all(&text, "<masked>") {
            text = masked;
        }
    }
    text
}

fn cut(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_addresses_and_secrets_are_masked_and_the_rest_stays() {
        for (text, kept) in [
            (
                "call 0mihq3k2a-0001 broke after 250 ms on port 5060",
                "call 0mihq3k2a-0001 broke after 250 ms on port 5060",
            ),
            ("byte index 5 of `+49 (30) 123-4567` is none", "byte index 5 of `<masked>` is none"),
            ("no route to 030987654", "no route to <masked>"),
            ("from <sip:alice@example.net;user=phone>", "from <<masked>;user=phone>"),
            ("alice.b@example.net wrote", "<masked> wrote"),
            ("postgres://me:pw@db/x", "postgres:<masked>db/x"),
            ("https://host/a?token=abc", "https://host/a<masked>"),
            ("Authorization: Bearer s3cret", "Authorization: <masked>"),
            ("the password is password=hunter2", "the password is <masked>"),
            ("ov_0123456789abcdef0123456789abcdef", "<masked>"),
            ("the certificate in /etc/own.pem", "the certificate in /etc/own.pem"),
        ] {
            assert_eq!(scrubbed(text), kept, "{text}");
        }
        let long = scrubbed(&"é ".repeat(TEXT_BYTES));
        assert!(long.len() <= TEXT_BYTES && long.len() > TEXT_BYTES - 3, "{}", long.len());
    }
}
