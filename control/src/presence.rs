//! Who is there: an operator is `offline` without a live connection, `busy` in a call of theirs, else what they say of themselves. And how many
//! callers wait in which queue.
//!
//! A connection is a stream of events ([`crate::api::events`]) that somebody reads who is logged in. One that ends may be a page that is loaded
//! anew: who has none left is offline only after [`GRACE_S`]. Each server knows those who are connected to it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use crate::control::Control;
use crate::live::KEPT;
use crate::ports::{LiveCall, Person, Queue};
use crate::store::StoreError;
use crate::store::presence::Seated;
use crate::time::Moment;

/// Without a connection for so many seconds somebody is offline.
pub const GRACE_S: i64 = 10;
/// What passes without an event (the grace, a caller's wait) is looked at this often.
const LOOKED_EVERY: Duration = Duration::from_secs(2);
/// What happens at once is looked at once.
const GATHERED_WITHIN: Duration = Duration::from_millis(200);
/// A queue that only grows older is told of this often, in seconds.
const WAIT_TOLD_EVERY_S: i64 = 10;

/// Whether somebody takes calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OperatorState {
    /// There, and free.
    Available,
    /// There, and says that they take no calls now.
    Away,
    /// In a call of theirs.
    Busy,
    /// Not connected.
    Offline,
}

/// Somebody, and whether they take calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct OperatorPresence {
    /// The user's id.
    pub user: String,
    /// The name they log in with.
    #[schema(example = "ada")]
    pub name: String,
    /// The name that people see.
    #[schema(example = "Ada Lovelace")]
    pub display: String,
    /// Their team.
    pub team: Option<String>,
    /// Whether they take calls.
    pub state: OperatorState,
    /// They say that they take no calls, whatever else they do.
    pub away: bool,
    /// Since when, where this server has seen it begin.
    pub since: Option<Moment>,
    /// Their calls.
    pub calls: Vec<String>,
}

/// Callers who wait for one of several operators.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct QueueState {
    /// The route's name, or its operators' where it has none.
    #[schema(example = "reception")]
    pub name: String,
    /// The devices that are called.
    pub members: Vec<String>,
    /// Callers whom nobody has answered yet.
    pub waiting: usize,
    /// How long the first of them has waited, in seconds; 0 where nobody waits.
    pub longest_wait_s: i64,
    /// Devices that ring at the moment.
    pub ringing: usize,
}

/// Who is connected, and what was told of it; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Presence {
    inner: Arc<Mutex<Inner>>,
    changed: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Inner {
    /// By user id: whoever is connected, or was told to be there. Users are few, so are these.
    seats: HashMap<String, Seat>,
    /// By name.
    queues: HashMap<String, (QueueState, Moment)>,
}

#[derive(Debug, Default)]
struct Seat {
    connections: u32,
    gone_at: Option<Moment>,
    told: Option<OperatorState>,
    told_away: bool,
    calls: Vec<String>,
    since: Option<Moment>,
}

/// Somebody is connected as long as this is there.
#[derive(Debug)]
pub struct Connection {
    presence: Presence,
    user: String,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.presence.disconnect(&self.user, Moment::now());
    }
}

impl Presence {
    /// Somebody is connected from here on.
    #[must_use]
    pub fn connect(&self, user: &str) -> Connection {
        let mut inner = self.lock();
        let seat = inner.seats.entry(user.to_owned()).or_default();
        seat.connections += 1;
        seat.gone_at = None;
        drop(inner);
        self.look_again();
        Connection { presence: self.clone(), user: user.to_owned() }
    }

    fn disconnect(&self, user: &str, now: Moment) {
        if let Some(seat) = self.lock().seats.get_mut(user) {
            seat.connections = seat.connections.saturating_sub(1);
            if seat.connections == 0 {
                seat.gone_at = Some(now);
            }
        }
        self.look_again();
    }

    /// Something changed that decides who is there.
    pub fn look_again(&self) {
        self.changed.notify_one();
    }

    /// Those who are connected, or were told to be there.
    #[must_use]
    pub fn known(&self) -> Vec<String> {
        self.lock().seats.keys().cloned().collect()
    }

    /// How somebody is now.
    #[must_use]
    pub fn of(&self, user: &Seated, calls: &[LiveCall], now: Moment) -> OperatorPresence {
        let inner = self.lock();
        let seat = inner.seats.get(&user.id);
        let theirs =
            calls.iter().filter(|call| user.takes_part(call)).map(|call| call.call.clone()).collect::<Vec<_>>();
        let state = state(seat, user.away, !theirs.is_empty(), now);
        let since = seat.filter(|seat| seat.told == Some(state)).and_then(|seat| seat.since);
        OperatorPresence {
            user: user.id.clone(),
            name: user.name.clone(),
            display: user.display.clone(),
            team: user.team.clone(),
            state,
            away: user.away,
            since,
            calls: theirs,
        }
    }

