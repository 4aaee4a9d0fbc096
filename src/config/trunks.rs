//! `[[trunks]]`: a carrier's account, how its calls are known, what they may cost, and how numbers are written there.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::devices::is_user;
use super::secret::{SecretSource, resolve};
use super::{Checks, ConfigError, Network, Pattern, Rewrite, Secret, SrtpPolicy};

/// One of `[[trunks]]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TrunkConfig {
    /// Its name in routes, records, metrics and logs.
    #[schema(example = "carrier")]
    pub name: String,
    /// `static`: the carrier knows us by our address. `register`: we register with it.
    #[schema(inline)]
    pub kind: TrunkKind,
    /// Where calls go: `HOST`, `sip:HOST:PORT;transport=tls`, with `priority=N` (lower first) and `weight=N` behind it. Empty: the
    /// trunk is for calls that come in.
    #[schema(value_type = Vec<String>, example = json!(["sip.carrier.example"]))]
    pub hosts: Vec<TrunkHost>,
    /// Calls from these networks come by this trunk. With `register`, and nothing here, in `tls_names` and `incoming_username`, those from
    /// where its hosts are do.
    #[schema(value_type = Vec<String>, example = json!(["192.0.2.0/24"]))]
    pub addresses: Vec<Network>,
    /// Calls over TLS whose certificate has one of these names come by this trunk.
    pub tls_names: Vec<String>,
    /// Calls that authenticate with this name come by this trunk.
    pub incoming_username: String,
    /// The password to `incoming_username`.
    #[schema(value_type = String)]
    pub incoming_password: Secret,
    /// A file that holds `incoming_password` alone.
    #[schema(value_type = String)]
    pub incoming_password_file: PathBuf,
    /// An environment variable that holds `incoming_password`.
    pub incoming_password_env: String,
    /// Our name at the carrier: of the registration, and for its challenges.
    pub username: String,
    /// The password to `username`.
    #[schema(value_type = String)]
    pub password: Secret,
    /// A file that holds `password` alone.
    #[schema(value_type = String)]
    pub password_file: PathBuf,
    /// An environment variable that holds `password`.
    pub password_env: String,
    /// The domain of our address at the carrier, in From and To. Empty: the first host's.
    pub domain: String,
    /// How long to register for, in seconds.
    pub expires_s: u32,
    /// OPTIONS is sent to each host so often, in seconds; a host that does not answer is passed over. 0 sends none.
    pub ping_s: u64,
    /// Calls at once, both ways; 0 sets no limit.
    pub max_calls: usize,
    /// New calls a second, both ways; 0 sets no limit.
    pub max_calls_per_second: u32,
    /// What a call beyond a limit gets: 503, with Retry-After where the trunk calls us, or 486.
    pub over_limit: u16,
    /// Codecs, best first. Empty: `rtp.codecs`.
    pub codecs: Vec<String>,
    /// Whether the sound of its calls is protected (SRTP), as with `rtp.srtp`; `default`: as that says, or the listener.
    #[schema(inline)]
    pub srtp: SrtpPolicy,
    /// The country whose numbers are written without a country code here, such as DE.
    #[schema(example = "DE")]
    pub country: String,
    /// Numbers that come are brought into this form: `keep` or `e164`.
    #[schema(inline)]
    pub numbers_in: NumberForm,
    /// Numbers go out in this form: `keep`, `e164`, `digits` (E.164 without +), `double_zero` (00 for +) or `national`.
    #[schema(inline)]
    pub numbers_out: NumberForm,
    /// Rules for called numbers that come, before `numbers_in`: `PATTERN => NUMBER`; the first that matches counts.
    #[schema(value_type = Vec<String>)]
    pub called_in: Vec<Rewrite>,
    /// Rules for callers' numbers that come, before `numbers_in`.
    #[schema(value_type = Vec<String>)]
    pub caller_in: Vec<Rewrite>,
    /// Rules for called numbers that go out, after `numbers_out`.
    #[schema(value_type = Vec<String>)]
    pub called_out: Vec<Rewrite>,
    /// Rules for callers' numbers that go out, after `numbers_out`.
    #[schema(value_type = Vec<String>)]
    pub caller_out: Vec<Rewrite>,
    /// The number shown where the caller has none that may be shown here.
    #[schema(example = "+49301234")]
    pub caller: String,
    /// Whose numbers may be shown here besides `caller`; others are replaced by it. Empty allows all.
    #[schema(value_type = Vec<String>)]
    pub callers: Vec<Pattern>,
    /// Whether identities are exchanged with it (RFC 3325): `trusted` believes and sends P-Asserted-Identity, also of callers who
    /// want privacy; `untrusted` does neither.
    #[schema(inline)]
    pub identity: IdentityPolicy,
    /// How it is told who sent a call on that goes out here: `history-info` (RFC 7044), `diversion` (RFC 5806), `both` or `off`.
    #[schema(inline)]
    pub history: HistoryPolicy,
    /// Further headers that are passed on from one leg to the other.
    pub pass_headers: Vec<String>,
    /// Calls that go out here are signed, where `stir.key_file` is set; a signature that is passed on (`pass_headers`) stays the only one.
    pub sign: bool,
    /// It takes its calls back: an agent's transfer to somebody outside asks it by REFER to call them itself, and frees our lines.
    pub refer: bool,
    /// What becomes of a call that it sends on (3xx): `refuse` follows nothing; `trunk` calls whom it names at hosts of its own, here again;
    /// `routes` calls the number as the caller could by a route of ours.
    #[schema(inline)]
    pub redirects: RedirectPolicy,
    /// Refusals after which the next host or trunk is tried, besides 408 and 5xx; of 3xx those that are not followed.
    pub failover_codes: Vec<u16>,
    /// How long a call by this trunk rings before the next is tried, in seconds.
    pub ring_s: u64,
}

