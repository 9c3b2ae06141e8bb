//! Why a step failed, and what a retry may do about it.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ask::Decision;
use crate::path::Path;
use crate::store::StoreError;

type BoxError = Box<dyn Error + Send + Sync>;

/// A failed step. Made from any error by `?`, which a [`Retry`](crate::Retry) may repeat; [`StepError::fatal`] and
/// [`StepError::invalid`] make one that it may not.
///
/// Like `anyhow::Error`, it does not implement [`Error`] itself, so that `?` can make it from everything that does.
pub struct StepError(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    retry_after: Option<Duration>,
    /// The innermost node that failed, and its attempts.
    origin: Option<(Path, u32)>,
}

/// What kind of failure it was.
#[derive(Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The step says so. Another attempt may heal it.
    Failed(BoxError),
    /// One attempt took longer than the node's timeout. Another attempt may heal it.
    Timeout(Duration),
    /// The step says so, and that another attempt cannot help.
    Fatal(BoxError),
    /// The output breaks a rule of the node, or does not survive being written.
    Invalid(String),
    /// The step panicked.
    Panicked(String),
    /// No arm of a `switch` took the value.
    NoRoute(String),
    /// A human said no.
    Denied(Decision),
    /// A `repeat` came to no result in this many hops.
    Hops(u32),
    /// The run spent more of a unit than it has.
    Budget { unit: &'static str, limit: u64, spent: u64 },
    /// The run's time is up.
    Deadline,
    /// It was cancelled before it was done.
    Cancelled,
    /// The journal could not be written or read.
    Store(StoreError),
    /// The run was not begun: its definition, its id or an answer to it is not acceptable.
    Refused(String),
    /// Not a failure: a human has to answer first. A step that wraps others has to pass it on.
    Paused,
    /// An earlier process found that out, and was stopped before it could go on with it. Of the error itself, its
    /// [`name`](ErrorKind::name) and its text are left.
    Recorded { kind: &'static str, message: String },
}

/// What [`ErrorKind::name`] says.
const NAMES: [&str; 14] = [
    "failed",
    "timeout",
    "fatal",
    "invalid",
    "panicked",
    "no_route",
    "denied",
    "hops",
    "budget",
    "deadline",
    "cancelled",
    "store",
    "refused",
    "paused",
];

impl ErrorKind {
    /// Whether it concerns the whole run: no branch can settle it, no retry heal it.
    pub(crate) fn is_of_the_run(&self) -> bool {
        is_of_the_run(self.name())
    }

    /// One word for counting: `failed`, `timeout`, ...
    pub fn name(&self) -> &'static str {
        match self {
            Self::Failed(_) => "failed",
            Self::Timeout(_) => "timeout",
            Self::Fatal(_) => "fatal",
            Self::Invalid(_) => "invalid",
            Self::Panicked(_) => "panicked",
            Self::NoRoute(_) => "no_route",
            Self::Denied(_) => "denied",
            Self::Hops(_) => "hops",
            Self::Budget { .. } => "budget",
            Self::Deadline => "deadline",
            Self::Cancelled => "cancelled",
            Self::Store(_) => "store",
            Self::Refused(_) => "refused",
            Self::Paused => "paused",
            Self::Recorded { kind, .. } => kind,
        }
    }
}

fn is_of_the_run(kind: &str) -> bool {
    matches!(kind, "budget" | "deadline" | "cancelled" | "store" | "refused" | "paused")
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) | Self::Fatal(error) => error.fmt(f),
            Self::Timeout(limit) => write!(f, "no result within {limit:?}"),
            Self::Invalid(problem) => write!(f, "invalid output: {problem}"),
            Self::Panicked(message) => write!(f, "panicked: {message}"),
            Self::NoRoute(value) => {
                write!(f, "no arm takes {value}; add one, or end the switch with `otherwise`")
            }
            Self::Denied(decision) => decision.fmt(f),
            Self::Hops(limit) => {
                write!(f, "no result after {limit} hops; allow more, or end the loop earlier")
            }
            Self::Budget { unit, limit, spent } => {
                write!(f, "the budget of {limit} {unit} is used up: {spent} were spent")
            }
            Self::Deadline => f.write_str("the deadline of the run has passed"),
            Self::Cancelled => f.write_str("cancelled"),
            Self::Store(error) => error.fmt(f),
            Self::Refused(reason) => f.write_str(reason),
            Self::Paused => f.write_str("waiting for an answer"),
            Self::Recorded { message, .. } => f.write_str(message),
        }
    }
}

impl StepError {
    pub(crate) fn new(kind: ErrorKind) -> Self {
        Self(Box::new(Inner { kind, retry_after: None, origin: None }))
    }

