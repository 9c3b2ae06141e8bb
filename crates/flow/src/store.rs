//! Where runs are kept: an append-only journal of [`Record`]s per run, held under a lease.

use std::collections::BTreeMap;
use std::path::PathBuf;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::error::Failure;
use crate::id::{RunId, Token};
use crate::report::Outcome;
use crate::shape::Shape;

/// Keeps the journals of runs. [`MemoryStore`](crate::MemoryStore) keeps them in this process,
/// [`JsonlStore`](crate::JsonlStore) in files.
pub trait Store: Send + Sync + 'static {
    /// Starts the journal of a new run and takes its lease. One without a record is taken over: nothing had begun.
    ///
    /// # Errors
    /// [`StoreError::Exists`] if the run has a journal.
    fn create(&self, run: &RunId) -> BoxFuture<'static, Result<Box<dyn Journal>, StoreError>>;

    /// Takes the lease of a run that was started before, and gives what it recorded. A torn last record is dropped: it
    /// was never acknowledged.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], or [`StoreError::Leased`] while another process (or run in this one) holds it.
    fn open(&self, run: &RunId) -> BoxFuture<'static, Result<Opened, StoreError>>;

    /// What a run recorded so far, without its lease: for looking, not for resuming.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], or the journal cannot be read.
    fn load(&self, run: &RunId) -> BoxFuture<'static, Result<Vec<Record>, StoreError>>;
}

/// A journal with its lease, and what it holds.
pub type Opened = (Box<dyn Journal>, Vec<Record>);

/// The journal of one run, open for writing. It is the lease: nobody else can write while it lives, and dropping it
/// gives the lease back (so does the death of the process).
pub trait Journal: Send + Sync + 'static {
    /// Adds a record. It is queued, behind all earlier ones, when this is called, and durable when the future resolves:
    /// a caller that cannot wait drops the future and loses only the word about failure. Records that are queued
    /// together are written together. After one failed, all later ones fail.
    fn append(&self, record: Record) -> BoxFuture<'static, Result<(), StoreError>>;
}

/// One line of a journal. Times are milliseconds since 1970, lengths of time microseconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Record {
    /// The first record: what was started, with what.
    Started { run: RunId, shape: Shape, input: Box<RawValue>, at_ms: u64 },
    /// A later process took the run up again.
    Resumed { at_ms: u64 },
    /// A step finished; its output.
    Output { path: String, value: Box<RawValue>, tried: Tried },
    /// An attempt spent something, and left no other record: it was cancelled or paused, or is not to be recorded.
    Spent { path: String, outcome: Outcome, tried: Tried },
    /// An attempt failed; of a group, `failure` names what failed in it.
    Failed { path: String, failure: Failure, tried: Tried },
    /// A failure became a value that flows on.
    Settled { path: String, failure: Failure },
    /// A `switch` chose.
    Routed { path: String, label: String },
    /// A run asked a human, and waits for the answer to `token`.
    Asked { path: String, token: Token, question: Box<RawValue> },
    /// The answer. A token is answered once.
    Answered { path: String, token: Token, answer: Box<RawValue> },
    /// The run came to an end; it can be resumed also after that.
    Ended { how: Ending, at_ms: u64 },
}

/// The attempt that a record is about.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Tried {
    /// Counted from 1, across resumes.
    pub attempt: u32,
    /// When it began.
    pub at_ms: u64,
    /// How long the step ran.
    pub took_us: u64,
    /// What it spent, by unit.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub spent: BTreeMap<String, u64>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// With an output.
    Done,
    /// It can be resumed.
    Failed,
    /// It waits for an answer.
    Paused,
    /// It was dropped.
    Cancelled,
}

/// Why a journal could not be had, read or written.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A new run was to get a name that is taken.
    #[error("run `{run}` exists already; resume it, or start one under another id")]
    Exists { run: RunId },
    /// There is no journal of this name.
    #[error("there is no run `{run}` in {place}")]
    NotFound { run: RunId, place: String },
    /// Somebody has the lease.
    #[error(
        "run `{run}` is held by another process, or by another run of this one; wait for it, or stop it"
    )]
    Leased { run: RunId },
    /// The journal holds something that no run wrote.
    #[error(
        "line {line} of `{path}` is not a record: {problem}; restore the file, or start the run anew"
    )]
    Corrupt { path: PathBuf, line: usize, problem: String },
    /// The system refused.
    #[error("cannot {action} `{path}`: {problem}")]
    Io { action: &'static str, path: PathBuf, problem: String },
    /// An earlier record could not be written, so none is after it.
    #[error("the store failed before: {0}")]
    Broken(String),
}
