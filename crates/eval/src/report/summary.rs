//! What a report keeps of a sample: some numbers and names, not the trajectory.

use std::collections::BTreeMap;

use agentflow_agent::trajectory::{Stop, Trajectory};

use crate::{Outcome, Sample};

/// One sample, as small as figures allow.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    pub problem: String,
    pub repeat: u32,
    pub outcome: Outcome,
    /// The answer as it was read; what maj@k compares.
    pub pred_read: Option<String>,
    /// How it was read.
    pub how: String,
    pub tags: BTreeMap<String, String>,
    pub steps: u64,
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    pub wall_s: f64,
    pub tool_calls: u64,
    pub tool_errors: u64,
    /// Tool outputs that were too long to be shown whole.
    pub truncated: u64,
    /// Steps whose reply could not be read, after one retry.
    pub invalid_replies: u64,
    pub stop: Stop,
    /// Why the attempt failed, without the details that differ from sample to sample.
    pub cause: Option<String>,
}

impl Summary {
    pub fn of(sample: &Sample) -> Self {
        let Sample { trajectory, eval } = sample;
        let steps = &trajectory.steps;
        let count = |wanted: &dyn Fn(&agentflow_agent::trajectory::Step) -> bool| {
            steps.iter().filter(|step| wanted(step)).count() as u64
        };
        let is_call = |step: &agentflow_agent::trajectory::Step| {
            step.reply.as_ref().is_some_and(|reply| !matches!(&*reply.action, "think" | "answer"))
        };
        Self {
            problem: problem_id(trajectory).to_owned(),
            repeat: eval.repeat,
            outcome: eval.verdict.outcome,
            pred_read: eval.verdict.pred_read.clone(),
            how: eval.verdict.how.clone(),
            tags: eval.tags.clone(),
            steps: steps.len() as u64,
            prompt_tokens: trajectory.usage.prompt_tokens,
            completion_tokens: trajectory.usage.completion_tokens,
            wall_s: trajectory.wall_s,
            tool_calls: count(&is_call),
            tool_errors: count(&|step| is_call(step) && !step.observation.ok),
            truncated: count(&|step| step.observation.truncated),
            invalid_replies: count(&|step| step.reply.is_none()),
            stop: trajectory.stop,
            cause: trajectory.error.as_deref().map(cause),
        }
    }
}

/// Which problem a trajectory is an attempt at.
pub(crate) fn problem_id(trajectory: &Trajectory) -> &str {
    trajectory.problem_id.as_deref().unwrap_or(&trajectory.id)
}

/// The first clause of an error, with its literals and numbers left out, so that equal failures are counted together.
fn cause(error: &str) -> String {
    const LONGEST: usize = 100;
    let clause = error.split([';', '\n']).next().unwrap_or_default();
    let clause = clause.split(": ").next().unwrap_or_default().trim();
    let mut text = String::new();
    let mut quoted = false;
    for c in clause.chars().take(LONGEST) {
        match c {
            '`' if quoted => {
                quoted = false;
                text.push_str("`…`");
            }
            '`' => quoted = true,
            _ if quoted => {}
            c if c.is_ascii_digit() => {
                if !text.ends_with('#') {
                    text.push('#');
                }
            }
            c => text.push(c),
        }
    }
    if text.is_empty() { "no cause given".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::cause;

    #[test]
    fn equal_failures_have_equal_causes() {
        let one =
            "model `a` at `http://x:1` gave no reply within 900 s: timed out; raise `--timeout`";
        let other = "model `b` at `http://y:2` gave no reply within 30 s; raise `--timeout`";
        assert_eq!(cause(one), "model `…` at `…` gave no reply within # s");
        assert_eq!(cause(one), cause(other));
        assert_eq!(cause(""), "no cause given");
    }
}
