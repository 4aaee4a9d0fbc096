//! The session's own logic, at the speed of the machine: providers here do exactly what a test says.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, unreachable_pub, dead_code)]

#[path = "session_support/line.rs"]
mod line;
#[path = "session_support/providers.rs"]
mod providers;

use std::path::Path;
use std::sync::Arc;

use agent::brain::script::{Script, ScriptFactory};
use agent::brain::{BrainFactory, BrainInput, BrainOutput, Handover};
use agent::definition::AgentDefinition;
use agent::history::Speaker;
use agent::line::Request;
use agent::session::{Agent, Fault, Part, Remedy, Session, SessionEnd, SessionEvent, TurnRecord};
use agent::tool::{AskedBy, HANG_UP, TRANSFER, ToolAsk, ToolOutcome};
use codecs::pcm::SampleRate;
use line::{Act, Deed, Gate, Pace, TestLine, loud_spans};
use providers::{MUMBLE, Told, ToldFactory, ToneRecognizer, failing_voice, mute_voice, say, silence, tone, tone_voice};

const RATE: SampleRate = SampleRate::HZ_8000;

struct Outcome {
    end: SessionEnd,
    events: Vec<SessionEvent>,
    line: TestLine,
}

impl Outcome {
    fn turns(&self) -> Vec<&TurnRecord> {
        self.events
            .iter()
            .filter_map(|event| if let SessionEvent::Turn(turn) = event { Some(turn) } else { None })
            .collect()
    }

    fn said(&self) -> Vec<String> {
        self.turns().iter().filter(|turn| turn.who == Speaker::Agent).map(|turn| turn.text.clone()).collect()
    }

    fn understood(&self) -> Vec<String> {
        self.turns().iter().filter(|turn| turn.who == Speaker::Caller).map(|turn| turn.text.clone()).collect()
    }

    fn failures(&self) -> Vec<(Part, Remedy, Fault)> {
        let failure = |event: &SessionEvent| match event {
            SessionEvent::ProviderFailed { part, remedy, fault, .. } => Some((*part, *remedy, *fault)),
            _ => None,
        };
        self.events.iter().filter_map(failure).collect()
    }

    fn count(&self, wanted: impl Fn(&SessionEvent) -> bool) -> usize {
        self.events.iter().filter(|event| wanted(event)).count()
    }
}

fn hold(agent: Agent, acts: Vec<Act>) -> Outcome {
    hold_on(agent, TestLine::new(RATE, Pace::AtOnce, Gate::Level, acts))
}

fn hold_on(agent: Agent, mut line: TestLine) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let (observer, mut events) = tokio::sync::mpsc::channel(100_000);
        let end = Session::new(agent, observer).run(&mut line).await;
        let mut all = Vec::new();
        while let Ok(event) = events.try_recv() {
            all.push(event);
        }
        Outcome { end, events: all, line }
    })
}

fn desk() -> Arc<dyn BrainFactory> {
    let definition = AgentDefinition::front_desk().unwrap();
    Arc::new(ScriptFactory::new(Script::new(definition.script.unwrap()).unwrap()))
}

fn scripted(toml: &str) -> Arc<dyn BrainFactory> {
    let definition = AgentDefinition::parse(toml, Path::new("test.toml")).unwrap();
    Arc::new(ScriptFactory::new(Script::new(definition.script.unwrap()).unwrap()))
}

