//! Session timers (RFC 4028): a call that neither side refreshes in time is over. Refreshed is by UPDATE, or by re-INVITE where the peer
//! does not take that.

use std::time::{Duration, Instant};

use super::Endpoint;
use super::arena::Key;
use super::call::{CallTimer, Context};
use super::event::EndCause;
use super::transactions::Purpose;
use crate::dialog::reoffer;
use crate::dialog::session::{Input, Phase};
use crate::headers::{Name, Refresher, SessionExpires};
use crate::message::Message;
use crate::method::Method;
use crate::uri::decimal;

/// A refresh that failed for no lasting reason is tried again after this long.
const TRY_AGAIN: Duration = Duration::from_secs(10);

/// What a request of the peer says of the session's length.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Wish {
    expires: Option<SessionExpires>,
    shortest: u32,
    is_supported: bool,
}

impl Wish {
    pub(super) fn of(request: &Message) -> Self {
        let is_supported = request.header_values(Name::Supported).any(|tag| tag.eq_ignore_ascii_case("timer"));
        let expires = request.header(Name::SessionExpires).and_then(|value| SessionExpires::parse(value).ok());
        Self { expires, shortest: shortest_of(request).unwrap_or(0), is_supported }
    }
}

/// How long a session lasts, as a 2xx of ours says.
#[derive(Debug)]
pub(super) struct Settled {
    expires: String,
    /// The peer is to refresh, and must know that.
    is_required: bool,
}

impl Settled {
    pub(super) fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        let require = self.is_required.then_some(("Require", "timer"));
        [("Session-Expires", self.expires.as_str())].into_iter().chain(require)
    }
}

/// A session that is over unless it is refreshed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Session {
    seconds: u32,
    we_refresh: bool,
    deadline: Instant,
    /// The peer wanted a longer interval for the refresh that is under way.
    has_grown: bool,
}

impl Session {
    /// When something is to be done: to refresh at half the time, or to give up (section 10) a while before the end.
    fn new(now: Instant, seconds: u32, we_refresh: bool) -> (Self, Instant) {
        let whole = Duration::from_secs(u64::from(seconds));
        let deadline = now + whole - (whole / 3).min(Duration::from_secs(32));
        let due = if we_refresh { now + whole / 2 } else { deadline };
        (Self { seconds, we_refresh, deadline, has_grown: false }, due)
    }
}

impl Endpoint {
    /// Section 9: settles the session's length for the 2xx to a request of the peer.
    pub(super) fn settle_session(&mut self, now: Instant, key: Key, wish: Wish) -> Option<Settled> {
        let (shortest, ours) = (seconds(self.config.shortest_session), seconds(self.config.session_interval));
        let call = self.calls.get_mut(key)?;
        let (seconds, refresher) = match (wish.expires, wish.is_supported) {
            (Some(expires), true) => (expires.seconds.max(shortest), expires.refresher.unwrap_or(Refresher::Uac)),
            // A proxy wants it, of a caller that does not know how.
            (Some(expires), false) => (expires.seconds.max(shortest), Refresher::Uas),
            (None, true) if ours > 0 => (ours.max(wish.shortest), Refresher::Uac),
            _ => {
                call.session = None;
                call.disarm(CallTimer::Session);
                return None;
            }
        };
        let (session, due) = Session::new(now, seconds, refresher == Refresher::Uas);
        call.session = Some(session);
        call.arm(CallTimer::Session, due);
        let expires = SessionExpires { seconds, refresher: Some(refresher) }.to_string();
        Some(Settled { expires, is_required: refresher == Refresher::Uac })
    }

    /// Section 7.2: the peer's 2xx to an INVITE or UPDATE of ours says how long the session lasts.
    pub(super) fn session_answered(&mut self, now: Instant, key: Key, response: &Message) {
        let Some(call) = self.calls.get_mut(key) else { return };
        let says = response.header(Name::SessionExpires).and_then(|value| SessionExpires::parse(value).ok());
        let Some(expires) = says else {
            call.session = None;
            return call.disarm(CallTimer::Session);
        };
        let (session, due) = Session::new(now, expires.seconds, expires.refresher != Some(Refresher::Uas));
        call.session = Some(session);
        call.arm(CallTimer::Session, due);
    }

    /// What an INVITE or UPDATE of ours says of the session's length.
    pub(super) fn session_headers(&self, key: Key) -> Vec<(Name, String)> {
        let Some(call) = self.calls.get(key) else { return Vec::new() };
        let ours = seconds(self.config.session_interval);
        let expires = match &call.session {
            Some(session) => {
                let refresher = if session.we_refresh { Refresher::Uac } else { Refresher::Uas };
                SessionExpires { seconds: session.seconds, refresher: Some(refresher) }
            }
            None if ours > 0 => SessionExpires { seconds: ours, refresher: None },
            None => return Vec::new(),
        };
        let shortest = seconds(self.config.shortest_session);
        // Section 5: 90 is what none means.
        let shortest = (shortest > 90).then(|| (Name::MinSe, shortest.to_string()));
        [(Name::SessionExpires, expires.to_string())].into_iter().chain(shortest).collect()
    }

