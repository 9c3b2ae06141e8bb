//! Rows 37 and 38: journal and resume.

use std::collections::{BTreeMap, HashMap};
use std::future::ready;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use agentflow_flow::{
    Context, Data, Decision, ErrorKind, Flow, Journal, MemoryStore, Next, Node, Opened, Record,
    Report, Retry, RunId, Settled, StepError, Store, StoreError, Volatile, all, approve, each,
    each_settled, first_k, repeat, settled, step, switch,
};
use futures::future::BoxFuture;
use tokio::sync::Semaphore;

/// The paths of the steps that ran, in their order.
#[derive(Clone, Default)]
struct Ran(Arc<Mutex<Vec<String>>>);

impl Ran {
    /// A step that notes that it ran.
    fn step<I: Data, O: Data>(
        &self,
        name: &str,
        work: impl Fn(&Context, I) -> Result<O, StepError> + Send + Sync + 'static,
    ) -> Node<I, O> {
        let ran = self.clone();
        step(name, move |cx: Context, input: I| {
            ran.0.lock().unwrap().push(cx.path().to_string());
            ready(work(&cx, input))
        })
    }

    fn add(&self, name: &str, n: u32) -> Node<u32, u32> {
        self.step(name, move |_, x: u32| Ok(x + n))
    }

