//! Response latency end to end inside the process: `cargo bench --bench response`.
//!
//! A caller made of Flite talks with the built-in front desk over a line in this process, in real time and in frames of
//! 20 ms. A time is that from the caller's last sound to the agent's first in one turn: waiting until the caller is
//! surely done, recognition (PocketSphinx), the script and the first audio of the voice (Flite). A turn takes some seconds.
#![allow(clippy::expect_used, clippy::panic)]

use std::collections::VecDeque;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use agent::definition::AgentDefinition;
use agent::line::{HeardFrame, Line, LineEvent};
use agent::registry::{Environment, Registry};
use agent::session::{OBSERVER_CAPACITY, Session};
use agent::voice::Voices;
use codecs::SampleRate;
use codecs::pcm;
use codecs::speech::SpeechGate;
use criterion::{Criterion, SamplingMode};
use futures::StreamExt;

const RATE: SampleRate = SampleRate::HZ_16000;
const FRAME_SAMPLES: usize = 320;
const FRAME: Duration = Duration::from_millis(20);
const QUESTION: &str = "what are your opening hours";
/// Flite's voice for the caller, another one than the agent's.
const CALLER_VOICE: &str = "flite:slt";
/// The agent is done when it has been silent for so many frames.
const PATIENCE_FRAMES: u32 = 50;
/// Quieter than this is no sound.
const SOUND_DBOV: f64 = -50.0;
const MAX_QUEUED_SAMPLES: usize = 16_000;
/// The front desk does not talk for ever: after so many turns the caller calls again.
const TURNS_PER_CALL: usize = 8;

/// A line to a caller who asks the same question whenever the agent has been silent for a second.
struct Caller {
    question: Vec<i16>,
    /// Sample of the question that is said next; `None` while the caller listens.
    saying: Option<usize>,
    /// When the last sound of the question was said, until the agent answers.
    asked: Option<Instant>,
    turns: usize,
    silent_frames: u32,
    heard_agent: bool,
    gate: SpeechGate,
    queue: VecDeque<i16>,
    played: u64,
    opened: Instant,
    frames: u32,
    times: mpsc::Sender<Duration>,
}

impl Caller {
    fn new(question: Vec<i16>, times: mpsc::Sender<Duration>) -> Caller {
        Caller {
            question,
            saying: None,
            asked: None,
            turns: 0,
            silent_frames: 0,
            heard_agent: false,
            gate: SpeechGate::new(RATE),
            queue: VecDeque::new(),
            played: 0,
            opened: Instant::now(),
            frames: 0,
            times,
        }
    }

    /// 20 ms of the agent, at the caller's ear. False when the caller hangs up.
    fn listen(&mut self) -> bool {
        let count = self.queue.len().min(FRAME_SAMPLES);
        let frame: Vec<i16> = self.queue.drain(..count).collect();
        self.played += count as u64;
        if pcm::level_dbov(&frame) <= SOUND_DBOV {
            self.silent_frames += 1;
            return true;
        }
        self.silent_frames = 0;
        self.heard_agent = true;
        if let Some(asked) = self.asked.take() {
            let quiet = frame.iter().take_while(|sample| sample.unsigned_abs() < 100).count();
            self.turns += 1;
            return self.times.send(asked.elapsed() + RATE.duration_of(quiet)).is_ok();
        }
        true
    }

    /// 20 ms of the caller.
    fn speak(&mut self) -> Vec<i16> {
        if self.saying.is_none() && self.asked.is_none() && self.heard_agent && self.silent_frames >= PATIENCE_FRAMES {
            self.saying = Some(0);
            self.heard_agent = false;
        }
        let mut frame = vec![0; FRAME_SAMPLES];
        if let Some(at) = self.saying {
            let rest = self.question.get(at..).unwrap_or_default();
            let count = rest.len().min(FRAME_SAMPLES);
            frame[..count].copy_from_slice(&rest[..count]);
            self.saying = Some(at + count);
            if count == rest.len() {
                self.saying = None;
                let silence = RATE.duration_of(FRAME_SAMPLES - count);
                self.asked = Instant::now().checked_sub(silence);
            }
        }
        frame
    }
}

impl Line for Caller {
    fn rate(&self) -> SampleRate {
        RATE
    }

    async fn next(&mut self) -> LineEvent {
        let due = self.opened + FRAME * (self.frames + 1);
        tokio::time::sleep_until(due.into()).await;
        let at_ms = f64::from(self.frames) * 20.0;
        self.frames += 1;
        if !self.listen() || self.turns >= TURNS_PER_CALL {
            return LineEvent::Closed;
        }
        let pcm = self.speak();
        self.gate.push(&pcm);
        let speech = self.gate.probability();
        LineEvent::Audio(HeardFrame { pcm, sent: Vec::new(), rate: RATE, speech, concealed: false, at_ms })
    }

    fn say(&mut self, pcm: &[i16]) -> usize {
        let count = pcm.len().min(MAX_QUEUED_SAMPLES.saturating_sub(self.queue.len()));
        self.queue.extend(&pcm[..count]);
        count
    }

    fn queued_samples(&self) -> usize {
        self.queue.len()
    }

    fn played_samples(&self) -> u64 {
        self.played
    }

    fn interrupt(&mut self) {
        self.queue.clear();
        self.played = 0;
    }

    fn duck(&mut self, _gain: f32) {}
}

/// The question as audio, without the silence around it.
async fn question() -> Vec<i16> {
    let voice = Voices::default().from_name(CALLER_VOICE, RATE).expect("Flite: scripts/bench installs it");
    let mut speech = voice.speak(QUESTION).expect("speech");
    let mut pcm = Vec::new();
    while let Some(chunk) = speech.next().await {
        pcm.extend(chunk.expect("speech"));
    }
    let loud = |sample: &i16| sample.unsigned_abs() > 300;
    let start = pcm.iter().position(loud).expect("sound");
    let end = pcm.iter().rposition(loud).expect("sound");
    pcm[start..=end].to_vec()
}

/// Calls the front desk again and again; the turns' times come out of the channel.
fn conversations() -> mpsc::Receiver<Duration> {
    let (times, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let definition = AgentDefinition::front_desk().expect("the built-in agent");
        let agent = Registry::built_in()
            .build(&definition, &Environment::of_process("data/models"))
            .expect("the front desk: scripts/bench installs what it needs");
        agent.notes.iter().for_each(|note| eprintln!("{note}"));
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let question = question().await;
            loop {
                let (observer, mut events) = tokio::sync::mpsc::channel(OBSERVER_CAPACITY);
                let drain = tokio::spawn(async move { while events.recv().await.is_some() {} });
                let mut caller = Caller::new(question.clone(), times.clone());
                Session::new(agent.clone(), observer).run(&mut caller).await;
                drain.abort();
                if caller.turns == 0 {
                    // the measurement is over, or the agent never answers: the receiver sees the channel end
                    return;
                }
            }
        });
    });
    receiver
}

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(1))
        .measurement_time(Duration::from_millis(10))
        .configure_from_args();
    let mut group = criterion.benchmark_group("response");
    group.sampling_mode(SamplingMode::Flat);
    let mut times = None;
    group.bench_function("front_desk_16k/turn", |bencher| {
        let times = times.get_or_insert_with(conversations);
        bencher.iter_custom(|turns| (0..turns).map(|_| times.recv().expect("an answer of the agent")).sum());
    });
    group.finish();
    criterion.final_summary();
}
