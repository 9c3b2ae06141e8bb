//! Those who watch: 7, 20.

use std::sync::{Arc, Mutex, mpsc};

use agentflow_flow::{Context, Event, Flow, Kind, Watched, each, step};
use futures::StreamExt;
use tokio::sync::Notify;

use crate::probe::{Count, counted, in_an_hour, pass};

/// A StepFlow hook that raises turns a paid step into a failed one.
#[tokio::test]
async fn line_07_a_failing_observer_cannot_fail_the_run() {
    let paid = Count::default();
    let flow = Flow::new("f").then(counted("pay", &paid)).then(pass("thank"));
    let report = flow.run(1).observe(|_: &Event| panic!("the log is down")).await;
    assert_eq!(paid.get(), 1);
    assert!(report.error().is_none());
    // Each of the six events was shown to it, and none is hidden.
    assert_eq!(report.observers.finished().await, Watched { panics: 6, missed: 0 });
    assert_eq!(report.into_result().unwrap(), 1);
}

/// 50 ms of PenguiFlow middleware make five messages take 0.46 s. Here the observer does not return at all before the
/// run is over.
#[tokio::test]
async fn line_07_a_slow_observer_cannot_slow_the_run() {
    let (go, wait) = mpsc::channel::<()>();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sees = seen.clone();
    let flow = Flow::new("f").then(each("all", 5, pass::<u32>("a")));
    let run = flow.run((0..5).collect()).observe(move |event: &Event| {
        let _ = wait.recv();
        sees.lock().unwrap().push(event.seq);
    });
    let report = run.await;
    assert!(seen.lock().unwrap().is_empty(), "the run waited for its observer");
    drop(go);
    assert_eq!(report.observers.finished().await, Watched::default());
    assert_eq!(*seen.lock().unwrap(), (0..14).collect::<Vec<u64>>());
}

/// Orchflow's queue of events has no bound: 500 steps ran ahead of a reader that sat on event 1, and all were kept.
#[tokio::test(start_paused = true)]
async fn line_20_a_reader_that_falls_behind_is_told_what_it_missed() {
    let go = Arc::new(Notify::new());
    let gate = go.clone();
    let wait = step("wait", move |_cx: Context, x: u32| {
        let gate = gate.clone();
        async move {
            gate.notified().await;
            Ok(x)
        }
    });
    let flow = (1..500)
        .fold(Flow::new("f").then(wait), |flow, n| flow.then(pass::<u32>(&format!("s{n}"))));
    let (mut events, report) = flow.run(1).events(16);
    let report = tokio::spawn(report);
    let first = events.next().await.unwrap();
    assert_eq!((first.seq, &first.kind), (0, &Kind::RunStarted));
    // It sits on event 1. The run does not wait for it.
    go.notify_one();
    let report = in_an_hour(report).await.unwrap();
    assert_eq!(report.trace.len(), 500, "the trace is whole all the same");

    let rest: Vec<Event> = events.collect().await;
    assert_eq!(rest.len(), 1 + 16, "no more was kept than was asked for");
    // 1,002 in all: one was read, 16 were kept.
    assert_eq!(rest[0].kind, Kind::Lagged(1002 - 1 - 16));
    let kept: Vec<u64> = rest[1..].iter().map(|event| event.seq).collect();
    assert_eq!(kept, (986..1002).collect::<Vec<u64>>());
}

/// What was dropped for a slow reader is freed: its memory is bounded by its capacity.
#[tokio::test]
async fn line_20_memory_is_bounded_by_the_capacity() {
    let mib = "x".repeat(1 << 20);
    let tells = step("tells", move |cx: Context, x: u32| {
        (0..400).for_each(|_| cx.progress(&mib));
        async move { Ok(x) }
    });
    let before = resident_mib();
    let (events, report) = Flow::new("f").then(tells).run(1).events(4);
    let report = report.await;
    let grown = resident_mib().saturating_sub(before);
    assert!(grown < 200, "{grown} MiB are kept for a reader that may keep 4");
    assert!(report.error().is_none());
    assert_eq!(events.count().await, 1 + 4);
}

/// Of this process, as the system sees it.
fn resident_mib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<usize>().ok());
    kib.unwrap_or_default() / 1024
}
