#![allow(clippy::unwrap_used)]

use super::*;

#[test]
fn a_traceparent_is_read_as_the_standard_has_it() {
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let good = format!("00-{trace}-b7ad6b7169203331-01");
    let parent = Parent::read(&good).unwrap();
    assert_eq!(traceparent(parent.trace, parent.span), good);
    assert!(!Parent::read(&format!("00-{trace}-b7ad6b7169203331-00")).unwrap().is_sampled);
    assert!(Parent::read(&format!("01-{trace}-b7ad6b7169203331-01-more")).is_some(), "a later version");
    for bad in [
        String::new(),
        format!("ff-{trace}-b7ad6b7169203331-01"),
        format!("00-{trace}-b7ad6b7169203331-01-more"),
        format!("00-{trace}-b7ad6b7169203331"),
        format!("00-{trace}-0000000000000000-01"),
        format!("00-{}-b7ad6b7169203331-01", "0".repeat(32)),
        format!("00-{}-b7ad6b7169203331-01", trace.to_uppercase()),
        format!("00-{trace}é-b7ad6b7169203331-01"),
    ] {
        assert_eq!(Parent::read(&bad), None, "{bad}");
    }
}

#[tokio::test]
async fn a_part_of_the_calls_is_traced_always_the_same_ones_and_somebody_elses_as_they_want() {
    let config = |sample: f64| {
        let mut config = Config::default();
        config.telemetry.otlp.endpoint = "http://127.0.0.1:9".to_owned();
        config.telemetry.otlp.sample = sample;
        config
    };
    let traces = |sample: f64| {
        let config = config(sample);
        let (queue, _) =
            SpanQueue::start(&config.telemetry.otlp, "node", tokio_util::sync::CancellationToken::new()).unwrap();
        Traces::new(&config, queue)
    };
    let traced = |traces: &Traces| (0..2_000).filter(|n| traces.traceparent(&format!("call-{n}")).is_some()).count();
    assert_eq!((traced(&traces(0.0)), traced(&traces(1.0))), (0, 2_000));
    let half = traced(&traces(0.5));
    assert!((900..1_100).contains(&half), "{half}");
    assert_eq!(traces(1.0).traceparent("a"), traces(1.0).traceparent("a"));
    let (none, all) = (traces(0.0), traces(1.0));
    none.continues("a", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    all.continues("a", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00");
    assert!(none.traceparent("a").unwrap().starts_with("00-0af7651916cd43dd8448eb211c80319c-"));
    assert_eq!(all.traceparent("a"), None);
    for n in 0..REMOTE_LIMIT + 5 {
        none.continues(&n.to_string(), "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    }
    let remote = none.remote.lock().unwrap();
    assert_eq!((remote.by_call.len(), remote.oldest.len()), (REMOTE_LIMIT, REMOTE_LIMIT));
}
