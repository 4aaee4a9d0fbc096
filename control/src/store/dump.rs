//! Every table as lines of JSON, in one consistent state, and back.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::Path;

use futures::TryStreamExt;
use serde_json::{Map, Value};
use sqlx::any::{AnyArguments, AnyRow};
use sqlx::{AnyConnection, Arguments, Column, Connection, Row};

use super::{Backend, Store, StoreError};
use crate::backup::{in_order, lines};

impl Store {
    /// Writes every table of ours into a folder, a file each with a line of JSON for each row, as they are at one moment. Returns how many
    /// rows each has.
    ///
    /// # Errors
    /// The database's, or the folder's.
    pub async fn dump(&self, folder: &Path) -> Result<BTreeMap<String, u64>, StoreError> {
        let mut connection = self.reader().acquire().await?;
        // A transaction that reads sees one state from its first statement on, whatever is written meanwhile.
        let begin = match self.backend() {
            Backend::Sqlite => "BEGIN",
            Backend::Postgres => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        };
        let mut reading = connection.begin_with(begin).await?;
        let mut rows = BTreeMap::new();
        for table in self.tables(&mut reading).await? {
            let written = write_table(&mut reading, &table, &folder.join(&table)).await?;
            rows.insert(table, written);
        }
        reading.rollback().await?;
        Ok(rows)
    }

    /// Fills every table from a folder that [`Store::dump`] wrote, of either database in the schema that this one has; what is there is taken
    /// away first. What follows from the rows ([`Store::migrate`]) is not made anew.
    ///
    /// # Errors
    /// The database's, or the folder's: nothing is changed then.
    pub async fn load(&self, folder: &Path, rows: &BTreeMap<String, u64>) -> Result<(), StoreError> {
        let mut change = self.writer().begin().await?;
        let tables = self.tables(&mut change).await?;
        let tables = in_order(&tables, &self.references(&mut change).await?);
        for table in tables.iter().rev() {
            sqlx::query(sqlx::AssertSqlSafe(format!("DELETE FROM {table}"))).execute(&mut *change).await?;
        }
        if let Some(unknown) = rows.keys().find(|table| !tables.contains(table)) {
            return Err(StoreError::Missing { field: "table", value: unknown.clone() });
        }
        for table in tables.iter().filter(|table| rows.contains_key(*table)) {
            for row in lines(&folder.join(table)).map_err(sqlx::Error::Io)? {
                insert(&mut change, table, &row.map_err(sqlx::Error::Io)?).await?;
            }
        }
        Ok(change.commit().await?)
    }

    /// Tables of ours, by name.
    async fn tables(&self, connection: &mut AnyConnection) -> Result<Vec<String>, StoreError> {
        let sql = match self.backend() {
            // What the index of words keeps for itself follows from the words, figures from the calls.
            Backend::Sqlite => {
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name NOT LIKE 'turn_words%'
                 AND name NOT LIKE 'call_figures%' AND name NOT LIKE '_sqlx%' ORDER BY name"
            }
            Backend::Postgres => {
                "SELECT CAST(table_name AS TEXT) FROM information_schema.tables WHERE table_schema = current_schema()
                 AND table_type = 'BASE TABLE' AND table_name NOT LIKE 'call_figures%' AND table_name NOT LIKE '_sqlx%' ORDER BY table_name"
            }
        };
        Ok(sqlx::query_scalar(sql).fetch_all(connection).await?)
    }

    /// Which table refers to which.
    async fn references(&self, connection: &mut AnyConnection) -> Result<Vec<(String, String)>, StoreError> {
        let sql = match self.backend() {
            Backend::Sqlite => {
                "SELECT m.name AS one, f.\"table\" AS other FROM sqlite_master m JOIN pragma_foreign_key_list(m.name) f WHERE m.type = 'table'"
            }
            Backend::Postgres => {
                "SELECT CAST(conrelid::regclass AS TEXT) AS one, CAST(confrelid::regclass AS TEXT) AS other FROM pg_constraint WHERE contype = 'f'"
            }
        };
        let rows = sqlx::query(sql).fetch_all(connection).await?;
        rows.iter().map(|row| Ok((row.try_get("one")?, row.try_get("other")?))).collect()
    }
}

async fn write_table(connection: &mut AnyConnection, table: &str, path: &Path) -> Result<u64, StoreError> {
    let mut file = BufWriter::new(std::fs::File::create(path).map_err(sqlx::Error::Io)?);
    let mut written = 0;
    let sql = sqlx::AssertSqlSafe(format!("SELECT * FROM {table}"));
    let mut rows = sqlx::query(sql).fetch(connection);
    while let Some(row) = rows.try_next().await? {
        let object = object(&row)?;
        serde_json::to_writer(&mut file, &object).map_err(|fault| sqlx::Error::Io(fault.into()))?;
        file.write_all(b"\n").map_err(sqlx::Error::Io)?;
        written += 1;
    }
    file.flush().map_err(sqlx::Error::Io)?;
    Ok(written)
}

/// A row without what is null.
fn object(row: &AnyRow) -> Result<Map<String, Value>, sqlx::Error> {
    let mut object = Map::new();
    for column in row.columns() {
        let (name, at) = (column.name(), column.ordinal());
        // Whole numbers, others, text: what the schema has.
        let value = match (row.try_get::<Option<i64>, _>(at), row.try_get::<Option<f64>, _>(at)) {
            (Ok(number), _) => number.map(Value::from),
            (_, Ok(number)) => number.map(Value::from),
            _ => row.try_get::<Option<String>, _>(at)?.map(Value::from),
        };
        object.extend(value.map(|value| (name.to_owned(), value)));
    }
    Ok(object)
}

async fn insert(connection: &mut AnyConnection, table: &str, row: &Map<String, Value>) -> Result<(), StoreError> {
    let strange = |what: &str| sqlx::Error::Decode(format!("{table}: {what}").into());
    let mut arguments = AnyArguments::default();
    for (name, value) in row {
        // Names stand in the statement.
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_') {
            return Err(strange("a column has a strange name").into());
        }
        let added = match value {
            Value::String(text) => arguments.add(text.as_str()),
            Value::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(number), _) => arguments.add(number),
                (None, Some(number)) => arguments.add(number),
                (None, None) => return Err(strange("a number is none").into()),
            },
            _ => return Err(strange("a value is neither text nor number").into()),
        };
        added.map_err(sqlx::Error::Encode)?;
    }
    let names: Vec<&str> = row.keys().map(String::as_str).collect();
    let places: Vec<String> = (1..=row.len()).map(|n| format!("${n}")).collect();
    let sql = format!("INSERT INTO {table} ({}) VALUES ({})", names.join(", "), places.join(", "));
    sqlx::query_with(sqlx::AssertSqlSafe(sql), arguments).execute(connection).await?;
    Ok(())
}
