//! A flow over a stream of inputs, and what belongs together in a stream.

use std::collections::HashMap;
use std::hash::Hash;
use std::pin::pin;
use std::time::Duration;

use futures::{Stream, StreamExt};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::data::Data;
use crate::flow::Flow;
use crate::report::Report;
use crate::run::Run;

impl<I: Data, O: Data> Flow<I, O> {
    /// Runs the flow on every input, at most `in_flight` (at least one) at the same time, and gives index and report of
    /// each as it ends. An input is pulled only when there is room for it, so a slow consumer slows the source and nothing
    /// piles up. Dropping the stream cancels what runs.
    pub fn pipe<S>(
        &self,
        inputs: S,
        in_flight: usize,
    ) -> impl Stream<Item = (usize, Report<O>)> + Send + use<I, O, S>
    where
        S: Stream<Item = I> + Send + 'static,
    {
        self.pipe_with(inputs, in_flight, |_, run| run)
    }

    /// The same; `options` gives each run its options, knowing its index.
    pub fn pipe_with<S, F>(
        &self,
        inputs: S,
        in_flight: usize,
        options: F,
    ) -> impl Stream<Item = (usize, Report<O>)> + Send + use<I, O, S, F>
    where
        S: Stream<Item = I> + Send + 'static,
        F: Fn(usize, Run<O>) -> Run<O> + Send + 'static,
    {
        let flow = self.clone();
        inputs
            .enumerate()
            .map(move |(index, input)| {
                let mut run = Spawned(tokio::spawn(options(index, flow.run(input)).into_future()));
                async move {
                    let report = (&mut run.0).await;
                    (
                        index,
                        report.expect("a run ends in a report, and is aborted only when dropped"),
                    )
                }
            })
            .buffer_unordered(in_flight.max(1))
    }
}

/// A task that ends when nobody waits for it any more.
struct Spawned<T>(JoinHandle<T>);

impl<T> Drop for Spawned<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What [`gather`] gives for a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gathered<K, T> {
    /// All that were waited for, in the order in which they came.
    Complete(K, Vec<T>),
    /// The time was up, or the stream at its end, before all had come.
    Incomplete(K, Vec<T>),
}

/// Puts together what belongs together in a stream: `k` (at least one) items of the same key. A key that is not complete
/// within `wait` of its first item, or when the stream ends, is given as it is: nothing stays behind.
pub fn gather<T, K, S>(
    items: S,
    key: impl Fn(&T) -> K + Send + 'static,
    k: usize,
    wait: Duration,
) -> impl Stream<Item = Gathered<K, T>> + Send
where
    S: Stream<Item = T> + Send + 'static,
    T: Send + 'static,
    K: Hash + Eq + Clone + Send + 'static,
{
    let open: Open<K, T> = Open { groups: HashMap::new(), ended: false };
    futures::stream::unfold(
        (Box::pin(items), key, open),
        move |(mut items, key, mut open)| async move {
            loop {
                let first_end = open.first_end();
                if open.ended {
                    let (wanted, _) = first_end?;
                    let (_, got) = open.groups.remove(&wanted)?;
                    return Some((Gathered::Incomplete(wanted, got), (items, key, open)));
                }
                let end = first_end.as_ref().map(|(_, end)| *end);
                let time_up = async move {
                    match end {
                        Some(end) => tokio::time::sleep_until(end).await,
                        None => std::future::pending().await,
                    }
                };
                let next = {
                    let mut time_up = pin!(time_up);
                    tokio::select! {
                        biased;
                        item = items.next() => Some(item),
                        () = &mut time_up => None,
                    }
                };
                match next {
                    None => {
                        let (wanted, _) = first_end?;
                        let (_, got) = open.groups.remove(&wanted)?;
                        return Some((Gathered::Incomplete(wanted, got), (items, key, open)));
                    }
                    Some(None) => open.ended = true,
                    Some(Some(item)) => {
                        let wanted = key(&item);
                        let end = Instant::now() + wait;
                        let (_, got) =
                            open.groups.entry(wanted.clone()).or_insert((end, Vec::new()));
                        got.push(item);
                        if got.len() >= k.max(1) {
                            let (_, got) = open.groups.remove(&wanted)?;
                            return Some((Gathered::Complete(wanted, got), (items, key, open)));
                        }
                    }
                }
            }
        },
    )
}

/// Keys that are not complete, with the time at which they are given up.
struct Open<K, T> {
    groups: HashMap<K, (Instant, Vec<T>)>,
    ended: bool,
}

impl<K: Hash + Eq + Clone, T> Open<K, T> {
    fn first_end(&self) -> Option<(K, Instant)> {
        let first = self.groups.iter().min_by_key(|(_, (end, _))| *end)?;
        Some((first.0.clone(), first.1.0))
    }
}
