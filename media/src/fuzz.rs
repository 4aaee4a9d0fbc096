//! What must hold for any bytes: the bodies of the fuzz targets in `fuzz/`, kept here so that they are compiled and run with
//! every test. Each takes raw input, panics where an invariant breaks, and is for tests only.
#![allow(clippy::expect_used)]

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::connect::{ConnectConfig, Connection, IceConfig, IceCredentials, Identity, Step};
use crate::dtmf::{DtmfEvent, DtmfReceiver, DtmfSender, digit_of};
use crate::jitter::{Asked, Heard, JitterBuffer, JitterConfig, MAX_SLOTS, Pace, Played};
use crate::latch::{Latch, LatchConfig, LatchVerdict, PayloadTypes};
use crate::leg::Channel;
use crate::rtcp::{Compound, NtpTime, Packet, RtcpConfig, RtcpSession, SenderCounts, Writer};
use crate::rtp::{HEADER_BYTES, RtpHeader, RtpPacket, RtpTime, Seq, Source};
use crate::srtp::{MasterKey, Receiver, Sender, Suite};

/// Datagrams, each behind a byte of its size and one of its delay, through parser, latch and source.
pub fn rtp(data: &[u8]) {
    let peer = SocketAddr::from(([192, 168, 1, 2], 4_000));
    let types = PayloadTypes::new().with(0).with(8).with(101);
    let start = Instant::now();
    let mut now = start;
    let mut latch = Latch::new(now, LatchConfig::new(Some(peer), types, 8_000, 1));
    let mut source: Option<Source> = None;
    let mut rest = data;
    while let Some((&[size, delay, host], behind)) = rest.split_first_chunk::<3>() {
        let (datagram, behind) = behind.split_at(behind.len().min(usize::from(size)));
        rest = behind;
        now += Duration::from_millis(u64::from(delay));
        let Ok(packet) = RtpPacket::parse(datagram) else { continue };
        let extension = packet.extension.map_or(0, |extension| extension.data.len() + 4);
        let sum = HEADER_BYTES + packet.csrc.iter().count() * 4 + extension + packet.payload.len();
        assert_eq!(sum + usize::from(packet.padding_bytes), datagram.len());
        let from = SocketAddr::from(([192, 168, 1, 2 + (host & 3)], 4_000 + u16::from(host >> 4)));
        let verdict = latch.receive(now, from, &packet);
        let taken = !matches!(verdict, LatchVerdict::Refuse(_));
        assert!(!taken || (latch.peer() == Some(from) && types.contains(packet.payload_type)));
        if taken {
            if source.as_ref().is_none_or(|source| source.ssrc() != packet.ssrc) {
                source = Some(Source::new(now, 8_000, &packet));
            }
            if let Some(source) = &mut source {
                source.receive(now, &packet);
                let block = source.report_block();
                assert!((-0x80_0000..=0x7f_ffff).contains(&block.cumulative_lost));
                source.report();
            }
        }
    }
}

/// A compound packet: parsed, iterated, printed back, and taken by a session.
pub fn rtcp(data: &[u8]) {
    let start = Instant::now();
    let config = RtcpConfig {
        ssrc: 1,
        cname: String::from("fuzz"),
        seed: 1,
        bandwidth_bps: 64_000,
        minimum_interval: Duration::from_secs(5),
        ntp_at_start: NtpTime(1 << 63),
    };
    let mut session = RtcpSession::new(start, config);
    let mut now = start;
    let mut out = [0; 512];
    for datagram in data.chunks(128) {
        now += Duration::from_millis(700);
        if let Ok(received) = session.receive(now, datagram, None) {
            assert!(received.round_trip.is_none_or(|trip| trip <= Duration::from_secs(60)));
        }
        session.tick(now, &SenderCounts::default(), None, &mut out);
        assert!(session.next_wake() > now);
    }
    let Ok(compound) = Compound::parse(data) else { return };
    for packet in compound.packets() {
        let mut again = [0; 2_048];
        let mut writer = Writer::new(&mut again);
        match packet {
            Packet::SenderReport { ssrc, info, reports } => {
                let blocks: Vec<_> = reports.iter().collect();
                writer.sender_report(ssrc, &info, &blocks).expect("31 blocks fit");
            }
            Packet::ReceiverReport { ssrc, reports } => {
                let blocks: Vec<_> = reports.iter().collect();
                writer.receiver_report(ssrc, &blocks).expect("31 blocks fit");
            }
            Packet::SourceDescription(chunks) => {
                for chunk in chunks.iter() {
                    let _ = (chunk.cname(), chunk.items().count());
                }
                continue;
            }
            Packet::Goodbye { sources, reason } => {
                let _ = (sources.iter().count(), reason.len());
                continue;
            }
            _ => continue,
        }
        let size = writer.size_bytes();
        let back = Compound::parse(&again[..size]).expect("what was printed is read back");
        assert_eq!(back.packets().next(), Some(packet));
    }
}

