//! A call's turns. Calls may last for hours and have thousands of them: those of which nothing more will be learnt are kept packed, as
//! compressed JSON, which takes about an eighth.

use std::io::{Error, Read, Write};

use agent::session::TurnRecord;
use agent::tool::ToolRecord;
use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;

/// So many turns are packed at once.
const PACKED_AT_ONCE: usize = 64;
/// The latest turns are not packed: what comes of their tools is learnt later.
const LATEST: usize = 16;

/// The turns so far.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// [`PACKED_AT_ONCE`] in each.
    packed: Vec<Box<[u8]>>,
    latest: Vec<TurnRecord>,
}

impl Turns {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.packed.len() * PACKED_AT_ONCE + self.latest.len()
    }

    pub(super) fn push(&mut self, turn: TurnRecord) {
        self.latest.push(turn);
        if self.latest.len() < LATEST + PACKED_AT_ONCE {
            return;
        }
        let Some(settled) = self.latest.get(..PACKED_AT_ONCE) else { return };
        if settled.iter().flat_map(|turn| &turn.tools).any(ToolRecord::is_open) {
            return;
        }
        match pack(settled) {
            Ok(packed) => {
                self.packed.push(packed);
                self.latest.drain(..PACKED_AT_ONCE);
            }
            Err(fault) => tracing::error!("turns of a call cannot be packed, and are kept as they are: {fault}"),
        }
    }

    /// One of the latest.
    pub(super) fn get(&self, index: u32) -> Option<&TurnRecord> {
        self.latest.iter().rev().find(|turn| turn.index == index)
    }

    /// The same, to be changed.
    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut TurnRecord> {
        self.latest.iter_mut().rev().find(|turn| turn.index == index)
    }

    /// The latest, in order.
    pub(super) fn latest(&self, count: usize) -> Vec<TurnRecord> {
        let mut latest = std::collections::VecDeque::from(self.latest.clone());
        for packed in self.packed.iter().rev() {
            if latest.len() >= count {
                break;
            }
            for turn in unpack(packed).unwrap_or_default().into_iter().rev() {
                latest.push_front(turn);
            }
        }
        latest.drain(..latest.len().saturating_sub(count));
        latest.into()
    }

    /// All of them, in order.
    pub(super) fn into_records(self) -> Vec<TurnRecord> {
        let mut all = Vec::with_capacity(self.len());
        for packed in &self.packed {
            match unpack(packed) {
                Ok(turns) => all.extend(turns),
                Err(fault) => tracing::error!("turns of a call cannot be unpacked, and are lost: {fault}"),
            }
        }
        all.extend(self.latest);
        all
    }
}

fn pack(turns: &[TurnRecord]) -> Result<Box<[u8]>, Error> {
    let mut packed = DeflateEncoder::new(Vec::new(), Compression::default());
    packed.write_all(&serde_json::to_vec(turns)?)?;
    Ok(packed.finish()?.into_boxed_slice())
}

fn unpack(packed: &[u8]) -> Result<Vec<TurnRecord>, Error> {
    let mut json = Vec::new();
    DeflateDecoder::new(packed).read_to_end(&mut json)?;
    Ok(serde_json::from_slice(&json)?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use agent::tool::{AskedBy, ToolAsk};

    use super::*;

    fn turn(index: u32) -> TurnRecord {
        let turn = serde_json::json!({
            "index": index, "who": if index.is_multiple_of(2) { "agent" } else { "caller" }, "text": format!("number {index}, déjà dit"),
            "started_ms": f64::from(index) * 1_000.5, "ended_ms": f64::from(index) * 1_000.5 + 0.25, "gap_ms": 321.25, "stages": {},
            "interrupted": false, "matched": null, "confidence": 0.75, "by": "keys", "ahead": true
        });
        serde_json::from_value(turn).unwrap()
    }

    #[test]
    fn many_turns_come_back_as_they_were_and_take_little_meanwhile() {
        let mut turns = Turns::default();
        (0..1_000).for_each(|index| turns.push(turn(index)));
        assert_eq!((turns.len(), turns.get(999), turns.get(3)), (1_000, Some(&turn(999)), None));
        let packed: usize = turns.packed.iter().map(|packed| packed.len()).sum();
        assert!(turns.latest.len() < LATEST + PACKED_AT_ONCE && packed < 60_000, "{packed} bytes");
        for count in [0, 1, 100, 400, 2_000] {
            let wanted: Vec<_> = (1_000 - count.min(1_000)..1_000).map(turn).collect();
            assert_eq!(turns.latest(count as usize), wanted, "{count}");
        }
        assert_eq!(turns.into_records(), (0..1_000).map(turn).collect::<Vec<_>>());
    }

    #[test]
    fn a_turn_whose_tool_is_under_way_waits_for_it() {
        let mut turns = Turns::default();
        let tool = ToolRecord::new(ToolAsk::new("transfer_call", "{}", AskedBy::Script), 1.5);
        turns.push(TurnRecord { tools: vec![tool], ..turn(0) });
        (1..500).for_each(|index| turns.push(turn(index)));
        turns.get_mut(0).unwrap().tools[0].settle(None);
        turns.push(turn(500));
        assert_eq!((turns.get(0), turns.len()), (None, 501));
        let all = turns.into_records();
        assert!(!all[0].tools[0].is_open() && all[500] == turn(500));
    }
}
