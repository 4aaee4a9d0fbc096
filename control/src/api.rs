//! The HTTP interface: REST under `/api/v1`, JSON, a file a resource. [`gate`] stands before every route.

pub mod agents;
pub mod audit;
pub mod calls;
pub mod commands;
pub mod contacts;
pub mod dashboard;
pub mod deliveries;
pub mod do_not_call;
pub mod events;
pub mod extract;
pub mod figures;
pub mod gate;
pub mod health;
pub mod idempotency;
pub mod incoming;
pub mod interactions;
pub mod keys;
pub mod me;
pub mod oidc;
pub mod people;
pub mod presence;
pub mod problem;
pub mod recordings;
pub mod records;
pub mod refused;
pub mod session;
pub mod settings;
pub mod setup;
pub mod teams;
pub mod tokens;
pub mod traces;
pub mod users;
pub mod web_calls;
pub mod webhooks;

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::routing::get;
use axum::{Json, Router, middleware};
use serde_json::Value;
use utoipa::OpenApi as _;
use utoipa::openapi::OpenApi;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::control::Control;
use crate::ports::settings::SettingKind;
use problem::Problem;

/// Bytes of a body at most.
pub const BODY_LIMIT: usize = 256 * 1_024;

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Omnivox",
        description = "Calls, their records and recordings, the people who take them, and what happens as it does.\n\n\
                       Programs send `Authorization: Bearer KEY` with an API key or an access token. Browsers have a session cookie, and send \
                       `X-CSRF-Token` with what changes something. Faults are answered as RFC 9457 has it, and name the field. Lists come in \
                       pages: `next` of one is `after` of the following. A POST that acts takes `Idempotency-Key`: sent again within a day it \
                       acts once and is answered alike."
    ),
    tags(
        (name = "calls", description = "Calls in progress"),
        (name = "records", description = "Ended calls"),
        (name = "events", description = "What happens, as it does"),
        (name = "webhooks", description = "Events to other systems by HTTP, and theirs to us"),
        (name = "contacts", description = "Whom calls are with, what came of them, who is not to be called"),
        (name = "identity", description = "Logging in"),
        (name = "people", description = "Users, teams, keys"),
        (name = "agents", description = "Voice agents"),
        (name = "telephony", description = "Devices, trunks, numbers, routes"),
        (name = "server", description = "The server itself")
    )
)]
struct Description;

