//! What is heard of speech that crosses a network in virtual time, by people and by the machine, and how good that is by PESQ.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path as FilePath, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use codecs::SampleRate;
use codecs::registry::{self, CodecId};
use media::bench::{HeardBench, PEER};
use media::jitter::JitterStats;
use media::rtp::{RtpHeader, RtpTime, Seq};
use media::{LegConfig, LegMode};

use crate::common::{Netem, Path, ms};

const PAYLOAD_TYPE: u8 = 96;
/// Sound is asked for so long after the peer sends, give or take: a phase that is neither the best nor the worst.
const PHASE: Duration = Duration::from_millis(7);

/// What came of it.
pub struct Heard {
    pub played: Vec<i16>,
    pub ear: Vec<i16>,
    pub jitter: JitterStats,
    pub lost: u64,
}

/// Sends `speech`, at the codec's rate, through `path`; the sender knows of the losses, as reports would tell it. Its clock runs fast by `ppm`, and
/// `fmtp` is what we said of what we take.
pub fn hear(id: CodecId, fmtp: &str, path: Path, seed: u64, speech: &[i16], ppm: i32) -> Heard {
    let spec = registry::spec(id).unwrap();
    let params = spec.negotiated(20, fmtp);
    let rate = params.audio_rate;
    let mut encoder = registry::encoder(&params).unwrap();
    encoder.set_expected_loss_percent((path.loss * 100.0).round() as u8);
    let (samples, ticks) = (rate.samples_in_ms(20), spec.ticks(rate.samples_in_ms(20), rate));
    let start = Instant::now();
    let config = LegConfig { remote: Some(PEER), ..LegConfig::new(params, PAYLOAD_TYPE, LegMode::Talk) };
    let mut bench = HeardBench::new(&config, start).unwrap();
    let mut net = Netem::new(seed, path);
    let mut header =
        RtpHeader { marker: true, payload_type: PAYLOAD_TYPE, seq: Seq(7), timestamp: RtpTime(1), ssrc: seed as u32 };
    let spacing = Duration::from_nanos((20_000_000 - 20 * i64::from(ppm)) as u64);
    let (mut payload, mut packet) = ([0; 1_500], [0; 1_600]);
    let (mut played, mut frame) = (Vec::new(), vec![0; samples]);
    let mut packets = speech.chunks_exact(samples).zip(0_u32..).peekable();
    let mut plays_at = start + PHASE;
    // half a second more, for what is on its way
    let end = start + spacing * (speech.len() / samples) as u32 + ms(500);
    while plays_at < end {
        let sends_at = packets.peek().map(|(_, n)| start + spacing * *n);
        let wakes_at = bench.next_wake(plays_at.min(sends_at.unwrap_or(end)));
        let now = [sends_at, net.next_arrival(), Some(wakes_at)].into_iter().flatten().fold(plays_at, Instant::min);
        if sends_at == Some(now) {
            let (sound, _) = packets.next().unwrap();
            let size = encoder.encode(sound, &mut payload).unwrap();
            let size = header.write(&payload[..size], &mut packet).unwrap();
            net.send(now, &packet[..size]);
            header =
                RtpHeader { marker: false, seq: header.seq.next(), timestamp: header.timestamp.plus(ticks), ..header };
        } else if let Some((at, bytes)) = net.receive(now) {
            bench.receive(at, &bytes);
        } else if wakes_at <= now {
            bench.tick(now);
        } else {
            bench.play(now, &mut frame);
            played.extend(&frame);
            plays_at += ms(20);
        }
    }
    Heard { played, ear: bench.ear().to_vec(), jitter: bench.jitter(), lost: net.lost }
}

/// What would be heard if nothing were done about the losses of `path`: G.711 with gaps.
pub fn with_gaps(path: Path, seed: u64, speech: &[i16]) -> Vec<i16> {
    let params = registry::spec(CodecId::Pcmu).unwrap().params();
    let (mut encoder, mut decoder) = (registry::encoder(&params).unwrap(), registry::decoder(&params).unwrap());
    let mut net = Netem::new(seed, path);
    let mut heard = Vec::new();
    for frame in speech.chunks_exact(160) {
        let (mut payload, mut pcm) = ([0; 160], [0; 160]);
        encoder.encode(frame, &mut payload).unwrap();
        decoder.decode(&payload, &mut pcm).unwrap();
        let lost = net.lost;
        net.send(Instant::now(), &payload);
        heard.extend(if net.lost > lost { [0; 160] } else { pcm });
    }
    heard
}

/// Speech by Flite at `rate`, about as loud as in ITU-T P.800 (-26 dBov).
pub fn speech(folder: &FilePath, voice: &str, text: &str, rate: SampleRate) -> Vec<i16> {
    let path = folder.join("said.wav");
    let status = Command::new("flite").args(["-voice", voice, "-t", text, "-o"]).arg(&path).status();
    assert!(status.expect("flite is missing: scripts/test installs it").success());
    let mut reader = hound::WavReader::open(&path).unwrap();
    let from = SampleRate(reader.spec().sample_rate);
    let said: Vec<i16> = reader.samples().map(Result::unwrap).collect();
    let gain = 10_f64.powf((-26.0 - codecs::pcm::level_dbov(&said)) / 20.0);
    let said: Vec<i16> = said.iter().map(|&sample| codecs::pcm::from_f32((f64::from(sample) * gain) as f32)).collect();
    if from == rate {
        return said;
    }
    let mut resampler = codecs::resample::Resampler::new(from, rate).unwrap();
    let mut out = vec![0; resampler.max_output(said.len())];
    let made = resampler.process(&said, &mut out);
    out.truncate(made);
    out
}

/// Writes a mono file.
pub fn write_wav(path: &FilePath, rate: SampleRate, pcm: &[i16]) {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: rate.hz(),
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(path, spec).unwrap();
    pcm.iter().for_each(|sample| writer.write_sample(*sample).unwrap());
    writer.finalize().unwrap();
}

/// MOS-LQO by PESQ of each pair of what was said and what was heard.
pub fn pesq(pairs: &[(PathBuf, PathBuf)]) -> Vec<f64> {
    let python = std::env::var_os("OMNIVOX_TEST_PYTHON").expect("scripts/test says where PESQ is");
    let script = FilePath::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/lib/pesq_score.py");
    let files = pairs.iter().flat_map(|(said, heard)| [said, heard]);
    let output = Command::new(python).arg(script).args(files).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let list = String::from_utf8(output.stdout).unwrap();
    list.trim().trim_matches(['[', ']']).split(',').map(|score| score.trim().parse().unwrap()).collect()
}
