//! Who is told of what devices do (SUBSCRIBE and NOTIFY, RFC 6665): their calls, for the lamps beside names (RFC 4235), their messages
//! (RFC 3842), their registrations (RFC 3680); and of who is in a conference (RFC 4575).
//!
//! Documents are made, and sent, on the SIP thread; what changes elsewhere is handed to it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use sip::Message;
use sip::endpoint::{Endpoint, Source, SubscriptionId};
use sip::event::conference_info::{self, Conference, Member};
use sip::event::dialog_info::{self, DialogPhase, DialogState};
use sip::event::message_summary::{self, Counts, MessageSummary};
use sip::event::reginfo;

use crate::accounts::Reply;
use crate::call::place::Place;
use crate::call::switchboard::Doing;
use crate::dispatch::note_credentials;
use crate::hub::Hub;
use sip::uri::user_of;

/// A subscription lasts no longer without a refresh.
const LONGEST: Duration = Duration::from_secs(3_600);

/// A conference's name that is longer cannot be watched.
const ROOM_NAME_LIMIT: usize = 64;

/// The event packages that devices may subscribe to.
pub(crate) const PACKAGES: [&str; 4] =
    [dialog_info::PACKAGE, message_summary::PACKAGE, reginfo::PACKAGE, conference_info::PACKAGE];

/// What is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Package {
    /// A device's calls.
    Dialogs,
    /// Its messages.
    Messages,
    /// Its registrations.
    Registrations,
    /// Who is in a conference.
    Conference,
}

/// Who watches what.
#[derive(Debug, Default)]
pub(crate) struct Watchers {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    watches: HashMap<SubscriptionId, Watch>,
    /// New and old messages, by device.
    messages: HashMap<String, (u32, u32)>,
}

#[derive(Debug, Clone)]
struct Watch {
    /// A device, or what a conference is called by.
    device: String,
    /// The domain that whoever watches knows us by.
    domain: String,
    package: Package,
    version: u32,
    /// Who was said to be in the conference.
    known: Vec<Member>,
}

impl Package {
    fn named(name: &str) -> Option<Self> {
        match name {
            dialog_info::PACKAGE => Some(Self::Dialogs),
            message_summary::PACKAGE => Some(Self::Messages),
            reginfo::PACKAGE => Some(Self::Registrations),
            conference_info::PACKAGE => Some(Self::Conference),
            _ => None,
        }
    }
}

impl Watchers {
    /// Answers a SUBSCRIBE.
    pub(crate) fn subscribed(
        &self,
        hub: &Hub,
        endpoint: &mut Endpoint,
        now: Instant,
        subscription: SubscriptionId,
        (package, expires, request, source): (&str, Duration, &Message, &Source),
    ) {
        let watch = match allowed(hub, package, request) {
            Ok(watch) => Watch { known: members(hub, &watch), ..watch },
            Err(reply) => {
                note_credentials(hub, source, reply.has_failed, false);
                let refused = endpoint.reject_subscription(now, subscription, reply.code, &reply.headers);
                return note(refused);
            }
        };
        let (content_type, body) = self.document(hub, endpoint, &watch);
        self.lock().watches.insert(subscription, watch);
        note(endpoint.accept_subscription(now, subscription, expires.min(LONGEST), Some((content_type, body))));
        if expires.is_zero() {
            self.ended(subscription);
        }
    }

    /// A subscription is over.
    pub(crate) fn ended(&self, subscription: SubscriptionId) {
        self.lock().watches.remove(&subscription);
    }

    /// Something about a device has changed; called from any thread.
    pub(crate) fn changed(&self, hub: &Arc<Hub>, device: &str, package: Package) {
        let is_watched = |watch: &Watch| watch.package == package && watch.device.eq_ignore_ascii_case(device);
        if !self.lock().watches.values().any(is_watched) {
            return;
        }
        let (on, device) = (Arc::clone(hub), device.to_owned());
        let told = hub.sip.on_thread(move |endpoint, now| on.watchers.tell(&on, endpoint, now, &device, package));
        if told.is_err() {
            tracing::warn!("signalling took no command: those who watch a device are not told of a change");
        }
    }

    /// So many messages wait for a device.
    pub(crate) fn set_messages(&self, hub: &Arc<Hub>, device: &str, new: u32, old: u32) {
        self.lock().messages.insert(device.to_ascii_lowercase(), (new, old));
        self.changed(hub, device, Package::Messages);
    }

    /// Tells those who watch a device, on the SIP thread.
    pub(crate) fn tell(&self, hub: &Hub, endpoint: &mut Endpoint, now: Instant, device: &str, package: Package) {
        if package == Package::Conference {
            return self.tell_attendance(hub, endpoint, now, device);
        }
        let due: Vec<(SubscriptionId, Watch)> = {
            let mut inner = self.lock();
            let watches = inner.watches.iter_mut();
            watches
                .filter(|(_, watch)| watch.package == package && watch.device.eq_ignore_ascii_case(device))
                .map(|(id, watch)| {
                    watch.version += 1;
                    (*id, watch.clone())
                })
                .collect()
        };
        for (subscription, watch) in due {
            let (content_type, body) = self.document(hub, endpoint, &watch);
            note(endpoint.notify(now, subscription, content_type, body));
        }
    }

