//! `agentflow eval compare` and `agentflow eval published`.

use std::io::Write;

use agentflow_eval::compare::{COMPARISON_SCHEMA, CompareError, Comparison, Operand, compare};
use agentflow_eval::published::{Published, all_published};
use serde::Serialize;

use crate::Failure;
use crate::arguments::CompareArgs;
use crate::{output, runs};

/// One line of `--json`.
#[derive(Serialize)]
struct Line<'a> {
    schema: &'static str,
    words: String,
    #[serde(flatten)]
    comparison: &'a Comparison,
}

pub(crate) fn run(args: &CompareArgs) -> Result<(), Failure> {
    let operand = |text: &str| -> Result<Operand, Failure> {
        Ok(match Operand::parse(text).map_err(Failure::usage)? {
            Operand::Run(path) => Operand::Run(runs::find(&path, &args.runs)?),
            published => published,
        })
    };
    let (a, b) = (operand(&args.a)?, operand(&args.b)?);
    let found = compare(&a, &b, args.force).map_err(|error| match error {
        CompareError::Run(error) => Failure::work(error),
        other => Failure::usage(other),
    })?;
    output::print(|out| {
        for (index, comparison) in found.iter().enumerate() {
            if args.json {
                let line =
                    Line { schema: COMPARISON_SCHEMA, words: comparison.words(), comparison };
                writeln!(out, "{}", serde_json::to_string(&line)?)?;
            } else {
                let between = if index > 0 { "\n" } else { "" };
                write!(out, "{between}{comparison}")?;
            }
        }
        Ok(())
    })
}

pub(crate) fn published(json: bool) -> Result<(), Failure> {
    let all = all_published();
    let width = all.iter().map(|figure| figure.address.len()).max().unwrap_or(0);
    output::print(|out| {
        all.iter().try_for_each(|figure| match json {
            true => writeln!(out, "{}", serde_json::to_string(figure)?),
            false => row(figure, width, out),
        })
    })
}

fn row(figure: &Published, width: usize, out: &mut dyn Write) -> std::io::Result<()> {
    let Published { address, accuracy, right, questions, name, model, .. } = figure;
    let counted = match (right, questions) {
        (Some(right), Some(questions)) => format!("{right}/{questions}"),
        (None, Some(questions)) => format!("of {questions}"),
        _ => String::new(),
    };
    let percent = 100.0 * accuracy;
    writeln!(out, "{address:<width$}  {percent:>5.1} %  {counted:<7}  {name} ({model})")
}
