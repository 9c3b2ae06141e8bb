//! What breaks the loop from below, and what becomes of the attempt then.

use std::error::Error;

use agentflow_flow::{ErrorKind, FlowError, StepError};
use agentflow_llm::ChatError;
use agentflow_tools::SandboxError;

use crate::attempt::{Attempt, Ended};
use crate::solver::SolveError;
use crate::trajectory::Stop;

/// An attempt that cannot go on. It travels with the error, since what flows is lost with the step that fails.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub(crate) struct Broken {
    why: Why,
    attempt: Attempt,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Why {
    #[error(transparent)]
    Model(#[from] ChatError),
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    #[error("the tool thread panicked")]
    ToolPanicked,
    #[error("the budget of the question is used up")]
    OutOfBudget,
}

impl Attempt {
    /// Fails the node at hand. A resumed run tries it again; this one does not, for models have been asked again already
    /// where that can help.
    pub(crate) fn breaks(self, why: Why) -> StepError {
        StepError::fatal(Broken { why, attempt: self })
    }
}

/// How an attempt ended whose run failed: a record of it is worth keeping all the same.
pub(crate) fn ended(error: FlowError) -> Result<Ended, SolveError> {
    let FlowError { path, attempts, kind } = error;
    let Broken { why, attempt } = match kind {
        ErrorKind::Fatal(error) => match error.downcast() {
            Ok(broken) => *broken,
            Err(error) => {
                return Err(FlowError { path, attempts, kind: ErrorKind::Fatal(error) }.into());
            }
        },
        kind => return Err(FlowError { path, attempts, kind }.into()),
    };
    match why {
        Why::ToolPanicked => Err(SolveError::ToolPanicked),
        Why::OutOfBudget => Ok(attempt.ends_early(Stop::Budget)),
        // The attempt outgrew the context by its own steps: as good as out of budget. A question that does not fit by
        // itself is an error.
        Why::Model(ChatError::ContextTooLong { .. }) if !attempt.memory.steps().is_empty() => {
            Ok(attempt.ends_early(Stop::Budget))
        }
        why => Ok(Ended { error: Some(with_causes(&why)), ..attempt.ends(Stop::Failed, None) }),
    }
}

/// `error` and what caused it: a trajectory has one line for both.
fn with_causes(error: &dyn Error) -> String {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
