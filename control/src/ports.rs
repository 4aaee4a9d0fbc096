//! Where the control plane meets calls: [`Calls`] is asked, [`Event`]s come back. Whoever runs calls implements the one and tells the other.

pub mod agents;
mod event;
pub mod settings;
pub mod spans;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use self::agents::Agents;
pub use self::event::{Data, Event, Person};
use self::settings::Settings;
use self::spans::Spans;

use crate::time::Moment;

/// Everybody that the control plane asks.
#[derive(Clone)]
pub struct Ports {
    /// Whoever runs calls.
    pub calls: Arc<dyn Calls>,
    /// Whoever runs voice agents.
    pub agents: Arc<dyn Agents>,
    /// Whoever calls are routed by.
    pub settings: Arc<dyn Settings>,
    /// Whoever is told what is done for calls.
    pub spans: Arc<dyn Spans>,
}

/// What the control plane may ask of whoever runs calls. Nothing here waits.
pub trait Calls: Send + Sync {
    /// The calls in progress, oldest first.
    fn list(&self) -> Vec<LiveCall>;

    /// One of them.
    fn find(&self, id: &str) -> Option<LiveCall>;

    /// Asks something of one.
    ///
    /// # Errors
    /// There is no such call, or it does not take it.
    fn command(&self, id: &str, command: CallCommand) -> Result<(), CallFault>;

    /// Begins a call; returns its id.
    ///
    /// # Errors
    /// Nobody is to be reached by that name.
    fn start(&self, order: StartCall) -> Result<String, CallFault>;

    /// Calls a device, which takes part in the call of this id once it answers; returns the id of the new call.
    ///
    /// # Errors
    /// The device is not to be reached.
    fn supervise(&self, device: &str, call: &str, how: Supervision) -> Result<String, CallFault>;

    /// Whether a device, an agent or another name of ours is called so: no number of somebody else's.
    fn is_inside(&self, name: &str) -> bool;

    /// Whether a phone's account of this very name is there, in the configuration files or in the database.
    fn has_device(&self, name: &str) -> bool;

    /// The devices that there are.
    fn devices(&self) -> Vec<String>;

    /// Numbers (E.164) that nobody of ours calls outside from here on, each until it says; for ever where it does not.
    fn bar(&self, numbers: Vec<(String, Option<Moment>)>);

    /// The queues that routes have.
    fn queues(&self) -> Vec<Queue>;

    /// The users of these devices say that they take no calls now, and no others: queues in which callers wait pass them over.
    fn set_away(&self, devices: Vec<String>);

    /// What is not ready to take calls; empty where all is.
    fn waiting_for(&self) -> Vec<String>;

    /// What fails though calls go on: `PART: WHY`.
    fn faults(&self) -> Vec<String>;

    /// A part of the control plane fails, and why; or, by `None`, does what it is for again.
    fn note_fault(&self, part: &str, fault: Option<&str>);

    /// What its signalling was, of a call in progress or one that ended lately; `None` where nothing is kept of it.
    fn trace(&self, id: &str) -> Option<Trace>;

    /// Begins a call whose caller is a web page; its answer comes once there is one.
    fn web_call(&self, order: WebCall) -> WebAnswering;

    /// Ends one; false where there is none of that name.
    fn end_web_call(&self, name: &str) -> bool;

    /// The STUN and TURN servers that a page may use.
    fn ice_servers(&self) -> Vec<IceServer>;

    /// Opens the sound of a recording: where it is, as its call's record has it.
    ///
    /// # Errors
    /// It is not there, or cannot be read.
    fn recording(&self, path: &str) -> std::io::Result<Recording>;

    /// Removes a recording: where it is, as its call's record has it.
    ///
    /// # Errors
    /// It is not there (`NotFound`), or cannot be removed.
    fn remove_recording(&self, path: &str) -> std::io::Result<()>;
}

/// A call's signalling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// As text, message by message between those who sent them.
    pub ladder: String,
    /// As a capture (pcap).
    pub capture: Vec<u8>,
}

/// A call whose caller is a web page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebCall {
    /// Who calls: a user's name.
    pub user: String,
    /// Where the page is.
    pub remote: SocketAddr,
    /// What it is connected with.
    pub to: WebTarget,
    /// Its offer (SDP), with all of its candidates.
    pub offer: String,
}

/// What a page is connected with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WebTarget {
    /// An agent, a conference (`room-NAME`), `echo`.
    Name(String),
    /// A call in progress, to supervise.
    Supervise(String, Supervision),
    /// The caller of a call in progress, in the place of whoever they speak with.
    TakeOver(String),
}

/// A page's call that was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebAnswer {
    /// Names it, to end it by.
    pub name: String,
    /// The answer (SDP).
    pub answer: String,
}

/// The answer to come.
pub type WebAnswering = Pin<Box<dyn Future<Output = Result<WebAnswer, CallFault>> + Send>>;

/// A STUN or TURN server, as browsers want it (`RTCIceServer`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IceServer {
    /// Its address.
    #[schema(example = "turn:turn.example:3478")]
    pub urls: String,
    /// Of a TURN server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Of a TURN server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
}

