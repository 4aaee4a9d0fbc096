//! Times of the workloads in `workloads/rtp.rs`: `cargo bench --bench rtp`.
#[path = "workloads/case.rs"]
mod case;
#[path = "workloads/rtp.rs"]
mod rtp;

fn main() {
    case::criterion(rtp::cases());
}
