//! Calls between phones of ours that are more than two people speaking: transfers, conferences, parking, picking up, supervising.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "common/office.rs"]
mod office;
#[path = "common/phone.rs"]
mod phone;

use common::Server;
use office::{ALICE, BOB, CAROL, DAVE, DEVICES, connect, phones};
use omnivox::SampleRate;
use omnivox::call::app::ActiveCall;
use omnivox::call::place::{Place, Watching};
use omnivox::call::{Command, Handover, TransferKind};
use phone::Phone;
use sip::headers::{ReferTo, Replaces};

fn server(settings: &[&str]) -> Server {
    let own = ["rtp.codecs=[\"PCMU\"]", "rtp.workers=2"];
    Server::start_with(DEVICES, tempfile::tempdir().unwrap(), &[&own, settings].concat())
}

/// The Refer-To of an attended transfer: `to`, in the place of a call of whoever says so.
fn in_place_of(server: &Server, to: &str, replaces: &Replaces) -> String {
    ReferTo::value(&server.uri(to), Some(replaces))
}

/// Nothing is left of any call: as many records as there were calls, and no leg, room or dialog.
fn assert_nothing_left(server: Server, records: usize) -> Vec<serde_json::Value> {
    let records = server.wait_for_records(records);
    common::wait_for(
        "everything to be free",
        std::time::Duration::from_secs(20),
        || {
            let (_, metrics) = server.get("/metrics");
            let is_zero = |name: &str| metrics.lines().any(|line| line.strip_prefix(name) == Some(" 0"));
            ["omnivox_calls", "omnivox_media_legs", "omnivox_media_rooms", "omnivox_sip_dialogs"]
                .iter()
                .all(|name| is_zero(name))
                .then_some(())
        },
        || server.get("/metrics").1,
    );
    server.stop();
    records
}

