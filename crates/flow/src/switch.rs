//! One of several ways on.

use std::any::type_name;
use std::sync::Arc;

use futures::future::BoxFuture;

use crate::context::Context;
use crate::data::Data;
use crate::error::{ErrorKind, StepError};
use crate::event::Kind;
use crate::flow::Value;
use crate::node::{Node, node};
use crate::shape::{Shape, ShapeKind};
use crate::step::Step;

/// A choice between arms, tried in the order in which they were added. Ends with [`Switch::otherwise`] or
/// [`Switch::strict`]. The choice is an event and is recorded: a resumed run goes the same way.
///
/// ```
/// use agentflow_flow::{Context, Flow, StepError, switch};
///
/// async fn auto(_cx: Context, amount: u32) -> Result<String, StepError> {
///     Ok(format!("{amount} paid"))
/// }
/// async fn review(_cx: Context, amount: u32) -> Result<String, StepError> {
///     Ok(format!("{amount} under review"))
/// }
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let flow = Flow::new("refund")
///     .then(switch("size").when("small", |amount| *amount < 100, auto).otherwise(review));
/// assert_eq!(flow.run(20).await.into_result()?, "20 paid");
/// # Ok::<(), agentflow_flow::FlowError>(()) }).unwrap();
/// ```
pub fn switch<I: Data, O: Data>(name: &str) -> Switch<I, O> {
    Switch { name: name.to_owned(), key: None, arms: Vec::new() }
}

/// A `switch` that is being built.
#[must_use = "a switch ends with `otherwise` or `strict`"]
pub struct Switch<I, O> {
    name: String,
    key: Option<Key<I>>,
    arms: Vec<Box<dyn Arm<I, O>>>,
}

type Key<I> = Box<dyn Fn(&I) -> String + Send + Sync>;

impl<I: Data, O: Data> Switch<I, O> {
    /// Adds an arm that takes the values for which `test` holds.
    pub fn when<S: Step<I, Output = O>>(
        self,
        label: &str,
        test: impl Fn(&I) -> bool + Send + Sync + 'static,
        arm: S,
    ) -> Self {
        self.add(
            label,
            move |input, _: Option<&str>| if test(&input) { Ok(input) } else { Err(input) },
            Ok,
            arm,
        )
    }

    /// Adds an arm that takes what `pick` finds in a value, such as the payload of an enum's variant; `pick` gives other
    /// values back.
    pub fn case<T: Data, S: Step<T, Output = O>>(
        self,
        label: &str,
        pick: impl Fn(I) -> Result<T, I> + Send + Sync + 'static,
        arm: S,
    ) -> Self {
        let pick = Arc::new(pick);
        let again = pick.clone();
        self.add(label, move |input, _: Option<&str>| pick(input), move |input| again(input), arm)
    }

    /// Computes the label that arms added by [`Switch::arm`] are chosen by.
    pub fn on(mut self, label: impl Fn(&I) -> String + Send + Sync + 'static) -> Self {
        self.key = Some(Box::new(label));
        self
    }

    /// Adds the arm for the values that [`Switch::on`] gives this label.
    pub fn arm<S: Step<I, Output = O>>(self, label: &str, arm: S) -> Self {
        let own = label.to_owned();
        let take =
            move |input, key: Option<&str>| if key == Some(&own) { Ok(input) } else { Err(input) };
        self.add(label, take, Ok, arm)
    }

    /// Adds an arm with nothing to do: the values for which `test` holds become the output at once. Where the switch is
    /// the last node, that is the end of the flow.
    pub fn end(
        self,
        label: &str,
        test: impl Fn(&I) -> bool + Send + Sync + 'static,
        output: impl Fn(I) -> O + Send + Sync + 'static,
    ) -> Self {
        self.when(label, test, End(output))
    }

    /// Adds the arm for all other values. A label computed by [`Switch::on`] that no arm has comes here, too.
    pub fn otherwise<S: Step<I, Output = O>>(self, arm: S) -> Node<I, O> {
        self.add("otherwise", |input, _: Option<&str>| Ok(input), Ok, arm).strict()
    }

    /// Without further arms: a value that none takes is [`ErrorKind::NoRoute`].
    pub fn strict(self) -> Node<I, O> {
        node(&self.name, Chosen { key: self.key, arms: self.arms })
    }

