//! Golden: `GRPOTrainer._compute_loss` of TRL 1.16 in float64, `scripts/golden/policy_loss.py`.

use std::collections::BTreeMap;

use agentflow_train::policy::loss::{LossConfig, TokenAggregation};
use candle_core::DType;
use serde::Deserialize;

use crate::rows::{Outcome, Row, assert_close, evaluate, whole};

#[derive(Deserialize)]
struct File {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    config: LossConfig,
    max_completion_length: usize,
    loss: f64,
    metrics: BTreeMap<String, Option<f64>>,
    rows: Vec<GoldenRow>,
}

#[derive(Deserialize)]
struct GoldenRow {
    #[serde(flatten)]
    row: Row,
    micro_batch: usize,
    gradient: Vec<f64>,
    #[serde(default)]
    entropy_gradient: Vec<f64>,
}

impl Case {
    fn rows(&self) -> Vec<Row> {
        self.rows.iter().map(|row| row.row.clone()).collect()
    }

    /// As TRL cut the window.
    fn cut(&self) -> Vec<Vec<usize>> {
        let of = |part| (0..self.rows.len()).filter(move |&row| self.rows[row].micro_batch == part);
        (0..2).map(|part| of(part).collect()).collect()
    }

    fn evaluate(&self, cut: &[Vec<usize>], dtype: DType) -> Outcome {
        evaluate(&self.rows(), cut, &self.config, self.max_completion_length, dtype)
            .unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    fn assert_matches(&self, outcome: &Outcome, relative: f64, absolute: f64) {
        let name = &self.name;
        assert_close(outcome.loss, self.loss, relative, absolute, name);
        for (index, row) in self.rows.iter().enumerate() {
            let pairs = [
                (&row.gradient, &outcome.gradients[index], "gradient"),
                (&row.entropy_gradient, &outcome.entropy_gradients[index], "entropy gradient"),
            ];
            for (wanted, found, of) in pairs {
                assert_eq!(found.len(), wanted.len(), "{name}: {of} of row {index}");
                for (token, (found, wanted)) in found.iter().zip(wanted).enumerate() {
                    let what = format!("{name}: {of} of row {index}, token {token}");
                    assert_close(*found, *wanted, relative, absolute, &what);
                }
            }
        }
    }
}

fn cases() -> Vec<Case> {
    let file = include_str!("../golden/policy_loss.json");
    serde_json::from_str::<File>(file).expect("golden file").cases
}

#[test]
fn losses_and_gradients_match_trl() {
    let cases = cases();
    assert_eq!(cases.len(), 18);
    for case in cases {
        case.assert_matches(&case.evaluate(&case.cut(), DType::F64), 1e-9, 1e-12);
        case.assert_matches(&case.evaluate(&case.cut(), DType::F32), 1e-5, 1e-8);
    }
}

/// One row at a time from the last to the first, and everything at once: what TRL gives for its two micro-batches.
#[test]
fn any_cut_matches_trl() {
    for case in cases() {
        let one_by_one: Vec<Vec<usize>> = (0..case.rows.len()).rev().map(|row| vec![row]).collect();
        for cut in [one_by_one, whole(&case.rows())] {
            case.assert_matches(&case.evaluate(&cut, DType::F64), 1e-9, 1e-12);
        }
    }
}

#[test]
fn metrics_match_trl() {
    for case in cases() {
        let outcome = case.evaluate(&case.cut(), DType::F64);
        for (key, wanted) in &case.metrics {
            let found = outcome.metrics.get(key.as_str()).copied();
            match wanted {
                // TRL's NaN: there is no row to take the extreme of.
                None => assert_eq!(found, None, "{}: {key}", case.name),
                Some(wanted) => {
                    let what = format!("{}: {key}", case.name);
                    // TRL's shares are float32.
                    assert_close(found.unwrap_or(f64::NAN), *wanted, 1e-6, 1e-9, &what);
                }
            }
        }
    }
}

/// The golden inputs tell wrong versions apart: without the option that a case is about, its loss is another.
#[test]
fn every_option_matters() {
    type Change = fn(&mut LossConfig);
    let changes: [(&str, Change); 10] = [
        ("dapo", |config| config.clip_low = Some(0.28)),
        ("dapo", |config| config.clip_high = 0.2),
        ("dapo", |config| config.aggregation = Some(TokenAggregation::GroupTokenMean)),
        ("dapo_delta", |config| config.delta = None),
        ("dapo_kl", |config| config.beta = 0.0),
        ("dapo_kl", |config| config.kl_bias_correction = false),
        ("dapo_top_entropy", |config| config.top_entropy_quantile = 1.0),
        ("dapo_entropy_bonus", |config| config.entropy_coef = 0.0),
        ("gspo", |config| config.clip_high = 0.03),
        ("cispo", |config| config.clip_high = 5.0),
    ];
    for (name, change) in changes {
        let mut case = cases().into_iter().find(|case| case.name == name).expect("a case");
        change(&mut case.config);
        let loss = case.evaluate(&case.cut(), DType::F64).loss;
        assert!((loss - case.loss).abs() > 1e-3, "{name}: {:?} gives {loss}, too", case.config);
    }
}
