//! Rows 31 to 33: events, progress, observers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use agentflow_flow::{
    Context, Ending, Event, Events, Flow, Kind, MemoryStore, Node, Observer, Retry, Step,
    StepError, Watched, all, each, node, step, switch,
};
use futures::StreamExt;
use serde_json::json;
use tokio::sync::Notify;

fn double(name: &str) -> Node<u32, u32> {
    step(name, async |_cx: Context, x: u32| Ok(2 * x))
}

async fn pay(_cx: Context, amount: u32) -> Result<u32, StepError> {
    Ok(amount)
}

async fn rest(events: Events) -> Vec<Event> {
    events.collect().await
}

fn lines(events: &[Event]) -> Vec<String> {
    let line = |event: &Event| format!("{} {} {:?}", event.path, event.attempt, event.kind);
    events.iter().map(line).collect()
}

fn assert_gapless(events: &[Event]) {
    assert!(events.iter().map(|event| event.seq).eq(0..events.len() as u64));
}

/// Row 31: lifecycle events. Exactly these, in this order, numbered without a gap.
#[tokio::test]
async fn a_small_flow_tells_exactly_this() {
    let flaky = step("flaky", async |cx: Context, x: u32| match cx.attempt() {
        1 => Err(StepError::failed("not yet")),
        _ => Ok(x),
    });
    let arms = switch("size").when("small", |x| *x < 100, pay).otherwise(pay);
    let flow = Flow::new("f").then(double("first")).then(flaky.retry(Retry::at_once(2))).then(arms);

    let (events, report) = flow.run(7).events(64);
    let report = report.await;
    let events = rest(events).await;

    assert_eq!(
        lines(&events),
        [
            "f 1 RunStarted",
            "f/first 1 StepStarted",
            "f/first 1 StepDone",
            "f/flaky 1 StepStarted",
            r#"f/flaky 1 StepFailed { error: "not yet" }"#,
            "f/flaky 1 RetryScheduled(0ns)",
            "f/flaky 2 StepStarted",
            "f/flaky 2 StepDone",
            "f/size 1 StepStarted",
            r#"f/size 1 Routed("small")"#,
            "f/size/small 1 StepStarted",
            "f/size/small 1 StepDone",
            "f/size 1 StepDone",
            "f 1 RunEnded(Done)",
        ]
    );
    assert_gapless(&events);
    assert!(events.iter().all(|event| event.run == report.run));
    assert!(events.iter().map(|event| event.at).is_sorted());
}

/// Row 31: lifecycle events. With a store, `Recorded` says that an output is durable, and comes before `StepDone`; a
/// resumed run says what it took from the journal.
#[tokio::test]
async fn recorded_and_replayed_are_told() {
    let flow = Flow::new("f").then(double("a"));
    let store = Arc::new(MemoryStore::new());
    let (events, report) = flow.run(1).store(store.clone()).events(64);
    let run = report.await.run;
    assert_eq!(
        lines(&rest(events).await),
        [
            "f 1 RunStarted",
            "f/a 1 StepStarted",
            "f/a 1 Recorded",
            "f/a 1 StepDone",
            "f 1 RunEnded(Done)"
        ]
    );
    let (events, report) = flow.resume(store, run).events(64);
    report.await;
    let events = rest(events).await;
    assert_eq!(lines(&events), ["f 1 RunStarted", "f/a 1 Replayed", "f 1 RunEnded(Done)"]);
    assert_gapless(&events);
}

/// Row 31: lifecycle events. A failure ends with the run's own end, and branches that were cancelled say so before it.
#[tokio::test]
async fn a_failed_run_tells_its_end_last() {
    let waits = step("waits", async |_cx: Context, x: u32| {
        std::future::pending::<()>().await;
        Ok(x)
    });
    let fails = step("fails", async |_cx: Context, _: u32| -> Result<u32, StepError> {
        Err(StepError::fatal("no"))
    });
    let (events, report) = Flow::new("f").then(all("g", (waits, fails))).run(1).events(64);
    assert!(report.await.error().is_some());
    let lines = lines(&rest(events).await);
    assert_eq!(
        lines[4..],
        [
            r#"f/g/fails 1 StepFailed { error: "no" }"#,
            "f/g/waits 1 StepCancelled",
            r#"f/g 1 StepFailed { error: "no" }"#,
            "f 1 RunEnded(Failed)",
        ]
    );
}

/// Row 31: lifecycle events. A run that is refused has a start and an end, too.
#[tokio::test]
async fn a_refused_run_tells_that_it_ended() {
    let (events, report) = Flow::<u32, u32>::new("f").run(1).events(64);
    assert!(report.await.error().is_some());
    assert_eq!(lines(&rest(events).await), ["f 1 RunStarted", "f 1 RunEnded(Failed)"]);
}

