//! Times of the workloads in `workloads/jitter.rs`: `cargo bench --bench jitter`.
#[path = "workloads/case.rs"]
mod case;
#[path = "workloads/jitter.rs"]
mod jitter;
#[allow(dead_code)] // its packets are used
#[path = "workloads/rtp.rs"]
mod rtp;

fn main() {
    case::criterion(jitter::cases());
}
