//! Runs the control plane beside the calls: what it asks of them, and opening its database without holding them up.

mod own_phone;
mod web;

use std::fmt;
use std::io::{Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, SystemTime};

use agent::brain::Handover;
use agent::line::Request;
use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use control::api::problem::Problem;
use control::identity::access;
use control::live::Live;
use control::ports::spans::{NoSpans, Spans};
use control::ports::{
    CallCommand, CallFault, Calls, IceServer, LiveCall, Ports, Queue, Recording, StartCall, Supervision, Trace,
    Transfer, TransferKind, WebAnswering, WebCall,
};
use control::store::Store;
use control::time::Moment;
use control::{Control, Options};
use sip::endpoint::EndCause;
use sip::trace::ladder::draw;
use sip::trace::pcap;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::agents::Agents;
use crate::call::dial::Party;
use crate::call::end::EndReason;
use crate::call::inbound::Refusal;
use crate::call::place::{Place, Watching};
use crate::call::route::{self, Target};
use crate::call::{Command, LegNo};
use crate::config::{Config, Network, RouteConfig};
use crate::hub::Hub;
use crate::live::LiveCalls;
use crate::readiness::Readiness;
use crate::routing::live::LiveSettings;
use crate::{output, server};

/// A database that does not open is tried again after so long, then twice as long, up to [`SLOWEST`].
const AGAIN_AFTER: Duration = Duration::from_secs(1);
const SLOWEST: Duration = Duration::from_secs(60);

/// How the control plane runs, by the configuration.
pub(crate) fn options(config: &Config) -> Options {
    let control = &config.control;
    let database = control.database.reveal();
    Options {
        database: if database.is_empty() { Store::in_folder(&config.data.dir) } else { database.to_owned() },
        folder: config.data.dir.clone(),
        node: control.node.clone(),
        url: control.url.clone(),
        session_idle_s: control.session_idle_s,
        session_s: control.session_s,
        rates: control.rates.limits(),
        webhooks_allow: control.webhooks_allow.iter().flat_map(Network::blocks).collect(),
        oidc: control.oidc.options(&control.url),
        country: crate::routing::numbers::country(&control.country),
        journal: journal(config),
        retention: control.retention.kept(),
    }
}

/// Calls, as the control plane asks them.
struct Desk {
    /// Gone once the server has stopped: whoever still asks then does not keep it.
    hub: Weak<Hub>,
    config: Arc<Config>,
    live: Arc<LiveCalls>,
    readiness: Arc<Readiness>,
}

impl Calls for Desk {
    fn list(&self) -> Vec<LiveCall> {
        self.live.list()
    }

    fn find(&self, id: &str) -> Option<LiveCall> {
        self.live.find(id)
    }

    fn command(&self, id: &str, command: CallCommand) -> Result<(), CallFault> {
        let hub = self.hub.upgrade().ok_or(CallFault::Gone)?;
        let command = match command {
            CallCommand::HangUp => Command::HangUp,
            CallCommand::Transfer(transfer) => {
                let call = self.live.find(id).ok_or(CallFault::Gone)?;
                let on_behalf = transfer.on_behalf.clone();
                Command::Transfer(handover(&hub, &call, transfer)?, on_behalf)
            }
            CallCommand::Hold(on) => Command::Hold(on),
            CallCommand::Record(on) => Command::Record(on),
            CallCommand::Mute(leg, on) => Command::Mute(LegNo(leg), on),
            CallCommand::Press(leg, keys) => Command::Press(LegNo(leg), keys),
            CallCommand::Say(text) => Command::Ask(Request::Say(text)),
            CallCommand::Note(text) => Command::Ask(Request::Know(text)),
        };
        if let Some(why) = unfit(&hub, id, &command) {
            return Err(CallFault::Unfit(why.to_owned()));
        }
        let is_agents = self.live.find(id).is_some_and(|call| call.agent.is_some() || hub.agents.has(&call.target));
        if matches!(command, Command::Ask(_)) && !is_agents {
            let fault = CallFault::Unfit("no agent has the call".to_owned());
            return Err(if self.live.find(id).is_some() { fault } else { CallFault::Gone });
        }
        if hub.command(id, command) {
            return Ok(());
        }
        Err(if self.live.find(id).is_some() { CallFault::Busy } else { CallFault::Gone })
    }

