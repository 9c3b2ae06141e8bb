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
