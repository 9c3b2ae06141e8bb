//! One row of a data file, and what its fields are as text.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::error::{BenchmarkError, Place};

/// A row, and where it stands.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) path: Arc<Path>,
    /// `line` or `row`.
    pub(super) unit: &'static str,
    /// Of its first line, or among the rows; from 1.
    pub(super) number: u64,
    pub(super) fields: Map<String, Value>,
}

/// Integers beyond it are not exact in the floating point that JSON numbers end up in.
const EXACT: f64 = 9_007_199_254_740_992.0; // 2^53

impl Row {
    /// The text of a field without space around it; `None` where there is nothing.
    pub(super) fn text(&self, column: &str) -> Result<Option<String>, BenchmarkError> {
        let text = match self.fields.get(column) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::String(text)) => text.trim().to_owned(),
            Some(Value::Bool(value)) => value.to_string(),
            Some(Value::Number(number)) => match number.as_f64().filter(|_| number.is_f64()) {
                None => number.to_string(),
                Some(value) if value.abs() >= EXACT => {
                    let problem =
                        "is a number that is too large to be read exactly; write it as text";
                    return Err(self.wrong(column, problem));
                }
                // Tables of floating point hold integers, too.
                Some(value) if value.fract() == 0.0 => format!("{value:.0}"),
                Some(value) => value.to_string(),
            },
            Some(Value::Array(_)) => return Err(self.wrong(column, "is a list, not a text")),
            Some(Value::Object(_)) => return Err(self.wrong(column, "is an object, not a text")),
        };
        Ok(Some(text).filter(|text| !text.is_empty()))
    }

    /// The text of a field that must have one.
    pub(super) fn required(&self, column: &str) -> Result<String, BenchmarkError> {
        self.text(column)?.ok_or_else(|| match self.fields.contains_key(column) {
            true => self.wrong(column, "is empty"),
            false => self.wrong(column, "is missing"),
        })
    }

    /// The texts of a field that is a list.
    pub(super) fn list(&self, column: &str) -> Result<Vec<String>, BenchmarkError> {
        let Some(Value::Array(items)) = self.fields.get(column) else {
            return Err(self.wrong(column, "is not a list"));
        };
        let text = |item: &Value| match item {
            Value::String(text) => Some(text.trim().to_owned()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        let texts: Option<Vec<String>> = items.iter().map(text).collect();
        texts.ok_or_else(|| self.wrong(column, "has something in it that is no text"))
    }

    pub(super) fn wrong(&self, field: &str, problem: impl Into<String>) -> BenchmarkError {
        let place = Place { field: Some(field.to_owned()), ..self.place() };
        BenchmarkError::Row { place, problem: problem.into() }
    }

    pub(super) fn place(&self) -> Place {
        Place { path: self.path.to_path_buf(), unit: self.unit, number: self.number, field: None }
    }
}
