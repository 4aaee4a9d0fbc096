//! RTP and RTCP packets: parsed, printed, and counted by source.
#![allow(clippy::unwrap_used)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use media::rtcp::{Compound, Packet, ReportBlock, SenderInfo, Writer};
use media::rtp::{HEADER_BYTES, RtpHeader, RtpPacket, RtpTime, Seq, Source};
use media::srtp::{MasterKey, Receiver, Sender, Suite};

use crate::case::{Case, Step, Work};

/// 20 ms of G.711.
const PAYLOAD_BYTES: usize = 160;

pub(crate) fn cases() -> Vec<Case> {
    let bytes = Work::Bytes((HEADER_BYTES + PAYLOAD_BYTES) as u64);
    vec![
        Case::new("rtp/parse/172B", bytes, parse),
        Case::new("rtp/print/172B", bytes, print),
        Case::new("rtp/source/172B", bytes, source),
        Case::new("srtp/seal_cm_80/172B", bytes, || seal(Suite::AesCm128HmacSha1_80)),
        Case::new("srtp/open_cm_80/172B", bytes, || open(Suite::AesCm128HmacSha1_80)),
        Case::new("srtp/seal_gcm_128/172B", bytes, || seal(Suite::AeadAes128Gcm)),
        Case::new("srtp/open_gcm_128/172B", bytes, || open(Suite::AeadAes128Gcm)),
        Case::new("rtcp/parse/sr_sdes", Work::Items(1), parse_rtcp),
        Case::new("rtcp/print/sr_sdes", Work::Items(1), print_rtcp),
    ]
}

/// The packet of a stream's n-th 20 ms.
pub(crate) fn header(n: u32) -> RtpHeader {
    RtpHeader {
        marker: n == 0,
        payload_type: 0,
        seq: Seq(n as u16),
        timestamp: RtpTime(n.wrapping_mul(160)),
        ssrc: 0x1234_5678,
    }
}

/// As bytes.
pub(crate) fn packet(n: u32) -> [u8; HEADER_BYTES + PAYLOAD_BYTES] {
    let mut out = [0x55; HEADER_BYTES + PAYLOAD_BYTES];
    out[..HEADER_BYTES].copy_from_slice(&header(n).to_bytes());
    out
}

fn parse() -> Step {
    let bytes = packet(7);
    Box::new(move || {
        black_box(RtpPacket::parse(black_box(&bytes)).unwrap());
    })
}

fn print() -> Step {
    let payload = [0x55; PAYLOAD_BYTES];
    let mut out = [0; 1500];
    let mut n = 0;
    Box::new(move || {
        n += 1;
        black_box(header(n).write(black_box(&payload), &mut out).unwrap());
    })
}

fn master(suite: Suite) -> MasterKey {
    MasterKey::new(suite, &vec![7; suite.master_bytes()]).unwrap()
}

fn sealed(sender: &mut Sender, n: u32) -> ([u8; 200], usize) {
    let plain = packet(n);
    let mut buffer = [0; 200];
    buffer[..plain.len()].copy_from_slice(&plain);
    let size = sender.protect(&mut buffer, plain.len()).unwrap();
    (buffer, size)
}

fn seal(suite: Suite) -> Step {
    let mut sender = Sender::new(&master(suite));
    let mut n = 0;
    Box::new(move || {
        n += 1;
        black_box(sealed(&mut sender, n));
    })
}

/// Packets that were sealed before, since none is taken twice.
fn open(suite: Suite) -> Step {
    let mut sender = Sender::new(&master(suite));
    let mut receiver = Receiver::new(&master(suite));
    let mut packets: Vec<_> = (0..60_000).map(|n| sealed(&mut sender, n)).collect();
    packets.reverse();
    let mut out = [0; 200];
    Box::new(move || {
        let Some((packet, size)) = packets.pop() else {
            // Criterion asks for more than there are: with a new receiver they may come again.
            let mut sender = Sender::new(&master(suite));
            receiver = Receiver::new(&master(suite));
            packets = (0..60_000).map(|n| sealed(&mut sender, n)).collect();
            packets.reverse();
            return;
        };
        black_box(receiver.unprotect(black_box(&packet[..size]), &mut out).unwrap());
    })
}

/// Sequence, loss and jitter of one source (RFC 3550, appendix A), packet by packet.
fn source() -> Step {
    let mut now = Instant::now();
    let first = packet(0);
    let mut source = Source::new(now, 8_000, &RtpPacket::parse(&first).unwrap());
    let mut n = 0;
    Box::new(move || {
        n += 1;
        now += Duration::from_millis(20);
        let bytes = packet(n);
        black_box(source.receive(now, &RtpPacket::parse(&bytes).unwrap()));
    })
}

fn write_rtcp(out: &mut [u8]) -> usize {
    let info = SenderInfo { packets: 500, bytes: 80_000, ..SenderInfo::default() };
    let report = ReportBlock { ssrc: 0x8765_4321, ..ReportBlock::default() };
    let mut writer = Writer::new(out);
    writer.sender_report(0x1234_5678, &info, &[report]).unwrap();
    writer.cname(0x1234_5678, "omnivox").unwrap();
    writer.size_bytes()
}

fn parse_rtcp() -> Step {
    let mut bytes = vec![0; 500];
    let size = write_rtcp(&mut bytes);
    bytes.truncate(size);
    Box::new(move || {
        let compound = Compound::parse(black_box(&bytes)).unwrap();
        for packet in compound.packets() {
            if let Packet::SourceDescription(chunks) = &packet {
                black_box(chunks.iter().count());
            }
            black_box(packet);
        }
    })
}

fn print_rtcp() -> Step {
    let mut out = vec![0; 500];
    Box::new(move || {
        black_box(write_rtcp(black_box(&mut out)));
    })
}
