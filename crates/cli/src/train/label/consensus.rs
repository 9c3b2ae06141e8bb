//! `--consensus JUDGED ROLLED`: two labelled runs in, one with what they agree on out. It asks no model.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use agentflow_eval::RunDir;
use agentflow_train::label::consensus::{Report, Rule, consensus};
use agentflow_train::label::{
    self, Cases, INFO_FILE, LABELS_FILE, Label, LabelInfo, LabelReport, Selection, read_labels,
};
use anyhow::{Context, anyhow};
use serde::Serialize;

use super::{KIND, table};
use crate::arguments::LabelArgs;
use crate::eval::{Kept, Measured};
use crate::narrate::Narrator;
use crate::run_record::RunRecord;
use crate::{Failure, output, runs};

/// What became of the decisions of both runs.
const SUMMARY_FILE: &str = "consensus.json";

/// Run, trajectory and step of a decision.
type Place = (Option<String>, String, usize);

/// What is printed as JSON, and kept.
#[derive(Serialize)]
struct Summary<'a> {
    judged: &'a str,
    rolled: &'a str,
    rule: Rule,
    kept: usize,
    compared: usize,
    report: &'a Report,
    labels: &'a LabelReport,
}

pub(super) fn run(args: &LabelArgs) -> Result<(), Failure> {
    let started = Instant::now();
    let [judged, rolled] = args.consensus.as_slice() else {
        return Err(Failure::usage(anyhow!("--consensus wants two runs, see its help")));
    };
    let (judged, rolled) = (open(judged, args)?, open(rolled, args)?);
    let (judge, monte_carlo) = (labels(&judged)?, labels(&rolled)?);
    let rule = Rule { margin: args.margin, signals: args.signals };
    let worked = if rule.signals { worked(&judged)? } else { HashMap::new() };
    let tool_ok = |label: &Label| {
        worked.get(&(label.run.clone(), label.trajectory.clone(), label.step)).copied()
    };
    let (kept, report) = consensus(&judge, &monte_carlo, rule, &tool_ok).map_err(Failure::usage)?;

    let info = info(&judged)?;
    let signals = if rule.signals { " and signals" } else { "" };
    let labeller = format!("consensus, margin {}{signals}", rule.margin);
    let mut measured = Measured::default();
    measured.set("labeller", &labeller);
    let benchmarks: Vec<&str> = info.benchmarks.iter().map(String::as_str).collect();
    let config = Kept::new(args, &measured, &benchmarks.join(", "))?;
    let record = RunRecord::new(KIND, args.model.seed, None, config).to_toml()?;
    let dir = RunDir::create(&args.runs, KIND, &record).map_err(Failure::work)?;
    let (judged, rolled) = (name(&judged), name(&rolled));
    let info = LabelInfo {
        run: name(dir.path()),
        labels: vec![judged.clone(), rolled.clone()],
        labeller,
        decisions: kept.len() as u64,
        distinct: kept.len() as u64,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        commit: env!("AGENTFLOW_COMMIT").to_owned(),
        prices: None,
        ..info
    };
    info.write(&dir).map_err(Failure::work)?;
    dir.write(LABELS_FILE, &lines(&kept)?).map_err(Failure::work)?;
    let wall = Some(started.elapsed().as_secs_f64());
    let labels =
        label::write_report(&dir, info, Default::default(), wall).map_err(Failure::work)?;
    let summary = Summary {
        judged: &judged,
        rolled: &rolled,
        rule,
        kept: report.kept(),
        compared: report.compared(),
        report: &report,
        labels: &labels,
    };
    let text = serde_json::to_string_pretty(&summary).context("cannot serialize the consensus")?;
    dir.write(SUMMARY_FILE, text.as_bytes()).map_err(Failure::work)?;
    output::print(|out| match args.json {
        true => writeln!(out, "{text}"),
        false => table::write(&labels, out).and_then(|()| writeln!(out, "{report}")),
    })?;
    let path = dir.path().join(LABELS_FILE);
    Narrator::new(false).notice(&format!("labels: {}", path.display()));
    Ok(())
}

/// The directory of a labelled run.
fn open(named: &Path, args: &LabelArgs) -> Result<PathBuf, Failure> {
    let path = runs::find(named, &args.runs)?;
    match &*runs::kind(&path)? {
        KIND => Ok(path),
        other => Err(Failure::usage(anyhow!(
            "run `{}` is of kind `{other}`, which has no labels; name runs of `agentflow train label`",
            path.display()
        ))),
    }
}

fn labels(run: &Path) -> Result<Vec<Label>, Failure> {
    read_labels(&run.join(LABELS_FILE)).map_err(Failure::work)
}

fn info(run: &Path) -> Result<LabelInfo, Failure> {
    let path = run.join(INFO_FILE);
    let text = std::fs::read(&path).with_context(|| format!("cannot read `{}`", path.display()));
    let info = serde_json::from_slice(&text.map_err(Failure::work)?)
        .with_context(|| format!("cannot read `{}`", path.display()));
    info.map_err(Failure::work)
}

/// Of each decision that the run labelled, whether its tool worked.
fn worked(run: &Path) -> Result<HashMap<Place, bool>, Failure> {
    let record = RunRecord::<Kept<LabelArgs>>::read(&run.join("run.toml"))?;
    let collected = &record.config.arguments.collected;
    let cases = Cases::read(collected, Selection::All).map_err(Failure::usage)?;
    let of = |case: &label::Case| {
        let trajectory = &case.sample.trajectory;
        let place = (trajectory.run.clone(), trajectory.id.clone(), case.step);
        (place, case.step().observation.ok)
    };
    Ok(cases.cases.iter().map(of).collect())
}

fn lines(labels: &[Label]) -> Result<Vec<u8>, Failure> {
    let mut lines = Vec::new();
    for label in labels {
        serde_json::to_writer(&mut lines, label).context("cannot serialize a label")?;
        lines.push(b'\n');
    }
    Ok(lines)
}

fn name(run: &Path) -> String {
    run.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
