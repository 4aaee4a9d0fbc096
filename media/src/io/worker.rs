//! The worker: owns its legs, and runs them in rounds.
//!
//! A round takes the commands, takes what the sockets have, lets the legs whose time has come send, and wakes the async
//! side once if any leg has something for it; what it is done with it hands back without waking anybody. It takes no lock, allocates and frees nothing, logs nothing and waits
//! for nothing but the next round: legs are made on the async side and handed back to it to be dropped. A full ring
//! drops and counts.
//!
//! While it has more than a few legs, a worker starts its rounds on a fixed spacing, so that one round takes the
//! packets of many legs; with few legs it answers each packet at once.

mod fault;
mod rooms;

use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ringbuf::traits::{Consumer, Observer, Producer};
use ringbuf::{HeapCons, HeapProd};

use self::rooms::FIRST_ID;
pub(crate) use self::rooms::{RoomCommand, Spent};
use super::digging::Digging;
use super::link::WorkerLink;
use super::ports::ReservedPort;
use super::sys::{self, Poller};
use super::wheel::Wheel;
use crate::config::{MAX_LEGS_PER_WORKER, MAX_ROOMS_PER_WORKER};
use crate::leg::{Channel, GuardChange, Joined, Leg, Outbox, Retune, Scratch};
use crate::room::Room;

/// Commands that wait for the worker at most; more of them wait on the async side.
pub(super) const COMMAND_RING: usize = 1_024;
/// Events that wait for the async side at most: two wake-ups for each leg (its port, and whoever connects
/// it), and as much again for what is handed back.
pub(super) const EVENT_RING: usize = 3 * MAX_LEGS_PER_WORKER;
/// Up to this many legs, a packet is taken the moment it comes; beyond, rounds are spaced.
const UNSPACED_LEGS: usize = 4;
/// Datagrams that one socket gets taken in one round at most, so that a flood on one call does not starve the others.
const DATAGRAMS_PER_SOCKET: usize = 32;
/// Datagrams beyond this are cut: none of ours is as long.
pub(super) const DATAGRAM_BYTES: usize = 2_048;
/// While a worker has legs, it looks for commands this often without being told.
pub(super) const LOOKED_WITHIN: Duration = Duration::from_millis(20);
/// A round longer than this counts as an overrun.
const OVERRUN: Duration = Duration::from_millis(5);
/// The key of the command eventfd among the sockets' keys.
const COMMAND_KEY: u64 = u64::MAX;

/// From the async side to a worker.
pub(crate) enum Command {
    /// Take this leg.
    Open { slot: u32, seat: Box<Seat> },
    /// Exchange codec, remote and direction.
    Retune { slot: u32, retune: Box<Retune> },
    /// Change how packets are protected, or where they go.
    Secure { slot: u32, change: Box<GuardChange> },
    /// Change what TURN servers do for it.
    Tunnel { slot: u32, tunnel: Box<Digging> },
    /// Send a key press.
    Digit { slot: u32, digit: char, duration_ms: u16 },
    /// About rooms and what a leg plays.
    Room(RoomCommand),
    /// Hand this leg over as it is, for another worker.
    Lift { slot: u32 },
    /// Say goodbye for this leg, and hand it back.
    Close { slot: u32 },
    /// The same for all, then end.
    Stop,
}

impl Command {
    /// The leg or the room that it is for, by its id in the wheel.
    fn concerns(&self) -> Option<u32> {
        match self {
            Self::Open { slot, .. }
            | Self::Retune { slot, .. }
            | Self::Secure { slot, .. }
            | Self::Tunnel { slot, .. }
            | Self::Digit { slot, .. }
            | Self::Lift { slot }
            | Self::Close { slot } => Some(*slot),
            Self::Room(command) => Some(command.concerns()),
            Self::Stop => None,
        }
    }
}

/// From a worker to the async side.
pub(crate) enum Event {
    /// The leg's rings have something for its port.
    Ready { slot: u32 },
    /// The leg has STUN or DTLS for whoever connects it.
    Handshake { slot: u32 },
    /// What a [`Command::Secure`] took the place of, to be dropped.
    Secured { change: Box<GuardChange> },
    /// What a [`Command::Tunnel`] took the place of, to be dropped.
    Tunnelled { tunnel: Box<Digging> },
    /// For the worker that it is to go to.
    Lifted { slot: u32, seat: Box<Seat> },
    /// To be dropped.
    Removed { slot: u32, seat: Box<Seat> },
    /// What a [`Command::Retune`] took the place of, to be dropped.
    Retuned { retune: Box<Retune> },
    /// What a [`Command::Room`] left over, to be dropped.
    Spent(Spent),
    /// The worker has ended.
    Stopped,
}