    /// Tells those who watch a conference who has come and gone since they were told last.
    fn tell_attendance(&self, hub: &Hub, endpoint: &mut Endpoint, now: Instant, room: &str) {
        let watched = |watch: &Watch| watch.package == Package::Conference && watch.device.eq_ignore_ascii_case(room);
        let mut due = Vec::new();
        for (subscription, watch) in self.lock().watches.iter_mut().filter(|(_, watch)| watched(watch)) {
            let members = members(hub, watch);
            if members != watch.known {
                watch.version += 1;
                let before = std::mem::replace(&mut watch.known, members);
                due.push((*subscription, watch.clone(), before));
            }
        }
        for (subscription, watch, before) in due {
            let uri = format!("sip:{}@{}", watch.device, watch.domain);
            let conference = conference(&uri, &watch);
            let Some(change) = conference_info::partial(&conference, &before, watch.version) else { continue };
            let documents = (change.into(), conference_info::full(&conference, watch.version).into());
            note(endpoint.notify_change(now, subscription, conference_info::CONTENT_TYPE, documents));
        }
    }

    fn document(&self, hub: &Hub, endpoint: &Endpoint, watch: &Watch) -> (&'static str, Bytes) {
        let uri = format!("sip:{}@{}", watch.device, watch.domain);
        match watch.package {
            Package::Conference => {
                let document = conference_info::full(&conference(&uri, watch), watch.version);
                (conference_info::CONTENT_TYPE, document.into())
            }
            Package::Dialogs => {
                let dialogs = dialogs(hub, endpoint, &watch.device);
                (dialog_info::CONTENT_TYPE, dialog_info::build(&uri, watch.version, &dialogs).into())
            }
            Package::Messages => {
                let known = self.lock().messages.get(&watch.device.to_ascii_lowercase()).copied();
                let (new, old) = known.unwrap_or_default();
                let summary = MessageSummary::voice(&uri, Counts { new, old, ..Counts::default() });
                (message_summary::CONTENT_TYPE, summary.build().into())
            }
            Package::Registrations => {
                let now_s = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
                let bindings = hub.accounts.as_ref().map(|accounts| accounts.bindings(&watch.device));
                let contacts: Vec<reginfo::Contact> = bindings
                    .unwrap_or_default()
                    .into_iter()
                    .enumerate()
                    .map(|(at, binding)| reginfo::Contact {
                        id: (at + 1).to_string(),
                        uri: binding.uri.clone(),
                        expires_s: binding.expires_s.saturating_sub(now_s),
                    })
                    .collect();
                (reginfo::CONTENT_TYPE, reginfo::build(&uri, watch.version, &contacts).into())
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether whoever subscribes may: devices see one another's calls, and their own messages and registrations.
fn allowed(hub: &Hub, package: &str, request: &Message) -> Result<Watch, Reply> {
    let (Some(accounts), Some(package)) = (&hub.accounts, Package::named(package)) else {
        return Err(Reply::refusal(489));
    };
    let device = accounts.device_of(request)?;
    let called = user_of(request.request_uri());
    let domain = sip::Uri::parse(request.request_uri()).map(|uri| uri.authority());
    let domain = domain.unwrap_or_else(|_| hub.config.registrar.realm.clone());
    if package == Package::Conference {
        let is_room = matches!(Place::called(&called), Some(Place::Room(name)) if name.len() <= ROOM_NAME_LIMIT);
        let watch = Watch { device: called, domain, package, version: 0, known: Vec::new() };
        return if is_room && hub.config.numbers.places { Ok(watch) } else { Err(Reply::refusal(404)) };
    }
    let wanted = accounts.named(&called).ok_or_else(|| Reply::refusal(404))?;
    if package != Package::Dialogs && wanted.user != device {
        return Err(Reply::refusal(403));
    }
    Ok(Watch { device: wanted.user.clone(), domain, package, version: 0, known: Vec::new() })
}

/// Who is in the conference that is watched; nobody, where there is none at present.
fn members(hub: &Hub, watch: &Watch) -> Vec<Member> {
    let Some(Place::Room(name)) = Place::called(&watch.device).filter(|_| watch.package == Package::Conference) else {
        return Vec::new();
    };
    let call = hub.places.find_room(&name).and_then(|call| hub.switchboard.address(&call));
    call.map(|call| call.presence.members()).unwrap_or_default()
}

fn conference<'a>(uri: &'a str, watch: &'a Watch) -> Conference<'a> {
    let subject = watch.device.strip_prefix("room-").unwrap_or(&watch.device);
    Conference { entity: uri, subject, places: media::MAX_MEMBERS, members: &watch.known }
}

fn dialogs(hub: &Hub, endpoint: &Endpoint, device: &str) -> Vec<DialogState> {
    let legs = hub.switchboard.legs_of_device(device);
    let states = legs.into_iter().filter_map(|leg| {
        let known = endpoint.dialog_identity(leg.leg)?;
        Some(DialogState {
            id: leg.leg.to_string(),
            call_id: known.call_id,
            local_tag: known.remote_tag,
            remote_tag: known.local_tag,
            is_initiator: leg.is_caller,
            phase: match leg.doing {
                Doing::Rings if !leg.has_rung => DialogPhase::Trying,
                Doing::Rings => DialogPhase::Early,
                Doing::Talks => DialogPhase::Confirmed,
            },
        })
    });
    states.collect()
}

fn note(done: Result<(), sip::endpoint::CommandError>) {
    if let Err(fault) = done {
        tracing::debug!("a subscription is over already: {fault}");
    }
}
