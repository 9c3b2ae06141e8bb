//! Row 37: what is written to a journal, and when.

use std::collections::HashMap;
use std::future::ready;
use std::sync::Arc;
use std::sync::Mutex;

use agentflow_flow::{
    Context, Decision, ErrorKind, Flow, MemoryStore, Record, Retry, Settled, StepError, Store,
    StoreError, all, approve, settled, step, switch,
};
use futures::future::BoxFuture;
use tokio::sync::Semaphore;

use super::journals::{Meddling, Ran, id, memory, records, said};

/// Row 37: checkpoint write. One record per output, failure, choice and answer; the start and every end; nothing for what
/// can be put together.
#[tokio::test]
async fn what_a_journal_holds() {
    let ran = Ran::default();
    let broken = ran.step("broken", |_, _: u32| -> Result<u32, StepError> {
        Err(StepError::fatal("out of order"))
    });
    let sum =
        step("sum", async |_cx: Context, (a, b): (u32, Settled<u32>)| Ok(a + b.unwrap_or(500)));
    let size = switch("size")
        .when("small", |x: &u32| *x < 100, async |_cx: Context, x: u32| Ok(x))
        .otherwise(approve("gate", |x: &u32| *x));
    let flow = Flow::new("f")
        .then(ran.fails_once("flaky").retry(Retry::at_once(2)))
        .then(all("g", (ran.add("a", 1), settled("try", broken))))
        .then(sum)
        .then(size);
    let store = memory();

    let paused = flow.run(5).store(store.clone()).await;
    let resume = flow.resume(store.clone(), paused.run.clone());
    resume.decide(&paused.pauses()[0], Decision::yes()).await.into_result().unwrap();

    assert_eq!(
        records(&store, &paused.run).await,
        [
            "started f on 5",
            "f/flaky #1 failed: no",
            "f/flaky #2 gave 5",
            "f/g/a #1 gave 6",
            "f/g/try/broken #1 failed: out of order",
            "f/g/try settled: `f/g/try/broken`: out of order",
            "f/sum #1 gave 506",
            "f/size took otherwise",
            "f/size/otherwise/gate asked 506",
            "ended Paused",
            "resumed",
            r#"f/size/otherwise/gate answered {"approved":true}"#,
            "ended Done",
        ]
    );
}

/// Row 37: checkpoint write. The start is written before the first step runs, and an output before the next one does.
#[tokio::test]
async fn what_comes_next_waits_until_it_is_written() {
    let ran = Ran::default();
    let written = Arc::new(Semaphore::new(0));
    let disk = written.clone();
    let store = Meddling {
        inner: MemoryStore::new(),
        append: move |_: &Record| -> BoxFuture<'static, Result<(), StoreError>> {
            let disk = disk.clone();
            Box::pin(async move {
                disk.acquire().await.expect("never closed").forget();
                Ok(())
            })
        },
    };
    let flow = Flow::new("f").then(ran.add("a", 1)).then(ran.add("b", 1));
    let run = tokio::spawn(flow.run(1).store(Arc::new(store.clone())).into_future());
    let settle = async || {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    };
    let mut seen = Vec::new();
    for _ in 0..3 {
        settle().await;
        seen.push((store.inner.load(&store.inner.runs()[0]).await.unwrap().len(), ran.take()));
        written.add_permits(1);
    }
    let then = |path: &str| vec![path.to_owned()];
    assert_eq!(seen, [(0, Vec::new()), (1, then("f/a")), (2, then("f/b"))]);
    settle().await;
    assert!(!run.is_finished(), "the end is written, too");
    written.add_permits(1);
    assert_eq!(run.await.unwrap().into_result().unwrap(), 3);
}