    /// Of these users those who are otherwise than was told before; they are told of from here on. Who is not among the users is there no
    /// more.
    #[must_use]
    pub fn changes(&self, users: &[Seated], calls: &[LiveCall], now: Moment) -> Vec<OperatorPresence> {
        let mut changes = Vec::new();
        for user in users {
            let mut is = self.of(user, calls, now);
            let mut inner = self.lock();
            let Some(seat) = inner.seats.get_mut(&user.id) else { continue };
            let was = (seat.told.unwrap_or(OperatorState::Offline), seat.told_away);
            if was.0 != is.state || seat.told.is_none() {
                seat.since = Some(now);
            }
            let is_other = was != (is.state, is.away) || seat.calls != is.calls;
            (seat.told, seat.told_away) = (Some(is.state), is.away);
            seat.calls.clone_from(&is.calls);
            is.since = seat.since;
            if is_other {
                changes.push(is);
            }
        }
        let is_user = |id: &String| users.iter().any(|user| user.id == *id);
        self.lock()
            .seats
            .retain(|id, seat| is_user(id) && (seat.connections > 0 || seat.told != Some(OperatorState::Offline)));
        changes
    }

    /// Of these queues those that are otherwise than was told before.
    #[must_use]
    pub fn queue_changes(&self, queues: Vec<QueueState>, now: Moment) -> Vec<QueueState> {
        let mut inner = self.lock();
        let mut changes = Vec::new();
        for queue in &queues {
            let told = inner.queues.get(&queue.name);
            let is_other = match told {
                None => queue.waiting > 0,
                Some((before, at)) => {
                    (before.waiting, before.ringing) != (queue.waiting, queue.ringing)
                        || queue.waiting > 0 && now.0 - at.0 >= WAIT_TOLD_EVERY_S * 1_000
                }
            };
            if is_other {
                inner.queues.insert(queue.name.clone(), (queue.clone(), now));
                changes.push(queue.clone());
            }
        }
        inner.queues.retain(|name, _| queues.iter().any(|queue| queue.name == *name));
        changes
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn state(seat: Option<&Seat>, away: bool, is_in_call: bool, now: Moment) -> OperatorState {
    let is_there = seat
        .is_some_and(|seat| seat.connections > 0 || seat.gone_at.is_some_and(|gone| now.0 - gone.0 < GRACE_S * 1_000));
    match (is_in_call, is_there, away) {
        // Who speaks is there, with or without a page.
        (true, _, _) => OperatorState::Busy,
        (false, false, _) => OperatorState::Offline,
        (false, true, true) => OperatorState::Away,
        (false, true, false) => OperatorState::Available,
    }
}

impl Seated {
    /// Whether a call is theirs: their device takes part, or they do from a page.
    fn takes_part(&self, call: &LiveCall) -> bool {
        let rings_for_them = call
            .queue
            .as_ref()
            .is_some_and(|queue| self.device.as_ref().is_some_and(|own| queue.ringing.contains(own)));
        let by_device = self.device.as_ref().is_some_and(|own| call.devices.contains(own));
        by_device && !rings_for_them || call.people.contains(&self.name)
    }
}

/// How many callers wait in each queue, of the calls in progress.
#[must_use]
pub fn queues(queues: &[Queue], calls: &[LiveCall], now: Moment) -> Vec<QueueState> {
    let state = |queue: &Queue| {
        let waiting: Vec<_> =
            calls.iter().filter_map(|call| call.queue.as_ref().filter(|waits| waits.name == queue.name)).collect();
        let first = waiting.iter().map(|waits| waits.since.0).min();
        let mut ringing: Vec<&String> = waiting.iter().flat_map(|waits| &waits.ringing).collect();
        ringing.sort_unstable();
        ringing.dedup();
        QueueState {
            name: queue.name.clone(),
            members: queue.members.clone(),
            waiting: waiting.len(),
            longest_wait_s: first.map_or(0, |first| (now.0 - first).max(0) / 1_000),
            ringing: ringing.len(),
        }
    };
    queues.iter().map(state).collect()
}

/// Tells who comes and goes, and how queues grow, until `stop`.
pub(crate) async fn run(control: &Control, stop: CancellationToken) {
    let mut events = control.live.read(None);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = control.presence.changed.notified() => {}
            () = tokio::time::sleep(LOOKED_EVERY) => {}
            batch = events.next(KEPT) => {
                let Some(batch) = batch else { return };
                if batch.lost.is_none() && !batch.events.iter().any(|event| event.kind.starts_with("call.")) {
                    continue;
                }
            }
        }
        tokio::time::sleep(GATHERED_WITHIN).await;
        if let Err(fault) = look(control, Moment::now()).await {
            tracing::debug!("who is there could not be looked up: {fault}");
        }
    }
}

