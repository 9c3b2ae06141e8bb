//! What a step knows about where it runs, and what it can tell the run.

use std::any::{Any, TypeId};
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::data::Data;
use crate::error::{ErrorKind, StepError};
use crate::event::Kind;
use crate::flow::Flow;
use crate::id::RunId;
use crate::live::Live;
use crate::path::Path;
use crate::retry::Retry;

/// The handle that each attempt of a step is given. Cloning is a reference count, so tasks that the step starts can have
/// one too.
#[derive(Clone)]
pub struct Context(Arc<Inner>);

struct Inner {
    run: Arc<Live>,
    path: Path,
    attempt: u32,
    /// For the nodes below that say nothing themselves.
    retry: Option<Arc<Retry>>,
    over: AtomicBool,
    /// Made only for those who wait for the end.
    ended: OnceLock<CancellationToken>,
    spent: Mutex<Vec<(&'static str, u64)>>,
    calls: Mutex<HashSet<String>>,
}

impl Context {
    pub(crate) fn new(run: Arc<Live>, path: Path, attempt: u32, retry: Option<Arc<Retry>>) -> Self {
        Self(Arc::new(Inner {
            run,
            path,
            attempt,
            retry,
            over: AtomicBool::new(false),
            ended: OnceLock::new(),
            spent: Mutex::default(),
            calls: Mutex::default(),
        }))
    }

    /// Where the nodes of branch or hop `index` run.
    pub(crate) fn numbered(&self, index: usize) -> Self {
        let Inner { run, path, attempt, retry, .. } = &*self.0;
        // The attempt of the node itself has to show in the paths below it.
        Self::new(run.clone(), path.numbered(index), *attempt, retry.clone())
    }

    /// Where the nodes of the arm or call `name` run.
    pub(crate) fn below(&self, name: &Arc<str>) -> Self {
        Self::new(self.0.run.clone(), self.child_path(name), 1, self.0.retry.clone())
    }

    pub(crate) fn child_path(&self, name: &Arc<str>) -> Path {
        self.0.path.child(self.0.attempt, name.clone())
    }

    /// The same place, with `retry` for those below that have none.
    pub(crate) fn with_retry(&self, retry: Arc<Retry>) -> Self {
        let Inner { run, path, attempt, .. } = &*self.0;
        Self::new(run.clone(), path.clone(), *attempt, Some(retry))
    }

    pub(crate) fn live(&self) -> &Arc<Live> {
        &self.0.run
    }

    pub(crate) fn retry(&self) -> Option<&Arc<Retry>> {
        self.0.retry.as_ref()
    }

    /// The run that this attempt is part of.
    pub fn run_id(&self) -> &RunId {
        &self.0.run.id
    }

    /// The place of the node.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Which attempt this is: counted from 1, across resumes.
    pub fn attempt(&self) -> u32 {
        self.0.attempt
    }

    /// Run and path, without attempts: the same whenever this step runs for this purpose, so that a server which knows
    /// idempotency keys does the work once.
    pub fn key(&self) -> String {
        format!("{}/{}", self.0.run.id, self.0.path.without_attempts())
    }

    /// What the run was given as header `name`.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.0.run.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// What the run was provided with of type `T`.
    pub fn get<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        let found = self.0.run.provided.get(&TypeId::of::<T>())?;
        let found: Arc<dyn Any + Send + Sync> = found.clone();
        found.downcast().ok()
    }

    /// The same, as an error that names what is missing.
    ///
    /// # Errors
    /// If the run was not provided with a `T`.
    pub fn need<T: Send + Sync + 'static>(&self) -> Result<Arc<T>, StepError> {
        self.get().ok_or_else(|| {
            StepError::fatal(format!(
                "the run was not provided with a `{}`; add it with `Run::provide`",
                std::any::type_name::<T>()
            ))
        })
    }

    /// The time that is left of the run; `None` if it has no deadline.
    pub fn remaining(&self) -> Option<Duration> {
        let deadline = self.0.run.deadline?;
        Some(deadline.saturating_duration_since(Instant::now()))
    }

    /// Resolves as soon as this attempt is over: done, timed out, or cancelled. For what a step starts elsewhere; the
    /// step itself is simply dropped.
    pub async fn cancelled(&self) {
        let ended = self.0.ended.get_or_init(CancellationToken::new);
        if !self.is_cancelled() {
            ended.cancelled().await;
        }
    }

    /// Whether this attempt is over. A [`blocking`](crate::blocking) step asks it now and then: its thread cannot be
    /// stopped from outside.
    pub fn is_cancelled(&self) -> bool {
        self.0.over.load(Ordering::SeqCst)
    }

    pub(crate) fn end(&self) {
        // Before the look at `ended`: whoever makes the token after it finds the flag.
        self.0.over.store(true, Ordering::SeqCst);
        if let Some(ended) = self.0.ended.get() {
            ended.cancel();
        }
    }

    /// Tells those who watch the run: a number, a sentence, a piece of the output.
    pub fn progress(&self, data: impl Serialize) {
        if self.0.run.is_watched() {
            // What cannot be shown as JSON is told as the reason why.
            let data = serde_json::to_value(data)
                .unwrap_or_else(|error| serde_json::Value::String(format!("not shown: {error}")));
            self.emit(Kind::Progress(data));
        }
    }

    pub(crate) fn emit(&self, kind: Kind) {
        self.0.run.emit(&self.0.path, self.0.attempt, || kind);
    }

    /// Spends `amount` of a budget of the run, such as tokens. A unit without a budget is only counted.
    ///
    /// # Errors
    /// If the budget is used up by this or was before. What was spent is spent: it counts all the same.
    pub fn spend(&self, unit: &'static str, amount: u64) -> Result<(), StepError> {
        let mut spent = self.0.spent.lock().unwrap_or_else(PoisonError::into_inner);
        match spent.iter_mut().find(|(known, _)| *known == unit) {
            Some((_, sum)) => *sum = sum.saturating_add(amount),
            None => spent.push((unit, amount)),
        }
        drop(spent);
        match self.0.run.spend(unit, amount) {
            Some((limit, spent)) => Err(StepError::new(ErrorKind::Budget { unit, limit, spent })),
            None => Ok(()),
        }
    }

    /// What this attempt spent itself.
    pub(crate) fn take_spent(&self) -> Vec<(&'static str, u64)> {
        std::mem::take(&mut self.0.spent.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Runs a flow that was chosen just now, as a part of this step: below its path, under its deadline and budgets.
    ///
    /// A resumed run runs the step again, and takes from the journal what the child had finished. A child that is known
    /// beforehand is better said in the definition: a flow is a step.
    ///
    /// # Errors
    /// If the child fails; its path says where. If this attempt has called under this name before.
    pub async fn call<I: Data, O: Data>(
        &self,
        name: &str,
        flow: &Flow<I, O>,
        input: I,
    ) -> Result<O, StepError> {
        flow.validate().map_err(|error| StepError::refused(error.to_string()))?;
        let new =
            self.0.calls.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
        if !new {
            return Err(StepError::fatal(format!(
                "`{}` calls `{name}` twice; its records are kept by that name, so give each call its own",
                self.path()
            )));
        }
        flow.run_in(&self.below(&name.into()), input).await
    }
}
