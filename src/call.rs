//! One call, as data. A *call* holds *legs*, numbered from 0; each phase of a call is a pure reducer (state and input
//! in, next state and actions out), and [`driver`] performs the actions and decides nothing.
//!
//! ```text
//! INVITE ─► admit ─► Ringing ─► Answering ─► Talking ─► Ending ─► Over(End)
//!                └─► Dialing ─► Bridged ──────────────────┘
//! ```
//!
//! | phase | reducer |
//! | --- | --- |
//! | `Ringing`, `Answering` | [`inbound`] |
//! | `Dialing` | [`dialing`], over a [`fork`] |
//! | `Talking` | [`talking`] |
//! | `Transferring` | [`transfer`], over a [`fork`] |
//! | `Bridged` | [`bridge`] |
//! | `Referring` | [`referral`], over a [`fork`] |
//! | `Entering` | [`entering`] |
//! | `Conference` | [`conference`] |
//! | `Parked` | [`parking`] |
//! | `Queued` | [`queueing`], over a [`fork`] |
//! | `Ending` | [`ending`] |

pub mod announce;
pub mod app;
pub mod bridge;
pub mod conference;
pub mod cost;
pub mod dial;
pub mod dialing;
pub mod driver;
pub mod end;
pub mod ending;
pub mod entering;
pub mod fork;
pub mod held_line;
pub mod inbound;
pub mod keys;
pub mod leg;
pub mod line;
pub mod log;
pub mod music;
pub mod notice;
pub mod parking;
pub mod place;
pub mod progress_tone;
mod protection;
pub mod quality;
pub mod queue;
pub mod queueing;
pub mod record;
pub mod referral;
pub mod route;
pub mod signal;
pub mod sound;
pub mod supervision;
pub mod switchboard;
pub mod talking;
pub mod transfer;
pub mod view;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use agent::brain::{Handover, TransferKind};
use agent::line::Request;
use bridge::Bridge;
use dial::{BranchResult, DialPlan};
use dialing::Dialing;
use end::End;
use parking::Parked;
use place::{Entry, Errand, Place, Watching};
use progress_tone::ProgressTone;
use queue::Queue;
use queueing::Queueing;
use record::QueueOutcome;
use referral::Referral;
use sip::endpoint::CallId;
use transfer::Transfer;
pub use view::{LegView, Role, Stage, View};

/// A leg's number within its call. The first is the one that the call began with; numbers are not used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LegNo(pub u16);

impl LegNo {
    /// The leg that the call began with.
    pub const FIRST: Self = Self(0);
    /// Those that come from other calls are numbered from here on.
    pub const ADOPTED: Self = Self(0x8000);

    /// The number after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for LegNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a call stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// The caller hears ringing.
    Ringing,
    /// The answer is sent and not yet acknowledged.
    Answering,
    /// Somebody else is being called.
    Dialing(Box<Dialing>),
    /// One leg is up, with an agent or an application.
    Talking,
    /// The agent passes the call on: the caller waits, somebody is being called.
    Transferring(Box<Transfer>),
    /// Two legs are connected, or are about to be.
    Bridged(Bridge),
    /// A phone passes the call on: whoever it spoke with waits, somebody is being called.
    Referring(Box<Referral>),
    /// A leg is on its way to a place.
    Entering,
    /// Everybody hears everybody else.
    Conference,
    /// Somebody waits to be fetched.
    Parked(Parked),
    /// Somebody waits in a queue.
    Queued(Box<Queueing>),
    /// BYE, CANCEL or a refusal is on its way; what the end will be is settled.
    Ending(End),
    /// Nothing follows.
    Over(End),
}

impl Phase {
    /// Whether a call to this target passes its caller on where it is asked to, at once or when their ACK is here.
    #[must_use]
    pub fn passes_on(&self, target: &route::Target) -> bool {
        match self {
            Self::Talking | Self::Answering => target.converses(),
            Self::Bridged(_) => true,
            Self::Queued(queueing) => queueing.is_in_line(),
            _ => false,
        }
    }

    /// Whether it puts its caller on hold where it is asked to: two are connected, or about to be.
    #[must_use]
    pub fn holds(&self) -> bool {
        matches!(self, Self::Bridged(_))
    }
}

/// What happens to a call.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// Something happened to a leg.
    Leg(LegNo, LegInput),
    /// A timer fired.
    Fired(Timer),
    /// It takes a moment to find out how somebody is reached: an agent is being loaded.
    Finding,
    /// How somebody is reached, or why they are not.
    Found(Result<Found, NotFound>),
    /// Those who are free to take a caller who waits in a queue are called like this.
    Offered(Arc<DialPlan>),
    /// None of the queue's people is there.
    Deserted,
    /// A leg has come from another call, for this.
    Adopted(LegNo, Errand),
    /// What became of a leg that was to enter a place.
    Entered(LegNo, Place, Entry),
    /// Somebody with the right to it asks for something.
    Commanded(Command),
}