/// Conforms: RFC 5589 §7 — attended transfer by a phone: the one on hold and the one consulted are connected, in a call that both keep.
#[test]
fn an_attended_transfer_connects_the_two_others() {
    let server = server(&[]);
    let [mut alice, mut bob, mut carol, _] = phones(server.sip);
    let (first, at_bob) = connect(&mut alice, &mut bob, "bob");
    alice.wait_to_hear(first, &[BOB], &[]);
    alice.hold(first, true);
    let (second, at_carol) = connect(&mut alice, &mut carol, "carol");
    alice.wait_to_hear(second, &[CAROL], &[]);
    let replaces = alice.identity(second).replaces();
    let refer_to = in_place_of(&server, "carol", &replaces);
    assert_eq!(alice.refer(first, &refer_to), (202, Some(200)));
    bob.wait_to_hear(at_bob, &[CAROL], &[ALICE]);
    carol.wait_to_hear(at_carol, &[BOB], &[ALICE]);
    alice.ended(first);
    alice.ended(second);
    bob.hang_up(at_bob);
    carol.ended(at_carol);
    let records = assert_nothing_left(server, 2);
    let reasons: Vec<_> = records.iter().map(|record| record["end"]["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons[0], "transferred", "{records:?}");
    assert!(records[0]["end"]["detail"].as_str().unwrap().contains(records[1]["call"].as_str().unwrap()));
    // Bob's leg is told of where it went.
    assert!(records[1]["legs"].as_array().unwrap().iter().any(|leg| leg["leg"] == 0x8000), "{records:?}");
}

/// Conforms: RFC 3960 §3 — what is said before the answer reaches the caller, and the answer changes nothing of it.
#[test]
fn whoever_is_called_alone_is_heard_before_they_answer() {
    let server = server(&[]);
    let [mut alice, mut bob, ..] = phones(server.sip);
    let at_alice = alice.dial("bob", &[]);
    let at_bob = bob.rings();
    bob.speak_early(at_bob);
    alice.wait_early(at_alice);
    alice.wait_to_hear(at_alice, &[BOB], &[]);
    bob.answer(at_bob);
    alice.wait_answered(at_alice);
    alice.wait_to_hear(at_alice, &[BOB], &[]);
    bob.wait_to_hear(at_bob, &[ALICE], &[]);
    bob.hang_up(at_bob);
    alice.ended(at_alice);
    // Given up before the answer.
    let at_alice = alice.dial("bob", &[]);
    let at_bob = bob.rings();
    bob.speak_early(at_bob);
    alice.wait_early(at_alice);
    alice.hang_up(at_alice);
    bob.ended(at_bob);
    assert_nothing_left(server, 2);
}

/// Phones whose Contact leads nowhere from here are called the way that they came, which is kept open for them: by OPTIONS, as long as they
/// are registered.
#[test]
fn phones_behind_nat_are_reached_and_kept_in_reach() {
    let server = server(&["registrar.ping_s=1"]);
    let pings = |result: &str| {
        let (_, metrics) = server.get("/metrics");
        let name = format!("omnivox_registrar_pings_total{{result=\"{result}\"}} ");
        metrics.lines().find_map(|line| line.strip_prefix(&name)?.parse::<u64>().ok()).unwrap_or(0)
    };
    let mut alice = Phone::register(server.sip, "alice", "a", ALICE);
    let contact = Some("<sip:bob@10.11.12.13:5062>");
    let mut bob = Phone::register_as(server.sip, ("bob", "b"), BOB, contact);
    common::wait_for(
        "three answers",
        common::PATIENCE,
        || (pings("answered") >= 3).then_some(()),
        || server.process.stderr(),
    );
    let (at_alice, at_bob) = connect(&mut alice, &mut bob, "bob");
    alice.wait_to_hear(at_alice, &[BOB], &[]);
    bob.hang_up(at_bob);
    alice.ended(at_alice);
    assert_eq!(pings("unanswered"), 0, "bob alone is asked, and is there");
    drop(bob);
    common::wait_for("none", common::PATIENCE, || (pings("unanswered") >= 1).then_some(()), || server.process.stderr());
    server.stop();
}

/// Phones hold before they pass a call on, and whoever is passed on may hold, too.
#[test]
fn holds_outlive_a_transfer_in_vain_and_one_that_comes_about() {
    let server = server(&[]);
    let [mut alice, mut bob, mut carol, _] = phones(server.sip);
    let (at_alice, at_bob) = connect(&mut alice, &mut bob, "bob");
    alice.hold(at_alice, true);
    alice.ask_refer(at_alice, &server.uri("carol"));
    let at_carol = carol.rings();
    carol.reject(at_carol, 486);
    assert_eq!(alice.told_of_refer(at_alice), (202, Some(486)));
    bob.listen_anew(at_bob);
    bob.wait_for_sound(at_bob);
    bob.wait_to_hear(at_bob, &[], &[ALICE, CAROL]);
    alice.wait_to_hear(at_alice, &[], &[BOB]);
    alice.hold(at_alice, false);
    bob.wait_to_hear(at_bob, &[ALICE], &[]);
    alice.wait_to_hear(at_alice, &[BOB], &[]);
    // It is bob who holds, as his caller is passed on to carol.
    bob.hold(at_bob, true);
    alice.ask_refer(at_alice, &server.uri("carol"));
    let at_carol = carol.pick_up();
    assert_eq!(alice.told_of_refer(at_alice), (202, Some(200)));
    alice.ended(at_alice);
    carol.listen_anew(at_carol);
    carol.wait_for_sound(at_carol);
    carol.wait_to_hear(at_carol, &[], &[ALICE, BOB]);
    bob.wait_to_hear(at_bob, &[], &[CAROL]);
    bob.hold(at_bob, false);
    bob.wait_to_hear(at_bob, &[CAROL], &[]);
    carol.wait_to_hear(at_carol, &[BOB], &[]);
    bob.hang_up(at_bob);
    carol.ended(at_carol);
    assert_nothing_left(server, 1);
}

/// Waits until these reports on a REFER have gone out in the dialog of this Call-ID: a phone looks at no more of them once it was hung up.
fn wait_for_reports(server: &Server, call_id: &str, wanted: &[&str]) {
    let reports = || -> Vec<String> {
        let sent = signalling(server, call_id);
        sent.split("\r\n\r\nSIP/2.0 ").skip(1).map(|report| report[..3].to_owned()).collect()
    };
    let are_these = || (reports() == wanted).then_some(());
    common::wait_for(&format!("{wanted:?}"), common::PATIENCE, are_these, || format!("{:?}", reports()));
}

/// Conforms: RFC 5589 §7.6 — a transfer before the one consulted has answered: whoever is passed on hears music until then, and the phone is
/// told that it rings, and what comes of it.
#[test]
fn a_transfer_may_come_before_the_answer() {
    let server = server(&[]);
    let [mut alice, mut bob, mut carol, _] = phones(server.sip);
    let (first, at_bob) = connect(&mut alice, &mut bob, "bob");
    let second = alice.dial("carol", &[]);
    let at_carol = carol.rings();
    alice.wait_ringing(second);
    let replaces = alice.identity(second).replaces();
    let asked = alice.identity(first).call_id;
    alice.ask_refer(first, &in_place_of(&server, "carol", &replaces));
    alice.ended(second);
    wait_for_reports(&server, &asked, &["100", "180"]);
    carol.answer(at_carol);
    wait_for_reports(&server, &asked, &["100", "180", "200"]);
    bob.wait_to_hear(at_bob, &[CAROL], &[ALICE]);
    carol.wait_to_hear(at_carol, &[BOB], &[ALICE]);
    carol.hang_up(at_carol);
    bob.ended(at_bob);
    // She declines; or whoever was to speak with her gives up.
    for gives_up in [false, true] {
        let (first, at_bob) = connect(&mut alice, &mut bob, "bob");
        let second = alice.dial("carol", &[]);
        let at_carol = carol.rings();
        alice.wait_ringing(second);
        let replaces = alice.identity(second).replaces();
        let asked = alice.identity(first).call_id;
        alice.ask_refer(first, &in_place_of(&server, "carol", &replaces));
        alice.ended(second);
        if gives_up {
            bob.hang_up(at_bob);
            carol.ended(at_carol);
        } else {
            carol.reject(at_carol, 486);
            bob.ended(at_bob);
        }
        wait_for_reports(&server, &asked, &["100", "180", if gives_up { "487" } else { "486" }]);
    }
    assert_nothing_left(server, 6);
}

/// Conforms: RFC 3891 §3 — an INVITE with Replaces takes the place of one side of a call, which is hung up; a stranger's does not.
#[test]
fn a_phone_takes_over_the_call_of_another() {
    let server = server(&[]);
    let [mut alice, mut bob, mut carol, _] = phones(server.sip);
    let (at_alice, at_bob) = connect(&mut alice, &mut bob, "bob");
    // Bob carries his call over to carol's phone: the dialog is the one between the server and bob.
    let known = bob.identity(at_bob);
    let replaces =
        Replaces { call_id: known.call_id, to_tag: known.remote_tag, from_tag: known.local_tag, early_only: false };
    let stranger = common::omnivox(server.folder.path(), &["call", &server.uri("bob"), "--duration", "1"]);
    assert!(!stranger.status.success());
    let at_carol = carol.dial("bob", &[("Replaces", replaces.to_string()), ("Require", "replaces".to_owned())]);
    carol.wait_answered(at_carol);
    bob.ended(at_bob);
    alice.wait_to_hear(at_alice, &[CAROL], &[BOB]);
    carol.wait_to_hear(at_carol, &[ALICE], &[]);
    alice.hang_up(at_alice);
    carol.ended(at_carol);
    assert_nothing_left(server, 2);
}

#[test]
fn a_call_is_picked_up_where_it_rings() {
    let server = server(&[]);
    let [mut alice, mut bob, mut carol, _] = phones(server.sip);
    let at_alice = alice.dial("bob", &[]);
    let at_bob = bob.rings();
    let at_carol = carol.call("pickup-bob");
    alice.wait_answered(at_alice);
    bob.ended(at_bob);
    alice.wait_to_hear(at_alice, &[CAROL], &[]);
    carol.wait_to_hear(at_carol, &[ALICE], &[]);
    carol.hang_up(at_carol);
    alice.ended(at_alice);
    // Nothing rings there now.
    let nothing = carol.dial("pickup-bob", &[]);
    carol.ended(nothing);
    assert_nothing_left(server, 3);
}

#[test]
fn a_caller_is_parked_and_fetched_and_called_back_where_nobody_comes() {
    let server = server(&["calls.park_s=2"]);
    let [mut alice, mut bob, mut carol, _] = phones(server.sip);
    let (at_alice, at_bob) = connect(&mut alice, &mut bob, "bob");
    assert_eq!(bob.refer(at_bob, &server.uri("park-1")), (202, Some(200)));
    bob.ended(at_bob);
    let at_carol = carol.call("park-1");
    alice.wait_to_hear(at_alice, &[CAROL], &[BOB]);
    carol.wait_to_hear(at_carol, &[ALICE], &[]);
    // Parked anew, by carol, and forgotten: she is called back.
    assert_eq!(carol.refer(at_carol, &server.uri("park-2")), (202, Some(200)));
    carol.ended(at_carol);
    let nobody = bob.dial("park-1", &[]);
    bob.ended(nobody);
    let back = carol.pick_up();
    alice.wait_to_hear(at_alice, &[CAROL], &[]);
    alice.hang_up(at_alice);
    carol.ended(back);
    assert_nothing_left(server, 3);
}

/// Conforms: RFC 6465 §4 — whoever offers it is sent the levels of those who speak in a conference, beside their sources
#[test]
fn a_conference_holds_whoever_comes_and_outlives_whoever_opened_it() {
    let server = server(&[]);
    let [mut alice, mut bob, mut carol, mut dave] = phones(server.sip);
    let at_alice = alice.call("room-weekly");
    let at_bob = bob.call("room-weekly");
    // Carol is brought in by a transfer of dave's.
    let (at_dave, at_carol) = connect(&mut dave, &mut carol, "carol");
    assert_eq!(dave.refer(at_dave, &server.uri("room-weekly")), (202, Some(200)));
    dave.ended(at_dave);
    alice.wait_to_hear(at_alice, &[BOB, CAROL], &[ALICE]);
    bob.wait_to_hear(at_bob, &[ALICE, CAROL], &[BOB]);
    carol.wait_to_hear(at_carol, &[ALICE, BOB], &[CAROL]);
    // A phone hums at 18 dB below overload.
    let are_told = |phone: &Phone| {
        let levels = phone.levels(at_alice);
        let hums = |hz: f64| levels.iter().any(|(ssrc, level)| *ssrc == hz as u32 && level.abs_diff(18) <= 2);
        (hums(BOB) && hums(CAROL) && levels.len() == 2).then_some(())
    };
    let patience = std::time::Duration::from_secs(10);
    common::wait_for("levels", patience, || are_told(&alice), || format!("{:?}", alice.levels(at_alice)));
    // Her call stood before it became one of a conference's: its end here says so by a refresh.
    let messages = || signalling(&server, "latest");
    let is_told = || {
        let all = messages();
        let update = all.split("UPDATE sip:").nth(1)?.split("\r\n\r\n").next()?;
        let is_focus = |line: &str| line.starts_with("Contact:") && line.trim_end().ends_with(">;isfocus");
        update.lines().any(is_focus).then_some(())
    };
    common::wait_for("UPDATE", patience, is_told, messages);
    // That holds for as long as her leg does: nobody in a conference passes their leg on.
    assert_eq!(carol.refer(at_carol, &server.uri("dave")), (403, None));
    alice.hang_up(at_alice);
    bob.wait_to_hear(at_bob, &[CAROL], &[ALICE]);
    let again = alice.call("room-weekly");
    alice.wait_to_hear(again, &[BOB, CAROL], &[]);
    for (phone, call) in [(&mut alice, again), (&mut bob, at_bob), (&mut carol, at_carol)] {
        phone.hang_up(call);
    }
    let records = assert_nothing_left(server, 4);
    // Alice, who came twice, bob and carol hummed all the time.
    let spoke: Vec<_> = records.iter().filter_map(|record| record["spoke"].as_array()).flatten().collect();
    assert_eq!(spoke.len(), 4, "{records:?}");
    assert!(
        spoke.iter().all(|one| one["spoke_ms"].as_u64() > Some(0) && one["times"].as_u64() >= Some(1)),
        "{spoke:?}"
    );
}

#[test]
fn a_supervisor_listens_whispers_and_joins_and_nobody_else_may() {
    let server = server(&[]);
    let [mut alice, mut bob, mut carol, mut dave] = phones(server.sip);
    let (at_alice, at_bob) = connect(&mut alice, &mut bob, "bob");
    alice.wait_to_hear(at_alice, &[BOB], &[]);
    let refused = carol.dial("listen-bob", &[]);
    carol.ended(refused);
    let at_dave = dave.call("listen-bob");
    dave.wait_to_hear(at_dave, &[ALICE, BOB], &[]);
    alice.wait_to_hear(at_alice, &[BOB], &[DAVE]);
    bob.wait_to_hear(at_bob, &[ALICE], &[DAVE]);
    dave.press(at_dave, '5');
    bob.wait_to_hear(at_bob, &[ALICE, DAVE], &[]);
    alice.wait_to_hear(at_alice, &[BOB], &[DAVE]);
    dave.press(at_dave, '6');
    alice.wait_to_hear(at_alice, &[BOB, DAVE], &[]);
    dave.press(at_dave, '4');
    alice.wait_to_hear(at_alice, &[BOB], &[DAVE]);
    // Hold and back: the supervisor stays.
    bob.hold(at_bob, true);
    bob.hold(at_bob, false);
    dave.wait_to_hear(at_dave, &[ALICE, BOB], &[]);
    dave.hang_up(at_dave);
    alice.wait_to_hear(at_alice, &[BOB], &[DAVE]);
    let again = dave.call("join-alice");
    bob.wait_to_hear(at_bob, &[ALICE, DAVE], &[]);
    alice.hang_up(at_alice);
    bob.ended(at_bob);
    dave.ended(again);
    assert_nothing_left(server, 4);
}

/// All messages of a call, one behind the other, as they went over the network.
fn signalling(server: &Server, call: &str) -> String {
    let (folder, url) = (server.folder.path(), format!("http://{}", server.http));
    let done = common::omnivox(folder, &["trace", call, "--url", &url, "--pcap", "call.pcap"]);
    assert!(done.status.success(), "{}", common::told(&done));
    String::from_utf8_lossy(&std::fs::read(folder.join("call.pcap")).unwrap()).into_owned()
}

/// A supervisor on an agent's call hears the caller and the agent.
#[test]
fn a_supervisor_hears_an_agents_call() {
    let server = server(&[]);
    server.wait_until_ready();
    let [mut alice, _, _, mut dave] = phones(server.sip);
    let at_alice = alice.call("agent");
    let at_dave = dave.call("join-alice");
    dave.wait_to_hear(at_dave, &[ALICE], &[]);
    alice.wait_to_hear(at_alice, &[DAVE], &[]);
    alice.hang_up(at_alice);
    dave.ended(at_dave);
    assert_nothing_left(server, 2);
}

/// The configuration of a server in this process.
fn config(text: &str, folder: &std::path::Path) -> omnivox::Config {
    let mut config: omnivox::Config = toml::from_str(text).unwrap();
    config.sip.listen = vec![omnivox::config::SipListen::new(sip::Transport::Udp, "127.0.0.1:0".parse().unwrap())];
    config.data.dir = folder.to_owned();
    config.rtp.bind = [127, 0, 0, 1].into();
    config.rtp.ports = common::rtp_ports().parse().unwrap();
    config.rtp.codecs = vec!["PCMU".to_owned()];
    config
}

/// A program that embeds the server brings people into conferences and calls, and takes them apart again.
#[test]
fn a_program_invites_to_a_conference_and_to_supervise_holds_and_hangs_up() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(omnivox::Server::builder(config(DEVICES, folder.path())).start()).unwrap();
    let at = server.sip_addrs().first().unwrap().1;
    let [mut alice, mut bob, mut carol, mut dave] = phones(at);
    let (at_alice, at_bob) = connect(&mut alice, &mut bob, "bob");
    let call = server.calls().first().unwrap().to_string();
    server.invite("dave", Place::Watch(call.clone(), Watching::Join)).unwrap();
    let at_dave = dave.pick_up();
    dave.wait_to_hear(at_dave, &[ALICE, BOB], &[]);
    alice.wait_to_hear(at_alice, &[BOB, DAVE], &[]);
    dave.hang_up(at_dave);
    assert!(server.command(&call, Command::Hold(true)));
    alice.wait_to_hear(at_alice, &[], &[BOB]);
    assert!(server.command(&call, Command::Hold(false)));
    alice.wait_to_hear(at_alice, &[BOB], &[]);
    // Alice into a conference, and carol too.
    assert!(server.command(&call, Command::Transfer(Handover::blind("room-board"), None)));
    bob.ended(at_bob);
    server.invite("carol", Place::Room("board".to_owned())).unwrap();
    let at_carol = carol.pick_up();
    carol.wait_to_hear(at_carol, &[ALICE], &[]);
    alice.wait_to_hear(at_alice, &[CAROL], &[BOB]);
    assert!(server.invite("nobody", Place::Room("board".to_owned())).is_err());
    assert!(server.command(&call, Command::HangUp));
    alice.ended(at_alice);
    carol.ended(at_carol);
    runtime.block_on(server.shut_down()).unwrap();
}

/// Conforms: RFC 3515 §2.4 — a carrier that takes its calls back is asked by REFER to call the person itself.
#[test]
fn a_carrier_takes_its_call_back() {
    let mut carrier = Phone::start("+4930111", "", ALICE);
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        "[[trunks]]\nname = \"carrier\"\nhosts = [\"{0}\"]\ndomain = \"carrier.test\"\naddresses = [\"127.0.0.1\"]\n\
         country = \"DE\"\nnumbers_out = \"digits\"\nping_s = 0\nrefer = true\n",
        carrier.address()
    );
    let config = config(&text, folder.path());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let listening = omnivox::Server::builder(config).number("desk", |mut call| async move {
        while call.hear().await.is_some() {}
        call
    });
    let server = runtime.block_on(listening.start()).unwrap();
    carrier.server = server.sip_addrs().first().unwrap().1;
    let call = carrier.call("desk");
    let transfer = Command::Transfer(Handover::blind("030 222"), None);
    let id = server.calls().first().unwrap().clone();
    assert!(server.command(&id, transfer));
    assert_eq!(carrier.is_referred(call, 200), "sip:4930222@carrier.test");
    carrier.ended(call);
    runtime.block_on(server.shut_down()).unwrap();
    let record = std::fs::read_to_string(folder.path().join("calls.jsonl")).unwrap();
    assert!(record.contains("\"reason\":\"transferred\""), "{record}");
}

