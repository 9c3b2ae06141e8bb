//! Different branches on the same input, at once.

use std::ops::ControlFlow;
use std::sync::Arc;

use tokio::task::JoinSet;

use crate::context::Context;
use crate::data::Data;
use crate::error::StepError;
use crate::flow::{Erased, Value};
use crate::node::{IntoNode, Node, node};
use crate::shape::{Shape, ShapeKind};
use crate::step::Step;
use crate::workers::join;

use sealed::{Nodes, Outputs};

/// Runs all branches at once, each on its own copy of the input, and gives a tuple of their outputs.
///
/// The first branch that fails, in time, fails the group: the others are cancelled, and have ended when it returns.
///
/// ```
/// use agentflow_flow::{Context, Flow, all, step};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let flow = Flow::new("measure").then(all("both", (
///     step("letters", async |_cx: Context, text: String| Ok(text.len())),
///     step("words", async |_cx: Context, text: String| Ok(text.split(' ').count())),
/// )));
/// assert_eq!(flow.run("two words".to_owned()).await.into_result()?, (9, 2));
/// # Ok::<(), agentflow_flow::FlowError>(()) }).unwrap();
/// ```
pub fn all<I: Data, B: Branches<I>>(name: &str, branches: B) -> Node<I, B::Output> {
    node(name, All { branches: branches.into_nodes().0, gather: B::gather })
}

/// Up to twelve nodes that take the same input: what [`all`] takes.
pub trait Branches<I: Data>: sealed::Branches<I> {}

impl<I: Data, B: sealed::Branches<I>> Branches<I> for B {}

mod sealed {
    use super::{Arc, Data, Erased, Value};

    /// The branches, in the order of the tuple.
    pub struct Nodes(pub(super) Vec<Arc<dyn Erased>>);

    /// Their outputs, in the same order.
    pub struct Outputs(pub(super) std::vec::IntoIter<Value>);

    impl Outputs {
        pub(super) fn next<O: 'static>(&mut self) -> O {
            let output = self.0.next().expect("one output per branch");
            *output.downcast().expect("outputs are in the order of the branches")
        }
    }

    pub trait Branches<I: Data> {
        type Output: Data;

        fn into_nodes(self) -> Nodes;

        fn gather(outputs: Outputs) -> Self::Output;
    }
}

macro_rules! branches {
    ($($branch:ident)+) => {
        impl<I: Data, $($branch: IntoNode<I>),+> sealed::Branches<I> for ($($branch,)+) {
            type Output = ($($branch::Output,)+);

            #[expect(non_snake_case, reason = "a branch is named by its type")]
            fn into_nodes(self) -> Nodes {
                let ($($branch,)+) = self;
                Nodes(vec![$(Arc::new($branch.into_node())),+])
            }

            fn gather(mut outputs: Outputs) -> Self::Output {
                ($(outputs.next::<$branch::Output>(),)+)
            }
        }
    };
}

branches!(A);
branches!(A B);
branches!(A B C);
branches!(A B C D);
branches!(A B C D E);
branches!(A B C D E F);
branches!(A B C D E F G);
branches!(A B C D E F G H);
branches!(A B C D E F G H J);
branches!(A B C D E F G H J K);
branches!(A B C D E F G H J K L);
branches!(A B C D E F G H J K L M);

struct All<O> {
    branches: Vec<Arc<dyn Erased>>,
    gather: fn(Outputs) -> O,
}

impl<I: Data, O: Data> Step<I> for All<O> {
    type Output = O;

    async fn run(&self, cx: Context, input: I) -> Result<O, StepError> {
        let cx = cx.grouped();
        let (mut tasks, alive) = (JoinSet::new(), cx.alive());
        for (index, branch) in self.branches.iter().enumerate() {
            let (branch, cx, input) = (branch.clone(), cx.clone(), Box::new(input.clone()));
            let one = alive.one_more();
            tasks.spawn(async move {
                let _one = one;
                Ok((index, branch.run(&cx, input).await?))
            });
        }
        let mut outputs: Vec<Option<Value>> = self.branches.iter().map(|_| None).collect();
        join(&alive, tasks, |(index, output)| {
            outputs[index] = Some(output);
            ControlFlow::Continue(())
        })
        .await?;
        let outputs = outputs.into_iter().map(|output| output.expect("every branch is done"));
        Ok((self.gather)(Outputs(outputs.collect::<Vec<_>>().into_iter())))
    }

    fn shape(&self) -> Shape {
        let children = self.branches.iter().map(|branch| branch.shape()).collect();
        Shape::new(ShapeKind::All, children)
    }
}
