//! Comma-separated values: a header, then rows; quoted fields may hold commas, quotes and newlines.

use std::path::Path;
use std::sync::Arc;

use csv::{ErrorKind, Reader, StringRecord};
use serde_json::{Map, Value};

use super::{Rows, unreadable};
use crate::benchmark::error::{BenchmarkError, Place};
use crate::benchmark::row::Row;

pub(super) fn columns(path: &Path) -> Result<Vec<String>, BenchmarkError> {
    let mut reader = open(path)?;
    let header = reader.headers().map_err(|error| wrong(path, &error))?;
    if header.is_empty() {
        return Err(BenchmarkError::Empty { path: path.to_owned() });
    }
    Ok(header.iter().map(str::to_owned).collect())
}

pub(super) fn rows(path: Arc<Path>, wanted: &[String]) -> Result<Rows, BenchmarkError> {
    let mut reader = open(&path)?;
    let header = reader.headers().map_err(|error| wrong(&path, &error))?.clone();
    let mut columns = Vec::new();
    for name in wanted {
        let mut found = header.iter().enumerate().filter(|(_, column)| column == name);
        let first = found.next();
        if found.next().is_some() {
            let problem = format!("its header has the column `{name}` twice");
            let path = path.to_path_buf();
            return Err(BenchmarkError::Malformed { path, format: "CSV", problem });
        }
        columns.extend(first.map(|(index, _)| (name.clone(), index)));
    }
    let rows = reader.into_records().map(move |record| {
        let record = record.map_err(|error| wrong(&path, &error))?;
        let number = record.position().map_or(0, csv::Position::line);
        Ok(Row { path: path.clone(), unit: "line", number, fields: fields(&columns, &record) })
    });
    Ok(Box::new(rows))
}

fn fields(columns: &[(String, usize)], record: &StringRecord) -> Map<String, Value> {
    let field = |index: usize| Value::String(record.get(index).unwrap_or_default().to_owned());
    columns.iter().map(|(name, index)| (name.clone(), field(*index))).collect()
}

fn open(path: &Path) -> Result<Reader<std::fs::File>, BenchmarkError> {
    let file = std::fs::File::open(path).map_err(unreadable(path))?;
    Ok(Reader::from_reader(file))
}

fn wrong(path: &Path, error: &csv::Error) -> BenchmarkError {
    let problem = match error.kind() {
        ErrorKind::Io(error) => {
            let source = std::io::Error::new(error.kind(), error.to_string());
            return unreadable(path)(source);
        }
        ErrorKind::Utf8 { err, .. } => {
            format!("is not UTF-8 (field {} of the row)", err.field() + 1)
        }
        ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("has {len} fields, but the header has {expected_len} (is a quote missing?)")
        }
        _ => error.to_string(),
    };
    let number = error.position().map_or(1, csv::Position::line);
    let place = Place { path: path.to_owned(), unit: "line", number, field: None };
    BenchmarkError::Row { place, problem }
}
