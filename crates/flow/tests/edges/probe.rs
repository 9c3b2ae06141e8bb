//! What the tests look with.

use std::collections::BTreeSet;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use agentflow_flow::{Context, Event, Kind, Node, Report, Run, RunId, step};
use futures::StreamExt;

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// Runs it, and gives the report with all events.
pub(crate) async fn watched<O: agentflow_flow::Data>(run: Run<O>) -> (Report<O>, Vec<Event>) {
    let (events, report) = run.events(100_000);
    tokio::join!(report, events.collect())
}

/// Attempts that were started and not closed, or closed twice.
pub(crate) fn unbalanced(events: &[Event]) -> BTreeSet<String> {
    let mut open = BTreeSet::new();
    let mut wrong = BTreeSet::new();
    for event in events {
        let attempt = format!("{}#{}", event.path, event.attempt);
        let fits = match event.kind {
            Kind::StepStarted => open.insert(attempt.clone()),
            Kind::StepDone | Kind::StepFailed { .. } | Kind::StepCancelled => open.remove(&attempt),
            _ => true,
        };
        if !fits {
            wrong.insert(attempt);
        }
    }
    wrong.append(&mut open);
    wrong
}

/// How many are alive, and were at most.
#[derive(Clone, Default)]
pub(crate) struct Alive(Arc<(AtomicUsize, AtomicUsize)>);

pub(crate) struct One(Alive);

impl Alive {
    pub(crate) fn enter(&self) -> One {
        let now = self.0.0.fetch_add(1, SeqCst) + 1;
        self.0.1.fetch_max(now, SeqCst);
        One(self.clone())
    }

    pub(crate) fn now(&self) -> usize {
        self.0.0.load(SeqCst)
    }

    pub(crate) fn most(&self) -> usize {
        self.0.1.load(SeqCst)
    }
}

impl Drop for One {
    fn drop(&mut self) {
        self.0.0.0.fetch_sub(1, SeqCst);
    }
}

/// A step that never ends.
pub(crate) fn stuck(name: &str, alive: &Alive) -> Node<u32, u32> {
    let alive = alive.clone();
    step(name, move |_cx: Context, _: u32| {
        let one = alive.enter();
        async move {
            let _one = one;
            pending().await
        }
    })
}

pub(crate) fn id(name: &str) -> RunId {
    RunId::new(name).unwrap()
}