/// What the program of the test below is told, and tells.
enum Told {
    /// A transfer that it asked for is over.
    Passed(Result<(), String>),
    /// Something else that it does went on meanwhile.
    Ticked,
    /// A key.
    Key(Option<char>),
    /// Somebody else took its caller away, and they are back.
    Returned(Option<String>),
}

/// Five seconds of a tone, at 8 kHz.
fn tone(hz: f64) -> Vec<i16> {
    let step = hz * std::f64::consts::TAU / 8_000.0;
    (0..40_000).map(|n| (8_000.0 * (f64::from(n) * step).sin()) as i16).collect()
}

/// A caller who is passed on while they are told that they are recorded, and comes back, is whoever's they called after all.
#[test]
fn whoever_was_to_have_a_caller_begins_with_them_once_they_are_back() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut config = config(DEVICES, folder.path());
    config.calls.record = true;
    config.calls.record_announcement =
        "This call is recorded, whatever you say in it, from the first word to the last.".into();
    let desk = omnivox::Server::builder(config).number("desk", |mut call| async move {
        call.play(&tone(DAVE), SampleRate::HZ_8000, true).await;
        call
    });
    let server = runtime.block_on(desk.start()).unwrap();
    let [mut alice, mut bob, ..] = phones(server.sip_addrs().first().unwrap().1);
    let at_alice = alice.call("desk");
    alice.wait_for_sound(at_alice);
    let id = server.calls().first().unwrap().to_string();
    assert!(server.command(&id, Command::Transfer(Handover::blind("bob"), None)));
    let at_bob = bob.rings();
    bob.reject(at_bob, 486);
    alice.wait_to_hear(at_alice, &[DAVE], &[]);
    alice.hang_up(at_alice);
    runtime.block_on(server.shut_down()).unwrap();
}