/// Row 31: lifecycle events. The run never waits for a slow reader, which is told how much it missed, to the event.
#[tokio::test]
async fn a_slow_reader_is_told_what_it_missed() {
    let mut flow = Flow::new("f").then(double("n0"));
    for n in 1..20 {
        flow = flow.then(step(&format!("n{n}"), async |_cx: Context, x: u32| Ok(x)));
    }
    let total = 2 + 2 * 20;
    for capacity in [1, 4, total, 100] {
        let (events, report) = flow.run(1).events(capacity);
        let report = report.await;
        let seen = rest(events).await;

        assert_eq!(report.trace.len(), 20, "the trace is whole all the same");
        let kept = capacity.min(total);
        let seen = if kept == total {
            &seen[..]
        } else {
            let lost = (total - kept) as u64;
            assert_eq!((&seen[0].kind, seen[0].seq), (&Kind::Lagged(lost), lost));
            &seen[1..]
        };
        assert!(seen.iter().map(|event| event.seq as usize).eq(total - kept..total));
        assert_eq!(seen.last().unwrap().kind, Kind::RunEnded(Ending::Done));
    }
}

/// Row 31: lifecycle events. A reader that comes and goes can add it up: what it saw and what it was told it missed.
#[tokio::test]
async fn seen_and_missed_add_up() {
    let tick = step("tick", async |_cx: Context, x: u32| {
        tokio::task::yield_now().await;
        Ok(x)
    });
    let (mut events, report) = Flow::new("f").then(each("e", 1, tick)).run(vec![0; 50]).events(3);
    let run = tokio::spawn(report);
    let (mut seen, mut missed, mut gaps) = (0, 0, 0);
    while let Some(event) = events.next().await {
        match event.kind {
            Kind::Lagged(n) => {
                assert_eq!(event.seq, seen + missed + n, "it stands right before what comes next");
                (missed, gaps) = (missed + n, gaps + 1);
            }
            _ => {
                assert_eq!(event.seq, seen + missed);
                seen += 1;
            }
        }
        if seen % 4 == 0 {
            for _ in 0..5 {
                tokio::task::yield_now().await;
            }
        }
    }
    run.await.unwrap().into_result().unwrap();
    assert_eq!(seen + missed, 2 + 2 + 2 * 50);
    assert!(gaps > 1, "only {gaps}");
}

/// Row 31: lifecycle events. A reader that stops reading does not matter to the run.
#[tokio::test]
async fn a_reader_that_leaves_does_not_matter() {
    let left = Arc::new(Notify::new());
    let waits = step("waits", async |cx: Context, x: u32| {
        cx.need::<Notify>()?.notified().await;
        Ok(2 * x)
    });
    let flow = Flow::new("f").then(waits).then(double("b"));
    let (mut events, report) = flow.run(1).provide(left.clone()).events(2);
    let run = tokio::spawn(report);
    assert_eq!(events.next().await.unwrap().kind, Kind::RunStarted);
    drop(events);
    left.notify_one();
    let report = run.await.unwrap();
    assert_eq!(report.trace.len(), 2);
    assert_eq!(report.into_result().unwrap(), 4);

    let (events, report) = Flow::new("f").then(double("a")).run(1).events(1);
    drop(events);
    assert_eq!(report.await.into_result().unwrap(), 2);
}

/// Row 31: lifecycle events. The stream ends with the run, also with one that never began.
#[tokio::test]
async fn the_stream_of_a_run_that_never_began_ends() {
    let (events, report) = Flow::new("f").then(double("a")).run(1).events(8);
    drop(report);
    assert_eq!(rest(events).await.len(), 0);
}

/// Row 31: lifecycle events. The stream of a run that was dropped ends, and says how: the run's end is the last event,
/// whatever its branches and their tasks still try to tell.
#[tokio::test]
async fn the_end_of_a_run_is_the_last_event() {
    let waits = |name: &str| {
        step(name, async |cx: Context, x: u32| {
            let outlives = cx.clone();
            tokio::spawn(async move {
                cx.cancelled().await;
                cx.progress("too late");
            });
            outlives.progress("in time");
            std::future::pending::<()>().await;
            Ok(x)
        })
    };
    for flow in [
        Flow::new("f").then(waits("a")),
        Flow::new("f")
            .then(all("g", (waits("a"), waits("b"))))
            .then(step("sum", async |_cx: Context, (a, b): (u32, u32)| Ok(a + b))),
    ] {
        let (mut events, report) = flow.run(1).events(64);
        let run = tokio::spawn(report);
        let mut seen = Vec::new();
        while seen.last() != Some(&Kind::Progress(json!("in time"))) {
            seen.push(events.next().await.unwrap().kind);
        }
        run.abort();
        assert!(run.await.unwrap_err().is_cancelled());
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        let rest = rest(events).await;
        assert_eq!(rest.last().unwrap().kind, Kind::RunEnded(Ending::Cancelled), "{rest:#?}");
        assert!(rest.iter().all(|event| event.kind != Kind::Progress(json!("too late"))));
    }
}

