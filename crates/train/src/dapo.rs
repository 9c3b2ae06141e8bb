//! DAPO (arXiv 2503.14476) on a LoRA adapter: from rows with advantages to an updated adapter.
//!
//! Start reading at [`Trainer::update`]. One update: check the rows of a window -> pack them into micro-batches -> log-probs under
//! the distribution that they were sampled from -> the loss of [`policy`](crate::policy), forward and back -> is everything
//! finite, do sampler and trainer agree -> clip -> AdamW. [`replay`] does so on rows from a file, [`run`] on rows that it
//! rolls out itself.
//!
//! Left out on purpose: a gradient of the entropy, one forward pass for the shared prompt of a group, several machines.

mod config;
mod guards;
mod masks;
mod metrics;
mod pass;
pub mod replay;
mod rollout;
mod row;
pub mod run;
mod state;
mod trainer;
mod window;

use std::path::PathBuf;

use agentflow_model::ModelError;

pub use config::{BatchConfig, DapoConfig, SamplingConfig};
pub use guards::{Diagnosis, GuardConfig, GuardCounts};
pub use metrics::UpdateMetrics;
pub use row::{GroupOrigin, Row, RowGrammar, RowProblem};
pub use trainer::Trainer;

use crate::checkpoint::CheckpointError;
use crate::policy::PolicyConfigError;
use crate::policy::loss::LossError;

/// What can end a DAPO run.
#[derive(Debug, thiserror::Error)]
pub enum DapoError {
    #[error(transparent)]
    Config(#[from] PolicyConfigError),
    #[error("there is no adapter to go on with, and no `[lora]` to start one; give either")]
    NoAdapter,
    #[error(
        "adapter `{adapter}` is another than the run asks for: {problem}; change the configuration to go on with it, or start a new one"
    )]
    OtherAdapter { adapter: PathBuf, problem: String },
    #[error("row {row} cannot be used: {problem}")]
    Row { row: usize, problem: RowProblem },
    #[error(transparent)]
    Guard(#[from] Box<DiagnosedError>),
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Loss(#[from] LossError),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error("tensor computation failed: {0}")]
    Candle(#[from] candle_core::Error),
}

/// A guard's finding.
#[derive(Debug, thiserror::Error)]
#[error("{diagnosis}")]
pub struct DiagnosedError {
    pub diagnosis: Diagnosis,
    /// Of the update that made the guard end the run; none where it was not made.
    pub metrics: Option<UpdateMetrics>,
}

impl From<DiagnosedError> for DapoError {
    fn from(error: DiagnosedError) -> Self {
        Self::Guard(Box::new(error))
    }
}
