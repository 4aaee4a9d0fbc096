//! The engine as the rest of the program sees it: worker threads, ports, and legs opened on them.
//!
//! The only part of this package that knows sockets, threads and tokio.

mod bridge;
pub(crate) mod connector;
mod digging;
pub mod gather;
pub(crate) mod link;
mod ports;
pub mod record;
mod room;
mod socket;
mod sys;
mod wheel;
#[doc(hidden)]
pub mod worker;

use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Instant, SystemTime};

use codecs::pcm::SampleRate;
use ringbuf::HeapRb;
use ringbuf::traits::Split;

pub use self::bridge::TurnOver;
use self::connector::Wiring;
pub use self::gather::{IceServer, ServerFault};
pub use self::link::WorkerId;
use self::link::WorkerLink;
pub(crate) use self::link::{Disconnected, LegHandle};
use self::ports::PortPool;
pub use self::ports::ReservedPort;
use self::record::{Recorder, Recording};
pub(crate) use self::room::Membership;
pub use self::room::Room;
use self::worker::{COMMAND_RING, EVENT_RING, Seat, Sockets, Worker};
use crate::config::{LegConfig, MediaConfig, Recorded, RecorderConfig};
use crate::connect::Identity;
use crate::error::MediaError;
use crate::leg::Leg;
use crate::port::LegPort;

/// The media engine. Clones share it; it ends with [`Media::shutdown`] or with the last clone.
#[derive(Clone)]
pub struct Media {
    inner: Arc<Inner>,
}

struct Inner {
    links: Vec<Arc<WorkerLink>>,
    ports: Arc<PortPool>,
    /// Where legs are connected.
    runtime: tokio::runtime::Handle,
    /// Our certificate, made when it is first asked for.
    identity: OnceLock<Arc<Identity>>,
    recorder: Arc<Recorder>,
    /// Whom legs ask for addresses.
    servers: Mutex<gather::Servers>,
}

/// Figures of all workers together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WorkerStats {
    /// Worker threads.
    pub workers: usize,
    /// Legs open now.
    pub legs: usize,
    /// Rooms open now.
    pub rooms: usize,
    /// Port pairs in use now, those of reserved ports that have no leg yet too.
    pub ports_in_use: usize,
    /// Workers that the system lets run before ordinary threads.
    pub real_time: usize,
    /// Rounds run.
    pub rounds: u64,
    /// Rounds that took longer than 5 ms.
    pub overruns: u64,
    /// The longest round, in microseconds.
    pub longest_round_us: u64,
    /// Datagrams taken from sockets.
    pub datagrams: u64,
    /// Packets passed on from one leg to another as they came.
    pub relayed: u64,
    /// Events that found their ring full.
    pub events_dropped: u64,
    /// Rounds that ended by a fault of this program: what they were at work for was taken out.
    pub faults: u64,
}

impl Media {
    /// Starts the worker threads.
    ///
    /// # Errors
    /// Called outside a tokio runtime, a port range without a pair, or a system out of threads or descriptors.
    pub fn start(config: MediaConfig) -> Result<Media, MediaError> {
        let (real_time, cpus) = (config.real_time, config.cpus.clone());
        if let Some(cpu) = cpus.iter().copied().find(|cpu| !sys::may_use(*cpu)) {
            return Err(MediaError::Cpu { cpu });
        }
        let (media, workers) = Media::by_hand(config)?;
        for (index, worker) in workers.into_iter().enumerate() {
            let cpu = index.checked_rem(cpus.len()).and_then(|at| cpus.get(at)).copied();
            std::thread::Builder::new()
                .name(format!("media-{index}"))
                .spawn(move || worker.run(real_time, cpu))
                .map_err(|source| MediaError::System { what: "cannot start a media thread", source })?;
        }
        Ok(media)
    }

