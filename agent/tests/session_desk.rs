//! The front desk, end to end, from PCM to PCM: callers made by Flite and recognised by PocketSphinx over G.711, at the
//! pace of life.
//!
//! The caller's voice is not the agent's. What is measured here is measured from the line's two tracks.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, unreachable_pub, dead_code)]

#[path = "session_support/line.rs"]
mod line;

use agent::definition::AgentDefinition;
use agent::history::Speaker;
use agent::registry::{Environment, Registry};
use agent::session::{Agent, Session, SessionEnd, SessionEvent, TurnRecord};
use agent::voice::Voices;
use codecs::g711::Law;
use codecs::pcm::SampleRate;
use codecs::speech::SpeechGate;
use line::{Act, Deed, Gate, Pace, TestLine, loud_spans};

const RATE: SampleRate = SampleRate::HZ_8000;

fn front_desk() -> Agent {
    let definition = AgentDefinition::front_desk().unwrap();
    let agent = Registry::built_in().build(&definition, &Environment::of_process("models")).unwrap();
    assert!(agent.notes.iter().any(|note| note.starts_with("recogniser: sphinx")), "{:?}", agent.notes);
    agent
}

/// A caller's words as they come over a G.711 line.
async fn speech(voices: &Voices, text: &str) -> Vec<i16> {
    let voice = voices.from_name("flite:awb", RATE).unwrap();
    let pcm = voice.speak(text).unwrap().collect_pcm().await.unwrap();
    pcm.into_iter().map(|sample| Law::Mu.expand(Law::Mu.compress(sample))).collect()
}

struct Call {
    end: SessionEnd,
    turns: Vec<TurnRecord>,
    events: Vec<SessionEvent>,
    line: TestLine,
}

