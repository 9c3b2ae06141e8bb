//! Nodes in a row, under one name.

use std::any::Any;
use std::collections::HashSet;
use std::marker::PhantomData;
use std::sync::{Arc, OnceLock};

use futures::future::BoxFuture;

use crate::context::Context;
use crate::data::Data;
use crate::error::StepError;
use crate::graph::Graph;
use crate::id::RunId;
use crate::node::{IntoNode, Node, node};
use crate::path::Path;
use crate::retry::Retry;
use crate::run::Run;
use crate::shape::{Shape, ShapeKind};
use crate::step::Step;
use crate::store::Store;

/// Nodes in a row: the output of each is the input of the next, and the compiler checks that they fit. Immutable and
/// shared, so that cloning costs nothing and runs know nothing of each other. Itself a [`Step`].
///
/// ```
/// use agentflow_flow::{Context, Flow, step};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let flow = Flow::new("greeting")
///     .then(step("trim", async |_cx: Context, name: String| Ok(name.trim().to_owned())))
///     .then(step("greet", async |_cx: Context, name: String| Ok(format!("hello, {name}"))));
/// assert_eq!(flow.run(" Ada ".to_owned()).await.into_result()?, "hello, Ada");
/// # Ok::<(), agentflow_flow::FlowError>(()) }).unwrap();
/// ```
pub struct Flow<I, O> {
    definition: Arc<Definition>,
    types: PhantomData<fn(I) -> O>,
}

#[derive(Clone)]
struct Definition {
    name: Arc<str>,
    nodes: Vec<Arc<dyn Erased>>,
    retry: Option<Arc<Retry>>,
    /// Checked once, when it is first run.
    valid: OnceLock<Result<(), BuildError>>,
}

/// What is wrong with the definition of a flow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// Two siblings have one name.
    #[error("the flow `{flow}` has two nodes named `{name}` at `{place}`; give one another name")]
    Duplicate { flow: String, place: String, name: String },
    /// A name that fits into no path.
    #[error(
        "the flow `{flow}` has a node named `{name}` at `{place}`; a name is not empty and has none of `/`, `#`, `[` and `]`"
    )]
    Name { flow: String, place: String, name: String },
    /// A group, a flow, a loop with nothing in it.
    #[error("the flow `{flow}` has nothing in `{place}`; add a node to it")]
    Empty { flow: String, place: String },
}

impl<I: Data> Flow<I, I> {
    /// A flow with nothing in it yet.
    pub fn new(name: &str) -> Self {
        let definition = Definition {
            name: name.into(),
            nodes: Vec::new(),
            retry: None,
            valid: OnceLock::new(),
        };
        Self { definition: Arc::new(definition), types: PhantomData }
    }
}

impl<I: Data, O: Data> Flow<I, O> {
    /// The same, and after it `next`, which takes what comes out so far. A node that takes something else does not
    /// compile:
    ///
    /// ```compile_fail,E0277
    /// use agentflow_flow::{Context, Flow, step};
    ///
    /// let length = step("length", async |_cx: Context, text: String| Ok(text.len()));
    /// let double = step("double", async |_cx: Context, x: u32| Ok(2 * x)); // and `length` gives a `usize`
    /// let flow = Flow::new("f").then(length).then(double);
    /// ```
    pub fn then<N: IntoNode<O>>(self, next: N) -> Flow<I, N::Output> {
        let mut definition = self.definition;
        let changed = Arc::make_mut(&mut definition);
        changed.nodes.push(Arc::new(next.into_node()));
        changed.valid = OnceLock::new();
        Flow { definition, types: PhantomData }
    }

    /// How steps inside are tried again that say nothing themselves; also inside groups and loops, and in child flows
    /// that say nothing.
    pub fn retry(mut self, retry: Retry) -> Self {
        Arc::make_mut(&mut self.definition).retry = Some(Arc::new(retry));
        self
    }

    /// The first segment of every path of its runs.
    pub fn name(&self) -> &str {
        &self.definition.name
    }

