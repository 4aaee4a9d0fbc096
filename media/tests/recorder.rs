//! Recordings: both sides on one timeline, whole up to their last second whatever happens.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use codecs::SampleRate;
use common::{Random, seeds};
use media::io::record::{RecordError, RecordEvent, RecordSink, Recorder};
use media::recorder::{Aligner, RecordBlock, RecordFormat, Side, StereoSample, Track, wav_header};
use media::{RecorderConfig, Recording};

/// A sample of each side that tells its position.
fn tone(side: Side, at: u64) -> i16 {
    match side {
        Side::Left => (at % 30_000) as i16 + 1,
        Side::Right => -((at % 30_000) as i16) - 1,
    }
}

fn block(side: Side, at: u64, len: usize) -> RecordBlock {
    let pcm: Vec<i16> = (at..at + len as u64).map(|at| tone(side, at)).collect();
    RecordBlock::new(side, at, &pcm)
}

#[test]
fn both_sides_lie_at_their_samples_with_silence_where_nothing_came() {
    for seed in seeds(50) {
        let mut random = Random(seed);
        let mut aligner = Aligner::new(4_000, 80_000);
        let mut out: Vec<StereoSample> = Vec::new();
        let mut expected: Vec<StereoSample> = Vec::new();
        let mut blocks = Vec::new();
        for side in [Side::Left, Side::Right] {
            let mut at = random.below(500);
            for _ in 0..200 {
                let len = 1 + random.below(320) as usize;
                blocks.push(block(side, at, len));
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
                expected[at][usize::from(block.side == Side::Right)] = *sample;
            }
            push(&mut aligner, block, |samples| out.extend(samples));
            aligner.take_older(2_000, |samples| out.extend(samples));
        }
        aligner.take_all(|samples| out.extend(samples));
        assert_eq!(aligner.late_samples(), 0, "seed {seed}");
        assert!(out == expected, "seed {seed}: the timeline differs");
    }
}

#[test]
fn what_comes_after_its_place_went_out_is_counted_and_not_put_elsewhere() {
    let mut aligner = Aligner::new(1_000, 80_000);
    let mut out: Vec<StereoSample> = Vec::new();
    push(&mut aligner, &block(Side::Left, 0, 320), |samples| out.extend(samples));
    aligner.take_all(|samples| out.extend(samples));
    push(&mut aligner, &block(Side::Right, 200, 200), |samples| out.extend(samples));
    aligner.take_all(|samples| out.extend(samples));
    assert_eq!(aligner.late_samples(), 120);
    assert_eq!(out.len(), 400);
    assert_eq!(out[319], [320, 0]);
    assert_eq!(out[320], [0, -321]);
}

#[test]
fn a_position_that_leaps_beyond_the_limit_is_refused() {
    let mut aligner = Aligner::new(1_000, 80_000);
    let mut track = track(8_000, 8_000, 0);
    let mut count = 0;
    track.push(&block(Side::Left, 80_001, 160), &mut aligner, |samples| count += samples.len());
    assert_eq!((track.refused_samples(), count), (160, 0));
    let far = RecordBlock::new(Side::Right, u64::MAX - 5, &[1; 320]);
    track.push(&far, &mut aligner, |samples| count += samples.len());
    assert_eq!((track.refused_samples(), count), (480, 0));
    track.push(&block(Side::Left, 80_000, 160), &mut aligner, |samples| count += samples.len());
    aligner.take_all(|samples| count += samples.len());
    assert_eq!((track.refused_samples(), count), (480, 80_160));
}

fn push(aligner: &mut Aligner, block: &RecordBlock, out: impl FnMut(&[StereoSample])) {
    aligner.push(block.side, block.at_samples, block.samples(), out);
}

/// A source of the rate `from` in a recording at `to`, which it came to `later_ms` after the beginning.
fn track(from: u32, to: u32, later_ms: i64) -> Track {
    let start = Instant::now() + Duration::from_secs(10);
    let later = Duration::from_millis(later_ms.unsigned_abs());
    let began = if later_ms < 0 { start - later } else { start + later };
    Track::new(SampleRate(from), SampleRate(to), start, began).unwrap()
}

