//! The bare loops. None of them looks into a packet.

use std::mem::{size_of, zeroed};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use io_uring::types::{Fd, RecvMsgOut};
use io_uring::{IoUring, cqueue, opcode, squeue};

use crate::Server;

const PACKET_BYTES: usize = 2_048;

/// Starts `body` on a thread of its own; it gets a flag to end by.
fn server(addrs: Vec<SocketAddr>, body: impl FnOnce(&AtomicBool) + Send + 'static) -> Server {
    let stop = Arc::new(AtomicBool::new(false));
    let (tell, told) = channel();
    let thread = {
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || {
            // SAFETY: takes no pointer and cannot fail.
            let _ = tell.send(unsafe { libc::gettid() });
            body(&stop);
        })
    };
    let thread_id = told.recv().expect("the thread tells its id");
    let stop = Box::new(move || {
        stop.store(true, Ordering::Relaxed);
        thread.join().expect("the loop ends well");
        String::new()
    });
    Server { addrs, thread_id, stop, suite: None }
}

fn sockets(calls: usize) -> (Vec<UdpSocket>, Vec<SocketAddr>) {
    let sockets: Vec<UdpSocket> = (0..calls).map(|_| UdpSocket::bind("127.0.0.1:0").expect("a socket")).collect();
    sockets.iter().for_each(|socket| socket.set_nonblocking(true).expect("non-blocking"));
    let addrs = sockets.iter().map(|socket| socket.local_addr().expect("an address")).collect();
    (sockets, addrs)
}

/// Sleeps until `spacing` has passed since `started`.
fn rest(started: Instant, spacing: Option<Duration>) {
    let rest = spacing.unwrap_or_default().saturating_sub(started.elapsed());
    if !rest.is_zero() {
        std::thread::sleep(rest);
    }
}

/// epoll, level-triggered, a socket per call.
pub(crate) fn epoll(calls: usize, spacing: Option<Duration>) -> Server {
    let (sockets, addrs) = sockets(calls);
    server(addrs, move |stop| {
        // SAFETY: plain calls on a descriptor made here; `event` lives through each.
        let epoll = unsafe { libc::epoll_create1(0) };
        for (index, socket) in sockets.iter().enumerate() {
            let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: index as u64 };
            // SAFETY: as above.
            unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, socket.as_raw_fd(), &mut event) };
        }
        let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; 512];
        let mut packet = [0_u8; PACKET_BYTES];
        while !stop.load(Ordering::Relaxed) {
            let started = Instant::now();
            // SAFETY: the kernel writes at most as many events as the buffer has room for.
            let n = unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), events.len() as i32, 20) };
            for event in events.iter().take(n.max(0) as usize) {
                let socket = &sockets[event.u64 as usize];
                if let Ok((size, from)) = socket.recv_from(&mut packet) {
                    let _ = socket.send_to(&packet[..size], from);
                }
            }
            rest(started, spacing);
        }
        // SAFETY: `epoll` is ours, and used no more.
        unsafe { libc::close(epoll) };
    })
}

/// A task of tokio's for each call, all on one thread.
pub(crate) fn tokio(calls: usize) -> Server {
    let (sockets, addrs) = sockets(calls);
    server(addrs, move |stop| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            for socket in sockets {
                let socket = tokio::net::UdpSocket::from_std(socket).expect("a socket");
                tokio::spawn(async move {
                    let mut packet = [0_u8; PACKET_BYTES];
                    while let Ok((size, from)) = socket.recv_from(&mut packet).await {
                        let _ = socket.send_to(&packet[..size], from).await;
                    }
                });
            }
            while !stop.load(Ordering::Relaxed) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
    })
}

/// One socket for all calls: recvmmsg takes what is there, sendmmsg returns it.
pub(crate) fn mmsg(calls: usize) -> Server {
    const BATCH: usize = 64;
    let (sockets, addrs) = sockets(1);
    let socket = sockets.into_iter().next().expect("one socket");
    server(vec![addrs[0]; calls], move |stop| {
        socket.set_nonblocking(false).expect("blocking");
        socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a time-out");
        let mut packets = vec![[0_u8; PACKET_BYTES]; BATCH];
        // SAFETY: all-zero is a valid value of these C structs.
        let mut from: Vec<libc::sockaddr_in> = vec![unsafe { zeroed() }; BATCH];
        let mut parts: Vec<libc::iovec> = packets
            .iter_mut()
            .map(|packet| libc::iovec { iov_base: packet.as_mut_ptr().cast(), iov_len: PACKET_BYTES })
            .collect();
        let mut messages: Vec<libc::mmsghdr> = (0..BATCH)
            .map(|index| {
                // SAFETY: all-zero is a valid value of this C struct.
                let mut message: libc::mmsghdr = unsafe { zeroed() };
                message.msg_hdr.msg_name = (&raw mut from[index]).cast();
                message.msg_hdr.msg_iov = &raw mut parts[index];
                message.msg_hdr.msg_iovlen = 1;
                message
            })
            .collect();
        let fd = socket.as_raw_fd();
        while !stop.load(Ordering::Relaxed) {
            for (message, part) in messages.iter_mut().zip(&mut parts) {
                message.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in>() as u32;
                part.iov_len = PACKET_BYTES;
            }
            // SAFETY: each message points to a name and a buffer of the stated sizes, which outlive the loop.
            let n = unsafe {
                libc::recvmmsg(fd, messages.as_mut_ptr(), BATCH as u32, libc::MSG_WAITFORONE, std::ptr::null_mut())
            };
            let Ok(n) = usize::try_from(n) else { continue };
            for (message, part) in messages.iter().zip(&mut parts).take(n) {
                part.iov_len = message.msg_len as usize;
            }
            // SAFETY: as above; the sizes are those that were received.
            unsafe { libc::sendmmsg(fd, messages.as_mut_ptr(), n as u32, 0) };
        }
    })
}

