//! The record of one labelled decision.
//!
//! It holds the text that a PRM reads, so that training needs neither the trajectories nor their tools, and where the
//! label comes from, so that a label can be doubted.

use agentflow_agent::trajectory::{ModelRecord, Step};
use agentflow_llm::Usage;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// The schema name that this version writes and reads.
pub const SCHEMA: &str = "agentflow.label/1";

/// The file of a run directory that holds labels.
pub const LABELS_FILE: &str = "labels.jsonl";

/// One planner decision and what it is worth.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Label {
    pub schema: String,
    /// Where the decision stands: the run, the trajectory in it, the step in that, from 0.
    pub run: Option<String>,
    pub trajectory: String,
    pub step: usize,
    pub benchmark: Option<String>,
    /// Training and held-out decisions are kept apart by it.
    pub problem_id: String,
    /// Of the messages that the planner read: decisions with the same one were made in the same state.
    pub state: String,
    /// Whether the trajectory ended with this decision.
    pub last: bool,
    /// The score of the whole trajectory, where it has one.
    pub outcome: Option<f64>,
    /// What a PRM reads, by [`prm_input`](agentflow_agent::prm_input()), and the version of that.
    pub text: String,
    pub prm_prompt: String,
    /// 0 to 1; null where none could be had.
    pub label: Option<f64>,
    /// Why there is no label.
    pub missing: Option<String>,
    pub by: Provenance,
    /// What labelling it took.
    pub usage: Usage,
    pub wall_ms: u64,
}

/// Where a label comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "labeller", rename_all = "snake_case")]
pub enum Provenance {
    /// A model that rated the decision.
    Judge {
        model: ModelRecord,
        /// Version of the rubric and of the rule that combines its sub-scores.
        rubric: String,
        scores: Option<Scores>,
        reason: Option<String>,
        /// The reply as the judge wrote it.
        raw: Option<String>,
    },
    /// Continuations from the state after the decision (Math-Shepherd, arXiv 2312.08935).
    MonteCarlo {
        policy: ModelRecord,
        temperature: f64,
        seed: u64,
        /// Continuations that came to an end, and those of them that reached the right answer.
        rollouts: u32,
        right: u32,
    },
    /// Both, where they agree (Qwen2.5-Math-PRM, arXiv 2501.07301).
    Consensus { judge: f64, monte_carlo: f64, margin: f64 },
}

/// The sub-scores of the rubric, each 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// Does the decision bring the answer nearer?
    pub progress: f64,
    /// Is what it says and computes right?
    pub correctness: f64,
    /// Is the action the right one now?
    pub tool: f64,
    /// Can the tool work with the input as it is?
    pub input: f64,
    /// Is it not a repetition?
    pub novelty: f64,
}

/// The key of the state in which `step` was decided: SHA-256 of the messages that the planner read, in hexadecimal.
pub fn state_of(step: &Step) -> String {
    let messages = serde_json::to_vec(&step.prompt).expect("messages are plain text");
    format!("{:x}", Sha256::digest(messages))
}

/// A line that is no label.
#[derive(Debug, thiserror::Error)]
pub enum LabelError {
    #[error("line {line} is not a label: {reason}; remove it, or label the run again")]
    Line { line: usize, reason: String },
    #[error(
        "line {line} has schema `{found}`; this version of agentflow reads `{SCHEMA}`, so use the version that wrote it"
    )]
    Schema { line: usize, found: String },
    #[error(
        "line {line} has the label {found}; labels are numbers from 0 to 1, so divide them by their maximum"
    )]
    Range { line: usize, found: f64 },
}

impl Label {
    /// Reads one line of `labels.jsonl`; unknown fields are left alone, an unknown schema is refused.
    ///
    /// # Errors
    /// Names `line`, which counts from 1.
    pub fn from_line(text: &str, line: usize) -> Result<Self, LabelError> {
        let unreadable = |e: serde_json::Error| LabelError::Line { line, reason: e.to_string() };
        let value: Value = serde_json::from_str(text).map_err(unreadable)?;
        match value["schema"].as_str() {
            Some(SCHEMA) => {}
            Some(other) => return Err(LabelError::Schema { line, found: other.to_owned() }),
            None => {
                let reason = format!("it does not say `\"schema\": \"{SCHEMA}\"`");
                return Err(LabelError::Line { line, reason });
            }
        }
        let label: Self = serde_json::from_value(value).map_err(unreadable)?;
        match label.label {
            Some(found) if !(0.0..=1.0).contains(&found) => Err(LabelError::Range { line, found }),
            _ => Ok(label),
        }
    }
}
