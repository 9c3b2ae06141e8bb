//! What ends a run that goes wrong, with a diagnosis: a run that learns nothing looks normal for hours.

use serde::{Deserialize, Serialize};

use super::metrics::UpdateMetrics;
use crate::policy::PolicyConfigError;

/// The bounds; the `[guards]` table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuardConfig {
    /// How many updates in a row must look wrong before the run is ended; log-probs that disagree end it at once.
    pub patience: u64,
    /// Mean and largest difference, in nats, that sampler and trainer may have about a sampled token. In f32 it is rounding, some
    /// 1e-6; in bf16 some 1e-2.
    pub logprob_mean: f64,
    pub logprob_max: f64,
    /// Mean entropy of a token, in nats, below which the policy has stopped to explore.
    pub min_entropy: f64,
    /// Mean divergence of a token, in nats, from the policy that sampled, or from the reference where there is one.
    pub max_kl: f64,
}

impl GuardConfig {
    pub(super) fn check(&self) -> Result<(), PolicyConfigError> {
        let ok = PolicyConfigError::unless;
        ok(self.patience > 0, "guards.patience", &self.patience, "it must be positive")?;
        for (key, bound) in [
            ("guards.logprob_mean", self.logprob_mean),
            ("guards.logprob_max", self.logprob_max),
            ("guards.max_kl", self.max_kl),
        ] {
            ok(bound > 0.0, key, &bound, "it must be positive; `inf` turns it off")?;
        }
        ok(
            self.min_entropy >= 0.0,
            "guards.min_entropy",
            &self.min_entropy,
            "it must be 0, which turns it off, or positive",
        )
    }
}

/// Why a run is ended.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Diagnosis {
    #[error(
        "sampler and trainer disagree about the log-probs of {tokens} sampled tokens, by {mean:.2e} nats on average and {max:.2e} \
         at most (`guards.logprob_mean` is {mean_bound:.1e}, `guards.logprob_max` {max_bound:.1e}); worst is row {row}, token \
         {token}: {sampled:.4} when sampled, {trained:.4} now. {cause}"
    )]
    LogprobMismatch {
        tokens: usize,
        mean: f64,
        max: f64,
        mean_bound: f64,
        max_bound: f64,
        row: usize,
        token: usize,
        sampled: f32,
        trained: f32,
        cause: &'static str,
    },
    #[error(
        "the gradient was 0 for {updates} updates in a row: every advantage is 0 (see `zero_advantage_tokens` and \
         `frac_reward_zero_std`), or the adapter does not reach the loss; look at some replies and their rewards"
    )]
    ZeroGradient { updates: u64 },
    #[error(
        "the rewards of every group were equal for {updates} updates in a row: problems are all too hard or all too easy, or the \
         reward reads replies wrongly; look at some replies and their rewards, or filter with `[dynamic_sampling]`"
    )]
    ConstantReward { updates: u64 },
    #[error(
        "the mean entropy was below {bound} nats for {updates} updates in a row, now {entropy:.4}: the policy repeats itself; go back \
         to an earlier checkpoint with a higher `loss.clip_high`, a higher `sampling.temperature` or a lower `optimizer.lr`"
    )]
    EntropyCollapse { updates: u64, bound: f64, entropy: f64 },
    #[error(
        "the divergence was above {bound} nats a token for {updates} updates in a row, now {kl:.4}: the policy runs away; go back to \
         an earlier checkpoint with a lower `optimizer.lr`, fewer `batch.updates_per_rollout` or a higher `loss.beta`"
    )]
    KlExplosion { updates: u64, bound: f64, kl: f64 },
    #[error(
        "{updates} updates in a row were skipped, because `{variable}`, or its gradient, was not finite: lower `optimizer.lr`, or \
         look for rows whose log-probs are not finite"
    )]
    NotFinite { updates: u64, variable: String },
}

/// How often in a row an update looked wrong, by what. Saved with a checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuardCounts {
    zero_gradient: u64,
    constant_reward: u64,
    low_entropy: u64,
    high_kl: u64,
    not_finite: u64,
}

