//! The configuration of an SFT run: `configs/tiny/sft.toml`. No defaults: a number lives in one place.

use agentflow_model::{Architecture, Config};
use serde::{Deserialize, Serialize};

use crate::adamw::OptimizerConfig;
use crate::schedule::Schedule;

/// Everything that decides an SFT run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SftConfig {
    pub seed: u64,
    pub model: ModelShape,
    pub tokenizer: TokenizerConfig,
    pub data: DataConfig,
    pub batch: BatchConfig,
    pub optimizer: OptimizerConfig,
    pub schedule: Schedule,
    pub checkpoint: CheckpointConfig,
}

/// The shape of the model that is trained from nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelShape {
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub num_key_value_heads: usize,
    pub head_dim: usize,
    pub rope_theta: f64,
    pub max_position_embeddings: usize,
    /// Standard deviation of the first weights.
    pub init_std: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenizerConfig {
    pub vocab_size: usize,
    /// How many demonstrations its merges are learnt from.
    pub problems: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// Share of demonstrations whose first call fails and is corrected; the failing call itself is not trained.
    pub recovery_share: f64,
    /// Share of questions with words dropped, replaced and inserted, so that wording matters less.
    pub noise_share: f64,
    /// Highest share of words of such a question that change.
    pub noise_words: f64,
    /// Share of updates, at the end, without noise: the last thing seen is what will be asked.
    pub clean_end: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchConfig {
    /// Demonstrations an update.
    pub sequences: usize,
    /// Threads that each compute a part of the batch.
    pub workers: usize,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    wanted: &'static str,
}

impl SftConfig {
    /// Checks what types cannot.
    ///
    /// # Errors
    /// Names the first key that makes no sense, and what would.
    pub fn check(&self) -> Result<(), ConfigError> {
        let model = &self.model;
        let share = |value: f64| (0.0..=1.0).contains(&value);
        let heads_fit = model.num_key_value_heads > 0
            && model.num_attention_heads.is_multiple_of(model.num_key_value_heads);
        let rules: [(&'static str, String, bool, &'static str); 13] = [
            (
                "model.num_attention_heads",
                model.num_attention_heads.to_string(),
                heads_fit,
                "it must be a multiple of `model.num_key_value_heads`",
            ),
            (
                "model.head_dim",
                model.head_dim.to_string(),
                model.head_dim > 0 && model.head_dim.is_multiple_of(2),
                "it must be even",
            ),
            (
                "model.hidden_size",
                model.hidden_size.to_string(),
                model.hidden_size > 0,
                "it must be positive",
            ),
            (
                "model.num_hidden_layers",
                model.num_hidden_layers.to_string(),
                model.num_hidden_layers > 0,
                "it must be positive",
            ),
            (
                "tokenizer.vocab_size",
                self.tokenizer.vocab_size.to_string(),
                self.tokenizer.vocab_size >= 300,
                "256 bytes and the special tokens need at least 300",
            ),
            (
                "tokenizer.problems",
                self.tokenizer.problems.to_string(),
                self.tokenizer.problems > 0,
                "it must be positive",
            ),
            (
                "data.recovery_share",
                self.data.recovery_share.to_string(),
                share(self.data.recovery_share),
                "it must be between 0 and 1",
            ),
            (
                "data.noise_share",
                self.data.noise_share.to_string(),
                share(self.data.noise_share),
                "it must be between 0 and 1",
            ),
            (
                "data.noise_words",
                self.data.noise_words.to_string(),
                share(self.data.noise_words),
                "it must be between 0 and 1",
            ),
            (
                "batch.workers",
                self.batch.workers.to_string(),
                self.batch.workers > 0 && self.batch.workers <= self.batch.sequences,
                "it must be between 1 and `batch.sequences`",
            ),
            (
                "optimizer.lr",
                self.optimizer.lr.to_string(),
                self.optimizer.lr > 0.0,
                "it must be positive",
            ),
            (
                "checkpoint.every",
                self.checkpoint.every.to_string(),
                self.checkpoint.every > 0,
                "it must be positive",
            ),
            (
                "checkpoint.keep",
                self.checkpoint.keep.to_string(),
                self.checkpoint.keep > 0,
                "it must be positive",
            ),
        ];
        match rules.into_iter().find(|(_, _, holds, _)| !holds) {
            Some((key, value, _, wanted)) => Err(ConfigError { key, value, wanted }),
            None => Ok(()),
        }
    }

    pub(crate) fn model_config(&self) -> Config {
        let model = &self.model;
        Config {
            architecture: Architecture::Qwen3,
            vocab_size: self.tokenizer.vocab_size,
            hidden_size: model.hidden_size,
            intermediate_size: model.intermediate_size,
            num_hidden_layers: model.num_hidden_layers,
            num_attention_heads: model.num_attention_heads,
            num_key_value_heads: model.num_key_value_heads,
            head_dim: model.head_dim,
            rms_norm_eps: 1e-6, // as every published Qwen3
            rope_theta: model.rope_theta,
            max_position_embeddings: model.max_position_embeddings,
            tie_word_embeddings: true,
        }
    }
}
