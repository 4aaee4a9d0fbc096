//! The control plane as a whole: opened once, shared by every route, kept running beside the calls.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::api::idempotency::KEPT_S;
use crate::fault::kept_running;
use crate::identity::limit::{Limits, Rates};
use crate::identity::oidc::{Oidc, OidcOptions};
use crate::identity::secret::{self, NoRandomness};
use crate::identity::token::Tokens;
use crate::identity::{Caller, Role};
use crate::journal::Journal;
use crate::live::Live;
use crate::outside::{IpNet, Outside};
use crate::ports::agents::Agents;
use crate::ports::spans::Spans;
use crate::ports::{Calls, Ports};
use crate::presence::{self, Presence};
use crate::retention::{self, Retention};
use crate::settings::Kept;
use crate::store::audit::Anchor;
use crate::store::settings::Seal;
use crate::store::{Store, StoreError};
use crate::time::Moment;
use crate::webhooks::client::Client;
use crate::webhooks::dispatch::{Dispatcher, World};
use crate::webhooks::signature::TOLERANCE_S;
use crate::webhooks::{DEAD_KEPT_S, DELIVERED_KEPT_S, PENDING_LIMIT};

/// The first administrator's code is good for this long, in seconds.
const INVITATION_S: i64 = 86_400;
/// What is over is taken away this often.
const SWEPT_EVERY: Duration = Duration::from_secs(600);

/// What other servers of the same database change takes effect here within this time.
const FOLLOWED_EVERY: Duration = Duration::from_secs(5);

/// How the control plane runs.
#[derive(Debug, Clone)]
pub struct Options {
    /// `sqlite:FILE` or `postgres://USER@HOST/NAME`.
    pub database: String,
    /// The folder for what is kept beside the database: the server's key, the audit log's anchor.
    pub folder: PathBuf,
    /// This server's name, where several share a database.
    pub node: String,
    /// Where people find us; `https:` makes cookies secure.
    pub url: String,
    /// A session that is not used for so long is over, in seconds.
    pub session_idle_s: i64,
    /// A session lasts this long at most, in seconds.
    pub session_s: i64,
    /// How often whoever asks may.
    pub rates: Rates,
    /// Networks that webhooks may go to, and without TLS, besides public addresses.
    pub webhooks_allow: Vec<IpNet>,
    /// How people log in by a provider.
    pub oidc: Option<OidcOptions>,
    /// The country whose numbers are written without a country code in contacts and lists; without one they need theirs.
    pub country: Option<phonenumber::country::Id>,
    /// Where ended calls are written first.
    pub journal: PathBuf,
    /// How long things are kept.
    pub retention: Retention,
}

impl Options {
    /// The usual ones, with everything in a folder.
    #[must_use]
    pub fn in_folder(folder: &Path) -> Self {
        Self {
            database: Store::in_folder(folder),
            folder: folder.to_owned(),
            node: "omnivox".to_owned(),
            url: String::new(),
            session_idle_s: 3_600,
            session_s: 43_200,
            rates: Rates::default(),
            webhooks_allow: Vec::new(),
            oidc: None,
            country: None,
            journal: folder.join("calls.jsonl"),
            retention: Retention::default(),
        }
    }
}

/// Why the control plane cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The server's key.
    #[error(
        "cannot read or make the server's key {path}: {fault}. It is 32 bytes or more that only this server may read"
    )]
    Key {
        /// Where.
        path: PathBuf,
        /// Why.
        fault: std::io::Error,
    },
    /// TLS for what is asked over HTTP.
    #[error("nobody can be asked over HTTP: {0}")]
    Client(#[from] reqwest::Error),
    /// No randomness.
    #[error(transparent)]
    Random(#[from] NoRandomness),
}

/// What every route needs; cheap to clone.
#[derive(Clone)]
pub struct Control {
    /// What outlives the process.
    pub store: Store,
    /// Whoever runs calls.
    pub calls: Arc<dyn Calls>,
    /// Whoever runs voice agents.
    pub agents: Arc<dyn Agents>,
    /// Trunks, numbers, routes and devices that people change.
    pub settings: Kept,
    /// Where what is done for calls is told.
    pub spans: Arc<dyn Spans>,
    /// What happens, as it does.
    pub live: Live,
    /// Who takes calls.
    pub presence: Presence,
    /// How it runs.
    pub options: Arc<Options>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) webhooks: Client,
    pub(crate) oidc: Option<Oidc>,
    pub(crate) key: Arc<[u8]>,
    /// The agents' versions that take calls here.
    published: Arc<Mutex<BTreeMap<String, i64>>>,
    /// What the do-not-call list was when calls were told of it.
    barred: Arc<Mutex<Option<(i64, i64)>>>,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").field("store", &self.store).finish_non_exhaustive()
    }
}

