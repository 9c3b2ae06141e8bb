//! Rollouts: attempts at problems by the very weights in training, and what an update learns from them.
//!
//! [`flow`] makes whole attempts through the agent's own loop and tools, many at once; [`recorder`] keeps every call of the
//! planner with the tokens of the engine; [`credit`] says how much better than its group each was.

pub(crate) mod credit;
pub(crate) mod flow;
mod recorder;

use serde::{Deserialize, Serialize};

use super::row::Row;

/// All attempts at one problem in one round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Group {
    /// Where in the endless row of problems it stands; it names the group.
    pub(crate) position: u64,
    pub(crate) problem: String,
    pub(crate) question: String,
    pub(crate) gold: String,
    pub(crate) attempts: Vec<Attempted>,
}

/// One attempt, as far as training reads it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Attempted {
    /// 1 where the answer was right, else 0; none where the attempt failed and so says nothing.
    pub(crate) outcome: Option<f64>,
    pub(crate) answer: Option<String>,
    pub(crate) error: Option<String>,
    pub(crate) decisions: Vec<Decided>,
}

/// One call of the planner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Decided {
    pub(crate) row: Row,
    /// Whether the reply was a decision.
    pub(crate) valid: bool,
    /// What the process reward model gives it, 0 to 1, where there is one; NaN never: then it is none.
    pub(crate) prm: Option<f64>,
    pub(crate) reply: String,
    /// What came of it; nothing where the planner was asked once more.
    pub(crate) observation: Option<String>,
}

impl Group {
    pub(crate) fn decisions(&self) -> impl Iterator<Item = &Decided> {
        self.attempts.iter().flat_map(|attempt| &attempt.decisions)
    }

    pub(crate) fn decisions_mut(&mut self) -> impl Iterator<Item = &mut Decided> {
        self.attempts.iter_mut().flat_map(|attempt| &mut attempt.decisions)
    }

    /// One an attempt, NaN where it failed.
    pub(crate) fn outcomes(&self) -> Vec<f64> {
        self.attempts.iter().map(|attempt| attempt.outcome.unwrap_or(f64::NAN)).collect()
    }

    /// The PRM's reward of each attempt's first decision, the one that all were in the same state for; NaN where there is
    /// none.
    pub(crate) fn first_rewards(&self) -> Vec<f64> {
        let first = |attempt: &Attempted| match (&attempt.outcome, attempt.decisions.first()) {
            (Some(_), Some(decided)) => decided.prm.unwrap_or(f64::NAN),
            _ => f64::NAN,
        };
        self.attempts.iter().map(first).collect()
    }
}
