//! Phones of one house: each hums a tone of its own.
#![allow(dead_code, unreachable_pub)]

use std::net::SocketAddr;

use crate::phone::Phone;

pub const ALICE: f64 = 437.5;
pub const BOB: f64 = 1_000.0;
pub const CAROL: f64 = 1_500.0;
pub const DAVE: f64 = 2_000.0;

/// What a server knows of them.
pub const DEVICES: &str = r#"
[[devices]]
user = "alice"
password = "a"

[[devices]]
user = "bob"
password = "b"

[[devices]]
user = "carol"
password = "c"

[[devices]]
user = "dave"
password = "d"
supervises = true
"#;

/// All of them, registered with the server at this address.
pub fn phones(at: SocketAddr) -> [Phone; 4] {
    [("alice", "a", ALICE), ("bob", "b", BOB), ("carol", "c", CAROL), ("dave", "d", DAVE)]
        .map(|(user, password, tone)| Phone::register(at, user, password, tone))
}

/// One calls the other, who answers: the call at each.
pub fn connect(caller: &mut Phone, callee: &mut Phone, name: &str) -> (sip::CallId, sip::CallId) {
    let call = caller.dial(name, &[]);
    let at_callee = callee.pick_up();
    caller.wait_answered(call);
    (call, at_callee)
}
