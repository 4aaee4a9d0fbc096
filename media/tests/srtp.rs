//! SRTP and SRTCP as peers see them: a known packet, a second implementation, and what must not pass.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use media::srtp::{MAX_OVERHEAD_BYTES, MasterKey, Receiver, Sender, SrtpError, Suite};
use rtc_srtp::context::Context;
use rtc_srtp::protection_profile::ProtectionProfile;

fn master(suite: Suite, from: u8) -> MasterKey {
    let bytes: Vec<u8> = (0..suite.master_bytes() as u8).map(|n| from.wrapping_add(n.wrapping_mul(7))).collect();
    MasterKey::new(suite, &bytes).unwrap()
}

fn packet(seq: u16, ssrc: u32, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80, 0];
    packet.extend(seq.to_be_bytes());
    packet.extend((u32::from(seq) * 160).to_be_bytes());
    packet.extend(ssrc.to_be_bytes());
    packet.extend(payload);
    packet
}

/// A receiver report with its eight first bytes in the clear.
fn report(ssrc: u32) -> Vec<u8> {
    let mut packet = vec![0x81, 201, 0, 7];
    packet.extend(ssrc.to_be_bytes());
    packet.extend([3; 24]);
    packet
}

fn protect(sender: &mut Sender, plain: &[u8]) -> Vec<u8> {
    let mut buffer = plain.to_vec();
    buffer.resize(plain.len() + MAX_OVERHEAD_BYTES, 0);
    let len = sender.protect(&mut buffer, plain.len()).unwrap();
    buffer.truncate(len);
    buffer
}

fn unprotect(receiver: &mut Receiver, sealed: &[u8]) -> Result<Vec<u8>, SrtpError> {
    let mut out = vec![0; sealed.len()];
    let len = receiver.unprotect(sealed, &mut out)?;
    out.truncate(len);
    Ok(out)
}

fn profile(suite: Suite) -> ProtectionProfile {
    match suite {
        Suite::AesCm128HmacSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
        Suite::AesCm128HmacSha1_32 => ProtectionProfile::Aes128CmHmacSha1_32,
        Suite::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
        Suite::AeadAes256Gcm => ProtectionProfile::AeadAes256Gcm,
    }
}

fn other(master: &MasterKey) -> Context {
    let (key, salt) = master.key_and_salt().split_at(master.suite().key_bytes());
    let provider = rtc_crypto::default_provider().unwrap();
    Context::new(key, salt, profile(master.suite()), None, None, provider.crypto()).unwrap()
}

/// The packet that libsrtp's self-test protects under the RFC's master key.
#[test]
fn a_packet_known_from_libsrtp() {
    let key = [
        0xe1, 0xf9, 0x7a, 0x0d, 0x3e, 0x01, 0x8b, 0xe0, 0xd6, 0x4f, 0xa3, 0x2c, 0x06, 0xde, 0x41, 0x39, 0x0e, 0xc6,
        0x75, 0xad, 0x49, 0x8a, 0xfe, 0xeb, 0xb6, 0x96, 0x0b, 0x3a, 0xab, 0xe6,
    ];
    let master = MasterKey::new(Suite::AesCm128HmacSha1_80, &key).unwrap();
    let mut plain = vec![0x80, 0x0f, 0x12, 0x34, 0xde, 0xca, 0xfb, 0xad, 0xca, 0xfe, 0xba, 0xbe];
    plain.extend([0xab; 16]);
    let sealed = protect(&mut Sender::new(&master), &plain);
    let behind_header = [
        0x4e, 0x55, 0xdc, 0x4c, 0xe7, 0x99, 0x78, 0xd8, 0x8c, 0xa4, 0xd2, 0x15, 0x94, 0x9d, 0x24, 0x02, 0xb7, 0x8d,
        0x6a, 0xcc, 0x99, 0xea, 0x17, 0x9b, 0x8d, 0xbb,
    ];
    assert_eq!(sealed[12..], behind_header);
    assert_eq!(unprotect(&mut Receiver::new(&master), &sealed).unwrap(), plain);
}

/// Against the webrtc crate's implementation, both ways, across the wrap of the sequence number.
#[test]
fn a_second_implementation_agrees_on_every_suite() {
    for suite in Suite::ALL {
        let master = master(suite, 11);
        let (mut ours, mut theirs) = (Sender::new(&master), other(&master));
        let (mut open, mut their_open) = (Receiver::new(&master), other(&master));
        for n in 0..40_u16 {
            let plain = packet(65_520_u16.wrapping_add(n), 0xcafe, &[n as u8; 160]);
            let sealed = protect(&mut ours, &plain);
            assert_eq!(theirs.encrypt_rtp(&plain).unwrap()[..], sealed[..], "{suite:?} {n}");
            assert_eq!(their_open.decrypt_rtp(&sealed).unwrap()[..], plain[..]);
            assert_eq!(unprotect(&mut open, &sealed).unwrap(), plain);
            let plain = report(0xcafe);
            let mut buffer = plain.clone();
            buffer.resize(plain.len() + MAX_OVERHEAD_BYTES, 0);
            let len = ours.protect_rtcp(&mut buffer, plain.len()).unwrap();
            assert_eq!(their_open.decrypt_rtcp(&buffer[..len]).unwrap()[..], plain[..], "{suite:?} {n}");
            let sealed = theirs.encrypt_rtcp(&plain).unwrap();
            let mut out = vec![0; sealed.len()];
            let len = open.unprotect_rtcp(&sealed, &mut out).unwrap();
            assert_eq!(out[..len], plain[..]);
        }
    }
}

