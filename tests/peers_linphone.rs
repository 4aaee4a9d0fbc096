//! linphone's console client dials in, is understood, and the call ends cleanly whoever hangs up.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/caller.rs"]
mod caller;
mod common;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use common::{PATIENCE, Running, Server, free_port, omnivox, told, wait_for};

/// How long linphonec's own end may take.
const QUIT_WITHIN: Duration = Duration::from_secs(30);

/// Starts linphonec in a folder of its own; it calls the agent with `wav` for a microphone.
fn dial(folder: &Path, wav: &Path, server: &Server) -> Running {
    dial_with(folder, wav, server, "", "")
}

/// The same with more in the `[sip]` and `[net]` sections of its configuration.
fn dial_with(folder: &Path, wav: &Path, server: &Server, more_sip: &str, more_net: &str) -> Running {
    let (sip, rtp) = (free_port(), free_port());
    let config = format!(
        "[sip]\nsip_port={sip}\nsip_tcp_port=0\nsip_tls_port=0\nbind_address=127.0.0.1\nuse_ipv6=0\nguess_hostname=0\n\
         contact=sip:linphone@127.0.0.1:{sip}\n{more_sip}\
         [rtp]\naudio_rtp_port={rtp}\nbind_address=127.0.0.1\n[net]\nmtu=1300\n{more_net}\
         [video]\nautomatically_initiate=0\nautomatically_accept=0\n"
    );
    let path = folder.join("linphonerc");
    std::fs::write(&path, config).unwrap();
    std::fs::create_dir_all(folder.join(".local/share/linphone")).unwrap();
    let mut linphone = Running::start(
        Command::new("linphonec").arg("-c").arg(&path).args(["-d", "0"]).env("HOME", folder).current_dir(folder),
    );
    // It takes commands before it has a socket, and then fails to call.
    wait_for("linphonec's SIP port", PATIENCE, || is_bound(sip).then_some(()), || printed(&linphone));
    linphone.type_line("soundcard use files");
    linphone.type_line(&format!("play {}", wav.display()));
    linphone.type_line(&format!("call {}", server.uri("agent")));
    linphone
}

/// Whether a UDP socket on 127.0.0.1 has this port.
fn is_bound(port: u16) -> bool {
    let entry = format!(" 0100007F:{port:04X} ");
    std::fs::read_to_string("/proc/net/udp").unwrap().contains(&entry)
}

fn printed(linphone: &Running) -> String {
    linphone.stdout() + &linphone.stderr()
}

/// Waits until linphonec sees the call as over, and ends it.
fn wait_for_its_end(mut linphone: Running) {
    wait_for(
        "linphonec to see the end",
        PATIENCE,
        || printed(&linphone).contains("ended (").then_some(()),
        || printed(&linphone),
    );
    assert!(linphone.is_running(), "{}", printed(&linphone));
    linphone.type_line("quit");
    let status = linphone.wait(QUIT_WITHIN);
    assert!(status.success(), "{status}\n{}", printed(&linphone));
}

#[test]
fn linphone_is_understood_and_hangs_up() {
    let server = Server::start(&[]);
    server.wait_until_ready();
    let folder = tempfile::tempdir().unwrap();
    let wav = caller::wav(folder.path(), "question", 16_000, &[(5.0, "What are your opening hours?")], 60.0);
    let mut linphone = dial(folder.path(), &wav, &server);
    wait_for(
        "the caller's turn",
        PATIENCE,
        || server.get("/metrics").1.contains("omnivox_turns_total{who=\"caller\"} 1").then_some(()),
        || printed(&linphone),
    );
    linphone.type_line("terminate");
    let record = server.wait_for_records(1).remove(0);
    wait_for_its_end(linphone);
    assert_eq!(record["end"]["class"], "ok", "{record}");
    assert_eq!(record["end"]["reason"], "caller_hung_up", "{record}");
    assert_eq!(record["codec"], "opus", "{record}");
    let turn = &record["agent"]["turns"][1];
    assert_eq!(turn["who"], "caller", "{record}");
    assert_eq!(turn["text"], "what are your opening hours", "{record}");
    assert_eq!(turn["matched"], "menu/0", "{record}");
    server.stop();
}

#[test]
fn linphone_says_goodbye_and_sees_the_agent_hang_up() {
    let server = Server::start(&["rtp.codecs=[\"PCMA\"]"]);
    server.wait_until_ready();
    let folder = tempfile::tempdir().unwrap();
    let says = [(5.0, "What are your opening hours?"), (18.0, "No thank you. Goodbye.")];
    let wav = caller::wav(folder.path(), "goodbye", 8_000, &says, 60.0);
    let linphone = dial(folder.path(), &wav, &server);
    let record = server.wait_for_records(1).remove(0);
    wait_for_its_end(linphone);
    assert_eq!(record["end"]["class"], "ok", "{record}");
    assert_eq!(record["end"]["reason"], "agent_hung_up", "{record}");
    assert_eq!(record["codec"], "PCMA", "{record}");
    let turns = record["agent"]["turns"].as_array().unwrap();
    let said: Vec<&str> =
        turns.iter().filter(|turn| turn["who"] == "caller").map(|turn| turn["text"].as_str().unwrap()).collect();
    assert_eq!(said, ["what are your opening hours", "no thank you goodbye"], "{record}");
    assert_eq!(turns.last().unwrap()["text"], "Thank you for calling. Goodbye.", "{record}");
    server.stop();
}

