//! SIP and SDP for a voice server: a zero-copy wire parser with named limits, typed header views, message building,
//! stream framing, SDP with offer/answer and digest authentication, and on top of these the transactions, dialogs and
//! transports.
//!
//! Invariants:
//! - What a peer sends never panics and never makes anything grow past a named limit ([`parse::Limits`]).
//! - Nothing outside `io` reads a clock, a socket or entropy: time and seeds are arguments.
//! - A [`Message`] is immutable bytes with an index; what is sent is built once by [`build::Builder`].

pub mod address;
pub mod auth;
pub mod build;
pub mod dialog;
pub mod diversion;
pub mod endpoint;
pub mod event;
#[doc(hidden)]
pub mod fuzz;
pub mod guard;
pub mod headers;
pub mod io;
pub mod message;
pub mod method;
pub mod multipart;
pub mod negotiate;
pub mod parse;
pub mod registrar;
pub mod sdp;
pub mod stream;
pub mod stun;
pub mod timer;
pub mod trace;
pub mod transaction;
pub mod uri;

pub use build::Builder;
pub use endpoint::{
    CallId, EndCause, Endpoint, EndpointConfig, EndpointLimits, Event, OutgoingCall, OutgoingRequest, RequestId,
    Source, Transport,
};
pub use headers::{CSeq, HeaderError, Name, NameAddr, Params, Via};
pub use io::{BindError, EventReceiver, Listen, SipHandle, SipStack, StackConfig};
pub use message::{Message, StartLine};
pub use method::Method;
pub use parse::{Limits, ParseError, ParseErrorKind};
pub use uri::{Scheme, Uri, UriError};
