//! What can be typed.

mod bench;
mod eval;
mod placement;
mod prm;
mod train;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Parser, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};

pub(crate) use eval::{
    CompareArgs, EvalArgs, EvalCommand, EvalListArgs, EvalRunArgs, ExportArgs, ProblemsArgs,
    RescoreArgs, RunsCommand,
};

pub(crate) use bench::{BenchCommand, BenchEngineArgs, RandomArgs};
pub(crate) use placement::PlacementArgs;
pub(crate) use prm::{PrmCommand, PrmScoreArgs, PrmStressArgs};
pub(crate) use train::{CollectArgs, DapoArgs, LabelArgs, SftArgs, TrainCommand, TrainPrmArgs};

const ENVIRONMENT: &str = "\
Environment, also from a file `.env`:
  OLLAMA_HOST       where Ollama runs [default: 127.0.0.1:11434]
  OPENAI_API_KEY    key for --backend openai
  DEEPSEEK_API_KEY  the same, for https://api.deepseek.com
  HF_TOKEN          token for the Hugging Face Hub; HF_ENDPOINT, HF_HOME,
                    HF_HUB_CACHE and HF_HUB_OFFLINE mean what they mean to its own tools
  AGENTFLOW_PYTHON  interpreter of the `code` tool [default: python3 on PATH]
  AGENTFLOW_LOG     log lines on stderr, e.g. debug
  NO_COLOR          no colour on a terminal";

/// Solve, evaluate and train a multi-step reasoning agent on a small local language model.
///
/// `agentflow solve "What is 15% of 240, then doubled?"` works offline; with Ollama running and a model pulled it uses
/// that model.
#[derive(Debug, Parser)]
#[command(name = "agentflow", version, arg_required_else_help = true, after_help = ENVIRONMENT)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Solve one question, showing each step
    Solve(SolveArgs),
    /// Measure a model on a benchmark
    Eval(Box<EvalArgs>),
    /// The runs on this machine
    Runs {
        #[command(subcommand)]
        command: RunsCommand,
    },
    /// Judge answers against gold answers, without a model
    Score(ScoreArgs),
    /// Train a model
    Train {
        #[command(subcommand)]
        command: TrainCommand,
    },
    /// Use a process reward model
    Prm {
        #[command(subcommand)]
        command: PrmCommand,
    },
    /// Look into a model, and run it on token ids
    Model {
        #[command(subcommand)]
        command: ModelCommand,
    },
    /// See and call the tools that the planner has
    Tools {
        #[command(subcommand)]
        command: ToolsCommand,
    },
    /// Serve a local model to every client of Ollama or OpenAI
    Serve(ServeArgs),
    /// Measure the speed of this machine
    Bench {
        #[command(subcommand)]
        command: BenchCommand,
    },
}

impl Command {
    /// Notes in the arguments of a run which of them were typed, and did not come by default: `matches` are this command's.
    pub(crate) fn note_typed(&mut self, matches: &ArgMatches) {
        match (self, matches.subcommand()) {
            (Self::Eval(args), None) => args.run.typed = typed(matches),
            (Self::Train { command }, Some((_, matches))) => match command {
                TrainCommand::Collect(args) => args.run.typed = typed(matches),
                TrainCommand::Label(args) => args.typed = typed(matches),
                TrainCommand::Sft(_) | TrainCommand::Prm(_) | TrainCommand::Dapo(_) => {}
            },
            _ => {}
        }
    }
}

