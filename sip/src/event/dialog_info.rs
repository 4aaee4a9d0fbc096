//! `application/dialog-info+xml` (RFC 4235): what calls somebody is in. It is what lamps beside names are lit by.

use super::escape;

/// The event package.
pub const PACKAGE: &str = "dialog";
/// The Content-Type that goes with it.
pub const CONTENT_TYPE: &str = "application/dialog-info+xml";

/// Where a dialog stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DialogPhase {
    /// The INVITE is sent, and nothing has come back.
    Trying,
    /// It rings.
    Early,
    /// It was answered.
    Confirmed,
}

/// One dialog, as the watched side sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DialogState {
    /// Names it among the others of one document.
    pub id: String,
    /// Call-ID.
    pub call_id: String,
    /// The watched side's tag.
    pub local_tag: String,
    /// Its peer's.
    pub remote_tag: String,
    /// The watched side called.
    pub is_initiator: bool,
    /// Where it stands.
    pub phase: DialogPhase,
}

/// The whole state of `entity`, a SIP URI. `version` grows with every document of one subscription.
#[must_use]
pub fn build(entity: &str, version: u32, dialogs: &[DialogState]) -> String {
    let mut out = format!(
        "<?xml version=\"1.0\"?>\r\n<dialog-info xmlns=\"urn:ietf:params:xml:ns:dialog-info\" version=\"{version}\" state=\"full\" entity=\"{}\">\r\n",
        escape(entity)
    );
    for dialog in dialogs {
        let direction = if dialog.is_initiator { "initiator" } else { "recipient" };
        let state = match dialog.phase {
            DialogPhase::Trying => "trying",
            DialogPhase::Early => "early",
            DialogPhase::Confirmed => "confirmed",
        };
        out.push_str(&format!(
            "<dialog id=\"{}\" call-id=\"{}\" local-tag=\"{}\" remote-tag=\"{}\" direction=\"{direction}\"><state>{state}</state></dialog>\r\n",
            escape(&dialog.id),
            escape(&dialog.call_id),
            escape(&dialog.local_tag),
            escape(&dialog.remote_tag),
        ));
    }
    out.push_str("</dialog-info>\r\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Conforms: RFC 4235 §4.1 — the document has version, state and entity, and a dialog its identifiers, direction and state.
    #[test]
    fn a_document_tells_each_dialog() {
        let dialog = DialogState {
            id: "7".into(),
            call_id: "a<b@c".into(),
            local_tag: "1".into(),
            remote_tag: "2".into(),
            is_initiator: false,
            phase: DialogPhase::Early,
        };
        let text = build("sip:alice@x", 3, &[dialog]);
        assert!(text.contains("version=\"3\" state=\"full\" entity=\"sip:alice@x\""));
        assert!(text.contains(
            "<dialog id=\"7\" call-id=\"a&lt;b@c\" local-tag=\"1\" remote-tag=\"2\" direction=\"recipient\"><state>early</state></dialog>"
        ));
        assert!(!build("sip:alice@x", 4, &[]).contains("<dialog "));
    }
}
