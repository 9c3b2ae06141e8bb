//! What the agent knows of the question at hand: the steps done. Fresh for every question, so nothing leaks between
//! problems.

use crate::trajectory::{Decision, Step};

/// The steps of one attempt.
#[derive(Debug, Default)]
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

    pub(crate) fn into_steps(self) -> Vec<Step> {
        self.steps
    }

    /// How many of the last steps did the same as the one before them and got the same result.
    pub(crate) fn repeats(&self) -> usize {
        repeats(&self.steps)
    }

    /// The last result that a tool computed: the best guess where the planner never got to answer.
    pub(crate) fn last_result(&self) -> Option<String> {
        let computed = |step: &&Step| {
            let action = step.reply.as_ref().map(|decision| decision.action.as_str());
            step.observation.ok && !matches!(action, None | Some("think"))
        };
        let step = self.steps.iter().rev().find(computed)?;
        step.observation.text.lines().last().map(|line| line.trim().to_owned())
    }
}

/// How many of the last `steps` did the same as the one before them and got the same result.
pub(crate) fn repeats(steps: &[Step]) -> usize {
    let same = |a: &Step, b: &Step| {
        let act = |step: &Step| step.reply.as_ref().map(act);
        act(a) == act(b) && a.observation.text == b.observation.text
    };
    steps.windows(2).rev().take_while(|pair| same(&pair[0], &pair[1])).count()
}

fn act(decision: &Decision) -> (String, String) {
    (decision.action.clone(), decision.action_input.clone())
}
