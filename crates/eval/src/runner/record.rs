//! What a run keeps: a line per attempt in `trajectories.jsonl`, and in `events.jsonl` what else happened to it.

use std::collections::HashSet;
use std::time::Duration;

use agentflow_agent::trajectory::SCHEMA;
use agentflow_llm::Usage;
use serde::{Deserialize, Serialize};

use super::{Job, Tally};
use crate::{Lines, Outcome, Problem, RunDir, RunDirError, SAMPLES_FILE, Sample};

const EVENTS_FILE: &str = "events.jsonl";

/// The attempts that are kept, and where further ones go.
#[derive(Debug)]
pub struct Record {
    lines: Lines,
    events: Lines,
    done: HashSet<(String, u32)>,
    tally: Tally,
    /// By attempts that failed and were made again: spent, and in no sample.
    wasted: Usage,
    /// How long earlier processes ran; `None` where one was killed and did not say.
    earlier: Option<Duration>,
}

/// A line of `events.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Line {
    /// RFC 3339.
    at: String,
    #[serde(flatten)]
    what: What,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum What {
    /// A process took up the run.
    Began { kept: u64, missing: u64 },
    /// A failed attempt is made again.
    TriedAgain { problem_id: String, repeat: u32, error: String, usage: Usage },
    /// The process let go of it.
    Ended { how: String, kept: u64, wall_s: f64 },
}

/// As much of a sample as it takes to go on; the rest can be large.
#[derive(Deserialize)]
struct Brief {
    schema: String,
    problem_id: Option<String>,
    error: Option<String>,
    usage: Usage,
    eval: BriefScored,
}

#[derive(Deserialize)]
struct BriefScored {
    repeat: u32,
    verdict: BriefVerdict,
}

#[derive(Deserialize)]
struct BriefVerdict {
    outcome: Outcome,
}

impl Record {
    /// Opens the record of a new run or of one to go on with. A torn last line is dropped, with a warning; attempts that
    /// failed are dropped to be made again, unless `keep_failures`.
    ///
    /// # Errors
    /// If the disk refuses, or a line is no sample.
    pub fn open(dir: &RunDir, keep_failures: bool) -> Result<Self, RunDirError> {
        let (mut done, mut tally, mut again) = (HashSet::new(), Tally::default(), Vec::new());
        let lines = dir.lines_where(SAMPLES_FILE, |line| {
            let brief: Brief = serde_json::from_slice(line).map_err(|e| e.to_string())?;
            if brief.schema != SCHEMA {
                return Err(format!("its schema is `{}`, not `{SCHEMA}`", brief.schema));
            }
            let problem_id = brief.problem_id.ok_or("it names no problem")?;
            let BriefScored { repeat, verdict } = brief.eval;
            if verdict.outcome == Outcome::Failed && !keep_failures {
                let error = brief.error.unwrap_or_default();
                again.push(What::TriedAgain { problem_id, repeat, error, usage: brief.usage });
                return Ok(false);
            }
            tally.add(verdict.outcome, brief.usage);
            if !done.insert((problem_id.clone(), repeat)) {
                return Err(format!(
                    "attempt {repeat} at `{problem_id}` is there twice; remove one"
                ));
            }
            Ok(true)
        })?;
        let (mut wasted, mut wall_s, mut running) = (Usage::default(), 0.0, 0);
        let events = dir.lines_where(EVENTS_FILE, |line| {
            match serde_json::from_slice(line) {
                Ok(Line { what: What::TriedAgain { usage, .. }, .. }) => wasted += usage,
                Ok(Line { what: What::Began { .. }, .. }) => running += 1,
                Ok(Line { what: What::Ended { wall_s: took, .. }, .. }) => {
                    running -= 1;
                    wall_s += took;
                }
                // What a later version writes there is none of our business.
                Err(_) => {}
            }
            Ok(true)
        })?;
        let earlier = (running == 0).then(|| Duration::try_from_secs_f64(wall_s).ok()).flatten();
        let mut record = Self { lines, events, done, tally, wasted, earlier };
        again.into_iter().try_for_each(|what| record.note(what))?;
        Ok(record)
    }

    /// Attempts that are kept.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// By everything that was attempted, also what had to be made again.
    pub fn spent(&self) -> Usage {
        let mut spent = self.tally.usage;
        spent += self.wasted;
        spent
    }

    /// How long earlier processes ran; `None` where one was killed and did not say.
    pub fn earlier_wall(&self) -> Option<Duration> {
        self.earlier
    }

    /// What is still to be attempted: every problem once, then every problem again, so that a run that ends early has seen
    /// as many of them as it could.
    pub(super) fn missing(&self, problems: &[Problem], repeats: u32) -> Vec<Job> {
        let all = (0..repeats)
            .flat_map(|repeat| (0..problems.len()).map(move |problem| Job { problem, repeat }));
        let missing = |job: &Job| {
            // A tuple of owned values is what the set can look up.
            !self.done.contains(&(problems[job.problem].id.clone(), job.repeat))
        };
        all.filter(missing).collect()
    }

    pub(super) fn keep(&mut self, sample: &Sample) -> Result<(), RunDirError> {
        self.lines.append(sample)?;
        self.tally.add(sample.eval.verdict.outcome, sample.trajectory.usage);
        Ok(())
    }

    pub(super) fn note(&mut self, what: What) -> Result<(), RunDirError> {
        if let What::TriedAgain { usage, .. } = &what {
            self.wasted += *usage;
        }
        self.events.append(&Line { at: jiff::Timestamp::now().to_string(), what })
    }

    pub(super) fn sync(&self) -> Result<(), RunDirError> {
        self.lines.sync()
    }
}
