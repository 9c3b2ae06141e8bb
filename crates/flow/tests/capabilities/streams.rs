//! Rows 12, 22 and 23: joins by key over a stream, back-pressure, and how many are in one node at once.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use agentflow_flow::{
    Context, ErrorKind, Flow, Gathered, Node, Retry, StepError, each, gather, step,
};
use futures::{Stream, StreamExt, future, stream};
use tokio::time::{Instant, sleep};

use crate::probe::{Gauge, Log, fails, nap, secs, watched, with};

/// Items with the second at which they come.
fn coming<T: Send + 'static, const N: usize>(items: [(u64, T); N]) -> impl Stream<Item = T> + Send {
    let start = Instant::now();
    stream::iter(items).then(move |(at, item)| async move {
        tokio::time::sleep_until(start + secs(at)).await;
        item
    })
}

fn by_letter(word: &&'static str) -> char {
    word.chars().next().unwrap_or('-')
}

use Gathered::{Complete, Incomplete};

/// Row 12: by key over a stream: k of a key, in the order in which they came.
#[tokio::test(start_paused = true)]
async fn gather_puts_together_k_of_a_key() {
    let words = coming([(0, "a1"), (1, "b1"), (2, "a2"), (3, "b2"), (4, "a3"), (5, "a4")]);
    let got: Vec<_> = gather(words, by_letter, 2, secs(60)).collect().await;
    assert_eq!(
        got,
        [
            Complete('a', vec!["a1", "a2"]),
            Complete('b', vec!["b1", "b2"]),
            Complete('a', vec!["a3", "a4"]),
        ]
    );
}

/// Row 12: in PenguiFlow a key that never fills stays for ever. Ours is given as it is when its time is up.
#[tokio::test(start_paused = true)]
async fn gather_gives_up_on_a_key_in_time() {
    let words = coming([(0, "a1"), (3, "b1"), (7, "a2"), (8, "b2"), (99, "c1")]);
    let started = Instant::now();
    let mut got = pin!(gather(words, by_letter, 2, secs(6)));
    assert_eq!(got.next().await, Some(Incomplete('a', vec!["a1"])));
    assert_eq!(started.elapsed(), secs(6));
    assert_eq!(got.next().await, Some(Complete('b', vec!["b1", "b2"])));
    // The time of a key counts from its first item.
    assert_eq!(got.next().await, Some(Incomplete('a', vec!["a2"])));
    assert_eq!(started.elapsed(), secs(13));
    assert_eq!(got.next().await, Some(Incomplete('c', vec!["c1"])));
    assert_eq!(got.next().await, None);
}

/// Row 12: nothing is left over at the end, and it comes in the order of the first items.
#[tokio::test(start_paused = true)]
async fn gather_leaves_nothing_behind() {
    let numbers = stream::iter(0_u32..100);
    let got: Vec<_> = gather(numbers, |n| *n, 2, secs(6)).collect().await;
    let expected: Vec<_> = (0..100).map(|n| Incomplete(n, vec![n])).collect();
    assert_eq!(got, expected);
}

/// Row 12: one at least, and no limit of time that panics.
#[tokio::test(start_paused = true)]
async fn gather_takes_odd_numbers() {
    for k in [0, 1] {
        let got: Vec<_> = gather(stream::iter(["a1", "a2"]), by_letter, k, secs(1)).collect().await;
        assert_eq!(got, [Complete('a', vec!["a1"]), Complete('a', vec!["a2"])]);
    }
    let words = coming([(0, "a1"), (9, "a2")]);
    let got: Vec<_> = gather(words, by_letter, 2, Duration::MAX).collect().await;
    assert_eq!(got, [Complete('a', vec!["a1", "a2"])]);
    let none: Vec<Gathered<u32, u32>> = gather(stream::empty(), |n| *n, 2, secs(1)).collect().await;
    assert_eq!(none, []);
}

/// Numbers from 0, which counts those that were pulled.
fn counted(pulled: &Arc<AtomicUsize>) -> impl Stream<Item = u64> + Send + use<> {
    let pulled = pulled.clone();
    stream::iter(0..).inspect(move |_| {
        pulled.fetch_add(1, SeqCst);
    })
}

