//! What the end-to-end tests share: a real `omnivox serve` on free ports, its records and metrics, and other
//! people's programs as child processes that end with the test.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The binary under test.
pub const OMNIVOX: &str = env!("CARGO_BIN_EXE_omnivox");
/// The binary under test, or another build of it that `OMNIVOX_TEST_PROGRAM` names (to measure by a test).
pub fn program() -> std::ffi::OsString {
    std::env::var_os("OMNIVOX_TEST_PROGRAM").unwrap_or_else(|| OMNIVOX.into())
}

/// Nothing in these tests takes longer than this unless something is broken.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A child process, ended (by its id) when the test ends.
pub struct Running {
    child: Child,
    stderr: Arc<Mutex<String>>,
    stdout: Arc<Mutex<String>>,
}

impl Running {
    /// Starts `command`, collecting what it prints.
    pub fn start(command: &mut Command) -> Self {
        let program = command.get_program().to_string_lossy().into_owned();
        command.process_group(0);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap_or_else(
                |fault| panic!("{program} cannot be started ({fault}): scripts/test installs what the tests need"),
            );
        let stderr = collect(child.stderr.take().unwrap());
        let stdout = collect(child.stdout.take().unwrap());
        Self { child, stderr, stdout }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote to stderr so far.
    pub fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    /// What it wrote to stdout so far.
    pub fn stdout(&self) -> String {
        self.stdout.lock().unwrap().clone()
    }

    /// Types a line to its standard input.
    pub fn type_line(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().unwrap();
        writeln!(stdin, "{line}").unwrap();
        stdin.flush().unwrap();
    }

    /// Sends a signal by its name, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.id().to_string()).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for its end.
    pub fn wait(&mut self, within: Duration) -> ExitStatus {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it did not end within {within:?}; stderr:\n{}", self.stderr());
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // With whatever it has started: Kamailio's workers do not end with their parent.
        let group = format!("-{}", self.child.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect(stream: impl Read + Send + 'static) -> Arc<Mutex<String>> {
    let text = Arc::new(Mutex::new(String::new()));
    let into = Arc::clone(&text);
    std::thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            into.lock().unwrap().push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    });
    text
}

/// Waits until `condition` gives something; `what` and `state` say in the failure what was waited for and how things stood.
pub fn wait_for<T>(
    what: &str,
    within: Duration,
    mut condition: impl FnMut() -> Option<T>,
    state: impl Fn() -> String,
) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {within:?} for {what}; now:\n{}", state());
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// A running `omnivox serve` with its own folder and ports.
pub struct Server {
    pub process: Running,
    pub folder: tempfile::TempDir,
    pub sip: SocketAddr,
    pub http: SocketAddr,
}

impl Server {
    /// Starts with `settings` as `--set`s besides its own.
    pub fn start(settings: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), settings)
    }

    /// The same with a folder that has something in it already (agents, say).
    pub fn start_in(folder: tempfile::TempDir, settings: &[&str]) -> Self {
        Self::start_by(Command::new(program()), folder, settings)
    }

    /// Starts with this configuration file, and `settings` besides.
    pub fn start_with(config: &str, folder: tempfile::TempDir, settings: &[&str]) -> Self {
        let path = folder.path().join("omnivox.toml");
        std::fs::write(&path, config).unwrap();
        let mut command = Command::new(OMNIVOX);
        command.env("OMNIVOX_CONFIG", path);
        Self::start_by(command, folder, settings)
    }

