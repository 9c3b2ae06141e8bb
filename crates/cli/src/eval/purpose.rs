//! What a run of the harness is for: to measure a model, or to collect what it will be trained on.

use agentflow_eval::benchmark::{Benchmark, Dataset, Loaded, Role, Source};
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

    /// Whether a benchmark of ours can be used at all; it need not be fetched to know.
    pub(super) fn check_name(self, asked: &str) -> Result<(), Failure> {
        let named = Benchmark::list().iter().find(|benchmark| benchmark.name == asked);
        match named {
            // Its problems are generated: whether they are for testing is another argument.
            Some(Benchmark { dataset: Dataset::Arith { .. }, .. }) | None => Ok(()),
            Some(benchmark) if self == Self::Measure || benchmark.role == Role::Train => Ok(()),
            Some(_) => {
                Err(refused(asked, "take one with the role `train`, see `agentflow eval list`"))
            }
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
        let remedy = match (is_plain_file, loaded.dataset.id.starts_with("arith/")) {
            (true, _) => "if no test set has any of its problems, say so with --training-data",
            (false, true) => "take --split train",
            (false, false) => {
                "take one with the role `train`; its file says so where no test set has its problems"
            }
        };
        Err(refused(&label(loaded), remedy))
    }
}

fn refused(name: &str, remedy: &str) -> Failure {
    Failure::usage(anyhow!(
        "`{name}` is for testing, and what is collected is for training; {remedy}"
    ))
}
