//! Recordings at rest: sealed where there is a key, opened with it and with no other, whole up to a kill, and paused.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{OMNIVOX, PATIENCE, Running, Server, omnivox, told, wait_for};

fn key(folder: &Path, name: &str) -> PathBuf {
    let made = omnivox(folder, &["recording", "key"]);
    assert!(made.status.success(), "{}", told(&made));
    let path = folder.join(name);
    std::fs::write(&path, made.stdout).unwrap();
    path
}

/// The one recording of a server.
fn recording(server: &Server) -> PathBuf {
    let folder = server.folder.path().join("data/recordings");
    std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path()
}

/// Seconds of loud sound on the right, where the agent is.
fn loud_seconds(wav: &Path) -> f64 {
    let mut wav = hound::WavReader::open(wav).unwrap();
    let rate = f64::from(wav.spec().sample_rate);
    assert_eq!(wav.spec().channels, 2);
    let loud = wav.samples::<i16>().skip(1).step_by(2).filter(|sample| sample.as_ref().unwrap().unsigned_abs() > 500);
    loud.count() as f64 / rate
}

#[test]
fn a_sealed_recording_is_read_with_its_key_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (right, wrong) = (key(folder.path(), "right.key"), key(folder.path(), "wrong.key"));
    let server = Server::start_in(folder, &[&format!("calls.record_key_file={}", right.display())]);
    server.wait_until_ready();
    let folder = server.folder.path();
    let call = omnivox(folder, &["call", &server.uri("agent"), "--listen", "127.0.0.1:0", "--duration", "4"]);
    assert!(call.status.success(), "{}", told(&call));
    let record = server.wait_for_records(1).remove(0);
    let sealed = recording(&server);
    assert_eq!(record["recording"].as_str().unwrap(), sealed.to_str().unwrap(), "{record}");
    assert_eq!(sealed.extension().unwrap(), "ovrec");
    let wav = folder.join("opened.wav");
    let open = |key: &Path| {
        let paths = [sealed.to_str().unwrap(), "--out", wav.to_str().unwrap(), "--key-file", key.to_str().unwrap()];
        omnivox(folder, &[&["recording", "open"][..], &paths].concat())
    };
    let refused = open(&wrong);
    assert!(!refused.status.success() && told(&refused).contains("sealed under key"), "{}", told(&refused));
    assert!(!wav.exists(), "nothing is left of what could not be opened");
    let opened = wait_for(
        "the end of the file",
        PATIENCE,
        || Some(open(&right)).filter(|open| open.stderr.is_empty()),
        || server.process.stderr(),
    );
    assert!(opened.status.success(), "{}", told(&opened));
    assert!(loud_seconds(&wav) > 0.3, "the greeting is there");
    let damaged = std::fs::read(&sealed).unwrap();
    let mut damaged = damaged;
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    std::fs::write(&sealed, damaged).unwrap();
    let refused = open(&right);
    assert!(!refused.status.success() && told(&refused).contains("changed or is damaged"), "{}", told(&refused));
    server.stop();
}

#[test]
fn an_opus_recording_is_read_by_others_by_the_report_and_under_seal() {
    let server = Server::start(&["calls.record_format=opus"]);
    server.wait_until_ready();
    let call = |server: &Server, more: &[&str]| {
        let uri = server.uri("agent");
        let call = ["call", &uri, "--listen", "127.0.0.1:0", "--duration", "4"];
        let call = omnivox(server.folder.path(), &[&call, more].concat());
        assert!(call.status.success(), "{}", told(&call));
        server.wait_for_records(1).remove(0)
    };
    let record = call(&server, &["--record", "heard.opus"]);
    let path = server.folder.path().join(record["recording"].as_str().unwrap());
    assert_eq!(path.extension().unwrap(), "opus");
    let decoded = |opus: &Path| {
        let wav = opus.with_extension("decoded.wav");
        let done = Command::new("opusdec").arg("--quiet").arg(opus).arg(&wav).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        wav
    };
    let loud = loud_seconds(&decoded(&path));
    assert!(loud > 0.3, "the greeting is there: {loud}");
    // The softphone heard it on its left: the same sound, as recorded by the other end.
    let heard = decoded(&server.folder.path().join("heard.opus"));
    let mut heard = hound::WavReader::open(heard).unwrap();
    let rate = f64::from(heard.spec().sample_rate);
    let at_caller = heard.samples::<i16>().step_by(2).filter(|sample| sample.as_ref().unwrap().unsigned_abs() > 500);
    let at_caller = at_caller.count() as f64 / rate;
    assert!((at_caller - loud).abs() < 0.3 * loud, "{at_caller} and {loud}");
    let calls = server.folder.path().join("data/calls.jsonl");
    let report = omnivox(server.folder.path(), &["report", calls.to_str().unwrap(), "--out", "report.html"]);
    assert!(report.status.success(), "{}", told(&report));
    let page = std::fs::read_to_string(server.folder.path().join("report.html")).unwrap();
    assert!(page.contains("data:audio/ogg;base64,T2dnUw"));
    server.stop();

    let folder = tempfile::tempdir().unwrap();
    let folder_key = key(folder.path(), "seal.key");
    let sealing = format!("calls.record_key_file={}", folder_key.display());
    let server = Server::start_in(folder, &["calls.record_format=opus", &sealing]);
    server.wait_until_ready();
    let record = call(&server, &[]);
    let sealed = record["recording"].as_str().unwrap();
    let report = omnivox(server.folder.path(), &["report", "--measure", sealed]);
    assert!(!report.status.success() && told(&report).contains("recording open"), "{}", told(&report));
    for (out, loud) in [("opened.wav", None), ("opened.opus", Some(decoded as fn(&Path) -> PathBuf))] {
        let out = server.folder.path().join(out);
        let arguments = ["recording", "open", sealed, "--out", out.to_str().unwrap(), "--key-file"];
        let opened = wait_for(
            "the end of the file",
            PATIENCE,
            || {
                let opened = omnivox(server.folder.path(), &[&arguments[..], &[folder_key.to_str().unwrap()]].concat());
                Some(opened).filter(|open| open.stderr.is_empty())
            },
            || server.process.stderr(),
        );
        assert!(opened.status.success(), "{}", told(&opened));
        let wav = loud.map_or_else(|| out.clone(), |decoded| decoded(&out));
        assert!(loud_seconds(&wav) > 0.3, "{}", out.display());
    }
    server.stop();
}

