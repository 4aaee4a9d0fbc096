//! Phones that register here: who they are, where they are to be found, and that they keep being found after a restart.
//!
//! Asked on the SIP thread: nothing here waits. What has to be written to the disk is written by a task of its own.

mod kept;
mod pings;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use sip::Message;
use sip::auth::Algorithm;
use sip::auth::server::{Authenticator, Verdict};
use sip::endpoint::{FlowId, Source};
use sip::headers::Name;
use sip::registrar::{Binding, Registrar, RegistrarLimits, contacts};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, DeviceConfig, Ha1, Secret};

/// Changes within this long are written together.
const WRITTEN_WITHIN: Duration = Duration::from_millis(500);
/// How often it is looked for registrations that have ended.
const SWEEP_EVERY: Duration = Duration::from_secs(10);

/// Devices and their registrations.
pub(crate) struct Accounts {
    config: RwLock<Arc<Config>>,
    inner: Mutex<Inner>,
    changed: Notify,
    file: PathBuf,
}

struct Inner {
    algorithms: Vec<Algorithm>,
    registrar: Registrar,
    authenticator: Authenticator,
    /// Registrations that were kept of devices that are not known yet: those of the database come later.
    unclaimed: Vec<(String, Binding)>,
}

/// A device, as it was when it was looked up.
#[derive(Debug, Clone)]
pub(crate) struct Device {
    config: Arc<Config>,
    at: usize,
}

impl std::ops::Deref for Device {
    type Target = DeviceConfig;

    fn deref(&self) -> &DeviceConfig {
        // It was found there.
        &self.config.devices[self.at]
    }
}

/// What is sent back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) code: u16,
    pub(crate) reason: &'static str,
    pub(crate) headers: Vec<(String, String)>,
    /// Somebody gave a wrong password.
    pub(crate) has_failed: bool,
}

impl Reply {
    /// A refusal without more.
    pub(crate) fn refusal(code: u16) -> Self {
        Self::new(code)
    }

    fn new(code: u16) -> Self {
        Self { code, reason: "", headers: Vec::new(), has_failed: false }
    }
}

impl std::fmt::Debug for Accounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Accounts")
    }
}

impl Accounts {
    /// The accounts of the configuration, with the registrations that were kept. `local`: where UDP is listened on, and its flow.
    pub(crate) fn open(config: &Arc<Config>, key: [u8; 16], local: &[(SocketAddr, FlowId)]) -> Self {
        let settings = &config.registrar;
        let mut registrar = Registrar::new(RegistrarLimits {
            shortest_s: settings.min_expires_s,
            longest_s: settings.max_expires_s,
            usual_s: settings.default_expires_s,
            bindings: settings.max_bindings,
        });
        let file = config.data.dir.join("registrations.json");
        let mut unclaimed = kept::read(&file, now_s(), local);
        restore(&mut registrar, &mut unclaimed, config);
        let authenticator = Authenticator::new(settings.realm.clone(), key);
        let inner = Mutex::new(Inner { algorithms: settings.digests(), registrar, authenticator, unclaimed });
        Self { config: RwLock::new(Arc::clone(config)), inner, changed: Notify::new(), file }
    }

    /// Other devices, and other trunks that come by a name, from here on. Registrations of devices that stay are kept.
    pub(crate) fn renew(&self, config: Arc<Config>) {
        let mut inner = self.lock();
        let Inner { registrar, unclaimed, .. } = &mut *inner;
        restore(registrar, unclaimed, &config);
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
    }

    fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether there are any devices.
    pub(crate) fn are_there(&self) -> bool {
        !self.config().devices.is_empty()
    }

    /// Whether callers are asked who they are: there are devices, or trunks that come by a name.
    pub(crate) fn ask_for_names(&self) -> bool {
        self.are_there() || self.config().trunks.iter().any(|trunk| !trunk.incoming_username.is_empty())
    }

    /// The device of this name or number, in any case.
    pub(crate) fn named(&self, name: &str) -> Option<Device> {
        let is_called = |own: &String| own.eq_ignore_ascii_case(name);
        let config = self.config();
        let is_it = |device: &DeviceConfig| is_called(&device.user) || device.numbers.iter().any(is_called);
        let at = config.devices.iter().position(is_it)?;
        Some(Device { config, at })
    }

