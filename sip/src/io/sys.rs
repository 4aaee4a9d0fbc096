//! System calls that neither the standard library nor tokio offers: datagrams in batches, with the address they were sent
//! to; and entropy.
#![allow(unsafe_code)]

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::RawFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Datagrams taken in by one system call.
pub(super) const BATCH: usize = 32;

/// A datagram is at most this long (RFC 768).
const DATAGRAM_BYTES: usize = 65_535;

/// Room for `IP_PKTINFO` or `IPV6_PKTINFO` with their headers.
const CONTROL_WORDS: usize = 8;

/// 128 bits from the operating system.
pub fn random_key() -> io::Result<[u64; 2]> {
    let mut key = [0u64; 2];
    let want = size_of::<[u64; 2]>();
    // SAFETY: the pointer and length describe `key`, which outlives the call.
    let got = unsafe { libc::getrandom(key.as_mut_ptr().cast(), want, 0) };
    if usize::try_from(got).is_ok_and(|got| got == want) {
        return Ok(key);
    }
    Err(io::Error::last_os_error())
}

/// Asks for the destination address of each datagram, where the socket is bound to a wildcard.
pub(super) fn ask_for_destination(fd: RawFd, is_ipv6: bool) -> io::Result<()> {
    if is_ipv6 {
        set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)
    } else {
        set_option(fd, libc::IPPROTO_IP, libc::IP_PKTINFO, 1)
    }
}

/// Asks for a receive buffer of this size; the kernel grants what it likes.
pub(super) fn set_receive_buffer(fd: RawFd, size_bytes: usize) -> io::Result<()> {
    let size = libc::c_int::try_from(size_bytes).unwrap_or(libc::c_int::MAX);
    set_option(fd, libc::SOL_SOCKET, libc::SO_RCVBUF, size)
}

fn set_option(fd: RawFd, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the option's value is one int, and the pointer and length describe it.
    let result = unsafe {
        libc::setsockopt(fd, level, name, (&raw const value).cast(), size_of::<libc::c_int>() as libc::socklen_t)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A socket that does not block, to be waited for in the present tokio runtime until something is to be read.
pub(super) fn watch(socket: UdpSocket) -> io::Result<AsyncFd<UdpSocket>> {
    // SAFETY: a `UdpSocket` is an open descriptor until it is dropped, and is always the same one.
    let watched = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) };
    watched.map_err(io::Error::from)
}

/// Buffers for a batch of datagrams. Pages are taken up only as far as datagrams fill them.
pub(super) struct Inbox {
    bytes: Vec<u8>,
    slots: Vec<Slot>,
}

#[derive(Clone, Copy)]
struct Slot {
    name: libc::sockaddr_storage,
    control: [u64; CONTROL_WORDS],
    len: usize,
    control_len: usize,
}

/// A datagram in an [`Inbox`].
pub(super) struct Datagram<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) from: SocketAddr,
    /// The address it was sent to, where that was asked for.
    pub(super) to: Option<IpAddr>,
}

impl Inbox {
    pub(super) fn new() -> Self {
        // SAFETY: all-zero bytes are a valid `sockaddr_storage`.
        let name = unsafe { zeroed() };
        let slot = Slot { name, control: [0; CONTROL_WORDS], len: 0, control_len: 0 };
        Self { bytes: vec![0; BATCH * DATAGRAM_BYTES], slots: vec![slot; BATCH] }
    }

    /// Takes in what waits at a non-blocking socket, up to [`BATCH`] datagrams; answers how many.
    pub(super) fn receive(&mut self, fd: RawFd) -> io::Result<usize> {
        // SAFETY: all-zero bytes are valid `iovec`s and `mmsghdr`s: null pointers and zero lengths.
        let mut vectors: [libc::iovec; BATCH] = unsafe { zeroed() };
        // SAFETY: as above.
        let mut headers: [libc::mmsghdr; BATCH] = unsafe { zeroed() };
        let chunks = self.bytes.chunks_exact_mut(DATAGRAM_BYTES);
        for (((header, vector), slot), chunk) in headers.iter_mut().zip(&mut vectors).zip(&mut self.slots).zip(chunks) {
            vector.iov_base = chunk.as_mut_ptr().cast();
            vector.iov_len = chunk.len();
            header.msg_hdr.msg_name = (&raw mut slot.name).cast();
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = slot.control.as_mut_ptr().cast();
            header.msg_hdr.msg_controllen = size_of::<[u64; CONTROL_WORDS]>() as _;
        }
        // SAFETY: each header points to its own name, vector, chunk and control buffer, with their lengths, and all of
        // these outlive the call.
        let count = unsafe {
            libc::recvmmsg(
                fd,
                headers.as_mut_ptr(),
                BATCH as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        for (slot, header) in self.slots.iter_mut().zip(&headers).take(count) {
            slot.len = header.msg_len as usize;
            slot.control_len = header.msg_hdr.msg_controllen as _;
        }
        Ok(count)
    }

    /// A datagram of the last batch; `None` beyond it, or where its sender's address is of no known family.
    pub(super) fn datagram(&self, index: usize) -> Option<Datagram<'_>> {
        let slot = self.slots.get(index)?;
        let chunk = self.bytes.chunks_exact(DATAGRAM_BYTES).nth(index)?;
        Some(Datagram { bytes: chunk.get(..slot.len)?, from: read_address(&slot.name)?, to: slot.destination() })
    }
}

impl Slot {
    fn destination(&self) -> Option<IpAddr> {
        // SAFETY: all-zero bytes are a valid `msghdr`.
        let mut header: libc::msghdr = unsafe { zeroed() };
        header.msg_control = self.control.as_ptr().cast_mut().cast();
        header.msg_controllen = self.control_len as _;
        // SAFETY: the header describes this slot's control buffer, which the kernel has filled up to `control_len`; the
        // macro reads no further, and answers null where no whole entry fits.
        let entry = unsafe { libc::CMSG_FIRSTHDR(&raw const header) };
        if entry.is_null() {
            return None;
        }
        // SAFETY: not null, so it points to a whole `cmsghdr` in the control buffer, which is aligned for it.
        let (level, kind) = unsafe { ((*entry).cmsg_level, (*entry).cmsg_type) };
        // SAFETY: likewise; the data follows the header, and is of the type that level and kind name.
        unsafe {
            let data = libc::CMSG_DATA(entry);
            match (level, kind) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let info: libc::in_pktinfo = std::ptr::read_unaligned(data.cast());
                    Some(IpAddr::V4(Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes())))
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let info: libc::in6_pktinfo = std::ptr::read_unaligned(data.cast());
                    Some(IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr)))
                }
                _ => None,
            }
        }
    }
}

