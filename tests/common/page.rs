//! Pages of a server in Chromium, and requests to it by hand.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::common::{PATIENCE, Running, Server};

/// An answer of the server's: status, headers in lower case, body.
pub struct Answer {
    pub code: u16,
    pub head: String,
    pub body: String,
}

/// Sends one request.
pub fn ask(server: &Server, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut stream = TcpStream::connect(server.http).unwrap();
    let mut text = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    if headers.iter().all(|(name, _)| *name != "Host") {
        text.push_str(&format!("Host: {}\r\n", server.http));
    }
    headers.iter().for_each(|(name, value)| text.push_str(&format!("{name}: {value}\r\n")));
    write!(stream, "{text}Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let code = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { code, head: head.to_lowercase(), body: body.to_owned() }
}

/// Chromium does these steps on a page; what the steps found.
pub fn drive(server: &Server, page: &str, microphone: Option<&Path>, steps: &Value) -> (Vec<Value>, String) {
    let folder = server.folder.path();
    let browser = std::env::var("OMNIVOX_TEST_BROWSER").expect("scripts/test says where Puppeteer is");
    let job = json!({
        "url": format!("http://{}{page}", server.http),
        "profile": folder.join("profile"),
        "microphone": microphone,
        "steps": steps,
    });
    let path = folder.join("job.json");
    std::fs::write(&path, job.to_string()).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/drive.mjs");
    let mut node = Running::start(Command::new("node").arg(script).arg(path).env("OMNIVOX_TEST_BROWSER", browser));
    let status = node.wait(PATIENCE * 2);
    assert!(status.success(), "{}\n{}\n{}", node.stdout(), node.stderr(), server.process.stderr());
    let found = node.stdout().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (found, node.stderr())
}
