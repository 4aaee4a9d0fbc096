//! `journals`: how far each server's journal of ended calls has been read. The place is moved in the transaction that stores what was
//! read, so that nothing is lost or doubled whatever breaks in between.

use sqlx::Row;

use super::figures::kept::FigureChanges;
use super::outbox::{Told, put};
use super::records::Ended;
use super::records::insert::insert;
use super::{Store, StoreError};

/// A place in a journal.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Place {
    /// Bytes from its beginning.
    pub position: u64,
    /// What the journal begins with, as a hash.
    pub head: String,
}

impl Store {
    /// How far a server's journal has been read.
    ///
    /// # Errors
    /// The database's.
    pub async fn journal(&self, node: &str) -> Result<Place, StoreError> {
        let sql = "SELECT position, head FROM journals WHERE node = $1";
        let row = sqlx::query(sql).bind(node).fetch_optional(self.reader()).await?;
        let Some(row) = row else { return Ok(Place::default()) };
        Ok(Place {
            position: u64::try_from(row.try_get::<i64, _>("position")?).unwrap_or_default(),
            head: row.try_get("head")?,
        })
    }

    /// Notes that a journal begins with something else than before, where it was rewritten in place.
    ///
    /// # Errors
    /// The database's.
    pub async fn journal_begins(&self, node: &str, before: &str, head: &str) -> Result<(), StoreError> {
        let mut change = self.writer().begin().await?;
        for sql in [
            "UPDATE journals SET head = $1 WHERE node = $2 AND head = $3",
            "UPDATE refused_calls SET head = $1 WHERE node = $2 AND head = $3",
        ] {
            sqlx::query(sql).bind(head).bind(node).bind(before).execute(&mut *change).await?;
        }
        Ok(change.commit().await?)
    }

    /// Stores what was read of a journal, and how far it has been read now. Calls that are there already stay as they are. What was
    /// told of calls meanwhile goes to the outbox, and after it that each call that is new ended.
    ///
    /// # Errors
    /// The database's; nothing was stored then.
    pub async fn take_journal(
        &self,
        node: &str,
        told: &[Told],
        ended: &[Ended],
        place: &Place,
    ) -> Result<(), StoreError> {
        let targets = self.targets().await?;
        let mut change = self.writer().begin().await?;
        // First of all something is written: who only reads first is refused where another program has written meanwhile.
        let position = i64::try_from(place.position).unwrap_or(i64::MAX);
        let sql = "INSERT INTO journals (node, position, head) VALUES ($1, $2, $3)
                   ON CONFLICT (node) DO UPDATE SET position = excluded.position, head = excluded.head";
        sqlx::query(sql).bind(node).bind(position).bind(&place.head).execute(&mut *change).await?;
        put(&mut change, self.backend(), told, &targets).await?;
        let mut figures = FigureChanges::default();
        let new = insert(&mut change, self.backend(), &mut figures, ended).await?;
        if targets.want(ENDED) {
            let told: Vec<Told> = new.into_iter().map(told_of).collect();
            put(&mut change, self.backend(), &told, &targets).await?;
        }
        figures.apply(&mut change, self.backend()).await?;
        Ok(change.commit().await?)
    }
}

/// What is told of the end of a call.
const ENDED: &str = "call.ended";

/// That a call ended, as the outbox has it: with the record as lists show it.
fn told_of(ended: &Ended) -> Told {
    let data = serde_json::to_value(&ended.call).unwrap_or_default();
    Told { kind: ENDED.to_owned(), call: ended.call.call.clone(), at: ended.call.ended_at, data }
}
