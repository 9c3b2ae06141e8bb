//! What was asked for: a benchmark by name, or a file.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::definition::Benchmark;
use super::error::BenchmarkError;
use super::format::Format;

/// A benchmark of the binary, one's own, or a plain data file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Named(String),
    /// A `.toml` that describes a benchmark.
    Definition(PathBuf),
    /// A `.jsonl`, `.csv` or `.parquet` file.
    Data(PathBuf),
}

impl FromStr for Source {
    type Err = BenchmarkError;

    /// A name wins over a file of that name: write `./aime24` for the file.
    fn from_str(text: &str) -> Result<Self, BenchmarkError> {
        let path = Path::new(text);
        match Benchmark::named(text) {
            Ok(_) => Ok(Source::Named(text.to_owned())),
            Err(_) if path.extension().is_some_and(|extension| extension == "toml") => {
                Ok(Source::Definition(path.to_owned()))
            }
            Err(_) if Format::of(path).is_some() => Ok(Source::Data(path.to_owned())),
            Err(_) if path.is_file() => Err(BenchmarkError::Format { path: path.to_owned() }),
            Err(unknown) => Err(unknown),
        }
    }
}

/// Whether the text is a file by its name, and no benchmark.
pub(super) fn is_file_name(text: &str) -> bool {
    matches!(text.parse(), Ok(Source::Definition(_) | Source::Data(_)))
}
