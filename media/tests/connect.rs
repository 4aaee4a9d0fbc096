//! ICE and DTLS-SRTP between two of our own ends, in virtual time over a network that loses, delays and attacks.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use media::connect::{ConnectConfig, Connection, Fingerprint, IceConfig, IceCredentials, Identity, Step};
use media::leg::Channel;
use media::srtp::KeyPair;

const A: &str = "192.0.2.1:4000";
const B: &str = "198.51.100.1:5000";

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// One end and what came of it.
struct End {
    connection: Connection,
    addr: SocketAddr,
    keys: Option<KeyPair>,
    rtcp_keys: Option<KeyPair>,
    aims: Vec<SocketAddr>,
    failed: Option<String>,
    is_lost: bool,
}

impl End {
    fn new(now: Instant, here: &str, config: &ConnectConfig, remote: Option<&str>, has_rtcp: bool) -> End {
        let remote = remote.map(addr);
        let rtcp = remote.filter(|_| has_rtcp).map(|at| SocketAddr::new(at.ip(), at.port() + 1));
        let connection = Connection::new(now, config, remote, rtcp).unwrap();
        End { connection, addr: addr(here), keys: None, rtcp_keys: None, aims: vec![], failed: None, is_lost: false }
    }
}

/// A network with a delay of 10 ms; `drops` says which datagrams are lost, by their number.
struct Net {
    now: Instant,
    flying: VecDeque<(Instant, Channel, SocketAddr, SocketAddr, Vec<u8>)>,
    count: usize,
    drops: fn(usize) -> bool,
}

impl Net {
    fn new(drops: fn(usize) -> bool) -> Net {
        Net { now: Instant::now(), flying: VecDeque::new(), count: 0, drops }
    }

    fn send(&mut self, channel: Channel, from: SocketAddr, to: SocketAddr, datagram: &[u8]) {
        self.count += 1;
        if !(self.drops)(self.count) {
            self.flying.push_back((self.now + Duration::from_millis(10), channel, from, to, datagram.to_vec()));
        }
    }

    /// Runs both ends for so long.
    fn run(&mut self, ends: [&mut End; 2], time: Duration) {
        let [a, b] = ends;
        let until = self.now + time;
        while self.now < until {
            for end in [&mut *a, &mut *b] {
                if end.connection.next_wake() <= self.now {
                    end.connection.handle_timeout(self.now);
                }
                while let Some(step) = end.connection.poll() {
                    match step {
                        Step::Send { channel, to, datagram, .. } => {
                            let up = u16::from(channel == Channel::Rtcp);
                            self.send(channel, SocketAddr::new(end.addr.ip(), end.addr.port() + up), to, &datagram);
                        }
                        Step::Aim { channel: Channel::Rtp, to } => end.aims.push(to),
                        Step::Aim { .. } | Step::Tunnel(_) => {}
                        Step::Keys { channel: Channel::Rtp, keys } => end.keys = Some(*keys),
                        Step::Keys { keys, .. } => end.rtcp_keys = Some(*keys),
                        Step::Failed(why) => end.failed = Some(why),
                        Step::Lost => end.is_lost = true,
                    }
                }
            }
            self.now += Duration::from_millis(5);
            while self.flying.front().is_some_and(|(due, ..)| *due <= self.now) {
                let (_, channel, from, to, datagram) = self.flying.pop_front().unwrap();
                for end in [&mut *a, &mut *b] {
                    let rtcp = SocketAddr::new(end.addr.ip(), end.addr.port() + 1);
                    if end.addr == to || rtcp == to {
                        end.connection.receive(self.now, channel, from, end.addr.ip(), &datagram);
                    }
                }
            }
        }
    }
}

fn pair() -> (Arc<Identity>, Arc<Identity>) {
    (Arc::new(Identity::generate().unwrap()), Arc::new(Identity::generate().unwrap()))
}

