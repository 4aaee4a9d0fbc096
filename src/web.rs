//! Calls of web pages without SIP: WHIP (RFC 9725) brings the offer and takes the answer, the call is like any other behind it.
//!
//! | part | does |
//! | --- | --- |
//! | [`legs`] | which web call is which leg, and what the call says to it |
//! | [`feed`] | what happens in a call, for its page (SSE) |
//! | [`whip`] | the HTTP resource |

pub mod feed;
pub mod legs;
pub mod whip;

pub use legs::WebLegs;
