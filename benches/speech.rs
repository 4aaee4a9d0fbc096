//! Times of the workloads in `workloads/speech.rs`: `cargo bench --bench speech`.
#[path = "workloads/case.rs"]
mod case;
#[path = "workloads/speech.rs"]
mod speech;

fn main() {
    case::criterion(speech::cases());
}