/// Events in any order, with sound and time between them: keys go down and up in turn.
pub fn dtmf(data: &[u8]) {
    let mut receiver = DtmfReceiver::new(8_000);
    let mut sender = DtmfSender::new(8_000, 160);
    let mut now = Instant::now();
    let mut clock = 0u32;
    let mut down = 0;
    for op in data.chunks(8) {
        let &[kind, delay, t0, t1, ref payload @ ..] = op else { break };
        now += Duration::from_millis(u64::from(delay));
        clock = clock.wrapping_add(u32::from(delay) * 8);
        let timestamp = RtpTime(u32::from(u16::from_be_bytes([t0, t1])) << (kind >> 4));
        let mut told = Vec::new();
        match kind & 3 {
            0 | 1 => told.extend(receiver.receive(now, timestamp, kind & 4 != 0, payload)),
            2 => told.extend(receiver.sound(timestamp)),
            _ => {
                if let Some(digit) = digit_of(t0) {
                    let _ = sender.queue(digit, Duration::from_millis(u64::from(t1) * 64));
                }
                if let Some(packet) = sender.next(RtpTime(clock)) {
                    told.extend(receiver.receive(now, packet.timestamp, packet.marker, &packet.payload));
                }
            }
        }
        told.extend(receiver.tick(now));
        for event in told {
            down += if matches!(event, DtmfEvent::Pressed { .. }) { 1 } else { -1 };
            assert!((0..=1).contains(&down));
        }
        assert_eq!(down == 1, receiver.is_pressed());
    }
}

/// A jitter buffer driven by any sequence of packets, times and reads: the ear hears in order and once, a loss
/// lies where the sound before it ended, and no read goes on for ever.
pub fn jitter(data: &[u8]) {
    let start = Instant::now();
    let mut now = start;
    let mut buffer = JitterBuffer::new(start, &JitterConfig::new(8_000, 20, 160));
    let mut header = RtpHeader { marker: false, payload_type: 0, seq: Seq(65_530), timestamp: RtpTime(0), ssrc: 1 };
    let mut bytes = [0; 2_048];
    let (mut heard_end, mut pushed, mut handed) = (0u64, 0u64, 0u64);
    for op in data.chunks(4) {
        let &[kind, a, b, c] = op else { break };
        match kind & 7 {
            // in order, the common case
            0 | 1 => {
                header.seq = header.seq.next();
                header.timestamp = header.timestamp.plus(160);
            }
            // near, either way
            2 | 3 => {
                header.seq = header.seq.plus((a as i8) as u16);
                header.timestamp = header.timestamp.plus((i32::from(b as i8) * 160) as u32);
            }
            4 => header.seq = Seq(u16::from_be_bytes([a, b])),
            5 => header.timestamp = RtpTime(u32::from_be_bytes([a, b, c, 0])),
            6 => header.ssrc = u32::from(a & 3),
            _ => now += Duration::from_millis(u64::from(u16::from_be_bytes([a & 0x0f, b]))),
        }
        let ticks = if kind & 8 != 0 { u32::from(c) * 4 } else { 160 };
        let payload = [kind; 1_600];
        let size = if kind & 16 != 0 { usize::from(b) * 7 } else { 160 };
        let size = header.write(&payload[..size.min(1_600)], &mut bytes).expect("it fits");
        let packet = RtpPacket::parse(&bytes[..size]).expect("what was printed is read back");
        buffer.push(now, &packet, ticks);
        pushed += 1;
        now += Duration::from_millis(u64::from(kind >> 5) * 5);
        if kind & 32 != 0 {
            let mut reads = 0;
            while let Some(heard) = buffer.ear(now) {
                reads += 1;
                assert!(reads <= 2 * MAX_SLOTS, "the ear has no end");
                match heard {
                    Heard::Packet(frame) => {
                        handed += 1;
                        assert!(frame.arrived <= now);
                        heard_end = frame.position + u64::from(frame.ticks);
                    }
                    Heard::Lost(loss) => {
                        assert_eq!(loss.position, heard_end);
                        heard_end += u64::from(loss.ticks);
                    }
                }
            }
            if let Some(wake) = buffer.ear_wake(now) {
                assert!(wake <= now + Duration::from_millis(60));
            }
        }
        if kind & 64 != 0 {
            let mut reads = 0;
            let asked = Asked { frame_ticks: 160 * u32::from(a & 7), ahead_ticks: u32::from(b) * 2 };
            while let Played::Packet(frame, pace) = buffer.playout(now, asked) {
                reads += 1;
                assert!(reads <= 2 * MAX_SLOTS, "playout has no end");
                let is_sound = frame.ticks > 0;
                if pace != Pace::Even {
                    buffer.stretched(now, i32::from(c as i8));
                }
                if is_sound {
                    break;
                }
            }
        }
    }
    let stats = buffer.stats();
    assert!(handed <= stats.stored && stats.stored <= pushed);
}

