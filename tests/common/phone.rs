//! A phone for tests: it registers, calls, answers, transfers, hums a tone on each call, and says which tones it hears.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use codecs::registry::{self, CodecId};
use media::rtp::RtpPacket;
use sip::auth::Credentials;
use sip::endpoint::{DialogIdentity, OutgoingSubscription, SubscriptionEnd, Transport};
use sip::{
    CallId, EndCause, Event, EventReceiver, Listen, Method, OutgoingCall, OutgoingRequest, SipHandle, SipStack,
    StackConfig,
};

const PATIENCE: Duration = Duration::from_secs(15);
/// A tone at this share of its loudness or more is heard.
pub const LOUD: f64 = 0.5;
/// Below this it is not.
pub const SILENT: f64 = 0.05;
const LOUDNESS: f64 = 6_000.0;

/// A phone.
pub struct Phone {
    user: String,
    /// The domain of its own address, where it is not the server's.
    domain: Option<String>,
    pub server: SocketAddr,
    credentials: Credentials,
    tone_hz: f64,
    runtime: tokio::runtime::Runtime,
    sip: SipHandle,
    events: EventReceiver,
    seen: Vec<Event>,
    sounds: HashMap<CallId, Sound>,
}

impl Phone {
    /// One that belongs to no server: a carrier's end, say.
    pub fn start(user: &str, password: &str, tone_hz: f64) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listen = Listen { transport: Transport::Udp, address: "127.0.0.1:0".parse().unwrap() };
        let mut config = StackConfig { listen: vec![listen], ..StackConfig::default() };
        config.endpoint.referrals = true;
        config.endpoint.user_methods = vec![Method::Message];
        let (sip, events) = SipStack::bind(config).unwrap();
        let credentials = Credentials { username: user.to_owned(), password: password.to_owned() };
        Self {
            user: user.to_owned(),
            domain: None,
            server: sip.listening()[0].address,
            credentials,
            tone_hz,
            runtime,
            sip,
            events,
            seen: Vec::new(),
            sounds: HashMap::new(),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.sip.listening()[0].address
    }

    /// Registers as `user`.
    pub fn register(server: SocketAddr, user: &str, password: &str, tone_hz: f64) -> Self {
        Self::register_as(server, (user, password), tone_hz, None)
    }

    /// The same with another Contact than its own, as behind NAT.
    pub fn register_as(
        server: SocketAddr,
        (user, password): (&str, &str),
        tone_hz: f64,
        contact: Option<&str>,
    ) -> Self {
        Self { server, ..Self::start(user, password, tone_hz) }.registered(contact)
    }

    /// The same by an address of this domain.
    pub fn register_at_home(server: SocketAddr, (user, password): (&str, &str), tone_hz: f64, domain: &str) -> Self {
        Self { server, domain: Some(domain.to_owned()), ..Self::start(user, password, tone_hz) }.registered(None)
    }

    fn registered(self, contact: Option<&str>) -> Self {
        let (server, mut phone) = (self.server, self);
        let user = phone.user.clone();
        let route = phone.runtime.block_on(phone.sip.resolve(&format!("sip:{server}"))).unwrap();
        let request = OutgoingRequest {
            method: Method::Register,
            uri: format!("sip:{server}"),
            from: phone.own_uri(),
            to: Some(format!("<{}>", phone.own_uri())),
            call_id: None,
            sequence: None,
            destination: route.destination,
            local: route.local,
            contact: Some(contact.map_or_else(|| format!("<sip:{user}@{}>", route.local), str::to_owned)),
            headers: vec![("Expires".into(), "600".into())],
            body: None,
            credentials: Some(phone.credentials.clone()),
            patience: None,
        };
        let id = phone.runtime.block_on(phone.sip.request(request)).unwrap();
        let code = phone.wait("the answer to REGISTER", |event| match event {
            Event::Response { request, code, .. } if *request == id => Some(*code),
            _ => None,
        });
        assert_eq!(code, 200, "{user} registers");
        phone
    }

    fn own_uri(&self) -> String {
        match &self.domain {
            Some(domain) => format!("sip:{}@{domain}", self.user),
            None => format!("sip:{}@{}", self.user, self.server),
        }
    }