/// A leg with its sockets.
pub(crate) struct Seat {
    pub(super) leg: Leg,
    /// The place in a room that it had when it was closed.
    pub(super) parted: Option<Box<Joined>>,
    pub(super) sockets: Sockets,
}

/// The leg's sockets, which go back to where they were taken from.
pub(super) struct Sockets {
    pub(super) port: ReservedPort,
    /// The round in which the RTP socket last had something.
    pub(super) last_round: u64,
    /// Our address that its packets leave by, where the socket has more than one.
    pub(super) local: Option<IpAddr>,
    /// What TURN servers do for it, where they do.
    pub(super) digging: Option<Box<Digging>>,
}

impl Outbox for Sockets {
    fn send(&mut self, channel: Channel, to: SocketAddr, packet: &[u8]) -> bool {
        if let Some(digging) = &mut self.digging
            && let Some((server, framed)) = digging.wrap(to, packet)
        {
            return self.port.rtp().is_some_and(|socket| socket.send(framed, server, None).is_ok());
        }
        let socket = match channel {
            Channel::Rtp => self.port.rtp(),
            Channel::Rtcp => self.port.rtcp(),
        };
        let Some(socket) = socket else { return false };
        match socket.send(packet, to, self.local) {
            Ok(()) => true,
            // It is no address of ours, or none that leads there: the system knows a better one.
            Err(fault) if self.local.is_some() && is_of_no_use(&fault) => {
                self.local = None;
                socket.send(packet, to, None).is_ok()
            }
            Err(_) => false,
        }
    }
}

/// Whether a datagram cannot be sent by that address of ours.
fn is_of_no_use(fault: &std::io::Error) -> bool {
    matches!(fault.raw_os_error(), Some(libc::EINVAL | libc::EADDRNOTAVAIL | libc::ENETUNREACH | libc::EHOSTUNREACH))
}

/// Figures of a worker, written by it alone.
#[derive(Debug, Default)]
pub(crate) struct WorkerCounters {
    /// 1 where the system lets the worker run before ordinary threads.
    pub(crate) real_time: Count,
    pub(crate) rounds: Count,
    pub(crate) overruns: Count,
    pub(crate) longest_round_us: Count,
    pub(crate) datagrams: Count,
    pub(crate) relayed: Count,
    pub(crate) events_dropped: Count,
    pub(crate) faults: Count,
}

/// A counter with one writer: a plain load, add and store, without a locked instruction.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub(crate) fn load(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Whether the worker goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// There will be another round.
    GoOn,
    /// It was told to stop, and has.
    Stopped,
}

/// One worker; run by its own thread, or by hand in tests and benches.
pub struct Worker {
    link: Arc<WorkerLink>,
    commands: HeapCons<Command>,
    events: HeapProd<Event>,
    poller: Poller,
    seats: Box<[Option<Box<Seat>>]>,
    legs: usize,
    rooms: Box<[Option<Box<Room>>]>,
    wheel: Wheel,
    scratch: Box<Scratch>,
    datagram: Box<[u8; DATAGRAM_BYTES]>,
    spacing: Duration,
    round: u64,
    /// There may be commands that the last round left.
    commands_left: bool,
    wake_async: bool,
    /// The leg or the room that is worked for, by its id in the wheel.
    at_work: Option<u32>,
    /// Rounds that ended by a fault, one after the other.
    faults: u32,
    /// It was told to stop.
    stopping: bool,
}

