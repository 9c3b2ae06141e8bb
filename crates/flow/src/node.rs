//! A named step with its policy: retries, timeout, limit, rules for its output.

use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::value::RawValue;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::context::Context;
use crate::data::Data;
use crate::error::{ErrorKind, StepError};
use crate::event::Kind;
use crate::live::Running;
use crate::path::Path;
use crate::report::Outcome;
use crate::retry::Retry;
use crate::shape::{Shape, ShapeKind};
use crate::step::Step;

/// A named step with its policy. Its name is its place among its siblings: in paths, events, traces and the journal.
pub struct Node<I, O> {
    name: Arc<str>,
    about: Option<Arc<str>>,
    work: Arc<dyn Work<I, O>>,
    retry: Option<Arc<Retry>>,
    timeout: Option<Duration>,
    limit: Option<Arc<Semaphore>>,
    checks: Vec<Check<O>>,
    /// Nothing is known to be inside, so its output cannot be put together from what is inside.
    leaf: bool,
    recorded: bool,
}

type Made<O> = (O, Option<Box<RawValue>>);

type Check<O> = Arc<dyn Fn(&O) -> Result<(), StepError> + Send + Sync>;

/// A node of an async function: the usual one.
///
/// ```
/// use agentflow_flow::{Context, Flow, step};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let flow = Flow::new("double").then(step("double", async |_cx: Context, x: u32| Ok(2 * x)));
/// assert_eq!(flow.run(21).await.into_result()?, 42);
/// # Ok::<(), agentflow_flow::FlowError>(()) }).unwrap();
/// ```
pub fn step<I, O, F, R>(name: &str, function: F) -> Node<I, O>
where
    I: Data,
    O: Data,
    F: Fn(Context, I) -> R + Send + Sync + 'static,
    R: Future<Output = Result<O, StepError>> + Send + 'static,
{
    node(name, function)
}

/// A node of any [`Step`]: one of your own types, or a node with a further policy around it.
pub fn node<I: Data, S: Step<I>>(name: &str, step: S) -> Node<I, S::Output> {
    let inside = step.shape();
    let leaf = inside.kind == ShapeKind::Step && inside.name.is_empty();
    Node {
        name: name.into(),
        about: None,
        work: Arc::new(step),
        retry: None,
        timeout: None,
        limit: None,
        checks: Vec::new(),
        leaf,
        recorded: leaf,
    }
}

/// A node of a function that blocks or computes for long. It runs on a thread of its own, which nobody can stop: after a
/// timeout or a cancellation the run goes on at once, and the function should end when
/// [`Context::is_cancelled`] says so.
pub fn blocking<I, O, F>(name: &str, function: F) -> Node<I, O>
where
    I: Data,
    O: Data,
    F: Fn(&Context, I) -> Result<O, StepError> + Send + Sync + 'static,
{
    let function = Arc::new(function);
    step(name, move |cx: Context, input: I| {
        let function = function.clone();
        async move {
            match tokio::task::spawn_blocking(move || function(&cx, input)).await {
                Ok(result) => result,
                Err(error) => match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    Err(_) => Err(StepError::new(ErrorKind::Cancelled)), // the runtime shuts down
                },
            }
        }
    })
}