/// The routes, and what they are.
fn described() -> OpenApiRouter<Arc<Control>> {
    OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(health::health))
        .routes(routes!(setup::setup))
        .routes(routes!(session::log_in, session::who, session::log_out))
        .routes(routes!(tokens::issue))
        .routes(routes!(tokens::revoke))
        .routes(routes!(me::set_password))
        .routes(routes!(me::begin_second_factor, me::confirm_second_factor, me::drop_second_factor))
        .routes(routes!(users::list, users::create))
        .routes(routes!(users::show, users::change, users::remove))
        .routes(routes!(users::set_password))
        .routes(routes!(users::log_out))
        .routes(routes!(teams::list, teams::create))
        .routes(routes!(teams::show, teams::rename, teams::remove))
        .routes(routes!(keys::list, keys::create))
        .routes(routes!(keys::remove))
        .routes(routes!(calls::list, calls::start))
        .routes(routes!(calls::show, calls::hang_up))
        .routes(routes!(calls::transfer))
        .routes(routes!(calls::hold))
        .routes(routes!(calls::record))
        .routes(routes!(calls::supervise))
        .routes(routes!(commands::mute))
        .routes(routes!(commands::press))
        .routes(routes!(commands::say))
        .routes(routes!(commands::note))
        .routes(routes!(traces::ladder))
        .routes(routes!(traces::capture))
        .routes(routes!(web_calls::start))
        .routes(routes!(web_calls::servers))
        .routes(routes!(web_calls::end))
        .routes(routes!(presence::set))
        .routes(routes!(presence::list))
        .routes(routes!(presence::queues))
        .routes(routes!(records::list))
        .routes(routes!(records::show))
        .routes(routes!(records::transcript))
        .routes(routes!(refused::list))
        .routes(routes!(recordings::play))
        .routes(routes!(recordings::link))
        .routes(routes!(recordings::linked))
        .routes(routes!(events::events))
        .routes(routes!(agents::list, agents::create))
        .routes(routes!(agents::check))
        .routes(routes!(agents::converse))
        .routes(routes!(agents::show, agents::remove))
        .routes(routes!(agents::versions, agents::add_version))
        .routes(routes!(agents::version))
        .routes(routes!(agents::publish, agents::withdraw))
        .routes(routes!(settings::devices::list, settings::devices::add))
        .routes(routes!(settings::devices::show, settings::devices::change, settings::devices::remove))
        .routes(routes!(settings::trunks::list, settings::trunks::add))
        .routes(routes!(settings::trunks::show, settings::trunks::change, settings::trunks::remove))
        .routes(routes!(settings::rules::list, settings::rules::add))
        .routes(routes!(settings::rules::show, settings::rules::change, settings::rules::remove))
        .routes(routes!(settings::numbers::list, settings::numbers::add))
        .routes(routes!(settings::numbers::show, settings::numbers::change, settings::numbers::remove))
        .routes(routes!(people::data))
        .routes(routes!(people::erase))
        .routes(routes!(figures::kpis))
        .routes(routes!(figures::calls))
        .routes(routes!(figures::agents))
        .routes(routes!(figures::users))
        .routes(routes!(contacts::list, contacts::create))
        .routes(routes!(contacts::show, contacts::change, contacts::remove))
        .routes(routes!(interactions::list, interactions::create))
        .routes(routes!(interactions::show, interactions::change))
        .routes(routes!(interactions::dispositions))
        .routes(routes!(interactions::set_disposition, interactions::remove_disposition))
        .routes(routes!(do_not_call::list, do_not_call::add))
        .routes(routes!(do_not_call::show, do_not_call::remove))
        .routes(routes!(audit::list))
        .routes(routes!(audit::verify))
        .routes(routes!(webhooks::list, webhooks::create))
        .routes(routes!(webhooks::show, webhooks::change, webhooks::remove))
        .routes(routes!(webhooks::rotate))
        .routes(routes!(webhooks::test))
        .routes(routes!(deliveries::list))
        .routes(routes!(deliveries::replay))
        .routes(routes!(deliveries::replay_dead))
        .routes(routes!(incoming::list, incoming::create))
        .routes(routes!(incoming::show, incoming::change, incoming::remove))
        .routes(routes!(incoming::take))
        .routes(routes!(oidc::begin))
        .routes(routes!(oidc::finish))
}

/// The OpenAPI document (3.1) of the interface.
#[must_use]
pub fn document() -> OpenApi {
    let mut document = described().to_openapi();
    env!("CARGO_PKG_VERSION").clone_into(&mut document.info.version);
    let components = document.components.get_or_insert_default();
    let bearer =
        HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("An API key or an access token")).build();
    components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    let cookie = ApiKeyValue::with_description(
        session::COOKIE,
        "A browser's session; what changes something needs X-CSRF-Token too",
    );
    components.add_security_scheme("session", SecurityScheme::ApiKey(ApiKey::Cookie(cookie)));
    describe_gate(&mut document);
    document
}

