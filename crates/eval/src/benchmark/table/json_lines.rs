//! JSON lines: an object a line; empty lines are passed over.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::{Rows, unreadable};
use crate::benchmark::error::{BenchmarkError, Place};
use crate::benchmark::row::Row;

/// A line longer than this is no problem of a benchmark, but a file of another kind.
const LONGEST_LINE: u64 = 64 << 20;

pub(super) fn columns(path: &Path) -> Result<Vec<String>, BenchmarkError> {
    let first = Lines::open(path.into())?.next();
    let first = first.ok_or_else(|| BenchmarkError::Empty { path: path.to_owned() })??;
    Ok(first.fields.into_iter().map(|(name, _)| name).collect())
}

pub(super) fn rows(path: Arc<Path>, wanted: &[String]) -> Result<Rows, BenchmarkError> {
    let wanted = wanted.to_vec();
    let rows = Lines::open(path)?.map(move |row| {
        let mut row = row?;
        row.fields.retain(|name, _| wanted.contains(name));
        Ok(row)
    });
    Ok(Box::new(rows))
}

struct Lines {
    path: Arc<Path>,
    reader: BufReader<File>,
    number: u64,
}

impl Lines {
    fn open(path: Arc<Path>) -> Result<Self, BenchmarkError> {
        let file = File::open(&path).map_err(unreadable(&path))?;
        Ok(Self { path, reader: BufReader::new(file), number: 0 })
    }

    /// The next line that is not empty.
    fn line(&mut self) -> Result<Option<Vec<u8>>, BenchmarkError> {
        loop {
            let mut line = Vec::new();
            let mut limited = self.reader.by_ref().take(LONGEST_LINE);
            limited.read_until(b'\n', &mut line).map_err(unreadable(&self.path))?;
            if line.is_empty() {
                return Ok(None);
            }
            self.number += 1;
            if line.len() as u64 == LONGEST_LINE {
                return Err(self.wrong("is longer than 64 MiB".to_owned()));
            }
            if self.number == 1 && line.starts_with(b"\xef\xbb\xbf") {
                line.drain(..3); // a byte order mark
            }
            if !line.trim_ascii().is_empty() {
                return Ok(Some(line));
            }
        }
    }

    fn wrong(&self, problem: String) -> BenchmarkError {
        let place =
            Place { path: self.path.to_path_buf(), unit: "line", number: self.number, field: None };
        BenchmarkError::Row { place, problem }
    }

    fn row(&mut self) -> Result<Option<Row>, BenchmarkError> {
        let Some(line) = self.line()? else { return Ok(None) };
        let text = std::str::from_utf8(&line).map_err(|error| {
            self.wrong(format!("is not UTF-8 (byte {} of the line)", error.valid_up_to() + 1))
        })?;
        let fields: Map<String, Value> =
            match serde_json::from_str(text.trim_end_matches(['\n', '\r'])) {
                Ok(Value::Object(fields)) => fields,
                Ok(_) => return Err(self.wrong("is no JSON object; write one a line".to_owned())),
                Err(error) => {
                    return Err(self.wrong(format!("is no JSON: {}", cause(&error))));
                }
            };
        Ok(Some(Row { path: self.path.clone(), unit: "line", number: self.number, fields }))
    }
}

impl Iterator for Lines {
    type Item = Result<Row, BenchmarkError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.row().transpose()
    }
}

/// Without the line that `serde_json` counts: it saw one only.
fn cause(error: &serde_json::Error) -> String {
    error.to_string().replace(" at line 1 column ", ", column ")
}