impl Worker {
    pub(super) fn new(
        link: Arc<WorkerLink>,
        commands: HeapCons<Command>,
        events: HeapProd<Event>,
        spacing: Duration,
    ) -> std::io::Result<Self> {
        let poller = Poller::new()?;
        poller.add(link.command_fd.as_raw_fd(), COMMAND_KEY)?;
        Ok(Worker {
            link,
            commands,
            events,
            poller,
            seats: (0..MAX_LEGS_PER_WORKER).map(|_| None).collect(),
            legs: 0,
            rooms: (0..MAX_ROOMS_PER_WORKER).map(|_| None).collect(),
            wheel: Wheel::new(Instant::now(), MAX_LEGS_PER_WORKER + MAX_ROOMS_PER_WORKER),
            scratch: Box::default(),
            datagram: Box::new([0; DATAGRAM_BYTES]),
            spacing,
            round: 0,
            commands_left: true,
            wake_async: false,
            at_work: None,
            faults: 0,
            stopping: false,
        })
    }

    /// Runs rounds until told to stop.
    pub(super) fn run(mut self, real_time: bool, cpu: Option<usize>) {
        if real_time && sys::run_in_real_time() {
            self.link.counters.real_time.set(1);
        }
        if let Some(cpu) = cpu {
            // It was one that we may use a moment ago.
            let _ = sys::stay_on(cpu);
        }
        loop {
            let started = Instant::now();
            if self.round_or_fault() == Outcome::Stopped {
                return;
            }
            if self.legs > UNSPACED_LEGS {
                let rest = self.spacing.saturating_sub(started.elapsed());
                if !rest.is_zero() {
                    std::thread::sleep(rest);
                }
            }
        }
    }

    /// One round. It waits for the first datagram, command or timer, but no longer than `wait_at_most`.
    pub fn round(&mut self, wait_at_most: Option<Duration>) -> Outcome {
        let timeout_ms = self.timeout_ms(wait_at_most);
        let ready = self.poller.wait(timeout_ms);
        self.run_round(Instant::now(), ready)
    }

    /// One round as if it were `now`, without a wait: for tests in virtual time, which runs ahead of the clock's.
    #[doc(hidden)]
    pub fn round_at(&mut self, now: Instant) -> Outcome {
        let ready = self.poller.wait(0);
        self.run_round(now, ready)
    }

    fn run_round(&mut self, now: Instant, ready: usize) -> Outcome {
        self.round += 1;
        let mut outcome = Outcome::GoOn;
        for index in 0..ready {
            match self.poller.key(index) {
                Some(COMMAND_KEY) => self.link.looks(),
                Some(key) => {
                    let slot = (key >> 1) as u32;
                    self.at_work = Some(slot);
                    self.take_datagrams(now, slot, key & 1 == 1);
                }
                None => break,
            }
        }
        self.at_work = None;
        if self.commands_left || !self.commands.is_empty() {
            outcome = self.take_commands(now);
        }
        self.run_legs(now);
        if self.wake_async {
            self.wake_async = false;
            self.link.event_fd.signal();
        }
        self.account(now);
        outcome
    }

    fn timeout_ms(&self, wait_at_most: Option<Duration>) -> i32 {
        if self.commands_left {
            return 0;
        }
        let looked_within = (self.legs > 0).then_some(LOOKED_WITHIN);
        let at_most = [wait_at_most, looked_within].into_iter().flatten().min();
        let at_most = at_most.map(|wait| u32::try_from(wait.as_millis()).unwrap_or(u32::MAX));
        let timer = self.wheel.wait_ms(Instant::now());
        match (timer, at_most) {
            (None, None) => -1,
            (Some(ms), None) | (None, Some(ms)) => ms.min(60_000) as i32,
            (Some(a), Some(b)) => a.min(b).min(60_000) as i32,
        }
    }

