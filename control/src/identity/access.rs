//! Who may use which route: the one place where it is settled. A route that does not stand here is refused, and a test holds
//! this table and the OpenAPI document together.

use axum::http::Method;

use super::limit::Tier;
use super::{Role, Scope};

/// What a route asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nothing: whoever comes.
    Nobody,
    /// Somebody of at least this role; a key needs this scope.
    Somebody(Role, Scope),
    /// Somebody who came in with a password: no key.
    Person,
}

/// One route.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// `GET` and so on.
    pub method: &'static str,
    /// As the router has it.
    pub path: &'static str,
    /// What it asks for.
    pub need: Need,
    /// How costly it is.
    pub tier: Tier,
}

macro_rules! rules {
    ($($method:ident $path:literal $need:expr, $tier:ident;)*) => {
        &[$(Rule { method: stringify!($method), path: $path, need: $need, tier: Tier::$tier }),*]
    };
}

const OPERATOR_CALLS: Need = Need::Somebody(Role::Operator, Scope::CallsRead);
const OPERATOR_ACTS: Need = Need::Somebody(Role::Operator, Scope::CallsWrite);
const SUPERVISOR_ACTS: Need = Need::Somebody(Role::Supervisor, Scope::CallsWrite);
const SUPERVISOR_CALLS: Need = Need::Somebody(Role::Supervisor, Scope::CallsRead);
const RECORDS: Need = Need::Somebody(Role::Operator, Scope::RecordsRead);
const RECORDINGS: Need = Need::Somebody(Role::Operator, Scope::RecordingsRead);
const EVENTS: Need = Need::Somebody(Role::Operator, Scope::EventsRead);
const ADMIN_LOOKS: Need = Need::Somebody(Role::Administrator, Scope::AdminRead);
const ADMIN_ACTS: Need = Need::Somebody(Role::Administrator, Scope::AdminWrite);
const SUPERVISOR_LOOKS: Need = Need::Somebody(Role::Supervisor, Scope::AdminRead);
const CONTACTS_READ: Need = Need::Somebody(Role::Operator, Scope::ContactsRead);
const CONTACTS_WRITE: Need = Need::Somebody(Role::Operator, Scope::ContactsWrite);

const HOOKS_LOOKS: Need = Need::Somebody(Role::Administrator, Scope::WebhooksRead);
const HOOKS_ACTS: Need = Need::Somebody(Role::Administrator, Scope::WebhooksWrite);

