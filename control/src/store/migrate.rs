//! The schema's history: each step up, and back down, for both databases.

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AnyPool, SqlSafeStr};

use super::{Backend, Store, StoreError};

/// One step of the schema.
struct Change {
    version: i64,
    name: &'static str,
    up: Sql,
    down: Sql,
}

/// The text of a step, where it is the same in both databases and where it is not.
enum Sql {
    Both(&'static str),
    Each { sqlite: &'static str, postgres: &'static str },
}

impl Sql {
    fn of(&self, backend: Backend) -> &'static str {
        match (self, backend) {
            (Self::Both(sql), _) => sql,
            (Self::Each { sqlite, .. }, Backend::Sqlite) => sqlite,
            (Self::Each { postgres, .. }, Backend::Postgres) => postgres,
        }
    }
}

macro_rules! sql {
    ($file:literal) => {
        include_str!(concat!("../../migrations/", $file, ".sql"))
    };
}

const CHANGES: &[Change] = &[
    Change {
        version: 1,
        name: "people",
        up: Sql::Both(sql!("0001_people.up")),
        down: Sql::Both(sql!("0001_people.down")),
    },
    Change {
        version: 2,
        name: "calls",
        up: Sql::Both(sql!("0002_calls.up")),
        down: Sql::Both(sql!("0002_calls.down")),
    },
    Change {
        version: 3,
        name: "turns",
        up: Sql::Each { sqlite: sql!("0003_turns.sqlite.up"), postgres: sql!("0003_turns.postgres.up") },
        down: Sql::Each { sqlite: sql!("0003_turns.sqlite.down"), postgres: sql!("0003_turns.postgres.down") },
    },
    Change {
        version: 4,
        name: "audit",
        up: Sql::Both(sql!("0004_audit.up")),
        down: Sql::Both(sql!("0004_audit.down")),
    },
    Change {
        version: 5,
        name: "agents",
        up: Sql::Both(sql!("0005_agents.up")),
        down: Sql::Both(sql!("0005_agents.down")),
    },
    Change {
        version: 6,
        name: "settings",
        up: Sql::Both(sql!("0006_settings.up")),
        down: Sql::Both(sql!("0006_settings.down")),
    },
    Change {
        version: 10,
        name: "webhooks",
        up: Sql::Both(sql!("0010_webhooks.up")),
        down: Sql::Both(sql!("0010_webhooks.down")),
    },
    Change {
        version: 11,
        name: "incoming",
        up: Sql::Both(sql!("0011_incoming.up")),
        down: Sql::Both(sql!("0011_incoming.down")),
    },
    Change { version: 12, name: "oidc", up: Sql::Both(sql!("0012_oidc.up")), down: Sql::Both(sql!("0012_oidc.down")) },
    Change {
        version: 20,
        name: "contacts",
        up: Sql::Both(sql!("0020_contacts.up")),
        down: Sql::Both(sql!("0020_contacts.down")),
    },
    Change {
        version: 21,
        name: "figures",
        up: Sql::Both(sql!("0021_figures.up")),
        down: Sql::Both(sql!("0021_figures.down")),
    },
    Change {
        version: 22,
        name: "retention",
        up: Sql::Each { sqlite: sql!("0022_retention.sqlite.up"), postgres: sql!("0022_retention.postgres.up") },
        down: Sql::Each { sqlite: sql!("0022_retention.sqlite.down"), postgres: sql!("0022_retention.postgres.down") },
    },
    Change {
        version: 30,
        name: "lists",
        up: Sql::Each { sqlite: sql!("0030_lists.sqlite.up"), postgres: sql!("0030_lists.postgres.up") },
        down: Sql::Each { sqlite: sql!("0030_lists.sqlite.down"), postgres: sql!("0030_lists.postgres.down") },
    },
    Change {
        version: 31,
        name: "presence",
        up: Sql::Both(sql!("0031_presence.up")),
        down: Sql::Both(sql!("0031_presence.down")),
    },
    Change {
        version: 32,
        name: "figures",
        up: Sql::Each { sqlite: sql!("0032_figures.sqlite.up"), postgres: sql!("0032_figures.postgres.up") },
        down: Sql::Both(sql!("0032_figures.down")),
    },
    Change {
        version: 35,
        name: "costs",
        up: Sql::Both(sql!("0035_costs.up")),
        down: Sql::Both(sql!("0035_costs.down")),
    },
    Change {
        version: 38,
        name: "kinds said",
        up: Sql::Each { sqlite: sql!("0038_kinds_said.sqlite.up"), postgres: sql!("0038_kinds_said.postgres.up") },
        down: Sql::Each {
            sqlite: sql!("0038_kinds_said.sqlite.down"),
            postgres: sql!("0038_kinds_said.postgres.down"),
        },
    },
    Change {
        version: 39,
        name: "refused",
        up: Sql::Both(sql!("0039_refused.up")),
        down: Sql::Both(sql!("0039_refused.down")),
    },
    Change {
        version: 40,
        name: "written",
        up: Sql::Both(sql!("0040_written.up")),
        down: Sql::Both(sql!("0040_written.down")),
    },
    Change {
        version: 44,
        name: "conversations",
        up: Sql::Both(sql!("0044_conversations.up")),
        down: Sql::Both(sql!("0044_conversations.down")),
    },
];