/// How a trunk is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TrunkKind {
    /// By address.
    Static,
    /// By a registration of ours.
    Register,
}

/// How a number is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NumberForm {
    /// As it is.
    Keep,
    /// `+493012345`.
    E164,
    /// `493012345`.
    Digits,
    /// `00493012345`.
    DoubleZero,
    /// `03012345` for numbers of the trunk's country, `double_zero` for others.
    National,
}

/// Whether the peer is within our domain of trust (RFC 3325 section 2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum IdentityPolicy {
    /// It is.
    Trusted,
    /// It is not.
    Untrusted,
}

/// By which headers a peer is told who sent a call on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum HistoryPolicy {
    /// History-Info.
    HistoryInfo,
    /// Diversion.
    Diversion,
    /// Each.
    Both,
    /// It is not told.
    Off,
}

/// Whether a carrier may send calls of ours on (RFC 3261 section 8.1.3.4): it costs whoever calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RedirectPolicy {
    /// It may not.
    Refuse,
    /// To numbers at hosts of its own.
    Trunk,
    /// To numbers that the caller may call by our routes.
    Routes,
}

/// One place a trunk's calls go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrunkHost {
    /// `sip:HOST[:PORT][;transport=...]`, without a user.
    pub uri: String,
    /// Lower ones are tried first.
    pub priority: u16,
    /// Hosts of one priority share calls in proportion to this.
    pub weight: u16,
}

impl Default for TrunkConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            kind: TrunkKind::Static,
            hosts: Vec::new(),
            addresses: Vec::new(),
            tls_names: Vec::new(),
            incoming_username: String::new(),
            incoming_password: Secret::default(),
            incoming_password_file: PathBuf::new(),
            incoming_password_env: String::new(),
            username: String::new(),
            password: Secret::default(),
            password_file: PathBuf::new(),
            password_env: String::new(),
            domain: String::new(),
            expires_s: 600,
            ping_s: 30,
            max_calls: 0,
            max_calls_per_second: 0,
            over_limit: 503,
            codecs: Vec::new(),
            srtp: SrtpPolicy::Default,
            country: String::new(),
            numbers_in: NumberForm::E164,
            numbers_out: NumberForm::E164,
            called_in: Vec::new(),
            caller_in: Vec::new(),
            called_out: Vec::new(),
            caller_out: Vec::new(),
            caller: String::new(),
            callers: Vec::new(),
            identity: IdentityPolicy::Untrusted,
            history: HistoryPolicy::Both,
            pass_headers: vec!["User-to-User".to_owned()],
            sign: true,
            refer: false,
            redirects: RedirectPolicy::Refuse,
            failover_codes: Vec::new(),
            ring_s: 60,
        }
    }
}

