//! The scripted brain by itself: text in, text out.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::Path;

use agent::brain::script::{Script, ScriptFactory};
use agent::brain::{Brain, BrainFactory, BrainInput, BrainOutput, Handover, TransferKind};
use agent::briefing::Briefing;
use agent::definition::AgentDefinition;
use agent::history::History;
use futures::StreamExt;

fn open(toml: &str, operator: &str) -> Box<dyn Brain> {
    let mut script = AgentDefinition::parse(toml, Path::new("test.toml")).unwrap().script.unwrap();
    script.variables.insert("operator".into(), operator.into());
    ScriptFactory::new(Script::new(script).unwrap()).open()
}

fn desk() -> Box<dyn Brain> {
    open(agent::definition::FRONT_DESK, "")
}

fn give(brain: &mut dyn Brain, input: BrainInput) -> Vec<BrainOutput> {
    let stream = brain.respond(input, &History::new());
    let outputs: Vec<_> = futures::executor::block_on(stream.collect());
    brain.commit();
    outputs.into_iter().map(Result::unwrap).collect()
}

fn say(brain: &mut dyn Brain, text: &str) -> String {
    text_of(&give(brain, BrainInput::Heard { text: text.into(), confidence: 0.9 }))
}

fn key(brain: &mut dyn Brain, keys: &str) -> String {
    text_of(&give(brain, BrainInput::Digits(keys.into())))
}

fn text_of(outputs: &[BrainOutput]) -> String {
    let said = outputs
        .iter()
        .filter_map(|output| if let BrainOutput::Say(text) = output { Some(text.as_str()) } else { None });
    said.collect::<Vec<_>>().join(" ")
}

#[test]
fn the_desk_books_by_voice() {
    let mut brain = desk();
    assert!(text_of(&give(brain.as_mut(), BrainInput::Start)).contains("How can I help you?"));
    assert!(say(brain.as_mut(), "book an appointment for Thursday please").starts_with("On Thursday. In the morning"));
    assert!(
        say(brain.as_mut(), "in the morning").contains("An appointment on Thursday, in the morning. Is that right?")
    );
    assert!(say(brain.as_mut(), "yes").contains("booked for Thursday, in the morning"));
    let outputs = give(brain.as_mut(), BrainInput::Heard { text: "no thank you".into(), confidence: 0.9 });
    assert_eq!(outputs.last(), Some(&BrainOutput::HangUp { reason: "goodbye".into() }));
}

#[test]
fn the_desk_books_by_keys_alone() {
    let mut brain = desk();
    give(brain.as_mut(), BrainInput::Start);
    assert!(key(brain.as_mut(), "2").contains("Which day"));
    assert!(key(brain.as_mut(), "3").starts_with("On Wednesday."));
    assert!(key(brain.as_mut(), "2").contains("Wednesday, in the afternoon. Is that right?"));
    assert!(key(brain.as_mut(), "1").contains("booked for Wednesday"));
    assert!(key(brain.as_mut(), "*").contains("Goodbye"));
}

#[test]
fn a_closed_day_is_refused_and_another_asked_for() {
    let mut brain = desk();
    give(brain.as_mut(), BrainInput::Start);
    assert!(say(brain.as_mut(), "book an appointment for Sunday").contains("we are closed on Sunday"));
    assert!(say(brain.as_mut(), "on Monday").starts_with("On Monday."));
}

#[test]
fn what_was_understood_can_be_corrected() {
    let mut brain = desk();
    give(brain.as_mut(), BrainInput::Start);
    say(brain.as_mut(), "book an appointment for Tuesday");
    say(brain.as_mut(), "in the afternoon");
    assert!(say(brain.as_mut(), "no I meant Thursday").starts_with("On Thursday."));
    say(brain.as_mut(), "in the afternoon");
    assert!(say(brain.as_mut(), "no").contains("Which day would you like?"));
}

#[test]
fn a_slot_that_was_not_spoken_this_time_is_empty() {
    let mut brain = desk();
    give(brain.as_mut(), BrainInput::Start);
    say(brain.as_mut(), "book an appointment for Tuesday");
    say(brain.as_mut(), "in the afternoon");
    say(brain.as_mut(), "yes");
    assert!(say(brain.as_mut(), "book an appointment").contains("Which day would you like?"), "not Tuesday again");
}

#[test]
fn the_last_prompt_is_repeated_and_not_the_plea_to_repeat_oneself() {
    let mut brain = desk();
    give(brain.as_mut(), BrainInput::Start);
    let question = key(brain.as_mut(), "2");
    assert!(text_of(&give(brain.as_mut(), BrainInput::NoMatch(1))).starts_with("Sorry"));
    assert_eq!(say(brain.as_mut(), "could you repeat that please"), question);
    assert_eq!(key(brain.as_mut(), "9"), question);
}