/// Row 31: lifecycle events. An event is plain data: a line of a log.
#[tokio::test]
async fn an_event_is_json() {
    let (events, report) = Flow::new("f").then(double("a").retry(Retry::never())).run(1).events(8);
    let run = report.await.run.to_string();
    let events = serde_json::to_value(rest(events).await).unwrap();
    let mut event = events[1].clone();
    assert!(event.as_object_mut().unwrap().shift_remove("at").is_some());
    assert_eq!(
        event,
        json!({"seq": 1, "run": run, "path": "f/a", "attempt": 1, "kind": "step_started"})
    );
    assert_eq!(events[3]["kind"], json!({"run_ended": "done"}));
}

/// Row 32: progress, chunks. What a step tells arrives at once, in order, between its start and its end.
#[tokio::test]
async fn progress_arrives_while_the_step_runs() {
    let writes = step("write", async |cx: Context, text: String| {
        for (chunk, word) in text.split(' ').enumerate() {
            cx.progress(json!({"chunk": chunk, "text": word}));
            tokio::task::yield_now().await;
        }
        Ok(text.len())
    });
    let (mut events, report) = Flow::new("f").then(writes).run("so it goes".to_owned()).events(64);
    let run = tokio::spawn(report);
    let mut chunks = Vec::new();
    while let Some(event) = events.next().await {
        if let Kind::Progress(data) = event.kind {
            assert_eq!(event.path, "f/write");
            if chunks.is_empty() {
                assert!(!run.is_finished(), "the first chunk is there before the output");
            }
            chunks.push(data);
        }
    }
    assert_eq!(
        chunks,
        [
            json!({"chunk": 0, "text": "so"}),
            json!({"chunk": 1, "text": "it"}),
            json!({"chunk": 2, "text": "goes"})
        ]
    );
    assert_eq!(run.await.unwrap().into_result().unwrap(), 10);
}

/// Row 32: progress, chunks. It is not dispatched to anything and costs nothing when nobody looks: the value is not even
/// converted. What cannot be shown is said to be so.
#[tokio::test]
async fn progress_that_nobody_sees_is_not_made() {
    struct Shown(Arc<AtomicBool>);
    impl serde::Serialize for Shown {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            self.0.store(true, Ordering::SeqCst);
            Err(serde::ser::Error::custom("a picture"))
        }
    }
    let shown = Arc::new(AtomicBool::new(false));
    let flag = shown.clone();
    let tell = step("tell", move |cx: Context, x: u32| {
        cx.progress(Shown(flag.clone()));
        async move { Ok(x) }
    });
    let flow = Flow::new("f").then(tell);

    flow.run(1).await.into_result().unwrap();
    assert!(!shown.load(Ordering::SeqCst));
    let (events, report) = flow.run(1).events(8);
    report.await.into_result().unwrap();
    assert_eq!(rest(events).await[2].kind, Kind::Progress(json!("not shown: a picture")));
}

/// Row 33: hooks. Observers see every event, all in the same order; it is the order of the live stream.
#[tokio::test]
async fn observers_see_every_event_in_order() {
    let (first, from_first) = mpsc::channel();
    let (second, from_second) = mpsc::channel();
    let flow = Flow::new("f").then(each("e", 4, double("d")));
    let run = flow.run(vec![1, 2, 3, 4]);
    let run =
        run.observe(move |event: &Event| first.send((event.seq, event.kind.clone())).unwrap());
    let run =
        run.observe(move |event: &Event| second.send((event.seq, event.kind.clone())).unwrap());
    let (events, report) = run.events(64);

    let report = report.await;

    assert_eq!(report.observers.finished().await, Watched::default());
    let live: Vec<_> =
        rest(events).await.into_iter().map(|event| (event.seq, event.kind)).collect();
    assert_eq!(live.len(), 2 + 2 + 2 * 4);
    assert_eq!(from_first.iter().collect::<Vec<_>>(), live);
    assert_eq!(from_second.iter().collect::<Vec<_>>(), live);
}

