//! The system calls that the standard library has no face for: epoll and eventfd.
//!
//! The only unsafe code of this package. Every call is non-blocking but [`Poller::wait`].
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Events that one [`Poller::wait`] takes at most.
pub(crate) const EVENTS_PER_WAIT: usize = 512;

/// A level-triggered epoll instance for reading, with room for its events.
pub(crate) struct Poller {
    epoll: OwnedFd,
    events: Box<[libc::epoll_event]>,
    filled: usize,
}

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: takes no pointer; the result is checked before it becomes an owned descriptor.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: `fd` was just made and belongs to nobody else.
        let epoll = unsafe { OwnedFd::from_raw_fd(fd) };
        let events = vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS_PER_WAIT].into_boxed_slice();
        Ok(Poller { epoll, events, filled: 0 })
    }

    /// Reports `fd` as `key` whenever it can be read.
    pub(crate) fn add(&self, fd: RawFd, key: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: key };
        // SAFETY: `event` lives through the call, which only reads it.
        check(unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &mut event) }).map(drop)
    }

    /// Reports `fd` no longer. Needed before the descriptor is handed to another thread to be closed.
    pub(crate) fn remove(&self, fd: RawFd) {
        // SAFETY: the event pointer may be null for EPOLL_CTL_DEL since Linux 2.6.9.
        let _ = unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), libc::EPOLL_CTL_DEL, fd, std::ptr::null_mut()) };
    }

    /// Waits up to `timeout_ms` (-1: for ever, 0: not at all) and returns how many descriptors can be read.
    pub(crate) fn wait(&mut self, timeout_ms: i32) -> usize {
        let room = self.events.len() as i32;
        // SAFETY: the kernel writes at most `room` events to a buffer of that many.
        let n = unsafe { libc::epoll_wait(self.epoll.as_raw_fd(), self.events.as_mut_ptr(), room, timeout_ms) };
        // An error can only be EINTR here: nothing is ready then.
        self.filled = usize::try_from(n).unwrap_or(0);
        self.filled
    }

    /// The key of the `index`-th descriptor that the last wait found.
    pub(crate) fn key(&self, index: usize) -> Option<u64> {
        self.events.get(..self.filled)?.get(index).map(|event| event.u64)
    }
}

/// A counter in the kernel that wakes whoever waits for it.
#[derive(Debug)]
pub(crate) struct EventFd(OwnedFd);

impl EventFd {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: takes no pointer; the result is checked before it becomes an owned descriptor.
        let fd = check(unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) })?;
        // SAFETY: `fd` was just made and belongs to nobody else.
        Ok(EventFd(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Wakes the other side; never blocks. A counter that is full wakes it just the same.
    pub(crate) fn signal(&self) {
        let one: u64 = 1;
        // SAFETY: reads eight bytes from `one`, which lives through the call.
        let _ = unsafe { libc::write(self.0.as_raw_fd(), (&raw const one).cast(), 8) };
    }

    /// Takes back all signals so far; whether there was one.
    pub(crate) fn clear(&self) -> bool {
        let mut count: u64 = 0;
        // SAFETY: writes eight bytes to `count`, which lives through the call.
        let n = unsafe { libc::read(self.0.as_raw_fd(), (&raw mut count).cast(), 8) };
        n == 8
    }

    /// The same counter, to be waited for in the present tokio runtime.
    pub(crate) fn watch(&self) -> io::Result<AsyncFd<OwnedFd>> {
        let fd = self.0.try_clone()?;
        // SAFETY: an `OwnedFd` is an open descriptor until it is dropped, and is always the same one.
        let watched = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
        watched.map_err(io::Error::from)
    }
}

impl AsRawFd for EventFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Has this thread run before ordinary ones; whether the system allows it.
pub(crate) fn run_in_real_time() -> bool {
    let param = libc::sched_param { sched_priority: 1 };
    // SAFETY: 0 is the calling thread; `param` lives through the call, which only reads it.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &param) == 0 }
}

/// Lets this process open `descriptors` more files, as far as the system's hard limit goes.
pub(crate) fn raise_file_limit(descriptors: u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls take a pointer to a struct that lives through them.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 && limit.rlim_cur < descriptors {
            limit.rlim_cur = limit.rlim_max.min(descriptors);
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    }
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn reports_a_signalled_event_until_it_is_cleared() {
        let mut poller = Poller::new().unwrap();
        let event = EventFd::new().unwrap();
        poller.add(event.as_raw_fd(), 7).unwrap();
        assert_eq!(poller.wait(0), 0);
        event.signal();
        event.signal();
        assert_eq!(poller.wait(0), 1);
        assert_eq!(poller.key(0), Some(7));
        assert_eq!(poller.key(1), None);
        assert!(event.clear());
        assert!(!event.clear());
        assert_eq!(poller.wait(0), 0);
        event.signal();
        poller.remove(event.as_raw_fd());
        assert_eq!(poller.wait(0), 0);
    }
}
