//! Steps that fail, panic or take their time.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::context::Context;
use crate::data::Data;
use crate::error::StepError;
use crate::shape::Shape;
use crate::step::Step;

/// Fails the first `times` times, in a way that another attempt may heal, and is `step` after that.
///
/// It counts for each run and path by itself, so every branch of an [`each`](crate::each) fails as often. Attempts of
/// earlier processes count, and so does every earlier attempt of a group around it.
///
/// ```
/// use agentflow_flow::testing::fail_times;
/// use agentflow_flow::{Context, Flow, Retry, StepError, node};
///
/// async fn fetch(_cx: Context, url: String) -> Result<String, StepError> {
///     Ok(format!("the page of {url}"))
/// }
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let fetch = node("fetch", fail_times(2, fetch)).retry(Retry::at_once(3));
/// let flow = Flow::new("read").then(fetch);
/// assert_eq!(flow.run("a.org".to_owned()).await.into_result()?, "the page of a.org");
/// # Ok::<(), agentflow_flow::FlowError>(()) }).unwrap();
/// ```
pub fn fail_times<I: Data, S: Step<I>>(
    times: u32,
    step: S,
) -> impl Step<I, Output = S::Output> + use<I, S> {
    let fault = |failure, times| {
        Err(StepError::failed(format!("failure {failure} of {times}, as the test asked")))
    };
    Faulty { times, step, fault, calls: Mutex::default() }
}

/// Panics the first `times` times, and is `step` after that. It counts like [`fail_times`].
pub fn panic_times<I: Data, S: Step<I>>(
    times: u32,
    step: S,
) -> impl Step<I, Output = S::Output> + use<I, S> {
    let fault = |failure, times| panic!("panic {failure} of {times}, as the test asked");
    Faulty { times, step, fault, calls: Mutex::default() }
}

/// Waits, on tokio's clock, and is `step` after that.
pub fn slow<I: Data, S: Step<I>>(
    wait: Duration,
    step: S,
) -> impl Step<I, Output = S::Output> + use<I, S> {
    Slow { wait, step }
}

struct Faulty<S> {
    times: u32,
    step: S,
    fault: fn(u32, u32) -> Result<(), StepError>,
    /// By run and path.
    calls: Mutex<HashMap<String, u32>>,
}

impl<I: Data, S: Step<I>> Step<I> for Faulty<S> {
    type Output = S::Output;

    async fn run(&self, cx: Context, input: I) -> Result<S::Output, StepError> {
        let call = self.call(&cx);
        if call <= self.times {
            (self.fault)(call, self.times)?;
        }
        self.step.run(cx, input).await
    }

    fn shape(&self) -> Shape {
        self.step.shape()
    }
}

impl<S> Faulty<S> {
    /// Which call this is, from 1. Attempt and path know of earlier processes.
    fn call(&self, cx: &Context) -> u32 {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let last = calls.entry(cx.key()).or_default();
        *last = (*last + 1).max(cx.attempt() + cx.path().earlier_attempts());
        *last
    }
}

struct Slow<S> {
    wait: Duration,
    step: S,
}

impl<I: Data, S: Step<I>> Step<I> for Slow<S> {
    type Output = S::Output;

    async fn run(&self, cx: Context, input: I) -> Result<S::Output, StepError> {
        tokio::time::sleep(self.wait).await;
        self.step.run(cx, input).await
    }

    fn shape(&self) -> Shape {
        self.step.shape()
    }
}