    /// Checks what types cannot: that names fit into paths, that siblings have different ones, that no group is empty.
    /// Every run does it first.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn validate(&self) -> Result<(), BuildError> {
        self.definition.valid.get_or_init(|| validate(&self.shape())).clone()
    }

    /// Its nodes and the ways between them. Runs nothing.
    pub fn graph(&self) -> Graph {
        Graph::new(&self.shape())
    }

    /// Its nodes, as a tree. Runs nothing.
    pub fn shape(&self) -> Shape {
        let children = self.definition.nodes.iter().map(|node| node.shape()).collect();
        Shape::new(ShapeKind::Sequence, children).named(&self.definition.name)
    }

    /// A run on `input`, to be given options and awaited. Nothing happens before that.
    pub fn run(&self, input: I) -> Run<O> {
        Run::start(self.clone(), input)
    }

    /// Takes up a run that `store` knows: what is in its journal is not done again. A run that was done gives its output
    /// again. Options of the first run (deadline, budgets, headers, what it was provided with) are given again here.
    pub fn resume(&self, store: Arc<dyn Store>, run: RunId) -> Run<O> {
        Run::resume(self.clone(), store, run)
    }

    /// Runs the nodes below `cx`.
    pub(crate) async fn run_in(&self, cx: &Context, input: I) -> Result<O, StepError> {
        let cx = match &self.definition.retry {
            Some(retry) => &cx.with_retry(retry.clone()),
            None => cx,
        };
        let mut value: Value = Box::new(input);
        for node in &self.definition.nodes {
            value = node.run(cx, value).await?;
        }
        Ok(*value.downcast().expect("`then` takes only nodes that fit"))
    }
}

impl<I, O> Clone for Flow<I, O> {
    fn clone(&self) -> Self {
        Self { definition: self.definition.clone(), types: PhantomData }
    }
}

impl<I: Data, O: Data> Step<I> for Flow<I, O> {
    type Output = O;

    /// Runs its nodes directly below the node that it is the step of: the flow's own name is no part of their paths.
    async fn run(&self, cx: Context, input: I) -> Result<O, StepError> {
        self.run_in(&cx, input).await
    }

    fn shape(&self) -> Shape {
        Flow::shape(self).named("")
    }
}

impl<I: Data, O: Data> IntoNode<I> for Flow<I, O> {
    type Output = O;

    fn into_node(self) -> Node<I, O> {
        let name = self.definition.name.clone();
        node(&name, self)
    }
}

pub(crate) type Value = Box<dyn Any + Send>;

/// A node whose types are known to its neighbours only: a flow of a thousand nodes is a loop, and no type with a
/// thousand parts.
pub(crate) trait Erased: Send + Sync {
    fn run<'a>(
        &'a self,
        parent: &'a Context,
        input: Value,
    ) -> BoxFuture<'a, Result<Value, StepError>>;
    fn shape(&self) -> Shape;
}

impl<I: Data, O: Data> Erased for Node<I, O> {
    fn run<'a>(
        &'a self,
        parent: &'a Context,
        input: Value,
    ) -> BoxFuture<'a, Result<Value, StepError>> {
        Box::pin(async move {
            let input = input.downcast().expect("neighbours fit");
            let output = self.run_in(parent, *input).await?;
            Ok(Box::new(output) as Value)
        })
    }

    fn shape(&self) -> Shape {
        Node::shape(self)
    }
}

fn validate(flow: &Shape) -> Result<(), BuildError> {
    if flow.children.is_empty() && !flow.name.is_empty() {
        // A flow without nodes gives its input back: nothing that anybody means.
        return Err(BuildError::Empty { flow: flow.name.clone(), place: flow.name.clone() });
    }
    name_fits(flow, &flow.name, &flow.name)?;
    validate_children(flow, &flow.name, &flow.name)
}

fn validate_children(shape: &Shape, flow: &str, place: &str) -> Result<(), BuildError> {
    let mut names = HashSet::new();
    for child in &shape.children {
        name_fits(child, flow, place)?;
        let (flow, name) = (flow.to_owned(), child.name.clone());
        if !names.insert(&child.name) {
            return Err(BuildError::Duplicate { flow, place: place.to_owned(), name });
        }
        let below = format!("{place}/{name}");
        if child.children.is_empty() && child.kind.holds_nodes() {
            return Err(BuildError::Empty { flow, place: below });
        }
        validate_children(child, &flow, &below)?;
    }
    Ok(())
}

fn name_fits(shape: &Shape, flow: &str, place: &str) -> Result<(), BuildError> {
    if Path::takes(&shape.name) {
        return Ok(());
    }
    let (flow, place) = (flow.to_owned(), place.to_owned());
    Err(BuildError::Name { flow, place, name: shape.name.clone() })
}
