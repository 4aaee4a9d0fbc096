//! coturn on loopback, as a test wants it.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);
pub const USER: &str = "omnivox";
pub const PASSWORD: &str = "a-turn-secret";

pub struct TurnServer {
    process: Child,
    log: PathBuf,
    pub addr: SocketAddr,
    /// Where it takes TLS.
    pub tls: SocketAddr,
}

impl TurnServer {
    /// With these arguments besides; with TLS where `certificate` (certificate and key in one PEM file) is given.
    pub fn start(folder: &Path, certificate: Option<&Path>, more: &[&str]) -> TurnServer {
        let (port, tls) = (free_port(), free_port());
        let log = folder.join(format!("turn-{port}.log"));
        let mut command = Command::new("turnserver");
        command.args(["-n", "--no-cli", "--lt-cred-mech", "--realm=test.invalid", "--allow-loopback-peers"]);
        command.args([
            "--listening-ip=127.0.0.1",
            "--relay-ip=127.0.0.1",
            "--no-dtls",
            "--fingerprint",
            "--simple-log",
            "--verbose",
        ]);
        command.args(more);
        command.arg(format!("--user={USER}:{PASSWORD}"));
        command.arg(format!("--listening-port={port}")).arg(format!("--tls-listening-port={tls}"));
        command
            .arg(format!("--log-file={}", log.display()))
            .arg(format!("--userdb={}", folder.join("turn.db").display()));
        command.arg(format!("--pidfile={}", folder.join(format!("turn-{port}.pid")).display()));
        match certificate {
            Some(pem) => command.arg(format!("--cert={}", pem.display())).arg(format!("--pkey={}", pem.display())),
            None => command.arg("--no-tls"),
        };
        let quiet = command.stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null());
        let process = quiet.spawn().expect("turnserver (Debian's coturn) is installed by scripts/test");
        let addr = SocketAddr::from(([127, 0, 0, 1], port));
        let server = TurnServer { process, log, addr, tls: SocketAddr::from(([127, 0, 0, 1], tls)) };
        server.wait_until_it_answers();
        server
    }

    fn wait_until_it_answers(&self) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let question = [0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            let _ = socket.send_to(&question, self.addr);
            if socket.recv_from(&mut [0; 500]).is_ok() {
                return;
            }
        }
        panic!("coturn does not answer: {}", self.log());
    }

    /// What it has to say.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until it has said this so many times.
    pub fn wait_for(&self, what: &str, times: usize) {
        let start = Instant::now();
        while self.log().matches(what).count() < times {
            assert!(start.elapsed() < PATIENCE, "no {what:?} in {}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for TurnServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn free_port() -> u16 {
    loop {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        if UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
