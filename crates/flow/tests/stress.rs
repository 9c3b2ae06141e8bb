//! What runs share with their readers, observers and branches, under load: seeded runs on several threads that fail, panic,
//! time out, pause and are dropped at random. It states what holds for each of them, whatever became of it.

use std::collections::{HashMap, HashSet};
use std::panic;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agentflow_flow::{
    Context, End, ErrorKind, Event, Events, Flow, Kind, MemoryStore, Next, Node, Outcome, Report,
    Retry, StepError, all, approve, each, each_settled, first_k, repeat, settled, step, switch,
};
use futures::StreamExt;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::{sleep, timeout};

const RUNS: u64 = 3000;
const AT_ONCE: usize = 24;
/// Nothing here takes a second; what takes longer than this hangs.
const HANGS: Duration = Duration::from_secs(60);

/// What the steps of one run share with the test.
#[derive(Default)]
struct Shared {
    seed: u64,
    /// By the steps' own count.
    spent: AtomicU64,
    /// Tasks that wait for the end of an attempt.
    waiting: AtomicUsize,
}

#[test]
fn runs_keep_their_promises_under_load() {
    quiet_about_planned_panics();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    let ends = runtime.block_on(async {
        let flow = flow();
        let runs = (0..RUNS).map(|seed| {
            let run = one_run(flow.clone(), seed);
            async move { tokio::spawn(run).await.unwrap_or_else(|e| panic!("seed {seed}: {e}")) }
        });
        let ends: Vec<&str> = futures::stream::iter(runs).buffer_unordered(AT_ONCE).collect().await;
        ends
    });
    let mut count: HashMap<&str, u32> = HashMap::new();
    ends.into_iter().for_each(|end| *count.entry(end).or_default() += 1);
    for end in ["done", "failed", "paused", "dropped", "lagged"] {
        assert!(count.get(end).is_some_and(|n| *n >= 5), "too few to mean anything: {count:?}");
    }
}

