//! A data file as rows with named columns, read one after the other.

mod comma;
mod json_lines;
mod parquet_file;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::BenchmarkError;
use super::format::Format;
use super::row::Row;

/// A data file whose columns are known.
pub(super) struct Table {
    path: PathBuf,
    format: Format,
    /// In the order of the file; of JSON lines those of the first one.
    pub(super) columns: Vec<String>,
}

pub(super) type Rows = Box<dyn Iterator<Item = Result<Row, BenchmarkError>>>;

impl Table {
    /// # Errors
    /// If the file cannot be read, is not of this format, or has no rows at all.
    pub(super) fn open(path: &Path, format: Format) -> Result<Self, BenchmarkError> {
        let columns = match format {
            Format::Jsonl => json_lines::columns(path)?,
            Format::Csv => comma::columns(path)?,
            Format::Parquet => parquet_file::columns(path)?,
        };
        Ok(Self { path: path.to_owned(), format, columns })
    }

    /// Each row with the fields of the wanted columns.
    ///
    /// # Errors
    /// If there is no such column; each row may be wrong in itself.
    pub(super) fn rows(&self, wanted: &[String]) -> Result<Rows, BenchmarkError> {
        if let Some(missing) = wanted.iter().find(|wanted| !self.columns.contains(wanted)) {
            return Err(BenchmarkError::Column {
                path: self.path.clone(),
                column: missing.clone(),
                found: self.names(),
                advice: "correct the name, or take a file of the layout that was expected",
            });
        }
        let path: Arc<Path> = self.path.as_path().into();
        match self.format {
            Format::Jsonl => json_lines::rows(path, wanted),
            Format::Csv => comma::rows(path, wanted),
            Format::Parquet => parquet_file::rows(path, wanted),
        }
    }

    /// The columns for a message.
    pub(super) fn names(&self) -> String {
        const SHOWN: usize = 30;
        let names: Vec<String> =
            self.columns.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
        let more = if self.columns.len() > SHOWN { ", …" } else { "" };
        names.join(", ") + more
    }
}

fn unreadable(path: &Path) -> impl Fn(std::io::Error) -> BenchmarkError {
    move |source| BenchmarkError::Read { path: path.to_owned(), source }
}
