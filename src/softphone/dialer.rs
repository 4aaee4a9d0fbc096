//! The phone behind `omnivox call`: one call at a time, driven by the same reducers as the server's.

use std::future::pending;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use sip::endpoint::{CallId, Event, OutgoingCall, Transport};
use sip::io::local_ip_towards;

use super::performer::{Act, Performed, Performer};
use super::script::{Sound as Speech, Step};
use crate::call::app::{Conversation, Outcome, resampled};
use crate::call::driver::{next_note, next_outcome, signalling_end};
use crate::call::end::{End, EndReason};
use crate::call::line::{CallLine, LineControl, LineNote, LineOrder};
use crate::call::log::CallLog;
use crate::call::record::{CallDirection, CallRecord};
use crate::call::sound::{self, Accepted, Sound};
use crate::call::{
    Action, Command, ConversationEnd, Input, Phase, SignallingEnd, Timer, ending, note_refused, outbound, talking,
};
use crate::config::{Config, PortRange, SipListen, SipTransport};

/// A far side that is silent for this long after the last act has nothing more to say.
const LINGER: Duration = Duration::from_millis(1_500);
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

/// A phone.
#[derive(Debug)]
pub struct Phone {
    config: Arc<Config>,
    sip: sip::io::SipHandle,
    events: sip::io::EventReceiver,
    media: media::Media,
    uri: String,
    route: sip::io::Route,
    transport: Transport,
    local: IpAddr,
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
    pub async fn open(mut config: Config, uri: &str, listen: Option<SocketAddr>) -> anyhow::Result<Self> {
        let (transport, remote) = resolve(uri).await?;
        let local = match listen {
            Some(addr) => addr,
            None => SocketAddr::new(local_ip_towards(remote).with_context(|| format!("no way leads to {remote}"))?, 0),
        };
        let own_transport = if transport == Transport::Tcp { SipTransport::Tcp } else { SipTransport::Udp };
        config.sip.listen = vec![SipListen::new(own_transport, local)];
        config.rtp.bind = local.ip();
        config.rtp.ports = PortRange { first: 30_000, last: 39_999 };
        config.rtp.workers = 1;
        let media = media::Media::start(sound::media_config(&config))?;
        let (sip, events) = sip::io::SipStack::bind(sound::stack_config(&config))?;
        let route = sip.resolve(uri).await?;
        Ok(Self {
            config: Arc::new(config),
            sip,
            events,
            media,
            uri: uri.to_owned(),
            route,
            transport,
            local: local.ip(),
        })
    }

    /// Places the call and runs it to its end.
    ///
    /// # Errors
    /// A file or a voice that cannot be used. How the call itself went is in its record.
    pub async fn dial(&mut self, request: DialRequest) -> anyhow::Result<CallRecord> {
        let acts = prepare(&request.steps, &request.voice).await?;
        let mut log = CallLog::new(CallDirection::Outbound, String::new(), "softphone", SystemTime::now())
            .with_parties(&request.from_user, &self.uri, &self.route.remote.to_string(), self.transport.uri_name());
        log.set_recording(request.record.clone());
        let mut sound = Sound::new(&self.config, self.local, self.route.remote.ip());
        let offer = sound
            .offer(&self.media, media::LegMode::Talk, request.record.clone())
            .map_err(|why| anyhow::anyhow!(why))?;
        let outgoing = OutgoingCall {
            uri: self.uri.clone(),
            from: format!("sip:{}@{}", request.from_user, host_of(self.local)),
            to: None,
            destination: self.route.destination.clone(),
            local: self.route.local,
            headers: Vec::new(),
            credentials: request.credentials.clone(),
            offer,
        };
        let call = self.sip.invite(outgoing).await?;
        let mut running = Running {
            phone: self,
            call,
            request,
            acts: Some(acts),
            sound,
            log,
            phase: Phase::Ringing,
            timers: Vec::new(),
            control: None,
            conversation: None,
        };
        let end = running.drive().await;
        Ok(running.finish(end).await)
    }

    /// Releases sockets and threads.
    pub async fn close(self) {
        self.sip.shutdown().await;
        self.media.shutdown();
    }
}

struct Running<'a> {
    phone: &'a mut Phone,
    call: CallId,
    request: DialRequest,
    acts: Option<Vec<PreparedAct>>,
    sound: Sound,
    log: CallLog,
    phase: Phase,
    timers: Vec<(tokio::time::Instant, Timer)>,
    control: Option<LineControl>,
    conversation: Option<Conversation>,
}