    /// It is time to refresh, or to give up.
    pub(super) fn session_due(&mut self, now: Instant, key: Key) {
        let Some(call) = self.calls.get_mut(key).filter(|call| call.phase == Phase::Established) else { return };
        let Some(session) = call.session.as_mut() else { return };
        if now >= session.deadline {
            call.cause.get_or_insert(EndCause::Expired);
            call.our_reason = Some("SIP;cause=408;text=\"The session was not refreshed\"".to_owned());
            self.drive(now, key, Input::HangUp, Context::default());
            return;
        }
        session.has_grown = false;
        // What becomes of it is known before; if not, the session ends.
        let deadline = session.deadline;
        let is_quiet = call.reoffer == reoffer::State::Quiet;
        call.arm(CallTimer::Session, if is_quiet { deadline } else { deadline.min(now + TRY_AGAIN) });
        if is_quiet {
            self.send_refresh(now, key);
        }
    }

    /// Sends UPDATE, or re-INVITE with what of ours was described last: our Contact goes with either. Where a re-INVITE is under
    /// way or about to be tried again, none is sent: ours does as well, and otherwise this is tried later.
    pub(super) fn send_refresh(&mut self, now: Instant, key: Key) {
        let Some(call) = self.calls.get_mut(key) else { return };
        if call.takes_update || call.our_description.is_none() {
            self.send_inside(now, key, (&Method::Update, Purpose::Update), &[], None);
            return;
        }
        if call.reoffer != reoffer::State::Quiet || call.retry.is_some() {
            return self.refresh_failed(now, key);
        }
        call.our_offer.clone_from(&call.our_description);
        call.is_refresh = true;
        self.drive_reoffer(now, key, reoffer::Input::Offer, Context::default());
    }

    /// Our UPDATE has its answer.
    pub(super) fn update_answered(&mut self, now: Instant, key: Key, code: u16, response: Option<&Message>) {
        match (code, response) {
            (200..=299, Some(response)) => {
                if let Some(call) = self.calls.get_mut(key) {
                    call.dialog.refresh_target(response);
                    call.contact_told();
                }
                self.session_answered(now, key, response);
                self.arm_call(now, key);
            }
            (422, Some(response)) => self.refresh_longer(now, key, response),
            (405 | 501, _) => {
                if let Some(call) = self.calls.get_mut(key) {
                    call.takes_update = false;
                }
                self.send_refresh(now, key);
            }
            (408 | 481, _) => _ = self.drive(now, key, Input::Gone, Context::default()),
            _ => self.refresh_failed(now, key),
        }
    }

    /// Section 7.4: once more, with the interval that the peer can bear.
    fn refresh_longer(&mut self, now: Instant, key: Key, response: &Message) {
        let Some(call) = self.calls.get_mut(key) else { return };
        let Some(session) = call.session.as_mut() else { return };
        match shortest_of(response).filter(|shortest| *shortest > session.seconds && !session.has_grown) {
            Some(shortest) => {
                session.seconds = shortest;
                session.has_grown = true;
                self.send_refresh(now, key);
            }
            None => self.refresh_failed(now, key),
        }
    }

    /// A refresh was refused: another is tried while there is time.
    pub(super) fn refresh_failed(&mut self, now: Instant, key: Key) {
        let Some(call) = self.calls.get_mut(key) else { return };
        if let Some(session) = &call.session {
            let due = session.deadline.min(now + TRY_AGAIN);
            call.arm(CallTimer::Session, due);
            self.arm_call(now, key);
        }
    }

    /// Section 7.3: our INVITE was refused for too short an interval: the headers for another try, where there is to be one.
    pub(super) fn longer_session(&mut self, key: Key, response: &Message) -> Option<Vec<(&'static str, String)>> {
        let ours = seconds(self.config.session_interval);
        let shortest = shortest_of(response).filter(|shortest| *shortest > ours)?;
        let call = self.calls.get_mut(key).filter(|call| !call.has_grown)?;
        call.has_grown = true;
        Some(vec![("Session-Expires", shortest.to_string()), ("Min-SE", shortest.to_string())])
    }
}

fn shortest_of(message: &Message) -> Option<u32> {
    decimal(message.header(Name::MinSe)?.split(';').next()?.trim().as_bytes())
}

fn seconds(span: Duration) -> u32 {
    u32::try_from(span.as_secs()).unwrap_or(u32::MAX)
}