/// io_uring: a multishot receive on each socket into a ring of provided buffers; sends are submitted with the next wait.
pub(crate) fn uring(calls: usize, spacing: Option<Duration>) -> Server {
    let (sockets, addrs) = sockets(calls);
    server(addrs, move |stop| Uring::new(sockets).run(stop, spacing))
}

const BUFFERS: usize = 1_024;
const BUFFER_BYTES: usize = 512;
const GROUP: u16 = 1;
/// Marks completions of sends, with the buffer in the lower half.
const SENT: u64 = 1 << 63;

struct Uring {
    ring: IoUring,
    sockets: Vec<UdpSocket>,
    buffers: Vec<[u8; BUFFER_BYTES]>,
    template: libc::msghdr,
}

impl Uring {
    fn new(sockets: Vec<UdpSocket>) -> Self {
        let ring = IoUring::builder()
            .setup_cqsize(8_192)
            .setup_single_issuer()
            .setup_defer_taskrun()
            .build(2_048)
            .expect("io_uring is allowed here");
        // SAFETY: all-zero is a valid value of this C struct.
        let mut template: libc::msghdr = unsafe { zeroed() };
        template.msg_namelen = size_of::<libc::sockaddr_in>() as u32;
        Uring { ring, sockets, buffers: vec![[0; BUFFER_BYTES]; BUFFERS], template }
    }

    fn run(mut self, stop: &AtomicBool, spacing: Option<Duration>) {
        let all = opcode::ProvideBuffers::new(
            self.buffers.as_mut_ptr().cast(),
            BUFFER_BYTES as i32,
            BUFFERS as u16,
            GROUP,
            0,
        );
        self.push(&all.build().user_data(u64::MAX));
        for index in 0..self.sockets.len() {
            self.listen(index);
        }
        let mut done: Vec<(u64, i32, u32)> = Vec::with_capacity(8_192);
        let timeout = io_uring::types::Timespec::new().nsec(20_000_000);
        let arguments = io_uring::types::SubmitArgs::new().timespec(&timeout);
        while !stop.load(Ordering::Relaxed) {
            let started = Instant::now();
            let _ = self.ring.submitter().submit_with_args(1, &arguments);
            done.extend(self.ring.completion().map(|entry| (entry.user_data(), entry.result(), entry.flags())));
            for (data, result, flags) in done.drain(..) {
                self.complete(data, result, flags);
            }
            rest(started, spacing);
        }
    }

    fn complete(&mut self, data: u64, result: i32, flags: u32) {
        if data == u64::MAX {
            return;
        }
        if data & SENT != 0 {
            let buffer = (data & 0xffff) as u16;
            let place = self.buffers[buffer as usize].as_mut_ptr();
            let back = opcode::ProvideBuffers::new(place, BUFFER_BYTES as i32, 1, GROUP, buffer);
            let back = back.build().flags(squeue::Flags::SKIP_SUCCESS).user_data(u64::MAX);
            self.push(&back);
            return;
        }
        let index = data as usize;
        if let Some(buffer) = cqueue::buffer_select(flags).filter(|_| result >= 0) {
            let bytes = &self.buffers[buffer as usize];
            let message = RecvMsgOut::parse(&bytes[..result as usize], &self.template).expect("a message");
            let (name, payload) = (message.name_data(), message.payload_data());
            let send = opcode::Send::new(Fd(self.sockets[index].as_raw_fd()), payload.as_ptr(), payload.len() as u32)
                .dest_addr(name.as_ptr().cast())
                .dest_addr_len(size_of::<libc::sockaddr_in>() as u32)
                .build()
                .user_data(SENT | u64::from(buffer));
            self.push(&send);
        }
        if !cqueue::more(flags) {
            self.listen(index);
        }
    }

    fn listen(&mut self, index: usize) {
        let fd = Fd(self.sockets[index].as_raw_fd());
        let entry = opcode::RecvMsgMulti::new(fd, &raw const self.template, GROUP).build().user_data(index as u64);
        self.push(&entry);
    }

    fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: what the entries point to (buffers, template) belongs to this struct, which is not moved from while
        // the ring is in use, and sends point into buffers that are given back only when they are done.
        while unsafe { self.ring.submission().push(entry) }.is_err() {
            let _ = self.ring.submit();
        }
    }
}
