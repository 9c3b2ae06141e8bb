//! Loss and gradients of one optimizer window: all rows between two updates, in micro-batches that fit into memory.

use std::collections::BTreeMap;

use agentflow_model::ModelError;
use candle_core::{DType, Tensor, Var};

use super::DapoError;
use super::config::DapoConfig;
use super::guards::LogprobGap;
use super::pass::{Packed, Pass, TokenScores, Who, cut};
use super::row::{Row, RowProblem};
use crate::policy::loss::{
    Credit, LossError, LossMetrics, MicroBatch, PackedRow, Scores, Window, WindowRow,
    entropy_threshold, policy_loss,
};
use crate::workers::Workers;

/// The rows of a window, checked and cut.
pub(super) struct Windowed<'a> {
    pub(super) rows: &'a [Row],
    /// Of each row, the places in its completion that count.
    counted: Vec<Vec<usize>>,
    pub(super) window: Window,
    /// Rows of each micro-batch; those without a token that counts are in none.
    pub(super) parts: Vec<Vec<usize>>,
}

/// What a window gives.
pub(super) struct Computed {
    pub(super) loss: f64,
    pub(super) metrics: LossMetrics,
    /// In f32, summed over micro-batches in their order.
    pub(super) gradients: BTreeMap<String, Tensor>,
    /// Between the policy that sampled and this trainer's view of it.
    pub(super) gap: LogprobGap,
}

/// What a micro-batch gives.
struct Part {
    loss: f64,
    metrics: LossMetrics,
    /// Of the tokens that count, row after row.
    logprobs: Vec<f32>,
    gradients: BTreeMap<String, Tensor>,
}

/// Log-probs and entropies of the tokens of a row that count.
#[derive(Clone, Default)]
pub(super) struct RowScores {
    pub(super) logprobs: Vec<f32>,
    pub(super) entropies: Vec<f32>,
}

impl<'a> Windowed<'a> {
    /// # Errors
    /// A row that cannot be used; the error says which and why.
    pub(super) fn new(
        rows: &'a [Row],
        pass: &Pass,
        config: &DapoConfig,
        workers: &Workers,
    ) -> Result<Self, DapoError> {
        let model = pass.policy.config();
        let (vocabulary, context) = (model.vocab_size, model.max_position_embeddings);
        for (index, row) in rows.iter().enumerate() {
            row.check(vocabulary, context, pass.temperature)
                .map_err(|problem| DapoError::Row { row: index, problem })?;
        }
        let counted: Vec<Vec<usize>> = rows
            .iter()
            .map(|row| {
                let mask = row.loss_mask(&config.overlong);
                (0..mask.len()).filter(|token| mask[*token]).collect()
            })
            .collect();
        let length = |(row, counted): (&Row, &Vec<usize>)| {
            counted.last().map_or(0, |last| row.prompt.len() + last)
        };
        let lengths: Vec<usize> = rows.iter().zip(&counted).map(length).collect();
        let of_row = |(row, counted): (&Row, &Vec<usize>)| WindowRow {
            group: row.group,
            loss_tokens: counted.len(),
        };
        let window_rows = rows.iter().zip(&counted).map(of_row).collect();
        let window = Window::new(window_rows, config.sampling.max_tokens);
        let parts = cut(&lengths, config.batch.micro_batch_tokens, workers.count());
        Ok(Self { rows, counted, window, parts })
    }

    /// Log-probs and entropies of the tokens that count, by row of the window; without gradient.
    pub(super) fn score(
        &self,
        who: Who,
        pass: &Pass,
        workers: &Workers,
    ) -> Result<Vec<RowScores>, DapoError> {
        let part = |part: &Vec<usize>| -> Result<_, ModelError> {
            let TokenScores { logprobs, entropies } = pass.score(who, &self.pack(part, pass)?)?;
            Ok((logprobs.to_vec1::<f32>()?, entropies.to_vec1::<f32>()?))
        };
        let mut scored = vec![RowScores::default(); self.rows.len()];
        for (rows, result) in self.parts.iter().zip(workers.run(&self.parts, part)) {
            let (logprobs, entropies) = result?;
            let (mut logprobs, mut entropies) = (logprobs.into_iter(), entropies.into_iter());
            for &row in rows {
                let count = self.counted[row].len();
                let take = |values: &mut std::vec::IntoIter<f32>| values.take(count).collect();
                scored[row] =
                    RowScores { logprobs: take(&mut logprobs), entropies: take(&mut entropies) };
            }
        }
        Ok(scored)
    }

    /// Scores of the tokens that count, one a token of the completion, 0 on the others.
    pub(super) fn spread(&self, row: usize, scores: &[f32]) -> Vec<f32> {
        let mut all = vec![0.0; self.rows[row].completion.len()];
        for (&token, &score) in self.counted[row].iter().zip(scores) {
            all[token] = score;
        }
        all
    }

