//! Rows of a window, and a loss over any cut of them into micro-batches.

use std::collections::BTreeMap;

use agentflow_train::policy::loss::{
    Credit, LossConfig, LossError, LossMetrics, MicroBatch, PackedRow, Scores, Window, WindowRow,
    entropy_threshold, policy_loss,
};
use candle_core::{DType, Device, Tensor, Var};
use serde::Deserialize;

/// One completion with everything a loss may read; as `scripts/golden/policy_loss.py` writes it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Row {
    pub(crate) group: u64,
    pub(crate) advantage: f64,
    pub(crate) mask: Vec<u8>,
    pub(crate) logprobs: Vec<f64>,
    /// Absent on the first pass.
    #[serde(default)]
    pub(crate) old_logprobs: Vec<f64>,
    pub(crate) reference_logprobs: Vec<f64>,
    pub(crate) entropies: Vec<f64>,
}

impl Row {
    pub(crate) fn loss_tokens(&self) -> usize {
        self.mask.iter().filter(|mask| **mask == 1).count()
    }

    /// The row without the tokens that do not count.
    pub(crate) fn only_loss_tokens(&self) -> Self {
        let keep = |values: &[f64]| -> Vec<f64> {
            values.iter().zip(&self.mask).filter(|(_, mask)| **mask == 1).map(|(v, _)| *v).collect()
        };
        Self {
            mask: vec![1; self.loss_tokens()],
            logprobs: keep(&self.logprobs),
            old_logprobs: keep(&self.old_logprobs),
            reference_logprobs: keep(&self.reference_logprobs),
            entropies: keep(&self.entropies),
            ..self.clone()
        }
    }
}

/// What came out of a window.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    pub(crate) loss: f64,
    /// By row of the window, then token.
    pub(crate) gradients: Vec<Vec<f64>>,
    /// Empty rows where the entropies have none.
    pub(crate) entropy_gradients: Vec<Vec<f64>>,
    pub(crate) metrics: BTreeMap<&'static str, f64>,
}

pub(crate) fn window(rows: &[Row], max_completion_length: usize) -> Window {
    let rows =
        rows.iter().map(|row| WindowRow { group: row.group, loss_tokens: row.loss_tokens() });
    Window::new(rows.collect(), max_completion_length)
}

/// Sums losses, gradients and metrics over `cut`: the rows of each micro-batch, in the order packed.
pub(crate) fn evaluate(
    rows: &[Row],
    cut: &[Vec<usize>],
    config: &LossConfig,
    max_completion_length: usize,
    dtype: DType,
) -> Result<Outcome, LossError> {
    let window = window(rows, max_completion_length);
    let counting = rows.iter().flat_map(|row| row.entropies.iter().zip(&row.mask));
    let entropies: Vec<f64> =
        counting.filter(|(_, mask)| **mask == 1).map(|(entropy, _)| *entropy).collect();
    let entropy_threshold = Some(entropy_threshold(&entropies, config.top_entropy_quantile));
    let mut outcome = Outcome {
        loss: 0.0,
        gradients: vec![Vec::new(); rows.len()],
        entropy_gradients: vec![Vec::new(); rows.len()],
        metrics: BTreeMap::new(),
    };
    let mut metrics = LossMetrics::default();
    for part in cut {
        let packed = part.iter().map(|&row| PackedRow {
            window_row: row,
            advantage: Credit::Row(rows[row].advantage),
            mask: rows[row].mask.iter().map(|mask| *mask == 1).collect(),
        });
        let batch = MicroBatch::new(packed.collect(), &window)?;
        let tensor = |values: fn(&Row) -> &Vec<f64>| -> candle_core::Result<Tensor> {
            let values: Vec<f64> =
                part.iter().flat_map(|&row| values(&rows[row]).clone()).collect();
            let count = values.len();
            Tensor::from_vec(values, count, &Device::Cpu)?.to_dtype(dtype)
        };
        let logprobs = Var::from_tensor(&tensor(|row| &row.logprobs)?)?;
        let entropies = Var::from_tensor(&tensor(|row| &row.entropies)?)?;
        let first_pass = rows.iter().all(|row| row.old_logprobs.is_empty() && !row.mask.is_empty());
        let old = if first_pass { None } else { Some(tensor(|row| &row.old_logprobs)?) };
        let reference = tensor(|row| &row.reference_logprobs)?;
        let scores = Scores {
            logprobs: &logprobs,
            old_logprobs: old.as_ref(),
            reference_logprobs: Some(&reference),
            entropies: Some(&entropies),
            entropy_threshold,
        };
        let part_loss = policy_loss(&scores, &batch, &window, config)?;
        let gradients = part_loss.loss.backward()?;
        outcome.loss += part_loss.loss.to_dtype(DType::F64)?.to_scalar::<f64>()?;
        metrics.merge(&part_loss.metrics);
        let by_row =
            [(&logprobs, &mut outcome.gradients), (&entropies, &mut outcome.entropy_gradients)];
        for (var, by_row) in by_row {
            let Some(gradient) = gradients.get(var) else { continue };
            let gradient: Vec<f64> = gradient.to_dtype(DType::F64)?.to_vec1()?;
            let mut rest = gradient.as_slice();
            for &row in part {
                let (own, others) = rest.split_at(rows[row].mask.len());
                by_row[row] = own.to_vec();
                rest = others;
            }
        }
    }
    outcome.metrics = metrics.values();
    Ok(outcome)
}

/// All rows in one micro-batch, in order.
pub(crate) fn whole(rows: &[Row]) -> Vec<Vec<usize>> {
    vec![(0..rows.len()).collect()]
}

pub(crate) fn config(toml: &str) -> LossConfig {
    let off = "beta = 0\nkl_bias_correction = true\nentropy_coef = 0\ntop_entropy_quantile = 1\n";
    let given: toml::Table = toml.parse().expect("TOML");
    let mut table: toml::Table = off.parse().expect("TOML");
    table.extend(given);
    table.try_into().expect("a loss configuration")
}

#[track_caller]
pub(crate) fn assert_close(found: f64, wanted: f64, relative: f64, absolute: f64, what: &str) {
    let bound = relative * wanted.abs() + absolute;
    assert!((found - wanted).abs() <= bound, "{what}: {found} instead of {wanted}");
}
