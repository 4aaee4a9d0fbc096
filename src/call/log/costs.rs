//! What a call uses of those who are paid by use.

use std::time::SystemTime;

use super::CallLog;
use crate::call::LegNo;
use crate::call::cost::TrunkLeg;
use crate::call::record::CallDirection;
use crate::call::sound::user_of;
use crate::config::TrunkDirection;

impl CallLog {
    /// The legs by trunks that were answered, a call that is over now.
    pub(super) fn trunk_legs(&self, now: SystemTime) -> Vec<TrunkLeg> {
        let ms = |from: SystemTime, until: SystemTime| {
            u64::try_from(until.duration_since(from).unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
        };
        let at = |text: &String| humantime::parse_rfc3339(text).ok();
        let mut legs = Vec::new();
        if let (CallDirection::Inbound, Some(trunk), Some(answered)) =
            (self.record.direction, &self.record.trunk, self.answered)
        {
            let (direction, number) = (TrunkDirection::In, user_of(&self.record.to));
            let up_ms = ms(answered, self.left.unwrap_or(now));
            legs.push(TrunkLeg { leg: LegNo::FIRST.0, trunk: trunk.clone(), direction, number, up_ms });
        }
        legs.extend(self.record.legs.iter().filter_map(|leg| {
            let trunk = leg.label.strip_prefix("trunk ")?.to_owned();
            let answered = leg.answered_at.as_ref().and_then(at)?;
            let ended = leg.ended_at.as_ref().and_then(at).unwrap_or(now);
            let (direction, number) = (TrunkDirection::Out, user_of(&leg.uri));
            Some(TrunkLeg { leg: leg.leg, trunk, direction, number, up_ms: ms(answered, ended) })
        }));
        legs
    }
}
