//! Rows 40 and 41: cancel and stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use agentflow_flow::{
    Context, Data, End, Flow, Node, Outcome, Retry, StepError, all, blocking, each, first_k,
    repeat, settled, step,
};
use futures::{StreamExt, stream};
use tokio::sync::{Notify, mpsc};

/// What is running: each is counted until it is dropped.
#[derive(Clone, Default)]
struct Alive(Arc<AtomicU32>);

impl Alive {
    fn guard(&self) -> Guard {
        self.0.fetch_add(1, Ordering::SeqCst);
        Guard(self.0.clone())
    }

    fn now(&self) -> u32 {
        self.0.load(Ordering::SeqCst)
    }

    /// A step that never ends by itself.
    fn hangs<I: Data>(&self, name: &str) -> Node<I, I> {
        let alive = self.clone();
        step(name, move |_cx: Context, x: I| {
            let alive = alive.clone();
            async move {
                let _guard = alive.guard();
                std::future::pending::<()>().await;
                Ok(x)
            }
        })
    }
}

struct Guard(Arc<AtomicU32>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn until(what: impl Fn() -> bool) {
    while !what() {
        tokio::task::yield_now().await;
    }
}

/// Drops a run of `flow` once `running` of its steps run, and waits until none does.
async fn drop_while_running<I: Data, O: Data>(
    flow: Flow<I, O>,
    input: I,
    alive: &Alive,
    running: u32,
) {
    let run = tokio::spawn(flow.run(input).into_future());
    until(|| alive.now() == running).await;
    run.abort();
    assert!(run.await.is_err_and(|error| error.is_cancelled()));
    until(|| alive.now() == 0).await;
}

/// Row 40: cancel. Dropping a run reaches every branch, in every kind of node, on one thread and on many.
#[tokio::test]
async fn dropping_a_run_reaches_every_branch() {
    let alive = Alive::default();
    every_branch(&alive).await;
}

/// Row 40: cancel. The same, with branches on several threads.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn dropping_a_run_reaches_every_thread() {
    let alive = Alive::default();
    for _ in 0..20 {
        every_branch(&alive).await;
    }
}

async fn every_branch(alive: &Alive) {
    drop_while_running(Flow::new("f").then(alive.hangs("a")), 1, alive, 1).await;
    let pair = all("g", (alive.hangs("a"), all("h", (alive.hangs("b"), alive.hangs("c")))));
    drop_while_running(Flow::new("f").then(pair), 1, alive, 3).await;
    let child = Flow::new("child").then(alive.hangs("a"));
    drop_while_running(Flow::new("f").then(each("e", 4, child)), vec![1; 9], alive, 4).await;
    let race = first_k("k", 2, settled("s", alive.hangs("a")));
    drop_while_running(Flow::new("f").then(race), vec![1; 5], alive, 5).await;
    let hops = repeat::<u32, u32, _>(
        "r",
        3,
        Flow::new("hop")
            .then(alive.hangs("a"))
            .then(step("more", async |_cx: Context, x: u32| Ok(agentflow_flow::Next::Again(x)))),
    );
    drop_while_running(Flow::new("f").then(hops), 1, alive, 1).await;
    let called = Flow::new("called").then(all("g", (alive.hangs("a"), alive.hangs("b"))));
    let caller = step("caller", move |cx: Context, x: u32| {
        let called = called.clone();
        async move { cx.call("call", &called, x).await }
    });
    drop_while_running(Flow::new("f").then(caller), 1, alive, 2).await;
}

/// Row 40: cancel. A run that is dropped before it was awaited did nothing.
#[tokio::test]
async fn a_run_that_is_not_awaited_does_nothing() {
    let started = Arc::new(AtomicU32::new(0));
    let count = started.clone();
    let flow = Flow::new("f").then(step("a", move |_cx: Context, x: u32| {
        count.fetch_add(1, Ordering::SeqCst);
        async move { Ok(x) }
    }));
    drop(flow.run(1));
    drop(flow.run(1).into_future());
    tokio::task::yield_now().await;
    assert_eq!(started.load(Ordering::SeqCst), 0);
}

