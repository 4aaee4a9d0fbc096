//! What every call of one server shares: configuration, signalling, media, agents, records, and the count of calls.

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::SystemTime;

use agent::brain::BrainInput;
use agent::session::{Began, OBSERVER_CAPACITY, Session, SessionEnd, SessionEvent};
use sip::endpoint::CallId;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::accounts::Accounts;
use crate::agents::{Agents, Ready};
use crate::call::app::{self, App, Conversation, Outcome, Resume};
use crate::call::dial::{Converser, Dialer, Party};
use crate::call::end::EndReason;
use crate::call::held_line::Occupation;
use crate::call::inbound::Refusal;
use crate::call::line::CallLine;
use crate::call::log::{Providers, new_id};
use crate::call::music::HoldMusic;
use crate::call::notice::RecordNotice;
use crate::call::place::Places;
use crate::call::record::RecordSink;
use crate::call::route::{self, Directory, Names, RouteQuery, Target};
use crate::call::signal::Signal;
use crate::call::switchboard::{Inbox, Switchboard};
use crate::call::{Command, ConversationEnd};
use crate::config::Config;
use crate::guard::Door;
use crate::live::LiveCalls;
use crate::queues::Queues;
use crate::routing::barred::Barred;
use crate::routing::live::Routing;
use crate::stir::Stir;
use crate::telemetry::Masked;
use crate::telemetry::traces::Traces;
use crate::trace::Tracer;
use crate::trunks::ask::Asker;
use crate::watchers::Watchers;
use crate::web::WebLegs;

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
    /// Which call holds which leg.
    pub switchboard: Switchboard,
    /// Asked which number stands for what; `None`: the built-in numbers, agents and applications alone.
    pub directory: Option<Arc<dyn Directory + Send + Sync>>,
    /// What those hear who wait.
    pub music: HoldMusic,
    /// What those hear who are recorded.
    pub notice: RecordNotice,
    /// Which call is which conference, and who waits where.
    pub places: Places,
    /// Who waits in which queue.
    pub(crate) queues: Queues,
    /// Devices and their registrations.
    pub(crate) accounts: Option<Arc<Accounts>>,
    /// Requests of ours outside of calls.
    pub(crate) asker: Arc<Asker>,
    /// Numbers that nobody of ours calls.
    pub(crate) barred: Arc<Barred>,
    /// What calls are routed by.
    routing: RwLock<Routing>,
    /// What trunks that were added while it runs have to do when the server stops.
    farewells: Mutex<Vec<JoinHandle<()>>>,
    /// Who is told of what devices do.
    pub(crate) watchers: Watchers,
    /// Verifies who calls; `None` where nobody is to.
    pub(crate) stir: Option<Arc<Stir>>,
    /// Told who failed; `None` where everybody is listened to.
    pub(crate) door: Option<Arc<Door>>,
    /// Calls of web pages.
    pub(crate) web: WebLegs,
    /// The calls in progress, for those outside of them; `None` where nobody asks.
    pub(crate) live: Option<Arc<LiveCalls>>,
    /// Keeps signalling to be looked at.
    pub tracer: Arc<Tracer>,
    /// Makes traces; `None` where nobody collects them.
    pub traces: Option<Arc<Traces>>,
    /// The threads of calls: whoever has them begun from others' runs them here.
    runtime: Handle,
    running: AtomicUsize,
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").field("running", &self.running()).finish_non_exhaustive()
    }
}

