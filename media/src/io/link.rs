//! The async side of a worker: commands to it, wake-ups from it. Locks are taken here, on the async side, and only here.
//!
//! Commands go through one ring with the worker as its only consumer; the async producers take turns by a lock that the
//! worker never sees. Events come through another ring, announced by an eventfd that one task waits for; what the worker only hands back to be
//! dropped is not announced, and waits for the next look.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use codecs::pcm::SampleRate;
use ringbuf::traits::{Consumer, Producer};
use ringbuf::{HeapCons, HeapProd};
use tokio::io::unix::AsyncFd;

use super::digging::Digging;
use super::record::{Fate, RecordSink, Recording};
use super::sys::EventFd;
use super::worker::{Command, Event, RoomCommand, Seat, Spent, WorkerCounters};
use crate::config::{LegConfig, MAX_LEGS_PER_WORKER, MAX_ROOMS_PER_WORKER};
use crate::connect::Tunnel;
use crate::error::MediaError;
use crate::leg::{GuardChange, Joined, Music, Retune};
use crate::port::Shared;

/// What a worker has handed back is dropped within this: ports are free again, and rooms.
const DROPPED_WITHIN: Duration = Duration::from_millis(100);

/// One of an engine's workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WorkerId(pub(super) usize);

/// What the async side holds of one worker.
pub(crate) struct WorkerLink {
    commands: Mutex<CommandQueue>,
    table: Mutex<Table>,
    /// Signalled by the async side: there are commands.
    pub(super) command_fd: EventFd,
    /// Signalled by the worker: there are events.
    pub(super) event_fd: EventFd,
    pub(super) counters: WorkerCounters,
    id: WorkerId,
    legs: AtomicUsize,
    stopped: AtomicBool,
    /// There are commands in the backlog.
    backlogged: AtomicBool,
    /// The worker was told that there are commands, and has not begun to look.
    told: AtomicBool,
}

struct CommandQueue {
    ring: HeapProd<Command>,
    /// Commands that found the ring full; moved on as soon as the worker has taken some. Bounded by what legs and
    /// their ports can have under way: nothing from the network comes here.
    backlog: VecDeque<Command>,
}

/// Who sits where, as the async side needs it.
struct Table {
    wakers: Vec<Option<Arc<LegCell>>>,
    free: Vec<u32>,
    rooms: u32,
    free_rooms: Vec<u32>,
}

/// How a leg is without a way to its peer.
pub(crate) enum Disconnected {
    /// There never was one, for this reason.
    Failed(String),
    /// There was one.
    Lost,
}

/// The async side's part of a leg.
pub(crate) struct LegCell {
    waker: Mutex<Option<Waker>>,
    /// Of the task that connects the leg.
    connector: Mutex<Option<Waker>>,
    disconnected: Mutex<Option<Disconnected>>,
    place: Mutex<Place>,
    shared: Arc<Shared>,
    /// What becomes of the recording that the leg is in.
    recording: Mutex<Option<Arc<Fate>>>,
}

/// Where a leg is.
enum Place {
    /// On this worker.
    At(Arc<WorkerLink>, u32),
    /// On its way to this one: commands wait for it.
    Moving { to: Arc<WorkerLink>, slot: u32, waiting: Vec<SlotCommand> },
}

/// A command to whatever slot the leg will have.
type SlotCommand = Box<dyn FnOnce(u32) -> Command + Send>;

impl LegCell {
    /// Is told from here on what becomes of this recording.
    fn follow(self: &Arc<Self>, recording: Option<&Recording>) {
        if let Some(recording) = recording {
            recording.fate().concerns(self);
        }
        *lock(&self.recording) = recording.map(|recording| Arc::clone(recording.fate()));
    }

