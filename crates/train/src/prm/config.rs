//! The configuration of a PRM run: `configs/tiny/prm.toml`. No defaults: a number lives in one place.

use std::path::PathBuf;

use agentflow_model::LoraConfig;
use serde::{Deserialize, Deserializer, Serialize};

use crate::adamw::OptimizerConfig;
use crate::schedule::Schedule;

/// Everything that decides a PRM run, but where it is computed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrmConfig {
    pub seed: u64,
    pub model: ModelConfig,
    /// Trains an adapter beside the base instead of all its weights; the head is trained whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lora: Option<LoraConfig>,
    pub data: DataConfig,
    pub batch: BatchConfig,
    pub optimizer: OptimizerConfig,
    pub schedule: Schedule,
    pub eval: EvalConfig,
    pub checkpoint: CheckpointConfig,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// What training starts from: a model directory, a name on the Hugging Face Hub, or `bundled`.
    pub base: String,
    /// Longest text in tokens. Of a longer one the beginning is left out: the decision to be rated stands at the end.
    pub max_length: usize,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// Files of labels, or runs that made them; one or several.
    #[serde(deserialize_with = "one_or_several")]
    pub labels: Vec<PathBuf>,
    /// Share of the problems that is not trained on.
    pub held_out: f64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchConfig {
    /// Decisions an update.
    pub samples: usize,
    /// Most tokens that go through the model together; gradients add up over the parts of a batch.
    pub max_tokens: usize,
    /// Whether activations are computed again in the backward pass instead of kept: less memory, a third more work.
    pub recompute: bool,
    /// Threads that each compute a part of the batch on the processor; with 1, all cores share one part.
    pub workers: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvalConfig {
    /// Updates between two evaluations on the held-out problems.
    pub every: u64,
    /// Evaluations in a row without a smaller squared error after which training ends.
    pub patience: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointConfig {
    /// Updates between two checkpoints.
    pub every: u64,
    /// How many are kept.
    pub keep: usize,
}

/// A configuration that cannot be run.
#[derive(Debug, thiserror::Error)]
#[error("`{key}` is {value}; {wanted}")]
pub struct ConfigError {
    key: &'static str,
    value: String,
    wanted: String,
}

impl ConfigError {
    pub(super) fn new(key: &'static str, value: impl ToString, wanted: impl Into<String>) -> Self {
        Self { key, value: value.to_string(), wanted: wanted.into() }
    }
}

impl PrmConfig {
    /// Checks what types cannot.
    ///
    /// # Errors
    /// Names the first key that makes no sense, and what would.
    pub fn check(&self) -> Result<(), ConfigError> {
        let Self { model, data, batch, optimizer, schedule, eval, checkpoint, .. } = self;
        let positive = "it must be positive";
        let rules: [(&'static str, String, bool, &'static str); 13] = [
            ("model.max_length", model.max_length.to_string(), model.max_length > 0, positive),
            (
                "data.labels",
                "empty".to_owned(),
                !data.labels.is_empty(),
                "name at least one file of labels",
            ),
            (
                "data.held_out",
                data.held_out.to_string(),
                data.held_out > 0.0 && data.held_out < 1.0,
                "it must be above 0 and below 1",
            ),
            ("batch.samples", batch.samples.to_string(), batch.samples > 0, positive),
            (
                "batch.max_tokens",
                batch.max_tokens.to_string(),
                batch.max_tokens >= model.max_length,
                "it must be at least `model.max_length`",
            ),
            (
                "batch.workers",
                batch.workers.to_string(),
                batch.workers > 0 && batch.workers <= batch.samples,
                "it must be between 1 and `batch.samples`",
            ),
            ("optimizer.lr", optimizer.lr.to_string(), optimizer.lr > 0.0, positive),
            ("schedule.updates", schedule.updates.to_string(), schedule.updates > 0, positive),
            (
                "schedule.floor",
                schedule.floor.to_string(),
                (0.0..=1.0).contains(&schedule.floor),
                "it must be between 0 and 1",
            ),
            ("eval.every", eval.every.to_string(), eval.every > 0, positive),
            ("eval.patience", eval.patience.to_string(), eval.patience > 0, positive),
            ("checkpoint.every", checkpoint.every.to_string(), checkpoint.every > 0, positive),
            ("checkpoint.keep", checkpoint.keep.to_string(), checkpoint.keep > 0, positive),
        ];
        match rules.into_iter().find(|(_, _, holds, _)| !holds) {
            Some((key, value, _, wanted)) => Err(ConfigError::new(key, value, wanted)),
            None => Ok(()),
        }
    }
}

fn one_or_several<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PathBuf>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a path, or a list of paths")]
    enum Paths {
        One(PathBuf),
        Several(Vec<PathBuf>),
    }
    Ok(match Paths::deserialize(deserializer)? {
        Paths::One(path) => vec![path],
        Paths::Several(paths) => paths,
    })
}