/// How somebody is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// They are called.
    Plan(Arc<DialPlan>),
    /// It is a place of the server's own.
    Place(Place),
    /// It is an agent, which is ready, or a program that embeds the server.
    Converse(route::Target),
    /// Whoever sent the call is asked to call them, at this address, and to take the caller back (REFER, RFC 3515).
    Refer(String),
}

/// Nobody is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotFound {
    /// As SIP has it: 403 where they are not to be called, 404 where nobody has that name.
    pub code: u16,
    /// In words; empty where the status says all there is.
    pub why: String,
}

/// Whom a peer wants its call passed on to (REFER, RFC 3515).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Referred {
    /// Whoever has this address; `replaces`: in the place of a call of theirs that is none of ours.
    To {
        /// Their address.
        uri: String,
        /// The value for the Replaces header.
        replaces: Option<String>,
    },
    /// Whoever a leg of ours speaks with, in its place: an attended transfer (RFC 3891).
    Replace(CallId),
}

/// What happens to a leg.
#[derive(Debug, Clone, PartialEq)]
pub enum LegInput {
    /// The far side sent a provisional response.
    Progress {
        /// 101 to 199.
        code: u16,
        /// It came with sound.
        early_media: bool,
    },
    /// The far side answered.
    Answered,
    /// Our answer was acknowledged.
    Acked,
    /// The dialog is over.
    Ended(SignallingEnd),
    /// A key was pressed.
    Digit(char),
    /// Nothing came from the peer for the configured time.
    MediaTimedOut,
    /// The media engine is gone.
    MediaGone,
    /// The media of the leg cannot be set up.
    MediaFailed(String),
    /// The peer put the call on hold, or took it back.
    Held(bool),
    /// The peer sent text (MESSAGE, RFC 3428): its Content-Type and what it is.
    Wrote(String, bytes::Bytes),
    /// The peer wants whoever it speaks with connected with somebody else (REFER).
    Referred(Referred),
    /// How far the peer has come with what we asked it for by REFER: a status, and whether nothing follows.
    Passed(u16, bool),
    /// The conversation on the leg is over.
    Conversed(ConversationEnd),
}

/// How a dialog came to its end, as far as a call cares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignallingEnd {
    /// We said BYE and it was taken.
    Local,
    /// The peer said BYE.
    Remote,
    /// The caller gave up before the answer.
    Cancelled,
    /// Nobody answers, or no ACK came.
    TimedOut,
    /// The answer was never acknowledged.
    NoAck,
    /// The far side refused (legs we placed).
    Rejected {
        /// SIP status.
        code: u16,
        /// Its words.
        reason: String,
    },
    /// The far side sent us elsewhere, and that is a way we may go.
    Redirected(Arc<DialPlan>),
    /// The leg could not be placed: no address, no port.
    NotPlaced(String),
    /// The connection broke.
    TransportFailed(String),
}

/// How a conversation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConversationEnd {
    /// The agent is done.
    Done(String),
    /// The agent wants the caller connected with somebody.
    Transfer(Handover),
    /// A person heard who is put through to them, and takes the call or does not.
    Announced {
        /// They take it.
        accepted: bool,
    },
    /// The line closed under it.
    LineClosed,
    /// A provider failed and nothing could stand in.
    Failed {
        /// What failed.
        what: String,
        /// Whether a server we ask is at fault, or we are.
        upstream: bool,
    },
}

/// What somebody may ask of a running call. What does not fit the call's phase is passed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// End it.
    HangUp,
    /// Connect the caller with somebody, or put them into a place (`room-NAME`, `park-SLOT`), instead of whoever they speak with. Where
    /// that comes to nothing they go on where they were. On behalf of this device it reaches whom the device may call.
    Transfer(Handover, Option<String>),
    /// Put the caller on hold with music, or take them back.
    Hold(bool),
    /// Go on with the recording, or pause it: what is said meanwhile (a card's number, say) is silence in it.
    Record(bool),
    /// What this leg's peer says is heard by nobody else in the call, or is again. The recording has it nevertheless.
    Mute(LegNo, bool),
    /// Press these keys towards this leg's peer.
    Press(LegNo, String),
    /// Ask something of the agent that has the call.
    Ask(Request),
    /// The server stops: end it.
    ShutDown,
}

/// The timers of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Timer {
    /// `sip:bye@` hangs up.
    Bye,
    /// The call has run as long as a call may.
    MaxDuration,
    /// Those who are being called have rung for as long as they may.
    NoAnswer,
    /// Nobody has fetched whoever waits.
    Parked,
    /// A caller has waited in a queue as long as they may.
    Waited,
    /// Whoever waits in a queue is told their place.
    Place,
    /// Signalling has not confirmed the end.
    EndUnconfirmed,
}

