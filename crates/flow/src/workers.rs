//! Branches that run at once, as tasks that none outlives.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::{JoinError, JoinSet};

use crate::error::{ErrorKind, StepError};

/// Does `work` on all items, at most `at_once` (at least one) of them at the same time, in tasks of the runtime.
///
/// The first failure ends it, and a `Break` ends it well: the other branches are cancelled, and gone when this returns.
/// A branch that waits for an answer does not stop the others.
pub(crate) async fn work_on<T, W, R>(
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
        tasks.spawn(worker());
    }
    join(tasks, |_| ControlFlow::Continue(())).await
}

/// Waits for all branches, or for the first that fails or breaks; the others are cancelled, and gone when this returns.
pub(crate) async fn join<T: 'static>(
    mut tasks: JoinSet<Result<T, StepError>>,
    mut take: impl FnMut(T) -> ControlFlow<()>,
) -> Result<(), StepError> {
    let mut paused = None;
    while let Some(joined) = tasks.join_next().await {
        let end = match joined.unwrap_or_else(|error| Err(lost(error))) {
            Ok(output) => match take(output) {
                ControlFlow::Continue(()) => continue,
                ControlFlow::Break(()) => Ok(()),
            },
            Err(error) if matches!(error.kind(), ErrorKind::Paused) => {
                paused = Some(error);
                continue;
            }
            Err(error) => Err(error),
        };
        tasks.shutdown().await;
        return end;
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
