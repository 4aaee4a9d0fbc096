#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;
use serde_json::{Value, json};

/// Turns as a session records them: a greeting, an answer, an interruption, a key.
fn turns() -> Value {
    let stages = |end: f64| {
        json!({"speech_end_ms": end, "endpoint_ms": end + 300.0, "recogniser_ms": end + 320.0, "brain_ms": end + 160.0,
            "voice_ms": end + 170.0, "sent_ms": end + 360.0})
    };
    let none = json!({});
    let turn = |index: u32, who: &str, text: &str, at: (f64, f64), gap: Option<f64>, stages: Value, by: &str| {
        json!({"index": index, "who": who, "text": text, "started_ms": at.0, "ended_ms": at.1, "gap_ms": gap,
            "stages": stages, "interrupted": index == 2, "matched": (who == "caller").then_some("hours"),
            "confidence": (who == "caller").then_some(0.93), "by": by, "ahead": gap.is_some()})
    };
    json!([
        turn(0, "agent", "Hello, front desk.", (180.0, 1_500.0), None, none.clone(), "unprompted"),
        turn(1, "caller", "when are you <open> & \"free\"", (2_000.0, 3_200.0), None, none.clone(), "speech"),
        turn(2, "agent", "We are open from nine to", (3_560.0, 5_120.0), Some(360.0), stages(3_200.0), "speech"),
        turn(3, "caller", "2", (6_000.0, 6_100.0), None, none, "keys"),
        turn(4, "agent", "Good bye.", (6_460.0, 7_500.0), Some(360.0), stages(6_100.0), "keys"),
    ])
}

fn record(call: &str, conversation: bool) -> CallRecord {
    let agent = json!({"recognizer": "sphinx", "brain": "script", "voice": "flite:rms", "turns": turns(), "failures": ["brain: slow"]});
    let value = json!({
        "call": call, "sip_call_id": "a@b", "direction": "inbound", "started_at": "2026-01-02T03:04:05.000Z",
        "answered_at": null, "ended_at": "2026-01-02T03:04:13.000Z", "duration_ms": 8000, "from": "sip:ann@example.org",
        "to": "sip:agent@<127.0.0.1>", "peer": "127.0.0.1:5070", "transport": "udp", "target": "desk", "codec": "PCMU",
        "end": {"class": "ok", "reason": "agent_hung_up", "detail": ""},
        "agent": conversation.then_some(agent),
        "media": {"packets_in": 396, "packets_out": 400, "bytes_in": 64000, "bytes_out": 64000, "lost": 4, "late": 1,
            "duplicates": 0, "reordered": 2, "foreign": 0, "jitter_ms": 1.25, "rtt_ms": 0.4, "ring_drops": 0},
        "recording": null,
    });
    serde_json::from_value(value).unwrap()
}

/// Tones where the turns are, 20 ms later than the agent's clock says.
fn recording(path: &Path) {
    let spec = hound::WavSpec {
        channels: 2,
        sample_rate: 8_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(path, spec).unwrap();
    let inside = |spans: &[(usize, usize)], n: usize| spans.iter().any(|(from, to)| (from * 8..to * 8).contains(&n));
    for n in 0..8_000 * 8 {
        let tone = (n as f64 * 0.6).sin() * 9_000.0;
        let caller = inside(&[(2_020, 3_220), (5_000, 5_400)], n);
        let agent = inside(&[(200, 1_520), (3_580, 5_100), (6_480, 7_520)], n);
        writer.write_sample(if caller { tone as i16 } else { 0 }).unwrap();
        writer.write_sample(if agent { tone as i16 } else { 0 }).unwrap();
    }
    writer.finalize().unwrap();
}

fn page(with_sound: bool) -> String {
    let folder = tempfile::tempdir().unwrap();
    let (wav, out) = (folder.path().join("call.wav"), folder.path().join("call.html"));
    recording(&wav);
    write(&record("c1", true), with_sound.then_some(&*wav), &out).unwrap();
    if let Some(keep) = std::env::var_os("OMNIVOX_KEEP_REPORT").filter(|_| with_sound) {
        std::fs::copy(&out, keep).unwrap();
    }
    std::fs::read_to_string(out).unwrap()
}

#[test]
fn the_page_needs_nothing_but_itself() {
    let page = page(true);
    assert!(!page.contains("http"), "no address of anything");
    assert!(!page.contains("<link") && !page.contains("@import") && !page.contains("url("));
    assert!(page.contains("src=\"data:audio/wav;base64,UklGR"));
}

#[test]
fn the_page_shows_turns_gaps_waits_and_packets() {
    let page = page(true);
    for part in [
        "We are open from nine to",
        "<span class=\"bad\">interrupted</span>",
        "by key",
        "93 % sure",
        "answered after 360 ms, prepared ahead",
        "certainty that the caller is done 300 ms, recogniser 20 ms",
        "<b>360 ms</b><span>median gap before an answer",
        "silent after 100 ms",
        "<b>1.0 %</b><span>of the caller",
        "396 packets",
        "agent hung up",
        "flite:rms",
        "brain: slow",
    ] {
        assert!(page.contains(part), "{part}");
    }
}

#[test]
fn what_a_caller_says_cannot_become_markup() {
    let page = page(true);
    assert!(page.contains("when are you &lt;open&gt; &amp; &quot;free&quot;"));
    assert!(!page.contains("<open>") && !page.contains("sip:agent@<"));
}

#[test]
fn every_tag_that_is_opened_is_closed() {
    for page in [page(true), page(false)] {
        for tag in [
            "main", "h1", "h2", "div", "p", "ol", "li", "table", "thead", "tbody", "tr", "svg", "dl", "button",
            "script",
        ] {
            let opened = page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
            assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "{tag}");
        }
    }
}

