//! The executor: carries out what the planner decided. Pure dispatch, no model call.

use agentflow_tools::{Cancel, Observation, Sandbox, SandboxError, Toolbox};
use serde_json::Value;

use crate::trajectory::Decision;

/// The tools and where they run.
pub struct Executor {
    toolbox: Toolbox,
    sandbox: Sandbox,
}

impl Executor {
    pub fn new(toolbox: Toolbox, sandbox: Sandbox) -> Self {
        Self { toolbox, sandbox }
    }

    pub fn toolbox(&self) -> &Toolbox {
        &self.toolbox
    }

    pub fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// Carries out one decision; `cancel` ends it. A switch stays set, so every call gets one of its own, and a call
    /// that was cut off does not spoil the next.
    ///
    /// # Errors
    /// If the sandbox itself failed; whatever the planner got wrong is an observation.
    pub fn execute(
        &mut self,
        decision: &Decision,
        cancel: &Cancel,
    ) -> Result<Observation, SandboxError> {
        self.sandbox.set_cancel(cancel.clone());
        let input = Value::from(decision.action_input.as_str());
        self.toolbox.call(&decision.action, &input, &mut self.sandbox)
    }
}
