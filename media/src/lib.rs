//! RTP, RTCP, DTMF, jitter buffers, legs, recorder, and the worker threads that run them.
//!
//! [`Media`] starts the workers; [`Media::reserve`] binds a port for SDP to name; [`Media::open`] makes a leg on it and returns
//! the [`LegPort`] through which one task hears and speaks.
//!
//! Everything but [`io`] is a state machine that reads no clock, no entropy and no socket. A worker thread never locks,
//! allocates, logs or awaits once a leg is set up; it meets the async side through bounded rings and atomics alone.

#[doc(hidden)]
pub mod bench;
pub mod config;
pub mod connect;
pub mod dtmf;
pub mod error;
#[doc(hidden)]
pub mod fuzz;
pub mod io;
pub mod jitter;
pub mod latch;
pub mod leg;
pub mod port;
pub mod quality;
pub mod recorder;
pub mod room;
pub mod rtcp;
pub mod rtp;
pub mod sealed;
pub mod srtp;
pub mod stats;
pub mod tones;

pub use codecs::registry::{
    COMFORT_NOISE, COMFORT_NOISE_PAYLOAD_TYPE, TELEPHONE_EVENT, TELEPHONE_EVENT_FMTP, TELEPHONE_EVENT_PAYLOAD_TYPE,
};
pub use config::{
    Direction, DtmfFormat, LegConfig, LegMode, LevelFormat, MediaConfig, Recorded, RecorderConfig, Security,
};
pub use error::MediaError;
pub use io::record::Recording;
pub use io::{Media, ReservedPort, Room, WorkerId, WorkerStats};
pub use latch::LatchPolicy;
pub use port::{EarFrame, Gauge, LegEvent, LegPort};
pub use recorder::{RecordFormat, Side};
pub use room::{MAX_MEMBERS, Members};
pub use stats::LegStats;
