//! Rows 29 and 30: traces, results and errors.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use agentflow_flow::{
    Attempt, Context, Decision, End, ErrorKind, Flow, FlowError, MemoryStore, Next, Node, Report,
    Retry, RunId, StepError, StoreError, all, approve, each, repeat, settled, step, switch,
};
use serde_json::json;

/// Fails as often as its input says, then gives the number of the attempt.
fn heals_after(name: &str) -> Node<u32, u32> {
    step(name, async |cx: Context, failures: u32| match cx.attempt() {
        attempt if attempt > failures => Ok(attempt),
        attempt => Err(StepError::failed(format!("failure {attempt}"))),
    })
}

fn lines<O>(report: &Report<O>) -> Vec<String> {
    let line = |attempt: &Attempt| {
        let earlier = if attempt.earlier { "earlier " } else { "" };
        format!("{earlier}{} {} {:?}", attempt.path, attempt.attempt, attempt.outcome)
    };
    report.trace.iter().map(line).collect()
}

/// Row 29: traces. One entry per attempt, with failures, in the order in which they ended.
#[tokio::test]
async fn a_trace_has_every_attempt() {
    let flow = Flow::new("f").then(all("g", (heals_after("a").retry(Retry::at_once(3)),)));
    let report = flow.run(2).await;
    assert_eq!(
        lines(&report),
        [
            r#"f/g/a 1 Failed("failure 1")"#,
            r#"f/g/a 2 Failed("failure 2")"#,
            "f/g/a 3 Done",
            "f/g 1 Done",
        ]
    );
    assert_eq!(report.attempts("f/g/a").count(), 3);
    assert_eq!(report.attempts("f/g").count(), 1);
    assert_eq!(report.attempts("f").count(), 0);
}

/// Row 29: traces. A branch that was cancelled says so; it is neither done nor failed.
#[tokio::test]
async fn a_cancelled_branch_is_in_the_trace() {
    let waits = step("waits", async |_cx: Context, _: u32| {
        std::future::pending::<()>().await;
        Ok(0_u32)
    });
    let flow = Flow::new("f").then(all("g", (waits, heals_after("fails"))));
    let report = flow.run(1).await;
    assert_eq!(
        lines(&report),
        [
            r#"f/g/fails 1 Failed("failure 1")"#,
            "f/g/waits 1 Cancelled",
            r#"f/g 1 Failed("failure 1")"#,
        ]
    );
}

/// Row 29: traces. Times are those of the clock that timeouts run on, and add up.
#[tokio::test(start_paused = true)]
async fn a_trace_knows_when_and_how_long() {
    let nap = |name: &str| {
        step(name, async |cx: Context, seconds: u64| {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            cx.spend("naps", 1)?;
            Ok(seconds)
        })
    };
    let report = Flow::new("f").then(nap("a")).then(nap("b")).run(3).await;
    let [a, b] = &report.trace[..] else { panic!("{:?}", report.trace) };
    assert_eq!(
        (a.took, b.took, report.took),
        (Duration::from_secs(3), Duration::from_secs(3), Duration::from_secs(6))
    );
    assert_eq!(b.started.duration_since(a.started).unwrap(), Duration::from_secs(3));
    assert_eq!(a.spent, BTreeMap::from([("naps".to_owned(), 1)]));
    assert_eq!(report.spent, BTreeMap::from([("naps".to_owned(), 2)]));
}

/// Row 29: traces. Asked for, a trace shows what each step got, not what the run got.
#[tokio::test]
async fn a_trace_can_show_what_each_step_got() {
    let double = |name: &str| step(name, async |_cx: Context, x: u32| Ok(2 * x));
    let sum = step("sum", async |_cx: Context, (x, y): (u32, u32)| Ok(x + y));
    let flow =
        Flow::new("f").then(double("a")).then(all("g", (double("b"), double("c")))).then(sum);

    let report = flow.run(1).trace_inputs().await;

    let input = |path: &str| report.attempts(path).next().unwrap().input.clone().unwrap();
    assert_eq!(input("f/a"), json!(1));
    assert_eq!(input("f/g"), json!(2));
    assert_eq!(input("f/g/c"), json!(2));
    assert_eq!(input("f/sum"), json!([4, 4]));
    let unasked = flow.run(1).await;
    assert!(unasked.trace.iter().all(|attempt| attempt.input.is_none()));
}