    fn add<T: Data, S: Step<T, Output = O>>(
        mut self,
        label: &str,
        take: impl Fn(I, Option<&str>) -> Result<T, I> + Send + Sync + 'static,
        again: impl Fn(I) -> Result<T, I> + Send + Sync + 'static,
        arm: S,
    ) -> Self {
        self.arms.push(Box::new(TypedArm { take, again, node: node(label, arm) }));
        self
    }
}

struct Chosen<I, O> {
    key: Option<Key<I>>,
    arms: Vec<Box<dyn Arm<I, O>>>,
}

impl<I: Data, O: Data> Step<I> for Chosen<I, O> {
    type Output = O;

    async fn run(&self, cx: Context, input: I) -> Result<O, StepError> {
        let recording = cx.live().recording.as_ref();
        if let Some(label) = recording.and_then(|recording| recording.route(cx.path())) {
            cx.emit(Kind::Routed(label.clone()));
            return self.as_before(label, &cx, input).await;
        }
        let key = self.key.as_ref().map(|key| key(&input));
        let mut input = input;
        for arm in &self.arms {
            match arm.take(input, key.as_deref()) {
                Err(back) => input = back,
                Ok(taken) => {
                    cx.emit(Kind::Routed(arm.label().to_owned()));
                    if let Some(recording) = recording {
                        recording.record_route(cx.path(), arm.label());
                    }
                    return arm.run(&cx, taken).await;
                }
            }
        }
        let value = key.map_or_else(
            || format!("this `{}`", type_name::<I>()),
            |key| format!("the label `{key}`"),
        );
        Err(StepError::new(ErrorKind::NoRoute(value)))
    }

    fn shape(&self) -> Shape {
        Shape::new(ShapeKind::Switch, self.arms.iter().map(|arm| arm.shape()).collect())
    }
}

impl<I: Data, O: Data> Chosen<I, O> {
    /// Goes the way that was recorded, whatever the tests say today.
    async fn as_before(&self, label: &str, cx: &Context, input: I) -> Result<O, StepError> {
        let arm = self.arms.iter().find(|arm| arm.label() == label);
        let taken = arm.and_then(|arm| Some((arm, arm.again(input).ok()?)));
        let Some((arm, taken)) = taken else {
            return Err(StepError::fatal(format!(
                "the journal says that `{label}` was chosen, and that arm does not take the value any more"
            )));
        };
        arm.run(cx, taken).await
    }
}

/// An arm whose payload type only it knows.
trait Arm<I, O>: Send + Sync {
    fn label(&self) -> &str;
    /// Its payload, or the value back.
    fn take(&self, input: I, key: Option<&str>) -> Result<Value, I>;
    /// The same, where it is known to be the one.
    fn again(&self, input: I) -> Result<Value, I>;
    fn run<'a>(&'a self, cx: &'a Context, taken: Value) -> BoxFuture<'a, Result<O, StepError>>;
    fn shape(&self) -> Shape;
}

struct TypedArm<T, O, F, G> {
    take: F,
    again: G,
    node: Node<T, O>,
}

impl<I, T, O, F, G> Arm<I, O> for TypedArm<T, O, F, G>
where
    T: Data,
    O: Data,
    F: Fn(I, Option<&str>) -> Result<T, I> + Send + Sync,
    G: Fn(I) -> Result<T, I> + Send + Sync,
{
    fn label(&self) -> &str {
        self.node.name()
    }

    fn take(&self, input: I, key: Option<&str>) -> Result<Value, I> {
        (self.take)(input, key).map(|taken| Box::new(taken) as Value)
    }

    fn again(&self, input: I) -> Result<Value, I> {
        (self.again)(input).map(|taken| Box::new(taken) as Value)
    }

    fn run<'a>(&'a self, cx: &'a Context, taken: Value) -> BoxFuture<'a, Result<O, StepError>> {
        Box::pin(async move {
            let taken = taken.downcast().expect("it was taken by this arm");
            self.node.run_in(cx, *taken).await
        })
    }

    fn shape(&self) -> Shape {
        self.node.shape()
    }
}

struct End<F>(F);

impl<I: Data, O: Data, F: Fn(I) -> O + Send + Sync + 'static> Step<I> for End<F> {
    type Output = O;

    async fn run(&self, _: Context, input: I) -> Result<O, StepError> {
        Ok((self.0)(input))
    }

    fn shape(&self) -> Shape {
        Shape::new(ShapeKind::End, Vec::new())
    }
}
