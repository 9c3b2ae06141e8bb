//! `agentflow eval`: problems through the real agent loop, judged, kept, reported.
//!
//! Start reading at `run.rs`; what a resumed run may not change is in `measured.rs`.

mod kept;
mod list;
mod measured;
mod purpose;
mod run;
mod table;
mod watch;

use agentflow_eval::arith;

use crate::arguments::ProblemsArgs;
use crate::{Failure, output};

pub(crate) use kept::{Kept, resumed, with_whole_model};
pub(crate) use list::list;
pub(crate) use measured::Measured;
pub(crate) use purpose::Purpose;
pub(crate) use run::{PATIENCE, run, say_on_cancel, say_version};

/// `agentflow eval problems`: one JSON object a line.
pub(crate) fn problems(args: &ProblemsArgs) -> Result<(), Failure> {
    output::print(|out| {
        (0..args.limit).try_for_each(|index| {
            let problem = arith::problem(args.seed, args.split, index);
            writeln!(out, "{}", serde_json::to_string(&problem)?)
        })
    })
}