/// Row 29: traces. A resumed run has the attempts of the processes before it, and goes on counting.
#[tokio::test]
async fn attempts_are_counted_across_resumes() {
    let store = Arc::new(MemoryStore::new());
    let id = RunId::new("mine").unwrap();
    let second = step("second", async |cx: Context, _: u32| {
        cx.spend("tokens", 5)?;
        match cx.attempt() {
            4 => Ok(4),
            attempt => Err(StepError::failed(format!("failure {attempt}"))),
        }
    });
    let flow = Flow::new("f").then(heals_after("first")).then(second.retry(Retry::at_once(2)));

    let first = flow.run(0).id(id.clone()).store(store.clone()).await;
    assert_eq!(first.error().unwrap().attempts, 2);
    let resumed = flow.resume(store, id).await;

    assert_eq!(
        lines(&resumed),
        [
            "earlier f/first 1 Done",
            r#"earlier f/second 1 Failed("failure 1")"#,
            r#"earlier f/second 2 Failed("failure 2")"#,
            r#"f/second 3 Failed("failure 3")"#,
            "f/second 4 Done",
        ]
    );
    assert_eq!(resumed.spent["tokens"], 20);
    let earlier = &resumed.trace[1];
    assert_eq!((earlier.path.name(), earlier.path.parent().unwrap().name()), ("second", "f"));
    assert_eq!(earlier.started, millis(first.trace[1].started));
}

/// What a journal keeps of a time.
fn millis(at: SystemTime) -> SystemTime {
    let since = at.duration_since(UNIX_EPOCH).unwrap();
    UNIX_EPOCH + Duration::from_millis(since.as_millis() as u64)
}

/// Row 29: traces. It is plain data for a file or a page.
#[tokio::test]
async fn a_trace_is_json() {
    let report =
        Flow::new("f").then(heals_after("a").retry(Retry::at_once(2))).run(1).trace_inputs().await;
    let mut trace = serde_json::to_value(&report.trace).unwrap();
    for attempt in trace.as_array_mut().unwrap() {
        let fields = attempt.as_object_mut().unwrap();
        assert!(fields.shift_remove("started").is_some() && fields.shift_remove("took").is_some());
    }
    assert_eq!(
        trace,
        json!([
            {"path": "f/a", "attempt": 1, "outcome": {"failed": "failure 1"}, "input": 1},
            {"path": "f/a", "attempt": 2, "outcome": "done", "input": 1},
        ])
    );
}

/// Row 30: result and errors. A run that is done is its output, also through `?`.
#[tokio::test]
async fn a_done_run_is_its_output() -> Result<(), FlowError> {
    let flow = Flow::new("f").then(heals_after("a"));
    let report = flow.run(0).await;
    assert!(report.error().is_none() && report.pauses().is_empty());
    assert!(matches!(report.end, End::Done(1)));
    assert_eq!(flow.run(0).await.into_result()?, 1);
    Ok(())
}

/// Row 30: result and errors. A run that failed for good is a value, too: nobody waits for ever, nothing is lost.
#[tokio::test]
async fn a_failed_run_is_a_report() {
    let report = Flow::new("f").then(heals_after("a").retry(Retry::at_once(2))).run(9).await;
    assert!(matches!(report.end, End::Failed(_)));
    assert_eq!(report.trace.len(), 2);
    let error = report.into_result().unwrap_err();
    assert_eq!(
        (error.path.to_string().as_str(), error.attempts, error.kind.name()),
        ("f/a", 2, "failed")
    );
    assert_eq!(error.to_string(), "`f/a`, 2 attempts: failure 2");
}