impl Control {
    /// Opens the database, brings its schema to the newest version, reads the server's key or makes it.
    ///
    /// # Errors
    /// What cannot be opened.
    pub async fn open(options: Options, ports: Ports, live: Live) -> Result<Self, OpenError> {
        let store = Store::open(&options.database).await?;
        store.migrate().await?;
        let path = options.folder.join("control.key");
        let fault = |fault| OpenError::Key { path: path.clone(), fault };
        let key = server_key(&path).map_err(fault)?;
        let tokens = Tokens::new(&key)
            .map_err(|fault| OpenError::Key { path: path.clone(), fault: std::io::Error::other(fault) })?;
        let unusable = || OpenError::Key { path: path.clone(), fault: std::io::Error::other("it seals nothing") };
        let settings = Kept::new(ports.settings, store.clone(), Seal::new(&key).ok_or_else(unusable)?);
        Ok(Self {
            store,
            settings,
            calls: ports.calls,
            agents: ports.agents,
            spans: ports.spans,
            live,
            presence: Presence::default(),
            limits: Arc::new(Limits::new(options.rates)),
            oidc: options.oidc.clone().map(Oidc::new).transpose()?,
            webhooks: Client::new(Outside::and(&options.webhooks_allow))?,
            options: Arc::new(options),
            tokens: Arc::new(tokens),
            key: key.into(),
            published: Arc::default(),
            barred: Arc::default(),
        })
    }

    /// Reads the journal of ended calls into the database, sends what webhooks are to be told, and takes away what is over, until `stop`.
    /// Returns when the journal has been read to its end.
    pub async fn run(self, stop: CancellationToken) {
        tokio::join!(
            kept_running("the journal", &stop, |stop| Journal::of(&self).run(stop)),
            kept_running("webhooks", &stop, |stop| Dispatcher::new(self.clone(), World::real()).run(stop)),
            kept_running("what is taken away", &stop, |stop| self.sweep(stop)),
            kept_running("what others change", &stop, |stop| self.follow(stop)),
            kept_running("presence", &stop, |stop| presence::run(&self, stop)),
        );
        // Whoever watches was told how the last call ended.
        self.live.end();
        self.store.close().await;
    }