/// Every route.
pub const RULES: &[Rule] = rules! {
    GET "/api/v1/health" Need::Nobody, General;
    GET "/api/v1/openapi.json" Need::Nobody, General;
    POST "/api/v1/setup" Need::Nobody, Login;
    POST "/api/v1/session" Need::Nobody, Login;
    GET "/api/v1/session" Need::Person, General;
    DELETE "/api/v1/session" Need::Person, General;
    POST "/api/v1/token" Need::Nobody, Login;
    POST "/api/v1/token/revoke" Need::Nobody, Login;
    PUT "/api/v1/me/password" Need::Person, Login;
    POST "/api/v1/me/second-factor" Need::Person, Creation;
    PUT "/api/v1/me/second-factor" Need::Person, Login;
    DELETE "/api/v1/me/second-factor" Need::Person, Login;
    GET "/api/v1/users" SUPERVISOR_LOOKS, General;
    POST "/api/v1/users" ADMIN_ACTS, Creation;
    GET "/api/v1/users/{id}" SUPERVISOR_LOOKS, General;
    PATCH "/api/v1/users/{id}" ADMIN_ACTS, Creation;
    DELETE "/api/v1/users/{id}" ADMIN_ACTS, Creation;
    PUT "/api/v1/users/{id}/password" ADMIN_ACTS, Creation;
    DELETE "/api/v1/users/{id}/sessions" ADMIN_ACTS, Creation;
    GET "/api/v1/teams" SUPERVISOR_LOOKS, General;
    POST "/api/v1/teams" ADMIN_ACTS, Creation;
    GET "/api/v1/teams/{id}" SUPERVISOR_LOOKS, General;
    PATCH "/api/v1/teams/{id}" ADMIN_ACTS, Creation;
    DELETE "/api/v1/teams/{id}" ADMIN_ACTS, Creation;
    GET "/api/v1/api-keys" Need::Person, General;
    POST "/api/v1/api-keys" Need::Person, Creation;
    DELETE "/api/v1/api-keys/{id}" Need::Person, Creation;
    GET "/api/v1/calls" OPERATOR_CALLS, General;
    POST "/api/v1/calls" OPERATOR_ACTS, Creation;
    GET "/api/v1/calls/{id}" OPERATOR_CALLS, General;
    DELETE "/api/v1/calls/{id}" OPERATOR_ACTS, Creation;
    POST "/api/v1/calls/{id}/transfer" OPERATOR_ACTS, Creation;
    PUT "/api/v1/calls/{id}/hold" OPERATOR_ACTS, Creation;
    PUT "/api/v1/calls/{id}/recording" OPERATOR_ACTS, Creation;
    PUT "/api/v1/calls/{id}/mute" OPERATOR_ACTS, Creation;
    POST "/api/v1/calls/{id}/dtmf" OPERATOR_ACTS, Creation;
    POST "/api/v1/calls/{id}/say" SUPERVISOR_ACTS, Creation;
    POST "/api/v1/calls/{id}/note" SUPERVISOR_ACTS, Creation;
    GET "/api/v1/calls/{id}/trace" SUPERVISOR_CALLS, General;
    GET "/api/v1/calls/{id}/trace.pcap" SUPERVISOR_CALLS, General;
    POST "/api/v1/web-calls" SUPERVISOR_ACTS, Creation;
    GET "/api/v1/web-calls/servers" SUPERVISOR_CALLS, General;
    DELETE "/api/v1/web-calls/{id}" SUPERVISOR_ACTS, Creation;
    POST "/api/v1/calls/{id}/supervision" SUPERVISOR_ACTS, Creation;
    PUT "/api/v1/me/presence" Need::Person, General;
    GET "/api/v1/presence" OPERATOR_CALLS, General;
    GET "/api/v1/queues" OPERATOR_CALLS, General;
    GET "/api/v1/call-records" RECORDS, Report;
    GET "/api/v1/call-records/{id}" RECORDS, General;
    GET "/api/v1/call-records/{id}/transcript" RECORDS, General;
    GET "/api/v1/refused-calls" ADMIN_LOOKS, Report;
    GET "/api/v1/call-records/{id}/recording" RECORDINGS, General;
    POST "/api/v1/call-records/{id}/recording-link" RECORDINGS, General;
    GET "/api/v1/recordings/{id}" Need::Nobody, General;
    GET "/api/v1/events" EVENTS, General;
    GET "/api/v1/agents" SUPERVISOR_LOOKS, General;
    POST "/api/v1/agents" ADMIN_ACTS, Creation;
    POST "/api/v1/agents/check" ADMIN_ACTS, General;
    POST "/api/v1/agents/conversation" ADMIN_ACTS, Creation;
    GET "/api/v1/agents/{name}" SUPERVISOR_LOOKS, General;
    DELETE "/api/v1/agents/{name}" ADMIN_ACTS, Creation;
    GET "/api/v1/agents/{name}/versions" SUPERVISOR_LOOKS, General;
    POST "/api/v1/agents/{name}/versions" ADMIN_ACTS, Creation;
    GET "/api/v1/agents/{name}/versions/{version}" SUPERVISOR_LOOKS, General;
    PUT "/api/v1/agents/{name}/published" ADMIN_ACTS, Creation;
    DELETE "/api/v1/agents/{name}/published" ADMIN_ACTS, Creation;
    GET "/api/v1/devices" SUPERVISOR_LOOKS, General;
    POST "/api/v1/devices" ADMIN_ACTS, Creation;
    GET "/api/v1/devices/{name}" SUPERVISOR_LOOKS, General;
    PUT "/api/v1/devices/{name}" ADMIN_ACTS, Creation;
    DELETE "/api/v1/devices/{name}" ADMIN_ACTS, Creation;
    GET "/api/v1/trunks" SUPERVISOR_LOOKS, General;
    POST "/api/v1/trunks" ADMIN_ACTS, Creation;
    GET "/api/v1/trunks/{name}" SUPERVISOR_LOOKS, General;
    PUT "/api/v1/trunks/{name}" ADMIN_ACTS, Creation;
    DELETE "/api/v1/trunks/{name}" ADMIN_ACTS, Creation;
    GET "/api/v1/routes" SUPERVISOR_LOOKS, General;
    POST "/api/v1/routes" ADMIN_ACTS, Creation;
    GET "/api/v1/routes/{name}" SUPERVISOR_LOOKS, General;
    PUT "/api/v1/routes/{name}" ADMIN_ACTS, Creation;
    DELETE "/api/v1/routes/{name}" ADMIN_ACTS, Creation;
    GET "/api/v1/numbers" SUPERVISOR_LOOKS, General;
    POST "/api/v1/numbers" ADMIN_ACTS, Creation;
    GET "/api/v1/numbers/{name}" SUPERVISOR_LOOKS, General;
    PUT "/api/v1/numbers/{name}" ADMIN_ACTS, Creation;
    DELETE "/api/v1/numbers/{name}" ADMIN_ACTS, Creation;
    GET "/api/v1/people/{id}/data" ADMIN_LOOKS, Report;
    POST "/api/v1/people/erasure" ADMIN_ACTS, Report;
    GET "/api/v1/kpis" RECORDS, Report;
    GET "/api/v1/reports/calls" RECORDS, Report;
    GET "/api/v1/reports/agents" RECORDS, Report;
    GET "/api/v1/reports/users" RECORDS, Report;
    GET "/api/v1/contacts" CONTACTS_READ, General;
    POST "/api/v1/contacts" CONTACTS_WRITE, Creation;
    GET "/api/v1/contacts/{id}" CONTACTS_READ, General;
    PATCH "/api/v1/contacts/{id}" CONTACTS_WRITE, Creation;
    DELETE "/api/v1/contacts/{id}" CONTACTS_WRITE, Creation;
    GET "/api/v1/interactions" CONTACTS_READ, General;
    POST "/api/v1/interactions" CONTACTS_WRITE, Creation;
    GET "/api/v1/interactions/{id}" CONTACTS_READ, General;
    PATCH "/api/v1/interactions/{id}" CONTACTS_WRITE, Creation;
    GET "/api/v1/dispositions" CONTACTS_READ, General;
    PUT "/api/v1/dispositions/{id}" ADMIN_ACTS, Creation;
    DELETE "/api/v1/dispositions/{id}" ADMIN_ACTS, Creation;
    GET "/api/v1/do-not-call" CONTACTS_READ, General;
    POST "/api/v1/do-not-call" CONTACTS_WRITE, Creation;
    GET "/api/v1/do-not-call/{id}" CONTACTS_READ, General;
    DELETE "/api/v1/do-not-call/{id}" Need::Somebody(Role::Supervisor, Scope::ContactsWrite), Creation;
    GET "/api/v1/audit" ADMIN_LOOKS, Report;
    GET "/api/v1/audit/verification" ADMIN_LOOKS, Report;

    GET "/api/v1/webhooks" HOOKS_LOOKS, General;
    POST "/api/v1/webhooks" HOOKS_ACTS, Creation;
    GET "/api/v1/webhooks/{id}" HOOKS_LOOKS, General;
    PATCH "/api/v1/webhooks/{id}" HOOKS_ACTS, Creation;
    DELETE "/api/v1/webhooks/{id}" HOOKS_ACTS, Creation;
    POST "/api/v1/webhooks/{id}/secret" HOOKS_ACTS, Creation;
    POST "/api/v1/webhooks/{id}/test" HOOKS_ACTS, Creation;
    POST "/api/v1/webhooks/{id}/replay" HOOKS_ACTS, Creation;
    GET "/api/v1/webhooks/{id}/deliveries" HOOKS_LOOKS, Report;
    POST "/api/v1/webhooks/{id}/deliveries/{delivery}/replay" HOOKS_ACTS, Creation;
    GET "/api/v1/incoming-sources" HOOKS_LOOKS, General;
    POST "/api/v1/incoming-sources" HOOKS_ACTS, Creation;
    GET "/api/v1/incoming-sources/{id}" HOOKS_LOOKS, General;
    PATCH "/api/v1/incoming-sources/{id}" HOOKS_ACTS, Creation;
    DELETE "/api/v1/incoming-sources/{id}" HOOKS_ACTS, Creation;
    POST "/api/v1/incoming/{name}" Need::Nobody, General;
    GET "/api/v1/session/oidc" Need::Nobody, Login;
    GET "/api/v1/session/oidc/callback" Need::Nobody, Login;
};