/// Row 37: checkpoint write. A store that cannot write fails the run at the step it could not keep. Nothing runs after
/// that, and nothing settles it.
#[tokio::test]
async fn a_store_that_cannot_write_fails_the_run() {
    let ran = Ran::default();
    let store = Meddling {
        inner: MemoryStore::new(),
        append: |record: &Record| -> BoxFuture<'static, Result<(), StoreError>> {
            Box::pin(ready(match record {
                Record::Output { path, .. } if path.ends_with("b") => Err(StoreError::Io {
                    action: "write",
                    path: "runs/1.jsonl".into(),
                    problem: "disk full".to_owned(),
                }),
                _ => Ok(()),
            }))
        },
    };
    let inside =
        Flow::new("inside").then(ran.add("b", 1).retry(Retry::at_once(3))).then(ran.add("c", 1));
    let flow = Flow::new("f").then(ran.add("a", 1)).then(settled("s", inside));

    let report = flow.run(1).store(Arc::new(store)).await;

    assert_eq!(ran.take(), ["f/a", "f/s/inside/b"]);
    assert!(matches!(report.error().unwrap().kind, ErrorKind::Store(_)));
    assert_eq!(said(report), "`f/s/inside/b`: cannot write `runs/1.jsonl`: disk full");
}

/// Row 37: checkpoint write. A run that was dropped says so in its journal, and can be taken up at once.
#[tokio::test]
async fn a_cancelled_run_is_not_left_running() {
    let ran = Ran::default();
    let waits = step("waits", async |cx: Context, x: u32| {
        if cx.get::<Semaphore>().is_some() {
            std::future::pending::<()>().await;
        }
        Ok(x)
    });
    let flow = Flow::new("f").then(ran.add("a", 1)).then(waits).then(ran.add("b", 1));
    let store = memory();
    let run = flow.run(1).id(id("mine")).store(store.clone()).provide(Arc::new(Semaphore::new(0)));
    let run = tokio::spawn(run.into_future());
    while store.runs().is_empty() || records(&store, &id("mine")).await.len() < 2 {
        tokio::task::yield_now().await;
    }
    run.abort();
    assert!(run.await.unwrap_err().is_cancelled());

    let held = records(&store, &id("mine")).await;
    assert_eq!(held, ["started f on 1", "f/a #1 gave 2", "ended Cancelled"]);
    assert_eq!(ran.take(), ["f/a"]);
    assert_eq!(flow.resume(store, id("mine")).await.into_result().unwrap(), 3);
    assert_eq!(ran.take(), ["f/b"]);
}

/// Row 37: checkpoint write. The journal of a run has one writer.
#[tokio::test]
async fn a_run_has_one_writer() {
    let go_on = Arc::new(Semaphore::new(0));
    let waits = step("waits", async |cx: Context, x: u32| {
        cx.need::<Semaphore>()?.acquire().await?.forget();
        Ok(x)
    });
    let flow = Flow::new("f").then(waits);
    let store = memory();
    let run = flow.run(1).id(id("mine")).store(store.clone()).provide(go_on.clone());
    let run = tokio::spawn(run.into_future());
    while store.runs().is_empty() {
        tokio::task::yield_now().await;
    }
    let second = flow.resume(store.clone(), id("mine")).await;
    assert!(matches!(second.error().unwrap().kind, ErrorKind::Store(StoreError::Leased { .. })));
    assert_eq!(
        said(second),
        "`f`: run `mine` is held by another process, or by another run of this one; wait for it, or stop it"
    );
    let namesake = flow.run(1).id(id("mine")).store(store.clone()).await;
    assert!(matches!(namesake.error().unwrap().kind, ErrorKind::Store(StoreError::Exists { .. })));

    go_on.add_permits(1);
    assert_eq!(run.await.unwrap().into_result().unwrap(), 1);
    assert_eq!(
        records(&store, &id("mine")).await,
        ["started f on 1", "f/waits #1 gave 1", "ended Done"]
    );
}

