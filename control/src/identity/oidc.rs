//! Logging in by a provider (OpenID Connect Core 1.0): the authorization code flow with PKCE (RFC 7636), state and nonce. What the
//! provider says is believed where its ID token is signed with the provider's keys, for us, not over, and with the nonce of this
//! very login; the `openidconnect` crate looks at all of that.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use openidconnect::core::{CoreAuthenticationFlow, CoreClient, CoreProviderMetadata};
use openidconnect::{
    AuthorizationCode, ClientId, ClientSecret, CsrfToken, HttpRequest, HttpResponse, IssuerUrl, Nonce,
    PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, Scope, TokenResponse,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::Mutex;

use super::{Role, secret};
use crate::time::Moment;

/// Where the provider sends people back to, below our address.
pub const CALLBACK: &str = "/api/v1/session/oidc/callback";
/// A login takes this long at most, in seconds.
pub const PENDING_S: i64 = 600;
/// The provider answers within this.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);
/// Bytes of its answer at most.
const ANSWER_BYTES: usize = 512 * 1_024;
/// What it says of itself, its keys too, is asked for anew after this.
const KNOWN_FOR: Duration = Duration::from_secs(60);

/// How people log in by a provider.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct OidcOptions {
    /// The provider's address, as its ID tokens have it.
    pub issuer: String,
    /// What we are called there.
    pub client_id: String,
    /// Our secret there.
    pub client_secret: String,
    /// Where people find us.
    pub url: String,
    /// Domains of e-mail addresses that may log in; empty: all that the provider knows.
    pub domains: Vec<String>,
    /// Users are made at their first login; otherwise only those log in that are there.
    pub create: bool,
    /// The claim that has the user's name.
    pub name_claim: String,
    /// The claim that has the user's role; empty: roles are set here.
    pub role_claim: String,
    /// What it says, and the role that this stands for.
    pub roles: BTreeMap<String, Role>,
    /// The claim that has the name of the user's team; empty: teams are set here.
    pub team_claim: String,
}

impl fmt::Debug for OidcOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OidcOptions")
            .field("issuer", &self.issuer)
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}

/// Asks the provider; cheap to clone.
#[derive(Debug, Clone)]
pub struct Oidc {
    /// How.
    pub options: Arc<OidcOptions>,
    http: reqwest::Client,
    known: Arc<Mutex<Option<(Instant, CoreProviderMetadata)>>>,
}

/// A login that has begun, as its browser keeps it, sealed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Pending {
    /// Comes back with the code.
    state: String,
    /// Comes back in the ID token.
    nonce: String,
    /// Shows that who has the code also began.
    verifier: String,
    /// It is good until then.
    until: i64,
}

/// Who the provider says it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Person {
    /// The provider.
    pub issuer: String,
    /// Who they are there, for good.
    pub subject: String,
    /// All that it says.
    pub claims: Map<String, Value>,
}

/// Why nobody was logged in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OidcFault {
    /// The configuration.
    #[error("[control.oidc]: {0}")]
    Options(String),
    /// The provider does not answer as one does.
    #[error("the provider {issuer}: {why}")]
    Provider {
        /// Which.
        issuer: String,
        /// What it does.
        why: String,
    },
    /// Its ID token is not to be believed.
    #[error("the ID token: {0}")]
    Token(String),
    /// No randomness.
    #[error(transparent)]
    Random(#[from] secret::NoRandomness),
}

