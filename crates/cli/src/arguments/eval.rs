//! What can be typed behind `agentflow eval` and `agentflow runs`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};

use super::{LoopArgs, ModelArgs, number, seconds};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct EvalArgs {
    #[command(subcommand)]
    pub(crate) command: Option<EvalCommand>,
    #[command(flatten)]
    pub(crate) run: EvalRunArgs,
}

/// A run of `agentflow eval`. What is not about this process alone is kept in `run.toml`.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub(crate) struct EvalRunArgs {
    /// Benchmark by name (see `eval list`), or a .jsonl, .csv, .parquet or benchmark .toml file
    #[arg(
        long,
        short,
        value_name = "NAME|FILE",
        default_value = "arith",
        help_heading = "Benchmark"
    )]
    pub(crate) benchmark: String,
    /// At most this many problems, from the first on
    #[arg(long, value_name = "PROBLEMS", help_heading = "Benchmark", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub(crate) limit: Option<u64>,
    /// This many problems, drawn by the seed
    #[arg(long, value_name = "PROBLEMS", help_heading = "Benchmark", conflicts_with = "limit", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub(crate) sample: Option<u64>,
    /// Attempts at each problem
    #[arg(long, value_name = "ATTEMPTS", help_heading = "Benchmark", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) repeats: u32,
    /// Column of a data file that holds the question [default: a usual name]
    #[arg(long, value_name = "COLUMN", help_heading = "Benchmark")]
    pub(crate) question_key: Option<String>,
    /// Column of a data file that holds the answer [default: a usual name]
    #[arg(long, value_name = "COLUMN", help_heading = "Benchmark")]
    pub(crate) answer_key: Option<String>,
    /// Column of a data file that names the problem [default: a usual name, or the row]
    #[arg(long, value_name = "COLUMN", help_heading = "Benchmark")]
    pub(crate) id_key: Option<String>,
    /// Which part of `arith`: train, test or test-phrasing [default: test]
    #[arg(long, help_heading = "Benchmark")]
    pub(crate) split: Option<agentflow_eval::arith::Split>,
    /// Which problems of `arith`: another seed draws others [default: 0]
    #[arg(long, value_name = "NUMBER", help_heading = "Benchmark", value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    pub(crate) problem_seed: Option<u64>,

    /// Go on with an interrupted run; what is measured stays as it was
    #[arg(long, value_name = "RUN", help_heading = "Run")]
    #[serde(skip)]
    pub(crate) resume: Option<PathBuf>,
    /// Attempts at the same time; a server that is busy gets fewer
    #[arg(long, value_name = "ATTEMPTS", help_heading = "Run", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=1024))]
    pub(crate) concurrency: u64,
    /// Further tries of an attempt that failed
    #[arg(long, value_name = "TRIES", help_heading = "Run", default_value_t = 2, value_parser = clap::value_parser!(u32).range(..=100))]
    pub(crate) retries: u32,
    /// End the run at the first attempt that fails
    #[arg(long, help_heading = "Run")]
    pub(crate) fail_fast: bool,
    /// With --resume: do not make failed attempts again
    #[arg(long, help_heading = "Run", requires = "resume")]
    #[serde(skip)]
    pub(crate) keep_failures: bool,
    /// Most prompt and completion tokens of the whole run
    #[arg(long, value_name = "TOKENS", help_heading = "Run")]
    pub(crate) max_tokens_total: Option<u64>,
    /// Most time, e.g. 90, 45m or 8h; a resumed run has it anew
    #[arg(long, value_name = "TIME", help_heading = "Run", value_parser = time)]
    pub(crate) max_time: Option<f64>,
    /// Most dollars of the whole run, at --usd-in and --usd-out
    #[arg(long, value_name = "DOLLARS", help_heading = "Run", value_parser = dollars, requires_all = ["usd_in", "usd_out"])]
    pub(crate) max_usd: Option<f64>,
    /// Price of a million prompt tokens
    #[arg(long, value_name = "DOLLARS", help_heading = "Run", value_parser = dollars, requires = "usd_out")]
    pub(crate) usd_in: Option<f64>,
    /// Price of a million completion tokens
    #[arg(long, value_name = "DOLLARS", help_heading = "Run", value_parser = dollars, requires = "usd_in")]
    pub(crate) usd_out: Option<f64>,
    /// Where run directories are made
    #[arg(long, alias = "out", value_name = "DIR", help_heading = "Run", default_value = "runs")]
    pub(crate) runs: PathBuf,
    /// Print the report as JSON
    #[arg(long, help_heading = "Run")]
    #[serde(skip)]
    pub(crate) json: bool,
    /// Load the problems, say what would be measured, and stop
    #[arg(long, help_heading = "Run")]
    #[serde(skip)]
    pub(crate) dry_run: bool,

    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) agent: LoopArgs,

    /// What was typed, and is not a default: the names of the fields.
    #[arg(skip)]
    #[serde(skip)]
    pub(crate) typed: BTreeSet<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum EvalCommand {
    /// List the benchmarks: size, source, licence, and whether they are on this machine
    List(EvalListArgs),
    /// Print problems of the arithmetic benchmark with their answers, one JSON object a line
    Problems(ProblemsArgs),
    /// Compare two runs question by question, or a run with published figures
    Compare(CompareArgs),
    /// List the published figures that a run can be compared with
    Published {
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Judge the answers of a run again, from its record, without a model
    Rescore(RescoreArgs),
    /// Write a run for another tool
    Export(ExportArgs),
}

#[derive(Debug, Args)]
pub(crate) struct EvalListArgs {
    /// One JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ProblemsArgs {
    /// Which part: train, test or test-phrasing
    #[arg(long, default_value = "test")]
    pub(crate) split: agentflow_eval::arith::Split,
    /// How many
    #[arg(long, value_name = "PROBLEMS", default_value_t = 10)]
    pub(crate) limit: u64,
    /// Which: another seed draws others
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub(crate) seed: u64,
}

/// Compare two runs question by question, or a run with published figures
///
/// A and B are run directories, names of runs, or addresses as `published:agentflow-pro/aime24`, which stands for every
/// row of that benchmark. The difference is B's against A.
#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// The run before
    #[arg(value_name = "RUN|published:…")]
    pub(crate) a: String,
    /// The run after
    #[arg(value_name = "RUN|published:…")]
    pub(crate) b: String,
    /// Compare also runs of different questions
    #[arg(long)]
    pub(crate) force: bool,
    /// One JSON object a comparison
    #[arg(long)]
    pub(crate) json: bool,
    /// Where runs are looked for by name
    #[arg(long, value_name = "DIR", default_value = "runs")]
    pub(crate) runs: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct RescoreArgs {
    /// Directory or name of a run
    pub(crate) run: PathBuf,
    /// Print what changed as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Where runs are looked for by name
    #[arg(long, value_name = "DIR", default_value = "runs")]
    pub(crate) runs: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Directory or name of a run
    pub(crate) run: PathBuf,
    /// As a log of inspect_ai, for `inspect view`
    #[arg(long, required = true)]
    pub(crate) inspect: bool,
    /// Where to write it; `-` is standard output [default: a file in `inspect/` of the run]
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Where runs are looked for by name
    #[arg(long, value_name = "DIR", default_value = "runs")]
    pub(crate) runs: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RunsCommand {
    /// List the runs, the newest first
    List {
        /// One JSON object a line
        #[arg(long)]
        json: bool,
        /// Where run directories are
        #[arg(long, value_name = "DIR", default_value = "runs")]
        runs: PathBuf,
    },
    /// Show one run: its state, and its report
    Show {
        /// Directory or name of a run
        run: PathBuf,
        /// As JSON, with the report
        #[arg(long)]
        json: bool,
        /// Where runs are looked for by name
        #[arg(long, value_name = "DIR", default_value = "runs")]
        runs: PathBuf,
    },
    /// Go on with an interrupted run, whatever kind it is
    Resume(ResumeArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ResumeArgs {
    /// Directory or name of a run
    pub(crate) run: PathBuf,
    /// Where runs are looked for by name
    #[arg(long, value_name = "DIR", default_value = "runs")]
    pub(crate) runs: PathBuf,
}

/// Seconds, or with a unit.
fn time(text: &str) -> Result<f64, String> {
    const WANTED: &str = "a time is a number of seconds, or one with a unit: 90, 90s, 45m, 8h";
    let (number, unit) = match text.char_indices().next_back() {
        Some((at, 's')) => (&text[..at], 1.0),
        Some((at, 'm')) => (&text[..at], 60.0),
        Some((at, 'h')) => (&text[..at], 3600.0),
        _ => (text, 1.0),
    };
    seconds(number).map(|seconds| seconds * unit).map_err(|_| WANTED.to_owned())
}

pub(super) fn dollars(text: &str) -> Result<f64, String> {
    number(text, "dollars are a number of 0 or more", |value| value >= 0.0 && value.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        assert_eq!(time("90"), Ok(90.0));
        assert_eq!(time("1.5h"), Ok(5400.0));
        assert_eq!(time("2m"), Ok(120.0));
        assert!(["", "h", "-3", "2d", "m2"].into_iter().all(|text| time(text).is_err()));
    }
}
