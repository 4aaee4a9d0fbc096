//! Replaces (RFC 3891): which call a new one is to take the place of; and calls by what identifies them on the wire.

use std::sync::Arc;

use super::Endpoint;
use super::arena::Key;
use super::call::id;
use super::event::{CallId, ReplacesTarget};
use super::validate::Refusal;
use crate::dialog::session::Phase;
use crate::headers::{Name, Replaces};
use crate::message::Message;

/// What identifies a call on the wire, as we see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DialogIdentity {
    /// Call-ID.
    pub call_id: String,
    /// Our tag.
    pub local_tag: String,
    /// The peer's tag; empty while it has none.
    pub remote_tag: String,
}

impl DialogIdentity {
    /// What a third party has to tell *the peer* of this call to replace it: the peer's tag is the receiver's, so it is the
    /// `to-tag` (section 3).
    #[must_use]
    pub fn replaces(&self) -> Replaces {
        let tag = |tag: &str| if tag.is_empty() { "0".to_owned() } else { tag.to_owned() };
        Replaces {
            call_id: self.call_id.clone(),
            to_tag: tag(&self.remote_tag),
            from_tag: tag(&self.local_tag),
            early_only: false,
        }
    }
}

impl Endpoint {
    /// What identifies a call on the wire; `None` for one that is over. One that rings is identified by the first phone that rang.
    pub fn dialog_identity(&self, call: CallId) -> Option<DialogIdentity> {
        let call = self.calls.get(Key::from_u64(call.0))?;
        let dialog = call.early.first().map_or(&call.dialog, |early| &early.dialog);
        Some(DialogIdentity {
            call_id: dialog.call_id.clone(),
            local_tag: dialog.local_tag.clone(),
            remote_tag: dialog.remote_tag.clone(),
        })
    }

    /// The call of a dialog: `to_tag` is ours, `from_tag` the peer's, as in a Replaces header that we receive. `0` stands
    /// for no tag as well (section 6.1).
    pub fn find_call(&self, call_id: &str, to_tag: &str, from_tag: &str) -> Option<CallId> {
        let local = [to_tag].into_iter().chain((to_tag == "0").then_some(""));
        let found = local.into_iter().find_map(|local| {
            let remote = [from_tag].into_iter().chain((from_tag == "0").then_some(""));
            remote
                .into_iter()
                .find_map(|remote| self.dialogs.get(&self.dialog_fingerprint(call_id, local, remote)).copied())
        });
        found.map(id)
    }

    /// The call that an INVITE is to replace: section 3, in that section's order.
    pub(super) fn replaced(&self, invite: &Arc<Message>) -> Result<Option<ReplacesTarget>, Refusal> {
        let mut values = invite.headers(Name::Replaces);
        let Some(value) = values.next() else { return Ok(None) };
        if values.next().is_some() || invite.header_named("Join").is_some() {
            return Err(Refusal::new(400));
        }
        let replaces = Replaces::parse(value).map_err(|_| Refusal::new(400))?;
        // Phones that read the tags out of a dialog-info document of somebody else's have them the other way round.
        let found = self
            .find_call(&replaces.call_id, &replaces.to_tag, &replaces.from_tag)
            .or_else(|| self.find_call(&replaces.call_id, &replaces.from_tag, &replaces.to_tag));
        let phase = found.and_then(|call| self.calls.get(Key::from_u64(call.0))).map(|call| call.phase);
        let (Some(call), Some(phase)) = (found, phase) else { return Err(Refusal::new(481)) };
        let target = ReplacesTarget { call, early_only: replaces.early_only };
        match phase {
            Phase::Established | Phase::Answered if replaces.early_only => Err(Refusal::new(486)),
            Phase::Established | Phase::Answered => Ok(Some(target)),
            Phase::AnsweredLeaving | Phase::Leaving | Phase::Ended => Err(Refusal::new(603)),
            // An early dialog: it may be replaced where we placed the call, not where the peer did.
            Phase::Calling | Phase::Ringing => Ok(Some(target)),
            Phase::CallingLeaving | Phase::Cancelling => Err(Refusal::new(603)),
            Phase::Incoming => Err(Refusal::new(481)),
        }
    }
}
