//! `application/conference-info+xml` (RFC 4575): who is in a conference, and how. A subscriber gets the whole state first, and then what
//! changes.

use super::escape;

/// The event package.
pub const PACKAGE: &str = "conference";
/// The Content-Type that goes with it.
pub const CONTENT_TYPE: &str = "application/conference-info+xml";

/// How somebody takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointStatus {
    /// They have called, and are not in yet.
    DialingIn,
    /// They hear and are heard.
    Connected,
    /// They are away, and heard by nobody.
    OnHold,
}

impl EndpointStatus {
    fn as_str(self) -> &'static str {
        match self {
            Self::DialingIn => "dialing-in",
            Self::Connected => "connected",
            Self::OnHold => "on-hold",
        }
    }

    fn direction(self) -> &'static str {
        if self == Self::Connected { "sendrecv" } else { "inactive" }
    }
}

/// Somebody in a conference, by one of their phones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Who: a SIP URI, the same for all phones of one person.
    pub user: String,
    /// Names the phone among those of this person.
    pub endpoint: String,
    /// The name to show; empty where there is none.
    pub display: String,
    /// How they take part.
    pub status: EndpointStatus,
    /// They called; otherwise they were called.
    pub has_dialed_in: bool,
}

/// A conference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conference<'a> {
    /// Its SIP URI.
    pub entity: &'a str,
    /// Its name.
    pub subject: &'a str,
    /// So many can be in it.
    pub places: usize,
    /// Who is.
    pub members: &'a [Member],
}

/// The whole state. `version` grows by one with every document of one subscription.
#[must_use]
pub fn full(conference: &Conference<'_>, version: u32) -> String {
    let mut out = head(conference, version, "full");
    out.push_str(&format!(
        "<conference-description><display-text>{}</display-text><maximum-user-count>{}</maximum-user-count></conference-description>\r\n",
        escape(conference.subject),
        conference.places
    ));
    state(&mut out, conference);
    out.push_str("<users>\r\n");
    for name in users(conference.members) {
        user(&mut out, name, conference.members);
    }
    out.push_str("</users>\r\n</conference-info>\r\n");
    out
}

/// What has changed since `before`: whoever came or is otherwise than before, whole, and whoever left (section 4.6). `None` where nothing
/// has.
#[must_use]
pub fn partial(conference: &Conference<'_>, before: &[Member], version: u32) -> Option<String> {
    let of = |members: &[Member], name: &str| {
        members.iter().filter(|member| member.user == name).cloned().collect::<Vec<_>>()
    };
    let now = conference.members;
    let changed: Vec<&str> = users(now).into_iter().filter(|name| of(now, name) != of(before, name)).collect();
    let gone: Vec<&str> = users(before).into_iter().filter(|name| of(now, name).is_empty()).collect();
    if changed.is_empty() && gone.is_empty() {
        return None;
    }
    let mut out = head(conference, version, "partial");
    state(&mut out, conference);
    out.push_str("<users state=\"partial\">\r\n");
    for name in changed {
        user(&mut out, name, now);
    }
    for name in gone {
        out.push_str(&format!("<user entity=\"{}\" state=\"deleted\"/>\r\n", escape(name)));
    }
    out.push_str("</users>\r\n</conference-info>\r\n");
    Some(out)
}

fn head(conference: &Conference<'_>, version: u32, state: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n\
         <conference-info xmlns=\"urn:ietf:params:xml:ns:conference-info\" entity=\"{}\" state=\"{state}\" version=\"{version}\">\r\n",
        escape(conference.entity)
    )
}

fn state(out: &mut String, conference: &Conference<'_>) {
    let count = users(conference.members).len();
    out.push_str(&format!(
        "<conference-state><user-count>{count}</user-count><active>{}</active><locked>false</locked></conference-state>\r\n",
        count > 0
    ));
}

/// Everybody once, in the order that they came in.
fn users(members: &[Member]) -> Vec<&str> {
    let mut found: Vec<&str> = Vec::new();
    for member in members {
        if !found.contains(&member.user.as_str()) {
            found.push(&member.user);
        }
    }
    found
}

