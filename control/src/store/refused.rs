//! `refused_calls`: lines of journals that are not among the calls, because the database refused them or they are none of a call. What they
//! say stays in the journal, where they stand.

use sqlx::any::{AnyArguments, AnyRow};
use sqlx::{Arguments, AssertSqlSafe, FromRow, Row};

use super::rows::Rows;
use super::{Store, StoreError};
use crate::time::Moment;

/// A line that was set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// What its journal begins with, as a hash.
    pub head: String,
    /// Bytes from the journal's beginning.
    pub position: u64,
    /// The call; empty where that cannot be read.
    pub call: String,
    /// When it began, or when the line was looked at where that cannot be read.
    pub started_at: Moment,
    /// Where its recording is.
    pub recording: Option<String>,
    /// Why it was refused.
    pub fault: String,
}

/// Where a line stands in the list of all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// When its call began.
    pub started_at: i64,
    /// Its server.
    pub node: String,
    /// What its journal begins with, as a hash.
    pub head: String,
    /// Bytes from the journal's beginning.
    pub position: i64,
}

impl<'r> FromRow<'r, AnyRow> for Refused {
    fn from_row(row: &'r AnyRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            head: row.try_get("head")?,
            position: u64::try_from(row.try_get::<i64, _>("position")?).unwrap_or_default(),
            call: row.try_get("call")?,
            started_at: Moment(row.try_get("started_at")?),
            recording: row.try_get("recording")?,
            fault: row.try_get("fault")?,
        })
    }
}

fn place(refused: &Refused) -> i64 {
    i64::try_from(refused.position).unwrap_or(i64::MAX)
}

impl Store {
    /// Notes lines that were refused; those that were noted before stay as they are.
    pub(crate) async fn set_aside(&self, node: &str, refused: &[Refused]) -> Result<(), StoreError> {
        const REFUSED: Rows<'_> = Rows {
            before: "INSERT INTO refused_calls (node, head, position, call, started_at, recording, fault) VALUES ",
            row: "(?, ?, ?, ?, ?, ?, ?)",
            after: " ON CONFLICT DO NOTHING",
        };
        let bind = |arguments: &mut AnyArguments, one: &Refused| {
            arguments.add(node)?;
            arguments.add(one.head.as_str())?;
            arguments.add(place(one))?;
            arguments.add(one.call.as_str())?;
            arguments.add(one.started_at.0)?;
            arguments.add(one.recording.as_deref())?;
            arguments.add(one.fault.as_str())
        };
        let mut change = self.writer().begin().await?;
        REFUSED.write(&mut change, self.backend(), refused, bind).await?;
        Ok(change.commit().await?)
    }

    /// Lines of all servers' journals that were set aside, the latest first, each with its server.
    ///
    /// # Errors
    /// The database's.
    pub async fn refused(&self, after: Option<&Place>, limit: i64) -> Result<Vec<(String, Refused)>, StoreError> {
        let row = |row: AnyRow| Ok((row.try_get("node")?, Refused::from_row(&row)?));
        let columns = "node, head, position, call, started_at, recording, fault";
        let order = "ORDER BY started_at DESC, node DESC, head DESC, position DESC";
        let some = match after {
            None => {
                let sql = format!("SELECT {columns} FROM refused_calls {order} LIMIT $1");
                sqlx::query(AssertSqlSafe(sql)).bind(limit).fetch_all(self.reader()).await?
            }
            Some(after) => {
                let sql = format!(
                    "SELECT {columns} FROM refused_calls
                     WHERE (started_at, node, head, position) < ($1, $2, $3, $4) {order} LIMIT $5"
                );
                let query = sqlx::query(AssertSqlSafe(sql)).bind(after.started_at).bind(&after.node).bind(&after.head);
                query.bind(after.position).bind(limit).fetch_all(self.reader()).await?
            }
        };
        Ok(some.into_iter().map(row).collect::<Result<_, sqlx::Error>>()?)
    }

    /// Lines of a server's journals that were set aside, of calls that began before a moment, the oldest first.
    ///
    /// # Errors
    /// The database's.
    pub async fn refused_before(&self, node: &str, before: Moment, limit: i64) -> Result<Vec<Refused>, StoreError> {
        let sql = "SELECT head, position, call, started_at, recording, fault FROM refused_calls
                   WHERE node = $1 AND started_at < $2 ORDER BY started_at, head, position LIMIT $3";
        Ok(sqlx::query_as(sql).bind(node).bind(before.0).bind(limit).fetch_all(self.reader()).await?)
    }

    /// Forgets lines that are there no more.
    pub(crate) async fn remove_refused(&self, node: &str, refused: &[Refused]) -> Result<(), StoreError> {
        let mut change = self.writer().begin().await?;
        for one in refused {
            let sql = "DELETE FROM refused_calls WHERE node = $1 AND head = $2 AND position = $3";
            sqlx::query(sql).bind(node).bind(&one.head).bind(place(one)).execute(&mut *change).await?;
        }
        Ok(change.commit().await?)
    }
}
