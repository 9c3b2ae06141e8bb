//! The same node again and again, until it says that it is done.

use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::data::Data;
use crate::error::{ErrorKind, StepError};
use crate::node::{IntoNode, Node, node};
use crate::shape::{Shape, ShapeKind};
use crate::step::Step;

/// What a hop of a [`repeat`] comes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Next<S, O> {
    /// Another hop, on this.
    Again(S),
    /// The loop is over.
    Done(O),
}

/// Runs `body` on its own output until it is [`Next::Done`], at most `max_hops` times. More than that is
/// [`ErrorKind::Hops`]; [`repeat_or`] makes a value of it.
///
/// ```
/// use agentflow_flow::{Context, Flow, Next, repeat, step};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let halve = step("halve", async |_cx: Context, x: u32| {
///     Ok(if x % 2 == 0 { Next::Again(x / 2) } else { Next::Done(x) })
/// });
/// let flow = Flow::new("odd part").then(repeat("halves", 32, halve));
/// assert_eq!(flow.run(88).await.into_result()?, 11);
/// # Ok::<(), agentflow_flow::FlowError>(()) }).unwrap();
/// ```
pub fn repeat<S, O, B>(name: &str, max_hops: u32, body: B) -> Node<S, O>
where
    S: Data,
    O: Data,
    B: IntoNode<S, Output = Next<S, O>>,
{
    let exhausted = move |_| Err(StepError::new(ErrorKind::Hops(max_hops)));
    node(name, Repeat { max_hops, body: body.into_node(), exhausted })
}

/// Like [`repeat`]; when the hops are used up, `exhausted` makes the output of the last state.
pub fn repeat_or<S, O, B>(
    name: &str,
    max_hops: u32,
    body: B,
    exhausted: impl Fn(S) -> O + Send + Sync + 'static,
) -> Node<S, O>
where
    S: Data,
    O: Data,
    B: IntoNode<S, Output = Next<S, O>>,
{
    node(
        name,
        Repeat { max_hops, body: body.into_node(), exhausted: move |state| Ok(exhausted(state)) },
    )
}

struct Repeat<S, O, F> {
    max_hops: u32,
    body: Node<S, Next<S, O>>,
    exhausted: F,
}

impl<S, O, F> Step<S> for Repeat<S, O, F>
where
    S: Data,
    O: Data,
    F: Fn(S) -> Result<O, StepError> + Send + Sync + 'static,
{
    type Output = O;

    async fn run(&self, cx: Context, mut state: S) -> Result<O, StepError> {
        for hop in 0..self.max_hops {
            match self.body.run_in(&cx.numbered(hop as usize), state).await? {
                Next::Again(next) => state = next,
                Next::Done(output) => return Ok(output),
            }
        }
        (self.exhausted)(state)
    }

    fn shape(&self) -> Shape {
        Shape::new(ShapeKind::Repeat, vec![self.body.shape()])
            .detail(format!("at most {} hops", self.max_hops))
    }
}
