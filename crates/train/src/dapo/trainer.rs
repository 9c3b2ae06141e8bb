//! From rows with advantages to an updated adapter.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use agentflow_model::{Adapter, AdapterTask, Grammar, ModelError, Qwen3};
use candle_core::{DType, Tensor, Var};

use super::config::DapoConfig;
use super::guards::{GuardConfig, GuardCounts, LogprobGap};
use super::masks::Masks;
use super::metrics::{self, UpdateMetrics};
use super::pass::{Pass, Who};
use super::row::Row;
use super::window::Windowed;
use super::{DapoError, DiagnosedError};
use crate::adamw::AdamW;
use crate::workers::Workers;

/// A base model, an adapter in training beside it, and the optimizer.
pub struct Trainer {
    pub(super) config: DapoConfig,
    pub(super) adapter: Adapter,
    pub(super) variables: BTreeMap<String, Var>,
    pub(super) optimizer: AdamW,
    pub(super) guards: GuardCounts,
    /// Updates so far, skipped ones included.
    pub(super) updates: u64,
    pub(super) skipped: u64,
    pass: Pass,
    workers: Workers,
}

impl Trainer {
    /// A trainer of `adapter`, as [`Adapter::open`] gives it, or of a new one as `lora` and `seed` of `config` say.
    ///
    /// `base` must hold plain weights, without an adapter; they are shared and never written. `grammar` is that of its tokenizer,
    /// and needed where rows have a schema.
    ///
    /// # Errors
    /// A configuration that contradicts itself; an adapter of another base, rank or scale.
    pub fn new(
        base: &Qwen3,
        adapter: Option<&Adapter>,
        grammar: Option<Arc<Grammar>>,
        config: DapoConfig,
    ) -> Result<Self, DapoError> {
        config.check()?;
        let lora = config.lora.as_ref();
        let (shape, device) = (base.config(), base.device());
        let fresh = lora.map(|it| Adapter::init(shape, it, config.seed, DType::F32, device));
        let adapter = match (adapter, fresh.transpose()?) {
            (Some(adapter), fresh) => {
                if let Some(wanted) = fresh {
                    same_shape(adapter, &wanted)?;
                }
                adapter.trainable()?
            }
            (None, Some(fresh)) => fresh,
            (None, None) => return Err(DapoError::NoAdapter),
        };
        let variables = adapter.variables();
        Ok(Self {
            optimizer: AdamW::new(config.optimizer.clone(), &variables)?,
            guards: GuardCounts::default(),
            updates: 0,
            skipped: 0,
            pass: Pass {
                policy: base.with_adapter(&adapter)?,
                reference: base.clone(),
                masks: Masks::new(grammar),
                temperature: config.sampling.temperature,
                plain: config.sampling.plain_logprobs,
            },
            workers: Workers::new(config.batch.workers, device)?,
            variables,
            adapter,
            config,
        })
    }

    /// The model with the adapter as it is at any moment: an engine over a clone of it samples from each update as soon as it is
    /// made. Call [`forget_prefixes`](agentflow_model::Engine::forget_prefixes) after one.
    pub fn policy(&self) -> &Qwen3 {
        &self.pass.policy
    }

    pub fn adapter(&self) -> &Adapter {
        &self.adapter
    }

    pub fn config(&self) -> &DapoConfig {
        &self.config
    }

    /// Updates so far, skipped ones included.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// Every update that one rollout is for: on each of `windows` in turn, `batch.updates_per_rollout` times over.
    ///
    /// Where that is more than one update, old log-probs are frozen first. To stop and go on in the middle of a rollout, call
    /// [`Trainer::prepare`] and [`Trainer::update`] yourself, and keep the rows.
    ///
    /// # Errors
    /// As [`Trainer::update`].
    pub fn learn(
        &mut self,
        windows: &mut [Vec<Row>],
        on_update: &mut dyn FnMut(&UpdateMetrics),
    ) -> Result<(), DapoError> {
        let passes = self.config.batch.updates_per_rollout;
        let freeze = passes * windows.len() > 1;
        for rows in &mut *windows {
            self.prepare(rows, freeze)?;
        }
        for _ in 0..passes {
            for rows in &*windows {
                on_update(&self.update(rows)?);
            }
        }
        Ok(())
    }

