//! The system calls that the standard library has no face for: epoll, eventfd, and datagrams with our own address.
//!
//! The only unsafe code of this package. Every call is non-blocking but [`Poller::wait`].
#![allow(unsafe_code)]

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
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

/// Has this thread run on this processor alone; whether the system allows it.
pub(crate) fn stay_on(cpu: usize) -> bool {
    // SAFETY: all-zero is an empty set. `CPU_SET` writes within it, which the check before it ascertains; 0 is the calling thread, and the
    // set lives through the call, which only reads it.
    unsafe {
        let mut set: libc::cpu_set_t = zeroed();
        if cpu >= libc::CPU_SETSIZE as usize {
            return false;
        }
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set) == 0
    }
}

/// Whether the system lets this thread run on this processor.
pub(crate) fn may_use(cpu: usize) -> bool {
    // SAFETY: all-zero is an empty set, which the call fills; `CPU_ISSET` reads within it, which the check before it ascertains.
    unsafe {
        let mut set: libc::cpu_set_t = zeroed();
        cpu < libc::CPU_SETSIZE as usize
            && libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) == 0
            && libc::CPU_ISSET(cpu, &set)
    }
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

/// Room for `IP_PKTINFO` or `IPV6_PKTINFO` with its header.
const CONTROL_WORDS: usize = 8;

/// Asks for the destination address of each datagram.
pub(crate) fn tell_addresses(fd: RawFd, is_ipv6: bool) -> io::Result<()> {
    let (level, name) = match is_ipv6 {
        true => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
        false => (libc::IPPROTO_IP, libc::IP_PKTINFO),
    };
    let on: libc::c_int = 1;
    let size = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the option's value is one int, and pointer and length describe it.
    check(unsafe { libc::setsockopt(fd, level, name, (&raw const on).cast(), size) }).map(drop)
}

