//! `agentflow train`.

mod collect;
mod label;
mod sft;

use crate::Failure;
use crate::arguments::TrainCommand;

pub(crate) fn run(command: TrainCommand) -> Result<(), Failure> {
    match command {
        TrainCommand::Collect(args) => collect::run(*args),
        TrainCommand::Label(args) => label::run(*args),
        TrainCommand::Sft(args) => sft::run(args),
    }
}
