//! The binary: raw arguments become one checked value, then plain calls. Results go to stdout, all else to stderr.

mod arguments;
mod backend;
mod bench;
mod compare;
mod config;
mod eval;
mod export;
mod interrupt;
mod model;
mod model_source;
mod narrate;
mod output;
mod placement;
mod progress;
mod rescore;
mod run_record;
mod runs;
mod score;
mod serve;
mod solve;
mod tools;
mod train;

use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};

use arguments::{Cli, Command, EvalCommand};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What `main` makes of a failed command.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Exit code 2: arguments or configuration are wrong.
    #[error("{0:#}")]
    Usage(anyhow::Error),
    /// Exit code 1: the work failed.
    #[error("{0:#}")]
    Work(#[from] anyhow::Error),
    /// Exit code 130: ctrl-c.
    #[error("interrupted")]
    Interrupted,
}

impl Failure {
    pub(crate) fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self::Usage(error.into())
    }

    pub(crate) fn work(error: impl Into<anyhow::Error>) -> Self {
        Self::Work(error.into())
    }

    fn exit_code(&self) -> u8 {
        match self {
            Self::Work(_) => 1,
            Self::Usage(_) => 2,
            Self::Interrupted => 130,
        }
    }
}

fn main() -> ExitCode {
    let dotenv = dotenvy::dotenv();
    let matches = Cli::command().get_matches();
    let mut cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    if let Some((_, matches)) = matches.subcommand() {
        cli.command.note_typed(matches);
    }
    log();
    // Keys may stand in `.env` instead of the environment, which wins. A missing file is no mistake; of a broken one, the
    // line is not shown, for it may hold a key.
    if let Err(dotenvy::Error::LineParse(..)) = dotenv {
        tracing::warn!(
            "a line of `.env` cannot be read, and those after it are left out; write KEY=VALUE lines"
        );
    }
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Nothing is left to do where stderr is closed.
            let _ = writeln!(std::io::stderr(), "error: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

/// Log lines of the libraries, from warnings on; `AGENTFLOW_LOG` asks for more, e.g. `debug`.
fn log() {
    // What a backend noticed is told as a warning of the step.
    let usual = "warn,agentflow_llm::notices=off";
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(narrate::colour())
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("AGENTFLOW_LOG")
                .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(usual)),
        )
        .with_target(false)
        .without_time()
        .init();
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Solve(args) => solve::run(args),
        Command::Eval(args) => match args.command {
            Some(EvalCommand::List(list)) => eval::list(&list),
            Some(EvalCommand::Problems(problems)) => eval::problems(&problems),
            Some(EvalCommand::Compare(args)) => compare::run(&args),
            Some(EvalCommand::Published { json }) => compare::published(json),
            Some(EvalCommand::Rescore(args)) => rescore::run(&args),
            Some(EvalCommand::Export(args)) => export::run(&args),
            None => eval::run(args.run, eval::Purpose::Measure),
        },
        Command::Score(args) => score::run(&args),
        Command::Train { command } => train::run(command),
        Command::Model { command } => model::run(command),
        Command::Tools { command } => tools::run(command),
        Command::Serve(args) => serve::run(args),
        Command::Bench { command } => bench::run(command),
        Command::Runs { command } => runs::run(&command),
    }
}
