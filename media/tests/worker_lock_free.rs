//! A worker's rounds wait for nobody: its thread makes no system call but those that move datagrams, wait for the next
//! round and wake the async side, held to that by the kernel (seccomp) while legs of every mode come, talk, change
//! and go. A lock that has to wait would be a futex. (`worker_sources.rs` looks for those that do not wait.)
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
#![allow(unsafe_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/ports.rs"]
mod ports;

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use codecs::registry::{self, CodecId};
use media::rtp::{RtpHeader, RtpTime, Seq};
use media::{DtmfFormat, LegConfig, LegMode, Media, MediaConfig};

/// What a round may ask of the system.
const ALLOWED: [libc::c_long; 9] = [
    libc::SYS_epoll_wait,
    libc::SYS_epoll_ctl,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_rt_sigreturn,
];

const PATIENCE: Duration = Duration::from_secs(30);
static REFUSED: AtomicUsize = AtomicUsize::new(0);
static FIRST_REFUSED: AtomicU64 = AtomicU64::new(u64::MAX);

extern "C" fn on_refusal(_: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // The number of the call stands behind address and architecture: see sigaction(2), si_syscall.
    // SAFETY: the kernel hands a whole siginfo_t and ucontext_t to a handler with SA_SIGINFO.
    unsafe {
        let number = info.cast::<u8>().add(24).cast::<i32>().read();
        let _ = FIRST_REFUSED.compare_exchange(u64::MAX, number as u64, Ordering::Relaxed, Ordering::Relaxed);
        let context = &mut *context.cast::<libc::ucontext_t>();
        context.uc_mcontext.gregs[libc::REG_RAX as usize] = -i64::from(libc::ENOSYS);
    }
    REFUSED.fetch_add(1, Ordering::Relaxed);
}

/// From here on this thread may make no system call but those allowed; others are counted and fail.
fn confine() {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let statement = |code, k| libc::sock_filter { code, jt: 0, jf: 0, k };
    let mut filter = vec![statement(LOAD, 0)];
    for number in ALLOWED {
        filter.push(libc::sock_filter { code: EQUAL, jt: 0, jf: 1, k: number as u32 });
        filter.push(statement(RETURN, libc::SECCOMP_RET_ALLOW));
    }
    filter.push(statement(RETURN, libc::SECCOMP_RET_TRAP));
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: all-zero is a valid sigaction; the pointers are to values that live through the calls.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_refusal as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        assert_eq!(libc::sigaction(libc::SIGSYS, &action, std::ptr::null_mut()), 0);
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        // Dropped here already: freeing is no longer possible for sure afterwards.
        let result = libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &program);
        assert_eq!(result, 0, "seccomp: {}", std::io::Error::last_os_error());
    }
    std::mem::forget(filter);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_worker_asks_nothing_of_the_system_but_datagrams_waits_and_wakes() {
    static CONFINED: AtomicBool = AtomicBool::new(false);
    static STOP: AtomicBool = AtomicBool::new(false);
    static ENDED: AtomicBool = AtomicBool::new(false);
    let bind = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let config = MediaConfig { bind, ports: ports::ports(40), ..MediaConfig::default() };
    let (media, workers) = Media::by_hand(config).unwrap();
    let mut worker = workers.into_iter().next().unwrap();
    std::thread::spawn(move || {
        confine();
        CONFINED.store(true, Ordering::Release);
        while !STOP.load(Ordering::Acquire) {
            worker.round(Some(Duration::from_millis(2)));
        }
        // The filter works: this one is refused.
        // SAFETY: takes no pointer.
        unsafe { libc::syscall(libc::SYS_getppid) };
        ENDED.store(true, Ordering::Release);
        // This thread may not even end: that takes calls of its own.
        std::mem::forget(worker);
        loop {
            std::thread::sleep(Duration::from_secs(1));
        }
    });
    wait("the filter", || CONFINED.load(Ordering::Acquire));
    let mut calls = Vec::new();
    for codec in [CodecId::Pcmu, CodecId::G722, CodecId::Opus] {
        for mode in [LegMode::Echo, LegMode::Talk, LegMode::Sink] {
            let peer = UdpSocket::bind((bind, 0)).unwrap();
            let spec = registry::spec(codec).unwrap();
            let payload_type = spec.static_payload_type.unwrap_or(96);
            let dtmf = DtmfFormat { payload_type_send: 101, payload_type_recv: 101, clock_hz: spec.clock_hz };
            let remote = Some(peer.local_addr().unwrap());
            let config = LegConfig { remote, dtmf: Some(dtmf), ..LegConfig::new(spec.params(), payload_type, mode) };
            let port = media.reserve().unwrap();
            let to = port.rtp_addr();
            calls.push((peer, to, payload_type, spec.clock_hz / 50, media.open(port, config).unwrap()));
        }
    }
    for n in 0..100_u16 {
        for (peer, to, payload_type, ticks, port) in &mut calls {
            let timestamp = RtpTime(u32::from(n) * *ticks);
            let header = RtpHeader { marker: false, payload_type: *payload_type, seq: Seq(n), timestamp, ssrc: 5 };
            peer.send_to(&[&header.to_bytes()[..], &[n as u8; 160]].concat(), *to).unwrap();
            port.say(&[1_000; 320]);
            if n % 30 == 10 {
                port.send_digit('1', 50).unwrap();
                port.interrupt();
                port.update(port.config().clone()).unwrap();
            }
            while port.try_next().is_some() {}
        }
        let from = media.stats().rounds;
        wait("rounds", || media.stats().rounds > from + 3);
    }
    calls.truncate(3);
    wait("legs handed back", || media.stats().legs == 3);
    STOP.store(true, Ordering::Release);
    wait("the end", || ENDED.load(Ordering::Acquire));
    let first = FIRST_REFUSED.load(Ordering::Relaxed);
    let refused = REFUSED.load(Ordering::Relaxed);
    assert_eq!((refused, first), (1, libc::SYS_getppid as u64), "calls refused, and the number of the first");
    assert!(media.stats().datagrams >= 800, "{:?}", media.stats());
}

fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "{what}: not in time");
        std::thread::yield_now();
    }
}
