//! The caller holds the call: the agent falls silent and waits, and goes on when they are back.

use super::{Awaited, Run};
use crate::line::Line;
use crate::session::clock::millis;
use crate::session::event::SessionEvent;
use crate::turn::TurnInput;

impl Run {
    /// Whether the caller is here may have changed.
    pub(super) fn settle_hold<L: Line>(&mut self, line: &mut L) {
        let on = line.is_held();
        if self.on_hold == on {
            return;
        }
        self.tell(SessionEvent::Held { on, at_ms: millis(self.now) });
        match on {
            true => self.stop_for_hold(line),
            false => self.go_on(line),
        }
    }

    /// What the caller has said, also a moment ago, is answered, and the answer said when they are back.
    fn stop_for_hold<L: Line>(&mut self, line: &mut L) {
        self.machine.receive(self.now, TurnInput::Away);
        self.follow(line);
        self.on_hold = true;
        if let Some(reply) = self.current.as_mut().filter(|reply| reply.released) {
            reply.speaking.cut(line);
        }
    }

    fn go_on<L: Line>(&mut self, line: &mut L) {
        self.on_hold = false;
        self.machine.receive(self.now, TurnInput::Back);
        // What they cut off for something that the recogniser still makes out is gone on with only where that was nothing.
        let is_decided = !matches!(self.awaited, Some(Awaited::Turn(_)));
        let Some(reply) = self.current.as_mut().filter(|reply| reply.released && (is_decided || !reply.cut)) else {
            return;
        };
        reply.speaking.resume_sentence(line);
        self.speaks_on();
    }
}
