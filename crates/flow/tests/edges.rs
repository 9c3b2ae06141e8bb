//! Corners of the engine where time, memory or a user's own code could break a promise.

use std::collections::BTreeSet;
use std::future::pending;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agentflow_flow::{
    Context, Decision, End, ErrorKind, Event, Flow, Gathered, Journal, Kind, MemoryStore, Node,
    Opened, Outcome, Record, Report, Retry, Run, RunId, StepError, Store, StoreError, all, approve,
    ask, blocking, each, first_k, gather, node, settled, step,
};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use serde::{Deserialize, Serialize, Serializer};
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};

const SECOND: Duration = Duration::from_secs(1);

/// Runs it, and gives the report with all events.
async fn watched<O: agentflow_flow::Data>(run: Run<O>) -> (Report<O>, Vec<Event>) {
    let (events, report) = run.events(100_000);
    tokio::join!(report, events.collect())
}

/// Attempts that were started and not closed, or closed twice.
fn unbalanced(events: &[Event]) -> BTreeSet<String> {
    let mut open = BTreeSet::new();
    let mut wrong = BTreeSet::new();
    for event in events {
        let attempt = format!("{}#{}", event.path, event.attempt);
        let fits = match event.kind {
            Kind::StepStarted => open.insert(attempt.clone()),
            Kind::StepDone | Kind::StepFailed { .. } | Kind::StepCancelled => open.remove(&attempt),
            _ => true,
        };
        if !fits {
            wrong.insert(attempt);
        }
    }
    wrong.append(&mut open);
    wrong
}

/// How many are alive, and were at most.
#[derive(Clone, Default)]
struct Alive(Arc<(AtomicUsize, AtomicUsize)>);

struct One(Alive);

impl Alive {
    fn enter(&self) -> One {
        let now = self.0.0.fetch_add(1, SeqCst) + 1;
        self.0.1.fetch_max(now, SeqCst);
        One(self.clone())
    }

    fn now(&self) -> usize {
        self.0.0.load(SeqCst)
    }

    fn most(&self) -> usize {
        self.0.1.load(SeqCst)
    }
}

impl Drop for One {
    fn drop(&mut self) {
        self.0.0.0.fetch_sub(1, SeqCst);
    }
}

/// A step that never ends.
fn stuck(name: &str, alive: &Alive) -> Node<u32, u32> {
    let alive = alive.clone();
    step(name, move |_cx: Context, _: u32| {
        let one = alive.enter();
        async move {
            let _one = one;
            pending().await
        }
    })
}

fn id(name: &str) -> RunId {
    RunId::new(name).unwrap()
}

// Time.

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

// Branches.

#[tokio::test(start_paused = true)]
async fn a_group_that_times_out_has_no_branch_left_when_it_is_tried_again() {
    let alive = Alive::default();
    let group = each("group", 200, stuck("a", &alive)).timeout(SECOND).retry(Retry::at_once(2));
    let (report, events) = watched(Flow::new("f").then(group).run((0..200).collect())).await;
    assert!(matches!(report.error().unwrap().kind, ErrorKind::Timeout(_)));
    assert_eq!((alive.now(), alive.most()), (0, 200));
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
    assert_eq!(report.trace.len(), 402);
    assert_eq!(unbalanced(&events), BTreeSet::new());
}

#[tokio::test(start_paused = true)]
async fn a_failed_group_has_no_branch_left_in_groups_inside_it() {
    let alive = Alive::default();
    let fails = step("fails", async |_cx: Context, _: Vec<u32>| {
        sleep(SECOND).await;
        Err::<u32, _>(StepError::fatal("no"))
    });
    let deep = each("inner", 200, all("pair", (stuck("a", &alive),)));
    let group = all("outer", (fails, all("middle", (deep,))));
    let (report, events) = watched(Flow::new("f").then(group).run((0..200).collect())).await;
    assert_eq!(report.error().unwrap().path, "f/outer/fails");
    assert_eq!((alive.now(), alive.most()), (0, 200));
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
    assert_eq!(unbalanced(&events), BTreeSet::new());
}

