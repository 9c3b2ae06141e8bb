//! The record of one attempt at a question: what `trajectories.jsonl` holds, one object a line.

use agentflow_llm::{Message, ModelInfo, Usage};
use agentflow_tools::Observation;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The schema name that this version writes and reads.
pub const SCHEMA: &str = "agentflow.trajectory/1";

/// One attempt at a question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trajectory {
    pub schema: String,
    pub id: String,
    /// The run directory this belongs to, where there is one.
    pub run: Option<String>,
    pub question: String,
    /// The right answer, where it is known. The agent never sees it.
    pub gold: Option<String>,
    pub benchmark: Option<String>,
    pub problem_id: Option<String>,
    pub model: ModelRecord,
    pub sampling: SamplingRecord,
    /// Version of the prompts, e.g. `full/1`.
    pub prompts: String,
    /// How the tools were contained, e.g. `strong`.
    pub sandbox: String,
    pub steps: Vec<Step>,
    pub answer: Option<String>,
    pub stop: Stop,
    /// What went wrong, where `stop` is `failed`.
    pub error: Option<String>,
    pub score: Option<f64>,
    pub usage: Usage,
    pub wall_s: f64,
}

/// Which model decided the steps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelRecord {
    pub name: String,
    pub backend: String,
    pub digest: Option<String>,
    pub adapter: Option<String>,
}

impl From<&ModelInfo> for ModelRecord {
    fn from(info: &ModelInfo) -> Self {
        Self {
            name: info.name.clone(),
            backend: info.backend.clone(),
            digest: info.digest.clone(),
            adapter: info.adapter.clone(),
        }
    }
}

/// How its tokens were drawn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SamplingRecord {
    pub temperature: f64,
    pub top_p: f64,
    pub seed: Option<u64>,
    pub think: bool,
    pub num_ctx: Option<u32>,
}

/// One decision of the planner, what came of it, and what the verifier said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    pub index: usize,
    /// The messages that `raw` answers: where it is a second try, the first and what was wrong with it included.
    pub prompt: Vec<Message>,
    /// The decision; `None` where the reply could not be read, after one retry.
    pub reply: Option<Decision>,
    /// The reply as the model wrote it.
    pub raw: String,
    /// What the model thought before it replied, from models that do.
    pub thinking: Option<String>,
    pub token_ids: Option<Vec<u32>>,
    /// Of each completion token, in nats, when it was drawn.
    pub logprobs: Option<Vec<f32>>,
    pub observation: Observation,
    pub verdict: Verdict,
    /// Label of a judge or of Monte-Carlo rollouts, 0 to 1; written by training.
    pub label: Option<f64>,
    pub prm_score: Option<f64>,
    /// Planner and verifier together.
    pub usage: Usage,
    pub wall_ms: u64,
}

/// What the planner wants done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    pub thought: String,
    pub action: String,
    pub action_input: String,
}

impl Decision {
    /// The JSON that a planner writes, keys in order, spaced as Python's `json.dumps` spaces it.
    pub fn to_json(&self) -> String {
        let quoted = |text: &str| Value::from(text).to_string();
        format!(
            "{{\"thought\": {}, \"action\": {}, \"action_input\": {}}}",
            quoted(&self.thought),
            quoted(&self.action),
            quoted(&self.action_input)
        )
    }
}

/// What the verifier said of the state after a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    pub sufficient: bool,
    pub reason: String,
}

/// Why the loop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    Answered,
    MaxSteps,
    Budget,
    Failed,
}

/// A line that is no trajectory.
#[derive(Debug, thiserror::Error)]
pub enum TrajectoryError {
    #[error("line {line} is not a trajectory: {reason}; remove it, or make the file again")]
    Line { line: usize, reason: String },
    #[error(
        "line {line} has schema `{found}`; this version of agentflow reads `{SCHEMA}`, so use the version that wrote it"
    )]
    Schema { line: usize, found: String },
}

impl Trajectory {
    /// Reads one line of `trajectories.jsonl`; unknown fields are left alone, an unknown schema is refused.
    ///
    /// # Errors
    /// Names `line`, which counts from 1.
    pub fn from_line(text: &str, line: usize) -> Result<Self, TrajectoryError> {
        let unreadable =
            |e: serde_json::Error| TrajectoryError::Line { line, reason: e.to_string() };
        let value: Value = serde_json::from_str(text).map_err(unreadable)?;
        match value["schema"].as_str() {
            Some(SCHEMA) => serde_json::from_value(value).map_err(unreadable),
            Some(other) => Err(TrajectoryError::Schema { line, found: other.to_owned() }),
            None => {
                let reason = format!("it does not say `\"schema\": \"{SCHEMA}\"`");
                Err(TrajectoryError::Line { line, reason })
            }
        }
    }
}
