//! Devices, trunks, routes and numbers of the database, checked as those of the configuration files are: alone, and beside one another and those.

use std::path::Path;

use control::ports::settings::{SettingKind, SettingValue};
use control::store::settings::{Seal, StoredSetting};

use super::Verdict;
use crate::config::{Config, RouteConfig};
use crate::routing::live::merged;

/// Rows that are complained of, at most: whoever mends those sees the others then.
const COMPLAINTS: usize = 20;

/// A row of the database.
struct Row {
    kind: SettingKind,
    name: String,
    value: SettingValue,
}

impl Row {
    fn at(&self) -> String {
        format!("{}.{} (database)", self.kind.as_str(), self.name)
    }
}

/// The configuration with what the database adds to it, without what is wrong there and told.
pub(super) fn check(
    config: &Config,
    stored: &[StoredSetting],
    tell: &mut impl FnMut(&str, Verdict, String),
) -> Option<Config> {
    if stored.is_empty() {
        return None;
    }
    let key = config.data.dir.join("control.key");
    let mut rows = opened(&key, stored, tell)?;
    let count = rows.len();
    // What is named stands before what names it, so that each is right or wrong by what is before it.
    rows.sort_by_key(|row| match row.kind {
        SettingKind::Device => 0,
        SettingKind::Trunk => 1,
        SettingKind::Number | SettingKind::Route => 2,
    });
    let mut complaints = 0;
    let whole = loop {
        let settings: Vec<(SettingKind, SettingValue)> = rows.iter().map(|row| (row.kind, row.value.clone())).collect();
        let fault = match merged(config, &settings) {
            Ok(whole) => break whole,
            Err(fault) => fault,
        };
        // The first row with which it is wrong: all before it are right together.
        let is_right = |rows: usize| settings.get(..rows).is_some_and(|some| merged(config, some).is_ok());
        let (mut right, mut wrong) = (0, rows.len());
        if !is_right(right) {
            // Said already, of the configuration.
            return None;
        }
        while wrong - right > 1 {
            let middle = right + (wrong - right) / 2;
            if is_right(middle) { right = middle } else { wrong = middle }
        }
        let fault = settings.get(..wrong).and_then(|some| merged(config, some).err()).unwrap_or(fault);
        let row = rows.remove(right);
        let says = format!(
            "{}: {}. As long as it stands there, none of the database's devices, trunks, routes and numbers is in use: change it ({}), or what it \
             does not fit",
            fault.field,
            fault.detail,
            places(row.kind)
        );
        tell(&row.at(), Verdict::Fault, says);
        complaints += 1;
        if complaints == COMPLAINTS {
            tell("settings (database)", Verdict::Fault, "there may be more: mend these first".to_owned());
            return None;
        }
    };
    if complaints == 0 && count == stored.len() {
        let says = format!("{count} devices, trunks, routes and numbers of the database fit the configuration");
        tell("settings (database)", Verdict::Ok, says);
    }
    Some(whole)
}

/// Where people change one.
fn places(kind: SettingKind) -> String {
    format!("the dashboard, or PUT or DELETE /api/v1/{}/NAME", kind.as_str())
}

/// The rows that the server's key opens; `None` where there is no key.
fn opened(key: &Path, stored: &[StoredSetting], tell: &mut impl FnMut(&str, Verdict, String)) -> Option<Vec<Row>> {
    let seal = std::fs::read(key)
        .map_err(|fault| fault.to_string())
        .and_then(|key| Seal::new(&key).ok_or_else(|| "it is no key".to_owned()));
    let seal = match seal {
        Ok(seal) => seal,
        Err(fault) => {
            let says = format!(
                "{} devices, trunks, routes and numbers of the database cannot be read, nor checked: {}: {fault}. Put back the key that they \
                 were sealed with, as a backup has it, or run this as the server's own user",
                stored.len(),
                key.display()
            );
            tell("settings (database)", Verdict::Fault, says);
            return None;
        }
    };
    let mut rows = Vec::with_capacity(stored.len());
    for one in stored {
        let Some(kind) = SettingKind::parse(&one.kind) else { continue };
        match seal.open(kind, &one.name, &one.value) {
            Some(value) => rows.push(Row { kind, name: one.name.clone(), value }),
            None => {
                let says = format!(
                    "it was sealed by another key than {}, and is left out: put that back, or add it anew ({})",
                    key.display(),
                    places(kind)
                );
                tell(&format!("{}.{} (database)", one.kind, one.name), Verdict::Fault, says);
            }
        }
    }
    Some(rows)
}

