//! Supervised fine-tuning of a small planner from nothing: `agentflow train sft --config configs/tiny/sft.toml`.
//!
//! Demonstrations are arithmetic problems of the `train` split, solved: the planner's JSON of each step with what the
//! real tool printed. One update: the next batch of demonstrations -> token-level cross-entropy on the tokens that the
//! planner writes -> clipped gradients -> AdamW. Every problem is seen once.
//!
//! Everything is decided by `seed`: problem `i`, its noise and its batch are functions of it, so a resumed run computes
//! what the uninterrupted one would have.
//!
//! Left out on purpose: packing several demonstrations in one row (rows of a batch are of like length instead), loss on
//! prompt tokens, dropout.

mod batch;
mod bpe;
mod config;
mod demonstration;
mod init;
mod noise;
mod update;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use agentflow_eval::{RunDir, RunDirError};
use agentflow_model::{ModelError, Tokenizer};
use agentflow_tools::SandboxError;
use serde::{Deserialize, Serialize};

pub use config::{ConfigError, SftConfig};
pub use demonstration::{Demonstration, DemonstrationBuilder};

use crate::adamw::AdamW;
use crate::checkpoint::{Checkpoint, CheckpointError, save_variables};
use batch::Batches;

/// What can end a training run.
#[derive(Debug, thiserror::Error)]
pub enum SftError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    RunDir(#[from] RunDirError),
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error("the tool that solves demonstrations failed: {0}")]
    Sandbox(#[from] SandboxError),
    #[error("the demonstration of `{id}` is wrong: {problem}")]
    Demonstration { id: String, problem: String },
    #[error("training the tokenizer failed: {0}")]
    Tokenizer(String),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(
        "the loss of update {update} is not a number; lower `optimizer.lr` or raise `schedule.warmup`"
    )]
    Diverged { update: u64 },
    #[error("tensor computation failed: {0}")]
    Candle(#[from] candle_core::Error),
}

/// One line of `metrics.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Counts from 1: the updates done.
    pub update: u64,
    /// Mean over the trained tokens of the batch, in nats.
    pub loss: f64,
    pub lr: f64,
    /// Before clipping.
    pub grad_norm: f64,
    /// Trained tokens of the batch.
    pub completion_tokens: u64,
    /// All tokens of the batch, padding left out.
    pub tokens: u64,
    pub wall_s: f64,
}

/// Trains to the end of the schedule, or until `on_update` returns false; then the run can be resumed.
///
/// Gives the directory of the trained model, `<run>/model`, or `None` where it was interrupted.
///
/// # Errors
/// See [`SftError`]; what was trained so far is in the last checkpoint.
pub fn train(
    config: &SftConfig,
    run: &RunDir,
    on_update: &mut dyn FnMut(&Metrics) -> bool,
) -> Result<Option<PathBuf>, SftError> {
    config.check()?;
    let checkpoints = run.path().join("checkpoint");
    let tokenizer_json = tokenizer(config, run)?;
    let place = run.path().join("tokenizer.json");
    let tokenizer = Arc::new(Tokenizer::from_json(&tokenizer_json, &place)?);

    let variables = init::variables(config)?;
    let mut optimizer = AdamW::new(config.optimizer.clone(), &variables)?;
    let (mut lines, mut metrics) = run.lines::<Metrics>("metrics.jsonl")?;
    let mut done = 0;
    if let Some(checkpoint) = Checkpoint::latest(&checkpoints) {
        checkpoint.restore(&variables, &mut optimizer)?;
        done = checkpoint.update;
    }
    // What was logged after the checkpoint is computed, and logged, again.
    metrics.retain(|line| line.update <= done);
    lines.restart(&metrics)?;

    let model_config = config.model_config();
    let replicas = update::replicas(&model_config, &variables, config.batch.workers)?;
    let batches = Batches::start(config, tokenizer, done)?;
    for update in done..config.schedule.updates {
        let started = Instant::now();
        let batch = batches.next()?;
        let lr = config.optimizer.lr * config.schedule.factor(update);
        let (loss, gradients) = update::gradients(&replicas, &variables, &batch)?;
        if !loss.is_finite() {
            return Err(SftError::Diverged { update: update + 1 });
        }
        let grad_norm = optimizer.update(&gradients, lr)?;
        let line = Metrics {
            update: update + 1,
            loss,
            lr,
            grad_norm,
            completion_tokens: batch.completion_tokens(),
            tokens: batch.tokens(),
            wall_s: started.elapsed().as_secs_f64(),
        };
        lines.append(&line)?;
        let last = update + 1 == config.schedule.updates;
        let go_on = on_update(&line);
        if last || !go_on || (update + 1).is_multiple_of(config.checkpoint.every) {
            Checkpoint::write(
                &checkpoints,
                update + 1,
                &variables,
                &optimizer,
                config.checkpoint.keep,
            )?;
        }
        if !go_on && !last {
            return Ok(None);
        }
    }
    let model = run.path().join("model");
    write_model(config, &tokenizer_json, &variables, &model)?;
    Ok(Some(model))
}

/// The tokenizer of the run: trained once, then read again.
fn tokenizer(config: &SftConfig, run: &RunDir) -> Result<String, SftError> {
    let path = run.path().join("tokenizer.json");
    if let Ok(json) = std::fs::read_to_string(&path) {
        return Ok(json);
    }
    let json = bpe::train(config)?;
    run.write("tokenizer.json", json.as_bytes())?;
    Ok(json)
}

/// Writes a Hugging Face model directory.
fn write_model(
    config: &SftConfig,
    tokenizer_json: &str,
    variables: &BTreeMap<String, candle_core::Var>,
    dir: &Path,
) -> Result<(), SftError> {
    let io = |source| RunDirError::Io { action: "create", path: dir.to_owned(), source };
    std::fs::create_dir_all(dir).map_err(io)?;
    let tokenizer = Tokenizer::from_json(tokenizer_json, &dir.join("tokenizer.json"))?;
    let end = tokenizer.id(bpe::END).expect("the tokenizer was trained with its end token");
    let mut files = vec![("tokenizer.json", tokenizer_json.to_owned())];
    let json = |value: serde_json::Value| format!("{value:#}\n");
    files.push(("config.json", json(config.model_config().to_json("float32", end))));
    files.push(("tokenizer_config.json", json(bpe::tokenizer_config())));
    files.push(("chat_template.jinja", bpe::CHAT_TEMPLATE.to_owned()));
    let profile =
        serde_json::json!({"prompt_profile": "compact", "prompts": demonstration::PROMPTS});
    files.push((agentflow_model::PROFILE_FILE, json(profile)));
    for (name, content) in files {
        agentflow_eval::write_atomically(&dir.join(name), content.as_bytes())?;
    }
    Ok(save_variables(variables, &dir.join("model.safetensors"))?)
}