/// The names of the arguments that were typed.
fn typed(matches: &ArgMatches) -> BTreeSet<String> {
    let typed = |name: &&str| matches.value_source(name) == Some(ValueSource::CommandLine);
    matches.ids().map(clap::Id::as_str).filter(typed).map(str::to_owned).collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Backend {
    /// Ollama if it answers and has a model, else the bundled tiny planner
    Auto,
    /// A server with Ollama's API
    Ollama,
    /// A server with OpenAI's API: vLLM, llama.cpp, DeepSeek, …
    Openai,
    /// A model in this process; the bundled tiny planner without --model
    Local,
    /// Exchanges recorded with --record
    Replay,
}

/// Which model, and how it is called.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
#[command(next_help_heading = "Model")]
pub(crate) struct ModelArgs {
    /// Where the model runs
    #[arg(long, value_enum, value_name = "WHERE", default_value = "auto")]
    pub(crate) backend: Backend,
    /// Model name (ollama, openai), directory, GGUF file or name on the Hugging Face Hub (local), or recording (replay)
    #[arg(long, value_name = "NAME|DIR|FILE")]
    pub(crate) model: Option<String>,
    /// LoRA adapter beside the weights of a local model: a PEFT directory
    #[arg(long, value_name = "DIR")]
    pub(crate) adapter: Option<PathBuf>,
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) placement: PlacementArgs,
    /// Address of the server; for ollama the default is $OLLAMA_HOST. Repeat it for several with the same model
    #[arg(long, value_name = "URL")]
    #[serde(default)]
    pub(crate) url: Vec<String>,
    /// Context window in tokens [default: 8192, with --think 16384]
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) num_ctx: Option<u32>,
    /// Let the model think before each reply, where it can
    #[arg(long)]
    pub(crate) think: bool,
    /// 0 takes the likeliest token every time
    #[arg(long, value_name = "NUMBER", default_value_t = 0.0, value_parser = temperature, allow_negative_numbers = true)]
    pub(crate) temperature: f64,
    /// Keep the likeliest tokens up to this probability
    #[arg(long, value_name = "NUMBER", default_value_t = 1.0, value_parser = probability, allow_negative_numbers = true)]
    pub(crate) top_p: f64,
    /// Decides everything that is drawn
    #[arg(long, value_name = "NUMBER", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    pub(crate) seed: u64,
    /// Most tokens of one reply [default: 512, with --think 8192]
    #[arg(long, value_name = "TOKENS")]
    pub(crate) max_tokens: Option<u32>,
    /// Longest wait for a reply of the server [default: 900, for a model may have to be loaded first]
    #[arg(long, value_name = "SECONDS", value_parser = seconds, allow_negative_numbers = true)]
    pub(crate) timeout: Option<f64>,
    /// Append every model exchange to FILE, to be played back with --backend replay
    #[arg(long, value_name = "FILE")]
    pub(crate) record: Option<PathBuf>,
}

impl ModelArgs {
    /// Room for a long thought beside the prompt, where the model may think.
    pub(crate) fn num_ctx(&self) -> u32 {
        self.num_ctx.unwrap_or(if self.think { 16384 } else { 8192 })
    }
}

/// How the agent loop runs.
#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
#[command(next_help_heading = "Agent loop")]
pub(crate) struct LoopArgs {
    /// Most steps before the planner has to answer
    #[arg(long, value_name = "STEPS", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub(crate) max_steps: u64,
    /// Most prompt and completion tokens in all
    #[arg(long, value_name = "TOKENS")]
    pub(crate) max_total_tokens: Option<u64>,
    /// Most time for a question
    #[arg(long, value_name = "SECONDS", value_parser = seconds, allow_negative_numbers = true)]
    pub(crate) max_seconds: Option<f64>,
    /// Most time for one call of a tool
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0, value_parser = seconds, allow_negative_numbers = true)]
    pub(crate) tool_timeout: f64,
    /// How tools are contained: auto takes the best that works here
    #[arg(long, value_name = "LEVEL", default_value = "auto")]
    pub(crate) sandbox: agentflow_tools::LevelWanted,
}

#[derive(Debug, Args)]
pub(crate) struct SolveArgs {
    /// The question; `-` reads it from standard input
    pub(crate) question: String,
    /// Print the whole trajectory as JSON instead of the answer
    #[arg(long)]
    pub(crate) json: bool,
    /// Append the trajectory to FILE, as one line of JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) trace: Option<PathBuf>,
    /// Show warnings only, not the steps
    #[arg(long, short)]
    pub(crate) quiet: bool,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) agent: LoopArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ScoreArgs {
    /// JSON lines with `gold` and `pred`, the whole text of a model; `-` for standard input
    #[arg(value_name = "PAIRS.jsonl")]
    pub(crate) pairs: PathBuf,
    /// What the gold answers are
    #[arg(long, value_enum, value_name = "KIND", default_value = "math")]
    pub(crate) kind: ScoreKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ScoreKind {
    /// Mathematical expressions
    Math,
    /// Letters; a line may hold the texts of its `choices`
    Choice,
}

/// Serve a local model to every client of Ollama or OpenAI
///
/// Clients of Ollama take `http://127.0.0.1:11435` (or OLLAMA_HOST) as the address, those of OpenAI
/// `http://127.0.0.1:11435/v1` with any key. The port is Ollama's and one, so that both run side by side. Ctrl-c ends it.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Model directory, GGUF file or repository on the Hub, or `bundled` for the tiny planner in this binary
    #[arg(long, value_name = "MODEL", default_value = "bundled")]
    pub(crate) model: String,
    /// LoRA adapter beside the weights: a PEFT directory
    #[arg(long, value_name = "DIR")]
    pub(crate) adapter: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) placement: PlacementArgs,
    /// What clients call it [default: the name of the directory or file]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Address to listen on; any but the default lets other machines in, without a password
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub(crate) host: IpAddr,
    /// Port to listen on; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 11435)]
    pub(crate) port: u16,
    /// Context window in tokens [default: what the model was made for]
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) num_ctx: Option<u32>,
    /// Replies under way at the same time
    #[arg(long, value_name = "REPLIES", default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..=4096))]
    pub(crate) concurrency: u64,
    /// Requests that may wait; further ones are answered 503
    #[arg(long, value_name = "REQUESTS", default_value_t = 512)]
    pub(crate) queue: usize,
    /// How long replies under way may take after ctrl-c
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0, value_parser = seconds, allow_negative_numbers = true)]
    pub(crate) grace: f64,
}