#[test]
fn a_sealed_recording_is_whole_up_to_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let key = key(folder.path(), "seal.key");
    let server = Server::start_in(folder, &[&format!("calls.record_key_file={}", key.display())]);
    server.wait_until_ready();
    let caller = Running::start(Command::new(OMNIVOX).args([
        "call",
        &server.uri("agent"),
        "--listen",
        "127.0.0.1:0",
        "--duration",
        "30",
    ]));
    wait_for(
        "the greeting",
        PATIENCE,
        || server.get("/metrics").1.contains("omnivox_turns_total{who=\"agent\"} 1").then_some(()),
        || caller.stderr(),
    );
    server.process.signal("KILL");
    let (sealed, wav) = (recording(&server), server.folder.path().join("opened.wav"));
    let paths = [sealed.to_str().unwrap(), "--out", wav.to_str().unwrap(), "--key-file", key.to_str().unwrap()];
    let opened = omnivox(server.folder.path(), &[&["recording", "open"][..], &paths].concat());
    assert!(opened.status.success() && told(&opened).contains("has no end"), "{}", told(&opened));
    assert!(loud_seconds(&wav) > 0.3, "{}", told(&opened));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_while_a_recording_pauses_is_silence_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = omnivox::Config::default();
    config.sip.listen = vec!["udp:127.0.0.1:0".parse().unwrap()];
    config.rtp.bind = [127, 0, 0, 1].into();
    config.data.dir = folder.path().join("data");
    let tone: Vec<i16> = (0..16_000 * 6).map(|n| if n % 16 < 8 { 8_000 } else { -8_000 }).collect();
    let server = omnivox::Server::builder(config)
        .number("tone", move |mut call| {
            let tone = tone.clone();
            async move {
                call.play(&tone, omnivox::SampleRate::HZ_16000, false).await;
                call
            }
        })
        .start()
        .await
        .unwrap();
    let uri = format!("sip:tone@{}", server.sip_addrs()[0].1);
    let path = folder.path().to_owned();
    let call = tokio::task::spawn_blocking(move || {
        omnivox(&path, &["call", &uri, "--listen", "127.0.0.1:0", "--duration", "6"])
    });
    let pause = std::time::Duration::from_secs(1);
    while server.calls().is_empty() {
        tokio::time::sleep(pause / 50).await;
    }
    let id = server.calls()[0].to_string();
    tokio::time::sleep(pause).await;
    assert!(server.command(&id, omnivox::call::Command::Record(false)));
    tokio::time::sleep(pause * 2).await;
    assert!(server.command(&id, omnivox::call::Command::Record(true)));
    assert!(call.await.unwrap().status.success());
    server.shut_down().await.unwrap();
    let wav = folder.path().join("data/recordings").join(format!("{id}.wav"));
    let seconds = f64::from(hound::WavReader::open(&wav).unwrap().duration()) / 16_000.0;
    let loud = loud_seconds(&wav);
    assert!(seconds > 5.0, "the time goes on: {seconds}");
    assert!((seconds - loud - 2.0).abs() < 0.6, "two seconds of it are silence: {loud} of {seconds}");
}
