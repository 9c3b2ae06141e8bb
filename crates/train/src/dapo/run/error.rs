//! What can end a run.

use agentflow_agent::SolveError;
use agentflow_agent::prompt::UnknownProfile;
use agentflow_eval::RunDirError;
use agentflow_model::ModelError;
use agentflow_tools::SandboxError;

use crate::checkpoint::CheckpointError;
use crate::curves::CurvesError;
use crate::dapo::DapoError;
use crate::policy::PolicyConfigError;
use crate::policy::advantage::AdvantageError;
use crate::prm::PrmError;

/// What can end a run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Config(#[from] PolicyConfigError),
    #[error(
        "`{name}` is for testing, and `rollout.benchmark` is trained on; take one with the role `train`, see `agentflow eval list`, \
         and of `arith` the split `train`"
    )]
    TestSet { name: String },
    #[error(
        "`{name}` has {count} problems, and `eval.problems` holds out {held_out} of them, so none is left to learn from; \
         hold out fewer, or raise `rollout.pool`"
    )]
    Few { name: String, count: usize, held_out: usize },
    #[error("gradients do not fit into f16; train in bf16 or f32, e.g. with --dtype bf16")]
    HalfPrecision,
    #[error("the {what} is not what the run began with; put the old one back, or start a new run")]
    Changed { what: &'static str },
    #[error(
        "every attempt of rollout {rollout} failed, the last for this: {error}; mend that, and resume the run"
    )]
    AllFailed { rollout: u64, error: String },
    #[error(
        "{rollouts} rollouts in a row had no group to learn from ({dropped}): problems are all too easy or all too hard for this policy, \
         or rewards are read wrongly; look at samples.jsonl, raise `sampling.temperature` or `rollout.group_size`, or take other problems"
    )]
    NoSignal { rollouts: u32, dropped: String },
    #[error("interrupted")]
    Interrupted,
    #[error(
        "the log-probs of a carried group are missing; set `dynamic_sampling.surplus` to `discard`"
    )]
    NoSampledLogprobs,
    #[error(transparent)]
    Dapo(#[from] DapoError),
    #[error(transparent)]
    Prm(#[from] PrmError),
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Profile(#[from] UnknownProfile),
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    #[error(transparent)]
    Advantage(#[from] AdvantageError),
    #[error(transparent)]
    RunDir(#[from] RunDirError),
    #[error(transparent)]
    Curves(#[from] CurvesError),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error("an attempt could not be made: {0}; please report this, and resume the run")]
    Solve(SolveError),
    #[error("cannot start the async runtime: {0}")]
    Runtime(std::io::Error),
}

impl From<SolveError> for RunError {
    fn from(error: SolveError) -> Self {
        match error {
            SolveError::Interrupted => Self::Interrupted,
            other => Self::Solve(other),
        }
    }
}
