//! `runs list`: what can be told of a run directory from outside.

use agentflow_eval::{Run, RunDir, RunDirError, State, runs, write_reports};

use crate::fixture::{GREEDY, equal, info, run_dir, samples};

#[test]
fn runs_are_listed_with_their_state() {
    let root = tempfile::tempdir().expect("a directory");
    let all = samples(GREEDY, 0);
    let whole = info(&all, 20, 1);
    let finished = run_dir(root.path(), "20261121-100000-eval-aaaaa", &all, &whole);
    write_reports(&finished, &whole, None, &equal).expect("writes");
    run_dir(root.path(), "20261121-110000-eval-bbbbb", &all[..5], &whole);
    let running = run_dir(root.path(), "20261121-120000-eval-ccccc", &all[..2], &whole);
    let _writer = RunDir::resume(&running).expect("free");
    let trained = root.path().join("20261121-090000-sft-ddddd");
    std::fs::create_dir_all(trained.join("model")).expect("a directory");
    std::fs::write(trained.join("run.toml"), "[config.model]\nmodel = \"tiny\"\n").expect("writes");
    std::fs::write(trained.join("metrics.jsonl"), "{}\n{}\n{").expect("writes");
    std::fs::create_dir_all(root.path().join("no-run")).expect("a directory");

    let found = runs(root.path()).expect("lists");
    let told: Vec<_> = found.iter().map(|run| (&*run.kind, run.state, run.done, run.of)).collect();
    assert_eq!(
        told,
        [
            ("eval", State::Running, 2, Some(20)),
            ("eval", State::Interrupted, 5, Some(20)),
            ("eval", State::Finished, 20, Some(20)),
            ("sft", State::Finished, 2, None),
        ]
    );
    assert_eq!((found[2].accuracy, found[2].model.as_deref()), (Some(0.75), Some("tiny-planner")));
    assert_eq!(found[3].model.as_deref(), Some("tiny"));
    assert!(runs(&root.path().join("nowhere")).expect("none").is_empty());
    let error = Run::read(&root.path().join("no-run")).expect_err("no run");
    assert!(matches!(error, RunDirError::NotARun { .. }));
}
