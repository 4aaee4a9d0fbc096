//! The sound of one call: offer and answer on one side, the leg's configuration on the other. The only place that
//! translates between SDP's words and the media engine's.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use bytes::Bytes;
use codecs::registry;
use media::io::gather::GATHER_WITHIN;
use media::{
    Direction, DtmfFormat, LegConfig, LegMode, LegPort, LevelFormat, Media, MediaError, Recorded, ReservedPort,
    WorkerId,
};
use sip::endpoint::Transport;
use sip::negotiate::{self, Capability, LocalMedia, MediaChoice, NegotiateError, Negotiated, Protecting};
use sip::sdp::Session;

use super::end::EndReason;
use super::inbound::Refusal;
use super::protection::{self, Shield};
use super::route::Target;
use crate::config::{Config, SrtpPolicy, engines};

/// People hear no more delay than this from the playout buffer.
const MAX_PLAYOUT_DELAY_MS: u16 = 200;

/// The sound of one call.
#[derive(Debug)]
pub struct Sound {
    capability: Capability,
    local: LocalMedia,
    /// Where the peer's signalling comes from.
    signalling: IpAddr,
    timeout: Duration,
    /// The same while the peer holds the call: it may send nothing then.
    hold_timeout: Duration,
    /// The peer has wanted to hear nothing from the first on: that is no hold.
    never_listened: bool,
    offered: Option<Session>,
    ours: Option<Session>,
    waits_for_answer: bool,
    /// Our answer, where it was given by 183.
    early: Option<Bytes>,
    near: Option<WorkerId>,
    /// A port that servers were asked about.
    prepared: Option<ReservedPort>,
    reserved: Option<ReservedPort>,
    open_as: Option<OpenAs>,
    choice: Option<MediaChoice>,
    shield: Shield,
}

#[derive(Debug, Clone)]
struct OpenAs {
    mode: LegMode,
    record: Option<Recorded>,
    seed: u64,
}

/// What a peer's answer led to.
#[derive(Debug)]
pub enum Accepted {
    /// The leg is open.
    Opened(LegPort),
    /// The leg is open already and is to be changed.
    Changed(LegConfig),
}

impl Sound {
    /// The sound of a call between these two addresses, ours as the peer sees it. `public`: ours as those see it who are outside.
    #[must_use]
    pub fn new(config: &Config, public: Option<IpAddr>, local: IpAddr, remote: IpAddr) -> Self {
        // Signalling has found out already how that peer sees us.
        let advertised = Some(local).filter(|local| public == Some(*local));
        let bound = Some(config.rtp.bind).filter(|bind| !bind.is_unspecified());
        let addr = advertised.or(bound).unwrap_or(if local.is_unspecified() { fallback(remote) } else { local });
        let session_id = random();
        Self {
            capability: engines::capability(config),
            local: LocalMedia {
                addr,
                port: 0,
                session_id: session_id >> 2,
                version: 1,
                direction: sip::sdp::Direction::SendRecv,
                protection: Protecting::default(),
            },
            signalling: remote,
            timeout: config.rtp.media_timeout(),
            hold_timeout: config.rtp.hold_timeout(),
            offered: None,
            ours: None,
            waits_for_answer: false,
            early: None,
            near: None,
            prepared: None,
            reserved: None,
            open_as: None,
            choice: None,
            never_listened: false,
            shield: Shield::new(config, public),
        }
    }

    /// Settles whether the sound is protected, where signalling goes by this transport.
    pub fn protect(&mut self, policy: SrtpPolicy, transport: Transport) {
        self.shield.set(&mut self.local, policy, transport);
    }

    /// The leg is to be on this worker, where the call's other legs are.
    pub fn open_near(&mut self, worker: Option<WorkerId>) {
        self.near = worker;
    }