    /// Takes away what is over, until `stop`.
    async fn sweep(&self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(SWEPT_EVERY) => {}
                () = stop.cancelled() => return,
            }
            let now = Moment::now();
            if let Err(fault) = self.store.sweep(now, now.after_s(-KEPT_S)).await {
                tracing::warn!("what is over could not be taken away: {fault}");
            }
            let (delivered, dead) = (now.after_s(-DELIVERED_KEPT_S), now.after_s(-DEAD_KEPT_S));
            if let Err(fault) = self.store.sweep_outbox(delivered, dead, PENDING_LIMIT).await {
                tracing::warn!("what was sent by webhooks could not be taken away: {fault}");
            }
            if let Err(fault) = self.store.sweep_incoming(now.after_s(-2 * TOLERANCE_S)).await {
                tracing::warn!("what is known of messages that came could not be taken away: {fault}");
            }
            match retention::sweep(self, now).await {
                Ok(swept) if swept == retention::Swept::default() => {}
                Ok(swept) => {
                    let by_age = serde_json::json!({ "records": swept.records, "transcripts": swept.transcripts,
                        "recordings": swept.recordings, "interactions": swept.interactions });
                    self.audit_as("retention", "retention.sweep", "", by_age).await;
                }
                Err(fault) => tracing::warn!("what is older than it is kept could not be taken away: {fault}"),
            }
        }
    }

    /// Takes up what other servers of the same database change, until `stop`.
    async fn follow(&self, stop: CancellationToken) {
        loop {
            let followed = async {
                self.settings.follow().await?;
                self.apply_do_not_call().await?;
                self.apply_agents().await
            };
            if let Err(fault) = followed.await {
                tracing::warn!("what was changed elsewhere could not be read: {fault}");
            }
            tokio::select! {
                () = tokio::time::sleep(FOLLOWED_EVERY) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Whoever calls for us is told which numbers are not to be called, where that has changed.
    ///
    /// # Errors
    /// The database's: what was told before holds.
    pub async fn apply_do_not_call(&self) -> Result<(), StoreError> {
        let mut told = self.barred.lock().await;
        let mark = self.store.do_not_call_mark().await?;
        if *told != Some(mark) {
            self.calls.bar(self.store.barred(Moment::now()).await?);
            *told = Some(mark);
        }
        Ok(())
    }

    /// Agents take calls as the database says: those that were published since are, those that were withdrawn no more.
    ///
    /// # Errors
    /// The database's.
    pub async fn apply_agents(&self) -> Result<(), StoreError> {
        let mut published = self.published.lock().await;
        let wanted: BTreeMap<String, i64> = self.store.published_agents().await?.into_iter().collect();
        for name in published.keys().filter(|name| !wanted.contains_key(*name)) {
            self.agents.withdraw(name);
            tracing::info!("agent {name} takes no more calls");
        }
        published.retain(|name, _| wanted.contains_key(name));
        for (name, version) in
            wanted.into_iter().filter(|(name, version)| published.get(name) != Some(version)).collect::<Vec<_>>()
        {
            let Some(definition) = self.store.agent_definition(&name, version).await? else { continue };
            match self.agents.publish(&name, version, &definition) {
                Ok(()) => tracing::info!("agent {name}: version {version} takes calls"),
                Err(faults) => {
                    let what: Vec<String> =
                        faults.iter().map(|fault| format!("{}: {}", fault.field, fault.detail)).collect();
                    tracing::error!("agent {name}: version {version} cannot be used: {}", what.join("; "));
                }
            }
            published.insert(name, version);
        }
        Ok(())
    }

    /// A code by which the first administrator comes in (`POST /api/v1/setup`), where there is none yet; one that was given before is good
    /// no more.
    ///
    /// # Errors
    /// The database's; no randomness.
    pub async fn first_code(&self) -> Result<Option<String>, OpenError> {
        if self.store.administrators().await? > 0 {
            return Ok(None);
        }
        let (code, now) = (secret::new_secret()?, Moment::now());
        self.store.invite(&secret::hash(&code), Role::Administrator, now, now.after_s(INVITATION_S)).await?;
        Ok(Some(code))
    }

    /// Notes in the audit log what somebody did. What was done stays done where the log cannot be written: that is told loudly.
    pub async fn audit(&self, caller: &Caller, action: &str, subject: &str, detail: serde_json::Value) {
        self.audit_as(&caller.actor(), action, subject, detail).await;
    }

    /// The same for somebody who is no caller: the command line, a login.
    pub async fn audit_as(&self, actor: &str, action: &str, subject: &str, detail: serde_json::Value) {
        match self.store.add_audit(actor, action, subject, &detail, Moment::now()).await {
            Ok(anchor) => self.keep_anchor(&anchor),
            Err(fault) => {
                metrics::counter!("omnivox_control_audit_faults_total").increment(1);
                tracing::error!("the audit log has no entry of {action} on {subject} by {actor}: {fault}");
            }
        }
    }

    /// The end of the audit log as it was kept outside of the database.
    #[must_use]
    pub fn anchor(&self) -> Option<Anchor> {
        serde_json::from_slice(&std::fs::read(self.anchor_path()).ok()?).ok()
    }

    fn keep_anchor(&self, anchor: &Anchor) {
        // Entries are noted side by side: the anchor never goes back.
        if self.anchor().is_some_and(|kept| kept.seq > anchor.seq) {
            return;
        }
        let path = self.anchor_path();
        let written = serde_json::to_vec(anchor).map_err(std::io::Error::other).and_then(|bytes| {
            let new = path.with_extension(format!("{}.new", anchor.seq));
            std::fs::write(&new, bytes)?;
            std::fs::rename(&new, &path)
        });
        if let Err(fault) = written {
            tracing::error!("cannot write the audit log's anchor {}: {fault}", path.display());
        }
    }

    fn anchor_path(&self) -> PathBuf {
        self.options.folder.join("audit.anchor")
    }
}

/// The server's key, made where there is none, for this user alone to read.
fn server_key(path: &Path) -> std::io::Result<Vec<u8>> {
    match std::fs::read(path) {
        Ok(key) if key.len() >= 32 => return Ok(key),
        Ok(_) => return Err(std::io::Error::other("it is too short")),
        Err(fault) if fault.kind() == std::io::ErrorKind::NotFound => {}
        Err(fault) => return Err(fault),
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let key = secret::random::<32>().map_err(std::io::Error::other)?;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(&key)?;
    file.sync_all()?;
    Ok(key.to_vec())
}
