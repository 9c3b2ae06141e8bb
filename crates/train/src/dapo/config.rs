//! The parts of a DAPO run's configuration that decide an update. No defaults: a number lives in one place, and an absent
//! optional key means *off*.

use agentflow_model::LoraConfig;
use serde::{Deserialize, Serialize};

use super::guards::GuardConfig;
use crate::adamw::OptimizerConfig;
use crate::policy::PolicyConfigError;
use crate::policy::loss::LossConfig;
use crate::policy::overlong::OverlongConfig;
use crate::schedule::Schedule;

/// Everything that decides what an update makes of its rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DapoConfig {
    pub seed: u64,
    /// What a new adapter is like; an adapter to go on with must be like it. Absent: there is one to go on with.
    pub lora: Option<LoraConfig>,
    pub sampling: SamplingConfig,
    pub loss: LossConfig,
    pub overlong: OverlongConfig,
    pub batch: BatchConfig,
    pub optimizer: OptimizerConfig,
    pub schedule: Schedule,
    /// What ends a run that goes wrong; absent: nothing does.
    pub guards: Option<GuardConfig>,
}

/// How completions are sampled, as far as log-probs depend on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamplingConfig {
    /// Logits are divided by it, in sampler and trainer alike.
    pub temperature: f64,
    /// Longest completion in tokens; the denominator of `dr_grpo`.
    pub max_tokens: usize,
    /// Take log-probs under the whole vocabulary, as TRL does, also where a grammar restricted the sampler.
    pub plain_logprobs: bool,
}

/// How a window of rows is computed. Nothing here changes a result beyond rounding, but `updates_per_rollout`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchConfig {
    /// How often the rows of a rollout are learnt from (μ; TRL's `num_iterations`). Above 1, old log-probs are frozen first.
    pub updates_per_rollout: usize,
    /// Tokens in one pass forward and back, prompts included; one row may have more.
    pub micro_batch_tokens: usize,
    /// Micro-batches computed at once on the CPU, by a thread each; 1: one at a time, on all cores.
    pub workers: usize,
    /// Compute each layer again on the way back, instead of keeping its activations.
    pub recompute: bool,
}

impl DapoConfig {
    /// Checks what types cannot.
    ///
    /// # Errors
    /// Names the first key that makes no sense, alone or beside another, and what would.
    pub fn check(&self) -> Result<(), PolicyConfigError> {
        let Self { sampling, loss, batch, optimizer, schedule, .. } = self;
        let ok = PolicyConfigError::unless;
        let positive = |value: f64| value > 0.0 && value.is_finite();
        loss.check()?;
        self.overlong.check()?;
        if let Some(lora) = &self.lora {
            ok(lora.rank > 0, "lora.rank", &lora.rank, "it must be positive, say 16")?;
            ok(
                lora.dropout == 0.0,
                "lora.dropout",
                &lora.dropout,
                "with dropout, the policy that is trained is not the one that was sampled; set it to 0",
            )?;
        }
        ok(
            positive(sampling.temperature),
            "sampling.temperature",
            &sampling.temperature,
            "it must be positive: without chance, the completions of a group are all the same",
        )?;
        ok(
            sampling.max_tokens > 0,
            "sampling.max_tokens",
            &sampling.max_tokens,
            "it must be positive",
        )?;
        ok(
            loss.entropy_coef == 0.0,
            "loss.entropy_coef",
            &loss.entropy_coef,
            "entropies have no gradient in this trainer; set it to 0, and raise `loss.clip_high` to keep entropy up",
        )?;
        for (key, count) in [
            ("batch.updates_per_rollout", batch.updates_per_rollout),
            ("batch.micro_batch_tokens", batch.micro_batch_tokens),
            ("batch.workers", batch.workers),
        ] {
            ok(count > 0, key, &count, "it must be positive")?;
        }
        for (key, value) in [
            ("optimizer.lr", optimizer.lr),
            ("optimizer.eps", optimizer.eps),
            ("optimizer.max_grad_norm", optimizer.max_grad_norm),
        ] {
            ok(positive(value), key, &value, "it must be positive")?;
        }
        for (key, value) in
            [("optimizer.beta1", optimizer.beta1), ("optimizer.beta2", optimizer.beta2)]
        {
            ok((0.0..1.0).contains(&value), key, &value, "it must be at least 0 and below 1")?;
        }
        ok(
            optimizer.weight_decay >= 0.0 && optimizer.weight_decay.is_finite(),
            "optimizer.weight_decay",
            &optimizer.weight_decay,
            "it must be 0 or positive; 0 is usual for adapters",
        )?;
        ok(schedule.updates > 0, "schedule.updates", &schedule.updates, "it must be positive")?;
        ok(
            (0.0..=1.0).contains(&schedule.floor),
            "schedule.floor",
            &schedule.floor,
            "it must be between 0 and 1",
        )?;
        self.guards.as_ref().map_or(Ok(()), GuardConfig::check)
    }
}
