//! Settings that people change while calls run: kept in the database, checked as a whole with those of the configuration files, and in
//! effect at once here and within seconds on every other server of the database.

use std::sync::Arc;

use tokio::sync::Mutex;

use crate::ports::settings::{SettingFault, SettingKind, SettingValue, Settings};
use crate::store::settings::{Seal, StoredSetting};
use crate::store::{Store, StoreError};
use crate::time::Moment;

/// Settings at most, of all kinds together.
pub const LIMIT: usize = 20_000;

/// Why a change is refused.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// It cannot be used.
    #[error(transparent)]
    Fault(#[from] SettingFault),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No randomness.
    #[error("no randomness")]
    Random,
}

/// The settings of a server; cheap to clone.
#[derive(Clone)]
pub struct Kept {
    port: Arc<dyn Settings>,
    store: Store,
    seal: Arc<Seal>,
    /// What is in effect: kind, name and version of each. Locked while anything changes.
    applied: Arc<Mutex<Vec<(String, String, i64)>>>,
}

impl Kept {
    pub(crate) fn new(port: Arc<dyn Settings>, store: Store, seal: Seal) -> Self {
        Self { port, store, seal: Arc::new(seal), applied: Arc::default() }
    }

    /// Whoever calls are routed by.
    #[must_use]
    pub fn port(&self) -> &dyn Settings {
        &*self.port
    }

    /// What a stored setting holds; `None` where it was sealed by another key.
    #[must_use]
    pub fn open(&self, stored: &StoredSetting) -> Option<SettingValue> {
        self.seal.open(SettingKind::parse(&stored.kind)?, &stored.name, &stored.value)
    }

    /// Adds a setting, or changes `before`.
    ///
    /// # Errors
    /// It cannot be used; the name is taken; somebody else changed it. Nothing is written then.
    pub async fn put(
        &self,
        kind: SettingKind,
        name: &str,
        value: &SettingValue,
        before: Option<&StoredSetting>,
    ) -> Result<(), ChangeError> {
        let mut applied = self.applied.lock().await;
        let mut all = self.all_but(kind, name).await?;
        if all.len() >= LIMIT {
            let detail = format!("there are {LIMIT} settings already: take some away first");
            return Err(SettingFault { field: kind.key().to_owned(), detail }.into());
        }
        all.push((kind, value.clone()));
        self.port.check(&all)?;
        let (sealed, now) = (self.seal.close(kind, name, value).ok_or(ChangeError::Random)?, Moment::now());
        match before {
            Some(before) => self.store.change_setting(before, &sealed, now).await?,
            None => self.store.add_setting(kind, name, &sealed, now).await?,
        }
        Ok(self.settle(&mut applied).await?)
    }

    /// Takes a setting away.
    ///
    /// # Errors
    /// Others name it.
    pub async fn remove(&self, kind: SettingKind, name: &str) -> Result<(), ChangeError> {
        let mut applied = self.applied.lock().await;
        self.port.check(&self.all_but(kind, name).await?)?;
        self.store.remove_setting(kind, name).await?;
        Ok(self.settle(&mut applied).await?)
    }

    /// What is stored is in effect.
    ///
    /// # Errors
    /// The database's.
    pub async fn follow(&self) -> Result<(), StoreError> {
        let mut applied = self.applied.lock().await;
        self.settle(&mut applied).await
    }

    async fn settle(&self, applied: &mut Vec<(String, String, i64)>) -> Result<(), StoreError> {
        let stored = self.store.settings().await?;
        let versions: Vec<_> =
            stored.iter().map(|setting| (setting.kind.clone(), setting.name.clone(), setting.version)).collect();
        if *applied == versions {
            return Ok(());
        }
        match self.port.apply(&self.opened(&stored)) {
            Ok(()) => tracing::info!("{} settings of the database are in effect", stored.len()),
            // They fitted the configuration files when they were written.
            Err(fault) => tracing::error!("the settings of the database cannot take effect: {fault}"),
        }
        *applied = versions;
        Ok(())
    }

    async fn all_but(&self, kind: SettingKind, name: &str) -> Result<Vec<(SettingKind, SettingValue)>, StoreError> {
        let mut stored = self.store.settings().await?;
        stored.retain(|setting| setting.kind != kind.as_str() || setting.name != name);
        Ok(self.opened(&stored))
    }

    fn opened(&self, stored: &[StoredSetting]) -> Vec<(SettingKind, SettingValue)> {
        let open = |setting: &StoredSetting| {
            let opened = SettingKind::parse(&setting.kind).zip(self.open(setting));
            if opened.is_none() {
                tracing::error!(
                    "{} {} was sealed by another key than control.key: it is left out",
                    setting.kind,
                    setting.name
                );
            }
            opened
        };
        stored.iter().filter_map(open).collect()
    }
}
