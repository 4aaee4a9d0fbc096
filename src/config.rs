//! The typed configuration tree: one place that knows every key, its default and its limits.
//!
//! Sources, later ones win: defaults, the file (`--config`), the environment (`OMNIVOX_SECTION__KEY`),
//! `--set section.key=value`. The tree is validated once, at the start; a key nobody knows is an error
//! that names the nearest known one.

#[macro_use]
mod network;
mod oidc;

mod calls;
mod checks;
mod control;
mod devices;
pub mod engines;
mod guard;
mod http;
mod ice;
mod kinds;
mod load;
mod pattern;
mod prices;
mod queues;
mod routes;
mod rtp;
mod secret;
mod sip;
mod srtp;
mod stir;
mod telemetry;
mod tls;
mod trace;
mod trunks;
mod web;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use checks::Checks;

pub use self::sip::SipConfig;
pub use calls::{CallsConfig, RECORD_TONE_S_LIMIT, RecordingFormat};
pub use checks::ENTRIES_LIMIT;
pub use control::ControlConfig;
pub use devices::{DeviceConfig, RegistrarConfig};
pub use guard::GuardConfig;
pub use http::{HttpConfig, PlainHttp};
pub use ice::{ICE_URLS_LIMIT, IceScheme, IceServerConfig, IceUrl};
pub use load::{ConfigError, Sources};
pub use network::{Network, PortRange, SipListen};
pub use oidc::OidcConfig;
pub use pattern::{Pattern, Rewrite};
pub use prices::{Increment, ModelPrice, Price, PricesConfig, RecognizerPrice, TrunkDirection, TrunkPrice, VoicePrice};
pub use routes::{CallerKind, DaySpan, HourSpan, QueueOrder, RouteConfig, RouteTo};
pub use rtp::RtpConfig;
pub use secret::{Ha1, Secret};
pub use srtp::{IceMode, SrtpPolicy};
pub use stir::{StirConfig, StirPolicy};
pub use telemetry::{OtlpConfig, TelemetryConfig};
pub use tls::TlsConfig;
pub use trace::TraceConfig;
pub use trunks::{HistoryPolicy, IdentityPolicy, NumberForm, RedirectPolicy, TrunkConfig, TrunkHost, TrunkKind};
pub use web::WebConfig;

/// Everything `omnivox serve` can be told.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Signalling: listeners and who may call.
    pub sip: SipConfig,
    /// Certificates, and whom we believe.
    pub tls: TlsConfig,
    /// `[stir]`
    pub stir: StirConfig,
    /// What strangers may ask of us.
    pub guard: GuardConfig,
    /// Sound: ports and worker threads.
    pub rtp: RtpConfig,
    /// The HTTP listener: health, readiness, metrics, calls of web pages.
    pub http: HttpConfig,
    /// Calls of web pages.
    pub web: WebConfig,
    /// Users, records in a database, the HTTP interface to all of it.
    pub control: ControlConfig,
    /// Where records, recordings and models are kept.
    pub data: DataConfig,
    /// Logs on stderr.
    pub log: LogConfig,
    /// What is told to other systems of how calls go.
    pub telemetry: TelemetryConfig,
    /// The built-in numbers.
    pub numbers: NumbersConfig,
    /// Which voice agents answer.
    pub agents: AgentsConfig,
    /// Limits and habits of each call.
    pub calls: CallsConfig,
    /// What providers and trunks charge.
    pub prices: PricesConfig,
    /// Downloaded models.
    pub models: ModelsConfig,
    /// Signalling kept to be looked at.
    pub trace: TraceConfig,
    /// How phones register here.
    pub registrar: RegistrarConfig,
    /// STUN and TURN servers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ice_servers: Vec<IceServerConfig>,
    /// Phones' accounts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<DeviceConfig>,
    /// Carriers' accounts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub trunks: Vec<TrunkConfig>,
    /// Who called what goes to whom; the first rule that fits counts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<RouteConfig>,
}