/// A program passes its caller on to people who do not take them, and goes on; so it does where somebody else wanted them connected.
#[test]
fn a_program_gets_its_caller_back_and_is_told_why() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    let (tick, ticks) = tokio::sync::mpsc::unbounded_channel::<()>();
    let ticks = std::sync::Arc::new(tokio::sync::Mutex::new(ticks));
    let warmly = Handover {
        uri: "carol".to_owned(),
        kind: TransferKind::Warm,
        summary: "A caller from Hamburg.".to_owned(),
        must_accept: true,
        ..Handover::default()
    };
    let desk = move |mut call: ActiveCall| {
        let (tell, ticks, warmly) = (tell.clone(), std::sync::Arc::clone(&ticks), warmly.clone());
        let tell = move |told| tell.send(told).unwrap();
        async move {
            let mut ticks = ticks.lock().await;
            // What else the program does goes on while the caller is away.
            let ticking = async {
                ticks.recv().await.unwrap();
                tell(Told::Ticked);
            };
            let (passed, ()) = tokio::join!(call.transfer(Handover::blind("bob")), ticking);
            tell(Told::Passed(passed));
            tell(Told::Key(call.key(common::PATIENCE).await));
            tell(Told::Passed(call.transfer(warmly).await));
            tell(Told::Passed(call.transfer(Handover::blind("nobody")).await));
            // Somebody else has the caller connected meanwhile.
            tell(Told::Key(call.key(common::PATIENCE).await));
            tell(Told::Returned(call.returned()));
            call.play(&tone(DAVE), SampleRate::HZ_8000, true).await;
            tell(Told::Passed(call.transfer(Handover::blind("bob")).await));
            assert!(call.is_closed() && call.hear().await.is_none() && call.returned().is_none());
            call
        }
    };
    let server = omnivox::Server::builder(config(DEVICES, folder.path())).number("desk", desk);
    let server = runtime.block_on(server.start()).unwrap();
    let [mut alice, mut bob, mut carol, _] = phones(server.sip_addrs().first().unwrap().1);
    let next = || told.recv_timeout(common::PATIENCE).unwrap();
    let back = |why: &str| match next() {
        Told::Passed(passed) => assert_eq!(passed, Err(why.to_owned())),
        _ => panic!("the transfer should have come to nothing: {why}"),
    };
    let at_alice = alice.call("desk");
    let at_bob = bob.rings();
    tick.send(()).unwrap();
    assert!(matches!(next(), Told::Ticked));
    alice.wait_for_sound(at_alice);
    bob.reject(at_bob, 486);
    back("the person is busy");
    alice.press(at_alice, '5');
    assert!(matches!(next(), Told::Key(Some('5'))));
    let at_carol = carol.pick_up();
    carol.wait_for_sound(at_carol);
    carol.press(at_carol, '2');
    carol.ended(at_carol);
    back("the person does not take the call");
    back("nobody is to be reached there");
    let id = server.calls().first().unwrap().to_string();
    assert!(server.command(&id, Command::Transfer(Handover::blind("bob"), None)));
    let at_bob = bob.rings();
    bob.reject(at_bob, 603);
    assert!(matches!(next(), Told::Key(None)));
    assert!(matches!(next(), Told::Returned(Some(why)) if why == "the person declined"));
    alice.wait_to_hear(at_alice, &[DAVE], &[]);
    alice.press(at_alice, '1');
    let at_bob = bob.pick_up();
    alice.wait_to_hear(at_alice, &[BOB], &[DAVE]);
    bob.wait_to_hear(at_bob, &[ALICE], &[]);
    assert!(matches!(next(), Told::Passed(Ok(()))));
    alice.hang_up(at_alice);
    bob.ended(at_bob);
    runtime.block_on(server.shut_down()).unwrap();
    let record = std::fs::read_to_string(folder.path().join("calls.jsonl")).unwrap();
    assert!(record.contains("\"reason\":\"caller_hung_up\""), "{record}");
}

