//! Voice agents as the control plane asks for them: publishing one while calls run, looking at a definition, talking in writing.

use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use agent::brain::{Brain, BrainError, BrainInput, BrainOutput};
use agent::definition::{AgentDefinition, DefinitionError};
use agent::history::History;
use control::ports::agents::{
    AgentFault, AgentReadiness, AgentSource, AgentState, Agents as Port, Conversation, Conversing, WrittenTurn,
};
use futures::StreamExt;

use super::{Agents, Slot};

/// An answer in writing takes this long at most.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

impl Port for Agents {
    fn list(&self) -> Vec<AgentState> {
        let state = |name: String| {
            let slot = self.slot(&name)?;
            let reached = slot.state.borrow();
            let (state, fault) = match (&reached.loaded, &reached.ready) {
                (None, _) => (AgentReadiness::Loading, None),
                (Some(Ok(())), _) => (AgentReadiness::Ready, None),
                (Some(Err(fault)), None) => (AgentReadiness::Failed, Some(fault.clone())),
                (Some(Err(fault)), Some(_)) => {
                    (AgentReadiness::Failed, Some(format!("{fault}. The version before it takes the calls")))
                }
            };
            drop(reached);
            Some(AgentState { name, source: slot.source, state, fault })
        };
        self.names().into_iter().filter_map(state).collect()
    }

    fn definition(&self, name: &str) -> Option<String> {
        let slot = self.slot(name).filter(|slot| matches!(slot.source, AgentSource::BuiltIn | AgentSource::File))?;
        Some(slot.text.clone())
    }

    fn check(&self, definition: &str) -> Vec<AgentFault> {
        let definition = match parse(definition) {
            Ok(definition) => definition,
            Err(faults) => return faults,
        };
        let faults = self.registry.check(&definition, &self.environment);
        faults.into_iter().map(|found| fault(&found.place, found.what)).collect()
    }

    fn publish(&self, name: &str, version: i64, definition: &str) -> Result<(), Vec<AgentFault>> {
        let slot = Slot { number: Some(version), ..Slot::of(AgentSource::Stored, parse(definition)?, definition) };
        let slot = {
            let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
            let slot = match slots.get(name) {
                Some(before) if before.source != AgentSource::Stored => {
                    let taken = format!("{name} comes with the server: choose another name");
                    return Err(vec![fault("agent.name", taken)]);
                }
                Some(before) => Arc::new(slot.after(before)),
                None => Arc::new(slot),
            };
            slots.insert(name.to_owned(), Arc::clone(&slot));
            slot
        };
        let (agents, name) = (self.clone(), name.to_owned());
        self.apart(move || agents.build_into(&name, &slot));
        Ok(())
    }

    fn withdraw(&self, name: &str) {
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        if slots.get(name).is_some_and(|slot| slot.source == AgentSource::Stored) {
            slots.remove(name);
        }
    }

    fn converse(&self, definition: &str, said: Vec<String>) -> Conversing {
        let agents = self.clone();
        let definition = parse(definition);
        Box::pin(async move {
            let definition = definition?;
            let building = agents
                .clone()
                .apart(move || agents.registry.build_brain(&definition, &agents.environment).map(|brain| brain.open()));
            let brain = building.await.map_err(|fault| vec![self::fault("brain", fault.to_string())])?;
            let brain = brain.map_err(|fault| vec![self::fault("brain.kind", fault.to_string())])?;
            hold(brain, said).await.map_err(|fault| vec![self::fault("brain", fault.to_string())])
        })
    }
}

/// Holds a conversation in writing.
async fn hold(mut brain: Box<dyn Brain>, said: Vec<String>) -> Result<Conversation, BrainError> {
    let (mut held, mut history) = (Conversation::default(), History::new());
    answer(&mut *brain, BrainInput::Start, &mut history, &mut held).await?;
    let mut misses = 0;
    for text in said {
        if held.ended.is_some() {
            break;
        }
        held.turns.push(WrittenTurn { speaker: "caller".to_owned(), text: text.clone() });
        history.caller_said(text.clone());
        let is_keyed = text.chars().all(|key| key.is_ascii_digit() || "*#".contains(key));
        // What no phrase of the present state fits would not be understood on a line either.
        let fits = is_keyed || brain.expects().is_none_or(|grammar| grammar.match_text(&text).is_some());
        misses = if fits { 0 } else { misses + 1 };
        let input = match (is_keyed, fits) {
            (true, _) => BrainInput::Digits(text),
            (false, true) => BrainInput::Heard { text, confidence: 1.0 },
            (false, false) => BrainInput::NoMatch(misses),
        };
        answer(&mut *brain, input, &mut history, &mut held).await?;
    }
    Ok(held)
}

