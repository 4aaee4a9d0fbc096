//! A statement in the making: its conditions, and what they compare with.

use sqlx::Arguments;
use sqlx::any::AnyArguments;

use super::StoreError;

/// Conditions that all have to hold, and the values of the statement's parameters so far.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    sql: Vec<String>,
    values: Vec<Value>,
}

/// A parameter.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Text(String),
    Number(i64),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl Conditions {
    /// The conditions of another part of the statement: the values so far are its parameters too.
    pub(super) fn continuing(before: Self) -> Self {
        Self { sql: Vec::new(), values: before.values }
    }

    /// The values so far, for the conditions of a part that stands within these; [`Conditions::continue_with`] takes them back.
    pub(super) fn take_values(&mut self) -> Self {
        Self { sql: Vec::new(), values: std::mem::take(&mut self.values) }
    }

    /// Goes on after a part, whose values are among this one's now.
    pub(super) fn continue_with(&mut self, part: Self) {
        self.values = part.values;
    }

    /// `condition` has `?` where the value stands; several stand for the same.
    pub(super) fn add(&mut self, condition: &str, value: impl Into<Value>) {
        let place = self.value(value);
        self.sql.push(condition.replace('?', &place));
    }

    /// A condition without a value, or with places that [`Conditions::value`] gave.
    pub(super) fn say(&mut self, condition: String) {
        self.sql.push(condition);
    }

    /// `column` is this, where it is wanted.
    pub(super) fn equals<V: Into<Value> + Clone>(&mut self, column: &str, value: Option<&V>) {
        if let Some(value) = value {
            self.add(&format!("{column} = ?"), value.clone());
        }
    }

    /// Adds a value; returns how the statement names it.
    pub(super) fn value(&mut self, value: impl Into<Value>) -> String {
        self.values.push(value.into());
        format!("${}", self.values.len())
    }

    /// What follows `WHERE`.
    pub(super) fn wheres(&self) -> String {
        if self.sql.is_empty() { "1 = 1".to_owned() } else { self.sql.join(" AND ") }
    }

    /// The values, as a statement takes them.
    pub(super) fn arguments(&self) -> Result<AnyArguments, StoreError> {
        let mut arguments = AnyArguments::default();
        for value in &self.values {
            let added = match value {
                Value::Text(text) => arguments.add(text.as_str()),
                Value::Number(number) => arguments.add(*number),
            };
            added.map_err(sqlx::Error::Encode)?;
        }
        Ok(arguments)
    }
}