/// `[data]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// The folder for call records and recordings; made if absent.
    pub dir: PathBuf,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// `text` or `json`.
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `info,sip=debug`.
    pub level: String,
    /// Show numbers, addresses and transcripts in logs. Off: they are masked.
    pub personal: bool,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// `[numbers]`: each built-in number can be switched off.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NumbersConfig {
    /// `sip:agent@` and `sip:AGENTNAME@`.
    pub agent: bool,
    /// `sip:echo@`: what is said comes back.
    pub echo: bool,
    /// `sip:ring@`: rings, is never answered.
    pub ring: bool,
    /// `sip:bye@`: answers, hangs up after 2 s.
    pub bye: bool,
    /// For devices: `sip:room-NAME@` (a conference), `sip:park-SLOT@` (fetches whoever waits there; a call transferred there waits),
    /// `sip:pickup-DEVICE@` (takes a call that rings there), `sip:listen-DEVICE@`, `sip:whisper-DEVICE@` and `sip:join-DEVICE@` for those
    /// that may supervise.
    pub places: bool,
}

/// `[agents]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AgentsConfig {
    /// The agent behind `sip:agent@`.
    pub default: String,
    /// The folder of `NAME.toml` files; it need not exist.
    pub dir: PathBuf,
}

/// `[models]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelsConfig {
    /// The folder of models. Empty: `data.dir/models`.
    pub dir: PathBuf,
    /// Where models are fetched from instead of their usual address. Empty: the usual one.
    pub url: String,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self { dir: PathBuf::from("./data") }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: "info".to_owned(), personal: false }
    }
}

impl LogConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        if crate::telemetry::filter(&self.level).is_some() {
            return Ok(());
        }
        let fix = "write error, warn, info, debug, trace, or a filter such as info,sip=debug";
        Err(ConfigError::Value { key: "log.level", value: self.level.clone(), fix })
    }
}

impl Default for NumbersConfig {
    fn default() -> Self {
        Self { agent: true, echo: true, ring: true, bye: true, places: true }
    }
}

impl Default for AgentsConfig {
    fn default() -> Self {
        Self { default: "desk".to_owned(), dir: PathBuf::from("agents") }
    }
}

impl Default for ModelsConfig {
    fn default() -> Self {
        Self { dir: PathBuf::new(), url: String::new() }
    }
}

impl Config {
    /// Reads and validates the configuration from all its sources.
    ///
    /// # Errors
    /// A [`ConfigError`] that names the source, the key, and what to write instead.
    pub fn load(sources: &Sources) -> Result<Self, ConfigError> {
        let mut config = sources.read()?;
        config.devices.iter_mut().try_for_each(|device| device.resolve_secrets(&sources.env))?;
        config.trunks.iter_mut().try_for_each(|trunk| trunk.resolve_secrets(&sources.env))?;
        config.ice_servers.iter_mut().try_for_each(|server| server.resolve_secrets(&sources.env))?;
        config.web.resolve_secrets(&sources.env)?;
        config.control.resolve_secrets(&sources.env)?;
        config.telemetry.resolve_secrets(&sources.env)?;
        let CallsConfig { record_key, record_key_file: file, record_key_env: env, .. } = &mut config.calls;
        secret::resolve(record_key, &secret::SecretSource { at: "calls", key: "record_key", file, env }, &sources.env)?;
        config.validate()?;
        Ok(config)
    }

    /// The same with settings that were added while it is in use; routes stand before those that there are.
    ///
    /// # Errors
    /// What is wrong with one of them, or with all together.
    pub fn with_settings(
        &self,
        devices: Vec<DeviceConfig>,
        trunks: Vec<TrunkConfig>,
        mut routes: Vec<RouteConfig>,
    ) -> Result<Self, ConfigError> {
        let env: Vec<(String, String)> = std::env::vars().collect();
        let mut config = self.clone();
        let added = (config.devices.len(), config.trunks.len());
        config.devices.extend(devices);
        config.trunks.extend(trunks);
        config.devices.iter_mut().skip(added.0).try_for_each(|device| device.resolve_secrets(&env))?;
        config.trunks.iter_mut().skip(added.1).try_for_each(|trunk| trunk.resolve_secrets(&env))?;
        routes.append(&mut config.routes);
        config.routes = routes;
        config.validate()?;
        Ok(config)
    }

    /// The folder of downloaded models.
    #[must_use]
    pub fn models_dir(&self) -> PathBuf {
        if self.models.dir.as_os_str().is_empty() { self.data.dir.join("models") } else { self.models.dir.clone() }
    }

