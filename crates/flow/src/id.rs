//! Names that are made up: of runs, and of the questions they wait on.

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// The name of a run: letters, digits, `-`, `_` and `.`, at most 100 of them, so that it can name a file.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RunId(Arc<str>);

impl RunId {
    /// A new name; names sort by the time they were made.
    pub fn generate() -> Self {
        let millis = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        Self(format!("{:011x}-{:08x}", millis as u64, rand::random::<u32>()).into())
    }

    /// The run of this name.
    ///
    /// # Errors
    /// If the name cannot name a file.
    pub fn new(name: &str) -> Result<Self, InvalidRunId> {
        let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if (1..=100).contains(&name.len()) && name.chars().all(fits) && !name.starts_with('.') {
            Ok(Self(name.into()))
        } else {
            Err(InvalidRunId(name.to_owned()))
        }
    }

    /// The name, as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{self}`")
    }
}

impl TryFrom<String> for RunId {
    type Error = InvalidRunId;

    fn try_from(name: String) -> Result<Self, InvalidRunId> {
        Self::new(&name)
    }
}

impl From<RunId> for String {
    fn from(id: RunId) -> Self {
        id.0.to_string()
    }
}

/// A name that no run can have.
#[derive(Debug, Clone, thiserror::Error)]
#[error(
    "`{0}` cannot name a run; use up to 100 letters, digits, `-`, `_` and `.`, not starting with `.`"
)]
pub struct InvalidRunId(String);

/// What an answer has to show: 128 random bits, good for one answer to one question.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(String);

impl Token {
    pub(crate) fn generate() -> Self {
        Self(format!("{:032x}", rand::random::<u128>()))
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