/// Row 37: checkpoint write. A step that keeps its context longer than the run does not keep the run from being resumed.
#[tokio::test]
async fn a_kept_context_does_not_hold_the_lease() {
    let kept = Arc::new(Mutex::new(Vec::new()));
    let keep = kept.clone();
    let flow = Flow::new("f").then(step("keep", move |cx: Context, x: u32| {
        keep.lock().unwrap().push(cx);
        ready(Ok(x))
    }));
    let store = memory();
    flow.run(1).id(id("mine")).store(store.clone()).await.into_result().unwrap();
    assert_eq!(kept.lock().unwrap().len(), 1);
    assert_eq!(flow.resume(store, id("mine")).await.into_result().unwrap(), 1);
}

/// Row 37: checkpoint write. What does not survive being written is an error of the step that made it, before anything
/// else runs, and of nothing that makes no journal.
#[tokio::test]
async fn what_json_cannot_hold_is_the_error_of_its_step() {
    let ran = Ran::default();
    let by_pair = |_: &Context, x: u32| Ok(HashMap::from([((x, x), x)]));
    let after = ran.step("after", |_, pairs: HashMap<(u32, u32), u32>| Ok(pairs.len()));
    let flow = Flow::new("f")
        .then(all("g", (ran.add("a", 1),)))
        .then(step("first", async |_cx: Context, (x,): (u32,)| Ok(x)));
    let broken = flow.clone().then(ran.step("pairs", by_pair)).then(after.clone());
    let store = memory();

    let report = broken.run(1).id(id("mine")).store(store.clone()).await;

    assert_eq!(ran.take(), ["f/g/a", "f/pairs"]);
    assert!(matches!(report.error().unwrap().kind, ErrorKind::Invalid(_)));
    assert_eq!(
        said(report),
        "`f/pairs`: invalid output: it cannot be written as JSON: key must be a string; \
         record another type, or mark the node `unrecorded`"
    );
    let held = records(&store, &id("mine")).await;
    assert!(held[3].starts_with("f/pairs #1 failed: invalid output"), "{held:?}");
    assert_eq!(held[4], "ended Failed");
    assert_eq!(broken.run(1).await.into_result().unwrap(), 1);
    let unrecorded = flow.then(ran.step("pairs", by_pair).unrecorded()).then(after);
    assert_eq!(unrecorded.run(1).store(store).await.into_result().unwrap(), 1);
}

/// Row 37: checkpoint write. Nor does what cannot be read back: a number that is none becomes `null`.
#[tokio::test]
async fn what_json_cannot_give_back_is_an_error_too() {
    let flow = Flow::new("f").then(step("mean", async |_cx: Context, x: Vec<f64>| {
        Ok(x.iter().sum::<f64>() / x.len() as f64)
    }));
    let message = said(flow.run(Vec::new()).store(memory()).await);
    let wanted = "`f/mean`: invalid output: written as JSON, it cannot be read back: invalid type: null, expected f64";
    assert!(message.starts_with(wanted), "{message}");
    assert!(message.ends_with("; record another type, or mark the node `unrecorded`"), "{message}");
    let started = said(flow.run(vec![f64::NAN]).store(memory()).await);
    assert!(
        started.starts_with("`f`: the input of the run is read back as JSON, and is no `"),
        "{started}"
    );
    assert!(flow.run(Vec::new()).await.into_result().unwrap().is_nan());
}

/// Row 37: checkpoint write. With a store, a step gets what a resumed run would give it, so that both compute the same.
#[tokio::test]
async fn what_flows_on_is_what_was_written() {
    #[derive(Clone, serde::Serialize, serde::Deserialize)]
    struct Cached {
        value: u32,
        #[serde(skip)]
        cache: Option<u32>,
    }
    let make = step("make", async |_cx: Context, value: u32| Ok(Cached { value, cache: Some(1) }));
    let see = step("see", async |_cx: Context, c: Cached| Ok((c.value, c.cache)));
    let flow = Flow::new("f").then(make).then(see);
    assert_eq!(flow.run(7).store(memory()).await.into_result().unwrap(), (7, None));
    assert_eq!(flow.run(7).await.into_result().unwrap(), (7, Some(1)));
}
