//! One scored attempt: what a line of `trajectories.jsonl` in an evaluation run holds.
//!
//! Everything that scoring needs lies beside the trajectory, so a run can be scored again without a model and without
//! the data set.

use std::collections::BTreeMap;

use agentflow_agent::Trajectory;
use serde::{Deserialize, Serialize};

use crate::Gold;

/// A trajectory and its verdict. One line, so that a kill leaves both or neither.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    #[serde(flatten)]
    pub trajectory: Trajectory,
    pub eval: Scored,
}

/// What the harness knows of an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scored {
    /// Which attempt at its problem, from 0.
    pub repeat: u32,
    pub gold: Gold,
    pub tags: BTreeMap<String, String>,
    pub verdict: Verdict,
}

/// How an answer was read, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    pub outcome: Outcome,
    /// The gold answer as it was understood.
    pub gold_read: String,
    /// The answer as it was understood; `None` where none was found.
    pub pred_read: Option<String>,
    /// How the answer was found and compared, e.g. `boxed, exact`.
    pub how: String,
}

/// What an attempt ended in. An attempt without an answer, or that failed, counts as not right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Right,
    Wrong,
    /// The agent ended, but nothing that it said could be read as an answer.
    NoAnswer,
    /// The attempt itself failed; the cause stands in the trajectory.
    Failed,
}
