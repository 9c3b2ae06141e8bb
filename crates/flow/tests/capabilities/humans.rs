//! Rows 34 and 35: questions and gates.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use agentflow_flow::{
    Context, Data, Decision, ErrorKind, Flow, Kind, MemoryStore, Node, Report, Retry, StepError,
    Volatile, all, approve, ask, settled, step,
};
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use serde_json::json;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Refund {
    pub(super) amount: u32,
    pub(super) to: String,
}

/// A step that counts how often it ran.
pub(super) fn counted<T: Data>(name: &str, count: &Arc<AtomicU32>) -> Node<T, T> {
    let count = count.clone();
    step(name, move |_cx: Context, x: T| {
        count.fetch_add(1, Ordering::SeqCst);
        async move { Ok(x) }
    })
}

pub(super) fn count() -> Arc<AtomicU32> {
    Arc::default()
}

pub(super) fn times(count: &Arc<AtomicU32>) -> u32 {
    count.load(Ordering::SeqCst)
}

pub(super) fn memory() -> Arc<MemoryStore> {
    Arc::new(MemoryStore::new())
}

pub(super) fn waits_at<O>(report: &Report<O>) -> Vec<&str> {
    report.pauses().iter().map(|pause| pause.path.as_str()).collect()
}

pub(super) fn said<O: std::fmt::Debug>(report: Report<O>) -> String {
    report.into_result().unwrap_err().to_string()
}

/// Row 34: human input. The question is made of the value; the answer goes on beside it.
#[tokio::test]
async fn an_answerer_answers_at_once() {
    let review = ask("review", |draft: &String| format!("is `{draft}` any good?"));
    let join = step("join", async |_cx: Context, (draft, grade): (String, u8)| {
        Ok(format!("{draft}: {grade}"))
    });
    let flow = Flow::new("f").then(review).then(join);
    let run = flow.run("a poem".to_owned());
    let (events, report) = run
        .answer(async |question: String| {
            assert_eq!(question, "is `a poem` any good?");
            Ok(7_u8)
        })
        .events(64);

    let report = report.await;

    assert_eq!(report.attempts("f/review").count(), 1);
    assert_eq!(report.into_result().unwrap(), "a poem: 7");
    let kinds: Vec<Kind> = events.map(|event| event.kind).collect().await;
    assert_eq!(
        kinds[1..5],
        [
            Kind::StepStarted,
            Kind::Asked(json!("is `a poem` any good?")),
            Kind::Answered,
            Kind::StepDone
        ]
    );
}

/// Row 34: human input. Each type of question has its own answerer.
#[tokio::test]
async fn questions_find_their_answerer_by_type() {
    let (text, number) = (ask("text", |x: &u32| x.to_string()), ask("number", |x: &u32| *x));
    let flow = Flow::new("f").then(all("g", (text, number)));
    let run = flow.run(7).answer(async |question: String| Ok(format!("text {question}")));
    let run = run.answer(async |question: u32| Ok(question + 1));
    assert_eq!(run.await.into_result().unwrap(), ((7, "text 7".to_owned()), (7, 8_u32)));
}

