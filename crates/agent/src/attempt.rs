//! What flows through the loop, and what a journal keeps of it.

use std::time::Duration;

use agentflow_flow::Context;
use agentflow_llm::Usage;
use serde::{Deserialize, Serialize};

use crate::event::Event;
use crate::memory::Memory;
use crate::planner::Planned;
use crate::trajectory::{Step, Stop};

/// A step that repeats this many earlier ones: the planner is stuck and has to answer.
const MAX_REPEATS: usize = 2;

/// An attempt at a question, between two of its steps.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Attempt {
    pub(crate) id: String,
    pub(crate) question: String,
    pub(crate) memory: Memory,
    /// Of all calls.
    pub(crate) usage: Usage,
    /// Warnings told already: most repeat with every call.
    warned: Vec<String>,
    /// The next decision has to be an answer.
    pub(crate) conclude: bool,
}

/// After `plan`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Decided {
    pub(crate) attempt: Attempt,
    pub(crate) planned: Planned,
    /// By the step so far.
    pub(crate) took: Duration,
}

/// After `execute`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Acted {
    pub(crate) attempt: Attempt,
    /// Without its verdict.
    pub(crate) step: Step,
    /// By the step so far.
    pub(crate) took: Duration,
}

/// An attempt that is over: the output of the flow.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ended {
    pub(crate) attempt: Attempt,
    pub(crate) stop: Stop,
    pub(crate) answer: Option<String>,
    /// What went wrong, where `stop` is `failed`.
    pub(crate) error: Option<String>,
}

impl Attempt {
    /// One that has not begun; `id` names its trajectory.
    pub fn new(id: &str, question: &str) -> Self {
        Self {
            id: id.to_owned(),
            question: question.to_owned(),
            memory: Memory::default(),
            usage: Usage::default(),
            warned: Vec::new(),
            conclude: false,
        }
    }

    /// One that goes on after recorded `steps`, as if it had just made them: the planner reads what it read then, and
    /// what the steps used counts.
    pub fn after(id: &str, question: &str, steps: &[Step]) -> Self {
        let mut attempt = Self::new(id, question);
        for step in steps {
            attempt.usage += step.usage;
            attempt.memory.push(step.clone());
        }
        attempt.look_back();
        attempt
    }

    /// Sees from the last step whether the next one has to be the answer.
    pub(crate) fn look_back(&mut self) {
        let sufficient = self.memory.steps().last().is_some_and(|step| step.verdict.sufficient);
        self.conclude = sufficient || self.memory.repeats() >= MAX_REPEATS;
    }

    /// Tells `warnings` that were not told before.
    pub(crate) fn warn(&mut self, warnings: Vec<String>, cx: &Context) {
        for text in warnings {
            if !self.warned.contains(&text) {
                cx.progress(Event::Warning { text: text.clone() });
                self.warned.push(text);
            }
        }
    }

    pub(crate) fn ends(self, stop: Stop, answer: Option<String>) -> Ended {
        Ended { attempt: self, stop, answer, error: None }
    }

    /// Ends where the planner did not get to answer: what was computed last has to do.
    pub(crate) fn ends_early(self, stop: Stop) -> Ended {
        let answer = self.memory.last_result();
        self.ends(stop, answer)
    }
}
