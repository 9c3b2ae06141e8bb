//! Runs beside each other, and what they leave: 15, 18, 21, 22, 24.

use std::marker::PhantomData;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use agentflow_flow::{
    Context, Data, Decision, Flow, Gathered, IntoNode, MemoryStore, Node, Report, Retry, StepError,
    all, approve, each, gather, step,
};
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::time::sleep;

use crate::probe::{Alive, Count, SECOND, id, in_an_hour, nap, pass};

/// In Orchflow and StepFlow the second attempt sees what the first one did to the state before it failed.
#[tokio::test]
async fn line_15_an_attempt_does_not_see_another_ones_half_done_state() {
    let doubles = step("doubles", async |cx: Context, mut items: Vec<u32>| {
        items.push(0);
        if cx.attempt() < 3 { Err(StepError::failed("half done")) } else { Ok(items) }
    });
    let flow = Flow::new("f").then(doubles.retry(Retry::at_once(3)));
    assert_eq!(flow.run(vec![1]).await.into_result().unwrap(), [1, 0]);
}

/// Orchflow's parallel branches write to one dictionary; the last one wins.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn line_15_branches_cannot_race_on_state() {
    let meet = Arc::new(Barrier::new(2));
    let branch = |name: &'static str| {
        let meet = meet.clone();
        step(name, move |_cx: Context, mut items: Vec<String>| {
            // Both hold the state at the same time before either changes it.
            meet.wait();
            items.push(name.to_owned());
            meet.wait();
            async move { Ok(items) }
        })
    };
    let flow = Flow::new("f").then(all("both", (branch("a"), branch("b"))));
    let (a, b) = flow.run(vec!["in".to_owned()]).await.into_result().unwrap();
    assert_eq!(
        (a, b),
        (vec!["in".to_owned(), "a".to_owned()], vec!["in".to_owned(), "b".to_owned()])
    );
}

/// Two callers of one PenguiFlow flow got each other's answers.
#[tokio::test(start_paused = true)]
async fn line_18_every_caller_gets_its_own_answer() {
    let answer = step("answer", async |cx: Context, millis: u64| {
        // Those who call later are answered earlier.
        sleep(Duration::from_millis(millis)).await;
        Ok((millis, cx.header("caller").map(str::to_owned)))
    });
    let flow = Flow::new("f").then(answer);
    let calls = (0..100_u64).map(|caller| {
        let flow = flow.clone();
        async move {
            let name = caller.to_string();
            let report = flow.run(1000 - caller).header("caller", &name).await;
            assert_eq!(report.into_result().unwrap(), (1000 - caller, Some(name)));
        }
    });
    futures::future::join_all(calls).await;
}

/// A value of which the living are counted.
#[derive(Clone, Serialize, Deserialize)]
struct Load {
    number: u32,
    #[serde(skip)]
    _alive: Option<Alive>,
}

impl Load {
    fn new(number: u32, alive: &Count) -> Self {
        Self { number, _alive: Some(alive.alive()) }
    }
}

/// A group in a group, whose item `fails` fails after a second, while the others take ten.
fn busy(fails: u32) -> Flow<Vec<Load>, Vec<(Load, Load)>> {
    let works = step("works", move |_cx: Context, load: Load| async move {
        let lives_in_the_step = load.clone();
        if load.number == fails {
            sleep(SECOND).await;
            return Err(StepError::fatal("no"));
        }
        sleep(10 * SECOND).await;
        drop(lives_in_the_step);
        Ok(load)
    });
    Flow::new("f").then(each("items", 100, all("both", (works, pass("b")))))
}

fn loads(count: u32, alive: &Count) -> Vec<Load> {
    (0..count).map(|number| Load::new(number, alive)).collect()
}

fn nothing_is_left<O>(what: &str, report: Report<O>, alive: &Count) {
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 0, "{what}: tasks");
    drop(report);
    assert_eq!(alive.get(), 0, "{what}: values");
}

/// PenguiFlow keeps queues of messages nobody will take: 20 were accepted, `stop`, 0 were processed.
#[tokio::test(start_paused = true)]
async fn line_21_a_run_leaves_nothing_behind() {
    let alive = Count::default();
    let report = busy(1000).run(loads(100, &alive)).await;
    assert!(report.error().is_none());
    nothing_is_left("success", report, &alive);

    let report = busy(50).run(loads(100, &alive)).await;
    assert!(report.error().is_some());
    nothing_is_left("failure", report, &alive);

    let report = busy(1000).run(loads(100, &alive)).deadline(SECOND).await;
    assert!(report.error().is_some());
    nothing_is_left("deadline", report, &alive);

    let gate = each("gates", 100, approve("gate", |load: &Load| load.number));
    let flow = Flow::new("f").then(gate);
    let store = Arc::new(MemoryStore::new());
    let report = flow.run(loads(100, &alive)).id(id("r")).store(store.clone()).await;
    assert_eq!(report.pauses().len(), 100);
    let pauses = report.pauses().to_vec();
    nothing_is_left("pause", report, &alive);
    let mut resumed = flow.resume(store, id("r"));
    for pause in &pauses {
        resumed = resumed.decide(pause, Decision::yes());
    }
    assert_eq!(resumed.await.into_result().unwrap().len(), 100);

    // Dropped, nobody can wait for its branches: they go when they are next polled.
    let run = busy(1000).run(loads(100, &alive)).into_future();
    assert!(tokio::time::timeout(SECOND, run).await.is_err());
    sleep(Duration::from_millis(1)).await;
    assert_eq!((alive.get(), Handle::current().metrics().num_alive_tasks()), (0, 0), "cancel");

    // One that was never begun.
    drop(busy(1000).run(loads(100, &alive)));
    assert_eq!(alive.get(), 0, "never begun");
}