    fn start(&self, order: StartCall) -> Result<String, CallFault> {
        let hub = self.hub.upgrade().filter(|hub| !hub.stopping.load(Ordering::Relaxed)).ok_or(CallFault::Busy)?;
        let Some(connect_with) = &order.connect_with else { return own_phone::call(&hub, &order) };
        let target = target(&hub, connect_with)?;
        has_room(&hub)?;
        server::invite(&hub, &order.to, target, order.traceparent.as_deref()).map_err(CallFault::Unreachable)
    }

    fn supervise(&self, device: &str, call: &str, how: Supervision) -> Result<String, CallFault> {
        let hub = self.hub.upgrade().filter(|hub| !hub.stopping.load(Ordering::Relaxed)).ok_or(CallFault::Busy)?;
        let place = Place::Watch(call.to_owned(), watching(how));
        server::invite(&hub, device, Target::Place(place), None).map_err(CallFault::Unreachable)
    }

    fn is_inside(&self, name: &str) -> bool {
        self.hub.upgrade().is_some_and(|hub| {
            hub.accounts.as_ref().is_some_and(|accounts| accounts.named(name).is_some())
                || route::built_in(&hub.config, name, &*hub).is_some()
        })
    }

    fn has_device(&self, name: &str) -> bool {
        let Some(hub) = self.hub.upgrade() else { return true };
        let own = hub.accounts.as_ref().and_then(|accounts| accounts.named(name));
        own.is_some_and(|device| device.user == name)
    }

    fn devices(&self) -> Vec<String> {
        let config = self.hub.upgrade().map(|hub| hub.routing().config);
        config.map(|config| config.devices.iter().map(|device| device.user.clone()).collect()).unwrap_or_default()
    }

    fn bar(&self, numbers: Vec<(String, Option<Moment>)>) {
        if let Some(hub) = self.hub.upgrade() {
            hub.barred.set(numbers);
        }
    }

    fn waiting_for(&self) -> Vec<String> {
        self.readiness.waiting_for()
    }

    fn faults(&self) -> Vec<String> {
        self.readiness.faults()
    }

    fn note_fault(&self, part: &str, fault: Option<&str>) {
        self.readiness.note_fault(part, fault);
    }

    fn set_away(&self, devices: Vec<String>) {
        if let Some(hub) = self.hub.upgrade() {
            hub.queues.set_away(devices.into_iter());
        }
    }

    fn queues(&self) -> Vec<Queue> {
        let Some(hub) = self.hub.upgrade() else { return Vec::new() };
        let mut queues: Vec<Queue> = Vec::new();
        for queue in hub.routing().config.routes.iter().filter_map(RouteConfig::queue) {
            // Two rules of one name are one queue.
            match queues.iter_mut().find(|known| known.name == queue.name) {
                Some(known) => {
                    let more = queue.members.into_iter().filter(|member| !known.members.contains(member));
                    known.members.extend(more.collect::<Vec<_>>());
                }
                None => queues.push(queue),
            }
        }
        queues
    }

    fn trace(&self, id: &str) -> Option<Trace> {
        let messages = self.hub.upgrade()?.tracer.messages(id)?;
        Some(Trace { ladder: draw(&messages), capture: pcap::file(&messages) })
    }

    fn web_call(&self, order: WebCall) -> WebAnswering {
        let hub = self.hub.upgrade().filter(|hub| !hub.stopping.load(Ordering::Relaxed));
        Box::pin(async move { web::call(hub.ok_or(CallFault::Busy)?, order).await })
    }

    fn end_web_call(&self, name: &str) -> bool {
        let Some(hub) = self.hub.upgrade() else { return false };
        let found = hub.web.named(name);
        if let Some(found) = &found {
            hub.web.end(&hub.switchboard, found.leg, EndCause::RemoteBye);
        }
        found.is_some()
    }

    fn ice_servers(&self) -> Vec<IceServer> {
        crate::ice::for_pages(&self.config, SystemTime::now())
    }

    fn recording(&self, path: &str) -> std::io::Result<Recording> {
        open_recording(&self.config, Path::new(path))
    }

    fn remove_recording(&self, path: &str) -> std::io::Result<()> {
        std::fs::remove_file(recording_path(&self.config, Path::new(path))?)
    }
}

/// Why a call that goes on does not do this, in whatever state it is.
fn unfit(hub: &Hub, id: &str, command: &Command) -> Option<&'static str> {
    let presence = hub.switchboard.address(id)?.presence;
    match command {
        Command::Transfer(..) if !presence.passes_on.load(Ordering::Relaxed) => Some(
            "nobody is passed on from this call now: its caller speaks with no agent, program or person, or is in a conference",
        ),
        Command::Hold(_) if !presence.holds.load(Ordering::Relaxed) => {
            Some("nobody is held in this call: no two are connected in it")
        }
        _ => None,
    }
}