#[test]
fn extensions_and_contributing_sources_stay_readable() {
    for suite in Suite::ALL {
        let master = master(suite, 3);
        let mut plain = vec![0x92, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0, 7];
        plain.extend([1, 1, 1, 1, 2, 2, 2, 2]);
        plain.extend([0xbe, 0xde, 0, 1, 0x10, 0xff, 0, 0]);
        plain.extend([9; 50]);
        let sealed = protect(&mut Sender::new(&master), &plain);
        assert_eq!(sealed[..28], plain[..28], "{suite:?}");
        assert_ne!(sealed[28..78], plain[28..78]);
        assert_eq!(other(&master).decrypt_rtp(&sealed).unwrap()[..], plain[..]);
        assert_eq!(unprotect(&mut Receiver::new(&master), &sealed).unwrap(), plain);
    }
}

#[test]
fn damaged_forged_and_repeated_packets_are_refused_and_change_nothing() {
    for suite in Suite::ALL {
        let (mut sender, mut receiver) = (Sender::new(&master(suite, 1)), Receiver::new(&master(suite, 1)));
        let mut forger = Sender::new(&master(suite, 2));
        let mut last = Vec::new();
        for n in 0..300_u16 {
            let plain = packet(n, 5, &[n as u8; 20]);
            let sealed = protect(&mut sender, &plain);
            for bit in [0, 8 * 3, 8 * 11 + 7, 8 * 20, sealed.len() * 8 - 1] {
                let mut damaged = sealed.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                let result = unprotect(&mut receiver, &damaged);
                assert!(result.is_err(), "{suite:?}: packet {n}, bit {bit}");
            }
            let far = packet(n.wrapping_add(30_000), 5, &[1; 20]);
            assert_eq!(unprotect(&mut receiver, &protect(&mut forger, &far)), Err(SrtpError::Tag));
            assert_eq!(unprotect(&mut receiver, &plain), Err(SrtpError::Tag), "in the clear");
            assert_eq!(unprotect(&mut receiver, &sealed).unwrap(), plain, "{suite:?} {n}");
            assert_eq!(unprotect(&mut receiver, &sealed), Err(SrtpError::Replay));
            if n == 100 {
                last.clone_from(&sealed);
            }
        }
        assert_eq!(unprotect(&mut receiver, &last), Err(SrtpError::Replay), "too old to tell");
        for short in 0..28 {
            assert!(unprotect(&mut receiver, &vec![0x80; short]).is_err());
        }
    }
}

#[test]
fn a_stream_goes_on_over_new_keys_whether_or_not_the_peer_counts_anew() {
    for suite in Suite::ALL {
        goes_on_over_new_keys(suite);
    }
}

fn goes_on_over_new_keys(suite: Suite) {
    let (first, second) = (master(suite, 1), master(suite, 2));
    let (mut sender, mut receiver) = (Sender::new(&first), Receiver::new(&first));
    for seq in [65_534, 65_535, 0, 1] {
        unprotect(&mut receiver, &protect(&mut sender, &packet(seq, 5, &[1; 20]))).unwrap();
    }
    let succeed = |master: &MasterKey, former: &Receiver| {
        let mut next = Receiver::new(master);
        next.succeed(former);
        next
    };
    // One that keeps its rollover counter: as we do.
    let mut kept = Sender::new(&second);
    kept.succeed(&sender);
    let mut next = succeed(&second, &receiver);
    let plain = packet(2, 5, &[2; 20]);
    assert_eq!(unprotect(&mut next, &protect(&mut kept, &plain)).unwrap(), plain);
    // One that begins anew.
    let mut next = succeed(&second, &receiver);
    assert_eq!(unprotect(&mut next, &protect(&mut Sender::new(&second), &plain)).unwrap(), plain);
    let plain = packet(3, 5, &[2; 20]);
    assert!(unprotect(&mut next, &protect(&mut kept, &plain)).is_err(), "and stays where it began");
}

#[test]
fn keys_of_a_wrong_length_are_refused_with_what_is_needed() {
    let error = MasterKey::new(Suite::AesCm128HmacSha1_80, &[0; 29]).unwrap_err();
    assert_eq!(error.to_string(), "AES_CM_128_HMAC_SHA1_80 takes 30 bytes of key and salt, not 29");
    assert!(!format!("{:?}", master(Suite::AeadAes128Gcm, 200)).contains("200"), "keys are not shown");
}

/// Conforms: RFC 3711 §3.3.1 — a packet that is sent out of order about the wrap has the rollover counter of its index
#[test]
fn packets_sent_out_of_order_about_the_wrap_are_opened() {
    for suite in [Suite::AesCm128HmacSha1_80, Suite::AeadAes128Gcm] {
        let master = master(suite, 3);
        let (mut sender, mut receiver, mut other) = (Sender::new(&master), Receiver::new(&master), other(&master));
        for seq in [65_532, 65_534, 0, 65_533, 65_535, 2, 1, 3] {
            let plain = packet(seq, 7, b"sound");
            let sealed = protect(&mut sender, &plain);
            assert_eq!(unprotect(&mut receiver, &sealed).unwrap(), plain, "{suite:?} {seq}");
            assert_eq!(other.decrypt_rtp(&sealed).unwrap(), plain, "{suite:?} {seq}");
        }
        assert!(Sender::new(&master).protect(&mut [0; 8], 8).is_none());
    }
}