    /// A failure that another attempt may heal; what `?` makes of an error.
    pub fn failed(error: impl Into<BoxError>) -> Self {
        Self::new(ErrorKind::Failed(error.into()))
    }

    /// A failure that no further attempt can heal.
    pub fn fatal(error: impl Into<BoxError>) -> Self {
        Self::new(ErrorKind::Fatal(error.into()))
    }

    /// A result that breaks a rule. Computing it again is not tried.
    pub fn invalid(problem: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid(problem.into()))
    }

    pub(crate) fn refused(reason: impl Into<String>) -> Self {
        Self::new(ErrorKind::Refused(reason.into()))
    }

    pub(crate) fn store(error: StoreError) -> Self {
        Self::new(ErrorKind::Store(error))
    }

    /// The same error, with the least time to wait before the next attempt (a server's `Retry-After`).
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.0.retry_after = Some(wait);
        self
    }

    /// What an earlier process recorded.
    pub(crate) fn recorded(failure: &Failure) -> Self {
        let kind = NAMES.into_iter().find(|name| *name == failure.kind).unwrap_or("recorded");
        let error = Self::new(ErrorKind::Recorded { kind, message: failure.message.clone() });
        error.at(&Path::parse(&failure.path), failure.attempts)
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// The innermost node that failed; `None` inside that node's own step.
    pub fn path(&self) -> Option<&Path> {
        self.0.origin.as_ref().map(|(path, _)| path)
    }

    pub(crate) fn least_wait(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Notes where it happened, unless a node further inside did.
    pub(crate) fn at(mut self, path: &Path, attempts: u32) -> Self {
        self.0.origin.get_or_insert_with(|| (path.clone(), attempts));
        self
    }

    pub(crate) fn into_flow_error(self, run: &Path) -> FlowError {
        let Inner { kind, origin, .. } = *self.0;
        let (path, attempts) = origin.unwrap_or_else(|| (run.clone(), 1));
        FlowError { path, attempts, kind }
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for StepError {
    fn from(error: E) -> Self {
        Self::failed(error)
    }
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.kind.fmt(f)
    }
}

impl fmt::Debug for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path() {
            Some(path) => write!(f, "StepError({:?} at {path:?})", self.0.kind),
            None => write!(f, "StepError({:?})", self.0.kind),
        }
    }
}

/// Why a run failed: the innermost node that did, after how many attempts, and how.
#[derive(Debug)]
pub struct FlowError {
    /// Of the innermost node that failed.
    pub path: Path,
    /// Of that node, those of earlier processes included.
    pub attempts: u32,
    /// What kind of failure it was.
    pub kind: ErrorKind,
}

impl fmt::Display for FlowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        tell(f, &self.path, self.attempts, &self.kind)
    }
}

/// The text of a failure, which says no more where the first attempt was the last.
fn tell(
    f: &mut fmt::Formatter<'_>,
    path: &dyn fmt::Display,
    attempts: u32,
    what: &dyn fmt::Display,
) -> fmt::Result {
    match attempts {
        0 | 1 => write!(f, "`{path}`: {what}"),
        attempts => write!(f, "`{path}`, {attempts} attempts: {what}"),
    }
}

impl Error for FlowError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.kind {
            // The error itself is part of our own text.
            ErrorKind::Failed(error) | ErrorKind::Fatal(error) => error.source(),
            _ => None,
        }
    }
}

/// A failure as a value that can flow: what [`settled`](crate::settled) and [`each_settled`](crate::each_settled) make of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Of the innermost node that failed.
    pub path: String,
    /// Of that node, those of earlier processes included.
    pub attempts: u32,
    /// [`ErrorKind::name`].
    pub kind: String,
    /// What the error said.
    pub message: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        tell(f, &self.path, self.attempts, &self.message)
    }
}

impl Error for Failure {}

/// What became of a branch.
pub type Settled<O> = Result<O, Failure>;

impl Failure {
    pub(crate) fn new(error: StepError, node: &Path) -> Self {
        let FlowError { path, attempts, kind } = error.into_flow_error(node);
        let (kind, message) = (kind.name().to_owned(), kind.to_string());
        Self { path: path.to_string(), attempts, kind, message }
    }

    /// That of `error`, which goes on.
    pub(crate) fn of(error: &StepError, node: &Path, attempt: u32) -> Self {
        let (path, attempts) = match &error.0.origin {
            Some((path, attempts)) => (path, *attempts),
            None => (node, attempt),
        };
        let (kind, message) = (error.kind().name().to_owned(), error.to_string());
        Self { path: path.to_string(), attempts, kind, message }
    }

    pub(crate) fn is_of_the_run(&self) -> bool {
        is_of_the_run(&self.kind)
    }
}
