//! What a person hears before a caller is put through to them: a summary in the agent's voice, and, where they are asked to, how
//! to take the call.

use std::time::Duration;

use codecs::pcm::SampleRate;

use super::ConversationEnd;
use super::app::{ActiveCall, Outcome};
use super::leg::Occupation;
use crate::agents::Agents;

/// The key that takes the call.
pub const ACCEPT_KEY: char = '1';
/// The key that does not.
pub const DECLINE_KEY: char = '2';
/// After the announcement the person has this long to decide.
pub const DECIDES_WITHIN: Duration = Duration::from_secs(15);
/// Asked behind the summary.
const QUESTION: &str = "To take the call, press 1. Otherwise, press 2.";

/// Says `summary` on a line in the voice of an agent; where the person `must_accept`, asks them and waits for a key.
#[must_use]
pub fn occupation(agents: Agents, agent: String, summary: String, must_accept: bool) -> Occupation {
    Box::new(move |line| {
        Box::pin(async move {
            let mut call = ActiveCall::new(line);
            let text = if must_accept { format!("{summary} {QUESTION}") } else { summary };
            let rate = call.rate();
            match spoken(&agents, &agent, text.trim(), rate).await {
                Ok(pcm) => {
                    call.play(&pcm, rate, must_accept).await;
                }
                // A person who hears no summary still hears the caller.
                Err(why) => tracing::error!("an announcement of agent {agent} could not be said: {why}"),
            }
            let accepted = !must_accept || is_accepted(&mut call).await;
            let end =
                if call.is_closed() { ConversationEnd::LineClosed } else { ConversationEnd::Announced { accepted } };
            Outcome { end, line: call.into_line(), providers: None, resume: None }
        })
    })
}

/// Waits for one of the two keys. Others decide nothing.
async fn is_accepted(call: &mut ActiveCall) -> bool {
    let deadline = tokio::time::Instant::now() + DECIDES_WITHIN;
    while let Some(key) = call.key(deadline.saturating_duration_since(tokio::time::Instant::now())).await {
        match key {
            ACCEPT_KEY => return true,
            DECLINE_KEY => return false,
            _ => {}
        }
    }
    false
}

async fn spoken(agents: &Agents, agent: &str, text: &str, rate: SampleRate) -> Result<Vec<i16>, String> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let agent = agents.ready(agent).await?;
    let mut fault = "it has no voice".to_owned();
    for source in &agent.voices {
        let speech = source(rate).and_then(|voice| voice.speak(text));
        match speech {
            Ok(speech) => match speech.collect_pcm().await {
                Ok(pcm) => return Ok(pcm),
                Err(error) => fault = error.to_string(),
            },
            Err(error) => fault = error.to_string(),
        }
    }
    Err(fault)
}
