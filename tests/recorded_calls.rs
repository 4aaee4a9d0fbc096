//! Recordings of calls between people: bridged calls and conferences, through transfers, holds and supervisors.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "common/office.rs"]
mod office;
#[path = "common/phone.rs"]
mod phone;

use std::path::Path;
use std::process::Command;

use common::Server;
use office::{ALICE, BOB, CAROL, DAVE, DEVICES, phones};
use phone::{LOUD, Phone};
use sip::headers::ReferTo;

fn server(settings: &[&str]) -> Server {
    let own = ["rtp.codecs=[\"PCMU\"]", "rtp.workers=2"];
    Server::start_with(DEVICES, tempfile::tempdir().unwrap(), &[&own, settings].concat())
}

fn connect(caller: &mut Phone, callee: &mut Phone, name: &str) -> (sip::CallId, sip::CallId) {
    let call = caller.dial(name, &[]);
    let at_callee = callee.pick_up();
    caller.wait_answered(call);
    (call, at_callee)
}

/// A recording, in windows of 50 ms.
struct Tones {
    sides: [Vec<i16>; 2],
    rate: f64,
}

impl Tones {
    /// Reads WAV, and Ogg Opus by way of opusdec.
    fn of(path: &Path) -> Self {
        let wav = path.with_extension("decoded.wav");
        let is_opus = path.extension().unwrap() == "opus";
        if is_opus {
            let done =
                Command::new("opusdec").args(["--quiet", "--rate", "16000"]).arg(path).arg(&wav).output().unwrap();
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        }
        let mut reader = hound::WavReader::open(if is_opus { &wav } else { path }).unwrap();
        let samples: Vec<i16> = reader.samples().map(Result::unwrap).collect();
        let side = |n: usize| samples.iter().skip(n).step_by(2).copied().collect();
        Self { sides: [side(0), side(1)], rate: reader.spec().sample_rate.into() }
    }

    /// The windows in which this tone is heard on a side (0: left).
    fn heard(&self, side: usize, hz: f64) -> Vec<usize> {
        let step = hz * std::f64::consts::TAU / self.rate;
        let level = |window: &[i16]| {
            let (re, im) = window.iter().enumerate().fold((0.0, 0.0), |(re, im), (n, sample)| {
                let (sin, cos) = (step * n as f64).sin_cos();
                (re + f64::from(*sample) * cos, im + f64::from(*sample) * sin)
            });
            2.0 * re.hypot(im) / window.len() as f64
        };
        let windows = self.sides[side].chunks_exact(self.rate as usize / 20);
        windows.enumerate().filter(|(_, window)| level(window) > 500.0).map(|(n, _)| n).collect()
    }

    fn seconds(&self, side: usize, hz: f64) -> f64 {
        self.heard(side, hz).len() as f64 / 20.0
    }
}

/// The record of this call, and its recording.
fn recorded(record: &serde_json::Value) -> Tones {
    let path = Path::new(record["recording"].as_str().unwrap_or_else(|| panic!("no recording: {record}")));
    // The recorder completes a file a moment after the call, and writes five times a second until then.
    let is_done = || {
        let modified = std::fs::metadata(path).unwrap().modified().unwrap();
        modified.elapsed().is_ok_and(|since| since > std::time::Duration::from_secs(1)).then_some(())
    };
    common::wait_for("a complete recording", common::PATIENCE, is_done, String::new);
    Tones::of(path)
}

fn side_of(record: &serde_json::Value, leg: u64) -> &serde_json::Value {
    &record["legs"].as_array().unwrap().iter().find(|one| one["leg"] == leg).unwrap()["recorded"]
}

#[test]
fn nobody_is_recorded_who_talks_with_people_unless_the_configuration_says_so() {
    let server = server(&["calls.record=true"]);
    let [mut alice, mut bob, ..] = phones(server.sip);
    let (at_alice, at_bob) = connect(&mut alice, &mut bob, "bob");
    bob.wait_to_hear(at_bob, &[ALICE], &[]);
    alice.hang_up(at_alice);
    bob.ended(at_bob);
    let in_room = alice.call("room-weekly");
    alice.hang_up(in_room);
    let records = server.wait_for_records(2);
    assert!(records.iter().all(|record| record["recording"].is_null()), "{records:?}");
    assert_eq!(std::fs::read_dir(server.folder.path().join("data/recordings")).unwrap().count(), 0);
    server.stop();
}

