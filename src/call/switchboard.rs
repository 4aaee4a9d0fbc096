//! Which call an event or a command is for. Signalling delivers by a leg's [`CallId`]; people and programs name a call by
//! its own id. A leg may move from one call to another: from then on its events go there.
//!
//! The lock is held for a look-up and a push into a queue, never across a wait.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sip::endpoint::{CallId, Event};
use sip::event::conference_info::Member;
use sip::io::Placed;
use tokio::sync::mpsc;

use super::driver::Arrival;
use super::queue::News;
use super::{Command, LegNo};

/// Signalling that may wait for a call; a call that cannot keep up with its own signalling is ended.
pub const CALL_QUEUE: usize = 64;
/// Commands that may wait for a call; one more is refused.
pub const COMMAND_QUEUE: usize = 8;

/// What a call's signalling brings.
#[derive(Debug)]
pub enum Mail {
    /// Something happened to one of its legs.
    Event(Event),
    /// The ways to somebody who is to be called are known, best first, or there is none.
    Routed(LegNo, Result<Vec<sip::io::Route>, String>),
    /// A port for the offer to come was made ready, where there was one to be had.
    Prepared(LegNo, Vec<sip::io::Route>, Option<media::ReservedPort>),
    /// An INVITE was sent, or could not be.
    Placed(LegNo, Result<Placed, String>),
    /// A leg of another call is this one's from here on.
    Adopt(Box<Arrival>),
    /// What those who wait in a queue learn.
    Queue(News),
}

/// Where a call's mail goes.
#[derive(Debug, Clone)]
pub struct Address {
    /// The call's id.
    pub call: Arc<str>,
    /// Its queue.
    pub mail: mpsc::Sender<Mail>,
    /// What others may know of it.
    pub presence: Arc<Presence>,
}

/// What a device does in a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// It rings, or waits for somebody to answer.
    Rings,
    /// It speaks with somebody.
    Talks,
}

/// A device in a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceLeg {
    /// The device.
    pub device: String,
    /// What it does.
    pub doing: Doing,
    /// Its leg.
    pub leg: CallId,
    /// It called us.
    pub is_caller: bool,
    /// It has said that it rings; before that its side of the dialog has no tag.
    pub has_rung: bool,
}

/// What others may know of a call.
#[derive(Debug, Default)]
pub struct Presence {
    /// It takes in legs in the stead of its own.
    pub takes_over: AtomicBool,
    /// It passes its caller on where it is asked to.
    pub passes_on: AtomicBool,
    /// It puts its caller on hold where it is asked to.
    pub holds: AtomicBool,
    devices: Mutex<Vec<DeviceLeg>>,
    members: Mutex<Vec<Member>>,
}