    /// Answers a REGISTER.
    pub(crate) fn register(&self, message: &Message, source: &Source) -> Reply {
        let now = now_s();
        let mut inner = self.lock();
        let user = match self.prove(&mut inner, now, message) {
            Ok(user) => user,
            Err(reply) => return reply,
        };
        let Some(device) = self.named(&user) else { return Reply::new(403) };
        let asked = message.to().ok().and_then(|to| to.uri().ok()).and_then(|uri| uri.user_decoded());
        let is_own = asked.as_deref().and_then(|asked| self.named(asked)).is_some_and(|own| own.user == device.user);
        if !is_own || !device.networks.iter().any(|network| network.contains(source.remote.ip())) {
            return Reply::new(403);
        }
        match inner.registrar.register(now, &device.user, device.max_contacts, message, source) {
            Ok(bindings) => {
                drop(inner);
                self.changed.notify_one();
                metrics::counter!("omnivox_registrations_total", "result" => "taken").increment(1);
                let mut headers = contacts(now, &bindings);
                headers.extend(message.header_values(Name::Path).map(|path| ("Path".to_owned(), path.to_owned())));
                let supported = message.header_values(Name::Supported).any(|tag| tag.eq_ignore_ascii_case("outbound"));
                if supported && bindings.iter().any(|binding| binding.reg_id.is_some()) {
                    // RFC 5626 section 6.
                    headers.push(("Require".to_owned(), "outbound".to_owned()));
                    headers.push(("Flow-Timer".to_owned(), "120".to_owned()));
                }
                Reply { headers, ..Reply::new(200) }
            }
            Err(refused) => {
                metrics::counter!("omnivox_registrations_total", "result" => "refused").increment(1);
                let headers = refused.header().into_iter().collect();
                let reason = if let sip::registrar::Refused::Bad(why) = refused { why } else { "" };
                Reply { reason, headers, ..Reply::new(refused.code()) }
            }
        }
    }

    /// Whose credentials a request outside of calls has: a device's, or those of a trunk that comes by a name.
    ///
    /// # Errors
    /// The challenge to answer with.
    pub(crate) fn sender_of(&self, message: &Message) -> Result<String, Reply> {
        self.prove(&mut self.lock(), now_s(), message)
    }

    /// The device that a request is of, outside of calls.
    ///
    /// # Errors
    /// The challenge to answer with, or a refusal.
    pub(crate) fn device_of(&self, message: &Message) -> Result<String, Reply> {
        let user = self.prove(&mut self.lock(), now_s(), message)?;
        let config = self.config();
        let device = config.devices.iter().find(|device| device.user.eq_ignore_ascii_case(&user));
        device.map(|device| device.user.clone()).ok_or_else(|| Reply::refusal(403))
    }

    /// Who sent a request outside of calls, by its credentials; or the challenge to answer with.
    fn prove(&self, inner: &mut Inner, now: u64, message: &Message) -> Result<String, Reply> {
        match inner.authenticator.check(now, message, Name::Authorization, |name, kind| self.ha1(name, kind)) {
            Verdict::Known(user) => Ok(user),
            Verdict::Unproven { stale } => Err(challenge(inner, now, (401, Name::WwwAuthenticate), stale)),
            Verdict::Wrong => {
                let reply = challenge(inner, now, (401, Name::WwwAuthenticate), false);
                Err(Reply { has_failed: true, ..reply })
            }
        }
    }

    /// Who sent an INVITE: the device, or the trunk that comes by a name of its own; or the challenge to answer with.
    pub(crate) fn identify(&self, invite: &Message) -> Result<Option<String>, Reply> {
        let now = now_s();
        let mut inner = self.lock();
        let has_credentials = invite.header(Name::ProxyAuthorization).is_some();
        match inner.authenticator.check(now, invite, Name::ProxyAuthorization, |name, kind| self.ha1(name, kind)) {
            Verdict::Known(user) => Ok(Some(user)),
            Verdict::Unproven { .. } if !has_credentials => Ok(None),
            Verdict::Unproven { stale } => Err(challenge(&mut inner, now, (407, Name::ProxyAuthenticate), stale)),
            Verdict::Wrong => {
                let reply = challenge(&mut inner, now, (407, Name::ProxyAuthenticate), false);
                Err(Reply { has_failed: true, ..reply })
            }
        }
    }

    /// The challenge to an INVITE.
    pub(crate) fn challenge(&self) -> Reply {
        challenge(&mut self.lock(), now_s(), (407, Name::ProxyAuthenticate), false)
    }

    /// The ways to a device's phones, the best first.
    pub(crate) fn bindings(&self, user: &str) -> Vec<Binding> {
        self.lock().registrar.bindings(now_s(), user).into_iter().cloned().collect()
    }

