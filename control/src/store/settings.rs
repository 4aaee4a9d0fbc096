//! `settings`: trunks, numbers, routes and devices that people add while calls run. Their values are sealed ([`Seal`]).

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sqlx::{FromRow, Row, any::AnyRow};

use super::{Store, StoreError, taken};
use crate::identity::secret;
use crate::ports::settings::{SettingKind, SettingValue};
use crate::time::Moment;

/// A setting as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSetting {
    /// `devices`, `trunks`, `routes`, `numbers`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its value, sealed.
    pub value: String,
    /// When it last changed.
    pub updated_at: Moment,
    /// Counts the changes: the ETag.
    pub version: i64,
}

impl<'r> FromRow<'r, AnyRow> for StoredSetting {
    fn from_row(row: &'r AnyRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            kind: row.try_get("kind")?,
            name: row.try_get("name")?,
            value: row.try_get("value")?,
            updated_at: Moment(row.try_get("updated_at")?),
            version: row.try_get("version")?,
        })
    }
}

/// Seals values by the server's key (AES-256-GCM), each with its kind and name: one cannot be put in the place of another.
pub struct Seal(LessSafeKey);

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal")
    }
}

impl Seal {
    /// By a key of its own, made of the server's; `None` where that cannot be used.
    #[must_use]
    pub fn new(server_key: &[u8]) -> Option<Self> {
        let key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, server_key), b"omnivox settings 1");
        Some(Self(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.as_ref()).ok()?)))
    }

    /// Seals a value; `None` without randomness.
    #[must_use]
    pub fn close(&self, kind: SettingKind, name: &str, value: &SettingValue) -> Option<String> {
        let nonce: [u8; NONCE_LEN] = secret::random().ok()?;
        let mut text = serde_json::to_vec(value).ok()?;
        let about = Aad::from(format!("{}/{name}", kind.as_str()));
        self.0.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), about, &mut text).ok()?;
        Some(STANDARD.encode([nonce.as_slice(), &text].concat()))
    }

    /// Opens a value; `None` where it was sealed by another key, or is another's.
    #[must_use]
    pub fn open(&self, kind: SettingKind, name: &str, sealed: &str) -> Option<SettingValue> {
        let bytes = STANDARD.decode(sealed).ok()?;
        let (nonce, sealed) = bytes.split_at_checked(NONCE_LEN)?;
        let (nonce, mut text) = (Nonce::try_assume_unique_for_key(nonce).ok()?, sealed.to_vec());
        let about = Aad::from(format!("{}/{name}", kind.as_str()));
        let opened = self.0.open_in_place(nonce, about, &mut text).ok()?;
        serde_json::from_slice(opened).ok()
    }
}

impl Store {
    /// Every setting, by kind and name.
    ///
    /// # Errors
    /// The database's.
    pub async fn settings(&self) -> Result<Vec<StoredSetting>, StoreError> {
        let sql = "SELECT kind, name, value, updated_at, version FROM settings ORDER BY kind, name";
        Ok(sqlx::query_as(sql).fetch_all(self.reader()).await?)
    }

    /// One of them.
    ///
    /// # Errors
    /// The database's.
    pub async fn setting(&self, kind: SettingKind, name: &str) -> Result<Option<StoredSetting>, StoreError> {
        let sql = "SELECT kind, name, value, updated_at, version FROM settings WHERE kind = $1 AND name = $2";
        Ok(sqlx::query_as(sql).bind(kind.as_str()).bind(name).fetch_optional(self.reader()).await?)
    }

    /// Adds a setting.
    ///
    /// # Errors
    /// There is one of that name.
    pub async fn add_setting(
        &self,
        kind: SettingKind,
        name: &str,
        sealed: &str,
        now: Moment,
    ) -> Result<(), StoreError> {
        let sql = "INSERT INTO settings (kind, name, value, created_at, updated_at) VALUES ($1, $2, $3, $4, $4)";
        let query = sqlx::query(sql).bind(kind.as_str()).bind(name).bind(sealed).bind(now.0);
        query.execute(self.writer()).await.map_err(|fault| taken(fault, kind.key(), name))?;
        Ok(())
    }

    /// Changes a setting of this version.
    ///
    /// # Errors
    /// Somebody else changed it.
    pub async fn change_setting(&self, of: &StoredSetting, sealed: &str, now: Moment) -> Result<(), StoreError> {
        let sql = "UPDATE settings SET value = $1, updated_at = $2, version = version + 1 WHERE kind = $3 AND name = $4 AND version = $5";
        let query = sqlx::query(sql).bind(sealed).bind(now.0).bind(&of.kind).bind(&of.name).bind(of.version);
        if query.execute(self.writer()).await?.rows_affected() == 0 {
            return Err(StoreError::Changed);
        }
        Ok(())
    }

    /// Takes a setting away.
    ///
    /// # Errors
    /// The database's.
    pub async fn remove_setting(&self, kind: SettingKind, name: &str) -> Result<(), StoreError> {
        let sql = "DELETE FROM settings WHERE kind = $1 AND name = $2";
        sqlx::query(sql).bind(kind.as_str()).bind(name).execute(self.writer()).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_opens_for_its_own_name_and_key_alone() {
        let seal = Seal::new(&[7; 32]).unwrap();
        let value: SettingValue = serde_json::from_str(r#"{"user": "alice", "password": "walrus"}"#).unwrap();
        let sealed = seal.close(SettingKind::Device, "alice", &value).unwrap();
        assert!(!sealed.contains("walrus"));
        assert_ne!(sealed, seal.close(SettingKind::Device, "alice", &value).unwrap());
        assert_eq!(seal.open(SettingKind::Device, "alice", &sealed), Some(value));
        assert_eq!(seal.open(SettingKind::Device, "bob", &sealed), None);
        assert_eq!(seal.open(SettingKind::Trunk, "alice", &sealed), None);
        assert_eq!(Seal::new(&[8; 32]).unwrap().open(SettingKind::Device, "alice", &sealed), None);
        assert_eq!(seal.open(SettingKind::Device, "alice", "AAAA"), None);
    }
}