impl Hub {
    /// A hub with no calls yet; calls will run on the runtime that this is called in.
    ///
    /// # Panics
    /// Outside of a runtime.
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
        let asker = Arc::new(Asker::new(sip.clone()));
        let routing = RwLock::new(Routing::none(Arc::clone(&config)));
        Self {
            config,
            sip,
            media,
            agents,
            apps,
            records,
            observer,
            stopping: AtomicBool::new(false),
            switchboard: Switchboard::default(),
            directory: None,
            music: HoldMusic::default(),
            notice: RecordNotice::default(),
            places: Places::default(),
            queues: Queues::default(),
            accounts: None,
            asker,
            barred: Arc::default(),
            routing,
            farewells: Mutex::default(),
            watchers: Watchers::default(),
            stir: None,
            door: None,
            web: WebLegs::default(),
            live: None,
            tracer: Arc::default(),
            traces: None,
            runtime: Handle::current(),
            running: AtomicUsize::new(0),
        }
    }

    /// Runs a call.
    pub(crate) fn spawn(&self, call: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(call);
    }

    /// What calls are routed by now.
    #[must_use]
    pub(crate) fn routing(&self) -> Routing {
        self.routing.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Calls that come from here on are routed by this.
    pub(crate) fn set_routing(&self, routing: Routing) {
        *self.routing.write().unwrap_or_else(PoisonError::into_inner) = routing;
    }

    /// These have something to do when the server stops; those that are over already have not.
    pub(crate) fn add_farewells(&self, farewells: Vec<JoinHandle<()>>) {
        let mut all = self.farewells.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|farewell| !farewell.is_finished());
        all.extend(farewells);
    }

    /// All of them.
    pub(crate) fn take_farewells(&self) -> Vec<JoinHandle<()>> {
        std::mem::take(&mut *self.farewells.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Asked how somebody is reached.
    #[must_use]
    pub fn dialer(&self) -> Arc<dyn Dialer> {
        self.routing().dialer
    }

    /// The agent or program that `target` names, for those who may have somebody talk with it.
    pub(crate) fn converser(&self, target: &str, on_behalf: &Party) -> Option<Target> {
        match self.dialer().converser(target, on_behalf)? {
            Converser::Agent(name) => Some(Target::Agent(name)),
            Converser::Own(name) => route::built_in(&self.config, &name, self).filter(Target::converses),
        }
    }

    /// Calls in progress.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }

    /// What a call says to its legs.
    pub(crate) fn signal(&self) -> Signal<'_> {
        Signal { sip: &self.sip, web: &self.web, board: &self.switchboard }
    }

    /// Counts a call in until its seat is given up, and takes mail and commands for it.
    #[must_use]
    pub fn enter(self: &Arc<Self>) -> CallSeat {
        let id = new_id(SystemTime::now());
        let inbox = self.switchboard.open(&id);
        metrics::gauge!("omnivox_calls").set(self.running.fetch_add(1, Ordering::Relaxed) as f64 + 1.0);
        CallSeat { inbox, guard: CallGuard { hub: Arc::clone(self), id } }
    }

    /// Asks something of a running call; false where there is no such call, or it is not keeping up.
    pub fn command(&self, call: &str, command: Command) -> bool {
        self.switchboard.command(call, command)
    }

    /// Whoever holds the line of a call to this target, and, of an agent, what happens in the conversation.
    #[must_use]
    pub fn converse(&self, target: &Target) -> (Occupation, Option<mpsc::Receiver<SessionEvent>>) {
        match target {
            Target::Agent(name) => {
                let (sender, receiver) = mpsc::channel(OBSERVER_CAPACITY);
                let (agents, name) = (self.agents.clone(), name.clone());
                (Box::new(move |line| converse_with_agent(agents, name, line, sender)), Some(receiver))
            }
            Target::App(name) => match self.apps.get(name).cloned() {
                Some(app) => (Box::new(move |line| app.converse(line)), None),
                None => (Box::new(app::idle), None),
            },
            Target::Program(_, app) => {
                let app = app.clone();
                (Box::new(move |line| app.converse(line)), None)
            }
            Target::Echo | Target::Ring | Target::Bye | Target::Dial(_) | Target::Place(_) => {
                (Box::new(app::idle), None)
            }
        }
    }

    /// Counts a conversation's event and passes it on.
    pub fn observe(&self, call: &str, event: &SessionEvent) {
        match event {
            SessionEvent::Began(began) => {
                tracing::debug!(call, "call {call}: agent {} has the caller", began.agent);
                metrics::counter!("omnivox_conversations_total", "agent" => began.agent.clone()).increment(1);
            }
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
        self.web.observe(call, event);
        if let Some(live) = &self.live {
            live.observe(call, event);
        }
        if let Some(observer) = &self.observer {
            observer(call, event);
        }
    }

    fn leave(&self, id: &str) {
        self.switchboard.close(id);
        metrics::gauge!("omnivox_calls").set(self.running.fetch_sub(1, Ordering::Relaxed) as f64 - 1.0);
    }
}

impl Directory for Hub {
    fn route(&self, query: &RouteQuery<'_>) -> Result<Target, Refusal> {
        if let Some(directory) = &self.directory {
            return directory.route(query);
        }
        let router = self.routing().router;
        if let Some(target) = router.as_ref().and_then(|router| router.by_rule(query)) {
            return target;
        }
        if let Some(target) = route::built_in(&self.config, query.user, self) {
            return Ok(target);
        }
        if let Some(place) = router.as_ref().and_then(|router| router.to_place(query)) {
            return Ok(Target::Place(place));
        }
        let device = router.as_ref().and_then(|router| router.to_device(query));
        device.unwrap_or_else(|| Err(Refusal::new(404, EndReason::UnknownNumber)))
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

/// A call's place in the hub: counted until it is dropped.
#[derive(Debug)]
pub struct CallSeat {
    inbox: Inbox,
    guard: CallGuard,
}

impl CallSeat {
    /// The call's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.guard.id
    }

    /// A leg that the call begins with.
    pub fn connect(&self, leg: CallId) {
        self.guard.hub.switchboard.connect(leg, &self.inbox.address);
    }

    pub(crate) fn take(self) -> (Inbox, CallGuard) {
        (self.inbox, self.guard)
    }
}

/// A call in progress; dropped when it is over.
#[derive(Debug)]
pub struct CallGuard {
    hub: Arc<Hub>,
    id: String,
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        self.hub.leave(&self.id);
    }
}

fn converse_with_agent(
    agents: Agents,
    name: String,
    mut line: CallLine,
    observer: mpsc::Sender<SessionEvent>,
) -> Conversation {
    Box::pin(async move {
        let Ready { agent, voice, number, .. } = match agents.ready(&name).await {
            Ok(ready) => ready,
            Err(what) => {
                let end = ConversationEnd::Failed { what, upstream: false };
                return Outcome { end, line, providers: None, resume: None };
            }
        };
        let providers = Providers {
            recognizer: agent.recognizers.first().map(|recognizer| recognizer.name().to_owned()).unwrap_or_default(),
            brain: agent.brain.name().to_owned(),
            voice,
        };
        let Providers { recognizer, brain, voice } = providers.clone();
        let began = Began { conversation: 0, agent: name, version: number, recognizer, brain, voice };
        // The queue is new, and has room.
        let _ = observer.try_send(SessionEvent::Began(began));
        let session = Session::new(agent, observer);
        let session = match line.take_briefing() {
            Some((briefing, since)) => session.briefed(briefing, since),
            None => session,
        };
        hold(session, BrainInput::Start, line, providers).await
    })
}

/// Holds a conversation until it ends, or passes its call on.
fn hold(mut session: Session, input: BrainInput, mut line: CallLine, providers: Providers) -> Conversation {
    Box::pin(async move {
        // With what it goes on, where it can.
        let mut goes_on: Option<fn(String) -> BrainInput> = None;
        let end = match session.hold(input, &mut line).await {
            SessionEnd::HangUp { reason } => ConversationEnd::Done(reason),
            SessionEnd::Transfer(handover) => {
                goes_on = Some(BrainInput::TransferFailed);
                ConversationEnd::Transfer(handover)
            }
            SessionEnd::LineClosed => {
                goes_on = Some(BrainInput::Returned);
                ConversationEnd::LineClosed
            }
            SessionEnd::Failed { what, fault } => {
                ConversationEnd::Failed { what, upstream: fault == agent::session::Fault::Upstream }
            }
            other => ConversationEnd::Done(format!("{other:?}")),
        };
        let names = providers.clone();
        let resume = goes_on.map(|with| -> Box<dyn FnOnce(String, CallLine) -> Conversation + Send> {
            Box::new(move |why, line| hold(session, with(why), line, names))
        });
        Outcome { end, line, providers: Some(providers), resume: resume.map(Resume) }
    })
}
