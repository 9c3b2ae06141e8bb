//! Checkpoints of a DAPO run: `adapter/` as PEFT reads it, the optimizer, and `state.json`.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::guards::GuardCounts;
use super::{DapoError, Trainer};
use crate::checkpoint::{Checkpoint, CheckpointError, load_variables, save_optimizer};

const ADAPTER: &str = "adapter";
const ADAPTER_WEIGHTS: &str = "adapter_model.safetensors";
const STATE: &str = "state.json";
const SCHEMA: &str = "agentflow.dapo_state/1";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    schema: String,
    updates: u64,
    skipped: u64,
    guards: GuardCounts,
    /// The outer loop's: random state, cursor in the data, rows still to be learnt from.
    outer: Value,
}

impl Trainer {
    /// Writes a checkpoint below `root`, whole or not at all, and removes all but the newest `keep`. `base` is the name of the base
    /// model for PEFT; `outer` comes back from [`Trainer::restore`] as it is.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn save(
        &self,
        root: &Path,
        keep: usize,
        base: &str,
        outer: &Value,
    ) -> Result<(), DapoError> {
        Checkpoint::write_with(root, self.updates, keep, |dir| {
            self.save_adapter(&dir.join(ADAPTER), base)?;
            save_optimizer(&self.optimizer, dir)?;
            let state = State {
                schema: SCHEMA.to_owned(),
                updates: self.updates,
                skipped: self.skipped,
                guards: self.guards.clone(),
                outer: outer.clone(),
            };
            let text = serde_json::to_string(&state).expect("a state is plain JSON");
            let written = agentflow_eval::write_atomically(&dir.join(STATE), text.as_bytes());
            Ok(written.map_err(CheckpointError::from)?)
        })
    }

    /// Goes back to the newest checkpoint below `root`, and gives what the outer loop left there; `None` where there is no checkpoint.
    ///
    /// # Errors
    /// A checkpoint that is damaged, or of another adapter.
    pub fn restore(&mut self, root: &Path) -> Result<Option<Value>, DapoError> {
        let Some(checkpoint) = Checkpoint::latest(root) else { return Ok(None) };
        let unusable = |problem: String| checkpoint.unusable(problem);
        let text = std::fs::read_to_string(checkpoint.path.join(STATE))
            .map_err(|error| unusable(format!("{STATE}: {error}")))?;
        let state: State =
            serde_json::from_str(&text).map_err(|error| unusable(format!("{STATE}: {error}")))?;
        if state.schema != SCHEMA || state.updates != checkpoint.update {
            let problem = format!("{STATE} says `{}`, update {}", state.schema, state.updates);
            return Err(unusable(problem).into());
        }
        let weights = checkpoint.path.join(ADAPTER).join(ADAPTER_WEIGHTS);
        load_variables(&self.variables, &weights).map_err(unusable)?;
        checkpoint.restore_optimizer(&mut self.optimizer)?;
        self.updates = state.updates;
        self.skipped = state.skipped;
        self.guards = state.guards;
        Ok(Some(state.outer))
    }
}