impl Oidc {
    /// For a provider.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new(options: OidcOptions) -> Result<Self, reqwest::Error> {
        // Redirects might lead to where nobody meant to ask.
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).timeout(ANSWERS_WITHIN);
        Ok(Self { options: Arc::new(options), http: http.build()?, known: Arc::default() })
    }

    /// Whether the provider answers as one does.
    ///
    /// # Errors
    /// It does not.
    pub async fn reach(&self) -> Result<(), OidcFault> {
        self.redirect()?;
        self.metadata().await.map(|_| ())
    }

    /// Begins a login: where the browser is to go, and what it keeps meanwhile.
    ///
    /// # Errors
    /// The provider does not answer.
    pub async fn begin(&self, now: Moment) -> Result<(String, Pending), OidcFault> {
        let (metadata, redirect) = (self.metadata().await?, self.redirect()?);
        let (state, nonce) = (secret::new_secret()?, secret::new_secret()?);
        let verifier = secret::new_secret()?;
        let challenge = PkceCodeChallenge::from_code_verifier_sha256(&PkceCodeVerifier::new(verifier.clone()));
        let client = CoreClient::from_provider_metadata(metadata, ClientId::new(self.options.client_id.clone()), None)
            .set_redirect_uri(redirect);
        let (sent_state, sent_nonce) = (state.clone(), nonce.clone());
        let (url, _, _) = client
            .authorize_url(
                CoreAuthenticationFlow::AuthorizationCode,
                move || CsrfToken::new(sent_state),
                move || Nonce::new(sent_nonce),
            )
            .add_scope(Scope::new("email".to_owned()))
            .add_scope(Scope::new("profile".to_owned()))
            .set_pkce_challenge(challenge)
            .url();
        Ok((url.to_string(), Pending { state, nonce, verifier, until: now.after_s(PENDING_S).0 }))
    }

    /// Ends a login: exchanges the code for an ID token, and believes it or not.
    ///
    /// # Errors
    /// The provider does not answer, or what it says is not to be believed.
    pub async fn finish(&self, code: String, pending: &Pending) -> Result<Person, OidcFault> {
        let (metadata, redirect) = (self.metadata().await?, self.redirect()?);
        let secret = Some(&self.options.client_secret).filter(|secret| !secret.is_empty());
        let id = ClientId::new(self.options.client_id.clone());
        let client =
            CoreClient::from_provider_metadata(metadata, id, secret.map(|secret| ClientSecret::new(secret.clone())))
                .set_redirect_uri(redirect);
        let http = self.http();
        let request = client.exchange_code(AuthorizationCode::new(code)).map_err(|fault| self.fault(fault))?;
        let request = request.set_pkce_verifier(PkceCodeVerifier::new(pending.verifier.clone()));
        let answer = request.request_async(&http).await.map_err(|fault| self.fault(fault))?;
        let token = answer.id_token().ok_or_else(|| self.fault("it sends no ID token"))?;
        let claims = token
            .claims(&client.id_token_verifier(), &Nonce::new(pending.nonce.clone()))
            .map_err(|fault| OidcFault::Token(fault.to_string()))?;
        let (issuer, subject) = (claims.issuer().to_string(), claims.subject().to_string());
        // The signature covers it: what else it says is read as it stands.
        let claims = token
            .to_string()
            .split('.')
            .nth(1)
            .and_then(|part| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok());
        let claims = claims.ok_or_else(|| OidcFault::Token("it cannot be read".to_owned()))?;
        Ok(Person { issuer, subject, claims })
    }

    async fn metadata(&self) -> Result<CoreProviderMetadata, OidcFault> {
        let mut known = self.known.lock().await;
        if let Some((at, metadata)) = known.as_ref()
            && at.elapsed() < KNOWN_FOR
        {
            return Ok(metadata.clone());
        }
        let issuer = IssuerUrl::new(self.options.issuer.clone()).map_err(|fault| self.fault(fault))?;
        let http = self.http();
        let metadata = CoreProviderMetadata::discover_async(issuer, &http).await.map_err(|fault| self.fault(fault))?;
        *known = Some((Instant::now(), metadata.clone()));
        Ok(metadata)
    }

    fn redirect(&self) -> Result<RedirectUrl, OidcFault> {
        let url = format!("{}{CALLBACK}", self.options.url.trim_end_matches('/'));
        RedirectUrl::new(url).map_err(|fault| OidcFault::Options(format!("control.url: {fault}")))
    }

    fn fault(&self, why: impl std::fmt::Display) -> OidcFault {
        OidcFault::Provider { issuer: self.options.issuer.clone(), why: why.to_string() }
    }

    fn http(
        &self,
    ) -> impl Fn(HttpRequest) -> futures::future::BoxFuture<'static, Result<HttpResponse, std::io::Error>> {
        let http = self.http.clone();
        move |request: HttpRequest| Box::pin(ask(http.clone(), request))
    }
}

async fn ask(http: reqwest::Client, request: HttpRequest) -> Result<HttpResponse, std::io::Error> {
    let request = reqwest::Request::try_from(request.map(reqwest::Body::from)).map_err(std::io::Error::other)?;
    let fault = |fault: reqwest::Error| std::io::Error::other(crate::outside::cause(&fault));
    let mut answer = http.execute(request).await.map_err(fault)?;
    let mut response = openidconnect::http::Response::builder().status(answer.status());
    for (name, value) in answer.headers() {
        response = response.header(name, value);
    }
    let mut body = Vec::new();
    while let Some(piece) = answer.chunk().await.map_err(fault)? {
        if body.len() + piece.len() > ANSWER_BYTES {
            return Err(std::io::Error::other(format!("its answer is longer than {ANSWER_BYTES} bytes")));
        }
        body.extend_from_slice(&piece);
    }
    response.body(body).map_err(std::io::Error::other)
}

impl Pending {
    /// As its browser keeps it.
    ///
    /// # Errors
    /// No randomness.
    pub fn seal(&self, key: &[u8]) -> Result<String, secret::NoRandomness> {
        secret::seal(key, &serde_json::to_string(self).unwrap_or_default())
    }

    /// Reads what a browser kept, where it is ours, not over, and of the login that comes back.
    #[must_use]
    pub fn open(key: &[u8], sealed: &str, state: &str, now: Moment) -> Option<Self> {
        let pending: Self = serde_json::from_str(&secret::open(key, sealed)?).ok()?;
        (pending.until > now.0 && secret::same(&pending.state, state)).then_some(pending)
    }
}

