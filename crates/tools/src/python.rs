use serde_json::Value;

use crate::tool::{one_string, read_string};
use crate::{Observation, Sandbox, SandboxError, Tool, observe};

/// Runs Python in the sandbox; the policy reads what was printed, or the error.
#[derive(Debug, Clone, Copy, Default)]
pub struct Code;

impl Tool for Code {
    fn name(&self) -> &str {
        "code"
    }

    fn description(&self) -> &str {
        "Run Python 3 and read what it prints; the value of a last bare expression is printed too. \
         Every call starts fresh. Input: the code."
    }

    fn schema(&self) -> Value {
        one_string("code", "Python 3 code")
    }

    fn call(&self, arguments: &Value, sandbox: &mut Sandbox) -> Result<Observation, SandboxError> {
        match read_string(self.name(), "code", arguments) {
            Ok(code) => Ok(observe(&sandbox.run(code)?)),
            Err(mistake) => Ok(mistake),
        }
    }
}
