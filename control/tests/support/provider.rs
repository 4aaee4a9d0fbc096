//! A provider (OpenID Connect) on a port of its own, that can be told to do one thing wrong.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use aws_lc_rs::digest;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use control::identity::secret::new_secret;
use control::time::Moment;
use serde_json::{Value, json};

/// What a provider, or whoever stands between, may do wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    Issuer,
    Audience,
    Nonce,
    NoNonce,
    Expired,
    Key,
    NoSignature,
    Tampered,
    NoIdToken,
    NoSubject,
    Nonsense,
    Endless,
}

impl Wrong {
    pub const ALL: [Self; 12] = [
        Self::Issuer,
        Self::Audience,
        Self::Nonce,
        Self::NoNonce,
        Self::Expired,
        Self::Key,
        Self::NoSignature,
        Self::Tampered,
        Self::NoIdToken,
        Self::NoSubject,
        Self::Nonsense,
        Self::Endless,
    ];
}

#[derive(Clone)]
pub struct Provider {
    pub issuer: String,
    inner: Arc<Mutex<Inner>>,
    key: Arc<EcdsaKeyPair>,
}

#[derive(Default)]
struct Inner {
    person: (String, Value),
    wrong: Option<Wrong>,
    codes: HashMap<String, HashMap<String, String>>,
}

impl Provider {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let key = Arc::new(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap());
        let provider = Self { issuer, inner: Arc::default(), key };
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(configuration))
            .route("/jwks", get(jwks))
            .route("/authorize", get(authorize))
            .route("/token", post(token))
            .with_state(provider.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        provider
    }

    /// Who logs in there next.
    pub fn person(&self, subject: &str, claims: Value) {
        self.inner.lock().unwrap().person = (subject.into(), claims);
    }

    /// What it does wrong from now on.
    pub fn does(&self, wrong: Option<Wrong>) {
        self.inner.lock().unwrap().wrong = wrong;
    }
}

async fn configuration(State(provider): State<Provider>) -> Json<Value> {
    let at = |path: &str| format!("{}{path}", provider.issuer);
    Json(json!({
        "issuer": provider.issuer, "authorization_endpoint": at("/authorize"), "token_endpoint": at("/token"), "jwks_uri": at("/jwks"),
        "response_types_supported": ["code"], "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["ES256"]
    }))
}

async fn jwks(State(provider): State<Provider>) -> Json<Value> {
    let point = provider.key.public_key().as_ref();
    let (x, y) = point[1..].split_at(32);
    let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let key =
        json!({ "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "k1", "x": text(x), "y": text(y) });
    Json(json!({ "keys": [key] }))
}

async fn authorize(State(provider): State<Provider>, Query(query): Query<HashMap<String, String>>) -> Redirect {
    let code = new_secret().unwrap();
    let back = format!("{}?code={code}&state={}", query["redirect_uri"], query["state"]);
    assert_eq!((query["client_id"].as_str(), query["response_type"].as_str()), ("omnivox", "code"));
    provider.inner.lock().unwrap().codes.insert(code, query);
    Redirect::to(&back)
}

async fn token(State(provider): State<Provider>, headers: HeaderMap, body: String) -> Response {
    let form: HashMap<String, String> = Query::try_from_uri(&format!("/?{body}").parse().unwrap()).unwrap().0;
    let refused = |why: &str| (StatusCode::BAD_REQUEST, Json(json!({ "error": why }))).into_response();
    let basic = format!("Basic {}", STANDARD.encode("omnivox:client+secret"));
    if headers.get("authorization").is_none_or(|sent| sent.to_str().unwrap() != basic) {
        return refused("invalid_client");
    }
    let mut inner = provider.inner.lock().unwrap();
    let Some(asked) = inner.codes.remove(&form["code"]) else { return refused("invalid_grant") };
    let challenge = digest::digest(&digest::SHA256, form["code_verifier"].as_bytes());
    if URL_SAFE_NO_PAD.encode(challenge) != asked["code_challenge"] || form["redirect_uri"] != asked["redirect_uri"] {
        return refused("invalid_grant");
    }
    let (wrong, (subject, person)) = (inner.wrong, inner.person.clone());
    let now = Moment::now().0 / 1_000;
    let mut claims = json!({ "iss": provider.issuer, "sub": subject, "aud": "omnivox", "iat": now, "exp": now + 300, "nonce": asked["nonce"] });
    claims.as_object_mut().unwrap().extend(person.as_object().unwrap().clone());
    match wrong {
        Some(Wrong::Issuer) => claims["iss"] = "https://login.evil.example".into(),
        Some(Wrong::Audience) => claims["aud"] = "another".into(),
        Some(Wrong::Nonce) => claims["nonce"] = "another".into(),
        Some(Wrong::NoNonce) => drop(claims.as_object_mut().unwrap().remove("nonce")),
        Some(Wrong::Expired) => claims["exp"] = (now - 10).into(),
        Some(Wrong::NoSubject) => drop(claims.as_object_mut().unwrap().remove("sub")),
        _ => {}
    }
    let signed = sign(&provider, &claims, wrong);
    let mut answer = json!({ "access_token": "a", "token_type": "Bearer", "expires_in": 300, "id_token": signed });
    match wrong {
        Some(Wrong::NoIdToken) => drop(answer.as_object_mut().unwrap().remove("id_token")),
        Some(Wrong::Nonsense) => return "<html>a login page</html>".into_response(),
        Some(Wrong::Endless) => return "x".repeat(1 << 20).into_response(),
        _ => {}
    }
    Json(answer).into_response()
}

fn sign(provider: &Provider, claims: &Value, wrong: Option<Wrong>) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let algorithm = if wrong == Some(Wrong::NoSignature) { "none" } else { "ES256" };
    let text = format!("{}.{}", part(&json!({ "alg": algorithm, "kid": "k1", "typ": "JWT" })), part(claims));
    let other = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let key = if wrong == Some(Wrong::Key) { &other } else { &*provider.key };
    let signature = URL_SAFE_NO_PAD.encode(key.sign(&SystemRandom::new(), text.as_bytes()).unwrap());
    match wrong {
        Some(Wrong::NoSignature) => format!("{text}."),
        Some(Wrong::Tampered) => {
            let mut claims = claims.clone();
            claims["preferred_username"] = "root".into();
            format!("{}.{}.{signature}", text.split('.').next().unwrap(), part(&claims))
        }
        _ => format!("{text}.{signature}"),
    }
}
