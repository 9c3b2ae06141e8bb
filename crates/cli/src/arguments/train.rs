//! What can be typed after `agentflow train`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::PlacementArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum TrainCommand {
    /// Train a small planner from nothing on demonstrations of the arithmetic benchmark
    Sft(SftArgs),
    /// Train a LoRA adapter with DAPO on given rows
    Dapo(DapoArgs),
}

#[derive(Debug, Args)]
pub(crate) struct SftArgs {
    /// Run configuration, e.g. configs/tiny/sft.toml
    #[arg(long, value_name = "FILE", required_unless_present = "resume")]
    pub(crate) config: Option<PathBuf>,
    /// Override one key, e.g. --set schedule.updates=100
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) overrides: Vec<String>,
    /// Go on with an interrupted run
    #[arg(long, value_name = "RUN", conflicts_with_all = ["config", "overrides"])]
    pub(crate) resume: Option<PathBuf>,
    /// Check the configuration and print it, without training
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Where run directories are made
    #[arg(long, value_name = "DIR", default_value = "runs")]
    pub(crate) runs: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct DapoArgs {
    /// JSON lines, an update each, with arrays over its rows: prompt_ids, completion_ids, completion_mask, advantages, and
    /// perhaps old_logprobs; `-` reads standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) replay: PathBuf,
    /// Model directory, GGUF file or name on the Hub [default: the bundled tiny planner]
    #[arg(long, value_name = "DIR|FILE|REPO")]
    pub(crate) model: Option<String>,
    /// LoRA adapter to go on with, a PEFT directory [default: a new one]
    #[arg(long, value_name = "DIR")]
    pub(crate) adapter: Option<PathBuf>,
    /// Where the trained adapter goes; a new or an empty directory
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Configuration of the updates [default: configs/dapo-replay.toml, which is inside this program]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Override one key, e.g. --set optimizer.lr=1e-4
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) overrides: Vec<String>,
    /// Print the metrics of each update as a JSON line
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) placement: PlacementArgs,
}
