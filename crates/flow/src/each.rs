//! One node, on every item of a list.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::TryFutureExt;

use crate::context::Context;
use crate::data::Data;
use crate::error::{Failure, Settled, StepError};
use crate::node::{IntoNode, Node, node};
use crate::shape::{Shape, ShapeKind};
use crate::step::Step;
use crate::workers::{Alive, work_on};

/// Runs `item` on every item, at most `at_once` (at least one) at the same time, and gives the outputs in the order of
/// the items. The first failure, in time, fails it and cancels the other branches.
///
/// ```
/// use agentflow_flow::{Context, Flow, each, step};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let square = step("square", async |_cx: Context, x: u64| Ok(x * x));
/// let flow = Flow::new("squares").then(each("all", 8, square));
/// assert_eq!(flow.run(vec![1, 2, 3]).await.into_result()?, [1, 4, 9]);
/// # Ok::<(), agentflow_flow::FlowError>(()) }).unwrap();
/// ```
pub fn each<I: Data, N: IntoNode<I>>(
    name: &str,
    at_once: usize,
    item: N,
) -> Node<Vec<I>, Vec<N::Output>> {
    node(name, Each { at_once, item: Arc::new(item.into_node()) })
}

/// Like [`each`], but goes on when a branch fails: its failure is its output. What concerns the whole run (its deadline,
/// its budget, its store) still fails it.
pub fn each_settled<I: Data, N: IntoNode<I>>(
    name: &str,
    at_once: usize,
    item: N,
) -> Node<Vec<I>, Vec<Settled<N::Output>>> {
    node(name, EachSettled { at_once, item: Arc::new(item.into_node()) })
}

/// Runs `item` on all items at once until `k` (at least one) of them are done, cancels the others, and gives the outputs
/// in the order in which they came. It fails when so many branches failed that `k` cannot be reached.
pub fn first_k<I: Data, N: IntoNode<I>>(
    name: &str,
    k: usize,
    item: N,
) -> Node<Vec<I>, Vec<N::Output>> {
    // Which ones came first cannot be found out again, so it is kept.
    node(name, FirstK { k, item: Arc::new(item.into_node().recorded()) }).recorded()
}

/// A failure of `node` becomes a value, for a `switch` to recover from it.
pub fn settled<I: Data, N: IntoNode<I>>(name: &str, inside: N) -> Node<I, Settled<N::Output>> {
    node(name, SettledNode { inside: inside.into_node() })
}

struct Each<I, O> {
    at_once: usize,
    item: Arc<Node<I, O>>,
}

impl<I: Data, O: Data> Step<Vec<I>> for Each<I, O> {
    type Output = Vec<O>;

    async fn run(&self, cx: Context, items: Vec<I>) -> Result<Vec<O>, StepError> {
        let (item, cx) = (self.item.clone(), cx.grouped());
        in_order(cx.alive(), items, self.at_once, move |index, input| {
            let (item, cx) = (item.clone(), cx.numbered(index));
            async move { item.run_in(&cx, input).await }
        })
        .await
    }

    fn shape(&self) -> Shape {
        Shape::new(ShapeKind::Each, vec![self.item.shape()]).detail(at_once(self.at_once))
    }
}

struct EachSettled<I, O> {
    at_once: usize,
    item: Arc<Node<I, O>>,
}

impl<I: Data, O: Data> Step<Vec<I>> for EachSettled<I, O> {
    type Output = Vec<Settled<O>>;

    async fn run(&self, cx: Context, items: Vec<I>) -> Result<Vec<Settled<O>>, StepError> {
        let (item, cx) = (self.item.clone(), cx.grouped());
        in_order(cx.alive(), items, self.at_once, move |index, input| {
            let (item, cx) = (item.clone(), cx.numbered(index));
            async move { settle(&item, &cx, input).await }
        })
        .await
    }

    fn shape(&self) -> Shape {
        Shape::new(ShapeKind::EachSettled, vec![self.item.shape()]).detail(at_once(self.at_once))
    }
}

struct SettledNode<I, O> {
    inside: Node<I, O>,
}

impl<I: Data, O: Data> Step<I> for SettledNode<I, O> {
    type Output = Settled<O>;

    async fn run(&self, cx: Context, input: I) -> Result<Settled<O>, StepError> {
        settle(&self.inside, &cx, input).await
    }

    fn shape(&self) -> Shape {
        Shape::new(ShapeKind::Settled, vec![self.inside.shape()])
    }
}