#[test]
fn a_bridged_call_has_each_on_their_side_and_goes_on_with_whoever_takes_a_place() {
    let server = server(&["calls.record=false", "calls.record_bridged=true"]);
    let [mut alice, mut bob, mut carol, mut dave] = phones(server.sip);
    let (first, at_bob) = connect(&mut alice, &mut bob, "bob");
    alice.wait_to_hear(first, &[BOB], &[]);
    bob.wait_to_hear(at_bob, &[ALICE], &[]);
    // A supervisor who listens is in no recording, one who whispers neither.
    let at_dave = dave.call("whisper-bob");
    bob.wait_to_hear(at_bob, &[ALICE, DAVE], &[]);
    dave.hang_up(at_dave);
    bob.wait_to_hear(at_bob, &[ALICE], &[DAVE]);
    // On hold bob hears music, and nobody hears bob.
    alice.hold(first, true);
    let (second, at_carol) = connect(&mut alice, &mut carol, "carol");
    alice.wait_to_hear(second, &[CAROL], &[]);
    carol.wait_to_hear(at_carol, &[ALICE], &[]);
    // An attended transfer: bob goes to carol's call, in the place of alice, who called.
    let replaces = alice.identity(second).replaces();
    assert_eq!(alice.refer(first, &ReferTo::value(&server.uri("carol"), Some(&replaces))), (202, Some(200)));
    carol.wait_to_hear(at_carol, &[BOB], &[ALICE]);
    alice.ended(first);
    alice.ended(second);
    bob.hang_up(at_bob);
    carol.ended(at_carol);
    let records = server.wait_for_records(3);
    let of = |to: &str| {
        let is_it = |record: &&serde_json::Value| record["to"].as_str().unwrap().starts_with(&format!("sip:{to}@"));
        records.iter().find(is_it).unwrap()
    };
    let (to_bob, to_carol) = (recorded(of("bob")), recorded(of("carol")));
    assert!(to_bob.seconds(0, ALICE) > 0.2 && to_bob.seconds(1, BOB) > 0.2);
    assert!(to_bob.heard(0, BOB).is_empty() && to_bob.heard(1, ALICE).is_empty(), "each on their own side");
    assert!(to_bob.heard(0, DAVE).is_empty() && to_bob.heard(1, DAVE).is_empty(), "who whispers is not in it");
    assert!(to_carol.seconds(0, ALICE) > 0.2 && to_carol.seconds(1, CAROL) > 0.2);
    let (bob, alice) = (to_carol.heard(0, BOB), to_carol.heard(0, ALICE));
    assert!(bob.len() > 4, "{bob:?}: bob is where alice was");
    assert!(bob.iter().all(|at| *at + 1 >= *alice.last().unwrap()), "and comes after: {alice:?}, {bob:?}");
    assert!(to_carol.seconds(1, CAROL) > to_carol.seconds(0, ALICE), "carol talks with both");
    assert_eq!(side_of(of("carol"), 1), "right", "{}", of("carol"));
    assert_eq!(side_of(of("carol"), 0x8000), "left", "{}", of("carol"));
    server.stop();
}

#[test]
fn a_conference_has_one_recording_with_all_in_it_who_were_there_while_they_were() {
    let server = server(&["calls.record_conferences=true", "calls.record_format=opus"]);
    let [mut alice, mut bob, mut carol, _] = phones(server.sip);
    let at_alice = alice.call("room-weekly");
    let at_bob = bob.call("room-weekly");
    bob.wait_to_hear(at_bob, &[ALICE], &[]);
    let at_carol = carol.call("room-weekly");
    alice.wait_to_hear(at_alice, &[BOB, CAROL], &[]);
    // Whoever opened it goes, and comes again.
    alice.hang_up(at_alice);
    bob.wait_to_hear(at_bob, &[CAROL], &[ALICE]);
    let again = alice.call("room-weekly");
    bob.wait_to_hear(at_bob, &[CAROL, ALICE], &[]);
    for (phone, call) in [(&mut alice, again), (&mut bob, at_bob), (&mut carol, at_carol)] {
        phone.hang_up(call);
    }
    let records = server.wait_for_records(4);
    let with_recording: Vec<_> = records.iter().filter(|record| !record["recording"].is_null()).collect();
    assert_eq!(with_recording.len(), 1, "{records:?}");
    let tones = recorded(with_recording[0]);
    let [alice, bob, carol] = [(0, ALICE), (1, BOB), (0, CAROL)].map(|(side, hz)| tones.heard(side, hz));
    let first = |windows: &[usize]| *windows.first().unwrap();
    assert!(first(&alice).max(first(&bob)) < first(&carol), "{alice:?} {bob:?} {carol:?}");
    assert!(bob.len() > carol.len() && carol.len() > 10, "{bob:?} {carol:?}");
    let gap = alice.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    assert!(gap > 1, "alice was away: {alice:?}");
    assert!(bob.windows(2).all(|pair| pair[1] - pair[0] == 1), "bob was there all the time: {bob:?}");
    assert!(tones.heard(1, CAROL).is_empty() && tones.heard(0, BOB).is_empty());
    server.stop();
}

/// A WAV file with a tone.
fn tone(path: &Path, hz: f64, seconds: f64) -> String {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 8_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut wav = hound::WavWriter::create(path, spec).unwrap();
    for n in 0..(seconds * 8_000.0) as usize {
        wav.write_sample((6_000.0 * (n as f64 * hz * std::f64::consts::TAU / 8_000.0).sin()) as i16).unwrap();
    }
    wav.finalize().unwrap();
    path.display().to_string()
}

