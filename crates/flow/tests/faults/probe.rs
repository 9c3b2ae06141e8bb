//! What the tests look with.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use agentflow_flow::{Context, Data, Event, Node, Report, Run, RunId, StepError, step};
use futures::StreamExt;
use tokio::time::sleep;

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// Counts what happened; clones count together.
#[derive(Clone, Default)]
pub(crate) struct Count(Arc<AtomicUsize>);

impl Count {
    pub(crate) fn up(&self) -> usize {
        self.0.fetch_add(1, SeqCst) + 1
    }

    pub(crate) fn get(&self) -> usize {
        self.0.load(SeqCst)
    }

    /// Counts one more for as long as the guard lives.
    pub(crate) fn alive(&self) -> Alive {
        self.up();
        Alive(self.clone())
    }
}

pub(crate) struct Alive(Count);

impl Clone for Alive {
    fn clone(&self) -> Self {
        self.0.alive()
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, SeqCst);
    }
}

pub(crate) fn pass<I: Data>(name: &str) -> Node<I, I> {
    step(name, async |_cx: Context, input: I| Ok(input))
}

/// Takes so many milliseconds, and gives its input on.
pub(crate) fn nap<I: Data>(name: &str, millis: u64) -> Node<I, I> {
    step(name, move |_cx: Context, input: I| async move {
        sleep(Duration::from_millis(millis)).await;
        Ok(input)
    })
}

/// Fails for good after so many milliseconds.
pub(crate) fn fails<I: Data>(name: &str, millis: u64) -> Node<I, I> {
    let error = format!("{name} is broken");
    step(name, move |_cx: Context, _: I| {
        let error = error.clone();
        async move {
            sleep(Duration::from_millis(millis)).await;
            Err(StepError::fatal(error))
        }
    })
}

/// Counts its calls, and gives its input on.
pub(crate) fn counted<I: Data>(name: &str, calls: &Count) -> Node<I, I> {
    let calls = calls.clone();
    step(name, move |_cx: Context, input: I| {
        calls.up();
        async move { Ok(input) }
    })
}

/// Runs it, and gives the report with all events.
pub(crate) async fn watched<O: Data>(run: Run<O>) -> (Report<O>, Vec<Event>) {
    let (events, report) = run.events(100_000);
    tokio::join!(report, events.collect())
}

/// Fails, where it would otherwise hang.
pub(crate) async fn in_an_hour<F: IntoFuture>(work: F) -> F::Output {
    let hour = Duration::from_secs(3600);
    tokio::time::timeout(hour, work.into_future()).await.expect("it hangs")
}

pub(crate) fn id(name: &str) -> RunId {
    RunId::new(name).unwrap()
}