    /// Offers these codecs alone, best first; names that we do not know are passed over.
    pub fn offer_only(&mut self, names: &[String]) {
        let ours = std::mem::take(&mut self.capability.codecs);
        let named = |name: &String| {
            ours.iter().filter(|codec| codec.name.eq_ignore_ascii_case(name)).cloned().collect::<Vec<_>>()
        };
        let wanted: Vec<_> = names.iter().flat_map(named).collect();
        self.capability.codecs = if wanted.is_empty() { ours } else { wanted };
    }

    /// Reads the caller's offer; `None` is a caller that wants ours.
    ///
    /// # Errors
    /// A description that cannot be read: 400 as the RFC has it.
    pub fn take_offer(&mut self, offer: Option<Bytes>) -> Result<(), Refusal> {
        let Some(offer) = offer else { return Ok(()) };
        match Session::parse(&offer) {
            Ok(session) => {
                self.offered = Some(session);
                Ok(())
            }
            Err(fault) => Err(not_acceptable(400, fault.to_string())),
        }
    }

    /// Whether there is something to [`prepare`] before a description is made.
    #[must_use]
    pub fn wants_preparation(&self, media: &Media) -> bool {
        media.has_ice_servers() && self.shield.wants_path(&self.local, self.offered.as_ref())
    }

    /// Goes by this port, which servers were asked about.
    pub fn use_port(&mut self, port: ReservedPort) {
        self.prepared = Some(port);
    }

    fn reserve(&mut self, media: &Media) -> Result<ReservedPort, MediaError> {
        let port = self.prepared.take().map_or_else(|| media.reserve(), Ok)?;
        self.shield.learn(&port);
        self.local.port = port.rtp_port();
        Ok(port)
    }

    /// Reserves a port and makes the description to answer with: our answer with the leg open, or, for a caller
    /// without an offer, our offer.
    ///
    /// # Errors
    /// No common ground (488), no port (503), or a recording that cannot be opened.
    pub fn answer(
        &mut self,
        media: &Media,
        mode: LegMode,
        record: Option<Recorded>,
    ) -> Result<(Bytes, Option<LegPort>), Refusal> {
        let reserved = self
            .reserve(media)
            .map_err(|fault| Refusal::new(503, EndReason::NoMediaPort).with_detail(fault.to_string()))?;
        let open_as = OpenAs { mode, record, seed: random() };
        let Some(offered) = self.offered.take() else {
            self.reserved = Some(reserved);
            self.open_as = Some(open_as);
            return Ok((self.make_offer(media), None));
        };
        let settled = self.settle(media, &offered).map_err(|fault| not_acceptable(488, fault.to_string()))?;
        let port = self.open(media, reserved, &settled.media, open_as).map_err(|why| not_acceptable(500, why))?;
        let sdp = settled.answer.to_bytes();
        self.ours = Some(settled.answer);
        self.keep(settled.media);
        Ok((sdp, Some(port)))
    }

    /// The same before the answer, for a caller with an offer.
    ///
    /// # Errors
    /// There is no offer, or as with [`Sound::answer`]: why.
    pub fn answer_early(&mut self, media: &Media, mode: LegMode) -> Result<(Bytes, LegPort), String> {
        if self.offered.is_none() {
            return Err("the caller has offered nothing".to_owned());
        }
        let offered = self.offered.clone();
        match self.answer(media, mode, None) {
            Ok((sdp, Some(port))) => {
                self.early = Some(sdp.clone());
                Ok((sdp, port))
            }
            Ok((_, None)) => Err("the caller has offered nothing".to_owned()),
            Err(refusal) => {
                // The answer will say so.
                self.offered = offered;
                Err(refusal.end.detail)
            }
        }
    }

    /// Our answer, where it was given before the call's.
    pub fn answered_early(&mut self) -> Option<Bytes> {
        self.early.take()
    }

