//! Questions of branches and attempts that were given up.

use std::collections::BTreeSet;
use std::future::pending;
use std::sync::Arc;

use agentflow_flow::{
    Context, Decision, ErrorKind, Flow, MemoryStore, Retry, all, approve, each, first_k, settled,
    step, switch,
};

use crate::probe::{SECOND, id};

#[tokio::test(start_paused = true)]
async fn a_run_does_not_wait_for_branches_that_it_gave_up() {
    let fast = step("fast", async |_cx: Context, x: u32| Ok(x));
    let either = switch::<u32, u32>("which")
        .when("asks", |x| *x == 0, approve("first", |x: &u32| *x))
        .otherwise(fast);
    let flow = Flow::new("f")
        .then(first_k("any", 1, either))
        .then(approve("second", |x: &Vec<u32>| x.clone()));
    let report = flow.run(vec![0, 1]).store(Arc::new(MemoryStore::new())).await;
    let paths: Vec<_> = report.pauses().iter().map(|pause| pause.path.as_str()).collect();
    assert_eq!(paths, ["f/second"]);
}

#[tokio::test(start_paused = true)]
async fn a_run_does_not_wait_for_attempts_that_it_gave_up() {
    let slow_at_first =
        step(
            "other",
            async |cx: Context, x: u32| {
                if cx.path().to_string().contains("#2") { Ok(x) } else { pending().await }
            },
        );
    let group = all("g", (approve("gate", |x: &u32| *x), slow_at_first));
    let flow = Flow::new("f").then(group.timeout(SECOND).retry(Retry::at_once(2)));
    let store = Arc::new(MemoryStore::new());
    let report = flow.run(7).id(id("r")).store(store.clone()).await;
    let [pause] = report.pauses() else { panic!("{:?}", report.end) };
    assert_eq!(pause.path, "f/g#2/gate");
    let resumed = flow.resume(store, id("r")).decide(pause, Decision::yes()).await;
    assert_eq!(resumed.into_result().unwrap(), (7, 7));
}

#[tokio::test(start_paused = true)]
async fn all_branches_that_ask_are_in_one_report() {
    let flow = Flow::new("f").then(each(
        "items",
        4,
        all("two", (approve("a", |x: &u32| *x), settled("s", approve("b", |x: &u32| *x)))),
    ));
    let report = flow.run((0..9).collect()).store(Arc::new(MemoryStore::new())).await;
    assert_eq!(report.pauses().len(), 18);
    let paths: BTreeSet<_> = report.pauses().iter().map(|pause| &pause.path).collect();
    assert_eq!(paths.len(), 18);
}

#[tokio::test]
async fn an_answer_that_nobody_asked_for_is_refused() {
    let flow = Flow::new("f").then(approve("gate", |x: &u32| *x));
    let report = flow.run(1).store(Arc::new(MemoryStore::new())).await;
    let again = flow.run(1).decide(&report.pauses()[0], Decision::yes()).await;
    assert!(matches!(again.error().unwrap().kind, ErrorKind::Refused(_)), "{:?}", again.end);
}
