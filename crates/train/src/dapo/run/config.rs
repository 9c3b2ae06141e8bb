//! The configuration of a run: `configs/tiny/dapo.toml`. No defaults: an absent optional key means *off*.

use std::path::PathBuf;

use agentflow_eval::arith::Split;
use agentflow_model::LoraConfig;
use agentflow_tools::sandbox::LevelWanted;
use serde::{Deserialize, Serialize};

use crate::adamw::OptimizerConfig;
use crate::dapo::rollout::credit::CreditConfig;
use crate::dapo::{BatchConfig, DapoConfig, GuardConfig, SamplingConfig};
use crate::policy::PolicyConfigError;
use crate::policy::dynamic_sampling::{DynamicSamplingConfig, Signal};
use crate::policy::loss::LossConfig;
use crate::policy::overlong::OverlongConfig;
use crate::reward::LengthPenalty;
use crate::schedule::Schedule;

/// Everything that decides a run, but where it is computed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    pub seed: u64,
    pub model: ModelConfig,
    pub lora: LoraConfig,
    pub rollout: RolloutConfig,
    pub reward: RewardTable,
    pub advantage: CreditConfig,
    /// Absent: every group is learnt from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dynamic_sampling: Option<DynamicSamplingConfig>,
    pub sampling: SamplingConfig,
    pub loss: LossConfig,
    pub overlong: OverlongConfig,
    pub batch: BatchConfig,
    pub optimizer: OptimizerConfig,
    pub schedule: Schedule,
    /// What ends a run that goes wrong; absent: nothing does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guards: Option<GuardConfig>,
    pub eval: EvalConfig,
    pub samples: SamplesConfig,
    pub checkpoint: CheckpointConfig,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// What the adapter is trained beside: a model directory, a name on the Hugging Face Hub, or `bundled`.
    pub base: String,
    /// An adapter to go on with, a PEFT directory; absent: a new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<PathBuf>,
    /// Longest prompt and reply together, below what the model was made for; absent: that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_ctx: Option<u32>,
}

/// What rolls out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Whole attempts through the agent's loop and tools, under the policy as it is.
    Flow,
}

/// `[rollout]`: what is attempted, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RolloutConfig {
    pub mode: Mode,
    /// A benchmark with the role `train`: a name of `agentflow eval list`, or a file.
    pub benchmark: String,
    /// Of `arith` alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<Split>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem_seed: Option<u64>,
    /// How many problems of the benchmark there are to draw from, those held out included; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<usize>,
    /// Problems of a rollout.
    pub problems: usize,
    /// Attempts at each (G).
    pub group_size: u32,
    /// Optimizer windows that the groups of a rollout are divided into.
    pub windows: usize,
    pub max_steps: usize,
    /// In seconds, of one tool call.
    pub tool_timeout: f64,
    /// In seconds, of one attempt; what it has by then counts. Absent: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_seconds: Option<f64>,
    pub sandbox: LevelWanted,
    /// Attempts under way at once.
    pub concurrency: usize,
}

/// `[reward]`: what the two advantages are multiplied with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewardTable {
    pub outcome: f64,
    pub prm: f64,
    /// The directory of a process reward model; absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prm_model: Option<PathBuf>,
    /// Taken off the PRM's reward of a long reply; absent: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<LengthPenalty>,
}

/// `[eval]`: greedy attempts at problems that are held out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvalConfig {
    /// Updates between two evaluations; there is one before the first and one after the last.
    pub every: u64,
    /// How many of the pool are held out.
    pub problems: usize,
}

/// `[samples]`: what is written for a person to look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamplesConfig {
    /// Updates between two looks.
    pub every: u64,
    /// Groups each time.
    pub groups: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointConfig {
    /// Updates between two checkpoints; they are made after a whole rollout.
    pub every: u64,
    /// How many are kept.
    pub keep: usize,
}

