//! `[control.oidc]`: logging in by a provider (OpenID Connect).

use std::collections::BTreeMap;
use std::path::PathBuf;

use control::identity::Role;
use control::identity::oidc::OidcOptions;
use serde::{Deserialize, Serialize};

use super::secret::{SecretSource, resolve};
use super::{ConfigError, Secret};

/// `[control.oidc]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OidcConfig {
    /// The provider's address, as its ID tokens have it: `https://login.example.net`. Empty: nobody logs in by a provider.
    pub issuer: String,
    /// What this server is called there.
    pub client_id: String,
    /// Its secret there; empty for a public client.
    pub client_secret: Secret,
    /// A file that holds it alone.
    pub client_secret_file: PathBuf,
    /// An environment variable that holds it.
    pub client_secret_env: String,
    /// Domains of verified e-mail addresses that may log in; empty: everybody whom the provider knows.
    pub domains: Vec<String>,
    /// Users are made at their first login; otherwise only those log in that are there.
    pub create: bool,
    /// The claim that has the user's name: `preferred_username`, or `email` (the part before the @).
    pub name_claim: String,
    /// The claim that has the user's role; empty: roles are set here.
    pub role_claim: String,
    /// What it says, and the role that it stands for: `admins=administrator`.
    pub roles: Vec<String>,
    /// The claim that has the name of the user's team; empty: teams are set here.
    pub team_claim: String,
}

impl Default for OidcConfig {
    fn default() -> Self {
        Self {
            issuer: String::new(),
            client_id: String::new(),
            client_secret: Secret::default(),
            client_secret_file: PathBuf::new(),
            client_secret_env: String::new(),
            domains: Vec::new(),
            create: false,
            name_claim: "preferred_username".to_owned(),
            role_claim: String::new(),
            roles: Vec::new(),
            team_claim: String::new(),
        }
    }
}

impl OidcConfig {
    /// As the control plane wants it, for a server that people find at `url`; `None` where no provider is named.
    #[must_use]
    pub fn options(&self, url: &str) -> Option<OidcOptions> {
        let roles = self.roles.iter().filter_map(|text| parse(text)).collect::<BTreeMap<_, _>>();
        (!self.issuer.is_empty()).then(|| OidcOptions {
            issuer: self.issuer.clone(),
            client_id: self.client_id.clone(),
            client_secret: self.client_secret.reveal().to_owned(),
            url: url.to_owned(),
            domains: self.domains.iter().map(|domain| domain.to_lowercase()).collect(),
            create: self.create,
            name_claim: self.name_claim.clone(),
            role_claim: self.role_claim.clone(),
            roles,
            team_claim: self.team_claim.clone(),
        })
    }

    pub(super) fn resolve_secrets(&mut self, env: &[(String, String)]) -> Result<(), ConfigError> {
        let (file, env_name) = (&self.client_secret_file, &self.client_secret_env);
        let source = SecretSource { at: "control.oidc", key: "client_secret", file, env: env_name };
        resolve(&mut self.client_secret, &source, env)
    }

    pub(super) fn validate(&self, url: &str) -> Result<(), ConfigError> {
        let bad = |key: &'static str, value: &str, fix: &'static str| {
            Err(ConfigError::Value { key, value: value.to_owned(), fix })
        };
        if self.issuer.is_empty() {
            return Ok(());
        }
        let is_local =
            ["http://127.0.0.1", "http://[::1]", "http://localhost"].iter().any(|own| self.issuer.starts_with(own));
        if !self.issuer.starts_with("https://") && !is_local {
            return bad("control.oidc.issuer", &self.issuer, "write https://HOST as the provider's ID tokens have it");
        }
        if self.client_id.is_empty() {
            return bad("control.oidc.client_id", "", "write what this server is called at the provider");
        }
        if url.is_empty() {
            return bad("control.url", "", "write https://HOST: the provider sends people back there");
        }
        if self.name_claim.is_empty() {
            return bad("control.oidc.name_claim", "", "write preferred_username, email or another claim");
        }
        if self.name_claim == "email" && self.domains.is_empty() {
            return bad(
                "control.oidc.domains",
                "[]",
                "name the domains whose addresses are yours: elsewhere others have the same names",
            );
        }
        if let Some(wrong) = self.roles.iter().find(|text| parse(text).is_none()) {
            return bad(
                "control.oidc.roles",
                wrong,
                "write CLAIM=ROLE, the role being operator, supervisor or administrator",
            );
        }
        Ok(())
    }
}

fn parse(text: &str) -> Option<(String, Role)> {
    let (value, role) = text.rsplit_once('=')?;
    Some((value.to_owned(), Role::parse(role)?))
}
