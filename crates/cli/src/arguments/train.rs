//! What can be typed after `agentflow train`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::PlacementArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum TrainCommand {
    /// Train a small planner from nothing on demonstrations of the arithmetic benchmark
    Sft(SftArgs),
    /// Train a process reward model on labelled steps
    Prm(TrainPrmArgs),
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
pub(crate) struct TrainPrmArgs {
    /// Run configuration, e.g. configs/tiny/prm.toml
    #[arg(long, value_name = "FILE", required_unless_present = "resume")]
    pub(crate) config: Option<PathBuf>,
    /// Override one key, e.g. --set data.labels=runs/NAME
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) overrides: Vec<String>,
    /// Go on with an interrupted run, where and in what it was computed
    #[arg(long, value_name = "RUN", conflicts_with_all = ["config", "overrides", "device", "dtype"])]
    pub(crate) resume: Option<PathBuf>,
    /// Check the configuration and print it, without training
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) placement: PlacementArgs,
    /// Where run directories are made
    #[arg(long, value_name = "DIR", default_value = "runs")]
    pub(crate) runs: PathBuf,
}
