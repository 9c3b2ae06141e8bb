//! What the tests look with: what was said in which order, how many were at it at once, what a run told.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agentflow_flow::{Context, Data, Event, Node, Report, Run, StepError, step};
use futures::StreamExt;
use tokio::time::sleep;

/// Words in the order in which they were said, whoever said them.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub(crate) fn say(&self, word: impl Into<String>) {
        self.0.lock().unwrap().push(word.into());
    }

    /// Says it when the guard is dropped: at the end of an attempt, also of a cancelled one.
    pub(crate) fn at_end(&self, word: impl Into<String>) -> AtEnd {
        AtEnd(self.clone(), word.into())
    }

    pub(crate) fn words(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn len(&self) -> usize {
        self.words().len()
    }
}

pub(crate) struct AtEnd(Log, String);

impl Drop for AtEnd {
    fn drop(&mut self) {
        self.0.say(std::mem::take(&mut self.1));
    }
}

/// How many are inside at this moment, and how many were at most.
#[derive(Clone, Default)]
pub(crate) struct Gauge(Arc<(AtomicUsize, AtomicUsize)>);

impl Gauge {
    pub(crate) fn enter(&self) -> Inside {
        let now = self.0.0.fetch_add(1, SeqCst) + 1;
        self.0.1.fetch_max(now, SeqCst);
        Inside(self.clone())
    }

    pub(crate) fn now(&self) -> usize {
        self.0.0.load(SeqCst)
    }

    pub(crate) fn most(&self) -> usize {
        self.0.1.load(SeqCst)
    }
}

pub(crate) struct Inside(Gauge);

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.0.0.fetch_sub(1, SeqCst);
    }
}

/// A step whose attempts have a handle of `shared`.
pub(crate) fn with<S, I, O, F, R>(shared: &S, name: &str, work: F) -> Node<I, O>
where
    S: Clone + Send + Sync + 'static,
    I: Data,
    O: Data,
    F: Fn(S, Context, I) -> R + Send + Sync + 'static,
    R: Future<Output = Result<O, StepError>> + Send + 'static,
{
    let shared = shared.clone();
    step(name, move |cx, input| work(shared.clone(), cx, input))
}

/// A step that gives its input on.
pub(crate) fn pass<I: Data>(name: &str) -> Node<I, I> {
    step(name, async |_cx: Context, input: I| Ok(input))
}

/// A step that takes so many seconds, and gives its input on.
pub(crate) fn nap<I: Data>(name: &str, seconds: u64) -> Node<I, I> {
    step(name, move |_cx: Context, input: I| async move {
        sleep(secs(seconds)).await;
        Ok(input)
    })
}

/// A step that fails after so many seconds, each time.
pub(crate) fn fails<I: Data>(name: &str, seconds: u64) -> Node<I, I> {
    let error = format!("{name} is broken");
    step(name, move |_cx: Context, _: I| {
        let error = error.clone();
        async move {
            sleep(secs(seconds)).await;
            Err(StepError::failed(error))
        }
    })
}

pub(crate) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The report of a run and all that it told.
pub(crate) async fn watched<O: Data>(run: Run<O>) -> (Report<O>, Vec<Event>) {
    let (events, report) = run.events(4096);
    let report = report.await;
    (report, events.collect().await)
}

/// The paths of all attempts, in the order in which they ended.
pub(crate) fn paths<O>(report: &Report<O>) -> Vec<String> {
    report.trace.iter().map(|attempt| attempt.path.to_string()).collect()
}