    fn validate(&self) -> Result<(), ConfigError> {
        self.log.validate()?;
        self.sip.validate()?;
        self.rtp.validate()?;
        self.calls.validate()?;
        self.guard.validate()?;
        self.tls.validate(&self.sip.listen)?;
        self.http.validate(&self.tls, &self.control.url)?;
        self.stir.validate()?;
        self.trace.validate()?;
        self.registrar.validate()?;
        self.web.validate()?;
        self.control.validate()?;
        self.telemetry.validate()?;
        self.prices.validate()?;
        ice::validate(&self.ice_servers)?;
        self.devices.iter().try_for_each(DeviceConfig::validate)?;
        self.trunks.iter().try_for_each(TrunkConfig::validate)?;
        self.routes.iter().enumerate().try_for_each(|(index, route)| route.validate(index))?;
        checks::references(self)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn with_sets(sets: &[&str]) -> Result<Config, ConfigError> {
        Config::load(&Sources { sets: sets.iter().map(ToString::to_string).collect(), ..Sources::default() })
    }

    #[test]
    fn nothing_configured_gives_the_documented_defaults() {
        let config = with_sets(&[]).unwrap();
        assert_eq!(config, Config::default());
        assert_eq!(config.sip.listen[0].to_string(), "udp:0.0.0.0:5060");
        assert_eq!(config.http.listen.to_string(), "127.0.0.1:8080");
        assert_eq!(config.rtp.ports.to_string(), "10000-19999");
    }

    #[test]
    fn the_commented_sample_says_exactly_the_defaults() {
        let sample = include_str!("../omnivox.sample.toml");
        let uncommented: String =
            sample.lines().map(|line| line.strip_prefix("#: ").unwrap_or(line)).collect::<Vec<_>>().join("\n");
        let parsed: Config = toml::from_str(&uncommented).unwrap();
        assert_eq!(parsed, Config::default());
        let written: toml::Table = toml::from_str(&uncommented).unwrap();
        let expected = toml::Table::try_from(Config::default()).unwrap();
        assert_eq!(written, expected, "each key stands in the sample, and no other");
    }

    /// Entries of `[[devices]]`, `[[trunks]]` and `[[routes]]` have no default as a whole: the sample shows one of each with
    /// every key, and marks with `# example` what is not the key's default.
    #[test]
    fn the_sample_entries_say_every_key_and_its_default() {
        let sample = include_str!("../omnivox.sample.toml");
        let lines: Vec<&str> = sample.lines().filter_map(|line| line.strip_prefix("#+ ")).collect();
        let written: toml::Table = toml::from_str(&lines.join("\n")).unwrap();
        let defaults = [
            ("ice_servers", toml::Table::try_from(IceServerConfig::default()).unwrap()),
            ("devices", toml::Table::try_from(DeviceConfig::default()).unwrap()),
            ("trunks", toml::Table::try_from(TrunkConfig::default()).unwrap()),
            ("routes", toml::Table::try_from(RouteConfig::default()).unwrap()),
            ("prices.recognizers", toml::Table::try_from(RecognizerPrice::default()).unwrap()),
            ("prices.voices", toml::Table::try_from(VoicePrice::default()).unwrap()),
            ("prices.models", toml::Table::try_from(ModelPrice::default()).unwrap()),
            ("prices.trunks", toml::Table::try_from(TrunkPrice::default()).unwrap()),
        ];
        let prices = written["prices"].as_table().unwrap();
        assert_eq!(written.len() - 1 + prices.len(), defaults.len());
        for (kind, defaults) in defaults {
            let entries = match kind.split_once('.') {
                Some((table, kind)) => &written[table][kind],
                None => &written[kind],
            };
            let entry = entries.as_array().unwrap()[0].as_table().unwrap();
            let keys = |table: &toml::Table| table.keys().cloned().collect::<std::collections::BTreeSet<_>>();
            assert_eq!(keys(entry), keys(&defaults), "{kind}: each key stands in the sample, and no other");
            let from = lines.iter().position(|line| *line == format!("[[{kind}]]")).unwrap();
            for (key, value) in entry {
                let line = lines[from..].iter().find(|line| line.starts_with(&format!("{key} ="))).unwrap();
                assert_eq!(*value != defaults[key], line.ends_with("# example"), "{kind}: {line}");
            }
        }
        let config = of_sample(&lines.join("\n")).unwrap();
        assert_eq!(config.trunks[0].password.reveal(), "b");
        assert_eq!(
            config.prices.trunk("carrier", TrunkDirection::Out, "+49301").unwrap().minute.micros(),
            Some(12_000)
        );
    }

    /// Whoever drops every `#: ` and `#+ ` has a file that is read, once the secrets are there and what prices are in.
    #[test]
    fn the_sample_with_everything_uncommented_is_read() {
        let sample = include_str!("../omnivox.sample.toml");
        let bare = |line: &'static str| line.strip_prefix("#: ").or(line.strip_prefix("#+ ")).unwrap_or(line);
        let text = sample.lines().map(bare).collect::<Vec<_>>().join("\n");
        let config = of_sample(&text).unwrap();
        assert_eq!((config.devices.len(), config.trunks.len(), config.routes.len()), (1, 1, 1));
        assert_eq!(config.prices.currency, "EUR");
    }

    /// Reads lines of the sample, with what it leaves to others.
    fn of_sample(text: &str) -> Result<Config, ConfigError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let secrets = [("ALICE_PASSWORD", "a"), ("CARRIER_PASSWORD", "b"), ("TURN_SECRET", "c")];
        Config::load(&Sources {
            file: Some(file.path().to_owned()),
            env: secrets.map(|(name, secret)| (name.to_owned(), secret.to_owned())).to_vec(),
            sets: vec!["prices.currency=EUR".to_owned()],
        })
    }

