//! Omnivox answers and places phone calls and talks with people.
//!
//! This package joins the five parts (see ARCHITECTURE.md): configuration, start and stop, and the call. [`Server`] is
//! the way in for programs that embed it, [`softphone`] for those that place calls.

pub mod agents;
pub mod call;
pub mod check;
pub mod config;
mod dispatch;
pub mod http;
pub mod hub;
pub mod models;
pub mod readiness;
pub mod report;
pub mod routing;
pub mod say;
pub mod serve;
pub mod server;
pub mod softphone;
pub mod talk;
pub mod telemetry;
pub mod trace;
pub mod wav;

pub use codecs::SampleRate;
pub use config::Config;
pub use server::{Server, ServerBuilder};
