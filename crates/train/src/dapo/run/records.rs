//! What a run writes down as it goes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::dapo::UpdateMetrics;
use crate::dapo::rollout::{Attempted, Group};
use crate::policy::dynamic_sampling::DropReason;
use crate::policy::loss::Credit;

/// One line of `metrics.jsonl`: an update, and the rollout that it learnt from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    pub rollout: RolloutMetrics,
    #[serde(flatten)]
    pub update: UpdateMetrics,
}

/// What came of a rollout.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RolloutMetrics {
    /// Counts from 1.
    pub number: u64,
    /// Rounds of attempts, refills included.
    pub rounds: u32,
    /// Groups that were looked at, and those learnt from.
    pub seen: usize,
    pub kept: usize,
    pub kept_share: f64,
    pub dropped: BTreeMap<DropReason, usize>,
    /// Groups that a full batch would have more.
    pub missing: usize,
    /// Those of earlier rollouts among the kept.
    pub carried: usize,
    pub attempts: usize,
    /// Attempts that failed, e.g. because a sandbox did; their groups are dropped.
    pub failed: usize,
    /// Share of right answers among the attempts that did not fail: of all, not of the kept.
    pub accuracy: f64,
    /// Mean reward of the process reward model; absent without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prm: Option<f64>,
    /// Calls of the planner in an attempt, on average.
    pub calls: f64,
    pub completion_tokens: usize,
    pub tokens_per_s: f64,
    pub wall_s: f64,
}

/// One line of `evaluations.jsonl`: greedy attempts at the held-out problems.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The updates done.
    pub update: u64,
    pub problems: usize,
    pub right: usize,
    /// Attempts that failed; they count as wrong.
    pub failed: usize,
    pub accuracy: f64,
    pub calls: f64,
    pub wall_s: f64,
}

/// One line of `samples.jsonl`: an attempt, for a person to read.
pub(super) fn sample(update: u64, group: &Group, attempt: &Attempted) -> Value {
    let decisions: Vec<Value> = attempt
        .decisions
        .iter()
        .map(|decided| {
            let advantage = match &decided.row.advantage {
                Credit::Row(advantage) => json!(advantage),
                Credit::Tokens(advantages) => json!(advantages),
            };
            json!({
                "reply": decided.reply,
                "valid": decided.valid,
                "truncated": decided.row.truncated,
                "observation": decided.observation,
                "prm": decided.prm,
                "advantage": advantage,
                "tokens": decided.row.completion.len(),
            })
        })
        .collect();
    json!({
        "update": update,
        "problem": group.problem,
        "question": group.question,
        "gold": group.gold,
        "answer": attempt.answer,
        "outcome": attempt.outcome,
        "error": attempt.error,
        "decisions": decisions,
    })
}