impl GuardCounts {
    /// Takes an update into account.
    ///
    /// # Errors
    /// Why the run should end.
    pub fn observe(
        &mut self,
        metrics: &UpdateMetrics,
        config: &GuardConfig,
    ) -> Result<(), Diagnosis> {
        let value = |name: &str| metrics.values.get(name).copied();
        if let Some(variable) = &metrics.not_finite {
            self.not_finite += 1;
            if self.not_finite >= config.patience {
                let (updates, variable) = (self.not_finite, variable.clone());
                return Err(Diagnosis::NotFinite { updates, variable });
            }
            return Ok(()); // the other numbers of such an update say nothing
        }
        self.not_finite = 0;
        let kl = value("kl").into_iter().chain(value("approx_kl")).fold(0.0, f64::max);
        let entropy = value("entropy").unwrap_or(f64::INFINITY);
        let count = |counter: &mut u64, wrong: bool| {
            *counter = if wrong { *counter + 1 } else { 0 };
            (*counter >= config.patience).then_some(*counter)
        };
        // All are counted before the first is reported: a resumed run must find the same counts.
        let constant = count(&mut self.constant_reward, value("frac_reward_zero_std") == Some(1.0));
        let zero = count(&mut self.zero_gradient, metrics.grad_norm == Some(0.0));
        let low = count(&mut self.low_entropy, entropy < config.min_entropy);
        let high = count(&mut self.high_kl, kl > config.max_kl);
        if let Some(updates) = constant {
            return Err(Diagnosis::ConstantReward { updates });
        }
        if let Some(updates) = zero {
            return Err(Diagnosis::ZeroGradient { updates });
        }
        if let Some(updates) = low {
            return Err(Diagnosis::EntropyCollapse { updates, bound: config.min_entropy, entropy });
        }
        match high {
            Some(updates) => Err(Diagnosis::KlExplosion { updates, bound: config.max_kl, kl }),
            None => Ok(()),
        }
    }
}

/// How far the log-probs of sampler and trainer are apart, over the tokens that count.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct LogprobGap {
    tokens: usize,
    sum: f64,
    worst: Option<Worst>,
}

#[derive(Debug, Clone, PartialEq)]
struct Worst {
    gap: f64,
    row: usize,
    token: usize,
    sampled: f32,
    trained: f32,
}

impl LogprobGap {
    /// Adds token `token` of row `row`.
    pub(super) fn add(&mut self, row: usize, token: usize, sampled: f32, trained: f32) {
        let gap = f64::from((sampled - trained).abs());
        self.tokens += 1;
        self.sum += gap;
        // Not a number is the worst of all.
        if self.worst.as_ref().is_none_or(|worst| worst.gap.total_cmp(&gap).is_lt()) {
            self.worst = Some(Worst { gap, row, token, sampled, trained });
        }
    }

    /// Mean and largest, where a token was compared.
    pub(super) fn values(&self) -> Option<(f64, f64)> {
        self.worst.as_ref().map(|worst| (self.sum / self.tokens as f64, worst.gap))
    }

    /// The row of the largest gap, where a bound is exceeded.
    pub(super) fn offender(&self, config: &GuardConfig) -> Option<usize> {
        let (mean, max) = self.values()?;
        let fine = mean <= config.logprob_mean && max <= config.logprob_max;
        self.worst.as_ref().filter(|_| !fine).map(|worst| worst.row)
    }

    /// `without_adapter`: whether the sampler's log-probs are those of the base model.
    pub(super) fn diagnosis(
        &self,
        config: &GuardConfig,
        without_adapter: bool,
    ) -> Option<Diagnosis> {
        let (mean, max) = self.values()?;
        let Worst { row, token, sampled, trained, .. } = self.worst.clone()?;
        let cause = if without_adapter {
            "Without the adapter both agree: updates never reach the sampler"
        } else {
            "Look for another temperature, grammar or prompt than the row says, for keys and values that the engine kept from \
             before an update, and, in half precision, for bounds that are too narrow"
        };
        Some(Diagnosis::LogprobMismatch {
            tokens: self.tokens,
            mean,
            max,
            mean_bound: config.logprob_mean,
            max_bound: config.logprob_max,
            row,
            token,
            sampled,
            trained,
            cause,
        })
    }
}
