//! Times of the workloads in `workloads/sip.rs`: `cargo bench --bench sip`.
#[path = "workloads/case.rs"]
mod case;
#[path = "workloads/sip.rs"]
mod sip;

fn main() {
    case::criterion(sip::cases());
}