async fn call(agent: Agent, acts: Vec<Act>) -> Call {
    let gate = Gate::Earshot(Box::new(SpeechGate::new(RATE)));
    let mut line = TestLine::new(RATE, Pace::Times(1.0), gate, acts);
    let (observer, mut events) = tokio::sync::mpsc::channel(10_000);
    let end = Session::new(agent, observer).run(&mut line).await;
    let mut all = Vec::new();
    while let Ok(event) = events.try_recv() {
        if !matches!(event, SessionEvent::AgentHeard { .. } | SessionEvent::Turn(_)) {
            eprintln!("{event:?}");
        }
        all.push(event);
    }
    let turns = all
        .iter()
        .filter_map(|event| if let SessionEvent::Turn(turn) = event { Some(turn.clone()) } else { None })
        .collect();
    Call { end, turns, events: all, line }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn books_an_appointment_by_voice_with_an_interruption_and_a_key() {
    let agent = front_desk();
    let voices = Voices::default();
    let say = async |text| Deed::Say(speech(&voices, text).await);
    let acts = vec![
        // Over the welcome.
        Act::Over(900.0, say("I would like to book an appointment please").await),
        Act::After(800.0, say("on Tuesday please").await),
        Act::After(800.0, say("in the afternoon").await),
        Act::After(800.0, Deed::Key('1')),
        Act::After(800.0, say("no thank you").await),
    ];
    let call = call(agent, acts).await;
    for turn in &call.turns {
        let waits = turn.stages.waits_ms();
        eprintln!(
            "{:>7.0} {:>7.0} {:?} {:?} gap {:?} {waits:?}",
            turn.started_ms, turn.ended_ms, turn.who, turn.text, turn.gap_ms
        );
    }
    assert_eq!(call.end, SessionEnd::HangUp { reason: "goodbye".into() });
    let agent: Vec<&str> =
        call.turns.iter().filter(|turn| turn.who == Speaker::Agent).map(|turn| turn.text.as_str()).collect();
    assert!(
        agent.iter().any(|text| text.contains("An appointment on Tuesday, in the afternoon. Is that right?")),
        "{agent:?}"
    );
    assert!(agent.iter().any(|text| text.contains("booked for Tuesday, in the afternoon")), "{agent:?}");
    assert!(call.turns[0].interrupted && !call.turns[0].text.contains("help you?"), "{:?}", call.turns[0]);
    assert_eq!(call.events.iter().filter(|event| matches!(event, SessionEvent::Interrupted { .. })).count(), 1);
    silenced_soon(&call);
    answered_soon(&call);
}

/// Talking over the agent silenced it, as the wire has it.
fn silenced_soon(call: &Call) {
    let begun = call.line.act_times[0];
    let caller = loud_spans(&call.line.caller_track, RATE, -42.0, 100.0);
    let onset = caller.iter().map(|span| span.0).find(|from| *from >= begun).unwrap();
    let agent = loud_spans(&call.line.agent_track, RATE, -50.0, 30.0);
    let silenced = agent.iter().map(|span| span.1).find(|to| *to >= onset).unwrap();
    eprintln!("silenced {} ms after the caller's onset", silenced - onset);
    assert!(silenced - onset < 200.0, "{}", silenced - onset);
}

/// The gaps that the wire has, beside those that were reported.
fn answered_soon(call: &Call) {
    let caller = loud_spans(&call.line.caller_track, RATE, -45.0, 390.0);
    let agent = loud_spans(&call.line.agent_track, RATE, -50.0, 300.0);
    for (_, end) in caller.iter().skip(1) {
        let answer = agent.iter().map(|span| span.0).find(|from| from > end).unwrap();
        eprintln!("answered {} ms after the caller's last sound", answer - end);
        assert!(answer - end < 1_500.0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_phrase_of_the_desk_is_asked_again_and_a_person_is_offered() {
    let agent = front_desk();
    let voices = Voices::default();
    let say = async |text| Deed::Say(speech(&voices, text).await);
    let acts = vec![
        Act::After(800.0, say("my grandmother collects wooden elephants").await),
        Act::After(800.0, say("can I speak to a person please").await),
        Act::After(800.0, Deed::Key('*')),
    ];
    let call = call(agent, acts).await;
    let agent: Vec<&str> =
        call.turns.iter().filter(|turn| turn.who == Speaker::Agent).map(|turn| turn.text.as_str()).collect();
    assert!(agent[1].starts_with("Sorry"), "{agent:?}");
    assert!(agent[2].contains("nobody is free"), "{agent:?}");
    assert_eq!(call.end, SessionEnd::HangUp { reason: "goodbye".into() });
}

/// Something like a cough: two bursts of noise that die away.
fn cough() -> Vec<i16> {
    let mut noise: u32 = 99;
    let mut burst = |ms: u32| -> Vec<i16> {
        let samples = RATE.samples_in_ms(ms);
        let one = |n: usize| {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let fade = 1.0 - n as f32 / samples as f32;
            ((noise >> 16) as i16 as f32 * 0.25 * fade) as i16
        };
        (0..samples).map(one).collect()
    };
    let mut pcm = burst(120);
    pcm.extend(vec![0; RATE.samples_in_ms(60)]);
    pcm.extend(burst(90));
    pcm
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cough_over_the_opening_hours_does_not_stop_them() {
    let acts = vec![
        Act::After(800.0, Deed::Key('1')),
        Act::Over(1_500.0, Deed::Say(cough())),
        Act::After(800.0, Deed::Key('*')),
    ];
    let call = call(front_desk(), acts).await;
    let hours = call.turns.iter().find(|turn| turn.text.starts_with("We are open")).unwrap();
    assert!(!hours.interrupted && hours.text.ends_with("Is there anything else I can do for you?"), "{hours:?}");
    assert_eq!(call.end, SessionEnd::HangUp { reason: "goodbye".into() });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_of_380_ms_inside_a_sentence_is_not_taken_for_its_end() {
    let voices = Voices::default();
    let paused = async |before: &str, after: &str| {
        let mut pcm = trimmed(speech(&voices, before).await);
        pcm.extend(vec![0; RATE.samples_in_ms(380)]);
        pcm.extend(trimmed(speech(&voices, after).await));
        Deed::Say(pcm)
    };
    let acts = vec![
        Act::After(800.0, paused("I would like to", "book an appointment").await),
        Act::After(800.0, Deed::Key('9')),
        Act::After(800.0, paused("on", "Wednesday please").await),
        Act::After(800.0, Deed::Key('*')),
    ];
    let call = call(front_desk(), acts).await;
    // One turn each, with the meaning of the whole: "book" and "make an appointment" mean the same.
    let callers = call.turns.iter().filter(|turn| turn.who == Speaker::Caller);
    let understood: Vec<Option<&str>> = callers.map(|turn| turn.matched.as_deref()).collect();
    assert_eq!(understood, [Some("menu/1"), None, Some("which_day/0"), None], "{:?}", call.turns);
}

/// Without the silence at either end.
fn trimmed(pcm: Vec<i16>) -> Vec<i16> {
    let loud = |sample: &i16| sample.unsigned_abs() > 300;
    let from = pcm.iter().position(loud).unwrap_or(0);
    let to = pcm.iter().rposition(loud).map_or(pcm.len(), |at| at + 1);
    pcm[from..to].to_vec()
}