/// Row 40: cancel. Other runs of the same flow go on.
#[tokio::test]
async fn other_runs_go_on() {
    let flow = Flow::new("f").then(step("wait", async |cx: Context, x: u32| {
        cx.need::<Notify>()?.notified().await;
        Ok(x)
    }));
    let go_on = Arc::new(Notify::new());
    let run = |x| tokio::spawn(flow.run(x).provide(go_on.clone()).into_future());
    let (one, two) = (run(1), run(2));
    tokio::task::yield_now().await;
    one.abort();
    assert!(one.await.unwrap_err().is_cancelled());
    go_on.notify_waiters();
    assert_eq!(two.await.unwrap().into_result().unwrap(), 2);
}

/// A step that starts a task of its own, which ends when the context says that the attempt is over.
fn spawns(
    alive: &Alive,
    then: fn(&Context, u32) -> Result<Option<u32>, StepError>,
) -> Node<u32, u32> {
    let alive = alive.clone();
    step("spawns", move |cx: Context, x: u32| {
        let alive = alive.clone();
        async move {
            let (guard, outside) = (alive.guard(), cx.clone());
            tokio::spawn(async move {
                outside.cancelled().await;
                assert!(outside.is_cancelled());
                drop(guard);
            });
            tokio::task::yield_now().await;
            assert!(!cx.is_cancelled());
            match then(&cx, x)? {
                Some(output) => Ok(output),
                None => std::future::pending().await,
            }
        }
    })
}

/// Row 40: cancel. It reaches the tasks that a step started elsewhere: they are told when the attempt is over, however it
/// ended.
#[tokio::test(start_paused = true)]
async fn what_a_step_started_is_told() {
    let alive = Alive::default();
    let hangs = || spawns(&alive, |_, _| Ok(None));
    drop_while_running(Flow::new("f").then(hangs()), 1, &alive, 1).await;
    drop_while_running(Flow::new("f").then(all("g", (hangs(), alive.hangs("b")))), 1, &alive, 2)
        .await;

    let ends = async |node: Node<u32, u32>| {
        let _ = Flow::new("f").then(node).run(1).await;
        until(|| alive.now() == 0).await;
    };
    ends(spawns(&alive, |_, x| Ok(Some(x)))).await;
    ends(spawns(&alive, |_, _| Err(StepError::fatal("no")))).await;
    ends(spawns(&alive, |_, _| panic!("no"))).await;
    ends(hangs().timeout(Duration::from_secs(1))).await;
    let again =
        |cx: &Context, x| if cx.attempt() < 3 { Err(StepError::failed("no")) } else { Ok(Some(x)) };
    ends(spawns(&alive, again).retry(Retry::at_once(3))).await;
    let _ = Flow::new("f").then(hangs()).run(1).deadline(Duration::from_secs(1)).await;
    until(|| alive.now() == 0).await;
}

/// Row 40: cancel. Who asks after the attempt is over is told at once.
#[tokio::test]
async fn who_asks_late_is_told_at_once() {
    let (send, mut contexts) = mpsc::unbounded_channel();
    let flow = Flow::new("f").then(step("a", move |cx: Context, x: u32| {
        send.send(cx).unwrap();
        async move { Ok(x) }
    }));
    flow.run(1).await.into_result().unwrap();
    let cx = contexts.recv().await.unwrap();
    assert!(cx.is_cancelled());
    cx.cancelled().await;
}