async fn answer(
    brain: &mut dyn Brain,
    input: BrainInput,
    history: &mut History,
    held: &mut Conversation,
) -> Result<(), BrainError> {
    let mut outputs = brain.respond(input, history);
    let mut text: Vec<String> = Vec::new();
    let told = async {
        while let Some(output) = outputs.next().await {
            match output? {
                BrainOutput::Say(sentence) => text.push(sentence),
                BrainOutput::Transfer(handover) => held.ended = Some(format!("transfer to {}", handover.uri)),
                BrainOutput::HangUp { reason } => held.ended = Some(format!("hung up: {reason}")),
                _ => {}
            }
        }
        Ok(())
    };
    let told: Result<(), BrainError> = tokio::time::timeout(ANSWER_WITHIN, told).await.unwrap_or_else(|_| {
        let waited_ms = u64::try_from(ANSWER_WITHIN.as_millis()).unwrap_or(u64::MAX);
        Err(BrainError::TooSlow { provider: "the brain".to_owned(), waited_ms, stage: "answering in writing" })
    });
    drop(outputs);
    told?;
    brain.commit();
    let text = text.join(" ");
    if !text.is_empty() {
        history.agent_was_heard(text.clone(), false);
        held.turns.push(WrittenTurn { speaker: "agent".to_owned(), text });
    }
    Ok(())
}

fn parse(definition: &str) -> Result<AgentDefinition, Vec<AgentFault>> {
    AgentDefinition::parse(definition, Path::new("definition")).map_err(|error| match error {
        DefinitionError::Faults { faults, .. } => {
            faults.into_iter().map(|found| fault(&found.place, found.what)).collect()
        }
        DefinitionError::Toml { message, .. } => vec![AgentFault { line: line_of(&message), ..fault("", message) }],
        other => vec![fault("", other.to_string())],
    })
}

fn fault(field: &str, detail: String) -> AgentFault {
    AgentFault { field: field.to_owned(), detail, line: None }
}

