//! A flow over a stream of inputs, and what belongs together in a stream.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
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
        let flow = self.clone();
        runs(inputs, in_flight, move |_, input| flow.run(input))
    }

    /// The same; `options` gives each run its options, knowing its index and its input.
    pub fn pipe_with<S, F>(
        &self,
        inputs: S,
        in_flight: usize,
        options: F,
    ) -> impl Stream<Item = (usize, Report<O>)> + Send + use<I, O, S, F>
    where
        S: Stream<Item = I> + Send + 'static,
        F: Fn(usize, &I, Run<O>) -> Run<O> + Send + 'static,
    {
        let flow = self.clone();
        runs(inputs, in_flight, move |index, input| options(index, &input, flow.run(input.clone())))
    }
}

fn runs<S: Stream, O: Data>(
    inputs: S,
    in_flight: usize,
    begin: impl Fn(usize, S::Item) -> Run<O>,
) -> impl Stream<Item = (usize, Report<O>)> {
    inputs
        .enumerate()
        .map(move |(index, input)| {
            let mut run = Spawned(tokio::spawn(begin(index, input).into_future()));
            async move {
                let report = (&mut run.0).await;
                (index, report.expect("a run ends in a report, and is aborted only when dropped"))
            }
        })
        .buffer_unordered(in_flight.max(1))
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
    let open = Open { groups: HashMap::new(), turns: BTreeMap::new(), begun: 0, ended: false };
    futures::stream::unfold(
        (Box::pin(items), key, open),
        move |(mut items, key, mut open)| async move {
            loop {
                let next = match open.ended {
                    true => None,
                    false => before(open.first_end(), items.next()).await,
                };
                let gathered = match next {
                    None => Some(open.give_up()?),
                    Some(None) => {
                        open.ended = true;
                        None
                    }
                    Some(Some(item)) => open.add(key(&item), item, k, wait),
                };
                if let Some(gathered) = gathered {
                    return Some((gathered, (items, key, open)));
                }
            }
        },
    )
}

/// The output of `work`, if it has one before `end`.
async fn before<T>(end: Option<Instant>, work: impl Future<Output = T>) -> Option<T> {
    match end {
        // A timer is looked at after the work: where that is always ready, the end would never come.
        Some(end) if end <= Instant::now() => None,
        Some(end) => tokio::time::timeout_at(end, work).await.ok(),
        None => Some(work.await),
    }
}

/// Keys that are not complete. All are waited for as long, so they are given up in the order in which they began.
struct Open<K, T> {
    groups: HashMap<K, (u64, Vec<T>)>,
    /// Where there is no end, the wait is longer than the clock goes.
    turns: BTreeMap<u64, (K, Option<Instant>)>,
    begun: u64,
    ended: bool,
}

impl<K: Hash + Eq + Clone, T> Open<K, T> {
    fn first_end(&self) -> Option<Instant> {
        self.turns.first_key_value().and_then(|(_, (_, end))| *end)
    }

    /// Adds an item; its group, if that is complete now.
    fn add(&mut self, key: K, item: T, k: usize, wait: Duration) -> Option<Gathered<K, T>> {
        let (turn, items) = self.groups.entry(key.clone()).or_insert_with(|| {
            self.begun += 1;
            self.turns.insert(self.begun, (key.clone(), Instant::now().checked_add(wait)));
            (self.begun, Vec::new())
        });
        items.push(item);
        if items.len() < k {
            return None;
        }
        self.turns.remove(turn);
        let (_, items) = self.groups.remove(&key)?;
        Some(Gathered::Complete(key, items))
    }

    /// The group that began first, as it is.
    fn give_up(&mut self) -> Option<Gathered<K, T>> {
        let (_, (key, _)) = self.turns.pop_first()?;
        let (_, items) = self.groups.remove(&key)?;
        Some(Gathered::Incomplete(key, items))
    }
}
