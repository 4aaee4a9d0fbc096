//! Spans on their way to a collector: OTLP over HTTP, as protobuf (OpenTelemetry Protocol 1.x). A collector that is slow or away costs
//! nobody anything: spans wait in a bounded queue, and what finds it full is dropped and counted.

use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use reqwest::{Client, StatusCode, Url};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::config::OtlpConfig;

/// Spans that wait for the collector. Beyond: dropped and counted.
pub const SPANS_LIMIT: usize = 16_384;
/// Spans in one request.
const BATCH: usize = 512;
/// A request is begun so long after the first span for it.
const GATHERED_WITHIN: Duration = Duration::from_millis(500);
/// A collector answers within this.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);
/// One that fails is tried again after so long, then twice as long, up to [`SLOWEST`].
const AGAIN_AFTER: Duration = Duration::from_secs(1);
const SLOWEST: Duration = Duration::from_secs(30);

/// Takes spans; cheap to clone.
#[derive(Debug, Clone)]
pub struct SpanQueue(mpsc::Sender<Span>);

impl SpanQueue {
    /// Starts the exporter; `node` is this server among those of its service. With `stop` it sends what it has, once, and ends.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn start(
        config: &OtlpConfig,
        node: &str,
        stop: CancellationToken,
    ) -> anyhow::Result<(Self, tokio::task::JoinHandle<()>)> {
        let url = config.traces_url().ok_or_else(|| anyhow::anyhow!("telemetry.otlp.endpoint is no address"))?;
        let client = Client::builder()
            .timeout(ANSWERS_WITHIN)
            .redirect(reqwest::redirect::Policy::none())
            .default_headers(config.headers().unwrap_or_default())
            .build()?;
        let (queue, spans) = mpsc::channel(SPANS_LIMIT);
        let resource = Resource {
            attributes: vec![
                attribute("service.name", &config.service),
                attribute("service.instance.id", node),
                attribute("service.version", env!("CARGO_PKG_VERSION")),
            ],
            ..Resource::default()
        };
        let exporter = Exporter { url, client, resource };
        Ok((Self(queue), tokio::spawn(exporter.run(spans, stop))))
    }

    /// Hands a span over. Never waits.
    pub fn push(&self, span: Span) {
        if self.0.try_send(span).is_err() {
            dropped("queue", 1);
        }
    }
}

/// A text about a span or a resource.
pub(super) fn attribute(key: &str, value: &str) -> KeyValue {
    with_value(key, Value::StringValue(value.to_owned()))
}

/// A number about a span.
pub(super) fn number(key: &str, value: f64) -> KeyValue {
    with_value(key, Value::DoubleValue(value))
}

/// A count about a span.
pub(super) fn count(key: &str, value: u64) -> KeyValue {
    with_value(key, Value::IntValue(i64::try_from(value).unwrap_or(i64::MAX)))
}