/// The line that TOML's message names.
fn line_of(message: &str) -> Option<u32> {
    let (_, rest) = message.split_once("at line ")?;
    rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use agent::registry::Registry;

    use super::*;
    use crate::agents::Ready;

    #[tokio::test]
    async fn the_front_desk_talks_in_writing_too() {
        let agents = Agents::none();
        let said = vec!["what are your opening hours".to_owned(), "gibberish from a pigeon".to_owned()];
        let held = agents.converse(agent::definition::FRONT_DESK, said).await.unwrap();
        let speakers: Vec<&str> = held.turns.iter().map(|turn| turn.speaker.as_str()).collect();
        assert_eq!(speakers, ["agent", "caller", "agent", "caller", "agent"], "{held:?}");
        assert!(held.turns[2].text.contains("open"), "{held:?}");
        assert_ne!(held.turns[4].text, held.turns[2].text, "what is not understood is asked again: {held:?}");
        assert_eq!(held.ended, None);
    }

    #[test]
    fn what_is_wrong_has_its_place_and_its_line() {
        let agents = Agents::none();
        let broken = agents.check("[agent]\nname = \"x\"\n[script]\nstart = 5");
        assert_eq!(broken.first().and_then(|fault| fault.line), Some(4), "{broken:?}");
        let empty = agents.check("[agent]\nname = \"a b\"");
        let places: Vec<&str> = empty.iter().map(|fault| fault.field.as_str()).collect();
        assert_eq!(places, ["agent.name", "script"]);
        assert!(agents.check(agent::definition::FRONT_DESK).is_empty());
        let unknown = |more: &str| format!("{more}\n{SALES}");
        for (more, place) in [
            ("[brain]\nkind = \"foo\"", "brain.kind"),
            ("[ear]\nrecognizer = \"foo\"", "ear.recognizer"),
            ("[voice]\nkind = \"foo\"", "voice.kind"),
            ("[voice]\nkind = \"flite\"\nvoice = \"bob\"", "voice.voice"),
        ] {
            let faults = agents.check(&unknown(more));
            assert_eq!(faults.iter().map(|fault| fault.field.as_str()).collect::<Vec<_>>(), [place], "{faults:?}");
        }
    }

    const SALES: &str = "[script]\nstart = \"menu\"\n[script.states.menu]\nsay = \"Hello.\"\nhang_up = \"goodbye\"";

    /// Waits until nothing loads any more; returns how it went.
    async fn settled(agents: &Agents) -> AgentState {
        loop {
            let state = agents.list().into_iter().find(|state| state.name == "sales").unwrap();
            if state.state != AgentReadiness::Loading {
                return state;
            }
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_version_that_cannot_be_loaded_leaves_the_calls_to_the_one_before() {
        let agents = Agents::none();
        let named = |name: &str, more: &str| format!("[agent]\nname = \"{name}\"\n{more}\n{SALES}");
        agents.publish("sales", 1, &named("one", "")).unwrap();
        assert_eq!(settled(&agents).await.state, AgentReadiness::Ready);
        agents.publish("sales", 2, &named("two", "[brain]\nkind = \"foo\"")).unwrap();
        let state = settled(&agents).await;
        assert_eq!(state.state, AgentReadiness::Failed);
        assert!(state.fault.as_deref().is_some_and(|fault| fault.contains("brain.kind")), "{state:?}");
        assert_eq!(agents.ready("sales").await.unwrap().agent.name, "one");
        agents.publish("sales", 3, &named("three", "[voice]\nkind = \"flite\"")).unwrap();
        assert_eq!(settled(&agents).await.state, AgentReadiness::Ready);
        let Ready { agent, voice, number, .. } = agents.ready("sales").await.unwrap();
        assert_eq!((agent.name.as_str(), voice.as_str(), number), ("three", "flite", Some(3)));
        agents.withdraw("sales");
        agents.publish("sales", 4, &named("four", "[brain]\nkind = \"foo\"")).unwrap();
        settled(&agents).await;
        assert!(agents.ready("sales").await.is_err(), "none was there before");
    }

    #[tokio::test]
    async fn a_load_that_panics_is_one_that_failed_and_the_next_is_tried() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        let loads = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&loads);
        let script = Registry::built_in().with_brain(
            "frail",
            Arc::new(move |_, _| {
                assert!(counted.fetch_add(1, Ordering::Relaxed) > 0, "on purpose");
                Err("it is not there".to_owned())
            }),
        );
        let agents = Agents { registry: script, ..Agents::none() };
        let text = |brain: &str| format!("[agent]\nname = \"sales\"\n{brain}\n{SALES}");
        agents.publish("sales", 1, &text("[brain]\nkind = \"frail\"")).unwrap();
        // Whoever calls meanwhile does not wait for ever.
        let told = agents.ready("sales").await.err().unwrap_or_default();
        assert!(told.contains("a fault of this program"), "{told}");
        assert_eq!(settled(&agents).await.state, AgentReadiness::Failed);
        agents.publish("sales", 2, &text("[brain]\nkind = \"frail\"")).unwrap();
        settled(&agents).await;
        assert!(agents.ready("sales").await.err().is_some_and(|why| why.contains("it is not there")));
        agents.publish("sales", 3, &text("")).unwrap();
        assert_eq!(settled(&agents).await.state, AgentReadiness::Ready);
        assert!(agents.ready("sales").await.is_ok());
        assert_eq!(loads.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn the_latest_version_that_can_be_loaded_takes_the_calls_whichever_is_loaded_first() {
        let version = |name: &str, more: &str| {
            let text = format!("[agent]\nname = \"{name}\"\n{more}\n{SALES}");
            Slot::of(AgentSource::Stored, parse(&text).unwrap(), &text)
        };
        let agents = Agents::none();
        let one = Arc::new(version("one", ""));
        let two = Arc::new(version("two", "[brain]\nkind = \"foo\"").after(&one));
        agents.slots.write().unwrap().insert("sales".to_owned(), Arc::clone(&two));
        agents.build_into("sales", &two);
        let mut waiting = Box::pin(agents.ready("sales"));
        assert!(futures::poll!(&mut waiting).is_pending(), "the first still loads");
        agents.build_into("sales", &one);
        assert_eq!(waiting.await.unwrap().agent.name, "one");
        let state = settled(&agents).await;
        let says = state.fault.unwrap_or_default();
        assert!(state.state == AgentReadiness::Failed && says.contains("The version before it"), "{says}");
        let three = Arc::new(version("three", "").after(&two));
        let four = Arc::new(version("four", "").after(&three));
        agents.slots.write().unwrap().insert("sales".to_owned(), Arc::clone(&four));
        agents.build_into("sales", &four);
        agents.build_into("sales", &three);
        assert_eq!(agents.ready("sales").await.unwrap().agent.name, "four");
        assert_eq!(settled(&agents).await.state, AgentReadiness::Ready);
    }
}