/// A datagram to send: whereto, by which address of ours where that matters (of the family of the first), and what.
pub(super) type Sending<'a> = (SocketAddr, Option<IpAddr>, &'a [u8]);

/// Sends datagrams in order by one system call; answers how many went out, at least one, or the first one's error.
pub(super) fn send_batch<'a>(fd: RawFd, datagrams: impl Iterator<Item = Sending<'a>>) -> io::Result<usize> {
    // SAFETY: all-zero bytes are valid values of all three.
    let (mut names, mut vectors, mut headers): (
        [libc::sockaddr_storage; BATCH],
        [libc::iovec; BATCH],
        [libc::mmsghdr; BATCH],
    ) = unsafe { (zeroed(), zeroed(), zeroed()) };
    let mut controls = [[0_u64; CONTROL_WORDS]; BATCH];
    let mut count = 0;
    let places = headers.iter_mut().zip(&mut vectors).zip(&mut names).zip(&mut controls);
    for ((((header, vector), name), control), (to, from, bytes)) in places.zip(datagrams) {
        if let Some(from) = from {
            write_source(&mut header.msg_hdr, control, from);
        }
        vector.iov_base = bytes.as_ptr().cast_mut().cast();
        vector.iov_len = bytes.len();
        header.msg_hdr.msg_namelen = write_address(name, to);
        header.msg_hdr.msg_name = (&raw mut *name).cast();
        header.msg_hdr.msg_iov = vector;
        header.msg_hdr.msg_iovlen = 1;
        count += 1;
    }
    // SAFETY: the first `count` headers point to names, vectors, control buffers and bytes that outlive the call; the kernel only reads
    // the bytes.
    let sent = unsafe { libc::sendmmsg(fd, headers.as_mut_ptr(), count, libc::MSG_DONTWAIT as _) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Sends one datagram.
pub(super) fn send_one(fd: RawFd, to: SocketAddr, bytes: &[u8]) -> io::Result<()> {
    // SAFETY: all-zero bytes are a valid `sockaddr_storage`.
    let mut name: libc::sockaddr_storage = unsafe { zeroed() };
    let len = write_address(&mut name, to);
    // SAFETY: pointers and lengths describe `bytes` and `name`, which outlive the call.
    let sent = unsafe {
        libc::sendto(fd, bytes.as_ptr().cast(), bytes.len(), libc::MSG_DONTWAIT, (&raw const name).cast(), len)
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Has a message leave by this address of ours.
fn write_source(header: &mut libc::msghdr, control: &mut [u64; CONTROL_WORDS], from: IpAddr) {
    let size = match from {
        IpAddr::V4(_) => size_of::<libc::in_pktinfo>(),
        IpAddr::V6(_) => size_of::<libc::in6_pktinfo>(),
    } as libc::c_uint;
    header.msg_control = control.as_mut_ptr().cast();
    // SAFETY: the macro computes a size; it is less than that of `control`.
    header.msg_controllen = unsafe { libc::CMSG_SPACE(size) } as _;
    // SAFETY: the header describes `control`, which has room for the entry and is aligned for it: the first entry is in it, and so is its
    // data, which is of the type that level and kind name.
    unsafe {
        let entry = libc::CMSG_FIRSTHDR(&raw const *header);
        (*entry).cmsg_len = libc::CMSG_LEN(size) as _;
        match from {
            IpAddr::V4(ip) => {
                let mut info: libc::in_pktinfo = zeroed();
                info.ipi_spec_dst.s_addr = u32::from_ne_bytes(ip.octets());
                ((*entry).cmsg_level, (*entry).cmsg_type) = (libc::IPPROTO_IP, libc::IP_PKTINFO);
                std::ptr::write_unaligned(libc::CMSG_DATA(entry).cast(), info);
            }
            IpAddr::V6(ip) => {
                let mut info: libc::in6_pktinfo = zeroed();
                info.ipi6_addr.s6_addr = ip.octets();
                ((*entry).cmsg_level, (*entry).cmsg_type) = (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO);
                std::ptr::write_unaligned(libc::CMSG_DATA(entry).cast(), info);
            }
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
            let port = u16::from_be(name.sin6_port);
            // A socket for both families sees IPv4 peers as ::ffff:a.b.c.d.
            Some(match ip.to_ipv4_mapped() {
                Some(ip) => SocketAddrV4::new(ip, port).into(),
                None => SocketAddrV6::new(ip, port, 0, name.sin6_scope_id).into(),
            })
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
