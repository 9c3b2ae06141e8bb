//! What a run came to so far.

use agentflow_llm::Usage;
use serde::{Deserialize, Serialize};

use crate::Outcome;

/// Attempts by outcome, and what they used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    pub right: u64,
    pub wrong: u64,
    pub no_answer: u64,
    pub failed: u64,
    pub usage: Usage,
}

impl Tally {
    pub fn done(&self) -> u64 {
        self.right + self.wrong + self.no_answer + self.failed
    }

    /// Prompt and completion together.
    pub fn tokens(&self) -> u64 {
        self.usage.prompt_tokens + self.usage.completion_tokens
    }

    pub(crate) fn add(&mut self, outcome: Outcome, usage: Usage) {
        *match outcome {
            Outcome::Right => &mut self.right,
            Outcome::Wrong => &mut self.wrong,
            Outcome::NoAnswer => &mut self.no_answer,
            Outcome::Failed => &mut self.failed,
        } += 1;
        self.usage += usage;
    }
}
