//! `serve` as a process: start, numbers, records, metrics, stop, and what it says when it cannot start.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::process::Command;

use common::{OMNIVOX, Server, free_port, omnivox, speech, told};

#[test]
fn what_is_said_to_the_echo_comes_back_and_the_call_is_recorded() {
    let server = Server::start(&[]);
    let folder = tempfile::tempdir().unwrap();
    let question = speech(folder.path(), "slt", "The quick brown fox jumps over the lazy dog.");
    let heard = folder.path().join("heard.wav");
    let output = omnivox(
        folder.path(),
        &[
            "call",
            &server.uri("echo"),
            "--play",
            question.to_str().unwrap(),
            "--record",
            heard.to_str().unwrap(),
            "--json",
        ],
    );
    assert!(output.status.success(), "{}", told(&output));
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["end"]["class"], "ok");
    assert_eq!(said["media"]["lost"], 0);
    let mut reader = hound::WavReader::open(&heard).unwrap();
    assert_eq!(reader.spec().channels, 2);
    let samples: Vec<i16> = reader.samples::<i16>().map(Result::unwrap).collect();
    let energy = |channel: usize| samples.iter().skip(channel).step_by(2).map(|&s| f64::from(s).powi(2)).sum::<f64>();
    let ratio_db = 10.0 * (energy(0) / energy(1)).log10();
    assert!(ratio_db.abs() < 1.5, "the echo is as loud as what was said, not {ratio_db:.1} dB off");
    let record = &server.wait_for_records(1)[0];
    assert_eq!(record["target"], "echo");
    assert_eq!(record["end"]["reason"], "caller_hung_up");
    assert_eq!(record["media"]["lost"], 0);
    assert!(record["duration_ms"].as_u64().unwrap() > 1_000);
    let (code, metrics) = server.get("/metrics");
    assert_eq!(code, 200);
    assert!(metrics.contains("omnivox_calls_total{class=\"ok\",reason=\"caller_hung_up\"} 1"), "{metrics}");
    assert_eq!(server.get("/healthz"), (200, "ok\n".to_owned()));
    server.stop();
}

#[test]
fn the_built_in_numbers_do_what_they_are_for() {
    let server = Server::start(&[]);
    let folder = tempfile::tempdir().unwrap();
    let bye = omnivox(folder.path(), &["call", &server.uri("bye"), "--json"]);
    assert!(bye.status.success(), "{}", told(&bye));
    let said: serde_json::Value = serde_json::from_slice(&bye.stdout).unwrap();
    assert_eq!(said["end"]["reason"], "far_side_hung_up");
    let ring = omnivox(folder.path(), &["call", &server.uri("ring"), "--answer-within", "1", "--json"]);
    assert!(!ring.status.success(), "an unanswered call is no success");
    let said: serde_json::Value = serde_json::from_slice(&ring.stdout).unwrap();
    assert_eq!(said["end"]["reason"], "no_answer");
    let nobody = omnivox(folder.path(), &["call", &server.uri("nobody"), "--json"]);
    let said: serde_json::Value = serde_json::from_slice(&nobody.stdout).unwrap();
    assert_eq!(said["end"]["detail"].as_str().unwrap().split(' ').next(), Some("404"));
    let ends: Vec<String> =
        server.wait_for_records(3).iter().map(|record| record["end"]["reason"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ends, ["agent_hung_up", "caller_cancelled", "unknown_number"]);
    server.stop();
}

#[test]
fn a_stop_lets_running_calls_finish_and_refuses_new_ones() {
    let server = Server::start(&["calls.drain_s=20"]);
    let folder = tempfile::tempdir().unwrap();
    let mut running =
        common::Running::start(Command::new(OMNIVOX).args(["call", &server.uri("echo"), "--duration", "3", "--json"]));
    common::wait_for(
        "the call to be up",
        common::PATIENCE,
        || server.get("/metrics").1.contains("omnivox_calls 1").then_some(()),
        || running.stderr(),
    );
    server.process.signal("TERM");
    common::wait_for(
        "the stop",
        common::PATIENCE,
        || (server.get("/readyz").0 == 503).then_some(()),
        || server.process.stderr(),
    );
    let refused = omnivox(folder.path(), &["call", &server.uri("echo"), "--json"]);
    assert!(told(&refused).contains("503"), "{}", told(&refused));
    assert!(running.wait(common::PATIENCE).success(), "the running call went on to its end: {}", running.stderr());
    server.stop_signalled();
}

#[test]
fn a_port_in_use_is_named_with_what_to_do() {
    let server = Server::start(&[]);
    let folder = tempfile::tempdir().unwrap();
    for (set, key) in [
        (format!("sip.listen=udp:{}", server.sip), "sip.listen"),
        (format!("http.listen={}", server.http), "http.listen"),
    ] {
        let free = format!("sip.listen=udp:127.0.0.1:{}", free_port());
        let output =
            omnivox(folder.path(), &["serve", "--set", &free, "--set", "http.listen=127.0.0.1:0", "--set", &set]);
        assert!(!output.status.success());
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(message.contains("in use") && message.contains(key), "{message}");
    }
    server.stop();
}

#[test]
fn a_wrong_configuration_is_told_before_anything_starts() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("bad.toml"), "[sip]\nlissten = []\n").unwrap();
    for (arguments, expected) in [
        (vec!["serve", "--config", "bad.toml"], "did you mean `sip.listen`"),
        (vec!["serve", "--config", "absent.toml"], "absent.toml"),
        (vec!["serve", "--set", "rtp.ptime_ms=7"], "rtp.ptime_ms"),
        (vec!["serve", "--set", "agents.default=nobody"], "agents.default"),
        (vec!["serve", "--set", "log.level=loud=x=y"], "log.level"),
        (vec!["serve", "--set", "data.dir=/proc/nowhere"], "data.dir"),
        (vec!["serve", "--set", "sip.listen=[\"tls:127.0.0.1:0\"]"], "tls.certificates"),
        (vec!["serve", "--set", "sip.advertise=here"], "sip.advertise"),
        (vec!["serve", "--set", "guard.failures=0"], "guard.failures"),
        (vec!["call", "nobody"], "write sip:user@host"),
        (vec!["call", "sip:echo@127.0.0.1", "--play", "absent.wav"], "absent.wav"),
    ] {
        let output = omnivox(folder.path(), &arguments);
        assert!(!output.status.success(), "{arguments:?}");
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(message.contains(expected), "{arguments:?}: {message}");
        assert!(!message.contains("panicked"), "{message}");
    }
}

