//! Outputs and answers that are known beforehand.

use std::future::{Ready, ready};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::context::Context;
use crate::data::Data;
use crate::error::StepError;
use crate::node::{IntoNode, Node, node};
use crate::step::Step;

/// A step that gives `outputs` in their order; the last one repeats. It stands where a node is wanted, and its clones
/// share one script, so that the test can keep one and read what the step was given.
///
/// Branches that run at once take the next output in the order in which they come.
///
/// ```
/// use agentflow_flow::Flow;
/// use agentflow_flow::testing::scripted;
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let model = scripted("model", [1, 2]);
/// let flow = Flow::new("talk").then(model.clone());
/// for (input, output) in [("a", 1), ("b", 2), ("c", 2)] {
///     assert_eq!(flow.run(input.to_owned()).await.into_result()?, output);
/// }
/// assert_eq!(model.inputs(), ["a", "b", "c"]);
/// # Ok::<(), agentflow_flow::FlowError>(()) }).unwrap();
/// ```
pub fn scripted<I: Data, O: Data>(
    name: &str,
    outputs: impl IntoIterator<Item = O>,
) -> Scripted<I, O> {
    Scripted { name: name.into(), script: Script::new(outputs) }
}

/// A step with a script: [`scripted`] makes it. As a node it has its own name and no policy; wrapped by
/// [`node`](crate::node) it can have both.
pub struct Scripted<I, O> {
    name: Arc<str>,
    script: Arc<Script<I, O>>,
}

impl<I: Data, O: Data> Scripted<I, O> {
    /// What it was given so far, one input per attempt.
    pub fn inputs(&self) -> Vec<I> {
        self.script.given().clone()
    }
}

impl<I, O> Clone for Scripted<I, O> {
    fn clone(&self) -> Self {
        Self { name: self.name.clone(), script: self.script.clone() }
    }
}

impl<I: Data, O: Data> Step<I> for Scripted<I, O> {
    type Output = O;

    async fn run(&self, _: Context, input: I) -> Result<O, StepError> {
        self.script.next(input)
    }
}

impl<I: Data, O: Data> IntoNode<I> for Scripted<I, O> {
    type Output = O;

    fn into_node(self) -> Node<I, O> {
        let name = self.name.clone();
        node(&name, self)
    }
}

/// A human who gives `answers` in their order; the last one repeats.
///
/// ```
/// use agentflow_flow::testing::answers;
/// use agentflow_flow::{Decision, Flow, approve};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let flow = Flow::new("refund").then(approve("gate", |amount: &u32| format!("{amount}?")));
/// let human = answers::<String, _>([Decision::yes()]);
/// assert_eq!(flow.run(20).answer(human.answerer()).await.into_result()?, 20);
/// assert_eq!(human.questions(), ["20?"]);
/// # Ok::<(), agentflow_flow::FlowError>(()) }).unwrap();
/// ```
pub fn answers<Q: Data, A: Data>(answers: impl IntoIterator<Item = A>) -> Answers<Q, A> {
    Answers(Script::new(answers))
}

/// A human with a script: [`answers`] makes it.
pub struct Answers<Q, A>(Arc<Script<Q, A>>);

impl<Q: Data, A: Data> Answers<Q, A> {
    /// What [`Run::answer`](crate::Run::answer) takes. All of them share the script.
    pub fn answerer(&self) -> impl Fn(Q) -> Ready<Result<A, StepError>> + Send + Sync + use<Q, A> {
        let script = self.0.clone();
        move |question| ready(script.next(question))
    }

    /// What was asked so far.
    pub fn questions(&self) -> Vec<Q> {
        self.0.given().clone()
    }
}

impl<Q, A> Clone for Answers<Q, A> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

struct Script<I, O> {
    outputs: Vec<O>,
    /// The inputs so far.
    given: Mutex<Vec<I>>,
}

impl<I, O: Clone> Script<I, O> {
    fn new(outputs: impl IntoIterator<Item = O>) -> Arc<Self> {
        let outputs = outputs.into_iter().collect();
        Arc::new(Self { outputs, given: Mutex::new(Vec::new()) })
    }

    fn next(&self, input: I) -> Result<O, StepError> {
        let mut given = self.given();
        given.push(input);
        let output = self.outputs.get(given.len() - 1).or(self.outputs.last());
        let empty = || StepError::fatal("a script without lines; give it one or more");
        output.cloned().ok_or_else(empty)
    }

    fn given(&self) -> MutexGuard<'_, Vec<I>> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
