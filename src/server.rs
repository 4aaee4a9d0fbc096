//! A running server, for `omnivox serve` and for programs that embed it.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use omnivox::{Config, Server};
//! let server = Server::builder(Config::default())
//!     .number("hello", |mut call| async move {
//!         call.play_wav("hello.wav".as_ref(), false).await.ok();
//!         call
//!     })
//!     .start()
//!     .await?;
//! server.run_until(async { tokio::signal::ctrl_c().await.ok(); }).await
//! # }
//! ```

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use agent::registry::Registry;
use control::fault::kept_running;
use control::live::Live;
use control::time::Moment;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::accounts::Accounts;
use crate::agents::Agents;
use crate::beside::Beside;
use crate::call::Command;
use crate::call::app::{ActiveCall, App};
use crate::call::dial::{DialPlan, Dialer, Party};
use crate::call::driver::{Driver, Outgoing};
use crate::call::music::HoldMusic;
use crate::call::notice::RecordNotice;
use crate::call::place::Place;
use crate::call::record::RecordSink;
use crate::call::route::{Directory, Target};
use crate::config::Config;
use crate::dispatch::Dispatcher;
use crate::guard::Door;
use crate::http::edge::Edge;
use crate::http::listen::Listeners;
use crate::http::{self, HttpState};
use crate::hub::{Hub, Observer};
use crate::live::LiveCalls;
use crate::plane::{self, Interface};

use crate::readiness::Readiness;
use crate::routing::Router;
use crate::routing::live::{LiveSettings, Routing};
use crate::stir::Stir;
use crate::telemetry::otlp::SpanQueue;
use crate::telemetry::traces::Traces;
use crate::trace::Tracer;
use crate::trunks::Trunks;
use crate::{ice, public};

/// How often gauges of the media workers are refreshed.
const GAUGES_EVERY: Duration = Duration::from_secs(5);
/// A stopping server that has said BYE to its calls waits this long for them to end.
const BYE_WITHIN: Duration = Duration::from_secs(3);

/// Builds a [`Server`].
#[derive(Default)]
pub struct ServerBuilder {
    config: Config,
    registry: Registry,
    agents: HashMap<String, agent::session::Agent>,
    apps: HashMap<String, App>,
    observer: Option<Observer>,
    directory: Option<Arc<dyn Directory + Send + Sync>>,
    metrics: Option<PrometheusHandle>,
    http: bool,
}

impl ServerBuilder {
    /// Answers calls to `sip:NAME@` with code: it gets the call once it is up and gives it back to hang up.
    #[must_use]
    pub fn number<F, R>(mut self, name: &str, handler: F) -> Self
    where
        F: Fn(ActiveCall) -> R + Send + Sync + 'static,
        R: Future<Output = ActiveCall> + Send + 'static,
    {
        self.apps.insert(name.to_ascii_lowercase(), App::new(handler));
        self
    }

    /// The providers that agents' definitions may name: the built-in ones unless this says otherwise.
    #[must_use]
    pub fn registry(mut self, registry: Registry) -> Self {
        self.registry = registry;
        self
    }

    /// Answers calls to `sip:NAME@` with this agent.
    #[must_use]
    pub fn agent(mut self, agent: agent::session::Agent) -> Self {
        self.agents.insert(agent.name.to_ascii_lowercase(), agent);
        self
    }

    /// Is told of everything that happens in conversations.
    #[must_use]
    pub fn observer(mut self, observer: impl Fn(&str, &agent::session::SessionEvent) + Send + Sync + 'static) -> Self {
        self.observer = Some(Arc::new(observer));
        self
    }

    /// Settles with code of its own which number stands for what. Asked on the SIP thread: it may not wait. It can fall
    /// back on [`built_in`](crate::call::route::built_in).
    #[must_use]
    pub fn directory(mut self, directory: impl Directory + Send + Sync + 'static) -> Self {
        self.directory = Some(Arc::new(directory));
        self
    }

    /// Serves HTTP as `[http]` says: health, readiness, metrics, the interface and the dashboard.
    #[must_use]
    pub fn http(mut self, metrics: Option<PrometheusHandle>) -> Self {
        self.http = true;
        self.metrics = metrics;
        self
    }