/// Sound to be sent.
#[derive(Debug)]
pub struct Recording {
    /// `audio/wav`, `audio/ogg`.
    pub media_type: &'static str,
    /// The file; of one that is sealed what was opened of it.
    pub file: std::fs::File,
}

/// A call in progress.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LiveCall {
    /// Its id, the same in every log line and in its record.
    pub call: String,
    /// `inbound` or `outbound`.
    pub direction: String,
    /// How far it has come.
    pub state: CallState,
    /// The caller's address.
    #[schema(example = "sip:+4930123456@carrier.example")]
    pub from: String,
    /// The address that was called.
    pub to: String,
    /// What answered: an agent's name, `echo`, `dial`.
    pub target: String,
    /// The agent that has the caller now; none while they are with somebody else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// When it began.
    pub started_at: Moment,
    /// When it was answered, if it is.
    pub answered_at: Option<Moment>,
    /// The devices that take part.
    pub devices: Vec<String>,
    /// The users who take part from a page of theirs, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub people: Vec<String>,
    /// Two are connected in it, so that the one may be held by the other.
    #[serde(default)]
    pub connected: bool,
    /// Who is at a carrier's end of it now, where that says within the call that it is somebody else than called or was called: a number, or
    /// `anonymous`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "+4930123456")]
    pub party: Option<String>,
    /// The queue that the caller waits in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<Box<Queued>>,
}

/// A caller's wait in a queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Queued {
    /// The queue.
    #[schema(example = "reception")]
    pub name: String,
    /// Since when.
    pub since: Moment,
    /// The devices that ring for them at the moment.
    pub ringing: Vec<String>,
}

/// A route that calls several devices, one after another or all at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// The route's name, or its devices' where it has none.
    pub name: String,
    /// The devices.
    pub members: Vec<String>,
}

/// How far a call has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CallState {
    /// It is not answered yet.
    Ringing,
    /// It is up.
    Up,
    /// It is being ended.
    Ending,
}

/// What may be asked of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallCommand {
    /// End it.
    HangUp,
    /// Connect the caller with somebody instead of whoever they speak with.
    Transfer(Transfer),
    /// The caller waits with music, or comes back.
    Hold(bool),
    /// The recording goes on, or pauses.
    Record(bool),
    /// What the peer of this leg says is heard by nobody else in the call, or is again.
    Mute(u16, bool),
    /// Press these keys towards the peer of this leg.
    Press(u16, String),
    /// The agent says this, whatever it was about to say.
    Say(String),
    /// The agent knows this from its next answer on; the caller does not hear it.
    Note(String),
}

/// Whom a caller is to be connected with, and how.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Transfer {
    /// A device's name, a number, an address, or a place.
    pub to: String,
    /// How.
    pub kind: TransferKind,
    /// What the person hears first, of a warm transfer.
    pub summary: String,
    /// Whether the person has to take the call by a key.
    pub accept: bool,
    /// The device on whose behalf, so that it reaches whom the device may call; `None`: whom agents reach.
    pub on_behalf: Option<String>,
}

/// How a call is passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TransferKind {
    /// Whoever answers speaks with the caller at once.
    #[default]
    Blind,
    /// Whoever answers hears first who is put through, and may have to take the call; the caller hears music meanwhile, and is heard by
    /// nobody.
    Warm,
}

/// A call to be begun.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StartCall {
    /// Who is called: a device's name, a number, an address.
    #[schema(example = "+4930123456")]
    pub to: String,
    /// The device whose phone rings first, and calls `to` once it is answered; one's own where neither this nor `connect_with` is there.
    #[serde(default)]
    #[schema(example = "alice")]
    pub from: Option<String>,
    /// Without a phone first: what `to` is connected with once they answer, an agent's name, a conference (`room-NAME`), whoever waits in a slot
    /// (`park-SLOT`), a call that rings at a device (`pickup-DEVICE`) or `echo`.
    #[serde(default)]
    #[schema(example = "room-standup")]
    pub connect_with: Option<String>,
    /// The trace that the call is to go on with (`traceparent`, W3C Trace Context): by a header.
    #[serde(skip)]
    pub traceparent: Option<String>,
}

/// How a supervisor takes part in a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Supervision {
    /// Hears everybody and is heard by nobody.
    Listen,
    /// Is heard by the operator alone.
    Whisper,
    /// Is heard by everybody.
    Join,
}

/// Why something asked of a call was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallFault {
    /// It is over, or never was.
    #[error("there is no such call in progress")]
    Gone,
    /// It does not take more at the moment.
    #[error("the call is not keeping up: try again")]
    Busy,
    /// There are as many calls as there may be.
    #[error("as many calls go on as `calls.max` allows: try again")]
    Full,
    /// Nobody is to be reached by that name.
    #[error("{0}")]
    Unreachable(String),
    /// It is not a call for that.
    #[error("{0}")]
    Unfit(String),
    /// What was named is not there.
    #[error("{field}: {why}")]
    Field {
        /// Which field.
        field: &'static str,
        /// What is wrong with it.
        why: String,
    },
}
