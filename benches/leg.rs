//! Times of 20 ms of a leg's life without sockets: `cargo bench --bench leg`.

#[path = "workloads/case.rs"]
mod case;
#[path = "workloads/leg.rs"]
mod leg;

fn main() {
    case::criterion(leg::cases());
}