/// Row 34: human input. An answerer that fails is a failed attempt: tried again, traced, timed out like any other.
#[tokio::test(start_paused = true)]
async fn a_failing_answerer_is_tried_again() {
    let flow = Flow::new("f").then(
        ask("review", |x: &u32| *x).retry(Retry::at_once(3)).timeout(Duration::from_secs(60)),
    );
    let calls = count();
    let called = calls.clone();
    let run = flow.run(7).answer(move |x: u32| {
        let call = called.fetch_add(1, Ordering::SeqCst);
        async move {
            match call {
                0 => Err(StepError::failed("the line is dead")),
                1 => std::future::pending().await,
                _ => Ok(x),
            }
        }
    });
    let report = run.await;

    let outcomes: Vec<String> = report.trace.iter().map(|a| format!("{:?}", a.outcome)).collect();
    assert_eq!(
        outcomes,
        [r#"Failed("the line is dead")"#, r#"Failed("no result within 60s")"#, "Done"]
    );
    assert_eq!(report.into_result().unwrap(), (7, 7_u32));
}

/// Row 34: human input. An answerer of another type than the step wants is a mistake in the program, and is named.
#[tokio::test]
async fn an_answerer_of_another_type_is_named() {
    let flow =
        Flow::new("f").then(ask::<u32, u32, bool>("review", |x| *x).retry(Retry::at_once(3)));
    let report = flow.run(7).answer(async |x: u32| Ok(u64::from(x))).await;
    assert_eq!(report.trace.len(), 1);
    assert_eq!(
        said(report),
        "`f/review`: the answerer gives a `u64`, and the step wants a `bool`; change one of them"
    );
}

/// Row 34: human input. With nobody to answer and nowhere to wait, it says what is missing.
#[tokio::test]
async fn nobody_to_answer_is_said() {
    let flow = Flow::new("f").then(ask::<u32, u32, bool>("review", |x| *x));
    assert_eq!(
        said(flow.run(7).await),
        "`f/review`: nobody can answer a `u32`: give the run an answerer with `Run::answer`, \
         or a store to wait in with `Run::store`"
    );
    let other = flow.run(7).answer(async |_: String| Ok(true)).await;
    assert!(said(other).contains("nobody can answer a `u32`"));
}

/// Row 34: human input. A question is plain data, or it is refused.
#[tokio::test]
async fn a_question_is_plain_data() {
    let flow =
        Flow::new("f").then(ask::<u32, Volatile<u32>, bool>("review", |x| Volatile::new(*x)));
    assert_eq!(
        said(flow.run(7).store(memory()).await),
        "`f/review`: invalid output: the question is volatile; it has to be kept"
    );
}

/// Row 35: approval gate. A yes lets the value pass as it was.
#[tokio::test]
async fn a_yes_lets_the_value_pass() {
    let paid = count();
    let flow =
        Flow::new("f").then(approve("refund", |r: &Refund| r.amount)).then(counted("pay", &paid));
    let refund = Refund { amount: 70, to: "Ada".into() };
    let run = flow.run(refund.clone()).answer(async |_: u32| Ok(Decision::yes().by("Bob")));
    assert_eq!(run.await.into_result().unwrap(), refund);
    assert_eq!(times(&paid), 1);
}

/// Row 35: approval gate. A no is an error that nothing tries again, and what comes after is not run.
#[tokio::test]
async fn a_no_is_final() {
    let (asked, paid) = (count(), count());
    let gate = approve("refund", |r: &Refund| r.amount).retry(Retry::at_once(5));
    let flow = Flow::new("f").then(gate).then(counted("pay", &paid));
    let calls = asked.clone();
    let run = flow.run(Refund { amount: 70, to: "Ada".into() }).answer(move |_: u32| {
        calls.fetch_add(1, Ordering::SeqCst);
        async move { Ok(Decision::no().by("Bob").note("too much")) }
    });
    let error = run.await.into_result().unwrap_err();

    assert!(
        matches!(&error.kind, ErrorKind::Denied(decision) if decision.by.as_deref() == Some("Bob"))
    );
    assert_eq!(error.to_string(), "`f/refund`: denied by Bob: too much");
    assert_eq!((times(&asked), times(&paid)), (1, 0));
}

/// Row 35: approval gate. A denial can be a way on, too.
#[tokio::test]
async fn a_denial_can_be_settled() {
    let flow = Flow::new("f").then(settled("gate", approve("refund", |amount: &u32| *amount)));
    let run = flow.run(7).answer(async |_: u32| Ok(Decision::no()));
    let failure = run.await.into_result().unwrap().unwrap_err();
    assert_eq!(
        (failure.kind.as_str(), failure.to_string().as_str()),
        ("denied", "`f/gate/refund`: denied")
    );
}

/// Row 35: approval gate. It is asked once, before the attempts of the step it guards.
#[tokio::test]
async fn a_gate_is_asked_once_before_the_attempts() {
    let asked = count();
    let pay = step("pay", async |cx: Context, x: u32| match cx.attempt() {
        3 => Ok(x),
        _ => Err(StepError::failed("declined")),
    });
    let flow =
        Flow::new("f").then(approve("gate", |x: &u32| *x)).then(pay).retry(Retry::at_once(3));
    let calls = asked.clone();
    let run = flow.run(7).answer(move |_: u32| {
        calls.fetch_add(1, Ordering::SeqCst);
        async move { Ok(Decision::yes()) }
    });
    assert_eq!(run.await.into_result().unwrap(), 7);
    assert_eq!(times(&asked), 1);
}

/// Row 35: approval gate. A decision is what a form would send; who and why are optional.
#[test]
fn a_decision_is_plain_data() {
    let read = |text: &str| serde_json::from_str::<Decision>(text);
    assert_eq!(read(r#"{"approved": true}"#).unwrap(), Decision::yes());
    let full = Decision::no().by("Ada").note("twice");
    assert_eq!(read(&serde_json::to_string(&full).unwrap()).unwrap(), full);
    assert!(read(r#"{"by": "Ada"}"#).is_err(), "nothing is approved by default");
}
