//! Journals that fail or wait, what a resumed run finds, and what was spent.

use std::collections::BTreeSet;
use std::future::pending;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use agentflow_flow::{
    Context, ErrorKind, Flow, Journal, MemoryStore, Opened, Outcome, Record, RunId, StepError,
    Store, StoreError, all, approve, step,
};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::time::sleep;

use crate::probe::{SECOND, id, unbalanced, watched};

/// A memory whose journals do something else with outputs.
#[derive(Clone)]
struct Odd(MemoryStore, fn() -> BoxFuture<'static, Result<(), StoreError>>);

struct OddJournal(Box<dyn Journal>, fn() -> BoxFuture<'static, Result<(), StoreError>>);

impl Store for Odd {
    fn create(&self, run: &RunId) -> BoxFuture<'static, Result<Box<dyn Journal>, StoreError>> {
        let (created, output) = (self.0.create(run), self.1);
        Box::pin(async move { Ok(Box::new(OddJournal(created.await?, output)) as _) })
    }

    fn open(&self, run: &RunId) -> BoxFuture<'static, Result<Opened, StoreError>> {
        self.0.open(run)
    }

    fn load(&self, run: &RunId) -> BoxFuture<'static, Result<Vec<Record>, StoreError>> {
        self.0.load(run)
    }
}

impl Journal for OddJournal {
    fn append(&self, record: Record) -> BoxFuture<'static, Result<(), StoreError>> {
        match record {
            Record::Output { .. } => (self.1)(),
            other => self.0.append(other),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_output_that_cannot_be_written_fails_its_attempt() {
    let full = || futures::future::ready(Err(StoreError::Broken("disk full".into()))).boxed();
    let store = Arc::new(Odd(MemoryStore::new(), full));
    let flow = Flow::new("f").then(step("a", async |_cx: Context, x: u32| Ok(x)));
    let (report, events) = watched(flow.run(1).store(store)).await;
    let error = report.error().unwrap();
    assert!(matches!(error.kind, ErrorKind::Store(_)));
    assert_eq!(error.path, "f/a");
    assert_eq!(unbalanced(&events), BTreeSet::new());
    assert!(matches!(&report.trace[..], [only] if matches!(only.outcome, Outcome::Failed(_))));
}

#[tokio::test(start_paused = true)]
async fn an_output_that_waits_to_be_written_is_not_done() {
    let store = Arc::new(Odd(MemoryStore::new(), || pending().boxed()));
    let flow = Flow::new("f").then(step("a", async |_cx: Context, x: u32| Ok(x)));
    let (report, events) = watched(flow.run(1).store(store).deadline(SECOND)).await;
    assert!(matches!(report.error().unwrap().kind, ErrorKind::Deadline));
    assert_eq!(unbalanced(&events), BTreeSet::new());
    assert!(matches!(&report.trace[..], [only] if only.outcome == Outcome::Cancelled));
}

#[tokio::test]
async fn the_lease_is_given_back_though_a_context_lives_on() {
    let kept: Arc<Mutex<Vec<Context>>> = Arc::default();
    let keep = kept.clone();
    let flow = Flow::new("f").then(step("a", move |cx: Context, x: u32| {
        keep.lock().unwrap().push(cx);
        async move { Ok(x) }
    }));
    let store = Arc::new(MemoryStore::new());
    let (mut events, report) = flow.run(1).id(id("r")).store(store.clone()).events(100);
    assert_eq!(report.await.into_result().unwrap(), 1);
    while events.next().await.is_some() {}
    let leaked = kept.lock().unwrap()[0].clone();
    leaked.progress("too late");
    assert!(events.next().await.is_none(), "the stream goes on after its end");
    tokio::time::timeout(60 * SECOND, leaked.cancelled()).await.unwrap();
    assert_eq!(flow.resume(store, id("r")).await.into_result().unwrap(), 1);
}

/// The caller failed, and so did the run. What its child had finished is not done again.
#[tokio::test]
async fn a_resumed_caller_finds_what_its_child_finished() {
    let (paid, tries) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let (pay, try_) = (paid.clone(), tries.clone());
    let child = Flow::new("child")
        .then(step("pay", move |_cx: Context, x: u32| {
            pay.fetch_add(1, SeqCst);
            async move { Ok(x) }
        }))
        .then(step("flaky", move |_cx: Context, x: u32| {
            let tried = try_.fetch_add(1, SeqCst);
            async move { if tried == 0 { Err(StepError::failed("down")) } else { Ok(x) } }
        }));
    let caller = step("caller", move |cx: Context, x: u32| {
        let child = child.clone();
        async move { cx.call("child", &child, x).await }
    });
    let flow = Flow::new("f").then(caller);
    let store = Arc::new(MemoryStore::new());
    let report = flow.run(1).id(id("r")).store(store.clone()).await;
    assert_eq!(report.error().unwrap().path, "f/caller/child/flaky");
    let report = flow.resume(store, id("r")).await;
    assert_eq!(report.into_result().unwrap(), 1);
    assert_eq!((paid.load(SeqCst), tries.load(SeqCst)), (1, 2));
}

#[tokio::test]
async fn sums_stop_at_the_largest_number() {
    let spends = |name: &str| {
        step(name, async |cx: Context, x: u32| {
            cx.spend("tokens", u64::MAX)?;
            Ok(x)
        })
    };
    let flow = Flow::new("f").then(spends("a")).then(spends("b"));
    let store = Arc::new(MemoryStore::new());
    let report = flow.run(1).id(id("r")).store(store.clone()).await;
    assert_eq!(report.spent["tokens"], u64::MAX);
    let report = flow.resume(store, id("r")).await;
    assert_eq!(report.spent["tokens"], u64::MAX);
}

#[tokio::test(start_paused = true)]
async fn what_was_spent_is_spent_whatever_became_of_the_attempt() {
    fn spend(cx: &Context) -> Result<(), StepError> {
        cx.spend("tokens", 10)
    }
    let store = Arc::new(MemoryStore::new());
    let again = Arc::new(AtomicU32::new(0));
    let tried = again.clone();
    let child = Flow::new("child").then(approve("gate", |x: &u32| *x));
    let flow = Flow::new("f").then(all(
        "g",
        (
            step("unrecorded", async |cx: Context, x: u32| {
                spend(&cx)?;
                Ok(x)
            })
            .unrecorded(),
            step("cancelled", async |cx: Context, _: u32| {
                spend(&cx)?;
                pending::<Result<u32, _>>().await
            }),
            step("paused", move |cx: Context, x: u32| {
                let child = child.clone();
                async move {
                    spend(&cx)?;
                    cx.call("child", &child, x).await
                }
            }),
            step("fails", move |cx: Context, _: u32| {
                tried.fetch_add(1, SeqCst);
                async move {
                    sleep(SECOND).await;
                    spend(&cx)?;
                    Err::<u32, _>(StepError::fatal("no"))
                }
            }),
        ),
    ));
    let report = flow.run(1).id(id("r")).store(store.clone()).await;
    assert_eq!(report.spent["tokens"], 40);
    let report = flow.resume(store, id("r")).await;
    assert_eq!(report.spent["tokens"], 80);
    let traced: u64 = report.trace.iter().flat_map(|attempt| attempt.spent.values()).sum();
    assert_eq!(traced, 80);
    assert_eq!(again.load(SeqCst), 2);
}