fn config(ours: &Arc<Identity>, theirs: &Fingerprint, is_client: bool) -> ConnectConfig {
    ConnectConfig { identity: Arc::clone(ours), is_client, fingerprint: theirs.clone(), ice: None }
}

fn agreed(a: &End, b: &End) -> bool {
    match (&a.keys, &b.keys) {
        (Some(a), Some(b)) => a.send == b.receive && a.receive == b.send && a.send != a.receive,
        _ => false,
    }
}

const S: Duration = Duration::from_secs(1);

#[test]
fn both_ends_agree_on_keys_for_rtp_and_for_rtcp_apart() {
    let (one, two) = pair();
    let mut net = Net::new(|_| false);
    let mut a = End::new(net.now, A, &config(&one, two.fingerprint(), true), Some(B), true);
    let mut b = End::new(net.now, B, &config(&two, one.fingerprint(), false), None, false);
    // The other end does not know yet where RTCP will come from, only that it has a socket of its own.
    b.connection =
        Connection::new(net.now, &config(&two, one.fingerprint(), false), Some(addr(A)), Some(addr(A))).unwrap();
    net.run([&mut a, &mut b], S);
    assert!(agreed(&a, &b), "{:?} {:?}", a.failed, b.failed);
    assert_eq!((a.aims, b.aims), (vec![addr(B)], vec![addr(A)]));
    assert_eq!(a.rtcp_keys.as_ref().unwrap().send, b.rtcp_keys.as_ref().unwrap().receive);
    assert_ne!(a.rtcp_keys, a.keys);
}

#[test]
fn a_handshake_gets_through_where_every_third_datagram_is_lost() {
    for drops in
        [|n| n % 3 == 0, |n| n % 3 == 1, |n| n % 3 == 2, |n: usize| (n / 4).is_multiple_of(2)] as [fn(usize) -> bool; 4]
    {
        let (one, two) = pair();
        let mut net = Net::new(drops);
        let mut a = End::new(net.now, A, &config(&one, two.fingerprint(), true), Some(B), false);
        let mut b = End::new(net.now, B, &config(&two, one.fingerprint(), false), Some(A), false);
        net.run([&mut a, &mut b], 25 * S);
        assert!(agreed(&a, &b), "{:?} {:?} after {}", a.failed, b.failed, net.count);
    }
}

#[test]
fn a_certificate_that_signalling_did_not_name_gets_no_keys() {
    let ((one, two), (stranger, _)) = (pair(), pair());
    // The peer at A shows another certificate than `one`; then the other way round.
    for (client, server, wants) in [(&stranger, &two, &one), (&two, &stranger, &one)] {
        let mut net = Net::new(|_| false);
        let expects = |is: &Arc<Identity>| if Arc::ptr_eq(is, &stranger) { &two } else { wants };
        let mut a = End::new(net.now, A, &config(client, expects(client).fingerprint(), true), Some(B), false);
        let mut b = End::new(net.now, B, &config(server, expects(server).fingerprint(), false), Some(A), false);
        net.run([&mut a, &mut b], 31 * S);
        assert!(!agreed(&a, &b));
        let honest = if Arc::ptr_eq(client, &stranger) { &b } else { &a };
        assert!(honest.keys.is_none());
        assert!(honest.failed.as_ref().unwrap().contains("did not agree on keys"), "{:?}", honest.failed);
    }
}