    /// Binds everything and begins to take calls. Models load behind it.
    ///
    /// # Errors
    /// A port in use, a folder that cannot be written, an agent's definition that is wrong: what, and how to mend it.
    pub async fn start(self) -> anyhow::Result<Server> {
        let config = Arc::new(self.config);
        let readiness = Arc::new(Readiness::new());
        let on_fault = {
            let readiness = Arc::clone(&readiness);
            Arc::new(move |fault: Option<&str>| readiness.note_fault("records", fault))
        };
        let (records, records_ended, killed) = RecordSink::start(&config.data.dir, on_fault, &config.prices)?;
        if config.records_calls() {
            let dir = config.recordings_dir();
            std::fs::create_dir_all(&dir).map_err(|fault| {
                anyhow::anyhow!(
                    "cannot make the folder {}: {fault}. Set data.dir, or record no calls (calls.record=false)",
                    dir.display()
                )
            })?;
        }
        let music = HoldMusic::open(&config.calls.music)?;
        let notice =
            if config.records_calls() { RecordNotice::open(&config.calls).await? } else { RecordNotice::default() };
        let agents = Agents::load(&config, self.registry, self.agents)?;
        // With a control plane they may be in its database, which is asked once it is open. A directory asks no routes.
        let has_plane = self.http && config.control.on;
        if let Some(missed) =
            agents.missed_by(&config, &[]).into_iter().find(|_| !has_plane && self.directory.is_none())
        {
            return Err(missed.into());
        }
        let media = media::Media::start(crate::config::engines::media(&config))?;
        let beside = Beside::start()?;
        let listener = if self.http {
            // Where they are bound they are waited for.
            let config = Arc::clone(&config);
            Some(beside.spawn(async move { Listeners::bind(&config.http, &config.tls).await }).await??)
        } else {
            None
        };
        let stir = Stir::open(&config)?.map(Arc::new);
        let stop = CancellationToken::new();
        let http_addr = listener.as_ref().and_then(Listeners::plain_addr);
        let https_addr = listener.as_ref().and_then(Listeners::tls_addr);
        // Bound last: once it is, signalling waits for the hub, so nothing after it may fail.
        let dispatcher = Dispatcher::default();
        let tracer = Arc::new(Tracer::start(&config.trace)?);
        let mut stack = crate::config::engines::signalling(&config);
        stack.public = public::find(&config).await?;
        let door = Arc::new(Door::new(&config, std::time::Instant::now()));
        stack.gate = Some(Arc::clone(&door) as Arc<dyn sip::io::Gate>);
        stack.tap = tracer.is_on().then(|| Arc::clone(&tracer) as Arc<dyn sip::io::Tap>);
        let sip = dispatcher.bind(stack)?;
        let mut hub = Hub::new(Arc::clone(&config), sip, media, agents, self.apps, records, self.observer);
        hub.directory = self.directory;
        hub.music = music;
        hub.notice = notice;
        hub.tracer = Arc::clone(&tracer);
        hub.door = Some(door);
        let [a, b] = sip::io::random_key()?;
        let mut key = [0; 16];
        key.iter_mut().zip(a.to_ne_bytes().into_iter().chain(b.to_ne_bytes())).for_each(|(to, from)| *to = from);
        let accounts = Arc::new(Accounts::open(&config, key, &hub.sip.udp_flows()));
        let trunks = Arc::new(Trunks::new(&config, std::time::Instant::now()));
        let signer = stir.as_ref().and_then(|stir| stir.signer());
        let barred = Arc::clone(&hub.barred);
        let router =
            Router::new(Arc::clone(&config), Arc::clone(&accounts), Arc::clone(&trunks), signer.clone(), barred);
        let router = Arc::new(router);
        hub.stir = stir;
        let dialer = match hub.directory {
            None => Arc::clone(&router) as Arc<dyn Dialer>,
            Some(_) => hub.dialer(),
        };
        if let Some(door) = &hub.door {
            door.trust(&config, &trunks);
        }
        hub.set_routing(Routing { config: Arc::clone(&config), trunks, router: Some(router), dialer });
        hub.accounts = Some(Arc::clone(&accounts));
        let events = Live::new(Moment::now());
        hub.live = has_plane.then(|| Arc::new(LiveCalls::new(events.clone())));
        let stop_traces = CancellationToken::new();
        let (spans, exporting) = match config.telemetry.otlp.traces_url() {
            None => (None, None),
            Some(_) => {
                let (config_of_it, stop) = (Arc::clone(&config), stop_traces.clone());
                let starting = beside.spawn(async move {
                    SpanQueue::start(&config_of_it.telemetry.otlp, &config_of_it.control.node, stop)
                });
                let (queue, exporting) = starting.await??;
                (Some(Arc::new(Traces::new(&config, queue))), Some((exporting, stop_traces)))
            }
        };
        if let Some(traces) = &spans {
            killed.iter().for_each(|record| traces.call(record));
        }
        hub.traces = spans;
        let hub = Arc::new(hub);
        let interface = Interface::default();
        let plane = hub.live.clone().map(|live| {
            let settings = LiveSettings::new(
                Arc::clone(&config),
                Arc::downgrade(&hub),
                Arc::clone(&accounts),
                signer,
                stop.clone(),
            );
            let stop = CancellationToken::new();
            let seen = (live, events);
            let running =
                plane::run(Arc::clone(&hub), seen, settings, Arc::clone(&readiness), interface.clone(), stop.clone());
            (beside.spawn(running), stop)
        });
        let serving = listener.map(|listener| {
            let web = config.web.calls.then(|| Arc::clone(&hub));
            let readiness = Arc::clone(&readiness);
            let state = HttpState { readiness, metrics: self.metrics.clone(), tracer, web, interface };
            beside.spawn(listener.serve(http::router(state, Edge::new(&config, https_addr)), stop.clone()))
        });
        hub.agents.warm_up(&readiness);
        dispatcher.begin(&hub);
        let mut farewells = hub.routing().trunks.run(&hub.asker, &stop);
        if accounts.are_there() || has_plane {
            let (stop, pinged, asker) = (stop.clone(), Arc::clone(&accounts), Arc::clone(&hub.asker));
            farewells.push(tokio::spawn(async move {
                let keep = |stop| Arc::clone(&accounts).keep(stop);
                let ping = |stop| Arc::clone(&pinged).ping(Arc::clone(&asker), stop);
                tokio::join!(
                    kept_running("what keeps registrations", &stop, keep),
                    kept_running("the pings of phones", &stop, ping)
                );
            }));
        }
        tokio::spawn(ice::watch(Arc::clone(&hub), stop.clone()));
        tokio::spawn(public::watch(Arc::clone(&hub), stop.clone()));
        tokio::spawn(refresh_gauges(Arc::clone(&hub), self.metrics, stop.clone()));
        Ok(Server {
            hub,
            readiness,
            stop,
            farewells,
            records_ended,
            plane,
            exporting,
            serving,
            http_addr,
            https_addr,
            _beside: beside,
        })
    }
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    hub: Arc<Hub>,
    readiness: Arc<Readiness>,
    stop: CancellationToken,
    /// What has something to do when the server stops.
    farewells: Vec<tokio::task::JoinHandle<()>>,
    records_ended: tokio::sync::oneshot::Receiver<()>,
    /// The control plane, and what ends it: it reads the last records first.
    plane: Option<(tokio::task::JoinHandle<()>, CancellationToken)>,
    /// What sends traces, and what ends it.
    exporting: Option<(tokio::task::JoinHandle<()>, CancellationToken)>,
    /// What serves HTTP.
    serving: Option<tokio::task::JoinHandle<()>>,
    http_addr: Option<SocketAddr>,
    https_addr: Option<SocketAddr>,
    _beside: Beside,
}