impl Presence {
    /// Who is in the call.
    pub fn set(&self, devices: &[DeviceLeg]) {
        devices.clone_into(&mut self.devices.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Who takes part, where the call is a conference.
    pub fn set_members(&self, members: &[Member]) {
        members.clone_into(&mut self.members.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// See there.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn names(&self) -> Vec<String> {
        let devices = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
        devices.iter().map(|leg| leg.device.to_lowercase()).collect()
    }

    fn of(&self, device: &str) -> Vec<DeviceLeg> {
        let devices = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
        devices.iter().filter(|leg| leg.device.eq_ignore_ascii_case(device)).cloned().collect()
    }

    fn has(&self, device: &str, doing: Doing) -> bool {
        let devices = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
        devices.iter().any(|leg| leg.doing == doing && leg.device.eq_ignore_ascii_case(device))
    }
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// A call has it.
    Taken,
    /// No call holds this leg.
    Unknown,
    /// The call cannot keep up.
    Full,
}

/// A call's own ends of its queues.
#[derive(Debug)]
pub struct Inbox {
    /// Where others send to.
    pub address: Address,
    /// Signalling.
    pub mail: mpsc::Receiver<Mail>,
    /// Commands.
    pub commands: mpsc::Receiver<Command>,
}

/// All calls and their legs.
#[derive(Debug, Default)]
pub struct Switchboard {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    legs: HashMap<CallId, Address>,
    calls: HashMap<Arc<str>, Entry>,
}

#[derive(Debug)]
struct Entry {
    commands: mpsc::Sender<Command>,
    address: Address,
}

impl Switchboard {
    /// Opens a call's queues.
    pub fn open(&self, call: &str) -> Inbox {
        let call: Arc<str> = call.into();
        let (mail, mail_out) = mpsc::channel(CALL_QUEUE);
        let (commands, commands_out) = mpsc::channel(COMMAND_QUEUE);
        let address = Address { call: Arc::clone(&call), mail, presence: Arc::default() };
        self.lock().calls.insert(call, Entry { commands, address: address.clone() });
        Inbox { address, mail: mail_out, commands: commands_out }
    }

    /// Closes a call: its id means nothing from here on.
    pub fn close(&self, call: &str) {
        self.lock().calls.remove(call);
    }

    /// A leg belongs to this call from here on.
    pub fn connect(&self, leg: CallId, to: &Address) {
        self.lock().legs.insert(leg, to.clone());
    }

    /// A leg is over, or nobody's.
    pub fn disconnect(&self, leg: CallId) {
        self.lock().legs.remove(&leg);
    }

    /// Hands an event to the call that holds its leg.
    pub fn deliver(&self, leg: CallId, event: Event) -> Delivery {
        let is_over = matches!(event, Event::Ended { .. });
        let mut inner = self.lock();
        let Some(address) = inner.legs.get(&leg) else { return Delivery::Unknown };
        let sent = address.mail.try_send(Mail::Event(event));
        let delivery = match sent {
            Err(mpsc::error::TrySendError::Full(_)) => Delivery::Full,
            _ => Delivery::Taken,
        };
        if is_over || delivery == Delivery::Full {
            inner.legs.remove(&leg);
        }
        delivery
    }

    /// The id of the call that holds this leg.
    #[must_use]
    pub fn call_of(&self, leg: CallId) -> Option<Arc<str>> {
        self.lock().legs.get(&leg).map(|address| Arc::clone(&address.call))
    }

    /// The address of a call.
    #[must_use]
    pub fn address(&self, call: &str) -> Option<Address> {
        self.lock().calls.get(call).map(|entry| entry.address.clone())
    }

    /// The id of a call in which this device does that.
    #[must_use]
    pub fn call_of_device(&self, device: &str, doing: Doing) -> Option<Arc<str>> {
        let inner = self.lock();
        let found = inner.calls.values().find(|entry| entry.address.presence.has(device, doing));
        found.map(|entry| Arc::clone(&entry.address.call))
    }

    /// The legs of a device, of all calls.
    #[must_use]
    pub fn legs_of_device(&self, device: &str) -> Vec<DeviceLeg> {
        self.lock().calls.values().flat_map(|entry| entry.address.presence.of(device)).collect()
    }

    /// The devices that are in calls, in lower case.
    #[must_use]
    pub fn devices(&self) -> HashSet<String> {
        let inner = self.lock();
        inner.calls.values().flat_map(|entry| entry.address.presence.names()).collect()
    }

    /// The ids of all calls.
    #[must_use]
    pub fn calls(&self) -> Vec<Arc<str>> {
        self.lock().calls.keys().cloned().collect()
    }

    /// Tells a call something; false where there is no such call, or [`COMMAND_QUEUE`] commands wait for it.
    pub fn command(&self, call: &str, command: Command) -> bool {
        self.lock().calls.get(call).is_some_and(|entry| entry.commands.try_send(command).is_ok())
    }

    /// Tells every call something.
    pub fn command_all(&self, command: &Command) {
        for entry in self.lock().calls.values() {
            // A call whose queue is full of commands is ending already.
            let _ = entry.commands.try_send(command.clone());
        }
    }

    /// Legs that calls hold.
    #[must_use]
    pub fn legs(&self) -> usize {
        self.lock().legs.len()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use sip::endpoint::EndCause;

    use super::*;

    const LEG: CallId = CallId(7);

    #[test]
    fn a_leg_that_moved_is_heard_by_the_call_it_moved_to() {
        let board = Switchboard::default();
        let (mut first, mut second) = (board.open("a"), board.open("b"));
        assert_eq!(board.deliver(LEG, Event::Cancelled { call: LEG }), Delivery::Unknown);
        board.connect(LEG, &first.address);
        assert_eq!(board.deliver(LEG, Event::Cancelled { call: LEG }), Delivery::Taken);
        board.connect(LEG, &second.address);
        assert_eq!(board.call_of(LEG).as_deref(), Some("b"));
        let end = Event::Ended { call: LEG, cause: EndCause::RemoteBye, reason_header: None };
        assert_eq!(board.deliver(LEG, end), Delivery::Taken);
        assert!(matches!(first.mail.try_recv(), Ok(Mail::Event(Event::Cancelled { .. }))));
        assert!(first.mail.try_recv().is_err());
        assert!(matches!(second.mail.try_recv(), Ok(Mail::Event(Event::Ended { .. }))));
        assert_eq!(board.legs(), 0, "a leg that is over is forgotten");
    }

    #[test]
    fn a_call_that_does_not_read_its_mail_or_commands_is_bounded() {
        let board = Switchboard::default();
        let inbox = board.open("a");
        board.connect(LEG, &inbox.address);
        for _ in 0..CALL_QUEUE {
            assert_eq!(board.deliver(LEG, Event::Cancelled { call: LEG }), Delivery::Taken);
        }
        assert_eq!(board.deliver(LEG, Event::Cancelled { call: LEG }), Delivery::Full);
        assert_eq!(board.deliver(LEG, Event::Cancelled { call: LEG }), Delivery::Unknown, "it is disconnected");
        for _ in 0..COMMAND_QUEUE {
            assert!(board.command("a", Command::HangUp));
        }
        assert!(!board.command("a", Command::HangUp));
        assert!(!board.command("b", Command::HangUp), "there is no such call");
        board.close("a");
        assert!(board.calls().is_empty());
    }
}
