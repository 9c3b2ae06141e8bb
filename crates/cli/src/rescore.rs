//! `agentflow eval rescore`: new verdicts for a recorded run.

use std::io::Write;

use agentflow_eval::{Change, Outcome, Rescored, judge, rescore, same_answer};

use crate::Failure;
use crate::arguments::RescoreArgs;
use crate::{output, runs};

pub(crate) fn run(args: &RescoreArgs) -> Result<(), Failure> {
    let run = runs::find(&args.run, &args.runs)?;
    let found = rescore(&run, &judge, &same_answer).map_err(Failure::work)?;
    output::print(|out| match args.json {
        true => writeln!(out, "{}", serde_json::to_string(&found)?),
        false => told(&found, out),
    })
}

fn told(found: &Rescored, out: &mut dyn Write) -> std::io::Result<()> {
    for Change { problem, repeat, gold, before, after } in &found.changed {
        let read = |read: &Option<String>| read.clone().unwrap_or_else(|| "nothing".to_owned());
        writeln!(
            out,
            "{problem}#{}: {} -> {} (gold {gold}; read {}, now {}: {})",
            repeat + 1,
            name(before.outcome),
            name(after.outcome),
            read(&before.pred_read),
            read(&after.pred_read),
            after.how
        )?;
    }
    let counts = &found.report.counts;
    writeln!(
        out,
        "{} of {} verdicts changed, {} more were read otherwise; now {} of {} right",
        found.changed.len(),
        found.samples,
        found.read_otherwise,
        counts.right,
        counts.samples
    )?;
    match &found.backup {
        Some(backup) => writeln!(out, "the old record is `{}`", backup.display()),
        None => writeln!(out, "the record is as it was"),
    }
}

fn name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Right => "right",
        Outcome::Wrong => "wrong",
        Outcome::NoAnswer => "no answer",
        Outcome::Failed => "failed",
    }
}