#[test]
fn without_a_recording_the_record_alone_is_shown() {
    let page = page(false);
    assert!(
        !page.contains("<audio") && !page.contains("<svg") && !page.contains("<script") && !page.contains("<button")
    );
    assert!(page.contains("We are open from nine to") && page.contains("Gap, by the agent&#39;s clock"));
}

#[test]
fn a_recording_of_more_than_four_megabytes_is_linked_to() {
    let folder = tempfile::tempdir().unwrap();
    let (wav, out) = (folder.path().join("long call.wav"), folder.path().join("call.html"));
    let spec = hound::WavSpec {
        channels: 2,
        sample_rate: 16_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(&wav, spec).unwrap();
    (0..MAX_EMBEDDED_BYTES / 2).for_each(|_| writer.write_sample(0_i16).unwrap());
    writer.finalize().unwrap();
    write(&record("c1", false), Some(&wav), &out).unwrap();
    let page = std::fs::read_to_string(out).unwrap();
    assert!(page.contains("src=\"long call.wav\"") && !page.contains("base64"));
}

#[test]
fn the_last_call_with_a_conversation_is_taken_unless_one_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("calls.jsonl");
    let records = [record("a", true), record("b", true), record("c", false)];
    let lines: Vec<String> = records.iter().map(|record| serde_json::to_string(record).unwrap()).collect();
    std::fs::write(&path, lines.join("\n")).unwrap();
    assert_eq!(find(&path, None).unwrap().call, "b");
    assert_eq!(find(&path, Some("c")).unwrap().call, "c");
    assert!(find(&path, Some("d")).unwrap_err().to_string().contains("no call d"));
    std::fs::write(&path, &lines[2]).unwrap();
    assert_eq!(find(&path, None).unwrap().call, "c");
    std::fs::write(&path, "{\"call\": 1}").unwrap();
    assert!(find(&path, None).unwrap_err().to_string().contains("line 1 of"));
    assert!(find(&folder.path().join("none"), None).unwrap_err().to_string().contains("cannot read"));
}

#[test]
fn recordings_are_measured_together() {
    let folder = tempfile::tempdir().unwrap();
    let files = [folder.path().join("1.wav"), folder.path().join("2.wav")];
    files.iter().for_each(|file| recording(file));
    let calls = folder.path().join("calls.jsonl");
    let measured = measure(&files, &calls).unwrap();
    assert_eq!(measured["gaps"]["count"], 4);
    assert_eq!(measured["gaps"]["max_ms"], 1_080.0);
    assert_eq!(measured["silencing"]["median_ms"], 100.0);
    assert_eq!(measured["recordings"][1]["measured"]["answers"][0]["gap_ms"], 360.0);
    // With their records: what was said to a key is no answer to speech.
    let records = files.clone().map(|file| CallRecord { recording: Some(file), ..record("c", true) });
    std::fs::write(&calls, records.map(|record| serde_json::to_string(&record).unwrap()).join("\n")).unwrap();
    let measured = measure(&files, &calls).unwrap();
    assert_eq!((&measured["gaps"]["count"], &measured["gaps"]["max_ms"]), (&json!(2), &json!(360.0)));
}

#[test]
fn base64_is_that_of_rfc_4648() {
    let cases = [
        ("", ""),
        ("f", "Zg=="),
        ("fo", "Zm8="),
        ("foo", "Zm9v"),
        ("foob", "Zm9vYg=="),
        ("fooba", "Zm9vYmE="),
        ("foobar", "Zm9vYmFy"),
    ];
    for (plain, coded) in cases {
        assert_eq!(base64(plain.as_bytes()), coded);
    }
}