    /// Reserves a port and makes our offer, for a call that we place.
    ///
    /// # Errors
    /// No port is free; the message names `rtp.ports`.
    pub fn offer(&mut self, media: &Media, mode: LegMode, record: Option<Recorded>) -> Result<Bytes, String> {
        let reserved = self.reserve(media).map_err(|fault| fault.to_string())?;
        self.reserved = Some(reserved);
        self.open_as = Some(OpenAs { mode, record, seed: random() });
        Ok(self.make_offer(media))
    }

    /// Whether our offer has not been answered yet.
    #[must_use]
    pub fn is_waiting_for_answer(&self) -> bool {
        self.waits_for_answer
    }

    /// Takes the peer's answer to our offer.
    ///
    /// # Errors
    /// No answer, or one that cannot be used: why.
    pub fn accept(&mut self, media: &Media, answer: Option<Bytes>) -> Result<Accepted, String> {
        self.waits_for_answer = false;
        let answer = answer.ok_or("the peer's answer holds no session description")?;
        let answer = Session::parse(&answer).map_err(|fault| fault.to_string())?;
        let ours = self.ours.as_ref().ok_or("there is no offer to answer")?;
        let choice = negotiate::accept_answer(&self.local, ours, &answer, &self.capability)
            .map_err(|fault| fault.to_string())?;
        let before = self.choice.as_ref().map(|choice| &choice.protection);
        self.shield.settle(&mut self.local, before, &choice.protection);
        let accepted = match (self.reserved.take(), self.open_as.take()) {
            (Some(reserved), Some(open_as)) => Accepted::Opened(self.open(media, reserved, &choice, open_as)?),
            _ => Accepted::Changed(self.leg_config(&choice, LegMode::Talk)?),
        };
        self.keep(choice);
        Ok(accepted)
    }

    /// Settles a change that the peer asks for within the call: a new offer (hold, resume, another codec or address), or
    /// a request for ours.
    ///
    /// # Errors
    /// No common ground: 488, and the session stays as it was.
    pub fn reoffer(&mut self, media: &Media, offer: Option<Bytes>) -> Result<(Bytes, Option<LegConfig>), String> {
        let last = self.ours.clone();
        let Some(offer) = offer else {
            let index = self.choice.as_ref().map_or(0, |choice| choice.media_index);
            if let (Some(choice), Some(last)) = (&self.choice, &last) {
                let protocol = last.media.get(index).map(|media| media.protocol.clone()).unwrap_or_default();
                Shield::offer_like(&mut self.local, &choice.protection, &protocol);
            }
            self.shield.arm(&mut self.local, media, None);
            let mut next = match &last {
                Some(last) => negotiate::reoffer(&self.local, &self.capability, last, index),
                None => negotiate::offer(&self.local, &self.capability),
            };
            if let Some(last) = &last {
                negotiate::settle_version(last, &mut next);
            }
            self.waits_for_answer = true;
            let sdp = next.to_bytes();
            self.ours = Some(next);
            return Ok((sdp, None));
        };
        let offer = Session::parse(&offer).map_err(|fault| fault.to_string())?;
        let mut settled = self.settle(media, &offer).map_err(|fault| fault.to_string())?;
        let config = self.leg_config(&settled.media, LegMode::Talk)?;
        if let Some(last) = &last {
            negotiate::settle_version(last, &mut settled.answer);
        }
        let sdp = settled.answer.to_bytes();
        self.ours = Some(settled.answer);
        self.keep(settled.media);
        Ok((sdp, Some(config)))
    }

    /// Whether the peer wants to hear nothing: it has put the call on hold (RFC 3264 section 8.4).
    #[must_use]
    pub fn is_on_hold(&self) -> bool {
        self.choice.as_ref().is_some_and(wants_nothing)
    }

