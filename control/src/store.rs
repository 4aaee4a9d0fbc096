//! What outlives the process, in SQLite (a file in the data folder, nothing to set up) or PostgreSQL (one line of
//! configuration). The same statements run on both: text, 64-bit numbers, floating point, and nothing else. Where the two
//! differ (search, plans) the difference is in one function that asks for the [`Backend`].
//!
//! One file per table; each adds its queries to [`Store`].

pub mod agents;
pub mod audit;
mod blame;
mod conditions;
pub mod contacts;
pub mod costs;
pub mod do_not_call;
mod dump;
pub mod figures;
pub mod idempotency;
pub mod incoming;
pub mod interactions;
pub mod invitations;
pub mod journal;
pub mod keys;
pub mod migrate;
pub mod oidc;
pub mod outbox;
pub mod presence;
pub mod records;
pub mod refused;
pub mod removal;
mod rows;
pub mod sessions;
pub mod settings;
pub mod teams;
pub mod tokens;
pub mod users;
pub mod webhooks;

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use log::LevelFilter;
use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::{AnyPool, ConnectOptions, Connection, Row};
use tokio::sync::Mutex;

pub(crate) use self::blame::Blame;
use self::migrate::LATEST;

/// Connections at once, of each kind.
const CONNECTIONS: u32 = 8;
/// Whoever wants a connection waits this long for one.
const PATIENCE: Duration = Duration::from_secs(5);
/// A statement that takes longer is told of in the log.
const SLOW: Duration = Duration::from_millis(500);

/// Which database it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// A file.
    Sqlite,
    /// A server.
    Postgres,
}

impl Backend {
    /// As OpenTelemetry's semantic conventions name it.
    #[must_use]
    pub fn system_name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgresql",
        }
    }
}

/// What can go wrong with stored things.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The database cannot be opened.
    #[error(
        "cannot open the database {url}: {fault}. Set control.database to sqlite:FILE or postgres://USER@HOST/NAME"
    )]
    Open {
        /// Where, without its password.
        url: String,
        /// Why.
        fault: sqlx::Error,
    },
    /// The file is no database, or a damaged one.
    #[error(
        "{url} is no database that can be read: {fault}. Move the file away and restore a backup (omnivox restore), or begin anew without it"
    )]
    Damaged {
        /// Where.
        url: String,
        /// Why.
        fault: sqlx::Error,
    },
    /// It is of a newer program.
    #[error(
        "the database is of a newer version of this program (its schema has version {0}, this program knows {LATEST}): run that version, have it \
         take the schema back (omnivox migrate down {LATEST}: what came since is lost), or restore a backup of before"
    )]
    Newer(i64),
    /// It does not answer, or refuses.
    #[error("the database: {0}")]
    Database(#[from] sqlx::Error),
    /// The schema cannot be brought to where it should be.
    #[error("the database's schema: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// Something of that name is there already.
    #[error("{field} {value} is taken")]
    Taken {
        /// Which field.
        field: &'static str,
        /// Its value.
        value: String,
    },
    /// Something names what is not there.
    #[error("{field} {value} does not exist")]
    Missing {
        /// Which field.
        field: &'static str,
        /// Its value.
        value: String,
    },
    /// Others need it.
    #[error("{what} cannot go: {by}")]
    InUse {
        /// What it is.
        what: &'static str,
        /// Who does.
        by: &'static str,
    },
    /// Somebody else changed it since it was read.
    #[error("it was changed meanwhile")]
    Changed,
}

/// The database; cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) backend: Backend,
    /// SQLite has one writer at a time: who waits for it waits here, and not in the database.
    writer: AnyPool,
    reader: AnyPool,
    /// Entries of the audit log follow one another.
    auditing: Arc<Mutex<()>>,
    /// The journal is read, or rewritten.
    pub(crate) journaling: Arc<Mutex<()>>,
}