impl Running<'_> {
    async fn drive(&mut self) -> End {
        self.perform(outbound::begin(self.request.answer_within));
        loop {
            if let Phase::Over(end) = &self.phase {
                return end.clone();
            }
            let timer = self.timers.iter().min_by_key(|(at, _)| *at).copied();
            let input = tokio::select! {
                event = self.phone.events.recv() => match event {
                    Some(event) => self.signalling(event),
                    None => Some(Input::SignallingEnded(SignallingEnd::TransportFailed("signalling stopped".into()))),
                },
                note = next_note(&mut self.control) => match note {
                    Some(LineNote::TimedOut) => Some(Input::MediaTimedOut),
                    Some(LineNote::EngineGone) => Some(Input::MediaGone),
                    Some(LineNote::RecordingFailed(why)) => { self.log.failure(format!("recording: {why}")); eprintln!("the recording broke off: {why}"); None }
                    Some(LineNote::UpdateFailed(_)) => None,
                    None => { self.control = None; None }
                },
                outcome = next_outcome(&mut self.conversation) => {
                    self.conversation = None;
                    self.log.set_media(&outcome.stats);
                    Some(Input::ConversationEnded(outcome.end))
                }
                () = until(timer) => {
                    let fired = timer.map(|(_, timer)| timer);
                    self.timers.retain(|(_, armed)| Some(*armed) != fired);
                    fired.map(Input::Fired)
                }
                _ = tokio::signal::ctrl_c() => Some(Input::Commanded(Command::HangUp)),
            };
            if let Some(input) = input {
                let step = match self.phase.clone() {
                    Phase::Ringing | Phase::Answering => {
                        outbound::step(input, self.request.duration.unwrap_or(MAX_DURATION))
                    }
                    Phase::Talking => talking::step(input),
                    Phase::Ending(end) => ending::step(end, input),
                    over @ Phase::Over(_) => (over, vec![]),
                };
                self.perform(step);
            }
        }
    }

    fn perform(&mut self, (phase, actions): crate::call::Step) {
        self.phase = phase;
        for action in actions {
            match action {
                Action::Arm(timer, after) => self.timers.push((tokio::time::Instant::now() + after, timer)),
                Action::HangUp => note_refused(self.phone.sip.bye(self.call, None)),
                Action::CloseMedia => {
                    if let Some(control) = &self.control {
                        control.order(LineOrder::Close);
                    }
                }
                Action::Reject { code } => note_refused(self.phone.sip.reject(self.call, code, "", Vec::new())),
                Action::Ring | Action::Answer | Action::StartConversation | Action::DeliverDigit(_) => {}
            }
        }
    }

    fn signalling(&mut self, event: Event) -> Option<Input> {
        if event.call() != Some(self.call) {
            if let Event::Incoming { call, .. } = event {
                note_refused(self.phone.sip.reject(call, 486, "", Vec::new()));
            }
            return None;
        }
        match event {
            Event::Progress { .. } => Some(Input::Progress),
            Event::Answered { answer, .. } => match self.sound.accept(&self.phone.media, answer) {
                Ok(Accepted::Opened(port)) => {
                    self.log.answered(SystemTime::now());
                    self.log.set_codec(self.sound.codec_name());
                    self.begin_performance(port);
                    Some(Input::Answered)
                }
                Ok(Accepted::Changed(_)) => None,
                Err(why) => Some(Input::MediaFailed(why)),
            },
            Event::Reoffer { offer, .. } => {
                match self.sound.reoffer(offer) {
                    Ok((sdp, change)) => {
                        if let (Some(config), Some(control)) = (change, &self.control) {
                            control.order(LineOrder::Update(Box::new(config)));
                        }
                        note_refused(self.phone.sip.answer_reoffer(self.call, sdp));
                    }
                    Err(_) => note_refused(self.phone.sip.reject_reoffer(self.call, 488)),
                }
                None
            }
            Event::Ended { cause, .. } => Some(Input::SignallingEnded(signalling_end(cause))),
            _ => None,
        }
    }

    fn begin_performance(&mut self, port: media::LegPort) {
        let (line, control) = CallLine::new(port);
        let press = control.presser();
        self.control = Some(control);
        let acts = self.acts.take().unwrap_or_default();
        let stays = self.request.duration.is_some() || acts.is_empty();
        self.conversation = Some(Box::pin(perform_on(line, acts, press, stays)));
    }

    async fn finish(mut self, end: End) -> CallRecord {
        if let Some(control) = &self.control {
            control.order(LineOrder::Close);
        }
        if let Some(conversation) = self.conversation.take()
            && let Ok(outcome) = tokio::time::timeout(Duration::from_secs(3), conversation).await
        {
            self.log.set_media(&outcome.stats);
        }
        // The reducers speak of calls that come in; and the time asked for is nobody's fault.
        let end = match end.reason {
            EndReason::MaxDuration if self.request.duration.is_some() => {
                End::new(EndReason::Commanded).with_detail("the duration asked for is over")
            }
            EndReason::CallerHungUp => End::new(EndReason::FarSideHungUp),
            _ => end,
        };
        self.log.close(end, SystemTime::now())
    }
}

