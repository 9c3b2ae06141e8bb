//! What the agent knows of the question at hand: the steps done. Fresh for every question, so nothing leaks between
//! problems.

use serde::{Deserialize, Serialize};

use crate::trajectory::{Decision, Step};

/// How the `code` tool begins to say that nothing was printed, which is a success, but no result.
const NO_OUTPUT: &str = "(no output";

/// The steps of one attempt.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Memory {
    steps: Vec<Step>,
}

impl Memory {
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    pub(crate) fn push(&mut self, step: Step) {
        self.steps.push(step);
    }

    pub(crate) fn last_mut(&mut self) -> Option<&mut Step> {
        self.steps.last_mut()
    }

    pub(crate) fn into_steps(self) -> Vec<Step> {
        self.steps
    }

    /// How many earlier steps did what the last one did, and got the same result.
    pub(crate) fn repeats(&self) -> usize {
        repeats(&self.steps)
    }

    /// The last result that a tool computed: the best guess where the planner never got to answer.
    pub(crate) fn last_result(&self) -> Option<String> {
        let computed = |step: &&Step| {
            let action = step.reply.as_ref().map(|decision| decision.action.as_str());
            step.observation.ok
                && !matches!(action, None | Some("think"))
                && !step.observation.text.starts_with(NO_OUTPUT)
        };
        let step = self.steps.iter().rev().find(computed)?;
        step.observation.text.lines().last().map(|line| line.trim().to_owned())
    }
}

/// How many of the earlier `steps` did what the last one did, and got the same result. Tools keep nothing between two
/// calls, so such a step brought nothing new, also where others came between.
pub(crate) fn repeats(steps: &[Step]) -> usize {
    let Some((last, earlier)) = steps.split_last() else { return 0 };
    earlier.iter().filter(|step| same(step, last)).count()
}

/// The same action on the same input with the same result, whatever the thought.
fn same(a: &Step, b: &Step) -> bool {
    fn call(step: &Step) -> Option<(&str, &str)> {
        let Decision { action, action_input, .. } = step.reply.as_ref()?;
        Some((action, action_input))
    }
    call(a) == call(b) && a.observation.text == b.observation.text
}