/// Conforms: RFC 4568 — linphone is understood with its sound protected by keys in the description and by a handshake.
#[test]
fn linphone_is_understood_under_srtp_by_each_of_its_ways() {
    for (encryption, expected) in [("srtp", "sdes"), ("dtls", "dtls")] {
        let server = Server::start(&["rtp.srtp=required"]);
        server.wait_until_ready();
        let folder = tempfile::tempdir().unwrap();
        let wav = caller::wav(folder.path(), "question", 16_000, &[(5.0, "What are your opening hours?")], 60.0);
        let more = format!("media_encryption={encryption}\nmedia_encryption_mandatory=1\n");
        let mut linphone = dial_with(folder.path(), &wav, &server, &more, "");
        wait_for(
            "the caller's turn",
            PATIENCE,
            || server.get("/metrics").1.contains("omnivox_turns_total{who=\"caller\"} 1").then_some(()),
            || format!("{encryption}\n{}\n{}", printed(&linphone), server.process.stderr()),
        );
        linphone.type_line("terminate");
        let record = server.wait_for_records(1).remove(0);
        wait_for_its_end(linphone);
        assert_eq!(
            (&record["srtp"], &record["end"]["reason"]),
            (&expected.into(), &"caller_hung_up".into()),
            "{record}"
        );
        assert_eq!(record["agent"]["turns"][1]["text"], "what are your opening hours", "{encryption}: {record}");
        server.stop();
    }
}

const DEVICES: &str =
    "[[devices]]\nuser = \"carol\"\npassword = \"c-secret\"\n[[devices]]\nuser = \"bob\"\npassword = \"b-secret\"\n";

#[test]
fn linphone_registers_and_is_called() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_with(DEVICES, folder, &[]);
    let home = tempfile::tempdir().unwrap();
    let wav = caller::wav(home.path(), "said", 16_000, &[(0.5, "Hello, this is a phone.")], 30.0);
    let (sip, rtp, at) = (free_port(), free_port(), server.sip);
    let config = format!(
        "[sip]\nsip_port={sip}\nsip_tcp_port=0\nsip_tls_port=0\nbind_address=127.0.0.1\nuse_ipv6=0\nguess_hostname=0\n\
         contact=sip:carol@127.0.0.1:{sip}\ndefault_proxy=0\n[rtp]\naudio_rtp_port={rtp}\nbind_address=127.0.0.1\n[net]\nmtu=1300\n\
         [video]\nautomatically_initiate=0\nautomatically_accept=0\n\
         [proxy_0]\nreg_proxy=<sip:{at}>\nreg_identity=<sip:carol@{at}>\nreg_expires=120\nreg_sendregister=1\n\
         [auth_info_0]\nusername=carol\npasswd=c-secret\nrealm=omnivox\ndomain={at}\n"
    );
    let path = home.path().join("linphonerc");
    std::fs::write(&path, config).unwrap();
    std::fs::create_dir_all(home.path().join(".local/share/linphone")).unwrap();
    let mut linphone = Running::start(
        Command::new("linphonec").arg("-a").arg("-c").arg(&path).args(["-d", "0"]).env("HOME", home.path()),
    );
    wait_for("linphonec's SIP port", PATIENCE, || is_bound(sip).then_some(()), || printed(&linphone));
    linphone.type_line("soundcard use files");
    linphone.type_line(&format!("play {}", wav.display()));
    let kept = server.folder.path().join("data/registrations.json");
    wait_for(
        "linphone's registration",
        PATIENCE,
        || std::fs::read_to_string(&kept).ok().filter(|text| text.contains("carol")),
        || printed(&linphone) + &server.process.stderr(),
    );
    let uri = server.uri("carol");
    let call = [
        "call",
        &uri,
        "--from",
        "bob",
        "--password",
        "b-secret",
        "--listen",
        "127.0.0.1:0",
        "--duration",
        "2",
        "--json",
    ];
    let call = omnivox(server.folder.path(), &call);
    assert!(call.status.success(), "{}\n{}", told(&call), printed(&linphone));
    let record = server.wait_for_records(1).remove(0);
    assert_eq!(record["legs"][0]["label"], "device carol/1", "{record}");
    assert_eq!(record["end"]["class"], "ok", "{record}");
    assert!(record["legs"][0]["media"]["packets_in"].as_u64().unwrap() > 0, "{record}");
    wait_for_its_end(linphone);
    server.stop();
}