/// The same for a stream of runs that nobody reads to its end.
#[tokio::test(start_paused = true)]
async fn line_21_a_stream_that_is_dropped_half_way_leaves_nothing_behind() {
    let (alive, pulled) = (Count::default(), Count::default());
    let (lives, pulls) = (alive.clone(), pulled.clone());
    let inputs = futures::stream::iter(0..1000).map(move |number| {
        pulls.up();
        Load::new(number, &lives)
    });
    let flow = Flow::new("f").then(nap::<Load>("nap", 1000)).then(pass("b"));
    let mut outputs = Box::pin(flow.pipe(inputs, 20));
    for _ in 0..20 {
        let (_, report) = outputs.next().await.unwrap();
        assert!(report.into_result().is_ok());
    }
    assert!(pulled.get() <= 40, "{} were taken for 20 that were asked for", pulled.get());
    drop(outputs);
    sleep(Duration::from_millis(1)).await;
    assert_eq!((alive.get(), Handle::current().metrics().num_alive_tasks()), (0, 0));

    // And one that is read to its end processes all that it took: PenguiFlow's `stop` throws 20 of 20 away.
    let flow = Flow::new("f").then(nap::<u32>("nap", 1000));
    let done = flow.pipe(futures::stream::iter(0..20), 3).collect::<Vec<_>>().await;
    assert_eq!(done.len(), 20);
}

/// PenguiFlow's joins that never fill stay in memory for ever: 100 of 100.
#[tokio::test(start_paused = true)]
async fn line_21_a_join_that_never_fills_is_given_up() {
    let items = futures::stream::iter(0..100).chain(futures::stream::pending());
    let mut joined = Box::pin(gather(items, |key| *key, 2, SECOND));
    for _ in 0..100 {
        let next = in_an_hour(joined.next()).await;
        assert!(matches!(next, Some(Gathered::Incomplete(..))));
    }
}

/// One StepFlow workflow used by two threads gave both the state of the second.
#[test]
fn line_22_two_threads_share_a_flow_and_nothing_else() {
    let meet = Arc::new(Barrier::new(2));
    let meets = meet.clone();
    let flow = Flow::new("f")
        .then(step("set", async |_cx: Context, who: String| Ok(vec![who])))
        .then(step("meet", move |_cx: Context, state: Vec<String>| {
            // Both are in the middle of their run at the same time.
            meets.wait();
            async move { Ok(state) }
        }))
        .then(step("read", async |_cx: Context, mut state: Vec<String>| {
            state.push("read".to_owned());
            Ok(state)
        }));
    let runs = ["one", "two"].map(|who| {
        let flow = flow.clone();
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let report = runtime.block_on(flow.run(who.to_owned()).into_future());
            assert_eq!(report.into_result().unwrap(), [who, "read"]);
        })
    });
    runs.into_iter().for_each(|run| run.join().unwrap());
}

/// Whether `Flow::then` takes an `N` where an `I` comes in. Found out by the compiler: the inherent method is there only
/// if the bounds of `then` hold.
struct Then<I, N>(PhantomData<(I, N)>);

impl<I: Data, N: IntoNode<I>> Then<I, N> {
    fn compiles(&self) -> bool {
        true
    }
}

trait Otherwise {
    fn compiles(&self) -> bool {
        false
    }
}

impl<I, N> Otherwise for Then<I, N> {}

/// PenguiFlow's validation "both" checks nothing without a registry: a hop that does not fit fails in the middle of a
/// run, or not at all. Here it does not compile.
#[test]
fn line_24_types_not_adapters() {
    assert!(Then::<u32, Node<u32, String>>(PhantomData).compiles());
    assert!(!Then::<String, Node<u32, String>>(PhantomData).compiles());
    assert!(Then::<(u32, String), Flow<(u32, String), ()>>(PhantomData).compiles());
    assert!(!Then::<(String, u32), Flow<(u32, String), ()>>(PhantomData).compiles());
    assert!(!Then::<Option<u32>, Node<u32, String>>(PhantomData).compiles());
}