    /// Whether nothing goes either way, or to nowhere: somebody else (RFC 3725) settles later whom the call is for.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        self.choice.as_ref().is_some_and(is_absent)
    }

    /// Whether key presses were agreed to be events of RTP (RFC 4733).
    #[must_use]
    pub fn has_telephone_event(&self) -> bool {
        self.choice.as_ref().is_some_and(|choice| choice.telephone_event.is_some())
    }

    /// The codec in use; empty before one is settled.
    #[must_use]
    pub fn codec_name(&self) -> &str {
        self.choice.as_ref().map_or("", |choice| choice.codec_name.as_str())
    }

    /// Takes candidates that the peer sends behind its description (`a=candidate` lines, RFC 8840): what to tell the leg.
    pub fn trickle(&mut self, fragment: &[u8]) -> Option<LegConfig> {
        let mut choice = self.choice.clone()?;
        if !protection::add_candidates(&mut choice.protection, fragment) {
            return None;
        }
        let config = self.leg_config(&choice, LegMode::Talk).ok()?;
        self.keep(choice);
        Some(config)
    }

    /// Begins ICE anew with the name, the password and the candidates of such a fragment: ours in the same form, and what to tell the leg.
    ///
    /// # Errors
    /// There is no ICE, or the fragment does not begin it anew.
    pub fn restart(&mut self, fragment: &[u8]) -> Result<(Bytes, Option<LegConfig>), String> {
        let mut choice = self.choice.clone().ok_or("there is no session yet")?;
        let before = choice.protection.clone();
        if !protection::restart(&mut choice.protection, fragment) {
            return Err("the fragment has no new name and password of ICE".to_owned());
        }
        self.shield.settle(&mut self.local, Some(&before), &choice.protection);
        let ice = self.local.protection.ice.as_ref().ok_or("there is no ICE")?;
        let section = self.ours.as_ref().and_then(|ours| ours.media.get(choice.media_index));
        let mid = section.and_then(|media| media.attributes.all("mid").next()).unwrap_or("0");
        let answer = protection::fragment(ice, mid).into();
        let config = self.leg_config(&choice, LegMode::Talk)?;
        self.keep(choice);
        Ok((answer, Some(config)))
    }

    fn keep(&mut self, choice: MediaChoice) {
        self.never_listened = wants_nothing(&choice) && (self.never_listened || self.choice.is_none());
        self.choice = Some(choice);
    }

    /// Whether the peer holds the call by this choice: after others, or until it is there.
    fn is_hold(&self, choice: &MediaChoice) -> bool {
        is_absent(choice) || wants_nothing(choice) && self.choice.is_some() && !self.never_listened
    }

    /// What protects the sound, as it stands in records.
    #[must_use]
    pub fn protection_name(&self) -> &'static str {
        protection::name(self.choice.as_ref().map(|choice| &choice.protection))
    }

    /// Answers an offer; one that begins ICE anew gets a new name and password of ours.
    fn settle(&mut self, media: &Media, offered: &Session) -> Result<Negotiated, NegotiateError> {
        self.shield.arm(&mut self.local, media, Some(offered));
        let settled = negotiate::answer(&self.local, &self.capability, offered)?;
        let before = self.choice.as_ref().map(|choice| &choice.protection);
        if self.shield.settle(&mut self.local, before, &settled.media.protection) {
            return negotiate::answer(&self.local, &self.capability, offered);
        }
        Ok(settled)
    }

    fn make_offer(&mut self, media: &Media) -> Bytes {
        self.shield.arm(&mut self.local, media, None);
        let offer = negotiate::offer(&self.local, &self.capability);
        let sdp = offer.to_bytes();
        self.ours = Some(offer);
        self.waits_for_answer = true;
        sdp
    }

    fn open(
        &self,
        media: &Media,
        reserved: ReservedPort,
        choice: &MediaChoice,
        open_as: OpenAs,
    ) -> Result<LegPort, String> {
        let mut config = self.leg_config(choice, open_as.mode)?;
        config.record = open_as.record;
        config.seed = open_as.seed;
        match self.near {
            Some(worker) => media.open_near(worker, reserved, config),
            None => media.open(reserved, config),
        }
        .map_err(|fault| fault.to_string())
    }

    fn leg_config(&self, choice: &MediaChoice, mode: LegMode) -> Result<LegConfig, String> {
        let spec = registry::find(&choice.codec_name, choice.clock_hz, choice.channels)
            .ok_or_else(|| format!("{}/{} was agreed and is not known", choice.codec_name, choice.clock_hz))?;
        let params = spec.negotiated(choice.ptime_ms, choice.fmtp_remote.as_deref().unwrap_or_default());
        let is_sendable = !choice.remote.ip().is_unspecified() && choice.remote.port() != 0;
        Ok(LegConfig {
            payload_type_send: choice.payload_type_send,
            payload_type_recv: choice.payload_type_recv,
            dtmf: choice.telephone_event.map(|event| DtmfFormat {
                payload_type_send: event.payload_type_send,
                payload_type_recv: event.payload_type_recv,
                clock_hz: event.clock_hz,
            }),
            comfort_noise_payload_type: choice.comfort_noise,
            remote: is_sendable.then_some(choice.remote),
            local: Some(self.local.addr),
            signalling: Some(self.signalling),
            remote_rtcp: is_sendable.then_some(choice.remote_rtcp),
            rtcp_mux: choice.rtcp_mux,
            rtcp_xr: choice.rtcp_xr,
            levels: LevelFormat {
                send: choice.audio_levels.send,
                receive: choice.audio_levels.receive,
                send_mixed: choice.audio_levels.send_mixed,
            },
            security: self.shield.security(&self.local, &choice.protection)?,
            direction: direction(choice.direction),
            media_timeout: Some(if self.is_hold(choice) { self.hold_timeout } else { self.timeout }),
            max_playout_delay_ms: MAX_PLAYOUT_DELAY_MS,
            ..LegConfig::new(params, choice.payload_type_recv, mode)
        })
    }
}

