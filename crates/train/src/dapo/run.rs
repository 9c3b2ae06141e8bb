//! A whole DAPO run: `agentflow train dapo --config configs/tiny/dapo.toml --set model.base=DIR`.
//!
//! Start reading at [`Training::run`]. Again and again: attempts at the next problems by the policy as it is, in rounds until
//! enough groups carry a signal -> rewards -> advantages -> updates; now and then greedy attempts at held-out problems, and
//! a checkpoint. The adapter of the best evaluation is the result.
//!
//! Everything follows from configuration, base and problems: seeds are made of the run's seed, the rollout, the problem and
//! the sample. A run that was killed goes on from its last checkpoint, and computes what it would have; on the processor in
//! f32 to the last bit, unless a tool call was cut off by its time limit.

mod config;
mod error;
mod plan;
mod pool;
mod records;
mod tally;
mod work;

use agentflow_agent::prompt::Profile;
use agentflow_eval::RunDir;
use agentflow_eval::benchmark::{Loaded, Role};
use agentflow_model::{ModelFiles, Placement};
use candle_core::DType;
use tokio_util::sync::CancellationToken;

pub use config::{
    CheckpointConfig, EvalConfig, Mode, ModelConfig, RewardTable, RolloutConfig, RunConfig,
    SamplesConfig,
};
pub use error::RunError;
pub use plan::Plan;
pub use records::{Evaluation, Metrics, RolloutMetrics};

pub use super::rollout::credit::CreditConfig;

use crate::prm::Prm;
use pool::Pool;
use work::Work;

/// What a run tells while it goes on.
pub enum Event<'a> {
    /// A rollout is done, and its updates begin.
    Rolled(&'a RolloutMetrics),
    Update(&'a Metrics),
    Evaluated(&'a Evaluation),
    /// Something that a person should know of.
    Notice(String),
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    pub updates: u64,
    /// Before the first update.
    pub first: Evaluation,
    /// The adapter in `<run>/adapter` is of its update.
    pub best: Evaluation,
}

/// A run that can begin: everything that can be wrong with its input has been looked at.
pub struct Training<'a> {
    config: &'a RunConfig,
    base: &'a ModelFiles,
    placement: &'a Placement,
    profile: Profile,
    pool: Pool,
    /// SHA-256 of the problems.
    problems: String,
    prm: Option<Prm>,
}

impl<'a> Training<'a> {
    /// Checks the configuration, divides the problems, and loads the PRM.
    ///
    /// # Errors
    /// See [`RunError`]; nothing has been written then.
    pub fn prepare(
        config: &'a RunConfig,
        loaded: Loaded,
        base: &'a ModelFiles,
        placement: &'a Placement,
    ) -> Result<Self, RunError> {
        config.check()?;
        if loaded.role != Role::Train {
            return Err(RunError::TestSet { name: loaded.dataset.id });
        }
        if placement.dtype == DType::F16 {
            return Err(RunError::HalfPrecision);
        }
        let profile: Profile = base.manifest()?.prompt_profile.parse()?;
        let prm = match &config.reward.prm_model {
            Some(dir) => {
                let prm = Prm::open(dir, placement)?;
                prm.check_prompt(Some(profile))?;
                prm.encode("")?; // it has a tokenizer
                Some(prm)
            }
            None => None,
        };
        let problems = loaded.fingerprint();
        let (name, count) = (loaded.name, loaded.problems.len());
        let held_out = config.eval.problems;
        let pool = Pool::new(loaded.problems, held_out, config.seed).ok_or(RunError::Few {
            name,
            count,
            held_out,
        })?;
        Ok(Self { config, base, placement, profile, pool, problems, prm })
    }

    /// Problems to learn from, and those held out.
    pub fn problems(&self) -> (usize, usize) {
        (self.pool.train(), self.pool.held_out().len())
    }

    /// Trains to the end of the schedule, from the last checkpoint of `run` where there is one. Once `cancel` is cancelled, attempts under way end,
    /// updates under way are finished, and a checkpoint is written; then the result is `None`.
    ///
    /// # Errors
    /// See [`RunError`]; what was trained so far is in the last checkpoint.
    pub fn run(
        &self,
        run: &RunDir,
        cancel: &CancellationToken,
        on_event: &mut dyn FnMut(Event<'_>),
    ) -> Result<Option<Report>, RunError> {
        let mut work = Work::start(self, run, cancel)?;
        match work.all(on_event) {
            Ok(()) => work.finish().map(Some),
            Err(RunError::Interrupted) => work.checkpoint().map(|()| None),
            Err(error) => Err(error),
        }
    }
}