impl Server {
    /// Begins to build a server.
    #[must_use]
    pub fn builder(config: Config) -> ServerBuilder {
        ServerBuilder { config, ..ServerBuilder::default() }
    }

    /// The SIP listeners, with the ports they really got.
    #[must_use]
    pub fn sip_addrs(&self) -> Vec<(sip::endpoint::Transport, SocketAddr)> {
        self.hub.sip.listening().iter().map(|listen| (listen.transport, listen.address)).collect()
    }

    /// The HTTP listener without TLS, where there is one.
    #[must_use]
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.http_addr
    }

    /// The HTTP listener with TLS, where there is one.
    #[must_use]
    pub fn https_addr(&self) -> Option<SocketAddr> {
        self.https_addr
    }

    /// The ids of the calls in progress.
    #[must_use]
    pub fn calls(&self) -> Vec<Arc<str>> {
        self.hub.switchboard.calls()
    }

    /// Asks something of a running call; false where there is no such call, or it is not keeping up.
    pub fn command(&self, call: &str, command: Command) -> bool {
        self.hub.command(call, command)
    }

    /// Calls somebody (a device, a number, an address), and puts them into a place once they answer: a conference, or a call that they are
    /// to supervise. Returns the id of the call, which ends when whoever answers has gone there.
    ///
    /// # Errors
    /// Nobody is to be reached by that name: why.
    pub fn invite(&self, target: &str, place: Place) -> Result<String, String> {
        invite(&self.hub, target, Target::Place(place), None)
    }

    /// So many messages wait for a device, new and heard ones: its phones are told (RFC 3842).
    pub fn set_messages(&self, device: &str, new: u32, old: u32) {
        self.hub.watchers.set_messages(&self.hub, device, new, old);
    }

    /// What is not ready yet.
    #[must_use]
    pub fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// Takes calls until `until`, then drains and stops.
    ///
    /// # Errors
    /// Records that could not be written.
    pub async fn run_until(self, until: impl Future<Output = ()>) -> anyhow::Result<()> {
        until.await;
        self.shut_down().await
    }

    /// Takes calls until SIGINT or SIGTERM, then drains and stops; at a second one at once.
    ///
    /// # Errors
    /// The signals cannot be listened for, or records could not be written.
    pub async fn run_until_interrupted(self) -> anyhow::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut signalled = async move || {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        signalled().await;
        self.stop_within(async move {
            tracing::info!("stopping: a second SIGTERM or ctrl-C ends the calls that go on at once");
            signalled().await;
            tracing::info!("stopping at once");
        })
        .await
    }

    /// Stops: new calls get 503, running ones finish within `calls.drain_s`, then are told BYE.
    ///
    /// # Errors
    /// Records that could not be written.
    pub async fn shut_down(self) -> anyhow::Result<()> {
        self.stop_within(std::future::pending()).await
    }

    /// The same; calls that go on have no more time once `at_once` is there.
    async fn stop_within(self, at_once: impl Future<Output = ()>) -> anyhow::Result<()> {
        self.hub.stopping.store(true, Ordering::Relaxed);
        self.readiness.add("the server is stopping");
        let running = self.hub.running();
        if running > 0 {
            tracing::info!("stopping: {running} calls have {} s to finish", self.hub.config.calls.drain_s);
        }
        let drain = Duration::from_secs(self.hub.config.calls.drain_s);
        let is_idle = tokio::select! {
            biased;
            is_idle = self.idle_within(drain) => is_idle,
            () = at_once => false,
        };
        if !is_idle {
            self.hub.switchboard.command_all(&Command::ShutDown);
            if !self.idle_within(BYE_WITHIN).await {
                tracing::warn!("{} calls did not confirm their end", self.hub.running());
                self.hub.switchboard.command_all(&Command::ShutDown);
                self.idle_within(BYE_WITHIN).await;
            }
        }
        self.stop.cancel();
        let farewells = self.farewells.into_iter().chain(self.hub.take_farewells());
        // Our registrations are taken back, and those of phones are written: each within its own time.
        let _ = tokio::time::timeout(BYE_WITHIN, futures::future::join_all(farewells)).await;
        self.hub.sip.shutdown().await;
        self.hub.media.shutdown();
        drop(self.hub);
        // The writer ends when the last call has let go of the hub; calls that hang on to it are not waited for.
        let _ = tokio::time::timeout(BYE_WITHIN, self.records_ended).await;
        if let Some((running, stop)) = self.plane {
            stop.cancel();
            let _ = tokio::time::timeout(BYE_WITHIN, running).await;
        }
        if let Some(serving) = self.serving {
            // Whoever watched is told that it is over.
            let _ = tokio::time::timeout(BYE_WITHIN, serving).await;
        }
        if let Some((exporting, stop)) = self.exporting {
            stop.cancel();
            let _ = tokio::time::timeout(BYE_WITHIN, exporting).await;
        }
        tracing::info!("stopped");
        Ok(())
    }

    async fn idle_within(&self, limit: Duration) -> bool {
        let deadline = tokio::time::Instant::now() + limit;
        while self.hub.running() > 0 {
            if tokio::time::Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        true
    }
}