/// Runs `node` below `cx`. That it failed is recorded there, so that a resumed run does not try its luck again.
async fn settle<I: Data, O: Data>(
    node: &Node<I, O>,
    cx: &Context,
    input: I,
) -> Result<Settled<O>, StepError> {
    let recording = cx.live().recording.as_ref();
    if let Some(failure) = recording.and_then(|recording| recording.settled(cx.path())) {
        return Ok(Err(failure.clone()));
    }
    let failure = match node.run_in(cx, input).await {
        Ok(output) => return Ok(Ok(output)),
        Err(error) if error.kind().is_of_the_run() => return Err(error),
        Err(error) => Failure::new(error, cx.path()),
    };
    if let Some(recording) = recording {
        recording.record_settled(cx.path(), failure.clone()).await?;
    }
    Ok(Err(failure))
}

struct FirstK<I, O> {
    k: usize,
    item: Arc<Node<I, O>>,
}

impl<I: Data, O: Data> Step<Vec<I>> for FirstK<I, O> {
    type Output = Vec<O>;

    async fn run(&self, cx: Context, items: Vec<I>) -> Result<Vec<O>, StepError> {
        let k = self.k.max(1);
        if k > items.len() {
            let items = items.len();
            return Err(StepError::fatal(format!(
                "it waits for {k} branches, and has {items} items"
            )));
        }
        let may_fail = items.len() - k;
        let mut outputs = Vec::with_capacity(k);
        let mut items: Vec<(usize, I)> = items.into_iter().enumerate().collect();
        if let Some(recording) = &cx.live().recording {
            // Those that had come when an earlier process was stopped come in the same order again.
            let position = |index| recording.position(&self.item.path_in(&cx.numbered(index)));
            items.sort_by_cached_key(|(index, _)| position(*index).unwrap_or(usize::MAX));
            let come = items.iter().take_while(|(index, _)| position(*index).is_some()).count();
            for (index, input) in items.drain(..come.min(k)) {
                outputs.push(self.item.run_in(&cx.numbered(index), input).await?);
            }
            if outputs.len() == k {
                return Ok(outputs);
            }
        }
        let all = items.len();
        let (item, come) = (self.item.clone(), Arc::new(Mutex::new((outputs, 0))));
        let came = come.clone();
        let cx = cx.grouped();
        work_on(cx.alive(), items, all, move |_, (index, input)| {
            let (item, cx, came) = (item.clone(), cx.numbered(index), came.clone());
            async move {
                let result = item.run_in(&cx, input).await;
                let (outputs, failures) = &mut *lock(&came);
                match result {
                    Ok(output) if outputs.len() < k => outputs.push(output),
                    Ok(_) => {}
                    Err(error) if error.kind().is_of_the_run() => return Err(error),
                    Err(error) if *failures == may_fail => return Err(error),
                    Err(_) => *failures += 1,
                }
                Ok(if outputs.len() == k {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                })
            }
        })
        .await?;
        let outputs = std::mem::take(&mut lock(&come).0);
        Ok(outputs)
    }

    fn shape(&self) -> Shape {
        Shape::new(ShapeKind::FirstK, vec![self.item.shape()])
            .detail(format!("the first {}", self.k.max(1)))
    }
}

/// For graphs.
fn at_once(limit: usize) -> String {
    if limit == usize::MAX { "all at once".to_owned() } else { format!("{} at once", limit.max(1)) }
}

/// What `work` makes of the items, in their order.
async fn in_order<I, O, W, R>(
    branches: Arc<Alive>,
    items: Vec<I>,
    at_once: usize,
    work: W,
) -> Result<Vec<O>, StepError>
where
    I: Data,
    O: Send + 'static,
    W: Fn(usize, I) -> R + Clone + Send + 'static,
    R: Future<Output = Result<O, StepError>> + Send + 'static,
{
    let outputs: Vec<Option<O>> = items.iter().map(|_| None).collect();
    let outputs = Arc::new(Mutex::new(outputs));
    let done = outputs.clone();
    work_on(branches, items, at_once, move |index, input| {
        let outputs = done.clone();
        // Not an async block, which would have room for the work twice: there may be many branches.
        work(index, input).map_ok(move |output| {
            lock(&outputs)[index] = Some(output);
            ControlFlow::Continue(())
        })
    })
    .await?;
    let outputs = std::mem::take(&mut *lock(&outputs));
    Ok(outputs.into_iter().map(|output| output.expect("every branch is done")).collect())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
