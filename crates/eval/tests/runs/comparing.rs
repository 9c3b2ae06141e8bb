//! `eval compare`: recorded runs against each other and against published figures.

use std::path::Path;

use agentflow_eval::compare::{CompareError, Comparison, Operand, Paired, Test, Unpaired, compare};
use agentflow_eval::{Dataset, Gold, RunInfo, Sample};

use crate::fixture::{GREEDY, WARM, info, run_dir, samples};

fn operand(text: &str) -> Operand {
    Operand::parse(text).expect("an operand")
}

fn run(root: &Path, name: &str, samples: &[Sample], info: &RunInfo) -> Operand {
    Operand::Run(run_dir(root, name, samples, info))
}

fn paired(a: &Operand, b: &Operand) -> Paired {
    match compare(a, b, false).expect("comparable").remove(0) {
        Comparison::Paired(paired) => *paired,
        other => panic!("{other:?}"),
    }
}

fn unpaired(a: &Operand, b: &Operand) -> Vec<Unpaired> {
    let one = |comparison| match comparison {
        Comparison::Unpaired(unpaired) => *unpaired,
        other => panic!("{other:?}"),
    };
    compare(a, b, false).expect("comparable").into_iter().map(one).collect()
}

/// Greedy and warm decoding of the same 20 questions: 1 gained, 4 lost.
#[test]
fn two_runs_are_compared_question_by_question() {
    let root = tempfile::tempdir().expect("a directory");
    let (greedy, warm) = (samples(GREEDY, 0), samples(WARM, 0));
    let a = run(root.path(), "greedy", &greedy, &info(&greedy, 20, 1));
    let b = run(root.path(), "warm", &warm, &info(&warm, 20, 1));
    let found = paired(&a, &b);
    assert_eq!((found.both_right, found.both_wrong), (11, 4));
    let ids = |flips: &[agentflow_eval::compare::Flip]| -> Vec<String> {
        let last = |id: &str| id.rsplit('/').next().unwrap_or_default().to_owned();
        flips.iter().map(|flip| last(&flip.problem)).collect()
    };
    assert_eq!((ids(&found.gained), ids(&found.lost).len()), (vec!["0".to_owned()], 4));
    assert_eq!(found.p_value, 0.375, "exact McNemar of 1 against 4");
    assert_eq!(found.test, Test::ExactMcnemar);
    assert!((found.difference.mean + 0.15).abs() < 1e-12);
    assert_eq!(found.words(), "no evidence of a difference: 1 gained, 4 lost, p = 0.38");
    assert_eq!(
        found.warnings,
        [
            "sampling settings differ: temperature 0 top_p 1 think off, then temperature 1.5 top_p 1 think off"
        ]
    );
    // The other way round, every sign turns and the p-value stays.
    let back = paired(&b, &a);
    assert_eq!((back.gained, back.lost, back.p_value), (found.lost, found.gained, found.p_value));
    assert_eq!(back.difference.mean, -found.difference.mean);
    insta::assert_snapshot!(compare(&a, &b, false).expect("comparable")[0]);
}

#[test]
fn a_run_does_not_differ_from_itself() {
    let root = tempfile::tempdir().expect("a directory");
    let greedy = samples(GREEDY, 0);
    let a = run(root.path(), "greedy", &greedy, &info(&greedy, 20, 1));
    let found = paired(&a, &a);
    assert_eq!((found.p_value, found.difference.mean), (1.0, 0.0));
    assert!(found.words().starts_with("no difference"));
}

/// Four answers each: by pairs McNemar would see 4 gained and 16 lost (p = 0.012); by question it is 1 and 4 again.
#[test]
fn several_answers_to_a_question_are_no_independent_evidence() {
    let root = tempfile::tempdir().expect("a directory");
    let all = |recorded| (0..4).flat_map(|repeat| samples(recorded, repeat)).collect::<Vec<_>>();
    let (greedy, warm) = (all(GREEDY), all(WARM));
    let a = run(root.path(), "greedy", &greedy, &info(&greedy, 20, 4));
    let b = run(root.path(), "warm", &warm, &info(&warm, 20, 4));
    let found = paired(&a, &b);
    assert_eq!((found.gained.len(), found.lost.len(), found.questions), (4, 16, 20));
    assert_eq!((found.test, found.p_value), (Test::ExactSignFlip, 0.375));
}

#[test]
fn attempts_without_a_partner_are_left_out_and_counted() {
    let root = tempfile::tempdir().expect("a directory");
    let (greedy, mut warm) = (samples(GREEDY, 0), samples(WARM, 0));
    warm.truncate(15);
    let a = run(root.path(), "greedy", &greedy, &info(&greedy, 20, 1));
    let b = run(root.path(), "warm", &warm, &info(&warm, 20, 1));
    let found = paired(&a, &b);
    assert_eq!((found.pairs, found.without_partner), (15, (5, 0)));
}