#[tokio::test(start_paused = true)]
async fn a_failed_group_is_not_tried_again_beside_what_is_left_of_it() {
    let alive = Alive::default();
    let fails = step("fails", async |_cx: Context, _: Vec<u32>| {
        sleep(SECOND).await;
        Err::<u32, _>(StepError::failed("busy"))
    });
    let deep = each("inner", 200, all("pair", (stuck("a", &alive),)));
    let group = all("outer", (fails, deep)).retry(Retry::at_once(3));
    let report = Flow::new("f").then(group).run((0..200).collect()).await;
    assert_eq!(report.error().unwrap().path, "f/outer#3/fails");
    assert_eq!((alive.now(), alive.most()), (0, 200));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_leaves_no_branch() {
    let alive = Alive::default();
    let group = each("outer", 10, all("pair", (stuck("a", &alive), stuck("b", &alive))));
    let flow = Flow::new("f").then(group);
    let (report, events) = watched(flow.run((0..100).collect()).deadline(SECOND)).await;
    assert!(matches!(report.error().unwrap().kind, ErrorKind::Deadline));
    assert_eq!((alive.now(), alive.most()), (0, 20));
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
    assert_eq!(unbalanced(&events), BTreeSet::new());
}

#[tokio::test(start_paused = true)]
async fn the_stream_of_a_dropped_run_ends_when_its_last_branch_is_gone() {
    let alive = Alive::default();
    let flow = Flow::new("f").then(each("group", 100, all("pair", (stuck("a", &alive),))));
    let (events, report) = flow.run((0..100).collect()).events(10_000);
    assert!(tokio::time::timeout(SECOND, report).await.is_err());
    let events: Vec<Event> = events.collect().await;
    assert_eq!((alive.now(), alive.most()), (0, 100));
    assert_eq!(unbalanced(&events), BTreeSet::new());
    let last = &events.last().unwrap().kind;
    assert_eq!(*last, Kind::RunEnded(agentflow_flow::Ending::Cancelled));
}

#[tokio::test(start_paused = true)]
async fn enormous_limits_are_no_limit() {
    let item = step("a", async |_cx: Context, x: u32| Ok(x)).limit(usize::MAX);
    let flow = Flow::new("f").then(each("all", usize::MAX, item));
    let (events, report) = flow.run(vec![1, 2, 3]).budget("tokens", u64::MAX).events(usize::MAX);
    assert_eq!(report.await.into_result().unwrap(), [1, 2, 3]);
    assert_eq!(events.count().await, 2 + 2 + 6);
    let piped = flow.pipe(futures::stream::iter([vec![1], vec![2]]), usize::MAX);
    assert_eq!(piped.count().await, 2);
}

// Questions.

#[tokio::test(start_paused = true)]
async fn a_run_does_not_wait_for_branches_that_it_gave_up() {
    let fast = step("fast", async |_cx: Context, x: u32| Ok(x));
    let either = agentflow_flow::switch::<u32, u32>("which")
        .when("asks", |x| *x == 0, approve("first", |x: &u32| *x))
        .otherwise(fast);
    let flow = Flow::new("f")
        .then(first_k("any", 1, either))
        .then(approve("second", |x: &Vec<u32>| x.clone()));
    let report = flow.run(vec![0, 1]).store(Arc::new(MemoryStore::new())).await;
    let paths: Vec<_> = report.pauses().iter().map(|pause| pause.path.as_str()).collect();
    assert_eq!(paths, ["f/second"]);
}

#[tokio::test(start_paused = true)]
async fn a_run_does_not_wait_for_attempts_that_it_gave_up() {
    let slow_at_first =
        step(
            "other",
            async |cx: Context, x: u32| {
                if cx.path().to_string().contains("#2") { Ok(x) } else { pending().await }
            },
        );
    let group = all("g", (approve("gate", |x: &u32| *x), slow_at_first));
    let flow = Flow::new("f").then(group.timeout(SECOND).retry(Retry::at_once(2)));
    let store = Arc::new(MemoryStore::new());
    let report = flow.run(7).id(id("r")).store(store.clone()).await;
    let [pause] = report.pauses() else { panic!("{:?}", report.end) };
    assert_eq!(pause.path, "f/g#2/gate");
    let resumed = flow.resume(store, id("r")).decide(pause, Decision::yes()).await;
    assert_eq!(resumed.into_result().unwrap(), (7, 7));
}

#[tokio::test(start_paused = true)]
async fn all_branches_that_ask_are_in_one_report() {
    let flow = Flow::new("f").then(each(
        "items",
        4,
        all("two", (approve("a", |x: &u32| *x), settled("s", approve("b", |x: &u32| *x)))),
    ));
    let report = flow.run((0..9).collect()).store(Arc::new(MemoryStore::new())).await;
    assert_eq!(report.pauses().len(), 18);
    let paths: BTreeSet<_> = report.pauses().iter().map(|pause| &pause.path).collect();
    assert_eq!(paths.len(), 18);
}

#[tokio::test]
async fn an_answer_that_nobody_asked_for_is_refused() {
    let flow = Flow::new("f").then(approve("gate", |x: &u32| *x));
    let report = flow.run(1).store(Arc::new(MemoryStore::new())).await;
    let again = flow.run(1).decide(&report.pauses()[0], Decision::yes()).await;
    assert!(matches!(again.error().unwrap().kind, ErrorKind::Refused(_)), "{:?}", again.end);
}

// The journal.

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

// Budgets.

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

// Panics outside of the step itself.

#[derive(Clone, Debug, Deserialize)]
struct Bomb(u32);

impl Serialize for Bomb {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panic!("boom")
    }
}

