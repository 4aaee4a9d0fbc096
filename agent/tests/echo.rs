//! The agent's own voice that comes back: it never interrupts the agent, and a caller who speaks over it does.
//!
//! Sentences by Flite through G.711, whole conversations through the session and the turn machine in virtual time. A new
//! conversation every ten sentences, so that what is not learnt yet counts as well.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, unreachable_pub, dead_code)]

#[path = "session_support/line.rs"]
mod line;
#[path = "session_support/providers.rs"]
mod providers;

use std::collections::HashMap;
use std::sync::Arc;

use agent::brain::BrainOutput;
use agent::session::{Agent, Session, SessionEvent};
use agent::voice::{SpeechStream, Voice, VoiceError, Voices};
use codecs::g711::Law;
use codecs::pcm::SampleRate;
use codecs::speech::SpeechGate;
use line::{Act, Deed, Gate, Pace, TestLine};
use providers::{Told, ToldFactory, say};

const RATE: SampleRate = SampleRate::HZ_8000;
const SENTENCES: usize = 100;
const IN_A_CALL: usize = 10;

/// The agent's sentence of this number: none is like another.
fn sentence(number: usize) -> String {
    let who = ["The front desk", "Your appointment", "The doctor", "Our office", "The next train"];
    let does = ["is ready on", "was moved to", "can be reached on", "has been booked for", "starts again on"];
    let when = ["Monday morning at nine", "Friday, and you may bring a friend", "Saturday between ten and twelve"];
    let more = ["as you asked", "as it was last year", "if that suits you", "unless it rains"];
    let at = |list: &[&str], n: usize| list[n % list.len()].to_owned();
    format!(
        "{} {} {}, {}.",
        at(&who, number),
        at(&does, number / 5),
        at(&when, number / 3),
        at(&more, number / 2 + number / 25)
    )
}

fn callers_sentence(number: usize) -> String {
    let begins = ["I would like", "Wait a moment, I want", "No, I need", "Excuse me, may I ask you", "Please allow me"];
    let ends = ["to book an appointment", "to speak to a person", "to change the date of it", "to leave a message"];
    format!("{} {}.", begins[number % 5], ends[number / 5 % 4])
}

/// Speaks what it was given before, at once.
struct Prepared(Arc<HashMap<String, Vec<i16>>>);

impl Voice for Prepared {
    fn name(&self) -> &str {
        "prepared"
    }

    fn rate(&self) -> SampleRate {
        RATE
    }

    fn speak(&self, text: &str) -> Result<SpeechStream, VoiceError> {
        let pcm = self.0.get(text).cloned();
        Ok(SpeechStream::ready(pcm.unwrap_or_else(|| panic!("`{text}` was not prepared"))))
    }
}

fn spoken(voice: &str, text: &str) -> Vec<i16> {
    let voice = Voices::default().from_name(voice, RATE).unwrap();
    let pcm = futures::executor::block_on(voice.speak(text).unwrap().collect_pcm()).unwrap();
    pcm.into_iter().map(|sample| Law::Mu.expand(Law::Mu.compress(sample))).collect()
}

/// An echo path.
#[derive(Clone, Copy)]
struct Echo {
    gain_db: f32,
    delay_ms: u32,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Count {
    sentences: usize,
    ducked: usize,
    interrupted: usize,
}

/// Says `sentences` in calls of ten; the caller speaks over each of them, or never.
fn count(sentences: usize, echo: Echo, talks: bool, control: bool) -> Count {
    let mut count = Count::default();
    let mut clips = HashMap::new();
    for number in 0..sentences {
        clips.insert(sentence(number), spoken("flite:rms", &sentence(number)));
    }
    let clips = Arc::new(clips);
    for first in (0..sentences).step_by(IN_A_CALL) {
        let numbers = first..(first + IN_A_CALL).min(sentences);
        let mut turns: Vec<Vec<Told>> = numbers.clone().map(|number| vec![say(&sentence(number))]).collect();
        turns.push(vec![Told::Out(BrainOutput::HangUp { reason: "done".into() })]);
        if !talks {
            // Nobody answers: all in one turn, then goodbye.
            let goodbye = turns.pop().unwrap();
            turns = vec![turns.into_iter().flatten().collect(), goodbye];
        }
        let clips = Arc::clone(&clips);
        let mut agent = Agent::new("echo", ToldFactory::new(turns))
            .with_voice(Arc::new(move |_| Ok(Arc::new(Prepared(Arc::clone(&clips))) as Arc<dyn Voice>)));
        agent.echo_control = control;
        let voices = ["flite:slt", "flite:awb", "flite:kal16"];
        let over = |number: usize| {
            let after_ms = 500.0 + (number * 137 % 700) as f64;
            Act::OverAnew(after_ms, Deed::Say(spoken(voices[number % voices.len()], &callers_sentence(number))))
        };
        let acts = if talks { numbers.map(over).collect() } else { Vec::new() };
        let gate = Gate::Earshot(Box::new(SpeechGate::new(RATE)));
        let mut line = TestLine::new(RATE, Pace::AtOnce, gate, acts);
        (line.echo, line.echo_ms, line.g711) = (10_f32.powf(echo.gain_db / 20.0), echo.delay_ms, true);
        let (observer, mut events) = tokio::sync::mpsc::channel(20_000);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(Session::new(agent, observer).run(&mut line));
        while let Ok(event) = events.try_recv() {
            match event {
                SessionEvent::Ducked { .. } => count.ducked += 1,
                SessionEvent::Interrupted { .. } => count.interrupted += 1,
                SessionEvent::AgentSays { .. } => count.sentences += 1,
                _ => {}
            }
        }
    }
    eprintln!("{} dB, {} ms, {talks}, {control}: {count:?}", echo.gain_db, echo.delay_ms);
    count
}

const ECHO: Echo = Echo { gain_db: -20.0, delay_ms: 200 };

#[test]
fn its_own_voice_200_ms_later_and_20_db_down_never_interrupts_the_agent_in_100_sentences() {
    let count = count(SENTENCES, ECHO, false, true);
    assert_eq!(count.interrupted, 0);
    assert!(count.ducked <= 5, "{count:?}");
}

#[test]
fn a_caller_who_speaks_over_it_at_equal_level_interrupts_in_95_of_100_sentences() {
    let count = count(SENTENCES, ECHO, true, true);
    assert!(count.interrupted >= 95, "{count:?}");
}

#[test]
fn other_rooms_and_lines_do_not_interrupt_it_either() {
    for (gain_db, delay_ms) in [(-10.0, 60), (-14.0, 400), (-30.0, 120)] {
        let count = count(20, Echo { gain_db, delay_ms }, false, true);
        assert_eq!(count.interrupted, 0, "{gain_db} dB, {delay_ms} ms");
        assert!(count.ducked <= 3, "{gain_db} dB, {delay_ms} ms: {count:?}");
    }
}

#[test]
fn without_echo_control_the_same_echo_makes_the_agent_stutter() {
    let count = count(20, ECHO, false, false);
    assert!(count.ducked >= 5, "{count:?}");
}