/// Calls somebody (a device, a number, an address) and connects whoever answers with a target. Returns the id of the call.
pub(crate) fn invite(hub: &Arc<Hub>, whom: &str, target: Target, traceparent: Option<&str>) -> Result<String, String> {
    let from = format!("sip:{}@{}", target.name(), hub.config.registrar.realm);
    let party = Party { uri: from.clone(), ..Party::default() };
    let plan = hub.dialer().plan(whom, &party).map_err(|refusal| plane::not_to_be_reached(whom, refusal))?;
    Ok(place(hub, plan, target, (from, whom.to_owned()), None, traceparent))
}

/// Places a call that nobody else does, from one to another, for a device where it is for one. Returns the id of the call.
pub(crate) fn place(
    hub: &Arc<Hub>,
    plan: DialPlan,
    target: Target,
    (from, to): (String, String),
    device: Option<String>,
    traceparent: Option<&str>,
) -> String {
    let outgoing = Outgoing {
        plan: Arc::new(plan),
        target,
        from,
        to,
        recording: None,
        max_duration: Duration::from_secs(hub.config.calls.max_duration_s),
        is_duration_asked: false,
        device,
    };
    let seat = hub.enter();
    let call = seat.id().to_owned();
    if let (Some(traces), Some(traceparent)) = (&hub.traces, traceparent) {
        traces.continues(&call, traceparent);
    }
    hub.spawn(Driver::place(Arc::clone(hub), seat, outgoing));
    call
}

