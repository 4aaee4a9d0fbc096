//! Who somebody is, and what they may do.
//!
//! | module | does |
//! | --- | --- |
//! | [`access`] | the one table of who may use which route |
//! | [`limit`] | how often they may |
//! | [`oidc`] | logging in by a provider (OpenID Connect) |
//! | [`password`] | passwords, and what a wrong one costs |
//! | [`second_factor`] | codes of an authenticator (TOTP, RFC 6238) |
//! | [`secret`] | secrets of sessions, keys and links: made, hashed, compared |
//! | [`token`] | short-lived access tokens (JWT, RFC 7519) |

pub mod access;
pub mod limit;
pub mod oidc;
pub mod password;
pub mod second_factor;
pub mod secret;
pub mod token;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::store::contacts::Whose;
use crate::store::records::Visible;
use crate::store::users::User;

/// What a user may do: each may what those before may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Takes calls; sees their own.
    Operator,
    /// Sees the calls of their team, and may act on them.
    Supervisor,
    /// May everything.
    Administrator,
}

impl Role {
    /// Every role, the least first.
    pub const ALL: [Self; 3] = [Self::Operator, Self::Supervisor, Self::Administrator];

    /// The role as it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Supervisor => "supervisor",
            Self::Administrator => "administrator",
        }
    }

    /// Reads a role.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == text)
    }
}

/// What an API key may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub enum Scope {
    /// Calls in progress: look.
    #[serde(rename = "calls:read")]
    CallsRead,
    /// Calls in progress: begin, end, pass on.
    #[serde(rename = "calls:write")]
    CallsWrite,
    /// Ended calls, what was said in them, figures.
    #[serde(rename = "records:read")]
    RecordsRead,
    /// Recordings.
    #[serde(rename = "recordings:read")]
    RecordingsRead,
    /// What happens, as it does.
    #[serde(rename = "events:read")]
    EventsRead,
    /// Webhooks and incoming sources: look.
    #[serde(rename = "webhooks:read")]
    WebhooksRead,
    /// Webhooks and incoming sources: change, test, replay.
    #[serde(rename = "webhooks:write")]
    WebhooksWrite,
    /// Contacts, interactions, numbers that are not to be called: look.
    #[serde(rename = "contacts:read")]
    ContactsRead,
    /// Contacts, interactions, numbers that are not to be called: change.
    #[serde(rename = "contacts:write")]
    ContactsWrite,
    /// Users, teams, keys, the audit log: look.
    #[serde(rename = "admin:read")]
    AdminRead,
    /// Users, teams, keys: change.
    #[serde(rename = "admin:write")]
    AdminWrite,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 11] = [
        Self::CallsRead,
        Self::CallsWrite,
        Self::RecordsRead,
        Self::RecordingsRead,
        Self::EventsRead,
        Self::WebhooksRead,
        Self::WebhooksWrite,
        Self::ContactsRead,
        Self::ContactsWrite,
        Self::AdminRead,
        Self::AdminWrite,
    ];

    /// The scope as it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CallsRead => "calls:read",
            Self::CallsWrite => "calls:write",
            Self::RecordsRead => "records:read",
            Self::RecordingsRead => "recordings:read",
            Self::EventsRead => "events:read",
            Self::WebhooksRead => "webhooks:read",
            Self::WebhooksWrite => "webhooks:write",
            Self::ContactsRead => "contacts:read",
            Self::ContactsWrite => "contacts:write",
            Self::AdminRead => "admin:read",
            Self::AdminWrite => "admin:write",
        }
    }

    /// Reads a scope.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text)
    }
}

/// Whoever asks, once it is known who that is.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Who.
    pub user: User,
    /// How they came in.
    pub by: Means,
}

/// How somebody came in.
#[derive(Debug, Clone)]
pub enum Means {
    /// A browser's session: hash of its secret, and the token against forged requests.
    Session {
        /// Hash.
        hash: String,
        /// Token.
        csrf: String,
    },
    /// An access token.
    Token,
    /// A key, and what it may be used for.
    Key {
        /// Its name.
        name: String,
        /// Its scopes.
        scopes: Vec<Scope>,
    },
}

impl Caller {
    /// Whether they may do what needs this role and scope.
    #[must_use]
    pub fn may(&self, role: Role, scope: Scope) -> bool {
        let in_scope = match &self.by {
            Means::Key { scopes, .. } => scopes.contains(&scope),
            Means::Session { .. } | Means::Token => true,
        };
        in_scope && self.user.role >= role
    }

    /// Whose calls they see.
    #[must_use]
    pub fn sees(&self) -> Visible {
        match (self.user.role, &self.user.team, &self.user.device) {
            (Role::Administrator, _, _) => Visible::All,
            (Role::Supervisor, Some(team), _) => Visible::Team(team.clone()),
            (_, _, Some(device)) => Visible::Device(device.clone()),
            (_, _, None) => Visible::None,
        }
    }

    /// Whose contacts and interactions they see.
    #[must_use]
    pub fn whose(&self) -> Whose {
        let user = self.user.id.clone();
        match (self.user.role, &self.user.team) {
            (Role::Administrator, _) => Whose::All,
            (Role::Supervisor, Some(team)) => Whose::Team { team: team.clone(), user },
            _ => Whose::User(user),
        }
    }

    /// How the audit log names them.
    #[must_use]
    pub fn actor(&self) -> String {
        match &self.by {
            Means::Key { name, .. } => format!("key {name} of {}", self.user.name),
            Means::Session { .. } | Means::Token => self.user.name.clone(),
        }
    }
}
