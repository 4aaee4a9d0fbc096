//! The dashboard in Chromium, as somebody walks through it who sees it for the first time: set-up, an agent made and called, a call watched
//! while another waits in a queue, taken over and ended, its record found and played, what an agent did and what that cost, the caller erased. Each page is looked at by axe, dark and light, wide and on a
//! phone. `OMNIVOX_SHOTS=docs/images` leaves pictures of them.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/caller.rs"]
mod caller;
mod common;
#[path = "common/phone.rs"]
mod phone;

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

use common::{OMNIVOX, PATIENCE, Running, Server, wait_for};
use phone::Phone;
use serde_json::{Value, json};

/// The walk. After its end there is nothing to be looked at any more.
const WALK: [&str; 13] = [
    "first login",
    "an agent is made",
    "it is called from the page",
    "a call is watched",
    "it is taken over",
    "it is hung up",
    "its record is found and played",
    "what its agent did and what it cost",
    "everywhere by keyboard",
    "the reference",
    "devices, trunks, routes and numbers are added, changed and removed",
    "every other page",
    "the person is erased",
];

/// Calls cost something, and a queue has somebody who does not pick up.
const CONFIG: &str = r#"
[prices]
currency = "EUR"
[[prices.recognizers]]
name = "sphinx"
minute = "0.6"
[[prices.voices]]
name = "flite"
thousand_characters = "0.1"

[[devices]]
user = "bob"
password = "b"

[[routes]]
name = "reception"
from = ["anyone"]
called = "reception"
to = "queue bob"
ring_s = 60
"#;

#[test]
fn somebody_who_sees_it_for_the_first_time_gets_all_the_way_and_axe_finds_nothing_serious() {
    let server = Server::start_with(CONFIG, tempfile::tempdir().unwrap(), &[]);
    server.wait_until_ready();
    assert!(server.get("/").1.contains("id=\"app\""), "run scripts/dashboard, then build again: {}", server.get("/").1);
    let (told, code) = walk(&server, &WALK);
    assert!(code, "{told}\n{}", server.process.stderr());
    let found: Vec<(String, Value)> = told.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let done: Vec<&str> =
        found.iter().filter(|(what, _)| what == "done").filter_map(|(_, name)| name.as_str()).collect();
    assert_eq!(done, WALK);
    let looks: Vec<&Value> = found.iter().filter(|(what, _)| what == "look").map(|(_, value)| value).collect();
    assert!(looks.len() >= 50, "{} looks", looks.len());
    let bad: Vec<_> = looks.iter().filter(|look| look["faults"] != json!([]) || look["wider"] != json!(0)).collect();
    assert!(bad.is_empty(), "{bad:#?}");
    let found: HashMap<&str, &Value> = found.iter().map(|(what, value)| (what.as_str(), value)).collect();
    assert_eq!(found.get("pageerror"), None);
    assert!(text(&found, "logged in").contains("Ada Lovelace"));
    assert_eq!(found["ways in"], &json!(["Log in"]));
    assert!(text(&found, "fault").contains("nowhere"));
    assert!(text(&found, "watched").contains("yes please"));
    assert!(text(&found, "queue").contains("reception 1"), "{}", found["queue"]);
    let tools = &found["tools"];
    assert_eq!(tools.as_array().unwrap().len(), 1, "{tools}");
    assert!(text(&found, "tools").contains("hang_up by the script: done"), "{tools}");
    assert!(text(&found, "tools heard").contains("Tool hang_up by the script: done"), "{}", found["tools heard"]);
    let cost = text(&found, "cost");
    assert!(
        cost.contains("Recogniser sphinx") && cost.contains("of sound") && cost.contains("All that is priced €"),
        "{cost}"
    );
    assert_eq!(found["a transfer to nobody is refused"], &json!(true));
    assert_eq!(found["may be held"], &json!(false));
    assert!(text(&found, "records").contains("helper"), "{}", found["records"]);
    assert!(text(&found, "in step").contains("Agent"), "{}", found["in step"]);
    assert_eq!(*found["by key"], json!("0"));
    assert_eq!((found["reference before"], found["reference after"]), (&json!(0), &json!(1)));
    assert!(text(&found, "reference").contains("Idempotency-Key"), "{}", found["reference"]);
    assert_eq!(*found["reference outside"], json!("listRecords"));
    assert!(text(&found, "route on a phone").contains("queue bob"), "{}", found["route on a phone"]);
    assert_eq!(found["route of the file"], &json!("queue bob"));
    assert_eq!(found["wrong at"], &json!(["Password"]));
    for (one, name, says, value) in [
        ("device", "carol", "Carol", "Carol Jones"),
        ("trunk", "carrier", "192.0.2.0/24, 198.51.100.7/32", "+4930123"),
        ("number", "+4930123", "user carol", "The front desk"),
        ("route", "office", "user carol", "mon-fri"),
    ] {
        let of = |what: &str| found.get(format!("{one} {what}").as_str()).copied().unwrap_or(&Value::Null);
        assert!(of("added").as_str().is_some_and(|row| row.contains(says)), "{one}: {}", of("added"));
        assert_eq!(of("keeps its name"), &json!([true, name]));
        assert_eq!((of("changed"), of("removed")), (&json!(value), &json!(true)), "{one}");
    }
    assert_eq!(found["wrong phone"], &json!(["From the phone of"]));
    assert!(text(&found, "refused").contains("None was refused."), "{}", found["refused"]);
    assert_eq!(found["nowhere"], &json!(404));
    assert_eq!((found["first stop"], found["skips to"]), (&json!("Skip to content"), &json!("main")));
    assert_eq!(
        (found["theme"], found["theme stays"], found["menu closes"]),
        (&json!("dark"), &json!("dark"), &json!(true))
    );
    server.stop();
}

