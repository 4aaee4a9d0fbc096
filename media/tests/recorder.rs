//! Recordings: both sides on one timeline, whole up to their last second whatever happens.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use common::{Random, seeds};
use media::io::record::{RecordError, RecordEvent, RecordSink, Recorder};
use media::recorder::{Aligner, Channel, RecordBlock, StereoSample, wav_header};

/// A sample of each side that tells its position.
fn tone(channel: Channel, at: u64) -> i16 {
    match channel {
        Channel::Caller => (at % 30_000) as i16 + 1,
        Channel::Agent => -((at % 30_000) as i16) - 1,
    }
}

fn block(channel: Channel, at: u64, len: usize) -> RecordBlock {
    let pcm: Vec<i16> = (at..at + len as u64).map(|at| tone(channel, at)).collect();
    RecordBlock::new(channel, at, &pcm)
}

#[test]
fn both_sides_lie_at_their_samples_with_silence_where_nothing_came() {
    for seed in seeds(50) {
        let mut random = Random(seed);
        let mut aligner = Aligner::new(0, 4_000, 80_000);
        let mut out: Vec<StereoSample> = Vec::new();
        let mut expected: Vec<StereoSample> = Vec::new();
        let mut blocks = Vec::new();
        for channel in [Channel::Caller, Channel::Agent] {
            let mut at = random.below(500);
            for _ in 0..200 {
                let len = 1 + random.below(320) as usize;
                blocks.push(block(channel, at, len));
                at += len as u64 + if random.chance(0.1) { random.below(600) } else { 0 };
            }
        }
        // the sides come interleaved, up to 100 ms apart
        blocks.sort_by_cached_key(|block| block.at_samples + random.below(800));
        for block in &blocks {
            for (at, sample) in (block.at_samples as usize..).zip(block.samples()) {
                if expected.len() <= at {
                    expected.resize(at + 1, [0; 2]);
                }
                expected[at][usize::from(block.channel == Channel::Agent)] = *sample;
            }
            aligner.push(block, |samples| out.extend(samples));
            aligner.take_older(2_000, |samples| out.extend(samples));
        }
        aligner.take_all(|samples| out.extend(samples));
        assert_eq!(aligner.late_samples(), 0, "seed {seed}");
        assert!(out == expected, "seed {seed}: the timeline differs");
    }
}

#[test]
fn what_comes_after_its_place_went_out_is_counted_and_not_put_elsewhere() {
    let mut aligner = Aligner::new(0, 1_000, 80_000);
    let mut out: Vec<StereoSample> = Vec::new();
    aligner.push(&block(Channel::Caller, 0, 320), |samples| out.extend(samples));
    aligner.take_all(|samples| out.extend(samples));
    aligner.push(&block(Channel::Agent, 200, 200), |samples| out.extend(samples));
    aligner.take_all(|samples| out.extend(samples));
    assert_eq!(aligner.late_samples(), 120);
    assert_eq!(out.len(), 400);
    assert_eq!(out[319], [320, 0]);
    assert_eq!(out[320], [0, -321]);
}

#[test]
fn a_position_that_leaps_beyond_the_limit_is_refused() {
    let mut aligner = Aligner::new(0, 1_000, 80_000);
    let mut count = 0;
    aligner.push(&block(Channel::Caller, 80_001, 160), |samples| count += samples.len());
    assert_eq!((aligner.refused_samples(), count), (160, 0));
    aligner.push(&RecordBlock::new(Channel::Agent, u64::MAX - 5, &[1; 320]), |samples| count += samples.len());
    assert_eq!((aligner.refused_samples(), count), (480, 0));
    aligner.push(&block(Channel::Caller, 80_000, 160), |samples| count += samples.len());
    aligner.take_all(|samples| count += samples.len());
    assert_eq!((aligner.refused_samples(), count), (480, 80_160));
}

#[test]
fn the_header_is_what_others_read() {
    let mut file = wav_header(8_000, 2).to_vec();
    file.extend([1, 0, 2, 0, 3, 0, 4, 0]);
    let mut reader = hound::WavReader::new(&file[..]).unwrap();
    let spec = reader.spec();
    assert_eq!((spec.channels, spec.sample_rate, spec.bits_per_sample), (2, 8_000, 16));
    assert_eq!(reader.samples::<i16>().map(Result::unwrap).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(hound::WavReader::new(&wav_header(16_000, 0)[..]).unwrap().len(), 0);
}

fn open(recorder: &Recorder, path: &Path) -> (RecordSink, Receiver<RecordEvent>) {
    let (tell, told) = channel();
    let sink = recorder.open(path, 8_000, move |event| tell.send(event).unwrap()).unwrap();
    (sink, told)
}

/// Pushes both sides from `from` to `to`, in blocks of 20 ms, waiting where the ring is full.
fn record(sink: &mut RecordSink, from: u64, to: u64) {
    for at in (from..to).step_by(160) {
        for channel in [Channel::Caller, Channel::Agent] {
            let block = block(channel, at, 160);
            while sink.push(channel, at, block.samples()) > 0 {
                assert!(!sink.is_closed(), "the recording ended");
                std::thread::yield_now();
            }
        }
    }
}

fn check(path: &Path, at_least: u64) -> u64 {
    let mut reader = hound::WavReader::open(path).unwrap();
    let samples: Vec<i16> = reader.samples::<i16>().map(Result::unwrap).collect();
    for (at, pair) in (0..).zip(samples.as_chunks::<2>().0) {
        assert_eq!(*pair, [tone(Channel::Caller, at), tone(Channel::Agent, at)], "sample {at}");
    }
    let count = samples.len() as u64 / 2;
    assert!(count >= at_least, "{count} samples of at least {at_least}");
    count
}

#[test]
fn a_recording_that_ends_is_complete_to_the_sample() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = Recorder::start().unwrap();
    let paths: Vec<_> = (0..8).map(|n| folder.path().join(format!("{n}.wav"))).collect();
    let mut sinks: Vec<_> = paths.iter().map(|path| open(&recorder, path)).collect();
    for second in 0..5 {
        for (sink, _) in &mut sinks {
            record(sink, second * 8_000, (second + 1) * 8_000);
        }
    }
    for ((sink, told), path) in sinks.into_iter().zip(&paths) {
        drop(sink);
        let event = told.recv_timeout(Duration::from_secs(30)).unwrap();
        assert_eq!(event, RecordEvent::Finished { path: path.clone(), samples: 40_000, late_samples: 0 });
        assert_eq!(check(path, 40_000), 40_000);
    }
}