/// Row 30: result and errors. A paused run has no output yet.
#[tokio::test]
async fn a_paused_run_has_no_output_yet() {
    let flow = Flow::new("f").then(approve("gate", |x: &u32| *x));
    let report = flow.run(1).store(Arc::new(MemoryStore::new())).await;
    assert!(report.error().is_none());
    assert_eq!(report.pauses().len(), 1);
    let error = report.into_result().unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Paused));
    assert_eq!(error.to_string(), "`f/gate`: waiting for an answer");
}

#[derive(Debug, thiserror::Error)]
#[error("cannot reach the bank")]
struct Unreachable(#[source] std::io::Error);

/// Row 30: result and errors. The cause is chained behind the step's own error, and can be taken out again.
#[tokio::test]
async fn the_cause_is_chained() {
    let pay = step("pay", async |_cx: Context, _: u32| -> Result<u32, StepError> {
        let refused = std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "port closed");
        Err(Unreachable(refused))?
    });
    let error = Flow::new("f").then(all("g", (pay,))).run(1).await.into_result().unwrap_err();

    assert_eq!(error.to_string(), "`f/g/pay`: cannot reach the bank");
    let cause = error.source().unwrap();
    assert_eq!(cause.to_string(), "port closed");
    assert!(cause.downcast_ref::<std::io::Error>().is_some());
    let ErrorKind::Failed(own) = &error.kind else { panic!("{error:?}") };
    assert!(own.downcast_ref::<Unreachable>().is_some());
}

/// Row 30: result and errors. The innermost node that failed is named, once, however deep it is.
#[tokio::test]
async fn the_innermost_node_is_named() {
    let inner = Flow::new("child").then(each("items", 1, heals_after("one")));
    let loops = repeat(
        "loop",
        3,
        step("hop", async |_cx: Context, n: u32| -> Result<Next<u32, u32>, StepError> {
            if n == 2 { Err(StepError::failed("stuck")) } else { Ok(Next::Again(n + 1)) }
        }),
    );
    let error = Flow::new("f").then(all("g", (inner,))).run(vec![0, 7]).await.into_result();
    assert_eq!(error.unwrap_err().to_string(), "`f/g/child/items[1]/one`: failure 1");
    let error = Flow::new("f").then(loops).run(0).await.into_result();
    assert_eq!(error.unwrap_err().to_string(), "`f/loop[2]/hop`: stuck");
}