/// A fault of the program's is the end of its calls, told of, and of nothing else: also while somebody else has the caller.
#[test]
fn a_program_that_panics_ends_its_call_and_leaves_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let at_once = |mut call: ActiveCall| async move {
        call.play(&tone(DAVE), SampleRate::HZ_8000, true).await;
        assert!(call.is_closed(), "on purpose");
        call
    };
    let (fail, fails) = tokio::sync::watch::channel(false);
    let while_away = move |mut call: ActiveCall| {
        let mut fails = fails.clone();
        async move {
            let failing = async {
                fails.wait_for(|fails| *fails).await.unwrap();
                panic!("on purpose");
            };
            let _: (_, ()) = tokio::join!(call.transfer(Handover::blind("bob")), failing);
            call
        }
    };
    let server = omnivox::Server::builder(config(DEVICES, folder.path()));
    let server = server.number("fails", at_once).number("away", while_away);
    // Here it is a call of our own that fails, at what it tells of its agent.
    let server = server.observer(|_, _| panic!("on purpose"));
    let server = runtime.block_on(server.start()).unwrap();
    let [mut alice, mut bob, ..] = phones(server.sip_addrs().first().unwrap().1);
    let at_alice = alice.call("fails");
    alice.wait_to_hear(at_alice, &[DAVE], &[]);
    alice.press(at_alice, '1');
    alice.ended(at_alice);
    // Nobody takes the caller, and nobody is left to have them back.
    let at_alice = alice.call("away");
    let at_bob = bob.rings();
    fail.send(true).unwrap();
    bob.reject(at_bob, 486);
    alice.ended(at_alice);
    // Somebody has them.
    fail.send(false).unwrap();
    let at_alice = alice.call("away");
    let at_bob = bob.pick_up();
    alice.wait_to_hear(at_alice, &[BOB], &[]);
    fail.send(true).unwrap();
    alice.listen_anew(at_alice);
    alice.wait_to_hear(at_alice, &[BOB], &[]);
    bob.hang_up(at_bob);
    alice.ended(at_alice);
    let at_alice = alice.call("agent");
    alice.ended(at_alice);
    assert_eq!(server.calls().len(), 0);
    runtime.block_on(server.shut_down()).unwrap();
    let records = std::fs::read_to_string(folder.path().join("calls.jsonl")).unwrap();
    let records: Vec<serde_json::Value> = records.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ends: Vec<_> = records.iter().map(|record| record["end"]["reason"].as_str().unwrap()).collect();
    assert_eq!(ends, ["agent_unavailable", "agent_unavailable", "far_side_hung_up", "internal"], "{records:?}");
    assert!(records[0]["end"]["detail"].as_str().unwrap().contains("panicked"), "{records:?}");
}