async fn perform_on(mut line: CallLine, acts: Vec<PreparedAct>, press: impl Fn(char) + Send, stays: bool) -> Outcome {
    use agent::line::Line;
    let rate = line.rate();
    let mut acts: Vec<Act> = acts.into_iter().map(|act| act.at_rate(rate)).collect();
    if !stays {
        acts.push(Act::Wait(LINGER));
    }
    let mut performer = Performer::new(acts, Instant::now());
    let end = match performer.run(&mut line, press).await {
        Performed::Closed => ConversationEnd::LineClosed,
        Performed::HungUp => ConversationEnd::Done("the script hung up".into()),
        Performed::All if stays => {
            line.idle().await;
            ConversationEnd::LineClosed
        }
        Performed::All => {
            performer.settle(&mut line).await;
            ConversationEnd::Done("all is played and said".into())
        }
    };
    Outcome { end, stats: line.close(), providers: None }
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

/// Where a URI leads.
async fn resolve(uri: &str) -> anyhow::Result<(Transport, SocketAddr)> {
    let fix = "write sip:USER@HOST[:PORT][;transport=udp|tcp]";
    let rest = uri.strip_prefix("sip:").ok_or_else(|| anyhow::anyhow!("`{uri}` cannot be called: {fix}"))?;
    let rest = rest.split_once('@').map_or(rest, |(_, host)| host);
    let (host, parameters) = rest.split_once(';').map_or((rest, ""), |(host, parameters)| (host, parameters));
    let host = host.split('?').next().unwrap_or_default();
    anyhow::ensure!(!host.is_empty(), "`{uri}` names no host: {fix}");
    let transport = match parameters.split(';').find_map(|parameter| parameter.strip_prefix("transport=")) {
        None => Transport::Udp,
        Some(name) => Transport::parse(name)
            .filter(|transport| matches!(transport, Transport::Udp | Transport::Tcp))
            .ok_or_else(|| anyhow::anyhow!("`{uri}`: {name} is no transport this version calls by: {fix}"))?,
    };
    let has_port = host
        .rsplit_once(':')
        .is_some_and(|(before, port)| port.parse::<u16>().is_ok() && (!before.contains(':') || before.ends_with(']')));
    let address = if has_port { host.to_owned() } else { format!("{host}:{}", transport.default_port()) };
    let found = tokio::net::lookup_host(&address)
        .await
        .map_err(|fault| anyhow::anyhow!("`{uri}`: {address} is not found: {fault}"))?;
    let addr = found
        .into_iter()
        .min_by_key(SocketAddr::is_ipv6)
        .ok_or_else(|| anyhow::anyhow!("`{uri}`: {address} has no address"))?;
    Ok((transport, addr))
}

fn host_of(addr: IpAddr) -> String {
    match addr {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    }
}

async fn until(timer: Option<(tokio::time::Instant, Timer)>) {
    match timer {
        Some((at, _)) => tokio::time::sleep_until(at).await,
        None => pending().await,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_uri_leads_to_its_host_port_and_transport() {
        let (transport, addr) = resolve("sip:echo@127.0.0.1:5070").await.unwrap();
        assert_eq!((transport, addr.to_string()), (Transport::Udp, "127.0.0.1:5070".to_owned()));
        let (transport, addr) = resolve("sip:127.0.0.1;transport=tcp").await.unwrap();
        assert_eq!((transport, addr.to_string()), (Transport::Tcp, "127.0.0.1:5060".to_owned()));
        assert_eq!(resolve("sip:a@[::1]:5062").await.unwrap().1.to_string(), "[::1]:5062");
        assert_eq!(resolve("sip:a@[::1]").await.unwrap().1.to_string(), "[::1]:5060");
        for bad in ["echo@127.0.0.1", "sip:", "sip:a@;transport=tcp", "sip:a@127.0.0.1;transport=carrier-pigeon"] {
            assert!(resolve(bad).await.unwrap_err().to_string().contains("write sip:USER@HOST"), "{bad}");
        }
    }
}
