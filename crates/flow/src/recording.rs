//! The journal of a run, as the run uses it: what earlier processes finished, and what this one adds.

use std::collections::{HashMap, HashSet};
use std::future::ready;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::ask::Answer;
use crate::data::{Data, decode, encode};
use crate::error::{Failure, StepError};
use crate::id::{RunId, Token};
use crate::path::Path;
use crate::report::{Attempt, Outcome};
use crate::retry::Retry;
use crate::shape::Shape;
use crate::store::{Ending, Journal, Record, StoreError, Tried};

/// By path, as text: that is what a journal knows.
pub(crate) struct Recording {
    /// Given back when the run ends, whoever still holds a context of it.
    journal: Mutex<Option<Box<dyn Journal>>>,
    /// With their positions among each other.
    outputs: HashMap<String, (usize, Box<RawValue>)>,
    failures: HashMap<String, Failures>,
    settled: HashMap<String, Failure>,
    routes: HashMap<String, String>,
    asked: HashMap<String, Token>,
    answers: HashMap<String, Box<RawValue>>,
    /// The places above all outputs, looked up only where something failed before.
    above: OnceLock<HashSet<String>>,
}

/// The failed attempts of a node that earlier processes made.
#[derive(Debug, Clone, Default)]
pub(crate) struct Failures {
    /// The number of the last one; 0 for none.
    last: u32,
    /// Those that count against the attempts that are allowed: not those before an end of the run, and none that was
    /// the run's own.
    pub(crate) counted: u32,
    /// The last one that counts.
    latest: Option<Failure>,
    /// Something below the last one was finished: a flow that it called, or a branch.
    inside: bool,
}

impl Failures {
    /// The failure after which the node was not to be tried again. The process that recorded it was stopped before it
    /// could go on with it.
    pub(crate) fn standing(&self, allowed: u32, retry: Option<&Retry>) -> Option<StepError> {
        let error = StepError::recorded(self.latest.as_ref()?);
        let again = self.counted < allowed && retry.is_some_and(|retry| retry.heals(&error));
        (!again).then_some(error)
    }

    /// A step goes on counting. A group whose failure ended the run goes on with that attempt, since what it had
    /// finished is recorded below it; so does a step that called a flow.
    pub(crate) fn next_attempt(&self, leaf: bool) -> u32 {
        let anew = self.counted > 0 || (leaf && !self.inside);
        if anew { self.last + 1 } else { self.last.max(1) }
    }
}

/// What a journal says about a run, before anything of it runs again.
pub(crate) struct Past {
    pub(crate) recording: Recording,
    pub(crate) shape: Shape,
    pub(crate) input: Box<RawValue>,
    pub(crate) attempts: Vec<Attempt>,
}

impl Recording {
    pub(crate) fn new(journal: Box<dyn Journal>) -> Self {
        Self {
            journal: Mutex::new(Some(journal)),
            outputs: HashMap::new(),
            failures: HashMap::new(),
            settled: HashMap::new(),
            routes: HashMap::new(),
            asked: HashMap::new(),
            answers: HashMap::new(),
            above: OnceLock::new(),
        }
    }

    /// # Errors
    /// If the journal does not begin with the start of the run.
    pub(crate) fn replay(
        run: &RunId,
        journal: Box<dyn Journal>,
        records: Vec<Record>,
    ) -> Result<Past, StepError> {
        let mut recording = Self::new(journal);
        let mut records = records.into_iter();
        let Some(Record::Started { shape, input, .. }) = records.next() else {
            return Err(StepError::refused(format!(
                "the journal of run `{run}` does not begin with its start; nothing was done yet, so start it anew"
            )));
        };
        let mut attempts = Vec::new();
        for record in records {
            recording.take(record, &mut attempts);
        }
        Ok(Past { recording, shape, input, attempts })
    }

