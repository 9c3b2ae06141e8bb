//! Why a benchmark cannot be had.

use std::fmt;
use std::path::PathBuf;

use agentflow_model::hub::HubError;

use super::definition::Benchmark;

#[derive(Debug, thiserror::Error)]
pub enum BenchmarkError {
    #[error(
        "unknown benchmark `{name}`{suggestion}; there are {known}, or give a .jsonl, .csv, .parquet or .toml file"
    )]
    Unknown { name: String, suggestion: String, known: String },
    #[error("cannot read `{}`: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("`{}` does not describe a benchmark: {problem}; see docs/eval.md, \"Your own benchmark\"", path.display())]
    Definition { path: PathBuf, problem: String },
    #[error("`{}` is in no format that is read here; give a .jsonl, .csv or .parquet file", path.display())]
    Format { path: PathBuf },
    #[error("`{option}` is for a plain data file; `{name}` has its columns in its own file")]
    KeyWithoutFile { option: &'static str, name: String },
    #[error("`{}` is no {format} file: {problem}", path.display())]
    Malformed { path: PathBuf, format: &'static str, problem: String },
    #[error("`{}` has no rows", path.display())]
    Empty { path: PathBuf },
    #[error("`{}` has no column `{column}`; it has {found}; {advice}", path.display())]
    Column { path: PathBuf, column: String, found: String, advice: &'static str },
    #[error("in `{}` it is not clear which column is the {what}; it has {found}; name one with `{option}`", path.display())]
    Guess { path: PathBuf, what: &'static str, found: String, option: &'static str },
    #[error("{place}: {problem}")]
    Row { place: Place, problem: String },
    #[error(
        "`{name}` has {found} rows, not {expected}; the data set is another than the one that this benchmark describes, so its results would not compare; check `dataset` and `checks.rows`"
    )]
    Rows { name: String, expected: u64, found: u64 },
    #[error(
        "`{name}` gives {found} problems, not {expected}; check `keep`, `overlap` and `checks.problems`"
    )]
    Problems { name: String, expected: u64, found: u64 },
    #[error(
        "`{}` is not the file that `{name}` describes: its SHA-256 is {found}, not {expected}; delete it to fetch it again, or correct `sha256`", path.display()
    )]
    Content { name: String, path: PathBuf, expected: String, found: String },
    #[error(
        "`{repo}` is gated, and no token is set; accept its terms at {page}, then set `HF_TOKEN` to a token of yours"
    )]
    NoToken { repo: String, page: String },
    #[error(
        "the account of your `HF_TOKEN` may not read `{repo}`, which is gated; accept its terms at {page} with that account"
    )]
    TermsNotAccepted { repo: String, page: String },
    #[error(
        "cannot get `{url}`: {problem}, and `{repo}` is not in the cache; check the network, or set `HF_ENDPOINT` to a mirror"
    )]
    NoNetwork { repo: String, url: String, problem: String },
    #[error("`{repo}` is not in the cache `{}`, and HF_HUB_OFFLINE forbids asking the Hub; unset it once, and the data set will be kept", cache.display())]
    NotCached { repo: String, cache: PathBuf },
    #[error("`{repo}`: {problem}")]
    Repo { repo: String, problem: String },
    #[error(transparent)]
    Hub(HubError),
    #[error(
        "`{name}` is training data, and cannot be compared with the test set `{against}`, so nothing says that they are apart: {source}"
    )]
    OverlapUnknown { name: String, against: String, source: Box<BenchmarkError> },
    #[error("`{name}` has {available} problems, too few for {wanted}; ask for fewer")]
    TooFew { name: String, available: usize, wanted: usize },
}

/// Where in a data file something is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub path: PathBuf,
    /// `line` in text files, `row` in others.
    pub unit: &'static str,
    /// From 1.
    pub number: u64,
    pub field: Option<String>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`, {} {}", self.path.display(), self.unit, self.number)?;
        match &self.field {
            Some(field) => write!(f, ", field `{field}`"),
            None => Ok(()),
        }
    }
}

impl BenchmarkError {
    pub(super) fn unknown(name: &str) -> Self {
        let names = || Benchmark::list().iter().map(|benchmark| benchmark.name.as_str());
        let nearest = names().map(|known| (distance(name, known), known)).min();
        let suggestion = match nearest {
            Some((distance, known)) if distance <= 3 => format!(", did you mean `{known}`?"),
            _ => String::new(),
        };
        let known: Vec<String> = names().map(|known| format!("`{known}`")).collect();
        Self::Unknown { name: name.to_owned(), suggestion, known: known.join(", ") }
    }

    /// The Hub's refusals as they concern a data set.
    pub(super) fn of_hub(error: HubError) -> Self {
        match error {
            HubError::Gated { repo, page, has_token: true } => {
                Self::TermsNotAccepted { repo, page }
            }
            HubError::Gated { repo, page, has_token: false } => Self::NoToken { repo, page },
            HubError::NotCached { repo, cache, .. } => Self::NotCached { repo, cache },
            other => Self::Hub(other),
        }
    }

    /// A name in short, to count errors by.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NoToken { .. } => "no token",
            Self::TermsNotAccepted { .. } => "terms not accepted",
            Self::NoNetwork { .. } => "no network",
            Self::NotCached { .. } => "not cached",
            Self::Column { .. } | Self::Guess { .. } => "column missing",
            Self::Rows { .. } | Self::Problems { .. } => "row count",
            Self::Row { .. } | Self::Malformed { .. } | Self::Empty { .. } => "bad data",
            Self::Content { .. } => "other content",
            Self::OverlapUnknown { .. } => "overlap unknown",
            Self::Unknown { .. } | Self::Definition { .. } | Self::Format { .. } => "no benchmark",
            Self::KeyWithoutFile { .. } | Self::TooFew { .. } => "usage",
            Self::Read { .. } | Self::Repo { .. } | Self::Hub(_) => "source",
        }
    }

    /// Whether another command line, and not another machine or network, would mend it.
    pub fn is_usage(&self) -> bool {
        matches!(self.kind(), "no benchmark" | "usage")
    }
}

/// Edits between two short words (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().take(64).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