impl OidcOptions {
    /// The name that a person has here; `Err` says why they may not.
    ///
    /// # Errors
    /// What is missing, or not allowed.
    pub fn name_of(&self, claims: &Map<String, Value>) -> Result<String, &'static str> {
        let text = |claim: &str| claims.get(claim).and_then(Value::as_str).map(str::to_lowercase);
        let is_verified = matches!(claims.get("email_verified"), Some(Value::Bool(true)));
        let email = text("email").filter(|_| is_verified);
        let is_ours = |address: &str| {
            address.rsplit_once('@').is_some_and(|(_, domain)| self.domains.iter().any(|ours| ours == domain))
        };
        if !self.domains.is_empty() && !email.as_deref().is_some_and(is_ours) {
            return Err("the e-mail address is not verified, or not of a domain that may log in");
        }
        let name = if self.name_claim == "email" { email } else { text(&self.name_claim) };
        let name = name.ok_or("the provider does not say their name")?;
        match name.split_once('@') {
            // Elsewhere somebody else may have that name.
            Some(_) if !is_ours(&name) => Err("the name is of a domain that may not log in"),
            Some((local, _)) => Ok(local.to_owned()),
            None => Ok(name),
        }
    }

    /// The highest role that the claims give.
    #[must_use]
    pub fn role_of(&self, claims: &Map<String, Value>) -> Option<Role> {
        values(claims, &self.role_claim).filter_map(|value| self.roles.get(value).copied()).max()
    }

    /// The name of the team that the claims give.
    #[must_use]
    pub fn team_of<'a>(&self, claims: &'a Map<String, Value>) -> Option<&'a str> {
        values(claims, &self.team_claim).next()
    }
}

/// A claim that is one text or several.
fn values<'a>(claims: &'a Map<String, Value>, claim: &str) -> impl Iterator<Item = &'a str> {
    let each: &[Value] = match claims.get(claim) {
        Some(Value::Array(each)) => each,
        Some(one) => std::slice::from_ref(one),
        None => &[],
    };
    each.iter().filter_map(Value::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn claims(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn a_name_of_another_domain_is_nobodys_here() {
        let options = OidcOptions {
            name_claim: "preferred_username".into(),
            domains: vec!["corp.example".into()],
            ..OidcOptions::default()
        };
        let name = |value: Value| options.name_of(&claims(value));
        assert_eq!(
            name(json!({ "preferred_username": "Ada", "email": "ada@corp.example", "email_verified": true }))
                .as_deref(),
            Ok("ada")
        );
        assert_eq!(
            name(
                json!({ "preferred_username": "ada@corp.example", "email": "ada@corp.example", "email_verified": true })
            )
            .as_deref(),
            Ok("ada")
        );
        for other in [
            json!({ "preferred_username": "ada", "email": "ada@corp.example", "email_verified": false }),
            json!({ "preferred_username": "ada", "email": "ada@corp.example" }),
            json!({ "preferred_username": "ada", "email": "ada@corp.example.evil", "email_verified": true }),
            json!({ "preferred_username": "ada@evil.example", "email": "x@corp.example", "email_verified": true }),
            json!({ "email": "ada@corp.example", "email_verified": true }),
            json!({ "preferred_username": 7, "email": "ada@corp.example", "email_verified": true }),
        ] {
            assert!(name(other.clone()).is_err(), "{other}");
        }
        let open = OidcOptions { name_claim: "email".into(), ..OidcOptions::default() };
        assert!(
            open.name_of(&claims(json!({ "email": "ada@corp.example", "email_verified": true }))).is_err(),
            "no domain is ours"
        );
    }

    #[test]
    fn the_highest_role_counts() {
        let roles = BTreeMap::from([("staff".to_owned(), Role::Operator), ("leads".to_owned(), Role::Supervisor)]);
        let options =
            OidcOptions { role_claim: "groups".into(), roles, team_claim: "team".into(), ..OidcOptions::default() };
        assert_eq!(options.role_of(&claims(json!({ "groups": ["leads", "staff", 7] }))), Some(Role::Supervisor));
        assert_eq!(options.role_of(&claims(json!({ "groups": "staff" }))), Some(Role::Operator));
        assert_eq!(options.role_of(&claims(json!({ "groups": ["administrator"] }))), None);
        assert_eq!(options.team_of(&claims(json!({ "team": "Reception" }))), Some("Reception"));
    }

    #[test]
    fn a_login_comes_back_to_the_browser_that_began_it_within_its_time() {
        let pending = Pending { state: "s".into(), nonce: "n".into(), verifier: "v".into(), until: 1_000 };
        let sealed = pending.seal(b"key").unwrap();
        assert!(Pending::open(b"key", &sealed, "s", Moment(999)).is_some());
        assert!(Pending::open(b"key", &sealed, "t", Moment(999)).is_none());
        assert!(Pending::open(b"key", &sealed, "s", Moment(1_000)).is_none());
        assert!(Pending::open(b"other", &sealed, "s", Moment(999)).is_none());
    }
}