#[test]
fn recordings_are_completed_when_the_recorder_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("call.wav");
    let recorder = Recorder::start().unwrap();
    let (mut sink, told) = open(&recorder, &path);
    record(&mut sink, 0, 4_000);
    drop(recorder);
    assert!(matches!(told.try_recv(), Ok(RecordEvent::Finished { samples: 4_000, .. })));
    assert_eq!(check(&path, 4_000), 4_000);
    assert!(sink.is_closed());
}

#[test]
fn a_full_ring_drops_and_counts_and_never_waits() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = Recorder::start().unwrap();
    let (mut sink, _told) = open(&recorder, &folder.path().join("call.wav"));
    let began = Instant::now();
    let mut pushed = 0u64;
    while sink.dropped_blocks() == 0 && began.elapsed() < Duration::from_secs(20) {
        sink.push(Channel::Caller, pushed * 160, &[1; 160]);
        pushed += 1;
    }
    assert!(sink.dropped_blocks() > 0, "the ring has no bound");
}

#[test]
fn a_file_that_cannot_be_made_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = Recorder::start().unwrap();
    let refused = |path: &Path| {
        let error = recorder.open(path, 8_000, |_| ()).unwrap_err();
        assert!(matches!(error, RecordError::Create { .. }));
        error.to_string()
    };
    let missing = refused(&folder.path().join("none/call.wav"));
    assert!(missing.contains("mkdir -p") && missing.contains("none"), "{missing}");
    let is_folder = refused(folder.path());
    assert!(is_folder.contains("name a file"), "{is_folder}");
    // a device that is always full
    let full = refused(Path::new("/dev/full"));
    assert!(full.contains("make room"), "{full}");
}

/// Runs one test of this program in a process of its own, under a shell's limits.
fn child(test: &str, path: &Path, limits: &str) -> std::process::Child {
    let program = std::env::current_exe().unwrap();
    Command::new("sh")
        .arg("-c")
        .arg(format!("{limits} exec \"$0\" --exact {test} --nocapture"))
        .arg(program)
        .env("RECORD_TO", path)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// In the child: records in real time, or as fast as it goes, until it is killed.
#[test]
fn child_records_until_it_is_killed() {
    let Some(path) = std::env::var_os("RECORD_TO") else { return };
    let recorder = Recorder::start().unwrap();
    let (mut sink, _told) = open(&recorder, Path::new(&path));
    let began = Instant::now();
    let mut at = 0;
    while began.elapsed() < Duration::from_secs(60) {
        let due = began.elapsed().as_millis() as u64 * 8 / 160 * 160;
        if due > at {
            record(&mut sink, at, due);
            // how far it came, for the parent
            std::fs::write(Path::new(&path).with_extension("position"), due.to_string()).unwrap();
            at = due;
        }
        std::thread::yield_now();
    }
}

#[test]
fn after_a_kill_the_file_is_whole_up_to_its_last_second() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("call.wav");
    let mut child = child("child_records_until_it_is_killed", &path, "");
    let position =
        || std::fs::read_to_string(path.with_extension("position")).ok().and_then(|text| text.parse::<u64>().ok());
    let began = Instant::now();
    while position().is_none_or(|at| at < 24_000) && began.elapsed() < Duration::from_secs(50) {
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let recorded = position().unwrap();
    let count = check(&path, recorded - 8_000);
    println!("killed at sample {recorded}, {count} are readable");
}

/// In the child: the system refuses to let the file grow beyond the shell's limit.
#[test]
fn child_records_onto_a_full_disk() {
    let Some(path) = std::env::var_os("RECORD_TO") else { return };
    let recorder = Recorder::start().unwrap();
    let (mut sink, told) = open(&recorder, Path::new(&path));
    let mut at = 0;
    let began = Instant::now();
    while !sink.is_closed() {
        let block = block(Channel::Caller, at, 160);
        if sink.push(Channel::Caller, at, block.samples()) == 0 {
            at += 160;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "the fault was not noticed");
    }
    let Ok(RecordEvent::Failed { reason, .. }) = told.recv_timeout(Duration::from_secs(10)) else { panic!("no event") };
    assert!(reason.contains("large"), "{reason}");
    // pushing goes on without harm
    for _ in 0..1_000 {
        sink.push(Channel::Caller, at, &[0; 160]);
    }
}

#[test]
fn a_disk_that_fills_up_ends_the_recording_with_an_event_and_a_readable_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("call.wav");
    // 256 blocks of 512 bytes; the signal that would kill the process is ignored, so that writing fails
    let mut child = child("child_records_onto_a_full_disk", &path, "trap '' XFSZ; ulimit -f 256;");
    assert!(child.wait().unwrap().success());
    let reader = hound::WavReader::open(&path).unwrap();
    assert!(reader.len() > 10_000, "{} samples", reader.len());
}
