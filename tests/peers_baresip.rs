//! baresip dials in, is understood, and the call ends cleanly whoever hangs up.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/caller.rs"]
mod caller;
mod common;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use common::{PATIENCE, Running, Server, free_port, wait_for};

/// How long baresip's own end may take.
const QUIT_WITHIN: Duration = Duration::from_secs(15);

/// Starts baresip in a folder of its own; it calls the agent with `wav` for a microphone.
fn dial(folder: &Path, wav: &Path, server: &Server) -> Running {
    dial_protected(folder, wav, server, "")
}

/// The same with its sound protected by this `mediaenc` of baresip's: `srtp`, `srtp-mand`, `dtls_srtp`.
fn dial_protected(folder: &Path, wav: &Path, server: &Server, mediaenc: &str) -> Running {
    let sound = folder.display();
    let config = format!(
        "poll_method epoll\nsip_listen 127.0.0.1:{sip}\nsip_trans_def udp\n\
         audio_player aufile,{sound}/heard.wav\naudio_source aufile,{wav}\naudio_alert aufile,{sound}/alert.wav\naudio_level no\n\
         ausrc_srate 8000\nauplay_srate 8000\nausrc_channels 1\nauplay_channels 1\n\
         rtp_ports {rtp}-{rtp_last}\nnet_interface 127.0.0.1\n\
         module_path /usr/lib/baresip/modules\nmodule stdio.so\nmodule g711.so\nmodule aufile.so\n\
         module srtp.so\nmodule dtls_srtp.so\nmodule_tmp account.so\nmodule_app menu.so\n",
        sip = free_port(),
        wav = wav.display(),
        rtp = 16_000,
        rtp_last = 17_999,
    );
    std::fs::write(folder.join("config"), config).unwrap();
    let mediaenc = if mediaenc.is_empty() { String::new() } else { format!(";mediaenc={mediaenc}") };
    let account = format!("<sip:baresip@127.0.0.1>;regint=0;audio_codecs=PCMU/8000/1{mediaenc}\n");
    std::fs::write(folder.join("accounts"), account).unwrap();
    let dial = format!("/dial {}", server.uri("agent"));
    Running::start(Command::new("baresip").arg("-4").arg("-f").arg(folder).args(["-e", &dial]))
}

/// Everything baresip has printed.
fn printed(baresip: &Running) -> String {
    let text = baresip.stdout() + &baresip.stderr();
    // It draws its meter over and over on one line.
    text.split('\r').filter(|piece| !piece.contains("(bit/s)")).collect()
}

/// Waits until baresip sees the call as over, and ends it.
fn wait_for_its_end(mut baresip: Running) {
    wait_for(
        "baresip to see the end",
        PATIENCE,
        || printed(&baresip).contains("terminated").then_some(()),
        || printed(&baresip),
    );
    assert!(baresip.is_running(), "{}", printed(&baresip));
    baresip.type_line("/quit");
    let status = baresip.wait(QUIT_WITHIN);
    assert!(status.success(), "{status}\n{}", printed(&baresip));
}

#[test]
fn baresip_is_understood_and_hangs_up() {
    let server = Server::start(&["rtp.codecs=[\"PCMU\"]"]);
    server.wait_until_ready();
    let folder = tempfile::tempdir().unwrap();
    let wav = caller::wav(folder.path(), "question", 8_000, &[(5.0, "What are your opening hours?")], 60.0);
    let mut baresip = dial(folder.path(), &wav, &server);
    wait_for(
        "the caller's turn",
        PATIENCE,
        || server.get("/metrics").1.contains("omnivox_turns_total{who=\"caller\"} 1").then_some(()),
        || printed(&baresip),
    );
    baresip.type_line("/hangup");
    let record = server.wait_for_records(1).remove(0);
    wait_for_its_end(baresip);
    assert_eq!(record["end"]["class"], "ok", "{record}");
    assert_eq!(record["end"]["reason"], "caller_hung_up", "{record}");
    assert_eq!(record["codec"], "PCMU");
    let turn = &record["agent"]["turns"][1];
    assert_eq!(turn["who"], "caller", "{record}");
    assert_eq!(turn["text"], "what are your opening hours", "{record}");
    assert_eq!(turn["matched"], "menu/0", "{record}");
    assert_eq!(record["media"]["lost"], 0, "{record}");
    server.stop();
}

#[test]
fn baresip_says_goodbye_and_sees_the_agent_hang_up() {
    let server = Server::start(&[]);
    server.wait_until_ready();
    let folder = tempfile::tempdir().unwrap();
    let says = [(5.0, "What are your opening hours?"), (18.0, "No thank you. Goodbye.")];
    let wav = caller::wav(folder.path(), "goodbye", 8_000, &says, 60.0);
    let baresip = dial(folder.path(), &wav, &server);
    let record = server.wait_for_records(1).remove(0);
    assert!(printed(&baresip).contains("incoming rtp for 'audio' established"), "{}", printed(&baresip));
    wait_for_its_end(baresip);
    assert_eq!(record["end"]["class"], "ok", "{record}");
    assert_eq!(record["end"]["reason"], "agent_hung_up", "{record}");
    let turns = record["agent"]["turns"].as_array().unwrap();
    let said: Vec<&str> =
        turns.iter().filter(|turn| turn["who"] == "caller").map(|turn| turn["text"].as_str().unwrap()).collect();
    assert_eq!(said, ["what are your opening hours", "no thank you goodbye"], "{record}");
    assert_eq!(turns.last().unwrap()["text"], "Thank you for calling. Goodbye.", "{record}");
    server.stop();
}

/// Conforms: RFC 5764 — baresip is understood with its sound protected by keys in the description and by a handshake.
#[test]
fn baresip_is_understood_under_srtp_by_each_of_its_ways() {
    for (mediaenc, expected) in [("srtp", "sdes"), ("srtp-mand", "sdes"), ("dtls_srtp", "dtls")] {
        let server = Server::start(&["rtp.codecs=[\"PCMU\"]", "rtp.srtp=required"]);
        server.wait_until_ready();
        let folder = tempfile::tempdir().unwrap();
        let wav = caller::wav(folder.path(), "question", 8_000, &[(5.0, "What are your opening hours?")], 60.0);
        let mut baresip = dial_protected(folder.path(), &wav, &server, mediaenc);
        wait_for(
            "the caller's turn",
            PATIENCE,
            || server.get("/metrics").1.contains("omnivox_turns_total{who=\"caller\"} 1").then_some(()),
            || format!("{mediaenc}\n{}\n{}", printed(&baresip), server.process.stderr()),
        );
        baresip.type_line("/hangup");
        let record = server.wait_for_records(1).remove(0);
        wait_for_its_end(baresip);
        assert_eq!(
            (&record["srtp"], &record["end"]["reason"]),
            (&expected.into(), &"caller_hung_up".into()),
            "{record}"
        );
        assert_eq!(record["agent"]["turns"][1]["text"], "what are your opening hours", "{mediaenc}: {record}");
        assert_eq!(record["media"]["lost"], 0, "{record}");
        // It sends one RTCP packet in the clear.
        assert!(record["media"]["bad_tags"].as_u64().unwrap() <= 2, "{record}");
        server.stop();
    }
}