    fn from_file(text: &str) -> Result<Config, ConfigError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Config::load(&Sources { file: Some(file.path().to_owned()), ..Sources::default() })
    }

    #[test]
    fn a_fault_in_an_entry_names_the_entry_the_key_and_the_fix() {
        let alice = "[[devices]]\nuser=\"alice\"\npassword=\"x\"\n";
        let trunk = "[[trunks]]\nname=\"a\"\nhosts=[\"h\"]\n";
        let route = |rest: &str| format!("{alice}{trunk}[[routes]]\n{rest}\n");
        for (text, key, fix) in [
            ("[[devices]]\nuser=\"a b\"\npassword=\"x\"".to_owned(), "devices.user", "letters"),
            ("[[devices]]\nuser=\"bob\"".to_owned(), "devices.bob.password", "password_env"),
            (format!("{alice}ha1=[\"nonsense\"]"), "ha1", "ALGORITHM:HEX"),
            (format!("{alice}country=\"Germany\""), "devices.alice.country", "two letters"),
            (format!("{alice}max_contacts=0"), "devices.alice.max_contacts", "from 1"),
            (format!("{alice}{alice}"), "devices.user", "two devices"),
            ("[[trunks]]\nname=\"a\"".to_owned(), "trunks.a.hosts", "incoming_username"),
            (format!("{trunk}kind=\"register\""), "trunks.a.kind", "username"),
            (format!("{trunk}addresses=[\"any\"]"), "trunks.a.addresses", "networks"),
            (format!("{trunk}codecs=[\"g729\"]"), "trunks.a.codecs", "known codecs"),
            (format!("{trunk}pass_headers=[\"Via\"]"), "trunks.a.pass_headers", "User-to-User"),
            (format!("{trunk}over_limit=404"), "trunks.a.over_limit", "503 or 486"),
            (format!("{trunk}pasword=\"x\""), "trunks.pasword", "did you mean `trunks.password`"),
            (route("from=[\"anyone\"]\nto=\"trunk a\""), "routes.#1.from", "nobody unknown"),
            (route("to=\"trunk b\""), "routes.#1.to", "no trunk"),
            (route("name=\"n\"\nto=\"user bob\""), "routes.n.to", "no device"),
            (route("zone=\"Berlin\""), "routes.#1.zone", "Europe/Berlin"),
            (route("hours=[\"8-17\"]"), "hours", "HH:MM-HH:MM"),
            ("[registrar]\nmin_expires_s=0".to_owned(), "registrar.min_expires_s", "from 1"),
        ] {
            let message = from_file(&text).unwrap_err().to_string();
            assert!(message.contains(key) && message.contains(fix), "{text}: {message}");
        }
    }

    #[test]
    fn more_entries_than_the_limit_are_refused() {
        let many = |count: usize| {
            let mut config = Config::default();
            let device = |n: usize| DeviceConfig {
                user: format!("d{n}"),
                password: Secret::new("x"),
                ..DeviceConfig::default()
            };
            config.devices = (0..count).map(device).collect();
            config.validate()
        };
        assert!(many(ENTRIES_LIMIT).is_ok());
        assert!(many(ENTRIES_LIMIT + 1).unwrap_err().to_string().contains("devices"));
    }

    #[test]
    fn no_secret_is_printed_with_the_configuration() {
        let config = from_file(
            "[[devices]]\nuser=\"alice\"\npassword=\"hunter2\"\n[[trunks]]\nname=\"a\"\nhosts=[\"h\"]\nusername=\"u\"\npassword=\"hunter2\"",
        )
        .unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
        assert!(!toml::to_string(&config).unwrap().contains("hunter2"));
    }

    #[test]
    fn a_value_out_of_range_names_the_key_and_the_fix() {
        for (set, key) in [
            ("log.level=loud", "log.level = loud: write error, warn"),
            ("log.level=info,sip=loud", "log.level"),
            ("rtp.ptime_ms=25", "rtp.ptime_ms"),
            ("rtp.ports=\"9-5\"", "rtp.ports"),
            ("rtp.worker_cpus=[0, 1024]", "rtp.worker_cpus"),
            ("sip.listen=[]", "sip.listen"),
            ("rtp.codecs=[\"g729\"]", "rtp.codecs"),
            ("calls.max=0", "calls.max"),
            ("rtp.hold_timeout_s=0", "rtp.hold_timeout_s"),
            ("registrar.realm=My PBX", "registrar.realm"),
            ("registrar.realm=host;x=y", "registrar.realm"),
            ("registrar.ping_s=90000", "registrar.ping_s"),
            ("calls.record_key=abc", "calls.record_key"),
            ("web.numbers=[]", "web.numbers"),
            ("control.database=mysql://me:x@host/db", "control.database"),
            ("control.node=", "control.node"),
            ("control.url=here", "control.url"),
            ("control.session_s=1", "control.session_s"),
            ("control.webhooks_allow=[\"here\"]", "control.webhooks_allow"),
            ("control.oidc.issuer=http://login.example.net", "control.oidc.issuer"),
            ("control.oidc.issuer=https://login.example.net", "control.oidc.client_id"),
            ("control.country=Germany", "control.country"),
            ("control.retention.records_days=-1", "from 1 to 36500"),
            ("control.rates.report=0", "from 1 to 1000000"),
            ("rtp.srtp=default", "rtp.srtp"),
            ("rtp.srtp=always", "srtp"),
            ("sip.listen=[\"tls:0.0.0.0:5061;srtp=x\"]", "sip.listen"),
            ("sip.advertise=here", "sip.advertise"),
            ("http.tls_listen=8443", "http.tls_listen"),
            ("http.tls_listen=127.0.0.1:8443", "http.certificate"),
            ("http.key=key.pem", "http.certificate"),
            ("http.plain=redirect", "http.plain"),
            ("http.plain=off", "http.plain"),
            ("telemetry.sentry_dsn=https://host/7", "telemetry.sentry_dsn"),
            ("telemetry.otlp.endpoint=collector:4318", "telemetry.otlp.endpoint"),
            ("telemetry.otlp.headers=key", "telemetry.otlp.headers"),
            ("telemetry.otlp.sample=1.5", "telemetry.otlp.sample"),
            ("telemetry.otlp.service=", "telemetry.otlp.service"),
            ("http.max_connections=1", "http.max_connections"),
            ("http.hsts_s=63072001", "http.hsts_s"),
            ("http.trusted_proxies=[\"any\"]", "http.trusted_proxies"),
        ] {
            let message = with_sets(&[set]).unwrap_err().to_string();
            assert!(message.contains(key), "{set}: {message}");
        }
        for level in ["info", "WARN", "off", "debug,sip=trace", "sip[call{id=1}]=debug"] {
            assert!(with_sets(&[format!("log.level={level}").as_str()]).is_ok(), "{level}");
        }
    }
}
