//! Work that can be a part of a flow.

use crate::context::Context;
use crate::data::Data;
use crate::error::StepError;
use crate::shape::Shape;

/// Something that makes an output of an input: an async function of `(Context, I)`, a [`Node`](crate::Node), a
/// [`Flow`](crate::Flow), or a type of yours that wraps one of these to change what it does (caching, rate limits: what
/// others call middleware).
///
/// ```
/// use agentflow_flow::{Context, Data, Shape, Step, StepError};
///
/// /// Runs a step on the upper-case input.
/// struct Shouting<S>(S);
///
/// impl<S: Step<String>> Step<String> for Shouting<S> {
///     type Output = S::Output;
///
///     async fn run(&self, cx: Context, input: String) -> Result<S::Output, StepError> {
///         self.0.run(cx, input.to_uppercase()).await
///     }
///
///     fn shape(&self) -> Shape {
///         self.0.shape()
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a step that takes `{I}`",
    label = "not a step for `{I}`",
    note = "a step is an async function `(Context, {I}) -> Result<_, StepError>`, a `Node` or a `Flow`"
)]
pub trait Step<I: Data>: Send + Sync + 'static {
    /// What it makes of an input.
    type Output: Data;

    /// Does the work once. The future is dropped when it takes too long or is not wanted any more, so it holds nothing
    /// that dropping does not clean up.
    fn run(
        &self,
        cx: Context,
        input: I,
    ) -> impl Future<Output = Result<Self::Output, StepError>> + Send;

    /// What it is made of. Runs nothing.
    fn shape(&self) -> Shape {
        Shape::step()
    }
}

impl<I, O, F, R> Step<I> for F
where
    I: Data,
    O: Data,
    F: Fn(Context, I) -> R + Send + Sync + 'static,
    R: Future<Output = Result<O, StepError>> + Send,
{
    type Output = O;

    fn run(&self, cx: Context, input: I) -> impl Future<Output = Result<O, StepError>> + Send {
        self(cx, input)
    }
}
