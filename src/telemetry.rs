//! Logs and metrics of the process. Logs go to stderr; numbers, addresses and transcripts pass through
//! [`Masked`], so that nothing personal stands in them unless `log.personal` asks for it.

pub mod otlp;
pub mod reports;
pub mod traces;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use self::reports::Reports;
use crate::call::end::EndReason;
use crate::config::{LogConfig, LogFormat};

static SHOW_PERSONAL: AtomicBool = AtomicBool::new(false);

/// Upper bounds of the latency histograms, in seconds.
const LATENCY_BUCKETS_S: [f64; 12] = [0.005, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.2, 2.0, 5.0];

/// Upper bounds of those of waiting callers, in seconds.
const WAIT_BUCKETS_S: [f64; 10] = [1.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0];

/// Something personal: shown in full only when `log.personal` is set, masked otherwise.
pub struct Masked<'a>(pub &'a str);

impl fmt::Display for Masked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if SHOW_PERSONAL.load(Ordering::Relaxed) {
            return f.write_str(self.0);
        }
        write!(f, "<{} characters>", self.0.chars().count())
    }
}

impl fmt::Debug for Masked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Sends logs to stderr as configured, and errors and panics to `reports` too. Only the first call of a process has an effect.
///
/// # Errors
/// The filter in `log.level` cannot be read.
pub fn init_logs(config: &LogConfig, reports: Option<&'static Reports>) -> anyhow::Result<()> {
    SHOW_PERSONAL.store(config.personal, Ordering::Relaxed);
    let filter = filter(&config.level).ok_or_else(|| {
        anyhow::anyhow!(
            "log.level = \"{}\": write error, warn, info, debug, trace, or a filter such as info,sip=debug",
            config.level
        )
    })?;
    // These name addresses of peers in their logs, and warn of what is usual; a filter that names them has them nevertheless.
    let quiet = ["rtc_ice=error", "rtc_dtls=error", "turn_client_proto=error", "turn_types=error", "stun_proto=error"];
    let filter = quiet.into_iter().fold(filter, |filter, quiet| {
        let of_its_own = quiet.split('=').next().is_some_and(|name| config.level.contains(name));
        match quiet.parse() {
            Ok(directive) if !of_its_own => filter.add_directive(directive),
            _ => filter,
        }
    });
    // Where nobody reads stderr any more, a line that cannot be written is told to nobody: trying to would be a panic.
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_span_events(FmtSpan::NONE)
        .log_internal_errors(false);
    let told = tracing_subscriber::registry().with(filter).with(reports);
    // A second call in one process (tests, examples) keeps the first subscriber.
    let begun = match config.format {
        LogFormat::Text => told.with(lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))).try_init(),
        LogFormat::Json => told.with(lines.json().flatten_event(true)).try_init(),
    };
    if let (Ok(()), Some(reports)) = (begun, reports) {
        reports.hook_panics();
    }
    Ok(())
}

/// The filter that `log.level` stands for; `None` where it stands for none. A word that is no level names a part of the program, all of
/// which is logged; where no level beside it is for the others, it would silence them, and is none.
#[must_use]
pub fn filter(level: &str) -> Option<EnvFilter> {
    // Those that name spans have commas of their own.
    let names_spans = level.contains('[');
    let is_level = |part: &str| !part.trim().is_empty() && part.trim().parse::<LevelFilter>().is_ok();
    let names_its_level = |part: &str| part.contains('=') || part.trim().is_empty();
    let is_whole = names_spans || level.split(',').any(is_level) || level.split(',').all(names_its_level);
    EnvFilter::try_new(level).ok().filter(|_| is_whole)
}

/// Starts collecting metrics; the handle renders them for `/metrics`.
///
/// # Errors
/// The bucket bounds are refused, or a recorder is installed already.
pub fn init_metrics() -> anyhow::Result<PrometheusHandle> {
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &LATENCY_BUCKETS_S)?
        .set_buckets_for_metric(Matcher::Full("omnivox_queue_wait_seconds".to_owned()), &WAIT_BUCKETS_S)?
        .build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder)
        .map_err(|_| anyhow::anyhow!("a metrics recorder runs in this process already"))?;
    describe();
    begin_at_zero();
    Ok(handle)
}

/// Counters of faults, with the label that tells them apart and its values. They are there from the start: of one that begins with
/// what it counts, nobody sees the first, since `increase` needs a figure from before.
const FROM_ZERO: [(&str, &str, &[&str]); 17] = [
    ("omnivox_records_failed_total", "", &[]),
    ("omnivox_provider_failures_total", "stage", &["recognizer", "brain", "voice"]),
    ("omnivox_panics_total", "part", &["call", "program", "agent", "signalling", "media", "control"]),
    ("omnivox_media_packets_total", "direction", &["in", "out"]),
    ("omnivox_media_lost_packets_total", "", &[]),
    ("omnivox_media_ring_drops_total", "ring", &["ear"]),
    ("omnivox_media_overruns_total", "", &[]),
    ("omnivox_traces_exported_total", "", &[]),
    ("omnivox_traces_dropped_total", "reason", &["queue", "collector"]),
    ("omnivox_http_refused_total", "reason", &["connections", "address", "handshakes", "handshake", "handshake_time"]),
    ("omnivox_control_records_total", "", &[]),
    ("omnivox_control_journal_faults_total", "", &[]),
    ("omnivox_control_records_refused_total", "why", &["database", "unreadable"]),
    ("omnivox_control_audit_faults_total", "", &[]),
    ("omnivox_control_outbox_lost_total", "", &[]),
    ("omnivox_control_logins_failed_total", "", &[]),
    ("omnivox_control_webhook_attempts_total", "result", &["delivered", "failed"]),
];