    fn take_datagrams(&mut self, now: Instant, slot: u32, rtcp: bool) {
        let Some(seat) = self.seats.get_mut(slot as usize).and_then(Option::as_deref_mut) else { return };
        let limit = if rtcp || seat.sockets.last_round + 1 == self.round { DATAGRAMS_PER_SOCKET } else { 1 };
        if !rtcp {
            seat.sockets.last_round = self.round;
        }
        for _ in 0..limit {
            let Some(seat) = self.seats.get_mut(slot as usize).and_then(Option::as_deref_mut) else { return };
            let socket = if rtcp { seat.sockets.port.rtcp() } else { seat.sockets.port.rtp() };
            let Some(socket) = socket else { break };
            let Ok((size, from, local)) = socket.receive(&mut self.datagram[..]) else { break };
            self.link.counters.datagrams.add(1);
            let Some(datagram) = self.datagram.get(..size) else { break };
            let datagram = seat.sockets.digging.as_ref().map_or(datagram, |digging| digging.unwrap(from, datagram));
            if let Some(local) = local {
                seat.leg.reached_at(local);
            }
            if rtcp {
                seat.leg.receive_rtcp(now, datagram, from, &mut self.scratch);
            } else if let Some(passing) = seat.leg.receive(now, datagram, from, &mut self.scratch)
                && let Some(to) = self.seats.get_mut(passing.to as usize).and_then(Option::as_deref_mut)
                && to.leg.pass(now, &passing, &mut self.scratch, &mut to.sockets)
            {
                self.link.counters.relayed.add(1);
            }
        }
        let Some(seat) = self.seats.get_mut(slot as usize).and_then(Option::as_deref_mut) else { return };
        if seat.leg.wants_earlier_wake(now) {
            self.wheel.schedule(slot, seat.leg.next_wake(now));
        }
        self.wake_async |= announce(seat, slot, &mut self.events, &self.link.counters);
    }

    /// Lets the rooms whose time has come mix, and the legs send.
    fn run_legs(&mut self, now: Instant) {
        while let Some(slot) = self.wheel.pop(now) {
            self.at_work = Some(slot);
            if let Some(room) = slot.checked_sub(FIRST_ID) {
                self.run_room(now, room);
                continue;
            }
            let Some(seat) = self.seats.get_mut(slot as usize).and_then(Option::as_deref_mut) else { continue };
            seat.leg.tick(now, &mut self.scratch, &mut seat.sockets);
            self.wheel.schedule(slot, seat.leg.next_wake(now));
            self.wake_async |= announce(seat, slot, &mut self.events, &self.link.counters);
        }
        self.at_work = None;
    }

    fn take_commands(&mut self, now: Instant) -> Outcome {
        self.commands_left = false;
        while !self.stopping {
            // A wake-up for each leg must always find room, so what is handed back leaves that much.
            if self.events.vacant_len() <= 2 * MAX_LEGS_PER_WORKER {
                (self.commands_left, self.wake_async) = (true, true);
                break;
            }
            let Some(command) = self.commands.try_pop() else { break };
            self.at_work = command.concerns();
            match command {
                Command::Open { slot, seat } => self.open(now, slot, seat),
                Command::Retune { slot, mut retune } => {
                    if retune.is_of_format() {
                        self.end_passing_of(now, slot);
                    }
                    if let Some(seat) = self.seat(slot) {
                        seat.leg.retune(now, &mut retune);
                    }
                    self.hand_back(Event::Retuned { retune });
                }
                Command::Secure { slot, mut change } => {
                    if let Some(seat) = self.seat(slot) {
                        seat.leg.secure(&mut change);
                    }
                    self.hand_back(Event::Secured { change });
                }
                Command::Tunnel { slot, mut tunnel } => {
                    if let Some(seat) = self.seat(slot) {
                        if let Some(local) = tunnel.local() {
                            seat.sockets.local = Some(local);
                        }
                        match &mut seat.sockets.digging {
                            Some(digging) => std::mem::swap(digging, &mut tunnel),
                            none => {
                                *none = Some(tunnel);
                                continue;
                            }
                        }
                    }
                    self.hand_back(Event::Tunnelled { tunnel });
                }
                Command::Digit { slot, digit, duration_ms } => {
                    if let Some(seat) = self.seat(slot) {
                        seat.leg.send_digit(digit, duration_ms);
                    }
                }
                Command::Room(command) => self.take_room_command(now, command),
                Command::Lift { slot } => {
                    if let Some(mut seat) = self.take_seat(now, slot) {
                        seat.sockets.last_round = 0;
                        self.hand_back(Event::Lifted { slot, seat });
                        self.wake_async = true;
                    }
                }
                Command::Close { slot } => self.close(now, slot),
                Command::Stop => self.stopping = true,
            }
        }
        if self.stopping {
            for slot in 0..self.seats.len() as u32 {
                self.at_work = Some(slot);
                self.close(now, slot);
            }
            return Outcome::Stopped;
        }
        self.at_work = None;
        // There is room for more of them.
        self.wake_async |= self.link.has_backlog();
        Outcome::GoOn
    }