/// What the database alone brings, of a configuration with what it adds.
pub(super) fn alone(config: &Config, whole: &Config) -> Config {
    let added = whole.routes.len().saturating_sub(config.routes.len());
    let routes: Vec<RouteConfig> = whole.routes.iter().take(added).cloned().collect();
    let trunks = whole.trunks.iter().skip(config.trunks.len()).cloned().collect();
    Config { routes, trunks, devices: Vec::new(), ..whole.clone() }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use control::time::Moment;
    use serde_json::json;

    use super::*;

    fn told(
        config: &Config,
        rows: &[(SettingKind, &str, serde_json::Value)],
        key: &[u8],
    ) -> Vec<(String, Verdict, String)> {
        let seal = Seal::new(key).unwrap();
        let stored = |(kind, name, value): &(SettingKind, &str, serde_json::Value)| StoredSetting {
            kind: kind.as_str().to_owned(),
            name: (*name).to_owned(),
            value: seal.close(*kind, name, value.as_object().unwrap()).unwrap(),
            updated_at: Moment(0),
            version: 1,
        };
        let stored: Vec<StoredSetting> = rows.iter().map(stored).collect();
        let mut said = Vec::new();
        check(config, &stored, &mut |what, verdict, says| said.push((what.to_owned(), verdict, says)));
        said
    }

    #[test]
    fn every_row_that_does_not_fit_is_named_and_those_that_fit_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.data.dir = folder.path().to_owned();
        let device = json!({ "user": "alice", "password": "secret" });
        let number = |to: &str| json!({ "number": "+4930123", "to": to });
        let rows =
            [(SettingKind::Device, "alice", device.clone()), (SettingKind::Number, "+4930123", number("user alice"))];
        let said = told(&config, &rows, &[7; 32]);
        assert!(
            said.len() == 1 && said[0].2.contains("cannot be read") && said[0].2.contains("control.key"),
            "{said:?}"
        );
        std::fs::write(folder.path().join("control.key"), [7; 32]).unwrap();
        let said = told(&config, &rows, &[7; 32]);
        assert_eq!((said.len(), said[0].1), (1, Verdict::Ok), "{said:?}");
        let said = told(&config, &rows, &[8; 32]);
        assert_eq!((said.len(), said[0].0.as_str()), (2, "devices.alice (database)"), "{said:?}");
        assert!(said[1].2.contains("sealed by another key"), "{said:?}");
        let rows = [
            (SettingKind::Route, "a", json!({ "name": "a", "to": "user nobody" })),
            (SettingKind::Device, "alice", device),
            (SettingKind::Number, "+4930123", number("user alice")),
            (SettingKind::Route, "b", json!({ "name": "b", "to": "user alice", "from": ["trunk gone"] })),
            (
                SettingKind::Trunk,
                "carrier",
                json!({ "name": "carrier", "hosts": ["carrier.example"], "codecs": ["nosuch"] }),
            ),
        ];
        let said = told(&config, &rows, &[7; 32]);
        let named: Vec<&str> = said.iter().map(|(what, ..)| what.as_str()).collect();
        assert_eq!(named, ["trunks.carrier (database)", "routes.a (database)", "routes.b (database)"], "{said:?}");
        assert!(said.iter().all(|(_, verdict, _)| *verdict == Verdict::Fault), "{said:?}");
        assert!(said[1].2.contains("no device is called so") && said[1].2.contains("/api/v1/routes"), "{said:?}");
        assert!(said[2].2.contains("no trunk is called so"), "{said:?}");
    }
}