/// A task that begins to wait just when the attempt ends is told all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn cancelled_resolves_however_close_the_end_is() {
    const ITEMS: u32 = 20_000;
    let told = Arc::new(AtomicUsize::new(0));
    let tells = told.clone();
    let item = step("item", move |cx: Context, spins: u32| {
        let tells = tells.clone();
        async move {
            tokio::spawn(async move {
                cx.cancelled().await;
                tells.fetch_add(1, SeqCst);
            });
            (0..spins).for_each(|_| std::hint::spin_loop());
            Ok(())
        }
    });
    let flow = Flow::new("f").then(each("items", 8, item));
    let items = (0..ITEMS).map(|n| n % 97).collect();
    assert!(flow.run(items).await.error().is_none());
    let all = async {
        while told.load(SeqCst) < ITEMS as usize {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(HANGS, all).await.expect("a task still waits for the end of its attempt");
}

/// Runs it, reads it, perhaps drops it, and checks what it left. How it ended.
async fn one_run(flow: Flow<Vec<u32>, u32>, seed: u64) -> &'static str {
    let mut random = StdRng::seed_from_u64(seed);
    let shared = Arc::new(Shared { seed, ..Shared::default() });
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sees = seen.clone();
    let slow_observer = random.random_bool(0.3);
    let mut run = flow.run((0..random.random_range(1..12)).collect()).provide(shared.clone());
    run = run.observe(move |event: &Event| {
        if slow_observer {
            std::thread::yield_now();
        }
        sees.lock().unwrap().push((event.seq, event.kind.clone()));
    });
    let store = random.random_bool(0.5).then(|| Arc::new(MemoryStore::new()));
    if let Some(store) = &store {
        run = run.store(store.clone());
    }
    if random.random_bool(0.2) {
        run = run.deadline(Duration::from_micros(random.random_range(0..4000)));
    }
    if random.random_bool(0.3) {
        run = run.budget("tokens", random.random_range(1..80));
    }
    let fast_reader = random.random_bool(0.5);
    let (events, report) = run.events(if fast_reader { 100_000 } else { 8 });
    let reading = tokio::spawn(read(events, if fast_reader { 0 } else { 20 }));
    let report = if random.random_bool(0.3) {
        let patience = Duration::from_micros(random.random_range(0..6000));
        timeout(patience, report).await.ok()
    } else {
        Some(timeout(HANGS, report).await.expect("the run hangs"))
    };
    let events = timeout(HANGS, reading).await.expect("the stream does not end").unwrap();

    if let Some(report) = &report {
        timeout(HANGS, report.observers.finished()).await.expect("an observer does not end");
        let spent = report.spent.get("tokens").copied().unwrap_or_default();
        assert_eq!(spent, shared.spent.load(SeqCst), "a spend was lost");
        let traced: u64 = report.trace.iter().flat_map(|attempt| attempt.spent.values()).sum();
        assert_eq!(spent, traced, "a spend is not in the trace");
    }
    let seen = seen.lock().unwrap().clone();
    seqs_fit(seen.iter().map(|(seq, kind)| (*seq, kind)));
    seqs_fit(events.iter().map(|event| (event.seq, &event.kind)));
    let lagged = events.iter().any(|event| matches!(event.kind, Kind::Lagged(_)));
    assert!(!(fast_reader && lagged), "a reader with room for all of them lagged");
    if !lagged {
        attempts_fit(&events, report.as_ref());
    }
    let everybody_was_told = async {
        while shared.waiting.load(SeqCst) > 0 {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(HANGS, everybody_was_told).await.expect("`cancelled` does not resolve");
    if let Some(run) = store.as_ref().and_then(|store| store.runs().pop()) {
        // Whatever happened, it can be taken up again: the lease is back, and the journal makes sense.
        let again = flow.resume(store.expect("it has a run"), run).provide(shared.clone());
        let again = timeout(HANGS, again).await.expect("the resumed run hangs");
        if let Some(error) = again.error() {
            assert!(!matches!(error.kind, ErrorKind::Store(_) | ErrorKind::Refused(_)), "{error}");
        }
    }
    match report.map(|report| report.end) {
        None => "dropped",
        Some(_) if lagged => "lagged",
        Some(End::Done(_)) => "done",
        Some(End::Paused(_)) => "paused",
        Some(End::Failed(_)) => "failed",
    }
}

/// All events, with `yields` pauses after each.
async fn read(mut events: Events, yields: usize) -> Vec<Event> {
    let mut all = Vec::new();
    while let Some(event) = events.next().await {
        all.push(event);
        for _ in 0..yields {
            tokio::task::yield_now().await;
        }
    }
    assert!(events.next().await.is_none(), "it goes on after its end");
    all
}

/// Numbers go up by one, except where as many were dropped as `Lagged` says; `Lagged` has the number of the next event.
fn seqs_fit<'a>(events: impl Iterator<Item = (u64, &'a Kind)>) {
    let mut expected = 0;
    for (seq, kind) in events {
        match kind {
            Kind::Lagged(missed) => {
                assert_eq!(seq, expected + missed);
                expected = seq;
            }
            _ => {
                assert_eq!(seq, expected, "{kind:?}");
                expected = seq + 1;
            }
        }
    }
}

/// Each attempt that was started was closed once, or waits for an answer; the run's own events are around all others.
fn attempts_fit(events: &[Event], report: Option<&Report<u32>>) {
    let Some(last) = events.last() else {
        assert!(report.is_none(), "a run that was awaited tells at least its start and end");
        return;
    };
    assert_eq!(events[0].kind, Kind::RunStarted);
    assert!(matches!(last.kind, Kind::RunEnded(_)), "{:?}", last.kind);
    let mut open = HashSet::new();
    let (mut started, mut asked) = (0, HashSet::new());
    for event in events {
        let attempt = (event.path.to_string(), event.attempt);
        match event.kind {
            Kind::StepStarted => {
                started += 1;
                assert!(open.insert(attempt.clone()), "{attempt:?} was started twice");
            }
            Kind::StepDone | Kind::StepFailed { .. } | Kind::StepCancelled => {
                assert!(open.remove(&attempt), "{attempt:?} was closed and not open");
            }
            Kind::Asked(_) => _ = asked.insert(attempt.0),
            Kind::Routed(_) | Kind::Progress(_) if report.is_some() => {
                assert!(open.contains(&attempt), "{attempt:?} tells something and is not open");
            }
            _ => {}
        }
    }
    match report {
        Some(report) => {
            let paused = |attempt: &&agentflow_flow::Attempt| attempt.outcome == Outcome::Paused;
            let paused = report.trace.iter().filter(paused);
            let paused: HashSet<_> = paused.map(|a| (a.path.to_string(), a.attempt)).collect();
            assert_eq!(open, paused);
            assert_eq!(started, report.trace.len());
        }
        None => {
            let asks = |path: &str| asked.iter().any(|asked| asked.starts_with(path));
            assert!(open.iter().all(|(path, _)| asks(path)), "{open:?} were never closed");
        }
    }
}