    /// Loss, gradients of `variables` and metrics of the whole window.
    pub(super) fn gradients(
        &self,
        pass: &Pass,
        variables: &BTreeMap<String, Var>,
        config: &DapoConfig,
        workers: &Workers,
    ) -> Result<Computed, DapoError> {
        let quantile = config.loss.top_entropy_quantile;
        let threshold = match quantile < 1.0 {
            true => {
                let scored = self.score(Who::Policy, pass, workers)?;
                let entropies = scored.iter().flat_map(|row| &row.entropies);
                let entropies: Vec<f64> = entropies.map(|entropy| f64::from(*entropy)).collect();
                Some(entropy_threshold(&entropies, quantile))
            }
            false => None,
        };
        let results = workers
            .run(&self.parts, |part| self.micro_batch(part, pass, variables, config, threshold));
        let mut total = Computed {
            loss: 0.0,
            metrics: LossMetrics::default(),
            gradients: BTreeMap::new(),
            gap: LogprobGap::default(),
        };
        // In the order of the parts, whichever worker was first.
        for (part, result) in self.parts.iter().zip(results) {
            let Part { loss, metrics, logprobs, gradients } = result?;
            total.loss += loss;
            total.metrics.merge(&metrics);
            self.compare(part, &logprobs, &mut total.gap);
            for (name, gradient) in gradients {
                let gradient = gradient.to_dtype(DType::F32)?;
                let sum = match total.gradients.remove(&name) {
                    Some(sum) => (sum + gradient)?,
                    None => gradient,
                };
                total.gradients.insert(name, sum);
            }
        }
        Ok(total)
    }

    fn micro_batch(
        &self,
        part: &[usize],
        pass: &Pass,
        variables: &BTreeMap<String, Var>,
        config: &DapoConfig,
        entropy_threshold: Option<f64>,
    ) -> Result<Part, DapoError> {
        let packed = self.pack(part, pass)?;
        let batch =
            MicroBatch::new(part.iter().map(|row| self.packed_row(*row)).collect(), &self.window)?;
        let old = self.frozen(part, "old_logprobs", |row| row.old_logprobs.as_ref(), pass)?;
        let reference = match config.loss.beta == 0.0 {
            true => None,
            false => {
                let of_row = |row: &'a Row| row.reference_logprobs.as_ref();
                self.frozen(part, "reference_logprobs", of_row, pass)?
            }
        };
        let head = |hidden: &Tensor| -> Result<_, ModelError> {
            let TokenScores { logprobs, entropies } = pass.tokens(hidden, &packed)?;
            let scores = Scores {
                logprobs: &logprobs,
                old_logprobs: old.as_ref(),
                reference_logprobs: reference.as_ref(),
                entropies: Some(&entropies),
                entropy_threshold,
            };
            let computed =
                policy_loss(&scores, &batch, &self.window, &config.loss).map_err(|error| {
                    match error {
                        LossError::Candle(error) => error,
                        other => candle_core::Error::wrap(other),
                    }
                })?;
            let loss = f64::from(computed.loss.to_scalar::<f32>()?);
            Ok((computed.loss, (loss, computed.metrics, logprobs.to_vec1::<f32>()?)))
        };
        let recompute = config.batch.recompute;
        let ((loss, metrics, logprobs), gradients) =
            pass.policy.gradients(&packed.sequences, variables, recompute, head)?;
        Ok(Part { loss, metrics, logprobs, gradients })
    }

    fn pack(&self, part: &[usize], pass: &Pass) -> Result<Packed, ModelError> {
        let rows: Vec<(&Row, &[usize])> =
            part.iter().map(|&row| (&self.rows[row], self.counted[row].as_slice())).collect();
        pass.pack(&rows)
    }

    /// A row as the loss sees it: of its tokens, those that count.
    fn packed_row(&self, row: usize) -> PackedRow {
        let counted = &self.counted[row];
        let advantage = match &self.rows[row].advantage {
            Credit::Row(advantage) => Credit::Row(*advantage),
            Credit::Tokens(advantages) => {
                Credit::Tokens(counted.iter().map(|token| advantages[*token]).collect())
            }
        };
        PackedRow { window_row: row, advantage, mask: vec![true; counted.len()] }
    }

    /// Log-probs that rows bring along, `[T]`; `None` where no row of the window has them.
    fn frozen(
        &self,
        part: &[usize],
        name: &'static str,
        of_row: impl Fn(&'a Row) -> Option<&'a Vec<f32>>,
        pass: &Pass,
    ) -> Result<Option<Tensor>, DapoError> {
        if self.rows.iter().all(|row| of_row(row).is_none()) {
            return Ok(None);
        }
        let mut logprobs = Vec::new();
        for &row in part {
            let missing = DapoError::Row { row, problem: RowProblem::Missing { name } };
            let of_row = of_row(&self.rows[row]).ok_or(missing)?;
            logprobs.extend(self.counted[row].iter().map(|token| of_row[*token]));
        }
        Ok(Some(Tensor::new(logprobs, pass.policy.device())?))
    }

    /// The sampler's log-probs beside those of the policy that sampled: the frozen ones, or, before the first update, the pass's.
    fn compare(&self, part: &[usize], logprobs: &[f32], gap: &mut LogprobGap) {
        let mut logprobs = logprobs.iter();
        for &index in part {
            let row = &self.rows[index];
            for (&token, &now) in self.counted[index].iter().zip(logprobs.by_ref()) {
                let trained = row.old_logprobs.as_ref().map_or(now, |old| old[token]);
                if let Some(sampled) = &row.sampled_logprobs {
                    gap.add(index, token, sampled[token], trained);
                }
            }
        }
    }
}