/// Row 40: cancel. A blocking step cannot be stopped from outside; it is told, and the run does not wait for it.
#[tokio::test]
async fn a_blocking_step_is_told() {
    let alive = Alive::default();
    let inside = alive.clone();
    let works = blocking("works", move |cx: &Context, x: u32| {
        let _guard = inside.guard();
        while !cx.is_cancelled() {
            std::thread::yield_now();
        }
        Ok(x)
    });
    drop_while_running(Flow::new("f").then(works.clone()), 1, &alive, 1).await;
    let fails = step("fails", async |cx: Context, _: u32| -> Result<u32, StepError> {
        let alive = cx.need::<Alive>()?;
        until(|| alive.now() == 1).await;
        Err(StepError::fatal("no"))
    });
    let flow = Flow::new("f").then(all("g", (works, fails)));
    let report = flow.run(1).provide(Arc::new(alive.clone())).await;
    assert_eq!(report.attempts("f/g/works").next().unwrap().outcome, Outcome::Cancelled);
    until(|| alive.now() == 0).await;
}

/// Row 40: cancel. Siblings of a failure are gone when the group is; a cancelled branch is never an output.
#[tokio::test]
async fn siblings_of_a_failure_are_gone() {
    let alive = Alive::default();
    let fails = step("fails", async |cx: Context, _: u32| -> Result<u32, StepError> {
        let alive = cx.need::<Alive>()?;
        until(|| alive.now() == 2).await;
        Err(StepError::failed("no"))
    });
    let group = all("g", (alive.hangs("a"), fails, alive.hangs("b")));
    let after =
        step("after", async |cx: Context, result: agentflow_flow::Settled<(u32, u32, u32)>| {
            Ok((cx.need::<Alive>()?.now(), result.is_err()))
        });
    let flow = Flow::new("f").then(settled("s", group)).then(after);
    let report = flow.run(1).provide(Arc::new(alive)).await;
    assert_eq!(report.into_result().unwrap(), (0, true));
}

/// Row 41: stop. The way to stop is to end the input: what was taken is worked off, and nothing that was accepted is lost.
#[tokio::test]
async fn what_was_accepted_is_worked_off() {
    let slow = step("slow", async |_cx: Context, x: u32| {
        for _ in 0..x {
            tokio::task::yield_now().await;
        }
        Ok(x)
    });
    let (inputs, accepted) = mpsc::channel(20);
    for x in 0..20 {
        inputs.send(x).await.unwrap();
    }
    drop(inputs); // "stop": before anything was done
    let accepted =
        stream::unfold(accepted, async |mut inputs| Some((inputs.recv().await?, inputs)));

    let reports: Vec<_> = Flow::new("f").then(slow).pipe(accepted, 4).collect().await;

    let mut done: Vec<(usize, u32)> =
        reports.into_iter().map(|(index, report)| (index, report.into_result().unwrap())).collect();
    done.sort_unstable();
    assert_eq!(done, (0..20).map(|x| (x as usize, x)).collect::<Vec<_>>());
}

/// Row 41: stop. The way to stop at once is to drop the stream: everything in flight is cancelled.
#[tokio::test]
async fn a_dropped_stream_cancels_what_is_in_flight() {
    let alive = Alive::default();
    let mut reports =
        Box::pin(Flow::new("f").then(alive.hangs("a")).pipe(stream::repeat(1_u32), 3));
    assert!(futures::poll!(reports.next()).is_pending());
    until(|| alive.now() == 3).await;
    drop(reports);
    until(|| alive.now() == 0).await;
}

/// Row 41: stop. There is nothing to start either: a flow runs whenever it is asked to, also after all that was stopped.
#[tokio::test]
async fn a_flow_is_neither_started_nor_stopped() {
    let alive = Alive::default();
    let flow = Flow::new("f").then(all("g", (alive.hangs("a"), alive.hangs("b"))));
    for _ in 0..3 {
        drop_while_running(flow.clone(), 1, &alive, 2).await;
    }
    let done = Flow::new("f").then(step("a", async |_cx: Context, x: u32| Ok(x)));
    for _ in 0..3 {
        assert!(matches!(done.run(1).await.end, End::Done(1)));
    }
}
