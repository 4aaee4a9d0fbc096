//! The end of a call that is a conference's (RFC 4579): its Contact says so, in the next message that has it; a call that stands is refreshed
//! for it, by UPDATE or re-INVITE (RFC 3261 section 12.2, RFC 3311).

use std::time::{Duration, Instant};

use super::Endpoint;
use super::arena::Key;
use super::call::{Call, CallTimer};
use super::commands::CommandError;
use super::event::CallId;
use crate::dialog::reoffer;
use crate::dialog::session::Phase;

/// Says in a Contact that a conference is there.
const FOCUS: &str = ";isfocus";
/// A peer that refuses is told so often.
const TIMES: u8 = 3;
/// One that has not taken it is told again after this long.
const AGAIN_AFTER: Duration = Duration::from_secs(10);
/// Where something else is under way, it is looked again after this long.
const WAITS: Duration = Duration::from_millis(500);

impl Call {
    /// The peer has our Contact as it is now.
    pub(super) fn contact_told(&mut self) {
        self.focus_times = 0;
        self.disarm(CallTimer::Focus);
    }
}

impl Endpoint {
    /// From here on our Contact says that this is a conference's end of the call (`isfocus`, RFC 4579 section 4.2). The peer of a call that
    /// was answered before is told at once.
    ///
    /// # Errors
    /// There is no such call.
    pub fn set_focus(&mut self, now: Instant, call: CallId) -> Result<(), CommandError> {
        let key = self.known(call)?;
        let Some(call) = self.calls.get_mut(key).filter(|call| !call.contact.ends_with(FOCUS)) else { return Ok(()) };
        call.contact.push_str(FOCUS);
        self.tell_peer(now, key);
        Ok(())
    }

    /// The peer of a call that was answered is told by a refresh what has changed on our side.
    pub(super) fn tell_peer(&mut self, now: Instant, key: Key) {
        let Some(call) = self.calls.get_mut(key) else { return };
        if matches!(call.phase, Phase::Answered | Phase::Established) {
            call.focus_times = TIMES;
            call.arm(CallTimer::Focus, now);
            self.arm_call(now, key);
        }
    }

    /// The peer is to be told; once the call stands, and nothing else of it is being settled.
    pub(super) fn focus_due(&mut self, now: Instant, key: Key) {
        let Some(call) = self.calls.get_mut(key).filter(|call| call.focus_times > 0) else { return };
        match call.phase {
            Phase::Established if call.reoffer == reoffer::State::Quiet => {
                call.focus_times -= 1;
                call.arm(CallTimer::Focus, now + AGAIN_AFTER);
                self.send_refresh(now, key);
            }
            Phase::Answered | Phase::Established => call.arm(CallTimer::Focus, now + WAITS),
            _ => {}
        }
    }
}
