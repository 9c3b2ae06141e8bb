//! What a step knows about where it runs, and what it can tell the run.

use std::any::{Any, TypeId};
use std::collections::{BTreeMap, BTreeSet};
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
use crate::workers::Alive;

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
    /// Where branches below are counted, if not with all of the run.
    alive: Option<Arc<Alive>>,
    over: AtomicBool,
    /// Made only for those who wait for the end.
    ended: OnceLock<CancellationToken>,
    /// Made only for those who spend.
    spent: OnceLock<Mutex<BTreeMap<String, u64>>>,
    calls: Mutex<BTreeSet<String>>,
}

impl Context {
    /// Where the run begins.
    pub(crate) fn root(run: Arc<Live>, path: Path) -> Self {
        Self::new(run, path, 1, None, None)
    }

    fn new(
        run: Arc<Live>,
        path: Path,
        attempt: u32,
        retry: Option<Arc<Retry>>,
        alive: Option<Arc<Alive>>,
    ) -> Self {
        Self(Arc::new(Inner {
            run,
            path,
            attempt,
            retry,
            alive,
            over: AtomicBool::new(false),
            ended: OnceLock::new(),
            spent: OnceLock::new(),
            calls: Mutex::default(),
        }))
    }

    /// Another place of the same run.
    fn at(&self, path: Path, attempt: u32) -> Self {
        let Inner { run, retry, alive, .. } = &*self.0;
        Self::new(run.clone(), path, attempt, retry.clone(), alive.clone())
    }

    /// An attempt of the node at `path`, below this one. One that is `timed` counts its own branches.
    pub(crate) fn attempt_at(&self, path: Path, attempt: u32, timed: bool) -> Self {
        if !timed {
            return self.at(path, attempt);
        }
        let Inner { run, retry, .. } = &*self.0;
        Self::new(run.clone(), path, attempt, retry.clone(), Some(Alive::within(self.alive())))
    }

    /// The same place, which counts its own branches: those of a group.
    pub(crate) fn grouped(&self) -> Self {
        self.attempt_at(self.0.path.clone(), self.0.attempt, true)
    }

    /// Where the nodes of branch or hop `index` run.
    pub(crate) fn numbered(&self, index: usize) -> Self {
        // The attempt of the node itself has to show in the paths below it.
        self.at(self.0.path.numbered(index), self.0.attempt)
    }

    /// Where the nodes of the arm or call `name` run.
    pub(crate) fn below(&self, name: &Arc<str>) -> Self {
        self.at(self.child_path(name), 1)
    }

    pub(crate) fn child_path(&self, name: &Arc<str>) -> Path {
        self.0.path.child(self.0.attempt, name.clone())
    }

    /// The same place, with `retry` for those below that have none.
    pub(crate) fn with_retry(&self, retry: Arc<Retry>) -> Self {
        let Inner { run, path, attempt, alive, .. } = &*self.0;
        Self::new(run.clone(), path.clone(), *attempt, Some(retry), alive.clone())
    }

    /// Where the branches of this attempt are counted.
    pub(crate) fn alive(&self) -> Arc<Alive> {
        self.0.alive.as_ref().unwrap_or(&self.0.run.alive).clone()
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
        // A write, as in `end`: of the two, the later one sees what the other did before. Two mere loads after two
        // stores could both miss it.
        if !self.0.over.fetch_or(false, Ordering::AcqRel) {
            ended.cancelled().await;
        }
    }

    /// Whether this attempt is over. A [`blocking`](crate::blocking) step asks it now and then: its thread cannot be
    /// stopped from outside.
    pub fn is_cancelled(&self) -> bool {
        self.0.over.load(Ordering::Acquire)
    }

    pub(crate) fn end(&self) {
        // Before the look at `ended`: whoever makes the token after it finds the flag.
        self.0.over.swap(true, Ordering::AcqRel);
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
        let spent = self.0.spent.get_or_init(Mutex::default);
        let mut spent = spent.lock().unwrap_or_else(PoisonError::into_inner);
        match spent.get_mut(unit) {
            Some(sum) => *sum = sum.saturating_add(amount),
            None => _ = spent.insert(unit.to_owned(), amount),
        }
        drop(spent);
        match self.0.run.spend(unit, amount) {
            Some((limit, spent)) => Err(StepError::new(ErrorKind::Budget { unit, limit, spent })),
            None => Ok(()),
        }
    }

    /// What this attempt spent itself.
    pub(crate) fn take_spent(&self) -> BTreeMap<String, u64> {
        let spent = self.0.spent.get();
        spent
            .map(|spent| std::mem::take(&mut *spent.lock().unwrap_or_else(PoisonError::into_inner)))
            .unwrap_or_default()
    }

    /// Runs a flow that was chosen just now, as a part of this step: below its path, under its deadline and budgets.
    ///
    /// A resumed run runs the step again, and takes from the journal what the child had finished. A child that is known
    /// beforehand is better said in the definition: a flow is a step.
    ///
    /// # Errors
    /// If the child fails; its path says where. If this attempt has called under this name before, or no path can have it.
    pub async fn call<I: Data, O: Data>(
        &self,
        name: &str,
        flow: &Flow<I, O>,
        input: I,
    ) -> Result<O, StepError> {
        flow.validate().map_err(|error| StepError::refused(error.to_string()))?;
        if !Path::takes(name) {
            return Err(StepError::fatal(format!(
                "`{}` calls a flow `{name}`; a name is not empty and has none of `/`, `#`, `[` and `]`",
                self.path()
            )));
        }
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
