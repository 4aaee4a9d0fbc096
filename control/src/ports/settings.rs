//! Trunks, numbers, routes and devices: what people add to those of the configuration files while calls run.

use serde_json::{Map, Value};

/// A setting as JSON, with the keys that an entry of the configuration file has.
pub type SettingValue = Map<String, Value>;

/// Whoever calls are routed by.
pub trait Settings: Send + Sync {
    /// What a setting of a kind is made of, as JSON Schema: every key with what it means, its default and whether it is a secret.
    fn schema(&self, kind: SettingKind) -> Value;

    /// Those of a kind that the configuration files have, without their secrets.
    fn fixed(&self, kind: SettingKind) -> Vec<SettingValue>;

    /// A setting as people may see it: with every key and its default, without its secrets.
    fn shown(&self, kind: SettingKind, value: &SettingValue) -> SettingValue;

    /// The agent that a route or a number leads to; `None` where it leads to somebody else, or cannot be read.
    fn agent_of(&self, kind: SettingKind, value: &SettingValue) -> Option<String>;

    /// Whether these, beside those of the files, make a whole. Which agents there are is not asked: they come and go.
    ///
    /// # Errors
    /// The first thing that is wrong.
    fn check(&self, settings: &[(SettingKind, SettingValue)]) -> Result<(), SettingFault>;

    /// Calls that come from here on are routed by these and those of the files; calls that run go on.
    ///
    /// # Errors
    /// As for [`Settings::check`]; everything is as it was.
    fn apply(&self, settings: &[(SettingKind, SettingValue)]) -> Result<(), SettingFault>;
}

/// What kind of setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SettingKind {
    /// A phone's account.
    Device,
    /// A carrier's account.
    Trunk,
    /// Who called what goes to whom.
    Route,
    /// A number of ours and who answers it.
    Number,
}

impl SettingKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Device, Self::Trunk, Self::Route, Self::Number];

    /// As it is stored and written in addresses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Device => "devices",
            Self::Trunk => "trunks",
            Self::Route => "routes",
            Self::Number => "numbers",
        }
    }

    /// Reads it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// The key that names one.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Device => "user",
            Self::Trunk | Self::Route => "name",
            Self::Number => "number",
        }
    }

    /// The keys that hold secrets.
    #[must_use]
    pub fn secrets(self) -> &'static [&'static str] {
        match self {
            Self::Device => &["password", "ha1"],
            Self::Trunk => &["password", "incoming_password"],
            Self::Route | Self::Number => &[],
        }
    }
}

/// What is wrong with a setting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {detail}")]
pub struct SettingFault {
    /// Its key; of a setting that is wrong only beside others, the entry and the key: `routes.office.to`.
    pub field: String,
    /// What, and what to write instead.
    pub detail: String,
}
