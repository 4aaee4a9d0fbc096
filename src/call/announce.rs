//! What a person hears before a caller is put through to them: a summary in the agent's voice, or the server's where no agent has the
//! call, and, where they are asked to, how to take the call.

use std::time::Duration;

use codecs::pcm::SampleRate;

use super::ConversationEnd;
use super::app::{ActiveCall, Outcome};
use super::held_line::Occupation;
use crate::agents::Agents;

/// The key that takes the call.
pub const ACCEPT_KEY: char = '1';
/// The key that does not.
pub const DECLINE_KEY: char = '2';
/// After the announcement the person has this long to decide.
pub const DECIDES_WITHIN: Duration = Duration::from_secs(15);
/// Asked behind the summary.
const QUESTION: &str = "To take the call, press 1. Otherwise, press 2.";

/// Who speaks.
#[derive(Debug, Clone)]
pub struct Voices {
    /// The agent that has the call.
    pub agent: Option<(Agents, String)>,
    /// The server's own voice, as `calls.record_announcement_voice` names it: where there is no agent, or its voices fail.
    pub server: String,
}

/// Says `summary` on a line; where the person `must_accept`, asks them and waits for a key.
#[must_use]
pub fn occupation(voices: Voices, summary: String, must_accept: bool) -> Occupation {
    Box::new(move |line| {
        Box::pin(async move {
            let mut line = line;
            // Who is asked nothing presses keys for whatever they wait for.
            line.attend(!must_accept);
            let mut call = ActiveCall::new(line);
            let text = if must_accept { format!("{summary} {QUESTION}") } else { summary };
            match spoken(&voices, text.trim(), call.rate()).await {
                Ok((pcm, rate)) => {
                    call.play(&pcm, rate, must_accept).await;
                }
                // A person who hears no summary still hears the caller.
                Err(why) => tracing::error!("an announcement could not be said: {why}"),
            }
            let accepted = !must_accept || is_accepted(&mut call).await;
            let end =
                if call.is_closed() { ConversationEnd::LineClosed } else { ConversationEnd::Announced { accepted } };
            let mut line = call.into_line();
            line.attend(false);
            Outcome { end, line, providers: None, resume: None }
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

/// `text` as speech, and its rate: the agent's at `rate`.
async fn spoken(voices: &Voices, text: &str, rate: SampleRate) -> Result<(Vec<i16>, SampleRate), String> {
    if text.is_empty() {
        return Ok((Vec::new(), rate));
    }
    if let Some((agents, agent)) = &voices.agent {
        match spoken_by(agents, agent, text, rate).await {
            Ok(pcm) => return Ok((pcm, rate)),
            Err(why) => tracing::error!("agent {agent} could not say an announcement: {why}"),
        }
    }
    crate::say::speak(&voices.server, text)
        .await
        .map_err(|fault| format!("calls.record_announcement_voice = {:?}: {fault:#}", voices.server))
}

async fn spoken_by(agents: &Agents, agent: &str, text: &str, rate: SampleRate) -> Result<Vec<i16>, String> {
    let agent = agents.ready(agent).await?.agent;
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