/// Sends a datagram by this address of ours, which is of the family of `to`.
pub(crate) fn send_from(fd: RawFd, datagram: &[u8], to: SocketAddr, from: IpAddr) -> io::Result<()> {
    // SAFETY: all-zero bytes are valid values of both.
    let (mut name, mut header): (libc::sockaddr_storage, libc::msghdr) = unsafe { (zeroed(), zeroed()) };
    let mut control = [0_u64; CONTROL_WORDS];
    let mut vector = libc::iovec { iov_base: datagram.as_ptr().cast_mut().cast(), iov_len: datagram.len() };
    header.msg_namelen = write_address(&mut name, to);
    header.msg_name = (&raw mut name).cast();
    header.msg_iov = &raw mut vector;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    // SAFETY: the macro computes a size. It is less than that of `control`.
    header.msg_controllen = unsafe {
        match from {
            IpAddr::V4(_) => libc::CMSG_SPACE(size_of::<libc::in_pktinfo>() as u32),
            IpAddr::V6(_) => libc::CMSG_SPACE(size_of::<libc::in6_pktinfo>() as u32),
        }
    } as _;
    // SAFETY: `header` describes `control`, which has room for the entry and is aligned for it, so the first entry is in it, and so is
    // its data.
    unsafe {
        let entry = libc::CMSG_FIRSTHDR(&raw const header);
        match from {
            IpAddr::V4(ip) => {
                let mut info: libc::in_pktinfo = zeroed();
                info.ipi_spec_dst.s_addr = u32::from_ne_bytes(ip.octets());
                (*entry).cmsg_level = libc::IPPROTO_IP;
                (*entry).cmsg_type = libc::IP_PKTINFO;
                (*entry).cmsg_len = libc::CMSG_LEN(size_of::<libc::in_pktinfo>() as u32) as _;
                std::ptr::write_unaligned(libc::CMSG_DATA(entry).cast(), info);
            }
            IpAddr::V6(ip) => {
                let mut info: libc::in6_pktinfo = zeroed();
                info.ipi6_addr.s6_addr = ip.octets();
                (*entry).cmsg_level = libc::IPPROTO_IPV6;
                (*entry).cmsg_type = libc::IPV6_PKTINFO;
                (*entry).cmsg_len = libc::CMSG_LEN(size_of::<libc::in6_pktinfo>() as u32) as _;
                std::ptr::write_unaligned(libc::CMSG_DATA(entry).cast(), info);
            }
        }
    }
    // SAFETY: `header` points to name, vector, control buffer and bytes that outlive the call, with their lengths; the bytes are only read.
    let sent = unsafe { libc::sendmsg(fd, &raw const header, libc::MSG_DONTWAIT) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Takes a datagram: its size, its sender, and the address that it was sent to, where that is told.
pub(crate) fn receive(fd: RawFd, into: &mut [u8]) -> io::Result<(usize, Option<SocketAddr>, Option<IpAddr>)> {
    // SAFETY: all-zero bytes are valid values of both.
    let (mut name, mut header): (libc::sockaddr_storage, libc::msghdr) = unsafe { (zeroed(), zeroed()) };
    let mut control = [0_u64; CONTROL_WORDS];
    let mut vector = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    header.msg_name = (&raw mut name).cast();
    header.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    header.msg_iov = &raw mut vector;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of::<[u64; CONTROL_WORDS]>() as _;
    // SAFETY: `header` points to name, vector, control buffer and bytes that outlive the call, with their lengths.
    let size = unsafe { libc::recvmsg(fd, &raw mut header, libc::MSG_DONTWAIT) };
    let size = usize::try_from(size).map_err(|_| io::Error::last_os_error())?;
    Ok((size, read_address(&name), destination(&header)))
}

/// The address that a datagram was sent to, as its control buffer has it.
fn destination(header: &libc::msghdr) -> Option<IpAddr> {
    // SAFETY: the header describes a control buffer that the kernel has filled; the macro reads no further than that, and answers null where
    // no whole entry fits.
    let entry = unsafe { libc::CMSG_FIRSTHDR(header) };
    if entry.is_null() {
        return None;
    }
    // SAFETY: not null, so it points to a whole entry, which is aligned; its data follows and is of the type that level and kind name.
    unsafe {
        match ((*entry).cmsg_level, (*entry).cmsg_type) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                let info: libc::in_pktinfo = std::ptr::read_unaligned(libc::CMSG_DATA(entry).cast());
                Some(IpAddr::V4(Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes())))
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                let info: libc::in6_pktinfo = std::ptr::read_unaligned(libc::CMSG_DATA(entry).cast());
                Some(IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr)))
            }
            _ => None,
        }
    }
}

fn read_address(name: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match libc::c_int::from(name.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that a `sockaddr_in` is there; the storage is large and aligned enough for it.
            let name = unsafe { &*(&raw const *name).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(name.sin_addr.s_addr.to_ne_bytes());
            Some(SocketAddrV4::new(ip, u16::from_be(name.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: likewise for a `sockaddr_in6`.
            let name = unsafe { &*(&raw const *name).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(name.sin6_addr.s6_addr);
            Some(SocketAddrV6::new(ip, u16::from_be(name.sin6_port), 0, name.sin6_scope_id).into())
        }
        _ => None,
    }
}

fn write_address(name: &mut libc::sockaddr_storage, address: SocketAddr) -> libc::socklen_t {
    match address {
        SocketAddr::V4(address) => {
            // SAFETY: the storage is large and aligned enough for every kind of address.
            let name = unsafe { &mut *(&raw mut *name).cast::<libc::sockaddr_in>() };
            name.sin_family = libc::AF_INET as libc::sa_family_t;
            name.sin_port = address.port().to_be();
            name.sin_addr.s_addr = u32::from_ne_bytes(address.ip().octets());
            size_of::<libc::sockaddr_in>() as libc::socklen_t
        }
        SocketAddr::V6(address) => {
            // SAFETY: likewise.
            let name = unsafe { &mut *(&raw mut *name).cast::<libc::sockaddr_in6>() };
            name.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            name.sin6_port = address.port().to_be();
            name.sin6_addr.s6_addr = address.ip().octets();
            name.sin6_scope_id = address.scope_id();
            size_of::<libc::sockaddr_in6>() as libc::socklen_t
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
