//! What a call uses of those who are paid by use.

use std::time::SystemTime;

use super::CallLog;
use crate::call::LegNo;
use crate::call::cost::{self, CostRecord, TrunkLeg};
use crate::config::{PricesConfig, TrunkDirection};
use sip::uri::user_of;

/// Legs by trunks that are charged in one call; later ones are not, and what it costs is said to be a part.
const TRUNK_LEGS_LIMIT: usize = 256;

impl CallLog {
    /// A leg is called by a trunk, or calls by one.
    pub(super) fn goes_by_trunk(&mut self, no: LegNo, trunk: &str, direction: TrunkDirection, uri: &str) {
        let (trunk, number) = (trunk.to_owned(), user_of(uri));
        let leg = TrunkLeg { leg: no.0, trunk, direction, number, answered: None, came: None, left: None };
        self.charge(leg);
    }

    /// A leg has come from another call, which was charged for it up to then.
    pub(super) fn goes_on_by_trunk(&mut self, no: LegNo, leg: TrunkLeg) {
        self.charge(TrunkLeg { leg: no.0, ..leg });
    }

    fn charge(&mut self, leg: TrunkLeg) {
        if self.by_trunks.len() < TRUNK_LEGS_LIMIT {
            self.by_trunks.push(leg);
        } else {
            self.has_uncharged = true;
        }
    }

    /// The leg by a trunk of this number that is here.
    pub(super) fn by_trunk(&mut self, no: LegNo) -> Option<&mut TrunkLeg> {
        self.by_trunks.iter_mut().find(|leg| leg.leg == no.0 && leg.left.is_none())
    }

    /// A leg by a trunk as the call goes on with it that it goes to.
    #[must_use]
    pub fn handed_over(&mut self, no: LegNo, now: SystemTime) -> Option<TrunkLeg> {
        self.by_trunk(no).map(|leg| leg.handed_over(now))
    }

    /// A leg is here no more; who was never answered is not charged.
    pub(super) fn left_trunk(&mut self, no: LegNo, now: SystemTime) {
        if let Some(leg) = self.by_trunk(no) {
            leg.left = Some(now);
            self.by_trunks.retain(|leg| leg.answered.is_some() || leg.left.is_none());
        }
    }

    pub(super) fn cost(&self, prices: &PricesConfig, now: SystemTime) -> Option<CostRecord> {
        let mut cost = cost::settle(prices, &self.usage(), &self.by_trunks, now)?;
        cost.is_partial |= self.has_uncharged;
        Some(cost)
    }
}
