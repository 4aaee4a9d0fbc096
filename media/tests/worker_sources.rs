//! What runs on a worker's thread names no lock, log or await.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

/// What runs on a worker's thread, and the parts of it that others wrote for it.
const ROUND: [&str; 12] = [
    "io/worker.rs",
    "io/wheel.rs",
    "leg.rs",
    "leg",
    "jitter.rs",
    "jitter",
    "latch.rs",
    "latch",
    "dtmf.rs",
    "dtmf",
    "rtp.rs",
    "rtcp/session.rs",
];

#[test]
fn the_code_of_a_round_names_no_lock_log_or_await() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    for name in ROUND {
        let path = source.join(name);
        if path.is_dir() {
            files.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            files.push(path);
        }
    }
    files.retain(|path| path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("leg/tests.rs"));
    assert!(files.len() >= 15, "{files:?}");
    let banned = [
        "Mutex",
        "RwLock",
        "Condvar",
        "OnceLock",
        "LazyLock",
        ".lock()",
        "mpsc",
        "park",
        ".await",
        "async fn",
        "println!",
        "eprintln!",
        "dbg!",
        "tracing",
        "log::",
        "thread::yield",
        "RefCell",
    ];
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        for (number, line) in code.lines().enumerate() {
            let line = line.split("//").next().unwrap();
            let found = banned.iter().find(|word| line.contains(**word));
            assert!(found.is_none(), "{}:{}: {found:?}", path.display(), number + 1);
        }
    }
}

#[test]
fn a_worker_touches_nothing_of_the_async_side_but_wakes_counters_and_flags() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/io/worker.rs");
    let text = std::fs::read_to_string(path).unwrap();
    for (number, line) in text.lines().enumerate() {
        for rest in line.split("link.").skip(1) {
            // The last two read a flag, and clear one with the wake that it stands for.
            let fields = ["command_fd", "event_fd", "counters", "has_backlog()", "looks()"];
            let allowed = fields.iter().any(|field| rest.starts_with(field));
            assert!(allowed, "src/io/worker.rs:{}: {line}", number + 1);
        }
    }
}
