//! Timers: the RFC 3261 spans, a small table per state machine, and one wheel for all machines of an endpoint.
//!
//! A machine writes its deadlines into its [`TimerTable`]; the endpoint puts the earliest of them on the [`TimerWheel`].
//! The wheel is lazy: a deadline that was moved back or cleared is not searched for, its entry is found stale when it is
//! due. So arming and clearing cost nothing but a store, and a machine has about one entry on the wheel at a time.
//!
//! Invariants: a timer never fires early, and at most [`TICK`] late; the wheel allocates only while the number of
//! entries grows.

use std::time::{Duration, Instant};

/// The base spans that all SIP timers are multiples of (RFC 3261, table 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timings {
    /// Estimated round-trip time; first retransmission.
    pub t1: Duration,
    /// Longest interval between retransmissions.
    pub t2: Duration,
    /// Longest time a message stays in the network.
    pub t4: Duration,
    /// Timer D: how long a client transaction absorbs repeated failures over UDP (at least 32 s).
    pub d: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            t1: Duration::from_millis(500),
            t2: Duration::from_secs(4),
            t4: Duration::from_secs(5),
            d: Duration::from_secs(32),
        }
    }
}

impl Timings {
    /// 64 times T1: how long a transaction waits in all.
    pub fn t1_times_64(&self) -> Duration {
        self.t1 * 64
    }
}

/// The deadlines of one state machine, indexed by an enum of `N` names (cast to `usize`).
///
/// An index at or beyond `N` is ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimerTable<const N: usize> {
    deadlines: [Option<Instant>; N],
    queued: Option<Instant>,
}

impl<const N: usize> Default for TimerTable<N> {
    fn default() -> Self {
        Self { deadlines: [None; N], queued: None }
    }
}

impl<const N: usize> TimerTable<N> {
    /// Arms a timer, or moves it.
    pub fn set(&mut self, index: usize, at: Instant) {
        if let Some(slot) = self.deadlines.get_mut(index) {
            *slot = Some(at);
        }
    }

    /// Disarms a timer.
    pub fn clear(&mut self, index: usize) {
        if let Some(slot) = self.deadlines.get_mut(index) {
            *slot = None;
        }
    }

    /// Disarms all timers.
    pub fn clear_all(&mut self) {
        self.deadlines = [None; N];
    }

    /// When a timer is due, if it is armed.
    pub fn deadline(&self, index: usize) -> Option<Instant> {
        self.deadlines.get(index).copied().flatten()
    }

    /// The first deadline of all.
    pub fn earliest(&self) -> Option<Instant> {
        self.deadlines.iter().flatten().min().copied()
    }

    /// Disarms and names the earliest timer that is due at `now`.
    pub fn take_due(&mut self, now: Instant) -> Option<usize> {
        let (index, at) = self
            .deadlines
            .iter()
            .enumerate()
            .filter_map(|(index, at)| at.map(|at| (index, at)))
            .min_by_key(|(_, at)| *at)?;
        if at > now {
            return None;
        }
        self.clear(index);
        Some(index)
    }

    /// Puts this table's first deadline on the wheel, unless an entry that is early enough is there already.
    pub fn enqueue(&mut self, wheel: &mut TimerWheel, now: Instant, key: u64) {
        let Some(earliest) = self.earliest() else { return };
        if self.queued.is_none_or(|queued| earliest < queued) {
            self.queued = Some(earliest);
            wheel.insert(now, earliest, key);
        }
    }

    /// To be called when the wheel hands this table's key back: whether the entry was the table's current one.
    pub fn dequeue(&mut self, now: Instant) -> bool {
        match self.queued {
            Some(queued) if queued <= now => {
                self.queued = None;
                true
            }
            _ => false,
        }
    }
}

/// The wheel's resolution: deadlines are rounded up to it, so that many timers share one wake-up.
pub const TICK: Duration = Duration::from_millis(10);

/// Slots of the wheel: 40.96 s, more than the 32 s that most transactions linger. Later deadlines go round again.
const SLOTS: usize = 4096;
const WORDS: usize = SLOTS / 64;
const NIL: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
struct Entry {
    tick: u64,
    key: u64,
    next: u32,
}

/// A hashed timing wheel: insertion in constant time, expiry in time proportional to what expires.
#[derive(Debug)]
pub struct TimerWheel {
    origin: Option<Instant>,
    /// All slots up to this tick have been emptied of what was due.
    cursor: u64,
    heads: Vec<u32>,
    occupied: [u64; WORDS],
    entries: Vec<Entry>,
    free: u32,
    len: usize,
}

impl Default for TimerWheel {
    fn default() -> Self {
        Self {
            origin: None,
            cursor: 0,
            heads: vec![NIL; SLOTS],
            occupied: [0; WORDS],
            entries: Vec::new(),
            free: NIL,
            len: 0,
        }
    }
}