fn temperature(text: &str) -> Result<f64, String> {
    number(text, "a temperature is a number from 0 to 10", |value| (0.0..=10.0).contains(&value))
}

fn positive_temperature(text: &str) -> Result<f64, String> {
    number(text, "a temperature is a number above 0, up to 10 here", |value| {
        value > 0.0 && value <= 10.0
    })
}

fn probability(text: &str) -> Result<f64, String> {
    number(text, "a probability is a number above 0 and at most 1", |value| {
        value > 0.0 && value <= 1.0
    })
}

fn seconds(text: &str) -> Result<f64, String> {
    number(text, "seconds are a positive number", |value| value > 0.0 && value < 1e9)
}

fn number(text: &str, wanted: &str, holds: impl Fn(f64) -> bool) -> Result<f64, String> {
    text.parse().ok().filter(|value| holds(*value)).ok_or_else(|| wanted.to_owned())
}

#[derive(Debug, Subcommand)]
pub(crate) enum ModelCommand {
    /// Say what a model is: architecture, size, tokenizer, template, memory
    Inspect(InspectArgs),
    /// Chat messages to prompt text and token ids: {"messages", "think"?} -> {"text", "ids"}
    Render(RenderArgs),
    /// Log-probabilities of tokens: {"prompt_ids", "completion_ids"} -> {"logprobs", "sum"}
    Logprobs(LogprobsArgs),
    /// Token ids to token ids: {"prompt_ids", "max_tokens", "temperature"?, "seed"?, "schema"?} -> {"ids", "text", "finish", "logprobs"}
    Generate(GenerateArgs),
    /// Write a model directory of a real shape with random weights, to measure speed and memory on
    Random(RandomArgs),
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// Model directory, GGUF file or name on the Hub [default: the bundled tiny planner]
    #[arg(value_name = "DIR|FILE|REPO")]
    pub(crate) model: Option<String>,
    #[command(flatten)]
    pub(crate) placement: PlacementArgs,
    /// Print it as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RenderArgs {
    /// Model directory, GGUF file or name on the Hub [default: the bundled tiny planner]
    #[arg(long, value_name = "DIR|FILE|REPO")]
    pub(crate) model: Option<String>,
    /// JSON lines; `-` reads standard input
    #[arg(long, value_name = "FILE", default_value = "-")]
    pub(crate) input: PathBuf,
}

/// The weights of the plumbing commands.
#[derive(Debug, Args)]
pub(crate) struct WeightsArgs {
    /// Model directory, GGUF file or name on the Hub [default: the bundled tiny planner]
    #[arg(long, value_name = "DIR|FILE|REPO")]
    pub(crate) model: Option<String>,
    /// LoRA adapter beside the weights: a PEFT directory
    #[arg(long, value_name = "DIR")]
    pub(crate) adapter: Option<PathBuf>,
    /// JSON lines; `-` reads standard input
    #[arg(long, value_name = "FILE", default_value = "-")]
    pub(crate) input: PathBuf,
    #[command(flatten)]
    pub(crate) placement: PlacementArgs,
}

#[derive(Debug, Args)]
pub(crate) struct LogprobsArgs {
    #[command(flatten)]
    pub(crate) weights: WeightsArgs,
    /// Divide the logits by this first
    #[arg(long, value_name = "NUMBER", default_value_t = 1.0, value_parser = positive_temperature, allow_negative_numbers = true)]
    pub(crate) temperature: f64,
}

#[derive(Debug, Args)]
pub(crate) struct GenerateArgs {
    #[command(flatten)]
    pub(crate) weights: WeightsArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ToolsCommand {
    /// List the tools
    List {
        /// One JSON object a line, with the schema of the arguments
        #[arg(long)]
        json: bool,
    },
    /// Call one tool as the planner would
    Call(ToolCallArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ToolCallArgs {
    /// Name of the tool, e.g. code
    pub(crate) tool: String,
    /// What the tool gets; standard input without it, or with `-`
    pub(crate) input: Option<String>,
    /// Read the input from FILE
    #[arg(long, value_name = "FILE", conflicts_with = "input")]
    pub(crate) file: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// How the tool is contained: auto takes the best that works here
    #[arg(long, value_name = "LEVEL", default_value = "auto")]
    pub(crate) sandbox: agentflow_tools::LevelWanted,
    /// Most seconds of the call
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) timeout: Option<f64>,
}
