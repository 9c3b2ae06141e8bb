//! `eval rescore`: new verdicts from the record.

use agentflow_eval::{Gold, Outcome, RunDir, RunDirError, Sample, Verdict, rescore, write_reports};

use crate::fixture::{GREEDY, UNREACHABLE, equal, info, judge, run_dir, samples};

/// Another reader: it takes every answer below 100 for none.
fn stricter(gold: &Gold, text: &str) -> Verdict {
    let verdict = judge(gold, text);
    match verdict.pred_read.as_deref().map(str::len) {
        Some(0..=2) => Verdict { outcome: Outcome::NoAnswer, pred_read: None, ..verdict },
        _ => verdict,
    }
}

#[test]
fn verdicts_change_and_the_old_record_is_kept() {
    let root = tempfile::tempdir().expect("a directory");
    let all = samples(GREEDY, 0);
    let info = info(&all, 20, 1);
    let run = run_dir(root.path(), "run", &all, &info);
    write_reports(&run, &info, Some(7.0), &equal).expect("writes");
    let path = run.join("trajectories.jsonl");
    // A field of a later version has to stay.
    let old = std::fs::read_to_string(&path)
        .expect("reads")
        .replace("{\"schema\"", "{\"later\":1,\"schema\"");
    std::fs::write(&path, &old).expect("writes");

    let found = rescore(&run, &stricter, &equal).expect("rescored");
    let short = |sample: &&Sample| {
        sample.trajectory.answer.as_ref().is_some_and(|answer| answer.len() <= 2)
    };
    let wanted = all.iter().filter(short).count();
    assert!(wanted > 3);
    assert_eq!((found.samples, found.changed.len()), (20, wanted));
    let change = &found.changed[0];
    assert!(change.before.pred_read.is_some() && change.after.pred_read.is_none());
    assert_eq!(found.report.counts.no_answer, wanted as u64);
    assert_eq!(
        found.report.speed.map(|speed| speed.wall_s),
        Some(7.0),
        "the time of the run stays"
    );

    let backup = found.backup.expect("kept");
    assert_eq!(std::fs::read_to_string(&backup).expect("reads"), old);
    let new = std::fs::read_to_string(&path).expect("reads");
    assert_eq!(new.matches("\"later\":1").count(), 20);
    for (old, new) in all.iter().zip(new.lines()) {
        let new: Sample = serde_json::from_str(new).expect("a sample");
        assert_eq!(new.trajectory.steps, old.trajectory.steps);
        assert_eq!(new.trajectory.score == Some(1.0), new.eval.verdict.outcome == Outcome::Right);
    }

    // Back again: the verdicts are those of before, and both records are kept.
    let back = rescore(&run, &judge, &equal).expect("rescored");
    assert_eq!(back.changed.len(), wanted);
    assert_ne!(back.backup, Some(backup));
    assert_eq!(back.report.counts.right, 15);
}

#[test]
fn nothing_is_written_where_nothing_changes_and_failures_stay() {
    let root = tempfile::tempdir().expect("a directory");
    let mut all = samples(GREEDY, 0);
    all[0] = samples(UNREACHABLE, 0).remove(0);
    let run = run_dir(root.path(), "run", &all, &info(&all[1..], 20, 1));
    let before = std::fs::read(run.join("trajectories.jsonl")).expect("reads");
    let found = rescore(&run, &judge, &equal).expect("rescored");
    assert_eq!((found.changed.len(), found.read_otherwise, found.backup), (0, 0, None));
    assert_eq!(found.report.counts.failed, 1);
    assert_eq!(std::fs::read(run.join("trajectories.jsonl")).expect("reads"), before);
}

#[test]
fn a_run_that_is_written_is_left_alone() {
    let root = tempfile::tempdir().expect("a directory");
    let all = samples(GREEDY, 0);
    let run = run_dir(root.path(), "run", &all, &info(&all, 20, 1));
    let _writer = RunDir::resume(&run).expect("free");
    assert!(matches!(rescore(&run, &judge, &equal), Err(RunDirError::InUse { .. })));
}