/// Datagrams, each behind two bytes of its size and one of who sends it, to an end that waits for a handshake: whatever comes, nobody
/// gets keys who cannot show the certificate, and what is to be sent stays within bounds.
pub fn handshake(data: &[u8]) {
    static IDENTITIES: OnceLock<[Arc<Identity>; 2]> = OnceLock::new();
    let make = || Arc::new(Identity::generate().expect("a certificate"));
    let [ours, theirs] = IDENTITIES.get_or_init(|| [make(), make()]);
    let credentials =
        |name: &str| IceCredentials { ufrag: name.to_owned(), pwd: format!("{name}-password-of-enough-bits") };
    let here = SocketAddr::from(([192, 0, 2, 1], 4_000));
    let with_ice = data.first().is_some_and(|first| first & 1 == 1);
    let ice = IceConfig {
        local: credentials("ours"),
        remote: credentials("them"),
        hosts: vec![here],
        reflexive: Vec::new(),
        relayed: Vec::new(),
        candidates: Vec::new(),
        is_controlling: false,
        is_lite: false,
    };
    let config = ConnectConfig {
        identity: Arc::clone(ours),
        is_client: false,
        fingerprint: theirs.fingerprint().clone(),
        ice: with_ice.then_some(ice),
    };
    let mut now = Instant::now();
    let Ok(mut connection) = Connection::new(now, &config, None, None) else { return };
    let mut rest = data.get(1..).unwrap_or_default();
    let (mut taken, mut sent) = (0_usize, 0_usize);
    while let Some((&[s0, s1, who], behind)) = rest.split_first_chunk::<3>() {
        let size = usize::from(u16::from_be_bytes([s0, s1])).min(1_500).min(behind.len());
        let (datagram, behind) = behind.split_at(size);
        rest = behind;
        taken += 1;
        now += Duration::from_millis(u64::from(who >> 4));
        let from = SocketAddr::new(IpAddr::from([198, 51, 100, who & 7]), 5_000);
        connection.receive(now, Channel::Rtp, from, here.ip(), datagram);
        if connection.next_wake() <= now {
            connection.handle_timeout(now);
        }
        while let Some(step) = connection.poll() {
            assert!(!matches!(step, Step::Keys { .. }), "keys for somebody without the certificate");
            sent += usize::from(matches!(step, Step::Send { .. }));
        }
        assert!(sent <= 64 + taken * 16, "{sent} datagrams for {taken}");
    }
}

/// Packets, each behind a byte of its size, to receivers of every suite: nothing that was not protected is taken, and what was is
/// taken once.
pub fn srtp(data: &[u8]) {
    for suite in Suite::ALL {
        let bytes: Vec<u8> = (0..suite.master_bytes() as u8).collect();
        let master = MasterKey::new(suite, &bytes).expect("a key of the right length");
        let (mut sender, mut receiver) = (Sender::new(&master), Receiver::new(&master));
        let mut rest = data;
        while let Some((&size, behind)) = rest.split_first() {
            let (packet, behind) = behind.split_at(behind.len().min(usize::from(size)));
            rest = behind;
            let mut out = vec![0; packet.len() + 20];
            assert!(
                receiver.unprotect(packet, &mut out).is_err() && receiver.unprotect_rtcp(packet, &mut out).is_err()
            );
            let mut buffer = packet.to_vec();
            buffer.resize(packet.len() + 20, 0);
            let Some(len) = sender.protect(&mut buffer, packet.len()) else { continue };
            let sealed = buffer.get(..len).unwrap_or_default();
            if let Ok(opened) = receiver.unprotect(sealed, &mut out) {
                assert_eq!(out.get(..opened), Some(packet));
                assert!(receiver.unprotect(sealed, &mut out).is_err(), "taken twice");
            }
        }
    }
}