/// The ClientHello race: whoever is first with one, from anywhere, does not keep the peer out.
#[test]
fn a_stranger_off_the_path_that_is_first_with_its_hello_changes_nothing() {
    let ((one, two), (stranger, _)) = (pair(), pair());
    let mut net = Net::new(|_| false);
    let mut b = End::new(net.now, B, &config(&two, one.fingerprint(), false), None, false);
    let mut hello = Vec::new();
    let mut race = End::new(net.now, "203.0.113.9:999", &config(&stranger, two.fingerprint(), true), Some(B), false);
    while let Some(step) = race.connection.poll() {
        if let Step::Send { datagram, .. } = step {
            hello.push(datagram);
        }
    }
    for n in 0..200_u8 {
        let from = SocketAddr::new(IpAddr::from([203, 0, 113, n]), 999);
        hello.iter().for_each(|hello| b.connection.receive(net.now, Channel::Rtp, from, b.addr.ip(), hello));
        b.connection.receive(net.now, Channel::Rtp, from, b.addr.ip(), &[22, 254, 253, 0, n]);
    }
    // One stranger goes all the way, with a certificate of its own.
    net.run([&mut race, &mut b], S);
    assert!(b.keys.is_none());
    let mut a = End::new(net.now, A, &config(&one, two.fingerprint(), true), Some(B), false);
    net.run([&mut a, &mut b], 2 * S);
    assert!(agreed(&a, &b), "{:?} {:?}", a.failed, b.failed);
    // And once there are keys, nobody gets others.
    let keys = b.keys.clone();
    let mut late = End::new(net.now, "203.0.113.9:998", &config(&stranger, two.fingerprint(), true), Some(B), false);
    net.run([&mut late, &mut b], 2 * S);
    assert_eq!(b.keys, keys);
}

fn credentials(name: &str) -> IceCredentials {
    IceCredentials { ufrag: format!("{name}-ufrag"), pwd: format!("{name}-password-of-enough-bits") }
}

fn ice(here: &str, ours: &str, theirs: &str, candidates: &[&str], is_controlling: bool) -> IceConfig {
    IceConfig {
        local: credentials(ours),
        remote: credentials(theirs),
        hosts: vec![addr(here)],
        reflexive: vec![],
        relayed: vec![],
        candidates: candidates.iter().map(|text| (*text).to_owned()).collect(),
        is_controlling,
        is_lite: false,
    }
}

const B_HOST: &str = "1 1 udp 2130706431 198.51.100.1 5000 typ host";
const NAME: &str = "2 1 udp 2130706431 c0ffee.local 4000 typ host";

/// The peer behind a name of its own (mDNS): it is learnt from its checks (RFC 8445 section 7.3.1.3).
#[test]
fn ice_finds_a_peer_whose_address_nothing_names_and_dtls_runs_there() {
    for is_lite in [false, true] {
        for b_is_client in [false, true] {
            let (one, two) = pair();
            let mut net = Net::new(|n| n % 5 == 0);
            let mut a = config(&one, two.fingerprint(), !b_is_client);
            a.ice = Some(ice(A, "a", "b", &[B_HOST], true));
            let mut b = config(&two, one.fingerprint(), b_is_client);
            b.ice = Some(IceConfig { is_lite, ..ice(B, "b", "a", &[NAME], false) });
            let mut a = End::new(net.now, A, &a, None, false);
            let mut b = End::new(net.now, B, &b, None, false);
            net.run([&mut a, &mut b], 8 * S);
            assert_eq!((&a.aims, &b.aims), (&vec![addr(B)], &vec![addr(A)]), "lite {is_lite}");
            assert!(agreed(&a, &b), "{:?} {:?}, lite {is_lite}, client {b_is_client}", a.failed, b.failed);
        }
    }
}

#[test]
fn without_a_path_there_is_an_end_with_a_reason() {
    let (one, two) = pair();
    let mut net = Net::new(|_| true);
    let mut a = config(&one, two.fingerprint(), true);
    a.ice = Some(ice(A, "a", "b", &[B_HOST], true));
    let mut a = End::new(net.now, A, &a, None, false);
    let mut b = End::new(net.now, B, &config(&two, one.fingerprint(), false), None, false);
    net.run([&mut a, &mut b], 31 * S);
    assert!(a.failed.as_ref().unwrap().contains("path to the peer"), "{:?}", a.failed);
}