/// What a reducer wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send a provisional response without sound.
    Ring(LegNo, u16),
    /// Send the answer and open the leg's media.
    Answer(LegNo),
    /// Open the leg's media and say so by 183, before the answer: what those say who are called is heard already.
    AnswerEarly(LegNo),
    /// Refuse with this status.
    Reject(LegNo, u16),
    /// Call somebody: this branch of this group becomes a leg of this number.
    Dial {
        /// Its number.
        leg: LegNo,
        /// The plan.
        plan: Arc<DialPlan>,
        /// Which group of it.
        group: usize,
        /// Which branch of that.
        branch: usize,
    },
    /// Tell whoever made the plan what became of a branch.
    Report(LegNo, BranchResult),
    /// The conversation may begin.
    StartConversation(LegNo),
    /// Set a timer; one of that name that runs already is set anew.
    Arm(Timer, Duration),
    /// Stop a timer.
    Disarm(Timer),
    /// Hand a key to the leg's line.
    DeliverDigit(LegNo, char),
    /// Whoever is on this leg talks with this agent or program from here on, which is to know of them what the handover says; whoever had
    /// them before does not get them back.
    Converse(LegNo, route::Target, Handover),
    /// Find out how this address is reached, on behalf of this device or, without one, of the server; [`Input::Found`] follows.
    Find(String, Option<String>),
    /// The same; whoever sent the call may be asked to pass it on instead, where it takes its calls back.
    FindOrPassBack(String),
    /// The same on behalf of the peer of this leg, who may call whom its device may; with a Replaces header of this value.
    FindFor(LegNo, String, Option<String>),
    /// The same for the device of this leg, which put somebody somewhere.
    CallBack(LegNo),
    /// Do this about the line of those who wait in queues.
    Line(InLine),
    /// Send this leg to a place; [`Input::Entered`] follows.
    Enter(LegNo, Place),
    /// Send the first leg to another call, in the place of that leg there, for the peer of the second, whose REFER is taken up; whoever takes it
    /// in reports. [`Input::Entered`] follows.
    Exchange(LegNo, CallId, LegNo),
    /// A room of so many places is opened for those who are admitted from here on.
    OpenRoom(u8),
    /// Put the leg into the call's room.
    Admit(LegNo),
    /// A supervisor's leg takes part like this from here on.
    Watch(LegNo, Watching),
    /// Take the leg's line from whoever holds it.
    Release(LegNo),
    /// Ask this leg's peer to call that address itself (REFER).
    Refer(LegNo, String),
    /// Take up the REFER of this leg's peer.
    AcceptRefer(LegNo),
    /// Refuse it with this status.
    RejectRefer(LegNo, u16),
    /// Tell whoever sent it how the call goes that it asked for.
    NotifyRefer(LegNo, u16),
    /// Take the leg out of the room that it is in.
    Part(LegNo),
    /// Play music to this leg's peer, or no more.
    Music(LegNo, bool),
    /// Play this tone to this leg's peer, or no more.
    Signal(LegNo, Option<ProgressTone>),
    /// Whoever is on this leg, which we placed, is who calls from here on; legs from this number on are of those whom they want.
    CallsFrom(LegNo, LegNo),
    /// Give the caller on this leg back to the agent or the program that had the call, and tell it why nobody is connected with them.
    ReturnToAgent(LegNo, String),
    /// Say this on the leg, in the voice of the call's agent, or the server's where it has none; [`ConversationEnd::Announced`] follows.
    Announce {
        /// Whose leg.
        leg: LegNo,
        /// What they are told.
        summary: String,
        /// They are asked whether they take the call.
        must_accept: bool,
    },
    /// Connect these legs with one another.
    Connect(LegNo, LegNo),
    /// Send a key press to the leg's peer.
    Press(LegNo, char),
    /// Send text to the leg's peer.
    Write(LegNo, String, bytes::Bytes),
    /// Send BYE (or CANCEL, where the leg is not up) with this Reason, and close its media.
    HangUp(LegNo, Option<&'static str>),
    /// Close the leg's media.
    CloseMedia(LegNo),
}

/// What a call does about the line of those who wait in queues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InLine {
    /// Stand in it; [`Input::Offered`] and [`Input::Deserted`] follow.
    Join(Arc<Queue>),
    /// Nobody of those who were called has taken the caller, who waits on.
    Declined,
    /// Whoever is on this leg has.
    Taken(LegNo),
    /// Wait no more.
    Leave(Arc<Queue>, QueueOutcome),
    /// Tell this leg's peer their place.
    TellPlace(LegNo),
}

/// Notes a command that signalling did not take: it is stopping, or its queue is full.
pub(crate) fn note_refused(result: Result<(), sip::io::HandleError>) {
    if let Err(fault) = result {
        tracing::error!("signalling took no command: {fault}");
    }
}

/// What a reducer answers.
pub type Step = (Phase, Vec<Action>);

/// `sip:bye@` hangs up after this long.
pub const BYE_AFTER: Duration = Duration::from_secs(2);
/// Peers that do not confirm a BYE for this long are waited for no more; signalling goes on repeating it by itself.
pub const END_CONFIRMED_WITHIN: Duration = Duration::from_secs(8);