    /// An engine whose workers the caller runs, round by round: for tests and benches.
    ///
    /// # Errors
    /// As [`Media::start`].
    #[doc(hidden)]
    pub fn by_hand(config: MediaConfig) -> Result<(Media, Vec<Worker>), MediaError> {
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| MediaError::NoRuntime)?;
        let system = |what| move |source| MediaError::System { what, source };
        let ports = Arc::new(PortPool::new(config.bind, config.ports.clone(), config.port_rest)?);
        // Two sockets a call; more than the usual soft limit of 1,024 files is normal for a server.
        sys::raise_file_limit(ports.pairs() as u64 * 2 + 1_024);
        let (mut links, mut workers) = (Vec::new(), Vec::new());
        for id in 0..config.workers.max(1) {
            let (commands_in, commands_out) = HeapRb::new(COMMAND_RING).split();
            let (events_in, events_out) = HeapRb::new(EVENT_RING).split();
            let link = Arc::new(WorkerLink::new(WorkerId(id), commands_in).map_err(system("cannot make an eventfd"))?);
            let fd = link.event_fd.watch().map_err(system("cannot watch an eventfd"))?;
            let worker = Worker::new(Arc::clone(&link), commands_out, events_in, config.round_spacing)
                .map_err(system("cannot set up epoll"))?;
            runtime.spawn(link::dispatch(Arc::clone(&link), events_out, fd));
            links.push(link);
            workers.push(worker);
        }
        let recorder = Recorder::new(config.workers);
        let servers = Mutex::default();
        let inner = Inner { links, ports, runtime, identity: OnceLock::new(), servers, recorder };
        Ok((Media { inner: Arc::new(inner) }, workers))
    }

    /// Binds an RTP and an RTCP socket, for an offer or answer to name.
    ///
    /// # Errors
    /// [`MediaError::PortsExhausted`] says what holds the ports; [`MediaError::Bind`] where the address is wrong.
    pub fn reserve(&self) -> Result<ReservedPort, MediaError> {
        self.inner.ports.reserve(Instant::now())
    }

    /// Makes a leg on a reserved port and hands it to the worker that has the fewest.
    ///
    /// # Errors
    /// A codec that cannot be set up, a configuration that contradicts itself, full workers, an engine shut down.
    pub fn open(&self, port: ReservedPort, config: LegConfig) -> Result<LegPort, MediaError> {
        let running = self.inner.links.iter().filter(|link| !link.is_stopped());
        let link = running.min_by_key(|link| link.legs()).ok_or(MediaError::Closed)?;
        self.open_on(link, port, config)
    }

    /// The same on this worker: legs that are to be in one room do not have to move then.
    ///
    /// # Errors
    /// As [`Media::open`].
    pub fn open_near(&self, worker: WorkerId, port: ReservedPort, config: LegConfig) -> Result<LegPort, MediaError> {
        self.open_on(self.link(worker)?, port, config)
    }

    /// Opens a room of 2 to 32 places on this worker, mixed at `rate`: the highest of its members' rates loses
    /// nothing.
    ///
    /// # Errors
    /// [`MediaError::Room`] where the worker has no place for it or it could not be; [`MediaError::Closed`].
    pub fn room(&self, worker: WorkerId, rate: SampleRate, places: usize) -> Result<Room, MediaError> {
        Room::open(self.link(worker)?, rate, places)
    }

    /// A recording that is about to be made: it begins with the first leg in it ([`LegConfig::record`],
    /// [`LegPort::record`](crate::port::LegPort::record)) and is complete when this and all its legs have gone.
    #[must_use]
    pub fn recording(&self, config: RecorderConfig) -> Recording {
        self.inner.recorder.open(config, |_| ())
    }

    fn link(&self, worker: WorkerId) -> Result<&Arc<WorkerLink>, MediaError> {
        self.inner.links.get(worker.0).filter(|link| !link.is_stopped()).ok_or(MediaError::Closed)
    }

    fn open_on(
        &self,
        link: &Arc<WorkerLink>,
        mut port: ReservedPort,
        config: LegConfig,
    ) -> Result<LegPort, MediaError> {
        let now = Instant::now();
        let sink = |to: &Recorded| to.recording.sink(config.codec.audio_rate, now, to.peer).map(Box::new);
        let record = config.record.as_ref().map(sink).transpose()?;
        let (leg, ends, rate) = Leg::new(&config, now, SystemTime::now(), record)?;
        port.drain();
        let sockets = port.pair().ok_or(MediaError::Closed)?;
        let held = port.gathered.held.take();
        let seat = Box::new(Seat {
            leg,
            parted: None,
            sockets: Sockets { port, last_round: 0, local: config.local, digging: None },
        });
        let shared = Arc::clone(&ends.shared);
        let handle = link.open(seat, shared, config.record.as_ref().map(|to| &to.recording))?;
        let wiring = Wiring { sockets, runtime: self.inner.runtime.clone(), held };
        LegPort::new(ends, handle, config, (rate, now), wiring)
    }

    /// The certificate that legs show to their peers (DTLS-SRTP): one for the engine's life.
    ///
    /// # Errors
    /// [`MediaError::Connect`].
    pub fn identity(&self) -> Result<Arc<Identity>, MediaError> {
        if let Some(identity) = self.inner.identity.get() {
            return Ok(Arc::clone(identity));
        }
        let made = Arc::new(Identity::generate()?);
        Ok(Arc::clone(self.inner.identity.get_or_init(|| made)))
    }

    /// Figures as of now.
    #[must_use]
    pub fn stats(&self) -> WorkerStats {
        let mut stats = WorkerStats { ports_in_use: self.inner.ports.in_use(), ..WorkerStats::default() };
        for link in &self.inner.links {
            let counters = &link.counters;
            stats.workers += 1;
            stats.legs += link.legs();
            stats.rooms += link.rooms();
            stats.real_time += counters.real_time.load() as usize;
            stats.rounds += counters.rounds.load();
            stats.overruns += counters.overruns.load();
            stats.longest_round_us = stats.longest_round_us.max(counters.longest_round_us.load());
            stats.datagrams += counters.datagrams.load();
            stats.relayed += counters.relayed.load();
            stats.events_dropped += counters.events_dropped.load();
            stats.faults += counters.faults.load();
        }
        stats
    }

    /// Ends all legs (RTCP BYE is sent for each) and the worker threads. Ports then tell
    /// [`LegEvent::Closed`](crate::port::LegEvent::Closed).
    pub fn shutdown(&self) {
        self.inner.links.iter().for_each(|link| link.stop());
    }
}

impl std::fmt::Debug for Media {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Media").field("stats", &self.stats()).finish()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.links.iter().for_each(|link| link.stop());
    }
}