/// The newest version of the schema that this program knows.
pub const LATEST: i64 = CHANGES[CHANGES.len() - 1].version;

/// One step, and whether the database has it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Applied {
    /// Its number, from 1.
    pub version: i64,
    /// What it brings.
    pub name: String,
    /// The database has it.
    pub applied: bool,
}

/// The steps of a database that is not there yet.
#[must_use]
pub fn none_applied() -> Vec<Applied> {
    CHANGES.iter().map(|change| change.state(&[])).collect()
}

impl Change {
    /// Whether it is among those that are applied.
    fn state(&self, there: &[i64]) -> Applied {
        Applied { version: self.version, name: self.name.to_owned(), applied: there.contains(&self.version) }
    }
}

impl Store {
    /// Brings the schema to the newest version.
    ///
    /// # Errors
    /// The database is newer than this program, was changed by hand, or refuses.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        self.applied(self.writer()).await?;
        migrator(self.backend()).run(self.writer()).await?;
        self.fill_figures().await
    }

    /// Brings the schema to a version that was the newest once, for what was written then: [`Store::migrate`] takes it on from there.
    ///
    /// # Errors
    /// As for [`Store::migrate`]; the version is none.
    pub(crate) async fn migrate_to(&self, version: i64) -> Result<(), StoreError> {
        self.applied(self.writer()).await?;
        Ok(migrator(self.backend()).run_to(version, self.writer()).await?)
    }

    /// Takes the schema back to a version; 0 takes everything away. **Data of what is taken away is gone.**
    ///
    /// # Errors
    /// As for [`Store::migrate`].
    pub async fn migrate_down(&self, to: i64) -> Result<(), StoreError> {
        self.applied(self.writer()).await?;
        Ok(migrator(self.backend()).undo(self.writer(), to).await?)
    }

    /// Every step this program knows.
    ///
    /// # Errors
    /// The database does not answer, or is of a newer program.
    pub async fn migrations(&self) -> Result<Vec<Applied>, StoreError> {
        let there = self.applied(self.reader()).await?;
        Ok(CHANGES.iter().map(|change| change.state(&there)).collect())
    }

    /// The steps that the database has. Asked before anything is done to it: the migrator keeps its lock where it finds one that it does not
    /// know (PostgreSQL), and whoever comes next waits for ever.
    async fn applied(&self, asked: &AnyPool) -> Result<Vec<i64>, StoreError> {
        let there =
            sqlx::query_scalar::<_, i64>("SELECT version FROM _sqlx_migrations WHERE success").fetch_all(asked).await;
        // A database without the table has no step yet.
        let there = match there {
            Ok(there) => there,
            Err(sqlx::Error::Database(_)) => Vec::new(),
            Err(fault) => return Err(fault.into()),
        };
        match there.iter().max() {
            Some(newest) if *newest > LATEST => Err(StoreError::Newer(*newest)),
            _ => Ok(there),
        }
    }
}

fn migrator(backend: Backend) -> Migrator {
    let step = |change: &Change, kind: MigrationType, sql: &Sql| {
        Migration::new(change.version, change.name.into(), kind, sql.of(backend).into_sql_str(), false)
    };
    let both = CHANGES.iter().flat_map(|change| {
        [
            step(change, MigrationType::ReversibleUp, &change.up),
            step(change, MigrationType::ReversibleDown, &change.down),
        ]
    });
    Migrator::with_migrations(both.collect())
}