/// Every operation says who may use it, and what the gate before it may answer.
fn describe_gate(document: &mut OpenApi) {
    use crate::identity::access::{Need, rule};
    use utoipa::openapi::security::SecurityRequirement;
    use utoipa::openapi::{ContentBuilder, Ref, ResponseBuilder};
    let problem = |what: &str| {
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
        ResponseBuilder::new().description(what).content("application/problem+json", content).build()
    };
    for (path, item) in &mut document.paths.paths {
        let operations = [
            ("GET", &mut item.get),
            ("POST", &mut item.post),
            ("PUT", &mut item.put),
            ("PATCH", &mut item.patch),
            ("DELETE", &mut item.delete),
        ];
        for (method, operation) in
            operations.into_iter().filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
        {
            let Some(rule) = method.parse().ok().and_then(|method| rule(&method, path)) else { continue };
            let anybody = rule.need == Need::Nobody;
            if !anybody {
                let empty: [&str; 0] = [];
                let session = SecurityRequirement::new("session", empty);
                let bearer = SecurityRequirement::new("bearer", empty);
                operation.security = Some(vec![session, bearer]);
            }
            let who = match rule.need {
                Need::Nobody => "Open to everybody.".to_owned(),
                Need::Person => "For whoever is logged in; not by API key.".to_owned(),
                Need::Somebody(role, scope) => format!("From {} on; keys need `{}`.", role.as_str(), scope.as_str()),
            };
            let said = operation.description.take().map(|said| format!("{said}\n\n")).unwrap_or_default();
            operation.description = Some(format!("{said}{who}"));
            let codes = [
                ("400", "The request cannot be read", true),
                ("401", "Nobody knows who asks", true),
                ("403", "Whoever asks may not", true),
                ("413", "The body is too long", true),
                ("415", "The body is no JSON", method != "GET"),
                ("422", "A field is wrong", true),
                ("429", "Too often: Retry-After says how long to wait", true),
                ("500", "The server failed", true),
                ("503", "The database does not answer, or a call does not keep up", true),
            ];
            for (code, what, _) in codes.iter().filter(|(_, _, fits)| *fits) {
                operation.responses.responses.entry((*code).to_owned()).or_insert_with(|| problem(what).into());
            }
        }
    }
    let components = document.components.get_or_insert_default();
    for (name, schema) in [
        ("Problem", <Problem as utoipa::PartialSchema>::schema()),
        ("FieldError", <problem::FieldError as utoipa::PartialSchema>::schema()),
    ] {
        components.schemas.insert(name.to_owned(), schema);
    }
}

/// The routes, with the gate before them, and the dashboard beside them.
pub fn router(control: Arc<Control>) -> Router {
    let (routes, _) = described().split_for_parts();
    routes
        .route("/api/v1/openapi.json", get(openapi))
        .route_layer(middleware::from_fn_with_state(Arc::clone(&control), idempotency::once))
        .route_layer(middleware::from_fn_with_state(Arc::clone(&control), gate::gate))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(control)
        .fallback(dashboard::serve)
}

/// The document as a server has it that runs: with the keys of its settings, which whoever calls are routed by knows.
async fn openapi(State(control): State<Arc<Control>>) -> Result<Json<Value>, Problem> {
    let mut document = serde_json::to_value(document()).map_err(|fault| Problem::internal("the document", fault))?;
    for kind in SettingKind::ALL {
        document["components"]["schemas"][settings::schema_name(kind)] = control.settings.port().schema(kind);
    }
    Ok(Json(document))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::identity::access::RULES;

    /// The routes as the document has them.
    fn documented() -> BTreeSet<(String, String)> {
        let document = serde_json::to_value(document()).unwrap();
        let paths = document["paths"].as_object().unwrap().clone();
        let each = paths.into_iter().flat_map(|(path, item)| {
            let methods: Vec<String> = item.as_object().unwrap().keys().cloned().collect();
            methods.into_iter().map(move |method| (method.to_uppercase(), path.clone()))
        });
        each.collect()
    }

    #[test]
    fn every_route_has_one_rule_and_every_rule_a_route() {
        let mut routes = documented();
        // It cannot describe itself.
        routes.insert(("GET".into(), "/api/v1/openapi.json".into()));
        let rules: Vec<_> = RULES.iter().map(|rule| (rule.method.to_owned(), rule.path.to_owned())).collect();
        assert_eq!(rules.iter().collect::<BTreeSet<_>>().len(), rules.len(), "a rule stands twice");
        assert_eq!(rules.into_iter().collect::<BTreeSet<_>>(), routes);
    }

    #[test]
    fn the_document_is_openapi_3_1_and_every_operation_has_a_name_of_its_own() {
        let document = serde_json::to_value(document()).unwrap();
        assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
        let mut names = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let name = operation["operationId"].as_str().unwrap_or_default();
                assert!(names.insert(name.to_owned()), "{method} {path}: another is called {name}");
                assert!(operation["summary"].is_string(), "{method} {path} says what it does");
            }
        }
    }
}
