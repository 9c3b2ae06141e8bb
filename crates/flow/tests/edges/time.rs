//! Times beyond the clock, and ends that no timer notices.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use agentflow_flow::{
    Context, ErrorKind, Flow, Gathered, MemoryStore, Retry, StepError, gather, step,
};
use futures::StreamExt;
use tokio::time::Instant;

use crate::probe::{Alive, SECOND, id, stuck};

#[tokio::test(start_paused = true)]
async fn times_beyond_the_clock_are_no_limit() {
    let flow = Flow::new("f")
        .then(step("a", async |_cx: Context, x: u32| Ok(x + 1)).timeout(Duration::MAX));
    let run = flow.run(1).deadline(Duration::MAX);
    assert_eq!(run.await.into_result().unwrap(), 2);

    let together = gather(futures::stream::iter([1, 2]), |_| (), 2, Duration::MAX);
    assert_eq!(together.collect::<Vec<_>>().await, [Gathered::Complete((), vec![1, 2])]);
}

#[tokio::test(start_paused = true)]
async fn a_wait_beyond_the_clock_ends_with_the_deadline() {
    let fails = step("a", async |_cx: Context, _: u32| {
        Err::<u32, _>(StepError::failed("busy").retry_after(Duration::MAX))
    });
    let retry = Retry { cap: Duration::MAX, factor: f64::INFINITY, ..Retry::attempts(u32::MAX) };
    let report = Flow::new("f").then(fails.retry(retry)).run(1).deadline(SECOND).await;
    assert!(matches!(report.error().unwrap().kind, ErrorKind::Deadline));
}

#[tokio::test(start_paused = true)]
async fn no_time_at_all_is_a_timeout() {
    let flow = Flow::new("f").then(stuck("a", &Alive::default()).timeout(Duration::ZERO));
    let report = flow.run(1).await;
    assert!(matches!(report.error().unwrap().kind, ErrorKind::Timeout(Duration::ZERO)));
}

/// The first step blocks its thread, so that no timer can strike while it runs.
#[tokio::test]
async fn no_step_starts_after_the_deadline() {
    let started = Arc::new(AtomicUsize::new(0));
    let seen = started.clone();
    let flow = Flow::new("f")
        .then(step("slow", async |_cx: Context, x: u32| {
            std::thread::sleep(Duration::from_millis(20));
            Ok(x)
        }))
        .then(step("late", move |_cx: Context, x: u32| {
            seen.fetch_add(1, SeqCst);
            async move { Ok(x) }
        }));
    let report = flow.run(1).deadline(Duration::from_millis(1)).await;
    assert!(matches!(report.error().unwrap().kind, ErrorKind::Deadline));
    assert_eq!(started.load(SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn a_resumed_run_waits_between_attempts_as_if_it_were_new() {
    let store = MemoryStore::new();
    let retry =
        Retry { attempts: 3, first: SECOND, factor: 10.0, jitter: false, ..Retry::default() };
    let fails = step("a", async |_cx: Context, _: u32| Err::<u32, _>(StepError::failed("busy")));
    let flow = Flow::new("f").then(fails.retry(retry));
    let begun = Instant::now();
    let _ = flow.run(1).id(id("r")).store(Arc::new(store.clone())).await;
    assert_eq!(begun.elapsed(), 11 * SECOND);
    let begun = Instant::now();
    let report = flow.resume(Arc::new(store), id("r")).await;
    assert_eq!(begun.elapsed(), 11 * SECOND);
    assert_eq!(report.error().unwrap().attempts, 6);
}

/// A stream that always has another item must not keep an incomplete key from being given up.
#[tokio::test]
async fn a_busy_stream_does_not_keep_a_key_waiting() {
    let mut next = 0;
    let items = futures::stream::repeat_with(move || {
        std::thread::sleep(Duration::from_micros(50));
        next += 1;
        next
    });
    // 0 comes once, all others in pairs: only 0 can be incomplete.
    let keys = futures::stream::iter([0]).chain(items.map(|n| n / 2 + 1));
    let mut together = Box::pin(gather(keys, |key| *key, 2, Duration::from_millis(2)));
    let mut complete = 0;
    loop {
        match together.next().await.unwrap() {
            Gathered::Incomplete(0, items) => break assert_eq!(items, [0]),
            _ => complete += 1,
        }
        assert!(complete < 50_000, "0 is still waited for");
    }
}