fn agent(brain: Arc<dyn BrainFactory>, texts: &[&'static str]) -> Agent {
    Agent::new("test", brain).with_recognizer(Arc::new(ToneRecognizer::new(texts))).with_voice(tone_voice())
}

fn speak(number: usize) -> Act {
    Act::After(700.0, Deed::Say(tone(number, 600)))
}

const QUESTION: &str = r#"
[script]
start = "ask"
[script.states.ask]
say = "This is a rather long question that takes some time to speak out loud. Is that right?"
[[script.states.ask.on]]
phrases = ["yes"]
next = "bye"
[[script.states.ask.on]]
phrases = ["tell me more"]
keys = ["1"]
next = "more"
[script.states.more]
say = "There is no more."
next = "bye"
[script.states.bye]
say = "Goodbye."
hang_up = "goodbye"
"#;

#[test]
fn books_an_appointment_from_greeting_to_goodbye() {
    let texts = ["book an appointment", "on monday", "in the morning", "yes", "no thank you"];
    let outcome = hold(agent(desk(), &texts), (0..texts.len()).map(speak).collect());
    assert_eq!(outcome.end, SessionEnd::HangUp { reason: "goodbye".into() });
    assert_eq!(outcome.understood(), texts);
    let said = outcome.said();
    assert!(
        said.iter().any(|text| text.contains("An appointment on Monday, in the morning. Is that right?")),
        "{said:?}"
    );
    assert!(said.last().unwrap().contains("Goodbye"), "{said:?}");
    // What was said last was played out: 60 ms for each letter.
    let last = loud_spans(&outcome.line.agent_track, RATE, -40.0, 400.0).pop().unwrap();
    assert!(last.1 - last.0 > 1_800.0, "{last:?}");
}

#[test]
fn an_answer_runs_ahead_and_waits_only_for_certainty() {
    let texts = ["book an appointment for monday", "in the morning", "yes", "no thank you"];
    let outcome = hold(agent(desk(), &texts), (0..texts.len()).map(speak).collect());
    let answers: Vec<_> = outcome.turns().into_iter().filter(|turn| turn.gap_ms.is_some()).cloned().collect();
    assert_eq!(answers.len(), texts.len());
    for turn in answers {
        let gap = turn.gap_ms.unwrap();
        assert!(turn.ahead, "{turn:?}");
        assert!((300.0..=440.0).contains(&gap), "{gap}");
        let waits = turn.stages.waits_ms();
        assert!(waits.certainty >= 300.0 && waits.brain == 0.0 && waits.voice == 0.0, "{waits:?}");
        assert!((waits.certainty + waits.recogniser + waits.line - gap).abs() < 1.0, "{waits:?}");
    }
}

#[test]
fn talking_over_the_agent_silences_it_at_once_and_interrupts() {
    let acts = vec![Act::Over(1_000.0, Deed::Say(tone(0, 900)))];
    let outcome = hold(agent(scripted(QUESTION), &["tell me more"]), acts);
    let onset = outcome.line.act_times[0];
    let spans = loud_spans(&outcome.line.agent_track, RATE, -40.0, 1.0);
    let silenced = spans.iter().map(|span| span.1).find(|end| *end >= onset).unwrap();
    assert!(silenced - onset <= 60.0, "silenced after {} ms", silenced - onset);
    assert_eq!(outcome.count(|event| matches!(event, SessionEvent::Interrupted { by_key: false, .. })), 1);
    assert_eq!(outcome.understood(), ["tell me more"]);
    let first = outcome.turns()[0].clone();
    assert!(first.interrupted);
    assert!(first.text.starts_with("This is") && first.text.len() < 30, "only what was heard: {:?}", first.text);
}

#[test]
fn a_cough_over_the_agent_is_forgiven_and_it_goes_on_in_mid_sentence() {
    let acts = vec![Act::Over(1_500.0, Deed::Say(tone(MUMBLE, 200))), Act::After(700.0, Deed::Say(tone(0, 500)))];
    let outcome = hold(agent(scripted(QUESTION), &["yes"]), acts);
    assert_eq!(outcome.end, SessionEnd::HangUp { reason: "goodbye".into() });
    assert_eq!(outcome.count(|event| matches!(event, SessionEvent::Ducked { .. })), 1);
    assert_eq!(outcome.count(|event| matches!(event, SessionEvent::Resumed { .. })), 1);
    assert_eq!(outcome.count(|event| matches!(event, SessionEvent::Interrupted { .. })), 0);
    assert!(!outcome.turns()[0].interrupted);
    assert!(outcome.said()[0].ends_with("Is that right?"), "all of it was heard");
    // Nothing of the sentence is missing: its sound is as long as without the cough, or a little longer.
    let without = hold(agent(scripted(QUESTION), &["yes"]), vec![speak(0)]);
    let sound = |outcome: &Outcome| -> f64 {
        loud_spans(&outcome.line.agent_track, RATE, -40.0, 1.0).iter().map(|s| s.1 - s.0).sum()
    };
    let more = sound(&outcome) - sound(&without);
    assert!((0.0..400.0).contains(&more), "{more}");
}

/// Sound of the caller's, as music on hold.
fn music(ms: u32) -> Deed {
    Deed::Say(tone(MUMBLE, ms))
}

#[test]
fn a_caller_who_holds_is_waited_for_and_hears_the_sentence_again_in_which_they_left() {
    // A minute of music, far beyond the agent's patience with silence.
    let acts = vec![
        Act::Over(2_500.0, Deed::Hold(true)),
        Act::Then(1_000.0, music(20_000)),
        Act::Then(60_000.0, Deed::Hold(false)),
        Act::After(700.0, Deed::Say(tone(0, 500))),
    ];
    let outcome = hold(agent(scripted(QUESTION), &["yes"]), acts);
    assert_eq!(outcome.end, SessionEnd::HangUp { reason: "goodbye".into() });
    assert_eq!(outcome.understood(), ["yes"], "nothing that came meanwhile is the caller's");
    let said = outcome.said();
    assert_eq!(said.len(), 2, "nobody was asked again: {said:?}");
    assert!(said[0].ends_with("Is that right?"), "{said:?}");
    assert!(!outcome.turns()[0].interrupted);
    assert_eq!(outcome.count(|event| matches!(event, SessionEvent::Held { .. })), 2);
    let (left, back) = (outcome.line.act_times[0], outcome.line.act_times[2]);
    let spans = loud_spans(&outcome.line.agent_track, RATE, -40.0, 400.0);
    assert!(spans.iter().all(|span| span.1 <= left + 20.0 || span.0 >= back), "silent in between: {spans:?}");
    // The question as long as it is without a hold, from its beginning.
    let without = hold(agent(scripted(QUESTION), &["yes"]), vec![speak(0)]);
    let whole = loud_spans(&without.line.agent_track, RATE, -40.0, 400.0)[0];
    let again = spans.iter().find(|span| span.0 >= back).unwrap();
    assert!((again.1 - again.0 - (whole.1 - whole.0)).abs() < 100.0, "{again:?}, {whole:?}");
}

#[test]
fn a_caller_who_holds_while_they_are_waited_for_has_their_time_when_they_are_back() {
    let acts = vec![
        Act::After(2_000.0, Deed::Hold(true)),
        Act::Then(60_000.0, Deed::Hold(false)),
        Act::Then(4_000.0, Deed::Say(tone(0, 500))),
    ];
    let outcome = hold(agent(scripted(QUESTION), &["yes"]), acts);
    assert_eq!(outcome.understood(), ["yes"]);
    assert_eq!(outcome.said().len(), 2, "{:?}", outcome.said());
}

#[test]
fn what_was_said_before_a_hold_is_answered_after_it() {
    // The brain takes four seconds to fail at its answer; the caller leaves after one, and comes back after thirty.
    let mut agent = agent(ToldFactory::new(vec![vec![say("Hello.")], vec![Told::Hang]]), &["hi"]);
    (agent.session.brain_first_ms, agent.session.filler) = (4_000, String::new());
    let acts = vec![
        Act::After(700.0, Deed::Say(tone(0, 500))),
        Act::Then(2_000.0, Deed::Hold(true)),
        Act::Then(30_000.0, Deed::Hold(false)),
        Act::After(700.0, Deed::HangUp),
    ];
    let outcome = hold(agent, acts);
    assert_eq!(outcome.understood(), ["hi"]);
    assert!(outcome.said()[1].starts_with("Something went wrong."), "{:?}", outcome.said());
    let (left, back) = (outcome.line.act_times[1], outcome.line.act_times[2]);
    let spans = loud_spans(&outcome.line.agent_track, RATE, -40.0, 400.0);
    assert!(spans.iter().all(|span| span.1 <= left || span.0 >= back), "{spans:?}");
    assert!(spans.last().unwrap().0 >= back, "{spans:?}, {back}");
}

#[test]
fn what_was_said_right_before_a_hold_is_answered_after_it() {
    // From the very end of a word to a third of a second behind it.
    for gap_ms in [-20.0, 0.0, 60.0, 140.0, 240.0, 330.0] {
        let acts = vec![
            Act::After(700.0, Deed::Say(tone(0, 500))),
            Act::Then(500.0 + gap_ms, Deed::Hold(true)),
            Act::Then(1_000.0, music(20_000)),
            Act::Then(30_000.0, Deed::Hold(false)),
        ];
        let outcome = hold(agent(scripted(QUESTION), &["yes"]), acts);
        assert_eq!(outcome.end, SessionEnd::HangUp { reason: "goodbye".into() }, "{gap_ms}");
        assert_eq!(outcome.understood(), ["yes"], "{gap_ms}");
        assert_eq!(outcome.said().len(), 2, "{gap_ms}: {:?}", outcome.said());
        let (left, back) = (outcome.line.act_times[1], outcome.line.act_times[3]);
        let spans = loud_spans(&outcome.line.agent_track, RATE, -40.0, 400.0);
        assert!(spans.iter().all(|span| span.1 <= left || span.0 >= back), "{gap_ms}: {spans:?}");
        assert!(spans.last().unwrap().0 < back + 300.0, "{gap_ms}: {spans:?}, {back}");
    }
}

#[test]
fn what_a_caller_cut_the_agent_off_with_right_before_a_hold_is_answered_after_it() {
    for (text, back_after) in [("yes", 30_000.0), ("yes", 40.0), ("", 30_000.0)] {
        let acts = vec![
            Act::Over(2_500.0, Deed::Say(tone(0, 900))),
            Act::Then(950.0, Deed::Hold(true)),
            Act::Then(back_after, Deed::Hold(false)),
            Act::After(700.0, Deed::HangUp),
        ];
        let outcome = hold(agent(scripted(QUESTION), &[text]), acts);
        let said = outcome.said();
        match text {
            "" => assert!(said[0].ends_with("Is that right?"), "it goes on where nothing was said: {said:?}"),
            _ => {
                assert_eq!(outcome.understood(), [text], "{back_after}");
                assert_eq!(said[1..], ["Goodbye."], "{back_after}");
                assert!(outcome.turns()[0].interrupted);
            }
        }
    }
}

#[test]
fn half_a_sentence_that_a_hold_cut_off_is_asked_for_again_and_a_click_is_not() {
    let acts = vec![
        Act::After(700.0, Deed::Say(tone(1, 2_000))),
        Act::Then(400.0, Deed::Hold(true)),
        Act::Then(30_000.0, Deed::Hold(false)),
        Act::After(700.0, Deed::Say(tone(0, 500))),
    ];
    let outcome = hold(agent(scripted(QUESTION), &["yes", "what I"]), acts);
    assert_eq!(outcome.understood(), ["what I", "yes"]);
    assert_eq!(outcome.said().len(), 3, "{:?}", outcome.said());
    let back = outcome.line.act_times[2];
    let spans = loud_spans(&outcome.line.agent_track, RATE, -40.0, 400.0);
    assert!(spans.iter().any(|span| (back..back + 300.0).contains(&span.0)), "{spans:?}, {back}");
    let acts = vec![
        Act::After(700.0, Deed::Say(tone(0, 60))),
        Act::Then(80.0, Deed::Hold(true)),
        Act::Then(30_000.0, Deed::Hold(false)),
        Act::Then(2_000.0, Deed::Say(tone(0, 500))),
    ];
    let outcome = hold(agent(scripted(QUESTION), &["yes"]), acts);
    assert_eq!((outcome.understood().len(), outcome.said().len()), (1, 2), "{:?}", outcome.turns());
}

#[test]
fn a_caller_who_never_comes_back_is_waited_for_until_the_line_closes() {
    let line = TestLine::new(RATE, Pace::AtOnce, Gate::Level, vec![Act::Over(1_000.0, Deed::Hold(true))]);
    let outcome = hold_on(agent(scripted(QUESTION), &["yes"]), line.with_limit_ms(120_000.0));
    assert_eq!(outcome.end, SessionEnd::LineClosed);
    let turns = outcome.turns();
    assert!(turns.len() == 1 && turns[0].interrupted, "{turns:?}");
}

#[test]
fn a_short_yes_over_the_question_is_an_answer() {
    let acts = vec![Act::Over(3_000.0, Deed::Say(tone(0, 260)))];
    let outcome = hold(agent(scripted(QUESTION), &["yes"]), acts);
    assert_eq!(outcome.understood(), ["yes"]);
    assert_eq!(outcome.said().last().unwrap(), "Goodbye.");
    assert!(outcome.turns()[0].interrupted);
}

#[test]
fn the_agents_own_echo_does_not_make_it_stutter() {
    let mut line = TestLine::new(RATE, Pace::AtOnce, Gate::Level, vec![speak(0)]);
    line.echo = 0.3;
    let outcome = hold_on(agent(scripted(QUESTION), &["yes"]), line);
    assert_eq!(outcome.end, SessionEnd::HangUp { reason: "goodbye".into() });
    assert!(outcome.count(|event| matches!(event, SessionEvent::Ducked { .. })) <= 2);
    assert_eq!(outcome.count(|event| matches!(event, SessionEvent::Interrupted { .. })), 0);
    assert!(outcome.said()[0].ends_with("Is that right?"));
}

#[test]
fn a_pause_shorter_than_400_ms_inside_a_sentence_is_not_its_end() {
    let mut pcm = tone(0, 400);
    pcm.extend(silence(380));
    pcm.extend(tone(1, 500));
    let texts = ["i want to", "book an appointment"];
    let acts = vec![Act::After(700.0, Deed::Say(pcm)), Act::After(700.0, Deed::HangUp)];
    let outcome = hold(agent(desk(), &texts), acts);
    assert_eq!(outcome.understood(), ["i want to book an appointment"]);
}

#[test]
fn a_key_cuts_the_agent_off_and_is_an_answer() {
    let outcome =
        hold(agent(scripted(QUESTION), &[]), vec![Act::Over(800.0, Deed::Key('1')), Act::Then(30_000.0, Deed::HangUp)]);
    assert_eq!(outcome.count(|event| matches!(event, SessionEvent::Interrupted { by_key: true, .. })), 1);
    assert_eq!(outcome.understood(), ["1"]);
    assert_eq!(outcome.said().last().unwrap(), "There is no more. Goodbye.");
    assert_eq!(outcome.end, SessionEnd::HangUp { reason: "goodbye".into() });
}

#[test]
fn keys_are_collected_until_the_hash_the_limit_or_a_pause() {
    let toml = r##"
[script]
start = "pin"
[script.states.pin]
say = "Your number, please."
digits = { to = "pin", min = 3, max = 4, next = "thanks" }
[[script.states.pin.on]]
keys = ["0"]
next = "thanks"
[script.states.thanks]
say = "You said {pin}."
hang_up = "done"
"##;
    let keys = |keys: &str, gap: f64| -> Vec<Act> {
        let mut acts = vec![Act::After(300.0, Deed::Key(keys.chars().next().unwrap()))];
        acts.extend(keys.chars().skip(1).map(|key| Act::Then(gap, Deed::Key(key))));
        acts
    };
    for (pressed, got) in [("1234", "1234"), ("123#", "123"), ("123", "123")] {
        let outcome = hold(agent(scripted(toml), &[]), keys(pressed, 300.0));
        assert_eq!(outcome.understood(), [got]);
        assert_eq!(outcome.said().last().unwrap(), &format!("You said {got}."));
    }
}

#[test]
fn silence_is_met_with_ever_clearer_questions_and_then_with_goodbye() {
    let outcome = hold(agent(desk(), &[]), vec![]);
    assert_eq!(outcome.end, SessionEnd::HangUp { reason: "no input".into() });
    let said = outcome.said();
    assert_eq!(said.len(), 4, "{said:?}");
    assert!(
        said[1].contains("opening hours") && said[2].contains("press 1") && said[3].contains("Goodbye"),
        "{said:?}"
    );
}

#[test]
fn what_is_not_understood_is_asked_again_then_by_keypad_then_given_up() {
    let acts = (0..3).map(|_| Act::After(700.0, Deed::Say(tone(MUMBLE, 700)))).collect();
    let outcome = hold(agent(desk(), &[]), acts);
    assert_eq!(outcome.end, SessionEnd::HangUp { reason: "no match".into() });
    let said = outcome.said();
    assert!(said[1].starts_with("Sorry") && said[2].contains("keypad") && said[3].contains("Goodbye"), "{said:?}");
}

#[test]
fn a_recogniser_that_fails_once_is_asked_again_with_the_same_audio() {
    let ear = Arc::new(ToneRecognizer::new(&["yes"]).failing(1));
    let agent = Agent::new("test", scripted(QUESTION)).with_recognizer(ear).with_voice(tone_voice());
    let outcome = hold(agent, vec![speak(0)]);
    assert_eq!(outcome.understood(), ["yes"]);
    assert_eq!(outcome.failures(), [(Part::Recognizer, Remedy::Retried, Fault::Ours)]);
    assert_eq!(outcome.end, SessionEnd::HangUp { reason: "goodbye".into() });
}

#[test]
fn another_recogniser_steps_in() {
    let first = Arc::new(ToneRecognizer::new(&["yes"]).failing(100));
    let second = Arc::new(ToneRecognizer::new(&["yes"]));
    let agent =
        Agent::new("test", scripted(QUESTION)).with_recognizer(first).with_recognizer(second).with_voice(tone_voice());
    let outcome = hold(agent, vec![speak(0)]);
    assert_eq!(outcome.understood(), ["yes"]);
    assert_eq!(outcome.failures(), [(Part::Recognizer, Remedy::OtherProvider, Fault::Ours)]);
}

#[test]
fn without_any_recogniser_left_the_caller_is_told_and_the_call_ends_as_our_fault() {
    for ear in [ToneRecognizer::new(&["yes"]).failing(1_000), ToneRecognizer::new(&["yes"]).never_ending()] {
        let agent = Agent::new("test", desk()).with_recognizer(Arc::new(ear)).with_voice(tone_voice());
        let outcome = hold(agent, (0..6).map(|_| speak(0)).collect());
        assert!(matches!(outcome.end, SessionEnd::Failed { fault: Fault::Ours, .. }), "{:?}", outcome.end);
        let said = outcome.said();
        assert!(said.iter().any(|text| text.contains("trouble hearing you")), "{said:?}");
        assert!(said.last().unwrap().contains("call again later"), "{said:?}");
    }
}

#[test]
fn a_brain_that_is_slow_is_covered_up_for_and_one_that_hangs_is_given_up() {
    let brain = ToldFactory::new(vec![vec![say("Hello.")], vec![Told::Hang]]);
    let mut agent = agent(brain, &["hi"]);
    agent.session.brain_first_ms = 4_000;
    let again = || Act::After(4_000.0, Deed::Say(tone(0, 600)));
    let outcome = hold(agent, vec![again(), again(), again()]);
    let said = outcome.said();
    assert!(said[1].starts_with("One moment, please.") && said[1].contains("Something went wrong."), "{said:?}");
    assert!(said.last().unwrap().contains("call again later"), "{said:?}");
    assert!(matches!(outcome.end, SessionEnd::Failed { fault: Fault::Upstream, .. }), "{:?}", outcome.end);
    assert_eq!(outcome.failures().len(), 2);
}

#[test]
fn an_answer_cut_in_mid_sentence_is_said_as_far_as_it_came() {
    let turns = vec![
        vec![say("Hello.")],
        vec![say("We are open from nine"), Told::Fail],
        vec![say("Bye."), Told::Out(BrainOutput::HangUp { reason: "done".into() })],
    ];
    let outcome = hold(agent(ToldFactory::new(turns), &["hi"]), vec![speak(0), speak(0)]);
    assert_eq!(outcome.said(), ["Hello.", "We are open from nine Something went wrong.", "Bye."]);
    assert_eq!(outcome.failures(), [(Part::Brain, Remedy::SpokenFallback, Fault::Upstream)]);
    assert_eq!(outcome.end, SessionEnd::HangUp { reason: "done".into() });
}

#[test]
fn the_brain_remembers_only_what_was_heard() {
    let long = "One two three four five six seven eight nine ten eleven twelve thirteen fourteen.";
    let brain = ToldFactory::new(vec![
        vec![say(long)],
        vec![say("Bye."), Told::Out(BrainOutput::HangUp { reason: "done".into() })],
    ]);
    let asked = Arc::clone(&brain.asked);
    let outcome = hold(agent(brain, &["wait a moment"]), vec![Act::Over(1_500.0, Deed::Say(tone(0, 900)))]);
    let asked = asked.lock().unwrap();
    let (input, heard) = asked.last().unwrap();
    assert!(matches!(input, BrainInput::Heard { text, .. } if text == "wait a moment"));
    assert!(heard[0].starts_with("One two") && heard[0].len() < 40, "{heard:?}");
    assert_eq!(heard[0], outcome.turns()[0].text);
}

#[test]
fn a_voice_that_fails_in_mid_sentence_is_replaced_and_goes_on_from_there() {
    let toml = QUESTION;
    let agent = Agent::new("test", scripted(toml))
        .with_recognizer(Arc::new(ToneRecognizer::new(&["yes"])))
        .with_voice(failing_voice(800))
        .with_voice(tone_voice());
    let outcome = hold(agent, vec![speak(0)]);
    assert_eq!(outcome.failures(), [(Part::Voice, Remedy::OtherProvider, Fault::Ours)]);
    assert!(
        outcome.said()[0].starts_with("This is a") && outcome.said()[0].ends_with("Is that right?"),
        "{:?}",
        outcome.said()
    );
    assert_eq!(outcome.end, SessionEnd::HangUp { reason: "goodbye".into() });
}

#[test]
fn without_any_voice_left_the_conversation_ends_and_does_not_hang() {
    for voice in [failing_voice(0), mute_voice()] {
        let agent = Agent::new("test", scripted(QUESTION)).with_voice(voice);
        let outcome = hold(agent, vec![]);
        assert!(matches!(outcome.end, SessionEnd::Failed { fault: Fault::Ours, .. }), "{:?}", outcome.end);
        assert!(outcome.said().is_empty());
    }
}

#[test]
fn a_transfer_is_announced_before_it_is_made() {
    let toml = r#"
[script]
start = "go"
[script.states.go]
say = "I will connect you."
transfer = "sip:desk@example.com"
"#;
    let outcome = hold(agent(scripted(toml), &[]), vec![]);
    assert_eq!(outcome.end, SessionEnd::Transfer(Handover::blind("sip:desk@example.com")));
    let sound = loud_spans(&outcome.line.agent_track, RATE, -40.0, 50.0);
    assert!((sound[0].1 - sound[0].0 - 1_140.0).abs() < 30.0, "{sound:?}");
}

fn asked(name: &str) -> ToolAsk {
    ToolAsk::new(name, "{}", AskedBy::Model)
}

#[test]
fn a_transfer_that_comes_to_nothing_is_told_of_when_the_caller_is_back() {
    let desk = Handover::blind("sip:desk@example.com");
    let brain = ToldFactory::new(vec![
        vec![say("One moment."), Told::Out(BrainOutput::Tool(asked(TRANSFER))), Told::Out(BrainOutput::Transfer(desk))],
        vec![
            say("Nobody is there."),
            Told::Out(BrainOutput::Tool(asked(HANG_UP))),
            Told::Out(BrainOutput::HangUp { reason: "done".into() }),
        ],
    ]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let mut line = TestLine::new(RATE, Pace::AtOnce, Gate::Level, vec![]);
    let mut events = runtime.block_on(async {
        let (observer, events) = tokio::sync::mpsc::channel(100_000);
        let mut session = Session::new(agent(brain, &[]), observer);
        let end = session.hold(BrainInput::Start, &mut line).await;
        assert!(matches!(end, SessionEnd::Transfer(_)), "{end:?}");
        tokio::time::advance(std::time::Duration::from_secs(7)).await;
        let end = session.hold(BrainInput::TransferFailed("the person is busy".into()), &mut line).await;
        assert_eq!(end, SessionEnd::HangUp { reason: "done".into() });
        events
    });
    let mut told = Vec::new();
    while let Ok(event) = events.try_recv() {
        match event {
            SessionEvent::Turn(turn) => told.extend(turn.tools.into_iter().map(|tool| (turn.index, tool))),
            SessionEvent::Tool { turn, place: 0, tool } => told.push((turn, tool)),
            _ => {}
        }
    }
    let [(0, open), (0, failed), (1, done)] = &told[..] else { panic!("{told:?}") };
    assert_eq!((open.outcome, open.took_ms), (ToolOutcome::Open, None));
    // What was said before it takes its time: 60 ms for each letter.
    let started = open.started_ms.unwrap();
    assert!(started - open.asked_ms >= 600.0, "{open:?}");
    assert_eq!((failed.outcome, failed.why.as_deref()), (ToolOutcome::Failed, Some("the person is busy")));
    assert!((7_000.0..7_100.0).contains(&failed.took_ms.unwrap()), "{failed:?}");
    assert_eq!((failed.asked_ms, failed.started_ms), (open.asked_ms, open.started_ms));
    assert_eq!((done.name.as_str(), done.outcome, done.took_ms), (HANG_UP, ToolOutcome::Done, Some(0.0)));
}

#[test]
fn a_tool_that_is_not_carried_out_is_in_the_turn_all_the_same() {
    let refused = asked("open_door").not_done(ToolOutcome::Refused, "it was not offered");
    let brain = ToldFactory::new(vec![
        vec![Told::Out(BrainOutput::Tool(refused)), Told::Fail],
        vec![Told::Out(BrainOutput::Tool(asked(HANG_UP))), Told::Out(BrainOutput::HangUp { reason: "done".into() })],
    ]);
    let outcome = hold(agent(brain, &["hi"]), vec![speak(0)]);
    assert_eq!(outcome.end, SessionEnd::HangUp { reason: "done".into() });
    let turns = outcome.turns();
    let [first, _, last] = &turns[..] else { panic!("{turns:?}") };
    assert_eq!((first.text.as_str(), first.tools[0].outcome), ("Something went wrong.", ToolOutcome::Refused));
    assert_eq!((last.text.as_str(), last.tools[0].outcome), ("", ToolOutcome::Done), "without a word");
}

#[test]
fn what_was_recognised_and_spoken_is_counted() {
    let outcome = hold(agent(scripted(QUESTION), &["yes"]), vec![speak(0)]);
    let used = |event: &SessionEvent| if let SessionEvent::Used(used) = event { Some(used.clone()) } else { None };
    let told: Vec<_> = outcome.events.iter().filter_map(used).collect();
    let used = told.last().unwrap();
    let [voice] = &used.voices[..] else { panic!("{used:?}") };
    // Each sentence is a text of its own: the space between them is not spoken.
    let letters = outcome.said().join("").chars().count() - 1;
    assert_eq!(voice.characters, letters as u64, "{:?}", outcome.said());
    let [ear] = &used.recognizers[..] else { panic!("{used:?}") };
    // 600 ms of speech, with what comes before and after it.
    assert!((600..3_000).contains(&ear.audio_ms), "{ear:?}");
    assert!(told.windows(2).all(|pair| pair[0] != pair[1]), "told where it is more");
}

#[test]
fn a_line_that_closes_ends_the_conversation_with_what_was_heard() {
    let outcome = hold(agent(scripted(QUESTION), &[]), vec![Act::Over(1_000.0, Deed::HangUp)]);
    assert_eq!(outcome.end, SessionEnd::LineClosed);
    assert!(outcome.turns()[0].interrupted);
    assert!(outcome.said()[0].len() < 40);
}

#[test]
fn a_line_that_stands_still_holds_nobody_for_ever() {
    let mut line = TestLine::new(RATE, Pace::AtOnce, Gate::Level, vec![]);
    line.stuck = true;
    let outcome = hold_on(agent(scripted(QUESTION), &[]), line.with_limit_ms(200_000.0));
    assert!(matches!(outcome.end, SessionEnd::HangUp { .. }), "{:?}", outcome.end);
}

#[test]
fn a_conversation_has_a_longest_time() {
    let mut agent = agent(desk(), &["what are your opening hours"]);
    agent.turn.max_call_ms = 20_000;
    let outcome = hold(agent, (0..20).map(|_| speak(0)).collect());
    assert_eq!(outcome.end, SessionEnd::HangUp { reason: "time limit".into() });
    assert!(outcome.said().last().unwrap().contains("end this call"));
}

#[test]
fn what_is_said_or_pressed_in_a_private_state_is_told_to_nobody() {
    let toml = r##"
[script]
start = "menu"
[script.states.menu]
say = "Press one to pay."
[[script.states.menu.on]]
keys = ["1"]
next = "card"
[script.states.card]
say = "Your card number, please."
private = true
digits = { to = "card", min = 4, max = 19, next = "check" }
[[script.states.card.on]]
phrases = ["secret word"]
next = "check"
[script.states.check]
private = true
say = "It is {card}. Press one if that is right."
[[script.states.check.on]]
keys = ["1"]
next = "thanks"
[script.states.thanks]
say = "Thank you."
hang_up = "paid"
"##;
    let mut acts = vec![Act::After(300.0, Deed::Key('1')), Act::Over(200.0, Deed::Say(tone(0, 900)))];
    acts.push(Act::After(400.0, Deed::Key('4')));
    acts.extend("242#".chars().map(|key| Act::Then(200.0, Deed::Key(key))));
    acts.push(Act::After(300.0, Deed::Key('1')));
    let outcome = hold(agent(scripted(toml), &["something secret"]), acts);
    assert_eq!(outcome.end, SessionEnd::HangUp { reason: "paid".into() });
    let hang_up = outcome.turns().last().unwrap().tools[0].clone();
    assert_eq!((hang_up.by, hang_up.arguments.as_str()), (AskedBy::Script, r#"{"reason":"paid"}"#));
    let all = format!("{:?}", outcome.events);
    assert!(!all.contains("4242") && !all.contains("secret") && !all.contains("card number"), "{all}");
    let understood = outcome.understood();
    assert_eq!(understood.first().map(String::as_str), Some("1"), "{understood:?}");
    assert!(understood.len() >= 3 && understood[1..].iter().all(|text| text == "(private)"), "{understood:?}");
    let said = outcome.said();
    assert_eq!((said[0].as_str(), said.last().unwrap().as_str()), ("Press one to pay.", "Thank you."), "{said:?}");
    assert_eq!(outcome.count(|event| matches!(event, SessionEvent::Private { on: true })), 1, "{all}");
    let [(from, true), (to, false)] = outcome.line.privacy[..] else { panic!("{:?}", outcome.line.privacy) };
    // From before the question to after the last key of the answer.
    let acts = &outcome.line.act_times;
    assert!(from >= acts[0] && from < acts[1] && to >= *acts.last().unwrap(), "{from} to {to}: {acts:?}");
}

#[test]
fn what_somebody_of_the_house_has_it_say_is_said_at_once_and_the_conversation_goes_on() {
    let text = "A colleague will call you back.";
    let ask = Act::Over(300.0, Deed::Ask(Request::Say(text.into())));
    let mut agent = Agent::new("desk", desk()).with_voice(tone_voice());
    agent.turn.no_input_ms = 60_000;
    let outcome = hold(agent, vec![ask, Act::After(500.0, Deed::Key('1')), Act::After(500.0, Deed::HangUp)]);
    let said = outcome.said();
    let at = said.iter().position(|said| said == text).unwrap_or_else(|| panic!("it was not said: {said:?}"));
    assert_eq!(at, 1, "the greeting was cut short for it: {said:?}");
    let turns = outcome.turns();
    let greeting = turns.iter().find(|turn| turn.who == Speaker::Agent).unwrap();
    assert!(greeting.interrupted, "{greeting:?}");
    assert!(said.get(2).is_some_and(|answer| answer.contains("open")), "the key was answered: {said:?}");
}

#[test]
fn what_it_is_told_reaches_the_brain_and_the_caller_hears_nothing_of_it() {
    let know = Act::Over(300.0, Deed::Ask(Request::Know("the caller is a gold customer".into())));
    let agent = Agent::new("desk", desk()).with_voice(tone_voice());
    let outcome = hold(agent, vec![know, Act::After(500.0, Deed::HangUp)]);
    let turns = outcome.turns();
    assert_eq!(turns.len(), 1, "{turns:?}");
    assert!(!turns[0].interrupted);
}
