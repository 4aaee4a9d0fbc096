//! A recogniser of one's own. This one hears no words: it says how loud the caller was, which is enough for an agent
//! that wants to know whether somebody is there. `cargo run --example custom_recogniser`, then call sip:loud@127.0.0.1.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use agent::definition::AgentDefinition;
use agent::ear::{EarError, Hypothesis, Recognizer, RecognizerStream, StreamConfig};
use agent::registry::{Environment, Registry};
use omnivox::config::Sources;
use omnivox::{Config, Server};

const AGENT: &str = r#"
[agent]
name = "loud"
[ear]
recognizer = "loudness"
[brain]
kind = "script"
[script]
start = "ask"
[script.states.ask]
say = "Say something, softly or at the top of your voice."
[[script.states.ask.on]]
phrases = ["that was loud"]
keys = ["1"]
next = "loud"
[[script.states.ask.on]]
phrases = ["that was soft"]
keys = ["2"]
next = "soft"
[script.states.loud]
say = "That was loud. Goodbye."
hang_up = "done"
[script.states.soft]
say = "That was soft. Goodbye."
hang_up = "done"
"#;

struct Loudness;

impl Recognizer for Loudness {
    fn name(&self) -> &str {
        "loudness"
    }

    fn open(&self, _config: StreamConfig) -> Result<Box<dyn RecognizerStream>, EarError> {
        Ok(Box::new(Utterance { loudest_dbfs: -100.0, out: VecDeque::new(), is_over: false, waker: None }))
    }
}

struct Utterance {
    loudest_dbfs: f64,
    out: VecDeque<Hypothesis>,
    is_over: bool,
    waker: Option<Waker>,
}

impl RecognizerStream for Utterance {
    fn push(&mut self, pcm: &[i16]) -> Result<(), EarError> {
        self.loudest_dbfs = self.loudest_dbfs.max(codecs::pcm::level_dbov(pcm));
        Ok(())
    }

    fn finish(&mut self) {
        if !self.is_over {
            let text = if self.loudest_dbfs > -20.0 { "that was loud" } else { "that was soft" };
            self.out.push_back(Hypothesis::Final {
                text: text.to_owned(),
                words: Vec::new(),
                confidence: 1.0,
                accepted: true,
            });
            self.cancel();
        }
    }

    fn cancel(&mut self) {
        self.is_over = true;
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn poll_hypothesis(&mut self, cx: &mut Context<'_>) -> Poll<Option<Hypothesis>> {
        match self.out.pop_front() {
            Some(hypothesis) => Poll::Ready(Some(hypothesis)),
            None if self.is_over => Poll::Ready(None),
            None => {
                self.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let registry = Registry::built_in().with_recognizer("loudness", Arc::new(|_, _| Ok(Arc::new(Loudness))));
    let definition = AgentDefinition::parse(AGENT, Path::new("custom_recogniser.rs"))?;
    let agent = registry.build(&definition, &Environment::of_process("models"))?;
    let server = Server::builder(Config::load(&Sources::from_environment())?).agent(agent).start().await?;
    println!("call sip:loud@{}", server.sip_addrs()[0].1);
    server.run_until_interrupted().await
}
