//! Ctrl-c while something runs: the attempt ends, no process stays, and the next question finds everything in order.
//!
//! A program of its own, because it counts the processes below it.
#![allow(dead_code)] // `it` uses the rest of the bench

#[path = "it/bench.rs"]
mod bench;
#[path = "it/scripted.rs"]
mod scripted;

use std::time::Duration;

use agentflow_agent::{SolveError, Trajectory};
use bench::Bench;
use scripted::{Turn, decides, judges};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

/// One test at a time: their processes look alike.
static ALONE: Mutex<()> = Mutex::const_new(());

/// Solves, and cancels as soon as `when` says so.
async fn interrupted(
    bench: &Bench,
    when: impl Future<Output = ()>,
) -> Result<Trajectory, SolveError> {
    let cancel = async {
        when.await;
        bench.cancel.cancel();
    };
    tokio::join!(bench.watch("?"), cancel).0.0
}

async fn until(mut is: impl FnMut() -> bool) {
    while !is() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_model_that_hangs_is_left_at_once() {
    let _alone = ALONE.lock().await;
    let planner = Bench::new([Turn::Hang]);
    let solved = interrupted(&planner, until(|| planner.planner.requests().len() == 1)).await;
    assert!(matches!(solved, Err(SolveError::Interrupted)), "{solved:?}");

    let verifier = Bench::new([decides("think", "hm")]).judged([Turn::Hang]);
    let judge = verifier.judge.clone().unwrap();
    let solved = interrupted(&verifier, until(|| judge.requests().len() == 1)).await;
    assert!(matches!(solved, Err(SolveError::Interrupted)), "{solved:?}");
}

#[tokio::test]
async fn cancelled_before_it_began_asks_nobody() {
    let bench = Bench::new([decides("answer", "72")]);
    bench.cancel.cancel();
    let (solved, events) = bench.watch("?").await;
    assert!(matches!(solved, Err(SolveError::Interrupted)), "{solved:?}");
    assert_eq!((events.len(), bench.planner.left()), (0, 1));
}

/// Linux only, where processes can be counted.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_tool_that_loops_is_killed_and_the_executor_stays_usable() {
    let _alone = ALONE.lock().await;
    let mut bench = Bench::new([
        decides("code", "while True: pass"),
        decides("code", "6 * 7"),
        decides("answer", "42"),
    ])
    .judged([judges(false)]);
    let before = processes::below_this();
    let solved = interrupted(&bench, until(|| processes::below_this() > before)).await;
    assert!(matches!(solved, Err(SolveError::Interrupted)), "{solved:?}");
    assert_eq!(processes::below_this(), before);

    bench.cancel = CancellationToken::new();
    let next = bench.solve("Six times seven?").await;
    assert_eq!(next.answer.as_deref(), Some("42"));
    assert_eq!(next.steps[0].observation.text, "42");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn dropping_the_attempt_ends_its_tool() {
    let _alone = ALONE.lock().await;
    let bench = Bench::new([decides("code", "while True: pass")]);
    let before = processes::below_this();
    tokio::select! {
        _ = bench.watch("?") => panic!("the tool loops"),
        () = until(|| processes::below_this() > before) => {}
    }
    // The tool's thread lets go of the executor when the sandbox is empty.
    drop(bench.executor.lock());
    assert_eq!(processes::below_this(), before);
}

#[cfg(target_os = "linux")]
mod processes {
    use std::collections::HashMap;
    use std::fs;

    /// How many living processes descend from this one.
    pub(super) fn below_this() -> usize {
        let mut parents = HashMap::new();
        for entry in fs::read_dir("/proc").expect("/proc is there").flatten() {
            let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok())
            else {
                continue;
            };
            // `1234 (name, which may hold anything) S 1 ...`
            let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            let mut fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
            match (fields.next(), fields.next().and_then(|parent| parent.parse::<u32>().ok())) {
                (Some("Z" | "X") | None, _) | (_, None) => {}
                (Some(_), Some(parent)) => {
                    parents.insert(id, parent);
                }
            }
        }
        let this = std::process::id();
        let descends = |id: &&u32| {
            let mut line = std::iter::successors(parents.get(id), |parent| parents.get(parent));
            line.any(|parent| *parent == this)
        };
        parents.keys().filter(descends).count()
    }
}
