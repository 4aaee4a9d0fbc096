#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

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

#[test]
fn each_leg_that_was_called_has_its_invite_within_the_call_also_of_a_call_that_a_kill_cut_off() {
    let record: CallRecord = serde_json::from_value(serde_json::json!({
        "call": "c", "sip_call_id": "", "direction": "inbound", "started_at": "2026-01-01T00:00:00.000Z",
        "answered_at": "2026-01-01T00:00:01.000Z", "ended_at": "2026-01-01T00:00:09.000Z", "duration_ms": 8000, "from": "sip:a@b",
        "to": "sip:c@d", "peer": "", "transport": "udp", "target": "agent", "codec": "", "agent": null, "media": null, "recording": null,
        "end": crate::call::end::End::new(crate::call::end::EndReason::ServerKilled),
        "legs": [
            { "leg": 1, "label": "device alice/1", "uri": "sip:alice@host", "peer": "", "transport": "tls", "codec": "", "media": null,
              "started_at": "2026-01-01T00:00:02.000Z", "answered_at": null, "ended_at": "2026-01-01T00:00:04.000Z" },
            { "leg": 2, "label": "trunk carrier", "uri": "sip:+49301@host", "peer": "", "transport": "udp", "codec": "", "media": null,
              "started_at": "2026-01-01T00:00:02.000Z", "answered_at": "2026-01-01T00:00:05.000Z" },
            { "leg": 3, "label": "call d", "uri": "sip:x@y", "peer": "", "transport": "", "codec": "", "answered_at": null, "media": null },
        ]
    }))
    .unwrap();
    let place = Place { trace: [1; 16], root: [2; 8], parent: None };
    let spans = Telling { place, record: &record, personal: false }.spans();
    let second = |nanos: u64| nanos / 1_000_000_000 % 60;
    let legs: Vec<_> = spans.iter().filter(|span| span.name.starts_with("INVITE ")).collect();
    let told: Vec<_> = legs
        .iter()
        .map(|span| {
            (
                span.name.as_str(),
                second(span.start_time_unix_nano),
                second(span.end_time_unix_nano),
                span.status.is_some(),
            )
        })
        .collect();
    assert_eq!(told, [("INVITE device", 2, 4, true), ("INVITE trunk", 2, 5, false)]);
    assert!(legs.iter().all(|span| span.parent_span_id == [2; 8]) && legs[0].span_id != legs[1].span_id);
    let told = format!("{spans:?}");
    assert!(!told.contains("alice") && !told.contains("+49301"), "{told}");
    let root = &spans[0];
    assert_eq!((root.name.as_str(), root.status.as_ref().unwrap().message.as_str()), ("call", "server_killed"));
}

#[test]
fn each_agent_that_had_the_caller_has_its_own_conversation_with_its_turns_within() {
    let turn = |index: u32, conversation: u32, from: f64| {
        serde_json::json!({
            "index": index, "conversation": conversation, "who": "agent", "text": "Hello.", "started_ms": from, "ended_ms": from + 500.0,
            "gap_ms": null, "stages": {}, "interrupted": false, "matched": null, "confidence": null, "by": "unprompted", "ahead": false
        })
    };
    let held = |number: u32, agent: &str, from: &str, until: &str| {
        serde_json::json!({
            "conversation": number, "agent": agent, "recognizer": "", "brain": format!("brain of {agent}"), "voice": "", "turns": 1,
            "began_at": format!("2026-01-01T00:00:{from}Z"), "ended_at": format!("2026-01-01T00:00:{until}Z"), "outcome": "transferred"
        })
    };
    let mut record = CallRecord::example("c");
    record.ended_at = "2026-01-01T00:00:09.000Z".to_owned();
    let agent = serde_json::json!({
        "recognizer": "", "brain": "brain of sales", "voice": "", "failures": [], "turns": [turn(0, 0, 100.0), turn(1, 1, 4_000.0)]
    });
    record.agent = serde_json::from_value(agent).unwrap();
    let conversations = [held(0, "desk", "01.000", "03.000"), held(1, "sales", "03.000", "09.000")];
    record.conversations = conversations.map(|one| serde_json::from_value(one).unwrap()).into();
    let place = Place { trace: [1; 16], root: [2; 8], parent: None };
    let spans = Telling { place, record: &record, personal: false }.spans();
    let whole = |agent: &str| spans.iter().find(|span| span.name == format!("invoke_agent {agent}")).unwrap();
    for (agent, at) in [("desk", 0), ("sales", 1)] {
        let answers: Vec<_> = spans.iter().filter(|span| span.name == "agent answers").collect();
        assert_eq!(answers[at].parent_span_id, whole(agent).span_id);
        assert!(format!("{:?}", whole(agent).attributes).contains(&format!("brain of {agent}")));
    }
    assert_eq!(whole("desk").end_time_unix_nano, whole("sales").start_time_unix_nano);
}