impl FromStr for TrunkHost {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fault = |why: &str| {
            format!(
                "`{text}` is no host of a trunk: {why}; write HOST, or sip:HOST:PORT;transport=tcp priority=1 weight=10"
            )
        };
        let mut words = text.split_whitespace();
        let host = words.next().ok_or_else(|| fault("it is empty"))?;
        let uri =
            if host.starts_with("sip:") || host.starts_with("sips:") { host.to_owned() } else { format!("sip:{host}") };
        let parsed = sip::Uri::parse(&uri).map_err(|error| fault(&error.to_string()))?;
        if parsed.user().is_some() || parsed.headers().is_some() {
            return Err(fault("a user and headers have no place here"));
        }
        if let Some(name) = parsed.transport().filter(|name| sip::Transport::parse(name).is_none()) {
            return Err(fault(&format!("`{name}` is no transport")));
        }
        let mut made = Self { uri, priority: 1, weight: 1 };
        for word in words {
            let (key, value) = word.split_once('=').ok_or_else(|| fault("what follows the host is key=value"))?;
            let value = value.parse().map_err(|_| fault("priority and weight are numbers up to 65535"))?;
            match key {
                "priority" => made.priority = value,
                "weight" => made.weight = value,
                _ => return Err(fault("only priority and weight follow the host")),
            }
        }
        Ok(made)
    }
}

impl fmt::Display for TrunkHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.uri)?;
        if (self.priority, self.weight) != (1, 1) {
            write!(f, " priority={} weight={}", self.priority, self.weight)?;
        }
        Ok(())
    }
}

serde_as_text!(TrunkHost);

impl TrunkConfig {
    /// How long a call by this trunk may ring.
    #[must_use]
    pub fn ring_for(&self) -> Duration {
        Duration::from_secs(self.ring_s)
    }

    /// The domain of our address at the carrier; empty where the trunk has no host.
    #[must_use]
    pub fn our_domain(&self) -> String {
        if !self.domain.is_empty() {
            return self.domain.clone();
        }
        let first = self.hosts.iter().min_by_key(|host| host.priority);
        first.and_then(|host| sip::Uri::parse(&host.uri).ok()).map(|uri| uri.host().to_owned()).unwrap_or_default()
    }

    pub(super) fn resolve_secrets(&mut self, env: &[(String, String)]) -> Result<(), ConfigError> {
        let at = format!("trunks.{}", self.name);
        let source = SecretSource { at: &at, key: "password", file: &self.password_file, env: &self.password_env };
        resolve(&mut self.password, &source, env)?;
        let (file, env_name) = (&self.incoming_password_file, &self.incoming_password_env);
        let source = SecretSource { at: &at, key: "incoming_password", file, env: env_name };
        resolve(&mut self.incoming_password, &source, env)
    }

    /// Whether it is settled here which calls are its own.
    #[must_use]
    pub fn says_who_calls(&self) -> bool {
        !(self.addresses.is_empty() && self.tls_names.is_empty() && self.incoming_username.is_empty())
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let at = format!("trunks.{}", self.name);
        let bad =
            |key: &str, value: &dyn fmt::Display, fix: &str| Err(ConfigError::entry(format!("{at}.{key}"), value, fix));
        if !is_user(&self.name) {
            return Err(ConfigError::entry(
                "trunks.name",
                &self.name,
                "write a name: letters, digits and -_.+ only, at most 64",
            ));
        }
        let no_way_in = !self.says_who_calls();
        if self.hosts.is_empty() && no_way_in {
            return bad(
                "hosts",
                &"[]",
                "name where its calls go, or by addresses, tls_names or incoming_username whose calls are its own",
            );
        }
        if self.kind == TrunkKind::Register
            && (self.hosts.is_empty() || self.username.is_empty() || self.password.is_empty())
        {
            return bad("kind", &"register", "a registering trunk needs hosts, username and a password");
        }
        if self.addresses.iter().any(|network| matches!(network, Network::Any)) {
            return bad(
                "addresses",
                &"any",
                "name the carrier's networks: whoever calls from elsewhere is not the carrier",
            );
        }
        if self.incoming_username.is_empty() != self.incoming_password.is_empty() {
            return bad(
                "incoming_username",
                &self.incoming_username,
                "give incoming_username and incoming_password together",
            );
        }
        if self.username.is_empty() && !self.password.is_empty() {
            return bad("username", &"", "a password goes with a username");
        }
        if !self.domain.is_empty() && sip::Uri::sip(None, &self.domain, None).is_err() {
            return bad("domain", &self.domain, "write a host name or address");
        }
        self.validate_habits(&at)
    }

