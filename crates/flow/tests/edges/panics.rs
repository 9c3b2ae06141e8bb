//! Panics in code of the user that is not a step.

use std::collections::BTreeSet;
use std::future::pending;
use std::sync::Arc;

use agentflow_flow::{
    Context, ErrorKind, Failure, Flow, MemoryStore, Retry, StepError, all, ask, settled, step,
};
use serde::{Deserialize, Serialize, Serializer};
use tokio::time::sleep;

use crate::probe::{SECOND, unbalanced, watched};

#[derive(Clone, Debug, Deserialize)]
struct Bomb(u32);

impl Serialize for Bomb {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panic!("boom")
    }
}

#[tokio::test]
async fn a_panic_while_an_output_is_written_is_that_of_its_step() {
    let flow = Flow::new("f")
        .then(settled("s", step("a", async |_cx: Context, x: u32| Ok(Bomb(x)))))
        .then(step("b", async |_cx: Context, x: Result<Bomb, Failure>| Ok(x.map(|bomb| bomb.0))));
    let (report, events) = watched(flow.run(1).store(Arc::new(MemoryStore::new()))).await;
    let failure = report.into_result().unwrap().unwrap_err();
    assert_eq!((failure.path.as_str(), failure.kind.as_str()), ("f/s/a", "panicked"));
    assert_eq!(unbalanced(&events), BTreeSet::new());
}

#[tokio::test]
async fn a_panic_while_an_input_is_written_is_a_report() {
    let flow = Flow::new("f").then(step("a", async |_cx: Context, x: Bomb| Ok(x.0)));
    let report = flow.run(Bomb(1)).store(Arc::new(MemoryStore::new())).await;
    assert!(matches!(report.error().unwrap().kind, ErrorKind::Panicked(_)));
    let report = flow.run(Bomb(1)).trace_inputs().await;
    assert!(matches!(report.error().unwrap().kind, ErrorKind::Panicked(_)));
}

#[tokio::test]
async fn a_panic_in_a_rule_or_a_question_is_that_of_its_node() {
    let checked = step("a", async |_cx: Context, x: u32| Ok(x)).check(|_| panic!("boom"));
    let report = Flow::new("f").then(checked).run(1).await;
    assert_eq!(report.error().unwrap().to_string(), "`f/a`: panicked: boom");
    let asks = ask("b", |_: &u32| -> u32 { panic!("boom") });
    let flow: Flow<u32, (u32, u32)> = Flow::new("f").then(asks);
    let report = flow.run(1).store(Arc::new(MemoryStore::new())).await;
    assert_eq!(report.error().unwrap().to_string(), "`f/b`: panicked: boom");
    let retry = Retry { when: |_| panic!("boom"), ..Retry::at_once(2) };
    let fails = step("c", async |_cx: Context, _: u32| Err::<u32, _>(StepError::failed("no")));
    let (report, events) = watched(Flow::new("f").then(fails.retry(retry)).run(1)).await;
    assert!(matches!(report.error().unwrap().kind, ErrorKind::Panicked(_)));
    assert_eq!(unbalanced(&events), BTreeSet::new());
}

struct PanicsAtTheEnd;

impl Drop for PanicsAtTheEnd {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("boom");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_while_a_step_is_cleaned_up_is_a_report() {
    let hang = || {
        step("a", async |_cx: Context, _: u32| {
            let _at_the_end = PanicsAtTheEnd;
            pending::<Result<u32, StepError>>().await
        })
    };
    let report = Flow::new("f").then(hang().timeout(SECOND)).run(1).await;
    assert_eq!(report.error().unwrap().to_string(), "`f/a`: panicked: boom");
    let report = Flow::new("f").then(hang()).run(1).deadline(SECOND).await;
    assert!(matches!(report.error().unwrap().kind, ErrorKind::Panicked(_)));
    let fails = step("b", async |_cx: Context, _: u32| {
        sleep(SECOND).await;
        Err::<u32, _>(StepError::fatal("no"))
    });
    let report = Flow::new("f").then(all("g", (hang(), fails))).run(1).await;
    assert_eq!(report.error().unwrap().path, "f/g/b");
}
