//! What is wrong with a definition is said with the file, the place and how to mend it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::Path;

use agent::definition::{AgentDefinition, DefinitionError, FRONT_DESK};
use agent::registry::{BuildError, Environment, Registry};

const GOOD: &str = r#"
[script]
start = "menu"
[script.states.menu]
say = "Which day?"
[[script.states.menu.on]]
phrases = ["on {day}"]
keys = ["1"]
next = "end"
[script.states.end]
say = "On {day}."
hang_up = "done"
"#;

fn fault(toml: &str) -> String {
    AgentDefinition::parse(toml, Path::new("mine.toml")).unwrap_err().to_string()
}

fn fault_with(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from));
    fault(&GOOD.replace(from, to))
}

#[test]
fn the_built_in_front_desk_and_the_smallest_dialogue_are_right() {
    let desk = AgentDefinition::front_desk().unwrap();
    assert_eq!(desk.agent.name, "desk");
    AgentDefinition::parse(GOOD, Path::new("mine.toml")).unwrap();
}

#[test]
fn an_unknown_key_is_named_with_what_was_meant() {
    let message = fault("[agent]\nnmae = \"x\"\n");
    assert!(
        message.contains("mine.toml") && message.contains("nmae") && message.contains("did you mean `name`?"),
        "{message}"
    );
    let message = fault("[turn]\nend_complete = 3\n");
    assert!(message.contains("did you mean `end_complete_ms`?"), "{message}");
    let message = fault_with("say = \"Which day?\"", "says = \"Which day?\"");
    assert!(message.contains("did you mean `say`?"), "{message}");
}

#[test]
fn every_fault_of_a_dialogue_names_its_place() {
    for (from, to, place, hint) in [
        ("next = \"end\"", "next = \"ende\"", "script.states.menu.on[0].next", "did you mean \"end\"?"),
        ("start = \"menu\"", "start = \"men\"", "script.start", "did you mean \"menu\"?"),
        ("say = \"On {day}.\"", "say = \"On {dya}.\"", "script.states.end.say", "did you mean \"day\"?"),
        ("say = \"Which day?\"", "say = \"\"", "script.states.menu.say", "empty text"),
        ("say = \"Which day?\"", "", "script.states.menu.say", "hear nothing"),
        ("keys = [\"1\"]", "keys = [\"12\"]", "script.states.menu.on[0].keys", "is no key"),
        ("phrases = [\"on {day}\"]", "phrases = [\"on {dy}\"]", "script.states.menu.on", "dy"),
        ("next = \"end\"", "next = \"menu\"", "script.states.end", "can't be reached"),
        ("hang_up = \"done\"", "", "script.states.end", "understands none"),
        ("hang_up = \"done\"", "hang_up = \"done\"\nnext = \"menu\"", "script.states.end", "only one can be done"),
        ("hang_up = \"done\"", "next = \"end\"", "script.states.end.next", "circle"),
        ("say = \"On {day}.\"", "say = \"On {day.\"", "script.states.end.say", "without a }"),
    ] {
        let message = fault_with(from, to);
        assert!(
            message.contains("mine.toml: ") && message.contains(place) && message.contains(hint),
            "{to}: {message}"
        );
    }
}

#[test]
fn all_faults_are_told_at_once() {
    let toml = GOOD.replace("next = \"end\"", "next = \"ende\"").replace("start = \"menu\"", "start = \"men\"");
    let DefinitionError::Faults { faults, .. } = AgentDefinition::parse(&toml, Path::new("mine.toml")).unwrap_err()
    else {
        panic!("faults expected")
    };
    assert!(faults.len() >= 2, "{faults:?}");
}

#[test]
fn timings_that_contradict_each_other_are_named() {
    let message = fault(&format!("[turn]\nend_complete_ms = 900\n{GOOD}"));
    assert!(message.contains("end_complete_ms = 900 is more than end_settled_ms = 400"), "{message}");
}

#[test]
fn a_name_that_can_not_be_dialled_is_refused() {
    assert!(fault(&format!("[agent]\nname = \"front desk\"\n{GOOD}")).contains("agent.name"));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let message = AgentDefinition::read(Path::new("/nonexistent/agent.toml")).unwrap_err().to_string();
    assert!(message.contains("/nonexistent/agent.toml"), "{message}");
}

