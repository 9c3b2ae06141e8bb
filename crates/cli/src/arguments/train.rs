//! What can be typed after `agentflow train`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use agentflow_train::label::consensus::MARGIN;
use agentflow_train::label::judge::Sight;
use clap::{Args, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};

use super::eval::dollars;
use super::{Backend, EvalRunArgs, ModelArgs, number};

use super::PlacementArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum TrainCommand {
    /// Make trajectories to train on: attempts at the problems of a training set
    #[command(mut_args(for_training))]
    Collect(Box<CollectArgs>),
    /// Say of each recorded decision what it is worth, 0 to 1
    #[command(mut_args(for_training))]
    Label(Box<LabelArgs>),
    /// Train a small planner from nothing on demonstrations of the arithmetic benchmark
    Sft(SftArgs),
    /// Train a process reward model on labelled steps
    Prm(TrainPrmArgs),
    /// Train a LoRA adapter with DAPO
    Dapo(Box<DapoArgs>),
}

/// What is collected is drawn: several attempts at a problem, each another one.
fn for_training(argument: clap::Arg) -> clap::Arg {
    match argument.get_id().as_str() {
        "temperature" => argument.default_value("1"),
        "repeats" => argument.default_value("4"),
        "split" => argument.default_value("train").help("Which part of `arith`: train"),
        _ => argument,
    }
}

/// Make trajectories to train on: attempts at the problems of a training set
///
/// A run as `agentflow eval` makes it, with the same record and reports, of problems that no test set has. Each step keeps
/// the token ids and their log-probabilities where the model gives them: one in this process does.
#[derive(Debug, Args)]
pub(crate) struct CollectArgs {
    #[command(flatten)]
    pub(crate) run: EvalRunArgs,
    /// The problems of this .jsonl, .csv or .parquet file are in no test set
    #[arg(long, help_heading = "Benchmark")]
    pub(crate) training_data: bool,
}

/// Say of each recorded decision what it is worth, 0 to 1
///
/// Every decision of the runs gets one line of `labels.jsonl`, with the text that a process reward model reads and where
/// the label comes from. Decisions that lead to the same state are labelled once.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub(crate) struct LabelArgs {
    /// Runs of `train collect`: directories or names
    #[arg(value_name = "RUN", required_unless_present_any = ["resume", "consensus"])]
    pub(crate) collected: Vec<PathBuf>,

    /// The share of K continuations from the state after the decision that reach the right answer
    #[arg(long, value_name = "K", help_heading = "Labeller", group = "labeller", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) monte_carlo: Option<u32>,
    /// A stronger model rates each decision by a rubric: where it runs, with --model and --url, at temperature 0
    #[arg(
        long,
        value_enum,
        value_name = "WHERE",
        help_heading = "Labeller",
        group = "labeller",
        conflicts_with = "backend"
    )]
    pub(crate) judge: Option<Backend>,
    /// What the judge is told
    #[arg(
        long,
        value_enum,
        value_name = "WHAT",
        help_heading = "Labeller",
        requires = "judge",
        default_value = "gold"
    )]
    pub(crate) judge_sees: Sees,
    /// Have so many decisions rated twice, to see how well the judge agrees with itself
    #[arg(long, value_name = "DECISIONS", help_heading = "Labeller", requires = "judge", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) agreement: Option<u64>,
    /// Keep the decisions on which two labelled runs agree: the judge's, then that of the rollouts
    #[arg(long, num_args = 2, value_names = ["JUDGED", "ROLLED"], help_heading = "Labeller", group = "labeller", conflicts_with_all = ["collected", "limit", "sample"])]
    pub(crate) consensus: Vec<PathBuf>,
    /// How far the two labels may be apart
    #[arg(long, value_name = "NUMBER", help_heading = "Labeller", requires = "consensus", default_value_t = MARGIN, value_parser = share, allow_negative_numbers = true)]
    pub(crate) margin: f64,
    /// Drop also what the outcome or a tool that failed tells against
    #[arg(long, help_heading = "Labeller", requires = "consensus")]
    pub(crate) signals: bool,

    /// At most this many trajectories, from the first on
    #[arg(long, value_name = "TRAJECTORIES", help_heading = "Run", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: Option<u64>,
    /// This many trajectories, drawn by the seed
    #[arg(long, value_name = "TRAJECTORIES", help_heading = "Run", conflicts_with = "limit", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) sample: Option<u64>,
    /// Go on with an interrupted run; what it labels, and how, stays as it was
    #[arg(long, value_name = "RUN", help_heading = "Run")]
    #[serde(skip)]
    pub(crate) resume: Option<PathBuf>,
    /// Continuations or ratings at the same time; a server that is busy gets fewer
    #[arg(long, value_name = "COUNT", help_heading = "Run", default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..=1024))]
    pub(crate) concurrency: u64,
    /// Further tries of a label that could not be had
    #[arg(long, value_name = "TRIES", help_heading = "Run", default_value_t = 2, value_parser = clap::value_parser!(u32).range(..=100))]
    pub(crate) retries: u32,
    /// Most dollars of the whole run, at --usd-in and --usd-out; what would go beyond it is left for --resume
    #[arg(long, value_name = "DOLLARS", help_heading = "Run", value_parser = dollars)]
    pub(crate) budget_usd: Option<f64>,
    /// Price of a million prompt tokens
    #[arg(long, value_name = "DOLLARS", help_heading = "Run", value_parser = dollars, requires = "usd_out")]
    pub(crate) usd_in: Option<f64>,
    /// Price of a million completion tokens
    #[arg(long, value_name = "DOLLARS", help_heading = "Run", value_parser = dollars, requires = "usd_in")]
    pub(crate) usd_out: Option<f64>,
    /// Where run directories are looked for by name, and made
    #[arg(long, value_name = "DIR", help_heading = "Run", default_value = "runs")]
    pub(crate) runs: PathBuf,
    /// Print the report as JSON
    #[arg(long, help_heading = "Run")]
    #[serde(skip)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) model: ModelArgs,

    /// What was typed, and is not a default: the names of the fields.
    #[arg(skip)]
    #[serde(skip)]
    pub(crate) typed: BTreeSet<String>,
}