/// What was found of a thing, as text.
fn text(found: &HashMap<&str, &Value>, what: &str) -> String {
    found.get(what).map(ToString::to_string).unwrap_or_default()
}

/// Does these steps; what the walker told, and whether it came to its end.
fn walk(server: &Server, steps: &[&str]) -> (String, bool) {
    let folder = server.folder.path();
    let mut bob = Phone::register(server.sip, "bob", "b", 1_000.0);
    let code = wait_for(
        "the first administrator's code",
        PATIENCE,
        || server.process.stderr().split("with the code ").nth(1)?.split_whitespace().next().map(str::to_owned),
        || server.process.stderr(),
    );
    let browser = std::env::var("OMNIVOX_TEST_BROWSER").expect("scripts/test says where Puppeteer is");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let shots = std::env::var_os("OMNIVOX_SHOTS").map(|folder| root.join(folder));
    // The caller answers the agent once, and goes on to speak for whoever takes over.
    let said: Vec<(f64, &str)> = [6.0, 18.0, 22.0, 26.0, 30.0, 34.0].map(|at| (at, "Yes please.")).to_vec();
    let job = json!({
        "url": format!("http://{}", server.http),
        "code": code,
        "profile": folder.join("profile"),
        "omnivox": OMNIVOX,
        "sip": server.sip.to_string(),
        "sound": caller::wav(folder, "caller", 16_000, &said, 60.0),
        "refusal": caller::wav(folder, "refusal", 16_000, &[(6.0, "No thank you.")], 60.0),
        "microphone": caller::wav(folder, "microphone", 16_000, &[(7.0, "Yes please.")], 60.0),
        "shots": shots,
        "failure": std::env::temp_dir().join("omnivox-dashboard-failure.png"),
        "steps": steps,
    });
    let path = folder.join("job.json");
    std::fs::write(&path, job.to_string()).unwrap();
    let script = root.join("tests/browser/dashboard.mjs");
    let mut node = Running::start(Command::new("node").arg(script).arg(path).env("OMNIVOX_TEST_BROWSER", browser));
    let says = || node.stderr();
    let comes_to_it = || says().contains("step a call is watched").then_some(());
    wait_for("the step at which bob's phone rings", PATIENCE * 3, comes_to_it, says);
    bob.rings();
    let status = node.wait(PATIENCE * 6);
    (format!("{}\n{}", node.stdout(), node.stderr()), status.success())
}