fn begin_at_zero() {
    for (name, label, values) in FROM_ZERO {
        if values.is_empty() {
            metrics::counter!(name).increment(0);
        }
        for value in values {
            metrics::counter!(name, label => *value).increment(0);
        }
    }
    for reason in EndReason::ALL {
        let class = reason.class().as_str();
        metrics::counter!("omnivox_calls_total", "class" => class, "reason" => reason.as_str()).increment(0);
    }
}

fn describe() {
    use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
    describe_gauge!("omnivox_calls", "Calls in progress");
    describe_counter!("omnivox_calls_total", "Calls ended, by end class and reason");
    describe_counter!("omnivox_calls_refused_total", "Calls refused before they began, by SIP status code");
    describe_histogram!(
        "omnivox_response_gap_seconds",
        Unit::Seconds,
        "From the caller's last sound to the agent's first, per turn"
    );
    describe_counter!("omnivox_turns_total", "Turns, by who spoke");
    describe_counter!("omnivox_interruptions_total", "Times a caller interrupted the agent");
    describe_counter!("omnivox_provider_failures_total", "Failures of recognisers, brains and voices, by stage");
    describe_gauge!("omnivox_media_legs", "Legs the media workers own");
    describe_gauge!("omnivox_media_rooms", "Rooms the media workers own");
    describe_gauge!("omnivox_sip_dialogs", "SIP dialogs held");
    describe_gauge!("omnivox_sip_transactions", "SIP transactions held");
    describe_gauge!("omnivox_sip_connections", "TCP, TLS and WebSocket connections held");
    describe_counter!("omnivox_sip_repeats_total", "SIP messages repeated, by direction");
    describe_counter!("omnivox_sip_unreadable_total", "SIP messages that could not be read");
    describe_gauge!("omnivox_registrations", "Registrations held");
    describe_counter!("omnivox_registrations_total", "REGISTER requests of known devices, by result");
    describe_counter!(
        "omnivox_registrar_pings_total",
        "OPTIONS to phones behind NAT that keep the way to them open, by result"
    );
    describe_counter!("omnivox_queue_left_total", "Callers who wait in a queue no more, by queue and outcome");
    describe_gauge!("omnivox_queue_waiting", "Callers who wait, by queue");
    describe_histogram!(
        "omnivox_queue_wait_seconds",
        Unit::Seconds,
        "How long callers waited in a queue, whatever came of it, by queue"
    );
    describe_gauge!("omnivox_trunk_calls", "Calls by a trunk");
    describe_gauge!("omnivox_trunk_registered", "Whether we are registered with a trunk");
    describe_gauge!("omnivox_trunk_host_up", "Whether a trunk's host answers");
    describe_counter!("omnivox_trunk_refused_total", "Calls refused for a limit of their trunk, by limit");
    describe_gauge!("omnivox_guard_sources", "Sources of signalling remembered");
    describe_gauge!("omnivox_guard_silenced", "Sources that are not answered");
    describe_counter!(
        "omnivox_guard_refused_total",
        "Requests dropped or refused before they were looked at, by reason"
    );
    describe_counter!(
        "omnivox_panics_total",
        "Faults of this program, each the end of what it was at: a call, a message; by part"
    );
    describe_counter!("omnivox_media_rounds_total", "Rounds the media workers ran");
    describe_counter!("omnivox_media_overruns_total", "Rounds of a media worker that took longer than a frame may");
    describe_gauge!(
        "omnivox_media_longest_round_seconds",
        "The longest round of a media worker since the start, in seconds"
    );
    describe_counter!(
        "omnivox_media_relayed_packets_total",
        "RTP packets passed on between two legs of one codec as they came, not mixed"
    );
    describe_counter!("omnivox_media_packets_total", "RTP packets of ended calls, by direction");
    describe_counter!("omnivox_media_lost_packets_total", "RTP packets callers sent that never came, of ended calls");
    describe_counter!("omnivox_media_ring_drops_total", "Frames dropped at a full ring, of ended calls, by ring");
    describe_gauge!("omnivox_faults", "Whether a part fails while calls go on, by part");
    describe_gauge!("omnivox_http_connections", "Connections of HTTP held, with TLS and without");
    describe_counter!("omnivox_http_refused_total", "Connections of HTTP closed for a limit or a handshake, by reason");
    describe_counter!("omnivox_error_reports_sent_total", "Errors and panics that the error tracker took");
    describe_counter!("omnivox_error_reports_dropped_total", "Errors and panics that it was not told of, by reason");
    describe_counter!("omnivox_traces_exported_total", "Spans that the collector of traces took");
    describe_counter!(
        "omnivox_traces_dropped_total",
        "Spans that were dropped, by reason: a full queue, a collector that refuses"
    );
    describe_counter!(
        "omnivox_records_failed_total",
        "Call records that are lost: the disk took none until too many waited, or until the stop"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_is_no_level_needs_one_beside_it() {
        for level in ["info", "debug", "info,sip", "sip,warn", "info,sip=debug", "sip=debug", "INFO", "sip[call]=debug"]
        {
            assert!(filter(level).is_some(), "{level}");
        }
        for level in ["loud", "sip", "sip,", "sip,media", "sip=debug,media", "info,sip=loud"] {
            assert!(filter(level).is_none(), "{level}");
        }
    }
}
