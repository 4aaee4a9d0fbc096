//! Processor time and memory of a process, from `/proc`.

use serde::Serialize;

/// Ticks a second of `/proc`'s times, as every Linux has them.
const TICKS_PER_S: f64 = 100.0;
const PAGE_BYTES: f64 = 4_096.0;

/// What a process used.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Usage {
    /// Processor time, in seconds.
    pub cpu_s: f64,
    /// Resident memory at the beginning, in MiB.
    pub before_mib: f64,
    /// And at the end.
    pub after_mib: f64,
}

/// A process under watch.
#[derive(Debug)]
pub(super) struct Watched {
    pid: u32,
    begun: Option<(f64, f64)>,
}

impl Watched {
    pub(super) fn of(pid: u32) -> Self {
        Self { pid, begun: read(pid) }
    }

    /// Whether there is such a process.
    pub(super) fn is_there(&self) -> bool {
        self.begun.is_some()
    }

    /// What it used since.
    pub(super) fn since(&mut self) -> Option<Usage> {
        let ((cpu_before, before_mib), (cpu_now, after_mib)) = (self.begun?, read(self.pid)?);
        Some(Usage { cpu_s: cpu_now - cpu_before, before_mib, after_mib })
    }
}

/// Processor seconds and resident MiB.
fn read(pid: u32) -> Option<(f64, f64)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
    let cpu_s = (ticks(11)? + ticks(12)?) / TICKS_PER_S;
    Some((cpu_s, ticks(21)? * PAGE_BYTES / 1_048_576.0))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_something() {
        let usage = Watched::of(std::process::id()).since().unwrap();
        assert!(usage.cpu_s >= 0.0 && usage.after_mib > 1.0, "{usage:?}");
        assert!(Watched::of(std::process::id()).is_there());
        assert!(!Watched::of(u32::MAX).is_there());
        assert!(Watched::of(u32::MAX).since().is_none());
    }
}
