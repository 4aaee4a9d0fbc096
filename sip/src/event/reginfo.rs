//! `application/reginfo+xml` (RFC 3680): where an account is registered.

use super::escape;

/// The event package.
pub const PACKAGE: &str = "reg";
/// The Content-Type that goes with it.
pub const CONTENT_TYPE: &str = "application/reginfo+xml";

/// One registered contact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contact {
    /// Names it among the others of the account.
    pub id: String,
    /// Its URI.
    pub uri: String,
    /// It ends in so many seconds.
    pub expires_s: u64,
}

/// The whole state of `aor`, a SIP URI. `version` grows with every document of one subscription.
#[must_use]
pub fn build(aor: &str, version: u32, contacts: &[Contact]) -> String {
    let state = if contacts.is_empty() { "terminated" } else { "active" };
    let mut out = format!(
        "<?xml version=\"1.0\"?>\r\n<reginfo xmlns=\"urn:ietf:params:xml:ns:reginfo\" version=\"{version}\" state=\"full\">\r\n<registration aor=\"{aor}\" id=\"{aor}\" state=\"{state}\">\r\n",
        aor = escape(aor)
    );
    for contact in contacts {
        out.push_str(&format!(
            "<contact id=\"{}\" state=\"active\" event=\"registered\" expires=\"{}\"><uri>{}</uri></contact>\r\n",
            escape(&contact.id),
            contact.expires_s,
            escape(&contact.uri)
        ));
    }
    out.push_str("</registration>\r\n</reginfo>\r\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Conforms: RFC 3680 §5 — the document has the account, whether it is registered, and each contact.
    #[test]
    fn a_document_tells_each_contact() {
        let contact = Contact { id: "1".into(), uri: "sip:a@[::1]:5060;x=\"y\"".into(), expires_s: 60 };
        let text = build("sip:alice@x", 0, &[contact]);
        assert!(text.contains("aor=\"sip:alice@x\" id=\"sip:alice@x\" state=\"active\""));
        assert!(text.contains("expires=\"60\"><uri>sip:a@[::1]:5060;x=&quot;y&quot;</uri>"));
        assert!(build("sip:alice@x", 1, &[]).contains("state=\"terminated\""));
    }
}