fn user(out: &mut String, name: &str, members: &[Member]) {
    let own = || members.iter().filter(|member| member.user == name);
    out.push_str(&format!("<user entity=\"{}\" state=\"full\">", escape(name)));
    if let Some(display) = own().map(|member| &member.display).find(|display| !display.is_empty()) {
        out.push_str(&format!("<display-text>{}</display-text>", escape(display)));
    }
    for member in own() {
        let joined = if member.has_dialed_in { "dialed-in" } else { "dialed-out" };
        out.push_str(&format!(
            "<endpoint entity=\"{}\"><status>{}</status><joining-method>{joined}</joining-method>\
             <media id=\"1\"><type>audio</type><status>{}</status></media></endpoint>",
            escape(&member.endpoint),
            member.status.as_str(),
            member.status.direction()
        ));
    }
    out.push_str("</user>\r\n");
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn member(user: &str, phone: u8, status: EndpointStatus) -> Member {
        let endpoint = format!("sip:{user}@x;leg={phone}");
        Member { user: format!("sip:{user}@x"), endpoint, display: String::new(), status, has_dialed_in: true }
    }

    fn conference(members: &[Member]) -> Conference<'_> {
        Conference { entity: "sip:room-a@x", subject: "a<b", places: 32, members }
    }

    /// Conforms: RFC 4575 §5 — the whole state has description, count of users, and each user with their endpoints
    #[test]
    fn the_whole_state_tells_each_user_once_with_all_their_phones() {
        let mut members = vec![
            member("alice", 0, EndpointStatus::Connected),
            member("bob", 1, EndpointStatus::OnHold),
            member("alice", 2, EndpointStatus::DialingIn),
        ];
        members[0].display = "Alice & Co".into();
        let text = full(&conference(&members), 0);
        assert!(text.contains("entity=\"sip:room-a@x\" state=\"full\" version=\"0\""), "{text}");
        assert!(
            text.contains("<display-text>a&lt;b</display-text><maximum-user-count>32</maximum-user-count>"),
            "{text}"
        );
        assert!(text.contains("<user-count>2</user-count><active>true</active>"), "{text}");
        assert!(
            text.contains("<user entity=\"sip:alice@x\" state=\"full\"><display-text>Alice &amp; Co</display-text>"),
            "{text}"
        );
        assert_eq!((text.matches("<user ").count(), text.matches("<endpoint ").count()), (2, 3));
        assert!(text.contains("<status>on-hold</status><joining-method>dialed-in</joining-method>"), "{text}");
        assert!(text.contains("<type>audio</type><status>inactive</status>"), "{text}");
        assert!(full(&conference(&[]), 1).contains("<user-count>0</user-count><active>false</active>"));
    }

    /// Conforms: RFC 4575 §4.6 — what changes is told alone: whoever came or is otherwise, and whoever left
    #[test]
    fn a_change_tells_who_came_who_left_and_who_is_otherwise() {
        let before = [
            member("alice", 0, EndpointStatus::Connected),
            member("bob", 1, EndpointStatus::Connected),
            member("carol", 2, EndpointStatus::Connected),
        ];
        let now = [
            member("alice", 0, EndpointStatus::Connected),
            member("carol", 2, EndpointStatus::OnHold),
            member("dave", 3, EndpointStatus::DialingIn),
        ];
        let text = partial(&conference(&now), &before, 7).unwrap();
        assert!(
            text.contains("state=\"partial\" version=\"7\"") && text.contains("<users state=\"partial\">"),
            "{text}"
        );
        assert!(text.contains("<user entity=\"sip:bob@x\" state=\"deleted\"/>"), "{text}");
        assert!(!text.contains("alice") && text.contains("on-hold") && text.contains("dave"), "{text}");
        assert!(text.contains("<user-count>3</user-count>"), "{text}");
        assert_eq!(partial(&conference(&now), &now, 8), None);
    }
}