/// Row 33: hooks. One that panics is counted; it misses nothing else, nor does anybody else, and the run is as it was.
#[tokio::test]
async fn a_panicking_observer_is_counted() {
    let (seen, from_observer) = mpsc::channel();
    let panicking = move |event: &Event| {
        if matches!(event.kind, Kind::StepDone) {
            panic!("the log is down");
        }
        seen.send(event.kind.clone()).unwrap();
    };
    let (others, from_other) = mpsc::channel();
    let other = move |event: &Event| others.send(event.seq).unwrap();
    let flow = Flow::new("f").then(double("a")).then(double("b"));

    let report = flow.run(1).observe(panicking).observe(other).await;

    assert_eq!(report.observers.finished().await, Watched { panics: 2, missed: 0 });
    assert_eq!(
        from_observer.iter().collect::<Vec<_>>(),
        [Kind::RunStarted, Kind::StepStarted, Kind::StepStarted, Kind::RunEnded(Ending::Done)]
    );
    assert_eq!(from_other.iter().count(), 6);
    assert_eq!(report.into_result().unwrap(), 4);
}

/// Row 33: hooks. One that blocks for as long as it likes holds nobody up: the run is over before it has seen anything.
#[tokio::test]
async fn a_blocking_observer_does_not_hold_the_run() {
    let (open, gate) = mpsc::channel::<()>();
    let (seen, from_observer) = mpsc::channel();
    let blocking = move |event: &Event| {
        let _ = gate.recv(); // until the test lets go of the other end
        seen.send(event.seq).unwrap();
    };
    let report = Flow::new("f").then(double("a")).run(1).observe(blocking).await;
    assert_eq!(from_observer.try_recv(), Err(mpsc::TryRecvError::Empty));

    drop(open);
    assert_eq!(report.observers.finished().await, Watched::default());
    assert_eq!(from_observer.iter().collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert_eq!(report.into_result().unwrap(), 2);
}

/// Row 33: hooks. One that is too far behind is told how much it missed, and the report says so.
#[tokio::test]
async fn an_observer_too_far_behind_misses_some() {
    let (open, gate) = mpsc::channel::<()>();
    let (seen, from_observer) = mpsc::channel();
    let blocking = move |event: &Event| {
        let _ = gate.recv();
        let missed = if let Kind::Lagged(n) = event.kind { n } else { 0 };
        seen.send((event.seq, missed)).unwrap();
    };
    let steps = 5_000;
    let run = Flow::new("f").then(each("e", 1, double("d"))).run(vec![0; steps]);
    let report = run.observe(blocking).await;
    drop(open);
    let Watched { panics: 0, missed } = report.observers.finished().await else { panic!() };

    let seen: Vec<(u64, u64)> = from_observer.iter().collect();
    let lagged = seen.iter().filter(|(_, missed)| *missed > 0).count();
    assert!(missed > 0);
    assert_eq!(seen.iter().map(|(_, missed)| missed).sum::<u64>(), missed);
    assert_eq!((seen.len() - lagged) as u64 + missed, 2 + 2 + 2 * steps as u64);
    assert_eq!(seen.last().unwrap().0, 2 + 2 + 2 * steps as u64 - 1);
}

/// Row 33: hooks. An observer is a type, too, with a state of its own; it is dropped when it has seen the last event.
#[tokio::test]
async fn an_observer_has_a_state() {
    struct Counter {
        events: u64,
        sum: mpsc::Sender<u64>,
    }
    impl Observer for Counter {
        fn on_event(&mut self, _: &Event) {
            self.events += 1;
        }
    }
    impl Drop for Counter {
        fn drop(&mut self) {
            let _ = self.sum.send(self.events);
        }
    }
    let (sum, from_observer) = mpsc::channel();
    let report = Flow::new("f").then(double("a")).run(1).observe(Counter { events: 0, sum }).await;
    report.observers.finished().await;
    assert_eq!(from_observer.try_recv(), Ok(4));
}

/// Row 33: hooks. To change what a step does, wrap it: observers only look.
#[tokio::test(start_paused = true)]
async fn a_wrapping_step_changes_what_another_does() {
    struct Cautious<S>(S);
    impl<S: Step<u32>> Step<u32> for Cautious<S> {
        type Output = S::Output;
        async fn run(&self, cx: Context, input: u32) -> Result<S::Output, StepError> {
            tokio::time::sleep(Duration::from_secs(1)).await;
            self.0.run(cx, input.min(100)).await
        }
    }
    let report = Flow::new("f").then(node("pay", Cautious(pay))).run(900).await;
    assert_eq!(report.trace[0].took, Duration::from_secs(1));
    assert_eq!(report.into_result().unwrap(), 100);
}
