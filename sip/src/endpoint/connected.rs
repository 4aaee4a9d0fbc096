//! Who is at the ends of a call, where that changes while it stands (RFC 4916): our From and what we assert (RFC 3325) in a refresh, the peer's
//! in an UPDATE or re-INVITE of its own. Tags stay, and so does the dialog.

use std::sync::Arc;
use std::time::Instant;

use super::Endpoint;
use super::call::id;
use super::commands::CommandError;
use super::event::{CallId, Event};
use super::write::clean;
use crate::headers::{Name, NameAddr};
use crate::message::Message;

impl Endpoint {
    /// The peer of a call that stands is told by UPDATE, or re-INVITE where it takes none, who is on our side now: by `from`, a From value
    /// without tag, where it has said that it takes another (`from-change`), and by those of `headers` that say so (P-Asserted-Identity,
    /// Privacy). One that takes neither is told nothing.
    ///
    /// # Errors
    /// There is no such call, or `from` cannot be read.
    pub fn identify(
        &mut self,
        now: Instant,
        call: CallId,
        from: &str,
        headers: &[(String, String)],
    ) -> Result<(), CommandError> {
        let key = self.known(call)?;
        let from = clean(from);
        if NameAddr::parse(&from).is_err() || !from.ends_with('>') {
            return Err(CommandError::BadArgument { what: "From", value: from.into_owned() });
        }
        let Some(call) = self.calls.get_mut(key) else { return Err(CommandError::NoSuchCall(call)) };
        let asserts = headers.iter().map(|(name, value)| (Name::parse(name.as_bytes()), clean(value).into_owned()));
        let asserts: Vec<_> =
            asserts.filter(|(name, _)| matches!(name, Name::PAssertedIdentity | Name::Privacy)).collect();
        let is_told =
            call.takes_from_change || (call.takes_update && !(asserts.is_empty() && call.identity.is_empty()));
        if !is_told {
            return Ok(());
        }
        if call.takes_from_change {
            call.dialog.local = [&from, ";tag=", &call.dialog.local_tag].concat();
        }
        call.identity = asserts;
        self.tell_peer(now, key);
        Ok(())
    }

    /// What the peer's UPDATE or re-INVITE says of who is there.
    pub(super) fn note_identity(&mut self, key: super::Key, request: &Arc<Message>) {
        let Some(call) = self.calls.get_mut(key) else { return };
        let from = request.header(Name::From).unwrap_or_default();
        let is_another = match (NameAddr::parse(from), NameAddr::parse(&call.dialog.remote)) {
            (Ok(from), Ok(before)) => (from.uri_text, from.display) != (before.uri_text, before.display),
            _ => false,
        };
        if is_another {
            from.clone_into(&mut call.dialog.remote);
        }
        if is_another || request.header(Name::PAssertedIdentity).is_some() {
            self.tell(Event::Identified { call: id(key), message: Arc::clone(request) });
        }
    }
}

/// Whether a message's Supported has it that our From may change.
pub(super) fn takes_from_change(message: &Message) -> bool {
    message.header_values(Name::Supported).any(|tag| tag.eq_ignore_ascii_case("from-change"))
}