#[tokio::test]
async fn a_panic_while_an_output_is_written_is_that_of_its_step() {
    let flow = Flow::new("f")
        .then(settled("s", step("a", async |_cx: Context, x: u32| Ok(Bomb(x)))))
        .then(step("b", async |_cx: Context, x: Result<Bomb, agentflow_flow::Failure>| {
            Ok(x.map(|bomb| bomb.0))
        }));
    let (report, events) = watched(flow.run(1).store(Arc::new(MemoryStore::new()))).await;
    let failure = report.into_result().unwrap().unwrap_err();
    assert_eq!((failure.path.as_str(), failure.kind.as_str()), ("f/s/a", "panicked"));
    assert_eq!(unbalanced(&events), BTreeSet::new());
}

#[tokio::test]
async fn a_panic_while_an_input_is_written_is_a_report() {
    let flow = Flow::new("f").then(step("a", async |_cx: Context, x: Bomb| Ok(x.0)));
    let report = flow.run(Bomb(1)).store(Arc::new(MemoryStore::new())).await;
    assert!(matches!(report.error().unwrap().kind, ErrorKind::Panicked(_)));
    let report = flow.run(Bomb(1)).trace_inputs().await;
    assert!(matches!(report.error().unwrap().kind, ErrorKind::Panicked(_)));
}

#[tokio::test]
async fn a_panic_in_a_rule_or_a_question_is_that_of_its_node() {
    let checked = step("a", async |_cx: Context, x: u32| Ok(x)).check(|_| panic!("boom"));
    let report = Flow::new("f").then(checked).run(1).await;
    assert_eq!(report.error().unwrap().to_string(), "`f/a`: panicked: boom");
    let asks = ask("b", |_: &u32| -> u32 { panic!("boom") });
    let flow: Flow<u32, (u32, u32)> = Flow::new("f").then(asks);
    let report = flow.run(1).store(Arc::new(MemoryStore::new())).await;
    assert_eq!(report.error().unwrap().to_string(), "`f/b`: panicked: boom");
    let retry = Retry { when: |_| panic!("boom"), ..Retry::at_once(2) };
    let fails = step("c", async |_cx: Context, _: u32| Err::<u32, _>(StepError::failed("no")));
    let (report, events) = watched(Flow::new("f").then(fails.retry(retry)).run(1)).await;
    assert!(matches!(report.error().unwrap().kind, ErrorKind::Panicked(_)));
    assert_eq!(unbalanced(&events), BTreeSet::new());
}

struct PanicsAtTheEnd;

impl Drop for PanicsAtTheEnd {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("boom");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_while_a_step_is_cleaned_up_is_a_report() {
    let hang = || {
        step("a", async |_cx: Context, _: u32| {
            let _at_the_end = PanicsAtTheEnd;
            pending::<Result<u32, StepError>>().await
        })
    };
    let report = Flow::new("f").then(hang().timeout(SECOND)).run(1).await;
    assert_eq!(report.error().unwrap().to_string(), "`f/a`: panicked: boom");
    let report = Flow::new("f").then(hang()).run(1).deadline(SECOND).await;
    assert!(matches!(report.error().unwrap().kind, ErrorKind::Panicked(_)));
    let fails = step("b", async |_cx: Context, _: u32| {
        sleep(SECOND).await;
        Err::<u32, _>(StepError::fatal("no"))
    });
    let report = Flow::new("f").then(all("g", (hang(), fails))).run(1).await;
    assert_eq!(report.error().unwrap().path, "f/g/b");
}

/// A blocking function cannot be stopped, and is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blocking_step_is_told_that_it_is_over() {
    let (told, hears) = std::sync::mpsc::channel();
    let works = blocking("works", move |cx: &Context, x: u32| {
        while !cx.is_cancelled() {
            std::thread::yield_now();
        }
        told.send(()).unwrap();
        Ok(x)
    });
    let report = Flow::new("f").then(works.timeout(Duration::from_millis(5))).run(1).await;
    assert!(matches!(report.error().unwrap().kind, ErrorKind::Timeout(_)));
    tokio::task::spawn_blocking(move || hears.recv().unwrap()).await.unwrap();
}

/// Children of a node with a further policy around them keep their places.
#[tokio::test]
async fn a_node_around_a_node_is_a_place_of_its_own() {
    let inner = step("inner", async |_cx: Context, x: u32| Ok(x + 1));
    let report = Flow::new("f").then(node("outer", inner)).run(1).await;
    assert!(matches!(report.end, End::Done(2)));
    assert_eq!(report.attempts("f/outer/inner").count(), 1);
}