impl RunConfig {
    /// The part that decides an update.
    pub fn of_updates(&self) -> DapoConfig {
        DapoConfig {
            seed: self.seed,
            lora: Some(self.lora.clone()),
            sampling: self.sampling.clone(),
            loss: self.loss.clone(),
            overlong: self.overlong.clone(),
            batch: self.batch.clone(),
            optimizer: self.optimizer.clone(),
            schedule: self.schedule.clone(),
            guards: self.guards.clone(),
        }
    }

    /// Checks what types cannot.
    ///
    /// # Errors
    /// Names the first key that makes no sense, alone or beside another, and what would.
    pub fn check(&self) -> Result<(), PolicyConfigError> {
        self.of_updates().check()?;
        self.advantage.check()?;
        self.rollout.check()?;
        self.reward.check()?;
        let ok = PolicyConfigError::unless;
        if let Some(sampling) = &self.dynamic_sampling {
            sampling.check()?;
            let by_prm = !matches!(sampling.signal, Signal::Outcome { .. });
            ok(
                !by_prm || self.reward.prm > 0.0,
                "reward.prm",
                &self.reward.prm,
                "`dynamic_sampling.signal` asks the PRM, so it must be positive; or take the kind `outcome`",
            )?;
        }
        for (key, value) in [
            ("eval.every", self.eval.every),
            ("eval.problems", self.eval.problems as u64),
            ("samples.every", self.samples.every),
            ("checkpoint.every", self.checkpoint.every),
            ("checkpoint.keep", self.checkpoint.keep as u64),
        ] {
            ok(value > 0, key, &value, "it must be positive")?;
        }
        Ok(())
    }
}

impl RolloutConfig {
    fn check(&self) -> Result<(), PolicyConfigError> {
        let ok = PolicyConfigError::unless;
        let positive = |value: f64| value > 0.0 && value < 1e9;
        ok(
            self.group_size >= 2,
            "rollout.group_size",
            &self.group_size,
            "it must be at least 2: an advantage is a difference from the others of a group",
        )?;
        ok(self.problems > 0, "rollout.problems", &self.problems, "it must be positive")?;
        ok(
            (1..=self.problems).contains(&self.windows),
            "rollout.windows",
            &self.windows,
            "it must be between 1 and `rollout.problems`",
        )?;
        ok(self.max_steps > 0, "rollout.max_steps", &self.max_steps, "it must be positive")?;
        ok(
            (1..=1024).contains(&self.concurrency),
            "rollout.concurrency",
            &self.concurrency,
            "it must be between 1 and 1024",
        )?;
        for (key, seconds) in [
            ("rollout.tool_timeout", Some(self.tool_timeout)),
            ("rollout.max_seconds", self.max_seconds),
        ] {
            let seconds = seconds.unwrap_or(1.0);
            ok(positive(seconds), key, &seconds, "it must be a positive number of seconds")?;
        }
        Ok(())
    }
}

impl RewardTable {
    fn check(&self) -> Result<(), PolicyConfigError> {
        let ok = PolicyConfigError::unless;
        for (key, weight) in [("reward.outcome", self.outcome), ("reward.prm", self.prm)] {
            ok(weight >= 0.0 && weight.is_finite(), key, &weight, "it is a weight: 0 or positive")?;
        }
        ok(
            self.outcome > 0.0 || self.prm > 0.0,
            "reward.outcome",
            &self.outcome,
            "`reward.prm` is 0, too, so nothing would be learnt; one must be positive",
        )?;
        ok(
            self.prm == 0.0 || self.prm_model.is_some(),
            "reward.prm",
            &self.prm,
            "it needs a process reward model; name its directory in `reward.prm_model`, or set it to 0",
        )?;
        ok(
            self.prm > 0.0 || (self.prm_model.is_none() && self.length.is_none()),
            "reward.prm",
            &self.prm,
            "nothing reads `reward.prm_model` and `reward.length` then; leave them out, or make it positive",
        )?;
        if let Some(LengthPenalty { free, full, most }) = &self.length {
            ok(full > free, "reward.length.full", full, "it must be above `reward.length.free`")?;
            let fits = (0.0..=1.0).contains(most);
            ok(fits, "reward.length.most", most, "it must be between 0 and 1")?;
        }
        Ok(())
    }
}