    /// Calls somebody at the server; the call may ring still when this returns.
    pub fn dial(&mut self, to: &str, headers: &[(&str, String)]) -> CallId {
        let uri = format!("sip:{to}@{}", self.server);
        let route = self.runtime.block_on(self.sip.resolve(&uri)).unwrap();
        let mut sound = Sound::start(self.tone_hz);
        sound.asks_for_levels = true;
        let call = OutgoingCall {
            uri,
            from: self.own_uri(),
            to: None,
            destination: route.destination,
            local: route.local,
            headers: headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
            credentials: Some(self.credentials.clone()),
            offer: sound.description("sendrecv"),
            patience: None,
        };
        let id = self.runtime.block_on(self.sip.invite(call)).unwrap();
        self.sounds.insert(id, sound);
        id
    }

    /// Calls somebody who answers.
    pub fn call(&mut self, to: &str) -> CallId {
        let call = self.dial(to, &[]);
        self.wait_answered(call);
        call
    }

    /// Waits until a call of ours rings.
    pub fn wait_ringing(&mut self, call: CallId) {
        self.wait("ringing", |event| matches!(event, Event::Progress { call: id, .. } if *id == call).then_some(()));
    }

    /// Waits until a call of ours is answered.
    pub fn wait_answered(&mut self, call: CallId) {
        let answer = self.wait("an answer", |event| match event {
            Event::Answered { call: id, answer, .. } if *id == call => Some(Ok(answer.clone())),
            Event::Ended { call: id, cause, .. } if *id == call => Some(Err(*cause)),
            _ => None,
        });
        let answer = answer.unwrap_or_else(|cause| panic!("{} is not answered: {cause}", self.user));
        self.sounds[&call].aim(&answer.expect("an answer with a description"));
    }

    /// Waits for a call's refusal: its status.
    pub fn refused(&mut self, call: CallId) -> u16 {
        match self.ended(call) {
            EndCause::Rejected(code) => code,
            other => panic!("{} waits for a refusal, and not: {other}", self.user),
        }
    }

    /// Waits for a call.
    pub fn rings(&mut self) -> CallId {
        self.rings_with().0
    }

    /// The same with its INVITE.
    pub fn rings_with(&mut self) -> (CallId, Arc<sip::Message>) {
        let (call, request, offer) = self.wait("a call", |event| match event {
            Event::Incoming { call, request, offer, .. } => Some((*call, Arc::clone(request), offer.clone())),
            _ => None,
        });
        let sound = Sound::start(self.tone_hz);
        if let Some(offer) = offer {
            sound.aim(&offer);
        }
        self.sounds.insert(call, sound);
        self.sip.ring(call, 180, None).unwrap();
        (call, request)
    }

    /// Is heard before the answer.
    pub fn speak_early(&mut self, call: CallId) {
        self.sip.ring(call, 183, Some(self.sounds[&call].description("sendrecv"))).unwrap();
    }

    /// Waits until whoever is called is heard before the answer.
    pub fn wait_early(&mut self, call: CallId) {
        let answer = self.wait("early media", |event| match event {
            Event::Progress { call: id, answer: Some(answer), .. } if *id == call => Some(answer.clone()),
            _ => None,
        });
        self.sounds[&call].aim(&answer);
    }

    /// Answers a call that rings.
    pub fn answer(&mut self, call: CallId) {
        self.sip.answer(call, self.sounds[&call].description("sendrecv")).unwrap();
        self.wait("the ACK", |event| matches!(event, Event::Acked { call: id, .. } if *id == call).then_some(()));
    }

    /// Refuses a call that rings.
    pub fn reject(&mut self, call: CallId, code: u16) {
        self.reject_because(call, code, None);
    }

    /// The same with a Reason.
    pub fn reject_because(&mut self, call: CallId, code: u16, reason: Option<&str>) {
        self.reject_with(call, code, &reason.map(|reason| ("Reason", reason)).into_iter().collect::<Vec<_>>());
    }

    /// The same with these headers.
    pub fn reject_with(&mut self, call: CallId, code: u16, headers: &[(&str, &str)]) {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.sip.reject(call, code, "", headers).unwrap();
        self.sounds.remove(&call);
    }

    /// Waits for a call and answers it.
    pub fn pick_up(&mut self) -> CallId {
        let call = self.rings();
        self.answer(call);
        call
    }

    pub fn hang_up(&mut self, call: CallId) {
        self.sip.bye(call, None).unwrap();
        self.ended(call);
    }

    /// Gives up a call of ours that rings.
    pub fn cancel(&mut self, call: CallId) {
        self.sip.bye(call, None).unwrap();
        self.ended(call);
    }