#[test]
fn what_several_say_on_one_side_is_added_and_what_one_says_twice_is_not() {
    let mut aligner = Aligner::new(8_000, 80_000);
    let (mut one, mut other) = (track(8_000, 8_000, 0), track(8_000, 8_000, 10));
    let mut out: Vec<StereoSample> = Vec::new();
    let block = |at, pcm: &[i16]| RecordBlock::new(Side::Right, at, pcm);
    one.push(&block(0, &[100; 160]), &mut aligner, |_| ());
    one.push(&block(100, &[7; 160]), &mut aligner, |_| ());
    other.push(&block(0, &[20_000; 160]), &mut aligner, |_| ());
    one.push(&block(260, &[30_000; 160]), &mut aligner, |_| ());
    other.push(&block(180, &[20_000; 160]), &mut aligner, |_| ());
    aligner.take_all(|samples| out.extend(samples));
    let right: Vec<i16> = out.iter().map(|[left, right]| right + left).collect();
    assert_eq!((&right[..80], &right[80..160]), (&[100; 80][..], &[20_100; 80][..]));
    assert_eq!((right[160], right[239], right[240], right[259]), (20_007, 20_007, 7, 7));
    assert_eq!((right.len(), right[260], right[419]), (420, 32_767, 32_767), "no more than there is room for");
}

#[test]
fn what_was_before_the_beginning_is_not_in_a_recording() {
    let mut aligner = Aligner::new(8_000, 80_000);
    let mut track = track(8_000, 8_000, -30);
    let mut out: Vec<StereoSample> = Vec::new();
    for at in [0, 160, 320] {
        track.push(&block(Side::Left, at, 160), &mut aligner, |_| ());
    }
    aligner.take_all(|samples| out.extend(samples));
    assert_eq!((out.len(), out[0]), (240, [tone(Side::Left, 240), 0]));
}

/// The first place where the sound rises.
fn rise(samples: &[i16]) -> usize {
    samples.iter().position(|sample| *sample > 4_000).unwrap()
}

