//! What can be typed after `agentflow prm`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::PlacementArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum PrmCommand {
    /// Rate the decisions of a run, or texts
    ///
    /// With RUN, every decision that could be read gets its score: `prm_score` of its step, in a copy of the trajectories.
    /// With --input, lines with `ids` or `text` become lines with `score` in the same order; a line that fails gives
    /// `error`, and the exit code is 1 at the end. Scores are as the model gives them: mostly, but not surely, from 0 to 1.
    Score(PrmScoreArgs),
    /// Try to fool a PRM: tricks that make decisions look better without being better
    ///
    /// Each trick is played on every decision of RUN that could be read, and the scores before and after are compared: a
    /// padded thought, the question copied into the thought, a thought that praises itself, a wrong answer given at once,
    /// the steps before in reverse order. The mean score must not rise; what rises, a planner trained on this PRM will find.
    Stress(PrmStressArgs),
}

#[derive(Debug, Args)]
pub(crate) struct PrmStressArgs {
    /// Directory of a run with trajectories that the PRM was not trained on, or its name under --runs
    #[arg(value_name = "RUN")]
    pub(crate) run: PathBuf,
    /// The PRM: a directory that `agentflow train prm` wrote, or one of Hugging Face's tools
    #[arg(long, value_name = "DIR")]
    pub(crate) model: PathBuf,
    /// Print the comparison as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Score also where the PRM was trained on another text than it is to rate
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) placement: PlacementArgs,
    /// Where run directories are
    #[arg(long, value_name = "DIR", default_value = "runs")]
    pub(crate) runs: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct PrmScoreArgs {
    /// Directory of a run with trajectories, or its name under --runs
    #[arg(value_name = "RUN", required_unless_present = "input")]
    pub(crate) run: Option<PathBuf>,
    /// JSON lines instead of a run; `-` reads standard input
    #[arg(long, value_name = "FILE", conflicts_with = "run")]
    pub(crate) input: Option<PathBuf>,
    /// The PRM: a directory that `agentflow train prm` wrote, or one of Hugging Face's tools
    #[arg(long, value_name = "DIR")]
    pub(crate) model: PathBuf,
    /// Where the copy goes [default: trajectories.prm.jsonl in the run]
    #[arg(long, value_name = "FILE", conflicts_with = "input")]
    pub(crate) out: Option<PathBuf>,
    /// Score also where the PRM was trained on another text than it is to rate
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) placement: PlacementArgs,
    /// Where run directories are
    #[arg(long, value_name = "DIR", default_value = "runs")]
    pub(crate) runs: PathBuf,
}