impl TimerWheel {
    /// Entries on the wheel, stale ones included.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is on the wheel.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Puts `key` on the wheel, to come out of [`expire`](Self::expire) at the first tick not before `deadline`.
    pub fn insert(&mut self, now: Instant, deadline: Instant, key: u64) {
        let origin = *self.origin.get_or_insert(now);
        if self.len == 0 {
            self.cursor = self.cursor.max(tick_floor(origin, now));
        }
        let tick = tick_ceil(origin, deadline).max(self.cursor + 1);
        let slot = slot_of(tick);
        let head = self.heads.get(slot).copied().unwrap_or(NIL);
        let index = self.store(Entry { tick, key, next: head });
        if let Some(head) = self.heads.get_mut(slot) {
            *head = index;
        }
        if let Some(word) = self.occupied.get_mut(slot / 64) {
            *word |= 1 << (slot % 64);
        }
        self.len += 1;
    }

    /// When [`expire`](Self::expire) should be called next. It may be a little earlier than the first deadline, where
    /// that lies more than a turn of the wheel ahead.
    pub fn next_wake(&self) -> Option<Instant> {
        let origin = self.origin?;
        if self.len == 0 {
            return None;
        }
        let first = self.cursor + 1;
        let distance = self.distance_to_occupied(slot_of(first))?;
        Some(origin + Duration::from_millis(TICK.as_millis() as u64 * (first + distance)))
    }

    /// Takes off what is due at `now` and appends the keys to `due`.
    pub fn expire(&mut self, now: Instant, due: &mut Vec<u64>) {
        let Some(origin) = self.origin else { return };
        let until = tick_floor(origin, now);
        let mut tick = self.cursor + 1;
        let mut turns_left = SLOTS as u64;
        while tick <= until && self.len > 0 && turns_left > 0 {
            let Some(distance) = self.distance_to_occupied(slot_of(tick)) else { break };
            if distance >= turns_left || tick + distance > until {
                break;
            }
            tick += distance;
            self.empty_slot(slot_of(tick), until, due);
            tick += 1;
            turns_left -= distance + 1;
        }
        self.cursor = self.cursor.max(until);
    }

    fn empty_slot(&mut self, slot: usize, until: u64, due: &mut Vec<u64>) {
        let Some(head) = self.heads.get_mut(slot) else { return };
        let mut index = std::mem::replace(head, NIL);
        let mut kept = NIL;
        while let Some(entry) = self.entries.get_mut(index as usize) {
            let following = entry.next;
            if entry.tick <= until {
                due.push(entry.key);
                entry.next = self.free;
                self.free = index;
                self.len -= 1;
            } else {
                entry.next = kept;
                kept = index;
            }
            index = following;
        }
        if let Some(head) = self.heads.get_mut(slot) {
            *head = kept;
        }
        if kept == NIL
            && let Some(word) = self.occupied.get_mut(slot / 64)
        {
            *word &= !(1 << (slot % 64));
        }
    }

    fn store(&mut self, entry: Entry) -> u32 {
        let index = self.free;
        if let Some(slot) = self.entries.get_mut(index as usize) {
            self.free = slot.next;
            *slot = entry;
            return index;
        }
        self.entries.push(entry);
        u32::try_from(self.entries.len() - 1).unwrap_or(NIL)
    }

    /// Slots from `start`, going round, to the first that holds an entry.
    fn distance_to_occupied(&self, start: usize) -> Option<u64> {
        let first_word = start / 64;
        let first_bits = self.occupied.get(first_word)? >> (start % 64);
        if first_bits != 0 {
            return Some(u64::from(first_bits.trailing_zeros()));
        }
        for step in 1..=WORDS {
            let bits = *self.occupied.get((first_word + step) % WORDS)?;
            if bits != 0 {
                let distance = step * 64 - start % 64 + bits.trailing_zeros() as usize;
                return Some(distance as u64);
            }
        }
        None
    }
}

fn slot_of(tick: u64) -> usize {
    (tick % SLOTS as u64) as usize
}

fn tick_floor(origin: Instant, at: Instant) -> u64 {
    (at.saturating_duration_since(origin).as_nanos() / TICK.as_nanos()) as u64
}