#[test]
fn an_unknown_provider_is_an_error_with_the_known_ones() {
    let environment = Environment::of_process("models");
    for (table, place) in [
        ("[ear]\nrecognizer = \"sfinx\"\n", "ear.recognizer"),
        ("[voice]\nkind = \"flit\"\n", "voice.kind"),
        ("[brain]\nkind = \"scirpt\"\n", "brain.kind"),
    ] {
        let definition = AgentDefinition::parse(&format!("{table}{GOOD}"), Path::new("mine.toml")).unwrap();
        let error = Registry::built_in().build(&definition, &environment).unwrap_err();
        assert!(matches!(error, BuildError::Unknown { .. }), "{error}");
        assert!(error.to_string().contains(place) && error.to_string().contains("there are"), "{error}");
    }
}

#[test]
fn the_notes_say_what_was_chosen() {
    let definition = AgentDefinition::parse(GOOD, Path::new("mine.toml")).unwrap();
    let agent = Registry::built_in().build(&definition, &Environment::of_process("models")).unwrap();
    for part in ["brain: ", "recogniser: ", "voice: "] {
        assert!(agent.notes.iter().any(|note| note.starts_with(part)), "{:?}", agent.notes);
    }
}

#[test]
fn a_recogniser_whose_model_is_missing_says_how_to_get_it() {
    let table = "[ear]\nrecognizer = \"whisper\"\n";
    let empty = tempfile::tempdir().unwrap();
    for (model, hint) in [
        ("", "omnivox models pull"),
        ("model = \"whisper-tiny.en\"\n", "omnivox models pull whisper-tiny.en"),
        ("model = \"no-such\"\n", "models list"),
    ] {
        let definition = AgentDefinition::parse(&format!("{table}{model}{GOOD}"), Path::new("mine.toml")).unwrap();
        let error = Registry::built_in().build(&definition, &Environment::of_process(empty.path())).unwrap_err();
        assert!(error.to_string().contains(hint), "{error}");
    }
}

#[test]
fn the_front_desk_is_understood_as_it_is_meant() {
    use agent::brain::script::Script;
    let script = Script::new(AgentDefinition::front_desk().unwrap().script.unwrap()).unwrap();
    for (state, text, rule, day) in [
        ("menu", "what are your opening hours", "menu/0", None),
        ("menu", "I'd like to make an appointment please", "menu/1", None),
        ("menu", "book an appointment for Thursday", "menu/1", Some("Thursday")),
        ("menu", "can I speak to a person", "everywhere/1", None),
        ("which_day", "on Friday please", "which_day/0", Some("Friday")),
        ("which_day", "say that again", "everywhere/0", None),
        ("what_time", "in the afternoon", "what_time/1", None),
        ("confirm", "yes that's right", "confirm/0", None),
        ("confirm", "no I meant Monday", "confirm/2", Some("Monday")),
    ] {
        let matched = script.grammar(state).unwrap().match_text(text).unwrap_or_else(|| panic!("{state}: {text}"));
        assert_eq!(matched.rule, rule, "{state}: {text}");
        if let Some(day) = day {
            assert_eq!(matched.slots.get("day").map(String::as_str), Some(day), "{state}: {text}");
        }
    }
    assert!(FRONT_DESK.contains("operator"));
}

#[test]
fn what_was_said_in_private_may_not_be_told_elsewhere() {
    let private = GOOD.replace("say = \"Which day?\"", "say = \"Which day?\"\nprivate = true");
    let message = fault(&private);
    assert!(message.contains("script.states.end.say") && message.contains("{day}"), "{message}");
    assert!(message.contains("private states alone"), "{message}");
    let private = private.replace("[script.states.end]", "[script.states.end]\nprivate = true");
    AgentDefinition::parse(&private, Path::new("mine.toml")).unwrap();
    let on_the_way = private.replace("next = \"end\"", "next = \"end\"\nsay = \"So {day}.\"");
    assert!(fault(&on_the_way).contains("script.states.menu.on[0].say"), "{}", fault(&on_the_way));
    let passed_on = private.replace("hang_up = \"done\"", "transfer = \"sip:{day}@host\"");
    assert!(fault(&passed_on).contains("script.states.end.transfer"), "{}", fault(&passed_on));
    let told = private.replace("hang_up = \"done\"", "transfer = \"sales\"\ntransfer_variables = [\"day\"]");
    assert!(fault(&told).contains("script.states.end.transfer_variables"), "{}", fault(&told));
}
