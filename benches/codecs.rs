//! Times of the workloads in `workloads/codecs.rs`: `cargo bench --bench codecs`.
#[path = "workloads/case.rs"]
mod case;
#[path = "workloads/codecs.rs"]
mod codecs;

fn main() {
    case::criterion(codecs::cases());
}
