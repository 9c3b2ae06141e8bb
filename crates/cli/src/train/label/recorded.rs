//! The runs that are labelled.

use std::collections::BTreeSet;
use std::path::PathBuf;

use agentflow_eval::{Run, RunInfo, State};
use anyhow::anyhow;

use crate::arguments::{EvalRunArgs, LabelArgs};
use crate::eval::Kept;
use crate::narrate::Narrator;
use crate::run_record::RunRecord;
use crate::{Failure, runs};

/// A run with trajectories of training problems.
pub(super) struct Recorded {
    pub(super) path: PathBuf,
    pub(super) info: RunInfo,
    /// How it was made.
    pub(super) arguments: EvalRunArgs,
}

/// The runs that were named.
pub(super) fn open(args: &LabelArgs) -> Result<Vec<Recorded>, Failure> {
    let mut seen = BTreeSet::new();
    let mut all = Vec::new();
    for named in &args.collected {
        let path = runs::find(named, &args.runs)?;
        let path = std::path::absolute(&path).unwrap_or(path);
        if !seen.insert(path.clone()) {
            return Err(Failure::usage(anyhow!(
                "run `{}` is named twice; each decision is labelled once",
                named.display()
            )));
        }
        all.push(Recorded::open(path)?);
    }
    Ok(all)
}

impl Recorded {
    fn open(path: PathBuf) -> Result<Self, Failure> {
        let kind = runs::kind(&path)?;
        if !matches!(&*kind, "eval" | "collect") {
            return Err(Failure::usage(anyhow!(
                "run `{}` is of kind `{kind}`, which has no trajectories; label one of `agentflow train collect`",
                path.display()
            )));
        }
        let record = RunRecord::<Kept<EvalRunArgs>>::read(&path.join("run.toml"))?;
        let info = RunInfo::read(&path).map_err(Failure::usage)?;
        if record.config.benchmark.get("role").and_then(|role| role.as_str()) != Some("train") {
            return Err(Failure::usage(anyhow!(
                "run `{}` is of `{}`, which is for testing; labels are for training, so label a run of \
                 `agentflow train collect`",
                path.display(),
                info.benchmark
            )));
        }
        let run = Run::read(&path).map_err(Failure::work)?;
        let how = match run.state {
            State::Finished => None,
            State::Running => Some("is still being made"),
            State::Interrupted => Some("was interrupted"),
        };
        if let Some(how) = how {
            Narrator::new(false).warning(&format!(
                "run `{}` {how}: what it has so far is labelled, and once that has begun, no more of it is",
                run.name
            ));
        }
        Ok(Self { path, info, arguments: record.config.arguments })
    }
}