/// A page that is closed says nothing: its consent runs out (RFC 7675 section 5.1).
#[test]
fn a_peer_that_vanishes_after_it_was_connected_is_lost_and_not_refused() {
    let (one, two) = pair();
    let mut net = Net::new(|_| false);
    let (mut a, mut b) = (config(&one, two.fingerprint(), true), config(&two, one.fingerprint(), false));
    a.ice = Some(ice(A, "a", "b", &[B_HOST], true));
    b.ice = Some(ice(B, "b", "a", &[NAME], false));
    let mut a = End::new(net.now, A, &a, None, false);
    let mut b = End::new(net.now, B, &b, None, false);
    net.run([&mut a, &mut b], 3 * S);
    assert!(agreed(&a, &b) && !b.is_lost);
    net.drops = |_| true;
    net.run([&mut a, &mut b], 40 * S);
    assert!(b.is_lost && b.failed.is_none(), "{:?}", b.failed);
}

/// Checks of somebody who does not know the names and passwords are not answered, and change no roles.
#[test]
fn checks_of_strangers_are_not_answered() {
    let (one, two) = pair();
    let mut net = Net::new(|_| false);
    let mut b = config(&two, one.fingerprint(), false);
    b.ice = Some(ice(B, "b", "a", &[], false));
    let mut b = End::new(net.now, B, &b, None, false);
    let mut stranger = config(&one, two.fingerprint(), true);
    stranger.ice = Some(ice(A, "x", "b", &[B_HOST], false));
    let mut stranger = End::new(net.now, A, &stranger, None, false);
    net.run([&mut stranger, &mut b], 3 * S);
    assert!(stranger.aims.is_empty() && b.aims.is_empty() && b.keys.is_none());
}

/// Whoever has the names and the passwords may still not fill our memory: with checks from ever more addresses.
#[test]
fn checks_from_ever_more_addresses_are_answered_up_to_a_bound() {
    let (one, two) = pair();
    let now = Instant::now();
    let mut a = config(&one, two.fingerprint(), true);
    a.ice = Some(ice(A, "a", "b", &[B_HOST], true));
    let mut b = config(&two, one.fingerprint(), false);
    b.ice = Some(ice(B, "b", "a", &[], false));
    let mut a = Connection::new(now, &a, None, None).unwrap();
    let mut b = Connection::new(now, &b, None, None).unwrap();
    a.handle_timeout(now + Duration::from_millis(250));
    let check = std::iter::from_fn(|| a.poll()).find_map(|step| match step {
        Step::Send { datagram, .. } if datagram.starts_with(&[0, 1]) => Some(datagram),
        _ => None,
    });
    let check = check.unwrap();
    let mut answered = std::collections::HashSet::new();
    for port in 1_000..2_000 {
        let from = SocketAddr::new(addr(A).ip(), port);
        b.receive(now, Channel::Rtp, from, addr(B).ip(), &check);
        while let Some(step) = b.poll() {
            if let Step::Send { to, datagram, .. } = step
                && datagram.starts_with(&[1, 1])
            {
                answered.insert(to);
            }
        }
    }
    assert_eq!(answered.len(), 32);
}

/// A peer whose address changes begins ICE anew in the call (RFC 8445 section 2.4): the keys stay.
#[test]
fn an_ice_restart_finds_the_peer_at_its_new_address_and_keeps_the_keys() {
    let (one, two) = pair();
    let mut net = Net::new(|_| false);
    let (mut a_config, mut b_config) = (config(&one, two.fingerprint(), true), config(&two, one.fingerprint(), false));
    a_config.ice = Some(ice(A, "a", "b", &[B_HOST], true));
    b_config.ice = Some(ice(B, "b", "a", &[NAME], false));
    let mut a = End::new(net.now, A, &a_config, None, false);
    let mut b = End::new(net.now, B, &b_config, None, false);
    net.run([&mut a, &mut b], 3 * S);
    assert!(agreed(&a, &b));
    let elsewhere = "203.0.113.5:7000";
    a.addr = addr(elsewhere);
    a_config.ice = Some(ice(elsewhere, "a2", "b2", &[B_HOST], true));
    b_config.ice = Some(ice(B, "b2", "a2", &[], false));
    let keys = b.keys.clone();
    a.connection.update(net.now, &a_config);
    b.connection.update(net.now, &b_config);
    net.run([&mut a, &mut b], 3 * S);
    assert_eq!(b.aims.last(), Some(&addr(elsewhere)), "{:?}", b.failed);
    assert!(agreed(&a, &b) && b.keys == keys);
}

