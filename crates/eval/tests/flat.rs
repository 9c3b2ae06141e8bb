//! A run of 10,000 takes no more memory than its first thousand. A program of its own, for its memory is measured.
#![cfg(target_os = "linux")]

#[path = "runner/bench.rs"]
#[allow(dead_code)]
mod bench;

use agentflow_eval::runner::{End, Event, Limits, Plan, Record};
use agentflow_eval::{Problem, RunDir};
use agentflow_llm::ChatModel;
use bench::{Bench, executor, problem, right, solver};

const ATTEMPTS: u64 = 10_000;

/// A line of the record then has about 15 kB, and 10,000 of them 150 MB.
const LONG: usize = 4096;

/// Loose: a tenth of what holding on to samples would take, or to their prompts.
const MOST_MIB: f64 = 24.0;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_is_flat() {
    let root = tempfile::tempdir().expect("a directory");
    let dir = RunDir::create(root.path(), "eval", "").expect("a run directory");
    let record = Record::open(&dir, false).expect("an empty record");
    let padded = |index| {
        let problem = problem(index);
        Problem { question: format!("{} {}", problem.question, "x".repeat(LONG)), ..problem }
    };
    let plan = Plan {
        benchmark: "numbers".to_owned(),
        problems: (0..ATTEMPTS as usize).map(padded).collect(),
        repeats: 1,
        seed: 0,
        concurrency: 64,
        retries: 0,
        limits: Limits::default(),
    };
    let model: std::sync::Arc<dyn ChatModel> = Bench::new(0, right).model.clone();
    let executors = (0..64).map(|_| executor()).collect();
    let mut warm = None;
    let on_event = &mut |event| {
        if let Event::Kept { so_far, .. } = event
            && so_far.done() == ATTEMPTS / 10
        {
            warm = Some(resident_mib());
        }
    };
    let solver = solver(model, Default::default());
    let finished = agentflow_eval::runner::run(&dir, record, plan, solver, executors, on_event);
    let finished = finished.await.expect("it runs");
    assert_eq!((finished.end, finished.tally.right), (End::Complete, ATTEMPTS));
    let grown = resident_mib() - warm.expect("a tenth was passed");
    assert!(grown < MOST_MIB, "{grown:.1} MiB more after {ATTEMPTS} attempts");

    // Nor does reading the record again, to go on with the run.
    let before = resident_mib();
    drop(dir);
    let dir =
        RunDir::resume(&std::fs::read_dir(root.path()).unwrap().next().unwrap().unwrap().path());
    let record = Record::open(&dir.expect("it is free"), false).expect("reads");
    assert_eq!(record.tally().right, ATTEMPTS);
    let grown = resident_mib() - before;
    assert!(grown < MOST_MIB, "{grown:.1} MiB more after reading the record");
}

fn resident_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("it has memory");
    let kib: f64 =
        line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number");
    kib / 1024.0
}