#[test]
fn a_person_is_offered_where_one_is_configured() {
    let mut brain = desk();
    give(brain.as_mut(), BrainInput::Start);
    assert!(say(brain.as_mut(), "can I speak to a person please").contains("nobody is free"));
    let mut brain = open(agent::definition::FRONT_DESK, "sip:front@example.com");
    give(brain.as_mut(), BrainInput::Start);
    let outputs = give(brain.as_mut(), BrainInput::Digits("0".into()));
    assert_eq!(outputs.last(), Some(&BrainOutput::Transfer(Handover::blind("sip:front@example.com"))));
    assert!(text_of(&outputs).contains("connect you"));
}

#[test]
fn every_state_of_the_desk_gives_up_on_silence_and_on_mumbling() {
    let definition = AgentDefinition::front_desk().unwrap().script.unwrap();
    for input in [BrainInput::NoInput as fn(u32) -> BrainInput, BrainInput::NoMatch] {
        for name in definition.states.keys() {
            let mut script = definition.clone();
            script.start.clone_from(name);
            // States that can't be reached from here are no matter.
            let Ok(script) = Script::new(reachable(script)) else { continue };
            let mut brain = ScriptFactory::new(script).open();
            let started = give(brain.as_mut(), BrainInput::Start);
            if !matches!(started.last(), Some(BrainOutput::Listen(_))) {
                continue;
            }
            let last = (1..=4)
                .map(|n| give(brain.as_mut(), input(n)))
                .find(|outputs| matches!(outputs.last(), Some(BrainOutput::HangUp { .. })));
            assert!(last.is_some(), "{name}");
        }
    }
}

/// Drops what the checker would call unreachable from another start.
fn reachable(mut script: agent::brain::script::ScriptDefinition) -> agent::brain::script::ScriptDefinition {
    loop {
        let faults = script.faults();
        let unreachable: Vec<String> = faults
            .iter()
            .filter(|fault| fault.what.contains("can't be reached"))
            .filter_map(|fault| fault.place.rsplit('.').next().map(str::to_owned))
            .collect();
        if unreachable.is_empty() {
            return script;
        }
        script.states.retain(|name, _| !unreachable.contains(name));
    }
}

#[test]
fn a_transfer_that_fails_goes_on_where_the_script_says() {
    let text = r#"
        [script]
        start = "ask"
        [script.states.ask]
        say = "Hello."
        transfer = "sip:front@example.com"
        transfer_kind = "warm"
        transfer_summary = "A caller for you."
        transfer_accept = true
        transfer_failed = "sorry"
        [script.states.sorry]
        say = "Nobody is there."
        hang_up = "nobody"
    "#;
    let mut brain = open(text, "");
    let first = give(brain.as_mut(), BrainInput::Start);
    let Some(BrainOutput::Transfer(handover)) = first.last() else { panic!("{first:?}") };
    assert_eq!((handover.kind, handover.must_accept), (TransferKind::Warm, true));
    assert_eq!(handover.summary, "A caller for you.");
    let then = give(brain.as_mut(), BrainInput::TransferFailed("the person is busy".into()));
    assert_eq!(text_of(&then), "Nobody is there.");
    assert_eq!(then.last(), Some(&BrainOutput::HangUp { reason: "nobody".into() }));
}

#[test]
fn an_agent_takes_what_it_is_told_of_a_caller_into_the_variables_that_it_has() {
    let text = r#"
        [script]
        start = "hello"
        [script.variables]
        name = "nobody"
        handover_from = "nobody"
        handover_summary = "nothing"
        [script.states.hello]
        say = "{name}, {handover_from}, {handover_summary}."
        transfer = "next"
        transfer_variables = ["name"]
    "#;
    let mut brain = open(text, "");
    let variables = [("name", "Smith"), ("other", "x")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    let briefing = Briefing { from: "desk".into(), variables: variables.into(), ..Briefing::default() };
    brain.brief(&briefing);
    let said = give(brain.as_mut(), BrainInput::Start);
    assert_eq!(text_of(&said), "Smith, desk, nothing.", "what is not said is as it was");
    let Some(BrainOutput::Transfer(handover)) = said.last() else { panic!("{said:?}") };
    assert_eq!(handover.variables, [("name".to_owned(), "Smith".to_owned())].into(), "and goes on to the next");
}

#[test]
fn a_caller_who_comes_back_from_a_transfer_of_somebody_elses_hears_again_what_was_said_last() {
    let text = r#"
        [script]
        start = "ask"
        [script.states.ask]
        say = "What is your number?"
        [[script.states.ask.on]]
        phrases = ["goodbye"]
        say = "Goodbye."
        next = "end"
        [script.states.end]
        hang_up = "done"
    "#;
    let mut brain = open(text, "");
    let asked = give(brain.as_mut(), BrainInput::Start);
    assert_eq!(give(brain.as_mut(), BrainInput::Returned("the person is busy".into())), asked);
    assert!(matches!(asked.last(), Some(BrainOutput::Listen(_))), "{asked:?}");
}

#[test]
fn a_warm_transfer_without_a_summary_is_a_fault_of_the_definition() {
    let text = "[script]\nstart = \"a\"\n[script.states.a]\ntransfer = \"sip:b@c\"\ntransfer_kind = \"warm\"\n";
    let fault = AgentDefinition::parse(text, Path::new("test.toml")).unwrap_err().to_string();
    assert!(fault.contains("transfer_summary"), "{fault}");
}
