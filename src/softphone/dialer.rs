//! The phone behind `omnivox call`: one call at a time, driven by the same reducers as the server's.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use sip::endpoint::Transport;
use sip::io::local_ip_towards;
use tokio::sync::mpsc;

use super::performer::{Act, Performed, Performer};
use super::script::{Sound as Speech, Step};
use crate::agents::Agents;
use crate::call::Command;
use crate::call::app::{ActiveCall, App, resampled};
use crate::call::dial::{DialBranch, DialGroup, DialPlan};
use crate::call::driver::{Driver, Outgoing};
use crate::call::end::EndReason;
use crate::call::inbound::Refusal;
use crate::call::record::{CallRecord, RecordSink};
use crate::call::route::{Directory, RouteQuery, Target};
use crate::config::{Config, PortRange, SipListen, engines};
use crate::dispatch::Dispatcher;
use crate::hub::Hub;

/// A far side that is silent for this long after the last act has nothing more to say.
const LINGER: Duration = Duration::from_millis(1_500);
/// A call that is given up, or told to end, is over within this: whoever does not confirm is not waited for, who may be nobody at all.
const ENDS_WITHIN: Duration = Duration::from_secs(1);
/// A call of ours may last this long.
const MAX_DURATION: Duration = Duration::from_secs(24 * 3_600);

pub use sip::auth::Credentials;

/// One call to place.
#[derive(Debug, Clone)]
pub struct DialRequest {
    /// The user part of the From URI.
    pub from_user: String,
    /// For servers that ask.
    pub credentials: Option<Credentials>,
    /// What to do once the call is up.
    pub steps: Vec<Step>,
    /// The voice of spoken steps.
    pub voice: String,
    /// Where to record.
    pub record: Option<PathBuf>,
    /// Hang up so long after the answer.
    pub duration: Option<Duration>,
    /// Give up without an answer after this.
    pub answer_within: Duration,
}

/// A call to place with code of one's own.
#[derive(Debug, Clone)]
pub struct PlaceRequest {
    /// The user part of the From URI.
    pub from_user: String,
    /// For servers that ask.
    pub credentials: Option<Credentials>,
    /// Where to record.
    pub record: Option<PathBuf>,
    /// It is ended after this.
    pub max_duration: Duration,
    /// Because that was asked for: such an end is nobody's fault.
    pub is_duration_asked: bool,
    /// Give up without an answer after this.
    pub answer_within: Duration,
}

/// A phone: a server whose calls are all its own.
#[derive(Debug)]
pub struct Phone {
    hub: Arc<Hub>,
    records: mpsc::Receiver<CallRecord>,
    uri: String,
    local: IpAddr,
}

/// The name of the one application that a phone has.
const PERFORMANCE: &str = "softphone";

/// Whoever calls the phone hears that it is engaged.
struct Engaged;

impl Directory for Engaged {
    fn route(&self, _: &RouteQuery<'_>) -> Result<Target, Refusal> {
        Err(Refusal::new(486, EndReason::Busy))
    }
}

impl Default for DialRequest {
    fn default() -> Self {
        Self {
            from_user: "omnivox".to_owned(),
            credentials: None,
            steps: Vec::new(),
            voice: "flite:slt".to_owned(),
            record: None,
            duration: None,
            answer_within: Duration::from_secs(30),
        }
    }
}

impl Phone {
    /// A phone that can reach `uri`.
    ///
    /// # Errors
    /// A URI that cannot be called, a host that cannot be found, an address that cannot be bound.
    pub async fn open(config: Config, uri: &str, listen: Option<SocketAddr>) -> anyhow::Result<Self> {
        Self::open_with(config, uri, listen, 1).await
    }

