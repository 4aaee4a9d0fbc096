//! What a line says by tones instead of words is heard on a call, noted in its record and counted.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::f32::consts::TAU;
use std::path::{Path, PathBuf};

use common::{Server, omnivox, told};

/// Tones (each of so many hertz, none is a rest) for so many milliseconds, as a WAV file of 8 kHz.
fn sound(folder: &Path, name: &str, parts: &[(&[f32], usize)]) -> PathBuf {
    let path = folder.join(name);
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 8_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut wav = hound::WavWriter::create(&path, spec).unwrap();
    for (tones, ms) in parts {
        for n in 0..ms * 8 {
            let each = tones.iter().map(|hz| (n as f32 * TAU * hz / 8_000.0).sin());
            wav.write_sample((each.sum::<f32>() * 4_000.0) as i16).unwrap();
        }
    }
    wav.finalize().unwrap();
    path
}

#[test]
fn a_fax_that_calls_and_a_line_that_is_busy_are_told_from_a_person() {
    let server = Server::start(&[]);
    server.wait_until_ready();
    let folder = server.folder.path();
    let rest: (&[f32], usize) = (&[], 1_500);
    let busy: (&[f32], usize) = (&[425.0], 500);
    let pause: (&[f32], usize) = (&[], 500);
    let calls = [
        ("fax", vec![rest, (&[1_100.0], 500), rest], vec!["fax_calling"]),
        ("busy", vec![rest, busy, pause, busy, pause, busy, pause, busy, rest], vec!["busy"]),
        ("hum", vec![rest, (&[180.0], 1_500), rest], vec![]),
    ];
    for (n, (name, parts, tones)) in calls.into_iter().enumerate() {
        let wav = sound(folder, &format!("{name}.wav"), &parts);
        for codec in ["PCMU", "opus"] {
            let ports = format!("rtp.ports={}", common::rtp_ports());
            let codecs = format!("rtp.codecs=[\"{codec}\"]");
            let arguments =
                ["call", &server.uri("agent"), "--play", wav.to_str().unwrap(), "--set", &ports, "--set", &codecs];
            let said = omnivox(folder, &arguments);
            assert!(said.status.success(), "{}", told(&said));
            let records = server.wait_for_records(2 * n + if codec == "PCMU" { 1 } else { 2 });
            let record = records.last().unwrap();
            let empty = Vec::new();
            let heard = record["tones"].as_array().unwrap_or(&empty).iter().map(|tone| tone["tone"].as_str().unwrap());
            assert_eq!(heard.collect::<Vec<_>>(), tones, "{name} over {codec}: {record}");
        }
    }
    let metrics = server.get("/metrics").1;
    assert!(metrics.contains("omnivox_tones_total{tone=\"fax_calling\"} 2"), "{metrics}");
    server.stop();
}