/// A transfer as calls know it: to somebody who is to be reached now.
fn handover(hub: &Hub, call: &LiveCall, transfer: Transfer) -> Result<Handover, CallFault> {
    let Transfer { to, kind, summary, accept, on_behalf } = transfer;
    let dialer = hub.dialer();
    let is_devices = on_behalf.is_some();
    let party = Party { uri: call.to.clone(), device: on_behalf, ..Party::default() };
    let is_passed_back = !is_devices && hub.routing().router.is_some_and(|router| router.is_passed_back(&to));
    let is_agent = hub.converser(&to, &party).is_some();
    if !is_passed_back
        && !is_agent
        && dialer.place(&to, &party).is_none()
        && let Err(refusal) = dialer.plan(&to, &party)
    {
        return Err(CallFault::Field { field: "to", why: not_to_be_reached(&to, refusal) });
    }
    let kind = match kind {
        TransferKind::Blind => agent::brain::TransferKind::Blind,
        TransferKind::Warm if accept && is_agent => {
            return Err(CallFault::Field { field: "accept", why: format!("{to} is an agent, who takes every call") });
        }
        TransferKind::Warm if call.queue.is_some() && !call.connected && !is_agent => {
            let why =
                "whoever takes a caller who waits in a queue hears no summary: leave out kind, summary and accept";
            return Err(CallFault::Field { field: "kind", why: why.to_owned() });
        }
        TransferKind::Warm if dialer.place(&to, &party).is_some() => {
            let why = format!("nobody hears a summary in {to}: leave out kind, summary and accept, or name a person");
            return Err(CallFault::Field { field: "to", why });
        }
        TransferKind::Warm => agent::brain::TransferKind::Warm,
    };
    Ok(Handover { uri: to, kind, summary, must_accept: accept, ..Handover::default() })
}

/// Whether one more call may begin. Those that supervise or take over one that goes on are not asked.
fn has_room(hub: &Hub) -> Result<(), CallFault> {
    if hub.running() >= hub.config.calls.max { Err(CallFault::Full) } else { Ok(()) }
}

/// Why nobody is called.
pub(crate) fn not_to_be_reached(whom: &str, refusal: Refusal) -> String {
    let end = refusal.end;
    match end.reason {
        EndReason::UnknownNumber => format!("nobody is called {whom} here"),
        reason if end.detail.is_empty() => format!("{whom} is not to be reached: {}", reason.as_str()),
        _ => end.detail,
    }
}

/// What whoever answers is connected with.
fn target(hub: &Hub, name: &str) -> Result<Target, CallFault> {
    let place = Place::passed_to(name).or_else(|| Place::called(name)).filter(|_| hub.config.numbers.places);
    let why = match (place, route::built_in(&hub.config, name, hub)) {
        // Who may do that is asked there.
        (Some(Place::Watch(..)), _) => "calls are supervised by /calls/{id}/supervision".to_owned(),
        (Some(place), _) => return Ok(Target::Place(place)),
        (None, Some(target @ (Target::Agent(_) | Target::App(_) | Target::Echo))) => return Ok(target),
        (None, _) => format!("nothing is called {name}: name an agent, `room-NAME`, `park-SLOT` or `echo`"),
    };
    Err(CallFault::Field { field: "connect_with", why })
}

fn watching(how: Supervision) -> Watching {
    match how {
        Supervision::Listen => Watching::Listen,
        Supervision::Whisper => Watching::Whisper,
        Supervision::Join => Watching::Join,
    }
}

/// A record names its recording; what is not among the recordings is none.
fn recording_path(config: &Config, path: &Path) -> std::io::Result<PathBuf> {
    let path = path.canonicalize()?;
    if !path.starts_with(config.recordings_dir().canonicalize()?) {
        return Err(std::io::Error::from(std::io::ErrorKind::NotFound));
    }
    Ok(path)
}

/// A recording as players want it: one that is sealed is opened into a file that has no name and goes with whoever reads it.
fn open_recording(config: &Config, path: &Path) -> std::io::Result<Recording> {
    let path = recording_path(config, path)?;
    let file = std::fs::File::open(&path)?;
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("ovrec") => {
            let key = crate::recording::seal_key(config).map_err(std::io::Error::other)?;
            let key = key.ok_or_else(|| std::io::Error::other("it is sealed, and calls.record_key is not set"))?;
            let mut opened = tempfile::tempfile()?;
            let media_type = crate::recording::unseal(&key, file, &mut opened).map_err(std::io::Error::other)?;
            opened.seek(SeekFrom::Start(0))?;
            Ok(Recording { media_type, file: opened })
        }
        _ => Ok(Recording { media_type: crate::recording::media_type(&path), file }),
    }
}