    /// The same with so many media workers; 0 takes what the configuration says.
    ///
    /// # Errors
    /// As [`Phone::open`].
    pub async fn open_with(
        mut config: Config,
        uri: &str,
        listen: Option<SocketAddr>,
        workers: usize,
    ) -> anyhow::Result<Self> {
        let dns = sip::io::DnsConfig { servers: config.sip.dns.clone() };
        let ways = sip::io::Resolver::new(&dns)?.resolve(uri).await?;
        // Which listener to open is settled by the first way; others of its kind may follow.
        let way = ways.into_iter().min_by_key(|way| way.address.is_ipv6()).context("no way leads there")?;
        let (transport, remote) = (way.transport, way.address);
        let local = match listen {
            Some(addr) => addr,
            None => SocketAddr::new(local_ip_towards(remote).with_context(|| format!("no way leads to {remote}"))?, 0),
        };
        // By TLS we call without listening by it: that would take a certificate.
        let own_transport = if transport.is_reliable() { Transport::Tcp } else { Transport::Udp };
        config.sip.listen = vec![SipListen::new(own_transport, local)];
        config.rtp.bind = local.ip();
        // What a softphone records is its user's, who asked for a WAV file.
        config.calls.record_key = crate::config::Secret::default();
        config.calls.record_tone_s = 0;
        config.rtp.ports = PortRange { first: 30_000, last: 59_999 };
        if workers > 0 {
            config.rtp.workers = workers;
        }
        config.sip.allow = vec![crate::config::Network::Any];
        let media = media::Media::start(engines::media(&config))?;
        let dispatcher = Dispatcher::default();
        let sip = dispatcher.bind(engines::signalling(&config))?;
        let (sink, records) = RecordSink::collecting();
        let mut hub = Hub::new(Arc::new(config), sip, media, Agents::none(), HashMap::new(), sink, None);
        hub.directory = Some(Arc::new(Engaged));
        let hub = Arc::new(hub);
        dispatcher.begin(&hub);
        Ok(Self { hub, records, uri: uri.to_owned(), local: local.ip() })
    }

    /// Places the call and runs it to its end.
    ///
    /// # Errors
    /// A file or a voice that cannot be used. How the call itself went is in its record.
    pub async fn dial(&mut self, request: DialRequest) -> anyhow::Result<CallRecord> {
        let acts = prepare(&request.steps, &request.voice).await?;
        let stays = request.duration.is_some() || acts.is_empty();
        let is_up = Arc::new(AtomicBool::new(false));
        let up = Arc::clone(&is_up);
        let app = App::new(move |call| {
            up.store(true, Ordering::Relaxed);
            perform_on(call, acts.clone(), stays)
        });
        let place = PlaceRequest {
            from_user: request.from_user.clone(),
            credentials: request.credentials.clone(),
            record: request.record.clone(),
            max_duration: request.duration.unwrap_or(MAX_DURATION),
            is_duration_asked: request.duration.is_some(),
            answer_within: request.answer_within,
        };
        let id = self.place(app, place);
        let given_up = tokio::time::sleep(request.answer_within.saturating_add(ENDS_WITHIN));
        tokio::pin!(given_up);
        let (mut is_ending, mut is_dropped) = (false, false);
        let mut record = loop {
            tokio::select! {
                record = self.records.recv() => break record.context("the call left no record")?,
                _ = tokio::signal::ctrl_c() => {
                    self.hub.command(&id, Command::HangUp);
                    is_ending = true;
                    given_up.as_mut().reset(tokio::time::Instant::now() + ENDS_WITHIN);
                }
                () = &mut given_up, if !is_dropped => {
                    is_dropped = is_ending || !is_up.load(Ordering::Relaxed);
                    if is_dropped {
                        // The call is ending by now: this one ends it though nobody confirms.
                        self.hub.command(&id, Command::ShutDown);
                    } else {
                        given_up.as_mut().reset(tokio::time::Instant::now() + MAX_DURATION);
                    }
                }
            }
        };
        if record.end.reason == EndReason::NoAnswer && record.end.detail.is_empty() {
            record.end.detail = format!("nobody answered within {} s", request.answer_within.as_secs());
        }
        Ok(record)
    }

    /// Places a call that this code holds once it is up; its id. What came of it is among the records.
    pub fn place(&self, app: App, request: PlaceRequest) -> String {
        self.place_to(&self.uri, app, request)
    }

