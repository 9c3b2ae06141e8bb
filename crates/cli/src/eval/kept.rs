//! `run.toml` of an evaluation: what was typed, and what came of it. A resumed run takes its arguments from there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use agentflow_eval::RunDir;
use agentflow_eval::benchmark::Loaded;
use anyhow::Context;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::measured::Measured;
use crate::arguments::EvalRunArgs;
use crate::run_record::RunRecord;
use crate::{Failure, runs};

pub(crate) const KIND: &str = "eval";

/// The `config` of the record.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) measured: Measured,
    /// Where the problems are from; for whoever reads the file.
    benchmark: Value,
    arguments: EvalRunArgs,
}

impl Kept {
    pub(super) fn new(
        arguments: &EvalRunArgs,
        measured: &Measured,
        benchmark: &Loaded,
    ) -> Result<Self, Failure> {
        Ok(Self {
            measured: measured.clone(),
            benchmark: Value::try_from(benchmark).context("cannot write run.toml")?,
            arguments: arguments.clone(),
        })
    }
}

/// An interrupted run: its directory, locked; its arguments, with what was typed now laid over them; and what it measured.
pub(super) fn take_up(
    path: &Path,
    typed: EvalRunArgs,
) -> Result<(RunDir, EvalRunArgs, RunRecord<Kept>), Failure> {
    let path = &runs::find(path, &typed.runs)?;
    let run = RunDir::resume(path).map_err(Failure::usage)?;
    let record = RunRecord::<Kept>::read(&path.join("run.toml"))?;
    let mut table =
        Table::try_from(&record.config.arguments).context("cannot read the arguments again")?;
    let over = Table::try_from(&typed).context("cannot read the arguments")?;
    lay_over(&mut table, &over, &typed.typed);
    let merged: EvalRunArgs = table.try_into().context("the arguments do not fit together")?;
    let EvalRunArgs { resume, keep_failures, json, dry_run, .. } = typed;
    let arguments = EvalRunArgs { resume, keep_failures, json, dry_run, ..merged };
    Ok((run, arguments, record))
}

/// Replaces in `table` what `over` has under one of the `names`, at whatever depth.
fn lay_over(table: &mut Table, over: &Table, names: &BTreeSet<String>) {
    for (key, value) in over {
        match (table.get_mut(key), value) {
            (Some(Value::Table(inside)), Value::Table(over)) => lay_over(inside, over, names),
            _ if names.contains(key) => _ = table.insert(key.clone(), value.clone()),
            _ => {}
        }
    }
}

/// Files by their whole path, so that the run can be resumed from another directory.
pub(super) fn with_whole_paths(mut args: EvalRunArgs) -> EvalRunArgs {
    let whole = |path: &Path| path.exists().then(|| std::path::absolute(path).ok()).flatten();
    let text = |path: PathBuf| path.into_os_string().into_string().ok();
    if let Some(path) = whole(Path::new(&args.benchmark)).and_then(text) {
        // A name of a benchmark wins over a file of that name.
        let is_name = args.benchmark.parse::<agentflow_eval::benchmark::Source>();
        if !matches!(is_name, Ok(agentflow_eval::benchmark::Source::Named(_))) {
            args.benchmark = path;
        }
    }
    let model = args.model.model.as_deref();
    if let Some(path) = model.and_then(|model| whole(Path::new(model))).and_then(text) {
        args.model.model = Some(path);
    }
    for path in [&mut args.model.adapter, &mut args.model.record].into_iter().flatten() {
        *path = std::path::absolute(&*path).unwrap_or_else(|_| path.clone());
    }
    args
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_typed_is_laid_over() {
        let mut was: Table =
            toml::from_str("a = 1\nb = 2\n[model]\nseed = 3\nurl = ['x']\n").expect("TOML");
        let over: Table =
            toml::from_str("a = 9\nb = 9\nc = 9\n[model]\nseed = 9\nurl = ['y', 'z']\n")
                .expect("TOML");
        let names = ["b", "c", "url"].map(str::to_owned).into();
        lay_over(&mut was, &over, &names);
        let expected = "a = 1\nb = 9\nc = 9\n[model]\nseed = 3\nurl = ['y', 'z']\n";
        assert_eq!(was, toml::from_str(expected).expect("TOML"));
    }
}