#[test]
fn sources_of_other_rates_lie_at_their_samples() {
    for (from, to) in [(8_000, 16_000), (16_000, 8_000), (48_000, 16_000), (8_000, 48_000), (44_100, 48_000)] {
        let mut aligner = Aligner::new(200_000, 800_000);
        let mut track = track(from, to, 50);
        let steps = u64::from(from) / 50;
        let mut out: Vec<StereoSample> = Vec::new();
        // A step in the fifth block, a gap of a second, and a step at once.
        for n in (0..10).chain(60..70) {
            let pcm: Vec<i16> = (0..steps).map(|_| if matches!(n, 4..10 | 60..) { 8_000 } else { 0 }).collect();
            for (at, pcm) in (n * steps..).step_by(320).zip(pcm.chunks(320)) {
                track.push(&RecordBlock::new(Side::Left, at, pcm), &mut aligner, |_| ());
            }
        }
        aligner.take_all(|samples| out.extend(samples));
        let left: Vec<i16> = out.iter().map(|[left, _]| *left).collect();
        let at = |ms: usize| ms * to as usize / 1_000;
        assert!(rise(&left).abs_diff(at(130)) <= 2, "{from} to {to}: {} and not {}", rise(&left), at(130));
        let later = at(300) + rise(&left[at(300)..]);
        assert!(later.abs_diff(at(1_250)) <= 2, "{from} to {to}: {later} and not {}", at(1_250));
        let end = left.iter().rposition(|sample| *sample > 4_000).unwrap();
        assert!(end.abs_diff(at(1_450)) <= to as usize / 250, "{from} to {to}: {end}");
        let gap = at(250) + left[at(250)..].iter().position(|sample| *sample < 4_000).unwrap();
        assert!(gap.abs_diff(at(250)) <= 2, "{from} to {to}: the end before the gap is whole: {gap}");
    }
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

fn config(path: &Path, format: RecordFormat) -> RecorderConfig {
    RecorderConfig { path: path.to_owned(), format, seal: None, tone_every: None, rate: None }
}

/// A recording with one source.
fn open_as(recorder: &Arc<Recorder>, path: &Path, format: RecordFormat) -> (RecordSink, Receiver<RecordEvent>) {
    let (tell, told) = channel();
    let recording = recorder.open(config(path, format), move |event| drop(tell.send(event)));
    (sink(&recording), told)
}

fn sink(recording: &Recording) -> RecordSink {
    recording.sink(SampleRate::HZ_8000, Instant::now(), Side::Left).unwrap()
}

fn open(recorder: &Arc<Recorder>, path: &Path) -> (RecordSink, Receiver<RecordEvent>) {
    open_as(recorder, path, RecordFormat::Wav)
}

/// Pushes both sides from `from` to `to`, in blocks of 20 ms, waiting where the ring is full.
fn record(sink: &mut RecordSink, from: u64, to: u64) {
    for at in (from..to).step_by(160) {
        for side in [Side::Left, Side::Right] {
            let block = block(side, at, 160);
            while sink.push(side, at, block.samples()) > 0 {
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
        assert_eq!(*pair, [tone(Side::Left, at), tone(Side::Right, at)], "sample {at}");
    }
    let count = samples.len() as u64 / 2;
    assert!(count >= at_least, "{count} samples of at least {at_least}");
    count
}

#[test]
fn a_recording_that_ends_is_complete_to_the_sample() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = Recorder::new(2);
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
    let recorder = Recorder::new(2);
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
    let recorder = Recorder::new(2);
    let (mut sink, _told) = open(&recorder, &folder.path().join("call.wav"));
    let began = Instant::now();
    let mut pushed = 0u64;
    while sink.dropped_blocks() == 0 && began.elapsed() < Duration::from_secs(20) {
        sink.push(Side::Left, pushed * 160, &[1; 160]);
        pushed += 1;
    }
    assert!(sink.dropped_blocks() > 0, "the ring has no bound");
}

#[test]
fn a_file_that_cannot_be_made_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = Recorder::new(2);
    let refused = |path: &Path| {
        let recording = recorder.open(config(path, RecordFormat::Wav), |_| ());
        let sink = || recording.sink(SampleRate::HZ_8000, Instant::now(), Side::Left).unwrap_err();
        let error = sink();
        assert!(matches!(error, RecordError::Create { .. }));
        assert!(matches!(sink(), RecordError::Busy { .. }), "it does not begin later");
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
    let recorder = Recorder::new(2);
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
    let recorder = Recorder::new(2);
    let (mut sink, told) = open(&recorder, Path::new(&path));
    let mut at = 0;
    let began = Instant::now();
    while !sink.is_closed() {
        let block = block(Side::Left, at, 160);
        if sink.push(Side::Left, at, block.samples()) == 0 {
            at += 160;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "the fault was not noticed");
    }
    let Ok(RecordEvent::Failed { reason, .. }) = told.recv_timeout(Duration::from_secs(10)) else { panic!("no event") };
    assert!(reason.contains("large"), "{reason}");
    // pushing goes on without harm
    for _ in 0..1_000 {
        sink.push(Side::Left, at, &[0; 160]);
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

/// Runs a tool of opus-tools; what it said.
fn tool(name: &str, args: &[&str]) -> String {
    let done = Command::new(name).args(args).output().unwrap_or_else(|fault| panic!("{name} (opus-tools): {fault}"));
    let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{name}: {said}");
    said
}

/// What opusdec makes of a file, at 8 kHz, left and right.
fn decoded(opus: &Path) -> [Vec<i16>; 2] {
    let wav = opus.with_extension("decoded.wav");
    tool("opusdec", &["--quiet", "--rate", "8000", "--no-dither", opus.to_str().unwrap(), wav.to_str().unwrap()]);
    let samples: Vec<i16> = hound::WavReader::open(wav).unwrap().samples().map(Result::unwrap).collect();
    let side = |n: usize| samples.iter().skip(n).step_by(2).copied().collect();
    [side(0), side(1)]
}

/// Speech of a kind: noise in a band, that comes and goes. One for each seed.
fn chirps(seed: u64, samples: usize) -> Vec<i16> {
    let mut random = Random(seed);
    let (mut phase, mut hz) = (0.0_f64, 500.0);
    let step = |n: usize, hz: &mut f64, random: &mut Random| {
        if n.is_multiple_of(400) {
            *hz = 250.0 + random.below(1_500) as f64;
        }
    };
    (0..samples)
        .map(|n| {
            step(n, &mut hz, &mut random);
            phase += hz * std::f64::consts::TAU / 8_000.0;
            let loud = if n % 4_000 < 2_600 { 9_000.0 } else { 0.0 };
            (phase.sin() * loud) as i16
        })
        .collect()
}

/// By how many samples `got` trails `sent`, and how alike they are then (1: the same).
fn lag(sent: &[i16], got: &[i16]) -> (i64, f64) {
    let energy = |samples: &[i16]| samples.iter().map(|sample| f64::from(*sample).powi(2)).sum::<f64>();
    let alike = |lag: i64| {
        let (from, to) = (1_000_usize, sent.len().min(got.len()) - 1_000);
        let got = &got[(from as i64 + lag) as usize..(to as i64 + lag) as usize];
        let both: f64 = sent[from..to].iter().zip(got).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
        both / (energy(&sent[from..to]) * energy(got)).sqrt().max(1.0)
    };
    (-200..=200).map(|lag| (lag, alike(lag))).max_by(|a, b| a.1.total_cmp(&b.1)).unwrap()
}

/// Conforms: RFC 7845 §4, §5 — headers, granule positions and the end of the stream, by opusinfo and opusdec
#[test]
fn an_opus_recording_is_what_opus_tools_read_and_lies_at_its_samples() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("call.opus");
    let recorder = Recorder::new(1);
    let (mut sink, told) = open_as(&recorder, &path, RecordFormat::Opus);
    let (left, right) = (chirps(1, 40_050), chirps(2, 40_050));
    for (n, (left, right)) in left.chunks(160).zip(right.chunks(160)).enumerate() {
        for (side, pcm) in [(Side::Left, left), (Side::Right, right)] {
            while sink.push(side, n as u64 * 160, pcm) > 0 {
                assert!(!sink.is_closed(), "the recording ended");
                std::thread::yield_now();
            }
        }
    }
    drop(sink);
    let event = told.recv_timeout(Duration::from_secs(30)).unwrap();
    assert_eq!(event, RecordEvent::Finished { path: path.clone(), samples: 40_050, late_samples: 0 });
    let said = tool("opusinfo", &[path.to_str().unwrap()]);
    assert!(said.contains("Channels: 2") && said.contains("Original sample rate: 8000 Hz"), "{said}");
    assert!(said.contains("stream 1 ended") && !said.to_lowercase().contains("warning"), "{said}");
    let [got_left, got_right] = decoded(&path);
    assert_eq!((got_left.len(), got_right.len()), (40_050, 40_050), "the length, to the sample");
    for (sent, got, other) in [(&left, &got_left, &right), (&right, &got_right, &left)] {
        let (lag, alike) = lag(sent, got);
        println!("lag {lag}, {alike:.3} alike");
        assert!(lag.abs() <= 1 && alike > 0.95, "{lag} samples late, {alike} alike");
        assert!(self::lag(other, got).1 < 0.3, "the other side is heard here");
    }
}

/// In the child: as the WAV recording above.
#[test]
fn child_records_opus_until_it_is_killed() {
    let Some(path) = std::env::var_os("RECORD_TO") else { return };
    let recorder = Recorder::new(1);
    let (mut sink, _told) = open_as(&recorder, Path::new(&path), RecordFormat::Opus);
    let sound = chirps(3, 8_000 * 60);
    let began = Instant::now();
    let mut at = 0;
    while began.elapsed() < Duration::from_secs(59) {
        let due = began.elapsed().as_millis() as usize * 8 / 160 * 160;
        if due > at {
            sink.push(Side::Left, at as u64, &sound[at..due]);
            std::fs::write(Path::new(&path).with_extension("position"), due.to_string()).unwrap();
            at = due;
        }
        std::thread::yield_now();
    }
}

#[test]
fn after_a_kill_an_opus_file_plays_up_to_its_last_second() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("call.opus");
    let mut child = child("child_records_opus_until_it_is_killed", &path, "");
    let position =
        || std::fs::read_to_string(path.with_extension("position")).ok().and_then(|text| text.parse::<usize>().ok());
    let began = Instant::now();
    while position().is_none_or(|at| at < 24_000) && began.elapsed() < Duration::from_secs(50) {
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let recorded = position().unwrap();
    let [left, _] = decoded(&path);
    assert!(left.len() + 8_000 >= recorded, "{} of {recorded} are there", left.len());
    let (lag, alike) = lag(&chirps(3, left.len()), &left);
    assert!(lag.abs() <= 1 && alike > 0.9, "{lag} samples late, {alike} alike");
}
