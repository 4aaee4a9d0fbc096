//! Routing, pure: who called what from where, and when, goes to whom; how numbers and identities are written on the way.
//! Nothing here reads a clock or a socket: the time is an argument.

pub mod numbers;
