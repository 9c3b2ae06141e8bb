//! `agentflow train collect`: a run of the harness over training problems.

use crate::Failure;
use crate::arguments::CollectArgs;
use crate::eval::{self, Purpose};

pub(crate) fn run(args: CollectArgs) -> Result<(), Failure> {
    // A run that is resumed was let begin, and has the same problems.
    let training_data = args.training_data || args.run.resume.is_some();
    eval::run(args.run, Purpose::Collect { training_data })
}