impl Store {
    /// Opens the database; a file that is not there is made. The schema is left as it is: see [`Store::migrate`].
    ///
    /// # Errors
    /// The URL is none, or nobody answers.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        Self::open_with(url, SLOW).await
    }

    /// The same, with how long a statement may take before the log tells of it.
    ///
    /// # Errors
    /// As for [`Store::open`].
    #[doc(hidden)]
    pub async fn open_with(url: &str, slow: Duration) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        let shown = without_password(url);
        let fault = |fault| StoreError::Open { url: shown.clone(), fault };
        let backend = match url.split_once(':').map(|(scheme, _)| scheme) {
            Some("sqlite") => Backend::Sqlite,
            Some("postgres" | "postgresql") => Backend::Postgres,
            _ => return Err(fault(sqlx::Error::Configuration("its kind is not known".into()))),
        };
        let options = AnyConnectOptions::from_str(url)
            .map_err(fault)?
            .log_statements(LevelFilter::Off)
            .log_slow_statements(LevelFilter::Warn, slow);
        let pool = |size| AnyPoolOptions::new().max_connections(size).acquire_timeout(PATIENCE);
        match backend {
            Backend::Sqlite => {
                // A connection is a thread of this process: nothing breaks it while it lies idle.
                let pool = |size| pool(size).test_before_acquire(false);
                let pool = |size| pool(size).after_connect(|connection, _| Box::pin(prepare_sqlite(connection)));
                look_at(&options).await.map_err(|fault| StoreError::Damaged { url: shown.clone(), fault })?;
                let writer = pool(1).connect_with(options.clone()).await.map_err(fault)?;
                let reader = pool(CONNECTIONS).connect_with(options).await.map_err(fault)?;
                Ok(Self { backend, writer, reader, auditing: Arc::default(), journaling: Arc::default() })
            }
            Backend::Postgres => {
                let pool = pool(CONNECTIONS * 2)
                    .after_connect(|connection, _| Box::pin(prepare_postgres(connection)))
                    .connect_with(options)
                    .await
                    .map_err(fault)?;
                Ok(Self {
                    backend,
                    writer: pool.clone(),
                    reader: pool,
                    auditing: Arc::default(),
                    journaling: Arc::default(),
                })
            }
        }
    }

    /// The file of a database in SQLite.
    #[must_use]
    pub fn file_of(url: &str) -> Option<PathBuf> {
        let path = url.strip_prefix("sqlite:")?.trim_start_matches("//").split('?').next().unwrap_or_default();
        // As it was written by `in_folder`.
        let is_file = !path.is_empty() && !path.starts_with(":memory:");
        is_file.then(|| path.replace("%23", "#").replace("%3F", "?").replace("%25", "%").into())
    }

    /// The URL of a database in a folder.
    #[must_use]
    pub fn in_folder(folder: &Path) -> String {
        // What would end the path, or stand for another character, is written as its code.
        let path = folder.join("omnivox.db").display().to_string();
        let path = path.replace('%', "%25").replace('?', "%3F").replace('#', "%23");
        format!("sqlite:{path}?mode=rwc")
    }

    /// Which database it is.
    #[must_use]
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// Closes every connection.
    pub async fn close(&self) {
        self.writer.close().await;
        self.reader.close().await;
    }

    /// The connections, for whoever looks at what is stored from outside.
    #[doc(hidden)]
    #[must_use]
    pub fn pool(&self) -> &AnyPool {
        &self.writer
    }

    /// How the database would read what a statement wants if it had many rows, in its own words.
    async fn explain(&self, sql: &str, wanted: &conditions::Conditions) -> Result<String, StoreError> {
        let mut reading = self.reader().begin().await?;
        let (explain, column) = match self.backend() {
            Backend::Sqlite => ("EXPLAIN QUERY PLAN", "detail"),
            Backend::Postgres => ("EXPLAIN", "QUERY PLAN"),
        };
        if self.backend() == Backend::Postgres {
            // Few rows are read faster as they lie: it shall say what it would do with many.
            for sql in
                ["SET LOCAL enable_seqscan = off", "SET LOCAL enable_bitmapscan = off", "SET LOCAL enable_sort = off"]
            {
                sqlx::query(sql).execute(&mut *reading).await?;
            }
        }
        let query = sqlx::query_with(sqlx::AssertSqlSafe(format!("{explain} {sql}")), wanted.arguments()?);
        let rows = query.fetch_all(&mut *reading).await?;
        let lines: Result<Vec<String>, _> = rows.iter().map(|row| row.try_get(column)).collect();
        Ok(lines?.join("\n"))
    }

    /// For statements that change something.
    pub(crate) fn writer(&self) -> &AnyPool {
        &self.writer
    }

    /// For statements that change nothing.
    pub(crate) fn reader(&self) -> &AnyPool {
        &self.reader
    }
}