    /// Hangs up with a Reason.
    pub fn hang_up_because(&mut self, call: CallId, reason: &str) {
        self.sip.bye(call, Some(reason.to_owned())).unwrap();
        self.ended(call);
    }

    /// Waits for a call's end, and the Reason of it.
    pub fn ended_because(&mut self, call: CallId) -> Option<String> {
        let reason = self.wait("the end of a call", |event| match event {
            Event::Ended { call: id, reason_header, .. } if *id == call => Some(reason_header.clone()),
            _ => None,
        });
        self.sounds.remove(&call);
        reason
    }

    /// Waits for a call's end.
    pub fn ended(&mut self, call: CallId) -> EndCause {
        let cause = self.wait("the end of a call", |event| match event {
            Event::Ended { call: id, cause, .. } if *id == call => Some(*cause),
            _ => None,
        });
        self.sounds.remove(&call);
        cause
    }

    /// Puts the other on hold, or takes them back.
    pub fn hold(&mut self, call: CallId, is_held: bool) {
        let direction = if is_held { "sendonly" } else { "sendrecv" };
        self.sip.reoffer(call, self.sounds[&call].description(direction)).unwrap();
        let code = self.wait("the answer to a re-INVITE", |event| match event {
            Event::ReofferResult { call: id, code, .. } if *id == call => Some(*code),
            _ => None,
        });
        assert_eq!(code, 200);
    }

    /// Passes a call on, and waits for nothing.
    pub fn ask_refer(&mut self, call: CallId, to: &str) {
        self.sip.refer(call, to, None).unwrap();
    }

    /// Passes a call on; the codes that are told of it: of the REFER itself, then of its reports.
    pub fn refer(&mut self, call: CallId, to: &str) -> (u16, Option<u16>) {
        self.ask_refer(call, to);
        self.told_of_refer(call)
    }

    /// Passes a call on; what becomes of it is told by [`Phone::told_of_refer`].
    pub fn refer_ringing(&mut self, call: CallId, to: &str) -> CallId {
        self.ask_refer(call, to);
        call
    }

    /// What is told of a REFER that was asked for.
    pub fn told_of_refer(&mut self, call: CallId) -> (u16, Option<u16>) {
        let code = self.wait("the answer to REFER", |event| match event {
            Event::ReferResult { call: id, code } if *id == call => Some(*code),
            _ => None,
        });
        if code >= 300 {
            return (code, None);
        }
        let report = self.wait("the last report", |event| match event {
            Event::ReferProgress { call: id, code, is_final: true } if *id == call => Some(*code),
            _ => None,
        });
        (code, Some(report))
    }

    /// Waits for a REFER, takes it up and reports this status; whom we are to call.
    pub fn is_referred(&mut self, call: CallId, report: u16) -> String {
        let to = self.wait("REFER", |event| match event {
            Event::Refer { call: id, refer_to, .. } if *id == call => Some(refer_to.clone()),
            _ => None,
        });
        self.sip.accept_refer(call).unwrap();
        self.sip.notify_refer(call, report, "").unwrap();
        to
    }

    /// Says in a call who is at this end now.
    pub fn say_who(&mut self, call: CallId, from: &str) {
        self.sip.identify(call, from.to_owned(), vec![("P-Asserted-Identity".to_owned(), from.to_owned())]).unwrap();
    }

    /// Waits until a call's display changes: the name and number that it shows, by From, and by what is asserted.
    pub fn shows(&mut self, call: CallId) -> [String; 2] {
        let message = self.wait("another name on the display", |event| match event {
            Event::Identified { call: id, message } if *id == call => Some(Arc::clone(message)),
            _ => None,
        });
        [sip::Name::From, sip::Name::PAssertedIdentity].map(|name| {
            let shown = message.header(name).map(|value| sip::NameAddr::parse(value).unwrap());
            shown.map_or_else(String::new, |shown| {
                format!("{} {}", shown.display_name(), sip::uri::user_of(shown.uri_text)).trim().to_owned()
            })
        })
    }

    /// Whether a call's display has changed meanwhile.
    pub fn has_changed_display(&mut self, call: CallId) -> bool {
        while let Some(event) = self.events.try_recv() {
            self.seen.push(event);
        }
        self.seen.iter().any(|event| matches!(event, Event::Identified { call: id, .. } if *id == call))
    }

    /// What identifies a call on the wire.
    pub fn identity(&mut self, call: CallId) -> DialogIdentity {
        self.runtime.block_on(self.sip.dialog_identity(call)).unwrap().expect("a call that stands")
    }

