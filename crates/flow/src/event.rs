//! What happens in a run, as it happens: one type for live streams, observers and logs.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::{Duration, SystemTime};

use futures::Stream;
use serde::Serialize;

use crate::id::RunId;
use crate::path::Path;
use crate::store::Ending;

/// Something that happened.
#[derive(Debug, Clone, Serialize)]
pub struct Event {
    /// Counted from 0 in each run (and in each resume of it). A gap is what a [`Kind::Lagged`] counts.
    pub seq: u64,
    /// The run that it happened in.
    pub run: RunId,
    /// Of the node it happened to; the run's own events carry the name of the flow.
    pub path: Path,
    /// Counted from 1, across resumes.
    pub attempt: u32,
    /// By the clock that timeouts run on.
    pub at: SystemTime,
    /// What happened.
    pub kind: Kind,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Kind {
    /// The first event.
    RunStarted,
    /// An attempt begins.
    StepStarted,
    /// The output is there, and durable where the run has a store.
    StepDone,
    /// An attempt failed; a [`Kind::RetryScheduled`] follows if there is another.
    StepFailed { error: String },
    /// The attempt was dropped: a sibling failed, a timeout struck above it, the run was dropped.
    StepCancelled,
    /// The next attempt starts after this time.
    RetryScheduled(Duration),
    /// A `switch` chose the arm of this label.
    Routed(String),
    /// What a step told through [`Context::progress`](crate::Context::progress).
    Progress(serde_json::Value),
    /// A human is asked this.
    Asked(serde_json::Value),
    /// The human answered.
    Answered,
    /// The output is in the journal.
    Recorded,
    /// The step did not run: its output was in the journal, or the failure after which it is not tried again.
    Replayed,
    /// The reader was too slow: this many events before this one were dropped for it.
    Lagged(u64),
    /// The last event.
    RunEnded(Ending),
}

/// The live events of a run: a [`Stream`] that ends with the run.
///
/// It holds as many events as was asked for. A reader that falls further behind loses the oldest and is told how many by
/// a [`Kind::Lagged`]; the run never waits for it, and the trace in the report is whole all the same.
pub struct Events(Arc<Ring>);

impl Events {
    /// The next event; `None` when the run is over.
    pub async fn next(&mut self) -> Option<Event> {
        std::future::poll_fn(|cx| self.0.poll(cx)).await
    }
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Event>> {
        self.0.poll(cx)
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.0.lock().abandoned = true;
    }
}

/// A bounded queue with one reader, whose writer never waits.
pub(crate) struct Ring {
    capacity: usize,
    state: Mutex<RingState>,
}

#[derive(Default)]
struct RingState {
    queue: VecDeque<Event>,
    lagged: u64,
    closed: bool,
    /// Nobody reads any more.
    abandoned: bool,
    waker: Option<Waker>,
}

impl Ring {
    pub(crate) fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self { capacity: capacity.max(1), state: Mutex::default() })
    }

    pub(crate) fn events(self: &Arc<Self>) -> Events {
        Events(self.clone())
    }

    pub(crate) fn push(&self, event: Event) {
        let mut state = self.lock();
        if state.abandoned {
            return;
        }
        if state.queue.len() == self.capacity {
            state.queue.pop_front();
            state.lagged += 1;
        }
        state.queue.push_back(event);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn poll(&self, cx: &mut TaskContext<'_>) -> Poll<Option<Event>> {
        let mut state = self.lock();
        let lagged = std::mem::take(&mut state.lagged);
        if lagged > 0 {
            let next = state.queue.front().expect("events are dropped only when newer ones came");
            let kind = Kind::Lagged(lagged);
            return Poll::Ready(Some(Event { kind, ..next.clone() }));
        }
        if let Some(event) = state.queue.pop_front() {
            return Poll::Ready(Some(event));
        }
        if state.closed {
            return Poll::Ready(None);
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn lock(&self) -> MutexGuard<'_, RingState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