/// What an agent needs fails with a panic while it loads: its callers are not kept waiting, and the other agents take theirs.
#[test]
fn callers_of_an_agent_whose_loading_panics_get_what_one_that_fails_gives() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("agents")).unwrap();
    for (name, brain) in [("frail", "frail"), ("plain", "script")] {
        let agent = format!(
            "[agent]\nname = \"{name}\"\n[ear]\nrecognizer = \"none\"\n[brain]\nkind = \"{brain}\"\n[script]\nstart = \"a\"\n\
             [script.states.a]\nsay = \"Hello.\"\nhang_up = \"goodbye\"\n"
        );
        std::fs::write(folder.path().join(format!("agents/{name}.toml")), agent).unwrap();
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut config = config(DEVICES, folder.path());
    config.agents.dir = folder.path().join("agents");
    let registry =
        agent::registry::Registry::built_in().with_brain("frail", std::sync::Arc::new(|_, _| panic!("on purpose")));
    let server = runtime.block_on(omnivox::Server::builder(config).registry(registry).start()).unwrap();
    let [mut alice, ..] = phones(server.sip_addrs().first().unwrap().1);
    let at_alice = alice.call("frail");
    alice.ended(at_alice);
    let at_alice = alice.call("plain");
    alice.ended(at_alice);
    runtime.block_on(server.shut_down()).unwrap();
    let records = std::fs::read_to_string(folder.path().join("calls.jsonl")).unwrap();
    let records: Vec<serde_json::Value> = records.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records[0]["end"]["reason"], "agent_unavailable", "{records:?}");
    assert!(records[0]["end"]["detail"].as_str().unwrap().contains("a fault of this program"), "{records:?}");
    assert_eq!(records[1]["end"]["reason"], "agent_hung_up", "{records:?}");
}