/// Groups in groups, loops, choices, questions: all of it misbehaves.
fn flow() -> Flow<Vec<u32>, u32> {
    let retry = || Retry { first: Duration::from_micros(200), ..Retry::attempts(3) };
    let pair = all(
        "pair",
        (
            odd("a").retry(retry()),
            settled("s", odd("b").timeout(Duration::from_micros(700))),
            odd("c").retry(Retry::at_once(2)),
        ),
    );
    let first = step("first", async |_cx: Context, pair: (u32, Result<u32, _>, u32)| {
        let pair: (u32, Result<u32, agentflow_flow::Failure>, u32) = pair;
        Ok(pair.0)
    });
    let branch = Flow::new("branch").then(pair).then(first);
    let turn = step("turn", async |cx: Context, x: u32| {
        misbehave(&cx).await?;
        Ok(if x.is_multiple_of(4) { Next::Done(x) } else { Next::Again(x + 1) })
    });
    let sum = step("sum", async |_cx: Context, items: Vec<u32>| Ok(items.iter().sum()));
    Flow::new("stress")
        .then(each_settled("some", 3, odd("d")))
        .then(step("kept", async |_cx: Context, items: Vec<Result<u32, _>>| {
            let items: Vec<Result<u32, agentflow_flow::Failure>> = items;
            Ok(items.into_iter().flatten().chain([1]).collect::<Vec<u32>>())
        }))
        .then(each("items", 4, branch).timeout(Duration::from_millis(4)).retry(Retry::at_once(2)))
        .then(first_k("any", 1, repeat("loop", 9, turn)))
        .then(sum)
        .then(
            switch("last")
                .when("asks", |x: &u32| x.is_multiple_of(3), approve("gate", |x: &u32| *x))
                .otherwise(odd("e")),
        )
}

fn odd(name: &str) -> Node<u32, u32> {
    step(name, async |cx: Context, x: u32| {
        misbehave(&cx).await?;
        Ok(x)
    })
}

/// By a number that run, place and attempt decide.
async fn misbehave(cx: &Context) -> Result<(), StepError> {
    let shared = cx.need::<Shared>()?;
    let place = cx.path().to_string();
    let hash = place.bytes().fold(shared.seed << 32 | u64::from(cx.attempt()), |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    let mut random = StdRng::seed_from_u64(hash);
    if random.random_bool(0.5) {
        shared.waiting.fetch_add(1, SeqCst);
        let (shared, cx) = (shared.clone(), cx.clone());
        tokio::spawn(async move {
            cx.cancelled().await;
            assert!(cx.is_cancelled());
            shared.waiting.fetch_sub(1, SeqCst);
        });
    }
    for _ in 0..random.random_range(0..4) {
        match random.random_range(0..1000) {
            0..300 => tokio::task::yield_now().await,
            300..500 => sleep(Duration::from_micros(random.random_range(0..1500))).await,
            500..700 => cx.progress(&place),
            700..940 => {
                let amount = random.random_range(1..5);
                shared.spent.fetch_add(amount, SeqCst);
                cx.spend("tokens", amount)?;
            }
            940..975 => return Err(StepError::failed("planned")),
            975..985 => return Err(StepError::fatal("planned")),
            985..990 => panic!("planned"),
            _ => tokio::task::spawn_blocking(std::thread::yield_now).await?,
        }
    }
    Ok(())
}

/// Panics that are part of the test would bury what failed.
fn quiet_about_planned_panics() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if info.payload().downcast_ref::<&str>() != Some(&"planned") {
            before(info);
        }
    }));
}