    fn open(&mut self, now: Instant, slot: u32, seat: Box<Seat>) {
        // It has its place before anything is done with it: by a fault it is taken out from there.
        match self.seats.get_mut(slot as usize) {
            Some(place @ None) => *place = Some(seat),
            _ => return self.hand_back(Event::Removed { slot, seat }),
        }
        self.legs += 1;
        let Some(seat) = self.seats.get(slot as usize).and_then(Option::as_deref) else { return };
        let (key, port) = (u64::from(slot) << 1, &seat.sockets.port);
        let added = [port.rtp(), port.rtcp()]
            .into_iter()
            .flatten()
            .zip([key, key | 1])
            .all(|(socket, key)| self.poller.add(socket.as_raw_fd(), key).is_ok());
        let Some(seat) = self.seat(slot).filter(|_| added) else {
            if let Some(seat) = self.unseat(slot) {
                self.hand_back(Event::Removed { slot, seat });
            }
            return;
        };
        let wake = seat.leg.next_wake(now);
        self.wheel.schedule(slot, wake);
    }

    fn close(&mut self, now: Instant, slot: u32) {
        let parted = self.part(now, slot);
        let Some(seat) = self.seats.get_mut(slot as usize).and_then(Option::as_deref_mut) else { return };
        seat.parted = parted;
        seat.leg.close(now, &mut self.scratch, &mut seat.sockets);
        let Some(seat) = self.unseat(slot) else { return };
        // A recording is complete once all its legs are gone.
        self.wake_async |= seat.leg.is_recorded();
        self.hand_back(Event::Removed { slot, seat });
    }

    /// Takes a leg off its sockets, its timer and its room.
    fn take_seat(&mut self, now: Instant, slot: u32) -> Option<Box<Seat>> {
        let parted = self.part(now, slot);
        let mut seat = self.unseat(slot)?;
        seat.parted = parted.or(seat.parted);
        Some(seat)
    }

    /// The same of a leg that is in no room any more.
    fn unseat(&mut self, slot: u32) -> Option<Box<Seat>> {
        let seat = self.seats.get_mut(slot as usize).and_then(Option::take)?;
        self.legs -= 1;
        self.wheel.cancel(slot);
        for socket in [seat.sockets.port.rtp(), seat.sockets.port.rtcp()].into_iter().flatten() {
            self.poller.remove(socket.as_raw_fd());
        }
        Some(seat)
    }

    fn seat(&mut self, slot: u32) -> Option<&mut Seat> {
        self.seats.get_mut(slot as usize)?.as_deref_mut()
    }

    /// Puts something among the events that is done with here. The async side looks for such things from time to time: it is not woken to
    /// drop them, unless somebody waits for it.
    fn hand_back(&mut self, event: Event) {
        if let Err(event) = self.events.try_push(event) {
            // Cannot happen while the room for it is kept; leaking is better than freeing here.
            self.link.counters.events_dropped.add(1);
            std::mem::forget(event);
        }
    }

    fn account(&mut self, started: Instant) {
        let took = started.elapsed();
        let counters = &self.link.counters;
        counters.rounds.add(1);
        if took > OVERRUN {
            counters.overruns.add(1);
        }
        let took_us = took.as_micros() as u64;
        if took_us > counters.longest_round_us.load() {
            counters.longest_round_us.set(took_us);
        }
    }
}

/// However a worker ends, by its command or by a fault of ours that unwinds its thread, its legs' ports learn of it.
impl Drop for Worker {
    fn drop(&mut self) {
        // Full only with wake-ups, which the async side takes any moment; then the ports find out when they write.
        let _ = self.events.try_push(Event::Stopped);
        self.link.event_fd.signal();
    }
}

/// Puts a wake-up for the leg's port among the events, unless one is under way.
fn announce(seat: &mut Seat, slot: u32, events: &mut HeapProd<Event>, counters: &WorkerCounters) -> bool {
    let port = seat.leg.take_ready().then_some(Event::Ready { slot });
    let connector = seat.leg.take_handshake_ready().then_some(Event::Handshake { slot });
    let mut any = false;
    for event in port.into_iter().chain(connector) {
        any = true;
        if events.try_push(event).is_err() {
            counters.events_dropped.add(1);
        }
    }
    any
}
