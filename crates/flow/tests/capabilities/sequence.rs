//! Rows 1 to 3: steps in a row, what they receive, steps that block.

use std::thread;
use std::time::{Duration, Instant};

use agentflow_flow::{Context, ErrorKind, Flow, Node, Outcome, Retry, StepError, blocking, step};
use tokio::sync::mpsc;

use crate::probe::{Log, fails, pass, paths, secs, with};

fn says(log: &Log, name: &str) -> Node<u32, u32> {
    with(log, name, async |log: Log, cx: Context, x: u32| {
        log.say(cx.path().name());
        Ok(x + 1)
    })
}

/// Row 1: sequential steps.
#[tokio::test]
async fn steps_run_in_the_order_in_which_they_were_added() {
    let log = Log::default();
    let flow =
        Flow::new("f").then(says(&log, "a")).then(says(&log, "b")).then(says(&log, "another"));
    let report = flow.run(0).await;
    assert_eq!(log.words(), ["a", "b", "another"]);
    assert_eq!(paths(&report), ["f/a", "f/b", "f/another"]);
    assert_eq!(report.into_result().unwrap(), 3);
}

/// Row 1: a step that fails is the last one.
#[tokio::test]
async fn nothing_runs_after_a_failure() {
    let log = Log::default();
    let flow = Flow::new("f").then(says(&log, "a")).then(fails("b", 0)).then(says(&log, "c"));
    let report = flow.run(0).await;
    assert_eq!(log.words(), ["a"]);
    assert_eq!(paths(&report), ["f/a", "f/b"]);
    assert_eq!(report.error().unwrap().to_string(), "`f/b`: b is broken");
}

/// Row 1: what a flow is made of does not depend on where it was written; a common beginning is a value.
#[tokio::test]
async fn flows_share_a_beginning() {
    let log = Log::default();
    let begin = Flow::new("f").then(says(&log, "begin"));
    let (one, two) = (begin.clone().then(says(&log, "one")), begin.clone().then(says(&log, "two")));
    for flow in [&one, &two, &begin] {
        flow.run(0).await.into_result().unwrap();
    }
    assert_eq!(log.words(), ["begin", "one", "begin", "two", "begin"]);
}

/// Row 1: length costs no stack.
#[tokio::test]
async fn ten_thousand_steps_are_a_loop() {
    let log = Log::default();
    let flow = (0..10_000).fold(Flow::new("long"), |flow, n| flow.then(says(&log, &n.to_string())));
    assert_eq!(flow.run(0).await.into_result().unwrap(), 10_000);
}

/// Row 2: what a step receives.
#[tokio::test]
async fn each_step_receives_the_output_of_the_one_before() {
    let flow = Flow::new("f")
        .then(step("words", async |_cx: Context, text: String| {
            Ok(text.split(' ').map(str::to_owned).collect::<Vec<_>>())
        }))
        .then(step("count", async |_cx: Context, words: Vec<String>| Ok((words.len(), words))))
        .then(step("last", async |_cx: Context, (n, words): (usize, Vec<String>)| {
            Ok(format!("{n}: {}", words[n - 1]))
        }));
    assert_eq!(flow.run("to be or".to_owned()).await.into_result().unwrap(), "3: or");
}

/// Row 2: next to its input, a step knows where it is.
#[tokio::test]
async fn a_step_knows_its_place() {
    let place = step("place", async |cx: Context, (): ()| {
        Ok((cx.run_id().to_string(), cx.path().to_string(), cx.attempt(), cx.key()))
    });
    let report = Flow::new("f").then(place).run(()).await;
    let run = report.run.to_string();
    let (id, path, attempt, key) = report.into_result().unwrap();
    assert_eq!((id, path.as_str(), attempt), (run.clone(), "f/place", 1));
    assert_eq!(key, format!("{run}/f/place"));
}

