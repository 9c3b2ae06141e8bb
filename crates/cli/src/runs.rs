//! `agentflow runs`: what ran on this machine, and going on with it.

mod resume;

use std::path::{Path, PathBuf};

use agentflow_eval::{Run, State, runs};
use serde_json::Value;

use crate::Failure;
use crate::arguments::RunsCommand;
use crate::output;

pub(crate) use resume::kind;

pub(crate) fn run(command: &RunsCommand) -> Result<(), Failure> {
    match command {
        RunsCommand::List { json, runs } => list(runs, *json),
        RunsCommand::Resume(args) => resume::resume(&find(&args.run, &args.runs)?),
        RunsCommand::Show { run, json, runs } => show(&find(run, runs)?, *json),
    }
}

/// The directory of a run that was given as a path, or by its name under `root`.
pub(crate) fn find(run: &Path, root: &Path) -> Result<PathBuf, Failure> {
    let named = root.join(run);
    let found = [run, &named].into_iter().find(|path| path.join("run.toml").is_file());
    found.map(Path::to_owned).ok_or_else(|| {
        Failure::usage(anyhow::anyhow!(
            "no run at `{}` nor at `{}`; `agentflow runs list` shows what there is",
            run.display(),
            named.display()
        ))
    })
}

fn list(root: &Path, json: bool) -> Result<(), Failure> {
    let found = runs(root).map_err(Failure::work)?;
    output::print(|out| {
        if json {
            return found
                .iter()
                .try_for_each(|run| writeln!(out, "{}", serde_json::to_string(run)?));
        }
        let width = found.iter().map(|run| run.name.len()).max().unwrap_or(0);
        found.iter().try_for_each(|run| {
            let what = [run.benchmark.as_deref(), run.model.as_deref()];
            let what: Vec<&str> = what.into_iter().flatten().collect();
            writeln!(
                out,
                "{:<width$}  {:<11}  {:>13}  {:>7}  {}",
                run.name,
                state(run.state),
                progress(run),
                run.accuracy.map_or_else(String::new, |share| format!("{:.1} %", 100.0 * share)),
                what.join("  ")
            )
        })
    })
}

fn show(path: &Path, json: bool) -> Result<(), Failure> {
    let run = Run::read(path).map_err(Failure::work)?;
    let report = std::fs::read_to_string(path.join("report.md")).ok();
    output::print(|out| {
        if json {
            let report: Option<Value> = std::fs::read(path.join("report.json"))
                .ok()
                .and_then(|text| serde_json::from_slice(&text).ok());
            return writeln!(out, "{}", serde_json::json!({ "run": run, "report": report }));
        }
        writeln!(out, "{}: {}, {}, {}", run.name, run.kind, state(run.state), progress(&run))?;
        match report {
            Some(report) => write!(out, "\n{report}"),
            None => writeln!(
                out,
                "no report yet; how it was started is in `{}`",
                path.join("run.toml").display()
            ),
        }
    })
}

fn state(state: State) -> &'static str {
    match state {
        State::Running => "running",
        State::Finished => "finished",
        State::Interrupted => "interrupted",
    }
}

fn progress(run: &Run) -> String {
    match run.of {
        Some(of) => format!("{} of {of}", run.done),
        None => format!("{} records", run.done),
    }
}