/// The HTTP interface, once its database is open.
#[derive(Clone, Default)]
pub(crate) struct Interface(Arc<OnceLock<Router>>);

impl fmt::Debug for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Interface").field(&self.0.get().is_some()).finish()
    }
}

impl Interface {
    /// Answers a request for a path that is none of the others'.
    pub(crate) async fn answer(self, request: axum::extract::Request) -> Response {
        match self.0.get() {
            Some(router) => match router.clone().oneshot(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            },
            None if access::knows(request.uri().path()) => {
                let problem = Problem::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "the database is not open yet; the server's log says why",
                );
                ([(header::RETRY_AFTER, "5")], problem).into_response()
            }
            None => control::api::dashboard::serve(request).await,
        }
    }
}

/// Opens the control plane as soon as its database is to be had, and runs it until `stop`. Calls are taken meanwhile: what they leave
/// behind is in the journal, and is read from there.
pub(crate) async fn run(
    hub: Arc<Hub>,
    live: (Arc<LiveCalls>, Live),
    settings: LiveSettings,
    readiness: Arc<Readiness>,
    interface: Interface,
    stop: CancellationToken,
) {
    let options = options(&hub.config);
    let (live, events) = live;
    let config = Arc::clone(&hub.config);
    let (config_of_files, agents) = (Arc::clone(&config), hub.agents.clone());
    let desk = Desk { hub: Arc::downgrade(&hub), config, live, readiness: Arc::clone(&readiness) };
    let spans: Arc<dyn Spans> = match &hub.traces {
        Some(traces) => Arc::clone(traces) as _,
        None => Arc::new(NoSpans),
    };
    let ports =
        Ports { calls: Arc::new(desk), agents: Arc::new(hub.agents.clone()), settings: Arc::new(settings), spans };
    drop(hub);
    let mut wait = AGAIN_AFTER;
    let waiting = "the database to open";
    readiness.add(waiting);
    let control = loop {
        match Control::open(options.clone(), ports.clone(), events.clone()).await {
            Ok(control) => break control,
            Err(fault) => {
                tracing::error!(
                    "the control plane waits for its database and tries again in {} s: {fault}",
                    wait.as_secs()
                );
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = stop.cancelled() => return,
                }
                wait = (wait * 2).min(SLOWEST);
            }
        }
    };
    tell_missed_agents(&config_of_files, &agents, &control).await;
    invite_first(&control).await;
    let _ = interface.0.set(control::api::router(Arc::new(control.clone())));
    readiness.remove(waiting);
    drop(ports);
    control.run(stop).await;
}

/// Routes of the configuration may lead to agents of the database: only now it is known whether they are there. Calls are taken meanwhile,
/// so that one that is not is no reason to stop.
async fn tell_missed_agents(config: &Config, agents: &Agents, control: &Control) {
    let published = match control.store.published_agents().await {
        Ok(published) => published.into_iter().map(|(name, _)| name).collect::<Vec<_>>(),
        Err(fault) => return tracing::error!("it cannot be told which agents are published: {fault}"),
    };
    for missed in agents.missed_by(config, &published) {
        tracing::warn!("{missed}. Until then callers are told that nobody is there");
    }
}

/// Tells whoever starts the server how the first administrator comes in.
async fn invite_first(control: &Control) {
    match control.first_code().await {
        // Not by the log, which may be kept and sent elsewhere.
        Ok(Some(code)) => output::tell(format_args!(
            "nobody administers this server yet: run `omnivox user add NAME`, or, within a day, open /setup (or POST /api/v1/setup) with the code {code}"
        )),
        Ok(None) => {}
        Err(fault) => tracing::error!("it cannot be told whether anybody administers this server: {fault}"),
    }
}

/// Where ended calls are written first.
fn journal(config: &Config) -> PathBuf {
    config.data.dir.join(crate::call::record::JOURNAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_nobody_is_called_is_said_in_words() {
        let told = |refusal| not_to_be_reached("alice", refusal);
        assert_eq!(told(Refusal::new(404, EndReason::UnknownNumber)), "nobody is called alice here");
        assert_eq!(told(Refusal::new(503, EndReason::Unreachable)), "alice is not to be reached: unreachable");
        let asleep = Refusal::new(480, EndReason::Unreachable).with_detail("no phone is registered there");
        assert_eq!(told(asleep), "no phone is registered there");
    }
}
