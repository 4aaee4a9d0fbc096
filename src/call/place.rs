//! Places within the server that a caller can be put: a conference, a slot where they wait to be fetched, somebody else's call. A leg
//! that goes there leaves its call and is taken in by the one that is there already, with an [`Errand`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sip::endpoint::CallId;

use super::LegNo;
use super::queue::Queue;

/// Somewhere within the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The conference of this name; whoever comes first opens it.
    Room(String),
    /// This slot, to wait there.
    Park(String),
    /// Whoever waits in this slot.
    Fetch(String),
    /// This queue, to wait there for one of its people.
    Queue(Arc<Queue>),
    /// A call that rings at this device.
    Pickup(String),
    /// The call of this device, or of this id.
    Watch(String, Watching),
    /// The call that has this leg, whose place is to be taken (Replaces, RFC 3891).
    Replace(CallId),
}

/// How a supervisor takes part in a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watching {
    /// Hears all, is heard by nobody.
    Listen,
    /// Is heard by our side alone: the device.
    Whisper,
    /// Is heard by all.
    Join,
}

/// What a leg is in a call for that it did not begin in. `T` says how a leg that it replaces is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Errand<T = LegNo> {
    /// To take part in the conference.
    Join,
    /// To speak with whoever waits.
    Fetch,
    /// To answer in the place of those who ring.
    Pickup,
    /// To supervise.
    Watch(Watching),
    /// To take this leg's place.
    Replace(T),
}

/// What became of a leg that was to enter a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// It is this call's from now on.
    Given(Arc<str>),
    /// This call is the place.
    Opened,
    /// This call is the place, which has no room, and knows where to go instead.
    Full,
    /// There is no such place, or it takes nobody: the status to answer with.
    Nothing(u16),
}

impl<T> Errand<T> {
    /// The same with the leg that is replaced named otherwise.
    pub fn map<U>(self, name: impl FnOnce(T) -> U) -> Errand<U> {
        match self {
            Self::Join => Errand::Join,
            Self::Fetch => Errand::Fetch,
            Self::Pickup => Errand::Pickup,
            Self::Watch(how) => Errand::Watch(how),
            Self::Replace(leg) => Errand::Replace(name(leg)),
        }
    }
}

impl Watching {
    /// The keys by which a supervisor changes it.
    #[must_use]
    pub fn by_key(key: char) -> Option<Self> {
        match key {
            '4' => Some(Self::Listen),
            '5' => Some(Self::Whisper),
            '6' => Some(Self::Join),
            _ => None,
        }
    }
}

impl Place {
    /// The place that a caller means by this name: `room-NAME`, `park-SLOT` (whoever waits there), `pickup-DEVICE`, and
    /// `listen-`, `whisper-` or `join-` with a device or the id of a call.
    #[must_use]
    pub fn called(name: &str) -> Option<Self> {
        let (what, which) = name.split_once('-').filter(|(_, which)| !which.is_empty())?;
        let which = which.to_owned();
        Some(match what {
            "room" => Self::Room(which),
            "park" => Self::Fetch(which),
            "pickup" => Self::Pickup(which),
            "listen" => Self::Watch(which, Watching::Listen),
            "whisper" => Self::Watch(which, Watching::Whisper),
            "join" => Self::Watch(which, Watching::Join),
            _ => return None,
        })
    }

    /// The name that a conference is called by.
    #[must_use]
    pub fn room_user(name: &str) -> String {
        format!("room-{name}")
    }

    /// The place that somebody is passed on to by this name: a conference, or a slot to wait in.
    #[must_use]
    pub fn passed_to(name: &str) -> Option<Self> {
        match Self::called(name)? {
            Self::Fetch(slot) => Some(Self::Park(slot)),
            room @ Self::Room(_) => Some(room),
            _ => None,
        }
    }

    /// Its name in records and logs.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Room(_) => "room",
            Self::Park(_) | Self::Fetch(_) => "park",
            Self::Queue(_) => "queue",
            Self::Pickup(_) => "pickup",
            Self::Watch(..) => "watch",
            Self::Replace(_) => "replaces",
        }
    }
}

/// Which call is which place.
#[derive(Debug, Default)]
pub struct Places {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    rooms: HashMap<String, Arc<str>>,
    parked: HashMap<String, Arc<str>>,
}

impl Places {
    /// The call that is this conference: this one, where there was none.
    pub fn room(&self, name: &str, call: &Arc<str>) -> Arc<str> {
        Arc::clone(self.lock().rooms.entry(name.to_owned()).or_insert_with(|| Arc::clone(call)))
    }

    /// The call that is this conference, where there is one.
    #[must_use]
    pub fn find_room(&self, name: &str) -> Option<Arc<str>> {
        self.lock().rooms.get(name).cloned()
    }

    /// The conference that a call is.
    #[must_use]
    pub fn room_of(&self, call: &str) -> Option<String> {
        self.lock().rooms.iter().find(|(_, held)| &***held == call).map(|(name, _)| name.clone())
    }

    /// Takes a slot for a call; false where somebody has it.
    pub fn park(&self, slot: &str, call: &Arc<str>) -> bool {
        let mut inner = self.lock();
        let is_free = !inner.parked.contains_key(slot);
        if is_free {
            inner.parked.insert(slot.to_owned(), Arc::clone(call));
        }
        is_free
    }

    /// The call that waits in a slot.
    #[must_use]
    pub fn parked(&self, slot: &str) -> Option<Arc<str>> {
        self.lock().parked.get(slot).cloned()
    }

    /// A call is no place any more.
    pub fn leave(&self, call: &str) {
        let mut inner = self.lock();
        inner.rooms.retain(|_, held| &**held != call);
        inner.parked.retain(|_, held| &**held != call);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_called_by_name() {
        assert_eq!(Place::called("room-weekly-1"), Some(Place::Room("weekly-1".into())));
        assert_eq!(Place::called("park-7"), Some(Place::Fetch("7".into())));
        assert_eq!(Place::passed_to("park-7"), Some(Place::Park("7".into())));
        assert_eq!(Place::called("whisper-alice"), Some(Place::Watch("alice".into(), Watching::Whisper)));
        assert_eq!(Place::passed_to("pickup-alice"), None, "nobody is passed on to pick up");
        for nobody in ["room", "room-", "alice", "", "-x", "rooms-x"] {
            assert_eq!(Place::called(nobody), None, "{nobody}");
        }
    }

    #[test]
    fn whoever_comes_first_is_the_place_until_they_leave() {
        let (places, a, b): (_, Arc<str>, Arc<str>) = (Places::default(), "a".into(), "b".into());
        assert_eq!(places.room("x", &a), a);
        assert_eq!(places.room("x", &b), a);
        assert_eq!((places.find_room("x"), places.find_room("y")), (Some(Arc::clone(&a)), None));
        assert_eq!((places.room_of("a").as_deref(), places.room_of("b")), (Some("x"), None));
        assert!(places.park("1", &a) && !places.park("1", &b));
        assert_eq!(places.parked("1"), Some(Arc::clone(&a)));
        places.leave("a");
        assert_eq!((places.parked("1"), places.room("x", &b)), (None, b));
    }
}
