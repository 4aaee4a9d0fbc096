//! A fault of this program (a panic, of ours or of code that we are embedded in) is the end of the call in which it happens, and of no other:
//! its peers are told, and its record is written.

use std::panic::AssertUnwindSafe;

use futures::FutureExt as _;

use super::Driver;
use crate::call::end::{End, EndReason};
use crate::call::{Step, ending};

impl Driver {
    /// Drives the call to its end, or to the fault that ends it.
    pub(super) async fn drive_safely(&mut self, begin: Step) -> End {
        // What a panic leaves in pieces is not looked at again, see `break_off`.
        if let Ok(end) = AssertUnwindSafe(self.drive(begin)).catch_unwind().await {
            return end;
        }
        metrics::counter!("omnivox_panics_total", "part" => "call").increment(1);
        tracing::error!(call = %self.log.id(), "call {}: a fault of this program ends it", self.log.id());
        let end = End::new(EndReason::Internal).with_detail("a fault of this program");
        let begin = self.break_off(end.clone());
        AssertUnwindSafe(self.drive(begin)).catch_unwind().await.unwrap_or(end)
    }

    /// Hangs up, and leaves what was under way.
    fn break_off(&mut self, end: End) -> Step {
        self.queue.clear();
        self.postponed.clear();
        self.early.clear();
        self.timers.clear();
        self.observations.clear();
        self.finding = None;
        for leg in &mut self.legs {
            // Whoever holds the line may be what panicked, and may not be asked for anything again.
            drop(leg.line.take_conversation());
        }
        ending::begin(end, &self.view(&self.leg_views()))
    }
}