    /// Fails in its first attempt.
    fn fails_once(&self, name: &str) -> Node<u32, u32> {
        self.step(name, |cx, x| match cx.attempt() {
            1 => Err(StepError::failed("no")),
            _ => Ok(x),
        })
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

fn memory() -> Arc<MemoryStore> {
    Arc::new(MemoryStore::new())
}

fn id(name: &str) -> RunId {
    RunId::new(name).unwrap()
}

fn said<O: std::fmt::Debug>(report: Report<O>) -> String {
    report.into_result().unwrap_err().to_string()
}

async fn records(store: &MemoryStore, run: &RunId) -> Vec<String> {
    let line = |record: Record| match record {
        Record::Started { shape, input, .. } => format!("started {} on {input}", shape.name),
        Record::Resumed { .. } => "resumed".to_owned(),
        Record::Output { path, value, tried } => format!("{path} #{} gave {value}", tried.attempt),
        Record::Failed { path, failure, tried } => {
            format!("{path} #{} failed: {}", tried.attempt, failure.message)
        }
        Record::Settled { path, failure } => format!("{path} settled: {failure}"),
        Record::Routed { path, label } => format!("{path} took {label}"),
        Record::Asked { path, question, .. } => format!("{path} asked {question}"),
        Record::Answered { path, answer, .. } => format!("{path} answered {answer}"),
        Record::Ended { how, .. } => format!("ended {how:?}"),
        other => panic!("{other:?}"),
    };
    store.load(run).await.unwrap().into_iter().map(line).collect()
}

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

/// Row 38: resume. What was finished is not done again, inside groups and below.
#[tokio::test]
async fn a_resume_goes_on_inside_groups() {
    let ran = Ran::default();
    let child =
        Flow::new("child").then(ran.add("c", 1)).then(ran.fails_once("d")).then(ran.add("e", 1));
    let sum = step("sum", async |_cx: Context, (b, child): (u32, u32)| Ok(b + child));
    let flow =
        Flow::new("f").then(ran.add("a", 1)).then(all("g", (ran.add("b", 1), child))).then(sum);
    let store = memory();

    let failed = flow.run(0).store(store.clone()).await;
    assert_eq!(failed.error().unwrap().path, "f/g/child/d");
    assert_eq!(ran.take(), ["f/a", "f/g/b", "f/g/child/c", "f/g/child/d"]);
    let resumed = flow.resume(store, failed.run).await;

    assert_eq!(ran.take(), ["f/g/child/d", "f/g/child/e"]);
    assert_eq!(resumed.into_result().unwrap(), 5);
}

/// Row 38: resume. Of a long list, only the items run that are missing.
#[tokio::test]
async fn a_resume_runs_only_the_missing_items() {
    let ran = Ran::default();
    let grade = ran.step("grade", |cx, x: u32| match x % 100 {
        7 if cx.attempt() == 1 => Err(StepError::failed("no")),
        _ => Ok(x),
    });
    let flow = Flow::new("f").then(each("e", 1, grade));
    let store = memory();
    let items: Vec<u32> = (0..1_000).collect();

    let mut report = flow.run(items.clone()).store(store.clone()).await;
    let mut ran_in_all = ran.take().len();
    for start in 0..10 {
        assert_eq!(
            report.error().unwrap().path.to_string(),
            format!("f/e[{}]/grade", 100 * start + 7)
        );
        report = flow.resume(store.clone(), report.run.clone()).await;
        let now = ran.take();
        assert_eq!(now[0], format!("f/e[{}]/grade", 100 * start + 7));
        ran_in_all += now.len();
    }
    assert_eq!(ran_in_all, 1_000 + 10);
    assert_eq!(report.into_result().unwrap(), items);
}

/// Row 38: resume. A loop goes on in the hop in which it stopped, with the state of that hop.
#[tokio::test]
async fn a_resume_goes_on_inside_loops() {
    let ran = Ran::default();
    let more =
        ran.step("more", |_, x: u32| Ok(if x < 8 { Next::Again(2 * x) } else { Next::Done(x) }));
    let stumbles = ran.step("stumbles", |cx, x: u32| match (x, cx.attempt()) {
        (4, 1) => Err(StepError::failed("no")),
        _ => Ok(x),
    });
    let flow = Flow::new("f").then(repeat("r", 9, Flow::new("hop").then(stumbles).then(more)));
    let store = memory();

    let failed = flow.run(1).store(store.clone()).await;
    assert_eq!(failed.error().unwrap().path, "f/r[2]/hop/stumbles");
    ran.take();
    let resumed = flow.resume(store, failed.run).await;

    assert_eq!(
        ran.take(),
        ["f/r[2]/hop/stumbles", "f/r[2]/hop/more", "f/r[3]/hop/stumbles", "f/r[3]/hop/more"]
    );
    let earlier = resumed.attempts("f/r[1]/hop/more").next().unwrap();
    let hop = earlier.path.parent().unwrap().parent().unwrap();
    assert!(earlier.earlier);
    assert_eq!((hop.name(), hop.index()), ("r", Some(1)));
    assert_eq!(resumed.into_result().unwrap(), 8);
}

/// Row 38: resume. A group in its second attempt goes on in its second attempt.
#[tokio::test]
async fn a_resume_goes_on_inside_a_second_attempt() {
    let ran = Ran::default();
    let fails = ran.step("fails", |cx, x: u32| match cx.path().to_string().as_str() {
        "f/g#2/fails" if cx.attempt() == 2 => Ok(x),
        _ => Err(StepError::failed("no")),
    });
    let flow = Flow::new("f").then(all("g", (ran.add("a", 1), fails)).retry(Retry::at_once(2)));
    let store = memory();

    let failed = flow.run(1).store(store.clone()).await;
    assert_eq!(failed.error().unwrap().path, "f/g#2/fails");
    assert_eq!(ran.take(), ["f/g/a", "f/g/fails", "f/g#2/a", "f/g#2/fails"]);
    let resumed = flow.resume(store, failed.run).await;

    assert_eq!(ran.take(), ["f/g#2/fails"]);
    let earlier = resumed.attempts("f/g#2/a").next().unwrap();
    assert_eq!((earlier.path.name(), earlier.path.parent().unwrap().name()), ("a", "g"));
    assert_eq!(resumed.into_result().unwrap(), (2, 1));
}

/// Row 38: resume. A choice stays as it was made, whatever the test says today.
#[tokio::test]
async fn a_resume_goes_the_same_way() {
    let ran = Ran::default();
    let open = Arc::new(AtomicU32::new(1));
    let flag = open.clone();
    let flow = Flow::new("f").then(
        switch("s")
            .when("open", move |_| flag.load(Ordering::SeqCst) == 1, ran.fails_once("a"))
            .otherwise(ran.add("b", 1)),
    );
    let store = memory();
    let failed = flow.run(1).store(store.clone()).await;
    assert_eq!(ran.take(), ["f/s/open/a"]);
    open.store(0, Ordering::SeqCst);
    let resumed = flow.resume(store, failed.run).await;
    assert_eq!(ran.take(), ["f/s/open/a"]);
    assert_eq!(resumed.into_result().unwrap(), 1);
    assert_eq!(flow.run(1).await.into_result().unwrap(), 2);
}

/// Row 38: resume. A failure that was settled stays settled: luck is not tried twice.
#[tokio::test]
async fn a_settled_failure_stays_settled() {
    let ran = Ran::default();
    let later = ran.step("later", |cx, graded: Vec<Settled<u32>>| match cx.attempt() {
        1 => Err(StepError::failed("no")),
        _ => Ok(graded),
    });
    let flow = Flow::new("f").then(each_settled("e", 1, ran.fails_once("grade"))).then(later);
    let store = memory();
    let failed = flow.run(vec![1, 2]).store(store.clone()).await;
    ran.take();
    let graded = flow.resume(store, failed.run).await.into_result().unwrap();
    assert_eq!(ran.take(), ["f/later"]);
    assert_eq!(graded[1].as_ref().unwrap_err().to_string(), "`f/e[1]/grade`: no");
}

/// Row 38: resume. Which ones came first cannot be found out again, so it is kept.
#[tokio::test]
async fn the_first_stay_the_first() {
    let ran = Ran::default();
    let race = step("race", async |cx: Context, slow: u32| {
        let turns = if cx.get::<MemoryStore>().is_some() { 10 - slow } else { slow };
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
        Ok(slow)
    });
    let fails = ran.step("fails", |cx, first: Vec<u32>| match cx.attempt() {
        1 => Err(StepError::failed("no")),
        _ => Ok(first),
    });
    let flow = Flow::new("f").then(first_k("k", 1, race)).then(fails);
    let store = memory();
    let failed = flow.run(vec![9, 1, 5]).store(store.clone()).await;
    let resumed = flow.resume(store, failed.run).provide(memory()).await;
    assert_eq!(resumed.into_result().unwrap(), [1]);
}

/// Row 38: resume. A run that is done gives its output again, and runs nothing.
#[tokio::test]
async fn a_done_run_gives_its_output_again() {
    let ran = Ran::default();
    let list = ran.step("list", |_, x: u32| Ok(vec![x, x]));
    let list = Flow::new("list").then(list).then(each("e", 2, ran.add("x", 1)));
    let flow = Flow::new("f").then(ran.add("a", 1)).then(all("g", (ran.add("b", 1), list)));
    let store = memory();
    let first = flow.run(0).store(store.clone()).await;
    let run = first.run.clone();
    let output = first.into_result().unwrap();
    assert_eq!(output, (2, vec![2, 2]));
    ran.take();
    for _ in 0..2 {
        let again = flow.resume(store.clone(), run.clone()).await;
        assert_eq!(again.into_result().unwrap(), output);
    }
    assert_eq!(ran.take(), Vec::<String>::new());
}

/// Row 38: resume. A run that failed has all its attempts anew; their numbers go on.
#[tokio::test]
async fn a_failed_run_gets_fresh_attempts() {
    let ran = Ran::default();
    let fails = ran.step("fails", |cx, _: u32| -> Result<u32, StepError> {
        Err(StepError::failed(cx.attempt().to_string()))
    });
    let flow = Flow::new("f").then(fails.retry(Retry::at_once(3)));
    let store = memory();
    let mut report = flow.run(1).store(store.clone()).await;
    for last in [3, 6, 9] {
        assert_eq!(
            report.error().unwrap().to_string(),
            format!("`f/fails`, {last} attempts: {last}")
        );
        assert_eq!(ran.take().len(), 3);
        report = flow.resume(store.clone(), report.run.clone()).await;
    }
    assert_eq!(report.trace.len(), 12);
}

/// Row 38: resume. A run that was cut off between two attempts has those left that it had.
#[tokio::test(start_paused = true)]
async fn a_cut_off_run_has_the_attempts_that_were_left() {
    let ran = Ran::default();
    let fails =
        ran.step("fails", |_, _: u32| -> Result<u32, StepError> { Err(StepError::failed("no")) });
    let slowly = Retry { first: Duration::from_secs(60), ..Retry::attempts(3) };
    let flow = Flow::new("f").then(fails.retry(slowly));
    let store = memory();
    let run = flow.run(1).id(id("mine")).store(store.clone()).into_future();
    assert!(tokio::time::timeout(Duration::from_secs(1), run).await.is_err());
    assert_eq!(ran.take().len(), 1);

    let error = flow.resume(store, id("mine")).await.into_result().unwrap_err();

    assert_eq!((ran.take().len(), error.attempts), (2, 3));
}

/// Row 38: resume. A handle cannot be read back: what made it runs again, and what was made with it does not.
#[tokio::test]
async fn what_is_volatile_is_made_again() {
    let ran = Ran::default();
    let open = ran.step("open", |_, name: String| Ok((Volatile::new(name.clone()), name)));
    let read =
        ran.step("read", |_, (handle, _): (Volatile<String>, String)| Ok(handle.len() as u32));
    let flow = Flow::new("f").then(open).then(read).then(ran.fails_once("fails"));
    let store = memory();
    let failed = flow.run("file".to_owned()).store(store.clone()).await;
    ran.take();
    let held = records(&store, &failed.run).await;
    assert_eq!(held[..2], [r#"started f on "file""#, "f/read #1 gave 4"]);
    assert_eq!(flow.resume(store, failed.run).await.into_result().unwrap(), 4);
    assert_eq!(ran.take(), ["f/open", "f/fails"]);
}

/// Row 38: resume. What is not recorded runs again.
#[tokio::test]
async fn what_is_not_recorded_runs_again() {
    let ran = Ran::default();
    let flow = Flow::new("f").then(ran.add("cheap", 1).unrecorded()).then(ran.fails_once("fails"));
    let store = memory();
    let failed = flow.run(1).store(store.clone()).await;
    ran.take();
    assert_eq!(flow.resume(store, failed.run).await.into_result().unwrap(), 2);
    assert_eq!(ran.take(), ["f/cheap", "f/fails"]);
}

/// Row 38: resume. Values come back as they were: tuples, maps with numbers for keys, enums, every bit of a number.
#[tokio::test]
async fn values_come_back_as_they_were() {
    #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
    enum Shape {
        Point,
        Circle { radius: f64 },
        Line((i8, i8), Option<u64>),
    }
    type All = ((u8, String), BTreeMap<i32, Vec<Shape>>, [f64; 4], Option<()>, char, u128);
    let make = step("make", async |_cx: Context, _: u32| -> Result<All, StepError> {
        let shapes = vec![
            Shape::Point,
            Shape::Circle { radius: 0.1 + 0.2 },
            Shape::Line((-1, 2), Some(u64::MAX)),
        ];
        let numbers = [f64::MIN_POSITIVE, -0.0, 1e300, 1.0 / 3.0];
        Ok((
            (7, "ü\"\n".into()),
            BTreeMap::from([(-3, shapes), (12, vec![])]),
            numbers,
            None,
            '√',
            u128::MAX,
        ))
    });
    let ran = Ran::default();
    let fails = ran.step("fails", |cx, all: All| match cx.attempt() {
        1 => Err(StepError::failed("no")),
        _ => Ok(all),
    });
    let flow = Flow::new("f").then(make).then(fails);
    let store = memory();
    let failed = flow.run(1).store(store.clone()).await;
    let back = flow.resume(store.clone(), failed.run.clone()).await.into_result().unwrap();
    let again = flow.resume(store, failed.run).await.into_result().unwrap();
    assert_eq!(back, again);
    assert_eq!(back.0, (7, "ü\"\n".to_owned()));
    assert_eq!(back.1[&-3][1], Shape::Circle { radius: 0.1 + 0.2 });
    assert_eq!(back.1[&-3][2], Shape::Line((-1, 2), Some(u64::MAX)));
    assert_eq!(
        back.2.map(f64::to_bits),
        [f64::MIN_POSITIVE, -0.0, 1e300, 1.0 / 3.0].map(f64::to_bits)
    );
    assert_eq!((back.4, back.5), ('√', u128::MAX));
}

/// Row 38: resume. A child that was called, and finished, is not done again when the attempt that called it is taken up.
#[tokio::test]
async fn a_called_child_goes_on_where_it_stood() {
    let ran = Ran::default();
    let child = Flow::new("child")
        .then(ran.add("a", 1))
        .then(approve("gate", |x: &u32| *x))
        .then(ran.add("b", 1));
    let caller = step("caller", move |cx: Context, x: u32| {
        let child = child.clone();
        async move {
            let first = cx.call("first", &child, x).await?;
            cx.call("second", &child, first).await
        }
    });
    let flow = Flow::new("f").then(caller);
    let store = memory();
    let mut report = flow.run(0).store(store.clone()).await;
    let mut steps = vec![ran.take()];
    while let [pause] = report.pauses() {
        report =
            flow.resume(store.clone(), report.run.clone()).decide(pause, Decision::yes()).await;
        steps.push(ran.take());
    }
    assert_eq!(
        steps,
        [
            vec!["f/caller/first/a"],
            vec!["f/caller/first/b", "f/caller/second/a"],
            vec!["f/caller/second/b"]
        ]
    );
    assert_eq!(report.into_result().unwrap(), 4);
}

/// Row 38: resume. The same when the child failed, and the run with it: what was paid for inside is not paid for twice.
#[tokio::test]
async fn a_called_child_that_failed_goes_on_where_it_failed() {
    let ran = Ran::default();
    let child = Flow::new("child").then(ran.add("a", 1)).then(ran.fails_once("b"));
    let caller = step("caller", move |cx: Context, x: u32| {
        let child = child.clone();
        async move { cx.call("call", &child, x).await }
    });
    for attempts in [1, 2] {
        let flow = Flow::new("f").then(caller.clone().retry(Retry::at_once(attempts)));
        let store = memory();
        let failed = flow.run(0).store(store.clone()).await;
        let above = if attempts == 1 { "f/caller" } else { "f/caller#2" };
        let [a, b] = ["a", "b"].map(|name| format!("{above}/call/{name}"));
        let steps = ran.take();
        assert_eq!(steps[2 * (attempts as usize - 1)..], [a, b.clone()]);
        let resumed = flow.resume(store, failed.run).await;
        assert_eq!(ran.take(), [b]);
        assert_eq!(resumed.into_result().unwrap(), 1);
    }
}

/// Row 38: resume. What changes no place does not matter: descriptions, retries, timeouts, limits.
#[tokio::test]
async fn policies_may_change() {
    let ran = Ran::default();
    let store = memory();
    let flow = Flow::new("f").then(ran.add("a", 1)).then(ran.fails_once("b"));
    let failed = flow.run(1).store(store.clone()).await;
    let changed = Flow::new("f")
        .then(ran.add("a", 1).describe("adds one").limit(3))
        .then(ran.fails_once("b").retry(Retry::attempts(4)).timeout(Duration::from_secs(5)))
        .retry(Retry::attempts(2));
    assert_eq!(changed.resume(store, failed.run).await.into_result().unwrap(), 2);
}

/// Row 38: resume. Another flow is refused in words: what was there, and what is there now. Nothing runs, nothing is lost.
#[tokio::test]
async fn a_changed_flow_is_refused_in_words() {
    let ran = Ran::default();
    let store = memory();
    let start = || Flow::new("f").then(ran.add("a", 1));
    let flow = start().then(all("g", (ran.add("b", 1), ran.fails_once("c"))));
    let failed = flow.run(1).id(id("mine")).store(store.clone()).await;
    assert!(failed.error().is_some());
    ran.take();
    async fn refusal<O: Data + std::fmt::Debug>(
        flow: Flow<u32, O>,
        store: &Arc<MemoryStore>,
    ) -> String {
        let report = flow.resume(store.clone(), id("mine")).await;
        assert!(matches!(report.error().unwrap().kind, ErrorKind::Refused(_)));
        let message = said(report);
        let (_, message) =
            message.split_once(": the flow has changed since run `mine` began: ").unwrap();
        let (message, remedy) = message.split_once("; ").unwrap();
        assert_eq!(remedy, "resume with the version that began it, or start a new run");
        message.to_owned()
    }

    let renamed =
        Flow::new("other").then(ran.add("a", 1)).then(all("g", (ran.add("b", 1), ran.add("c", 1))));
    assert_eq!(
        refusal(renamed, &store).await,
        "node 1 was `f (sequence)`, and is `other (sequence)` now"
    );
    let shorter = start();
    assert_eq!(refusal(shorter, &store).await, "node 3 was `g (all)`, and is nothing now");
    let longer = flow.clone().then(step("d", async |_cx: Context, x: (u32, u32)| Ok(x)));
    assert_eq!(refusal(longer, &store).await, "node 6 was nothing, and is `d (step)` now");
    let branch = start().then(all("g", (ran.add("b", 1), ran.add("x", 1))));
    assert_eq!(refusal(branch, &store).await, "node 5 was `c (step)`, and is `x (step)` now");
    let order = start().then(all("g", (ran.add("c", 1), ran.add("b", 1))));
    assert_eq!(refusal(order, &store).await, "node 4 was `b (step)`, and is `c (step)` now");
    let kind = start().then(approve("g", |x: &u32| *x));
    assert_eq!(refusal(kind, &store).await, "node 3 was `g (all)`, and is `g (approve)` now");
    let deeper = start().then(all("g", (Flow::new("b").then(ran.add("c", 1)), ran.add("c", 1))));
    assert_eq!(refusal(deeper, &store).await, "node 4 was `b (step)`, and is `b (sequence)` now");

    assert_eq!(ran.take(), Vec::<String>::new());
    assert_eq!(flow.resume(store, id("mine")).await.into_result().unwrap(), (3, 2));
}

/// Row 38: resume. A recorded value of a type that changed is named, and so is the input.
#[tokio::test]
async fn a_value_of_another_type_is_named() {
    let ran = Ran::default();
    let store = memory();
    let fails = || ran.fails_once("b");
    let flow = Flow::new("f").then(ran.add("a", 1)).then(fails());
    flow.run(1).id(id("mine")).store(store.clone()).await;

    let text = step("a", async |_cx: Context, x: u32| Ok(x.to_string()));
    let parse = step("b", async |_cx: Context, x: String| Ok(x.parse::<u32>()?));
    let output =
        said(Flow::new("f").then(text).then(parse).resume(store.clone(), id("mine")).await);
    assert!(
        output.contains("the recorded output of `f/a` is no `alloc::string::String` any more: invalid type: integer"),
        "{output}"
    );
    assert!(
        output.ends_with("; resume with the version that wrote it, or start the run anew"),
        "{output}"
    );

    let length = step("a", async |_cx: Context, x: String| Ok(x.len() as u32));
    let input = said(Flow::new("f").then(length).then(fails()).resume(store, id("mine")).await);
    assert!(
        input.starts_with(
            "`f`: the input of the run is read back as JSON, and is no `alloc::string::String`"
        ),
        "{input}"
    );
}

/// Row 38: resume. A journal in which not even the start stands says so.
#[tokio::test]
async fn a_journal_without_a_start_is_refused() {
    let store = memory();
    drop(store.create(&id("mine")).await.unwrap());
    let flow = Flow::new("f").then(Ran::default().add("a", 1));
    assert_eq!(
        said(flow.resume(store, id("mine")).await),
        "`f`: the journal of run `mine` does not begin with its start; nothing was done yet, so start it anew"
    );
}

/// A store that does to every record what `append` says, before it is kept.
#[derive(Clone)]
struct Meddling<F> {
    inner: MemoryStore,
    append: F,
}

struct MeddlingJournal<F> {
    inner: Arc<dyn Journal>,
    append: F,
}

impl<F> Store for Meddling<F>
where
    F: Fn(&Record) -> BoxFuture<'static, Result<(), StoreError>> + Clone + Send + Sync + 'static,
{
    fn create(&self, run: &RunId) -> BoxFuture<'static, Result<Box<dyn Journal>, StoreError>> {
        let (created, append) = (self.inner.create(run), self.append.clone());
        Box::pin(async move {
            let inner = Arc::from(created.await?);
            Ok(Box::new(MeddlingJournal { inner, append }) as Box<dyn Journal>)
        })
    }

    fn open(&self, run: &RunId) -> BoxFuture<'static, Result<Opened, StoreError>> {
        self.inner.open(run)
    }

    fn load(&self, run: &RunId) -> BoxFuture<'static, Result<Vec<Record>, StoreError>> {
        self.inner.load(run)
    }
}

impl<F> Journal for MeddlingJournal<F>
where
    F: Fn(&Record) -> BoxFuture<'static, Result<(), StoreError>> + Send + Sync + 'static,
{
    fn append(&self, record: Record) -> BoxFuture<'static, Result<(), StoreError>> {
        let (before, inner) = ((self.append)(&record), self.inner.clone());
        Box::pin(async move {
            before.await?;
            inner.append(record).await
        })
    }
}
