//! What a run tells afterwards: 23.

use std::sync::Arc;

use agentflow_flow::{Context, Flow, MemoryStore, Outcome, Retry, StepError, all, step};
use serde_json::json;

use crate::probe::{Count, id};

/// Orchflow notes the input of the run as that of every step.
#[tokio::test]
async fn line_23_a_trace_says_what_each_step_got() {
    let double = |name: &str| step(name, async |_cx: Context, x: u32| Ok(2 * x));
    let sum = step("sum", async |_cx: Context, (a, b): (u32, u32)| Ok(a + b));
    let flow = Flow::new("f")
        .then(double("first"))
        .then(all("both", (double("a"), double("b"))))
        .then(sum);
    let report = flow.run(1).trace_inputs().await;
    let input = |path: &str| {
        let inputs: Vec<_> = report.attempts(path).map(|a| a.input.clone().unwrap()).collect();
        let [input] = &inputs[..] else { panic!("{inputs:?}") };
        input.clone()
    };
    assert_eq!(input("f/first"), json!(1));
    assert_eq!(input("f/both"), json!(2));
    assert_eq!(input("f/both/b"), json!(2));
    assert_eq!(input("f/sum"), json!([4, 4]));
}

/// StepFlow forgets the errors of earlier attempts; Orchflow counts attempts from 1 again after a resume.
#[tokio::test]
async fn line_23_every_attempt_is_kept_and_counted_on() {
    let calls = Count::default();
    let flaky = step("flaky", move |_cx: Context, x: u32| {
        let call = calls.up();
        async move { if call < 4 { Err(StepError::failed(format!("error {call}"))) } else { Ok(x) } }
    });
    let flow = Flow::new("f").then(flaky.retry(Retry::at_once(2)));
    let store = Arc::new(MemoryStore::new());
    let report = flow.run(1).id(id("r")).store(store.clone()).await;
    assert_eq!(report.error().unwrap().attempts, 2);

    let report = flow.resume(store, id("r")).await;
    let told: Vec<_> =
        report.attempts("f/flaky").map(|a| (a.attempt, a.outcome.clone(), a.earlier)).collect();
    let failed = |error: &str| Outcome::Failed(error.to_owned());
    assert_eq!(
        told,
        [
            (1, failed("error 1"), true),
            (2, failed("error 2"), true),
            (3, failed("error 3"), false),
            (4, Outcome::Done, false),
        ]
    );
}