    /// The same to somebody else by the same way.
    pub fn place_to(&self, uri: &str, app: App, request: PlaceRequest) -> String {
        let from = format!("sip:{}@{}", request.from_user, host_of(self.local));
        let mut branch = DialBranch::new("softphone", uri.to_owned(), from);
        branch.credentials = request.credentials;
        let group = DialGroup { branches: vec![branch], ring_for: request.answer_within };
        let outgoing = Outgoing {
            plan: Arc::new(DialPlan { groups: vec![group], ..DialPlan::default() }),
            target: Target::Program(PERFORMANCE.to_owned(), app),
            from: request.from_user,
            to: uri.to_owned(),
            recording: request.record,
            max_duration: request.max_duration,
            is_duration_asked: request.is_duration_asked,
            device: None,
        };
        let seat = self.hub.enter();
        let id = seat.id().to_owned();
        tokio::spawn(Driver::place(Arc::clone(&self.hub), seat, outgoing));
        id
    }

    /// The record of the call that ended next.
    pub async fn next_record(&mut self) -> Option<CallRecord> {
        self.records.recv().await
    }

    /// Ends all calls.
    pub fn hang_up_all(&self) {
        self.hub.switchboard.command_all(&Command::HangUp);
    }

    /// Releases sockets and threads.
    pub async fn close(self) {
        self.hub.sip.shutdown().await;
        self.hub.media.shutdown();
    }
}

async fn perform_on(mut call: ActiveCall, acts: Vec<PreparedAct>, stays: bool) -> ActiveCall {
    let rate = call.rate();
    let mut acts: Vec<Act> = acts.into_iter().map(|act| act.at_rate(rate)).collect();
    if !stays {
        acts.push(Act::Wait(LINGER));
    }
    let mut performer = Performer::new(acts, Instant::now());
    let line = call.line();
    let press = line.presser();
    match performer.run(line, press).await {
        Performed::Closed => call.closed(),
        Performed::HungUp => call.hang_up_because("the script hung up"),
        Performed::All if stays => {
            line.idle().await;
            call.closed();
        }
        Performed::All => {
            performer.settle(line).await;
            call.hang_up_because("all is played and said");
        }
    }
    call
}

/// A step whose sound is loaded, at its own rate.
#[derive(Debug, Clone)]
struct PreparedAct {
    step: Step,
    pcm: Vec<i16>,
    rate: codecs::SampleRate,
}

impl PreparedAct {
    fn at_rate(self, rate: codecs::SampleRate) -> Act {
        // Sound that is loaded has a rate that can be resampled: whoever loaded it has looked.
        let pcm = resampled(&self.pcm, self.rate, rate).unwrap_or_default();
        match self.step {
            Step::Now(_) => Act::Now(pcm),
            Step::Say(_) => Act::Say(pcm),
            Step::Interrupt(delay, _) => Act::Interrupt(delay, pcm),
            Step::Press(keys) => Act::Press(keys),
            Step::PressNow(keys) => Act::PressNow(keys),
            Step::Wait(time) => Act::Wait(time),
            Step::HangUp => Act::HangUp,
        }
    }
}

/// Loads every file and speaks every text before the call, so that nothing fails or waits during it.
async fn prepare(steps: &[Step], voice: &str) -> anyhow::Result<Vec<PreparedAct>> {
    let mut acts = Vec::with_capacity(steps.len());
    for step in steps {
        let (pcm, rate) = match step {
            Step::Now(speech) | Step::Say(speech) | Step::Interrupt(_, speech) => match speech {
                Speech::File(path) => crate::wav::read_mono(path)?,
                Speech::Text(text) => crate::say::speak(voice, text).await?,
            },
            _ => (Vec::new(), codecs::SampleRate::HZ_16000),
        };
        acts.push(PreparedAct { step: step.clone(), pcm, rate });
    }
    Ok(acts)
}

fn host_of(addr: IpAddr) -> String {
    match addr {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    }
}