/// Reserves a port and asks servers how it is seen from outside, and for addresses of theirs: for as long as a call may wait for that.
/// There is none where no port is free, which the call finds out by itself.
pub async fn prepare(media: Media, call: &str) -> Option<ReservedPort> {
    let mut port = media.reserve().ok()?;
    for fault in media.gather(&mut port, GATHER_WITHIN).await {
        tracing::warn!(call, "call {call}: {fault}. The call goes on without it");
    }
    Some(port)
}

/// What a leg does for this target.
#[must_use]
pub fn mode_of(target: &Target) -> LegMode {
    match target {
        Target::Echo => LegMode::Echo,
        Target::Agent(_) | Target::App(_) | Target::Program(..) | Target::Dial(_) | Target::Place(_) => LegMode::Talk,
        Target::Ring | Target::Bye => LegMode::Sink,
    }
}

/// Whether the peer wants to hear nothing.
fn wants_nothing(choice: &MediaChoice) -> bool {
    matches!(choice.direction, sip::sdp::Direction::RecvOnly | sip::sdp::Direction::Inactive)
}

fn is_absent(choice: &MediaChoice) -> bool {
    use sip::sdp::Direction::Inactive;
    choice.direction == Inactive || wants_nothing(choice) && choice.remote.ip().is_unspecified()
}

fn direction(direction: sip::sdp::Direction) -> Direction {
    match (direction.sends(), direction.receives()) {
        (true, true) => Direction::SendRecv,
        (true, false) => Direction::SendOnly,
        (false, true) => Direction::RecvOnly,
        (false, false) => Direction::Inactive,
    }
}

fn not_acceptable(code: u16, detail: String) -> Refusal {
    Refusal::new(code, EndReason::NotAcceptable).with_detail(detail)
}

fn fallback(remote: IpAddr) -> IpAddr {
    if remote.is_loopback() { remote } else { IpAddr::V4(Ipv4Addr::LOCALHOST) }
}

/// From the system's entropy, by way of the standard library's hash keys.
fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}
