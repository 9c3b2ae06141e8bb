//! Measuring speed, and models to measure it on.

use std::path::PathBuf;

use agentflow_model::random_model::Shape;
use candle_core::DType;
use clap::{Args, Subcommand, ValueEnum};

use super::PlacementArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Tokens a second of the engine, reading prompts and writing replies
    Engine(BenchEngineArgs),
}

#[derive(Debug, Args)]
pub(crate) struct BenchEngineArgs {
    /// Model directory, GGUF file or name on the Hub [default: the bundled tiny planner]
    #[arg(long, value_name = "DIR|FILE|REPO")]
    pub(crate) model: Option<String>,
    #[command(flatten)]
    pub(crate) placement: PlacementArgs,
    /// Replies at the same time; several are measured one after the other
    #[arg(long, value_name = "ROWS,…", default_value = "1,16", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) batch: Vec<u32>,
    /// How many of them are samples of one prompt
    #[arg(long, value_name = "SAMPLES", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) group_size: u32,
    /// Compute each sample's prompt for itself
    #[arg(long)]
    pub(crate) unshared: bool,
    /// Tokens of each prompt
    #[arg(long, value_name = "TOKENS", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) prompt: u32,
    /// Tokens of each reply
    #[arg(long, value_name = "TOKENS", default_value_t = 128, value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    pub(crate) tokens: u32,
    /// How often each batch is measured; the best counts
    #[arg(long, value_name = "ROUNDS", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,
    /// Decides prompts and replies
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub(crate) seed: u64,
}

#[derive(Debug, Args)]
pub(crate) struct RandomArgs {
    /// Whose shape
    #[arg(long, value_enum)]
    pub(crate) shape: ShapeArg,
    /// Where to write it: a directory that is new or empty
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// What the weights are stored in
    #[arg(long, value_enum, value_name = "DTYPE", default_value = "bf16")]
    pub(crate) dtype: Stored,
    /// Decides the weights
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub(crate) seed: u64,
}

/// [`Shape`], as it is typed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ShapeArg(pub(crate) Shape);

impl ValueEnum for ShapeArg {
    fn value_variants<'a>() -> &'a [Self] {
        const ALL: [ShapeArg; Shape::ALL.len()] = {
            let mut all = [ShapeArg(Shape::Tiny); Shape::ALL.len()];
            let mut at = 0;
            while at < all.len() {
                all[at] = ShapeArg(Shape::ALL[at]);
                at += 1;
            }
            all
        };
        &ALL
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        Some(clap::builder::PossibleValue::new(self.0.name()))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Stored {
    F32,
    Bf16,
    F16,
}

impl From<Stored> for DType {
    fn from(stored: Stored) -> Self {
        match stored {
            Stored::F32 => Self::F32,
            Stored::Bf16 => Self::BF16,
            Stored::F16 => Self::F16,
        }
    }
}
