use serde_json::{Value, json};

use crate::{Observation, Sandbox, SandboxError};

/// Something the policy can call. One call is one step of a trajectory.
pub trait Tool: Send + Sync {
    /// The name the policy writes, e.g. `code`.
    fn name(&self) -> &str;

    /// One or two lines for the planner's prompt: what it does and what to pass.
    fn description(&self) -> &str;

    /// JSON Schema of the arguments.
    fn schema(&self) -> Value;

    /// Runs one call. A call the policy got wrong is an `Observation` it can read and recover from.
    ///
    /// # Errors
    /// `Err` means the sandbox failed: the trajectory records it, and training skips the trajectory.
    fn call(&self, arguments: &Value, sandbox: &mut Sandbox) -> Result<Observation, SandboxError>;
}

/// The schema of a tool that takes one required string.
pub(crate) fn one_string(property: &str, description: &str) -> Value {
    json!({
        "type": "object",
        "properties": { property: { "type": "string", "description": description } },
        "required": [property],
        "additionalProperties": false,
    })
}

/// The one string of `arguments`, or the observation that says what is wrong with them.
pub(crate) fn read_string<'a>(
    tool: &str,
    property: &str,
    arguments: &'a Value,
) -> Result<&'a str, Observation> {
    match arguments.get(property) {
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(Observation::failed(format!("`{tool}` needs a string as `{property}`"))),
        None => Err(Observation::failed(format!("`{tool}` needs `{property}`, a string"))),
    }
}