fn tick_ceil(origin: Instant, at: Instant) -> u64 {
    at.saturating_duration_since(origin).as_nanos().div_ceil(TICK.as_nanos()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(wheel: &mut TimerWheel, now: Instant) -> Vec<u64> {
        let mut due = Vec::new();
        wheel.expire(now, &mut due);
        due.sort_unstable();
        due
    }

    #[test]
    fn a_timer_fires_at_its_deadline_and_not_before() {
        let start = Instant::now();
        let mut wheel = TimerWheel::default();
        wheel.insert(start, start + Duration::from_millis(500), 7);
        assert_eq!(wheel.next_wake(), Some(start + Duration::from_millis(500)));
        assert!(drain(&mut wheel, start + Duration::from_millis(499)).is_empty());
        assert_eq!(drain(&mut wheel, start + Duration::from_millis(500)), [7]);
        assert!(wheel.is_empty());
        assert_eq!(wheel.next_wake(), None);
    }

    #[test]
    fn a_deadline_in_the_past_fires_at_the_next_tick() {
        let start = Instant::now();
        let mut wheel = TimerWheel::default();
        wheel.insert(start, start, 1);
        wheel.expire(start + Duration::from_secs(1), &mut Vec::new());
        wheel.insert(start + Duration::from_secs(1), start, 2);
        assert_eq!(drain(&mut wheel, start + Duration::from_millis(1010)), [2]);
    }

    #[test]
    fn deadlines_beyond_a_turn_of_the_wheel_wait_their_turn() {
        let start = Instant::now();
        let mut wheel = TimerWheel::default();
        wheel.insert(start, start + Duration::from_secs(180), 1);
        let mut now = start;
        let mut wakes = 0;
        while let Some(wake) = wheel.next_wake() {
            assert!(wake > now);
            now = wake;
            wakes += 1;
            if !drain(&mut wheel, now).is_empty() {
                break;
            }
        }
        assert_eq!(now, start + Duration::from_secs(180));
        assert!(wakes <= 5, "{wakes} wake-ups");
    }

    #[test]
    fn a_long_pause_misses_nothing() {
        let start = Instant::now();
        let mut wheel = TimerWheel::default();
        for key in 0..5000 {
            wheel.insert(start, start + Duration::from_millis(key * 13), key);
        }
        assert_eq!(drain(&mut wheel, start + Duration::from_secs(3600)).len(), 5000);
        wheel.insert(start + Duration::from_secs(3600), start + Duration::from_secs(3601), 1);
        assert_eq!(wheel.next_wake(), Some(start + Duration::from_secs(3601)));
    }

    #[test]
    fn random_deadlines_fire_in_order_each_once() {
        let start = Instant::now();
        let mut wheel = TimerWheel::default();
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut deadlines = Vec::new();
        for key in 0..2000u64 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let deadline = start + Duration::from_millis(random % 90_000);
            deadlines.push(deadline);
            wheel.insert(start, deadline, key);
        }
        let mut seen = vec![false; 2000];
        while let Some(now) = wheel.next_wake() {
            for key in drain(&mut wheel, now) {
                let deadline = deadlines[key as usize];
                assert!(deadline <= now && now < deadline + TICK);
                assert!(!std::mem::replace(&mut seen[key as usize], true));
            }
        }
        assert!(seen.iter().all(|seen| *seen));
    }

    #[test]
    fn entries_are_reused() {
        let start = Instant::now();
        let mut wheel = TimerWheel::default();
        for round in 0..1000u64 {
            let now = start + Duration::from_secs(round);
            wheel.insert(now, now + Duration::from_millis(20), round);
            assert_eq!(drain(&mut wheel, now + Duration::from_millis(20)), [round]);
        }
        assert_eq!(wheel.entries.len(), 1);
    }

    #[test]
    fn a_table_names_its_due_timers_in_order() {
        let start = Instant::now();
        let mut table = TimerTable::<3>::default();
        table.set(0, start + Duration::from_millis(30));
        table.set(2, start + Duration::from_millis(20));
        assert_eq!(table.earliest(), Some(start + Duration::from_millis(20)));
        assert_eq!(table.take_due(start), None);
        assert_eq!(table.take_due(start + Duration::from_millis(40)), Some(2));
        assert_eq!(table.take_due(start + Duration::from_millis(40)), Some(0));
        assert_eq!(table.take_due(start + Duration::from_millis(40)), None);
    }

    #[test]
    fn a_timer_moved_back_leaves_one_stale_entry_at_most() {
        let start = Instant::now();
        let mut wheel = TimerWheel::default();
        let mut table = TimerTable::<1>::default();
        for ms in [500, 1000, 2000, 32_000] {
            table.set(0, start + Duration::from_millis(ms));
            table.enqueue(&mut wheel, start, 9);
        }
        assert_eq!(wheel.len(), 1);
        let now = start + Duration::from_millis(500);
        assert_eq!(drain(&mut wheel, now), [9]);
        assert!(table.dequeue(now));
        assert_eq!(table.take_due(now), None);
        table.enqueue(&mut wheel, now, 9);
        assert_eq!(wheel.next_wake(), Some(start + Duration::from_secs(32)));
    }
}
