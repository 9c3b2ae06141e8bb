//! `agentflow bench`: figures of this machine, one line each.

mod engine;

use crate::Failure;
use crate::arguments::BenchCommand;

pub(crate) fn run(command: BenchCommand) -> Result<(), Failure> {
    match command {
        BenchCommand::Engine(args) => engine::run(&args),
    }
}