/// Row 22: back-pressure. The source is pulled as far ahead as there are runs at once, and no further.
#[tokio::test(start_paused = true)]
async fn a_slow_reader_slows_the_source() {
    let (pulled, gauge) = (Arc::default(), Gauge::default());
    let work = with(&gauge, "work", async |gauge: Gauge, _cx: Context, x: u64| {
        let _inside = gauge.enter();
        sleep(secs(1)).await;
        Ok(x)
    });
    let mut reports = pin!(Flow::new("f").then(work).pipe(counted(&pulled), 3));
    assert_eq!(pulled.load(SeqCst), 0, "nothing is pulled that nobody waits for");
    for taken in 1..=5 {
        let (_, report) = reports.next().await.unwrap();
        assert!(report.into_result().is_ok());
        sleep(secs(60)).await; // the reader takes its time
        assert!(pulled.load(SeqCst) <= taken + 3, "{} pulled", pulled.load(SeqCst));
    }
    assert_eq!(gauge.most(), 3);
}

/// Row 22: a source that is slow is waited for, and its end is the end.
#[tokio::test(start_paused = true)]
async fn a_pipe_ends_with_its_source() {
    let flow = Flow::new("f").then(nap("work", 2));
    let started = Instant::now();
    let reports = flow.pipe(coming([(0, 'a'), (1, 'b'), (5, 'c')]), 8);
    let ended: Vec<_> =
        reports.map(|(n, report)| (n, report.into_result().unwrap())).collect().await;
    assert_eq!(ended, [(0, 'a'), (1, 'b'), (2, 'c')]);
    assert_eq!(started.elapsed(), secs(7));
    assert_eq!(flow.pipe(stream::empty::<char>(), 8).count().await, 0);
}

/// Sleeps for its input.
fn sleeper(gauge: &Gauge) -> Node<u64, u64> {
    with(gauge, "sleep", async |gauge: Gauge, _cx: Context, x: u64| {
        let _inside = gauge.enter();
        sleep(secs(x)).await;
        Ok(x)
    })
}

/// Row 22: reports come as runs end, with the index of their input.
#[tokio::test(start_paused = true)]
async fn a_pipe_gives_reports_as_runs_end() {
    let flow = Flow::new("f").then(sleeper(&Gauge::default()));
    let reports = flow.pipe(stream::iter([5, 1, 3]), 8);
    let ended: Vec<_> =
        reports.map(|(n, report)| (n, report.into_result().unwrap())).collect().await;
    assert_eq!(ended, [(1, 1), (2, 3), (0, 5)]);
}

/// Row 22: nothing at once means one.
#[tokio::test(start_paused = true)]
async fn a_pipe_is_bounded() {
    for (in_flight, most, took) in [(0, 1, 6), (1, 1, 6), (2, 2, 3), (100, 6, 1)] {
        let (gauge, started) = (Gauge::default(), Instant::now());
        let reports = Flow::new("f").then(sleeper(&gauge)).pipe(stream::iter([1; 6]), in_flight);
        assert_eq!(reports.count().await, 6);
        assert_eq!((gauge.most(), started.elapsed()), (most, secs(took)), "in flight: {in_flight}");
    }
}

/// Row 22: in PenguiFlow a message that failed is gone in silence. Here each input has a report.
#[tokio::test]
async fn a_run_that_fails_is_a_report_like_others() {
    let divide = step("divide", async |_cx: Context, x: u32| match x {
        3 => Err(StepError::failed("not three")),
        x => Ok(12 / x),
    });
    let reports = Flow::new("f").then(divide).pipe(stream::iter([4, 0, 3, 6]), 2);
    let mut ended: Vec<_> = reports
        .map(|(n, report)| (n, report.into_result().map_err(|error| error.kind.name())))
        .collect()
        .await;
    ended.sort_by_key(|(n, _)| *n);
    assert_eq!(ended, [(0, Ok(3)), (1, Err("panicked")), (2, Err("failed")), (3, Ok(2))]);
}

/// Row 22: runs have options, each its own.
#[tokio::test(start_paused = true)]
async fn a_pipe_gives_each_run_its_options() {
    let flow = Flow::new("f").then(sleeper(&Gauge::default()));
    let reports =
        flow.pipe_with(stream::iter([5, 5]), 8, |n, _, run| run.deadline(secs(n as u64 + 1)));
    let ended: Vec<_> = reports.map(|(n, report)| (n, report.took)).collect().await;
    assert_eq!(ended, [(0, secs(1)), (1, secs(2))]);
}

/// Row 22: who stops reading ends what runs.
#[tokio::test(start_paused = true)]
async fn dropping_a_pipe_cancels_its_runs() {
    let gauge = Gauge::default();
    let flow = Flow::new("f").then(each("m", 2, sleeper(&gauge)));
    let mut reports = Box::pin(flow.pipe(stream::iter([vec![1, 1], vec![99, 99], vec![99]]), 3));
    assert_eq!(reports.next().await.unwrap().0, 0);
    assert_eq!(gauge.now(), 3);
    drop(reports);
    sleep(Duration::from_millis(1)).await;
    assert_eq!(gauge.now(), 0);
}