#[test]
fn what_serve_refuses_check_finds_too() {
    let folder = tempfile::tempdir().unwrap();
    let route = "[control]\non = false\n[[routes]]\nto = \"agent nosuch\"\n";
    std::fs::write(folder.path().join("route.toml"), route).unwrap();
    let voice = ["--set", "calls.record_announcement=Recorded.", "--set", "calls.record_announcement_voice=bob"];
    for (arguments, expected) in [
        (vec!["--set", "calls.music=nofile.wav"], "configuration: calls.music: nofile.wav"),
        (voice.to_vec(), "calls.record_announcement_voice = \"bob\": voice: kind = \"bob\" is not known"),
        (vec!["--set", "log.level=loud"], "configuration: log.level = loud: write error, warn"),
        (vec!["--set", "http.listen=foo"], "configuration: http.listen = foo: write ADDRESS:PORT"),
        (vec!["--config", "route.toml"], "routes.#1.to = agent nosuch: no agent is called so: there are desk"),
        (vec!["--config", "absent.toml"], "configuration: cannot read absent.toml: No such file or directory"),
    ] {
        for command in ["check", "serve"] {
            let all: Vec<&str> = std::iter::once(command).chain(arguments.iter().copied()).collect();
            let output = omnivox(folder.path(), &all);
            assert!(!output.status.success(), "{command} {arguments:?}");
            let told =
                format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            let expected = if command == "serve" { expected.trim_start_matches("configuration: ") } else { expected };
            assert!(told.contains(expected), "{command} {arguments:?}: {told}");
            assert!(
                !told.contains("configuration: configuration") && told.matches("No such file").count() <= 1,
                "{told}"
            );
        }
    }
}

#[test]
fn an_agent_that_may_be_published_yet_is_no_fault_of_its_route() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("route.toml"), "[[routes]]\nto = \"agent sales\"\n").unwrap();
    let output = omnivox(folder.path(), &["check", "--config", "route.toml"]);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = told.lines().find(|line| line.contains("routes.#1.to = agent sales")).unwrap_or_default();
    assert!(line.starts_with("note"), "{told}");
}

#[test]
fn an_agents_definition_that_cannot_be_used_is_found_by_check() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("agents")).unwrap();
    let sales = "[brain]\nkind = \"foo\"\n[voice]\nkind = \"flite\"\nvoice = \"bob\"\n";
    std::fs::write(folder.path().join("agents/sales.toml"), sales).unwrap();
    let output = omnivox(folder.path(), &["check"]);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    for expected in ["agent sales: brain.kind: \"foo\" is not known", "agent sales: voice.voice: flite has no voice"] {
        assert!(told.contains(expected), "{told}");
    }
}