/// Whether some route has this path.
#[must_use]
pub fn knows(path: &str) -> bool {
    let fits = |rule: &Rule| {
        let mut wanted = rule.path.split('/');
        path.split('/').all(|part| wanted.next().is_some_and(|wanted| wanted == part || wanted.starts_with('{')))
            && wanted.next().is_none()
    };
    RULES.iter().any(fits)
}

/// Whether there is anything that somebody of this role may do by this scope.
#[must_use]
pub fn is_of_use(role: Role, scope: Scope) -> bool {
    RULES.iter().any(|rule| matches!(rule.need, Need::Somebody(least, of) if of == scope && role >= least))
}

/// The rule for a route; `HEAD` goes by that for `GET`.
#[must_use]
pub fn rule(method: &Method, path: &str) -> Option<&'static Rule> {
    let method = if method == Method::HEAD { "GET" } else { method.as_str() };
    RULES.iter().find(|rule| rule.method == method && rule.path == path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_known_by_all_of_its_parts() {
        for path in ["/api/v1/calls", "/api/v1/calls/abc", "/api/v1/call-records/x/transcript"] {
            assert!(knows(path), "{path}");
        }
        for path in ["/api/v1", "/api/v1/whip", "/api/v1/calls/a/b/c", "/api/v1/calls/a/b", "/", ""] {
            assert!(!knows(path), "{path}");
        }
    }
}