    /// Gives the rows of a window what the loss compares with: old log-probs of the policy as it is now, if `freeze`, and those of the
    /// reference, if `loss.beta` is not 0. Rows that have them keep them.
    ///
    /// # Errors
    /// Rows that cannot be used, or a failed computation.
    pub fn prepare(&self, rows: &mut [Row], freeze: bool) -> Result<(), DapoError> {
        let has_old = |row: &Row| row.old_logprobs.is_some();
        let has_reference = |row: &Row| row.reference_logprobs.is_some();
        if freeze && !rows.iter().all(has_old) {
            let scored = self.logprobs_of(Who::Policy, rows)?;
            for (row, logprobs) in rows.iter_mut().zip(scored) {
                row.old_logprobs.get_or_insert(logprobs);
            }
        }
        if self.config.loss.beta != 0.0 && !rows.iter().all(has_reference) {
            let scored = self.logprobs_of(Who::Reference, rows)?;
            for (row, logprobs) in rows.iter_mut().zip(scored) {
                row.reference_logprobs.get_or_insert(logprobs);
            }
        }
        Ok(())
    }

    /// The log-probs of each row, one a token of its completion, 0 where a token does not count in the loss: by the same pass as
    /// an update's, under the weights of now.
    ///
    /// # Errors
    /// Rows that cannot be used, or a failed computation.
    pub fn logprobs(&self, rows: &[Row]) -> Result<Vec<Vec<f32>>, DapoError> {
        self.logprobs_of(Who::Policy, rows)
    }

    fn logprobs_of(&self, who: Who, rows: &[Row]) -> Result<Vec<Vec<f32>>, DapoError> {
        let windowed = Windowed::new(rows, &self.pass, &self.config, &self.workers)?;
        let scored = windowed.score(who, &self.pass, &self.workers)?;
        let rows = scored.iter().enumerate();
        Ok(rows.map(|(row, scores)| windowed.spread(row, &scores.logprobs)).collect())
    }

    /// One update on one window of rows.
    ///
    /// A window without a token that counts changes nothing, nor does one with a gradient that is not finite: the metrics say so,
    /// and name the variable. Both count as updates for the schedule.
    ///
    /// # Errors
    /// Rows that cannot be used; the weights are then as before. Or what a guard found; an update that made a guard
    /// end the run is done, but for log-probs that disagree, and its metrics come with the error.
    pub fn update(&mut self, rows: &[Row]) -> Result<UpdateMetrics, DapoError> {
        let started = Instant::now();
        let windowed = Windowed::new(rows, &self.pass, &self.config, &self.workers)?;
        let lr = self.config.optimizer.lr * self.config.schedule.factor(self.updates);
        let mut metrics = UpdateMetrics {
            update: self.updates + 1,
            applied: false,
            not_finite: None,
            skipped: self.skipped,
            loss: Some(0.0),
            grad_norm: Some(0.0),
            lr,
            rows: rows.len(),
            loss_tokens: windowed.window.tokens(),
            num_tokens: rows.iter().map(|row| row.prompt.len() + row.completion.len()).sum(),
            micro_batches: windowed.parts.len(),
            step_time: 0.0,
            values: metrics::of_rows(rows),
        };
        if windowed.window.tokens() > 0 {
            let computed =
                windowed.gradients(&self.pass, &self.variables, &self.config, &self.workers)?;
            metrics::of_gap(&computed.gap, &mut metrics.values);
            if let Some(config) = &self.config.guards {
                self.check_gap(&computed.gap, config, rows)?;
            }
            let values = computed.metrics.values().into_iter();
            let finite = values.filter(|(_, value)| value.is_finite()); // JSON has no others
            metrics.values.extend(finite.map(|(name, value)| (name.to_owned(), value)));
            metrics.loss = Some(computed.loss).filter(|loss| loss.is_finite());
            let norm = norm(&computed.gradients)?;
            metrics.grad_norm = Some(norm).filter(|norm| norm.is_finite());
            if metrics.loss.is_none() || metrics.grad_norm.is_none() {
                metrics.not_finite = Some(self.culprit(&computed.gradients)?);
            } else {
                let gradients: HashMap<String, Tensor> = computed.gradients.into_iter().collect();
                self.optimizer.update(&gradients, lr)?;
                metrics.applied = true;
            }
        }
        self.updates += 1;
        self.skipped += u64::from(!metrics.applied);
        metrics.skipped = self.skipped;
        metrics.step_time = started.elapsed().as_secs_f64();
        match self.config.guards.as_ref().map(|config| self.guards.observe(&metrics, config)) {
            Some(Err(diagnosis)) => {
                Err(DiagnosedError { diagnosis, metrics: Some(metrics) }.into())
            }
            _ => Ok(metrics),
        }
    }