/// What a judge is told beside the attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Sees {
    /// Nothing
    Blind,
    /// The right answer
    Gold,
    /// The right answer, and whether the attempt reached it
    Outcome,
}

impl From<Sees> for Sight {
    fn from(sees: Sees) -> Self {
        match sees {
            Sees::Blind => Self::Blind,
            Sees::Gold => Self::Gold,
            Sees::Outcome => Self::Outcome,
        }
    }
}

fn share(text: &str) -> Result<f64, String> {
    number(text, "a margin is a number from 0 to 1", |value| (0.0..=1.0).contains(&value))
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

/// Train a LoRA adapter with DAPO
///
/// Attempts at the problems of a training set, by the policy as it is; rewards from their outcome, from a process reward model, or
/// both; updates of the adapter; again and again. docs/dapo.md explains every key of the configuration. With --replay: updates on
/// given rows, and nothing else.
#[derive(Debug, Args)]
pub(crate) struct DapoArgs {
    /// Run configuration, e.g. configs/tiny/dapo.toml; with --replay that of the updates [default: configs/dapo-replay.toml,
    /// which is inside this program]
    #[arg(long, value_name = "FILE", required_unless_present_any = ["resume", "replay"])]
    pub(crate) config: Option<PathBuf>,
    /// Override one key, e.g. --set optimizer.lr=1e-4
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) overrides: Vec<String>,
    /// Go on with an interrupted run, where and in what it was computed
    #[arg(long, value_name = "RUN", conflicts_with_all = ["config", "overrides", "device", "dtype", "replay"])]
    pub(crate) resume: Option<PathBuf>,
    /// Check the configuration, and print it with what the run will take, without training
    #[arg(long, conflicts_with = "replay")]
    pub(crate) dry_run: bool,
    /// Where run directories are made
    #[arg(long, value_name = "DIR", default_value = "runs")]
    pub(crate) runs: PathBuf,
    /// JSON lines, an update each, with arrays over its rows: prompt_ids, completion_ids, completion_mask, advantages, and
    /// perhaps old_logprobs; `-` reads standard input
    #[arg(long, value_name = "FILE", help_heading = "Replay", requires = "out")]
    pub(crate) replay: Option<PathBuf>,
    /// Model directory, GGUF file or name on the Hub [default: the bundled tiny planner]
    #[arg(long, value_name = "DIR|FILE|REPO", help_heading = "Replay", requires = "replay")]
    pub(crate) model: Option<String>,
    /// LoRA adapter to go on with, a PEFT directory [default: a new one]
    #[arg(long, value_name = "DIR", help_heading = "Replay", requires = "replay")]
    pub(crate) adapter: Option<PathBuf>,
    /// Where the trained adapter goes; a new or an empty directory
    #[arg(long, value_name = "DIR", help_heading = "Replay", requires = "replay")]
    pub(crate) out: Option<PathBuf>,
    /// Print the metrics of each update as a JSON line
    #[arg(long, help_heading = "Replay", requires = "replay")]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) placement: PlacementArgs,
}