    fn take(&mut self, record: Record, attempts: &mut Vec<Attempt>) {
        match record {
            Record::Output { path, value, tried } => {
                attempts.push(Attempt::earlier(&path, tried, Outcome::Done));
                let position = self.outputs.len();
                self.outputs.insert(path, (position, value));
            }
            Record::Failed { path, failure, tried } => {
                let failures = self.failures.entry(path.clone()).or_default();
                failures.last = failures.last.max(tried.attempt);
                let message = failure.message.clone();
                if !failure.is_of_the_run() {
                    failures.counted += 1;
                    failures.latest = Some(failure);
                }
                attempts.push(Attempt::earlier(&path, tried, Outcome::Failed(message)));
            }
            Record::Spent { path, outcome, tried } => {
                attempts.push(Attempt::earlier(&path, tried, outcome));
            }
            Record::Settled { path, failure } => {
                self.settled.insert(path, failure);
            }
            Record::Routed { path, label } => {
                self.routes.insert(path, label);
            }
            Record::Asked { path, token, .. } => {
                // Asked again, the answer was of no use.
                self.answers.remove(&path);
                self.asked.insert(path, token);
            }
            Record::Answered { path, answer, .. } => {
                self.answers.insert(path, answer);
            }
            Record::Ended { how: Ending::Failed, .. } => {
                for failures in self.failures.values_mut() {
                    (failures.counted, failures.latest) = (0, None);
                }
            }
            Record::Started { .. } | Record::Resumed { .. } | Record::Ended { .. } => {}
        }
    }

    pub(crate) fn failures(&self, path: &Path) -> Failures {
        if self.failures.is_empty() {
            return Failures::default();
        }
        let mut text = path.to_string();
        let Some(failures) = self.failures.get(&text).cloned() else {
            return Failures::default();
        };
        if failures.last > 1 {
            text.push_str(&format!("#{}", failures.last));
        }
        Failures { inside: self.above().contains(&text), ..failures }
    }

