//! Times of the workloads in `workloads/ring.rs`: `cargo bench --bench ring`.
#[path = "workloads/case.rs"]
mod case;
#[path = "workloads/ring.rs"]
mod ring;

fn main() {
    case::criterion(ring::cases());
}
