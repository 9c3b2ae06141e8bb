//! What judge and rollouts agree on.

use std::slice::from_ref;

use agentflow_agent::trajectory::ModelRecord;
use agentflow_llm::Usage;
use agentflow_train::label::consensus::{Cell, ConsensusError, MARGIN, Report, Rule, consensus};
use agentflow_train::label::{Label, Provenance, SCHEMA};

const RULE: Rule = Rule { margin: MARGIN, signals: false };

fn model(name: &str) -> ModelRecord {
    ModelRecord { name: name.to_owned(), backend: "local".to_owned(), digest: None, adapter: None }
}

fn label(step: usize, label: Option<f64>, by: Provenance) -> Label {
    Label {
        schema: SCHEMA.to_owned(),
        run: Some("run".to_owned()),
        trajectory: "t".to_owned(),
        step,
        benchmark: None,
        problem_id: "p".to_owned(),
        state: "s".to_owned(),
        last: false,
        outcome: Some(1.0),
        text: format!("step {step}"),
        prm_prompt: "prm-full/1".to_owned(),
        label,
        missing: label.is_none().then(|| "refused".to_owned()),
        by,
        usage: Usage { prompt_tokens: 7, completion_tokens: 7 },
        wall_ms: 7,
    }
}

fn judged(step: usize, value: Option<f64>) -> Label {
    let (model, rubric) = (model("judge"), "rubric/1+gold".to_owned());
    label(step, value, Provenance::Judge { model, rubric, scores: None, reason: None, raw: None })
}

fn rolled(step: usize, value: Option<f64>) -> Label {
    let by = Provenance::MonteCarlo {
        policy: model("policy"),
        temperature: 1.0,
        seed: 0,
        rollouts: 8,
        right: 0,
    };
    label(step, value, by)
}

fn compared(judge: &[Label], rollouts: &[Label], rule: Rule) -> (Vec<Label>, Report) {
    consensus(judge, rollouts, rule, &|label| Some(label.step != 1)).expect("they fit together")
}

#[test]
fn what_is_within_the_margin_is_kept_with_the_mean() {
    let judge = [judged(0, Some(0.9)), judged(1, Some(0.9)), judged(2, Some(0.1))];
    let rollouts = [rolled(2, Some(0.0)), rolled(1, Some(0.25)), rolled(0, Some(0.65))];
    let (kept, report) = compared(&judge, &rollouts, RULE);
    // 0.9 and 0.65 are the margin apart, though not in floating point.
    let labels: Vec<_> = kept.iter().map(|label| (label.step, label.label.unwrap())).collect();
    let near = |of: (usize, f64), step, label: f64| of.0 == step && (of.1 - label).abs() < 1e-12;
    assert!(
        labels.len() == 2 && near(labels[0], 0, 0.775) && near(labels[1], 2, 0.05),
        "{labels:?}"
    );
    let by = Provenance::Consensus { judge: 0.9, monte_carlo: 0.65, margin: 0.25 };
    assert_eq!((&kept[0].by, kept[0].usage), (&by, Usage::default()));
    assert_eq!((report.kept(), report.compared(), report.apart), (2, 3, 1));
    // By region: high with middle was kept, high with low was not, low with low was.
    assert_eq!(report.table[2][1], Cell { kept: 1, of: 1 });
    assert_eq!(report.table[2][0], Cell { kept: 0, of: 1 });
    assert_eq!(report.table[0][0], Cell { kept: 1, of: 1 });
    assert_eq!(
        report.to_string(),
        "\
kept 2/3 (67 %) of the decisions with both labels
kept/all             rollouts low             middle               high
judge low             1/1 (100 %)                  -                  -
judge middle                    -                  -                  -
judge high              0/1 (0 %)        1/1 (100 %)                  -
dropped: 1 further apart than the margin"
    );
}

#[test]
fn every_drop_is_counted_by_its_cause() {
    let judge = [
        judged(0, None),
        judged(1, Some(1.0)),
        judged(2, None),
        judged(3, Some(1.0)),
        judged(4, Some(1.0)),
        judged(6, Some(1.0)),
    ];
    let mut other_text = rolled(4, Some(1.0));
    other_text.text = "another".to_owned();
    let rollouts = [
        rolled(0, Some(1.0)),
        rolled(1, None),
        rolled(2, None),
        other_text,
        rolled(5, Some(1.0)),
        rolled(6, Some(1.0)),
    ];
    let (kept, report) = compared(&judge, &rollouts, RULE);
    assert_eq!(kept.len(), 1);
    let dropped = (report.missing_judge, report.missing_monte_carlo, report.missing_both);
    assert_eq!(dropped, (1, 1, 1));
    assert_eq!((report.only_judge, report.only_monte_carlo, report.other_text), (1, 1, 1));
}

#[test]
fn signals_veto_and_only_where_they_are_asked() {
    let last = |mut label: Label, outcome| {
        label.last = true;
        label.outcome = Some(outcome);
        label
    };
    // Step 0 ends with a wrong answer, the tool of step 1 failed, and step 2 is fine.
    let judge = [last(judged(0, Some(0.9)), 0.0), judged(1, Some(0.9)), judged(2, Some(0.9))];
    let rollouts = [last(rolled(0, Some(0.8)), 0.0), rolled(1, Some(0.8)), rolled(2, Some(0.8))];
    let (kept, report) = compared(&judge, &rollouts, Rule { signals: true, ..RULE });
    assert_eq!(kept.iter().map(|label| label.step).collect::<Vec<_>>(), [2]);
    assert_eq!((report.against_outcome, report.tool_failed, report.apart), (1, 1, 0));
    assert_eq!(compared(&judge, &rollouts, RULE).0.len(), 3);
}

#[test]
fn files_that_do_not_fit_together_are_refused() {
    let error = |judge: &[Label], rollouts: &[Label], margin| {
        let rule = Rule { margin, ..RULE };
        consensus(judge, rollouts, rule, &|_| None).expect_err("they do not fit").to_string()
    };
    let (judge, rollouts) = (judged(0, Some(1.0)), rolled(0, Some(1.0)));
    let mut compact = rollouts.clone();
    compact.prm_prompt = "prm-compact/1".to_owned();
    let text = error(from_ref(&judge), &[compact], MARGIN);
    assert!(text.contains("`prm-full/1`") && text.contains("`prm-compact/1`"), "{text}");
    let twice = error(&[judge.clone(), judge.clone()], from_ref(&rollouts), MARGIN);
    assert!(
        twice.contains("step 0 of trajectory `t` has two labels in the judge's file"),
        "{twice}"
    );
    let swapped = error(from_ref(&rollouts), from_ref(&judge), MARGIN);
    assert!(swapped.contains("give the judge's labels first"), "{swapped}");
    let disjoint = consensus(from_ref(&judge), &[rolled(1, Some(1.0))], RULE, &|_| None);
    assert_eq!(disjoint, Err(ConsensusError::Disjoint));
    assert!(error(&[judge], &[rollouts], f64::NAN).starts_with("the margin is NaN"));
}
