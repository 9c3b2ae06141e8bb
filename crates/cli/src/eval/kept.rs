//! `run.toml` of a run that asks models: what was typed, and what came of it. A resumed run takes its arguments from
//! there.

use std::collections::BTreeSet;
use std::path::Path;

use agentflow_eval::RunDir;
use anyhow::{Context, anyhow};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::measured::Measured;
use crate::arguments::{Backend, EvalRunArgs, ModelArgs};
use crate::run_record::RunRecord;
use crate::{Failure, runs};

/// The `config` of the record.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Kept<A> {
    pub(crate) measured: Measured,
    /// Where the problems are from; for whoever reads the file.
    pub(crate) benchmark: Value,
    pub(crate) arguments: A,
}

impl<A> Kept<A> {
    pub(crate) fn new(
        arguments: A,
        measured: &Measured,
        benchmark: &impl Serialize,
    ) -> Result<Self, Failure> {
        Ok(Self {
            measured: measured.clone(),
            benchmark: Value::try_from(benchmark).context("cannot write run.toml")?,
            arguments,
        })
    }
}

/// Arguments of an evaluation that was interrupted: its directory, locked; those it has, with what was typed now laid over
/// them; and what it measured.
pub(super) fn take_up(
    path: &Path,
    kind: &str,
    args: EvalRunArgs,
) -> Result<(RunDir, EvalRunArgs, RunRecord<Kept<EvalRunArgs>>), Failure> {
    let (run, merged, record) = resumed(path, &args.runs, kind, &args, &args.typed)?;
    let EvalRunArgs { resume, keep_failures, json, dry_run, .. } = args;
    let arguments = EvalRunArgs { resume, keep_failures, json, dry_run, ..merged };
    Ok((run, arguments, record))
}

/// An interrupted run of this `kind`, looked for under `root`, too: its directory, locked; its arguments, with those of `args` laid over
/// them that were `typed`; and its record.
pub(crate) fn resumed<A: Serialize + DeserializeOwned>(
    path: &Path,
    root: &Path,
    kind: &str,
    args: &A,
    typed: &BTreeSet<String>,
) -> Result<(RunDir, A, RunRecord<Kept<A>>), Failure> {
    let path = &runs::find(path, root)?;
    let found = runs::kind(path)?;
    if found != kind {
        return Err(Failure::usage(anyhow!(
            "`{path}` is a run of kind `{found}`; go on with it by: agentflow runs resume {path}",
            path = path.display()
        )));
    }
    let run = RunDir::resume(path).map_err(Failure::usage)?;
    let record = RunRecord::<Kept<A>>::read(&path.join("run.toml"))?;
    let mut table =
        Table::try_from(&record.config.arguments).context("cannot read the arguments again")?;
    let over = Table::try_from(args).context("cannot read the arguments")?;
    lay_over(&mut table, &over, typed);
    let merged = table.try_into().context("the arguments do not fit together")?;
    Ok((run, merged, record))
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
    if let Some(path) = whole(Path::new(&args.benchmark)) {
        // A name of a benchmark wins over a file of that name.
        let is_name = args.benchmark.parse::<agentflow_eval::benchmark::Source>();
        if !matches!(is_name, Ok(agentflow_eval::benchmark::Source::Named(_))) {
            args.benchmark = path;
        }
    }
    with_whole_model(&mut args.model);
    args
}

/// The files of a model by their whole path; on a server a model has a name, whatever lies here.
pub(crate) fn with_whole_model(args: &mut ModelArgs) {
    let is_served = matches!(args.backend, Backend::Ollama | Backend::Openai);
    if !is_served
        && let Some(path) = args.model.as_deref().and_then(|model| whole(Path::new(model)))
    {
        args.model = Some(path);
    }
    for path in [&mut args.adapter, &mut args.record].into_iter().flatten() {
        *path = std::path::absolute(&*path).unwrap_or_else(|_| path.clone());
    }
}

/// The whole path of what is there.
fn whole(path: &Path) -> Option<String> {
    let whole = path.exists().then(|| std::path::absolute(path).ok()).flatten();
    whole?.into_os_string().into_string().ok()
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