/// Looks once, and tells what changed.
///
/// # Errors
/// The database's.
pub async fn look(control: &Control, now: Moment) -> Result<(), StoreError> {
    let calls = control.calls.list();
    let known = control.calls.queues();
    if !known.is_empty() {
        control.calls.set_away(control.store.away_devices().await?);
    }
    for queue in control.presence.queue_changes(queues(&known, &calls, now), now) {
        let members = queue.members.clone();
        let data = json!({ "name": queue.name, "waiting": queue.waiting, "longest_wait_s": queue.longest_wait_s,
            "ringing": queue.ringing });
        control.live.tell(now, "queue.changed", "", &members, data);
    }
    let known = control.presence.known();
    if known.is_empty() {
        return Ok(());
    }
    let users = control.store.seated(&known).await?;
    for presence in control.presence.changes(&users, &calls, now) {
        let person = Person { user: presence.user.clone(), team: presence.team.clone() };
        control.live.tell_of(now, "operator.presence", person, &presence);
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::ports::{CallState, Queued};

    fn ada() -> Seated {
        Seated {
            id: "1".into(),
            name: "ada".into(),
            display: "Ada".into(),
            team: None,
            device: Some("a".into()),
            away: false,
        }
    }

    fn call(devices: &[&str], queue: Option<Queued>) -> LiveCall {
        LiveCall {
            call: "c".into(),
            direction: "inbound".into(),
            state: CallState::Up,
            from: String::new(),
            to: String::new(),
            agent: None,
            target: "dial".into(),
            started_at: Moment(0),
            answered_at: None,
            devices: devices.iter().map(ToString::to_string).collect(),
            people: Vec::new(),
            connected: false,
            party: None,
            queue: queue.map(Box::new),
        }
    }

    #[test]
    fn somebody_is_there_with_a_connection_and_for_a_while_after_the_last() {
        let presence = Presence::default();
        let of = |user: &Seated, calls: &[LiveCall], ms| presence.of(user, calls, Moment(ms)).state;
        assert_eq!(of(&ada(), &[], 0), OperatorState::Offline);
        let (first, second) = (presence.connect("1"), presence.connect("1"));
        assert_eq!(of(&ada(), &[], 0), OperatorState::Available);
        assert_eq!(of(&Seated { away: true, ..ada() }, &[], 0), OperatorState::Away);
        drop(first);
        std::mem::forget(second);
        presence.disconnect("1", Moment(5_000));
        assert_eq!(of(&ada(), &[], 5_000 + GRACE_S * 1_000 - 1), OperatorState::Available);
        assert_eq!(of(&ada(), &[], 5_000 + GRACE_S * 1_000), OperatorState::Offline);
        assert_eq!(of(&ada(), &[call(&["a"], None)], 90_000), OperatorState::Busy);
        assert_eq!(of(&ada(), &[call(&["b"], None)], 90_000), OperatorState::Offline);
    }

    #[test]
    fn what_is_as_it_was_is_told_once() {
        let presence = Presence::default();
        let there = presence.connect("1");
        let states = |calls: &[LiveCall], ms| {
            let changes = presence.changes(&[ada()], calls, Moment(ms));
            changes.iter().map(|is| (is.state, is.since.unwrap().0)).collect::<Vec<_>>()
        };
        assert_eq!(states(&[], 1), [(OperatorState::Available, 1)]);
        assert_eq!(states(&[], 2), []);
        assert_eq!(states(&[call(&["a"], None)], 3), [(OperatorState::Busy, 3)]);
        assert_eq!(states(&[], 4), [(OperatorState::Available, 4)]);
        std::mem::forget(there);
        presence.disconnect("1", Moment(5));
        assert_eq!(states(&[], 6), []);
        assert_eq!(states(&[], 5 + GRACE_S * 1_000), [(OperatorState::Offline, 5 + GRACE_S * 1_000)]);
        assert!(presence.known().is_empty(), "nothing is kept of who is gone");
    }

    #[test]
    fn a_queue_counts_those_who_wait_and_the_phones_that_ring() {
        let waits = |since, ringing: &[&str]| Queued {
            name: "desk".into(),
            since: Moment(since),
            ringing: ringing.iter().map(ToString::to_string).collect(),
        };
        let queue = Queue { name: "desk".into(), members: vec!["a".into(), "b".into()] };
        let calls = [
            call(&["a"], Some(waits(4_000, &["a"]))),
            call(&["a", "b"], Some(waits(9_000, &["a", "b"]))),
            call(&["b"], None),
        ];
        let now = Moment(20_500);
        let all = queues(std::slice::from_ref(&queue), &calls, now);
        assert_eq!((all[0].waiting, all[0].longest_wait_s, all[0].ringing), (2, 16, 2));
        // Who is rung for a queue is not in a call of theirs yet.
        assert_eq!(Presence::default().of(&ada(), &calls[..1], now).state, OperatorState::Offline);
        let presence = Presence::default();
        assert_eq!(presence.queue_changes(all.clone(), now).len(), 1);
        assert_eq!(presence.queue_changes(all.clone(), Moment(21_000)).len(), 0);
        assert_eq!(presence.queue_changes(all, Moment(30_500)).len(), 1, "it grows older");
        let empty = queues(std::slice::from_ref(&queue), &[], now);
        assert_eq!(presence.queue_changes(empty.clone(), Moment(31_000)).len(), 1);
        assert_eq!(presence.queue_changes(empty, Moment(60_000)).len(), 0);
    }
}
