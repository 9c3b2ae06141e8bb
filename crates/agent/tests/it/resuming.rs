//! An attempt that was kept in a store goes on where it was, whatever ended it.

use std::sync::Arc;
use std::time::Duration;

use agentflow_agent::trajectory::Stop;
use agentflow_agent::{Attempt, Event, SolveError, Trajectory};
use agentflow_flow::{MemoryStore, RunId, Store, StoreError};

use crate::bench::{Bench, line};
use crate::scripted::{Turn, decides, judges, unreachable};

const QUESTION: &str = "Six times seven?";

/// Begins the attempt `name`, or takes it up again; what was seen of it goes into `seen`.
async fn kept(
    bench: &Bench,
    store: &MemoryStore,
    name: &str,
    seen: &mut Vec<String>,
) -> Result<Trajectory, SolveError> {
    let (solver, id, store) =
        (bench.solver(), RunId::new(name).unwrap(), Arc::new(store.clone()) as Arc<dyn Store>);
    let run = match store.load(&id).await {
        Err(StoreError::NotFound { .. }) => {
            solver.flow().run(Attempt::new("test/1", QUESTION)).store(store).id(id)
        }
        _ => solver.flow().resume(store, id),
    };
    solver.follow(run, &mut |event: Event| seen.push(line(&event))).await
}

/// The same, dropped as soon as `is` holds.
async fn killed(bench: &Bench, store: &MemoryStore, is: impl Fn() -> bool) -> Vec<String> {
    let mut seen = Vec::new();
    tokio::select! {
        solved = kept(bench, store, "killed", &mut seen) => panic!("it ended: {solved:?}"),
        () = async { while !is() { tokio::time::sleep(Duration::from_millis(1)).await } } => {}
    }
    seen
}

/// Without what a clock said.
fn timeless(mut trajectory: Trajectory) -> Trajectory {
    trajectory.wall_s = 0.0;
    for step in &mut trajectory.steps {
        (step.wall_ms, step.observation.wall_ms) = (0, 0);
    }
    trajectory
}

#[tokio::test]
async fn an_attempt_killed_in_its_third_step_ends_like_one_that_was_not() {
    let turns = [decides("code", "6 * 7"), decides("think", "forty-two"), decides("answer", "42")];
    let verdicts = || [judges(false), judges(true)];
    let whole = Bench::new(turns.clone()).judged(verdicts()).solve(QUESTION).await;

    let store = MemoryStore::new();
    let [first, second, third] = turns;
    let bench = Bench::new([first, second, Turn::Hang]).judged(verdicts());
    killed(&bench, &store, || bench.planner.requests().len() == 3).await;

    // It has to answer, as the second verdict said, and nobody is asked what was asked before.
    let bench = Bench::new([third]).judged([]);
    let mut seen = Vec::new();
    let resumed = kept(&bench, &store, "killed", &mut seen).await.unwrap();
    assert_eq!(bench.planner.offered(), [["answer"]]);
    assert_eq!(seen, ["step 2: answer", "result: 42", "step 2 done, sufficient: true"]);
    assert_eq!(timeless(resumed), timeless(whole));
}

#[tokio::test]
async fn a_tool_that_was_done_is_not_called_again() {
    let store = MemoryStore::new();
    let bench = Bench::new([decides("reckon", "72")]).judged([Turn::Hang]).with_reckon();
    let judge = bench.judge.clone().unwrap();
    let seen = killed(&bench, &store, || judge.requests().len() == 1).await;
    assert_eq!(seen, ["step 0: reckon", "result: 72"]);

    // It could not be called again: this bench has no such tool.
    let bench = Bench::new([decides("answer", "72")]).judged([judges(false)]);
    let mut seen = Vec::new();
    let resumed = kept(&bench, &store, "killed", &mut seen).await.unwrap();
    assert_eq!(seen[0], "step 0 done, sufficient: false");
    assert_eq!((resumed.steps.len(), resumed.answer.as_deref()), (2, Some("72")));
}

#[tokio::test]
async fn what_failed_is_tried_again_and_what_was_done_is_not() {
    let store = MemoryStore::new();
    let bench = Bench::new([decides("reckon", "72"), Turn::Error(unreachable())]).with_reckon();
    let failed = kept(&bench, &store, "failed", &mut Vec::new()).await.unwrap();
    assert_eq!((failed.stop, failed.steps.len()), (Stop::Failed, 1));

    let bench = Bench::new([decides("answer", "72")]).with_reckon();
    let resumed = kept(&bench, &store, "failed", &mut Vec::new()).await.unwrap();
    assert_eq!((resumed.stop, resumed.answer.as_deref()), (Stop::Answered, Some("72")));
    assert_eq!((resumed.steps.len(), resumed.error), (2, None));
}

#[tokio::test]
async fn with_a_larger_budget_an_attempt_goes_on() {
    let store = MemoryStore::new();
    let bench = Bench::new([decides("reckon", "72")]).with_reckon().max_tokens(15);
    let ended = kept(&bench, &store, "budget", &mut Vec::new()).await.unwrap();
    assert_eq!((ended.stop, ended.answer.as_deref()), (Stop::Budget, Some("72")));

    let bench = Bench::new([decides("answer", "73")]).with_reckon().max_tokens(100);
    let resumed = kept(&bench, &store, "budget", &mut Vec::new()).await.unwrap();
    assert_eq!((resumed.stop, resumed.answer.as_deref()), (Stop::Answered, Some("73")));
    assert_eq!((resumed.steps.len(), resumed.usage.prompt_tokens), (2, 20));
}

#[tokio::test]
async fn an_attempt_that_was_interrupted_goes_on() {
    let store = MemoryStore::new();
    let bench = Bench::new([decides("reckon", "72"), Turn::Hang]).with_reckon();
    let cancel = async {
        while bench.planner.requests().len() < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        bench.cancel.cancel();
    };
    let mut seen = Vec::new();
    let (solved, ()) = tokio::join!(kept(&bench, &store, "interrupted", &mut seen), cancel);
    assert!(matches!(solved, Err(SolveError::Interrupted)), "{solved:?}");

    let bench = Bench::new([decides("answer", "72")]).with_reckon();
    let resumed = kept(&bench, &store, "interrupted", &mut Vec::new()).await.unwrap();
    assert_eq!((resumed.steps.len(), resumed.answer.as_deref()), (2, Some("72")));
}

#[tokio::test]
async fn a_run_that_cannot_begin_is_an_error_that_says_why() {
    let (bench, store) = (Bench::new([]), MemoryStore::new());
    let run = bench.solver().flow().resume(Arc::new(store), RunId::new("lost").unwrap());
    let solved = bench.solver().follow(run, &mut |_| ()).await;
    let error = solved.unwrap_err().to_string();
    assert_eq!(error, "`solve`: there is no run `lost` in memory");
}