    /// Whether a phone of this device has this host for our domain.
    pub(crate) fn knows_us_as(&self, device: &str, uri: &sip::Uri) -> bool {
        let Some(device) = self.named(device) else { return false };
        let is_it = |own: sip::Uri| own.host().eq_ignore_ascii_case(uri.host());
        let bindings = self.bindings(&device.user);
        bindings.iter().any(|binding| sip::Uri::parse(&format!("sip:{}", binding.domain)).is_ok_and(is_it))
    }

    /// Whether a phone of this device registered from this very socket.
    pub(crate) fn is_registered_at(&self, device: &str, remote: SocketAddr) -> bool {
        let Some(device) = self.named(device) else { return false };
        let bindings = self.bindings(&device.user);
        bindings.iter().any(|binding| binding.source.is_some_and(|source| source.remote == remote))
    }

    /// A connection is gone.
    pub(crate) fn flow_closed(&self, flow: FlowId) {
        if !self.lock().registrar.flow_closed(flow).is_empty() {
            self.changed.notify_one();
        }
    }

    /// Writes changes to the disk, and forgets registrations that have ended, until the server stops.
    pub(crate) async fn keep(self: Arc<Self>, stop: CancellationToken) {
        loop {
            let stopping = tokio::select! {
                () = self.changed.notified() => {
                    tokio::time::sleep(WRITTEN_WITHIN).await;
                    false
                }
                () = tokio::time::sleep(SWEEP_EVERY) => {
                    if self.lock().registrar.expire(now_s()).is_empty() {
                        self.measure();
                        continue;
                    }
                    false
                }
                () = stop.cancelled() => true,
            };
            self.measure();
            let text = {
                let inner = self.lock();
                kept::to_text(
                    inner.registrar.all().chain(inner.unclaimed.iter().map(|(user, binding)| (user.as_str(), binding))),
                )
            };
            let file = self.file.clone();
            let written = tokio::task::spawn_blocking(move || kept::write(&file, &text)).await;
            if let Ok(Err(fault)) = written {
                tracing::error!("cannot write {}: {fault}. Registrations are lost at a restart", self.file.display());
            }
            if stopping {
                return;
            }
        }
    }

    fn measure(&self) {
        metrics::gauge!("omnivox_registrations").set(self.lock().registrar.len() as f64);
    }

    /// The hash of a device's password, or of a trunk's that calls in by a name.
    fn ha1(&self, name: &str, algorithm: Algorithm) -> Option<String> {
        let config = self.config();
        let realm = &config.registrar.realm;
        if let Some(device) = config.devices.iter().find(|device| device.user.eq_ignore_ascii_case(name)) {
            return secret_hash(name, realm, algorithm, &device.password, &device.ha1);
        }
        let trunk = config
            .trunks
            .iter()
            .find(|trunk| !trunk.incoming_username.is_empty() && trunk.incoming_username.eq_ignore_ascii_case(name))?;
        secret_hash(name, realm, algorithm, &trunk.incoming_password, &[])
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the phone knows us by; before it has said so, our name.
pub(crate) fn domain_of<'a>(binding: &'a Binding, config: &'a Config) -> &'a str {
    if binding.domain.is_empty() { &config.registrar.realm } else { &binding.domain }
}

/// Takes up those registrations whose devices are known.
fn restore(registrar: &mut Registrar, unclaimed: &mut Vec<(String, Binding)>, config: &Config) {
    for (user, binding) in std::mem::take(unclaimed) {
        if config.devices.iter().any(|device| device.user == user) {
            registrar.restore(&user, binding);
        } else {
            unclaimed.push((user, binding));
        }
    }
}

fn secret_hash(name: &str, realm: &str, algorithm: Algorithm, password: &Secret, hashes: &[Ha1]) -> Option<String> {
    if !password.is_empty() {
        return Some(algorithm.ha1(name, realm, password.reveal()));
    }
    let is_same = |hash: &&Ha1| algorithm.as_str().trim_end_matches("-sess") == hash.algorithm.as_str();
    hashes.iter().find(is_same).map(|hash| hash.hex.reveal().to_owned())
}

fn challenge(inner: &mut Inner, now_s: u64, (code, header): (u16, Name), stale: bool) -> Reply {
    let headers = inner.authenticator.challenges(now_s, header, &inner.algorithms, stale);
    Reply { headers, ..Reply::new(code) }
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}