pub(super) fn with_value(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn dropped(reason: &'static str, spans: u64) {
    metrics::counter!("omnivox_traces_dropped_total", "reason" => reason).increment(spans);
}

struct Exporter {
    url: Url,
    client: Client,
    resource: Resource,
}

/// Not any longer than to the stop.
async fn sleep(time: Duration, stop: &CancellationToken) {
    let _ = tokio::time::timeout(time, stop.cancelled()).await;
}

/// What came of a request.
enum Sent {
    Taken,
    /// To be tried again.
    Later(String),
    /// It never will be taken.
    Refused(String),
}

impl Exporter {
    async fn run(self, mut spans: mpsc::Receiver<Span>, stop: CancellationToken) {
        let (mut batch, mut wait) = (Vec::with_capacity(BATCH), AGAIN_AFTER);
        loop {
            let count = tokio::select! {
                count = spans.recv_many(&mut batch, BATCH) => count,
                () = stop.cancelled(), if !spans.is_closed() => {
                    spans.close();
                    continue;
                }
            };
            if count == 0 {
                return;
            }
            if batch.len() < BATCH {
                sleep(GATHERED_WITHIN, &stop).await;
                while batch.len() < BATCH
                    && let Ok(span) = spans.try_recv()
                {
                    batch.push(span);
                }
            }
            let body = self.request(std::mem::take(&mut batch));
            loop {
                match self.send(body.bytes.clone()).await {
                    Sent::Taken => {
                        metrics::counter!("omnivox_traces_exported_total").increment(body.spans);
                        wait = AGAIN_AFTER;
                        break;
                    }
                    Sent::Later(why) if !stop.is_cancelled() => {
                        if wait == AGAIN_AFTER {
                            tracing::warn!("traces wait for their collector: {why}");
                        }
                        sleep(wait, &stop).await;
                        wait = (wait * 2).min(SLOWEST);
                    }
                    Sent::Later(why) | Sent::Refused(why) => {
                        tracing::warn!("the collector does not take traces: {why}");
                        dropped("collector", body.spans);
                        break;
                    }
                }
            }
        }
    }

    fn request(&self, spans: Vec<Span>) -> Body {
        let count = spans.len() as u64;
        let scope = InstrumentationScope {
            name: "omnivox".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..InstrumentationScope::default()
        };
        let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }];
        let resource = Some(self.resource.clone());
        let request = ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans { resource, scope_spans, ..ResourceSpans::default() }],
        };
        Body { bytes: request.encode_to_vec().into(), spans: count }
    }

    async fn send(&self, body: bytes::Bytes) -> Sent {
        let request = self.client.post(self.url.clone()).header("content-type", "application/x-protobuf").body(body);
        match request.send().await.map(|answer| answer.status()) {
            Ok(status) if status.is_success() => Sent::Taken,
            // Those that the protocol has tried again.
            Ok(
                status @ (StatusCode::TOO_MANY_REQUESTS
                | StatusCode::BAD_GATEWAY
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::GATEWAY_TIMEOUT),
            ) => Sent::Later(format!("it answers {status}")),
            Ok(status) => Sent::Refused(format!("it answers {status}")),
            Err(fault) => Sent::Later(fault.without_url().to_string()),
        }
    }
}

struct Body {
    bytes: bytes::Bytes,
    spans: u64,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

    #[tokio::test]
    async fn a_collector_that_is_away_costs_no_more_than_the_queue_and_what_is_lost_is_counted() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        // This thread runs everything here.
        let _counted = metrics::set_default_local_recorder(&recorder);
        // Somebody listens there and never takes the connection.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let config = OtlpConfig { endpoint, ..OtlpConfig::default() };
        let (queue, exporting) = SpanQueue::start(&config, "node", CancellationToken::new()).unwrap();
        for _ in 0..SPANS_LIMIT + 3 {
            queue.push(Span::default());
        }
        assert!(handle.render().contains("omnivox_traces_dropped_total{reason=\"queue\"} 3"), "{}", handle.render());
        exporting.abort();
    }

    #[test]
    fn the_address_and_what_is_sent_along_are_read() {
        let of = |endpoint: &str| OtlpConfig { endpoint: endpoint.to_owned(), ..OtlpConfig::default() }.traces_url();
        for (endpoint, url) in [
            ("http://127.0.0.1:4318", Some("http://127.0.0.1:4318/v1/traces")),
            ("https://otlp.example.net/base/", Some("https://otlp.example.net/base/v1/traces")),
            ("https://otlp.example.net/v1/traces", Some("https://otlp.example.net/v1/traces")),
            ("collector:4318", None),
            ("grpc://collector:4317", None),
            ("", None),
        ] {
            assert_eq!(of(endpoint).map(String::from).as_deref(), url, "{endpoint}");
        }
        let headers =
            |text: &str| OtlpConfig { headers: crate::config::Secret::new(text), ..OtlpConfig::default() }.headers();
        let read = headers("authorization=Bearer a=b, x-key = 1").unwrap();
        assert_eq!(read["authorization"], "Bearer a=b");
        assert_eq!(read["x-key"], "1");
        assert!(headers("").unwrap().is_empty());
        assert!(headers("nonsense").is_none() && headers("a b=c").is_none());
    }
}
