//! Branches that run at once, as tasks that none outlives.

use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use tokio::sync::Notify;
use tokio::task::{JoinError, JoinSet};

use crate::error::{ErrorKind, StepError};

/// Does `work` on all items, at most `at_once` (at least one) of them at the same time, in tasks of the runtime.
///
/// The first failure ends it, and a `Break` ends it well: the other branches are cancelled, and gone when this returns.
/// A branch that waits for an answer does not stop the others.
pub(crate) async fn work_on<T, W, R>(
    branches: Arc<Alive>,
    items: Vec<T>,
    at_once: usize,
    work: W,
) -> Result<(), StepError>
where
    T: Send + 'static,
    W: Fn(usize, T) -> R + Clone + Send + 'static,
    R: Future<Output = Result<ControlFlow<()>, StepError>> + Send + 'static,
{
    let workers = at_once.clamp(1, items.len().max(1));
    let queue = Arc::new(Mutex::new(items.into_iter().enumerate()));
    let worker = move || {
        let (queue, work) = (queue.clone(), work.clone());
        async move {
            let mut paused = None;
            loop {
                let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some((index, item)) = next else { break };
                match work(index, item).await {
                    Ok(ControlFlow::Continue(())) => {}
                    Err(error) if matches!(error.kind(), ErrorKind::Paused) => paused = Some(error),
                    end => return end,
                }
            }
            paused.map_or(Ok(ControlFlow::Continue(())), Err)
        }
    };
    if workers == 1 {
        return worker().await.map(|_| ());
    }
    let mut tasks = JoinSet::new();
    for _ in 0..workers {
        let one = branches.one_more();
        tasks.spawn(worker().map(|end| {
            drop(one);
            end
        }));
    }
    join(&branches, tasks, |end| end).await
}

/// Waits for all branches, or for the first that fails or breaks; the others are cancelled, and gone when this returns.
pub(crate) async fn join<T: 'static>(
    branches: &Alive,
    mut tasks: JoinSet<Result<T, StepError>>,
    mut take: impl FnMut(T) -> ControlFlow<()>,
) -> Result<(), StepError> {
    let mut paused = None;
    while let Some(joined) = tasks.join_next().await {
        let end = match joined {
            Ok(Ok(output)) => match take(output) {
                ControlFlow::Continue(()) => continue,
                ControlFlow::Break(()) => Ok(Ok(())),
            },
            Ok(Err(error)) if matches!(error.kind(), ErrorKind::Paused) => {
                paused = Some(error);
                continue;
            }
            Ok(Err(error)) => Ok(Err(error)),
            Err(error) => Err(error),
        };
        tasks.shutdown().await;
        // And those of groups inside them, which are dropped with them.
        branches.gone().await;
        return end.unwrap_or_else(|error| Err(lost(error)));
    }
    paused.map_or(Ok(()), Err)
}

/// A task that did not come to its end: the runtime shuts down, or something outside of every node panicked.
fn lost(error: JoinError) -> StepError {
    match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => StepError::new(ErrorKind::Cancelled),
    }
}

/// How many branches of a run, or of an attempt with a timeout, have not gone yet.
///
/// A group that ends waits for its branches. One that is dropped when the time is up cannot; whoever drops it waits here
/// instead, so that nothing of an attempt is left when the next one begins, and a report has all there is to report.
#[derive(Default)]
pub(crate) struct Alive {
    count: AtomicUsize,
    none: Notify,
    /// They are branches of this, too.
    around: Option<Arc<Alive>>,
}

impl Alive {
    pub(crate) fn within(around: Arc<Alive>) -> Arc<Self> {
        Arc::new(Self { around: Some(around), ..Self::default() })
    }

    /// One more, until what this gives is dropped.
    pub(crate) fn one_more(self: &Arc<Self>) -> One {
        self.and_around().for_each(|alive| _ = alive.count.fetch_add(1, Ordering::Relaxed));
        One(self.clone())
    }

    pub(crate) fn any(&self) -> bool {
        self.count.load(Ordering::SeqCst) > 0
    }

    /// Waits until there are none.
    pub(crate) async fn gone(&self) {
        let mut none = pin!(self.none.notified());
        loop {
            // Before the look at the count: whoever changes it after it wakes us.
            none.as_mut().enable();
            if self.count.load(Ordering::SeqCst) == 0 {
                return;
            }
            none.as_mut().await;
            none.set(self.none.notified());
        }
    }

    fn and_around(&self) -> impl Iterator<Item = &Alive> {
        std::iter::successors(Some(self), |alive| alive.around.as_deref())
    }
}

/// A branch that is counted.
pub(crate) struct One(Arc<Alive>);

impl Drop for One {
    fn drop(&mut self) {
        for alive in self.0.and_around() {
            if alive.count.fetch_sub(1, Ordering::SeqCst) == 1 {
                alive.none.notify_waiters();
            }
        }
    }
}
