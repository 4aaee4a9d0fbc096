//! G.722 beside another implementation of it.
#![allow(clippy::unwrap_used)]

#[path = "support/signal.rs"]
mod signal;

use codecs::g722::{G722Decoder, G722Encoder};
use codecs::{Decoder, Encoder};
use ezk_g722::libg722::{Bitrate, decoder, encoder};

/// The other implementation starts from another state; both forget it in a moment.
const SETTLED_SAMPLES: usize = 4000;

#[test]
fn each_decodes_what_the_other_encodes() {
    let pcm = signal::voice(16_000, 32_000);
    let mut ours = vec![0; 16_000];
    G722Encoder::new().encode(&pcm, &mut ours).unwrap();
    let theirs = encoder::Encoder::new(Bitrate::Mode1_64000, false, false).encode(&pcm);
    let mut qualities = Vec::new();
    for (name, stream) in [("ours", &ours), ("theirs", &theirs)] {
        let mut by_us = vec![0; 32_000];
        G722Decoder::new().decode(stream, &mut by_us).unwrap();
        let by_them = decoder::Decoder::new(Bitrate::Mode1_64000, false, false).decode(stream);
        let settled = SETTLED_SAMPLES..;
        if name == "theirs" {
            // to the bit; an encoder that starts elsewhere never quite meets another
            assert_eq!(by_them[settled.clone()], by_us[settled.clone()]);
        }
        let agreement = signal::snr_db(&by_them[settled.clone()], &by_us[settled], 0);
        let (quality, delay) = signal::best_snr_db(&pcm, &by_us, 40);
        eprintln!("{name}: decoders agree to {agreement:.1} dB; {quality:.1} dB, {delay} late");
        assert!(agreement > 50.0, "{name}: decoders agree to {agreement:.1} dB");
        qualities.push(quality);
    }
    assert!(qualities.iter().all(|&quality| quality > 30.0), "{qualities:?}");
    assert!((qualities[0] - qualities[1]).abs() < 0.2, "{qualities:?}");
}