/// Figures of what there is now; and what histograms gathered is summed up, which nobody else may ask for.
async fn refresh_gauges(hub: Arc<Hub>, metrics: Option<PrometheusHandle>, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(GAUGES_EVERY);
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                if let Some(metrics) = &metrics {
                    metrics.run_upkeep();
                }
                let stats = hub.media.stats();
                metrics::gauge!("omnivox_media_legs").set(stats.legs as f64);
                metrics::gauge!("omnivox_media_rooms").set(stats.rooms as f64);
                if let Some(door) = &hub.door {
                    door.measure();
                }
                if let Ok(stack) = hub.sip.stats().await {
                    metrics::gauge!("omnivox_sip_dialogs").set(stack.endpoint.calls as f64);
                    metrics::gauge!("omnivox_sip_transactions").set(stack.endpoint.transactions as f64);
                    metrics::gauge!("omnivox_sip_connections").set(stack.connections as f64);
                    metrics::counter!("omnivox_sip_repeats_total", "direction" => "in").absolute(stack.endpoint.repeats_received);
                    metrics::counter!("omnivox_sip_repeats_total", "direction" => "out").absolute(stack.endpoint.repeats_sent);
                    metrics::counter!("omnivox_sip_unreadable_total").absolute(stack.endpoint.unreadable);
                    metrics::counter!("omnivox_panics_total", "part" => "signalling").absolute(stack.faults);
                }
                metrics::counter!("omnivox_panics_total", "part" => "media").absolute(stats.faults);
                metrics::counter!("omnivox_media_rounds_total").absolute(stats.rounds);
                metrics::counter!("omnivox_media_overruns_total").absolute(stats.overruns);
                metrics::gauge!("omnivox_media_longest_round_seconds").set(stats.longest_round_us as f64 / 1e6);
                metrics::counter!("omnivox_media_relayed_packets_total").absolute(stats.relayed);
            }
            () = stop.cancelled() => return,
        }
    }
}