#[test]
fn whatever_bytes_come_nothing_breaks() {
    let (one, two) = pair();
    let now = Instant::now();
    let mut config = config(&two, one.fingerprint(), false);
    config.ice = Some(ice(B, "b", "a", &[], false));
    let mut connection = Connection::new(now, &config, None, None).unwrap();
    let mut state = 7_u64;
    let mut next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    for n in 0..3_000_usize {
        let mut bytes: Vec<u8> = (0..n % 300).map(|_| next()).collect();
        if let Some(first) = bytes.first_mut() {
            *first = if n % 2 == 0 { *first % 4 } else { 20 + *first % 44 };
        }
        if n % 3 == 0 && bytes.len() > 8 {
            bytes[1..3].copy_from_slice(&[254, 253]);
            bytes[4..8].copy_from_slice(&[0x21, 0x12, 0xa4, 0x42]);
        }
        connection.receive(now, Channel::Rtp, addr(A), addr(B).ip(), &bytes);
        while connection.poll().is_some() {}
    }
}

/// Conforms: RFC 5769 §2.1 — the sample check is answered: its name, integrity and fingerprint are right; with any byte changed it is not.
#[test]
fn the_sample_check_of_the_rfc_is_answered_and_a_changed_one_is_not() {
    const SAMPLE: &str = "00010058 2112a442 b7e7a701 bc34d686 fa87dfae 80220010 5354554e 20746573 7420636c 69656e74 00240004 6e0001ff \
        80290008 932ff9b1 51263b36 00060009 6576746a 3a683676 59202020 00080014 9aeaa70c bfd8cb56 781ef2b5 b2d3f249 c1b571a2 \
        80280004 e57a3bcf";
    let digits: Vec<u32> = SAMPLE.chars().filter_map(|c| c.to_digit(16)).collect();
    let sample: Vec<u8> = digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect();
    let (one, two) = pair();
    let answers = |datagram: &[u8]| {
        let now = Instant::now();
        let mut b = config(&two, one.fingerprint(), false);
        b.ice = Some(IceConfig {
            local: IceCredentials { ufrag: "evtj".to_owned(), pwd: "VOkJxbRl1RmTxUk/WvJxBt".to_owned() },
            remote: IceCredentials { ufrag: "h6vY".to_owned(), pwd: "its-password-of-enough-bits".to_owned() },
            ..ice(B, "b", "a", &[], true)
        });
        let mut connection = Connection::new(now, &b, None, None).unwrap();
        connection.receive(now, Channel::Rtp, addr(A), addr(B).ip(), datagram);
        std::iter::from_fn(|| connection.poll()).any(|step| match step {
            // A success response of the same transaction.
            Step::Send { to, datagram, .. } => {
                to == addr(A) && datagram.starts_with(&[1, 1]) && datagram[8..20] == sample[8..20]
            }
            _ => false,
        })
    };
    assert!(answers(&sample));
    // What is behind the integrity (the fingerprint) and the padding of the name is not covered by it.
    for at in (0..sample.len() - 8).filter(|at| !(73..76).contains(at)) {
        let mut changed = sample.clone();
        changed[at] ^= 1;
        assert!(!answers(&changed), "byte {at}");
    }
}