    fn above(&self) -> &HashSet<String> {
        self.above.get_or_init(|| {
            let above = |path: &'_ String| -> Vec<String> {
                path.match_indices('/').map(|(end, _)| path[..end].to_owned()).collect()
            };
            self.outputs.keys().flat_map(above).collect()
        })
    }

    /// The recorded output of the node at `path`.
    pub(crate) fn output<O: Data>(&self, path: &Path) -> Result<Option<O>, StepError> {
        if self.outputs.is_empty() {
            return Ok(None);
        }
        let text = path.to_string();
        let read = |raw: &RawValue| {
            decode(raw).map_err(|error| unreadable::<O>(&format!("output of `{text}`"), &error))
        };
        self.outputs.get(&text).map(|(_, raw)| read(raw)).transpose()
    }

    /// Where among all recorded outputs that of the node at `path` stands.
    pub(crate) fn position(&self, path: &Path) -> Option<usize> {
        if self.outputs.is_empty() {
            return None;
        }
        self.outputs.get(&path.to_string()).map(|(position, _)| *position)
    }

    /// What will be written, and what will be read of it; `None` if it holds something volatile.
    pub(crate) fn encode<O: Data>(
        &self,
        output: &O,
    ) -> Result<Option<(Box<RawValue>, O)>, StepError> {
        let broken = |problem: String| {
            StepError::invalid(format!(
                "{problem}; record another type, or mark the node `unrecorded`"
            ))
        };
        let raw =
            encode(output).map_err(|e| broken(format!("it cannot be written as JSON: {e}")))?;
        let Some(raw) = raw else { return Ok(None) };
        let read = decode(&raw)
            .map_err(|e| broken(format!("written as JSON, it cannot be read back: {e}")))?;
        Ok(Some((raw, read)))
    }

    pub(crate) fn record_output(
        &self,
        path: &Path,
        value: Box<RawValue>,
        tried: Tried,
    ) -> impl Future<Output = Result<(), StepError>> {
        self.append(Record::Output { path: path.to_string(), value, tried })
    }

    pub(crate) fn record_failure(
        &self,
        path: &Path,
        error: &StepError,
        tried: Tried,
    ) -> impl Future<Output = Result<(), StepError>> {
        let record = Record::Failed {
            path: path.to_string(),
            failure: Failure::of(error, path, tried.attempt),
            tried,
        };
        self.append(record)
    }

    /// Not waited for: it is told where an attempt ends, which may be because it is dropped.
    pub(crate) fn record_spent(&self, path: &Path, outcome: Outcome, tried: Tried) {
        drop(self.queue(Record::Spent { path: path.to_string(), outcome, tried }));
    }

    /// The failure that the branch at `path` was settled with.
    pub(crate) fn settled(&self, path: &Path) -> Option<&Failure> {
        if self.settled.is_empty() {
            return None;
        }
        self.settled.get(&path.to_string())
    }

    pub(crate) async fn record_settled(
        &self,
        path: &Path,
        failure: Failure,
    ) -> Result<(), StepError> {
        let record = Record::Settled { path: path.to_string(), failure };
        self.append(record).await.map_err(|error| error.at(path, 1))
    }

    pub(crate) fn route(&self, path: &Path) -> Option<&String> {
        if self.routes.is_empty() {
            return None;
        }
        self.routes.get(&path.to_string())
    }

    /// Not waited for: an output that depends on it is written after it.
    pub(crate) fn record_route(&self, path: &Path, label: &str) {
        let record = Record::Routed { path: path.to_string(), label: label.to_owned() };
        drop(self.queue(record));
    }

    /// The token under which the node at `path` has asked, answered or not.
    pub(crate) fn asked(&self, path: &Path) -> Option<&Token> {
        self.asked.get(&path.to_string())
    }

    pub(crate) async fn record_question(
        &self,
        path: &Path,
        token: &Token,
        question: Box<RawValue>,
    ) -> Result<(), StepError> {
        let record = Record::Asked { path: path.to_string(), token: token.clone(), question };
        self.append(record).await
    }

    /// The answer to the node at `path`, if it is an `A`.
    pub(crate) fn answer<A: Data>(&self, path: &Path) -> Option<serde_json::Result<A>> {
        self.answers.get(&path.to_string()).map(|raw| decode(raw))
    }

    pub(crate) async fn record_answer(
        &self,
        path: &Path,
        token: &Token,
        answer: Box<RawValue>,
    ) -> Result<(), StepError> {
        let record = Record::Answered { path: path.to_string(), token: token.clone(), answer };
        self.append(record).await
    }

    /// # Errors
    /// If the token of an answer was answered before, or is none of this run.
    pub(crate) fn check_answers(&self, answers: &[Answer]) -> Result<(), StepError> {
        for (index, Answer { path, token, .. }) in answers.iter().enumerate() {
            if self.asked.get(path) != Some(token) {
                return Err(StepError::refused(format!(
                    "the run did not ask at `{path}` with this token; answer the pause that its last report holds"
                )));
            }
            if self.answers.contains_key(path) {
                return Err(StepError::refused(format!(
                    "the question at `{path}` was answered before, and a token is good for one answer; resume the run without it"
                )));
            }
            if answers[..index].iter().any(|earlier| earlier.path == *path) {
                return Err(StepError::refused(format!(
                    "two answers were given to the question at `{path}`, and a token is good for one; decide on one of them"
                )));
            }
        }
        Ok(())
    }

    /// Takes answers that were given since the run paused, and were checked.
    pub(crate) async fn decide(&mut self, answers: Vec<Answer>) -> Result<(), StepError> {
        for Answer { path, token, answer } in answers {
            let record = Record::Answered { path: path.clone(), token, answer: answer.clone() };
            self.queue(record).await.map_err(StepError::store)?;
            self.answers.insert(path, answer);
        }
        Ok(())
    }

    /// Not an async function: a future that held the record would make that of every step so much larger.
    fn append(&self, record: Record) -> impl Future<Output = Result<(), StepError>> + use<> {
        let queued = self.queue(record);
        async move { queued.await.map_err(StepError::store) }
    }

    fn queue(&self, record: Record) -> BoxFuture<'static, Result<(), StoreError>> {
        match &*self.journal.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(journal) => journal.append(record),
            None => Box::pin(ready(Err(StoreError::Broken("the run is over".to_owned())))),
        }
    }

    /// Gives the lease back.
    pub(crate) fn close(&self) {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    pub(crate) async fn write(&self, record: Record) -> Result<(), StoreError> {
        self.queue(record).await
    }

    /// For the end of a run that was dropped, where nobody can wait.
    pub(crate) fn write_unseen(&self, record: Record) {
        drop(self.queue(record));
    }
}

fn unreadable<T>(what: &str, error: &serde_json::Error) -> StepError {
    StepError::invalid(format!(
        "the recorded {what} is no `{}` any more: {error}; resume with the version that wrote it, or start the run anew",
        std::any::type_name::<T>()
    ))
}

/// The JSON of something that has to be recorded, such as a question.
pub(crate) fn must_encode<T: Serialize>(what: &str, value: &T) -> Result<Box<RawValue>, StepError> {
    match encode(value) {
        Ok(Some(raw)) => Ok(raw),
        Ok(None) => Err(StepError::invalid(format!("{what} is volatile; it has to be kept"))),
        Err(error) => Err(StepError::invalid(format!("{what} cannot be written as JSON: {error}"))),
    }
}

impl Attempt {
    fn earlier(path: &str, tried: Tried, outcome: Outcome) -> Self {
        Self {
            path: Path::parse(path),
            attempt: tried.attempt,
            started: std::time::UNIX_EPOCH + Duration::from_millis(tried.at_ms),
            took: Duration::from_micros(tried.took_us),
            outcome,
            input: None,
            spent: tried.spent,
            earlier: true,
        }
    }
}
