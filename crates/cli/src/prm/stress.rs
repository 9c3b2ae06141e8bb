//! `agentflow prm stress`: what a PRM falls for.

use std::io::{self, Write};

use agentflow_agent::Trajectory;
use agentflow_agent::prompt::Profile;
use agentflow_eval::SAMPLES_FILE;
use agentflow_train::adversary::{Played, play_all};
use agentflow_train::prm::PrmError;
use anyhow::{Context, anyhow};

use crate::arguments::PrmStressArgs;
use crate::{Failure, output, runs};

pub(super) fn run(args: &PrmStressArgs) -> Result<(), Failure> {
    let run = runs::find(&args.run, &args.runs)?;
    let (trajectories, profile) = read(&run.join(SAMPLES_FILE))?;
    let prm = super::open(&args.model, &args.placement)?;
    if !args.force {
        prm.check_prompt(Some(profile)).map_err(Failure::usage)?;
    }
    let scores = |texts: &[String]| {
        let ids = texts
            .iter()
            .map(|text| Ok::<_, PrmError>(prm.encode(text)?.ids))
            .collect::<Result<Vec<_>, _>>()?;
        prm.scores(&ids)
    };
    let played = play_all(&trajectories, profile, scores).map_err(Failure::work)?;
    if args.json {
        let text =
            serde_json::to_string_pretty(&played).context("cannot serialize the comparison")?;
        return output::print(|out| writeln!(out, "{text}"));
    }
    output::print(|out| table(&played, out))
}

/// The trajectories of a file, and the one profile of prompts that all were made with.
fn read(path: &std::path::Path) -> Result<(Vec<Trajectory>, Profile), Failure> {
    let in_file = || format!("cannot read `{}`", path.display());
    let text = std::fs::read_to_string(path).with_context(in_file).map_err(Failure::usage)?;
    // A torn last line is no trajectory yet.
    let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
    let read = |(index, line)| Trajectory::from_line(line, index + 1);
    let trajectories: Vec<Trajectory> = whole
        .lines()
        .enumerate()
        .map(read)
        .collect::<Result<_, _>>()
        .with_context(in_file)
        .map_err(Failure::usage)?;
    let Some(first) = trajectories.first() else {
        return Err(Failure::usage(anyhow!("`{}` has no trajectory", path.display())));
    };
    if let Some(other) = trajectories.iter().find(|one| one.prompts != first.prompts) {
        return Err(Failure::usage(anyhow!(
            "`{}` mixes trajectories of the prompts `{}` and `{}`; give a run of one model",
            path.display(),
            first.prompts,
            other.prompts
        )));
    }
    let profile = Profile::of_version(&first.prompts).ok_or_else(|| {
        Failure::usage(anyhow!(
            "`{}` was made with the prompts `{}`, which this version does not know",
            path.display(),
            first.prompts
        ))
    })?;
    Ok((trajectories, profile))
}

fn table(played: &[Played], out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "trick             decisions  before  after  change [95 %]              rose")?;
    for one in played {
        let name = one.trick.name();
        let (Some(before), Some(after), Some(rose)) = (one.before, one.after, one.rose) else {
            writeln!(out, "{name:<16} {:>10}  it cannot be played on any of them", 0)?;
            continue;
        };
        let interval = one.change.map_or_else(String::new, |change| {
            format!("[{:+.3}, {:+.3}]", change.lower, change.upper)
        });
        let verdict = if one.falls_for_it { "  falls for it" } else { "" };
        writeln!(
            out,
            "{name:<16} {:>10}  {before:>6.3}  {after:>5.3}  {:+.3} {interval:<18} {:>5.1} %{verdict}",
            one.decisions,
            after - before,
            100.0 * rose
        )?;
    }
    for one in played {
        if let (Some(before), Some(after)) = (one.before, one.after) {
            let name = one.trick.name().replace([' ', '-'], "_");
            writeln!(out, "figure prm.stress.{name} {:+.4} score", after - before)?;
        }
    }
    Ok(())
}
