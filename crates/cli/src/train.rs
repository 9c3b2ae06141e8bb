//! `agentflow train`.

mod dapo;
mod sft;

use crate::Failure;
use crate::arguments::TrainCommand;

pub(crate) fn run(command: TrainCommand) -> Result<(), Failure> {
    match command {
        TrainCommand::Sft(args) => sft::run(args),
        TrainCommand::Dapo(args) => dapo::run(&args),
    }
}
