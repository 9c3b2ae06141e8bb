//! What can go wrong with a PRM, in training and in use.

use std::path::PathBuf;

use agentflow_eval::RunDirError;
use agentflow_model::ModelError;

use super::ConfigError;
use super::text::TRUNCATION_SIDE;
use crate::checkpoint::CheckpointError;
use crate::curves::CurvesError;
use crate::label::LabelError;

/// What can go wrong with a PRM, in training and in use.
#[derive(Debug, thiserror::Error)]
pub enum PrmError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    RunDir(#[from] RunDirError),
    #[error(transparent)]
    Curves(#[from] CurvesError),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(
        "cannot read the labels `{path}`: {problem}; give a file of labels, or a run that made one"
    )]
    Unreadable { path: PathBuf, problem: std::io::Error },
    #[error("`{path}`: {problem}")]
    Label { path: PathBuf, problem: LabelError },
    #[error(
        "there is no label in {}{}; label a run with `agentflow train label`",
        listed(files), also_without(*without_label)
    )]
    NoLabels { files: Vec<PathBuf>, without_label: usize },
    #[error(
        "{place} is of the PRM text `{found}`, which this version does not make (it makes `{known}`); \
         label the run again"
    )]
    UnknownPrompt { place: String, found: String, known: String },
    #[error(
        "{place} is of the PRM text `{found}`, but {first} of `{version}`; \
         train one PRM for each, or label all runs with one version"
    )]
    MixedPrompts { place: String, found: String, first: String, version: String },
    #[error(
        "all labels are about one problem, `{problem}`, so none can be held out; \
         collect and label more problems"
    )]
    OneProblem { problem: String },
    #[error(
        "the labels are not those that the run began with ({now} now, {then} then); \
         put the old files back, or start a new run"
    )]
    LabelsChanged { now: String, then: String },
    #[error(
        "the {what} of update {update} is not a number ({place}); lower `optimizer.lr` or raise `schedule.warmup`; {kept}"
    )]
    Diverged { what: &'static str, update: u64, place: String, kept: String },
    #[error("`{path}` is no PRM: {problem}; train one with `agentflow train prm`")]
    NotAPrm { path: PathBuf, problem: String },
    #[error(
        "the PRM `{dir}` was trained on the text `{found}`, but what it is to rate is `{known}`; \
         train one on that text, or use --force to score nevertheless"
    )]
    OtherPrompt { dir: PathBuf, found: String, known: String },
    #[error(
        "the PRM `{dir}` does not say in agentflow.json which text it was trained on (`prm_prompt`), \
         so it is not known to fit `{known}`; use --force to score nevertheless"
    )]
    NoPrompt { dir: PathBuf, known: String },
    #[error(
        "the PRM `{dir}` was trained on texts cut at the other end: `truncation_side` in agentflow.json must be \
         `{TRUNCATION_SIDE}`"
    )]
    Truncation { dir: PathBuf },
    #[error(
        "the tokenizer of `{base}` has no token to pad with: neither `<|endoftext|>` nor a `pad_token` other than `<|im_end|>`"
    )]
    NoPadding { base: String },
    #[error("gradients do not fit into f16; train in bf16 or f32, e.g. with --dtype bf16")]
    HalfPrecision,
    #[error("`{base}` is a GGUF file; train on the model directory that it was made from")]
    Quantised { base: String },
    #[error("tensor computation failed: {0}")]
    Candle(#[from] candle_core::Error),
}

fn listed(files: &[PathBuf]) -> String {
    let names: Vec<String> = files.iter().map(|file| format!("`{}`", file.display())).collect();
    names.join(", ")
}

fn also_without(without_label: usize) -> String {
    match without_label {
        0 => String::new(),
        count => format!(" ({count} decisions have none)"),
    }
}
