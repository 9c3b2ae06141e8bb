//! Rows 18 and 19: the time of an attempt, and the time of a run.

use std::time::Duration;

use agentflow_flow::{
    Context, ErrorKind, Flow, Kind, Next, Node, Outcome, Retry, Settled, StepError, all, each,
    each_settled, node, repeat, settled, step,
};
use tokio::time::{Instant, sleep};

use crate::probe::{Gauge, Log, fails, nap, pass, paths, secs, watched, with};

/// Takes as many seconds as it has attempts left to three: three, then two, then one.
fn faster_each_time(log: &Log) -> Node<u32, u32> {
    with(log, "work", async |log: Log, cx: Context, x: u32| {
        let _end = log.at_end(format!("end {}", cx.attempt()));
        log.say(format!("begin {}", cx.attempt()));
        sleep(secs(4 - u64::from(cx.attempt()))).await;
        Ok(x)
    })
}

/// Row 18: step timeout. It is per attempt, cancels the attempt, and can heal.
#[tokio::test(start_paused = true)]
async fn an_attempt_that_takes_too_long_is_dropped_and_tried_again() {
    let log = Log::default();
    let work = faster_each_time(&log).timeout(Duration::from_millis(1500));
    let (report, events) = watched(Flow::new("f").then(work.retry(Retry::at_once(3))).run(7)).await;
    assert_eq!(log.words(), ["begin 1", "end 1", "begin 2", "end 2", "begin 3", "end 3"]);
    assert_eq!(report.took, Duration::from_millis(1500 + 1500 + 1000));
    let late = "no result within 1.5s".to_owned();
    assert_eq!(report.trace[0].outcome, Outcome::Failed(late.clone()));
    let told = events.iter().filter(|event| event.kind == Kind::StepFailed { error: late.clone() });
    assert_eq!(told.count(), 2);
    assert_eq!(report.into_result().unwrap(), 7);
}

/// Row 18: after the last attempt, the timeout is the failure.
#[tokio::test(start_paused = true)]
async fn a_timeout_says_what_the_limit_was() {
    let flow = Flow::new("f").then(nap::<u32>("slow", 9).timeout(secs(2)).retry(Retry::at_once(2)));
    let error = flow.run(1).await.into_result().unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Timeout(limit) if limit == secs(2)));
    assert_eq!(error.to_string(), "`f/slow`, 2 attempts: no result within 2s");
}

/// Row 18: `when` can tell a timeout from a failure.
#[tokio::test(start_paused = true)]
async fn a_timeout_need_not_be_tried_again() {
    let when = |error: &StepError| !matches!(error.kind(), ErrorKind::Timeout(_));
    let retry = Retry { when, ..Retry::at_once(3) };
    let report = Flow::new("f").then(nap("slow", 9).timeout(secs(2)).retry(retry)).run(1_u32).await;
    assert_eq!(report.error().unwrap().attempts, 1);
}

/// Row 18: neither the waits between attempts nor the wait for a place are time of an attempt.
#[tokio::test(start_paused = true)]
async fn only_the_attempt_itself_is_timed() {
    let work = nap::<u32>("work", 2).limit(1).timeout(secs(3));
    let report = Flow::new("f").then(each("m", 4, work)).run(vec![1, 2, 3, 4]).await;
    assert_eq!(report.took, secs(8));
    assert!(report.into_result().is_ok());
    let once = step(
        "once",
        async |cx: Context, x: u32| {
            if cx.attempt() == 1 { Err(StepError::failed("once")) } else { Ok(x) }
        },
    );
    let retry = Retry { first: secs(10), jitter: false, ..Retry::default() };
    let report = Flow::new("f").then(once.retry(retry).timeout(secs(3))).run(1).await;
    assert_eq!(report.took, secs(10));
    assert!(report.into_result().is_ok());
}

/// Row 18: a group has a timeout like any node, and its branches are gone before it is tried again.
#[tokio::test(start_paused = true)]
async fn a_group_that_takes_too_long_ends_its_branches_first() {
    let log = Log::default();
    let branch = |name: &str| {
        with(&log, name, async |log: Log, cx: Context, x: u32| {
            let _end = log.at_end("end");
            log.say("begin");
            sleep(secs(if cx.path().to_string().contains("#2") { 1 } else { 9 })).await;
            Ok(x)
        })
    };
    let group = all("g", (branch("a"), all("in", (branch("b"), branch("c")))));
    let group = group.timeout(secs(2)).retry(Retry::at_once(2));
    let report = Flow::new("f").then(group).run(1).await;
    let once = ["begin", "begin", "begin", "end", "end", "end"];
    assert_eq!(log.words(), [once, once].concat());
    for path in ["f/g/a", "f/g/in/b", "f/g/in/c", "f/g/in"] {
        assert_eq!(report.attempts(path).next().unwrap().outcome, Outcome::Cancelled, "{path}");
    }
    assert_eq!(report.took, secs(3));
    assert_eq!(report.into_result().unwrap(), (1, (1, 1)));
}

