//! `agentflow model random`: a model directory of a real shape with random weights.

use agentflow_model::random_model;

use crate::arguments::RandomArgs;
use crate::{Failure, output};

pub(super) fn run(args: &RandomArgs) -> Result<(), Failure> {
    random_model::write(args.shape.0, args.dtype.into(), args.seed, &args.out)
        .map_err(Failure::work)?;
    output::print(|out| writeln!(out, "{}", args.out.display()))
}