#[test]
fn logs_hold_no_numbers_and_no_words_unless_asked_to() {
    let server = Server::start(&["log.level=debug"]);
    let folder = tempfile::tempdir().unwrap();
    let output = omnivox(folder.path(), &["call", &server.uri("bye"), "--from", "alice-4711", "--json"]);
    assert!(output.status.success(), "{}", told(&output));
    std::fs::write(folder.path().join("ask.txt"), "say What are your opening hours?\nsay goodbye\n").unwrap();
    let output = omnivox(
        folder.path(),
        &["call", &server.uri("agent"), "--from", "alice-4711", "--script", "ask.txt", "--json"],
    );
    assert!(output.status.success(), "{}", told(&output));
    let record = &server.wait_for_records(2)[1];
    assert!(record["agent"].to_string().contains("opening hours"), "the conversation took place: {record}");
    let log = server.stop();
    assert!(log.contains("begins: desk"), "{log}");
    for personal in ["alice-4711", "opening hours", "nine in the morning"] {
        assert!(!log.contains(personal), "`{personal}` stands in the log:\n{log}");
    }
}

/// The modes of a folder and of everything in it, by path.
fn modes(folder: &std::path::Path) -> Vec<(String, u32)> {
    use std::os::unix::fs::PermissionsExt;
    let mut found = vec![folder.to_path_buf()];
    let mut at = 0;
    while let Some(path) = found.get(at).cloned() {
        found.extend(std::fs::read_dir(path).into_iter().flatten().map(|entry| entry.unwrap().path()));
        at += 1;
    }
    // SQLite's own come and go.
    let mode = |path: &std::path::PathBuf| {
        let mode = std::fs::metadata(path).ok()?.permissions().mode() & 0o777;
        Some((path.display().to_string(), mode))
    };
    found.iter().filter_map(mode).collect()
}

#[test]
fn what_is_kept_of_calls_is_for_the_servers_user_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    // As an earlier version left them.
    std::fs::create_dir_all(data.join("recordings")).unwrap();
    let old = ["calls.jsonl", "recordings/old.wav"].map(|name| data.join(name));
    for path in &old {
        std::fs::write(path, "").unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
    }
    std::fs::set_permissions(data.join("recordings"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let server = Server::start_in(folder, &["calls.record=true"]);
    server.wait_until_ready();
    let call = omnivox(
        server.folder.path(),
        &["call", &server.uri("agent"), "--listen", "127.0.0.1:0", "--duration", "2", "--record", "own.wav"],
    );
    assert!(call.status.success(), "{}", told(&call));
    server.wait_for_records(1);
    let found = modes(&data);
    for name in ["omnivox.db", "calls.jsonl", "recordings", "control.key"] {
        let path = data.join(name).display().to_string();
        let mode = found.iter().find(|(found, _)| *found == path).map(|(_, mode)| *mode);
        assert!(mode.is_some_and(|mode| mode & 0o077 == 0), "{name}: {mode:?}");
    }
    // Nobody else gets to what lies in a folder that is closed, however many files that are.
    let not_asked = [data.display().to_string(), data.join("recordings/old.wav").display().to_string()];
    let open: Vec<_> = found.iter().filter(|(path, mode)| !not_asked.contains(path) && mode & 0o077 != 0).collect();
    assert!(open.is_empty(), "others may read these: {open:?}");
    assert!(found.len() > 6, "{found:?}");
    assert_eq!(modes(&server.folder.path().join("own.wav"))[0].1, 0o600);
    server.stop();
}

#[test]
fn every_counter_that_an_alert_asks_for_is_there_before_it_counts() {
    let server = Server::start(&[]);
    let (_, metrics) = server.get("/metrics");
    let alerts = include_str!("../docs/monitoring/alerts.yml");
    let runbooks = include_str!("../docs/runbooks.md");
    let mut asked = std::collections::BTreeSet::new();
    for text in [alerts, runbooks] {
        let is_part = |c: char| c.is_ascii_lowercase() || c == '_';
        let names = text.match_indices("omnivox_").map(|(at, _)| text[at..].split(|c| !is_part(c)).next().unwrap());
        asked.extend(names.filter(|name| name.ends_with("_total")));
    }
    assert!(asked.len() > 10, "{asked:?}");
    for name in asked {
        let is_there = metrics.lines().any(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']) && rest.ends_with(" 0"))
        });
        assert!(is_there, "{name} is not there from the start:\n{metrics}");
    }
    server.stop();
}