/// The announcement of these tests.
const NOTICE: f64 = 700.0;
/// The tone that tells of a recording.
const BEEP: f64 = 1_400.0;

#[test]
fn both_sides_hear_that_they_are_recorded_once_and_a_tone_again_and_again_and_so_does_the_recording() {
    let folder = tempfile::tempdir().unwrap();
    let notice = tone(&folder.path().join("notice.wav"), NOTICE, 2.0);
    let server =
        server(&["calls.record_bridged=true", "calls.record_tone_s=1", &format!("calls.record_announcement={notice}")]);
    let [mut alice, mut bob, ..] = phones(server.sip);
    let (at_alice, at_bob) = connect(&mut alice, &mut bob, "bob");
    // It is over before long: both are listened to at once.
    let mut heard = [false; 2];
    let both_hear = || {
        let sides = [(&mut alice, at_alice, BOB), (&mut bob, at_bob, ALICE)];
        for (heard, (phone, call, other)) in heard.iter_mut().zip(sides) {
            *heard |= [NOTICE, other].iter().all(|tone| phone.hears(call, *tone) >= LOUD);
        }
        (heard == [true; 2]).then_some(())
    };
    common::wait_for("the announcement on both sides", common::PATIENCE, both_hear, String::new);
    alice.wait_to_hear(at_alice, &[BOB], &[NOTICE]);
    // Who was told is not told again.
    bob.hold(at_bob, true);
    alice.wait_to_hear(at_alice, &[], &[BOB, NOTICE]);
    bob.hold(at_bob, false);
    alice.wait_to_hear(at_alice, &[BOB], &[NOTICE]);
    bob.wait_to_hear(at_bob, &[ALICE], &[NOTICE]);
    alice.hang_up(at_alice);
    bob.ended(at_bob);
    let tones = recorded(&server.wait_for_records(1)[0]);
    for side in [0, 1] {
        let notice = tones.heard(side, NOTICE);
        assert!((36..=41).contains(&notice.len()), "two seconds, once: {notice:?}");
        assert!(notice.windows(2).all(|pair| pair[1] - pair[0] == 1) && notice[0] < 10, "at the start: {notice:?}");
        let beeps = tones.heard(side, BEEP);
        let begins = 1 + beeps.windows(2).filter(|pair| pair[1] - pair[0] > 1).count();
        assert!(begins >= 2, "each second: {beeps:?}");
    }
    server.stop();
}

#[test]
fn an_agents_caller_is_told_first_and_what_is_private_reaches_neither_recording_nor_record_nor_log() {
    let folder = tempfile::tempdir().unwrap();
    let notice = tone(&folder.path().join("notice.wav"), NOTICE, 1.0);
    let word = tone(&folder.path().join("word.wav"), CAROL, 1.5);
    std::fs::create_dir(folder.path().join("agents")).unwrap();
    let agent = r##"
[agent]
name = "till"
[script]
start = "menu"
[script.states.menu]
say = "Press one to pay."
[[script.states.menu.on]]
keys = ["1"]
next = "card"
[script.states.card]
private = true
say = "Your card number, please, and the hash key after it."
digits = { to = "card", min = 4, max = 19, next = "thanks" }
[script.states.thanks]
say = "Thank you very much, and goodbye."
hang_up = "paid"
"##;
    std::fs::write(folder.path().join("agents/till.toml"), agent).unwrap();
    let script = folder.path().join("script.txt");
    let steps = format!("play-after 200 {word}\npress 1\nwait 300\nplay {word}\npress 424242#\nwait 6000\nhangup\n");
    std::fs::write(&script, steps).unwrap();
    let settings = [
        "agents.dir=agents",
        "log.level=debug",
        "calls.record_tone_s=30",
        &format!("calls.record_announcement={notice}"),
    ];
    let server = Server::start_in(folder, &settings);
    server.wait_until_ready();
    let call = common::omnivox(
        server.folder.path(),
        &["call", &server.uri("till"), "--listen", "127.0.0.1:0", "--json", "--script", script.to_str().unwrap()],
    );
    let record = server.wait_for_records(1).remove(0);
    assert_eq!(record["end"]["reason"], "agent_hung_up", "{record} {}", common::told(&call));
    let tones = recorded(&record);
    let notice = tones.heard(1, NOTICE);
    assert!(notice.len() >= 18 && notice[0] < 10, "{notice:?}");
    assert!(tones.heard(1, BEEP).len() >= 3, "the tone");
    let words = tones.heard(0, CAROL);
    assert!((25..=32).contains(&words.len()), "the word of the menu and not that of the card: {words:?}");
    let text = record.to_string();
    assert!(!text.contains("4242") && text.contains("(private)") && text.contains("Thank you"), "{text}");
    let log = server.stop();
    assert!(!log.contains("4242") && !log.contains("424242"), "{log}");
}