/// Row 18: a step that hands work to a task can tell it to stop.
#[tokio::test(start_paused = true)]
async fn what_a_step_started_elsewhere_hears_of_the_end() {
    let log = Log::default();
    let work = with(&log, "work", async |log: Log, cx: Context, x: u32| {
        tokio::spawn(async move {
            cx.cancelled().await;
            log.say("heard");
        });
        sleep(secs(9)).await;
        Ok(x)
    });
    let report =
        Flow::new("f").then(settled("s", work.timeout(secs(2)))).then(nap("on", 1)).run(1).await;
    assert_eq!((log.words(), report.took), (vec!["heard".to_owned()], secs(3)));
}

/// Row 18: the longest timeout there is is none.
#[tokio::test(start_paused = true)]
async fn a_timeout_of_for_ever_is_no_panic() {
    let flow = Flow::new("f").then(nap("work", 5).timeout(Duration::MAX));
    assert_eq!(flow.run(1_u32).await.into_result().unwrap(), 1);
    assert_eq!(flow.run(1_u32).deadline(Duration::MAX).await.into_result().unwrap(), 1);
}

/// Row 19: run deadline. PenguiFlow notices 0.1 s after 1.0 s; ours bites while a step is running.
#[tokio::test(start_paused = true)]
async fn a_deadline_ends_the_step_that_is_running() {
    let log = Log::default();
    let work = with(&log, "work", async |log: Log, _cx: Context, x: u32| {
        let _end = log.at_end("end");
        sleep(secs(100)).await;
        log.say("not ended");
        Ok(x)
    });
    let flow = Flow::new("f").then(nap("before", 1)).then(work).then(pass("after"));
    let report = flow.run(1).deadline(secs(5)).await;
    assert_eq!((report.took, log.words()), (secs(5), vec!["end".to_owned()]));
    assert_eq!(paths(&report), ["f/before", "f/work"]);
    let error = report.into_result().unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Deadline));
    assert_eq!(error.to_string(), "`f/work`: the deadline of the run has passed");
}

/// Row 19: a run that is done in time knows nothing of it.
#[tokio::test(start_paused = true)]
async fn a_run_in_time_is_done() {
    let report =
        Flow::new("f").then(nap("a", 2)).then(nap("b", 2)).run(1_u32).deadline(secs(5)).await;
    assert_eq!((report.took, report.into_result().unwrap()), (secs(4), 1));
}

/// Row 19: it holds during the wait for the next attempt, and ends the waiting.
#[tokio::test(start_paused = true)]
async fn a_deadline_ends_a_wait_between_attempts() {
    let retry = Retry { first: secs(60), cap: secs(60), ..Retry::attempts(3) };
    let flow = Flow::new("f").then(fails::<u32>("a", 1).retry(retry));
    let report = flow.run(1).deadline(secs(5)).await;
    assert_eq!((report.took, report.trace.len()), (secs(5), 1));
    assert!(matches!(report.error().unwrap().kind, ErrorKind::Deadline));
}

/// Row 19: no second attempt is made of what the deadline ended.
#[tokio::test(start_paused = true)]
async fn a_deadline_is_not_tried_again() {
    let slow = nap::<u32>("slow", 9).timeout(secs(5)).retry(Retry::at_once(5));
    let report = Flow::new("f").then(slow).run(1).deadline(secs(5)).await;
    assert_eq!((report.took, report.trace.len()), (secs(5), 1));
    assert!(matches!(report.error().unwrap().kind, ErrorKind::Deadline));
}

/// Row 19: it reaches branches in tasks of their own, and they are gone when the report is there.
#[tokio::test(start_paused = true)]
async fn a_deadline_ends_every_branch() {
    let gauge = Gauge::default();
    let item = with(&gauge, "item", async |gauge: Gauge, _cx: Context, x: u32| {
        let _inside = gauge.enter();
        sleep(secs(100)).await;
        Ok(x)
    });
    let inner = all("in", (item.clone(), nap("short", 1)));
    let flow = Flow::new("f").then(each("m", 3, all("out", (inner, nap("long", 100)))));
    let (report, events) = watched(flow.run(vec![1, 2, 3, 4]).deadline(secs(5))).await;
    assert_eq!((report.took, gauge.most(), gauge.now()), (secs(5), 3, 0));
    assert!(matches!(report.error().unwrap().kind, ErrorKind::Deadline));
    for n in 0..3 {
        for name in ["in/item", "in", "long"] {
            let path = format!("f/m[{n}]/out/{name}");
            assert_eq!(report.attempts(&path).count(), 1, "{path}");
        }
    }
    assert!(matches!(events.last().unwrap().kind, Kind::RunEnded(_)), "{:?}", events.last());
}

