//! Scores of recorded decisions, in a copy of the trajectories.

use std::path::Path;

use agentflow_agent::prompt::Profile;
use agentflow_agent::{Trajectory, prm_input};
use agentflow_eval::{RunDirError, SAMPLES_FILE, stream_atomically};
use agentflow_train::prm::Prm;
use anyhow::{Context, anyhow};
use serde_json::Value;

use crate::Failure;

/// Trajectories whose decisions are scored together.
const TOGETHER: usize = 64;

/// What was scored.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) trajectories: usize,
    pub(super) decisions: usize,
    /// Steps whose reply could not be read.
    unreadable: usize,
    truncated: usize,
}

impl Counts {
    /// What is worth knowing beside the number of decisions.
    pub(super) fn told(&self) -> String {
        let mut text = String::new();
        for (count, what) in [
            (self.unreadable, "steps without a readable decision have no score"),
            (self.truncated, "texts were too long, their beginning was cut off"),
        ] {
            if count > 0 {
                text += &format!("; {count} {what}");
            }
        }
        text
    }
}

/// Copies the trajectories of `run` to `out`, with `prm_score` in every step that could be read. Whatever else a line holds
/// stays.
pub(super) fn score(
    prm: &Prm,
    run: &Path,
    out: &Path,
    force: bool,
    on_progress: &mut dyn FnMut(u64, u64),
) -> Result<Counts, Failure> {
    let path = run.join(SAMPLES_FILE);
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read `{}`", path.display()))
        .map_err(Failure::usage)?;
    // A torn last line is no trajectory yet.
    let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
    let lines: Vec<&str> = whole.lines().collect();
    if lines.is_empty() {
        return Err(Failure::usage(anyhow!("`{}` has no trajectory", path.display())));
    }
    let mut counts = Counts::default();
    stream_atomically(out, |to| {
        for chunk in lines.chunks(TOGETHER) {
            let first = counts.trajectories + 1;
            for line in scored(prm, chunk, first, &path, force, &mut counts)? {
                writeln!(to, "{line}")
                    .with_context(|| format!("cannot write `{}`", out.display()))?;
            }
            on_progress(counts.trajectories as u64, lines.len() as u64);
        }
        Ok::<(), Unwritten>(())
    })
    .map_err(|Unwritten(failure)| failure)?;
    Ok(counts)
}

/// Why there is no copy.
struct Unwritten(Failure);

impl From<Failure> for Unwritten {
    fn from(failure: Failure) -> Self {
        Self(failure)
    }
}

impl From<anyhow::Error> for Unwritten {
    fn from(error: anyhow::Error) -> Self {
        Self(Failure::Work(error))
    }
}

impl From<RunDirError> for Unwritten {
    fn from(error: RunDirError) -> Self {
        Self(Failure::work(error))
    }
}

/// The lines with their scores; the first has the number `first`.
fn scored(
    prm: &Prm,
    lines: &[&str],
    first: usize,
    path: &Path,
    force: bool,
    counts: &mut Counts,
) -> Result<Vec<Value>, Failure> {
    let mut values = Vec::with_capacity(lines.len());
    let mut places = Vec::new(); // of each text: which line, which step
    let mut texts = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let in_file = || format!("`{}`", path.display());
        let trajectory = Trajectory::from_line(line, first + at)
            .with_context(in_file)
            .map_err(Failure::usage)?;
        let profile = Profile::of_version(&trajectory.prompts).ok_or_else(|| {
            Failure::usage(anyhow!(
                "line {} of {} was made with the prompts `{}`, which this version does not know",
                first + at,
                in_file(),
                trajectory.prompts
            ))
        })?;
        if !force {
            prm.check_prompt(Some(profile)).map_err(Failure::usage)?;
        }
        for (index, step) in trajectory.steps.iter().enumerate() {
            let Some(decision) = &step.reply else {
                counts.unreadable += 1;
                continue;
            };
            let previous = &trajectory.steps[..index];
            let text = prm_input(profile, &trajectory.question, previous, decision);
            let encoded = prm.encode(&text).map_err(Failure::work)?;
            counts.truncated += usize::from(encoded.truncated);
            places.push((at, index));
            texts.push(encoded.ids);
        }
        counts.trajectories += 1;
        values.push(serde_json::from_str::<Value>(line).context("it was read just now")?);
    }
    counts.decisions += texts.len();
    let scores = prm.scores(&texts).map_err(Failure::work)?;
    for ((at, step), score) in places.into_iter().zip(scores) {
        values[at]["steps"][step]["prm_score"] = score.into();
    }
    Ok(values)
}
