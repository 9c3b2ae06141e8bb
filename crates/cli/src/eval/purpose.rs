//! What a run of the harness is for: to measure a model, or to collect what it will be trained on.

use agentflow_eval::benchmark::{Loaded, Role, Source};
use anyhow::anyhow;

use super::measured::label;
use crate::Failure;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Measure,
    /// `training_data`: a plain file of problems, which does not say what it is for, is for training.
    Collect {
        training_data: bool,
    },
}

impl Purpose {
    /// As `run.toml` and the name of the directory have it.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::Measure => "eval",
            Self::Collect { .. } => "collect",
        }
    }

    /// The command whose `--resume` goes on with the run.
    pub(super) fn command(self) -> &'static str {
        match self {
            Self::Measure => "agentflow eval",
            Self::Collect { .. } => "agentflow train collect",
        }
    }

    /// Refuses to collect problems of a test set: what is trained on them can no longer be measured on them.
    pub(super) fn check(self, asked: &str, loaded: &mut Loaded) -> Result<(), Failure> {
        let Self::Collect { training_data } = self else { return Ok(()) };
        let is_plain_file = matches!(asked.parse(), Ok(Source::Data(_)));
        if is_plain_file && training_data {
            loaded.role = Role::Train;
        }
        if loaded.role == Role::Train {
            return Ok(());
        }
        let name = label(loaded);
        let remedy = match (is_plain_file, loaded.dataset.id.starts_with("arith/")) {
            (true, _) => {
                "if no test set has any of its problems, say so with --training-data".to_owned()
            }
            (false, true) => "take --split train".to_owned(),
            (false, false) => {
                "take one with the role `train`, see `agentflow eval list`".to_owned()
            }
        };
        Err(Failure::usage(anyhow!(
            "`{name}` is for testing, and what is collected is for training; {remedy}"
        )))
    }
}
