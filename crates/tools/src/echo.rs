use serde_json::Value;

use crate::tool::{one_string, read_string};
use crate::{Observation, Sandbox, SandboxError, Tool};

/// Gives the policy its own thought back: a step to reason in, without any effect.
#[derive(Debug, Clone, Copy, Default)]
pub struct Think;

/// Ends the trajectory: its input is the answer.
#[derive(Debug, Clone, Copy, Default)]
pub struct Answer;

impl Tool for Think {
    fn name(&self) -> &str {
        "think"
    }

    fn description(&self) -> &str {
        "Write down an intermediate thought; nothing is run. Input: the thought."
    }

    fn schema(&self) -> Value {
        one_string("thought", "The thought to keep")
    }

    fn call(&self, arguments: &Value, _sandbox: &mut Sandbox) -> Result<Observation, SandboxError> {
        Ok(echo(self.name(), "thought", arguments))
    }
}

impl Tool for Answer {
    fn name(&self) -> &str {
        "answer"
    }

    fn description(&self) -> &str {
        "Give the final answer and stop. Input: the answer alone, e.g. a number."
    }

    fn schema(&self) -> Value {
        one_string("answer", "The final answer, and nothing else")
    }

    fn call(&self, arguments: &Value, _sandbox: &mut Sandbox) -> Result<Observation, SandboxError> {
        Ok(echo(self.name(), "answer", arguments))
    }
}

fn echo(tool: &str, property: &str, arguments: &Value) -> Observation {
    match read_string(tool, property, arguments) {
        Ok(text) => Observation::new(true, text),
        Err(mistake) => mistake,
    }
}