    /// Writes the adapter as a PEFT directory; `base` is the name or path under which PEFT finds the base model.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn save_adapter(&self, dir: &Path, base: &str) -> Result<(), ModelError> {
        self.adapter.save(dir, base, AdapterTask::CausalLm)
    }

    /// Where numbers stopped to be finite: the variable that is not itself, else, as a gradient spoils those of all layers below,
    /// the one of the highest layer whose gradient is not.
    fn culprit(&self, gradients: &BTreeMap<String, Tensor>) -> Result<String, DapoError> {
        for (name, variable) in &self.variables {
            if !squares(variable)?.is_finite() {
                return Ok(name.clone());
            }
        }
        let mut highest: Option<&String> = None;
        for (name, gradient) in gradients {
            let is_higher = highest.is_none_or(|known| layer_of(name) > layer_of(known));
            if is_higher && !squares(gradient)?.is_finite() {
                highest = Some(name);
            }
        }
        Ok(highest.map_or_else(|| "loss".to_owned(), String::clone))
    }

    /// Ends the run where sampler and trainer are further apart than the bounds allow, before anything is learnt from it.
    fn check_gap(
        &self,
        gap: &LogprobGap,
        config: &GuardConfig,
        rows: &[Row],
    ) -> Result<(), DapoError> {
        let Some(worst) = gap.offender(config) else { return Ok(()) };
        // Does the sampler know nothing of the adapter?
        let row = std::slice::from_ref(&rows[worst]);
        let reference = self.logprobs_of(Who::Reference, row)?.remove(0);
        let mut without = LogprobGap::default();
        let mask = row[0].loss_mask(&self.config.overlong);
        for token in (0..mask.len()).filter(|token| mask[*token]) {
            if let Some(sampled) = &row[0].sampled_logprobs {
                without.add(0, token, sampled[token], reference[token]);
            }
        }
        match gap.diagnosis(config, without.offender(config).is_none()) {
            Some(diagnosis) => Err(DiagnosedError { diagnosis, metrics: None }.into()),
            None => Ok(()),
        }
    }
}

/// The L2 norm of all gradients together.
fn norm(gradients: &BTreeMap<String, Tensor>) -> Result<f64, DapoError> {
    let mut total = 0.0;
    for gradient in gradients.values() {
        total += squares(gradient)?;
    }
    Ok(total.sqrt())
}

fn squares(values: &Tensor) -> candle_core::Result<f64> {
    Ok(f64::from(values.sqr()?.sum_all()?.to_dtype(DType::F32)?.to_scalar::<f32>()?))
}

/// The number of the layer that a variable belongs to.
fn layer_of(name: &str) -> Option<usize> {
    name.split_once(".layers.")?.1.split('.').next()?.parse().ok()
}

/// Whether an adapter to go on with is what the run asks for.
fn same_shape(found: &Adapter, wanted: &Adapter) -> Result<(), DapoError> {
    let shapes = |adapter: &Adapter| -> BTreeMap<String, (usize, f64)> {
        adapter.shape().map(|(module, rank, scale)| (module.to_owned(), (rank, scale))).collect()
    };
    let (found_shapes, wanted_shapes) = (shapes(found), shapes(wanted));
    let other =
        |problem: String| Err(DapoError::OtherAdapter { adapter: found.dir().to_owned(), problem });
    for (module, (rank, scale)) in &wanted_shapes {
        match found_shapes.get(module) {
            None => return other(format!("it does not adapt `{module}`, and `lora.targets` does")),
            Some((found, _)) if found != rank => {
                return other(format!("it has rank {found}, and `lora.rank` is {rank}"));
            }
            Some((_, found)) if found != scale => {
                return other(format!(
                    "it is scaled by {found}, and `lora.alpha` with `lora.rank` and `lora.rslora` asks for {scale}"
                ));
            }
            Some(_) => {}
        }
    }
    match found_shapes.keys().find(|module| !wanted_shapes.contains_key(*module)) {
        Some(module) => other(format!("it adapts `{module}`, and `lora.targets` does not")),
        None => Ok(()),
    }
}
