//! `agentflow train`.

mod collect;
mod dapo;
mod label;
mod prm;
mod sft;

use crate::Failure;
use crate::arguments::TrainCommand;

pub(crate) fn run(command: TrainCommand) -> Result<(), Failure> {
    match command {
        TrainCommand::Collect(args) => collect::run(*args),
        TrainCommand::Label(args) => label::run(*args),
        TrainCommand::Sft(args) => sft::run(args),
        TrainCommand::Prm(args) => prm::run(args),
        TrainCommand::Dapo(args) => dapo::run(*args),
    }
}