    fn wake_connector(&self) {
        let waker = lock(&self.connector).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(super) fn wake(&self) {
        let waker = lock(&self.waker).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl WorkerLink {
    pub(super) fn new(id: WorkerId, commands: HeapProd<Command>) -> std::io::Result<Self> {
        Ok(WorkerLink {
            commands: Mutex::new(CommandQueue { ring: commands, backlog: VecDeque::new() }),
            table: Mutex::new(Table { wakers: Vec::new(), free: Vec::new(), rooms: 0, free_rooms: Vec::new() }),
            command_fd: EventFd::new()?,
            event_fd: EventFd::new()?,
            counters: WorkerCounters::default(),
            id,
            legs: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
            backlogged: AtomicBool::new(false),
            told: AtomicBool::new(false),
        })
    }

    /// Whether the worker takes no more legs.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Legs that the worker has or is about to have.
    pub(super) fn legs(&self) -> usize {
        self.legs.load(Ordering::Relaxed)
    }

    /// Gives a leg a place and hands it to the worker.
    pub(super) fn open(
        self: &Arc<Self>,
        seat: Box<Seat>,
        shared: Arc<Shared>,
        recording: Option<&Recording>,
    ) -> Result<LegHandle, MediaError> {
        if self.is_stopped() {
            return Err(MediaError::Closed);
        }
        let slot = self.take_slot()?;
        let place = Mutex::new(Place::At(Arc::clone(self), slot));
        let cell = Arc::new(LegCell {
            waker: Mutex::new(None),
            connector: Mutex::new(None),
            disconnected: Mutex::new(None),
            place,
            shared,
            recording: Mutex::new(None),
        });
        cell.follow(recording);
        self.seat(slot, &cell);
        self.send(Command::Open { slot, seat });
        Ok(LegHandle { cell })
    }

    /// A place for a leg.
    fn take_slot(&self) -> Result<u32, MediaError> {
        let slot = {
            let mut table = lock(&self.table);
            match table.free.pop() {
                Some(slot) => slot,
                None if table.wakers.len() < MAX_LEGS_PER_WORKER => {
                    table.wakers.push(None);
                    table.wakers.len() as u32 - 1
                }
                None => return Err(MediaError::Full { legs: table.wakers.len() }),
            }
        };
        if self.legs.fetch_add(1, Ordering::Relaxed) == 0 {
            self.expect_something();
        }
        Ok(slot)
    }

    /// From here on the worker has something to hand back some day: looks are taken for it.
    fn expect_something(&self) {
        self.event_fd.signal();
    }

    /// Whether there are more commands than the worker has seen.
    pub(super) fn has_backlog(&self) -> bool {
        self.backlogged.load(Ordering::Acquire)
    }

    fn seat(&self, slot: u32, cell: &Arc<LegCell>) {
        if let Some(place) = lock(&self.table).wakers.get_mut(slot as usize) {
            *place = Some(Arc::clone(cell));
        }
    }

    /// A leg has left this worker, for the one that it is on its way to.
    fn lifted(&self, slot: u32, mut seat: Box<Seat>) {
        seat.parted = None;
        let Some(cell) = self.free(slot) else { return };
        let mut place = lock(&cell.place);
        let Place::Moving { to, slot, waiting } = &mut *place else { return };
        let (to, slot) = (Arc::clone(to), *slot);
        to.send(Command::Open { slot, seat });
        for command in waiting.drain(..) {
            to.send(command(slot));
        }
        *place = Place::At(to, slot);
    }

    /// Takes whoever has this slot out of it.
    fn free(&self, slot: u32) -> Option<Arc<LegCell>> {
        let mut table = lock(&self.table);
        let cell = table.wakers.get_mut(slot as usize).and_then(Option::take)?;
        table.free.push(slot);
        drop(table);
        self.legs.fetch_sub(1, Ordering::Relaxed);
        Some(cell)
    }

    /// A place for a room.
    pub(super) fn take_room(&self) -> Result<u32, MediaError> {
        if self.is_stopped() {
            return Err(MediaError::Closed);
        }
        let mut table = lock(&self.table);
        if table.rooms as usize == table.free_rooms.len() {
            self.expect_something();
        }
        if let Some(room) = table.free_rooms.pop() {
            return Ok(room);
        }
        if table.rooms as usize >= MAX_ROOMS_PER_WORKER {
            return Err(MediaError::Room("the media worker has as many rooms as it may"));
        }
        table.rooms += 1;
        Ok(table.rooms - 1)
    }

    /// Rooms that are open.
    pub(super) fn rooms(&self) -> usize {
        let table = lock(&self.table);
        table.rooms as usize - table.free_rooms.len()
    }

    pub(super) fn send_room(&self, command: RoomCommand) {
        self.send(Command::Room(command));
    }

    /// Tells the worker to say goodbye for all its legs and to end.
    pub(super) fn stop(&self) {
        if !self.stopped.swap(true, Ordering::AcqRel) {
            self.send(Command::Stop);
        }
    }

    fn send(&self, command: Command) {
        self.queue(command);
        self.tell();
    }

    /// Puts a command where the worker finds it at its next round, which comes within [`LOOKED_WITHIN`](super::worker::LOOKED_WITHIN) while
    /// it has a leg.
    fn queue(&self, command: Command) {
        let mut queue = lock(&self.commands);
        if queue.backlog.is_empty() {
            if let Err(command) = queue.ring.try_push(command) {
                queue.backlog.push_back(command);
                self.backlogged.store(true, Ordering::Release);
            }
        } else {
            queue.backlog.push_back(command);
        }
    }

    /// Has the worker look for commands now. Whoever finds it told already spares the call: it has not begun to look, so it will find theirs.
    fn tell(&self) {
        if !self.told.swap(true, Ordering::AcqRel) {
            self.command_fd.signal();
        }
    }

    /// The worker begins to look: for what comes from here on it is told again.
    pub(super) fn looks(&self) {
        self.command_fd.clear();
        self.told.swap(false, Ordering::AcqRel);
    }

    fn move_backlog(&self) {
        let mut queue = lock(&self.commands);
        let mut moved = false;
        while let Some(command) = queue.backlog.pop_front() {
            if let Err(command) = queue.ring.try_push(command) {
                queue.backlog.push_front(command);
                break;
            }
            moved = true;
        }
        self.backlogged.store(!queue.backlog.is_empty(), Ordering::Release);
        drop(queue);
        if moved {
            self.tell();
        }
    }

    fn cell(&self, slot: u32) -> Option<Arc<LegCell>> {
        lock(&self.table).wakers.get(slot as usize).and_then(Clone::clone)
    }

    fn vacate(&self, slot: u32) {
        let Some(cell) = self.free(slot) else { return };
        let bound_for = match &*lock(&cell.place) {
            Place::Moving { to, slot, .. } => Some((Arc::clone(to), *slot)),
            Place::At(..) => None,
        };
        if let Some((to, slot)) = bound_for {
            to.free(slot);
        }
        cell.shared.closed.store(true, Ordering::Release);
        cell.wake();
        cell.wake_connector();
    }

    /// No event follows for anybody.
    fn vacate_all(&self) {
        let slots = lock(&self.table).wakers.len() as u32;
        (0..slots).for_each(|slot| self.vacate(slot));
    }
}

/// A leg as its port reaches it.
#[derive(Clone)]
pub(crate) struct LegHandle {
    cell: Arc<LegCell>,
}

impl LegHandle {
    /// Who is to be woken when there is something.
    pub(crate) fn register(&self, waker: &Waker) {
        let mut held = lock(&self.cell.waker);
        match &mut *held {
            Some(same) if same.will_wake(waker) => {}
            other => *other = Some(waker.clone()),
        }
    }

    pub(crate) fn update(
        &self,
        old: &LegConfig,
        new: &LegConfig,
        rate: SampleRate,
        plays: bool,
    ) -> Result<(), MediaError> {
        if self.cell.shared.closed.load(Ordering::Acquire) {
            return Err(MediaError::Closed);
        }
        let retune = Box::new(Retune::new(Instant::now(), old, new, rate, plays)?);
        self.send(move |slot| Command::Retune { slot, retune });
        Ok(())
    }

    pub(crate) fn send_digit(&self, digit: char, duration_ms: u16) -> Result<(), MediaError> {
        if self.cell.shared.closed.load(Ordering::Acquire) {
            return Err(MediaError::Closed);
        }
        self.send(move |slot| Command::Digit { slot, digit, duration_ms });
        Ok(())
    }

    fn send(&self, command: impl FnOnce(u32) -> Command + Send + 'static) {
        match &mut *lock(&self.cell.place) {
            Place::At(link, slot) => link.send(command(*slot)),
            Place::Moving { waiting, .. } => waiting.push(Box::new(command)),
        }
    }

    /// Moves the leg to this worker, where it is not there already. What is sent to it meanwhile reaches it there.
    pub(super) fn move_to(&self, to: &Arc<WorkerLink>) -> Result<(), MediaError> {
        let mut place = lock(&self.cell.place);
        let (from, old) = match &*place {
            Place::At(link, slot) => (Arc::clone(link), *slot),
            Place::Moving { to: bound_for, .. } if Arc::ptr_eq(bound_for, to) => return Ok(()),
            Place::Moving { .. } => return Err(MediaError::Room("the leg is on its way to another worker")),
        };
        if Arc::ptr_eq(&from, to) {
            return Ok(());
        }
        if to.is_stopped() || self.cell.shared.closed.load(Ordering::Acquire) {
            return Err(MediaError::Closed);
        }
        let slot = to.take_slot()?;
        to.seat(slot, &self.cell);
        *place = Place::Moving { to: Arc::clone(to), slot, waiting: Vec::new() };
        from.send(Command::Lift { slot: old });
        Ok(())
    }

    pub(crate) fn worker(&self) -> WorkerId {
        match &*lock(&self.cell.place) {
            Place::At(link, _) | Place::Moving { to: link, .. } => link.id,
        }
    }

    pub(crate) fn join(&self, joined: Box<Joined>) {
        self.send(move |slot| Command::Room(RoomCommand::Join { slot, joined }));
    }

    pub(crate) fn leave(&self) {
        self.send(|slot| Command::Room(RoomCommand::Leave { slot }));
    }

    pub(crate) fn play(&self, music: Option<Box<Music>>) {
        self.send(move |slot| Command::Room(RoomCommand::Music { slot, music }));
    }

    pub(crate) fn tap(&self, tapped: bool) {
        self.send(move |slot| Command::Room(RoomCommand::Tap { slot, tapped }));
    }

    pub(crate) fn pause_recording(&self, paused: bool) {
        self.send(move |slot| Command::Room(RoomCommand::PauseRecording { slot, paused }));
    }

    /// Puts the leg into a recording, out of the one that it is in.
    pub(crate) fn record(&self, into: Option<(&Recording, Box<RecordSink>)>) {
        self.cell.follow(into.as_ref().map(|(recording, _)| *recording));
        let sink = into.map(|(_, sink)| sink);
        self.send(move |slot| Command::Room(RoomCommand::Record { slot, sink }));
    }

    /// Changes how packets are protected, or where they go.
    pub(super) fn secure(&self, change: GuardChange) {
        let change = Box::new(change);
        self.send(move |slot| Command::Secure { slot, change });
    }

    /// Changes what TURN servers do for the leg's sound.
    pub(crate) fn tunnel(&self, tunnel: Tunnel) {
        let tunnel = Box::new(Digging::new(tunnel));
        self.send(move |slot| Command::Tunnel { slot, tunnel });
    }

    /// Who is to be woken when there is STUN or DTLS. What comes from here on wakes.
    pub(super) fn register_connector(&self, waker: &Waker) {
        *lock(&self.cell.connector) = Some(waker.clone());
        self.cell.shared.handshake_ready.swap(false, Ordering::AcqRel);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.cell.shared.closed.load(Ordering::Acquire)
    }

    /// There is no way to the peer.
    pub(super) fn disconnected(&self, how: Disconnected) {
        *lock(&self.cell.disconnected) = Some(how);
        self.cell.wake();
    }

    /// Why there is no way to the peer, once.
    pub(crate) fn disconnection(&self) -> Option<Disconnected> {
        lock(&self.cell.disconnected).take()
    }

    /// Why the recording broke off, once.
    pub(crate) fn recording_failure(&self) -> Option<String> {
        lock(&self.cell.recording).as_ref()?.take()
    }

    pub(crate) fn close(&self) {
        if self.cell.shared.closed.load(Ordering::Acquire) {
            return;
        }
        match &mut *lock(&self.cell.place) {
            // Nobody waits for it: where calls come and go, the worker is not woken for their ends too.
            Place::At(link, slot) => link.queue(Command::Close { slot: *slot }),
            Place::Moving { waiting, .. } => waiting.push(Box::new(|slot| Command::Close { slot })),
        }
    }
}

impl std::fmt::Debug for LegHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LegHandle").field("worker", &self.worker()).finish()
    }
}

/// Waits for the worker's events, wakes legs' tasks and drops what the worker hands back. Ends with the worker.
pub(super) async fn dispatch(link: Arc<WorkerLink>, mut events: HeapCons<Event>, fd: AsyncFd<std::os::fd::OwnedFd>) {
    loop {
        let look = async {
            match link.legs() > 0 || link.rooms() > 0 {
                true => tokio::time::sleep(DROPPED_WITHIN).await,
                false => std::future::pending().await,
            }
        };
        tokio::select! {
            ready = fd.readable() => {
                let Ok(mut ready) = ready else { break };
                link.event_fd.clear();
                ready.clear_ready();
            }
            () = look => {}
        }
        while let Some(event) = events.try_pop() {
            match event {
                Event::Ready { slot } => {
                    if let Some(cell) = link.cell(slot) {
                        cell.wake();
                    }
                }
                Event::Handshake { slot } => {
                    if let Some(cell) = link.cell(slot) {
                        cell.wake_connector();
                    }
                }
                Event::Secured { change } => drop(change),
                Event::Tunnelled { tunnel } => drop(tunnel),
                Event::Lifted { slot, seat } => link.lifted(slot, seat),
                Event::Removed { slot, seat } => {
                    drop(seat);
                    link.vacate(slot);
                }
                Event::Retuned { retune } => drop(retune),
                Event::Spent(Spent::Room(room, mixer)) => {
                    drop(mixer);
                    lock(&link.table).free_rooms.push(room);
                }
                Event::Spent(Spent::Joined(place)) => drop(place),
                Event::Spent(Spent::Music(music)) => drop(music),
                Event::Spent(Spent::Sink(sink)) => drop(sink),
                Event::Stopped => {
                    link.stopped.store(true, Ordering::Release);
                    link.vacate_all();
                    return;
                }
            }
        }
        link.move_backlog();
    }
    link.vacate_all();
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