    /// The same by a command that ends in running omnivox with the arguments that follow.
    pub fn start_by(mut command: Command, folder: tempfile::TempDir, settings: &[&str]) -> Self {
        let port = free_port();
        command.current_dir(folder.path()).arg("serve");
        let ports = rtp_ports();
        let own = [
            format!("sip.listen=[\"udp:127.0.0.1:{port}\",\"tcp:127.0.0.1:{port}\"]"),
            "http.listen=127.0.0.1:0".to_owned(),
            format!("data.dir={}", folder.path().join("data").display()),
            "rtp.bind=127.0.0.1".to_owned(),
            format!("rtp.ports={ports}"),
        ];
        for set in own.iter().map(String::as_str).chain(settings.iter().copied()) {
            command.arg("--set").arg(set);
        }
        let process = Running::start(&mut command);
        let line = wait_for(
            "the ready line",
            PATIENCE,
            || process.stderr().lines().find(|line| line.starts_with("ready:")).map(str::to_owned),
            || process.stderr(),
        );
        let after = |word: &str| -> SocketAddr {
            line.split_whitespace()
                .find_map(|part| part.strip_prefix(word))
                .unwrap()
                .trim_end_matches(',')
                .parse()
                .unwrap()
        };
        let (sip, http) = (after("udp:"), after("http:"));
        Self { process, folder, sip, http }
    }

    /// The URI of one of its numbers.
    pub fn uri(&self, user: &str) -> String {
        format!("sip:{user}@{}", self.sip)
    }

    /// The call records written so far.
    pub fn records(&self) -> Vec<serde_json::Value> {
        let path = self.folder.path().join("data/calls.jsonl");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Waits for the `count`-th record.
    pub fn wait_for_records(&self, count: usize) -> Vec<serde_json::Value> {
        wait_for(
            &format!("{count} call records"),
            PATIENCE,
            || Some(self.records()).filter(|records| records.len() >= count),
            || format!("{:?}\n{}", self.records(), self.process.stderr()),
        )
    }

    /// GETs a path; status code and body.
    pub fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.http).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let code = text.split(' ').nth(1).unwrap().parse().unwrap();
        (code, text.split_once("\r\n\r\n").unwrap().1.to_owned())
    }

    /// Waits until everything (models, agents) is loaded.
    pub fn wait_until_ready(&self) {
        wait_for("readiness", PATIENCE, || (self.get("/readyz").0 == 200).then_some(()), || self.get("/readyz").1);
    }

    /// Stops it by SIGTERM; it must end cleanly.
    pub fn stop(self) -> String {
        self.process.signal("TERM");
        self.stop_signalled()
    }

    /// Waits for the clean end of a server that was told to stop already.
    pub fn stop_signalled(mut self) -> String {
        let status = self.process.wait(PATIENCE);
        assert!(status.success(), "serve ended with {status}:\n{}", self.process.stderr());
        self.process.stderr()
    }
}

/// A UDP and TCP port that is free now, and the TCP port behind it, which phones take for TLS; the seven behind it are nobody else's of these tests
/// (sipp takes four for sound). It is none of those that the system gives to whoever asks for any: such a one may be somebody's before it is used.
pub fn free_port() -> u16 {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    loop {
        let next = std::process::id().wrapping_add(NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        let port = 6_000 + (next % 1_000) as u16 * 8;
        let is_free = |port| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
        if std::net::UdpSocket::bind(("127.0.0.1", port)).is_ok() && is_free(port) && is_free(port + 1) {
            return port;
        }
    }
}

/// A range of RTP ports for one server: test binaries run one after another, their tests side by side.
pub fn rtp_ports() -> String {
    static NEXT: std::sync::atomic::AtomicU16 = std::sync::atomic::AtomicU16::new(0);
    let offset = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % 12;
    let first = 20_000 + offset * 1_000;
    format!("{first}-{}", first + 999)
}

/// Runs `omnivox` to its end.
pub fn omnivox(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(program()).current_dir(folder).args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// The text of an output, both streams, for failures.
pub fn told(output: &Output) -> String {
    format!("{}\n{}{}", output.status, String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Speech in a voice the agent does not have, as 16 kHz WAV.
pub fn speech(folder: &Path, voice: &str, text: &str) -> PathBuf {
    let path =
        folder.join(format!("{voice}-{}.wav", text.chars().filter(char::is_ascii_alphanumeric).collect::<String>()));
    let status = Command::new("flite").args(["-voice", voice, "-t", text, "-o"]).arg(&path).status();
    assert!(status.expect("flite is missing: scripts/test installs it").success());
    path
}