    fn validate_habits(&self, at: &str) -> Result<(), ConfigError> {
        let bad =
            |key: &str, value: &dyn fmt::Display, fix: &str| Err(ConfigError::entry(format!("{at}.{key}"), value, fix));
        let checks = Checks { at };
        if !(30..=86_400).contains(&self.expires_s) {
            return bad("expires_s", &self.expires_s, "write seconds from 30 to 86400");
        }
        if self.ping_s != 0 && !(5..=3_600).contains(&self.ping_s) {
            return bad("ping_s", &self.ping_s, "write seconds from 5 to 3600, or 0 for none");
        }
        if ![486, 503].contains(&self.over_limit) {
            return bad("over_limit", &self.over_limit, "write 503 or 486");
        }
        if self.ring_s == 0 || self.ring_s > 600 {
            return bad("ring_s", &self.ring_s, "write seconds from 1 to 600");
        }
        if let Some(code) = self.failover_codes.iter().find(|code| !(300..=699).contains(*code)) {
            return bad("failover_codes", code, "write SIP statuses from 300 to 699");
        }
        checks.codecs("codecs", &self.codecs)?;
        checks.country("country", &self.country)?;
        if self.numbers_out == NumberForm::National && self.country.is_empty() {
            return bad("numbers_out", &"national", "name the trunk's country");
        }
        if !matches!(self.numbers_in, NumberForm::Keep | NumberForm::E164) {
            return bad("numbers_in", &"(another form)", "write keep or e164");
        }
        if !self.caller.is_empty() {
            checks.number("caller", &self.caller)?;
        }
        if !self.callers.is_empty() && self.caller.is_empty() {
            return bad("caller", &"", "name the number that replaces those which callers does not allow");
        }
        match self.pass_headers.iter().find(|name| !may_pass(name)) {
            Some(name) => {
                bad("pass_headers", name, "name headers of the caller's own, such as User-to-User or X-Account")
            }
            None => Ok(()),
        }
    }
}

/// Headers that belong to one leg are never passed on, whatever the configuration says; who sent a call on is told as `history` says.
fn may_pass(name: &str) -> bool {
    use sip::Name;
    let is_token = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&b));
    is_token
        && !matches!(
            Name::parse(name.as_bytes()),
            Name::Via
                | Name::From
                | Name::To
                | Name::CallId
                | Name::CSeq
                | Name::Contact
                | Name::MaxForwards
                | Name::Route
                | Name::RecordRoute
                | Name::ContentType
                | Name::ContentLength
                | Name::Allow
                | Name::Supported
                | Name::Require
                | Name::Authorization
                | Name::ProxyAuthorization
                | Name::Diversion
                | Name::HistoryInfo
        )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_with_priority_and_weight() {
        let host = |text: &str| text.parse::<TrunkHost>();
        let plain = host("sip.example.net").unwrap();
        assert_eq!((plain.uri.as_str(), plain.priority, plain.weight), ("sip:sip.example.net", 1, 1));
        let full = host("sip:192.0.2.1:5070;transport=tcp priority=2 weight=30").unwrap();
        assert_eq!((full.uri.as_str(), full.priority, full.weight), ("sip:192.0.2.1:5070;transport=tcp", 2, 30));
        assert_eq!(full.to_string().parse::<TrunkHost>().unwrap(), full);
        for text in
            ["", "sip:user@host", "host;transport=pigeon", "host weight", "host weight=x", "host height=3", "a b"]
        {
            assert!(host(text).unwrap_err().contains("write HOST"), "{text}");
        }
    }

    #[test]
    fn headers_of_one_leg_are_never_passed_on() {
        for name in ["Via", "v", "from", "Route", "Contact", "Authorization", "Diversion", "a b", ""] {
            assert!(!may_pass(name), "{name}");
        }
        for name in ["User-to-User", "X-Twilio-CallToken", "Subject"] {
            assert!(may_pass(name), "{name}");
        }
    }
}