    pub fn press(&mut self, call: CallId, key: char) {
        let body = format!("Signal={key}\r\nDuration=160\r\n");
        self.sip.send_info(call, "application/dtmf-relay", Bytes::from(body)).unwrap();
    }

    /// How loud another phone's tone is now, 1 being as loud as it hums.
    pub fn hears(&mut self, call: CallId, tone_hz: f64) -> f64 {
        self.sounds[&call].hears(tone_hz)
    }

    /// Whose sound the latest packets had in them, and how loud each is, in dB below overload (RFC 6465): by the tones that phones hum.
    pub fn levels(&self, call: CallId) -> Vec<(u32, u8)> {
        self.sounds[&call].levels.lock().unwrap().clone()
    }

    /// Forgets what was heard, and listens until there is as much again.
    pub fn listen_anew(&mut self, call: CallId) {
        let sound = &self.sounds[&call];
        sound.heard.lock().unwrap().clear();
        let deadline = Instant::now() + PATIENCE;
        while sound.heard.lock().unwrap().len() < HEARD_SAMPLES {
            assert!(Instant::now() < deadline, "{}'s sound stands still", self.user);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until something is heard, whatever it is.
    pub fn wait_for_sound(&mut self, call: CallId) {
        let deadline = Instant::now() + PATIENCE;
        while self.sounds[&call].loudness() < SILENT {
            assert!(Instant::now() < deadline, "{} hears nothing", self.user);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until nothing is heard.
    pub fn wait_for_silence(&mut self, call: CallId) {
        let deadline = Instant::now() + PATIENCE;
        while self.sounds[&call].loudness() >= SILENT {
            assert!(Instant::now() < deadline, "{} hears something", self.user);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until these phones' tones are heard, and of these nothing.
    pub fn wait_to_hear(&mut self, call: CallId, heard: &[f64], silent: &[f64]) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let fits = heard.iter().all(|tone| self.hears(call, *tone) > LOUD)
                && silent.iter().all(|tone| self.hears(call, *tone) < SILENT);
            if fits {
                return;
            }
            let levels =
                |tones: &[f64]| tones.iter().map(|tone| (*tone, self.sounds[&call].hears(*tone))).collect::<Vec<_>>();
            assert!(
                Instant::now() < deadline,
                "{} is to hear {:?} and not {:?}",
                self.user,
                levels(heard),
                levels(silent)
            );
            std::thread::sleep(Duration::from_millis(40));
        }
    }

    /// Subscribes to what somebody at the server does; the first document.
    pub fn subscribe(&mut self, package: &str, of: &str) -> (sip::endpoint::SubscriptionId, String) {
        let id = self.begin_to_watch(package, of);
        (id, self.notified(id).expect("a subscription that is taken"))
    }

    /// The status that a subscription is refused with.
    pub fn subscription_refused(&mut self, package: &str, of: &str) -> u16 {
        let id = self.begin_to_watch(package, of);
        self.notified(id).expect_err("a refusal")
    }

    fn begin_to_watch(&mut self, package: &str, of: &str) -> sip::endpoint::SubscriptionId {
        let at_server = format!("sip:{}@{}", of.split('@').next().unwrap_or(of), self.server);
        let route = self.runtime.block_on(self.sip.resolve(&at_server)).unwrap();
        let uri = if of.contains('@') { format!("sip:{of}") } else { at_server };
        let subscription = OutgoingSubscription {
            uri,
            from: self.own_uri(),
            to: None,
            package: package.to_owned(),
            accept: Vec::new(),
            expires: Duration::from_secs(600),
            destination: route.destination,
            local: route.local,
            headers: Vec::new(),
            credentials: Some(self.credentials.clone()),
        };
        self.runtime.block_on(self.sip.subscribe(subscription)).unwrap()
    }

    /// Waits for the next document of a subscription; the status of its refusal where it is refused.
    pub fn notified(&mut self, subscription: sip::endpoint::SubscriptionId) -> Result<String, u16> {
        self.wait("NOTIFY", |event| match event {
            Event::Notified { subscription: id, body, .. } if *id == subscription => {
                Some(Ok(String::from_utf8(body.to_vec()).unwrap()))
            }
            Event::SubscriptionEnded { subscription: id, end: SubscriptionEnd::Refused(code) }
                if *id == subscription =>
            {
                Some(Err(*code))
            }
            _ => None,
        })
    }

    /// Waits until a document of a subscription says this.
    pub fn wait_notified(&mut self, subscription: sip::endpoint::SubscriptionId, says: &str) -> String {
        loop {
            let document = self.notified(subscription).unwrap();
            if document.contains(says) {
                return document;
            }
        }
    }

    /// Sends text to somebody at the server; the status of the answer.
    pub fn write(&mut self, to: &str, text: &str) -> u16 {
        let written = self.begin_to_write(to, text);
        self.written(written)
    }

    /// The same without waiting for the answer.
    pub fn begin_to_write(&mut self, to: &str, text: &str) -> sip::endpoint::RequestId {
        let uri = format!("sip:{to}@{}", self.server);
        let route = self.runtime.block_on(self.sip.resolve(&uri)).unwrap();
        let mut request = OutgoingRequest::new(Method::Message, &uri, &self.own_uri(), route.destination, route.local);
        request.body = Some(("text/plain".to_owned(), Bytes::from(text.to_owned())));
        request.credentials = Some(self.credentials.clone());
        self.runtime.block_on(self.sip.request(request)).unwrap()
    }

    /// The status of the answer to text that was sent.
    pub fn written(&mut self, id: sip::endpoint::RequestId) -> u16 {
        self.wait("the answer to MESSAGE", |event| match event {
            Event::Response { request, code, .. } if *request == id => Some(*code),
            _ => None,
        })
    }

    /// Waits for text, and takes it.
    pub fn reads(&mut self) -> String {
        String::from_utf8(self.reads_all(200).body().to_vec()).unwrap()
    }

    /// Waits for text, and answers so: all that came.
    pub fn reads_all(&mut self, code: u16) -> Arc<sip::Message> {
        let (request, message) = self.wait("MESSAGE", |event| match event {
            Event::Request { request, message, .. } => Some((*request, Arc::clone(message))),
            _ => None,
        });
        self.sip.respond_request(request, code, "", Vec::new(), None).unwrap();
        message
    }

    /// Sends text in a call.
    pub fn write_in(&mut self, call: CallId, text: &str) {
        self.sip.send_message(call, "text/plain", Bytes::from(text.to_owned())).unwrap();
    }

    /// Waits for text in a call.
    pub fn reads_in(&mut self, call: CallId) -> String {
        self.wait("MESSAGE in a call", |event| match event {
            Event::Message { call: id, body, .. } if *id == call => Some(String::from_utf8(body.to_vec()).unwrap()),
            _ => None,
        })
    }

    /// Waits for an event; those before it stay for others who wait.
    fn wait<T>(&mut self, what: &str, mut wanted: impl FnMut(&Event) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            while let Some(event) = self.events.try_recv() {
                self.seen.push(event);
            }
            let found = self.seen.iter().enumerate().find_map(|(at, event)| Some((at, wanted(event)?)));
            if let Some((at, found)) = found {
                self.seen.remove(at);
                return found;
            }
            assert!(Instant::now() < deadline, "{} waits for {what}; seen: {:?}", self.user, self.seen);
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The sound of one call, on a thread of its own: 20 ms of tone at a time, and the last 400 ms of what comes.
struct Sound {
    port: u16,
    version: std::cell::Cell<u32>,
    to: Arc<Mutex<Option<SocketAddr>>>,
    heard: Arc<Mutex<Vec<i16>>>,
    levels: Arc<Mutex<Vec<(u32, u8)>>>,
    /// The mixer is to say how loud everybody is; only who offers asks for that.
    asks_for_levels: bool,
    stop: Arc<AtomicBool>,
}

/// So much of what comes is looked at.
const HEARD_SAMPLES: usize = 3_200;
/// The id of that, in whose descriptions it stands.
const LEVELS_ID: u8 = 5;

impl Sound {
    fn start(tone_hz: f64) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let port = socket.local_addr().unwrap().port();
        let (to, heard, stop) = (Arc::new(Mutex::new(None)), Arc::new(Mutex::new(Vec::new())), Arc::default());
        let levels = Arc::default();
        let sound = Self { port, version: 1.into(), to, heard, levels, asks_for_levels: false, stop };
        let (to, heard, stop) = (Arc::clone(&sound.to), Arc::clone(&sound.heard), Arc::clone(&sound.stop));
        let levels = Arc::clone(&sound.levels);
        std::thread::spawn(move || hum(&socket, tone_hz, &to, &heard, &levels, &stop));
        sound
    }

    fn description(&self, direction: &str) -> Bytes {
        let version = self.version.replace(self.version.get() + 1);
        let levels = match self.asks_for_levels {
            true => format!("a=extmap:{LEVELS_ID}/recvonly urn:ietf:params:rtp-hdrext:csrc-audio-level\r\n"),
            false => String::new(),
        };
        format!(
            "v=0\r\no=- 7 {version} IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio {} RTP/AVP 0\r\na={direction}\r\n{levels}",
            self.port
        )
        .into()
    }

    fn aim(&self, description: &[u8]) {
        let text = std::str::from_utf8(description).unwrap();
        let after = |prefix: &str| text.lines().find_map(|line| line.strip_prefix(prefix)).unwrap();
        let port: u16 = after("m=audio ").split(' ').next().unwrap().parse().unwrap();
        let ip = after("c=IN IP4 ").trim();
        *self.to.lock().unwrap() = Some(format!("{ip}:{port}").parse().unwrap());
    }

    /// How loud all that is heard is, 1 being as loud as a phone hums.
    fn loudness(&self) -> f64 {
        let heard = self.heard.lock().unwrap();
        let energy: f64 = heard.iter().map(|sample| f64::from(*sample).powi(2)).sum();
        (energy * 2.0 / heard.len().max(1) as f64).sqrt() / LOUDNESS
    }

    fn hears(&self, hz: f64) -> f64 {
        let heard = self.heard.lock().unwrap();
        if heard.len() < HEARD_SAMPLES {
            return 0.0;
        }
        let step = hz * std::f64::consts::TAU / 8_000.0;
        let (mut re, mut im) = (0.0, 0.0);
        for (n, sample) in heard.iter().enumerate() {
            let angle = step * n as f64;
            re += f64::from(*sample) * angle.cos();
            im += f64::from(*sample) * angle.sin();
        }
        (re * re + im * im).sqrt() * 2.0 / heard.len() as f64 / LOUDNESS
    }
}

impl Drop for Sound {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn hum(
    socket: &UdpSocket,
    hz: f64,
    to: &Mutex<Option<SocketAddr>>,
    heard: &Mutex<Vec<i16>>,
    levels: &Mutex<Vec<(u32, u8)>>,
    stop: &AtomicBool,
) {
    let spec = registry::spec(CodecId::Pcmu).unwrap();
    let mut encoder = registry::encoder(&spec.params()).unwrap();
    let mut decoder = registry::decoder(&spec.params()).unwrap();
    let (mut phase, mut n) = (0.0_f64, 0_u16);
    let begun = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let pcm: Vec<i16> = (0..160)
            .map(|_| {
                phase += hz * std::f64::consts::TAU / 8_000.0;
                (phase.sin() * LOUDNESS) as i16
            })
            .collect();
        let mut packet = vec![0x80, 0];
        packet.extend(n.to_be_bytes());
        packet.extend((u32::from(n) * 160).to_be_bytes());
        packet.extend((hz as u32).to_be_bytes());
        let mut payload = [0; 200];
        let bytes = encoder.encode(&pcm, &mut payload).unwrap();
        packet.extend(&payload[..bytes]);
        if let Some(to) = *to.lock().unwrap() {
            let _ = socket.send_to(&packet, to);
        }
        n = n.wrapping_add(1);
        let mut datagram = [0; 2_048];
        let mut fresh = Vec::new();
        while let Ok(size) = socket.recv(&mut datagram) {
            let mut out = [0; 960];
            // A conference names who speaks in it: the payload does not begin at the same place in all packets.
            if let Some(packet) = RtpPacket::parse(&datagram[..size]).ok().filter(|packet| packet.payload_type == 0) {
                let made = decoder.decode(packet.payload, &mut out).unwrap();
                fresh.extend_from_slice(&out[..made]);
                let told = packet.extension.and_then(|extension| extension.element(LEVELS_ID)).unwrap_or_default();
                *levels.lock().unwrap() = packet.csrc.iter().zip(told.iter().copied()).collect();
            }
        }
        if fresh.is_empty() {
            // What does not come is silence, or old sound would be heard for ever.
            fresh = vec![0; 160];
        }
        let mut heard = heard.lock().unwrap();
        heard.extend(fresh);
        let surplus = heard.len().saturating_sub(HEARD_SAMPLES);
        heard.drain(..surplus);
        drop(heard);
        let next = begun + Duration::from_millis(20) * u32::from(n);
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}
