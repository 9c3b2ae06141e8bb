//! Questions to humans: 9.

use std::sync::Arc;

use agentflow_flow::{
    Context, Decision, End, ErrorKind, Flow, MemoryStore, Pause, Report, all, approve, node, step,
};

use crate::probe::{Count, counted, id, pass};

type Refund = (String, u32);

fn refund(paid: &Count) -> Flow<Refund, Refund> {
    Flow::new("refund")
        .then(approve("gate", |refund: &Refund| refund.clone()))
        .then(counted("pay", paid))
}

async fn paused(flow: &Flow<Refund, Refund>, store: &MemoryStore) -> Pause {
    let run = flow.run(("Ada".to_owned(), 20)).id(id("r")).store(Arc::new(store.clone()));
    only_pause(&run.await)
}

fn only_pause<O: std::fmt::Debug>(report: &Report<O>) -> Pause {
    let End::Paused(pauses) = &report.end else { panic!("{:?}", report.end) };
    let [pause] = &pauses[..] else { panic!("{pauses:?}") };
    pause.clone()
}

/// A StepFlow pause holds the live state: the amount was raised after the pause, and the new amount was paid.
#[tokio::test]
async fn line_09_what_was_asked_is_what_runs() {
    let (paid, store) = (Count::default(), MemoryStore::new());
    let flow = refund(&paid);
    let mut pause = paused(&flow, &store).await;
    pause.question = serde_json::json!(["Ada", 9_999]);
    let report = flow.resume(Arc::new(store), id("r")).decide(&pause, Decision::yes()).await;
    assert_eq!(report.into_result().unwrap(), ("Ada".to_owned(), 20));
    assert_eq!(paid.get(), 1);
}

/// A StepFlow pause cannot be written as JSON, so it cannot leave its process.
#[tokio::test]
async fn line_09_a_pause_is_plain_data() {
    let (paid, store) = (Count::default(), MemoryStore::new());
    let flow = refund(&paid);
    let sent = serde_json::to_string(&paused(&flow, &store).await).unwrap();
    let received: Pause = serde_json::from_str(&sent).unwrap();
    assert_eq!(received.question, serde_json::json!(["Ada", 20]));
    let report = flow.resume(Arc::new(store), id("r")).decide(&received, Decision::yes()).await;
    assert!(report.into_result().is_ok());
}

/// One StepFlow pause resumes twice, and runs the step twice.
#[tokio::test]
async fn line_09_a_pause_is_answered_once() {
    let (paid, store) = (Count::default(), MemoryStore::new());
    let flow = refund(&paid);
    let pause = paused(&flow, &store).await;
    let store = Arc::new(store);
    let first = flow.resume(store.clone(), id("r")).decide(&pause, Decision::yes()).await;
    assert!(first.into_result().is_ok());
    let second = flow.resume(store.clone(), id("r")).decide(&pause, Decision::yes()).await;
    let error = second.into_result().unwrap_err();
    assert!(matches!(&error.kind, ErrorKind::Refused(why) if why.contains("answered before")));
    // To resume a run that is done, without an answer, does nothing again either.
    assert!(flow.resume(store, id("r")).await.into_result().is_ok());
    assert_eq!(paid.get(), 1);
}

/// Nor can it be answered without its token.
#[tokio::test]
async fn line_09_an_answer_shows_its_token() {
    let (paid, store) = (Count::default(), MemoryStore::new());
    let flow = refund(&paid);
    let pause = paused(&flow, &store).await;
    let other = paused(&flow, &MemoryStore::new()).await;
    assert_ne!(pause.token, other.token);
    let forged = Pause { token: other.token, ..pause };
    let report = flow.resume(Arc::new(store), id("r")).decide(&forged, Decision::yes()).await;
    assert!(matches!(report.error().unwrap().kind, ErrorKind::Refused(_)));
    assert_eq!(paid.get(), 0);
}

/// After an edit, StepFlow resumes by index: into another step, without its gate.
#[tokio::test]
async fn line_09_an_edited_flow_is_refused() {
    let (paid, wiped, store) = (Count::default(), Count::default(), MemoryStore::new());
    let pause = paused(&refund(&paid), &store).await;
    let edited = Flow::new("refund")
        .then(counted("wipe", &wiped))
        .then(approve("gate", |refund: &Refund| refund.clone()))
        .then(counted("pay", &paid));
    let store = Arc::new(store);
    let report = edited.resume(store.clone(), id("r")).decide(&pause, Decision::yes()).await;
    let error = report.into_result().unwrap_err();
    assert!(
        error.to_string().contains("node 2 was `gate (approve)`, and is `wipe (step)` now"),
        "{error}"
    );
    assert_eq!((wiped.get(), paid.get()), (0, 0));
    // The refused attempt used nothing up.
    let report = refund(&paid).resume(store, id("r")).decide(&pause, Decision::yes()).await;
    assert!(report.into_result().is_ok());
}

/// A StepFlow child cannot pause: its parent fails.
#[tokio::test]
async fn line_09_a_child_can_pause() {
    let (before, paid, store) = (Count::default(), Count::default(), MemoryStore::new());
    let child = refund(&paid);
    let called = refund(&paid);
    let calls = step("calls", move |cx: Context, refund: Refund| {
        let called = called.clone();
        async move { cx.call("child", &called, refund).await }
    });
    let flow = Flow::new("parent")
        .then(counted("before", &before))
        .then(all("both", (child, calls, node("deeper", all("group", (pass::<Refund>("a"),))))));
    let input = ("Ada".to_owned(), 20);
    let report = flow.run(input.clone()).id(id("r")).store(Arc::new(store.clone())).await;
    let mut pauses = report.pauses().to_vec();
    pauses.sort_by(|a, b| a.path.cmp(&b.path));
    let paths: Vec<&str> = pauses.iter().map(|pause| pause.path.as_str()).collect();
    assert_eq!(paths, ["parent/both/calls/child/gate", "parent/both/refund/gate"]);
    assert_eq!((before.get(), paid.get()), (1, 0));

    let run = flow.resume(Arc::new(store), id("r"));
    let run = run.decide(&pauses[0], Decision::yes()).decide(&pauses[1], Decision::yes());
    assert_eq!(run.await.into_result().unwrap(), (input.clone(), input.clone(), (input,)));
    assert_eq!((before.get(), paid.get()), (1, 2));
}