/// Row 3: sync (blocking) steps.
#[tokio::test]
async fn a_blocking_step_leaves_the_thread_of_the_run_free() {
    let here = thread::current().id();
    let flow = Flow::new("f")
        .then(blocking("there", move |_cx: &Context, x: u32| {
            thread::sleep(Duration::from_millis(1));
            Ok((x, thread::current().id() != here))
        }))
        .then(pass("after"));
    assert_eq!(flow.run(7).await.into_result().unwrap(), (7, true));
}

/// Row 3: a blocking step has the policy of any node.
#[tokio::test]
async fn a_blocking_step_is_tried_again() {
    let second = blocking("work", |cx: &Context, (): ()| match cx.attempt() {
        1 => Err(StepError::failed("not yet")),
        n => Ok(n),
    });
    let flow = Flow::new("f").then(second.retry(Retry::at_once(3)));
    assert_eq!(flow.run(()).await.into_result().unwrap(), 2);
}

/// Row 3: a panic on the other thread is a failure of the step.
#[tokio::test]
async fn a_blocking_step_that_panics_fails_at_its_path() {
    let flow = Flow::new("f").then(blocking("work", |_cx: &Context, x: u32| Ok(100 / x)));
    let error = flow.run(0).await.into_result().unwrap_err();
    assert_eq!(error.path, "f/work");
    assert!(matches!(error.kind, ErrorKind::Panicked(text) if text.contains("divide by zero")));
}

/// Works until its attempt is over, and tells when it starts and whether it was told to end.
fn patient(told: mpsc::UnboundedSender<bool>) -> Node<(), ()> {
    blocking("patient", move |cx: &Context, (): ()| {
        told.send(false)?;
        let give_up = Instant::now() + secs(30);
        while !cx.is_cancelled() && Instant::now() < give_up {
            thread::sleep(Duration::from_millis(1));
        }
        told.send(cx.is_cancelled())?;
        Ok(())
    })
}

/// Row 3: after a timeout the run goes on at once, and the thread is told to end.
#[tokio::test(start_paused = true)]
async fn a_blocking_step_can_ask_whether_it_timed_out() {
    let (told, mut hears) = mpsc::unbounded_channel();
    let flow = Flow::new("f").then(patient(told).timeout(secs(5)));
    let run = tokio::spawn(flow.run(()).into_future());
    assert_eq!(hears.recv().await, Some(false));
    tokio::time::advance(secs(5)).await;
    let report = run.await.unwrap();
    assert!(matches!(report.error().unwrap().kind, ErrorKind::Timeout(limit) if limit == secs(5)));
    assert_eq!(hears.recv().await, Some(true));
}

/// Row 3: Orchflow's thread worked on for a run that was gone; ours is told.
#[tokio::test]
async fn a_blocking_step_can_ask_whether_the_run_was_dropped() {
    let (told, mut hears) = mpsc::unbounded_channel();
    let run = tokio::spawn(Flow::new("f").then(patient(told)).run(()).into_future());
    assert_eq!(hears.recv().await, Some(false));
    run.abort();
    assert_eq!(hears.recv().await, Some(true));
}

/// Row 3: blocking branches run at once, and one that is cancelled is no output of the group.
#[tokio::test]
async fn a_blocking_branch_is_told_that_its_sibling_failed() {
    let (told, mut hears) = mpsc::unbounded_channel();
    let (started, starts) = tokio::sync::oneshot::channel::<()>();
    let starts = std::sync::Arc::new(tokio::sync::Mutex::new(Some(starts)));
    let bad = with(&starts, "bad", async |starts, _cx: Context, (): ()| {
        starts.lock().await.take().unwrap().await?;
        Err::<(), _>(StepError::failed("bad"))
    });
    let flow = Flow::new("f").then(agentflow_flow::all("both", (patient(told), bad)));
    let run = tokio::spawn(flow.run(()).into_future());
    assert_eq!(hears.recv().await, Some(false));
    started.send(()).unwrap();
    let report = run.await.unwrap();
    assert_eq!(report.error().unwrap().path, "f/both/bad");
    let outcome = &report.attempts("f/both/patient").next().unwrap().outcome;
    assert_eq!(*outcome, Outcome::Cancelled);
    assert_eq!(hears.recv().await, Some(true));
}