#[test]
fn other_questions_are_refused_and_other_settings_told() {
    let root = tempfile::tempdir().expect("a directory");
    let greedy = samples(GREEDY, 0);
    let info = info(&greedy, 20, 1);
    let a = run(root.path(), "a", &greedy, &info);

    let other = RunInfo { benchmark: "aime24".to_owned(), ..info.clone() };
    let b = run(root.path(), "b", &greedy, &other);
    let error = compare(&a, &b, false).expect_err("another benchmark");
    assert!(matches!(error, CompareError::Refused { .. }), "{error}");
    compare(&a, &b, true).expect("forced");

    let mut changed = greedy.clone();
    changed[0].eval.gold = Gold::Math { answer: "17".to_owned() };
    let b = run(root.path(), "c", &changed, &info);
    let error = compare(&a, &b, false).expect_err("another gold answer").to_string();
    assert!(error.starts_with("1 of 20 pairs have the same id but another gold answer"), "{error}");

    let dataset =
        Some(Dataset { id: "a/b".to_owned(), revision: Some("c0ffee".to_owned()), split: None });
    let other = RunInfo { prompts: "full/1".to_owned(), dataset, ..info };
    let b = run(root.path(), "d", &greedy, &other);
    let warnings = paired(&a, &b).warnings;
    assert_eq!(warnings.len(), 2, "{warnings:?}");

    let mut none: Vec<Sample> = greedy[..1].to_vec();
    none[0].trajectory.problem_id = Some("another".to_owned());
    let b = run(root.path(), "e", &none, &other);
    let error = compare(&a, &b, false).expect_err("nothing in common");
    assert!(matches!(error, CompareError::NothingInCommon { .. }), "{error}");
}

#[test]
fn choices_in_another_order_are_told_and_still_paired() {
    let root = tempfile::tempdir().expect("a directory");
    let mut first = samples(GREEDY, 0);
    first.truncate(3);
    let mut second = first.clone();
    for (run, order) in [(&mut first, ["x", "y"]), (&mut second, ["y", "x"])] {
        for sample in run {
            let letter = if order[0] == "x" { 'A' } else { 'B' };
            let shown = order.map(str::to_owned).to_vec();
            sample.trajectory.question = format!("Which? {order:?}");
            sample.eval.gold = Gold::Choice { letter, shown };
        }
    }
    let info = info(&first, 3, 1);
    let found =
        paired(&run(root.path(), "a", &first, &info), &run(root.path(), "b", &second, &info));
    assert_eq!(found.warnings, ["choices were shown in another order in 3 pairs"]);
}

/// The sentence that the published table lacks.
#[test]
fn the_published_pair_is_no_evidence_of_anything() {
    let found = paired(
        &operand("published:agentflow-pro/aime24/before"),
        &operand("published:agentflow-pro/aime24/after"),
    );
    assert_eq!(found.words(), "no evidence of a difference: 5 gained, 6 lost, p = 1.00");
    assert_eq!((found.both_right, found.both_wrong), (4, 15));
    // GPQA's flips are not told: 40 and 45 of 100 could not reach 5 % whatever they were.
    let found = unpaired(
        &operand("published:agentflow-pro/gpqa/before"),
        &operand("published:agentflow-pro/gpqa/after"),
    );
    let best = found[0].best_possible_p.expect("the same number of questions");
    assert!((best - 0.0625).abs() < 1e-12);
    assert!(found[0].words().starts_with("no evidence of a difference"));
    insta::assert_snapshot!(Comparison::Unpaired(Box::new(found[0].clone())));
}

#[test]
fn a_run_stands_beside_every_published_row() {
    let root = tempfile::tempdir().expect("a directory");
    let greedy = samples(GREEDY, 0);
    let info = RunInfo { benchmark: "aime24".to_owned(), ..info(&greedy, 20, 1) };
    let a = run(root.path(), "mine", &greedy, &info);
    let rows = unpaired(&a, &operand("published:agentflow-pro/aime24"));
    assert_eq!(rows.len(), 2);
    for row in &rows {
        let (p, adjusted) = (row.p_value.expect("counted"), row.p_holm.expect("two rows"));
        assert!(
            p <= adjusted && adjusted < 0.05,
            "75 % of 20 against a third of 30: {p} {adjusted}"
        );
        assert!(row.difference < 0.0);
    }
    let rows = unpaired(&operand("published:agentflow/aime24"), &a);
    assert_eq!(rows.len(), 16);
    let error = compare(&a, &operand("published:dapo/aime24"), false).map(|found| found.len());
    assert_eq!(error.expect("comparable"), 7);
    let error =
        compare(&operand("published:dapo/aime24"), &operand("published:agentflow/aime24"), false);
    assert!(matches!(error, Err(CompareError::Ambiguous { .. })));
}