impl<I: Data, O: Data> Node<I, O> {
    /// Tries again after failures that can heal. Each attempt has its own copy of the input. In place of the flow's
    /// [`Flow::retry`](crate::Flow::retry).
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = Some(Arc::new(retry));
        self
    }

    /// The longest that one attempt may take.
    pub fn timeout(mut self, per_attempt: Duration) -> Self {
        self.timeout = Some(per_attempt);
        self
    }

    /// At most this many attempts at once (at least one), over all runs of this node and its clones. Waiting for the
    /// next attempt takes no place.
    pub fn limit(mut self, at_once: usize) -> Self {
        self.limit = Some(Arc::new(Semaphore::new(at_once.clamp(1, Semaphore::MAX_PERMITS))));
        self
    }

    /// A rule that every output has to keep and types cannot say; [`StepError::invalid`] says how it was broken.
    pub fn check(
        mut self,
        rule: impl Fn(&O) -> Result<(), StepError> + Send + Sync + 'static,
    ) -> Self {
        self.checks.push(Arc::new(rule));
        self
    }

    /// Leaves the output out of the journal: a resumed run runs this again. For what is cheaper to compute than to keep.
    pub fn unrecorded(mut self) -> Self {
        self.recorded = false;
        self
    }

    /// Keeps the output also of a node that could be put together from what is inside it.
    pub(crate) fn recorded(mut self) -> Self {
        self.recorded = true;
        self
    }

    /// A sentence for graphs.
    pub fn describe(mut self, text: &str) -> Self {
        self.about = Some(text.into());
        self
    }

    /// Its place among its siblings.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Name, kind and what is inside.
    pub fn shape(&self) -> Shape {
        let shape = self.work.shape();
        let shape = if shape.name.is_empty() {
            shape
        } else {
            Shape::new(ShapeKind::Sequence, vec![shape]) // a node in a node
        };
        let about = self.about.as_deref().map(str::to_owned).or(shape.about.clone());
        Shape { about, ..shape.named(&self.name) }
    }

    /// Runs it below `parent`.
    pub(crate) async fn run_in(&self, parent: &Context, input: I) -> Result<O, StepError> {
        let path = self.path_in(parent);
        match self.replay(parent, &path)? {
            Some(output) => Ok(output),
            None => self.attempts(parent, path, input).await,
        }
    }

    /// Where it runs below `parent`.
    pub(crate) fn path_in(&self, parent: &Context) -> Path {
        parent.child_path(&self.name)
    }

    /// The output that an earlier process recorded.
    fn replay(&self, parent: &Context, path: &Path) -> Result<Option<O>, StepError> {
        let live = parent.live();
        let Some(recording) = live.recording.as_ref().filter(|_| self.recorded) else {
            return Ok(None);
        };
        let output = recording.output(path)?;
        if output.is_some() {
            live.emit(path, 1, || Kind::Replayed);
        }
        Ok(output)
    }

    async fn attempts(&self, parent: &Context, mut path: Path, input: I) -> Result<O, StepError> {
        let retry = self.retry.as_ref().or_else(|| parent.retry().filter(|_| self.leaf));
        let allowed = retry.map_or(1, |retry| retry.attempts.max(1));
        let recording = parent.live().recording.as_ref();
        // What earlier processes tried counts, unless the run had come to its end with it.
        let (mut attempt, mut left) = {
            let earlier = recording.map(|r| r.failures(&path)).unwrap_or_default();
            if let Some(error) = earlier.standing(allowed, retry.map(|retry| &**retry)) {
                parent.live().emit(&path, 1, || Kind::Replayed);
                return Err(error);
            }
            (earlier.next_attempt(self.leaf), allowed.saturating_sub(earlier.counted).max(1))
        };
        let mut input = Some(input);
        loop {
            // A step that never waits would otherwise keep the deadline from being noticed.
            tokio::task::coop::consume_budget().await;
            let own = if left > 1 { input.clone() } else { input.take() };
            let own = own.expect("taken by the last attempt only");
            let cx = parent.attempt_at(path, attempt, self.timeout.is_some());
            let error = match self.attempt(&cx, own).await {
                Ok(output) => return Ok(output),
                Err(error) => error.at(cx.path(), attempt),
            };
            left -= 1;
            let Some(retry) = retry.filter(|retry| left > 0 && retry.heals(&error)) else {
                return Err(error);
            };
            // Those since the run began or was taken up again after its end: the waits begin anew, the count goes on.
            let wait = retry.wait(allowed - left, &error, || cx.key());
            cx.emit(Kind::RetryScheduled(wait));
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
            path = cx.path().clone();
            attempt += 1;
        }
    }

    async fn attempt(&self, cx: &Context, input: I) -> Result<O, StepError> {
        let _place = match &self.limit {
            Some(limit) => Some(limit.acquire().await.expect("never closed")),
            None => None,
        };
        // A timer is looked at after the work, which may never wait.
        if cx.live().deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Err(StepError::new(ErrorKind::Deadline));
        }
        let mut running = Running::start(cx, &input);
        // With the end of the work inside: what it cleans up when it is dropped may panic, too.
        let work = AssertUnwindSafe(async {
            let work = pin!(self.checked(cx, input));
            self.in_time(cx, work).await
        });
        let result = work.catch_unwind().await.unwrap_or_else(|panic| {
            Err(StepError::new(ErrorKind::Panicked(panic_message(&*panic))))
        });
        if self.timeout.is_some() {
            cx.alive().gone().await;
        }
        if !self.leaf && !matches!(&result, Err(error) if matches!(error.kind(), ErrorKind::Paused))
        {
            cx.live().withdraw_pauses(cx.path());
        }
        let recording = cx.live().recording.as_ref();
        match result {
            Ok((output, written)) => {
                let (Some(recording), Some(raw)) = (recording, written) else {
                    running.finish(Outcome::Done, Some(Kind::StepDone));
                    return Ok(output);
                };
                let tried = running.stop();
                if let Err(error) = recording.record_output(cx.path(), raw, tried).await {
                    running.fail(&error);
                    return Err(error);
                }
                running.finish(Outcome::Done, None);
                cx.emit(Kind::Recorded);
                cx.emit(Kind::StepDone);
                Ok(output)
            }
            Err(error) if matches!(error.kind(), ErrorKind::Paused) => {
                running.finish(Outcome::Paused, None);
                Err(error)
            }
            Err(error) => {
                let Some(recording) = recording.filter(|_| self.leaf || self.retry.is_some())
                else {
                    running.fail(&error);
                    return Err(error);
                };
                let tried = running.stop();
                running.fail(&error);
                recording.record_failure(cx.path(), &error, tried).await?;
                Err(error)
            }
        }
    }

    /// The output, and its JSON where that is to be recorded.
    async fn checked(&self, cx: &Context, input: I) -> Result<Made<O>, StepError> {
        let output = self.work.run(cx.clone(), input).await?;
        self.checks.iter().try_for_each(|check| check(&output))?;
        let Some(recording) = cx.live().recording.as_ref().filter(|_| self.recorded) else {
            return Ok((output, None));
        };
        Ok(match recording.encode(&output)? {
            // What flows on is what was written: a resumed run sees the same.
            Some((raw, output_as_read)) => (output_as_read, Some(raw)),
            None => (output, None), // volatile
        })
    }

    /// What `work` gives, unless the time of the attempt or of the run is up first.
    async fn in_time<T>(
        &self,
        cx: &Context,
        work: Pin<&mut impl Future<Output = Result<T, StepError>>>,
    ) -> Result<T, StepError> {
        let Some((end, kind)) = self.first_end(cx) else {
            return work.await;
        };
        // In a box: the timer is larger than the rest of a step's future, and most steps have none.
        Box::pin(async move {
            let result = tokio::time::timeout_at(end, work).await;
            result.unwrap_or_else(|_| Err(StepError::new(kind)))
        })
        .await
    }

    fn first_end(&self, cx: &Context) -> Option<(Instant, ErrorKind)> {
        let own = self.timeout.and_then(|limit| {
            let end = Instant::now().checked_add(limit)?; // for ever, where no clock goes that far
            Some((end, ErrorKind::Timeout(limit)))
        });
        let run = cx.live().deadline.map(|deadline| (deadline, ErrorKind::Deadline));
        match (own, run) {
            (Some(own), Some(run)) => Some(if own.0 < run.0 { own } else { run }),
            (own, run) => own.or(run),
        }
    }
}

pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "with a value that is no text".to_owned())
}

impl<I, O> Clone for Node<I, O> {
    fn clone(&self) -> Self {
        Self {
            name: self.name.clone(),
            about: self.about.clone(),
            work: self.work.clone(),
            retry: self.retry.clone(),
            timeout: self.timeout,
            limit: self.limit.clone(),
            checks: self.checks.clone(),
            leaf: self.leaf,
            recorded: self.recorded,
        }
    }
}

impl<I: Data, O: Data> Step<I> for Node<I, O> {
    type Output = O;

    /// Runs it below the node that it is the step of.
    async fn run(&self, cx: Context, input: I) -> Result<O, StepError> {
        self.run_in(&cx, input).await
    }

    fn shape(&self) -> Shape {
        Node::shape(self)
    }
}

/// What stands where a node is wanted: a [`Node`], or a [`Flow`](crate::Flow) under its own name.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a node that takes `{I}`",
    label = "not a node for `{I}`",
    note = "`step(\"name\", function)` makes a node of an async function `(Context, {I}) -> Result<_, StepError>`, and `node(\"name\", ..)` of any other `Step`"
)]
pub trait IntoNode<I: Data> {
    /// What the node gives.
    type Output: Data;

    /// The node.
    fn into_node(self) -> Node<I, Self::Output>;
}

impl<I: Data, O: Data> IntoNode<I> for Node<I, O> {
    type Output = O;

    fn into_node(self) -> Self {
        self
    }
}

/// A step whose type is known by its input and output only.
trait Work<I, O>: Send + Sync {
    fn run(&self, cx: Context, input: I) -> BoxFuture<'_, Result<O, StepError>>;
    fn shape(&self) -> Shape;
}

impl<I: Data, O: Data, S: Step<I, Output = O>> Work<I, O> for S {
    fn run(&self, cx: Context, input: I) -> BoxFuture<'_, Result<O, StepError>> {
        Box::pin(Step::run(self, cx, input))
    }

    fn shape(&self) -> Shape {
        Step::shape(self)
    }
}
