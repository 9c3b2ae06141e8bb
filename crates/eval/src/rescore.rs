//! New verdicts for a finished run, from its record alone: neither a model nor the data set is asked.
//!
//! Gold answer and choices, in the order in which they were shown, stand in every sample, so a better reader of answers
//! can be tried on every run there is.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use crate::report::{Report, problem_id, write_reports};
use crate::run_dir::stream_atomically;
use crate::samples::{SAMPLES_FILE, samples};
use crate::{Gold, Outcome, RunDir, RunDirError, RunInfo, Sample, Verdict};

/// What a rescoring changed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rescored {
    pub samples: u64,
    /// Samples whose outcome changed.
    pub changed: Vec<Change>,
    /// Samples with the same outcome, read or compared in another way.
    pub read_otherwise: u64,
    /// The old record; `None` where every verdict is as it was, and nothing was written.
    pub backup: Option<PathBuf>,
    pub report: Report,
}

/// A sample whose outcome changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    pub problem: String,
    pub repeat: u32,
    pub gold: String,
    pub before: Verdict,
    pub after: Verdict,
}

/// Judges every answer of `run` again, keeps the old record beside the new one, and writes the reports anew.
///
/// `judge` is asked with the gold answer and the answer that was given; attempts that failed stay failed. See
/// [`Report::of`] for `equal`.
///
/// # Errors
/// If the run is in use or cannot be read, or the disk refuses; the old record is then untouched.
pub fn rescore(
    run: &Path,
    judge: &dyn Fn(&Gold, &str) -> Verdict,
    equal: &dyn Fn(&str, &str) -> bool,
) -> Result<Rescored, RunDirError> {
    let _lock = RunDir::resume(run)?;
    let info = RunInfo::read(run)?;
    let path = run.join(SAMPLES_FILE);
    let mut found = Found::default();
    // First to see whether anything changes: a record that stays as it is is not written.
    found.go_through(run, judge, &mut std::io::sink(), &path)?;
    let mut backup = None;
    if !found.changed.is_empty() || found.read_otherwise > 0 {
        let kept = free_name(run);
        stream_atomically(&path, |out| {
            Found::default().go_through(run, judge, out, &path)?;
            // Two names for the old record, until the new one takes over the first; a copy, where names cannot be shared.
            std::fs::hard_link(&path, &kept)
                .or_else(|_| std::fs::copy(&path, &kept).map(|_| ()))
                .map_err(|source| RunDirError::Io {
                    action: "keep the old record as",
                    path: kept.clone(),
                    source,
                })
        })?;
        backup = Some(kept);
    }
    let report = write_reports(run, &info, wall_s(run), equal)?;
    let Found { samples, changed, read_otherwise } = found;
    Ok(Rescored { samples, changed, read_otherwise, backup, report })
}

/// How long the run took, by the report that it wrote.
pub(crate) fn wall_s(run: &Path) -> Option<f64> {
    let text = std::fs::read(run.join("report.json")).ok()?;
    let report: Value = serde_json::from_slice(&text).ok()?;
    report["speed"]["wall_s"].as_f64()
}

#[derive(Default)]
struct Found {
    samples: u64,
    changed: Vec<Change>,
    read_otherwise: u64,
}

impl Found {
    fn go_through(
        &mut self,
        run: &Path,
        judge: &dyn Fn(&Gold, &str) -> Verdict,
        out: &mut dyn Write,
        path: &Path,
    ) -> Result<(), RunDirError> {
        let mut lines = samples(run)?;
        while let Some(line) = lines.next_line() {
            let line = line?;
            let unreadable = |e: serde_json::Error| lines.broken(e.to_string());
            // Edited as JSON: fields that this version does not know stay.
            let mut value: Value = serde_json::from_str(&line).map_err(unreadable)?;
            let sample: Sample = serde_json::from_str(&line).map_err(unreadable)?;
            self.samples += 1;
            let line = match self.judged_again(&sample, judge) {
                None => line,
                Some(verdict) => {
                    value["score"] =
                        Value::from(f64::from(u8::from(verdict.outcome == Outcome::Right)));
                    value["eval"]["verdict"] =
                        serde_json::to_value(&verdict).map_err(unreadable)?;
                    value.to_string()
                }
            };
            writeln!(out, "{line}").map_err(|source| RunDirError::Io {
                action: "write",
                path: path.to_owned(),
                source,
            })?;
        }
        Ok(())
    }

    /// The new verdict, where it is another one.
    fn judged_again(
        &mut self,
        sample: &Sample,
        judge: &dyn Fn(&Gold, &str) -> Verdict,
    ) -> Option<Verdict> {
        let Sample { trajectory, eval } = sample;
        if eval.verdict.outcome == Outcome::Failed {
            return None;
        }
        let after = judge(&eval.gold, trajectory.answer.as_deref().unwrap_or_default());
        if after == eval.verdict {
            return None;
        }
        if after.outcome == eval.verdict.outcome {
            self.read_otherwise += 1;
        } else {
            self.changed.push(Change {
                problem: problem_id(trajectory).to_owned(),
                repeat: eval.repeat,
                gold: eval.gold.text(),
                before: eval.verdict.clone(),
                after: after.clone(),
            });
        }
        Some(after)
    }
}

/// `trajectories.before-rescore-1.jsonl`, or the next number that is free.
fn free_name(run: &Path) -> PathBuf {
    (1_u32..)
        .map(|n| run.join(format!("trajectories.before-rescore-{n}.jsonl")))
        .find(|path| !path.exists())
        .expect("some number is free")
}