/// Row 23: concurrency within a node. In PenguiFlow one slow message holds up all behind it.
#[tokio::test(start_paused = true)]
async fn a_slow_run_holds_nobody_up() {
    let flow = Flow::new("f").then(sleeper(&Gauge::default()));
    let slow = tokio::spawn(flow.run(100).into_future());
    let started = Instant::now();
    let runs = future::join_all((0..100).map(|_| flow.run(1).into_future())).await;
    assert!(runs.into_iter().all(|report| report.into_result().is_ok()));
    assert_eq!(started.elapsed(), secs(1));
    assert_eq!(slow.await.unwrap().took, secs(100));
}

/// Row 23: a limit holds over all runs, flows and copies of a node.
#[tokio::test(start_paused = true)]
async fn a_limit_holds_across_runs() {
    for (limit, most) in [(0, 1), (1, 1), (3, 3), (usize::MAX, 12)] {
        let gauge = Gauge::default();
        let work = sleeper(&gauge).limit(limit);
        let one = Flow::new("one").then(nap("before", 1)).then(work.clone());
        let other = Flow::new("other").then(nap("before", 1)).then(work);
        let runs = (0..6).flat_map(|_| [one.run(1).into_future(), other.run(1).into_future()]);
        let started = Instant::now();
        future::join_all(runs).await;
        assert_eq!(gauge.most(), most, "limit {limit}");
        assert_eq!(started.elapsed(), secs(1 + 12_u64.div_ceil(most as u64)), "limit {limit}");
    }
}

/// Row 23: who waits for the next attempt takes no place.
#[tokio::test(start_paused = true)]
async fn a_limit_is_not_held_between_attempts() {
    let log = Log::default();
    let work = with(&log, "work", async |log: Log, cx: Context, x: u32| {
        log.say(format!("{x}.{}", cx.attempt()));
        if (x, cx.attempt()) == (1, 1) { Err(StepError::failed("later")) } else { Ok(x) }
    });
    let retry = Retry { first: secs(10), jitter: false, ..Retry::attempts(2) };
    let flow = Flow::new("f").then(each("m", 3, work.limit(1).retry(retry)));
    assert!(flow.run(vec![1, 2, 3]).await.into_result().is_ok());
    assert_eq!(log.words(), ["1.1", "2.1", "3.1", "1.2"]);
}

/// Row 23: a place comes free however an attempt ends.
#[tokio::test(start_paused = true)]
async fn a_place_is_given_back_by_every_end() {
    let work = step("work", async |_cx: Context, x: u32| match x {
        0 => Err(StepError::failed("failed")),
        1 => panic!("panicked"),
        2 => future::pending().await,
        x => Ok(x),
    });
    let flow = Flow::new("f").then(work.limit(1).timeout(secs(60)));
    let kind = async |x| flow.run(x).await.into_result().unwrap_err().kind.name();
    assert_eq!([kind(0).await, kind(1).await, kind(2).await], ["failed", "panicked", "timeout"]);
    let late = flow.run(2).deadline(secs(1)).await;
    assert!(matches!(late.error().unwrap().kind, ErrorKind::Deadline));
    let dropped = tokio::time::timeout(secs(1), flow.run(2).into_future()).await;
    assert!(dropped.is_err());
    let last = flow.run(7).deadline(secs(1)).await;
    assert_eq!((last.took, last.into_result().unwrap()), (secs(0), 7));
}

/// Row 23: waiting for a place is no part of an attempt: neither in its time nor in its events.
#[tokio::test(start_paused = true)]
async fn an_attempt_begins_when_it_has_a_place() {
    let flow = Flow::new("f").then(each("m", 2, nap::<u32>("work", 3).limit(1)));
    let (report, _) = watched(flow.run(vec![1, 2])).await;
    let took =
        ["f/m[0]/work", "f/m[1]/work"].map(|path| report.attempts(path).next().unwrap().took);
    assert_eq!(took, [secs(3), secs(3)]);
    assert_eq!(report.took, secs(6));
}

/// Row 23: a limit of a group holds for the group as a whole.
#[tokio::test(start_paused = true)]
async fn a_group_has_a_limit_like_any_node() {
    let gauge = Gauge::default();
    let flow = Flow::new("f").then(each("m", 2, sleeper(&gauge)).limit(1));
    let runs = (0..3).map(|_| flow.run(vec![1, 1, 1]).into_future());
    let started = Instant::now();
    future::join_all(runs).await;
    assert_eq!((gauge.most(), started.elapsed()), (2, secs(6)));
    let failing = Flow::new("f").then(fails::<u32>("bad", 1).limit(1));
    assert!(failing.run(1).await.into_result().is_err());
}
