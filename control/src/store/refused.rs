//! `refused_calls`: lines of journals that are not among the calls, because the database refused them or they are none of a call. What they
//! say stays in the journal, where they stand.

use sqlx::any::{AnyArguments, AnyRow};
use sqlx::{Arguments, FromRow, Row};

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
