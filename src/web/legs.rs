//! Legs whose signalling is HTTP: an offer that waits for its answer, and an end. To a call they are legs like those of SIP.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use agent::session::SessionEvent;
use bytes::Bytes;
use sip::endpoint::{CallId, EndCause, Event};
use tokio::sync::oneshot;

use super::feed::Feed;
use crate::call::switchboard::Switchboard;
use crate::random::letters;

/// Numbers of legs of SIP are below this ([`CallId`]).
const FIRST: u64 = 1 << 63;
/// Letters of a resource's name: 160 bits.
const NAME: usize = 32;
/// Letters of an ICE session's name.
const TAG: usize = 12;

/// What the call answers an offer with: a description, or a status.
pub type Answer = Result<Bytes, u16>;

/// All web calls.
#[derive(Debug, Default)]
pub struct WebLegs {
    next: AtomicU64,
    open: Mutex<HashMap<CallId, Leg>>,
}

#[derive(Debug)]
struct Leg {
    /// The resource's name.
    name: String,
    /// The call's id.
    call: String,
    answer: Option<oneshot::Sender<Answer>>,
    /// A change that is under way.
    change: Option<oneshot::Sender<Answer>>,
    /// What its ICE session is called: each restart begins another (RFC 9725 section 4.3.1).
    tag: String,
    feed: Feed,
}

/// A leg as the HTTP side has it.
#[derive(Debug, Clone)]
pub struct Found {
    /// The leg.
    pub leg: CallId,
    /// What its ICE session is called.
    pub tag: String,
    /// What happens in its call.
    pub feed: Feed,
}

impl WebLegs {
    /// Whether a leg's signalling is HTTP.
    #[must_use]
    pub fn is_web(leg: CallId) -> bool {
        leg.0 >= FIRST
    }

    /// A new leg of this call, its resource's name, and its answer to come.
    #[must_use]
    pub fn open(&self, call: &str) -> Option<(CallId, String, oneshot::Receiver<Answer>)> {
        let leg = CallId(FIRST | self.next.fetch_add(1, Ordering::Relaxed));
        let name = letters(NAME)?;
        let (sender, answer) = oneshot::channel();
        let open = Leg {
            name: name.clone(),
            call: call.to_owned(),
            answer: Some(sender),
            change: None,
            tag: letters(TAG)?,
            feed: Feed::default(),
        };
        self.lock().insert(leg, open);
        Some((leg, name, answer))
    }

    /// The leg behind a resource.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<Found> {
        let open = self.lock();
        let (leg, found) = open.iter().find(|(_, leg)| {
            aws_lc_rs::constant_time::verify_slices_are_equal(leg.name.as_bytes(), name.as_bytes()).is_ok()
        })?;
        Some(Found { leg: *leg, tag: found.tag.clone(), feed: found.feed.clone() })
    }

    /// The call has answered: the page may have it, and the call need not wait for more.
    pub(crate) fn answer(&self, board: &Switchboard, leg: CallId, sdp: Bytes) {
        let waiting = self.lock().get_mut(&leg).and_then(|leg| leg.answer.take());
        if waiting.is_some_and(|waiting| waiting.send(Ok(sdp)).is_ok()) {
            board.deliver(leg, Event::Acked { call: leg, answer: None });
        }
    }

    /// Asks the call to begin ICE anew with this fragment; its answer comes. Nothing where there is no call to ask, or one is asked already.
    pub(crate) fn restart(
        &self,
        board: &Switchboard,
        leg: CallId,
        fragment: Bytes,
    ) -> Option<oneshot::Receiver<Answer>> {
        let (sender, answer) = oneshot::channel();
        {
            let mut open = self.lock();
            let found = open.get_mut(&leg).filter(|found| found.answer.is_none() && found.change.is_none())?;
            found.change = Some(sender);
        }
        board.deliver(leg, Event::Reoffer { call: leg, offer: Some(fragment) });
        Some(answer)
    }

    /// The call has answered a change.
    pub(crate) fn changed(&self, leg: CallId, answer: Answer) {
        let mut open = self.lock();
        let Some(found) = open.get_mut(&leg) else { return };
        if let (Ok(_), Some(tag)) = (&answer, letters(TAG)) {
            found.tag = tag;
        }
        if let Some(waiting) = found.change.take() {
            // The page may have given up.
            let _ = waiting.send(answer);
        }
    }

    /// The call was refused.
    pub(crate) fn reject(&self, board: &Switchboard, leg: CallId, code: u16) {
        let waiting = self.lock().get_mut(&leg).and_then(|leg| leg.answer.take());
        if let Some(waiting) = waiting {
            // The page may have given up.
            let _ = waiting.send(Err(code));
        }
        self.end(board, leg, EndCause::Refused(code));
    }

    /// The leg is over.
    pub(crate) fn end(&self, board: &Switchboard, leg: CallId, cause: EndCause) {
        if let Some(gone) = self.lock().remove(&leg) {
            gone.feed.tell(&serde_json::json!({ "event": "ended", "why": cause.to_string() }));
            gone.feed.end();
            board.deliver(leg, Event::Ended { call: leg, cause, reason_header: None });
        }
    }

    /// Something happened in a call's conversation.
    pub(crate) fn observe(&self, call: &str, event: &SessionEvent) {
        let feed = self.lock().values().find(|leg| leg.call == call).map(|leg| leg.feed.clone());
        if let Some(feed) = feed {
            feed.tell(event);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<CallId, Leg>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
