//! What a labeller is: something that says what a recorded decision is worth.

use std::sync::Arc;

use agentflow_agent::trajectory::Step;
use agentflow_eval::Sample;
use agentflow_llm::{ChatError, Usage};
use async_trait::async_trait;

use super::record::Provenance;

/// One decision of a recorded, scored trajectory.
#[derive(Debug, Clone)]
pub struct Case {
    pub sample: Arc<Sample>,
    /// Index in its steps; a step whose reply could be read.
    pub step: usize,
}

impl Case {
    pub fn step(&self) -> &Step {
        &self.sample.trajectory.steps[self.step]
    }
}

/// What a labeller says.
#[derive(Debug, Clone, PartialEq)]
pub struct Labelled {
    /// 0 to 1, or why there is none: a refusal or an unreadable reply is missing, never 0.
    pub label: Result<f64, String>,
    pub by: Provenance,
    pub usage: Usage,
}

/// Why a decision could not be labelled now; it is tried again, and left for a resumed run if that does not help.
#[derive(Debug, thiserror::Error)]
pub enum LabellerError {
    #[error(transparent)]
    Chat(#[from] ChatError),
    #[error("{0}")]
    Other(String),
}

/// Labels decisions, many at the same time.
#[async_trait]
pub trait Labeller: Send + Sync {
    /// Everything that the label depends on, hashed: cases with the same key are labelled once.
    fn key(&self, case: &Case) -> String;

    /// What labelling it will take, about; a budget is kept free for it. Nothing where that cannot be known.
    fn estimate(&self, _case: &Case) -> Usage {
        Usage::default()
    }

    /// What the decision is worth.
    async fn label(&self, case: &Case) -> Result<Labelled, LabellerError>;
}