/// Row 30: result and errors. Every kind of failure says what was wrong, where, and what can be done about it.
#[tokio::test(start_paused = true)]
async fn every_kind_has_its_message() {
    async fn message(node: Node<u32, u32>) -> String {
        let run = Flow::new("f").then(node).run(7).budget("tokens", 100);
        let run = run.deadline(Duration::from_secs(60));
        let run = run.answer(async |_: String| Ok(Decision::no().by("Ada").note("too much")));
        let error = run.await.into_result().unwrap_err();
        format!("{} {error}", error.kind.name())
    }
    let fails = |fail: fn(&Context, u32) -> Result<u32, StepError>| {
        step("a", move |cx: Context, x: u32| async move { fail(&cx, x) })
    };
    let sleeps = |seconds| {
        step("a", move |_cx: Context, x: u32| async move {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            Ok(x)
        })
    };
    let again = step("hop", async |_cx: Context, x: u32| Ok(Next::<u32, u32>::Again(x)));

    assert_eq!(
        message(fails(|_, x| Ok("no number".parse::<u32>()? + x))).await,
        "failed `f/a`: invalid digit found in string"
    );
    assert_eq!(
        message(fails(|_, _| Err(StepError::fatal("no such file")))).await,
        "fatal `f/a`: no such file"
    );
    assert_eq!(
        message(sleeps(9).timeout(Duration::from_millis(1500))).await,
        "timeout `f/a`: no result within 1.5s"
    );
    assert_eq!(
        message(fails(|_, _| Err(StepError::invalid("not sorted")))).await,
        "invalid `f/a`: invalid output: not sorted"
    );
    assert_eq!(message(fails(|_, x| panic!("at {x}"))).await, "panicked `f/a`: panicked: at 7");
    assert_eq!(
        message(fails(|_, x| std::panic::panic_any(x))).await,
        "panicked `f/a`: panicked: with a value that is no text"
    );
    let by_label = switch("a").on(|x| format!("size {x}")).arm("small", sleeps(1)).strict();
    assert_eq!(
        message(by_label).await,
        "no_route `f/a`: no arm takes the label `size 7`; add one, or end the switch with `otherwise`"
    );
    let by_value = switch("a").when("small", |x| *x < 5, sleeps(1)).strict();
    assert_eq!(
        message(by_value).await,
        "no_route `f/a`: no arm takes this `u32`; add one, or end the switch with `otherwise`"
    );
    assert_eq!(
        message(approve("a", |x: &u32| x.to_string())).await,
        "denied `f/a`: denied by Ada: too much"
    );
    assert_eq!(
        message(repeat("a", 3, again)).await,
        "hops `f/a`: no result after 3 hops; allow more, or end the loop earlier"
    );
    assert_eq!(
        message(fails(|cx, x| cx.spend("tokens", 60).and(cx.spend("tokens", 60)).map(|()| x)))
            .await,
        "budget `f/a`: the budget of 100 tokens is used up: 120 were spent"
    );
    assert_eq!(message(sleeps(90)).await, "deadline `f/a`: the deadline of the run has passed");
    assert_eq!(ErrorKind::Cancelled.to_string(), "cancelled");
    assert_eq!(ErrorKind::Paused.to_string(), "waiting for an answer");
}

/// Row 30: result and errors. A store that cannot do what it is asked says what stands in the way.
#[tokio::test]
async fn a_store_says_what_stands_in_the_way() {
    let flow = Flow::new("f").then(heals_after("a"));
    let store = Arc::new(MemoryStore::new());
    let id = RunId::new("mine").unwrap();
    let unknown = flow.resume(store.clone(), id.clone()).await.into_result().unwrap_err();
    assert!(matches!(unknown.kind, ErrorKind::Store(StoreError::NotFound { .. })));
    assert_eq!(unknown.to_string(), "`f`: there is no run `mine` in memory");

    flow.run(0).id(id.clone()).store(store.clone()).await.into_result().unwrap();
    let twice = flow.run(0).id(id).store(store).await.into_result().unwrap_err();
    assert!(matches!(twice.kind, ErrorKind::Store(StoreError::Exists { .. })));
    assert_eq!(
        twice.to_string(),
        "`f`: run `mine` exists already; resume it, or start one under another id"
    );
}

/// Row 30: result and errors. A failure that became a value keeps what the error said.
#[tokio::test]
async fn a_settled_failure_keeps_what_the_error_said() {
    let flow = Flow::new("f").then(settled("try", heals_after("a").retry(Retry::at_once(2))));
    let failure = flow.run(9).await.into_result().unwrap().unwrap_err();
    assert_eq!(
        (failure.path.as_str(), failure.attempts, failure.kind.as_str()),
        ("f/try/a", 2, "failed")
    );
    assert_eq!(failure.to_string(), "`f/try/a`, 2 attempts: failure 2");
}

/// Row 30: result and errors. A name for a run that cannot name a file is refused before there is a run.
#[test]
fn a_run_is_named_so_that_a_file_can_be() {
    for name in ["", "a/b", "..", ".hidden", "a b", &"x".repeat(101)] {
        let error = RunId::new(name).unwrap_err().to_string();
        let wanted = format!(
            "`{name}` cannot name a run; use up to 100 letters, digits, `-`, `_` and `.`, not starting with `.`"
        );
        assert_eq!(error, wanted);
    }
    assert_eq!(RunId::new("2024-05-01_gsm8k.v2").unwrap().as_str(), "2024-05-01_gsm8k.v2");
    assert!(serde_json::from_str::<RunId>("\"../up\"").is_err());
}
