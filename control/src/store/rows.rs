//! Many rows in few statements: each statement goes to another thread, or over the network, and back.

use sqlx::any::{AnyArguments, AnyRow};
use sqlx::error::BoxDynError;
use sqlx::{AnyConnection, AssertSqlSafe};

use super::{Backend, StoreError};

/// Rows of one statement: of few lengths, so that the database knows each statement from before. The longest stays below the parameters that
/// a statement may have (SQLite 32,766, PostgreSQL 65,535) with up to 500 a row.
const LENGTHS: [usize; 4] = [64, 16, 4, 1];

/// A statement of any number of rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows<'a> {
    /// What stands before the rows.
    pub(super) before: &'a str,
    /// A row, with `?` for each of its values.
    pub(super) row: &'a str,
    /// What follows the rows.
    pub(super) after: &'a str,
}

impl Rows<'_> {
    /// Reads for all of these, in as many statements as they need: of none not at all. `bind` adds a row's values. Returns what was found.
    ///
    /// # Errors
    /// The database's.
    pub(super) async fn read<T>(
        &self,
        connection: &mut AnyConnection,
        backend: Backend,
        rows: &[T],
        bind: impl Fn(&mut AnyArguments, &T) -> Result<(), BoxDynError>,
    ) -> Result<Vec<AnyRow>, StoreError> {
        let (mut found, mut rest) = (Vec::new(), rows);
        while let Some((sql, arguments)) = self.next(backend, &mut rest, &bind)? {
            found.extend(sqlx::query_with(AssertSqlSafe(sql), arguments).fetch_all(&mut *connection).await?);
        }
        Ok(found)
    }

    /// Writes all of these, in their order. Returns how many rows the database has changed.
    ///
    /// # Errors
    /// The database's; what was written before stays within the transaction.
    pub(super) async fn write<T>(
        &self,
        connection: &mut AnyConnection,
        backend: Backend,
        rows: &[T],
        bind: impl Fn(&mut AnyArguments, &T) -> Result<(), BoxDynError>,
    ) -> Result<u64, StoreError> {
        let (mut changed, mut rest) = (0, rows);
        while let Some((sql, arguments)) = self.next(backend, &mut rest, &bind)? {
            let done = sqlx::query_with(AssertSqlSafe(sql), arguments).execute(&mut *connection).await?;
            changed += done.rows_affected();
        }
        Ok(changed)
    }

    /// The next statement, and its values.
    fn next<T>(
        &self,
        backend: Backend,
        rest: &mut &[T],
        bind: impl Fn(&mut AnyArguments, &T) -> Result<(), BoxDynError>,
    ) -> Result<Option<(String, AnyArguments)>, StoreError> {
        let Some(length) = LENGTHS.into_iter().find(|length| *length <= rest.len()) else { return Ok(None) };
        let (some, after) = rest.split_at(length);
        *rest = after;
        let mut arguments = AnyArguments::default();
        for row in some {
            bind(&mut arguments, row).map_err(sqlx::Error::Encode)?;
        }
        Ok(Some((self.sql(backend, length), arguments)))
    }

    /// The statement for so many rows. SQLite finds a parameter with a number by looking at all before it: with thousands that takes longer
    /// than the rows do.
    fn sql(&self, backend: Backend, rows: usize) -> String {
        let mut sql = self.before.to_owned();
        let mut number = 0;
        for at in 0..rows {
            if at > 0 {
                sql.push_str(", ");
            }
            match backend {
                Backend::Sqlite => sql.push_str(self.row),
                Backend::Postgres => {
                    let mut parts = self.row.split('?');
                    sql.push_str(parts.next().unwrap_or_default());
                    for part in parts {
                        number += 1;
                        sql.push('$');
                        sql.push_str(&number.to_string());
                        sql.push_str(part);
                    }
                }
            }
        }
        sql.push_str(self.after);
        sql
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_has_a_place_for_every_value() {
        let rows = Rows { before: "INSERT INTO t (a, b) VALUES ", row: "(?, CAST(? AS TEXT))", after: " RETURNING a" };
        assert_eq!(
            rows.sql(Backend::Sqlite, 2),
            "INSERT INTO t (a, b) VALUES (?, CAST(? AS TEXT)), (?, CAST(? AS TEXT)) RETURNING a"
        );
        assert_eq!(
            rows.sql(Backend::Postgres, 2),
            "INSERT INTO t (a, b) VALUES ($1, CAST($2 AS TEXT)), ($3, CAST($4 AS TEXT)) RETURNING a"
        );
        let places = rows.sql(Backend::Postgres, LENGTHS[0]);
        assert!(places.contains("($127, CAST($128 AS TEXT))") && !places.contains("$129"), "{places}");
    }
}