/// Row 19: on several threads, too, whatever a branch is doing at that moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_time_that_is_up_leaves_nothing_behind_on_many_threads() {
    type Outputs = (Vec<u32>, u32);
    let gauge = Gauge::default();
    let busy = with(
        &gauge,
        "busy",
        async |gauge: Gauge, _cx: Context, _: u32| -> Result<u32, StepError> {
            let _inside = gauge.enter();
            loop {
                tokio::task::yield_now().await;
            }
        },
    );
    let list = step("list", async |_cx: Context, n: u32| Ok(vec![0; n as usize]));
    let busy = Flow::new("busy").then(list).then(each("m", 8, busy));
    let group = all("g", (busy, pass("fine")));
    let left = async |gauge: Gauge, _cx: Context, _: Settled<Outputs>| Ok(gauge.now());
    let soon = Duration::from_millis(1);
    let limited = Flow::new("f")
        .then(settled("s", group.clone().timeout(soon)))
        .then(with(&gauge, "left", left));
    let open = Flow::new("f").then(group);
    for _ in 0..50 {
        assert_eq!(limited.run(20).await.into_result().unwrap(), 0);
        let report = open.run(20).deadline(soon).await;
        assert_eq!((report.error().unwrap().kind.name(), gauge.now()), ("deadline", 0));
    }
}

/// Row 19: it holds while a step waits for a place.
#[tokio::test(start_paused = true)]
async fn a_deadline_ends_a_wait_for_a_place() {
    let flow = Flow::new("f").then(nap::<u32>("work", 60).limit(1));
    let other = tokio::spawn(flow.run(1).into_future());
    tokio::task::yield_now().await;
    let report = flow.run(2).deadline(secs(5)).await;
    assert_eq!((report.took, report.trace.len()), (secs(5), 0));
    assert!(matches!(report.error().unwrap().kind, ErrorKind::Deadline));
    assert_eq!(other.await.unwrap().took, secs(60));
}

/// Row 19: it holds between steps that never wait for anything.
#[tokio::test]
async fn a_deadline_ends_a_loop_that_never_waits() {
    let spin = step("spin", async |_cx: Context, x: u32| Ok(Next::<_, u32>::Again(x)));
    let flow = Flow::new("f").then(repeat("loop", u32::MAX, spin));
    let error = flow.run(1).deadline(Duration::from_millis(20)).await.into_result().unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Deadline), "{error}");
}

/// Row 19: the run is over; no branch settles that, and no recovery runs after it.
#[tokio::test(start_paused = true)]
async fn a_deadline_is_never_settled() {
    let log = Log::default();
    let after = with(&log, "after", async |log: Log, _cx: Context, x: Vec<Settled<u32>>| {
        log.say("after");
        Ok(x.len())
    });
    let flow = Flow::new("f").then(each_settled("m", 2, nap("slow", 9))).then(after);
    let report = flow.run(vec![1]).deadline(secs(5)).await;
    assert!(matches!(report.error().unwrap().kind, ErrorKind::Deadline));
    let report =
        Flow::new("f").then(settled("s", nap::<u32>("slow", 9))).run(1).deadline(secs(5)).await;
    assert!(matches!(report.error().unwrap().kind, ErrorKind::Deadline));
    assert!(log.words().is_empty());
}

/// Row 19: children are under the deadline of the run, and steps can ask what is left.
#[tokio::test(start_paused = true)]
async fn a_child_is_under_the_deadline_of_the_run() {
    let left = step("left", async |cx: Context, (): ()| Ok(cx.remaining()));
    let child = Flow::new("child").then(nap("wait", 2)).then(left);
    let call = |child: Flow<(), Option<Duration>>| {
        step("call", move |cx: Context, (): ()| {
            let child = child.clone();
            async move { cx.call("child", &child, ()).await }
        })
    };
    let flow = Flow::new("f").then(call(child.clone()));
    assert_eq!(flow.run(()).deadline(secs(5)).await.into_result().unwrap(), Some(secs(3)));
    assert_eq!(flow.run(()).await.into_result().unwrap(), None);
    let report = flow.run(()).deadline(secs(1)).await;
    let error = report.error().unwrap();
    assert_eq!((report.took, error.path.to_string().as_str()), (secs(1), "f/call/child/wait"));
}

/// Row 19: it counts from when the run is awaited, not from when it was made.
#[tokio::test(start_paused = true)]
async fn a_deadline_counts_from_the_start() {
    let run = Flow::new("f").then(nap::<u32>("a", 4)).run(1).deadline(secs(5));
    sleep(secs(60)).await;
    let started = Instant::now();
    assert_eq!(run.await.into_result().unwrap(), 1);
    assert_eq!(started.elapsed(), secs(4));
}

/// Row 19: the shorter of a timeout and the deadline is the one that is reported.
#[tokio::test(start_paused = true)]
async fn a_timeout_within_the_deadline_is_a_timeout() {
    let slow = |limit| Flow::new("f").then(node("n", nap::<u32>("slow", 9)).timeout(secs(limit)));
    let kind = |report: agentflow_flow::Report<u32>| report.into_result().unwrap_err().kind.name();
    assert_eq!(kind(slow(2).run(1).deadline(secs(3)).await), "timeout");
    assert_eq!(kind(slow(4).run(1).deadline(secs(3)).await), "deadline");
}