/// Each connection keeps SQLite's own 2 MiB of pages. With 16 for the one that writes, 400 records in one transaction among 200,000 of 50,000 callers took
/// a tenth less CPU (2 us of a call's 240), and 20 MB stayed with the process.
async fn prepare_sqlite(connection: &mut sqlx::AnyConnection) -> Result<(), sqlx::Error> {
    // Readers and the writer do not wait for one another; a commit survives the process at once, and a power cut.
    for statement in [
        "PRAGMA journal_mode = WAL",
        "PRAGMA synchronous = FULL",
        "PRAGMA foreign_keys = ON",
        // What is deleted is overwritten.
        "PRAGMA secure_delete = ON",
        "PRAGMA busy_timeout = 5000",
    ] {
        sqlx::query(statement).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Says what is wrong with a file that is no database: a pool tries that again until it has no patience left, and says so alone. What may
/// be otherwise the next time, as a file that is locked, is the pool's to try.
async fn look_at(options: &AnyConnectOptions) -> Result<(), sqlx::Error> {
    /// SQLITE_CORRUPT and SQLITE_NOTADB.
    const BROKEN: [&str; 2] = ["11", "26"];
    let looked = match options.connect().await {
        Ok(mut connection) => {
            let looked = prepare_sqlite(&mut connection).await;
            let _ = connection.close().await;
            looked
        }
        Err(fault) => Err(fault),
    };
    match looked {
        Err(sqlx::Error::Database(fault)) if fault.code().is_some_and(|code| BROKEN.contains(&code.as_ref())) => {
            Err(sqlx::Error::Database(fault))
        }
        _ => Ok(()),
    }
}

async fn prepare_postgres(connection: &mut sqlx::AnyConnection) -> Result<(), sqlx::Error> {
    // Which index is best depends on the value: one caller has half of all calls, another one.
    sqlx::query("SET plan_cache_mode = force_custom_plan").execute(connection).await?;
    Ok(())
}

/// A name for something new: sorts by time.
pub(crate) fn new_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

/// A database's address as logs and errors may show it.
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    match authority.rsplit_once('@') {
        Some((user, host)) => {
            let user = user.split(':').next().unwrap_or_default();
            format!("{scheme}://{user}@{host}/{}", path.split('?').next().unwrap_or_default())
        }
        None => format!("{scheme}://{authority}/{}", path.split('?').next().unwrap_or_default()),
    }
}

/// A name that has to be one of its kind: says so in words where the database does not take it.
fn taken(fault: sqlx::Error, field: &'static str, value: &str) -> StoreError {
    match &fault {
        sqlx::Error::Database(database) if database.is_unique_violation() => {
            StoreError::Taken { field, value: value.to_owned() }
        }
        _ => fault.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_do_not_show_in_addresses() {
        assert_eq!(without_password("postgres://me:secret@host:5432/db?password=x"), "postgres://me@host:5432/db");
        assert_eq!(without_password("postgres://host/db?password=x"), "postgres://host/db");
        assert_eq!(without_password("sqlite:/data/omnivox.db"), "sqlite:/data/omnivox.db");
    }
}
