//! What there is to label: the readable decisions of recorded runs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use agentflow_agent::prm_input;
use agentflow_agent::prompt::Profile;
use agentflow_eval::{Outcome, RunDirError, Sample, samples};
use agentflow_llm::Usage;
use sha2::{Digest, Sha256};

use super::labeller::{Case, Labelled};
use super::record::{Label, SCHEMA, state_of};

/// The decisions of some runs, in the order of their records.
#[derive(Debug, Clone, Default)]
pub struct Cases {
    pub cases: Vec<Case>,
    /// Trajectories that they are from.
    pub trajectories: u64,
    /// Trajectories left out, because the attempt itself failed: they say nothing about decisions.
    pub failed: u64,
    /// Steps left out, because the reply could not be read: there is no decision to rate.
    pub unreadable: u64,
}

/// Which trajectories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selection {
    All,
    /// So many from the first on, in the order of the runs and of their records.
    First(usize),
    /// So many, drawn by the seed; which ones does not depend on their order.
    Sample {
        count: usize,
        seed: u64,
    },
}

/// Why a run cannot be labelled.
#[derive(Debug, thiserror::Error)]
pub enum CasesError {
    #[error(transparent)]
    Run(#[from] RunDirError),
    #[error(
        "run `{run}` has no trajectory with an outcome; go on with it by `agentflow runs resume {run}`, or label another"
    )]
    Empty { run: PathBuf },
    #[error(
        "trajectory `{trajectory}` of run `{run}` was made with prompts `{found}`, which this version does not know; \
         label it with the version that made it"
    )]
    Prompts { run: PathBuf, trajectory: String, found: String },
    #[error(
        "there are {available} trajectories, fewer than the {wanted} of the sample; take them all"
    )]
    TooFew { available: usize, wanted: usize },
}

impl Cases {
    /// Reads the trajectories of `runs`. Where a run holds an attempt twice, the later one counts.
    ///
    /// # Errors
    /// See [`CasesError`].
    pub fn read(runs: &[PathBuf], selection: Selection) -> Result<Self, CasesError> {
        let mut all = Self::default();
        let mut chosen = Vec::new();
        for run in runs {
            let (samples, failed) = of_run(run)?;
            all.failed += failed;
            chosen.extend(samples);
        }
        let chosen = selection.of(chosen)?;
        all.trajectories = chosen.len() as u64;
        for sample in chosen {
            let sample = Arc::new(sample);
            for (step, made) in sample.trajectory.steps.iter().enumerate() {
                match made.reply {
                    Some(_) => all.cases.push(Case { sample: sample.clone(), step }),
                    None => all.unreadable += 1,
                }
            }
        }
        Ok(all)
    }

    /// SHA-256 of which decisions these are: equal if and only if two runs label the same ones.
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        for case in &self.cases {
            let text = (case.place(), state_of(case.step()), &case.step().reply);
            hash.update(serde_json::to_vec(&text).expect("a case is plain data"));
        }
        format!("{:x}", hash.finalize())
    }
}

/// Its trajectories with an outcome, and how many have none.
fn of_run(run: &Path) -> Result<(Vec<Sample>, u64), CasesError> {
    let mut last = BTreeMap::new();
    for (line, sample) in samples(run)?.enumerate() {
        let sample = sample?;
        let trajectory = &sample.trajectory;
        if Profile::of_version(&trajectory.prompts).is_none() {
            return Err(CasesError::Prompts {
                run: run.to_owned(),
                trajectory: trajectory.id.clone(),
                found: trajectory.prompts.clone(),
            });
        }
        last.insert(trajectory.id.clone(), (line, sample));
    }
    let mut in_order: Vec<(usize, Sample)> = last.into_values().collect();
    in_order.sort_by_key(|(line, _)| *line);
    let (failed, kept): (Vec<_>, Vec<_>) = in_order
        .into_iter()
        .map(|(_, sample)| sample)
        .partition(|sample| sample.eval.verdict.outcome == Outcome::Failed);
    if kept.is_empty() {
        return Err(CasesError::Empty { run: run.to_owned() });
    }
    Ok((kept, failed.len() as u64))
}

impl Selection {
    fn of(self, mut samples: Vec<Sample>) -> Result<Vec<Sample>, CasesError> {
        match self {
            Self::All => {}
            Self::First(count) => samples.truncate(count),
            Self::Sample { count, .. } if count > samples.len() => {
                return Err(CasesError::TooFew { available: samples.len(), wanted: count });
            }
            Self::Sample { count, seed } => {
                let drawn = |index: usize| {
                    let trajectory = &samples[index].trajectory;
                    let mut hash = Sha256::new();
                    hash.update(seed.to_le_bytes());
                    hash.update(trajectory.run.as_deref().unwrap_or_default());
                    hash.update(&trajectory.id);
                    (hash.finalize(), index)
                };
                let mut order: Vec<_> = (0..samples.len()).map(drawn).collect();
                order.sort();
                let chosen: BTreeSet<usize> =
                    order.into_iter().take(count).map(|(_, index)| index).collect();
                let mut index = 0..;
                samples.retain(|_| index.next().is_some_and(|index| chosen.contains(&index)));
            }
        }
        Ok(samples)
    }
}

/// Where a decision stands: run, trajectory, step.
pub(super) type Place = (Option<String>, String, usize);

impl Case {
    pub(super) fn place(&self) -> Place {
        let trajectory = &self.sample.trajectory;
        (trajectory.run.clone(), trajectory.id.clone(), self.step)
    }

    /// Whether the trajectory ended with this decision.
    pub fn is_last(&self) -> bool {
        self.step + 1 == self.sample.trajectory.steps.len()
    }

    /// What the trajectory came to: 1 for the right answer, 0 for another or none.
    pub fn outcome(&self) -> f64 {
        if self.sample.eval.verdict.outcome == Outcome::Right { 1.0 } else { 0.0 }
    }

    /// The record of this decision, with what a labeller said of it.
    pub(super) fn labelled(&self, said: &Labelled, usage: Usage, wall_ms: u64) -> Label {
        let trajectory = &self.sample.trajectory;
        let profile =
            Profile::of_version(&trajectory.prompts).expect("it was checked when it was read");
        let decision = self.step().reply.as_ref().expect("a case is a readable step");
        let (question, steps) = (&trajectory.question, &trajectory.steps[..self.step]);
        let (label, missing) = match &said.label {
            Ok(label) => (Some(*label), None),
            Err(why) => (None, Some(why.clone())),
        };
        Label {
            schema: SCHEMA.to_owned(),
            run: trajectory.run.clone(),
            trajectory: trajectory.id.clone(),
            step: self.step,
            benchmark: trajectory.benchmark.clone(),
            problem_id: trajectory.problem_id.clone().unwrap_or_else(|| trajectory.id.clone()),
            state: state_of(self.step()),
            last: self.is_last(),
            outcome: Some(self.outcome()),
            text: prm_input(profile, question, steps, decision),
            prm_prompt: profile.prm_version().to_owned(),
            label,
            missing,
            by: said.by.clone(),
            usage,
            wall_ms,
        }
    }
}
