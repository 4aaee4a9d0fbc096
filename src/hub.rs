//! What every call of one server shares: configuration, signalling, media, agents, records, and the count of calls.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use agent::session::{OBSERVER_CAPACITY, Session, SessionEnd, SessionEvent};
use sip::endpoint::CallId;
use tokio::sync::mpsc;

use crate::agents::Agents;
use crate::call::app::{App, Conversation, Outcome};
use crate::call::end::EndReason;
use crate::call::inbound::Refusal;
use crate::call::line::CallLine;
use crate::call::log::Providers;
use crate::call::record::RecordSink;
use crate::call::route::{self, Directory, Names, RouteQuery, Target};
use crate::call::{Command, ConversationEnd};
use crate::config::Config;
use crate::telemetry::Masked;

/// Told of everything that happens in conversations: the call's id and the event.
pub type Observer = Arc<dyn Fn(&str, &SessionEvent) + Send + Sync>;

/// Shared by all calls of a server.
pub struct Hub {
    /// The configuration.
    pub config: Arc<Config>,
    /// Signalling.
    pub sip: sip::io::SipHandle,
    /// Sound.
    pub media: media::Media,
    /// Voice agents.
    pub agents: Agents,
    /// Numbers that the embedding program answers.
    pub apps: HashMap<String, App>,
    /// Where ended calls are written.
    pub records: RecordSink,
    /// Told of conversations as they happen.
    pub observer: Option<Observer>,
    /// The server is stopping: no new calls.
    pub stopping: AtomicBool,
    running: AtomicUsize,
    commands: Mutex<HashMap<CallId, mpsc::Sender<Command>>>,
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").field("running", &self.running()).finish_non_exhaustive()
    }
}

impl Hub {
    /// A hub with no calls yet.
    #[must_use]
    pub fn new(
        config: Arc<Config>,
        sip: sip::io::SipHandle,
        media: media::Media,
        agents: Agents,
        apps: HashMap<String, App>,
        records: RecordSink,
        observer: Option<Observer>,
    ) -> Self {
        Self {
            config,
            sip,
            media,
            agents,
            apps,
            records,
            observer,
            stopping: AtomicBool::new(false),
            running: AtomicUsize::new(0),
            commands: Mutex::default(),
        }
    }

    /// Calls in progress.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }

    /// Counts a call in until the guard is dropped, and takes commands for it.
    #[must_use]
    pub fn enter(self: &Arc<Self>, call: CallId) -> (CallGuard, mpsc::Receiver<Command>) {
        let (sender, receiver) = mpsc::channel(4);
        self.commands.lock().unwrap_or_else(PoisonError::into_inner).insert(call, sender);
        metrics::gauge!("omnivox_calls").set(self.running.fetch_add(1, Ordering::Relaxed) as f64 + 1.0);
        (CallGuard { hub: Arc::clone(self), call }, receiver)
    }

    /// Tells every running call something.
    pub fn command_all(&self, command: Command) {
        for sender in self.commands.lock().unwrap_or_else(PoisonError::into_inner).values() {
            // A call with four commands waiting is ending already.
            let _ = sender.try_send(command);
        }
    }

    /// Connects a call with what its number stands for.
    #[must_use]
    pub fn converse(&self, target: &Target, line: CallLine) -> (Conversation, Option<mpsc::Receiver<SessionEvent>>) {
        match target {
            Target::Agent(name) => {
                let (sender, receiver) = mpsc::channel(OBSERVER_CAPACITY);
                (converse_with_agent(self.agents.clone(), name.clone(), line, sender), Some(receiver))
            }
            Target::App(name) => match self.apps.get(name) {
                Some(app) => (app.converse(line), None),
                None => (App::idle(line), None),
            },
            Target::Echo | Target::Ring | Target::Bye | Target::Dial(_) => (App::idle(line), None),
        }
    }

    /// Counts a conversation's event and passes it on.
    pub fn observe(&self, call: &str, event: &SessionEvent) {
        match event {
            SessionEvent::Turn(turn) => {
                tracing::debug!(call, "call {call}: {:?} said: {}", turn.who, Masked(&turn.text));
                metrics::counter!("omnivox_turns_total", "who" => format!("{:?}", turn.who).to_lowercase())
                    .increment(1);
                if let Some(gap_ms) = turn.gap_ms {
                    metrics::histogram!("omnivox_response_gap_seconds").record(gap_ms / 1_000.0);
                }
            }
            SessionEvent::Interrupted { .. } => metrics::counter!("omnivox_interruptions_total").increment(1),
            SessionEvent::ProviderFailed { part, provider, reason, .. } => {
                let stage = format!("{part:?}").to_lowercase();
                tracing::warn!(call, "call {call}: {stage} {provider} failed: {reason}");
                metrics::counter!("omnivox_provider_failures_total", "stage" => stage).increment(1);
            }
            _ => {}
        }
        if let Some(observer) = &self.observer {
            observer(call, event);
        }
    }

    fn leave(&self, call: CallId) {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner).remove(&call);
        metrics::gauge!("omnivox_calls").set(self.running.fetch_sub(1, Ordering::Relaxed) as f64 - 1.0);
    }
}

impl Directory for Hub {
    fn route(&self, query: &RouteQuery<'_>) -> Result<Target, Refusal> {
        route::built_in(&self.config, query.user, self).ok_or_else(|| Refusal::new(404, EndReason::UnknownNumber))
    }
}

impl Names for Hub {
    fn has_agent(&self, name: &str) -> bool {
        self.agents.has(name)
    }

    fn has_app(&self, name: &str) -> bool {
        self.apps.contains_key(name)
    }
}

/// A call in progress; dropped when it is over.
#[derive(Debug)]
pub struct CallGuard {
    hub: Arc<Hub>,
    call: CallId,
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        self.hub.leave(self.call);
    }
}

fn converse_with_agent(
    agents: Agents,
    name: String,
    mut line: CallLine,
    observer: mpsc::Sender<SessionEvent>,
) -> Conversation {
    Box::pin(async move {
        let agent = match agents.ready(&name).await {
            Ok(agent) => agent,
            Err(what) => {
                let end = ConversationEnd::Failed { what, upstream: false };
                return Outcome { end, stats: line.close(), providers: None };
            }
        };
        let providers = Providers {
            recognizer: agent.recognizers.first().map(|recognizer| recognizer.name().to_owned()).unwrap_or_default(),
            brain: agent.brain.name().to_owned(),
            voice: agents.voice_name(&name),
        };
        let end = match Session::new(agent, observer).run(&mut line).await {
            SessionEnd::HangUp { reason } => ConversationEnd::Done(reason),
            SessionEnd::Transfer { uri } => ConversationEnd::Transfer(uri),
            SessionEnd::LineClosed => ConversationEnd::LineClosed,
            SessionEnd::Failed { what, fault } => {
                ConversationEnd::Failed { what, upstream: fault == agent::session::Fault::Upstream }
            }
            other => ConversationEnd::Done(format!("{other:?}")),
        };
        Outcome { end, stats: line.close(), providers: Some(providers) }
    })
}
