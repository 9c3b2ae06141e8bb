//! `agentflow score`: judge pairs of gold answer and model text without a model.
//!
//! A line that is no pair gives `{"line": …, "error": …}` in its place, and the exit code is 1 at the end.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use agentflow_eval::{Kind, Scoring, score_pairs};
use anyhow::{Context, anyhow};

use crate::Failure;
use crate::arguments::{ScoreArgs, ScoreKind};
use crate::output;

pub(crate) fn run(args: &ScoreArgs) -> Result<(), Failure> {
    let pairs: Box<dyn BufRead> = match args.pairs == Path::new("-") {
        true => Box::new(BufReader::with_capacity(1 << 16, io::stdin())),
        false => {
            let file = File::open(&args.pairs)
                .with_context(|| format!("cannot read the pairs `{}`", args.pairs.display()))
                .map_err(Failure::Usage)?;
            Box::new(BufReader::with_capacity(1 << 16, file))
        }
    };
    let kind = match args.kind {
        ScoreKind::Math => Kind::Math,
        ScoreKind::Choice => Kind::Choice,
    };
    let mut scoring = Scoring::default();
    output::print(|mut out| {
        scoring = score_pairs(pairs, kind, &mut out)?;
        Ok(())
    })?;
    match scoring.errors {
        0 => Ok(()),
        errors => Err(Failure::Work(anyhow!(
            "{errors} of {} lines could not be read; their place in the output says why",
            scoring.lines
        ))),
    }
}
