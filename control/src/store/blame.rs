//! Whose doing it was that the database did not take something.

use super::{Backend, StoreError};

/// Whose doing it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blame {
    /// The database's, or that of somebody who wrote at the same time: it may take the same later.
    Database,
    /// That of what it was given: it will never take it.
    Given,
    /// Either.
    Unclear,
}

impl StoreError {
    /// Whose doing it was, of a statement that writes what it was given.
    pub(crate) fn blame(&self, backend: Backend) -> Blame {
        use sqlx::Error;
        match self {
            Self::Database(Error::Database(fault)) => match (fault.code(), backend) {
                (Some(code), Backend::Postgres) => of_postgres(&code),
                (Some(code), Backend::Sqlite) => of_sqlite(&code),
                (None, _) => Blame::Unclear,
            },
            Self::Database(Error::Encode(_)) => Blame::Given,
            Self::Database(Error::Protocol(_) | Error::Decode(_) | Error::ColumnDecode { .. }) => Blame::Unclear,
            _ => Blame::Database,
        }
    }
}

/// By the classes of SQLSTATE (PostgreSQL's appendix A).
fn of_postgres(code: &str) -> Blame {
    match code.get(..2) {
        // Data that is none, a rule of the schema's that it breaks, a limit that it exceeds.
        Some("22" | "23" | "54") => Blame::Given,
        // Connection, transaction, who may, rollback, resources, state, an operator, the system.
        Some("08" | "25" | "28" | "3D" | "40" | "53" | "55" | "57" | "58") => Blame::Database,
        _ => Blame::Unclear,
    }
}

/// By SQLite's result codes, of which the last byte is the kind.
fn of_sqlite(code: &str) -> Blame {
    match code.parse::<u32>().map(|code| code & 0xff) {
        // TOOBIG, CONSTRAINT, MISMATCH, RANGE.
        Ok(18 | 19 | 20 | 25) => Blame::Given,
        // ERROR says anything: a table that is missing, a function that does not like a value.
        Ok(1) | Err(_) => Blame::Unclear,
        Ok(_) => Blame::Database,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_by_itself_is_told_from_what_does_not() {
        for code in ["08006", "40001", "40P01", "53100", "55P03", "57P01", "25006"] {
            assert_eq!(of_postgres(code), Blame::Database, "{code}");
        }
        for code in ["22021", "22P05", "23503", "23505", "54000"] {
            assert_eq!(of_postgres(code), Blame::Given, "{code}");
        }
        assert_eq!(
            (of_postgres("XX000"), of_postgres("42P01"), of_postgres("")),
            (Blame::Unclear, Blame::Unclear, Blame::Unclear)
        );
        // BUSY, BUSY_SNAPSHOT, LOCKED, FULL, IOERR_WRITE, CORRUPT.
        for code in ["5", "517", "6", "13", "778", "11"] {
            assert_eq!(of_sqlite(code), Blame::Database, "{code}");
        }
        // TOOBIG, CONSTRAINT_FOREIGNKEY, CONSTRAINT_TRIGGER.
        for code in ["18", "787", "1811"] {
            assert_eq!(of_sqlite(code), Blame::Given, "{code}");
        }
        assert_eq!((of_sqlite("1"), of_sqlite("strange")), (Blame::Unclear, Blame::Unclear));
    }
}