/// The call of somebody who lets us wait for the ACK: a raw caller, once our answer has come.
struct Answered {
    socket: std::net::UdpSocket,
    from: String,
    answer: String,
}

impl Answered {
    fn call(at: std::net::SocketAddr, to: &str) -> Self {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(common::PATIENCE)).unwrap();
        socket.connect(at).unwrap();
        let from = socket.local_addr().unwrap().to_string();
        let sdp = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9 RTP/AVP 0\r\n";
        let mut caller = Self { socket, from, answer: String::new() };
        let head = caller.head("INVITE", &format!("sip:{to}@{at}"), &format!("<sip:{to}@{at}>"));
        let kind = "Content-Type: application/sdp\r\n";
        caller.socket.send(format!("{head}{kind}Content-Length: {}\r\n\r\n{sdp}", sdp.len()).as_bytes()).unwrap();
        caller.answer = caller.next("SIP/2.0 200 ");
        caller
    }

    fn head(&self, method: &str, uri: &str, to: &str) -> String {
        let from = &self.from;
        format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bK{method}\r\nMax-Forwards: 70\r\nFrom: <sip:raw@{from}>;tag=1\r\n\
             To: {to}\r\nCall-ID: raw\r\nCSeq: 1 {method}\r\nContact: <sip:raw@{from}>\r\n"
        )
    }

    /// The next message that begins so.
    fn next(&self, beginning: &str) -> String {
        let mut datagram = [0; 4_096];
        loop {
            let size = self.socket.recv(&mut datagram).unwrap();
            let text = String::from_utf8_lossy(&datagram[..size]).into_owned();
            if text.starts_with(beginning) {
                return text;
            }
        }
    }

    fn acknowledge(&self) {
        let of = |name: &str| self.answer.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim();
        let uri = of("Contact: ").split(['<', '>']).nth(1).unwrap();
        self.socket.send(format!("{}Content-Length: 0\r\n\r\n", self.head("ACK", uri, of("To: "))).as_bytes()).unwrap();
    }
}

/// What is asked of a call between our answer and the caller's ACK is done once that is here.
#[test]
fn a_command_that_comes_before_the_ack_is_not_lost() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let listening = omnivox::Server::builder(config(DEVICES, folder.path())).number("desk", |mut call| async move {
        while call.hear().await.is_some() {}
        call
    });
    let server = runtime.block_on(listening.start()).unwrap();
    let at = server.sip_addrs().first().unwrap().1;
    let mut bob = Phone::register(at, "bob", "b", BOB);
    let caller = Answered::call(at, "desk");
    let id = server.calls().first().unwrap().clone();
    assert!(server.command(&id, Command::Transfer(Handover::blind("bob"), None)));
    // The answer is sent again meanwhile: nobody has heard of an ACK.
    caller.next("SIP/2.0 200 ");
    caller.acknowledge();
    let at_bob = bob.rings();
    bob.reject(at_bob, 486);
    runtime.block_on(server.shut_down()).unwrap();
}
