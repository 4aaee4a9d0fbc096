//! Packets by index, and their payloads in one ring of bytes.
//!
//! A packet lies in slot `index mod slots`, so finding one takes no search. Payloads are put one behind the other in
//! the arena, whatever their sizes, and leave it in order of arrival: what is still wanted when its place is needed is
//! the oldest, and goes.

/// The ear wants the packet.
pub(super) const EAR: u8 = 1;
/// Playout wants the packet.
pub(super) const PLAYOUT: u8 = 2;

/// One packet's numbers; its payload is in the arena.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Slot {
    pub(super) position: u64,
    pub(super) index: u32,
    pub(super) timestamp: u32,
    pub(super) arrival_us: u32,
    pub(super) ticks: u16,
    pub(super) seq: u16,
    pub(super) offset: u16,
    pub(super) size_bytes: u16,
    pub(super) payload_type: u8,
    pub(super) marker: bool,
    /// Which readers still want it: [`EAR`], [`PLAYOUT`].
    pub(super) wanted: u8,
    /// Whether there ever was a packet.
    pub(super) filled: bool,
}

/// A payload's place, in order of arrival. It is over when the slot has another payload or nobody wants it.
#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    slot: u8,
    offset: u16,
}

#[derive(Debug)]
pub(super) struct Store {
    slots: Box<[Slot]>,
    arena: Box<[u8]>,
    /// A ring of as many entries as slots.
    order: Box<[Entry]>,
    order_first: usize,
    order_len: usize,
    /// Where the next payload goes.
    head: usize,
}

impl Store {
    /// `slots` is a power of two of at most 256.
    pub(super) fn new(slots: usize, arena_bytes: usize) -> Store {
        Store {
            slots: vec![Slot::default(); slots].into_boxed_slice(),
            arena: vec![0; arena_bytes].into_boxed_slice(),
            order: vec![Entry::default(); slots].into_boxed_slice(),
            order_first: 0,
            order_len: 0,
            head: 0,
        }
    }

    pub(super) fn slots(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn heap_bytes(&self) -> usize {
        size_of_val(&*self.slots) + size_of_val(&*self.order) + self.arena.len()
    }

    /// Puts a packet in; returns how many that were still wanted had to go. The payload is at most the arena's size.
    pub(super) fn insert(&mut self, slot: Slot, payload: &[u8]) -> u32 {
        let Some((offset, mut dropped)) = self.reserve(payload.len().max(1)) else { return 1 };
        if let Some(place) = self.arena.get_mut(offset..offset + payload.len()) {
            place.copy_from_slice(payload);
        }
        let at = self.at(slot.index);
        if let Some(place) = self.slots.get_mut(at) {
            dropped += u32::from(place.wanted != 0);
            *place = Slot { offset: offset as u16, size_bytes: payload.len() as u16, filled: true, ..slot };
        }
        let end = (self.order_first + self.order_len) % self.order.len();
        if let Some(entry) = self.order.get_mut(end) {
            *entry = Entry { slot: at as u8, offset: offset as u16 };
            self.order_len += 1;
        }
        dropped
    }

    /// The packet, if `reader` still wants it.
    pub(super) fn peek(&self, index: u32, reader: u8) -> Option<&Slot> {
        self.slots.get(self.at(index)).filter(|slot| slot.index == index && slot.wanted & reader != 0)
    }

    /// Gives the packet to `reader`, which wants it no more; its payload stays readable until the next insertion.
    pub(super) fn take(&mut self, index: u32, reader: u8) -> Option<Slot> {
        let at = self.at(index);
        let slot = self.slots.get_mut(at).filter(|slot| slot.index == index && slot.wanted & reader != 0)?;
        slot.wanted &= !reader;
        Some(*slot)
    }

    /// `reader` wants none of what is here.
    pub(super) fn release(&mut self, reader: u8) {
        for slot in &mut self.slots {
            slot.wanted &= !reader;
        }
    }

    /// The packet's numbers, wanted or not, as long as no other took its slot.
    pub(super) fn any(&self, index: u32) -> Option<&Slot> {
        self.slots.get(self.at(index)).filter(|slot| slot.filled && slot.index == index)
    }

    pub(super) fn payload(&self, slot: &Slot) -> &[u8] {
        let start = usize::from(slot.offset);
        self.arena.get(start..start + usize::from(slot.size_bytes)).unwrap_or(&[])
    }

    fn at(&self, index: u32) -> usize {
        index as usize & (self.slots.len() - 1)
    }

    /// Makes room for `size_bytes` in one piece; returns where, and how many wanted packets went for it.
    fn reserve(&mut self, size_bytes: usize) -> Option<(usize, u32)> {
        if size_bytes > self.arena.len() {
            return None;
        }
        let mut dropped = 0;
        loop {
            self.drop_unwanted();
            if self.order_len < self.order.len()
                && let Some(offset) = self.room(size_bytes)
            {
                self.head = offset + size_bytes;
                return Some((offset, dropped));
            }
            dropped += u32::from(self.drop_oldest());
        }
    }

    /// Where `size_bytes` fit without touching what is held: behind the newest payload, or at the front before the oldest.
    fn room(&self, size_bytes: usize) -> Option<usize> {
        let Some(oldest) = self.oldest() else { return Some(0) };
        let tail = usize::from(oldest.offset);
        if self.head > tail {
            if self.arena.len() - self.head >= size_bytes {
                return Some(self.head);
            }
            return (tail >= size_bytes).then_some(0);
        }
        (tail - self.head >= size_bytes).then_some(self.head)
    }

    fn oldest(&self) -> Option<Entry> {
        if self.order_len == 0 { None } else { self.order.get(self.order_first).copied() }
    }

    fn drop_unwanted(&mut self) {
        while let Some(entry) = self.oldest() {
            let held = self
                .slots
                .get(usize::from(entry.slot))
                .is_some_and(|slot| slot.wanted != 0 && slot.offset == entry.offset);
            if held {
                return;
            }
            self.pop_order();
        }
    }

    /// Drops the packet that came first; returns whether somebody still wanted it.
    fn drop_oldest(&mut self) -> bool {
        let Some(entry) = self.oldest() else { return false };
        self.pop_order();
        match self.slots.get_mut(usize::from(entry.slot)) {
            Some(slot) if slot.offset == entry.offset && slot.wanted != 0 => {
                slot.wanted = 0;
                true
            }
            _ => false,
        }
    }

    fn pop_order(&mut self) {
        self.order_first = (self.order_first + 1) % self.order.len();
        self.order_len -= 1;
    }
}
